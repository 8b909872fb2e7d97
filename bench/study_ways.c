/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The studies of one thread that appends: without waiting, with so many records on their way all the time (p5); and
 * waiting, in batches, at each level, or for the small things that are kept beside a log.
 *
 * A turn is one contender opened, used and closed again. twinlog's turns go on with the same log, as one that has run
 * for a while: its segments are recycled. The others begin with an empty directory, like in a round.
 *
 * Of the records on their way one in LATENCY_INTERVAL is timed, from the call of submit to the moment the program
 * knows: a clock for each would be a good part of what is measured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <twinlog.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"
#include "study.h"

#define MIB (UINT64_C(1) << 20)
#define KEPT_BYTES (512 * MIB)
#define SPARES 16u
#define EXPECTED_BYTES (1024 * MIB)
#define RECORD_BYTES 128u /* where the point is something else */
#define LATENCY_INTERVAL 64u
#define FETCH 256u

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
    enum append_level level;    /* of append() */
    unsigned in_flight, batch;  /* records; 0 = the number of the point */
    struct twinlog_setup setup; /* how twinlog is opened */
    bool has_logs, is_shared;   /* a log for each request; one committer for all */
};

struct slot {
    struct twinlog_request request; /* the first member */
    uint64_t began_ns;              /* 0: not timed */
    struct twinlog *log;
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
    struct slot *slots;
    struct twinlog_queue *queue;
    struct twinlog_committer *committer;
    struct twinlog_request *idle; /* not on their way */
    struct histogram histogram;
};

/* The next batch is in the entries. */
static void fill_entries(struct flight *flight)
{
    for (unsigned i = 0; i < flight->batch; i++)
        flight->entries[i] = (struct twinlog_entry){
            .data = payload_at(&flight->stage->payload, flight->number++),
            .size = flight->stage->record_bytes,
        };
}

/* ---- without waiting ---------------------------------------------------------------------------- */

static int submit(struct flight *flight, struct slot *slot)
{
    slot->began_ns = flight->number % (LATENCY_INTERVAL * flight->batch) == 0 ? now_ns() : 0;
    fill_entries(flight);
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

static void make_idle(struct flight *flight)
{
    flight->idle = NULL;
    for (unsigned i = 0; i < flight->slot_count; i++) {
        if (!flight->way->has_logs)
            flight->slots[i].log = flight->state;
        flight->slots[i].request = (struct twinlog_request){ .queue = flight->queue, .next = flight->idle };
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

static int append(struct flight *flight)
{
    fill_entries(flight);
    return flight->way->peer->append(
        flight->state, &(const struct append){ flight->entries, flight->batch, 0, flight->way->level });
}

/* The pace keeps its own window. */
static int fly_in_window(struct flight *flight, uint64_t until_ns)
{
    int error = 0;
    while (error == 0 && now_ns() < until_ns && !round_is_interrupted())
        for (unsigned i = 0; i < LATENCY_INTERVAL && error == 0; i++)
            error = append(flight);
    return error ? error : flight->way->peer->append(flight->state, &(const struct append){ 0 });
}

/* ---- waiting ------------------------------------------------------------------------------------ */

/* What raft must not forget. */
static int set_vote(struct flight *flight)
{
    const uint64_t term_and_candidate[2] = { ++flight->number, flight->number % 5 };
    return twinlog_meta_set(flight->state, "vote", term_and_candidate, sizeof(term_and_candidate));
}

/* The reference: each set is two durable writes of 4 KiB, one after the other. */
static int write_twice(struct flight *flight)
{
    int error = append(flight);
    return error ? error
                 : peer_raw.append(flight->state,
                                   &(const struct append){ flight->entries, 1, 0, APPEND_DURABLE });
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
    int error = peer_open(peer, &setup, &flight->state);
    return error == 0 || complain(label, "open", explain_error(peer->explain, error));
}

static bool close_peer(struct flight *flight, const char *label, int error)
{
    const struct peer *peer = flight->way->peer;
    int close_error = peer->close(flight->state);
    if (!is_twinlog(flight) && !remove_tree(flight->dir))
        return false;
    if (error)
        return complain(label, "append", explain_error(peer->explain, error));
    return close_error == 0 || complain(label, "close", explain_error(peer->explain, close_error));
}

/* They go on with those of the turn before. */
static int open_logs(struct flight *flight)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct rlimit files;
    int error = flight->way->is_shared ? twinlog_committer_open(NULL, &flight->committer) : 0;

    options.committer = flight->committer;
    options.segment_bytes = options.keep_bytes = 1 << 20;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (unsigned i = 0; i < flight->slot_count && error == 0; i++) {
        snprintf(flight->dir, sizeof(flight->dir), "%.4000s/log.%u", flight->stage->dir, i);
        error = twinlog_open(flight->dir, &options, &flight->slots[i].log);
    }
    flight->state = flight->slots[0].log;
    return error;
}

static bool close_logs(struct flight *flight, const char *label, int error)
{
    for (unsigned i = 0; i < flight->slot_count; i++) {
        const int close_error = flight->slots[i].log ? twinlog_close(flight->slots[i].log) : 0;
        error = error ? error : close_error;
    }
    if (flight->committer)
        twinlog_committer_close(flight->committer);
    return error == 0 || complain(label, "many logs", twinlog_strerror(error));
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
    struct work work = { .seconds = (double)(now_ns() - start_ns) / 1e9,
                         .cpu_seconds = cpu_seconds() - cpu_before };
    work.appends = (double)(flight->number - first);
    work.bytes = work.appends * flight->stage->record_bytes;
    if (peer->count)
        peer->count(flight->state, &after);
    figures_set_work(figures, &work);
    figures_set_latencies(figures, &flight->histogram);
    figures->appends_per_sync =
        per((double)(after.appends - before.appends), (double)(after.syncs - before.syncs));
    return error;
}

static void free_flight(struct flight *flight)
{
    if (flight->queue && twinlog_queue_close(flight->queue) < 0)
        complain("twinlog", "queue", "requests were not completed");
    free(flight->slots);
    free(flight->entries);
    free(flight);
}

static struct flight *make_flight(const struct stage *stage, const struct way *way)
{
    struct flight *flight = allocate(1, sizeof(*flight));
    flight->stage = stage;
    flight->way = way;
    flight->batch = way->batch ? way->batch : stage->number;
    flight->slot_count = (way->in_flight ? way->in_flight : stage->number) / flight->batch;
    flight->slots = allocate(flight->slot_count, sizeof(*flight->slots));
    flight->entries = allocate(flight->batch, sizeof(*flight->entries));
    return flight;
}

static bool run(void *state, const struct trial *trial, const struct limits *limits, struct figures *figures)
{
    struct flight *flight = make_flight(state, trial->way);
    bool is_good = false;
    int error = twinlog_queue_open(&flight->queue);
    if (error)
        complain(trial->label, "queue", twinlog_strerror(error));
    else if (flight->way->has_logs) {
        error = open_logs(flight);
        error = error ? error : time_flight(flight, limits, figures);
        is_good = close_logs(flight, trial->label, error) && !round_is_interrupted();
    } else if (open_peer(flight, trial->label)) {
        error = time_flight(flight, limits, figures);
        is_good = close_peer(flight, trial->label, error) && !round_is_interrupted();
    }
    free_flight(flight);
    return is_good;
}

/* ---- the stage ---------------------------------------------------------------------------------- */

static bool set_stage(const struct setting *setting, void *state)
{
    struct stage *stage = state;
    stage->number = setting->workload->sizes.max_bytes;
    stage->record_bytes =
        setting->study == &study_flight || setting->study == &study_ways ? stage->number : RECORD_BYTES;
    snprintf(stage->dir, sizeof(stage->dir), "%s", setting->dir);
    payload_create(stage->record_bytes, &stage->payload);
    return true;
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    payload_destroy(&stage->payload);
}

/* ---- p5, batch, ways, state ---------------------------------------------------------------------- */

static bool has_peer(const struct trial *trial)
{
    const struct way *way = trial->way;
    return way->peer != NULL;
}

#define BY(its_peer, ...) WAY(.peer = &its_peer, __VA_ARGS__)
#define FLIGHT(how, records, in_batches) .fly = how, .in_flight = records, .batch = in_batches
#define WINDOW(records) FLIGHT(fly_in_window, records, 1), .level = APPEND_BUFFERED
#define BATCHES(records) .once = append, .level = APPEND_BATCH, .in_flight = records, .batch = records
#define ONE(how) .once = how, .in_flight = 1, .batch = 1
#define AT(its_level) ONE(append), .level = its_level

static const struct trial flight_trials[] = {
    { "append", "twinlog_append(), one after the other", BY(peer_twinlog, AT(APPEND_DURABLE)) },
    { "queue, 100", "twinlog_submit(), 100 in flight, twinlog_queue_poll()",
      BY(peer_twinlog, FLIGHT(fly_by_queue, 100, 1)) },
    { "queue, 1000", "the same with 1,000", BY(peer_twinlog, FLIGHT(fly_by_queue, 1000, 1)) },
    { "queue, 10000", "the same with 10,000", BY(peer_twinlog, FLIGHT(fly_by_queue, 10000, 1)) },
    { "batches, 10000", "the same in batches of 100", BY(peer_twinlog, FLIGHT(fly_by_queue, 10000, 100)) },
    { "batches, 1000", "1,000 in flight, in batches of 10",
      BY(peer_twinlog, FLIGHT(fly_by_queue, 1000, 10)) },
    { "pace-1000", "the reference: checksum, lock, one group in flight, no format and no requests",
      BY(peer_pace_flight, WINDOW(1000)) },
    { "pace-10000", "the same with 10,000", BY(peer_pace_flight, WINDOW(10000)) },
    { "bdb, 1000", "Berkeley DB: 1,000 times log_put(), then log_flush()", BY(peer_bdb, BATCHES(1000)) },
    { "bdb, 10000", "the same with 10,000", BY(peer_bdb, BATCHES(10000)) },
    { "leveldb, 1000", "LevelDB: write batches of 1,000 with sync=1", BY(peer_leveldb, BATCHES(1000)) },
    { "rocksdb, 1000", "RocksDB: write batches of 1,000 with sync=true", BY(peer_rocksdb, BATCHES(1000)) },
    { NULL, NULL, NULL },
};

static const struct trial batch_trials[] = {
    { "twinlog", "twinlog_append_batch()", BY(peer_twinlog, BATCHES(0)) },
    { "raw", "the reference: one direct overwrite of as many blocks, no records", BY(peer_raw, BATCHES(0)) },
    { "bdb", "Berkeley DB: log_put() for each, then log_flush(): no batch", BY(peer_bdb, BATCHES(0)) },
    { "leveldb", "LevelDB: a write batch with sync=1", BY(peer_leveldb, BATCHES(0)) },
    { "rocksdb", "RocksDB: a write batch with sync=true", BY(peer_rocksdb, BATCHES(0)) },
    { NULL, NULL, NULL },
};

static const struct trial ways_trials[] = {
    { "durable", "twinlog_append()", BY(peer_twinlog, AT(APPEND_DURABLE)) },
    { "written", "twinlog_append_batch() of one at the level", BY(peer_twinlog, AT(APPEND_WRITTEN)) },
    { "written, page cache", "the same without direct I/O",
      BY(peer_twinlog, AT(APPEND_WRITTEN), .setup.flags = TWINLOG_BUFFERED) },
    { "written, naive", "write()", BY(peer_naive, AT(APPEND_WRITTEN)) },
    { "written, bdb", "Berkeley DB: log_put() with DB_LOG_WRNOSYNC", BY(peer_bdb, AT(APPEND_WRITTEN)) },
    { "written, leveldb", "LevelDB: put with sync=0", BY(peer_leveldb, AT(APPEND_WRITTEN)) },
    { "written, rocksdb", "RocksDB: put with sync=false", BY(peer_rocksdb, AT(APPEND_WRITTEN)) },
    { "buffered", "twinlog_enqueue()", BY(peer_twinlog, AT(APPEND_BUFFERED)) },
    { "buffered, bdb", "Berkeley DB: log_put()", BY(peer_bdb, AT(APPEND_BUFFERED)) },
    { NULL, NULL, NULL },
};

static const struct trial logs_trials[] = {
    { "one committer", "twinlog_submit() to each log in turn, one in flight in each, a shared committer",
      BY(peer_twinlog, FLIGHT(fly_by_queue, 0, 1), .has_logs = true, .is_shared = true) },
    { "one each", "the same with a committer for each log",
      BY(peer_twinlog, FLIGHT(fly_by_queue, 0, 1), .has_logs = true) },
    { NULL, NULL, NULL },
};

static const struct trial state_trials[] = {
    { "meta_set", "twinlog_meta_set() of 16 bytes", BY(peer_twinlog, ONE(set_vote)) },
    { "raw-twice", "the reference: two 4 KiB direct overwrites with RWF_DSYNC",
      BY(peer_raw, ONE(write_twice)) },
    { NULL, NULL, NULL },
};

#define STUDY(its_point, its_baseline, its_trials)                                                           \
    .point = its_point, .baseline = its_baseline, .trials = its_trials, .is_in_build = has_peer,             \
    .stage_bytes = sizeof(struct stage), .set_stage = set_stage, .clear_stage = clear_stage, .run = run

const struct study study_flight = {
    STUDY("bytes", "append", flight_trials),
    .columns = { { RATE("appends") }, { MB_PER_S }, { P50 }, { P99 }, { CPU }, { A_SYNC } },
};
const struct study study_batch = {
    STUDY("records", "raw", batch_trials),
    .columns = { { RATE("appends") }, { MB_PER_S }, { "batch p50 µs", FIGURE(p50_us), 1 }, { P99 }, { CPU } },
};
const struct study study_ways = {
    STUDY("bytes", NULL, ways_trials),
    .columns = { { RATE("appends") }, { MB_PER_S }, { P50 }, { P99 }, { P999 }, { LONGEST }, { CPU } },
};
const struct study study_logs = {
    STUDY("logs", "one committer", logs_trials),
    .columns = { { RATE("appends") }, { P50 }, { P99 }, { LONGEST }, { CPU } },
};
const struct study study_state = {
    STUDY(NULL, "raw-twice", state_trials),
    .columns = { { RATE("sets") }, { P50 }, { P99 }, { P999 }, { LONGEST } },
};
