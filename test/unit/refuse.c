/* SPDX-License-Identifier: Apache-2.0 */
/* See refuse.h. */
#define _GNU_SOURCE
#include "refuse.h"

#include "asked.h"
#include "logdir.h"

#include <sched.h>
#include <stdatomic.h>
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
    int (*body)(void);
    unsigned number, count;
    int error, result;
    atomic_int listener; /* of the filter; UNKNOWN, or below 0: there can be none */
    atomic_bool is_inside;
    bool was_refused;
    int refused;
} refusal;
#define UNKNOWN (-2)

/* Where the lower half of an argument is. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARGUMENT(n) ((unsigned)offsetof(struct seccomp_data, args[n]))
#else
#define ARGUMENT(n) ((unsigned)offsetof(struct seccomp_data, args[n]) + 4)
#endif

/* Of mappings those of files count. Memory that belongs to no file is the allocator's, or a thread's stack. The thread
 * that answers is not asked about that: it may need memory, too, and the allocator's lock is held meanwhile. */
static int listen_to_this_thread(void)
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

    return ask_about_calls(filter, length);
}

static void *call_body(void *unused)
{
    const int listener = listen_to_this_thread();

    atomic_store(&refusal.listener, listener < 0 ? -1 : listener);
    if (listener < 0)
        return unused;
    atomic_store(&refusal.is_inside, true);
    refusal.result = refusal.body();
    atomic_store(&refusal.is_inside, false);
    return unused;
}

static int answer(const struct seccomp_notif *asked)
{
    if (!atomic_load(&refusal.is_inside) || refusal.count++ != refusal.number)
        return 0;

    refusal.refused = asked->data.nr;
    refusal.was_refused = true;
    return refusal.error;
}

static void *serve(void *unused)
{
    int listener;

    do {
        sched_yield();
        listener = atomic_load(&refusal.listener);
    } while (listener == UNKNOWN);
    if (listener >= 0)
        answer_calls(listener, answer);
    return unused;
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
    refusal.body = body;
    refusal.number = number;
    refusal.error = error;
    refusal.result = CANNOT_REFUSE;
    atomic_store(&refusal.listener, UNKNOWN);

    const pthread_t serving = start_thread(serve, NULL);
    const pthread_t calling = start_thread(call_body, NULL);
    pthread_join(calling, NULL);
    pthread_join(serving, NULL);
    return refusal.result;
}

bool was_refused(void)
{
    return refusal.was_refused;
}

int number_of_refused(void)
{
    return refusal.refused;
}
