/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching a log that another process writes.
 *
 * The writer's counters and timings are in its own memory. A watcher stores in the page of writer.lock until
 * when it wants to see them, and reads the file behind the page. The writer puts a copy there after its next
 * group, and then after a group at most every REFRESH_NS. So a log without watchers only loads one word.
 *
 * A copy is larger than what the kernel writes or reads at once, so it carries a checksum: after an
 * incomplete read the watcher reads again. The contents are trusted for display only. A copy that can't be
 * written, perhaps on a full disk, is skipped.
 */
#define _GNU_SOURCE
#include "base/versioned.h"
#include "log/handle.h"

#include "format/checksum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REFRESH_NS UINT64_C(50000000)
#define LOOK_MS 2u      /* between two looks of the watcher */
#define COPY_VERSION 1u /* to be raised if the structures change but their size does not */

/* In the byte order of the machine, which both processes share. */
struct copy {
    uint32_t checksum; /* CRC32C of what follows */
    uint32_t epoch;
    uint64_t taken_ns; /* on CLOCK_MONOTONIC */
    struct twinlog_stat stat;
    struct twinlog_timings timings;
};
#define COPY_LAYOUT (COPY_VERSION << 24 | (uint32_t)sizeof(struct copy))
_Static_assert(sizeof(struct copy) < 1u << 24, "fits beside the version");

struct shared_copy {
    _Atomic bool is_being_made; /* by a thread; the copy belongs to that thread */
    struct copy copy;
};

static uint32_t checksum_of(const struct copy *copy)
{
    const size_t skipped = offsetof(struct copy, epoch);
    return twl_crc32c(0, (const unsigned char *)copy + skipped, sizeof(*copy) - skipped);
}

/* ---- the writer -------------------------------------------------------------------------------- */

void twl_offer_copies(struct twinlog *log)
{
    log->copy = calloc(1, sizeof(*log->copy));
    if (log->copy) /* otherwise there are no copies */
        twl_page_offer_copies(log->shared, COPY_LAYOUT);
}

static void make_copy(struct twinlog *log, struct copy *copy, uint64_t now_ns)
{
    twl_stat_writer(log, &copy->stat);
    copy->timings.size = sizeof(copy->timings);
    twl_commit_timings(log->commit, &copy->timings);
    copy->epoch = copy->stat.epoch;
    copy->taken_ns = now_ns;
    copy->checksum = checksum_of(copy);
}

void twl_publish_statistics(void *context)
{
    struct twinlog *log = context;
    struct shared_copy *shared = log->copy;
    if (!shared || atomic_exchange(&shared->is_being_made, true))
        return;
    const uint64_t now_ns = twl_monotonic_ns();
    if (now_ns - shared->copy.taken_ns >= REFRESH_NS) {
        make_copy(log, &shared->copy, now_ns);
        (void)twl_page_put_copy(log->shared, &shared->copy, sizeof(shared->copy));
    }
    atomic_store(&shared->is_being_made, false);
}

/* ---- the watcher -------------------------------------------------------------------------------- */

/* Is this a copy that the current writer has made since `since_ns`? */
static bool is_sound(const struct shared_page *shared, const struct copy *copy, uint64_t since_ns)
{
    return copy->checksum == checksum_of(copy) && copy->epoch == twl_page_epoch(shared) &&
           copy->taken_ns >= since_ns && copy->stat.size == sizeof(copy->stat) &&
           copy->timings.size == sizeof(copy->timings);
}

/* One look: 1 = there is a copy. 0 = not yet; *ret_why is the reason. A poisoned writer makes no more copies. */
static int look(struct shared_page *shared, struct copy *copy, uint64_t since_ns, uint64_t until_ns,
                int *ret_why)
{
    bool has_writer;
    int rc = twl_page_ask_writer(shared, &has_writer);
    if (rc < 0)
        return rc;
    if (!has_writer)
        return -ESRCH;
    if (twl_page_poison(shared) < 0) {
        (void)twl_page_get_copy(shared, copy, sizeof(*copy));
        return TWINLOG_EPOISONED;
    }
    *ret_why = twl_page_want_copies(shared, COPY_LAYOUT, until_ns);
    if (*ret_why == -EACCES)
        return -EACCES;
    if (*ret_why == -ENOTSUP)
        return 0;
    const bool is_there = *ret_why == 0 && twl_page_get_copy(shared, copy, sizeof(*copy)) == 0;
    *ret_why = -ETIMEDOUT;
    return is_there && is_sound(shared, copy, since_ns);
}

static int wait_for_copy(struct shared_page *shared, unsigned timeout_ms, struct copy *ret_copy)
{
    const uint64_t began_ns = twl_monotonic_ns();
    const uint64_t until_ns = began_ns + (uint64_t)timeout_ms * 1000000;
    const uint64_t since_ns = began_ns - min_u64(began_ns, REFRESH_NS);
    int why, rc;
    while ((rc = look(shared, ret_copy, since_ns, until_ns, &why)) == 0) {
        if (twl_monotonic_ns() >= until_ns)
            return why;
        shared->io->ops->sleep_ms(shared->io, LOOK_MS);
    }
    return rc < 0 ? rc : 0;
}

/* What the page says, and the writer's last copy if there is one. */
static void tell_poison(const struct shared_page *shared, struct copy *copy)
{
    if (!is_sound(shared, copy, 0))
        *copy = (struct copy){ .stat = TWINLOG_STAT_INIT, .timings = TWINLOG_TIMINGS_INIT };
    copy->stat.mode = twl_page_mode(shared);
    copy->stat.epoch = twl_page_epoch(shared);
    copy->stat.poison = twl_page_poison(shared);
}

int twl_watch(struct io *io, int timeout_ms, struct twinlog_stat *ret_stat,
              struct twinlog_timings *ret_timings)
{
    struct shared_page shared;
    struct copy *copy = calloc(1, sizeof(*copy));
    bool is_told = false;
    int rc = copy ? twl_page_watch(io, &shared) : -ENOMEM;
    if (rc == 0) {
        rc = wait_for_copy(&shared, (unsigned)timeout_ms, copy);
        is_told = rc == 0 || rc == TWINLOG_EPOISONED ||
                  (rc == -ETIMEDOUT && is_sound(&shared, copy, 0)); /* the last one, of an idle writer */
        if (rc == TWINLOG_EPOISONED)
            tell_poison(&shared, copy);
        twl_page_unwatch(&shared);
    }
    if (is_told) {
        copy->stat.io_reason[sizeof(copy->stat.io_reason) - 1] = '\0';
        twl_versioned_give(ret_stat, &copy->stat, sizeof(copy->stat));
        twl_versioned_give(ret_timings, &copy->timings, sizeof(copy->timings));
    }
    free(copy);
    io->ops->destroy(io);
    return rc;
}
