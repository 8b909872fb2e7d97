/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of logdir.h behind a gate: the writes and syncs of a log can be counted, kept waiting and made to
 * fail, and so can the making of its files. For the suites of the ways to append.
 */
#ifndef TEST_UNIT_GATE_H
#define TEST_UNIT_GATE_H

#include "logdir.h"
#include "suites.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <twinlog.h>

struct gate {
    /* what was seen */
    _Atomic unsigned unsynced, synced, file_synced; /* writes, by their barrier */
    _Atomic unsigned syncs;                         /* of a file, without a write */

    /* what to do */
    _Atomic bool is_shut;           /* writes and syncs wait */
    _Atomic bool is_shut_for_files; /* so does the making of files */
    _Atomic int error;              /* what writes and syncs fail with; 0 = they don't */
    _Atomic uint64_t largest_file;  /* larger ones, and files that grow beyond it, are -ENOSPC */
    _Atomic int map_error;          /* what the mapping of segments fails with; 0 = it doesn't */
    _Atomic int link_error; /* what a second name fails with, for a log that is opened then; 0 = it doesn't */
    _Atomic unsigned waiting; /* at the gate */

    /* NULL, or called once: when the view of a segment is checked next, as a sync does with what it
     * has written. */
    void (*_Atomic when_checked)(void);
};
extern struct gate gate;

/* Everything open, nothing counted. */
void gate_reset(void);
/* The same, and the place of logdir.h. */
void gate_set_up(void);
/* A log that writes through the gate, in the directory `log_dir`. */
struct twinlog *gate_log(const struct twinlog_options *options);
int gate_try_log(const struct twinlog_options *options, struct twinlog **ret_log);
void gate_shut(void);
void gate_open(void);
/* Until a thread waits at the gate. */
void gate_await(void);

/* For conditions that come true by themselves: `while (!it && still_in_time(&began))`, where `began` is 0 at first.
 * False when two minutes are over; yields. */
bool still_in_time(uint64_t *began_ns);
/* Fails the test when the condition has not come true in time. */
#define AWAIT(condition)                                                                                     \
    do {                                                                                                     \
        uint64_t began_ns_ = 0;                                                                              \
        while (!(condition))                                                                                 \
            if (!still_in_time(&began_ns_))                                                                  \
                ck_abort_msg("never: %s", #condition);                                                       \
    } while (0)

/* ---- every way to open a log ------------------------------------------------------------------- */

struct log_way {
    const char *name;
    uint32_t io, flags;
};

/* Each I/O path with each combination of the flags. The first LOG_IO_KINDS of them have all I/O paths. */
#define LOG_WAYS (LOG_IO_KINDS * 4)
extern const struct log_way log_ways[LOG_WAYS];

/* A test over the first `count` of them; `options` are those of the way. A failure names it. */
#define WAYS_TEST(name, count)                                                                               \
    static void name##_in(int _i, struct twinlog_options options);                                           \
    static void name(int _i)                                                                                 \
    {                                                                                                        \
        const struct twinlog_options options = log_options(log_ways[_i].io, log_ways[_i].flags);             \
        if (log_can_use(#name, options.io, options.flags))                                                   \
            name##_in(_i, options);                                                                          \
    }                                                                                                        \
    UNIT_ENTRY(.test = { #name, name, __FILE__, __LINE__ }, .first = 0, .end = (int)(count),                 \
               .rows = log_ways, .row_bytes = sizeof(log_ways[0]));                                          \
    static void name##_in(int _i CK_ATTRIBUTE_UNUSED, struct twinlog_options options CK_ATTRIBUTE_UNUSED)

#endif
