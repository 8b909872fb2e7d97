/* SPDX-License-Identifier: Apache-2.0 */
/* What stat() tells of a file, without its times. */
#ifndef TWL_FILE_STATUS_H
#define TWL_FILE_STATUS_H

#include <stdint.h>
#include <sys/types.h>

struct file_status {
    mode_t mode;
    dev_t device;
    ino_t inode;
    uint64_t bytes;
    uint64_t links;
    uint64_t block_bytes; /* of the file system */
    uid_t owner;
    gid_t group;
};

int twl_file_status(int fd, struct file_status *ret_status);
/* Of the file that has this name in the directory. A symbolic link is not followed. */
int twl_file_status_of_name(int directory, const char *name, struct file_status *ret_status);

#endif
