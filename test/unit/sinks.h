/* SPDX-License-Identifier: Apache-2.0 */
/* A plain file and sinks on it, for the suites sink and sink_left. */
#ifndef TEST_UNIT_SINKS_H
#define TEST_UNIT_SINKS_H

#include "forbid.h"
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "sink/claim.h"
#include "sink/sink.h"
#include <signal.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define STRANGER 12345u /* a user */
#define LINE "0123456789abcdef0123456789abcdef\n"

/* The kind of a sink, and whether others may have its file. */
#define EXACT 0u
#define MAPPED TWINLOG_SINK_MAPPED
#define SHARED TWINLOG_SINK_SHARED

extern char path[400];

struct shared {
    _Atomic int step;
    _Atomic bool was_there;
};

extern struct shared *shared;
extern const char *_Atomic wanted_point; /* NULL: none */
extern unsigned points_before;           /* the point is passed so often before it is wanted */
extern bool forks_there;                 /* a child lives on, until the next step, or for a minute */
extern int signal_there; /* SIGKILL or SIGSTOP, to this process; 0 = the thread waits for a step */

void prepare(void);
const char *numbered(unsigned number);
int64_t bytes_of(const char *name);
/* What lies beside the file of that name. */
const char *area_of(const char *name);
/* A mapped one begins with 64 KiB. */
struct twinlog_sink_options options_of(uint32_t flags);
int open_as(uint32_t flags, struct twinlog_sink **ret_sink);
struct twinlog_sink *open_sink(const struct twinlog_sink_options *options);
void put(struct twinlog_sink *sink, const char *text);

struct seen {
    unsigned participants;
    uint64_t bytes, file_bytes, synced_bytes;
};

/* Of the present file. */
struct seen look_at(struct twinlog_sink *sink);
/* The sink goes on without its thread, as if that got no processor. */
void stop_thread(struct twinlog_sink *sink);
/* As when max_bytes is reached. */
int rotate(struct twinlog_sink *sink);
void close_sink(struct twinlog_sink *sink);
char *read_file(const char *name, size_t *ret_size);
void expect_text(const char *name, const char *text);
void expect_nothing_beside(void);
/* Two files follow each other, both are finished, and nothing is left beside them. */
void expect_two_files(const char *older, const char *newer);
void put_text(const char *name, const char *text);
void *rotate_it(void *context);
/* In another directory the file has another area. */
void link_elsewhere(char *second, size_t size);

extern uint32_t dying_flags;
extern const char *dying_point;
extern int dying_signal;

/* Opens the sink, writes, closes it, and meets the point. */
int die_at_point(void);
/* Until it has stopped. */
pid_t stop_child(int (*body)(void));
pid_t stop_child_at(const char *point);
/* Its line is half copied. */
pid_t stop_child_in_write(void);

extern bool does_sync;

int write_and_die(void);

enum spoiling {
    SPOIL_NOTHING,
    SPOIL_BOOT,
    SPOIL_MAGIC,
    SPOIL_VERSION,
    SPOIL_READY,
    SPOIL_INODE,
    SPOIL_CURSOR,
    SPOIL_SIZE,
    SPOIL_ALL,
    SPOIL_EMPTY,
};

void spoil(enum spoiling how);

#endif
