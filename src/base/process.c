/* SPDX-License-Identifier: Apache-2.0 */
/* See process.h. */
#define _GNU_SOURCE
#include "base/process.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id" /* a UUID in hexadecimal */

void twl_boot_id(uint8_t ret_id[BOOT_ID_BYTES])
{
    const int fd = twl_descriptor_open(AT_FDCWD, BOOT_ID_PATH, O_RDONLY, 0);
    if (fd < 0 || read(fd, ret_id, BOOT_ID_BYTES) != BOOT_ID_BYTES)
        memset(ret_id, 0, BOOT_ID_BYTES);
    if (fd >= 0)
        close(fd);
}

bool twl_boot_is(const uint8_t id[BOOT_ID_BYTES])
{
    static const uint8_t unknown[BOOT_ID_BYTES];
    uint8_t now[BOOT_ID_BYTES];
    twl_boot_id(now);
    return memcmp(now, unknown, BOOT_ID_BYTES) != 0 && memcmp(now, id, BOOT_ID_BYTES) == 0;
}

/* 0 without /proc. The kernel numbers namespaces in 32 bits. */
static uint32_t own_namespace(void)
{
    struct stat about;
    return stat("/proc/self/ns/pid", &about) == 0 ? (uint32_t)about.st_ino : 0;
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
    return kill(pid, 0) == 0 || errno == EPERM ? pid : 0;
}
