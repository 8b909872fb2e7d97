/* SPDX-License-Identifier: Apache-2.0 */
/* See forbid.h. */
#define _GNU_SOURCE
#include "forbid.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, count)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (uint32_t)(action))

static bool load(struct sock_filter *filter, unsigned short length, unsigned flags)
{
    const struct sock_fprog program = { .len = length, .filter = filter };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0;
}

static bool forbid_call(int call, int error, unsigned flags)
{
    struct sock_filter filter[] = {
        LOAD(offsetof(struct seccomp_data, nr)),
        SKIP_UNLESS(call, 1),
        RETURN(SECCOMP_RET_ERRNO | (unsigned)error),
        RETURN(SECCOMP_RET_ALLOW),
    };

    return load(filter, sizeof(filter) / sizeof(filter[0]), flags);
}

bool forbid(int call, int error)
{
    return forbid_call(call, error, 0);
}

bool forbid_to_all(int call, int error)
{
    return forbid_call(call, error, SECCOMP_FILTER_FLAG_TSYNC);
}

bool forbid_if(int call, int error, unsigned argument, uint64_t value)
{
    const size_t offset = offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t);
    uint32_t halves[2]; /* in the order of memory */

    memcpy(halves, &value, sizeof(halves));
    struct sock_filter filter[] = {
        LOAD(offsetof(struct seccomp_data, nr)),
        SKIP_UNLESS(call, 5),
        LOAD(offset),
        SKIP_UNLESS(halves[0], 3),
        LOAD(offset + sizeof(halves[0])),
        SKIP_UNLESS(halves[1], 1),
        RETURN(SECCOMP_RET_ERRNO | (unsigned)error),
        RETURN(SECCOMP_RET_ALLOW),
    };

    return load(filter, sizeof(filter) / sizeof(filter[0]), 0);
}
