/* SPDX-License-Identifier: Apache-2.0 */
/* Where the bytes of a file end, for a process that is no participant: reads the area, and stores nothing
 * there. */
#define _GNU_SOURCE
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The start of the first claim that is not copied, or the cursor. The cursor is read before the slots, so
 * every open claim below it is on record there: as in claim.h, but without a confirmation. */
static uint64_t copied(struct area *area)
{
    const uint64_t cursor = atomic_load(&area->cursor);
    uint64_t end = cursor_offset(cursor), state, start, size;
    for (unsigned n = 1; n <= PARTICIPANTS; n++)
        for (unsigned i = 0; atomic_load(&area->is_used[n]) && i < SLOTS; i++) {
            bool is_open = twl_claim_is_open(&area_participant(area, n)->slots[i], &state, &start, &size);
            if (slot_kind(state) == CLAIM_INTENT)
                is_open = cursor_owner(cursor) == area_owner(n, i) && start + size == cursor_offset(cursor);
            end = is_open ? min_u64(end, start) : end;
        }
    return end;
}

static bool look_at_area(int fd, const struct identity *identity, uint64_t *ret_end)
{
    struct area *area;
    if (!twl_area_is_whole(fd) || twl_area_map(fd, 0, &area) < 0)
        return false;
    const bool is_known = twl_area_is_of(area, identity);
    *ret_end = is_known ? copied(area) : 0;
    const bool is_there = is_known && !twl_area_is_lost(area);
    twl_area_unmap(area);
    return is_there;
}

static int tell(int dir, const char *name, uint64_t *ret_end)
{
    char area_name[NAME_ROOM];
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    struct identity identity = { 0 };
    int rc = twl_identity_of(fd, &identity);
    twl_sink_area_name(name, identity.inode, area_name);
    const int area_fd = rc < 0 ? -1 : openat(dir, area_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (rc == 0 && (area_fd < 0 || !look_at_area(area_fd, &identity, ret_end)))
        rc = twl_end_find(dir, name, fd, 0, ret_end);
    if (area_fd >= 0)
        close(area_fd);
    close(fd);
    return rc;
}

int twinlog_sink_end(const char *path, uint64_t *ret_end)
{
    char name[NAME_MAX + 1];
    int dir;
    if (!path || !ret_end)
        return -EINVAL;
    int rc = twl_sink_find_place(path, &dir, name);
    if (rc < 0)
        return rc;
    rc = twl_end_result(tell(dir, name, ret_end));
    close(dir);
    return rc;
}
