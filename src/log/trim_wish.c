/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trim for another process: twinlog_ask_trim(). Only the writer of a log moves its head, so a process that wants
 * records removed asks it:
 *
 * 1. The process puts its wish into the state file, as a value with a name of its own, and under the lock of that file
 *    adds one to `asked` in the shared page.
 * 2. The writer looks at `asked` once a second (twl_retain()), and trims as the wish says.
 * 3. It stores the answer in the page: the result, and the count that it has seen of `asked`. The process finds that.
 * 4. It removes the wish, unless there is a newer one by then.
 *
 * If the writer dies before step 3, another participant of a shared log finds the wish, and answers. Behind step 3 a
 * wish that is still there is an old one: no writer looks for it, and the next wish or the next opening replaces it.
 *
 * The wish is in the state file because the page may hold anything: a page that was damaged can make a writer look for
 * a wish, but no wish comes from it. If the writer is gone before it has trimmed, the next opening removes the wish.
 */
#include "base/bytes.h"
#include "log/change.h"

#include <errno.h>
#include <string.h>

#define LOCK_WAIT_MS 100u /* the writer waits no longer for the state file: it tries again at its next look */
#define MOST_LOCK_WAIT_MS 30000u /* a process that asks: then the one that has the lock is stopped */
#define LOOK_MS 20               /* between two looks at what the writer has answered */

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

struct forgetting {
    const struct trim_ask *ask;
    uint32_t asked; /* the newest wish that was answered */
};

/* Removes the wish that was answered, unless another one has come meanwhile: they are counted under the same lock. */
static int forget_wish(void *context, struct state *state)
{
    const struct forgetting *forgetting = context;

    if (atomic_load(&forgetting->ask->asked) != forgetting->asked)
        return 0;
    return twl_state_remove(state, STATE_VALUE, STATE_TRIM_NAME) == 0;
}

static int grant(struct twinlog *log, uint64_t before_lsn, bool is_past_cursors)
{
    if (before_lsn == 0)
        return 0;
    return twl_trim_as_wished(log, before_lsn, is_past_cursors);
}

static int grant_wish(struct twinlog *log)
{
    struct wish wish = { 0 };

    int rc = twl_state_change_within(log->io, LOCK_WAIT_MS, look_for_wish, &wish);
    if (rc == 0)
        rc = grant(log, wish.before_lsn, false);
    if (rc == 0)
        rc = grant(log, wish.before_lsn_past_cursors, true);
    return rc;
}

/* In a shared log each participant grants wishes. If one dies before it has answered, another one does it again: what
 * was removed by then stays removed. */
void twl_grant_trim_wishes(struct twinlog *log)
{
    struct trim_ask *ask = &log->shared->page->trim_ask;
    struct trim_answer newest = atomic_load(&ask->answer);

    /* Before the wish is read: one that is made later leaves the question open, and is found at the next look. */
    const uint32_t asked = atomic_load(&ask->asked);
    if (asked == newest.asked)
        return;

    /* Another process is stopped in a change of the state file. The question stays open. */
    const int rc = grant_wish(log);
    if (rc == -EBUSY)
        return;

    /* Only the first answer counts. Behind that of another participant the wish may be gone, and this one has looked in
     * vain; or it has failed where the other one has not. */
    const struct trim_answer answer = {
        .asked = asked,
        .wishes = (uint16_t)min_u64(asked - newest.asked, UINT16_MAX),
        .error = (uint16_t)-rc,
    };
    if (!atomic_compare_exchange_strong(&ask->answer, &newest, answer))
        return;

    /* Also after a failure: the process is told, and may ask again. */
    struct forgetting forgetting = { .ask = ask, .asked = asked };
    (void)twl_state_change_within(log->io, LOCK_WAIT_MS, forget_wish, &forgetting);
}

/* ---- the process that asks --------------------------------------------------------------------- */

struct asking {
    struct shared_page *shared;
    const struct twinlog_trim_options *options;
    uint64_t deadline_ns; /* of the call */
    bool has_asked;
    /* Of the writer that is asked: the newest epoch before its own. Each writer has another one. */
    uint32_t left_epoch;
    uint32_t asked; /* the count of this wish */
    bool is_answered;
    int result;         /* of the answer */
    uint64_t first_lsn; /* when it was answered, or later */
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

/* How long to wait for the lock of the state file: not longer than the call. */
static unsigned remaining_ms(const struct asking *asking)
{
    const uint64_t now_ns = twl_monotonic_ns();
    uint64_t left_ms = 0;

    if (now_ns < asking->deadline_ns)
        left_ms = (asking->deadline_ns - now_ns) / 1000000;
    return (unsigned)min_u64(left_ms, MOST_LOCK_WAIT_MS);
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
    const int rc = twl_state_change_within(shared->io, remaining_ms(asking), make_wish, asking);
    asking->has_asked = rc == 0;

    /* Another process has the state file. A caller with a limit has said how long it waits for that, too. */
    const bool is_limited = asking->deadline_ns != UINT64_MAX;
    if (rc == -EBUSY && is_limited)
        return 0;
    return rc;
}

/* -ESRCH: the writer that was asked is gone, or there is none. */
static int check_writer(struct asking *asking)
{
    struct shared_page *shared = asking->shared;
    bool has_writer;

    const int rc = twl_page_look_for_writer(shared, &has_writer);
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

/* Looks for the answer of the writer that was asked, which may be gone by now. */
static void find_answer(struct asking *asking)
{
    struct shared_page *shared = asking->shared;
    const struct trim_answer answer = atomic_load(&shared->page->trim_ask.answer);
    const uint64_t first_lsn = twl_page_first_lsn(shared);

    /* After what was read: a writer that opens the log changes the epoch before it clears the answer. */
    if (is_another_writer(asking))
        return;

    const uint32_t later = answer.asked - asking->asked; /* wishes that it answers behind this one */
    if (later < answer.wishes) {
        asking->is_answered = true;
        asking->result = -(int)answer.error;
        asking->first_lsn = first_lsn;
        return;
    }

    /* This wish was answered, but so were later ones since. It asks again: what was removed stays removed. */
    const bool is_replaced = (int32_t)later >= 0;
    if (is_replaced)
        asking->has_asked = false;
}

/* Asks once, and looks for the answer. */
static int ask_or_look(struct asking *asking)
{
    int rc = check_writer(asking);
    if (rc == 0 && !asking->has_asked)
        rc = ask_for_trim(asking);

    /* Also if the writer is gone. It may have answered before. */
    if (asking->has_asked && asking->shared->page)
        find_answer(asking);
    if (asking->is_answered)
        return asking->result;
    return rc;
}

/* After 0, *ret_first_lsn is the head. */
static int ask_writer(struct shared_page *shared, const struct twinlog_trim_options *options, int timeout_ms,
                      uint64_t *ret_first_lsn)
{
    struct asking asking = { .shared = shared, .options = options, .deadline_ns = UINT64_MAX };

    if (timeout_ms >= 0)
        asking.deadline_ns = twinlog_deadline((uint32_t)timeout_ms);

    for (;;) {
        const int rc = ask_or_look(&asking);
        if (rc < 0)
            return rc;
        if (asking.is_answered) {
            *ret_first_lsn = asking.first_lsn;
            return 0;
        }

        const bool is_over = twl_monotonic_ns() >= asking.deadline_ns;
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
    uint64_t first_lsn;

    int rc = twl_page_watch(io, &shared);
    if (rc == 0) {
        rc = ask_writer(&shared, options, timeout_ms, &first_lsn);
        if (rc == 0 && ret_first_lsn)
            *ret_first_lsn = first_lsn;
        twl_page_unwatch(&shared);
    }
    io->ops->destroy(io);
    return rc;
}
