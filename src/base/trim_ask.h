/* SPDX-License-Identifier: Apache-2.0 */
/* In the shared page: a process asks the writer to look at the state file, where it has put a trim that it wants. The
 * page only rings: it has no checksum. */
#ifndef TWL_TRIM_ASK_H
#define TWL_TRIM_ASK_H

#include "base/sync.h"

#define ASK_MS 1000u
#define RETENTION_MS 60000u

/* To the wish `asked` and those before it, `wishes` in all. It is stored as a whole, so nobody finds the error of one
 * answer with the count of another. */
struct trim_answer {
    uint32_t asked; /* 0 = none so far */
    uint16_t wishes;
    uint16_t error; /* 0, or what they have failed with, without its sign */
};
_Static_assert(sizeof(struct trim_answer) == 8, "is stored at once");

/* The writer looks once a second, trims, and stores an answer to all that it has been asked. */
struct trim_ask {
    _Atomic struct trim_answer answer; /* [atomic] the newest one */
    _Atomic uint32_t asked;            /* [atomic] how often; changed under the lock of the state file */
    uint32_t reserved;
};
_Static_assert(sizeof(struct trim_ask) == 16, "docs/format.md");

static inline bool trim_ask_is_open(const struct trim_ask *ask)
{
    if (!ask)
        return false;

    const struct trim_answer answer = atomic_load(&ask->answer);
    return atomic_load(&ask->asked) != answer.asked;
}

/* To be asked once a second: is it time for the retention, or for a wish, which may have to be done again? */
static inline bool trim_is_due(const struct trim_ask *ask, uint64_t *last_ns)
{
    const uint64_t now_ns = twl_monotonic_ns(), pause_ms = trim_ask_is_open(ask) ? ASK_MS : RETENTION_MS;
    if (*last_ns > 0 && now_ns - *last_ns < pause_ms * UINT64_C(1000000))
        return false;
    *last_ns = now_ns;
    return true;
}

#endif
