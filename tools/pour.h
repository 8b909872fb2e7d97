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
    const char *path;                    /* [const] */
    struct twinlog_sink_options options; /* [const] */
    bool is_by_lines;                    /* [const] */
    bool is_shared;                      /* [const] */
    size_t piece_bytes;                  /* [const] of one write, unless a single line has more */

    struct rights rights; /* [const] of the file */

    struct intake intake;
    struct twinlog_sink *sink;
    struct buffer input; /* bytes that were read and not written, searched for newlines */
    bool is_ended;
    int rotation_error; /* that was told */
    uint64_t written;   /* bytes of the input that are in the file */
};

/* Pours all of it, complains of what went wrong, and returns the exit status. */
int pour_input(struct pour *pour);

/* What to do about an error of a sink; NULL = nothing special. */
const char *pour_advice(int error);

#endif
