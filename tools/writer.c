/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See writer.h. That there is a writer is what twinlog_watch() says, or the damage that it meets behind that question:
 * in the mapped and the shared mode it looks at the records, too. Which process it is, and whether the log is poisoned,
 * stands in writer.lock, by docs/format.md: that counts while there is a writer.
 */
#define _GNU_SOURCE
#include "writer.h"

#include "archive/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_MAGIC UINT64_C(0x324556494c4c5754)
#define PAGE_BYTES 64u
#define WRITER_OFFSET 48u
#define POISON_OFFSET 60u

/* 0: this process has no /proc. */
static uint32_t own_pid_namespace(void)
{
    struct stat about;

    if (stat("/proc/self/ns/pid", &about) < 0)
        return 0;
    return (uint32_t)about.st_ino;
}

static uint64_t load_word(const unsigned char *page, size_t offset)
{
    uint64_t word; /* of this machine's byte order, as the page is memory that processes share */

    memcpy(&word, page + offset, sizeof(word));
    return word;
}

/* 0: several processes, or one in another PID namespace. */
static uint32_t pid_on(const unsigned char page[PAGE_BYTES])
{
    const uint64_t writer = load_word(page, WRITER_OFFSET);
    const uint32_t pid = (uint32_t)writer, pid_namespace = (uint32_t)(writer >> 32);

    if (load_word(page, 0) != PAGE_MAGIC || pid == 0 || pid > INT_MAX)
        return 0;
    if (pid_namespace == 0 || pid_namespace != own_pid_namespace())
        return 0;
    if (kill((pid_t)pid, 0) < 0 && errno != EPERM)
        return 0;
    return pid;
}

/* 0, also where it cannot be read. */
static int32_t poison_on(const unsigned char page[PAGE_BYTES])
{
    int32_t poison;

    memcpy(&poison, page + POISON_OFFSET, sizeof(poison));
    return load_word(page, 0) == PAGE_MAGIC && poison < 0 ? poison : 0;
}

/* All zeros, which tell nothing, where the page cannot be read. */
static void read_page(const char *dir, unsigned char ret_page[PAGE_BYTES])
{
    char path[PATH_MAX];

    memset(ret_page, 0, PAGE_BYTES);
    if (archive_path(path, dir, "writer.lock") < 0)
        return;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;

    const ssize_t size = pread(fd, ret_page, PAGE_BYTES, 0);
    close(fd);
    if (size != (ssize_t)PAGE_BYTES)
        memset(ret_page, 0, PAGE_BYTES);
}

/* What twinlog_watch() returns only behind its question for the lock, when that has told of a writer. */
static bool proves_writer(int error)
{
    switch (error) {
    case 0:
    case -EAGAIN:          /* a process that opens the log */
    case -ENOTSUP:         /* one that shares no counters */
    case TWINLOG_ECORRUPT: /* damage among the records of a mapped log */
    case TWINLOG_EFOREIGN:
    case TWINLOG_EVERSION:
        return true;
    default:
        return false;
    }
}

int look_for_writer(const char *dir, struct twinlog_inspection *ret_inspection)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;

    ret_inspection->has_writer = 0;
    const int error = twinlog_watch(dir, &stat, NULL);
    if (error == -ESRCH)
        return 0;

    if (!proves_writer(error))
        return error;

    unsigned char page[PAGE_BYTES];
    read_page(dir, page);
    ret_inspection->has_writer = 1;
    ret_inspection->writer_pid = pid_on(page);
    ret_inspection->poison = error == 0 ? stat.poison : poison_on(page);
    return 0;
}
