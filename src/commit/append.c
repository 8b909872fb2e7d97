/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An append, from its call to its return:
 *
 *     twl_commit_append()         the end of this file
 *         twl_commit_put()        measures the records
 *             twl_take_at_once()  place.c: LSNs and a range of bytes in the filling buffer, under the lock
 *             copy_batch()              encodes the records there, outside the lock
 *         twl_commit_wait()       until the records are at the wanted level:
 *             twl_help()          lead.c: leads a round, if no other thread leads
 *                                 or sleeps, until a leader has done that
 *
 * A commit cannot be interrupted. So a call that has a deadline or can be cancelled does not lead while the log has
 * a committer.
 */
#define _GNU_SOURCE
#include "base/probes.h"
#include "commit/inside.h"

#include <errno.h>
#include <string.h>

/* What a buffer holds in addition to the largest batch. */
#define BATCH_OVERHEAD (2u * BLOCK_BYTES)

/* How far in front of the records lines are fetched, and at most how much for each. */
#define FETCHED_AHEAD 1024u

#ifndef YIELDS_BEFORE_SLEEP /* test/interleave sets both to 0 */
#define YIELDS_BEFORE_SLEEP 8
#define YIELDS_BEFORE_LEAD 2
#endif

int twl_terms_ended(const struct terms *terms)
{
    /* a plain word in the caller's struct, so that the public header needs no atomics */
    if (terms->cancel && __atomic_load_n(&terms->cancel->is_canceled, __ATOMIC_SEQ_CST) != 0)
        return -ECANCELED;
    if (terms->deadline_ns > 0 && twl_monotonic_ns() >= terms->deadline_ns)
        return -ETIMEDOUT;
    return 0;
}

uint64_t twl_commit_called(void)
{
    static _Thread_local unsigned calls;
    const bool is_timed = calls++ % TIMED_INTERVAL == 0;

    return is_timed ? twl_monotonic_ns() : 0;
}

/* ---- copying ----------------------------------------------------------------------------------- */

void twl_finish_copy(struct commit *c, struct twin *twin)
{
    atomic_fetch_add(&twin->filled, 1);
    if (!atomic_load(&twin->is_sealed) || copies_left(twin) > 0)
        return;

    /* The leader waits for this copy, the last one. A shared committer does not sleep on the word of one log. */
    if (c->client.is_shared)
        twl_client_call(c);
    else
        twl_event_notify_all(&twin->copied);
}

uint64_t twl_entry_bytes(const struct twinlog_entry *entry)
{
    uint64_t bytes = entry->size;

    if (!entry->pieces)
        return bytes;
    for (uint32_t i = 0; i < entry->piece_count; i++)
        if (__builtin_add_overflow(bytes, entry->pieces[i].iov_len, &bytes))
            return UINT64_MAX;
    return bytes;
}

static bool has_time(const struct batch *batch, const struct twinlog_entry *entry)
{
    return entry->time_ns != 0 || batch->has_times;
}

static int64_t entry_time(const struct batch *batch, const struct twinlog_entry *entry, int64_t now_ns)
{
    return has_time(batch, entry) ? entry->time_ns : now_ns;
}

/* The time for entries that come without one; 0 if all have one. The clock is a fifth of the cost of a small record. */
static int64_t time_for(const struct commit *c, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (!has_time(batch, &batch->entries[i]))
            return c->io->ops->now_ns(c->io);
    return 0;
}

/* Does a batch with so many bytes of records fit an empty buffer? A batch of one may fill the buffer as far as the
 * largest group does. */
static bool fits_buffer(const struct commit *c, const struct batch *batch, uint64_t record_bytes)
{
    if (record_bytes <= c->options.buffer_bytes - BATCH_OVERHEAD)
        return true;
    return batch->count == 1 && twl_group_room(record_bytes) <= c->options.buffer_bytes;
}

/* Adds the bytes and the times of the records. -EMSGSIZE: they are too large. */
static int measure(const struct commit *c, const struct batch *batch, int64_t now_ns, struct need *need)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < batch->count; i++) {
        const struct twinlog_entry *entry = &batch->entries[i];
        const uint64_t bytes = twl_entry_bytes(entry);
        if (bytes > c->options.max_record_bytes)
            return -EMSGSIZE;
        total += twl_record_bytes(bytes);
        if (!fits_buffer(c, batch, total))
            return -EMSGSIZE;

        const int64_t time_ns = entry_time(batch, entry, now_ns);
        if (time_ns < need->min_ns)
            need->min_ns = time_ns;
        if (time_ns > need->max_ns)
            need->max_ns = time_ns;
        need->payload_bytes += bytes;
    }
    need->bytes = (uint32_t)total;
    return 0;
}

static void gather_pieces(unsigned char *at, const struct twinlog_entry *entry)
{
    for (uint32_t i = 0; i < entry->piece_count; i++) {
        size_t size = entry->pieces[i].iov_len;
        if (size > 0)
            memcpy(at, entry->pieces[i].iov_base, size);
        at += size;
    }
}

/* For a thread that does not wait, and writes the lines behind its record soon. The leader and the device had them
 * last, on other processors: fetched too late, each record waits for its own. */
static void fetch_lines(const unsigned char *at, uint64_t bytes)
{
    for (uint64_t i = FETCHED_AHEAD; i < FETCHED_AHEAD + min_u64(bytes, FETCHED_AHEAD); i += CACHE_LINE)
#ifdef __x86_64__ /* the builtin fetches them only to be read, where the compiler serves the oldest processors */
        __asm__ volatile("prefetchw %0" : : "m"(at[i]));
#else
        __builtin_prefetch(at + i, 1);
#endif
}

/* Encodes the records in their place. Pieces are put together there; else the encoder copies the payload. */
static void copy_batch(const struct commit *c, const struct batch *batch, int64_t now_ns, struct place place,
                       bool will_wait)
{
    unsigned char *at = place.at;

    for (uint32_t i = 0; i < batch->count; i++) {
        const struct twinlog_entry *entry = &batch->entries[i];
        const uint64_t bytes = twl_entry_bytes(entry);
        const void *payload = entry->data;
        const struct record_header record = { .size = (uint32_t)bytes,
                                              .kind = (uint8_t)batch->kind,
                                              .type = entry->type,
                                              .tag = entry->tag,
                                              .time_ns = entry_time(batch, entry, now_ns) };

        if (entry->pieces) {
            gather_pieces(at + RECORD_HEADER_BYTES, entry);
            payload = NULL;
        }
        if (!will_wait)
            fetch_lines(at, twl_record_bytes(bytes));
        twl_record_encode(at, c->epoch_seed, place.lsn + i, &record, payload);
        at += twl_record_bytes(bytes);
    }
}

/* ---- a place ------------------------------------------------------------------------------------ */

/* Meanwhile the thread drives no committer. */
static void sleep_for_segment(struct commit *c, uint32_t seen, uint64_t deadline_ns)
{
    twl_client_end_wait(c);
    twl_event_sleep_until(&c->space, seen, deadline_ns);
    twl_client_begin_wait(c);
}

/* What the event of the space and the driven committer said before the last look. */
struct seen {
    uint32_t space, work;
};

/* Until there may be room: there is a segment, or a commit is over, which this thread may lead itself. */
static void wait_for_room(struct commit *c, struct waiter *waiter, const struct terms *terms,
                          struct seen seen)
{
    if (waiter->awaits_segment) {
        sleep_for_segment(c, seen.space, terms->deadline_ns);
        return;
    }

    const bool should_look = twl_help(c, terms, waiter, seen.work);
    if (!should_look)
        twl_event_sleep_until(&c->space, seen.space, terms->deadline_ns);
}

/* A try is told to come again, and the queues tell when. What has made room since `seen` may have come before the note;
 * it is told here. A try that gets another error is told nothing: news of each attempt that it orders would bring it
 * back at once, as long as the disk is full. */
static void refuse_try(struct commit *c, uint32_t seen)
{
    twl_commit_note_refusal(c);
    if (twl_event_value(&c->space) != seen)
        twl_commit_tell_refused(c);
}

/* For a writer that found no room. */
static int wait_for_place(struct commit *c, const struct need *need, const struct terms *terms,
                          struct place *ret_place)
{
    struct waiter waiter = { .need = need, .since = UINT64_MAX };
    bool has_place = false;
    int rc = 0;

    twl_client_begin_wait(c);
    for (;;) {
        const struct seen seen = { .space = twl_event_value(&c->space), .work = twl_client_seen(c) };
        rc = twl_admit(c, &waiter, terms, &has_place);
        if (has_place) /* put() calls the committer, when the record is copied */
            break;
        if (waiter.place.must_call)
            twl_client_call_before_wait(c);
        if (rc == -EAGAIN)
            refuse_try(c, seen.space);
        if (rc < 0)
            break;
        wait_for_room(c, &waiter, terms, seen);
    }
    twl_client_end_wait(c);

    if (has_place)
        *ret_place = waiter.place;
    return rc;
}

/* The committer is needed for the group, and was not called for it yet. */
static void call_committer(struct commit *c, bool will_wait)
{
    if (will_wait)
        twl_client_call_before_wait(c);
    else
        twl_client_call(c);
}

/* Of a poisoned log, the request may be completed by now: its bytes are its owner's again. */
static bool may_copy(const struct commit *c)
{
    return atomic_load_explicit(&c->poison, memory_order_relaxed) == 0;
}

/* What the call needs of its group. Nothing is wanted of it if the call neither waits nor has a request. */
static struct need need_for(const struct commit *c, const struct batch *batch, const struct terms *terms,
                            struct twinlog_request *request)
{
    const bool waits = !request && terms->level != TWINLOG_LEVEL_BUFFERED;

    return (struct need){
        .count = batch->count,
        .min_ns = INT64_MAX,
        .max_ns = INT64_MIN,
        .will_wait = waits,
        .wants_sync = terms->level == TWINLOG_LEVEL_DURABLE,
        .needs_committer = request || (waits && !may_lead(c, terms)),
        .request = request,
    };
}

int twl_commit_put(struct commit *c, const struct batch *batch, const struct terms *terms,
                   struct twinlog_request *request, uint64_t *ret_first_lsn)
{
    const bool is_timed = terms->called_ns > 0;
    const int64_t now_ns = time_for(c, batch);
    struct need need = need_for(c, batch, terms, request);
    struct place place;

    int rc = measure(c, batch, now_ns, &need);
    PROBE_APPEND_ENTRY(c, batch->count, need.payload_bytes);
    if (rc == 0 && !twl_take_at_once(c, &need, &place))
        rc = wait_for_place(c, &need, terms, &place);
    if (rc < 0)
        return rc;
    PROBE_APPEND_ACCEPTED(c, place.lsn, batch->count);

    const uint64_t placed_ns = is_timed ? twl_monotonic_ns() : 0;
    if (may_copy(c))
        copy_batch(c, batch, now_ns, place, need.will_wait);
    twl_finish_copy(c, place.twin);

    if (!need.wants_sync)
        twl_client_note_unsynced(c);
    if (place.must_call)
        call_committer(c, need.will_wait);

    if (is_timed) {
        twl_samples_put(&c->samples, SAMPLE_QUEUE, placed_ns - terms->called_ns);
        twl_samples_put(&c->samples, SAMPLE_COPY, twl_monotonic_ns() - placed_ns);
    }
    *ret_first_lsn = place.lsn;
    return 0;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

static bool is_reached(const struct commit *c, uint64_t lsn, enum twinlog_level level)
{
    switch (level) {
    case TWINLOG_LEVEL_DURABLE:
        return watermark_load(&c->durable) >= lsn;
    case TWINLOG_LEVEL_WRITTEN:
        return atomic_load_explicit(&c->written, memory_order_acquire) >= lsn;
    default:
        return true;
    }
}

/* Announces that this call waits for `lsn`. */
static void demand(struct commit *c, uint64_t lsn, const struct terms *terms)
{
    const bool wants_sync = terms->level == TWINLOG_LEVEL_DURABLE;
    const bool leads = may_lead(c, terms);

    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    const bool is_filling = lsn >= filling->first_lsn;
    if (is_filling) {
        filling->wants_sync |= wants_sync;
        filling->needs_committer |= !leads;
    } else { /* its group is written, or has its leader */
        c->needs_sync |= wants_sync;
    }
    twl_mutex_unlock(&c->lock);

    if (!leads)
        twl_client_call_before_wait(c);
}

/* For a call that may not lead. When it put its record, or announced its wait, there may have been no committer: then
 * nothing says yet that one is needed. A group that is not being filled any more has its leader. */
static void leave_to_committer(struct commit *c, uint64_t lsn)
{
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    if (lsn >= filling->first_lsn)
        filling->needs_committer = true;
    twl_mutex_unlock(&c->lock);
}

/* The buffer with the `done` word that changes when `lsn` makes progress. If `lsn` was written before, that is the
 * buffer that is not being filled: a sync that was demanded notifies both. */
static struct twin *twin_of(struct commit *c, uint64_t lsn)
{
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    struct twin *twin = lsn >= filling->first_lsn ? filling : other_twin(c, filling);
    twl_mutex_unlock(&c->lock);
    return twin;
}

static void note_times(struct commit *c, const struct terms *terms, const struct twin *twin)
{
    const uint64_t now_ns = twl_monotonic_ns();

    twl_samples_put(&c->samples, SAMPLE_TOTAL, now_ns - terms->called_ns);
    if (!twin) /* it has not slept */
        return;
    const uint64_t done_ns = atomic_load_explicit(&twin->done_ns, memory_order_relaxed);
    if (done_ns > terms->called_ns && now_ns >= done_ns)
        twl_samples_put(&c->samples, SAMPLE_WAKE, now_ns - done_ns);
}

/* In a crowd, the group should have a part of the writers before one of them leads. */
static bool should_batch(const struct commit *c, uint64_t lsn)
{
    const uint32_t batch_floor = atomic_load_explicit(&c->batch_floor, memory_order_relaxed);
    return batch_floor > 0 && lsn - atomic_load_explicit(&c->written, memory_order_relaxed) < batch_floor;
}

/* Why a wait ends before its record is there: the poison of the log, or these terms. Else 0. */
static int why_wait_ends(const struct commit *c, const struct terms *terms)
{
    const int poison = atomic_load(&c->poison);

    if (poison != 0)
        return poison;
    return twl_terms_ended(terms);
}

/* Each time around, the thread looks whether it is done, leads or has a committer lead, and yields; in the end it
 * sleeps on the word of its buffer. It reads that word before the look, so it does not sleep past a change. */
static int wait_until_reached(struct commit *c, uint64_t lsn, const struct terms *terms)
{
    /* A shared committer needs the processor more than writers that wait. */
    const bool may_yield = !c->client.is_shared;
    bool is_left = c->client.is_shared; /* the committer knows of the group: one that is shared, of each */
    struct twin *twin = NULL; /* the writer sleeps on its word; NULL until it has yielded often enough */

    for (unsigned tries = 0;; tries++) {
        const uint32_t seen_work = c->client.is_driven ? twl_client_seen(c) : 0;
        const uint32_t seen = twin ? twl_event_value(&twin->done) : 0;
        if (is_reached(c, lsn, terms->level))
            break;

        const int rc = why_wait_ends(c, terms);
        if (rc < 0) {
            if (twin) /* if it was woken to lead, wake another writer to lead */
                twl_event_notify_one(&twin->done);
            if (rc != atomic_load(&c->poison)) /* perhaps nobody else waits for the record */
                twl_client_note_unsynced(c);
            return rc;
        }

        /* In a crowd others put their records meanwhile, and join the group. */
        if (tries < YIELDS_BEFORE_LEAD && may_yield && should_batch(c, lsn)) {
            twl_yield();
            continue;
        }
        if (!is_left && !may_lead(c, terms)) {
            leave_to_committer(c, lsn);
            is_left = true;
        }
        if (twl_help(c, terms, NULL, seen_work))
            continue;

        /* This thread has nothing to do but to wait. */
        if (tries < YIELDS_BEFORE_SLEEP && may_yield)
            twl_yield();
        else if (!twin)
            twin = twin_of(c, lsn); /* it looks once more before it sleeps there */
        else
            twl_event_sleep_until(&twin->done, seen, terms->deadline_ns);
    }

    if (terms->called_ns > 0)
        note_times(c, terms, twin);
    return 0;
}

int twl_commit_wait(struct commit *c, uint64_t lsn, const struct terms *terms, bool is_told)
{
    if (terms->level == TWINLOG_LEVEL_BUFFERED)
        return 0;

    const bool must_demand = !is_told && !is_reached(c, lsn, terms->level) && twl_terms_ended(terms) == 0;
    if (must_demand)
        demand(c, lsn, terms);
    if (!c->client.is_driven)
        return wait_until_reached(c, lsn, terms);

    twl_client_begin_wait(c);
    const int rc = wait_until_reached(c, lsn, terms);
    twl_client_end_wait(c);
    return rc;
}

int twl_commit_append(void *engine, const struct batch *batch, const struct terms *terms, uint64_t *ret_lsn)
{
    struct commit *c = engine;

    int rc = twl_commit_put(c, batch, terms, NULL, ret_lsn);
    if (rc == 0)
        rc = twl_commit_wait(c, *ret_lsn + batch->count - 1, terms, true);
    PROBE_APPEND_RETURN(c, *ret_lsn, rc);
    return rc;
}
