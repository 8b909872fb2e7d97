/* SPDX-License-Identifier: Apache-2.0 */
/* See mapped.h and inside.h: rolling, putting records, the threads, creating and destroying. */
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
#define MAKER_MS 100u                      /* to wait for a participant that makes the next segment */
#define MAKER_LOOK_MS 10u                  /* between two looks whether it has */
#define INTERVAL_SYNC_MS 1500u             /* a sync of the interval waits so long; more than OTHERS_MS */

const struct terms twl_mapped_patient;

/* What this process may not do poisons its own handle: the other participants go on. */
int twl_mapped_fail(struct mapped *m, int error)
{
    int none = 0;

    error = lasting_error(error);
    if (participants_let_others_in(m->participants) && is_own_refusal(error)) {
        atomic_compare_exchange_strong(&m->own_poison, &none, error);
    } else {
        atomic_compare_exchange_strong(m->poison, &none, error);
        twl_page_publish_poison(m->shared, error);
    }

    twl_event_notify_all(&m->moved);
    return error;
}

/* That of all counts first. */
static int find_poison(const struct mapped *m)
{
    int error = atomic_load_explicit(m->poison, memory_order_acquire);
    if (error == 0)
        error = atomic_load_explicit(&m->own_poison, memory_order_acquire);
    return lasting_error(error);
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

/* Maps the next segment, which is the mapping's from here on; on failure it is closed. While another process has the
 * file locked: -EAGAIN at once if this may not wait, else -EBUSY after LOCKED_MS. */
static int map_spare(struct mapped *m, struct segment *segment, bool may_wait) REQUIRES(m->rolling)
{
    const unsigned wait_ms = may_wait ? LOCKED_MS : 0;
    struct mapped_segment *spare;

    int rc = twl_mapped_segment_map(m->io, segment, wait_ms, m->participants, &spare);
    if (rc == -EBUSY && !may_wait)
        rc = -EAGAIN;
    if (rc < 0)
        twl_segment_close(segment);
    else
        atomic_store(&m->spare, spare);
    return rc;
}

/* Makes `spare` ready to be started. If this may not wait and none is ready: -EAGAIN, or the error of the thread that
 * makes segments, if it has ended its last attempt with one. */
static int prepare(struct mapped *m, bool may_wait) REQUIRES(m->rolling)
{
    struct segment next;

    if (atomic_load(&m->spare))
        return 0;

    int rc = twl_mapped_get_next(m, atomic_load(&m->active), may_wait, &next);
    if (rc == 0)
        rc = map_spare(m, &next, may_wait);
    if (rc == -EAGAIN) {
        const int error = atomic_exchange(&m->spare_error, 0);
        if (error < 0)
            rc = error;
    }

    if (rc == 0)
        atomic_fetch_add(&m->statistics->counters.roll_waits, may_wait);
    return rc;
}

/* Begins the spare and makes it the active segment. In this order: it gets its marker, the same from every participant;
 * the page says its number and its epoch; it becomes active. So a reader that learns of a record in it finds the
 * segment. */
static int move_on(struct mapped *m, const struct position *position) REQUIRES(m->rolling)
{
    struct mapped_segment *seg = atomic_load(&m->spare), *old = atomic_load(&m->active);
    const struct segment_header *header = &seg->segment.header;
    const struct group_header start = {
        .first_lsn = position->next_lsn,
        .bytes = GROUP_HEADER_BYTES,
        .chain = position->chain,
        .epoch = { position->epoch.number + 1,
                   .salt = (uint32_t)(header->segment_id ^ header->segment_id >> 32) },
        .kind = GROUP_START,
        .flags = GROUP_FIRST,
        .durable_lsn = header->after_lsn,
        .time_ns = header->created_ns,
        .writer = header->writer,
    };

    if (position->epoch.number == UINT32_MAX)
        return -EOVERFLOW;

    twl_mapped_segment_begin(seg, &start);
    POINT("start-marked");
    atomic_store(&m->spare, NULL);
    if (old) {
        atomic_store(&old->next, seg);
        raise_u64(&m->participants->common->newest, seg->number);
        POINT("segment-left");
        twl_page_publish_epoch(m->shared, start.epoch.number);
        POINT("epoch-told");
    } else {
        m->oldest = seg;
        m->all = seg;
        m->seen_segment = seg;
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
    if (rc != -EAGAIN)
        twl_event_notify_all(&m->moved);
    return rc;
}

/* A segment may take as long to make as the disk likes. So a call on terms that can end leaves it to the thread, and
 * sleeps until that has made one. It returns the error of an attempt only if that has ended after the call began: an
 * older one may be over. */
static int roll_in_time(struct mapped *m, const struct mapped_segment *full, const struct terms *terms)
{
    atomic_store(&m->spare_error, 0);
    for (bool has_waited = false;; has_waited = true) {
        const uint32_t seen = twl_event_value(&m->moved);
        int rc = roll(m, full, true);
        if (rc == 0 && has_waited)
            atomic_fetch_add(&m->statistics->counters.roll_waits, 1);
        if (rc != -EAGAIN)
            return rc;

        if (find_poison(m) != 0)
            return TWINLOG_EPOISONED;
        rc = twl_terms_ended(terms);
        if (rc < 0)
            return rc;
        twl_event_sleep_until(&m->moved, seen, terms->deadline_ns);
    }
}

static int roll_on_terms(struct mapped *m, const struct mapped_segment *full, const struct terms *terms)
{
    if (terms->is_try || is_patient(terms) || !has_threads(m))
        return roll(m, full, terms->is_try);
    return roll_in_time(m, full, terms);
}

/* Threads that sleep in a sync are not woken: they look by themselves. */
void twl_mapped_wake_all(struct mapped *m)
{
    twl_event_notify_all(&m->moved);
}

/* Another participant has started a segment behind the active one of this handle. */
static bool is_behind(const struct mapped *m, const struct mapped_segment *active)
{
    return active->number < atomic_load(&m->participants->common->newest);
}

/* The groups of the segments that are passed have ended, because a participant has left them. A try is for room, and
 * there is none to wait for here. */
int twl_mapped_catch_up(struct mapped *m, const struct terms *terms)
{
    const struct terms limits = { .deadline_ns = terms->deadline_ns, .cancel = terms->cancel };
    int rc = 0;

    if (!participants_let_others_in(m->participants))
        return 0;

    const struct mapped_segment *active = atomic_load(&m->active);
    while (rc == 0 && is_behind(m, active)) {
        rc = roll_on_terms(m, active, &limits);
        active = atomic_load(&m->active);
    }

    return rc;
}

/* As many times as it takes: there may be more segments to follow than files that the process may have. */
int twl_mapped_catch_up_to(struct mapped *m, uint64_t lsn, const struct terms *terms)
{
    int rc = 0;

    while (rc == 0 && twl_mapped_last_lsn(m) < lsn) {
        const uint64_t oldest = atomic_load(&m->participants->common->oldest);
        rc = twl_mapped_catch_up(m, terms);
        if (rc == 0)
            return 0;
        if (rc == -EMFILE)
            rc = twl_mapped_await_file(m, oldest, terms);
    }

    return rc;
}

/* ---- appending ----------------------------------------------------------------------------------- */

/* A large piece is written, if that works: then the kernel need not fill new pages with zeros first. */
static bool copy_piece(const struct mapped_segment *seg, unsigned char *to, const void *from, size_t size)
{
    const uint64_t offset = (uint64_t)(to - seg->group.bytes);
    const bool is_written = size >= WRITTEN_BYTES && io_write_at(seg->segment.file, from, size, offset) == 0;
    if (size > 0 && !is_written)
        memcpy(to, from, size);
    return is_written;
}

static bool copy_record(const struct mapped_segment *seg, unsigned char *payload,
                        const struct twinlog_entry *entry)
{
    bool is_written = copy_piece(seg, payload, entry->data, entry->size);

    for (uint32_t i = 0; i < entry->piece_count; i++) {
        is_written |= copy_piece(seg, payload, entry->pieces[i].iov_base, entry->pieces[i].iov_len);
        payload += entry->pieces[i].iov_len;
        POINT("piece-copied");
    }

    return is_written;
}

static int fill_place(struct mapped *m, struct mapped_segment *seg, const struct place *place,
                      const struct twinlog_entry *entry, uint32_t size)
{
    struct record_header record = {
        .size = size, .kind = RECORD_DATA, .type = entry->type, .tag = entry->tag, .time_ns = entry->time_ns
    };

    if (record.time_ns == 0)
        record.time_ns = m->io->ops->now_ns(m->io);
    const bool is_written = copy_record(seg, place->at + RECORD_HEADER_BYTES, entry);
    const int rc = twl_open_group_complete(&seg->group, place, &record);

    const uint64_t offset = (uint64_t)(place->at - seg->group.bytes);
    if (offset / NOTICE_BYTES != (offset + twl_record_bytes(size)) / NOTICE_BYTES) {
        atomic_store(&m->is_written, is_written);
        twl_event_notify_all(&m->wake);
    }

    if (rc < 0)
        return twl_mapped_fail(m, rc);
    return 0;
}

static int put(struct mapped *m, const struct twinlog_entry *entry, const struct terms *terms,
               uint64_t *ret_lsn)
{
    const uint64_t size = twl_entry_bytes(entry);
    int rc = 0;

    if (size > m->options.max_record_bytes)
        return -EMSGSIZE;

    while (rc == 0) {
        struct place place;
        if (find_poison(m) != 0)
            return TWINLOG_EPOISONED;

        struct mapped_segment *seg = twl_mapped_enter(m);
        const int claimed = twl_open_group_claim(&seg->group, (uint32_t)size, &place);
        if (claimed > 0) {
            rc = fill_place(m, seg, &place, entry, (uint32_t)size);
            if (participants_let_others_in(m->participants))
                raise_u64(&m->last_own, place.lsn);
            *ret_lsn = place.lsn;
            twl_mapped_leave(seg);
            twl_page_nudge(m->shared);
            return rc;
        }

        twl_mapped_leave(seg);
        if (claimed < 0)
            return twl_mapped_fail(m, claimed);

        const uint64_t oldest = atomic_load(&m->participants->common->oldest);
        rc = roll_on_terms(m, seg, terms);
        /* Each segment that was left has a file until it is closed, and the writer may be faster than the disk. */
        if (rc == -EMFILE && !terms->is_try)
            rc = twl_mapped_await_file(m, oldest, terms);
        if (!has_threads(m) && !terms->is_try) /* else left segments stay open */
            (void)twl_mapped_tend(m);
    }

    return rc;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

/* Terms that end while this very thread syncs do not end the call. */
static int wait_for(void *engine, uint64_t lsn, const struct terms *terms)
{
    struct mapped *m = engine;

    if (terms->level != TWINLOG_LEVEL_DURABLE)
        return twl_mapped_wait_written(m, lsn, terms);
    if (atomic_load(m->durable) >= lsn)
        return 0;
    const int ended = twl_terms_ended(terms);
    if (ended < 0)
        return ended;
    return twl_mapped_sync(m, lsn, terms);
}

/* Other participants may be ahead of this handle: only when it has caught up is it known which records there are. */
static int wait_for_accepted(void *engine, uint64_t lsn, const struct terms *terms)
{
    struct mapped *m = engine;

    /* Another participant may have synced what this handle has not followed yet. */
    if (atomic_load(m->durable) >= lsn)
        return 0;
    const int caught_up = twl_mapped_catch_up_to(m, lsn, terms);
    if (lsn <= twl_mapped_last_lsn(m))
        return wait_for(m, lsn, terms);
    if (caught_up < 0)
        return caught_up;
    return -EINVAL;
}

/* A record that was put is written: it survives the process. */
static int append(void *engine, const struct batch *batch, const struct terms *terms, uint64_t *ret_lsn)
{
    if (batch->count > 1)
        return -ENOTSUP;
    if (terms->cancel && __atomic_load_n(&terms->cancel->is_canceled, __ATOMIC_SEQ_CST))
        return -ECANCELED;

    const int rc = put(engine, batch->entries, terms, ret_lsn);
    if (rc < 0 || terms->level != TWINLOG_LEVEL_DURABLE)
        return rc;
    return wait_for(engine, *ret_lsn, terms);
}

static int get_poison(void *engine)
{
    return find_poison(engine);
}

static int sync_all(void *engine)
{
    const int rc = twl_mapped_sync(engine, UINT64_MAX, &twl_mapped_patient);
    if (rc == 0)
        return twl_mapped_check_poison(engine);
    return rc;
}

/* ---- the threads --------------------------------------------------------------------------------- */

static void prepare_pages(struct mapped *m)
{
    struct mapped_segment *seg = twl_mapped_enter(m);
    const uint64_t at = twl_open_group_offset(&seg->group);
    if (!atomic_load(&m->is_written) && at + AHEAD_BYTES / 2 > atomic_load(&seg->populated))
        twl_mapped_segment_populate(seg, at, at + AHEAD_BYTES);
    twl_mapped_leave(seg);
}

/* Maps `made` as the spare; but closes it if there is one by now, or another active segment. */
static int install_spare(struct mapped *m, const struct mapped_segment *active, struct segment *made)
{
    int rc = 0;

    twl_mutex_lock(&m->rolling);
    if (atomic_load(&m->active) == active && !atomic_load(&m->spare))
        rc = map_spare(m, made, true);
    else
        twl_segment_close(made);
    if (atomic_load(&m->spare) && !atomic_load(&m->must_stop))
        twl_mapped_segment_populate(atomic_load(&m->spare), 0, AHEAD_BYTES);
    twl_mutex_unlock(&m->rolling);
    return rc;
}

/* Another participant has LOCK_TO_MAKE. Has it had it for MAKER_MS? It may be stopped. *since_ns is when that was first
 * seen; 0 = it is seen now. */
static bool is_maker_late(uint64_t *since_ns)
{
    const uint64_t now_ns = twl_monotonic_ns();

    if (*since_ns == 0)
        *since_ns = now_ns;
    return now_ns - *since_ns >= MAKER_MS * UINT64_C(1000000);
}

/* Makes the next segment, maps it, and makes its first pages present. It is made without `rolling`, so that a thread
 * that finds it then need not wait. A close waits for this, and has no use for it. While another participant has
 * LOCK_TO_MAKE, the segment is left to that one, for MAKER_MS. The lock only saves work, since link(2) decides which
 * file is the segment. Returns when to look again; 0 = when there is work. */
static uint64_t prepare_segment(struct mapped *m, uint64_t *since_ns)
{
    const struct mapped_segment *active = atomic_load(&m->active);
    struct segment made;

    if (atomic_load(&m->spare) || atomic_load(&m->must_stop)) {
        *since_ns = 0;
        return 0;
    }

    const bool has_lock = twl_participants_try(m->participants, LOCK_TO_MAKE);
    const bool may_make = has_lock || is_maker_late(since_ns);
    int rc = twl_mapped_get_next(m, active, may_make, &made);
    if (has_lock)
        twl_participants_release(m->participants, LOCK_TO_MAKE);
    if (rc == -EAGAIN && !may_make)
        return twinlog_deadline(MAKER_LOOK_MS);

    *since_ns = 0;
    if (rc == 0)
        rc = install_spare(m, active, &made);
    atomic_store(&m->spare_error, rc);
    twl_event_notify_all(&m->moved);
    return 0;
}

/* A thread is made before the log is written to, and has nothing to do before it is open. */
static bool await_start(struct mapped *m)
{
    for (;;) {
        const uint32_t seen = twl_event_value(&m->wake);
        if (atomic_load(&m->must_stop) || atomic_load(&m->is_started))
            return !atomic_load(&m->must_stop);
        twl_event_sleep_until(&m->wake, seen, 0);
    }
}

static void *prepare_ahead(void *context)
{
    struct mapped *m = context;
    uint64_t since_ns = 0;

    if (!await_start(m))
        return NULL;

    for (;;) {
        const uint32_t seen = twl_event_value(&m->wake);
        if (atomic_load(&m->must_stop))
            return NULL;
        prepare_pages(m);
        const uint64_t again_ns = prepare_segment(m, &since_ns);
        twl_event_sleep_until(&m->wake, seen, again_ns);
    }
}

/* A thread of its own: it waits for the disk. */
static void *look_after(void *context)
{
    struct mapped *m = context;

    if (!await_start(m))
        return NULL;

    uint64_t synced_ns = twl_monotonic_ns(), retained_ns = 0;
    for (;;) {
        const uint32_t seen = twl_event_value(&m->wake);
        if (atomic_load(&m->must_stop))
            return NULL;

        const uint64_t interval_ns = (uint64_t)atomic_load(&m->flush_interval_ms) * 1000000u;
        const int checked = twl_page_check_log(m->shared); /* else records are lost with its files */
        if (checked < 0)
            (void)twl_mapped_fail(m, checked);
        const uint64_t look_ns = twl_mapped_look_after(m);
        if (interval_ns > 0 && twl_monotonic_ns() >= synced_ns + interval_ns) {
            const struct terms limited = { .deadline_ns = twinlog_deadline(INTERVAL_SYNC_MS) };
            (void)twl_mapped_sync(m, twl_mapped_last_lsn(m), &limited);
            synced_ns = twl_monotonic_ns();
        }

        if (trim_is_due(&m->shared->page->trim_ask, &retained_ns))
            m->retain(m->retain_context);

        uint64_t until_ns = min_u64(look_ns, twinlog_deadline(ASK_MS));
        if (interval_ns > 0)
            until_ns = min_u64(until_ns, synced_ns + interval_ns);
        twl_event_sleep_until(&m->wake, seen, until_ns);
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

/* Writes the blocks that hold the marker, with what stands in front of it there, and zeros behind it. */
static int write_marker(const struct segment *segment, uint64_t offset, struct group_header *marker)
{
    _Alignas(BLOCK_BYTES) unsigned char bytes[2 * BLOCK_BYTES] = { 0 };
    const uint64_t start = align_down(offset, BLOCK_BYTES), at = offset - start;
    const uint64_t end = align_up(offset + GROUP_HEADER_BYTES, BLOCK_BYTES);
    size_t size = 0;
    int rc = 0;

    if (at > 0)
        rc = io_read(segment->file, bytes, BLOCK_BYTES, start, &size);
    if (rc < 0)
        return rc;
    if (size < at)
        return -EIO;

    memset(bytes + at, 0, sizeof(bytes) - at);
    twl_group_header_encode(marker, segment->seed, offset, bytes + at);
    rc = io_write_at(segment->file, bytes, (size_t)(end - start), start);
    if (rc < 0)
        return rc;
    return io_sync_data(segment->file);
}

/* Without room for the marker, the one that begins the next segment does. */
int twl_mapped_write_start(const struct segment *segment, uint64_t offset, bool is_started,
                           struct epoch epoch, struct position *position)
{
    struct io *io = segment->file->io;
    const uint64_t end = align_up(offset + GROUP_HEADER_BYTES, BLOCK_BYTES);
    struct group_header marker = { .first_lsn = position->next_lsn,
                                   .bytes = GROUP_HEADER_BYTES,
                                   .durable_lsn = position->next_lsn - 1,
                                   .chain = position->chain,
                                   .epoch = epoch,
                                   .kind = GROUP_START,
                                   .flags = is_started ? 0 : GROUP_FIRST,
                                   .time_ns = io->ops->now_ns(io),
                                   .writer = twl_writer() };

    position->epoch = epoch;
    if (end > segment->write_end)
        return 0;

    const int rc = write_marker(segment, offset, &marker);
    if (rc < 0)
        return rc;

    position->chain = marker.checksum;
    twl_summary_end_group(segment->summary, &marker, offset);
    return 0;
}

struct mapped *twl_mapped_new(const struct mapped_config *config, uint32_t max_record_bytes)
{
    struct mapped *m = aligned_alloc(_Alignof(struct mapped), sizeof(*m));
    if (!m)
        return NULL;

    memset(m, 0, sizeof(*m));
    m->io = config->io;
    m->shared = config->shared;
    m->statistics = config->shared->statistics;
    m->participants = config->participants;
    m->retain = config->retain;
    m->retain_context = config->retain_context;
    m->options = *config->options;
    atomic_store(&m->flush_interval_ms, m->options.flush_interval_ms);
    m->poison = &m->own_poison;
    m->durable = &m->own_durable;
    if (participants_let_others_in(config->participants)) {
        m->poison = &m->shared->page->poison;
        m->durable = &m->shared->page->durable.lsn;
    }
    m->room = room_for(max_record_bytes);
    twl_mutex_init(&m->rolling);
    twl_mutex_init(&m->making);
    twl_mutex_init(&m->syncing);
    twl_mutex_init(&m->looking);
    return m;
}

static int make_threads(struct mapped *m)
{
    static void *(*const run[2])(void *) = { prepare_ahead, look_after };

    while (m->io->has_engine_threads && m->thread_count < 2) {
        const int rc = twl_thread_start(&m->threads[m->thread_count], run[m->thread_count], m);
        if (rc < 0)
            return rc;
        m->thread_count++;
    }
    return 0;
}

int twl_mapped_prepare(const struct mapped_config *config, struct mapped **ret_mapped)
{
    struct mapped *m = twl_mapped_new(config, config->options->max_record_bytes);
    if (!m)
        return -ENOMEM;

    const int rc = make_threads(m);
    if (rc < 0) {
        twl_mapped_destroy(m);
        return rc;
    }
    *ret_mapped = m;
    return 0;
}

int twl_mapped_start(struct mapped *m)
{
    const int rc = make_threads(m);
    if (rc < 0)
        return rc;

    atomic_store(&m->is_started, true);
    twl_event_notify_all(&m->wake);
    return 0;
}

int twl_mapped_create(const struct mapped_config *config, struct mapped *m)
{
    m->began_lsn = config->position.next_lsn;
    atomic_store(&m->statistics->began_lsn, m->began_lsn);
    atomic_store(m->durable, config->position.next_lsn - 1);
    atomic_store(&m->own_durable, config->position.next_lsn - 1);
    struct segment first = { 0 };
    twl_mutex_lock(&m->rolling);
    int rc = -EAGAIN;
    if (twl_keeper_take(config->keeper, m->room, &first))
        rc = map_spare(m, &first, true);
    if (rc == 0)
        rc = move_on(m, &config->position);
    if (rc == 0) /* the footer of the segment that is left will say that something came behind it */
        rc = io_sync_data(atomic_load(&m->active)->segment.file);
    twl_mutex_unlock(&m->rolling);
    if (rc < 0) { /* else each failed opening leaves one more segment behind it */
        if (twl_keeper_remove_ready(config->keeper) == 0)
            m->io->ops->unlink(m->io, first.name);
        return rc;
    }

    config->left->summary->next_lsn = config->position.next_lsn;
    twl_keeper_leave(config->keeper, config->left, &atomic_load(&m->active)->segment);
    *config->left = (struct segment){ 0 };
    return 0;
}

void twl_mapped_begin(struct mapped *m, int64_t max_time_so_far_ns)
{
    struct common *common = m->participants->common;
    const uint64_t number = atomic_load(&m->active)->number;

    common->segment_bytes = m->options.segment_bytes;
    common->max_record_bytes = m->options.max_record_bytes;
    atomic_store(&common->max_time_so_far_ns, max_time_so_far_ns);
    atomic_store(&common->oldest, number);
    atomic_store(&common->newest, number);
}

static void end_threads(struct mapped *m)
{
    atomic_store(&m->must_stop, true);
    twl_event_notify_all(&m->wake);
    while (m->thread_count > 0)
        pthread_join(m->threads[--m->thread_count], NULL);
}

static int finish(void *engine)
{
    end_threads(engine);
    return twl_mapped_finish(engine);
}

static void free_segment(struct mapped_segment *seg)
{
    twl_mapped_segment_unmap(seg);
    twl_segment_close(&seg->segment);
    free(seg);
}

void twl_mapped_free_segments(struct mapped *m)
{
    for (struct mapped_segment *seg = m->all; seg;) {
        struct mapped_segment *next = atomic_load(&seg->next);
        free_segment(seg);
        seg = next;
    }
    m->all = NULL;
}

void twl_mapped_destroy(struct mapped *m)
{
    if (!m)
        return;

    end_threads(m);
    twl_mapped_free_segments(m);
    if (atomic_load(&m->spare))
        free_segment(atomic_load(&m->spare));
    twl_mutex_destroy(&m->rolling);
    twl_mutex_destroy(&m->making);
    twl_mutex_destroy(&m->syncing);
    twl_mutex_destroy(&m->looking);
    free(m);
}

/* ---- state and statistics ------------------------------------------------------------------------ */

uint64_t twl_mapped_last_lsn(struct mapped *m)
{
    struct mapped_segment *seg = twl_mapped_enter(m);
    const uint64_t lsn = twl_mapped_segment_next_lsn(seg) - 1;
    twl_mapped_leave(seg);
    return lsn;
}

uint32_t twl_mapped_epoch(const struct mapped *m)
{
    return atomic_load(&m->active)->start.epoch.number;
}

const uint8_t *twl_mapped_log_id(const struct mapped *m)
{
    return atomic_load(&m->active)->segment.header.log_id;
}

/* The shared page may say anything. Another program may have truncated its file: then nothing of the other participants
 * is seen any more. */
int twl_mapped_check_poison(struct mapped *m)
{
    const int error = find_poison(m); /* first: this may be what loses the page */

    const bool is_lost = participants_let_others_in(m->participants) &&
                         m->io->ops->check_map(m->io, (const unsigned char *)m->shared->page) < 0;
    if (error == 0 && is_lost)
        return twl_mapped_fail(m, -EIO);
    return error;
}

static uint64_t newest_lsn(void *engine, enum twinlog_level level)
{
    struct mapped *m = engine;
    uint64_t lsn, payload_bytes;

    if (level == TWINLOG_LEVEL_DURABLE)
        return atomic_load(m->durable);
    if (level == TWINLOG_LEVEL_BUFFERED) {
        (void)twl_mapped_catch_up(m, &twl_mapped_patient);
        return twl_mapped_last_lsn(m);
    }

    (void)twl_mapped_find_written(m, &lsn, &payload_bytes);
    return lsn;
}

static void count(void *engine, struct twinlog_stat *stat)
{
    struct mapped *m = engine;
    uint64_t lsn;

    (void)twl_mapped_find_written(m, &lsn, &stat->append_bytes);
    const struct mapped_segment *active = atomic_load(&m->active);
    stat->poison = twl_mapped_check_poison(m);
    stat->epoch = active->start.epoch.number;
    stat->appends = twl_mapped_last_lsn(m) + 1 - m->began_lsn;
}

static int set_flush_interval(void *engine, uint32_t interval_ms)
{
    struct mapped *m = engine;
    atomic_store(&m->flush_interval_ms, interval_ms);
    twl_event_notify_all(&m->wake);
    return 0;
}

const struct engine_ops twl_mapped_engine = {
    .default_level = TWINLOG_LEVEL_WRITTEN,
    .append = append,
    .wait = wait_for_accepted,
    .poison = get_poison,
    .sync = sync_all,
    .set_flush_interval = set_flush_interval,
    .finish = finish,
    .newest_lsn = newest_lsn,
    .count = count,
};
