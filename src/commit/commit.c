/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit with twin buffers.
 *
 * One twin is filled by the writers while the leader writes the other. A twin holds one group, laid out
 * as it will be on disk:
 *
 *     | end of the block before | group header | record | record | ...     | zeros |
 *     0                       start        start+64                      used    block
 *
 * The write begins at a block boundary, so that it can be direct I/O. In the dense layout its first
 * `start` bytes are the last, partly filled block of the group before, written again byte for byte (I3):
 * where they begin is known when the twins are swapped, and the leader copies at most 4095 bytes. In
 * the padded layout every group begins on a new block and nothing is ever rewritten.
 *
 * A writer takes its place under the lock and copies outside it; `copying` tells the leader when the last
 * copy of a sealed twin is done. A writer then waits for its group, or leads. There is one leader at a
 * time, and so one group in flight: groups become durable in LSN order (I2), and whoever reads a valid
 * group on disk knows that everything before it was durable.
 *
 * A record is accepted only when its place on disk is certain. Where the filling twin's group will go is known
 * when the twins are swapped, and so is what the segment has left for it: the twin's limit, which is all that
 * a writer compares with. When the active segment has no room even for the first record of a twin, its writer
 * takes the next segment from the keeper, or waits for it outside the lock, and the whole group goes there. So
 * a full disk is met by a writer that has changed nothing yet, and the leader never waits for a segment.
 *
 * What can fail later: the write, the sync. Either poisons the log (I5): the leader stores the error before it
 * gives up leadership, a new leader looks before it writes, and every waiter whose record is not durable gets
 * it. No sync is ever tried again. A write that was only short or interrupted is continued, under a new
 * sync of its own.
 *
 * Measured choices (docs/design.md has the figures): writers sleep on their own twin's word, so only
 * those who are covered wake; they yield a few times before they sleep; a leader lets the writers that
 * were just woken join before it seals.
 */
#define _GNU_SOURCE
#include "commit/commit.h"

#include "base/sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CACHE_LINE 64
#define YIELDS_BEFORE_SLEEP 8
#define PATIENCE 1000 /* tries of a write that is interrupted or makes no progress */
#define MAX_GATHER_SKIPS 64u

/* What records leave free for marks at the end of a segment: a sixteenth, within these bounds. A closing and the
 * opening after it take a block of a dense log, two of a padded one. Four blocks are enough for two closings and
 * for well over a hundred openings, since the marks of openings stand side by side; in a padded log for three
 * openings. It is a fourth of the smallest segment, and a small part of any that is in real use. */
#define LEAST_FOR_MARKS (4u * BLOCK_BYTES)
#define MOST_FOR_MARKS (64u * BLOCK_BYTES)

struct twin {
    unsigned char *bytes;                          /* [const] buffer_bytes of them */
    uint64_t first_lsn;                            /* [lock] of the first record in it */
    uint64_t offset;                               /* [lock] where in its segment byte 0 goes */
    int64_t min_ns, max_ns;                        /* [lock] of the times of its records */
    uint32_t start;                                /* [lock] of the group header */
    uint32_t used;                                 /* [lock] */
    uint32_t limit;                                /* [lock] it may be used so far; never below `used` */
    uint32_t count;                                /* [lock] records */
    uint32_t waiters;                              /* [lock] of them from writers that wait for it */
    _Alignas(CACHE_LINE) _Atomic uint32_t copying; /* [atomic] writers still copying */
    _Atomic bool is_sealed;                        /* [atomic] the leader waits for `copying` */
    struct twl_event copied;                       /* the leader sleeps on it */
    struct twl_event done;                         /* the writers in this twin sleep on it */
};

/* Getting the next segment made: one writer at a time sees to it, and those who find him at it sleep. All is
 * [lock]. */
struct growth {
    bool is_going_on;
    uint64_t begun;  /* attempts so far */
    uint64_t failed; /* which of them failed last, 0 = none */
    uint32_t bytes;  /* of the record that one was for */
    int error;       /* of it */
};

struct CAPABILITY("leadership") leadership {
    _Atomic bool is_taken;
};

struct commit {
    struct io *io;             /* [const] */
    struct keeper *keeper;     /* [const] */
    uint32_t buffer_bytes;     /* [const] */
    uint32_t max_record_bytes; /* [const] */
    uint64_t segment_records;  /* [const] */
    uint64_t segment_age_ms;   /* [const] */
    bool is_padded;            /* [const] */
    struct epoch epoch;        /* [const but for a restart] */
    uint32_t epoch_seed;       /* [const but for a restart] */
    struct live *live;         /* [const] */
    void *memory;              /* [const] both buffers */

    _Alignas(CACHE_LINE) struct twl_mutex lock;
    uint32_t filling;          /* [lock] index of the twin that writers fill */
    uint64_t appends;          /* [lock] */
    uint64_t append_bytes;     /* [lock] */
    _Atomic uint64_t last_lsn; /* [lock to store] newest accepted */
    uint64_t next_room;        /* [lock] bytes that a group may have in `next`; 0 = there is none */
    struct segment next;       /* [lock] where the filling twin's group goes */
    struct growth growth;      /* [lock] */
    uint64_t roll_waits;       /* [lock] */
    uint64_t full_refusals;    /* [lock] */

    struct twin twins[2];

    _Alignas(CACHE_LINE) struct watermark durable; /* [leader stores] */
    _Atomic int poison;                            /* [leader stores] 0 or the error */
    struct twl_event space; /* notified when the twins are swapped, and when a segment was waited for */

    _Alignas(CACHE_LINE) struct leadership leadership;
    struct segment segment; /* [leader, with the lock to exchange it] the active one */
    /* the rest: [leader] */
    struct segment left;    /* the one before it, until the active one has a group; file NULL = none */
    uint32_t chain;         /* checksum of the last group header written */
    bool is_segment_begun;  /* it has a group */
    bool has_asked_spare;   /* for this segment */
    bool has_no_untorn;     /* the device refused an untorn write after all */
    uint32_t expected;      /* writers that will probably join the next group */
    uint64_t sync_ns;       /* smoothed duration of a commit */
    uint32_t gather_misses; /* gatherings in a row that nobody joined in time */
    uint32_t gather_skips;  /* groups to go before the next try */
    _Atomic uint64_t groups, group_bytes, written_bytes, rolls;
};

/* ---- what fits where --------------------------------------------------------------------------- */

/* Bytes of a segment's data. */
static uint64_t room_in(const struct segment *segment)
{
    return segment->data_end - SEGMENT_DATA_OFFSET;
}

static uint64_t room_for_marks(const struct segment *segment)
{
    uint64_t part = align_down(room_in(segment) / 16, BLOCK_BYTES);
    return min_u64(max_u64(part, LEAST_FOR_MARKS), MOST_FOR_MARKS);
}

/* A group of one record, wherever in a block it begins. */
static uint64_t group_room(uint64_t record_bytes)
{
    return align_up(BLOCK_BYTES - 8 + GROUP_HEADER_BYTES + record_bytes, BLOCK_BYTES);
}

/* What a segment that is to hold a group must have. The room for marks comes on top where segments are large
 * enough for it: none is smaller at its largest than a buffer. */
static uint64_t room_to_ask_for(const struct commit *c, uint64_t group_bytes)
{
    return max_u64(group_bytes, min_u64(group_bytes + LEAST_FOR_MARKS, c->buffer_bytes));
}

/* What is sure to find a place. */
static uint32_t limit_of(const struct commit *c, const struct twin *twin) REQUIRES(c->lock)
{
    uint64_t records_end = c->segment.data_end - room_for_marks(&c->segment);
    uint64_t room = records_end - min_u64(twin->offset, records_end);
    if (c->next_room > 0)
        room = c->next_room;
    return (uint32_t)max_u64(twin->used, min_u64(room, c->buffer_bytes));
}

/* Takes the next segment for the filling twin, whose group will have so many bytes or more. */
static bool take_next(struct commit *c, uint64_t group_bytes) REQUIRES(c->lock)
{
    if (!twl_keeper_take(c->keeper, room_to_ask_for(c, group_bytes), &c->next))
        return false;
    c->next_room = max_u64(room_in(&c->next) - room_for_marks(&c->next), group_bytes);
    return true;
}

/* Until take_next() would find one. Never under the lock, never by the leader. */
static int wait_for_next(struct commit *c, uint64_t group_bytes)
{
    return twl_keeper_wait(c->keeper, room_to_ask_for(c, group_bytes), watermark_load(&c->durable),
                           c->epoch.number);
}

/* ---- birth and death --------------------------------------------------------------------------- */

/* The next group to be filled in: its header goes to `offset`. */
static void fill_twin(struct commit *c, uint32_t index, uint64_t offset, uint64_t first_lsn) REQUIRES(c->lock)
{
    struct twin *twin = &c->twins[index];
    c->filling = index;
    twin->first_lsn = first_lsn;
    twin->start = (uint32_t)(offset % BLOCK_BYTES);
    twin->offset = offset - twin->start;
    twin->min_ns = INT64_MAX;
    twin->max_ns = INT64_MIN;
    twin->used = twin->start + GROUP_HEADER_BYTES;
    twin->count = 0;
    twin->waiters = 0;
    twin->limit = limit_of(c, twin);
}

/* The part of the last block that is already on disk, for the next write to repeat. */
static int load_tail(struct commit *c, uint64_t offset)
{
    uint32_t start = (uint32_t)(offset % BLOCK_BYTES);
    size_t size = 0;
    if (start == 0)
        return 0;
    int rc = io_read(c->segment.file, c->twins[0].bytes, BLOCK_BYTES, offset - start, &size);
    if (rc == 0 && size < start)
        rc = -EIO;
    return rc;
}

static void begin(struct commit *c, const struct segment *segment, bool is_begun, uint64_t offset,
                  const struct position *position, struct epoch epoch)
{
    twl_mutex_lock(&c->lock);
    c->epoch = epoch;
    c->epoch_seed = twl_epoch_seed(segment->header.log_id, epoch);
    c->segment = *segment;
    c->is_segment_begun = is_begun;
    c->has_asked_spare = false;
    c->chain = position->chain;
    atomic_store(&c->last_lsn, position->next_lsn - 1);
    watermark_store(&c->durable, position->next_lsn - 1);
    fill_twin(c, 0, offset, position->next_lsn);
    twl_mutex_unlock(&c->lock);
}

int twl_commit_create(const struct commit_config *config, struct commit **ret_commit)
{
    ASSERT(group_room(twl_record_bytes(config->max_record_bytes)) <= config->buffer_bytes);
    struct commit *c = aligned_alloc(CACHE_LINE, align_up(sizeof(*c), CACHE_LINE));
    if (!c)
        return -ENOMEM;
    memset(c, 0, sizeof(*c));
    size_t memory_bytes = 2 * (size_t)config->buffer_bytes;
    c->memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c->memory == MAP_FAILED) {
        free(c);
        return -ENOMEM;
    }
    c->io = config->io;
    c->keeper = config->keeper;
    c->buffer_bytes = config->buffer_bytes;
    c->max_record_bytes = config->max_record_bytes;
    c->segment_records = config->segment_records;
    c->segment_age_ms = config->segment_age_ms;
    c->is_padded = config->is_padded;
    c->live = config->live;
    twl_mutex_init(&c->lock);
    for (unsigned i = 0; i < 2; i++)
        c->twins[i].bytes = (unsigned char *)c->memory + i * (size_t)config->buffer_bytes;

    bool starts_block = c->is_padded && !config->has_junk;
    uint64_t offset = starts_block ? align_up(config->offset, BLOCK_BYTES) : config->offset;
    begin(c, &config->segment, config->is_begun, offset, &config->position, config->epoch);
    int rc = c->io->ops->adopt_buffers(c->io, c->memory, memory_bytes);
    if (rc == 0)
        rc = load_tail(c, offset);
    if (rc < 0) {
        c->segment = (struct segment){ 0 };
        twl_commit_destroy(c, false);
        return rc;
    }
    if (config->spare_segments > 0)
        twl_keeper_want(c->keeper, config->spare_segments, true, config->position.next_lsn - 1,
                        c->epoch.number);
    *ret_commit = c;
    return 0;
}

int twl_commit_restart(struct commit *c, const struct segment *segment, const struct position *position,
                       struct epoch epoch)
{
    if (atomic_load(&c->poison) != 0)
        return TWINLOG_EPOISONED;
    ASSERT(watermark_load(&c->durable) == atomic_load(&c->last_lsn));
    twl_segment_close(&c->segment);
    begin(c, segment, false, SEGMENT_DATA_OFFSET, position, epoch);
    return 0;
}

void twl_commit_destroy(struct commit *c, bool is_forked)
{
    if (!c)
        return;
    if (!is_forked) {
        /* A thread that did not survive the fork may hold the lock, and may have been in the middle of
         * exchanging the segment: the child's copy of the file goes with the child. */
        twl_segment_close(&c->segment);
        twl_segment_close(&c->left);
        twl_segment_close(&c->next);
        twl_mutex_destroy(&c->lock);
    }
    munmap(c->memory, 2 * (size_t)c->buffer_bytes);
    free(c);
}

/* ---- leading ----------------------------------------------------------------------------------- */

static bool try_lead(struct commit *c) TRY_ACQUIRES(true, c->leadership) NO_THREAD_SAFETY_ANALYSIS
{
    return !atomic_load_explicit(&c->leadership.is_taken, memory_order_relaxed) &&
           !atomic_exchange(&c->leadership.is_taken, true);
}

static void stop_leading(struct commit *c) RELEASES(c->leadership) NO_THREAD_SAFETY_ANALYSIS
{
    atomic_store(&c->leadership.is_taken, false);
}

/* Lets the writers that were woken a moment ago come back with their next record: with one group in
 * flight, those who just miss a group wait for two. Bounded by half a commit, and given up for a while
 * when it does not pay. */
static void gather(struct commit *c) REQUIRES(c->leadership)
{
    if (c->expected <= 1) /* a lone writer waits for nobody */
        return;
    if (c->gather_skips > 0) {
        c->gather_skips--;
        return;
    }
    uint64_t deadline = 0;
    for (;;) {
        twl_mutex_lock(&c->lock);
        uint32_t joined = c->twins[c->filling].waiters;
        twl_mutex_unlock(&c->lock);
        if (joined >= c->expected) {
            c->gather_misses = 0;
            return;
        }
        uint64_t now = twl_monotonic_ns();
        if (deadline == 0)
            deadline = now + c->sync_ns / 2;
        else if (now > deadline)
            break;
        twl_yield();
    }
    c->gather_misses++;
    c->gather_skips = (uint32_t)min_u64(1u << min_u64(c->gather_misses, 6), MAX_GATHER_SKIPS);
}

/* A copier may have been descheduled in the middle of its copy: look, yield, then sleep. */
static void wait_for_copies(struct twin *twin)
{
    for (unsigned tries = 0; atomic_load_explicit(&twin->copying, memory_order_acquire) > 0; tries++) {
        if (tries < 16) {
            twl_yield();
            continue;
        }
        uint32_t seen = twl_event_value(&twin->copied);
        if (atomic_load(&twin->copying) > 0)
            twl_event_sleep(&twin->copied, seen);
    }
}

static void finish_copy(struct twin *twin)
{
    if (atomic_fetch_sub(&twin->copying, 1) == 1 && atomic_load(&twin->is_sealed))
        twl_event_notify_all(&twin->copied);
}

/* The active segment has as many records, or is as old, as the options allow; or the n-th part of that. */
static bool is_worn(struct commit *c, unsigned part) REQUIRES(c->leadership)
{
    const struct summary *summary = c->segment.summary;
    uint64_t records = summary->next_lsn - summary->first_lsn;
    if (c->segment_records > 0 && records >= c->segment_records / part)
        return true;
    if (c->segment_age_ms == 0)
        return false;
    int64_t now_ns = c->io->ops->now_ns(c->io), first_ns = summary->min_ns;
    return now_ns > first_ns && ((uint64_t)now_ns - (uint64_t)first_ns) / 1000000 >= c->segment_age_ms / part;
}

/* The group goes to the start of the next segment, at the same place within the block. */
static void roll(struct commit *c, struct twin *sealed) REQUIRES(c->lock, c->leadership)
{
    c->left = c->segment;
    c->segment = c->next;
    c->next = (struct segment){ 0 };
    c->next_room = 0;
    c->is_segment_begun = false;
    c->has_asked_spare = false;
    sealed->offset = SEGMENT_DATA_OFFSET;
}

/* Seals the filling twin, decides where its group goes, and lets the writers go on in the other one. NULL if it
 * has no records, unless a mark is to be written. */
static struct twin *swap_twins(struct commit *c, bool is_mark) REQUIRES(c->leadership)
{
    bool should_leave = !is_mark && is_worn(c, 1);
    twl_mutex_lock(&c->lock);
    struct twin *sealed = &c->twins[c->filling];
    if (sealed->count == 0 && !is_mark) {
        twl_mutex_unlock(&c->lock);
        return NULL;
    }
    if (c->next_room > 0 || (should_leave && take_next(c, align_up(sealed->used, BLOCK_BYTES))))
        roll(c, sealed);
    uint64_t end = sealed->offset + sealed->used;
    fill_twin(c, c->filling ^ 1, c->is_padded ? align_up(end, BLOCK_BYTES) : end,
              sealed->first_lsn + sealed->count);
    atomic_store(&sealed->is_sealed, true);
    twl_mutex_unlock(&c->lock);
    twl_event_notify_all(&c->space);
    wait_for_copies(sealed);
    atomic_store(&sealed->is_sealed, false);
    return sealed;
}

static int write_once(struct commit *c, struct io_write *write) REQUIRES(c->leadership)
{
    int rc = c->io->ops->submit(c->io, write);
    if (rc < 0) {
        write->ret_written = rc;
        write->ret_synced = -ECANCELED;
        return rc;
    }
    c->io->ops->reap(c->io, write);
    return write->ret_written < 0 ? (int)write->ret_written : 0;
}

/* Writes and syncs. Short and interrupted writes go on where they stopped, each under its own sync; a
 * sync that ran and failed is final. */
static int write_durably(struct commit *c, const unsigned char *data, size_t size, uint64_t offset,
                         bool is_rewrite) REQUIRES(c->leadership)
{
    unsigned patience = PATIENCE;
    while (patience-- > 0) {
        bool is_untorn = is_rewrite && !c->has_no_untorn && size <= c->io->untorn_bytes &&
                         (size & (size - 1)) == 0 && offset % size == 0;
        struct io_write write = {
            .file = c->segment.file, .data = data, .size = size, .offset = offset, .is_untorn = is_untorn
        };
        int rc = write_once(c, &write);
        if (is_untorn && (rc == -EINVAL || rc == -EOPNOTSUPP)) {
            c->has_no_untorn = true;
            continue;
        }
        if (rc == -EINTR || rc == -EAGAIN || rc == -ECANCELED) {
            twl_yield(); /* the last: a signal kept the kernel from starting it */
            continue;
        }
        if (rc < 0)
            return rc;
        if ((size_t)write.ret_written == size && write.ret_synced == -ECANCELED)
            continue; /* the barrier never ran: the kernel had no thread for it. It needs a write before it */
        if ((size_t)write.ret_written == size)
            return write.ret_synced;
        if (write.ret_synced != 0 && write.ret_synced != -ECANCELED)
            return write.ret_synced;
        /* the rest begins at a block again */
        size_t advance = (size_t)align_down((uint64_t)write.ret_written, BLOCK_BYTES);
        data += advance;
        size -= advance;
        offset += advance;
    }
    return -EIO;
}

/* Prepares the next segment in good time; a log that stays small never does. */
static void ask_for_spare(struct commit *c, uint64_t end) REQUIRES(c->leadership)
{
    if (c->has_asked_spare || (end < c->segment.header.bytes / 2 && !is_worn(c, 2)))
        return;
    c->has_asked_spare = true;
    twl_keeper_want(c->keeper, 1, false, watermark_load(&c->durable), c->epoch.number);
}

/* In front of the first group of a segment that was rolled to. */
static void enter_segment(struct commit *c, struct twin *sealed) REQUIRES(c->leadership)
{
    memset(sealed->bytes, 0, sealed->start);
    twl_summary_begin(c->segment.summary, c->left.summary->peak_ns);
    atomic_fetch_add(&c->rolls, 1);
}

/* Behind it. Only now, because a segment that is sealed is not written any more, and until the next one has a
 * group a crash would bring the writer back to it. */
static void leave_segment(struct commit *c) REQUIRES(c->leadership)
{
    twl_keeper_leave(c->keeper, &c->left, &c->segment);
    c->left = (struct segment){ 0 };
}

static int write_group(struct commit *c, struct twin *sealed, enum group_kind kind) REQUIRES(c->leadership)
{
    uint32_t end = sealed->used, start = sealed->start;
    uint32_t block_end = (uint32_t)align_up(end, BLOCK_BYTES);
    uint64_t group_offset = sealed->offset + start;
    memset(sealed->bytes + end, 0, block_end - end);
    if (c->left.file)
        enter_segment(c, sealed);
    struct group_header group = {
        .first_lsn = sealed->first_lsn,
        .count = sealed->count,
        .bytes = end - start,
        .durable_lsn = watermark_load(&c->durable),
        .chain = c->chain,
        .epoch = c->epoch,
        .kind = (uint16_t)kind,
        .flags = c->is_segment_begun ? 0 : GROUP_FIRST,
        .time_ns = c->io->ops->now_ns(c->io),
    };
    twl_group_header_encode(&group, c->segment.seed, group_offset, sealed->bytes + start);

    int rc = write_durably(c, sealed->bytes, block_end, sealed->offset, start > 0);
    if (rc < 0)
        return rc;
    /* the next twin repeats the last block, if that is not full */
    uint32_t next_start = c->is_padded ? 0 : end % BLOCK_BYTES;
    struct twin *next = sealed == &c->twins[0] ? &c->twins[1] : &c->twins[0];
    memcpy(next->bytes, sealed->bytes + (end - next_start), next_start);
    c->chain = group.checksum;
    c->is_segment_begun = true;
    twl_summary_add_group(c->segment.summary, &group, group_offset, sealed->min_ns, sealed->max_ns,
                          sealed->bytes + start);
    atomic_fetch_add_explicit(&c->groups, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->group_bytes, group.bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->written_bytes, block_end, memory_order_relaxed);
    return 0;
}

/* To readers first: when an append has returned, they find its record. */
static void publish(struct commit *c, uint64_t lsn) REQUIRES(c->leadership)
{
    twl_live_publish_durable(c->live, lsn);
    watermark_store(&c->durable, lsn);
}

/* One group: seal, write, sync, publish. Returns the twin whose writers it covers, NULL if there was
 * nothing to write. */
static struct twin *commit_group(struct commit *c, enum group_kind kind) REQUIRES(c->leadership)
{
    if (atomic_load(&c->poison) != 0) /* the leader before may have failed since we looked */
        return NULL;
    struct twin *sealed = swap_twins(c, kind != GROUP_RECORDS);
    if (!sealed)
        return NULL;
    uint64_t began = twl_monotonic_ns();
    int rc = write_group(c, sealed, kind);
    if (rc == 0) {
        if (c->left.file)
            leave_segment(c); /* readers look for what is published in the segments that the keeper knows */
        publish(c, sealed->first_lsn + sealed->count - 1);
        ask_for_spare(c, sealed->offset + sealed->used);
    } else {
        atomic_store(&c->poison, rc);
    }
    uint64_t took = twl_monotonic_ns() - began;
    c->sync_ns = c->sync_ns == 0 ? took : (7 * c->sync_ns + took) / 8;
    twl_mutex_lock(&c->lock);
    c->expected = sealed->waiters + c->twins[c->filling].waiters;
    twl_mutex_unlock(&c->lock);
    return sealed;
}

/* After the last one: somebody must lead the group that filled up meanwhile, and on failure everybody
 * must hear of it. Leadership is free already, so whoever arrives in between may have taken it. */
static void hand_on(struct commit *c)
{
    if (atomic_load(&c->poison) != 0) {
        twl_event_notify_all(&c->twins[0].done);
        twl_event_notify_all(&c->twins[1].done);
        twl_event_notify_all(&c->space);
        return;
    }
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    bool has_waiters = filling->count > 0;
    twl_mutex_unlock(&c->lock);
    if (has_waiters) {
        twl_event_notify_one(&filling->done);
        twl_event_notify_all(&c->space); /* who found it full while we led may be all that is left */
    }
}

/* True if this thread led; then the caller looks at the world again. Waking a few hundred writers takes
 * longer than a commit: so the next leader is woken first, and they wake while it gathers and writes. */
static bool lead_once(struct commit *c)
{
    if (!try_lead(c))
        return false;
    gather(c);
    struct twin *covered = commit_group(c, GROUP_RECORDS);
    stop_leading(c);
    hand_on(c);
    if (covered)
        twl_event_notify_all(&covered->done);
    return true;
}

/* ---- marks ------------------------------------------------------------------------------------- */

/* The mark of a close is what proves the last group. It stands in a block of its own, so that one bad
 * sector can't take both. */
static uint64_t mark_offset(const struct commit *c, enum group_kind kind) REQUIRES(c->lock)
{
    const struct twin *twin = &c->twins[c->filling];
    uint64_t offset = twin->offset + twin->start;
    return kind == GROUP_CLOSE ? align_up(offset, BLOCK_BYTES) : offset;
}

/* Closing leaves half of the room for marks to the openings: a log can do without the mark of a close, but it
 * can't be opened without one of a start. */
static uint64_t marks_end(const struct commit *c, enum group_kind kind) REQUIRES(c->lock)
{
    return c->segment.data_end - (kind == GROUP_CLOSE ? room_for_marks(&c->segment) / 2 : 0);
}

static int place_mark(struct commit *c, enum group_kind kind)
{
    const uint64_t group_bytes = group_room(0);
    for (;;) {
        twl_mutex_lock(&c->lock);
        uint64_t offset = mark_offset(c, kind);
        bool has_place = align_up(offset + GROUP_HEADER_BYTES, BLOCK_BYTES) <= marks_end(c, kind) ||
                         take_next(c, group_bytes);
        if (has_place)
            fill_twin(c, c->filling, offset, c->twins[c->filling].first_lsn);
        twl_mutex_unlock(&c->lock);
        if (has_place)
            return 0;
        int rc = wait_for_next(c, group_bytes);
        if (rc < 0)
            return rc;
    }
}

int twl_commit_mark(struct commit *c, enum group_kind kind)
{
    int rc = twl_commit_wait(c, atomic_load(&c->last_lsn));
    if (rc == 0)
        rc = atomic_load(&c->poison);
    if (rc == 0)
        rc = place_mark(c, kind);
    if (rc < 0)
        return rc;
    if (!try_lead(c))
        return -EBUSY;
    commit_group(c, kind);
    stop_leading(c);
    return atomic_load(&c->poison);
}

/* ---- writing ----------------------------------------------------------------------------------- */

enum room {
    ROOM_IS_THERE,
    ROOM_AFTER_COMMIT, /* the twin must be written first */
    ROOM_WILL_COME,    /* another writer sees to the next segment */
    ROOM_TO_BE_MADE,   /* this one has to */
    ROOM_REFUSED,      /* there is none; see growth.error */
};

/* For a record of so many bytes in the filling twin. If that is empty, only the next segment helps. An attempt
 * to get one that was begun since the writer first looked, and failed, has failed for him too: so that
 * nobody waits for more than two, however many writers there are. */
static enum room find_room(struct commit *c, uint32_t bytes, uint64_t *since) REQUIRES(c->lock)
{
    struct twin *twin = &c->twins[c->filling];
    struct growth *growth = &c->growth;
    if (bytes <= twin->limit - twin->used)
        return ROOM_IS_THERE;
    *since = min_u64(*since, growth->begun);
    if (twin->count > 0)
        return ROOM_AFTER_COMMIT;
    if (!growth->is_going_on && take_next(c, group_room(bytes))) {
        twin->limit = limit_of(c, twin);
        return ROOM_IS_THERE;
    }
    if (growth->failed > *since && growth->bytes <= bytes)
        return ROOM_REFUSED;
    if (growth->is_going_on)
        return ROOM_WILL_COME;
    growth->is_going_on = true;
    growth->begun++;
    return ROOM_TO_BE_MADE;
}

static int refuse(struct commit *c) REQUIRES(c->lock)
{
    c->full_refusals += c->growth.error == -ENOSPC || c->growth.error == -EDQUOT;
    return c->growth.error;
}

/* Has the next segment made; it is taken by whoever looks for room first. */
static void grow(struct commit *c, uint32_t bytes)
{
    int rc = wait_for_next(c, group_room(bytes));
    twl_mutex_lock(&c->lock);
    c->growth.is_going_on = false;
    if (rc < 0) {
        c->growth.failed = c->growth.begun;
        c->growth.bytes = bytes;
        c->growth.error = rc;
    }
    c->roll_waits += rc == 0;
    twl_mutex_unlock(&c->lock);
    twl_event_notify_all(&c->space);
}

/* `seen` is what c->space was before the writer looked for room. */
static void wait_for_room(struct commit *c, enum room room, uint32_t bytes, uint32_t seen)
{
    if (room == ROOM_TO_BE_MADE)
        grow(c, bytes);
    else if (room == ROOM_WILL_COME || !lead_once(c))
        twl_event_sleep(&c->space, seen);
}

struct place {
    struct twin *twin;
    unsigned char *at;
    uint64_t lsn;
};

static struct place reserve(struct commit *c, uint32_t bytes, int64_t time_ns, bool will_wait)
    REQUIRES(c->lock)
{
    struct twin *twin = &c->twins[c->filling];
    struct place place = { twin, twin->bytes + twin->used, twin->first_lsn + twin->count };
    twin->used += bytes;
    twin->count++;
    twin->waiters += will_wait;
    twin->min_ns = time_ns < twin->min_ns ? time_ns : twin->min_ns;
    twin->max_ns = time_ns > twin->max_ns ? time_ns : twin->max_ns;
    atomic_fetch_add_explicit(&twin->copying, 1, memory_order_relaxed);
    atomic_store_explicit(&c->last_lsn, place.lsn, memory_order_release);
    return place;
}

int twl_commit_put(struct commit *c, const struct commit_record *record, bool will_wait, uint64_t *ret_lsn)
{
    if (record->size > c->max_record_bytes)
        return -EMSGSIZE;
    uint32_t bytes = (uint32_t)twl_record_bytes(record->size);
    int64_t time_ns = record->time_ns != INT64_MIN ? record->time_ns : c->io->ops->now_ns(c->io);
    uint64_t since = UINT64_MAX;
    struct place place;
    for (int rc = 0;;) {
        uint32_t seen = twl_event_value(&c->space);
        if (atomic_load_explicit(&c->poison, memory_order_acquire) != 0)
            return TWINLOG_EPOISONED;
        twl_mutex_lock(&c->lock);
        enum room room = find_room(c, bytes, &since);
        if (room == ROOM_IS_THERE) {
            place = reserve(c, bytes, time_ns, will_wait);
            c->appends++;
            c->append_bytes += record->size;
        } else if (room == ROOM_REFUSED) {
            rc = refuse(c);
        }
        twl_mutex_unlock(&c->lock);
        if (room == ROOM_IS_THERE)
            break;
        if (rc < 0)
            return rc;
        wait_for_room(c, room, bytes, seen);
    }
    twl_record_encode(place.at, c->epoch_seed, place.lsn, record->kind, time_ns, record->data, record->size);
    finish_copy(place.twin);
    *ret_lsn = place.lsn;
    return 0;
}

/* The twin whose `done` word changes when `lsn` becomes durable. */
static struct twin *twin_of(struct commit *c, uint64_t lsn)
{
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    bool is_filling = lsn >= filling->first_lsn;
    struct twin *twin = is_filling ? filling : &c->twins[c->filling ^ 1];
    twl_mutex_unlock(&c->lock);
    return twin;
}

int twl_commit_wait(struct commit *c, uint64_t lsn)
{
    if (watermark_load(&c->durable) >= lsn)
        return 0;
    struct twin *twin = NULL;
    for (unsigned tries = 0;; tries++) {
        uint32_t seen = twin ? twl_event_value(&twin->done) : 0;
        if (watermark_load(&c->durable) >= lsn)
            return 0;
        int poison = atomic_load(&c->poison);
        if (poison != 0)
            return poison;
        if (lead_once(c))
            continue;
        if (tries < YIELDS_BEFORE_SLEEP)
            twl_yield();
        else if (!twin)
            twin = twin_of(c, lsn);
        else
            twl_event_sleep(&twin->done, seen);
    }
}

/* ---- looking ----------------------------------------------------------------------------------- */

uint64_t twl_commit_last_lsn(const struct commit *c)
{
    return atomic_load_explicit(&c->last_lsn, memory_order_acquire);
}

const struct watermark *twl_commit_watermark(const struct commit *c)
{
    return &c->durable;
}

int twl_commit_poison(const struct commit *c)
{
    return atomic_load(&c->poison);
}

void twl_commit_give_up(struct commit *c, int error)
{
    atomic_store(&c->poison, error);
}

void twl_commit_count(struct commit *c, struct commit_counters *ret_counters)
{
    twl_mutex_lock(&c->lock);
    *ret_counters = (struct commit_counters){
        .appends = c->appends,
        .append_bytes = c->append_bytes,
        .groups = atomic_load(&c->groups),
        .group_bytes = atomic_load(&c->group_bytes),
        .written_bytes = atomic_load(&c->written_bytes),
        .rolls = atomic_load(&c->rolls),
        .roll_waits = c->roll_waits,
        .full_refusals = c->full_refusals,
    };
    twl_mutex_unlock(&c->lock);
}
