/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk in memory behind struct io_ops that forgets what was not synced, on purpose.
 *
 * Every file has two states: what reads see, and what is durable. Between them stands an ordered list
 * of changes that no sync has covered. A crash image is a new disk; its durable state is the old
 * durable state plus a chosen part of those changes, sector by sector (512 bytes). The rules:
 *
 *  - A write is a set of sectors; each may be old or new after a crash, in any combination with the
 *    sectors of any other unsynced write. Of several writes to one sector any may be the last.
 *  - A file's size is a change of its own: new data beyond an old size is lost, a new size over old
 *    data reads as zeros.
 *  - A file that is made shorter is so at once, durably; what was not synced behind its new end is gone.
 *  - A create, rename or unlink is volatile until the directory is synced. Each is atomic, each may
 *    have happened or not, whatever the others did. A synced file under a name that was not synced
 *    may be missing.
 *  - A durable write is visible to reads when it is done, in part perhaps earlier. Its barrier makes
 *    it durable; see `is_barrier_narrow` for what else.
 *  - A failed write leaves any part of its sectors. A failed sync loses any part of what it should
 *    have covered. What was written through the page cache is then lost for good while reads through
 *    it go on to show it, and the next sync answers 0: that is what Linux does. What was written
 *    directly is durable, or gone, or still on its way.
 *  - A group of a direct file is written past the page cache, or through it: as the write asks, mostly. Then the
 *    cache has it over the disk, and a failed sync leaves it there in vain.
 *  - Direct reads, and those with IO_FROM_DISK, see what the disk has: unsynced writes too, because the
 *    kernel writes those back first, but not what was lost. A lost page is evicted now and then, by
 *    IO_FROM_DISK mostly and by a direct write always: then all see the old bytes again. A small
 *    write to such a page writes all of it.
 *  - A file of which more than a page is mapped: what a process stores there is in the page cache at the next
 *    operation, as writes of the sectors that differ. A sector may also get to the disk while the process stores in it.
 *    simdisk_sync_pages() is msync().
 *  - Files have one name or none, and can't be linked (-EXDEV), or mapped to be read only (-ENOTSUP).
 *
 * A simdisk is the machine; simdisk_connect() is a process on it, and there may be several. All is deterministic: one
 * thread, one seed, a clock that stands still until it is set or slept. What the interface forbids (a buffer changed
 * in flight, a file closed twice, a lock leaked) is printed and aborts.
 */
#ifndef TWL_SIMDISK_H
#define TWL_SIMDISK_H

#include "io/io.h"
#include "rng.h"

#define SECTOR_BYTES 512u

struct simdisk;

enum simdisk_op {
    SIM_OPEN,
    SIM_CREATE,
    SIM_SIZE,
    SIM_READ,
    SIM_WRITE,
    SIM_ALLOCATE,
    SIM_TRUNCATE,
    SIM_SYNC, /* both kinds */
    SIM_LOCK,
    SIM_IS_LOCKED,
    SIM_LINKS,
    SIM_MAP,
    SIM_VIEW,
    SIM_LIST,
    SIM_RENAME,
    SIM_UNLINK,
    SIM_SYNC_DIR,
    SIM_LINK,
    SIM_SUBMIT,
    SIM_GROUP_WRITE, /* its write */
    SIM_BARRIER,     /* its barrier */
    SIM_RANDOM,
    SIM_STORE, /* to a mapped page: simdisk_notice_stores() */
    SIM_OPS,
    SIM_ANY = SIM_OPS
};
const char *simdisk_op_name(enum simdisk_op op);

struct simdisk_options {
    uint64_t seed;
    int64_t clock_ns;
    bool keeps_pages; /* somebody has every page mapped: none leaves the page cache, but by a direct write */
    bool keeps_order; /* of names: as in the journal of a file system */
    bool has_direct;  /* false: IO_DIRECT is -EINVAL */
    bool is_sealed_final;   /* a write to a segment that has a footer breaks the rules (simdisk_sealed.c) */
    bool is_barrier_narrow; /* true: the barrier of a submitted write covers that write only, also a short
                               one, as RWF_DSYNC does; false: it covers all completed writes of the
                               file, and a short write cancels it, as a linked fdatasync does */
};

struct simdisk *simdisk_create(const struct simdisk_options *options);
void simdisk_destroy(struct simdisk *disk); /* every process on it must have ended */

/* A process: the log or reader that is given it destroys it. */
struct io *simdisk_connect(struct simdisk *disk);
bool simdisk_has_file(const struct simdisk *disk, const char *name); /* as a process sees it */

void simdisk_set_clock(struct simdisk *disk, int64_t now_ns);
int64_t simdisk_clock(const struct simdisk *disk);

/* Copies up to `size` bytes from a random place of a random file, as reads see it; returns how many. */
size_t simdisk_sample(const struct simdisk *disk, struct rng *rng, void *bytes, size_t size);

/* Where a process with mapped files might be interrupted: an operation, so that images are taken. */
void simdisk_notice_stores(struct simdisk *disk, const char *place);
/* msync() of a part of a mapped file. -ENOMEM: nothing is mapped there. */
int simdisk_sync_pages(struct simdisk *disk, const void *bytes, size_t size);

/* For plain files: what is the same for all that have a file open; whether another open file has one of some locks;
 * and the end of a process, between two operations. */
size_t simdisk_number(const struct io_file *file);
bool simdisk_is_held(const struct io_file *file, unsigned first, unsigned count, bool is_shared_too);
void simdisk_kill(struct io *io);

/* ---- crashes ---------------------------------------------------------------------------------- */

/* Called after every operation that changed state, also after one that failed. The hook may connect to
 * the disk and take images of it; it is not called again for what it does itself. */
typedef void simdisk_hook(void *context, enum simdisk_op op);
void simdisk_set_hook(struct simdisk *disk, simdisk_hook *hook, void *context);

/* Called before every operation, but those that the hook does: another thread of the process may go on first. */
void simdisk_set_turn(struct simdisk *disk, void (*turn)(void *context), void *context);

enum simdisk_cut {
    SIM_CUT_NONE,    /* power cut: nothing that was not synced */
    SIM_CUT_ALL,     /* power cut: everything, synced or not */
    SIM_CUT_RANDOM,  /* power cut: a random part of it */
    SIM_CUT_GARBAGE, /* the same, and unsynced sectors may hold random bytes */
    SIM_CUT_MASK,    /* power cut: `seed` has one bit for each of simdisk_choices(), 1 = it happened */
    SIM_KILL         /* the process is gone, the machine is not: what reads see stays and is still not
                        durable, a shared page stays, a write in flight lands later, or never; until then
                        the file it was submitted to keeps its locks */
};
const char *simdisk_cut_name(enum simdisk_cut cut);

/* Independent things a power cut decides about now; sectors that would not change don't count. */
unsigned simdisk_choices(const struct simdisk *disk);

/* `disk` goes on as if nothing had happened. */
struct simdisk *simdisk_crash_image(const struct simdisk *disk, enum simdisk_cut cut, uint64_t seed);

/* true: a killed process left a write that has not landed yet */
bool simdisk_has_ghost(const struct simdisk *disk);
/* true: some file has bytes that are in the page cache only, where they may be dropped at any time */
bool simdisk_is_split(const struct simdisk *disk);

/* ---- faults ----------------------------------------------------------------------------------- */

struct simdisk_fault {
    enum simdisk_op op; /* SIM_ANY: whatever it is */
    uint64_t nth;       /* 1 = the next one of that kind */
    int error;          /* negative errno; 0: falls short, for SIM_GROUP_WRITE only */
    size_t missing;     /* bytes by which it falls short */
    bool is_forever;    /* that one and all later ones of the kind */
};
void simdisk_inject(struct simdisk *disk, const struct simdisk_fault *fault); /* NULL: a healthy disk */
uint64_t simdisk_faults(const struct simdisk *disk); /* operations that failed by injection */
uint64_t simdisk_count(const struct simdisk *disk, enum simdisk_op op); /* operations so far */

/* To test the tests: from now on SIM_SYNC, SIM_BARRIER, SIM_SYNC_DIR, (SIM_STORE) simdisk_sync_pages() or (SIM_WRITE)
 * the sync of the data of a file of which the header was just written answers 0 and does nothing. */
void simdisk_lie(struct simdisk *disk, enum simdisk_op op);

/* The last operation in words, as in "write 0001.log 4096+512"; valid until the next call. */
const char *simdisk_last(struct simdisk *disk);

#endif
