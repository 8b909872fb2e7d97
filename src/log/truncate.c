/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing from the end: truncation and reset. Nothing is overwritten. A new segment, in which the writer goes on in a
 * new epoch, says in its header at which LSN it starts and which group it continues; in a reset it continues nothing.
 * When it is durable under its name, what older segments hold of that LSN and later ones is dead (I4).
 */
#include "log/handle.h"

#include <errno.h>

#define MOST_LSN INT64_MAX /* limit of a reset; a larger number leaves too few LSNs */

struct truncation {
    struct twinlog *log;
    uint64_t next_lsn; /* LSN of the next record */
    bool is_reset;     /* nothing is kept, wherever the log ends */
    uint64_t previous; /* sequence of the segment that holds the last record that is kept; 0 = none is */
    uint32_t chain;    /* chain of the group that holds it */
    bool is_paused, is_stopped, is_done; /* the log; the commit path; all but the state file */
};

/* Reads the segment up to the last record that is kept. */
static int find_group(struct truncation *truncation, struct segment_set *set)
{
    struct io *io = truncation->log->io;
    const uint64_t last_lsn = truncation->next_lsn - 1;
    const int64_t index = twl_segment_set_find(io, set, last_lsn);
    if (index < 0)
        return (int)index;

    const struct segment_entry *entry = &set->entries[index];
    const struct segment_footer *footer = entry->is_sealed ? &entry->footer : NULL;
    struct segment segment;
    const int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;

    struct segment_iter iter = { 0 };
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    const int found = twl_iter_seek(&iter, footer, last_lsn);
    if (found > 0) {
        truncation->previous = entry->header.sequence;
        truncation->chain = twl_group_chain(&iter.group);
    }
    twl_iter_free(&iter);
    twl_segment_close(&segment);

    if (found < 0)
        return found;
    return found > 0 ? 0 : TWINLOG_ECORRUPT;
}

/* After any failure the truncation has happened, or may have happened. */
static int poison(struct twinlog *log, int error)
{
    log->is_truncation_in_doubt = true;
    twl_commit_give_up(log->commit, error);
    return TWINLOG_EPOISONED;
}

/* The writer goes on in the new segment, which is durable under its name. */
static int go_on_in(const struct truncation *truncation, const struct segment *segment, struct epoch epoch)
{
    struct twinlog *log = truncation->log;
    const bool keeps_nothing = truncation->previous == 0;
    const struct position position = {
        .next_lsn = truncation->next_lsn,
        .chain = truncation->chain,
        .epoch = log->epoch,
    };

    log->epoch = epoch;
    if (keeps_nothing)
        atomic_store(&log->first_lsn, truncation->next_lsn);
    twl_page_publish(log->shared, TWINLOG_MODE_DURABLE, epoch.number, atomic_load(&log->first_lsn),
                     truncation->next_lsn - 1);

    twl_commit_restart(log->commit, segment, &position, epoch);
    const int rc = twl_commit_write_marker(log->commit, GROUP_START);
    twl_keeper_start(log->keeper);
    return rc;
}

/* Makes the segment of the truncation. Called while the commit path is stopped. */
static int go_on(const struct truncation *truncation)
{
    struct twinlog *log = truncation->log;
    struct epoch epoch = { .number = log->epoch.number + 1 };
    struct segment segment;
    bool is_in_doubt = false;
    if (log->epoch.number == UINT32_MAX)
        return -EOVERFLOW;

    int rc = log->io->ops->random(log->io, &epoch.salt, sizeof(epoch.salt));
    if (rc == 0)
        rc = twl_keeper_restart(log->keeper, truncation->next_lsn, truncation->previous, truncation->chain,
                                log->epoch.number, &segment, &is_in_doubt);
    if (rc < 0 && is_in_doubt)
        return poison(log, rc);
    if (rc < 0)
        return rc;

    rc = go_on_in(truncation, &segment, epoch);
    if (rc < 0)
        return poison(log, rc);
    return 0;
}

/* Finds the last record that is kept, in what older segments hold. */
static int find_last_kept(struct truncation *truncation)
{
    struct segment_set set;
    int rc = twl_keeper_set(truncation->log->keeper, &set);
    if (rc < 0)
        return rc;

    rc = find_group(truncation, &set);
    twl_segment_set_free(&set);
    return rc;
}

/* Called while the commit path is stopped. */
static int truncate_log(struct truncation *truncation)
{
    struct twinlog *log = truncation->log;
    const uint64_t first_lsn = atomic_load(&log->first_lsn);
    if (truncation->is_reset)
        return go_on(truncation);

    const bool has_nothing_to_do = truncation->next_lsn > twl_commit_last_lsn(log->commit);
    if (has_nothing_to_do)
        return 0;
    if (truncation->next_lsn < first_lsn)
        return TWINLOG_ETRIMMED;

    const bool keeps_records = truncation->next_lsn > first_lsn;
    if (keeps_records) {
        const int rc = find_last_kept(truncation);
        if (rc < 0)
            return rc;
    }
    return go_on(truncation);
}

/* A cursor that stayed beyond the end would claim to have seen records that are appended there later. The head moves if
 * nothing was kept. If a crash comes before this, the next opening makes the change. 1 = the state has changed. */
static int move_cursors(struct twinlog *log, struct state *state)
{
    struct segment_set set;
    const int rc = twl_keeper_set(log->keeper, &set);
    if (rc < 0)
        return rc;

    const uint64_t oldest = set.entries[0].header.sequence;
    twl_segment_set_free(&set);
    const bool has_changed =
        twl_state_settle(state, oldest, atomic_load(&log->first_lsn), twl_durable_lsn(log));
    if (!has_changed)
        return 0;
    state->header.cursor_epoch = log->epoch.number; /* no cursor is beyond the truncation now */
    return 1;
}

/* Called inside the change of the state file: another process that is stopped in a change of its own lets this one wait
 * while appends go on. */
static int stop_and_truncate(void *context, struct state *state)
{
    struct truncation *truncation = context;
    struct twinlog *log = truncation->log;

    /* A trim that failed may have moved the head. */
    atomic_store(&log->first_lsn, state->header.first_lsn);
    twl_page_publish_first(log->shared, state->header.first_lsn);

    twl_pause(log);
    truncation->is_paused = true;
    if (twl_commit_stop(log->commit) < 0)
        return TWINLOG_EPOISONED;
    truncation->is_stopped = true;

    const int rc = truncate_log(truncation);
    if (rc < 0)
        return rc;
    truncation->is_done = true;
    return move_cursors(log, state);
}

static int truncate_and_go_on(struct twinlog *log, uint64_t next_lsn, bool is_reset) REQUIRES(log->head_lock)
{
    struct truncation truncation = { .log = log, .next_lsn = next_lsn, .is_reset = is_reset };
    if (log->is_truncation_in_doubt)
        return TWINLOG_EPOISONED;

    int rc = twl_state_change(log->io, stop_and_truncate, &truncation);
    if (rc < 0 && truncation.is_done)
        rc = poison(log, rc);

    if (truncation.is_stopped) {
        twl_forget_lookups(log);
        twl_commit_go_on(log->commit);
    }
    if (truncation.is_paused)
        twl_resume(log);
    return rc;
}

static int enter_and_truncate(struct twinlog *log, uint64_t next_lsn, bool is_reset)
{
    struct call call;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = check_durable(log);
    if (rc == 0) {
        twl_mutex_lock(&log->head_lock);
        rc = truncate_and_go_on(log, next_lsn, is_reset);
        twl_mutex_unlock(&log->head_lock);
    }
    twl_leave(&call);
    return rc;
}

int twinlog_truncate(struct twinlog *log, uint64_t last_lsn)
{
    if (last_lsn == UINT64_MAX)
        return -EINVAL;
    return enter_and_truncate(log, last_lsn + 1, false);
}

int twinlog_reset(struct twinlog *log, uint64_t next_lsn)
{
    if (next_lsn == 0 || next_lsn > MOST_LSN)
        return -EINVAL;
    return enter_and_truncate(log, next_lsn, true);
}

int twl_log_begin_at(struct twinlog *log, uint64_t next_lsn)
{
    if (next_lsn > MOST_LSN)
        return -EOVERFLOW;
    if (next_lsn == 1) /* as each new log does */
        return 0;
    return twinlog_reset(log, next_lsn);
}
