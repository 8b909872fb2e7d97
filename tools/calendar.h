/* SPDX-License-Identifier: Apache-2.0 */
/* Files with a date in their names, times at which a new file begins, and a link to the newest file. */
#ifndef TOOLS_CALENDAR_H
#define TOOLS_CALENDAR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* What strftime(3) makes of the pattern at that time, in local time; false if it is too long, or empty. */
bool expand_name(const char *pattern, int64_t time_ns, char ret_name[PATH_MAX]);

/* The last multiple of the period, counted from midnight of a day in local time. */
int64_t begin_of_period(int64_t time_ns, int64_t period_ns);

/* Makes the directories above the path that are missing. 0 or -errno. */
int make_directories(const char *path);

/* Makes `link` a symbolic link to the file, or lets it lead there. -EEXIST: it is no link. */
int point_link(const char *link, const char *path);

#endif
