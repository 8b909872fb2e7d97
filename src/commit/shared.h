/* SPDX-License-Identifier: Apache-2.0 */
/* The committer, and the functions of a shared one; for committer.c and shared.c. */
#ifndef TWL_SHARED_H
#define TWL_SHARED_H

#include "base/fork.h"
#include "commit/inside.h"
#include "io/ring.h"

struct twinlog_committer {
    struct fork_guard guard;        /* [const] */
    struct committer_client *alone; /* [const] the client of the only log; NULL = shared */
    pthread_t thread;               /* [const] */
    _Atomic bool must_stop;

    /* of a shared committer: */
    struct io_ring *ring;                    /* [const] NULL = the kernel refused one */
    _Atomic uint32_t clients;                /* clients taken */
    struct committer_client *_Atomic called; /* clients that were called, the newest first */
    _Atomic bool is_asleep;                  /* a caller must wake it */
    struct twl_event wake;                   /* the committer sleeps on it if it has no ring */
    struct twl_event left;                   /* notified when a client is released */
    struct twl_mutex lock;
    struct committer_client *flush; /* [lock] clients with a flush interval */
    _Atomic uint64_t flush_ns;      /* [lock to store] when the next flush is due; 0 = never */
    /* [thread] */
    struct committer_client *first, *last; /* queued */
    struct committer_client *undelivered;  /* their requests were completed in a quiet turn */
    bool is_quiet;                         /* this turn calls no callbacks */
    struct committer_client *filling;
    uint64_t look_ns; /* when to look at `filling` again; 0 = when a client is called */
    uint32_t room;    /* number of writes that may still be submitted */
};

static inline uint64_t flush_interval_ns(const struct committer_client *client)
{
    return (uint64_t)client->commit->options.flush_interval_ms * 1000000;
}
/* Demands a flush if one is due within `ahead_ns`, and sets client->flush_ns to the time of the next one. True if there
 * is something to flush. */
bool twl_client_flush(struct committer_client *client, uint64_t ahead_ns);

void *twl_shared_run(void *committer);
/* True if the calling thread is the committer of this client. */
bool twl_shared_is_ours(const struct committer_client *client);
/* Any thread may call these: */
void twl_shared_wake(struct twinlog_committer *committer);
void twl_shared_call(struct committer_client *client);
void twl_shared_join_flush(struct committer_client *client);
void twl_shared_leave(struct committer_client *client);

#endif
