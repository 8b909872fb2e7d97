/* SPDX-License-Identifier: Apache-2.0 */
#include "base/statistics.h"

#include "base/base.h"

#include <errno.h>

static enum failure_kind kind_of(int error)
{
    switch (error) {
    case -ENOSPC:
        return FAILURE_FULL;
    case -EROFS:
        return FAILURE_READ_ONLY;
    case -EDQUOT:
    case -EFBIG:
    case -EMFILE:
    case -ENFILE:
        return FAILURE_LIMIT;
    case TWINLOG_EPOISONED:
        return FAILURE_POISONED;
    default:
        return FAILURE_OTHER;
    }
}

static bool is_failure_of_the_log(int error)
{
    switch (error) {
    case -EINVAL:
    case -EMSGSIZE:
    case -ENOTSUP:
    case -EAGAIN:
    case -ETIMEDOUT:
    case -ECANCELED:
    case -ESHUTDOWN:
        return false;
    default:
        return error < 0;
    }
}

bool twl_counters_add_failure(struct counters *counters, int error, bool was_accepted)
{
    if (!is_failure_of_the_log(error))
        return false;
    enum failure_kind kind = kind_of(error);
    if (kind == FAILURE_OTHER && was_accepted)
        kind = FAILURE_POISONED;
    atomic_fetch_add_explicit(&counters->append_failures[kind], 1, memory_order_relaxed);
    return true;
}

/* A store to a page of a file may wait for its disk, and holds the address space meanwhile, which fork() waits for. A
 * load does neither. */
static void tell(_Atomic uint64_t *told, uint64_t value)
{
    if (atomic_load_explicit(told, memory_order_relaxed) != value)
        set_alone(told, value);
}

static void tell_short(_Atomic uint32_t *told, uint32_t value)
{
    if (atomic_load_explicit(told, memory_order_relaxed) != value)
        atomic_store(told, value);
}

void twl_counters_tell(const struct counters *own, struct statistics *statistics)
{
    struct counters *told = &statistics->counters;

    tell_short(&told->segments, atomic_load(&own->segments));
    tell_short(&told->spare_segments, atomic_load(&own->spare_segments));
    tell(&told->file_bytes, atomic_load(&own->file_bytes));
    tell(&told->trimmed_segments, atomic_load(&own->trimmed_segments));
    tell(&told->recycled_segments, atomic_load(&own->recycled_segments));
    tell(&told->roll_waits, atomic_load(&own->roll_waits));
    for (unsigned kind = 0; kind < FAILURE_KINDS; kind++)
        tell(&told->append_failures[kind], atomic_load(&own->append_failures[kind]));
    tell(&told->trim_failures, atomic_load(&own->trim_failures));
}

void twl_counters_count(const struct counters *counters, struct twinlog_stat *stat)
{
    stat->segments = atomic_load(&counters->segments);
    stat->spare_segments = atomic_load(&counters->spare_segments);
    stat->file_bytes = atomic_load(&counters->file_bytes);
    stat->trimmed_segments = atomic_load(&counters->trimmed_segments);
    stat->recycled_segments = atomic_load(&counters->recycled_segments);
    stat->roll_waits = atomic_load(&counters->roll_waits);
    stat->full_failures = atomic_load(&counters->append_failures[FAILURE_FULL]);
    stat->read_only_failures = atomic_load(&counters->append_failures[FAILURE_READ_ONLY]);
    stat->limit_failures = atomic_load(&counters->append_failures[FAILURE_LIMIT]);
    stat->poison_failures = atomic_load(&counters->append_failures[FAILURE_POISONED]);
    stat->other_failures = atomic_load(&counters->append_failures[FAILURE_OTHER]);
    stat->trim_failures = atomic_load(&counters->trim_failures);
}

void twl_statistics_count(const struct statistics *s, struct twinlog_stat *stat)
{
    twl_counters_count(&s->counters, stat);
    const uint64_t completed = atomic_load(&s->completed_requests); /* first: they were accepted before */
    stat->io = atomic_load(&s->io);
    stat->is_direct = atomic_load(&s->is_direct);
    stat->appends = atomic_load(&s->appends);
    stat->append_bytes = atomic_load(&s->append_bytes);
    stat->requests = atomic_load(&s->requests);
    stat->requests -= min_u64(stat->requests, completed); /* they may be of another page that was lost */
    stat->last_lsn = atomic_load(&s->began_lsn) + stat->appends - 1;
    stat->written_lsn = atomic_load(&s->written_lsn);
    stat->groups = atomic_load(&s->groups);
    stat->group_bytes = atomic_load(&s->group_bytes);
    stat->written_bytes = atomic_load(&s->written_bytes);
    stat->rolls = atomic_load(&s->rolls);
    stat->syncs = atomic_load(&s->syncs);
}

void twl_statistics_time(const struct statistics *s, struct twinlog_timings *ret_timings)
{
    twl_gauge_read(&s->queue, &ret_timings->queue);
    twl_gauge_read(&s->copy, &ret_timings->copy);
    twl_gauge_read(&s->write, &ret_timings->write);
    twl_gauge_read(&s->sync, &ret_timings->sync);
    twl_gauge_read(&s->wake, &ret_timings->wake);
    twl_gauge_read(&s->total, &ret_timings->total);
    twl_gauge_read(&s->group_records, &ret_timings->group_records);
    twl_gauge_read(&s->group_bytes_each, &ret_timings->group_bytes);
}
