/* SPDX-License-Identifier: Apache-2.0 */
/* The list of suites, each in test_<name>.c, with what it is about. The runner, ctest and `./dev index` go by it. */
#ifndef TEST_UNIT_SUITES_H
#define TEST_UNIT_SUITES_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>

/* clang-format off */
#define FOR_EACH_SUITE(DO) \
    DO(alone) /* the tests of `mapped` in the shared mode, by one process with no other beside it */ \
    DO(alone_faults) /* the same of `mapped_faults` */ \
    DO(base) /* words for errors, the event that threads sleep on, forks, the watermark */ \
    DO(cached) /* what of a log goes through the page cache although its file is direct */ \
    DO(change) /* one change of several things: cursors, values and the head of the log */ \
    DO(close) /* each call, held at each of its first system calls while the log is closed */ \
    DO(commit) /* the commit path, disturbed at its seam: writes, syncs, markers */ \
    DO(consumer) /* readers that go on where the last one of their name ended */ \
    DO(copy) /* what looks at a whole log and what copies it: verify, inspect, backup */ \
    DO(damaged) /* every reader, from every start, in a log that is damaged at one place or newer than this version */ \
    DO(descriptors) /* none of 0 to 2, and what a forked child has of a handle */ \
    DO(discarded) /* what a crash may have discarded is not saved, what was removed does not come back */ \
    DO(driven) /* a committer without a thread: its descriptor, a loop, and threads that wait beside it */ \
    DO(errand) /* a sync or a change that a thread of the log makes for a loop */ \
    DO(evidence) /* what proves that records are missing behind the end that recovery found */ \
    DO(exchanged) /* files of an open log that are removed, or exchanged for those of another log */ \
    DO(fallback) /* io_uring refused, no direct I/O, full and read-only disks */ \
    DO(fork) /* files that are opened while the process forks, and what is there of it without memory */ \
    DO(format) /* each structure on the disk, byte by byte, and what a decoder refuses */ \
    DO(frozen) /* which calls return while the file system of the log is frozen */ \
    DO(gauge) /* buckets and quantiles */ \
    DO(golden) /* logs of each version that are kept, and docs/format.md */ \
    DO(history) /* two histories of one log never mix in silence */ \
    DO(hostile) /* directories that an attacker made, and what is left to other programs */ \
    DO(index) /* the summary of a segment and its sparse index, against a list of all records */ \
    DO(integration) /* the public interface with threads, every way to write, limits and closing */ \
    DO(io) /* each backend of struct io_ops, against the kernel */ \
    DO(io_refused) /* the same where the kernel refuses something, and views of files that change */ \
    DO(lookup) /* reads of one record by its LSN */ \
    DO(many) /* many logs and one committer */ \
    DO(many_driven) /* the tests of `many` with a committer that a loop drives */ \
    DO(mapped) /* the mapped mode, seen by one process: sizes, threads, levels, closing and opening */ \
    DO(mapped_faults) /* deaths and full disks in the mapped mode, what it refuses, its keeper, trims */ \
    DO(mapping) /* mappings of files: faults, refusals, and forks in the middle */ \
    DO(modes) /* which call works in which mode: the table in twinlog(7) */ \
    DO(names) /* cursors and metadata, read by handles that only read while a writer comes and goes */ \
    DO(on_disk) /* what is vouched for is on the disk, not in the page cache alone */ \
    DO(open_group) /* groups of mapped segments that a dead writer left open */ \
    DO(process) /* processes, forks and files that do not belong to the log */ \
    DO(read_snapshot) /* a reader and a writer in two processes, between any two steps of each other */ \
    DO(reader) /* readers: there and back, by LSN and by time, over fillers, trims and truncations */ \
    DO(reader_faults) /* readers of damaged logs, behind dead writers, and where the system refuses something */ \
    DO(reader_live) /* readers beside a writer, and waiting for what comes */ \
    DO(repair) /* what is rescued of a damaged log, and what is said of the rest */ \
    DO(note) /* where the end of the log is looked for */ \
    DO(recover) /* the decision table of recovery, and what it is asked with */ \
    DO(search) /* how far recovery searches behind the end */ \
    DO(refused_calls) /* each system call of a writer, a reader, a copy and a sink, refused in turn */ \
    DO(requests) /* appends that are completed later, through a queue */ \
    DO(roll) /* full disks, limits of segments, rolls and seals */ \
    DO(segment_iter) /* the walk through a segment: what continues the history is entered, and nothing else */ \
    DO(segment_set) /* the set of files that makes a log: headers, copies, what is missing or cannot be read */ \
    DO(shared) /* the shared mode: processes come, go and trim, and wake each other */ \
    DO(shared_deaths) /* the shared mode: processes stop and die */ \
    DO(shared_refusals) /* the shared mode: full disks, lost pages, and what cannot join */ \
    DO(sink) /* the plain file that processes append to */ \
    DO(sink_exact) /* plain files that are exact at every moment: processes, full disks, rotation */ \
    DO(sink_hostile) /* what others put into the area of a plain file */ \
    DO(sink_left) /* what deaths, strangers and locks leave of a plain file */ \
    DO(sink_links) /* plain files at the end of a symbolic link: rotation, and links that lead to nothing */ \
    DO(sink_looks) /* what a plain file does when the system does not say which sinks have it, or how large it is */ \
    DO(sink_torn) /* plain files: writes that were cut short, and what follows them */ \
    DO(skip) /* LSNs without records; copies that take long */ \
    DO(space) /* trims, truncations, resets, retention, seals and recycling, on real files */ \
    DO(state) /* the state file: entries, slots, processes that change it */ \
    DO(state_crash) /* the state file when each operation crashes or fails */ \
    DO(storms) /* signals, cancellation and a close in the middle of a call */ \
    DO(terms) /* tries, deadlines, cancellation, and which call waits for which when buffers are full */ \
    DO(trim_wish) /* a trim for another process: what that is told, between any two steps of the writers */ \
    DO(uring) /* requests that io_uring does not complete in time; a ring or a call, by their times */ \
    DO(verdict) /* one fault, one answer: stat, opening, reading, verify and repair */ \
    DO(versioned) /* structures of older and newer programs */ \
    DO(watch) /* events, and the shared copy of what is counted */ \
    DO(ways) /* batches and levels */
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

/* A suite that is long may take one part of several at each commit, another one at the next; all of them where this is
 * false, as in ./dev test --all. */
bool takes_turns(void);
/* The part of so many that is to be run, from 0; TWINLOG_TURN is the number of the commit. */
unsigned turn_of(unsigned parts);

/*
 * A file test_NAME.c is the suite NAME. Its tests register themselves: CASE() begins a case, or goes on with the one of
 * that name, and the tests below it belong to that.
 */
#define CASE(name, before, after) UNIT_ENTRY(.case_name = (name), .set_up = (before), .tear_down = (after))
#define TEST(name) TEST_LOOP(name, 1)
/* `_i` counts from 0 to count - 1. */
#define TEST_LOOP(name, count) TEST_RANGE(name, 0, count)
#define TEST_RANGE(name, from, to)                                                                           \
    static void name(int _i);                                                                                \
    UNIT_ENTRY(.test = { #name, name, __FILE__, __LINE__ }, .first = (int)(from), .end = (int)(to));         \
    static void name(int _i CK_ATTRIBUTE_UNUSED)

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* A test for each row of a table. A row begins with a `const char *name`, which a failure shows; the body has `row`. */
#define TEST_EACH(test_name, table)                                                                          \
    static void test_name##_of(const __typeof__((table)[0]) *row);                                           \
    static void test_name(int i)                                                                             \
    {                                                                                                        \
        test_name##_of(&(table)[i]);                                                                         \
    }                                                                                                        \
    UNIT_ENTRY(.test = { #test_name, test_name, __FILE__, __LINE__ }, .first = 0, .end = (int)ROWS(table),   \
               .rows = (table), .row_bytes = sizeof((table)[0]));                                            \
    static void test_name##_of(const __typeof__((table)[0]) *row CK_ATTRIBUTE_UNUSED)

/* A structure that the interface takes, with these members: WITH_SIZE(trim_options, .before_lsn = 5). */
#define WITH_SIZE(name, ...) ((struct twinlog_##name){ .size = sizeof(struct twinlog_##name), __VA_ARGS__ })

struct unit_entry {
    const char *file;
    int line;
    const char *case_name; /* NULL: a test */
    void (*set_up)(void), (*tear_down)(void);
    TTest test;
    int first, end;
    const void *rows; /* the table, or NULL; then the test runs for each of its rows */
    size_t row_bytes;
};
#define UNIT_ENTRY(...) UNIT_ENTRY_AT(__LINE__, __VA_ARGS__)
#define UNIT_ENTRY_AT(at, ...) UNIT_ENTRY_NAMED(at, __VA_ARGS__)
#define UNIT_ENTRY_NAMED(at, ...)                                                                            \
    static const struct unit_entry *unit_entry_##at __attribute__((section("unit_entries"), used)) =         \
        &(const struct unit_entry)                                                                           \
    {                                                                                                        \
        .file = __BASE_FILE__, .line = at, __VA_ARGS__                                                       \
    }

#endif
