/* SPDX-License-Identifier: Apache-2.0 */
/* In the shared page: a process asks the writer to look at the state file, where it has put a trim that it wants. The
 * page only rings: it has no checksum. */
#ifndef TWL_TRIM_ASK_H
#define TWL_TRIM_ASK_H

#include "base/sync.h"

#define ASK_MS 1000u
#define RETENTION_MS 60000u

/* The writer looks once a second, trims, and stores the result and the count that it has seen. */
struct trim_ask {
    _Atomic uint32_t asked, answered; /* [atomic] */
    _Atomic int result;               /* [atomic] of the newest answer */
    uint32_t reserved;
};

static inline bool trim_ask_is_open(const struct trim_ask *ask)
{
    return ask && atomic_load(&ask->asked) != atomic_load(&ask->answered);
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
