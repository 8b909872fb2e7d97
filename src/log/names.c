/* SPDX-License-Identifier: Apache-2.0 */
/* Named cursors and named values: the public interface to the entries of the state file. */
#include "base/bytes.h"
#include "log/handle.h"

#include <errno.h>
#include <string.h>

struct edit {
    struct twinlog *log;
    enum state_entry_kind kind;
    const char *name;
    const void *value;
    size_t size;
    uint64_t lsn;                  /* of a cursor */
    struct twinlog_reader *reader; /* that has passed the records up to the cursor, or NULL */
};

static int change(struct twinlog *log, struct edit *edit, int (*how)(void *context, struct state *state))
{
    struct call call;
    int rc = twl_state_check_name(edit->name);
    if (rc == 0)
        rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;
    edit->log = log;
    twl_mutex_lock(&log->head_lock);
    rc = twl_state_change(log->io, how, edit);
    twl_mutex_unlock(&log->head_lock);
    twl_leave(&call);
    return rc;
}

static int put(void *context, struct state *state)
{
    struct edit *edit = context;
    struct state_entry old;
    if (twl_state_find(state, edit->kind, edit->name, &old) && old.value_bytes == edit->size &&
        memcmp(old.value, edit->value, edit->size) == 0)
        return 0;
    int rc = twl_state_put(state, edit->kind, edit->name, edit->value, edit->size);
    return rc < 0 ? rc : 1;
}

/* Called inside the change: a truncation also moves the cursors inside a change, after it has published the
 * new end of the log. */
static int check_cursor(const struct edit *edit, uint64_t first_lsn)
{
    uint64_t oldest_lsn, last_lsn = 0;
    int rc = edit->reader ? twl_reader_check(edit->reader) : 0;
    if (rc < 0)
        return rc;
    if (edit->lsn < first_lsn)
        return edit->lsn == 0 || edit->lsn + 1 == first_lsn ? 0 : TWINLOG_ETRIMMED;
    rc = edit->reader ? twinlog_reader_range(edit->reader, &oldest_lsn, &last_lsn)
                      : twl_find_told_lsn(edit->log, &last_lsn);
    if (edit->lsn <= last_lsn && (rc == 0 || rc == TWINLOG_ECORRUPT))
        return 0; /* the records in front of damage can be passed */
    return rc < 0 ? rc : -ERANGE;
}

/* The epoch that makes a cursor proof of its record; 0 = the cursor is no proof. A record that is only in
 * a mapping may be lost, and so may one that no writer has published as durable. */
static uint32_t find_epoch(struct twinlog *log, uint32_t known)
{
    struct shared_page shared;
    bool has_writer = false;
    if (!is_read_only(log))
        return log->mapped ? 0 : log->epoch.number;
    if (twl_page_watch(log->io, &shared) < 0)
        return 0;
    bool is_told = twl_page_has_writer(&shared, &has_writer) == 0 && has_writer &&
                   twl_page_epoch(&shared) > 0 && twl_page_mode(&shared) == TWINLOG_MODE_DURABLE;
    twl_page_unwatch(&shared);
    return is_told ? known : 0; /* a truncation may change the epoch at any time */
}

static int put_cursor(void *context, struct state *state)
{
    struct edit *edit = context;
    unsigned char value[8];
    uint64_t first_lsn = state->header.first_lsn;
    const uint32_t epoch = find_epoch(edit->log, state->header.cursor_epoch); /* before the LSN is compared */
    int rc = check_cursor(edit, first_lsn);
    if (rc < 0)
        return rc;
    store_le64(value, max_u64(edit->lsn, first_lsn - 1));
    edit->value = value;
    edit->size = sizeof(value);
    rc = put(edit, state);
    if (rc > 0)
        state->header.cursor_epoch = epoch;
    return rc;
}

static int remove_name(void *context, struct state *state)
{
    const struct edit *edit = context;
    int rc = twl_state_remove(state, edit->kind, edit->name);
    return rc < 0 ? rc : 1;
}

/* The state as it is now. The call has left the log then, so what is called for each name may do what it likes. */
static int read_state(struct twinlog *log, struct state *ret_state)
{
    struct call call;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;
    rc = twl_state_read(log->io, ret_state, NULL);
    twl_leave(&call);
    return rc == -ENOENT ? TWINLOG_ECORRUPT : rc; /* -ENOENT would say that there is no such name */
}

/* The entry is valid until the state is freed, which must follow only after 0. */
static int read_entry(struct twinlog *log, enum state_entry_kind kind, const char *name,
                      struct state *ret_state, struct state_entry *ret_entry)
{
    int rc = twl_state_check_name(name);
    if (rc == 0)
        rc = read_state(log, ret_state);
    if (rc < 0 || twl_state_find(ret_state, kind, name, ret_entry))
        return rc;
    twl_state_free(ret_state);
    return -ENOENT;
}

/* The entry of that kind at `*offset` or behind it, with its name. */
static bool next(const struct state *state, enum state_entry_kind kind, size_t *offset,
                 char name[TWINLOG_NAME_BYTES], struct state_entry *entry)
{
    while (twl_state_entry_next(state->body, state->header.body_bytes, offset, entry)) {
        memcpy(name, entry->name, entry->name_bytes);
        name[entry->name_bytes] = '\0';
        if (entry->kind == kind && !twl_state_name_is_reserved(name))
            return true;
    }
    return false;
}

/* ---- cursors ----------------------------------------------------------------------------------- */

int twinlog_cursor_set(struct twinlog *log, const char *name, uint64_t lsn)
{
    return lsn == UINT64_MAX ? -ERANGE : twl_cursor_set_after(log, name, lsn, NULL);
}

int twl_cursor_set_after(struct twinlog *log, const char *name, uint64_t lsn, struct twinlog_reader *reader)
{
    struct edit edit = { .kind = STATE_CURSOR, .name = name, .lsn = lsn, .reader = reader };
    return change(log, &edit, put_cursor);
}

int twinlog_cursor_get(struct twinlog *log, const char *name, uint64_t *ret_lsn)
{
    struct state state;
    struct state_entry entry;
    int rc = ret_lsn ? read_entry(log, STATE_CURSOR, name, &state, &entry) : -EINVAL;
    if (rc < 0)
        return rc;
    *ret_lsn = twl_state_cursor_lsn(&entry);
    twl_state_free(&state);
    return 0;
}

int twinlog_cursor_remove(struct twinlog *log, const char *name)
{
    struct edit edit = { .kind = STATE_CURSOR, .name = name };
    return change(log, &edit, remove_name);
}

int twinlog_cursor_each(struct twinlog *log, int (*each)(void *context, const char *name, uint64_t lsn),
                        void *context)
{
    struct state state;
    struct state_entry entry;
    char name[TWINLOG_NAME_BYTES];
    int rc = each ? read_state(log, &state) : -EINVAL;
    if (rc < 0)
        return rc;
    for (size_t at = 0; rc == 0 && next(&state, STATE_CURSOR, &at, name, &entry);)
        rc = each(context, name, twl_state_cursor_lsn(&entry));
    twl_state_free(&state);
    return rc;
}

/* ---- values ------------------------------------------------------------------------------------ */

/* A limit with another name or value would remove nothing, or too much, without a word. */
static bool may_be_set(const char *name, const void *data, size_t size)
{
    static const char *const limits[] = { TWINLOG_KEEP_BYTES, TWINLOG_KEEP_RECORDS, TWINLOG_KEEP_AGE_MS };
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(name, limits[i]) == 0)
            return twl_limit_parse(data, size) > 0;
    return strncmp(name, "twinlog.", strlen("twinlog.")) != 0;
}

int twinlog_meta_set(struct twinlog *log, const char *name, const void *data, size_t size)
{
    struct edit edit = { .kind = STATE_VALUE, .name = name, .value = data ? data : "", .size = size };
    if ((!data && size > 0) || size > TWINLOG_META_BYTES || (name && !may_be_set(name, data, size)))
        return -EINVAL;
    return change(log, &edit, put);
}

int twinlog_meta_get(struct twinlog *log, const char *name, void *data, size_t room, size_t *ret_size)
{
    struct state state;
    struct state_entry entry;
    int rc = data || room == 0 ? read_entry(log, STATE_VALUE, name, &state, &entry) : -EINVAL;
    if (rc < 0)
        return rc;
    if (room > 0)
        memcpy(data, entry.value, entry.value_bytes < room ? entry.value_bytes : room);
    if (ret_size)
        *ret_size = entry.value_bytes;
    twl_state_free(&state);
    return 0;
}

int twinlog_meta_remove(struct twinlog *log, const char *name)
{
    struct edit edit = { .kind = STATE_VALUE, .name = name };
    return change(log, &edit, remove_name);
}

int twinlog_meta_each(struct twinlog *log,
                      int (*each)(void *context, const char *name, const void *data, size_t size),
                      void *context)
{
    struct state state;
    struct state_entry entry;
    char name[TWINLOG_NAME_BYTES];
    int rc = each ? read_state(log, &state) : -EINVAL;
    if (rc < 0)
        return rc;
    for (size_t at = 0; rc == 0 && next(&state, STATE_VALUE, &at, name, &entry);)
        rc = each(context, name, entry.value, entry.value_bytes);
    twl_state_free(&state);
    return rc;
}
