/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-shared: processes append to one log together, and are killed, stopped and joined by others, at random moments
 * and at named places in the library, while followers read along. All that are not killed must go on within a few
 * seconds, and so must readers and the watermarks; what is read is compared with what the processes noted
 * (shared_judge.c has the rules).
 *
 * A cycle is a log. It goes through phases: members come, all at once or one by one, and some of them die; then all that
 * are left are killed, or close the log. In some phases a single process has the log in another mode. After each of them
 * the log is judged, and copies of what the dead have left are opened in every mode.
 *
 * The seed decides everything but the moments of death and stop, which the scheduler has a say in.
 *
 * Blind, but for --power, to what a power cut does: what a killed process has stored in a mapping stays. With it each log
 * that is left is also looked at as a power cut may have left it (image.c).
 */
#define _GNU_SOURCE
#include "shared.h"
#include "image.h"
#include "kill_program.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PHASES_MAX 6u /* of a log */
#define DEATHS_MAX 8u /* in a phase */
#define LARGE_LOG_RECORDS 60000u
#define HEIR_RECORDS 10u
#define DISK_TIMES 6 /* where a call waits for the disk, patience is so many times as large */

struct scene *scene;

static const char *const fib_names[FIBS] = { "none",    "lost", "garbled", "twice",
                                             "swapped", "seen", "durable", "stall" };

/* A living process goes on within a moment; or never, if it is wrong. The machine may have other work meanwhile. */
static int64_t patience_ms = 60000;
static bool is_alone_only, has_power;
static const char *only_point;

static struct ledger book;

/* How this log is used. */
static struct {
    bool has_mapping_follower; /* which keeps a file from being truncated */
    bool was_durable;          /* once: then there may be spares */
    uint32_t record_bytes;     /* the largest of all options */
    uint64_t mapped_bytes;
} manner;
static bool is_alone;    /* in this phase one has it, in another mode */
static bool is_lazy;     /* in this phase nobody syncs */
static bool is_peaceful; /* in this phase nobody dies */

static pid_t pids[MEMBERS_MAX]; /* 0 = there is none */
static pid_t followers[FOLLOWERS];

static struct {
    uint64_t phases, alone, members, joins, killed, killed_at_points, stopped, closed, guests;
    uint64_t looks, endings[2], copies, seen, records, fillers, found, checked;
    uint64_t images, lost_sectors, killed_on_copies;
    int64_t longest_wait_ns;
} totals;

/* ---- members ------------------------------------------------------------------------------------- */

/* Those of the first opening count for all. */
void choose_shared_options(struct twinlog_options *options, uint32_t mode, struct rng *rng)
{
    const uint64_t block = 4096;

    *options = (struct twinlog_options)TWINLOG_OPTIONS_INIT;
    options->mode = mode;
    options->max_record_bytes =
        rng_one_in(rng, 6) ? 1 + (uint32_t)rng_below(rng, manner.record_bytes) : manner.record_bytes;
    options->buffer_bytes = (uint32_t)((options->max_record_bytes + 3 * block - 1) / block * block);
    options->buffer_bytes = options->buffer_bytes < 4 * block ? (uint32_t)(4 * block) : options->buffer_bytes;
    options->mapped_bytes = manner.mapped_bytes;
    options->segment_bytes = options->mapped_bytes << rng_below(rng, 3);
    options->flush_interval_ms = rng_one_in(rng, 6) ? 1 + (uint32_t)rng_below(rng, 20) : 0;
    options->prepare = TWINLOG_PREPARE_ALLOCATED;
    options->lock_wait_ms = PATIENCE_MS / 2;
    /* what a dead writer has given to io_uring may still be on its way: crash-kill looks after that */
    options->io = rng_one_in(rng, 2) ? TWINLOG_IO_DSYNC : TWINLOG_IO_FDATASYNC;
    options->flags = rng_one_in(rng, 2) ? TWINLOG_BUFFERED : 0;
    options->flags |= rng_one_in(rng, 4) ? TWINLOG_NO_THREAD : 0;
}

/* Of some that were passed already, the one that had least of it. Where a member comes by often it may do so for a while,
 * but not for long. */
static const struct point *choose_place(struct rng *rng)
{
    const struct point *point = choose_point(scene->points, rng), *other;

    for (unsigned i = 0; point && i < 2; i++) {
        other = choose_point(scene->points, rng);
        if (atomic_load(&other->died) < atomic_load(&point->died))
            point = other;
    }
    return point;
}

static void choose_fate(struct fate *fate, struct rng *rng)
{
    const struct point *point = only_point ? find_point(scene->points, only_point) : choose_place(rng);
    const bool has_none = is_peaceful || rng_one_in(rng, 4);

    fate->point = !point || has_none ? NULL : atomic_load(&point->name);
    fate->is_stop = rng_one_in(rng, 4);
    atomic_store(&fate->is_stopping, false);
    atomic_store(
        &fate->passes,
        1 + (int32_t)rng_below(rng, point ? atomic_load(&point->passed) / (2 * totals.members + 1) + 1 : 1));
}

static void prepare_pens(struct member *member, struct rng *rng)
{
    member->pens = 1 + (uint32_t)rng_below(rng, MEMBER_PENS_MAX);
    member->first_pen = scene->pens;
    for (uint32_t i = member->first_pen; i < member->first_pen + member->pens; i++)
        scene->pen[i].max_bytes = rng_one_in(rng, 2) ? manner.record_bytes : member->options.max_record_bytes;
    scene->pens += member->pens;
    if (member->options.max_record_bytes < scene->least_max_bytes)
        scene->least_max_bytes = member->options.max_record_bytes;
}

static void prepare_member(struct member *member, struct rng *rng)
{
    static const uint32_t one_in[] = { 3, 30, 200, 0 };
    const uint32_t lonely = rng_one_in(rng, 2) ? TWINLOG_MODE_MAPPED : TWINLOG_MODE_DURABLE;

    choose_shared_options(&member->options, is_alone ? lonely : TWINLOG_MODE_SHARED, rng);
    choose_fate(&member->fate, rng);
    prepare_pens(member, rng);
    manner.was_durable = manner.was_durable || member->options.mode == TWINLOG_MODE_DURABLE;
    member->rng = (struct rng){ rng_next(rng) };
    member->openings = rng_one_in(rng, 3) ? 1 + (uint32_t)rng_below(rng, 6) : 1;
    member->sync_one_in = one_in[rng_below(rng, 4)];
    member->durable_one_in = one_in[rng_below(rng, 4)];
    if (is_lazy)
        member->sync_one_in = member->durable_one_in = member->options.flush_interval_ms = 0;
    member->pause_one_in = one_in[rng_below(rng, 4)];
    member->has_reader = rng_one_in(rng, 5);
    atomic_store(&member->is_open, false);
    atomic_store(&member->is_closed, false);
    atomic_store(&member->must_stop, false);
    atomic_store(&member->opened, 0);
    atomic_store(&member->written, 0);
    atomic_store(&member->answered, atomic_load(&member->asked));
}

static bool can_invite(void)
{
    return scene->pens + MEMBER_PENS_MAX <= PENS_MAX;
}

static unsigned count_members(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        count += pids[i] > 0;
    return count;
}

static void invite(unsigned index, struct rng *rng)
{
    totals.joins += count_members() > 0;
    prepare_member(&scene->members[index], rng);
    pids[index] = fork_child(scene->complaints, run_member, &scene->members[index]);
    totals.members++;
}

/* The process is gone, or about to. */
static void bury(unsigned index)
{
    const int status = reap(pids[index], "a member");
    const struct member *member = &scene->members[index];

    pids[index] = 0;
    if (WIFEXITED(status) && !atomic_load(&member->is_closed))
        violation("a member ended with status %#x before it had closed the log", (unsigned)status);
    for (uint32_t i = 0; i < member->pens; i++)
        scene->pen[member->first_pen + i].is_dead = WIFSIGNALED(status);
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
        if (pids[i] > 0 && await(pids[i], 0))
            bury(i);
}

/* ---- others go on -------------------------------------------------------------------------------- */

static bool is_stopping(unsigned index)
{
    return pids[index] > 0 && atomic_load(&scene->members[index].fate.is_stopping);
}

static bool is_somebody_stopped(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (is_stopping(i))
            return true;
    return false;
}

/* It has the log open, and is not about to leave. */
static bool is_there(unsigned index)
{
    const struct member *member = &scene->members[index];

    return pids[index] > 0 && atomic_load(&member->is_open) && !atomic_load(&member->must_stop) &&
           !is_stopping(index) && !await(pids[index], 0);
}

/* The longest wait, of those that ended. */
static void note_wait(int64_t start)
{
    const int64_t waited = now_ns() - start;

    totals.longest_wait_ns = waited > totals.longest_wait_ns ? waited : totals.longest_wait_ns;
}

/* A thread that waits for the disk also waits for the copies of stopped threads. */
static bool is_expected_to_write(unsigned index, const struct pen *pen)
{
    if (!is_there(index) || atomic_load(&pen->is_idle))
        return false;
    return !is_somebody_stopped() ||
           (!atomic_load(&pen->may_wait) && scene->members[index].options.mode != TWINLOG_MODE_DURABLE);
}

static bool waits_for_disk(unsigned index, const struct pen *pen)
{
    return atomic_load(&pen->may_wait) || scene->members[index].options.mode == TWINLOG_MODE_DURABLE;
}

static void await_next_record(unsigned index, const struct pen *pen)
{
    const uint32_t before = atomic_load(&pen->returned);
    const int64_t start = now_ns();

    while (is_expected_to_write(index, pen) && atomic_load(&pen->returned) == before) {
        const int64_t most_ms = patience_ms * (waits_for_disk(index, pen) ? DISK_TIMES : 1);

        check_complaints();
        if (now_ns() - start > most_ms * 1000000)
            violation("pen %u has not appended a record for %" PRId64 " ms, %s, after another process was %s",
                      (unsigned)(pen - scene->pen), most_ms,
                      atomic_load(&pen->may_wait) ? "in a call that waits for the disk" : "in an append",
                      is_somebody_stopped() ? "stopped" : "killed");
        pause_a_moment();
    }
    note_wait(start);
}

static void see_others_append(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        for (uint32_t n = 0; pids[i] > 0 && n < scene->members[i].pens; n++)
            await_next_record(i, &scene->pen[scene->members[i].first_pen + n]);
}

/* A process that turns into fillers what the dead have left, without being asked. */
static bool has_helper(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (is_there(i) && !(scene->members[i].options.flags & TWINLOG_NO_THREAD))
            return true;
    return false;
}

/* One of the members is made to sync. Then all that was told before is durable. */
static void see_a_sync(struct rng *rng)
{
    const unsigned index = (unsigned)rng_below(rng, MEMBERS_MAX);
    struct member *member = &scene->members[index];
    const int64_t start = now_ns();
    uint32_t asked;

    if (!is_there(index))
        return;
    asked = atomic_fetch_add(&member->asked, 1) + 1;
    while (atomic_load(&member->answered) != asked && is_there(index) && !is_somebody_stopped()) {
        check_complaints();
        if (now_ns() - start > patience_ms * DISK_TIMES * 1000000)
            violation("a sync takes more than %" PRId64 " ms after another process was killed",
                      patience_ms * DISK_TIMES);
        pause_a_moment();
    }
    note_wait(start);
}

static void await_written(unsigned index, uint64_t told)
{
    const struct member *member = &scene->members[index];
    const int64_t start = now_ns();

    while (is_there(index) && has_helper() && !is_somebody_stopped() &&
           atomic_load(&member->written) < told) {
        check_complaints();
        if (now_ns() - start > patience_ms * 1000000)
            violation("a member's written LSN is %" PRIu64 " for %" PRId64
                      " ms after another process was killed, but an append has returned %" PRIu64,
                      atomic_load(&member->written), patience_ms, told);
        pause_a_moment();
    }
    note_wait(start);
}

static void await_follower(unsigned index, uint64_t told)
{
    const struct follower *follower = &scene->followers[index];
    const int64_t start = now_ns();

    while (has_helper() && !is_somebody_stopped() && atomic_load(&follower->last_lsn) < told) {
        check_complaints();
        if (now_ns() - start > patience_ms * 1000000)
            violation("a follower%s stands at LSN %" PRIu64 " for %" PRId64
                      " ms after a member was killed, but an append has returned %" PRIu64,
                      follower->flags ? " that maps" : "", atomic_load(&follower->last_lsn), patience_ms,
                      told);
        pause_a_moment();
    }
    note_wait(start);
}

/* The living go past what the dead have left, with records, watermarks and readers. */
static void see_others_go_on(struct rng *rng)
{
    const uint64_t told = atomic_load(&scene->told);

    see_others_append();
    if (!is_lazy && rng_one_in(rng, 2))
        see_a_sync(rng);
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        await_written(i, told);
    for (unsigned i = 0; i < FOLLOWERS; i++)
        if (followers[i] > 0)
            await_follower(i, told);
}

/* A member that was fated to stop, or is told to. Others append meanwhile. */
static void stop_for_a_while(unsigned index, struct rng *rng)
{
    struct fate *fate = &scene->members[index].fate;
    const int64_t ms = 10 + (int64_t)rng_below(rng, rng_one_in(rng, 16) ? 1500 : 290);
    int64_t end;

    make_stop(pids[index], fate);
    if (!await_stop(pids[index]))
        return;
    totals.stopped++;
    end = now_ns() + ms * 1000000;
    do {
        see_others_append();
        pause_a_moment();
    } while (now_ns() < end);
    if (rng_one_in(rng, 3))
        kill_member(index);
    else
        let_go_on(pids[index], fate);
}

static void look_after_the_stopped(struct rng *rng)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (is_stopping(i))
            stop_for_a_while(i, rng);
}

/* ---- events -------------------------------------------------------------------------------------- */

/* Until all that came have the log open. */
static void await_opening(struct rng *rng)
{
    const int64_t start = now_ns();

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        while (pids[i] > 0 && atomic_load(&scene->members[i].opened) == 0 && !await(pids[i], 500000)) {
            check_complaints();
            look_after_the_stopped(rng);
            if (now_ns() - start > patience_ms * DISK_TIMES * 1000000)
                violation("nobody is stopped, and a member has not opened the log for %" PRId64 " ms",
                          patience_ms * DISK_TIMES);
        }
}

/* A guest that wants it in another mode, while that member certainly has it. */
static void bring_guest(unsigned index, struct rng *rng)
{
    static const uint32_t modes[] = { TWINLOG_MODE_DURABLE, TWINLOG_MODE_MAPPED, TWINLOG_MODE_SHARED };
    struct member *member = &scene->members[index];
    const uint32_t opened = atomic_load(&member->opened);
    pid_t guest;

    if (!is_there(index) || opened < member->openings)
        return;
    scene->guest_mode = modes[rng_below(rng, is_alone ? 3 : 2)];
    if (scene->guest_mode == TWINLOG_MODE_SHARED && is_alone_only)
        scene->guest_mode = TWINLOG_MODE_MAPPED;
    guest = fork_child(scene->complaints, run_guest, member);
    while (!await(guest, 2000000)) /* a stopped one may have a lock that the guest waits for */
        if (atomic_load(&member->fate.is_stopping) && await_stop(pids[index]))
            let_go_on(pids[index], &member->fate);
    reap_well(guest, "a guest");
    manner.was_durable = manner.was_durable || scene->guest_result == 0;
    if (await(pids[index], scene->guest_result == 0 ? 200000000 : 0))
        return; /* it was dying */
    totals.guests++;
    if (scene->guest_result != -EBUSY)
        violation("a log that others have open could be opened in another mode: %s",
                  twinlog_strerror(scene->guest_result));
}

/* Readers of a durable log are shown what is durable: a record that was only written is shown with the next sync, and
 * none may come. */
static uint64_t find_shown(uint64_t told)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (is_there(i) && scene->members[i].options.mode == TWINLOG_MODE_DURABLE)
            return atomic_load(&scene->durable);
    return told;
}

/* Nobody has to be stopped for it, or to wait for the disk. */
static void look_at_the_living(void)
{
    const uint64_t told = atomic_load(&scene->told);
    uint64_t fillers;

    bury_the_dead();
    if (!has_helper() || is_somebody_stopped() || told == 0)
        return;
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        await_written(i, told);
    if (!has_helper() || is_somebody_stopped())
        return;
    fillers = judge_living(&book, find_shown(told), patience_ms);
    bury_the_dead();
    if (fillers > count_unfinished(&book))
        violation("there are %" PRIu64 " voids, but the dead have left only %" PRIu32 " appends unfinished",
                  fillers, count_unfinished(&book));
    totals.looks++;
}

static void pass_time(struct rng *rng)
{
    static const int64_t most_ns[] = { 1500000,  1500000,  1500000,  1500000,
                                       10000000, 10000000, 10000000, 60000000 };
    const int64_t end = now_ns() + (int64_t)rng_below(rng, (uint64_t)most_ns[rng_below(rng, 8)]);

    do {
        pause_a_moment();
        check_complaints();
        look_after_the_stopped(rng);
        bury_the_dead();
    } while (now_ns() < end);
}

static void do_to(unsigned index, struct rng *rng)
{
    const uint64_t chance = rng_below(rng, 12);

    if (chance <= 1) {
        atomic_store(&scene->members[index].must_stop, true);
    } else if (chance <= 3) {
        stop_for_a_while(index, rng);
    } else if (chance == 4) {
        bring_guest(index, rng);
    } else if (chance == 5) {
        look_at_the_living();
    } else {
        kill_member(index);
        see_others_go_on(rng);
    }
}

/* Members come and go, and nobody dies. */
static void run_peaceful_events(struct rng *rng)
{
    for (uint64_t events = 5 + rng_below(rng, 20); events > 0; events--) {
        const unsigned index = (unsigned)rng_below(rng, is_alone ? 1 : MEMBERS_MAX);

        if (pids[index] == 0 && can_invite())
            invite(index, rng);
        pass_time(rng);
        if (rng_one_in(rng, 3))
            atomic_store(&scene->members[index].must_stop, true);
    }
}

static void run_events(struct rng *rng)
{
    const uint64_t until = totals.killed + 1 + rng_below(rng, DEATHS_MAX);
    const unsigned most = is_alone ? 1 : 2 + (unsigned)rng_below(rng, MEMBERS_MAX - 1);
    const bool do_race = rng_one_in(rng, 2);

    for (unsigned i = 0; do_race && i < most && can_invite(); i++)
        invite(i, rng);
    while (totals.killed < until && (can_invite() || count_members() > 0)) {
        const unsigned index = (unsigned)rng_below(rng, most);

        if (pids[index] == 0 && can_invite())
            invite(index, rng);
        if (!rng_one_in(rng, 3))
            await_opening(rng);
        pass_time(rng);
        if (pids[index] > 0 && !is_stopping(index) && rng_one_in(rng, 3))
            do_to(index, rng);
    }
}

/* ---- the end of a phase -------------------------------------------------------------------------- */

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
        if (is_there(i))
            return true;
    return false;
}

/* True if the last one to go has closed the log, whichever it was. */
static bool end_all(struct rng *rng)
{
    const bool is_clean = is_peaceful || rng_one_in(rng, 2);
    bool is_closed;
    uint64_t killed;

    if (is_clean && can_invite() && count_members() == 0) {
        invite(0, rng);
        await_opening(rng);
        pass_time(rng);
    }
    bury_the_dead();
    killed = totals.killed;
    is_closed = is_clean && has_somebody_stayed();
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

static void await_followers(void)
{
    const int64_t start = now_ns();

    for (unsigned i = 0; i < FOLLOWERS; i++)
        while (followers[i] > 0 && atomic_load(&scene->followers[i].last_lsn) < book.last) {
            check_complaints();
            if (now_ns() - start > patience_ms * 1000000)
                violation("a follower stands at LSN %" PRIu64 ", but the log was closed with record %" PRIu64,
                          atomic_load(&scene->followers[i].last_lsn), book.last);
            pause_a_moment();
        }
}

/* Opens and closes the copy, and is not expected to survive it. */
static void leave_to_the_doomed(struct rng *rng)
{
    const struct point *point = choose_point(scene->points, rng);
    int status;

    scene->heir_fate.point = point ? atomic_load(&point->name) : NULL;
    atomic_store(&scene->heir_fate.passes, 1 + (int32_t)rng_below(rng, 2));
    scene->heir_records = 0;
    status = reap(fork_child(scene->complaints, run_heir, NULL), "the heir, which is to die");
    scene->heir_fate.point = NULL;
    totals.killed_on_copies += WIFSIGNALED(status);
}

static void leave_to_heirs(uint64_t least, uint32_t mode, struct rng *rng)
{
    const uint32_t modes = is_alone_only ? TWINLOG_MODE_SHARED : TWINLOG_MODE_SHARED + 1;

    judge_copy(&book, least);
    for (uint64_t doomed = rng_below(rng, 3); doomed > 0; doomed--) {
        scene->heir_mode = (uint32_t)rng_below(rng, modes);
        leave_to_the_doomed(rng);
    }
    scene->heir_mode = mode % modes;
    scene->heir_records = HEIR_RECORDS;
    reap_well(fork_child(scene->complaints, run_heir, NULL), "the heir");
    judge_heir(&book, least);
}

static void leave_copies(struct rng *rng)
{
    for (uint32_t mode = TWINLOG_MODE_DURABLE; mode <= TWINLOG_MODE_SHARED; mode++) {
        copy_directory(place.log, place.copy);
        leave_to_heirs(book.last, mode, rng);
        totals.copies++;
    }
}

static void cut_power(struct rng *rng)
{
    const uint64_t durable = atomic_load(&scene->durable);

    totals.lost_sectors += make_image(place.log, place.copy, durable, rng);
    leave_to_heirs(durable, (uint32_t)rng_next(rng), rng);
    totals.images++;
}

static void judge_end(bool is_closed, bool had_deaths)
{
    const bool is_mapped = !is_alone || scene->members[0].options.mode != TWINLOG_MODE_DURABLE;
    const struct ending ending = { .is_cut = is_mapped && !manner.has_mapping_follower,
                                   .may_have_spares = manner.was_durable,
                                   .had_deaths = had_deaths };

    judge_left(&book);
    if (is_closed) {
        judge_closed(&book, &ending);
        await_followers();
    }
}

static void run_phase(struct rng *rng)
{
    const uint64_t killed = totals.killed;
    bool is_closed;

    is_alone = rng_one_in(rng, 6) || is_alone_only;
    is_lazy = rng_one_in(rng, 3);
    is_peaceful = rng_one_in(rng, 8);
    scene->least_max_bytes = manner.record_bytes;
    if (is_peaceful)
        run_peaceful_events(rng);
    else
        run_events(rng);
    is_closed = end_all(rng);
    judge_end(is_closed, totals.killed > killed);
    if (book.last > 0 && rng_one_in(rng, 4))
        leave_copies(rng);
    for (uint64_t cuts = rng_below(rng, 4); has_power && !is_closed && book.last > 0 && cuts > 0; cuts--)
        cut_power(rng);
    totals.endings[is_closed]++;
    totals.phases++;
    totals.alone += is_alone;
}

/* ---- one cycle ----------------------------------------------------------------------------------- */

static void forget_pens(void)
{
    for (uint32_t i = 0; i < scene->pens; i++) {
        atomic_store(&scene->pen[i].begun, 0);
        atomic_store(&scene->pen[i].returned, 0);
        atomic_store(&scene->pen[i].is_idle, false);
        atomic_store(&scene->pen[i].may_wait, false);
        scene->pen[i].is_dead = false;
    }
    scene->pens = 0;
}

static void begin_log(struct rng *rng)
{
    static const uint32_t record_bytes[] = { 900, 5000, 30000, RECORD_MAX_BYTES };
    const uint64_t block = 4096;

    remove_directory(place.log);
    memset(book.digest, 0, (book.last + 1) * sizeof(book.digest[0]));
    book = (struct ledger){ .digest = book.digest };
    forget_seen(&scene->seen);
    forget_pens();
    scene->name = rng_next(rng);
    atomic_store(&scene->told, 0);
    atomic_store(&scene->durable, 0);
    manner.record_bytes = record_bytes[rng_below(rng, 4)];
    manner.mapped_bytes = 32 * block + block * rng_below(rng, 225);
    if (manner.mapped_bytes < manner.record_bytes + 8 * block)
        manner.mapped_bytes = (manner.record_bytes / block + 8) * block;
    manner.has_mapping_follower = rng_one_in(rng, 2);
    manner.was_durable = false;
    for (unsigned i = 0; i < 1u + manner.has_mapping_follower; i++)
        followers[i] = start_follower(&scene->followers[i], &scene->seen, i % 2 ? TWINLOG_READER_MMAP : 0,
                                      scene->complaints);
}

static void run_cycle(void)
{
    struct rng rng = { rng_mix(place.seed ^ rng_mix(place.cycle)) };
    const uint64_t phases = 1 + rng_below(&rng, PHASES_MAX);

    begin_log(&rng);
    for (uint64_t i = 0; i < phases && book.last < LARGE_LOG_RECORDS && can_invite(); i++)
        run_phase(&rng);
    for (unsigned i = 0; i < FOLLOWERS && followers[i] > 0; i++) {
        end_follower(&followers[i]);
        totals.seen += atomic_load(&scene->followers[i].records);
    }
    totals.records += book.records;
    totals.fillers += book.fillers;
    totals.found += book.found;
    totals.checked += book.checked;
    atomic_store(&scene->has_fibbed, false); /* a death in the middle of a lie hides it: lie again */
    place.cycle++;
}

/* ---- command line -------------------------------------------------------------------------------- */

static const char help[] =
    "usage: crash-shared [options]\n"
    "\n"
    "Kills and stops processes that append to one log together, and checks it, over and over.\n"
    "\n"
    "  --kills N     stop after so many; default 300, or no limit with --seconds\n"
    "  --seconds S   stop after this time\n"
    "  --seed N      default TWINLOG_SEED, or 1\n"
    "  --cycle N     begin with this cycle\n"
    "  --dir PARENT  where to make a directory; default TMPDIR, or /tmp\n"
    "  --patience MS within which the living must go on after a death or a stop, six times as long if they\n"
    "                wait for the disk; default 60000\n"
    "  --power       also look at copies of the log as power cuts may have left it\n"
    "  --point NAME  where those die or stop that are to do so at a named place; an error if nobody passes it\n"
    "  --alone       never more than one process, in the modes for one: what the test itself is worth\n"
    "  --lie NAME    do one thing wrong on purpose: lost, garbled, twice, swapped, seen, durable or stall; ends\n"
    "                with 0 if it is found\n"
    "  --verbose     say how often each named place was passed, and met death\n"
    "  --help        this text\n"
    "\n"
    "Exit status: 0 no violation, 1 a violation (its directory is kept), 2 wrong usage, 77 cannot run.";

static const struct option more[] = {
    { "alone", no_argument, NULL, 'A' },          { "cycle", required_argument, NULL, 'C' },
    { "patience", required_argument, NULL, 'M' }, { "power", no_argument, NULL, 'P' },
    { "point", required_argument, NULL, 'N' },    { 0 },
};

static void take(int letter, const char *argument)
{
    if (letter == 'A')
        is_alone_only = true;
    else if (letter == 'C')
        place.cycle = parse_number(argument, 0, UINT64_MAX);
    else if (letter == 'P')
        has_power = true;
    else if (letter == 'M')
        patience_ms = (int64_t)parse_number(argument, 1, 1000000);
    else
        only_point = argument;
}

static void begin(void)
{
    scene->fib = (enum fib)settings.fib;
    atomic_store(&scene->seen.shall_lie, scene->fib == FIB_SEEN);
    if (scene->fib == FIB_STALL)
        patience_ms = 500;
}

static unsigned count_points(uint64_t *ret_met)
{
    unsigned known = 0;

    *ret_met = 0;
    while (known < POINTS_MAX && atomic_load(&scene->points[known].name))
        *ret_met += atomic_load(&scene->points[known++].died) > 0;
    return known;
}

static void summarise(uint64_t cycles, int64_t took_ns)
{
    const uint64_t at_points = count_died(scene->points) - totals.killed_on_copies;
    uint64_t met;
    const unsigned known = count_points(&met);

    printf("crash-shared: seed %" PRIu64 ": %" PRIu64 " cycles in %.1f s, no violation\n", place.seed, cycles,
           (double)took_ns / 1e9);
    printf("  %" PRIu64 " members, %" PRIu64 " joined others, %" PRIu64 " killed at random, %" PRIu64
           " at %" PRIu64 " of %u named places; %" PRIu64 " closed; %" PRIu64 " stopped; %" PRIu64
           " guests turned away\n",
           totals.members, totals.joins, totals.killed - at_points, at_points, met, known, totals.closed,
           totals.stopped, totals.guests);
    printf("  %" PRIu64 " phases, %" PRIu64 " of them alone: %" PRIu64 " ended by deaths, %" PRIu64
           " by a close; %" PRIu64 " looks meanwhile; %" PRIu64 " copies, %" PRIu64
           " killed while they opened one\n",
           totals.phases, totals.alone, totals.endings[0], totals.endings[1], totals.looks, totals.copies,
           totals.killed_on_copies);
    printf("  %" PRIu64 " records, %" PRIu64 " of them never acknowledged, checked %" PRIu64
           " times; %" PRIu64 " voids; followers saw %" PRIu64 "; the longest wait %.1f ms\n",
           totals.records, totals.found, totals.checked, totals.fillers, totals.seen,
           (double)totals.longest_wait_ns / 1e6);
    if (has_power)
        printf("  %" PRIu64 " power cuts: %" PRIu64 " sectors lost\n", totals.images, totals.lost_sectors);
    if (settings.is_verbose)
        list_points(scene->points);
}

static bool was_passed(const char *name)
{
    const struct point *point = find_point(scene->points, name);

    return point && atomic_load(&point->passed) > 0;
}

int main(int argc, char **argv)
{
    const struct program program = { .name = "crash-shared",
                                     .help = help,
                                     .fibs = fib_names,
                                     .fib_count = FIBS,
                                     .usual_kills = 300,
                                     .more = more,
                                     .take = take,
                                     .begin = begin,
                                     .run_cycle = run_cycle,
                                     .summarise = summarise,
                                     .killed = &totals.killed };
    int status;

    scene = map_shared(sizeof(*scene));
    scene->complaints = map_shared(sizeof(*scene->complaints));
    watch_points(scene->points);
    book.digest = map_shared(WINDOW * sizeof(book.digest[0]));
    status = run_program(&program, argc, argv);
    if (status == EXIT_SUCCESS && only_point && !was_passed(only_point)) {
        printf("crash-shared: nobody has passed a place that is named '%s'\n", only_point);
        return EXIT_FAILURE;
    }
    return status;
}
