/* SPDX-License-Identifier: Apache-2.0 */
/* The list of suites, one per module, each in test_<name>.c. The runner and ctest both go by it. */
#ifndef TEST_UNIT_SUITES_H
#define TEST_UNIT_SUITES_H

#include <check.h>

/* clang-format off */
#define FOR_EACH_SUITE(DO) \
    DO(alone) \
    DO(base) \
    DO(commit) \
    DO(copy) \
    DO(cursor) \
    DO(damaged) \
    DO(fallback) \
    DO(format) \
    DO(golden) \
    DO(reservations) \
    DO(read_snapshot) \
    DO(hostile) \
    DO(index) \
    DO(integration) \
    DO(io) \
    DO(lookup) \
    DO(many) \
    DO(mapped) \
    DO(names) \
    DO(on_disk) \
    DO(open_group) \
    DO(participants) \
    DO(process) \
    DO(reader) \
    DO(recover) \
    DO(requests) \
    DO(shared) \
    DO(sink) \
    DO(space) \
    DO(state) \
    DO(state_crash) \
    DO(storms) \
    DO(terms) \
    DO(uring) \
    DO(verdict) \
    DO(versioned) \
    DO(watch) \
    DO(ways)
/* clang-format on */

/* Which sanitizers watch: gcc and clang have other ways of saying so. */
#if defined(__has_feature)
#define HAS_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#define HAS_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#ifdef __SANITIZE_ADDRESS__
#define HAS_ADDRESS_SANITIZER 1
#else
#define HAS_ADDRESS_SANITIZER 0
#endif
#ifdef __SANITIZE_THREAD__
#define HAS_THREAD_SANITIZER 1
#else
#define HAS_THREAD_SANITIZER 0
#endif
#endif
#define HAS_SANITIZER (HAS_ADDRESS_SANITIZER || HAS_THREAD_SANITIZER)
/* How often something is repeated; a sanitizer has seen all of it sooner, and takes ten times as long. */
#define REPEATS(usually, with_sanitizer) (HAS_SANITIZER ? (with_sanitizer) : (usually))

#define DECLARE_SUITE(name) Suite *name##_suite(void);
FOR_EACH_SUITE(DECLARE_SUITE)

#endif
