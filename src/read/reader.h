/* SPDX-License-Identifier: Apache-2.0 */
/* The cursor of the public interface, over whatever directory it is given. */
#ifndef TWL_READER_H
#define TWL_READER_H

#include "base/watermark.h"
#include "io/io.h"
#include "twinlog.h"

/* From another process, or where there is no writer. Owns `io` from here, also on failure. */
int twl_reader_open(struct io *io, const struct twinlog_reader_options *options,
                    struct twinlog_reader **ret_reader);

/* Inside the writer's process: `io` stays the writer's and `watermark` is its. Both outlive the reader. */
int twl_reader_attach(struct io *io, const struct watermark *watermark,
                      const struct twinlog_reader_options *options, struct twinlog_reader **ret_reader);

#endif
