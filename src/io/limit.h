/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit on the size of files: RLIMIT_FSIZE.
 *
 * A write at or behind the limit raises SIGXFSZ, which by default ends the process; this applies even to bytes that the
 * file already has. All that makes a file longer looks at the limit first, so no file exceeds it and no signal comes,
 * unless the limit is lowered below the size of a file that is open. For that a program ignores the signal, and the
 * write fails with -EFBIG.
 */
#ifndef TWL_LIMIT_H
#define TWL_LIMIT_H

#include <stddef.h>
#include <stdint.h>

/* 0, or -EFBIG if a file of this size exceeds the limit. */
int twl_limit_check(uint64_t bytes);
/* Writes all the bytes, or none if the last one is behind the limit. */
int twl_limited_write(int fd, const void *data, size_t size, uint64_t offset);
/* ftruncate(), also to more bytes. */
int twl_limited_resize(int fd, uint64_t bytes);
/* fallocate(): reserves the blocks of a range. -EOPNOTSUPP: this file system cannot. */
int twl_limited_reserve(int fd, int mode, uint64_t from, uint64_t to);

#endif
