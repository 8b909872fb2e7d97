/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a writer waits: until its LSN is at the wanted level, it leads, or sleeps while another thread leads.
 *
 * A commit cannot be interrupted. So a call that has a deadline or can be cancelled does not lead while the log has
 * a committer.
 *
 * Measured choices (docs/design.md has the figures): writers sleep on the word of their own buffer, so only the
 * writers that a group covers wake; they yield a few times before they sleep.
 */
#define _GNU_SOURCE
#include "commit/inside.h"

#include <errno.h>

#ifndef YIELDS_BEFORE_SLEEP /* test/interleave sets both to 0 */
#define YIELDS_BEFORE_SLEEP 8
#define YIELDS_BEFORE_LEAD 2
#endif

int twl_terms_ended(const struct terms *terms)
{
    /* a plain word in the caller's struct, so that the public header needs no atomics */
    if (terms->cancel && __atomic_load_n(&terms->cancel->is_canceled, __ATOMIC_SEQ_CST) != 0)
        return -ECANCELED;
    return terms->deadline_ns > 0 && twl_monotonic_ns() >= terms->deadline_ns ? -ETIMEDOUT : 0;
}

bool twl_may_lead(struct commit *c, const struct terms *terms)
{
    const bool has_time = terms->deadline_ns == 0 && !terms->cancel;
    return !c->client.is_shared &&
           (has_time || !client_has_committer(&c->client) || twl_client_is_mine(&c->client));
}

bool twl_help(struct commit *c, const struct terms *terms, const struct waiter *waiter)
{
    if (twl_client_is_mine(&c->client))
        atomic_store(&c->client.is_in_callback, true);
    if (twl_may_lead(c, terms))
        return twl_lead(c, waiter) != LED_NOT;
    return twl_client_help(&c->client, waiter != NULL);
}

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
    const bool wants_sync = terms->level == TWINLOG_LEVEL_DURABLE, may_lead = twl_may_lead(c, terms);
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    if (lsn >= filling->first_lsn) {
        filling->wants_sync |= wants_sync;
        filling->needs_committer |= !may_lead;
    } else {
        c->needs_sync |= wants_sync;
    }
    twl_mutex_unlock(&c->lock);
    if (!may_lead)
        twl_client_call(&c->client);
}

/* The buffer with the `done` word that changes when `lsn` makes progress. If `lsn` was written before, that is the
 * buffer that is not being filled: a sync that was demanded notifies both. */
static struct twin *twin_of(struct commit *c, uint64_t lsn)
{
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    struct twin *twin = lsn >= filling->first_lsn ? filling : &c->twins[c->filling ^ 1];
    twl_mutex_unlock(&c->lock);
    return twin;
}

static void note_times(struct commit *c, const struct terms *terms, const struct twin *twin)
{
    if (terms->called_ns == 0)
        return;
    const uint64_t now_ns = twl_monotonic_ns();
    const uint64_t done_ns = twin ? atomic_load_explicit(&twin->done_ns, memory_order_relaxed) : 0;
    twl_gauge_add(&c->gauges.total, now_ns - terms->called_ns);
    if (done_ns > terms->called_ns && now_ns >= done_ns)
        twl_gauge_add(&c->gauges.wake, now_ns - done_ns);
}

static int wait_for(struct commit *c, uint64_t lsn, const struct terms *terms, struct twin **twin)
{
    for (unsigned tries = 0;; tries++) {
        uint32_t seen = *twin ? twl_event_value(&(*twin)->done) : 0;
        if (is_reached(c, lsn, terms->level))
            return 0;
        int rc = atomic_load(&c->poison);
        if (rc == 0)
            rc = twl_terms_ended(terms);
        if (rc < 0) {
            if (*twin) /* if it was woken to lead, wake another writer to lead */
                twl_event_notify_one(&(*twin)->done);
            return rc;
        }
        /* a shared committer needs the processor more than writers that wait */
        const bool may_yield = !c->client.is_shared;
        if (tries < YIELDS_BEFORE_LEAD && may_yield &&
            atomic_load_explicit(&c->is_crowded, memory_order_relaxed)) {
            twl_yield(); /* others put their records meanwhile, and join the group */
            continue;
        }
        if (twl_help(c, terms, NULL))
            continue;
        if (tries < YIELDS_BEFORE_SLEEP && may_yield)
            twl_yield();
        else if (!*twin)
            *twin = twin_of(c, lsn);
        else
            twl_event_sleep_until(&(*twin)->done, seen, terms->deadline_ns);
    }
}

int twl_commit_wait(struct commit *c, uint64_t lsn, const struct terms *terms, bool is_told)
{
    if (terms->level == TWINLOG_LEVEL_BUFFERED)
        return 0;
    struct twin *twin = NULL;
    int rc = 0;
    if (!is_reached(c, lsn, terms->level)) {
        if (!is_told && twl_terms_ended(terms) == 0)
            demand(c, lsn, terms);
        rc = wait_for(c, lsn, terms, &twin);
    }
    if (rc == 0)
        note_times(c, terms, twin);
    return rc;
}

uint64_t twl_commit_called(void)
{
    static _Thread_local unsigned calls;
    return calls++ % TIMED_INTERVAL == 0 ? twl_monotonic_ns() : 0;
}

void twl_commit_wake_all(struct commit *c)
{
    twl_event_notify_all(&c->twins[0].done);
    twl_event_notify_all(&c->twins[1].done);
    twl_announce_room(c);
}
