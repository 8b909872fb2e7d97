/* SPDX-License-Identifier: Apache-2.0 */
/* Reading named cursors and named values, the entries of the state file. change.c changes them. */
#include "base/bytes.h"
#include "log/handle.h"

#include <errno.h>
#include <string.h>

/* The state as it is now. The call has left the log then, so what is called for each name may do what it likes. */
static int read_state(struct twinlog *log, struct state *ret_state)
{
    struct call call;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;
    rc = twl_state_recall(&log->state_memory, log->io, ret_state);
    twl_leave(&call);
    if (rc == -ENOENT) /* which would say that there is no such name */
        return TWINLOG_ECORRUPT;
    return rc;
}

/* The entry is valid until the state is freed, which must follow only after 0. */
static int read_entry(struct twinlog *log, enum state_entry_kind kind, const char *name,
                      struct state *ret_state, struct state_entry *ret_entry)
{
    int rc = twl_state_check_name(name);
    if (rc == 0)
        rc = read_state(log, ret_state);
    if (rc < 0)
        return rc;

    if (twl_state_find(ret_state, kind, name, ret_entry))
        return 0;
    twl_state_free(ret_state);
    return -ENOENT;
}

/* The entry of that kind at `*offset` or behind it, with its name. */
static bool find_next(const struct state *state, enum state_entry_kind kind, size_t *offset,
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

int twinlog_cursor_get(struct twinlog *log, const char *name, uint64_t *ret_lsn)
{
    struct state state;
    struct state_entry entry;
    if (!ret_lsn)
        return -EINVAL;
    const int rc = read_entry(log, STATE_CURSOR, name, &state, &entry);
    if (rc < 0)
        return rc;

    *ret_lsn = twl_state_cursor_lsn(&entry);
    twl_state_free(&state);
    return 0;
}

int twinlog_cursor_each(struct twinlog *log, int (*each)(void *context, const char *name, uint64_t lsn),
                        void *context)
{
    struct state state;
    struct state_entry entry;
    char name[TWINLOG_NAME_BYTES];
    size_t offset = 0;
    if (!each)
        return -EINVAL;
    const int rc = read_state(log, &state);
    if (rc < 0)
        return rc;

    int answer = 0; /* what the function of the caller returns; anything else ends this */
    while (answer == 0 && find_next(&state, STATE_CURSOR, &offset, name, &entry))
        answer = each(context, name, twl_state_cursor_lsn(&entry));
    twl_state_free(&state);
    return answer;
}

/* ---- values ------------------------------------------------------------------------------------ */

int twinlog_meta_get(struct twinlog *log, const char *name, void *data, size_t room, size_t *ret_size)
{
    struct state state;
    struct state_entry entry;
    if (!data && room > 0)
        return -EINVAL;
    const int rc = read_entry(log, STATE_VALUE, name, &state, &entry);
    if (rc < 0)
        return rc;

    const bool has_room = entry.value_bytes <= room;
    if (has_room && entry.value_bytes > 0)
        memcpy(data, entry.value, entry.value_bytes);
    if (ret_size)
        *ret_size = entry.value_bytes;
    twl_state_free(&state);
    return has_room ? 0 : -ENOBUFS;
}

int twinlog_meta_each(struct twinlog *log,
                      int (*each)(void *context, const char *name, const void *data, size_t size),
                      void *context)
{
    struct state state;
    struct state_entry entry;
    char name[TWINLOG_NAME_BYTES];
    size_t offset = 0;
    if (!each)
        return -EINVAL;
    const int rc = read_state(log, &state);
    if (rc < 0)
        return rc;

    int answer = 0;
    while (answer == 0 && find_next(&state, STATE_VALUE, &offset, name, &entry))
        answer = each(context, name, entry.value, entry.value_bytes);
    twl_state_free(&state);
    return answer;
}
