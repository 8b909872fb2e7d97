/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of an open log: the caller's, and the log's own, which copy one record by its LSN, or look how far a log goes
 * that is opened for reading. The log keeps a few of those, for several threads at a time.
 *
 * A reader that goes on where it stands has what it needs in memory; one that comes from somewhere else searches first.
 * So a thread that reads record after record is given the same reader each time, and threads that do so side by side
 * have one each.
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
    const int rc = twl_keeper_set(log->keeper, ret_set);
    if (rc < 0)
        return rc;

    const struct segment_header *oldest = &ret_set->entries[0].header;
    const bool is_unpublished_reset =
        oldest->start_lsn > 0 && oldest->epoch >= atomic_load(&log->shared->own_epoch);
    if (is_unpublished_reset)
        ret_set->first_lsn = oldest->start_lsn;
    else
        ret_set->first_lsn = atomic_load(&log->first_lsn);
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
    const int rc = log->io->ops->again(log->io, &io);
    if (rc < 0)
        return rc;
    return twl_reader_open(io, options, ret_reader);
}

/* It is counted before a close may look at the count, or else the close is seen here: one of both gives up. */
static int attach_and_count(struct twinlog *log, const struct twinlog_reader_options *options,
                            struct twinlog_reader **ret_reader)
{
    int rc = -ESHUTDOWN;

    atomic_fetch_add(&log->readers, 1);
    const bool is_closing = atomic_load(&log->inside) & CLOSING;
    if (!is_closing)
        rc = attach_reader(log, options, ret_reader);

    if (rc == 0)
        twl_reader_is_counted(*ret_reader, &log->readers);
    else
        atomic_fetch_sub(&log->readers, 1);
    return rc;
}

int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader)
{
    struct twinlog_reader_options own;
    if (twl_versioned_take(&own, sizeof(own), options) < 0)
        return -EINVAL;
    twl_report_clear(own.ret_report);

    const bool has_unknown_flag = own.flags & ~READER_FLAGS;
    struct call call;
    int rc = -EINVAL;
    if (ret_reader && !has_unknown_flag)
        rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc == 0) {
        rc = attach_and_count(log, &own, ret_reader);
        twl_leave(&call);
    }
    return twl_report_failure(own.ret_report, rc, "attach a reader");
}

/* ---- the idle readers --------------------------------------------------------------------------- */

/* By any of the readers. */
static bool was_read_lately(const struct lookups *lookups, uint64_t lsn) REQUIRES(lookups->lock)
{
    for (uint32_t i = 0; i < RECENT_LOOKUPS; i++)
        if (lookups->recent[i] == lsn && lsn > 0)
            return true;
    return false;
}

static int find_in_front_of(const struct lookups *lookups, uint64_t lsn) REQUIRES(lookups->lock)
{
    for (uint32_t i = 0; i < lookups->idle_count; i++)
        if (lookups->idle[i].next_lsn == lsn)
            return (int)i;
    return -1;
}

/* Of those that no thread reads on with, the one that was used last. */
static int find_unbound(const struct lookups *lookups) REQUIRES(lookups->lock)
{
    for (uint32_t i = lookups->idle_count; i > 0; i--)
        if (!lookups->idle[i - 1].reads_on)
            return (int)(i - 1);
    return -1;
}

/* The number of the idle reader that is to read this record, or -1: a new one. */
static int choose_idle(const struct lookups *lookups, uint64_t lsn) REQUIRES(lookups->lock)
{
    const bool is_full = lookups->idle_count == IDLE_LOOKUPS;

    int chosen = find_in_front_of(lookups, lsn);
    if (chosen < 0)
        chosen = find_in_front_of(lookups, lsn + 1); /* it has read this very record last */
    if (chosen >= 0)
        return chosen;

    chosen = find_unbound(lookups);
    if (chosen < 0 && is_full)
        return 0; /* the one that was not used for the longest time */
    return chosen;
}

static struct lookup take_idle(struct lookups *lookups, uint32_t number) REQUIRES(lookups->lock)
{
    const struct lookup taken = lookups->idle[number];
    struct lookup *place = &lookups->idle[number];

    lookups->idle_count--;
    memmove(place, place + 1, (lookups->idle_count - number) * sizeof(*place));
    return taken;
}

/* To read the record `lsn`. */
static int take_reader(struct twinlog *log, uint64_t lsn, struct lookup *ret_lookup)
{
    const struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct lookups *lookups = &log->lookups;
    struct lookup lookup = { 0 };

    twl_mutex_lock(&lookups->lock);
    const int chosen = choose_idle(lookups, lsn);
    if (chosen >= 0)
        lookup = take_idle(lookups, (uint32_t)chosen);
    lookup.generation = lookups->generation;
    /* also where the reader of the record before has gone elsewhere since, for another thread */
    lookup.reads_on = lsn > 0 && (lookup.next_lsn == lsn || was_read_lately(lookups, lsn - 1));
    twl_mutex_unlock(&lookups->lock);

    int rc = 0;
    if (!lookup.reader)
        rc = attach_reader(log, &options, &lookup.reader);
    if (rc < 0)
        return rc;
    *ret_lookup = lookup;
    return 0;
}

/* It has read the record `lsn`, or stands nowhere that is known: 0. */
static void give_back(struct twinlog *log, const struct lookup *used, uint64_t lsn)
{
    struct lookups *lookups = &log->lookups;
    struct lookup lookup = *used;

    lookup.next_lsn = lsn > 0 ? lsn + 1 : 0;
    twl_mutex_lock(&lookups->lock);
    const bool is_kept = lookups->generation == lookup.generation && lookups->idle_count < IDLE_LOOKUPS;
    if (is_kept)
        lookups->idle[lookups->idle_count++] = lookup;
    lookups->recent[lookups->recent_turn++ % RECENT_LOOKUPS] = lsn;
    twl_mutex_unlock(&lookups->lock);

    if (!is_kept)
        twinlog_reader_close(lookup.reader);
}

void twl_forget_lookups(struct twinlog *log)
{
    struct lookups *lookups = &log->lookups;
    struct lookup idle[IDLE_LOOKUPS];

    twl_mutex_lock(&lookups->lock);
    const uint32_t count = lookups->idle_count;
    memcpy(idle, lookups->idle, sizeof(idle));
    lookups->idle_count = 0;
    lookups->generation++;
    twl_mutex_unlock(&lookups->lock);

    for (uint32_t i = 0; i < count; i++)
        twinlog_reader_close(idle[i].reader);
}

int twl_look(struct twinlog *log, uint64_t *ret_first_lsn, uint64_t *ret_last_lsn)
{
    struct lookup lookup;

    *ret_first_lsn = atomic_load(&log->looked_first_lsn);
    *ret_last_lsn = atomic_load(&log->looked_last_lsn);
    int rc = take_reader(log, 0, &lookup);
    if (rc < 0)
        return rc;

    rc = twinlog_reader_range(lookup.reader, ret_first_lsn, ret_last_lsn);
    atomic_store(&log->looked_first_lsn, *ret_first_lsn);
    atomic_store(&log->looked_last_lsn, *ret_last_lsn);
    give_back(log, &lookup, 0);
    return rc;
}

/* ---- one record -------------------------------------------------------------------------------- */

/* Of a record for which there is no room the caller learns all but the data. */
static int copy_record(void *data, size_t room, struct twinlog_record *record)
{
    if (record->size > room) {
        record->data = NULL;
        return -ENOBUFS;
    }

    if (record->size > 0)
        memcpy(data, record->data, record->size);
    record->data = data;
    return 0;
}

static int read_one(struct twinlog *log, uint64_t lsn, void *data, size_t room,
                    struct twinlog_record *ret_record)
{
    struct lookup lookup;
    struct twinlog_record record;
    int rc = take_reader(log, lsn, &lookup);
    if (rc < 0)
        return rc;

    rc = twl_reader_get(lookup.reader, lsn, &record);
    if (rc < 0) {
        give_back(log, &lookup, 0);
        return rc;
    }

    rc = copy_record(data, room, &record);
    *ret_record = record;
    give_back(log, &lookup, lsn);
    return rc;
}

int twinlog_read(struct twinlog *log, uint64_t lsn, void *data, size_t room,
                 struct twinlog_record *ret_record)
{
    const bool lacks_data = !data && room > 0;
    struct call call;
    if (lsn == 0 || lacks_data || !ret_record)
        return -EINVAL;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = read_one(log, lsn, data, room, ret_record);
    twl_leave(&call);
    return rc;
}
