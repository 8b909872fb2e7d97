/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes cannot be read at first. The handler of SIGSEGV waits, and makes them readable. */
#define _GNU_SOURCE
#include "slow_bytes.h"

#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define SLOW_BYTES 4096u

static struct {
    unsigned char *bytes;
    _Atomic bool is_reached, may_go;
} stop;

static void wait_until_let_go(int number, siginfo_t *info, void *context)
{
    (void)context;
    if ((unsigned char *)info->si_addr - stop.bytes >= (ptrdiff_t)SLOW_BYTES ||
        (unsigned char *)info->si_addr < stop.bytes) {
        signal(number, SIG_DFL); /* any other fault ends the process when it is repeated */
        return;
    }
    atomic_store(&stop.is_reached, true);
    while (!atomic_load(&stop.may_go))
        sched_yield();
    mprotect(stop.bytes, SLOW_BYTES, PROT_READ);
}

struct slow_bytes slow_bytes_make(unsigned char fill)
{
    const struct sigaction action = { .sa_sigaction = wait_until_let_go, .sa_flags = SA_SIGINFO };
    unsigned char *bytes = mmap(NULL, SLOW_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(bytes, MAP_FAILED);
    memset(bytes, fill, SLOW_BYTES);
    stop.bytes = bytes;
    atomic_store(&stop.is_reached, false);
    atomic_store(&stop.may_go, false);
    ck_assert_int_eq(sigaction(SIGSEGV, &action, NULL), 0);
    ck_assert_int_eq(mprotect(bytes, SLOW_BYTES, PROT_NONE), 0);
    return (struct slow_bytes){ .bytes = bytes, .size = SLOW_BYTES };
}

void slow_bytes_free(struct slow_bytes *slow)
{
    signal(SIGSEGV, SIG_DFL);
    munmap(slow->bytes, SLOW_BYTES);
}

bool slow_bytes_is_reached(void)
{
    return atomic_load(&stop.is_reached);
}

void slow_bytes_let_go(void)
{
    atomic_store(&stop.may_go, true);
}
