/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-kill: processes are killed with SIGKILL at random moments, and at named places in the library; then what they
 * left is compared with what they had been told. A policy says what they do and how it is judged.
 *
 * The seed decides everything but the moments of death, which the scheduler has a say in: a violation may take some
 * repetitions to come back.
 *
 * Blind, but for --power, to what a power cut does: what a killed process has written or stored in a mapping stays.
 */

#include "command_line.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const struct policy *const policies[] = { &durable_policy, &soak_policy, &mapped_policy,
                                                 &shared_policy, &sink_policy };

static void print_help(void)
{
    puts(
        "usage: crash-kill [POLICY] [options]\n"
        "\n"
        "Kills processes that write, and checks what they left, over and over.\n"
        "\n"
        "  durable       one with many threads that appends to a log; the default\n"
        "  soak          the same on one log that grows old, with readers, backups and a consumer\n"
        "  mapped        one that writes a mapped log; also stops it\n"
        "  shared        several that append to one log together; also stops them\n"
        "  sink          several that write to one plain file; also stops them\n"
        "\n"
        "  --kills N     stop after so many; default 200, 300 or 500, or no limit with --seconds\n"
        "  --seconds S   stop after this time; default for soak: 600\n"
        "  --seed N      default TWINLOG_SEED, or 1\n"
        "  --cycle N     begin with this cycle\n"
        "  --dir PARENT  where to make a directory; default TMPDIR, or /tmp\n"
        "  --lie NAME    do one thing wrong on purpose; ends with 0 if it is found\n"
        "                durable: ack, bytes, reader, cut, trim, name, twice, swapped, durable\n"
        "                mapped, shared, sink: lost, garbled, twice, swapped, stall; mapped, shared: seen, torn\n"
        "                shared, and mapped with --power: durable; sink: offset, end, zero, area\n"
        "  --help        this text\n"
        "\n"
        "mapped, shared:\n"
        "  --power       also look at copies of the log as power cuts may have left it\n"
        "  --point NAME  where those die or stop that are to do so at a named place; an error if nobody passes it\n"
        "  --patience MS within which the living must go on after a death or a stop, six times as long if they\n"
        "                wait for the disk; default 60000\n"
        "\n"
        "Exit status: 0 no violation, 1 a violation (its directory is kept), 2 wrong usage, 3 cannot write what it\n"
        "has found, 77 cannot run.");
}

int main(int argc, char **argv)
{
    const struct policy *policy = &durable_policy;

    for (size_t i = 0; argc > 1 && i < sizeof(policies) / sizeof(policies[0]); i++)
        if (strcmp(argv[1], policies[i]->name) == 0) {
            policy = policies[i];
            optind = 2;
        }
    return run_policy(policy, "crash-kill", print_help, argc, argv);
}
