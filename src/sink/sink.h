/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink as one process has it: the present file, old files that the process has moved on from and not yet
 * left, and a lane for each thread that is inside a write.
 *
 * A thread in a lane uses one slot of the area. It may use the file that was present when it took the lane,
 * or a later one. So the process leaves an old file only when every lane has been empty since it moved on.
 */
#ifndef TWL_SINK_H
#define TWL_SINK_H

#include "base/fork.h"
#include "base/sync.h"
#include "sink/area.h"
#include "sink/claim.h"
#include "sink/exact.h"
#include "twinlog_sink.h"

#include <limits.h>
#include <sys/stat.h>

#define CHUNK_BYTES (UINT64_C(32) << 20)
#define CHUNKS 4u                        /* that are mapped at a time */
#define STEP_BYTES (UINT64_C(256) << 10) /* one thread makes the pages of a step present */

struct lane {
    _Alignas(64) _Atomic uint64_t turn; /* odd = taken, by a thread that is inside a call */
};

/* A mapped part of the file. */
struct chunk {
    _Atomic uint64_t number; /* of the part, from 1; 0 = nothing is mapped, or is about to be unmapped */
    _Atomic(unsigned char *) bytes; /* NULL = nothing is mapped */
    unsigned populating;            /* threads that make pages of it present */
    uint64_t turns[SLOTS];          /* of the lanes, when it lost its number */
};

struct sink_file {
    struct io_file *data, *area_file; /* [const] */
    struct area *area;                /* [const] */
    unsigned number;                  /* [const] of this participant; 0 = none */
    struct identity identity;         /* [const] of the data file */
    bool is_area_new;                 /* [const] the area's file was empty */
    uint64_t max_bytes;               /* [const] as in the options; 0 where it is shared */
    struct lane *lanes;               /* [const] of the sink */

    uint64_t touched; /* [the thread] where the bytes ended when it looked last */

    struct twl_mutex lock; /* for mapping, and for sweeping: the area's locks don't keep threads apart */
    struct chunk chunks[CHUNKS]; /* [lock]; read without it */

    struct sink_file *next; /* [twinlog_sink.lock] in the list of old files */
    uint64_t turns[SLOTS];  /* of the lanes, when the process moved on */
};

struct twinlog_sink {
    struct exact_sink
        *exact; /* [const] NULL: a mapped one. Else it has nothing of what follows but the guard */
    _Atomic(struct sink_file *) file; /* the present one; stored under lock */
    _Atomic int error;                /* that every later write and sync returns */
    _Atomic int past_error;           /* that kept an old file from being synced */
    struct sink_news news;
    struct fork_guard guard;             /* [const] */
    struct twinlog_sink_options options; /* [const] */
    struct sink_path path;               /* [const] */
    struct io *io;                       /* [lock] the directory of the present file, */
    char name[NAME_MAX + 1];             /* [lock] and its name there */

    struct twl_mutex lock;     /* for moving on; never held while a file is synced */
    struct twl_mutex retiring; /* for syncing, and for leaving old files */
    /* Threads inside that wait for a lane, or until old files are left, or sync, as writers need the lanes. */
    _Atomic unsigned without_lane;
    struct sink_file *old; /* [lock] files that the process has moved on from */

    pthread_t thread;
    _Atomic bool must_stop;
    _Atomic bool is_written; /* the last bytes were, instead of copied: no pages need be present */
    struct twl_event wake;   /* of the thread: there is more to prepare, or an old file to leave */

    struct lane lanes[SLOTS];
};

/* Makes later writes and syncs fail with `rc`, unless the sink has failed before. Returns rc. */
static inline int twl_sink_fail(struct twinlog_sink *sink, int rc)
{
    int none = 0;
    atomic_compare_exchange_strong(&sink->error, &none, rc);
    return rc;
}

/* Does that name in the directory that the file was opened in lead to it? */
static inline int twl_sink_has_name(struct io_file *file, const char *name, bool *ret_has)
{
    uint32_t links = 0;
    const int rc = io_links(file, name, &links);
    *ret_has = links > 0;
    return rc;
}

/* ---- path.c: where the path leads to, and files that are opened or made there ---------------------- */

/* twl_sink_resolve_path() and twl_sink_look() resolve the path anew, directories and all. It may be that the process
 * may not search a directory of the path any more, because another user has closed it, or that the path begins at
 * another root directory by now. Then the place that the sink has open stands for the path, because the process could
 * not go on anywhere else. */

/* Are both of one file? */
static inline bool is_same_file(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* Finds the directory that the path leads to, in *io, and the name of the file there. Before the call they are the
 * place that is known so far; *io is NULL if there is none. The directory is opened, unless it is that one. An error:
 * both are as they were. */
int twl_sink_resolve_path(const struct sink_path *path, struct io **io, char name[NAME_MAX + 1]);

/* For a sink that rotates: may the name of an old file be so long here? -ENAMETOOLONG: not that with this number. */
int twl_sink_check_number(struct io *io, const char *name, unsigned number);

enum path_end {
    PATH_LEADS_NOWHERE,
    PATH_LEADS_HERE, /* to the file that is open */
    PATH_LEADS_ELSEWHERE
};
/* Where does the path lead to? `file` is open, and it was called `name` in its directory. An error: it is not known. */
int twl_sink_look(const struct sink_path *path, struct io_file *file, const char *name);
/* For a sink that stays open: the process may go to another directory later, or get another root directory. Where the
 * present directory has no name, the text stays as it is. 0 or -ENOMEM; free the text. */
int twl_sink_take_path(const char *text, struct sink_path *ret_path);
/* Opens the file, or makes it with these permissions; `flags` of io_open(). FOUND_OTHER_FILE: try again. */
int twl_sink_open_or_make(struct io *io, const char *name, unsigned flags, unsigned mode,
                          struct io_file **ret_file);
/* Opens the file of a sink that has had none before. Where there is none it is made, as the successor of NAME.1 if that
 * is there: a kill in the middle of a rotation has left it so. FOUND_OTHER_FILE: try again. `may_give`: it may get
 * another owner. */
int twl_sink_open_first(struct io *io, const char *name, unsigned flags, bool may_give,
                        struct io_file **ret_file);
static inline bool may_others_make_files(const struct stat *directory)
{
    return directory->st_mode & (S_ISVTX | S_IWGRP | S_IWOTH);
}

/* Makes the file that follows `present`, which has its owner, permissions and ACL before it has the name. An error, or
 * FOUND_OTHER_FILE: it is opened like any other, and so is that of a process that was faster. */
int twl_sink_make_next(struct io *io, const char *name, struct io_file *present);
/* The same before the name is free: twl_io_name_unnamed() gives it. NULL in *ret_file: the system has no files without
 * a name. */
int twl_sink_make_unnamed(struct io *io, unsigned flags, struct io_file *present, struct io_file **ret_file);
#define FOUND_OTHER_FILE 1 /* the name is another file's meanwhile: try again */

/* ---- sink.c: threads inside a call ----------------------------------------------------------------- */

unsigned twl_lane_take(struct twinlog_sink *sink);
void twl_lane_leave(struct twinlog_sink *sink, unsigned lane);
void twl_lanes_look(struct lane lanes[SLOTS], uint64_t ret_turns[SLOTS]);
/* Has every lane been empty since `turns` was read? */
bool twl_lanes_have_passed(struct lane lanes[SLOTS], const uint64_t turns[SLOTS]);

/* ---- window.c: the file as memory, and its length ------------------------------------------------ */

/* Copies bytes into a range of the claim of the caller, which is in that lane. 1: some were written: no pages are
 * needed. -EIO: not in it. */
int twl_window_store(struct sink_file *file, unsigned lane, uint64_t start, const void *bytes, size_t size);
/* The file is a changed one for programs that look at its time, which what is stored in a mapping may not move. */
void twl_window_touch(struct sink_file *file);
/* Makes those pages present that no thread has seen to. */
void twl_window_populate(struct sink_file *file, unsigned lane, uint64_t from, uint64_t to);
void twl_window_close(struct sink_file *file);

/* Makes the file at least `end` long, mostly longer, by a step of at most growth_bytes. Reserves the blocks. */
int twl_sink_grow(struct sink_file *file, uint64_t end);
/* -EIO if the file is shorter than the sink made it, or the area is lost. */
int twl_sink_check_length(struct sink_file *file);

/* ---- end.c: where the bytes of a file end that no participant has open ---------------------------- */

/* Is it the area's cursor? That is of this file and boot, and the file has only zeros behind it, or none if closed. */
int twl_end_is_exact(struct io_file *data, const struct area *area, const struct identity *identity,
                     bool *ret_is);
/* Otherwise. `area`: of its inode number, or NULL. -EUCLEAN: it is not known. */
int twl_end_find(struct io_file *data, const struct area *area, const struct identity *identity,
                 uint32_t flags, uint64_t *ret_end);
/* Is the last one of the first `end` bytes of the file a zero? */
int twl_ends_in_zero(struct io_file *data, uint64_t end, bool *ret_does);
/* The offset behind the last byte from `from` on that is not zero; `from` if there is none. */
int twl_end_of_text(struct io_file *data, uint64_t from, uint64_t *ret_end);

/* ---- enter.c: opening and closing a file ---------------------------------------------------------- */

/* Opens the file with the sink's name as a participant. */
int twl_sink_enter(struct twinlog_sink *sink, struct sink_file **ret_file);
/* Closes the file as a participant; the last one truncates it. Frees it in any case. */
int twl_sink_leave(struct sink_file *file);

/* Opens the file that another sink has open by that name, as the mapped sink would that has left it, and closes it
 * again: then it ends behind its bytes. FOUND_OTHER_FILE: a name is another file's meanwhile. */
int twl_sink_finish(struct io_file *data, const char *name, uint32_t flags);

/* ---- rotate.c: files that follow each other ------------------------------------------------------ */

/* Makes another file the present one, unless another thread has: a new file, or the one that has the name now. -EAGAIN:
 * MOST_OPEN old files wait to be synced and left; nothing has happened. */
int twl_sink_move_on(struct twinlog_sink *sink, struct sink_file *file, bool is_rotating);
/* Goes on in the file that the path leads to, if it is another one: 1. Without `may_make` there must be one. */
int twl_sink_follow_path(struct twinlog_sink *sink, bool may_make);
/* Would the sink get -EAGAIN from these two now? */
bool twl_sink_has_many_old(struct twinlog_sink *sink);
/* The newest old file, and behind it the older ones: only a holder of `retiring` takes one out. */
struct sink_file *twl_sink_old(struct twinlog_sink *sink) REQUIRES(sink->retiring);
/* Leaves the old files that can be left; with `is_closing` all, synced or not. Returns the first error. */
int twl_sink_retire(struct twinlog_sink *sink, bool is_closing);

/* ---- flush.c: dead participants, syncs ------------------------------------------------------------- */

/* Makes harmless what participants that are dead left, and their places free; and what others could not copy. */
int twl_sink_sweep(struct sink_file *file);
/* The same for a participant. `is_dead`: the caller has locked its byte. */
int twl_sink_sweep_participant(struct sink_file *file, unsigned number, bool is_dead);
/* A participant that died in the middle of a sync may have taken an error with it: that sync counts as failed. */
void twl_sink_take_sync_of(struct area *area, unsigned number);
/* Waits until all claims from before the call are copied, then syncs the bytes, and records the end, which is then
 * known after a crash of the system. If not patient: -EAGAIN after a short wait. */
int twl_sink_sync_file(struct sink_file *file, bool is_patient);
/* All old files, and the present one. */
int twl_sink_flush_all(struct twinlog_sink *sink, bool is_patient);

#endif
