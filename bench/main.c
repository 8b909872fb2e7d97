/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog-bench: how many records a second become durable, and how long each takes, beside other logs
 * on the same disk in the same minutes. Uses the public header of the library only.
 *
 * This file reads the command line, decides which series are run, and hands their figures to
 * report.c. A series is run by series.c, a round of it by round.c.
 */
#include <argp.h>
#include <errno.h>
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
static const struct limits usual_limits = { .seconds = 1, .warmup_seconds = 0.2 };

static struct settings {
    const char *dir;
    const char *scenarios, *peers, *threads, *size;
    struct plan plan;     /* without scenarios */
    struct limits limits; /* warmup_seconds < 0: not given */
    double rounds;
    double rest_seconds; /* < 0: not given */
    double delay_us, stalled_write;
    const char *json, *csv, *note;
} settings = {
    .dir = ".",
    .rounds = 5,
    .rest_seconds = -1,
    .limits = { .warmup_seconds = -1 },
};

/* Everything that was measured, and what the reports need. */
struct run {
    char work_dir[4096];
    struct report report;
    struct series series[MAX_SERIES];
    struct verdict verdicts[MAX_VERDICTS];
};

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
    report_series(series);
    return series;
}

/* A round ends as is said; or else as by default. A study ends by the clock only. */
static struct limits limits_for(const struct limits *defaults, bool is_study)
{
    struct limits limits = settings.limits;
    if (limits.seconds == 0 && (limits.bytes == 0 || is_study)) {
        limits.seconds = defaults->seconds;
        limits.bytes = defaults->bytes;
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

static bool run_promise(struct run *run, const struct promise *promise)
{
    static struct plan plan;
    const struct study *study = promise->study;
    const bool has_limits = promise->limits.seconds > 0 || promise->limits.bytes > 0;
    struct series planned = {
        .name = promise->name,
        .title = promise->work,
        .study = study,
        .limits = limits_for(has_limits ? &promise->limits : &usual_limits, study),
        .rounds = (unsigned)settings.rounds,
        .rest_seconds = settings.rest_seconds >= 0 ? settings.rest_seconds : promise->rest_seconds,
    };

    if (run->report.series_count == MAX_SERIES)
        return false;
    if (study)
        list_trials(study, &plan);
    else if (!contenders_parse(promise->contenders, &promise->twinlog, true, &plan))
        return false;
    if (!parse_workloads(promise->threads ? promise->threads : "1", promise->size ? promise->size : "128",
                         &plan))
        return false;
    if (study && study->baseline)
        set_baseline(&planned, study->baseline);
    else if (!study && plan.contender_count > 1 && compares_rates(promise))
        set_baseline(&planned, plan.contenders[1].label);
    const struct series *series = run_series(run, &planned, &plan);
    if (!series)
        return false;
    if (series->rounds_done > 0)
        run->report.verdict_count += promise_judge(promise, series, run->verdicts + run->report.verdict_count,
                                                   MAX_VERDICTS - run->report.verdict_count);
    return !round_is_interrupted();
}

/* "p8" is p8-hot and p8-cold. */
static bool is_named(const struct promise *promise, const char *name)
{
    size_t length = strlen(name);
    return strncmp(promise->name, name, length) == 0 &&
           (promise->name[length] == 0 || promise->name[length] == '-');
}

static bool is_wanted(const struct promise *promise, const char *names)
{
    for (struct list list = list_of(names, ','); list_next(&list);) {
        if (strcmp(list.word, "all") == 0 || is_named(promise, list.word))
            return true;
    }
    return false;
}

/* What writes gigabytes comes last: some disks are rationed, and slow for a while when it is used up. */
static bool run_scenarios(struct run *run)
{
    for (int is_heavy = 0; is_heavy <= 1; is_heavy++) {
        for (size_t i = 0; i < promise_count; i++) {
            const struct promise *promise = &promises[i];
            if (promise->is_heavy == (is_heavy > 0) && is_wanted(promise, settings.scenarios) &&
                !run_promise(run, promise))
                return round_is_interrupted();
        }
    }
    return true;
}

static bool run_comparison(struct run *run)
{
    const struct plan *plan = &settings.plan;
    struct series planned = {
        .name = "comparison",
        .title = "durable appends",
        .limits = limits_for(&usual_limits, false),
        .rounds = (unsigned)settings.rounds,
        .rest_seconds = fmax(settings.rest_seconds, 0),
    };
    if (plan->contender_count > 1)
        set_baseline(&planned, plan->contenders[0].label);
    return run_series(run, &planned, plan);
}

/* ---- output ----------------------------------------------------------------------------------- */

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
    return write_report(settings.json, report_json, &run->report) &&
           write_report(settings.csv, report_csv, &run->report);
}

/* ---- the command line ------------------------------------------------------------------------- */

#define DAY 86400

static const struct option_row {
    const char *name, *argument;
    const char **text; /* where the argument goes; or: */
    double *number;
    double least, most;
    const char *help;
} option_rows[] = {
    { NULL, NULL, NULL, NULL, 0, 0, "What is run:" },
    { "scenario", "LIST", &settings.scenarios, NULL, 0, 0,
      "the project's performance targets, see --list; or all" },
    { "peers", "LIST", &settings.peers, NULL, 0, 0,
      "contenders, see --list; as in twinlog,twinlog@0.9,twinlog:io=dsync:pad" },
    { "threads", "LIST", &settings.threads, NULL, 0, 0, "appending threads (default 1,16,64,256)" },
    { "size", "LIST", &settings.size, NULL, 0, 0, "bytes of a record: N or A-B (uniform; default 128)" },
    { NULL, NULL, NULL, NULL, 0, 0, "How long:" },
    { "seconds", "S", NULL, &settings.limits.seconds, 1e-9, DAY, "a round takes so long (default 1)" },
    { "bytes", "N", NULL, &settings.limits.bytes, 1, 1e15,
      "and ends earlier when all threads have appended so many" },
    { "warmup", "S", NULL, &settings.limits.warmup_seconds, 0, DAY, "before the clock starts (default 0.2)" },
    { "rounds", "N", NULL, &settings.rounds, 1, 10000, "rounds, interleaved: A B C, C B A, ... (default 5)" },
    { "rate", "N", NULL, &settings.limits.rate, 0.1, 1e9, "appends a second, begun at fixed times" },
    { "delay", "US", NULL, &settings.delay_us, 0, 1e6, "each synced write sleeps first" },
    { "stall", "N", NULL, &settings.stalled_write, 1, 1e9, "the Nth synced write takes 3 seconds more" },
    { "rest", "S", NULL, &settings.rest_seconds, 0, DAY, "pause before each turn (default 0; 3 in p6)" },
    { NULL, NULL, NULL, NULL, 0, 0, "What comes out, beside the tables:" },
    { "json", "FILE", &settings.json, NULL, 0, 0, "every round, with the machine" },
    { "csv", "FILE", &settings.csv, NULL, 0, 0, "medians, for plots" },
    { "note", "TEXT", &settings.note, NULL, 0, 0, "kept with the figures, for example a commit" },
    { "list", NULL, NULL, NULL, 0, 0, "contenders and scenarios, then exit" },
};
#define FIRST_KEY 256 /* of the first row; below it an option has a letter, too */

static const char about[] =
    "Measures durable appends to twinlog and to other logs in a new directory inside DIR (default: the current "
    "one), which must be on the disk to be measured and is left as it was.\v"
    "N may end in K, M or G (binary). twinlog-bench(1) says what each option and each figure is.\n"
    "Exit status: 0 measured (also when a target was missed), 1 something failed, 2 wrong usage.";

static bool parse_number(const char *text, const struct option_row *row)
{
    char *end;
    uint64_t whole;
    if (bytes_parse(text, &whole))
        *row->number = (double)whole;
    else if ((*row->number = strtod(text, &end)), end == text || *end)
        return false;
    return *row->number >= row->least && *row->number <= row->most;
}

static error_t take_option(int key, char *argument, struct argp_state *state)
{
    if (key == ARGP_KEY_ARG && state->arg_num == 0)
        settings.dir = argument;
    if (key < FIRST_KEY || key >= FIRST_KEY + (int)LENGTH(option_rows))
        return key == ARGP_KEY_ARG && state->arg_num == 0 ? 0 : ARGP_ERR_UNKNOWN;
    const struct option_row *row = &option_rows[key - FIRST_KEY];
    if (!argument) {
        list_all();
        exit(0);
    }
    if (row->text)
        *row->text = argument;
    else if (!parse_number(argument, row))
        argp_error(state, "--%s: '%s' makes no sense", row->name, argument);
    return 0;
}

static void print_version(FILE *file, struct argp_state *state)
{
    (void)state;
    fprintf(file, "twinlog-bench %s\n", twinlog_version());
}

/* Ends the process if there is something wrong, and for --help, --version and --list. */
static void take_options(int argc, char **argv)
{
    struct argp_option options[LENGTH(option_rows) + 1] = { 0 };
    for (size_t i = 0; i < LENGTH(option_rows); i++)
        options[i] = (struct argp_option){
            .name = option_rows[i].name,
            .key = option_rows[i].name ? FIRST_KEY + (int)i : 0,
            .arg = option_rows[i].argument,
            .doc = option_rows[i].help,
        };
    argp_program_version_hook = print_version;
    argp_err_exit_status = 2;
    argp_parse(&(const struct argp){ options, take_option, "[DIR]", about, NULL, NULL, NULL }, argc, argv, 0,
               NULL, NULL);
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
        bool is_known = strcmp(list.word, "all") == 0;
        for (size_t i = 0; i < promise_count; i++)
            is_known |= is_named(&promises[i], list.word);
        if (!is_known)
            wrong_usage("no such scenario; see --list");
    }
}

/* Only appends have a rate. */
static void check_studies(void)
{
    for (size_t i = 0; i < promise_count && settings.limits.rate > 0; i++) {
        if (!promises[i].study || !is_wanted(&promises[i], settings.scenarios))
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

static bool is_slowed(void)
{
    return settings.delay_us > 0 || settings.stalled_write > 0;
}

/* Plans a comparison, or rejects what it could not run. */
static void plan_comparison(void)
{
    struct plan *plan = &settings.plan;
    const char *threads = settings.threads ? settings.threads : "1,16,64,256";
    const char *size = settings.size ? settings.size : "128";

    if (!contenders_parse(settings.peers ? settings.peers : all_peers(), &(struct twinlog_setup){ 0 }, false,
                          plan) ||
        !parse_workloads(threads, size, plan))
        wrong_usage(NULL);
    for (size_t i = 0; i < plan->contender_count; i++) {
        if (is_slowed() && !writes_by_call(&plan->contenders[i]))
            wrong_usage("--delay and --stall slow only twinlog with io=dsync, raw and the paces");
    }
}

static void parse_command_line(int argc, char **argv)
{
    take_options(argc, argv);
    if (!settings.scenarios) {
        plan_comparison();
        return;
    }
    if (settings.peers || settings.threads || settings.size)
        wrong_usage("a scenario has its own --peers, --threads and --size");
    if (is_slowed())
        wrong_usage("--delay and --stall are for no scenario");
    check_scenarios(settings.scenarios);
    check_studies();
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
    char command[1024];

    parse_command_line(argc, argv);
    join_command(argc, argv, command, sizeof(command));
    disk_sleep_set((uint64_t)(settings.delay_us * 1000), (uint64_t)settings.stalled_write);
    run.report.command = command;
    run.report.note = settings.note;
    run.report.series = run.series;
    run.report.verdicts = run.verdicts;
    machine_describe(settings.dir, &run.report.machine);
    if (!make_work_dir(&run, settings.dir))
        return 1;
    signal(SIGINT, interrupted);
    signal(SIGTERM, interrupted);
    report_machine(&run.report);
    if (run.report.machine.is_volatile)
        fail("%s keeps nothing; these figures say nothing about a disk", run.report.machine.filesystem);

    bool is_good = settings.scenarios ? run_scenarios(&run) : run_comparison(&run);
    report_verdicts(&run.report);
    is_good = write_reports(&run) && is_good && !round_is_interrupted();
    if (rmdir(run.work_dir) < 0)
        fail("%s is left behind: %s", run.work_dir, strerror(errno));
    for (size_t i = 0; i < run.report.series_count; i++)
        series_destroy(&run.series[i]);
    return is_good ? 0 : 1;
}
