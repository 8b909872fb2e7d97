/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of one sink share: the file `.NAME.INODE.sink`, mapped by all of them. It has the number of the
 * data file's inode in its name, so a file that was renamed keeps its area, and the next one has another.
 *
 * The first page says whose it is and how far the file is given away. Every participant, that is a sink that a
 * process has open, has one page behind it, with a slot for each thread that is in a write.
 *
 * Locks are open-file-description locks on single bytes, so the kernel gives them back at any death: byte 0 for
 * whoever comes or goes; byte N for as long as participant N lives; one more for who writes down what was synced. This,
 * and the first words of the header, stay as they are in every version, so that versions can tell each other's living
 * from the dead.
 *
 * Nothing here outlives the system: what does is in end.h.
 */
#ifndef TWL_SINK_AREA_H
#define TWL_SINK_AREA_H

#include "base/base.h"

#include <stdatomic.h>
#include <sys/types.h>

#define AREA_MAGIC UINT64_C(0x6b6e69736c777432) /* "2twlsink" in a file of bytes */
#define AREA_VERSION 2u
#define AREA_PAGE 4096u
#define PARTICIPANTS 256u
#define SLOTS 63u /* of a participant, so as many threads of it can be in the middle of a write */
#define RECORD_BYTE (PARTICIPANTS + 1) /* for writing down what was synced */
#define AREA_BYTES ((1 + (uint64_t)PARTICIPANTS) * AREA_PAGE)

/* Which file it is. Numbers of inodes are used again, the time it was made tells two lives apart. The device is left
 * out: its number is another one after the next mount. */
struct identity {
    uint64_t inode;
    int64_t born_s;
    uint64_t born_ns;
};

/* What a thread is about to claim, or has claimed and not yet copied. See claim.h. */
struct slot {
    _Alignas(64) _Atomic uint64_t state;
    _Atomic uint64_t start, size;
};

struct participant {
    _Alignas(64) _Atomic int32_t pid; /* for people */
    struct slot slots[SLOTS];
};
_Static_assert(sizeof(struct participant) == AREA_PAGE, "a participant is a page");

struct area {
    uint64_t magic;
    uint32_t version;
    uint32_t participants, slots;
    _Atomic uint32_t is_ready; /* the last word that is written when it is made */
    unsigned char boot[16];    /* of the system that made it; nothing outlives that */
    struct identity identity;  /* of the data file */
    /* [const] the options of whoever was first */
    uint32_t is_shared;
    uint64_t growth_bytes, max_bytes;

    _Alignas(128) _Atomic uint64_t cursor;     /* everything below it is given away. See claim.h */
    _Alignas(128) _Atomic uint64_t file_bytes; /* the file has blocks up to here; only grows */
    _Alignas(128) _Atomic uint64_t synced;     /* what is on stable storage, and written down there */
    _Atomic uint64_t growths, voids;
    _Atomic int32_t sync_error; /* of the first sync that failed; none can succeed after it */

    /* By number; set and cleared by whoever has its byte locked. Here, because the page of a participant is reserved
     * when there is one: to look at one that is not would want a block, which a full file system in memory has not. */
    _Atomic bool is_used[1 + PARTICIPANTS];
};
_Static_assert(sizeof(struct area) <= AREA_PAGE, "the first page holds it");

/* Participants count from 1, and so do slots over all of them; 0 is nobody. */
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

int twl_identity_of(int fd, struct identity *ret_identity);
bool twl_identity_is_same(const struct identity *a, const struct identity *b);

/* Gives back all locks of an open file, area or data, and closes it: a child that was made by clone() alone has the
 * same open file, and would keep them. */
void twl_area_close(int fd);
/* Byte 0, for coming and going; waits. */
int twl_area_lock(int fd);
void twl_area_unlock(int fd);
/* A participant's byte, or RECORD_BYTE: false if somebody has it, who then is alive. Two threads on one descriptor do
 * not keep each other out. */
bool twl_area_try_lock_participant(int fd, unsigned number);
void twl_area_unlock_participant(int fd, unsigned number);
/* Is any participant alive that does not stand on this descriptor? */
int twl_area_has_others(int fd, bool *ret_has);

/* Has the file the size of an area? */
bool twl_area_is_whole(int fd);
/* The area, of a file that has; and away with it. */
int twl_area_map(int fd, struct area **ret_area);
void twl_area_unmap(struct area *area);
/* A page of it could not be had, on a full file system without reserved space. This process has memory of its own in
 * its place, and nothing that it finds in the area, or stores there, means anything any more. */
bool twl_area_is_lost(const struct area *area);
/* Is it one of ours, and finished? Looks at no page but the first. */
bool twl_area_is_known(const struct area *area);
/* Is it also that file's, and made since the system started? False where that can't be told. */
bool twl_area_is_of(const struct area *area, const struct identity *identity);

/* Makes the file an area again, whatever it was; nobody else is alive in it. The blocks of the first page are
 * reserved. It is not ready: the caller fills in the rest, then calls the second. */
int twl_area_prepare(int fd);
void twl_area_finish(struct area *area);
/* Blocks for that participant's page, so that storing to it can't meet a full disk. -ENOTSUP: there is no such thing on
 * this file system. */
int twl_area_reserve_participant(int fd, unsigned number);

#endif
