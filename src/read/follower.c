/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptor is an eventfd, readable while it holds a one. The reader arms it whenever it has found nothing; that
 * removes the one. The thread writes a one as soon as the page differs from what the reader has seen. No publication
 * in between is lost: the reader passes the sequence number that it had seen, and the thread compares with it. While
 * the descriptor is readable, the thread sleeps until the reader arms it again.
 *
 * A writer that writes through a mapping advances the sequence only if a reader has announced that it sleeps.
 * Where the page can't be written (another user, a read-only mount), the thread makes the descriptor readable
 * every 20 ms (shared_page.c), because there may be records. A writer that was killed announces nothing: the thread
 * asks for it when it has slept for a second in vain.
 */
#define _GNU_SOURCE
#include "read/follower.h"

#include "base/descriptor.h"
#include "base/sync.h"
#include "twinlog.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define QUIET_NS UINT64_C(10000000000) /* without news for so long: the thread announces itself in any case */

struct follower {
    int fd;                     /* [const] */
    pthread_t thread;           /* [const] */
    struct shared_page *shared; /* [const] the writer's, or `watched` */
    struct shared_page watched; /* [thread, with the lock to exchange it] */
    struct twl_event changed;   /* by the reader; the thread sleeps on it while `fd` is readable */
    struct twl_mutex lock;
    struct interest interest; /* [lock] */
    bool is_readable;         /* [lock] */
    bool must_end;            /* [lock] */
    _Atomic bool has_ended;
};

static void make_readable(struct follower *f) REQUIRES(f->lock)
{
    NOT_CANCELLED;
    const uint64_t one = 1;
    if (!f->is_readable)
        f->is_readable = write(f->fd, &one, sizeof(one)) == sizeof(one);
}

/* If there is nothing to read, the program has read the descriptor itself, as one does with an eventfd of one's own. */
static void drain(struct follower *f) REQUIRES(f->lock)
{
    NOT_CANCELLED;
    uint64_t count;
    if (!f->is_readable)
        return;

    const ssize_t got = read(f->fd, &count, sizeof(count));
    const bool is_empty = got == sizeof(count) || (got < 0 && errno == EAGAIN);
    f->is_readable = !is_empty;
}

/* ---- the thread -------------------------------------------------------------------------------- */

static bool has_news(struct shared_page *shared, const struct interest *interest)
{
    if (!shared->page) /* then next() has to look into the log itself; it may do so after each wake-up */
        return twl_page_has_known_writer(shared);

    uint32_t epoch = twl_page_epoch(shared);
    if (twl_page_sequence(shared) == interest->page_sequence)
        return false;
    if (epoch == 0) /* a writer that is opening the log will publish; if it died, the files have the answer */
        return !twl_page_has_known_writer(shared);
    if (epoch == interest->ignored_epoch)
        return false;

    if (epoch != interest->epoch)
        return true;

    if (twl_page_is_mapped(shared) && !interest->is_durable)
        return true;
    return twl_page_durable_lsn(shared) >= interest->lsn;
}

/* Is there another page now, was the directory removed, or can that not be found out? The reader looks by itself, and
 * finds what it is. */
static bool may_be_other_page(struct follower *f) REQUIRES(f->lock)
{
    return f->shared == &f->watched && twl_page_watch_again(&f->watched) != 0;
}

/* May there be records that the writer does not announce, as the reader could not tell it that it sleeps? */
static bool may_be_untold(const struct follower *f) REQUIRES(f->lock)
{
    struct shared_page *shared = f->shared;

    if (f->interest.is_durable || !shared->page || !f->interest.is_untold)
        return false;
    return twl_page_is_mapped(shared) && twl_page_has_known_writer(shared);
}

/* The reader knows what a writer has published, and that one has gone: the files may have more. */
static bool has_lost_writer(const struct follower *f) REQUIRES(f->lock)
{
    const bool is_finished = f->interest.lsn == UINT64_MAX;

    return f->interest.epoch != 0 && !is_finished && !twl_page_has_known_writer(f->shared);
}

/* The writer has found that the directory was removed. To a reader that is not the writer's own the page tells it, see
 * may_be_other_page(). */
static bool is_directory_gone(const struct follower *f)
{
    return f->shared->page && twl_page_poison(f->shared) == -ESTALE;
}

/* What nobody announces: another page, the end of the directory or of the writer, or records. `slept_on`: the
 * sequence. */
static void look_further(struct follower *f, uint32_t slept_on)
{
    const bool was_in_vain = twl_page_sequence(f->shared) == slept_on;

    twl_mutex_lock(&f->lock);
    const bool may_be_other = may_be_other_page(f);
    const bool is_at_end = is_directory_gone(f) || (was_in_vain && has_lost_writer(f));
    if (may_be_other || is_at_end || may_be_untold(f))
        make_readable(f);
    twl_mutex_unlock(&f->lock);
}

/* The thread has announced itself: from here on the writer tells of what comes. What has come before is for the reader
 * to find. When it has, it finds itself announced. */
static void wake_after_announcing(struct follower *f)
{
    twl_mutex_lock(&f->lock);
    f->interest.is_untold = false;
    make_readable(f);
    twl_mutex_unlock(&f->lock);
}

/* Sleeps until there may be news. After a while without any the thread announces itself, also if that may have to wait
 * for the disk: to look every 20 ms for ever costs more. */
static void sleep_for_news(struct follower *f, uint32_t page_sequence, bool is_untold,
                           uint64_t quiet_since_ns)
{
    const bool is_quiet = twl_monotonic_ns() - quiet_since_ns >= QUIET_NS;
    const bool is_announced = twl_page_announce_sleep(f->shared, page_sequence, is_quiet);

    if (is_announced && is_untold) {
        wake_after_announcing(f);
        return;
    }
    twl_page_sleep(f->shared, page_sequence, -1, is_announced);
    look_further(f, page_sequence);
}

static void *follow(void *context)
{
    struct follower *f = context;
    uint64_t quiet_since_ns = twl_monotonic_ns();
    uint32_t quiet_sequence = twl_page_sequence(f->shared);

    for (;;) {
        uint32_t changes = twl_event_value(&f->changed);
        uint32_t page_sequence = twl_page_sequence(f->shared);
        twl_mutex_lock(&f->lock);
        if (!f->is_readable && has_news(f->shared, &f->interest))
            make_readable(f);
        const bool is_readable = f->is_readable, must_end = f->must_end;
        const bool is_untold = f->interest.is_untold;
        twl_mutex_unlock(&f->lock);
        if (must_end)
            break;

        if (page_sequence != quiet_sequence) {
            quiet_sequence = page_sequence;
            quiet_since_ns = twl_monotonic_ns();
        }
        if (is_readable)
            twl_event_sleep(&f->changed, changes);
        else
            sleep_for_news(f, page_sequence, is_untold, quiet_since_ns);
    }

    atomic_store(&f->has_ended, true);
    return NULL;
}

/* ---- for the reader ---------------------------------------------------------------------------- */

int twl_follower_create(struct io *io, struct shared_page *shared, struct follower **ret_follower)
{
    if (!io->has_threads)
        return -ENOTSUP;

    struct follower *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;

    int rc = 0;
    f->shared = shared;
    if (!shared) {
        f->shared = &f->watched;
        rc = twl_page_watch(io, &f->watched);
    }
    if (rc < 0)
        goto free_follower;

    f->fd = twl_descriptor_event(0);
    if (f->fd < 0) {
        rc = f->fd;
        goto unwatch;
    }

    twl_mutex_init(&f->lock);
    f->interest.page_sequence = twl_page_sequence(f->shared);
    f->interest.lsn = UINT64_MAX;
    rc = twl_thread_start(&f->thread, follow, f);
    if (rc == 0) {
        *ret_follower = f;
        return 0;
    }

    twl_mutex_destroy(&f->lock);
    close(f->fd);
unwatch:
    twl_page_unwatch(&f->watched);
free_follower:
    free(f);
    return rc;
}

void twl_follower_destroy(struct follower *f)
{
    if (!f)
        return;

    unsigned turns = 0;

    twl_mutex_lock(&f->lock);
    f->must_end = true;
    twl_mutex_unlock(&f->lock);
    twl_event_notify_all(&f->changed);

    /* A store to the page would wake it for certain, but may wait for the disk. So it is woken until it has noticed. */
    while (!atomic_load(&f->has_ended)) {
        twl_mutex_lock(&f->lock); /* the thread may exchange the page */
        twl_page_wake(f->shared);
        twl_mutex_unlock(&f->lock);
        twl_wait_turn(&turns);
    }
    pthread_join(f->thread, NULL);
    twl_mutex_destroy(&f->lock);
    close(f->fd);
    twl_page_unwatch(&f->watched);
    free(f);
}

int twl_follower_fd(const struct follower *f)
{
    return f->fd;
}

void twl_follower_arm(struct follower *f, const struct interest *interest)
{
    twl_mutex_lock(&f->lock);
    drain(f);
    f->interest = *interest;
    twl_mutex_unlock(&f->lock);
    twl_event_notify_all(&f->changed);
}

void twl_follower_tell(struct follower *f)
{
    if (!f)
        return;
    twl_mutex_lock(&f->lock);
    make_readable(f);
    twl_mutex_unlock(&f->lock);
}
