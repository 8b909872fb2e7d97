/* SPDX-License-Identifier: Apache-2.0 */
/* Reports every bad place: the faults of the set of segments, of the state file, and what the walk finds. */
#include "check/check.h"

#include "check/walk.h"

#include <errno.h>

#define STATE_TRIES 10u /* a process may be writing a slot just now */
#define STATE_RETRY_MS 1u

struct verifier {
    struct walk walk;
    int error; /* what opening the log says, else TWINLOG_ECORRUPT; 0 = no damage was found */
};

static int found(void *context, const struct twinlog_report *report, const struct hole *hole)
{
    struct verifier *v = context;
    const bool is_damage = report->error == TWINLOG_EFOREIGN || report->error == TWINLOG_ECORRUPT;
    (void)hole;

    if (v->error == 0 && is_damage)
        v->error = report->error;
    return twl_walk_call_each(&v->walk, report);
}

static int load_log(struct verifier *v)
{
    const struct segment_set *set = &v->walk.snapshot.set;
    struct twinlog_report report = { 0 };

    int rc = twl_walk_load(&v->walk, &report);
    if (rc < 0 && rc != -ENOENT)
        found(v, &report, NULL);
    for (size_t i = 0; rc == 0 && i < set->fault_count; i++)
        rc = found(v, &set->faults[i].report, NULL);
    return rc;
}

/* Loading the snapshot has shown that at least one of the two copies is good. After an error the report says what kept
 * from looking. */
static int wait_for_both_states(struct io *io, struct state *state, struct twinlog_report *ret_report)
{
    for (unsigned tries = 1; !state->is_in_both && tries < STATE_TRIES; tries++) {
        io->ops->sleep_ms(io, STATE_RETRY_MS);
        twl_state_free(state);
        const int rc = twl_state_read(io, state, ret_report);
        if (rc == -ENOENT)
            twl_report_failure(ret_report, rc, "look at the state file");
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_state(struct verifier *v)
{
    struct state *state = &v->walk.snapshot.state;
    struct twinlog_report report;

    if (state->header.generation == 0)
        return 0;
    int rc = wait_for_both_states(v->walk.io, state, &report);
    if (rc < 0) {
        const int told = found(v, &report, NULL);
        return told < 0 ? told : rc;
    }
    if (state->is_in_both)
        return 0;
    twl_report(&report, TWINLOG_FOUND_BAD_STATE, TWINLOG_DID_NOTHING, 0,
               "one of the two copies of the cursors and values does not check or is older; the next change "
               "writes both");
    twl_report_place(&report, STATE_NAME, 0, 0, 0);
    return found(v, &report, NULL);
}

int twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records)
{
    struct verifier v = { .walk = { .io = io,
                                    .visitor = { .found = found, .context = &v },
                                    .callbacks = { options->each, options->progress, options->context, 0 },
                                    .snapshot_flags = SNAPSHOT_SYNCS | SNAPSHOT_COLLECTS_FAULTS } };

    int rc = load_log(&v), state_rc = 0;
    if (rc == 0)
        state_rc = check_state(&v);
    if (rc == 0 && v.walk.callbacks.verdict == 0) /* the segments are looked at whatever the state file is */
        rc = twl_walk_through(&v.walk);
    if (rc == 0)
        rc = v.error;
    if (rc == 0)
        rc = state_rc;

    const bool has_walked = rc == 0 || rc == TWINLOG_ECORRUPT || rc == TWINLOG_EFOREIGN;
    if (ret_records && has_walked)
        *ret_records = v.walk.records;
    twl_walk_free(&v.walk);
    io->ops->destroy(io);
    return v.walk.callbacks.verdict != 0 ? v.walk.callbacks.verdict : rc;
}
