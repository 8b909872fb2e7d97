/* SPDX-License-Identifier: Apache-2.0 */
/* Closing a log: all resources are released whatever fails. */
#define _GNU_SOURCE
#include "log/handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

void twl_log_destroy(struct twinlog *log)
{
    twl_keeper_destroy(log->keeper); /* before the rest: its thread trims */
    twl_mapped_destroy(log->mapped);
    twl_commit_destroy(log->commit);
    twl_forget_lookups(log);
    twl_page_unwatch(&log->own_shared);
    if (log->participants.file)
        twl_participants_leave(&log->participants);
    log->io->ops->destroy(log->io);
    twl_mutex_destroy(&log->head_lock);
    twl_mutex_destroy(&log->lookups.lock);
    free(log);
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
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    twl_close_gate(log);
    int rc = is_read_only(log) ? 0 : log->ops->finish(log->engine);
    twl_log_destroy(log);
    pthread_setcancelstate(cancel_state, NULL);
    return rc;
}
