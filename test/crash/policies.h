/* SPDX-License-Identifier: Apache-2.0 */
/* The ways in which crash-kill kills, and what it kills. */
#ifndef TWL_CRASH_POLICIES_H
#define TWL_CRASH_POLICIES_H

#include "command_line.h"

extern const struct policy durable_policy, soak_policy;  /* durable.c */
extern const struct policy mapped_policy, shared_policy; /* log.c */
extern const struct policy sink_policy;                  /* sink.c */

#endif
