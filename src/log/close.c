/* SPDX-License-Identifier: Apache-2.0 */
/* Closing a log: the threads inside finish, what was accepted is committed, and a marker of a close is written. */
#include "log/handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

void twl_log_destroy(struct twinlog *log, bool is_forked)
{
    twl_keeper_destroy(log->keeper, is_forked); /* before the rest: its thread trims */
    twl_mapped_destroy(log->mapped, is_forked);
    twl_commit_destroy(log->commit, is_forked);
    if (!is_forked) /* in a child they may have been in use at the fork */
        twl_forget_lookups(log);
    twl_page_unlock(&log->own_shared);
    if (log->participants.file)
        twl_participants_leave(&log->participants, is_forked);
    log->io->ops->destroy(log->io);
    twl_fork_guard_destroy(&log->guard);
    if (!is_forked) {
        twinlog_reader_close(log->looker); /* in a child it may have been in use at the fork */
        twl_mutex_destroy(&log->head_lock);
        twl_mutex_destroy(&log->looking);
        twl_mutex_destroy(&log->lookups.lock);
    }
    free(log->copy);
    free(log);
}

static int finish(struct twinlog *log)
{
    twl_close_gate(log);
    return is_read_only(log) ? 0 : log->ops->finish(log->engine);
}

int twinlog_close(struct twinlog *log)
{
    if (!log)
        return 0;
    if (twl_fork_guard_is_forked(&log->guard)) {
        twl_log_destroy(log, true);
        return TWINLOG_EFORKED;
    }
    if (twl_is_inside(log) || (log->commit && twl_commit_is_in_callback(log->commit)))
        return -EDEADLK;
    if (atomic_load(&log->readers) > 0)
        return -EBUSY;
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    int rc = finish(log);
    twl_log_destroy(log, false);
    pthread_setcancelstate(cancel_state, NULL);
    return rc;
}
