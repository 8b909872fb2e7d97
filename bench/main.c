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
#define MAX_THREADS 100000
#define MAX_ROUNDS 1000 /* median_interval() counts with 0.5 to the power of that */

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

static bool parse_threads(const char *text, unsigned *ret_threads)
{
    uint64_t count;

    if (!bytes_parse(text, &count) || count == 0 || count > MAX_THREADS)
        return fail("'%s' is no number of threads", text);
    *ret_threads = (unsigned)count;
    return true;
}

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
            if (!parse_threads(threads.word, &workload.threads))
                return false;
            plan->workloads[plan->workload_count++] = workload;
        }
    }
    return plan->workload_count > 0;
}

static void list_trials(const struct study *study)
{
    for (const struct trial *trial = study->trials; trial->label; trial++) {
        if (trial_is_in_build(study, trial))
            printf("          %-18s %s\n", trial->label, trial->what);
    }
}

static void list_promise(const struct promise *promise)
{
    const size_t check_count = promise_check_count(promise);

    printf("  %-7s %s", promise->name, promise->work);
    if (promise->contenders)
        printf(": %s", promise->contenders);
    puts("");

    if (promise->study)
        list_trials(promise->study);
    for (size_t i = 0; i < check_count; i++)
        printf("            %s\n", promise->checks[i].what);
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

/* A round ends as is said on the command line; if nothing is, as by default. A study ends by the clock only. */
static struct limits limits_for(const struct limits *defaults, bool is_study)
{
    struct limits limits = settings.limits;
    const bool says_when = limits.seconds > 0 || (limits.bytes > 0 && !is_study);

    if (!says_when) {
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

static void plan_trials(const struct study *study, struct plan *plan)
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

static bool plan_promise(const struct promise *promise, struct plan *plan)
{
    const char *threads = promise->threads ? promise->threads : "1";
    const char *size = promise->size ? promise->size : "128";

    if (promise->study)
        plan_trials(promise->study, plan);
    else if (!contenders_parse(promise->contenders, &promise->twinlog, true, plan))
        return false;
    return parse_workloads(threads, size, plan);
}

/* Is a rate compared with that of other contenders? */
static bool compares_rates(const struct promise *promise)
{
    for (size_t i = 0; i < promise_check_count(promise); i++) {
        const struct check *check = &promise->checks[i];
        if (check->kind == CHECK_AGAINST && check->figure == FIGURE(rate))
            return true;
    }
    return false;
}

/* A study says what its trials are compared with. Contenders are compared with the one behind twinlog, if a check of
 * the promise compares rates. */
static void choose_baseline(const struct promise *promise, const struct plan *plan, struct series *planned)
{
    if (promise->study) {
        if (promise->study->baseline)
            set_baseline(planned, promise->study->baseline);
        return;
    }
    if (plan->contender_count > 1 && compares_rates(promise))
        set_baseline(planned, plan->contenders[1].label);
}

static void add_verdicts(struct run *run, const struct promise *promise, const struct series *series)
{
    struct report *report = &run->report;
    struct verdict *free_verdicts = &run->verdicts[report->verdict_count];
    const size_t free_count = MAX_VERDICTS - report->verdict_count;

    report->verdict_count += promise_judge(promise, series, free_verdicts, free_count);
}

static bool run_promise(struct run *run, const struct promise *promise)
{
    static struct plan plan;
    const bool has_limits = promise->limits.seconds > 0 || promise->limits.bytes > 0;
    const struct limits *defaults = has_limits ? &promise->limits : &usual_limits;
    struct series planned = {
        .name = promise->name,
        .title = promise->work,
        .study = promise->study,
        .limits = limits_for(defaults, promise->study),
        .rounds = (unsigned)settings.rounds,
        .rest_seconds = promise->rest_seconds,
    };

    if (settings.rest_seconds >= 0)
        planned.rest_seconds = settings.rest_seconds;
    if (run->report.series_count == MAX_SERIES)
        return false;
    if (!plan_promise(promise, &plan))
        return false;
    choose_baseline(promise, &plan, &planned);

    const struct series *series = run_series(run, &planned, &plan);
    if (!series)
        return false;
    if (series->rounds_done > 0)
        add_verdicts(run, promise, series);
    return !round_is_interrupted();
}

/* "p8" is p8-hot and p8-cold. */
static bool is_named(const struct promise *promise, const char *name)
{
    const size_t length = strlen(name);

    if (strncmp(promise->name, name, length) != 0)
        return false;
    return promise->name[length] == 0 || promise->name[length] == '-';
}

static bool is_wanted(const struct promise *promise, const char *names)
{
    for (struct list list = list_of(names, ','); list_next(&list);) {
        if (strcmp(list.word, "all") == 0 || is_named(promise, list.word))
            return true;
    }
    return false;
}

/* Those that are wanted and heavy, or wanted and not. False if one failed. */
static bool run_wanted(struct run *run, bool is_heavy)
{
    for (size_t i = 0; i < promise_count; i++) {
        const struct promise *promise = &promises[i];

        if (promise->is_heavy != is_heavy || !is_wanted(promise, settings.scenarios))
            continue;
        if (!run_promise(run, promise))
            return false;
    }
    return true;
}

/* What writes gigabytes comes last: some disks are rationed, and slow for a while when it is used up. An interrupt is
 * no failure. */
static bool run_scenarios(struct run *run)
{
    const bool is_good = run_wanted(run, false) && run_wanted(run, true);

    return is_good || round_is_interrupted();
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
    if (!file)
        return fail("%s: %s", path, strerror(errno));
    write(file, report);
    if (fclose(file) != 0)
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
    const char **text;  /* where the argument goes; or: */
    double *number;     /* where its value goes */
    double least, most; /* of that value */
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
    { "rounds", "N", NULL, &settings.rounds, 1, MAX_ROUNDS,
      "rounds, interleaved: A B C, C B A, ... (default 5)" },
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

/* "64K", or a number with a fraction, as "0.5". */
static bool parse_double(const char *text, double *ret_number)
{
    uint64_t whole;
    char *end;

    if (bytes_parse(text, &whole)) {
        *ret_number = (double)whole;
        return true;
    }
    *ret_number = strtod(text, &end);
    return end != text && *end == 0;
}

static bool parse_number(const char *text, const struct option_row *row)
{
    if (!parse_double(text, row->number))
        return false;
    return *row->number >= row->least && *row->number <= row->most;
}

static void take_row(const struct option_row *row, char *argument, struct argp_state *state)
{
    if (row->text)
        *row->text = argument;
    else if (!parse_number(argument, row))
        argp_error(state, "--%s takes a number from %.15g to %.15g, not '%s'", row->name, row->least,
                   row->most, argument);
}

static error_t take_option(int key, char *argument, struct argp_state *state)
{
    const bool is_dir = key == ARGP_KEY_ARG && state->arg_num == 0;
    const bool is_row = key >= FIRST_KEY && key < FIRST_KEY + (int)LENGTH(option_rows);

    if (is_dir) {
        settings.dir = argument;
        return 0;
    }
    if (!is_row)
        return ARGP_ERR_UNKNOWN;

    const bool is_list = argument == NULL; /* the only option without an argument */
    if (is_list) {
        list_all();
        exit(0);
    }
    take_row(&option_rows[key - FIRST_KEY], argument, state);
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
    const struct argp parser = { options, take_option, "[DIR]", about, NULL, NULL, NULL };

    for (size_t i = 0; i < LENGTH(option_rows); i++) {
        const struct option_row *row = &option_rows[i];
        const bool is_heading = row->name == NULL;

        options[i] = (struct argp_option){
            .name = row->name,
            .key = is_heading ? 0 : FIRST_KEY + (int)i,
            .arg = row->argument,
            .doc = row->help,
        };
    }

    argp_program_version_hook = print_version;
    argp_err_exit_status = 2;
    argp_parse(&parser, argc, argv, 0, NULL, NULL);
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
        const struct peer *peer = peer_at(i);
        if (peer == &peer_twinlog || peer->is_only_named)
            continue;
        used += (size_t)snprintf(list + used, sizeof(list) - used, ",%s", peer->name);
    }
    return list;
}

/* Is it one of them, or more? */
static bool is_scenario(const char *name)
{
    if (strcmp(name, "all") == 0)
        return true;
    for (size_t i = 0; i < promise_count; i++) {
        if (is_named(&promises[i], name))
            return true;
    }
    return false;
}

static void check_scenarios(const char *names)
{
    for (struct list list = list_of(names, ','); list_next(&list);) {
        if (!is_scenario(list.word))
            wrong_usage("no such scenario; see --list");
    }
}

/* Only appends have a rate. */
static void check_studies(void)
{
    if (settings.limits.rate == 0)
        return;
    for (size_t i = 0; i < promise_count; i++) {
        if (promises[i].study && is_wanted(&promises[i], settings.scenarios)) {
            fail("%s takes no --rate", promises[i].name);
            wrong_usage(NULL);
        }
    }
}

/* Only calls of pwritev2() can be made slow, see disk_sleep.c. */
static bool writes_by_call(const struct contender *contender)
{
    if (contender->peer == &peer_twinlog)
        return contender->twinlog.io == TWINLOG_IO_DSYNC;
    return contender->peer->writes_by_call;
}

static bool is_slowed(void)
{
    return settings.delay_us > 0 || settings.stalled_write > 0;
}

/* Plans a comparison, or rejects what it could not run. */
static void plan_comparison(void)
{
    const struct twinlog_setup defaults = { 0 };
    const char *peers = settings.peers ? settings.peers : all_peers();
    const char *threads = settings.threads ? settings.threads : "1,16,64,256";
    const char *size = settings.size ? settings.size : "128";
    struct plan *plan = &settings.plan;

    if (!contenders_parse(peers, &defaults, false, plan) || !parse_workloads(threads, size, plan))
        wrong_usage(NULL);

    if (!is_slowed())
        return;
    for (size_t i = 0; i < plan->contender_count; i++) {
        if (!writes_by_call(&plan->contenders[i]))
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

/* As it was typed, to be run again: arguments with a space are in quotes. */
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
    const size_t room = sizeof(run->work_dir);
    const int length = snprintf(run->work_dir, room, "%s/twinlog-bench.XXXXXX", dir);

    if ((size_t)length >= room || !mkdtemp(run->work_dir))
        return fail("%s: %s", dir, strerror(errno));
    return true;
}

static void remove_work_dir(const struct run *run)
{
    if (rmdir(run->work_dir) < 0)
        fail("%s is left behind: %s", run->work_dir, strerror(errno));
}

static void fill_in_report(struct run *run, const char *command)
{
    struct report *report = &run->report;

    report->command = command;
    report->note = settings.note;
    report->series = run->series;
    report->verdicts = run->verdicts;
    machine_describe(settings.dir, &report->machine);
}

int main(int argc, char **argv)
{
    static struct run run;
    char command[1024];
    bool is_good;

    parse_command_line(argc, argv);
    join_command(argc, argv, command, sizeof(command));
    disk_sleep_set((uint64_t)(settings.delay_us * 1000), (uint64_t)settings.stalled_write);
    fill_in_report(&run, command);

    if (!make_work_dir(&run, settings.dir))
        return 1;
    signal(SIGINT, interrupted);
    signal(SIGTERM, interrupted);
    report_machine(&run.report);
    if (run.report.machine.is_volatile)
        fail("%s keeps nothing; these figures say nothing about a disk", run.report.machine.filesystem);

    if (settings.scenarios)
        is_good = run_scenarios(&run);
    else
        is_good = run_comparison(&run);
    report_verdicts(&run.report);
    if (!write_reports(&run) || round_is_interrupted())
        is_good = false;

    remove_work_dir(&run);
    for (size_t i = 0; i < run.report.series_count; i++)
        series_destroy(&run.series[i]);
    return is_good ? 0 : 1;
}
