/* SPDX-License-Identifier: Apache-2.0 */
/* Members are started, stopped, killed and buried, and those that live are seen to go on. */
#define _GNU_SOURCE
#include "crew.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>

struct crew *crew;
const struct craft *craft;
uint64_t patience_ms = 60000; /* a living process goes on in a moment, or never; the machine may be busy */
const char *only_point;
unsigned point_tries = 3;
struct totals totals;

static pid_t pids[MEMBERS_MAX]; /* 0 = there is none */
static bool is_peaceful;        /* nobody dies */

void begin_crew(const struct craft *of)
{
    craft = of;
    crew = map_shared(sizeof(*crew));
    watch_points(crew->points);
    if (place.lie == LIE_STALL)
        patience_ms = 500;
}

void forget_pens(void)
{
    for (uint32_t i = 0; i < crew->pens; i++) {
        atomic_store(&crew->pen[i].begun, 0);
        atomic_store(&crew->pen[i].returned, 0);
        atomic_store(&crew->pen[i].is_idle, false);
        atomic_store(&crew->pen[i].may_wait, false);
        crew->pen[i].is_dead = false;
    }
    crew->pens = 0;
}

/* ---- members ------------------------------------------------------------------------------------- */

/* Of some that were passed already, the one that had least of it. */
static const struct point *choose_place(struct rng *rng)
{
    const struct point *point = choose_point(rng), *other;

    for (unsigned i = 1; point && i < point_tries; i++) {
        other = choose_point(rng);
        if (atomic_load(&other->died) < atomic_load(&point->died))
            point = other;
    }
    return point;
}

/* Where a member comes by often it may do so for a while, but not for long. */
static void choose_fate(struct fate *fate, bool has_none, struct rng *rng)
{
    const struct point *point = only_point ? find_point(only_point) : choose_place(rng);
    const uint64_t passed = point ? atomic_load(&point->passed) / (2 * totals.members + 1) : 0;

    fate->point = !point || has_none ? NULL : atomic_load(&point->name);
    fate->is_stop = rng_one_in(rng, 4);
    atomic_store(&fate->is_stopping, false);
    atomic_store(&fate->passes, 1 + (int32_t)rng_below(rng, passed + 1));
}

bool can_invite(void)
{
    return crew->pens + craft->most_pens <= PENS_MAX;
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
    static const uint32_t one_in[] = { 3, 30, 200, 0 };
    struct member *member = &crew->members[index];

    totals.joins += count_members() > 0;
    choose_fate(&member->fate, is_peaceful || rng_one_in(rng, 4), rng);
    member->rng = (struct rng){ rng_next(rng) };
    member->pens = 1 + (uint32_t)rng_below(rng, craft->most_pens);
    member->first_pen = crew->pens;
    crew->pens += member->pens;
    member->openings = 1;
    member->pause_one_in = one_in[rng_below(rng, 4)];
    member->sync_one_in = one_in[rng_below(rng, 4)];
    member->durable_one_in = one_in[rng_below(rng, 4)];
    craft->prepare(member, rng);
    atomic_store(&member->is_open, false);
    atomic_store(&member->is_closed, false);
    atomic_store(&member->must_stop, false);
    atomic_store(&member->opened, 0);
    atomic_store(&member->written, 0);
    atomic_store(&member->answered, atomic_load(&member->asked));
    pids[index] = fork_child(run_member, member);
    totals.members++;
}

/* The process is gone, or about to. */
static void bury(unsigned index)
{
    const int status = reap(pids[index], "a member");
    const struct member *member = &crew->members[index];

    pids[index] = 0;
    if (WIFEXITED(status) && !atomic_load(&member->is_closed))
        violation("a member ended with status %#x before it had closed what it writes to", (unsigned)status);
    for (uint32_t i = 0; i < member->pens; i++)
        crew->pen[member->first_pen + i].is_dead = WIFSIGNALED(status);
    totals.killed += WIFSIGNALED(status);
    totals.closed += WIFEXITED(status);
}

static void kill_member(unsigned index)
{
    kill(pids[index], SIGKILL);
    bury(index);
}

/* Those that met their fate. */
void bury_the_dead(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (pids[i] > 0 && await(pids[i], 0))
            bury(i);
}

/* ---- others go on -------------------------------------------------------------------------------- */

static bool is_stopping(unsigned index)
{
    return pids[index] > 0 && atomic_load(&crew->members[index].fate.is_stopping);
}

bool is_somebody_stopped(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (is_stopping(i))
            return true;
    return false;
}

bool is_there(unsigned index)
{
    const struct member *member = &crew->members[index];

    return pids[index] > 0 && atomic_load(&member->is_open) && !atomic_load(&member->must_stop) &&
           !is_stopping(index) && !await(pids[index], 0);
}

bool is_anybody_there(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (is_there(i))
            return true;
    return false;
}

void note_wait(int64_t start)
{
    const int64_t waited = now_ns() - start;

    totals.longest_wait_ns = waited > totals.longest_wait_ns ? waited : totals.longest_wait_ns;
}

static bool is_expected_to_write(unsigned index, const struct pen *pen)
{
    return is_there(index) && !atomic_load(&pen->is_idle) &&
           !(is_somebody_stopped() && craft->waits(&crew->members[index], pen));
}

static void await_next(unsigned index, const struct pen *pen)
{
    const uint32_t before = atomic_load(&pen->returned);
    const int64_t start = now_ns();

    while (is_expected_to_write(index, pen) && atomic_load(&pen->returned) == before) {
        const bool waits = craft->waits(&crew->members[index], pen);
        const uint64_t most_ms = patience_ms * (waits ? DISK_TIMES : 1);

        if (is_too_long(start, most_ms))
            violation("pen %u has not written for %" PRIu64 " ms, %s, after another process was %s",
                      (unsigned)(pen - crew->pen), most_ms,
                      waits ? "and may wait for the disk" : "and waits for nobody",
                      is_somebody_stopped() ? "stopped" : "killed");
    }
    note_wait(start);
}

static void see_others_write(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        for (uint32_t n = 0; pids[i] > 0 && n < crew->members[i].pens; n++)
            await_next(i, &crew->pen[crew->members[i].first_pen + n]);
}

/* A member that was fated to stop, or is told to. Others write meanwhile. */
static void stop_for_a_while(unsigned index, struct rng *rng)
{
    struct fate *fate = &crew->members[index].fate;
    const uint64_t usual_ms = craft->most_stop_ms / 5;
    const uint64_t ms = rng_below(rng, (rng_one_in(rng, 16) ? craft->most_stop_ms : usual_ms) + 1);
    int64_t end;

    make_stop(pids[index], fate);
    if (!await_stop(pids[index]))
        return;
    totals.stopped++;
    end = now_ns() + (int64_t)ms * 1000000;
    do {
        see_others_write();
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

static void await_opening(struct rng *rng)
{
    const int64_t start = now_ns();

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        while (pids[i] > 0 && atomic_load(&crew->members[i].opened) == 0 && !await(pids[i], 500000)) {
            look_after_the_stopped(rng);
            if (is_too_long(start, patience_ms * DISK_TIMES))
                violation("nobody is stopped, and a member has not come in for %" PRIu64 " ms",
                          patience_ms * DISK_TIMES);
        }
}

/* A guest that wants it too, in a way that is not allowed while that member certainly has it. */
static void bring_guest(unsigned index, struct rng *rng)
{
    struct member *member = &crew->members[index];
    pid_t guest;

    if (!is_there(index) || atomic_load(&member->opened) < member->openings || !craft->choose_guest)
        return;
    craft->choose_guest(rng);
    guest = fork_child(run_guest, member);
    while (!await(guest, 2000000)) /* a stopped one may have a lock that the guest waits for */
        if (atomic_load(&member->fate.is_stopping) && await_stop(pids[index]))
            let_go_on(pids[index], &member->fate);
    reap_well(guest, "a guest");
    if (await(pids[index], crew->guest_result == 0 ? 200000000 : 0))
        return; /* it was dying */
    totals.guests++;
    if (crew->guest_result != -EBUSY)
        violation("what others have open could be opened in a way that they do not allow: %s",
                  twinlog_strerror(crew->guest_result));
}

static void pass_time(struct rng *rng)
{
    const int64_t end = now_ns() + (int64_t)rng_below(rng, craft->moments_ns[rng_below(rng, 4)]);

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
        atomic_store(&crew->members[index].must_stop, true);
    } else if (chance <= 3) {
        stop_for_a_while(index, rng);
    } else if (chance == 4) {
        bring_guest(index, rng);
    } else if (chance == 5 && craft->look) {
        craft->look();
    } else {
        kill_member(index);
        see_others_write();
        if (craft->see_others_go_on)
            craft->see_others_go_on(rng);
    }
}

void run_peaceful_events(unsigned most, struct rng *rng)
{
    is_peaceful = true;
    for (uint64_t events = 5 + rng_below(rng, 20); events > 0; events--) {
        const unsigned index = (unsigned)rng_below(rng, most);

        if (pids[index] == 0 && can_invite())
            invite(index, rng);
        pass_time(rng);
        if (rng_one_in(rng, 3))
            atomic_store(&crew->members[index].must_stop, true);
    }
}

void run_events(unsigned most, struct rng *rng)
{
    const uint64_t until = totals.killed + 1 + rng_below(rng, craft->most_deaths);
    const bool do_race = rng_one_in(rng, 2);

    is_peaceful = false;
    for (unsigned i = 0; do_race && i < most && can_invite(); i++)
        if (pids[i] == 0)
            invite(i, rng);
    while (totals.killed < until && (can_invite() || count_members() > 0)) {
        const unsigned index = (unsigned)rng_below(rng, most);

        if (pids[index] == 0 && can_invite())
            invite(index, rng);
        if (!rng_one_in(rng, 3))
            await_opening(rng);
        if (craft->do_between)
            craft->do_between(rng);
        pass_time(rng);
        if (pids[index] > 0 && !is_stopping(index) && rng_one_in(rng, 3))
            do_to(index, rng);
    }
}

/* ---- the end ------------------------------------------------------------------------------------- */

static void ask_all(bool is_to_die)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if (pids[i] > 0 && is_to_die)
            kill(pids[i], SIGKILL);
        atomic_store(&crew->members[i].must_stop, true);
    }
}

bool end_all(struct rng *rng)
{
    const bool is_clean = is_peaceful || rng_one_in(rng, 2);
    bool is_closed;
    uint64_t killed;
    int64_t start;

    if (is_clean && can_invite() && count_members() == 0) {
        invite(0, rng);
        await_opening(rng);
        pass_time(rng);
    }
    bury_the_dead();
    killed = totals.killed;
    /* the one that began to leave before the last death may not have been the last one */
    is_closed = is_clean && is_anybody_there();
    ask_all(!is_clean);
    start = now_ns();
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        while (pids[i] > 0) {
            look_after_the_stopped(rng);
            check_complaints();
            if (pids[i] > 0 && await(pids[i], 2000000))
                bury(i);
            else if (now_ns() - start > (int64_t)patience_ms * DISK_TIMES * 1000000)
                violation("a member was told to leave, and has not left for %" PRIu64 " ms",
                          patience_ms * DISK_TIMES);
        }
    return is_closed && totals.killed == killed;
}

void summarise_crew(uint64_t copies)
{
    const uint64_t at_points = count_died() - copies;
    unsigned known = 0, met = 0;

    for (; known < POINTS_MAX && atomic_load(&crew->points[known].name); known++)
        met += atomic_load(&crew->points[known].died) > 0;
    printf("  %" PRIu64 " members, %" PRIu64 " joined others, %" PRIu64 " killed at random, %" PRIu64
           " at %u of %u named places; %" PRIu64 " closed; %" PRIu64 " stopped; %" PRIu64
           " guests turned away; the longest wait %.1f ms\n",
           totals.members, totals.joins, totals.killed - at_points, at_points, met, known, totals.closed,
           totals.stopped, totals.guests, (double)totals.longest_wait_ns / 1e6);
}
