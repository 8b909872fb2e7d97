/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of io.h where the kernel refuses something, and views of files that change under them; otherwise as
 * the suite io.
 */
#define _GNU_SOURCE
#include "io/io_files.h"
#include "ways_to_write.h"

#include "base/base.h"
#include "base/libc.h"
#include "forbid.h"
#include "logdir.h"
#include "refuse.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A child has no directory of its parent any more, so it makes its own. */
static int (*body_of_child)(void);

static int make_io_and_go_on(void)
{
    create_io();
    return body_of_child();
}

static int run_child_with_io(int (*body)(void))
{
    body_of_child = body;
    return run_child(make_io_and_go_on);
}

/* ---- what the kernel may refuse ---------------------------------------------------------------- */

CASE("refusals", make_directory, remove_directory);

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
    ck_assert_int_eq(run_child_with_io(write_from_unregistered_memory), 0);
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
    ck_assert_int_eq(run_child_with_io(read_to_the_end_only), 0);
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
    expect_success_or_skip(run_child_with_io(read_past_the_page_cache),
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
        expect_success_or_skip(run_child_with_io(read_where_direct_reads_are_doubtful),
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

static int own_blocks_that_cannot_be_looked_at(void)
{
    struct io_file *file;

    EXPECT(io_open(io, "file", 0, &file) == 0);
    if (!forbid_if(SYS_ioctl, EPERM, 1, FS_IOC_FIEMAP))
        return CANNOT_RUN;
    const int unshared = twl_io_reserve(file, FALLOC_FL_UNSHARE_RANGE, 0, RAGGED_BYTES);
    EXPECT(io_allocate(file, RAGGED_BYTES, IO_ALLOCATE_OWN) == unshared);
    io_close(file);
    return 0;
}

/* A clone may have them: the file gets blocks of its own, or the call says that it cannot. */
IO_TEST(blocks_that_cannot_be_looked_at_may_be_shared)
{
    fill_file("file", RAGGED_BYTES, 'o');
    expect_success_or_skip(run_child_with_io(own_blocks_that_cannot_be_looked_at),
                           "blocks_that_cannot_be_looked_at_may_be_shared",
                           "no system call can be forbidden");
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
    expect_success_or_skip(run_child_with_io(read_from_disk_without_direct_files),
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
    ck_assert_int_eq(run_child_with_io(allocate_without_fallocate), 0);
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
    ck_assert_int_eq(run_child_with_io(allocate_without_help_of_the_device), 0);
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
    ck_assert_int_eq(run_child_with_io(allocate_with_a_helpful_device), 0);
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
    write_and_reap(&write);
    EXPECT(write.ret_written == BLOCK_BYTES);
    EXPECT(write.ret_synced == (way->is_uring ? 0 : -EIO)); /* a ring calls no fdatasync */
    return 0;
}

/* -ECANCELED is for a sync that never ran: it would be tried again, and believed. */
IO_TEST(a_sync_that_failed_is_not_taken_for_one_that_never_ran)
{
    fill_file("file", BLOCK_BYTES, 'd');
    ck_assert_int_eq(run_child_with_io(sync_that_says_it_was_canceled), 0);
}

static const int own_refusals[] = { EFBIG, EMFILE, ENFILE, ENOMEM, EPERM, EACCES, ENOSYS };

/* The disk says so of this file: the filter lets the same call for another file pass. */
static int sync_that_fails_like_a_refusal(void)
{
    for (size_t i = 0; i < sizeof(own_refusals) / sizeof(own_refusals[0]); i++) {
        struct io_file *file;
        EXPECT(io_open(io, "file", kind, &file) == 0);
        EXPECT(forbid_if(SYS_fdatasync, own_refusals[i], 0, (uint64_t)io_file_fd(file)));
        EXPECT(io_sync_data(file) == -EIO); /* and leaves it open: the next one has another filter */
    }
    return 0;
}

IO_TEST(a_sync_that_failed_is_not_taken_for_one_that_was_refused)
{
    fill_file("file", BLOCK_BYTES, 'd');
    ck_assert_int_eq(run_child_with_io(sync_that_fails_like_a_refusal), 0);
}

static int sync_that_is_refused(void)
{
    struct io_file *file;

    EXPECT(io_open(io, "file", kind, &file) == 0);
    EXPECT(forbid(SYS_fdatasync, EPERM) && forbid(SYS_fsync, ENOSYS));
    EXPECT(io_sync_data(file) == -EPERM && io_sync(file) == -ENOSYS && io->ops->sync_dir(io) == -ENOSYS);
    return 0;
}

IO_TEST(a_sync_that_was_refused_says_so)
{
    fill_file("file", BLOCK_BYTES, 'd');
    ck_assert_int_eq(run_child_with_io(sync_that_is_refused), 0);
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
    ck_assert_int_eq(run_child_with_io(sync_without_fsync), 0);
}

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
    return open_file("file", IO_READ_ONLY);
}

static const unsigned char *view_of(struct io_file *file)
{
    void *bytes = NULL;

    ck_assert_int_eq(io->ops->map(file, VIEW_PAGES * page_bytes(), &bytes), 0);
    ck_assert_ptr_nonnull(bytes);
    return bytes;
}

static void unview(const unsigned char *bytes)
{
    io->ops->unmap(io, bytes, VIEW_PAGES * page_bytes());
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

static int ignore_name(void *context, const char *name)
{
    (void)context;
    (void)name;
    return 0;
}

static int list_what_cannot_be_read(void)
{
    if (!forbid(SYS_getdents64, EIO))
        return CANNOT_RUN;
    EXPECT(io->ops->list(io, ignore_name, NULL) == -EIO);
    return 0;
}

TEST(a_directory_that_cannot_be_read_is_no_empty_one)
{
    way = &ways[0];
    expect_success_or_skip(run_child_with_io(list_what_cannot_be_read),
                           "a_directory_that_cannot_be_read_is_no_empty_one",
                           "no seccomp filter may be loaded");
}

static int count_links_that_cannot_be_read(void)
{
    struct io_file *file = open_file("file", 0);
    uint32_t links;

    if (!forbid(SYS_statx, EIO))
        return CANNOT_RUN;
    EXPECT(io_links(file, "file", &links) == -EIO);
    io_close(file);
    return 0;
}

/* It may have been removed, and may be the same. */
TEST(a_name_that_cannot_be_looked_at_is_neither_that_of_the_file_nor_another_one)
{
    way = &ways[0];
    fill_file("file", 10, 'f');
    expect_success_or_skip(run_child_with_io(count_links_that_cannot_be_read),
                           "a_name_that_cannot_be_looked_at_is_neither_that_of_the_file_nor_another_one",
                           "no seccomp filter may be loaded");
}

/* With one descriptor more, and no second one to read past the page cache with. */
static int read_from_disk_with_one_descriptor(void)
{
    struct io_file *file;
    const int next = open("/", O_PATH | O_CLOEXEC);
    const struct rlimit limit = { .rlim_cur = (rlim_t)next + 1, .rlim_max = (rlim_t)next + 1 };

    close(next);
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT(io->ops->open(io, "file", IO_READ_ONLY | IO_FROM_DISK, &file) == -EMFILE);
    EXPECT(io->ops->open(io, "file", IO_READ_ONLY, &file) == 0);
    io_close(file);
    return 0;
}

TEST(a_file_is_not_read_through_the_page_cache_for_want_of_a_descriptor)
{
    way = &ways[0];
    fill_file("file", 10, 'f');
    ck_assert_int_eq(run_child_with_io(read_from_disk_with_one_descriptor), 0);
}

static struct io_file *interrupted;

static int write_some(void)
{
    return io_write_at(interrupted, buffer, BLOCK_BYTES, 0);
}

static int read_some(void)
{
    size_t size = 0;

    EXPECT(io_read(interrupted, buffer, BLOCK_BYTES, 0, &size) == 0);
    EXPECT(size == BLOCK_BYTES);
    return 0;
}

static int reserve_some(void)
{
    return twl_io_reserve(interrupted, 0, 0, (uint64_t)4 * BLOCK_BYTES);
}

static const struct interrupted_row {
    const char *name;
    int (*body)(void);
} interrupted_rows[] = {
    { "a write", write_some },
    { "a read", read_some },
    { "a reservation of space", reserve_some },
};

TEST_EACH(what_a_signal_interrupts_is_done_again, interrupted_rows)
{
    unsigned calls = 0;

    way = &ways[0];
    create_io();
    interrupted = create_file("file");
    ck_assert_int_eq(io_write_at(interrupted, buffer, BLOCK_BYTES, 0), 0);
    for (;;) {
        const int result = with_refused_call(row->body, calls, EINTR);
        if (result == CANNOT_REFUSE) {
            skip("what_a_signal_interrupts_is_done_again", "no filter with a listener may be loaded");
            return;
        }
        ck_assert_int_eq(result, 0);
        if (!was_refused())
            break;
        calls++;
    }
    ck_assert_uint_ge(calls, 1);
    io_close(interrupted);
    destroy_io();
}

/* ---- what a successor inherits --------------------------------------------------------------------- */

#define OTHER_ID 4711u
#define O_UNNAMED (O_TMPFILE | O_RDWR | O_CLOEXEC)

static const struct heir_row {
    const char *name;
    uid_t user; /* of the predecessor */
    gid_t group;
    int call, refused_with; /* a call that is refused; 0 = none is */
    int error;
    mode_t mode; /* of the successor; the predecessor has 0664 */
} heir_rows[] = {
    { "all that is given", OTHER_ID, OTHER_ID, 0, 0, 0, 0664 },
    { "the user may not be given", OTHER_ID, 0, SYS_fchown, EPERM, -EPERM, 0 },
    { "the user is none of this namespace", OTHER_ID, 0, SYS_fchown, EINVAL, -EPERM, 0 },
    { "the group may not be given, so it has no rights", 0, OTHER_ID, SYS_fchown, EPERM, 0, 0604 },
    { "the file system has no groups", 0, OTHER_ID, SYS_fchown, EOPNOTSUPP, 0, 0604 },
    { "the disk fails, when the user is given", OTHER_ID, 0, SYS_fchown, EIO, -EIO, 0 },
    { "the quota is used up, when the group is given", 0, OTHER_ID, SYS_fchown, EDQUOT, -EDQUOT, 0 },
    { "its own ACL cannot be read, so the group has no rights", 0, 0, SYS_fgetxattr, EACCES, 0, 0604 },
    { "there are no ACLs", 0, 0, SYS_fgetxattr, EOPNOTSUPP, 0, 0664 },
    { "the ACL of its directory cannot be removed", 0, 0, SYS_fremovexattr, EIO, -EIO, 0 },
    { "the permissions cannot be set", 0, 0, SYS_fchmod, EROFS, -EROFS, 0 },
};

static const struct heir_row *heir;

static int make_heir(void)
{
    struct io_file *file = open_file("file", 0), *next;

    if (heir->call > 0 && !forbid(heir->call, heir->refused_with))
        return CANNOT_RUN;
    EXPECT(twl_successor_make(io, "next", file, &next) == heir->error);
    if (heir->error == 0)
        io_close(next);
    io_close(file);
    return 0;
}

CASE("successors", make_directory, remove_directory);

TEST_EACH(a_successor_has_the_owner_and_the_rights_or_fewer, heir_rows)
{
    struct stat about;

    if (geteuid() != 0) {
        skip("a_successor_has_the_owner_and_the_rights_or_fewer", "only root gives files away");
        return;
    }
    way = &ways[0];
    fill_file("file", 10, 'f');
    ck_assert_int_eq(chown(path_of("file"), row->user, row->group), 0);
    ck_assert_int_eq(chmod(path_of("file"), 0664), 0);
    heir = row;
    if (!expect_success_or_skip(run_child_with_io(make_heir),
                                "a_successor_has_the_owner_and_the_rights_or_fewer",
                                "no seccomp filter may be loaded"))
        return;

    const bool is_there = stat(path_of("next"), &about) == 0;
    ck_assert(is_there == (row->error == 0));
    if (is_there) {
        ck_assert_uint_eq(about.st_uid, row->user);
        ck_assert_uint_eq(about.st_mode & 07777, row->mode);
    }
}

/* As the kernel has it, version 2: the owner rw, the user 4711 r, the group r, the mask r, others nothing. */
static const unsigned char acl[] = {
    2,    0, 0, 0,                       /* version */
    0x01, 0, 6, 0, 255,  255,  255, 255, /**/
    0x02, 0, 4, 0, 0x67, 0x12, 0,   0,   /**/
    0x04, 0, 4, 0, 255,  255,  255, 255, /**/
    0x10, 0, 4, 0, 255,  255,  255, 255, /**/
    0x20, 0, 0, 0, 255,  255,  255, 255, /**/
};
#define ACL_NAME "system.posix_acl_access"
#define ANY_SIZE 0u

static const struct acl_row {
    const char *name;
    int call, refused_with; /* 0 = none is refused; an error of 0: the call returns 0 */
    unsigned size;          /* only the call with this argument is refused */
    int error;
    mode_t mode; /* of the successor; the predecessor has 0640 */
    bool has_acl;
} acl_rows[] = {
    { "it is given", 0, 0, ANY_SIZE, 0, 0640, true },
    { "the disk fails when it is read", SYS_fgetxattr, EIO, sizeof(acl), -EIO, 0, false },
    { "it is removed while it is read", SYS_fgetxattr, 0, sizeof(acl), -EAGAIN, 0, false },
    { "the disk fails when it is set", SYS_fsetxattr, EIO, ANY_SIZE, -EIO, 0, false },
    { "it cannot be set, so the group has no rights", SYS_fsetxattr, EOPNOTSUPP, ANY_SIZE, 0, 0600, false },
};

static const struct acl_row *acl_of_child;

static int make_heir_with_acl(void)
{
    const struct acl_row *row = acl_of_child;
    struct io_file *file = open_file("file", 0), *next;
    bool is_forbidden = true;

    if (row->size != ANY_SIZE)
        is_forbidden = forbid_if(row->call, row->refused_with, 3, row->size);
    else if (row->call > 0)
        is_forbidden = forbid(row->call, row->refused_with);
    if (!is_forbidden)
        return CANNOT_RUN;

    EXPECT(twl_successor_make(io, "next", file, &next) == row->error);
    if (row->error == 0)
        io_close(next);
    io_close(file);
    return 0;
}

TEST_EACH(a_successor_has_the_acl_or_fewer_rights, acl_rows)
{
    unsigned char found[2 * sizeof(acl)];
    struct stat about;

    way = &ways[0];
    fill_file("file", 10, 'f');
    if (setxattr(path_of("file"), ACL_NAME, acl, sizeof(acl), 0) < 0) {
        skip("a_successor_has_the_acl_or_fewer_rights", "the file system has no ACLs");
        return;
    }
    acl_of_child = row;
    if (!expect_success_or_skip(run_child_with_io(make_heir_with_acl),
                                "a_successor_has_the_acl_or_fewer_rights", "no seccomp filter may be loaded"))
        return;

    const bool is_there = stat(path_of("next"), &about) == 0;
    ck_assert(is_there == (row->error == 0));
    if (!is_there)
        return;
    ck_assert_uint_eq(about.st_mode & 07777, row->mode);
    const ssize_t size = getxattr(path_of("next"), ACL_NAME, found, sizeof(found));
    ck_assert(row->has_acl == (size == (ssize_t)sizeof(acl)));
    if (row->has_acl)
        ck_assert_mem_eq(found, acl, sizeof(acl));
}

TEST(a_successor_keeps_no_acl_that_its_directory_gave_it)
{
    unsigned char found[2 * sizeof(acl)];
    struct io_file *next;
    struct stat about;

    way = &ways[0];
    fill_file("file", 10, 'f');
    ck_assert_int_eq(chmod(path_of("file"), 0664), 0);
    if (setxattr(directory, "system.posix_acl_default", acl, sizeof(acl), 0) < 0) {
        skip("a_successor_keeps_no_acl_that_its_directory_gave_it", "the file system has no ACLs");
        return;
    }
    create_io();
    struct io_file *file = open_file("file", 0);
    ck_assert_int_eq(twl_successor_make(io, "next", file, &next), 0);
    io_close(next);
    io_close(file);
    destroy_io();

    ck_assert_int_lt(getxattr(path_of("next"), ACL_NAME, found, sizeof(found)), 0);
    ck_assert_int_eq(stat(path_of("next"), &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0664);
}

/* What the file system cannot do, or the kernel does not allow. */
enum {
    NO_UNNAMED = 1,    /* a file without a name */
    NO_EMPTY_PATH = 2, /* a name for a descriptor: needs a capability */
    NO_LINKS = 4,      /* second names */
    NO_NOREPLACE = 8,  /* a rename that replaces nothing */
};

static const struct name_row {
    const char *name;
    unsigned lacking;
    bool is_taken; /* another file has the name */
    int error;
    off_t bytes; /* of the file that has the name then */
} name_rows[] = {
    { "a file without a name", 0, false, 0, 0 },
    { "the same, and the name is taken", 0, true, -EEXIST, 3 },
    { "by /proc", NO_EMPTY_PATH, false, 0, 0 },
    { "by /proc, and the name is taken", NO_EMPTY_PATH, true, -EEXIST, 3 },
    { "a file with another name", NO_UNNAMED, false, 0, 0 },
    { "a file with another name, and the name is taken", NO_UNNAMED, true, -EEXIST, 3 },
    { "a rename", NO_UNNAMED | NO_LINKS, false, 0, 0 },
    { "a rename, and the name is taken", NO_UNNAMED | NO_LINKS, true, -EEXIST, 3 },
    { "a rename that may replace", NO_UNNAMED | NO_LINKS | NO_NOREPLACE, false, 0, 0 },
    { "a rename that replaces", NO_UNNAMED | NO_LINKS | NO_NOREPLACE, true, 0, 0 },
};

static const struct name_row *naming;

static bool take_away(unsigned lacking)
{
    if (lacking & NO_UNNAMED && !forbid_if(SYS_openat, EOPNOTSUPP, 2, O_UNNAMED))
        return false;
    if (lacking & NO_EMPTY_PATH && !forbid_if(SYS_linkat, ENOENT, 4, AT_EMPTY_PATH))
        return false;
    if (lacking & NO_LINKS && !forbid(SYS_linkat, EPERM))
        return false;
    if (lacking & NO_NOREPLACE && !forbid_if(SYS_renameat2, EINVAL, 4, RENAME_NOREPLACE))
        return false;
    return true;
}

static int make_named(void)
{
    struct io_file *file = open_file("file", 0);

    if (!take_away(naming->lacking))
        return CANNOT_RUN;
    EXPECT(io->ops->succeed(io, "next", file) == naming->error);
    io_close(file);
    return 0;
}

static int count_names(void *context, const char *name)
{
    (void)name;
    ++*(unsigned *)context;
    return 0;
}

TEST_EACH(a_successor_gets_its_name_last_and_takes_no_other_files, name_rows)
{
    struct stat about;
    unsigned names = 0;

    way = &ways[0];
    fill_file("file", 10, 'f');
    ck_assert_int_eq(chmod(path_of("file"), 0640), 0);
    if (row->is_taken)
        fill_file("next", 3, 'n');
    naming = row;
    if (!expect_success_or_skip(run_child_with_io(make_named),
                                "a_successor_gets_its_name_last_and_takes_no_other_files",
                                "no seccomp filter may be loaded"))
        return;

    ck_assert_int_eq(stat(path_of("next"), &about), 0);
    ck_assert_int_eq(about.st_size, row->bytes);
    ck_assert_uint_eq(about.st_nlink, 1);
    if (row->error == 0)
        ck_assert_uint_eq(about.st_mode & 07777, 0640);

    /* no other name is left */
    create_io();
    ck_assert_int_eq(io->ops->list(io, count_names, &names), 0);
    ck_assert_uint_eq(names, 2);
    destroy_io();
}

CASE("views", make_directory, remove_directory);

IO_TEST(what_a_view_has_lost_looks_like_zeros)
{
    struct io_file *file = file_to_view();
    const unsigned char *bytes = view_of(file), *other = view_of(file);

    cut_file(2);
    ck_assert_int_eq(io->ops->check_map(io, bytes), 0);
    errno = 4711;
    ck_assert_int_eq(look_at(bytes, 3), 0);
    ck_assert_int_eq(errno, 4711);
    ck_assert_int_eq(io->ops->check_map(io, bytes), -EIO);
    ck_assert_int_eq(look_at(bytes, 2), 0);
    ck_assert_int_eq(look_at(bytes, 1), 'v');
    ck_assert_int_eq(look_at(other, 1), 'v');
    ck_assert_int_eq(io->ops->check_map(io, other), 0);
    unview(bytes);

    ck_assert_int_eq(io->ops->check_map(io, other), 0);
    ck_assert_int_eq(look_at(other, 2), 0);
    ck_assert_int_eq(io->ops->check_map(io, other), -EIO);
    unview(other);

    bytes = view_of(file); /* in the same place, most likely */
    ck_assert_int_eq(io->ops->check_map(io, bytes), 0);
    unview(bytes);
    io_close(file);
}

static const unsigned char *inherited_view;

static int look_in_a_child(void)
{
    struct io_file *file;
    void *bytes;

    EXPECT(io_open(io, "file", kind | IO_READ_ONLY, &file) == 0);
    EXPECT(io->ops->map(file, VIEW_PAGES * page_bytes(), &bytes) == 0);
    EXPECT(look_at(bytes, 2) == 0);
    EXPECT(io->ops->check_map(io, bytes) == -EIO);
    return 0;
}

IO_TEST(a_forked_child_may_look_as_well)
{
    struct io_file *file = file_to_view();

    inherited_view = view_of(file);
    cut_file(2);
    ck_assert_int_eq(run_child_with_io(look_in_a_child), 0);
    ck_assert_int_eq(io->ops->check_map(io, inherited_view), 0);
    ck_assert_int_eq(look_at(inherited_view, 2), 0);
    ck_assert_int_eq(io->ops->check_map(io, inherited_view), -EIO);
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
        ck_assert_int_eq(io->ops->check_map(io, views[i]), i % 100 == 0 ? -EIO : 0);
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
        void *bytes = NULL;
        if (io->ops->map(file, VIEW_PAGES * page_bytes(), &bytes) < 0)
            return (void *)(uintptr_t)-1;
        wrong += look_at(bytes, 1) != 'v';
        wrong += io->ops->check_map(io, bytes) != 0;
        wrong += look_at(bytes, 2) != 0;
        wrong += io->ops->check_map(io, bytes) != -EIO;
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
    struct io_file *file;
    void *bytes;

    EXPECT(io_open(io, "file", kind | IO_READ_ONLY, &file) == 0);
    EXPECT(io->ops->map(file, VIEW_PAGES * page_bytes(), &bytes) == 0);
    EXPECT(truncate(path_of("file"), 0) == 0);
    EXPECT(look_at(bytes, 0) == 0);
    EXPECT(io->ops->check_map(io, bytes) == -EIO);
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
    EXPECT(write(pipe_ends[1], "", 1) == 1); /* it lives */
    look_at(foreign_page(), 0);
    return 0;
}

IO_TEST(a_foreign_fault_has_its_default_action)
{
    char byte;

    put_file_to_view();
    ck_assert_int_eq(run_child_with_io(fault_with_the_default_action), 128 + SIGBUS);
    ck_assert_int_eq(run_child_with_io(be_told_with_the_default_action), 128 + SIGBUS);
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    ck_assert_int_eq(run_child_with_io(ignore_what_can_be_ignored), 128 + SIGBUS);
    close(pipe_ends[1]);
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 1);
    close(pipe_ends[0]);
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
    ck_assert_int_eq(run_child_with_io(pass_a_fault_to_the_handler_before), 0);
    ck_assert_int_eq(run_child_with_io(pass_a_signal_to_the_handler_before), 0);
}
