/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog top: shows the work of a log's writer while it goes on.
 *
 * In every interval this process reads the writer's counters, and shows the difference to those of before. A writer
 * that was opened again counts from zero; its larger epoch shows that. Of a writer that commits nothing, the time of
 * the newest durable record says how long nothing has come.
 */
#define _GNU_SOURCE
#include "live.h"

#include "common.h"
#include "json.h"
#include "newest.h"
#include "options.h"
#include "stop.h"
#include "when.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>
#include <unistd.h>

#define LINES_UNDER_A_HEADING 20u
#define NEWEST_TEXT_BYTES 200u

#define CLEAR_SCREEN "\033[H\033[2J"

enum writer_state {
    WRITER_NONE,
    WRITER_IDLE, /* has committed nothing in the interval */
    WRITER_BUSY,
    WRITER_POISONED /* a write or sync has failed */
};

struct sample {
    uint64_t taken_ns; /* on CLOCK_MONOTONIC */
    struct twinlog_stat stat;
    struct twinlog_timings timings;
};

/* The difference between two samples. */
struct change {
    enum writer_state state;
    bool has_stat;
    int poison; /* 0, or the error that poisoned the log */
    double seconds;
    const struct twinlog_stat *now;
    uint64_t appends, append_bytes, groups, written_bytes, syncs;
    struct twinlog_timings timings;
    struct newest newest;
    int newest_error; /* beside a writer: the newest record cannot be read */
};

struct show {
    const char *dir;
    uint64_t interval_ms;
    bool is_json;
    bool is_screen;
    unsigned lines; /* under the last heading */
    bool has_said_error;
    struct sample before, now;
};

/* ---- stages ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t offset;
} stages[] = {
    { "queue", offsetof(struct twinlog_timings, queue) },
    { "copy", offsetof(struct twinlog_timings, copy) },
    { "write", offsetof(struct twinlog_timings, write) },
    { "sync", offsetof(struct twinlog_timings, sync) },
    { "wake", offsetof(struct twinlog_timings, wake) },
    { "total", offsetof(struct twinlog_timings, total) },
};
#define STAGES (sizeof(stages) / sizeof(stages[0]))

static const struct twinlog_histogram *stage_of(const struct twinlog_timings *timings, size_t stage)
{
    return (const struct twinlog_histogram *)((const char *)timings + stages[stage].offset);
}

static double microseconds(const struct twinlog_histogram *histogram, double q)
{
    return (double)twinlog_quantile(histogram, q) / 1000;
}

/* ---- failures ---------------------------------------------------------------------------------- */

const struct append_failure_kind append_failure_kinds[APPEND_FAILURE_KINDS] = {
    { "full", offsetof(struct twinlog_stat, full_failures) },
    { "read_only", offsetof(struct twinlog_stat, read_only_failures) },
    { "limit", offsetof(struct twinlog_stat, limit_failures) },
    { "poisoned", offsetof(struct twinlog_stat, poison_failures) },
    { "other", offsetof(struct twinlog_stat, other_failures) },
};

uint64_t append_failures_of(const struct twinlog_stat *stat, size_t kind)
{
    return *(const uint64_t *)((const char *)stat + append_failure_kinds[kind].offset);
}

/* ---- sampling ---------------------------------------------------------------------------------- */

/* The largest value stays that of all time; a quantile is never larger than the bucket it is in. */
static void subtract(struct twinlog_histogram *histogram, const struct twinlog_histogram *before)
{
    histogram->count -= before->count;
    histogram->sum -= before->sum;
    for (unsigned i = 0; i < TWINLOG_BUCKETS; i++)
        histogram->buckets[i] -= before->buckets[i];
}

static void subtract_timings(struct twinlog_timings *timings, const struct twinlog_timings *before)
{
    for (size_t i = 0; i < STAGES; i++)
        subtract((struct twinlog_histogram *)((char *)timings + stages[i].offset), stage_of(before, i));
}

/* Counters start from zero in a new writer, so there is nothing to compare its first sample with. */
static void compare(struct show *show, struct change *change)
{
    const struct sample *before = &show->before, *now = &show->now;

    change->has_stat = true;
    change->now = &now->stat;
    change->timings = now->timings;
    if (before->taken_ns == 0 || before->stat.epoch != now->stat.epoch ||
        before->stat.appends > now->stat.appends)
        show->before = show->now;
    change->seconds = (double)(now->taken_ns - before->taken_ns) / 1e9;
    change->appends = now->stat.appends - before->stat.appends;
    change->append_bytes = now->stat.append_bytes - before->stat.append_bytes;
    change->groups = now->stat.groups - before->stat.groups;
    change->written_bytes = now->stat.written_bytes - before->stat.written_bytes;
    change->syncs = now->stat.syncs - before->stat.syncs;
    subtract_timings(&change->timings, &before->timings);
}

static enum writer_state state_of(const struct change *change)
{
    if (change->poison < 0)
        return WRITER_POISONED;
    if (change->appends > 0 || change->groups > 0)
        return WRITER_BUSY;
    return WRITER_IDLE;
}

/* 0, also if there is no sample now; or an error, after which there will never be one. */
static int take_sample(struct show *show, struct change *change)
{
    struct sample sample = { .stat = TWINLOG_STAT_INIT, .timings = TWINLOG_TIMINGS_INIT };

    memset(change, 0, sizeof(*change));
    int error = twinlog_watch(show->dir, &sample.stat, &sample.timings);
    sample.taken_ns = monotonic_ns();
    const bool has_writer = error != -ESRCH && error != -EAGAIN; /* that one is opening the log */
    if (error < 0 && has_writer)
        return error;

    change->newest_error = find_newest(show->dir, &change->newest);
    if (!has_writer)
        return change->newest_error;

    show->before = show->now;
    show->now = sample;
    compare(show, change);
    change->poison = sample.stat.poison;
    change->state = state_of(change);
    return 0;
}

static double rate(const struct change *change, uint64_t count)
{
    if (change->seconds > 0)
        return (double)count / change->seconds;
    return 0;
}

static double mean(uint64_t sum, uint64_t count)
{
    if (count > 0)
        return (double)sum / (double)count;
    return 0;
}

static const char *describe_state(enum writer_state state)
{
    switch (state) {
    case WRITER_NONE:
        return "no process is writing it";
    case WRITER_IDLE:
        return "its writer has nothing to commit";
    case WRITER_POISONED:
        return "POISONED: a write or sync has failed, and its writer refuses records until it opens the log again";
    default:
        return "is being written";
    }
}

/* Seconds since the newest durable record was accepted, by the clock of the system. */
static double age_of(const struct newest *newest)
{
    int64_t age_ns = now_ns() - newest->time_ns;

    if (age_ns > 0)
        return (double)age_ns / 1e9;
    return 0;
}

static void describe_newest(char *ret_text, size_t size, const struct change *change)
{
    const struct newest *newest = &change->newest;

    if (change->newest_error < 0)
        snprintf(ret_text, size, "its records cannot be read: %s", twinlog_strerror(change->newest_error));
    else if (newest->lsn)
        snprintf(ret_text, size, "newest durable record: LSN %" PRIu64 ", %.1f s ago", newest->lsn,
                 age_of(newest));
    else
        snprintf(ret_text, size, "there is no durable record");
}

static void describe_age(char *ret_text, size_t size, const struct newest *newest)
{
    if (newest->lsn)
        snprintf(ret_text, size, "%.1f", age_of(newest));
    else
        snprintf(ret_text, size, "-");
}

/* ---- on a terminal ------------------------------------------------------------------------------- */

static void print_stages(const struct change *change)
{
    printf("  %-9s %10s %10s %10s %10s  %s\n", "us", "p50", "p90", "p99", "max", "");
    for (size_t i = 0; i < STAGES; i++) {
        const struct twinlog_histogram *histogram = stage_of(&change->timings, i);
        if (histogram->count == 0)
            printf("  %-9s %10s %10s %10s %10s\n", stages[i].name, "-", "-", "-", "-");
        else
            printf("  %-9s %10.1f %10.1f %10.1f %10.1f\n", stages[i].name, microseconds(histogram, 0.5),
                   microseconds(histogram, 0.9), microseconds(histogram, 0.99), microseconds(histogram, 1));
    }
}

/* Appends that failed, by what has to be cured. */
static void print_failures(const struct twinlog_stat *stat)
{
    for (size_t i = 0; i < APPEND_FAILURE_KINDS; i++) {
        const uint64_t count = append_failures_of(stat, i);
        if (count > 0)
            printf("; %" PRIu64 " failed (%s)", count, append_failure_kinds[i].name);
    }
    printf("\n");
}

static void print_marks(const struct twinlog_stat *stat)
{
    char bytes[BYTES_TEXT_BYTES];

    describe_bytes(bytes, stat->file_bytes);
    printf("  LSN       first %" PRIu64 "   durable %" PRIu64 "   written %" PRIu64 "   last %" PRIu64 "\n",
           stat->first_lsn, stat->durable_lsn, stat->written_lsn, stat->last_lsn);
    printf("  segments  %" PRIu32 " and %" PRIu32 " spare, %s; %" PRIu64 " roll%s, %" PRIu64 " waited for\n",
           stat->segments, stat->spare_segments, bytes, stat->rolls, plural(stat->rolls), stat->roll_waits);
    printf("  since its opening: %" PRIu64 " record%s in %" PRIu64 " group%s", stat->appends,
           plural(stat->appends), stat->groups, plural(stat->groups));
    print_failures(stat);
}

static void print_screen(const struct show *show, const struct change *change)
{
    char time[TIME_TEXT_BYTES], append_bytes[BYTES_TEXT_BYTES], written_bytes[BYTES_TEXT_BYTES];
    char newest[NEWEST_TEXT_BYTES];
    const struct twinlog_stat *stat = change->now;

    describe_time(time, now_ns());
    describe_newest(newest, sizeof(newest), change);
    printf(CLEAR_SCREEN "%s: %s; %s\n%s UTC, every %.4g s", show->dir, describe_state(change->state), newest,
           time, (double)show->interval_ms / 1000);
    if (!change->has_stat || change->state == WRITER_NONE) {
        printf("\n");
        return;
    }

    describe_bytes(append_bytes, (uint64_t)rate(change, change->append_bytes));
    describe_bytes(written_bytes, (uint64_t)rate(change, change->written_bytes));
    printf("; epoch %" PRIu32 ", %s, %s\n\n", stat->epoch, io_name(stat->io),
           stat->is_direct ? "direct" : "buffered");
    printf("  appends   %10.0f/s   %s/s\n", rate(change, change->appends), append_bytes);
    printf("  groups    %10.0f/s   %s/s to the device, %.1f records each\n", rate(change, change->groups),
           written_bytes, mean(change->appends, change->groups));
    printf("  syncs     %10.0f/s   %" PRIu64 " request%s under way\n\n", rate(change, change->syncs),
           stat->requests, plural(stat->requests));
    print_stages(change);
    printf("\n");
    print_marks(stat);
}

/* ---- on a pipe --------------------------------------------------------------------------------- */

static void print_heading(struct show *show)
{
    if (show->lines % LINES_UNDER_A_HEADING == 0)
        printf("%10s %9s %9s %8s %9s %9s %9s %9s %9s %9s %8s %12s\n", "appends/s", "MB/s", "groups/s",
               "rec/grp", "syncs/s", "write p50", "write p99", "total p50", "total p99", "total max", "age s",
               "durable LSN");
    show->lines++;
}

static void print_words(struct show *show, const struct change *change)
{
    char newest[NEWEST_TEXT_BYTES];

    describe_newest(newest, sizeof(newest), change);
    printf("%s: %s; %s\n", show->dir, describe_state(change->state), newest);
    show->lines = 0;
}

static void print_line(struct show *show, const struct change *change)
{
    const struct twinlog_histogram *write = &change->timings.write, *total = &change->timings.total;
    const bool has_error = change->newest_error < 0;
    char age[24];

    if (change->state == WRITER_NONE || change->state == WRITER_POISONED || !change->has_stat) {
        print_words(show, change);
        return;
    }

    if (has_error && !show->has_said_error)
        print_words(show, change);
    show->has_said_error = has_error;
    describe_age(age, sizeof(age), &change->newest);
    print_heading(show);
    printf("%10.0f %9.2f %9.0f %8.1f %9.0f %9.1f %9.1f %9.1f %9.1f %9.1f %8s %12" PRIu64 "\n",
           rate(change, change->appends), rate(change, change->append_bytes) / 1e6,
           rate(change, change->groups), mean(change->appends, change->groups), rate(change, change->syncs),
           microseconds(write, 0.5), microseconds(write, 0.99), microseconds(total, 0.5),
           microseconds(total, 0.99), microseconds(total, 1), age, change->now->durable_lsn);
}

/* ---- for programs ------------------------------------------------------------------------------ */

static void json_stages(const struct change *change)
{
    json_begin_object("latency_us");
    for (size_t i = 0; i < STAGES; i++) {
        const struct twinlog_histogram *histogram = stage_of(&change->timings, i);
        json_begin_object(stages[i].name);
        json_number("count", histogram->count);
        json_decimal("p50", microseconds(histogram, 0.5));
        json_decimal("p90", microseconds(histogram, 0.9));
        json_decimal("p99", microseconds(histogram, 0.99));
        json_decimal("max", microseconds(histogram, 1));
        json_end_object();
    }

    json_end_object();
}

static void json_stat(const struct change *change)
{
    const struct twinlog_stat *stat = change->now;

    json_number("epoch", stat->epoch);
    json_text("io", io_name(stat->io));
    json_decimal("seconds", change->seconds);
    json_decimal("appends_per_second", rate(change, change->appends));
    json_decimal("append_bytes_per_second", rate(change, change->append_bytes));
    json_decimal("groups_per_second", rate(change, change->groups));
    json_decimal("written_bytes_per_second", rate(change, change->written_bytes));
    json_decimal("records_per_group", mean(change->appends, change->groups));
    json_decimal("syncs_per_second", rate(change, change->syncs));
    json_stages(change);
    json_number("first_lsn", stat->first_lsn);
    json_number("last_lsn", stat->last_lsn);
    json_number("written_lsn", stat->written_lsn);
    json_number("durable_lsn", stat->durable_lsn);
    json_number("segments", stat->segments);
    json_number("spare_segments", stat->spare_segments);
    json_number("file_bytes", stat->file_bytes);
    json_number("appends", stat->appends);
    json_number("groups", stat->groups);
    json_number("syncs", stat->syncs);
    json_number("rolls", stat->rolls);
    json_number("roll_waits", stat->roll_waits);
    json_begin_object("append_failures");
    for (size_t i = 0; i < APPEND_FAILURE_KINDS; i++)
        json_number(append_failure_kinds[i].name, append_failures_of(stat, i));
    json_end_object();
    json_number("trim_failures", stat->trim_failures);
    json_number("requests", stat->requests);
}

static void print_json_line(const struct show *show, const struct change *change)
{
    json_begin_object(NULL);
    json_time("time", now_ns());
    json_text("directory", show->dir);
    json_boolean("has_writer", change->state != WRITER_NONE);
    json_boolean("is_idle", change->state == WRITER_IDLE);
    if (change->newest.lsn) {
        json_number("newest_lsn", change->newest.lsn);
        json_time("newest_time", change->newest.time_ns);
        json_decimal("newest_age_seconds", age_of(&change->newest));
    }

    json_signed("newest_error", change->newest_error);
    json_signed("poison", change->poison);
    if (change->has_stat)
        json_stat(change);
    json_end_object();
    json_end_line();
}

/* ---- the loop ---------------------------------------------------------------------------------- */

static uint64_t take_interval(const char *option)
{
    char *end = NULL;

    errno = 0;
    double seconds = strtod(optarg, &end);

    const bool is_number = errno == 0 && end != optarg && *end == '\0' && isfinite(seconds);
    if (!is_number || seconds < 0.01 || seconds > 86400)
        usage_error("%s: '%s' is not a number of seconds from 0.01 to 86400", option, optarg);
    return (uint64_t)(seconds * 1000);
}

static int print_change(struct show *show, const struct change *change)
{
    if (show->is_json)
        print_json_line(show, change);
    else if (show->is_screen)
        print_screen(show, change);
    else
        print_line(show, change);
    if (fflush(stdout) == 0)
        return STATUS_FINE;
    return output_error();
}

static const char unseen_advice[] =
    "Its writer is of another version of twinlog, or cannot share memory, as on a disk that was full when it opened "
    "the log. 'twinlog stat DIR' shows what the files say.";

/* Rates need two samples, so the first one of a writer is not shown. */
static int run(struct show *show)
{
    struct change change;
    uint64_t next_ns = monotonic_ns();

    for (;;) {
        int error = take_sample(show, &change);
        if (error)
            return fail("watch the log", show->dir, error, NULL, error == -ENOTSUP ? unseen_advice : NULL);
        if (change.seconds > 0 || change.state == WRITER_NONE || change.state == WRITER_POISONED) {
            int status = print_change(show, &change);
            if (status != STATUS_FINE)
                return status;
        }

        next_ns += show->interval_ms * 1000000;
        const uint64_t now = monotonic_ns();
        if (next_ns < now) /* this process was stopped, or the system slept */
            next_ns = now;
        if (!stop_sleep((next_ns - now) / 1000000))
            return STATUS_FINE;
    }
}

static int show_live(const char *dir, uint64_t interval_ms, bool is_json)
{
    struct show show = { .dir = dir,
                         .interval_ms = interval_ms,
                         .is_json = is_json,
                         .is_screen = !is_json && isatty(STDOUT_FILENO) };

    int error = stop_on_signals();
    if (error)
        return fail("watch the log", dir, error, NULL, NULL);
    return run(&show);
}

/* ---- the command ------------------------------------------------------------------------------- */

static const char about[] =
    "Usage: twinlog top DIR [options]\n"
    "\n"
    "Shows what the process that writes the log in DIR does, again and again until it is\n"
    "interrupted: records, groups and syncs a second, and latencies. It fills the screen of\n"
    "a terminal; elsewhere it prints lines.\n";

static const struct option_row option_rows[] = {
    { OPTION_INTERVAL, "interval", "S", "seconds between two looks (default 1), decimals allowed" },
    { OPTION_JSON, "json", NULL, "a JSON object each, instead of a screen or lines" },
    COMMON_OPTIONS,
};

static const char notes[] = "Exit status: 0 interrupted; 1 an operation failed; 2 wrong usage.\n"
                            "\n"
                            "Example: two looks a second\n"
                            "  twinlog top build.log --interval 0.5\n";

static int top_run(const struct command *command, int argc, char **argv)
{
    uint64_t interval_ms = 1000;
    bool is_json = false;
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_INTERVAL)
            interval_ms = take_interval("--interval");
        else
            is_json = true;
    }

    const char *dir = take_directory(argc, argv);
    return finish_output(show_live(dir, interval_ms, is_json));
}

const struct command top_command = {
    .name = "top",
    .summary = "show what its writer does: rates and latencies, again and again",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = top_run,
};
