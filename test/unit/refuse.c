/* SPDX-License-Identifier: Apache-2.0 */
/* See refuse.h. */
#define _GNU_SOURCE
#include "refuse.h"

#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>

/* What a kernel has not, or only some machines have, is left out. */
static const int counted[] = {
    SYS_openat,         SYS_fstat,          SYS_newfstatat,     SYS_statx,
    SYS_ftruncate,      SYS_fallocate,      SYS_pread64,        SYS_pwrite64,
    SYS_pwritev2,       SYS_fsync,          SYS_fdatasync,      SYS_msync,
    SYS_fcntl,          SYS_linkat,         SYS_unlinkat,       SYS_renameat2,
    SYS_getdents64,     SYS_fstatfs,        SYS_ioctl,          SYS_memfd_create,
    SYS_eventfd2,       SYS_mkdirat,        SYS_writev,         SYS_lseek,
    SYS_timerfd_create, SYS_epoll_create1,  SYS_epoll_ctl,      SYS_copy_file_range,
    SYS_preadv,         SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
#ifdef SYS_rename
    SYS_rename,         SYS_unlink,         SYS_link,           SYS_mkdir,
    SYS_stat,           SYS_open,
#endif
};
#define COUNTED (sizeof(counted) / sizeof(counted[0]))

static struct {
    unsigned number, count;
    int error;
    bool was_refused;
    int refused;
} refusal;

/* Where the lower half of an argument is. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARGUMENT(n) ((unsigned)offsetof(struct seccomp_data, args[n]))
#else
#define ARGUMENT(n) ((unsigned)offsetof(struct seccomp_data, args[n]) + 4)
#endif

/* Of mappings those of files count. Memory that belongs to no file is the allocator's, or a thread's stack. The thread
 * that answers is not asked about that: it may need memory, too, and the allocator's lock is held meanwhile. */
static int with_counted_calls(int (*body)(void), int (*answer)(const struct seccomp_notif *asked))
{
    struct sock_filter filter[COUNTED + 6];
    unsigned short length = 0;
    const unsigned char to_notify = COUNTED + 1, to_allow = COUNTED;

    filter[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 2);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(4));
    filter[length++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)-1, to_allow, to_notify);
    for (unsigned i = 0; i < COUNTED; i++)
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)counted[i],
                                                        (unsigned char)(COUNTED - i), 0);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);

    return with_asked_calls(body, filter, length, answer);
}

static int answer(const struct seccomp_notif *asked)
{
    if (refusal.count++ != refusal.number)
        return 0;

    refusal.refused = asked->data.nr;
    refusal.was_refused = true;
    return refusal.error;
}

/* All on one processor, from here on: to wake another one for each call, and back, takes most of the time. */
static void stay_on_one_processor(void)
{
    cpu_set_t here;
    const int processor = sched_getcpu();

    CPU_ZERO(&here);
    if (processor < 0)
        return;
    CPU_SET((size_t)processor, &here);
    sched_setaffinity(0, sizeof(here), &here);
}

int with_refused_call(int (*body)(void), unsigned number, int error)
{
    stay_on_one_processor();
    memset(&refusal, 0, sizeof(refusal));
    refusal.number = number;
    refusal.error = error;
    return with_counted_calls(body, answer);
}

bool was_refused(void)
{
    return refusal.was_refused;
}

int number_of_refused(void)
{
    return refusal.refused;
}
