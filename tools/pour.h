/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pours standard input into a plain file, for twinlog sink.
 *
 * There is one thread. It reads large blocks, and writes as many whole lines at once as it has, so that a file is
 * written in large pieces, and a single line is in the file at once. Lines of other processes never come inside one
 * write.
 */
#ifndef TOOLS_POUR_H
#define TOOLS_POUR_H

#include "buffer.h"
#include "intake.h"
#include "rights.h"

#include <twinlog_sink.h>

struct pour {
    const char *path;                    /* of the present file */
    struct twinlog_sink_options options; /* [const] */
    bool is_by_lines;                    /* [const] */
    bool is_shared;                      /* [const] */
    size_t piece_bytes;                  /* [const] of one write, unless a single line has more */

    struct rights rights; /* [const] of the file */
    const char *pattern;  /* [const] of names with a date; NULL = there is one name */
    const char *link;     /* [const] to the newest file; NULL = none */
    int64_t period_ns;    /* [const] a new file begins at each multiple; 0 = none */
    bool has_times;       /* [const] each line gets the time in front of it */

    struct intake intake;
    struct twinlog_sink *sink;
    struct buffer input; /* bytes that were read and not written, searched for newlines */
    bool is_ended;
    char dated[PATH_MAX];  /* name of the present file, if it has a date */
    int64_t look_ns;       /* since 1970: no new file is due before */
    struct buffer stamped; /* lines with their times */
    bool is_in_line;       /* the last piece had no newline at its end */
    int rotation_error;    /* that was told, as the next one */
    int sync_error;
    uint64_t slow_ns; /* monotonic: when slow syncs were told last; 0 = never */
    int status;       /* of the files that were left, each for that of a later date */
    uint64_t written; /* bytes of the input that are in the file */
};

/* Gives pour->path the name that the pattern has now. 0 or -errno. */
int pour_find_name(struct pour *pour);

/* Pours all of it, complains of what went wrong, and returns the exit status. */
int pour_input(struct pour *pour);

/* What to do about an error of a sink with that path; NULL = nothing special. */
const char *pour_advice(int error, bool is_mapped, const char *path);

#endif
