/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trim for another process: twinlog_ask_trim(). Only the writer of a log moves its head, so a process that wants
 * records removed asks it:
 *
 * 1. The process puts its wish into the state file, as a value with a name of its own, and under the lock of that file
 *    adds one to `asked` in the shared page.
 * 2. The writer looks at `asked` once a second (twl_retain()), trims as the wish says, and removes the wish.
 * 3. It stores the result in the page, and then the count that it has seen of `asked`. The process finds that.
 *
 * The wish is in the state file because the page may hold anything: a page that was damaged can make a writer look for
 * a wish, but no wish comes from it. If the writer is gone before it has trimmed, the next opening removes the wish.
 */
#include "base/bytes.h"
#include "log/change.h"

#include <errno.h>
#include <string.h>

#define LOCK_WAIT_MS 100u /* the writer waits no longer for the state file: it tries again at its next look */
#define LOOK_MS 20        /* between two looks at what the writer has answered */

/* What other processes want to be removed: records in front of an LSN. 0 = nothing. */
struct wish {
    uint64_t before_lsn;              /* as far as cursors allow */
    uint64_t before_lsn_past_cursors; /* in any case */
};

static void find_wish(const struct state *state, struct wish *ret_wish)
{
    struct state_entry entry;

    *ret_wish = (struct wish){ 0 };
    if (!twl_state_find(state, STATE_VALUE, STATE_TRIM_NAME, &entry))
        return;
    if (entry.value_bytes != STATE_TRIM_BYTES)
        return;

    ret_wish->before_lsn = load_le64(entry.value);
    ret_wish->before_lsn_past_cursors = load_le64(entry.value + 8);
}

static int put_wish(struct state *state, const struct wish *wish)
{
    unsigned char value[STATE_TRIM_BYTES];

    store_le64(value, wish->before_lsn);
    store_le64(value + 8, wish->before_lsn_past_cursors);
    return twl_state_put(state, STATE_VALUE, STATE_TRIM_NAME, value, sizeof(value));
}

/* ---- the writer -------------------------------------------------------------------------------- */

static int look_for_wish(void *context, struct state *state)
{
    find_wish(state, context);
    return 0;
}

/* Removes the wish that was granted, unless another one has come meanwhile. */
static int forget_wish(void *context, struct state *state)
{
    const struct wish *granted = context;
    struct wish wish;

    find_wish(state, &wish);
    if (memcmp(&wish, granted, sizeof(wish)) != 0)
        return 0;
    return twl_state_remove(state, STATE_VALUE, STATE_TRIM_NAME) == 0;
}

static int grant(struct twinlog *log, uint64_t before_lsn, bool is_past_cursors)
{
    if (before_lsn == 0)
        return 0;
    return twl_trim_as_wished(log, before_lsn, is_past_cursors);
}

/* *ret_result is the answer. -EBUSY: there is none, as another process is stopped in a change of the state file. The
 * wish stays. */
static int grant_wish(struct twinlog *log, int *ret_result)
{
    struct wish wish = { 0 };

    int rc = twl_state_change_within(log->io, LOCK_WAIT_MS, look_for_wish, &wish);
    if (rc == 0)
        rc = grant(log, wish.before_lsn, false);
    if (rc == 0)
        rc = grant(log, wish.before_lsn_past_cursors, true);
    if (rc == -EBUSY)
        return rc;

    /* Also after a failure: the process is told, and may ask again. */
    const int forgotten = twl_state_change_within(log->io, LOCK_WAIT_MS, forget_wish, &wish);
    if (forgotten == -EBUSY)
        return forgotten;

    *ret_result = rc;
    if (rc == 0)
        *ret_result = forgotten;
    return 0;
}

/* In a shared log each participant grants wishes. If one dies before it has answered, another one does it again: what
 * was removed by then stays removed. */
void twl_grant_trim_wishes(struct twinlog *log)
{
    struct trim_ask *ask = &log->shared->page->trim_ask;
    int result;

    if (!trim_ask_is_open(ask))
        return;

    /* Before the wish is read: one that is made later leaves the question open, and is found at the next look. */
    const uint32_t asked = atomic_load(&ask->asked);
    const int rc = grant_wish(log, &result);
    if (rc < 0)
        return;

    atomic_store(&ask->result, result);
    atomic_store(&ask->answered, asked);
}

/* ---- the process that asks --------------------------------------------------------------------- */

struct asking {
    struct shared_page *shared;
    const struct twinlog_trim_options *options;
    bool has_asked;
    uint32_t left_epoch; /* the newest epoch before that of the writer that is asked: each writer has another one */
    uint32_t asked;      /* the count of this wish */
};

static bool is_another_writer(const struct asking *asking)
{
    return atomic_load(&asking->shared->page->left_epoch) != asking->left_epoch;
}

static void add_to_wish(struct wish *wish, const struct twinlog_trim_options *options)
{
    uint64_t *lsn = &wish->before_lsn;

    if (options->flags & TWINLOG_TRIM_PAST_CURSORS)
        lsn = &wish->before_lsn_past_cursors;
    *lsn = max_u64(*lsn, options->before_lsn);
}

/* For a change of the state file. -ESRCH: the writer that was to be asked is gone. The next one removes the wish under
 * the same lock. */
static int make_wish(void *context, struct state *state)
{
    struct asking *asking = context;
    struct trim_ask *ask = &asking->shared->page->trim_ask;
    struct wish wish = { 0 };

    if (is_another_writer(asking))
        return -ESRCH;

    /* Wishes of other processes stay if the writer still has to look. If it has not, a wish that is there was made for
     * a writer that is gone. */
    if (trim_ask_is_open(ask))
        find_wish(state, &wish);
    add_to_wish(&wish, asking->options);
    const int rc = put_wish(state, &wish);
    if (rc < 0)
        return rc;

    /* It is counted under the lock of the state file, so the next process that asks does not take it for an old one. */
    asking->asked = atomic_fetch_add(&ask->asked, 1) + 1;
    return 1;
}

/* A writer that is opening the log is asked when it has opened it. */
static int ask_for_trim(struct asking *asking)
{
    struct shared_page *shared = asking->shared;
    const uint32_t left_epoch = atomic_load(&shared->page->left_epoch);
    const bool is_being_opened = twl_page_epoch(shared) <= left_epoch;
    if (is_being_opened)
        return 0;

    asking->left_epoch = left_epoch;
    const int rc = twl_state_change(shared->io, make_wish, asking);
    asking->has_asked = rc == 0;
    return rc;
}

/* Has the writer answered this wish, or a later one, which then has this one in it? */
static bool is_answered(const struct asking *asking)
{
    const uint32_t answered = atomic_load(&asking->shared->page->trim_ask.answered);

    return asking->has_asked && (int32_t)(answered - asking->asked) >= 0;
}

/* -ESRCH: the writer that was asked is gone, or there is none. */
static int check_writer(struct asking *asking)
{
    struct shared_page *shared = asking->shared;
    bool has_writer;

    const int rc = twl_page_ask_writer(shared, &has_writer);
    if (rc < 0)
        return rc;
    if (!has_writer)
        return -ESRCH;
    if (!shared->page)
        return -ENOTSUP;
    if (!shared->is_writable)
        return -EACCES;
    if (asking->has_asked && is_another_writer(asking))
        return -ESRCH;
    return 0;
}

/* Asks once, and looks for the answer. */
static int ask_or_look(struct asking *asking, bool *ret_is_answered)
{
    int rc = check_writer(asking);
    if (rc == 0 && !asking->has_asked)
        rc = ask_for_trim(asking);
    if (rc < 0)
        return rc;

    *ret_is_answered = is_answered(asking);
    if (!*ret_is_answered)
        return 0;

    const int result = atomic_load(&asking->shared->page->trim_ask.result);
    if (result > 0) /* the page may say anything */
        return 0;
    return result;
}

static int ask_writer(struct shared_page *shared, const struct twinlog_trim_options *options, int timeout_ms)
{
    struct asking asking = { .shared = shared, .options = options };
    uint64_t deadline_ns = UINT64_MAX;
    bool is_answered = false;

    if (timeout_ms >= 0)
        deadline_ns = twinlog_deadline((uint32_t)timeout_ms);

    for (;;) {
        const int rc = ask_or_look(&asking, &is_answered);
        if (rc < 0 || is_answered)
            return rc;

        const bool is_over = twl_monotonic_ns() >= deadline_ns;
        if (is_over && asking.has_asked) /* the wish stays, and the writer may still grant it */
            return -ETIMEDOUT;
        if (is_over)
            return -EAGAIN;
        shared->io->ops->sleep_ms(shared->io, LOOK_MS);
    }
}

int twl_ask_trim(struct io *io, const struct twinlog_trim_options *options, int timeout_ms,
                 uint64_t *ret_first_lsn)
{
    NOT_CANCELLED; /* the state file would stay locked */
    struct shared_page shared;

    int rc = twl_page_watch(io, &shared);
    if (rc == 0) {
        rc = ask_writer(&shared, options, timeout_ms);
        if (rc == 0 && ret_first_lsn)
            *ret_first_lsn = twl_page_first_lsn(&shared);
        twl_page_unwatch(&shared);
    }
    io->ops->destroy(io);
    return rc;
}
