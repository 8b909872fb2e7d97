/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit path, watched and disturbed at its seam: the real directory, with write_durably() of its
 * struct io replaced by one that looks at every write and can make it fail, with a disk on which no
 * large file can be made, and with a clock that can be set. For the suites commit and roll.
 */
#ifndef TEST_UNIT_SEAM_H
#define TEST_UNIT_SEAM_H

#include "commit/inside.h"
#include "hooked.h"
#include "io/io_files.h"
#include "log/handle.h"
#include "log/log.h"
#include "logdir.h"
#include <sched.h>

#define SHADOW_BYTES (1u << 20)
#define MOST_ALLOCATIONS 8u
#define FULL_DISK_BYTES (SEGMENT_MIN_BYTES - 1) /* only small files can be made: no segment */

struct seam {
    struct io_ops ops;
    const struct io_ops *real;

    /* what was seen */
    _Atomic unsigned writes;
    _Atomic unsigned in_flight;
    _Atomic bool has_overlap;   /* two writes in flight at once */
    _Atomic bool has_rewrite;   /* a write that changed bytes that were durable (I3) */
    _Atomic bool has_overwrite; /* a write into a block that was durable, changed or not */
    _Atomic bool is_beyond;     /* a write that reaches into the footer */
    ino_t inode;                /* of the last write's file; an address may be another one's by then */
    unsigned char shadow[SHADOW_BYTES];
    uint64_t shadow_end; /* bytes below are durable */

    /* what to do to the next writes */
    _Atomic int fail_written; /* ret_written of the next `times` writes */
    _Atomic int fail_synced;
    _Atomic unsigned times;
    _Atomic bool is_disturbed; /* the write in flight is one of them */
    _Atomic size_t short_by;
    struct twinlog *held; /* not before this log has accepted so many records */
    uint64_t held_until;

    /* what the world is like */
    _Atomic uint64_t largest_file;
    _Atomic int64_t clock_ns; /* 0 = the real one */
    bool has_no_threads;

    /* how segments got their size: the first ones, in their order */
    _Atomic unsigned allocations;
    enum io_allocation allocated[MOST_ALLOCATIONS];
};

extern struct seam seam;

struct io *watch(void);
void seam_set_up(void);
uint64_t count_records(void);
/* In place of the C library's. */
extern _Thread_local unsigned yields;
extern _Atomic unsigned yields_of_all; /* threads */

int sched_yield(void);
/* Segments of 64 KiB; the smallest buffer that takes records of 8 KiB. */
struct twinlog_options small_options(uint32_t flags);
struct twinlog *open_with(const struct twinlog_options *options);

extern const char payload[200000];

/* Appends until that is refused. Returns the last LSN. */
uint64_t fill_up(struct twinlog *log, size_t size);
void expect_sound(uint64_t records);

#endif
