/* SPDX-License-Identifier: Apache-2.0 */
/*
 * abi-program PLACE: a program as it was compiled with the recorded headers, test/abi/0.1, which runs with the shared
 * library of today. It fills in and reads each structure as those headers have it; behind each structure that may grow
 * are bytes that the library must not touch.
 */
#include <stdio.h>
#include <string.h>
#include <twinlog_admin.h>
#include <twinlog_sink.h>

#define GUARD 0x5a
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("program.c:%d: not so: %s\n", __LINE__, #condition);                                      \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

/* A structure with bytes behind it. */
#define GUARDED(type, name, init)                                                                            \
    struct {                                                                                                 \
        struct type value;                                                                                   \
        unsigned char guard[64];                                                                             \
    } name = { .value = init };                                                                              \
    memset(name.guard, GUARD, sizeof(name.guard))
#define IS_WHOLE(name) (is_guard(name.guard) && name.value.size == sizeof(name.value))

static int is_guard(const unsigned char guard[64])
{
    for (int i = 0; i < 64; i++)
        if (guard[i] != GUARD)
            return 0;
    return 1;
}

static int count_segment(void *context, const struct twinlog_segment *segment)
{
    if (segment->size >= sizeof(*segment) && segment->first_lsn == 1 && segment->last_lsn == 3)
        ++*(int *)context;
    return 0;
}

static int use_log(const char *dir)
{
    struct twinlog_report found;
    GUARDED(twinlog_options, options, TWINLOG_OPTIONS_INIT);
    options.value.segment_bytes = 1 << 20;
    options.value.ret_report = &found;
    struct twinlog *log;
    CHECK(twinlog_open(dir, &options.value, &log) == 0 && found.finding == TWINLOG_FOUND_NEW_LOG);

    const struct twinlog_entry entries[] = { { .data = "one", .size = 3, .tag = 7 },
                                             { .data = "two", .size = 3, .type = 9 } };
    GUARDED(twinlog_terms, terms, TWINLOG_TERMS_INIT);
    terms.value.level = TWINLOG_LEVEL_DURABLE;
    terms.value.deadline_ns = twinlog_deadline(600000);
    uint64_t lsn;
    CHECK(twinlog_append_batch(log, entries, 2, &terms.value, &lsn) == 0 && lsn == 1);
    CHECK(twinlog_append(log, "three", 5, &lsn) == 0 && lsn == 3);

    GUARDED(twinlog_stat, stat, TWINLOG_STAT_INIT);
    CHECK(twinlog_stat(log, &stat.value) == 0 && IS_WHOLE(stat));
    CHECK(stat.value.last_lsn == 3 && stat.value.appends == 3 && stat.value.io_reason[0] != '\0');
    GUARDED(twinlog_timings, timings, TWINLOG_TIMINGS_INIT);
    CHECK(twinlog_timings(log, &timings.value) == 0 && IS_WHOLE(timings));
    CHECK(timings.value.group_bytes.count >= 2 && twinlog_quantile(&timings.value.group_records, 1) >= 1);

    struct twinlog_record record;
    GUARDED(twinlog_reader_options, reading, TWINLOG_READER_OPTIONS_INIT);
    reading.value.from_lsn = 1;
    reading.value.to_lsn = 2;
    struct twinlog_reader *reader;
    CHECK(twinlog_reader_open(dir, &reading.value, &reader) == 0);
    CHECK(twinlog_reader_next(reader, &record) == 1 && record.lsn == 1 && record.tag == 7 &&
          record.size == 3);
    CHECK(twinlog_reader_next(reader, &record) == 1 && record.type == 9 && !memcmp(record.data, "two", 3));
    CHECK(twinlog_reader_next(reader, &record) == 0);
    twinlog_reader_close(reader);
    GUARDED(twinlog_consumer_options, consuming, TWINLOG_CONSUMER_OPTIONS_INIT);
    struct twinlog_consumer *consumer;
    CHECK(twinlog_consumer_open(dir, "consumer", &consuming.value, &consumer) == 0);
    CHECK(twinlog_consumer_next(consumer, &record) == 1 && record.lsn == 1);
    twinlog_consumer_close(consumer);

    GUARDED(twinlog_trim_options, trim, TWINLOG_TRIM_OPTIONS_INIT);
    GUARDED(twinlog_trim_result, trimmed, TWINLOG_TRIM_RESULT_INIT);
    trim.value.before_lsn = 2;
    CHECK(twinlog_trim(log, &trim.value, &trimmed.value) == 0 && IS_WHOLE(trimmed));
    CHECK(trimmed.value.holder == TWINLOG_HELD_BY_CURSOR && trimmed.value.first_lsn == 1);
    CHECK(strcmp(trimmed.value.holder_name, "consumer") == 0);
    return twinlog_close(log);
}

static int use_directory(const char *dir, const char *copy, const char *repaired)
{
    GUARDED(twinlog_inspection, inspection, TWINLOG_INSPECTION_INIT);
    CHECK(twinlog_inspect(dir, &inspection.value) == 0 && IS_WHOLE(inspection));
    CHECK(inspection.value.last_lsn == 3 && inspection.value.report.finding == TWINLOG_FOUND_CLEAN_CLOSE);
    GUARDED(twinlog_history, history, TWINLOG_HISTORY_INIT);
    struct twinlog_reader *reader;
    CHECK(twinlog_reader_open(dir, NULL, &reader) == 0);
    CHECK(twinlog_reader_history(reader, 3, &history.value) == 0 && IS_WHOLE(history));
    CHECK(history.value.lsn == 3 && history.value.first_lsn > 0 && history.value.epoch > 0);
    twinlog_reader_close(reader);
    int segments = 0;
    CHECK(twinlog_segments(dir, count_segment, &segments) == 0 && segments == 1);
    GUARDED(twinlog_verify_options, verify, TWINLOG_VERIFY_OPTIONS_INIT);
    uint64_t records;
    CHECK(twinlog_verify(dir, &verify.value, &records) == 0 && records == 3);
    GUARDED(twinlog_backup_result, backup, TWINLOG_BACKUP_RESULT_INIT);
    CHECK(twinlog_backup(dir, copy, NULL, &backup.value) == 0 && IS_WHOLE(backup));
    CHECK(backup.value.last_lsn == 3 && backup.value.segments == 1);
    GUARDED(twinlog_repair_result, repair, TWINLOG_REPAIR_RESULT_INIT);
    CHECK(twinlog_repair(dir, repaired, NULL, &repair.value) == 0 && IS_WHOLE(repair));
    CHECK(repair.value.records == 3 && repair.value.last_lsn == 3 && repair.value.lost_records == 0);
    return 0;
}

static int use_sink(const char *path)
{
    GUARDED(twinlog_sink_options, options, TWINLOG_SINK_OPTIONS_INIT);
    struct twinlog_sink *sink;
    CHECK(twinlog_sink_open(path, &options.value, &sink) == 0);
    CHECK(twinlog_sink_write(sink, "line\n", 5, NULL) == 0 && twinlog_sink_sync(sink) == 0);
    return twinlog_sink_close(sink);
}

int main(int count, char **arguments)
{
    char log[4096], copy[4096], repaired[4096], sink[4096];
    if (count != 2)
        return 2;
    snprintf(log, sizeof(log), "%s/log", arguments[1]);
    snprintf(copy, sizeof(copy), "%s/copy", arguments[1]);
    snprintf(repaired, sizeof(repaired), "%s/repaired", arguments[1]);
    snprintf(sink, sizeof(sink), "%s/sink", arguments[1]);
    CHECK(use_log(log) == 0);
    CHECK(use_directory(log, copy, repaired) == 0);
    CHECK(use_sink(sink) == 0);
    return 0;
}
