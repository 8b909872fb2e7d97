/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory on a disk that stops answering when told to, and answers again when told to.
 *
 *   ext4   A frozen file system (FIFREEZE), as for a snapshot of a volume: what creates, removes, writes or lengthens a
 *          file waits, and so does a first store to a mapped page. Reads, open() of a file that is there, and close()
 *          go on.
 *   fuse   A server that does not answer: what needs it waits. That is each look for a name, open(), read, write,
 *          sync, close(), and the first access to a mapped page.
 *
 * The disk is mounted in a mount namespace of the test's own, and a child process of the test sees to it that nothing
 * waits for ever: the disk answers again after STUCK_SECONDS, and when the test is gone.
 *
 *   const char *missing = stuck_disk_mount(STUCK_EXT4);
 *   if (missing) skip(missing);
 *   ... a log in stuck_disk_path() ...
 *   stuck_disk_stop();
 *   ... threads that wait, and threads that must go on ...
 *   stuck_disk_go_on();
 *   stuck_disk_unmount();
 *
 * One disk at a time. Mount it before the process has threads. Only a thread that may wait, and no other one, may go
 * into that directory while the disk is stopped.
 */
#ifndef TWL_STUCK_DISK_H
#define TWL_STUCK_DISK_H

#define STUCK_SECONDS 30 /* a test that is right never takes so long */

enum stuck_kind {
    STUCK_EXT4,
    STUCK_FUSE,
};

/* NULL, or what is missing here: root, a loop device, mkfs.ext4, FUSE. */
const char *stuck_disk_mount(enum stuck_kind kind);
const char *stuck_disk_path(void);
void stuck_disk_stop(void);
void stuck_disk_go_on(void);
/* No file of the disk may be open any more. */
void stuck_disk_unmount(void);

#endif
