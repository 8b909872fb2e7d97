/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog - looking after a log, from inside and outside. What twinlog.h says of all calls holds.
 */
#ifndef TWINLOG_ADMIN_H
#define TWINLOG_ADMIN_H

#include <twinlog.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- an open log ---- */
/* Counters start at open. In a mapped mode there are no groups, and syncs are of mapped bytes. */
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
    uint64_t file_bytes;    /* all segment files */
    uint64_t appends;       /* records accepted */
    uint64_t append_bytes;  /* their payload */
    uint64_t groups;        /* groups written */
    uint64_t group_bytes;   /* headers, records and alignment in them */
    uint64_t written_bytes; /* bytes handed to the device for groups */
    uint64_t rolls;         /* segments started */
    uint64_t roll_waits;    /* appends that waited until a segment was prepared, and got it */
    /* Appends that failed, one of these each; not counted: -EINVAL, -EMSGSIZE, the end of a wait. */
    uint64_t full_failures;      /* the disk was full: -ENOSPC */
    uint64_t read_only_failures; /* the file system was read-only: -EROFS */
    uint64_t limit_failures;     /* -EDQUOT, -EFBIG, -EMFILE, -ENFILE */
    uint64_t poison_failures; /* TWINLOG_EPOISONED, or a write or sync failed for another reason */
    uint64_t other_failures;
    uint64_t trim_failures; /* times that retention could not look at, or move, the head */
    uint64_t trimmed_segments;
    uint64_t recycled_segments; /* of them written over instead of removed */
    uint64_t syncs;             /* groups synced, and syncs of what was written before */
    uint64_t requests;          /* submitted and not completed yet */
    char io_reason[160];        /* why this path and not an earlier one */
};
#define TWINLOG_STAT_INIT twinlog_initial(twinlog_stat)
int twinlog_stat(struct twinlog *log, struct twinlog_stat *ret_stat);

/* Distribution of values: exact below 8, else in buckets with a width of at most an eighth of the
 * value. A value v of 8 and more, with its highest bit at position h, is in bucket 8 * (h - 2) +
 * the three bits below the highest one. */
#define TWINLOG_BUCKETS 320u
struct twinlog_histogram {
    uint64_t count, sum, max;
    uint64_t buckets[TWINLOG_BUCKETS]; /* the last one also holds what is larger */
};
/* A value that a part `q` (0 to 1) of those counted do not exceed, to an eighth; 0: there are none. */
uint64_t twinlog_quantile(const struct twinlog_histogram *histogram, double q);

/* Where the time goes, in nanoseconds, since open: of each group, and one in sample_interval appends. */
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
int twinlog_timings(struct twinlog *log, struct twinlog_timings *ret_timings);

/* Statistics and timings of a log that another process writes, as they are now, in every mode: also
 * if that process commits nothing, is stopped, or has poisoned the log (`poison`). Needs no more
 * than to read writer.lock. A record counts when its group is begun; io_reason stays empty, and so
 * do the timings but in TWINLOG_MODE_DURABLE. Either result may be NULL. -ESRCH: no writer.
 * -EAGAIN: a writer is opening the log. -ENOTSUP: it is of another version, or its statistics
 * cannot be shared, as on a disk that was full when it opened the log. */
int twinlog_watch(const char *dir, struct twinlog_stat *ret_stat,
                  struct twinlog_timings *ret_timings);

/* ---- a log from outside ---- */
/* A log from outside, also beside a live writer; changes nothing. Without a writer the log is
 * synced first, unless the file system is read-only: a power cut takes nothing of what is told. */
struct twinlog_inspection {
    uint32_t size;
    uint32_t has_writer; /* 1 = a process has the log open for writing */
    uint32_t epoch;
    uint32_t segments;       /* files with records */
    uint32_t spare_segments; /* prepared and empty */
    uint32_t mode;           /* enum twinlog_mode of the writer, if there is one */
    uint64_t first_lsn;      /* 0 when empty */
    uint64_t last_lsn;       /* newest sound; beside a writer the newest that readers see */
    uint64_t durable_lsn;    /* newest that is proved durable by a later marker or a live writer */
    uint64_t file_bytes;     /* all segment files */
    uint8_t log_id[16];
    struct twinlog_report report; /* what opening it for writing would find and do */
    int32_t poison;               /* 0, or the error that poisoned the log of a live writer */
    uint32_t writer_pid;          /* 0: several writers, or in another PID namespace */
};
#define TWINLOG_INSPECTION_INIT twinlog_initial(twinlog_inspection)
int twinlog_inspect(const char *dir, struct twinlog_inspection *ret_inspection);

/* One file of a log, as twinlog_segments() lists them. */
enum twinlog_segment_state {
    TWINLOG_SEGMENT_SEALED = 0, /* full, with its index and footer */
    TWINLOG_SEGMENT_UNSEALED,   /* left by its writer, footer to come: known by a walk through it */
    TWINLOG_SEGMENT_ACTIVE,     /* the newest with records; beside a writer as far as durable */
    TWINLOG_SEGMENT_SPARE,      /* prepared, empty */
    TWINLOG_SEGMENT_RETIRED     /* trimmed or truncated, kept for reuse */
};
struct twinlog_segment {
    uint32_t size;  /* of the structure */
    uint32_t state; /* enum twinlog_segment_state */
    uint64_t sequence;
    uint64_t file_bytes;
    uint64_t data_bytes;          /* of them used by groups */
    uint64_t first_lsn, last_lsn; /* 0 when it has no records */
    /* Smallest and largest time of its records; active: of its first and newest group. */
    int64_t first_time_ns, last_time_ns;
    int64_t created_ns;
    uint32_t incarnations; /* times the file was recycled */
    uint32_t epoch;        /* of the newest group in it, or in which it was made */
    uint32_t is_mapped;    /* 1 = made in TWINLOG_MODE_MAPPED */
    uint32_t reserved;
    char file[64];
};
/* Calls `each` for every segment file, in the order of the log, spare and retired ones last;
 * changes and syncs nothing. Errors as for twinlog_inspect(). */
int twinlog_segments(const char *dir,
                     int (*each)(void *context, const struct twinlog_segment *segment),
                     void *context);

/* Which history a log has at a record. An LSN says where a record is, not which one: a log that was
 * truncated, reset, set back or copied goes on under the same LSNs. Each opening for writing and
 * each truncation begins an epoch, with a random salt. Two logs with the same log_id have the same
 * records up to an LSN if `epoch` and `salt` are the same there. If not, they differ: ask both for
 * the LSN in front of the larger first_lsn, and so on; the same at n, they differ from n + 1 on. A
 * copy of a machine with its memory goes on in the same epoch, and is not told so. */
struct twinlog_history {
    uint32_t size;
    uint32_t epoch; /* number of the epoch of that record, */
    uint32_t salt;  /* and its salt */
    uint32_t reserved;
    uint64_t lsn;
    uint64_t first_lsn; /* where that epoch begins, or the oldest LSN that is kept */
    uint8_t log_id[16];
};
#define TWINLOG_HISTORY_INIT twinlog_initial(twinlog_history)
/* Of record `lsn`, which may be a filler; 0: the newest that the reader may return. Reads up to a
 * segment to find where the epoch begins. Leaves the reader's place as it is; data of a record
 * before is no longer valid. Any reader, also that of a consumer.
 *   -ERANGE  behind the newest record that readers see, or there is none    TWINLOG_ETRIMMED
 *            removed
 *   TWINLOG_ECORRUPT  damaged; the reader's report has the place */
int twinlog_reader_history(struct twinlog_reader *reader, uint64_t lsn,
                           struct twinlog_history *ret_history);

/* Checks every byte of every record, and what else the format fixes; changes nothing, syncs as
 * twinlog_inspect(). Stops at the durable LSN beside a live writer. Calls `each` for every finding,
 * in log order. 0: sound, also with a torn tail; TWINLOG_ECORRUPT: acknowledged data is damaged or
 * missing; TWINLOG_EFOREIGN: the first fault is a file of another log; or an error that kept it
 * from looking. ret_records (may be NULL) gets the sound records. */
struct twinlog_verify_options {
    uint32_t size;
    uint32_t flags;
    int (*each)(void *context, const struct twinlog_report *finding);
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_VERIFY_OPTIONS_INIT twinlog_initial(twinlog_verify_options)
int twinlog_verify(const char *dir, const struct twinlog_verify_options *options,
                   uint64_t *ret_records);

/* Has the process that writes the log in `dir` remove records from the head, as twinlog_trim() with
 * options->before_lsn and flags; other limits are -EINVAL. The writer looks once a second, on a
 * full disk and when it is idle, too; in the shared mode any process does that has a thread.
 * Returns 0 when it has, or its error; *ret_first_lsn (may be NULL) is then the oldest record that
 * is kept: a cursor may hold the rest. -ESRCH: no writer, or it has gone: open the log, and trim
 * it. -ETIMEDOUT: not within timeout_ms; the writer does it later, unless it ends. -EAGAIN: it was
 * opening the log all that time. -ENOTSUP: no memory can be shared. -EACCES: no right to write. */
int twinlog_ask_trim(const char *dir, const struct twinlog_trim_options *options, int timeout_ms,
                     uint64_t *ret_first_lsn);

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
/* Makes `new_dir` (must not exist, or be empty) a log with everything that was durable in `dir`
 * when the call began, cursors and values included; durable on return. From any process, beside a
 * live writer. Sealed segments are hard links where possible, else copies; neither log can change
 * the other through a link. An interrupted copy is refused by every open. -ENOTEMPTY, -EBUSY when
 * trims outran it, TWINLOG_ECORRUPT (copied bytes are checked). `ret_result` may be NULL, here and below. */
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
/* Copies every sound record of `dir`, its LSN and time, and cursors and values to a new log in
 * `new_dir` (must not exist, or be empty); changes nothing in `dir`, which must have no writer
 * (-EBUSY). A lost record leaves a filler, which readers skip, and `each` gets it; 0 also then.
 * Where nothing proves that two parts are of one history, `each` gets a report with last_lsn in
 * front of first_lsn. Fillers take 1 GiB at most, or as much as the files of `dir` have: where more
 * would be needed between records, TWINLOG_ECORRUPT, and `each` gets the place. */
int twinlog_repair(const char *dir, const char *new_dir,
                   const struct twinlog_repair_options *options,
                   struct twinlog_repair_result *ret_result);

#ifdef __cplusplus
}
#endif

#endif
