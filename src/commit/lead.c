/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader's round: twl_lead_round(), near the end of the file. There is one leader at a time, and so one group in
 * flight: groups become durable in LSN order (I2), and are published behind the sync that covers them (I1).
 *
 * A group with no record that has to be durable is only written. A later group syncs it, or a round that does nothing
 * else. A sync that covers one write does not cover the writes before it, so the first synced group after unsynced
 * ones syncs the whole file. A segment is synced before it is left, so that only the newest one may be in doubt after
 * a crash. The first group of a segment is always synced.
 *
 * A failed write or sync poisons the log (I5): the leader stores the error before it gives up leadership, and a new
 * leader checks it before it writes.
 */
#define _GNU_SOURCE
#include "base/probes.h"
#include "commit/inside.h"

#include <errno.h>
#include <string.h>

#define YIELDS_FOR_LEADER 100u
#define PATIENCE 1000 /* tries of a write that is short, interrupted or makes no progress */
#define MAX_GATHER_SKIPS 64u
#define LONGEST_COMMIT_NS UINT64_C(100000000)
#define CROWD_IN_COMMIT 8u /* writers that come in the time of a commit */
/* In a crowd a writer leads at once if its group has this part of the expected records, and at least so many. */
#define CROWD_PART 4u
#define CROWD_LEAST 32u
/* A leader waits for requests only while all that is on its way has at most so many bytes: about what a disk writes in
 * the time that a write costs however small it is, which is what a gathering saves. */
#define MOST_TO_GATHER (256u << 10)
#define MOST_FOR_CACHE (64u << 10) /* of a synced group: what is larger takes longer to copy than to read */
#ifndef YIELDS_FOR_COPIES          /* test/interleave sets it to 0 */
#define YIELDS_FOR_COPIES 16u
#endif

/* ---- leadership ---------------------------------------------------------------------------------- */

bool twl_try_lead(struct commit *c) NO_THREAD_SAFETY_ANALYSIS
{
    return !atomic_load(&c->leadership.is_taken) && !atomic_exchange(&c->leadership.is_taken, true);
}

void twl_lead_patiently(struct commit *c) NO_THREAD_SAFETY_ANALYSIS
{
    unsigned turns = 0;

    while (!twl_try_lead(c)) {
        if (c->client.is_driven)
            twl_client_wait_briefly(c); /* a round ends when a thread drives */
        else
            twl_nap(c->io, YIELDS_FOR_LEADER, &turns);
    }
}

static void stop_leading(struct commit *c) RELEASES(c->leadership) NO_THREAD_SAFETY_ANALYSIS
{
    atomic_store(&c->leadership.is_taken, false);
}

/* ---- gathering ----------------------------------------------------------------------------------- */

/* Number of writers that wait for the group, and of requests that are completed with it. */
static uint32_t joined_by(const struct twin *twin)
{
    return twin->waiters + (uint32_t)twin->requests.count;
}

/* Number of expected writers and requests that have not joined yet, and are worth waiting for. */
static uint32_t count_missing(struct commit *c, bool *ret_are_requests)
{
    twl_mutex_lock(&c->lock);
    const struct twin *filling = &c->twins[c->filling], *last = other_twin(c, filling);
    const uint32_t joined = joined_by(filling);
    *ret_are_requests = filling->requests.count > filling->waiters;
    const bool is_large = *ret_are_requests && last->used + filling->used > MOST_TO_GATHER;
    twl_mutex_unlock(&c->lock);

    if (is_large || joined >= c->expected)
        return 0;
    return c->expected - joined;
}

/* What a gathering goes by. After a disk has hung, commits are remembered that took many seconds. */
static uint64_t commit_ns(const struct commit *c) REQUIRES(c->leadership)
{
    return min_u64(c->sync_ns, LONGEST_COMMIT_NS);
}

/* The gathering took too long, so it is skipped for a while. If many came meanwhile, the writers wait for the processor
 * and not for the disk. If few came, they do something else, or other programs have the processor. */
static void give_up_gathering(struct commit *c, uint32_t came, uint64_t waited_ns) REQUIRES(c->leadership)
{
    const bool is_crowd = came * commit_ns(c) > waited_ns * CROWD_IN_COMMIT;
    uint32_t batch_floor = 0;

    c->gather_misses++;
    c->gather_skips = (uint32_t)min_u64(1u << min_u64(c->gather_misses, 6), MAX_GATHER_SKIPS);
    if (is_crowd)
        batch_floor = (uint32_t)max_u64(c->expected / CROWD_PART, CROWD_LEAST);
    atomic_store_explicit(&c->batch_floor, batch_floor, memory_order_relaxed);
}

/* A gathering may take half of a commit. One for requests ends after a quarter, if few have come by then: their program
 * does something else. */
static bool takes_too_long(const struct commit *c, uint64_t waited_ns, bool are_requests, bool few_have_come)
    REQUIRES(c->leadership)
{
    if (waited_ns > commit_ns(c) / 2)
        return true;
    return are_requests && few_have_come && waited_ns > commit_ns(c) / 4;
}

/* Lets the writers that were woken a moment ago come back with their next record: with one group in flight, a writer
 * that just misses a group waits for two. "Tuning" in docs/design.md has the rules. */
static void gather(struct commit *c) REQUIRES(c->leadership)
{
    if (c->expected <= 1) { /* a single writer never waits */
        atomic_store_explicit(&c->batch_floor, 0, memory_order_relaxed);
        return;
    }
    if (c->gather_skips > 0) {
        c->gather_skips--;
        return;
    }

    bool are_requests;
    const uint64_t began_ns = twl_monotonic_ns();
    const uint32_t missing = count_missing(c, &are_requests);

    uint32_t left = missing;
    while (left > 0) {
        const uint64_t waited_ns = twl_monotonic_ns() - began_ns;
        if (takes_too_long(c, waited_ns, are_requests, left > missing / 2)) {
            give_up_gathering(c, missing - left, waited_ns);
            return;
        }
        twl_yield();
        left = count_missing(c, &are_requests);
    }

    /* All have come in the end, but a commit would have been over meanwhile. */
    const uint64_t took_ns = twl_monotonic_ns() - began_ns;
    if (missing > 0 && took_ns > commit_ns(c)) {
        give_up_gathering(c, missing, took_ns);
        return;
    }

    c->gather_misses = 0;
    atomic_store_explicit(&c->batch_floor, 0, memory_order_relaxed);
}

/* ---- giving up ----------------------------------------------------------------------------------- */

/* Completes all requests of a failed log, oldest first, even those of groups that will never be written. The log is
 * poisoned: the buffers get no more. */
static void complete_all(struct commit *c, int rc) REQUIRES(c->leadership)
{
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    twl_mutex_unlock(&c->lock);

    twl_complete(c, other_twin(c, filling), rc);
    twl_complete(c, filling, rc);
}

static void give_up_abandoned(struct commit *c) REQUIRES(c->leadership)
{
    const int error = atomic_load(&c->abandoned);

    if (error < 0 && atomic_load(&c->poison) == 0)
        complete_all(c, twl_commit_give_up(c, error));
}

/* ---- swapping ------------------------------------------------------------------------------------ */

/* A writer may have been descheduled during its copy: first yields, then sleeps. */
static void wait_for_copies(struct twin *twin)
{
    for (unsigned tries = 0; copies_left(twin) > 0; tries++) {
        if (tries < YIELDS_FOR_COPIES) {
            twl_yield();
            continue;
        }
        const uint32_t seen = twl_event_value(&twin->copied);
        if (copies_left(twin) > 0)
            twl_event_sleep(&twin->copied, seen);
    }
}

/* Was the first group of the active segment written so long ago? No if it has none yet, or the clock was set back. */
static bool is_of_age(const struct commit *c, uint64_t age_ms) REQUIRES(c->leadership)
{
    const int64_t began_ns = c->segment.summary->began_ns;
    if (began_ns == 0)
        return false;

    const int64_t now_ns = c->io->ops->now_ns(c->io);
    return now_ns > began_ns && ((uint64_t)now_ns - (uint64_t)began_ns) / 1000000 >= age_ms;
}

/* True if the active segment has the number of records or the age that the options allow, divided by `part`. */
static bool is_over_limit(const struct commit *c, unsigned part) REQUIRES(c->leadership)
{
    const struct summary *summary = c->segment.summary;
    const uint64_t most_records = c->options.segment_records, most_ms = c->options.segment_age_ms;
    const uint64_t records = summary->next_lsn - summary->first_lsn;

    if (most_records > 0 && records >= most_records / part)
        return true;
    return most_ms > 0 && is_of_age(c, most_ms / part);
}

static bool is_behind(const struct commit *c)
{
    return atomic_load_explicit(&c->written, memory_order_relaxed) > watermark_load(&c->durable);
}

/* Moves the group to the start of the next segment, at the same place within the block. */
static void roll(struct commit *c, struct twin *twin) REQUIRES(c->lock, c->leadership)
{
    c->left = c->segment;
    c->segment = c->next;
    c->next = (struct segment){ 0 };
    c->next_room = 0;
    c->has_asked_spare = false;
    twin->offset = SEGMENT_DATA_OFFSET;
}

/* The writers count in the memory of the lock. The leader takes the sums, and tells them behind its write. */
static void count_accepted(struct commit *c, struct round *round) REQUIRES(c->lock)
{
    c->appends += round->sealed->count;
    round->appends = c->appends;
    round->append_bytes = c->append_bytes;
    round->requests = c->requests;
}

/* Does nothing come behind the group in its last block? */
static bool ends_block(const struct commit *c, enum group_kind kind)
{
    if (c->options.flags & TWINLOG_PAD)
        return true;
    return kind == GROUP_START && c->options.buffer_bytes > GROUP_GAP_BYTES;
}

/* Where in its segment the group behind the sealed one begins. */
static uint64_t next_offset(const struct commit *c, const struct round *round)
{
    const uint64_t end = round->sealed->offset + round->sealed->used;

    if (ends_block(c, round->kind))
        return align_up(end, BLOCK_BYTES);
    return end;
}

/* Decides whether the group goes to the next segment. It does if its records have got their places there already, or if
 * it should leave the active one and the next one is ready. */
static void choose_segment(struct commit *c, struct twin *twin, bool should_leave)
    REQUIRES(c->lock, c->leadership)
{
    bool has_next = c->next_room > 0;

    if (!has_next && should_leave)
        has_next = twl_take_next(c, align_up(twin->used, BLOCK_BYTES));
    if (has_next)
        roll(c, twin);
}

/* Seals the filling buffer, decides where its group goes, and lets the writers go on in the other buffer. */
static void seal_filling(struct commit *c, struct round *round, bool should_leave)
    REQUIRES(c->lock, c->leadership)
{
    struct twin *twin = &c->twins[c->filling];

    round->sealed = twin;
    count_accepted(c, round);
    choose_segment(c, twin, should_leave);

    /* The keeper seals a segment only when no recovery can write to it again: behind a sync. */
    if (c->left.file)
        round->is_synced = true;

    twl_fill_twin(c, c->filling ^ 1, next_offset(c, round), twin->first_lsn + twin->count);
    atomic_store(&twin->is_sealed, true);
    twl_grant_places(c);
}

/* Number of writers and requests that wait for the round, and whether they want it synced. */
static void take_demands(struct commit *c, struct round *round, bool is_marker) REQUIRES(c->lock)
{
    const struct twin *filling = &c->twins[c->filling];

    round->joined = joined_by(filling);
    round->is_demanded = c->needs_sync;
    round->is_synced = is_marker || filling->wants_sync || c->needs_sync;
    c->needs_sync = false;
}

bool twl_round_begin(struct commit *c, struct round *round)
{
    const bool is_marker = round->kind != GROUP_RECORDS;
    const bool should_leave = !is_marker && is_over_limit(c, 1);

    give_up_abandoned(c);
    if (atomic_load(&c->poison) != 0) /* also if the previous leader has failed */
        return false;

    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    take_demands(c, round, is_marker);
    if (filling->count > 0 || is_marker)
        seal_filling(c, round, should_leave);
    else
        filling->needs_committer = false; /* a flush; the next caller that needs one calls again */
    twl_mutex_unlock(&c->lock);

    round->step = ROUND_COPY;
    if (!round->sealed)
        return round->is_synced && is_behind(c);
    twl_announce_room(c);
    return true;
}

/* ---- the group ----------------------------------------------------------------------------------- */

/* What has to be durable with the group: nothing, the group itself, or also what was written before it. */
static enum io_barrier barrier_for(const struct commit *c, const struct round *round)
{
    if (!round->is_synced)
        return IO_BARRIER_NONE;
    return is_behind(c) ? IO_BARRIER_FILE : IO_BARRIER_WRITE;
}

/* Should the group be in the page cache? A group that nobody needs on the disk is written faster so. One that a reader
 * is waiting for is found there: past the cache, the reader would have the disk read what it has just written. */
static bool is_for_cache(const struct commit *c, const struct round *round, size_t bytes)
{
    if (!round->is_synced)
        return true;
    return bytes <= MOST_FOR_CACHE && (is_behind(c) || twl_page_is_awaited(c->shared));
}

/* The header of the group, for its place in the active segment. */
static struct group_header describe_group(const struct commit *c, const struct round *round)
    REQUIRES(c->leadership)
{
    const struct twin *sealed = round->sealed;
    struct group_header group = {
        .first_lsn = sealed->first_lsn,
        .count = sealed->count,
        .bytes = sealed->used - sealed->start,
        .durable_lsn = watermark_load(&c->durable),
        .chain = c->chain,
        .epoch = c->epoch,
        .kind = (uint16_t)round->kind,
        .flags = c->group_flags,
        .time_ns = c->io->ops->now_ns(c->io),
    };

    const bool is_first = c->segment.summary->first_lsn == 0;
    if (is_first)
        group.flags |= GROUP_FIRST;
    if (round->kind == GROUP_START)
        group.writer = twl_writer();
    return group;
}

/* Writes the header in front of the records, and makes round->write the write of the whole buffer. */
static void encode_group(struct commit *c, struct round *round) REQUIRES(c->leadership)
{
    struct twin *sealed = round->sealed;
    const uint32_t end = sealed->used;
    const uint32_t block_end = (uint32_t)align_up(end, BLOCK_BYTES);

    /* Zeros behind the group, and in front of it if the block before is in another file. */
    memset(sealed->bytes + end, 0, block_end - end);
    if (c->left.file)
        memset(sealed->bytes, 0, sealed->start);

    round->group = describe_group(c, round);
    twl_group_header_encode(&round->group, c->segment.seed, sealed->offset + sealed->start,
                            sealed->bytes + sealed->start);

    round->write = (struct io_write){
        .file = c->segment.file,
        .data = sealed->bytes,
        .size = block_end,
        .offset = sealed->offset,
        .barrier = barrier_for(c, round),
        .is_for_cache = is_for_cache(c, round, block_end),
    };
    PROBE_GROUP_WRITE(c, round->group.first_lsn, round->write.size, round->write.offset);
}

/* ---- writing ------------------------------------------------------------------------------------- */

static void write_once(struct commit *c, struct io_write *write) REQUIRES(c->leadership)
{
    if (write->size == 0) {
        write->ret_written = 0;
        write->ret_synced = io_sync_data(write->file);
        return;
    }
    c->io->ops->write_durably(c->io, write);
}

/* Makes `write` that of the bytes which are not written yet. It begins at a block boundary again. Its barrier need
 * cover no more of the bytes before it than it did. */
static void keep_rest(struct io_write *write)
{
    const size_t advance = (size_t)align_down((uint64_t)write->ret_written, BLOCK_BYTES);

    write->data += advance;
    write->size -= advance;
    write->offset += advance;
}

/* Did the kernel not write for a reason that passes? -ECANCELED: a signal kept it from starting the write. */
static bool is_passing(int64_t error)
{
    return error == -EINTR || error == -EAGAIN || error == -ECANCELED;
}

/* Looks at the result of the last try. An error; or 0, and if not *ret_is_done, the write is what has to be tried
 * next. */
static int digest(struct io_write *write, bool *ret_is_done)
{
    const int64_t written = write->ret_written;

    *ret_is_done = false;
    if (is_passing(written)) {
        twl_yield();
        return 0;
    }
    if (written < 0)
        return (int)written;
    if ((size_t)written < write->size) {
        keep_rest(write);
        return 0;
    }

    /* The barrier never ran, for want of a thread or for a signal. Repeat it with its write. */
    if (write->ret_synced == -ECANCELED)
        return 0;
    if (write->ret_synced < 0)
        return write->ret_synced;

    *ret_is_done = true;
    return 0;
}

int twl_round_write(struct commit *c, struct round *round, bool is_tried)
{
    for (unsigned tries = 0; tries < PATIENCE; tries++) {
        if (tries > 0 || !is_tried)
            write_once(c, &round->write);

        bool is_done;
        const int rc = digest(&round->write, &is_done);
        if (rc < 0 || is_done)
            return rc;
    }
    return -EIO;
}

/* ---- publishing ---------------------------------------------------------------------------------- */

/* Publishes to readers first: when an append has returned, they find its record. */
static void publish_durable(struct commit *c, uint64_t lsn) REQUIRES(c->leadership)
{
    twl_page_publish_durable(c->shared, lsn);
    watermark_store(&c->durable, lsn);
    PROBE_GROUP_PUBLISH(c, lsn);
}

/* Orders the next segment in good time; a log that stays small never does. The header of that segment will say that
 * `durable_lsn` was durable. */
static void ask_for_spare(struct commit *c, uint64_t end, uint64_t durable_lsn) REQUIRES(c->leadership)
{
    if (c->has_asked_spare)
        return;
    const bool is_half_full = end >= c->segment.header.bytes / 2;
    if (!is_half_full && !is_over_limit(c, 2))
        return;

    const uint64_t mean_bytes = c->recent_bytes / max_u64(c->recent_groups, 1);
    c->has_asked_spare = true;
    twl_keeper_want_spare(c->keeper, mean_bytes, durable_lsn, c->epoch.number);
    c->recent_groups = 0;
    c->recent_bytes = 0;
}

/* Hands the previous segment to the keeper after the first group of the new one. Not earlier: a sealed segment is
 * never written again, and until the new segment has a group, a crash would bring the writer back to the old one. */
static void leave_segment(struct commit *c, const struct round *round) REQUIRES(c->leadership)
{
    twl_keeper_leave(c->keeper, &c->left, &c->segment);
    c->left = (struct segment){ 0 };
    add_alone(&c->statistics->rolls, 1);
    PROBE_ROLL(c, c->segment.header.sequence, round->group.first_lsn);
}

/* Also of a group that could not be written. */
static void tell_accepted(struct commit *c, const struct round *round) REQUIRES(c->leadership)
{
    struct statistics *statistics = c->statistics;

    set_alone(&statistics->appends, round->appends);
    set_alone(&statistics->append_bytes, round->append_bytes);
    set_alone(&statistics->requests, round->requests);
    twl_samples_take(&c->samples, (struct gauge *const[]){ [SAMPLE_QUEUE] = &statistics->queue,
                                                           [SAMPLE_COPY] = &statistics->copy,
                                                           [SAMPLE_WAKE] = &statistics->wake,
                                                           [SAMPLE_TOTAL] = &statistics->total });
}

static void count_group(struct commit *c, const struct round *round) REQUIRES(c->leadership)
{
    const struct twin *sealed = round->sealed;
    struct statistics *statistics = c->statistics;

    add_alone(&statistics->groups, 1);
    add_alone(&statistics->group_bytes, round->group.bytes);
    add_alone(&statistics->written_bytes, align_up(sealed->used, BLOCK_BYTES));
    if (round->is_synced)
        add_alone(&statistics->syncs, 1);
    if (sealed->count > 0) {
        c->recent_groups++;
        c->recent_bytes += sealed->used;
    }
    twl_gauge_add_alone(&statistics->group_records, sealed->count);
    twl_gauge_add_alone(&statistics->group_bytes_each, round->group.bytes);
    set_alone(&statistics->written_lsn, sealed->first_lsn + sealed->count - 1);
}

/* The next group begins with the last block of this one, if that is not full. */
static void repeat_last_block(struct commit *c, const struct round *round) REQUIRES(c->leadership)
{
    const struct twin *sealed = round->sealed;
    const uint32_t tail = sealed->used % BLOCK_BYTES;

    if (ends_block(c, round->kind))
        return;
    memcpy(other_twin(c, sealed)->bytes, sealed->bytes + sealed->used - tail, tail);
}

/* The group is written. Publishes last: a thread that waits for that may do anything next. */
static void finish_group(struct commit *c, struct round *round) REQUIRES(c->leadership)
{
    const struct twin *sealed = round->sealed;
    const uint64_t last_lsn = sealed->first_lsn + sealed->count - 1;
    const uint64_t begin = sealed->offset + sealed->start;
    const uint64_t end = sealed->offset + sealed->used;

    /* What the next group continues. */
    repeat_last_block(c, round);
    c->chain = round->group.checksum;

    twl_summary_add_group(c->segment.summary, &round->group, begin, sealed->min_ns, sealed->max_ns,
                          sealed->bytes + sealed->start);
    count_group(c, round);

    /* Before the group is published: readers look for its records in the segments that the keeper knows. */
    if (c->left.file)
        leave_segment(c, round);
    const uint64_t durable_lsn = round->is_synced ? last_lsn : watermark_load(&c->durable);
    ask_for_spare(c, end, durable_lsn);

    atomic_store_explicit(&c->written, last_lsn, memory_order_release);
    if (round->is_synced) {
        twl_page_note(c->shared, c->segment.header.segment_id, begin, end, sealed->count > 0);
        publish_durable(c, last_lsn);
    }
}

/* How long the write and the sync of a group took. A round that only syncs is not of interest to a gathering. */
static void note_time(struct commit *c, const struct round *round, uint64_t now_ns) REQUIRES(c->leadership)
{
    if (!round->sealed)
        return;

    const uint64_t took_ns = now_ns - round->began_ns;
    twl_gauge_add_alone(&c->statistics->write, took_ns);
    if (c->sync_ns == 0)
        c->sync_ns = took_ns;
    else
        c->sync_ns = (7 * c->sync_ns + took_ns) / 8;
    atomic_store_explicit(&round->sealed->done_ns, now_ns, memory_order_relaxed);
}

/* ---- the round ----------------------------------------------------------------------------------- */

/* The file with earlier writes that must be synced before anything else: the segment that is left; or the active one,
 * where nothing else is to be done. NULL: there is none. */
static struct io_file *file_to_sync_first(const struct commit *c, const struct round *round)
    REQUIRES(c->leadership)
{
    if (!round->sealed)
        return c->segment.file;
    if (is_behind(c))
        return c->left.file;
    return NULL;
}

/* The buffer is complete. True if earlier writes must be synced first, by round->write. */
static bool seal(struct commit *c, struct round *round) REQUIRES(c->leadership)
{
    struct twin *sealed = round->sealed;

    round->began_ns = twl_monotonic_ns();
    if (sealed) {
        atomic_store(&sealed->is_sealed, false);
        PROBE_GROUP_SEAL(c, sealed->first_lsn, sealed->count, sealed->used);
    }

    struct io_file *file = file_to_sync_first(c, round);
    if (!file)
        return false;
    round->write = (struct io_write){ .file = file, .barrier = IO_BARRIER_FILE };
    return true;
}

/* The last write of the round is done, or one has failed: publishes, or poisons the log, and completes requests. */
static void end_round(struct commit *c, struct round *round, int rc) REQUIRES(c->leadership)
{
    const uint64_t now_ns = twl_monotonic_ns();

    PROBE_GROUP_SYNC(c, now_ns - round->began_ns, rc);
    if (round->sealed)
        tell_accepted(c, round);
    if (rc < 0) {
        rc = twl_commit_give_up(c, rc);
        PROBE_POISON(c, rc);
    } else if (round->sealed) {
        finish_group(c, round);
    }
    note_time(c, round, now_ns);

    if (rc < 0)
        complete_all(c, rc);
    else if (round->sealed && round->sealed->requests.first)
        twl_complete(c, round->sealed, rc);
}

/* Earlier writes are synced. */
static void finish_sync(struct commit *c, const struct round *round) REQUIRES(c->leadership)
{
    publish_durable(c, atomic_load_explicit(&c->written, memory_order_relaxed));
    twl_gauge_add_alone(&c->statistics->sync, twl_monotonic_ns() - round->began_ns);
    add_alone(&c->statistics->syncs, 1);
}

bool twl_round_go_on(struct commit *c, struct round *round, int rc)
{
    if (round->step == ROUND_COPY) {
        round->step = ROUND_SYNC;
        if (seal(c, round))
            return true;
    } else if (round->step == ROUND_SYNC && rc == 0) {
        finish_sync(c, round);
    }

    /* The sync of earlier writes is behind us, if one was needed; now the group. */
    const bool has_group_to_write = round->step == ROUND_SYNC && rc == 0 && round->sealed;
    if (has_group_to_write) {
        round->step = ROUND_WRITE;
        encode_group(c, round);
        return true;
    }
    end_round(c, round, rc);
    return false;
}

/* The numbers are those of "The commit path" in docs/design.md. A shared committer takes the same steps, and does other
 * work while it would wait (committer.c). */
bool twl_lead_round(struct commit *c, enum group_kind kind, struct round *round)
{
    int rc = 0;
    *round = (struct round){ .kind = kind };

    /* 3. Gather: let the writers come back that were woken a moment ago. */
    if (kind == GROUP_RECORDS)
        gather(c);

    /* 4. Swap the twins, and 5. roll. Wait for the copies. */
    if (!twl_round_begin(c, round))
        return false;
    if (round->sealed && copies_left(round->sealed) > 0)
        wait_for_copies(round->sealed);

    /* 6. Write and sync, and only then (I1) 7. publish, or poison the log. twl_release_leadership() does the rest. */
    while (twl_round_go_on(c, round, rc))
        rc = twl_round_write(c, round, false);
    return true;
}

void twl_wake_waiters(struct commit *c)
{
    twl_event_notify_all(&c->twins[0].done);
    twl_event_notify_all(&c->twins[1].done);
    twl_event_notify_all(&c->space);
}

void twl_commit_wake_all(struct commit *c)
{
    twl_wake_waiters(c);
    twl_client_wake(c);
}

/* ---- handing on ---------------------------------------------------------------------------------- */

/* Has a flush ended? Its queues get news now, and again when a later one has ended that was demanded meanwhile. */
static bool take_flushed(struct commit *c) REQUIRES(c->lock)
{
    const uint64_t durable_lsn = watermark_load(&c->durable);
    const bool has_flushed = c->news_lsn > 0 && durable_lsn >= c->news_lsn;

    if (has_flushed)
        c->news_lsn = durable_lsn >= c->flushed_lsn ? 0 : c->flushed_lsn;
    return has_flushed;
}

/* Wakes a writer that leads the next round: one with a record in the filling buffer, or one that found it full, as such
 * may be the only ones left to lead. A shared committer leads by itself. */
static void wake_next_leader(struct commit *c, struct twin *filling)
{
    if (!c->client.is_shared)
        twl_event_notify_one(&filling->done);
    twl_event_notify_all(&c->space);
}

/* The leader looks under the lock at what was demanded meanwhile, whatever it has done itself. A thread that puts its
 * record, or demands a sync, after this look finds leadership free, and leads itself. Waking a few hundred writers
 * takes longer than a commit. So the next leader is woken first, and the others wake while it gathers and writes. */
void twl_release_leadership(struct commit *c, const struct round *round)
{
    twl_mutex_lock(&c->lock);
    struct twin *filling = &c->twins[c->filling];
    const bool has_records = filling->count > 0;
    const bool needs_sync = c->needs_sync;
    const bool needs_committer = filling->needs_committer || needs_sync;
    const bool has_flushed = take_flushed(c);
    if (round)
        c->expected = round->joined + joined_by(filling);
    stop_leading(c);
    twl_mutex_unlock(&c->lock);

    const bool has_failed = atomic_load(&c->poison) != 0;
    if (has_flushed)
        twl_tell_queues(c);
    if (needs_committer || has_failed)
        twl_client_call(c);
    if (has_records && !has_failed)
        wake_next_leader(c, filling);

    /* A sync of earlier writes ends waits in both buffers. */
    const bool has_synced_earlier = round && (!round->sealed || round->is_demanded);
    if (has_failed || needs_sync || has_synced_earlier)
        twl_commit_wake_all(c);
    else if (round)
        twl_event_notify_all(&round->sealed->done);

    /* A thread that is about to sleep in the ring of a driven committer looks again for what is there now. */
    if (round && c->client.is_driven)
        twl_client_wake(c);
}

/* ---- calls that lead ----------------------------------------------------------------------------- */

/* True if the writer has got its place. Only leaders give places to waiters, so the answer holds until this leader's
 * round. */
static bool has_place(struct commit *c, const struct waiter *waiter) REQUIRES(c->leadership)
{
    twl_mutex_lock(&c->lock);
    const bool has_place = waiter->place.twin != NULL;
    twl_mutex_unlock(&c->lock);
    return has_place;
}

/* Waits for no leader. A close leads until the keeper's thread, which calls this, has ended; and a leader that has no
 * room for a marker waits for a segment from that thread. Each round begins with a look at what is noted here. */
void twl_commit_abandon(struct commit *c, int error)
{
    atomic_store(&c->abandoned, error);
    if (atomic_load(&c->poison) != 0 || !twl_try_lead(c))
        return;
    give_up_abandoned(c);
    twl_release_leadership(c, NULL);
}

bool twl_lead(struct commit *c, struct waiter *waiter)
{
    struct round round;
    bool has_led = false;

    if (!twl_try_lead(c))
        return false;
    c->own_waiter = waiter;
    if (!waiter || !has_place(c, waiter))
        has_led = twl_lead_round(c, GROUP_RECORDS, &round);
    c->own_waiter = NULL;
    twl_release_leadership(c, has_led ? &round : NULL);
    return true;
}

bool twl_help(struct commit *c, const struct terms *terms, struct waiter *waiter, uint32_t seen)
{
    if (may_lead(c, terms))
        return twl_lead(c, waiter);
    if (c->client.is_driven)
        return twl_client_drive(c, waiter, seen, terms->deadline_ns);

    /* A shared committer needs no call: it was called when the work came, and looks again by itself after a round. */
    if (!c->client.is_shared)
        twl_client_call(c);
    return false;
}
