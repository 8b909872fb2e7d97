/* SPDX-License-Identifier: Apache-2.0 */
/* All ways to append: each accepts a batch; they differ in which thread waits for it. */
#define _GNU_SOURCE
#include "base/versioned.h"
#include "log/handle.h"

#include <errno.h>

static const struct terms buffered_terms = { .level = TWINLOG_LEVEL_BUFFERED };
static const struct terms durable_terms = { .level = TWINLOG_LEVEL_DURABLE };

/* ---- what a caller is told ------------------------------------------------------------------------ */

/* The answers to what the caller asked for, which say nothing about the disk. */
static bool is_about_the_call(int rc)
{
    return rc == -EINVAL || rc == -EMSGSIZE || rc == -EAGAIN || rc == -ETIMEDOUT || rc == -ECANCELED ||
           rc == -ENOTSUP;
}

/* A failed write may return any error, also one that says, from a log that goes on, that nothing happened: a full disk
 * is one. So what poisons a log is always told as TWINLOG_EPOISONED; the statistics have the cause. */
static int tell(const struct twinlog *log, int rc)
{
    if (rc >= 0)
        return rc;

    const int poison = log->ops->poison(log->engine);
    if (poison == 0)
        return rc;
    const bool is_of_the_poison = rc == poison || !is_about_the_call(rc);
    return is_of_the_poison ? TWINLOG_EPOISONED : rc;
}

/* An append that returns an error is counted, so that monitoring sees it. */
static void count_failure(struct twinlog *log, int rc, uint64_t lsn)
{
    if (rc == 0)
        return;

    const bool is_accepted = lsn > 0;
    const bool is_counted = twl_counters_add_failure(twl_counters(log), rc, is_accepted);
    if (is_counted && log->keeper)
        twl_keeper_tell(log->keeper);
}

static int count_and_tell(struct twinlog *log, int rc, uint64_t lsn)
{
    count_failure(log, rc, lsn);
    return tell(log, rc);
}

/* ---- entering ---------------------------------------------------------------------------------- */

static enum twinlog_level level_of(const struct twinlog *log, uint32_t level)
{
    const bool is_writer = log && log->ops;

    if (is_writer && level == TWINLOG_LEVEL_OF_MODE)
        return log->ops->default_level;
    return (enum twinlog_level)level;
}

static int read_terms(const struct twinlog *log, const struct twinlog_terms *given, struct terms *ret_terms)
{
    struct twinlog_terms own;
    if (!given) { /* as all-zero terms; a large part of the calls have none */
        *ret_terms = (struct terms){ .level = level_of(log, TWINLOG_LEVEL_OF_MODE) };
        return 0;
    }

    if (twl_versioned_take(&own, sizeof(own), given) < 0)
        return -EINVAL;
    const bool has_unknown_flag = own.flags & ~(uint32_t)TWINLOG_TRY;
    if (has_unknown_flag || own.reserved != 0 || own.level > TWINLOG_LEVEL_DURABLE)
        return -EINVAL;
    *ret_terms = (struct terms){ .level = level_of(log, own.level),
                                 .is_try = (own.flags & TWINLOG_TRY) != 0,
                                 .deadline_ns = own.deadline_ns,
                                 .cancel = own.cancel };
    return 0;
}

static int enter_open(struct twinlog *log, const struct terms *terms, struct call *call)
{
    const int rc = twl_enter_to_append(log, terms, call);
    if (rc < 0)
        return rc;

    const bool is_closing = atomic_load_explicit(&log->inside, memory_order_relaxed) & CLOSING;
    if (is_closing) {
        twl_leave(call);
        return -ESHUTDOWN;
    }
    return 0;
}

/* For a call on terms of its caller. */
static int enter_on_given(struct twinlog *log, const struct twinlog_terms *given, struct terms *ret_terms,
                          struct call *call)
{
    const int rc = read_terms(log, given, ret_terms);

    if (rc < 0)
        return rc;
    return enter_open(log, ret_terms, call);
}

/* ---- a batch ----------------------------------------------------------------------------------- */

static int check_pieces(const struct twinlog_entry *entry)
{
    if (entry->data || entry->size > 0)
        return -EINVAL;
    for (uint32_t i = 0; i < entry->piece_count; i++)
        if (!entry->pieces[i].iov_base && entry->pieces[i].iov_len > 0)
            return -EINVAL;
    return 0;
}

/* The data of an entry are in one piece, or in several. */
static int check_entry(const struct twinlog_entry *entry)
{
    if (entry->reserved != 0)
        return -EINVAL;
    if (entry->pieces)
        return check_pieces(entry);

    if (entry->piece_count > 0)
        return -EINVAL;
    if (!entry->data && entry->size > 0)
        return -EINVAL;
    return 0;
}

static int check_batch(const struct twinlog_entry *entries, uint32_t count)
{
    if (!entries || count == 0)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        const int rc = check_entry(&entries[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- waiting ------------------------------------------------------------------------------------- */

/* A call that must return in time needs another thread to commit. If none can be started, the call
 * does what it can. */
static void prepare_to_return_in_time(struct twinlog *log, const struct terms *terms)
{
    const bool may_end_early = terms->deadline_ns > 0 || terms->cancel;

    if (may_end_early && log->commit)
        twl_commit_need_committer(log->commit);
}

/* Waits until the accepted record `lsn` has reached the level of the terms. */
static int wait_for(struct twinlog *log, uint64_t lsn, const struct terms *terms)
{
    prepare_to_return_in_time(log, terms);
    return log->ops->wait(log->engine, lsn, terms);
}

/* ---- blocking ---------------------------------------------------------------------------------- */

static int append_one(struct twinlog *log, const void *data, size_t size, uint32_t level, uint64_t *ret_lsn)
{
    const struct twinlog_entry entry = { .data = data, .size = size };
    const struct batch batch = { .entries = &entry, .count = 1 };
    const struct terms terms = { .level = level_of(log, level), .called_ns = twl_commit_called() };
    const bool lacks_data = !data && size > 0;
    uint64_t lsn = 0;
    struct call call;
    int rc = enter_open(log, &terms, &call);
    if (rc == 0) {
        rc = -EINVAL;
        if (!lacks_data)
            rc = log->ops->append(log->engine, &batch, &terms, &lsn);
        rc = count_and_tell(log, rc, lsn);
        twl_leave(&call);
    }

    if (ret_lsn)
        *ret_lsn = lsn;
    return rc;
}

int twinlog_append(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn)
{
    return append_one(log, data, size, TWINLOG_LEVEL_OF_MODE, ret_lsn);
}

int twinlog_enqueue(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn)
{
    return append_one(log, data, size, TWINLOG_LEVEL_BUFFERED, ret_lsn);
}

static int append_batch(struct twinlog *log, const struct batch *batch, struct terms *terms,
                        uint64_t *ret_lsn)
{
    terms->called_ns = twl_commit_called();
    prepare_to_return_in_time(log, terms);

    const int rc = log->ops->append(log->engine, batch, terms, ret_lsn);
    if (rc == -EAGAIN && log->commit) /* a committer makes room for a later try */
        twl_commit_need_committer(log->commit);
    return rc;
}

int twinlog_append_batch(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                         const struct twinlog_terms *terms, uint64_t *ret_first_lsn)
{
    const struct batch batch = { .entries = entries, .count = count };
    struct terms read;
    uint64_t lsn = 0;
    struct call call;
    int rc = enter_on_given(log, terms, &read, &call);
    if (rc == 0) {
        rc = check_batch(entries, count);
        if (rc == 0) {
            rc = append_batch(log, &batch, &read, &lsn);
            count_failure(log, rc, lsn);
        }
        rc = tell(log, rc);
        twl_leave(&call);
    }

    if (ret_first_lsn)
        *ret_first_lsn = lsn;
    return rc;
}

int twl_log_put(struct twinlog *log, enum record_kind kind, const struct twinlog_entry *entry,
                uint64_t *ret_lsn)
{
    const struct batch batch = { .entries = entry, .count = 1, .kind = kind, .has_times = true };
    struct call call;
    int rc = enter_open(log, &buffered_terms, &call);
    if (rc < 0)
        return rc;

    rc = check_durable(log);
    if (rc == 0) {
        rc = twl_commit_put(log->commit, &batch, &buffered_terms, NULL, ret_lsn);
        rc = count_and_tell(log, rc, 0);
    }
    twl_leave(&call);
    return rc;
}

/* Other threads may append meanwhile. *ret_lsn: of the last filler; 0 = none was needed. */
static int put_fillers(struct twinlog *log, uint64_t next_lsn, enum filler_type type, uint64_t *ret_lsn)
{
    const struct twinlog_entry nothing = { .type = (uint8_t)type };
    const struct batch batch = { .entries = &nothing, .count = 1, .kind = RECORD_FILLER };
    int rc = check_durable(log);
    if (rc < 0)
        return rc;
    if (next_lsn == 0)
        return -EINVAL;

    while (rc == 0 && twl_commit_last_lsn(log->commit) + 1 < next_lsn)
        rc = twl_commit_put(log->commit, &batch, &buffered_terms, NULL, ret_lsn);
    return rc;
}

static int skip(struct twinlog *log, uint64_t next_lsn, enum filler_type type)
{
    uint64_t lsn = 0;
    struct call call;
    int rc = enter_open(log, &durable_terms, &call);
    if (rc < 0)
        return rc;

    rc = put_fillers(log, next_lsn, type, &lsn);
    if (rc == 0 && lsn > 0)
        rc = wait_for(log, lsn, &durable_terms);
    rc = count_and_tell(log, rc, lsn);
    twl_leave(&call);
    return rc;
}

int twinlog_skip(struct twinlog *log, uint64_t next_lsn)
{
    return skip(log, next_lsn, FILLER_SKIPPED);
}

int twinlog_skip_lost(struct twinlog *log, uint64_t next_lsn)
{
    return skip(log, next_lsn, FILLER_LOST);
}

static int wait_inside(struct twinlog *log, uint64_t lsn, const struct terms *terms)
{
    if (log->commit && lsn > twinlog_last_lsn(log)) /* the engine of a mapped log asks, on these terms */
        return -EINVAL;
    return tell(log, wait_for(log, lsn, terms));
}

static int enter_and_wait(struct twinlog *log, uint64_t lsn, const struct terms *terms)
{
    struct call call;
    int rc = twl_enter_on_terms(log, INSIDE_COMMIT, terms, &call);
    if (rc == 0) {
        rc = wait_inside(log, lsn, terms);
        twl_leave(&call);
        return rc;
    }

    /* The call may not wait: the log is only read, or the deadline came while a truncation held it up. What is durable
     * by now is so all the same. */
    const bool has_only_to_look = rc == -EROFS || rc == -ETIMEDOUT;
    if (has_only_to_look && lsn <= twinlog_durable_lsn(log))
        return 0;
    if (rc == -EROFS) /* this handle has accepted nothing */
        return -EINVAL;
    return rc;
}

int twinlog_wait(struct twinlog *log, uint64_t lsn, enum twinlog_level level, uint64_t deadline_ns)
{
    const struct terms terms = { .level = level_of(log, (uint32_t)level), .deadline_ns = deadline_ns };
    struct call visit;
    if ((unsigned)level > TWINLOG_LEVEL_DURABLE)
        return -EINVAL;

    /* A close waits for what is looked at after a time-out, too. */
    int rc = twl_enter(log, INSIDE_OTHER, &visit);
    if (rc < 0)
        return rc;
    rc = enter_and_wait(log, lsn, &terms);
    twl_leave(&visit);
    return rc;
}

int twinlog_sync(struct twinlog *log)
{
    struct call call;
    int rc = twl_enter(log, INSIDE_COMMIT, &call);
    if (rc == -EROFS) /* this handle accepted nothing */
        return 0;
    if (rc < 0)
        return rc;

    rc = tell(log, log->ops->sync(log->engine));
    twl_leave(&call);
    return rc;
}

int twinlog_set_flush_interval(struct twinlog *log, uint32_t interval_ms)
{
    struct call call;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = -EROFS;
    if (!is_read_only(log))
        rc = log->ops->set_flush_interval(log->engine, interval_ms);
    twl_leave(&call);
    return rc;
}

/* ---- cancelling -------------------------------------------------------------------------------- */

int twinlog_cancel(struct twinlog *log, struct twinlog_cancel *cancel)
{
    struct call call;
    if (!cancel)
        return -EINVAL;
    const int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    __atomic_store_n(&cancel->is_canceled, 1, __ATOMIC_SEQ_CST);
    if (log->commit)
        twl_commit_wake_all(log->commit);
    if (log->mapped)
        twl_mapped_wake_all(log->mapped);
    twl_event_notify_all(&log->resumed);
    twl_leave(&call);
    return 0;
}

/* ---- without waiting ----------------------------------------------------------------------------- */

static int submit(struct twinlog *log, const struct batch *batch, struct terms *terms,
                  struct twinlog_request *request)
{
    uint64_t lsn;
    int rc = twl_commit_need_committer(log->commit);
    if (rc == 0)
        rc = twl_commit_listen(log->commit, request->queue);
    if (rc < 0)
        return rc;

    terms->called_ns = twl_commit_called();
    return twl_commit_put(log->commit, batch, terms, request, &lsn);
}

static int listen_to(struct twinlog *log, struct twinlog_queue *queue)
{
    struct call call;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = check_durable(log);
    if (rc == 0)
        rc = twl_commit_listen(log->commit, queue);
    twl_leave(&call);
    return rc;
}

int twinlog_queue_listen(struct twinlog_queue *queue, struct twinlog *log)
{
    if (!queue)
        return -EINVAL;

    NOT_CANCELLED; /* the lock of the queue would stay, and stop each leader that completes a request */
    const int rc = listen_to(log, queue);
    if (rc == 0) /* the caller may have been refused before, or the log may have failed */
        twl_queue_bring_news(queue);
    return rc;
}

/* A request that a truncation refuses has not come to where its queue begins to listen. So that happens here, without
 * waiting, and the request is tried again, as the truncation may have ended before. */
static int enter_to_submit(struct twinlog *log, const struct twinlog_terms *given,
                           struct twinlog_request *request, struct terms *ret_terms, struct call *call)
{
    int rc = enter_on_given(log, given, ret_terms, call);

    if (rc != -EAGAIN || !request || !request->queue)
        return rc;
    rc = listen_to(log, request->queue);
    if (rc < 0)
        return rc;
    return enter_on_given(log, given, ret_terms, call);
}

static int check_submission(const struct twinlog_entry *entries, uint32_t count, const struct terms *terms,
                            const struct twinlog_request *request)
{
    const bool has_queue = request && request->queue;

    if (!has_queue || terms->level == TWINLOG_LEVEL_BUFFERED)
        return -EINVAL;
    return check_batch(entries, count);
}

int twinlog_submit(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                   const struct twinlog_terms *terms, struct twinlog_request *request)
{
    const struct batch batch = { .entries = entries, .count = count };
    struct terms read;
    struct call call;
    int rc = enter_to_submit(log, terms, request, &read, &call);
    if (rc < 0)
        return rc;

    rc = check_submission(entries, count, &read, request);
    if (rc == 0)
        rc = check_durable(log);
    if (rc == 0) {
        rc = submit(log, &batch, &read, request);
        rc = count_and_tell(log, rc, 0);
    }
    twl_leave(&call);
    return rc;
}
