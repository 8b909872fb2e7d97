/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-kill: a process that appends from many threads is killed with SIGKILL at a random moment, the
 * log is opened again at once and compared with what had been acknowledged (kill_judge.c has the rules).
 *
 * A cycle is one to three lives of a writer, most of them killed, some while they open the log, and
 * then a judgement. Every life has another I/O path, other sizes and another layout. Another process reads
 * all the while. The log goes on from cycle to cycle until it is large; then the next one begins.
 *
 * The seed decides everything but the moment of death, which the scheduler has a say in: a violation
 * may take some repetitions to come back.
 *
 * Blind to what a power cut does: what a killed process has written stays, synced or not.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LARGE_LOG_BYTES (6u << 20)
#define LARGE_LOG_RECORDS (SEEN_MAX / 8)
#define PATIENCE_MS 60000

enum {
    IO_KINDS = TWINLOG_IO_FDATASYNC + 1,
    FINDINGS = TWINLOG_FOUND_SYSTEM_ERROR + 1,
};

static const char *const io_names[IO_KINDS] = { "auto", "uring", "uring-linked", "dsync", "fdatasync" };
static const char *const lie_names[] = { "none", "ack", "bytes", "reader" };

static struct {
    uint64_t seed, kills, seconds; /* 0 kills or seconds: no limit */
    uint32_t threads;
    int io;     /* enum twinlog_io, -1: all in turn */
    int is_pad; /* -1: in turn */
    int is_buffered;
    enum lie lie;
    const char *parent;
} settings = { .seed = 1, .threads = 8, .io = -1, .is_pad = -1, .is_buffered = -1 };

static struct {
    uint64_t cycles, lives, killed, killed_opening, at_once, closed, logs;
    uint64_t acked, unacked, seen, readers;
    uint64_t lives_by_io[IO_KINDS], findings[FINDINGS];
} totals;

static char directory[256], log_directory[300], command_line[512];
static bool can_use[IO_KINDS][2]; /* path, buffered */
static struct shared *shared;
static struct book book;
static bool has_terminal;

/* ---- the directory ----------------------------------------------------------------------------- */

static void remove_log(void)
{
    DIR *list = opendir(log_directory);
    const struct dirent *entry;

    while (list && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(list), entry->d_name, 0);
    if (list)
        closedir(list);
    rmdir(log_directory);
    book.last = 0;
    book.exists = false;
    memset(&shared->witness, 0, offsetof(struct witness, digest));
    memset(shared->witness.digest, 0, sizeof(shared->witness.digest));
}

/* ---- saying it --------------------------------------------------------------------------------- */

static void erase_progress(void)
{
    if (has_terminal)
        fprintf(stderr, "\r\033[K");
}

static void show_progress(void)
{
    if (has_terminal)
        fprintf(stderr,
                "\rcycle %" PRIu64 ": %" PRIu64 " killed, %" PRIu64 " records acknowledged and there ",
                totals.cycles, totals.killed, totals.acked);
}

/* The other processes end with this one. */
static _Noreturn void end(int status)
{
    fflush(stdout);
    _Exit(status);
}

_Noreturn void violation(const char *format, ...)
{
    va_list arguments;

    erase_progress();
    printf("%s", settings.lie ? "crash-kill: found, as it should be: " : "crash-kill: VIOLATION: ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    if (settings.lie) {
        remove_log();
        rmdir(directory);
        end(EXIT_SUCCESS);
    }
    printf("  in cycle %" PRIu64 "; the log is kept in %s\n  again: crash-kill%s --seed %" PRIu64 "\n",
           totals.cycles, log_directory, command_line, settings.seed);
    end(EXIT_FAILURE);
}

static _Noreturn void give_up(const char *what)
{
    erase_progress();
    fprintf(stderr, "crash-kill: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void make_directory(void)
{
    const char *parent = settings.parent ? settings.parent : getenv("TMPDIR");

    snprintf(directory, sizeof(directory), "%s/twinlog-kill-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(directory))
        give_up(directory);
    snprintf(log_directory, sizeof(log_directory), "%s/log", directory);
}

/* Leaves out what this kernel or file system refuses, by name. */
static void find_paths(void)
{
    unsigned usable = 0;

    for (int io = 0; io < IO_KINDS; io++)
        for (int is_buffered = 0; is_buffered < 2; is_buffered++) {
            struct twinlog_options options = TWINLOG_OPTIONS_INIT;
            struct twinlog *log;
            int result;

            if ((settings.io >= 0 && io != settings.io) ||
                (settings.is_buffered >= 0 && is_buffered != settings.is_buffered))
                continue;
            options.io = (uint32_t)io;
            options.flags = is_buffered ? TWINLOG_BUFFERED : 0;
            result = twinlog_open(log_directory, &options, &log);
            if (result == 0)
                result = twinlog_close(log);
            if (result < 0 && result != -ENOTSUP)
                violation("the log cannot be opened and closed with %s: %s", io_names[io],
                          twinlog_strerror(result));
            can_use[io][is_buffered] = result == 0;
            usable += result == 0;
            if (result < 0)
                printf("SKIP crash-kill %s, %s: %s\n", io_names[io], is_buffered ? "buffered" : "direct",
                       twinlog_strerror(result));
        }
    remove_log();
    if (usable == 0) {
        rmdir(directory);
        exit(77);
    }
}

/* ---- one life ---------------------------------------------------------------------------------- */

static void prepare_life(struct life *life, uint64_t name, bool is_at_once, struct rng *rng)
{
    unsigned io, is_buffered;

    do {
        io = (unsigned)rng_below(rng, IO_KINDS);
        is_buffered = (unsigned)rng_below(rng, 2);
    } while (!can_use[io][is_buffered]);
    life->name = name;
    life->options = (struct twinlog_options)TWINLOG_OPTIONS_INIT;
    choose_options(rng, &life->options);
    life->options.io = io;
    life->options.flags = is_buffered ? TWINLOG_BUFFERED : 0;
    if (settings.is_pad > 0 || (settings.is_pad < 0 && rng_one_in(rng, 2)))
        life->options.flags |= TWINLOG_PAD;
    life->options.lock_wait_ms = is_at_once ? PATIENCE_MS / 2 : 0;
    life->writers = 1 + (uint32_t)rng_below(rng, settings.threads);
    atomic_store(&life->opened_last, NOT_OPEN);
    atomic_store(&life->must_stop, false);
    atomic_store(&life->error, 0);
    for (uint32_t i = 0; i < life->writers; i++) {
        atomic_store(&life->notes[i].begun, 0);
        atomic_store(&life->notes[i].accepted, 0);
        atomic_store(&life->notes[i].acked, 0);
        atomic_store(&life->notes[i].durable, 0);
    }
    totals.lives_by_io[io]++;
}

/* True when the process is gone. */
static bool await(pid_t pid, int64_t ns)
{
    const int fd = pidfd_open(pid, 0);
    const struct timespec patience = { ns / 1000000000, ns % 1000000000 };
    struct pollfd process = { .fd = fd, .events = POLLIN };
    int result;

    if (fd < 0)
        give_up("pidfd_open");
    result = ppoll(&process, 1, &patience, NULL);
    close(fd);
    return result > 0;
}

static int reap(pid_t pid, const char *who)
{
    int status;

    if (!await(pid, PATIENCE_MS * INT64_C(1000000)))
        violation("%s did not end within %d s", who, PATIENCE_MS / 1000);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            give_up("waitpid");
    return status;
}

enum end {
    END_KILLED_OPENING,
    END_KILLED,
    END_CLOSED,
};

static enum end choose_end(struct rng *rng)
{
    const uint64_t chance = rng_below(rng, 8);

    return chance < 3 ? END_KILLED_OPENING : chance < 7 ? END_KILLED : END_CLOSED;
}

/* Returns when it is dying, and not more. */
static void end_life(struct life *life, pid_t pid, enum end end, struct rng *rng)
{
    if (end == END_KILLED_OPENING) {
        await(pid, (int64_t)rng_below(rng, 6000000));
    } else {
        const int64_t born = now_ns();

        while (atomic_load(&life->opened_last) == NOT_OPEN && !await(pid, 500000))
            if (now_ns() - born > PATIENCE_MS * INT64_C(1000000))
                violation("the log was not open after %d s", PATIENCE_MS / 1000);
        await(pid, (int64_t)rng_below(rng, 30000000));
    }
    if (end == END_CLOSED) {
        atomic_store(&life->must_stop, true);
        await(pid, PATIENCE_MS * INT64_C(1000000));
    }
    kill(pid, SIGKILL);
}

static void check_death(const struct life *life, int status)
{
    const int error = atomic_load(&life->error);

    if (error < 0)
        violation("a writer with %s gave up: %s; %s", io_names[life->options.io], twinlog_strerror(error),
                  life->report.text);
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        violation("a writer with %s died of signal %d", io_names[life->options.io], WTERMSIG(status));
    if (WIFEXITED(status) && life->report.finding >= TWINLOG_FOUND_DAMAGE)
        violation("a writer found: %s", life->report.text);
    totals.lives++;
    if (WIFEXITED(status))
        totals.closed++;
    else
        totals.killed++;
    if (WIFSIGNALED(status) && atomic_load(&life->opened_last) == NOT_OPEN)
        totals.killed_opening++;
}

/* ---- one cycle --------------------------------------------------------------------------------- */

static bool is_witnessed(struct rng *rng)
{
    return settings.lie == LIE_READER || rng_below(rng, 4) > 0;
}

static void end_witness(pid_t pid)
{
    int status;

    atomic_store(&shared->witness.must_stop, true);
    status = reap(pid, "the reader beside the writer");
    if (WIFSIGNALED(status))
        violation("the reader beside the writer died of signal %d", WTERMSIG(status));
    check_witness(&book, &shared->witness);
    totals.seen += shared->witness.records;
    totals.readers += shared->witness.openings;
    shared->witness.records = shared->witness.openings = 0;
    atomic_store(&shared->witness.must_stop, false);
}

static void account(const struct verdict *verdict)
{
    totals.acked += verdict->acked;
    totals.unacked += verdict->unacked;
    totals.findings[verdict->finding]++;
    totals.cycles++;
    if (verdict->file_bytes > LARGE_LOG_BYTES || verdict->last > LARGE_LOG_RECORDS) {
        remove_log();
        totals.logs++;
    }
}

/* A writer that is dying, or dead and reaped, is followed by the next one or by the judge. */
static void run_cycle(uint64_t cycle)
{
    struct rng rng = { rng_mix(settings.seed ^ rng_mix(cycle)) };
    const unsigned lives = 1 + (unsigned)rng_below(&rng, MAX_LIVES);
    pid_t witness = 0, pid = 0;
    bool is_at_once = false;
    struct verdict verdict;

    if (is_witnessed(&rng))
        witness = fork_witness(log_directory, &shared->witness, (struct rng){ rng_next(&rng) }, settings.lie);
    if (witness < 0)
        give_up("fork");
    for (unsigned i = 0; i < lives; i++) {
        struct life *life = &shared->lives[i];
        const pid_t before = pid;
        const enum end end = choose_end(&rng);

        prepare_life(life, rng_mix(settings.seed) ^ (cycle * MAX_LIVES + i), is_at_once, &rng);
        pid = fork_writer(log_directory, life, settings.lie);
        if (pid < 0)
            give_up("fork");
        if (is_at_once)
            check_death(&shared->lives[i - 1], reap(before, "a killed writer"));
        end_life(life, pid, end, &rng);
        is_at_once = rng_one_in(&rng, 2);
        if (!is_at_once)
            check_death(life, reap(pid, "a killed writer"));
        else
            totals.at_once++;
    }
    verdict = judge(log_directory, &book, shared, lives, is_at_once, &rng);
    if (is_at_once)
        check_death(&shared->lives[lives - 1], reap(pid, "a killed writer"));
    if (witness > 0)
        end_witness(witness);
    account(&verdict);
}

/* ---- command line ------------------------------------------------------------------------------ */

static void help(void)
{
    puts("usage: crash-kill [options]\n"
         "\n"
         "Kills a process that appends to a log, opens the log again and checks it, over and over.\n"
         "\n"
         "  --kills N       stop after so many; default 200, or no limit with --seconds\n"
         "  --seconds S     stop after this time\n"
         "  --seed N        default TWINLOG_SEED, or 1\n"
         "  --threads N     at most this many in a writer, 1 to 64; default 8\n"
         "  --io PATH       auto, uring, uring-linked, dsync or fdatasync; default all in turn\n"
         "  --pad, --dense  the layout; default both in turn\n"
         "  --buffered, --direct  files; default both in turn\n"
         "  --dir PARENT    where to make a directory; default TMPDIR, or /tmp\n"
         "  --lie NAME      do one thing wrong on purpose: ack, bytes or reader; ends with 0 if it is found\n"
         "  --help          this text\n"
         "\n"
         "Exit status: 0 no violation, 1 a violation (its directory is kept), 2 wrong usage, 77 cannot run.");
}

static _Noreturn void wrong_usage(void)
{
    fprintf(stderr, "try: crash-kill --help\n");
    exit(2);
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > most)
        wrong_usage();
    return value;
}

static int name_index(const char *text, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    wrong_usage();
}

/* What was asked for, to ask for it again. */
static void keep_arguments(int argc, char **argv)
{
    size_t used = 0;

    for (int i = 1; i < argc && used < sizeof(command_line); i++)
        used += (size_t)snprintf(command_line + used, sizeof(command_line) - used, " %s", argv[i]);
}

static void parse(int argc, char **argv)
{
    enum {
        LIES = sizeof(lie_names) / sizeof(lie_names[0]),
    };
    const struct option options[] = {
        { "kills", required_argument, NULL, 'k' },
        { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'S' },
        { "threads", required_argument, NULL, 't' },
        { "io", required_argument, NULL, 'i' },
        { "dir", required_argument, NULL, 'd' },
        { "lie", required_argument, NULL, 'l' },
        { "pad", no_argument, &settings.is_pad, 1 },
        { "dense", no_argument, &settings.is_pad, 0 },
        { "buffered", no_argument, &settings.is_buffered, 1 },
        { "direct", no_argument, &settings.is_buffered, 0 },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *seed = getenv("TWINLOG_SEED");
    int option;

    if (seed)
        settings.seed = number(seed, 0, UINT64_MAX);
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 0:
            break;
        case 'k':
            settings.kills = number(optarg, 1, UINT64_MAX);
            break;
        case 's':
            settings.seconds = number(optarg, 1, 1000000);
            break;
        case 'S':
            settings.seed = number(optarg, 0, UINT64_MAX);
            break;
        case 't':
            settings.threads = (uint32_t)number(optarg, 1, MAX_WRITERS);
            break;
        case 'i':
            settings.io = name_index(optarg, io_names, IO_KINDS);
            break;
        case 'd':
            settings.parent = optarg;
            break;
        case 'l':
            settings.lie = (enum lie)name_index(optarg, lie_names, LIES);
            break;
        case 'h':
            help();
            exit(EXIT_SUCCESS);
        default:
            wrong_usage();
        }
    if (optind < argc)
        wrong_usage();
    if (settings.kills == 0 && settings.seconds == 0)
        settings.kills = 200;
}

static void *map_shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        give_up("mmap");
    return memory;
}

static void summarise(int64_t took_ns)
{
    printf("crash-kill: seed %" PRIu64 ": %" PRIu64 " cycles in %.1f s, no violation\n", settings.seed,
           totals.cycles, (double)took_ns / 1e9);
    printf("  %" PRIu64 " writers: %" PRIu64 " killed, %" PRIu64 " of them while opening, %" PRIu64
           " followed before they were gone; %" PRIu64 " closed\n",
           totals.lives, totals.killed, totals.killed_opening, totals.at_once, totals.closed);
    printf("  paths:");
    for (int io = 0; io < IO_KINDS; io++)
        printf(" %s %" PRIu64, io_names[io], totals.lives_by_io[io]);
    printf("\n  records: %" PRIu64 " acknowledged, all there; %" PRIu64
           " not acknowledged, there and whole; read beside the writers %" PRIu64 " by %" PRIu64 " readers\n",
           totals.acked, totals.unacked, totals.seen, totals.readers);
    printf("  found: %" PRIu64 " new, %" PRIu64 " closed, %" PRIu64 " ended between two groups, %" PRIu64
           " torn\n",
           totals.findings[TWINLOG_FOUND_NEW_LOG], totals.findings[TWINLOG_FOUND_CLEAN_CLOSE],
           totals.findings[TWINLOG_FOUND_CLEAN_END], totals.findings[TWINLOG_FOUND_TORN_TAIL]);
}

int main(int argc, char **argv)
{
    int64_t start, end;

    keep_arguments(argc, argv);
    parse(argc, argv);
    has_terminal = isatty(STDERR_FILENO);
    shared = map_shared(sizeof(*shared));
    book.digest = map_shared((SEEN_MAX + 1) * sizeof(*book.digest));
    make_directory();
    find_paths();
    start = now_ns();
    end = settings.seconds > 0 ? start + (int64_t)settings.seconds * 1000000000 : INT64_MAX;
    while ((settings.kills == 0 || totals.killed < settings.kills) && now_ns() < end) {
        run_cycle(totals.cycles);
        show_progress();
    }
    erase_progress();
    remove_log();
    rmdir(directory);
    if (settings.lie) {
        printf("crash-kill: lied about %s, and nobody noticed\n", lie_names[settings.lie]);
        return EXIT_FAILURE;
    }
    summarise(now_ns() - start);
    return EXIT_SUCCESS;
}
