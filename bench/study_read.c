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

#include "common.h"
#include "peer.h"
#include "store.h"
#include "study.h"

#define MAX_OPEN 8
#define REPLAYED_BYTES (256u << 20)
#define SOUGHT 1000000u /* records, among which one is read */

struct stage {
    char dir[2048];
    struct store_plan plan; /* its dir is set by plan_in() */
    struct tally expected;  /* of a replay */
    void *replayed;         /* the store that is */
    void *open[MAX_OPEN];   /* single reads: the store of each trial, open until the end */
};

/* ---- the stage --------------------------------------------------------------------------------- */

static const struct store_plan *plan_in(struct stage *stage, const struct peer *store)
{
    snprintf(stage->plan.dir, sizeof(stage->plan.dir), "%s/%s", stage->dir, store->folder);
    return &stage->plan;
}

static bool fill(struct stage *stage, const struct trial *trial)
{
    const struct peer *store = trial->way;
    const struct store_plan *plan = plan_in(stage, store);
    if (access(plan->dir, F_OK) == 0) /* another store has been here */
        return true;
    if (mkdir(plan->dir, 0700) < 0)
        return complain(trial->label, plan->dir, strerror(errno));
    int error = store->fill ? store->fill(&(const struct peer_setup){ .plan = plan }) : 0;
    return error == 0 || complain(trial->label, "write", explain_error(store->explain, error));
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    payload_destroy(&stage->plan.payload);
}

static bool set_stage(const struct study *study, const char *dir, uint32_t record_bytes, uint64_t records,
                      struct stage *stage)
{
    payload_create(record_bytes, &stage->plan.payload);
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

static bool set_replay_stage(const struct setting *setting, void *stage)
{
    uint32_t record_bytes = setting->workload->sizes.max_bytes;
    return set_stage(setting->study, setting->dir, record_bytes, REPLAYED_BYTES / record_bytes + 1, stage);
}

static bool replay_once(const struct stage *stage, const struct trial *trial, void *store_state)
{
    const struct peer *store = trial->way;
    const struct tally *expected = &stage->expected;
    struct tally tally = { 0, 0, 0 };
    int error = store->replay(store_state, &tally);
    if (error)
        return complain(trial->label, "read", explain_error(store->explain, error));
    if (!store->is_reference && (tally.records != expected->records || tally.bytes != expected->bytes ||
                                 tally.marks != expected->marks))
        return complain(trial->label, "read", "these are not the records that were written");
    return !round_is_interrupted();
}

static bool time_replay(void *state, const struct trial *trial, double seconds, struct work *work)
{
    struct stage *stage = state;
    const double cpu = cpu_seconds();
    const uint64_t began_ns = now_ns();
    (void)seconds;
    if (!replay_once(stage, trial, stage->replayed))
        return false;
    work->seconds += (double)(now_ns() - began_ns) / 1e9;
    work->cpu_seconds += cpu_seconds() - cpu;
    work->appends += (double)stage->plan.records;
    work->bytes += (double)stage->plan.records * stage->plan.record_bytes;
    return true;
}

static bool open_store(struct stage *stage, const struct trial *trial, void **ret_state)
{
    const struct peer *store = trial->way;
    int error = peer_open(store, &(const struct peer_setup){ .plan = plan_in(stage, store) }, ret_state);
    return error == 0 || complain(trial->label, "open", explain_error(store->explain, error));
}

static bool replay_hot(void *state, const struct trial *trial, const struct limits *limits,
                       struct figures *figures)
{
    struct stage *stage = state;
    const struct peer *store = trial->way;
    if (!open_store(stage, trial, &stage->replayed))
        return false;
    bool is_good = time_passes(limits, time_replay, stage, trial, figures);
    store->close(stage->replayed);
    return is_good;
}

static bool replay_cold_once(void *state, const struct trial *trial, double seconds, struct work *work)
{
    struct stage *stage = state;
    const struct peer *store = trial->way;
    if (!forget_files(trial->label, plan_in(stage, store)->dir) ||
        !open_store(stage, trial, &stage->replayed))
        return false;
    bool is_good = time_replay(stage, trial, seconds, work);
    store->close(stage->replayed);
    return is_good;
}

static bool replay_cold(void *state, const struct trial *trial, const struct limits *limits,
                        struct figures *figures)
{
    return time_passes(limits, replay_cold_once, state, trial, figures);
}

#define REPLAY(its_baseline, its_trials, its_run)                                                            \
    {                                                                                                        \
        .point = "bytes", .baseline = its_baseline, .trials = its_trials,                                    \
        .columns = { { RATE("records") },                                                                    \
                     { MB_PER_S },                                                                           \
                     { "CPU ns a record", FIGURE(cpu_us_per_append), 1000 } },                               \
        .stage_bytes = sizeof(struct stage), .set_stage = set_replay_stage, .clear_stage = clear_stage,      \
        .run = its_run                                                                                       \
    }

static const struct trial hot_trials[] = {
    { "twinlog-mmap", "a reader that maps", &store_twinlog_mmap },
    { "twinlog-pread", "a reader that reads", &store_twinlog_pread },
    { "bare", "the reference: two CRC32Cs a record, in memory", &store_bare },
    { "bdb", "Berkeley DB's log: DB_LOGC->get(DB_NEXT)", &store_bdb },
    { NULL, NULL, NULL },
};

static const struct trial cold_trials[] = {
    { "twinlog-mmap", "a reader that maps", &store_twinlog_mmap },
    { "twinlog-pread", "a reader that reads", &store_twinlog_pread },
    { "disk-direct", "the reference: the same files, direct reads of 1 MiB, four in flight",
      &store_disk_direct },
    { "disk-buffered", "the same, one after the other through the page cache", &store_disk_buffered },
    { "bdb", "Berkeley DB's log: DB_LOGC->get(DB_NEXT)", &store_bdb },
    { NULL, NULL, NULL },
};

const struct study study_replay_hot = REPLAY("bare", hot_trials, replay_hot);
const struct study study_replay_cold = REPLAY("disk-direct", cold_trials, replay_cold);

/* ---- single reads ------------------------------------------------------------------------------ */

/* Once through everything, so that whatever keeps something in memory has it. */
static bool warm(const struct stage *stage, const struct trial *trial, void *store_state)
{
    const struct peer *store = trial->way;
    struct found found;
    int error = 0;
    if (store->replay)
        return replay_once(stage, trial, store_state);
    for (uint64_t i = 1; i <= stage->plan.records && error == 0; i++)
        error = store->get(store_state, i, &found);
    return error == 0 || complain(trial->label, "read", explain_error(store->explain, error));
}

static void clear_seek_stage(void *state)
{
    struct stage *stage = state;
    for (size_t i = 0; study_seek.trials[i].label; i++) {
        const struct peer *store = study_seek.trials[i].way;
        if (stage->open[i])
            store->close(stage->open[i]);
    }
    clear_stage(stage);
}

static bool set_seek_stage(const struct setting *setting, void *state)
{
    struct stage *stage = state;
    if (!set_stage(setting->study, setting->dir, setting->workload->sizes.max_bytes, SOUGHT, stage))
        return false;
    for (size_t i = 0; setting->study->trials[i].label; i++) {
        const struct trial *trial = &setting->study->trials[i];
        if (trial->way && (!open_store(stage, trial, &stage->open[i]) || !warm(stage, trial, stage->open[i])))
            return false;
    }
    return true;
}

struct seeking {
    const struct peer *store;
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

static bool seek(void *state, const struct trial *trial, const struct limits *limits, struct figures *figures)
{
    struct stage *stage = state;
    struct seeking seeking = {
        .store = trial->way,
        .plan = &stage->plan,
        .state = stage->open[trial - study_seek.trials],
        .random = UINT64_C(0x9e3779b97f4a7c15),
    };
    int error = time_operations(limits, get_any, &seeking, figures);
    return error == 0 || complain(trial->label, "read", explain_error(seeking.store->explain, error));
}

static const struct trial seek_trials[] = {
    { "twinlog-mmap", "seek() and next(), a reader that maps", &store_twinlog_mmap },
    { "twinlog-pread", "seek() and next(), a reader that reads", &store_twinlog_pread },
    { "lmdb", "LMDB: mdb_get(), integer keys", &store_lmdb },
    { "rocksdb", "RocksDB: rocksdb_get_pinned(), all blocks in its cache", &store_rocksdb },
    { NULL, NULL, NULL },
};
_Static_assert(LENGTH(seek_trials) - 1 <= MAX_OPEN, "a place for each store");

const struct study study_seek = {
    .point = "bytes",
    .baseline = "rocksdb",
    .trials = seek_trials,
    .columns = { { RATE("reads") }, { "mean µs", FIGURE(mean_us), 1 }, { P50 }, { P99 }, { P999 } },
    .stage_bytes = sizeof(struct stage),
    .set_stage = set_seek_stage,
    .clear_stage = clear_seek_stage,
    .run = seek,
};
