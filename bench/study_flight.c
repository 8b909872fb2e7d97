/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of one thread that appends without waiting: so many records are on their way all the time, and
 * whatever is completed is replaced at once. Completions are fetched from a queue, or told by calls; a committer
 * commits, or the thread itself lends a hand. Of the records one in LATENCY_INTERVAL is timed, from the call of submit
 * to the moment the program knows: a clock for each would be a good part of what is measured.
 *
 * Beside them what other logs have that comes near: as many records without a sync, then one.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "ways.h"

#define LATENCY_INTERVAL 64u
#define FETCH 256u

struct flight;

struct slot {
    struct twinlog_request request;
    uint64_t began_ns; /* 0: not timed */
};

struct way {
    const struct peer *peer;
    int (*fly)(struct flight *flight, uint64_t until_ns); /* leaves nothing on its way */
    unsigned in_flight, batch;                            /* records */
    struct twinlog_setup setup;                           /* how twinlog is opened */
};

struct flight {
    struct turn turn;
    const struct way *way;
    uint32_t record_bytes;
    struct twinlog_entry *entries; /* way->batch of them */
    struct iovec *records;         /* the same */
    struct slot *slots;
    unsigned slot_count;
    struct twinlog_queue *queue;
    struct twinlog_request *idle; /* not on their way */
    sem_t free_slots;             /* where completions are told */
    int error;                    /* the first; of the thread that completes */
    struct histogram histogram;   /* the same */
};

/* ---- twinlog ------------------------------------------------------------------------------------ */

static int submit(struct flight *flight, struct slot *slot)
{
    const unsigned batch = flight->way->batch;
    slot->began_ns = flight->turn.number % (LATENCY_INTERVAL * batch) == 0 ? now_ns() : 0;
    for (unsigned i = 0; i < batch; i++)
        flight->entries[i] =
            (struct twinlog_entry){ .data = turn_data(&flight->turn), .size = flight->record_bytes };
    return twinlog_submit(flight->turn.state, flight->entries, batch, NULL, &slot->request);
}

static void note_completed(struct flight *flight, const struct slot *slot)
{
    if (slot->request.result < 0 && flight->error == 0)
        flight->error = slot->request.result;
    if (slot->began_ns > 0)
        histogram_add(&flight->histogram, now_ns() - slot->began_ns);
}

static int submit_idle(struct flight *flight)
{
    int error = 0;
    while (flight->idle && error == 0) {
        struct twinlog_request *request = flight->idle;
        flight->idle = request->next;
        error = submit(flight, (struct slot *)request);
    }
    return error;
}

static unsigned fetch(struct flight *flight, int timeout_ms)
{
    struct twinlog_request *requests[FETCH];
    int count = twinlog_queue_poll(flight->queue, requests, FETCH, timeout_ms);
    for (int i = 0; i < count; i++) {
        note_completed(flight, (struct slot *)requests[i]);
        requests[i]->next = flight->idle;
        flight->idle = requests[i];
    }
    if (count < 0)
        flight->error = count;
    return count > 0 ? (unsigned)count : 0;
}

static void make_idle(struct flight *flight)
{
    flight->idle = NULL;
    for (unsigned i = 0; i < flight->slot_count; i++) {
        flight->slots[i].request = (struct twinlog_request){ .queue = flight->queue, .next = flight->idle };
        flight->idle = &flight->slots[i].request;
    }
}

static int fly_by_queue(struct flight *flight, uint64_t until_ns)
{
    unsigned idle = flight->slot_count;
    int error = 0;
    make_idle(flight);
    while (error == 0 && flight->error == 0 && now_ns() < until_ns && !round_is_interrupted()) {
        error = submit_idle(flight);
        idle = fetch(flight, -1);
    }
    while (idle < flight->slot_count && error == 0 && flight->error == 0)
        idle += fetch(flight, -1);
    return error ? error : flight->error;
}

/* One thread for all: it submits as many as there may be, commits them, and fetches them. */
static int fly_by_drive(struct flight *flight, uint64_t until_ns)
{
    int error = 0;
    make_idle(flight);
    while (error == 0 && flight->error == 0 && now_ns() < until_ns && !round_is_interrupted()) {
        error = submit_idle(flight);
        for (unsigned idle = 0; idle < flight->slot_count && error == 0 && flight->error == 0;) {
            int driven = twinlog_drive(flight->turn.state, -1);
            error = driven < 0 ? driven : 0;
            for (unsigned fetched; (fetched = fetch(flight, 0)) > 0;)
                idle += fetched;
        }
    }
    return error ? error : flight->error;
}

static void completed(struct twinlog_request *request)
{
    struct flight *flight = request->context;
    note_completed(flight, (struct slot *)request);
    sem_post(&flight->free_slots);
}

/* In the order of their LSNs, so the slots are a ring. */
static int fly_by_call(struct flight *flight, uint64_t until_ns)
{
    unsigned next = 0;
    int error = 0;
    for (unsigned i = 0; i < flight->slot_count; i++)
        flight->slots[i].request = (struct twinlog_request){ .complete = completed, .context = flight };
    sem_init(&flight->free_slots, 0, flight->slot_count);
    while (error == 0 && (next % FETCH || (now_ns() < until_ns && !round_is_interrupted()))) {
        sem_wait(&flight->free_slots);
        error = submit(flight, &flight->slots[next++ % flight->slot_count]);
    }
    for (unsigned i = error ? 1 : 0; i < flight->slot_count; i++)
        sem_wait(&flight->free_slots);
    sem_destroy(&flight->free_slots);
    return error ? error : flight->error;
}

static int append_each(struct flight *flight, uint64_t until_ns)
{
    int error = 0;
    while (error == 0 && now_ns() < until_ns && !round_is_interrupted()) {
        uint64_t began_ns = now_ns();
        error = twinlog_append(flight->turn.state, turn_data(&flight->turn), flight->record_bytes, NULL);
        histogram_add(&flight->histogram, now_ns() - began_ns);
    }
    return error;
}

/* ---- the others --------------------------------------------------------------------------------- */

static int append_batches(struct flight *flight, uint64_t until_ns)
{
    int error = 0;
    while (error == 0 && now_ns() < until_ns && !round_is_interrupted()) {
        uint64_t began_ns = now_ns();
        for (unsigned i = 0; i < flight->way->batch; i++)
            flight->records[i] =
                (struct iovec){ (void *)(uintptr_t)turn_data(&flight->turn), flight->record_bytes };
        error = flight->way->peer->append_batch(flight->turn.state, flight->records, flight->way->batch);
        histogram_add(&flight->histogram, now_ns() - began_ns);
    }
    return error;
}

/* ---- one turn ----------------------------------------------------------------------------------- */

/* What is on its way at the end of the warm-up and at the end is waited for, so that all that is counted was
 * appended in the time that is. */
static int time_flight(struct flight *flight, const struct limits *limits, struct figures *figures)
{
    histogram_reset(&flight->histogram);
    int error = flight->way->fly(flight, now_ns() + (uint64_t)(limits->warmup_seconds * 1e9));
    const uint64_t before = flight->turn.number, start_ns = now_ns();
    histogram_reset(&flight->histogram);
    if (error == 0)
        error = flight->way->fly(flight, start_ns + (uint64_t)(limits->seconds * 1e9));
    figures->seconds = (double)(now_ns() - start_ns) / 1e9;
    figures->appends = (double)(flight->turn.number - before);
    figures->rate = per(figures->appends, figures->seconds);
    figures_set_latencies(figures, &flight->histogram);
    turn_count(&flight->turn, figures);
    return error;
}

static void free_flight(struct flight *flight)
{
    if (flight->queue && twinlog_queue_close(flight->queue) < 0)
        complain("twinlog", "queue", "requests were not completed");
    free(flight->slots);
    free(flight->entries);
    free(flight->records);
    free(flight);
}

static struct flight *make_flight(const struct way *way, uint32_t record_bytes)
{
    struct flight *flight = calloc(1, sizeof(*flight));
    if (!flight)
        return NULL;
    flight->way = way;
    flight->record_bytes = record_bytes;
    flight->slot_count = way->in_flight / way->batch;
    flight->slots = calloc(flight->slot_count, sizeof(*flight->slots));
    flight->entries = calloc(way->batch, sizeof(*flight->entries));
    flight->records = calloc(way->batch, sizeof(*flight->records));
    if (flight->slots && flight->entries && flight->records && twinlog_queue_open(&flight->queue) == 0)
        return flight;
    free_flight(flight);
    return NULL;
}

static bool run(void *state, const struct trial *trial, const struct limits *limits,
                struct figures *ret_figures)
{
    const struct ways_stage *stage = state;
    const struct way *way = trial->way;
    struct figures figures = figures_unknown();
    struct flight *flight = make_flight(way, stage->record_bytes);
    if (!flight)
        return complain(trial->label, "memory", strerror(ENOMEM));
    bool is_good = turn_open(&flight->turn, stage, trial->label, way->peer, &way->setup);
    if (is_good) {
        int error = time_flight(flight, limits, &figures);
        is_good = turn_close(&flight->turn, trial->label, error) && !round_is_interrupted();
    }
    free_flight(flight);
    if (is_good)
        *ret_figures = figures;
    return is_good;
}

static bool has_peer(const struct trial *trial)
{
    const struct way *way = trial->way;
    return way->peer != NULL;
}

static bool set_stage(const struct study *study, const char *dir, const struct workload *workload,
                      const struct limits *limits, void **ret_stage)
{
    (void)study;
    (void)limits;
    return ways_set_stage(dir, workload->sizes.max_bytes, ret_stage);
}

#define WAY(its_peer, how, records, in_batches, has_no_thread)                                               \
    &(const struct way)                                                                                      \
    {                                                                                                        \
        .peer = &its_peer, .fly = how, .in_flight = records, .batch = in_batches,                            \
        .setup.is_threadless = has_no_thread                                                                 \
    }

static const struct trial flight_trials[] = {
    { "append", "twinlog_append(), one after the other", WAY(peer_twinlog, append_each, 1, 1, false), run },
    { "queue, 100", "twinlog_submit(), 100 in flight, twinlog_queue_poll()",
      WAY(peer_twinlog, fly_by_queue, 100, 1, false), run },
    { "queue, 1000", "the same with 1,000", WAY(peer_twinlog, fly_by_queue, 1000, 1, false), run },
    { "queue, 10000", "the same with 10,000", WAY(peer_twinlog, fly_by_queue, 10000, 1, false), run },
    { "batches, 10000", "the same in batches of 100", WAY(peer_twinlog, fly_by_queue, 10000, 100, false),
      run },
    { "calls, 1000", "twinlog_submit() with a call for each completion",
      WAY(peer_twinlog, fly_by_call, 1000, 1, false), run },
    { "calls, 10000", "the same with 10,000", WAY(peer_twinlog, fly_by_call, 10000, 1, false), run },
    { "drive, 1000", "no thread but the caller's, in twinlog_drive()",
      WAY(peer_twinlog, fly_by_drive, 1000, 1, true), run },
    { "drive, 10000", "the same with 10,000", WAY(peer_twinlog, fly_by_drive, 10000, 1, true), run },
    { "bdb, 1000", "Berkeley DB: 1,000 times log_put(), then log_flush()",
      WAY(peer_bdb, append_batches, 1000, 1000, false), run },
    { "bdb, 10000", "the same with 10,000", WAY(peer_bdb, append_batches, 10000, 10000, false), run },
    { "leveldb, 1000", "LevelDB: write batches of 1,000 with sync=1",
      WAY(peer_leveldb, append_batches, 1000, 1000, false), run },
    { "rocksdb, 1000", "RocksDB: write batches of 1,000 with sync=true",
      WAY(peer_rocksdb, append_batches, 1000, 1000, false), run },
    { NULL, NULL, NULL, NULL },
};

#define FIGURE(member) offsetof(struct figures, member)
const struct study study_flight = {
    .point = "bytes",
    .baseline = "append",
    .trials = flight_trials,
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "MB/s", FIGURE(mb_per_s), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
        { "a sync", FIGURE(appends_per_sync), 0 },
    },
    .is_in_build = has_peer,
    .set_stage = set_stage,
    .clear_stage = ways_clear_stage,
};
