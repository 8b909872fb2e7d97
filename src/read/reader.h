/* SPDX-License-Identifier: Apache-2.0 */
/* The cursor of the public interface, over whatever directory it is given. */
#ifndef TWL_READER_H
#define TWL_READER_H

#include "io/io.h"
#include "segment/live.h"
#include "segment/segment_set.h"
#include "twinlog.h"

/* From another process, or where there is no writer. Owns `io` from here, also on failure. */
int twl_reader_open(struct io *io, const struct twinlog_reader_options *options,
                    struct twinlog_reader **ret_reader);

/* Inside the writer's process: `io` and `live` stay the writer's and outlive the reader. */
struct reader_source {
    struct io *io;
    struct live *live;
    /* A copy of what is begun now, oldest first, with first_lsn; any thread, but not after a fork. */
    int (*set)(void *context, struct segment_set *ret_set);
    void *context;
};
int twl_reader_attach(const struct reader_source *source, const struct twinlog_reader_options *options,
                      struct twinlog_reader **ret_reader);

#endif
