/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durations and points in time, as people type them.
 *
 * A duration is a number and a unit (s, sec, m, min, h, d, w), or several: 90s, 5min, 1h30m, 7d. A point in time is
 * a date and a time of day, as in RFC 3339: 2026-11-20T10:00:00Z, 2026-11-20 10:00:30.5+01:00. The time of day, its
 * seconds, their fraction and the zone may be left out; the zone is then the local one. Or it is a duration, which is
 * so long ago; now, today, yesterday (at midnight); or @ and the seconds since 1970.
 */
#ifndef TOOLS_WHEN_H
#define TOOLS_WHEN_H

#include <stdint.h>

/* About TIME, for --help. */
#define TIME_HELP                                                                                            \
    "TIME is 2026-11-20T10:00:00Z, '2026-11-20 10:00' or 2026-11-20 in the local zone, now,\n"               \
    "today, yesterday, @1763632800 (seconds since 1970), or a duration (90s, 5min, 1h30m,\n"                 \
    "7d, 2w), which is so long ago.\n"

/* The argument of the option that next_option() just returned, in nanoseconds. */
int64_t take_duration(const char *option);
/* The same for a point in time, as nanoseconds since 1970. */
int64_t take_time(const char *option);

int64_t now_ns(void); /* since 1970 */

/* "2026-11-20 10:00:00", in UTC. */
#define TIME_TEXT_BYTES 24
void describe_time(char ret_text[TIME_TEXT_BYTES], int64_t time_ns);

/* "2026-11-20T10:00:00.000000000Z". */
#define PRECISE_TIME_TEXT_BYTES 48
void describe_precise_time(char ret_text[PRECISE_TIME_TEXT_BYTES], int64_t time_ns);

/* Returns whole seconds since 1970, and the remaining nanoseconds: 0 to 999999999. */
int64_t split_time(int64_t time_ns, int64_t *ret_nanoseconds);

#endif
