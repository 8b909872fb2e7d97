/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink-mounts FILESYSTEM: a sink on a file system of that kind, which the test makes and mounts.
 *
 * The file system is in an image on a loop device, or in memory, or is an overlay on an ext4. It is mounted in a mount
 * namespace of the test's own, so the kernel takes everything back when the test is gone, also if it was killed. The
 * sink is used in child processes; this process has no threads. A power cut is a copy of the image, taken when nothing
 * is written to it, and another boot identity: what was only in the page cache is lost.
 *
 * What is missing here (root, a loop device, mkfs) ends the program with 77 and the reason.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define LINE_BYTES 64u
#define LINES 900u             /* in four files of MAX_BYTES each, so that the oldest is removed */
#define MAX_BYTES (3u * 4096u) /* a multiple of LINE_BYTES */
#define SYNCED_LINES 100u      /* so many are written before the sync */
#define FULL_BYTES (8u << 20)  /* more than is left on the full disk */
#define STRANGER 12345u        /* a user */
#define CHILD_SECONDS 300u     /* only what hangs takes so long */
#define COPIES 100u            /* until two are the same */
#define MKFS_EXT "-q -F -m 0 -E lazy_itable_init=0,lazy_journal_init=0 disk"

static const struct kind {
    const char *name, *make, *mount, *unmount;
    unsigned image_mib; /* 0: nothing survives an unmount */
    bool keeps_room;    /* that was reserved. Otherwise a sink on a full disk may end with -EIO */
} kinds[] = {
    { "ext3", "mkfs.ext3 -I 128 " MKFS_EXT, "mount -o loop disk m", "umount m", 64, true },
    { "ext4", "mkfs.ext4 " MKFS_EXT, "mount -o loop disk m", "umount m", 64, true },
    { "xfs", "mkfs.xfs -q -f disk", "mount -o loop disk m", "umount m", 320, true },
    { "btrfs", "mkfs.btrfs -q -f disk", "mount -o loop disk m", "umount m", 160, false },
    { "tmpfs", "true", "mount -t tmpfs -o size=32m none m", "umount m", 0, true },
    { "overlay", "mkfs.ext4 " MKFS_EXT,
      "mount -o loop disk below && mkdir -p below/lower below/upper below/work && "
      "mount -t overlay -o lowerdir=below/lower,upperdir=below/upper,workdir=below/work none m",
      "umount m && umount below", 64, true },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct kind *kind;
static char place[300];
static const char *step = "mounting"; /* for messages */

/* In memory that the processes share. */
static struct notes {
    _Atomic uint64_t acked; /* lines */
    _Atomic int turn;       /* of processes that wait for each other */
} * notes;

/* ---- the test ------------------------------------------------------------------------------------ */

static void put_back(void)
{
    char command[1100];
    snprintf(command, sizeof(command),
             "cd / && { umount '%s/m'; umount '%s/below'; rm -r --one-file-system '%s'; } >/dev/null 2>&1",
             place, place, place);
    if (*place)
        (void)!system(command);
}

static _Noreturn void end(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static _Noreturn void end(int code, const char *format, ...)
{
    va_list arguments;
    if (code == 77)
        printf("SKIP sink-on-%s: ", kind->name);
    else
        printf("sink-on-%s: %s: ", kind->name, step);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    put_back();
    _exit(code);
}

/* In a child: ends it, which ends the test. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                 \
            fflush(stdout);                                                                                  \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

static bool run(const char *command)
{
    char line[1200];
    snprintf(line, sizeof(line), "cd '%s' && { %s; } >output 2>&1 </dev/null", place, command);
    return system(line) == 0;
}

static void must_run(const char *command)
{
    if (!run(command))
        end(1, "this fails: %s", command);
}

static pid_t start(void (*body)(void))
{
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0)
        end(1, "fork: %s", strerror(errno));
    if (child > 0)
        return child;
    alarm(CHILD_SECONDS);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (chdir("m/d") < 0)
        _exit(1);
    body();
    _exit(0);
}

static void await(pid_t child, int expected_signal)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (expected_signal ? !WIFSIGNALED(status) || WTERMSIG(status) != expected_signal : status != 0)
        end(1, "a process ended with status %#x", (unsigned)status);
}

static void in_child(void (*body)(void))
{
    await(start(body), 0);
}

static void wait_for_turn(int turn)
{
    while (atomic_load(&notes->turn) != turn)
        usleep(1000);
}

/* The same for a turn that a child announces, unless it ends. */
static void wait_for_child(pid_t child, int turn)
{
    siginfo_t info = { 0 };
    while (atomic_load(&notes->turn) != turn) {
        if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == child)
            end(1, "a process ended too early");
        usleep(1000);
    }
}

/* ---- the file system ----------------------------------------------------------------------------- */

static void mount_again(void)
{
    must_run(kind->mount);
    must_run("mkdir -p m/d && chmod 777 m/d");
}

static void make_file_system(void)
{
    char command[100];
    if (geteuid() != 0)
        end(77, "only root can mount");
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        end(77, "no mount namespace of its own: %s", strerror(errno));
    const char *parent = getenv("TMPDIR");
    snprintf(place, sizeof(place), "%s/sink-mounts.XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(place) || chdir(place) < 0)
        end(1, "%s: %s", place, strerror(errno));
    must_run("mkdir m below");
    snprintf(command, sizeof(command), "truncate -s %uM disk", kind->image_mib);
    must_run(command);
    if (!run(kind->make))
        end(77, "there is no such file system: %s", kind->make);
    if (!run(kind->mount))
        end(77, "cannot be mounted here: %s", kind->mount);
    must_run("mkdir m/d && chmod 777 m/d");
}

/* Occupies the loop device that is free, so that the next mount gets another one, and another device number. */
static void occupy_a_loop_device(void)
{
    char path[40];
    struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    snprintf(path, sizeof(path), "/dev/loop%d", number);
    const int loop = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC); /* stays open */
    const int file = open("other", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    config.fd = (uint32_t)file;
    if (loop >= 0 && file >= 0 && ftruncate(file, 1 << 20) == 0)
        (void)!ioctl(loop, LOOP_CONFIGURE, &config); /* if it fails, the device number may stay what it is */
    if (file >= 0)
        close(file);
    if (control >= 0)
        close(control);
}

static void remount(void)
{
    must_run(kind->unmount);
    mount_again();
}

/* ---- lines --------------------------------------------------------------------------------------- */

static void make_line(char line[LINE_BYTES + 1], uint64_t number)
{
    snprintf(line, LINE_BYTES + 1, "%08u %054u\n", (unsigned)(number % 100000000u), 0u);
}

static int put_line(struct twinlog_sink *sink, uint64_t number)
{
    char line[LINE_BYTES + 1];
    make_line(line, number);
    return twinlog_sink_write(sink, line, LINE_BYTES, NULL);
}

static struct twinlog_sink_options options_of(uint32_t flags)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    options.flags = TWINLOG_SINK_MAPPED | flags;
    options.initial_bytes = 4096;
    return options;
}

static int open_sink(uint32_t flags, struct twinlog_sink **ret_sink)
{
    const struct twinlog_sink_options options = options_of(flags);
    return twinlog_sink_open("out", &options, ret_sink);
}

/* All bytes of a file; the caller frees them. NULL: there is none. */
static char *read_file(const char *name, uint64_t *ret_size)
{
    struct stat about;
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    *ret_size = 0;
    if (fd < 0)
        return NULL;
    CHECK(fstat(fd, &about) == 0);
    char *bytes = malloc((size_t)about.st_size + 1);
    CHECK(bytes && pread(fd, bytes, (size_t)about.st_size, 0) == about.st_size);
    close(fd);
    *ret_size = (uint64_t)about.st_size;
    return bytes;
}

/* Checks that a file has whole lines and nothing else: those from *next on, and perhaps one that is a void. */
static void check_file(const char *name, uint64_t *next, unsigned *voids)
{
    char line[LINE_BYTES + 1];
    uint64_t size;
    char *bytes = read_file(name, &size);
    CHECK(size % LINE_BYTES == 0);
    for (uint64_t at = 0; at < size; at += LINE_BYTES) {
        if (*next == UINT64_MAX) /* older ones were removed */
            *next = strtoull(bytes + at, NULL, 10);
        make_line(line, *next);
        if (memcmp(bytes + at, line, LINE_BYTES) == 0) {
            ++*next;
            continue;
        }
        ++*voids;
        CHECK(bytes[at + LINE_BYTES - 1] == '\n' && !memchr(bytes + at, 0, LINE_BYTES));
    }
    free(bytes);
}

/* The same for files that follow each other, without any. */
static uint64_t check_files(void)
{
    uint64_t next = UINT64_MAX;
    unsigned voids = 0;
    check_file("out.2", &next, &voids);
    check_file("out.1", &next, &voids);
    check_file("out", &next, &voids);
    CHECK(voids == 0);
    return next;
}

static void check_nothing_beside(void)
{
    CHECK(system("ls -A | grep '^[.]' && exit 1 || exit 0") == 0);
}

static void remove_all(void)
{
    must_run("rm -rf m/d && mkdir m/d && chmod 777 m/d");
    memset(notes, 0, sizeof(*notes));
}

/* ---- rotations ----------------------------------------------------------------------------------- */

/* Writes four files, of which three are left. */
static void rotate(void)
{
    struct twinlog_sink_options options = options_of(0);
    struct twinlog_sink *sink;
    options.max_bytes = MAX_BYTES;
    options.keep_files = 2;
    CHECK(twinlog_sink_open("out", &options, &sink) == 0);
    for (uint64_t i = 0; i < LINES; i++) {
        CHECK(put_line(sink, i) == 0);
        CHECK(i + 1 != SYNCED_LINES || twinlog_sink_sync(sink) == 0);
    }
    CHECK(twinlog_sink_close(sink) == 0);
    CHECK(check_files() == LINES);
    check_nothing_beside();
}

/* ---- mounted again ------------------------------------------------------------------------------- */

static void write_and_die(void)
{
    struct twinlog_sink *sink;
    CHECK(open_sink(TWINLOG_SINK_SHARED, &sink) == 0);
    for (uint64_t i = 0; i < LINES; i++)
        CHECK(put_line(sink, i) == 0);
    kill(getpid(), SIGKILL);
}

static void add_a_line(void)
{
    struct twinlog_sink *sink;
    uint64_t end = 0;
    CHECK(twinlog_sink_end("out", &end) == 0 && end == LINES * LINE_BYTES);
    CHECK(open_sink(0, &sink) == 0);
    CHECK(put_line(sink, LINES) == 0 && twinlog_sink_close(sink) == 0);
    CHECK(check_files() == LINES + 1);
    check_nothing_beside();
}

static void write_zeros(void)
{
    struct twinlog_sink *sink;
    CHECK(open_sink(0, &sink) == 0);
    CHECK(twinlog_sink_write(sink, "a\n\0\0", 4, NULL) == 0 && twinlog_sink_close(sink) == 0);
}

static void find_zeros(void)
{
    struct twinlog_sink *sink;
    uint64_t offset = 0;
    CHECK(open_sink(0, &sink) == 0);
    CHECK(twinlog_sink_write(sink, "\n", 1, &offset) == 0 && offset == 4);
    CHECK(twinlog_sink_sync(sink) == 0 && twinlog_sink_close(sink) == 0); /* the record behind the zeros */
    check_nothing_beside();
}

/* After a kill the end is exact, also under another device number; after a close the record counts. */
static void mount_after_kill_and_close(void)
{
    step = "mounted again after a kill";
    await(start(write_and_die), SIGKILL);
    remount();
    in_child(add_a_line);
    remove_all();
    step = "mounted again after a close";
    in_child(write_zeros);
    remount();
    in_child(find_zeros);
    remove_all();
}

/* ---- the power ----------------------------------------------------------------------------------- */

static void write_sync_and_write(void)
{
    struct twinlog_sink *sink;
    CHECK(open_sink(TWINLOG_SINK_SHARED, &sink) == 0);
    for (uint64_t i = 0; i < LINES; i++) {
        CHECK(put_line(sink, i) == 0);
        CHECK(i + 1 != SYNCED_LINES || twinlog_sink_sync(sink) == 0);
    }
    atomic_store(&notes->turn, 1);
    for (;;)
        pause();
}

/* The end is what was synced, or it is not known; then the caller decides, and what was synced stays. */
static void find_what_was_synced(void)
{
    char line[LINE_BYTES + 1];
    struct twinlog_sink *sink;
    uint64_t end = 0, size;
    const int told = twinlog_sink_end("out", &end);
    CHECK(told == 0 || told == -EUCLEAN);
    CHECK(end >= SYNCED_LINES * LINE_BYTES);
    CHECK(open_sink(told == 0 ? 0 : TWINLOG_SINK_DROP_ZEROS, &sink) == 0);
    CHECK(twinlog_sink_close(sink) == 0);
    char *bytes = read_file("out", &size);
    CHECK(size == end);
    for (uint64_t i = 0; i < SYNCED_LINES; i++) {
        make_line(line, i);
        CHECK(memcmp(bytes + i * LINE_BYTES, line, LINE_BYTES) == 0);
    }
    CHECK(told != 0 || !memchr(bytes, 0, size));
    free(bytes);
    check_nothing_beside();
}

static bool copy_image(void)
{
    for (unsigned i = 0; i < COPIES; i++)
        if (run("cp --sparse=always disk copy && cp --sparse=always disk again && cmp -s copy again"))
            return true;
    return false;
}

/* What lies on the disk was written under another boot: its identity begins at byte 16 of the area. */
static void start_the_machine_again(void)
{
    must_run("for area in m/d/.twinlog.*.sink; do "
             "printf deadbeef | dd of=$area bs=1 seek=16 conv=notrunc status=none || exit 1; done");
}

static void cut_the_power(void)
{
    step = "after a power cut";
    const pid_t child = start(write_sync_and_write);
    wait_for_child(child, 1);
    const bool is_copied = copy_image();
    kill(child, SIGKILL);
    await(child, SIGKILL);
    must_run(kind->unmount);
    if (is_copied) {
        must_run("mv copy disk");
        mount_again();
        start_the_machine_again();
        in_child(find_what_was_synced);
    } else {
        printf("SKIP sink-on-%s, a power cut: the image does not stay as it is\n", kind->name);
        mount_again();
    }
    remove_all();
}

/* ---- the full disk ------------------------------------------------------------------------------- */

static void fill_the_disk(void)
{
    const int fd = open("m/filler", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    static const char zeros[1 << 16];
    off_t at = 0;
    for (size_t size = sizeof(zeros); fd >= 0 && size >= 4096;) {
        const ssize_t n = pwrite(fd, zeros, size, at);
        at += n > 0 ? n : 0;
        size = n > 0 ? size : size / 2;
    }
    if (fd >= 0)
        (void)!fsync(fd);
    close(fd);
}

static bool is_no_room(int rc)
{
    return rc == -ENOSPC || (rc == -EIO && !kind->keeps_room);
}

static void write_on_full_disk(void)
{
    struct twinlog_sink *sink;
    uint64_t lines = 0;
    int rc = 0;
    CHECK(open_sink(0, &sink) == 0);
    CHECK(put_line(sink, lines++) == 0);
    atomic_store(&notes->turn, 1);
    wait_for_turn(2); /* the disk is full */
    while ((rc = put_line(sink, lines)) == 0 && lines < FULL_BYTES / LINE_BYTES)
        lines++;
    CHECK(is_no_room(rc));
    const bool is_lost = rc == -EIO;
    atomic_store(&notes->turn, 3);
    wait_for_turn(4); /* it has room again */
    if (!is_lost) {
        CHECK(put_line(sink, lines++) == 0);
        CHECK(twinlog_sink_sync(sink) == 0);
    }
    atomic_store(&notes->acked, lines);
    rc = twinlog_sink_close(sink);
    CHECK(rc == 0 || is_lost);
}

static void find_acknowledged_lines(void)
{
    struct twinlog_sink *sink;
    uint64_t next = 0;
    unsigned voids = 0;
    const int rc = open_sink(0, &sink);
    CHECK(rc == 0 || (rc == -EUCLEAN && !kind->keeps_room && open_sink(TWINLOG_SINK_DROP_ZEROS, &sink) == 0));
    CHECK(twinlog_sink_close(sink) == 0);
    check_file("out", &next, &voids);
    CHECK(next == atomic_load(&notes->acked) && voids <= !kind->keeps_room);
}

static void fill_and_write(void)
{
    step = "on a full disk";
    const pid_t child = start(write_on_full_disk);
    wait_for_child(child, 1);
    fill_the_disk();
    atomic_store(&notes->turn, 2);
    wait_for_child(child, 3);
    must_run("rm m/filler && sync -f m");
    atomic_store(&notes->turn, 4);
    await(child, 0);
    in_child(find_acknowledged_lines);
    remove_all();
}

/* An exact sink. */
static void refuse_a_large_write(void)
{
    static char large[FULL_BYTES];
    struct twinlog_sink *sink;
    struct stat about;

    memset(large, 'x', sizeof(large));
    large[sizeof(large) - 1] = '\n';
    CHECK(twinlog_sink_open("out", NULL, &sink) == 0);
    CHECK(put_line(sink, 0) == 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(twinlog_sink_write(sink, large, sizeof(large), NULL) < 0);
    CHECK(stat("out", &about) == 0);
    CHECK(about.st_blocks * 512 <= 64 << 10);
    CHECK(twinlog_sink_close(sink) == 0);
}

/* Some MiB are free, and less than the write has. */
static void hold_no_space_after_a_refusal(void)
{
    step = "refused";
    fill_the_disk();
    CHECK(truncate("m/filler", 0) == 0);
    must_run("sync -f m && fallocate -l $(($(stat -f -c '%a * %S' m) - (4 << 20))) m/filler");
    in_child(refuse_a_large_write);
    must_run("rm m/filler && sync -f m");
    remove_all();
}

/* ---- other users --------------------------------------------------------------------------------- */

static void become_a_stranger(void)
{
    umask(0);
    CHECK(setgroups(0, NULL) == 0 && setgid(STRANGER) == 0 && setuid(STRANGER) == 0);
}

static void be_refused(void)
{
    struct twinlog_sink *sink;
    become_a_stranger();
    CHECK(open_sink(TWINLOG_SINK_SHARED, &sink) == -EACCES);
    check_nothing_beside();
}

static void begin_a_file(void)
{
    struct twinlog_sink *sink;
    become_a_stranger();
    CHECK(open_sink(TWINLOG_SINK_SHARED, &sink) == 0);
    CHECK(put_line(sink, 0) == 0 && twinlog_sink_sync(sink) == 0 && twinlog_sink_close(sink) == 0);
    check_nothing_beside();
}

/* The file belongs to another user, and that one has it open. */
static void be_no_owner(void)
{
    struct twinlog_sink *sink;
    uint64_t end = 0;
    become_a_stranger();
    CHECK(open_sink(TWINLOG_SINK_SHARED, &sink) == -EPERM);
    CHECK(twinlog_sink_end("out", &end) == 0 && end == LINE_BYTES); /* which all may read */
}

static void keep_it_open(void)
{
    struct twinlog_sink *sink;
    CHECK(open_sink(TWINLOG_SINK_SHARED, &sink) == 0);
    CHECK(put_line(sink, 0) == 0);
    atomic_store(&notes->turn, 1);
    wait_for_turn(2);
    CHECK(put_line(sink, 1) == 0 && twinlog_sink_sync(sink) == 0 && twinlog_sink_close(sink) == 0);
    CHECK(check_files() == 2);
    check_nothing_beside();
}

static void use_as_others(void)
{
    step = "as another user";
    must_run("chmod 755 m/d");
    in_child(be_refused); /* to make a file */
    must_run("chmod 777 m/d");
    in_child(begin_a_file);
    must_run("chmod 755 m/d");
    in_child(be_refused); /* to make what lies beside it */
    must_run("rm m/d/out && touch m/d/out && chmod 666 m/d/out");
    const pid_t child = start(keep_it_open);
    wait_for_child(child, 1);
    in_child(be_no_owner);
    atomic_store(&notes->turn, 2);
    await(child, 0);
    must_run("chmod 777 m/d && chmod 644 m/d/out");
    in_child(be_refused); /* to write the file */
    remove_all();
}

/* ---- what cannot be a sink ------------------------------------------------------------------------ */

static void be_no_sink(void)
{
    struct twinlog_sink *sink;
    CHECK(open_sink(0, &sink) == -ENOTSUP);
    CHECK(open_sink(TWINLOG_SINK_SHARED, &sink) == -ENOTSUP);
    check_nothing_beside();
}

/* Can space be reserved? */
static bool can_reserve(void)
{
    const int fd = open("m/probe", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const bool can = fd >= 0 && fallocate(fd, 0, 0, 4096) == 0;
    close(fd);
    unlink("m/probe");
    return can;
}

int main(int argc, char **argv)
{
    for (kind = kinds; kind < kinds + KINDS && (argc != 2 || strcmp(kind->name, argv[1]) != 0); kind++)
        continue;
    if (kind == kinds + KINDS) {
        fprintf(stderr, "usage: sink-mounts FILESYSTEM\n");
        return 2;
    }
    notes = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    make_file_system();
    if (!can_reserve()) {
        step = "without reserved space";
        in_child(be_no_sink);
    } else {
        step = "rotated";
        in_child(rotate);
        remove_all();
        use_as_others();
        fill_and_write();
        if (kind->keeps_room)
            hold_no_space_after_a_refusal();
        if (kind->image_mib > 0) {
            occupy_a_loop_device();
            mount_after_kill_and_close();
            cut_the_power();
        }
    }
    put_back();
    return 0;
}
