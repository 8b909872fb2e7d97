/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches, levels, skipped LSNs and requests on a disk that fails. Whatever fails: a request that was accepted is
 * completed exactly once, at the latest when the log is closed, and its result is the truth.
 */
#include "faults.h"

#include "commit/commit.h"
#include "log/handle.h"

#include <inttypes.h>

#define BATCH 3u

static void offer_batch(struct run *run, struct twinlog_entry ret_entries[BATCH])
{
    for (unsigned i = 0; i < BATCH; ++i) {
        struct fact fact = history_make(&run->history, run->disk, &run->rng, 1500);
        fact.type = (uint8_t)(i + 1);
        ret_entries[i] = (struct twinlog_entry){ .data = fact.data, .size = fact.size, .type = fact.type };
        history_offer(&run->history, fact);
    }
}

static struct twinlog_terms terms_of(uint32_t level)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    terms.level = level;
    return terms;
}

static void expect_lsn(uint64_t lsn, uint64_t expected, const char *call)
{
    if (lsn != expected)
        violation("%s gave LSN %" PRIu64 ", next was %" PRIu64, call, lsn, expected);
}

void append_batch(struct run *run, uint32_t level)
{
    const struct twinlog_terms terms = terms_of(level);
    struct twinlog_entry entries[BATCH];
    uint64_t lsn = UINT64_MAX;
    if (!run->log)
        return;

    offer_batch(run, entries);
    const int result = twinlog_append_batch(run->log, entries, BATCH, &terms, &lsn);
    expect_lsn(lsn, history_settle(&run->history, lsn != 0), "a batch");
    settle_append(run, result, lsn, "a batch");
    if (result < 0)
        return;

    const uint64_t last = lsn + BATCH - 1;
    if (level == TWINLOG_LEVEL_DURABLE)
        acknowledge(run, last, "a batch");
    if (level == TWINLOG_LEVEL_WRITTEN && twinlog_written_lsn(run->log) < last)
        violation("a batch is not written");
}

static void skip_lsn(struct run *run)
{
    if (!run->log)
        return;

    const uint64_t next = history_last(&run->history) + 2;
    struct fact fact = history_make_sized(&run->history, run->disk, &run->rng, 0);
    fact.is_void = true;
    history_offer(&run->history, fact);
    const int result = twinlog_skip(run->log, next);
    const bool is_skipped = twinlog_last_lsn(run->log) == next - 1;
    const uint64_t lsn = history_settle(&run->history, is_skipped);
    settle_append(run, result, lsn, "a skip");
    if (result == 0)
        acknowledge(run, lsn, "a skip");
}

/* ---- requests ------------------------------------------------------------------------------------ */

/* A request was completed, and the log is open. */
static void check_poison(struct run *run, const struct twinlog_request *request)
{
    if (request->result < 0 && !run->is_poisoned)
        violation("the request for LSN %" PRIu64 " failed, and the log is not poisoned", request->first_lsn);
    expect_told(run, request->result, "a request");
}

/* A request succeeded, and its records have not been truncated since. */
static void check_success(struct run *run, uint64_t last, uint32_t level)
{
    if (level == TWINLOG_LEVEL_DURABLE)
        acknowledge(run, last, "a request");
    if (run->log && twinlog_written_lsn(run->log) < last)
        violation("a request was completed, and LSN %" PRIu64 " is not written", last);
}

static void complete(struct twinlog_request *request)
{
    struct pending *pending = request->context;
    struct run *run = pending->run;
    const uint64_t last = request->first_lsn + request->count - 1;

    if (!pending->is_pending)
        violation("the request for LSN %" PRIu64 " was completed twice", request->first_lsn);
    pending->is_pending = false;

    if (run->log)
        notice_poison(run);
    expect_honest(run, request->result, "a request");
    if (run->log)
        check_poison(run, request);

    /* What a truncation may have removed was durable before. */
    const bool may_be_cut = run->cuts > 0 || last > history_last(&run->history);
    if (request->result == 0 && !may_be_cut)
        check_success(run, last, pending->level);
    ++completed_requests;
}

static void fetch_requests(struct run *run)
{
    struct twinlog_request *request;
    while (run->queue && twinlog_queue_poll(run->queue, &request, 1, 0) == 1)
        complete(request);
}

static struct pending *free_request(struct run *run)
{
    for (unsigned i = 0; i < MAX_REQUESTS; ++i) {
        if (!run->pending[i].is_pending)
            return &run->pending[i];
    }
    violation("the script has more requests than there is room for");
}

static void submit_request(struct run *run, uint32_t level)
{
    const struct twinlog_terms terms = terms_of(level);
    struct twinlog_entry entries[BATCH];
    if (!run->log)
        return;

    struct pending *pending = free_request(run);
    if (!run->queue && twinlog_queue_open(&run->queue) < 0)
        violation("a queue could not be opened");
    *pending = (struct pending){ .run = run,
                                 .level = level,
                                 .request = { .queue = run->queue, .context = pending } };

    offer_batch(run, entries);
    pending->is_pending = true;
    const int result = twinlog_submit(run->log, entries, BATCH, &terms, &pending->request);
    pending->is_pending = result == 0;
    expect_lsn(pending->request.first_lsn, history_settle(&run->history, result == 0), "a request");
    settle_append(run, result, pending->request.first_lsn, "a request");
}

static void expect_no_requests(const struct run *run, const char *call)
{
    for (unsigned i = 0; i < MAX_REQUESTS; ++i) {
        const struct pending *pending = &run->pending[i];
        if (pending->is_pending)
            violation("%s left the request for LSN %" PRIu64, call, pending->request.first_lsn);
    }
}

/* As a committer would, until there is nothing more to do, or the log is poisoned. */
void commit_requests(struct run *run)
{
    if (!run->log)
        return;

    while (twl_commit_turn(run->log->commit))
        notice_poison(run);
    notice_poison(run);
    fetch_requests(run);
    expect_no_requests(run, "the committer");
}

/* ---- the script ---------------------------------------------------------------------------------- */

void script_of_requests(struct run *run)
{
    open_log(run);
    append_batch(run, TWINLOG_LEVEL_WRITTEN);
    append_batch(run, TWINLOG_LEVEL_WRITTEN);
    append_batch(run, TWINLOG_LEVEL_DURABLE);

    submit_request(run, TWINLOG_LEVEL_DURABLE);
    submit_request(run, TWINLOG_LEVEL_WRITTEN);
    commit_requests(run);
    submit_request(run, TWINLOG_LEVEL_WRITTEN);
    commit_requests(run);
    skip_lsn(run);

    /* into another segment */
    for (unsigned i = 0; i < 2; ++i) {
        submit_request(run, TWINLOG_LEVEL_WRITTEN);
        append_batch(run, TWINLOG_LEVEL_WRITTEN);
        submit_request(run, TWINLOG_LEVEL_DURABLE);
        append_batch(run, TWINLOG_LEVEL_WRITTEN);
    }
    read_attached(run);

    submit_request(run, TWINLOG_LEVEL_DURABLE);
    truncate_log(run, history_last(&run->history) - 1);
    fetch_requests(run);

    append_batch(run, TWINLOG_LEVEL_WRITTEN);
    submit_request(run, TWINLOG_LEVEL_WRITTEN);
    submit_request(run, TWINLOG_LEVEL_DURABLE);
    close_log(run);
    fetch_requests(run);
    expect_no_requests(run, "close");
    if (run->queue && twinlog_queue_close(run->queue) < 0)
        violation("the queue is not empty");
    run->queue = NULL;
    verify_log(run);
}
