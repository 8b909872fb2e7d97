/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog stat --prometheus: prints metrics in the text exposition format, version 0.0.4.
 *
 * Beside a writer: its counters and durations. Without a writer they are 0, which Prometheus takes for the restart that
 * it is. So series do not vanish. Where the counters cannot be read there are none, twinlog_counters_up is 0, and
 * standard error says why.
 */
#define _GNU_SOURCE
#include "failures.h"
#include "json.h"
#include "listing.h"
#include "live.h"
#include "newest.h"
#include "opening.h"
#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>
#include <unistd.h>

static const char *directory;
static struct twinlog_reader *reader; /* NULL: it cannot be opened */

/* ---- the format ---------------------------------------------------------------------------------- */

/* Is it U+FFFD, in UTF-8? */
static bool is_replacement(const unsigned char *c, size_t length)
{
    return length == 3 && memcmp(c, "\357\277\275", 3) == 0;
}

/* Prometheus refuses the whole page if a label is not UTF-8, or if two series have the same labels. So a byte that is
 * not UTF-8 becomes U+FFFD and its two hexadecimal digits. The bytes of U+FFFD itself do, too: so no two texts become
 * the same label. */
static void print_label_of(const char *label, const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    size_t left = strlen(text);

    printf("%s=\"", label);
    while (left > 0) {
        size_t length = utf8_length(c, left);

        if (length == 0 || is_replacement(c, length)) {
            printf("\357\277\275%02x", *c);
            length = 1;
        } else if (*c == '\n') {
            printf("\\n");
        } else {
            if (*c == '\\' || *c == '"')
                putchar('\\');
            fwrite(c, 1, length, stdout);
        }
        c += length;
        left -= length;
    }

    putchar('"');
}

static void print_label(void)
{
    print_label_of("dir", directory);
}

static void begin_metric(const char *name, const char *type, const char *help)
{
    printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_value(const char *name, const char *type, const char *help, uint64_t value)
{
    begin_metric(name, type, help);
    printf("%s{", name);
    print_label();
    printf("} %" PRIu64 "\n", value);
}

void print_metric(const char *dir, const char *name, const char *help, uint64_t value)
{
    directory = dir;
    print_value(name, "gauge", help, value);
}

static void print_bucket(const char *name, const char *bound, uint64_t count)
{
    printf("%s_bucket{", name);
    print_label();
    printf(",le=\"%s\"} %" PRIu64 "\n", bound, count);
}

/* Number of buckets for the values below that power of two. */
static unsigned buckets_below(unsigned power)
{
    if (power < 3)
        return 1u << power;
    return 8 * (power - 2);
}

/* The bounds are the largest values below powers of two, because the log's buckets end there. */
static void print_histogram(const char *name, const char *help, const struct twinlog_histogram *histogram,
                            double unit, unsigned first_power, unsigned last_power)
{
    char bound[32];
    uint64_t count = 0;
    unsigned next = 0;

    begin_metric(name, "histogram", help);
    for (unsigned power = first_power; power <= last_power; power++) {
        for (; next < buckets_below(power); next++)
            count += histogram->buckets[next];
        snprintf(bound, sizeof(bound), "%.12g", (double)((UINT64_C(1) << power) - 1) * unit);
        print_bucket(name, bound, count);
    }

    for (; next < TWINLOG_BUCKETS; next++)
        count += histogram->buckets[next];
    print_bucket(name, "+Inf", count);
    printf("%s_sum{", name);
    print_label();
    printf("} %.12g\n%s_count{", (double)histogram->sum * unit, name);
    print_label();
    printf("} %" PRIu64 "\n", count);
}

/* ---- the metrics --------------------------------------------------------------------------------- */

struct writer {
    bool is_there;
    uint32_t pid; /* 0: several processes, or not known */
};

/* A process that was stopped by a signal, or by a debugger, holds its locks and looks like an idle one. */
static bool is_stopped(uint32_t pid)
{
    char path[32], text[512];

    snprintf(path, sizeof(path), "/proc/%" PRIu32 "/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;

    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    const char *state = strrchr(text, ')'); /* behind the name of the program, which may have any character */
    return state && (!strncmp(state, ") T", 3) || !strncmp(state, ") t", 3));
}

static void print_files(const struct writer *writer, const struct twinlog_stat *stat)
{
    print_value("twinlog_writer_up", "gauge", "1 if a process has the log open for writing.",
                writer->is_there);
    print_value("twinlog_writer_stopped", "gauge",
                "1 if that process is stopped by a signal; 0 also if it cannot be told from here.",
                writer->is_there && is_stopped(writer->pid));
    print_value("twinlog_epoch", "gauge", "Times the log was opened for writing, or truncated.", stat->epoch);
    print_value("twinlog_segments", "gauge", "Segment files with records.", stat->segments);
    print_value("twinlog_spare_segments", "gauge", "Segment files that are prepared and empty.",
                stat->spare_segments);
    print_value("twinlog_file_size_bytes", "gauge", "All segment files.", stat->file_bytes);
    print_value("twinlog_first_lsn", "gauge", "Oldest record that is kept, 0 if none is.", stat->first_lsn);
    print_value("twinlog_last_lsn", "gauge", "Newest record.", stat->last_lsn);
    print_value("twinlog_durable_lsn", "gauge", "Newest record that is known to be durable.",
                stat->durable_lsn);
    print_value("twinlog_poisoned", "gauge", "1 after a write or sync of the writer has failed.",
                stat->poison < 0);
}

static void print_append_failures(const struct twinlog_stat *stat)
{
    begin_metric("twinlog_append_failures_total", "counter",
                 "Appends that failed: the disk was full, it was read-only, a limit was reached, the log was "
                 "poisoned, or another error.");
    for (size_t i = 0; i < APPEND_FAILURE_KINDS; i++) {
        printf("twinlog_append_failures_total{");
        print_label();
        putchar(',');
        print_label_of("kind", append_failure_kinds[i].name);
        printf("} %" PRIu64 "\n", append_failures_of(stat, i));
    }
}

static void print_counters(const struct twinlog_stat *stat)
{
    print_value("twinlog_written_lsn", "gauge", "Newest record that survives the process.",
                stat->written_lsn);
    print_value("twinlog_requests_in_flight", "gauge", "Requests submitted and not completed.",
                stat->requests);
    print_value("twinlog_appends_total", "counter", "Records accepted.", stat->appends);
    if (stat->mode == TWINLOG_MODE_DURABLE)
        print_value("twinlog_append_bytes_total", "counter", "Payload of the records accepted.",
                    stat->append_bytes);
    print_value("twinlog_groups_total", "counter", "Groups written.", stat->groups);
    print_value("twinlog_group_bytes_total", "counter", "Headers, records and alignment in groups.",
                stat->group_bytes);
    print_value("twinlog_written_bytes_total", "counter", "Bytes handed to the device for groups.",
                stat->written_bytes);
    print_value("twinlog_syncs_total", "counter", "Groups synced, and syncs of what was written before.",
                stat->syncs);
    print_value("twinlog_rolls_total", "counter", "Segments started.", stat->rolls);
    print_value("twinlog_roll_waits_total", "counter", "Appends that waited for a segment, and got it.",
                stat->roll_waits);
    print_append_failures(stat);
    print_value("twinlog_trim_failures_total", "counter",
                "Times that retention could not look at, or move, the head of the log.", stat->trim_failures);
    print_value("twinlog_trimmed_segments_total", "counter", "Segments trimmed.", stat->trimmed_segments);
    print_value("twinlog_recycled_segments_total", "counter", "Segments written over old ones.",
                stat->recycled_segments);
}

/* Prints buckets from 255 ns to 17 s. */
static void print_times(const char *name, const char *help, const struct twinlog_histogram *histogram)
{
    print_histogram(name, help, histogram, 1e-9, 8, 34);
}

static void print_timings(const struct twinlog_timings *timings)
{
    print_times("twinlog_append_queue_seconds", "From the call to a place in the buffer; sampled.",
                &timings->queue);
    print_times("twinlog_append_copy_seconds", "The copy and its checksum; sampled.", &timings->copy);
    print_times("twinlog_append_wake_seconds", "From the end of a commit to the return of a writer; sampled.",
                &timings->wake);
    print_times("twinlog_append_seconds", "Of an append, from the call to its return; sampled.",
                &timings->total);
    print_times("twinlog_group_write_seconds", "The write of a group, with its sync where that is one.",
                &timings->write);
    print_times("twinlog_sync_seconds", "A sync that is an operation of its own.", &timings->sync);
    print_histogram("twinlog_group_records", "Records of a group.", &timings->group_records, 1, 1, 16);
    print_histogram("twinlog_group_size_bytes", "Bytes of a group.", &timings->group_bytes, 1, 9, 28);
}

/* ---- what the files say -------------------------------------------------------------------------- */

/* What the files say, where the counters say nothing. */
static int look_at_files(struct twinlog_stat *stat, struct writer *ret_writer)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    int error = twinlog_inspect(directory, &inspection);

    if (error)
        return fail("look at the log", directory, error, &inspection.report, NULL);

    *ret_writer = (struct writer){ inspection.has_writer, inspection.writer_pid };
    stat->poison = inspection.poison;
    stat->epoch = inspection.epoch;
    stat->segments = inspection.segments;
    stat->spare_segments = inspection.spare_segments;
    stat->file_bytes = inspection.file_bytes;
    stat->first_lsn = inspection.first_lsn;
    stat->last_lsn = inspection.last_lsn;
    stat->written_lsn = inspection.last_lsn;
    stat->durable_lsn = inspection.durable_lsn;
    return status_of(inspection.report.error);
}

static void print_newest(void)
{
    struct newest newest;

    if (!reader || newest_of(reader, &newest) < 0)
        return;

    begin_metric("twinlog_newest_record_timestamp_seconds", "gauge",
                 "When the newest durable record was accepted, 0 if there is none.");
    printf("twinlog_newest_record_timestamp_seconds{");
    print_label();
    printf("} %.3f\n", (double)newest.time_ns / 1e9);
}

/* ---- cursors ------------------------------------------------------------------------------------- */

/* How far a cursor is behind the newest durable record. */
struct lag {
    char name[TWINLOG_NAME_BYTES];
    uint64_t lsn, records, failures;
    double bytes, seconds;
};
struct lags {
    struct cursor_list list;
    struct lag *lags;
};

/* Since that record was accepted. Infinity where it cannot be read: a consumer stands in front of what is damaged, and
 * an alert for one that lags has to see it. */
static double age_of(uint64_t lsn)
{
    struct twinlog_record record;

    if (!reader || twinlog_reader_seek(reader, lsn) < 0)
        return INFINITY;

    /* By now nothing may be behind the cursor, or its consumer will be told of the gap. */
    const int found = twinlog_reader_next(reader, &record);
    if (found == 0 || found == TWINLOG_ETRIMMED || found == TWINLOG_ETRUNCATED)
        return 0;
    if (found < 0)
        return INFINITY;

    const int64_t age_ns = now_ns() - record.time_ns;
    return age_ns > 0 ? (double)age_ns / 1e9 : 0;
}

static int keep_cursor(void *context, const char *name, uint64_t lsn)
{
    struct lags *lags = context;
    const uint64_t records = records_behind(&lags->list, lsn);
    struct failures failures;
    struct lag *grown = reallocarray(lags->lags, lags->list.count + 1, sizeof(*grown));

    if (!grown)
        return -ENOMEM;

    lags->lags = grown;
    struct lag *lag = &grown[lags->list.count++];
    load_failures(directory, name, &failures);
    *lag = (struct lag){ .lsn = lsn, .records = records, .failures = failures.count };
    snprintf(lag->name, sizeof(lag->name), "%s", name);
    if (records > 0)
        lag->seconds = age_of(lags->list.last_lsn - records + 1);
    return 0;
}

/* Of a segment in which the cursor is, the share of its records that is behind the cursor. */
static int add_bytes(void *context, const struct twinlog_segment *segment)
{
    struct lags *lags = context;

    if (segment->last_lsn == 0)
        return 0;

    const double records = (double)(segment->last_lsn - segment->first_lsn + 1);
    for (struct lag *lag = lags->lags; lag < lags->lags + lags->list.count; lag++) {
        const uint64_t passed = lags->list.last_lsn - lag->records;
        const uint64_t from = max_u64(segment->first_lsn, passed + 1);
        if (lag->records > 0 && from <= segment->last_lsn)
            lag->bytes += (double)segment->data_bytes * (double)(segment->last_lsn - from + 1) / records;
    }

    return 0;
}

static void print_lags(const struct lags *lags, const char *name, const char *help,
                       double (*value)(const struct lag *lag))
{
    begin_metric(name, "gauge", help);
    for (const struct lag *lag = lags->lags; lag < lags->lags + lags->list.count; lag++) {
        printf("%s{", name);
        print_label();
        putchar(',');
        print_label_of("cursor", lag->name);
        if (isinf(value(lag)))
            printf("} +Inf\n");
        else
            printf("} %.15g\n", value(lag));
    }
}

static double lsn_of(const struct lag *lag)
{
    return (double)lag->lsn;
}

static double records_of(const struct lag *lag)
{
    return (double)lag->records;
}

static double failures_of(const struct lag *lag)
{
    return (double)lag->failures;
}

static double bytes_of(const struct lag *lag)
{
    return lag->bytes;
}

static double seconds_of(const struct lag *lag)
{
    return lag->seconds;
}

static int print_cursors(const struct twinlog_stat *found)
{
    struct lags lags = { .list = { .first_lsn = found->first_lsn, .last_lsn = found->last_lsn } };
    struct twinlog *log = NULL;
    int status = open_beside_writer(directory, &log);

    if (status != STATUS_FINE)
        return status;

    int error = twinlog_cursor_each(log, keep_cursor, &lags);
    if (error == 0 && lags.list.count > 0)
        error = twinlog_segments(directory, add_bytes, &lags);
    if (error == 0 && lags.list.count > 0) {
        print_lags(&lags, "twinlog_cursor_lsn", "Newest record that the cursor has passed.", lsn_of);
        print_lags(&lags, "twinlog_cursor_lag_records", "Records behind the cursor.", records_of);
        print_lags(&lags, "twinlog_cursor_lag_bytes",
                   "Bytes of them in the segments; of a part of a segment, its share.", bytes_of);
        print_lags(&lags, "twinlog_cursor_lag_seconds", "Since the oldest of them was accepted.", seconds_of);
        print_lags(&lags, "twinlog_cursor_failures",
                   "Failures of the archiver or shipper that moves the cursor, since it last got on.",
                   failures_of);
    }

    free(lags.lags);
    if (error)
        status = fail("look at the cursors of", directory, error, NULL, NULL);
    return close_log(log, directory, status);
}

/* ---- the command ------------------------------------------------------------------------------- */

static void print_up(bool is_up)
{
    print_value("twinlog_counters_up", "gauge",
                "1 if the counters are a writer's; 0 if there is no writer, or they cannot be read.", is_up);
}

int show_prometheus(const char *dir)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT, found = TWINLOG_STAT_INIT;
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    struct writer writer = { 0 };

    directory = dir;
    int error = twinlog_watch(dir, &stat, &timings);
    int status = look_at_files(&found, &writer);
    if (error < 0 && error != -ESRCH && status != STATUS_FAILED)
        (void)fail("read the counters of", dir, error, NULL, NULL);
    if (status == STATUS_FAILED) {
        print_up(false);
        return status;
    }

    if (error < 0)
        stat = found;
    else
        writer.is_there = true; /* also if its files are damaged */
    print_files(&writer, &stat);
    print_value(
        "twinlog_damaged", "gauge",
        "1 if the log would not be opened again: acknowledged data, or its state file, is damaged or missing.",
        status == STATUS_DAMAGED);
    (void)twinlog_reader_open(dir, NULL, &reader);
    print_newest();
    print_up(error == 0);
    if (error == 0 || error == -ESRCH) {
        print_counters(&stat);
        if (stat.mode == TWINLOG_MODE_DURABLE)
            print_timings(&timings);
    }

    if (status == STATUS_FINE) /* a damaged log is not opened */
        status = print_cursors(&found);
    twinlog_reader_close(reader);
    return status;
}
