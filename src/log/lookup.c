/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of an open log: the caller's, and the log's own, which copy one record by its LSN, or look how far a log goes
 * that is opened for reading. The log keeps a few of those, for several threads at a time.
 *
 * An idle reader must not keep the space of segments that were trimmed or truncated. So after such a change the
 * log closes those that are idle, and those that are in use when they come back.
 */
#include "base/versioned.h"
#include "log/handle.h"

#include <errno.h>
#include <string.h>

/* ---- readers on a handle ----------------------------------------------------------------------- */

static int copy_set(void *context, struct segment_set *ret_set)
{
    struct twinlog *log = context;
    int rc = twl_keeper_set(log->keeper, ret_set);
    if (rc < 0)
        return rc;
    const struct segment_header *oldest = &ret_set->entries[0].header;
    const bool is_unpublished_reset =
        oldest->start_lsn > 0 && oldest->epoch >= atomic_load(&log->shared->own_epoch);
    ret_set->first_lsn = is_unpublished_reset ? oldest->start_lsn : atomic_load(&log->first_lsn);
    return 0;
}

static int attach_reader(struct twinlog *log, const struct twinlog_reader_options *options,
                         struct twinlog_reader **ret_reader)
{
    if (log->keeper) {
        const struct reader_source source = {
            .io = log->io, .shared = log->shared, .set = copy_set, .context = log
        };
        return twl_reader_attach(&source, options, ret_reader);
    }
    struct io *io;
    int rc = log->io->ops->again(log->io, &io);
    return rc < 0 ? rc : twl_reader_open(io, options, ret_reader);
}

int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader)
{
    struct twinlog_reader_options own;
    if (twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    twl_report_clear(own.ret_report);
    struct call call;
    int rc = !ret_reader || (own.flags & ~READER_FLAGS) ? -EINVAL : twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return twl_report_failure(own.ret_report, rc, "attach a reader");
    /* Counted before a close may look at the count, or else the close is seen here: one of both gives up. */
    atomic_fetch_add(&log->readers, 1);
    rc = atomic_load(&log->inside) & CLOSING ? -ESHUTDOWN : attach_reader(log, &own, ret_reader);
    if (rc == 0)
        twl_reader_is_counted(*ret_reader, &log->readers);
    else
        atomic_fetch_sub(&log->readers, 1);
    twl_leave(&call);
    return twl_report_failure(own.ret_report, rc, "attach a reader");
}

/* ---- the idle readers -------------------------------------------------------------------------- */

static int take_reader(struct twinlog *log, struct twinlog_reader **ret_reader, uint32_t *ret_generation)
{
    const struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct lookups *lookups = &log->lookups;
    *ret_reader = NULL;
    twl_mutex_lock(&lookups->lock);
    *ret_generation = lookups->generation;
    if (lookups->idle_count > 0)
        *ret_reader = lookups->idle[--lookups->idle_count];
    twl_mutex_unlock(&lookups->lock);
    return *ret_reader ? 0 : attach_reader(log, &options, ret_reader);
}

static void give_back(struct twinlog *log, struct twinlog_reader *reader, uint32_t generation)
{
    struct lookups *lookups = &log->lookups;
    twl_mutex_lock(&lookups->lock);
    const bool is_kept = lookups->generation == generation && lookups->idle_count < IDLE_LOOKUPS;
    if (is_kept)
        lookups->idle[lookups->idle_count++] = reader;
    twl_mutex_unlock(&lookups->lock);
    if (!is_kept)
        twinlog_reader_close(reader);
}

void twl_forget_lookups(struct twinlog *log)
{
    struct lookups *lookups = &log->lookups;
    struct twinlog_reader *idle[IDLE_LOOKUPS];
    twl_mutex_lock(&lookups->lock);
    const uint32_t count = lookups->idle_count;
    memcpy(idle, lookups->idle, sizeof(idle));
    lookups->idle_count = 0;
    lookups->generation++;
    twl_mutex_unlock(&lookups->lock);
    for (uint32_t i = 0; i < count; i++)
        twinlog_reader_close(idle[i]);
}

int twl_look(struct twinlog *log, uint64_t *ret_first_lsn, uint64_t *ret_last_lsn)
{
    struct twinlog_reader *reader;
    uint32_t generation;
    *ret_first_lsn = atomic_load(&log->looked_first_lsn);
    *ret_last_lsn = atomic_load(&log->looked_last_lsn);
    int rc = take_reader(log, &reader, &generation);
    if (rc < 0)
        return rc;
    rc = twinlog_reader_range(reader, ret_first_lsn, ret_last_lsn);
    atomic_store(&log->looked_first_lsn, *ret_first_lsn);
    atomic_store(&log->looked_last_lsn, *ret_last_lsn);
    give_back(log, reader, generation);
    return rc;
}

/* ---- one record -------------------------------------------------------------------------------- */

static int copy_record(void *data, size_t room, struct twinlog_record *record)
{
    const void *from = record->data;
    const bool fits = record->size <= room;
    record->data = fits ? data : NULL;
    if (fits && record->size > 0)
        memcpy(data, from, record->size);
    return fits ? 0 : -ENOBUFS;
}

int twinlog_read(struct twinlog *log, uint64_t lsn, void *data, size_t room,
                 struct twinlog_record *ret_record)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint32_t generation;
    struct call call;
    if (lsn == 0 || (!data && room > 0) || !ret_record)
        return -EINVAL;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;
    rc = take_reader(log, &reader, &generation);
    if (rc == 0) {
        rc = twl_reader_get(reader, lsn, &record);
        if (rc == 0) {
            rc = copy_record(data, room, &record);
            *ret_record = record;
        }
        give_back(log, reader, generation);
    }
    twl_leave(&call);
    return rc;
}
