/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true of a machine's log: while it lives, at rest after a crash, and when it was opened.
 *
 * Retention moves the head by itself, so where there is one the head is judged by the rule that moved it:
 * what is gone had to be allowed to go.
 */
#include "crash.h"
#include "seals.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- the head ----------------------------------------------------------------------------------- */

bool has_retention(const struct machine *machine)
{
    const struct twinlog_options *options = &machine->options;
    return options->keep_bytes > 0 || options->keep_records > 0 || options->keep_age_ms > 0;
}

static int add_to_listing(void *context, const struct twinlog_segment *segment)
{
    struct listing *listing = context;
    if (listing->count == sizeof(listing->segment) / sizeof(listing->segment[0]))
        violation("there are more segments than anybody needs");
    listing->segment[listing->count++] = *segment;
    return 0;
}

void list_segments(struct machine *machine, struct listing *ret_listing)
{
    ret_listing->count = 0;
    const int result = twl_segments(simdisk_connect(machine->disk), add_to_listing, ret_listing);
    if (result < 0 && (result != -ENOENT || machine->exists))
        violation("the segments could not be listed: %s", twinlog_strerror(result));
}

static bool is_started(const struct twinlog_segment *segment)
{
    return segment->state <= TWINLOG_SEGMENT_ACTIVE;
}

static uint64_t bytes_up_to(struct machine *machine, uint32_t state)
{
    struct listing listing;
    uint64_t bytes = 0;
    list_segments(machine, &listing);
    for (unsigned i = 0; i < listing.count; ++i)
        bytes += listing.segment[i].state <= state ? listing.segment[i].file_bytes : 0;
    return bytes;
}

static bool are_all_old(const struct machine *machine, uint64_t from, uint64_t to)
{
    const int64_t limit_ns = simdisk_clock(machine->disk) - (int64_t)machine->options.keep_age_ms * 1000000;
    return to <= history_last(&machine->history) + 1 &&
           history_find_time(&machine->history, from, to - 1, limit_ns) >= to;
}

/* There is one limit in a workload, so it must allow all that is gone. */
static bool may_have_retired(struct machine *machine, const struct outlook *outlook, uint64_t head,
                             uint64_t last)
{
    const struct twinlog_options *options = &machine->options;
    /* fillers at both ends count, and a reader does not see them */
    const uint64_t with_voids = history_before(&machine->history, head - 1) + 1;
    if (head < outlook->head || with_voids > names_needed(&outlook->names))
        return false;
    /* the opening makes fillers of records that a mapped log was left with half copied, and they count */
    const bool may_be_longer = machine->may_map && !machine->log;
    const uint64_t end = may_be_longer ? outlook->most + 1 : history_next(&machine->history, last + 1);
    if (options->keep_records > 0)
        return with_voids + options->keep_records <= end;
    if (options->keep_bytes >
        0) /* a segment that was started by groups which were not synced is a spare again */
        return bytes_up_to(machine, TWINLOG_SEGMENT_SPARE) >= options->keep_bytes;
    /* of records that were never acknowledged such fillers may be all that is left, and they have no time */
    const uint64_t to = machine->may_map && with_voids > outlook->least + 1 ? outlook->least + 1 : with_voids;
    return options->keep_age_ms > 0 && (to <= outlook->head || are_all_old(machine, outlook->head, to));
}

static bool may_have_head(struct machine *machine, const struct outlook *outlook, uint64_t head,
                          uint64_t last)
{
    const struct history *history = &machine->history;
    const bool is_behind_voids =
        history->open_from > 0 && head > outlook->head && history_may_skip(history, outlook->head, head);
    return history_next(history, head) == history_next(history, outlook->head) || is_behind_voids ||
           may_have_retired(machine, outlook, head, last);
}

/* LSN with which the records of a started segment end; those of the next one begin there. */
static uint64_t end_of(const struct listing *listing, unsigned index, uint64_t next_lsn)
{
    for (unsigned i = index + 1; i < listing->count && is_started(&listing->segment[i]); ++i)
        if (listing->segment[i].first_lsn > 0)
            return listing->segment[i].first_lsn;
    return next_lsn;
}

/* Retention was at work just now: it must have left nothing that it should have removed. */
static void check_retention(struct machine *machine)
{
    struct listing listing;
    keeper_finish_work(machine);
    const struct twinlog_options *options = &machine->options;
    const uint64_t durable = twinlog_durable_lsn(machine->log),
                   total = bytes_up_to(machine, TWINLOG_SEGMENT_ACTIVE);
    list_segments(machine, &listing);
    if (listing.count < 2 || !is_started(&listing.segment[1]))
        return;
    const uint64_t end = end_of(&listing, 0, durable + 1);
    const bool has_spare_records = options->keep_records > 0 && end + options->keep_records <= durable + 1;
    const bool has_spare_bytes =
        options->keep_bytes > 0 && total - listing.segment[0].file_bytes >= options->keep_bytes;
    const bool is_followed = end <= durable; /* by a segment that is sure to be there after a crash */
    const bool is_empty = listing.segment[0].last_lsn == 0; /* then a record behind it must be passed, too */
    if ((has_spare_records || has_spare_bytes) && is_followed &&
        end + is_empty <= names_needed(&machine->names))
        violation("retention left %s with records up to LSN %" PRIu64 ", durable are %" PRIu64,
                  listing.segment[0].file, end - 1, durable);
}

/* ---- while the log lives ------------------------------------------------------------------------- */

static struct outlook outlook_now(const struct machine *machine)
{
    return (struct outlook){ .head = machine->history.head,
                             .least = machine->acked,
                             .written = machine->written,
                             .most = history_last(&machine->history),
                             .names = machine->names };
}

void expect_no_change(struct machine *machine)
{
    expect_no_less(machine);
    machine->outlook[0].least = machine->outlook[0].most;
}

void expect_no_less(struct machine *machine)
{
    machine->outlook[0] = outlook_now(machine);
    machine->outlooks = 1;
    machine->answer.is_known = false;
}

unsigned list_outlooks(const struct machine *machine, struct outlook ret_outlooks[MAX_OUTLOOKS])
{
    if (!machine->log) {
        memcpy(ret_outlooks, machine->outlook, sizeof(machine->outlook));
        return machine->outlooks;
    }
    ret_outlooks[0] = outlook_now(machine);
    if (!machine->attempt)
        return 1;
    ret_outlooks[1] = *machine->attempt;
    if (!machine->attempt->is_end_fixed) {
        ret_outlooks[1].least = max_u64(ret_outlooks[0].least, machine->attempt->least);
        ret_outlooks[1].written = ret_outlooks[0].written;
        ret_outlooks[1].most = ret_outlooks[0].most;
    }
    /* The keeper may have moved the head since the call began, when the log was longer. A reset may move it back. */
    if (ret_outlooks[1].most >= ret_outlooks[0].head)
        ret_outlooks[1].head = max_u64(ret_outlooks[1].head, ret_outlooks[0].head);
    return 2;
}

void acknowledge(struct machine *machine, uint64_t lsn)
{
    unsigned kept = 0;
    if (lsn > machine->acked)
        machine->acked = lsn;
    if (machine->log)
        return;
    for (unsigned i = 0; i < machine->outlooks; ++i) {
        struct outlook outlook = machine->outlook[i];
        if (outlook.most < lsn)
            continue;
        outlook.least = outlook.least < lsn ? lsn : outlook.least;
        machine->outlook[kept++] = outlook;
    }
    machine->outlooks = kept;
}

void notice_head(struct machine *machine, uint64_t durable)
{
    const uint64_t head = head_of(machine->log);
    const struct outlook now = outlook_now(machine);
    if (head == now.head || (machine->attempt && head == machine->attempt->head))
        return;
    if (!may_have_retired(machine, &now, head, durable))
        violation("the head moved from LSN %" PRIu64 " to %" PRIu64 ", durable are %" PRIu64, now.head, head,
                  durable);
    machine->history.head = head;
}

/* What a killed process leaves. Of a disk that fails nobody knows what it has taken. */
static void notice_written(struct machine *machine, uint64_t durable)
{
    const uint64_t written = twinlog_written_lsn(machine->log);
    if (written < durable || written > history_last(&machine->history))
        violation("written LSN %" PRIu64 ", durable %" PRIu64 ", accepted %" PRIu64, written, durable,
                  history_last(&machine->history));
    machine->written = machine->is_failing ? machine->acked : written;
}

void notice_progress(struct machine *machine)
{
    if (!machine->log || (machine->is_closing && machine->is_mapped)) /* it unmaps what it would look at */
        return;
    const uint64_t last = twinlog_last_lsn(machine->log), durable = twinlog_durable_lsn(machine->log);
    const bool is_cut = machine->attempt && machine->attempt->is_end_fixed && last == machine->attempt->most;
    if (is_cut && last != history_last(&machine->history))
        return; /* that will be settled when the call returns */
    history_notice(&machine->history, last);
    if (last != history_last(&machine->history))
        violation("the last LSN is %" PRIu64 ", accepted were records up to %" PRIu64, last,
                  history_last(&machine->history));
    if (durable > last)
        violation("durable LSN %" PRIu64 " is above the last one, %" PRIu64, durable, last);
    acknowledge(machine, durable);
    notice_written(machine, durable);
    notice_head(machine, durable);
}

/* ---- at rest ------------------------------------------------------------------------------------- */

static uint64_t least_of(const struct outlook *outlook)
{
    return outlook->least > outlook->written ? outlook->least : outlook->written;
}

/* Retention counts LSNs: what it keeps may be fillers, all of them, also those that an opening has just made. */
static bool may_keep_voids(const struct machine *machine, const struct outlook *outlook)
{
    const uint64_t kept = machine->options.keep_records;
    bool may_be = false;
    for (uint64_t last = least_of(outlook); kept > 0 && last <= outlook->most; ++last)
        may_be = may_be || (last >= kept && history_may_skip(&machine->history, last + 1 - kept, last + 1));
    return may_be;
}

/* Retention moves the head by LSNs. Where that leads to a place that became a filler, the first record is later. */
static uint64_t lowest_head(const struct machine *machine, const struct outlook *outlook, uint64_t first)
{
    while (first > outlook->head && history_may_skip(&machine->history, first - 1, first))
        --first;
    return first;
}

static bool admits(struct machine *machine, const struct outlook *outlook, const struct answer *answer)
{
    const uint64_t least = history_before(&machine->history, least_of(outlook));
    if (answer->is_empty)
        return least < outlook->head || machine->options.keep_bytes > 0 || machine->options.keep_age_ms > 0 ||
               may_keep_voids(machine, outlook);
    return answer->last >= least && answer->last <= outlook->most &&
           may_have_head(machine, outlook, lowest_head(machine, outlook, answer->first), answer->last);
}

/* Fillers show in the watermarks, but not to a reader. */
static struct answer without_voids(const struct machine *machine, struct answer answer)
{
    if (answer.is_empty)
        return answer;
    answer.first = history_next(&machine->history, answer.first);
    answer.last = history_before(&machine->history, answer.last);
    answer.is_empty = answer.first > answer.last;
    return answer;
}

static bool is_same_answer(const struct machine *machine, const struct answer *a, const struct answer *b)
{
    if (a->is_empty || b->is_empty)
        return a->is_empty == b->is_empty || has_retention(machine);
    return a->last == b->last && (a->first == b->first || has_retention(machine));
}

/* In words, for the report of a violation. */
static const char *describe_outlooks(const struct machine *machine)
{
    static char text[200];
    int length = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < machine->outlooks; ++i) {
        const struct outlook *outlook = &machine->outlook[i];
        length += snprintf(text + length, sizeof(text) - (size_t)length,
                           "%s%" PRIu64 " to between %" PRIu64 " and %" PRIu64, i > 0 ? ", or " : "",
                           outlook->head, least_of(outlook), outlook->most);
    }
    return text;
}

void compare_answer(struct machine *machine, const struct answer *given, const char *name)
{
    const struct answer answer = without_voids(machine, *given);
    if (machine->answer.is_known && !is_same_answer(machine, &machine->answer, &answer))
        violation("O5: %s found LSN %" PRIu64 " to %" PRIu64 ", before it was %" PRIu64 " to %" PRIu64, name,
                  answer.first, answer.last, machine->answer.first, machine->answer.last);
    machine->answer = answer;
    machine->answer.is_known = !machine->is_haunted && machine->history.open_from == 0;
}

/* It must be what it may be, too. */
static void note_answer(struct machine *machine, const struct answer *given, const char *name)
{
    const struct answer answer = without_voids(machine, *given);
    bool is_possible = false;
    for (unsigned i = 0; i < machine->outlooks; ++i)
        is_possible = is_possible || admits(machine, &machine->outlook[i], &answer);
    if (!is_possible)
        violation("O1/O3/O4: %s found %s LSN %" PRIu64 " to %" PRIu64 ", it must be %s", name,
                  answer.is_empty ? "no records:" : "records", answer.first, answer.last,
                  describe_outlooks(machine));
    compare_answer(machine, given, name);
}

static void check_back(const struct machine *machine, struct twinlog_reader *reader, uint64_t last,
                       uint64_t first, const char *name)
{
    const struct history *history = &machine->history;
    struct twinlog_record record;
    int result = 0;
    while ((result = twinlog_reader_previous(reader, &record)) == 1) {
        const bool is_next = record.lsn == history_before(history, last);
        if (record.lsn > last || record.lsn < first ||
            (!is_next && !history_may_skip(history, record.lsn + 1, last + 1)))
            violation("O2: %s, going back, returned LSN %" PRIu64 " where %" PRIu64
                      " was next, the first %" PRIu64,
                      name, record.lsn, history_before(history, last), first);
        history_check(history, &record, name);
        last = record.lsn - 1;
    }
    if (result < 0)
        violation("%s, going back, failed at LSN %" PRIu64 ": %s", name, last, twinlog_strerror(result));
    if (last >= first && !history_may_skip(history, first, last + 1))
        violation("O1: %s, going back, stopped at LSN %" PRIu64 ", the first is %" PRIu64, name, last + 1,
                  first);
}

/* What the head leads to, every other start has to lead to as well. Both ends are records, no fillers. */
static void read_from_anywhere(struct machine *machine, struct twinlog_reader *reader,
                               const struct answer *answer, const char *name)
{
    const uint64_t from = answer->first + rng_below(&machine->rng, answer->last - answer->first + 2);
    const bool goes_back = rng_one_in(&machine->rng, 2);
    if (twinlog_reader_seek(reader, from) != 0)
        violation("%s could not seek", name);
    if (goes_back && from > answer->last && twinlog_reader_seek_end(reader) != 0)
        violation("%s could not seek the end", name);
    if (goes_back) {
        check_back(machine, reader, from - 1, answer->first, name);
        return;
    }
    uint64_t sure;
    const uint64_t last = history_check_rest(&machine->history, reader, from, name, &sure);
    /* what was not durable may have been dropped from the page cache since */
    const bool may_be_dropped = simdisk_is_split(machine->disk) && last >= machine->acked;
    if (last < answer->last && !may_be_dropped)
        violation("O1: %s, from LSN %" PRIu64 " on, stopped at %" PRIu64 ", from the head on at %" PRIu64,
                  name, from, last, answer->last);
}

/* In another process. False if there is no log yet. */
static bool read_outside(struct machine *machine, const char *name, struct answer *ret_answer)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record = { 0 };
    options.ret_report = &report;
    int result = twl_reader_open(simdisk_connect(machine->disk), &options, &reader);
    if (result == -ENOENT && !machine->exists)
        return false;
    if (result == 0)
        result = twinlog_reader_next(reader, &record);
    if (result < 0)
        violation("%s could not read the log: %s: %s", name, twinlog_strerror(result), report.text);
    *ret_answer = (struct answer){ .is_empty = result == 0, .first = record.lsn };
    if (result > 0) {
        history_check(&machine->history, &record, name);
        ret_answer->last =
            history_check_rest(&machine->history, reader, record.lsn + 1, name, &ret_answer->sure);
        if (machine->history.open_from > 0 && record.lsn >= machine->history.open_from)
            ret_answer->sure = 0;
        totals.records += ret_answer->last - ret_answer->first + 1;
        if (rng_one_in(&machine->rng, 2))
            read_from_anywhere(machine, reader, ret_answer, name);
    }
    twinlog_reader_close(reader);
    return true;
}

static void inspect(struct machine *machine)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const int result = twl_inspect(simdisk_connect(machine->disk), &inspection);
    if (result == -ENOENT && !machine->exists)
        return;
    if (result < 0 || inspection.report.error < 0)
        violation("inspect failed: %s: %s", twinlog_strerror(result), inspection.report.text);
    const struct answer answer = { .is_empty = inspection.first_lsn == 0,
                                   .first = inspection.first_lsn,
                                   .last = inspection.last_lsn };
    note_answer(machine, &answer, "inspect");
}

/* A log that never crashed, on a disk that never failed, has nothing to report, not even what does no harm. */
static int check_finding(void *context, const struct twinlog_report *finding)
{
    const struct machine *machine = context;
    if (machine->depth == 0 && machine->failures == 0)
        violation("verify found at %s offset %" PRIu64 ": %s", finding->file, finding->offset, finding->text);
    return 0;
}

static void verify(struct machine *machine)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    const struct answer answer = machine->answer; /* it syncs, and an image of that may let retention work */
    uint64_t records = 0, expected = 0;
    options.each = check_finding;
    options.context = machine;
    const int result = twl_verify(simdisk_connect(machine->disk), &options, &records);
    if (result == -ENOENT && !machine->exists)
        return;
    if (result < 0)
        violation("verify failed: %s", twinlog_strerror(result));
    const bool is_sound = machine->depth == 0 && machine->failures == 0;
    const char *wrong = is_sound ? find_false_seal(simdisk_connect(machine->disk)) : NULL;
    if (wrong)
        violation("a sealed segment: %s", wrong);
    if (answer.is_known && !answer.is_empty)
        expected = history_count(&machine->history, answer.first, answer.last);
    if (answer.is_known && records != expected)
        violation("O5: verify counted %" PRIu64 " records, readers %" PRIu64, records, expected);
}

static void check_listing(struct machine *machine)
{
    struct listing listing;
    struct answer answer = { .is_empty = true };
    list_segments(machine, &listing);
    if (listing.count == 0 || machine->history.open_from > 0) /* it lists segments behind the end, too */
        return;
    for (unsigned i = 0; i < listing.count; ++i) {
        const struct twinlog_segment *segment = &listing.segment[i];
        if (!is_started(segment) || segment->first_lsn == 0)
            continue;
        if (!answer.is_empty && segment->first_lsn != answer.last + 1)
            violation("O2: %s is listed with records from LSN %" PRIu64 ", the one before ends with %" PRIu64,
                      segment->file, segment->first_lsn, answer.last);
        if (answer.is_empty)
            answer.first = segment->first_lsn;
        answer.is_empty = false;
        answer.last = segment->last_lsn;
    }
    if (machine->failures == 0) /* it is read through the page cache, which may show what the disk has lost */
        note_answer(machine, &answer, "the list of segments");
}

void look_at_rest(struct machine *machine)
{
    struct answer answer;
    if (read_outside(machine, "a reader without a writer", &answer)) {
        note_answer(machine, &answer, "a reader without a writer");
        if (!answer.is_empty)
            acknowledge(machine, answer.sure); /* what somebody has seen must not go away */
    }
    if (rng_one_in(&machine->rng, 2)) { /* they sync what the reader should have synced */
        inspect(machine);
        verify(machine);
    }
    check_listing(machine);
}

/* A log that opens tells less than there is. */
static void look_beside_opening(struct machine *machine)
{
    struct answer answer;
    if (machine->history.open_from > 0) /* until the page is begun anew, it believes the dead writer's */
        return;
    if (!read_outside(machine, "a reader beside an opening", &answer) || answer.is_empty)
        return;
    bool is_possible = false;
    for (unsigned i = 0; i < machine->outlooks; ++i)
        is_possible = is_possible ||
                      may_have_head(machine, &machine->outlook[i], answer.first, machine->outlook[i].most);
    if (!is_possible)
        violation("O1/O3: a reader beside an opening found the head at LSN %" PRIu64 ", the log must be %s",
                  answer.first, describe_outlooks(machine));
    acknowledge(machine, answer.sure);
}

void look_beside(struct machine *machine)
{
    if (machine->log)
        watch(machine);
    else
        look_beside_opening(machine);
}

/* ---- opened -------------------------------------------------------------------------------------- */

/* The outlook that came true; a violation if there is none. */
static struct outlook choose_outlook(struct machine *machine, struct twinlog *log,
                                     const struct answer *answer)
{
    struct found_names found;
    const char *why = "";
    const int result = names_read(log, &found);
    if (result < 0)
        violation("cursors and values can't be read: %s", twinlog_strerror(result));
    for (unsigned i = 0; i < machine->outlooks; ++i) {
        struct outlook *outlook = &machine->outlook[i];
        if (machine->history.open_from > 0) /* they were set to records that were not durable */
            names_clamp(&outlook->names, 0, answer->last);
        const bool is_whole = outlook->is_end_fixed || !history_splits_batch(&machine->history, answer->last);
        const bool has_end = is_whole && answer->last >= least_of(outlook) && answer->last <= outlook->most;
        if (has_end && may_have_head(machine, outlook, answer->first, answer->last) &&
            names_match(&outlook->names, &found, &why))
            return *outlook;
    }
    violation("O4: open found LSN %" PRIu64 " to %" PRIu64 ", it must be %s; %s", answer->first, answer->last,
              describe_outlooks(machine), why);
}

static void check_report(const struct machine *machine, const struct twinlog_report *report)
{
    if (report->finding >= FINDINGS || report->error != 0)
        violation("open worked and reported: %s", report->text);
    if (report->finding == TWINLOG_FOUND_NEW_LOG && machine->exists)
        violation("O1: open created a log where there was one");
    ++totals.finding[report->finding];
}

void judge_opened(struct machine *machine, struct twinlog *log, const struct twinlog_report *report)
{
    const uint64_t last = twinlog_last_lsn(log), durable = twinlog_durable_lsn(log);
    const uint64_t first = twinlog_first_lsn(log), head = first > 0 ? first : last + 1;
    const struct answer answer = { .is_empty = first == 0, .first = head, .last = last };
    check_report(machine, report);
    if (durable != last || head > last + 1)
        violation("after open: first %" PRIu64 ", last %" PRIu64 ", durable %" PRIu64, first, last, durable);
    note_answer(machine, &answer, "open");
    const struct outlook outlook = choose_outlook(machine, log, &answer);
    settle_voids(machine, log, head, last);
    history_move(&machine->history, head, last);
    machine->log = log;
    machine->names = outlook.names;
    machine->acked = machine->written = last;
    machine->exists = true;
    machine->may_hide = machine->is_full;
    if (machine->may_hide) /* those in other processes could not be told of a truncation */
        dismiss_watchers(machine, false);
    machine->is_haunted = false;
    machine->found = answer;
    machine->answer.is_known = false;
    if (has_retention(machine) && !machine->is_failing && rng_one_in(&machine->rng, 8))
        check_retention(machine);
}

void read_attached(struct machine *machine, uint64_t from)
{
    const uint64_t durable = visible_lsn(machine);
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    uint64_t sure;
    options.from_lsn = from;
    const int result = twinlog_reader_attach(machine->log, &options, &reader);
    if (result < 0)
        violation("attaching a reader failed: %s", twinlog_strerror(result));
    const uint64_t last = history_check_rest(&machine->history, reader, from, "an attached reader", &sure);
    if (last >= from && last > durable)
        violation("O8: an attached reader returned LSN %" PRIu64 ", durable were %" PRIu64, last, durable);
    if (from <= history_before(&machine->history, durable) &&
        last < history_before(&machine->history, durable))
        violation("O1: an attached reader stopped at LSN %" PRIu64 ", durable were %" PRIu64, last, durable);
    totals.records += last + 1 - from;
    twinlog_reader_close(reader);
}

void read_back(struct machine *machine)
{
    keeper_finish_work(machine);
    const uint64_t head = machine->history.head, last = history_last(&machine->history);
    const uint64_t kept = last + 1 - head;
    uint64_t from = head;
    if (kept > 40 && !rng_one_in(&machine->rng, 4))
        from = rng_one_in(&machine->rng, 4) ? head + rng_below(&machine->rng, kept) : last - 40;
    read_attached(machine, from);
}
