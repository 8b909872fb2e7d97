/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog - a durable, group-committing, append-only log in a directory.
 *
 *     struct twinlog *log;
 *     if (twinlog_open("journal", NULL, &log) == 0)
 *         twinlog_append(log, data, size, NULL);      // on stable storage when it returns 0
 *
 * twinlog_admin.h has the calls that look after a log; the manual pages have all errors.
 *
 *  - One process writes a log, a second one gets -EBUSY; with TWINLOG_MODE_SHARED 255 may write.
 *    Any number read it. Flush requests and locks must work; network file systems may lack locks.
 *  - In a forked child each call on the parent's handle returns TWINLOG_EFORKED, an LSN call 0; a
 *    close frees nothing. fork() closes the handles' files there, so a child keeps no log locked.
 *  - The library handles SIGBUS and passes on signals that are not for it: the process survives if
 *    another program shortens a mapped file. Ignore SIGXFSZ if RLIMIT_FSIZE may drop below the
 *    size of an open file: writing it poisons the log. The library never prints and never exits.
 *  - A result is 0, a count, or a negative error: -errno or a TWINLOG_E code. -EINVAL: an argument
 *    is NULL that may not be, or out of range. An error leaves outputs (ret_...) untouched unless
 *    stated otherwise. Any call may return an error of the system that is not listed.
 *  - Options may be NULL. Every close accepts NULL. A field of 0 means its default, or "off".
 *    ret_report (may be NULL, as `each` and `progress` in options) is filled in when a call fails,
 *    and must stay valid until a reader or consumer that has it is closed.
 *  - A log is its directory, also under another name. Once that is removed, a writer is poisoned
 *    within about a second (-ESTALE), readers and consumers return -ESTALE, and so does a close.
 *  - A result of `each` that is not 0 ends the call and is returned.
 *  - Initialise structures that begin with `size` with their ..._INIT macro, also outputs. They may
 *    grow: a program works with a newer library. A field that an older library does not know must
 *    be 0 (else -EINVAL), and is 0 in an output. Unknown flags and `reserved` must be 0.
 *  - Waiting: timeout_ms is how long this call may wait; 0 = not at all, negative = no limit.
 *    deadline_ns is the time on CLOCK_MONOTONIC to give up, from twinlog_deadline(); 0 = none.
 *    lock_timeout_ms is how long an open waits for another writer. TWINLOG_TRY waits for no room.
 *
 * What an error says about the records, or the change, that the call was for:
 *
 *     error                      append, batch  submit   truncate  trim     cursor, value
 *     TWINLOG_EPOISONED          see LSN        nothing  unknown   nothing  nothing
 *     -ETIMEDOUT -ECANCELED      see LSN        nothing
 *     -EINVAL -EROFS -ESHUTDOWN  nothing        nothing  nothing   nothing  nothing
 *     -EMSGSIZE -EAGAIN -ENOTSUP and TWINLOG_EFORKED: the same
 *     any other                  nothing        nothing  nothing   partly   either
 *
 *     nothing  It did not happen; the same call may work later, but not on a poisoned log.
 *     see LSN  0: nothing. Else the records were accepted. After TWINLOG_EPOISONED what became of
 *              them is unknown; else they become durable unless the log fails: twinlog_wait().
 *     unknown  Close the log; opening it decides whether all of it is there, or nothing.
 *     partly   What was removed stays removed.
 *     either   The old value or the new one, the same for every process.
 *
 * A failed write or sync poisons the log, and none is retried: calls return TWINLOG_EPOISONED then,
 * whatever failed, and nothing else does; twinlog_stat().poison has the cause. A request that was
 * accepted has one of two results: 0, or TWINLOG_EPOISONED, that is unknown. twinlog_close(), the
 * last call on the log, returns the cause itself.
 *
 * "append" is also enqueue and skip (fillers written before stay), "truncate" also reset.
 */
#ifndef TWINLOG_H
#define TWINLOG_H
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* An initial value: `size` is set, every other field is 0. */
/* clang-format off */
#ifdef __cplusplus
#define twinlog_initial(structure) [] { \
    struct structure initial_ = {}; initial_.size = sizeof(initial_); return initial_; }()
extern "C" {
#else
#define twinlog_initial(structure) { .size = sizeof(struct structure) }
#endif
/* clang-format on */

#define TWINLOG_VERSION "0.1.0"
/* ---- errors that errno has no number for ---- */
#define TWINLOG_ECORRUPT (-5001)   /* acknowledged data is damaged; a report names the place */
#define TWINLOG_EPOISONED (-5002)  /* a write or sync has failed; close and reopen the log */
#define TWINLOG_EVERSION (-5003)   /* of a newer format, or shared by another library version */
#define TWINLOG_ETRIMMED (-5004)   /* that LSN was removed from the head of the log */
#define TWINLOG_EFORKED (-5005)    /* this handle was opened by the parent process */
#define TWINLOG_EFOREIGN (-5006)   /* a segment is another log's, or a second copy */
#define TWINLOG_ETRUNCATED (-5007) /* records that this reader returned were truncated; seek */
const char *twinlog_strerror(int error); /* one English phrase for any result, also for -errno */
const char *twinlog_version(void);       /* of the library that is running */

/* ---- reports ---- */
enum twinlog_finding {
    TWINLOG_FOUND_NOTHING = 0,     /* nothing worth a report */
    TWINLOG_FOUND_NEW_LOG,         /* the log was created */
    TWINLOG_FOUND_CLEAN_CLOSE,     /* the last writer closed the log */
    TWINLOG_FOUND_CLEAN_END,       /* it ends with a whole group, not closed; nothing truncated */
    TWINLOG_FOUND_TORN_TAIL,       /* a group was being written; it was never acknowledged */
    TWINLOG_FOUND_DAMAGE,          /* acknowledged bytes are wrong or missing */
    TWINLOG_FOUND_BAD_HEADER,      /* the header of a segment does not check */
    TWINLOG_FOUND_MISSING_SEGMENT, /* segments before and after it are there */
    TWINLOG_FOUND_FOREIGN_FILE,    /* another log's segment, or files that are no log */
    TWINLOG_FOUND_NEWER_FORMAT,    /* a feature or version this library does not know */
    TWINLOG_FOUND_SYSTEM_ERROR,    /* a call to the system failed; see `error` */
    TWINLOG_FOUND_BAD_STATE,       /* the file of cursors and values is damaged or missing */
    TWINLOG_FOUND_BAD_INDEX,       /* a sealed segment's index is wrong; no record is affected */
    TWINLOG_FOUND_TRIMMED,         /* a trim removed the record; first_lsn is the oldest left */
    TWINLOG_FOUND_LOST             /* fillers stand for records lost for good; no damage */
};
enum twinlog_action {
    TWINLOG_DID_NOTHING = 0,
    TWINLOG_DID_TRUNCATE,   /* the bytes from `offset` on were made unreadable for good */
    TWINLOG_WOULD_TRUNCATE, /* opening the log for writing would do so */
    TWINLOG_DID_REFUSE,     /* the log was left exactly as it was */
    TWINLOG_DID_SKIP        /* repair left it out of the new log */
};
/* One finding of open, verify, inspect, repair or a reader. */
struct twinlog_report {
    uint32_t finding; /* enum twinlog_finding */
    uint32_t action;  /* enum twinlog_action */
    int32_t error;    /* what the call returned for it: 0, -errno or TWINLOG_E... */
    uint32_t reserved;
    uint64_t segment;   /* sequence number of the segment */
    uint64_t offset;    /* byte offset in its file */
    uint64_t bytes;     /* bytes concerned, 0 = unknown or none */
    uint64_t first_lsn; /* first LSN concerned */
    uint64_t last_lsn;  /* last LSN known to be concerned, 0 = unknown or none */
    char file[64];      /* name of the file inside the log's directory */
    char text[192];     /* the same in words, with what to do next */
};

/* ---- opening ---- */
/* How a group reaches stable storage. The default is the first path that works (never linked
 * writes), or TWINLOG_IO_DSYNC while that is measured to be faster. URING, URING_LINKED and DSYNC
 * are -ENOTSUP but on ext2 to 4, xfs, btrfs and tmpfs, which are known to honour them. */
enum twinlog_io {
    TWINLOG_IO_AUTO = 0,
    TWINLOG_IO_URING,        /* io_uring: one write that carries its own sync (RWF_DSYNC) */
    TWINLOG_IO_URING_LINKED, /* io_uring: one write linked to one fdatasync */
    TWINLOG_IO_DSYNC,        /* pwritev2 with RWF_DSYNC */
    TWINLOG_IO_FDATASYNC     /* pwrite, then fdatasync */
};
enum twinlog_open_flags {
    TWINLOG_MUST_EXIST = 1u << 0, /* -ENOENT instead of creating the log */
    TWINLOG_PAD = 1u << 1,        /* never rewrite an acknowledged block, never recycle */
    TWINLOG_BUFFERED = 1u << 2,   /* do not use direct I/O */
    /* Take no lock, never append (-EROFS); beside a writer, on a read-only file system. Cursors and
     * values can be set where files may be written. Implies TWINLOG_MUST_EXIST. */
    TWINLOG_READ_ONLY = 1u << 3,
    TWINLOG_NO_RECYCLE = 1u << 4 /* remove trimmed segments, never write a new one over them */
};
/* How a new segment file is made. Written blocks make small commits twice as fast. */
enum twinlog_prepare {
    TWINLOG_PREPARE_WRITTEN = 0, /* all zeros, on disk; only reserved while groups are large */
    TWINLOG_PREPARE_ALLOCATED,   /* the space is reserved, the blocks are not written */
    TWINLOG_PREPARE_SPARSE       /* nothing is reserved: a full disk poisons the log */
};
/* What an append waits for; twinlog(7) lists the calls that a mode does not have. */
enum twinlog_mode {
    TWINLOG_MODE_DURABLE = 0, /* an append returns when its record is on stable storage */
    /* When its record is copied into a mapped segment: readers see it at once, and it survives this
     * process. A power cut may remove unsynced records, or make them fillers. */
    TWINLOG_MODE_MAPPED,
    /* The same for several processes. One that dies blocks no other: its unfinished record becomes
     * a filler, which readers skip. One that is stopped blocks no append. */
    TWINLOG_MODE_SHARED
};
struct twinlog;           /* one open log, for any thread; at most 32,767 calls at a time */
struct twinlog_committer; /* commits for many logs, see below */

/* segment_bytes, buffer_bytes (at most segment_bytes - 8192), mapped_bytes: multiples of 4096 */
struct twinlog_options {
    uint32_t size;
    uint32_t flags;            /* enum twinlog_open_flags */
    uint64_t segment_bytes;    /* largest file, 64 KiB to 1 TiB, default 64 MiB; first 512 KiB */
    uint32_t buffer_bytes;     /* of each of two: 16 KiB to 256 MiB, default up to 8 MiB */
    uint32_t max_record_bytes; /* at most buffer_bytes - 8192; default 4 MiB or what fits */
    uint32_t io;               /* enum twinlog_io; a path that does not work here is -ENOTSUP */
    uint32_t lock_timeout_ms;  /* 0: -EBUSY at once; the shared mode waits 1 s to 30 s at least */
    uint32_t spare_segments;   /* full-size ones to prepare at once, at most 64; 0: when needed */
    uint32_t prepare;          /* enum twinlog_prepare */
    struct twinlog_report *ret_report; /* what open found; written on success and on failure */
    uint64_t segment_records, segment_age_ms; /* start a new segment when one has so much */
    /* Remove the oldest segment while the others meet the limit, each limit by itself, but nothing
     * that a named cursor has not passed. keep_age_ms counts from a segment's newest record,
     * keep_records counts LSNs: records, and fillers that stand for none (twinlog_skip(), crashes).
     * 0: what the log has for it, if anything: TWINLOG_KEEP_BYTES, ... below. */
    uint64_t keep_bytes, keep_records, keep_age_ms;
    struct twinlog_committer *committer; /* must outlive the log; NULL: a thread of the log */
    uint32_t flush_interval_ms;          /* commit a record of a relaxed level after this time */
    /* Mapped modes: segment_bytes is at most 1 GiB; PAD, READ_ONLY and a committer are -EINVAL;
     * no recycling; segment_records and segment_age_ms have no effect. */
    uint32_t mode; /* enum twinlog_mode */
    /* Mapped modes: the first segment; the next are twice as large. At least max_record_bytes +
     * 28672, default 10 MiB or what the largest record needs. */
    uint64_t mapped_bytes;
};
#define TWINLOG_OPTIONS_INIT twinlog_initial(twinlog_options)
/* Opens the log in `dir` for appending; creates the directory and the log if there is none.
 * Recovers first: a torn tail is truncated and reported, the rest is synced. On return every record
 * up to twinlog_last_lsn() is durable, and no other process can write the log until it is closed or
 * this process ends. Joining a log in TWINLOG_MODE_SHARED does neither. -EBUSY: another writer has
 * it (its PID is in the report), or a dead one's last write is on its way for 30 s. -ENOENT: no
 * parent, or no log and TWINLOG_MUST_EXIST. -ENOTEMPTY: other files, no log. -EMLINK: a file to be
 * written has a second name. -ENOTSUP: the io or the mode does not work here. -EUSERS: 255 share
 * it. -EOVERFLOW: its numbers are used up. -EFBIG: RLIMIT_FSIZE is below the size of a segment that
 * this process would write. TWINLOG_E...: it was left as it was. */
int twinlog_open(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log);
/* Waits for calls on `log`, makes what it accepted durable, marks it as closed, and frees it.
 * Returns 0, or the error that kept a record or the mark (but for a full disk) from being durable.
 * The handle is gone, except after -EBUSY: it has readers. No call may begin then. */
int twinlog_close(struct twinlog *log);

/* ---- appending ---- */
/* Appends one record of `size` bytes (0 is legal; `data` may then be NULL) and returns when it is
 * on stable storage with every record before it; in a mapped mode when it is copied. Threads that
 * call it at the same time share one write and sync. Allocates nothing, unless no segment was
 * prepared. No cancellation point. `ret_lsn` (may be NULL) gets the LSN, also on failure; 0 then:
 * nothing happened. -EMSGSIZE: larger than max_record_bytes. -ESHUTDOWN: being closed.
 * TWINLOG_EPOISONED: a write or sync failed, of this record unless the LSN is 0. -ENOSPC, -EDQUOT,
 * -EFBIG, -EMFILE, others: no file for a segment. */
int twinlog_append(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);
/* An append at TWINLOG_LEVEL_BUFFERED: waits for the disk only if both buffers are full. */
int twinlog_enqueue(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);
/* How safe a record is; each level includes the ones before it. Until a wait, a sync, a close, a
 * durable append or flush_interval_ms makes it durable, a record may be lost. 0: the level of
 * twinlog_append() in the log's mode, that is durable, or written in a mapped mode. */
enum twinlog_level {
    TWINLOG_LEVEL_OF_MODE = 0,
    TWINLOG_LEVEL_BUFFERED, /* in this process's memory, lost with it; mapped modes: as written */
    TWINLOG_LEVEL_WRITTEN,  /* in the kernel: survives this process, but no power cut */
    TWINLOG_LEVEL_DURABLE   /* on stable storage: survives a power cut */
};
/* One record to be appended. Zero what is not used. */
struct twinlog_entry {
    const void *data;           /* read before the call returns; NULL with pieces, or for 0 bytes */
    size_t size;                /* of `data` */
    const struct iovec *pieces; /* instead of `data`: the record in pieces, in this order */
    uint32_t piece_count;
    uint16_t tag; /* for the caller, and so is `type`: readers return them */
    uint8_t type;
    uint8_t reserved;
    int64_t time_ns; /* CLOCK_REALTIME; 0 = the log takes the time */
};
enum twinlog_append_flags {
    /* -EAGAIN instead of waiting for room. A queue tells when it is worth another try: see
     * twinlog_queue_listen(). */
    TWINLOG_TRY = 1u << 0
};
/* The terms of a call. NULL instead of a pointer to them means 0 in each field. */
struct twinlog_terms {
    uint32_t size;
    uint32_t flags; /* enum twinlog_append_flags */
    uint32_t level; /* enum twinlog_level: when to return, or to complete */
    uint32_t reserved;
    uint64_t deadline_ns;                /* CLOCK_MONOTONIC; see "Waiting" */
    const struct twinlog_cancel *cancel; /* NULL = cannot be cancelled */
};
#define TWINLOG_TERMS_INIT twinlog_initial(twinlog_terms)
/* Appends `count` records, at least one, as a batch: consecutive LSNs from *ret_first_lsn (may be
 * NULL); after a crash all are there or none. Each takes its size rounded up to 8 and 24 bytes, in
 * all at most buffer_bytes - 8192 (-EMSGSIZE). As twinlog_append(), and -EAGAIN: TWINLOG_TRY
 * without room, or a truncation goes on; -ETIMEDOUT, -ECANCELED: not at `level` in time. */
int twinlog_append_batch(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                         const struct twinlog_terms *terms, uint64_t *ret_first_lsn);
/* Makes `next_lsn` the next LSN, for a copy of a log with gaps: fillers use up those before, and
 * are durable on return. 0 at once if the log is as far. Beside other appends it may be larger. */
int twinlog_skip(struct twinlog *log, uint64_t next_lsn);
int twinlog_skip_lost(struct twinlog *log, uint64_t next_lsn); /* of records lost for good */
/* Returns when every record up to `lsn` is at `level`. Commits what is pending if no other thread
 * does. -EINVAL: not accepted yet, or truncated. -ETIMEDOUT. TWINLOG_EPOISONED: unknown. */
int twinlog_wait(struct twinlog *log, uint64_t lsn, enum twinlog_level level, uint64_t deadline_ns);
/* Returns when all that was accepted before is durable. TWINLOG_EPOISONED: never again. */
int twinlog_sync(struct twinlog *log);
uint64_t twinlog_deadline(uint32_t timeout_ms); /* so long from now, CLOCK_MONOTONIC; never 0 */
/* A token, zero at first: cancel ends each call on `log` with it, also later ones; not from a signal
 * handler. Must outlive those calls. */
struct twinlog_cancel {
    uint32_t is_canceled;
};
int twinlog_cancel(struct twinlog *log, struct twinlog_cancel *cancel);

/* ---- requests ---- */
/* A batch in flight. The caller sets queue and context, and leaves it alone until it comes back. */
struct twinlog_request {
    struct twinlog_queue *queue;  /* gets the request when it is completed */
    void *context;                /* for the caller */
    int32_t result;               /* 0, or TWINLOG_EPOISONED: unknown */
    uint32_t count;               /* records */
    uint64_t first_lsn;           /* set when submit returns */
    struct twinlog_request *next; /* the log's until completion, then the caller's */
    uint64_t private_word;        /* the log's */
};
/* Accepts a batch as twinlog_append_batch() does, without waiting for the disk. After 0 the request
 * is completed once, when the batch is at the terms' level (durable, written) or has failed: its
 * queue gets it, in the order of LSNs. The queue listens to the log from then on. The terms apply
 * to the wait for room. Allocates nothing but for a queue that is new to the log: -ENOMEM. */
int twinlog_submit(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                   const struct twinlog_terms *terms, struct twinlog_request *request);
/* Completed requests in the order of their completion, for any number of logs and threads. */
struct twinlog_queue;
int twinlog_queue_open(struct twinlog_queue **ret_queue);
/* Fetches up to `max` completed requests into the array. Waits for the first, or for news (see
 * twinlog_queue_listen()), `timeout_ms` at most; negative = no limit, 0 = does not wait. Returns the
 * number of requests: also 0, when the time is over, or when there was only news. */
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests,
                       uint32_t max, int timeout_ms);
/* An eventfd, readable while there are requests or news to fetch. Only twinlog_queue_poll() may read
 * it. */
int twinlog_queue_fd(struct twinlog_queue *queue);
/* The queue gets news of this log, at once and until one of the two is closed. There is news when a
 * call with TWINLOG_TRY has returned -EAGAIN, and the same call may succeed now; and when the log
 * has failed, also in a flush by flush_interval_ms, for which no request waits. News does not say
 * which of the two, nor of which log, and a fetch takes all of it, also one that returns requests.
 * So after each fetch try again what was refused, and look at `poison` of twinlog_stat().
 * twinlog_submit() makes its queue listen; this call is for programs that only append. Any thread.
 *   -ENOMEM   no memory to note it
 *   -EROFS    a log that only reads
 *   -ENOTSUP  a log in a mapped mode
 *   TWINLOG_EFORKED  the parent process has opened one of the two */
int twinlog_queue_listen(struct twinlog_queue *queue, struct twinlog *log);
/* -EBUSY: a request is not completed or not fetched, or a thread is in a call on the queue. */
int twinlog_queue_close(struct twinlog_queue *queue);
/* One thread and one io_uring that commit for many logs, as hundreds of raft groups need: groups of
 * different logs are written at the same time (without io_uring: one by one). */
struct twinlog_committer_options {
    uint32_t size;
    uint32_t in_flight; /* writes at a time, at most 256, which is the default */
};
#define TWINLOG_COMMITTER_OPTIONS_INIT twinlog_initial(twinlog_committer_options)
int twinlog_committer_open(const struct twinlog_committer_options *options,
                           struct twinlog_committer **ret_committer);
int twinlog_committer_close(struct twinlog_committer *committer); /* -EBUSY while logs use it */

/* ---- watermarks ---- */
/* 0 = none. They never wait for a commit. With TWINLOG_READ_ONLY they read files; where that fails
 * they return what was found last, and twinlog_reader_range() returns the error. */
uint64_t twinlog_first_lsn(struct twinlog *log);   /* oldest kept, 0 when empty */
uint64_t twinlog_last_lsn(struct twinlog *log);    /* newest accepted: the next LSN - 1 */
uint64_t twinlog_written_lsn(struct twinlog *log); /* newest that survives this process */
uint64_t twinlog_durable_lsn(struct twinlog *log); /* newest durable */

/* ---- trim, truncate, reset ---- */
/* Trim removes from the head; of several limits the one that removes most applies. Records that are
 * not durable stay, and those that a named cursor has not passed, but for the flag. */
enum twinlog_trim_flags {
    TWINLOG_TRIM_PAST_CURSORS = 1u << 0 /* cursors hold nothing; those behind move to the head */
};
struct twinlog_trim_options {
    uint32_t size;
    uint32_t flags;         /* enum twinlog_trim_flags */
    uint64_t before_lsn;    /* records with a smaller LSN; exact */
    uint64_t keep_bytes;    /* whole segments, as long as the others have so many bytes */
    uint64_t keep_records;  /* all but the newest so many LSNs; exact */
    int64_t before_time_ns; /* whole segments with only older records. CLOCK_REALTIME */
};
#define TWINLOG_TRIM_OPTIONS_INIT twinlog_initial(twinlog_trim_options)
enum twinlog_holder {
    TWINLOG_HELD_BY_NOTHING = 0, /* all that was asked for is gone */
    TWINLOG_HELD_BY_CURSOR,      /* the slowest named cursor needs the rest */
    TWINLOG_HELD_BY_SEGMENT      /* the records are gone, but share a segment with ones that stay */
};
struct twinlog_trim_result {
    uint32_t size;
    uint32_t holder;    /* enum twinlog_holder */
    uint64_t first_lsn; /* the oldest record that is kept; the next one to come when none is */
    uint64_t removed_records, removed_segments;
    uint64_t removed_bytes; /* their files: given back to the file system, or kept for reuse */
    uint64_t held_bytes;    /* file bytes that would have gone but for the holder */
    char holder_name[72];   /* of the cursor, or the segment's file */
};
#define TWINLOG_TRIM_RESULT_INIT twinlog_initial(twinlog_trim_result)
/* Every record below ret_result->first_lsn is gone for good on return; whole segments are given
 * back or reused. Works on a full disk. `ret_result` may be NULL. -EINVAL: nothing is asked for. */
int twinlog_trim(struct twinlog *log, const struct twinlog_trim_options *options,
                 struct twinlog_trim_result *ret_result);
/* Removes every record with a larger LSN than `last_lsn`, as a raft follower does if its leader
 * disagrees. Durable on return: they never come back; the next append gets last_lsn + 1. Calls that
 * append or wait are delayed. Cursors beyond are moved back; a reader beyond gets
 * TWINLOG_ETRUNCATED. TWINLOG_ETRIMMED: last_lsn + 1 was trimmed. */
int twinlog_truncate(struct twinlog *log, uint64_t last_lsn);
/* As a raft follower with a snapshot: removes all records; `next_lsn` (1 to INT64_MAX) is the next
 * LSN, and cursors go to next_lsn - 1. Otherwise as twinlog_truncate(). */
int twinlog_reset(struct twinlog *log, uint64_t next_lsn);

/* ---- cursors and values ---- */
/* Small values kept with the log, for consumers and a raft vote. A change is atomic, and durable on
 * return (two small synced writes). Trims and truncations keep them. Names: 1 to 63 bytes, no NUL,
 * the first not below 0x20. Any thread, also with TWINLOG_READ_ONLY. -ENOENT: no such name. -EROFS,
 * -EACCES: no right to write. -ENOSPC: over 1 MiB in all, or a full disk. -EBUSY: a process was
 * changing one for 30 s. TWINLOG_ECORRUPT, _EVERSION: their file is damaged, or newer. */
#define TWINLOG_NAME_BYTES 64u   /* longest name, with its NUL */
#define TWINLOG_META_BYTES 4096u /* largest value */
/* The consumer `name` has finished with every record up to `lsn` (0: with none); trims and
 * retention keep what comes after. Makes the cursor if there is none. -ERANGE: behind the newest
 * record that readers see. TWINLOG_ETRIMMED: the one after `lsn` was removed. */
int twinlog_cursor_set(struct twinlog *log, const char *name, uint64_t lsn);
int twinlog_cursor_get(struct twinlog *log, const char *name, uint64_t *ret_lsn);
int twinlog_cursor_remove(struct twinlog *log, const char *name);
/* In the order of names; `each` must not call the log, here and below. */
int twinlog_cursor_each(struct twinlog *log,
                        int (*each)(void *context, const char *name, uint64_t lsn), void *context);
/* Values that are the limits of a log, for openings that have none: decimal digits, at least 1,
 * else -EINVAL. A process that has it open heeds them within a minute, and when it seals a segment. */
#define TWINLOG_KEEP_BYTES "twinlog.keep_bytes"
#define TWINLOG_KEEP_RECORDS "twinlog.keep_records"
#define TWINLOG_KEEP_AGE_MS "twinlog.keep_age_ms"
int twinlog_meta_set(struct twinlog *log, const char *name, const void *data, size_t size);
/* Copies up to `room` bytes. ret_size (may be NULL): of the value, which may be larger. */
int twinlog_meta_get(struct twinlog *log, const char *name, void *data, size_t room,
                     size_t *ret_size);
int twinlog_meta_remove(struct twinlog *log, const char *name);
int twinlog_meta_each(struct twinlog *log,
                      int (*each)(void *context, const char *name, const void *data, size_t size),
                      void *context);

/* ---- one change of several things ---- */
/* What one edit of a change does. The edits of a change are made in their order. */
enum twinlog_edit_kind {
    TWINLOG_EDIT_SET_VALUE =
        1, /* the value `name` is `size` bytes from `data`, as twinlog_meta_set() */
    TWINLOG_EDIT_REMOVE_VALUE, /* there is no value `name`; no error if there was none */
    TWINLOG_EDIT_SET_CURSOR,   /* the cursor `name` is at `lsn`, as twinlog_cursor_set() */
    TWINLOG_EDIT_REMOVE_CURSOR /* there is no cursor `name`; no error if there was none */
};
/* One edit of a change. Zero what its kind does not use. */
struct twinlog_edit {
    uint32_t kind; /* enum twinlog_edit_kind */
    uint32_t reserved;
    const char *name;
    const void *data;
    size_t size;
    uint64_t lsn;
};
struct twinlog_change {
    uint32_t size;
    uint32_t flags; /* TWINLOG_TRIM_PAST_CURSORS, for trim_before_lsn */
    const struct twinlog_edit *edits;
    uint32_t edit_count; /* 0 to 1,024 */
    uint32_t reserved;
    uint64_t trim_before_lsn; /* remove the records with a smaller LSN; 0: none */
    uint64_t
        durable_lsn; /* make the log durable up to this record first; 0: only what is trimmed */
    uint64_t deadline_ns; /* of the wait for that, CLOCK_MONOTONIC; 0: no limit */
};
#define TWINLOG_CHANGE_INIT twinlog_initial(twinlog_change)
/* Changes values, cursors and the head of the log in one step, which is atomic and durable on
 * return: after a crash all of it has happened, or nothing.
 *
 * First the log becomes durable up to durable_lsn, and up to the newest record that trim_before_lsn
 * removes. So a snapshot that a program keeps in files of its own, and that stands for every record
 * up to an LSN, is complete with one call that cannot be made in a wrong order: a value with the
 * snapshot's name, and trim_before_lsn one behind that LSN. Cursors hold records, as the edits
 * leave them, unless TWINLOG_TRIM_PAST_CURSORS is set.
 *
 * ret_result (may be NULL) is filled in if trim_before_lsn is set. Any thread; with
 * TWINLOG_READ_ONLY edits alone. Any other process sees all of the change or nothing of it.
 *
 *   -EINVAL      nothing is asked for, more than 1,024 edits, or an edit that its own call refuses
 *   -ERANGE      the log ends in front of durable_lsn or trim_before_lsn - 1: nothing happened
 *   -ETIMEDOUT   not durable so far at deadline_ns: nothing happened
 *   -EROFS       a trim, or a wait, on a log that is opened for reading: nothing happened
 *   others       of twinlog_wait(): nothing happened; of twinlog_cursor_set(), twinlog_meta_set()
 */
int twinlog_change(struct twinlog *log, const struct twinlog_change *change,
                   struct twinlog_trim_result *ret_result);

/* ---- reading ---- */
/* A reader stands between two records. For one thread at a time; any number of readers. Allocates
 * when it is opened and for a record larger than any before. */
struct twinlog_reader;
struct twinlog_record {
    uint64_t lsn;
    int64_t time_ns;  /* CLOCK_REALTIME when it was accepted */
    const void *data; /* valid until the next call on this reader; aligned to 8 */
    size_t size;
    uint16_t tag; /* as the entry had them */
    uint8_t type;
    uint32_t salt; /* of its epoch: which history it is of, see twinlog_reader_history() */
};
enum twinlog_reader_flags {
    /* Map the segments (read where mapping does not work): no copy, every checksum verified. If a
     * file is shortened or unreadable, calls return -EIO, and earlier records may become zeros. */
    TWINLOG_READER_MMAP = 1u << 0,
    /* Only what is durable, also beside a writer in a mapped mode. For records that leave the
     * machine: no power cut takes them from the log after they were returned. */
    TWINLOG_READER_DURABLE = 1u << 1
};
struct twinlog_reader_options {
    uint32_t size;
    uint32_t flags;                    /* enum twinlog_reader_flags */
    uint64_t from_lsn, to_lsn;         /* first and last LSN; default the oldest kept, no limit */
    struct twinlog_report *ret_report; /* of a call on the reader */
};
#define TWINLOG_READER_OPTIONS_INIT twinlog_initial(twinlog_reader_options)
/* Opens a reader on the log in `dir`, in any process, with a live writer or without. Takes no lock,
 * changes nothing; survives rolls and trims. Records appear when synced; in a mapped mode when
 * copied. Without a writer they are synced first, unless the file system is read-only. -ENOENT: no
 * directory, or no log in it. TWINLOG_ECORRUPT, _EVERSION, _EFOREIGN, -ENOTDIR. */
int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader);
/* The same through an open log, which cannot be closed before the reader is. */
int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader);
/* Places the reader, but never in front of the option from_lsn, and clears an error. O(log n).
 *   seek        in front of `lsn`, which need not be written yet. -EINVAL for 0
 *   seek_time   in front of the first LSN accepted at `time_ns` or later; behind the last if none
 *   seek_first  in front of the oldest record that is kept
 *   seek_end    behind the newest durable record; in the mapped modes behind the newest */
int twinlog_reader_seek(struct twinlog_reader *reader, uint64_t lsn);
int twinlog_reader_seek_time(struct twinlog_reader *reader, int64_t time_ns);
int twinlog_reader_seek_first(struct twinlog_reader *reader);
int twinlog_reader_seek_end(struct twinlog_reader *reader);
/* Next returns the record behind the reader's place and steps over it; previous the one in front,
 * and steps back. 1 = a record; 0 = none now, or in the range of the options; negative = error,
 * again until a seek. Never a wrong checksum, nor (unless mapped) a record that is not durable.
 *   TWINLOG_ECORRUPT    damage, its place is in the report; sound records on the way come first
 *   TWINLOG_ETRIMMED    the record was removed; report.first_lsn is the oldest left (seek_first)
 *   TWINLOG_ETRUNCATED  records returned since the last seek are gone, from report.first_lsn on
 *   -ESTALE             the directory was removed; open what was made in its place */
int twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *ret_record);
int twinlog_reader_previous(struct twinlog_reader *reader, struct twinlog_record *ret_record);
/* Oldest and newest LSN that next() may return now; 0 and 0: none. TWINLOG_ECORRUPT:
 * the end of the log is damaged, and the results are what is known. */
int twinlog_reader_range(struct twinlog_reader *reader, uint64_t *ret_first_lsn,
                         uint64_t *ret_last_lsn);
/* Waits until next() would not return 0: 1 = there is a record or an error; 0 = not within
 * timeout_ms. Signals do not end it. -EINVAL if the reader's range is finished. */
int twinlog_reader_wait(struct twinlog_reader *reader, int timeout_ms);
/* For poll, epoll or io_uring: readable from when next() may return something until it returns 0.
 * Made at the first call, with a thread. Without the right to write writer.lock of a mapped log the
 * descriptor becomes readable every 20 ms even without new records. */
int twinlog_reader_fd(struct twinlog_reader *reader);
void twinlog_reader_close(struct twinlog_reader *reader);
/* A reader and a named cursor in one: goes on where the last consumer of its name ended. For one
 * thread at a time, in any process, with a writer in any mode or without. */
struct twinlog_consumer;
enum twinlog_consumer_flags {
    TWINLOG_CONSUMER_FROM_END = 1u << 0, /* start a new name behind the newest record */
    TWINLOG_CONSUMER_MMAP = 1u << 1,     /* as TWINLOG_READER_MMAP */
    TWINLOG_CONSUMER_DURABLE = 1u << 2   /* as TWINLOG_READER_DURABLE */
};
struct twinlog_consumer_options {
    uint32_t size;
    uint32_t flags;                    /* enum twinlog_consumer_flags */
    struct twinlog_report *ret_report; /* of open and next */
};
#define TWINLOG_CONSUMER_OPTIONS_INIT twinlog_initial(twinlog_consumer_options)
/* Makes the cursor `name` if there is none: from then on trims keep what is not finished with, but
 * for TWINLOG_TRIM_PAST_CURSORS. -EBUSY: a process, maybe this one, has that consumer open. -EMLINK:
 * the file `consumers` has another name. Else as twinlog_reader_open() and twinlog_cursor_set(). */
int twinlog_consumer_open(const char *dir, const char *name,
                          const struct twinlog_consumer_options *options,
                          struct twinlog_consumer **ret_consumer);
/* As twinlog_reader_next(), but TWINLOG_ETRIMMED and TWINLOG_ETRUNCATED come once, and the next
 * call goes on with report.first_lsn. After another error close it and open it again. */
int twinlog_consumer_next(struct twinlog_consumer *consumer, struct twinlog_record *ret_record);
/* Finished with every record up to `lsn`; 0: with all that next has returned. Durable on return.
 * -EINVAL: not returned yet. TWINLOG_ETRUNCATED, TWINLOG_ETRIMMED: some are removed, which has
 * moved the cursor; next says where it goes on. Other errors as of twinlog_cursor_set(). */
int twinlog_consumer_commit(struct twinlog_consumer *consumer, uint64_t lsn);
/* Its reader, to wait, for a descriptor and for the range. Closed with the consumer. */
struct twinlog_reader *twinlog_consumer_reader(struct twinlog_consumer *consumer);
/* Commits nothing: the next consumer of this name gets what was not committed. */
void twinlog_consumer_close(struct twinlog_consumer *consumer);
/* Copies the record `lsn` to `data`, which has `room` bytes, and fills in *ret_record, with `data`.
 * Any thread; sees what a reader sees. -ENOBUFS: larger; ret_record->size is set, ->data NULL.
 * -ERANGE: none yet, not durable yet, or truncated. -ENOENT: a filler; -ENODATA: of a lost one. */
int twinlog_read(struct twinlog *log, uint64_t lsn, void *data, size_t room,
                 struct twinlog_record *ret_record);

#ifdef __cplusplus
}
#endif
#endif
