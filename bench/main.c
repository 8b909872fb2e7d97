/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog-bench: how many records a second become durable, and how long each takes, beside other logs
 * on the same disk in the same minutes. Uses the public header of the library only.
 *
 * This file reads the command line, decides which series are run, and hands their figures to
 * report.c. A series is run by series.c, a round of it by round.c.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog.h>
#include <unistd.h>

#include "compare.h"
#include "contender.h"
#include "disk_sleep.h"
#include "promise.h"
#include "report.h"

#define MAX_POINTS 64
#define MAX_SERIES 32
#define MAX_VERDICTS 128
#define DEFAULT_ROUNDS 5
#define DEFAULT_SECONDS 1.0
#define DEFAULT_WARMUP 0.2
#define MAX_DISK_SLEEP_US 1000000

static const char usage[] =
    "Usage: twinlog-bench [options] [DIR]\n"
    "       twinlog-bench --compare OLD.json NEW.json\n"
    "\n"
    "Measures durable appends to twinlog and to other logs in a new directory inside DIR (default:\n"
    "the current one), which must be on the disk to be measured and is left as it was.\n"
    "\n"
    "What is run:\n"
    "  --scenario LIST     the project's performance targets: p1 to p13, batch, ways, many, seek,\n"
    "                      follow, state or all; --list explains them. The options below then change\n"
    "                      their defaults, except for --peers, --threads, --size and --baseline\n"
    "  --peers LIST        contenders (default: all of this build but raw-large, the paces\n"
    "                      and the logs, and twinlog:fresh); see --list. Those whose library was not\n"
    "                      installed when this was built are left out.\n"
    "                      twinlog can appear in variants, as in twinlog,twinlog:io=dsync:pad;\n"
    "                      options: io=PATH pad buffered buffer=N segment=N spares=N fresh prepared\n"
    "                      keep=N no-recycle\n"
    "  --threads LIST      appending threads (default 1,16,64,256)\n"
    "  --size LIST         bytes of a record: N, A-B (uniform) or mixed (default 128)\n"
    "  --baseline NAME     the contender the others are compared with (default: the first)\n"
    "\n"
    "How long:\n"
    "  --seconds S         each round (default 1)\n"
    "  --count N           or until each thread has appended so many records\n"
    "  --bytes N           or until all together have appended so many bytes; what comes first.\n"
    "                      In scenarios that read: --count records (seek) or --bytes of records (p8) are\n"
    "                      written first, and --seconds is for reading; in p9 --count openings; in p10\n"
    "                      --count messages at most; in p11 --bytes is where a new file is begun\n"
    "  --warmup S          appending before the clock starts (default 0.2)\n"
    "  --rounds N          rounds, interleaved: A B C, B C A, ... (default 5)\n"
    "  --rate N            appends a second, of all threads together, begun at fixed times whether or not\n"
    "                      earlier ones have returned, as far as there are threads; latency is counted from\n"
    "                      those times (default: each thread goes on when its append has returned)\n"
    "  --delay US          each synced write sleeps first: DIR in memory is such a disk; twinlog:io=dsync,\n"
    "                      raw and paces only\n"
    "  --rest S            pause before each turn, for a disk that is slow after gigabytes (default 0;\n"
    "                      5 in p6)\n"
    "\n"
    "How twinlog is opened:\n"
    "  --io PATH           auto, uring, uring-linked, dsync or fdatasync\n"
    "  --pad               a group never rewrites an acknowledged block\n"
    "  --buffered          no direct I/O\n"
    "  --buffer N          each of the two buffers\n"
    "  --segment N         largest segment file\n"
    "  --prepared          full-size segments for the whole round are ready before the clock starts\n"
    "                      (default)\n"
    "  --spares N          so many of them; default: an estimate from --seconds or --bytes\n"
    "  --fresh             the opposite: a new log, which prepares its segments while it is measured\n"
    "\n"
    "What comes out, beside the table:\n"
    "  --json FILE         every round, with the machine and all options\n"
    "  --csv FILE          medians, for plots\n"
    "  --markdown FILE     the tables once more, for documents\n"
    "  --memory            growth of resident memory and heap allocations too, in JSON and CSV\n"
    "  --note TEXT         kept with the figures, for example a commit\n"
    "  --list              contenders and scenarios, then exit\n"
    "  --compare           what became quicker or slower from one file of --json to another, beyond what\n"
    "                      the rounds differ by; with fewer than 5 rounds in each nothing is decided\n"
    "  --help, --version\n"
    "\n"
    "N may end in K, M or G (binary). Each figure is the median over the rounds; \"spread\" is the\n"
    "distance from the slowest round to the fastest. \"user\", \"switches\" and \"flushes\" are processor time,\n"
    "changes of threads, and flushes of the device, an append; \"a sync\" is appends for each write and sync.\n"
    "Exit status: 0 measured (also when a target was missed), 1 something failed, 2 wrong usage.\n";

struct settings {
    const char *dir;
    const char *scenarios, *peers, *threads, *size, *baseline;
    struct limits limits; /* warmup_seconds < 0: not given */
    unsigned rounds;
    double rest_seconds; /* < 0: not given */
    uint64_t disk_sleep_us;
    struct twinlog_setup twinlog;
    bool has_twinlog_options;
    bool is_comparing_runs;
    bool is_watching_memory;
    const char *json, *csv, *markdown, *note;
};

/* Everything that was measured, and what the reports need. */
struct run {
    const struct settings *settings;
    char work_dir[4096];
    struct report report;
    struct series series[MAX_SERIES];
    struct verdict verdicts[MAX_VERDICTS];
};

static bool is_set(const struct limits *limits)
{
    return limits->seconds > 0 || limits->count > 0 || limits->bytes > 0;
}

/* ---- lists ------------------------------------------------------------------------------------ */

static bool parse_threads(const char *text, unsigned *ret_threads)
{
    uint64_t value;
    if (!bytes_parse(text, &value) || value == 0 || value > 100000) {
        fprintf(stderr, "twinlog-bench: '%s' is no number of threads\n", text);
        return false;
    }
    *ret_threads = (unsigned)value;
    return true;
}

/* Every number of threads with every size. */
static bool parse_workloads(const char *threads_list, const char *size_list, struct workload *workloads,
                            size_t *ret_count)
{
    char sizes_copy[512], threads_copy[512], *sizes_rest = NULL, *threads_rest = NULL;
    struct workload workload;
    size_t count = 0;

    snprintf(sizes_copy, sizeof(sizes_copy), "%s", size_list);
    for (char *size = strtok_r(sizes_copy, ",", &sizes_rest); size; size = strtok_r(NULL, ",", &sizes_rest)) {
        if (!sizes_parse(size, &workload.sizes)) {
            fprintf(stderr, "twinlog-bench: '%s' is no size\n", size);
            return false;
        }
        snprintf(threads_copy, sizeof(threads_copy), "%s", threads_list);
        for (char *threads = strtok_r(threads_copy, ",", &threads_rest); threads;
             threads = strtok_r(NULL, ",", &threads_rest)) {
            if (count == MAX_POINTS) {
                fprintf(stderr, "twinlog-bench: more than %d points\n", MAX_POINTS);
                return false;
            }
            if (!parse_threads(threads, &workload.threads))
                return false;
            workloads[count++] = workload;
        }
    }
    *ret_count = count;
    return count > 0;
}

static void list_promise(const struct promise *promise)
{
    printf("  %-7s %s", promise->name, promise->work);
    printf(promise->contenders ? ": %s\n" : "\n", promise->contenders);
    if (promise->study) {
        for (const struct trial *trial = promise->study->trials; trial->label; trial++) {
            if (trial_is_in_build(promise->study, trial))
                printf("          %-18s %s\n", trial->label, trial->what);
        }
    }
    for (const struct check *check = promise->checks; check < promise->checks + MAX_CHECKS && check->kind;
         check++)
        printf("            %s\n", check->what);
}

static void list_all(void)
{
    puts("Contenders:");
    for (size_t i = 0; peer_at(i); i++)
        printf("  %-10s %s\n", peer_at(i)->name, peer_at(i)->what);
    puts("\nScenarios:");
    for (size_t i = 0; i < promise_count; i++)
        list_promise(&promises[i]);
    printf("  %-8sthose of them that are about throughput, on a log without prepared segments\n", FRESH_NAME);
    puts("  all     all of them");
}

/* ---- running ---------------------------------------------------------------------------------- */

/* Runs, prints and keeps one series; NULL when it failed. */
static struct series *run_series(struct run *run, const struct series *planned,
                                 const struct contender *contenders, size_t contender_count,
                                 const char *threads, const char *size)
{
    struct workload workloads[MAX_POINTS];
    size_t workload_count;
    struct series *series = &run->series[run->report.series_count];

    if (!parse_workloads(threads, size, workloads, &workload_count))
        return NULL;
    *series = *planned;
    run->report.series_count++;
    if (series_prepare(series, contenders, contender_count, workloads, workload_count) < 0) {
        fprintf(stderr, "twinlog-bench: no memory\n");
        return NULL;
    }
    if (!series_run(series, run->work_dir))
        return NULL;
    report_series(stdout, REPORT_TEXT, series);
    fflush(stdout);
    return series;
}

static struct limits limits_for(const struct settings *settings, const struct limits *defaults)
{
    struct limits limits = is_set(&settings->limits) ? settings->limits : *defaults;
    limits.rate = settings->limits.rate;
    limits.warmup_seconds =
        settings->limits.warmup_seconds >= 0 ? settings->limits.warmup_seconds : defaults->warmup_seconds;
    return limits;
}

static struct twinlog_setup setup_for(const struct settings *settings, const struct promise *promise,
                                      bool is_fresh)
{
    struct twinlog_setup setup = settings->twinlog;
    setup.is_fresh |= promise->twinlog.is_fresh | is_fresh;
    if (setup.segment_bytes == 0)
        setup.segment_bytes = promise->twinlog.segment_bytes;
    if (setup.buffer_bytes == 0)
        setup.buffer_bytes = promise->twinlog.buffer_bytes;
    return setup;
}

static void set_baseline(struct series *series, const char *label)
{
    snprintf(series->baseline, sizeof(series->baseline), "%s", label);
}

/* In a study each limit stands for something else, so that one does not replace another. */
static struct limits study_limits(const struct settings *settings, const struct limits *defaults)
{
    const struct limits *given = &settings->limits;
    return (struct limits){
        .seconds = given->seconds > 0 ? given->seconds : defaults->seconds,
        .warmup_seconds = given->warmup_seconds >= 0 ? given->warmup_seconds : defaults->warmup_seconds,
        .count = given->count ? given->count : defaults->count,
        .bytes = given->bytes ? given->bytes : defaults->bytes,
    };
}

static void list_trials(const struct study *study, struct contender *contenders, size_t *ret_count)
{
    size_t count = 0;
    for (const struct trial *trial = study->trials; trial->label; trial++) {
        if (!trial_is_in_build(study, trial)) {
            fprintf(stderr, "twinlog-bench: without %s, which is not in this build\n", trial->label);
            continue;
        }
        contenders[count] = (struct contender){ .trial = trial };
        snprintf(contenders[count].label, sizeof(contenders[count].label), "%s", trial->label);
        count++;
    }
    *ret_count = count;
}

/* Is a rate compared with somebody's? */
static bool compares_rates(const struct promise *promise)
{
    for (size_t i = 0; i < MAX_CHECKS; i++) {
        if (promise->checks[i].kind == CHECK_AGAINST &&
            promise->checks[i].figure == offsetof(struct figures, rate))
            return true;
    }
    return false;
}

static bool run_promise(struct run *run, const struct promise *promise, bool is_fresh)
{
    struct contender contenders[MAX_CONTENDERS];
    size_t contender_count;
    const struct study *study = promise->study;
    struct twinlog_setup setup = setup_for(run->settings, promise, is_fresh);
    struct series planned = {
        .name = promise->name,
        .title = promise->work,
        .study = study,
        .limits = study ? study_limits(run->settings, &promise->limits)
                        : limits_for(run->settings, &promise->limits),
        .rounds = run->settings->rounds,
        .rest_seconds =
            run->settings->rest_seconds >= 0 ? run->settings->rest_seconds : promise->rest_seconds,
        .is_watching_memory = promise->is_watching_memory || run->settings->is_watching_memory,
    };

    if (run->report.series_count == MAX_SERIES)
        return false;
    if (study)
        list_trials(study, contenders, &contender_count);
    else if (!contenders_parse(promise->contenders, &setup, true, contenders, &contender_count))
        return false;
    if (is_fresh) {
        planned.name = FRESH_NAME;
        snprintf(contenders[0].label, sizeof(contenders[0].label), "twinlog:fresh");
    }
    if (study && study->baseline)
        set_baseline(&planned, study->baseline);
    else if (!study && contender_count > 1 && compares_rates(promise))
        set_baseline(&planned, contenders[1].label);
    const struct series *series =
        run_series(run, &planned, contenders, contender_count, promise->threads, promise->size);
    if (!series)
        return false;
    if (series->rounds_done > 0) {
        struct verdict *verdicts = run->verdicts + run->report.verdict_count;
        size_t added = promise_judge(promise, series, is_fresh ? FRESH_SHARE : 1, verdicts,
                                     MAX_VERDICTS - run->report.verdict_count);
        run->report.verdict_count += added;
        report_verdicts(stdout, REPORT_TEXT, verdicts, added);
        fflush(stdout);
    }
    return !round_is_interrupted();
}

/* "p8" is p8-hot and p8-cold. */
static bool is_named(const struct promise *promise, const char *name)
{
    size_t length = strlen(name);
    return strncmp(promise->name, name, length) == 0 &&
           (promise->name[length] == 0 || promise->name[length] == '-');
}

static bool is_meant(const struct promise *promise, bool is_fresh, const char *name)
{
    bool is_all = strcmp(name, "all") == 0;
    if (is_fresh)
        return promise->is_throughput && (is_all || strcmp(name, FRESH_NAME) == 0);
    return is_all || is_named(promise, name);
}

static bool is_wanted(const struct promise *promise, bool is_fresh, const char *list)
{
    char copy[256], *rest = NULL;
    snprintf(copy, sizeof(copy), "%s", list);
    for (const char *name = strtok_r(copy, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        if (is_meant(promise, is_fresh, name))
            return true;
    }
    return false;
}

/* What writes gigabytes comes last: some disks are rationed, and slow for a while when it is used up. */
static bool run_scenarios(struct run *run)
{
    for (int is_heavy = 0; is_heavy <= 1; is_heavy++) {
        for (int is_fresh = 0; is_fresh <= 1; is_fresh++) {
            for (size_t i = 0; i < promise_count; i++) {
                const struct promise *promise = &promises[i];
                if (promise->is_heavy == (is_heavy > 0) &&
                    is_wanted(promise, is_fresh, run->settings->scenarios) &&
                    !run_promise(run, promise, is_fresh))
                    return round_is_interrupted();
            }
        }
    }
    return true;
}

static bool run_comparison(struct run *run)
{
    const struct settings *settings = run->settings;
    const struct limits defaults = { .seconds = DEFAULT_SECONDS, .warmup_seconds = DEFAULT_WARMUP };
    struct contender contenders[MAX_CONTENDERS];
    size_t contender_count;

    if (!contenders_parse(settings->peers, &settings->twinlog, false, contenders, &contender_count))
        return false;
    struct series planned = {
        .name = "comparison",
        .title = "durable appends",
        .limits = limits_for(settings, &defaults),
        .rounds = settings->rounds,
        .rest_seconds = fmax(settings->rest_seconds, 0),
        .is_watching_memory = settings->is_watching_memory,
    };
    if (settings->baseline)
        set_baseline(&planned, settings->baseline);
    else if (contender_count > 1)
        set_baseline(&planned, contenders[0].label);
    return run_series(run, &planned, contenders, contender_count, settings->threads, settings->size);
}

/* ---- output ----------------------------------------------------------------------------------- */

static void report_markdown(FILE *file, const struct report *report)
{
    report_machine(file, REPORT_MARKDOWN, report);
    report_verdicts(file, REPORT_MARKDOWN, report->verdicts, report->verdict_count);
    for (size_t i = 0; i < report->series_count; i++)
        report_series(file, REPORT_MARKDOWN, &report->series[i]);
}

static bool write_report(const char *path, void (*write)(FILE *file, const struct report *report),
                         const struct report *report)
{
    if (!path)
        return true;
    FILE *file = fopen(path, "we");
    if (file)
        write(file, report);
    if (!file || fclose(file) != 0) {
        fprintf(stderr, "twinlog-bench: %s: %s\n", path, strerror(errno));
        return false;
    }
    return true;
}

static bool write_reports(const struct run *run)
{
    const struct settings *settings = run->settings;
    return write_report(settings->json, report_json, &run->report) &&
           write_report(settings->csv, report_csv, &run->report) &&
           write_report(settings->markdown, report_markdown, &run->report);
}

/* ---- the command line ------------------------------------------------------------------------- */

enum option_key {
    OPTION_HELP = 256,
    OPTION_VERSION,
    OPTION_LIST,
    OPTION_COMPARE,
    OPTION_SCENARIO,
    OPTION_PEERS,
    OPTION_THREADS,
    OPTION_SIZE,
    OPTION_BASELINE,
    OPTION_SECONDS,
    OPTION_COUNT,
    OPTION_BYTES,
    OPTION_WARMUP,
    OPTION_ROUNDS,
    OPTION_RATE,
    OPTION_DISK_SLEEP,
    OPTION_REST,
    OPTION_MEMORY,
    OPTION_TWINLOG,
    OPTION_JSON,
    OPTION_CSV,
    OPTION_MARKDOWN,
    OPTION_NOTE,
};

static const struct option options[] = {
    { "help", no_argument, NULL, OPTION_HELP },
    { "version", no_argument, NULL, OPTION_VERSION },
    { "list", no_argument, NULL, OPTION_LIST },
    { "compare", no_argument, NULL, OPTION_COMPARE },
    { "scenario", required_argument, NULL, OPTION_SCENARIO },
    { "peers", required_argument, NULL, OPTION_PEERS },
    { "threads", required_argument, NULL, OPTION_THREADS },
    { "size", required_argument, NULL, OPTION_SIZE },
    { "baseline", required_argument, NULL, OPTION_BASELINE },
    { "seconds", required_argument, NULL, OPTION_SECONDS },
    { "count", required_argument, NULL, OPTION_COUNT },
    { "bytes", required_argument, NULL, OPTION_BYTES },
    { "warmup", required_argument, NULL, OPTION_WARMUP },
    { "rounds", required_argument, NULL, OPTION_ROUNDS },
    { "rate", required_argument, NULL, OPTION_RATE },
    { "delay", required_argument, NULL, OPTION_DISK_SLEEP },
    { "rest", required_argument, NULL, OPTION_REST },
    { "memory", no_argument, NULL, OPTION_MEMORY },
    { "io", required_argument, NULL, OPTION_TWINLOG },
    { "pad", no_argument, NULL, OPTION_TWINLOG },
    { "buffered", no_argument, NULL, OPTION_TWINLOG },
    { "buffer", required_argument, NULL, OPTION_TWINLOG },
    { "segment", required_argument, NULL, OPTION_TWINLOG },
    { "spares", required_argument, NULL, OPTION_TWINLOG },
    { "prepared", no_argument, NULL, OPTION_TWINLOG },
    { "fresh", no_argument, NULL, OPTION_TWINLOG },
    { "json", required_argument, NULL, OPTION_JSON },
    { "csv", required_argument, NULL, OPTION_CSV },
    { "markdown", required_argument, NULL, OPTION_MARKDOWN },
    { "note", required_argument, NULL, OPTION_NOTE },
    { NULL, 0, NULL, 0 },
};

static bool parse_seconds(const char *text, double *ret_seconds)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 86400))
        return false;
    *ret_seconds = value;
    return true;
}

static bool parse_rate(const char *text, double *ret_rate)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0.1 && value <= 1e9))
        return false;
    *ret_rate = value;
    return true;
}

static bool parse_rounds(const char *text, unsigned *ret_rounds)
{
    uint64_t value;
    if (!bytes_parse(text, &value) || value == 0 || value > 10000)
        return false;
    *ret_rounds = (unsigned)value;
    return true;
}

static bool parse_twinlog(const char *name, const char *value, struct twinlog_setup *setup)
{
    char option[128];
    snprintf(option, sizeof(option), "%s%s%s", name, value ? "=" : "", value ? value : "");
    return twinlog_setup_parse(option, setup);
}

/* One option; false when its argument makes no sense. */
static bool take_option(int option, const char *name, const char *value, struct settings *settings)
{
    switch (option) {
    case OPTION_COMPARE:
        settings->is_comparing_runs = true;
        return true;
    case OPTION_SCENARIO:
        settings->scenarios = value;
        return true;
    case OPTION_PEERS:
        settings->peers = value;
        return true;
    case OPTION_THREADS:
        settings->threads = value;
        return true;
    case OPTION_SIZE:
        settings->size = value;
        return true;
    case OPTION_BASELINE:
        settings->baseline = value;
        return true;
    case OPTION_SECONDS:
        return parse_seconds(value, &settings->limits.seconds) && settings->limits.seconds > 0;
    case OPTION_COUNT:
        return bytes_parse(value, &settings->limits.count) && settings->limits.count > 0;
    case OPTION_BYTES:
        return bytes_parse(value, &settings->limits.bytes) && settings->limits.bytes > 0;
    case OPTION_WARMUP:
        return parse_seconds(value, &settings->limits.warmup_seconds);
    case OPTION_ROUNDS:
        return parse_rounds(value, &settings->rounds);
    case OPTION_RATE:
        return parse_rate(value, &settings->limits.rate);
    case OPTION_DISK_SLEEP:
        return bytes_parse(value, &settings->disk_sleep_us) && settings->disk_sleep_us <= MAX_DISK_SLEEP_US;
    case OPTION_REST:
        return parse_seconds(value, &settings->rest_seconds);
    case OPTION_MEMORY:
        settings->is_watching_memory = true;
        return true;
    case OPTION_TWINLOG:
        settings->has_twinlog_options = true;
        return parse_twinlog(name, value, &settings->twinlog);
    case OPTION_JSON:
        settings->json = value;
        return true;
    case OPTION_CSV:
        settings->csv = value;
        return true;
    case OPTION_MARKDOWN:
        settings->markdown = value;
        return true;
    case OPTION_NOTE:
        settings->note = value;
        return true;
    default:
        return false;
    }
}

static _Noreturn void wrong_usage(const char *text)
{
    if (text)
        fprintf(stderr, "twinlog-bench: %s\n", text);
    fputs("Try 'twinlog-bench --help'.\n", stderr);
    exit(2);
}

/* Every peer that is a log, and raw; twinlog also without prepared segments, because the others begin with nothing. The
 * 4 MiB of raw-large are not to be compared with small records. */
static const char *all_peers(void)
{
    static char list[256] = "twinlog,twinlog:fresh";
    size_t used = strlen(list);
    for (size_t i = 0; peer_at(i) && used < sizeof(list); i++) {
        if (peer_at(i) == &peer_twinlog)
            continue;
        if (!peer_at(i)->is_only_named)
            used +=
                (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? "," : "", peer_at(i)->name);
    }
    return list;
}

static void check_scenarios(const char *list)
{
    char copy[256], *rest = NULL;
    snprintf(copy, sizeof(copy), "%s", list);
    for (const char *name = strtok_r(copy, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        bool is_known = strcmp(name, "all") == 0 || strcmp(name, FRESH_NAME) == 0;
        for (size_t i = 0; i < promise_count; i++)
            is_known |= is_named(&promises[i], name);
        if (!is_known)
            wrong_usage("no such scenario; see --list");
    }
}

/* What only appends take. */
static void check_studies(const struct settings *settings)
{
    const bool is_for_appends =
        settings->limits.rate > 0 || settings->is_watching_memory || settings->has_twinlog_options;

    for (size_t i = 0; i < promise_count && is_for_appends; i++) {
        if (!promises[i].study || !is_wanted(&promises[i], false, settings->scenarios))
            continue;
        fprintf(stderr, "twinlog-bench: %s takes no --rate, --memory, or option of how twinlog is opened\n",
                promises[i].name);
        wrong_usage(NULL);
    }
}

static bool writes_by_call(const struct contender *contender)
{
    return contender->peer == &peer_twinlog ? contender->twinlog.io == TWINLOG_IO_DSYNC
                                            : contender->peer->writes_by_call;
}

/* Fills in what a comparison was not told, and rejects what it could not run. */
static void check_comparison(struct settings *settings)
{
    struct contender contenders[MAX_CONTENDERS];
    struct workload workloads[MAX_POINTS];
    size_t contender_count, workload_count;

    settings->peers = settings->peers ? settings->peers : all_peers();
    settings->threads = settings->threads ? settings->threads : "1,16,64,256";
    settings->size = settings->size ? settings->size : "128";
    if (!contenders_parse(settings->peers, &settings->twinlog, false, contenders, &contender_count) ||
        !parse_workloads(settings->threads, settings->size, workloads, &workload_count))
        wrong_usage(NULL);
    for (size_t i = 0; i < contender_count && settings->disk_sleep_us > 0; i++)
        if (!writes_by_call(&contenders[i]))
            wrong_usage("--delay slows only twinlog with io=dsync, raw and the paces");
    bool is_known = !settings->baseline;
    for (size_t i = 0; i < contender_count; i++)
        is_known |= settings->baseline && strcmp(settings->baseline, contenders[i].label) == 0;
    if (!is_known)
        wrong_usage("the baseline is none of the contenders");
}

static void parse_command_line(int argc, char **argv, struct settings *settings)
{
    int option, index = 0;

    while ((option = getopt_long(argc, argv, "", options, &index)) != -1) {
        if (option == '?')
            wrong_usage(NULL);
        if (option == OPTION_HELP) {
            fputs(usage, stdout);
            exit(0);
        }
        if (option == OPTION_VERSION) {
            printf("twinlog-bench %s\n", twinlog_version());
            exit(0);
        }
        if (option == OPTION_LIST) {
            list_all();
            exit(0);
        }
        if (!take_option(option, options[index].name, optarg, settings)) {
            fprintf(stderr, "twinlog-bench: --%s: '%s' makes no sense\n", options[index].name,
                    optarg ? optarg : "");
            wrong_usage(NULL);
        }
    }
    if (settings->is_comparing_runs) {
        if (argc != 4 || argc - optind != 2)
            wrong_usage("--compare takes two files and no other option");
        return;
    }
    if (argc - optind > 1)
        wrong_usage("more than one directory");
    if (optind < argc)
        settings->dir = argv[optind];
    if (settings->scenarios && (settings->peers || settings->threads || settings->size || settings->baseline))
        wrong_usage("a scenario has its own --peers, --threads, --size and --baseline");
    if (settings->scenarios && settings->disk_sleep_us > 0)
        wrong_usage("--delay is for no scenario");
    if (!settings->scenarios) {
        check_comparison(settings);
        return;
    }
    check_scenarios(settings->scenarios);
    check_studies(settings);
}

static void join_command(int argc, char **argv, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "twinlog-bench");
    for (int i = 1; i < argc && used < size; i++) {
        const char *quote = strchr(argv[i], ' ') ? "'" : "";
        used += (size_t)snprintf(text + used, size - used, " %s%s%s", quote, argv[i], quote);
    }
}

/* ---- main ------------------------------------------------------------------------------------- */

static void interrupted(int signal_number)
{
    (void)signal_number;
    round_interrupt();
}

static void catch_interrupts(void)
{
    struct sigaction action = { .sa_handler = interrupted, .sa_flags = SA_RESTART };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static bool make_work_dir(struct run *run, const char *dir)
{
    if ((size_t)snprintf(run->work_dir, sizeof(run->work_dir), "%s/twinlog-bench.XXXXXX", dir) >=
            sizeof(run->work_dir) ||
        !mkdtemp(run->work_dir)) {
        fprintf(stderr, "twinlog-bench: %s: %s\n", dir, strerror(errno));
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct run run;
    struct settings settings = {
        .dir = ".",
        .rounds = DEFAULT_ROUNDS,
        .rest_seconds = -1,
        .limits = { .warmup_seconds = -1 },
    };
    char command[1024];

    parse_command_line(argc, argv, &settings);
    if (settings.is_comparing_runs)
        return compare_runs(argv[2], argv[3]) ? 0 : 1;
    join_command(argc, argv, command, sizeof(command));
    run.settings = &settings;
    disk_sleep_set(settings.disk_sleep_us * 1000);
    run.report.command = command;
    run.report.note = settings.note;
    run.report.series = run.series;
    run.report.verdicts = run.verdicts;
    machine_describe(settings.dir, &run.report.machine);
    if (!make_work_dir(&run, settings.dir))
        return 1;
    catch_interrupts();
    report_machine(stdout, REPORT_TEXT, &run.report);
    if (run.report.machine.is_volatile)
        fprintf(stderr, "twinlog-bench: %s keeps nothing; these figures say nothing about a disk\n",
                run.report.machine.filesystem);

    bool is_good = settings.scenarios ? run_scenarios(&run) : run_comparison(&run);
    if (run.report.series_count > 1) /* once more, together */
        report_verdicts(stdout, REPORT_TEXT, run.verdicts, run.report.verdict_count);
    is_good = write_reports(&run) && is_good && !round_is_interrupted();
    if (rmdir(run.work_dir) < 0)
        fprintf(stderr, "twinlog-bench: %s is left behind: %s\n", run.work_dir, strerror(errno));
    for (size_t i = 0; i < run.report.series_count; i++)
        series_destroy(&run.series[i]);
    return is_good ? 0 : 1;
}
