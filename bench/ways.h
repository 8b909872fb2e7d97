/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the studies of the ways to append share: a turn, which is one contender opened, used by one thread and
 * closed again.
 *
 * twinlog's turns go on with the same log, as one that has run for a while: its segments are recycled. The others
 * begin with an empty directory, like in a round.
 */
#ifndef WAYS_H
#define WAYS_H

#include <twinlog.h>

#include "peer.h"
#include "study.h"

struct ways_stage {
    char dir[4096];
    uint32_t record_bytes;
    struct payload payload;
};

struct turn {
    const struct ways_stage *stage;
    const struct peer *peer;
    void *state; /* the peer's; for twinlog the log */
    char dir[4096];
    struct peer_counters before;
    double cpu_before;
    uint64_t number; /* of the next record */
};

bool ways_set_stage(const char *dir, uint32_t record_bytes, void **ret_stage);
void ways_clear_stage(void *stage);

/* Opens the contender and reads its counters. `twinlog` may be NULL; how much is kept and prepared is not taken
 * from it. */
bool turn_open(struct turn *turn, const struct ways_stage *stage, const char *label, const struct peer *peer,
               const struct twinlog_setup *twinlog);
/* Adds what the contender's counters and the processors' say of the turn. */
void turn_count(const struct turn *turn, struct figures *figures);
/* Closes it. False if `error` is one, or that fails. */
bool turn_close(struct turn *turn, const char *label, int error);

/* What the next record is made of. */
static inline const unsigned char *turn_data(struct turn *turn)
{
    /* odd, so that consecutive records begin at different places */
    return turn->stage->payload.bytes + turn->number++ * 7919u % (PAYLOAD_SPREAD / 8) * 8;
}

#endif
