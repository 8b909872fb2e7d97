/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The studies of one thread that appends: without waiting, with so many records on their way all the time (p5, and with
 * one on its way to each of many logs); and waiting, in batches, at each level, or for the small things that are kept
 * beside a log.
 *
 * A turn is one contender opened, used and closed again. twinlog's turns go on with the same log, as one that has run for
 * a while: its segments are recycled. The others begin with an empty directory, like in a round.
 *
 * Of the records on their way one in LATENCY_INTERVAL is timed, from the call of submit to the moment the program knows:
 * a clock for each would be a good part of what is measured.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "peer.h"
#include "series.h"
#include "study.h"

#define MIB (UINT64_C(1) << 20)
#define KEPT_BYTES (512 * MIB)
#define SPARES 16u
#define EXPECTED_BYTES (1024 * MIB)
#define RECORD_BYTES 128u /* where the point is something else */
#define LATENCY_INTERVAL 64u
#define FETCH 256u
#define RAW_BYTES 4096u
#define CURSOR_RECORDS 1000u

struct stage {
    char dir[4096];
    unsigned number; /* of the point */
    uint32_t record_bytes;
    struct payload payload;
};

struct flight;

struct way {
    const struct peer *peer;
    int (*fly)(struct flight *flight,
               uint64_t until_ns); /* leaves nothing on its way; NULL: once() again and again */
    int (*once)(struct flight *flight);
    unsigned in_flight, batch;  /* records; 0 = the number of the point */
    struct twinlog_setup setup; /* how twinlog is opened */
};

struct slot {
    struct twinlog_request request; /* the first member */
    struct twinlog *log;
    uint64_t began_ns; /* 0: not timed */
};

/* One contender at work. */
struct flight {
    const struct stage *stage;
    const struct way *way;
    char dir[4096];
    void *state;     /* the peer's; for twinlog the log */
    uint64_t number; /* of the next record or set */
    unsigned batch, slot_count;
    struct twinlog_entry *entries; /* a batch of them */
    struct iovec *records;         /* the same */
    struct slot *slots;
    struct twinlog_queue *queue;
    struct twinlog_request *idle; /* not on their way */
    struct histogram histogram;
};

/* What the next record is made of. */
static const unsigned char *next_data(struct flight *flight)
{
    return payload_at(&flight->stage->payload, flight->number++);
}

/* ---- without waiting ---------------------------------------------------------------------------- */

static int submit(struct flight *flight, struct slot *slot)
{
    slot->began_ns = flight->number % (LATENCY_INTERVAL * flight->batch) == 0 ? now_ns() : 0;
    for (unsigned i = 0; i < flight->batch; i++)
        flight->entries[i] =
            (struct twinlog_entry){ .data = next_data(flight), .size = flight->stage->record_bytes };
    return twinlog_submit(slot->log, flight->entries, flight->batch, NULL, &slot->request);
}

static int submit_idle(struct flight *flight, unsigned *idle)
{
    int error = 0;
    while (flight->idle && error == 0) {
        struct twinlog_request *request = flight->idle;
        flight->idle = request->next;
        error = submit(flight, (struct slot *)request);
        *idle -= error == 0;
    }
    return error;
}

/* Adds to the idle ones what has completed. The first error, or that of a record. */
static int fetch(struct flight *flight, int timeout_ms, unsigned *idle)
{
    struct twinlog_request *requests[FETCH];
    int count = twinlog_queue_poll(flight->queue, requests, FETCH, timeout_ms);
    int error = count < 0 ? count : 0;
    for (int i = 0; i < count; i++) {
        const struct slot *slot = (struct slot *)requests[i];
        if (slot->began_ns > 0)
            histogram_add(&flight->histogram, now_ns() - slot->began_ns);
        if (requests[i]->result < 0)
            error = requests[i]->result;
        requests[i]->next = flight->idle;
        flight->idle = requests[i];
        ++*idle;
    }
    return error;
}

static struct twinlog *log_of(const struct flight *flight, unsigned slot)
{
    return flight->way->peer == &peer_twinlog ? flight->state : logs_at(flight->state, slot);
}

static void make_idle(struct flight *flight)
{
    flight->idle = NULL;
    for (unsigned i = 0; i < flight->slot_count; i++) {
        flight->slots[i].request = (struct twinlog_request){ .queue = flight->queue, .next = flight->idle };
        flight->slots[i].log = log_of(flight, i);
        flight->idle = &flight->slots[i].request;
    }
}

static int fly_by_queue(struct flight *flight, uint64_t until_ns)
{
    unsigned idle = flight->slot_count;
    int error = 0;
    make_idle(flight);
    while (error == 0 && now_ns() < until_ns && !round_is_interrupted()) {
        error = submit_idle(flight, &idle);
        if (error == 0)
            error = fetch(flight, -1, &idle);
    }
    while (idle < flight->slot_count && error == 0)
        error = fetch(flight, -1, &idle);
    return error;
}

/* One thread for all: it submits as many as there may be, commits them, and fetches them. */
static int fly_by_drive(struct flight *flight, uint64_t until_ns)
{
    unsigned idle = flight->slot_count;
    int error = 0;
    make_idle(flight);
    while (error == 0 && now_ns() < until_ns && !round_is_interrupted()) {
        error = submit_idle(flight, &idle);
        while (idle < flight->slot_count && error == 0) {
            int driven = twinlog_drive(flight->state, -1);
            error = driven < 0 ? driven : 0;
            for (unsigned before = idle + 1; error == 0 && before != idle;) {
                before = idle;
                error = fetch(flight, 0, &idle);
            }
        }
    }
    return error;
}

/* The pace keeps its own window. */
static int fly_in_window(struct flight *flight, uint64_t until_ns)
{
    const struct peer *peer = flight->way->peer;
    int error = 0;
    while (error == 0 && now_ns() < until_ns && !round_is_interrupted())
        for (unsigned i = 0; i < LATENCY_INTERVAL && error == 0; i++)
            error = peer->append(flight->state, 0, next_data(flight), flight->stage->record_bytes);
    return error ? error : peer->append_batch(flight->state, NULL, 0);
}

/* ---- waiting ------------------------------------------------------------------------------------ */

static int append(struct flight *flight)
{
    return flight->way->peer->append(flight->state, 0, next_data(flight), flight->stage->record_bytes);
}

static int append_written(struct flight *flight)
{
    return flight->way->peer->append_written(flight->state, next_data(flight), flight->stage->record_bytes);
}

static int append_buffered(struct flight *flight)
{
    return flight->way->peer->append_buffered(flight->state, next_data(flight), flight->stage->record_bytes);
}

static int append_batch(struct flight *flight)
{
    for (unsigned i = 0; i < flight->batch; i++)
        flight->records[i] =
            (struct iovec){ (void *)(uintptr_t)next_data(flight), flight->stage->record_bytes };
    return flight->way->peer->append_batch(flight->state, flight->records, flight->batch);
}

static int append_entries(struct flight *flight)
{
    for (unsigned i = 0; i < flight->batch; i++)
        flight->entries[i] =
            (struct twinlog_entry){ .data = next_data(flight), .size = flight->stage->record_bytes };
    return twinlog_append_batch(flight->state, flight->entries, flight->batch, NULL, NULL);
}

/* What raft must not forget. */
static int set_vote(struct flight *flight)
{
    const uint64_t term_and_candidate[2] = { ++flight->number, flight->number % 5 };
    return twinlog_meta_set(flight->state, "vote", term_and_candidate, sizeof(term_and_candidate));
}

/* The first one, in the warm-up, makes the records. */
static int set_cursor(struct flight *flight)
{
    int error = 0;
    for (unsigned i = 0; flight->number == 0 && i < CURSOR_RECORDS && error == 0; i++)
        error = twinlog_enqueue(flight->state, "record", 6, NULL);
    if (error == 0 && flight->number == 0)
        error = twinlog_sync(flight->state);
    if (error)
        return error;
    return twinlog_cursor_set(flight->state, "consumer", 1 + flight->number++ % CURSOR_RECORDS);
}

/* The floor of both: each set is two durable writes of 4 KiB, one after the other. */
static int write_twice(struct flight *flight)
{
    int error = peer_raw.append(flight->state, 0, NULL, RAW_BYTES); /* the bytes are its own */
    flight->number++;
    return error ? error : peer_raw.append(flight->state, 0, NULL, RAW_BYTES);
}

static int wait_for_each(struct flight *flight, uint64_t until_ns)
{
    int error = 0;
    for (uint64_t began_ns = now_ns(); error == 0 && began_ns < until_ns && !round_is_interrupted();) {
        error = flight->way->once(flight);
        const uint64_t returned_ns = now_ns();
        histogram_add(&flight->histogram, returned_ns - began_ns);
        began_ns = returned_ns;
    }
    return error;
}

/* ---- one turn ----------------------------------------------------------------------------------- */

static bool is_twinlog(const struct flight *flight)
{
    return flight->way->peer == &peer_twinlog;
}

static bool make_own_dir(struct flight *flight)
{
    snprintf(flight->dir, sizeof(flight->dir), "%.4000s/%s", flight->stage->dir,
             is_twinlog(flight) ? "log" : "turn");
    return (is_twinlog(flight) && access(flight->dir, F_OK) == 0) || make_dir(flight->dir);
}

static bool open_peer(struct flight *flight, const char *label)
{
    const struct peer *peer = flight->way->peer;
    struct peer_setup setup = {
        .dir = flight->dir,
        .threads = flight->slot_count,
        .largest_record = flight->stage->record_bytes,
        .expected_bytes = EXPECTED_BYTES,
        .twinlog = flight->way->setup,
    };
    setup.twinlog.keep_bytes = KEPT_BYTES;
    setup.twinlog.spares = SPARES;
    if (!make_own_dir(flight))
        return false;
    int error = peer->open(&setup, &flight->state);
    return error == 0 || complain(label, "open", peer->explain(error));
}

static bool close_peer(struct flight *flight, const char *label, int error)
{
    const struct peer *peer = flight->way->peer;
    int close_error = peer->close(flight->state);
    if (!is_twinlog(flight) && !remove_tree(flight->dir))
        return false;
    if (error)
        return complain(label, "append", peer->explain(error));
    return close_error == 0 || complain(label, "close", peer->explain(close_error));
}

/* What is on its way at the end of the warm-up and at the end is waited for, so that all that is counted was
 * appended in the time that is. */
static int time_flight(struct flight *flight, const struct limits *limits, struct figures *figures)
{
    int (*fly)(struct flight * flight, uint64_t until_ns) =
        flight->way->fly ? flight->way->fly : wait_for_each;
    const struct peer *peer = flight->way->peer;
    struct peer_counters before = { 0 }, after = { 0 };

    int error = fly(flight, now_ns() + (uint64_t)(limits->warmup_seconds * 1e9));
    histogram_reset(&flight->histogram);
    if (peer->count)
        peer->count(flight->state, &before);
    const double cpu_before = cpu_seconds();
    const uint64_t first = flight->number, start_ns = now_ns();
    if (error == 0)
        error = fly(flight, start_ns + (uint64_t)(limits->seconds * 1e9));
    figures->seconds = (double)(now_ns() - start_ns) / 1e9;
    figures->appends = (double)(flight->number - first);
    figures->cpu_us_per_append = per((cpu_seconds() - cpu_before) * 1e6, figures->appends);
    if (peer->count)
        peer->count(flight->state, &after);
    figures->rate = per(figures->appends, figures->seconds);
    figures->mb_per_s = figures->rate * flight->stage->record_bytes / 1e6;
    figures->appends_per_sync =
        per((double)(after.appends - before.appends), (double)(after.syncs - before.syncs));
    figures_set_latencies(figures, &flight->histogram);
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

static struct flight *make_flight(const struct stage *stage, const struct way *way)
{
    struct flight *flight = calloc(1, sizeof(*flight));
    if (!flight)
        return NULL;
    flight->stage = stage;
    flight->way = way;
    flight->batch = way->batch ? way->batch : stage->number;
    flight->slot_count = (way->in_flight ? way->in_flight : stage->number) / flight->batch;
    flight->slots = calloc(flight->slot_count, sizeof(*flight->slots));
    flight->entries = calloc(flight->batch, sizeof(*flight->entries));
    flight->records = calloc(flight->batch, sizeof(*flight->records));
    if (flight->slots && flight->entries && flight->records && twinlog_queue_open(&flight->queue) == 0)
        return flight;
    free_flight(flight);
    return NULL;
}

static bool run(void *state, const struct trial *trial, const struct limits *limits,
                struct figures *ret_figures)
{
    const int64_t resident_before = memory_resident_bytes();
    struct figures figures = figures_unknown();
    struct flight *flight = make_flight(state, trial->way);
    if (!flight)
        return complain(trial->label, "memory", strerror(ENOMEM));
    bool is_good = open_peer(flight, trial->label);
    if (is_good) {
        int error = time_flight(flight, limits, &figures);
        const int64_t resident = memory_resident_bytes();
        if (resident >= 0 && resident_before >= 0)
            figures.resident_growth = (double)(resident - resident_before);
        is_good = close_peer(flight, trial->label, error) && !round_is_interrupted();
    }
    free_flight(flight);
    if (is_good)
        *ret_figures = figures;
    return is_good;
}

/* ---- the stage ---------------------------------------------------------------------------------- */

static bool has_peer(const struct trial *trial)
{
    const struct way *way = trial->way;
    return way->peer != NULL;
}

static bool set_stage(const struct study *study, const char *dir, const struct workload *workload,
                      const struct limits *limits, void **ret_stage)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    (void)limits;
    if (!stage)
        return complain("twinlog", "memory", strerror(ENOMEM));
    *ret_stage = stage;
    stage->number = workload->sizes.max_bytes;
    stage->record_bytes = study == &study_flight || study == &study_ways ? stage->number : RECORD_BYTES;
    snprintf(stage->dir, sizeof(stage->dir), "%s", dir);
    int error = payload_create(stage->record_bytes, &stage->payload);
    return error == 0 || complain("twinlog", "memory", strerror(-error));
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    payload_destroy(&stage->payload);
    free(stage);
}

/* ---- p5, batch, ways, state, many ---------------------------------------------------------------- */

#define WAY(its_peer, ...)                                                                                   \
    &(const struct way)                                                                                      \
    {                                                                                                        \
        .peer = &its_peer, __VA_ARGS__                                                                       \
    }
#define FLIGHT(how, records, in_batches) .fly = how, .in_flight = records, .batch = in_batches
#define BATCHES(records) .once = append_batch, .in_flight = records, .batch = records
#define ONE(how) .once = how, .in_flight = 1, .batch = 1

static const struct trial flight_trials[] = {
    { "append", "twinlog_append(), one after the other", WAY(peer_twinlog, ONE(append)), run },
    { "queue, 100", "twinlog_submit(), 100 in flight, twinlog_queue_poll()",
      WAY(peer_twinlog, FLIGHT(fly_by_queue, 100, 1)), run },
    { "queue, 1000", "the same with 1,000", WAY(peer_twinlog, FLIGHT(fly_by_queue, 1000, 1)), run },
    { "queue, 10000", "the same with 10,000", WAY(peer_twinlog, FLIGHT(fly_by_queue, 10000, 1)), run },
    { "batches, 10000", "the same in batches of 100", WAY(peer_twinlog, FLIGHT(fly_by_queue, 10000, 100)),
      run },
    { "batches, 1000", "1,000 in flight, in batches of 10", WAY(peer_twinlog, FLIGHT(fly_by_queue, 1000, 10)),
      run },
    { "drive, 1000", "no thread but the caller's, in twinlog_drive()",
      WAY(peer_twinlog, FLIGHT(fly_by_drive, 1000, 1), .setup.is_threadless = true), run },
    { "drive, 10000", "the same with 10,000",
      WAY(peer_twinlog, FLIGHT(fly_by_drive, 10000, 1), .setup.is_threadless = true), run },
    { "pace-1000", "the bound: checksum, lock, one group in flight, no format and no requests",
      WAY(peer_pace_flight, FLIGHT(fly_in_window, 1000, 1)), run },
    { "pace-10000", "the same with 10,000", WAY(peer_pace_flight, FLIGHT(fly_in_window, 10000, 1)), run },
    { "bdb, 1000", "Berkeley DB: 1,000 times log_put(), then log_flush()", WAY(peer_bdb, BATCHES(1000)),
      run },
    { "bdb, 10000", "the same with 10,000", WAY(peer_bdb, BATCHES(10000)), run },
    { "leveldb, 1000", "LevelDB: write batches of 1,000 with sync=1", WAY(peer_leveldb, BATCHES(1000)), run },
    { "rocksdb, 1000", "RocksDB: write batches of 1,000 with sync=true", WAY(peer_rocksdb, BATCHES(1000)),
      run },
    { NULL, NULL, NULL, NULL },
};

static const struct trial batch_trials[] = {
    { "twinlog", "twinlog_append_batch()", WAY(peer_twinlog, .once = append_entries), run },
    { "raw", "the floor: one direct overwrite of as many blocks, no records",
      WAY(peer_raw, .once = append_batch), run },
    { "bdb", "Berkeley DB: log_put() for each, then log_flush(): no batch",
      WAY(peer_bdb, .once = append_batch), run },
    { "leveldb", "LevelDB: a write batch with sync=1", WAY(peer_leveldb, .once = append_batch), run },
    { "rocksdb", "RocksDB: a write batch with sync=true", WAY(peer_rocksdb, .once = append_batch), run },
    { NULL, NULL, NULL, NULL },
};

static const struct trial ways_trials[] = {
    { "durable", "twinlog_append()", WAY(peer_twinlog, ONE(append)), run },
    { "written", "twinlog_append_batch() of one at the level", WAY(peer_twinlog, ONE(append_written)), run },
    { "written, page cache", "the same without direct I/O",
      WAY(peer_twinlog, ONE(append_written), .setup.is_buffered = true), run },
    { "written, naive", "write()", WAY(peer_naive, ONE(append_written)), run },
    { "written, bdb", "Berkeley DB: log_put() with DB_LOG_WRNOSYNC", WAY(peer_bdb, ONE(append_written)),
      run },
    { "written, leveldb", "LevelDB: put with sync=0", WAY(peer_leveldb, ONE(append_written)), run },
    { "written, rocksdb", "RocksDB: put with sync=false", WAY(peer_rocksdb, ONE(append_written)), run },
    { "buffered", "twinlog_enqueue()", WAY(peer_twinlog, ONE(append_buffered)), run },
    { "buffered, bdb", "Berkeley DB: log_put()", WAY(peer_bdb, ONE(append_buffered)), run },
    { NULL, NULL, NULL, NULL },
};

static const struct trial state_trials[] = {
    { "meta_set", "twinlog_meta_set() of 16 bytes", WAY(peer_twinlog, ONE(set_vote)), run },
    { "cursor_set", "twinlog_cursor_set()", WAY(peer_twinlog, ONE(set_cursor)), run },
    { "raw-twice", "the floor: two 4 KiB direct overwrites with RWF_DSYNC", WAY(peer_raw, ONE(write_twice)),
      run },
    { NULL, NULL, NULL, NULL },
};

static const struct trial many_trials[] = {
    { "logs-own", "a committer for each log", WAY(peer_logs_own, FLIGHT(fly_by_queue, 0, 1)), run },
    { "logs-shared", "one committer", WAY(peer_logs_shared, FLIGHT(fly_by_queue, 0, 1)), run },
    { "logs-shared-32", "the same, 32 writes in flight", WAY(peer_logs_shared_32, FLIGHT(fly_by_queue, 0, 1)),
      run },
    { NULL, NULL, NULL, NULL },
};

#define FIGURE(member) offsetof(struct figures, member)
#define STUDY(its_point, its_baseline, its_trials)                                                           \
    .point = its_point, .baseline = its_baseline, .trials = its_trials, .is_in_build = has_peer,             \
    .set_stage = set_stage, .clear_stage = clear_stage

const struct study study_flight = {
    STUDY("bytes", "append", flight_trials),
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "MB/s", FIGURE(mb_per_s), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
        { "a sync", FIGURE(appends_per_sync), 0 },
    },
};

const struct study study_batch = {
    STUDY("records", "raw", batch_trials),
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "MB/s", FIGURE(mb_per_s), 0 },
        { "batch p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
    },
};

const struct study study_ways = {
    STUDY("bytes", NULL, ways_trials),
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "MB/s", FIGURE(mb_per_s), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "p99.9 µs", FIGURE(p999_us), 0 },
        { "max µs", FIGURE(max_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
    },
};

const struct study study_state = {
    STUDY(NULL, "raw-twice", state_trials),
    .columns = {
        { "sets/s", FIGURE(rate), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "p99.9 µs", FIGURE(p999_us), 0 },
        { "max µs", FIGURE(max_us), 0 },
    },
};

const struct study study_many = {
    STUDY("logs", "logs-own", many_trials),
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "max µs", FIGURE(max_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
        { "MiB resident", FIGURE(resident_growth), 1.0 / (1 << 20) },
    },
};
