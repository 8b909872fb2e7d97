/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the build that counts what runs: a process writes its counts when it calls exit(). Many of the tests' processes
 * end by _exit(), or kill themselves, and what they alone have run would count as never run. So these two calls write
 * the counts first. What another process kills is still not counted.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

void __gcov_dump(void);

/* A limit that the test has set on the size of files is not meant for the counts. */
static void write_counts(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    __gcov_dump();
}

/* In place of the C library's. */
_Noreturn void _exit(int status)
{
    write_counts();
    for (;;)
        syscall(SYS_exit_group, status);
}

int kill(pid_t process, int signal)
{
    if (process == getpid() && signal == SIGKILL)
        write_counts();
    return (int)syscall(SYS_kill, process, signal);
}
