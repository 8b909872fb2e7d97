/* SPDX-License-Identifier: Apache-2.0 */
/* See ladder.h. The linked form is not automatic because it was measured to be slower than a write that
 * carries its own sync: the kernel hands the fdatasync to another thread. */
#include "open/ladder.h"

#include <errno.h>
#include <sys/vfs.h>

const struct rung twl_ladder[LADDER_RUNGS] = {
    { TWINLOG_IO_URING, true, true, "io_uring, direct I/O" },
    { TWINLOG_IO_DSYNC, true, true, "RWF_DSYNC, direct I/O" },
    { TWINLOG_IO_FDATASYNC, true, true, "fdatasync, direct I/O" },
    { TWINLOG_IO_URING, false, true, "io_uring, buffered" },
    { TWINLOG_IO_DSYNC, false, true, "RWF_DSYNC, buffered" },
    { TWINLOG_IO_FDATASYNC, false, true, "fdatasync, buffered" },
    { TWINLOG_IO_URING_LINKED, true, false, "io_uring linked to fdatasync, direct I/O" },
    { TWINLOG_IO_URING_LINKED, false, false, "io_uring linked to fdatasync, buffered" },
};

/* Those that sync pass RWF_DSYNC on to generic_write_sync() or iomap_dio_complete(), which sync before the write
 * returns; in memory there is nothing to sync. All others get an fdatasync: FUSE drops the flag, overlayfs says nothing
 * of what is below, and for network file systems it depends on the server. */
const struct file_system *twl_file_system(const char *dir)
{
    static const struct file_system known[] = {
        { 0xef53, "ext4", true }, /* ext2 and ext3, too */
        { 0x58465342, "xfs", true },        { 0x9123683e, "btrfs", true }, { 0x01021994, "tmpfs", true },
        { 0x858458f6, "ramfs", true },      { 0x6969, "nfs", false },      { 0x65735546, "fuse", false },
        { 0x794c7630, "overlayfs", false }, { 0x2fc12fc1, "zfs", false },  { 0xf2f52010, "f2fs", false },
    };
    struct statfs fs;
    if (statfs(dir, &fs) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].magic == (unsigned long)fs.f_type)
            return &known[i];
    return NULL;
}

int twl_ladder_create_io(const char *dir, enum twinlog_io kind, bool may_change, struct io **ret_io)
{
    /* -ECANCELED of a linked sync counts as one that never ran: no known file system answers with it */
    if (kind != TWINLOG_IO_FDATASYNC && !syncs_writes(twl_file_system(dir))) {
        /* what is wrong with the directory is told first */
        const int rc = twl_io_posix_create(dir, false, ret_io);
        if (rc == 0)
            (*ret_io)->ops->destroy(*ret_io);
        return rc < 0 ? rc : -EOPNOTSUPP;
    }
    switch (kind) {
    case TWINLOG_IO_URING:
        return may_change ? twl_io_uring_create_quicker(dir, ret_io)
                          : twl_io_uring_create(dir, false, ret_io);
    case TWINLOG_IO_URING_LINKED:
        return twl_io_uring_create(dir, true, ret_io);
    case TWINLOG_IO_FDATASYNC:
        return twl_io_posix_create(dir, false, ret_io);
    default:
        return twl_io_posix_create(dir, true, ret_io);
    }
}
