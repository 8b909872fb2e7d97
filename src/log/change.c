/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing cursors, values and the head of an open log, in one change of the state file.
 *
 * All edits are made in one copy of the state, which is written only if each of them is possible. Before the change
 * the log is made durable as far as the change says: what the state says of a record is then never ahead of it.
 */
#include "log/change.h"

#include "base/bytes.h"
#include "base/versioned.h"

#include <errno.h>
#include <string.h>

/* ---- one edit ---------------------------------------------------------------------------------- */

static int put(struct state *state, enum state_entry_kind kind, const char *name, const void *value,
               size_t size)
{
    struct state_entry old;
    const bool is_there = twl_state_find(state, kind, name, &old);

    if (is_there && old.value_bytes == size && memcmp(old.value, value, size) == 0)
        return 0;
    const int rc = twl_state_put(state, kind, name, value, size);
    return rc < 0 ? rc : 1;
}

static int find_last_lsn(const struct change *change, uint64_t *ret_lsn)
{
    uint64_t oldest_lsn;

    if (change->reader)
        return twinlog_reader_range(change->reader, &oldest_lsn, ret_lsn);
    return twl_find_told_lsn(change->log, ret_lsn);
}

/* Called inside the change: a truncation also moves the cursors inside a change, after it has published the
 * new end of the log. */
static int check_cursor(const struct change *change, uint64_t lsn, uint64_t first_lsn)
{
    uint64_t last_lsn = 0;
    int rc = 0;

    if (change->reader)
        rc = twl_reader_check(change->reader);
    if (rc < 0)
        return rc;
    if (lsn < first_lsn) {
        const bool has_seen_no_record = lsn == 0 || lsn + 1 == first_lsn;
        return has_seen_no_record ? 0 : TWINLOG_ETRIMMED;
    }

    rc = find_last_lsn(change, &last_lsn);
    const bool is_known =
        rc == 0 || rc == TWINLOG_ECORRUPT; /* the records in front of damage can be passed */
    if (is_known && lsn <= last_lsn)
        return 0;
    return rc < 0 ? rc : -ERANGE;
}

/* Is there a writer that publishes what is durable? */
static bool has_durable_writer(struct shared_page *shared)
{
    bool has_writer = false;

    if (twl_page_has_writer(shared, &has_writer) < 0 || !has_writer)
        return false;
    return twl_page_epoch(shared) > 0 && twl_page_mode(shared) == TWINLOG_MODE_DURABLE;
}

/* The epoch that makes a cursor proof of its record; 0 = the cursor is no proof. A record that is only in
 * a mapping may be lost, and so may one that no writer has published as durable. */
static uint32_t find_epoch(struct twinlog *log, uint32_t known)
{
    struct shared_page shared;

    if (log->mapped)
        return 0;
    if (!is_read_only(log))
        return log->epoch.number;

    if (twl_page_watch(log->io, &shared) < 0)
        return 0;
    const bool is_told = has_durable_writer(&shared);
    twl_page_unwatch(&shared);
    return is_told ? known : 0; /* not that of the writer, because a truncation may change it at any time */
}

static int put_cursor(const struct change *change, const struct twinlog_edit *edit, struct state *state)
{
    const uint64_t first_lsn = state->header.first_lsn;
    const uint32_t epoch =
        find_epoch(change->log, state->header.cursor_epoch); /* before the LSN is compared */
    unsigned char value[STATE_CURSOR_BYTES];

    int rc = check_cursor(change, edit->lsn, first_lsn);
    if (rc < 0)
        return rc;
    store_le64(value, max_u64(edit->lsn, first_lsn - 1));
    rc = put(state, STATE_CURSOR, edit->name, value, sizeof(value));
    if (rc > 0)
        state->header.cursor_epoch = epoch;
    return rc;
}

static int remove_name(const struct change *change, enum state_entry_kind kind, const char *name,
                       struct state *state)
{
    const int rc = twl_state_remove(state, kind, name);

    if (rc == -ENOENT && !change->must_exist)
        return 0;
    return rc < 0 ? rc : 1;
}

static int make_edit(const struct change *change, const struct twinlog_edit *edit, struct state *state)
{
    switch (edit->kind) {
    case TWINLOG_EDIT_SET_VALUE:
        return put(state, STATE_VALUE, edit->name, edit->data ? edit->data : "", edit->size);
    case TWINLOG_EDIT_REMOVE_VALUE:
        return remove_name(change, STATE_VALUE, edit->name, state);
    case TWINLOG_EDIT_SET_CURSOR:
        return put_cursor(change, edit, state);
    default:
        ASSERT(edit->kind == TWINLOG_EDIT_REMOVE_CURSOR);
        return remove_name(change, STATE_CURSOR, edit->name, state);
    }
}

int twl_change_edit(void *context, struct state *state)
{
    const struct change *change = context;
    int is_changed = 0;

    /* A truncation may have come since the log was made durable so far. */
    if (change->durable_lsn > 0 && change->durable_lsn > twl_durable_lsn(change->log))
        return -ERANGE;

    for (uint32_t i = 0; i < change->edit_count; i++) {
        const int made = make_edit(change, &change->edits[i], state);
        if (made < 0)
            return made;
        if (made > 0)
            is_changed = 1;
    }
    return is_changed;
}

/* ---- arguments --------------------------------------------------------------------------------- */

/* A limit with another name or value would remove nothing, or too much, without a word. */
static bool may_be_set(const char *name, const void *data, size_t size)
{
    static const char *const limits[] = { TWINLOG_KEEP_BYTES, TWINLOG_KEEP_RECORDS, TWINLOG_KEEP_AGE_MS };

    for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        if (strcmp(name, limits[i]) == 0)
            return twl_limit_parse(data, size) > 0;

    const bool is_of_twinlog = strncmp(name, "twinlog.", strlen("twinlog.")) == 0;
    return !is_of_twinlog;
}

static int check_value(const struct twinlog_edit *edit)
{
    const bool lacks_data = !edit->data && edit->size > 0;

    if (lacks_data || edit->size > TWINLOG_META_BYTES)
        return -EINVAL;
    if (!may_be_set(edit->name, edit->data, edit->size))
        return -EINVAL;
    return 0;
}

static int check_edit(const struct twinlog_edit *edit)
{
    const bool is_known = edit->kind >= TWINLOG_EDIT_SET_VALUE && edit->kind <= TWINLOG_EDIT_REMOVE_CURSOR;

    if (!is_known || edit->reserved != 0 || twl_state_check_name(edit->name) < 0)
        return -EINVAL;
    if (edit->kind == TWINLOG_EDIT_SET_CURSOR && edit->lsn == UINT64_MAX)
        return -ERANGE;
    if (edit->kind == TWINLOG_EDIT_SET_VALUE)
        return check_value(edit);
    return 0;
}

static int check_change(const struct twinlog_change *change)
{
    const bool asks = change->edit_count > 0 || change->trim_before_lsn > 0;

    if (!asks || change->reserved != 0 || change->edit_count > MOST_EDITS)
        return -EINVAL;
    if (change->edit_count > 0 && !change->edits)
        return -EINVAL;
    if (change->flags & ~(uint32_t)TWINLOG_TRIM_PAST_CURSORS)
        return -EINVAL;

    for (uint32_t i = 0; i < change->edit_count; i++) {
        const int rc = check_edit(&change->edits[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- several edits ----------------------------------------------------------------------------- */

/* The log must be durable up to here before the change is made. */
static uint64_t needed_lsn(const struct twinlog_change *change)
{
    uint64_t newest_trimmed = 0;

    if (change->trim_before_lsn > 0)
        newest_trimmed = change->trim_before_lsn - 1;
    return max_u64(change->durable_lsn, newest_trimmed);
}

static int make_durable(struct twinlog *log, const struct twinlog_change *change)
{
    const uint64_t lsn = needed_lsn(change);

    if (is_read_only(log)) {
        const bool is_possible = change->trim_before_lsn == 0 && lsn <= twinlog_durable_lsn(log);
        return is_possible ? 0 : -EROFS;
    }
    if (lsn == 0)
        return 0;

    const int rc = twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, change->deadline_ns);
    if (rc == -EINVAL) /* no record has that LSN */
        return -ERANGE;
    return rc;
}

static int apply(struct twinlog *log, const struct twinlog_change *asked, struct twinlog_trim_result *result)
{
    struct change change = {
        .log = log,
        .edits = asked->edits,
        .edit_count = asked->edit_count,
        .durable_lsn = needed_lsn(asked),
    };
    const bool is_past_cursors = asked->flags & TWINLOG_TRIM_PAST_CURSORS;
    int rc;

    twl_mutex_lock(&log->head_lock);
    if (asked->trim_before_lsn > 0)
        rc = twl_trim_with_change(log, asked->trim_before_lsn, is_past_cursors, &change, result);
    else
        rc = twl_state_change_recalled(&log->state_memory, log->io, twl_change_edit, &change);
    twl_mutex_unlock(&log->head_lock);
    return rc;
}

int twinlog_change(struct twinlog *log, const struct twinlog_change *change,
                   struct twinlog_trim_result *ret_result)
{
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    struct twinlog_change own;
    struct call call;

    if (!change || twl_versioned_take(&own, sizeof(own), change) < 0)
        return -EINVAL;
    if (!twl_versioned_is_set(ret_result))
        return -EINVAL;
    int rc = check_change(&own);
    if (rc == 0)
        rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = make_durable(log, &own);
    if (rc == 0)
        rc = apply(log, &own, &result);
    if (rc == 0 && own.trim_before_lsn > 0)
        twl_versioned_give(ret_result, &result, sizeof(result));
    twl_leave(&call);
    return rc;
}

/* ---- one edit ---------------------------------------------------------------------------------- */

static int change_one(struct twinlog *log, const struct twinlog_edit *edit, struct twinlog_reader *reader)
{
    struct change change = {
        .log = log, .edits = edit, .edit_count = 1, .must_exist = true, .reader = reader
    };
    struct call call;

    int rc = check_edit(edit);
    if (rc == 0)
        rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    twl_mutex_lock(&log->head_lock);
    rc = twl_state_change_recalled(&log->state_memory, log->io, twl_change_edit, &change);
    twl_mutex_unlock(&log->head_lock);
    twl_leave(&call);
    return rc;
}

int twl_cursor_set_after(struct twinlog *log, const char *name, uint64_t lsn, struct twinlog_reader *reader)
{
    const struct twinlog_edit edit = { .kind = TWINLOG_EDIT_SET_CURSOR, .name = name, .lsn = lsn };

    return change_one(log, &edit, reader);
}

int twinlog_cursor_set(struct twinlog *log, const char *name, uint64_t lsn)
{
    return twl_cursor_set_after(log, name, lsn, NULL);
}

int twinlog_cursor_remove(struct twinlog *log, const char *name)
{
    const struct twinlog_edit edit = { .kind = TWINLOG_EDIT_REMOVE_CURSOR, .name = name };

    return change_one(log, &edit, NULL);
}

int twinlog_meta_set(struct twinlog *log, const char *name, const void *data, size_t size)
{
    const struct twinlog_edit edit = {
        .kind = TWINLOG_EDIT_SET_VALUE, .name = name, .data = data, .size = size
    };

    return change_one(log, &edit, NULL);
}

int twinlog_meta_remove(struct twinlog *log, const char *name)
{
    const struct twinlog_edit edit = { .kind = TWINLOG_EDIT_REMOVE_VALUE, .name = name };

    return change_one(log, &edit, NULL);
}
