/* SPDX-License-Identifier: Apache-2.0 */
/* Broken invariants; and deadlines, which are not in sync.c because test/interleave replaces that. */
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

uint64_t twinlog_deadline(uint32_t timeout_ms)
{
    return twl_monotonic_ns() + (uint64_t)timeout_ms * 1000000 + 1;
}
