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
#define GROUP_BYTES 64u /* of its header */

static uint32_t load_u32(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

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

    /* A mapped segment may have been closed behind its data: then its footer is the last block of a shorter file. */
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return -errno;
    if ((uint64_t)stat.st_size < bytes && stat.st_size % BLOCK_BYTES == 0 &&
        stat.st_size >= 3 * (off_t)BLOCK_BYTES)
        bytes = (uint64_t)stat.st_size;
    size = pread(fd, footer, BLOCK_BYTES, (off_t)(bytes - BLOCK_BYTES));
    if (size < 0)
        return -errno;
    return 0;
}

/* ---- groups ------------------------------------------------------------------------------------ */

struct group {
    uint64_t offset;
    uint64_t first_lsn;
    uint32_t checksum, count, bytes, chain;
    uint16_t flags;
};
#define FIRST_OF_SEGMENT 1u /* flags */
#define WAS_OPEN 2u

static bool take_group(const unsigned char *bytes, uint64_t offset, struct group *ret_group)
{
    static const unsigned char magic[4] = { 0x31, 0x54, 0x57, 0x47 };

    *ret_group = (struct group){ .offset = offset,
                                 .checksum = load_u32(bytes),
                                 .first_lsn = load_u64(bytes + 8),
                                 .count = load_u32(bytes + 16),
                                 .bytes = load_u32(bytes + 20),
                                 .chain = load_u32(bytes + 32),
                                 .flags = (uint16_t)(load_u32(bytes + 44) >> 16) };
    return memcmp(bytes + 4, magic, sizeof(magic)) == 0 && ret_group->bytes >= GROUP_BYTES;
}

/* In the first data block. What is in front of it there is zeros. */
static int read_first_group(int fd, struct group *ret_group)
{
    unsigned char bytes[BLOCK_BYTES + GROUP_BYTES];

    ssize_t size = pread(fd, bytes, sizeof(bytes), BLOCK_BYTES);
    if (size < 0)
        return -errno;

    for (size_t at = 0; at + GROUP_BYTES <= (size_t)size; at += 8)
        if (take_group(bytes + at, BLOCK_BYTES + at, ret_group) && (ret_group->flags & FIRST_OF_SEGMENT))
            return 0;
    return TWINLOG_ECORRUPT;
}

/* Behind that one, or at the next block. */
static int read_next_group(int fd, struct group *group)
{
    const uint64_t end = group->offset + group->bytes;
    const uint64_t places[] = { end, (end + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES };
    unsigned char bytes[GROUP_BYTES];

    for (size_t i = 0; i < 2; i++) {
        ssize_t size = pread(fd, bytes, sizeof(bytes), (off_t)places[i]);
        if (size < 0)
            return -errno;

        struct group next;
        if (size == (ssize_t)sizeof(bytes) && take_group(bytes, places[i], &next) &&
            next.first_lsn == group->first_lsn + group->count) {
            *group = next;
            return 0;
        }
    }

    return TWINLOG_ECORRUPT;
}

int read_chain_behind(int fd, uint64_t lsn, uint32_t *ret_chain)
{
    struct group group;

    int error = read_first_group(fd, &group);
    while (error == 0 && group.first_lsn + group.count <= lsn)
        error = read_next_group(fd, &group);
    if (error == 0)
        *ret_chain = group.flags & WAS_OPEN ? group.chain : group.checksum;
    return error;
}

/* ---- the file ---------------------------------------------------------------------------------- */

int read_segment_file(int fd, struct segment_file *ret_file)
{
    static const unsigned char magic[4] = { 0x31, 0x54, 0x57, 0x46 };
    unsigned char marks[SEGMENT_MARKS_BYTES];
    const unsigned char *footer = marks + BLOCK_BYTES;
    struct group first = { 0 };

    int error = read_segment_marks(fd, marks);
    if (error)
        return error;

    error = read_first_group(fd, &first);
    if (error && error != TWINLOG_ECORRUPT)
        return error;

    *ret_file = (struct segment_file){ .sequence = load_u64(marks + 40),
                                       .start_lsn = load_u64(marks + 72),
                                       .sealed_ns = (int64_t)load_u64(footer + 56),
                                       .first_lsn = load_u64(footer + 8),
                                       .last_lsn = load_u64(footer + 16),
                                       .epoch = load_u32(footer + 68),
                                       .salt = load_u32(footer + 72),
                                       .chain = first.chain,
                                       .end_chain = load_u32(footer + 64) };
    memcpy(ret_file->log_id, marks + 24, sizeof(ret_file->log_id));
    if (ret_file->start_lsn)
        ret_file->before = load_u64(marks + 104);
    else
        ret_file->before = ret_file->sequence - 1;
    ret_file->is_sealed = error == 0 && memcmp(footer + 4, magic, sizeof(magic)) == 0;
    return 0;
}
