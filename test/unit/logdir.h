/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place for a log in a temporary directory, and records that say which writer wrote them: what the suites that
 * use only the public interface begin with.
 *
 * Functions that return nothing, or a handle, assert; they are for the test's own thread.
 */
#ifndef TEST_UNIT_LOGDIR_H
#define TEST_UNIT_LOGDIR_H

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <twinlog_admin.h>

/* ---- the place --------------------------------------------------------------------------------- */

extern char log_parent[256]; /* made by logdir_make() */
extern char log_dir[300];    /* in it; opening makes this one */

void logdir_make(void);
void logdir_remove(void);
void remove_tree(const char *path);

/* The path of that file in the log's directory, in one of a few buffers that take turns. */
const char *log_file(const char *name);
/* The path of the segment of that sequence. */
const char *log_segment(uint64_t sequence);
bool log_has_file(const char *name);
unsigned log_count_files(void);
/* Copies all that is in the directory `from` to `to`, which is made. */
void copy_directory(const char *from, const char *to);
void put_file(const char *path, const void *bytes, size_t size);
/* As a process that has this lock of the file and is stopped; waits for it. Until the descriptor is closed. */
int hold_lock(const char *path, unsigned which, short type);
void patch_file(const char *path, off_t offset, const void *bytes, size_t size);

/* Names, sizes and bytes of all that is in the log's directory, as one number; the file writer.lock may
 * be left out. */
uint64_t log_fingerprint(bool with_lock_file);
uint64_t log_segment_bytes(void); /* sizes of all segment files */
/* Descriptors of segments that this process has, also of those that were removed. */
unsigned log_count_open_segments(void);

/* ---- paths ------------------------------------------------------------------------------------- */

#define LOG_IO_KINDS 5 /* enum twinlog_io */
const char *log_io_name(uint32_t io);

/* Whether a log can be opened with these options in this place; else says on standard error that `test`
 * is skipped, and why. */
bool log_can_use(const char *test, uint32_t io, uint32_t flags);

/* ---- opening ----------------------------------------------------------------------------------- */

extern struct twinlog_report log_report; /* of the last opening below */

/* With WITH_SIZE() of suites.h. */
#define LOG_OPTIONS(...) WITH_SIZE(options, .ret_report = &log_report, __VA_ARGS__)

/* A flag for these openings: the log starts no thread of its engine, as on the simulated disk. */
#define LOG_NO_THREADS (1u << 30)

struct twinlog_options log_options(uint32_t io, uint32_t flags); /* with ret_report = &log_report */
int log_try(const struct twinlog_options *options, struct twinlog **ret_log); /* as twinlog_open() */
struct io;
int log_try_on(struct io *io, const struct twinlog_options *options, struct twinlog **ret_log);
struct twinlog *log_open(const struct twinlog_options *options); /* NULL: as log_options(0, 0) */
int log_open_error(const struct twinlog_options *options);       /* asserts that there is one */
void log_close(struct twinlog *log);
void log_kill(struct twinlog *log); /* leaves what a killed writer does */
struct twinlog_stat log_stat(struct twinlog *log);
struct twinlog_inspection log_inspect(void);
struct twinlog_trim_result log_trim(struct twinlog *log, const struct twinlog_trim_options *options);
struct twinlog_trim_result log_trim_before(struct twinlog *log, uint64_t lsn);
struct twinlog_reader *log_reader(uint64_t from_lsn, uint64_t to_lsn); /* from outside */
struct twinlog_reader *log_attach(struct twinlog *log, uint64_t from_lsn, uint64_t to_lsn);
/* Asserts that the next records are those. */
void reader_expect(struct twinlog_reader *reader, uint64_t first_lsn, uint64_t last_lsn);
/* And that no more come. */
void reader_expect_last(struct twinlog_reader *reader, uint64_t first_lsn, uint64_t last_lsn);
#define LOG_READER_KINDS 4
extern const struct log_reader_kind {
    const char *name; /* for TEST_EACH() */
    bool is_attached; /* else it reads from outside */
    uint32_t flags;
} log_reader_kinds[LOG_READER_KINDS];
struct twinlog_reader *log_reader_of_kind(struct twinlog *log, const struct log_reader_kind *kind);

/* ---- records ----------------------------------------------------------------------------------- */

#define RECORD_MIN_BYTES 16u
#define RECORD_ROOM 8192u
#define LOG_WRITERS 64u

/* Record `sequence` of a writer, RECORD_MIN_BYTES to RECORD_ROOM long. Returns its size. */
size_t make_record(uint32_t writer, uint32_t sequence, unsigned char bytes[RECORD_ROOM]);
/* Both append in the caller's thread. */
int append_record(struct twinlog *log, uint32_t writer, uint32_t sequence, uint64_t *ret_lsn);
int enqueue_record(struct twinlog *log, uint32_t writer, uint32_t sequence, uint64_t *ret_lsn);
uint64_t append_records(struct twinlog *log, uint32_t writer, uint32_t from, uint32_t count); /* last LSN */

/* What was found so far: LSNs from 1, each writer's sequences from 0, no gaps. */
struct tally {
    uint64_t last_lsn;
    uint32_t next[LOG_WRITERS];
};

/* NULL if the record continues the tally, which then includes it; else what is wrong. Any thread. */
const char *tally_record(struct tally *tally, const struct twinlog_record *record);
/* Reads on to the end: the number of records, or a negative error. Any thread; *ret_wrong as above. */
int64_t tally_rest(struct tally *tally, struct twinlog_reader *reader, const char **ret_wrong);

/* Reads all from outside, verifies, and asserts that both find the records of the tally they return. */
struct tally log_check(void);

/* ---- threads, processes and chance ------------------------------------------------------------- */

pthread_t start_thread(void *(*body)(void *context), void *context);

/* As fork(). The address sanitizer's allocator may be locked in a child for ever, by a thread that the child does not
 * have; so with it this waits until the other threads sleep, as those of a log do that has nothing to do. Tests with
 * threads that never sleep do not fork with that sanitizer. */
pid_t fork_quietly(void);
#define CAN_FORK_BESIDE_BUSY_THREADS (!HAS_ADDRESS_SANITIZER)

/* Runs `body` in a forked process; returns what it returned, or 128 and the signal that ended it. */
pid_t start_child(int (*body)(void));
int wait_child(pid_t child);
void wait_until_stopped(pid_t child);
int run_child(int (*body)(void));

#define CANNOT_RUN 77 /* a body returns it where the system lacks what it needs */
/* Asserts that it has succeeded, or says on standard error that `test` is skipped, and why. True if it ran. */
bool expect_success_or_skip(int result, const char *test, const char *why);

/* Of root, in a child: a user without rights. */
bool become_nobody(void);
/* Lets others into the directory of the test. If they may not enter one that it lies in, says so and returns false. */
bool can_nobody_enter(const char *test);
/* Lets this process have so many files open. False: its hard limit forbids it, and `test` is said to be skipped. */
bool allow_files(unsigned count, const char *test);

/* Does /proc show this process? Without it, what a process has cannot be counted, and no message names a pid. */
bool has_proc(void);
/* The same; if not, says on standard error that `test` is skipped. */
bool can_look_into_proc(const char *test);

/* For children and for threads, in functions that return an int. */
#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                          \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

/* The text says what to do, in these words. What follows in the test does that (test/advice.py). */
#define ADVISES(text, words) ck_assert_msg(strstr(text, words) != NULL, "the text is: %s", text)

/* A page that forked processes share. */
void *shared_page(void);
/* In a forked child: 0 if calls on the parent's log are refused. */
int log_use_forked(struct twinlog *log);

/* TWINLOG_SEED, or the time. Printed. */
uint64_t test_seed(void);

#endif
