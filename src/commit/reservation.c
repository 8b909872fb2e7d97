/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations: places that callers write into themselves.
 *
 * A reservation counts as a copy in progress: the leader waits for it. The data that is needed to settle it is in a
 * table of the log, because the caller's memory may vanish with its thread.
 *
 * The leader does not wait for ever. A reservation that has expired becomes a filler record. But its caller
 * still has the address, and may write there at any time. So the group moves to a new buffer, with the filler in the
 * place of the expired record. The caller keeps the old buffer until it settles the reservation after all.
 */
#define _GNU_SOURCE
#include "commit/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Memory that callers may still write to, after their reservations were given up. */
struct old_buffer {
    unsigned char *bytes;
    uint32_t users; /* [lock] reservations in it that their callers have not settled */
    bool is_ours;   /* a mapping of its own; else a part of commit.memory */
};

#define SOON_NS 1000000u    /* if other copies go on: they are soon done, or soon expired */
#define RETRY_NS 100000000u /* if there is no memory for a new buffer */

/* ---- the table --------------------------------------------------------------------------------- */

static uint64_t handle_of(const struct commit *c, const struct reservation *reservation)
{
    return (uint64_t)reservation->generation << 32 | (uint64_t)(reservation - c->reservations);
}

/* The reservation of this handle; NULL unless there is one that is not settled. */
static struct reservation *find_reservation(struct commit *c, uint64_t handle) REQUIRES(c->lock)
{
    uint32_t index = (uint32_t)handle;
    if (!c->reservations || index >= MAX_RESERVATIONS)
        return NULL;
    struct reservation *reservation = &c->reservations[index];
    return reservation->state != RESERVATION_FREE && reservation->generation == handle >> 32 ? reservation
                                                                                             : NULL;
}

static void free_reservation(struct reservation *reservation)
{
    reservation->state = RESERVATION_FREE;
    reservation->generation++;
}

/* Takes a free entry of the table; -EAGAIN if there is none. */
static int try_reservation(struct commit *c, struct reservation **ret_reservation) REQUIRES(c->lock)
{
    if (!c->reservations)
        c->reservations = calloc(MAX_RESERVATIONS, sizeof(*c->reservations));
    if (!c->reservations)
        return -ENOMEM;
    for (uint32_t i = 0; i < MAX_RESERVATIONS; i++) {
        if (c->reservations[i].state == RESERVATION_FREE) {
            *ret_reservation = &c->reservations[i];
            (*ret_reservation)->state = RESERVATION_TAKEN;
            return 0;
        }
    }
    return -EAGAIN;
}

/* Why a caller should not go on waiting for a free entry; 0 if it should. The entry of a reservation that was given up
 * becomes free only when its caller settles it, which may never happen. */
static int why_not_wait(const struct commit *c, const struct terms *terms, uint64_t until_ns)
{
    if (atomic_load(&c->poison) != 0)
        return TWINLOG_EPOISONED;
    if (atomic_load(&c->client.is_over))
        return -ESHUTDOWN;
    const int rc = twl_terms_ended(terms);
    return rc == 0 && twl_monotonic_ns() >= until_ns ? -EBUSY : rc;
}

static int take_reservation(struct commit *c, const struct terms *terms, struct reservation **ret_reservation)
{
    const uint64_t until_ns = twinlog_deadline(c->options.reserve_timeout_ms);
    for (;;) {
        uint32_t seen = twl_event_value(&c->space);
        twl_mutex_lock(&c->lock);
        int rc = try_reservation(c, ret_reservation);
        twl_mutex_unlock(&c->lock);
        if (rc != -EAGAIN || terms->is_try)
            return rc;
        rc = why_not_wait(c, terms, until_ns);
        if (rc < 0)
            return rc;
        twl_event_sleep_until(&c->space, seen,
                              terms->deadline_ns > 0 ? min_u64(terms->deadline_ns, until_ns) : until_ns);
    }
}

/* ---- calls ------------------------------------------------------------------------------------- */

int twl_commit_reserve(struct commit *c, const struct twinlog_entry *entry, const struct terms *terms,
                       struct twinlog_reservation *ret_reservation)
{
    struct place place;
    struct reservation *reservation;
    const int64_t time_ns = entry->time_ns != 0 ? entry->time_ns : c->io->ops->now_ns(c->io);
    if (entry->size > c->options.max_record_bytes)
        return -EMSGSIZE;
    int rc = take_reservation(c, terms, &reservation);
    if (rc < 0)
        return rc;
    const struct need need = { .bytes = (uint32_t)twl_record_bytes(entry->size),
                               .count = 1,
                               .min_ns = time_ns,
                               .max_ns = time_ns,
                               .payload_bytes = entry->size,
                               .reservation = reservation };
    reservation->record = (struct record_header){
        .size = (uint32_t)entry->size, .type = entry->type, .tag = entry->tag, .time_ns = time_ns
    };
    rc = twl_take_place(c, &need, terms, &place);
    twl_mutex_lock(&c->lock);
    if (rc < 0) {
        free_reservation(reservation);
    } else {
        *ret_reservation = (struct twinlog_reservation){ .data = place.at + RECORD_HEADER_BYTES,
                                                         .lsn = place.lsn,
                                                         .handle = handle_of(c, reservation) };
    }
    twl_mutex_unlock(&c->lock);
    if (rc < 0)
        twl_event_notify_all(&c->space); /* for another caller that waits for a free entry */
    return rc;
}

/* A user of the old buffer does not write to it any more. */
static void release_old(const struct commit *c, struct old_buffer *old)
{
    if (--old->users > 0)
        return;
    if (old->is_ours)
        munmap(old->bytes, c->options.buffer_bytes);
    free(old);
}

/* The checksum of the payload is computed outside the lock; meanwhile RESERVATION_SETTLING keeps the leader from giving up the
 * reservation. */
int twl_commit_settle(struct commit *c, const struct twinlog_reservation *ticket, enum record_kind kind)
{
    int rc = 0;
    twl_mutex_lock(&c->lock);
    struct reservation *reservation = find_reservation(c, ticket->handle);
    if (!reservation || reservation->place.lsn != ticket->lsn || reservation->state == RESERVATION_SETTLING) {
        rc = -EINVAL;
    } else if (reservation->state == RESERVATION_GIVEN_UP) {
        release_old(c, reservation->old);
        free_reservation(reservation);
        rc = -ESTALE;
    } else {
        reservation->state = RESERVATION_SETTLING;
    }
    twl_mutex_unlock(&c->lock);
    if (rc == -ESTALE)
        twl_event_notify_all(&c->space);
    if (rc < 0)
        return rc;

    struct record_header record = reservation->record;
    struct place place = reservation->place;
    record.kind = (uint8_t)kind;
    if (kind == RECORD_FILLER)
        memset(place.at + RECORD_HEADER_BYTES, 0, record.size);
    twl_record_encode(place.at, c->epoch_seed, place.lsn, &record, NULL);
    twl_mutex_lock(&c->lock);
    free_reservation(reservation);
    c->fillers += kind == RECORD_FILLER;
    place.twin->reservations--;
    twl_mutex_unlock(&c->lock);
    twl_finish_copy(c, place.twin);
    twl_event_notify_all(&c->space);
    return 0;
}

/* ---- giving up ----------------------------------------------------------------------------------- */

static bool is_in(const struct reservation *reservation, const struct twin *twin)
{
    return reservation->state == RESERVATION_OPEN && reservation->place.twin == twin;
}

/* Counts the open reservations in the buffer that have expired. *ret_next_ns: when the first open one expires;
 * 0 if none is open. */
static uint32_t count_expired(struct commit *c, const struct twin *twin, uint64_t now_ns,
                              uint64_t *ret_next_ns) REQUIRES(c->lock)
{
    uint32_t expired = 0;
    *ret_next_ns = 0;
    for (uint32_t i = 0; twin->reservations > 0 && i < MAX_RESERVATIONS; i++) {
        const struct reservation *reservation = &c->reservations[i];
        if (!is_in(reservation, twin))
            continue;
        expired += reservation->expires_ns <= now_ns;
        if (*ret_next_ns == 0 || reservation->expires_ns < *ret_next_ns)
            *ret_next_ns = reservation->expires_ns;
    }
    return expired;
}

/* The expired reservation that comes first in the buffer; NULL = none. */
static struct reservation *first_expired(struct commit *c, const struct twin *twin, uint64_t now_ns)
    REQUIRES(c->lock)
{
    struct reservation *first = NULL;
    for (uint32_t i = 0; i < MAX_RESERVATIONS; i++) {
        struct reservation *reservation = &c->reservations[i];
        if (is_in(reservation, twin) && reservation->expires_ns <= now_ns &&
            (!first || reservation->place.at < first->place.at))
            first = reservation;
    }
    return first;
}

/* Its filler goes to `at`, in memory that is new: so the payload is zeros. */
static void give_up(struct commit *c, struct reservation *reservation, struct old_buffer *old,
                    unsigned char *at) REQUIRES(c->lock)
{
    struct record_header record = reservation->record;
    record.kind = RECORD_FILLER;
    twl_record_encode(at, c->epoch_seed, reservation->place.lsn, &record, NULL);
    reservation->state = RESERVATION_GIVEN_UP;
    reservation->old = old;
    old->users++;
    twl_tell(c, &(struct twinlog_event){ .kind = TWINLOG_EVENT_ABANDONED,
                                         .first_lsn = reservation->place.lsn,
                                         .records = 1,
                                         .segment = c->segment.header.sequence });
}

/* Moves the group to a new buffer, and gives up every expired reservation in it. Their records are not copied: their
 * callers may be writing them at this moment. False if there is no memory. */
static bool move_group(struct commit *c, struct twin *twin, uint64_t now_ns) REQUIRES(c->lock)
{
    struct old_buffer *old = calloc(1, sizeof(*old));
    unsigned char *bytes = MAP_FAILED;
    if (old)
        bytes =
            mmap(NULL, c->options.buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) {
        free(old);
        return false;
    }
    *old = (struct old_buffer){ .bytes = twin->bytes, .is_ours = twin->is_moved };
    uint32_t from = 0;
    struct reservation *reservation;
    while ((reservation = first_expired(c, twin, now_ns))) {
        const uint32_t at = (uint32_t)(reservation->place.at - old->bytes);
        memcpy(bytes + from, old->bytes + from, at - from);
        give_up(c, reservation, old, bytes + at);
        from = at + (uint32_t)twl_record_bytes(reservation->record.size);
    }
    memcpy(bytes + from, old->bytes + from, twin->used - from);
    twin->bytes = bytes;
    twin->is_moved = true;
    c->fillers += old->users;
    twin->reservations -= old->users;
    atomic_fetch_add(&twin->filled, old->users);
    return true;
}

/* Moves the group only when no other writer copies into the buffer: else its bytes would be left behind. */
uint64_t twl_reservations_expire(struct commit *c, struct twin *twin)
{
    const uint64_t now_ns = twl_monotonic_ns();
    uint64_t next_ns, look_ns = now_ns + SOON_NS;
    twl_mutex_lock(&c->lock);
    const uint32_t expired = count_expired(c, twin, now_ns, &next_ns);
    if (expired == 0)
        look_ns = next_ns;
    else if (copies_left(twin) == expired && !move_group(c, twin, now_ns))
        look_ns = now_ns + RETRY_NS;
    twl_mutex_unlock(&c->lock);
    return look_ns;
}

void twl_reservations_destroy(struct commit *c)
{
    for (unsigned i = 0; i < 2; i++)
        if (c->twins[i].is_moved)
            munmap(c->twins[i].bytes, c->options.buffer_bytes);
    for (uint32_t i = 0; c->reservations && i < MAX_RESERVATIONS; i++)
        if (c->reservations[i].state == RESERVATION_GIVEN_UP)
            release_old(c, c->reservations[i].old);
    free(c->reservations);
}
