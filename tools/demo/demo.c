/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shows the promise of twinlog on this machine: 64 threads of one process append lines of a real text.
 * SIGKILL ends that process in the middle. Then this process opens the log again and looks for every record
 * that an append had returned for.
 *
 * The acknowledged LSNs are kept outside the log, in memory shared with the process that survives: for each
 * thread, in the order in which they were acknowledged. Thread and sequence decide the contents of a record,
 * so a record is checked by making it once more and comparing all its bytes.
 *
 * Ends with 0 only if every acknowledged record is there, under its LSN, with the right bytes.
 */
#define _GNU_SOURCE
#include <twinlog_admin.h>

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 64
#define LINE_MAX_BYTES 240
#define RECORD_MAX_BYTES (LINE_MAX_BYTES + 64)
#define TEXT_MAX_BYTES (32u << 20)
#define ACKS_MAX (1u << 18)                    /* of one thread; enough for seconds at the rate of any disk */
#define BUCKETS 1024                           /* of a latency histogram */
#define PATIENCE_NS (INT64_C(60) * 1000000000) /* for the first figures */

/* The notes of one writing thread. [stored by that thread; read when its process is dead] */
struct notes {
    _Atomic uint32_t acked; /* valid entries of `lsn` [atomic: the parent watches it grow] */
    uint64_t lsn[ACKS_MAX]; /* of record 0, 1, 2, ... of this thread */
    uint32_t latency[BUCKETS];
};

/* Memory that survives the writing process. */
struct shared {
    _Atomic int error;         /* that ended the writing process; 0 = none */
    _Atomic unsigned snapshot; /* number of the newest whole copy in `stat`; 0 = none yet */
    struct twinlog_stat stat[2];
    struct notes notes[THREADS];
};

struct text {
    char *bytes;
    struct line {
        const char *start;
        size_t size;
    } * lines;
    size_t size, count;
};

struct writer {
    struct twinlog *log;
    const struct text *text;
    struct shared *shared;
    unsigned thread;
};

/* ---- helpers ----------------------------------------------------------------------------------- */

static _Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void show(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void give_up(const char *format, ...)
{
    va_list arguments;

    fputs("demo: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* One line of the report, with its name in the first column. */
static void show(const char *name, const char *format, ...)
{
    va_list arguments;

    printf("%-10s", name);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_ns(int64_t ns)
{
    struct timespec left = { ns / 1000000000, ns % 1000000000 };

    while (ns > 0 && nanosleep(&left, &left) != 0)
        continue;
}

/* 1234567 -> "1,234,567", in one of a few buffers that are used in turn. */
static const char *grouped(uint64_t value)
{
    static char buffers[8][32];
    static unsigned turn;
    char *buffer = buffers[turn++ % 8];
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRIu64, value);
    char *out = buffer;

    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }

    *out = '\0';
    return buffer;
}

/* ---- the text ---------------------------------------------------------------------------------- */

static void split_lines(struct text *text)
{
    size_t capacity = 0;
    const char *end = text->bytes + text->size;

    for (const char *start = text->bytes; start < end;) {
        const char *newline = memchr(start, '\n', (size_t)(end - start));
        size_t size = (size_t)(end - start);

        if (newline)
            size = (size_t)(newline - start);
        if (text->count == capacity) {
            if (capacity)
                capacity = 2 * capacity;
            else
                capacity = 1024;
            text->lines = realloc(text->lines, capacity * sizeof(*text->lines));
            if (!text->lines)
                give_up("out of memory");
        }

        if (size > 0)
            text->lines[text->count++] =
                (struct line){ start, size > LINE_MAX_BYTES ? LINE_MAX_BYTES : size };
        start += size + 1;
    }
}

static void read_text(struct text *text, const char *command)
{
    FILE *pipe = popen(command, "r");

    if (!pipe)
        give_up("cannot run %s: %s", command, strerror(errno));
    text->size = fread(text->bytes, 1, TEXT_MAX_BYTES, pipe);
    pclose(pipe);
    split_lines(text);
}

static void load_text(struct text *text)
{
    static const struct {
        const char *name, *command;
    } sources[] = {
        { "Debian's changelogs, /usr/share/doc/*/changelog*.gz",
          "{ find /usr/share/doc -type f -name 'changelog*.gz' -print0 | sort -z | xargs -0 -r zcat; }"
          " 2>/dev/null" },
        { "no changelogs are installed here: licences and copyright notices under /usr/share instead",
          "{ find /usr/share/common-licenses /usr/share/doc -type f"
          " '(' -path '*/common-licenses/*' -o -name copyright ')' -print0 | sort -z | xargs -0 -r cat; }"
          " 2>/dev/null" },
    };

    *text = (struct text){ .bytes = malloc(TEXT_MAX_BYTES) };
    if (!text->bytes)
        give_up("out of memory");
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]) && text->count == 0; i++) {
        read_text(text, sources[i].command);
        if (text->count > 0) {
            show("text", "%s", sources[i].name);
            show("", "%s lines", grouped(text->count));
        }
    }

    if (text->count == 0)
        give_up("found no text under /usr/share to append");
}

/* ---- records ----------------------------------------------------------------------------------- */

static uint64_t checksum(const char *bytes, size_t size) /* FNV-1a */
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    return hash;
}

/* Makes record `sequence` of a thread: both numbers, the line's checksum, the line. Together the threads use
 * the lines of the text from its beginning. */
static size_t make_record(const struct text *text, unsigned thread, uint32_t sequence, char *buffer)
{
    const struct line *line = &text->lines[((uint64_t)sequence * THREADS + thread) % text->count];
    int length = snprintf(buffer, RECORD_MAX_BYTES, "%02u %07" PRIu32 " %016" PRIx64 " ", thread, sequence,
                          checksum(line->start, line->size));

    memcpy(buffer + length, line->start, line->size);
    return (size_t)length + line->size;
}

/* ---- latencies: sixteen buckets for each power of two nanoseconds ------------------------------ */

static unsigned bucket_of(uint64_t ns)
{
    unsigned power = 0;
    if (ns >= 16)
        power = (unsigned)(59 - __builtin_clzll(ns));

    return power * 16 + (unsigned)(ns >> power);
}

static double bucket_us(unsigned bucket)
{
    unsigned power = bucket < 32 ? 0 : bucket / 16 - 1;

    return (double)((uint64_t)(bucket - power * 16) << power) / 1000;
}

/* The latency in microseconds that `share` of the appends did not exceed. */
static double percentile(const uint64_t *latency, uint64_t total, double share)
{
    uint64_t below = 0;

    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        below += latency[bucket];
        if (total > 0 && (double)below >= share * (double)total)
            return bucket_us(bucket);
    }

    return 0;
}

/* ---- the process that is killed ---------------------------------------------------------------- */

static void *append_lines(void *argument)
{
    const struct writer *writer = argument;
    struct notes *notes = &writer->shared->notes[writer->thread];
    char record[RECORD_MAX_BYTES];

    for (uint32_t sequence = 0; sequence < ACKS_MAX; sequence++) {
        size_t size = make_record(writer->text, writer->thread, sequence, record);
        int64_t begin = now_ns();
        uint64_t lsn;
        int result = twinlog_append(writer->log, record, size, &lsn);

        if (result < 0) {
            atomic_store(&writer->shared->error, result);
            break;
        }

        notes->latency[bucket_of((uint64_t)(now_ns() - begin))]++;
        notes->lsn[sequence] = lsn;
        atomic_store_explicit(&notes->acked, sequence + 1, memory_order_release);
    }

    return NULL;
}

/* Never returns: the process is killed, or ends with shared->error set. */
static _Noreturn void write_until_killed(const char *dir, const struct text *text, struct shared *shared)
{
    static struct writer writers[THREADS];
    struct twinlog *log;
    int result = twinlog_open(dir, NULL, &log);

    for (unsigned i = 0; i < THREADS && result == 0; i++) {
        pthread_t thread;

        writers[i] = (struct writer){ log, text, shared, i };
        result = -pthread_create(&thread, NULL, append_lines, &writers[i]);
    }

    for (unsigned number = 1; result == 0 && atomic_load(&shared->error) == 0; number++) {
        struct twinlog_stat stat = TWINLOG_STAT_INIT;

        result = twinlog_stat(log, &stat);
        shared->stat[number % 2] = stat;
        atomic_store_explicit(&shared->snapshot, number, memory_order_release);
        sleep_ns(20000000);
    }

    if (result < 0)
        atomic_store(&shared->error, result);
    _exit(1);
}

/* ---- the process that survives ----------------------------------------------------------------- */

static uint64_t count_acked(const struct shared *shared)
{
    uint64_t acked = 0;

    for (unsigned i = 0; i < THREADS; i++)
        acked += atomic_load_explicit(&shared->notes[i].acked, memory_order_acquire);
    return acked;
}

/* The newest figures of the log that the writing process has left; NULL = none with a group. */
static const struct twinlog_stat *newest_stat(const struct shared *shared)
{
    const unsigned snapshot = atomic_load_explicit(&shared->snapshot, memory_order_acquire);
    const struct twinlog_stat *stat = &shared->stat[snapshot % 2];
    if (snapshot > 0 && stat->groups > 0)
        return stat;
    return NULL;
}

/* The kill waits for the first figures: on a busy machine 64 threads may leave the thread that takes them no
 * processor. */
static void watch(pid_t child, const struct shared *shared, int64_t end_ns)
{
    int64_t start = now_ns();

    for (int second = 1; atomic_load(&shared->error) == 0; second++) {
        int64_t next = start + second * INT64_C(1000000000);

        sleep_ns((next < end_ns ? next : end_ns) - now_ns());
        if (now_ns() >= end_ns)
            break;

        show("", "%3d s %12s acknowledged", second, grouped(count_acked(shared)));
    }

    while (!newest_stat(shared) && atomic_load(&shared->error) == 0 && now_ns() < end_ns + PATIENCE_NS)
        sleep_ns(10000000);
    kill(child, SIGKILL);
}

static int64_t kill_after_ns(int seconds)
{
    uint32_t chance = 0;

    if (getrandom(&chance, sizeof(chance), 0) != (ssize_t)sizeof(chance))
        give_up("getrandom: %s", strerror(errno));
    return seconds * INT64_C(1000000000) + chance % 500000000;
}

/* Returns how long the process ran. */
static double run_and_kill(const char *dir, const struct text *text, struct shared *shared, int seconds)
{
    int64_t start = now_ns();
    pid_t parent = getpid();
    pid_t child = fork();
    int status;
    double ran_s;

    if (child < 0)
        give_up("fork: %s", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            write_until_killed(dir, text, shared);
        _exit(1);
    }

    show("writers", "%d threads of one process; each append returns when its record is on the disk", THREADS);
    watch(child, shared, start + kill_after_ns(seconds));
    ran_s = (double)(now_ns() - start) / 1e9;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (atomic_load(&shared->error) != 0)
        give_up("the writers stopped: %s", twinlog_strerror(atomic_load(&shared->error)));
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        give_up("the writing process ended before it was killed");
    show("kill -9", "after %.2f s, with %s records acknowledged", ran_s, grouped(count_acked(shared)));
    return ran_s;
}

static const char *io_name(uint32_t io)
{
    switch (io) {
    case TWINLOG_IO_URING:
        return "io_uring, one write that carries its sync (RWF_DSYNC)";
    case TWINLOG_IO_URING_LINKED:
        return "io_uring, one write linked to one fdatasync";
    case TWINLOG_IO_DSYNC:
        return "pwritev2 with RWF_DSYNC";
    case TWINLOG_IO_FDATASYNC:
        return "pwrite, then fdatasync";
    default:
        return "unknown";
    }
}

static void show_performance(const struct shared *shared, double ran_s)
{
    const struct twinlog_stat *stat = newest_stat(shared);
    uint64_t acked = count_acked(shared);
    uint64_t latency[BUCKETS] = { 0 };
    uint64_t measured = 0;

    if (!stat || acked == 0)
        give_up("nothing was acknowledged before the kill");
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
            latency[bucket] += shared->notes[i].latency[bucket];
            measured += shared->notes[i].latency[bucket];
        }

    show("rate", "%s durable appends a second, %.1f MiB/s of text",
         grouped((uint64_t)((double)acked / ran_s)),
         (double)stat->append_bytes / (double)stat->appends * (double)acked / ran_s / (1 << 20));
    show("sharing", "%.1f appends per sync", (double)stat->appends / (double)stat->groups);
    show("latency", "p50 %.0f us, p99 %.0f us, p99.9 %.0f us, largest %.0f us",
         percentile(latency, measured, 0.50), percentile(latency, measured, 0.99),
         percentile(latency, measured, 0.999), percentile(latency, measured, 1.0));
    show("path", "%s, %s", io_name(stat->io), stat->is_direct ? "direct I/O" : "buffered");
    show("", "%s", stat->io_reason);
}

/* The findings of the check. */
struct outcome {
    uint32_t found[THREADS]; /* records of each thread, in sequence from 0 */
    uint64_t records;
    uint64_t unacknowledged;
    uint64_t wrong;
};

static void complain(struct outcome *outcome, uint64_t lsn, const char *what)
{
    if (outcome->wrong++ < 5)
        show("WRONG", "record %" PRIu64 ": %s", lsn, what);
}

static void check_record(const struct twinlog_record *record, const struct text *text,
                         const struct shared *shared, struct outcome *outcome)
{
    char start[16] = { 0 };
    char expected[RECORD_MAX_BYTES];
    unsigned thread;
    uint32_t sequence;
    const struct notes *notes;

    memcpy(start, record->data, record->size < sizeof(start) - 1 ? record->size : sizeof(start) - 1);
    if (sscanf(start, "%u %" SCNu32, &thread, &sequence) != 2 || thread >= THREADS) {
        complain(outcome, record->lsn, "this was never appended");
        return;
    }

    notes = &shared->notes[thread];
    if (sequence != outcome->found[thread])
        complain(outcome, record->lsn, "not the next one of its thread");
    else if (record->size != make_record(text, thread, sequence, expected) ||
             memcmp(record->data, expected, record->size) != 0)
        complain(outcome, record->lsn, "other bytes than were appended");
    else if (sequence >= atomic_load(&notes->acked))
        outcome->unacknowledged++;
    else if (notes->lsn[sequence] != record->lsn)
        complain(outcome, record->lsn, "its writer was told another LSN");
    outcome->found[thread] = sequence + 1;
}

static void check_records(struct twinlog *log, const struct text *text, const struct shared *shared,
                          struct outcome *outcome)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int result;

    options.ret_report = &report;
    result = twinlog_reader_attach(log, &options, &reader);
    if (result < 0)
        give_up("cannot read the log: %s", twinlog_strerror(result));
    while ((result = twinlog_reader_next(reader, &record)) == 1) {
        if (record.lsn != ++outcome->records)
            complain(outcome, record.lsn, "LSNs have a hole");
        check_record(&record, text, shared, outcome);
    }

    if (result < 0)
        give_up("cannot read the log: %s; %s", twinlog_strerror(result), report.text);
    twinlog_reader_close(reader);
}

/* Returns whether everything is as it must be. */
static bool show_outcome(const struct outcome *outcome, const struct shared *shared)
{
    uint64_t missing = 0;
    uint64_t wrong = outcome->wrong;

    for (unsigned i = 0; i < THREADS; i++) {
        uint32_t acked = atomic_load(&shared->notes[i].acked);

        if (outcome->found[i] < acked)
            missing += acked - outcome->found[i];
        if (outcome->found[i] > acked + 1) {
            wrong++;
            show("WRONG", "thread %u had one append under way, but %" PRIu32 " more records are there", i,
                 outcome->found[i] - acked);
        }
    }

    show("check", "%s acknowledged: %s missing, %s wrong", grouped(count_acked(shared)), grouped(missing),
         grouped(wrong));
    show("", "%d appends were under way: %s are there as a whole, %s are not there", THREADS,
         grouped(outcome->unacknowledged), grouped(THREADS - outcome->unacknowledged));
    return missing == 0 && wrong == 0;
}

static struct twinlog *open_and_show(const char *name, const char *dir)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    int64_t begin = now_ns();
    int result;

    options.ret_report = &report;
    result = twinlog_open(dir, &options, &log);
    if (result < 0)
        give_up("cannot open the log: %s; %s", twinlog_strerror(result), report.text);
    show(name, "in %.1f ms, last LSN %s", (double)(now_ns() - begin) / 1e6, grouped(twinlog_last_lsn(log)));
    if (report.text[0])
        show("", "%s", report.text);
    return log;
}

/* Shows that the recovered log takes appends like any other. */
static void append_after_recovery(const char *dir, struct twinlog *log)
{
    static const char text[] = "one more, after the recovery";
    uint64_t lsn;
    int result = twinlog_append(log, text, sizeof(text) - 1, &lsn);

    if (result == 0)
        result = twinlog_close(log);
    if (result < 0)
        give_up("cannot append after recovery: %s", twinlog_strerror(result));
    log = open_and_show("again", dir);
    if (twinlog_last_lsn(log) != lsn)
        give_up("the record appended after recovery is missing");
    twinlog_close(log);
}

static int is_file(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void show_files(const char *dir)
{
    struct dirent **entries;
    int count = scandir(dir, &entries, is_file, alphasort);

    for (int i = 0; i < count; i++) {
        char path[4096];
        struct stat info;

        if (snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name) < (int)sizeof(path) &&
            stat(path, &info) == 0)
            show(i ? "" : "files", "%-28s %11s KiB, %11s on disk", entries[i]->d_name,
                 grouped((uint64_t)info.st_size >> 10), grouped((uint64_t)info.st_blocks / 2));
        free(entries[i]);
    }

    if (count >= 0)
        free(entries);
}

static void warn_of_memory_disk(const char *dir)
{
    struct statfs fs;

    if (statfs(dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
        show("note", "%s is on tmpfs: this shows memory at work, not a disk", dir);
}

static bool run(const char *dir, int seconds)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct outcome outcome = { 0 };
    struct text text;
    struct twinlog *log;
    double ran_s;
    bool is_good;

    if (shared == MAP_FAILED)
        give_up("out of memory");
    load_text(&text);
    show("log", "%s", dir);
    ran_s = run_and_kill(dir, &text, shared, seconds);
    warn_of_memory_disk(dir);
    show_performance(shared, ran_s);
    log = open_and_show("open", dir);
    check_records(log, &text, shared, &outcome);
    is_good = show_outcome(&outcome, shared);
    append_after_recovery(dir, log);
    show_files(dir);
    free(text.lines);
    free(text.bytes);
    munmap(shared, sizeof(*shared));
    return is_good;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seconds", required_argument, NULL, 's' }, { 0 } };
    int seconds = 4;
    int option;
    bool is_good;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            seconds = atoi(optarg);
        else
            argc = 0;
    }

    if (argc != optind + 1 || seconds < 1 || seconds > 60) {
        fputs("usage: demo [--seconds N] DIR   (DIR must not exist yet)\n", stderr);
        return 2;
    }

    if (access(argv[optind], F_OK) == 0)
        give_up("%s exists; the demo starts with a new log", argv[optind]);
    is_good = run(argv[optind], seconds);
    puts(is_good ? "\nEvery acknowledged record is there, byte for byte."
                 : "\nFAILED: acknowledged records are missing or wrong.");
    if (is_good)
        return 0;
    return 1;
}
