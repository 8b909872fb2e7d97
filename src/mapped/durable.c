/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Syncs records to the disk. See inside.h.
 *
 * Older segments come first, so that the durable records are always a prefix. A sync ends with the segment
 * that had no next one before its records were counted, because a segment without a next one may still get
 * records.
 *
 * The kernel reports a disk error once to each open file, and not at all to a file that is opened later. So a
 * sync vouches only for records that were stored since this process opened the segment. Before its first
 * sync, a process checks the older ones and makes their pages dirty again. (The kernel may also have dropped
 * a page that it could not write; it then reads as before the write.)
 */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/point.h"

#include <errno.h>
#include <sys/mman.h>

/* ---- copies ------------------------------------------------------------------------------------ */

int twl_mapped_await_copy(struct mapped *m, const struct mapped_segment *seg, struct open_walk *walk,
                          struct record_header *ret_record)
{
    for (uint64_t turns = 0; !twl_open_group_pass(&seg->group, walk, ret_record); turns++) {
        const bool is_wanted = seg->group.first_lsn + walk->count <= m->wanted_lsn;
        if (twl_open_group_is_lost(&seg->group) || twl_open_group_is_gone(&seg->group, walk))
            return -EIO;
        if (turns < TURNS_TO_YIELD)
            twl_yield();
        else if ((!is_wanted || turns >= TURNS_TO_YIELD + (uint64_t)m->ops->copy_ms) &&
                 !twl_mapped_fill_abandoned(m, seg, walk))
            return -EAGAIN;
        else
            m->io->ops->sleep_ms(m->io, 1);
    }
    return 0;
}

static int await_copies(struct mapped *m, struct mapped_segment *seg, uint32_t count) REQUIRES(m->syncing)
{
    struct record_header record;
    int rc = 0;
    while (rc == 0 && seg->walk.count < count)
        rc = twl_mapped_await_copy(m, seg, &seg->walk, &record);
    raise_u64(&seg->words->complete, twl_open_walk_pack(&seg->walk));
    return rc == -EIO ? twl_mapped_fail(m, rc) : rc;
}

/* ---- records from before the opening ------------------------------------------------------------ */

/* Ors zero into a byte of each page. The operation is atomic, so stores of other threads to that byte are not
 * lost. */
__attribute__((no_sanitize("thread"))) static void make_dirty(const struct mapped_segment *seg, uint64_t from,
                                                              uint64_t to)
{
    for (uint64_t at = align_down(from, BLOCK_BYTES); at < to; at += BLOCK_BYTES)
        __atomic_fetch_or(seg->group.bytes + at, 0, __ATOMIC_SEQ_CST);
}

/* Is each place up to `to` a claim or a complete record, and each payload from `from` on valid? */
static bool is_sound(const struct mapped_segment *seg, uint64_t from, uint64_t to)
{
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header record;
    while (walk.offset < to) {
        const uint64_t at = walk.offset;
        uint32_t size;
        if (twl_open_group_pass(&seg->group, &walk, &record)) {
            if (at >= from &&
                !twl_record_payload_is_valid(&record, seg->group.bytes + at + RECORD_HEADER_BYTES))
                return false;
        } else if (twl_open_group_owner(&seg->group, &walk, &size) != 0) {
            twl_open_group_skip(&walk, size);
        } else if (!twl_open_group_pass(&seg->group, &walk, &record)) { /* nor completed meanwhile */
            return false;
        }
    }
    return true;
}

static int adopt(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    const uint64_t from = atomic_load(&seg->words->synced), to = seg->found;
    seg->found = 0;
    if (from >= to)
        return 0;
    if (!is_sound(seg, from, to))
        return twl_mapped_fail(m, -EIO);
    make_dirty(seg, from, to);
    return 0;
}

/* ---- syncing ----------------------------------------------------------------------------------- */

void twl_mapped_tell_durable(struct mapped *m, uint64_t lsn)
{
    const bool is_news = lsn > atomic_load(m->durable);
    raise_u64(&m->own_durable, lsn);
    if (is_news)
        twl_page_publish_durable(m->shared, lsn);
}

int twl_mapped_sync_bytes(struct mapped *m, struct mapped_segment *seg, uint64_t to)
{
    const uint64_t from = align_down(seg->synced, LARGEST_PAGE_BYTES); /* msync() needs a page boundary */
    atomic_fetch_add(&m->syncs, 1);
    int rc = msync(seg->group.bytes + from, to - from, MS_SYNC) < 0 ? -errno : 0;
    if (rc == 0 && twl_open_group_is_lost(&seg->group))
        rc = -EIO;
    if (rc == 0 && !atomic_load(&seg->words->is_named)) {
        rc = m->io->ops->sync_dir(m->io);
        if (rc == 0)
            atomic_store(&seg->words->is_named, 1);
    }
    if (rc < 0)
        return twl_mapped_fail(m, rc);
    seg->synced = to;
    raise_u64(&seg->words->synced, to);
    POINT("segment-synced");
    return 0;
}

static int sync_mapped_segment(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    const int awaited_sequence = await_copies(m, seg, twl_open_group_count(&seg->group));
    int rc = awaited_sequence == 0 || awaited_sequence == -EAGAIN ? adopt(m, seg) : awaited_sequence;
    seg->synced = max_u64(seg->synced, atomic_load(&seg->words->synced));
    if (rc == 0 && seg->synced < seg->walk.offset)
        rc = twl_mapped_sync_bytes(m, seg, seg->walk.offset);
    if (rc == 0)
        twl_mapped_tell_durable(m, seg->group.first_lsn + seg->walk.count - 1);
    return rc < 0 ? rc : awaited_sequence;
}

int twl_mapped_sync_up_to(struct mapped *m, const struct mapped_segment *last)
{
    int rc = twl_mapped_poison(m);
    for (struct mapped_segment *seg = m->oldest, *next; rc == 0 && seg; seg = next) {
        next = seg == last ? NULL : atomic_load(&seg->next); /* first, as in see_all() */
        rc = sync_mapped_segment(m, seg);
    }
    return rc;
}

int twl_mapped_sync(struct mapped *m, uint64_t lsn, uint64_t deadline_ns)
{
    lsn = min_u64(lsn, twl_mapped_last_lsn(m)); /* also of other participants */
    twl_mutex_lock(&m->syncing);
    const int rc = m->ops->sync(m, lsn, deadline_ns);
    twl_mutex_unlock(&m->syncing);
    return rc;
}
