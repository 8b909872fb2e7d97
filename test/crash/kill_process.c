/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that are started, awaited and reaped; the directory they meet in; how a violation ends it all. */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct place place;
struct shared *shared;
struct world *world;

static bool is_child;

/* ---- the end by a signal ------------------------------------------------------------------------- */

/* Nothing is printed before the end. The other processes end with this one. */
static void say_signal(int number)
{
    char words[1200];
    const int size = snprintf(
        words, sizeof(words),
        "%s: ended by signal %d in cycle %" PRIu64 "; the log is kept in %s\n  again: %s%s "
        "--seed %" PRIu64 "\n",
        place.program, number, place.cycle, place.log, place.program, place.command_line, place.seed);

    if (!is_child)
        (void)!write(STDERR_FILENO, words, (size_t)size);
    signal(number, SIG_DFL);
    raise(number);
}

static void take_signals(void)
{
    static const int numbers[] = { SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGABRT, SIGBUS, SIGSEGV };
    struct sigaction there;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (sigaction(numbers[i], NULL, &there) == 0 && there.sa_handler == SIG_DFL) /* no sanitizer's */
            signal(numbers[i], say_signal);
}

/* ---- the directory ----------------------------------------------------------------------------- */

void make_place(const char *parent)
{
    const char *where = parent ? parent : getenv("TMPDIR");

    take_signals();
    shared = map_shared(sizeof(*shared));
    world = &shared->world;
    snprintf(place.directory, sizeof(place.directory), "%s/twinlog-%s-XXXXXX", where ? where : "/tmp",
             place.program);
    if (!mkdtemp(place.directory))
        give_up(place.directory);
    snprintf(place.log, sizeof(place.log), "%s/log", place.directory);
    snprintf(place.copy, sizeof(place.copy), "%s/copy", place.directory);
}

void remove_place(void)
{
    if (place.leave)
        place.leave();
    remove_directory(place.log);
    remove_directory(place.copy);
    rmdir(place.directory);
}

void *map_shared(size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        give_up("mmap");
    return memory;
}

/* ---- words ------------------------------------------------------------------------------------- */

int say_at_end(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "%s: cannot write what it has found: %s\n", place.program, strerror(errno));
    return 3;
}

/* The other processes end with this one. */
static _Noreturn void end(int status)
{
    _Exit(say_at_end(status));
}

static _Noreturn void complain(const char *words)
{
    snprintf(shared->complaint, sizeof(shared->complaint), "%s", words);
    atomic_store(&shared->has_complaint, true);
    _exit(EXIT_FAILURE);
}

static _Noreturn void report_violation(const char *words)
{
    if (place.lie != LIE_NONE) {
        printf("%s: found, as it should be: %s\n", place.program, words);
        remove_place();
        end(EXIT_SUCCESS);
    }
    if (place.keep)
        place.keep();
    printf("%s: VIOLATION: %s\n  in cycle %" PRIu64 "; the log is kept in %s\n  again: %s%s --seed %" PRIu64
           "\n",
           place.program, words, place.cycle, place.log, place.program, place.command_line, place.seed);
    end(EXIT_FAILURE);
}

_Noreturn void violation(const char *format, ...)
{
    char words[sizeof(shared->complaint)];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    if (is_child)
        complain(words);
    report_violation(words);
}

_Noreturn void give_up(const char *what)
{
    if (is_child)
        violation("%s: %s", what, strerror(errno));
    fprintf(stderr, "%s: %s: %s\n", place.program, what, strerror(errno));
    exit(EXIT_FAILURE);
}

/* ---- time -------------------------------------------------------------------------------------- */

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void pause_a_moment(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
}

/* ---- processes --------------------------------------------------------------------------------- */

pid_t fork_child(void (*run)(void *context), void *context)
{
    const pid_t parent = getpid();
    pid_t pid;

    pid = fork();
    if (pid < 0)
        give_up("fork");
    if (pid > 0)
        return pid;
    is_child = true;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        run(context);
    _exit(EXIT_SUCCESS);
}

bool await(pid_t pid, int64_t ns)
{
    const int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* musl declares none */
    const struct timespec patience = { ns / 1000000000, ns % 1000000000 };
    struct pollfd process = { .fd = fd, .events = POLLIN };
    int result;

    if (fd < 0)
        give_up("pidfd_open");
    result = ppoll(&process, 1, &patience, NULL);
    close(fd);
    return result > 0;
}

bool is_too_long(int64_t start, uint64_t ms)
{
    check_complaints();
    pause_a_moment();
    return now_ns() - start > (int64_t)ms * 1000000;
}

void check_complaints(void)
{
    if (atomic_load(&shared->has_complaint))
        violation("%s", shared->complaint);
}

void raise_to(_Atomic uint64_t *value, uint64_t to)
{
    uint64_t before = atomic_load(value);

    while (before < to && !atomic_compare_exchange_strong(value, &before, to))
        ;
}

void check_call(int result, const char *call)
{
    if (result < 0)
        violation("%s: %s", call, twinlog_strerror(result));
}

int reap(pid_t pid, const char *name)
{
    int status;

    if (!await(pid, PATIENCE_MS * INT64_C(1000000)))
        violation("%s did not end within %d s", name, PATIENCE_MS / 1000);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            give_up("waitpid");
    check_complaints();
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        violation("%s died of signal %d", name, WTERMSIG(status));
    return status;
}

void reap_well(pid_t pid, const char *name)
{
    const int status = reap(pid, name);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
        violation("%s ended with status %#x", name, (unsigned)status);
}
