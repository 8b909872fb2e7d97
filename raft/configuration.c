/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configurations among the entries, so that a snapshot has the right one.
 *
 * libraft 0.22.1: where a server applies several changes of the members at once, as one does that was behind, each of
 * them is a step of its own, and all but the last change nothing. A snapshot that is due is taken in the first of these
 * steps, and has the members of before. A server that starts from it waits for ever for the end of a change that it has
 * applied, and allows no other one; if the entry of the change is trimmed by then, it has the wrong members. The
 * entries that a snapshot covers are confirmed, so the newest configuration among them is that of the snapshot.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct change {
    uint64_t index;
    struct raft_buffer buf;
    struct change *older;
};

void note_changes(struct storage *s, const struct raft_entry *entries, size_t n, uint64_t first_index)
{
    for (size_t i = 0; !MAY_REFUSE && i < n; i++) {
        if (entries[i].type != RAFT_CHANGE)
            continue;
        struct change *change = malloc(sizeof(*change) + entries[i].buf.len);
        if (change == NULL) {
            out_of_memory(s);
            return;
        }
        memcpy(change + 1, entries[i].buf.base, entries[i].buf.len);
        *change = (struct change){ first_index + i, { change + 1, entries[i].buf.len }, s->changes };
        s->changes = change;
    }
}

void forget_changes(struct storage *s, uint64_t from_index)
{
    struct change *change;
    while ((change = s->changes) != NULL && change->index >= from_index) {
        s->changes = change->older;
        free(change);
    }
}

/* The newest one of entries up to `index`. Older ones are not needed any more. */
static const struct change *find_change(struct storage *s, uint64_t index)
{
    struct change *found = s->changes, *older;

    while (found != NULL && found->index > index)
        found = found->older;
    if (found == NULL)
        return NULL;

    while ((older = found->older) != NULL) {
        found->older = older->older;
        free(older);
    }

    return found;
}

int take_configuration(struct storage *s, const struct raft_snapshot *snapshot,
                       struct raft_configuration *ret, uint64_t *ret_index)
{
    const struct change *change = find_change(s, snapshot->index);

    *ret_index = 0;
    if (change == NULL || change->index <= snapshot->configuration_index)
        return 0;
#ifdef RAFT_VERSION_NUMBER
    int rv = raft_configuration_decode(&change->buf, ret);
    *ret_index = rv == 0 ? change->index : 0;
    return rv;
#else
    (void)ret;
    return 0;
#endif
}
