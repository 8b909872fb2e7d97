/* SPDX-License-Identifier: Apache-2.0 */
/* Broken invariants; threads in an observer; and deadlines, which are not in sync.c because test/interleave replaces
 * that. */
#include "base/base.h"

#include "base/sync.h"
#include "twinlog.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void twl_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "twinlog: broken invariant, please report: %s (%s:%d)\n", condition, file, line);
    abort();
}

static _Thread_local bool is_observing;

bool twl_is_observing(void)
{
    return is_observing;
}

void twl_set_observing(bool is)
{
    is_observing = is;
}

uint64_t twinlog_deadline(uint32_t timeout_ms)
{
    return twl_monotonic_ns() + (uint64_t)timeout_ms * 1000000 + 1;
}
