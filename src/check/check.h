/* SPDX-License-Identifier: Apache-2.0 */
/* Works on a log from outside: describes it, checks it, copies it, and saves what is sound of a damaged one. */
#ifndef TWL_CHECK_H
#define TWL_CHECK_H

#include "io/io.h"
#include "twinlog_admin.h"

/* As the public calls of the same name. Each one owns `io`, and `to`, from here on, also on failure. `to` is an
 * empty directory. */
int twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records);
int twl_inspect(struct io *io, struct twinlog_inspection *ret_inspection);
int twl_segments(struct io *io, int (*each)(void *context, const struct twinlog_segment *segment),
                 void *context);
int twl_plan_trim(struct io *io, const struct twinlog_trim_options *options,
                  struct twinlog_trim_result *ret_result);
int twl_backup(struct io *io, struct io *to, const struct twinlog_backup_options *options,
               struct twinlog_backup_result *ret_result);
int twl_repair(struct io *io, struct io *to, const struct twinlog_repair_options *options,
               struct twinlog_repair_result *ret_result);

#endif
