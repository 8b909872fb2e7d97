/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See mapped.h.
 *
 * Segments form a list, oldest first: those whose group is not closed yet, the active one at its end. They are left
 * when a record does not fit, by one thread, under `rolling`; the others who need room wait for that one. A thread that
 * is inside a segment counts itself among its users, so that the mapping stays. The list grows under `rolling`, shrinks
 * under `syncing`, and its entries live until the log is closed: a look at one that is gone is harmless. How far
 * records are complete is asked without a wait for the disk, so that has a walk and a lock of its own, `looking`.
 *
 * Order of things when a segment is left: the new one has its mark; the keeper has it in its set; the page tells its
 * epoch; then it becomes the active one. So a reader who hears of a record of it finds the segment.
 *
 * Why a crash leaves a log: a group gets its header when its records are durable, and not before. So a header never
 * speaks of what may be missing, and a group without one is good as far as its records check (segment/settle.h).
 */
#define _GNU_SOURCE
#include "mapped/mapped.h"

#include "base/bytes.h"
#include "base/point.h"
#include "base/sync.h"
#include "format/checksum.h"
#include "mapped/open_group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define AHEAD_BYTES (UINT64_C(4) << 20)    /* pages that are there before they are needed */
#define NOTICE_BYTES (UINT64_C(256) << 10) /* the thread hears of that much progress */
#define OUR_NAME 1u                        /* in claims: there is one process */
#define TURNS_TO_YIELD 1000u

/* A segment with its open group. */
struct sheet {
    struct open_group group;    /* first: its cursor has a cache line of its own */
    _Atomic uint32_t users;     /* threads that are inside */
    _Atomic uint64_t populated; /* pages are there up to this offset */

    struct io *io;                /* [const] */
    struct segment_header header; /* [const] */
    uint32_t seed;                /* [const] */
    size_t bytes;                 /* [const] that are mapped */
    struct group_header start;    /* [const] its first group */
    struct group_header last;     /* [syncing] once it is closed: its last group */

    struct open_walk walk; /* [syncing] as far as records are known to be complete */
    uint64_t synced;       /* [syncing] bytes up to here are durable */
    bool is_closed;        /* [syncing] its group has its header, if it has records */
    _Atomic(struct sheet *) next;
};

struct mapped {
    struct io *io;                  /* [const] */
    struct keeper *keeper;          /* [const] */
    struct live *live;              /* [const] */
    struct twinlog_options options; /* [const] */

    _Atomic(struct sheet *) active;
    _Atomic int poison;
    _Atomic uint64_t durable;
    uint64_t began_lsn; /* [const] the first one of ours */
    uint64_t room;      /* [const] that a segment must have for groups: for the largest record */

    struct twl_mutex rolling;
    struct segment segment;       /* [rolling] the active one */
    struct segment first_left;    /* until twl_mapped_begin() */
    struct segment spare_segment; /* [rolling] the next one, not begun, if it has a file */
    struct sheet *spare;          /* [rolling] the same, mapped; NULL also while it can't be */
    _Atomic bool has_spare;
    _Atomic int spare_error; /* that kept the thread from preparing one; for a try to come */
    _Atomic uint64_t rolls, roll_waits, full_refusals;

    struct twl_mutex syncing;
    struct sheet *oldest; /* [syncing] not closed */
    struct sheet *all;    /* [syncing, or nobody else is there] every one, oldest first */
    _Atomic uint64_t syncs;

    struct twl_mutex looking;
    struct sheet *seen_sheet; /* [looking] records before this one are complete */
    struct open_walk seen;    /* [looking] and in it up to here */
    uint64_t seen_bytes;      /* [looking] payload of all of them */
    uint64_t seen_here;       /* [looking] of those in it */

    pthread_t thread;
    bool has_thread;
    _Atomic bool must_stop;
    struct twl_event wake; /* the thread sleeps on it */
};

static int poison(struct mapped *m, int error)
{
    int none = 0;
    atomic_compare_exchange_strong(&m->poison, &none, error);
    return error;
}

/* ---- sheets -------------------------------------------------------------------------------------- */

static int map(struct io *io, const struct segment *segment, struct sheet **ret_sheet)
{
    void *bytes;
    struct sheet *sheet = aligned_alloc(64, align_up(sizeof(*sheet), 64));
    if (!sheet)
        return -ENOMEM;
    memset(sheet, 0, sizeof(*sheet));
    const int rc = io->ops->map(segment->file, (size_t)segment->header.bytes, &bytes);
    if (rc < 0) {
        free(sheet);
        return rc;
    }
    sheet->io = io;
    sheet->header = segment->header;
    sheet->seed = segment->seed;
    sheet->bytes = (size_t)segment->header.bytes;
    sheet->group.bytes = bytes;
    sheet->group.end = segment->data_end;
    sheet->group.owner = OUR_NAME;
    sheet->walk = (struct open_walk)OPEN_WALK_INIT;
    *ret_sheet = sheet;
    return 0;
}

static void unmap(struct sheet *sheet)
{
    if (sheet->group.bytes)
        sheet->io->ops->unmap(sheet->io, sheet->group.bytes, sheet->bytes);
    sheet->group.bytes = NULL;
}

/* Pages that were not written are zeros, and cost a fault each when they are. Only an offer to the kernel. */
static void populate(struct sheet *sheet, uint64_t to)
{
    const uint64_t from = atomic_load(&sheet->populated),
                   end = min_u64(align_up(to, BLOCK_BYTES), sheet->bytes);
    if (from >= end)
        return;
    madvise(sheet->group.bytes + from, end - from, MADV_POPULATE_WRITE);
    atomic_store(&sheet->populated, end);
}

/* The mark that begins its epoch, and with it the segment. */
static void begin(struct sheet *sheet, const struct position *position, struct epoch epoch,
                  uint64_t durable_lsn)
{
    sheet->start = (struct group_header){ .first_lsn = position->next_lsn,
                                          .bytes = GROUP_HEADER_BYTES,
                                          .durable_lsn = durable_lsn,
                                          .chain = position->chain,
                                          .epoch = epoch,
                                          .kind = GROUP_START,
                                          .flags = GROUP_FIRST,
                                          .time_ns = sheet->io->ops->now_ns(sheet->io) };
    twl_group_header_encode(&sheet->start, sheet->seed, SEGMENT_DATA_OFFSET,
                            sheet->group.bytes + SEGMENT_DATA_OFFSET);
    sheet->group.first_lsn = position->next_lsn;
    sheet->group.epoch_seed = twl_epoch_seed(sheet->header.log_id, epoch);
    twl_open_group_begin(&sheet->group);
}

static uint64_t next_lsn(const struct sheet *sheet)
{
    return sheet->group.first_lsn + twl_open_group_count(&sheet->group);
}

/* What a page of the file that could not be had has been replaced by is memory of this process. */
static bool is_lost(const struct sheet *sheet)
{
    return sheet->io->ops->check_view(sheet->io, sheet->group.bytes) < 0;
}

/* The active one, which stays mapped until it is left. */
static struct sheet *enter(struct mapped *m)
{
    for (;;) {
        struct sheet *sheet = atomic_load(&m->active);
        atomic_fetch_add(&sheet->users, 1);
        if (atomic_load(&m->active) == sheet)
            return sheet;
        atomic_fetch_sub(&sheet->users, 1);
    }
}

static void leave(struct sheet *sheet)
{
    atomic_fetch_sub(&sheet->users, 1);
}

/* ---- leaving a segment --------------------------------------------------------------------------- */

/* What a try is told when nothing is ready: nothing but that, or why. */
static int take_spare_error(struct mapped *m)
{
    const int rc = atomic_exchange(&m->spare_error, 0);
    return rc < 0 ? rc : -EAGAIN;
}

/* One that is ready to be begun. */
static int prepare(struct mapped *m, bool may_wait) REQUIRES(m->rolling)
{
    const struct sheet *active = atomic_load(&m->active);
    const uint64_t after_lsn = atomic_load(&m->durable);
    const uint32_t epoch = active ? active->start.epoch.number : m->segment.header.epoch;
    if (m->spare)
        return 0;
    while (!m->spare_segment.file && !twl_keeper_take(m->keeper, m->room, &m->spare_segment)) {
        if (!may_wait)
            return take_spare_error(m);
        atomic_fetch_add(&m->roll_waits, 1);
        const int rc = twl_keeper_wait(m->keeper, m->room, after_lsn, epoch);
        if (rc < 0)
            return rc;
    }
    const int rc = map(m->io, &m->spare_segment, &m->spare);
    atomic_store(&m->has_spare, rc == 0);
    return rc;
}

static int next_epoch(struct mapped *m, struct epoch old, struct epoch *ret_epoch)
{
    if (old.number == UINT32_MAX)
        return -EOVERFLOW;
    ret_epoch->number = old.number + 1;
    return m->io->ops->random(m->io, &ret_epoch->salt, sizeof(ret_epoch->salt));
}

/* Goes on in the spare. */
static int move_on(struct mapped *m, const struct position *position) REQUIRES(m->rolling)
{
    struct sheet *sheet = m->spare, *old = atomic_load(&m->active);
    struct epoch epoch;
    const int rc = next_epoch(m, position->epoch, &epoch);
    if (rc < 0)
        return rc;
    const struct segment left = m->segment;
    begin(sheet, position, epoch, atomic_load(&m->durable));
    POINT("start-marked");
    m->segment = m->spare_segment;
    m->spare_segment = (struct segment){ 0 };
    m->spare = NULL;
    atomic_store(&m->has_spare, false);
    left.summary->next_lsn = position->next_lsn;
    if (old) {
        atomic_store(&old->next, sheet);
        twl_keeper_leave(m->keeper, &left, &m->segment);
        POINT("segment-left");
        twl_live_publish_epoch(m->live, epoch.number);
        POINT("epoch-told");
    } else { /* the caller publishes, and leaves it */
        m->oldest = m->all = m->seen_sheet = sheet;
        m->first_left = left;
    }
    atomic_store(&m->active, sheet);
    POINT("active-switched");
    return 0;
}

static int leave_full(struct mapped *m, const struct sheet *full, bool is_try) REQUIRES(m->rolling)
{
    if (atomic_load(&m->active) != full)
        return 0;
    const struct position position = { .next_lsn = next_lsn(full),
                                       .chain = full->start.checksum,
                                       .epoch = full->start.epoch };
    int rc = prepare(m, !is_try);
    if (rc == 0)
        rc = move_on(m, &position);
    if (rc == 0)
        atomic_fetch_add(&m->rolls, 1);
    else if (rc != -EAGAIN)
        atomic_fetch_add(&m->full_refusals, 1);
    return rc;
}

/* Somebody who needs room found that the group of `full` has ended. Whoever has the lock may wait for a file. */
static int roll(struct mapped *m, const struct sheet *full, bool is_try)
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

/* ---- putting ------------------------------------------------------------------------------------- */

static void copy(unsigned char *payload, const struct twinlog_entry *entry)
{
    if (entry->size > 0)
        memcpy(payload, entry->data, entry->size);
    for (uint32_t i = 0; i < entry->piece_count; i++) {
        if (entry->pieces[i].iov_len > 0)
            memcpy(payload, entry->pieces[i].iov_base, entry->pieces[i].iov_len);
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

static void fill(struct mapped *m, struct sheet *sheet, const struct place *place,
                 const struct twinlog_entry *entry, uint32_t size)
{
    const struct record_header record = { .size = size,
                                          .kind = RECORD_DATA,
                                          .type = entry->type,
                                          .tag = entry->tag,
                                          .time_ns =
                                              entry->time_ns ? entry->time_ns : m->io->ops->now_ns(m->io) };
    copy(place->at + RECORD_HEADER_BYTES, entry);
    twl_open_group_complete(&sheet->group, place, &record);
    const uint64_t offset = (uint64_t)(place->at - sheet->group.bytes);
    if (offset / NOTICE_BYTES != (offset + twl_record_bytes(size)) / NOTICE_BYTES)
        twl_event_notify_all(&m->wake);
}

int twl_mapped_put(struct mapped *m, const struct twinlog_entry *entry, bool is_try, uint64_t *ret_lsn)
{
    uint32_t size;
    int rc = size_of(m, entry, &size);
    while (rc == 0) {
        struct place place;
        if (atomic_load_explicit(&m->poison, memory_order_relaxed) != 0)
            return TWINLOG_EPOISONED;
        struct sheet *sheet = enter(m);
        const int claimed = twl_open_group_claim(&sheet->group, size, &place);
        if (claimed > 0) {
            fill(m, sheet, &place, entry, size);
            *ret_lsn = place.lsn;
            rc = is_lost(sheet) ? poison(m, -EIO) : 0;
            leave(sheet);
            twl_live_nudge(m->live);
            return rc;
        }
        leave(sheet);
        rc = roll(m, sheet, is_try);
    }
    return rc;
}

/* ---- syncing ------------------------------------------------------------------------------------- */

/* Passes the next record, which was claimed. Whoever has claimed it is copying, and done soon. -EIO: it is lost. */
static int await_copy(const struct sheet *sheet, struct open_walk *walk, struct record_header *ret_record)
{
    for (unsigned turns = 0; !twl_open_group_pass(&sheet->group, walk, ret_record); turns++) {
        if (is_lost(sheet))
            return -EIO;
        if (turns < TURNS_TO_YIELD)
            twl_yield();
        else
            sheet->io->ops->sleep_ms(sheet->io, 1);
    }
    return 0;
}

static int await_copies(struct mapped *m, struct sheet *sheet, uint32_t count) REQUIRES(m->syncing)
{
    struct record_header record;
    int rc = 0;
    while (rc == 0 && sheet->walk.count < count)
        rc = await_copy(sheet, &sheet->walk, &record);
    return rc < 0 ? poison(m, rc) : 0;
}

/* What is new, and the header block with the mark, which the first time is new as well. */
static int sync_bytes(struct mapped *m, struct sheet *sheet, uint64_t to)
{
    const uint64_t from = align_down(sheet->synced, BLOCK_BYTES);
    atomic_fetch_add(&m->syncs, 1);
    int rc = msync(sheet->group.bytes + from, to - from, MS_SYNC) < 0 ? -errno : 0;
    if (rc == 0 && is_lost(sheet))
        rc = -EIO;
    if (rc < 0)
        return poison(m, rc);
    sheet->synced = to;
    POINT("sheet-synced");
    return 0;
}

static void tell_durable(struct mapped *m, uint64_t lsn)
{
    if (lsn <= atomic_load(&m->durable))
        return;
    atomic_store(&m->durable, lsn);
    twl_live_publish_durable(m->live, lsn);
}

/* All records of it that were claimed before this call. */
static int sync_sheet(struct mapped *m, struct sheet *sheet) REQUIRES(m->syncing)
{
    int rc = await_copies(m, sheet, twl_open_group_count(&sheet->group));
    const uint64_t lsn = sheet->group.first_lsn + sheet->walk.count - 1;
    if (rc == 0 && sheet->synced < sheet->walk.offset)
        rc = sync_bytes(m, sheet, sheet->walk.offset);
    if (rc == 0)
        tell_durable(m, lsn);
    return rc;
}

/* What is older comes first, so that the durable records are always a prefix. For the same reason this ends with a sheet
 * that had no next one before its records were counted: it may have got more of them since. */
static int sync_up_to(struct mapped *m, const struct sheet *last) REQUIRES(m->syncing)
{
    int rc = atomic_load(&m->poison);
    for (struct sheet *sheet = m->oldest, *next; rc == 0 && sheet; sheet = next) {
        next = sheet == last ? NULL : atomic_load(&sheet->next); /* first, as in see_all() */
        rc = sync_sheet(m, sheet);
    }
    return rc;
}

static int sync_all(struct mapped *m, uint64_t lsn)
{
    int rc = 0;
    twl_mutex_lock(&m->syncing);
    if (atomic_load(&m->durable) < lsn) /* else somebody has just done it for us */
        rc = sync_up_to(m, NULL);
    twl_mutex_unlock(&m->syncing);
    return rc;
}

/* ---- looking how far records are complete ------------------------------------------------------- */

static void see_rest(struct mapped *m) REQUIRES(m->looking)
{
    struct record_header record;
    while (twl_open_group_pass(&m->seen_sheet->group, &m->seen, &record)) {
        m->seen_bytes += record.size;
        m->seen_here += record.size;
    }
}

static void see_next(struct mapped *m, struct sheet *next) REQUIRES(m->looking)
{
    m->seen_sheet = next;
    m->seen = (struct open_walk)OPEN_WALK_INIT;
    m->seen_here = 0;
}

/* 0, or -EIO when a record is lost, and all behind it are. */
static int see_all(struct mapped *m) REQUIRES(m->looking)
{
    for (;;) {
        const struct sheet *sheet = m->seen_sheet;
        struct sheet *next =
            atomic_load(&sheet->next); /* first: if there is one, nothing is put here any more */
        see_rest(m);
        if (m->seen.count < twl_open_group_count(&sheet->group))
            return is_lost(sheet) ? -EIO : 0;
        if (!next)
            return 0;
        see_next(m, next);
    }
}

/* A sheet that goes, with all its records complete or lost, and so much payload. Those before it went, too. */
static void see_past(struct mapped *m, const struct sheet *sheet, uint64_t payload_bytes)
{
    twl_mutex_lock(&m->looking);
    while (m->seen_sheet->header.sequence < sheet->header.sequence) {
        see_rest(m);
        see_next(m, atomic_load(&m->seen_sheet->next));
    }
    if (m->seen_sheet == sheet) {
        m->seen_bytes += payload_bytes - min_u64(m->seen_here, payload_bytes);
        see_next(m, atomic_load(&sheet->next));
    }
    twl_mutex_unlock(&m->looking);
}

static int find_written(struct mapped *m, uint64_t *ret_lsn, uint64_t *ret_payload_bytes)
{
    twl_mutex_lock(&m->looking);
    const int rc = see_all(m);
    *ret_lsn = m->seen_sheet->group.first_lsn + m->seen.count - 1;
    *ret_payload_bytes = m->seen_bytes;
    twl_mutex_unlock(&m->looking);
    return rc < 0 ? poison(m, rc) : 0;
}

uint64_t twl_mapped_written_lsn(struct mapped *m)
{
    uint64_t lsn, payload_bytes;
    (void)find_written(m, &lsn, &payload_bytes);
    return lsn;
}

static bool is_over(uint64_t deadline_ns)
{
    return deadline_ns > 0 && twl_monotonic_ns() >= deadline_ns;
}

static int wait_for_copies(struct mapped *m, uint64_t lsn, uint64_t deadline_ns)
{
    uint64_t written_lsn, payload_bytes;
    int rc;
    while ((rc = find_written(m, &written_lsn, &payload_bytes)) == 0 && written_lsn < lsn) {
        if (is_over(deadline_ns))
            return -ETIMEDOUT;
        twl_yield();
    }
    return written_lsn >= lsn ? 0 : rc;
}

int twl_mapped_wait(struct mapped *m, uint64_t lsn, enum twinlog_level level, uint64_t deadline_ns)
{
    if (level != TWINLOG_LEVEL_DURABLE)
        return wait_for_copies(m, lsn, deadline_ns);
    if (atomic_load(&m->durable) >= lsn)
        return 0;
    return is_over(deadline_ns) ? -ETIMEDOUT : sync_all(m, lsn);
}

/* ---- closing a group ----------------------------------------------------------------------------- */

/* What the mark and the walk say: without records the mark is its last group. */
static void compose_last(struct mapped *m, struct sheet *sheet, unsigned char bytes[GROUP_HEADER_BYTES])
    REQUIRES(m->syncing)
{
    sheet->last = sheet->start;
    if (sheet->walk.count == 0)
        return;
    sheet->last = (struct group_header){ .first_lsn = sheet->group.first_lsn,
                                         .count = sheet->walk.count,
                                         .bytes = (uint32_t)(sheet->walk.offset - OPEN_GROUP_OFFSET),
                                         .durable_lsn = sheet->start.durable_lsn,
                                         .chain = sheet->start.checksum,
                                         .epoch = sheet->start.epoch,
                                         .kind = GROUP_RECORDS,
                                         .flags = GROUP_MAPPED,
                                         .time_ns = m->io->ops->now_ns(m->io) };
    twl_group_header_encode(&sheet->last, sheet->seed, OPEN_GROUP_OFFSET, bytes);
}

/* Through the mapping. */
static int close_group(struct mapped *m, struct sheet *sheet) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    int rc = sync_up_to(m, sheet);
    if (rc < 0 || sheet->is_closed)
        return rc;
    compose_last(m, sheet, header);
    if (sheet->walk.count > 0) {
        POINT("last-group-open");
        memcpy(sheet->group.bytes + OPEN_GROUP_OFFSET, header, sizeof(header));
        POINT("last-group-closed");
        sheet->synced = SEGMENT_DATA_OFFSET;
        rc = sync_bytes(m, sheet, sheet->walk.offset);
    }
    sheet->is_closed = rc == 0;
    return rc;
}

/* Through the file, which nobody has mapped: where somebody has, the kernel protects each page against writing before
 * it writes it to the disk, and interrupts the other processors for that. */
static int close_file(struct mapped *m, struct sheet *sheet, struct io_file *file,
                      const unsigned char header[GROUP_HEADER_BYTES]) REQUIRES(m->syncing)
{
    atomic_fetch_add(&m->syncs, 2);
    int rc = io_sync_data(file);
    POINT("left-synced");
    if (rc == 0)
        tell_durable(m, sheet->group.first_lsn + sheet->walk.count - 1);
    if (rc == 0 && sheet->walk.count > 0)
        rc = io_write_at(file, header, GROUP_HEADER_BYTES, OPEN_GROUP_OFFSET);
    POINT("left-closed");
    if (rc == 0)
        rc = io_sync_data(file);
    POINT("left-close-synced");
    return rc < 0 ? poison(m, rc) : 0;
}

/* Waits for every copy on the way. -EIO: records are lost. */
static int summarise(struct sheet *sheet, struct summary *summary, uint64_t *ret_payload_bytes)
{
    const uint32_t count = twl_open_group_count(&sheet->group);
    struct open_walk walk = OPEN_WALK_INIT;
    struct record_header record;
    uint64_t payload_bytes = 0;
    int rc = 0;
    twl_summary_begin(summary, INT64_MIN);
    twl_summary_end_group(summary, &sheet->start, SEGMENT_DATA_OFFSET);
    while (walk.count < count) {
        const uint64_t lsn = sheet->group.first_lsn + walk.count, offset = walk.offset - OPEN_GROUP_OFFSET;
        rc = await_copy(sheet, &walk, &record);
        if (rc < 0)
            break;
        twl_summary_add_record(summary, lsn, OPEN_GROUP_OFFSET, (uint32_t)offset, record.time_ns);
        payload_bytes += record.size;
    }
    sheet->walk = walk;
    *ret_payload_bytes = payload_bytes;
    return rc;
}

static void end_summary(const struct sheet *sheet, struct summary *summary)
{
    if (sheet->last.count > 0)
        twl_summary_end_group(summary, &sheet->last, OPEN_GROUP_OFFSET);
    summary->chain = sheet->start.checksum; /* the other one stands outside the chain */
}

static struct sheet *find(struct mapped *m, uint64_t sequence) REQUIRES(m->syncing)
{
    struct sheet *sheet = m->oldest;
    while (sheet && sheet->header.sequence != sequence)
        sheet = atomic_load(&sheet->next);
    return sheet;
}

/* It was left: whoever leaves it is about to make the next one active, and those who are inside are about to go. */
static void await_users(const struct mapped *m, const struct sheet *sheet)
{
    while (atomic_load(&m->active) == sheet || atomic_load(&sheet->users) > 0)
        twl_yield();
}

/* Segments before this one that the keeper did not ask for: their files are gone. */
static void drop_trimmed(struct mapped *m, const struct sheet *before) REQUIRES(m->syncing)
{
    for (; m->oldest != before; m->oldest = atomic_load(&m->oldest->next)) {
        await_users(m, m->oldest);
        unmap(m->oldest);
    }
}

static int close_left(struct mapped *m, struct sheet *sheet, struct segment *segment) REQUIRES(m->syncing)
{
    unsigned char header[GROUP_HEADER_BYTES];
    uint64_t payload_bytes;
    int rc = atomic_load(&m->poison);
    const int found = summarise(sheet, segment->summary, &payload_bytes);
    await_users(m, sheet);
    if (rc == 0 && (found < 0 || is_lost(sheet)))
        rc = poison(m, -EIO);
    const bool is_closed = sheet->is_closed;
    if (!is_closed)
        compose_last(m, sheet, header);
    end_summary(sheet, segment->summary);
    see_past(m, sheet, payload_bytes);
    drop_trimmed(m, sheet);
    unmap(sheet);
    if (rc == 0 && !is_closed)
        rc = close_file(m, sheet, segment->file, header);
    m->oldest = atomic_load(&sheet->next);
    return rc;
}

int twl_mapped_close_group(void *context, struct segment *segment)
{
    struct mapped *m = context;
    twl_mutex_lock(&m->syncing);
    struct sheet *sheet = find(m, segment->header.sequence);
    const int rc =
        sheet ? close_left(m, sheet, segment) : 0; /* else it is the one that was there before us */
    twl_mutex_unlock(&m->syncing);
    return rc;
}

/* ---- the thread ---------------------------------------------------------------------------------- */

static void prepare_pages(struct mapped *m)
{
    struct sheet *sheet = enter(m);
    const uint64_t at = twl_open_group_offset(&sheet->group);
    if (at + AHEAD_BYTES / 2 > atomic_load(&sheet->populated))
        populate(sheet, at + AHEAD_BYTES);
    leave(sheet);
}

/* The next segment is mapped, and its first pages are there. */
static void prepare_segment(struct mapped *m)
{
    const uint32_t epoch = atomic_load(&m->active)->start.epoch.number;
    if (atomic_load(&m->has_spare))
        return;
    const int rc = twl_keeper_wait(m->keeper, m->room, atomic_load(&m->durable), epoch);
    atomic_store(&m->spare_error, rc);
    if (rc < 0) /* whoever needs one gets an error, too */
        return;
    twl_mutex_lock(&m->rolling);
    if (!m->spare && prepare(m, false) == 0)
        populate(m->spare, AHEAD_BYTES);
    twl_mutex_unlock(&m->rolling);
}

static void *run(void *context)
{
    struct mapped *m = context;
    const uint64_t interval_ns = (uint64_t)m->options.flush_interval_ms * 1000000u;
    uint64_t due_ns = interval_ns > 0 ? twl_monotonic_ns() + interval_ns : 0;
    for (;;) {
        const uint32_t seen = twl_event_value(&m->wake);
        if (atomic_load(&m->must_stop))
            return NULL;
        prepare_pages(m);
        prepare_segment(m);
        if (due_ns > 0 && twl_monotonic_ns() >= due_ns) {
            sync_all(m, UINT64_MAX);
            due_ns = twl_monotonic_ns() + interval_ns;
        }
        twl_event_sleep_until(&m->wake, seen, due_ns);
    }
}

/* ---- birth and death ----------------------------------------------------------------------------- */

int twl_mapped_create(const struct mapped_config *config, struct mapped **ret_mapped)
{
    struct mapped *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->io = config->io;
    m->keeper = config->keeper;
    m->live = config->live;
    m->options = *config->options;
    m->segment = config->left;
    m->began_lsn = config->position.next_lsn;
    m->seen = (struct open_walk)OPEN_WALK_INIT;
    m->room = OPEN_RECORDS_OFFSET - SEGMENT_DATA_OFFSET + twl_record_bytes(m->options.max_record_bytes);
    twl_mutex_init(&m->rolling);
    twl_mutex_init(&m->syncing);
    twl_mutex_init(&m->looking);
    atomic_store(&m->durable, config->position.next_lsn - 1);
    twl_mutex_lock(&m->rolling);
    int rc = prepare(m, true);
    if (rc == 0)
        rc = move_on(m, &config->position);
    twl_mutex_unlock(&m->rolling);
    if (rc < 0) {
        if (m->spare_segment.file) /* or each opening that fails leaves one more */
            m->io->ops->unlink(m->io, m->spare_segment.name);
        m->segment = (struct segment){ 0 };
        twl_mapped_destroy(m, false);
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
    twl_keeper_leave(m->keeper, &left, &m->segment);
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

/* Nobody may look at it through a mapping meanwhile: the end would go from under them. Then it stays as long as it
 * is. */
static int cut(const struct segment *segment, uint64_t bytes)
{
    if (io_lock(segment->file, IO_LOCK_USE, true) < 0)
        return 0;
    const int rc = io_cut(segment->file, bytes);
    io_unlock(segment->file, IO_LOCK_USE);
    return rc < 0 ? rc : io_sync(segment->file);
}

/* The mark of a close stands right behind the last record: both are durable when it is written, or neither counts. */
static int close_log(struct mapped *m, struct sheet *sheet) REQUIRES(m->syncing)
{
    struct group_header mark = { .first_lsn = next_lsn(sheet),
                                 .bytes = GROUP_HEADER_BYTES,
                                 .durable_lsn = next_lsn(sheet) - 1,
                                 .chain = sheet->start.checksum,
                                 .epoch = sheet->start.epoch,
                                 .kind = GROUP_CLOSE,
                                 .time_ns = m->io->ops->now_ns(m->io) };
    const uint64_t offset = sheet->walk.count > 0 ? sheet->walk.offset : OPEN_GROUP_OFFSET;
    if (sheet->group.end - offset < GROUP_HEADER_BYTES)
        return 0; /* no room: the next opening does without */
    unsigned char bytes[GROUP_HEADER_BYTES];
    twl_group_header_encode(&mark, sheet->seed, offset, bytes);
    POINT("close-unmarked");
    memcpy(sheet->group.bytes + offset, bytes, sizeof(bytes));
    POINT("close-marked");
    int rc = sync_bytes(m, sheet, offset + GROUP_HEADER_BYTES);
    unmap(sheet);
    if (rc == 0)
        rc = cut(&m->segment, offset + GROUP_HEADER_BYTES);
    POINT("close-cut");
    return rc;
}

int twl_mapped_finish(struct mapped *m)
{
    int rc = 0;
    end_thread(m);
    twl_mutex_lock(&m->syncing);
    for (struct sheet *sheet = m->oldest; rc == 0 && sheet; sheet = atomic_load(&sheet->next))
        rc = close_group(m, sheet);
    if (rc == 0)
        rc = close_log(m, atomic_load(&m->active));
    twl_mutex_unlock(&m->syncing);
    return rc;
}

void twl_mapped_destroy(struct mapped *m, bool is_forked)
{
    if (!m)
        return;
    if (!is_forked)
        end_thread(m);
    for (struct sheet *sheet = m->all; sheet;) {
        struct sheet *next = atomic_load(&sheet->next);
        if (!is_forked) /* in a child it may be half unmapped */
            unmap(sheet);
        free(sheet);
        sheet = next;
    }
    if (m->spare && !is_forked)
        unmap(m->spare);
    free(m->spare);
    if (!is_forked) {
        twl_segment_close(&m->first_left);
        if (m->spare_segment.file) /* what is not needed takes no space */
            m->io->ops->unlink(m->io, m->spare_segment.name);
        twl_segment_close(&m->spare_segment);
        twl_segment_close(&m->segment);
        twl_mutex_destroy(&m->rolling);
        twl_mutex_destroy(&m->syncing);
        twl_mutex_destroy(&m->looking);
    }
    free(m);
}

/* ---- looking ------------------------------------------------------------------------------------- */

uint64_t twl_mapped_last_lsn(const struct mapped *m)
{
    return next_lsn(atomic_load(&m->active)) - 1;
}

uint32_t twl_mapped_epoch(const struct mapped *m)
{
    return atomic_load(&m->active)->start.epoch.number;
}

uint64_t twl_mapped_durable_lsn(const struct mapped *m)
{
    return atomic_load(&m->durable);
}

int twl_mapped_poison(const struct mapped *m)
{
    return atomic_load(&m->poison);
}

void twl_mapped_count(struct mapped *m, struct twinlog_stat *stat)
{
    uint64_t lsn;
    (void)find_written(m, &lsn, &stat->append_bytes);
    const struct sheet *active = atomic_load(&m->active);
    stat->poison = atomic_load(&m->poison);
    stat->epoch = active->start.epoch.number;
    stat->appends = twl_mapped_last_lsn(m) + 1 - m->began_lsn;
    stat->rolls = atomic_load(&m->rolls);
    stat->roll_waits = atomic_load(&m->roll_waits);
    stat->full_refusals = atomic_load(&m->full_refusals);
    stat->syncs = atomic_load(&m->syncs);
}
