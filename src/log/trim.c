/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing from the head: on demand and by retention. Moving the head in the state file, durably, is the trim; only
 * then are the files in front of it retired. The new head is chosen inside the change of the state file, because the
 * cursors that may hold it are there.
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
    struct twinlog *log;
    struct change *change; /* made in the same change of the state file; or NULL */

    /* What may be removed: records before `lsn`, and segments that the other limits don't need. */
    uint64_t lsn;
    uint64_t whole_lsn; /* the same, but only whole segments */
    uint64_t keep_bytes, keep_records, keep_age_ms;
    int64_t before_ns; /* for retention it follows from keep_age_ms */
    bool is_past_cursors;
    bool is_retention; /* by the limits of the log, as they are when the head is moved */
    bool is_retried;   /* later: no process that is stopped in a change of the state file holds it up */

    uint64_t old_lsn;  /* the current head */
    uint64_t wish_lsn; /* the head by the limits alone */
    uint64_t durable_lsn;
    uint64_t passed_lsn;    /* by all cursors that may hold it */
    uint64_t head_lsn;      /* the new head */
    uint64_t sequence;      /* of the segment that holds it */
    struct segment_set set; /* loaded under the lock of the state file */
    struct twinlog_trim_result result;
};

/* ---- how far ----------------------------------------------------------------------------------- */

static bool may_go(const struct trim *trim, const struct kept_segment *segment)
{
    const bool by_bytes = trim->keep_bytes > 0 && segment->later_bytes >= trim->keep_bytes;
    const bool by_time = trim->before_ns > 0 && segment->max_ns < trim->before_ns;
    const bool by_records = segment->end_lsn <= trim->whole_lsn;

    return by_bytes || by_time || by_records;
}

/* From the oldest segment on: false at the first one that is kept. */
static bool extend_wish(void *context, const struct kept_segment *segment)
{
    struct trim *trim = context;

    /* Nothing in it is kept any more. Its footer still has the times of records that were truncated. */
    if (segment->end_lsn <= trim->old_lsn)
        return true;
    if (!may_go(trim, segment))
        return false;

    trim->wish_lsn = max_u64(trim->wish_lsn, segment->end_lsn);
    return true;
}

/* Is this a segment without records that is kept? No head passes it, so it is removed when a limit says so and all
 * cursors have passed a record behind it, and its bytes count until then. */
static bool is_kept_empty(const struct trim *trim, const struct kept_segment *segment)
{
    const bool has_records = segment->first_lsn < segment->end_lsn;
    if (has_records)
        return false;

    const bool have_cursors_passed = segment->end_lsn <= trim->passed_lsn;
    const bool is_wished = segment->end_lsn <= trim->lsn || may_go(trim, segment);
    return !(have_cursors_passed && is_wished);
}

static void hold(struct trim *trim, enum twinlog_holder holder, const char *name, size_t bytes)
{
    trim->result.holder = holder;
    snprintf(trim->result.holder_name, sizeof(trim->result.holder_name), "%.*s", (int)bytes, name);
}

/* Finds the segment of the head, at trim->sequence or later. It must hold something durable, because it
 * must exist after a crash. */
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

    const bool holds_removed_records = segment->first_lsn < trim->head_lsn;
    trim->sequence = segment->sequence;
    if (holds_removed_records && trim->result.holder == TWINLOG_HELD_BY_NOTHING) {
        hold(trim, TWINLOG_HELD_BY_SEGMENT, segment->name, sizeof(segment->name));
        trim->result.held_bytes = segment->file_bytes;
    }
    return false;
}

static bool count_held(void *context, const struct kept_segment *segment)
{
    struct trim *trim = context;
    if (segment->end_lsn > trim->wish_lsn)
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

static uint64_t find_limit(uint64_t option, const struct state *state, const char *name)
{
    struct state_entry entry;

    if (option > 0 || !state)
        return option;
    if (!twl_state_find(state, STATE_VALUE, name, &entry))
        return 0;
    return twl_limit_parse(entry.value, entry.value_bytes);
}

/* Those of the options; where these have none, of the log. */
static void find_limits(struct trim *trim, const struct state *state)
{
    const struct twinlog_options *options = &trim->log->options;

    trim->keep_bytes = find_limit(options->keep_bytes, state, TWINLOG_KEEP_BYTES);
    trim->keep_records = find_limit(options->keep_records, state, TWINLOG_KEEP_RECORDS);
    trim->keep_age_ms = find_limit(options->keep_age_ms, state, TWINLOG_KEEP_AGE_MS);
}

/* An age counts from what the log itself proves to have been reached, and not from a clock that may be years ahead:
 * the newest record in a segment that is full. Records in the present segment have the times of that same clock. */
static int find_age_limit(struct trim *trim)
{
    struct twinlog *log = trim->log;
    trim->before_ns = 0;
    if (trim->keep_age_ms == 0)
        return 0;

    int64_t newest_ns = INT64_MIN;
    const int rc = twl_keeper_newest(log->io, log->keeper, &trim->set, &newest_ns);
    if (rc < 0)
        return rc;

    const int64_t clock_ns = log->io->ops->now_ns(log->io);
    const int64_t reached_ns = newest_ns < clock_ns ? newest_ns : clock_ns;
    const int64_t age_ns = (int64_t)min_u64(trim->keep_age_ms, INT64_MAX / 1000000) * 1000000;
    if (reached_ns > age_ns)
        trim->before_ns = reached_ns - age_ns;
    return 0;
}

/* First LSN of so many records; 0 = there are fewer, or no such limit. The caller holds `head_lock`, because a
 * truncation removes some of them. */
static uint64_t head_for_records(struct twinlog *log, uint64_t keep_records)
{
    const uint64_t durable_lsn = twl_durable_lsn(log);

    if (keep_records == 0 || durable_lsn < keep_records)
        return 0;
    return durable_lsn - keep_records + 1;
}

/* ---- the change -------------------------------------------------------------------------------- */

static void hold_for_cursor(struct trim *trim, const struct state *state)
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

/* A mapped log has no keeper: participants make segments. They trim one after the other. */
static int load_set(struct trim *trim)
{
    const struct twinlog *log = trim->log;

    if (log->keeper)
        return twl_keeper_set(log->keeper, &trim->set);
    return twl_segment_set_open(log->io, SET_FOR_READING, NULL, &trim->set, NULL);
}

static int each_segment(struct trim *trim, bool (*each)(void *context, const struct kept_segment *segment))
{
    return twl_keeper_each(trim->log->io, trim->log->keeper, &trim->set, each, trim);
}

/* How far the limits allow it, whatever the cursors say: only durable records are removed. */
static int find_wish_lsn(struct trim *trim, const struct state *state)
{
    if (trim->is_retention) {
        find_limits(trim, state);
        trim->whole_lsn = head_for_records(trim->log, trim->keep_records);
    }
    trim->wish_lsn = trim->lsn;

    int rc = load_set(trim);
    if (rc == 0 && trim->is_retention)
        rc = find_age_limit(trim);
    if (rc == 0)
        rc = each_segment(trim, extend_wish);

    trim->durable_lsn = twl_durable_lsn(trim->log);
    trim->wish_lsn = min_u64(trim->wish_lsn, trim->durable_lsn + 1);
    return rc;
}

/* The new head, never in front of the old one, and its segment. */
static int choose_head(struct trim *trim, const struct state *state)
{
    int rc = find_wish_lsn(trim, state);
    if (rc < 0)
        return rc;

    trim->head_lsn = trim->wish_lsn;
    hold_for_cursor(trim, state);
    trim->head_lsn = max_u64(trim->head_lsn, trim->old_lsn);

    trim->sequence = state->header.first_sequence;
    return each_segment(trim, find_head);
}

/* For a change of the state file: 1 = it has changed. */
static int move_head(void *context, struct state *state)
{
    struct trim *trim = context;
    int is_edited = 0;

    if (trim->change)
        is_edited = twl_change_edit(trim->change, state);
    if (is_edited < 0)
        return is_edited;

    /* A change that failed may have moved the head; this change settles that. */
    trim->old_lsn = state->header.first_lsn;
    const int rc = choose_head(trim, state);
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

static struct keeper_freed remove_files(struct trim *trim)
{
    struct twinlog *log = trim->log;

    if (log->keeper)
        return twl_keeper_retire(log->keeper, trim->sequence);
    return twl_mapped_remove(log->mapped, &trim->set, trim->sequence);
}

/* The head has moved in the state file. */
static void settle(struct trim *trim)
{
    struct twinlog *log = trim->log;

    atomic_store(&log->first_lsn, trim->head_lsn);
    twl_page_publish_first(log->shared, trim->head_lsn);
    if (trim->result.holder == TWINLOG_HELD_BY_CURSOR)
        each_segment(trim, count_held);
    const struct keeper_freed freed = remove_files(trim);
    twl_forget_lookups(log);

    trim->result.first_lsn = trim->head_lsn;
    trim->result.removed_records = trim->head_lsn - trim->old_lsn;
    trim->result.removed_segments = freed.segments;
    trim->result.removed_bytes = freed.bytes;
}

static int apply(struct trim *trim)
{
    struct io *io = trim->log->io;
    int rc;

    /* The segment that the truncation continues, if it happened, must not be removed. */
    if (trim->log->is_truncation_in_doubt)
        return TWINLOG_EPOISONED;

    if (trim->is_retried)
        rc = twl_state_change_within(io, RETRIED_MS, move_head, trim);
    else
        rc = twl_state_change(io, move_head, trim);
    if (rc == 0)
        settle(trim);
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

/* ---- on demand --------------------------------------------------------------------------------- */

static bool is_possible(const struct twinlog_trim_options *options)
{
    const bool by_lsn = options->before_lsn > 0 || options->keep_records > 0;
    const bool by_bytes = options->keep_bytes > 0;
    const bool by_time = options->before_time_ns > 0;
    const bool has_unknown_flag = options->flags & ~(uint32_t)TWINLOG_TRIM_PAST_CURSORS;

    return (by_lsn || by_bytes || by_time) && !has_unknown_flag;
}

static int trim_once(struct twinlog *log, const struct twinlog_trim_options *options,
                     struct twinlog_trim_result *ret_result)
{
    struct trim trim = {
        .log = log,
        .lsn = options->before_lsn,
        .keep_bytes = options->keep_bytes,
        .before_ns = options->before_time_ns,
        .is_past_cursors = (options->flags & TWINLOG_TRIM_PAST_CURSORS) != 0,
        .result = TWINLOG_TRIM_RESULT_INIT,
    };
    if (is_read_only(log))
        return -EROFS;
    if (log->mapped)
        twl_mapped_close_left(log->mapped);

    twl_mutex_lock(&log->head_lock);
    trim.lsn = max_u64(trim.lsn, head_for_records(log, options->keep_records));
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
    if (twl_versioned_take(&own, sizeof(own), options) < 0 || !is_possible(&own))
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

/* ---- by retention, and for another process ----------------------------------------------------- */

/* Retention has no caller to tell: monitoring sees that it fails. */
static void count_failure(struct twinlog *log, int rc)
{
    if (rc < 0)
        atomic_fetch_add(&twl_counters(log)->trim_failures, 1);
}

/* Is there any? Cheap, and looked at again when the head is moved. */
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

/* What processes want to be removed, as it stands in the state file: records in front of lsn[0], as far as cursors
 * allow, and in front of lsn[1] in any case. */
struct wish {
    uint64_t lsn[2];
};
#define BY_CURSORS 0u
#define PAST_CURSORS 1u

static void find_wish(const struct state *state, struct wish *wish)
{
    struct state_entry entry;

    *wish = (struct wish){ { 0 } };
    if (!twl_state_find(state, STATE_VALUE, STATE_TRIM_NAME, &entry))
        return;
    if (entry.value_bytes != STATE_TRIM_BYTES)
        return;
    wish->lsn[BY_CURSORS] = load_le64(entry.value);
    wish->lsn[PAST_CURSORS] = load_le64(entry.value + 8);
}

static int put_wish(struct state *state, const struct wish *wish)
{
    unsigned char value[STATE_TRIM_BYTES];

    store_le64(value, wish->lsn[BY_CURSORS]);
    store_le64(value + 8, wish->lsn[PAST_CURSORS]);
    return twl_state_put(state, STATE_VALUE, STATE_TRIM_NAME, value, sizeof(value));
}

static int look_for_wish(void *context, struct state *state)
{
    find_wish(state, context);
    return 0;
}

/* Unless another one has come meanwhile. */
static int forget_wish(void *context, struct state *state)
{
    const struct wish *granted = context;
    struct wish wish;

    find_wish(state, &wish);
    if (memcmp(&wish, granted, sizeof(wish)) != 0)
        return 0;
    return twl_state_remove(state, STATE_VALUE, STATE_TRIM_NAME) == 0;
}

static int grant(struct twinlog *log, uint64_t lsn, bool is_past_cursors)
{
    struct trim trim = { .log = log, .lsn = lsn, .is_past_cursors = is_past_cursors, .is_retried = true };

    if (lsn == 0)
        return 0;
    return apply(&trim);
}

/* *ret_result is what the processes that wish are told. -EBUSY: another process is stopped in a change of the state
 * file, so the wish stays. */
static int grant_wishes(struct twinlog *log, int *ret_result)
{
    struct wish wish = { { 0 } };

    int rc = twl_state_change_within(log->io, RETRIED_MS, look_for_wish, &wish);
    if (rc == 0)
        rc = grant(log, wish.lsn[BY_CURSORS], false);
    if (rc == 0)
        rc = grant(log, wish.lsn[PAST_CURSORS], true);
    if (rc == -EBUSY)
        return rc;

    const int forgotten = twl_state_change_within(log->io, RETRIED_MS, forget_wish, &wish);
    if (forgotten == -EBUSY)
        return forgotten;
    *ret_result = rc < 0 ? rc : forgotten;
    return 0;
}

/* Each participant of a shared log may do so. One that dies in between leaves the wish to the others, and to do it
 * twice does no harm. */
static void answer(struct twinlog *log)
{
    struct trim_ask *ask = &log->shared->page->trim_ask;
    int result;
    if (!trim_ask_is_open(ask))
        return;

    const uint32_t asked = atomic_load(&ask->asked); /* what is wished later is asked again */
    if (grant_wishes(log, &result) < 0)
        return;
    atomic_store(&ask->result, result);
    atomic_store(&ask->answered, asked);
}

/* A close waits for the keeper's thread, so this call need not be counted. A failure is retried next time,
 * and so is a call that finds `head_lock` taken: without a thread this call's own caller may hold it; with
 * one, a truncation may hold it, which waits for appends that may wait for a segment from the keeper. */
void twl_retain(void *context)
{
    struct twinlog *log = context;
    struct trim trim = { .log = log, .is_retention = true, .is_retried = true };
    const bool is_limited = has_limits(log);
    const bool is_asked = trim_ask_is_open(&log->shared->page->trim_ask);
    if (!is_limited && !is_asked)
        return;
    if (!twl_mutex_try_lock(&log->head_lock))
        return;

    if (is_limited)
        count_failure(log, apply(&trim));
    answer(log);
    twl_mutex_unlock(&log->head_lock);
}

/* ---- in another process ------------------------------------------------------------------------ */

#define LOOK_MS 20 /* at what the writer has answered */

struct asking {
    struct shared_page *shared;
    const struct twinlog_trim_options *options;
    bool has_asked;
    uint32_t left_epoch; /* of the writer that is asked: each opening leaves another one */
    uint32_t asked;
};

/* What others wish stays, if the writer still has to look; else it is an old wish, of a writer that is gone. It is
 * counted under the lock of the state file, so the next one that asks doesn't take it for an old one. Under that lock
 * the next writer removes it. */
static int make_wish(void *context, struct state *state)
{
    struct asking *asking = context;
    struct trim_ask *ask = &asking->shared->page->trim_ask;
    const struct twinlog_trim_options *options = asking->options;
    const unsigned which = options->flags & TWINLOG_TRIM_PAST_CURSORS ? PAST_CURSORS : BY_CURSORS;
    struct wish wish = { { 0 } };
    if (atomic_load(&asking->shared->page->left_epoch) != asking->left_epoch)
        return -ESRCH;

    if (trim_ask_is_open(ask))
        find_wish(state, &wish);
    wish.lsn[which] = max_u64(wish.lsn[which], options->before_lsn);
    const int rc = put_wish(state, &wish);
    if (rc < 0)
        return rc;
    asking->asked = atomic_fetch_add(&ask->asked, 1) + 1;
    return 1;
}

/* A writer that is opening the log is asked when it has opened it. */
static int ask_for_trim(struct asking *asking)
{
    struct shared_page *shared = asking->shared;
    const uint32_t left_epoch = atomic_load(&shared->page->left_epoch);
    const bool is_being_opened = twl_page_epoch(shared) <= left_epoch;
    if (is_being_opened)
        return 0;

    asking->left_epoch = left_epoch;
    const int rc = twl_state_change(shared->io, make_wish, asking);
    asking->has_asked = rc == 0;
    return rc;
}

/* Has the writer answered what it was asked, or something later? */
static bool is_answered(const struct asking *asking)
{
    const uint32_t answered = atomic_load(&asking->shared->page->trim_ask.answered);

    return asking->has_asked && (int32_t)(answered - asking->asked) >= 0;
}

/* -ESRCH: the writer that was asked is gone, or there is none. */
static int check_writer(struct asking *asking)
{
    struct shared_page *shared = asking->shared;
    bool has_writer;
    const int rc = twl_page_ask_writer(shared, &has_writer);
    if (rc < 0)
        return rc;
    if (!has_writer)
        return -ESRCH;
    if (!shared->page)
        return -ENOTSUP;
    if (!shared->is_writable)
        return -EACCES;

    const bool is_another = atomic_load(&shared->page->left_epoch) != asking->left_epoch;
    if (asking->has_asked && is_another)
        return -ESRCH;
    return 0;
}

/* Asks once, and looks for the answer. */
static int ask_or_look(struct asking *asking, bool *ret_is_answered)
{
    int rc = check_writer(asking);
    if (rc == 0 && !asking->has_asked)
        rc = ask_for_trim(asking);
    if (rc < 0)
        return rc;

    *ret_is_answered = is_answered(asking);
    if (!*ret_is_answered)
        return 0;
    const int result = atomic_load(&asking->shared->page->trim_ask.result);
    return result < 0 ? result : 0; /* the page is not to be trusted */
}

static int ask_writer(struct shared_page *shared, const struct twinlog_trim_options *options, int timeout_ms)
{
    const uint64_t deadline_ns = timeout_ms < 0 ? UINT64_MAX : twinlog_deadline((uint32_t)timeout_ms);
    struct asking asking = { .shared = shared, .options = options };
    bool is_answered = false;

    for (;;) {
        const int rc = ask_or_look(&asking, &is_answered);
        if (rc < 0 || is_answered)
            return rc;
        if (twl_monotonic_ns() >= deadline_ns)
            return asking.has_asked ? -ETIMEDOUT : -EAGAIN;
        shared->io->ops->sleep_ms(shared->io, LOOK_MS);
    }
}

int twl_ask_trim(struct io *io, const struct twinlog_trim_options *options, int timeout_ms,
                 uint64_t *ret_first_lsn)
{
    NOT_CANCELLED; /* the state file would stay locked */
    struct shared_page shared;
    int rc = twl_page_watch(io, &shared);
    if (rc == 0) {
        rc = ask_writer(&shared, options, timeout_ms);
        if (rc == 0 && ret_first_lsn)
            *ret_first_lsn = twl_page_first_lsn(&shared);
        twl_page_unwatch(&shared);
    }
    io->ops->destroy(io);
    return rc;
}
