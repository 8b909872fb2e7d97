/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See shared_page.h. A writer locks the file, maps the page, clears it, and publishes in it what it has recovered; from
 * then on, each group. A reader maps the page, and waits for publications. Either can do without: a writer then makes a
 * page in private memory, and a reader asks again from time to time.
 *
 * The page may hold anything when a writer finds it. What counts is cleared before it is used. The sequence keeps its
 * value, because readers may be sleeping on it. A reader checks each value that it could not do without.
 *
 * Sleeping: a reader stores the sequence that it has seen in `awaited_sequence`, and sleeps while the sequence is
 * unchanged. A publication adds one to the sequence and then checks whether the old one was awaited_sequence. Both are
 * sequentially consistent: either the writer sees that it has to wake, or the kernel sees another sequence
 * and lets no reader sleep.
 *
 * If the wait of a reader has a limit, the reader stores `awaited_sequence` only when it has seen the writer publish
 * within the last PAGE_FRESH_NS. Otherwise the file system may be frozen, and the store would wait until the thaw.
 * Until then the reader looks from time to time.
 */
#define _GNU_SOURCE
#include "control/shared_page.h"

#include "base/process.h"
#include "base/sync.h"
#include "control/state.h"
#include "format/format.h"
#include "twinlog.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MAGIC UINT64_C(0x324556494c4c5754) /* "TWLLIVE2" */
#define FEW_PUBLICATIONS 8u                     /* a reader that waits for one in so many keeps up */
#define POLL_MS 20                              /* where no writer would wake the reader */
#define BRIEF_POLL_MS 2                         /* the same, where something has come LATELY_NS ago */
#define LATELY_NS UINT64_C(100000000)
#define NAP_MS 1000 /* where one would: it may have died, or the file may have been made shorter */
#define MOST_LEFT_EPOCH (UINT32_MAX / 4 * 3)
#define SETTLING_LOOKS 64 /* the two words of a watermark differ while it is being stored */

#define STATISTICS_BYTES (PAGE_FILE_BYTES - BLOCK_BYTES)

_Static_assert(sizeof(struct page_words) <= PAGE_COMMON_OFFSET, "in front of what is shared");
_Static_assert(sizeof(struct statistics) <= STATISTICS_BYTES, "fit behind the page");

/* ---- the page ---------------------------------------------------------------------------------- */

static bool is_page(const struct page_words *page)
{
    return atomic_load(&page->magic) == PAGE_MAGIC;
}

static void unmap_page(struct shared_page *shared)
{
    struct page_words *view = atomic_exchange(&shared->view, NULL);

    if (view)
        shared->io->ops->unmap(shared->io, view, BLOCK_BYTES);
    if (shared->is_private)
        free(shared->page);
    else if (shared->page)
        shared->io->ops->unmap(shared->io, shared->page, PAGE_FILE_BYTES);
    shared->page = NULL;
    shared->statistics = NULL;
}

static void set_page(struct shared_page *shared, void *page)
{
    shared->page = page;
    shared->statistics = (struct statistics *)((unsigned char *)page + BLOCK_BYTES);
}

/* `page` stays NULL if the file is too short, or can't be mapped. */
static void map_page(struct shared_page *shared)
{
    uint64_t bytes = 0;
    void *page;

    const bool is_long_enough = io_size(shared->file, &bytes) == 0 && bytes >= PAGE_FILE_BYTES;
    if (!is_long_enough)
        return;
    if (shared->io->ops->map(shared->file, PAGE_FILE_BYTES, &page) == 0)
        set_page(shared, page);
}

/* The kernel treats a sleep on a word of a writable mapping as a write: on a frozen file system it waits for the thaw.
 * Where there can be no second mapping, readers sleep on the page itself. */
static void map_view(struct shared_page *shared)
{
    const struct io_ops *ops = shared->io->ops;
    void *view;

    const bool is_needed = shared->page && shared->is_writable && !atomic_load(&shared->view);
    if (is_needed && ops->map_to_read(shared->file, BLOCK_BYTES, &view) == 0)
        atomic_store(&shared->view, view);
}

static _Atomic uint32_t *word_to_sleep_on(const struct shared_page *shared)
{
    struct page_words *view = atomic_load(&shared->view);

    if (view)
        return &view->page_sequence;
    return &shared->page->page_sequence;
}

/* Readers in other processes can do without a page: they see what is durable by the markers in the log. They
 * must not take an older writer's page in the file for this one's, so the file is overwritten. A file
 * without a whole page is left alone; a full disk may be the reason. */
static int make_private_page(struct shared_page *shared)
{
    uint64_t bytes;
    void *page = aligned_alloc(BLOCK_BYTES, PAGE_FILE_BYTES);
    if (!page)
        return -ENOMEM;

    memset(page, 0, PAGE_FILE_BYTES);
    set_page(shared, page);
    shared->is_private = true;

    const bool is_short = io_size(shared->file, &bytes) == 0 && bytes < BLOCK_BYTES;
    if (is_short)
        return 0;
    return io_write_at(shared->file, page, BLOCK_BYTES, 0);
}

/* ---- sleeping ---------------------------------------------------------------------------------- */

/* A newer sequence in `awaited` counts too: its reader has replaced one that still sleeps on ours. */
static bool is_awaited(const _Atomic uint32_t *awaited, uint32_t sequence)
{
    return (int32_t)(atomic_load(awaited) - sequence) >= 0;
}

static bool was_awaited_lately(const _Atomic uint32_t *awaited, const _Atomic uint32_t *sequence)
{
    const uint32_t newest = atomic_load_explicit(sequence, memory_order_relaxed);
    const uint32_t behind = newest - atomic_load_explicit(awaited, memory_order_relaxed);
    return behind <= FEW_PUBLICATIONS;
}

bool twl_page_is_awaited(const struct shared_page *shared)
{
    const struct page_words *page = shared->page;

    if (was_awaited_lately(&page->awaited_sequence, &page->page_sequence))
        return true;
    if (!atomic_load_explicit(&shared->has_own_readers, memory_order_relaxed))
        return false;
    return was_awaited_lately(&shared->own_awaited, &shared->own_sequence);
}

static void bump_sequence(struct shared_page *shared)
{
    struct page_words *page = shared->page;
    const uint32_t before = atomic_fetch_add(&page->page_sequence, 1);

    if (is_awaited(&page->awaited_sequence, before))
        twl_word_wake(&page->page_sequence, INT_MAX, true);

    /* This is looked at after the publication, so a reader that is attached later finds what was published. */
    if (!atomic_load(&shared->has_own_readers))
        return;
    const uint32_t own_before = atomic_fetch_add(&shared->own_sequence, 1);
    if (is_awaited(&shared->own_awaited, own_before))
        twl_word_wake(&shared->own_sequence, INT_MAX, false);
}

uint32_t twl_page_sequence(struct shared_page *shared)
{
    if (page_is_own(shared)) {
        if (!atomic_load(&shared->has_own_readers))
            atomic_store(&shared->has_own_readers, true);
        return atomic_load(&shared->own_sequence);
    }
    if (!shared->page)
        return 0;
    return atomic_load(&shared->page->page_sequence);
}

/* The next change is likely to come soon then, and a reader that looks often sees it when it is fresh. */
static bool was_changed_lately(const struct shared_page *shared)
{
    const uint64_t change_ns = atomic_load(&shared->change_ns);

    return change_ns > 0 && twl_monotonic_ns() - change_ns < LATELY_NS;
}

static int choose_limit_ms(struct shared_page *shared, bool is_announced)
{
    const bool will_be_woken = is_announced && twl_page_has_known_writer(shared);

    if (will_be_woken)
        return NAP_MS;
    if (was_changed_lately(shared))
        return BRIEF_POLL_MS;
    return POLL_MS;
}

/* Where a reader announces itself; NULL: it cannot. */
static _Atomic uint32_t *awaited_word(struct shared_page *shared)
{
    if (page_is_own(shared))
        return &shared->own_awaited;
    if (shared->page && shared->is_writable)
        return &shared->page->awaited_sequence;
    return NULL;
}

static void raise_sequence(_Atomic uint32_t *awaited, uint32_t sequence)
{
    uint32_t newest = atomic_load(awaited);

    while ((int32_t)(sequence - newest) > 0 && !atomic_compare_exchange_weak(awaited, &newest, sequence))
        continue;
}

/* May a store to the page be made without a wait for the disk? On a frozen file system it waits for the thaw. A moment
 * ago the writer could store to it, so the file system was not frozen then. */
static bool may_store(const struct shared_page *shared)
{
    const uint64_t news_ns = atomic_load(&shared->news_ns);

    if (page_is_own(shared))
        return true;
    return news_ns > 0 && twl_monotonic_ns() - news_ns < PAGE_FRESH_NS;
}

bool twl_page_announce_sleep(struct shared_page *shared, uint32_t seen, bool may_wait)
{
    _Atomic uint32_t *awaited = awaited_word(shared);

    if (!awaited)
        return false;
    if (!is_awaited(awaited, seen)) {
        if (!may_wait && !may_store(shared))
            return false;
        raise_sequence(awaited, seen);
    }
    atomic_thread_fence(memory_order_seq_cst);
    return true;
}

/* If it is fresh, the reader announces itself now: when it is about to sleep, the file system may be frozen. */
void twl_page_note_news(struct shared_page *shared, uint32_t sequence, bool is_fresh)
{
    const uint64_t now_ns = twl_monotonic_ns();

    atomic_store(&shared->change_ns, now_ns);
    if (!is_fresh)
        return;
    atomic_store(&shared->news_ns, now_ns);
    (void)twl_page_announce_sleep(shared, sequence, true);
}

void twl_page_sleep(struct shared_page *shared, uint32_t seen, int timeout_ms, bool is_announced)
{
    if (!shared->io->has_threads) /* no other thread can do anything meanwhile */
        return;

    int limit_ms = choose_limit_ms(shared, is_announced);
    if (timeout_ms >= 0 && timeout_ms < limit_ms)
        limit_ms = timeout_ms;
    if (!shared->page) {
        shared->io->ops->sleep_ms(shared->io, (unsigned)limit_ms);
        return;
    }

    const uint64_t begin_ns = twl_monotonic_ns();
    const uint64_t until_ns = begin_ns + (uint64_t)limit_ms * 1000000;
    if (page_is_own(shared)) {
        twl_word_sleep(&shared->own_sequence, seen, until_ns, false);
        return;
    }

    if (!shared
             ->is_ours) /* a participant has mapped it with the page, as several of its threads may come here */
        map_view(shared);
    twl_word_sleep(word_to_sleep_on(shared), seen, until_ns, true);

    /* A reader that is announced was woken at once. */
    const uint32_t sequence = twl_page_sequence(shared);
    const bool is_fresh = is_announced || twl_monotonic_ns() - begin_ns < PAGE_FRESH_NS;
    if (sequence != seen)
        twl_page_note_news(shared, sequence, is_fresh);
}

void twl_page_wake(struct shared_page *shared)
{
    if (page_is_own(shared))
        twl_word_wake(&shared->own_sequence, INT_MAX, false);
    else if (shared->page)
        twl_word_wake(word_to_sleep_on(shared), INT_MAX, true);
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* No log reaches the largest numbers by counting, and they leave too few to go on. */
static uint32_t believable_epoch(uint32_t epoch)
{
    if (epoch > MOST_LEFT_EPOCH)
        return 0;
    return epoch;
}

/* The newest epoch that a writer has left here. It stays in the page until a newer one is published: this opening may
 * fail, and readers ignore that epoch. */
static uint32_t find_left_epoch(const struct shared_page *shared)
{
    const uint32_t epoch = twl_page_epoch(shared);
    uint32_t older = 0;

    if (is_page(shared->page))
        older = atomic_load(&shared->page->left_epoch);
    return (uint32_t)max_u64(believable_epoch(epoch), believable_epoch(older));
}

/* The newest sequence that counts as one for which no reader has waited lately. */
static uint32_t long_before(uint32_t sequence)
{
    return sequence - FEW_PUBLICATIONS - 1;
}

/* Takes out what the writer before has left, and makes the page one of this writer that has published nothing yet. */
static void clear(struct shared_page *shared)
{
    struct page_words *page = shared->page;
    uint64_t writer = 0;

    /* First, as it is read from the words that are cleared below. */
    shared->left_epoch = find_left_epoch(shared);
    atomic_store(&page->left_epoch, shared->left_epoch);

    memset((unsigned char *)page + PAGE_COMMON_OFFSET, 0, BLOCK_BYTES - PAGE_COMMON_OFFSET);
    memset(shared->statistics, 0, sizeof(*shared->statistics));
    atomic_store(&page->trim_ask.asked, 0);
    atomic_store(&page->trim_ask.answer, (struct trim_answer){ 0 });
    atomic_store(&page->epoch, 0);
    watermark_store(&page->durable, 0);
    atomic_store(&page->poison, 0);

    if (!shared->is_shared)
        writer = twl_process_word();
    atomic_store(&page->writer, writer);

    /* A value from before a power cut says nothing of readers now. Those that sleep are woken, and announce themselves
     * again. */
    atomic_store(&page->awaited_sequence, long_before(atomic_load(&page->page_sequence)));
    atomic_store(&page->magic, PAGE_MAGIC);
    atomic_fetch_add(&page->page_sequence, 1);
    twl_word_wake(&page->page_sequence, INT_MAX, true);
}

static int make_large_enough(struct io_file *file)
{
    uint64_t bytes = 0;
    const int rc = io_size(file, &bytes);

    if (rc < 0)
        return rc;
    if (bytes >= PAGE_FILE_BYTES)
        return 0;
    return io_allocate(file, PAGE_FILE_BYTES, IO_ALLOCATE_WRITTEN);
}

/* A full disk must not prevent an opening: a writer that is alone then makes a page of its own. */
static int map_or_make_page(struct shared_page *shared)
{
    const int rc = make_large_enough(shared->file);
    if (rc < 0 && !is_no_space(rc))
        return rc;

    map_page(shared);
    if (shared->page)
        return 0;
    if (!shared->is_shared)
        return make_private_page(shared);
    if (rc < 0)
        return rc;
    return -ENOTSUP;
}

/* Opens the file of the page once more, beside `lock`, the open file that has the writer's lock. */
static int open_beside(struct io_file *lock, struct io_file **ret_file)
{
    uint32_t links;

    int rc = io_open_or_create(lock->io, PAGE_FILE_NAME, 0, ret_file);
    if (rc == 0) /* if it has the name now, it had it at the opening */
        rc = io_links(lock, PAGE_FILE_NAME, &links);
    if (rc < 0)
        return rc;
    if (links == 0)
        return -EBUSY;
    return 0;
}

/* `lock`: NULL, or the file on which the writer has its lock; then it can't do without a page that is shared. */
static int make_page(struct io *io, struct io_file *lock, unsigned wait_ms, struct shared_page *ret_shared)
{
    struct shared_page shared = {
        .io = io,
        .is_ours = true,
        .is_writable = true,
        .is_shared = lock != NULL,
        .own_awaited = long_before(0),
    };
    uint32_t links;
    int rc;

    if (lock)
        rc = open_beside(lock, &shared.file);
    else
        rc = twl_open_locked(io, PAGE_FILE_NAME, IO_CREATE, IO_LOCK_WRITER, wait_ms, &shared.file, &links);
    if (rc == 0)
        rc = map_or_make_page(&shared);
    if (rc < 0) {
        twl_page_unwatch(&shared);
        return rc;
    }

    if (shared.is_shared)
        map_view(&shared);
    clear(&shared);
    *ret_shared = shared;
    return 0;
}

int twl_page_share(struct io_file *lock, struct shared_page *ret_shared)
{
    return make_page(lock->io, lock, 0, ret_shared);
}

int twl_page_lock(struct io *io, unsigned wait_ms, struct shared_page *ret_shared)
{
    return make_page(io, NULL, wait_ms, ret_shared);
}

int twl_page_join(struct io *io, struct shared_page *ret_shared)
{
    struct shared_page shared;
    const int rc = twl_page_watch(io, &shared);

    if (rc < 0)
        return rc;
    if (!shared.page || !shared.is_writable) {
        twl_page_unwatch(&shared);
        return -ENOTSUP;
    }

    shared.is_ours = true;
    shared.is_shared = true;
    map_view(&shared);
    *ret_shared = shared;
    return 0;
}

pid_t twl_page_writer(struct io *io)
{
    struct page_words page;
    struct io_file *file;
    size_t size = 0;

    if (io_open(io, PAGE_FILE_NAME, IO_READ_ONLY, &file) < 0)
        return 0;
    const int rc = io_read(file, &page, sizeof(page), 0, &size);
    io_close(file);

    const bool is_known = rc == 0 && size == sizeof(page) && is_page(&page);
    if (!is_known)
        return 0;
    return twl_process_pid(atomic_load(&page.writer));
}

/* The epoch is last: with it readers believe the other words. */
static void store_identity(const struct shared_page *shared)
{
    struct page_words *page = shared->page;
    const uint32_t epoch = atomic_load(&shared->own_epoch);

    atomic_store(&page->first_lsn, atomic_load(&shared->own_first_lsn));
    atomic_store(&page->mode, atomic_load(&shared->own_mode));
    atomic_store(&page->epoch, epoch);
}

/* Announces a publication. If the page is new and empty because the file was made shorter, readers of this
 * process need the other fields again. */
static void announce(struct shared_page *shared)
{
    const bool is_empty = !is_page(shared->page);

    if (is_empty && !shared->is_shared) {
        store_identity(shared);
        atomic_store(&shared->page->magic, PAGE_MAGIC);
    }
    bump_sequence(shared);
}

void twl_page_publish(struct shared_page *shared, uint32_t mode, uint32_t epoch, uint64_t first_lsn,
                      uint64_t durable_lsn)
{
    atomic_store(&shared->own_mode, mode);
    atomic_store(&shared->own_epoch, epoch);
    atomic_store(&shared->own_first_lsn, first_lsn);
    atomic_store(&shared->statistics->layout, STATISTICS_LAYOUT);

    /* Before the watermark: after a reset there may be no records up to the new one. */
    atomic_store(&shared->page->first_lsn, first_lsn);
    watermark_store(&shared->page->durable, durable_lsn);
    store_identity(shared);
    announce(shared);
}

void twl_page_publish_durable(struct shared_page *shared, uint64_t durable_lsn)
{
    if (shared->is_shared)
        watermark_raise(&shared->page->durable, durable_lsn);
    else
        watermark_store(&shared->page->durable, durable_lsn);
    announce(shared);
}

void twl_page_note(struct shared_page *shared, uint64_t segment_id, uint64_t offset, uint64_t end,
                   bool has_records)
{
    struct page_words *page = shared->page;

    atomic_store_explicit(&page->noted_segment, segment_id, memory_order_relaxed);
    atomic_store_explicit(&page->noted_group, offset, memory_order_relaxed);
    atomic_store_explicit(&page->noted_end, end, memory_order_relaxed);
    if (has_records)
        atomic_store_explicit(&page->noted_records, offset, memory_order_relaxed);
}

static void raise_u32(_Atomic uint32_t *at, uint32_t value)
{
    uint32_t old = atomic_load(at);

    while (old < value && !atomic_compare_exchange_weak(at, &old, value))
        continue;
}

void twl_page_publish_epoch(struct shared_page *shared, uint32_t epoch)
{
    if (shared->is_shared) {
        raise_u32(&shared->page->epoch, epoch);
    } else {
        atomic_store(&shared->own_epoch, epoch);
        store_identity(shared);
    }
    announce(shared);
}

static bool is_awaited_now(const struct shared_page *shared)
{
    const struct page_words *page = shared->page;

    if (is_awaited(&page->awaited_sequence, atomic_load(&page->page_sequence)))
        return true;
    if (!atomic_load(&shared->has_own_readers))
        return false;
    return is_awaited(&shared->own_awaited, atomic_load(&shared->own_sequence));
}

void twl_page_nudge(struct shared_page *shared)
{
    atomic_thread_fence(memory_order_seq_cst); /* the record is visible before the loads that follow */
    if (is_awaited_now(shared))
        announce(shared);
}

void twl_page_publish_first(struct shared_page *shared, uint64_t first_lsn)
{
    atomic_store(&shared->own_first_lsn, first_lsn);
    if (shared->is_shared)
        raise_u64(&shared->page->first_lsn, first_lsn);
    else
        atomic_store(&shared->page->first_lsn, first_lsn);
    announce(shared);
}

void twl_page_publish_poison(struct shared_page *shared, int error)
{
    int none = 0;

    atomic_compare_exchange_strong(&shared->page->poison, &none, error);
}

/* This process may live on, and the next writer has the lock for a moment before it stores its own word: it must not be
 * taken for this one meanwhile. */
static void forget_process(struct page_words *page)
{
    uint64_t own = twl_process_word();

    atomic_compare_exchange_strong(&page->writer, &own, 0);
}

/* ---- watching ---------------------------------------------------------------------------------- */

/* For writing, if that is allowed: then the reader can announce that it sleeps. */
static int open_to_watch(struct shared_page *shared)
{
    int rc = io_open(shared->io, PAGE_FILE_NAME, 0, &shared->file);
    shared->is_writable = rc == 0;

    const bool may_only_read = rc == -EACCES || rc == -EPERM || rc == -EROFS;
    if (may_only_read)
        rc = io_open(shared->io, PAGE_FILE_NAME, IO_READ_ONLY, &shared->file);
    return rc;
}

int twl_page_watch(struct io *io, struct shared_page *ret_shared)
{
    struct shared_page shared = { .io = io };

    const int rc = open_to_watch(&shared);
    if (rc < 0 && rc != -ENOENT)
        return rc;

    if (rc == 0)
        map_page(&shared);
    if (shared.page && !is_page(shared.page)) /* it is not made yet, or its writer can't share it */
        unmap_page(&shared);
    *ret_shared = shared;
    return 0;
}

/* Was the file of the page removed? False also if that can't be found out. */
static bool is_removed(const struct shared_page *shared)
{
    uint32_t links;

    return io_links(shared->file, PAGE_FILE_NAME, &links) == 0 && links == 0;
}

/* If only the file of the page was removed, the log goes on: its segments have locks as well. So the state decides,
 * without which no process can open the log again. */
int twl_page_check_log(const struct shared_page *shared)
{
    struct io *io = shared->io;
    struct state state;

    int rc = io->ops->check_directory(io);
    if (rc < 0)
        return rc;
    if (!shared->file || !is_removed(shared))
        return 0;

    rc = twl_state_read(io, &state, NULL);
    if (rc == -ENOENT || rc == -ESTALE || rc == TWINLOG_EFOREIGN)
        return -ESTALE;
    if (rc == 0)
        twl_state_free(&state);
    return 0;
}

int twl_page_watch_again(struct shared_page *shared)
{
    struct shared_page again;

    /* There was none, or its file was made shorter. */
    const bool has_page = shared->page && is_page(shared->page);
    if (has_page && !is_removed(shared))
        return 0;

    const int rc = twl_page_watch(shared->io, &again);
    if (rc < 0)
        return rc;

    /* No new one was made so far. The old page has the last words of its writer. */
    if (has_page && !again.page) {
        twl_page_unwatch(&again);
        return 0;
    }

    twl_page_unwatch(shared);
    *shared = again;
    if (!shared->page)
        return 0;
    return 1;
}

int twl_page_has_writer(struct shared_page *shared, bool *ret_has_writer)
{
    *ret_has_writer = shared->is_ours;
    if (shared->is_ours || !shared->file)
        return 0;
    return io_is_locked(shared->file, IO_LOCK_WRITER, ret_has_writer);
}

int twl_page_look_for_writer(struct shared_page *shared, bool *ret_has_writer)
{
    const int found = twl_page_watch_again(shared);

    if (found < 0)
        return found;
    return twl_page_has_writer(shared, ret_has_writer);
}

bool twl_page_has_known_writer(struct shared_page *shared)
{
    bool has_writer;

    return twl_page_has_writer(shared, &has_writer) == 0 && has_writer;
}

/* 0 also while the writer recovers. The other words of the page count only if there is an epoch. */
uint32_t twl_page_epoch(const struct shared_page *shared)
{
    const bool has_page = shared->page && is_page(shared->page);

    if (!has_page)
        return 0;
    return atomic_load(&shared->page->epoch);
}

/* The two words of the watermark differ while a writer stores it, and stay different if it dies in between. Both are 0
 * while there is none. */
static uint64_t settled_watermark(const struct watermark *durable)
{
    for (int looks = 0; looks < SETTLING_LOOKS; looks++) {
        const uint64_t lsn = watermark_load_checked(durable);
        if (lsn > 0)
            return lsn;
        if (watermark_load(durable) == 0)
            break;
        twl_yield();
    }
    return watermark_load_least(durable);
}

uint64_t twl_page_durable_lsn(const struct shared_page *shared)
{
    if (twl_page_epoch(shared) == 0)
        return 0;
    return min_u64(settled_watermark(&shared->page->durable), LAST_LSN); /* the page may say anything */
}

uint64_t twl_page_first_lsn(const struct shared_page *shared)
{
    if (twl_page_epoch(shared) == 0)
        return 0;
    return atomic_load(&shared->page->first_lsn);
}

struct note twl_page_get_note(const struct shared_page *shared)
{
    const struct page_words *page = shared->page;

    if (!page || !is_page(page))
        return (struct note){ 0 };
    return (struct note){
        .segment_id = atomic_load(&page->noted_segment),
        .group = atomic_load(&page->noted_group),
        .records = atomic_load(&page->noted_records),
        .end = atomic_load(&page->noted_end),
        .epoch = (uint32_t)max_u64(atomic_load(&page->epoch), atomic_load(&page->left_epoch)),
    };
}

/* A mode that this version does not know counts as mapped, in which readers look for themselves. */
uint32_t twl_page_mode(const struct shared_page *shared)
{
    if (twl_page_epoch(shared) == 0)
        return TWINLOG_MODE_DURABLE;

    const uint32_t mode = atomic_load(&shared->page->mode);
    if (mode > TWINLOG_MODE_SHARED)
        return TWINLOG_MODE_MAPPED;
    return mode;
}

/* The page may say anything. */
int twl_page_poison(const struct shared_page *shared)
{
    if (twl_page_epoch(shared) == 0)
        return 0;
    return lasting_error(atomic_load(&shared->page->poison));
}

bool twl_page_is_mapped(const struct shared_page *shared)
{
    return twl_page_mode(shared) != TWINLOG_MODE_DURABLE;
}

void twl_page_unwatch(struct shared_page *shared)
{
    if (shared->is_ours && shared->page)
        forget_process(shared->page);
    unmap_page(shared);
    io_close(shared->file);
    *shared = (struct shared_page){ 0 };
}
