/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog - looking after a log, from the process that has it open and from others: statistics,
 * inspection, verification, backup, repair. What twinlog.h says of all calls holds here, too.
 */
#ifndef TWINLOG_ADMIN_H
#define TWINLOG_ADMIN_H

#include <twinlog.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- an open log ---- */

/* Counters are 0 when the log is opened. In the shared mode they are those of all processes since
 * the first one opened the log, but for `appends` and `append_bytes`. In a mapped mode there are no
 * groups, and syncs are those of mapped bytes. The values are not taken at one instant. */
struct twinlog_stat {
    uint32_t size;
    uint32_t io;        /* enum twinlog_io in use; it may change if the options left the choice */
    uint32_t is_direct; /* 1 = direct I/O */
    uint32_t mode;      /* enum twinlog_mode */
    uint32_t epoch;
    int32_t poison;          /* 0, or the error that poisoned the log */
    uint32_t segments;       /* files with records */
    uint32_t spare_segments; /* prepared and empty */
    uint64_t first_lsn, last_lsn, written_lsn, durable_lsn;
    uint64_t file_bytes;    /* of all segment files */
    uint64_t appends;       /* records that were accepted */
    uint64_t append_bytes;  /* of their payload; twinlog_watch() tells 0 of a mapped mode */
    uint64_t groups;        /* groups that were written */
    uint64_t group_bytes;   /* of headers, records and alignment in them */
    uint64_t written_bytes; /* handed to the device for groups, in whole blocks */
    uint64_t rolls;         /* segments that were begun */
    uint64_t roll_waits;    /* appends that waited until a segment was prepared, and got it */
    /* Appends that failed. Each is counted once, in one of these five. Not counted are -EINVAL,
     * -EMSGSIZE, and the end of a wait. */
    uint64_t full_failures;      /* the disk was full: -ENOSPC */
    uint64_t read_only_failures; /* the file system was read-only: -EROFS */
    uint64_t limit_failures;     /* -EDQUOT, -EFBIG, -EMFILE, -ENFILE */
    uint64_t poison_failures; /* TWINLOG_EPOISONED, or a write or sync failed for another reason */
    uint64_t other_failures;
    uint64_t trim_failures; /* how often the retention could not look at the head, or move it */
    uint64_t trimmed_segments;
    uint64_t recycled_segments; /* of them those that were written over instead of removed */
    uint64_t syncs;             /* groups that were synced, and syncs of what was written before */
    uint64_t requests;          /* that were submitted and are not completed yet */
    char io_reason[160];        /* why this path was taken and not an earlier one */
};
#define TWINLOG_STAT_INIT twinlog_initial(twinlog_stat)
/* In a log that was opened with TWINLOG_READ_ONLY only the LSNs, the numbers of segments and
 * file_bytes are filled in. Any thread. */
int twinlog_stat(struct twinlog *log, struct twinlog_stat *ret_stat);

/* A distribution of values: each value below 8 has its own bucket, and the bucket of a larger one
 * is as wide as an eighth of the value at most. A value of 8 and more, with its highest bit at
 * position h, is in bucket 8 * (h - 2) + the three bits below the highest one. */
#define TWINLOG_BUCKETS 320u
struct twinlog_histogram {
    uint64_t count, sum, max;
    uint64_t buckets[TWINLOG_BUCKETS]; /* the last one also holds what is larger */
};
/* A value that a part `q` (0 to 1) of those counted do not exceed, to an eighth; 0 if none was
 * counted. */
uint64_t twinlog_quantile(const struct twinlog_histogram *histogram, double q);

/* Where the time went since the log was opened, in nanoseconds: of each group, and of one in
 * sample_interval of the appends of a thread. */
struct twinlog_timings {
    uint32_t size;
    uint32_t sample_interval;
    struct twinlog_histogram queue; /* from the call to the record's place in the buffer */
    struct twinlog_histogram copy;  /* the copy and its checksum */
    struct twinlog_histogram write; /* of a group; where one operation writes and syncs, both */
    struct twinlog_histogram sync;  /* where it is an operation of its own */
    struct twinlog_histogram wake;  /* from the end of the commit to the return of the writer */
    struct twinlog_histogram total; /* of an append that waits, from the call to its return */
    struct twinlog_histogram group_records, group_bytes;
};
#define TWINLOG_TIMINGS_INIT twinlog_initial(twinlog_timings)
/* Any thread.
 *
 *   -EROFS    the log was opened with TWINLOG_READ_ONLY
 *   -ENOTSUP  a log in a mapped mode, in which nothing is timed */
int twinlog_timings(struct twinlog *log, struct twinlog_timings *ret_timings);

/* The statistics and timings of a log that another process writes, as they are now, in every mode:
 * also if that process commits nothing, is stopped, or has poisoned the log (`poison`). The caller
 * must be allowed to read writer.lock, and no more. A record is counted when its group is begun.
 * io_reason stays empty, and so do the timings in a mapped mode. Either result may be NULL.
 *
 *   -ESRCH    no process writes the log
 *   -EAGAIN   a process is opening the log for writing
 *   -ENOTSUP  that process has another version of the library, or its statistics cannot be shared,
 *             as on a disk that was full when it opened the log */
int twinlog_watch(const char *dir, struct twinlog_stat *ret_stat,
                  struct twinlog_timings *ret_timings);

/* ---- a log from outside ---- */

/* What a log is, and what opening it would find; beside a writer or without one. Nothing is
 * changed. Where no process writes it, the log is synced first, unless the file system is
 * read-only: a power cut takes nothing of what is reported. */
struct twinlog_inspection {
    uint32_t size;
    uint32_t has_writer; /* 1 = a process has the log open for writing */
    uint32_t epoch;
    uint32_t segments;       /* files with records */
    uint32_t spare_segments; /* prepared and empty */
    uint32_t mode;           /* enum twinlog_mode of the writer, if there is one */
    uint64_t first_lsn;      /* 0 if there are no records */
    uint64_t last_lsn;       /* of the newest sound record; beside a writer, that readers see */
    uint64_t durable_lsn;    /* of the newest that a later marker or a live writer proves durable */
    uint64_t file_bytes;     /* of all segment files */
    uint8_t log_id[16];
    struct twinlog_report report; /* what opening it for writing would find and do */
    int32_t poison;               /* 0, or the error that poisoned the log of a live writer */
    uint32_t writer_pid;          /* 0 = several writers, or one in another PID namespace */
};
#define TWINLOG_INSPECTION_INIT twinlog_initial(twinlog_inspection)
/* The result is filled in after an error, too, as far as that is possible. What opening the log
 * would find is in its report, and is no error of this call.
 *
 *   -ENOENT   there is no such directory, or no log in it
 *   -ENOTDIR  `dir` is not a directory
 *   -EBUSY    a hundred times the log changed while it was looked at: it was trimmed or truncated,
 *             or writers came and went
 *   TWINLOG_ECORRUPT, TWINLOG_EVERSION, TWINLOG_EFOREIGN
 *             the files do not make a log */
int twinlog_inspect(const char *dir, struct twinlog_inspection *ret_inspection);

/* One file of a log, as twinlog_segments() lists them. */
enum twinlog_segment_state {
    TWINLOG_SEGMENT_SEALED = 0, /* full, with its index and footer */
    TWINLOG_SEGMENT_UNSEALED,   /* full, without its footer yet; a walk has found its records */
    TWINLOG_SEGMENT_ACTIVE,     /* the newest with records; beside a writer up to what is durable */
    TWINLOG_SEGMENT_SPARE,      /* prepared and empty */
    TWINLOG_SEGMENT_RETIRED     /* trimmed or truncated, kept for reuse */
};
struct twinlog_segment {
    uint32_t size;  /* of the structure */
    uint32_t state; /* enum twinlog_segment_state */
    uint64_t sequence;
    uint64_t file_bytes;
    uint64_t data_bytes;          /* of them those that groups use */
    uint64_t first_lsn, last_lsn; /* 0 if it has no records */
    /* The smallest and the largest time of its records. Of the active one: the times of its first
     * and its newest group. */
    int64_t first_time_ns, last_time_ns;
    int64_t created_ns;
    uint32_t incarnations; /* how often the file was recycled */
    uint32_t epoch;        /* of the newest group in it, or the one in which it was made */
    uint32_t is_mapped;    /* 1 = made in TWINLOG_MODE_MAPPED */
    uint32_t reserved;
    char file[64];
};
/* Calls `each` for every segment file, in the order of the log, with spare and retired ones last.
 * Changes nothing and syncs nothing. Errors as of twinlog_inspect(). */
int twinlog_segments(const char *dir,
                     int (*each)(void *context, const struct twinlog_segment *segment),
                     void *context);

/* Which history a log has at a record. An LSN says where a record is, and not which one it is: a
 * log that was truncated, reset, set back or copied goes on under the same LSNs. Each opening for
 * writing and each truncation begins an epoch, with a random salt.
 *
 * Two logs with the same log_id have the same records up to an LSN if `epoch` and `salt` are the
 * same there. If these are not, the logs differ: ask both for the LSN before the larger
 * first_lsn, and so on. If they are the same at n, the logs differ from n + 1 on. A copy of a
 * machine with its memory goes on in the same epoch, and cannot be told apart so. */
struct twinlog_history {
    uint32_t size;
    uint32_t epoch; /* the number of that record's epoch */
    uint32_t salt;  /* of that epoch */
    uint32_t reserved;
    uint64_t lsn;
    uint64_t first_lsn; /* where that epoch begins, or the oldest LSN that is kept */
    uint8_t log_id[16];
};
#define TWINLOG_HISTORY_INIT twinlog_initial(twinlog_history)
/* The history at the record `lsn`, which may be a filler; 0: at the newest one that the reader may
 * return. Reads up to a segment to find where the epoch begins. The reader's place stays; `data` of
 * a record that it has returned is no longer valid. Any reader, also that of a consumer.
 *
 *   -ERANGE           after the newest record that readers see, or there is none
 *   TWINLOG_ETRIMMED  it was removed from the head of the log
 *   TWINLOG_ECORRUPT  damage; the report of the reader has the place */
int twinlog_reader_history(struct twinlog_reader *reader, uint64_t lsn,
                           struct twinlog_history *ret_history);

/* `each` gets every finding, in the order of the log. */
struct twinlog_verify_options {
    uint32_t size;
    uint32_t flags;
    int (*each)(void *context, const struct twinlog_report *finding);
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_VERIFY_OPTIONS_INIT twinlog_initial(twinlog_verify_options)
/* Checks every byte of every record, and what else the format fixes. Changes nothing; syncs as
 * twinlog_inspect() does. Beside a writer it ends at the durable LSN. Returns 0 if the log is
 * sound, also with a torn tail. ret_records (may be NULL) gets the number of sound records.
 *
 *   TWINLOG_ECORRUPT  acknowledged data is damaged or missing
 *   TWINLOG_EFOREIGN  the first fault is a file of another log
 *   TWINLOG_EVERSION  the log was written by a newer version of the format
 *   -ENOENT           there is no such directory, or no log in it
 *   -EBUSY            a hundred times the log changed while it was read, as for
 *                     twinlog_inspect()
 *
 * After an error of the system `each` may have been told of damage before it. */
int twinlog_verify(const char *dir, const struct twinlog_verify_options *options,
                   uint64_t *ret_records);

/* Has the process that writes the log in `dir` remove records from the head, as twinlog_trim() with
 * before_lsn and flags of the options; other limits are -EINVAL. That process looks once a second,
 * also when it appends nothing or the disk is full; in the shared mode each one does that has a
 * thread. Returns 0 when it has done so, or its error. *ret_first_lsn (may be NULL) is then the
 * oldest record that is kept; a cursor may hold the rest.
 *
 *   -ESRCH      no process writes the log, or it has ended meanwhile: open the log, and trim it
 *   -ETIMEDOUT  not within timeout_ms; the writer does it later, unless it ends
 *   -EAGAIN     a process was opening the log all that time, or changing what it keeps, or another
 *               one has locked its file `state`: nothing was asked
 *   -EBUSY      the same for 30 s, without a limit
 *   -ENOTSUP    no memory can be shared with it
 *   -EACCES     no right to write */
int twinlog_ask_trim(const char *dir, const struct twinlog_trim_options *options, int timeout_ms,
                     uint64_t *ret_first_lsn);

/* What twinlog_trim() with the same options would do, told in *ret_result. Nothing is changed; beside a
 * writer it is what that process would do at this moment. The segments that would go are the first
 * removed_segments of those that twinlog_segments() lists. Reads as much as twinlog_inspect().
 *
 *   -EINVAL  the options ask for nothing
 *   -EBUSY   a hundred times the log changed while it was looked at
 *   others   as of twinlog_inspect(), and what opening the log would refuse with */
int twinlog_plan_trim(const char *dir, const struct twinlog_trim_options *options,
                      struct twinlog_trim_result *ret_result);

/* ---- backup, repair ---- */

enum twinlog_backup_flags {
    TWINLOG_BACKUP_COPY = 1u << 0 /* no hard links: share nothing */
};
struct twinlog_backup_options {
    uint32_t size;
    uint32_t flags; /* enum twinlog_backup_flags */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_BACKUP_OPTIONS_INIT twinlog_initial(twinlog_backup_options)
struct twinlog_backup_result {
    uint32_t size;
    uint32_t segments;
    uint64_t first_lsn, last_lsn; /* what the copy holds; 0 and 0 when the log is empty */
    uint64_t linked_bytes;        /* file bytes shared by hard links */
    uint64_t copied_bytes;
};
#define TWINLOG_BACKUP_RESULT_INIT twinlog_initial(twinlog_backup_result)
/* Makes `new_dir`, which must not exist or be empty, a log with everything that was durable in
 * `dir` when the call began, cursors and values included. It is durable on return. From any
 * process, beside a writer or without one. Sealed segments are hard links where possible, and
 * copies otherwise; neither log can change the other one through a link. A backup that was
 * interrupted is refused by every open. `ret_result` may be NULL.
 *
 *   -ENOENT     there is no log in `dir`, or no directory that is to contain `new_dir`
 *   -ENOTEMPTY  `new_dir` is not empty
 *   -EBUSY      ten times a trim or a truncation removed segments before they were copied, or a
 *               hundred times the log changed while it was looked at, as for twinlog_inspect(); or
 *               a trim has left one group, and no memory can be shared with the writer, which
 *               would say that it is durable: the next group says it, too
 *   TWINLOG_ECORRUPT, TWINLOG_EVERSION, TWINLOG_EFOREIGN
 *               the log is damaged, newer, or has a segment of another one */
int twinlog_backup(const char *dir, const char *new_dir,
                   const struct twinlog_backup_options *options,
                   struct twinlog_backup_result *ret_result);

struct twinlog_repair_options {
    uint32_t size;
    uint32_t flags;
    int (*each)(void *context, const struct twinlog_report *lost); /* as for verify */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_REPAIR_OPTIONS_INIT twinlog_initial(twinlog_repair_options)
struct twinlog_repair_result {
    uint32_t size;
    uint32_t reserved;
    uint64_t records;             /* copied */
    uint64_t lost_records;        /* known to have been there */
    uint64_t first_lsn, last_lsn; /* of the new log */
};
#define TWINLOG_REPAIR_RESULT_INIT twinlog_initial(twinlog_repair_result)
/* Copies every sound record of `dir`, with its LSN and time, and cursors and values, to a new log
 * in `new_dir`, which must not exist or be empty. Changes nothing in `dir`, which must have no
 * writer. A lost record leaves a filler, which readers skip, and `each` is called; the result is 0
 * also then. Where nothing proves that two parts are of one history, `each` gets a report with a
 * last_lsn before its first_lsn. Fillers take 1 GiB at most, or as much as the files of `dir`
 * have. What a repair that fails or is interrupted leaves is a log without its end, in which nothing
 * is damaged: rename `new_dir` when the call has returned 0. `ret_result` may be NULL.
 *
 *   -EBUSY      a process has the log open for writing
 *   -ENOENT     there is no log in `dir`, or no directory that is to contain `new_dir`
 *   -ENOTEMPTY  `new_dir` is not empty
 *   TWINLOG_ECORRUPT  nothing tells the identity of the log, or a gap would need more fillers, and
 *               `each` was told where
 *   TWINLOG_EVERSION  the log was written by a newer version of the format */
int twinlog_repair(const char *dir, const char *new_dir,
                   const struct twinlog_repair_options *options,
                   struct twinlog_repair_result *ret_result);

#ifdef __cplusplus
}
#endif

#endif
