/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog - a durable, group-committing, append-only log in a directory.
 *
 *     struct twinlog *log;
 *     if (twinlog_open("journal", NULL, &log) == 0)
 *         twinlog_append(log, data, size, NULL);      // on stable storage when it returns 0
 *
 * twinlog_admin.h has the rest: events, statistics, inspect, segments, verify, backup, repair, probe.
 *
 * Read this before the functions:
 *
 *  - An append that returns an error has an unknown outcome, unless the error says that nothing happened: the record
 *    may be there after the next open, or not; never half of it. After one failed write or sync the log is poisoned:
 *    every later append fails, and only closing it and opening it again decides what is there.
 *  - One process writes a log, a second one gets -EBUSY; with TWINLOG_MODE_SHARED 255 may. Any number read it.
 *  - A handle belongs to the process that opened it. In a forked child every call on it returns TWINLOG_EFORKED, an LSN
 *    call 0; a close frees nothing. fork() closes the files of all handles in the child, so that a child keeps no log
 *    locked. twinlog(7) has more on processes and threads.
 *  - The library handles SIGBUS, and passes on what is not for it: a mapped file that another program makes shorter
 *    ends no process. Under RLIMIT_FSIZE segments are smaller, and a record that fits in none is -EFBIG. Ignore SIGXFSZ
 *    where that limit may be lowered below the size of an existing file: a write to it then poisons the log.
 *  - The device must honour flush requests, and locks must work, which they do not on every network file system.
 *
 * What holds for all calls:
 *
 *  - Results are 0, a count, or a negative error: -errno for the system and for arguments (-EINVAL: a NULL where none
 *    may be, an option out of range), and the TWINLOG_E codes below. Any call may return an error of the system that
 *    is not listed at it.
 *  - Inputs come first, outputs (ret_...) last; an output is untouched on failure unless it is told otherwise.
 *    Options may be NULL. Every close accepts NULL. A field of 0 means its default, or "off" if none is given.
 *    ret_report: NULL, or filled in when a call fails; a report given to a reader or consumer must stay valid until
 *    that is closed.
 *  - timeout_ms: how long to wait; 0 = not at all, negative = no limit.
 *  - A result of `each` that is not 0 ends the call and is returned. In options `each` and `progress` may be NULL.
 *  - In `observe` every call that could wait is -EDEADLK, on any log: all but the watermarks and readers that do not
 *    wait.
 *  - Structures that begin with `size` may grow at their end: initialise them with their ..._INIT macro, inputs and
 *    outputs. A program compiled with an older header works with a newer library; what it does not know keeps its
 *    default. What an older library does not know must be 0 (else -EINVAL), and is 0 in an output. The other structures
 *    are final. Unknown flags and `reserved` must be 0.
 *  - The library never prints and never exits; it aborts only when an invariant of its own is broken.
 */
#ifndef TWINLOG_H
#define TWINLOG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TWINLOG_VERSION "0.1.0"

/* ---- errors that errno cannot say ------------------------------------------------------------ */

#define TWINLOG_ECORRUPT (-5001)   /* acknowledged data is damaged; a report names the place */
#define TWINLOG_EPOISONED (-5002)  /* an earlier write or sync failed; close the log and open it again */
#define TWINLOG_EVERSION (-5003)   /* of a newer format, or shared by another version of the library */
#define TWINLOG_ETRIMMED (-5004)   /* that LSN was removed from the head of the log */
#define TWINLOG_EFORKED (-5005)    /* this handle was opened by the parent process */
#define TWINLOG_EFOREIGN (-5006)   /* a segment in the directory is another log's, or a second copy */
#define TWINLOG_ETRUNCATED (-5007) /* records that this reader has passed were truncated; seek to go on */

/* One English phrase for any result of this library, also for -errno. A constant, safe from any thread. */
const char *twinlog_strerror(int error);
/* The version of the library that is running, as in "0.1.0". */
const char *twinlog_version(void);

/* ---- reports ---------------------------------------------------------------------------------- */

enum twinlog_finding {
    TWINLOG_FOUND_NOTHING = 0,     /* nothing worth a report */
    TWINLOG_FOUND_NEW_LOG,         /* the log was created */
    TWINLOG_FOUND_CLEAN_CLOSE,     /* the last writer closed the log */
    TWINLOG_FOUND_CLEAN_END,       /* it ends with a whole group, and is not closed; nothing was truncated */
    TWINLOG_FOUND_TORN_TAIL,       /* a group was being written; it was never acknowledged */
    TWINLOG_FOUND_DAMAGE,          /* acknowledged bytes are wrong or missing */
    TWINLOG_FOUND_BAD_HEADER,      /* a segment's header does not check */
    TWINLOG_FOUND_MISSING_SEGMENT, /* segments before and after it are there */
    TWINLOG_FOUND_FOREIGN_FILE,    /* another log's segment, or files that are no log */
    TWINLOG_FOUND_NEWER_FORMAT,    /* a feature or version this library does not know */
    TWINLOG_FOUND_DIRTY_PADDING,   /* bytes that must be zero are not; no record is affected */
    TWINLOG_FOUND_SYSTEM_ERROR,    /* a call to the system failed; see `error` */
    TWINLOG_FOUND_BAD_STATE,       /* the file of cursors and values does not check, or is missing */
    TWINLOG_FOUND_BAD_INDEX,       /* a sealed segment's index is wrong; no record is affected */
    TWINLOG_FOUND_TRIMMED          /* a trim removed the record; first_lsn is the oldest that is left */
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

/* ---- opening ---------------------------------------------------------------------------------- */

/* How a group reaches stable storage. The default is the first path that works here, but never linked writes; and
 * TWINLOG_IO_DSYNC instead of TWINLOG_IO_URING while that was measured to be quicker. These two count on a flag of the
 * write, which not every file system passes on, and a linked sync on -ECANCELED to be the kernel's; all three are
 * refused (-ENOTSUP) but on ext2 to 4, xfs, btrfs and tmpfs. */
enum twinlog_io {
    TWINLOG_IO_AUTO = 0,
    TWINLOG_IO_URING,        /* io_uring: one write that carries its own sync (RWF_DSYNC) */
    TWINLOG_IO_URING_LINKED, /* io_uring: one write linked to one fdatasync */
    TWINLOG_IO_DSYNC,        /* pwritev2 with RWF_DSYNC */
    TWINLOG_IO_FDATASYNC     /* pwrite, then fdatasync */
};

enum twinlog_open_flags {
    TWINLOG_MUST_EXIST = 1u << 0, /* -ENOENT instead of creating the log */
    /* never rewrite an acknowledged block (but see twinlog_open(3)): up to 4 KiB a group. Implies TWINLOG_NO_RECYCLE */
    TWINLOG_PAD = 1u << 1,
    TWINLOG_BUFFERED = 1u << 2, /* do not use direct I/O */
    /* takes no lock, never appends (-EROFS), works beside a writer and on a read-only file system; sets cursors and
     * values where it may write. Implies TWINLOG_MUST_EXIST */
    TWINLOG_READ_ONLY = 1u << 3,
    TWINLOG_NO_RECYCLE = 1u << 4, /* remove trimmed segments, never write a new one over an old one */
    /* start no committer thread: twinlog_drive() or a waiting call commits. Such a call may overrun its deadline */
    TWINLOG_NO_THREAD = 1u << 5
};

/* How a new segment file is made. Written blocks make small commits twice as fast; allocated ones save bandwidth. */
enum twinlog_prepare {
    TWINLOG_PREPARE_WRITTEN = 0, /* all zeros, on disk; only reserved while groups are large */
    TWINLOG_PREPARE_ALLOCATED,   /* the space is reserved, the blocks are not written */
    TWINLOG_PREPARE_SPARSE       /* nothing is reserved: a full disk shows as a failed write, which poisons */
};

/* What an append waits for. The same log may be opened in another mode another day. The table in twinlog(7) says which
 * call a mode does not have (-ENOTSUP) and a read-only log (-EROFS); nothing happened then. */
enum twinlog_mode {
    TWINLOG_MODE_DURABLE = 0, /* an append returns when its record is on stable storage */
    /* An append returns when its record is copied into a mapped segment: every reader sees it at once, and it survives
     * this process. A power cut may take records at the end that were not synced, or make them fillers */
    TWINLOG_MODE_MAPPED,
    /* The same for several processes, in one order of LSNs. A process that dies blocks no other: its unfinished record
     * becomes a filler, which readers skip. One that is stopped blocks calls that wait for its record, no append */
    TWINLOG_MODE_SHARED
};

struct twinlog_committer; /* see "many logs" */
struct twinlog_event;     /* see twinlog_admin.h */

/* segment_bytes, buffer_bytes (default: up to 8 MiB) and mapped_bytes are multiples of 4096. */
struct twinlog_options {
    uint32_t size;
    uint32_t flags;            /* enum twinlog_open_flags */
    uint64_t segment_bytes;    /* largest file; 64 KiB to 1 TiB, default 64 MiB. They grow from 512 KiB on */
    uint32_t buffer_bytes;     /* of each of two; 16 KiB to 256 MiB, at most segment_bytes - 8192 */
    uint32_t max_record_bytes; /* at most buffer_bytes - 8192; default 4 MiB, or what the buffer takes */
    uint32_t io;               /* enum twinlog_io; a path that does not work here is -ENOTSUP */
    /* wait this long for another writer to close; 0: -EBUSY at once (the shared mode: after 1 s to 30 s) */
    uint32_t lock_timeout_ms;
    /* full-size segments to prepare at once, at most 64; default 0: one, when the active segment is half full */
    uint32_t spare_segments;
    uint32_t prepare;                  /* enum twinlog_prepare */
    struct twinlog_report *ret_report; /* NULL, or what open found; written on failure too */

    /* Leaves a segment that has this many records, or a first record this old, with the next group. */
    uint64_t segment_records, segment_age_ms;

    /* Removes the oldest segment while the others still meet the limit; what a named cursor has not passed stays. With
     * several, each removes. See Retention in twinlog_open(3). keep_records counts LSNs, those of fillers too, and
     * keep_age_ms counts from the newest record of a segment. */
    uint64_t keep_bytes, keep_records, keep_age_ms;

    /* Commits when no thread waits inside a call: for requests, deadlines and flush_interval_ms. NULL: a thread of the
     * log, started when the first of these comes. */
    struct twinlog_committer *committer; /* shared by many logs; must outlive the log */
    /* A record of a relaxed level is durable after this time and the time of a commit. */
    uint32_t flush_interval_ms;

    /* With TWINLOG_MODE_MAPPED segment_bytes is at most 1 GiB; TWINLOG_PAD, TWINLOG_READ_ONLY and a committer are
     * -EINVAL; no segment is recycled, `observe` is not called, and segment_records, segment_age_ms and slow_ms have no
     * effect. With TWINLOG_MODE_SHARED the same, and keep_bytes, keep_records and keep_age_ms are -EINVAL. */
    uint32_t mode; /* enum twinlog_mode */

    /* Called for what the log does, by the thread that does it, in the middle of it. Must return soon, and cannot wait:
     * see above. */
    void (*observe)(void *context, const struct twinlog_event *event);
    void *observe_context;
    uint32_t observe_mask; /* of 1u << enum twinlog_event_kind in twinlog_admin.h; 0 = all */
    uint32_t slow_ms;      /* a write or sync that takes longer is a TWINLOG_EVENT_SLOW; 0 = never */

    /* Mapped modes: the first segment, from which they double; at least max_record_bytes + 28672, default 10 MiB, or
     * what the largest record needs. A close, or the opening after a kill, shortens the last one. */
    uint64_t mapped_bytes;
};

struct twinlog; /* one open log; every function on it may be called from any thread, by 32,767 at a time */

/* Opens the log in directory `dir` for appending; creates the directory (its parent must exist) and the log where there
 * is none. Recovers first: a torn tail is truncated and reported, and what is kept is synced. On return every record up
 * to twinlog_last_lsn() is durable, and no other process can write the log until it is closed or this process is gone.
 * A process that joins a log in TWINLOG_MODE_SHARED performs no recovery and no sync: what it finds behind
 * twinlog_durable_lsn() is not durable yet.
 *   -EBUSY      another writer has the log (the report has its PID where that is known), or the last write of a dead
 *               one has not landed after 30 s
 *   -EUSERS     255 handles share the log
 *   -EOVERFLOW  the numbers of its records, segments, files or epochs are used up; it can be read
 *   -ENOENT     no parent of `dir`, or no log and TWINLOG_MUST_EXIST
 *   -ENOTEMPTY  no log in `dir`, but other files
 *   -EMLINK     writer.lock, or a segment that would be written to, has another name, as in a copy made of links
 *   -ENOTSUP    options->io does not work here, files cannot be mapped for writing or, shared, have no hard links
 *   TWINLOG_ECORRUPT, _EFOREIGN, _EVERSION (also of the library that shares it): left as it was; see the report */
int twinlog_open(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log);

/* Lets calls on `log` finish, makes every accepted record durable (in TWINLOG_MODE_SHARED those of this process), marks
 * the log as closed, and frees it. Returns 0, or the error that kept a record or the marker of the close from being
 * durable; a disk too full for the marker alone is no error. The handle is gone in either case, except where nothing
 * happened: -EBUSY, readers are attached to the log, or just being attached; -EDEADLK. No thread may start a call on
 * `log` once close has begun, not even one that only asks for an LSN. */
int twinlog_close(struct twinlog *log);

/* ---- appending -------------------------------------------------------------------------------- */

/* Appends one record of `size` bytes (0 is legal; `data` may then be NULL) and returns when it is on stable storage
 * together with every record of a smaller LSN. Threads that call it at once share one write and one sync. Allocates
 * nothing, unless the next segment was not prepared. Not a cancellation point. `ret_lsn` may be NULL; it gets the LSN,
 * on failure too if there was one already; 0 means that nothing happened. In TWINLOG_MODE_MAPPED it returns when the
 * record is copied. Nothing happened where the error is -EINVAL, TWINLOG_EPOISONED or one of the first three:
 *   -EMSGSIZE   larger than max_record_bytes
 *   -ESHUTDOWN  the log is being closed
 *   -ENOSPC     the next segment is needed and the disk is full; the same call works again once there is space.
 *               Likewise -EDQUOT, -EFBIG (RLIMIT_FSIZE), -EMFILE (also with 2^20 segments: trim), ...
 *   -EIO, ...   the write or sync for this record failed: its outcome is unknown, and the log is poisoned. -EIO
 *               also where the kernel's error would be -EAGAIN, -ETIMEDOUT or -ECANCELED */
int twinlog_append(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);
/* Accepts a record without waiting for the disk, as an append at TWINLOG_LEVEL_BUFFERED. When the buffers are full it
 * first commits or waits. Errors as for twinlog_append(). */
int twinlog_enqueue(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);

/* How safe a record is. Each level includes the ones above it in this list. Until twinlog_wait() for it,
 * twinlog_sync(), twinlog_close(), a durable append or flush_interval_ms makes it durable, it may be lost. */
enum twinlog_level {
    TWINLOG_LEVEL_OF_MODE = 0, /* that of twinlog_append(): durable; in the mapped and shared modes written */
    TWINLOG_LEVEL_BUFFERED, /* in this process's memory: dies with it. In TWINLOG_MODE_MAPPED the same as written */
    TWINLOG_LEVEL_WRITTEN, /* handed to the kernel: survives this process, but no failure of kernel or power */
    TWINLOG_LEVEL_DURABLE  /* on stable storage: survives a power cut */
};

/* One record to be appended. Zero what is not used. */
struct twinlog_entry {
    const void *data;           /* read before the call returns; NULL if there are pieces, or size is 0 */
    size_t size;                /* of `data` */
    const struct iovec *pieces; /* instead of `data`: the record in pieces, one behind the other */
    uint32_t piece_count;
    uint16_t tag; /* for the caller: readers return them */
    uint8_t type;
    uint8_t reserved;
    int64_t time_ns; /* CLOCK_REALTIME; 0 = the log takes the time */
};

enum twinlog_append_flags {
    /* -EAGAIN instead of waiting, where the buffers or the prepared segments have no room: try again after the next
     * request is completed, or later */
    TWINLOG_TRY = 1u << 0
};
/* The terms of a call. NULL instead of a pointer to them, and 0 in a field, mean those of twinlog_append(). */
struct twinlog_terms {
    uint32_t size;
    uint32_t flags; /* enum twinlog_append_flags */
    uint32_t level; /* enum twinlog_level: when to return, or to complete */
    uint32_t reserved;
    uint64_t deadline_ns;                /* CLOCK_MONOTONIC, see twinlog_deadline() */
    const struct twinlog_cancel *cancel; /* NULL = cannot be cancelled */
};

/* Appends `count` records, at least one, as a batch: they get consecutive LSNs, *ret_first_lsn (may be NULL) the first,
 * and after a crash all of them are there or none. A batch must fit in a buffer: each record takes 24 bytes more than
 * its size rounded up to 8, and together they may have buffer_bytes - 8192. As twinlog_append(), and:
 *   -EMSGSIZE   a record or the batch is too large; nothing happened
 *   -EAGAIN     TWINLOG_TRY, and there is no room now, or a truncation goes on; nothing happened
 *   -ETIMEDOUT, -ECANCELED  not at `level` by the deadline; twinlog_cancel() was called. Nothing happened if
 *               *ret_first_lsn is 0, else the records become durable unless the log fails: twinlog_wait() tells
 * twinlog_append(3) says what differs in TWINLOG_MODE_MAPPED. */
int twinlog_append_batch(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                         const struct twinlog_terms *terms, uint64_t *ret_first_lsn);

/* Makes `next_lsn` the LSN of the next record, as a copy of a log needs where the original has gaps: fillers use up the
 * LSNs before, and readers skip them. Returns when they are durable; 0 at once if the log is already as far. Beside
 * other appends the next LSN may be a later one. Errors as for twinlog_append(); fillers that were accepted before one
 * stay, and the same call goes on. */
int twinlog_skip(struct twinlog *log, uint64_t next_lsn);

/* Returns when every record up to `lsn` is at `level`: 0, or the error that prevents it. Commits what is pending if no
 * other thread does. deadline_ns as in the terms (-ETIMEDOUT). -EINVAL: not accepted yet, or truncated. */
int twinlog_wait(struct twinlog *log, uint64_t lsn, enum twinlog_level level, uint64_t deadline_ns);
/* Returns when everything accepted before the call is durable. After a sync that has failed, none succeeds. */
int twinlog_sync(struct twinlog *log);
/* The time that is this many milliseconds from now, on CLOCK_MONOTONIC; never 0. */
uint64_t twinlog_deadline(uint32_t timeout_ms);

/* A token for calls to be cancelled together, zeroed at first: twinlog_cancel() ends every call on `log` that has it in
 * its terms, also a later one. Any thread, not a signal handler. */
struct twinlog_cancel {
    uint32_t is_canceled;
};
int twinlog_cancel(struct twinlog *log, struct twinlog_cancel *cancel);

/* ---- requests ---------------------------------------------------------------------------------- */

/* A batch in flight. The memory is the caller's, which must not touch it until the request comes out of the queue. The
 * caller sets queue and context; the log the rest. */
struct twinlog_request {
    struct twinlog_queue *queue;  /* gets the request when it is completed */
    void *context;                /* for the caller */
    int32_t result;               /* 0, or the error: as twinlog_append() would have returned it */
    uint32_t count;               /* records */
    uint64_t first_lsn;           /* set when submit returns */
    struct twinlog_request *next; /* the log's until completion, then the caller's */
    uint64_t private_word;        /* the log's */
};

/* Accepts a batch as twinlog_append_batch() does, and returns without waiting for the disk. After 0 the request is
 * completed exactly once, when the batch is at the terms' level (durable or written) or has failed: its queue gets it.
 * The requests of a log are completed in the order of LSNs. After an error nothing happened and the request is not
 * completed. Allocates nothing. Waits for room in the buffers at most; the terms TWINLOG_TRY, deadline and cancellation
 * count for that. */
int twinlog_submit(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                   const struct twinlog_terms *terms, struct twinlog_request *request);
/* Lends the calling thread to the log: commits groups that some caller waits for, and completes their requests; what
 * was only enqueued waits for its flush. 1 = it has committed; 0 = there was nothing to do within timeout_ms;
 * -ESHUTDOWN = the log is being closed; or the error that poisoned it. Any number of threads may; each must have left
 * when close returns. */
int twinlog_drive(struct twinlog *log, int timeout_ms);

/* Where completed requests wait to be fetched, in the order of their completion, for any number of logs and threads. */
struct twinlog_queue;
int twinlog_queue_open(struct twinlog_queue **ret_queue);
/* Fetches up to `max` completed requests; waits for the first one up to timeout_ms. Their number, 0 = none in time. */
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests, uint32_t max,
                       int timeout_ms);
/* An eventfd, readable while there are requests to fetch. Do not read it: twinlog_queue_poll() does. */
int twinlog_queue_fd(struct twinlog_queue *queue);
/* -EBUSY while there are requests that were not completed, or not fetched, or a thread is in a call on the queue. */
int twinlog_queue_close(struct twinlog_queue *queue);

/* ---- many logs --------------------------------------------------------------------------------- */

/* One thread and one io_uring that commit for many logs, as a store with hundreds of raft groups needs: what is pending
 * in different logs is written at the same time (without io_uring: one after the other). Threads that append to such a
 * log do not commit themselves. */
struct twinlog_committer_options {
    uint32_t size;
    uint32_t in_flight; /* writes at a time, at most 256, which is the default */
};
int twinlog_committer_open(const struct twinlog_committer_options *options,
                           struct twinlog_committer **ret_committer);
/* -EBUSY while logs use it. */
int twinlog_committer_close(struct twinlog_committer *committer);

/* ---- watermarks -------------------------------------------------------------------------------- */

/* Watermarks. 0 = none. They do not wait for a commit. With TWINLOG_READ_ONLY they read files; if that fails they
 * return what was found last, and where the end of the log is damaged the smallest LSN that it can be:
 * twinlog_reader_range() returns the error. */
uint64_t twinlog_first_lsn(struct twinlog *log);   /* oldest kept, 0 when empty */
uint64_t twinlog_last_lsn(struct twinlog *log);    /* newest accepted */
uint64_t twinlog_written_lsn(struct twinlog *log); /* newest that survives this process */
uint64_t twinlog_durable_lsn(struct twinlog *log); /* newest durable */

/* ---- trim, truncate, reset -------------------------------------------------------------------- */

/* From the head. Every record below the result's first_lsn is gone for good when twinlog_trim() returns; whole segments
 * are given back or reused. Of several limits the one that removes most counts. What is not durable stays; so does what
 * a named cursor has not passed, unless a flag says otherwise. */
enum twinlog_trim_flags {
    TWINLOG_TRIM_PAST_CURSORS = 1u << 0 /* cursors hold nothing; those behind are moved to the new head */
};
struct twinlog_trim_options {
    uint32_t size;
    uint32_t flags;         /* enum twinlog_trim_flags */
    uint64_t before_lsn;    /* records with a smaller LSN; exact */
    uint64_t keep_bytes;    /* whole segments, as long as the others have so many bytes */
    uint64_t keep_records;  /* all but the newest so many LSNs; exact */
    int64_t before_time_ns; /* whole segments with only older records. CLOCK_REALTIME */
};
enum twinlog_holder {
    TWINLOG_HELD_BY_NOTHING = 0, /* all that was asked for is gone */
    TWINLOG_HELD_BY_CURSOR,      /* the slowest named cursor needs the rest */
    TWINLOG_HELD_BY_SEGMENT      /* the records are gone, but they share a segment with ones that stay */
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
/* `ret_result` may be NULL. Works on a full disk too. -EINVAL when the options ask for nothing, TWINLOG_EPOISONED after
 * a truncation with an unknown outcome; what was removed before an error stays removed. */
int twinlog_trim(struct twinlog *log, const struct twinlog_trim_options *options,
                 struct twinlog_trim_result *ret_result);

/* From the end: removes every record with a larger LSN than `last_lsn`, as a raft follower does if its leader
 * disagrees. Durable on return: the removed records never come back, and the next append gets last_lsn + 1. Calls that
 * append or wait are delayed as long as their terms allow (a try is -EAGAIN). Cursors beyond are moved back; a reader
 * that has passed the truncation gets TWINLOG_ETRUNCATED. Except after TWINLOG_EPOISONED nothing happened:
 *   TWINLOG_ETRIMMED  last_lsn + 1 is below the first kept record
 *   -ENOSPC  the disk is full     -EINVAL  the largest LSN there is     -EDEADLK     what poisoned the log
 *   -EBUSY   for 30 s another process was in the middle of a change of the cursors; appends went on
 *   TWINLOG_EPOISONED  whether the truncation has happened is unknown; opening the log again tells */
int twinlog_truncate(struct twinlog *log, uint64_t last_lsn);
/* Removes every record, and makes `next_lsn` (1 to INT64_MAX) the LSN of the next one, as a raft follower does that was
 * sent a snapshot. Cursors go to next_lsn - 1. Otherwise as twinlog_truncate(). */
int twinlog_reset(struct twinlog *log, uint64_t next_lsn);

/* ---- cursors and values ------------------------------------------------------------------------ */

/* Small things kept with the log, for consumers and for a raft vote: each change is atomic and durable on return (two
 * small synced writes). Names are 1 to 63 bytes, any but NUL; the first one is not below 0x20. They survive trims and
 * truncations. A handle of TWINLOG_READ_ONLY can use them. Any thread. After a change that failed every process reads
 * what the disk has, the old value or the new one, and no power cut takes back what was read.
 *   -EINVAL  a bad name or value      -ENOENT  no such name      -EROFS, -EACCES  the files cannot be written
 *   -ENOSPC  more than 1 MiB in all, or the disk is full      -EBUSY  another process was changing one for 30 s
 *   TWINLOG_ECORRUPT  their file is damaged or missing      TWINLOG_EVERSION  only a newer version may write */
#define TWINLOG_NAME_BYTES 64u   /* longest name, with its NUL */
#define TWINLOG_META_BYTES 4096u /* largest value */

/* The consumer `name` has finished with every record up to `lsn`; no trim or retention removes what comes after. Makes
 * the cursor where there is none. 0 puts it in front of the oldest record that is kept. -ERANGE beyond the newest
 * record that readers see (TWINLOG_ECORRUPT where damage hides which that is), TWINLOG_ETRIMMED if what comes after lsn
 * was removed. If a power cut takes that record (TWINLOG_MODE_MAPPED), the cursor goes back to the end. */
int twinlog_cursor_set(struct twinlog *log, const char *name, uint64_t lsn);
int twinlog_cursor_get(struct twinlog *log, const char *name, uint64_t *ret_lsn);
int twinlog_cursor_remove(struct twinlog *log, const char *name);
/* In the order of names; `each` must not call the log. */
int twinlog_cursor_each(struct twinlog *log, int (*each)(void *context, const char *name, uint64_t lsn),
                        void *context);

int twinlog_meta_set(struct twinlog *log, const char *name, const void *data, size_t size);
/* Copies up to `room` bytes to `data`. ret_size (may be NULL) gets the value's size, which may be more. */
int twinlog_meta_get(struct twinlog *log, const char *name, void *data, size_t room, size_t *ret_size);
int twinlog_meta_remove(struct twinlog *log, const char *name);
int twinlog_meta_each(struct twinlog *log,
                      int (*each)(void *context, const char *name, const void *data, size_t size),
                      void *context);

/* ---- reading ---------------------------------------------------------------------------------- */

/* A reader stands between two records. One thread at a time may use it; there may be any number of readers. Allocates
 * when it is opened and when a record is larger than any before. Random look-ups keep at most 32 segments open, with
 * 128 KiB each. */
struct twinlog_reader;

struct twinlog_record {
    uint64_t lsn;
    int64_t time_ns;  /* CLOCK_REALTIME when it was accepted */
    const void *data; /* valid until the next call on this reader; aligned to 8 */
    size_t size;
    uint16_t tag; /* as the entry had them */
    uint8_t type;
};

enum twinlog_reader_flags {
    /* Map the segments: no copy, every checksum verified; reads where mapping does not work. If a file is made shorter
     * or the disk cannot be read, calls return -EIO, and a record that was returned before may become zeros. */
    TWINLOG_READER_MMAP = 1u << 0,
    /* Only what is durable, also beside a writer in TWINLOG_MODE_MAPPED: what its syncs have covered. For what leaves
     * the machine: no power cut takes from the log what was returned. */
    TWINLOG_READER_DURABLE = 1u << 1
};
struct twinlog_reader_options {
    uint32_t size;
    uint32_t flags;                    /* enum twinlog_reader_flags */
    uint64_t from_lsn, to_lsn;         /* first and last LSN to return; default the oldest kept, no limit */
    struct twinlog_report *ret_report; /* of a call on the reader */
};

/* Opens a reader on the log in `dir`, in any process, beside a live writer or without one; takes no lock, changes
 * nothing. Beside a writer, records appear as its syncs succeed; in TWINLOG_MODE_MAPPED as they are copied, so a power
 * cut may take them. Without a writer what is sound is synced first, unless the file system is read-only. Survives
 * rolls, trims and recycling. -ENOENT (no such directory, or no log in it), -ENOTDIR, TWINLOG_EVERSION,
 * TWINLOG_EFOREIGN, TWINLOG_ECORRUPT. */
int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader);
/* The same through an open log, which cannot be closed before the reader is. */
int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader);

/* Places the reader in front of a record; a sticky error is forgotten. Costs O(log n) at the next move.
 *   seek        in front of `lsn`, which need not be written yet. -EINVAL for 0
 *   seek_time   in front of the first record, in the order of LSNs, that was accepted at `time_ns` or later;
 *               behind the last one if there is none. Clocks may step back: every earlier record is older
 *   seek_first  in front of the oldest record that is kept
 *   seek_end    behind the newest durable one, or the newest one of a log that is written in TWINLOG_MODE_MAPPED
 * None of them goes in front of the option from_lsn. */
int twinlog_reader_seek(struct twinlog_reader *reader, uint64_t lsn);
int twinlog_reader_seek_time(struct twinlog_reader *reader, int64_t time_ns);
int twinlog_reader_seek_first(struct twinlog_reader *reader);
int twinlog_reader_seek_end(struct twinlog_reader *reader);

/* Next returns the record behind the reader's place and steps over it; previous returns the one in front of it and
 * steps back. 1 = *ret_record is set; 0 = no more for now, or in the range of the options; negative = error, and the
 * same call returns the same error again until a seek. Never returns a record above the durable LSN, except beside a
 * writer in TWINLOG_MODE_MAPPED, nor bytes with a wrong checksum.
 *   TWINLOG_ECORRUPT  damage, with its place in the report; what is sound on the way is returned first
 *   TWINLOG_ETRIMMED  the record was removed; report.first_lsn is the oldest one left, seek_first goes there
 *   TWINLOG_ETRUNCATED  records returned since the last seek are truncated; report.first_lsn is the first of them, or
 *                     the oldest left. If a trim has removed these too, reading goes on with the next LSN */
int twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *ret_record);
int twinlog_reader_previous(struct twinlog_reader *reader, struct twinlog_record *ret_record);
/* Oldest and newest LSN that next() may return now; 0 and 0: none. TWINLOG_ECORRUPT, as from seek_end: the end of the
 * log is damaged, and the results are what is known. */
int twinlog_reader_range(struct twinlog_reader *reader, uint64_t *ret_first_lsn, uint64_t *ret_last_lsn);
/* Waits until next() would not return 0: 1 = there is a record or an error; 0 = not within timeout_ms. Signals do not
 * end it. -EINVAL if the reader's range is finished. */
int twinlog_reader_wait(struct twinlog_reader *reader, int timeout_ms);
/* A descriptor for poll, epoll or io_uring, readable when next() would not return 0, and no longer when it has. Made at
 * the first call, with a thread; closed with the reader. Where writer.lock of a mapped or shared log cannot be written,
 * the descriptor becomes readable every 20 ms even without new records. */
int twinlog_reader_fd(struct twinlog_reader *reader);
void twinlog_reader_close(struct twinlog_reader *reader);

/* A consumer goes on where the last one of its name ended: a reader and a named cursor in one, for one thread at a
 * time. In any process, beside a writer in any mode or without one. */
struct twinlog_consumer;

enum twinlog_consumer_flags {
    TWINLOG_CONSUMER_FROM_END = 1u << 0, /* a new name begins behind the newest record, not with the oldest */
    TWINLOG_CONSUMER_MMAP = 1u << 1,     /* as TWINLOG_READER_MMAP */
    TWINLOG_CONSUMER_DURABLE = 1u << 2   /* as TWINLOG_READER_DURABLE */
};
struct twinlog_consumer_options {
    uint32_t size;
    uint32_t flags;                    /* enum twinlog_consumer_flags */
    struct twinlog_report *ret_report; /* of open and next */
};

/* Opens the consumer `name` (as of a cursor) on the log in `dir`. Makes the cursor if there is none, so from then on no
 * trim removes what the consumer has not finished with, unless TWINLOG_TRIM_PAST_CURSORS says so. -EBUSY: a process,
 * maybe this one, has a consumer of that name open.
 * -EROFS, -EACCES: the files cannot be written. Else as for twinlog_reader_open() and twinlog_cursor_set(). */
int twinlog_consumer_open(const char *dir, const char *name, const struct twinlog_consumer_options *options,
                          struct twinlog_consumer **ret_consumer);

/* As twinlog_reader_next(), but TWINLOG_ETRIMMED and TWINLOG_ETRUNCATED are returned once, and the next call goes on
 * with report.first_lsn. After another error close it and open it again. */
int twinlog_consumer_next(struct twinlog_consumer *consumer, struct twinlog_record *ret_record);
/* The consumer has finished with every record up to `lsn`; 0: with all that next has returned. Durable on return: the
 * next consumer of this name begins behind it. -EINVAL: next has not returned `lsn` yet. TWINLOG_ETRUNCATED,
 * TWINLOG_ETRIMMED: some of them were removed; the cursor stays where that has moved it, and next says where it goes
 * on. Else as twinlog_cursor_set(). */
int twinlog_consumer_commit(struct twinlog_consumer *consumer, uint64_t lsn);
/* Its reader, for twinlog_reader_wait(), twinlog_reader_fd() and twinlog_reader_range(). Closed with the consumer. */
struct twinlog_reader *twinlog_consumer_reader(struct twinlog_consumer *consumer);
/* Commits nothing: the next consumer of this name gets what was not committed. */
void twinlog_consumer_close(struct twinlog_consumer *consumer);

/* Reads the record `lsn` through an open log, in every mode and with TWINLOG_READ_ONLY: copies its bytes to `data`,
 * which has `room` bytes, and fills in *ret_record; its `data` is then the caller's. Sees what a reader sees. Any
 * thread. The log keeps up to 8 readers for it, until it is trimmed, truncated or closed.
 *   -ENOBUFS  larger than `room`: ret_record->size is its size, ret_record->data NULL; NULL and 0 ask for the size
 *   -ERANGE   behind the newest record that readers see: not appended, not durable yet, or truncated
 *   -ENOENT   a filler: the LSN was skipped, or its record lost    -EINVAL   the LSN 0
 *   TWINLOG_ETRIMMED  removed     TWINLOG_ECORRUPT  damaged; a reader reports the place */
int twinlog_read(struct twinlog *log, uint64_t lsn, void *data, size_t room,
                 struct twinlog_record *ret_record);

/* ---- initial values ---------------------------------------------------------------------------- */

/* clang-format off */
#define TWINLOG_OPTIONS_INIT \
    { sizeof(struct twinlog_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define TWINLOG_TERMS_INIT { sizeof(struct twinlog_terms), 0, 0, 0, 0, 0 }
#define TWINLOG_COMMITTER_OPTIONS_INIT { sizeof(struct twinlog_committer_options), 0 }
#define TWINLOG_TRIM_OPTIONS_INIT { sizeof(struct twinlog_trim_options), 0, 0, 0, 0, 0 }
#define TWINLOG_TRIM_RESULT_INIT { sizeof(struct twinlog_trim_result), 0, 0, 0, 0, 0, 0, "" }
#define TWINLOG_READER_OPTIONS_INIT { sizeof(struct twinlog_reader_options), 0, 0, 0, 0 }
#define TWINLOG_CONSUMER_OPTIONS_INIT { sizeof(struct twinlog_consumer_options), 0, 0 }
/* clang-format on */

#ifdef __cplusplus
}
#endif

#endif
