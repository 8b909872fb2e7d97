/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What glibc 2.35 has and another C library may lack: musl before 1.2.5 has neither pwritev2() nor statx(), and its
 * ioctl() takes an int. The kernel's headers have the numbers. To be included after the headers of the C library.
 */
#ifndef TWL_BASE_LIBC_H
#define TWL_BASE_LIBC_H

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#ifndef RWF_DSYNC
#include <linux/fs.h>
/* The kernel takes the offset in two halves, the first of which has all 64 bits where a long has them. */
static inline ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    return (ssize_t)syscall(SYS_pwritev2, fd, pieces, count, offset, 0L, flags);
}
#endif

#ifndef STATX_INO
#include <linux/stat.h>
static inline int statx(int fd, const char *path, int flags, unsigned mask, struct statx *ret_about)
{
    return (int)syscall(SYS_statx, fd, path, flags, mask, ret_about);
}
#endif

#ifdef __GLIBC__
#define IOCTL_REQUEST(request) (request)
#else
#define IOCTL_REQUEST(request) ((int)(request))
#endif

#endif
