/* SPDX-License-Identifier: Apache-2.0 */
/* In the shared page: a process asks the writer to look at the state file, where it has put a trim that it wants. The
 * page only rings: it has no checksum. */
#ifndef TWL_TRIM_ASK_H
#define TWL_TRIM_ASK_H

#include "base/base.h"

/* The writer's keeper looks once a second, trims, and stores the result and the count that it has seen. */
struct trim_ask {
    _Atomic uint32_t asked, answered; /* [atomic] */
    _Atomic int result;               /* [atomic] of the newest answer */
    uint32_t reserved;
};

static inline bool trim_ask_is_open(const struct trim_ask *ask)
{
    return ask && atomic_load(&ask->asked) != atomic_load(&ask->answered);
}

#endif
