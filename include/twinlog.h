/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog - a durable, group-committing, append-only log in a directory.
 *
 *     struct twinlog *log;
 *     if (twinlog_open("journal", NULL, &log) == 0)
 *         twinlog_append(log, data, size, NULL);      // on stable storage when it returns 0
 *
 * Read this before the functions:
 *
 *  - An append that returns an error has an unknown outcome for that record: it may be there after
 *    the next open, or not; never half of it. After one failed write or sync the log is poisoned:
 *    every later append fails, and only closing it and opening it again decides what is there.
 *  - One process at a time writes a log; a second one gets -EBUSY. Any number of processes read it.
 *  - A log belongs to the process that opened it. After fork() the child gets TWINLOG_EFORKED from
 *    every call that takes a struct twinlog and can fail; twinlog_close() frees the child's memory. If
 *    the parent is killed, a child that lives on keeps the log locked until it ends. The
 *    LSN calls answer as of the fork, and so does a reader that is attached to the log; other readers
 *    go on in both processes.
 *  - The device must keep what it confirmed to a flush, and the directory must not be on a network
 *    file system without working locks.
 *
 * Results are 0, a count, or a negative error: -errno for the system and for arguments, and the
 * TWINLOG_E codes below. Inputs come first, outputs (ret_...) last; an output is untouched on
 * failure unless its description says otherwise. The library never prints and never exits; it aborts
 * only when an invariant of its own is broken.
 *
 * Structures that begin with `size` are versioned by it: initialise them with their ..._INIT macro.
 */
#ifndef TWINLOG_H
#define TWINLOG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TWINLOG_VERSION "0.1.0"

/* ---- errors that errno cannot say ------------------------------------------------------------ */

#define TWINLOG_ECORRUPT (-5001)  /* acknowledged data is damaged; a report names the place */
#define TWINLOG_EPOISONED (-5002) /* an earlier write or sync failed; close the log and open it again */
#define TWINLOG_EVERSION (-5003)  /* written by a newer format than this library reads */
#define TWINLOG_EPRUNED (-5004)   /* that LSN was removed from the front of the log (not yet returned) */
#define TWINLOG_EFORKED (-5005)   /* this handle was opened by the parent process */
#define TWINLOG_EFOREIGN (-5006)  /* a segment in the directory is another log's, or a second copy */

/* One English phrase for any result of this library, also for -errno. A constant: never freed,
 * never overwritten, safe from any thread. */
const char *twinlog_strerror(int error);

/* The version of the library that is running, as in "0.1.0". */
const char *twinlog_version(void);

/* ---- what was found, and where ---------------------------------------------------------------- */

enum twinlog_finding {
    TWINLOG_FOUND_NOTHING = 0,     /* nothing worth a report */
    TWINLOG_FOUND_NEW_LOG,         /* the log was created */
    TWINLOG_FOUND_CLEAN_CLOSE,     /* the last writer closed the log */
    TWINLOG_FOUND_CLEAN_END,       /* the last writer died between two groups; nothing was cut */
    TWINLOG_FOUND_TORN_TAIL,       /* a group was being written; it was never acknowledged */
    TWINLOG_FOUND_DAMAGE,          /* acknowledged bytes are wrong or missing */
    TWINLOG_FOUND_BAD_HEADER,      /* a segment's header does not check */
    TWINLOG_FOUND_MISSING_SEGMENT, /* segments before and after it are there */
    TWINLOG_FOUND_FOREIGN_FILE,    /* another log's segment, or files that are no log */
    TWINLOG_FOUND_NEWER_FORMAT,    /* a feature or version this library does not know */
    TWINLOG_FOUND_DIRTY_PADDING,   /* bytes that must be zero are not; no record is affected */
    TWINLOG_FOUND_SYSTEM_ERROR     /* a call to the system failed; see `error` */
};

enum twinlog_action {
    TWINLOG_DID_NOTHING = 0,
    TWINLOG_DID_CUT,   /* the bytes from `offset` on were made unreadable for good */
    TWINLOG_WOULD_CUT, /* opening the log for writing would do so */
    TWINLOG_DID_REFUSE /* the log was left exactly as it was */
};

/* One finding of open, verify or inspect. */
struct twinlog_report {
    uint32_t finding; /* enum twinlog_finding */
    uint32_t action;  /* enum twinlog_action */
    int32_t error;    /* what the call returned for it: 0, -errno or TWINLOG_E... */
    uint32_t reserved;
    uint64_t segment;   /* sequence number of the segment, 0 = none */
    uint64_t offset;    /* byte offset in its file */
    uint64_t bytes;     /* bytes concerned, 0 = unknown or none */
    uint64_t first_lsn; /* first LSN concerned, 0 = none */
    uint64_t last_lsn;  /* last LSN known to be concerned, 0 = unknown or none */
    char file[64];      /* name of the file inside the log's directory */
    char text[192];     /* the same in words, with what to do next */
};

/* ---- opening ---------------------------------------------------------------------------------- */

/* How a group reaches stable storage. The default takes the first one that works here. */
enum twinlog_io {
    TWINLOG_IO_AUTO = 0,
    TWINLOG_IO_URING,        /* io_uring: one write that carries its own sync (RWF_DSYNC) */
    TWINLOG_IO_URING_LINKED, /* io_uring: one write linked to one fdatasync */
    TWINLOG_IO_DSYNC,        /* pwritev2 with RWF_DSYNC */
    TWINLOG_IO_FDATASYNC     /* pwrite, then fdatasync */
};

enum twinlog_open_flags {
    TWINLOG_MUST_EXIST = 1u << 0, /* -ENOENT instead of creating the log */
    TWINLOG_PAD = 1u << 1,        /* never rewrite an acknowledged block: a group starts on a new
                                     4 KiB block. For devices that may garble a block while it is
                                     overwritten. Costs up to 4 KiB a group. */
    TWINLOG_BUFFERED = 1u << 2    /* do not use direct I/O */
};

struct twinlog_options {
    uint32_t size;             /* set by TWINLOG_OPTIONS_INIT */
    uint32_t flags;            /* enum twinlog_open_flags */
    uint64_t segment_bytes;    /* largest segment file; 64 KiB to 1 TiB, a multiple of 4096; default
                                  64 MiB. The first segment is 512 KiB, each next one twice as large */
    uint32_t buffer_bytes;     /* each of the two buffers, a multiple of 4096, at least 16 KiB and at
                                  most 256 MiB; default 8 MiB, or less where segments are small */
    uint32_t max_record_bytes; /* largest record; default 4 MiB, or what the buffer takes. Must be
                                  at most buffer_bytes - 8192 */
    uint32_t io;               /* enum twinlog_io; a path that does not work here is -ENOTSUP */
    uint32_t lock_wait_ms;     /* wait this long for another writer to close; default 0: -EBUSY at once */
    uint32_t spare_segments;   /* full-size segments to prepare in the background as soon as the log is
                                  open, at most 64; default 0. Whenever none is ready and the active
                                  segment is half full, one is prepared in any case */
    uint32_t reserved;
    struct twinlog_report *ret_report; /* NULL, or what open found; written on failure too */
};
#define TWINLOG_OPTIONS_INIT                                                                                 \
    {                                                                                                        \
        sizeof(struct twinlog_options), 0, 0, 0, 0, 0, 0, 0, 0, 0                                            \
    }

struct twinlog; /* one open log; every function on it may be called from any thread */

/* Opens the log in directory `dir` for appending, creating the directory (its parent must exist) and
 * the log where there is none. `options` may be NULL. Recovers first: a torn tail is cut and reported
 * as a fact, and what is kept is synced. On return every record up to twinlog_last_lsn() is durable,
 * and no other process can write the log until it is closed or this process is gone. A dead writer's
 * last write may still be on its way to the disk: open waits up to 30 s for it.
 *
 *   -EBUSY    another writer has the log (or a dead one's write has not landed after 30 s)
 *   -EINVAL   an option is out of range, or a NULL argument
 *   -ENOENT   the parent of `dir` is missing, or there is no log and TWINLOG_MUST_EXIST is set
 *   -ENOTDIR  `dir` is not a directory
 *   -ENOTEMPTY there is no log in `dir`, but other files are
 *   -ENOSPC, -EACCES, -EROFS, -EIO, -EMFILE, ... from the system
 *   -ENOTSUP  options->io names a path that does not work here
 *   TWINLOG_ECORRUPT, TWINLOG_EVERSION, TWINLOG_EFOREIGN  the log was left as it is; see the report
 */
int twinlog_open(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log);

/* Lets threads that are inside a call on `log` finish, makes every accepted record durable, marks the
 * log as closed, frees it, and says how that went: 0, or the error that kept some record, or the mark of
 * the close, from being durable. A full disk that leaves no room for the mark alone is no error. The
 * handle is gone in either case. Nobody may start a call on `log` once close has begun. In a forked
 * child: frees the child's memory and returns TWINLOG_EFORKED; its descriptors of segments stay open
 * until it ends or calls exec. NULL is allowed. */
int twinlog_close(struct twinlog *log);

/* ---- appending -------------------------------------------------------------------------------- */

/* Appends one record of `size` bytes (0 is legal; `data` may then be NULL) and returns when it is on
 * stable storage together with every record of a smaller LSN. Blocks; meant to be called from many
 * threads at once, which then share one write and one sync. Allocates nothing, unless the next segment
 * is needed before it was prepared. `ret_lsn` may be NULL;
 * it is written on success, and also on failure when the record had been given an LSN already
 * (otherwise it is set to 0). Not a cancellation point.
 *
 *   -EMSGSIZE   larger than max_record_bytes; nothing happened
 *   -EINVAL     a NULL where none may be; nothing happened
 *   -ESHUTDOWN  the log is being closed; nothing happened
 *   TWINLOG_EPOISONED an earlier write or sync failed; nothing happened
 *   -EIO, -ENOSPC, ... the write or sync for this record failed: its outcome is unknown, and the log
 *               is poisoned
 */
int twinlog_append(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);

/* Accepts a record without waiting for the disk: copies it, gives it its LSN and returns. It becomes
 * durable by a later twinlog_wait(), twinlog_sync(), twinlog_close() or any other thread's append,
 * and is lost if the process dies before. When the buffers are full it first commits or waits.
 * Errors as for twinlog_append(). */
int twinlog_enqueue(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);

/* Returns when every record up to `lsn` is durable: 0, or the error that prevents it. Commits what is
 * pending itself where no other thread is doing so. -EINVAL if `lsn` was not accepted yet. */
int twinlog_wait(struct twinlog *log, uint64_t lsn);

/* Returns when everything accepted before the call is durable. */
int twinlog_sync(struct twinlog *log);

/* Watermarks. Never block; any thread. 0 = none. */
uint64_t twinlog_first_lsn(const struct twinlog *log);   /* oldest kept, 0 when empty */
uint64_t twinlog_last_lsn(const struct twinlog *log);    /* newest accepted */
uint64_t twinlog_durable_lsn(const struct twinlog *log); /* newest durable */

/* ---- reading ---------------------------------------------------------------------------------- */

struct twinlog_reader; /* one cursor; one thread at a time; different readers are independent */

struct twinlog_record {
    uint64_t lsn;
    int64_t time_ns;  /* CLOCK_REALTIME when it was accepted */
    const void *data; /* valid until the next call on this reader; aligned to 8 */
    size_t size;
};

struct twinlog_reader_options {
    uint32_t size;                     /* set by TWINLOG_READER_OPTIONS_INIT */
    uint32_t flags;                    /* must be 0 */
    uint64_t from_lsn;                 /* first LSN to return; default the oldest kept */
    uint64_t to_lsn;                   /* last LSN to return; default no limit */
    struct twinlog_report *ret_report; /* NULL, or filled in when a call on this reader fails; must
                                          outlive the reader */
};
#define TWINLOG_READER_OPTIONS_INIT                                                                          \
    {                                                                                                        \
        sizeof(struct twinlog_reader_options), 0, 0, 0, 0                                                    \
    }

/* Opens a cursor on the log in `dir`, in any process, beside a live writer or without one; takes no
 * lock. Where a writer has the log, records appear as that writer's syncs succeed. Where none has it,
 * the sound records are synced before the first is returned; nothing else is changed. `options` may be NULL. Errors: -ENOENT (no such directory, or no log in it), -ENOTDIR,
 * TWINLOG_EVERSION, TWINLOG_EFOREIGN, TWINLOG_ECORRUPT, system errors. */
int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader);

/* The same, inside the writer's process, following `log`. The reader must be closed before the log. */
int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader);

/* The next record returned will be `lsn`, which need not be written yet.
 * -EINVAL for 0. */
int twinlog_reader_seek(struct twinlog_reader *reader, uint64_t lsn);

/* 1 = *ret_record is the next record; 0 = no more for now (call again later); negative = error, and
 * the same call gives the same error again. Never returns a record above the durable LSN, nor bytes
 * whose checksum fails: damage is TWINLOG_ECORRUPT. */
int twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *ret_record);

void twinlog_reader_close(struct twinlog_reader *reader); /* NULL is allowed */

/* ---- looking ---------------------------------------------------------------------------------- */

/* An open log. Counters start at open. */
struct twinlog_stat {
    uint32_t size;      /* set by TWINLOG_STAT_INIT */
    uint32_t io;        /* enum twinlog_io in use */
    uint32_t is_direct; /* 1 = direct I/O */
    uint32_t is_untorn; /* 1 = the device writes a block whole or not at all, and it is used */
    uint32_t epoch;
    int32_t poison;          /* 0, or the error that poisoned the log */
    uint32_t segments;       /* files with records */
    uint32_t spare_segments; /* prepared and empty */
    uint64_t first_lsn, last_lsn, durable_lsn;
    uint64_t file_bytes;    /* all segment files */
    uint64_t appends;       /* records accepted */
    uint64_t append_bytes;  /* their payload */
    uint64_t groups;        /* groups made durable: writes and syncs */
    uint64_t group_bytes;   /* headers, records and alignment in them */
    uint64_t written_bytes; /* bytes handed to the device for groups */
    uint64_t rolls;         /* segments begun */
    uint64_t roll_waits;    /* rolls that had to wait for a segment to be prepared */
    char io_reason[160];    /* why this path and not an earlier one */
};
#define TWINLOG_STAT_INIT                                                                                    \
    {                                                                                                        \
        sizeof(struct twinlog_stat), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ""                \
    }
int twinlog_stat(struct twinlog *log, struct twinlog_stat *ret_stat);

/* A log from outside; changes nothing, also beside a live writer. */
struct twinlog_inspection {
    uint32_t size;       /* set by TWINLOG_INSPECTION_INIT */
    uint32_t has_writer; /* 1 = a process has the log open for writing */
    uint32_t epoch;
    uint32_t segments;       /* files with records */
    uint32_t spare_segments; /* prepared and empty */
    uint32_t reserved;
    uint64_t first_lsn;   /* 0 when empty */
    uint64_t last_lsn;    /* newest that is sound; with a writer: newest durable */
    uint64_t durable_lsn; /* newest that is proved durable by a later mark or a live writer */
    uint64_t file_bytes;  /* all segment files */
    uint8_t log_id[16];
    struct twinlog_report report; /* what opening it for writing would find and do */
};
#define TWINLOG_INSPECTION_INIT                                                                              \
    {                                                                                                        \
        sizeof(struct twinlog_inspection), 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 },                                 \
        {                                                                                                    \
            0, 0, 0, 0, 0, 0, 0, 0, 0, "", ""                                                                \
        }                                                                                                    \
    }
int twinlog_inspect(const char *dir, struct twinlog_inspection *ret_inspection);

/* Checks every byte of every record, and what else the format fixes, without changing anything.
 * Stops at the durable LSN beside a live writer. Calls `each` (may be NULL) for every finding, in log
 * order; a non-zero result of `each` ends the call and is returned. Calls `progress` (may be NULL) now
 * and then. Returns 0 if sound (a torn tail is), TWINLOG_ECORRUPT if acknowledged data is damaged or
 * missing, or an error that kept it from looking. ret_records (may be NULL) gets the sound records. */
struct twinlog_verify_options {
    uint32_t size;  /* set by TWINLOG_VERIFY_OPTIONS_INIT */
    uint32_t flags; /* must be 0 */
    int (*each)(void *context, const struct twinlog_report *finding);
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_VERIFY_OPTIONS_INIT                                                                          \
    {                                                                                                        \
        sizeof(struct twinlog_verify_options), 0, 0, 0, 0                                                    \
    }
int twinlog_verify(const char *dir, const struct twinlog_verify_options *options, uint64_t *ret_records);

/* What the disk and the kernel under `dir` offer and what they cost. Writes and removes a file of a
 * few MiB in `dir`, which must exist. */
struct twinlog_probe_path {
    uint32_t io; /* enum twinlog_io */
    uint32_t is_direct;
    int32_t error; /* 0 = works, else why not */
    uint32_t reserved;
    double sync_us; /* median of a durable 4 KiB overwrite, in microseconds */
};
struct twinlog_probe {
    uint32_t size;          /* set by TWINLOG_PROBE_INIT */
    uint32_t paths;         /* used entries of `path` */
    uint32_t chosen;        /* index of the one a log would take */
    uint32_t direct_align;  /* bytes; 0 = no direct I/O */
    uint32_t untorn_bytes;  /* largest write the device makes whole or not at all; 0 = not offered */
    uint32_t is_suspicious; /* 1 = syncs are faster than any device that keeps its word */
    char filesystem[32];
    char reason[160];
    struct twinlog_probe_path path[8];
};
#define TWINLOG_PROBE_INIT                                                                                   \
    {                                                                                                        \
        sizeof(struct twinlog_probe), 0, 0, 0, 0, 0, "", "",                                                 \
        {                                                                                                    \
            {                                                                                                \
                0, 0, 0, 0, 0                                                                                \
            }                                                                                                \
        }                                                                                                    \
    }
int twinlog_probe(const char *dir, struct twinlog_probe *ret_probe);

#ifdef __cplusplus
}
#endif

#endif
