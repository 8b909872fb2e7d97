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

static bool has_struck(const struct run *run)
{
    return simdisk_faults(failing_disk(run)) > 0;
}

/* These are no errors to the log: it tries again, as after a short write, and gives up after a while. */
static bool is_tried_again(const struct simdisk_fault *fault)
{
    return fault->error == 0 || fault->error == -EINTR || fault->error == -EAGAIN ||
           fault->error == -ECANCELED;
}

static bool may_return(const struct run *run, int result)
{
    const struct simdisk_fault *fault = &run->fault;

    if (!has_struck(run))
        return false;
    if (result == fault->error)
        return true;
    if (result == TWINLOG_EPOISONED) /* see expect_told() */
        return true;
    if (!is_tried_again(fault))
        return false;

    const bool may_be_lock = fault->op == SIM_LOCK || fault->op == SIM_ANY;
    return result == -EIO || (result == -EBUSY && may_be_lock);
}

void expect_honest(const struct run *run, int result, const char *call)
{
    if (result < 0 && !may_return(run, result))
        violation("%s returned %d (%s)", call, result, twinlog_strerror(result));
}

/* To those that look from outside a file that is locked is one that changes; they look again and again. */
static bool was_held_up(const struct run *run, int result)
{
    if (result != -EBUSY && result != -EEXIST)
        return false;
    return run->fault.error == -EAGAIN && has_struck(run);
}

/* The error says whether the log is poisoned: an errno never does. */
void expect_told(const struct run *run, int result, const char *call)
{
    const bool tells_poisoned = result == TWINLOG_EPOISONED;
    if (result < 0 && run->is_poisoned != tells_poisoned)
        violation("%s returned %s, and the log is%s poisoned", call, twinlog_strerror(result),
                  run->is_poisoned ? "" : " not");
}

void notice_poison(struct run *run)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    twinlog_stat(run->log, &stat);
    const bool is_poisoned = stat.poison != 0;

    if (run->is_poisoned && !is_poisoned)
        violation("I5: a poisoned log works again");
    if (run->is_poisoned || !is_poisoned)
        return;
    run->is_poisoned = true;
    run->poisoned_lsn = twinlog_durable_lsn(run->log);
}

void acknowledge(struct run *run, uint64_t lsn, const char *call)
{
    if (run->is_poisoned && lsn > run->poisoned_lsn)
        violation("I5: %s acknowledged LSN %" PRIu64 " after a failure at %" PRIu64, call, lsn,
                  run->poisoned_lsn);
    run->acked = max_u64(run->acked, lsn);
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
    for (unsigned i = 0; i < run->heads; ++i) {
        if (run->head[i] == head)
            return true;
    }
    return false;
}

static uint64_t highest_head(const struct run *run)
{
    uint64_t head = 0;
    for (unsigned i = 0; i < run->heads; ++i)
        head = max_u64(head, run->head[i]);
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
    run->cut[run->cuts].last = last;
    ++run->cuts;
}

/* May a truncation or a reset have left a log from `head` to `last`? */
static bool may_be_cut(const struct run *run, uint64_t head, uint64_t last)
{
    for (unsigned i = 0; i < run->cuts; ++i) {
        const bool has_head = head == run->cut[i].head || may_have_head(run, head);
        if (has_head && last == run->cut[i].last)
            return true;
    }
    return false;
}

static bool is_same(const struct named *a, const struct named *b)
{
    if (!a->is_set || !b->is_set)
        return a->is_set == b->is_set;
    return a->lsn == b->lsn && a->size == b->size && a->seed == b->seed;
}

static void add_name(struct run *run, unsigned name, struct named named)
{
    for (unsigned i = 0; i < run->name[name].count; ++i) {
        if (is_same(&run->name[name].may_be[i], &named))
            return;
    }
    check_room(run->name[name].count);
    run->name[name].may_be[run->name[name].count] = named;
    ++run->name[name].count;
}

static struct named clamped(struct named cursor, uint64_t least, uint64_t most)
{
    cursor.lsn = min_u64(max_u64(cursor.lsn, least), most);
    return cursor;
}

/* Trims and truncations may have moved the cursors. */
static void add_clamped_cursors(struct run *run, uint64_t least, uint64_t most)
{
    for (unsigned name = 0; name < CURSOR_NAMES; ++name) {
        const unsigned count = run->name[name].count; /* more are added meanwhile */
        for (unsigned i = 0; i < count; ++i)
            add_name(run, name, clamped(run->name[name].may_be[i], least, most));
    }
}

/* They have moved them. */
static void clamp_cursors(struct run *run, uint64_t least, uint64_t most)
{
    for (unsigned name = 0; name < CURSOR_NAMES; ++name) {
        for (unsigned i = 0; i < run->name[name].count; ++i) {
            struct named *cursor = &run->name[name].may_be[i];
            *cursor = clamped(*cursor, least, most);
        }
    }
}

static void settle_name(struct run *run, unsigned name, struct named named)
{
    run->name[name].may_be[0] = named;
    run->name[name].count = 1;
}

/* An opening has found this of one name: that settles which value it has. */
static void settle_found(struct run *run, unsigned name, const struct found_names *found)
{
    for (unsigned i = 0; i < run->name[name].count; ++i) {
        if (names_is(&run->name[name].may_be[i], found, name)) {
            settle_name(run, name, run->name[name].may_be[i]);
            return;
        }
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
    if (result != 0)
        return;

    for (unsigned i = 0; i < NAMES; ++i)
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
    const bool is_empty = first == 0;
    const uint64_t head = is_empty ? last + 1 : first;

    const bool has_end = last >= run->acked && last <= history_last(&run->history);
    const bool is_uncut = has_end && may_have_head(run, head);
    const bool is_cut = may_be_cut(run, head, last);
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
    struct twinlog *log = NULL;
    options.ret_report = &report;
    run->is_poisoned = false;
    run->has_barrier_failed = false;

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

    const bool has_submitted = simdisk_count(run->disk, SIM_SUBMIT) != run->submits;
    if (run->has_barrier_failed && has_submitted)
        violation("I5: something was submitted after a barrier had failed");
}

/* ---- records ------------------------------------------------------------------------------------- */

void settle_append(struct run *run, int result, uint64_t lsn, const char *call)
{
    const bool is_accepted = lsn != 0;

    expect_honest(run, result, call);
    if (result == 0 && run->is_poisoned)
        violation("I5: %s succeeded after a failure", call);
    notice_poison(run);
    if (result < 0 && is_accepted && !run->is_poisoned)
        violation("%s failed for an accepted record, and the log is not poisoned", call);
    expect_told(run, result, call);
    check_watermarks(run);
}

/* Returns the LSN of a record that was appended or enqueued with success; 0: it was not. */
static uint64_t give_record(struct run *run, size_t max_bytes,
                            int (*give)(struct twinlog *, const void *, size_t, uint64_t *), const char *call)
{
    if (!run->log)
        return 0;

    const struct fact fact = history_make(&run->history, run->disk, &run->rng, max_bytes);
    uint64_t lsn = UINT64_MAX;
    history_offer(&run->history, fact);
    const int result = give(run->log, fact.data, fact.size, &lsn);
    const bool is_accepted = lsn != 0;
    const uint64_t expected = history_settle(&run->history, is_accepted);
    if (lsn != expected || (result == 0 && !is_accepted))
        violation("%s returned %d and gave LSN %" PRIu64 ", next was %" PRIu64, call, result, lsn, expected);

    settle_append(run, result, lsn, call);
    if (result < 0)
        return 0;
    return lsn;
}

void append_record(struct run *run, size_t max_bytes)
{
    const uint64_t lsn = give_record(run, max_bytes, twinlog_append, "append");

    acknowledge(run, lsn, "append");
    /* Whatever a truncation that failed left on the disk, from here on it was not made. */
    if (lsn > 0)
        run->cuts = 0;
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

/* A trim to `head` may stop in front of a record that a cursor needs. */
static void add_heads_of_cursors(struct run *run, uint64_t head)
{
    for (unsigned name = 0; name < CURSOR_NAMES; ++name) {
        for (unsigned i = 0; i < run->name[name].count; ++i) {
            const struct named *cursor = &run->name[name].may_be[i];
            const uint64_t needed = cursor->lsn + 1;
            const bool is_between = needed > run->history.head && needed < head;
            if (cursor->is_set && is_between)
                add_head(run, needed);
        }
    }
}

/* A trim to `head` is about to be made. */
static void add_trimmed_heads(struct run *run, uint64_t head, bool is_held_by_cursors)
{
    if (head <= run->history.head)
        return;
    if (is_held_by_cursors)
        add_heads_of_cursors(run, head);
    add_head(run, head);
}

void trim_log(struct run *run, uint64_t before_lsn, uint32_t flags)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    if (!run->log)
        return;

    const uint64_t end = twinlog_durable_lsn(run->log) + 1;
    const uint64_t head = min_u64(before_lsn, end);
    options.before_lsn = before_lsn;
    options.flags = flags;
    add_trimmed_heads(run, head, !(flags & TWINLOG_TRIM_PAST_CURSORS));
    add_clamped_cursors(run, head - 1, UINT64_MAX);

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

/* In front of `last` + 1 there may be nothing to truncate: a trim that failed may have moved the head. */
static bool may_be_trimmed(const struct run *run, uint64_t last)
{
    return highest_head(run) > last + 1;
}

/* In memory the truncation shows by the last LSN. Only when its segment is durable may it show at all. */
static void remove_from_end(struct run *run, uint64_t head, uint64_t last, bool is_reset)
{
    const uint64_t old_last = history_last(&run->history);
    const char *call = is_reset ? "reset" : "cut";
    add_cut(run, head, last);
    add_clamped_cursors(run, head - 1, last);

    int result;
    if (is_reset)
        result = twinlog_reset(run->log, head);
    else
        result = twinlog_truncate(run->log, last);
    notice_poison(run);
    const bool is_excused = result == TWINLOG_ETRIMMED && !is_reset && may_be_trimmed(run, last);
    if (!is_excused)
        expect_honest(run, result, call);

    const uint64_t now_last = twinlog_last_lsn(run->log);
    if (result == 0 && now_last != last)
        violation("after a %s the last LSN is %" PRIu64 ", not %" PRIu64, call, now_last, last);

    if (is_reset && now_last == last)
        settle_head(run, head);
    notice_head(run);
    if (result == 0)
        clamp_cursors(run, run->history.head - 1, last);

    const bool shows = now_last == last && now_last != old_last;
    if (result == 0 || shows) {
        settle_end(run, run->history.head, last);
        run->poisoned_lsn = last; /* it was poisoned behind the truncation, if at all */
    }
    check_watermarks(run);
}

void truncate_log(struct run *run, uint64_t last_lsn)
{
    if (!run->log)
        return;
    const bool has_records = last_lsn < history_last(&run->history);
    const bool is_trimmed = last_lsn + 1 < run->history.head;
    if (has_records && !is_trimmed)
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
    return result == -ENOENT && has_struck(run);
}

static void change_name(struct run *run, struct twinlog *log, unsigned name, struct named named)
{
    if (!log)
        return;

    add_name(run, name, named);
    const int result = names_change(log, name, &named);
    const bool is_missing = !named.is_set && result == -ENOENT;
    const bool is_excused = is_missing && may_be_missing(run, result);
    if (!is_excused)
        expect_honest(run, result, named.is_set ? "setting a name" : "removing a name");
    if (result == 0 || is_missing)
        settle_name(run, name, named);
}

void set_cursor(struct run *run, unsigned cursor, uint64_t lsn)
{
    if (!run->log)
        return;
    const bool is_trimmed = lsn + 1 < run->history.head;
    const bool is_durable = lsn <= twinlog_durable_lsn(run->log);
    if (!is_trimmed && is_durable)
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

static void add_to_sight(struct sight *sight, uint64_t lsn)
{
    if (sight->is_empty)
        sight->first = lsn;
    sight->last = lsn;
    sight->is_empty = false;
}

/* Reads to the end, or to an error, and closes the reader. */
static struct sight read_all(const struct run *run, struct twinlog_reader *reader, const char *name)
{
    struct sight sight = { .is_empty = true };
    struct twinlog_record record;
    int result;

    while ((result = twinlog_reader_next(reader, &record)) == 1) {
        if (!sight.is_empty && record.lsn != history_next(&run->history, sight.last + 1))
            violation("O2: %s returned LSN %" PRIu64 " behind %" PRIu64, name, record.lsn, sight.last);
        history_check(&run->history, &record, name);
        add_to_sight(&sight, record.lsn);
    }
    if (result < 0 && twinlog_reader_next(reader, &record) != result)
        violation("%s returned an error once, and then another result", name);

    twinlog_reader_close(reader);
    sight.error = result;
    return sight;
}

/* Is that all that there is from `head` to `durable`? */
static bool is_everything(const struct run *run, const struct sight *sight, uint64_t head, uint64_t durable)
{
    if (sight->is_empty)
        return durable < head;
    return sight->first == head && sight->last == history_before(&run->history, durable);
}

void read_attached(struct run *run)
{
    struct twinlog_reader *reader = NULL;
    if (!run->log)
        return;

    const uint64_t head = run->history.head, durable = twinlog_durable_lsn(run->log);
    struct sight sight = { .error = twinlog_reader_attach(run->log, NULL, &reader) };
    if (sight.error == 0)
        sight = read_all(run, reader, "an attached reader");
    expect_honest(run, sight.error, "an attached reader");
    if (sight.error == 0 && !is_everything(run, &sight, head, durable))
        violation("O8: an attached reader returned LSN %" PRIu64 " to %" PRIu64 ", durable were %" PRIu64
                  " to %" PRIu64,
                  sight.first, sight.last, head, durable);
}

/* Somebody saw records. */
static void check_seen_records(struct run *run, const struct sight *sight, const char *name)
{
    uint64_t limit = history_last(&run->history);
    if (run->log)
        limit = twinlog_durable_lsn(run->log);
    if (sight->last > limit)
        violation("O8: %s told of LSN %" PRIu64 ", durable were at most %" PRIu64, name, sight->last, limit);

    const bool is_cut = may_be_cut(run, sight->first, sight->last);
    if (!may_have_head(run, sight->first) && !is_cut)
        violation("%s told of LSN %" PRIu64 " as the first", name, sight->first);
}

/* The log is closed: somebody saw all that was acknowledged, unless it was truncated. */
static void check_all_is_seen(struct run *run, const struct sight *sight, const char *name)
{
    bool is_short, may_be_short;

    if (sight->is_empty) {
        is_short = run->acked >= highest_head(run);
        may_be_short = run->cuts > 0;
    } else {
        is_short = sight->last < run->acked;
        may_be_short = may_be_cut(run, sight->first, sight->last);
    }
    if (is_short && !may_be_short)
        violation("O1: %s told of LSN %" PRIu64 " at most, acknowledged were %" PRIu64, name, sight->last,
                  run->acked);
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

    if (!sight->is_empty)
        check_seen_records(run, sight, name);
    if (!run->log)
        check_all_is_seen(run, sight, name);
}

void read_outside(struct run *run)
{
    const struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    struct sight sight = { 0 };

    sight.error = twl_reader_open(simdisk_connect(run->disk), &options, &reader);
    if (sight.error == 0)
        sight = read_all(run, reader, "a reader in another process");
    check_outside(run, &sight, "a reader in another process");
}

/* `result` is what was returned, and `record` if anything was. */
static void expect_record(const struct run *run, int result, const struct twinlog_record *record,
                          uint64_t lsn, const char *name)
{
    expect_honest(run, result, name);
    if (result < 0)
        return;

    if (result == 0)
        violation("O1: %s found nothing, it was to be LSN %" PRIu64, name, lsn);
    if (record->lsn != lsn)
        violation("O2: %s found LSN %" PRIu64 ", it was to be %" PRIu64, name, record->lsn, lsn);
    history_check(&run->history, record, name);
}

static void step_back_from_end(struct run *run, struct twinlog_reader *reader, uint64_t durable)
{
    struct twinlog_record record;

    const int error = twinlog_reader_seek_end(reader);
    if (error < 0) {
        expect_honest(run, error, "a seek to the end");
        return;
    }
    const int result = twinlog_reader_previous(reader, &record);
    expect_record(run, result, &record, durable, "a step back from the end");
}

/* Back from the end, then to a time, then to an LSN. */
void seek_around(struct run *run)
{
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;
    if (!run->log)
        return;
    const uint64_t head = run->history.head, durable = twinlog_durable_lsn(run->log);
    if (durable < head)
        return;
    if (twinlog_reader_attach(run->log, NULL, &reader) < 0)
        return;

    const uint64_t middle = head + (durable - head) / 2;
    const int64_t time_ns = history_fact(&run->history, middle)->time_ns;
    const uint64_t first_of_time = history_find_time(&run->history, head, durable, time_ns);
    step_back_from_end(run, reader, durable);

    twinlog_reader_seek_time(reader, time_ns);
    int result = twinlog_reader_next(reader, &record);
    expect_record(run, result, &record, first_of_time, "a seek to a time");

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
    const bool is_started = segment->state <= TWINLOG_SEGMENT_ACTIVE;
    const bool has_records = segment->first_lsn > 0;
    if (!is_started || !has_records)
        return 0;

    add_to_sight(sight, segment->first_lsn);
    sight->last = segment->last_lsn;
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

/* The copy that is opened as `log` has all that was durable when the backup began. */
static void check_copied_records(struct run *run, struct twinlog *log)
{
    struct twinlog_reader *reader = NULL;
    const int result = twinlog_reader_attach(log, NULL, &reader);
    if (result < 0)
        violation("a copy can't be read: %s", twinlog_strerror(result));

    const struct sight sight = read_all(run, reader, "a reader of a copy");
    bool is_right = sight.last >= run->to_copy;
    if (sight.is_empty)
        is_right = run->to_copy < highest_head(run);
    if (sight.error < 0 || !is_right)
        violation("O1: a copy has LSN %" PRIu64 " to %" PRIu64 ", durable were %" PRIu64 ": %s", sight.first,
                  sight.last, run->to_copy, twinlog_strerror(sight.error));
}

void check_copy(struct run *run, struct simdisk *copy, bool is_finished)
{
    struct twinlog *log = NULL;
    struct twinlog_options options = run->options;
    struct twinlog_report report = { 0 };
    const bool is_begun = simdisk_has_file(copy, STATE_NAME);
    options.ret_report = &report;

    const int result = twl_log_open(simdisk_connect(copy), &options, &log);
    const bool is_new = result == 0 && report.finding == TWINLOG_FOUND_NEW_LOG;
    if (is_finished && (result < 0 || is_new))
        violation("a finished copy can't be opened: %s: %s", twinlog_strerror(result), report.text);
    if (is_new && is_begun)
        violation("an interrupted copy was taken for a new log");
    if (result < 0)
        return;

    if (!is_new)
        check_copied_records(run, log);
    if (twinlog_close(log) < 0)
        violation("a copy could not be closed");
}

/* What is durable when a backup begins must be in the copy. */
static uint64_t lsn_to_copy(const struct run *run)
{
    if (!run->log)
        return run->acked;
    return twinlog_durable_lsn(run->log);
}

/* To `copy`, of which a power cut is taken afterwards. */
static void back_up_to(struct run *run, struct simdisk *copy)
{
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result details = TWINLOG_BACKUP_RESULT_INIT;

    run->to_copy = lsn_to_copy(run);
    const int result = twl_backup(simdisk_connect(run->disk), simdisk_connect(copy), &options, &details);

    /* Without the writer's page the markers in the log tell what is durable, and the last group has none yet. */
    if (run->log && simdisk_faults(run->disk) > 0)
        run->to_copy = run->history.head - 1;
    const bool is_without_log = result == -ENOENT && !run->exists;
    if (!is_without_log && !was_held_up(run, result))
        expect_honest(run, result, "a backup");

    const bool is_finished = result == 0;
    struct simdisk *image = simdisk_crash_image(copy, is_finished ? SIM_CUT_NONE : SIM_CUT_RANDOM, 0);
    check_copy(run, image, is_finished);
    simdisk_destroy(image);
}

void back_up(struct run *run)
{
    if (run->target) {
        back_up_to(run, run->target);
        return;
    }
    struct simdisk *copy = simdisk_create(&(struct simdisk_options){ .has_direct = true });
    back_up_to(run, copy);
    simdisk_destroy(copy);
}
