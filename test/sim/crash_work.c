/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine does with its log: appends, removes at both ends, sets names, closes and opens again, goes
 * on where the disk is full.
 *
 * Each call that changes something says before what it will have made of the log (the attempt), so that a
 * crash in the middle of it can be judged; when it has returned that is what the log must be.
 */
#include "crash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a full disk --------------------------------------------------------------------------------- */

/* From now on nothing can be allocated or created: once, or until the shortage ends. */
void begin_shortage(struct machine *machine)
{
    static const enum simdisk_op OPS[] = { SIM_ALLOCATE, SIM_CREATE };
    struct simdisk_fault shortage = { .nth = 1, .error = -ENOSPC };

    shortage.op = OPS[rng_below(&machine->rng, 2)];
    shortage.is_forever = !rng_one_in(&machine->rng, 4);
    simdisk_inject(machine->disk, &shortage);
    machine->is_full = true;
    machine->was_full = true;
}

void end_shortage(struct machine *machine)
{
    simdisk_inject(machine->disk, NULL);
    machine->is_full = false;
}

bool expect_done(const struct machine *machine, int result, const char *call)
{
    if (result == 0)
        return true;

    const bool may_be_refused = result == -ENOSPC && machine->is_full;
    if (!may_be_refused)
        violation("%s failed: %s", call, twinlog_strerror(result));
    ++totals.refusals;
    return false;
}

/* ---- opening and closing ------------------------------------------------------------------------- */

/* A full disk may refuse an opening, which writes a marker: room is kept behind the last record for a few of them only.
 * An opening in the mapped mode begins a segment. */
static bool may_refuse_open(const struct machine *machine, int result)
{
    if (result != -ENOSPC || !machine->is_full)
        return false;
    return machine->openings > 2 || machine->is_mapped;
}

static bool may_fail_to_open(const struct machine *machine, int result)
{
    return has_failed(machine) && (result == -EIO || result == TWINLOG_EPOISONED);
}

static void set_flag(struct twinlog_options *options, uint32_t flag, bool is_set)
{
    if (is_set)
        options->flags |= flag;
    else
        options->flags &= ~flag;
}

static int try_open(struct machine *machine, struct twinlog_report *report, struct twinlog **ret_log)
{
    struct twinlog_options options = machine->options;
    options.ret_report = report;
    if (machine->exists && rng_one_in(&machine->rng, 2))
        options.flags |= TWINLOG_MUST_EXIST;
    ++machine->openings;

    struct io *io = simdisk_connect(machine->disk);
    keeper_begin(machine, io);
    return twl_log_open(io, &options, ret_log);
}

/* Each opening may take another way to the disk. Sectors that may be garbled while they are overwritten need a log that
 * never does that. */
static void choose_way(struct machine *machine)
{
    const bool is_padded = machine->may_garble || rng_one_in(&machine->rng, 4);

    if (machine->may_map)
        choose_mode(machine);
    set_flag(&machine->options, TWINLOG_PAD, is_padded && !machine->is_mapped);
    set_flag(&machine->options, TWINLOG_BUFFERED, rng_one_in(&machine->rng, 3));
}

/* The log has been opened on a disk that fails. That is over now, or the judge's own calls would fail. If the retention
 * of this opening has failed, the log does not know where its head is before it looks, and a trim of nothing makes it
 * look. */
static void end_failure_of_opening(struct machine *machine, struct twinlog *log)
{
    if (!machine->is_failing)
        return;
    simdisk_inject(machine->disk, NULL);
    if (!has_failed(machine))
        return;

    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    options.before_lsn = 1;
    const int result = twinlog_trim(log, &options, NULL);
    if (result < 0)
        violation("a trim of nothing failed: %s", twinlog_strerror(result));
}

void open_log(struct machine *machine)
{
    struct twinlog_report report = { 0 };
    struct twinlog *log = NULL;

    choose_way(machine);
    machine->was_full = machine->is_full;
    int result = try_open(machine, &report, &log);

    if (may_refuse_open(machine, result)) {
        end_shortage(machine);
        result = try_open(machine, &report, &log);
    }

    if (may_fail_to_open(machine, result)) {
        simdisk_inject(machine->disk, NULL);
        /* Of a torn group the opening that failed may have lost the rest, or made it whole. */
        machine->answer.is_known = false;
        ++totals.failed_openings;
        result = try_open(machine, &report, &log);
    }

    if (result < 0)
        violation("O1: open failed: %s: %s offset %" PRIu64 ": %s", twinlog_strerror(result), report.file,
                  report.offset, report.text);
    end_failure_of_opening(machine, log);
    judge_opened(machine, log, &report);
}

static void count_segments(const struct machine *machine)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    const int error = twinlog_stat(machine->log, &stat);
    if (error < 0 || stat.poison != 0)
        violation("the log is poisoned: %s", twinlog_strerror(error < 0 ? error : stat.poison));

    totals.rolls += stat.rolls;
    totals.recycled += stat.recycled_segments;
    totals.retired += stat.trimmed_segments;
}

void close_log(struct machine *machine)
{
    count_segments(machine);
    dismiss_watchers(machine, true);

    machine->is_closing = true;
    const int result = twinlog_close(machine->log);
    machine->log = NULL;
    machine->is_closing = false;
    if (result < 0)
        violation("close failed: %s", twinlog_strerror(result));
    expect_no_requests(machine, "close");

    machine->acked = history_last(&machine->history);
    expect_no_change(machine);
}

/* Records that no segment of the usual size takes, so that spares which are there are too small. */
static void take_large_records(struct twinlog_options *options)
{
    options->segment_bytes = 262144;
    options->buffer_bytes = 98304;
}

/* Another release of the application may have other options. */
void change_options(struct machine *machine)
{
    struct twinlog_options *options = &machine->options;
    struct rng *rng = &machine->rng;

    set_flag(options, TWINLOG_NO_RECYCLE, rng_one_in(rng, 8));
    options->prepare = (uint32_t)rng_below(rng, TWINLOG_PREPARE_ALLOCATED + 1);
    const bool has_larger_segments = rng_one_in(rng, 6);
    options->segment_bytes = has_larger_segments ? 131072 : 65536;
    options->buffer_bytes = 16384 + 4096 * (uint32_t)rng_below(rng, 3);
    if (rng_one_in(rng, 4))
        take_large_records(options);
}

static void reopen_log(struct machine *machine)
{
    close_log(machine);
    if (rng_one_in(&machine->rng, 4))
        look_at_rest(machine);
    if (rng_one_in(&machine->rng, 3))
        change_options(machine);
    open_log(machine);
}

/* ---- records ------------------------------------------------------------------------------------- */

static size_t max_record_bytes(const struct machine *machine)
{
    return machine->options.buffer_bytes - 8192;
}

/* Appends or enqueues one record: its LSN, or 0 if there was no room. Another one may be accepted by the hook
 * meanwhile, before or after. */
static uint64_t give_record(struct machine *machine, struct fact fact,
                            int (*give)(struct twinlog *, const void *, size_t, uint64_t *))
{
    uint64_t lsn = UINT64_MAX;

    history_offer(&machine->history, fact);
    const int result = give(machine->log, fact.data, fact.size, &lsn);
    const bool is_done = expect_done(machine, result, "a record");
    const uint64_t expected = history_settle(&machine->history, is_done);

    if (is_done)
        machine->openings = 0;
    if (lsn != expected)
        violation("O2: a record got LSN %" PRIu64 ", next was %" PRIu64, lsn, expected);
    return lsn;
}

static int keep_active_segment(void *context, const struct twinlog_segment *segment)
{
    struct twinlog_segment *active = context;
    if (segment->state == TWINLOG_SEGMENT_ACTIVE)
        *active = *segment;
    return 0;
}

/* Where the payload of the next group begins, if it has one record. */
static uint64_t next_payload_offset(const struct twinlog_segment *active)
{
    return SEGMENT_DATA_OFFSET + active->data_bytes + GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
}

/* What lies in the file where the payload is going to: in a recycled one, groups of its earlier life. */
static void copy_stale_bytes(struct machine *machine, struct fact *fact)
{
    struct twinlog_segment active = { 0 };
    const int found = twl_segments(simdisk_connect(machine->disk), keep_active_segment, &active);
    fact->time_ns = simdisk_clock(machine->disk); /* it may have waited for a file that is being recycled */
    const bool is_recycled = active.incarnations > 0;
    if (found < 0 || !is_recycled)
        return;

    struct io *io = simdisk_connect(machine->disk);
    struct io_file *file = NULL;
    size_t size = 0;
    if (io_open(io, active.file, IO_READ_ONLY, &file) == 0)
        io_read(file, fact->data, fact->size, next_payload_offset(&active), &size);
    io_close(file);
    io->ops->destroy(io);
}

bool takes_large_records(const struct machine *machine)
{
    return max_record_bytes(machine) > SEGMENT_MIN_BYTES;
}

static struct fact make_large_record(struct machine *machine)
{
    const size_t most = max_record_bytes(machine);
    const size_t size = most - rng_below(&machine->rng, most - SEGMENT_MIN_BYTES);
    return history_make_sized(&machine->history, machine->disk, &machine->rng, size);
}

static struct fact make_record(struct machine *machine)
{
    if (takes_large_records(machine) && rng_one_in(&machine->rng, 8))
        return make_large_record(machine);

    struct fact fact =
        history_make(&machine->history, machine->disk, &machine->rng, max_record_bytes(machine));
    if (fact.size > 0 && rng_one_in(&machine->rng, 16))
        copy_stale_bytes(machine, &fact);
    return fact;
}

void append_large_record(struct machine *machine)
{
    const uint64_t lsn = give_record(machine, make_large_record(machine), twinlog_append);
    if (!machine->is_mapped)
        acknowledge(machine, lsn);
}

static void append_record(struct machine *machine)
{
    const uint64_t lsn = give_record(machine, make_record(machine), twinlog_append);
    if (machine->is_mapped)
        return;

    acknowledge(machine, lsn);
    if (twinlog_durable_lsn(machine->log) < lsn)
        violation("LSN %" PRIu64 " was acknowledged, the durable LSN is %" PRIu64, lsn,
                  twinlog_durable_lsn(machine->log));
}

/* For all records, by a sync, or for one of them. */
static void wait_for_records(struct machine *machine)
{
    const uint64_t head = machine->history.head, last = history_last(&machine->history);
    const bool is_empty = last < head;
    const bool is_sync = is_empty || rng_one_in(&machine->rng, 2);

    uint64_t lsn = last;
    int result;
    if (is_sync) {
        result = twinlog_sync(machine->log);
    } else {
        lsn = head + rng_below(&machine->rng, last + 1 - head);
        result = twinlog_wait(machine->log, lsn, TWINLOG_LEVEL_DURABLE, 0);
    }
    if (result < 0)
        violation("waiting for LSN %" PRIu64 " failed: %s", lsn, twinlog_strerror(result));
    acknowledge(machine, lsn);
}

static void enqueue_records(struct machine *machine)
{
    for (uint64_t left = 1 + rng_below(&machine->rng, 12); left > 0; --left)
        give_record(machine, make_record(machine), twinlog_enqueue);
    if (rng_one_in(&machine->rng, 2))
        wait_for_records(machine);
}

/* Until not even the smallest record fits into the segment. */
static void fill_segment(struct machine *machine)
{
    size_t size = max_record_bytes(machine);
    for (unsigned left = 64; size > 0 && left > 0; --left) {
        struct fact fact = history_make_sized(&machine->history, machine->disk, &machine->rng, size);
        if (give_record(machine, fact, twinlog_enqueue) == 0)
            size /= 8;
    }
}

/* Uses up the room that is kept for markers, so that one of them begins a segment, or is refused. */
static void reopen_often(struct machine *machine)
{
    if (!machine->is_full)
        begin_shortage(machine);
    fill_segment(machine);
    if (rng_one_in(&machine->rng, 2))
        end_shortage(machine);

    for (uint64_t left = 3 + rng_below(&machine->rng, 3); left > 0; --left) {
        close_log(machine);
        open_log(machine);
    }
}

/* The new group is like the torn one, and what was left of that must not complete it. */
void give_lost_records_again(struct machine *machine)
{
    const struct history *lost = machine->history.past;
    if (!lost)
        return;

    for (uint64_t lsn = history_last(&machine->history) + 1; lsn <= history_last(lost); ++lsn) {
        const struct fact *fact = history_fact(lost, lsn);
        const size_t size = (size_t)min_u64(fact->size, max_record_bytes(machine));
        const struct fact again = history_make_sized(&machine->history, machine->disk, &machine->rng, size);
        give_record(machine, again, twinlog_enqueue);
    }
    wait_for_records(machine);
}

/* ---- removing ------------------------------------------------------------------------------------ */

/* From here on a crash may find the log so. */
static void attempt(struct machine *machine, const struct outlook *outlook)
{
    notice_progress(machine);
    machine->attempt = outlook;
}

static void settle(struct machine *machine)
{
    machine->attempt = NULL;
    notice_progress(machine);
}

static struct outlook wish_nothing(const struct machine *machine)
{
    return (struct outlook){ .head = machine->history.head, .names = machine->names };
}

/* Do the limits let a segment go, behind which there are `later_bytes`? */
static bool may_go(const struct twinlog_segment *segment, const struct twinlog_trim_options *options,
                   uint64_t later_bytes)
{
    const bool is_sealed = segment->state == TWINLOG_SEGMENT_SEALED;

    if (options->keep_bytes > 0 && later_bytes >= options->keep_bytes)
        return true;
    return options->before_time_ns > 0 && is_sealed && segment->last_time_ns < options->before_time_ns;
}

/* First LSN behind the segments that the limits let go; 0: none goes. The list must show all that is durable. */
static uint64_t head_by_segments(struct machine *machine, const struct twinlog_trim_options *options,
                                 uint64_t durable)
{
    struct listing listing;
    uint64_t later_bytes = 0, head = 0;
    unsigned started = 0;

    list_segments(machine, &listing);
    while (started < listing.count && is_started(&listing.segment[started])) {
        later_bytes += listing.segment[started].file_bytes;
        ++started;
    }

    for (unsigned i = 0; i + 1 < started; ++i) {
        const struct twinlog_segment *segment = &listing.segment[i];
        const uint64_t end = end_of_segment(&listing, i, durable + 1);
        later_bytes -= segment->file_bytes;

        /* One that is empty, and in front of all records, goes with what is behind it. */
        if (end <= machine->history.head)
            continue;
        if (!may_go(segment, options, later_bytes))
            break;
        head = end;
    }
    return head;
}

/* Where the log must begin after a trim. */
static uint64_t head_by_trim(struct machine *machine, const struct twinlog_trim_options *options)
{
    /* The keeper would close and seal segments meanwhile. What is durable counts, and times do. */
    keeper_finish_work(machine);

    const uint64_t durable = twinlog_durable_lsn(machine->log);
    uint64_t head = max_u64(options->before_lsn, head_by_segments(machine, options, durable));
    if (options->keep_records > 0 && durable > options->keep_records)
        head = max_u64(head, durable - options->keep_records + 1);

    head = min_u64(head, durable + 1);
    if (!(options->flags & TWINLOG_TRIM_PAST_CURSORS))
        head = min_u64(head, names_needed(&machine->names));
    return max_u64(head, machine->history.head);
}

static struct twinlog_trim_options choose_trim(struct machine *machine)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    const uint64_t head = machine->history.head, last = history_last(&machine->history);

    if (rng_one_in(&machine->rng, 4))
        options.flags = TWINLOG_TRIM_PAST_CURSORS;

    /* A segment with groups that are not synced counts for the log, but is not listed yet: no limit is of segments. */
    const bool is_behind = twinlog_written_lsn(machine->log) > twinlog_durable_lsn(machine->log);
    const bool is_list_complete = !machine->may_hide && !is_behind;
    switch (rng_below(&machine->rng, is_list_complete ? 6 : 4)) {
    case 0: /* everything */
        options.before_lsn = last + 1 + rng_below(&machine->rng, 2);
        break;
    case 1:
        options.keep_records = 1 + rng_below(&machine->rng, last + 3 - head);
        break;
    case 2:
    case 3:
        options.before_lsn = head + rng_below(&machine->rng, last + 3 - head);
        break;
    case 4:
        options.keep_bytes = 1 + rng_below(&machine->rng, 400000);
        break;
    default:
        options.before_time_ns =
            simdisk_clock(machine->disk) - (int64_t)rng_below(&machine->rng, 20000000000);
        break;
    }
    return options;
}

static void check_trim_result(const struct machine *machine, const struct twinlog_trim_result *result,
                              uint64_t head)
{
    if (result->first_lsn != head || result->removed_records != head - machine->history.head)
        violation("a trim says that the log begins at LSN %" PRIu64 " and lost %" PRIu64
                  " records; it should begin at %" PRIu64 ", and began at %" PRIu64,
                  result->first_lsn, result->removed_records, head, machine->history.head);
}

static void trim_log(struct machine *machine)
{
    const struct twinlog_trim_options options = choose_trim(machine);
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    struct outlook wish = wish_nothing(machine);
    wish.head = head_by_trim(machine, &options);
    names_clamp(&wish.names, wish.head - 1, UINT64_MAX);

    attempt(machine, &wish);
    const int error = twinlog_trim(machine->log, &options, &result);
    machine->attempt = NULL;
    if (error < 0)
        violation("a trim failed: %s", twinlog_strerror(error));
    check_trim_result(machine, &result, wish.head);

    machine->history.head = wish.head;
    machine->names = wish.names;
    settle(machine);
    ++totals.trims;
}

/* A truncation or a reset has returned `error`. If it is done, the records behind the end of the wish are gone, and
 * those before its head. */
static void settle_cut(struct machine *machine, const struct outlook *wish, int error, const char *call)
{
    begin_to_count_again(machine);
    machine->attempt = NULL;
    if (!expect_done(machine, error, call)) {
        settle(machine);
        return;
    }

    tell_watchers(machine, wish->most);
    history_move(&machine->history, wish->head, wish->most);
    machine->names = wish->names;
    machine->acked = wish->most;
    machine->written = wish->most;
    settle(machine);
}

/* All records; the last few; none; or some. */
static uint64_t choose_cut_lsn(struct machine *machine)
{
    const uint64_t head = machine->history.head, last = history_last(&machine->history);

    switch (rng_below(&machine->rng, 8)) {
    case 0:
        return head - 1;
    case 1:
        return last - rng_below(&machine->rng, min_u64(4, last + 2 - head));
    case 2:
        return last + rng_below(&machine->rng, 3);
    default:
        return head - 1 + rng_below(&machine->rng, last + 2 - head);
    }
}

/* What was trimmed can't be truncated. */
static void truncate_too_much(struct machine *machine)
{
    const uint64_t lsn = rng_below(&machine->rng, machine->history.head - 1);
    const struct outlook wish = wish_nothing(machine);

    attempt(machine, &wish);
    const int result = twinlog_truncate(machine->log, lsn);
    settle(machine);
    if (result != TWINLOG_ETRIMMED)
        violation("a cut in front of the log returned %d (%s)", result, twinlog_strerror(result));
}

/* The keeper's retention may be quicker, and then the records behind `lsn` are not all there any more. */
static bool is_overtaken(const struct machine *machine, uint64_t lsn, int result)
{
    if (result != TWINLOG_ETRIMMED || !has_retention(machine))
        return false;
    return lsn + 1 < head_of(machine->log);
}

static void truncate_log_at(struct machine *machine, uint64_t lsn)
{
    const uint64_t last = history_last(&machine->history);
    struct outlook wish = wish_nothing(machine);
    wish.least = lsn;
    wish.most = lsn;
    wish.is_end_fixed = true;
    names_clamp(&wish.names, wish.head - 1, lsn);

    tell_copy(machine);
    attempt(machine, &wish);
    const int result = twinlog_truncate(machine->log, lsn);
    if (is_overtaken(machine, lsn, result)) {
        settle(machine);
        return;
    }

    /* The keeper's retention was quicker, when the log was longer. */
    if (result == 0 && head_of(machine->log) > wish.head) {
        notice_head(machine, last);
        wish.head = machine->history.head;
    }
    settle_cut(machine, &wish, result, "a cut");
    ++totals.cuts;
}

static void truncate_log(struct machine *machine)
{
    if (machine->history.head > 1 && rng_one_in(&machine->rng, 16)) {
        truncate_too_much(machine);
        return;
    }
    const uint64_t lsn = choose_cut_lsn(machine);
    truncate_log_at(machine, min_u64(lsn, history_last(&machine->history)));
}

/* Before the head, or somewhere in it; at the end; beyond, a little or very far. */
static uint64_t choose_reset_lsn(struct machine *machine)
{
    const uint64_t last = history_last(&machine->history);

    switch (rng_below(&machine->rng, 8)) {
    case 0:
        return last + 1;
    case 1:
        return last + 2 + rng_below(&machine->rng, 5);
    case 2:
        return rng_next(&machine->rng) >> 8;
    default:
        return 1 + rng_below(&machine->rng, last + 1);
    }
}

static void reset_log(struct machine *machine)
{
    const uint64_t next = choose_reset_lsn(machine);
    struct outlook wish = wish_nothing(machine);
    wish.head = next;
    wish.least = next - 1;
    wish.most = next - 1;
    wish.is_end_fixed = true;
    names_clamp(&wish.names, next - 1, next - 1);

    tell_copy(machine);
    attempt(machine, &wish);
    settle_cut(machine, &wish, twinlog_reset(machine->log, next), "a reset");
    ++totals.resets;
}

/* ---- names --------------------------------------------------------------------------------------- */

/* Another process may do it as well, if it sees what is durable. */
static struct twinlog *borrow_handle(struct machine *machine)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log = NULL;

    if (machine->may_hide || !rng_one_in(&machine->rng, 4))
        return machine->log;

    options.flags = TWINLOG_READ_ONLY;
    const int result = twl_log_open(simdisk_connect(machine->disk), &options, &log);
    if (result < 0)
        violation("opening the log to set names failed: %s", twinlog_strerror(result));
    return log;
}

static void give_back_handle(const struct machine *machine, struct twinlog *log)
{
    if (log != machine->log && twinlog_close(log) < 0)
        violation("closing a read-only handle failed");
}

/* The call was to make `wish` of the log, or to return `expected` and change nothing. */
static void settle_names(struct machine *machine, const struct outlook *wish, int expected, int result,
                         const char *call)
{
    machine->attempt = NULL;
    if (result != expected) {
        /* Only a full disk may refuse what should have been done. */
        const bool is_refused = expected == 0 && result != 0 && !expect_done(machine, result, call);
        if (!is_refused)
            violation("%s returned %d (%s), not %d", call, result, twinlog_strerror(result), expected);
    }

    if (result == 0)
        machine->names = wish->names;
    settle(machine);
    ++totals.names;
}

/* What a call returns that sets a cursor to `lsn`. */
static int expect_cursor(const struct machine *machine, uint64_t lsn)
{
    const uint64_t head = machine->history.head;

    if (lsn > visible_lsn(machine) && lsn >= head)
        return -ERANGE;
    if (lsn > 0 && lsn + 1 < head)
        return TWINLOG_ETRIMMED;
    return 0;
}

/* What a call returns that sets or removes one name. */
static int expect_change(const struct machine *machine, unsigned i, struct named named)
{
    if (!named.is_set && !machine->names.at[i].is_set)
        return -ENOENT;
    if (named.is_set && i < CURSOR_NAMES)
        return expect_cursor(machine, named.lsn);
    return 0;
}

/* Its LSN is where a cursor is set, and 0 for values and where a name is removed. */
static void change_name(struct machine *machine, unsigned i, struct named named, const char *call)
{
    struct outlook wish = wish_nothing(machine);
    wish.names.at[i] = named;
    wish.names.at[i].lsn = max_u64(named.lsn, machine->history.head - 1);

    struct twinlog *log = borrow_handle(machine);
    const int expected = expect_change(machine, i, named);
    attempt(machine, &wish);
    settle_names(machine, &wish, expected, names_change(log, i, &named), call);
    give_back_handle(machine, log);
}

/* Somewhere in the log or beside it, sometimes far before its head. */
static uint64_t choose_cursor_lsn(struct machine *machine)
{
    const uint64_t head = machine->history.head;
    const uint64_t room = history_last(&machine->history) + 3 - (head - 1);

    if (rng_one_in(&machine->rng, 8))
        return rng_below(&machine->rng, head);
    return head - 1 + rng_below(&machine->rng, room);
}

static void change_cursor(struct machine *machine, bool is_set)
{
    const unsigned i = (unsigned)rng_below(&machine->rng, CURSOR_NAMES);
    struct named named = { .is_set = is_set };
    if (is_set)
        named.lsn = choose_cursor_lsn(machine);
    change_name(machine, i, named, "setting or removing a cursor");
}

static void change_value(struct machine *machine, bool is_set)
{
    const unsigned i = CURSOR_NAMES + (unsigned)rng_below(&machine->rng, VALUE_NAMES);
    struct named named = { .is_set = false };
    if (is_set)
        named = names_make_value(&machine->rng);
    change_name(machine, i, named, "setting or removing a value");
}

enum {
    MOST_EDITS = 3
};

/* Several names, and sometimes the head, in one change. */
struct several {
    struct outlook wish;
    struct twinlog_change change;
    struct twinlog_edit edits[MOST_EDITS];
    unsigned char bytes[MOST_EDITS][TWINLOG_META_BYTES];
    int expected;
};

static void add_edit(struct machine *machine, struct several *several, bool may_be_cursor)
{
    const unsigned first = may_be_cursor ? 0 : CURSOR_NAMES;
    const unsigned name = first + (unsigned)rng_below(&machine->rng, NAMES - first);
    const uint64_t head = machine->history.head, last = history_last(&machine->history);
    struct named named = { .is_set = !rng_one_in(&machine->rng, 4) };

    if (named.is_set && name < CURSOR_NAMES)
        named.lsn = head - 1 + rng_below(&machine->rng, last + 3 - (head - 1));
    else if (named.is_set)
        named = names_make_value(&machine->rng);

    const unsigned i = several->change.edit_count++;
    several->edits[i] = names_edit(name, &named, several->bytes[i]);
    several->wish.names.at[name] = named;
    several->wish.names.at[name].lsn = max_u64(named.lsn, head - 1);
    if (several->expected == 0 && named.is_set && name < CURSOR_NAMES)
        several->expected = expect_cursor(machine, named.lsn);
}

/* Moves the head of the wish. A snapshot that stands for records which are not there is refused. */
static void add_trim(struct machine *machine, struct several *several)
{
    const uint64_t head = machine->history.head, last = history_last(&machine->history);
    const uint64_t before = head + rng_below(&machine->rng, last + 3 - head);

    several->change.trim_before_lsn = before;
    several->wish.least = max_u64(several->wish.least, before - 1);
    if (rng_one_in(&machine->rng, 4))
        several->change.flags = TWINLOG_TRIM_PAST_CURSORS;
    uint64_t new_head = before;
    if (!several->change.flags)
        new_head = min_u64(new_head, names_needed(&several->wish.names));
    several->wish.head = max_u64(new_head, head);
    names_clamp(&several->wish.names, several->wish.head - 1, UINT64_MAX);
    if (before - 1 > last)
        several->expected = -ERANGE;
}

/* O4 for several names and the head: after a crash all of the change is there or nothing; and the log is never behind
 * what the change stands for. */
static void change_several(struct machine *machine)
{
    struct several *several = calloc(1, sizeof(*several));
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    const uint64_t last = history_last(&machine->history);

    if (!several)
        violation("out of memory");
    keeper_finish_work(machine); /* which cursor is refused depends on the head */
    several->wish = wish_nothing(machine);
    several->change = (struct twinlog_change)TWINLOG_CHANGE_INIT;
    several->change.edits = several->edits;

    if (last >= machine->history.head && rng_one_in(&machine->rng, 2)) {
        several->change.durable_lsn = last;
        several->wish.least = last;
    }
    /* The change may make more records durable, which decides about cursors: those are for when all are. */
    const bool may_be_cursor = twinlog_durable_lsn(machine->log) >= last;
    const uint64_t edits = 1 + rng_below(&machine->rng, MOST_EDITS);
    for (uint64_t i = 0; i < edits; ++i)
        add_edit(machine, several, may_be_cursor);
    /* The keeper may move the head of a log with limits while the change waits for records. */
    if (!has_retention(machine) && rng_one_in(&machine->rng, 2))
        add_trim(machine, several);

    attempt(machine, &several->wish);
    const int error = twinlog_change(machine->log, &several->change, &result);
    if (error == 0 && several->change.trim_before_lsn > 0)
        check_trim_result(machine, &result, several->wish.head);
    if (error == 0)
        machine->history.head = several->wish.head;
    settle_names(machine, &several->wish, several->expected, error, "a change of several things");
    free(several);
}

/* A call for one name tells what a call for all of them does. */
static void check_name(const struct machine *machine, unsigned name)
{
    struct found_names found;
    const int result = names_get(machine->log, name, &found);
    if (result < 0 || !names_is(&machine->names.at[name], &found, name))
        violation("name %u: %s, LSN %" PRIu64 ", not %" PRIu64, name, twinlog_strerror(result),
                  found.at[name].lsn, machine->names.at[name].lsn);
}

/* A cursor and a value. */
static void check_some_names(struct machine *machine)
{
    const unsigned value = CURSOR_NAMES + (unsigned)rng_below(&machine->rng, VALUE_NAMES);
    const unsigned cursor = (unsigned)rng_below(&machine->rng, CURSOR_NAMES);
    check_name(machine, cursor);
    check_name(machine, value);
}

static void change_names(struct machine *machine)
{
    if (has_retention(machine))
        keeper_finish_work(machine); /* which cursor is refused depends on the head */

    const uint64_t kind = rng_below(&machine->rng, 9);
    if (kind < 3)
        change_cursor(machine, kind < 2);
    else if (kind < 7)
        change_value(machine, kind < 6);
    else
        change_several(machine);
    check_some_names(machine);
}

/* ---- everything ---------------------------------------------------------------------------------- */

/* Time goes on; sometimes it is set back. */
static void change_clock(struct machine *machine)
{
    const int64_t step = (int64_t)rng_below(&machine->rng, UINT64_C(10000000000)) - 1000000000;
    simdisk_set_clock(machine->disk, simdisk_clock(machine->disk) + step);
}

static void change_space(struct machine *machine)
{
    if (machine->is_full)
        end_shortage(machine);
    else
        begin_shortage(machine);
}

static const struct {
    void (*call)(struct machine *machine);
    unsigned weight[MOODS]; /* even, rolling, truncating, naming */
    bool is_for_mapped;     /* also */
} WORKS[] = {
    { append_record, { 13, 16, 12, 8 }, true },
    { enqueue_records, { 9, 16, 9, 6 }, true },
    { reopen_log, { 2, 1, 3, 3 }, true },
    { reopen_often, { 1, 1, 0, 0 }, false },
    { change_clock, { 2, 1, 1, 1 }, true },
    { trim_log, { 4, 8, 3, 4 }, true },
    { truncate_log, { 2, 0, 8, 2 }, false },
    { reset_log, { 1, 0, 3, 1 }, false },
    { change_names, { 2, 0, 2, 14 }, true },
    { change_space, { 1, 1, 1, 1 }, true },
    { back_up, { 1, 0, 1, 1 }, false },
    { fail_log, { 3, 2, 3, 2 }, true },
    { watch, { 3, 3, 4, 2 }, true },
    { append_batch, { 8, 10, 8, 4 }, true },
    { wait_at_level, { 4, 6, 4, 2 }, true },
    { submit_requests, { 6, 8, 6, 3 }, false },
    { commit_requests, { 4, 5, 4, 2 }, false },
    { skip_some, { 4, 5, 4, 2 }, false },
};
enum {
    WORK_COUNT = sizeof(WORKS) / sizeof(WORKS[0])
};

static unsigned weigh(const struct machine *machine, unsigned i)
{
    if (machine->is_mapped && !WORKS[i].is_for_mapped)
        return 0;
    return WORKS[i].weight[machine->mood];
}

/* Each work as often as it weighs. */
static unsigned choose_work(struct machine *machine)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < WORK_COUNT; ++i)
        total += weigh(machine, i);

    uint64_t choice = rng_below(&machine->rng, total);
    unsigned chosen = 0;
    while (choice >= weigh(machine, chosen)) {
        choice -= weigh(machine, chosen);
        ++chosen;
    }
    return chosen;
}

static void work_once(struct machine *machine)
{
    const unsigned chosen = choose_work(machine);

    notice_progress(machine);
    WORKS[chosen].call(machine);
    if (machine->is_full && rng_one_in(&machine->rng, 8))
        change_space(machine);
    notice_progress(machine);
}

void work(struct machine *machine, uint64_t steps)
{
    for (; steps > 0; --steps)
        work_once(machine);
}

void work_beside_copy(struct machine *machine)
{
    static void (*const CALLS[])(
        struct machine *) = { append_record, append_record, enqueue_records, trim_log,        trim_log,
                              truncate_log,  reset_log,     change_names,    submit_requests, append_batch };

    notice_progress(machine);
    CALLS[rng_below(&machine->rng, sizeof(CALLS) / sizeof(CALLS[0]))](machine);
    notice_progress(machine);
}

void end_workload(struct machine *machine)
{
    end_shortage(machine);
    keeper_finish_work(machine);
    read_attached(machine, machine->history.head);
    close_log(machine);
    look_at_rest(machine);

    dismiss_watchers(machine, false);
    close_queue(machine);
    history_free(&machine->history);
    simdisk_destroy(machine->disk);
}
