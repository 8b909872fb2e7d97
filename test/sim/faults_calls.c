/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the library on a disk that fails: each returns what the fault explains, or does what it should.
 *
 * What a call may leave behind is noted before it is made, because crash images are taken in the middle of it.
 */
#include "faults.h"

#include "control/state.h"

#include <errno.h>
#include <inttypes.h>

/* ---- honesty ------------------------------------------------------------------------------------- */

static bool may_return(const struct run *run, int result)
{
    const struct simdisk_fault *fault = &run->fault;
    if (simdisk_faults(failing_disk(run)) == 0)
        return false;
    if (result == fault->error || result == TWINLOG_EPOISONED) /* see expect_told() */
        return true;
    if (fault->error == 0 || fault->error == -EINTR || fault->error == -EAGAIN || fault->error == -ECANCELED)
        return result == -EIO || (result == -EBUSY && (fault->op == SIM_LOCK ||
                                                       fault->op == SIM_ANY)); /* tried again for too long */
    return false;
}

void expect_honest(const struct run *run, int result, const char *call)
{
    if (result < 0 && !may_return(run, result))
        violation("%s returned %d (%s)", call, result, twinlog_strerror(result));
}

/* To those that look from outside a file that is locked is one that changes; they look again and again. */
static bool was_held_up(const struct run *run, int result)
{
    return (result == -EBUSY || result == -EEXIST) && run->fault.error == -EAGAIN &&
           simdisk_faults(failing_disk(run)) > 0;
}

/* The error says whether the log is poisoned: an errno never does. */
void expect_told(const struct run *run, int result, const char *call)
{
    if (result < 0 && run->is_poisoned != (result == TWINLOG_EPOISONED))
        violation("%s returned %s, and the log is%s poisoned", call, twinlog_strerror(result),
                  run->is_poisoned ? "" : " not");
}

void notice_poison(struct run *run)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    twinlog_stat(run->log, &stat);
    if (stat.poison == 0 && run->is_poisoned)
        violation("I5: a poisoned log works again");
    if (stat.poison == 0 || run->is_poisoned)
        return;
    run->is_poisoned = true;
    run->poisoned_lsn = twinlog_durable_lsn(run->log);
}

void acknowledge(struct run *run, uint64_t lsn, const char *call)
{
    if (run->is_poisoned && lsn > run->poisoned_lsn)
        violation("I5: %s acknowledged LSN %" PRIu64 " after a failure at %" PRIu64, call, lsn,
                  run->poisoned_lsn);
    if (lsn > run->acked)
        run->acked = lsn;
}

static void check_watermarks(struct run *run)
{
    if (twinlog_last_lsn(run->log) != history_last(&run->history))
        violation("the last LSN is %" PRIu64 ", accepted were records up to %" PRIu64,
                  twinlog_last_lsn(run->log), history_last(&run->history));
    acknowledge(run, twinlog_durable_lsn(run->log), "the durable LSN");
}

/* ---- what may be --------------------------------------------------------------------------------- */

void begin_run(struct run *run)
{
    run->head[0] = run->history.head;
    run->heads = 1;
    for (unsigned i = 0; i < NAMES; ++i)
        run->name[i].count = 1;
}

static void check_room(unsigned count)
{
    if (count == MAX_POSSIBLE)
        violation("the script leaves more open than there is room for");
}

static bool may_have_head(const struct run *run, uint64_t head)
{
    for (unsigned i = 0; i < run->heads; ++i)
        if (run->head[i] == head)
            return true;
    return false;
}

static uint64_t highest_head(const struct run *run)
{
    uint64_t head = 0;
    for (unsigned i = 0; i < run->heads; ++i)
        head = run->head[i] > head ? run->head[i] : head;
    return head;
}

static void add_head(struct run *run, uint64_t head)
{
    if (may_have_head(run, head))
        return;
    check_room(run->heads);
    run->head[run->heads++] = head;
}

static void add_cut(struct run *run, uint64_t head, uint64_t last)
{
    check_room(run->cuts);
    run->cut[run->cuts].head = head;
    run->cut[run->cuts++].last = last;
}

/* `is_empty`: no record was left, and the LSNs are not known. */
static bool may_be_cut(const struct run *run, bool is_empty, uint64_t head, uint64_t last)
{
    for (unsigned i = 0; i < run->cuts; ++i)
        if (is_empty || (last == run->cut[i].last && (head == run->cut[i].head || may_have_head(run, head))))
            return true;
    return false;
}

static bool is_same(const struct named *a, const struct named *b)
{
    return a->is_set == b->is_set &&
           (!a->is_set || (a->lsn == b->lsn && a->size == b->size && a->seed == b->seed));
}

static void add_name(struct run *run, unsigned name, struct named named)
{
    for (unsigned i = 0; i < run->name[name].count; ++i)
        if (is_same(&run->name[name].may_be[i], &named))
            return;
    check_room(run->name[name].count);
    run->name[name].may_be[run->name[name].count++] = named;
}

/* Trims and truncations may have moved the cursors. */
static void add_clamped_cursors(struct run *run, uint64_t least, uint64_t most)
{
    for (unsigned name = 0; name < CURSOR_NAMES; ++name)
        for (unsigned i = 0, count = run->name[name].count; i < count; ++i) {
            struct named cursor = run->name[name].may_be[i];
            cursor.lsn = min_u64(max_u64(cursor.lsn, least), most);
            add_name(run, name, cursor);
        }
}

static void clamp_cursors(struct run *run, uint64_t least, uint64_t most)
{
    for (unsigned name = 0; name < CURSOR_NAMES; ++name)
        for (unsigned i = 0; i < run->name[name].count; ++i) {
            struct named *cursor = &run->name[name].may_be[i];
            cursor->lsn = min_u64(max_u64(cursor->lsn, least), most);
        }
}

static void settle_name(struct run *run, unsigned name, struct named named)
{
    run->name[name].may_be[0] = named;
    run->name[name].count = 1;
}

static void settle_found(struct run *run, unsigned name, const struct found_names *found)
{
    for (unsigned i = 0; i < run->name[name].count; ++i)
        if (names_is(&run->name[name].may_be[i], found, name)) {
            settle_name(run, name, run->name[name].may_be[i]);
            return;
        }
    violation("O4: name %u is %s at LSN %" PRIu64 " or has %zu bytes, as it was never to be", name,
              found->at[name].is_set ? "set" : "not set", found->at[name].lsn, found->at[name].size);
}

/* ---- opening and closing ------------------------------------------------------------------------- */

static void settle_names(struct run *run)
{
    struct found_names found;
    const int result = names_read(run->log, &found);
    expect_honest(run, result, "reading the names");
    for (unsigned i = 0; i < NAMES && result == 0; ++i)
        settle_found(run, i, &found);
}

static void settle_head(struct run *run, uint64_t head)
{
    run->head[0] = head;
    run->heads = 1;
}

static void settle_end(struct run *run, uint64_t head, uint64_t last)
{
    history_move(&run->history, head, last);
    run->acked = last;
    run->cuts = 0;
}

static void settle_records(struct run *run)
{
    const uint64_t first = twinlog_first_lsn(run->log), last = twinlog_last_lsn(run->log);
    const uint64_t head = first > 0 ? first : last + 1;
    const bool is_uncut =
        last >= run->acked && last <= history_last(&run->history) && may_have_head(run, head);
    const bool is_cut = may_be_cut(run, false, head, last);
    if (!is_uncut && !is_cut)
        violation("O1: open found LSN %" PRIu64 " to %" PRIu64 ", acknowledged were %" PRIu64
                  ", accepted %" PRIu64,
                  head, last, run->acked, history_last(&run->history));
    if (is_cut)
        add_clamped_cursors(run, head - 1, last);
    settle_end(run, head, last);
    settle_head(run, head);
}

void open_log(struct run *run)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = run->options;
    options.ret_report = &report;
    run->is_poisoned = false;
    run->has_barrier_failed = false;
    struct twinlog *log = NULL;
    const int result = twl_log_open(simdisk_connect(run->disk), &options, &log);
    if (result < 0) {
        ++refused_opens;
        expect_honest(run, result, "open");
        return;
    }
    run->log = log;
    run->exists = true;
    settle_records(run);
    settle_names(run);
    check_watermarks(run);
}

void close_log(struct run *run)
{
    if (!run->log)
        return;
    check_watermarks(run);
    const int result = twinlog_close(run->log);
    run->log = NULL;
    expect_honest(run, result, "close");
    if (result == 0)
        acknowledge(run, history_last(&run->history), "close");
    if (run->has_barrier_failed && simdisk_count(run->disk, SIM_SUBMIT) != run->submits)
        violation("I5: something was submitted after a barrier had failed");
}

/* ---- records ------------------------------------------------------------------------------------- */

void settle_append(struct run *run, int result, uint64_t lsn, const char *call)
{
    expect_honest(run, result, call);
    if (result == 0 && run->is_poisoned)
        violation("I5: %s succeeded after a failure", call);
    notice_poison(run);
    if (result < 0 && lsn != 0 && !run->is_poisoned)
        violation("%s failed for an accepted record, and the log is not poisoned", call);
    expect_told(run, result, call);
    check_watermarks(run);
}

static uint64_t give_record(struct run *run, size_t max_bytes,
                            int (*give)(struct twinlog *, const void *, size_t, uint64_t *), const char *call)
{
    if (!run->log)
        return 0;
    const struct fact fact = history_make(&run->history, run->disk, &run->rng, max_bytes);
    uint64_t lsn = UINT64_MAX;
    history_offer(&run->history, fact);
    const int result = give(run->log, fact.data, fact.size, &lsn);
    const uint64_t expected = history_settle(&run->history, lsn != 0);
    if (lsn != expected || (lsn == 0 && result == 0))
        violation("%s returned %d and gave LSN %" PRIu64 ", next was %" PRIu64, call, result, lsn, expected);
    settle_append(run, result, lsn, call);
    return result == 0 ? lsn : 0;
}

/* Whatever a truncation that failed left on the disk, from here on it was not made. */
void append_record(struct run *run, size_t max_bytes)
{
    const uint64_t lsn = give_record(run, max_bytes, twinlog_append, "append");
    acknowledge(run, lsn, "append");
    run->cuts = lsn == 0 ? run->cuts : 0;
}

void enqueue_record(struct run *run)
{
    give_record(run, 2000, twinlog_enqueue, "enqueue");
}

void sync_log(struct run *run)
{
    if (!run->log)
        return;
    const int result = twinlog_sync(run->log);
    expect_honest(run, result, "sync");
    notice_poison(run);
    if (result == 0)
        acknowledge(run, history_last(&run->history), "sync");
    else if (!run->is_poisoned)
        violation("sync failed, and the log is not poisoned");
    expect_told(run, result, "sync");
    check_watermarks(run);
}

/* ---- removing ------------------------------------------------------------------------------------ */

/* A trim that failed may have moved the head all the same, and a truncation finds out. */
static void notice_head(struct run *run)
{
    const uint64_t head = head_of(run->log);
    if (!may_have_head(run, head))
        violation("the log begins at LSN %" PRIu64 ", where no trim was to bring it", head);
    run->history.head = head;
}

/* A cursor may have held it. */
static void add_trimmed_heads(struct run *run, uint64_t head, bool is_held)
{
    if (head <= run->history.head)
        return;
    for (unsigned name = 0; name < CURSOR_NAMES && is_held; ++name)
        for (unsigned i = 0; i < run->name[name].count; ++i) {
            const struct named *cursor = &run->name[name].may_be[i];
            if (cursor->is_set && cursor->lsn + 1 < head && cursor->lsn + 1 > run->history.head)
                add_head(run, cursor->lsn + 1);
        }
    add_head(run, head);
}

void trim_log(struct run *run, uint64_t before_lsn, uint32_t flags)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    if (!run->log)
        return;
    const uint64_t end = twinlog_durable_lsn(run->log) + 1;
    options.before_lsn = before_lsn;
    options.flags = flags;
    add_trimmed_heads(run, before_lsn < end ? before_lsn : end, !(flags & TWINLOG_TRIM_PAST_CURSORS));
    add_clamped_cursors(run, before_lsn < end ? before_lsn - 1 : end - 1, UINT64_MAX);
    const int error = twinlog_trim(run->log, &options, &result);
    expect_honest(run, error, "trim");
    notice_head(run);
    if (error == 0 && result.first_lsn != run->history.head)
        violation("a trim says that the log begins at LSN %" PRIu64 ", it does at %" PRIu64, result.first_lsn,
                  run->history.head);
    if (error == 0) {
        settle_head(run, run->history.head);
        clamp_cursors(run, run->history.head - 1, UINT64_MAX);
    }
    check_watermarks(run);
}

/* In memory the truncation shows by the last LSN. Only when its segment is durable may it show at all. */
static void remove_from_end(struct run *run, uint64_t head, uint64_t last, bool is_reset)
{
    const uint64_t old_last = history_last(&run->history);
    const char *call = is_reset ? "reset" : "cut";
    add_cut(run, head, last);
    add_clamped_cursors(run, head - 1, last);
    const int result = is_reset ? twinlog_reset(run->log, head) : twinlog_truncate(run->log, last);
    notice_poison(run);
    if (result != TWINLOG_ETRIMMED || is_reset || highest_head(run) <= last + 1)
        expect_honest(run, result, call);
    const uint64_t now_last = twinlog_last_lsn(run->log);
    if (result == 0 && now_last != last)
        violation("after a %s the last LSN is %" PRIu64 ", not %" PRIu64, call, now_last, last);
    if (is_reset && now_last == last)
        settle_head(run, head);
    notice_head(run);
    if (result == 0)
        clamp_cursors(run, run->history.head - 1, last);
    if (result == 0 || (now_last == last && now_last != old_last)) {
        settle_end(run, run->history.head, last);
        run->poisoned_lsn = last; /* it was poisoned behind the truncation, if at all */
    }
    check_watermarks(run);
}

void truncate_log(struct run *run, uint64_t last_lsn)
{
    if (run->log && last_lsn < history_last(&run->history) && last_lsn + 1 >= run->history.head)
        remove_from_end(run, run->history.head, last_lsn, false);
}

void reset_log(struct run *run, uint64_t next_lsn)
{
    if (run->log)
        remove_from_end(run, next_lsn, next_lsn - 1, true);
}

/* ---- names --------------------------------------------------------------------------------------- */

/* A name that is not there is no lie where an earlier call has failed. */
static bool may_be_missing(const struct run *run, int result)
{
    return result == -ENOENT && simdisk_faults(failing_disk(run)) > 0;
}

static void change_name(struct run *run, struct twinlog *log, unsigned name, struct named named)
{
    if (!log)
        return;
    add_name(run, name, named);
    const int result = names_change(log, name, &named);
    if (named.is_set || !may_be_missing(run, result))
        expect_honest(run, result, named.is_set ? "setting a name" : "removing a name");
    if (result == 0 || (!named.is_set && result == -ENOENT))
        settle_name(run, name, named);
}

void set_cursor(struct run *run, unsigned cursor, uint64_t lsn)
{
    if (run->log && lsn + 1 >= run->history.head && lsn <= twinlog_durable_lsn(run->log))
        change_name(run, run->log, cursor, (struct named){ .is_set = true, .lsn = lsn });
}

static void set_value_by(struct run *run, struct twinlog *log, unsigned value, size_t size)
{
    if (log)
        change_name(run, log, CURSOR_NAMES + value,
                    (struct named){ .is_set = true, .size = size, .seed = rng_next(&run->rng) });
}

void set_value(struct run *run, unsigned value, size_t size)
{
    set_value_by(run, run->log, value, size);
}

void remove_name(struct run *run, unsigned name)
{
    change_name(run, run->log, name, (struct named){ .is_set = false });
}

void set_value_outside(struct run *run, unsigned value, size_t size)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log = NULL;
    options.flags = TWINLOG_READ_ONLY;
    const int result = twl_log_open(simdisk_connect(run->disk), &options, &log);
    if (result == -ENOENT && !run->exists)
        return;
    expect_honest(run, result, "opening the log to set a value");
    if (result < 0)
        return;
    set_value_by(run, log, value, size);
    twinlog_close(log);
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* What somebody saw of the log. */
struct sight {
    int error;
    bool is_empty;
    uint64_t first, last;
};

static struct sight read_all(const struct run *run, struct twinlog_reader *reader, const char *name)
{
    struct sight sight = { .is_empty = true };
    struct twinlog_record record;
    while ((sight.error = twinlog_reader_next(reader, &record)) == 1) {
        if (!sight.is_empty && record.lsn != history_next(&run->history, sight.last + 1))
            violation("O2: %s returned LSN %" PRIu64 " behind %" PRIu64, name, record.lsn, sight.last);
        history_check(&run->history, &record, name);
        sight.first = sight.is_empty ? record.lsn : sight.first;
        sight.last = record.lsn;
        sight.is_empty = false;
    }
    if (sight.error < 0 && twinlog_reader_next(reader, &record) != sight.error)
        violation("%s returned an error once, and then another result", name);
    twinlog_reader_close(reader);
    return sight;
}

void read_attached(struct run *run)
{
    struct twinlog_reader *reader = NULL;
    if (!run->log)
        return;
    const uint64_t head = run->history.head, durable = twinlog_durable_lsn(run->log);
    int result = twinlog_reader_attach(run->log, NULL, &reader);
    struct sight sight = { .error = result };
    if (result == 0)
        sight = read_all(run, reader, "an attached reader");
    expect_honest(run, sight.error, "an attached reader");
    const bool is_right = sight.is_empty
                              ? durable < head
                              : sight.first == head && sight.last == history_before(&run->history, durable);
    if (sight.error == 0 && !is_right)
        violation("O8: an attached reader returned LSN %" PRIu64 " to %" PRIu64 ", durable were %" PRIu64
                  " to %" PRIu64,
                  sight.first, sight.last, head, durable);
}

/* From outside, where a writer may be at work or not. Of a log that is open it must not see too much, of
 * one that is closed not too little. */
static void check_outside(struct run *run, const struct sight *sight, const char *name)
{
    if (sight->error == -ENOENT && !run->exists)
        return;
    expect_honest(run, sight->error, name);
    if (sight->error < 0)
        return;
    const uint64_t limit = run->log ? twinlog_durable_lsn(run->log) : history_last(&run->history);
    const bool is_cut = may_be_cut(run, sight->is_empty, sight->first, sight->last);
    if (!sight->is_empty && sight->last > limit)
        violation("O8: %s told of LSN %" PRIu64 ", durable were at most %" PRIu64, name, sight->last, limit);
    if (!sight->is_empty && !may_have_head(run, sight->first) && !is_cut)
        violation("%s told of LSN %" PRIu64 " as the first", name, sight->first);
    const bool is_short = sight->is_empty ? run->acked >= highest_head(run) : sight->last < run->acked;
    if (!run->log && is_short && !is_cut)
        violation("O1: %s told of LSN %" PRIu64 " at most, acknowledged were %" PRIu64, name, sight->last,
                  run->acked);
}

void read_outside(struct run *run)
{
    struct twinlog_reader *reader = NULL;
    struct sight sight = { 0 };
    sight.error = twl_reader_open(simdisk_connect(run->disk),
                                  &(struct twinlog_reader_options)TWINLOG_READER_OPTIONS_INIT, &reader);
    if (sight.error == 0)
        sight = read_all(run, reader, "a reader in another process");
    check_outside(run, &sight, "a reader in another process");
}

/* Back from the end, then to a time; `result` is what was returned, if anything was. */
static void expect_record(const struct run *run, int result, const struct twinlog_record *record,
                          uint64_t lsn, const char *name)
{
    expect_honest(run, result, name);
    if (result == 0)
        violation("O1: %s found nothing, it was to be LSN %" PRIu64, name, lsn);
    if (result == 1 && record->lsn != lsn)
        violation("O2: %s found LSN %" PRIu64 ", it was to be %" PRIu64, name, record->lsn, lsn);
    if (result == 1)
        history_check(&run->history, record, name);
}

void seek_around(struct run *run)
{
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;
    if (!run->log)
        return;
    const uint64_t head = run->history.head, durable = twinlog_durable_lsn(run->log);
    if (durable < head || twinlog_reader_attach(run->log, NULL, &reader) < 0)
        return;
    const uint64_t middle = head + (durable - head) / 2;
    const int64_t time_ns = history_fact(&run->history, middle)->time_ns;
    int result = twinlog_reader_seek_end(reader);
    if (result == 0)
        result = twinlog_reader_previous(reader, &record);
    else
        expect_honest(run, result, "a seek to the end");
    if (result >= 0)
        expect_record(run, result, &record, durable, "a step back from the end");
    twinlog_reader_seek_time(reader, time_ns);
    result = twinlog_reader_next(reader, &record);
    expect_record(run, result, &record, history_find_time(&run->history, head, durable, time_ns),
                  "a seek to a time");
    twinlog_reader_seek(reader, middle);
    result = twinlog_reader_next(reader, &record);
    expect_record(run, result, &record, middle, "a seek to an LSN");
    twinlog_reader_close(reader);
}

void inspect_log(struct run *run)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const int result = twl_inspect(simdisk_connect(run->disk), &inspection);
    const struct sight sight = { .error = result < 0 ? result : inspection.report.error,
                                 .is_empty = inspection.first_lsn == 0,
                                 .first = inspection.first_lsn,
                                 .last = inspection.last_lsn };
    check_outside(run, &sight, "inspect");
}

static int expect_nothing(void *context, const struct twinlog_report *finding)
{
    expect_honest(context, finding->error, "a finding of verify");
    return 0;
}

void verify_log(struct run *run)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    uint64_t records = 0;
    options.each = expect_nothing;
    options.context = run;
    const int result = twl_verify(simdisk_connect(run->disk), &options, &records);
    if (result == -ENOENT && !run->exists)
        return;
    expect_honest(run, result, "verify");
    if (result == 0 && records > history_last(&run->history))
        violation("verify counted %" PRIu64 " records, accepted were %" PRIu64, records,
                  history_last(&run->history));
}

static int see_segment(void *context, const struct twinlog_segment *segment)
{
    struct sight *sight = context;
    if (segment->state > TWINLOG_SEGMENT_ACTIVE || segment->first_lsn == 0)
        return 0;
    sight->first = sight->is_empty ? segment->first_lsn : sight->first;
    sight->last = segment->last_lsn;
    sight->is_empty = false;
    return 0;
}

void list_log(struct run *run)
{
    struct sight sight = { .is_empty = true };
    sight.error = twl_segments(simdisk_connect(run->disk), see_segment, &sight);
    if (!was_held_up(run, sight.error))
        check_outside(run, &sight, "the list of segments");
}

/* ---- copies -------------------------------------------------------------------------------------- */

static void check_copied_records(struct run *run, struct twinlog *log)
{
    struct twinlog_reader *reader = NULL;
    const int result = twinlog_reader_attach(log, NULL, &reader);
    if (result < 0)
        violation("a copy can't be read: %s", twinlog_strerror(result));
    const struct sight sight = read_all(run, reader, "a reader of a copy");
    const bool is_right = sight.is_empty ? run->to_copy < highest_head(run) : sight.last >= run->to_copy;
    if (sight.error < 0 || !is_right)
        violation("O1: a copy has LSN %" PRIu64 " to %" PRIu64 ", durable were %" PRIu64 ": %s", sight.first,
                  sight.last, run->to_copy, twinlog_strerror(sight.error));
}

void check_copy(struct run *run, struct simdisk *copy, bool is_finished)
{
    struct twinlog *log = NULL;
    struct twinlog_options options = run->options;
    struct twinlog_report report = { 0 };
    const bool is_started = simdisk_has_file(copy, STATE_NAME);
    options.ret_report = &report;
    const int result = twl_log_open(simdisk_connect(copy), &options, &log);
    const bool is_new = result == 0 && report.finding == TWINLOG_FOUND_NEW_LOG;
    if (is_finished && (result < 0 || is_new))
        violation("a finished copy can't be opened: %s: %s", twinlog_strerror(result), report.text);
    if (is_new && is_started)
        violation("an interrupted copy was taken for a new log");
    if (result == 0 && !is_new)
        check_copied_records(run, log);
    if (result == 0 && twinlog_close(log) < 0)
        violation("a copy could not be closed");
}

void back_up(struct run *run)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result details = TWINLOG_BACKUP_RESULT_INIT;
    const struct simdisk_options healthy = { .has_direct = true };
    struct simdisk *copy = run->target ? run->target : simdisk_create(&healthy);
    run->to_copy = run->log ? twinlog_durable_lsn(run->log) : run->acked;
    const int result = twl_backup(simdisk_connect(run->disk), simdisk_connect(copy), &options, &details);
    /* without the writer's page the markers in the log tell what is durable, and the last group has none
     * yet */
    if (run->log && simdisk_faults(run->disk) > 0)
        run->to_copy = run->history.head - 1;
    const bool is_without_log = result == -ENOENT && !run->exists;
    if (!is_without_log && !was_held_up(run, result))
        expect_honest(run, result, "a backup");
    struct simdisk *image = simdisk_crash_image(copy, result == 0 ? SIM_CUT_NONE : SIM_CUT_RANDOM, 0);
    check_copy(run, image, result == 0);
    simdisk_destroy(image);
    if (!run->target)
        simdisk_destroy(copy);
}
