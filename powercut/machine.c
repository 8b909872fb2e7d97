/* SPDX-License-Identifier: Apache-2.0 */
/* See machine.h. */
#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

#define PATIENCE_TRIES 600000u /* of 0.1 ms */
#define LOOP_TRIES 100u
#define COPY_BYTES (1u << 16)
#define SHUT_DOWN _IOR('X', 125, uint32_t) /* of ext4 and xfs */
#define SHUT_DOWN_WITHOUT_LOG 2u

const char *const filesystem_names[FILESYSTEMS] = { "ext4", "xfs", "btrfs" };
static const char *const packages[FILESYSTEMS] = { "e2fsprogs", "xfsprogs", "btrfs-progs" };

/* ---- what may be missing ----------------------------------------------------------------------- */

static _Noreturn void missing(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void missing(const char *format, ...)
{
    char words[300];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    machine_missing(words);
}

static void need_device(const char *path)
{
    const int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        missing("%s cannot be opened: %s", path, strerror(errno));
    close(fd);
}

static void enter_own_namespace(enum filesystem filesystem)
{
    if (geteuid() != 0)
        missing("only root can mount");
    need_device("/dev/fuse");
    if (filesystem != FS_NONE)
        need_device("/dev/loop-control");
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        missing("no mount namespace of our own: %s", strerror(errno));
}

/* ---- the boot ------------------------------------------------------------------------------------ */

/* The kernel goes on, but for the processes of the test it has another identity. */
static void change_boot_id(const struct machine *machine)
{
    uint8_t id[16];
    char text[40];
    size_t used = 0;
    FILE *file = fopen(machine->boot_id, "w");

    if (!file || getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
        machine_failed(machine->boot_id);
    for (size_t i = 0; i < sizeof(id); i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%02x",
                                 i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    fprintf(file, "%s\n", text);
    fclose(file);
}

static void make_boot_id(const struct machine *machine)
{
    change_boot_id(machine);
    if (mount(machine->boot_id, BOOT_ID_PATH, NULL, MS_BIND, NULL) < 0)
        machine_failed(BOOT_ID_PATH);
}

/* ---- the loop device --------------------------------------------------------------------------- */

static int open_free_loop(char *ret_path, size_t size)
{
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    int loop;

    if (control >= 0)
        close(control);
    if (number < 0)
        machine_failed("/dev/loop-control");
    snprintf(ret_path, size, "/dev/loop%d", number);
    loop = open(ret_path, O_RDWR | O_CLOEXEC);
    if (loop < 0)
        missing("%s cannot be opened: %s", ret_path, strerror(errno));
    return loop;
}

/* Somebody else may take the free one first. The device frees itself when the last one lets go of it. */
static int attach_loop(const struct machine *machine, char *ret_path, size_t size)
{
    char path[320];
    struct loop_config config = { .info.lo_flags = LO_FLAGS_DIRECT_IO | LO_FLAGS_AUTOCLEAR };
    int disk, loop = -1, result = -1;

    snprintf(path, sizeof(path), "%s/" DISK_NAME, machine->served);
    disk = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (disk < 0)
        machine_failed(path);
    config.fd = (uint32_t)disk;
    for (unsigned i = 0; result < 0 && i < LOOP_TRIES; i++) {
        loop = open_free_loop(ret_path, size);
        result = ioctl(loop, LOOP_CONFIGURE, &config);
        if (result < 0)
            close(loop);
        if (result < 0 && errno != EBUSY)
            machine_failed("LOOP_CONFIGURE");
    }
    if (result < 0)
        machine_failed("no free loop device");
    close(disk);
    return loop;
}

/* ---- copies of the disk ------------------------------------------------------------------------- */

static void copy_range(int from, int to, off_t at, off_t end)
{
    static unsigned char bytes[COPY_BYTES];

    while (at < end) {
        const size_t part = end - at < (off_t)sizeof(bytes) ? (size_t)(end - at) : sizeof(bytes);

        if (pread(from, bytes, part, at) != (ssize_t)part || pwrite(to, bytes, part, at) != (ssize_t)part)
            machine_failed("copying the disk");
        at += (off_t)part;
    }
}

/* Only what is not a hole. */
static void copy_disk(int from, int to)
{
    off_t end = 0;

    if (ftruncate(to, 0) < 0 || ftruncate(to, (off_t)DISK_BYTES) < 0)
        machine_failed("copying the disk");
    for (off_t at; (at = lseek(from, end, SEEK_DATA)) >= 0;) {
        end = lseek(from, at, SEEK_HOLE);
        copy_range(from, to, at, end);
    }
}

/* ---- the file system --------------------------------------------------------------------------- */

static const char *const *make_command(enum filesystem filesystem)
{
    static const char *const commands[FILESYSTEMS][8] = {
        { "mkfs.ext4", "-q", "-F", "-E", "nodiscard", NULL },
        { "mkfs.xfs", "-q", "-f", "-K", NULL },
        { "mkfs.btrfs", "-q", "-f", "-K", NULL },
    };

    return commands[filesystem];
}

/* Ends with the child; 127: the program is not there. */
static int run(const char *const *command, const char *argument)
{
    const pid_t pid = fork();
    int status;

    if (pid < 0)
        machine_failed("fork");
    if (pid == 0) {
        char *words[10] = { 0 };
        unsigned count = 0;

        for (; command[count]; count++)
            words[count] = (char *)(uintptr_t)command[count];
        words[count] = (char *)(uintptr_t)argument;
        setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               1); /* su leaves out /sbin */
        execvp(words[0], words);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            machine_failed("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void make_filesystem(const struct machine *machine)
{
    const char *const *command = make_command(machine->filesystem);
    char path[64];
    const int loop = attach_loop(machine, path, sizeof(path));
    const int status = run(command, path);

    close(loop);
    if (status == 127)
        missing("there is no %s: install %s", command[0], packages[machine->filesystem]);
    errno = 0;
    if (status != 0)
        machine_failed(command[0]);
}

/* True when it is gone; what a killed process had open may take a moment. */
static void unmount(const char *path)
{
    for (unsigned tries = 0; umount2(path, 0) < 0; tries++) {
        if (errno != EBUSY || tries == PATIENCE_TRIES)
            machine_failed(path);
        nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    }
}

bool machine_boot(struct machine *machine)
{
    char path[64];
    int loop, result, error;

    change_boot_id(machine);
    copy_disk(machine->medium_fd, machine->image_fd);
    if (machine->filesystem == FS_NONE)
        return true;
    loop = attach_loop(machine, path, sizeof(path));
    result = mount(path, machine->mounted, filesystem_names[machine->filesystem], 0, NULL);
    error = errno;
    close(loop);
    if (result < 0 && error == ENODEV)
        missing("this kernel has no %s", filesystem_names[machine->filesystem]);
    errno = error;
    return result == 0;
}

void machine_sync(const struct machine *machine)
{
    const int fd = open(machine->mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || syncfs(fd) < 0)
        machine_failed("syncfs");
    close(fd);
}

void machine_unmount(const struct machine *machine)
{
    if (machine->filesystem != FS_NONE)
        unmount(machine->mounted);
}

/* Behind a cut nothing is left in the cache of the disk. */
static void erase_disk(const struct machine *machine)
{
    disk_cut(machine->disk, 0);
    disk_restart(machine->disk);
    if (fallocate(machine->medium_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)DISK_BYTES) < 0)
        machine_failed("erasing the disk");
}

void machine_format(struct machine *machine)
{
    if (machine->filesystem == FS_NONE)
        erase_disk(machine);
    else
        make_filesystem(machine);
    if (!machine_boot(machine))
        machine_failed("mounting the new file system");
}

/* ---- the server of the disk -------------------------------------------------------------------- */

/* Tells the process that reads the other end of the pipe. The server leaves the mount namespace before anything is
 * mounted from its disk: if it were the last process of the namespace, the kernel would write that file system back
 * in the exit of the server, before it closes /dev/fuse, and wait for an answer for ever. */
static void note_mounted(void *context)
{
    const int *told = context;

    if (unshare(CLONE_NEWNS) < 0 || write(*told, "", 1) != 1)
        _exit(EXIT_FAILURE);
}

static _Noreturn void serve(const struct machine *machine, int told, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    _exit(disk_serve(machine->disk, machine->served, note_mounted, &told) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void start_server(struct machine *machine)
{
    const pid_t parent = getpid();
    int told[2];
    char byte;

    fflush(NULL);
    if (pipe2(told, O_CLOEXEC) < 0 || (machine->server = fork()) < 0)
        machine_failed("starting the server of the disk");
    if (machine->server == 0)
        serve(machine, told[1], parent);
    close(told[1]);
    if (read(told[0], &byte, 1) != 1)
        missing("the FUSE file system cannot be mounted");
    close(told[0]);
}

/* ---- making and removing ----------------------------------------------------------------------- */

static int make_memory(const char *name)
{
    const int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)DISK_BYTES) < 0)
        machine_failed(name);
    return fd;
}

void machine_make(struct machine *machine, enum filesystem filesystem, const char *directory)
{
    enter_own_namespace(filesystem);
    *machine = (struct machine){ .filesystem = filesystem,
                                 .medium_fd = make_memory("medium"),
                                 .image_fd = make_memory("image") };
    machine->disk = disk_make(machine->medium_fd);
    if (!machine->disk)
        machine_failed("mmap");
    snprintf(machine->served, sizeof(machine->served), "%s/served", directory);
    snprintf(machine->mounted, sizeof(machine->mounted), "%s/mounted", directory);
    if (mkdir(machine->served, 0700) < 0 || mkdir(machine->mounted, 0700) < 0)
        machine_failed(directory);
    snprintf(machine->boot_id, sizeof(machine->boot_id), "%s/boot_id", directory);
    make_boot_id(machine);
    start_server(machine);
    machine_format(machine);
}

void machine_remove(struct machine *machine)
{
    umount2(machine->mounted, MNT_DETACH);
    umount2(machine->served, MNT_DETACH);
    if (machine->server > 0)
        kill(machine->server, SIGKILL);
    umount2(BOOT_ID_PATH, MNT_DETACH);
    unlink(machine->boot_id);
    rmdir(machine->mounted);
    rmdir(machine->served);
}

/* ---- the power --------------------------------------------------------------------------------- */

void machine_cut_power(struct machine *machine, uint64_t seed)
{
    disk_cut(machine->disk, seed);
}

void machine_end(struct machine *machine)
{
    disk_restart(machine->disk);
}

void machine_shut_down(const struct machine *machine)
{
    const uint32_t how = SHUT_DOWN_WITHOUT_LOG;
    const int fd = open(machine->mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int result = fd < 0 ? -1 : ioctl(fd, SHUT_DOWN, &how);

    if (result < 0 && (errno == ENOTTY || errno == EOPNOTSUPP))
        missing("%s cannot be shut down", filesystem_names[machine->filesystem]);
    if (result < 0)
        machine_failed("shutting the file system down");
    close(fd);
}

void machine_save_image(const struct machine *machine, const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        machine_failed(path);
    copy_disk(machine->image_fd, fd);
    close(fd);
}
