/* SPDX-License-Identifier: Apache-2.0 */
/* The list of suites, one per module, each in test_<name>.c. The runner and ctest both go by it. */
#ifndef TEST_UNIT_SUITES_H
#define TEST_UNIT_SUITES_H

#include <check.h>

/* clang-format off */
#define FOR_EACH_SUITE(DO) \
    DO(base) \
    DO(commit) \
    DO(copy) \
    DO(cursor) \
    DO(fallback) \
    DO(format) \
    DO(golden) \
    DO(holds) \
    DO(horizon) \
    DO(hostile) \
    DO(index) \
    DO(integration) \
    DO(io) \
    DO(many) \
    DO(names) \
    DO(process) \
    DO(reader) \
    DO(recover) \
    DO(requests) \
    DO(sink) \
    DO(space) \
    DO(state) \
    DO(state_crash) \
    DO(storms) \
    DO(terms) \
    DO(watch) \
    DO(ways)
/* clang-format on */

#define DECLARE_SUITE(name) Suite *name##_suite(void);
FOR_EACH_SUITE(DECLARE_SUITE)

#endif
