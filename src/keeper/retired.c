/* SPDX-License-Identifier: Apache-2.0 */
/* Retired files: reused, or removed. */
#include "keeper/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void twl_keeper_retire_file(struct keeper *k, const char *name, const struct segment_header *header,
                            uint64_t file_bytes) REQUIRES(k->lock)
{
    if (k->retired_count == k->retired_room) {
        size_t room = k->retired_room ? 2 * k->retired_room : 16;
        void *retired = realloc(k->retired, room * sizeof(*k->retired));
        if (!retired)
            return;
        k->retired = retired;
        k->retired_room = room;
    }
    struct retired *file = &k->retired[k->retired_count++];
    memcpy(file->name, name, SEGMENT_NAME_BYTES);
    file->bytes = header->bytes;
    file->is_whole = file_bytes >= header->bytes && !segment_is_mapped(header);
}

static struct retired take_retired(struct keeper *k, size_t index) REQUIRES(k->lock)
{
    struct retired file = k->retired[index];
    k->retired[index] = k->retired[--k->retired_count];
    return file;
}

/* The smallest file with room for least_bytes; -1 if there is none. */
static int64_t find_retired(const struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    int64_t best = -1;
    for (size_t i = 0; i < k->retired_count; i++)
        if (k->retired[i].is_whole && k->retired[i].bytes >= least_bytes &&
            (best < 0 || k->retired[i].bytes < k->retired[best].bytes))
            best = (int64_t)i;
    return best;
}

static bool is_surplus(const struct keeper *k, const struct retired *file, size_t kept) REQUIRES(k->lock)
{
    return !k->config.can_recycle || !file->is_whole || file->bytes < k->plan.bytes ||
           kept >= RETIRED_TO_KEEP + k->wanted;
}

bool twl_keeper_remove_surplus(struct keeper *k) REQUIRES(k->lock)
{
    size_t kept = 0;
    for (size_t i = 0; i < k->retired_count; i++) {
        if (!is_surplus(k, &k->retired[i], kept)) {
            kept++;
            continue;
        }
        struct retired file = take_retired(k, i);
        twl_mutex_unlock(&k->lock);
        k->config.io->ops->unlink(k->config.io, file.name);
        twl_mutex_lock(&k->lock);
        return true;
    }
    return false;
}

int twl_keeper_recycle(struct keeper *k, const struct segment_plan *plan, uint64_t least_bytes,
                       struct segment *ret_segment, bool *ret_is_in_doubt) REQUIRES(k->lock)
{
    struct io *io = k->config.io;
    int rc = -EBUSY;
    while (k->config.can_recycle && rc == -EBUSY) {
        int64_t index = find_retired(k, least_bytes);
        if (index < 0)
            return -ENOENT;
        struct retired file = take_retired(k, (size_t)index);
        twl_mutex_unlock(&k->lock);
        rc = twl_segment_recycle(io, file.name, plan, ret_segment, ret_is_in_doubt);
        if (rc < 0)
            io->ops->unlink(io, file.name);
        twl_mutex_lock(&k->lock);
        k->recycled += rc == 0;
    }
    return rc == -EBUSY ? -ENOENT : rc;
}
