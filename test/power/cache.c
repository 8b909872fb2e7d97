/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power-cache: the page cache of a file system that stays mounted when a write of it fails.
 *
 * A FUSE file system of our own keeps its files in a plain directory, the disk, and lets the kernel cache what is
 * written to it. Beside the disk is what a power cut would leave of it: each file as it was at its last fsync. When
 * told so, the disk refuses a write once: the kernel reports that to the next sync, and from then on takes the page for
 * clean, which has what the disk has not. A log is written there, closed after the failure, and opened again without
 * unmounting, in the same way or another. More is appended. Then
 *
 *   - the power goes: every acknowledged record is there,
 *   - and so it is in the log after the file system was unmounted and mounted again,
 *
 * and no opening refuses it.
 *
 * The disk passes over all flags of writes, as a FUSE file system may: each way to open a log there either refuses, or
 * loses nothing that was acknowledged. Everything is mounted in a mount namespace of the test's own.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 34
#include "../crash/reading.h"

#include "../../powercut/machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES 65536u

enum {
    SOUND = 3,      /* records before the failure */
    MORE = 4,       /* after it */
    ALL_KEPT = 100, /* records where nothing fails */
};

/* Shared with the server. */
static struct fault {
    _Atomic bool is_armed; /* the next write to a segment fails, and stores nothing */
    _Atomic unsigned failures;
    _Atomic bool is_cut;        /* the power is gone: what is synced now comes too late */
    _Atomic bool is_unbuffered; /* FOPEN_DIRECT_IO */
} * fault;

static char disk[300]; /* it is mounted at place.log, and what is synced is in place.copy */
static pid_t server;
static char stage[120]; /* the name of the program, and what it tries */

static void leave(void)
{
    umount2(place.log, MNT_DETACH);
    if (server > 0)
        kill(server, SIGKILL);
    remove_directory(disk);
}

static void must(bool is_done, const char *what)
{
    if (!is_done)
        give_up(what);
}

/* ---- the file system ------------------------------------------------------------------------------ */

static int disk_fd, kept_fd; /* of the directories, in the server; -1 where nothing is kept any more */

static int result_of(int result)
{
    return result < 0 ? -errno : result;
}

static const char *name_of(const char *path)
{
    return path[1] != '\0' ? path + 1 : ".";
}

/* Names survive at once: they are not what is tried. */
static int kept(void)
{
    return atomic_load(&fault->is_cut) ? -1 : kept_fd;
}

static void *serve_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    connection->want |= connection->capable & FUSE_CAP_WRITEBACK_CACHE;
    config->use_ino = 1;
    config->hard_remove = 1; /* else a name that is removed from an open file becomes another one */
    return NULL;
}

static int serve_getattr(const char *path, struct stat *about, struct fuse_file_info *file)
{
    return result_of(file ? fstat((int)file->fh, about)
                          : fstatat(disk_fd, name_of(path), about, AT_SYMLINK_NOFOLLOW));
}

static int serve_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                         struct fuse_file_info *file, enum fuse_readdir_flags flags)
{
    const int fd = openat(disk_fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    (void)path, (void)offset, (void)file, (void)flags;
    for (const struct dirent *entry; directory && (entry = readdir(directory));)
        fill(buffer, entry->d_name, NULL, 0, 0);
    if (directory)
        closedir(directory);
    return directory ? 0 : -EIO;
}

/* With the cache of the kernel a file is read to write a part of a page. */
static int serve_open(const char *path, struct fuse_file_info *file)
{
    const int fd = openat(disk_fd, name_of(path), O_RDWR);
    file->fh = (uint64_t)fd;
    file->keep_cache = 1;
    file->direct_io = atomic_load(&fault->is_unbuffered);
    return fd < 0 ? -errno : 0;
}

static int serve_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
    const int fd = openat(disk_fd, name_of(path), O_RDWR | O_CREAT | O_EXCL, mode);
    close(openat(kept(), name_of(path), O_RDWR | O_CREAT | O_TRUNC, mode));
    file->fh = (uint64_t)fd;
    file->direct_io = atomic_load(&fault->is_unbuffered);
    return fd < 0 ? -errno : 0;
}

static int serve_release(const char *path, struct fuse_file_info *file)
{
    (void)path;
    close((int)file->fh);
    return 0;
}

static int serve_read(const char *path, char *bytes, size_t size, off_t offset, struct fuse_file_info *file)
{
    (void)path;
    return result_of((int)pread((int)file->fh, bytes, size, offset));
}

static int serve_write(const char *path, const char *bytes, size_t size, off_t offset,
                       struct fuse_file_info *file)
{
    const char *suffix = path ? strstr(path, ".twl") : NULL;
    const bool is_segment = suffix && strcmp(suffix, ".twl") == 0; /* not one that is being made: .twl.new */
    if (is_segment && atomic_exchange(&fault->is_armed, false)) {
        atomic_fetch_add(&fault->failures, 1);
        return -EIO;
    }
    return result_of((int)pwrite((int)file->fh, bytes, size, offset));
}

static int serve_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
    (void)path;
    return file ? result_of(ftruncate((int)file->fh, size)) : -EINVAL;
}

static int serve_fallocate(const char *path, int mode, off_t offset, off_t size, struct fuse_file_info *file)
{
    (void)path;
    return result_of(fallocate((int)file->fh, mode, offset, size));
}

/* What the file has now survives a power cut. */
static int serve_fsync(const char *path, int is_data_only, struct fuse_file_info *file)
{
    static char bytes[COPY_BYTES];
    const int to = path ? openat(kept(), name_of(path), O_WRONLY | O_TRUNC | O_CLOEXEC) : -1;
    bool is_kept = true;
    ssize_t size = 0;
    (void)is_data_only;
    if (to < 0) /* it has no name, or it is too late */
        return 0;
    for (off_t at = 0; is_kept && (size = pread((int)file->fh, bytes, sizeof(bytes), at)) > 0; at += size)
        is_kept = write(to, bytes, (size_t)size) == size;
    close(to);
    return is_kept && size == 0 ? 0 : -EIO;
}

static int serve_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
    return result_of(file ? futimens((int)file->fh, times) : utimensat(disk_fd, name_of(path), times, 0));
}

static int serve_unlink(const char *path)
{
    unlinkat(kept(), name_of(path), 0);
    return result_of(unlinkat(disk_fd, name_of(path), 0));
}

static int serve_rename(const char *from, const char *to, unsigned flags)
{
    if (flags)
        return -EINVAL;
    renameat(kept(), name_of(from), kept(), name_of(to));
    return result_of(renameat(disk_fd, name_of(from), disk_fd, name_of(to)));
}

static int serve_link(const char *from, const char *to)
{
    if (linkat(kept(), name_of(from), kept(), name_of(to), 0) < 0 && errno != ENOENT) /* it was never kept */
        return -errno;
    return result_of(linkat(disk_fd, name_of(from), disk_fd, name_of(to), 0));
}

static const struct fuse_operations operations = {
    .init = serve_init,
    .getattr = serve_getattr,
    .readdir = serve_readdir,
    .open = serve_open,
    .create = serve_create,
    .release = serve_release,
    .read = serve_read,
    .write = serve_write,
    .truncate = serve_truncate,
    .fallocate = serve_fallocate,
    .fsync = serve_fsync,
    .utimens = serve_utimens,
    .unlink = serve_unlink,
    .rename = serve_rename,
    .link = serve_link,
};

/* Tells the parent by a byte that it is mounted. */
static void serve(void *context)
{
    const int *told = context;
    char *arguments[] = { "power-cache", NULL };
    struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
    disk_fd = open(disk, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    kept_fd = open(place.copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fuse *fuse = fuse_new(&args, &operations, sizeof(operations), NULL);
    if (disk_fd >= 0 && kept_fd >= 0 && fuse && fuse_mount(fuse, place.log) == 0 &&
        write(told[1], "", 1) == 1)
        fuse_loop(fuse);
}

static void mount_disk(void)
{
    int told[2];
    char byte;
    must(pipe2(told, O_CLOEXEC) == 0, "pipe2");
    server = fork_child(serve, told);
    close(told[1]);
    if (read(told[0], &byte, 1) != 1)
        machine_missing("the FUSE file system cannot be mounted");
    close(told[0]);
}

static void unmount_disk(void)
{
    must(umount2(place.log, 0) == 0, "umount2");
    reap_well(server, "the file system");
    server = 0;
}

static void begin_disk(bool is_unbuffered)
{
    atomic_store(&fault->is_cut, false);
    atomic_store(&fault->is_unbuffered, is_unbuffered);
    must(mkdir(disk, 0700) == 0 && mkdir(place.copy, 0700) == 0, disk);
    mount_disk();
}

static void end_disk(void)
{
    unmount_disk();
    remove_directory(disk);
    remove_directory(place.copy);
}

/* ---- the log -------------------------------------------------------------------------------------- */

/* A way to write a log. */
struct way {
    const char *name;
    uint32_t flags, mode, io;
};

static const struct way ways[] = {
    { "buffered", TWINLOG_BUFFERED, TWINLOG_MODE_DURABLE, TWINLOG_IO_FDATASYNC },
    { "buffered, padded", TWINLOG_BUFFERED | TWINLOG_PAD, TWINLOG_MODE_DURABLE, TWINLOG_IO_FDATASYNC },
    { "buffered, linked", TWINLOG_BUFFERED | TWINLOG_PAD, TWINLOG_MODE_DURABLE, TWINLOG_IO_URING_LINKED },
    { "mapped", 0, TWINLOG_MODE_MAPPED, TWINLOG_IO_FDATASYNC },
    { "direct", 0, TWINLOG_MODE_DURABLE, TWINLOG_IO_FDATASYNC },
    { "direct, padded", TWINLOG_PAD, TWINLOG_MODE_DURABLE, TWINLOG_IO_FDATASYNC },
};
enum {
    WAYS = sizeof(ways) / sizeof(ways[0]),
    CACHED = 4, /* so many of them use the page cache */
};

static struct twinlog_report report; /* of the opening */

static int open_log(const char *directory, const struct way *way, struct twinlog_committer *committer,
                    struct twinlog **ret_log)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.flags = way->flags;
    options.mode = way->mode;
    options.io = way->io;
    options.committer = committer;
    options.segment_bytes = options.mapped_bytes = UINT64_C(1) << 20;
    options.buffer_bytes = 1u << 16;
    options.ret_report = &report;
    return twinlog_open(directory, &options, ret_log);
}

/* NULL: this kernel refuses that way. */
static struct twinlog *try_to_open(const char *directory, const struct way *way)
{
    struct twinlog *log = NULL;
    const int result = open_log(directory, way, NULL, &log);
    if (result < 0 && result != -ENOTSUP && result != -EINVAL)
        violation("open, %s, refused the log: %s: %s", way->name, twinlog_strerror(result), report.text);
    return result < 0 ? NULL : log;
}

static size_t compose(char text[40], uint64_t number)
{
    return (size_t)snprintf(text, 40, "record %" PRIu64, number);
}

/* One record, acknowledged; or the error. */
static int append(struct twinlog *log, uint64_t number)
{
    char text[40];
    const int result = twinlog_append(log, text, compose(text, number), NULL);
    return result < 0 ? result : twinlog_sync(log);
}

static void append_some(struct twinlog *log, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        check_call(append(log, first + i), "an append");
}

/* Records 1 to the last, then perhaps the one that was not acknowledged, then MORE; the first after the failure was
 * appended with the number of that one again. */
static void see_record(void *context, const struct twinlog_record *record)
{
    uint64_t *last = context;
    char text[40];
    const size_t size = compose(text, ++*last);
    if (record->lsn != *last || record->size != size || memcmp(record->data, text, size) != 0)
        complain_of_record(record, "is another one");
}

static void check_log(const char *directory, const struct way *way, uint64_t last, const char *when)
{
    struct twinlog *log = try_to_open(directory, way);
    uint64_t found = 0;
    if (!log)
        violation("%s the log cannot be opened any more, %s", when, way->name);
    read_log(NULL, log, 0, see_record, &found);
    if (found != last)
        violation("%s there are records up to %" PRIu64 ", acknowledged were %" PRIu64, when, found, last);
    check_call(twinlog_close(log), "twinlog_close");
}

/* What was not synced is gone. The server has answered all calls of before when it answers this one. */
static void cut_power(const struct way *way, uint64_t last)
{
    char none[320];
    atomic_store(&fault->is_cut, true);
    snprintf(none, sizeof(none), "%s/none", place.log);
    access(none, F_OK);
    check_log(place.copy, way, last, "after a power cut");
}

/* False if a log cannot be written in one of the ways here. */
static bool try_ways(const struct way *before, const struct way *after)
{
    struct twinlog *log = try_to_open(place.log, before);
    if (!log)
        return false;
    append_some(log, 1, SOUND);
    /* It may be the write of another segment that fails, of one that the log's thread prepares or seals. */
    uint64_t sound = SOUND;
    for (atomic_store(&fault->is_armed, true); append(log, sound + 1) == 0; sound++) {
        if (atomic_exchange(&fault->is_armed, true))
            violation("an append returned 0 and has written nothing");
    }
    twinlog_close(log);
    atomic_store(&fault->is_armed, false);

    log = try_to_open(place.log, after);
    if (!log)
        return false;
    const uint64_t found = twinlog_last_lsn(log);
    if (found < sound)
        violation("open found records up to %" PRIu64 ", acknowledged were %" PRIu64, found, sound);
    append_some(log, found + 1, MORE);
    cut_power(after, found + MORE);
    check_call(twinlog_close(log), "twinlog_close");
    unmount_disk();
    mount_disk();
    check_log(place.log, after, found + MORE, "after a mount");
    return true;
}

static unsigned try_all_ways(void)
{
    unsigned tried = 0;
    for (unsigned i = 0; i < CACHED * WAYS; i++) {
        const struct way *before = &ways[i / WAYS], *after = &ways[i % WAYS];
        const unsigned failures = atomic_load(&fault->failures);
        snprintf(stage, sizeof(stage), "power-cache: %s, then %s", before->name, after->name);
        begin_disk(false);
        const bool is_done = try_ways(before, after);
        if (is_done && atomic_load(&fault->failures) == failures)
            violation("no write has failed");
        end_disk();
        tried += is_done;
        if (!is_done)
            printf("SKIP %s: this kernel refuses it\n", stage);
    }
    return tried;
}

/* ---- nothing fails ------------------------------------------------------------------------------- */

static const struct way sound_ways[] = {
    { "auto", 0, TWINLOG_MODE_DURABLE, TWINLOG_IO_AUTO },
    { "io_uring", 0, TWINLOG_MODE_DURABLE, TWINLOG_IO_URING },
    { "io_uring linked", 0, TWINLOG_MODE_DURABLE, TWINLOG_IO_URING_LINKED },
    { "RWF_DSYNC", 0, TWINLOG_MODE_DURABLE, TWINLOG_IO_DSYNC },
    { "fdatasync", 0, TWINLOG_MODE_DURABLE, TWINLOG_IO_FDATASYNC },
    { "buffered", TWINLOG_BUFFERED, TWINLOG_MODE_DURABLE, TWINLOG_IO_AUTO },
    { "mapped", 0, TWINLOG_MODE_MAPPED, TWINLOG_IO_AUTO },
    { "shared", 0, TWINLOG_MODE_SHARED, TWINLOG_IO_AUTO },
};

/* False if it is refused, as it must be where a flag of the write is the only sync. */
static bool try_sound(const struct way *way, struct twinlog_committer *committer)
{
    struct twinlog *log = NULL;
    if (open_log(place.log, way, committer, &log) < 0)
        return false;
    append_some(log, 1, ALL_KEPT);
    cut_power(&ways[0], ALL_KEPT);
    check_call(twinlog_close(log), "twinlog_close");
    return true;
}

static unsigned try_all_sound(void)
{
    unsigned tried = 0;
    struct twinlog_committer *committer = NULL;
    check_call(twinlog_committer_open(NULL, &committer), "a shared committer");
    for (unsigned i = 0; i < 4 * sizeof(sound_ways) / sizeof(sound_ways[0]); i++) {
        const struct way *way = &sound_ways[i / 4];
        const bool is_unbuffered = i % 2, is_shared = i / 2 % 2;
        const bool is_by_flag = way->io != TWINLOG_IO_AUTO && way->io != TWINLOG_IO_FDATASYNC;
        if (is_shared && way->mode != TWINLOG_MODE_DURABLE)
            continue;
        snprintf(stage, sizeof(stage), "power-cache: %s%s%s", way->name, is_unbuffered ? ", not cached" : "",
                 is_shared ? ", shared committer" : "");
        begin_disk(is_unbuffered);
        const bool is_done = try_sound(way, is_shared ? committer : NULL);
        if (is_done && is_by_flag)
            violation("a log counts on a flag of the write");
        /* without the cache of the kernel there may be no shared mappings */
        if (!is_done && !is_by_flag && (way->mode == TWINLOG_MODE_DURABLE || !is_unbuffered))
            violation("the log is refused");
        end_disk();
        tried += is_done;
    }
    twinlog_committer_close(committer);
    return tried;
}

static void prepare(void)
{
    strcpy(stage, "power-cache");
    place.program = stage;
    make_place(NULL);
    place.keep = place.leave = leave;
    snprintf(disk, sizeof(disk), "%s/disk", place.directory);
    fault = map_shared(sizeof(*fault));
    if (geteuid() != 0)
        machine_missing("only root can mount");
    if (access("/dev/fuse", R_OK | W_OK) < 0)
        machine_missing("/dev/fuse cannot be opened");
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        machine_missing("no mount namespace of our own");
    must(mkdir(place.log, 0700) == 0, place.log);
}

int main(void)
{
    prepare();
    const unsigned tried = try_all_ways();
    if (tried == 0)
        machine_missing("this kernel refuses all ways");
    const unsigned kept_ways = try_all_sound();
    remove_place();
    printf(
        "power-cache: %u ways to open a log behind a write that failed, %u where none failed, no violation\n",
        tried, kept_ways);
    return EXIT_SUCCESS;
}
