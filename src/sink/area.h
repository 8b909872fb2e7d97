/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that the processes of one sink share: the file `.twinlog.INODE.sink` beside the data file, mapped by
 * all of them. Its name has the inode number of the data file, so a renamed data file keeps its area. The name leads to
 * no data file: inode numbers are used again, and directories are copied. It belongs to the owner of the data file, and
 * no other user may open it: all participants are of one user. Readers do without it.
 *
 * The first page says which file the area is for and how far that file is given away. Behind it each participant, that
 * is a sink that a process has open, has one page. Byte 0 (IO_LOCK_WRITER) is locked while a participant opens or
 * closes the file; byte N as long as participant N lives. These bytes, and the first words of the header, are the same
 * in every version, so that each version can tell living participants of the others from dead ones.
 *
 * The area is valid only until the system restarts, but for `recorded`, which each sync puts onto the disk.
 */
#ifndef TWL_SINK_AREA_H
#define TWL_SINK_AREA_H

#include "base/base.h"
#include "base/process.h"
#include "base/watermark.h"
#include "io/io_files.h"
#include "io/mapping.h"

#include <limits.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#define AREA_MAGIC UINT64_C(0x6b6e69736c777432) /* "2twlsink" in a file of bytes */
#define AREA_VERSION 7u
#define AREA_PAGE 4096u
#define LOCK_WAIT_MS 5000u /* longer than an opening or a closing takes */
#define PARTICIPANTS 256u
#define SLOTS 64u /* of a participant: threads of it that can be inside a write at a time */
#define DATA_LOCK ((enum io_lock)INT_MAX)        /* of the data file: each participant has it, shared */
#define EXACT_LOCK ((enum io_lock)(INT_MAX - 1)) /* of the data file: each exact sink has it. See exact.h */
/* Of the data file. A sink of lines writes to it with TURN_LOCK. NEXT_LOCK is of the one that gets the turn next. They
 * lie side by side, so one call takes both. */
#define TURN_LOCK ((enum io_lock)(INT_MAX - 3))
#define NEXT_LOCK ((enum io_lock)(INT_MAX - 4))
#define ROTATE_LOCK ((enum io_lock)(INT_MAX - 2)) /* of the data file: an exact sink gives it another name */
#define ENTER_LOCK ((enum io_lock)(INT_MAX - 5))  /* of the data file: an exact sink is opening it */
#define AREA_BYTES ((1 + (uint64_t)PARTICIPANTS) * AREA_PAGE)

/* Identifies a data file. Inode numbers are used again; the time of creation tells two files with one number
 * apart, or, in a file system without one (ext4 with inodes of 128 bytes), the inode's generation as born_ns. Without
 * either the two are 0, and the file may be another one: only an error is believed then. The device number is left
 * out, because it may change at the next mount. */
struct identity {
    uint64_t inode;
    int64_t born_s;
    uint64_t born_ns;
};

/* The bytes that a thread is about to claim, or has claimed and not yet copied. See claim.h. */
struct slot {
    _Alignas(64) _Atomic uint64_t state;
    _Atomic uint64_t start, size;
};

struct participant {
    struct slot slots[SLOTS];
};
_Static_assert(sizeof(struct participant) == AREA_PAGE, "a participant is a page");

struct area {
    uint64_t magic;
    uint32_t version;
    _Atomic uint32_t is_ready; /* written last when the area is made */
    unsigned char boot[16];    /* twl_boot_id(); the area is valid only under it */
    struct identity identity;  /* of the data file */
    /* Where the bytes end, on stable storage, or ended when the file was opened or closed. In one sector with the
     * identity. See end.c. */
    _Atomic uint64_t recorded;
    _Atomic int32_t sync_error; /* of the first sync that failed; no later sync succeeds under this boot */
    _Atomic bool is_closed;     /* by all: the cursor was the size of the file, under this boot */
    /* [const] the options of the first participant */
    uint32_t is_shared;
    uint64_t growth_bytes;

    _Alignas(128) _Atomic uint64_t cursor;     /* all bytes below it are given away. See claim.h */
    _Alignas(128) _Atomic uint64_t file_bytes; /* the file has blocks up to here; only grows */
    _Atomic uint64_t populated;                /* pages are present, or a thread sees to that, up to here */
    _Alignas(128) _Atomic uint64_t synced;     /* bytes on stable storage, as is `recorded` */

    /* By number; set and cleared under the lock of the participant's byte. Not in the participant's own page:
     * that is reserved when its number is taken, and reading an unreserved page needs a block, which a full
     * file system in memory does not have. */
    _Atomic bool is_used[1 + PARTICIPANTS];
    /* Odd from before a sync of that participant until its error is stored. If it is dead then, the error may have
     * gone with it. */
    _Atomic uint32_t syncs[1 + PARTICIPANTS];
};
_Static_assert(sizeof(struct area) <= AREA_PAGE, "the first page holds it");
_Static_assert(offsetof(struct area, boot) == 16, "test/mounts writes there");

/* Participants are numbered from 1. An owner is the number of a slot among those of all participants, from 1;
 * 0 = none. */
static inline struct participant *area_participant(struct area *area, unsigned number)
{
    return (struct participant *)((unsigned char *)area + (uint64_t)number * AREA_PAGE);
}
static inline unsigned area_owner(unsigned participant, unsigned lane)
{
    return (participant - 1) * SLOTS + lane + 1;
}
static inline struct slot *area_slot(struct area *area, unsigned owner)
{
    return &area_participant(area, (owner - 1) / SLOTS + 1)->slots[(owner - 1) % SLOTS];
}

/* Of statx(): does this error say that nobody here can make the call? An old kernel or a sandbox refuses it for all
 * files. */
static inline bool is_no_such_call(int error)
{
    return error == ENOSYS || error == EPERM;
}

/* An error: it is not known. */
int twl_identity_of(struct io_file *data, struct identity *ret_identity);

/* Is one of those participants alive, with its lock on another open file? Participants lock for writing: a lock for
 * reading is another program's, and counts for nothing. */
int twl_area_has_others(struct io_file *file, unsigned first, unsigned count, bool *ret_has);
/* Has another participant the DATA_LOCK? The kernel tells one lock, and that of a stranger may hide a participant's. So
 * such a lock counts if the file has several names, where participants may have another area. With one name the area
 * has the participants. */
int twl_data_has_others(struct io_file *data, bool *ret_has);

/* Has any other open file a lock there? Then it may be a participant. */
int twl_data_is_locked(struct io_file *data, bool *ret_is);

enum lock_holder {
    HELD_BY_NOBODY,
    HELD_BY_SINK,
    HELD_BY_STRANGER /* another program has locked a range of its own, mostly the whole file */
};
/* Which other one has that lock of a data file, DATA_LOCK or EXACT_LOCK? All that ask whether a sink has a file ask
 * here. An error means that it is not known, and never that nobody has it. */
int twl_find_lock(struct io_file *data, enum io_lock which, enum lock_holder *ret_holder);
/* Has another sink that lock? Takes none. A sink asks for the other kind's when it has its own lock of the file: so at
 * least one of two that come at a time sees the other. */
int twl_sink_has(struct io_file *data, enum io_lock which, bool *ret_has);
/* `which` is the lock of the other kind. -EMEDIUMTYPE: a sink of that kind has the file. */
int twl_refuse_other_kind(struct io_file *data, enum io_lock which);
/* Has another sink, of either kind, the file open? */
int twl_data_is_in_use(struct io_file *data, bool *ret_is);

#define NAME_ROOM (NAME_MAX + 64)
/* The name of the area of the file with that inode number. */
void twl_area_name(uint64_t inode, char ret_name[NAME_ROOM]);
#define AREA_MODE 0600u
/* -EPERM: the file, a data file or an area, is another user's. Root is another user, too. */
int twl_owner_check(struct io_file *file);
/* -EPERM: it is another user's, or others may write it, or it has a second name: no sink has left it so. */
int twl_area_check(struct io_file *file);

/* Maps an area; NULL if the file does not have the size of one. The area may get lost (twl_mapping_is_lost()): a page
 * of it could not be allocated, on a full file system without reserved space, or the file was truncated. Then values
 * that this process loads from the area or stores there mean nothing any more. */
int twl_area_map(struct io_file *file, struct area **ret_area);
/* Is it an area of this version, and finished? Reads only the first page. */
bool twl_area_is_known(const struct area *area);
/* Is it also the area of that file, as far as that can be told? */
bool twl_area_is_for(const struct area *area, const struct identity *identity);

/* Makes the file an area without participants, from `kept` bytes on, 0 or its first page, for which it reserves the
 * blocks. No other participant is alive in it. The caller fills in the rest, then calls twl_area_finish(). */
int twl_area_prepare(struct io_file *file, uint64_t kept);
/* `boot`: the current one, see twl_boot_id(). */
void twl_area_finish(struct area *area, const uint8_t boot[BOOT_ID_BYTES]);

#endif
