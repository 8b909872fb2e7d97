/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many logs in one process, as a store with hundreds of raft groups has them: one for each thread. They share a
 * committer, or each has what a log has alone. Beside them, one log for all threads.
 */
#include "common.h"
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <twinlog.h>

#define SEGMENT_BYTES (1u << 20)
#define BUFFER_BYTES (32u << 10)

struct logs {
    struct twinlog_committer *committer; /* NULL: each its own */
    unsigned count;
    struct twinlog *log[];
};

struct twinlog *logs_at(void *state, unsigned thread)
{
    const struct logs *logs = state;
    return logs->log[thread % logs->count];
}

static int close_logs(void *state)
{
    struct logs *logs = state;
    int error = 0;
    while (logs->count > 0) {
        int close_error = twinlog_close(logs->log[--logs->count]);
        error = error ? error : close_error;
    }
    twinlog_committer_close(logs->committer);
    free(logs);
    return error;
}

static int open_log(struct logs *logs, const char *dir)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    char path[4096];
    options.segment_bytes = SEGMENT_BYTES;
    options.buffer_bytes = BUFFER_BYTES;
    options.keep_bytes = SEGMENT_BYTES;
    options.committer = logs->committer;
    snprintf(path, sizeof(path), "%s/log-%u", dir, logs->count);
    int error = twinlog_open(path, &options, &logs->log[logs->count]);
    logs->count += error == 0;
    return error;
}

static void allow_many_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

struct kind {
    bool is_shared, is_one; /* the committer; log */
    uint32_t in_flight;     /* of a shared committer; 0 = its default */
};

static int open_logs(const struct peer *peer, const struct peer_setup *setup, void **ret_state)
{
    const struct kind *kind = peer->kind;
    const unsigned count = kind->is_one ? 1 : setup->threads;
    struct twinlog_committer_options options = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct logs *logs = allocate(1, sizeof(*logs) + count * sizeof(struct twinlog *));
    allow_many_files();
    options.in_flight = kind->in_flight;
    int error = kind->is_shared ? twinlog_committer_open(&options, &logs->committer) : 0;
    while (error == 0 && logs->count < count)
        error = open_log(logs, setup->dir);
    *ret_state = logs;
    if (error)
        close_logs(logs);
    return error;
}

static int append(void *state, unsigned thread, const struct twinlog_entry *record, unsigned count,
                  enum append_level level)
{
    (void)count;
    (void)level;
    return twinlog_append(logs_at(state, thread), record->data, record->size, NULL);
}

#define LOGS(its_name, its_what, ...)                                                                        \
    {                                                                                                        \
        .name = its_name, .what = its_what, .kind = &(const struct kind){ __VA_ARGS__ },                     \
        .is_only_named = true, .open = open_logs, .append = append, .close = close_logs,                     \
        .explain = twinlog_strerror                                                                          \
    }
const struct peer peer_logs_own =
    LOGS("logs-own", "a log for each thread, which commits itself", .is_one = false);
const struct peer peer_logs_shared =
    LOGS("logs-shared", "a log for each thread, one committer", .is_shared = true);
const struct peer peer_logs_shared_32 =
    LOGS("logs-shared-32", "the same, 32 writes in flight", .is_shared = true, .in_flight = 32);
const struct peer peer_logs_one =
    LOGS("logs-one", "one log of the same kind for all threads", .is_one = true);
