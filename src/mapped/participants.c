/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See participants.h; "Shared logs" in docs/design.md has the reasons.
 *
 * A process that comes tries to lock the writer's lock exclusively. If it gets the lock, it is the first participant:
 * it begins, opens the log, and lets others in by turning the lock into a shared one. If not, it takes the lock
 * shared. It has joined if the page says that the log is open, under this kernel, and a participant is alive.
 * Otherwise it gives the lock back and tries again for some time, since another participant may be opening or closing
 * the log.
 *
 * A participant that leaves tries to make its shared lock exclusive. If it can, it is the last one, and closes the log.
 */
#define _GNU_SOURCE
#include "mapped/participants.h"

#include "base/base.h"
#include "base/bytes.h"
#include "base/point.h"
#include "base/sync.h"
#include "segment/segment.h"
#include "twinlog.h"

#include <errno.h>
#include <string.h>

#define COMMON_VERSION 7u
#define OPENING_MS 30000u /* an opening, which may wait for a dead writer, or a close may take so long */
#define LEAVING_MS 5000u  /* to wait for others that leave */
#define MEETING_MS 1000u  /* to wait until the page says that the log is being opened */
#define RETRY_MS 8u       /* longest pause between two tries */

_Static_assert(PAGE_COMMON_OFFSET + sizeof(struct common) <= BLOCK_BYTES, "in one page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics work between processes");

/* ---- locks ------------------------------------------------------------------------------------- */

static enum io_lock lock_of(unsigned number)
{
    return (enum io_lock)(LOCK_OF_NUMBER + number);
}

bool twl_participants_try(struct participants *participants, enum participant_lock which)
{
    if (!participants_let_others_in(participants))
        return true;
    return io_lock(participants->file, (enum io_lock)which, true) == 0;
}

void twl_participants_release(struct participants *participants, enum participant_lock which)
{
    if (participants_let_others_in(participants))
        io_unlock(participants->file, (enum io_lock)which);
}

bool twl_participants_is_alive(const struct participants *participants, unsigned number)
{
    bool is_locked;

    if (number == participants->number || !participants_let_others_in(participants))
        return true;

    /* Its lock is exclusive. A process that may only read the file can have a shared one. */
    const int rc = io_is_locked_exclusively(participants->file, lock_of(number), &is_locked);
    if (rc < 0) /* what it has claimed is not taken from one that may be alive */
        return true;
    return is_locked;
}

/* ---- joining ----------------------------------------------------------------------------------- */

static void take_page(struct participants *participants)
{
    participants->common =
        (struct common *)(void *)((unsigned char *)participants->shared.page + PAGE_COMMON_OFFSET);
}

static void give_page_back(struct participants *participants)
{
    twl_page_unwatch(&participants->shared);
    participants->common = NULL;
}

/* Takes a number that is free. -EUSERS: other participants have all of them. Any error of a lock but -EAGAIN is one of
 * the system, and says nothing about the number. */
static int take_number(struct participants *participants)
{
    for (unsigned number = 1; number <= PARTICIPANTS_MAX; number++) {
        const int rc = io_lock(participants->file, lock_of(number), true);
        if (rc == -EAGAIN)
            continue;
        if (rc == 0)
            participants->number = number;
        return rc;
    }
    return -EUSERS;
}

/* A log can only be joined while a participant is alive. If all are dead, the next one to come is the first, and
 * recovers the log: readers no longer believe the page, and may have passed records that they found themselves. */
static bool is_anybody_alive(const struct participants *participants)
{
    for (unsigned number = 1; number <= PARTICIPANTS_MAX; number++)
        if (twl_participants_is_alive(participants, number))
            return true;
    return false;
}

/* Reads the page. While this participant has the lock, and another one is alive, the page is as the last one that had
 * the lock exclusively has left it. Without the lock the log is not joined, whatever the page says. */
static int look_at_page(struct participants *participants, bool *ret_is_open)
{
    *ret_is_open = false;
    participants->is_of_other_boot = false;

    int rc = twl_page_join(participants->io, &participants->shared);
    if (rc == -ENOTSUP) /* the page may not be made yet */
        return 0;
    if (rc < 0)
        return rc;

    take_page(participants);
    const struct common *common = participants->common;
    const bool is_complete =
        atomic_load(&common->state) == COMMON_OPEN && twl_page_epoch(&participants->shared) > 0;
    const bool is_used = is_complete && is_anybody_alive(participants);
    if (!is_used)
        return 0;

    bool is_of_this_boot;
    rc = twl_boot_ask(common->boot_id, &is_of_this_boot);
    if (rc < 0)
        return rc;
    if (!is_of_this_boot) {
        participants->is_of_other_boot = true;
        return 0;
    }

    *ret_is_open = true;
    if (common->version != COMMON_VERSION)
        return TWINLOG_EVERSION;
    return 0;
}

/* How long to wait for a log that can be joined, as the page says, if it is there. */
static unsigned patience_for(const struct participants *participants)
{
    if (!participants->common)
        return MEETING_MS;

    const uint32_t state = atomic_load(&participants->common->state);
    const bool is_opening_or_closing = state == COMMON_OPENING || state == COMMON_CLOSING;
    if (is_opening_or_closing)
        return OPENING_MS;
    return MEETING_MS;
}

/* While this process waited, the file may have been removed, and others know each other by a new one. -EAGAIN: this
 * process has the new one open now, without a lock. */
static int leave_if_removed(struct participants *participants)
{
    uint32_t links;

    int rc = io_links(participants->file, PAGE_FILE_NAME, &links);
    if (rc < 0 || links > 0)
        return rc;

    io_close(participants->file);
    participants->file = NULL;
    rc = io_open_or_create(participants->io, PAGE_FILE_NAME, 0, &participants->file);
    if (rc < 0)
        return rc;
    return -EAGAIN;
}

/* 1 = joined. 0 = there is no open log to join now, but there may be one within *ret_patience_ms: a participant that
 * opens or closes it may have the lock. */
static int join(struct participants *participants, unsigned *ret_patience_ms)
{
    bool is_open = false;

    *ret_patience_ms = MEETING_MS;
    const int locked = io_lock(participants->file, IO_LOCK_WRITER, false);
    const bool has_lock = locked == 0;
    if (locked < 0 && locked != -EAGAIN)
        return locked;

    int rc = leave_if_removed(participants);
    if (rc == -EAGAIN)
        return 0;
    if (!participants->file) /* the new one cannot be opened */
        return rc;
    if (rc == 0)
        rc = look_at_page(participants, &is_open);
    *ret_patience_ms = patience_for(participants);

    const bool may_join = rc == 0 && is_open && has_lock;
    if (may_join) {
        rc = take_number(participants);
        if (rc == 0)
            return 1;
    }

    give_page_back(participants);
    if (has_lock)
        io_unlock(participants->file, IO_LOCK_WRITER);
    return rc;
}

/* For a random time: two participants that have the lock shared keep each other from the exclusive one. */
static void rest(struct participants *participants)
{
    struct io *io = participants->io;
    uint8_t chance = 0;

    (void)io->ops->random(io, &chance, sizeof(chance)); /* without it, they rest for the same time */
    io->ops->sleep_ms(io, 1 + chance % RETRY_MS);
}

/* Takes the lock as the first participant, or joins the others. */
static int come(struct participants *participants, unsigned wait_ms, bool *ret_is_first)
{
    const uint64_t began_ns = twl_monotonic_ns();

    for (;;) {
        int rc = io_lock(participants->file, IO_LOCK_WRITER, true);
        if (rc == 0)
            rc = leave_if_removed(participants);
        *ret_is_first = rc == 0;
        if (rc != -EAGAIN)
            return rc;

        unsigned patience_ms;
        const int joined = join(participants, &patience_ms);
        if (joined < 0)
            return joined;
        if (joined > 0)
            return 0;

        const uint64_t passed_ms = (twl_monotonic_ns() - began_ns) / 1000000u;
        if (passed_ms >= max_u64(wait_ms, patience_ms))
            return -EBUSY;

        rest(participants);
    }
}

int twl_participants_come(struct io *io, unsigned wait_ms, struct participants *ret_participants,
                          bool *ret_is_first)
{
    struct participants participants = { .io = io };

    int rc = io_open_or_create(io, PAGE_FILE_NAME, 0, &participants.file);
    if (rc == 0)
        rc = come(&participants, wait_ms, ret_is_first);
    if (rc < 0) {
        ret_participants->is_of_other_boot = participants.is_of_other_boot; /* for the message */
        twl_participants_leave(&participants);
        return rc;
    }

    POINT("participant-came");
    *ret_participants = participants;
    return 0;
}

/* ---- the first participant --------------------------------------------------------------------- */

void twl_participants_be_alone(struct io *io, struct participants *ret_participants)
{
    *ret_participants =
        (struct participants){ .io = io, .common = &ret_participants->own_common, .number = 1 };
}

int twl_participants_begin(struct participants *participants)
{
    int rc = twl_page_share(participants->file, &participants->shared);
    if (rc == 0) /* link() decides which participant makes a segment */
        rc = twl_segment_check_links(participants->io, PAGE_FILE_NAME);
    if (rc < 0)
        return rc;

    take_page(participants);
    struct common *common = participants->common;
    atomic_store(&common->state, COMMON_OPENING);
    common->version = COMMON_VERSION;
    rc = twl_boot_id(common->boot_id);
    POINT("participants-begun");
    if (rc < 0)
        return rc;

    /* Without an identity of this boot, others could not find out whether they run under the same kernel. */
    const bool is_boot_known = !are_zeros(common->boot_id, sizeof(common->boot_id));
    if (!is_boot_known)
        return -ENOTSUP;
    return take_number(participants);
}

int twl_participants_open(struct participants *participants)
{
    if (!participants_let_others_in(participants))
        return 0;

    atomic_store(&participants->common->state, COMMON_OPEN);
    POINT("participants-open");
    const int rc = io_lock(participants->file, IO_LOCK_WRITER, false);
    POINT("participants-let-in");
    return rc;
}

/* ---- leaving ----------------------------------------------------------------------------------- */

/* Participants that leave at the same time do so one after the other: else two that have the writer's lock shared would
 * each find the other one, and none would be the last. None waits long for one that is stopped here. If none is the
 * last, the next opening finds the log as after a death. */
bool twl_participants_become_last(struct participants *participants)
{
    const uint64_t until_ns = twinlog_deadline(LEAVING_MS);

    if (!participants_let_others_in(participants))
        return true;

    while (!twl_participants_try(participants, LOCK_TO_LEAVE) && twl_monotonic_ns() < until_ns)
        rest(participants);
    POINT("participant-leaves");

    const bool is_last = io_lock(participants->file, IO_LOCK_WRITER, true) == 0;
    if (!is_last)
        return false;

    atomic_store(&participants->common->state, COMMON_CLOSING);
    POINT("participant-last");
    return true;
}

void twl_participants_leave(struct participants *participants)
{
    give_page_back(participants);
    io_close(participants->file); /* all locks at once, so no process joins a participant that is gone */
    POINT("participant-left");
    *participants = (struct participants){ 0 };
}
