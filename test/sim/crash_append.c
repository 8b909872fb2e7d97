/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every way to append but the plain one: batches, levels, requests that are completed later, skipped LSNs.
 *
 * All in one thread: so what is called in the middle of a commit only tries.
 */
#include "crash.h"

#include "commit/commit.h"
#include "log/handle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define FOR_EVER_MS 1000000
#define LONG_AGO_NS 1 /* a deadline that has passed */

/* ---- batches ------------------------------------------------------------------------------------- */

enum {
    MAX_PIECES = 4
};

struct batch_to_give {
    struct twinlog_entry entry[MAX_BATCH];
    struct iovec piece[MAX_BATCH][MAX_PIECES];
    unsigned count;
    bool is_too_large;
};

/* Bytes of a batch that fits in a buffer for sure. */
static size_t batch_room(const struct machine *machine)
{
    return machine->options.buffer_bytes - 8192;
}

/* A record takes so much of it. */
static size_t room_for(size_t size)
{
    return 24 + (size + 7) / 8 * 8;
}

/* The payload in some pieces, of which any may be empty. */
static void cut_into_pieces(struct rng *rng, const struct fact *fact, struct twinlog_entry *entry,
                            struct iovec *pieces)
{
    size_t done = 0;

    entry->data = NULL;
    entry->size = 0;
    entry->pieces = pieces;
    entry->piece_count = (uint32_t)rng_below(rng, MAX_PIECES) + 1;
    for (unsigned i = 0; i < entry->piece_count; ++i) {
        const bool is_last = i + 1 == entry->piece_count;
        size_t size = fact->size - done;
        if (!is_last)
            size = (size_t)rng_below(rng, size + 1);

        pieces[i].iov_base = size > 0 ? fact->data + done : NULL;
        pieces[i].iov_len = size;
        done += size;
    }
}

/* Most leave the time to the log; some know better. */
static void choose_label(struct machine *machine, struct fact *fact, struct twinlog_entry *entry)
{
    struct rng *rng = &machine->rng;

    if (rng_one_in(rng, 2)) {
        fact->type = (uint8_t)rng_next(rng);
        fact->tag = (uint16_t)rng_next(rng);
        entry->type = fact->type;
        entry->tag = fact->tag;
    }
    if (rng_one_in(rng, 8)) {
        fact->time_ns += (int64_t)rng_below(rng, UINT64_C(10000000000)) - INT64_C(5000000000);
        entry->time_ns = fact->time_ns;
    }
}

static struct fact make_entry(struct machine *machine, struct twinlog_entry *entry, struct iovec *pieces,
                              size_t most)
{
    struct fact fact = history_make(&machine->history, machine->disk, &machine->rng, most);
    *entry = (struct twinlog_entry){ .data = fact.data, .size = fact.size };
    if (rng_one_in(&machine->rng, 4))
        cut_into_pieces(&machine->rng, &fact, entry, pieces);
    choose_label(machine, &fact, entry);
    return fact;
}

/* Makes up to `count` entries and offers them to the history. Now and then they are more than a buffer takes. */
static void make_batch(struct machine *machine, unsigned count, struct batch_to_give *ret_batch)
{
    const bool may_be_too_large = rng_one_in(&machine->rng, 16);
    const size_t room = batch_room(machine);
    size_t used = 0;

    ret_batch->count = 0;
    while (ret_batch->count < count && used < room) {
        size_t left = room - used;
        if (may_be_too_large)
            left = room;
        if (left < room_for(0))
            break;

        const unsigned i = ret_batch->count;
        const size_t most = (left - room_for(0)) / 8 * 8;
        const struct fact fact = make_entry(machine, &ret_batch->entry[i], ret_batch->piece[i], most);
        used += room_for(fact.size);
        ++ret_batch->count;
        history_offer(&machine->history, fact);
    }
    ret_batch->is_too_large = used > room;
}

static void check_first_lsn(uint64_t lsn, uint64_t expected, const char *what)
{
    if (lsn != expected)
        violation("O2: %s got LSN %" PRIu64 ", next was %" PRIu64, what, lsn, expected);
}

static void check_level(struct machine *machine, uint64_t lsn, uint32_t level, const char *call)
{
    const uint64_t durable = twinlog_durable_lsn(machine->log), written = twinlog_written_lsn(machine->log);

    uint64_t reached = UINT64_MAX;
    if (level == TWINLOG_LEVEL_DURABLE)
        reached = durable;
    else if (level == TWINLOG_LEVEL_WRITTEN)
        reached = written;
    if (reached < lsn)
        violation("%s: LSN %" PRIu64 " is not at level %u, written are %" PRIu64 ", durable %" PRIu64, call,
                  lsn, level, written, durable);

    if (level == TWINLOG_LEVEL_DURABLE)
        acknowledge(machine, lsn);
    notice_progress(machine);
}

static uint32_t choose_level(struct rng *rng, unsigned levels)
{
    return TWINLOG_LEVEL_DURABLE - (uint32_t)rng_below(rng, levels);
}

/* Most wait as long as it takes. */
static struct twinlog_terms choose_terms(struct rng *rng, const struct twinlog_cancel *canceled)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    terms.level = choose_level(rng, 3);
    switch (rng_below(rng, 16)) {
    case 0:
    case 1:
        terms.flags = TWINLOG_TRY;
        break;
    case 2:
        terms.deadline_ns = twinlog_deadline(FOR_EVER_MS);
        break;
    case 3:
        terms.deadline_ns = LONG_AGO_NS;
        break;
    case 4:
        terms.cancel = canceled;
        break;
    default:
        break;
    }
    return terms;
}

/* What the terms allow; true if the records have an LSN. */
static bool settle_call(struct machine *machine, const struct twinlog_terms *terms, int result, uint64_t lsn,
                        const char *call)
{
    /* The call has ended before the level was reached, with records that were accepted or not. */
    const bool is_late = result == -ETIMEDOUT && terms->deadline_ns == LONG_AGO_NS;
    const bool is_canceled = result == -ECANCELED && terms->cancel;
    if (is_late || is_canceled)
        return lsn > 0;

    const bool is_try = (terms->flags & TWINLOG_TRY) != 0;
    if (is_try && result == -EAGAIN)
        return false;

    /* The disk was full when a segment was last tried; now another one is on its way. */
    if (is_try && result == -ENOSPC && machine->was_full)
        return false;
    return expect_done(machine, result, call);
}

static unsigned choose_batch_size(struct machine *machine)
{
    if (machine->is_mapped)
        return 1;
    return 1 + (unsigned)rng_below(&machine->rng, MAX_BATCH);
}

void append_batch(struct machine *machine)
{
    static const struct twinlog_cancel CANCELED = { .is_canceled = 1 };
    const struct twinlog_terms terms = choose_terms(&machine->rng, &CANCELED);
    struct batch_to_give batch;
    uint64_t lsn = UINT64_MAX;
    bool is_accepted = false;

    make_batch(machine, choose_batch_size(machine), &batch);
    const int result = twinlog_append_batch(machine->log, batch.entry, batch.count, &terms, &lsn);
    if (batch.is_too_large && result != -EMSGSIZE)
        violation("a batch that fits in no buffer: %s", twinlog_strerror(result));
    if (!batch.is_too_large)
        is_accepted = settle_call(machine, &terms, result, lsn, "a batch");
    check_first_lsn(lsn, history_settle(&machine->history, is_accepted), "a batch");
    if (!is_accepted)
        return;

    machine->openings = 0;
    ++totals.batches;
    if (result == 0)
        check_level(machine, lsn + batch.count - 1, terms.level, "a batch");
}

/* ---- waiting ------------------------------------------------------------------------------------- */

/* 0: as long as it takes. */
static uint64_t choose_deadline(struct rng *rng)
{
    if (rng_one_in(rng, 4))
        return LONG_AGO_NS;
    if (rng_one_in(rng, 4))
        return twinlog_deadline(FOR_EVER_MS);
    return 0;
}

void wait_at_level(struct machine *machine)
{
    struct rng *rng = &machine->rng;
    const uint64_t head = machine->history.head, last = history_last(&machine->history);
    if (last < head)
        return;

    uint64_t lsn = last;
    if (!rng_one_in(rng, 2))
        lsn = head + rng_below(rng, last + 1 - head);
    const uint32_t level = choose_level(rng, 3);
    const uint64_t deadline_ns = choose_deadline(rng);

    const int result = twinlog_wait(machine->log, lsn, (enum twinlog_level)level, deadline_ns);
    if (result == -ETIMEDOUT && deadline_ns == LONG_AGO_NS)
        return;
    if (result < 0)
        violation("waiting for LSN %" PRIu64 " at level %u failed: %s", lsn, level, twinlog_strerror(result));
    check_level(machine, lsn, level, "a wait");
}

/* ---- requests ------------------------------------------------------------------------------------ */

/* Beside a truncation, or in the middle of a commit: what has to wait is not done. */
void try_to_give(struct machine *machine)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct twinlog_entry entry;
    struct iovec pieces[MAX_PIECES];
    struct fact fact = make_entry(machine, &entry, pieces, 300);
    uint64_t lsn = 0;
    terms.flags = TWINLOG_TRY;
    terms.level = TWINLOG_LEVEL_BUFFERED;

    const int result = twinlog_append_batch(machine->log, &entry, 1, &terms, &lsn);
    if (!settle_call(machine, &terms, result, lsn, "a record that is tried")) {
        free(fact.data);
        return;
    }
    history_accept(&machine->history, fact);
    check_first_lsn(lsn, history_last(&machine->history), "a record that is tried");
}

/* What a truncation has removed was durable before. */
static bool is_being_cut(const struct machine *machine)
{
    return machine->attempt && machine->attempt->is_end_fixed;
}

static uint64_t last_lsn_of(const struct twinlog_request *request)
{
    return request->first_lsn + request->count - 1;
}

static void finish_request(struct twinlog_request *request)
{
    struct pending *pending = request->context;
    struct machine *machine = pending->machine;

    if (!pending->is_pending)
        violation("a request was completed twice, or was never accepted");
    pending->is_pending = false;
    if (request->result != 0)
        violation("the request for LSN %" PRIu64 " has failed: %s", request->first_lsn,
                  twinlog_strerror(request->result));
    if (request->first_lsn <= machine->fetched)
        violation("the request for LSN %" PRIu64 " was completed behind that for %" PRIu64,
                  request->first_lsn, machine->fetched);
    machine->fetched = last_lsn_of(request);
}

static void take_from_queue(struct machine *machine, struct twinlog_request *request)
{
    const struct pending *pending = request->context;

    finish_request(request);
    if (machine->log && !is_being_cut(machine))
        check_level(machine, last_lsn_of(request), pending->level, "a request in a queue");
}

static void poll_queue(struct machine *machine)
{
    struct twinlog_request *done[2];
    int count;
    if (!machine->queue)
        return;

    while ((count = twinlog_queue_poll(machine->queue, done, 2, 0)) > 0) {
        for (int i = 0; i < count; ++i)
            take_from_queue(machine, done[i]);
    }
    if (count < 0)
        violation("polling a queue failed: %s", twinlog_strerror(count));
}

void begin_to_count_again(struct machine *machine)
{
    poll_queue(machine);
    machine->fetched = 0;
}

/* NULL: all are pending. */
static struct pending *free_request(struct machine *machine)
{
    for (struct pending *pending = machine->pending; pending < machine->pending + MAX_PENDING; ++pending) {
        if (!pending->is_pending)
            return pending;
    }
    return NULL;
}

/* It will come back through the machine's queue. */
static void address(struct machine *machine, struct pending *pending)
{
    *pending = (struct pending){ .machine = machine, .request.context = pending };
    if (!machine->queue && twinlog_queue_open(&machine->queue) < 0)
        violation("a queue could not be opened");
    pending->request.queue = machine->queue;
}

static void submit(struct machine *machine, struct pending *pending)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct batch_to_give batch;
    bool is_accepted = false;

    terms.level = choose_level(&machine->rng, 2);
    if (rng_one_in(&machine->rng, 4))
        terms.flags = TWINLOG_TRY;
    make_batch(machine, 1 + (unsigned)rng_below(&machine->rng, 4), &batch);

    pending->level = terms.level;
    pending->is_pending = true; /* it may be completed before the call returns */
    const int result = twinlog_submit(machine->log, batch.entry, batch.count, &terms, &pending->request);
    if (batch.is_too_large && result != -EMSGSIZE)
        violation("a request that fits in no buffer: %s", twinlog_strerror(result));
    if (!batch.is_too_large)
        is_accepted = settle_call(machine, &terms, result, 0, "a request");
    const uint64_t expected = history_settle(&machine->history, is_accepted);
    if (!is_accepted) {
        pending->is_pending = false;
        return;
    }

    check_first_lsn(pending->request.first_lsn, expected, "a request");
    machine->openings = 0;
    ++totals.requests;
}

void submit_requests(struct machine *machine)
{
    poll_queue(machine);
    for (uint64_t left = 1 + rng_below(&machine->rng, MAX_PENDING); left > 0; --left) {
        struct pending *pending = free_request(machine);
        if (!pending)
            break;
        address(machine, pending);
        submit(machine, pending);
    }
    if (rng_one_in(&machine->rng, 3))
        commit_requests(machine);
}

void expect_no_requests(struct machine *machine, const char *call)
{
    poll_queue(machine);
    for (unsigned i = 0; i < MAX_PENDING; ++i) {
        const struct pending *pending = &machine->pending[i];
        if (pending->is_pending)
            violation("%s left the request for LSN %" PRIu64, call, pending->request.first_lsn);
    }
}

/* Leads a commit, as soon as there is one to lead: false if there was none for so long. */
static bool commit_once(struct machine *machine, unsigned timeout_ms)
{
    const uint64_t deadline_ns = twinlog_deadline(timeout_ms);
    bool has_led = twl_commit_turn(machine->log->commit);

    while (!has_led && twl_monotonic_ns() < deadline_ns)
        has_led = twl_commit_turn(machine->log->commit);
    notice_progress(machine);
    return has_led;
}

/* Where there is an interval, the last records become durable when it has passed. */
static void commit_after_interval(struct machine *machine)
{
    while (twinlog_durable_lsn(machine->log) < twinlog_last_lsn(machine->log)) {
        if (!commit_once(machine, 1000))
            violation("after an interval LSN %" PRIu64 " is not durable", twinlog_last_lsn(machine->log));
    }
}

/* As a committer would: once, or until nothing is left. */
void commit_requests(struct machine *machine)
{
    const bool is_once = rng_one_in(&machine->rng, 2);
    if (is_once) {
        commit_once(machine, 0);
        poll_queue(machine);
        return;
    }

    finish_requests(machine);
    if (machine->options.flush_interval_ms > 0)
        commit_after_interval(machine);
}

void finish_requests(struct machine *machine)
{
    bool has_led;
    do {
        has_led = commit_once(machine, 0);
    } while (has_led);
    expect_no_requests(machine, "the committer");
}

void close_queue(struct machine *machine)
{
    expect_no_requests(machine, "the end");
    if (twinlog_queue_close(machine->queue) < 0)
        violation("the queue was not closed");
    machine->queue = NULL;
}

/* ---- skipped LSNs -------------------------------------------------------------------------------- */

/* False: it was refused. */
static bool skip_one(struct machine *machine)
{
    const uint64_t next = history_last(&machine->history) + 2;
    struct fact fact = history_make_sized(&machine->history, machine->disk, &machine->rng, 0);
    fact.is_void = true;

    history_offer(&machine->history, fact);
    const int result = twinlog_skip(machine->log, next);
    const bool is_accepted = expect_done(machine, result, "a skip");
    const uint64_t lsn = history_settle(&machine->history, is_accepted);
    if (!is_accepted)
        return false;

    check_first_lsn(lsn, next - 1, "a skip");
    machine->openings = 0;
    ++totals.fillers;
    check_level(machine, lsn, TWINLOG_LEVEL_DURABLE, "a skip");
    return true;
}

/* One by one: a crash may leave some of them. */
void skip_some(struct machine *machine)
{
    bool is_accepted = true;
    for (uint64_t left = 1 + rng_below(&machine->rng, 4); left > 0 && is_accepted; --left)
        is_accepted = skip_one(machine);
}
