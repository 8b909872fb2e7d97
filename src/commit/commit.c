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
 * What can fail: making the next segment, the write, the sync. Any of them poisons the log (I5): the
 * leader stores the error before it gives up leadership, a new leader looks before it writes, and every
 * waiter whose record is not durable gets it. No sync is ever tried again. A write that was only short
 * or interrupted is continued, under a new sync of its own.
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

struct twin {
    unsigned char *bytes;                          /* [const] buffer_bytes of them */
    uint64_t first_lsn;                            /* [lock] of the first record in it */
    uint32_t start;                                /* [lock] of the group header */
    uint32_t used;                                 /* [lock] */
    uint32_t count;                                /* [lock] records */
    uint32_t waiters;                              /* [lock] of them from writers that wait for it */
    _Alignas(CACHE_LINE) _Atomic uint32_t copying; /* [atomic] writers still copying */
    _Atomic bool is_sealed;                        /* [atomic] the leader waits for `copying` */
    struct twl_event copied;                       /* the leader sleeps on it */
    struct twl_event done;                         /* the writers in this twin sleep on it */
};

struct CAPABILITY("leadership") leadership {
    _Atomic bool is_taken;
};

struct commit {
    struct io *io;             /* [const] */
    struct spares *spares;     /* [const] */
    uint32_t buffer_bytes;     /* [const] */
    uint32_t max_record_bytes; /* [const] */
    bool is_padded;            /* [const] */
    struct epoch epoch;        /* [const] */
    uint32_t epoch_seed;       /* [const] */
    struct watermark *live;    /* [const] */
    void *memory;              /* [const] both buffers */

    _Alignas(CACHE_LINE) struct twl_mutex lock;
    uint32_t filling;          /* [lock] index of the twin that writers fill */
    uint64_t appends;          /* [lock] */
    uint64_t append_bytes;     /* [lock] */
    _Atomic uint64_t last_lsn; /* [lock to store] newest accepted */

    struct twin twins[2];

    _Alignas(CACHE_LINE) struct watermark durable; /* [leader stores] */
    _Atomic int poison;                            /* [leader stores] 0 or the error */
    struct twl_event space;                        /* notified when the twins are swapped */

    _Alignas(CACHE_LINE) struct leadership leadership;
    /* the rest: [leader] */
    struct segment segment;
    uint64_t block_offset;  /* where in the segment the filling twin's byte 0 goes */
    uint32_t chain;         /* checksum of the last group header written */
    bool is_segment_begun;  /* it has a group */
    bool has_asked_spare;   /* for this segment */
    bool has_no_untorn;     /* the device refused an untorn write after all */
    uint32_t expected;      /* writers that will probably join the next group */
    uint64_t sync_ns;       /* smoothed duration of a commit */
    uint32_t gather_misses; /* gatherings in a row that nobody joined in time */
    uint32_t gather_skips;  /* groups to go before the next try */
    _Atomic uint64_t groups, group_bytes, written_bytes, rolls, roll_waits;
};

/* ---- birth and death --------------------------------------------------------------------------- */

static void begin_twin(struct twin *twin, uint32_t start, uint64_t first_lsn)
{
    twin->start = start;
    twin->used = start + GROUP_HEADER_BYTES;
    twin->count = 0;
    twin->waiters = 0;
    twin->first_lsn = first_lsn;
}

/* The part of the last block that is already on disk, for the next write to repeat. */
static int load_tail(struct commit *c, uint64_t offset)
{
    uint32_t start = (uint32_t)(offset % BLOCK_BYTES);
    size_t size = 0;
    c->block_offset = offset - start;
    begin_twin(&c->twins[0], start, atomic_load(&c->last_lsn) + 1);
    if (start == 0)
        return 0;
    int rc = io_read(c->segment.file, c->twins[0].bytes, BLOCK_BYTES, c->block_offset, &size);
    if (rc == 0 && size < start)
        rc = -EIO;
    return rc;
}

int twl_commit_create(const struct commit_config *config, struct commit **ret_commit)
{
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
    c->spares = config->spares;
    c->buffer_bytes = config->buffer_bytes;
    c->max_record_bytes = config->max_record_bytes;
    c->is_padded = config->is_padded;
    c->epoch = config->epoch;
    c->epoch_seed = twl_epoch_seed(config->segment.header.log_id, config->epoch);
    c->live = config->live;
    c->segment = config->segment;
    c->chain = config->position.chain;
    c->is_segment_begun = config->is_begun;
    twl_mutex_init(&c->lock);
    uint64_t last_lsn = config->position.next_lsn - 1;
    atomic_store(&c->last_lsn, last_lsn);
    watermark_store(&c->durable, last_lsn);
    for (unsigned i = 0; i < 2; i++)
        c->twins[i].bytes = (unsigned char *)c->memory + i * (size_t)config->buffer_bytes;

    bool starts_block = c->is_padded && !config->has_junk;
    uint64_t offset = starts_block ? align_up(config->offset, BLOCK_BYTES) : config->offset;
    int rc = c->io->ops->adopt_buffers(c->io, c->memory, memory_bytes);
    if (rc == 0)
        rc = load_tail(c, offset);
    if (rc < 0) {
        c->segment.file = NULL;
        twl_commit_destroy(c, false);
        return rc;
    }
    if (config->spare_segments > 0)
        twl_spares_want(c->spares, config->spare_segments, true, last_lsn, c->epoch.number);
    *ret_commit = c;
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

/* Seals the filling twin and lets the writers go on in the other one. NULL if it has no records, unless
 * a mark is to be written. */
static struct twin *swap_twins(struct commit *c, bool is_mark) REQUIRES(c->leadership)
{
    twl_mutex_lock(&c->lock);
    struct twin *sealed = &c->twins[c->filling];
    if (sealed->count == 0 && !is_mark) {
        twl_mutex_unlock(&c->lock);
        return NULL;
    }
    c->filling ^= 1;
    begin_twin(&c->twins[c->filling], c->is_padded ? 0 : sealed->used % BLOCK_BYTES,
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
        if (rc == -EINTR || rc == -EAGAIN) {
            twl_yield();
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

/* The group goes to the start of the next segment, at the same place within the block. */
static int roll(struct commit *c, struct twin *sealed, uint32_t end) REQUIRES(c->leadership)
{
    struct segment next;
    bool waited;
    int rc = twl_spares_take(c->spares, align_up(end, BLOCK_BYTES), &next, &waited);
    if (rc < 0)
        return rc;
    twl_segment_close(&c->segment);
    c->segment = next;
    c->block_offset = SEGMENT_DATA_OFFSET;
    c->is_segment_begun = false;
    c->has_asked_spare = false;
    memset(sealed->bytes, 0, sealed->start);
    atomic_fetch_add(&c->rolls, 1);
    if (waited)
        atomic_fetch_add(&c->roll_waits, 1);
    return 0;
}

/* Prepares the next segment in good time; a log that stays small never does. */
static void ask_for_spare(struct commit *c) REQUIRES(c->leadership)
{
    if (c->has_asked_spare || c->block_offset < c->segment.header.bytes / 2)
        return;
    c->has_asked_spare = true;
    twl_spares_want(c->spares, 1, false, watermark_load(&c->durable), c->epoch.number);
}

static int write_group(struct commit *c, struct twin *sealed, enum group_kind kind) REQUIRES(c->leadership)
{
    uint32_t end = sealed->used, start = sealed->start;
    uint32_t block_end = (uint32_t)align_up(end, BLOCK_BYTES);
    memset(sealed->bytes + end, 0, block_end - end);
    if (c->block_offset + block_end > c->segment.data_end) {
        int rc = roll(c, sealed, end);
        if (rc < 0)
            return rc;
    }
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
    twl_group_header_encode(&group, c->segment.seed, c->block_offset + start, sealed->bytes + start);

    int rc = write_durably(c, sealed->bytes, block_end, c->block_offset, start > 0);
    if (rc < 0)
        return rc;
    /* the next twin repeats the last block, if that is not full */
    uint32_t next_start = c->is_padded ? 0 : end % BLOCK_BYTES;
    struct twin *next = sealed == &c->twins[0] ? &c->twins[1] : &c->twins[0];
    memcpy(next->bytes, sealed->bytes + (end - next_start), next_start);
    c->block_offset += c->is_padded ? block_end : end - next_start;
    c->chain = group.checksum;
    c->is_segment_begun = true;
    atomic_fetch_add_explicit(&c->groups, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->group_bytes, group.bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->written_bytes, block_end, memory_order_relaxed);
    return 0;
}

static void publish(struct commit *c, uint64_t lsn) REQUIRES(c->leadership)
{
    watermark_store(&c->durable, lsn);
    if (c->live)
        watermark_store(c->live, lsn);
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
        publish(c, sealed->first_lsn + sealed->count - 1);
        ask_for_spare(c);
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

/* The mark of a close is what proves the last group. It stands in a block of its own, so that one bad
 * sector can't take both. */
static void skip_rest_of_block(struct commit *c) REQUIRES(c->leadership)
{
    twl_mutex_lock(&c->lock);
    struct twin *twin = &c->twins[c->filling];
    if (twin->start > 0) {
        c->block_offset += BLOCK_BYTES;
        begin_twin(twin, 0, twin->first_lsn);
    }
    twl_mutex_unlock(&c->lock);
}

int twl_commit_mark(struct commit *c, enum group_kind kind)
{
    int rc = twl_commit_wait(c, atomic_load(&c->last_lsn));
    if (rc < 0)
        return rc;
    if (!try_lead(c))
        return -EBUSY;
    if (kind == GROUP_CLOSE)
        skip_rest_of_block(c);
    commit_group(c, kind);
    stop_leading(c);
    return atomic_load(&c->poison);
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* A place in the filling twin, or NULL if it is full. */
static unsigned char *reserve(struct commit *c, size_t size, bool will_wait, uint64_t *ret_lsn,
                              struct twin **ret_twin) REQUIRES(c->lock)
{
    struct twin *twin = &c->twins[c->filling];
    uint32_t bytes = (uint32_t)twl_record_bytes(size);
    if (bytes > c->buffer_bytes - twin->used)
        return NULL;
    unsigned char *at = twin->bytes + twin->used;
    *ret_lsn = twin->first_lsn + twin->count;
    *ret_twin = twin;
    twin->used += bytes;
    twin->count++;
    twin->waiters += will_wait;
    atomic_fetch_add_explicit(&twin->copying, 1, memory_order_relaxed);
    atomic_store_explicit(&c->last_lsn, *ret_lsn, memory_order_release);
    c->appends++;
    c->append_bytes += size;
    return at;
}

int twl_commit_put(struct commit *c, const void *data, size_t size, bool will_wait, uint64_t *ret_lsn)
{
    if (size > c->max_record_bytes)
        return -EMSGSIZE;
    int64_t time_ns = c->io->ops->now_ns(c->io);
    unsigned char *at;
    struct twin *twin;
    uint64_t lsn;
    for (;;) {
        uint32_t seen = twl_event_value(&c->space);
        if (atomic_load_explicit(&c->poison, memory_order_acquire) != 0)
            return TWINLOG_EPOISONED;
        twl_mutex_lock(&c->lock);
        at = reserve(c, size, will_wait, &lsn, &twin);
        twl_mutex_unlock(&c->lock);
        if (at)
            break;
        if (!lead_once(c))
            twl_event_sleep(&c->space, seen);
    }
    twl_record_encode(at, c->epoch_seed, lsn, time_ns, data, size);
    finish_copy(twin);
    *ret_lsn = lsn;
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
        .roll_waits = atomic_load(&c->roll_waits),
    };
    twl_mutex_unlock(&c->lock);
}
