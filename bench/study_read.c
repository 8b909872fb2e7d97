/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The studies of reading: replays from end to end, with the files in the page cache and without, and single
 * records at random.
 *
 * A stage is one folder for each store. Whatever is read is checked against what was written: a replay by number,
 * size and sum, a single record by its first bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "peer.h"
#include "store.h"
#include "study.h"

#define MAX_OPEN 8

struct stage {
    char dir[2048];
    struct store_plan plan; /* its dir is set by plan_in() */
    struct tally expected;  /* of a replay */
    void *open[MAX_OPEN];   /* single reads: the store of each trial, open until the end */
};

/* ---- the stage --------------------------------------------------------------------------------- */

static const struct store_plan *plan_in(struct stage *stage, const struct store *store)
{
    snprintf(stage->plan.dir, sizeof(stage->plan.dir), "%s/%s", stage->dir, store->folder);
    return &stage->plan;
}

static bool fill(struct stage *stage, const struct trial *trial)
{
    const struct store *store = trial->way;
    const struct store_plan *plan = plan_in(stage, store);
    if (access(plan->dir, F_OK) == 0) /* another store has been here */
        return true;
    if (mkdir(plan->dir, 0700) < 0)
        return complain(trial->label, plan->dir, strerror(errno));
    int error = store->fill(plan);
    return error == 0 || complain(trial->label, "write", store->explain(error));
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    payload_destroy(&stage->plan.payload);
    free(stage);
}

static bool set_stage(const struct study *study, const char *dir, uint32_t record_bytes, uint64_t records,
                      void **ret_stage)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    if (!stage || payload_create(record_bytes, &stage->plan.payload) < 0) {
        free(stage);
        return complain(study->point, "memory", strerror(ENOMEM));
    }
    *ret_stage = stage;
    snprintf(stage->dir, sizeof(stage->dir), "%s", dir);
    stage->plan.records = records;
    stage->plan.record_bytes = record_bytes;
    for (uint64_t i = 1; i <= records; i++)
        tally_add(&stage->expected, plan_record(&stage->plan, i), record_bytes);
    for (const struct trial *trial = study->trials; trial->label; trial++) {
        if (round_is_interrupted() || (trial->way && !fill(stage, trial)))
            return false;
    }
    return true;
}

/* ---- replays ----------------------------------------------------------------------------------- */

static bool set_replay_stage(const struct study *study, const char *dir, const struct workload *workload,
                             const struct limits *limits, void **ret_stage)
{
    uint32_t record_bytes = workload->sizes.max_bytes;
    return set_stage(study, dir, record_bytes, limits->bytes / record_bytes + 1, ret_stage);
}

static bool replay_once(const struct stage *stage, const struct trial *trial, void *store_state)
{
    const struct store *store = trial->way;
    const struct tally *expected = &stage->expected;
    struct tally tally = { 0, 0, 0 };
    int error = store->replay(store_state, &tally);
    if (error)
        return complain(trial->label, "read", store->explain(error));
    if (!store->is_floor && (tally.records != expected->records || tally.bytes != expected->bytes ||
                             tally.marks != expected->marks))
        return complain(trial->label, "read", "these are not the records that were written");
    return !round_is_interrupted();
}

struct stopwatch {
    uint64_t ns;
    double cpu_seconds;
    unsigned passes;
};

static bool time_replay(const struct stage *stage, const struct trial *trial, void *store_state,
                        struct stopwatch *watch)
{
    double cpu = cpu_seconds();
    uint64_t began_ns = now_ns();
    if (!replay_once(stage, trial, store_state))
        return false;
    watch->ns += now_ns() - began_ns;
    watch->cpu_seconds += cpu_seconds() - cpu;
    watch->passes++;
    return true;
}

static struct figures digest(const struct stage *stage, const struct stopwatch *watch)
{
    struct figures figures = figures_unknown();
    figures.seconds = (double)watch->ns / 1e9;
    figures.appends = (double)watch->passes * (double)stage->plan.records;
    figures.rate = per(figures.appends, figures.seconds);
    figures.mb_per_s = figures.rate * stage->plan.record_bytes / 1e6;
    figures.cpu_us_per_append = per(watch->cpu_seconds * 1e6, figures.appends);
    return figures;
}

static bool open_store(struct stage *stage, const struct trial *trial, void **ret_state)
{
    const struct store *store = trial->way;
    int error = store->open(plan_in(stage, store), ret_state);
    return error == 0 || complain(trial->label, "open", store->explain(error));
}

/* The first pass brings the files into the page cache. */
static bool replay_hot(void *state, const struct trial *trial, const struct limits *limits,
                       struct figures *ret_figures)
{
    struct stage *stage = state;
    const struct store *store = trial->way;
    struct stopwatch watch = { 0, 0, 0 };
    void *store_state;

    if (!open_store(stage, trial, &store_state))
        return false;
    bool is_good = replay_once(stage, trial, store_state);
    while (is_good && (double)watch.ns < limits->seconds * 1e9)
        is_good = time_replay(stage, trial, store_state, &watch);
    store->close(store_state);
    *ret_figures = digest(stage, &watch);
    return is_good;
}

static bool forget(struct stage *stage, const struct trial *trial)
{
    return forget_files(trial->label, plan_in(stage, trial->way)->dir);
}

static bool replay_cold_once(struct stage *stage, const struct trial *trial, struct stopwatch *watch)
{
    const struct store *store = trial->way;
    void *store_state;

    if (!forget(stage, trial) || !open_store(stage, trial, &store_state))
        return false;
    bool is_good = time_replay(stage, trial, store_state, watch);
    store->close(store_state);
    return is_good;
}

/* The first pass brings back the memory that a virtual machine has left to its host. */
static bool replay_cold(void *state, const struct trial *trial, const struct limits *limits,
                        struct figures *ret_figures)
{
    struct stage *stage = state;
    struct stopwatch uncounted = { 0, 0, 0 }, watch = { 0, 0, 0 };

    bool is_good = replay_cold_once(stage, trial, &uncounted);
    while (is_good && (double)watch.ns < limits->seconds * 1e9)
        is_good = replay_cold_once(stage, trial, &watch);
    *ret_figures = digest(stage, &watch);
    return is_good;
}

#define FIGURE(member) offsetof(struct figures, member)
#define REPLAY(its_baseline, its_trials)                                                                     \
    {                                                                                                        \
        .point = "bytes", .baseline = its_baseline, .trials = its_trials,                                    \
        .columns = { { "records/s", FIGURE(rate), 0 },                                                       \
                     { "MB/s", FIGURE(mb_per_s), 0 },                                                        \
                     { "CPU ns a record", FIGURE(cpu_us_per_append), 1000 } },                               \
        .is_in_build = trial_has_way, .set_stage = set_replay_stage, .clear_stage = clear_stage              \
    }

static const struct trial hot_trials[] = {
    { "twinlog-mmap", "a reader that maps", &store_twinlog_mmap, replay_hot },
    { "twinlog-pread", "a reader that reads", &store_twinlog_pread, replay_hot },
    { "bare", "the floor: two CRC32Cs a record, in memory", &store_bare, replay_hot },
    { "bdb", "Berkeley DB's log: DB_LOGC->get(DB_NEXT)", &store_bdb, replay_hot },
    { "rocksdb", "RocksDB's log: rocksdb_get_updates_since()", &store_rocksdb_wal, replay_hot },
    { NULL, NULL, NULL, NULL },
};

static const struct trial mapped_trials[] = {
    { "log-live",
      "a mapped log that this process has just filled and goes on to have open, a reader that maps",
      &store_log_live, replay_hot },
    { "log", "the same after it was closed", &store_log, replay_hot },
    { "log-pread", "the same, a reader that reads", &store_log_pread, replay_hot },
    { "bare", "the floor: two CRC32Cs a record, in memory", &store_bare, replay_hot },
    { NULL, NULL, NULL, NULL },
};

static const struct trial cold_trials[] = {
    { "twinlog-mmap", "a reader that maps", &store_twinlog_mmap, replay_cold },
    { "twinlog-pread", "a reader that reads", &store_twinlog_pread, replay_cold },
    { "disk-direct", "the floor: the same files, direct reads of 1 MiB, four in flight", &store_disk_direct,
      replay_cold },
    { "disk-buffered", "the same, one after the other through the page cache", &store_disk_buffered,
      replay_cold },
    { "bdb", "Berkeley DB's log: DB_LOGC->get(DB_NEXT)", &store_bdb, replay_cold },
    { "rocksdb", "RocksDB's log: rocksdb_get_updates_since()", &store_rocksdb_wal, replay_cold },
    { NULL, NULL, NULL, NULL },
};

const struct study study_replay_hot = REPLAY("bare", hot_trials);
const struct study study_replay_mapped = REPLAY("bare", mapped_trials);
const struct study study_replay_cold = REPLAY("disk-direct", cold_trials);

/* ---- single reads ------------------------------------------------------------------------------ */

/* Once through everything, so that whatever keeps something in memory has it. */
static bool warm(const struct stage *stage, const struct trial *trial, void *store_state)
{
    const struct store *store = trial->way;
    struct found found;
    int error = 0;
    if (store->replay)
        return replay_once(stage, trial, store_state);
    for (uint64_t i = 1; i <= stage->plan.records && error == 0; i++)
        error = store->get(store_state, i, &found);
    return error == 0 || complain(trial->label, "read", store->explain(error));
}

static void clear_seek_stage(void *state)
{
    struct stage *stage = state;
    for (size_t i = 0; study_seek.trials[i].label; i++) {
        const struct store *store = study_seek.trials[i].way;
        if (stage->open[i])
            store->close(stage->open[i]);
    }
    clear_stage(stage);
}

static bool set_seek_stage(const struct study *study, const char *dir, const struct workload *workload,
                           const struct limits *limits, void **ret_stage)
{
    if (!set_stage(study, dir, workload->sizes.max_bytes, limits->count, ret_stage))
        return false;
    struct stage *stage = *ret_stage;
    for (size_t i = 0; study->trials[i].label; i++) {
        const struct trial *trial = &study->trials[i];
        if (trial->way && (!open_store(stage, trial, &stage->open[i]) || !warm(stage, trial, stage->open[i])))
            return false;
    }
    return true;
}

struct seeking {
    const struct store *store;
    const struct store_plan *plan;
    void *state;
    uint64_t random;
};

static int get_any(void *context, uint64_t turn)
{
    struct seeking *seeking = context;
    const struct store_plan *plan = seeking->plan;
    struct found found;
    (void)turn;
    uint64_t number = 1 + random_next(&seeking->random) % plan->records;
    int error = seeking->store->get(seeking->state, number, &found);
    if (error == 0 && found.mark != record_mark(plan_record(plan, found.number), plan->record_bytes))
        error = -EBADMSG;
    return error;
}

static bool seek(void *state, const struct trial *trial, const struct limits *limits,
                 struct figures *ret_figures)
{
    struct stage *stage = state;
    struct seeking seeking = {
        .store = trial->way,
        .plan = &stage->plan,
        .state = stage->open[trial - study_seek.trials],
        .random = UINT64_C(0x9e3779b97f4a7c15),
    };
    int error = time_operations(limits, get_any, &seeking, ret_figures);
    return error == 0 || complain(trial->label, "read", seeking.store->explain(error));
}

static const struct trial seek_trials[] = {
    { "twinlog-mmap", "seek() and next(), a reader that maps", &store_twinlog_mmap, seek },
    { "twinlog-pread", "seek() and next(), a reader that reads", &store_twinlog_pread, seek },
    { "twinlog-time", "seek_time() and next(), a reader that reads", &store_twinlog_time, seek },
    { "lmdb", "LMDB: mdb_get(), integer keys", &store_lmdb, seek },
    { "rocksdb", "RocksDB: rocksdb_get_pinned(), all blocks in its cache", &store_rocksdb, seek },
    { NULL, NULL, NULL, NULL },
};
_Static_assert(sizeof(seek_trials) / sizeof(seek_trials[0]) - 1 <= MAX_OPEN, "a place for each store");

const struct study study_seek = {
    .point = "bytes",
    .baseline = "rocksdb",
    .trials = seek_trials,
    .columns = {
        { "reads/s", FIGURE(rate), 0 },
        { "mean µs", FIGURE(mean_us), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "p99.9 µs", FIGURE(p999_us), 0 },
    },
    .is_in_build = trial_has_way,
    .set_stage = set_seek_stage,
    .clear_stage = clear_seek_stage,
};
