/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: the segments of an open log, and the thread that looks after them.
 *
 * Spares: each one is twice as large as the one before, up to the limit. So a small log takes little disk,
 * and a busy one rolls rarely. A retired file of full size is overwritten instead of making a new file: a log
 * whose head moves steadily changes no file-system metadata. On a nearly full disk any retired file and any
 * smaller size will do.
 *
 * Sealing goes from the oldest segment to the newest, because a footer holds the newest time of everything up
 * to it. A segment that this writer left has its summary in memory. A segment that an earlier process left is
 * walked first, and sealed only if the next one continues where the walk ended: a footer must not hide
 * damage.
 *
 * A failure here loses nothing. The next caller that needs a spare tries again and gets the error; a segment
 * that can't be sealed is walked by its readers; a file that can't be removed is retired again at the next
 * opening.
 */
#define _GNU_SOURCE
#include "segment/keeper.h"

#include "base/bytes.h"
#include "base/sync.h"
#include "segment/cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SPARES 64u
#define RETIRED_TO_KEEP 4u
#define MIN_SEGMENT_ROOM (SEGMENT_MIN_BYTES - SEGMENT_HEADER_BYTES - SEGMENT_FOOTER_BYTES)

struct retired {
    char name[SEGMENT_NAME_BYTES];
    uint64_t bytes;
    bool is_whole; /* it has all its space; mapped segments may be shorter, or have holes */
};

/* A segment that was left, with its summary, as an element of a list. */
struct left {
    struct segment segment;
    struct left *next;
};

/* The call that completes a segment before it is sealed. */
struct completion {
    int (*call)(void *context, struct segment *segment); /* NULL: none */
    void *context;
};

/* A request for a segment by a caller that does not wait. */
struct order {
    uint64_t min_room; /* 0 = there is no order */
    void (*done)(void *context, int result);
    void *context;
};

struct keeper {
    struct keeper_config config; /* [const] but for the plan */
    struct twl_mutex lock;
    struct completion completion;       /* [lock] */
    struct segment_plan plan;           /* [lock] of the next segment to make */
    struct segment ready[MAX_SPARES];   /* [lock] by sequence */
    uint32_t count;                     /* [lock] number of ready segments */
    uint32_t wanted;                    /* [lock] */
    struct order order;                 /* [lock] */
    struct segment_entry *started;      /* [lock] oldest first; the last one is active */
    size_t started_count, started_room; /* [lock] */
    size_t sealed;                      /* [lock] leading entries of `started` that are sealed, or can't be */
    struct retired *retired;            /* [lock] */
    size_t retired_count, retired_room;
    struct left *left, **left_end; /* [lock] waiting to be sealed, oldest first */
    struct left *unused;   /* [lock] at least one for each ready segment, so that leaving allocates nothing */
    uint32_t unused_count; /* [lock] */
    int64_t
        max_time_so_far_ns; /* [lock] newest time in the sealed ones; INT64_MAX once one could not be sealed */
    uint64_t ready_bytes;   /* [lock] of the files */
    uint64_t trimmed, recycled; /* [lock] */
    bool is_making;             /* [lock] a thread is making a segment */
    bool is_growing;            /* [lock] and that segment replaces the first ready one */
    bool is_sealing;            /* [lock] a thread is sealing a segment */
    bool has_failed;            /* [lock] making failed; the thread does not retry until asked */
    bool is_log_open;           /* [lock] until then nothing is sealed or trimmed */
    bool has_thread;            /* [lock] */
    bool is_stopping;           /* [lock] */
    bool must_tend;             /* [lock] */
    pthread_t thread;           /* [lock] */

    struct twl_event work; /* the thread sleeps on it */
    struct twl_event done; /* threads that wait for a segment, or for the end of sealing, sleep on it */
};

static void rest(struct keeper *k) REQUIRES(k->lock)
{
    uint32_t seen = twl_event_value(&k->done);
    twl_mutex_unlock(&k->lock);
    twl_event_sleep(&k->done, seen);
    twl_mutex_lock(&k->lock);
}

/* ---- retired files ----------------------------------------------------------------------------- */

/* If this fails, the file stays until the next opening. */
static void retire(struct keeper *k, const char *name, const struct segment_header *header,
                   uint64_t file_bytes) REQUIRES(k->lock)
{
    if (k->retired_count == k->retired_room) {
        size_t room = k->retired_room ? 2 * k->retired_room : 16;
        void *retired = realloc(k->retired, room * sizeof(*k->retired));
        if (!retired)
            return;
        k->retired = retired;
        k->retired_room = room;
    }
    struct retired *file = &k->retired[k->retired_count++];
    memcpy(file->name, name, SEGMENT_NAME_BYTES);
    file->bytes = header->bytes;
    file->is_whole = file_bytes >= header->bytes && !segment_is_mapped(header);
}

static struct retired take_retired(struct keeper *k, size_t index) REQUIRES(k->lock)
{
    struct retired file = k->retired[index];
    k->retired[index] = k->retired[--k->retired_count];
    return file;
}

/* The smallest file with room for least_bytes; -1 if there is none. */
static int64_t find_retired(const struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    int64_t best = -1;
    for (size_t i = 0; i < k->retired_count; i++)
        if (k->retired[i].is_whole && k->retired[i].bytes >= least_bytes &&
            (best < 0 || k->retired[i].bytes < k->retired[best].bytes))
            best = (int64_t)i;
    return best;
}

static bool is_surplus(const struct keeper *k, const struct retired *file, size_t kept) REQUIRES(k->lock)
{
    return !k->config.can_recycle || !file->is_whole || file->bytes < k->plan.bytes ||
           kept >= RETIRED_TO_KEEP + k->wanted;
}

/* Removes the next file that will not be needed; false if there is none. */
static bool remove_surplus(struct keeper *k) REQUIRES(k->lock)
{
    size_t kept = 0;
    for (size_t i = 0; i < k->retired_count; i++) {
        if (!is_surplus(k, &k->retired[i], kept)) {
            kept++;
            continue;
        }
        struct retired file = take_retired(k, i);
        twl_mutex_unlock(&k->lock);
        k->config.io->ops->unlink(k->config.io, file.name);
        twl_mutex_lock(&k->lock);
        return true;
    }
    return false;
}

/* ---- making segments --------------------------------------------------------------------------- */

/* Allocates in advance what beginning `count` more segments takes. */
static int stock_up(struct keeper *k, uint32_t count) REQUIRES(k->lock)
{
    if (k->started_room < k->started_count + count) {
        size_t room = max_u64(2 * k->started_room, k->started_count + count);
        void *started = realloc(k->started, room * sizeof(*k->started));
        if (!started)
            return -ENOMEM;
        k->started = started;
        k->started_room = room;
    }
    while (k->unused_count < count) {
        struct left *left = malloc(sizeof(*left));
        if (!left)
            return -ENOMEM;
        left->next = k->unused;
        k->unused = left;
        k->unused_count++;
    }
    return 0;
}

static uint64_t room_of(uint64_t segment_bytes)
{
    return segment_bytes - SEGMENT_HEADER_BYTES - SEGMENT_FOOTER_BYTES;
}

static uint64_t bytes_for(uint64_t room)
{
    return align_up(room + SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES, BLOCK_BYTES);
}

static void put_ready(struct keeper *k, const struct segment *segment) REQUIRES(k->lock)
{
    k->ready[k->count++] = *segment;
    k->ready_bytes += segment->header.bytes;
    k->plan.sequence = segment->header.sequence + 1;
    k->plan.bytes = max_u64(k->plan.bytes, min_u64(2 * segment->header.bytes, k->config.max_bytes));
}

static struct segment pop_ready(struct keeper *k) REQUIRES(k->lock)
{
    struct segment segment = k->ready[0];
    k->ready_bytes -= segment.header.bytes;
    k->count--;
    memmove(k->ready, k->ready + 1, k->count * sizeof(k->ready[0]));
    return segment;
}

/* Gives a retired file that is large enough a new incarnation. A file that another process still uses is
 * removed; it lives on for that process only. -ENOENT: no file was suitable. After another error the file
 * may have its new incarnation or not; it is removed, but the removal is not durable. */
static int recycle(struct keeper *k, const struct segment_plan *plan, uint64_t least_bytes,
                   struct segment *ret_segment, bool *ret_is_in_doubt) REQUIRES(k->lock)
{
    struct io *io = k->config.io;
    int rc = -EBUSY;
    while (k->config.can_recycle && rc == -EBUSY) {
        int64_t index = find_retired(k, least_bytes);
        if (index < 0)
            return -ENOENT;
        struct retired file = take_retired(k, (size_t)index);
        twl_mutex_unlock(&k->lock);
        rc = twl_segment_recycle(io, file.name, plan, ret_segment, ret_is_in_doubt);
        if (rc < 0)
            io->ops->unlink(io, file.name);
        twl_mutex_lock(&k->lock);
        k->recycled += rc == 0;
    }
    return rc == -EBUSY ? -ENOENT : rc;
}

static int create(struct keeper *k, const struct segment_plan *plan, struct segment *ret_segment,
                  bool *ret_is_in_doubt) REQUIRES(k->lock)
{
    struct segment_plan named = *plan;
    if (k->started_count + k->count + k->retired_count >= k->config.most_segments)
        return -EMFILE;
    named.number = k->plan.number++;
    twl_mutex_unlock(&k->lock);
    int rc = twl_segment_create(k->config.io, &named, ret_segment, ret_is_in_doubt);
    twl_mutex_lock(&k->lock);
    return rc;
}

/* Makes a segment as planned if possible; on a full disk smaller, down to least_bytes. */
static int make(struct keeper *k, const struct segment_plan *wish, uint64_t least_bytes,
                struct segment *ret_segment) REQUIRES(k->lock)
{
    struct segment_plan plan = *wish;
    plan.bytes = max_u64(plan.bytes, least_bytes);
    int rc = recycle(k, &plan, plan.bytes, ret_segment, NULL);
    if (rc == 0)
        return 0;
    while (is_no_space(rc = create(k, &plan, ret_segment, NULL))) {
        int recycled = recycle(k, &plan, least_bytes, ret_segment, NULL);
        if (recycled == 0)
            return 0;
        uint64_t half = align_up(plan.bytes / 2, BLOCK_BYTES);
        if (plan.bytes == least_bytes)
            return rc;
        plan.bytes = max_u64(half, least_bytes);
    }
    return rc;
}

/* A segment with a fixed start counts as soon as it has its header. So a file that failed to become one
 * must not remain beside it: after any failure except a full disk nothing else is tried. */
static int make_fixed(struct keeper *k, const struct segment_plan *plan, struct segment *ret_segment,
                      bool *ret_is_in_doubt) REQUIRES(k->lock)
{
    struct segment_plan smaller = *plan;
    int rc = create(k, &smaller, ret_segment, ret_is_in_doubt);
    while (is_no_space(rc) && !*ret_is_in_doubt && smaller.bytes > SEGMENT_MIN_BYTES) {
        smaller.bytes = max_u64(align_up(smaller.bytes / 2, BLOCK_BYTES), SEGMENT_MIN_BYTES);
        rc = create(k, &smaller, ret_segment, ret_is_in_doubt);
    }
    if (!is_no_space(rc) || *ret_is_in_doubt)
        return rc;
    int recycled = recycle(k, plan, SEGMENT_MIN_BYTES, ret_segment, ret_is_in_doubt);
    return recycled == -ENOENT ? rc : recycled;
}

/* The first ready segment is too small: a larger one takes its sequence. While both exist, neither is
 * started. */
static int replace_first(struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    struct segment_plan plan = k->plan;
    struct segment segment;
    plan.sequence = k->ready[0].header.sequence;
    plan.bytes = least_bytes;
    k->is_growing = true;
    int rc = make(k, &plan, least_bytes, &segment);
    if (rc == 0) {
        struct segment small = k->ready[0];
        k->ready[0] = segment;
        k->ready_bytes += segment.header.bytes - small.header.bytes;
        twl_mutex_unlock(&k->lock);
        k->config.io->ops->unlink(k->config.io, small.name);
        twl_segment_close(&small);
        twl_mutex_lock(&k->lock);
    }
    k->is_growing = false;
    return rc;
}

/* Makes the next spare, with room for min_room. Not called while another thread makes one. */
static int make_ready(struct keeper *k, uint64_t min_room) REQUIRES(k->lock)
{
    struct segment_plan plan = k->plan;
    struct segment segment;
    uint64_t least_bytes = max_u64(bytes_for(min_room), SEGMENT_MIN_BYTES);
    int rc;
    k->is_making = true;
    if (k->count > 0 && room_of(k->ready[0].header.bytes) < min_room) {
        rc = replace_first(k, least_bytes);
    } else {
        rc = stock_up(k, k->count + 3); /* two may be taken and not left for yet: in one a group is written */
        if (rc == 0)
            rc = make(k, &plan, least_bytes, &segment);
        if (rc == 0)
            put_ready(k, &segment);
    }
    k->is_making = false;
    k->has_failed = rc < 0;
    twl_event_notify_all(&k->done);
    return rc;
}

/* ---- sealing ----------------------------------------------------------------------------------- */

/* Walks a segment that an earlier process left, to its end. */
static int walk(struct segment *segment)
{
    struct cursor cursor = { 0 };
    segment->summary = malloc(sizeof(*segment->summary));
    if (!segment->summary)
        return -ENOMEM;
    twl_summary_begin(segment->summary, INT64_MIN);
    twl_cursor_begin(&cursor, segment, twl_position_before(segment));
    cursor.summary = segment->summary;
    int rc;
    while ((rc = twl_cursor_accept_group(&cursor)) > 0)
        ;
    twl_cursor_free(&cursor);
    if (rc == 0 && segment->summary->first_lsn == 0)
        rc = TWINLOG_ECORRUPT;
    return rc;
}

/* Does the next segment continue where this one ends? */
static int check_joint(struct io *io, const struct summary *summary, const struct segment_entry *next)
{
    struct segment segment;
    if (next->header.start_lsn > 0)
        return summary->next_lsn >= next->header.start_lsn ? 0 : TWINLOG_ECORRUPT;
    int rc = twl_segment_open_valid(io, next->name, &segment);
    if (rc < 0)
        return rc;
    struct cursor cursor = { 0 };
    const struct position end = { .next_lsn = summary->next_lsn,
                                  .chain = summary->chain,
                                  .epoch = summary->epoch };
    twl_cursor_begin(&cursor, &segment, end);
    rc = twl_cursor_enter_group(&cursor);
    twl_cursor_free(&cursor);
    twl_segment_close(&segment);
    return rc > 0 ? 0 : rc < 0 ? rc : TWINLOG_ECORRUPT;
}

static int seal_after_walk(struct keeper *k, const struct segment_entry *entry,
                           const struct segment_entry *next, int64_t max_time_so_far_ns,
                           struct segment_footer *ret_footer)
{
    struct segment segment;
    enum header_state state;
    int rc = twl_segment_open(k->config.io, entry->name, k->plan.open_flags, k->config.lock_wait_ms, &segment,
                              &state);
    if (rc < 0)
        return rc;
    if (state != HEADER_VALID || segment.header.segment_id != entry->header.segment_id)
        rc = TWINLOG_ECORRUPT;
    if (rc == 0)
        rc = walk(&segment);
    if (rc == 0)
        rc = check_joint(k->config.io, segment.summary, next);
    if (rc == 0)
        rc = twl_segment_seal(&segment, max_time_so_far_ns, ret_footer);
    twl_segment_close(&segment);
    return rc;
}

static struct left *take_left(struct keeper *k, uint64_t sequence) REQUIRES(k->lock)
{
    struct left **at = &k->left;
    while (*at && (*at)->segment.header.sequence != sequence)
        at = &(*at)->next;
    struct left *left = *at;
    if (!left)
        return NULL;
    *at = left->next;
    if (!*at)
        k->left_end = at;
    return left;
}

static void free_left(struct left *left)
{
    if (left)
        twl_segment_close(&left->segment);
    free(left);
}

static struct segment_entry *find_started(struct keeper *k, uint64_t sequence) REQUIRES(k->lock)
{
    for (size_t i = k->started_count; i > 0; i--)
        if (k->started[i - 1].header.sequence == sequence)
            return &k->started[i - 1];
    return NULL;
}

static int seal_left(struct completion completion, struct left *left, int64_t max_time_so_far_ns,
                     struct segment_footer *ret_footer)
{
    int rc = completion.call ? completion.call(completion.context, &left->segment) : 0;
    return rc < 0 ? rc : twl_segment_seal(&left->segment, max_time_so_far_ns, ret_footer);
}

/* Seals the oldest unsealed segment; false if all but the active one are sealed, or the log is still being
 * opened. A footer proves that the next segment has a durable group. The one that an opening finds there may
 * be torn, until the marker of the start takes its place. */
static bool seal_next(struct keeper *k) REQUIRES(k->lock)
{
    if (!k->is_log_open || k->is_sealing || k->sealed + 1 >= k->started_count)
        return false;
    struct segment_entry entry = k->started[k->sealed], next = k->started[k->sealed + 1];
    struct left *left = take_left(k, entry.header.sequence);
    const struct completion completion = k->completion;
    int64_t max_time_so_far_ns = k->max_time_so_far_ns;
    k->is_sealing = true;
    twl_mutex_unlock(&k->lock);

    struct segment_footer footer;
    int rc = left ? seal_left(completion, left, max_time_so_far_ns, &footer)
                  : seal_after_walk(k, &entry, &next, max_time_so_far_ns, &footer);
    free_left(left);

    twl_mutex_lock(&k->lock);
    k->is_sealing = false;
    k->max_time_so_far_ns = rc == 0 ? footer.max_time_so_far_ns : INT64_MAX;
    struct segment_entry *kept = find_started(k, entry.header.sequence); /* unless it was trimmed meanwhile */
    if (kept) {
        k->sealed = (size_t)(kept - k->started) + 1;
        if (rc == 0) {
            kept->is_known = kept->is_sealed = true;
            kept->first_lsn = footer.first_lsn;
            kept->footer = footer;
        }
    }
    k->must_tend = true;
    twl_event_notify_all(&k->done);
    return true;
}

/* ---- the thread -------------------------------------------------------------------------------- */

static void tend(struct keeper *k) REQUIRES(k->lock)
{
    k->must_tend = false;
    if (!k->config.tend || !k->is_log_open)
        return;
    twl_mutex_unlock(&k->lock);
    k->config.tend(k->config.context);
    twl_mutex_lock(&k->lock);
}

static bool has_ready(const struct keeper *k, uint64_t min_room) REQUIRES(k->lock)
{
    return k->count > 0 && room_of(k->ready[0].header.bytes) >= min_room;
}

static int wait_for_ready(struct keeper *k, uint64_t min_room) REQUIRES(k->lock)
{
    int rc = 0;
    while (rc == 0 && (k->is_growing || !has_ready(k, min_room))) {
        if (k->is_making)
            rest(k);
        else
            rc = make_ready(k, min_room);
    }
    return rc;
}

static void fill_order(struct keeper *k) REQUIRES(k->lock)
{
    struct order order = k->order;
    k->order = (struct order){ 0 };
    int rc = wait_for_ready(k, order.min_room);
    twl_mutex_unlock(&k->lock);
    order.done(order.context, rc);
    twl_mutex_lock(&k->lock);
}

/* Does one piece of work; false if there is none. Segments to write in come first. */
static bool work(struct keeper *k) REQUIRES(k->lock)
{
    if (k->order.min_room > 0) {
        fill_order(k);
        return true;
    }
    if (k->count < k->wanted && !k->has_failed && !k->is_making) {
        make_ready(k, MIN_SEGMENT_ROOM);
        return true;
    }
    if (k->must_tend) { /* before sealing the next one: the writer may fill them as fast */
        tend(k);
        return true;
    }
    return seal_next(k) || remove_surplus(k);
}

static void *look_after(void *argument)
{
    struct keeper *k = argument;
    uint64_t next_tend_ns = twl_monotonic_ns() + (uint64_t)k->config.tend_ms * 1000000u;
    twl_mutex_lock(&k->lock);
    while (!k->is_stopping) {
        if (k->config.tend_ms > 0 && twl_monotonic_ns() >= next_tend_ns) {
            k->must_tend = true;
            next_tend_ns = twl_monotonic_ns() + (uint64_t)k->config.tend_ms * 1000000u;
        }
        if (work(k))
            continue;
        uint32_t seen = twl_event_value(&k->work);
        twl_mutex_unlock(&k->lock);
        twl_event_sleep_for(&k->work, seen, k->config.tend_ms);
        twl_mutex_lock(&k->lock);
    }
    while (seal_next(k)) /* so that the next opening need not walk them */
        ;
    tend(k);
    while (!k->config.can_recycle && remove_surplus(k))
        ;
    twl_mutex_unlock(&k->lock);
    return NULL;
}

/* There is work: for the thread, or to be done now. */
static void get_going(struct keeper *k) REQUIRES(k->lock)
{
    if (!k->config.io->has_threads) {
        while (seal_next(k) || remove_surplus(k))
            ;
        if (k->must_tend)
            tend(k);
        return;
    }
    if (!k->has_thread && !k->is_stopping)
        k->has_thread = twl_thread_start(&k->thread, look_after, k) == 0;
    twl_event_notify_all(&k->work);
}

/* ---- birth and death --------------------------------------------------------------------------- */

/* A torn group may have left a part of its header where first groups begin. The next first group may be at
 * another offset and must not complete it. */
static int clean_first_block(const struct segment *segment)
{
    unsigned char *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    size_t size;
    if (!block)
        return -ENOMEM;
    int rc = io_read(segment->file, block, BLOCK_BYTES, SEGMENT_DATA_OFFSET, &size);
    if (rc == 0 && !are_zeros(block, size)) { /* else the block may be a hole, and the disk full */
        memset(block, 0, BLOCK_BYTES);
        rc = io_write_at(segment->file, block, BLOCK_BYTES, SEGMENT_DATA_OFFSET);
    }
    free(block);
    return rc;
}

/* The header was read from the disk, but a dead writer may not have synced it. It must be durable before
 * the first group (I8). */
static int settle_spare(const struct segment *segment)
{
    int rc = clean_first_block(segment);
    return rc < 0 ? rc : io_sync(segment->file);
}

static int adopt_spare(struct keeper *k, const struct segment_entry *entry) REQUIRES(k->lock)
{
    struct segment segment;
    enum header_state state;
    if (k->count == MAX_SPARES)
        return -EMFILE; /* no writer of this library leaves more */
    int rc = stock_up(k, k->count + 2);
    if (rc < 0)
        return rc;
    rc = twl_segment_open(k->config.io, entry->name, k->plan.open_flags, k->config.lock_wait_ms, &segment,
                          &state);
    if (rc < 0)
        return rc;
    rc = state == HEADER_VALID ? settle_spare(&segment) : TWINLOG_ECORRUPT;
    segment.summary = rc == 0 ? malloc(sizeof(*segment.summary)) : NULL;
    if (!segment.summary) {
        twl_segment_close(&segment);
        return rc < 0 ? rc : -ENOMEM;
    }
    twl_summary_begin(segment.summary, INT64_MIN);
    put_ready(k, &segment);
    return 0;
}

/* Finds how many segments must be walked. A footer says that a segment is sealed, and all before a sealed
 * one are sealed. */
static int find_unsealed(struct keeper *k) REQUIRES(k->lock)
{
    size_t i = k->started_count - 1;
    while (i > 0) {
        struct segment_entry *entry = &k->started[i - 1];
        int rc = twl_segment_look(k->config.io, entry);
        if (rc < 0)
            return rc;
        if (entry->is_sealed)
            break;
        i--;
    }
    k->sealed = i;
    k->max_time_so_far_ns = i > 0 ? k->started[i - 1].footer.max_time_so_far_ns : INT64_MIN;
    return 0;
}

static int take_set(struct keeper *k, const struct segment_set *set) REQUIRES(k->lock)
{
    k->started = calloc(set->started, sizeof(*k->started));
    if (!k->started)
        return -ENOMEM;
    memcpy(k->started, set->entries, set->started * sizeof(*k->started));
    k->started_count = k->started_room = set->started;
    k->started[k->started_count - 1].is_sealed = false; /* it is written again */
    int rc = find_unsealed(k);
    for (size_t i = 0; rc == 0 && i < set->spares; i++)
        rc = adopt_spare(k, &set->entries[set->started + i]);
    for (size_t i = 0; i < set->retired; i++) {
        const struct segment_entry *entry = &set->entries[set->started + set->spares + i];
        retire(k, entry->name, &entry->header, entry->file_bytes);
    }
    k->plan.bytes = min_u64(k->plan.bytes, k->config.max_bytes);
    return rc;
}

int twl_keeper_create(const struct keeper_config *config, struct keeper **ret_keeper)
{
    struct keeper *k = calloc(1, sizeof(*k));
    if (!k)
        return -ENOMEM;
    k->config = *config;
    k->plan = config->plan;
    k->left_end = &k->left;
    twl_mutex_init(&k->lock);
    twl_mutex_lock(&k->lock);
    int rc = take_set(k, config->set);
    k->config.set = NULL;
    twl_mutex_unlock(&k->lock);
    if (rc < 0) {
        twl_keeper_destroy(k, false);
        return rc;
    }
    *ret_keeper = k;
    return 0;
}

void twl_keeper_set_complete(struct keeper *k, int (*complete)(void *context, struct segment *segment),
                             void *context)
{
    twl_mutex_lock(&k->lock);
    k->completion = (struct completion){ complete, context };
    twl_mutex_unlock(&k->lock);
}

void twl_keeper_start(struct keeper *k)
{
    twl_mutex_lock(&k->lock);
    k->is_log_open = true;
    k->must_tend = k->config.tend != NULL;
    if (k->retired_count > 0 || k->sealed + 1 < k->started_count || k->must_tend)
        get_going(k);
    twl_mutex_unlock(&k->lock);
}

static void end_thread(struct keeper *k)
{
    twl_mutex_lock(&k->lock);
    k->is_stopping = true;
    bool has_thread = k->has_thread;
    twl_mutex_unlock(&k->lock);
    if (has_thread) {
        twl_event_notify_all(&k->work);
        pthread_join(k->thread, NULL);
    }
    twl_mutex_lock(&k->lock);
    k->has_thread = false;
    twl_mutex_unlock(&k->lock);
}

int64_t twl_keeper_end(struct keeper *k)
{
    end_thread(k);
    twl_mutex_lock(&k->lock);
    const int64_t max_time_so_far_ns = k->max_time_so_far_ns;
    twl_mutex_unlock(&k->lock);
    return max_time_so_far_ns;
}

/* Newest first: a gap in the sequence would count as damage. */
void twl_keeper_remove_ready(struct keeper *k)
{
    struct io *io = k->config.io;
    end_thread(k);
    for (; k->count > 0; k->count--) {
        struct segment *newest = &k->ready[k->count - 1];
        io->ops->unlink(io, newest->name);
        io->ops->sync_dir(io);
        twl_segment_close(newest);
    }
}

void twl_keeper_destroy(struct keeper *k, bool is_forked)
{
    if (!k)
        return;
    if (is_forked) { /* in a child its contents may be inconsistent; they go with the child */
        free(k);
        return;
    }
    end_thread(k);
    /* Only another mapped log could use them, and that begins with a small one. */
    if (k->plan.is_mapped)
        twl_keeper_remove_ready(k);
    for (uint32_t i = k->count; i-- > 0;)
        twl_segment_close(&k->ready[i]);
    while (k->left) {
        struct left *left = k->left;
        k->left = left->next;
        free_left(left);
    }
    twl_mutex_destroy(&k->lock);
    while (k->unused) {
        struct left *unused = k->unused;
        k->unused = unused->next;
        free(unused);
    }
    free(k->started);
    free(k->retired);
    free(k);
}

/* ---- for the commit path ----------------------------------------------------------------------- */

/* Sets what the next header says was durable, and in which epoch. A value from before a truncation comes too
 * late. */
static void promise(struct keeper *k, uint64_t after_lsn, uint32_t epoch) REQUIRES(k->lock)
{
    if (epoch < k->plan.epoch)
        return;
    k->plan.after_lsn = after_lsn;
    k->plan.epoch = epoch;
}

void twl_keeper_want(struct keeper *k, uint32_t count, bool is_large, uint64_t after_lsn, uint32_t epoch)
{
    if (!k->config.io->has_threads)
        return;
    twl_mutex_lock(&k->lock);
    /* A leader that wants one must not reduce a larger number from the options. */
    k->wanted = (uint32_t)max_u64(k->wanted, min_u64(count, MAX_SPARES));
    k->has_failed = false;
    promise(k, after_lsn, epoch);
    if (is_large)
        k->plan.bytes = k->config.max_bytes;
    if (k->count < k->wanted)
        get_going(k);
    twl_mutex_unlock(&k->lock);
}

uint64_t twl_keeper_most_room(const struct keeper *k)
{
    return room_of(k->config.max_bytes);
}

bool twl_keeper_take(struct keeper *k, uint64_t min_bytes, struct segment *ret_segment)
{
    twl_mutex_lock(&k->lock);
    bool has_one = !k->is_growing && has_ready(k, min_bytes);
    if (has_one) {
        *ret_segment = pop_ready(k);
        k->wanted = k->wanted > 0 ? k->wanted - 1 : 0;
    }
    twl_mutex_unlock(&k->lock);
    return has_one;
}

int twl_keeper_wait(struct keeper *k, uint64_t min_bytes, uint64_t after_lsn, uint32_t epoch)
{
    twl_mutex_lock(&k->lock);
    promise(k, after_lsn, epoch);
    int rc = wait_for_ready(k, min_bytes);
    twl_mutex_unlock(&k->lock);
    return rc;
}

int twl_keeper_order(struct keeper *k, uint64_t min_bytes, uint64_t after_lsn, uint32_t epoch,
                     void (*done)(void *context, int result), void *context)
{
    if (!k->config.io->has_threads)
        return -ENOTSUP;
    twl_mutex_lock(&k->lock);
    ASSERT(k->order.min_room == 0);
    promise(k, after_lsn, epoch);
    get_going(k);
    int rc = k->has_thread ? 0 : -EAGAIN;
    if (rc == 0)
        k->order = (struct order){ .min_room = min_bytes, .done = done, .context = context };
    twl_mutex_unlock(&k->lock);
    return rc;
}

static struct segment_entry entry_of(const struct segment *segment, uint64_t first_lsn)
{
    struct segment_entry entry = {
        .header = segment->header, .file_bytes = segment->file_bytes, .is_known = true, .first_lsn = first_lsn
    };
    memcpy(entry.name, segment->name, sizeof(entry.name));
    return entry;
}

void twl_keeper_leave(struct keeper *k, const struct segment *segment, const struct segment *next)
{
    twl_mutex_lock(&k->lock);
    struct left *left = k->unused;
    ASSERT(left && k->started_count < k->started_room); /* `next` was ready */
    k->unused = left->next;
    k->unused_count--;
    k->started[k->started_count++] = entry_of(next, segment->summary->next_lsn);
    *left = (struct left){ .segment = *segment };
    *k->left_end = left;
    k->left_end = &left->next;
    get_going(k);
    twl_mutex_unlock(&k->lock);
}

/* ---- trims and truncations --------------------------------------------------------------------- */

/* From here to set_free() no thread makes or seals a segment. */
static void hold_still(struct keeper *k) REQUIRES(k->lock)
{
    while (k->is_making || k->is_sealing)
        rest(k);
    k->is_making = k->is_sealing = true;
}

static void set_free(struct keeper *k) REQUIRES(k->lock)
{
    k->is_making = k->is_sealing = false;
    twl_event_notify_all(&k->done);
}

static void drop_started(struct keeper *k, size_t from, size_t count) REQUIRES(k->lock)
{
    for (size_t i = from; i < from + count; i++) {
        struct segment_entry *entry = &k->started[i];
        free_left(take_left(k, entry->header.sequence));
        retire(k, entry->name, &entry->header, entry->header.bytes);
    }
    memmove(k->started + from, k->started + from + count,
            (k->started_count - from - count) * sizeof(*k->started));
    k->started_count -= count;
    if (k->sealed > from)
        k->sealed -= min_u64(k->sealed - from, count);
}

static void drop_ready(struct keeper *k) REQUIRES(k->lock)
{
    while (k->count > 0) {
        struct segment segment = pop_ready(k);
        retire(k, segment.name, &segment.header, segment.file_bytes);
        twl_segment_close(&segment);
    }
}

static void settle_max_time(struct keeper *k) REQUIRES(k->lock)
{
    const struct segment_entry *last = k->sealed > 0 ? &k->started[k->sealed - 1] : NULL;
    k->max_time_so_far_ns = !last ? INT64_MIN : last->is_sealed ? last->footer.max_time_so_far_ns : INT64_MAX;
}

int twl_keeper_restart(struct keeper *k, uint64_t start_lsn, uint64_t previous, uint32_t start_chain,
                       uint32_t epoch, struct segment *ret_segment, bool *ret_is_in_doubt)
{
    *ret_is_in_doubt = false;
    twl_mutex_lock(&k->lock);
    hold_still(k);
    struct segment_plan plan = k->plan;
    plan.bytes = min_u64(FIRST_SEGMENT_BYTES, k->config.max_bytes);
    plan.start_lsn = start_lsn;
    plan.previous = previous;
    plan.start_chain = start_chain;
    plan.after_lsn = start_lsn - 1;
    plan.epoch = epoch;
    struct segment segment;
    int rc = stock_up(k, k->count + 1);
    if (rc == 0)
        rc = make_fixed(k, &plan, &segment, ret_is_in_doubt);
    if (rc == 0) {
        size_t kept = k->started_count;
        while (kept > 0 && k->started[kept - 1].header.sequence > previous)
            kept--;
        drop_ready(k);
        drop_started(k, kept, k->started_count - kept);
        k->started[k->started_count++] = entry_of(&segment, start_lsn);
        k->plan.sequence = plan.sequence + 1;
        k->plan.bytes = min_u64(2 * segment.header.bytes, k->config.max_bytes);
        k->plan.after_lsn = plan.after_lsn; /* what was durable before may be truncated */
        k->plan.epoch = epoch + 1;
        settle_max_time(k);
        *ret_segment = segment;
    }
    set_free(k);
    twl_mutex_unlock(&k->lock);
    return rc;
}

static int look_at_kept(struct keeper *k, struct segment_entry *entry)
{
    if (entry->is_known)
        return 0;
    int rc = twl_segment_look(k->config.io, entry);
    twl_mutex_lock(&k->lock);
    struct segment_entry *kept = rc == 0 ? find_started(k, entry->header.sequence) : NULL;
    if (kept)
        *kept = *entry;
    twl_mutex_unlock(&k->lock);
    return rc;
}

int twl_keeper_each(struct keeper *k, bool (*each)(void *context, const struct kept_segment *segment),
                    void *context)
{
    struct segment_set set = { 0 };
    int rc = twl_keeper_set(k, &set);
    uint64_t later_bytes = 0;
    for (size_t i = 0; rc == 0 && i < set.started; i++)
        later_bytes += set.entries[i].header.bytes;
    for (size_t i = 0; rc == 0 && i < set.started; i++) {
        struct segment_entry *entry = &set.entries[i], *next = i + 1 < set.started ? entry + 1 : NULL;
        later_bytes -= entry->header.bytes;
        rc = look_at_kept(k, entry);
        if (rc == 0 && next)
            rc = look_at_kept(k, next);
        if (rc < 0)
            break;
        struct kept_segment kept = { .sequence = entry->header.sequence,
                                     .next_sequence = next ? next->header.sequence : 0,
                                     .first_lsn = entry->first_lsn,
                                     .end_lsn = next ? next->first_lsn : UINT64_MAX,
                                     .file_bytes = entry->header.bytes,
                                     .later_bytes = later_bytes,
                                     .max_ns = entry->is_sealed ? entry->footer.max_ns : INT64_MIN,
                                     .is_sealed = entry->is_sealed };
        memcpy(kept.name, entry->name, sizeof(kept.name));
        if (!each(context, &kept))
            break;
    }
    twl_segment_set_free(&set);
    return rc;
}

int twl_keeper_retire(struct keeper *k, uint64_t first_sequence, struct keeper_freed *ret_freed)
{
    struct keeper_freed freed = { 0 };
    twl_mutex_lock(&k->lock);
    hold_still(k);
    size_t count = 0;
    while (count + 1 < k->started_count && k->started[count].header.sequence < first_sequence)
        freed.bytes += k->started[count++].header.bytes;
    freed.segments = count;
    drop_started(k, 0, count);
    k->trimmed += count;
    set_free(k);
    if (count > 0)
        get_going(k);
    twl_mutex_unlock(&k->lock);
    *ret_freed = freed;
    return 0;
}

int twl_keeper_set(struct keeper *k, struct segment_set *ret_set)
{
    struct segment_set set = { 0 };
    twl_mutex_lock(&k->lock);
    set.entries = malloc(k->started_count * sizeof(*set.entries));
    if (set.entries) {
        memcpy(set.entries, k->started, k->started_count * sizeof(*set.entries));
        set.started = k->started_count;
        set.max_sequence = set.entries[set.started - 1].header.sequence;
    }
    twl_mutex_unlock(&k->lock);
    if (!set.entries)
        return -ENOMEM;
    *ret_set = set;
    return 0;
}

void twl_keeper_count(struct keeper *k, struct keeper_count *ret_count)
{
    twl_mutex_lock(&k->lock);
    struct keeper_count count = { .started = (uint32_t)k->started_count,
                                  .ready = k->count,
                                  .file_bytes = k->ready_bytes,
                                  .trimmed = k->trimmed,
                                  .recycled = k->recycled };
    for (size_t i = 0; i < k->started_count; i++)
        count.file_bytes += k->started[i].header.bytes;
    for (size_t i = 0; i < k->retired_count; i++)
        count.file_bytes += k->retired[i].bytes;
    twl_mutex_unlock(&k->lock);
    *ret_count = count;
}
