/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library for LD_PRELOAD, which makes a surrounding inside of a program. WORLD_INSIDE says which:
 *
 *     closed       descriptors 0 to 2 are closed in each child that crash-kill forks. It reports itself on 1 and 2.
 *     few          every second child of crash-kill may have 40 descriptors
 *     interrupts   a signal comes a thousand times a second, with a handler that does nothing and has no SA_RESTART, so
 *                  a call of the system that waits returns EINTR: in the programs below, and in what they fork. Of
 *                  crash-kill only in what it forks.
 *
 * The signal is SIGURG: a program that is started meanwhile ignores it, until it has a handler.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_NS 1000000
#define FEW 40

static const char *const programs[] = { "crash-kill", "surround", "twinlog", "unit" };
#define PROGRAMS (sizeof(programs) / sizeof(programs[0]))

static unsigned forks;

static bool is_wanted(const char *word)
{
    const char *wanted = getenv("WORLD_INSIDE");

    return wanted && strcmp(wanted, word) == 0;
}

static void do_nothing(int number)
{
    (void)number;
}

/* A forked child has none of the timers of its parent. */
static void start_interrupts(void)
{
    const struct itimerspec often = { { 0, INTERVAL_NS }, { 0, INTERVAL_NS } };
    const struct sigaction action = { .sa_handler = do_nothing };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG };
    timer_t timer;

    sigaction(SIGURG, &action, NULL);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 || timer_settime(timer, 0, &often, NULL) < 0)
        abort();
}

static void have_few_descriptors(void)
{
    const struct rlimit few = { FEW, FEW };

    if (setrlimit(RLIMIT_NOFILE, &few) < 0)
        abort();
}

static void close_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        close(fd);
}

static void count_fork(void)
{
    forks++;
}

static void begin_child(void)
{
    if (is_wanted("closed"))
        close_descriptors();
    if (is_wanted("few") && forks % 2 == 0)
        have_few_descriptors();
    if (is_wanted("interrupts"))
        start_interrupts();
}

static bool is_one_of_the_programs(void)
{
    for (size_t i = 0; i < PROGRAMS; i++)
        if (strcmp(program_invocation_short_name, programs[i]) == 0)
            return true;
    return false;
}

__attribute__((constructor)) static void begin(void)
{
    if (!is_one_of_the_programs())
        return;
    pthread_atfork(count_fork, NULL, begin_child);
    if (is_wanted("interrupts") && strcmp(program_invocation_short_name, "crash-kill") != 0)
        start_interrupts();
}
