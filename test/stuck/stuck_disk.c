/* SPDX-License-Identifier: Apache-2.0 */
/* See stuck_disk.h. The server of the second kind is in stuck_fuse.c. */
#define _GNU_SOURCE
#include "stuck_disk.h"

#include "stuck_fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static enum stuck_kind kind;
static char place[300];  /* everything is in it */
static char disk[320];   /* where the disk is mounted */
static char served[320]; /* what the server of FUSE shows there */
static int disk_fd = -1; /* to freeze it with */
static pid_t server, keeper;
static int keeper_pipe =
    -1; /* the keeper reads from it: "go on" is close to nothing, and its end is the test's */
static _Atomic bool *is_stopped; /* shared with the server */

static _Noreturn void give_up(const char *what)
{
    perror(what);
    exit(3);
}

static bool run(const char *command)
{
    char line[1000];
    snprintf(line, sizeof(line), "PATH=$PATH:/usr/sbin:/sbin; cd '%s' && { %s; } >/dev/null 2>&1", place,
             command);
    return system(line) == 0;
}

/* ---- stop, and go on ----------------------------------------------------------------------------- */

static void set_stopped(bool is_to_stop)
{
    if (kind == STUCK_FUSE)
        atomic_store(is_stopped, is_to_stop);
    else
        (void)!ioctl(disk_fd, is_to_stop ? FIFREEZE : FITHAW, 0); /* it may be so already */
}

/* The keeper: lets the disk go on after a while, and when the test is gone. */
static _Noreturn void keep(int pipe_fd)
{
    struct pollfd from_test = { .fd = pipe_fd, .events = POLLIN };
    char byte;

    signal(SIGINT, SIG_IGN); /* the end of the pipe tells */
    for (bool is_timed = false;;) {
        const int found = poll(&from_test, 1, is_timed ? STUCK_SECONDS * 1000 : -1);
        if (found == 0)
            fprintf(stderr, "stuck_disk: the disk was stopped for %d seconds\n", STUCK_SECONDS);
        if (found <= 0) {
            set_stopped(false);
            is_timed = false;
        } else if (read(pipe_fd, &byte, 1) == 1) {
            is_timed = byte == 's';
        } else {
            set_stopped(false);
            _exit(0);
        }
    }
}

static void start_keeper(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0 || (keeper = fork()) < 0)
        give_up("the keeper of the disk");
    if (keeper == 0) {
        close(ends[1]);
        keep(ends[0]);
    }
    close(ends[0]);
    keeper_pipe = ends[1];
}

static void tell_keeper(char what)
{
    if (write(keeper_pipe, &what, 1) != 1)
        give_up("the keeper of the disk");
}

void stuck_disk_stop(void)
{
    tell_keeper('s');
    set_stopped(true);
}

void stuck_disk_go_on(void)
{
    set_stopped(false);
    tell_keeper('g');
}

/* ---- mount and unmount --------------------------------------------------------------------------- */

static const char *mount_ext4(void)
{
    if (!run("truncate -s 256M image && mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 image"))
        return "mkfs.ext4 fails here";
    if (!run("mount -o loop image disk"))
        return "no loop device can be mounted";
    disk_fd = open(disk, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk_fd < 0)
        give_up(disk);
    if (ioctl(disk_fd, FIFREEZE, 0) < 0 || ioctl(disk_fd, FITHAW, 0) < 0)
        return "FIFREEZE fails here";
    return NULL;
}

static const char *mount_fuse(void)
{
    int told[2];
    char byte;

    if (access("/dev/fuse", R_OK | W_OK) < 0)
        return "there is no FUSE";
    if (mkdir(served, 0755) < 0 || pipe2(told, O_CLOEXEC) < 0 || (server = fork()) < 0)
        give_up("the server of FUSE");
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        stuck_fuse_serve(served, disk, is_stopped, told[1]);
        _exit(1);
    }
    close(told[1]);
    const bool is_mounted = read(told[0], &byte, 1) == 1;
    close(told[0]);
    return is_mounted ? NULL : "the file system of FUSE cannot be mounted";
}

const char *stuck_disk_mount(enum stuck_kind wanted)
{
    const char *parent = getenv("TMPDIR");

    if (geteuid() != 0)
        return "only root can mount";
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return "no mount namespace of its own";
    kind = wanted;
    snprintf(place, sizeof(place), "%s/stuck.XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(place))
        give_up(place);
    snprintf(disk, sizeof(disk), "%s/disk", place);
    snprintf(served, sizeof(served), "%s/served", place);
    is_stopped = mmap(NULL, sizeof(*is_stopped), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mkdir(disk, 0755) < 0 || is_stopped == MAP_FAILED)
        give_up(disk);
    const char *missing = kind == STUCK_EXT4 ? mount_ext4() : mount_fuse();
    if (missing)
        stuck_disk_unmount();
    else
        start_keeper();
    return missing;
}

const char *stuck_disk_path(void)
{
    return disk;
}

static void end_child(pid_t *child)
{
    if (*child > 0)
        waitpid(*child, NULL, 0);
    *child = 0;
}

void stuck_disk_unmount(void)
{
    if (keeper_pipe >= 0)
        close(keeper_pipe);
    keeper_pipe = -1;
    end_child(&keeper);
    if (disk_fd >= 0)
        close(disk_fd);
    disk_fd = -1;
    umount2(disk, MNT_DETACH); /* at once, unless the test has left a file open */
    end_child(&server);
    run("cd / && rm -r --one-file-system \"$OLDPWD\"");
}
