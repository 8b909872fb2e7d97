/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that can lose its power: a real file system of this kernel on a loop device over the disk of disk.h.
 *
 * Everything is mounted in a mount namespace of the program's own, and a loop device frees itself when nothing is
 * mounted from it any more. So the kernel gives all of it back when the last process of the program is gone, also
 * when that was killed: there is nothing for anybody to clean up but two empty directories.
 *
 * What fails here ends the program, and so does what this computer cannot do: by two functions of the program.
 */
#ifndef TWL_POWERCUT_MACHINE_H
#define TWL_POWERCUT_MACHINE_H

#include "disk.h"

/* The program has these two, which say it and end the program. `what` failed with errno, or with 0. */
_Noreturn void machine_failed(const char *what);
_Noreturn void machine_missing(const char *what);

enum filesystem {
    FS_EXT4,
    FS_XFS,
    FS_BTRFS,
    FILESYSTEMS,
    FS_NONE = FILESYSTEMS, /* only the disk, for a machine that has a kernel of its own */
};
extern const char *const filesystem_names[FILESYSTEMS];

struct machine {
    enum filesystem filesystem;
    struct disk *disk;
    char served[300];  /* directory with the disk in it, DISK_NAME */
    char mounted[300]; /* where the file system is */
    char boot_id[300]; /* file with the identity of this boot */
    int medium_fd;
    int image_fd; /* the medium as the last boot found it */
    pid_t server;
};

/* Two directories in `directory`, and the disk, with an empty file system on it, mounted. With FS_NONE the disk has
 * zeros, and nothing is mounted from it, here or below. */
void machine_make(struct machine *machine, enum filesystem filesystem, const char *directory);
void machine_remove(struct machine *machine);

/* An empty file system in the place of the one that is mounted. */
void machine_format(struct machine *machine);

/* The power goes: no call on the file system ends any more. */
void machine_cut_power(struct machine *machine, uint64_t seed);
/* It comes back: all calls of before end with EIO, and the file system is gone. */
void machine_end(struct machine *machine);
/* The file system is shut down at once, without writing anything: what its cache holds is lost. */
void machine_shut_down(const struct machine *machine);
/* What was done to the file system so far is there after the next cut. */
void machine_sync(const struct machine *machine);
/* Waits for what a killed process still has open. */
void machine_unmount(const struct machine *machine);
/* False, and errno, if the file system cannot be mounted. */
bool machine_boot(struct machine *machine);

/* Writes the image to a file, to help look into a violation. */
void machine_save_image(const struct machine *machine, const char *path);

#endif
