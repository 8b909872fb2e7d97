/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durations and points in time on the command line. See when.h.
 *
 * strptime() would accept a year of two digits, blanks and names of months, and knows no fractions, so the
 * digits are read here; mktime() knows how many days a month has, and when summer time is.
 */
#define _GNU_SOURCE
#include "when.h"

#include "common.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND_NS INT64_C(1000000000)

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

int64_t split_time(int64_t time_ns, int64_t *ret_nanoseconds)
{
    int64_t seconds = time_ns / SECOND_NS;

    *ret_nanoseconds = time_ns % SECOND_NS;
    if (*ret_nanoseconds < 0) {
        *ret_nanoseconds += SECOND_NS;
        seconds--;
    }

    return seconds;
}

void describe_time(char ret_text[TIME_TEXT_BYTES], int64_t time_ns)
{
    int64_t nanoseconds = 0;
    time_t seconds = (time_t)split_time(time_ns, &nanoseconds);
    struct tm tm;

    gmtime_r(&seconds, &tm); /* cannot fail: 64 bits of nanoseconds are the years 1677 to 2262 */
    strftime(ret_text, TIME_TEXT_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
}

void describe_precise_time(char ret_text[PRECISE_TIME_TEXT_BYTES], int64_t time_ns)
{
    int64_t nanoseconds = 0;
    time_t seconds = (time_t)split_time(time_ns, &nanoseconds);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    size_t length = strftime(ret_text, PRECISE_TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret_text + length, PRECISE_TIME_TEXT_BYTES - length, ".%09" PRId64 "Z", nanoseconds);
}

/* Passes `count` digits and returns their value. */
static bool read_digits(const char **text, int count, int *ret_value)
{
    *ret_value = 0;
    for (int i = 0; i < count; i++, (*text)++) {
        if (**text < '0' || **text > '9')
            return false;
        *ret_value = *ret_value * 10 + (**text - '0');
    }

    return true;
}

static bool read_mark(const char **text, const char *marks)
{
    if (!**text || !strchr(marks, **text))
        return false;
    (*text)++;
    return true;
}

static int64_t unit_seconds(const char *unit, size_t length)
{
    static const struct {
        const char *name;
        int64_t seconds;
    } units[] = {
        { "s", 1 },         { "sec", 1 },           { "m", 60 }, { "min", 60 }, { "h", 60 * 60 },
        { "d", 24 * 3600 }, { "w", 7 * 24 * 3600 },
    };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strlen(units[i].name) == length && memcmp(units[i].name, unit, length) == 0)
            return units[i].seconds;
    return 0;
}

/* "90s", "1h30m". */
static bool read_duration(const char *text, int64_t *ret_ns)
{
    int64_t sum = 0;

    do {
        int64_t count = 0;
        size_t digits = strspn(text, "0123456789");
        for (size_t i = 0; i < digits; i++)
            if (__builtin_mul_overflow(count, 10, &count) ||
                __builtin_add_overflow(count, text[i] - '0', &count))
                return false;
        text += digits;
        size_t length = strcspn(text, "0123456789");
        int64_t seconds = unit_seconds(text, length);
        text += length;
        if (!digits || !seconds)
            return false;
        if (__builtin_mul_overflow(count, seconds, &count) || __builtin_add_overflow(sum, count, &sum))
            return false;
    } while (*text);
    return !__builtin_mul_overflow(sum, SECOND_NS, ret_ns);
}

/* "YYYY-MM-DD" */
static bool read_date(const char **text, struct tm *ret_tm)
{
    int year = 0;
    int month = 0;

    if (!read_digits(text, 4, &year) || !read_mark(text, "-"))
        return false;
    if (!read_digits(text, 2, &month) || !read_mark(text, "-"))
        return false;
    if (!read_digits(text, 2, &ret_tm->tm_mday))
        return false;

    ret_tm->tm_year = year - 1900;
    ret_tm->tm_mon = month - 1;
    return month >= 1 && month <= 12;
}

/* "THH:MM" or "THH:MM:SS" */
static bool read_clock(const char **text, struct tm *ret_tm)
{
    if (!read_mark(text, "Tt ") || !read_digits(text, 2, &ret_tm->tm_hour))
        return false;
    if (!read_mark(text, ":") || !read_digits(text, 2, &ret_tm->tm_min))
        return false;
    if (read_mark(text, ":") && !read_digits(text, 2, &ret_tm->tm_sec))
        return false;
    return ret_tm->tm_hour < 24 && ret_tm->tm_min < 60 && ret_tm->tm_sec < 60;
}

/* The time of the day is 0 if it is left out. */
static bool read_date_and_time(const char **text, struct tm *ret_tm)
{
    if (!read_date(text, ret_tm))
        return false;
    return !**text || read_clock(text, ret_tm);
}

/* The digits behind a point; those after the ninth are dropped. */
static bool read_fraction(const char **text, int64_t *ret_nanoseconds)
{
    int64_t unit = SECOND_NS / 10;
    int digit = 0;

    *ret_nanoseconds = 0;
    if (!read_mark(text, "."))
        return true;
    if (!read_digits(text, 1, &digit))
        return false;

    do {
        *ret_nanoseconds += digit * unit;
        unit /= 10;
    } while (read_digits(text, 1, &digit));
    return true;
}

/* "Z" or "+HH:MM", as seconds to the east; without a zone: the local one. */
static bool read_zone(const char **text, bool *ret_is_local, int64_t *ret_offset)
{
    int hours = 0;
    int minutes = 0;
    bool is_west = **text == '-';

    *ret_offset = 0;
    *ret_is_local = !**text;
    if (*ret_is_local || read_mark(text, "Zz"))
        return true;
    if (!read_mark(text, "+-") || !read_digits(text, 2, &hours))
        return false;
    if (!read_mark(text, ":") || !read_digits(text, 2, &minutes))
        return false;
    if (hours > 23 || minutes > 59)
        return false;

    *ret_offset = 60 * (hours * 60 + minutes);
    if (is_west)
        *ret_offset = -*ret_offset;
    return true;
}

/* False: there is no such number of nanoseconds. */
static bool to_ns(int64_t seconds, int64_t nanoseconds, int64_t *ret_ns)
{
    if (__builtin_mul_overflow(seconds, SECOND_NS, ret_ns))
        return false;
    return !__builtin_add_overflow(*ret_ns, nanoseconds, ret_ns);
}

/* Seconds since 1970, as `date +%s` prints them, perhaps with a fraction. */
static bool read_epoch(const char *text, int64_t *ret_ns)
{
    int64_t seconds = 0;
    int64_t nanoseconds = 0;
    const char *digit = text;

    for (; *digit >= '0' && *digit <= '9'; digit++)
        if (__builtin_mul_overflow(seconds, 10, &seconds) ||
            __builtin_add_overflow(seconds, *digit - '0', &seconds))
            return false;

    if (digit == text || !read_fraction(&digit, &nanoseconds) || *digit)
        return false;
    return to_ns(seconds, nanoseconds, ret_ns);
}

/* Midnight of today, or some days later, in the local zone. */
static int64_t midnight_ns(int days)
{
    time_t now = time(NULL);
    struct tm tm;

    localtime_r(&now, &tm);
    tm.tm_mday += days;
    tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
    tm.tm_isdst = -1;
    return (int64_t)mktime(&tm) * SECOND_NS;
}

static bool read_time(const char *text, int64_t *ret_ns)
{
    struct tm tm = { .tm_isdst = -1 };
    int64_t nanoseconds = 0;
    int64_t offset = 0;
    bool is_local = false;

    if (!read_date_and_time(&text, &tm) || !read_fraction(&text, &nanoseconds))
        return false;
    if (!read_zone(&text, &is_local, &offset) || *text)
        return false;

    const int day = tm.tm_mday;
    int64_t seconds = -offset;
    if (is_local)
        seconds += mktime(&tm);
    else
        seconds += timegm(&tm);
    if (tm.tm_mday != day) /* there is no such day in that month */
        return false;
    return to_ns(seconds, nanoseconds, ret_ns);
}

int64_t take_duration(const char *option)
{
    int64_t ns = 0;

    if (!read_duration(optarg, &ns))
        usage_error("%s: '%s' is not a duration such as 90s, 5min, 1h30m or 7d", option, optarg);
    return ns;
}

int64_t take_time(const char *option)
{
    int64_t ns = 0;

    if (strcmp(optarg, "now") == 0)
        return now_ns();
    if (strcmp(optarg, "today") == 0)
        return midnight_ns(0);
    if (strcmp(optarg, "yesterday") == 0)
        return midnight_ns(-1);
    if (read_duration(optarg, &ns))
        return now_ns() - ns;

    bool is_read;
    if (*optarg == '@')
        is_read = read_epoch(optarg + 1, &ns);
    else
        is_read = read_time(optarg, &ns);
    if (!is_read)
        usage_error(
            "%s: '%s' is no point in time such as 2026-11-20T10:00:00Z, '2026-11-20 10:00' (local), today, "
            "15m (ago) or @1763632800",
            option, optarg);
    return ns;
}
