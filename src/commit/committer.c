/* SPDX-License-Identifier: Apache-2.0 */
/* See committer.h. */
#define _GNU_SOURCE
#include "base/versioned.h"
#include "commit/shared.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_IN_FLIGHT 256u

/* ---- for one log --------------------------------------------------------------------------------- */

bool twl_client_flush(struct committer_client *client, uint64_t ahead_ns)
{
    const uint64_t interval_ns = flush_interval_ns(client);
    if (interval_ns == 0)
        return false;
    const uint64_t now_ns = twl_monotonic_ns(), due_ns = client->flush_ns;
    if (due_ns > now_ns + ahead_ns)
        return false;
    client->flush_ns = now_ns + interval_ns;
    return due_ns > 0 && twl_demand_flush(client->commit);
}

int twl_commit_drive(struct commit *c, int timeout_ms)
{
    const uint64_t deadline_ns = timeout_ms > 0 ? twinlog_deadline((uint32_t)timeout_ms) : 0;
    for (;;) {
        uint32_t seen = twl_event_value(&c->client.called);
        twl_deliver(c);
        int rc = atomic_load(&c->poison);
        if (rc == 0 && atomic_load(&c->client.is_over))
            rc = -ESHUTDOWN;
        if (rc < 0)
            return rc;
        if (!c->client.is_shared)
            twl_client_flush(&c->client, 0);
        uint64_t wake_ns = c->client.is_shared ? 0 : atomic_load(&c->client.flush_ns);
        if (!c->client.is_shared && twl_needs_committer(c) && twl_lead(c, NULL) == LED_ROUND)
            return 1;
        if (timeout_ms == 0 || (deadline_ns > 0 && twl_monotonic_ns() >= deadline_ns))
            return 0;
        if (wake_ns == 0 || (deadline_ns > 0 && deadline_ns < wake_ns))
            wake_ns = deadline_ns;
        twl_event_sleep_until(&c->client.called, seen, wake_ns);
    }
}

void twl_commit_end_driving(struct commit *c)
{
    atomic_store(&c->client.is_over, true);
    twl_client_call(&c->client);
    twl_commit_wake_all(c); /* callers that wait for a free reservation */
}

/* ---- the thread of one log ----------------------------------------------------------------------- */

static _Thread_local const struct committer_client *my_client; /* set in the committer of one log */

bool twl_client_is_mine(const struct committer_client *client)
{
    return my_client == client;
}

static void *run_alone(void *context)
{
    struct twinlog_committer *committer = context;
    struct committer_client *client = committer->alone;
    struct commit *c = client->commit;
    my_client = client;
    for (;;) {
        uint32_t seen = twl_event_value(&client->called);
        atomic_store(&client->is_in_callback, false);
        if (atomic_load(&committer->must_stop))
            return NULL;
        twl_client_flush(client, 0);
        if (twl_needs_committer(c) && twl_lead(c, NULL) == LED_ROUND)
            continue;
        twl_event_sleep_until(&client->called, seen, atomic_load(&c->poison) == 0 ? client->flush_ns : 0);
    }
}

/* ---- open and close ------------------------------------------------------------------------------ */

static void dismantle(struct twinlog_committer *committer, bool is_forked)
{
    if (!is_forked) /* a thread that did not survive the fork may hold it */
        twl_mutex_destroy(&committer->lock);
    twl_io_ring_destroy(committer->ring);
    twl_fork_guard_destroy(&committer->guard);
    free(committer);
}

/* `in_flight` is 0 for the committer of one log. */
static int create(struct committer_client *alone, uint32_t in_flight, void *(*run)(void *),
                  struct twinlog_committer **ret_committer)
{
    struct twinlog_committer *committer = calloc(1, sizeof(*committer));
    if (!committer)
        return -ENOMEM;
    committer->alone = alone;
    committer->room = in_flight;
    twl_mutex_init(&committer->lock);
    int rc = twl_fork_guard_init(&committer->guard);
    if (rc == 0 && in_flight > 0 && twl_io_ring_create(in_flight, &committer->ring) < 0)
        committer->ring = NULL; /* the logs are then written one after the other */
    if (rc == 0)
        rc = twl_thread_start(&committer->thread, run, committer);
    if (rc < 0) {
        dismantle(committer, false);
        return rc;
    }
    *ret_committer = committer;
    return 0;
}

static void destroy(struct twinlog_committer *committer, bool is_forked)
{
    if (!is_forked) {
        atomic_store(&committer->must_stop, true);
        if (committer->alone)
            twl_event_notify_all(&committer->alone->called);
        else
            twl_shared_wake(committer);
        pthread_join(committer->thread, NULL);
    }
    dismantle(committer, is_forked);
}

int twinlog_committer_open(const struct twinlog_committer_options *options,
                           struct twinlog_committer **ret_committer)
{
    struct twinlog_committer_options own;
    if (!ret_committer || twl_versioned_take(&own, sizeof(own), options) < 0 || own.in_flight > MAX_IN_FLIGHT)
        return -EINVAL;
    return create(NULL, own.in_flight > 0 ? own.in_flight : MAX_IN_FLIGHT, twl_shared_run, ret_committer);
}

int twinlog_committer_close(struct twinlog_committer *committer)
{
    if (!committer)
        return 0;
    const bool is_forked = twl_fork_guard_is_forked(&committer->guard);
    if (!is_forked && atomic_load(&committer->clients) > 0)
        return -EBUSY;
    destroy(committer, is_forked);
    return is_forked ? TWINLOG_EFORKED : 0;
}

/* ---- clients --------------------------------------------------------------------------------------- */

static bool wants_ring(const struct twinlog_options *options)
{
    return options->io != TWINLOG_IO_DSYNC && options->io != TWINLOG_IO_FDATASYNC;
}

int twl_commit_check(const struct twinlog_options *options)
{
    const struct twinlog_committer *committer = options->committer;
    if (!committer)
        return 0;
    if (twl_fork_guard_is_forked(&committer->guard))
        return TWINLOG_EFORKED;
    return wants_ring(options) && !committer->ring ? -ENOSYS : 0;
}

void twl_client_take(struct committer_client *client, struct commit *commit, struct twinlog_committer *shared)
{
    client->commit = commit;
    if (!shared)
        return;
    client->is_shared = true;
    client->has_ring = wants_ring(&commit->options);
    atomic_fetch_add(&shared->clients, 1);
    atomic_store(&client->committer, shared);
}

void twl_client_start(struct committer_client *client)
{
    if (client->commit->options.flush_interval_ms == 0)
        return;
    if (client->is_shared)
        twl_shared_join_flush(client);
    else
        twl_commit_need_committer(client->commit); /* if this fails, drivers of the log flush */
}

int twl_client_need(struct committer_client *client)
{
    struct commit *c = client->commit;
    struct twinlog_committer *committer;
    int rc = 0;
    if ((c->options.flags & TWINLOG_NO_THREAD) || !c->io->has_threads)
        return -ENOTSUP;
    if (atomic_load(&client->is_over))
        return -ESHUTDOWN;
    twl_mutex_lock(&c->lock); /* a second thread could be joined only after its first commit */
    if (!client_has_committer(client)) {
        rc = create(client, 0, run_alone, &committer);
        if (rc == 0)
            atomic_store(&client->committer, committer);
    }
    twl_mutex_unlock(&c->lock);
    return rc;
}

bool twl_client_is_in_callback(const struct committer_client *client)
{
    return client->is_shared && twl_shared_is_ours(client);
}

void twl_client_call(struct committer_client *client)
{
    twl_event_notify_all(&client->called);
    if (atomic_load(&client->is_in_callback))
        twl_commit_wake_all(client->commit);
    if (client->is_shared)
        twl_shared_call(client);
}

/* A shared committer needs no call: it was called when the work came, and looks again by itself after a round. */
bool twl_client_help(struct committer_client *client, bool is_quiet)
{
    if (twl_commit_run_once(is_quiet))
        return true;
    if (!client->is_shared)
        twl_client_call(client);
    return false;
}

void twl_client_leave(struct committer_client *client, bool is_forked)
{
    struct twinlog_committer *committer = atomic_load(&client->committer);
    if (!committer)
        return;
    if (!client->is_shared)
        destroy(committer, is_forked);
    else if (!is_forked)
        twl_shared_leave(client);
    atomic_store(&client->committer, NULL);
}
