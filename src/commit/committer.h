/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The committer: the thread that leads for callers that do not: for requests, for calls with a deadline, for the flush
 * interval. A log has its own committer, started when it is first needed, or shares one with other logs.
 *
 * A shared committer is the only leader of its logs, and keeps writes of several logs in flight: shared.c. It sleeps
 * only in its own loop; when a callback that it has called waits for something, the loop runs inside that callback.
 */
#ifndef TWL_COMMITTER_H
#define TWL_COMMITTER_H

#include "base/sync.h"
#include "twinlog.h"

struct commit;

/* The entry of a log (a client) at its committer. */
enum client_state {
    CLIENT_IDLE,
    CLIENT_QUEUED,  /* gets its turn when there is room for another write */
    CLIENT_FILLING, /* its round has started; writers still copy into the buffer */
    CLIENT_WRITING  /* its write is in flight */
};
struct committer_client {
    struct commit *commit;                       /* [const] */
    struct twinlog_committer *_Atomic committer; /* NULL = none yet */
    bool is_shared;              /* [const] only the committer leads, except for marker groups */
    bool has_ring;               /* [const] its writes go through the committer's ring */
    struct twl_event called;     /* the log's own committer and drivers sleep on it */
    _Atomic bool is_over;        /* twinlog_drive() is to return, and no committer may be started */
    _Atomic bool is_in_callback; /* the log's own committer waits in a callback, as a writer does */
    _Atomic uint64_t flush_ns;   /* [committer or driver] when the next flush is due; 0 = unknown */

    /* at a shared committer: */
    _Atomic bool is_called;               /* it is in the list of called clients */
    struct committer_client *next_called; /* [the thread that has set is_called, then the committer] */
    struct committer_client *next_flush;  /* [committer's lock] */
    _Atomic bool is_leaving;
    _Atomic bool has_left; /* the committer's answer: it does not touch the log any more */
    /* [thread] */
    enum client_state state;
    bool has_round;      /* a round has started */
    bool is_undelivered; /* it is in the list of clients for a later turn, which hands out their requests */
    struct committer_client *next_undelivered;
    unsigned users;                /* turns that are inside a callback of this log */
    struct committer_client *next; /* queued, or filling */
};

/* Makes the log a client of the shared committer; NULL = of none. */
void twl_client_take(struct committer_client *client, struct commit *commit,
                     struct twinlog_committer *shared);
/* Starts the flush interval. */
void twl_client_start(struct committer_client *client);
/* Starts a committer unless the log has one. 0 or an error; -ENOTSUP where no thread may be started. */
int twl_client_need(struct committer_client *client);
/* True if the calling thread is the log's own committer, in a callback: then it must lead itself. */
bool twl_client_is_mine(const struct committer_client *client);
/* True if the calling thread is the shared committer of the log, in a callback of any log. */
bool twl_client_is_in_callback(const struct committer_client *client);
/* Calls the committer, if there is one, to look for work. */
void twl_client_call(struct committer_client *client);
/* For a caller that waits and may not lead. True: it should look again. False: it may sleep. `is_quiet`: as for
 * twl_commit_run_once(). */
bool twl_client_help(struct committer_client *client, bool is_quiet);
/* Leaves the committer, once; on return it does not touch the log any more. `is_forked`: in a forked child. */
void twl_client_leave(struct committer_client *client, bool is_forked);

static inline bool client_has_committer(const struct committer_client *client)
{
    return atomic_load_explicit(&client->committer, memory_order_acquire) != NULL;
}

#endif
