/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the user, run by sh: the one that archives a segment, and the one that fetches it. */
#ifndef TOOLS_SHELL_H
#define TOOLS_SHELL_H

#include <stdbool.h>

/* Replaces %p with `path`, %f with `name` and %% with %, and runs the result with `sh -c`. A path with characters that
 * mean something to the shell is given as "$TWINLOG_PATH", a variable of the environment. The command reads nothing,
 * and what it prints goes to standard error. If this process is told to stop (see stop.h), so is the command. Returns
 * its exit status, 128 and the signal that ended it, or -errno if it was not run. */
int run_shell(const char *command, const char *path, const char *name);
/* The same, and what the command prints is lost: for a file that need not be there. */
int ask_shell(const char *command, const char *path, const char *name);

/* The same in two steps, for several at a time. Returns the process, or -errno; end_shell() takes either. With
 * `is_wanted` it waits for the end of the command, else it makes it end first. */
int start_shell(const char *command, const char *path, const char *name);
int end_shell(int process, bool is_wanted);

/* Ends the process with STATUS_USAGE unless the command names both places, and each % is one of the three. */
void check_shell(const char *command);

/* "ended with status 1", "was ended by signal 9", "could not be run: ..." */
#define SHELL_TEXT_BYTES 128
void describe_shell(char ret_text[SHELL_TEXT_BYTES], int result);

#endif
