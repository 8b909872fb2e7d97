/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of io.h as Linux does them: each test runs over every way to write durably, with
 * buffered and with direct files. What a test needs and this system lacks (io_uring, direct I/O,
 * reflinks, the right to mount) is named on standard error.
 *
 * That a write is durable cannot be seen from here; that is what the power-cut tests are for.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "io/io_files.h"
#include "ways_to_write.h"

#include "base/base.h"
#include "base/libc.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- helpers ----------------------------------------------------------------------------------- */

static int open_error(const char *name, unsigned flags)
{
    struct io_file *file = NULL;
    int error = io_open(io, name, flags | kind, &file);

    ck_assert_ptr_null(file);
    return error;
}

CASE("durable writes", make_directory, remove_directory);

IO_TEST(a_reaped_write_can_be_read)
{
    static _Alignas(BLOCK_BYTES) unsigned char elsewhere[BLOCK_BYTES];
    static _Alignas(BLOCK_BYTES) unsigned char back[FILE_BYTES];
    struct io_file *file = create_file("file");
    struct io_write write = write_of(file, buffer + BLOCK_BYTES, 2 * BLOCK_BYTES, 4 * BLOCK_BYTES);
    size_t size;

    memset(buffer, 'n', BUFFER_BYTES);
    memset(buffer + BLOCK_BYTES, 'a', 2 * BLOCK_BYTES);
    write_and_reap(&write);
    expect_full(&write);

    memset(elsewhere, 'b', sizeof(elsewhere)); /* memory the ring does not know */
    write = write_of(file, elsewhere, sizeof(elsewhere), 8 * BLOCK_BYTES);
    write_and_reap(&write);
    expect_full(&write);

    ck_assert_int_eq(io_read(file, back, sizeof(back), 0, &size), 0);
    ck_assert_uint_eq(size, FILE_BYTES);
    for (size_t block = 0; block < FILE_BYTES / BLOCK_BYTES; block++) {
        int value = block == 4 || block == 5 ? 'a' : block == 8 ? 'b' : 0;
        ck_assert_msg(back[block * BLOCK_BYTES] == value, "block %zu", block);
        ck_assert_msg(back[(block + 1) * BLOCK_BYTES - 1] == value, "end of block %zu", block);
    }
    io_close(file);
}

IO_TEST(a_failed_write_cancels_its_barrier)
{
    struct io_file *file = create_file("file");
    struct io_file *read_only = open_file("file", IO_READ_ONLY);
    struct io_write write = write_of(read_only, buffer, BLOCK_BYTES, 0);

    memset(buffer, 'x', BLOCK_BYTES);
    write_and_reap(&write);
    ck_assert_int_eq(write.ret_written, -EBADF);
    ck_assert_int_eq(write.ret_synced, -ECANCELED);

    write_durably(file, BLOCK_BYTES, 'y'); /* the next one is not affected */
    expect_bytes("file", 0, BLOCK_BYTES, 0);
    expect_bytes("file", BLOCK_BYTES, BLOCK_BYTES, 'y');
    io_close(read_only);
    io_close(file);
}

static int write_over_the_limit(void)
{
    struct rlimit limit = { 2 * BLOCK_BYTES, 2 * BLOCK_BYTES };
    struct io_file *file;

    signal(SIGXFSZ, SIG_IGN);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(create_io_in_child() == 0);
    EXPECT(io_open(io, "file", IO_CREATE | kind, &file) == 0);

    struct io_write write = write_of(file, buffer, 3 * BLOCK_BYTES, 0);
    write_and_reap(&write);
    EXPECT(write.ret_written == 2 * BLOCK_BYTES);
    EXPECT(write.ret_synced == (way->has_separate_barrier ? -ECANCELED : 0));

    write = write_of(file, buffer, BLOCK_BYTES, 2 * BLOCK_BYTES);
    write_and_reap(&write);
    EXPECT(write.ret_written == -EFBIG);
    EXPECT(write.ret_synced == -ECANCELED);

    EXPECT(io_write_at(file, buffer, 3 * BLOCK_BYTES, 0) == -EFBIG); /* all or an error */
    return 0;
}

IO_TEST(a_short_write_is_reported_and_not_continued)
{
    ck_assert_int_eq(run_child(write_over_the_limit), 0);
}

IO_TEST(signals_do_not_disturb_a_reap)
{
    struct io_file *file = create_file("file");
    struct sigaction action = { .sa_handler = count_signal }; /* without SA_RESTART */
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
    uint64_t began_ns = 0;

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    signals = 0;
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    /* the thread sanitizer delivers a signal in a call that it knows: the clock's is one, pwritev2() is none */
    for (int i = 0; i < 100 || (signals < 50 && still_in_time(&began_ns)); i++)
        write_durably(file, 0, i % 256);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
    ck_assert_int_ge(signals, 50);
    io_close(file);
}

/* ---- what the kernel may refuse ---------------------------------------------------------------- */

CASE("fork", make_directory, remove_directory);

static int wait_at_the_gate(void)
{
    ssize_t got;
    char byte;

    close(pipe_ends[1]);
    while ((got = read(pipe_ends[0], &byte, 1)) < 0 && errno == EINTR)
        continue;
    return (int)got; /* 0: the other end was closed */
}

static pid_t start_waiting_child(void)
{
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    return start_child(wait_at_the_gate);
}

static void let_child_go(pid_t child)
{
    close(pipe_ends[1]);
    ck_assert_int_eq(wait_child(child), 0);
    close(pipe_ends[0]);
}

IO_TEST(a_fork_does_not_part_the_ring_from_the_buffers)
{
    struct io_file *file = create_file("file");

    write_durably(file, 0, 'o');
    pid_t child = start_waiting_child(); /* shares every page, so that the parent's next store copies it */
    write_durably(file, 0, 'n');
    expect_bytes("file", 0, BLOCK_BYTES, 'n');
    let_child_go(child);
    io_close(file);
}

static enum io_lock which;

static bool is_locked(struct io_file *file)
{
    bool answer = false;

    ck_assert_int_eq(io_is_locked(file, which, &answer), 0);
    return answer;
}

CASE("locks and shared pages", make_directory, remove_directory);

IO_TEST(a_lock_is_seen_by_others_until_it_is_given_back)
{
    struct io_file *holder = create_file("file");
    struct io_file *other = open_file("file", 0);
    struct io_file *reader = open_file("file", IO_READ_ONLY);

    for (which = IO_LOCK_WRITER; which <= IO_LOCK_USE; which++) {
        ck_assert(!is_locked(reader));
        ck_assert_int_eq(io_lock(holder, which, true), 0);
        ck_assert(is_locked(other));
        ck_assert(is_locked(reader));
        ck_assert(!is_locked(holder)); /* its own does not count */
        ck_assert_int_eq(io_lock(other, which, true), -EAGAIN);
        ck_assert_int_eq(io_lock(reader, which, false), -EAGAIN);
        io_close(open_file("file", 0)); /* unlike with POSIX locks, that changes nothing */
        io_unlock(other, which);        /* nor does giving back what one does not have */
        ck_assert_int_eq(io_lock(other, which, true), -EAGAIN);

        io_unlock(holder, which);
        ck_assert(!is_locked(reader));
        ck_assert_int_eq(io_lock(other, which, true), 0);
        io_unlock(other, which);
        ck_assert_int_eq(io_lock(holder, which, true), 0);
    }
    io_close(holder);
    ck_assert_int_eq(io_lock(other, IO_LOCK_WRITER, true), 0);
    ck_assert_int_eq(io_lock(other, IO_LOCK_USE, true), 0);
    io_close(other);
    io_close(reader);
}

IO_TEST(shared_locks_keep_out_exclusive_ones_only)
{
    struct io_file *file = create_file("file");
    struct io_file *reader = open_file("file", IO_READ_ONLY);

    for (which = IO_LOCK_WRITER; which <= IO_LOCK_USE; which++) {
        ck_assert_int_eq(io_lock(reader, which, true), -EBADF);
        ck_assert_int_eq(io_lock(reader, which, false), 0);
        ck_assert_int_eq(io_lock(file, which, false), 0);
        ck_assert(is_locked(file));
        ck_assert(is_locked(reader));
        ck_assert_int_eq(io_lock(file, which, true), -EAGAIN);
        io_unlock(reader, which);
        ck_assert_int_eq(io_lock(file, which, true), 0);
        ck_assert_int_eq(io_lock(reader, which, false), -EAGAIN);
        ck_assert_int_eq(io_lock(file, which, false), 0);
        ck_assert_int_eq(io_lock(reader, which, false), 0);
    }
    io_close(reader);
    io_close(file);
}

IO_TEST(a_mapped_page_is_shared_and_needs_no_open_file)
{
    struct io_file *file = create_file("file");
    struct io_file *reader = open_file("file", IO_READ_ONLY);
    void *ours = NULL, *theirs = NULL;

    ck_assert_int_eq(file->io->ops->map(file, BLOCK_BYTES, &ours), 0);
    ck_assert_int_eq(file->io->ops->map(reader, BLOCK_BYTES, &theirs), 0);
    io_close(reader);
    memset(ours, 's', BLOCK_BYTES);
    ck_assert_mem_eq(ours, theirs, BLOCK_BYTES);
    ck_assert(is_writable(ours));
    ck_assert(!is_writable(theirs));
    write_durably(file, 0, 'w');
    ck_assert_mem_eq(theirs, buffer, BLOCK_BYTES);
    ck_assert_int_eq(io->ops->check_map(io, theirs), 0);
    io->ops->unmap(io, ours, BLOCK_BYTES);
    io->ops->unmap(io, theirs, BLOCK_BYTES);
    io_close(file);
}

CASE("open", make_directory, remove_directory);

IO_TEST(create_needs_a_new_name_and_open_an_old_one)
{
    struct stat about;
    mode_t mask = umask(0);

    umask(mask);
    ck_assert_int_eq(open_error("file", 0), -ENOENT);
    ck_assert_int_eq(open_error("file", IO_READ_ONLY), -ENOENT);
    io_close(open_file("file", IO_CREATE));
    ck_assert_int_eq(open_error("file", IO_CREATE), -EEXIST);
    io_close(open_file("file", 0));
    io_close(open_file("file", IO_READ_ONLY));
    ck_assert_int_eq(stat(path_of("file"), &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0666 & ~mask);
}

static void expect_status_flags(unsigned flags, int access_mode)
{
    struct io_file *file = open_file("file", flags);
    int expected = access_mode | (kind & IO_DIRECT ? O_DIRECT : 0);

    if (flags & IO_READ_ONLY &&
        !(kind & IO_DIRECT)) /* of others nothing is left of it: a ring writes to them */
        expected |= O_NONBLOCK;

    ck_assert_int_eq(fcntl(io_file_fd(file), F_GETFL) & (O_ACCMODE | O_DIRECT | O_NONBLOCK | O_APPEND),
                     expected);
    io_close(file);
}

IO_TEST(a_file_is_open_as_it_was_asked_for)
{
    expect_status_flags(IO_CREATE, O_RDWR);
    expect_status_flags(0, O_RDWR);
    expect_status_flags(IO_READ_ONLY, O_RDONLY);
}

IO_TEST(a_name_that_leads_elsewhere_is_refused)
{
    static const char *const names[] = { "", ".", "..", "a/b", "/etc/hostname", "../file", "file/" };

    fill_file("file", 1, 'f');
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ck_assert_int_eq(open_error(names[i], 0), -EINVAL);
        ck_assert_int_eq(open_error(names[i], IO_READ_ONLY), -EINVAL);
        ck_assert_int_eq(open_error(names[i], IO_CREATE), -EINVAL);
        ck_assert_int_eq(io->ops->rename(io, "file", names[i]), -EINVAL);
        ck_assert_int_eq(io->ops->rename(io, names[i], "file"), -EINVAL);
        ck_assert_int_eq(io->ops->unlink(io, names[i]), -EINVAL);
        ck_assert_int_eq(io->ops->link(io, "file", io, names[i]), -EINVAL);
        ck_assert_int_eq(io->ops->link(io, names[i], io, "copy"), -EINVAL);
    }
}

IO_TEST(create_names_what_is_wrong_with_the_directory)
{
    struct io *none = NULL;

    fill_file("file", 1, 'f');
    ck_assert_int_eq(create_way(path_of("missing"), &none), -ENOENT);
    ck_assert_int_eq(create_way(path_of("file"), &none), -ENOTDIR);
    ck_assert_ptr_null(none);
}

IO_TEST(the_same_directory_can_be_had_again)
{
    char before[256], after[256 + 8];
    struct io *first = NULL, *again = NULL;
    struct io_file *file = NULL, *other;
    size_t size = 0;

    ck_assert_int_eq(create_way(directory, &first), 0);
    memcpy(before, directory, sizeof(before));
    snprintf(after, sizeof(after), "%s.moved", directory);
    ck_assert_int_eq(rename(before, after), 0);
    ck_assert_int_eq(first->ops->again(first, &again), 0);
    ck_assert_int_eq(rename(after, before), 0);
    first->ops->destroy(first); /* one does not need the other */

    fill_file("file", BLOCK_BYTES, 'a');
    ck_assert_int_eq(io_open(again, "file", kind | IO_READ_ONLY, &file), 0);
    ck_assert_int_eq(io_read(file, buffer, BLOCK_BYTES, 0, &size), 0);
    ck_assert_uint_eq(size, BLOCK_BYTES);
    ck_assert_int_eq(buffer[0], 'a');
    other = open_file("file", 0);
    ck_assert_int_eq(io_lock(file, IO_LOCK_USE, false), 0);
    ck_assert_int_eq(io_lock(other, IO_LOCK_USE, true), -EAGAIN);
    io_close(other);
    io_close(file);
    again->ops->destroy(again);
}

CASE("bytes", make_directory, remove_directory);

IO_TEST(a_read_is_short_only_at_the_end_of_the_file)
{
    struct io_file *file;
    uint64_t bytes = 0;
    size_t size = 1;

    fill_file("file", RAGGED_BYTES, 'e');
    file = open_file("file", IO_READ_ONLY);
    ck_assert_int_eq(io_size(file, &bytes), 0);
    ck_assert_uint_eq(bytes, RAGGED_BYTES);
    ck_assert_int_eq(io_read(file, buffer, 4 * BLOCK_BYTES, 0, &size), 0);
    ck_assert_uint_eq(size, RAGGED_BYTES);
    ck_assert_uint_eq(buffer[size - 1], 'e');
    ck_assert_int_eq(io_read(file, buffer, BLOCK_BYTES, 0, &size), 0);
    ck_assert_uint_eq(size, BLOCK_BYTES);
    ck_assert_int_eq(io_read(file, buffer, BLOCK_BYTES, 8 * BLOCK_BYTES, &size), 0);
    ck_assert_uint_eq(size, 0);
    io_close(file);
}

IO_TEST(a_plain_write_is_whole_or_an_error)
{
    struct io_file *file = create_file("file");
    struct io_file *reader = open_file("file", IO_READ_ONLY);

    memset(buffer, 'w', 3 * BLOCK_BYTES);
    ck_assert_int_eq(io_write_at(file, buffer, 3 * BLOCK_BYTES, 2 * BLOCK_BYTES), 0);
    ck_assert_int_eq(io_sync(file), 0);
    expect_bytes("file", 0, 2 * BLOCK_BYTES, 0);
    expect_bytes("file", 2 * BLOCK_BYTES, 3 * BLOCK_BYTES, 'w');
    expect_bytes("file", 5 * BLOCK_BYTES, 3 * BLOCK_BYTES, 0);
    ck_assert_int_eq(io_write_at(reader, buffer, BLOCK_BYTES, 0), -EBADF);
    io_close(reader);
    io_close(file);
}

IO_TEST(allocate_extends_and_never_shortens)
{
    ck_assert_int_eq(allocate_in_every_way(2 * BLOCK_BYTES), 0);
    expect_size("written", 2 * BLOCK_BYTES, true);
    expect_size("space", 2 * BLOCK_BYTES, true);
    expect_size("nothing", 2 * BLOCK_BYTES, false);
    expect_written("written", "allocate_extends_and_never_shortens");
}

/* ---- the directory ----------------------------------------------------------------------------- */

static unsigned names_seen;

static int see_name(void *context, const char *name)
{
    (void)context;
    ck_assert_uint_eq(strlen(name), 1);
    ck_assert(name[0] >= 'a' && name[0] <= 'c');
    names_seen |= 1u << (name[0] - 'a');
    return 0;
}

static int list_again(void *context, const char *name)
{
    (void)name;
    names_seen = 0;
    ck_assert_int_eq(io->ops->list(io, see_name, NULL), 0);
    ck_assert_uint_eq(names_seen, 7);
    ++*(int *)context;
    return 0;
}

static int stop_listing(void *context, const char *name)
{
    (void)name;
    ++*(int *)context;
    return -5001;
}

CASE("directory", make_directory, remove_directory);

IO_TEST(list_names_every_file_once)
{
    int calls = 0;

    ck_assert_int_eq(io->ops->list(io, stop_listing, &calls), 0);
    ck_assert_int_eq(calls, 0); /* nothing there yet, not even . and .. */
    fill_file("a", 1, 'a');
    fill_file("b", 1, 'b');
    fill_file("c", 1, 'c');
    ck_assert_int_eq(io->ops->list(io, list_again, &calls), 0);
    ck_assert_int_eq(calls, 3);
}

IO_TEST(list_ends_when_it_is_told_to)
{
    int calls = 0;

    fill_file("a", 1, 'a');
    fill_file("b", 1, 'b');
    ck_assert_int_eq(io->ops->list(io, stop_listing, &calls), -5001);
    ck_assert_int_eq(calls, 1);
}

IO_TEST(rename_replaces_and_unlink_removes)
{
    fill_file("new", 1, 'n');
    fill_file("file", 1, 'o');
    ck_assert_int_eq(io->ops->rename(io, "new", "file"), 0);
    ck_assert_int_eq(io->ops->sync_dir(io), 0);
    expect_bytes("file", 0, 1, 'n');
    ck_assert_int_eq(io->ops->rename(io, "new", "file"), -ENOENT);
    ck_assert_int_eq(io->ops->unlink(io, "file"), 0);
    ck_assert_int_eq(io->ops->unlink(io, "file"), -ENOENT);
    ck_assert_int_eq(access(path_of("file"), F_OK), -1);
}

/* ---- from one directory to another ------------------------------------------------------------- */

static struct io *second_directory(void)
{
    struct io *second = NULL;

    ck_assert_int_eq(mkdir(path_of("second"), 0700), 0);
    ck_assert_int_eq(create_way(path_of("second"), &second), 0);
    return second;
}

static uint32_t links_of(struct io_file *file)
{
    uint32_t links = 12345;

    ck_assert_int_eq(io_links(file, "file", &links), 0);
    return links;
}

IO_TEST(a_link_is_a_second_name)
{
    static const struct io_ops unknown;
    struct io foreign = { .ops = &unknown };
    struct io_file *file = create_file("file");
    struct io *second = second_directory();

    ck_assert_uint_eq(links_of(file), 1);
    ck_assert_int_eq(io->ops->link(io, "file", &foreign, "copy"), -EXDEV);
    ck_assert_int_eq(io->ops->link(io, "file", second, "copy"), 0);
    ck_assert_int_eq(second->ops->sync_dir(second), 0);
    ck_assert_uint_eq(links_of(file), 2);
    write_durably(file, 0, 'l');
    expect_bytes("second/copy", 0, BLOCK_BYTES, 'l');

    ck_assert_int_eq(io->ops->link(io, "file", second, "copy"), -EEXIST);
    ck_assert_int_eq(io->ops->link(io, "none", second, "other"), -ENOENT);
    ck_assert_int_eq(io->ops->unlink(io, "file"), 0);
    ck_assert_uint_eq(links_of(file), 0);
    second->ops->destroy(second);
    io_close(file);
}

IO_TEST(a_file_that_was_replaced_has_no_name)
{
    struct io_file *file = create_file("file");

    fill_file("new", 1, 'n');
    ck_assert_int_eq(io->ops->rename(io, "new", "file"), 0);
    ck_assert_uint_eq(links_of(file), 0);
    io_close(file);
}

IO_TEST(a_file_that_shares_blocks_gets_its_own)
{
    struct io_file *file = create_file("file");
    struct io_file *copy = create_file("copy");

    write_durably(file, 0, 'o');
    ck_assert_int_eq(io_allocate(file, FILE_BYTES, IO_ALLOCATE_OWN), 0);
    if (ioctl(io_file_fd(copy), IOCTL_REQUEST(FICLONE), io_file_fd(file)) == 0) {
        int owned = io_allocate(file, FILE_BYTES, IO_ALLOCATE_OWN);
        ck_assert_msg(owned == 0 || owned == -EOPNOTSUPP, "%d", owned);
        if (owned == 0) /* and by now it has */
            ck_assert_int_eq(io_allocate(file, FILE_BYTES, IO_ALLOCATE_OWN), 0);
        expect_bytes("file", 0, BLOCK_BYTES, 'o');
    } else {
        skip("a_file_that_shares_blocks_gets_its_own", "the file system shares no blocks between files");
    }
    io_close(copy);
    io_close(file);
}

CASE("chance", make_directory, remove_directory);

IO_TEST(random_fills_every_byte)
{
    unsigned char bytes[600] = { 0 }; /* more than one getrandom() promises in one piece */
    size_t zeros = 0;

    ck_assert_int_eq(io->ops->random(io, bytes, sizeof(bytes)), 0);
    for (size_t i = 0; i < sizeof(bytes); i++)
        zeros += bytes[i] == 0;
    ck_assert_uint_lt(zeros, 30); /* about 2; more than 29 once in 10^26 */
}
