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
    uint32_t size;
    uint32_t users; /* reservations in it that their callers have not settled */
    bool is_ours;   /* a mapping of its own; else a part of commit.memory */
    struct old_buffer *next;
};

#define RETRY_MS 100u /* if there is no memory for a new buffer */

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

/* True if a try was refused for want of a free entry. */
static bool free_reservation(struct commit *c, struct reservation *reservation) REQUIRES(c->lock)
{
    const bool is_wanted = c->wants_reservation;
    reservation->state = RESERVATION_FREE;
    reservation->generation++;
    c->open_reservations--;
    c->wants_reservation = false;
    return is_wanted;
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
            c->open_reservations++;
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
        if (rc == -EAGAIN && terms->is_try) {
            c->wants_reservation = true;
            twl_commit_want_room(c);
        }
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
    bool is_wanted = false;
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
        is_wanted = free_reservation(c, reservation);
    } else {
        *ret_reservation = (struct twinlog_reservation){ .data = place.at + RECORD_HEADER_BYTES,
                                                         .lsn = place.lsn,
                                                         .handle = handle_of(c, reservation) };
    }
    twl_mutex_unlock(&c->lock);
    if (rc < 0)
        twl_event_notify_all(&c->space); /* for another caller that waits for a free entry */
    if (is_wanted) /* only then: if this call is a try, there is still no room for its record */
        twl_commit_tell_room(c);
    return rc;
}

/* The caller of an expired reservation has settled it, and does not write to the old buffer any more. */
static void release_old(struct commit *c, struct old_buffer *old) REQUIRES(c->lock)
{
    if (--old->users > 0)
        return;
    struct old_buffer **link = &c->old_buffers;
    while (*link != old)
        link = &(*link)->next;
    *link = old->next;
    if (old->is_ours)
        munmap(old->bytes, old->size);
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
        free_reservation(c, reservation);
        rc = -ESTALE;
    } else {
        reservation->state = RESERVATION_SETTLING;
    }
    twl_mutex_unlock(&c->lock);
    if (rc == -ESTALE)
        twl_announce_room(c);
    if (rc < 0)
        return rc;

    struct record_header record = reservation->record;
    struct place place = reservation->place;
    record.kind = (uint8_t)kind;
    if (kind == RECORD_FILLER)
        memset(place.at + RECORD_HEADER_BYTES, 0, record.size);
    twl_record_encode(place.at, c->epoch_seed, place.lsn, &record, NULL);
    twl_mutex_lock(&c->lock);
    free_reservation(c, reservation);
    c->fillers += kind == RECORD_FILLER;
    place.twin->reservations--;
    twl_mutex_unlock(&c->lock);
    twl_finish_copy(c, place.twin);
    twl_announce_room(c);
    return 0;
}

/* ---- giving up ----------------------------------------------------------------------------------- */

static bool is_in(const struct reservation *reservation, const struct twin *twin)
{
    return reservation->state == RESERVATION_OPEN && reservation->place.twin == twin;
}

/* Milliseconds until the first open reservation expires; 0 if none is open or one has expired. */
static unsigned time_left(struct commit *c, const struct twin *twin, uint64_t now_ns) REQUIRES(c->lock)
{
    uint64_t first_ns = UINT64_MAX;
    for (uint32_t i = 0; twin->reservations > 0 && i < MAX_RESERVATIONS; i++)
        if (is_in(&c->reservations[i], twin))
            first_ns = min_u64(first_ns, c->reservations[i].expires_ns);
    if (first_ns <= now_ns || first_ns == UINT64_MAX)
        return 0;
    return (unsigned)min_u64((first_ns - now_ns) / 1000000 + 1, 1000 * 1000);
}

static bool has_expired(const struct reservation *reservation, const struct twin *twin, uint64_t now_ns)
{
    return is_in(reservation, twin) && reservation->expires_ns <= now_ns;
}

static uint32_t count_expired(struct commit *c, const struct twin *twin, uint64_t now_ns) REQUIRES(c->lock)
{
    uint32_t expired = 0;
    for (uint32_t i = 0; twin->reservations > 0 && i < MAX_RESERVATIONS; i++)
        expired += has_expired(&c->reservations[i], twin, now_ns);
    return expired;
}

/* The first expired reservation in the buffer from `from` on; NULL = none. */
static const struct reservation *next_expired(struct commit *c, const struct twin *twin,
                                              const unsigned char *from, uint64_t now_ns) REQUIRES(c->lock)
{
    const struct reservation *next = NULL;
    for (uint32_t i = 0; i < MAX_RESERVATIONS; i++) {
        const struct reservation *reservation = &c->reservations[i];
        if (has_expired(reservation, twin, now_ns) && reservation->place.at >= from &&
            (!next || reservation->place.at < next->place.at))
            next = reservation;
    }
    return next;
}

/* Copies the group to a new buffer, without the expired records, which their callers may be writing at this moment. */
static void move_out(struct commit *c, const struct twin *twin, unsigned char *to, uint64_t now_ns)
    REQUIRES(c->lock)
{
    const unsigned char *from = twin->bytes, *end = twin->bytes + twin->used;
    const struct reservation *reservation;
    while ((reservation = next_expired(c, twin, from, now_ns))) {
        memcpy(to + (from - twin->bytes), from, (size_t)(reservation->place.at - from));
        from = reservation->place.at + twl_record_bytes(reservation->record.size);
    }
    memcpy(to + (from - twin->bytes), from, (size_t)(end - from));
}

/* Gives up every expired reservation of the buffer. Its group has moved to the new buffer. */
static uint32_t give_up(struct commit *c, struct twin *twin, struct old_buffer *old, uint64_t now_ns)
    REQUIRES(c->lock)
{
    uint32_t given_up = 0;
    for (uint32_t i = 0; i < MAX_RESERVATIONS; i++) {
        struct reservation *reservation = &c->reservations[i];
        if (!has_expired(reservation, twin, now_ns))
            continue;
        struct record_header record = reservation->record;
        unsigned char *at = twin->bytes + (reservation->place.at - old->bytes);
        record.kind = RECORD_FILLER;
        twl_record_encode(at, c->epoch_seed, reservation->place.lsn, &record,
                          NULL); /* the payload is zeros, as the memory is new */
        reservation->state = RESERVATION_GIVEN_UP;
        reservation->old = old;
        given_up++;
        twl_tell(c, &(struct twinlog_event){ .size = sizeof(struct twinlog_event),
                                             .kind = TWINLOG_EVENT_ABANDONED,
                                             .first_lsn = reservation->place.lsn,
                                             .records = 1,
                                             .segment = c->segment.header.sequence });
    }
    return given_up;
}

/* Moves the group only when no other writer copies into the buffer: else its bytes would be left behind. */
unsigned twl_reservations_expire(struct commit *c, struct twin *twin)
{
    const uint64_t now_ns = twl_monotonic_ns();
    twl_mutex_lock(&c->lock);
    const uint32_t expired = count_expired(c, twin, now_ns);
    const unsigned left_ms = time_left(c, twin, now_ns);
    twl_mutex_unlock(&c->lock);
    if (expired == 0)
        return left_ms;
    if (atomic_load(&twin->copying) > expired) /* another copy goes on: soon done, or soon expired */
        return 1;

    struct old_buffer *old = calloc(1, sizeof(*old));
    unsigned char *bytes = MAP_FAILED;
    if (old)
        bytes =
            mmap(NULL, c->options.buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) {
        free(old);
        return RETRY_MS;
    }
    twl_mutex_lock(&c->lock);
    if (count_expired(c, twin, now_ns) != expired || atomic_load(&twin->copying) != expired) {
        /* an expired reservation was settled meanwhile, or is about to be */
        twl_mutex_unlock(&c->lock);
        munmap(bytes, c->options.buffer_bytes);
        free(old);
        return 1;
    }
    *old = (struct old_buffer){ .bytes = twin->bytes,
                                .size = c->options.buffer_bytes,
                                .is_ours = twin->is_moved,
                                .next = c->old_buffers };
    move_out(c, twin, bytes, now_ns);
    twin->bytes = bytes;
    twin->is_moved = true;
    old->users = give_up(c, twin, old, now_ns);
    c->old_buffers = old;
    c->fillers += old->users;
    twin->reservations -= old->users;
    atomic_fetch_sub(&twin->copying, old->users);
    twl_mutex_unlock(&c->lock);
    return 1;
}

void twl_reservations_destroy(struct commit *c)
{
    for (unsigned i = 0; i < 2; i++)
        if (c->twins[i].is_moved)
            munmap(c->twins[i].bytes, c->options.buffer_bytes);
    while (c->old_buffers) {
        struct old_buffer *old = c->old_buffers;
        c->old_buffers = old->next;
        if (old->is_ours)
            munmap(old->bytes, old->size);
        free(old);
    }
    free(c->reservations);
}
