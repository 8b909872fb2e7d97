/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power-cache: the page cache of a file system that stays mounted when a write of it fails.
 *
 * A FUSE file system of our own keeps its files in a plain directory, the disk, and lets the kernel cache what is
 * written to it. When told so, the disk refuses a write once: the kernel reports that to the next sync, and from then
 * on takes the page for clean, which has what the disk has not. A log is written there, closed after the failure, and
 * opened again without unmounting, in the same way or another. More is appended. Then
 *
 *   - the power goes: the disk as it is now, copied, holds every acknowledged record,
 *   - and so does the log after the file system was unmounted and mounted again,
 *
 * and no opening refuses it.
 *
 * Then the disk keeps of a file what it had at its last fsync, and passes over all flags of writes, as a FUSE file
 * system may: each way to open a log there either refuses, or loses nothing that was acknowledged. Everything is
 * mounted in a mount namespace of the test's own, so nothing is left.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 34
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <twinlog_admin.h>
#include <unistd.h>

#define SKIPPED 77
#define COPY_BYTES 65536u

enum {
    SOUND = 3,      /* records before the failure */
    MORE = 4,       /* after it */
    ALL_KEPT = 100, /* records on the disk that keeps what was synced */
};

/* Shared with the server. */
static struct fault {
    _Atomic bool is_armed; /* the next write to a segment fails, and stores nothing */
    _Atomic unsigned failures;
    _Atomic bool keeps_synced;  /* the image gets what is synced, when it is synced */
    _Atomic bool is_unbuffered; /* FOPEN_DIRECT_IO */
} * fault;

static char work[200], disk[256], mounted[256], image[256], synced[256];
static pid_t server;
static const char *stage = "";

/* ---- the end -------------------------------------------------------------------------------------- */

static void remove_files(const char *path)
{
    DIR *directory = opendir(path);
    for (const struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
}

static void clean_up(void)
{
    umount2(mounted, MNT_DETACH);
    if (server > 0)
        kill(server, SIGKILL);
    remove_files(disk);
    remove_files(image);
    remove_files(synced);
    rmdir(disk);
    rmdir(image);
    rmdir(synced);
    rmdir(mounted);
    rmdir(work);
}

static _Noreturn void end(int status, const char *how, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static _Noreturn void end(int status, const char *how, const char *format, ...)
{
    va_list arguments;
    printf("%s power-cache: %s", how, stage);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    clean_up();
    _Exit(status);
}

#define skip(...) end(SKIPPED, "SKIP", __VA_ARGS__)
#define violation(...) end(EXIT_FAILURE, "VIOLATION", __VA_ARGS__)

static void must(bool is_done, const char *what)
{
    if (!is_done)
        end(EXIT_FAILURE, "FAILED", "%s: %s", what, strerror(errno));
}

/* ---- the file system ------------------------------------------------------------------------------ */

static int disk_fd, synced_fd; /* of the directories, in the server */

static int result_of(int result)
{
    return result < 0 ? -errno : result;
}

static const char *name_of(const char *path)
{
    return path[1] != '\0' ? path + 1 : ".";
}

static const char *number_of(int fd)
{
    static char number[24];
    struct stat about;
    snprintf(number, sizeof(number), "%ju", fstat(fd, &about) == 0 ? (uintmax_t)about.st_ino : 0);
    return number;
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
    if (fd >= 0)
        unlinkat(synced_fd, number_of(fd), 0); /* another file had the number */
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

/* What the file has now survives a power cut. By the file's number, since names may change. */
static int keep(int fd)
{
    static char bytes[COPY_BYTES];
    const int kept = openat(synced_fd, number_of(fd), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool is_kept = kept >= 0;
    ssize_t size = 0;
    for (off_t offset = 0; is_kept && (size = pread(fd, bytes, sizeof(bytes), offset)) > 0; offset += size)
        is_kept = write(kept, bytes, (size_t)size) == size;
    if (kept >= 0)
        close(kept);
    return is_kept && size == 0 ? 0 : -EIO;
}

static int serve_fsync(const char *path, int is_data_only, struct fuse_file_info *file)
{
    (void)path, (void)is_data_only;
    return atomic_load(&fault->keeps_synced) ? keep((int)file->fh) : 0; /* the disk has no cache */
}

static int serve_fsyncdir(const char *path, int is_data_only, struct fuse_file_info *file)
{
    (void)path, (void)is_data_only, (void)file;
    return 0;
}

static int serve_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
    return result_of(file ? futimens((int)file->fh, times) : utimensat(disk_fd, name_of(path), times, 0));
}

static int serve_unlink(const char *path)
{
    return result_of(unlinkat(disk_fd, name_of(path), 0));
}

static int serve_rename(const char *from, const char *to, unsigned flags)
{
    return flags ? -EINVAL : result_of(renameat(disk_fd, name_of(from), disk_fd, name_of(to)));
}

static int serve_link(const char *from, const char *to)
{
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
    .fsyncdir = serve_fsyncdir,
    .utimens = serve_utimens,
    .unlink = serve_unlink,
    .rename = serve_rename,
    .link = serve_link,
};

/* Tells the parent by a byte that it is mounted. */
static _Noreturn void serve(int told)
{
    char *arguments[] = { "power-cache", NULL };
    struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    disk_fd = open(disk, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    synced_fd = open(synced, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fuse *fuse = fuse_new(&args, &operations, sizeof(operations), NULL);
    if (disk_fd < 0 || synced_fd < 0 || !fuse || fuse_mount(fuse, mounted) != 0 || write(told, "", 1) != 1)
        _exit(EXIT_FAILURE);
    fuse_loop(fuse);
    _exit(EXIT_SUCCESS);
}

static void mount_disk(void)
{
    int told[2];
    char byte;
    must(pipe2(told, O_CLOEXEC) == 0, "pipe2");
    server = fork();
    must(server >= 0, "fork");
    if (server == 0)
        serve(told[1]);
    close(told[1]);
    if (read(told[0], &byte, 1) != 1)
        skip("the FUSE file system cannot be mounted");
    close(told[0]);
}

static void unmount_disk(void)
{
    int status;
    must(umount2(mounted, 0) == 0, "umount2");
    must(waitpid(server, &status, 0) == server, "waitpid");
    server = 0;
}

/* ---- the disk without the cache ------------------------------------------------------------------- */

static void copy_file(int from, int to)
{
    static char bytes[COPY_BYTES];
    ssize_t size;
    must(from >= 0 && to >= 0, "opening a file of the disk");
    while ((size = read(from, bytes, sizeof(bytes))) > 0)
        must(write(to, bytes, (size_t)size) == size, "copying the disk");
    must(size == 0, "reading the disk");
    close(from);
    close(to);
}

/* Calls `each` for every file of the directory; false if one of the calls returned false. */
static bool for_each_file(int from, int to, bool (*each)(int from, int to, const char *name))
{
    DIR *directory = fdopendir(openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    bool is_done = directory != NULL;
    must(is_done, "opening the disk");
    for (const struct dirent *entry; is_done && (entry = readdir(directory));)
        is_done = entry->d_name[0] == '.' || each(from, to, entry->d_name);
    closedir(directory);
    return is_done;
}

static bool copy(int from, int to, const char *name)
{
    const int old = openat(from, name, O_RDONLY | O_CLOEXEC);
    if (old < 0)
        return false;
    copy_file(old, openat(to, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    return true;
}

static bool is_in(int from, int to, const char *name)
{
    (void)from;
    return faccessat(to, name, F_OK, 0) == 0;
}

/* Names survive at once: they are not what is tried. */
static bool get_synced(int from, int to, const char *name)
{
    char path[sizeof(synced) + 24];
    struct stat about;
    if (fstatat(from, name, &about, 0) < 0)
        return false;
    snprintf(path, sizeof(path), "%s/%ju", synced, (uintmax_t)about.st_ino);
    const int empty =
        linkat(AT_FDCWD, path, to, name, 0) < 0 ? openat(to, name, O_CREAT | O_WRONLY, 0600) : -1;
    if (empty >= 0)
        close(empty);
    return is_in(from, to, name);
}

/* What the next boot would find. The log's thread may give a file another name meanwhile, and a disk has no moment at
 * which half of the names are old: then again. */
static void make_image(bool (*get)(int from, int to, const char *name))
{
    const int from = open(disk, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
              to = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(from >= 0 && to >= 0, "opening the disk");
    while (!for_each_file(from, to, get) || !for_each_file(from, to, is_in) ||
           !for_each_file(to, from, is_in))
        remove_files(image);
    close(from);
    close(to);
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

static struct twinlog *open_log(const char *directory, const struct way *way)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_report report;
    struct twinlog *log = NULL;
    options.flags = way->flags;
    options.mode = way->mode;
    options.io = way->io;
    options.segment_bytes = UINT64_C(1) << 20;
    options.buffer_bytes = 1u << 16;
    options.mapped_bytes = UINT64_C(1) << 20;
    options.ret_report = &report;
    const int result = twinlog_open(directory, &options, &log);
    if (result == -ENOTSUP || result == -EINVAL)
        return NULL;
    if (result < 0)
        violation("open, %s, refused the log: %s: %s", way->name, twinlog_strerror(result), report.text);
    return log;
}

/* One record, acknowledged; or the error. */
static int append(struct twinlog *log, uint64_t number)
{
    char text[40];
    uint64_t lsn = 0;
    const int size = snprintf(text, sizeof(text), "record %llu", (unsigned long long)number);
    const int result = twinlog_append(log, text, (size_t)size, &lsn);
    return result < 0 ? result : twinlog_sync(log);
}

static void append_some(struct twinlog *log, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        const int result = append(log, first + i);
        if (result < 0)
            violation("an append on a disk that works again failed: %s", twinlog_strerror(result));
    }
}

/* Records 1 to `sound`, then perhaps the one that was not acknowledged, then MORE; the first after the failure was
 * appended as `sound` + 1 again. */
static void check_records(struct twinlog *log, uint64_t last, const char *where)
{
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;
    uint64_t next = 1;
    int result = twinlog_reader_attach(log, NULL, &reader);
    while (result == 0 && (result = twinlog_reader_next(reader, &record)) == 1) {
        char text[40];
        const int size = snprintf(text, sizeof(text), "record %llu", (unsigned long long)next);
        if (record.lsn != next || record.size != (size_t)size || memcmp(record.data, text, (size_t)size) != 0)
            violation("%s LSN %llu is not record %llu", where, (unsigned long long)record.lsn,
                      (unsigned long long)next);
        next++;
        result = 0;
    }
    twinlog_reader_close(reader);
    if (result < 0 || next != last + 1)
        violation("%s there are records up to %llu, acknowledged were %llu: %s", where,
                  (unsigned long long)next - 1, (unsigned long long)last, twinlog_strerror(result));
}

static void check_log(const char *directory, const struct way *way, uint64_t last, const char *where)
{
    struct twinlog *log = open_log(directory, way);
    if (!log)
        violation("%s the log cannot be opened any more, %s", where, way->name);
    check_records(log, last, where);
    if (twinlog_close(log) < 0)
        violation("%s the log cannot be closed", where);
}

/* False if a log cannot be written in one of the ways here. */
static bool try_ways(const struct way *before, const struct way *after)
{
    struct twinlog *log = open_log(mounted, before);
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

    log = open_log(mounted, after);
    if (!log)
        return false;
    const uint64_t found = twinlog_last_lsn(log);
    if (found < sound)
        violation("open found records up to %llu, acknowledged were %llu", (unsigned long long)found,
                  (unsigned long long)sound);
    append_some(log, found + 1, MORE);
    make_image(copy);
    check_log(image, after, found + MORE, "after a power cut");
    remove_files(image);
    if (twinlog_close(log) < 0)
        violation("the log cannot be closed");
    unmount_disk();
    mount_disk();
    check_log(mounted, after, found + MORE, "after a mount");
    return true;
}

/* ---- the disk that keeps what was synced --------------------------------------------------------- */

static const struct way kept_ways[] = {
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
static bool try_kept(const struct way *way, struct twinlog_committer *committer)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log = NULL;
    options.flags = way->flags;
    options.mode = way->mode;
    options.io = way->io;
    options.committer = committer;
    const int result = twinlog_open(mounted, &options, &log);
    if (result < 0)
        return false;
    for (uint64_t i = 1; i <= ALL_KEPT; i++) {
        if (append(log, i) < 0)
            violation("an append failed");
    }
    atomic_store(&fault->keeps_synced, false); /* the power goes */
    make_image(get_synced);
    remove_files(synced);
    check_log(image, &ways[0], ALL_KEPT, "after a power cut");
    if (twinlog_close(log) < 0)
        violation("the log cannot be closed");
    return true;
}

static unsigned try_all_kept(void)
{
    static char words[100];
    unsigned tried = 0;
    struct twinlog_committer *committer = NULL;
    must(twinlog_committer_open(NULL, &committer) == 0, "a shared committer");
    for (unsigned i = 0; i < 4 * sizeof(kept_ways) / sizeof(kept_ways[0]); i++) {
        const struct way *way = &kept_ways[i / 4];
        const bool is_unbuffered = i % 2, is_shared = i / 2 % 2;
        const bool is_by_flag = way->io != TWINLOG_IO_AUTO && way->io != TWINLOG_IO_FDATASYNC;
        if (is_shared && way->mode != TWINLOG_MODE_DURABLE)
            continue;
        snprintf(words, sizeof(words), "kept as synced, %s%s%s: ", way->name,
                 is_unbuffered ? ", not cached" : "", is_shared ? ", shared committer" : "");
        stage = words;
        atomic_store(&fault->is_unbuffered, is_unbuffered);
        atomic_store(&fault->keeps_synced, true);
        mount_disk();
        const bool is_done = try_kept(way, is_shared ? committer : NULL);
        if (is_done && is_by_flag)
            violation("a log counts on a flag of the write");
        /* without the cache of the kernel there may be no shared mappings */
        if (!is_done && !is_by_flag && (way->mode == TWINLOG_MODE_DURABLE || !is_unbuffered))
            violation("the log is refused");
        atomic_store(&fault->keeps_synced, false);
        unmount_disk();
        remove_files(disk);
        remove_files(image);
        tried += is_done;
    }
    atomic_store(&fault->is_unbuffered, false);
    twinlog_committer_close(committer);
    stage = "";
    return tried;
}

static void prepare(void)
{
    const char *temporary = getenv("TMPDIR");
    const int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (geteuid() != 0)
        skip("only root can mount");
    if (fd < 0)
        skip("/dev/fuse cannot be opened: %s", strerror(errno));
    close(fd);
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        skip("no mount namespace of our own: %s", strerror(errno));
    fault = mmap(NULL, sizeof(*fault), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(fault != MAP_FAILED, "mmap");
    snprintf(work, sizeof(work), "%.150s/power-cache-XXXXXX", temporary ? temporary : "/tmp");
    must(mkdtemp(work) != NULL, work);
    snprintf(disk, sizeof(disk), "%s/disk", work);
    snprintf(mounted, sizeof(mounted), "%s/mounted", work);
    snprintf(image, sizeof(image), "%s/image", work);
    snprintf(synced, sizeof(synced), "%s/synced", work);
    must(mkdir(disk, 0700) == 0 && mkdir(mounted, 0700) == 0 && mkdir(image, 0700) == 0 &&
             mkdir(synced, 0700) == 0,
         work);
}

int main(void)
{
    static char words[100];
    unsigned tried = 0;
    prepare();
    for (unsigned i = 0; i < CACHED * WAYS; i++) {
        const struct way *before = &ways[i / WAYS], *after = &ways[i % WAYS];
        const unsigned failures = atomic_load(&fault->failures);
        snprintf(words, sizeof(words), "%s, then %s: ", before->name, after->name);
        stage = words;
        mount_disk();
        const bool is_done = try_ways(before, after);
        if (is_done && atomic_load(&fault->failures) == failures)
            violation("no write has failed");
        unmount_disk();
        remove_files(disk);
        tried += is_done;
        if (!is_done)
            printf("SKIP power-cache: %sthis kernel refuses it\n", stage);
    }
    stage = "";
    if (tried == 0)
        skip("this kernel refuses all ways");
    const unsigned kept = try_all_kept();
    clean_up();
    printf(
        "power-cache: %u ways to open a log behind a write that failed, %u on a disk that keeps what was synced, no "
        "violation\n",
        tried, kept);
    return EXIT_SUCCESS;
}
