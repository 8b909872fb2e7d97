/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

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
