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

static size_t batch_room(const struct machine *machine)
{
    return machine->options.buffer_bytes - 8192;
}

static size_t room_for(size_t size)
{
    return 24 + (size + 7) / 8 * 8;
}

static void cut_into_pieces(struct rng *rng, const struct fact *fact, struct twinlog_entry *entry,
                            struct iovec *pieces)
{
    size_t done = 0;
    entry->data = NULL;
    entry->size = 0;
    entry->pieces = pieces;
    entry->piece_count = (uint32_t)rng_below(rng, MAX_PIECES) + 1;
    for (unsigned i = 0; i < entry->piece_count; ++i) {
        const size_t left = fact->size - done;
        const size_t size = i + 1 == entry->piece_count ? left : (size_t)rng_below(rng, left + 1);
        pieces[i] = (struct iovec){ .iov_base = size > 0 ? fact->data + done : NULL, .iov_len = size };
        done += size;
    }
}

/* Most leave the time to the log; some know better. */
static void choose_label(struct machine *machine, struct fact *fact, struct twinlog_entry *entry)
{
    struct rng *rng = &machine->rng;
    if (rng_one_in(rng, 2)) {
        fact->type = entry->type = (uint8_t)rng_next(rng);
        fact->tag = entry->tag = (uint16_t)rng_next(rng);
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

/* Offers them to the history. Now and then more than a buffer takes. */
static void make_batch(struct machine *machine, unsigned count, struct batch_to_give *ret_batch)
{
    const bool may_be_too_large = rng_one_in(&machine->rng, 16);
    size_t room = batch_room(machine), used = 0;
    ret_batch->count = 0;
    while (ret_batch->count < count && (room_for(0) <= room - used || may_be_too_large)) {
        const size_t most = may_be_too_large ? room - room_for(0) : room - used - room_for(0);
        struct twinlog_entry *entry = &ret_batch->entry[ret_batch->count];
        const struct fact fact = make_entry(machine, entry, ret_batch->piece[ret_batch->count], most / 8 * 8);
        used += room_for(fact.size);
        ret_batch->count++;
        history_offer(&machine->history, fact);
        if (used >= room)
            break;
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
    if ((level == TWINLOG_LEVEL_DURABLE && durable < lsn) ||
        (level == TWINLOG_LEVEL_WRITTEN && written < lsn))
        violation("%s: LSN %" PRIu64 " is not at level %u, written are %" PRIu64 ", durable %" PRIu64, call,
                  lsn, level, written, durable);
    if (level == TWINLOG_LEVEL_DURABLE)
        acknowledge(machine, lsn);
    notice_progress(machine);
}

static struct twinlog_terms choose_terms(struct rng *rng, const struct twinlog_cancel *canceled)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    terms.level = TWINLOG_LEVEL_DURABLE - (uint32_t)rng_below(rng, 3);
    const uint64_t kind = rng_below(rng, 16);
    if (kind < 2)
        terms.flags = TWINLOG_TRY;
    if (kind == 2)
        terms.deadline_ns = twinlog_deadline(FOR_EVER_MS);
    if (kind == 3)
        terms.deadline_ns = 1; /* long ago */
    if (kind == 4)
        terms.cancel = canceled;
    return terms;
}

/* What the terms allow; true if the records have an LSN. */
static bool settle_call(struct machine *machine, const struct twinlog_terms *terms, int result, uint64_t lsn,
                        const char *call)
{
    const bool has_ended =
        (result == -ETIMEDOUT && terms->deadline_ns == 1) || (result == -ECANCELED && terms->cancel);
    if (has_ended)
        return lsn > 0;
    if (result == -EAGAIN && (terms->flags & TWINLOG_TRY))
        return false;
    if (result == -ENOSPC && (terms->flags & TWINLOG_TRY) && machine->was_full)
        return false; /* so it was when a segment was last tried; now another one is on its way */
    return expect_done(machine, result, call);
}

void append_batch(struct machine *machine)
{
    static const struct twinlog_cancel CANCELED = { .is_canceled = 1 };
    const struct twinlog_terms terms = choose_terms(&machine->rng, &CANCELED);
    struct batch_to_give batch;
    uint64_t lsn = UINT64_MAX;
    make_batch(machine, machine->is_mapped ? 1 : 1 + (unsigned)rng_below(&machine->rng, MAX_BATCH), &batch);
    const int result = twinlog_append_batch(machine->log, batch.entry, batch.count, &terms, &lsn);
    bool is_accepted = false;
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

void wait_at_level(struct machine *machine)
{
    struct rng *rng = &machine->rng;
    const uint64_t head = machine->history.head, last = history_last(&machine->history);
    if (last < head)
        return;
    const uint64_t lsn = rng_one_in(rng, 2) ? last : head + rng_below(rng, last + 1 - head);
    const uint32_t level = TWINLOG_LEVEL_DURABLE - (uint32_t)rng_below(rng, 3);
    const uint64_t deadline_ns = rng_one_in(rng, 4)   ? 1
                                 : rng_one_in(rng, 4) ? twinlog_deadline(FOR_EVER_MS)
                                                      : 0;
    const int result = twinlog_wait(machine->log, lsn, (enum twinlog_level)level, deadline_ns);
    if (result == -ETIMEDOUT && deadline_ns == 1)
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
    machine->fetched = request->first_lsn + request->count - 1;
}

static void poll_queue(struct machine *machine)
{
    struct twinlog_request *done[2];
    int count = 0;
    while (machine->queue && (count = twinlog_queue_poll(machine->queue, done, 2, 0)) > 0)
        for (int i = 0; i < count; ++i) {
            const struct pending *pending = done[i]->context;
            finish_request(done[i]);
            if (machine->log && !is_being_cut(machine))
                check_level(machine, done[i]->first_lsn + done[i]->count - 1, pending->level,
                            "a request in a queue");
        }
    if (count < 0)
        violation("polling a queue failed: %s", twinlog_strerror(count));
}

void begin_to_count_again(struct machine *machine)
{
    poll_queue(machine);
    machine->fetched = 0;
}

static struct pending *free_request(struct machine *machine)
{
    for (struct pending *pending = machine->pending; pending < machine->pending + MAX_PENDING; ++pending)
        if (!pending->is_pending)
            return pending;
    return NULL;
}

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
    terms.level = pending->level = TWINLOG_LEVEL_DURABLE - (uint32_t)rng_below(&machine->rng, 2);
    terms.flags = rng_one_in(&machine->rng, 4) ? TWINLOG_TRY : 0;
    make_batch(machine, 1 + (unsigned)rng_below(&machine->rng, 4), &batch);
    pending->is_pending = true;
    const int result = twinlog_submit(machine->log, batch.entry, batch.count, &terms, &pending->request);
    bool is_accepted = false;
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
    for (const struct pending *pending = machine->pending; pending < machine->pending + MAX_PENDING;
         ++pending)
        if (pending->is_pending)
            violation("%s left the request for LSN %" PRIu64, call, pending->request.first_lsn);
}

static bool commit_once(struct machine *machine, unsigned timeout_ms)
{
    const uint64_t deadline_ns = twinlog_deadline(timeout_ms);
    bool has_led;
    while (!(has_led = twl_commit_turn(machine->log->commit)) && twl_monotonic_ns() < deadline_ns &&
           timeout_ms > 0)
        continue;
    notice_progress(machine);
    return has_led;
}

/* As a committer would. Once, or until nothing is left; and where there is an interval, until all is durable. */
void commit_requests(struct machine *machine)
{
    if (rng_one_in(&machine->rng, 2)) {
        commit_once(machine, 0);
        poll_queue(machine);
        return;
    }
    finish_requests(machine);
    while (machine->options.flush_interval_ms > 0 &&
           twinlog_durable_lsn(machine->log) < twinlog_last_lsn(machine->log))
        if (!commit_once(machine, 1000))
            violation("after an interval LSN %" PRIu64 " is not durable", twinlog_last_lsn(machine->log));
}

void finish_requests(struct machine *machine)
{
    while (commit_once(machine, 0))
        ;
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

/* One by one: a crash may leave some of them. */
void skip_some(struct machine *machine)
{
    for (uint64_t left = 1 + rng_below(&machine->rng, 4); left > 0; --left) {
        const uint64_t next = history_last(&machine->history) + 2;
        struct fact fact = history_make_sized(&machine->history, machine->disk, &machine->rng, 0);
        fact.is_void = true;
        history_offer(&machine->history, fact);
        const int result = twinlog_skip(machine->log, next);
        const bool is_accepted = expect_done(machine, result, "a skip");
        const uint64_t lsn = history_settle(&machine->history, is_accepted);
        if (!is_accepted)
            return;
        check_first_lsn(lsn, next - 1, "a skip");
        machine->openings = 0;
        ++totals.fillers;
        check_level(machine, lsn, TWINLOG_LEVEL_DURABLE, "a skip");
    }
}
