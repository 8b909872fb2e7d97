/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The studies of one thread that appends and waits: in batches, durably; and one by one in each of twinlog's ways,
 * at levels where the call is what it costs and not the disk.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ways.h"

#define BATCH_RECORD_BYTES 128u
#define PIECES 4u

struct way {
    const struct peer *peer;
    int (*operate)(void *context, uint64_t turn);
    enum twinlog_level level;   /* where operate() asks */
    uint32_t flags;             /* enum twinlog_append_flags, the same */
    struct twinlog_setup setup; /* how twinlog is opened */
};

/* One contender at work. */
struct work {
    struct turn turn;
    const struct way *way;
    uint32_t record_bytes;
    unsigned batch;
    struct twinlog_entry *entries; /* `batch` of them */
    struct iovec *records;         /* the same */
};

/* ---- one by one --------------------------------------------------------------------------------- */

static struct twinlog_terms terms_of(const struct work *work)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    terms.level = work->way->level;
    terms.flags = work->way->flags;
    return terms;
}

static int append(void *context, uint64_t turn)
{
    struct work *work = context;
    (void)turn;
    return work->way->peer->append(work->turn.state, 0, turn_data(&work->turn), work->record_bytes);
}

static int append_written(void *context, uint64_t turn)
{
    struct work *work = context;
    (void)turn;
    return work->way->peer->append_written(work->turn.state, turn_data(&work->turn), work->record_bytes);
}

static int append_buffered(void *context, uint64_t turn)
{
    struct work *work = context;
    (void)turn;
    return work->way->peer->append_buffered(work->turn.state, turn_data(&work->turn), work->record_bytes);
}

static int enqueue(void *context, uint64_t turn)
{
    struct work *work = context;
    (void)turn;
    return twinlog_enqueue(work->turn.state, turn_data(&work->turn), work->record_bytes, NULL);
}

/* With TWINLOG_TRY the buffers are full now and then, while the disk is behind: then it waits for the disk, as a
 * program would that has nothing better to do. */
static int append_entry(struct work *work, const struct twinlog_entry *entry)
{
    const struct twinlog_terms terms = terms_of(work);
    int error = twinlog_append_batch(work->turn.state, entry, 1, &terms, NULL);
    while (error == -EAGAIN) {
        error = twinlog_sync(work->turn.state);
        if (error == 0)
            error = twinlog_append_batch(work->turn.state, entry, 1, &terms, NULL);
    }
    return error;
}

static int append_on_terms(void *context, uint64_t turn)
{
    struct work *work = context;
    const struct twinlog_entry entry = { .data = turn_data(&work->turn), .size = work->record_bytes };
    (void)turn;
    return append_entry(work, &entry);
}

static int append_typed(void *context, uint64_t turn)
{
    struct work *work = context;
    const struct twinlog_entry entry = { .data = turn_data(&work->turn),
                                         .size = work->record_bytes,
                                         .type = 7,
                                         .tag = (uint16_t)turn,
                                         .time_ns = 1 };
    return append_entry(work, &entry);
}

static int append_pieces(void *context, uint64_t turn)
{
    struct work *work = context;
    struct iovec pieces[PIECES];
    size_t part = work->record_bytes / PIECES;
    (void)turn;
    for (unsigned i = 0; i < PIECES; i++)
        pieces[i] = (struct iovec){ work->turn.stage->payload.bytes + i * part, part };
    work->turn.number++;
    const struct twinlog_entry entry = { .pieces = pieces, .piece_count = PIECES };
    return append_entry(work, &entry);
}

static int reserve(void *context, uint64_t turn)
{
    struct work *work = context;
    const struct twinlog_entry entry = { .size = work->record_bytes };
    const struct twinlog_terms terms = terms_of(work);
    struct twinlog_reservation place;
    (void)turn;
    int error = twinlog_reserve(work->turn.state, &entry, &terms, &place);
    if (error)
        return error;
    memcpy(place.data, turn_data(&work->turn), work->record_bytes);
    return twinlog_reservation_commit(work->turn.state, &place, &terms);
}

/* ---- in batches --------------------------------------------------------------------------------- */

static int append_each(void *context, uint64_t turn)
{
    struct work *work = context;
    int error = 0;
    (void)turn;
    for (unsigned i = 0; i < work->batch && error == 0; i++)
        error = twinlog_enqueue(work->turn.state, turn_data(&work->turn), work->record_bytes, NULL);
    return error ? error : twinlog_sync(work->turn.state);
}

static int append_batch(void *context, uint64_t turn)
{
    struct work *work = context;
    (void)turn;
    for (unsigned i = 0; i < work->batch; i++)
        work->entries[i] =
            (struct twinlog_entry){ .data = turn_data(&work->turn), .size = work->record_bytes };
    return twinlog_append_batch(work->turn.state, work->entries, work->batch, NULL, NULL);
}

static int append_peer_batch(void *context, uint64_t turn)
{
    struct work *work = context;
    (void)turn;
    for (unsigned i = 0; i < work->batch; i++)
        work->records[i] = (struct iovec){ (void *)(uintptr_t)turn_data(&work->turn), work->record_bytes };
    return work->way->peer->append_batch(work->turn.state, work->records, work->batch);
}

/* ---- one turn ----------------------------------------------------------------------------------- */

struct stage {
    void *ways;
    unsigned batch;
};

static bool time_work(struct work *work, const struct trial *trial, const struct limits *limits,
                      struct figures *ret_figures)
{
    struct figures figures = figures_unknown();
    int error = time_operations(limits, work->way->operate, work, &figures);
    figures.appends *= work->batch;
    figures.rate *= work->batch;
    turn_count(&work->turn, &figures);
    if (!turn_close(&work->turn, trial->label, error))
        return false;
    *ret_figures = figures;
    return true;
}

static bool run(void *state, const struct trial *trial, const struct limits *limits,
                struct figures *ret_figures)
{
    const struct stage *stage = state;
    const struct ways_stage *ways = stage->ways;
    const struct way *way = trial->way;
    struct work work = {
        .way = way,
        .batch = stage->batch,
        .record_bytes = ways->record_bytes,
        .entries = calloc(stage->batch, sizeof(*work.entries)),
        .records = calloc(stage->batch, sizeof(*work.records)),
    };
    bool is_good = work.entries && work.records
                       ? turn_open(&work.turn, ways, trial->label, way->peer, &way->setup)
                       : complain(trial->label, "memory", strerror(ENOMEM));
    if (is_good)
        is_good = time_work(&work, trial, limits, ret_figures);
    free(work.entries);
    free(work.records);
    return is_good;
}

static bool has_peer(const struct trial *trial)
{
    const struct way *way = trial->way;
    return way->peer != NULL;
}

static bool set_stage(const char *dir, unsigned batch, uint32_t record_bytes, void **ret_stage)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    if (!stage)
        return complain("twinlog", "memory", strerror(ENOMEM));
    stage->batch = batch;
    *ret_stage = stage;
    return ways_set_stage(dir, record_bytes, &stage->ways);
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    if (stage->ways)
        ways_clear_stage(stage->ways);
    free(stage);
}

/* ---- batches ------------------------------------------------------------------------------------ */

static bool set_batch_stage(const struct study *study, const char *dir, const struct workload *workload,
                            const struct limits *limits, void **ret_stage)
{
    (void)study;
    (void)limits;
    return set_stage(dir, workload->sizes.max_bytes, BATCH_RECORD_BYTES, ret_stage);
}

static const struct way twinlog_batch = { .peer = &peer_twinlog, .operate = append_batch };
static const struct way twinlog_each = { .peer = &peer_twinlog, .operate = append_each };
static const struct way raw_batch = { .peer = &peer_raw, .operate = append_peer_batch };
static const struct way bdb_batch = { .peer = &peer_bdb, .operate = append_peer_batch };
static const struct way leveldb_batch = { .peer = &peer_leveldb, .operate = append_peer_batch };
static const struct way rocksdb_batch = { .peer = &peer_rocksdb, .operate = append_peer_batch };

static const struct trial batch_trials[] = {
    { "twinlog", "twinlog_append_batch()", &twinlog_batch, run },
    { "twinlog, one by one", "twinlog_enqueue() for each, then twinlog_sync(): no batch", &twinlog_each,
      run },
    { "raw", "the floor: one direct overwrite of as many blocks, no records", &raw_batch, run },
    { "bdb", "Berkeley DB: log_put() for each, then log_flush(): no batch", &bdb_batch, run },
    { "leveldb", "LevelDB: a write batch with sync=1", &leveldb_batch, run },
    { "rocksdb", "RocksDB: a write batch with sync=true", &rocksdb_batch, run },
    { NULL, NULL, NULL, NULL },
};

#define FIGURE(member) offsetof(struct figures, member)
const struct study study_batch = {
    .point = "records",
    .baseline = "raw",
    .trials = batch_trials,
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "MB/s", FIGURE(mb_per_s), 0 },
        { "batch p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
    },
    .is_in_build = has_peer,
    .set_stage = set_batch_stage,
    .clear_stage = clear_stage,
};

/* ---- levels and ways ---------------------------------------------------------------------------- */

static bool set_ways_stage(const struct study *study, const char *dir, const struct workload *workload,
                           const struct limits *limits, void **ret_stage)
{
    (void)study;
    (void)limits;
    return set_stage(dir, 1, workload->sizes.max_bytes, ret_stage);
}

#define TWINLOG(how, its_level, its_flags)                                                                   \
    &(const struct way)                                                                                      \
    {                                                                                                        \
        .peer = &peer_twinlog, .operate = how, .level = its_level, .flags = its_flags                        \
    }
static const struct way written_to_cache = { .peer = &peer_twinlog,
                                             .operate = append_on_terms,
                                             .level = TWINLOG_LEVEL_WRITTEN,
                                             .setup = { .is_buffered = true } };

#define PEER(its_peer, how)                                                                                  \
    &(const struct way)                                                                                      \
    {                                                                                                        \
        .peer = &its_peer, .operate = how                                                                    \
    }

static const struct trial ways_trials[] = {
    { "durable", "twinlog_append()", TWINLOG(append, TWINLOG_LEVEL_DURABLE, 0), run },
    { "durable, in place", "twinlog_reserve(), twinlog_reservation_commit()",
      TWINLOG(reserve, TWINLOG_LEVEL_DURABLE, 0), run },
    { "written", "twinlog_append_batch() of one at the level",
      TWINLOG(append_on_terms, TWINLOG_LEVEL_WRITTEN, 0), run },
    { "written, page cache", "the same without direct I/O", &written_to_cache, run },
    { "written, naive", "write()", PEER(peer_naive, append_written), run },
    { "written, bdb", "Berkeley DB: log_put() with DB_LOG_WRNOSYNC", PEER(peer_bdb, append_written), run },
    { "written, leveldb", "LevelDB: put with sync=0", PEER(peer_leveldb, append_written), run },
    { "written, rocksdb", "RocksDB: put with sync=false", PEER(peer_rocksdb, append_written), run },
    { "buffered", "twinlog_enqueue()", TWINLOG(enqueue, TWINLOG_LEVEL_BUFFERED, 0), run },
    { "buffered, on terms", "twinlog_append_batch() of one at the level",
      TWINLOG(append_on_terms, TWINLOG_LEVEL_BUFFERED, 0), run },
    { "buffered, try", "the same with TWINLOG_TRY",
      TWINLOG(append_on_terms, TWINLOG_LEVEL_BUFFERED, TWINLOG_TRY), run },
    { "buffered, typed", "the same with a type, a tag and a time",
      TWINLOG(append_typed, TWINLOG_LEVEL_BUFFERED, 0), run },
    { "buffered, pieces", "the same in four pieces", TWINLOG(append_pieces, TWINLOG_LEVEL_BUFFERED, 0), run },
    { "buffered, in place", "twinlog_reserve(), twinlog_reservation_commit()",
      TWINLOG(reserve, TWINLOG_LEVEL_BUFFERED, 0), run },
    { "buffered, bdb", "Berkeley DB: log_put()", PEER(peer_bdb, append_buffered), run },
    { NULL, NULL, NULL, NULL },
};

const struct study study_ways = {
    .point = "bytes",
    .trials = ways_trials,
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "MB/s", FIGURE(mb_per_s), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "p99.9 µs", FIGURE(p999_us), 0 },
        { "max µs", FIGURE(max_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
    },
    .is_in_build = has_peer,
    .set_stage = set_ways_stage,
    .clear_stage = clear_stage,
};
