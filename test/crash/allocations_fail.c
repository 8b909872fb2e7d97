/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call with its n-th allocation failing, for every n until it needs no more. A call then returns
 * -ENOMEM and has changed nothing, or does its work in another way; a truncation that can't be finished
 * poisons the log. In any case nothing is lost: neither records nor memory.
 */
#include "allocator.h"
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <twinlog_admin.h>

#define RECORDS 90u
#define RECORD_BYTES 2000u
#define SEGMENT_BYTES 65536u
#define MANY 5000u

static struct twinlog *opened;
static struct twinlog_reader *attached;

struct call {
    const char *name;
    int (*call)(void);
    enum {
        ON_LOG,    /* it has an open log */
        ON_READER, /* and a reader that is attached to it */
        ON_FILES,  /* it opens what it needs */
    } needs;
    bool changes;         /* the log: each time it begins with a new one */
    uint64_t first, last; /* records that are there when it has been made */
};

static const struct twinlog_options small = { .size = sizeof(small),
                                              .segment_bytes = SEGMENT_BYTES,
                                              .buffer_bytes = 32768,
                                              .prepare = TWINLOG_PREPARE_ALLOCATED };

static unsigned char record_of(uint64_t lsn)
{
    return (unsigned char)(lsn % 251);
}

static int append_some(struct twinlog *log, unsigned count)
{
    unsigned char record[RECORD_BYTES];
    int result = 0;

    for (unsigned i = 0; result == 0 && i < count; i++) {
        memset(record, record_of(twinlog_last_lsn(log) + 1), sizeof(record));
        result = twinlog_enqueue(log, record, sizeof(record), NULL);
    }
    return result < 0 ? result : twinlog_sync(log);
}

/* ---- the calls --------------------------------------------------------------------------------- */

/* One that is one expression. */
#define CALL(name, result)                                                                                   \
    static int call_##name(void)                                                                             \
    {                                                                                                        \
        return result;                                                                                       \
    }

static int call_open(void)
{
    const int result = twinlog_open(place.log, &small, &opened);

    return result < 0 ? result : twinlog_close(opened);
}

static int call_open_read_only(void)
{
    struct twinlog_options options = small;
    uint64_t lsn;
    int result;

    options.flags = TWINLOG_READ_ONLY;
    result = twinlog_open(place.log, &options, &opened);
    if (result < 0)
        return result;
    result = twinlog_cursor_set(opened, "read-only", 5);
    if (result == 0)
        result = twinlog_cursor_get(opened, "read-only", &lsn);
    twinlog_close(opened);
    return result;
}

/* Into segments that are not there yet. */
CALL(append, append_some(opened, RECORDS))

static int call_trim(void)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;

    options.before_lsn = RECORDS - 10;
    options.flags = TWINLOG_TRIM_PAST_CURSORS;
    return twinlog_trim(opened, &options, NULL);
}

CALL(cut, twinlog_truncate(opened, 7))
CALL(reset, twinlog_reset(opened, 1000))
CALL(cursor_set, twinlog_cursor_set(opened, "another", 7))
CALL(cursor_get, twinlog_cursor_get(opened, "cursor", &(uint64_t){ 0 }))
CALL(cursor_remove, twinlog_cursor_remove(opened, "cursor"))

static int take_cursor(void *context, const char *name, uint64_t lsn)
{
    *(unsigned *)context += name[0] != '\0' && lsn > 0;
    return 0;
}

CALL(cursor_each, twinlog_cursor_each(opened, take_cursor, &(unsigned){ 0 }))

static int call_meta_set(void)
{
    static const char value[TWINLOG_META_BYTES];
    int result = 0;

    for (char name[] = "a"; result == 0 && name[0] <= 'f'; name[0]++) /* more than the file had room for */
        result = twinlog_meta_set(opened, name, value, sizeof(value));
    return result;
}

static char value[TWINLOG_META_BYTES];
CALL(meta_get, twinlog_meta_get(opened, "value", value, sizeof(value), NULL))
CALL(meta_remove, twinlog_meta_remove(opened, "value"))

static int take_value(void *context, const char *name, const void *data, size_t size)
{
    *(unsigned *)context += name[0] != '\0' && data && size > 0;
    return 0;
}

CALL(meta_each, twinlog_meta_each(opened, take_value, &(unsigned){ 0 }))
CALL(stat, twinlog_stat(opened, &(struct twinlog_stat)TWINLOG_STAT_INIT))

static int call_attach(void)
{
    const int result = twinlog_reader_attach(opened, NULL, &attached);

    if (result == 0)
        twinlog_reader_close(attached);
    return result;
}

static int call_reader_open(void)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    int result;

    options.flags = TWINLOG_READER_MMAP;
    result = twinlog_reader_open(place.log, &options, &attached);
    if (result < 0)
        return result;
    result = twinlog_reader_wait(attached, 0) == 1 ? 0 : -EPROTO;
    twinlog_reader_close(attached);
    return result;
}

typedef int move_function(struct twinlog_reader *reader, struct twinlog_record *ret_record);

static int move_through(move_function *move)
{
    struct twinlog_record record;
    unsigned count = 0;
    int result;

    while ((result = move(attached, &record)) > 0) {
        const unsigned char *bytes = record.data;

        if (record.size != RECORD_BYTES || bytes[RECORD_BYTES - 1] != record_of(record.lsn))
            return -EPROTO;
        count++;
    }
    return result < 0 || count == RECORDS ? result : -EPROTO;
}

CALL(next, move_through(twinlog_reader_next))

static int call_previous(void)
{
    const int result = twinlog_reader_seek_end(attached);

    return result < 0 ? result : move_through(twinlog_reader_previous);
}

static int call_seek_time(void)
{
    const int result = twinlog_reader_seek_time(attached, 1);

    return result < 0 ? result : move_through(twinlog_reader_next);
}

static int call_reader_fd(void)
{
    const int result = twinlog_reader_fd(attached);

    return result < 0 ? result : 0;
}

CALL(inspect, twinlog_inspect(place.log, &(struct twinlog_inspection)TWINLOG_INSPECTION_INIT))

static int take_segment(void *context, const struct twinlog_segment *segment)
{
    *(uint64_t *)context += segment->last_lsn > 0 ? segment->last_lsn + 1 - segment->first_lsn : 0;
    return 0;
}

static int call_segments(void)
{
    uint64_t records = 0;
    const int result = twinlog_segments(place.log, take_segment, &records);

    return result == 0 && records != RECORDS ? -EPROTO : result;
}

static int call_verify(void)
{
    uint64_t records = 0;
    const int result = twinlog_verify(place.log, NULL, &records);

    return result == 0 && records != RECORDS ? -EPROTO : result;
}

static int call_backup(void)
{
    struct twinlog_backup_result backup = TWINLOG_BACKUP_RESULT_INIT;
    const int result = twinlog_backup(place.log, place.copy, NULL, &backup);

    return result == 0 && backup.last_lsn != RECORDS ? -EPROTO : result;
}

static int call_repair(void)
{
    struct twinlog_repair_result repair = TWINLOG_REPAIR_RESULT_INIT;
    const int result = twinlog_repair(place.log, place.copy, NULL, &repair);

    return result == 0 && repair.records != RECORDS ? -EPROTO : result;
}

static const struct call calls[] = {
    { "open", call_open, ON_FILES, false, 1, RECORDS },
    { "open, read-only", call_open_read_only, ON_FILES, false, 1, RECORDS },
    { "append", call_append, ON_LOG, true, 1, 2 * RECORDS },
    { "trim", call_trim, ON_LOG, true, RECORDS - 10, RECORDS },
    { "cut", call_cut, ON_LOG, true, 1, 7 },
    { "reset", call_reset, ON_LOG, true, 1000, 999 },
    { "cursor_set", call_cursor_set, ON_LOG, true, 1, RECORDS },
    { "cursor_get", call_cursor_get, ON_LOG, false, 1, RECORDS },
    { "cursor_remove", call_cursor_remove, ON_LOG, true, 1, RECORDS },
    { "cursor_each", call_cursor_each, ON_LOG, false, 1, RECORDS },
    { "meta_set", call_meta_set, ON_LOG, true, 1, RECORDS },
    { "meta_get", call_meta_get, ON_LOG, false, 1, RECORDS },
    { "meta_remove", call_meta_remove, ON_LOG, true, 1, RECORDS },
    { "meta_each", call_meta_each, ON_LOG, false, 1, RECORDS },
    { "stat", call_stat, ON_LOG, false, 1, RECORDS },
    { "reader_attach", call_attach, ON_LOG, false, 1, RECORDS },
    { "reader_open", call_reader_open, ON_FILES, false, 1, RECORDS },
    { "reader_next", call_next, ON_READER, false, 1, RECORDS },
    { "reader_previous", call_previous, ON_READER, false, 1, RECORDS },
    { "reader_seek_time", call_seek_time, ON_READER, false, 1, RECORDS },
    { "reader_fd", call_reader_fd, ON_READER, false, 1, RECORDS },
    { "inspect", call_inspect, ON_FILES, false, 1, RECORDS },
    { "segments", call_segments, ON_FILES, false, 1, RECORDS },
    { "verify", call_verify, ON_FILES, false, 1, RECORDS },
    { "backup", call_backup, ON_FILES, false, 1, RECORDS },
    { "repair", call_repair, ON_FILES, false, 1, RECORDS },
};

/* ---- before and after -------------------------------------------------------------------------- */

static int make_log(void)
{
    struct twinlog *log;
    int result, closed;

    remove_directory(place.log);
    result = twinlog_open(place.log, &small, &log);
    if (result < 0)
        return result;
    result = append_some(log, RECORDS);
    if (result == 0)
        result = twinlog_cursor_set(log, "cursor", 3);
    if (result == 0)
        result = twinlog_meta_set(log, "value", "twinlog", 7);
    closed = twinlog_close(log);
    return result < 0 ? result : closed;
}

static int set_stage(const struct call *call)
{
    int result = call->changes ? make_log() : 0;

    remove_directory(place.copy);
    opened = NULL;
    attached = NULL;
    if (result == 0 && call->needs != ON_FILES)
        result = twinlog_open(place.log, &small, &opened);
    if (result == 0 && call->needs == ON_READER)
        result = twinlog_reader_attach(opened, NULL, &attached);
    return result;
}

static int leave_stage(const struct call *call)
{
    if (call->needs == ON_READER)
        twinlog_reader_close(attached);
    return call->needs == ON_FILES ? 0 : twinlog_close(opened);
}

static bool is_complaint(const struct call *call, uint64_t n, const char *what, int result)
{
    printf("%s, allocation %" PRIu64 " failing: %s: %s\n", call->name, n, what, twinlog_strerror(result));
    return false;
}

/* A call that failed may be made, or not; an append may get half the way. */
static bool check_range(const struct call *call, uint64_t n, int result)
{
    struct twinlog *log;
    const int rc = twinlog_open(place.log, &small, &log);
    uint64_t first, last;
    bool is_as_before, is_made;
    int closed;

    if (rc < 0)
        return is_complaint(call, n, "the log cannot be opened afterwards", rc);
    last = twinlog_last_lsn(log);
    first = twinlog_first_lsn(log) > 0 ? twinlog_first_lsn(log) : last + 1;
    is_as_before = first == 1 && last >= RECORDS;
    is_made = first == call->first && last == call->last;
    closed = twinlog_close(log);
    if (closed < 0)
        return is_complaint(call, n, "the log cannot be closed afterwards", closed);
    if (is_made || (result < 0 && is_as_before))
        return true;
    printf("%s, allocation %" PRIu64 " failing: LSN %" PRIu64 " to %" PRIu64 " are left\n", call->name, n,
           first, last);
    return is_complaint(call, n, "it had said", result);
}

/* A log that is poisoned says so also when it is closed. */
static bool make_call(const struct call *call, uint64_t n, bool *ret_failed)
{
    const int64_t live = allocator_live();
    int result = set_stage(call), left;

    if (result < 0)
        return is_complaint(call, n, "there is no log to begin with", result);
    allocator_fail_at(n);
    result = call->call();
    allocator_fail_at(0);
    *ret_failed = allocator_has_failed();
    left = leave_stage(call);
    if (result < 0 && !(*ret_failed && (result == -ENOMEM || result == TWINLOG_EPOISONED)))
        return is_complaint(call, n, "it says", result);
    if (left < 0 && result != TWINLOG_EPOISONED)
        return is_complaint(call, n, "closing the log afterwards", left);
    if (allocator_live() != live) {
        printf("%s, allocation %" PRIu64 " failing: %" PRId64 " more are not given back\n", call->name, n,
               allocator_live() - live);
        return false;
    }
    return (!call->changes && *ret_failed) || check_range(call, n, result);
}

static bool fail_each(const struct call *call)
{
    bool has_failed = true;
    uint64_t n = 0;

    while (has_failed)
        if (n++ == MANY || !make_call(call, n, &has_failed))
            return false;
    printf("%s: %" PRIu64 " allocations, each failed once\n", call->name, n - 1);
    return true;
}

bool fail_allocations(void)
{
    bool is_fine = make_log() == 0;

    for (size_t i = 0; is_fine && i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (i > 0 && calls[i - 1].changes)
            is_fine = make_log() == 0;
        is_fine = is_fine && fail_each(&calls[i]);
    }
    return is_fine;
}
