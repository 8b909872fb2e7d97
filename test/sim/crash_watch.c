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

/* While a trim or a reset is in progress the head may be at either place; where retention moves it, nobody
 * is told before it is done. */
static uint64_t highest_head(const struct machine *machine)
{
    const uint64_t head = has_retention(machine) ? machine->acked + 1 : machine->history.head;
    return machine->attempt && machine->attempt->head > head ? machine->attempt->head : head;
}

static bool may_be_head(const struct machine *machine, uint64_t lsn)
{
    const struct history *history = &machine->history;
    const bool is_moving = has_retention(machine) && lsn > history->head;
    return lsn == history_next(history, history->head) ||
           (machine->attempt && lsn == history_next(history, machine->attempt->head)) || is_moving;
}

/* No more is durable, as far as anybody may know. */
static uint64_t limit_of(const struct machine *machine)
{
    return machine->log && !machine->is_mapped ? machine->acked : history_last(&machine->history);
}

/* So much must be visible. While the log opens, and after it was closed, readers look for themselves. */
static uint64_t visible_to(const struct machine *machine)
{
    return machine->log && !machine->is_closing && !machine->attempt ? visible_lsn(machine) : 0;
}

static bool is_in_range(const struct machine *machine, uint64_t lsn)
{
    return lsn >= highest_head(machine) && lsn <= visible_to(machine);
}

static bool may_be_cut(const struct machine *machine, const struct watcher *w)
{
    const struct outlook *attempt = machine->attempt;
    return w->seen > w->truncation_lsn || (attempt && attempt->is_end_fixed && w->seen > attempt->most);
}

/* ---- moves --------------------------------------------------------------------------------------- */

static void place(struct watcher *w, uint64_t next)
{
    w->next = next > w->from ? next : w->from;
    w->is_at_head = w->is_stuck = false;
    w->seen = 0;
    w->truncation_lsn = UINT64_MAX;
}

static void check_error(const struct machine *machine, struct watcher *w, int result, uint64_t lsn)
{
    if (result == TWINLOG_ETRIMMED && lsn < highest_head(machine))
        ++totals.trimmed;
    else if (result == TWINLOG_ETRUNCATED && may_be_cut(machine, w))
        ++totals.cut_under;
    else
        violation("%s failed at LSN %" PRIu64 " without a reason (head %" PRIu64 ", newest returned %" PRIu64
                  "): %s",
                  describe(w), lsn, machine->history.head, w->seen, twinlog_strerror(result));
    w->is_stuck = true;
}

static void check_record(struct machine *machine, struct watcher *w, const struct twinlog_record *record)
{
    notice_progress(machine);
    history_check(&machine->history, record, describe(w));
    if (record->lsn > limit_of(machine))
        violation("O8: %s returned LSN %" PRIu64 ", durable were %" PRIu64, describe(w), record->lsn,
                  limit_of(machine));
    if (record->lsn > w->truncation_lsn && w->seen > w->truncation_lsn) {
        if (w->seen >=
            machine->history.head) /* else all that it had returned was removed from the head since */
            violation("%s returned LSN %" PRIu64 " although everything behind %" PRIu64
                      " was cut off, of which it had returned some",
                      describe(w), record->lsn, w->truncation_lsn);
        w->truncation_lsn = UINT64_MAX;
    }
    w->seen = record->lsn > w->seen ? record->lsn : w->seen;
    ++totals.watched;
}

static void expect_lsn(const struct watcher *w, const struct twinlog_record *record, uint64_t lsn)
{
    if (record->lsn != lsn)
        violation("O2: %s returned LSN %" PRIu64 " where %" PRIu64 " was next", describe(w), record->lsn,
                  lsn);
}

/* The head may have moved since the cursor was placed there. */
static void find_head(const struct machine *machine, struct watcher *w, uint64_t lsn)
{
    if (w->is_at_head && (may_be_head(machine, lsn) || lsn == history_next(&machine->history, w->from)))
        w->next = lsn;
    w->is_at_head = false;
}

static void must(const struct watcher *w, int result, const char *call)
{
    if (result < 0)
        violation("%s could not %s: %s", describe(w), call, twinlog_strerror(result));
}

static void seek_head(struct machine *machine, struct watcher *w)
{
    must(w, twinlog_reader_seek_first(w->reader), "seek the head");
    place(w, machine->history.head);
    w->is_at_head = true;
}

/* True if it moved. */
static bool move_on(struct machine *machine, struct watcher *w)
{
    struct twinlog_record record;
    const int result = twinlog_reader_next(w->reader, &record);
    if (result == 1)
        find_head(machine, w, record.lsn);
    if (result < 0)
        check_error(machine, w, result, w->next);
    if (result == 0 && is_in_range(machine, history_next(&machine->history, w->next)))
        violation("O1: %s has nothing at LSN %" PRIu64 ", durable are %" PRIu64, describe(w), w->next,
                  visible_to(machine));
    if (result == 0 && w->is_at_head) /* now it has taken a place there, which may not be the head any more */
        seek_head(machine, w);
    if (result != 1)
        return false;
    expect_lsn(w, &record, history_next(&machine->history, w->next));
    check_record(machine, w, &record);
    w->next = record.lsn + 1;
    return true;
}

/* The record in front of the cursor; a cursor behind the end is at the end. */
static uint64_t lsn_before(const struct machine *machine, const struct watcher *w, uint64_t found_lsn)
{
    const uint64_t end = visible_to(machine) > 0 ? visible_to(machine) : found_lsn;
    return history_before(&machine->history, w->next - 1 < end ? w->next - 1 : end);
}

static bool move_back(struct machine *machine, struct watcher *w)
{
    struct twinlog_record record;
    const int result = twinlog_reader_previous(w->reader, &record);
    if (result < 0)
        check_error(machine, w, result, w->next);
    const uint64_t lsn = lsn_before(machine, w, result == 1 ? record.lsn : 0);
    if (result == 0 && lsn >= w->from && is_in_range(machine, lsn))
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
    place(w, lsn);
}

/* Where the end is shows only when it moves, so it does. */
static void seek_end(struct machine *machine, struct watcher *w)
{
    const uint64_t durable = visible_to(machine);
    must(w, twinlog_reader_seek_end(w->reader), "seek the end");
    place(w, durable + 1);
    const uint64_t newest = history_before(&machine->history, durable);
    if (newest < highest_head(machine) || newest < w->from)
        seek_somewhere(machine, w);
    else if (!move_back(machine, w))
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
    const uint64_t durable = visible_to(machine);
    const int64_t time_ns = choose_time(machine, durable);
    must(w, twinlog_reader_seek_time(w->reader, time_ns), "seek a time");
    place(w, history_find_time(&machine->history, machine->history.head, durable, time_ns));
    w->is_at_head = has_retention(machine);
    move_on(machine, w);
}

static void check_range(struct machine *machine, struct watcher *w)
{
    uint64_t first = UINT64_MAX, last = UINT64_MAX, durable = visible_to(machine);
    must(w, twinlog_reader_range(w->reader, &first, &last), "tell the range");
    const bool is_empty = durable < machine->history.head;
    if (has_retention(machine))
        return;
    if (first != (is_empty ? 0 : machine->history.head) || last != (is_empty ? 0 : durable))
        violation("%s says that the log has LSN %" PRIu64 " to %" PRIu64 ", it is %" PRIu64 " to %" PRIu64,
                  describe(w), first, last, machine->history.head, durable);
}

static void wait_and_move(struct machine *machine, struct watcher *w)
{
    const int result = twinlog_reader_wait(w->reader, 0);
    must(w, result, "wait");
    const bool has_moved = move_on(machine, w);
    if ((has_moved || w->is_stuck) != (result == 1))
        violation("%s was told by wait that there is %s", describe(w), result == 1 ? "something" : "nothing");
}

static void make_moves(struct machine *machine, struct watcher *w, bool is_forwards)
{
    uint64_t moves = 1 + rng_below(&machine->rng, 12);
    while (moves > 0 && (is_forwards ? move_on(machine, w) : move_back(machine, w)))
        --moves;
}

/* The error stays until a seek. */
static void get_going(struct machine *machine, struct watcher *w)
{
    struct twinlog_record record;
    if (!machine->attempt && twinlog_reader_next(w->reader, &record) >= 0)
        violation("%s returned an error once, and then another result", describe(w));
    if (rng_one_in(&machine->rng, 2))
        seek_head(machine, w);
    else
        seek_somewhere(machine, w);
}

static void move(struct machine *machine, struct watcher *w)
{
    /* the first of them always, the others while the log stays as it is */
    static void (*const SEEKS[])(struct machine * machine, struct watcher * w) = { seek_head, seek_end,
                                                                                   seek_time, check_range,
                                                                                   wait_and_move };
    const bool is_settled = visible_to(machine) > 0;
    if (w->is_stuck) {
        get_going(machine, w);
        return;
    }
    const uint64_t kind = rng_below(&machine->rng, is_settled ? 12 : 8);
    if (kind >= 7)
        SEEKS[kind - 7](machine, w);
    if (kind == 5 || kind == 6) {
        seek_somewhere(machine, w);
        make_moves(machine, w, rng_one_in(&machine->rng, 2));
    }
    if (kind < 3 || (kind < 5 && !w->is_at_head))
        make_moves(machine, w, kind < 3);
}

/* ---- coming and going ---------------------------------------------------------------------------- */

static void come(struct machine *machine, struct watcher *w)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    const bool can_attach = machine->log && !machine->is_closing;
    w->is_attached = can_attach && (machine->may_hide || rng_one_in(&machine->rng, 2));
    w->from = 1;
    if (rng_one_in(&machine->rng, 4))
        w->from = options.from_lsn = 1 + rng_below(&machine->rng, history_last(&machine->history) + 3);
    if (rng_one_in(&machine->rng, 8)) /* maps where it can */
        options.flags = TWINLOG_READER_MMAP;
    const int result = w->is_attached ? twinlog_reader_attach(machine->log, &options, &w->reader)
                                      : twl_reader_open(simdisk_connect(machine->disk), &options, &w->reader);
    if (result == -EIO && has_failed(machine)) /* it syncs a state that may not be durable */
        return;
    must(w, result, "be opened");
    place(w, options.from_lsn > 0 ? w->from : machine->history.head);
    w->is_at_head = options.from_lsn == 0;
}

static void go(struct watcher *w)
{
    twinlog_reader_close(w->reader);
    w->reader = NULL;
}

void watch(struct machine *machine)
{
    struct watcher *w = &machine->watcher[rng_below(&machine->rng, WATCHERS)];
    const bool is_gone = machine->is_closing && (machine->may_hide || (w->is_attached && w->reader));
    if (!machine->exists || machine->is_watching || is_gone)
        return;
    machine->is_watching = true;
    if (!w->reader)
        come(machine, w);
    else if (rng_one_in(&machine->rng, 16))
        go(w);
    if (w->reader)
        move(machine, w);
    machine->is_watching = false;
}

void tell_watchers(struct machine *machine, uint64_t last)
{
    for (struct watcher *w = machine->watcher; w < machine->watcher + WATCHERS; ++w)
        if (w->seen > last && last < w->truncation_lsn)
            w->truncation_lsn = last;
}

void dismiss_watchers(struct machine *machine, bool only_attached)
{
    for (struct watcher *w = machine->watcher; w < machine->watcher + WATCHERS; ++w)
        if (w->reader && (w->is_attached || !only_attached))
            go(w);
}

void try_seeks(struct machine *machine)
{
    struct watcher w = { 0 };
    machine->is_watching = true;
    come(machine, &w);
    for (unsigned moves = 0; moves < 4; ++moves)
        move(machine, &w);
    go(&w);
    machine->is_watching = false;
}
