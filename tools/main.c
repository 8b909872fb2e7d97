/* SPDX-License-Identifier: Apache-2.0 */
/* The twinlog command: finds the subcommand and runs it. */
#define _GNU_SOURCE
#include "options.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct command *const commands[] = {
    &append_command,  &cat_command,     &stat_command,  &top_command,    &verify_command, &trim_command,
    &reset_command,   &cursors_command, &meta_command,  &backup_command, &repair_command, &archive_command,
    &restore_command, &bench_command,   &probe_command, &sink_command,   &ship_command,   &receive_command,
};
const size_t command_count = sizeof(commands) / sizeof(commands[0]);

static void print_overview(void)
{
    printf("Usage: twinlog COMMAND DIR [options]\n"
           "\n"
           "Keeps an append-only log in a directory. A record that was acknowledged is on stable\n"
           "storage and survives the end of the process, of the kernel, and of the power.\n"
           "(sink alone takes a FILE and keeps no log; 'twinlog sink --help' says what that costs.)\n"
           "\n");
    for (size_t i = 0; i < command_count; i++)
        printf("  %-18s  %s\n", commands[i]->name, commands[i]->summary);
    printf("\n"
           "'twinlog COMMAND --help' says more about each. 'twinlog --version' shows the version, and\n"
           "'twinlog --completion bash' (or zsh, fish) what a shell needs to complete command lines.\n"
           "\n"
           "Exit status: 0 fine; 1 an operation failed; 2 wrong usage; 3 acknowledged data is\n"
           "damaged, or was lost. From ship and receive: 4 another shipper publishes to the stream;\n"
           "5 they were built without what that stream needs. From append and sink: 6 no space;\n"
           "7 refused: another process has it, or it cannot be written as it is.\n"
           "\n"
           "Example: write a log and read it again\n"
           "  seq 5 | twinlog append numbers\n"
           "  twinlog cat numbers\n");
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < command_count; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    usage_error("there is no command '%s'", name);
}

/* If descriptor 0, 1 or 2 is closed, a file could get its number, and be read as input or written as output. So it is
 * opened on /dev/null, in the wrong direction: using it stays an error. Where that is missing, on what can be neither
 * read nor written. All files that the command opens later are above. */
static void fill_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0 && open("/", O_PATH) < 0)
                _exit(STATUS_FAILED);
}

int main(int argc, char **argv)
{
    char name[32];

    fill_standard_descriptors();
    if (argc < 2)
        usage_error("the command is missing");
    if (strcmp(argv[1], "help") == 0) { /* as other commands have it: "help", "help COMMAND" */
        static char option[] = "--help";
        if (argc > 2) {
            argv[1] = argv[2];
            argv[2] = option;
            argc = 3;
        } else {
            argv[1] = option;
            argv[2] = NULL;
            argc = 2;
        }
    }

    if (strcmp(argv[1], "--version") == 0)
        print_version();
    if (strcmp(argv[1], "--help") == 0) {
        print_overview();
        return finish_output(STATUS_FINE);
    }

    if (strcmp(argv[1], "--completion") == 0)
        return print_completions(argc > 2 ? argv[2] : "");

    const struct command *command = find_command(argv[1]);
    snprintf(name, sizeof(name), "twinlog %s", command->name);
    set_program_name(name);
    argv[1] = name; /* getopt's messages begin with it */
    return command->run(command, argc - 1, argv + 1);
}
