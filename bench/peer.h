/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A contender as the benchmark sees it: something that makes one record durable, from any thread.
 *
 * Each peer_*.c is one; contender.c lists those that were compiled in. What needs a library is OPTIONAL: where the
 * library was not found its file is not compiled, and its address is NULL. All are set up the way their own
 * documentation advises for speed, and all return from append() only after the device confirmed a
 * flush that covers the record.
 */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <twinlog.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What `twinlog` and its variants are opened with; the other peers ignore it. */
struct twinlog_setup {
    uint32_t io;            /* enum twinlog_io */
    uint32_t flags;         /* enum twinlog_open_flags */
    bool is_fresh;          /* start on what a new log has, instead of prepared segments */
    uint32_t spares;        /* segments to prepare; 0 = as many as the round will fill */
    uint64_t segment_bytes; /* 0 = the library's default */
    uint64_t keep_bytes;    /* retention; 0 = nothing is removed */
    uint32_t mode;          /* enum twinlog_mode */
};

struct peer_setup {
    const struct peer *peer; /* by peer_open() */
    const char *dir;         /* exists and is empty; in p10 and p11 the path of what is to be made */
    unsigned threads;
    uint32_t largest_record;
    uint64_t expected_bytes; /* an upper estimate of what the round will append, with its framing */
    struct twinlog_setup twinlog;
    const struct store_plan *plan; /* of a store, beside which nothing is looked at */
};

/* Totals since open; a round takes the difference of two readings. */
struct peer_counters {
    uint64_t appends, syncs;
};

/* How far one append goes before it returns. */
enum append_level {
    APPEND_DURABLE,
    APPEND_WRITTEN,  /* safe from the end of the process only */
    APPEND_BUFFERED, /* in its memory */
    APPEND_BATCH,    /* durable: several records as one, or as close to that as the peer comes */
    APPEND_LEVELS
};

struct append {
    const struct twinlog_entry *records; /* one at least, but for those that take batches */
    unsigned count, thread;
    enum append_level level;
};

struct store_plan;
struct tally;
struct found;

struct peer {
    const char *name;
    const char *what;      /* one line for --list */
    const char *version;   /* with the library's name, up to a colon; NULL: it has none */
    const void *kind;      /* for the file that has several of them */
    unsigned threads;      /* 0 = as many as the workload says */
    uint32_t record_bytes; /* 0 = what the workload says */
    bool is_only_named;    /* not one of the contenders where none is named */
    bool writes_by_call;   /* its synced writes are calls of pwritev2() with RWF_DSYNC */

    /* 0 or a negative error; explain() makes words of it. Everything that takes long and belongs before the clock
     * (preallocation, the first file) happens in open. What *ret_state is after an error is closed, if not NULL. */
    int (*open)(const struct peer_setup *setup, void **ret_state);
    /* Levels that the studies do not use need not be there. */
    int (*append)(void *state, const struct append *append);
    void (*count)(void *state, struct peer_counters *ret_counters); /* NULL: it does not say */
    int (*close)(void *state);
    const char *(*explain)(int error); /* NULL: errors are those of errno */

    /* In p10 and p11, of what is no file with the bytes of the records and nothing else: does it hold so many? */
    bool (*are_all_there)(const char *path, uint64_t count);
    bool makes_frames;        /* it gives a record its time, size and checksum */
    bool closes_behind_clock; /* all is there before */

    /* Of a store: */
    const char *folder; /* stores of the same folder read what one of them has put there */
    bool is_reference;  /* reads the bytes and knows no records: nothing is tallied */
    int (*fill)(
        const struct peer_setup *setup); /* on the disk when it returns, and closed; NULL: by open() */
    int (*replay)(void *state, struct tally *tally); /* every record, from the first */
    int (*get)(void *state, uint64_t number, struct found *ret_found);
};

/* As peer->open() with what is in the setup; closes what could not be opened. */
int peer_open(const struct peer *peer, const struct peer_setup *setup, void **ret_state);

#define OPTIONAL __attribute__((weak))

/* The peers of this build, NULL behind the last one; NULL if `name` is none of them. */
const struct peer *peer_at(size_t i);
const struct peer *peer_find(const char *name);
/* Known, but its library was not there when the benchmark was built. */
bool peer_is_left_out(const char *name);

extern const struct peer peer_twinlog, peer_raw, peer_raw_large, peer_raw_fresh, peer_naive, peer_by_hand;
extern const struct peer peer_pace_blocking, peer_pace_gathering, peer_pace_flight;
/* The plain files of p10, p11 and lines. None syncs, but the log and those of which the names say so. */
extern const struct peer peer_sink, peer_sink_shared, peer_sink_exact, peer_sink_exact_shared;
extern const struct peer peer_write, peer_writev, peer_write_synced, peer_mmap;
extern const struct peer peer_stdio, peer_stdio_64k, peer_stdio_flushed;
extern const struct peer peer_log, peer_log_durable, peer_shared_log, peer_shared_log_durable;
extern const struct peer peer_bdb OPTIONAL, peer_leveldb OPTIONAL, peer_rocksdb OPTIONAL;
extern const struct peer peer_rocksdb_pipelined OPTIONAL;
extern const struct peer peer_sqlite OPTIONAL, peer_sqlite_together OPTIONAL, peer_wiredtiger OPTIONAL;
extern const struct peer peer_spdlog OPTIONAL, peer_spdlog_flush OPTIONAL, peer_spdlog_async OPTIONAL;

/* Synced overwrites, in peer_raw.c: the file is made and written, DIRECT_BYTES of `bytes` again and again. */
#define DIRECT_BYTES (4u << 20)
int direct_open(const char *dir, const void *bytes, uint64_t span, int *ret_fd);
int direct_write(int fd, const void *bytes, size_t size, uint64_t offset);
const char *direct_explain(int error);

const char *explain_error(const char *(*explain)(int error), int error);

/* Libraries have codes of their own below this, and errno above. Their functions return those as negative numbers,
 * and these as positive ones: here both are negative. */
#define LIBRARY_ERROR (-30000)
static inline int negative(int error)
{
    return error > 0 ? -error : error;
}
static inline int library_code(int error)
{
    return error < LIBRARY_ERROR ? error : -error;
}

#ifdef __cplusplus
}
#endif

#endif
