/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing from the head: on demand, by retention, and for another process (trim_wish.c). A trim takes these steps,
 * inside one change of the state file, because the cursors that may hold the head are there:
 *
 * 1. How far the limits allow the head to move (find_allowed_lsn()).
 * 2. Cursors that have not passed the records in front of it hold it (hold_for_cursors()).
 * 3. The segment that the new head is in (find_head()).
 *
 * When the change of the state file is durable, the trim has happened. Only then are the files in front of the head
 * retired, so a failure or a crash before that removes nothing.
 *
 * A plan (twl_trim_plan()) takes the same steps with what another process finds in the directory, and stops there.
 */
#include "base/bytes.h"
#include "base/versioned.h"
#include "log/change.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RETRIED_MS 100u /* to wait for the state file, where the trim is tried again later */

/* A trim in progress. */
struct trim {
    struct io *io;
    struct twinlog *log;   /* NULL: this is a plan */
    struct change *change; /* made in the same change of the state file; or NULL */

    /* What may be removed: records before `lsn`, and segments that the other limits don't need. */
    uint64_t lsn;
    uint64_t whole_lsn; /* the same, but only whole segments */
    uint64_t keep_bytes, keep_records, keep_age_ms;
    bool has_time_limit;     /* records before before_ns may go */
    int64_t before_ns;       /* for retention it follows from keep_age_ms */
    int64_t clock_ns;        /* when the trim began */
    bool has_passed_unknown; /* the last segment with records that was looked at has_unknown_age() */
    bool is_past_cursors;
    bool is_retention; /* by the limits of the log, as they are when the head is moved */
    bool is_retried;   /* later, so it does not wait long for a process that is stopped in a change */

    uint64_t old_lsn;       /* the current head */
    uint64_t allowed_lsn;   /* the head by the limits alone */
    uint64_t durable_lsn;   /* when its steps began: only durable records are removed */
    uint64_t passed_lsn;    /* newest one that all cursors have passed that may hold the head */
    uint64_t head_lsn;      /* the new head */
    uint64_t sequence;      /* of the segment that the new head is in */
    struct segment_set set; /* loaded under the lock of the state file */
    struct twinlog_trim_result result;
};

/* ---- how far ----------------------------------------------------------------------------------- */

static bool may_go(const struct trim *trim, const struct kept_segment *segment)
{
    const bool by_bytes = trim->keep_bytes > 0 && segment->later_bytes >= trim->keep_bytes;
    const bool by_time = trim->has_time_limit && segment->max_ns < trim->before_ns;
    const bool by_records = segment->end_lsn <= trim->whole_lsn;

    return by_bytes || by_time || by_records;
}

/* The clock was ahead when it was filled, so its age is not known. It is older than what comes behind it. */
static bool has_unknown_age(const struct trim *trim, const struct kept_segment *segment)
{
    const bool is_full = segment->max_ns != INT64_MAX;

    return trim->is_retention && trim->has_time_limit && is_full && segment->max_ns > trim->clock_ns;
}

/* From the oldest segment on: false at the first one that is kept. One of unknown age goes with an old one behind
 * it. */
static bool extend_allowed(void *context, const struct kept_segment *segment)
{
    struct trim *trim = context;

    /* It has no record that is kept. The limits are not asked, as its footer still has the times of records that were
     * truncated. */
    if (segment->end_lsn <= trim->old_lsn)
        return true;
    if (!may_go(trim, segment)) {
        trim->has_passed_unknown = has_unknown_age(trim, segment);
        return trim->has_passed_unknown;
    }

    const bool has_records = segment->first_lsn < segment->end_lsn;
    if (trim->has_passed_unknown && !has_records) /* it proves no age */
        return true;

    trim->has_passed_unknown = false;
    trim->allowed_lsn = max_u64(trim->allowed_lsn, segment->end_lsn);
    return true;
}

/* Is this a segment without records that is kept? It may be in front of the head although no trim was to remove it: the
 * head is the first record behind it. So it is removed only when a limit allows it and all cursors have passed a later
 * record. Until then its bytes count. */
static bool is_kept_empty(const struct trim *trim, const struct kept_segment *segment)
{
    const bool has_records = segment->first_lsn < segment->end_lsn;
    if (has_records)
        return false;

    const bool have_cursors_passed = segment->end_lsn <= trim->passed_lsn;
    const bool is_allowed = segment->end_lsn <= trim->lsn || may_go(trim, segment);
    return !(have_cursors_passed && is_allowed);
}

/* Notes what keeps the head, or a file, from going. */
static void hold(struct trim *trim, enum twinlog_holder holder, const char *name, size_t bytes)
{
    trim->result.holder = holder;
    snprintf(trim->result.holder_name, sizeof(trim->result.holder_name), "%.*s", (int)bytes, name);
}

/* Finds the segment of the head, at trim->sequence or later. It must hold something durable, or an opening after a
 * crash would look for a segment that does not exist. */
static bool find_head(void *context, const struct kept_segment *segment)
{
    struct trim *trim = context;
    if (segment->sequence < trim->sequence)
        return true;

    const bool is_spent = segment->end_lsn <= trim->head_lsn && segment->end_lsn <= trim->durable_lsn;
    if (is_spent && !is_kept_empty(trim, segment)) {
        trim->sequence = segment->next_sequence;
        return true;
    }

    /* Only whole files are removed. If no cursor is to blame, this one is. */
    const bool has_removed_records = segment->first_lsn < trim->head_lsn;
    trim->sequence = segment->sequence;
    if (has_removed_records && trim->result.holder == TWINLOG_HELD_BY_NOTHING) {
        hold(trim, TWINLOG_HELD_BY_SEGMENT, segment->name, sizeof(segment->name));
        trim->result.held_bytes = segment->file_bytes;
    }
    return false;
}

/* The bytes of the segments that the limits allow to go, and a cursor holds. */
static bool count_held(void *context, const struct kept_segment *segment)
{
    struct trim *trim = context;
    if (segment->end_lsn > trim->allowed_lsn)
        return false;

    if (segment->end_lsn > trim->head_lsn)
        trim->result.held_bytes += segment->file_bytes;
    return true;
}

/* ---- limits ------------------------------------------------------------------------------------ */

uint64_t twl_limit_parse(const void *text, size_t size)
{
    const unsigned char *digits = text;
    uint64_t number = 0;

    for (size_t i = 0; i < size; i++) {
        const unsigned digit = (unsigned)digits[i] - '0';
        const bool is_too_large = number > (UINT64_MAX - digit) / 10;
        if (digit > 9 || is_too_large)
            return 0;
        number = number * 10 + digit;
    }
    return number;
}

/* `state`: NULL if it could not be read. */
static uint64_t find_limit(uint64_t option, const struct state *state, const char *name)
{
    struct state_entry entry;

    if (option > 0)
        return option;
    if (!state)
        return 0;
    if (!twl_state_find(state, STATE_VALUE, name, &entry))
        return 0;
    return twl_limit_parse(entry.value, entry.value_bytes);
}

/* The limits of the options; where these have none, those that the log has as values in its state file. */
static void find_limits(struct trim *trim, const struct state *state)
{
    const struct twinlog_options *options = &trim->log->options;

    trim->keep_bytes = find_limit(options->keep_bytes, state, TWINLOG_KEEP_BYTES);
    trim->keep_records = find_limit(options->keep_records, state, TWINLOG_KEEP_RECORDS);
    trim->keep_age_ms = find_limit(options->keep_age_ms, state, TWINLOG_KEEP_AGE_MS);
}

/* NULL: what is found of the segments is not remembered. */
static struct keeper *find_keeper(const struct trim *trim)
{
    return trim->log ? trim->log->keeper : NULL;
}

/* An age counts from what the log itself proves to have been reached, and not from a clock that may be years ahead:
 * the newest record in a segment that is full. Records in the present segment have the times of that same clock. */
static int find_age_limit(struct trim *trim)
{
    trim->has_time_limit = false;
    if (trim->keep_age_ms == 0)
        return 0;

    int64_t newest_ns = INT64_MIN;
    const int rc = twl_keeper_newest(trim->io, find_keeper(trim), &trim->set, &newest_ns);
    if (rc < 0)
        return rc;

    const int64_t clock_ns = trim->clock_ns;
    const int64_t reached_ns = newest_ns < clock_ns ? newest_ns : clock_ns;
    const int64_t age_ns = (int64_t)min_u64(trim->keep_age_ms, INT64_MAX / 1000000) * 1000000;
    trim->has_time_limit = reached_ns > INT64_MIN + age_ns;
    if (trim->has_time_limit)
        trim->before_ns = reached_ns - age_ns;
    return 0;
}

/* First LSN of the newest records that `keep_records` keeps; 0 = there are fewer, or no such limit. */
static uint64_t head_for_records(const struct trim *trim)
{
    if (trim->keep_records == 0 || trim->durable_lsn < trim->keep_records)
        return 0;
    return trim->durable_lsn - trim->keep_records + 1;
}

/* ---- the change -------------------------------------------------------------------------------- */

static void hold_for_cursors(struct trim *trim, const struct state *state)
{
    struct state_entry slowest;

    trim->passed_lsn = UINT64_MAX;
    if (trim->is_past_cursors || !twl_state_slowest(state, &slowest))
        return;

    trim->passed_lsn = twl_state_cursor_lsn(&slowest);
    if (trim->passed_lsn + 1 >= trim->head_lsn)
        return;

    trim->head_lsn = trim->passed_lsn + 1;
    hold(trim, TWINLOG_HELD_BY_CURSOR, slowest.name, slowest.name_bytes);
}

/* A mapped log has no keeper with a list: its participants make the segments. Only one trims at a time, as a trim is
 * inside a change of the state file. */
static int load_set(struct trim *trim)
{
    struct keeper *keeper = find_keeper(trim);

    if (keeper)
        return twl_keeper_set(keeper, &trim->set);
    return twl_segment_set_open(trim->io, SET_FOR_READING, NULL, &trim->set, NULL);
}

static int each_segment(struct trim *trim, bool (*each)(void *context, const struct kept_segment *segment))
{
    return twl_keeper_each(trim->io, find_keeper(trim), &trim->set, each, trim);
}

/* Of a retention, which removes whole segments only. */
static int find_retained(struct trim *trim, const struct state *state)
{
    trim->clock_ns = trim->io->ops->now_ns(trim->io);
    find_limits(trim, state);
    trim->whole_lsn = head_for_records(trim);
    return find_age_limit(trim);
}

/* How far the limits allow the head to move, whatever the cursors say. */
static int find_allowed_lsn(struct trim *trim, const struct state *state)
{
    int rc = 0;

    if (trim->is_retention)
        rc = find_retained(trim, state);
    else
        trim->lsn = max_u64(trim->lsn, head_for_records(trim));

    trim->allowed_lsn = trim->lsn;
    if (rc == 0)
        rc = each_segment(trim, extend_allowed);
    trim->allowed_lsn = min_u64(trim->allowed_lsn, trim->durable_lsn + 1);
    return rc;
}

/* The new head, never in front of the old one, and its segment. */
static int choose_head(struct trim *trim, const struct state *state)
{
    /* As the file says, not this process: an earlier change that failed may have moved the head. */
    trim->old_lsn = state->header.first_lsn;

    int rc = find_allowed_lsn(trim, state);
    if (rc < 0)
        return rc;

    trim->head_lsn = trim->allowed_lsn;
    hold_for_cursors(trim, state);
    trim->head_lsn = max_u64(trim->head_lsn, trim->old_lsn);

    trim->sequence = state->header.first_sequence;
    return each_segment(trim, find_head);
}

/* For a change of the state file: 1 = it has changed. */
static int move_head(void *context, struct state *state)
{
    struct trim *trim = context;
    int is_edited = 0;

    /* First, as it may move the cursors that hold the head. */
    if (trim->change)
        is_edited = twl_change_edit(trim->change, state);
    if (is_edited < 0)
        return is_edited;

    trim->durable_lsn = twl_durable_lsn(trim->log);
    int rc = load_set(trim);
    if (rc == 0)
        rc = choose_head(trim, state);
    if (rc < 0)
        return rc;

    const bool is_moved = trim->head_lsn != trim->old_lsn || trim->sequence > state->header.first_sequence;
    if (!is_moved)
        return is_edited;

    state->header.first_lsn = trim->head_lsn;
    state->header.first_sequence = trim->sequence;
    twl_state_clamp_cursors(state, trim->head_lsn - 1, UINT64_MAX);
    return 1;
}

static void tell_result(struct trim *trim, struct keeper_freed freed)
{
    trim->result.first_lsn = trim->head_lsn;
    trim->result.removed_records = trim->head_lsn - trim->old_lsn;
    trim->result.removed_segments = freed.segments;
    trim->result.removed_bytes = freed.bytes;
}

static struct keeper_freed remove_files(struct trim *trim)
{
    struct twinlog *log = trim->log;

    if (log->keeper)
        return twl_keeper_retire(log->keeper, trim->sequence);
    return twl_mapped_remove(log->mapped, &trim->set, trim->sequence);
}

/* The head has moved in the state file: tells so, and removes what is in front of it. */
static void finish(struct trim *trim)
{
    struct twinlog *log = trim->log;

    atomic_store(&log->first_lsn, trim->head_lsn);
    twl_page_publish_first(log->shared, trim->head_lsn);

    /* The segments have to be there for this. */
    if (trim->result.holder == TWINLOG_HELD_BY_CURSOR)
        each_segment(trim, count_held);
    const struct keeper_freed freed = remove_files(trim);
    twl_forget_lookups(log);
    tell_result(trim, freed);
}

/* The caller holds `head_lock`. */
static int apply(struct trim *trim)
{
    struct io *io = trim->log->io;
    int rc;

    trim->io = io;
    /* The segment that the truncation continues, if it happened, must not be removed. */
    if (trim->log->is_truncation_in_doubt)
        return TWINLOG_EPOISONED;

    if (trim->is_retried)
        rc = twl_state_change_within(io, RETRIED_MS, move_head, trim);
    else
        rc = twl_state_change(io, move_head, trim);
    if (rc == 0)
        finish(trim);
    twl_segment_set_free(&trim->set);
    return rc;
}

int twl_trim_with_change(struct twinlog *log, uint64_t before_lsn, bool is_past_cursors,
                         struct change *change, struct twinlog_trim_result *ret_result)
{
    struct trim trim = {
        .log = log,
        .change = change,
        .lsn = before_lsn,
        .is_past_cursors = is_past_cursors,
        .result = TWINLOG_TRIM_RESULT_INIT,
    };

    if (log->mapped)
        twl_mapped_close_left(log->mapped);
    const int rc = apply(&trim);
    if (rc == 0)
        *ret_result = trim.result;
    return rc;
}

int twl_trim_as_wished(struct twinlog *log, uint64_t before_lsn, bool is_past_cursors)
{
    struct trim trim = {
        .log = log,
        .lsn = before_lsn,
        .is_past_cursors = is_past_cursors,
        .is_retried = true,
    };

    return apply(&trim);
}

/* ---- on demand --------------------------------------------------------------------------------- */

bool twl_trim_is_valid(const struct twinlog_trim_options *options)
{
    const bool by_lsn = options->before_lsn > 0 || options->keep_records > 0;
    const bool by_bytes = options->keep_bytes > 0;
    const bool by_time = options->before_time_ns != 0;
    const bool has_limit = by_lsn || by_bytes || by_time;
    const bool has_unknown_flag = options->flags & ~(uint32_t)TWINLOG_TRIM_PAST_CURSORS;

    return has_limit && !has_unknown_flag;
}

static struct trim begin_trim(const struct twinlog_trim_options *options)
{
    return (struct trim){
        .lsn = options->before_lsn,
        .keep_bytes = options->keep_bytes,
        .keep_records = options->keep_records,
        .has_time_limit = options->before_time_ns != 0,
        .before_ns = options->before_time_ns,
        .is_past_cursors = (options->flags & TWINLOG_TRIM_PAST_CURSORS) != 0,
        .result = TWINLOG_TRIM_RESULT_INIT,
    };
}

static int trim_once(struct twinlog *log, const struct twinlog_trim_options *options,
                     struct twinlog_trim_result *ret_result)
{
    struct trim trim = begin_trim(options);

    trim.log = log;
    if (is_read_only(log))
        return -EROFS;
    if (log->mapped)
        twl_mapped_close_left(log->mapped);

    twl_mutex_lock(&log->head_lock);
    const int rc = apply(&trim);
    twl_mutex_unlock(&log->head_lock);

    if (rc == 0)
        *ret_result = trim.result;
    return rc;
}

int twinlog_trim(struct twinlog *log, const struct twinlog_trim_options *options,
                 struct twinlog_trim_result *ret_result)
{
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    struct twinlog_trim_options own;
    struct call call;

    if (twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    if (!twl_trim_is_valid(&own))
        return -EINVAL;
    if (!twl_versioned_is_set(ret_result))
        return -EINVAL;

    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = trim_once(log, &own, &result);
    if (rc == 0)
        twl_versioned_give(ret_result, &result, sizeof(result));
    twl_leave(&call);
    return rc;
}

/* ---- a plan ------------------------------------------------------------------------------------ */

/* What remove_files() would free. */
static struct keeper_freed count_spent(const struct trim *trim)
{
    const struct segment_set *set = &trim->set;
    struct keeper_freed freed = { 0 };

    for (size_t i = 0; i < set->started && set->entries[i].header.sequence < trim->sequence; i++) {
        freed.segments++;
        freed.bytes += segment_entry_bytes(&set->entries[i]);
    }
    return freed;
}

int twl_trim_plan(struct io *io, const struct twinlog_trim_options *options, uint64_t durable_lsn,
                  struct twinlog_trim_result *ret_result)
{
    struct trim trim = begin_trim(options);
    struct state state;

    trim.io = io;
    trim.durable_lsn = durable_lsn;
    int rc = twl_segment_set_open(io, SET_FOR_READING, &state, &trim.set, NULL);
    if (rc < 0)
        return rc;

    rc = choose_head(&trim, &state);
    if (rc == 0 && trim.result.holder == TWINLOG_HELD_BY_CURSOR)
        rc = each_segment(&trim, count_held);
    if (rc == 0) {
        tell_result(&trim, count_spent(&trim));
        *ret_result = trim.result;
    }
    twl_segment_set_free(&trim.set);
    twl_state_free(&state);
    return rc;
}

/* ---- by retention, and for another process ----------------------------------------------------- */

/* Retention has no caller to tell: monitoring sees that it fails. */
static void count_failure(struct twinlog *log, int rc)
{
    if (rc < 0)
        atomic_fetch_add(&twl_counters(log)->trim_failures, 1);
}

/* Has the retention any limit? This is cheap. The limits are read again when the head is moved. */
static bool has_limits(struct twinlog *log)
{
    struct trim trim = { .log = log };
    struct state state = { 0 };

    const int rc = twl_state_read(log->io, &state, NULL);
    count_failure(log, rc);
    if (rc < 0) {
        find_limits(&trim, NULL);
    } else {
        find_limits(&trim, &state);
        twl_state_free(&state);
    }
    return trim.keep_bytes > 0 || trim.keep_records > 0 || trim.keep_age_ms > 0;
}

/* A close waits for the keeper's thread, so this call need not be counted. A failure is retried next time. */
void twl_retain(void *context)
{
    struct twinlog *log = context;
    struct trim trim = { .log = log, .is_retention = true, .is_retried = true };
    const bool is_limited = has_limits(log);
    const bool is_asked = trim_ask_is_open(&log->shared->page->trim_ask);
    if (!is_limited && !is_asked)
        return;

    /* It does not wait for this lock, but comes again. Without a thread, this call's own caller may hold it. With one,
     * a truncation may hold it, which waits for appends that may wait for a segment from the keeper. */
    if (!twl_mutex_try_lock(&log->head_lock))
        return;

    if (is_limited)
        count_failure(log, apply(&trim));
    twl_grant_trim_wishes(log);
    twl_mutex_unlock(&log->head_lock);
}
