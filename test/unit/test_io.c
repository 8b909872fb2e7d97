/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of io.h as Linux does them: each test runs over every way to write durably, with
 * buffered and with direct files. What a test needs and this system lacks (io_uring, direct I/O,
 * reflinks, the right to mount) is named on standard error.
 *
 * That a write is durable cannot be seen from here; that is what the power-cut tests are for.
 */
#define _GNU_SOURCE
#include "io/io_files.h"

#include "base/base.h"
#include "base/libc.h"
#include "forbid.h"
#include "logdir.h"
#include "suites.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/io_uring.h>

#define BUFFER_BYTES (16u * BLOCK_BYTES)
#define FILE_BYTES (16u * BLOCK_BYTES)

/* ---- the ways, and what every test starts with -------------------------------------------------- */

static const struct way {
    const char *name;
    int (*create)(const char *path, bool choice, struct io **ret_io);
    bool choice;
    bool is_uring;
    bool has_separate_barrier;
} ways[] = {
    { "fdatasync", twl_io_posix_create, false, false, true },
    { "dsync", twl_io_posix_create, true, false, false },
    { "uring", twl_io_uring_create, false, true, false },
    { "uring-linked", twl_io_uring_create, true, true, true },
};

#define WAYS ((int)(sizeof(ways) / sizeof(ways[0])))
#define COMBINATIONS (2 * WAYS) /* each way with buffered, then with direct files */

static const struct way *way;
static unsigned kind; /* flags of every open: 0 or IO_DIRECT */
static char directory[256];
static struct io *io;
static unsigned char *buffer; /* registered with `io` */

static void skip(const char *test, const char *why)
{
    fprintf(stderr, "SKIP io %s (%s, %s): %s\n", test, way->name, kind & IO_DIRECT ? "direct" : "buffered",
            why);
}

/* Asked past the code under test, so that a fault in that does not look like an old kernel. A ring
 * counts as locked memory until the kernel gets round to freeing it, so a tight limit refuses the next
 * test's ring at random. */
static bool has_uring(void)
{
    struct io_uring_params params = { 0 };
    struct rlimit locked;
    long fd;

    if (geteuid() != 0 && getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur < 1024 * 1024)
        return false;
    fd = syscall(SYS_io_uring_setup, 1, &params);
    if (fd >= 0)
        close((int)fd);
    return fd >= 0;
}

static bool has_direct_files(void)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void make_directory(void)
{
    const char *parent = getenv("TMPDIR");

    snprintf(directory, sizeof(directory), "%s/twinlog-io-XXXXXX", parent ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
    remove_tree(directory);
}

static void create_io(void)
{
    ck_assert_int_eq(way->create(directory, way->choice, &io), 0);
    ck_assert_str_eq(io->ops->name, way->name);
    buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(buffer, MAP_FAILED);
    ck_assert_int_eq(io->ops->adopt_buffers(io, buffer, BUFFER_BYTES), 0);
}

static void destroy_io(void)
{
    io->ops->destroy(io);
    munmap(buffer, BUFFER_BYTES);
}

static bool choose(int combination, const char *test)
{
    way = &ways[combination / 2];
    kind = combination % 2 ? IO_DIRECT : 0;
    if (way->is_uring && !has_uring()) {
        skip(test, "the kernel refuses io_uring, or leaves less than 1 MiB of locked memory for it");
        return false;
    }
    if (kind & IO_DIRECT && !has_direct_files()) {
        skip(test, "no direct I/O in the temporary directory");
        return false;
    }
    return true;
}

/* A test over every combination; `io` is open on an empty directory. */
#define IO_TEST(name)                                                                                        \
    static void name##_in(int _i);                                                                           \
    TEST_LOOP(name, COMBINATIONS)                                                                            \
    {                                                                                                        \
        if (!choose(_i, #name))                                                                              \
            return;                                                                                          \
        create_io();                                                                                         \
        name##_in(_i);                                                                                       \
        destroy_io();                                                                                        \
    }                                                                                                        \
    static void name##_in(int _i CK_ATTRIBUTE_UNUSED)

/* ---- helpers ----------------------------------------------------------------------------------- */

static struct io_file *open_file(const char *name, unsigned flags)
{
    struct io_file *file = NULL;

    ck_assert_int_eq(io_open(io, name, flags | kind, &file), 0);
    return file;
}

static int open_error(const char *name, unsigned flags)
{
    struct io_file *file = NULL;
    int error = io_open(io, name, flags | kind, &file);

    ck_assert_ptr_null(file);
    return error;
}

static struct io_file *create_file(const char *name)
{
    struct io_file *file = open_file(name, IO_CREATE);

    ck_assert_int_eq(io_allocate(file, FILE_BYTES, IO_ALLOCATE_WRITTEN), 0);
    return file;
}

static const char *path_of(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

/* Not through the code under test. */
static void fill_file(const char *name, size_t bytes, int value)
{
    FILE *file = fopen(path_of(name), "w");

    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < bytes; i++)
        putc(value, file);
    ck_assert_int_eq(fclose(file), 0);
}

static void expect_bytes(const char *name, uint64_t offset, size_t size, int value)
{
    unsigned char bytes[FILE_BYTES];
    size_t right = 0;
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, bytes, size, (off_t)offset), (ssize_t)size);
    close(fd);
    while (right < size && bytes[right] == value)
        right++;
    ck_assert_msg(right == size, "byte %zu of %s is %#x", (size_t)offset + right, name, bytes[right]);
}

static struct io_write write_of(struct io_file *file, const unsigned char *data, size_t size, uint64_t offset)
{
    struct io_write write = { .file = file, .data = data, .size = size, .offset = offset };

    write.ret_written = write.ret_synced = 12345;
    return write;
}

static void write_and_reap(struct io_write *write)
{
    int error = io->ops->submit(io, write);

    if (error == 0)
        io->ops->reap(io, write);
    else
        write->ret_written = error;
}

static void expect_full(const struct io_write *write)
{
    ck_assert_int_eq(write->ret_written, (int64_t)write->size);
    ck_assert_int_eq(write->ret_synced, 0);
}

static void write_durably(struct io_file *file, uint64_t offset, int value)
{
    struct io_write write = write_of(file, buffer, BLOCK_BYTES, offset);

    memset(buffer, value, BLOCK_BYTES);
    write_and_reap(&write);
    expect_full(&write);
}

#define CANNOT_RUN 77

static void expect_success_or_skip(int result, const char *test, const char *why)
{
    if (result == CANNOT_RUN)
        skip(test, why);
    else
        ck_assert_int_eq(result, 0);
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

/* A ring inherited from the parent would still be the parent's. */
static int create_io_in_child(void)
{
    EXPECT(way->create(directory, way->choice, &io) == 0);
    EXPECT(io->ops->adopt_buffers(io, buffer, BUFFER_BYTES) == 0);
    return 0;
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

static void *write_one_block(void *write)
{
    write_and_reap(write);
    return NULL;
}

IO_TEST(each_group_may_come_from_another_thread)
{
    struct io_file *file = create_file("file");

    for (unsigned i = 0; i < 4; i++) {
        struct io_write write = write_of(file, buffer, BLOCK_BYTES, i * BLOCK_BYTES);

        memset(buffer, 'a' + (int)i, BLOCK_BYTES);
        pthread_t leader = start_thread(write_one_block, &write);
        ck_assert_int_eq(pthread_join(leader, NULL), 0);
        expect_full(&write);
        expect_bytes("file", i * BLOCK_BYTES, BLOCK_BYTES, 'a' + (int)i);
    }
    io_close(file);
}

static volatile sig_atomic_t signals;
static void count_signal(int number)
{
    (void)number;
    signals++;
}

IO_TEST(signals_do_not_disturb_a_reap)
{
    struct io_file *file = create_file("file");
    struct sigaction action = { .sa_handler = count_signal }; /* without SA_RESTART */
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    signals = 0;
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (int i = 0; i < 100 || signals < 50; i++)
        write_durably(file, 0, i % 256);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
    io_close(file);
}

#define RAGGED_BYTES (BLOCK_BYTES + 904)

static enum io_allocation how;

/* For every way to allocate: a new file with `size` bytes of 'k', made longer. */
static int allocate_in_every_way(size_t size)
{
    static const char *const names[] = { "written", "space", "nothing" };
    struct io_file *file;

    for (how = IO_ALLOCATE_WRITTEN; how <= IO_ALLOCATE_NOTHING; how++) {
        fill_file(names[how], size, 'k');
        EXPECT(io_open(io, names[how], kind, &file) == 0);
        EXPECT(io_allocate(file, 64 * BLOCK_BYTES, how) == 0);
        EXPECT(io_allocate(file, BLOCK_BYTES, how) == 0); /* never makes it shorter */
        EXPECT(io_sync(file) == 0); /* before that no blocks are counted where they are delayed */
        io_close(file);
    }
    return 0;
}

static void expect_size(const char *name, size_t size, bool is_reserved)
{
    struct stat about;

    ck_assert_int_eq(stat(path_of(name), &about), 0);
    ck_assert_int_eq(about.st_size, 64 * BLOCK_BYTES);
    ck_assert_int_eq(about.st_blocks * 512 >= 64 * BLOCK_BYTES, is_reserved);
    expect_bytes(name, 0, size, 'k');
    for (size_t at = size; at < 64 * BLOCK_BYTES; at += BLOCK_BYTES)
        expect_bytes(name, at, (size_t)min_u64(BLOCK_BYTES, 64 * BLOCK_BYTES - at), 0);
}

/* No part of the file is a hole or reserved only; where the file system tells. */
static void expect_written(const char *name, const char *test)
{
    const uint32_t extents = 64;
    struct fiemap *map = calloc(1, sizeof(*map) + extents * sizeof(map->fm_extents[0]));
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
    uint64_t end = 0;

    ck_assert_ptr_nonnull(map);
    ck_assert_int_ge(fd, 0);
    map->fm_length = 64 * BLOCK_BYTES;
    map->fm_extent_count = extents;
    if (ioctl(fd, IOCTL_REQUEST(FS_IOC_FIEMAP), map) == 0) {
        for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
            ck_assert_uint_eq(map->fm_extents[i].fe_logical, end);
            ck_assert_uint_eq(map->fm_extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN, 0);
            end += map->fm_extents[i].fe_length;
        }
        ck_assert_uint_ge(end, 64 * BLOCK_BYTES);
    } else {
        skip(test, "the file system does not tell what is written");
    }
    close(fd);
    free(map);
}

/* ---- what the kernel may refuse ---------------------------------------------------------------- */

static const struct {
    int number;
    int error;
} refusals[] = {
    { SYS_io_uring_setup, EPERM },
    { SYS_io_uring_setup, ENOSYS },
    { SYS_io_uring_setup, ENOMEM },
    { SYS_io_uring_enter, EPERM },
};
static int refusal;

static int create_against_a_refusal(void)
{
    struct io *refused = NULL;

    EXPECT(forbid(refusals[refusal].number, refusals[refusal].error));
    EXPECT(way->create(directory, way->choice, &refused) == (way->is_uring ? -refusals[refusal].error : 0));
    EXPECT(way->is_uring == !refused);
    return 0;
}

CASE("refusals", make_directory, remove_directory);

IO_TEST(a_refused_ring_fails_create_and_only_that)
{
    for (refusal = 0; refusal < (int)(sizeof(refusals) / sizeof(refusals[0])); refusal++)
        ck_assert_int_eq(run_child(create_against_a_refusal), 0);
}

static void *write_without_enter(void *write)
{
    if (forbid(SYS_io_uring_enter, EPERM))
        write_and_reap(write);
    return NULL;
}

/* The filter is the thread's alone and ends with it. */
IO_TEST(what_the_kernel_did_not_take_is_withdrawn)
{
    struct io_file *file = create_file("file");
    struct io_write write = write_of(file, buffer, BLOCK_BYTES, 0);

    memset(buffer, 'x', BLOCK_BYTES);
    pthread_t leader = start_thread(write_without_enter, &write);
    ck_assert_int_eq(pthread_join(leader, NULL), 0);
    if (way->is_uring) {
        ck_assert_int_eq(write.ret_written, -EPERM);
        ck_assert_int_eq(write.ret_synced, -ECANCELED);
        for (unsigned i = 1; i < FILE_BYTES / BLOCK_BYTES; i++)
            write_durably(file, i * BLOCK_BYTES, 'y');
        expect_bytes("file", 0, BLOCK_BYTES, 0);
        expect_bytes("file", BLOCK_BYTES, FILE_BYTES - BLOCK_BYTES, 'y');
    } else {
        expect_full(&write);
    }
    io_close(file);
}

static int write_from_unregistered_memory(void)
{
    struct io_file *file;

    EXPECT(forbid(SYS_io_uring_register, ENOMEM));
    EXPECT(create_io_in_child() == 0);
    EXPECT(io_open(io, "file", IO_CREATE | kind, &file) == 0);
    memset(buffer, 'r', BLOCK_BYTES);
    struct io_write write = write_of(file, buffer, BLOCK_BYTES, 0);
    write_and_reap(&write);
    EXPECT(write.ret_written == BLOCK_BYTES);
    EXPECT(write.ret_synced == 0);
    return 0;
}

IO_TEST(memory_that_cannot_be_registered_is_written_all_the_same)
{
    ck_assert_int_eq(run_child(write_from_unregistered_memory), 0);
    expect_bytes("file", 0, BLOCK_BYTES, 'r');
}

/* open(2) promises nothing for a direct read at an offset like that, not even the end of the file. */
static int read_to_the_end_only(void)
{
    struct io_file *file;
    size_t size;

    EXPECT(forbid_if(SYS_pread64, EINVAL, 3, RAGGED_BYTES));
    EXPECT(io_open(io, "file", IO_READ_ONLY | kind, &file) == 0);
    EXPECT(io_read(file, buffer, 4 * BLOCK_BYTES, 0, &size) == (kind == IO_DIRECT ? 0 : -EINVAL));
    EXPECT(kind != IO_DIRECT || size == RAGGED_BYTES);
    return 0;
}

IO_TEST(a_direct_read_does_not_look_behind_a_ragged_end)
{
    fill_file("file", RAGGED_BYTES, 'e');
    ck_assert_int_eq(run_child(read_to_the_end_only), 0);
}

#define SMALL_WRITE_AT 700u

static int expect_small_write(struct io_file *file)
{
    size_t size;

    EXPECT(io_read(file, buffer, 2 * BLOCK_BYTES, 0, &size) == 0 && size == RAGGED_BYTES);
    EXPECT(buffer[0] == 'e' && buffer[SMALL_WRITE_AT] == 'w' && buffer[SMALL_WRITE_AT + 1] == 'e');
    EXPECT(io_read(file, buffer + 1, 5, SMALL_WRITE_AT, &size) == 0 && size == 5); /* aligned to nothing */
    EXPECT(buffer[1] == 'w' && buffer[2] == 'e');
    return 0;
}

/* Not by the descriptor that the page cache is behind. */
static int read_past_the_page_cache(void)
{
    struct io_file *file;
    size_t size;

    EXPECT(io_open(io, "file", IO_FROM_DISK, &file) == 0);
    EXPECT(io_write_at(file, "w", 1, SMALL_WRITE_AT) == 0); /* without a sync it is seen, too */
    EXPECT(expect_small_write(file) == 0);
    if (!has_direct_files() || !forbid_if(SYS_pread64, EIO, 0, (uint64_t)io_file_fd(file)))
        return CANNOT_RUN;
    EXPECT(io_read(file, buffer, 2 * BLOCK_BYTES, 0, &size) == 0 && size == RAGGED_BYTES);
    EXPECT(buffer[SMALL_WRITE_AT] == 'w');
    return 0;
}

IO_TEST(what_is_asked_from_the_disk_is_read_past_the_page_cache)
{
    fill_file("file", RAGGED_BYTES, 'e');
    expect_success_or_skip(run_child(read_past_the_page_cache),
                           "what_is_asked_from_the_disk_is_read_past_the_page_cache",
                           "no direct I/O in the temporary directory, or no system call can be forbidden");
}

#define LARGE_PAGE                                                                                           \
    (UINT64_C(2) << 20) /* the kernel keeps a file in such pages if it is asked to, or reads ahead */

static bool is_in_cache(struct io_file *file, size_t offset)
{
    unsigned char state = 0;
    unsigned char *bytes = mmap(NULL, 2 * LARGE_PAGE, PROT_READ, MAP_SHARED, io_file_fd(file), 0);
    if (bytes == MAP_FAILED || mincore(bytes + offset, 1, &state) < 0)
        abort();
    munmap(bytes, 2 * LARGE_PAGE);
    return state & 1;
}

#define READ_AT (LARGE_PAGE + 8 * BLOCK_BYTES)

static void make_file_in_large_pages(void)
{
    struct io_file *file = create_file("file");
    void *page = NULL;
    ck_assert_int_eq(io_allocate(file, 2 * LARGE_PAGE, IO_ALLOCATE_SPACE), 0);
    ck_assert_int_eq(file->io->ops->map(file, 2 * LARGE_PAGE, &page), 0);
    madvise(page, 2 * LARGE_PAGE, MADV_HUGEPAGE);
    memset(page, 'l', 2 * LARGE_PAGE);
    io->ops->unmap(io, page, 2 * LARGE_PAGE);
    ck_assert_int_eq(io_sync(file), 0);
    io_close(file);
}

#define STAYS 3

/* 0, or STAYS: is the page in the cache afterwards? */
static int read_block_from_disk(void)
{
    struct io_file *file;
    size_t size;
    EXPECT(io_open(io, "file", IO_READ_ONLY | IO_FROM_DISK, &file) == 0);
    EXPECT(io_read(file, buffer, BLOCK_BYTES, READ_AT, &size) == 0);
    EXPECT(size == BLOCK_BYTES && memcmp(buffer, "llll", 4) == 0);
    const bool stays = is_in_cache(file, READ_AT);
    io_close(file);
    return stays ? STAYS : 0;
}

/* Where a direct read may be answered from the page cache, or there is none, a page that stays there is taken for the
 * disk. */
static int read_where_direct_reads_are_doubtful(void)
{
    return forbid(SYS_statx, ENOSYS) ? read_block_from_disk() : CANNOT_RUN;
}

IO_TEST(what_is_asked_from_the_disk_leaves_the_page_cache_with_its_whole_page)
{
    make_file_in_large_pages();
    if (has_direct_files())
        expect_success_or_skip(run_child(read_where_direct_reads_are_doubtful),
                               "what_is_asked_from_the_disk_leaves_the_page_cache_with_its_whole_page",
                               "no system call can be forbidden");
    else
        skip("what_is_asked_from_the_disk_leaves_the_page_cache_with_its_whole_page", "no direct I/O");
}

/* A look at a log takes no page from a program that reads it. */
IO_TEST(what_is_read_past_the_cache_stays_there_for_others)
{
    struct statx about;
    make_file_in_large_pages();
    struct io_file *file;
    ck_assert_int_eq(io_open(io, "file", IO_READ_ONLY, &file), 0);
    const bool is_told = statx(io_file_fd(file), "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) == 0 &&
                         (about.stx_mask & STATX_DIOALIGN) && about.stx_dio_offset_align > 0;
    io_close(file);
    if (is_told)
        ck_assert_int_eq(read_block_from_disk(), STAYS);
    else
        skip("what_is_read_past_the_cache_stays_there_for_others",
             "the file system does not tell of direct I/O");
}

static int read_from_disk_without_direct_files(void)
{
    struct io_file *file;

    if (!forbid_if(SYS_fcntl, EINVAL, 2, O_DIRECT))
        return CANNOT_RUN;
    EXPECT(io_open(io, "file", IO_FROM_DISK, &file) == 0);
    EXPECT(io_write_at(file, "w", 1, SMALL_WRITE_AT) == 0);
    EXPECT(expect_small_write(file) == 0);
    io_close(file);
    EXPECT(io_open(io, "file", IO_READ_ONLY | IO_FROM_DISK, &file) == 0);
    EXPECT(expect_small_write(file) == 0);
    io_close(file);
    return 0;
}

IO_TEST(without_direct_files_the_disk_is_asked_all_the_same)
{
    fill_file("file", RAGGED_BYTES, 'e');
    expect_success_or_skip(run_child(read_from_disk_without_direct_files),
                           "without_direct_files_the_disk_is_asked_all_the_same",
                           "no system call can be forbidden");
}

static int allocate_without_fallocate(void)
{
    EXPECT(forbid(SYS_fallocate, EOPNOTSUPP));
    return allocate_in_every_way(RAGGED_BYTES);
}

IO_TEST(allocate_reserves_space_without_fallocate_as_well)
{
    ck_assert_int_eq(run_child(allocate_without_fallocate), 0);
    expect_size("written", RAGGED_BYTES, true);
    expect_size("space", RAGGED_BYTES, true);
    expect_size("nothing", RAGGED_BYTES, false);
    expect_written("written", "allocate_reserves_space_without_fallocate_as_well");
}

#define WRITE_ZEROES 0x80 /* FALLOC_FL_WRITE_ZEROES, a mode of fallocate() */

static int allocate_without_help_of_the_device(void)
{
    EXPECT(forbid_if(SYS_fallocate, EOPNOTSUPP, 1, WRITE_ZEROES));
    return allocate_in_every_way(RAGGED_BYTES);
}

IO_TEST(allocate_writes_the_zeros_where_the_device_does_not)
{
    ck_assert_int_eq(run_child(allocate_without_help_of_the_device), 0);
    expect_size("written", RAGGED_BYTES, true);
    expect_written("written", "allocate_writes_the_zeros_where_the_device_does_not");
}

/* The kernel is made to say that it has done so. */
static int allocate_with_a_helpful_device(void)
{
    struct io_file *file;
    uint64_t bytes;

    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(forbid_if(SYS_fallocate, 0, 1, WRITE_ZEROES));
    EXPECT(io_allocate(file, 64 * BLOCK_BYTES, IO_ALLOCATE_WRITTEN) == 0);
    EXPECT(io_size(file, &bytes) == 0 && bytes == BLOCK_BYTES); /* so nothing else was done */
    EXPECT(io_allocate(file, 64 * BLOCK_BYTES, IO_ALLOCATE_SPACE) == 0);
    EXPECT(io_size(file, &bytes) == 0 && bytes == 64 * BLOCK_BYTES); /* and space is not written */
    return 0;
}

IO_TEST(allocate_writes_nothing_that_the_device_has_written)
{
    fill_file("file", BLOCK_BYTES, 'k');
    ck_assert_int_eq(run_child(allocate_with_a_helpful_device), 0);
}

static int sync_that_says_it_was_canceled(void)
{
    struct io_file *file;
    struct io_write write = { .data = buffer, .size = BLOCK_BYTES };

    EXPECT(forbid(SYS_fsync, ECANCELED) && forbid(SYS_fdatasync, ECANCELED));
    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(io_sync(file) == -EIO && io_sync_data(file) == -EIO);
    write.file = file;
    write.barrier = IO_BARRIER_FILE;
    EXPECT(io->ops->submit(io, &write) == 0);
    io->ops->reap(io, &write);
    EXPECT(write.ret_written == BLOCK_BYTES);
    EXPECT(write.ret_synced == (way->is_uring ? 0 : -EIO)); /* a ring calls no fdatasync */
    return 0;
}

/* -ECANCELED is for a sync that never ran: it would be tried again, and believed. */
IO_TEST(a_sync_that_failed_is_not_taken_for_one_that_never_ran)
{
    fill_file("file", BLOCK_BYTES, 'd');
    ck_assert_int_eq(run_child(sync_that_says_it_was_canceled), 0);
}

static int sync_without_fsync(void)
{
    struct io_file *file;

    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(io_sync(file) == 0 && io_sync_data(file) == 0);
    EXPECT(forbid(SYS_fsync, EIO));
    EXPECT(io_sync(file) == -EIO);
    EXPECT(io_sync_data(file) == 0);
    EXPECT(forbid(SYS_fdatasync, ENOSPC));
    EXPECT(io_sync_data(file) == -ENOSPC);
    return 0;
}

IO_TEST(sync_data_does_not_write_times)
{
    fill_file("file", BLOCK_BYTES, 'd');
    ck_assert_int_eq(run_child(sync_without_fsync), 0);
}

CASE("fork", make_directory, remove_directory);

static struct io_file *inherited;

static void lock_both(struct io_file *file)
{
    ck_assert_int_eq(io_lock(file, IO_LOCK_WRITER, true), 0);
    ck_assert_int_eq(io_lock(file, IO_LOCK_USE, false), 0);
}

static int expect_no_descriptor(void)
{
    EXPECT(fcntl(io_file_fd(inherited), F_GETFD) < 0 && errno == EBADF);
    return 0;
}

IO_TEST(a_forked_child_has_no_files_of_its_parent)
{
    inherited = create_file("file");
    struct io_file *other = open_file("file", 0);
    lock_both(inherited);
    ck_assert_int_eq(run_child(expect_no_descriptor), 0);

    /* the parent's locks are still there */
    ck_assert_int_eq(io_lock(other, IO_LOCK_WRITER, true), -EAGAIN);
    ck_assert_int_eq(io_lock(other, IO_LOCK_USE, true), -EAGAIN);
    write_durably(inherited, 0, 'p');
    expect_bytes("file", 0, BLOCK_BYTES, 'p');
    io_close(inherited);
    io_close(other);
}

static int gate[2];
static int wait_at_the_gate(void)
{
    char byte;

    close(gate[1]);
    return (int)read(gate[0], &byte, 1); /* 0: the other end was closed */
}

static pid_t start_waiting_child(void)
{
    ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
    return start_child(wait_at_the_gate);
}

static void let_child_go(pid_t child)
{
    close(gate[1]);
    ck_assert_int_eq(wait_child(child), 0);
    close(gate[0]);
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

IO_TEST(a_forked_child_does_not_keep_what_the_parent_closed_locked)
{
    struct io_file *file = create_file("file");
    struct io_file *other = open_file("file", 0);

    lock_both(file);
    pid_t child = start_waiting_child();
    io_close(file);
    lock_both(other);
    io_unlock(other, IO_LOCK_USE);
    ck_assert_int_eq(io_lock(other, IO_LOCK_USE, true), 0);
    let_child_go(child);
    io_close(other);
}

CASE("locks and shared pages", make_directory, remove_directory);

static enum io_lock which;

static bool is_locked(struct io_file *file)
{
    bool answer = false;

    ck_assert_int_eq(io_is_locked(file, which, &answer), 0);
    return answer;
}

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

IO_TEST(the_two_locks_do_not_know_each_other)
{
    struct io_file *writer = create_file("file");
    struct io_file *other = open_file("file", 0);

    ck_assert_int_eq(io_lock(writer, IO_LOCK_WRITER, true), 0);
    which = IO_LOCK_USE;
    ck_assert(!is_locked(other));
    ck_assert_int_eq(io_lock(other, IO_LOCK_USE, true), 0);
    ck_assert(is_locked(writer));
    io_unlock(other, IO_LOCK_USE);
    which = IO_LOCK_WRITER;
    ck_assert(is_locked(other));
    io_close(writer);
    io_close(other);
}

static int try_locks_of_another_process(void)
{
    struct io_file *file, *reader;

    EXPECT(create_io_in_child() == 0);
    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(io_open(io, "file", kind | IO_READ_ONLY, &reader) == 0);
    for (which = IO_LOCK_WRITER; which <= IO_LOCK_USE; which++) {
        bool answer = false;
        EXPECT(io_lock(file, which, true) == -EAGAIN);
        EXPECT(io_is_locked(file, which, &answer) == 0 && answer);
        answer = false;
        EXPECT(io_is_locked(reader, which, &answer) == 0 && answer);
    }
    return 0;
}

IO_TEST(locks_are_seen_by_other_processes)
{
    struct io_file *file = create_file("file");

    ck_assert_int_eq(io_lock(file, IO_LOCK_WRITER, true), 0);
    ck_assert_int_eq(io_lock(file, IO_LOCK_USE, true), 0);
    ck_assert_int_eq(run_child(try_locks_of_another_process), 0);
    io_close(file);
}

static int lock_and_wait_to_be_killed(void)
{
    struct io_file *file;

    EXPECT(create_io_in_child() == 0);
    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(io_lock(file, IO_LOCK_WRITER, true) == 0);
    EXPECT(io_lock(file, IO_LOCK_USE, false) == 0);
    EXPECT(write(gate[1], "", 1) == 1);
    for (;;)
        pause();
}

IO_TEST(locks_end_with_their_process)
{
    struct io_file *file = create_file("file");
    char byte;

    ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
    pid_t child = start_child(lock_and_wait_to_be_killed);
    close(gate[1]);
    ck_assert_int_eq(read(gate[0], &byte, 1), 1);
    ck_assert_int_eq(io_lock(file, IO_LOCK_WRITER, true), -EAGAIN);
    ck_assert_int_eq(io_lock(file, IO_LOCK_USE, true), -EAGAIN);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_int_eq(io_lock(file, IO_LOCK_WRITER, true), 0);
    ck_assert_int_eq(io_lock(file, IO_LOCK_USE, true), 0);
    close(gate[0]);
    io_close(file);
}

/* The kernel stores into the page for us: EFAULT instead of a signal. */
static bool is_writable(void *page)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(write(ends[1], "w", 1), 1);
    bool answer = read(ends[0], page, 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return answer;
}

IO_TEST(a_mapped_page_is_shared_between_two_opens)
{
    struct io_file *file = create_file("file");
    struct io_file *reader = open_file("file", IO_READ_ONLY);
    void *ours = NULL, *theirs = NULL;

    ck_assert_int_eq(file->io->ops->map(file, BLOCK_BYTES, &ours), 0);
    ck_assert_int_eq(file->io->ops->map(reader, BLOCK_BYTES, &theirs), 0);
    memset(ours, 's', BLOCK_BYTES);
    ck_assert_mem_eq(ours, theirs, BLOCK_BYTES);
    ck_assert(is_writable(ours));
    ck_assert(!is_writable(theirs));
    io->ops->unmap(io, ours, BLOCK_BYTES);
    io->ops->unmap(io, theirs, BLOCK_BYTES);
    io_close(file);
    io_close(reader);
}

CASE("views", make_directory, remove_directory);

#define VIEW_PAGES 4u

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void put_file_to_view(void)
{
    fill_file("file", VIEW_PAGES * page_bytes(), 'v');
}

static struct io_file *file_to_view(void)
{
    put_file_to_view();
    return open_file("file", 0);
}

static const unsigned char *view_of(struct io_file *file)
{
    const unsigned char *bytes = NULL;

    ck_assert_int_eq(io->ops->view(file, VIEW_PAGES * page_bytes(), &bytes), 0);
    ck_assert_ptr_nonnull(bytes);
    return bytes;
}

static void unview(const unsigned char *bytes)
{
    io->ops->unview(io, bytes, VIEW_PAGES * page_bytes());
}

static void cut_file(size_t pages)
{
    ck_assert_int_eq(truncate(path_of("file"), (off_t)(pages * page_bytes())), 0);
}

/* A look that the compiler can't leave out. */
static unsigned char look_at(const unsigned char *bytes, size_t page)
{
    return *(const volatile unsigned char *)(bytes + page * page_bytes() + 10);
}

IO_TEST(a_view_shows_what_is_written)
{
    struct io_file *file = create_file("file");
    const unsigned char *bytes = NULL;

    ck_assert_int_eq(io->ops->view(file, FILE_BYTES, &bytes), 0);
    ck_assert_int_eq(bytes[BLOCK_BYTES], 0);
    write_durably(file, BLOCK_BYTES, 'w');
    ck_assert_int_eq(bytes[BLOCK_BYTES - 1], 0);
    ck_assert_int_eq(bytes[BLOCK_BYTES], 'w');
    ck_assert_int_eq(bytes[2 * BLOCK_BYTES - 1], 'w');
    ck_assert(!is_writable((void *)(uintptr_t)bytes));
    io_close(file); /* the view does not need it any more */
    ck_assert_int_eq(bytes[BLOCK_BYTES], 'w');
    ck_assert_int_eq(io->ops->check_view(io, bytes), 0);
    io->ops->unview(io, bytes, FILE_BYTES);
}

IO_TEST(what_a_view_has_lost_looks_like_zeros)
{
    struct io_file *file = file_to_view();
    const unsigned char *bytes = view_of(file), *other = view_of(file);

    cut_file(2);
    ck_assert_int_eq(io->ops->check_view(io, bytes), 0);
    errno = 4711;
    ck_assert_int_eq(look_at(bytes, 3), 0);
    ck_assert_int_eq(errno, 4711);
    ck_assert_int_eq(io->ops->check_view(io, bytes), -EIO);
    ck_assert_int_eq(look_at(bytes, 2), 0);
    ck_assert_int_eq(look_at(bytes, 1), 'v');
    ck_assert_int_eq(look_at(other, 1), 'v');
    ck_assert_int_eq(io->ops->check_view(io, other), 0);
    unview(bytes);

    ck_assert_int_eq(io->ops->check_view(io, other), 0);
    ck_assert_int_eq(look_at(other, 2), 0);
    ck_assert_int_eq(io->ops->check_view(io, other), -EIO);
    unview(other);

    bytes = view_of(file); /* in the same place, most likely */
    ck_assert_int_eq(io->ops->check_view(io, bytes), 0);
    unview(bytes);
    io_close(file);
}

static const unsigned char *inherited_view;

static int look_in_a_child(void)
{
    struct io_file *file;
    const unsigned char *bytes;

    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(io->ops->view(file, VIEW_PAGES * page_bytes(), &bytes) == 0);
    EXPECT(look_at(bytes, 2) == 0);
    EXPECT(io->ops->check_view(io, bytes) == -EIO);
    return 0;
}

IO_TEST(a_forked_child_may_look_as_well)
{
    struct io_file *file = file_to_view();

    inherited_view = view_of(file);
    cut_file(2);
    ck_assert_int_eq(run_child(look_in_a_child), 0);
    ck_assert_int_eq(io->ops->check_view(io, inherited_view), 0);
    ck_assert_int_eq(look_at(inherited_view, 2), 0);
    ck_assert_int_eq(io->ops->check_view(io, inherited_view), -EIO);
    unview(inherited_view);
    io_close(file);
}

IO_TEST(there_may_be_thousands_of_views)
{
    static const unsigned char *views[3000];
    const unsigned count = sizeof(views) / sizeof(views[0]);
    struct io_file *file = file_to_view();

    for (unsigned i = 0; i < count; i++)
        views[i] = view_of(file);
    unview(views[7]);
    views[7] = view_of(file);
    cut_file(2);
    for (unsigned i = 0; i < count; i += 100)
        ck_assert_int_eq(look_at(views[i], 3), 0);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(io->ops->check_view(io, views[i]), i % 100 == 0 ? -EIO : 0);
        unview(views[i]);
    }
    io_close(file);
}

/* Everything that is wrong, counted. */
static void *view_and_look(void *context)
{
    struct io_file *file = context;
    uintptr_t wrong = 0;

    for (int i = 0; i < 500; i++) {
        const unsigned char *bytes = NULL;
        if (io->ops->view(file, VIEW_PAGES * page_bytes(), &bytes) < 0)
            return (void *)(uintptr_t)-1;
        wrong += look_at(bytes, 1) != 'v';
        wrong += io->ops->check_view(io, bytes) != 0;
        wrong += look_at(bytes, 2) != 0;
        wrong += io->ops->check_view(io, bytes) != -EIO;
        unview(bytes);
    }
    return (void *)wrong;
}

IO_TEST(threads_may_come_and_go_with_views)
{
    struct io_file *file = file_to_view();
    pthread_t threads[4];

    cut_file(2);
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(view_and_look, file);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
        ck_assert_ptr_null(wrong);
    }
    io_close(file);
}

/* A mapping of another owner, with nothing behind it. */
static unsigned char *foreign_page(void)
{
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    unsigned char *page = mmap(NULL, page_bytes(), PROT_READ, MAP_SHARED, fd, 0);

    close(fd);
    return page;
}

/* A view that was hit, so that the handler is there and has been at work. */
static int look_at_nothing(void)
{
    const unsigned char *bytes;
    struct io_file *file;

    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(io->ops->view(file, VIEW_PAGES * page_bytes(), &bytes) == 0);
    EXPECT(truncate(path_of("file"), 0) == 0);
    EXPECT(look_at(bytes, 0) == 0);
    EXPECT(io->ops->check_view(io, bytes) == -EIO);
    return 0;
}

static const struct rlimit no_core;

static int fault_with_the_default_action(void)
{
    EXPECT(setrlimit(RLIMIT_CORE, &no_core) == 0);
    EXPECT(signal(SIGBUS, SIG_DFL) != SIG_ERR);
    EXPECT(look_at_nothing() == 0);
    look_at(foreign_page(), 0);
    return 0;
}

static int be_told_with_the_default_action(void)
{
    EXPECT(setrlimit(RLIMIT_CORE, &no_core) == 0);
    EXPECT(signal(SIGBUS, SIG_DFL) != SIG_ERR);
    EXPECT(look_at_nothing() == 0);
    kill(getpid(), SIGBUS);
    return 0;
}

static int ignore_what_can_be_ignored(void)
{
    EXPECT(setrlimit(RLIMIT_CORE, &no_core) == 0);
    EXPECT(signal(SIGBUS, SIG_IGN) != SIG_ERR);
    EXPECT(look_at_nothing() == 0);
    kill(getpid(), SIGBUS);
    EXPECT(write(gate[1], "", 1) == 1); /* it lives */
    look_at(foreign_page(), 0);
    return 0;
}

IO_TEST(a_foreign_fault_has_its_default_action)
{
    char byte;

    put_file_to_view();
    ck_assert_int_eq(run_child(fault_with_the_default_action), 128 + SIGBUS);
    ck_assert_int_eq(run_child(be_told_with_the_default_action), 128 + SIGBUS);
    ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
    ck_assert_int_eq(run_child(ignore_what_can_be_ignored), 128 + SIGBUS);
    close(gate[1]);
    ck_assert_int_eq(read(gate[0], &byte, 1), 1);
    close(gate[0]);
}

static sigjmp_buf after_fault;
static void *fault_address;

static void leave_fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    fault_address = info->si_addr;
    siglongjmp(after_fault, 1);
}

static int pass_a_fault_to_the_handler_before(void)
{
    struct sigaction action = { .sa_sigaction = leave_fault, .sa_flags = SA_SIGINFO };
    unsigned char *page = foreign_page();

    EXPECT(sigaction(SIGBUS, &action, NULL) == 0);
    EXPECT(look_at_nothing() == 0);
    EXPECT(!fault_address);
    if (sigsetjmp(after_fault, 1) == 0) {
        look_at(page, 0);
        return 1;
    }
    EXPECT(fault_address == page + 10);
    return 0;
}

static int pass_a_signal_to_the_handler_before(void)
{
    EXPECT(signal(SIGBUS, count_signal) != SIG_ERR);
    signals = 0;
    EXPECT(look_at_nothing() == 0);
    EXPECT(signals == 0);
    EXPECT(raise(SIGBUS) == 0);
    EXPECT(signals == 1);
    return 0;
}

IO_TEST(a_foreign_fault_goes_to_the_handler_that_was_there)
{
    put_file_to_view();
    ck_assert_int_eq(run_child(pass_a_fault_to_the_handler_before), 0);
    ck_assert_int_eq(run_child(pass_a_signal_to_the_handler_before), 0);
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
    }
}

IO_TEST(a_symbolic_link_is_not_followed)
{
    fill_file("file", 1, 'f');
    ck_assert_int_eq(symlink("file", path_of("link")), 0);
    ck_assert_int_eq(symlink("nothing", path_of("dangling")), 0);
    ck_assert_int_eq(open_error("link", 0), -ELOOP);
    ck_assert_int_eq(open_error("link", IO_READ_ONLY), -ELOOP);
    ck_assert_int_eq(open_error("dangling", 0), -ELOOP);
    ck_assert_int_eq(open_error("dangling", IO_CREATE), -EEXIST);
}

IO_TEST(only_regular_files_are_opened)
{
    ck_assert_int_eq(mkfifo(path_of("fifo"), 0600), 0);
    ck_assert_int_eq(open_error("fifo", 0), -EINVAL); /* and does not wait for a writer */
    ck_assert_int_eq(open_error("fifo", IO_READ_ONLY), -EINVAL);
    ck_assert_int_eq(mkdir(path_of("directory"), 0700), 0);
    ck_assert_int_eq(open_error("directory", 0), -EISDIR);
    ck_assert_int_eq(open_error("directory", IO_READ_ONLY), -EISDIR);
}

IO_TEST(create_names_what_is_wrong_with_the_directory)
{
    struct io *none = NULL;

    fill_file("file", 1, 'f');
    ck_assert_int_eq(way->create(path_of("missing"), way->choice, &none), -ENOENT);
    ck_assert_int_eq(way->create(path_of("file"), way->choice, &none), -ENOTDIR);
    ck_assert_ptr_null(none);
}

IO_TEST(a_renamed_directory_stays_open)
{
    char before[256], after[256 + 8];

    memcpy(before, directory, sizeof(before));
    snprintf(after, sizeof(after), "%s.moved", directory);
    ck_assert_int_eq(rename(before, after), 0);
    io_close(open_file("file", IO_CREATE));
    ck_assert_int_eq(rename(after, before), 0);
    ck_assert_int_eq(access(path_of("file"), F_OK), 0);
}

IO_TEST(the_same_directory_can_be_had_again)
{
    char before[256], after[256 + 8];
    struct io *first = NULL, *again = NULL;
    struct io_file *file = NULL, *other;
    size_t size = 0;

    ck_assert_int_eq(way->create(directory, way->choice, &first), 0);
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

#define DESCRIPTORS 64

static bool is_open[DESCRIPTORS];

IO_TEST(every_descriptor_is_close_on_exec_and_is_closed_in_the_end)
{
    struct io *second = NULL;
    struct io_file *file = NULL;
    int opened = 0;

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        is_open[fd] = fcntl(fd, F_GETFD) >= 0;
    ck_assert_int_eq(way->create(directory, way->choice, &second), 0);
    ck_assert_int_eq(io_open(second, "file", kind | IO_CREATE, &file), 0);
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || is_open[fd])
            continue;
        opened++;
        ck_assert_int_eq(flags & FD_CLOEXEC, FD_CLOEXEC);
    }
    ck_assert_int_eq(opened, way->is_uring ? 3 : 2);
    io_close(file);
    second->ops->destroy(second);
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        ck_assert_int_eq(fcntl(fd, F_GETFD) >= 0, is_open[fd]);
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

static bool mount_over_directory(const char *type, const char *options)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", directory, type, 0, options) == 0;
}

static int make_again(struct io_file **file)
{
    io_close(*file);
    EXPECT(io->ops->unlink(io, "file") == 0);
    return io_open(io, "file", kind | IO_CREATE, file);
}

static int fill_a_small_disk(void)
{
    struct io_file *file;

    if (!mount_over_directory("tmpfs", "size=64k") || (kind & IO_DIRECT && !has_direct_files()))
        return CANNOT_RUN;
    EXPECT(create_io_in_child() == 0);
    EXPECT(io_open(io, "file", kind | IO_CREATE, &file) == 0);
    EXPECT(io_allocate(file, 32 * BLOCK_BYTES, IO_ALLOCATE_WRITTEN) == -ENOSPC);
    EXPECT(io_allocate(file, 32 * BLOCK_BYTES, IO_ALLOCATE_SPACE) == -ENOSPC);
    EXPECT(forbid(SYS_fallocate, EOPNOTSUPP));
    EXPECT(io_allocate(file, 32 * BLOCK_BYTES, IO_ALLOCATE_WRITTEN) == -ENOSPC);
    EXPECT(make_again(&file) == 0);
    EXPECT(io_allocate(file, 32 * BLOCK_BYTES, IO_ALLOCATE_SPACE) == -ENOSPC);
    EXPECT(make_again(&file) == 0);
    EXPECT(io_allocate(file, 32 * BLOCK_BYTES, IO_ALLOCATE_NOTHING) == 0);
    return 0;
}

CASE("refusals", make_directory, remove_directory);

IO_TEST(allocate_says_that_the_disk_is_full)
{
    expect_success_or_skip(run_child(fill_a_small_disk), "allocate_says_that_the_disk_is_full",
                           "no right to mount, or no direct I/O on tmpfs");
}

static int create_where_nothing_is_direct(void)
{
    struct io_file *file;

    if (!mount_over_directory("ramfs", NULL))
        return CANNOT_RUN;
    EXPECT(create_io_in_child() == 0);
    EXPECT(io_open(io, "file", IO_DIRECT | IO_CREATE, &file) == -EINVAL);
    EXPECT(io_open(io, "file", 0, &file) == -ENOENT); /* it left nothing behind */
    EXPECT(io_open(io, "file", IO_CREATE, &file) == 0);
    return 0;
}

IO_TEST(a_direct_file_is_refused_where_there_are_none)
{
    expect_success_or_skip(run_child(create_where_nothing_is_direct),
                           "a_direct_file_is_refused_where_there_are_none", "no right to mount");
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
    ck_assert_int_eq(way->create(path_of("second"), way->choice, &second), 0);
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
    struct io_file *file = create_file("file");
    struct io *second = second_directory();

    ck_assert_uint_eq(links_of(file), 1);
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

IO_TEST(a_clone_is_a_file_of_its_own_or_nothing)
{
    struct io_file *file = create_file("file");
    struct io *second = second_directory();

    write_durably(file, 0, 'o');
    ck_assert_int_eq(io_allocate(file, FILE_BYTES, IO_ALLOCATE_OWN), 0);
    int error = io->ops->clone(io, "file", second, "copy");
    if (error == 0) {
        int owned = io_allocate(file, FILE_BYTES, IO_ALLOCATE_OWN);
        ck_assert_msg(owned == 0 || owned == -EOPNOTSUPP, "%d", owned);
        if (owned == 0) /* and by now it is */
            ck_assert_int_eq(io_allocate(file, FILE_BYTES, IO_ALLOCATE_OWN), 0);
        expect_bytes("file", 0, BLOCK_BYTES, 'o');
        write_durably(file, 0, 'n');
        expect_bytes("second/copy", 0, BLOCK_BYTES, 'o');
        expect_bytes("second/copy", BLOCK_BYTES, FILE_BYTES - BLOCK_BYTES, 0);
        ck_assert_int_eq(io->ops->clone(io, "file", second, "copy"), -EEXIST);
        expect_bytes("second/copy", 0, BLOCK_BYTES, 'o');
    } else {
        skip("a_clone_is_a_file_of_its_own_or_nothing", "the file system shares no blocks between files");
        ck_assert_int_eq(error, -EOPNOTSUPP);
        ck_assert_int_ne(access(path_of("second/copy"), F_OK), 0);
    }
    ck_assert_uint_eq(links_of(file), 1);
    ck_assert_int_eq(io->ops->clone(io, "none", second, "other"), -ENOENT);
    ck_assert_int_ne(access(path_of("second/other"), F_OK), 0);
    second->ops->destroy(second);
    io_close(file);
}

IO_TEST(nothing_is_linked_to_where_it_cannot_be)
{
    static const struct io_ops unknown;
    static const char *const names[] = { "", ".", "..", "a/b", "/etc/hostname", "../file", "file/" };
    struct io foreign = { .ops = &unknown };

    fill_file("file", 1, 'f');
    ck_assert_int_eq(io->ops->link(io, "file", &foreign, "copy"), -EXDEV);
    ck_assert_int_eq(io->ops->clone(io, "file", &foreign, "copy"), -EXDEV);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ck_assert_int_eq(io->ops->link(io, "file", io, names[i]), -EINVAL);
        ck_assert_int_eq(io->ops->link(io, names[i], io, "copy"), -EINVAL);
        ck_assert_int_eq(io->ops->clone(io, "file", io, names[i]), -EINVAL);
        ck_assert_int_eq(io->ops->clone(io, names[i], io, "copy"), -EINVAL);
    }
    ck_assert_int_ne(access(path_of("copy"), F_OK), 0);
}

static int link_to_another_file_system(void)
{
    struct io *first = io;

    if (!mount_over_directory("tmpfs", NULL))
        return CANNOT_RUN;
    EXPECT(create_io_in_child() == 0);
    EXPECT(first->ops->link(first, "file", io, "copy") == -EXDEV);
    EXPECT(first->ops->clone(first, "file", io, "copy") < 0);
    EXPECT(access(path_of("copy"), F_OK) != 0);
    return 0;
}

IO_TEST(no_link_leads_to_another_file_system)
{
    fill_file("file", 1, 'f');
    expect_success_or_skip(run_child(link_to_another_file_system), "no_link_leads_to_another_file_system",
                           "no right to mount");
}

CASE("time and chance", make_directory, remove_directory);

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

IO_TEST(time_is_the_wall_clock_and_sleep_is_not_cut_short)
{
    struct sigaction action = { .sa_handler = count_signal };
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
    int64_t before = clock_ns(CLOCK_REALTIME);
    int64_t now = io->ops->now_ns(io);

    ck_assert_int_le(before, now);
    ck_assert_int_le(now, clock_ns(CLOCK_REALTIME));

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    before = clock_ns(CLOCK_MONOTONIC);
    io->ops->sleep_ms(io, 5);
    ck_assert_int_ge(clock_ns(CLOCK_MONOTONIC) - before, 5000000);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
}

IO_TEST(random_fills_every_byte)
{
    unsigned char bytes[600] = { 0 }; /* more than one getrandom() promises in one piece */
    size_t zeros = 0;

    ck_assert_int_eq(io->ops->random(io, bytes, sizeof(bytes)), 0);
    for (size_t i = 0; i < sizeof(bytes); i++)
        zeros += bytes[i] == 0;
    ck_assert_uint_lt(zeros, 30); /* about 2; more than 29 once in 10^26 */
}
