/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of an open log: every call goes in and out through it.
 *
 * The calls inside are counted in one word. A close waits until none is left. A truncation waits only for those that
 * use the commit path, and holds up new ones; what it holds up still counts for a close.
 *
 * No call is a cancellation point: a thread that leads and disappears would leave the others waiting for ever. Most calls
 * disable cancellation from their beginning to their end. That is two atomic operations, a tenth of a request. So a
 * brief call, which nearly always returns without having reached a cancellation point, leaves it to what may reach one:
 * waiting here, waiting for a place, calling or starting a committer.
 */
#include "log/handle.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>

#define PAUSED (1u << 30)
#define COMMIT_USERS (INSIDE_OTHER - 1)
#define EVERYBODY (PAUSED - 1)

/* The calls that this thread is in, innermost first: a completed request may be delivered in the middle of
 * a call, and its callback may append. */
static _Thread_local struct call *visits;

static void go_out(struct twinlog *log, uint32_t how)
{
    /* The log may be freed as soon as the count allows it: nothing of it is used after that, except the
     * address of the word. */
    uint32_t left = atomic_fetch_sub(&log->inside, how) - how;
    bool is_last = (left & CLOSING) && (left & EVERYBODY) == 0;
    bool is_last_user = (left & PAUSED) && (left & COMMIT_USERS) == 0;
    if (is_last || is_last_user)
        twl_word_wake(&log->inside, INT_MAX, false);
}

/* The thread that pauses the log already waits for this thread. */
static bool is_counted(const struct twinlog *log)
{
    const struct call *call = visits;
    while (call && (call->log != log || call->how != INSIDE_COMMIT))
        call = call->outer;
    return call != NULL;
}

static uint32_t count_in(struct twinlog *log, uint32_t how)
{
    const uint32_t before = atomic_fetch_add(&log->inside, how);
    ASSERT(before % INSIDE_OTHER < COMMIT_USERS && before / INSIDE_OTHER % INSIDE_OTHER < COMMIT_USERS);
    return before;
}

static int await_resume(struct twinlog *log, const struct terms *terms)
{
    int rc = 0;
    while (rc == 0) {
        const uint32_t seen = twl_event_value(&log->resumed);
        if (terms->is_try) /* before it looks, so that the end of the truncation is told */
            twl_commit_want_room(log->commit);
        if (!(atomic_load(&log->inside) & PAUSED))
            break;
        rc = terms->is_try ? -EAGAIN : twl_terms_ended(terms);
        if (rc == 0 && !twl_commit_run_once(false)) /* a committing thread must not wait for a waiter */
            twl_event_sleep_until(&log->resumed, seen, terms->deadline_ns);
    }
    return rc;
}

static int go_in(struct twinlog *log, uint32_t how, const struct terms *terms)
{
    bool is_held_up = false;
    int rc = 0, cancel_state = PTHREAD_CANCEL_ENABLE;
    while (rc == 0 && (count_in(log, how) & PAUSED) && how == INSIDE_COMMIT && !is_counted(log)) {
        if (!is_held_up) {
            count_in(log, INSIDE_OTHER); /* so that a close continues to wait for this call */
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
        }
        is_held_up = true;
        go_out(log, how);
        rc = await_resume(log, terms);
    }
    if (is_held_up) {
        go_out(log, INSIDE_OTHER);
        pthread_setcancelstate(cancel_state, NULL);
    }
    return rc;
}

static void restore_cancellation(const struct call *call)
{
    if (!call->is_brief)
        pthread_setcancelstate(call->cancel_state, NULL);
}

static int enter(struct twinlog *log, enum inside how, const struct terms *terms, bool is_brief,
                 struct call *call)
{
    if (!log)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&log->guard))
        return TWINLOG_EFORKED;
    if (how == INSIDE_COMMIT && is_read_only(log))
        return -EROFS;
    if (log->commit && twl_commit_is_in_observer(log->commit))
        return -EDEADLK;
    *call = (struct call){ .log = log, .how = how, .is_brief = is_brief, .outer = visits };
    if (!is_brief)
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &call->cancel_state);
    const int rc = go_in(log, how, terms);
    if (rc == 0)
        visits = call;
    else
        restore_cancellation(call);
    return rc;
}

int twl_enter(struct twinlog *log, enum inside how, struct call *call)
{
    static const struct terms patient;
    return enter(log, how, &patient, false, call);
}

int twl_enter_on_terms(struct twinlog *log, const struct terms *terms, struct call *call)
{
    return enter(log, INSIDE_COMMIT, terms, false, call);
}

int twl_enter_briefly(struct twinlog *log, const struct terms *terms, struct call *call)
{
    return enter(log, INSIDE_COMMIT, terms, true, call);
}

void twl_leave(struct call *call)
{
    visits = call->outer;
    go_out(call->log, call->how);
    restore_cancellation(call);
}

void twl_take_head_lock(struct twinlog *log)
{
    while (!twl_mutex_try_lock(&log->head_lock))
        if (!twl_commit_run_once(false)) {
            twl_mutex_lock(&log->head_lock);
            return;
        }
}

void twl_pause(struct twinlog *log)
{
    atomic_fetch_or(&log->inside, PAUSED);
    for (uint32_t inside; (inside = atomic_load(&log->inside)) & COMMIT_USERS;)
        twl_word_sleep(&log->inside, inside, 0, false);
}

void twl_resume(struct twinlog *log)
{
    atomic_fetch_and(&log->inside, ~PAUSED);
    twl_event_notify_all(&log->resumed);
    twl_commit_tell_room(log->commit);
}

bool twl_is_inside(const struct twinlog *log)
{
    const struct call *call = visits;
    while (call && call->log != log)
        call = call->outer;
    return call;
}

void twl_close_gate(struct twinlog *log)
{
    atomic_fetch_or(&log->inside, CLOSING);
    if (log->commit)
        twl_commit_end_driving(log->commit);
    for (uint32_t inside; (inside = atomic_load(&log->inside)) != CLOSING;)
        twl_word_sleep(&log->inside, inside, 0, false);
}
