/* SPDX-License-Identifier: Apache-2.0 */
/* See peers.h. */
#define _GNU_SOURCE
#include "mapped/peers.h"

#include "base/base.h"
#include "base/point.h"
#include "base/sync.h"
#include "segment/segment.h"
#include "twinlog.h"

#include <errno.h>
#include <string.h>

#define COMMON_VERSION 1u
#define OPENING_MS 30000u /* an opening, which may wait for a dead writer, or a close may take so long */
#define MEETING_MS 1000u  /* to wait for the page to say that the log is being opened */
#define LEAVING_MS 5000u  /* to wait for a participant that leaves, and may be stopped */
#define RETRY_MS 8u       /* longest pause between two tries */

_Static_assert(LIVE_COMMON_OFFSET + sizeof(struct common) <= BLOCK_BYTES, "in one page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics work between processes");

static enum io_lock lock_of(unsigned number)
{
    return (enum io_lock)(IO_LOCK_PEER + number);
}

bool twl_peers_try(struct peers *peers, enum io_lock which)
{
    return io_lock(peers->file, which, true) == 0;
}

void twl_peers_release(struct peers *peers, enum io_lock which)
{
    io_unlock(peers->file, which);
}

bool twl_peers_is_alive(const struct peers *peers, unsigned number)
{
    bool is_locked = true;
    if (number == peers->number)
        return true;
    return io_is_locked(peers->file, lock_of(number), &is_locked) < 0 || is_locked;
}

/* ---- coming ------------------------------------------------------------------------------------ */

static int open_file(struct io *io, struct io_file **ret_file)
{
    int rc = io_open(io, LIVE_NAME, IO_NOT_IN_CHILDREN, ret_file);
    if (rc == -ENOENT)
        rc = io_open(io, LIVE_NAME, IO_CREATE | IO_NOT_IN_CHILDREN, ret_file);
    if (rc == -EEXIST) /* another process was faster */
        rc = io_open(io, LIVE_NAME, IO_NOT_IN_CHILDREN, ret_file);
    return rc;
}

static void take_page(struct peers *peers)
{
    peers->common = (struct common *)(void *)((unsigned char *)peers->live.page + LIVE_COMMON_OFFSET);
}

static void give_page_back(struct peers *peers)
{
    twl_live_unlock(&peers->live);
    peers->common = NULL;
}

static int take_number(struct peers *peers)
{
    for (unsigned number = 1; number <= PEERS; number++)
        if (twl_peers_try(peers, lock_of(number))) {
            peers->number = number;
            return 0;
        }
    return -EUSERS;
}

/* A log can only be joined while another participant is alive. If all are dead, the next first one recovers
 * the log: readers no longer believe the page, and may have passed records that they found themselves. */
static bool is_anybody_alive(const struct peers *peers)
{
    for (unsigned number = 1; number <= PEERS; number++)
        if (twl_peers_is_alive(peers, number))
            return true;
    return false;
}

/* Reads the page. Without an exclusive lock on the log, and with a live participant, it is as the last holder
 * of that lock left it. */
static int look_at_page(struct peers *peers, bool *ret_is_open)
{
    int rc = twl_live_join(peers->io, &peers->live);
    *ret_is_open = false;
    if (rc < 0)
        return rc == -ENOTSUP ? 0 : rc; /* the page may not be made yet */
    take_page(peers);
    const struct common *common = peers->common;
    *ret_is_open = atomic_load(&common->state) == COMMON_OPEN && twl_live_epoch(&peers->live) > 0 &&
                   twl_boot_is(common->boot_id) && is_anybody_alive(peers);
    if (*ret_is_open && common->version != COMMON_VERSION)
        rc = TWINLOG_EVERSION;
    return rc;
}

/* 1 = joined. 0 = there is no open log to join now. */
static int join(struct peers *peers)
{
    bool is_open;
    int rc = io_lock(peers->file, IO_LOCK_WRITER, false);
    if (rc < 0)
        return rc == -EAGAIN ? 0 : rc;
    rc = look_at_page(peers, &is_open);
    if (rc == 0 && is_open)
        rc = take_number(peers);
    if (rc == 0 && is_open)
        return 1;
    give_page_back(peers);
    io_unlock(peers->file, IO_LOCK_WRITER);
    return rc;
}

/* Is the process that has the lock exclusively a participant that opens or closes the log? */
static bool is_being_opened(struct peers *peers)
{
    bool is_open, is_ours = false;
    if (look_at_page(peers, &is_open) == 0 && peers->common) {
        const uint32_t state = atomic_load(&peers->common->state);
        is_ours = state == COMMON_OPENING || state == COMMON_CLOSING;
    }
    give_page_back(peers);
    return is_ours;
}

static void rest(struct peers *peers)
{
    uint8_t chance = 0;
    (void)peers->io->ops->random(peers->io, &chance, sizeof(chance));
    peers->io->ops->sleep_ms(peers->io, 1 + chance % RETRY_MS);
}

static int come(struct peers *peers, unsigned wait_ms, bool *ret_is_first)
{
    const uint64_t began_ns = twl_monotonic_ns();
    for (;;) {
        int rc = io_lock(peers->file, IO_LOCK_WRITER, true);
        *ret_is_first = rc == 0;
        if (rc != -EAGAIN)
            return rc;
        rc = join(peers);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        const uint64_t passed_ms = (twl_monotonic_ns() - began_ns) / 1000000u;
        const unsigned patience_ms = is_being_opened(peers) ? OPENING_MS : MEETING_MS;
        if (passed_ms >= max_u64(wait_ms, patience_ms))
            return -EBUSY;
        rest(peers); /* for a random time, since two shared locks keep each other from the exclusive one */
    }
}

int twl_peers_come(struct io *io, unsigned wait_ms, struct peers *ret_peers, bool *ret_is_first)
{
    struct peers peers = { .io = io };
    int rc = open_file(io, &peers.file);
    if (rc == 0)
        rc = come(&peers, wait_ms, ret_is_first);
    if (rc < 0) {
        twl_peers_leave(&peers, false);
        return rc;
    }
    POINT("peer-came");
    *ret_peers = peers;
    return 0;
}

int twl_peers_begin(struct peers *peers)
{
    int rc = twl_live_share(peers->io, &peers->live);
    if (rc == 0) /* link() decides which participant makes a segment */
        rc = twl_segment_check_links(peers->io, LIVE_NAME);
    if (rc < 0)
        return rc;
    take_page(peers);
    struct common *common = peers->common;
    atomic_store(&common->state, COMMON_OPENING);
    common->version = COMMON_VERSION;
    twl_boot_id(common->boot_id);
    atomic_store(&common->poison, 0);
    POINT("peers-begun");
    return twl_boot_is(common->boot_id) ? take_number(peers) : -ENOTSUP;
}

int twl_peers_open(struct peers *peers)
{
    atomic_store(&peers->common->state, COMMON_OPEN);
    POINT("peers-open");
    const int rc = io_lock(peers->file, IO_LOCK_WRITER, false);
    POINT("peers-let-in");
    return rc;
}

/* ---- leaving ----------------------------------------------------------------------------------- */

/* Participants leave one after the other, so that one of them is the last. */
static void take_turn(struct peers *peers)
{
    const uint64_t began_ns = twl_monotonic_ns();
    while (!twl_peers_try(peers, IO_LOCK_LEAVE) &&
           twl_monotonic_ns() - began_ns < (uint64_t)LEAVING_MS * 1000000u)
        peers->io->ops->sleep_ms(peers->io, 1);
}

bool twl_peers_are_gone(struct peers *peers)
{
    take_turn(peers);
    if (io_lock(peers->file, IO_LOCK_WRITER, true) < 0)
        return false;
    atomic_store(&peers->common->state, COMMON_CLOSING);
    POINT("last-one");
    return true;
}

void twl_peers_leave(struct peers *peers, bool is_forked)
{
    if (peers->file && !is_forked) {
        if (peers->number > 0)
            io_unlock(peers->file, lock_of(peers->number));
        io_unlock(peers->file, IO_LOCK_WRITER);
        POINT("peer-left");
        io_unlock(peers->file, IO_LOCK_LEAVE);
    }
    give_page_back(peers);
    io_close(peers->file);
    *peers = (struct peers){ 0 };
}
