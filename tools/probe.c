/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog probe: shows what the disk and the kernel offer, and which path to the disk a log would take. */
#define _GNU_SOURCE
#include "json.h"
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <twinlog_admin.h>

static const char about[] =
    "Usage: twinlog probe DIR [options]\n"
    "\n"
    "Shows by which ways a log in DIR could reach stable storage, what a durable write of\n"
    "4 KiB costs on each, and which one a log would take and why. DIR must exist; a file\n"
    "of a few MiB is written there and removed.\n";

static const struct option_row option_rows[] = {
    { OPTION_JSON, "json", NULL, "one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] = "Exit status: 0 fine; 1 an operation failed; 2 wrong usage.\n"
                            "\n"
                            "Example: is this disk worth it?\n"
                            "  twinlog probe /var/lib/orders\n";

static const char suspicion[] =
    "Syncs here are faster than any device that keeps its word: memory, or a cache that ignores flushes. "
    "Do not count on this storage to survive a power cut.";

static void print_table(const struct twinlog_probe *probe)
{
    printf("%-20s %s\n", "file system", probe->filesystem);
    if (probe->direct_align)
        printf("%-20s in units of %" PRIu32 " bytes\n", "direct I/O", probe->direct_align);
    else
        printf("%-20s not offered\n", "direct I/O");

    printf("\n  %-13s %-9s %s\n", "path", "I/O", "median durable write of 4 KiB");
    for (uint32_t i = 0; i < probe->paths; i++) {
        const struct twinlog_probe_path *path = &probe->path[i];
        printf("%c %-13s %-9s ", i == probe->chosen ? '*' : ' ', io_name(path->io),
               path->is_direct ? "direct" : "buffered");
        if (path->error)
            printf("%s\n", twinlog_strerror(path->error));
        else
            printf("%.1f us\n", path->sync_us);
    }
    printf("\n* is what a log here would take: %s\n", probe->reason);
    if (probe->is_suspicious)
        printf("Warning: %s\n", suspicion);
}

static void print_path(const struct twinlog_probe_path *path)
{
    json_begin_object(NULL);
    json_text("path", io_name(path->io));
    json_boolean("is_direct", path->is_direct);
    json_boolean("works", path->error == 0);
    if (path->error)
        json_text("error", twinlog_strerror(path->error));
    else
        json_decimal("sync_us", path->sync_us);
    json_end_object();
}

static void print_json(const struct twinlog_probe *probe)
{
    json_begin_object(NULL);
    json_text("filesystem", probe->filesystem);
    json_number("direct_align", probe->direct_align);
    json_boolean("is_suspicious", probe->is_suspicious);
    json_number("chosen", probe->chosen);
    json_text("reason", probe->reason);
    json_begin_array("paths");
    for (uint32_t i = 0; i < probe->paths; i++)
        print_path(&probe->path[i]);
    json_end_array();
    json_end_object();
    json_end_line();
}

static int probe_run(const struct command *command, int argc, char **argv)
{
    struct twinlog_probe probe = TWINLOG_PROBE_INIT;
    bool is_json = false;

    while (next_option(command, argc, argv) != -1)
        is_json = true;
    const char *dir = take_directory(argc, argv);

    int error = twinlog_probe(dir, &probe);
    if (error)
        return fail("probe the disk under", dir, error, NULL,
                    error == -ENOENT ? "The directory must exist: create it or check the path." : NULL);
    (is_json ? print_json : print_table)(&probe);
    return finish_output(STATUS_FINE);
}

const struct command probe_command = {
    .name = "probe",
    .summary = "show what this disk and kernel offer",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = probe_run,
};
