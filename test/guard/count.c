/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts what a child does, by the processor's trap flag: while that is set, each instruction ends in a signal, and the
 * handler looks at the next one. One at the beginning of malloc() is an allocation, one with a lock prefix is
 * atomic, one that enters the kernel has its number and arguments in registers. So nothing has to be compiled or
 * linked differently, no package and no counter of the processor is needed, and the clock has no say.
 *
 * Only the thread that runs the work is counted. It must not block signals, so it cannot start threads.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

const char *const cost_names[COSTS] = {
    [COST_INSTRUCTIONS] = "instructions",
    [COST_ATOMICS] = "atomics",
    [COST_MOVED] = "moved",
    [COST_LOCKS] = "locks",
    [COST_CLOCKS] = "clocks",
    [COST_ALLOCATIONS] = "allocations",
    [COST_SYSCALLS] = "syscalls",
    [COST_REQUESTS] = "requests",
    [COST_SYNCS] = "syncs",
    [COST_WRITTEN] = "written",
    [COST_READ] = "read",
};

#ifdef __x86_64__

#define TRAP_FLAG 0x100

static struct counts *counts; /* shared with the child */

/* ---- what an instruction is ------------------------------------------------------------------------ */

/* Those with is_whole run at once, and their instructions are not counted: they differ between processors and C
 * libraries. `bytes` is the argument, 1 to 6, that says how many bytes it moves, fills, compares or sums. */
static struct function {
    const char *name;
    enum cost cost;
    bool is_whole;
    unsigned bytes;
    uintptr_t address;
} functions[] = {
    { "malloc", COST_ALLOCATIONS, true, 0, 0 },
    { "calloc", COST_ALLOCATIONS, true, 0, 0 },
    { "realloc", COST_ALLOCATIONS, true, 0, 0 },
    { "aligned_alloc", COST_ALLOCATIONS, true, 0, 0 },
    { "posix_memalign", COST_ALLOCATIONS, true, 0, 0 },
    { "mmap", COST_ALLOCATIONS, false, 0, 0 },
    { "free", COST_INSTRUCTIONS, true, 0, 0 },
    { "pthread_create", COST_INSTRUCTIONS, true, 0, 0 },
    { "memcpy", COST_MOVED, true, 3, 0 },
    { "memmove", COST_MOVED, true, 3, 0 },
    { "memset", COST_MOVED, true, 3, 0 },
    { "memcmp", COST_MOVED, true, 3, 0 },
    { "crc32_iscsi", COST_MOVED, true, 2, 0 },
    { "pthread_mutex_lock", COST_LOCKS, false, 0, 0 },
    { "pthread_mutex_trylock", COST_LOCKS, false, 0, 0 },
    { "pthread_mutex_timedlock", COST_LOCKS, false, 0, 0 },
    { "pthread_spin_lock", COST_LOCKS, false, 0, 0 },
    { "pthread_rwlock_rdlock", COST_LOCKS, false, 0, 0 },
    { "pthread_rwlock_wrlock", COST_LOCKS, false, 0, 0 },
    { "sem_wait", COST_LOCKS, false, 0, 0 },
    { "pthread_sigmask", COST_INSTRUCTIONS, true, 0, 0 },
    { "clock_gettime", COST_CLOCKS, false, 0, 0 },
};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))
#define SIGNAL_MASK (functions[FUNCTIONS - 2])
#define CLOCK (functions[FUNCTIONS - 1])

static void find_functions(void)
{
    for (size_t i = 0; i < FUNCTIONS; i++)
        functions[i].address = (uintptr_t)dlsym(RTLD_DEFAULT, functions[i].name);
}

static const struct function *function_at(uintptr_t address)
{
    for (const struct function *function = functions; function < functions + FUNCTIONS; function++)
        if (function->address == address)
            return function;
    return NULL;
}

static bool is_atomic(const unsigned char *code)
{
    while (*code == 0x66 || *code == 0xf2 || *code == 0xf3 || *code == 0x64 || *code == 0x2e)
        code++;
    if (*code == 0xf0)
        return true;
    if ((*code & 0xf0) == 0x40)
        code++;
    return (*code == 0x86 || *code == 0x87) && code[1] < 0xc0; /* xchg with memory */
}

static bool is_sync(const greg_t *registers)
{
    switch (registers[REG_RAX]) {
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_sync:
    case SYS_syncfs:
    case SYS_msync:
    case SYS_sync_file_range:
        return true;
    case SYS_pwritev2:
        return (registers[REG_R9] & (RWF_DSYNC | RWF_SYNC)) != 0;
    default:
        return false;
    }
}

static uint64_t written_by(const greg_t *registers)
{
    const struct iovec *pieces = (const struct iovec *)registers[REG_RSI];
    uint64_t bytes = 0;

    switch (registers[REG_RAX]) {
    case SYS_write:
    case SYS_pwrite64:
        return (uint64_t)registers[REG_RDX];
    case SYS_writev:
    case SYS_pwritev:
    case SYS_pwritev2:
        for (greg_t i = 0; i < registers[REG_RDX]; i++)
            bytes += pieces[i].iov_len;
        return bytes;
    default:
        return 0;
    }
}

static uint64_t read_by(const greg_t *registers)
{
    const bool is_read = registers[REG_RAX] == SYS_read || registers[REG_RAX] == SYS_pread64;

    return is_read ? (uint64_t)registers[REG_RDX] : 0;
}

static void count_call(const greg_t *registers)
{
    const uint64_t number = (uint64_t)registers[REG_RAX];

    if (number == SYS_clock_gettime || number == SYS_gettimeofday)
        return;
    counts->costs[COST_SYSCALLS]++;
    counts->costs[COST_REQUESTS] += number == SYS_io_uring_enter ? (uint64_t)registers[REG_RSI] : 0;
    counts->costs[COST_SYNCS] += is_sync(registers);
    counts->costs[COST_WRITTEN] += written_by(registers);
    counts->costs[COST_READ] += read_by(registers);
    if (number < SYSTEM_CALLS)
        counts->calls[number]++;
}

/* ---- stepping -------------------------------------------------------------------------------------- */

#define SET_TRAP_FLAG "pushfq\n\torq $0x100, (%rsp)\n\tpopfq\n\t"

/* start_counting() sets the flag; a function that runs as a whole returns to go_on(), which sets the flag again and
 * returns to where the function was called. */
void start_counting(void), stop_counting(void), go_on(void);
extern uintptr_t return_address; /* a link-time optimizer may rename what C has defined */
__asm__(".pushsection .bss\n"
        ".globl return_address\n"
        ".balign 8\n"
        "return_address:\n\t.zero 8\n"
        ".popsection\n"
        ".pushsection .text\n"
        ".globl start_counting, stop_counting, go_on\n"
        "start_counting:\n\t" SET_TRAP_FLAG "ret\n"
        "stop_counting:\n\tret\n"
        "go_on:\n\tpushq return_address(%rip)\n\t" SET_TRAP_FLAG "ret\n"
        ".popsection\n");

static void run_whole(greg_t *registers)
{
    uintptr_t *top = (uintptr_t *)registers[REG_RSP];

    return_address = *top;
    *top = (uintptr_t)go_on;
    registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

/* Instead of a clock, time that passes by a microsecond at each look: what depends on it happens each time. */
static void tell_time(greg_t *registers)
{
    static struct timespec now[16];
    uintptr_t *top = (uintptr_t *)registers[REG_RSP];
    const clockid_t id = (clockid_t)registers[REG_RDI];
    struct timespec *at = &now[(unsigned)id % 16];

    if (at->tv_sec == 0)
        clock_gettime(id, at);
    at->tv_nsec += 1000;
    if (at->tv_nsec >= 1000000000) {
        at->tv_sec++;
        at->tv_nsec -= 1000000000;
    }
    *(struct timespec *)registers[REG_RSI] = *at;
    registers[REG_RAX] = 0;
    registers[REG_RIP] = (greg_t)*top;
    registers[REG_RSP] += (greg_t)sizeof(*top);
}

static void count_function(const struct function *function, greg_t *registers)
{
    static const int arguments[] = { 0, REG_RDI, REG_RSI, REG_RDX, REG_RCX, REG_R8, REG_R9 };

    if (function->bytes > 0)
        counts->costs[function->cost] += (uint64_t)registers[arguments[function->bytes]];
    else
        counts->costs[function->cost]++;
    if (function->is_whole)
        run_whole(registers);
    if (function == &CLOCK)
        tell_time(registers);
    /* The library starts its threads with every signal blocked; a trap that is blocked would end the process. */
    if (function == &SIGNAL_MASK && registers[REG_RSI] != 0)
        sigdelset((sigset_t *)registers[REG_RSI], SIGTRAP);
}

static void look_at_next(int signal_number, siginfo_t *info, void *context)
{
    static uintptr_t last;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uintptr_t at = (uintptr_t)registers[REG_RIP];
    const unsigned char *code = (const unsigned char *)at;

    (void)signal_number;
    (void)info;
    if (at == (uintptr_t)stop_counting) {
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
        counts->is_complete = true;
        return;
    }
    if (at == last) /* one that repeats itself */
        return;
    last = at;
    counts->costs[COST_INSTRUCTIONS]++;
    counts->costs[COST_ATOMICS] += is_atomic(code);
    if (code[0] == 0x0f && code[1] == 0x05) /* syscall */
        count_call(registers);
    const struct function *function = function_at(at);
    if (function)
        count_function(function, registers);
}

/* ---- the child ------------------------------------------------------------------------------------- */

static int count_run(const struct work *work)
{
    struct sigaction action = { .sa_sigaction = look_at_next, .sa_flags = SA_SIGINFO };
    int result;

    find_functions();
    sigaction(SIGTRAP, &action, NULL);
    start_counting();
    result = work->run(work);
    stop_counting();
    return result;
}

static _Noreturn void do_work(const struct work *work)
{
    int result = work->begin(work);

    if (result == 0)
        result =
            work->run(work); /* so that what happens once has happened: links are resolved, pages are there */
    if (result == 0)
        result = count_run(work);
    if (result == 0)
        result = work->end(work);
    counts->result = result;
    _exit(EXIT_SUCCESS);
}

int count_costs(const struct work *work, struct counts *ret_counts)
{
    int status;

    counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        return -errno;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0)
        do_work(work);
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -errno;
    *ret_counts = *counts;
    munmap(counts, sizeof(*counts));
    if (!WIFEXITED(status))
        return -ECHILD;
    if (ret_counts->result == 0 && !ret_counts->is_complete)
        return -ENOSYS;
    return ret_counts->result;
}

#else

int count_costs(const struct work *work, struct counts *ret_counts)
{
    (void)work;
    memset(ret_counts, 0, sizeof(*ret_counts));
    return -ENOSYS;
}

#endif
