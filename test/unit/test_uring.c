/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that a ring waits for longer than a disk takes. A full pipe stands for the disk: the write to it completes
 * when it is emptied, and that happens when the ring has nudged the kernel, which the kernel's own count of
 * entries shows.
 *
 * And the choice between a ring and a call, by the times that both take.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "logdir.h"
#include "suites.h"

#include "base/sync.h"
#include "io/io_files.h"
#include "io/path_selector.h"
#include "io/ring.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/io_uring.h>

#define PATIENCE_S 60

static unsigned char bytes[BLOCK_BYTES];

static struct {
    int from, to;
    unsigned entries;      /* that the ring had been given before */
    pthread_t interrupted; /* the thread that gets signals while it waits, */
    bool has_interrupted;  /* if there is one */
    _Atomic bool has_nudged;
} pipe_of;

/* Entries that were put into the only ring of this process; false: the kernel does not say. */
static bool count_entries(unsigned *ret_count)
{
    char path[300], line[200];
    bool is_found = false;
    DIR *directory = opendir("/proc/self/fd");

    for (const struct dirent *entry; directory && !is_found && (entry = readdir(directory));) {
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, line, sizeof(line) - 1);
        line[size < 0 ? 0 : size] = '\0';
        if (strcmp(line, "anon_inode:[io_uring]") != 0)
            continue;
        snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", entry->d_name);
        FILE *info = fopen(path, "r");
        while (info && !is_found && fgets(line, sizeof(line), info))
            is_found = sscanf(line, "SqTail: %u", ret_count) == 1;
        if (info)
            fclose(info);
    }
    if (directory)
        closedir(directory);
    return is_found;
}

static bool has_ring(void)
{
    struct io_uring_params params = { 0 };
    const int fd = (int)syscall(SYS_io_uring_setup, 1, &params);
    unsigned count;
    const bool has_limits = fd >= 0 && (params.features & IORING_FEAT_EXT_ARG) && count_entries(&count);

    if (fd >= 0)
        close(fd);
    if (!has_limits)
        fprintf(stderr,
                "SKIP uring: the kernel has no io_uring with time limits, or does not count its entries\n");
    return has_limits;
}

static void fill_pipe(void)
{
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    pipe_of.from = fds[0];
    pipe_of.to = fds[1];
    while (write(pipe_of.to, bytes, sizeof(bytes)) > 0)
        continue;
    ck_assert_int_eq(fcntl(pipe_of.to, F_SETFL, 0), 0);
    pipe_of.has_interrupted = false;
    atomic_store(&pipe_of.has_nudged, false);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* From now on the calling thread gets a signal every few milliseconds, until the ring has nudged. */
static void interrupt_this_thread(void)
{
    const struct sigaction action = { .sa_handler = ignore_signal };

    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    pipe_of.interrupted = pthread_self();
    pipe_of.has_interrupted = true;
}

/* The write is one entry, or two with its barrier. */
static void *empty_pipe(void *unused)
{
    const time_t until = time(NULL) + PATIENCE_S;
    const struct timespec moment = { .tv_nsec = 5000000 };
    unsigned char drain[BLOCK_BYTES];
    unsigned count = 0;

    while (time(NULL) < until && (!count_entries(&count) || count - pipe_of.entries < 3)) {
        nanosleep(&moment, NULL);
        if (pipe_of.has_interrupted)
            pthread_kill(pipe_of.interrupted, SIGUSR1);
    }
    atomic_store(&pipe_of.has_nudged, count - pipe_of.entries >= 3);
    while (read(pipe_of.from, drain, sizeof(drain)) > 0)
        continue;
    return unused;
}

static void start_emptying(pthread_t *ret_thread, unsigned entries_of_write)
{
    ck_assert(count_entries(&pipe_of.entries));
    pipe_of.entries -= 2 - entries_of_write;
    ck_assert_int_eq(pthread_create(ret_thread, NULL, empty_pipe, NULL), 0);
}

static void end_emptying(pthread_t thread)
{
    pthread_join(thread, NULL);
    ck_assert(atomic_load(&pipe_of.has_nudged));
    close(pipe_of.from);
    close(pipe_of.to);
}

CASE("nudge", NULL, NULL);

static const struct path_row {
    const char *name;
    enum ring_use use;
    unsigned entries; /* of a write */
    int synced;       /* a pipe has no sync */
    bool is_interrupted;
} path_rows[] = {
    { .name = "a write that carries its sync", .use = RING_DSYNC, .entries = 1, .synced = 0 },
    { .name = "a write linked to its sync", .use = RING_LINKED, .entries = 2, .synced = -EINVAL },
    { .name = "signals end each wait before a second is over",
      .use = RING_DSYNC,
      .entries = 1,
      .is_interrupted = true },
};

TEST_EACH(a_write_that_does_not_come_back_is_asked_for_again, path_rows)
{
    struct io *io;
    pthread_t thread;

    if (!has_ring())
        return;
    fill_pipe();
    if (row->is_interrupted)
        interrupt_this_thread();
    ck_assert_int_eq(twl_io_uring_create("/tmp", row->use, &io), 0);

    struct disk_file file = { .file.io = io, .fd = pipe_of.to, .disk_fd = -1 };
    for (unsigned i = 0; i < 2; i++) { /* the second one finds what the first has left */
        struct io_write write = {
            .file = &file.file, .data = bytes, .size = sizeof(bytes), .barrier = IO_BARRIER_WRITE
        };
        if (i == 0)
            start_emptying(&thread, row->entries);
        io->ops->write_durably(io, &write);
        ck_assert_int_eq(write.ret_written, sizeof(bytes));
        ck_assert_int_eq(write.ret_synced, row->synced);
    }
    end_emptying(thread);
    io->ops->destroy(io);
}

TEST(a_write_of_many_that_does_not_come_back_is_asked_for_again)
{
    struct io_write writes[2], *done;
    struct io_ring *ring;
    pthread_t thread;

    if (!has_ring())
        return;
    fill_pipe();
    ck_assert_int_eq(twl_io_ring_create(2, &ring), 0);
    struct disk_file file = { .fd = pipe_of.to, .disk_fd = -1 };
    twl_io_ring_wait(ring, twl_monotonic_ns() + 1000000); /* its poll is an entry, too, and now in flight */
    start_emptying(&thread, 1);
    for (unsigned i = 0; i < 2; i++) {
        writes[i] = (struct io_write){
            .file = &file.file, .data = bytes, .size = sizeof(bytes), .barrier = IO_BARRIER_WRITE
        };
        twl_io_ring_submit(ring, &writes[i]);
        while (!(done = twl_io_ring_reap(ring)))
            twl_io_ring_wait(ring, 0);
        ck_assert_ptr_eq(done, &writes[i]);
        ck_assert_int_eq(done->ret_written, sizeof(bytes));
        ck_assert_int_eq(done->ret_synced, 0);
    }
    end_emptying(thread);
    twl_io_ring_destroy(ring);
}

/* ---- entries that the kernel does not take ------------------------------------------------------------ */

static struct io_ring *refused_ring;

/* The filter is this thread's alone. The ring queues its poll, and then a nudge; the kernel takes neither. */
static void *use_ring_without_enter(void *ret_is_forbidden)
{
    const bool is_forbidden = forbid(SYS_io_uring_enter, EPERM);

    *(bool *)ret_is_forbidden = is_forbidden;
    if (is_forbidden) {
        twl_io_ring_wait(refused_ring, twl_monotonic_ns() + 1000000);
        twl_io_ring_nudge(refused_ring);
    }
    return NULL;
}

static bool make_refused_ring(const char *test)
{
    pthread_t thread;
    bool is_forbidden;

    if (!has_ring())
        return false;
    ck_assert_int_eq(twl_io_ring_create(2, &refused_ring), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, use_ring_without_enter, &is_forbidden), 0);
    pthread_join(thread, NULL);
    if (!is_forbidden) {
        fprintf(stderr, "SKIP uring %s: no seccomp filter may be loaded\n", test);
        twl_io_ring_destroy(refused_ring);
    }
    return is_forbidden;
}

CASE("refused entries", NULL, NULL);

TEST(a_ring_whose_poll_was_refused_is_woken_all_the_same)
{
    if (!make_refused_ring("a_ring_whose_poll_was_refused_is_woken_all_the_same"))
        return;
    const uint64_t deadline_ns = twl_monotonic_ns() + PATIENCE_S * UINT64_C(1000000000);
    twl_io_ring_wake(refused_ring);
    twl_io_ring_wait(refused_ring, deadline_ns);
    ck_assert_uint_lt(twl_monotonic_ns(), deadline_ns);
    ck_assert_ptr_null(twl_io_ring_reap(refused_ring));
    twl_io_ring_destroy(refused_ring);
}

TEST(a_nudge_that_was_refused_is_sent_the_next_time)
{
    if (!make_refused_ring("a_nudge_that_was_refused_is_sent_the_next_time"))
        return;
    struct pollfd completion = { .fd = twl_io_ring_fd(refused_ring), .events = POLLIN };
    ck_assert_int_eq(poll(&completion, 1, 0), 0);
    twl_io_ring_nudge(refused_ring);
    ck_assert_int_eq(poll(&completion, 1, PATIENCE_S * 1000), 1);
    ck_assert_ptr_null(twl_io_ring_reap(refused_ring));
    twl_io_ring_destroy(refused_ring);
}

/* ---- the ring, or a call ------------------------------------------------------------------------- */

static struct path_selector selector;

static void begin_selector(void)
{
    selector = (struct path_selector){ 0 };
}

/* Takes turns until a trial is over, each way with its time. Returns how many turns there were before the trial. */
static unsigned run_trial(uint64_t first_ns, uint64_t second_ns)
{
    unsigned turns = 0;

    do {
        turns += !is_trial(&selector);
        twl_path_selector_next(&selector, twl_path_selector_is_second(&selector) ? second_ns : first_ns);
    } while (selector.turn > 0);
    return turns;
}

CASE("calls", NULL, NULL);

/* The kernel refuses to write to the file, and not the call, so the ring must not write instead: with another error its
 * success could hide a sync that had failed. */
TEST(what_a_call_failed_to_write_is_not_written_by_the_ring)
{
    struct io *io;
    unsigned before, after, calls = 0;

    if (!has_ring())
        return;
    ck_assert_int_eq(twl_io_uring_create("/tmp", RING_OR_CALL, &io), 0);
    struct disk_file file = { .file.io = io, .disk_fd = -1 };
    file.fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(fcntl(file.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    for (unsigned i = 0; i < 2 * TRIALS; i++) {
        struct io_write write = {
            .file = &file.file, .data = bytes, .size = sizeof(bytes), .barrier = IO_BARRIER_WRITE
        };
        ck_assert(count_entries(&before));
        io->ops->write_durably(io, &write);
        ck_assert(count_entries(&after));
        ck_assert_int_eq(write.ret_written, -EPERM);
        ck_assert_int_eq(write.ret_synced, -ECANCELED);
        calls += after == before;
    }
    ck_assert_uint_eq(calls, TRIALS);
    close(file.fd);
    io->ops->destroy(io);
}

CASE("quicker", NULL, NULL);

TEST(a_way_is_left_when_the_other_one_is_quicker)
{
    static const struct {
        uint64_t first_ns, second_ns;

        bool is_second;
    } trials[] = { { 1000, 1000, true }, { 1000, 1100, true }, { 1000, 1101, false },   { 4000, 300, true },
                   { 300, 4000, false }, { 0, 0, true },       { 1, UINT64_MAX, false } };

    begin_selector();
    ck_assert(!twl_path_selector_is_second(&selector)); /* the first turn finds out whether io_uring works */
    for (unsigned i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
        run_trial(trials[i].first_ns, trials[i].second_ns);
        ck_assert_msg(twl_path_selector_is_second(&selector) == trials[i].is_second, "trial %u", i);
    }
}

TEST(in_a_trial_both_ways_get_as_many_even_turns_as_odd_ones)
{
    unsigned turns[2][2] = { 0 };

    begin_selector();
    for (unsigned i = 0; i < 2 * TRIALS; i++) {
        turns[twl_path_selector_is_second(&selector)][i % 2]++;
        twl_path_selector_next(&selector, 1);
    }
    ck_assert(!is_trial(&selector));
    for (unsigned way = 0; way < 2; way++) {
        ck_assert_uint_eq(turns[way][0], TRIALS / 2);
        ck_assert_uint_eq(turns[way][1], TRIALS / 2);
    }
}

static const struct turn_row {
    const char *name;
    unsigned large; /* 0: each even turn has a large group; 1: each odd one */
    bool is_second_quicker;
} turn_rows[] = {
    { "even turns are large, the first way is quicker", 0, false },
    { "even turns are large, the second way is quicker", 0, true },
    { "odd turns are large, the first way is quicker", 1, false },
    { "odd turns are large, the second way is quicker", 1, true },
};

/* A large group takes four times as long as a small one, and the slow way twice as long as the other. */
TEST_EACH(large_groups_in_turn_with_small_ones_decide_nothing, turn_rows)
{
    begin_selector();
    for (unsigned i = 0; i < 2 * TRIALS; i++) {
        const bool is_large = i % 2 == row->large;
        const bool is_slow = twl_path_selector_is_second(&selector) != row->is_second_quicker;
        const uint64_t took_ns = is_large ? 400 : 100;
        twl_path_selector_next(&selector, is_slow ? 2 * took_ns : took_ns);
    }
    ck_assert_uint_eq(selector.turn, 0);
    ck_assert(twl_path_selector_is_second(&selector) == row->is_second_quicker);
}

TEST(a_few_turns_that_take_long_decide_nothing)
{
    begin_selector();
    for (unsigned i = 0; i < 2 * TRIALS; i++) {
        uint64_t took_ns = twl_path_selector_is_second(&selector) ? 50 : 100;
        if (i % 5 == 0)
            took_ns = 1000000;
        twl_path_selector_next(&selector, took_ns);
    }
    ck_assert_uint_eq(selector.turn, 0);
    ck_assert(twl_path_selector_is_second(&selector));
}

TEST(trials_become_rare_while_they_change_nothing)
{
    begin_selector();
    ck_assert_uint_eq(run_trial(1, 2), 0);
    for (unsigned pause = LEAST_PAUSE; pause < MOST_PAUSE; pause *= 2)
        ck_assert_uint_eq(run_trial(1, 2), pause);
    ck_assert_uint_eq(run_trial(1, 2), MOST_PAUSE);
    ck_assert_uint_eq(run_trial(2, 1), MOST_PAUSE);
    ck_assert_uint_eq(run_trial(2, 1), LEAST_PAUSE); /* the one before changed the way */
    ck_assert_uint_eq(run_trial(2, 1), 2 * LEAST_PAUSE);
}
