/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See writer.h. That there is a writer is what twinlog_watch() says, which needs no segment and no state file. Which
 * process it is stands in writer.lock, by docs/format.md: that counts while there is a writer.
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

static uint32_t find_pid(const char *dir)
{
    unsigned char page[PAGE_BYTES];
    char path[PATH_MAX];

    if (archive_path(path, dir, "writer.lock") < 0)
        return 0;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;

    const ssize_t size = pread(fd, page, sizeof(page), 0);
    close(fd);
    if (size != (ssize_t)sizeof(page))
        return 0;
    return pid_on(page);
}

int look_for_writer(const char *dir, struct twinlog_inspection *ret_inspection)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;

    ret_inspection->has_writer = 0;
    const int error = twinlog_watch(dir, &stat, NULL);
    if (error == -ESRCH)
        return 0;

    const bool is_unseen =
        error == -EAGAIN || error == -ENOTSUP; /* one that opens it, or shares no counters */
    if (error < 0 && !is_unseen)
        return error;

    ret_inspection->has_writer = 1;
    ret_inspection->writer_pid = find_pid(dir);
    ret_inspection->poison = stat.poison;
    return 0;
}
