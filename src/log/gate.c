/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of an open log: every call goes in and out through it, and is counted in one word. A close waits until none
 * is left.
 *
 * A truncation that goes on (PAUSED) waits for the calls that use the commit path, and holds up new ones. One that is
 * submitted and not over (SHUT) holds up only calls that accept records, so that these come behind it, and waits for
 * none. A call that is held up still counts for a close.
 *
 * A close that begins releases all resources, whatever fails.
 *
 * No call is a cancellation point: a thread that leads and disappears would leave the others waiting for ever.
 */
#include "log/handle.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#define COMMIT_USERS (INSIDE_OTHER - 1)
#define MOST_OTHERS OTHERS_IN(EVERYBODY)

/* ---- counting ---------------------------------------------------------------------------------- */

static void go_out(struct twinlog *log, uint32_t how)
{
    /* The log may be freed as soon as the count allows it: nothing of it is used after that, except the
     * address of the word. */
    const uint32_t left = atomic_fetch_sub(&log->inside, how) - how;

    const bool is_last = (left & CLOSING) && (left & EVERYBODY) == 0;
    const bool is_last_user = how == INSIDE_COMMIT && (left & PAUSED) && (left & COMMIT_USERS) == 0;
    if (is_last || is_last_user)
        twl_word_wake(&log->inside, INT_MAX, false);
}

static uint32_t count_in(struct twinlog *log, uint32_t how)
{
    const uint32_t before = atomic_fetch_add(&log->inside, how);

    ASSERT(before % INSIDE_OTHER < COMMIT_USERS);
    ASSERT(OTHERS_IN(before) < MOST_OTHERS);
    return before;
}

/* Until none of these is inside. Each that is the last one out wakes the word. */
static void await_all_out(struct twinlog *log, uint32_t counts)
{
    uint32_t inside = atomic_load(&log->inside);

    while (inside & counts) {
        twl_word_sleep(&log->inside, inside, 0, false);
        inside = atomic_load(&log->inside);
    }
}

/* ---- held up by a truncation --------------------------------------------------------------------- */

/* Truncations alone close a gate, and only a log in the durable mode can be truncated. So a log with a closed gate has
 * a commit path. */

static bool is_held_up(struct twinlog *log, uint32_t gates)
{
    return atomic_load(&log->inside) & gates;
}

/* The refusal is noted before the last look: what opens a gate after that look sees the note. */
static int refuse_try(struct twinlog *log, uint32_t gates)
{
    twl_commit_note_refusal(log->commit);
    return is_held_up(log, gates) ? -EAGAIN : 0;
}

static int await_resume(struct twinlog *log, uint32_t gates, const struct terms *terms)
{
    for (;;) {
        const uint32_t seen = twl_event_value(&log->resumed);
        if (!is_held_up(log, gates))
            return 0;
        if (terms->is_try)
            return refuse_try(log, gates);

        const int rc = twl_terms_ended(terms);
        if (rc < 0)
            return rc;
        twl_event_sleep_until(&log->resumed, seen, terms->deadline_ns);
    }
}

/* False: a truncation holds it up, because one of `gates` is closed; then the call is counted as one of the others, so
 * that a close waits for it at each moment. The gates are looked at before the call is counted: a truncation waits
 * until none is counted, and so would wait for ever beside enough threads that come back at once. A thread that had
 * looked just before is counted once, and goes out again. */
static bool enter_unless_held(struct twinlog *log, uint32_t how, uint32_t gates)
{
    if (how != INSIDE_COMMIT) {
        count_in(log, how);
        return true;
    }
    if (is_held_up(log, gates)) {
        count_in(log, INSIDE_OTHER);
        return false;
    }

    const bool has_passed = !(count_in(log, how) & gates);
    if (has_passed)
        return true;
    count_in(log, INSIDE_OTHER);
    go_out(log, how);
    return false;
}

/* Of a call that is held up, and is counted as one of the others. If it is held up again, it was counted again. */
static int pass_when_resumed(struct twinlog *log, uint32_t gates, const struct terms *terms)
{
    bool is_in = false;
    int rc = 0;

    while (!is_in && rc == 0) {
        rc = await_resume(log, gates, terms);
        if (rc == 0)
            is_in = enter_unless_held(log, INSIDE_COMMIT, gates);
        go_out(log, INSIDE_OTHER);
    }
    return rc;
}

/* ---- in and out ---------------------------------------------------------------------------------- */

static int enter(struct twinlog *log, enum inside how, uint32_t gates, const struct terms *terms,
                 struct call *call)
{
    if (!log)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&log->guard))
        return TWINLOG_EFORKED;
    if (how == INSIDE_COMMIT && is_read_only(log))
        return -EROFS;

    *call = (struct call){ .log = log, .how = how };
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &call->cancel_state);

    int rc = 0;
    if (!enter_unless_held(log, how, gates))
        rc = pass_when_resumed(log, gates, terms);
    if (rc < 0)
        pthread_setcancelstate(call->cancel_state, NULL);
    return rc;
}

int twl_enter_on_terms(struct twinlog *log, enum inside how, const struct terms *terms, struct call *call)
{
    return enter(log, how, PAUSED, terms, call);
}

int twl_enter_to_append(struct twinlog *log, const struct terms *terms, struct call *call)
{
    return enter(log, INSIDE_COMMIT, PAUSED | SHUT, terms, call);
}

int twl_enter(struct twinlog *log, enum inside how, struct call *call)
{
    static const struct terms patient;

    return twl_enter_on_terms(log, how, &patient, call);
}

void twl_leave(struct call *call)
{
    go_out(call->log, call->how);
    pthread_setcancelstate(call->cancel_state, NULL);
}

/* ---- for truncations ----------------------------------------------------------------------------- */

void twl_pause(struct twinlog *log)
{
    atomic_fetch_or(&log->inside, PAUSED);
    await_all_out(log, COMMIT_USERS);
}

static void open_gate(struct twinlog *log, uint32_t gate)
{
    atomic_fetch_and(&log->inside, ~gate);
    twl_event_notify_all(&log->resumed);
    twl_commit_tell_refused(log->commit);
}

void twl_resume(struct twinlog *log)
{
    open_gate(log, PAUSED);
}

void twl_shut(struct twinlog *log)
{
    atomic_fetch_or(&log->inside, SHUT);
}

void twl_unshut(struct twinlog *log)
{
    open_gate(log, SHUT);
}

/* ---- closing ----------------------------------------------------------------------------------- */

void twl_log_destroy(struct twinlog *log)
{
    twl_keeper_destroy(log->keeper); /* before the rest: its thread trims */
    twl_mapped_destroy(log->mapped);
    twl_commit_destroy(log->commit);
    twl_forget_lookups(log);
    twl_page_unwatch(&log->own_shared);
    if (log->participants.file)
        twl_participants_leave(&log->participants);
    twl_state_memory_free(&log->state_memory);
    log->io->ops->destroy(log->io);
    twl_errands_destroy(&log->errands);
    twl_mutex_destroy(&log->head_lock);
    twl_mutex_destroy(&log->lookups.lock);
    free(log);
}

/* What is appended to files that were removed is lost with them, so that is no success. */
static int finish(struct twinlog *log)
{
    if (is_read_only(log))
        return 0;

    const int rc = log->ops->finish(log->engine);
    if (rc != 0)
        return rc;
    return twl_page_check_log(log->shared);
}

int twinlog_close(struct twinlog *log)
{
    if (!log)
        return 0;
    if (twl_fork_guard_is_forked(&log->guard))
        return TWINLOG_EFORKED;

    atomic_fetch_or(&log->inside, CLOSING); /* from here on no reader is attached */
    if (atomic_load(&log->readers) > 0) {
        atomic_fetch_and(&log->inside, ~CLOSING);
        return -EBUSY;
    }

    NOT_CANCELLED;
    await_all_out(log, EVERYBODY);
    twl_errands_end(&log->errands);
    const int rc = finish(log);
    twl_log_destroy(log);
    return rc;
}
