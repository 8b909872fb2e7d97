/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog - a durable, group-committing, append-only log in a directory.
 *
 *     struct twinlog *log;
 *     if (twinlog_open("journal", NULL, &log) == 0)
 *         twinlog_append(log, data, size, NULL);      // on stable storage when it returns 0
 *
 * Each record has an LSN (log sequence number): 1, 2, 3 and so on. twinlog_admin.h has the calls
 * that look after a log, twinlog_sink.h plain files. The manual pages have examples, and each error
 * with what to do about it.
 *
 * Words.
 *
 *     record, LSN   what one append has added; its number, from 1 and without gaps
 *     filler        uses up an LSN for which there is no record; readers pass over it
 *     segment       a file that holds records. The head is the oldest record that is kept, the tail
 *                   the newest ones. A spare segment is prepared and empty, a sealed one is full and
 *                   has its index, a retired one was trimmed and waits to be used again
 *     group         the records that one write and one sync made durable; it is there whole or not
 *     level         how safe a record is: buffered, written or durable
 *     watermark     up to which LSN every record is at some level
 *     epoch         the time of one writer between two events that may take records away: an opening,
 *                   a truncation, a reset. Its random number is its salt. Two logs with one epoch and
 *                   salt at an LSN have one history up to there
 *     publish       to let readers see a record
 *     poisoned      a write or sync has failed, and the log accepts nothing until it was opened again
 *
 * Processes. One process writes a log; a second one gets -EBUSY. With TWINLOG_MODE_SHARED up to 255
 * handles write one log. Any number of processes read it. Flush requests and locks of files must
 * work; network file systems may lack locks. A log is its directory, also under another name. Once
 * the directory is removed, or all files in it, a writer is poisoned within about a second
 * (-ESTALE), and changes no file of another log that is made there; a close returns -ESTALE. So do
 * readers and consumers where the directory was removed. Where only the file `state` was exchanged
 * for that of another log, calls that need it return TWINLOG_EFOREIGN.
 *
 * Forks. In a forked child each call on a handle of the parent returns TWINLOG_EFORKED; a function
 * that returns an LSN returns 0. Closing such a handle frees nothing. fork() closes the files of
 * the handles in the child, so a child keeps no log locked.
 *
 * Signals. The library handles SIGBUS, and passes on signals that are not for it: the process
 * survives if another program shortens a mapped file. Ignore SIGXFSZ if RLIMIT_FSIZE may drop below
 * the size of an open file; writing that file then poisons the log. The library never exits,
 * and never prints, but for the line with which it aborts if an invariant of its own is broken.
 *
 * Results. A call returns 0, a count, or a negative error: -errno or a TWINLOG_E code. Any call may
 * return an error of the system that is not listed. An error leaves the outputs (ret_...) untouched
 * unless something else is said. -EINVAL: an argument is NULL that may not be, or out of range.
 *
 * Arguments. Options may be NULL. Every close accepts NULL. A field of 0 means its default, or
 * "off". `ret_report` may be NULL; when a call that it is for fails, it says why, and an open of a
 * log fills it in always. It must stay valid until the reader or consumer that has it is closed.
 * `each` and `progress` in options may be NULL. A result of `each` that is not 0 ends the call, and
 * is returned.
 *
 * Structures. One that begins with `size` is initialised with its ..._INIT macro, also an output.
 * Structures may grow, so that a program works with a newer library. A field that an older library
 * does not know must be 0 (-EINVAL otherwise), and is 0 in an output. Unknown flags and `reserved`
 * must be 0.
 *
 * Waiting. `timeout_ms` is how long this call may wait; 0 = not at all, negative = no limit.
 * `deadline_ns` is the time on CLOCK_MONOTONIC at which to give up, from twinlog_deadline(); 0 =
 * none. `lock_timeout_ms` is how long an open waits for another writer. With TWINLOG_TRY a call
 * does not wait for room.
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
 *     nothing  It did not happen.
 *     see LSN  If the LSN that was stored is 0, nothing happened. Otherwise the records were
 *              accepted. After TWINLOG_EPOISONED it is unknown what became of them. After another
 *              error they become durable unless the log fails; twinlog_wait() tells.
 *     unknown  Close the log. Opening it decides whether all of it is there, or nothing. Until
 *              something is appended, twinlog_read() of an LSN tells whether its record is there.
 *     partly   What was removed stays removed.
 *     either   The old value or the new one is there, the same one for every process.
 *
 * "append" stands for enqueue and skip, too (fillers that were written before the error stay), and
 * "truncate" for reset.
 *
 * A failed write or sync poisons the log, and is not tried again: from then on calls that append,
 * wait, sync, truncate or reset return TWINLOG_EPOISONED, whatever has failed, and nothing else
 * returns that error. Reading goes on, and so does a trim, unless a truncation has failed. `poison` of
 * twinlog_stat() in <twinlog_admin.h> has the cause, and twinlog_close(), the last call on the log,
 * returns it. A request that was accepted has one of two results: 0, or TWINLOG_EPOISONED, which is
 * "unknown".
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
#define TWINLOG_EPOISONED (-5002)  /* a write or sync has failed; close the log and open it again */
#define TWINLOG_EVERSION (-5003)   /* of a newer format, or shared by another library version */
#define TWINLOG_ETRIMMED (-5004)   /* that LSN was removed from the head of the log */
#define TWINLOG_EFORKED (-5005)    /* this handle was opened by the parent process */
#define TWINLOG_EFOREIGN (-5006)   /* a file is of another log, or a second copy */
#define TWINLOG_ETRUNCATED (-5007) /* records that this reader returned were truncated; seek */

/* One English phrase for any result, also for -errno. */
const char *twinlog_strerror(int error);
/* The version of the library that is running. */
const char *twinlog_version(void);

/* ---- reports ---- */

enum twinlog_finding {
    TWINLOG_FOUND_NOTHING = 0, /* nothing worth a report */
    TWINLOG_FOUND_NEW_LOG,     /* the log was created */
    TWINLOG_FOUND_CLEAN_CLOSE, /* the last writer closed the log */
    TWINLOG_FOUND_CLEAN_END,   /* the last writer did not close it; nothing was truncated */
    TWINLOG_FOUND_TORN_TAIL,   /* what was being written was truncated; it was never acknowledged */
    TWINLOG_FOUND_DAMAGE,      /* acknowledged bytes are wrong or missing */
    TWINLOG_FOUND_BAD_HEADER,  /* the header of a segment is not valid */
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
    uint64_t bytes;     /* bytes concerned; 0 = unknown, or none */
    uint64_t first_lsn; /* first LSN concerned */
    uint64_t last_lsn;  /* last LSN known to be concerned; 0 = unknown, or none */
    char file[64];      /* name of the file inside the log's directory */
    char text[192];     /* the same in words, with what to do next */
};

/* ---- opening ---- */

/* How a group of records reaches stable storage.
 *
 * By default the log takes the first path that works, but never TWINLOG_IO_URING_LINKED. Later it
 * changes to TWINLOG_IO_DSYNC as long as it measures that to be faster. TWINLOG_IO_URING,
 * TWINLOG_IO_URING_LINKED and TWINLOG_IO_DSYNC are -ENOTSUP on file systems other than ext2, ext3,
 * ext4, xfs, btrfs and tmpfs, which are known to honour them. */
enum twinlog_io {
    TWINLOG_IO_AUTO = 0,
    TWINLOG_IO_URING,        /* io_uring: one write that carries its own sync (RWF_DSYNC) */
    TWINLOG_IO_URING_LINKED, /* io_uring: one write linked to one fdatasync */
    TWINLOG_IO_DSYNC,        /* pwritev2 with RWF_DSYNC */
    TWINLOG_IO_FDATASYNC     /* pwrite, then fdatasync */
};

enum twinlog_open_flags {
    /* -ENOENT instead of creating the log. */
    TWINLOG_MUST_EXIST = 1u << 0,
    /* Begin each group in a new block of 4 KiB, so that no append overwrites a block with
     * acknowledged records, and recycle no segment: for devices that may garble what they overwrite.
     * Only an opening may overwrite such a block, if a torn group follows the last record. */
    TWINLOG_PAD = 1u << 1,
    /* Do not use direct I/O. Without this flag only small groups that readers wait for or read back
     * at once, and those that need not be durable, go through the page cache. */
    TWINLOG_BUFFERED = 1u << 2,
    /* Open only to read: appends return -EROFS. The log is not locked. Works beside a writer and on
     * a read-only file system. Cursors and values can be set where their files may be written.
     * Implies TWINLOG_MUST_EXIST. */
    TWINLOG_READ_ONLY = 1u << 3,
    /* Remove trimmed segments; never write a new segment over one of them. */
    TWINLOG_NO_RECYCLE = 1u << 4
};

/* How the file of a new segment is made. Written blocks make small commits twice as fast. */
enum twinlog_prepare {
    TWINLOG_PREPARE_WRITTEN = 0, /* zeros are written; only reserved while groups are large */
    TWINLOG_PREPARE_ALLOCATED    /* the space is reserved, the blocks are not written */
};

/* What an append waits for. twinlog(7) lists the calls that a mode does not have. */
enum twinlog_mode {
    /* An append returns when its record is on stable storage. */
    TWINLOG_MODE_DURABLE = 0,
    /* An append returns when its record is copied into a mapped segment: readers see it at once,
     * and it survives the end of this process. A power cut may remove records that were not synced,
     * or make them fillers. */
    TWINLOG_MODE_MAPPED,
    /* The same for several processes. One that dies blocks no other: its unfinished record becomes
     * a filler, which readers skip. One that is stopped blocks no append. */
    TWINLOG_MODE_SHARED
};

struct twinlog;           /* one open log, for any thread; at most 16,383 calls at a time */
struct twinlog_committer; /* commits for many logs, see below */

struct twinlog_options {
    uint32_t size;
    uint32_t flags; /* enum twinlog_open_flags */
    /* Size of the largest segment file: a multiple of 4096 from 64 KiB to 1 TiB, in the mapped
     * modes to 1 GiB. Default 64 MiB. The first segment has 512 KiB, and the next ones grow. */
    uint64_t segment_bytes;
    /* Size of each of the two buffers: a multiple of 4096 from 16 KiB to 256 MiB, and at most
     * segment_bytes - 8192. Default: 8 MiB, more if max_record_bytes needs it, less if segments are
     * small. */
    uint32_t buffer_bytes;
    /* At most buffer_bytes - 8192. Default: 4 MiB, or what fits. */
    uint32_t max_record_bytes;
    /* enum twinlog_io. A path that does not work here is -ENOTSUP. */
    uint32_t io;
    /* How long to wait for another writer; 0 = not at all. The shared mode always waits at least 1
     * s, and up to 30 s for a process that is opening or closing the log. */
    uint32_t lock_timeout_ms;
    /* Segments of the full size to prepare as soon as the log is open, at most 64. 0 = one at a
     * time, when it is going to be needed. */
    uint32_t spare_segments;
    /* enum twinlog_prepare */
    uint32_t prepare;
    /* What the open has found. Written on success and on failure. */
    struct twinlog_report *ret_report;
    /* Begin a new segment, too, when the present one has so many records, or its first one is so
     * old. They have no effect in the mapped modes. */
    uint64_t segment_records, segment_age_ms;
    /* The log removes its oldest segment as long as the rest still meets the limit. Each limit
     * works on its own. Records that a named cursor has not passed stay. 0 = the limit that is kept
     * in the log, if there is one: see TWINLOG_KEEP_BYTES below. UINT64_MAX = no limit in any case.
     *
     *   keep_records  counts LSNs: records, and fillers that stand for none (twinlog_skip(), crashes)
     *   keep_age_ms   the newest record of the segment is that much older than the newest one in
     *                 a full segment, or than now, if that is earlier. So a clock that is ahead
     *                 removes nothing before a segment is full that has records of its time, and
     *                 a log to which nothing is appended keeps what it has. A full segment with a
     *                 record of the future goes with an old full one behind it. */
    uint64_t keep_bytes, keep_records, keep_age_ms;
    /* It must outlive the log. NULL: a thread of the log, when one is needed. -EINVAL in the mapped
     * modes. */
    struct twinlog_committer *committer;
    /* A record that was accepted at a level below durable is committed after this time. See
     * twinlog_set_flush_interval(). 0 = it stays until something else commits it. */
    uint32_t flush_interval_ms;
    /* enum twinlog_mode. In the mapped modes TWINLOG_PAD and TWINLOG_READ_ONLY are -EINVAL, and
     * segments are not recycled. */
    uint32_t mode;
    /* Mapped modes: size of the first segment, a multiple of 4096 of at least max_record_bytes +
     * 28672. Each next one is twice as large, up to segment_bytes. Default: 10 MiB, or what the
     * largest record needs. */
    uint64_t mapped_bytes;
};
#define TWINLOG_OPTIONS_INIT twinlog_initial(twinlog_options)

/* Opens the log in `dir` for appending. Creates the directory and the log if there is none; the
 * directory that contains `dir` must exist. Any thread.
 *
 * It recovers the log first: a torn tail is truncated and reported, and the rest is synced. On
 * return every record up to twinlog_last_lsn() is durable, and no other process can write the log
 * until it is closed or this process ends. Joining a log that others have open in
 * TWINLOG_MODE_SHARED recovers nothing and syncs nothing, and keeps only writers of other modes
 * away.
 *
 *   -EBUSY      another writer has the log (its PID is in the report, unless several share the log
 *               or it is of another namespace), or the last write of a dead one has been on its way
 *               for 30 s
 *   -ENOENT     the directory that contains `dir` is missing; or there is no log, and
 *               TWINLOG_MUST_EXIST is set
 *   -ENOTEMPTY  there are other files in `dir`, and no log
 *   -ENOTDIR    `dir` is not a directory
 *   -EMLINK     a file that would be written has a second name, as in a copy made of hard links
 *   -ENOTSUP    `io` or `mode` does not work here
 *   -EUSERS     255 handles share the log
 *   -EOVERFLOW  the numbers of its records, segments or epochs are used up
 *   -EFBIG      RLIMIT_FSIZE is below the size of a segment that this process would write
 *   -EINVAL     an option is out of range
 *   TWINLOG_ECORRUPT, TWINLOG_EVERSION, TWINLOG_EFOREIGN
 *               the log was left as it was; the report says what is wrong, and what to do */
int twinlog_open(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log);

/* Waits for the calls on `log` that other threads are in, makes what was accepted durable, marks
 * the log as closed, and frees it. Begin no call on the log once the close has begun. Close the
 * readers that are attached to it before.
 *
 * Returns 0, or the error that kept a record from being durable, or the note that the log was
 * closed; of a poisoned log the cause. A disk that is too full for that note alone is no error. The
 * handle is gone in each case but these:
 *
 *   -EBUSY           readers are attached: nothing happened, and the log is as before
 *   TWINLOG_EFORKED  the parent process has opened it: nothing is freed */
int twinlog_close(struct twinlog *log);

/* ---- appending ---- */

/* Appends one record of `size` bytes, of which there may be 0; `data` may be NULL then. Returns
 * when the record and every record before it are on stable storage; in a mapped mode when it is
 * copied. Threads that call it at the same time share one write and one sync. Any thread. Allocates
 * nothing, unless no segment was prepared. Not a cancellation point.
 *
 * `ret_lsn` may be NULL; it gets the LSN, also after an error: 0 then means that nothing happened.
 *
 *   -EMSGSIZE   larger than max_record_bytes
 *   -ESHUTDOWN  the log is being closed
 *   TWINLOG_EPOISONED
 *               a write or sync has failed: of this record if it has an LSN, an earlier one if not
 *   -ENOSPC, -EDQUOT, -EFBIG, -EMFILE, ...
 *               no file could be made for the next segment. Nothing happened, and the same call
 *               works again when one can be made. With an LSN, which TWINLOG_MODE_SHARED alone
 *               gives then: the record is there, and this process had no descriptor or memory to
 *               make it durable. twinlog_wait() tries that again */
int twinlog_append(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);

/* Appends at TWINLOG_LEVEL_BUFFERED: waits for the disk only if both buffers are full. Errors as of
 * twinlog_append(). */
int twinlog_enqueue(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);

/* How safe a record is. Each level from buffered on includes the ones before it. A record below
 * durable may be lost until a wait, a sync, a close, a durable append or flush_interval_ms makes it
 * durable. */
enum twinlog_level {
    TWINLOG_LEVEL_OF_MODE = 0, /* as twinlog_append(): durable, or written in a mapped mode */
    TWINLOG_LEVEL_BUFFERED,    /* in the memory of this process, and lost with it; in a mapped mode
                                * the same as written */
    TWINLOG_LEVEL_WRITTEN,     /* in the kernel: survives this process, but no power cut */
    TWINLOG_LEVEL_DURABLE      /* on stable storage: survives a power cut */
};

/* One record to be appended. Zero what is not used. */
struct twinlog_entry {
    const void *data;           /* read before the call returns; NULL with pieces, or for 0 bytes */
    size_t size;                /* of `data` */
    const struct iovec *pieces; /* instead of `data`: the record in pieces, in this order */
    uint32_t piece_count;
    uint16_t tag; /* a number of the caller, which readers return */
    uint8_t type; /* another one */
    uint8_t reserved;
    int64_t time_ns; /* CLOCK_REALTIME, since 1970; 0 = the log takes the time */
};

enum twinlog_append_flags {
    /* -EAGAIN instead of waiting for room. A queue tells when it is worth another try: see
     * twinlog_queue_listen(). Where the next segment is needed and is not there, the call has one
     * made and returns -EAGAIN; but if the last attempt has failed less than 0.1 s ago, its error,
     * as -ENOSPC. After that error no queue tells anything: try again after a pause. */
    TWINLOG_TRY = 1u << 0
};

/* The terms of a call. NULL in place of a pointer to them means 0 in each field. */
struct twinlog_terms {
    uint32_t size;
    uint32_t flags; /* enum twinlog_append_flags */
    uint32_t level; /* enum twinlog_level: when to return, or to complete */
    uint32_t reserved;
    uint64_t deadline_ns;                /* CLOCK_MONOTONIC; see "Waiting" */
    const struct twinlog_cancel *cancel; /* NULL = cannot be cancelled */
};
#define TWINLOG_TERMS_INIT twinlog_initial(twinlog_terms)

/* Appends `count` records, at least one, as a batch. They get consecutive LSNs; the first one is
 * stored in *ret_first_lsn, which may be NULL. After a crash all of them are there, or none. Each
 * takes 24 bytes and its size rounded up to a multiple of 8; together at most buffer_bytes - 8192.
 * In a mapped mode a batch has one record. Any thread.
 *
 *   -EAGAIN     TWINLOG_TRY is set, and there is no room now, or a truncation goes on
 *   -ETIMEDOUT, -ECANCELED
 *               not at `level` at the deadline, or when it was cancelled. If the LSN is 0, nothing
 *               happened
 *   -EMSGSIZE   a record or the batch is too large
 *   -ENOTSUP    more than one record in a mapped mode
 *   and the errors of twinlog_append() */
int twinlog_append_batch(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                         const struct twinlog_terms *terms, uint64_t *ret_first_lsn);

/* Makes `next_lsn` the next LSN, as a copy of a log needs where the original has gaps. Fillers use
 * up the LSNs before it, and are durable on return; readers pass over them. Returns 0 at once if
 * the log is already there. If others append meanwhile, the next LSN may be larger.
 *
 * Each filler takes 24 bytes of the log, and nothing ends the call before the last one: to pass
 * more LSNs than the disk has room for, use twinlog_reset(), which removes the records. */
int twinlog_skip(struct twinlog *log, uint64_t next_lsn);
/* The same for records that the original had, and that are lost for good: twinlog_read() and
 * twinlog_verify() tell these fillers from others. */
int twinlog_skip_lost(struct twinlog *log, uint64_t next_lsn);

/* Returns 0 when every record up to `lsn` is at `level`. Commits what is pending itself if no other
 * thread does. With a deadline that has passed it only looks. Any thread.
 *
 *   -EINVAL     that LSN was not accepted yet, or was truncated
 *   -ETIMEDOUT  not so at deadline_ns
 *   TWINLOG_EPOISONED  it is unknown until the log was closed and opened again */
int twinlog_wait(struct twinlog *log, uint64_t lsn, enum twinlog_level level, uint64_t deadline_ns);

/* Returns 0 when every record that was accepted before the call is durable. After TWINLOG_EPOISONED
 * it never returns 0 again on this handle. */
int twinlog_sync(struct twinlog *log);

/* Replaces the option flush_interval_ms of this handle: what was accepted and is not durable yet
 * becomes so within this time from now on, at the latest. 0 = off. Any thread. Does not wait for
 * the disk. The log does not keep it.
 *
 *   -EROFS  the log was opened with TWINLOG_READ_ONLY
 *   -EAGAIN, -ENOMEM  the system has no thread for it: the interval is as before */
int twinlog_set_flush_interval(struct twinlog *log, uint32_t interval_ms);

/* The time on CLOCK_MONOTONIC that is so many milliseconds from now; never 0. */
uint64_t twinlog_deadline(uint32_t timeout_ms);

/* A token of the caller's, zero at first, which must outlive the calls that have it. */
struct twinlog_cancel {
    uint32_t is_canceled;
};
/* Ends each call on `log` that has this token in its terms, also later ones. Any thread, but no
 * signal handler. */
int twinlog_cancel(struct twinlog *log, struct twinlog_cancel *cancel);

/* ---- requests ---- */

/* A batch in flight. The caller sets queue and context, and leaves the structure alone until it
 * comes back. */
struct twinlog_request {
    struct twinlog_queue *queue;  /* gets the request when it is completed */
    void *context;                /* of the caller */
    int32_t result;               /* of records: 0, or TWINLOG_EPOISONED: it is unknown whether they
                                   * are there */
    uint32_t count;               /* records; set when submit returns */
    uint64_t first_lsn;           /* set when submit returns */
    struct twinlog_request *next; /* the log's until completion, then the caller's */
    uint64_t private_word;        /* the log's */
};

/* Accepts a batch as twinlog_append_batch() does, and does not wait for its commit. If the buffers are
 * full, it waits for room, and so for the disk: a loop sets TWINLOG_TRY in the terms. After 0
 * the request is completed exactly once: when the batch is at the level of the terms, which is
 * durable or written, or when it has failed. Its queue gets it then; the requests of one log in the
 * order of their LSNs. The queue listens to the log from then on. The deadline and the token of the
 * terms apply to the wait for room only. Allocates nothing, but for a queue that is new to the log.
 * Any thread.
 *
 *   -ENOMEM   no memory to note the queue
 *   -EINVAL   the request has no queue, or the level is TWINLOG_LEVEL_BUFFERED
 *   -ENOTSUP  a log in a mapped mode
 *   and the errors of twinlog_append_batch(): nothing happened, and the request is not completed */
int twinlog_submit(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                   const struct twinlog_terms *terms, struct twinlog_request *request);

/* Requests without records: each makes the call of its name, for a loop that must not wait for the
 * disk. A thread of the log does that, which the first of them starts, for one after the other. After
 * 0 the request is completed exactly once, at the latest by a close: `result` is what the call has
 * returned, `count` and `first_lsn` are 0. They are completed in their own order, and each when
 * the work of its call alone is done: a change that must not come before a record says so by durable_lsn.
 * Any thread, in any mode; what `change` points to is copied. A snapshot of one's own is complete
 * with a change that sets its name and trims, and nothing of that waits in the loop.
 *
 *   -EINVAL   the request has no queue; or `change` is not one that can be copied
 *   -ENOMEM, -EAGAIN  no memory, or no thread, for it
 *   after each of these nothing happened, and the request is not completed
 *
 * A truncation removes what was accepted before it was submitted, also by calls that had begun before,
 * and nothing else: until its request is completed, a call that begins accepts no record. An append or
 * a submit waits for that; with TWINLOG_TRY it is -EAGAIN, and news tells the end. -ENOTSUP in the
 * mapped modes, -EROFS on a log that only reads. There is none for twinlog_reset(). */
int twinlog_submit_sync(struct twinlog *log, struct twinlog_request *request);
int twinlog_submit_truncate(struct twinlog *log, uint64_t last_lsn,
                            struct twinlog_request *request);
struct twinlog_change; /* below */
int twinlog_submit_change(struct twinlog *log, const struct twinlog_change *change,
                          struct twinlog_request *request);

/* Completed requests in the order of their completion, for any number of logs and threads. */
struct twinlog_queue;
int twinlog_queue_open(struct twinlog_queue **ret_queue);

/* Fetches up to `max` completed requests into the array. Waits for the first, or for news (see
 * twinlog_queue_listen()), `timeout_ms` at most; negative = no limit, 0 = does not wait. Returns
 * the number of requests: also 0, when the time is over, or when there was only news (after which
 * the descriptor is readable once more, if the queue was given to a committer).
 *
 * If the queue has a committer without a thread, this call does its work first: it publishes what
 * has become durable, completes requests, and begins the next groups. Nothing of that waits for the
 * disk, but on a frozen file system what is published may wait for the thaw; so may a thread that
 * waits for one of its logs, whatever its terms. A loop polls after it has submitted, until there is
 * nothing, and only then waits:
 *
 *     for (;;) {
 *         take_what_has_come();       // and submit it
 *         while ((count = twinlog_queue_poll(queue, done, 64, 0)) > 0)
 *             answer(done, count);    // and submit what had found no room
 *         epoll_wait(...);            // 200 ms at most while submits return -ENOSPC
 *     }
 *
 * Open the queue, the committer and the logs in this order, then ask for the descriptor; close the
 * logs, the committer and the queue. Another order is -EBUSY.
 *
 * A thread that waits in an append, a wait, a sync, a truncation, a reset or a close of one of the
 * logs does the same work meanwhile, so that a busy loop holds up no other thread. What nobody
 * polls or waits for is not flushed by flush_interval_ms either. */
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests,
                       uint32_t max, int timeout_ms);

/* A descriptor for poll, epoll or io_uring, readable while there are requests or news to fetch.
 * Only twinlog_queue_poll() may read it. It is closed with the queue.
 *
 * If the queue has a committer without a thread, it is also readable while there is work to do, as
 * when another thread has submitted, but not for what the thread that polls has submitted itself.
 * It may be readable without a reason then, and a wait of a thread that does the work may end with
 * EINTR, without a signal. Watch it level-triggered. */
int twinlog_queue_fd(struct twinlog_queue *queue);

/* The queue gets news of this log, at once and until one of the two is closed. There is news
 *
 *   when a call with TWINLOG_TRY has returned -EAGAIN, and the same call may succeed now, or get
 *   another error;
 *   when a flush by flush_interval_ms has ended, or has found nothing to do: what was accepted
 *   before it is durable, as twinlog_durable_lsn() says; and
 *   when the log has failed, also in a flush.
 *
 * News does not say which, nor of which log, and a fetch takes all of it, also one that returns
 * requests. So after each fetch try again what was refused, look at the watermark for what waits
 * for a flush, and look at `poison` of twinlog_stat() in <twinlog_admin.h>. None of these waits for
 * the disk. A queue that drives no committer is fetched from when its descriptor is readable, not
 * between a refusal and the wait. What got another error than -EAGAIN, as on a full disk, brings no
 * news: the program tries it again by a timer, such as 200 ms.
 *
 * twinlog_submit() makes its queue listen; this call is for programs that only append. Any thread.
 *
 *   -ENOMEM   no memory to note it
 *   -EROFS    a log that only reads
 *   -ENOTSUP  a log in a mapped mode
 *   TWINLOG_EFORKED  the parent process has opened one of the two */
int twinlog_queue_listen(struct twinlog_queue *queue, struct twinlog *log);

/* Frees the queue.
 *
 *   -EBUSY  a request is not completed or not fetched, a thread is in a call on the queue, or it
 *           drives a committer */
int twinlog_queue_close(struct twinlog_queue *queue);

/* One thread and one io_uring that commit for many logs, as hundreds of raft groups need. Groups of
 * different logs are written at the same time; without io_uring one by one. Or, with a queue, no
 * thread that commits, for a program with one loop: for one log or for many. Each log still has the
 * thread that prepares its segments, and one more if it gets requests without records. */
struct twinlog_committer_options {
    uint32_t size;
    uint32_t in_flight; /* writes at a time, at most 256, which is the default */
    /* The committer has no thread then: the threads of the program that poll this queue
     * do its work, see twinlog_queue_poll(). The queue must outlive it. Where the kernel refuses
     * io_uring it has a thread nevertheless. NULL: it has a thread. */
    struct twinlog_queue *queue;
};
#define TWINLOG_COMMITTER_OPTIONS_INIT twinlog_initial(twinlog_committer_options)

/*   -EBUSY  the queue drives another committer, a thread polls it, or twinlog_queue_fd() was called
 *           before: nothing happened */
int twinlog_committer_open(const struct twinlog_committer_options *options,
                           struct twinlog_committer **ret_committer);
/*   -EBUSY  logs still use it, or a thread polls its queue: nothing happened */
int twinlog_committer_close(struct twinlog_committer *committer);

/* ---- watermarks ---- */

/* Each returns an LSN, or 0 if there is none, and never waits for a commit. Where all records were
 * removed, the last three return the next LSN less one; 0 in a log that was opened with
 * TWINLOG_READ_ONLY. There they read files; where that fails they return what was found last, and
 * twinlog_reader_range() returns the error. Any thread. */
uint64_t twinlog_first_lsn(struct twinlog *log);   /* of the oldest record that is kept */
uint64_t twinlog_last_lsn(struct twinlog *log);    /* of the newest one that was accepted */
uint64_t twinlog_written_lsn(struct twinlog *log); /* of the newest that survives this process */
uint64_t twinlog_durable_lsn(struct twinlog *log); /* of the newest durable one */

/* ---- trim, truncate, reset ---- */

/* A trim removes records from the head. Of several limits the one that removes most applies.
 * Records that are not durable stay. So do those that a named cursor has not passed, unless the
 * flag is set. */
enum twinlog_trim_flags {
    TWINLOG_TRIM_PAST_CURSORS = 1u << 0 /* cursors hold nothing; those that lag move to the head */
};
struct twinlog_trim_options {
    uint32_t size;
    uint32_t flags;         /* enum twinlog_trim_flags */
    uint64_t before_lsn;    /* remove records with a smaller LSN, exactly */
    uint64_t keep_bytes;    /* remove whole segments while the others have at least so many bytes */
    uint64_t keep_records;  /* remove all but so many of the newest durable LSNs, exactly */
    int64_t before_time_ns; /* remove whole segments with only older records. CLOCK_REALTIME; may be
                               negative, as the times of records may. 0: no such limit */
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
    uint64_t first_lsn; /* of the oldest record that is kept; of the next one if none is */
    uint64_t removed_records, removed_segments;
    uint64_t removed_bytes; /* of their files: given back to the file system, or kept for reuse */
    uint64_t held_bytes;    /* of files that would have gone but for the holder */
    char holder_name[72];   /* of the cursor, or of the segment's file */
};
#define TWINLOG_TRIM_RESULT_INIT twinlog_initial(twinlog_trim_result)

/* On return every record below ret_result->first_lsn is gone for good, and whole segments are given
 * back or reused. Works on a full disk. `ret_result` may be NULL. Any thread.
 *
 *   -EINVAL  the options ask for nothing
 *   -EROFS   the log was opened with TWINLOG_READ_ONLY
 *   -EBUSY   another process was changing cursors or values for 30 s */
int twinlog_trim(struct twinlog *log, const struct twinlog_trim_options *options,
                 struct twinlog_trim_result *ret_result);

/* Removes every record with a larger LSN than `last_lsn`, as a raft follower does when its leader
 * disagrees. Records that were accepted before are made durable first. On return the removed ones
 * are gone for good, and the next append gets last_lsn + 1. 0 removes all records of a log that was
 * never trimmed. Calls that append or wait are held up meanwhile. A cursor beyond is moved back to
 * last_lsn; a reader that has returned removed records gets TWINLOG_ETRUNCATED. Any thread.
 *
 *   TWINLOG_ETRIMMED   the record last_lsn + 1 was trimmed; nothing happened
 *   TWINLOG_EPOISONED  it may have happened: opening the log again shows
 *   -ENOSPC     it needs a segment, for which there is no space; nothing happened
 *   -ENOTSUP    a log in a mapped mode; nothing happened
 *   -EROFS      the log was opened with TWINLOG_READ_ONLY
 *   -EOVERFLOW  it needs an epoch, and there is no larger number for it; nothing happened
 *   -EBUSY      another process was changing cursors or values for 30 s */
int twinlog_truncate(struct twinlog *log, uint64_t last_lsn);

/* Removes all records, as a raft follower does that has got a snapshot. `next_lsn`, from 1 to
 * INT64_MAX, is the next LSN, and every cursor goes to next_lsn - 1. Otherwise as
 * twinlog_truncate(). */
int twinlog_reset(struct twinlog *log, uint64_t next_lsn);

/* ---- cursors and values ---- */

/* Small values that are kept with the log: a cursor says up to which record a consumer has
 * finished, a value is for the caller, such as a raft vote. A change is atomic, and durable on
 * return; it costs two small synced writes. Trims, truncations and resets keep them, and may move
 * cursors. A name has 1 to 63 bytes, no NUL, and no first byte below 0x20. Any thread, also with
 * TWINLOG_READ_ONLY. The errors of all of these calls:
 *
 *   -ENOENT  there is no such name
 *   -EINVAL  no such name is allowed, or the value is too large
 *   -ENOSPC  all names and values together would have more than 1 MiB, or the disk is full
 *   -EROFS, -EACCES  the file `state` cannot be written
 *   -EBUSY   another process was changing one for 30 s
 *   TWINLOG_ECORRUPT, TWINLOG_EVERSION  the file `state` is damaged, or of a newer version */
#define TWINLOG_NAME_BYTES 64u   /* longest name, with its NUL */
#define TWINLOG_META_BYTES 4096u /* largest value */

/* The consumer `name` has finished with every record up to `lsn`. 0 puts the cursor before the
 * oldest record that is kept. Trims and the retention keep every record after `lsn`. Makes the
 * cursor if there is none.
 *
 *   -ERANGE  `lsn` is after the newest record that readers see
 *   TWINLOG_ETRIMMED  the record after `lsn` was removed */
int twinlog_cursor_set(struct twinlog *log, const char *name, uint64_t lsn);
int twinlog_cursor_get(struct twinlog *log, const char *name, uint64_t *ret_lsn);
int twinlog_cursor_remove(struct twinlog *log, const char *name);
/* Calls `each` for every cursor, in the order of the names. `each` must not call a function on the
 * log, and `name` is valid during the call. */
int twinlog_cursor_each(struct twinlog *log,
                        int (*each)(void *context, const char *name, uint64_t lsn), void *context);

/* Values that limit the log for each opening that sets no such limit itself: decimal digits, a
 * number of at least 1, or -EINVAL. A process that has the log open applies them within a minute,
 * and when it seals a segment. */
#define TWINLOG_KEEP_BYTES "twinlog.keep_bytes"
#define TWINLOG_KEEP_RECORDS "twinlog.keep_records"
#define TWINLOG_KEEP_AGE_MS "twinlog.keep_age_ms"

/* `size` may be 0, and `data` NULL then. */
int twinlog_meta_set(struct twinlog *log, const char *name, const void *data, size_t size);
/* Copies the value to `data`, which has `room` bytes and may be NULL if that is 0. `ret_size` may be
 * NULL; else it gets the size of the value, also with the error. Reads a file, and waits for no
 * commit.
 *
 *   -ENOBUFS  the value is larger than `room`; nothing was copied. TWINLOG_META_BYTES is enough.
 *   -ENOENT   there is no such value */
int twinlog_meta_get(struct twinlog *log, const char *name, void *data, size_t room,
                     size_t *ret_size);
int twinlog_meta_remove(struct twinlog *log, const char *name);
/* As twinlog_cursor_each(). */
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
    /* Remove the records with a smaller LSN; 0 = none. */
    uint64_t trim_before_lsn;
    /* Make the log durable up to this record first; 0 = only up to what is trimmed. */
    uint64_t durable_lsn;
    /* When to give up waiting until durable_lsn is durable, CLOCK_MONOTONIC; 0 = no limit. */
    uint64_t deadline_ns;
};
#define TWINLOG_CHANGE_INIT twinlog_initial(twinlog_change)

/* Changes values, cursors and the head of the log in one step, which is atomic and durable on
 * return: after a crash all of it has happened, or nothing.
 *
 * First the log becomes durable up to durable_lsn, and up to the newest record that trim_before_lsn
 * removes. So a snapshot that a program keeps in files of its own, and that stands for every record
 * up to an LSN, is complete with one call that cannot be made in a wrong order: a value with the
 * snapshot's name, and trim_before_lsn = that LSN + 1. Cursors hold records, as the edits
 * leave them, unless TWINLOG_TRIM_PAST_CURSORS is set.
 *
 * ret_result (may be NULL) is filled in if trim_before_lsn is set. Any thread; with
 * TWINLOG_READ_ONLY edits alone. Any other process sees all of the change or nothing of it.
 *
 *   -EINVAL      nothing is asked for, more than 1,024 edits, or an edit that its own call refuses
 *   -ERANGE      the log ends before durable_lsn or trim_before_lsn - 1: nothing happened
 *   -ETIMEDOUT   not durable up to there at deadline_ns: nothing happened
 *   -EROFS       a trim, or a wait, on a log that is opened for reading: nothing happened
 *   others       of twinlog_wait(): nothing happened; of twinlog_cursor_set(), twinlog_meta_set()
 */
int twinlog_change(struct twinlog *log, const struct twinlog_change *change,
                   struct twinlog_trim_result *ret_result);

/* ---- reading ---- */

/* A reader stands between two records. One thread at a time may use it; there may be any number of
 * readers. It allocates when it is opened, and for a record that is larger than any before. */
struct twinlog_reader;
struct twinlog_record {
    uint64_t lsn;
    int64_t time_ns;  /* CLOCK_REALTIME of the writer, when it was accepted */
    const void *data; /* valid until the next call on this reader; aligned to 8 */
    size_t size;
    uint16_t tag; /* as the entry had them */
    uint8_t type;
    uint32_t salt; /* of its epoch: which history it is of, see twinlog_reader_history() */
};

enum twinlog_reader_flags {
    /* Map the segments, and read them where mapping does not work: nothing is copied, and every
     * checksum is verified. If another program shortens a file, or it cannot be read, calls return
     * -EIO, and bytes of records that were returned may become zeros. */
    TWINLOG_READER_MMAP = 1u << 0,
    /* Return only what is durable, also beside a writer in a mapped mode: for records that leave
     * the machine. No power cut takes them from the log after they were returned. */
    TWINLOG_READER_DURABLE = 1u << 1
};
struct twinlog_reader_options {
    uint32_t size;
    uint32_t flags; /* enum twinlog_reader_flags */
    /* First and last LSN to return. Default: the oldest that is kept, and no limit. If from_lsn was
     * trimmed, next returns TWINLOG_ETRIMMED; if it is not written yet, next returns 0 until it is. */
    uint64_t from_lsn, to_lsn;
    struct twinlog_report *ret_report; /* of a call on the reader; must outlive it */
};
#define TWINLOG_READER_OPTIONS_INIT twinlog_initial(twinlog_reader_options)

/* Opens a reader on the log in `dir`, in any process, beside a writer or without one. It takes no
 * lock and changes nothing, and goes on while segments are added and trimmed. A record appears when
 * it is synced; in a mapped mode when it is copied. Where no process writes the log, records are
 * synced before they are returned, unless the file system is read-only. A reader that is open when
 * the writer is killed gets what that one has left: see twinlog_reader_next().
 *
 *   -ENOENT   there is no such directory, or no log in it
 *   -ENOTDIR  `dir` is not a directory
 *   TWINLOG_ECORRUPT, TWINLOG_EVERSION, TWINLOG_EFOREIGN  see the report */
int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader);
/* The same through an open log, which cannot be closed before the reader is. */
int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader);

/* Each places the reader, but never before the option from_lsn, and clears an error. O(log n).
 *
 *   seek        before `lsn`, which need not be written yet; -EINVAL for 0
 *   seek_time   before the first LSN that was accepted at `time_ns` or later; after the last record
 *               if there is none
 *   seek_first  before the oldest record that is kept
 *   seek_end    after the newest durable record; in the mapped modes after the newest one */
int twinlog_reader_seek(struct twinlog_reader *reader, uint64_t lsn);
int twinlog_reader_seek_time(struct twinlog_reader *reader, int64_t time_ns);
int twinlog_reader_seek_first(struct twinlog_reader *reader);
int twinlog_reader_seek_end(struct twinlog_reader *reader);

/* Next returns the record after the reader's place, and steps over it. Previous returns the one
 * before that place, and steps back. The result is 1 for a record, and 0 if there is none now, or
 * none in the range of the options. An error is returned again until a seek. They never return
 * bytes with a wrong checksum nor, without a writer in a mapped mode, a record that is not durable.
 *
 * A writer that was killed may have left sound records that no reader has got. Next finds them when
 * it is called again after a 0; twinlog_reader_wait() finds them also with a timeout of 0.
 *
 *   TWINLOG_ECORRUPT    damage. The report has its place; sound records on the way to it came first
 *   TWINLOG_ETRIMMED    the record was removed. first_lsn of the report is the oldest one left:
 *                       twinlog_reader_seek_first()
 *   TWINLOG_ETRUNCATED  records that were returned since the last seek are gone, from first_lsn of
 *                       the report on
 *   -EBUSY              a hundred times the log changed while its end was looked for
 *   -ESTALE             the directory was removed; open what was made in its place */
int twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *ret_record);
int twinlog_reader_previous(struct twinlog_reader *reader, struct twinlog_record *ret_record);

/* What the log has now: the oldest LSN that is kept, and the newest one that a reader with these
 * flags may see, whatever from_lsn and to_lsn are; 0 and 0 if there is none.
 * TWINLOG_ECORRUPT: the end of the log is damaged, and the results are what is known. */
int twinlog_reader_range(struct twinlog_reader *reader, uint64_t *ret_first_lsn,
                         uint64_t *ret_last_lsn);

/* Waits until next would not return 0. Returns 1 then, for a record or an error, and 0 if the time
 * is over first. What a killed writer has left it finds within about a second, and before it
 * returns 0. A signal does not end it. -EINVAL: the range of the options is finished. */
int twinlog_reader_wait(struct twinlog_reader *reader, int timeout_ms);

/* A descriptor for poll, epoll or io_uring: readable from when next may return something until next
 * returns 0. Do not read from it. The first call makes it, with a thread; it is closed with the
 * reader. It is readable, too, within about a second after the writer was killed. Of a log that a
 * process writes in a mapped mode it may become readable every few milliseconds, also without a
 * record: where this process may not write writer.lock, and elsewhere for ten seconds at most after
 * the first call, or after records that have come while the program was busy with others. */
int twinlog_reader_fd(struct twinlog_reader *reader);
void twinlog_reader_close(struct twinlog_reader *reader);

/* A reader and a named cursor in one: it goes on where the last consumer of its name ended. One
 * thread at a time may use it, in any process, beside a writer in any mode or without one. */
struct twinlog_consumer;
enum twinlog_consumer_flags {
    TWINLOG_CONSUMER_FROM_END = 1u << 0, /* a new name begins after the newest record */
    TWINLOG_CONSUMER_MMAP = 1u << 1,     /* as TWINLOG_READER_MMAP */
    TWINLOG_CONSUMER_DURABLE = 1u << 2   /* as TWINLOG_READER_DURABLE */
};
struct twinlog_consumer_options {
    uint32_t size;
    uint32_t flags;                    /* enum twinlog_consumer_flags */
    struct twinlog_report *ret_report; /* of open and next; must outlive the consumer */
};
#define TWINLOG_CONSUMER_OPTIONS_INIT twinlog_initial(twinlog_consumer_options)

/* Opens the consumer after the cursor `name`, and makes that if there is none. From then on trims
 * keep what is not finished with, except with TWINLOG_TRIM_PAST_CURSORS.
 *
 *   -EBUSY   a process, maybe this one, has that consumer open
 *   -EMLINK  the file `consumers` has another name
 *   and the errors of twinlog_reader_open() and twinlog_cursor_set() */
int twinlog_consumer_open(const char *dir, const char *name,
                          const struct twinlog_consumer_options *options,
                          struct twinlog_consumer **ret_consumer);

/* As twinlog_reader_next(), but TWINLOG_ETRIMMED and TWINLOG_ETRUNCATED, which a reader returns until
 * a seek, are returned once, and the next call goes on with first_lsn of the report. After another
 * error close the consumer and open it again. */
int twinlog_consumer_next(struct twinlog_consumer *consumer, struct twinlog_record *ret_record);

/* The consumer has finished with every record up to `lsn`; 0: with all that next has returned.
 * Durable on return. A consumer that dies before it commits gets those records again.
 *
 *   -EINVAL  next has not returned that record yet
 *   TWINLOG_ETRUNCATED, TWINLOG_ETRIMMED
 *            some of these records were removed, which has moved the cursor. This call changes
 *            nothing; go on with next, which returns the same error once
 *   and the errors of twinlog_cursor_set() */
int twinlog_consumer_commit(struct twinlog_consumer *consumer, uint64_t lsn);

/* Its reader: to wait, for a descriptor, and for the range. It is closed with the consumer. What a
 * seek passes over counts as finished with at the next commit. */
struct twinlog_reader *twinlog_consumer_reader(struct twinlog_consumer *consumer);
/* Frees the consumer, and commits nothing: the next one of this name gets what was not
 * committed. */
void twinlog_consumer_close(struct twinlog_consumer *consumer);

/* Copies the record `lsn` to `data`, which has `room` bytes, and fills in *ret_record, in which
 * `data` is the same. Any thread. It sees what a reader sees.
 *
 *   -ENOBUFS  the record is larger: ret_record->size is set, ret_record->data is NULL
 *   -ERANGE   there is no such record yet, it is not durable yet, or it was truncated
 *   -ENOENT   this LSN has no record: it is a filler's
 *   -ENODATA  the record was lost for good, and a repair or a copy has marked its place
 *   TWINLOG_ETRIMMED  it was removed from the head of the log */
int twinlog_read(struct twinlog *log, uint64_t lsn, void *data, size_t room,
                 struct twinlog_record *ret_record);

#ifdef __cplusplus
}
#endif
#endif
