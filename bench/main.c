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

#include "common.h"
#include "promise.h"
#include "report.h"

#define MAX_SERIES 32
#define MAX_VERDICTS 128
#define DEFAULT_ROUNDS 5
static const struct limits usual_limits = { .seconds = 1, .warmup_seconds = 0.2 };

struct settings {
    const char *dir;
    const char *scenarios, *peers, *threads, *size, *baseline;
    struct plan plan;     /* without scenarios */
    struct limits limits; /* warmup_seconds < 0: not given */
    uint64_t rounds;
    double rest_seconds; /* < 0: not given */
    uint64_t disk_sleep_us, stalled_write;
    bool wants_help, wants_version, wants_list;
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

/* Every number of threads with every size. */
static bool parse_workloads(const char *threads_list, const char *size_list, struct plan *plan)
{
    struct workload workload;

    plan->workload_count = 0;
    for (struct list sizes = list_of(size_list, ','); list_next(&sizes);) {
        if (!sizes_parse(sizes.word, &workload.sizes))
            return fail("'%s' is no size", sizes.word);
        for (struct list threads = list_of(threads_list, ','); list_next(&threads);) {
            if (plan->workload_count == MAX_POINTS)
                return fail("more than %d points", MAX_POINTS);
            uint64_t count;
            if (!bytes_parse(threads.word, &count) || count == 0 || count > 100000)
                return fail("'%s' is no number of threads", threads.word);
            workload.threads = (unsigned)count;
            plan->workloads[plan->workload_count++] = workload;
        }
    }
    return plan->workload_count > 0;
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
static struct series *run_series(struct run *run, const struct series *planned, const struct plan *plan)
{
    struct series *series = &run->series[run->report.series_count++];
    *series = *planned;
    series_prepare(series, plan);
    if (!series_run(series, run->work_dir))
        return NULL;
    report_series(stdout, REPORT_TEXT, series);
    fflush(stdout);
    return series;
}

/* For appends what is given is what ends a round. In a study each limit stands for something else, so that one does not
 * replace another. */
static struct limits limits_for(const struct settings *settings, const struct limits *defaults, bool is_study)
{
    struct limits limits = settings->limits;
    if (is_study || !is_set(&limits)) {
        limits.seconds = limits.seconds > 0 ? limits.seconds : defaults->seconds;
        limits.count = limits.count ? limits.count : defaults->count;
        limits.bytes = limits.bytes ? limits.bytes : defaults->bytes;
    }
    if (limits.warmup_seconds < 0)
        limits.warmup_seconds = defaults->warmup_seconds;
    return limits;
}

static void set_baseline(struct series *series, const char *label)
{
    snprintf(series->baseline, sizeof(series->baseline), "%s", label);
}

static void list_trials(const struct study *study, struct plan *plan)
{
    plan->contender_count = 0;
    for (const struct trial *trial = study->trials; trial->label; trial++) {
        if (!trial_is_in_build(study, trial)) {
            fail("without %s, which is not in this build", trial->label);
            continue;
        }
        struct contender *contender = &plan->contenders[plan->contender_count++];
        *contender = (struct contender){ .trial = trial };
        snprintf(contender->label, sizeof(contender->label), "%s", trial->label);
    }
}

/* Is a rate compared with somebody's? */
static bool compares_rates(const struct promise *promise)
{
    for (size_t i = 0; i < MAX_CHECKS; i++) {
        if (promise->checks[i].kind == CHECK_AGAINST && promise->checks[i].figure == FIGURE(rate))
            return true;
    }
    return false;
}

static bool run_promise(struct run *run, const struct promise *promise, bool is_fresh)
{
    static struct plan plan;
    const struct settings *settings = run->settings;
    const struct study *study = promise->study;
    const struct limits *defaults = is_set(&promise->limits) ? &promise->limits : &usual_limits;
    struct twinlog_setup setup = promise->twinlog;
    struct series planned = {
        .name = promise->name,
        .title = promise->work,
        .study = study,
        .limits = limits_for(settings, defaults, study),
        .rounds = (unsigned)settings->rounds,
        .rest_seconds = settings->rest_seconds >= 0 ? settings->rest_seconds : promise->rest_seconds,
        .is_watching_memory = promise->is_watching_memory,
    };

    setup.is_fresh |= is_fresh;
    if (run->report.series_count == MAX_SERIES)
        return false;
    if (study)
        list_trials(study, &plan);
    else if (!contenders_parse(promise->contenders, &setup, true, &plan))
        return false;
    if (!parse_workloads(promise->threads ? promise->threads : "1", promise->size ? promise->size : "128",
                         &plan))
        return false;
    if (is_fresh) {
        planned.name = FRESH_NAME;
        snprintf(plan.contenders[0].label, sizeof(plan.contenders[0].label), "twinlog:fresh");
    }
    if (study && study->baseline)
        set_baseline(&planned, study->baseline);
    else if (!study && plan.contender_count > 1 && compares_rates(promise))
        set_baseline(&planned, plan.contenders[1].label);
    const struct series *series = run_series(run, &planned, &plan);
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

static bool is_wanted(const struct promise *promise, bool is_fresh, const char *names)
{
    for (struct list list = list_of(names, ','); list_next(&list);) {
        const bool is_all = strcmp(list.word, "all") == 0;
        if (is_fresh ? promise->is_throughput && (is_all || strcmp(list.word, FRESH_NAME) == 0)
                     : is_all || is_named(promise, list.word))
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
    const struct plan *plan = &settings->plan;
    struct series planned = {
        .name = "comparison",
        .title = "durable appends",
        .limits = limits_for(settings, &usual_limits, false),
        .rounds = (unsigned)settings->rounds,
        .rest_seconds = fmax(settings->rest_seconds, 0),
    };
    if (settings->baseline)
        set_baseline(&planned, settings->baseline);
    else if (plan->contender_count > 1)
        set_baseline(&planned, plan->contenders[0].label);
    return run_series(run, &planned, plan);
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
    if (!file || fclose(file) != 0)
        return fail("%s: %s", path, strerror(errno));
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

enum option_kind {
    HEADING,
    TEXT,
    FLAG,
    NUMBER,  /* uint64_t, with a unit */
    DECIMAL, /* double */
};

struct option_row {
    const char *name, *argument;
    enum option_kind kind;
    size_t member; /* offset in struct settings */
    double least, most;
    const char *help;
};

static const char about[] =
    "Usage: twinlog-bench [options] [DIR]\n"
    "\n"
    "Measures durable appends to twinlog and to other logs in a new directory inside DIR (default:\n"
    "the current one), which must be on the disk to be measured and is left as it was.\n";

#define MEMBER(member) offsetof(struct settings, member)
#define TITLE(text) NULL, NULL, HEADING, 0, 0, 0, text
#define WORDS(name, argument, member, help) name, argument, TEXT, MEMBER(member), 0, 0, help
#define SWITCH(name, member, help) name, NULL, FLAG, MEMBER(member), 0, 0, help
#define DAY 86400

static const struct option_row option_rows[] = {
    { TITLE("What is run:") },
    { WORDS("scenario", "LIST", scenarios, "the project's performance targets, see --list; or all") },
    { WORDS("peers", "LIST", peers,
            "contenders, see --list; as in twinlog,twinlog@0.9,twinlog:io=dsync:pad") },
    { WORDS("threads", "LIST", threads, "appending threads (default 1,16,64,256)") },
    { WORDS("size", "LIST", size, "bytes of a record: N or A-B (uniform; default 128)") },
    { WORDS("baseline", "NAME", baseline, "the contender to compare with (default: the first)") },
    { TITLE("How long:") },
    { "seconds", "S", DECIMAL, MEMBER(limits.seconds), 1e-9, DAY, "each round (default 1)" },
    { "count", "N", NUMBER, MEMBER(limits.count), 1, INFINITY, "or until each thread has appended so many" },
    { "bytes", "N", NUMBER, MEMBER(limits.bytes), 1, INFINITY, "or until all have appended so many bytes" },
    { "warmup", "S", DECIMAL, MEMBER(limits.warmup_seconds), 0, DAY,
      "before the clock starts (default 0.2)" },
    { "rounds", "N", NUMBER, MEMBER(rounds), 1, 10000, "rounds, interleaved: A B C, B C A, ... (default 5)" },
    { "rate", "N", DECIMAL, MEMBER(limits.rate), 0.1, 1e9, "appends a second, begun at fixed times" },
    { "delay", "US", NUMBER, MEMBER(disk_sleep_us), 0, 1e6, "each synced write sleeps first" },
    { "stall", "N", NUMBER, MEMBER(stalled_write), 1, INFINITY, "the Nth synced write takes 3 seconds more" },
    { "rest", "S", DECIMAL, MEMBER(rest_seconds), 0, DAY, "pause before each turn (default 0; 5 in p6)" },
    { TITLE("What comes out, beside the table:") },
    { WORDS("json", "FILE", json, "every round, with the machine") },
    { WORDS("csv", "FILE", csv, "medians, for plots") },
    { WORDS("markdown", "FILE", markdown, "the tables once more, for documents") },
    { WORDS("note", "TEXT", note, "kept with the figures, for example a commit") },
    { SWITCH("list", wants_list, "contenders and scenarios, then exit") },
    { SWITCH("help", wants_help, "this text") },
    { SWITCH("version", wants_version, "the version") },
};
#define OPTION_ROWS LENGTH(option_rows)

static const char notes[] =
    "N may end in K, M or G (binary). twinlog-bench(1) says what each option and each figure is.\n"
    "Exit status: 0 measured (also when a target was missed), 1 something failed, 2 wrong usage.\n";

static void print_help(void)
{
    puts(about);
    for (const struct option_row *row = option_rows; row < option_rows + OPTION_ROWS; row++) {
        if (row->kind == HEADING) {
            printf("%s%s\n", row > option_rows ? "\n" : "", row->help);
            continue;
        }
        int used = printf("  --%s %s", row->name, row->argument ? row->argument : "");
        printf("%*s%s\n", 22 - used, "", row->help);
    }
    printf("\n%s", notes);
}

static bool parse_decimal(const char *text, const struct option_row *row, double *ret_value)
{
    char *end;
    *ret_value = strtod(text, &end);
    return end != text && !*end && *ret_value >= row->least && *ret_value <= row->most;
}

static bool parse_number(const char *text, const struct option_row *row, uint64_t *ret_value)
{
    return bytes_parse(text, ret_value) && (double)*ret_value >= row->least &&
           (double)*ret_value <= row->most;
}

/* One option; false when its argument makes no sense. */
static bool take_option(const struct option_row *row, const char *value, struct settings *settings)
{
    void *member = (char *)settings + row->member;
    switch (row->kind) {
    case TEXT:
        *(const char **)member = value;
        return true;
    case FLAG:
        *(bool *)member = true;
        return true;
    case NUMBER:
        return parse_number(value, row, member);
    default:
        return parse_decimal(value, row, member);
    }
}

/* The rows for getopt: the value of each is its place. */
static const struct option *option_names(void)
{
    static struct option names[OPTION_ROWS + 1];
    struct option *name = names;
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        if (option_rows[i].kind != HEADING)
            *name++ =
                (struct option){ option_rows[i].name,
                                 option_rows[i].argument ? required_argument : no_argument, NULL, (int)i };
    }
    return names;
}

static _Noreturn void wrong_usage(const char *text)
{
    if (text)
        fail("%s", text);
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
        if (peer_at(i) != &peer_twinlog && !peer_at(i)->is_only_named)
            used += (size_t)snprintf(list + used, sizeof(list) - used, ",%s", peer_at(i)->name);
    }
    return list;
}

static void check_scenarios(const char *names)
{
    for (struct list list = list_of(names, ','); list_next(&list);) {
        bool is_known = strcmp(list.word, "all") == 0 || strcmp(list.word, FRESH_NAME) == 0;
        for (size_t i = 0; i < promise_count; i++)
            is_known |= is_named(&promises[i], list.word);
        if (!is_known)
            wrong_usage("no such scenario; see --list");
    }
}

/* Only appends have a rate. */
static void check_studies(const struct settings *settings)
{
    for (size_t i = 0; i < promise_count && settings->limits.rate > 0; i++) {
        if (!promises[i].study || !is_wanted(&promises[i], false, settings->scenarios))
            continue;
        fail("%s takes no --rate", promises[i].name);
        wrong_usage(NULL);
    }
}

static bool writes_by_call(const struct contender *contender)
{
    return contender->peer == &peer_twinlog ? contender->twinlog.io == TWINLOG_IO_DSYNC
                                            : contender->peer->writes_by_call;
}

static bool is_slowed(const struct settings *settings)
{
    return settings->disk_sleep_us > 0 || settings->stalled_write > 0;
}

/* Plans a comparison, or rejects what it could not run. */
static void plan_comparison(struct settings *settings)
{
    struct plan *plan = &settings->plan;
    const char *threads = settings->threads ? settings->threads : "1,16,64,256";
    const char *size = settings->size ? settings->size : "128";

    if (!contenders_parse(settings->peers ? settings->peers : all_peers(), &(struct twinlog_setup){ 0 },
                          false, plan) ||
        !parse_workloads(threads, size, plan))
        wrong_usage(NULL);
    bool is_known = !settings->baseline;
    for (size_t i = 0; i < plan->contender_count; i++) {
        if (is_slowed(settings) && !writes_by_call(&plan->contenders[i]))
            wrong_usage("--delay and --stall slow only twinlog with io=dsync, raw and the paces");
        is_known |= settings->baseline && strcmp(settings->baseline, plan->contenders[i].label) == 0;
    }
    if (!is_known)
        wrong_usage("the baseline is none of the contenders");
}

static void parse_command_line(int argc, char **argv, struct settings *settings)
{
    int place;

    while ((place = getopt_long(argc, argv, "", option_names(), NULL)) != -1) {
        if (place == '?')
            wrong_usage(NULL);
        const struct option_row *row = &option_rows[place];
        if (!take_option(row, optarg, settings)) {
            fail("--%s: '%s' makes no sense", row->name, optarg ? optarg : "");
            wrong_usage(NULL);
        }
        if (settings->wants_help)
            print_help();
        else if (settings->wants_version)
            printf("twinlog-bench %s\n", twinlog_version());
        else if (settings->wants_list)
            list_all();
        else
            continue;
        exit(0);
    }
    if (argc - optind > 1)
        wrong_usage("more than one directory");
    if (optind < argc)
        settings->dir = argv[optind];
    if (settings->scenarios && (settings->peers || settings->threads || settings->size || settings->baseline))
        wrong_usage("a scenario has its own --peers, --threads, --size and --baseline");
    if (settings->scenarios && is_slowed(settings))
        wrong_usage("--delay and --stall are for no scenario");
    if (!settings->scenarios) {
        plan_comparison(settings);
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

static bool make_work_dir(struct run *run, const char *dir)
{
    if ((size_t)snprintf(run->work_dir, sizeof(run->work_dir), "%s/twinlog-bench.XXXXXX", dir) >=
            sizeof(run->work_dir) ||
        !mkdtemp(run->work_dir))
        return fail("%s: %s", dir, strerror(errno));
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
    join_command(argc, argv, command, sizeof(command));
    run.settings = &settings;
    disk_sleep_set(settings.disk_sleep_us * 1000, settings.stalled_write);
    run.report.command = command;
    run.report.note = settings.note;
    run.report.series = run.series;
    run.report.verdicts = run.verdicts;
    machine_describe(settings.dir, &run.report.machine);
    if (!make_work_dir(&run, settings.dir))
        return 1;
    signal(SIGINT, interrupted);
    signal(SIGTERM, interrupted);
    report_machine(stdout, REPORT_TEXT, &run.report);
    if (run.report.machine.is_volatile)
        fail("%s keeps nothing; these figures say nothing about a disk", run.report.machine.filesystem);

    bool is_good = settings.scenarios ? run_scenarios(&run) : run_comparison(&run);
    if (run.report.series_count > 1) /* once more, together */
        report_verdicts(stdout, REPORT_TEXT, run.verdicts, run.report.verdict_count);
    is_good = write_reports(&run) && is_good && !round_is_interrupted();
    if (rmdir(run.work_dir) < 0)
        fail("%s is left behind: %s", run.work_dir, strerror(errno));
    for (size_t i = 0; i < run.report.series_count; i++)
        series_destroy(&run.series[i]);
    return is_good ? 0 : 1;
}
