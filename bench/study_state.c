/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of small things kept beside the log: a vote and a cursor, set again and again. Each set is two
 * durable writes of 4 KiB, one after the other, so that is the floor.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog.h>

#include "peer.h"
#include "study.h"

#define RAW_BYTES 4096u
#define RECORDS 1000u

struct stage {
    struct twinlog *log;
    void *raw; /* state of peer_raw */
};

/* What raft must not forget. */
struct vote {
    uint64_t term;
    uint64_t candidate;
};

static int set_vote(void *context, uint64_t turn)
{
    const struct stage *stage = context;
    const struct vote vote = { .term = turn + 1, .candidate = turn % 5 };
    return twinlog_meta_set(stage->log, "vote", &vote, sizeof(vote));
}

static int set_cursor(void *context, uint64_t turn)
{
    const struct stage *stage = context;
    return twinlog_cursor_set(stage->log, "consumer", 1 + turn % RECORDS);
}

static int write_twice(void *context, uint64_t turn)
{
    const struct stage *stage = context;
    (void)turn;
    int error = peer_raw.append(stage->raw, 0, NULL, RAW_BYTES); /* the bytes are its own */
    return error ? error : peer_raw.append(stage->raw, 0, NULL, RAW_BYTES);
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    if (stage->raw)
        peer_raw.close(stage->raw);
    if (stage->log)
        twinlog_close(stage->log);
    free(stage);
}

static int open_log(const char *dir, struct twinlog **ret_log)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/log", dir);
    int error = twinlog_open(path, NULL, ret_log);
    for (unsigned i = 0; i < RECORDS && error == 0; i++)
        error = twinlog_enqueue(*ret_log, "record", 6, NULL);
    return error ? error : twinlog_sync(*ret_log);
}

static bool set_stage(const struct study *study, const char *dir, const struct workload *workload,
                      const struct limits *limits, void **ret_stage)
{
    struct peer_setup setup = { .dir = dir };
    struct stage *stage = calloc(1, sizeof(*stage));
    (void)study;
    (void)workload;
    (void)limits;
    if (!stage)
        return complain("twinlog", "memory", strerror(ENOMEM));
    *ret_stage = stage;
    int error = open_log(dir, &stage->log);
    if (error)
        return complain("twinlog", "open", twinlog_strerror(error));
    error = peer_raw.open(&setup, &stage->raw);
    return error == 0 || complain("raw-twice", "open", peer_raw.explain(error));
}

struct way {
    int (*operate)(void *context, uint64_t turn);
};

static bool set_again(void *state, const struct trial *trial, const struct limits *limits,
                      struct figures *ret_figures)
{
    const struct way *way = trial->way;
    int error = time_operations(limits, way->operate, state, ret_figures);
    return error == 0 || complain(trial->label, "set", twinlog_strerror(error));
}

static const struct way sets_vote = { set_vote }, sets_cursor = { set_cursor },
                        writes_twice = { write_twice };

static const struct trial state_trials[] = {
    { "meta_set", "twinlog_meta_set() of 16 bytes", &sets_vote, set_again },
    { "cursor_set", "twinlog_cursor_set()", &sets_cursor, set_again },
    { "raw-twice", "the floor: two 4 KiB direct overwrites with RWF_DSYNC", &writes_twice, set_again },
    { NULL, NULL, NULL, NULL },
};

#define FIGURE(member) offsetof(struct figures, member)
const struct study study_state = {
    .baseline = "raw-twice",
    .trials = state_trials,
    .columns = {
        { "sets/s", FIGURE(rate), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "p99.9 µs", FIGURE(p999_us), 0 },
        { "max µs", FIGURE(max_us), 0 },
    },
    .set_stage = set_stage,
    .clear_stage = clear_stage,
};
