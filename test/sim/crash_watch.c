/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers beside the writer, in its process and in others.
 *
 * They stand anywhere in the log while it is written, trimmed, truncated and recycled, and move now and then: between
 * the writer's calls and in the middle of one. What they return is judged by what is known of the log at that moment.
 * An error is right only if there is a reason for it: a record that is gone, or one that the reader has returned and
 * that was truncated since. In the middle of a trim or a truncation both answers are right.
 */
#include "crash.h"

#include <errno.h>
#include <inttypes.h>

static const char *describe(const struct watcher *w)
{
    return w->is_attached ? "an attached reader" : "a reader in another process";
}

/* ---- what is known ------------------------------------------------------------------------------- */

/* The head may be there or before. While a trim or a reset is in progress it may be at either place; where retention
 * moves it, nobody is told before it is done. */
static uint64_t highest_head(const struct machine *machine)
{
    uint64_t head = machine->history.head;
    if (has_retention(machine))
        head = machine->acked + 1;
    if (machine->attempt)
        head = max_u64(head, machine->attempt->head);
    return head;
}

/* Is it the first record of the log, as far as anybody may know? */
static bool may_be_first(const struct machine *machine, uint64_t lsn)
{
    const struct history *history = &machine->history;

    if (lsn == history_next(history, history->head))
        return true;
    if (machine->attempt && lsn == history_next(history, machine->attempt->head))
        return true;

    const bool may_be_moving = has_retention(machine);
    return may_be_moving && lsn > history->head;
}

/* No more can be visible, as far as anybody may know. */
static uint64_t most_visible(const struct machine *machine)
{
    const bool is_durable_mode = machine->log && !machine->is_mapped;
    if (is_durable_mode)
        return machine->acked;
    return history_last(&machine->history);
}

/* So much must be visible. While the log opens, and after it was closed, readers look for themselves: then it is 0, and
 * so it is in the middle of a call that changes the log. */
static uint64_t least_visible(const struct machine *machine)
{
    const bool is_at_rest = machine->log && !machine->is_closing && !machine->attempt;
    if (!is_at_rest)
        return 0;
    return visible_lsn(machine);
}

static bool must_be_visible(const struct machine *machine, uint64_t lsn)
{
    return lsn >= highest_head(machine) && lsn <= least_visible(machine);
}

/* Was a record truncated that the reader has returned, or may one have been? */
static bool may_be_truncated(const struct machine *machine, const struct watcher *w)
{
    if (w->seen > w->truncation_lsn)
        return true;

    const struct outlook *attempt = machine->attempt;
    const bool is_truncating = attempt && attempt->is_end_fixed;
    return is_truncating && w->seen > attempt->most;
}

/* ---- what is checked ----------------------------------------------------------------------------- */

/* The cursor was placed in front of `next`. */
static void place_cursor(struct watcher *w, uint64_t next)
{
    w->next = max_u64(next, w->from);
    w->is_at_head = false;
    w->is_stuck = false;
    w->seen = 0;
    w->truncation_lsn = UINT64_MAX;
}

static void check_error(const struct machine *machine, struct watcher *w, int result, uint64_t lsn)
{
    if (result == TWINLOG_ETRIMMED && lsn < highest_head(machine))
        ++totals.trimmed;
    else if (result == TWINLOG_ETRUNCATED && may_be_truncated(machine, w))
        ++totals.cut_under;
    else
        violation("%s failed at LSN %" PRIu64 " without a reason (head %" PRIu64 ", newest returned %" PRIu64
                  "): %s",
                  describe(w), lsn, machine->history.head, w->seen, twinlog_strerror(result));
    w->is_stuck = true;
}

/* The reader has returned `lsn`. It must not be one that came in the place of a truncated record, if the reader had
 * returned one of those: unless all that it had returned was removed from the head since. */
static void check_replaced_record(const struct machine *machine, struct watcher *w, uint64_t lsn)
{
    const bool has_returned_some = w->seen > w->truncation_lsn;
    if (lsn <= w->truncation_lsn || !has_returned_some)
        return;

    if (w->seen >= machine->history.head)
        violation("%s returned LSN %" PRIu64 " although everything behind %" PRIu64
                  " was cut off, of which it had returned some",
                  describe(w), lsn, w->truncation_lsn);
    w->truncation_lsn = UINT64_MAX;
}

static void check_record(struct machine *machine, struct watcher *w, const struct twinlog_record *record)
{
    notice_progress(machine);
    history_check(&machine->history, record, describe(w));
    if (record->lsn > most_visible(machine))
        violation("O8: %s returned LSN %" PRIu64 ", durable were %" PRIu64, describe(w), record->lsn,
                  most_visible(machine));
    check_replaced_record(machine, w, record->lsn);

    w->seen = max_u64(w->seen, record->lsn);
    ++totals.watched;
}

static void expect_lsn(const struct watcher *w, const struct twinlog_record *record, uint64_t lsn)
{
    if (record->lsn != lsn)
        violation("O2: %s returned LSN %" PRIu64 " where %" PRIu64 " was next", describe(w), record->lsn,
                  lsn);
}

/* The reader has returned `lsn`. If its cursor was at the head, the head may have moved since it was placed there. */
static void settle_head(const struct machine *machine, struct watcher *w, uint64_t lsn)
{
    const bool may_be_next = may_be_first(machine, lsn) || lsn == history_next(&machine->history, w->from);
    if (w->is_at_head && may_be_next)
        w->next = lsn;
    w->is_at_head = false;
}

static void must(const struct watcher *w, int result, const char *call)
{
    if (result < 0)
        violation("%s could not %s: %s", describe(w), call, twinlog_strerror(result));
}

/* ---- moves --------------------------------------------------------------------------------------- */

static void seek_head(struct machine *machine, struct watcher *w)
{
    must(w, twinlog_reader_seek_first(w->reader), "seek the head");
    place_cursor(w, machine->history.head);
    w->is_at_head = true;
}

/* The reader says that there is nothing behind its cursor. */
static void check_end(struct machine *machine, struct watcher *w)
{
    if (must_be_visible(machine, history_next(&machine->history, w->next)))
        violation("O1: %s has nothing at LSN %" PRIu64 ", durable are %" PRIu64, describe(w), w->next,
                  least_visible(machine));

    /* Now it has taken a place at the head, which may not be the head any more. */
    if (w->is_at_head)
        seek_head(machine, w);
}

/* True if it moved. */
static bool move_forward(struct machine *machine, struct watcher *w)
{
    struct twinlog_record record;
    const int result = twinlog_reader_next(w->reader, &record);

    if (result < 0) {
        check_error(machine, w, result, w->next);
        return false;
    }
    if (result == 0) {
        check_end(machine, w);
        return false;
    }

    settle_head(machine, w, record.lsn);
    expect_lsn(w, &record, history_next(&machine->history, w->next));
    check_record(machine, w, &record);
    w->next = record.lsn + 1;
    return true;
}

/* The newest record in front of the cursor. A cursor behind the end is at the end, and where that is not known, it is
 * what was found: `found_lsn`, or 0. */
static uint64_t lsn_before(const struct machine *machine, const struct watcher *w, uint64_t found_lsn)
{
    uint64_t end = found_lsn;
    if (least_visible(machine) > 0)
        end = least_visible(machine);
    return history_before(&machine->history, min_u64(w->next - 1, end));
}

/* True if it moved. */
static bool move_backward(struct machine *machine, struct watcher *w)
{
    struct twinlog_record record;
    const int result = twinlog_reader_previous(w->reader, &record);

    if (result < 0)
        check_error(machine, w, result, w->next);

    const uint64_t lsn = lsn_before(machine, w, result == 1 ? record.lsn : 0);
    if (result == 0 && lsn >= w->from && must_be_visible(machine, lsn))
        violation("O1: %s has nothing in front of LSN %" PRIu64 ", the log begins at %" PRIu64, describe(w),
                  w->next, machine->history.head);
    if (result != 1)
        return false;

    expect_lsn(w, &record, lsn);
    check_record(machine, w, &record);
    w->next = record.lsn;
    return true;
}

static void seek_somewhere(struct machine *machine, struct watcher *w)
{
    const uint64_t lsn = 1 + rng_below(&machine->rng, history_last(&machine->history) + 3);
    must(w, twinlog_reader_seek(w->reader, lsn), "seek");
    place_cursor(w, lsn);
}

/* Where the end is shows only when the cursor moves, so it does. */
static void seek_end(struct machine *machine, struct watcher *w)
{
    const uint64_t durable = least_visible(machine);
    must(w, twinlog_reader_seek_end(w->reader), "seek the end");
    place_cursor(w, durable + 1);

    const uint64_t newest = history_before(&machine->history, durable);
    const bool has_record = newest >= highest_head(machine) && newest >= w->from;
    if (!has_record) {
        seek_somewhere(machine, w);
        return;
    }
    if (!move_backward(machine, w))
        violation("O1: %s has nothing in front of the end, durable are %" PRIu64, describe(w), durable);
}

/* The time of some record, or one beside it. */
static int64_t choose_time(struct machine *machine, uint64_t durable)
{
    const uint64_t head = machine->history.head;
    if (durable < head)
        return simdisk_clock(machine->disk);

    const uint64_t lsn = head + rng_below(&machine->rng, durable + 1 - head);
    return history_fact(&machine->history, lsn)->time_ns + (int64_t)rng_below(&machine->rng, 3) - 1;
}

static void seek_time(struct machine *machine, struct watcher *w)
{
    const uint64_t durable = least_visible(machine);
    const int64_t time_ns = choose_time(machine, durable);

    must(w, twinlog_reader_seek_time(w->reader, time_ns), "seek a time");
    place_cursor(w, history_find_time(&machine->history, machine->history.head, durable, time_ns));
    w->is_at_head = has_retention(machine);
    move_forward(machine, w);
}

static void check_range(struct machine *machine, struct watcher *w)
{
    const uint64_t durable = least_visible(machine);
    uint64_t first = UINT64_MAX, last = UINT64_MAX;

    must(w, twinlog_reader_range(w->reader, &first, &last), "tell the range");
    if (has_retention(machine)) /* the head may have moved since */
        return;

    uint64_t expected_first = 0, expected_last = 0;
    const bool has_records = durable >= machine->history.head;
    if (has_records) {
        expected_first = machine->history.head;
        expected_last = durable;
    }
    if (first != expected_first || last != expected_last)
        violation("%s says that the log has LSN %" PRIu64 " to %" PRIu64 ", it is %" PRIu64 " to %" PRIu64,
                  describe(w), first, last, machine->history.head, durable);
}

/* A wait that does not wait tells whether there is something to read: a record, or an error. */
static void wait_and_move(struct machine *machine, struct watcher *w)
{
    const int result = twinlog_reader_wait(w->reader, 0);
    must(w, result, "wait");

    const bool has_moved = move_forward(machine, w);
    const bool has_something = has_moved || w->is_stuck;
    if (has_something != (result == 1))
        violation("%s was told by wait that there is %s", describe(w), result == 1 ? "something" : "nothing");
}

static void make_moves(struct machine *machine, struct watcher *w, bool is_forwards)
{
    bool has_moved = true;
    for (uint64_t moves = 1 + rng_below(&machine->rng, 12); moves > 0 && has_moved; --moves) {
        if (is_forwards)
            has_moved = move_forward(machine, w);
        else
            has_moved = move_backward(machine, w);
    }
}

/* The error stays until a seek. */
static void end_error(struct machine *machine, struct watcher *w)
{
    struct twinlog_record record;

    if (!machine->attempt && twinlog_reader_next(w->reader, &record) >= 0)
        violation("%s returned an error once, and then another result", describe(w));
    if (rng_one_in(&machine->rng, 2))
        seek_head(machine, w);
    else
        seek_somewhere(machine, w);
}

static void make_move(struct machine *machine, struct watcher *w)
{
    const bool is_log_at_rest = least_visible(machine) > 0;
    if (w->is_stuck) {
        end_error(machine, w);
        return;
    }

    /* The last four kinds are for a log that stays as it is meanwhile. */
    switch (rng_below(&machine->rng, is_log_at_rest ? 12 : 8)) {
    case 0:
    case 1:
    case 2:
        make_moves(machine, w, true);
        break;
    case 3:
    case 4:
        if (!w->is_at_head)
            make_moves(machine, w, false);
        break;
    case 5:
    case 6:
        seek_somewhere(machine, w);
        make_moves(machine, w, rng_one_in(&machine->rng, 2));
        break;
    case 7:
        seek_head(machine, w);
        break;
    case 8:
        seek_end(machine, w);
        break;
    case 9:
        seek_time(machine, w);
        break;
    case 10:
        check_range(machine, w);
        break;
    default:
        wait_and_move(machine, w);
        break;
    }
}

/* ---- coming and going ---------------------------------------------------------------------------- */

/* In the writer's process, or in another one. */
static int open_reader(struct machine *machine, struct watcher *w,
                       const struct twinlog_reader_options *options)
{
    if (w->is_attached)
        return twinlog_reader_attach(machine->log, options, &w->reader);
    return twl_reader_open(simdisk_connect(machine->disk), options, &w->reader);
}

/* Opens a reader, unless the disk fails right then. */
static void open_watcher(struct machine *machine, struct watcher *w)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    const bool can_attach = machine->log && !machine->is_closing;

    w->is_attached = can_attach && (machine->may_hide || rng_one_in(&machine->rng, 2));
    w->from = 1;
    if (rng_one_in(&machine->rng, 4)) {
        options.from_lsn = 1 + rng_below(&machine->rng, history_last(&machine->history) + 3);
        w->from = options.from_lsn;
    }
    if (rng_one_in(&machine->rng, 8)) /* maps where it can */
        options.flags = TWINLOG_READER_MMAP;

    const int result = open_reader(machine, w, &options);
    if (result == -EIO && has_failed(machine)) /* it syncs a state that may not be durable */
        return;
    must(w, result, "be opened");

    if (options.from_lsn > 0) {
        place_cursor(w, w->from);
    } else {
        place_cursor(w, machine->history.head);
        w->is_at_head = true;
    }
}

static void close_watcher(struct watcher *w)
{
    twinlog_reader_close(w->reader);
    w->reader = NULL;
}

/* Must this one do nothing now? An attached reader is closed before the log is. */
static bool must_keep_still(const struct machine *machine, const struct watcher *w)
{
    if (!machine->exists || machine->is_watching)
        return true;
    if (!machine->is_closing)
        return false;
    return machine->may_hide || (w->is_attached && w->reader);
}

void watch(struct machine *machine)
{
    struct watcher *w = &machine->watcher[rng_below(&machine->rng, WATCHERS)];
    if (must_keep_still(machine, w))
        return;

    machine->is_watching = true;
    if (!w->reader)
        open_watcher(machine, w);
    else if (rng_one_in(&machine->rng, 16))
        close_watcher(w);

    if (w->reader)
        make_move(machine, w);
    machine->is_watching = false;
}

void tell_watchers(struct machine *machine, uint64_t last)
{
    for (struct watcher *w = machine->watcher; w < machine->watcher + WATCHERS; ++w) {
        const bool has_returned_some = w->seen > last;
        if (has_returned_some)
            w->truncation_lsn = min_u64(w->truncation_lsn, last);
    }
}

void dismiss_watchers(struct machine *machine, bool only_attached)
{
    for (struct watcher *w = machine->watcher; w < machine->watcher + WATCHERS; ++w) {
        const bool is_meant = w->is_attached || !only_attached;
        if (w->reader && is_meant)
            close_watcher(w);
    }
}

void try_seeks(struct machine *machine)
{
    struct watcher w = { 0 };

    machine->is_watching = true;
    open_watcher(machine, &w);
    for (unsigned moves = 0; moves < 4; ++moves)
        make_move(machine, &w);
    close_watcher(&w);
    machine->is_watching = false;
}
