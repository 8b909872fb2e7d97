/* SPDX-License-Identifier: Apache-2.0 */
/* See ways_to_write.h. */
#define _GNU_SOURCE
#include "ways_to_write.h"
#include "io/io_files.h"

#include "base/base.h"
#include "base/libc.h"
#include "logdir.h"
#include "suites.h"

#include <fcntl.h>
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
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/io_uring.h>

const struct way ways[4] = {
    { "fdatasync", false, true },
    { "dsync", false, false },
    { "uring", true, false },
    { "uring-linked", true, true },
};

const struct way *way;
unsigned kind;
char directory[256];
struct io *io;
unsigned char *buffer;

void skip(const char *test, const char *why)
{
    fprintf(stderr, "SKIP io %s (%s, %s): %s\n", test, way->name, kind & IO_DIRECT ? "direct" : "buffered",
            why);
}

/* Asked past the code under test, so that a fault in that does not look like an old kernel. A ring counts as locked
 * memory until the kernel gets round to freeing it, so a tight limit refuses the next test's ring at random. */
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

bool has_direct_files(void)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

void make_directory(void)
{
    const char *parent = getenv("TMPDIR");

    snprintf(directory, sizeof(directory), "%s/twinlog-io-XXXXXX", parent ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

void remove_directory(void)
{
    remove_tree(directory);
}

int create_way(const char *path, struct io **ret_io)
{
    return way->is_uring
               ? twl_io_uring_create(path, way->has_separate_barrier ? RING_LINKED : RING_DSYNC, ret_io)
               : twl_io_posix_create(path, !way->has_separate_barrier, ret_io);
}

void create_io(void)
{
    ck_assert_int_eq(create_way(directory, &io), 0);
    buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(buffer, MAP_FAILED);
}

void destroy_io(void)
{
    io->ops->destroy(io);
    munmap(buffer, BUFFER_BYTES);
}

bool choose(int combination, const char *test)
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

struct io_file *open_file(const char *name, unsigned flags)
{
    struct io_file *file = NULL;

    ck_assert_int_eq(io_open(io, name, flags | kind, &file), 0);
    return file;
}

struct io_file *create_file(const char *name)
{
    struct io_file *file = open_file(name, IO_CREATE);

    ck_assert_int_eq(io_allocate(file, FILE_BYTES, IO_ALLOCATE_WRITTEN), 0);
    return file;
}

const char *path_of(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

void fill_file(const char *name, size_t bytes, int value)
{
    FILE *file = fopen(path_of(name), "w");

    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < bytes; i++)
        putc(value, file);
    ck_assert_int_eq(fclose(file), 0);
}

void expect_bytes(const char *name, uint64_t offset, size_t size, int value)
{
    static unsigned char bytes[FILE_BYTES];
    size_t right = 0;
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, bytes, size, (off_t)offset), (ssize_t)size);
    close(fd);
    while (right < size && bytes[right] == value)
        right++;
    ck_assert_msg(right == size, "byte %zu of %s is %#x", (size_t)offset + right, name, bytes[right]);
}

struct io_write write_of(struct io_file *file, const unsigned char *data, size_t size, uint64_t offset)
{
    struct io_write write = { .file = file, .data = data, .size = size, .offset = offset };

    write.ret_written = write.ret_synced = 12345;
    return write;
}

void write_and_reap(struct io_write *write)
{
    io->ops->write_durably(io, write);
}

void expect_full(const struct io_write *write)
{
    ck_assert_int_eq(write->ret_written, (int64_t)write->size);
    ck_assert_int_eq(write->ret_synced, 0);
}

void write_durably(struct io_file *file, uint64_t offset, int value)
{
    struct io_write write = write_of(file, buffer, BLOCK_BYTES, offset);

    memset(buffer, value, BLOCK_BYTES);
    write_and_reap(&write);
    expect_full(&write);
}

int create_io_in_child(void)
{
    EXPECT(create_way(directory, &io) == 0);
    return 0;
}

volatile sig_atomic_t signals;

void count_signal(int number)
{
    (void)number;
    signals++;
}

static enum io_allocation how;

int allocate_in_every_way(size_t size)
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

void expect_size(const char *name, size_t size, bool is_reserved)
{
    struct stat about;

    ck_assert_int_eq(stat(path_of(name), &about), 0);
    ck_assert_int_eq(about.st_size, 64 * BLOCK_BYTES);
    ck_assert_int_eq(about.st_blocks * 512 >= 64 * BLOCK_BYTES, is_reserved);
    expect_bytes(name, 0, size, 'k');
    for (size_t at = size; at < 64 * BLOCK_BYTES; at += BLOCK_BYTES)
        expect_bytes(name, at, (size_t)min_u64(BLOCK_BYTES, 64 * BLOCK_BYTES - at), 0);
}

void expect_written(const char *name, const char *test)
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

int pipe_ends[2];

bool is_writable(void *page)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(write(ends[1], "w", 1), 1);
    bool answer = read(ends[0], page, 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return answer;
}
