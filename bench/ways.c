/* SPDX-License-Identifier: Apache-2.0 */
/* See ways.h. */
#include "ways.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "series.h"

#define MIB (UINT64_C(1) << 20)
#define KEPT_BYTES (512 * MIB)
#define SPARES 16u
#define EXPECTED_BYTES (1024 * MIB)

bool ways_set_stage(const char *dir, uint32_t record_bytes, void **ret_stage)
{
    struct ways_stage *stage = calloc(1, sizeof(*stage));
    if (!stage)
        return complain("twinlog", "memory", strerror(ENOMEM));
    *ret_stage = stage;
    stage->record_bytes = record_bytes;
    snprintf(stage->dir, sizeof(stage->dir), "%s", dir);
    int error = payload_create(record_bytes, &stage->payload);
    return error == 0 || complain("twinlog", "memory", strerror(-error));
}

void ways_clear_stage(void *state)
{
    struct ways_stage *stage = state;
    payload_destroy(&stage->payload);
    free(stage);
}

static bool is_twinlog(const struct turn *turn)
{
    return turn->peer == &peer_twinlog;
}

static bool make_own_dir(struct turn *turn)
{
    const char *name = is_twinlog(turn) ? "log" : "turn";
    if ((size_t)snprintf(turn->dir, sizeof(turn->dir), "%.4000s/%s", turn->stage->dir, name) >=
        sizeof(turn->dir))
        return false;
    return (is_twinlog(turn) && access(turn->dir, F_OK) == 0) || make_dir(turn->dir);
}

bool turn_open(struct turn *turn, const struct ways_stage *stage, const char *label, const struct peer *peer,
               const struct twinlog_setup *twinlog)
{
    *turn = (struct turn){ .stage = stage, .peer = peer };
    if (!make_own_dir(turn))
        return false;
    struct peer_setup setup = {
        .dir = turn->dir,
        .threads = 1,
        .largest_record = stage->record_bytes,
        .expected_bytes = EXPECTED_BYTES,
    };
    if (twinlog)
        setup.twinlog = *twinlog;
    setup.twinlog.keep_bytes = KEPT_BYTES;
    setup.twinlog.spares = SPARES;
    int error = peer->open(&setup, &turn->state);
    if (error)
        return complain(label, "open", peer->explain(error));
    if (peer->count)
        peer->count(turn->state, &turn->before);
    turn->cpu_before = cpu_seconds();
    return true;
}

void turn_count(const struct turn *turn, struct figures *figures)
{
    struct peer_counters now;
    figures->cpu_us_per_append = per((cpu_seconds() - turn->cpu_before) * 1e6, (double)turn->number);
    figures->mb_per_s = figures->rate * turn->stage->record_bytes / 1e6;
    if (!turn->peer->count)
        return;
    turn->peer->count(turn->state, &now);
    figures->appends_per_sync =
        per((double)(now.appends - turn->before.appends), (double)(now.syncs - turn->before.syncs));
}

bool turn_close(struct turn *turn, const char *label, int error)
{
    int close_error = turn->peer->close(turn->state);
    if (!is_twinlog(turn) && !remove_tree(turn->dir))
        return false;
    if (error)
        return complain(label, "append", turn->peer->explain(error));
    return close_error == 0 || complain(label, "close", turn->peer->explain(close_error));
}
