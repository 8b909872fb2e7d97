/* SPDX-License-Identifier: Apache-2.0 */
/* Not in sync.c, which test/interleave replaces. */
#include "base/sync.h"
#include "twinlog.h"

uint64_t twinlog_deadline(uint32_t timeout_ms)
{
    return twl_monotonic_ns() + (uint64_t)timeout_ms * 1000000 + 1;
}
