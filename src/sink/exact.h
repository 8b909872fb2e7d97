/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exact sink: each write is one writev() at the end of the file, so the file has the written bytes and no others at
 * every moment. There is no area beside it, no mapping, and nothing to truncate.
 *
 * All processes open the file with O_APPEND: the kernel puts each write behind what is there, in one piece, whatever
 * program wrote that. Inside a process one mutex keeps the writes in a row, so that a write that was cut short is dealt
 * with before the next one.
 *
 * Locks of the data file tell which kind of sink has it. EXACT_LOCK is held by each exact sink, exclusively where
 * the file is not shared; DATA_LOCK by each mapped one. Each kind takes its own lock first and then looks for the
 * other one. ENTER_LOCK is held while an exact sink opens the file: whatever has EXACT_LOCK meanwhile has opened it.
 */
#ifndef TWL_SINK_EXACT_H
#define TWL_SINK_EXACT_H

#include "base/sync.h"
#include "io/io_files.h"
#include "sink/area.h"
#include "twinlog_sink.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#define END_UNKNOWN UINT64_MAX
#define MOST_OLD 16u /* files of a sink of either kind that wait until they can be synced, or left */
/* Old files of a sink of either kind, those that are being synced among them: with so many it begins no other file. */
#define MOST_OPEN 64u

/* What the thread of a sink, of either kind, has met: for a caller that asks. */
struct sink_news {
    _Atomic int path_error;  /* 0, or why the sink is not in the file that its path leads to */
    _Atomic int flush_error; /* 0, or that of the last sync for flush_interval_ms */
    bool was_error;          /* [the thread] at the look at the path before */
};

/* After a look at the path; one that goes well has ended the error. A program that makes the next file may not have
 * given it its owner or its mode yet, so one look alone tells nothing. */
static inline void sink_news_of_look(struct sink_news *news, int rc)
{
    if (rc < 0 && news->was_error)
        atomic_store(&news->path_error, rc);
    news->was_error = rc < 0;
}

/* After a call for another file. Its caller is told, and finds no new error in this one later. */
static inline void sink_news_of_reopen(struct sink_news *news, int rc)
{
    if (rc < 0)
        atomic_store(&news->path_error, rc);
}

/* -EAGAIN: the sync was put off, as another call syncs, or waits for a process. */
static inline void sink_news_of_flush(struct sink_news *news, int rc)
{
    if (rc != -EAGAIN)
        atomic_store(&news->flush_error, rc);
}

/* A file that the process has open. */
struct exact_file {
    struct io *io;        /* [const] the directory in which it was opened */
    struct io_file *data; /* [const] */
    char *name;           /* [const] in that directory */
    ino_t inode;          /* [const] */
    ino_t
        finished_inode; /* [opening] of a file that this opening has closed as a mapped sink does; 0 = none */
    int64_t made_ns;    /* [exact_sink.moving] since 1970: when it was made, as far as is known */
    bool has_locks;     /* [const] of its file system, which then tells which sinks have a file */
    bool has_durable_name; /* [exact_sink.syncing] its directory was synced since */

    /* [exact_sink.lock; of an old file exact_sink.syncing] A write of this process that was cut short has left a part
     * of its bytes, and no newline and no whole write of this process has come behind it. */
    bool has_part;

    struct exact_file *next; /* [exact_sink.lock] in the list of old files */
};

/* Of a sink. */
struct sink_path {
    char *text;
    /* The root directory that the text begins at, when the sink was opened. An inode of 0: whichever there is. */
    dev_t root_device;
    ino_t root_inode;
};

struct exact_sink {
    struct twinlog_sink_options options; /* [const] */
    /* [const] As it was given for the first opening, then absolute: the process may go to another directory. */
    struct sink_path path;

    /* Held in this order. Only a holder of `syncing` closes a file, so a sync needs no `lock`. */
    struct twl_mutex moving;  /* for making another file the present one */
    struct twl_mutex syncing; /* for syncs, and for leaving old files */
    struct twl_mutex lock;    /* for every write */

    struct exact_file *file;   /* [lock] the present one; stored under `moving`, too */
    struct exact_file *old;    /* [lock] that the process has moved on from and not synced yet */
    unsigned old_files;        /* [lock] all that the process has moved on from and not left yet */
    uint64_t end;              /* [lock] of the present file, when this process wrote last; or END_UNKNOWN */
    uint64_t size_limit;       /* [lock] RLIMIT_FSIZE, when it was looked at last */
    uint64_t rotate_ns;        /* [lock] no sooner the next file is tried again, after that has failed */
    uint64_t no_turn_until_ns; /* [lock] no turn is tried before, as somebody has kept one; see take_turn() */
    uint64_t expected_end;     /* [lock] of the file, if no other program writes to it; 0 = not known */
    /* [moving] Since when each try of a rotation has met other processes; 0 = the last one has not. */
    uint64_t busy_since_ns;
    _Atomic int rotation_error; /* of the last rotation for max_bytes */
    struct sink_news news;
    bool is_full; /* [lock] the last write met a full disk: the next one asks for room first */

    bool is_dirty;  /* [lock] written since the last sync */
    int sync_error; /* [syncing] of the first sync that failed; no later one succeeds */

    _Atomic unsigned inside; /* calls, which a close waits for */
    pthread_t thread;
    _Atomic bool must_stop;
    struct twl_event wake; /* of the thread: an old file is to be left */
};

/* ---- exact.c: calls of the public interface, for a sink of this kind ------------------------------- */

int twl_exact_open(const char *path, const struct twinlog_sink_options *options,
                   struct exact_sink **ret_sink);
int twl_exact_write(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size,
                    uint64_t *ret_offset);
int twl_exact_sync(struct exact_sink *sink);
int twl_exact_reopen(struct exact_sink *sink);
int twl_exact_rotate(struct exact_sink *sink, int64_t made_before_ns);
int twl_exact_close(struct exact_sink *sink);

/* ---- exact_write.c: bytes -------------------------------------------------------------------------- */

/* Appends the pieces to the present file. */
int twl_exact_append(struct exact_sink *sink, const struct iovec *pieces, int count, size_t size)
    REQUIRES(sink->lock);
/* Where the last write of this process to the file has ended. An error: it cannot be told, and *ret_end is
 * END_UNKNOWN. */
int twl_exact_tell(const struct exact_file *file, uint64_t *ret_end);
/* Ends what a write has left in a file that gets no more lines of this process, by a newline, if the system lets it.
 * has_part is false then. The caller has EXACT_LOCK of the file, and the lock that guards has_part. */
void twl_exact_end_line(struct exact_file *file);
/* Looks at RLIMIT_FSIZE. */
void twl_exact_limit(struct exact_sink *sink) REQUIRES(sink->lock);

/* ---- exact_files.c: files and their names ---------------------------------------------------------- */

/* Opens the file that the path leads to, or makes it, with the rights of `before` if there is one. */
int twl_exact_enter(const struct exact_sink *sink, const struct exact_file *before,
                    struct exact_file **ret_file);
void twl_exact_leave(struct exact_file *file);
/* The same for a file that the sink has moved on from, which has no lock any more. */
void twl_exact_end_old_line(struct exact_file *file);
/* Makes the next file, renames the present one to NAME.1, after the older ones, and gives its name to the next one.
 * NULL in *ret_next: the path says where the sink goes on, as the system has no files without a name, or somebody was
 * faster. An error: the present file has its name. */
int twl_exact_shift(const struct exact_sink *sink, const struct exact_file *file,
                    struct exact_file **ret_next);

#endif
