/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An io in front of another one: before each operation it calls a function of the test, which may count, wait, act or
 * refuse. Files are closed without a call.
 */
#ifndef TEST_UNIT_HOOKED_H
#define TEST_UNIT_HOOKED_H

#include "../sim/simdisk.h"
#include "io/io.h"
#include "walk/segment_iter.h"

#include <twinlog.h>

struct hooked_call {
    enum simdisk_op op; /* SIM_OPEN also where the file is made */
    const char *name;   /* SIM_OPEN */
    unsigned flags;     /* SIM_OPEN */
    enum io_lock lock;  /* SIM_LOCK */
};

/* In any thread. A negative result is that of the operation, which then does nothing. */
typedef int hooked_before(const struct hooked_call *call);

/* Puts itself in front of `io`, which is returned. All that are hooked at a time are of one kind, and the newest
 * function is that of all. */
struct io *hooked(struct io *io, hooked_before *before);
/* The same for the directory `log_dir` of logdir.h. */
struct io *hooked_log_dir(hooked_before *before);
/* Refuses to map, as a file system does that cannot share memory. */
int hooked_refuse_map(const struct hooked_call *call);

/* ---- what suites of logs on some io begin with -------------------------------------------------- */

struct io *log_io(bool use_dsync); /* of posix files in `log_dir` */
struct twinlog *log_on(struct io *io, const struct twinlog_options *options);
struct simdisk *make_simdisk(void); /* with direct files; the same one each time */

/* A walk through a segment file in a directory, from its start. */
struct walked {
    struct io *io;
    struct segment segment;
    struct segment_iter iter;
};
void walk_segment(struct walked *walked, const char *dir, uint64_t sequence);
/* To the group with records of which the first is `lsn`. */
void walk_to_group(struct walked *walked, uint64_t lsn);
void leave_segment(struct walked *walked);

#endif
