/* SPDX-License-Identifier: Apache-2.0 */
/* See mapped.h and inside.h: rolling, putting records, the thread, creating and destroying. */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/bytes.h"
#include "base/point.h"
#include "format/checksum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AHEAD_BYTES (UINT64_C(4) << 20)    /* pages to make present before they are needed */
#define NOTICE_BYTES (UINT64_C(256) << 10) /* progress after which the thread is woken */
#define WRITTEN_BYTES ((size_t)512 << 10)  /* smaller pieces wait for each other longer than they gain */
#define INTERVAL_SYNC_MS 1500u             /* a sync of the interval waits so long; more than LEADER_MS */

int twl_mapped_fail(struct mapped *m, int error)
{
    int none = 0;
    error = lasting_error(error);
    atomic_compare_exchange_strong(m->poison, &none, error);
    twl_page_publish_poison(m->shared, error);
    return error;
}

struct mapped_segment *twl_mapped_enter(struct mapped *m)
{
    for (;;) {
        struct mapped_segment *seg = atomic_load(&m->active);
        atomic_fetch_add(&seg->users, 1);
        if (atomic_load(&m->active) == seg)
            return seg;
        atomic_fetch_sub(&seg->users, 1);
    }
}

void twl_mapped_leave(struct mapped_segment *seg)
{
    atomic_fetch_sub(&seg->users, 1);
}

/* ---- from one segment to the next ----------------------------------------------------------------- */

/* Makes `spare` ready to be started. If it may not wait and none is ready: -EAGAIN, or what kept the thread
 * from making one. */
static int prepare(struct mapped *m, bool may_wait) REQUIRES(m->rolling)
{
    int rc = 0;
    if (m->spare)
        return 0;
    if (!m->spare_segment.file)
        rc = m->ops->get_next(m, may_wait);
    if (rc == -EAGAIN && !may_wait) {
        const int error = atomic_exchange(&m->spare_error, 0); /* that kept the thread from making one */
        rc = error < 0 ? error : rc;
    }
    if (rc == 0)
        rc = twl_mapped_segment_map(m->io, &m->spare_segment, m->participants, &m->spare);
    atomic_store(&m->has_spare, rc == 0);
    return rc;
}

/* Begins the spare and makes it the active segment. In this order: it gets its marker; a search for segments finds it
 * (the keeper has it in its set, or its name exists); the page says its epoch; it becomes active. So a reader that
 * learns of a record in it finds the segment. */
static int move_on(struct mapped *m, const struct position *position) REQUIRES(m->rolling)
{
    struct mapped_segment *seg = m->spare, *old = atomic_load(&m->active);
    struct group_header start = { .first_lsn = position->next_lsn,
                                  .bytes = GROUP_HEADER_BYTES,
                                  .chain = position->chain,
                                  .epoch.number = position->epoch.number + 1,
                                  .kind = GROUP_START,
                                  .flags = GROUP_FIRST };
    const int rc = position->epoch.number == UINT32_MAX ? -EOVERFLOW : m->ops->complete_start(m, &start);
    if (rc < 0)
        return rc;
    twl_mapped_segment_begin(seg, &start);
    POINT("start-marked");
    m->spare_segment = (struct segment){ 0 };
    m->spare = NULL;
    atomic_store(&m->has_spare, false);
    if (old) {
        atomic_store(&old->next, seg);
        m->ops->announce(m, old, seg);
        POINT("segment-left");
        twl_page_publish_epoch(m->shared, start.epoch.number);
        POINT("epoch-told");
    } else { /* the caller publishes, and leaves the old segment */
        m->first_left.summary->next_lsn = position->next_lsn;
        m->oldest = m->all = m->seen_segment = seg;
    }
    atomic_store(&m->active, seg);
    POINT("active-switched");
    return 0;
}

static int leave_full(struct mapped *m, const struct mapped_segment *full, bool is_try) REQUIRES(m->rolling)
{
    if (atomic_load(&m->active) != full)
        return 0;
    const struct position position = twl_mapped_segment_end(full);
    int rc = prepare(m, !is_try);
    if (rc == 0)
        rc = move_on(m, &position);
    if (rc == 0)
        atomic_fetch_add(&m->statistics->rolls, 1);
    else if (is_no_space(rc))
        atomic_fetch_add(&m->statistics->full_refusals, 1);
    return rc;
}

/* Leaves `full` after the end of its group, unless another thread has left it. The thread that has `rolling` may be
 * waiting for a file; a try waits for neither: -EAGAIN. */
static int roll(struct mapped *m, const struct mapped_segment *full, bool is_try)
{
    if (!is_try) {
        twl_mutex_lock(&m->rolling);
    } else if (!twl_mutex_try_lock(&m->rolling)) {
        return -EAGAIN;
    }
    const int rc = leave_full(m, full, is_try);
    twl_mutex_unlock(&m->rolling);
    twl_event_notify_all(&m->wake);
    return rc;
}

int twl_mapped_catch_up(struct mapped *m)
{
    int rc = 0;
    for (const struct mapped_segment *seg;
         rc == 0 && (seg = atomic_load(&m->active))->number < atomic_load(m->newest);)
        rc = roll(m, seg, false); /* its group has ended, because a participant has left it */
    return rc;
}

/* ---- appending ----------------------------------------------------------------------------------- */

/* A large piece is written, if that works: then the kernel need not fill new pages with zeros first. */
static void copy_piece(const struct mapped_segment *seg, unsigned char *to, const void *from, size_t size)
{
    const uint64_t offset = (uint64_t)(to - seg->group.bytes);
    const bool is_written = size >= WRITTEN_BYTES && io_write_at(seg->file, from, size, offset) == 0;
    if (size > 0 && !is_written)
        memcpy(to, from, size);
}

static void copy(const struct mapped_segment *seg, unsigned char *payload, const struct twinlog_entry *entry)
{
    copy_piece(seg, payload, entry->data, entry->size);
    for (uint32_t i = 0; i < entry->piece_count; i++) {
        copy_piece(seg, payload, entry->pieces[i].iov_base, entry->pieces[i].iov_len);
        payload += entry->pieces[i].iov_len;
        POINT("piece-copied");
    }
}

static int size_of(const struct mapped *m, const struct twinlog_entry *entry, uint32_t *ret_size)
{
    uint64_t size = entry->size;
    for (uint32_t i = 0; i < entry->piece_count && size <= m->options.max_record_bytes; i++)
        size = min_u64(size + min_u64(entry->pieces[i].iov_len, UINT32_MAX), UINT32_MAX);
    if (size > m->options.max_record_bytes)
        return -EMSGSIZE;
    *ret_size = (uint32_t)size;
    return 0;
}

static int fill(struct mapped *m, struct mapped_segment *seg, const struct place *place,
                const struct twinlog_entry *entry, uint32_t size)
{
    const struct record_header record = { .size = size,
                                          .kind = RECORD_DATA,
                                          .type = entry->type,
                                          .tag = entry->tag,
                                          .time_ns =
                                              entry->time_ns ? entry->time_ns : m->io->ops->now_ns(m->io) };
    copy(seg, place->at + RECORD_HEADER_BYTES, entry);
    const int rc = twl_open_group_complete(&seg->group, place, &record);
    const uint64_t offset = (uint64_t)(place->at - seg->group.bytes);
    if (offset / NOTICE_BYTES != (offset + twl_record_bytes(size)) / NOTICE_BYTES)
        twl_event_notify_all(&m->wake);
    return rc < 0 ? twl_mapped_fail(m, rc) : 0;
}

static int put(struct mapped *m, const struct twinlog_entry *entry, const struct terms *terms,
               uint64_t *ret_lsn)
{
    const bool is_try = terms->is_try;
    uint32_t size;
    int rc = size_of(m, entry, &size);
    while (rc == 0) {
        struct place place;
        if (atomic_load_explicit(m->poison, memory_order_relaxed) != 0)
            return TWINLOG_EPOISONED;
        struct mapped_segment *seg = twl_mapped_enter(m);
        const int claimed = twl_open_group_claim(&seg->group, size, &place);
        if (claimed > 0) {
            rc = fill(m, seg, &place, entry, size);
            if (m->participants)
                raise_u64(&m->last_own, place.lsn);
            *ret_lsn = place.lsn;
            twl_mapped_leave(seg);
            twl_page_nudge(m->shared);
            return rc;
        }
        twl_mapped_leave(seg);
        if (claimed < 0)
            return twl_mapped_fail(m, claimed);
        rc = roll(m, seg, is_try);
        if (m->ops->tend && !m->has_thread && !is_try) /* else left segments stay open */
            (void)m->ops->tend(m);
    }
    return rc;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

static int wait_for_copies(struct mapped *m, uint64_t lsn, uint64_t deadline_ns)
{
    uint64_t written_lsn, payload_bytes;
    int rc;
    for (unsigned turns = 0;; turns++) {
        rc = twl_mapped_find_written(m, &written_lsn, &payload_bytes);
        if (rc < 0 || written_lsn >= lsn)
            break;
        if (is_over(deadline_ns))
            return -ETIMEDOUT;
        if (turns >= TURNS_TO_YIELD) /* another process may be stopped */
            m->io->ops->sleep_ms(m->io, 1);
        else
            twl_yield();
    }
    return written_lsn >= lsn ? 0 : rc;
}

/* A deadline that passes while the disk works is not kept. */
static int wait_for(void *engine, uint64_t lsn, const struct terms *terms)
{
    struct mapped *m = engine;
    if (terms->level != TWINLOG_LEVEL_DURABLE)
        return wait_for_copies(m, lsn, terms->deadline_ns);
    if (atomic_load(m->durable) >= lsn)
        return 0;
    return is_over(terms->deadline_ns) ? -ETIMEDOUT : twl_mapped_sync(m, lsn, terms->deadline_ns);
}

/* A record that was put is written: it survives the process. */
static int append(void *engine, const struct batch *batch, const struct terms *terms, uint64_t *ret_lsn)
{
    if (batch->count > 1)
        return -ENOTSUP;
    if (terms->cancel && __atomic_load_n(&terms->cancel->is_canceled, __ATOMIC_SEQ_CST))
        return -ECANCELED;
    const int rc = put(engine, batch->entries, terms, ret_lsn);
    return rc < 0 || terms->level != TWINLOG_LEVEL_DURABLE ? rc : wait_for(engine, *ret_lsn, terms);
}

static int sync_all(void *engine)
{
    const int rc = twl_mapped_sync(engine, UINT64_MAX, 0);
    return rc == 0 ? twl_mapped_poison(engine) : rc;
}

/* ---- the thread ---------------------------------------------------------------------------------- */

static void prepare_pages(struct mapped *m)
{
    struct mapped_segment *seg = twl_mapped_enter(m);
    const uint64_t at = twl_open_group_offset(&seg->group);
    if (at + AHEAD_BYTES / 2 > atomic_load(&seg->populated))
        twl_mapped_segment_populate(seg, at + AHEAD_BYTES);
    twl_mapped_leave(seg);
}

/* Maps the next segment, and makes its first pages present. A close waits for this, and has no use for it. */
static void prepare_segment(struct mapped *m)
{
    if (atomic_load(&m->has_spare) || atomic_load(&m->must_stop))
        return;
    int rc = m->ops->prepare_ahead(m);
    if (rc == 0) {
        twl_mutex_lock(&m->rolling);
        rc = prepare(m, false);
        if (rc == 0 && !atomic_load(&m->must_stop))
            twl_mapped_segment_populate(m->spare, AHEAD_BYTES);
        twl_mutex_unlock(&m->rolling);
    }
    atomic_store(&m->spare_error, rc == -EAGAIN ? 0 : rc);
}

static void *run(void *context)
{
    struct mapped *m = context;
    const uint64_t interval_ns = (uint64_t)m->options.flush_interval_ms * 1000000u;
    uint64_t due_ns = interval_ns > 0 ? twl_monotonic_ns() + interval_ns : UINT64_MAX;
    for (;;) {
        const uint32_t seen = twl_event_value(&m->wake);
        if (atomic_load(&m->must_stop))
            return NULL;
        prepare_pages(m);
        prepare_segment(m);
        const uint64_t look_ns = m->ops->look_after ? m->ops->look_after(m) : UINT64_MAX;
        if (twl_monotonic_ns() >= due_ns) {
            (void)twl_mapped_sync(m, UINT64_MAX, twl_monotonic_ns() + INTERVAL_SYNC_MS * UINT64_C(1000000));
            due_ns = twl_monotonic_ns() + interval_ns;
        }
        const uint64_t until_ns = min_u64(due_ns, look_ns);
        twl_event_sleep_until(&m->wake, seen, until_ns == UINT64_MAX ? 0 : until_ns);
    }
}

/* ---- creating and destroying --------------------------------------------------------------------- */

static uint64_t room_for(uint32_t max_record_bytes)
{
    return OPEN_RECORDS_OFFSET - SEGMENT_DATA_OFFSET + twl_record_bytes(max_record_bytes) +
           SEGMENT_MARKER_BYTES;
}

int twl_mapped_make_room(struct keeper *keeper, uint32_t max_record_bytes, uint64_t durable_lsn,
                         uint32_t epoch)
{
    return twl_keeper_wait(keeper, room_for(max_record_bytes), durable_lsn, epoch);
}

struct mapped *twl_mapped_new(const struct mapped_config *config, uint32_t max_record_bytes)
{
    struct mapped *m = aligned_alloc(_Alignof(struct mapped), sizeof(*m));
    if (!m)
        return NULL;
    memset(m, 0, sizeof(*m));
    m->ops = &twl_mapped_alone;
    m->io = config->io;
    m->keeper = config->keeper;
    m->shared = config->shared;
    m->statistics = config->shared->statistics;
    m->participants = config->participants;
    m->options = *config->options;
    m->poison = m->participants ? &m->shared->page->poison : &m->own_poison;
    m->durable = m->participants ? &m->shared->page->durable.lsn : &m->own_durable;
    m->newest = m->participants ? &m->participants->common->newest : &m->own_newest;
    m->seen = (struct open_walk)OPEN_WALK_INIT;
    m->wanted_lsn = UINT64_MAX;
    m->room = room_for(max_record_bytes);
    twl_mutex_init(&m->rolling);
    twl_mutex_init(&m->syncing);
    twl_mutex_init(&m->looking);
    return m;
}

int twl_mapped_create(const struct mapped_config *config, struct mapped **ret_mapped)
{
    struct mapped *m = twl_mapped_new(config, config->options->max_record_bytes);
    if (!m)
        return -ENOMEM;
    m->began_lsn = config->position.next_lsn;
    atomic_store(&m->statistics->began_lsn, m->began_lsn);
    atomic_store(m->durable, config->position.next_lsn - 1);
    atomic_store(&m->own_durable, config->position.next_lsn - 1);
    twl_mutex_lock(&m->rolling);
    m->first_left = config->left;
    int rc = prepare(m, true);
    if (rc == 0)
        rc = move_on(m, &config->position);
    twl_mutex_unlock(&m->rolling);
    if (rc < 0) {
        if (m->spare_segment.file) /* else each failed opening leaves one more segment behind it */
            twl_keeper_remove_ready(m->keeper);
        m->first_left = (struct segment){ 0 };
        twl_mapped_destroy(m);
        return rc;
    }
    *ret_mapped = m;
    return 0;
}

void twl_mapped_begin(struct mapped *m)
{
    twl_mutex_lock(&m->rolling);
    const struct segment left = m->first_left;
    m->first_left = (struct segment){ 0 };
    if (left.file)
        twl_keeper_leave(m->keeper, &left, &atomic_load(&m->active)->segment);
    twl_mutex_unlock(&m->rolling);
}

int twl_mapped_start(struct mapped *m)
{
    if ((m->options.flags & TWINLOG_NO_THREAD) && m->options.flush_interval_ms == 0)
        return 0;
    const int rc = twl_thread_start(&m->thread, run, m);
    m->has_thread = rc == 0;
    return rc;
}

static void end_thread(struct mapped *m)
{
    if (!m->has_thread)
        return;
    atomic_store(&m->must_stop, true);
    twl_event_notify_all(&m->wake);
    pthread_join(m->thread, NULL);
    m->has_thread = false;
}

/* Closes the group and the log, and truncates the file to its last byte. */
static int finish(void *engine)
{
    struct mapped *m = engine;
    end_thread(m);
    return m->ops->finish(m);
}

static void free_segment(struct mapped_segment *seg)
{
    twl_mapped_segment_unmap(seg);
    twl_mapped_segment_unlock(seg);
    free(seg);
}

void twl_mapped_destroy(struct mapped *m)
{
    if (!m)
        return;
    end_thread(m);
    for (struct mapped_segment *seg = m->all; seg;) {
        struct mapped_segment *next = atomic_load(&seg->next);
        twl_segment_close(&seg->segment);
        free_segment(seg);
        seg = next;
    }
    if (m->spare)
        free_segment(m->spare);
    twl_segment_close(&m->first_left);
    if (m->spare_segment.file && m->keeper) /* the spare would only take space */
        m->io->ops->unlink(m->io, m->spare_segment.name);
    twl_segment_close(&m->spare_segment);
    twl_mutex_destroy(&m->rolling);
    twl_mutex_destroy(&m->syncing);
    twl_mutex_destroy(&m->looking);
    free(m);
}

/* ---- state and statistics ------------------------------------------------------------------------ */

uint64_t twl_mapped_last_lsn(struct mapped *m)
{
    (void)twl_mapped_catch_up(m);
    struct mapped_segment *seg = twl_mapped_enter(m);
    const uint64_t lsn = twl_mapped_segment_next_lsn(seg) - 1;
    twl_mapped_leave(seg);
    return lsn;
}

uint32_t twl_mapped_epoch(const struct mapped *m)
{
    return atomic_load(&m->active)->start.epoch.number;
}

/* The shared page may say anything. */
int twl_mapped_poison(const struct mapped *m)
{
    return lasting_error(atomic_load(m->poison));
}

static uint64_t newest_lsn(void *engine, enum twinlog_level level)
{
    struct mapped *m = engine;
    uint64_t lsn, payload_bytes;
    if (level == TWINLOG_LEVEL_DURABLE)
        return atomic_load(m->durable);
    if (level == TWINLOG_LEVEL_BUFFERED)
        return twl_mapped_last_lsn(m);
    (void)twl_mapped_find_written(m, &lsn, &payload_bytes);
    return lsn;
}

static void count(void *engine, struct twinlog_stat *stat)
{
    struct mapped *m = engine;
    uint64_t lsn;
    (void)twl_mapped_find_written(m, &lsn, &stat->append_bytes);
    const struct mapped_segment *active = atomic_load(&m->active);
    stat->poison = twl_mapped_poison(m);
    stat->epoch = active->start.epoch.number;
    stat->appends = twl_mapped_last_lsn(m) + 1 - m->began_lsn;
}

const struct engine_ops twl_mapped_engine = {
    .default_level = TWINLOG_LEVEL_WRITTEN,
    .append = append,
    .wait = wait_for,
    .sync = sync_all,
    .finish = finish,
    .newest_lsn = newest_lsn,
    .count = count,
};
