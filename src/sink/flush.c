/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sweeps dead participants, under the lock of their byte, and syncs the files of a sink. If a sweeper dies, the next
 * one begins again.
 *
 * A sync covers all bytes below the cursor, so it waits until all of them are copied, and until syncs beside it have
 * told their errors ("Decisions on the sink" in docs/design.md). The thread, which has other work, tries again later.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <string.h>

#define PIECE 4096u /* on the stack of any thread */
#define YIELDS 64u
#define PATIENCE 100u /* looks before an impatient call gives up; most of them take a millisecond */

static int first_error(int before, int rc)
{
    if (before < 0)
        return before;
    return rc;
}

/* ---- dead participants --------------------------------------------------------------------------- */

/* Makes a range that was not copied spaces and a newline, so that every line stays a line. */
static int blank(struct io_file *data, uint64_t start, uint64_t size)
{
    const uint64_t end = start + size;
    unsigned char piece[PIECE];
    uint64_t bytes;

    int rc = io_size(data, &bytes);
    if (rc == 0 && bytes < end)
        rc = -EIO; /* another program has made it shorter: it is not for us to make it longer again */

    memset(piece, ' ', sizeof(piece));
    while (rc == 0 && start < end) {
        const size_t n = (size_t)min_u64(PIECE, end - start);
        if (start + n == end)
            piece[n - 1] = '\n';
        rc = io_write_at(data, piece, n, start);
        start += n;
    }

    return rc;
}

/* What has failed several may fill in at once, with the same bytes; the first one frees the slot. */
static int sweep_slot(struct sink_file *file, struct slot *slot, bool is_dead)
{
    uint64_t state = atomic_load(&slot->state);
    const enum claim_kind kind = slot_kind(state);

    if (twl_mapping_is_lost(file->area))
        return -EIO;
    if (kind == CLAIM_FREE || (kind != CLAIM_FAILED && !is_dead))
        return 0;

    POINT("slot read");
    const uint64_t start = atomic_load(&slot->start), size = atomic_load(&slot->size);
    if (atomic_load(&slot->state) != state) /* another process was faster, and they may be of a later claim */
        return 0;
    if (kind != CLAIM_INTENT) {
        const int rc = blank(file->data, start, size);
        POINT("hole filled");
        if (rc < 0)
            return rc; /* another process may be able to */
    }

    atomic_compare_exchange_strong(&slot->state, &state, state - kind);
    return 0;
}

void twl_sink_take_sync_of(struct area *area, unsigned number)
{
    int32_t none = 0;
    if (atomic_load(&area->syncs[number]) % 2 == 0)
        return;
    atomic_compare_exchange_strong(&area->sync_error, &none, -EIO);
    atomic_fetch_add(&area->syncs[number], 1);
}

int twl_sink_sweep_participant(struct sink_file *file, unsigned number, bool is_dead)
{
    struct participant *participant = area_participant(file->area, number);
    int rc = 0;

    if (!atomic_load(&file->area->is_used[number]))
        return 0;
    if (is_dead) {
        POINT("about to sweep");
        twl_sink_take_sync_of(file->area, number);
        twl_claim_settle(file->area);
    }

    for (unsigned i = 0; i < SLOTS && rc == 0; i++)
        rc = sweep_slot(file, &participant->slots[i], is_dead);
    if (is_dead && rc == 0)
        atomic_store(&file->area->is_used[number], false);
    POINT("swept");
    return rc;
}

/* Takes the lock of a participant's byte, which a living one has, as this sink its own. */
static int lock_if_dead(struct sink_file *file, unsigned number, bool *ret_is_dead)
{
    *ret_is_dead = false;
    if (number == file->number || !atomic_load(&file->area->is_used[number]))
        return 0;

    const int rc = io_lock(file->area_file, number, true);
    *ret_is_dead = rc == 0;
    if (rc == -EAGAIN)
        return 0;
    return rc;
}

/* An error: the one of them may be dead, or could not be swept. The others are swept all the same. */
int twl_sink_sweep(struct sink_file *file)
{
    int first = 0;

    twl_mutex_lock(&file->lock);
    for (unsigned n = 1; n <= PARTICIPANTS; n++) {
        bool is_dead;
        const int looked = lock_if_dead(file, n, &is_dead);
        const int swept = twl_sink_sweep_participant(file, n, is_dead);

        if (is_dead)
            io_unlock(file->area_file, n);
        first = first_error(first, first_error(looked, swept));
    }

    twl_mutex_unlock(&file->lock);
    return first;
}

/* ---- syncs --------------------------------------------------------------------------------------- */

/* Is that participant dead, although its byte is locked? Then the lock is another program's. */
static bool is_locked_by_stranger(struct sink_file *file, unsigned number)
{
    bool is_alive;

    if (number == file->number || !atomic_load(&file->area->is_used[number]))
        return false;

    const int rc = twl_area_has_others(file->area_file, number, 1, &is_alive);
    return rc == 0 && !is_alive;
}

/* Does another program's lock keep a dead participant from being swept? */
static bool is_held_up(struct sink_file *file)
{
    for (unsigned n = 1; n <= PARTICIPANTS; n++)
        if (is_locked_by_stranger(file, n))
            return true;
    return false;
}

/* Before the next look at what other processes do. -EAGAIN: the call is not patient. */
static int wait_a_while(struct sink_file *file, unsigned looks, bool is_patient)
{
    int rc;

    if (twl_mapping_is_lost(file->area)) /* nothing that others do would ever be seen */
        return -EIO;
    if (!is_patient && looks > PATIENCE)
        return -EAGAIN;

    POINT("sync waits");
    if (looks < YIELDS) {
        twl_yield();
        return 0;
    }

    if (looks > LOCK_WAIT_MS && is_held_up(file))
        rc = -EBUSY;
    else
        rc = twl_sink_sweep(file);
    file->data->io->ops->sleep_ms(file->data->io, 1);
    return rc;
}

static int wait_for_copies(struct sink_file *file, uint64_t offset, bool is_patient)
{
    unsigned looks = 0;
    int rc = 0;

    twl_claim_settle(file->area);
    while (rc == 0 && twl_claim_copied(file->area) < offset) {
        looks++;
        rc = wait_a_while(file, looks, is_patient);
    }

    return rc;
}

/* Waits for the end of the sync that the participant is in now, if it is in one. */
static int wait_for_sync_of(struct sink_file *file, unsigned number, bool is_patient)
{
    _Atomic uint32_t *const syncs = &file->area->syncs[number];
    const uint32_t seen = atomic_load(syncs);
    const bool is_in_sync = seen % 2 == 1;
    unsigned looks = 0;
    int rc = 0;

    while (rc == 0 && is_in_sync && atomic_load(syncs) == seen) {
        looks++;
        rc = wait_a_while(file, looks, is_patient);
    }

    return rc;
}

/* The kernel tells an error once to each open file, and never to one that was opened after another was told. So a sync
 * that goes on beside this one may have an error that counts for this one, too. */
static int wait_for_syncs(struct sink_file *file, bool is_patient)
{
    int rc = 0;

    for (unsigned n = 1; n <= PARTICIPANTS && rc == 0; n++)
        rc = wait_for_sync_of(file, n, is_patient);
    return rc;
}

/* The bytes, then where they end, with the names in the directory. An error of the second one counts for the first one,
 * too. */
static int sync_all(struct sink_file *file, uint64_t offset)
{
    struct io *io = file->data->io;
    int rc = io_sync_data(file->data);

    POINT("sync done");
    if (rc < 0)
        return rc;

    raise_u64(&file->area->recorded, offset);
    POINT("end recorded");
    rc = io_sync_data(file->area_file);
    if (rc < 0)
        return rc;

    rc = io->ops->sync_dir(io);
    if (rc == -EINVAL) /* such a directory cannot be synced */
        return 0;
    return rc;
}

/* Syncs, and leaves an error in the area. Others see that a sync is under way until the error is there. */
static int sync_and_tell(struct sink_file *file, uint64_t offset)
{
    struct area *area = file->area;
    int32_t none = 0;

    atomic_fetch_add(&area->syncs[file->number], 1);
    const int rc = sync_all(file, offset);
    /* What was refused to this process never ran, and others may sync. */
    const bool has_failed = rc < 0 && !is_own_refusal(rc);
    if (has_failed)
        atomic_compare_exchange_strong(&area->sync_error, &none, lasting_error(rc));
    atomic_fetch_add(&area->syncs[file->number], 1);

    if (has_failed)
        return 0;
    return rc;
}

/* The error of a sync of this file that has failed, whichever participant made it. */
static int told_error(const struct sink_file *file)
{
    return lasting_error(atomic_load(&file->area->sync_error));
}

int twl_sink_sync_file(struct sink_file *file, bool is_patient)
{
    struct area *area = file->area;
    const uint64_t offset = area_offset(area);

    int rc = twl_sink_sweep(file);
    if (rc == 0)
        rc = told_error(file);
    if (rc == 0)
        rc = wait_for_copies(file, offset, is_patient);
    if (rc == 0)
        rc = twl_sink_check_length(file);
    if (rc < 0)
        return rc;

    const bool is_synced = atomic_load(&area->synced) >= offset;
    if (is_synced)
        return 0;

    rc = sync_and_tell(file, offset);
    if (rc == 0)
        rc = wait_for_syncs(file, is_patient);
    if (rc == 0)
        rc = told_error(file);
    /* a lost area may say that a sync has ended, and without an error */
    if (rc == 0 && twl_mapping_is_lost(area))
        rc = -EIO;
    if (rc == 0)
        raise_u64(&area->synced, offset);
    return rc;
}

/* Others that share the sink may have written to the next file already; not where there is none. */
static int catch_up(struct twinlog_sink *sink)
{
    int rc = 0;

    if (sink->options.flags & TWINLOG_SINK_SHARED)
        rc = twl_sink_follow_path(sink, false);
    if (rc < 0)
        return rc;
    return 0;
}

/* An error of one file keeps no other from being synced. */
int twl_sink_flush_all(struct twinlog_sink *sink, bool is_patient)
{
    if (is_patient)
        twl_mutex_lock(&sink->retiring);
    else if (!twl_mutex_try_lock(&sink->retiring))
        return -EAGAIN;

    const int caught_up = catch_up(sink);

    /* An older file is in the list, or was synced, or left an error. While `retiring` is held, none is left. */
    struct sink_file *present = atomic_load(&sink->file);
    int rc = atomic_load(&sink->past_error);
    for (struct sink_file *old = twl_sink_old(sink); old; old = old->next)
        rc = first_error(rc, twl_sink_sync_file(old, is_patient));
    rc = first_error(rc, twl_sink_sync_file(present, is_patient));
    twl_mutex_unlock(&sink->retiring);
    if (rc == 0)
        return caught_up;
    return rc;
}
