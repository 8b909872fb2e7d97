/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a log that is written past the page cache goes through it all the same: the groups that a reader waits for,
 * and the groups that nobody needs on the disk yet. Seen from outside: which pages the cache has, and how many bytes a
 * process has had a disk read. What a promise rests on is on the disk all the same (I10).
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RECORD_BYTES = 1000,
    WARM_UP = 40,
    RECORDS = 160, /* 40 blocks */
    SEGMENT_BYTES = 1 << 20,
    LARGE_BYTES = 128 << 10,
    BY_TURNS = 400,
    SMALL_BYTES = 8,
    OLD_RECORDS = 1400, /* more than those that count as new, and RECORDS more */
    OLD_END = 64 << 10, /* behind them, and what is read ahead of them */
    FEW_BLOCKS = 4
};

static const unsigned char bytes[1 << 20] = { 1 };

/* ---- what the kernel tells --------------------------------------------------------------------- */

/* Of the blocks of the file from `from` on, as many as are in the page cache. */
static unsigned count_cached(const char *path, off_t from, size_t size)
{
    static unsigned char pages[SEGMENT_BYTES / 4096];
    unsigned cached = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    void *view = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, from);
    ck_assert(view != MAP_FAILED);
    ck_assert_int_eq(mincore(view, size, pages), 0);
    for (size_t i = 0; i < size / 4096; i++)
        cached += pages[i] & 1;

    munmap(view, size);
    close(fd);
    return cached;
}

/* On a tmpfs, which takes O_DIRECT, all is in the cache. */
static bool is_past_cache(void)
{
    char path[300];

    snprintf(path, sizeof(path), "%s/probe", log_parent);
    const int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    void *block = aligned_alloc(4096, 4096);

    ck_assert_ptr_nonnull(block);
    memset(block, 1, 4096);
    const bool is_written = fd >= 0 && pwrite(fd, block, 4096, 0) == 4096;
    const bool is_past = is_written && count_cached(path, 0, 4096) == 0;
    free(block);
    if (fd >= 0)
        close(fd);
    unlink(path);
    return is_past;
}

static bool is_direct_here(const char *test)
{
    if (is_past_cache())
        return log_can_use(test, TWINLOG_IO_AUTO, 0);
    fprintf(stderr, "SKIP cached %s: a direct write does not go past the page cache here\n", test);
    return false;
}

/* Bytes that this process has had a device read for it; -1 where the kernel does not count them. */
static long bytes_read(void)
{
    char line[100];
    long count = -1;
    FILE *io = fopen("/proc/self/io", "re");

    while (io && fgets(line, sizeof(line), io))
        if (sscanf(line, "read_bytes: %ld", &count) == 1)
            break;
    if (io)
        fclose(io);
    return count;
}

/* ---- a reader that keeps up -------------------------------------------------------------------- */

/* Between the writer and a reader in another thread or in another process. */
struct meeting {
    _Atomic uint64_t seen_lsn; /* the newest record that the reader has returned */
    _Atomic long was_read;     /* since the warm-up, by the reader's process */
};

static struct meeting *make_meeting(void)
{
    struct meeting *meeting =
        mmap(NULL, sizeof(*meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert(meeting != MAP_FAILED);
    return meeting;
}

struct follower {
    struct meeting *meeting;
    struct twinlog_reader *reader;
};

static void *follow(void *context)
{
    const struct follower *follower = context;
    struct meeting *meeting = follower->meeting;
    struct twinlog_record record;
    long before = 0;

    while (atomic_load(&meeting->seen_lsn) < RECORDS) {
        if (twinlog_reader_wait(follower->reader, 20000) != 1)
            return NULL; /* the writer misses it */
        if (twinlog_reader_next(follower->reader, &record) != 1)
            return NULL;
        if (record.lsn == WARM_UP)
            before = bytes_read();
        if (record.lsn == RECORDS)
            atomic_store(&meeting->was_read, bytes_read() - before);
        atomic_store(&meeting->seen_lsn, record.lsn);
    }

    return NULL;
}

static void wait_for(const struct meeting *meeting, uint64_t lsn)
{
    for (unsigned tries = 0; atomic_load(&meeting->seen_lsn) < lsn; tries++) {
        ck_assert_uint_lt(tries, 200000);
        usleep(100);
    }
}

/* Each record is appended when the reader has seen the one before. */
static void append_followed(struct twinlog *log, const struct meeting *meeting, uint64_t last_lsn)
{
    uint64_t lsn = 0;

    while (lsn < last_lsn) {
        ck_assert_int_eq(twinlog_append(log, bytes, RECORD_BYTES, &lsn), 0);
        wait_for(meeting, lsn);
    }
}

static void follow_from_a_process(struct twinlog *log, struct meeting *meeting)
{
    const pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct follower follower = { .meeting = meeting };
        if (twinlog_reader_open(log_dir, NULL, &follower.reader) == 0)
            follow(&follower);
        _exit(0);
    }

    append_followed(log, meeting, RECORDS);
    wait_child(child);
}

static void follow_from_a_thread(struct twinlog *log, struct meeting *meeting)
{
    struct follower follower = { .meeting = meeting, .reader = log_attach(log, 1, 0) };
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, follow, &follower), 0);
    append_followed(log, meeting, RECORDS);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    twinlog_reader_close(follower.reader);
}

CASE("a reader keeps up", logdir_make, logdir_remove);

static const struct way {
    const char *name;
    uint32_t io;
    bool has_committer; /* shared with other logs */
    bool is_process;    /* the reader is in another one */
} ways[] = {
    { "a thread, auto", TWINLOG_IO_AUTO, false, false },
    { "a process, auto", TWINLOG_IO_AUTO, false, true },
    { "a process, ring", TWINLOG_IO_URING, false, true },
    { "a process, ring and linked syncs", TWINLOG_IO_URING_LINKED, false, true },
    { "a process, calls", TWINLOG_IO_DSYNC, false, true },
    { "a process, write and sync", TWINLOG_IO_FDATASYNC, false, true },
    { "a thread, shared committer", TWINLOG_IO_AUTO, true, false },
    { "a process, shared committer", TWINLOG_IO_AUTO, true, true },
};

TEST_EACH(it_reads_from_memory, ways)
{
    struct twinlog_committer *committer = NULL;
    struct meeting *meeting = make_meeting();

    if (!log_can_use(row->name, row->io, 0))
        return;
    if (bytes_read() < 0) {
        fprintf(stderr, "SKIP cached it_reads_from_memory: the kernel does not count what it reads\n");
        return;
    }

    if (row->has_committer && twinlog_committer_open(NULL, &committer) < 0) {
        fprintf(stderr, "SKIP cached %s: there is no ring\n", row->name);
        return;
    }

    struct twinlog *log =
        log_open(&LOG_OPTIONS(.io = row->io, .segment_bytes = SEGMENT_BYTES, .committer = committer));

    if (row->is_process)
        follow_from_a_process(log, meeting);
    else
        follow_from_a_thread(log, meeting);

    ck_assert_int_le(atomic_load(&meeting->was_read), FEW_BLOCKS * 4096);
    log_close(log);
    if (committer)
        ck_assert_int_eq(twinlog_committer_close(committer), 0);
}

/* As raft does with each entry that it has just stored. */
static void read_back(struct twinlog *log, uint64_t lsn)
{
    static unsigned char room[RECORD_BYTES];
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_read(log, lsn, room, sizeof(room), &record), 0);
    ck_assert_uint_eq(record.lsn, lsn);
}

static void append_and_read_back(struct twinlog *log, uint64_t last_lsn)
{
    uint64_t lsn = twinlog_last_lsn(log);

    while (lsn < last_lsn) {
        ck_assert_int_eq(twinlog_append(log, bytes, RECORD_BYTES, &lsn), 0);
        read_back(log, lsn);
    }
}

TEST_LOOP(what_is_read_back_by_its_lsn_comes_from_memory, sizeof(ways) / sizeof(*ways))
{
    const struct way *way = &ways[_i];
    struct twinlog_committer *committer = NULL;

    if (way->is_process || !is_direct_here(__func__))
        return;
    if (way->has_committer && twinlog_committer_open(NULL, &committer) < 0) {
        fprintf(stderr, "SKIP cached %s: there is no ring\n", way->name);
        return;
    }
    struct twinlog *log =
        log_open(&LOG_OPTIONS(.io = way->io, .segment_bytes = SEGMENT_BYTES, .committer = committer));
    append_and_read_back(log, WARM_UP);
    const long before = bytes_read();
    append_and_read_back(log, RECORDS);

    ck_assert_int_le(bytes_read() - before, FEW_BLOCKS * 4096);
    log_close(log);
    if (committer)
        ck_assert_int_eq(twinlog_committer_close(committer), 0);
}

/* ---- what the cache has ------------------------------------------------------------------------ */

CASE("what the cache has", logdir_make, logdir_remove);

static void append_some(struct twinlog *log, unsigned count, enum twinlog_level level)
{
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = level);

    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(twinlog_append_batch(log,
                                              &(struct twinlog_entry){ .data = bytes, .size = RECORD_BYTES },
                                              1, &terms, NULL),
                         0);
}

TEST(nothing_where_nobody_reads)
{
    if (!is_direct_here(__func__))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    append_some(log, RECORDS, TWINLOG_LEVEL_DURABLE);

    ck_assert_uint_le(count_cached(log_segment(1), 4096, SEGMENT_BYTES / 2), FEW_BLOCKS);
    log_close(log);
}

TEST(nothing_more_when_the_reader_has_gone)
{
    struct meeting *meeting = make_meeting();

    if (!is_direct_here(__func__))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    follow_from_a_process(log, meeting);
    const unsigned followed = count_cached(log_segment(1), 0, SEGMENT_BYTES / 2);
    append_some(log, RECORDS, TWINLOG_LEVEL_DURABLE);

    ck_assert_uint_gt(followed, 30);
    ck_assert_uint_le(count_cached(log_segment(1), 0, SEGMENT_BYTES / 2), followed + FEW_BLOCKS);
    log_close(log);
}

/* What is read far behind the writer says nothing of what will be read next. */
TEST(nothing_more_where_old_records_are_read_by_their_lsn)
{
    if (!is_direct_here(__func__))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    for (unsigned i = 0; i < OLD_RECORDS; i++)
        ck_assert_int_eq(twinlog_enqueue(log, bytes, SMALL_BYTES, NULL), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    const off_t end = OLD_END;
    for (unsigned i = 0; i < RECORDS; i++) {
        append_some(log, 1, TWINLOG_LEVEL_DURABLE);
        read_back(log, 1 + i);
    }

    ck_assert_uint_le(count_cached(log_segment(1), end, RECORDS * RECORD_BYTES), FEW_BLOCKS);
    log_close(log);
}

/* A reader would wait longer for the copy of a large group than for the disk. */
TEST(nothing_of_large_groups)
{
    struct meeting *meeting = make_meeting();

    if (!is_direct_here(__func__))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    follow_from_a_process(log, meeting);
    ck_assert_int_eq(twinlog_append(log, bytes, LARGE_BYTES, NULL), 0); /* behind 41 blocks */

    ck_assert_uint_le(count_cached(log_segment(1), 48 * 4096, LARGE_BYTES / 2), FEW_BLOCKS);
    log_close(log);
}

TEST(what_need_not_be_on_the_disk_and_the_group_that_makes_it_durable)
{
    if (!is_direct_here(__func__))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    append_some(log, RECORDS, TWINLOG_LEVEL_WRITTEN);
    append_some(log, 1, TWINLOG_LEVEL_DURABLE);
    ck_assert_uint_gt(count_cached(log_segment(1), 0, SEGMENT_BYTES / 2), 39);
    ck_assert_uint_eq(twinlog_durable_lsn(log), RECORDS + 1);

    /* and from there on past the cache again */
    append_some(log, RECORDS, TWINLOG_LEVEL_DURABLE);
    ck_assert_uint_le(count_cached(log_segment(1), 48 * 4096, SEGMENT_BYTES / 2), FEW_BLOCKS);
    log_close(log);
}

/* The sync that the write carries is the only thing that stands between what the cache has and a promise. */
TEST(a_group_that_a_reader_waits_for_fails_with_its_sync)
{
    struct meeting *meeting = make_meeting();

    if (!is_direct_here(__func__))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.io = TWINLOG_IO_DSYNC, .segment_bytes = SEGMENT_BYTES));
    follow_from_a_process(log, meeting);
    if (!forbid_if(SYS_pwritev2, EIO, 5, RWF_DSYNC)) {
        fprintf(stderr, "SKIP cached %s: no system call can be forbidden\n", __func__);
        return;
    }

    ck_assert_int_eq(twinlog_append(log, bytes, RECORD_BYTES, NULL), TWINLOG_EPOISONED);
    ck_assert_uint_eq(twinlog_durable_lsn(log), RECORDS);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}

static void expect_all(struct twinlog_reader *reader)
{
    struct tally tally = { 0 };
    const char *wrong = NULL;
    struct twinlog_record record;

    while (!wrong && twinlog_reader_next(reader, &record) == 1)
        wrong = tally_record(&tally, &record);
    ck_assert_msg(!wrong, "%s", wrong);
    ck_assert_uint_eq(tally.next[0], BY_TURNS);
    twinlog_reader_close(reader);
}

/* The same bytes are found by whichever way they are read: through the cache by a reader beside the writer, past it by
 * one without. */
TEST(what_was_appended_through_and_past_the_cache_by_turns_is_found_either_way)
{
    if (!is_direct_here(__func__))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    for (uint32_t i = 0; i < BY_TURNS; i++) {
        unsigned char one[RECORD_ROOM];
        const struct twinlog_entry entry = { .data = one, .size = (uint32_t)make_record(0, i, one) };
        const struct twinlog_terms terms =
            WITH_SIZE(terms, .level = i % 3 == 0 ? TWINLOG_LEVEL_WRITTEN : TWINLOG_LEVEL_DURABLE);
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
    }

    ck_assert_int_eq(twinlog_sync(log), 0);
    expect_all(log_reader(1, 0));
    log_kill(log);
    expect_all(log_reader(1, 0));
}
