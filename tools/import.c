/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing: the records of the input come in the order of their LSNs. As long as the log has records that were not
 * passed, each one of the input has to be there too, equal in LSN, time, type, tag and bytes, and the log may have none
 * in between. The first record of the input that the log has not is the first one that is appended; from then on
 * nothing is compared.
 *
 * Proof: records that are equal in all of this may be of two histories, as of a log that was truncated and written
 * again with the same events. So at least one of these must hold: the log says of which history a common record is
 * (source.h); or the input has all records of the log, from its first one on, so that no other one could be mixed with
 * the input; or the user vouches for it.
 */
#define _GNU_SOURCE
#include "import.h"

#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int import_begin(struct import *import, struct twinlog *log, const struct input *input)
{
    import->log = log;
    import->input = input;
    import->source.name = "import";
    return load_source(log, &import->source);
}

void import_free(struct import *import)
{
    free(import->room);
}

/* ---- what both have --------------------------------------------------------------------------- */

/* Is a record that is equal of another history? If nothing is known, it may be the same. */
static bool may_be_same(struct import *import, const struct twinlog_record *record)
{
    const struct input *input = import->input;
    enum agreement agreement = judge_record(import->log, &import->source, input->log_id, input->salt, record);

    if (agreement == AGREEMENT_UNKNOWN)
        agreement = judge_origin(import->log, &import->source, &input->origin, record);
    if (agreement == AGREEMENT_PROVED)
        import->is_proved = true;
    return agreement != AGREEMENT_DENIED;
}

static bool is_equal(const struct twinlog_record *record, const struct twinlog_entry *entry)
{
    const bool has_time = entry->time_ns != 0; /* else the log gave it the time at which it was appended */

    if (record->size != entry->size)
        return false;
    if (has_time && record->time_ns != entry->time_ns)
        return false;
    if (record->type != entry->type || record->tag != entry->tag)
        return false;
    return memcmp(record->data, entry->data, entry->size) == 0;
}

/* Has the log this record under that LSN, as it is? */
static int has_record(struct import *import, uint64_t lsn, const struct twinlog_entry *entry, bool *ret_has)
{
    const size_t limit = import->input->record_limit;
    struct twinlog_record record;

    *ret_has = false;
    if (!import->room)
        import->room = malloc(limit);
    if (!import->room)
        return -ENOMEM;

    const int error = twinlog_read(import->log, lsn, import->room, limit, &record);
    if (is_no_record(error) || error == -ENOBUFS) /* larger than any of the input */
        return 0;
    if (error)
        return error;

    *ret_has = is_equal(&record, entry) && may_be_same(import, &record);
    return 0;
}

/* Looks for a record of the log behind the common one and in front of that LSN: the input has none there. Notes it as
 * the first one that differs. */
static int find_extra(struct import *import, uint64_t before_lsn)
{
    struct twinlog_record record;
    uint64_t lsn = twinlog_first_lsn(import->log);

    if (import->common_lsn)
        lsn = import->common_lsn + 1;

    for (; lsn < before_lsn; lsn++) {
        const int error = twinlog_read(import->log, lsn, NULL, 0, &record);
        if (error == 0 || error == -ENOBUFS) {
            import->other_lsn = lsn;
            return 0;
        }
        if (!is_no_record(error))
            return error;
    }

    return 0;
}

static bool is_same_history(const struct import *import)
{
    return import->is_proved || import->is_whole || import->is_vouched_for;
}

/* The two differ from other_lsn on: removes what the log has from there on, if that was asked for, and a record in
 * front is the same. */
static int rewind_log(struct import *import)
{
    if (!import->rewinds || !import->common_lsn)
        return OTHER_HISTORY;
    if (!is_same_history(import))
        return UNPROVED_HISTORY;

    const uint64_t last_lsn = twinlog_last_lsn(import->log);
    const int error = twinlog_truncate(import->log, import->other_lsn - 1);
    if (error == 0 && !import->is_quiet)
        complain("note: LSN %" PRIu64 " to %" PRIu64 " were another history's, and are removed",
                 import->other_lsn, last_lsn);
    import->other_lsn = 0;
    return error;
}

/* Compares the record with that of the log, and moves common_lsn or other_lsn. */
static int compare_record(struct import *import, uint64_t lsn, const struct twinlog_entry *entry,
                          bool *ret_has)
{
    const int error = has_record(import, lsn, entry, ret_has);

    if (error)
        return error;
    if (*ret_has)
        import->common_lsn = lsn;
    else
        import->other_lsn = lsn;
    return 0;
}

/* The log has records, and none of the input was appended yet. Sets *ret_has if the log has this one: there is nothing
 * to do for it. Otherwise it comes next, behind what both have. */
static int compare(struct import *import, const struct twinlog_entry *entry, bool *ret_has)
{
    const uint64_t lsn = import->input->lsn;
    const uint64_t first_lsn = twinlog_first_lsn(import->log);
    const uint64_t last_lsn = twinlog_last_lsn(import->log);
    int error = 0;

    *ret_has = false;
    if (import->input->records == 1)
        import->is_whole = lsn <= first_lsn;
    if (lsn < first_lsn) {
        *ret_has = true; /* it was trimmed here */
        return 0;
    }

    /* Records of the log that the input has not. What is in front of a common record is looked at only if the input
     * begins there. */
    if (import->common_lsn || import->is_whole)
        error = find_extra(import, min_u64(lsn, last_lsn + 1));
    if (error)
        return error;

    /* The log ends in front of the first record of the input. */
    if (lsn > last_lsn && !import->common_lsn)
        return OTHER_HISTORY;

    if (lsn <= last_lsn && !import->other_lsn) {
        error = compare_record(import, lsn, entry, ret_has);
        if (error || *ret_has)
            return error;
    }

    if (import->other_lsn)
        return rewind_log(import);
    return is_same_history(import) ? 0 : UNPROVED_HISTORY;
}

int import_end(struct import *import)
{
    const struct input *input = import->input;
    const uint64_t end_lsn = max_u64(input->last_lsn, input->lsn);

    if (import->renumbers || import->has_appended || !twinlog_first_lsn(import->log))
        return 0;
    if (!import->common_lsn)
        return OTHER_HISTORY;
    if (!is_same_history(import))
        return UNPROVED_HISTORY;
    if (end_lsn >= twinlog_last_lsn(import->log))
        return 0;

    import->other_lsn = end_lsn + 1;
    return rewind_log(import);
}

/* ---- what the log gets ------------------------------------------------------------------------ */

/* Makes the LSN of the record the next one of the log. -ERANGE if it cannot be: only a log without records begins with
 * another one than 1, up to INT64_MAX. */
static int take_up_lsn(struct import *import)
{
    const uint64_t lsn = import->input->lsn;
    const bool is_empty = !import->has_appended && twinlog_first_lsn(import->log) == 0;

    if (lsn == twinlog_last_lsn(import->log) + 1)
        return 0;
    if (is_empty && lsn <= INT64_MAX)
        return twinlog_reset(import->log, lsn);
    return -ERANGE;
}

/* The record comes next, with its own LSN: notes in the log of which history it is. */
static int prepare_lsn(struct import *import)
{
    const struct input *input = import->input;
    const int error = take_up_lsn(import);

    if (error)
        return error;
    if (!input->log_id[0])
        return 0; /* the export does not say of which log it is */
    return note_source(import->log, &import->source, input->log_id, input->salt, input->lsn);
}

int import_record(struct import *import, const struct twinlog_entry *entry, uint64_t *ret_lsn)
{
    const struct twinlog_terms terms = { .size = sizeof(terms), .level = TWINLOG_LEVEL_BUFFERED };
    const bool is_compared = !import->renumbers && !import->has_appended && twinlog_first_lsn(import->log);
    int error = 0;

    if (is_compared) {
        bool has_it;
        error = compare(import, entry, &has_it);
        if (error || has_it)
            return error;
    }

    if (!import->renumbers)
        error = prepare_lsn(import);
    if (error)
        return error;

    error = twinlog_append_batch(import->log, entry, 1, &terms, ret_lsn);
    if (error == 0)
        import->has_appended = true;
    return error;
}

/* ---- what went wrong -------------------------------------------------------------------------- */

static void complain_unproved(const struct import *import)
{
    complain(
        "the input and the log have equal records up to LSN %" PRIu64
        ", but nothing shows that they are of one history. Nothing was appended. Export from the log's first "
        "record on: 'twinlog cat DIR --from %" PRIu64
        " --export'. Or, if you know that both are one history up to there, say so with --same-history.",
        import->common_lsn, twinlog_first_lsn(import->log));
}

static void complain_history(const struct import *import)
{
    const uint64_t epoch_lsn = import->input->epoch_lsn;
    const uint64_t last_lsn = twinlog_last_lsn(import->log);

    if (!import->common_lsn && !import->other_lsn)
        complain(
            "the input has no record that the log has, so nothing shows that it continues the log, which ends with "
            "LSN %" PRIu64 ". Nothing was appended. Export from there: 'twinlog cat DIR --from %" PRIu64
            " --export'.",
            last_lsn, last_lsn);
    else if (!import->common_lsn)
        complain("the input is of another history: record %" PRIu64
                 " is not the one of the log. They differ from that LSN "
                 "on, or from a smaller one. Nothing was appended. Export from a smaller LSN, as %" PRIu64
                 ", to find the first difference.",
                 import->other_lsn, epoch_lsn > 1 ? epoch_lsn - 1 : 1);
    else
        complain("the input is of another history: the two are the same up to LSN %" PRIu64
                 ", and differ from LSN %" PRIu64
                 " on. Nothing was appended. With --rewind the log loses LSN %" PRIu64 " to %" PRIu64
                 " and goes on with the input; 'twinlog cat DIR --from %" PRIu64
                 " --export' saves them before.",
                 import->common_lsn, import->other_lsn, import->other_lsn, last_lsn, import->other_lsn);
}

static void complain_out_of_order(const struct import *import)
{
    const struct input *input = import->input;

    if (input->lsn > INT64_MAX)
        complain("record %" PRIu64 " of the input has LSN %" PRIu64
                 ", and the next one of the log is another. The rest was not appended. No log begins with so "
                 "large an LSN (at most %" PRId64 "): give new LSNs with --renumber.",
                 input->records, input->lsn, INT64_MAX);
    else
        complain(
            "record %" PRIu64 " of the input has LSN %" PRIu64
            ", and the next one of the log is another, as behind a record that was lost. The rest was not appended. "
            "'twinlog backup' copies a log with its gaps. Or give new LSNs with --renumber, in a new log.",
            input->records, input->lsn);
}

bool import_complain(const struct import *import, int error)
{
    switch (error) {
    case OTHER_HISTORY:
        complain_history(import);
        return true;
    case UNPROVED_HISTORY:
        complain_unproved(import);
        return true;
    case -ERANGE:
        complain_out_of_order(import);
        return true;
    default:
        return false;
    }
}
