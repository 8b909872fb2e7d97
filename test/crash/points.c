/* SPDX-License-Identifier: Apache-2.0 */
/* See points.h. */
#define _GNU_SOURCE
#include "points.h"

#include "kill.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static struct point *noted;
static struct fate *own; /* NULL: this process has no fate */

void watch_points(struct point points[POINTS_MAX])
{
    noted = points;
}

void face(struct fate *fate)
{
    own = fate;
}

static void meet(struct point *point)
{
    if (own->is_stop) {
        if (atomic_exchange(&own->is_stopping, true))
            return; /* the judge is about to: a second stop would be one that nobody ends */
        kill(getpid(), SIGSTOP);
        return;
    }
    atomic_fetch_add(&point->died, 1);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Called by the library where it is compiled for such a test. */
void twl_point(const char *name);
void twl_point(const char *name)
{
    struct point *point;

    if (!noted)
        return;
    point = find_point(name);
    if (!point)
        violation("there are more than %u named places: '%s'", POINTS_MAX, name);
    atomic_fetch_add_explicit(&point->passed, 1, memory_order_relaxed);
    if (own && own->point == atomic_load(&point->name) && atomic_fetch_sub(&own->passes, 1) == 1)
        meet(point);
}

/* ---- the list ------------------------------------------------------------------------------------ */

struct point *find_point(const char *name)
{
    for (struct point *point = noted; point < noted + POINTS_MAX; point++) {
        const char *there = NULL;

        if (atomic_load(&point->name) == name || atomic_compare_exchange_strong(&point->name, &there, name) ||
            strcmp(there, name) == 0)
            return point;
    }
    return NULL;
}

struct point *choose_point(struct rng *rng)
{
    unsigned known = 0;

    while (known < POINTS_MAX && atomic_load(&noted[known].name))
        known++;
    return known > 0 ? &noted[rng_below(rng, known)] : NULL;
}

uint64_t count_died(void)
{
    uint64_t count = 0;

    for (const struct point *point = noted; point < noted + POINTS_MAX; point++)
        count += atomic_load(&point->died);
    return count;
}

/* ---- for the judge ------------------------------------------------------------------------------- */

void make_stop(pid_t pid, struct fate *fate)
{
    if (!atomic_exchange(&fate->is_stopping, true))
        kill(pid, SIGSTOP);
}

bool await_stop(pid_t pid)
{
    siginfo_t info = { 0 };

    while (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT) < 0)
        if (errno != EINTR)
            give_up("waitid");
    return info.si_code == CLD_STOPPED;
}

void let_go_on(pid_t pid, struct fate *fate)
{
    siginfo_t info;

    atomic_store(&fate->is_stopping, false);
    waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG);
    kill(pid, SIGCONT);
}
