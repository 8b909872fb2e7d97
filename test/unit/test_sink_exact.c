/* SPDX-License-Identifier: Apache-2.0 */
/* Exact sinks: what include/twinlog_sink.h says of them, beside sinks of the other kind and other programs. */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "logdir.h"
#include "members.h"
#include "sinks.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

CASE("sink_exact", prepare, logdir_remove);

static struct twinlog_sink *open_exact(uint32_t flags)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(open_as(flags, &sink), 0);
    return sink;
}

static struct twinlog_sink *open_rotating(uint32_t flags, uint64_t max_bytes, uint32_t keep_files)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = flags, .max_bytes = max_bytes, .keep_files = keep_files);

    return open_sink(&options);
}

/* As `echo TEXT >>NAME`. */
static void append_as_stranger(const char *name, const char *text)
{
    const int fd = open(name, O_WRONLY | O_APPEND | O_CREAT, 0666);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* ---- bytes --------------------------------------------------------------------------------------- */

TEST(the_file_is_exact_at_every_moment)
{
    uint64_t offset = 99, end = 99;

    put_text(path, "old\n");
    struct twinlog_sink *sink = open_exact(EXACT);
    expect_text(path, "old\n");
    ck_assert_int_eq(twinlog_sink_write(sink, "new\n", 4, &offset), 0);
    ck_assert_uint_eq(offset, 4);
    expect_text(path, "old\nnew\n");
    expect_nothing_beside();
    ck_assert_int_eq(twinlog_sink_end(path, &end), 0);
    ck_assert_uint_eq(end, 8);

    ck_assert_int_eq(twinlog_sink_write(sink, NULL, 0, &offset), 0);
    ck_assert_uint_eq(offset, 8);
    close_sink(sink);
    expect_text(path, "old\nnew\n");
}

TEST(zeros_are_bytes)
{
    uint64_t end = 99;

    put_file(path, "a\0\0", 3);
    struct twinlog_sink *sink = open_exact(EXACT);
    ck_assert_int_eq(twinlog_sink_write(sink, "b\0", 2, NULL), 0);
    ck_assert_int_eq(bytes_of(path), 5);
    ck_assert_int_eq(twinlog_sink_end(path, &end), 0);
    ck_assert_uint_eq(end, 5);
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), 5);
}

TEST(pieces_come_in_one_write)
{
    const struct iovec pieces[] = { { "a", 1 }, { NULL, 0 }, { "bc", 2 }, { "\n", 1 } };
    struct twinlog_sink *sink = open_exact(EXACT);

    ck_assert_int_eq(twinlog_sink_writev(sink, pieces, 4, NULL), 0);
    expect_text(path, "abc\n");
    close_sink(sink);
}

/* A call of the system takes 1024. */
TEST(many_pieces_come_in_one_write)
{
    enum {
        PIECES = 3000
    };
    static struct iovec pieces[PIECES];
    static char want[PIECES + 1];
    struct twinlog_sink *sink = open_exact(EXACT);

    for (unsigned i = 0; i < PIECES; i++) {
        want[i] = (char)('a' + i % 26);
        pieces[i] = (struct iovec){ &want[i], 1 };
    }
    ck_assert_int_eq(twinlog_sink_writev(sink, pieces, PIECES, NULL), 0);
    expect_text(path, want);
    close_sink(sink);
}

TEST(strangers_may_append)
{
    uint64_t offset = 0;
    struct twinlog_sink *sink = open_exact(SHARED);

    put(sink, "one\n");
    append_as_stranger(path, "stranger's\n");
    ck_assert_int_eq(twinlog_sink_write(sink, "two\n", 4, &offset), 0);
    ck_assert_uint_eq(offset, 15);
    expect_text(path, "one\nstranger's\ntwo\n");
    close_sink(sink);
}

/* As logrotate's copytruncate leaves it. */
TEST(a_file_that_got_shorter_is_gone_on_with_at_its_end)
{
    struct twinlog_sink *sink = open_exact(EXACT);

    put(sink, "copied\n");
    ck_assert_int_eq(truncate(path, 0), 0);
    put(sink, "next\n");
    expect_text(path, "next\n");
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    close_sink(sink);
}

TEST(a_child_has_to_open_it_itself)
{
    struct twinlog_sink *sink = open_exact(EXACT);

    put(sink, "a\n");
    const pid_t child = fork();
    if (child == 0)
        _exit(twinlog_sink_write(sink, "b\n", 2, NULL) != TWINLOG_EFORKED ||
              twinlog_sink_sync(sink) != TWINLOG_EFORKED ||
              twinlog_sink_rotation_error(sink) != TWINLOG_EFORKED ||
              twinlog_sink_sync_error(sink) != TWINLOG_EFORKED ||
              twinlog_sink_close(sink) != TWINLOG_EFORKED);
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
    expect_text(path, "a\n");
}

static const struct kind_of_sink {
    const char *name;
    uint32_t flags;
} kinds_of_sinks[] = {
    { "mapped", MAPPED },
    { "exact", EXACT },
};

TEST_EACH(an_empty_path_names_no_file, kinds_of_sinks)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .flags = row->flags);
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(twinlog_sink_open("", &options, &sink), -ENOENT);
    ck_assert_ptr_null(sink);
}

/* ---- threads and processes ------------------------------------------------------------------------- */

#define WRITERS 4u
#define LINES 3000u

struct writer {
    struct twinlog_sink *sink;
    unsigned number;
    int rc;
};

static void *write_lines(void *context)
{
    struct writer *writer = context;
    char line[80];

    for (unsigned i = 0; i < LINES && writer->rc == 0; i++) {
        const int n = snprintf(line, sizeof(line), "%u %u %.*s|\n", writer->number, i, (int)(i % 50),
                               "..................................................");
        writer->rc = twinlog_sink_write(writer->sink, line, (size_t)n, NULL);
    }
    return NULL;
}

/* Counts the lines of each writer, which are whole and in order. */
static void count_lines(const char *name, unsigned counts[WRITERS])
{
    size_t size;
    char *bytes = read_file(name, &size), *line = bytes;

    while (line < bytes + size) {
        unsigned writer, number, dots;
        int at = 0;
        ck_assert_int_eq(sscanf(line, "%u %u %n", &writer, &number, &at), 2);
        ck_assert_uint_lt(writer, WRITERS);
        ck_assert_uint_eq(number, counts[writer]++);
        dots = (unsigned)strspn(line + at, ".");
        ck_assert_uint_eq(dots, number % 50);
        ck_assert_int_eq(strncmp(line + at + dots, "|\n", 2), 0);
        line += (unsigned)at + dots + 2;
    }
    free(bytes);
}

static void expect_all_lines(void)
{
    unsigned counts[WRITERS] = { 0 };

    for (unsigned number = 1000; number > 0; number--)
        if (bytes_of(numbered(number)) >= 0)
            count_lines(numbered(number), counts);
    count_lines(path, counts);
    for (unsigned i = 0; i < WRITERS; i++)
        ck_assert_uint_eq(counts[i], LINES);
}

static void write_with_threads(struct twinlog_sink *sink)
{
    pthread_t ids[WRITERS];
    struct writer writers[WRITERS];

    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){ sink, i, 0 };
        ids[i] = start_thread(write_lines, &writers[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(ids[i], NULL);
        ck_assert_int_eq(writers[i].rc, 0);
    }
}

TEST(threads_write_in_one_piece)
{
    struct twinlog_sink *sink = open_exact(EXACT);

    write_with_threads(sink);
    expect_all_lines();
    close_sink(sink);
}

TEST(threads_write_through_rotations)
{
    struct twinlog_sink *sink = open_rotating(EXACT, 20000, 1000);

    write_with_threads(sink);
    close_sink(sink);
    ck_assert_int_ge(bytes_of(numbered(10)), 1);
    expect_all_lines();
    expect_nothing_beside();
}

static uint64_t rotates_at; /* 0 = never */

static int write_as_process(unsigned number)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = SHARED, .max_bytes = rotates_at, .keep_files = 1000);
    struct writer writer = { NULL, number, 0 };

    EXPECT(twinlog_sink_open(path, &options, &writer.sink) == 0);
    write_lines(&writer);
    EXPECT(writer.rc == 0);
    return twinlog_sink_close(writer.sink);
}

static void write_with_processes(void)
{
    pid_t children[WRITERS];

    for (unsigned i = 0; i < WRITERS; i++)
        if ((children[i] = fork()) == 0)
            _exit(write_as_process(i) != 0);
    for (unsigned i = 0; i < WRITERS; i++)
        ck_assert_int_eq(wait_child(children[i]), 0);
}

TEST(processes_write_in_one_piece)
{
    rotates_at = 0;
    write_with_processes();
    expect_all_lines();
}

#define MOST_ROUNDS 20u

/* One of them renames the file, and the others follow it. One that has not noticed yet writes to an older file, which
 * no other process renames meanwhile: so it may take several rounds until a file was renamed twice. */
TEST(processes_rotate_together)
{
    unsigned lines = 0, rounds = 0;

    rotates_at = 50000;
    while (bytes_of(numbered(2)) < 1 && rounds < MOST_ROUNDS) {
        write_with_processes();
        rounds++;
    }

    for (unsigned number = 0; number <= 1000; number++) {
        const char *name = number > 0 ? numbered(number) : path;
        size_t size = 0;
        char *bytes = bytes_of(name) >= 0 ? read_file(name, &size) : NULL;
        for (size_t at = 0; at < size; at++)
            lines += bytes[at] == '\n';
        free(bytes);
    }
    ck_assert_uint_eq(lines, rounds * WRITERS * LINES);
    ck_assert_int_ge(bytes_of(numbered(2)), 1);
    expect_nothing_beside();
}

static int write_until_killed(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_as(EXACT, &sink) == 0);
    for (;;) {
        EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
        atomic_fetch_add(&shared->step, 1);
    }
}

/* The kernel ends a write of a killed process at the end of a page, also one of a short line. */
TEST(a_kill_costs_nothing_that_was_written)
{
    const int64_t page_bytes = sysconf(_SC_PAGESIZE);
    const pid_t child = fork();

    if (child == 0)
        _exit(write_until_killed());
    AWAIT(atomic_load(&shared->step) >= 1000);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    const int64_t bytes = bytes_of(path);
    ck_assert(bytes % (int64_t)strlen(LINE) == 0 || bytes % page_bytes == 0);
    ck_assert_int_ge(bytes / (int64_t)strlen(LINE), atomic_load(&shared->step));

    struct twinlog_sink *sink = open_exact(EXACT);
    put(sink, "more\n");
    ck_assert_int_eq(bytes_of(path), bytes + 5);
    close_sink(sink);
}

/* ---- which sinks may have it open ------------------------------------------------------------------------- */

/* What a second sink of the same file gets, in a process of its own or in this one. */
static const struct {
    uint32_t first, second;
    int rc;
} pairs[] = {
    { EXACT, EXACT, -EBUSY },
    { EXACT, SHARED, -EBUSY },
    { SHARED, EXACT, -EBUSY },
    { SHARED, SHARED, 0 },
    { EXACT, MAPPED, -EMEDIUMTYPE },
    { EXACT, MAPPED | SHARED, -EMEDIUMTYPE },
    { SHARED, MAPPED | SHARED, -EMEDIUMTYPE },
    { MAPPED, EXACT, -EMEDIUMTYPE },
    { MAPPED | SHARED, SHARED, -EMEDIUMTYPE },
    { MAPPED | SHARED, EXACT, -EMEDIUMTYPE },
};

TEST_LOOP(a_file_has_one_kind_at_a_time, sizeof(pairs) / sizeof(pairs[0]))
{
    struct twinlog_sink *first = NULL, *second = NULL;

    ck_assert_int_eq(open_as(pairs[_i].first, &first), 0);
    put(first, "a\n");
    ck_assert_int_eq(open_as(pairs[_i].second, &second), pairs[_i].rc);
    put(first, "b\n");
    if (second)
        close_sink(second);
    close_sink(first);
    expect_text(path, "a\nb\n");
    expect_nothing_beside();

    ck_assert_int_eq(open_as(pairs[_i].second, &second), 0); /* one after the other */
    put(second, "c\n");
    close_sink(second);
    expect_text(path, "a\nb\nc\n");
}

TEST(what_a_killed_mapped_sink_left_is_finished)
{
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    ck_assert_int_ge(bytes_of(path), (int64_t)(64 * KIB));
    struct twinlog_sink *sink = open_exact(EXACT);
    ck_assert_int_lt(bytes_of(path), 64);
    const int64_t bytes = bytes_of(path);
    put(sink, "behind\n");
    ck_assert_int_eq(bytes_of(path), bytes + 7);
    close_sink(sink);
}

#define OPENERS 4u

static int open_and_append(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_as(SHARED, &sink) == 0);
    atomic_fetch_add(&shared->step, 1);
    while (atomic_load(&shared->step) < (int)OPENERS) /* until all have it open */
        usleep(1000);
    EXPECT(twinlog_sink_write(sink, "behind\n", 7, NULL) == 0);
    return twinlog_sink_close(sink);
}

/* As services that are all started again. Those that finish the file are mapped sinks for a moment. */
TEST(what_a_killed_mapped_sink_left_is_finished_once)
{
    for (unsigned round = 0; round < 5; round++) {
        pid_t children[OPENERS];

        (void)unlink(path);
        ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
        atomic_store(&shared->step, 0);
        for (unsigned i = 0; i < OPENERS; i++)
            children[i] = start_child(open_and_append);
        for (unsigned i = 0; i < OPENERS; i++)
            ck_assert_int_eq(wait_child(children[i]), 0);
        ck_assert_int_eq(bytes_of(path), 4 + OPENERS * 7); /* two of the four are zeros */
        expect_nothing_beside();
    }
}

/* ---- what a mapped sink leaves beside a file that ends in a zero ------------------------------------------- */

/* Writes the bytes with a sink of that kind, which is alone and is closed. */
static void write_and_close(uint32_t flags, const char *bytes, size_t size)
{
    struct twinlog_sink *sink;

    ck_assert_int_eq(open_as(flags, &sink), 0);
    ck_assert_int_eq(twinlog_sink_write(sink, bytes, size, NULL), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    close_sink(sink);
}

static void expect_bytes(const char *bytes, size_t size)
{
    size_t found_size;
    char *found = read_file(path, &found_size);

    ck_assert_uint_eq(found_size, size);
    ck_assert_int_eq(memcmp(found, bytes, size), 0);
    free(found);
}

static bool has_area_beside(void)
{
    return access(area_of(path), F_OK) == 0;
}

/* Records that end in a NUL, of both kinds of sinks, all of which are closed. */
TEST(an_area_that_is_left_stops_no_later_exact_sink)
{
    struct twinlog_sink *sink, *other;

    write_and_close(MAPPED, "a\0", 2);
    ck_assert(has_area_beside());
    write_and_close(EXACT, "b\0", 2);
    expect_nothing_beside();
    sink = open_exact(SHARED);
    ck_assert_int_eq(open_as(SHARED, &other), 0);
    put(sink, "one\n");
    put(other, "two\n");
    close_sink(other);
    close_sink(sink);
    expect_bytes("a\0b\0one\ntwo\n", 12);
}

/* The sinks are of another boot than the next one, which cuts off zeros that were never synced. These were. */
TEST(an_area_that_is_left_has_no_bytes_of_an_exact_sink_cut_off)
{
    write_and_close(MAPPED, "a\0", 2);
    write_and_close(EXACT, "\0\0\0", 3);
    if (has_area_beside())
        spoil(SPOIL_BOOT);
    write_and_close(EXACT, "next\n", 5);
    expect_bytes("a\0\0\0\0next\n", 10);
}

/* Of a boot that has ended, a close counts for nothing: the file may have its zeros still. */
TEST(a_file_that_was_closed_before_the_system_started_is_finished)
{
    write_and_close(MAPPED, "a\0", 2);
    spoil(SPOIL_BOOT);
    ck_assert_int_eq(truncate(path, 4096), 0);
    write_and_close(EXACT, "next\n", 5);
    expect_bytes("a\0next\n", 7);
    expect_nothing_beside();
}

static const struct refused_step {
    const char *name;
    int call, error;
} refused_steps[] = {
    { "the sync of the file in front of it", SYS_fdatasync, EIO },
    { "the removal", SYS_unlinkat, EACCES },
};

static const struct refused_step *refused_step;

static int open_with_refused_step(void)
{
    struct twinlog_sink *sink;

    if (!forbid(refused_step->call, refused_step->error))
        return CANNOT_RUN;
    EXPECT(open_as(EXACT, &sink) == -refused_step->error);
    return 0;
}

/* As long as the close of the mapped sink is not on the disk, the area may be needed; as long as it is there, no byte
 * may come behind it. */
TEST_EACH(an_area_that_cannot_be_taken_away_is_an_error, refused_steps)
{
    refused_step = row;
    write_and_close(MAPPED, "a\0", 2);
    if (!expect_success_or_skip(run_child(open_with_refused_step),
                                "an_area_that_cannot_be_taken_away_is_an_error", "no call can be refused"))
        return;
    ck_assert(has_area_beside());
    write_and_close(MAPPED, "b\0", 2);
    write_and_close(EXACT, "c\n", 2);
    expect_bytes("a\0b\0c\n", 6);
}

static const struct dying_step {
    const char *name;
    const char *point;
} dying_steps[] = {
    { "it has found the area", "area found" },
    { "it has synced the file", "closed file synced" },
    { "it has taken the area away", "area taken away" },
};

/* Whatever a kill leaves, the zeros of the file are data for the next one. */
TEST_EACH(a_kill_while_an_area_is_taken_away_costs_nothing, dying_steps)
{
    write_and_close(MAPPED, "a\0", 2);
    dying_flags = EXACT;
    dying_point = row->point;
    dying_signal = SIGKILL;
    ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);
    write_and_close(EXACT, "b\0", 2);
    expect_bytes("a\0b\0", 4);
    expect_nothing_beside();
}

static const struct beside_row {
    const char *name;
    const char *point;
} beside_rows[] = {
    { "the area is there", "area found" },
    { "the area is gone", "area taken away" },
};

TEST_EACH(a_mapped_sink_is_refused_while_an_area_is_taken_away, beside_rows)
{
    struct twinlog_sink *sink;

    write_and_close(MAPPED, "a\0", 2);
    dying_flags = EXACT;
    dying_point = row->point;
    dying_signal = SIGSTOP;
    const pid_t child = stop_child(die_at_point);
    ck_assert_int_eq(open_as(MAPPED, &sink), -EMEDIUMTYPE);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    ck_assert_int_eq(bytes_of(path), 2 + 2000 * (int64_t)strlen(LINE));
    expect_nothing_beside();
}

/* The exact sink has finished the file, and opens it once more: a mapped one comes in between, and is killed. */
TEST(a_mapped_sink_that_comes_and_dies_in_an_opening_leaves_no_zeros)
{
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    dying_flags = EXACT;
    dying_point = "data opened";
    points_before = 1;
    dying_signal = SIGSTOP;
    const pid_t child = stop_child(die_at_point);
    points_before = 0;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    ck_assert_int_eq(bytes_of(path), 2 * 4 + 2000 * (int64_t)strlen(LINE));
}

/* Opens a mapped sink, stops before it has the lock of the file, and later dies with its lines. */
static int stop_at_file_and_die(void)
{
    struct twinlog_sink *sink;

    wanted_point = "file found";
    signal_there = SIGSTOP;
    EXPECT(open_as(MAPPED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "mapped\n", 7, NULL) == 0);
    kill(getpid(), SIGKILL);
    return 0;
}

/* Its area is gone by then, and without one nobody knows where its lines end. */
TEST(a_mapped_sink_notices_that_an_exact_one_took_its_area_away)
{
    struct twinlog_sink *sink;

    write_and_close(MAPPED, "a\0", 2);
    const pid_t child = stop_child(stop_at_file_and_die);
    write_and_close(EXACT, "exact\n", 6);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    close_sink(sink);
    expect_bytes("a\0exact\nmapped\n", 15);
}

static void let_all_write_area(void)
{
    ck_assert_int_eq(chmod(area_of(path), 0602), 0);
}

static void link_area(void)
{
    ck_assert_int_eq(link(area_of(path), numbered(9)), 0);
}

static const struct doubtful_row {
    const char *name;
    void (*change)(void);
} doubtful_rows[] = {
    { "writable by all", let_all_write_area },
    { "with a second name", link_area },
};

/* Somebody else may have written into it that the file was closed. */
TEST_EACH(a_closed_area_that_no_sink_has_left_so_is_refused, doubtful_rows)
{
    struct twinlog_sink *sink;

    write_and_close(MAPPED, "a\0", 2);
    row->change();
    ck_assert_int_eq(open_as(EXACT, &sink), -EPERM);
    ck_assert(has_area_beside());
}

static int fail_to_sync_mapped(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_as(MAPPED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "a\0", 2, NULL) == 0);
    if (!forbid(SYS_fdatasync, EIO))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    return twinlog_sink_close(sink);
}

/* No mapped sink may call a later sync a success, so this area stays, and exact ones pass it by. */
TEST(an_area_that_remembers_a_failed_sync_stays_beside_exact_sinks)
{
    static const char test[] = "an_area_that_remembers_a_failed_sync_stays_beside_exact_sinks";
    struct twinlog_sink *sink;

    if (!expect_success_or_skip(run_child(fail_to_sync_mapped), test, "no call can be refused"))
        return;
    write_and_close(EXACT, "b\0", 2);
    write_and_close(EXACT, "c\n", 2);
    expect_bytes("a\0b\0c\n", 6);
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    close_sink(sink);
}

/* From here on nothing tells this process which boot it is in: it sees no /proc, and gets no eventfd. It opens the file
 * by a relative path. */
static bool forget_boot(void)
{
    char directory[sizeof(path)];

    snprintf(directory, sizeof(directory), "%s", path);
    *strrchr(directory, '/') = '\0';
    if (chdir(directory) < 0 || (mkdir("jail", 0700) < 0 && errno != EEXIST) || chroot("jail") < 0)
        return false;
    return forbid(SYS_eventfd2, EPERM);
}

static int open_relative(uint32_t flags, struct twinlog_sink **ret_sink)
{
    const struct twinlog_sink_options options = options_of(flags);

    return twinlog_sink_open(strrchr(path, '/') + 1, &options, ret_sink);
}

static int fail_to_sync_in_unknown_boot(void)
{
    struct twinlog_sink *sink;

    if (!forget_boot())
        return CANNOT_RUN;
    EXPECT(open_relative(MAPPED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "a\n", 2, NULL) == 0);
    if (!forbid(SYS_fdatasync, EIO))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    return twinlog_sink_close(sink);
}

static int go_on_in_unknown_boot(void)
{
    struct twinlog_sink *sink;

    if (!forget_boot())
        return CANNOT_RUN;
    EXPECT(open_relative(EXACT, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "b\n", 2, NULL) == 0);
    return twinlog_sink_close(sink);
}

/* The area stays, and no boot says that it is of a file that was closed. The exact sink has just closed the file. */
TEST(a_failed_sync_in_a_boot_that_is_not_known_stops_no_exact_sink)
{
    static const char test[] = "a_failed_sync_in_a_boot_that_is_not_known_stops_no_exact_sink";
    struct twinlog_sink *sink;

    if (!expect_success_or_skip(run_child(fail_to_sync_in_unknown_boot), test,
                                "no call can be refused, or no root"))
        return;
    ck_assert(has_area_beside());
    ck_assert_int_eq(run_child(go_on_in_unknown_boot), 0);
    expect_text(path, "a\nb\n");

    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    close_sink(sink);
}

TEST(zeros_of_a_mapped_sink_that_nobody_knows_are_asked_about)
{
    struct twinlog_sink *sink;

    does_sync = false;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    spoil(SPOIL_BOOT);
    const int64_t bytes = bytes_of(path);
    ck_assert_int_eq(open_as(EXACT, &sink), -EUCLEAN);
    ck_assert_int_eq(bytes_of(path), bytes);
    ck_assert_int_eq(open_as(EXACT | TWINLOG_SINK_DROP_ZEROS, &sink), 0);
    ck_assert_int_lt(bytes_of(path), 64);
    close_sink(sink);
}

/* ---- what cannot be written ------------------------------------------------------------------------ */

static int write_with_limit(void)
{
    const struct rlimit limit = { 10, RLIM_INFINITY };
    struct twinlog_sink *sink;
    char bytes[20];

    signal(SIGXFSZ, SIG_DFL);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "123456\n", 7, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, "7890\n", 5, NULL) == -EFBIG);
    EXPECT(twinlog_sink_write(sink, "78\n", 3, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, "9", 1, NULL) == -EFBIG);
    const int fd = open(path, O_RDONLY); /* read_file() tells the program about its checks in a file */
    EXPECT(read(fd, bytes, sizeof(bytes)) == 10 && memcmp(bytes, "123456\n78\n", 10) == 0);
    close(fd);
    return twinlog_sink_close(sink);
}

TEST(a_limit_of_the_process_is_an_error)
{
    ck_assert_int_eq(run_child(write_with_limit), 0);
}

static int mount_small(void)
{
    const bool is_there = unshare(CLONE_NEWNS) == 0 &&
                          mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                          mount("none", log_dir, "tmpfs", 0, "size=64k") == 0;

    return is_there ? 0 : CANNOT_RUN;
}

static unsigned handled; /* how often the handler of SIGXFSZ was called */

static void handle(int unused)
{
    (void)unused;
    handled++;
}

/* A process with a limit writes, and behind its look at the size of the file another one makes that longer. */
static const struct limit_row {
    const char *name;
    size_t room; /* that the other one leaves */
    bool has_handler, blocks, was_pending, is_full;
} limit_rows[] = {
    { .name = "no room is left" },
    { .name = "room for a part, and none for the newline behind it", .room = 3 },
    { .name = "the program has a handler", .has_handler = true },
    { .name = "the program blocks the signal", .blocks = true },
    { .name = "a signal was pending before", .blocks = true, .was_pending = true },
    { .name = "the disk was full before", .is_full = true },
};

static const struct limit_row *limit_row;

#define LIMIT_BYTES 1000u

static void *write_with_signal(void *context)
{
    struct twinlog_sink *sink = context;
    sigset_t set, now;

    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    if (limit_row->blocks)
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (limit_row->was_pending)
        pthread_kill(pthread_self(), SIGXFSZ);
    if (twinlog_sink_write(sink, LINE, strlen(LINE), NULL) != -EFBIG)
        return "the write";

    pthread_sigmask(SIG_BLOCK, NULL, &now);
    if (sigismember(&now, SIGXFSZ) != limit_row->blocks)
        return "the mask";
    sigpending(&now);
    if (sigismember(&now, SIGXFSZ) != limit_row->was_pending)
        return "what is pending";
    return NULL;
}

static int reach_limit_meanwhile(void) NO_THREAD_SAFETY_ANALYSIS
{
    const struct rlimit limit = { LIMIT_BYTES, RLIM_INFINITY };
    static const char filler[LIMIT_BYTES];
    struct twinlog_sink *sink, *other;
    void *wrong;

    if (mount_small() != 0)
        return CANNOT_RUN;
    signal(SIGXFSZ, limit_row->has_handler ? handle : SIG_DFL);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(open_as(SHARED, &sink) == 0);
    EXPECT(open_as(SHARED, &other) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    sink->exact->is_full = limit_row->is_full;

    signal_there = 0;
    wanted_point = "exact limit seen";
    const pthread_t thread = start_thread(write_with_signal, sink);
    AWAIT(atomic_load(&shared->was_there));
    const int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    const ssize_t size = (ssize_t)(LIMIT_BYTES - limit_row->room - strlen(LINE));
    EXPECT(write(fd, filler, (size_t)size) == size);
    close(fd);
    atomic_store(&shared->step, 1);
    pthread_join(thread, &wrong);
    if (wrong)
        fprintf(stderr, "not as it should be: %s\n", (const char *)wrong);
    EXPECT(!wrong && handled == 0);
    EXPECT(bytes_of(path) == LIMIT_BYTES);
    EXPECT(twinlog_sink_close(other) == 0);
    return twinlog_sink_close(sink);
}

TEST_EACH(a_limit_that_others_reach_first_raises_no_signal, limit_rows)
{
    limit_row = row;
    expect_success_or_skip(run_child(reach_limit_meanwhile),
                           "a_limit_that_others_reach_first_raises_no_signal",
                           "no such file system can be mounted");
}

#define BLOCK 24000u

static char block[BLOCK]; /* of one line */

static int fill(struct twinlog_sink *sink)
{
    memset(block, 'x', BLOCK - 1);
    block[BLOCK - 1] = '\n';
    EXPECT(twinlog_sink_write(sink, block, BLOCK, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, block, BLOCK, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, block, BLOCK, NULL) == -ENOSPC);
    EXPECT(twinlog_sink_write(sink, block, BLOCK, NULL) == -ENOSPC);
    return 0;
}

/* The kernel takes a part, which is taken back. */
static int write_to_full_disk(uint32_t flags)
{
    struct twinlog_sink *sink;

    if (mount_small() != 0)
        return CANNOT_RUN;
    put_text(numbered(1), "in the way\n");
    EXPECT(open_as(flags, &sink) == 0);
    EXPECT(fill(sink) == 0);
    EXPECT(bytes_of(path) == 2 * BLOCK);
    EXPECT(twinlog_sink_write(sink, "small\n", 6, NULL) == 0); /* it has room */
    EXPECT(truncate(path, BLOCK) == 0);
    EXPECT(twinlog_sink_write(sink, block, BLOCK, NULL) == 0);
    EXPECT(bytes_of(path) == 2 * BLOCK);
    return twinlog_sink_close(sink);
}

static int write_to_full_disk_alone(void)
{
    return write_to_full_disk(EXACT);
}

static int write_to_full_disk_shared(void)
{
    return write_to_full_disk(SHARED);
}

TEST(a_full_disk_leaves_no_part_of_a_line)
{
    expect_success_or_skip(run_child(write_to_full_disk_alone), "a_full_disk_leaves_no_part_of_a_line",
                           "no such file system can be mounted");
}

TEST(a_full_disk_leaves_no_part_of_a_line_of_the_only_process)
{
    expect_success_or_skip(run_child(write_to_full_disk_shared),
                           "a_full_disk_leaves_no_part_of_a_line_of_the_only_process",
                           "no such file system can be mounted");
}

/* Another program may be about to append there. */
static int refuse_beside_a_stranger(void) NO_THREAD_SAFETY_ANALYSIS
{
    struct twinlog_sink *sink;
    struct stat before, after;

    if (mount_small() != 0)
        return CANNOT_RUN;
    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    const int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 32 << 10) == 0);
    EXPECT(fstat(fd, &before) == 0);

    sink->exact->is_full = true;
    if (!forbid(SYS_fallocate, ENOSPC))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == -ENOSPC);
    EXPECT(fstat(fd, &after) == 0);
    EXPECT(after.st_size == before.st_size && after.st_blocks == before.st_blocks);
    close(fd);
    return twinlog_sink_close(sink);
}

TEST(a_write_that_is_refused_cuts_nothing_off)
{
    expect_success_or_skip(run_child(refuse_beside_a_stranger), "a_write_that_is_refused_cuts_nothing_off",
                           "no such file system can be mounted, or no call can be refused");
}

/* It may not be taken back: the other one may write behind it. */
static int write_beside_another(void)
{
    struct twinlog_sink *sink, *other;

    if (mount_small() != 0)
        return CANNOT_RUN;
    EXPECT(open_as(SHARED, &sink) == 0);
    EXPECT(open_as(SHARED, &other) == 0);
    put_text(numbered(1), block);
    EXPECT(fill(sink) == 0);
    const int64_t torn = bytes_of(path);
    EXPECT(torn > 2 * (int64_t)BLOCK && torn < 3 * (int64_t)BLOCK);
    EXPECT(mount("none", log_dir, NULL, MS_REMOUNT, "size=256k") == 0);

    EXPECT(twinlog_sink_write(sink, block, BLOCK, NULL) == 0); /* all of it, behind a newline */
    EXPECT(bytes_of(path) == torn + 1 + (int64_t)BLOCK);
    EXPECT(twinlog_sink_close(other) == 0);
    return twinlog_sink_close(sink);
}

TEST(a_part_of_a_line_beside_others_stays_and_the_line_comes_again)
{
    expect_success_or_skip(run_child(write_beside_another),
                           "a_part_of_a_line_beside_others_stays_and_the_line_comes_again",
                           "no such file system can be mounted");
}

static int write_something_else(void)
{
    struct twinlog_sink *sink, *other;
    size_t size;

    if (mount_small() != 0)
        return CANNOT_RUN;
    EXPECT(open_as(SHARED, &sink) == 0);
    EXPECT(open_as(SHARED, &other) == 0);
    EXPECT(fill(sink) == 0);
    const size_t torn = (size_t)bytes_of(path);
    EXPECT(mount("none", log_dir, NULL, MS_REMOUNT, "size=256k") == 0);

    EXPECT(twinlog_sink_write(sink, "whole\n", 6, NULL) == 0);
    char *bytes = read_file(path, &size);
    EXPECT(size == torn + 7 && memcmp(bytes + torn, "\nwhole\n", 7) == 0);
    free(bytes);
    EXPECT(twinlog_sink_close(other) == 0);
    return twinlog_sink_close(sink);
}

TEST(a_part_of_a_line_beside_others_has_a_line_of_its_own)
{
    expect_success_or_skip(run_child(write_something_else),
                           "a_part_of_a_line_beside_others_has_a_line_of_its_own",
                           "no such file system can be mounted");
}

/* ---- lines that somebody has left without their end ------------------------------------------------------ */

#define SHARED_LINES (SHARED | TWINLOG_SINK_LINES)

TEST(a_line_without_an_end_is_ended_first)
{
    put_text(path, "one\n");
    struct twinlog_sink *sink = open_exact(SHARED_LINES);
    uint64_t offset = 0;

    put(sink, "two\n");
    append_as_stranger(path, "torn");
    ck_assert_int_eq(twinlog_sink_write(sink, "three\n", 6, &offset), 0);
    ck_assert_uint_eq(offset, strlen("one\ntwo\ntorn\n"));
    put(sink, "four\n");
    close_sink(sink);
    expect_text(path, "one\ntwo\ntorn\nthree\nfour\n");
}

TEST(an_empty_file_has_no_line_to_end)
{
    struct twinlog_sink *sink = open_exact(SHARED_LINES);

    put(sink, "one\n");
    close_sink(sink);
    expect_text(path, "one\n");
}

TEST(a_turn_that_is_never_given_back_stops_nobody_for_long)
{
    struct twinlog_sink *sink = open_exact(SHARED_LINES);
    const int fd = open(path, O_RDWR);
    struct flock turn = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = TURN_LOCK, .l_len = 1 };

    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &turn), 0);
    put(sink, "one\n");
    append_as_stranger(path, "torn");
    put(sink, "two\n");
    expect_text(path, "one\ntorn\ntwo\n");
    close(fd);
    close_sink(sink);
}

static void *put_one_line(void *sink)
{
    put(sink, "one\n");
    return NULL;
}

static uint64_t file_bytes(const char *name)
{
    struct stat about;

    ck_assert_int_eq(stat(name, &about), 0);
    return (uint64_t)about.st_size;
}

/* Where one process waits for its turn, the others do not take it again and again. */
TEST(one_that_waits_for_its_turn_is_not_overtaken)
{
    struct twinlog_sink *sink = open_exact(SHARED_LINES);
    const int fd = open(path, O_RDWR);
    struct flock next = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = NEXT_LOCK, .l_len = 1 };

    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &next), 0);
    const pthread_t thread = start_thread(put_one_line, sink);
    usleep(100000);
    ck_assert_uint_eq(file_bytes(path), 0);
    close(fd); /* it does not wait any more */
    pthread_join(thread, NULL);
    expect_text(path, "one\n");
    close_sink(sink);
}

/* What strangers have put where the last line of this sink ended. The third one is as long as that line. */
static const char *const torn_ends[] = { "torn", "a torn line", "1234567" };

TEST_LOOP(a_file_that_has_got_shorter_and_longer_again_is_looked_at, sizeof(torn_ends) / sizeof(torn_ends[0]))
{
    struct twinlog_sink *sink = open_exact(SHARED_LINES);
    char text[64];

    put(sink, "a line\n");
    ck_assert_int_eq(truncate(path, 0), 0);
    append_as_stranger(path, torn_ends[_i]);
    put(sink, "another line\n");
    close_sink(sink);
    snprintf(text, sizeof(text), "%s\nanother line\n", torn_ends[_i]);
    expect_text(path, text);
}

static char large[BLOCK * 64];

/* A large write that a signal may cut short. */
static int write_large_until_killed(void)
{
    struct twinlog_sink *sink;

    memset(large, 'v', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\n';
    EXPECT(open_as(SHARED_LINES, &sink) == 0);
    for (;;) {
        EXPECT(twinlog_sink_write(sink, large, sizeof(large), NULL) == 0);
        atomic_fetch_add(&shared->step, 1);
    }
}

/* Of the lines of the file, those that are LINE; each other one must have no byte of it. */
static unsigned count_whole_lines(void)
{
    size_t size;
    unsigned count = 0;
    char *bytes = read_file(path, &size), *end;

    for (char *line = bytes; line < bytes + size; line = end + 1) {
        end = memchr(line, '\n', size - (size_t)(line - bytes));
        ck_assert_ptr_nonnull(end);
        const size_t length = (size_t)(end - line) + 1;
        if (length == strlen(LINE) && memcmp(line, LINE, length) == 0)
            count++;
        else
            ck_assert_ptr_null(memchr(line, LINE[0], length));
    }
    free(bytes);
    return count;
}

/* Each line of the survivor is one of its own, wherever the others were killed. */
TEST(a_kill_in_the_middle_of_a_large_write_tears_no_line_of_others)
{
    for (unsigned round = 0; round < 3; round++) {
        unsigned lines = 0;
        uint64_t began_ns = 0;
        const int step = atomic_load(&shared->step);
        const pid_t child =
            fork(); /* with the thread sanitizer it could start no thread if there were one here */

        if (child == 0)
            _exit(write_large_until_killed());
        struct twinlog_sink *sink = open_exact(SHARED_LINES);
        for (; atomic_load(&shared->step) < step + 3; lines++) {
            ck_assert(still_in_time(&began_ns));
            put(sink, LINE);
            usleep(100); /* else the file would be large, and slow to read */
        }
        kill(child, SIGKILL);
        put(sink, LINE);
        ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
        put(sink, LINE);
        ck_assert_uint_eq(count_whole_lines(), lines + 2);
        close_sink(sink);
        ck_assert_int_eq(unlink(path), 0);
    }
}

/* The kernel tells an error once. */
static int fail_a_sync(void)
{
    struct twinlog_sink *sink;

    if (!forbid(SYS_fdatasync, EIO))
        return CANNOT_RUN;
    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "a\n", 2, NULL) == 0);
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    EXPECT(twinlog_sink_write(sink, "b\n", 2, NULL) == 0);
    EXPECT(rename(path, numbered(1)) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 1);
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    return twinlog_sink_close(sink);
}

TEST(a_failed_sync_is_remembered)
{
    expect_success_or_skip(run_child(fail_a_sync), "a_failed_sync_is_remembered", "filters for system calls");
}

/* ---- files that follow each other ------------------------------------------------------------------- */

TEST(max_bytes_begins_a_new_file)
{
    struct twinlog_sink *sink = open_rotating(EXACT, 8, 2);
    static const char *const lines[] = { "one\n", "two\n", "three\n", "a line of its own\n", "five\n" };
    uint64_t offset = 99;

    for (unsigned i = 0; i < 4; i++)
        put(sink, lines[i]);
    ck_assert_int_eq(twinlog_sink_write(sink, lines[4], 5, &offset), 0);
    ck_assert_uint_eq(offset, 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    expect_text(path, "five\n");
    expect_text(numbered(1), "a line of its own\n");
    expect_text(numbered(2), "three\n");
    ck_assert_int_eq(bytes_of(numbered(3)), -1);
    close_sink(sink);
    expect_nothing_beside();
}

TEST(files_of_a_time_when_more_were_kept_are_removed)
{
    for (unsigned i = 1; i <= 5; i++)
        put_text(numbered(i), "old\n");
    struct twinlog_sink *sink = open_rotating(EXACT, 4, 2);
    put(sink, "one\n");
    put(sink, "two\n");
    close_sink(sink);
    expect_text(numbered(1), "one\n");
    expect_text(numbered(2), "old\n");
    for (unsigned i = 3; i <= 5; i++)
        ck_assert_int_eq(bytes_of(numbered(i)), -1);
}

/* A rename of one of them to the other would change nothing. */
TEST(two_numbers_of_one_file_stop_no_rotation)
{
    char last_but_one[420];

    put_text(numbered(2), "old\n");
    snprintf(last_but_one, sizeof(last_but_one), "%s", numbered(2));
    ck_assert_int_eq(link(last_but_one, numbered(3)), 0);
    put_text(numbered(1), "older than one\n");

    struct twinlog_sink *sink = open_rotating(EXACT, 4, 3);
    put(sink, "one\n");
    put(sink, "two\n");
    put(sink, "three\n");
    close_sink(sink);
    expect_text(path, "three\n");
    expect_text(numbered(1), "two\n");
    expect_text(numbered(2), "one\n");
    expect_text(numbered(3), "older than one\n");
}

TEST(the_next_file_has_the_rights_of_the_last_one)
{
    struct stat before, about;

    put_text(path, "");
    ck_assert_int_eq(chmod(path, 0640), 0);
    (void)!chown(path, STRANGER, STRANGER); /* if it may */
    ck_assert_int_eq(stat(path, &before), 0);
    struct twinlog_sink *sink = open_rotating(EXACT, 4, 2);
    put(sink, "one\n");
    put(sink, "two\n");
    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0640);
    ck_assert_uint_eq(about.st_uid, before.st_uid);
    ck_assert_uint_eq(about.st_gid, before.st_gid);
    close_sink(sink);
}

/* In a child: "old" goes to the numbered file, and "new" is in the one that is made. */
static int rotate_once(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "old\n", 4, NULL) == 0);
    EXPECT(twinlog_sink_rotate(sink, INT64_MAX) == 1);
    EXPECT(twinlog_sink_write(sink, "new\n", 4, NULL) == 0);
    EXPECT(twinlog_sink_close(sink) == 0);
    return 0;
}

static unsigned refused_ways;

/* A file system may have neither files without a name, nor second names, nor a rename that replaces nothing. */
static int rotate_with_a_name(void)
{
    if (!forbid_if(SYS_openat, EOPNOTSUPP, 2, O_TMPFILE | O_RDWR | O_CLOEXEC))
        return CANNOT_RUN;
    EXPECT(refused_ways < 1 || forbid(SYS_linkat, EPERM));
    EXPECT(refused_ways < 2 || forbid(SYS_renameat2, EINVAL));
    return rotate_once();
}

TEST_LOOP(the_next_file_is_made_where_files_need_a_name, 3)
{
    struct stat about;

    refused_ways = (unsigned)_i;
    put_text(path, "");
    ck_assert_int_eq(chmod(path, 0640), 0);
    if (!expect_success_or_skip(run_child(rotate_with_a_name),
                                "the_next_file_is_made_where_files_need_a_name",
                                "no filter of system calls may be loaded"))
        return;
    expect_text(path, "new\n");
    expect_text(numbered(1), "old\n");
    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0640);
    ck_assert_uint_eq(about.st_nlink, 1);
    ck_assert_uint_eq(log_count_files(), 2); /* the temporary name is gone */
}

/* As on a kernel before 6.10 without /proc, for which a capability is missing. */
static int rotate_where_an_unnamed_file_gets_no_name(void)
{
    if (!forbid_if(SYS_linkat, ENOENT, 4, AT_EMPTY_PATH))
        return CANNOT_RUN;
    EXPECT(forbid_if(SYS_linkat, ENOENT, 4, AT_SYMLINK_FOLLOW));
    return rotate_once();
}

TEST(the_next_file_is_made_where_an_unnamed_file_gets_no_name)
{
    put_text(path, "");
    if (!expect_success_or_skip(run_child(rotate_where_an_unnamed_file_gets_no_name),
                                "the_next_file_is_made_where_an_unnamed_file_gets_no_name",
                                "no filter of system calls may be loaded"))
        return;
    expect_text(path, "new\n");
    expect_text(numbered(1), "old\n");
    ck_assert_uint_eq(log_count_files(), 2);
}

static int rotate_without_a_look_at_acls(void)
{
    if (!forbid(SYS_fgetxattr, EPERM))
        return CANNOT_RUN;
    return rotate_once();
}

/* With an ACL the rights of the group are those of all that it names, and more than those of the group itself. */
TEST(where_an_acl_cannot_be_read_the_group_gets_nothing)
{
    struct stat about;

    put_text(path, "");
    ck_assert_int_eq(chmod(path, 0660), 0);
    if (!expect_success_or_skip(run_child(rotate_without_a_look_at_acls),
                                "where_an_acl_cannot_be_read_the_group_gets_nothing",
                                "no filter of system calls may be loaded"))
        return;
    expect_text(path, "new\n");
    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0600);
}

/* The file that another sink has, and that has such a name, stays where it is. */
TEST(files_of_other_sinks_are_not_renamed)
{
    struct twinlog_sink *other, *sink = open_rotating(EXACT, 4, 2);
    const struct twinlog_sink_options options = options_of(EXACT);

    ck_assert_int_eq(twinlog_sink_open(numbered(1), &options, &other), 0);
    put(other, "other\n");
    put(sink, "one\n");
    put(sink, "two\n");
    expect_text(numbered(1), "other\n");
    expect_text(path, "one\ntwo\n"); /* no line is lost for that */
    close_sink(other);
    close_sink(sink);
}

/* ---- rotation on demand, and errors of rotation ----------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

TEST(rotate_begins_a_new_file_if_the_present_one_is_old)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .flags = SHARED, .keep_files = 2);
    const int64_t before = now_ns() - INT64_C(3600000000000);
    struct twinlog_sink *other, *sink = open_sink(&options);

    ck_assert_int_eq(twinlog_sink_open(path, &options, &other), 0);
    ck_assert_int_eq(twinlog_sink_rotate(sink, INT64_MAX), 0); /* it is empty */
    put(sink, "one\n");
    ck_assert_int_eq(twinlog_sink_rotate(sink, before), 0); /* it is not so old */
    expect_text(path, "one\n");
    const int64_t due = now_ns() + 1;
    while (now_ns() < due + 50000000) /* the clock of files has ticks, of 10 ms at most */
        usleep(1000);
    ck_assert_int_eq(twinlog_sink_rotate(sink, due), 1);
    put(sink, "two\n");
    ck_assert_int_ge(twinlog_sink_rotate(other, due),
                     0); /* it follows, or its thread has; it rotates nothing */
    put(other, "three\n");
    close_sink(other);
    close_sink(sink);
    expect_text(numbered(1), "one\n");
    expect_text(path, "two\nthree\n");
    ck_assert_int_eq(bytes_of(numbered(2)), -1);
}

TEST(a_rotation_that_cannot_be_done_is_told)
{
    struct twinlog_sink *sink = open_rotating(EXACT, 4, 1);

    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    ck_assert_int_eq(mkdir(numbered(1), 0700), 0); /* a file may not take its name */
    put(sink, "one\n");
    put(sink, "two\n");
    ck_assert_int_lt(twinlog_sink_rotation_error(sink), 0);
    expect_text(path, "one\ntwo\n");
    close_sink(sink);
}

static const struct shifting_row {
    const char *name;
    uint32_t flags;
    const char *point; /* behind the first name that the rotation has moved */
} shifting_rows[] = {
    { "an exact sink", EXACT, "exact name shifted" },
    { "a mapped sink", MAPPED, "name shifted" },
};

static const struct shifting_row *shifting;

static int rotate_and_stop_between_names(void)
{
    struct twinlog_sink *sink = open_rotating(shifting->flags, 10, 5);

    EXPECT(twinlog_sink_write(sink, "one one\n", 8, NULL) == 0);
    wanted_point = shifting->point;
    signal_there = SIGSTOP;
    EXPECT(twinlog_sink_write(sink, "two\n", 4, NULL) == 0);
    return twinlog_sink_close(sink);
}

/* Another program renames the file meanwhile, and the next one of that name is rotated, too: the numbers are no more
 * what the first rotation has seen. */
TEST_EACH(of_two_rotations_at_a_time_none_replaces_a_file, shifting_rows)
{
    struct twinlog_sink *sink;

    put_text(numbered(1), "older\n");
    put_text(numbered(2), "oldest\n");
    shifting = row;
    const pid_t child = stop_child(rotate_and_stop_between_names);
    ck_assert_int_eq(rename(path, numbered(9)), 0);
    sink = open_rotating(row->flags, 10, 5);
    put(sink, "new new\n");
    put(sink, "newer\n");
    close_sink(sink);

    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    expect_text(numbered(3), "oldest\n");
    expect_text(numbered(2), "older\n");
    expect_text(numbered(1), "new new\n");
}

/* A rotation that keeps one old file, and stops when no sink may come to one that is about to go. */
static int rotate_and_stop(void)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .max_bytes = 10, .keep_files = 1);
    struct twinlog_sink *sink = open_sink(&options);

    EXPECT(twinlog_sink_write(sink, "one\n", 4, NULL) == 0);
    wanted_point = "sinks kept out";
    signal_there = SIGSTOP;
    EXPECT(twinlog_sink_write(sink, "two and more\n", 13, NULL) == 0);
    return twinlog_sink_close(sink);
}

static const struct going_row {
    const char *name;
    unsigned before; /* files that go earlier */
    uint32_t flags;  /* of the sink that comes */
    int rc;
} going_rows[] = {
    { "an exact sink comes to a file that is replaced", 0, EXACT, -EBUSY },
    { "a shared one", 0, SHARED, -EBUSY },
    { "a mapped one", 0, MAPPED, -EMEDIUMTYPE },
    { "a mapped one comes to a file that is removed", 1, MAPPED, -EMEDIUMTYPE },
};

/* Its lines would be gone with the file. */
TEST_EACH(no_sink_comes_to_an_old_file_that_a_rotation_removes, going_rows)
{
    struct twinlog_sink *sink = NULL;
    const struct twinlog_sink_options options = options_of(row->flags);

    put_text(numbered(1), "replaced\n");
    put_text(numbered(2), "removed\n");
    points_before = row->before;
    const pid_t child = stop_child(rotate_and_stop);
    points_before = 0;
    const char *going = numbered(1 + row->before);
    ck_assert_int_eq(twinlog_sink_open(going, &options, &sink), row->rc);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    expect_two_files("one\n", "two and more\n");
    ck_assert_int_eq(bytes_of(numbered(2)), -1);
}

/* It is not the one that the rotation has looked at; the next rotation may remove it. */
TEST(a_file_that_gets_the_last_number_during_a_rotation_stays)
{
    put_text(numbered(1), "looked at\n");
    const pid_t child = stop_child(rotate_and_stop);
    put_text(numbered(2), "came meanwhile\n");
    ck_assert_int_eq(rename(numbered(2), numbered(1)), 0);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    expect_text(numbered(1), "came meanwhile\n");
    expect_text(path, "one\ntwo and more\n");
}

/* The file of this sink is called like an old one of another sink. */
static int open_replaced(void)
{
    const struct twinlog_sink_options options = options_of(MAPPED);
    struct twinlog_sink *sink;

    wanted_point = "file found";
    signal_there = SIGSTOP;
    EXPECT(twinlog_sink_open(numbered(1), &options, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "mapped\n", 7, NULL) == 0);
    return twinlog_sink_close(sink);
}

/* Its lines go to the file that has the name by then. */
TEST(a_mapped_sink_notices_that_a_rotation_replaced_its_file)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .max_bytes = 10, .keep_files = 1);

    put_text(numbered(1), "replaced\n");
    const pid_t child = stop_child(open_replaced);
    struct twinlog_sink *sink = open_sink(&options);
    put(sink, "one\n");
    put(sink, "two and more\n");
    close_sink(sink);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    expect_two_files("one\nmapped\n", "two and more\n");
}

static int rotate_as_nobody(void)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .max_bytes = 10, .keep_files = 1);
    struct twinlog_sink *sink;

    if (!become_nobody())
        return CANNOT_RUN;
    sink = open_sink(&options);
    EXPECT(twinlog_sink_write(sink, "one\n", 4, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, "two and more\n", 13, NULL) == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == 0);
    return twinlog_sink_close(sink);
}

/* As that of a program that takes the right to write from old files. */
TEST(an_old_file_that_may_only_be_read_is_replaced)
{
    static const char test[] = "an_old_file_that_may_only_be_read_is_replaced";

    if (!can_nobody_enter(test))
        return;
    ck_assert_int_eq(chmod(log_dir, 0777), 0);
    put_text(numbered(1), "replaced\n");
    ck_assert_int_eq(chmod(numbered(1), 0444), 0);
    if (expect_success_or_skip(run_child(rotate_as_nobody), test, "only root becomes another user"))
        expect_two_files("one\n", "two and more\n");
}

TEST(a_mapped_sink_rotates_by_its_size_only)
{
    struct twinlog_sink *sink = open_sink(&WITH_SIZE(sink_options, .flags = MAPPED));

    ck_assert_int_eq(twinlog_sink_rotate(sink, INT64_MAX), -ENOTSUP);
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    close_sink(sink);
}

/* ---- the name that leads elsewhere ------------------------------------------------------------------------ */

TEST(reopen_follows_the_name)
{
    struct twinlog_sink *sink = open_exact(EXACT);

    put(sink, "one\n");
    ck_assert_int_eq(twinlog_sink_reopen(sink), 0);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    close_sink(sink);
    expect_two_files("one\n", "two\n");
}

TEST(the_thread_follows_the_name)
{
    struct twinlog_sink *sink = open_exact(EXACT);

    put(sink, "one\n");
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    AWAIT(bytes_of(path) == 0);
    AWAIT(twinlog_sink_write(sink, "two\n", 4, NULL) == 0 && bytes_of(path) > 0);
    close_sink(sink);
}

/* The path counts, and not the directory that it led to once. */
TEST(reopen_follows_the_directories)
{
    char first[420], second[420], current[420], name[440];
    const struct twinlog_sink_options options = options_of(EXACT);
    struct twinlog_sink *sink;

    snprintf(first, sizeof(first), "%s/first", log_dir);
    snprintf(second, sizeof(second), "%s/second", log_dir);
    snprintf(current, sizeof(current), "%s/current", log_dir);
    snprintf(name, sizeof(name), "%s/log", current);
    ck_assert_int_eq(mkdir(first, 0777), 0);
    ck_assert_int_eq(mkdir(second, 0777), 0);
    ck_assert_int_eq(symlink("first", current), 0);
    ck_assert_int_eq(twinlog_sink_open(name, &options, &sink), 0);
    put(sink, "one\n");

    ck_assert_int_eq(unlink(current), 0);
    ck_assert_int_eq(symlink("second", current), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    put(sink, "two\n");
    expect_text(name, "two\n");

    ck_assert_int_eq(unlink(current), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), -ENOENT); /* and stays where it is */
    put(sink, "three\n");
    ck_assert_int_eq(symlink("second", current), 0);
    expect_text(name, "two\nthree\n");
    close_sink(sink);
}

static const struct {
    const char *name;
    int rc;
} no_files[] = {
    { ".", -ENOTSUP },
    { "", -ENOTSUP },
    { "fifo", -ENOTSUP },
    { "no/file", -ENOENT },
};

TEST_LOOP(what_is_no_file_is_refused, sizeof(no_files) / sizeof(no_files[0]))
{
    char name[420];
    const struct twinlog_sink_options options = options_of(EXACT);
    struct twinlog_sink *sink;

    snprintf(name, sizeof(name), "%s/fifo", log_dir);
    ck_assert_int_eq(mkfifo(name, 0666), 0);
    snprintf(name, sizeof(name), "%s/%s", log_dir, no_files[_i].name);
    ck_assert_int_eq(twinlog_sink_open(name, &options, &sink), no_files[_i].rc);
}

/* ---- when a file was made ------------------------------------------------------------------------ */

static int open_without_time(void)
{
    struct twinlog_sink *sink;

    EXPECT(forbid_if(SYS_statx, EIO, 3, STATX_BTIME));
    EXPECT(open_as(EXACT, &sink) == -EIO);
    return 0;
}

/* An interval of a rotation counts from there. */
TEST(a_file_of_which_the_time_cannot_be_read_was_not_made_now)
{
    append_as_stranger(path, "one\n");
    ck_assert_int_eq(run_child(open_without_time), 0);
}

#define HOUR INT64_C(3600000000000)

static const struct write_row {
    const char *name;
    int64_t hours_ago; /* that the file was written last */
    int rotated;
} write_rows[] = {
    { "two hours ago", 2, 1 },
    { "now", 0, 0 },
    { "at a time that is still to come", -2, 0 },
};

static const struct write_row *write_row;

static int rotate_without_birth(void)
{
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
    struct twinlog_sink *sink;

    clock_gettime(CLOCK_REALTIME, &times[1]);
    times[1].tv_sec -= write_row->hours_ago * 3600;
    EXPECT(utimensat(AT_FDCWD, path, times, 0) == 0);
    if (!forbid(SYS_statx, ENOSYS))
        return CANNOT_RUN;
    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(twinlog_sink_rotate(sink, now_ns() - HOUR) == write_row->rotated);
    return twinlog_sink_close(sink);
}

/* As on a file system that keeps no time of birth: a command that is started each hour begins a file each day. */
TEST_EACH(a_file_without_a_time_of_birth_is_as_old_as_its_last_write, write_rows)
{
    append_as_stranger(path, "one\n");
    write_row = row;
    expect_success_or_skip(run_child(rotate_without_birth),
                           "a_file_without_a_time_of_birth_is_as_old_as_its_last_write",
                           "system calls cannot be refused here");
}

static const struct io_ops *right_ops;
static struct io_ops ops_behind;
static int64_t behind_ns;

static int64_t now_behind(struct io *io)
{
    return right_ops->now_ns(io) - behind_ns;
}

/* As if the clock had been ahead when the present file was made, and were right now. Returns that time. */
static int64_t set_clock_back(struct twinlog_sink *sink, int64_t hours) NO_THREAD_SAFETY_ANALYSIS
{
    struct io *io = sink->exact->file->io;

    if (io->ops != &ops_behind) {
        right_ops = io->ops;
        ops_behind = *right_ops;
        ops_behind.now_ns = now_behind;
        io->ops = &ops_behind;
    }
    behind_ns = hours * HOUR;
    return now_behind(io);
}

static void set_time_written(const char *name, int64_t ns)
{
    const struct timespec written = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    const struct timespec times[2] = { written, written };

    ck_assert_int_eq(utimensat(AT_FDCWD, name, times, 0), 0);
}

/* The period began an hour ago, and the next one begins in an hour. */
static const struct {
    const char *name;
    int64_t hours_ahead;   /* of the clock that made the file */
    int64_t written_hours; /* when the file was written last, from now on; negative: ago */
    int due;
} clock_rows[] = {
    { "made just now", 0, 0, 0 },
    { "made and written in four years", 4 * 8766, 4 * 8766, 0 },
    { "made and written in an hour, after the next period begins", 2, 2, 0 },
    { "made in four years, written in this period", 4 * 8766, 0, 0 },
    { "made in four years, written before this period", 4 * 8766, -2, 1 },
};

/* It is due when the next period begins, or at once if another process has left it from an earlier one. */
TEST_EACH(a_file_that_was_made_in_the_future_is_due_in_time, clock_rows)
{
    struct twinlog_sink *sink;

    ck_assert_int_eq(open_as(EXACT, &sink), 0);
    put(sink, "one\n");
    const int64_t now_ns = set_clock_back(sink, row->hours_ahead);
    set_time_written(path, now_ns + row->written_hours * HOUR);
    ck_assert_int_eq(twinlog_sink_rotate(sink, now_ns - HOUR), row->due);
    if (!row->due) {
        set_clock_back(sink, row->hours_ahead - 2);
        ck_assert_int_eq(twinlog_sink_rotate(sink, now_ns + HOUR), 1);
    }

    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_rotate(sink, now_ns - HOUR), 0);
    close_sink(sink);
    expect_text(path, "two\n");
    expect_text(numbered(1), "one\n");
    ck_assert_int_lt(bytes_of(numbered(2)), 0);
}

static int rotate_without_status(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "one\n", 4, NULL) == 0);
    const int64_t now_ns = set_clock_back(sink, 48);
    if (!forbid(SYS_newfstatat, EIO) || !forbid(SYS_fstat, EIO))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_rotate(sink, now_ns - HOUR) == -EIO);
    return 0;
}

TEST(a_file_from_the_future_that_cannot_be_looked_at_is_told)
{
    expect_success_or_skip(run_child(rotate_without_status),
                           "a_file_from_the_future_that_cannot_be_looked_at_is_told",
                           "no filter of system calls may be loaded");
}

TEST(of_two_sinks_of_a_file_from_the_future_one_rotates)
{
    struct twinlog_sink *sink, *other;

    ck_assert_int_eq(open_as(EXACT | SHARED, &sink), 0);
    ck_assert_int_eq(open_as(EXACT | SHARED, &other), 0);
    put(sink, "one\n");
    const int64_t now_ns = set_clock_back(sink, 48);
    set_clock_back(other, 48);
    ck_assert_int_eq(twinlog_sink_rotate(sink, now_ns - HOUR), 0);
    ck_assert_int_eq(twinlog_sink_rotate(other, now_ns - HOUR), 0);
    behind_ns -= 2 * HOUR;
    ck_assert_int_eq(twinlog_sink_rotate(sink, now_ns + HOUR), 1);
    put(sink, "two\n");
    ck_assert_int_ge(twinlog_sink_rotate(other, now_ns + HOUR), 0); /* 0 if its thread was first */
    ck_assert_int_eq(twinlog_sink_rotate(sink, now_ns + HOUR), 0);
    put(other, "six\n");
    close_sink(other);
    close_sink(sink);
    expect_text(path, "two\nsix\n");
    expect_text(numbered(1), "one\n");
    ck_assert_int_lt(bytes_of(numbered(2)), 0);
}
