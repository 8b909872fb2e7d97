/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flips every bit of a small, closed log of several segments, one at a time, and looks at it with
 * everything that reads: verify, inspect and a reader. (O7)
 *
 * What must hold for each flip:
 *  - a reader returns exact records in order, from the first on, and then either the rest or an error;
 *  - a flip in what is acknowledged and covered by a later mark is TWINLOG_ECORRUPT for verify, with
 *    the segment and an LSN that is not beyond the flip, and the reader stops at that LSN or before;
 *  - a flip anywhere else loses no record.
 * What is covered is known without the library: it is every byte up to the mark of the close that is
 * not zero by nature (the header's block behind its integers, the space before a first group, the
 * padding behind a last one).
 */
#define _GNU_SOURCE
#include "twinlog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES 16
#define HEADER_BYTES 512u /* of the header block, what is not zero */
#define DATA_OFFSET 4096u
#define BLOCK_BYTES 4096u
#define MARK_BYTES 64u
#define RECORDS 117u

static char directory[256];
static unsigned long flips, violations, detected, harmless;

static size_t payload(uint64_t lsn, unsigned char *bytes)
{
    size_t size = lsn % 5 == 0 ? 0 : (size_t)(lsn * 977 % 3000);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(lsn % 7 == 0 ? 0 : (lsn * 31 + i * 7) | 1);
    return size;
}

static void fail(const char *file, uint64_t offset, unsigned bit, const char *format, uint64_t value)
{
    violations++;
    printf("VIOLATION %s byte %" PRIu64 " bit %u: ", file, offset, bit);
    printf(format, value); /* one of the formats below, each with one number */
    printf("\n");
}

static void make_log(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    unsigned char bytes[4096];
    options.segment_bytes = 65536;
    options.flags = TWINLOG_BUFFERED;
    for (uint64_t lsn = 1; lsn <= RECORDS;) {
        if (twinlog_open(directory, &options, &log) != 0)
            abort();
        for (unsigned i = 0; i < RECORDS / 3; i++, lsn++)
            if (twinlog_append(log, bytes, payload(lsn, bytes), NULL) != 0)
                abort();
        if (twinlog_close(log) != 0)
            abort();
    }
}

struct found {
    int result;
    unsigned damages, others;
    uint64_t first_lsn;
    char file[64];
};

static int note(void *context, const struct twinlog_report *report)
{
    struct found *found = context;
    if (report->error == 0) {
        found->others++;
        return 0;
    }
    if (found->damages++ == 0) {
        found->first_lsn = report->first_lsn;
        memcpy(found->file, report->file, sizeof(found->file));
    }
    return 0;
}

static struct found verify(void)
{
    struct found found = { 0 };
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    options.each = note;
    options.context = &found;
    found.result = twinlog_verify(directory, &options, NULL);
    return found;
}

/* Returns how many records came, UINT64_MAX for a wrong one; *ret_error is what ended it. */
static uint64_t read_all(int *ret_error)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    unsigned char bytes[4096];
    uint64_t count = 0;
    *ret_error = twinlog_reader_open(directory, NULL, &reader);
    if (*ret_error < 0)
        return 0;
    while ((*ret_error = twinlog_reader_next(reader, &record)) > 0) {
        size_t size = payload(++count, bytes);
        if (record.lsn != count || record.size != size || memcmp(record.data, bytes, size) != 0) {
            count = UINT64_MAX;
            break;
        }
    }
    twinlog_reader_close(reader);
    return count;
}

enum cover {
    FREE,    /* no record and no mark is there */
    COVERED, /* acknowledged, and a later mark says so */
};

static void check_flip(const char *file, uint64_t offset, unsigned bit, enum cover cover)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct found found = verify();
    int error;
    uint64_t count = read_all(&error);
    int looked = twinlog_inspect(directory, &inspection);
    flips++;

    if (count == UINT64_MAX) {
        fail(file, offset, bit, "a wrong record was returned%.0" PRIu64, 0);
        return;
    }
    if (found.result == 0) {
        harmless++;
        if (cover == COVERED)
            fail(file, offset, bit, "verify did not see it%.0" PRIu64, 0);
        if (count != RECORDS || error != 0)
            fail(file, offset, bit, "only %" PRIu64 " records were read although verify is content", count);
        if (looked == 0 && inspection.last_lsn != RECORDS)
            fail(file, offset, bit, "recovery would end at %" PRIu64, inspection.last_lsn);
        return;
    }
    detected++;
    if (found.result != TWINLOG_ECORRUPT && found.result != TWINLOG_EFOREIGN &&
        found.result != TWINLOG_EVERSION)
        fail(file, offset, bit, "verify failed with %" PRIu64, (uint64_t)(int64_t)found.result);
    if (found.damages == 0 || strcmp(found.file, file) != 0)
        fail(file, offset, bit, "the report names no or another file%.0" PRIu64, 0);
    if (cover == FREE)
        fail(file, offset, bit, "harmless, but verify says damage at %" PRIu64, found.first_lsn);
    if (offset >= DATA_OFFSET && (found.first_lsn == 0 || found.first_lsn > RECORDS + 1))
        fail(file, offset, bit, "the report has LSN %" PRIu64, found.first_lsn);
    /* an exact prefix, as far as the damage: a mark without records may be passed over by nobody */
    if (offset >= DATA_OFFSET && (error != TWINLOG_ECORRUPT || count + 1 < found.first_lsn) &&
        count != RECORDS)
        fail(file, offset, bit, "the reader stopped after %" PRIu64, count);
    if (looked == 0 && inspection.report.error == 0 && inspection.last_lsn != RECORDS)
        fail(file, offset, bit, "opening would silently end at %" PRIu64, inspection.last_lsn);
}

static void flip(int fd, uint64_t offset, unsigned bit)
{
    unsigned char byte;
    if (pread(fd, &byte, 1, (off_t)offset) != 1)
        abort();
    byte ^= (unsigned char)(1u << bit);
    if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
        abort();
}

static unsigned char *load(int fd, uint64_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        abort();
    unsigned char *bytes = malloc((size_t)st.st_size);
    if (!bytes || pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size)
        abort();
    *ret_size = (uint64_t)st.st_size;
    return bytes;
}

/* First and last byte of the data that are not zero. */
static void find_used(const unsigned char *bytes, uint64_t size, uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t from = DATA_OFFSET, to = size;
    while (from < to && bytes[from] == 0)
        from++;
    while (to > from && bytes[to - 1] == 0)
        to--;
    *ret_from = from & ~UINT64_C(7);
    *ret_to = (to + 7) & ~UINT64_C(7);
}

/* The mark of a close begins a block, and in front of it are zeros. */
static bool is_gap(const unsigned char *bytes, uint64_t size, uint64_t offset)
{
    uint64_t end = (offset / BLOCK_BYTES + 1) * BLOCK_BYTES, from = end;
    while (from > 0 && bytes[from - 1] == 0)
        from--;
    from = (from + 7) & ~UINT64_C(7); /* up to there it is the padding of a record */
    return offset >= from && end + MARK_BYTES <= size && memcmp(bytes + end + 4, "1TWG", 4) == 0;
}

static int is_segment(const struct dirent *entry)
{
    return strstr(entry->d_name, ".twl") != NULL;
}

static void remove_directory(void)
{
    struct dirent **names;
    int count = scandir(directory, &names, NULL, NULL);
    for (int i = 0; i < count; i++) {
        char path[600];
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]->d_name);
        unlink(path);
        free(names[i]);
    }
    free(names);
    rmdir(directory);
}

int main(int argc, char **argv)
{
    unsigned stride = 1, start = 0;
    int option;
    while ((option = getopt(argc, argv, "s:f:h")) != -1) {
        if (option == 's')
            stride = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'f')
            start = (unsigned)strtoul(optarg, NULL, 10);
        else {
            printf("usage: damage-flips [-s STRIDE] [-f FIRST]\n"
                   "Flips every STRIDE-th bit of a small log, from bit FIRST on, and checks what is read.\n");
            return option == 'h' ? 0 : 2;
        }
    }
    if (stride == 0)
        return 2;
    snprintf(directory, sizeof(directory), "%s/twinlog-flips-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(directory))
        abort();
    make_log();

    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    if (twinlog_inspect(directory, &inspection) != 0 || inspection.last_lsn != RECORDS ||
        verify().result != 0 || inspection.segments < 3)
        abort();

    struct dirent **names;
    int count = scandir(directory, &names, is_segment, alphasort);
    for (int i = 0; i < count; i++) {
        char path[600];
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]->d_name);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        uint64_t from, to, size;
        unsigned char *bytes = load(fd, &size);
        find_used(bytes, size, &from, &to);
        bool is_last = strcmp(names[i]->d_name, inspection.report.file) == 0;
        uint64_t covered_to = is_last ? inspection.report.offset - MARK_BYTES : to;
        uint64_t end = to + 512 < size ? to + 512 : size; /* a little behind the end, too */
        for (uint64_t bit = start; bit < end * 8; bit += stride) {
            uint64_t offset = bit / 8;
            bool is_used = offset < HEADER_BYTES || (offset >= from && offset < covered_to);
            enum cover cover = is_used && !is_gap(bytes, size, offset) ? COVERED : FREE;
            flip(fd, offset, (unsigned)(bit % 8));
            check_flip(names[i]->d_name, offset, (unsigned)(bit % 8), cover);
            flip(fd, offset, (unsigned)(bit % 8));
            if (violations > 20)
                break;
        }
        free(bytes);
        close(fd);
        free(names[i]);
    }
    free(names);
    remove_directory();
    printf("damage-flips: %lu bits of %d segments flipped, %lu detected, %lu harmless, %lu violations\n",
           flips, count, detected, harmless, violations);
    return violations > 0;
}
