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
    /* Appends until then, and leaves nothing on its way. NULL: calls once() again and again. */
    int (*fly)(struct flight *flight, uint64_t until_ns);
    int (*once)(struct flight *flight);
    enum append_level level;    /* of append() */
    unsigned in_flight, batch;  /* records; 0 = the number of the point */
    struct twinlog_setup setup; /* how twinlog is opened */
    bool has_logs;              /* one for each request */
    bool is_shared;             /* one committer for all logs */
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
    unsigned batch;  /* records of a request, or of an append */
    unsigned slot_count;
    struct twinlog_entry *entries; /* a batch of them */
    struct slot *slots;
    struct twinlog_queue *queue;
    struct twinlog_committer *committer;
    struct twinlog_request *idle; /* not on their way */
    unsigned idle_count;
    struct histogram histogram;
};

/* The next batch is in the entries. */
static void fill_entries(struct flight *flight)
{
    for (unsigned i = 0; i < flight->batch; i++) {
        flight->entries[i] = (struct twinlog_entry){
            .data = payload_at(&flight->stage->payload, flight->number),
            .size = flight->stage->record_bytes,
        };
        flight->number++;
    }
}

static bool is_over(uint64_t until_ns)
{
    return now_ns() >= until_ns || round_is_interrupted();
}

/* ---- without waiting ---------------------------------------------------------------------------- */

static void push_idle(struct flight *flight, struct twinlog_request *request)
{
    request->next = flight->idle;
    flight->idle = request;
    flight->idle_count++;
}

static struct twinlog_request *pop_idle(struct flight *flight)
{
    struct twinlog_request *request = flight->idle;

    flight->idle = request->next;
    flight->idle_count--;
    return request;
}

static void make_idle(struct flight *flight)
{
    flight->idle = NULL;
    flight->idle_count = 0;
    for (unsigned i = 0; i < flight->slot_count; i++) {
        struct slot *slot = &flight->slots[i];

        if (!flight->way->has_logs)
            slot->log = flight->state;
        slot->request = (struct twinlog_request){ .queue = flight->queue };
        push_idle(flight, &slot->request);
    }
}

static int submit(struct flight *flight, struct slot *slot)
{
    const bool is_timed = flight->number % (LATENCY_INTERVAL * flight->batch) == 0;

    slot->began_ns = is_timed ? now_ns() : 0;
    fill_entries(flight);
    return twinlog_submit(slot->log, flight->entries, flight->batch, NULL, &slot->request);
}

/* A request that was refused is not on its way, nor is it submitted again. */
static int submit_idle(struct flight *flight)
{
    while (flight->idle) {
        const int error = submit(flight, (struct slot *)pop_idle(flight));
        if (error)
            return error;
    }
    return 0;
}

/* Waits until a request has completed, and adds to the idle ones what has. The error of the queue, or of a record. */
static int fetch(struct flight *flight)
{
    struct twinlog_request *requests[FETCH];
    const int count = twinlog_queue_poll(flight->queue, requests, FETCH, -1);
    int error = 0;

    if (count < 0)
        return count;
    for (int i = 0; i < count; i++) {
        const struct slot *slot = (struct slot *)requests[i];

        if (slot->began_ns > 0)
            histogram_add(&flight->histogram, now_ns() - slot->began_ns);
        if (requests[i]->result < 0)
            error = requests[i]->result;
        push_idle(flight, requests[i]);
    }
    return error;
}

static int fly_by_queue(struct flight *flight, uint64_t until_ns)
{
    int error = 0;

    make_idle(flight);
    while (error == 0 && !is_over(until_ns)) {
        error = submit_idle(flight);
        if (error == 0)
            error = fetch(flight);
    }

    while (error == 0 && flight->idle_count < flight->slot_count)
        error = fetch(flight);
    return error;
}

static int append(struct flight *flight)
{
    fill_entries(flight);
    return flight->way->peer->append(
        flight->state, &(const struct append){ flight->entries, flight->batch, 0, flight->way->level });
}

/* The pace keeps its own window. An append of nothing waits for what is on its way. */
static int fly_in_window(struct flight *flight, uint64_t until_ns)
{
    while (!is_over(until_ns)) {
        for (unsigned i = 0; i < LATENCY_INTERVAL; i++) {
            const int error = append(flight);
            if (error)
                return error;
        }
    }
    return flight->way->peer->append(flight->state, &(const struct append){ 0 });
}

/* ---- waiting ------------------------------------------------------------------------------------ */

/* What raft must not forget. */
static int set_vote(struct flight *flight)
{
    const uint64_t term = ++flight->number, candidate = term % 5;
    const uint64_t term_and_candidate[2] = { term, candidate };

    return twinlog_meta_set(flight->state, "vote", term_and_candidate, sizeof(term_and_candidate));
}

/* The reference: each set is two durable writes of 4 KiB, one after the other. */
static int write_twice(struct flight *flight)
{
    const int error = append(flight);

    if (error)
        return error;
    return peer_raw.append(flight->state, &(const struct append){ flight->entries, 1, 0, APPEND_DURABLE });
}

/* Each call is timed; the next one begins when it returns. */
static int wait_for_each(struct flight *flight, uint64_t until_ns)
{
    uint64_t began_ns = now_ns();

    while (began_ns < until_ns && !round_is_interrupted()) {
        const int error = flight->way->once(flight);
        const uint64_t returned_ns = now_ns();

        histogram_add(&flight->histogram, returned_ns - began_ns);
        if (error)
            return error;
        began_ns = returned_ns;
    }
    return 0;
}

/* ---- a contender, opened and closed ------------------------------------------------------------- */

static bool is_twinlog(const struct flight *flight)
{
    return flight->way->peer == &peer_twinlog;
}

/* twinlog goes on with the log of the turn before; the others begin with an empty directory. */
static bool make_own_dir(struct flight *flight)
{
    const char *name = is_twinlog(flight) ? "log" : "turn";

    snprintf(flight->dir, sizeof(flight->dir), "%.4000s/%s", flight->stage->dir, name);
    if (is_twinlog(flight) && access(flight->dir, F_OK) == 0)
        return true;
    return make_dir(flight->dir);
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

    const int error = peer_open(peer, &setup, &flight->state);
    if (error)
        return complain(label, "open", explain_error(peer->explain, error));
    return true;
}

/* `error` is that of the appends. */
static bool close_peer(struct flight *flight, const char *label, int error)
{
    const struct peer *peer = flight->way->peer;
    const int close_error = peer->close(flight->state);

    if (!is_twinlog(flight) && !remove_tree(flight->dir))
        return false;
    if (error)
        return complain(label, "append", explain_error(peer->explain, error));
    if (close_error)
        return complain(label, "close", explain_error(peer->explain, close_error));
    return true;
}

/* Hundreds of logs have thousands of files. */
static void raise_limit_of_files(void)
{
    struct rlimit files;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* They go on with those of the turn before. */
static int open_logs(struct flight *flight)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    int error = 0;

    raise_limit_of_files();
    if (flight->way->is_shared)
        error = twinlog_committer_open(NULL, &flight->committer);

    options.committer = flight->committer;
    options.segment_bytes = MIB;
    options.keep_bytes = MIB;
    for (unsigned i = 0; i < flight->slot_count && error == 0; i++) {
        snprintf(flight->dir, sizeof(flight->dir), "%.4000s/log.%u", flight->stage->dir, i);
        error = twinlog_open(flight->dir, &options, &flight->slots[i].log);
    }
    flight->state = flight->slots[0].log;
    return error;
}

/* `error` is that of the openings or of the appends. */
static bool close_logs(struct flight *flight, const char *label, int error)
{
    for (unsigned i = 0; i < flight->slot_count; i++) {
        if (!flight->slots[i].log)
            continue;
        const int close_error = twinlog_close(flight->slots[i].log);
        if (error == 0)
            error = close_error;
    }
    if (flight->committer)
        twinlog_committer_close(flight->committer);

    if (error)
        return complain(label, "many logs", twinlog_strerror(error));
    return true;
}

/* ---- one turn ----------------------------------------------------------------------------------- */

static int fly(struct flight *flight, double seconds)
{
    const uint64_t until_ns = now_ns() + (uint64_t)(seconds * 1e9);

    if (flight->way->fly)
        return flight->way->fly(flight, until_ns);
    return wait_for_each(flight, until_ns);
}

static struct peer_counters read_counters(const struct flight *flight)
{
    struct peer_counters counters = { 0 };

    if (flight->way->peer->count)
        flight->way->peer->count(flight->state, &counters);
    return counters;
}

/* What is on its way at the end of the warm-up and at the end is waited for, so that all that is counted was
 * appended in the time that is. */
static int time_flight(struct flight *flight, const struct limits *limits, struct figures *figures)
{
    int error = fly(flight, limits->warmup_seconds);

    histogram_reset(&flight->histogram);
    const struct peer_counters before = read_counters(flight);
    const double cpu_before = cpu_seconds();
    const uint64_t first = flight->number, start_ns = now_ns();
    if (error == 0)
        error = fly(flight, limits->seconds);
    struct work work = {
        .seconds = (double)(now_ns() - start_ns) / 1e9,
        .cpu_seconds = cpu_seconds() - cpu_before,
    };
    const struct peer_counters after = read_counters(flight);

    work.appends = (double)(flight->number - first);
    work.bytes = work.appends * flight->stage->record_bytes;
    figures_set_work(figures, &work);
    figures_set_latencies(figures, &flight->histogram);

    const double appends = (double)(after.appends - before.appends);
    const double syncs = (double)(after.syncs - before.syncs);
    figures->appends_per_sync = per(appends, syncs);
    return error;
}

static struct flight *make_flight(const struct stage *stage, const struct way *way)
{
    struct flight *flight = allocate(1, sizeof(*flight));
    const unsigned in_flight = way->in_flight ? way->in_flight : stage->number;

    flight->stage = stage;
    flight->way = way;
    flight->batch = way->batch ? way->batch : stage->number;
    flight->slot_count = in_flight / flight->batch;
    flight->slots = allocate(flight->slot_count, sizeof(*flight->slots));
    flight->entries = allocate(flight->batch, sizeof(*flight->entries));
    return flight;
}

static void free_flight(struct flight *flight)
{
    if (flight->queue && twinlog_queue_close(flight->queue) < 0)
        complain("twinlog", "queue", "requests were not completed");
    free(flight->slots);
    free(flight->entries);
    free(flight);
}

static bool fly_with_logs(struct flight *flight, const char *label, const struct limits *limits,
                          struct figures *figures)
{
    int error = open_logs(flight);

    if (error == 0)
        error = time_flight(flight, limits, figures);
    return close_logs(flight, label, error);
}

static bool fly_with_peer(struct flight *flight, const char *label, const struct limits *limits,
                          struct figures *figures)
{
    if (!open_peer(flight, label))
        return false;
    const int error = time_flight(flight, limits, figures);
    return close_peer(flight, label, error);
}

static bool run(void *state, const struct trial *trial, const struct limits *limits, struct figures *figures)
{
    struct flight *flight = make_flight(state, trial->way);
    const int error = twinlog_queue_open(&flight->queue);
    bool is_good;

    if (error)
        is_good = complain(trial->label, "queue", twinlog_strerror(error));
    else if (flight->way->has_logs)
        is_good = fly_with_logs(flight, trial->label, limits, figures);
    else
        is_good = fly_with_peer(flight, trial->label, limits, figures);

    free_flight(flight);
    return is_good && !round_is_interrupted();
}

/* ---- the stage ---------------------------------------------------------------------------------- */

static bool set_stage(const struct setting *setting, void *state)
{
    const bool is_point_a_size = setting->study == &study_flight || setting->study == &study_ways;
    struct stage *stage = state;

    stage->number = setting->workload->sizes.max_bytes;
    stage->record_bytes = is_point_a_size ? stage->number : RECORD_BYTES;
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
