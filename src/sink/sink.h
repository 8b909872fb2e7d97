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
    int area_fd, data_fd; /* [const] */
    struct area *area;    /* [const] */
    unsigned number;      /* [const] which participant we are; 0 = none */
    bool is_area_new;     /* [const] there was none */
    bool is_maker;        /* [const] it is an area by us */

    struct twl_mutex map_lock;
    struct chunk chunks[CHUNKS]; /* by map_lock; read without it */
    uint64_t populated;          /* by map_lock: pages are there up to here */
    struct twl_mutex
        sweep_lock; /* one thread sweeps, or writes zeros: the area's locks don't keep threads apart */

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
    struct twl_mutex retiring; /* leaving what was moved on from */
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
void twl_window_close(struct sink_file *file, bool is_child);

/* ---- grow.c: how long the file is -------------------------------------------------------------- */

/* Makes the file at least that long, and longer by the rule; its blocks are reserved. */
int twl_sink_grow(struct sink_file *file, uint64_t end);
/* To exactly that, if it is less; for a file that begins. */
int twl_sink_grow_to(struct sink_file *file, uint64_t bytes);
/* Behind the last byte at or behind `from` that is not zero; `from` if there is none. */
int twl_sink_end_of_data(int fd, uint64_t from, uint64_t *ret_end);
/* Cuts off the zeros behind the cursor; what a stranger has put there stays. */
int twl_sink_cut(struct sink_file *file);
/* -EIO if somebody has cut what we have written. */
int twl_sink_check_length(struct sink_file *file);

/* All of it. A full quota of file size is an error, no signal. */
int twl_sink_write_at(int fd, const unsigned char *bytes, size_t size, uint64_t offset);

/* ---- sweep.c: the dead --------------------------------------------------------------------------- */

/* Makes harmless what participants that are dead left, and their places free. */
int twl_sink_sweep(struct sink_file *file);
/* The same for one whose byte the caller has locked. */
int twl_sink_sweep_participant(struct sink_file *file, unsigned number);

/* ---- enter.c: coming and going ------------------------------------------------------------------ */

/* The file that has the name, as one that we take part in. `like` is the area whose options it gets if it
 * is made, NULL = the sink's own. */
int twl_sink_enter(struct twinlog_sink *sink, const struct area *like, struct sink_file **ret_file);
/* What follows `file`, in which we are: made by us, unless somebody else has. */
int twl_sink_enter_next(struct twinlog_sink *sink, struct sink_file *file, struct sink_file **ret_next);
/* The last one cuts it. Frees it in any case. */
int twl_sink_leave(struct twinlog_sink *sink, struct sink_file *file);
/* The same for one that is left for good. If it is sealed nothing happens but that the result is TWL_SINK_HAS_NEXT:
 * whoever closes last has to be in the file that has the name, because somebody may have died there. */
#define TWL_SINK_HAS_NEXT 1
int twl_sink_leave_present(struct twinlog_sink *sink, struct sink_file *file);
/* Nothing is open yet. NULL: no memory. */
struct sink_file *twl_sink_new_file(void);
/* Memory and descriptors only. In a forked child somebody may have had the locks. */
void twl_sink_forget(struct sink_file *file, bool is_child);

/* ---- rotate.c: files that follow each other ------------------------------------------------------ */

#define NAME_ROOM (NAME_MAX + 32)
void twl_sink_area_name(const struct twinlog_sink *sink, char ret_name[NAME_ROOM]);
void twl_sink_old_area_name(const struct twinlog_sink *sink, uint64_t inode, char ret_name[NAME_ROOM]);
void twl_sink_next_area_name(const struct twinlog_sink *sink, char ret_name[NAME_ROOM]);
/* Does that name in the sink's directory lead to this open file? */
bool twl_sink_has_name(const struct twinlog_sink *sink, const char *name, int fd);

/* Seals the file and gives its name away, so that the next one can have it; the area gets a second name. The caller
 * has the area locked, and it has its name. If only part of it happens, whoever does it again goes on. */
int twl_sink_hand_over(struct twinlog_sink *sink, struct sink_file *file);
/* Sweeps and cuts what was rotated away while everybody died. */
void twl_sink_finish_old(struct twinlog_sink *sink, unsigned keep_files);
/* Is somebody alive in the file before this one with whom the sink can't be shared? Who was first to move on from it has
 * died, and he is about to. */
bool twl_sink_is_moving(struct twinlog_sink *sink);
/* Seals `file` and makes the next one the present one, unless somebody else has. */
int twl_sink_move_on(struct twinlog_sink *sink, struct sink_file *file);
/* Leaves what can be left; with `is_closing` everything. Returns the first error. */
int twl_sink_retire(struct twinlog_sink *sink, bool is_closing, unsigned own_lane);
/* Who is not patient does not wait for a sync that waits for a stopped process: false. */
bool twl_sink_take_retiring(struct twinlog_sink *sink, bool is_patient) TRY_ACQUIRES(true, sink->retiring);

/* ---- flush.c ------------------------------------------------------------------------------------- */

/* Waits for claims that are older than the call, then syncs. Who is not patient gets -EAGAIN soon. */
int twl_sink_flush(struct twinlog_sink *sink, struct sink_file *file, bool is_patient);
/* The same for all files that were moved on from, and the present one. The caller is in a lane. */
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
/* Another file has the name: move on, and return 1. From inside a lane. */
int twl_sink_look_at_name(struct twinlog_sink *sink);

#endif
