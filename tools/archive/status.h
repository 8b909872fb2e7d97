/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of an archive from outside: 'twinlog archive --status' and '--list'. */
#ifndef TOOLS_ARCHIVE_STATUS_H
#define TOOLS_ARCHIVE_STATUS_H

#include "manifest.h"

/* The archiver's: a lock, and the name of the file that the command has at present; NULL: none. */
int begin_running(int folder, int *ret_running);
void note_running(int running, const char *name);

/* The manifest in the directory "archive", as far as the status says that its segments are kept. */
int load_manifest(int folder, const struct archive_state *state, struct manifest *ret_manifest);
/* What to do where a file of the directory "archive" cannot be read or written; NULL: what is said of the error. */
const char *advice_for_state(int error);
int fail_state(const char *dir, int error);

int show_status(const char *dir, bool is_json);
int show_histories(const char *dir, bool is_json);

#endif
