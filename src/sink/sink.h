/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has of a sink: the file that it writes at present, files that it has moved on from and not yet
 * left, and a lane for each thread that is inside a write.
 *
 * A thread in a lane uses one slot of the area, and may use the file that was the present one when it took the
 * lane or any time later. So a file is left only when every lane has been empty since the process moved on.
 */
#ifndef TWL_SINK_H
#define TWL_SINK_H

#include "base/child.h"
#include "base/fork.h"
#include "base/sync.h"
#include "sink/area.h"
#include "sink/claim.h"
#include "twinlog.h"

#include <limits.h>

#define CHUNK_BYTES (UINT64_C(32) << 20)
#define CHUNKS 4u /* that are mapped at a time */

/* A piece of the file that is mapped. */
struct chunk {
    _Atomic uint64_t number; /* of the piece, from 1; 0 = nothing is mapped */
    _Atomic(unsigned char *) bytes;
};

struct sink_file {
    int area_fd, data_fd;     /* [const] */
    struct area *area;        /* [const] */
    unsigned number;          /* [const] which participant we are; 0 = none */
    struct identity identity; /* [const] of the data file */
    bool is_area_new;         /* [const] there was none */
    bool is_first;            /* [const] nobody else had it open */

    struct twl_mutex map_lock;
    struct chunk chunks[CHUNKS]; /* by map_lock; read without it */
    uint64_t populated;          /* by map_lock: pages are there up to here */
    struct twl_mutex sweep_lock; /* one thread sweeps: the area's locks don't keep threads apart */

    struct child_files in_child; /* it must not keep them */
    struct sink_file *next;      /* in the list of those that were moved on from; by twinlog_sink.lock */
    uint64_t turns[SLOTS];       /* of the lanes, when that was */
};

/* A thread that is inside. */
struct lane {
    _Alignas(64) _Atomic uint64_t turn; /* odd = taken */
    _Atomic uint64_t writes, waits;     /* by whoever has the lane */
};

struct twinlog_sink {
    _Atomic(struct sink_file *) file;    /* the present one; set under lock */
    _Atomic int error;                   /* that made it useless */
    _Atomic int past_error;              /* that kept a file that was left from being synced */
    struct fork_guard guard;             /* [const] */
    struct twinlog_sink_options options; /* [const] */
    int dir;                             /* [const] */
    char name[NAME_MAX + 1];             /* [const] */

    struct twl_mutex lock;     /* moving on; never held while a file is synced */
    struct twl_mutex retiring; /* syncing, and leaving what was moved on from */
    _Atomic unsigned syncs;    /* threads in twinlog_sink_sync(), which have no lane: others need those */
    struct sink_file *old;     /* by lock */

    _Atomic uint64_t rotations;
    _Atomic uint64_t past_growths, past_voids; /* in files that were left */
    _Atomic uint64_t flush_ns, look_ns; /* when the next flush, and the next look at the name, is due */

    bool has_thread; /* [const] */
    pthread_t thread;
    _Atomic bool must_stop;
    struct twl_event wake;

    struct lane lanes[SLOTS];
};

/* Of no use any more, unless it was already. Returns rc. */
static inline int twl_sink_fail(struct twinlog_sink *sink, int rc)
{
    int none = 0;
    atomic_compare_exchange_strong(&sink->error, &none, rc);
    return rc;
}

/* ---- options.c: what a caller asks for, made complete -------------------------------------------- */

int twl_sink_options_normalise(const struct twinlog_sink_options *options,
                               struct twinlog_sink_options *ret_options);
/* Opens the directory. */
int twl_sink_find_place(const char *path, int *ret_dir, char ret_name[NAME_MAX + 1]);

/* ---- lane.c: threads that are inside ----------------------------------------------------------- */

unsigned twl_lane_take(struct twinlog_sink *sink);
void twl_lane_leave(struct twinlog_sink *sink, unsigned lane);
void twl_lanes_look(struct twinlog_sink *sink, uint64_t turns[SLOTS]);
/* Has every lane been empty since? That lane, which is the caller's own, is left out; SLOTS = he has none. */
bool twl_lanes_have_passed(struct twinlog_sink *sink, const uint64_t turns[SLOTS], unsigned own_lane);

/* ---- window.c: the file as memory -------------------------------------------------------------- */

/* Bytes of a claim of the caller's, which is in his slot. -EIO: they are not in the file. */
int twl_window_store(struct sink_file *file, uint64_t start, const void *bytes, size_t size);
/* Makes pages present for what is written next. */
void twl_window_populate(struct sink_file *file, uint64_t from, uint64_t to);
void twl_window_close(struct sink_file *file);

/* ---- grow.c: how long the file is -------------------------------------------------------------- */

/* Makes the file at least that long, and longer by the rule; its blocks are reserved. */
int twl_sink_grow(struct sink_file *file, uint64_t end);
/* To that, if it is less; for a file that begins. */
int twl_sink_grow_to(struct sink_file *file, uint64_t bytes);
/* To exactly that, if it is more. */
int twl_sink_cut_to(int fd, uint64_t end);
/* -EIO if somebody has cut what we have written, or the area is lost. */
int twl_sink_check_length(struct sink_file *file);

/* All of it. A full quota of file size is an error, no signal. */
int twl_sink_write_at(int fd, const unsigned char *bytes, size_t size, uint64_t offset);

/* ---- end.c: where the bytes of a file end that nobody has open ----------------------------------- */

#define NAME_ROOM (NAME_MAX + 32)
/* -EUCLEAN: that can't be told, and the flags don't say what to do then. */
int twl_end_find(int dir, const char *name, int fd, uint32_t flags, uint64_t *ret_end);
/* Behind the last byte at or behind `from` that is not zero; `from` if there is none. */
int twl_end_of_text(int fd, uint64_t from, uint64_t *ret_end);
/* Writes it down, onto the disk, with the names in the directory. One at a time. */
int twl_end_write(struct twinlog_sink *sink, const struct sink_file *file, uint64_t end);
void twl_end_remove(struct twinlog_sink *sink, uint64_t inode);

/* ---- sweep.c: the dead --------------------------------------------------------------------------- */

/* Makes harmless what participants that are dead left, and their places free. */
int twl_sink_sweep(struct sink_file *file);
/* The same for one whose byte the caller has locked. */
int twl_sink_sweep_participant(struct sink_file *file, unsigned number);
/* Makes lines of what is missing there. */
int twl_sink_fill_hole(int fd, uint64_t start, uint64_t size);

/* ---- enter.c: coming and going ------------------------------------------------------------------ */

/* The file that has the name `name`, as one that we take part in. `flags` are those of openat() beside O_RDWR. */
int twl_sink_enter(struct twinlog_sink *sink, const char *name, int flags, struct sink_file **ret_file);
/* The last one cuts it. Frees it in any case. */
int twl_sink_leave(struct twinlog_sink *sink, struct sink_file *file);
/* Memory and descriptors only. In a forked child somebody may have had the locks. */
void twl_sink_forget(struct sink_file *file, bool is_child);
void twl_sink_area_name(const char *name, uint64_t inode, char ret_name[NAME_ROOM]);

/* ---- rotate.c: files that follow each other ------------------------------------------------------ */

/* Does that name in the sink's directory lead to this open file? */
bool twl_sink_has_name(const struct twinlog_sink *sink, const char *name, int fd);

/* Cuts what was left lying when everybody died. Nobody else has the sink's file open. */
void twl_sink_finish_old(struct twinlog_sink *sink, const struct sink_file *present);
/* Makes another file the present one, unless another thread was first: a new one, or what has the name by now. */
int twl_sink_move_on(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating);
/* Leaves what can be left; with `is_closing` everything. Returns the first error. */
int twl_sink_retire(struct twinlog_sink *sink, bool is_closing, unsigned own_lane);

/* ---- flush.c ------------------------------------------------------------------------------------- */

/* Waits for claims that are older than the call, then syncs. Who is not patient gets -EAGAIN soon. */
int twl_sink_flush(struct twinlog_sink *sink, struct sink_file *file, bool is_patient)
    REQUIRES(sink->retiring);
/* The same for all files that were moved on from, and the present one. */
int twl_sink_flush_all(struct twinlog_sink *sink, bool is_patient);
/* Is any claim below that offset not copied yet? */
bool twl_sink_has_open_claims(struct sink_file *file, uint64_t offset);

/* ---- helper.c ------------------------------------------------------------------------------------ */

int twl_helper_start(struct twinlog_sink *sink);
void twl_helper_stop(struct twinlog_sink *sink);
/* There is more to prepare. */
static inline void twl_helper_wake(struct twinlog_sink *sink)
{
    if (sink->has_thread)
        twl_event_notify_all(&sink->wake);
}
/* What is due, for a sink without a thread; from inside a lane, which has no file in its hand. */
void twl_sink_tend(struct twinlog_sink *sink, unsigned lane);
/* Another file has the name: move on, and return 1. */
int twl_sink_look_at_name(struct twinlog_sink *sink);

#endif
