/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit in every order of its steps: the files of src/commit themselves, compiled so that each atomic operation,
 * each lock, each sleep and each notify is a step (points.h), under a scheduler that tries every order of steps which
 * depend on each other (explore.h), as CHESS, loom and the like do. What stands around the layer, the disk and the
 * keeper, is a few lines here.
 *
 * What is asked, at every step and at the end:
 *
 *  - everybody returns: no deadlock, no wake-up is lost, no loop goes on for ever;
 *  - an append returns 0 when its record is in what the disk has synced (written, for that level), under the LSN that
 *    it got, and no sooner (I1); an error only where one was injected, or where its terms say so;
 *  - LSNs are dense, each record is there once, groups form a chain;
 *  - no watermark is ahead of the disk (I2); what is durable is never changed; a buffer does not change in flight;
 *  - behind an injected failure nothing is written, everybody hears of it, and everybody hears the same;
 *  - requests are completed once, in the order of their LSNs, with the truth;
 *  - while the commit path stands still, for a truncation, and when it has ended, for the close, nothing is written and
 *    nobody comes to the keeper.
 *
 * Memory is sequentially consistent here, the timeouts of a sleep may end it at any moment, and an access that needs a
 * lock and has none is no step: weak orders and data races are for other tools.
 */
#define _GNU_SOURCE
#include "explore.h"
#include "scenarios.h"

#include "../arguments.h"
#include "commit/inside.h"
#include "io/ring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    MAX_RECORDS = 64,
    FILES = 3,
    FILE_BYTES = 128 * 1024,
    BUFFER_BYTES = 2 * BLOCK_BYTES,
    HEAP_BYTES = 64 * 1024,
    FOR_EVER = 1000000
};

static struct {
    const struct scenario *scenario;
    unsigned writers;
} now = { .writers = 2 };

/* ---- the disk -------------------------------------------------------------------------------------- */

struct file {
    struct io_file io_file;
    unsigned char seen[FILE_BYTES], synced[FILE_BYTES];
    uint64_t end; /* of what was written */
    /* of all that was written, and synced, one after the other; what is there follows from it */
    uint64_t seen_digest, synced_digest;
};
struct record {
    uint64_t writer;
};

/* Of a driven committer. A fiber is the disk behind it. */
struct io_ring {
    struct io_write *queued, *in_flight, *done;
    bool is_called;
    struct twl_event submitted, changed;
};

static struct {
    struct file files[FILES];
    struct summary summaries[FILES];
    unsigned char in_flight[FILE_BYTES];
    size_t in_flight_bytes; /* the first of the rest; see memory() */
    uint64_t in_flight_digest;
    unsigned writes;
    int error; /* that was injected */
    bool has_failed;
    bool is_still; /* nobody is to write, or to ask the keeper for anything */
    /* the groups that are there: how far they were looked at, in which file */
    struct walk {
        const struct segment *segment;
        uint64_t offset, lsn;
        uint32_t chain;
        bool is_closed;
    } seen, synced;
    struct record records[MAX_RECORDS]; /* by LSN */
    struct segment segments[FILES];
    unsigned taken, made;      /* segments */
    unsigned attempts, failed; /* to make one; the number of the latest that failed */
    struct twl_event work;     /* the keeper sleeps on it */
    struct io_ring ring;
    bool is_signalled;         /* the eventfd of the queue */
    bool is_watched;           /* the ring, by the descriptor of the queue */
    struct twl_event readable; /* notified when the descriptor of the queue becomes readable */
    const struct keeper_listener
        *asked; /* a writer has asked for a segment, and this tells it; NULL = none has */
} world;

static struct commit *commit;
static uint32_t epoch_seed;
static const struct epoch epoch = { .number = 1, .salt = 7 };

static struct file *file_of(struct io_file *file)
{
    return (struct file *)file; /* it is the first member */
}

static void look_at_record(const unsigned char *at, uint64_t lsn, uint64_t *bytes)
{
    struct record_header header;
    struct record record;
    if (!twl_record_header_decode(at, epoch_seed, lsn, &header) ||
        !twl_record_payload_is_valid(&header, at + RECORD_HEADER_BYTES))
        violation("record %" PRIu64 " was not whole when it was written", lsn);
    memcpy(&record, at + RECORD_HEADER_BYTES, sizeof(record));
    if (lsn >= MAX_RECORDS)
        violation("too many records");
    if (world.records[lsn].writer != 0 && memcmp(&record, &world.records[lsn], sizeof(record)) != 0)
        violation("record %" PRIu64 " has changed", lsn);
    for (uint64_t i = 1; i < lsn; i++)
        if (memcmp(&record, &world.records[i], sizeof(record)) == 0)
            violation("record %" PRIu64 " is record %" PRIu64 " again", lsn, i);
    world.records[lsn] = record;
    *bytes = twl_record_bytes(header.size);
}

static bool find_group(struct walk *walk, bool is_synced, const struct segment *segment, uint64_t from,
                       uint64_t to, struct group_header *ret_group)
{
    const struct file *file = file_of(segment->file);
    for (uint64_t at = from; at <= to && at < file->end; at += 8) {
        const unsigned char *bytes = (is_synced ? file->synced : file->seen) + at;
        if (!twl_group_header_maybe(bytes) || !twl_group_header_decode(bytes, segment->seed, at, ret_group))
            continue;
        walk->segment = segment;
        walk->offset = at;
        return true;
    }
    return false;
}

/* Behind the one before, up to the next block if it is the marker of a close; or in the first block of the next
 * segment. */
static bool find_next(struct walk *walk, bool is_synced, struct group_header *ret_group)
{
    const struct segment *next = walk->segment + 1;
    return find_group(walk, is_synced, walk->segment, walk->offset, align_up(walk->offset, BLOCK_BYTES),
                      ret_group) ||
           (next < world.segments + world.taken &&
            find_group(walk, is_synced, next, SEGMENT_DATA_OFFSET, SEGMENT_DATA_OFFSET + BLOCK_BYTES - 8,
                       ret_group));
}

/* The groups that came. */
static void walk_on(struct walk *walk, bool is_synced)
{
    struct group_header group;
    while (find_next(walk, is_synced, &group)) {
        const struct file *file = file_of(walk->segment->file);
        const unsigned char *bytes = is_synced ? file->synced : file->seen;
        if (group.first_lsn != walk->lsn + 1 || group.chain != walk->chain)
            violation("the group of %" PRIu64 " does not continue %" PRIu64, group.first_lsn, walk->lsn);
        if (group.durable_lsn > world.synced.lsn)
            violation("a group says that %" PRIu64 " was durable", group.durable_lsn);
        uint64_t at = GROUP_HEADER_BYTES, size;
        for (uint32_t i = 0; i < group.count; i++, at += size)
            look_at_record(bytes + walk->offset + at, group.first_lsn + i, &size);
        walk->offset += group.bytes;
        walk->lsn += group.count;
        walk->chain = group.checksum;
        walk->is_closed = group.kind == GROUP_CLOSE;
    }
}

static unsigned buffer_of(const unsigned char *bytes)
{
    return bytes < (unsigned char *)commit->memory + commit->options.buffer_bytes ? 0 : 1;
}

static bool is_hit(void)
{
    return world.writes == 2 && now.scenario->fault != FAULT_NONE; /* the first is the marker of the start */
}

static uint64_t digest(uint64_t seed, const unsigned char *bytes, size_t size)
{
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof(word));
        seed = (seed ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        seed ^= seed >> 29;
    }
    return seed;
}

/* The leader does. */
static void come_to_the_keeper(enum step_kind kind, const char *function)
{
    point(kind, &world.made, "the keeper", function);
    if (world.is_still)
        violation("%s, and the commit path is called still", function);
}

static void begin_write(const struct io_write *write)
{
    point(STEP_WRITE, &world, "the disk", __func__);
    if (world.is_still)
        violation("a write, and the commit path is called still");
    point(STEP_WRITE, &world.in_flight[buffer_of(write->data)], "the buffer", __func__);
    if (world.has_failed)
        violation("a write behind one that failed");
    if (write->offset + write->size > FILE_BYTES - SEGMENT_FOOTER_BYTES)
        violation("a write into the footer");
    world.writes++;
    memcpy(world.in_flight, write->data, write->size);
    world.in_flight_bytes = write->size;
    world.in_flight_digest = digest(write->offset, write->data, write->size);
}

static void sync_bytes(struct file *file, uint64_t from, uint64_t to)
{
    memcpy(file->synced + from, file->seen + from, to - from);
    file->synced_digest = digest(file->synced_digest ^ from, file->seen + from, to - from);
}

/* What of the write is there. */
static void finish(struct io_write *write, size_t size)
{
    struct file *file = file_of(write->file);
    memcpy(file->seen + write->offset, write->data, size);
    file->seen_digest = digest(file->seen_digest ^ write->offset, write->data, size);
    file->end = max_u64(file->end, write->offset + size);
    write->ret_written = (int64_t)size;
}

static void end_write(struct io_write *write)
{
    point(STEP_WRITE, &world, "the disk", __func__);
    point(STEP_WRITE, &world.in_flight[buffer_of(write->data)], "the buffer", __func__);
    if (memcmp(world.in_flight, write->data, write->size) != 0)
        violation("a buffer has changed in flight");
    world.in_flight_bytes = 0;
    world.in_flight_digest = 0;
    struct file *file = file_of(write->file);
    const enum fault fault = is_hit() ? now.scenario->fault : FAULT_NONE;
    write->ret_synced = -ECANCELED;
    write->ret_written = fault == FAULT_WRITE ? -EIO : -EINTR;
    if (fault == FAULT_WRITE || fault == FAULT_SYNC) {
        world.has_failed = true;
        world.error = -EIO;
    }
    if (fault == FAULT_WRITE || fault == FAULT_INTERRUPTED)
        return;
    finish(write, fault == FAULT_SHORT ? write->size - BLOCK_BYTES / 2 : write->size);
    if (fault == FAULT_SHORT)
        return;
    write->ret_synced = fault == FAULT_SYNC ? -EIO : 0;
    if (fault == FAULT_NONE && write->barrier == IO_BARRIER_FILE)
        sync_bytes(file, 0, file->end);
    else if (fault == FAULT_NONE && write->barrier == IO_BARRIER_WRITE)
        sync_bytes(file, write->offset, write->offset + write->size);
    walk_on(&world.seen, false);
    walk_on(&world.synced, true);
}

static void write_durably(struct io *io, struct io_write *write)
{
    (void)io;
    begin_write(write);
    end_write(write);
}

static int sync_data(struct io_file *file)
{
    point(STEP_WRITE, &world, "the disk", __func__);
    if (world.has_failed)
        violation("a sync behind a failure");
    sync_bytes(file_of(file), 0, file_of(file)->end);
    walk_on(&world.synced, true);
    return 0;
}

static int64_t now_ns(struct io *io)
{
    (void)io;
    return 1;
}

static int read_file(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    memcpy(buffer, file_of(file)->seen + offset, size);
    *ret_size = size;
    return 0;
}

static void close_file(struct io_file *file)
{
    (void)file;
}

static const struct io_ops operations = { .write_durably = write_durably,
                                          .sync_data = sync_data,
                                          .now_ns = now_ns,
                                          .read = read_file,
                                          .close = close_file };
static struct io io = { .ops = &operations, .has_threads = true, .has_engine_threads = true };

/* ---- what else src/commit calls; see points.h ------------------------------------------------------- */

void encode_in_world(unsigned char *at, uint32_t seed, uint64_t lsn, const struct record_header *record,
                     const void *data);
int make_ring_in_world(unsigned writes, struct io_ring **ret_ring);
void destroy_ring_in_world(struct io_ring *ring);
int ring_fd_in_world(const struct io_ring *ring);
void nudge_in_world(struct io_ring *ring);
void submit_in_world(struct io_ring *ring, struct io_write *write);
bool hand_over_in_world(struct io_ring *ring);
struct io_write *reap_in_world(struct io_ring *ring);
void wait_in_ring_in_world(struct io_ring *ring, uint64_t deadline_ns);
void wake_in_world(struct io_ring *ring);
void signal_in_world(bool is_on);
void watch_in_world(bool is_on);
void close_in_world(struct segment *segment);
void want_spare_in_world(struct keeper *keeper, uint64_t group_bytes, uint64_t after_lsn, uint32_t number);
bool take_in_world(struct keeper *keeper, uint64_t min_bytes, struct segment *ret_segment);
int want_in_world(struct keeper *keeper, uint64_t min_bytes, uint64_t after_lsn, uint32_t number,
                  const struct keeper_listener *listener, uint64_t *since);
int wait_in_world(struct keeper *keeper, uint64_t min_bytes, uint64_t after_lsn, uint32_t number);
int help_in_world(struct keeper *keeper);
void leave_in_world(struct keeper *keeper, const struct segment *segment, const struct segment *next);
void tell_in_world(struct keeper *keeper);
void *aligned_alloc_in_world(size_t alignment, size_t bytes);
void *calloc_in_world(size_t count, size_t bytes);
void free_in_world(void *memory);
void nap_in_world(struct io *io, unsigned yields, unsigned *turns);
void *private_memory_in_world(size_t bytes);

/* Writers that do the same can exchange their names: then the writer of the first record may be called the first. */
static bool is_renamed(uint64_t lsn, const struct record *record)
{
    for (unsigned i = 1; i < now.writers; i++)
        if (now.scenario->ways[i] != now.scenario->ways[0])
            return false;
    return lsn != record->writer;
}

/* The copy. Of several into one buffer none knows of the other, so to the scheduler they only read it. */
void encode_in_world(unsigned char *at, uint32_t seed, uint64_t lsn, const struct record_header *record,
                     const void *data)
{
    if (is_renamed(lsn, data))
        abandon();
    point(STEP_READ, &world.in_flight[buffer_of(at)], "the buffer", __func__);
    twl_record_encode(at, seed, lsn, record, data);
}

void nap_in_world(struct io *io_, unsigned yields, unsigned *turns)
{
    (void)io_;
    (void)yields;
    (void)turns;
    twl_yield();
}

/* ---- the ring ---- */

int make_ring_in_world(unsigned writes, struct io_ring **ret_ring)
{
    (void)writes;
    if (!(now.scenario->traits & IS_DRIVEN))
        violation("a committer of one log makes a ring, which it does not use");
    *ret_ring = &world.ring;
    return 0;
}

void destroy_ring_in_world(struct io_ring *ring)
{
    (void)ring;
}

/* It is only put into an epoll set, which is not there. */
int ring_fd_in_world(const struct io_ring *ring)
{
    (void)ring;
    return 0;
}

/* No write is late: the timer does not end here. */
void nudge_in_world(struct io_ring *ring)
{
    (void)ring;
    violation("a nudge");
}

/* Only the fiber with the turn knows of it. */
void submit_in_world(struct io_ring *ring, struct io_write *write)
{
    if (ring->queued)
        violation("two writes of one log");
    ring->queued = write;
}

bool hand_over_in_world(struct io_ring *ring)
{
    struct io_write *write = ring->queued;
    if (!write)
        return true;
    ring->queued = NULL;
    if (write->size > 0)
        begin_write(write);
    point(STEP_WRITE, ring, "the ring", __func__);
    if (ring->in_flight)
        violation("two writes in flight");
    ring->in_flight = write;
    twl_event_notify_all(&ring->submitted);
    return true;
}

struct io_write *reap_in_world(struct io_ring *ring)
{
    hand_over_in_world(ring);
    point(STEP_WRITE, ring, "the ring", __func__);
    struct io_write *write = ring->done;
    ring->done = NULL;
    return write;
}

static bool has_completion(const struct io_ring *ring)
{
    point(STEP_READ, ring, "the ring", __func__);
    return ring->done != NULL;
}

void wait_in_ring_in_world(struct io_ring *ring, uint64_t deadline_ns)
{
    hand_over_in_world(ring);
    const uint32_t seen = twl_event_value(&ring->changed);
    if (!has_completion(ring) && !ring->is_called)
        twl_event_sleep_until(&ring->changed, seen, deadline_ns);
    point(STEP_WRITE, ring, "the ring", __func__);
    ring->is_called = false;
}

void wake_in_world(struct io_ring *ring)
{
    point(STEP_WRITE, ring, "the ring", __func__);
    ring->is_called = true;
    twl_event_notify_all(&ring->changed);
}

/* The disk: it ends each write at some time. */
static void *serve_ring(void *context)
{
    struct io_ring *ring = context;
    for (;;) {
        const uint32_t seen = twl_event_value(&ring->submitted);
        point(STEP_READ, ring, "the ring", __func__);
        struct io_write *write = ring->in_flight;
        if (!write) {
            twl_event_sleep(&ring->submitted, seen);
            continue;
        }
        if (write->size > 0)
            end_write(write);
        else
            write->ret_synced = sync_data(write->file);
        point(STEP_WRITE, ring, "the ring", __func__);
        ring->in_flight = NULL;
        ring->done = write;
        twl_event_notify_all(&ring->changed);
        twl_event_notify_all(&world.readable);
    }
    return NULL;
}

void signal_in_world(bool is_on)
{
    point(STEP_WRITE, &world.is_signalled, "the eventfd", __func__);
    world.is_signalled = is_on;
    if (is_on)
        twl_event_notify_all(&world.readable);
}

void watch_in_world(bool is_on)
{
    point(STEP_WRITE, &world.is_watched, "the epoll set", __func__);
    world.is_watched = is_on;
    twl_event_notify_all(&world.readable);
}

/* As epoll_wait() for the descriptor of the queue alone. While another fiber has the turn, a completion stays, and the
 * loop comes round again and again: one round is tried, and stands for all. */
static void wait_until_readable(bool *has_come_round)
{
    for (;;) {
        const uint32_t seen = twl_event_value(&world.readable);
        point(STEP_READ, &world.is_signalled, "the eventfd", __func__);
        if (world.is_signalled)
            return;
        point(STEP_READ, &world.is_watched, "the epoll set", __func__);
        if (world.is_watched && has_completion(&world.ring)) {
            if (*has_come_round)
                point(STEP_CHANGED, &world.ring, "the ring", __func__);
            *has_come_round = true;
            return;
        }
        *has_come_round = false;
        twl_event_sleep(&world.readable, seen);
    }
}

/* ---- the rest ---- */

void close_in_world(struct segment *segment)
{
    *segment = (struct segment){ 0 };
}

void want_spare_in_world(struct keeper *keeper, uint64_t group_bytes, uint64_t after_lsn, uint32_t number)
{
    (void)keeper, (void)group_bytes, (void)number;
    come_to_the_keeper(STEP_WRITE, __func__);
    if (after_lsn > world.synced.lsn)
        violation("a spare says that %" PRIu64 " is durable", after_lsn);
}

bool take_in_world(struct keeper *keeper, uint64_t min_bytes, struct segment *ret_segment)
{
    (void)keeper, (void)min_bytes;
    come_to_the_keeper(STEP_READ, __func__);
    if (world.made == world.taken)
        return false;
    *ret_segment = world.segments[world.taken++];
    return true;
}

/* 1, 0, or an error, as twl_keeper_want() says. */
static int outcome(uint64_t since)
{
    return world.made > world.taken ? 1 : world.failed > since ? -ENOSPC : 0;
}

int want_in_world(struct keeper *keeper, uint64_t min_bytes, uint64_t after_lsn, uint32_t number,
                  const struct keeper_listener *listener, uint64_t *since)
{
    (void)keeper, (void)min_bytes, (void)after_lsn, (void)number;
    come_to_the_keeper(STEP_WRITE, __func__);
    const uint64_t from = since ? min_u64(*since, world.attempts) : world.attempts;
    const int rc = outcome(from);
    if (rc != 0)
        return rc;
    if (since)
        *since = from;
    if (!(now.scenario->traits & IS_SMALL))
        violation("a segment is wanted, and the first one is large");
    world.asked = listener;
    twl_event_notify_all(&world.work);
    return !since && world.failed > 0 ? -ENOSPC : 0;
}

/* Only for the marker of a close, in a segment without room for it. */
int wait_in_world(struct keeper *keeper, uint64_t min_bytes, uint64_t after_lsn, uint32_t number)
{
    (void)keeper, (void)min_bytes, (void)after_lsn, (void)number;
    violation("the close waits for a segment");
}

/* It has a thread. */
int help_in_world(struct keeper *keeper)
{
    (void)keeper;
    return 0;
}

/* The keeper's thread: an attempt for each question. */
static void *keep(void *context)
{
    (void)context;
    for (;;) {
        const uint32_t seen = twl_event_value(&world.work);
        if (!world.asked) {
            twl_event_sleep(&world.work, seen);
            continue;
        }
        point(STEP_WRITE, &world.made, "the keeper", __func__);
        const struct keeper_listener *listener = world.asked;
        world.asked = NULL;
        world.attempts++;
        point(STEP_WRITE, &world.made, "the keeper", __func__);
        if (now.scenario->traits & HAS_NO_NEXT)
            world.failed = world.attempts;
        else if (world.made == world.taken && world.made++ == FILES)
            violation("too many segments");
        listener->tell(listener->context);
    }
    return NULL;
}

void leave_in_world(struct keeper *keeper, const struct segment *segment, const struct segment *next)
{
    (void)keeper, (void)segment, (void)next;
}

void tell_in_world(struct keeper *keeper)
{
    (void)keeper;
}

/* Memory of the commit path. It is put back byte by byte, so it lies in one place. */
static struct heap {
    _Alignas(64) unsigned char bytes[HEAP_BYTES];
    size_t used;
} heap, buffers;

static void *take_from(struct heap *from, size_t bytes)
{
    void *memory = from->bytes + from->used;
    from->used += (size_t)align_up(bytes, 64);
    if (from->used > HEAP_BYTES)
        violation("more memory than there is");
    return memory;
}

static void empty(struct heap *full)
{
    memset(full->bytes, 0, full->used);
    full->used = 0;
}

void *aligned_alloc_in_world(size_t alignment, size_t bytes)
{
    (void)alignment;
    return take_from(&heap, bytes);
}

void *calloc_in_world(size_t count, size_t bytes)
{
    return take_from(&heap, count * bytes);
}

void free_in_world(void *memory)
{
    (void)memory;
}

void *private_memory_in_world(size_t bytes)
{
    return take_from(&buffers, bytes);
}

/* ---- the writers ----------------------------------------------------------------------------------- */

static unsigned char payloads[MAX_WRITERS][LARGE_BYTES];
static struct {
    unsigned fibers[MAX_WRITERS];
    uint64_t accepted;  /* records */
    uint64_t completed; /* LSN of the newest request */
    unsigned requests, completions;
    struct twinlog_queue *queue;
    struct twinlog_committer *committer;
    struct twinlog_request request[MAX_WRITERS];
    bool is_completed[MAX_WRITERS]; /* the request */
    struct twinlog_cancel cancel;
} work;

static void check_answer(uint64_t lsn, unsigned writer, enum twinlog_level level)
{
    point(STEP_READ, &world, "the disk", __func__);
    const struct walk *walk = level == TWINLOG_LEVEL_DURABLE ? &world.synced : &world.seen;
    if (walk->lsn < lsn)
        violation("%c is told that %" PRIu64 " is there, and %" PRIu64 " is", 'a' + (int)writer, lsn,
                  walk->lsn);
    if (world.records[lsn].writer != writer + 1)
        violation("record %" PRIu64 " is another one", lsn);
}

static void complete(const struct twinlog_request *request)
{
    note("request of %" PRIu64 " is completed: %d", request->first_lsn, (int)request->result);
    work.completions++;
    work.is_completed[(uintptr_t)request->context] = true;
    if (request->first_lsn <= work.completed)
        violation("request of %" PRIu64 " is completed behind %" PRIu64, request->first_lsn, work.completed);
    work.completed = request->first_lsn;
    if (request->result == 0)
        check_answer(request->first_lsn, (unsigned)(uintptr_t)request->context, TWINLOG_LEVEL_DURABLE);
    else if (request->result != TWINLOG_EPOISONED || !world.has_failed)
        violation("request of %" PRIu64 " is completed with %d", request->first_lsn, (int)request->result);
}

/* What has come out of the queue so far. */
static void fetch(void)
{
    struct twinlog_request *request;
    while (twinlog_queue_poll(work.queue, &request, 1, 0) == 1)
        complete(request);
}

static struct terms terms_of(enum way way)
{
    struct terms terms = { .level = TWINLOG_LEVEL_DURABLE };
    if (way == WAY_WRITTEN)
        terms.level = TWINLOG_LEVEL_WRITTEN;
    if (way == WAY_ENQUEUE)
        terms.level = TWINLOG_LEVEL_BUFFERED;
    if (way == WAY_DEADLINE)
        terms.deadline_ns = FOR_EVER;
    if (way == WAY_CANCELED)
        terms.cancel = &work.cancel;
    terms.is_try = way == WAY_TRY;
    return terms;
}

static bool may_fail(enum way way, int rc, bool is_accepted)
{
    if (world.has_failed)
        return rc == world.error || (!is_accepted && rc == TWINLOG_EPOISONED) || rc == -ETIMEDOUT ||
               rc == -ECANCELED;
    return (way == WAY_DEADLINE && rc == -ETIMEDOUT) || (way == WAY_CANCELED && rc == -ECANCELED) ||
           (way == WAY_TRY && rc == -EAGAIN && !is_accepted) ||
           ((now.scenario->traits & HAS_NO_NEXT) && rc == -ENOSPC && !is_accepted);
}

static void append(enum way way, unsigned writer)
{
    const struct record record = { writer + 1 };
    const size_t bytes = now.scenario->bytes > 0 ? now.scenario->bytes : sizeof(record);
    const struct twinlog_entry entry = { .data = payloads[writer], .size = bytes };
    const struct batch batch = { .entries = &entry, .count = 1, .kind = RECORD_DATA };
    const struct terms terms = terms_of(way);
    const bool is_request = way == WAY_SUBMIT || way == WAY_LOOP || way == WAY_POLL;
    struct twinlog_request *request = is_request ? &work.request[writer] : NULL;
    uint64_t lsn = 0;
    memcpy(payloads[writer], &record, sizeof(record));
    if (request) {
        *request = (struct twinlog_request){ .queue = work.queue, .context = (void *)(uintptr_t)writer };
        work.requests++;
    }
    int rc = twl_commit_put(commit, &batch, &terms, request, &lsn);
    note("put returns %d, LSN %" PRIu64, rc, lsn);
    if (rc < 0) {
        work.requests -= request != NULL;
        if (!may_fail(way, rc, false))
            violation("%c is refused: %d", 'a' + (int)writer, rc);
        return;
    }
    work.accepted++;
    if (request)
        return;
    rc = twl_commit_wait(commit, lsn, &terms, true);
    note("wait returns %d", rc);
    if (rc == 0 && way != WAY_ENQUEUE)
        check_answer(lsn, writer, way == WAY_WRITTEN ? TWINLOG_LEVEL_WRITTEN : TWINLOG_LEVEL_DURABLE);
    if (rc < 0 && !may_fail(way, rc, true))
        violation("%c gets the error %d", 'a' + (int)writer, rc);
}

/* What was submitted is written when the queue is polled. */
static void run_loop(unsigned writer)
{
    bool has_come_round = false;
    append(WAY_LOOP, writer);
    if (work.request[writer].count == 0)
        return; /* it was refused */
    for (fetch(); !work.is_completed[writer]; fetch())
        wait_until_readable(&has_come_round);
}

static void wait_in_polls(unsigned writer)
{
    struct twinlog_request *request;
    append(WAY_POLL, writer);
    if (work.request[writer].count == 0)
        return; /* it was refused */
    while (!work.is_completed[writer])
        if (twinlog_queue_poll(work.queue, &request, 1, -1) == 1)
            complete(request);
}

static void flush(unsigned writer)
{
    const struct terms terms = terms_of(WAY_FLUSH);
    const uint64_t lsn = twl_commit_last_lsn(commit);
    const int rc = twl_commit_wait(commit, lsn, &terms, false);
    note("flush of %" PRIu64 " returns %d", lsn, rc);
    point(STEP_READ, &world, "the disk", __func__);
    if (rc < 0 ? !may_fail(WAY_FLUSH, rc, true) : world.synced.lsn < lsn)
        violation("%c flushes %" PRIu64 ": %d, and %" PRIu64 " is durable", 'a' + (int)writer, lsn, rc,
                  world.synced.lsn);
}

static void *write_records(void *context)
{
    const unsigned writer = (unsigned)(uintptr_t)context;
    const enum way way = now.scenario->ways[writer];
    if (way == WAY_CANCEL) {
        point(STEP_WRITE, &work.cancel.is_canceled, "the token", __func__);
        work.cancel.is_canceled = 1;
        twl_commit_wake_all(commit);
        return NULL;
    }
    if (way == WAY_FLUSH)
        flush(writer);
    else if (way == WAY_LOOP)
        run_loop(writer);
    else if (way == WAY_POLL)
        wait_in_polls(writer);
    else
        append(way, writer);
    return NULL;
}

/* Others may come in between here. */
static void be_still(void)
{
    point(STEP_WRITE, &world.made, "the keeper", __func__);
    world.is_still = true;
    point(STEP_WRITE, &world.made, "the keeper", __func__);
    point(STEP_READ, &commit->leadership.is_taken, "leadership", __func__);
    if (!atomic_load(&commit->leadership.is_taken))
        violation("a leader has ended a round, and the commit path is called still");
    world.is_still = false;
}

static void truncate_log(void)
{
    const int rc = twl_commit_stop(commit);
    if (rc < 0)
        violation("the stop: %d", rc);
    be_still();
    twl_commit_go_on(commit);
}

/* When they have returned: closes the log. */
static void *close_log(void *context)
{
    (void)context;
    for (unsigned i = 0; i < now.writers; i++)
        fiber_join(work.fibers[i]);
    fetch();
    if (now.scenario->traits & IS_CUT)
        truncate_log();
    int rc = twl_commit_end(commit);
    if (rc == 0)
        rc = twl_commit_write_marker(commit, GROUP_CLOSE);
    if (now.scenario->traits & IS_CUT)
        be_still();
    if (rc != world.error && !(rc == TWINLOG_EPOISONED && world.has_failed))
        violation("the mark of the close: %d", rc);
    if (rc == 0 && (world.synced.lsn != work.accepted || !world.synced.is_closed))
        violation("%" PRIu64 " of %" PRIu64 " records are durable after the close", world.synced.lsn,
                  work.accepted);
    if (twl_commit_last_lsn(commit) != work.accepted)
        violation("%" PRIu64 " records, and the last LSN is %" PRIu64, work.accepted,
                  twl_commit_last_lsn(commit));
    fetch();
    twl_commit_destroy(commit);
    if (work.committer && twinlog_committer_close(work.committer) < 0)
        violation("the committer is in use");
    if (work.completions != work.requests)
        violation("%u of %u requests are completed", work.completions, work.requests);
    if (twinlog_queue_close(work.queue) < 0)
        violation("the queue is not empty");
    commit = NULL;
    return NULL;
}

/* ---- an execution ----------------------------------------------------------------------------------- */

static struct segment *make_segment(unsigned number)
{
    struct segment *segment = &world.segments[number];
    *segment =
        (struct segment){ .file = &world.files[number].io_file,
                          .header = { .sequence = number + 1, .segment_id = number + 1, .bytes = FILE_BYTES },
                          .data_end = twl_segment_data_end(FILE_BYTES),
                          .write_end = twl_segment_data_end(FILE_BYTES),
                          .summary = &world.summaries[number] };
    segment->seed = twl_segment_seed(&segment->header);
    struct file *file = &world.files[number];
    file->io_file.io = &io;
    memset(file->seen, 0, file->end);
    memset(file->synced, 0, file->end);
    file->end = file->seen_digest = file->synced_digest = 0;
    twl_summary_begin(segment->summary);
    return segment;
}

static struct page_words page;
static struct counters counters;
static struct statistics statistics; /* nobody decides by what is in it; see points.h */
static struct shared_page shared = {
    .page = &page, .statistics = &statistics, .is_ours = true, .is_private = true, .is_writable = true
};

static void begin(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    wakes_are_late = now.scenario->traits & IS_LATE;
    memset(&work, 0, sizeof(work));
    memset(&page, 0, sizeof(page));
    empty(&heap);
    empty(&buffers);
    memset(world.records, 0, sizeof(world.records));
    for (unsigned i = 0; i < FILES; i++)
        make_segment(i);
    if (now.scenario->traits & IS_SMALL) /* one group, and what is kept free for markers */
        world.segments[0].data_end = world.segments[0].write_end =
            SEGMENT_DATA_OFFSET + (now.scenario->bytes == LARGE_BYTES ? 6 : 5) * BLOCK_BYTES;
    if (now.scenario->traits & IS_CUT) /* so that its second group is behind the middle */
        world.segments[0].header.bytes = 2 * (SEGMENT_DATA_OFFSET + GROUP_HEADER_BYTES + 8);
    world.taken = world.made = 1;
    world.attempts = world.failed = 0;
    world.work = (struct twl_event){ 0 };
    world.asked = NULL;
    world.is_still = false;
    world.is_signalled = world.is_watched = false;
    world.readable = (struct twl_event){ 0 };
    world.ring = (struct io_ring){ 0 };
    world.writes = 0;
    world.in_flight_bytes = 0;
    world.error = 0;
    world.has_failed = false;
    world.seen = world.synced = (struct walk){ .segment = &world.segments[0], .offset = SEGMENT_DATA_OFFSET };
    options.buffer_bytes = BUFFER_BYTES;
    options.max_record_bytes = LARGE_BYTES;
    options.segment_bytes = FILE_BYTES;
    if (twinlog_queue_open(&work.queue) < 0)
        violation("no queue");
    if (now.scenario->traits & IS_DRIVEN) {
        struct twinlog_committer_options without_thread = TWINLOG_COMMITTER_OPTIONS_INIT;
        without_thread.queue = work.queue;
        if (twinlog_committer_open(&without_thread, &work.committer) < 0)
            violation("no committer");
        options.committer = work.committer;
    }
    const struct commit_config config = { .io = &io,
                                          .segment = world.segments[0],
                                          .offset = SEGMENT_DATA_OFFSET,
                                          .position = { .next_lsn = 1 },
                                          .epoch = epoch,
                                          .options = &options,
                                          .shared = &shared,
                                          .counters = &counters };
    epoch_seed = twl_epoch_seed(world.segments[0].header.log_id, epoch);
    if (twl_commit_create(&config, &commit) < 0 || twl_commit_stop(commit) < 0 ||
        twl_commit_write_marker(commit, GROUP_START) < 0)
        violation("no log");
    twl_commit_go_on(commit);
    for (unsigned i = 0; i < now.writers; i++)
        work.fibers[i] = fiber_start(write_records, (void *)(uintptr_t)i, false);
    fiber_start(close_log, NULL, false);
    if (now.scenario->traits & IS_SMALL)
        fiber_start(keep, NULL, true);
    if (now.scenario->traits & IS_DRIVEN)
        fiber_start(serve_ring, &world.ring, true);
    if ((now.scenario->traits & HAS_COMMITTER) && twl_commit_need_committer(commit) < 0)
        violation("no committer");
}

static unsigned add_part(struct memory *ret_part, void *address, size_t bytes, size_t told_bytes)
{
    *ret_part = (struct memory){ address, bytes, told_bytes };
    return 1;
}

/* Of a buffer, what lies behind the last block that is used is written before anybody reads it, and behind what is
 * used are zeros when anybody does. */
static unsigned memory_of_buffers(struct memory *ret_parts)
{
    for (unsigned i = 0; i < 2; i++) {
        const size_t used = commit ? commit->twins[i].used : 0;
        add_part(&ret_parts[i], buffers.bytes + i * (size_t)BUFFER_BYTES, align_up(used, BLOCK_BYTES), used);
    }
    return 2;
}

static unsigned memory_of_files(struct memory *ret_parts)
{
    unsigned count = 0;
    for (unsigned i = 0; i < FILES; i++) {
        struct file *file = &world.files[i];
        struct summary *summary = &world.summaries[i];
        const size_t rest = sizeof(*file) - offsetof(struct file, end);
        const size_t bytes = file->end > SEGMENT_DATA_OFFSET ? file->end - SEGMENT_DATA_OFFSET : 0;
        const size_t entries = summary->index.count * sizeof(summary->index.entries[0]);
        const size_t summary_bytes = offsetof(struct summary, index.entries) + entries;
        count += add_part(&ret_parts[count], file->seen + SEGMENT_DATA_OFFSET, bytes, 0);
        count += add_part(&ret_parts[count], file->synced + SEGMENT_DATA_OFFSET, bytes, 0);
        count += add_part(&ret_parts[count], &file->end, rest, rest);
        count += add_part(&ret_parts[count], summary, summary_bytes, summary_bytes);
    }
    return count;
}

/* All that changes while the fibers run, but for what is theirs. */
static unsigned memory(struct memory *ret_parts)
{
    const size_t rest =
        sizeof(world) - (size_t)((unsigned char *)&world.in_flight_bytes - (unsigned char *)&world);
    unsigned count = memory_of_files(ret_parts);
    count += memory_of_buffers(&ret_parts[count]);
    count += add_part(&ret_parts[count], heap.bytes, heap.used, heap.used);
    count += add_part(&ret_parts[count], &heap.used, sizeof(heap.used), sizeof(heap.used));
    count += add_part(&ret_parts[count], world.in_flight, world.in_flight_bytes, 0);
    count += add_part(&ret_parts[count], &world.in_flight_bytes, rest, rest);
    count += add_part(&ret_parts[count], &work, sizeof(work), sizeof(work));
    count += add_part(&ret_parts[count], &page, sizeof(page), sizeof(page));
    count += add_part(&ret_parts[count], &shared, sizeof(shared), sizeof(shared));
    count += add_part(&ret_parts[count], &commit, sizeof(commit), sizeof(commit));
    for (unsigned i = 0; i < now.writers; i++)
        count += add_part(&ret_parts[count], payloads[i], sizeof(struct record), sizeof(struct record));
    return count;
}

static void check(void)
{
    if (!commit)
        return;
    const uint64_t durable = watermark_load(&commit->durable),
                   published = watermark_load(&commit->shared->page->durable);
    if (durable > world.synced.lsn || published > world.synced.lsn || published < durable)
        violation("the watermarks are %" PRIu64 " and %" PRIu64 ", and %" PRIu64 " is durable", durable,
                  published, world.synced.lsn);
    if (commit->written > world.seen.lsn)
        violation("%" PRIu64 " is called written, and %" PRIu64 " is", commit->written, world.seen.lsn);
}

/* ---- the program ------------------------------------------------------------------------------------ */

static void help(void)
{
    printf(
        "usage: interleave [OPTIONS] [SCENARIO...]\n\n"
        "  --writers N       1 to %d (2)\n"
        "  --preemptions N   only executions with at most so many; all without it\n"
        "  --replay SCHEDULE runs one execution of one scenario, and prints it\n\nscenarios, all without one:\n",
        MAX_WRITERS);
    for (size_t i = 0; i < scenario_count; i++)
        printf("  %-20s%s\n", scenarios[i].name, scenarios[i].what);
}

static void print_count(const struct exploration_count *count, uint64_t seconds)
{
    printf("%-18s %u: %9" PRIu64 " states, %9" PRIu64 " steps, %" PRIu64 " ends, %" PRIu64
           " renamed, %u searches, %3" PRIu64 " s\n",
           now.scenario->name, now.writers, count->states, count->steps, count->ends, count->renamed,
           count->searches, seconds);
}

static void try_scenario(const struct scenario *scenario, struct exploration *plan)
{
    static char command[200];
    int length =
        snprintf(command, sizeof(command), "interleave %s --writers %u", scenario->name, now.writers);
    if (plan->preemptions < NO_BOUND)
        snprintf(command + length, sizeof(command) - (size_t)length, " --preemptions %u", plan->preemptions);
    plan->command = command;
    now.scenario = scenario;
    const uint64_t began = (uint64_t)time(NULL);
    const struct exploration_count count = explore(plan);
    print_count(&count, (uint64_t)time(NULL) - began);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    uint64_t writers = now.writers, preemptions = NO_BOUND;
    struct exploration plan = { .begin = begin, .check = check, .memory = memory };
    const struct argument arguments[] = {
        { "writers", .number = &writers },
        { "preemptions", .number = &preemptions },
        { "replay", .text = &plan.replay },
        { 0 },
    };
    const int first = parse_arguments(arguments, NULL, help, argc, argv);
    if (writers == 0 || writers > MAX_WRITERS || preemptions > NO_BOUND) {
        fprintf(stderr, "try: interleave --help\n");
        return 2;
    }
    now.writers = (unsigned)writers;
    plan.preemptions = (unsigned)preemptions;
    if (!can_explore()) {
        printf("SKIP interleave: not under a sanitizer, and only on x86-64\n");
        return 77;
    }
    for (size_t i = 0, tried = 0; i < scenario_count; i++) {
        bool is_wanted = first == argc;
        for (int j = first; j < argc; j++)
            is_wanted |= strcmp(argv[j], scenarios[i].name) == 0;
        if (is_wanted && tried++ < MAX_RECORDS)
            try_scenario(&scenarios[i], &plan);
    }
    return EXIT_SUCCESS;
}
