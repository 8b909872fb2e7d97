/* SPDX-License-Identifier: Apache-2.0 */
/* The log as a whole, over whatever directory it is given: opened, closed, looked at. */
#ifndef TWL_LOG_H
#define TWL_LOG_H

#include "io/io.h"
#include "read/reader.h"
#include "twinlog.h"

/* Fills in the defaults. -EINVAL, and *ret_why says which option. */
int twl_options_normalise(const struct twinlog_options *options, struct twinlog_options *ret_options,
                          const char **ret_why);

/* As twinlog_open() for one I/O path. Owns `io` from here, also on failure. */
int twl_log_open(struct io *io, const struct twinlog_options *options, struct twinlog **ret_log);

/* What twinlog_stat() tells of the path; `io_kind` is an enum twinlog_io. */
void twl_log_name_path(struct twinlog *log, uint32_t io_kind, const char *reason);

/* As the public calls of that name. Each owns `io` from here, also on failure. */
int twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records);
int twl_inspect(struct io *io, struct twinlog_inspection *ret_inspection);

#endif
