/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-sink: processes write lines into one plain file, and are killed, stopped and joined by others, at random
 * moments and at named places in the library; then every byte of the file is accounted for (sink_oracle.c has the
 * rules). All that are not killed must go on, also while others are stopped.
 *
 * A cycle is a number of deaths, and then an end: all are killed and somebody opens the file once more, or the members
 * that are left close it. The file goes on from cycle to cycle until it is large; then the next one begins, another
 * way: shared or exclusive, with or without a limit to its size.
 *
 * The seed decides everything but the moments of death and stop, which the scheduler has a say in.
 *
 * Blind to what a power cut does: what a killed process has stored in a mapping stays.
 */
#define _GNU_SOURCE
#include "sink_kill.h"
#include "kill_program.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE_FILE_BYTES (24u << 20)
#define MOST_FILES 60u
#define DEATHS_MAX 24u /* in a cycle */

struct scene *scene;

static const char *const fib_names[FIBS] = { "none",   "lost", "garbled", "twice", "swapped",
                                             "offset", "end",  "zero",    "area",  "stall" };

/* How the file is used, until it begins anew. */
static struct {
    bool is_shared;
    bool is_renamed;    /* by the judge, as logrotate does; where it is shared */
    uint64_t max_bytes; /* where it is not */
} manner;

static uint32_t renamed;        /* so many times */
static pid_t pids[MEMBERS_MAX]; /* 0 = there is none */

static struct {
    uint64_t members, killed, killed_at_points, stopped, closed, files, guests;
    uint64_t lines, fillers, endings[2];
    int64_t longest_wait_ns;
} totals;

/* ---- members ------------------------------------------------------------------------------------- */

static uint64_t pages(struct rng *rng, uint64_t most)
{
    return 4096 * (1 + rng_below(rng, most));
}

static void choose_sink_options(struct member *member, struct rng *rng)
{
    struct twinlog_sink_options *options = &member->options;

    *options = (struct twinlog_sink_options)TWINLOG_SINK_OPTIONS_INIT;
    options->flags = manner.is_shared ? TWINLOG_SINK_SHARED : 0;
    options->flags |= rng_one_in(rng, 3) ? TWINLOG_SINK_NO_THREAD : 0;
    options->initial_bytes = rng_one_in(rng, 4) ? 0 : pages(rng, 64);
    options->growth_bytes = rng_one_in(rng, 4) ? 0 : pages(rng, 256);
    options->max_bytes = manner.max_bytes;
    options->keep_files = 1000;
    options->flush_interval_ms = rng_one_in(rng, 4) ? 1 + (uint32_t)rng_below(rng, 20) : 0;
    options->lock_wait_ms = PATIENCE_MS / 2;
}

/* Where a member comes by often it may do so for a while. */
static void choose_fate(struct member *member, struct rng *rng)
{
    const struct point *point = rng_one_in(rng, 4) ? NULL : choose_point(scene->points, rng);
    const bool is_rare = point && atomic_load(&point->passed) < 4 * totals.members;

    member->fate.point = point ? atomic_load(&point->name) : NULL;
    member->fate.is_stop = rng_one_in(rng, 4);
    atomic_store(&member->fate.passes, 1 + (int32_t)rng_below(rng, is_rare ? 2 : 200));
}

static void prepare_member(struct member *member, struct rng *rng)
{
    static const uint32_t pause_one_in[] = { 1, 4, 20, 0 };

    choose_sink_options(member, rng);
    choose_fate(member, rng);
    member->rng = (struct rng){ rng_next(rng) };
    member->pens = 1 + (uint32_t)rng_below(rng, MEMBER_PENS_MAX);
    member->first_pen = atomic_fetch_add(&scene->pens, member->pens);
    member->does_sync = rng_one_in(rng, 4);
    member->does_rotate = manner.max_bytes > 0 && rng_one_in(rng, 4);
    member->does_reopen = manner.is_renamed;
    member->pause_one_in = pause_one_in[rng_below(rng, 4)];
    atomic_store(&member->is_open, false);
    atomic_store(&member->must_stop, false);
    atomic_store(&member->fate.is_stopping, false);
    atomic_store(&member->is_closed, false);
}

static bool can_invite(void)
{
    return atomic_load(&scene->pens) + MEMBER_PENS_MAX <= PENS_MAX;
}

static void invite(unsigned index, struct rng *rng)
{
    prepare_member(&scene->members[index], rng);
    pids[index] = fork_child(scene->complaints, run_member, &scene->members[index]);
    totals.members++;
}

static unsigned count_members(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        count += pids[i] > 0;
    return count;
}

/* The process is gone, or about to. */
static void bury(unsigned index)
{
    const int status = reap(pids[index], "a member");
    const struct member *member = &scene->members[index];

    pids[index] = 0;
    if (WIFEXITED(status) && !atomic_load(&member->is_closed))
        violation("a member ended with status %#x before it had closed the sink", (unsigned)status);
    totals.killed += WIFSIGNALED(status);
    totals.closed += WIFEXITED(status);
}

static void kill_member(unsigned index)
{
    kill(pids[index], SIGKILL);
    bury(index);
}

/* Those that met their fate. */
static void bury_the_dead(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (pids[i] > 0 && await(pids[i], 0)) {
            const uint64_t killed = totals.killed;

            bury(i);
            totals.killed_at_points += totals.killed - killed;
        }
}

/* ---- others go on -------------------------------------------------------------------------------- */

static bool is_somebody_stopped(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (pids[i] > 0 && atomic_load(&scene->members[i].fate.is_stopping))
            return true;
    return false;
}

/* A stopped one may have a lock that an opening takes, and syncs wait for what it is about to copy. */
static bool is_expected_to_write(unsigned index, const struct pen *pen)
{
    const struct member *member = &scene->members[index];

    if (pids[index] == 0 || !atomic_load(&member->is_open) || atomic_load(&member->fate.is_stopping) ||
        atomic_load(&pen->is_idle))
        return false;
    return !is_somebody_stopped() || (manner.max_bytes == 0 && !manner.is_renamed &&
                                      !atomic_load(&pen->may_wait) && member->options.flush_interval_ms == 0);
}

static void await_next_line(unsigned index, const struct pen *pen)
{
    const uint32_t before = atomic_load(&pen->returned);
    const int64_t start = now_ns();
    const int64_t patience_ms = scene->fib == FIB_STALL ? 200 : PATIENCE_MS / 2;
    int64_t waited = 0;

    while (is_expected_to_write(index, pen) && atomic_load(&pen->returned) == before) {
        check_complaints();
        if (await(pids[index], 50000))
            break;
        waited = now_ns() - start;
        if (waited > patience_ms * 1000000)
            violation("a pen has not written a line for %" PRId64 " ms after another process was %s",
                      patience_ms, is_somebody_stopped() ? "stopped" : "killed");
    }
    totals.longest_wait_ns = waited > totals.longest_wait_ns ? waited : totals.longest_wait_ns;
}

static void see_others_go_on(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        for (uint32_t n = 0; pids[i] > 0 && n < scene->members[i].pens; n++)
            await_next_line(i, &scene->pen[scene->members[i].first_pen + n]);
}

/* A member that was fated to stop, or is told to. */
static void stop_for_a_while(unsigned index, struct rng *rng)
{
    struct fate *fate = &scene->members[index].fate;

    make_stop(pids[index], fate);
    if (!await_stop(pids[index]))
        return;
    totals.stopped++;
    see_others_go_on();
    if (rng_one_in(rng, 3))
        kill_member(index);
    else
        let_go_on(pids[index], fate);
}

static void look_after_the_stopped(struct rng *rng)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (pids[i] > 0 && atomic_load(&scene->members[i].fate.is_stopping))
            stop_for_a_while(i, rng);
}

/* ---- one cycle ----------------------------------------------------------------------------------- */

/* A guest that wants it too, while that member certainly has it open. */
static void bring_guest(unsigned index)
{
    const struct member *member = &scene->members[index];
    struct fate *fate = &scene->members[index].fate;
    pid_t guest;

    if (!atomic_load(&member->is_open) || atomic_load(&member->must_stop))
        return;
    guest = fork_child(scene->complaints, run_guest, &scene->members[index]);
    while (!await(guest, 2000000)) /* a stopped one may have a lock that the guest waits for */
        if (atomic_load(&fate->is_stopping) && await_stop(pids[index]))
            let_go_on(pids[index], fate);
    reap_well(guest, "a guest");
    if (await(pids[index], scene->guest_result == 0 ? 200000000 : 0))
        return; /* it was dying */
    totals.guests++;
    if (scene->guest_result != -EBUSY)
        violation("a sink that is open exclusively could be opened: %s",
                  twinlog_strerror(scene->guest_result));
}

static void pass_time(struct rng *rng)
{
    const struct timespec moment = { .tv_nsec = (long)rng_below(rng, rng_one_in(rng, 4) ? 8000000 : 800000) };

    nanosleep(&moment, NULL);
}

static void do_to(unsigned index, struct rng *rng)
{
    const uint64_t chance = rng_below(rng, 10);

    if (chance == 0) {
        atomic_store(&scene->members[index].must_stop, true);
    } else if (chance == 1) {
        stop_for_a_while(index, rng);
    } else if (chance == 2 && !manner.is_shared) {
        bring_guest(index);
    } else {
        kill_member(index);
        see_others_go_on();
    }
}

/* The first one gets the highest number. */
static void rename_file(void)
{
    char path[400], name[420];

    sink_path(path);
    snprintf(name, sizeof(name), "%s.%u", path, MOST_FILES - renamed);
    if (rename(path, name) == 0)
        renamed++;
    else if (errno != ENOENT) /* nobody has made the next one */
        give_up(name);
}

static void run_events(struct rng *rng)
{
    const uint64_t until = totals.killed + 1 + rng_below(rng, DEATHS_MAX);
    const unsigned most = manner.is_shared ? 2 + (unsigned)rng_below(rng, MEMBERS_MAX - 1) : 1;

    while (totals.killed < until && (can_invite() || count_members() > 0)) {
        const unsigned index = (unsigned)rng_below(rng, most);

        if (pids[index] == 0 && can_invite())
            invite(index, rng);
        pass_time(rng);
        if (manner.is_renamed && renamed < MOST_FILES && rng_one_in(rng, 20))
            rename_file();
        check_complaints();
        look_after_the_stopped(rng);
        bury_the_dead();
        if (pids[index] > 0 && rng_one_in(rng, 3))
            do_to(index, rng);
    }
}

static void ask_all(bool is_to_die)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if (pids[i] > 0 && is_to_die)
            kill(pids[i], SIGKILL);
        atomic_store(&scene->members[i].must_stop, true);
    }
}

/* The one that began to leave before the last death may not have been the last one. */
static bool has_somebody_stayed(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (pids[i] > 0 && !atomic_load(&scene->members[i].must_stop))
            return true;
    return false;
}

/* True if the last one to go has closed the sink, whichever it was. */
static bool end_all(struct rng *rng)
{
    const bool is_clean = rng_one_in(rng, 2);
    bool is_closed;
    uint64_t killed;

    bury_the_dead();
    is_closed = is_clean && has_somebody_stayed();
    killed = totals.killed;
    ask_all(!is_clean);
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        while (pids[i] > 0) {
            look_after_the_stopped(rng);
            check_complaints();
            if (pids[i] > 0 && await(pids[i], 2000000))
                bury(i);
        }
    return is_closed && totals.killed == killed;
}

static void open_once_more(struct rng *rng)
{
    struct member member = { .pens = 0 };

    choose_sink_options(&member, rng);
    reap_well(fork_child(scene->complaints, run_opener, &member), "the one that opens after all were killed");
}

static void spoil(const char *path, uint64_t bytes)
{
    char name[420];
    FILE *file;

    snprintf(name, sizeof(name), "%s/.app.sink", place.log);
    if (tells(FIB_AREA) && (file = fopen(name, "w")))
        fclose(file);
    if (bytes < 100)
        return;
    if (tells(FIB_END) && (file = fopen(path, "a"))) {
        fputc('x', file);
        fclose(file);
    }
    if (tells(FIB_ZERO) && (file = fopen(path, "r+"))) {
        fseek(file, (long)bytes / 2, SEEK_SET);
        fputc(0, file);
        fclose(file);
    }
}

static void begin_anew(struct rng *rng)
{
    remove_directory(place.log);
    if (mkdir(place.log, 0777) < 0)
        give_up(place.log);
    for (uint32_t i = 0; i < atomic_load(&scene->pens); i++) {
        atomic_store(&scene->pen[i].begun, 0);
        atomic_store(&scene->pen[i].returned, 0);
        atomic_store(&scene->pen[i].is_idle, false);
        atomic_store(&scene->pen[i].may_wait, false);
    }
    atomic_store(&scene->pens, 0);
    renamed = 0;
    manner.is_shared = !rng_one_in(rng, 4);
    manner.is_renamed = manner.is_shared && rng_one_in(rng, 2);
    manner.max_bytes =
        !manner.is_shared && rng_one_in(rng, 2) ? (UINT64_C(128) << 10) + rng_below(rng, 2u << 20) : 0;
    totals.files++;
}

static void run_cycle(void)
{
    struct rng rng = { rng_mix(place.seed ^ rng_mix(place.cycle)) };
    struct sink_verdict verdict;
    struct stat about;
    char path[400];
    bool is_closed;

    sink_path(path);
    run_events(&rng);
    is_closed = end_all(&rng);
    totals.endings[is_closed]++;
    if (!is_closed || manner.is_renamed) /* somebody may have died alone in a file that was renamed */
        open_once_more(&rng);
    spoil(path, stat(path, &about) == 0 ? (uint64_t)about.st_size : 0);
    verdict = judge_files(manner.max_bytes);
    if ((!is_closed || manner.is_renamed) && scene->opened_bytes != verdict.last_file_bytes)
        violation("the opening after all were killed was told %" PRIu64 " bytes, the file has %" PRIu64,
                  scene->opened_bytes, verdict.last_file_bytes);
    atomic_store(&scene->has_fibbed, false); /* a death in the middle of a lie hides it: lie again */
    place.cycle++;
    if (!can_invite() || verdict.bytes > LARGE_FILE_BYTES || verdict.files > MOST_FILES ||
        rng_one_in(&rng, 8)) {
        totals.lines += verdict.lines;
        totals.fillers += verdict.fillers;
        begin_anew(&rng);
    }
}

/* ---- command line -------------------------------------------------------------------------------- */

static const char help[] =
    "usage: crash-sink [options]\n"
    "\n"
    "Kills and stops processes that write to one plain file, and checks it, over and over.\n"
    "\n"
    "  --kills N     stop after so many; default 500, or no limit with --seconds\n"
    "  --seconds S   stop after this time\n"
    "  --seed N      default TWINLOG_SEED, or 1\n"
    "  --dir PARENT  where to make a directory; default TMPDIR, or /tmp\n"
    "  --lie NAME    do one thing wrong on purpose: lost, garbled, twice, swapped, offset, end, zero, area\n"
    "                or stall; ends with 0 if it is found\n"
    "  --verbose     say how often each named place was passed, and met death\n"
    "  --help        this text\n"
    "\n"
    "Exit status: 0 no violation, 1 a violation (its directory is kept), 2 wrong usage, 77 cannot run.";

static void begin(void)
{
    struct rng rng = { rng_mix(place.seed) };

    scene->fib = (enum fib)settings.fib;
    begin_anew(&rng);
}

static void summarise(uint64_t cycles, int64_t took_ns)
{
    printf("crash-sink: seed %" PRIu64 ": %" PRIu64 " cycles in %.1f s, no violation\n", place.seed, cycles,
           (double)took_ns / 1e9);
    printf("  %" PRIu64 " members: %" PRIu64 " killed, %" PRIu64 " of them at named places; %" PRIu64
           " closed; %" PRIu64 " stopped; %" PRIu64 " guests turned away\n",
           totals.members, totals.killed, totals.killed_at_points, totals.closed, totals.stopped,
           totals.guests);
    printf("  %" PRIu64 " files begun, %" PRIu64 " ends after a kill of all, %" PRIu64 " by a close\n",
           totals.files, totals.endings[0], totals.endings[1]);
    printf("  %" PRIu64 " lines, %" PRIu64 " of them void; the longest wait for another line %.1f ms\n",
           totals.lines, totals.fillers, (double)totals.longest_wait_ns / 1e6);
    if (settings.is_verbose)
        list_points(scene->points);
}

int main(int argc, char **argv)
{
    const struct program program = { .name = "crash-sink",
                                     .help = help,
                                     .fibs = fib_names,
                                     .fib_count = FIBS,
                                     .usual_kills = 500,
                                     .begin = begin,
                                     .run_cycle = run_cycle,
                                     .summarise = summarise,
                                     .killed = &totals.killed };

    scene = map_shared(sizeof(*scene));
    scene->complaints = map_shared(sizeof(*scene->complaints));
    watch_points(scene->points);
    return run_program(&program, argc, argv);
}
