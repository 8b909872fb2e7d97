/* SPDX-License-Identifier: Apache-2.0 */
/* See process.h. */
#define _GNU_SOURCE
#include "base/process.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id" /* a UUID in hexadecimal */
#define UUID_BYTES 8u                                  /* of its text: 32 random bits */
#define SET_CLOCK_S INT64_C(1500000000) /* 2017: a system that starts without a clock begins in 1970 */

/*
 * Two things tell a boot. The kernel's UUID is the better one, but a container may have a file of its own in its place,
 * which is another one at each start of the container, or may not see it at all. The other one cannot be replaced, and
 * is in every namespace: the time when the kernel made the inode that all eventfds share (fs/anon_inodes.c), soon after
 * its start.
 */
struct boot {
    char uuid[UUID_BYTES];  /* zeros: not known */
    uint64_t inode_born_ns; /* 0: not known */
};
_Static_assert(sizeof(struct boot) == BOOT_ID_BYTES, "an identifier is stored in files");

/* Does this error say what this process lacks at the moment, and nothing of the system that it runs on? */
static bool is_shortage(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* 0 also where there is none. An error: this process could not look. */
static int read_uuid(struct boot *boot)
{
    struct statfs around;

    const int fd = twl_descriptor_open(AT_FDCWD, BOOT_ID_PATH, O_RDONLY, 0);
    if (fd < 0 && is_shortage(fd))
        return fd;
    if (fd < 0)
        return 0;

    /* A container may have a file of its own there. */
    const bool is_kernels = fstatfs(fd, &around) == 0 && around.f_type == PROC_SUPER_MAGIC;
    const bool is_read = is_kernels && read(fd, boot->uuid, UUID_BYTES) == (ssize_t)UUID_BYTES;
    if (!is_read)
        memset(boot->uuid, 0, UUID_BYTES);
    close(fd);
    return 0;
}

/* When the inode that the two have in common was made; 0: they have none, or it is not known. */
static uint64_t birth_of_common_inode(int first, int second)
{
    struct stat one, other;

    if (fstat(first, &one) < 0 || fstat(second, &other) < 0)
        return 0;
    const bool have_same_time =
        one.st_mtim.tv_sec == other.st_mtim.tv_sec && one.st_mtim.tv_nsec == other.st_mtim.tv_nsec;
    if (one.st_ino != other.st_ino || !have_same_time) /* no test: not Linux */
        return 0;
    if (one.st_mtim.tv_sec < SET_CLOCK_S) /* no test: a system that began without a clock */
        return 0;
    return (uint64_t)one.st_mtim.tv_sec * 1000000000 + (uint64_t)one.st_mtim.tv_nsec;
}

/* A system that only looks like Linux may give each eventfd an inode of its own: two that are open together tell. */
static int find_birth(struct boot *boot)
{
    const int first = twl_descriptor_event(0), second = twl_descriptor_event(0);
    int rc = 0;

    if (first >= 0 && second >= 0)
        boot->inode_born_ns = birth_of_common_inode(first, second);
    if (is_shortage(first))
        rc = first;
    else if (is_shortage(second))
        rc = second;

    if (first >= 0)
        close(first);
    if (second >= 0)
        close(second);
    return rc;
}

/* An error: *ret_boot lacks something that another process may see, because this one lacks descriptors or memory. */
static int look_at_boot(struct boot *ret_boot)
{
    *ret_boot = (struct boot){ 0 };
    const int born = find_birth(ret_boot);
    const int read = read_uuid(ret_boot);

    if (born < 0)
        return born;
    return read;
}

enum same {
    SAME_UNKNOWN,
    SAME_YES,
    SAME_NO
};

static enum same same_if(bool is_same)
{
    if (is_same)
        return SAME_YES;
    return SAME_NO;
}

static bool has_uuid(const struct boot *boot)
{
    static const char unknown[UUID_BYTES];

    return memcmp(boot->uuid, unknown, UUID_BYTES) != 0;
}

/* By the better one of the two that both have. */
static enum same compare_boots(const struct boot *one, const struct boot *other)
{
    if (has_uuid(one) && has_uuid(other))
        return same_if(memcmp(one->uuid, other->uuid, UUID_BYTES) == 0);
    if (one->inode_born_ns == 0 || other->inode_born_ns == 0)
        return SAME_UNKNOWN;
    return same_if(one->inode_born_ns == other->inode_born_ns);
}

/* Where this process could not look, and what it has seen decides nothing: an error. */
static int compare_with_current(const uint8_t id[BOOT_ID_BYTES], enum same *ret_same)
{
    struct boot boot, current;

    const int looked = look_at_boot(&current);
    memcpy(&boot, id, sizeof(boot));
    *ret_same = compare_boots(&boot, &current);
    if (*ret_same != SAME_UNKNOWN)
        return 0;
    return looked;
}

int twl_boot_id(uint8_t ret_id[BOOT_ID_BYTES])
{
    struct boot boot;
    const int rc = look_at_boot(&boot);

    memcpy(ret_id, &boot, sizeof(boot));
    return rc;
}

int twl_boot_ask(const uint8_t id[BOOT_ID_BYTES], bool *ret_is_current)
{
    enum same same;
    const int rc = compare_with_current(id, &same);

    *ret_is_current = same == SAME_YES;
    return rc;
}

bool twl_boot_has_ended(const uint8_t id[BOOT_ID_BYTES])
{
    enum same same;

    return compare_with_current(id, &same) == 0 && same == SAME_NO;
}

/* 0 without /proc. The kernel numbers namespaces in 32 bits. */
static uint32_t own_namespace(void)
{
    struct stat about;

    if (stat("/proc/self/ns/pid", &about) < 0)
        return 0;
    return (uint32_t)about.st_ino;
}

uint64_t twl_process_word(void)
{
    return (uint64_t)own_namespace() << 32 | (uint32_t)getpid();
}

pid_t twl_process_pid(uint64_t word)
{
    const uint32_t pid_namespace = (uint32_t)(word >> 32);
    const pid_t pid = (pid_t)(uint32_t)word;

    if (pid <= 0 || pid_namespace == 0 || pid_namespace != own_namespace())
        return 0;

    const bool is_alive = kill(pid, 0) == 0 || errno == EPERM;
    if (!is_alive)
        return 0;
    return pid;
}
