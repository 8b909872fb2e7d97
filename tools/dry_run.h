/* SPDX-License-Identifier: Apache-2.0 */
/* What a trim would do. The log is not opened for writing, and another process may be writing it. */
#ifndef TOOLS_DRY_RUN_H
#define TOOLS_DRY_RUN_H

#include <twinlog_admin.h>

#include <stdbool.h>

/* What twinlog_trim() would answer; calls `each` (may be NULL) for each segment that would go. Complains if the log
 * would refuse to be opened; returns a status. */
int plan_trim(const char *dir, const struct twinlog_trim_options *options,
              void (*each)(const struct twinlog_segment *segment), struct twinlog_trim_result *ret_result,
              bool *ret_is_empty);

#endif
