/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of the durable mode: a record goes into a buffer, and its writer waits until a leader has written it. */
#include "base/probes.h"
#include "commit/inside.h"

static int append(void *engine, const struct batch *batch, const struct terms *terms, uint64_t *ret_lsn)
{
    struct commit *c = engine;
    int rc = twl_commit_put(c, batch, terms, NULL, ret_lsn);
    if (rc == 0)
        rc = twl_commit_wait(c, *ret_lsn + batch->count - 1, terms, true);
    PROBE_APPEND_RETURN(c, *ret_lsn, rc);
    return rc;
}

static int wait_for(void *engine, uint64_t lsn, const struct terms *terms)
{
    return twl_commit_wait(engine, lsn, terms, false);
}

static int sync_all(void *engine)
{
    const struct terms durable = { .level = TWINLOG_LEVEL_DURABLE };
    const int rc = twl_commit_wait(engine, twl_commit_last_lsn(engine), &durable, false);
    return rc == 0 ? twl_commit_poison(engine) : rc;
}

static int finish(void *engine)
{
    struct commit *c = engine;
    int rc = twl_commit_end(c);
    if (rc == 0)
        rc = twl_commit_write_marker(c, GROUP_CLOSE);
    if (is_no_space(rc) && watermark_load(&c->durable) == twl_commit_last_lsn(c))
        rc = 0; /* only the marker found no room; the next opening does without it */
    return rc;
}

static uint64_t newest_lsn(void *engine, enum twinlog_level level, bool is_forked)
{
    struct commit *c = engine;
    (void)is_forked; /* a child has a copy of all this */
    if (level == TWINLOG_LEVEL_DURABLE)
        return watermark_load(&c->durable);
    if (level == TWINLOG_LEVEL_WRITTEN)
        return atomic_load_explicit(&c->written, memory_order_acquire);
    return twl_commit_last_lsn(c);
}

static void count(void *engine, struct twinlog_stat *stat)
{
    struct commit *c = engine;
    twl_mutex_lock(&c->lock);
    stat->poison = atomic_load(&c->poison);
    stat->epoch = c->epoch.number;
    stat->appends = c->appends;
    stat->append_bytes = c->append_bytes;
    stat->groups = atomic_load(&c->groups);
    stat->group_bytes = atomic_load(&c->group_bytes);
    stat->written_bytes = atomic_load(&c->written_bytes);
    stat->rolls = atomic_load(&c->rolls);
    stat->roll_waits = c->roll_waits;
    stat->full_refusals = c->full_refusals;
    stat->syncs = atomic_load(&c->syncs);
    stat->requests = c->requests - atomic_load(&c->completed_requests);
    stat->fillers = c->fillers;
    stat->slow = atomic_load(&c->slow);
    twl_mutex_unlock(&c->lock);
}

const struct engine_ops twl_commit_engine = {
    .default_level = TWINLOG_LEVEL_DURABLE,
    .append = append,
    .wait = wait_for,
    .sync = sync_all,
    .finish = finish,
    .newest_lsn = newest_lsn,
    .count = count,
};
