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

    const bool is_without_log = result == -ENOENT && !machine->exists;
    if (result < 0 && !is_without_log)
        violation("the segments could not be listed: %s", twinlog_strerror(result));
}

bool is_started(const struct twinlog_segment *segment)
{
    return segment->state <= TWINLOG_SEGMENT_ACTIVE;
}

/* Bytes of the files of all segments that are in `state`, or in one of the states before it. */
static uint64_t bytes_up_to(struct machine *machine, uint32_t state)
{
    struct listing listing;
    uint64_t bytes = 0;

    list_segments(machine, &listing);
    for (unsigned i = 0; i < listing.count; ++i) {
        if (listing.segment[i].state <= state)
            bytes += listing.segment[i].file_bytes;
    }
    return bytes;
}

/* Are all records from `from` on, up to the one before `to`, older than the limit of the retention? */
static bool are_all_old(const struct machine *machine, uint64_t from, uint64_t to)
{
    const int64_t limit_ns = simdisk_clock(machine->disk) - (int64_t)machine->options.keep_age_ms * 1000000;

    if (to > history_last(&machine->history) + 1)
        return false;
    return history_find_time(&machine->history, from, to - 1, limit_ns) >= to;
}

static bool may_have_retired_by_records(const struct machine *machine, const struct outlook *outlook,
                                        uint64_t head_with_voids, uint64_t last)
{
    /* The opening makes fillers of records which a mapped log was left with half copied. They count, and no reader sees
     * them behind `last`. */
    const bool may_be_longer = machine->may_map && !machine->log;
    uint64_t end = history_next(&machine->history, last + 1);
    if (may_be_longer)
        end = outlook->most + 1;

    return head_with_voids + machine->options.keep_records <= end;
}

static bool may_have_retired_by_age(const struct machine *machine, const struct outlook *outlook,
                                    uint64_t head_with_voids)
{
    /* Such fillers may be all that is left of records that were never acknowledged, and a filler has no time. */
    uint64_t to = head_with_voids;
    if (machine->may_map)
        to = min_u64(to, outlook->least + 1);

    return to <= outlook->head || are_all_old(machine, outlook->head, to);
}

/* May retention have moved the head to `head`, in a log that ends with `last`? There is one limit in a workload, so
 * that limit must allow all that is gone. */
static bool may_have_retired(struct machine *machine, const struct outlook *outlook, uint64_t head,
                             uint64_t last)
{
    const struct twinlog_options *options = &machine->options;

    if (head < outlook->head)
        return false;

    /* Fillers in front of the head count as well, and no reader sees them. */
    const uint64_t head_with_voids = history_before(&machine->history, head - 1) + 1;
    if (head_with_voids > names_needed(&outlook->names))
        return false;

    if (options->keep_records > 0)
        return may_have_retired_by_records(machine, outlook, head_with_voids, last);

    /* A segment that was begun by groups which were not synced is a spare again. */
    if (options->keep_bytes > 0)
        return bytes_up_to(machine, TWINLOG_SEGMENT_SPARE) >= options->keep_bytes;

    if (options->keep_age_ms > 0)
        return may_have_retired_by_age(machine, outlook, head_with_voids);
    return false;
}

/* May a log of that outlook be found with its head at `head` and its last record at `last`? */
static bool may_have_head(struct machine *machine, const struct outlook *outlook, uint64_t head,
                          uint64_t last)
{
    const struct history *history = &machine->history;

    /* Between the two there is nothing but fillers of which it is known. */
    if (history_next(history, head) == history_next(history, outlook->head))
        return true;

    /* Between the two there is nothing but records that a crash may have made fillers of. */
    const bool may_be_voids = history->open_from > 0 && head > outlook->head;
    if (may_be_voids && history_may_skip(history, outlook->head, head))
        return true;

    return may_have_retired(machine, outlook, head, last);
}

uint64_t end_of_segment(const struct listing *listing, unsigned index, uint64_t next_lsn)
{
    for (unsigned i = index + 1; i < listing->count && is_started(&listing->segment[i]); ++i) {
        if (listing->segment[i].first_lsn > 0)
            return listing->segment[i].first_lsn;
    }
    return next_lsn;
}

/* Retention was at work just now: it must have left nothing that it should have removed. */
static void check_retention(struct machine *machine)
{
    const struct twinlog_options *options = &machine->options;
    struct listing listing;

    keeper_finish_work(machine);
    const uint64_t durable = twinlog_durable_lsn(machine->log);
    const uint64_t total_bytes = bytes_up_to(machine, TWINLOG_SEGMENT_ACTIVE);
    list_segments(machine, &listing);

    const bool is_alone = listing.count < 2 || !is_started(&listing.segment[1]);
    if (is_alone)
        return;

    /* Do the segments behind the oldest one meet the limit without it? */
    const struct twinlog_segment *oldest = &listing.segment[0];
    const uint64_t end = end_of_segment(&listing, 0, durable + 1);
    const bool has_spare_records = options->keep_records > 0 && end + options->keep_records <= durable + 1;
    const bool has_spare_bytes =
        options->keep_bytes > 0 && total_bytes - oldest->file_bytes >= options->keep_bytes;
    if (!has_spare_records && !has_spare_bytes)
        return;

    /* It stays unless a segment follows it that is sure to be there after a crash. */
    const bool is_followed = end <= durable;
    if (!is_followed)
        return;

    /* It stays for a name that needs its records. If it has none, a record behind it must not be needed, either. */
    const bool is_empty = oldest->last_lsn == 0;
    const uint64_t needed_from = is_empty ? end + 1 : end;
    if (needed_from > names_needed(&machine->names))
        return;

    violation("retention left %s with records up to LSN %" PRIu64 ", durable are %" PRIu64, oldest->file,
              end - 1, durable);
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

/* What the log may be found as if the call in progress has happened. */
static struct outlook outlook_of_attempt(const struct machine *machine, const struct outlook *now)
{
    struct outlook outlook = *machine->attempt;

    if (!outlook.is_end_fixed) {
        outlook.least = max_u64(now->least, outlook.least);
        outlook.written = now->written;
        outlook.most = now->most;
    }

    /* The keeper may have moved the head since the call began, when the log was longer. A reset may move it back. */
    if (outlook.most >= now->head)
        outlook.head = max_u64(outlook.head, now->head);
    return outlook;
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

    ret_outlooks[1] = outlook_of_attempt(machine, &ret_outlooks[0]);
    return 2;
}

void acknowledge(struct machine *machine, uint64_t lsn)
{
    machine->acked = max_u64(machine->acked, lsn);
    if (machine->log)
        return;

    /* Of a log that is not open, only those outlooks stay that have this record. */
    unsigned kept = 0;
    for (unsigned i = 0; i < machine->outlooks; ++i) {
        struct outlook outlook = machine->outlook[i];
        if (outlook.most < lsn)
            continue;
        outlook.least = max_u64(outlook.least, lsn);
        machine->outlook[kept] = outlook;
        ++kept;
    }
    machine->outlooks = kept;
}

void notice_head(struct machine *machine, uint64_t durable)
{
    const uint64_t head = head_of(machine->log);
    const struct outlook now = outlook_now(machine);

    if (head == now.head)
        return;

    /* The call in progress moves it. That will be settled when the call returns. */
    if (machine->attempt && head == machine->attempt->head)
        return;

    if (!may_have_retired(machine, &now, head, durable))
        violation("the head moved from LSN %" PRIu64 " to %" PRIu64 ", durable are %" PRIu64, now.head, head,
                  durable);
    machine->history.head = head;
}

/* Takes note of what a killed process leaves. */
static void notice_written(struct machine *machine, uint64_t durable)
{
    const uint64_t written = twinlog_written_lsn(machine->log);
    if (written < durable || written > history_last(&machine->history))
        violation("written LSN %" PRIu64 ", durable %" PRIu64 ", accepted %" PRIu64, written, durable,
                  history_last(&machine->history));

    machine->written = written;
    if (machine->is_failing) /* of a disk that fails nobody knows what it has taken */
        machine->written = machine->acked;
}

void notice_progress(struct machine *machine)
{
    if (!machine->log)
        return;
    if (machine->is_closing && machine->is_mapped) /* the close unmaps what this would look at */
        return;

    const uint64_t last = twinlog_last_lsn(machine->log), durable = twinlog_durable_lsn(machine->log);

    /* A truncation or reset in progress has come so far. That will be settled when the call returns. */
    const bool is_cut = machine->attempt && machine->attempt->is_end_fixed && last == machine->attempt->most;
    if (is_cut && last != history_last(&machine->history))
        return;

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

/* The log must not end before that LSN: neither a crash nor the end of the process may take its record. */
static uint64_t least_of(const struct outlook *outlook)
{
    return max_u64(outlook->least, outlook->written);
}

/* Retention counts LSNs: what it keeps may be fillers, all of them, also those that an opening has just made. */
static bool may_keep_voids(const struct machine *machine, const struct outlook *outlook)
{
    const uint64_t kept = machine->options.keep_records;
    if (kept == 0)
        return false;

    for (uint64_t last = least_of(outlook); last <= outlook->most; ++last) {
        if (last >= kept && history_may_skip(&machine->history, last + 1 - kept, last + 1))
            return true;
    }
    return false;
}

/* Retention moves the head by LSNs. Where that leads to a place that became a filler, the first record is later. */
static uint64_t lowest_head(const struct machine *machine, const struct outlook *outlook, uint64_t first)
{
    while (first > outlook->head && history_may_skip(&machine->history, first - 1, first))
        --first;
    return first;
}

/* May a log of that outlook be found without a record? */
static bool admits_empty(const struct machine *machine, const struct outlook *outlook)
{
    /* No record has to be there. */
    if (history_before(&machine->history, least_of(outlook)) < outlook->head)
        return true;

    /* Retention may have removed every record. */
    if (machine->options.keep_bytes > 0 || machine->options.keep_age_ms > 0)
        return true;
    return may_keep_voids(machine, outlook);
}

static bool admits(struct machine *machine, const struct outlook *outlook, const struct answer *answer)
{
    if (answer->is_empty)
        return admits_empty(machine, outlook);

    const uint64_t least = history_before(&machine->history, least_of(outlook));
    if (answer->last < least || answer->last > outlook->most)
        return false;
    return may_have_head(machine, outlook, lowest_head(machine, outlook, answer->first), answer->last);
}

static bool is_admitted(struct machine *machine, const struct answer *answer)
{
    for (unsigned i = 0; i < machine->outlooks; ++i) {
        if (admits(machine, &machine->outlook[i], answer))
            return true;
    }
    return false;
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

/* Retention may remove records between two looks. */
static bool is_same_answer(const struct machine *machine, const struct answer *a, const struct answer *b)
{
    if (a->is_empty && b->is_empty)
        return true;
    if (a->is_empty || b->is_empty)
        return has_retention(machine);
    if (a->last != b->last)
        return false;
    return a->first == b->first || has_retention(machine);
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

/* The same, and one of the outlooks must admit it. */
static void note_answer(struct machine *machine, const struct answer *given, const char *name)
{
    const struct answer answer = without_voids(machine, *given);

    if (!is_admitted(machine, &answer))
        violation("O1/O3/O4: %s found %s LSN %" PRIu64 " to %" PRIu64 ", it must be %s", name,
                  answer.is_empty ? "no records:" : "records", answer.first, answer.last,
                  describe_outlooks(machine));
    compare_answer(machine, given, name);
}

/* Goes back from LSN `last` to the beginning of the log, where the record `first` is. */
static void check_back(const struct machine *machine, struct twinlog_reader *reader, uint64_t last,
                       uint64_t first, const char *name)
{
    const struct history *history = &machine->history;
    struct twinlog_record record;
    int result = 0;

    while ((result = twinlog_reader_previous(reader, &record)) == 1) {
        const uint64_t expected = history_before(history, last);
        const bool is_in_range = record.lsn >= first && record.lsn <= last;
        const bool is_next = record.lsn == expected || history_may_skip(history, record.lsn + 1, last + 1);
        if (!is_in_range || !is_next)
            violation("O2: %s, going back, returned LSN %" PRIu64 " where %" PRIu64
                      " was next, the first %" PRIu64,
                      name, record.lsn, expected, first);
        history_check(history, &record, name);
        last = record.lsn - 1;
    }

    if (result < 0)
        violation("%s, going back, failed at LSN %" PRIu64 ": %s", name, last, twinlog_strerror(result));
    if (last >= first && !history_may_skip(history, first, last + 1))
        violation("O1: %s, going back, stopped at LSN %" PRIu64 ", the first is %" PRIu64, name, last + 1,
                  first);
}

/* Reads on from LSN `from` to the end, which must be where it was from the head on. */
static void check_forward(struct machine *machine, struct twinlog_reader *reader, uint64_t from,
                          const struct answer *answer, const char *name)
{
    uint64_t sure;
    const uint64_t last = history_check_rest(&machine->history, reader, from, name, &sure);

    /* What was not durable may have been dropped from the page cache since. */
    const bool may_be_dropped = simdisk_is_split(machine->disk) && last >= machine->acked;
    if (last < answer->last && !may_be_dropped)
        violation("O1: %s, from LSN %" PRIu64 " on, stopped at %" PRIu64 ", from the head on at %" PRIu64,
                  name, from, last, answer->last);
}

/* What the head leads to, every other start has to lead to as well. Both ends are records, no fillers. */
static void read_from_anywhere(struct machine *machine, struct twinlog_reader *reader,
                               const struct answer *answer, const char *name)
{
    const uint64_t from = answer->first + rng_below(&machine->rng, answer->last - answer->first + 2);
    const bool goes_back = rng_one_in(&machine->rng, 2);

    if (twinlog_reader_seek(reader, from) != 0)
        violation("%s could not seek", name);
    if (!goes_back) {
        check_forward(machine, reader, from, answer, name);
        return;
    }

    if (from > answer->last && twinlog_reader_seek_end(reader) != 0)
        violation("%s could not seek the end", name);
    check_back(machine, reader, from - 1, answer->first, name);
}

/* `first` was read; everything behind it is. */
static struct answer read_rest(struct machine *machine, struct twinlog_reader *reader,
                               const struct twinlog_record *first, const char *name)
{
    struct answer answer = { .first = first->lsn };

    history_check(&machine->history, first, name);
    answer.last = history_check_rest(&machine->history, reader, first->lsn + 1, name, &answer.sure);
    totals.records += answer.last - answer.first + 1;

    /* In front of it may be records that the next opening makes fillers of, so nothing is sure. */
    const bool may_follow_voids = machine->history.open_from > 0 && first->lsn >= machine->history.open_from;
    if (may_follow_voids)
        answer.sure = 0;

    if (rng_one_in(&machine->rng, 2))
        read_from_anywhere(machine, reader, &answer, name);
    return answer;
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

    const bool has_record = result == 1;
    if (has_record)
        *ret_answer = read_rest(machine, reader, &record, name);
    else
        *ret_answer = (struct answer){ .is_empty = true };
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

/* It never crashed, and its disk never failed. Such a log has nothing to report, not even what does no harm. */
static bool is_unharmed(const struct machine *machine)
{
    const bool has_crashed = machine->depth > 0;
    const bool has_disk_failed = machine->failures > 0;
    return !has_crashed && !has_disk_failed;
}

static int check_finding(void *context, const struct twinlog_report *finding)
{
    const struct machine *machine = context;
    if (is_unharmed(machine))
        violation("verify found at %s offset %" PRIu64 ": %s", finding->file, finding->offset, finding->text);
    return 0;
}

static void check_seals(struct machine *machine)
{
    const char *wrong = find_false_seal(simdisk_connect(machine->disk));
    if (wrong)
        violation("a sealed segment: %s", wrong);
}

static void verify(struct machine *machine)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    const struct answer answer = machine->answer; /* it syncs, and an image of that may let retention work */
    uint64_t records = 0;
    options.each = check_finding;
    options.context = machine;

    const int result = twl_verify(simdisk_connect(machine->disk), &options, &records);
    if (result == -ENOENT && !machine->exists)
        return;
    if (result < 0)
        violation("verify failed: %s", twinlog_strerror(result));

    if (is_unharmed(machine))
        check_seals(machine);
    if (!answer.is_known)
        return;

    uint64_t expected = 0;
    if (!answer.is_empty)
        expected = history_count(&machine->history, answer.first, answer.last);
    if (records != expected)
        violation("O5: verify counted %" PRIu64 " records, readers %" PRIu64, records, expected);
}

/* The next segment of a list follows those of which `answer` is made. */
static void add_segment(struct answer *answer, const struct twinlog_segment *segment)
{
    const bool has_records = is_started(segment) && segment->first_lsn > 0;
    if (!has_records)
        return;

    if (answer->is_empty)
        answer->first = segment->first_lsn;
    else if (segment->first_lsn != answer->last + 1)
        violation("O2: %s is listed with records from LSN %" PRIu64 ", the one before ends with %" PRIu64,
                  segment->file, segment->first_lsn, answer->last);
    answer->is_empty = false;
    answer->last = segment->last_lsn;
}

static void check_listing(struct machine *machine)
{
    struct listing listing;
    struct answer answer = { .is_empty = true };

    list_segments(machine, &listing);
    if (listing.count == 0)
        return;
    if (machine->history.open_from > 0) /* then segments behind the end are listed, too */
        return;

    for (unsigned i = 0; i < listing.count; ++i)
        add_segment(&answer, &listing.segment[i]);

    /* The list is read through the page cache, which may show what a disk that failed has lost. */
    if (machine->failures == 0)
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

/* May the log that is being opened begin there? */
static bool may_begin_at(struct machine *machine, uint64_t head)
{
    for (unsigned i = 0; i < machine->outlooks; ++i) {
        const struct outlook *outlook = &machine->outlook[i];
        if (may_have_head(machine, outlook, head, outlook->most))
            return true;
    }
    return false;
}

/* A log that opens tells less than there is. */
static void look_beside_opening(struct machine *machine)
{
    struct answer answer;

    if (machine->history.open_from >
        0) /* until the page is begun anew, a reader believes the dead writer's */
        return;
    if (!read_outside(machine, "a reader beside an opening", &answer))
        return;
    if (answer.is_empty)
        return;

    if (!may_begin_at(machine, answer.first))
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

/* May a log of that outlook end with the record `last`? */
static bool may_end_at(const struct machine *machine, const struct outlook *outlook, uint64_t last)
{
    /* A batch is there whole or not at all, unless a truncation ended in it. */
    if (!outlook->is_end_fixed && history_splits_batch(&machine->history, last))
        return false;
    return last >= least_of(outlook) && last <= outlook->most;
}

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

        if (may_end_at(machine, outlook, answer->last) &&
            may_have_head(machine, outlook, answer->first, answer->last) &&
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

/* The log is `answer`, and everything that was open is settled by that. */
static void settle_opening(struct machine *machine, struct twinlog *log, const struct answer *answer,
                           const struct names *names)
{
    history_move(&machine->history, answer->first, answer->last);
    machine->log = log;
    machine->names = *names;
    machine->acked = machine->written = answer->last;
    machine->exists = true;
    machine->may_hide = machine->is_full;
    machine->is_haunted = false;
    machine->found = *answer;
    machine->answer.is_known = false;
}

void judge_opened(struct machine *machine, struct twinlog *log, const struct twinlog_report *report)
{
    const uint64_t last = twinlog_last_lsn(log), durable = twinlog_durable_lsn(log);
    const uint64_t first = twinlog_first_lsn(log);
    const bool is_empty = first == 0;
    const uint64_t head = is_empty ? last + 1 : first;
    const struct answer answer = { .is_empty = is_empty, .first = head, .last = last };

    check_report(machine, report);
    if (durable != last || head > last + 1)
        violation("after open: first %" PRIu64 ", last %" PRIu64 ", durable %" PRIu64, first, last, durable);

    note_answer(machine, &answer, "open");
    const struct outlook outlook = choose_outlook(machine, log, &answer);
    settle_voids(machine, log, head, last);
    settle_opening(machine, log, &answer, &outlook.names);

    if (machine->may_hide) /* readers in other processes could not be told of a truncation */
        dismiss_watchers(machine, false);
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

    const uint64_t newest = history_before(&machine->history, durable);
    if (from <= newest && last < newest)
        violation("O1: an attached reader stopped at LSN %" PRIu64 ", durable were %" PRIu64, last, durable);

    totals.records += last + 1 - from;
    twinlog_reader_close(reader);
}

/* Mostly the last few records, sometimes all from some place on, sometimes all that there are. */
static uint64_t choose_place_to_read(struct machine *machine)
{
    const uint64_t head = machine->history.head, last = history_last(&machine->history);
    const uint64_t kept = last + 1 - head;

    if (kept <= 40 || rng_one_in(&machine->rng, 4))
        return head;
    if (rng_one_in(&machine->rng, 4))
        return head + rng_below(&machine->rng, kept);
    return last - 40;
}

void read_back(struct machine *machine)
{
    keeper_finish_work(machine);
    read_attached(machine, choose_place_to_read(machine));
}
