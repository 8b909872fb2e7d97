/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See live.h. The page may hold anything when a writer finds it. What counts is cleared before it is used.
 * The sequence keeps its value, because readers may be sleeping on it.
 *
 * Sleeping: a reader stores the sequence that it has seen in `awaited`, and sleeps while the sequence is
 * unchanged. A publication adds one to the sequence and then checks whether the old one was awaited. Both are
 * sequentially consistent: either the writer sees that it has to wake, or the kernel sees another sequence
 * and lets no reader sleep.
 */
#define _GNU_SOURCE
#include "segment/live.h"

#include "base/sync.h"
#include "segment/segment.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LIVE_MAGIC UINT64_C(0x324556494c4c5754) /* "TWLLIVE2" */
#define POLL_MS 20                              /* where no writer would wake the reader */
#define NAP_MS 1000       /* where one would: it may have died, or the file may have been made shorter */
#define SETTLING_LOOKS 64 /* the two words of a watermark differ while it is being stored */

_Static_assert(sizeof(struct live_page) <= LIVE_COMMON_OFFSET, "in front of what is shared");

/* ---- the page ---------------------------------------------------------------------------------- */

static bool is_page(const struct live_page *page)
{
    return atomic_load(&page->magic) == LIVE_MAGIC;
}

static void unmap_page(struct live *live)
{
    if (live->is_private)
        free(live->page);
    else if (live->page)
        live->io->ops->unmap(live->io, live->page, BLOCK_BYTES);
    live->page = NULL;
}

static struct live_page *map_page(const struct live *live)
{
    uint64_t bytes = 0;
    void *page = NULL;
    if (io_size(live->file, &bytes) < 0 || bytes < BLOCK_BYTES ||
        live->io->ops->map(live->file, BLOCK_BYTES, &page) < 0)
        return NULL;
    return page;
}

/* Readers in other processes can do without a page: they see what is durable by the marks in the log. They
 * must not take an older writer's page in the file for this one's, so the file is overwritten. A file too
 * short to be mapped is left alone; a full disk may be the reason. */
static int make_private_page(struct live *live)
{
    uint64_t bytes;
    struct live_page *page = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (!page)
        return -ENOMEM;
    *page = (struct live_page){ 0 };
    live->page = page;
    live->is_private = true;
    bool is_short = io_size(live->file, &bytes) == 0 && bytes < BLOCK_BYTES;
    return is_short ? 0 : io_write_at(live->file, page, BLOCK_BYTES, 0);
}

/* ---- sleeping ---------------------------------------------------------------------------------- */

static void futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
    /* Not private: the word may be shared with other processes. After any failure the caller looks again. */
    syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

static void await_pulse(struct live_page *page, uint32_t seen)
{
    uint32_t awaited = atomic_load(&page->awaited);
    while ((int32_t)(seen - awaited) > 0 && !atomic_compare_exchange_weak(&page->awaited, &awaited, seen))
        continue;
}

static void beat(struct live_page *page)
{
    uint32_t before = atomic_fetch_add(&page->pulse, 1);
    /* A newer sequence in `awaited` counts too: its reader has replaced one that still sleeps on ours. */
    if ((int32_t)(atomic_load(&page->awaited) - before) >= 0)
        futex(&page->pulse, FUTEX_WAKE, INT_MAX, NULL);
}

uint32_t twl_live_pulse(const struct live *live)
{
    return live->page ? atomic_load(&live->page->pulse) : 0;
}

static int choose_limit(struct live *live)
{
    return live->is_writable && twl_live_is_written(live) ? NAP_MS : POLL_MS;
}

void twl_live_await(struct live *live, uint32_t seen)
{
    if (live->page && live->is_writable)
        await_pulse(live->page, seen);
    atomic_thread_fence(memory_order_seq_cst);
}

void twl_live_sleep(struct live *live, uint32_t seen, int timeout_ms)
{
    if (!live->io->has_threads) /* no other thread can do anything meanwhile */
        return;
    int limit = choose_limit(live);
    if (timeout_ms >= 0 && timeout_ms < limit)
        limit = timeout_ms;
    if (!live->page) {
        live->io->ops->sleep_ms(live->io, (unsigned)limit);
        return;
    }
    const struct timespec timeout = { .tv_sec = limit / 1000, .tv_nsec = (long)(limit % 1000) * 1000000 };
    if (live->is_writable)
        await_pulse(live->page, seen);
    futex(&live->page->pulse, FUTEX_WAIT, seen, &timeout);
}

void twl_live_wake(struct live *live)
{
    if (!live->page)
        return;
    if (live->is_writable)
        atomic_fetch_add(&live->page->pulse, 1);
    futex(&live->page->pulse, FUTEX_WAKE, INT_MAX, NULL);
}

/* ---- writing ----------------------------------------------------------------------------------- */

static int open_or_create(struct io *io, struct io_file **ret_file)
{
    int rc = io_open(io, LIVE_NAME, 0, ret_file);
    if (rc == -ENOENT)
        rc = io_open(io, LIVE_NAME, IO_CREATE, ret_file);
    if (rc == -EEXIST) /* another process was faster */
        rc = io_open(io, LIVE_NAME, 0, ret_file);
    return rc;
}

static void clear(struct live *live)
{
    struct live_page *page = live->page;
    memset((unsigned char *)page + LIVE_COMMON_OFFSET, 0, BLOCK_BYTES - LIVE_COMMON_OFFSET);
    atomic_store(&page->epoch, 0);
    watermark_store(&page->durable, 0);
    atomic_store(&page->first_lsn, 0);
    atomic_store(&page->mode, TWINLOG_MODE_DURABLE);
    atomic_store(&page->wanted_ns, 0); /* after a reboot an old value may be far in the future */
    atomic_store(&page->awaited, atomic_load(&page->pulse) - 1); /* a value from before a power cut is void */
    atomic_store(&page->magic, LIVE_MAGIC);
    twl_live_wake(live); /* sleeping readers wake and announce themselves again */
}

static int make_large_enough(struct io_file *file)
{
    uint64_t bytes = 0;
    int rc = io_size(file, &bytes);
    return rc == 0 && bytes < BLOCK_BYTES ? io_allocate(file, BLOCK_BYTES, IO_ALLOCATE_WRITTEN) : rc;
}

int twl_live_share(struct io *io, struct live *ret_live)
{
    struct live live = { .io = io, .is_ours = true, .is_writable = true, .is_shared = true };
    int rc = open_or_create(io, &live.file);
    if (rc == 0)
        rc = make_large_enough(live.file);
    if (rc == 0)
        live.page = map_page(&live);
    if (rc == 0 && !live.page)
        rc = -ENOTSUP;
    if (rc < 0) {
        twl_live_unlock(&live);
        return rc;
    }
    clear(&live);
    *ret_live = live;
    return 0;
}

int twl_live_join(struct io *io, struct live *ret_live)
{
    struct live live;
    int rc = twl_live_watch(io, &live);
    if (rc < 0)
        return rc;
    if (!live.page || !live.is_writable) {
        twl_live_unwatch(&live);
        return -ENOTSUP;
    }
    live.is_ours = live.is_shared = true;
    *ret_live = live;
    return 0;
}

int twl_live_lock(struct io *io, unsigned wait_ms, struct live *ret_live)
{
    struct live live = { .io = io, .is_ours = true, .is_writable = true };
    int rc = open_or_create(io, &live.file);
    if (rc < 0)
        return rc;
    rc = twl_lock_patiently(live.file, wait_ms);
    if (rc == 0)
        rc = make_large_enough(live.file);
    if (rc == 0 || is_no_space(rc)) { /* a full disk must not prevent the opening of a log */
        live.page = map_page(&live);
        rc = live.page ? 0 : make_private_page(&live);
    }
    if (rc < 0) {
        twl_live_unlock(&live);
        return rc;
    }
    clear(&live);
    *ret_live = live;
    return 0;
}

static void store_identity(const struct live *live)
{
    struct live_page *page = live->page;
    const uint32_t epoch = atomic_load(&live->own_epoch);
    atomic_store(&page->first_lsn, atomic_load(&live->own_first_lsn));
    atomic_store(&page->mode, atomic_load(&live->own_mode));
    atomic_store(&page->offer, (uint64_t)epoch << 32 | live->layout);
    atomic_store(&page->epoch, epoch);
}

/* Announces a publication. If the page is new and empty because the file was made shorter, readers of this
 * process need the other fields again. */
static void announce(const struct live *live)
{
    if (!is_page(live->page) && !live->is_shared) {
        store_identity(live);
        atomic_store(&live->page->magic, LIVE_MAGIC);
    }
    beat(live->page);
}

void twl_live_publish(struct live *live, uint32_t epoch, uint64_t first_lsn, uint64_t durable_lsn)
{
    atomic_store(&live->own_epoch, epoch);
    atomic_store(&live->own_first_lsn, first_lsn);
    atomic_store(&live->page->first_lsn,
                 first_lsn); /* first: after a reset there may be no records up to the new watermark */
    watermark_store(&live->page->durable, durable_lsn);
    store_identity(live);
    announce(live);
}

void twl_live_publish_mode(struct live *live, uint32_t mode)
{
    atomic_store(&live->own_mode, mode);
}

void twl_live_publish_durable(struct live *live, uint64_t durable_lsn)
{
    if (live->is_shared)
        watermark_raise(&live->page->durable, durable_lsn);
    else
        watermark_store(&live->page->durable, durable_lsn);
    announce(live);
}

void twl_live_publish_epoch(struct live *live, uint32_t epoch)
{
    if (live->is_shared) {
        uint32_t old = atomic_load(&live->page->epoch);
        while (old < epoch && !atomic_compare_exchange_weak(&live->page->epoch, &old, epoch))
            continue;
        announce(live);
        return;
    }
    atomic_store(&live->own_epoch, epoch);
    store_identity(live);
    announce(live);
}

void twl_live_nudge(struct live *live)
{
    struct live_page *page = live->page;
    atomic_thread_fence(memory_order_seq_cst); /* the record is visible before this load */
    if ((int32_t)(atomic_load_explicit(&page->awaited, memory_order_relaxed) - atomic_load(&page->pulse)) >=
        0)
        announce(live);
}

void twl_live_publish_first(struct live *live, uint64_t first_lsn)
{
    atomic_store(&live->own_first_lsn, first_lsn);
    atomic_store(&live->page->first_lsn, first_lsn);
    announce(live);
}

void twl_live_unlock(struct live *live)
{
    twl_live_unwatch(live);
}

/* ---- watching ---------------------------------------------------------------------------------- */

static int open_to_watch(struct live *live)
{
    int rc = io_open(live->io, LIVE_NAME, 0, &live->file);
    live->is_writable = rc == 0;
    if (rc == -EACCES || rc == -EPERM || rc == -EROFS)
        rc = io_open(live->io, LIVE_NAME, IO_READ_ONLY, &live->file);
    return rc;
}

int twl_live_watch(struct io *io, struct live *ret_live)
{
    struct live live = { .io = io };
    int rc = open_to_watch(&live);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (rc == 0)
        live.page = map_page(&live);
    if (live.page && !is_page(live.page)) /* not made yet, or of a writer that can't share it */
        unmap_page(&live);
    *ret_live = live;
    return 0;
}

int twl_live_watch_again(struct live *live)
{
    struct live again;
    uint32_t links;
    const bool is_lost = !live->page || !is_page(live->page); /* its file was made shorter */
    if (!is_lost && (io_links(live->file, &links) < 0 || links > 0))
        return 0;
    int rc = twl_live_watch(live->io, &again);
    if (rc < 0)
        return rc;
    bool is_better = again.page || is_lost;
    struct live old = is_better ? *live : again;
    if (is_better)
        *live = again;
    twl_live_unwatch(&old);
    return is_better && live->page ? 1 : 0;
}

int twl_live_has_writer(struct live *live, bool *ret_has_writer)
{
    *ret_has_writer = live->is_ours;
    return live->is_ours || !live->file ? 0 : io_is_locked(live->file, IO_LOCK_WRITER, ret_has_writer);
}

bool twl_live_is_written(struct live *live)
{
    bool has_writer;
    return twl_live_has_writer(live, &has_writer) == 0 && has_writer;
}

uint32_t twl_live_epoch(const struct live *live)
{
    return live->page && is_page(live->page) ? atomic_load(&live->page->epoch) : 0;
}

uint64_t twl_live_durable_lsn(const struct live *live)
{
    if (twl_live_epoch(live) == 0)
        return 0;
    uint64_t lsn = watermark_load_checked(&live->page->durable);
    for (int looks = 1; lsn == 0 && looks < SETTLING_LOOKS && watermark_load(&live->page->durable) != 0;
         looks++) {
        twl_yield();
        lsn = watermark_load_checked(&live->page->durable);
    }
    return lsn > 0 ? lsn : watermark_load_least(&live->page->durable);
}

uint64_t twl_live_first_lsn(const struct live *live)
{
    return twl_live_epoch(live) > 0 ? atomic_load(&live->page->first_lsn) : 0;
}

uint32_t twl_live_mode(const struct live *live)
{
    const uint32_t mode = twl_live_epoch(live) > 0 ? atomic_load(&live->page->mode) : TWINLOG_MODE_DURABLE;
    return mode <= TWINLOG_MODE_SHARED ? mode : TWINLOG_MODE_MAPPED;
}

bool twl_live_is_mapped(const struct live *live)
{
    return twl_live_mode(live) != TWINLOG_MODE_DURABLE;
}

/* ---- copies -------------------------------------------------------------------------------------- */

void twl_live_offer_copies(struct live *live, uint32_t layout)
{
    live->layout = layout;
}

bool twl_live_is_copy_wanted(const struct live *live)
{
    const uint64_t wanted_ns = atomic_load_explicit(&live->page->wanted_ns, memory_order_relaxed);
    return wanted_ns > 0 && wanted_ns > twl_monotonic_ns();
}

int twl_live_put_copy(struct live *live, const void *copy, size_t size)
{
    return io_write_at(live->file, copy, size, BLOCK_BYTES);
}

int twl_live_want_copies(struct live *live, uint32_t layout, uint64_t until_ns)
{
    const uint32_t epoch = twl_live_epoch(live);
    if (!live->page)
        return -ENOTSUP;
    if (!live->is_writable)
        return -EACCES;
    if (epoch == 0)
        return -EAGAIN;
    if (atomic_load(&live->page->offer) != ((uint64_t)epoch << 32 | layout))
        return -ENOTSUP;
    raise_u64(&live->page->wanted_ns, until_ns);
    return 0;
}

int twl_live_get_copy(struct live *live, void *copy, size_t size)
{
    size_t found = 0;
    int rc = io_read(live->file, copy, size, BLOCK_BYTES, &found);
    return rc < 0 ? rc : found < size ? -ENODATA : 0;
}

void twl_live_unwatch(struct live *live)
{
    unmap_page(live);
    io_close(live->file);
    *live = (struct live){ 0 };
}
