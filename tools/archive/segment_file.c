/* SPDX-License-Identifier: Apache-2.0 */
/* A segment file from outside. See segment_file.h; the offsets are those of docs/format.md. */
#define _GNU_SOURCE
#include "segment_file.h"

#include <twinlog.h>

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 4096u

static uint64_t load_u64(const unsigned char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

int read_segment_marks(int fd, unsigned char ret_marks[SEGMENT_MARKS_BYTES])
{
    static const unsigned char magic[8] = { 0x89, 0x54, 0x57, 0x4c, 0x0d, 0x0a, 0x1a, 0x0a };
    unsigned char *footer = ret_marks + BLOCK_BYTES;

    memset(ret_marks, 0, SEGMENT_MARKS_BYTES);
    ssize_t size = pread(fd, ret_marks, BLOCK_BYTES, 0);
    if (size < 0)
        return -errno;
    uint64_t bytes = load_u64(ret_marks + 56);
    if (size < (ssize_t)BLOCK_BYTES || memcmp(ret_marks, magic, sizeof(magic)) != 0 ||
        bytes < 2 * BLOCK_BYTES || bytes > INT64_MAX)
        return TWINLOG_ECORRUPT;
    size = pread(fd, footer, BLOCK_BYTES, (off_t)(bytes - BLOCK_BYTES));
    return size < 0 ? -errno : 0;
}

int read_segment_file(int fd, struct segment_file *ret_file)
{
    static const unsigned char magic[4] = { 0x31, 0x54, 0x57, 0x46 };
    unsigned char marks[SEGMENT_MARKS_BYTES];
    const unsigned char *footer = marks + BLOCK_BYTES;
    struct stat stat;

    int error = read_segment_marks(fd, marks);
    if (error == 0 && fstat(fd, &stat) < 0)
        error = -errno;
    if (error)
        return error;
    *ret_file = (struct segment_file){ .sequence = load_u64(marks + 40), .start_lsn = load_u64(marks + 72) };
    memcpy(ret_file->log_id, marks + 24, sizeof(ret_file->log_id));
    ret_file->before = ret_file->start_lsn ? load_u64(marks + 104) : ret_file->sequence - 1;
    ret_file->is_sealed =
        memcmp(footer + 4, magic, sizeof(magic)) == 0 && (uint64_t)stat.st_size >= load_u64(marks + 56);
    ret_file->first_lsn = load_u64(footer + 8);
    ret_file->last_lsn = load_u64(footer + 16);
    return 0;
}
