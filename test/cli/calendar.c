/* SPDX-License-Identifier: Apache-2.0 */
/* calendar: where the periods of 'twinlog sink --every' begin, at times to which no test can set the clock. */
#define _GNU_SOURCE
#include "calendar.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HOUR INT64_C(3600)
#define DAY (24 * HOUR)
#define SECOND_NS INT64_C(1000000000)

/* In seconds since 1970. */
static const struct {
    const char *zone;
    int64_t time, period, begin;
} periods[] = {
    { "UTC0", 30, DAY, 0 },
    { "EST5", 30, DAY, -DAY + 5 * HOUR }, /* the evening of 1969-12-31 there */
    { "EST5", 30, HOUR, 0 },
    { "EST5", 5 * HOUR - 1, DAY, -DAY + 5 * HOUR },
    { "EST5", 5 * HOUR, DAY, 5 * HOUR },
    { "IST-5:30", 30, DAY, -5 * HOUR - HOUR / 2 },
    { "UTC0", -30, DAY, -DAY },
    { "UTC0", -DAY, DAY, -DAY },
    { "EST5", 1800000000, DAY, 1799989200 },
};

int main(void)
{
    int failed = 0;

    for (size_t i = 0; i < sizeof(periods) / sizeof(periods[0]); i++) {
        setenv("TZ", periods[i].zone, 1);
        tzset();
        const int64_t begin_ns = begin_of_period(periods[i].time * SECOND_NS, periods[i].period * SECOND_NS);
        if (begin_ns == periods[i].begin * SECOND_NS)
            continue;
        failed = 1;
        printf("FAILED: %s, at %" PRId64 " s: a period of %" PRId64 " s begins at %" PRId64
               " s, not at %" PRId64 " s\n",
               periods[i].zone, periods[i].time, periods[i].period, begin_ns / SECOND_NS, periods[i].begin);
    }

    return failed;
}
