/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk with a volatile write cache, served as one file by a FUSE file system; a loop device makes a block
 * device of it, and a real file system is put on top.
 *
 * What is written goes to the cache. The cache hands sectors on to the medium when it likes, and all of them when
 * it is told to flush. When the power goes, each sector that is left in it reaches the medium or does not. A
 * sector has 512 bytes and is never torn.
 *
 * File systems rely on more: that a block of theirs is there or not. So sectors of one block of 4 KiB share their
 * fate, unless the block holds a piece of a twinlog, which is known by its magic numbers, or `torn_text`.
 *
 * All of it is in memory that the server and the test share, so that the test needs no protocol: it takes the
 * lock and does what it wants. It outlives the server.
 */
#ifndef TWL_POWERCUT_DISK_H
#define TWL_POWERCUT_DISK_H

#include "rng.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SECTOR_BYTES 512u
#define BLOCK_SECTORS 8u
#define DISK_BYTES (UINT64_C(320) << 20) /* the least that mkfs.xfs takes is 300 MiB */
#define DISK_SECTORS (DISK_BYTES / SECTOR_BYTES)
#define DISK_NAME "disk"
#define NEVER UINT64_MAX
/* docs/format.md: the second four bytes of a group, and of a footer. */
#define DISK_GROUP_MAGIC 0x47575431u
#define DISK_FOOTER_MAGIC 0x46575431u

struct disk {
    pthread_mutex_t lock;
    pthread_cond_t thawed; /* [lock] or powered off */

    /* [lock] all that follows */
    bool is_frozen;       /* the power is going: no request comes to its end */
    uint64_t boots;       /* what was opened before the last one gets EIO */
    bool forgets_flushes; /* the lie */
    char torn_text[64];   /* "", or blocks with these bytes in them may be torn */
    uint64_t fail_write;  /* number of the first write that fails, as all after it; NEVER */
    uint64_t fail_flush;  /* the same of flushes */
    uint32_t write_delay_ms;
    uint64_t named_from, named_to; /* sectors; none if they are equal */
    bool named_fail;               /* writes to them fail */
    void (*when_named)(
        void *context); /* NULL, or called before anybody hears of a write to them; in the server */

    uint64_t writes, flushes; /* so far */
    uint64_t failures;        /* of either */
    uint64_t delayed;         /* writes that wait now */
    void (*when_failing)(
        void *context);  /* NULL, or called before anybody hears of the first failure; in the server */
    void *context;       /* in memory that is shared with it */
    uint64_t kept, lost; /* sectors in the cache when the power went */
    struct rng rng;

    unsigned char *medium; /* DISK_BYTES */
    unsigned char *cache;  /* DISK_BYTES, those of the sectors that are listed */
    uint32_t *listed;      /* sectors in the cache */
    unsigned char *mark;   /* by sector: 0, or what is in the cache */
    uint64_t listed_count;
};

/* `medium_fd`: a file of DISK_BYTES, which becomes the medium. */
struct disk *disk_make(int medium_fd);

/* Serves the file DISK_NAME in that directory until it is unmounted. Runs in a process of its own; calls
 * `when_mounted` as soon as the file can be opened. */
int disk_serve(struct disk *disk, const char *directory, void (*when_mounted)(void *context), void *context);

/* The power goes: from now on no request comes to its end, and the medium is what it will be. */
void disk_cut(struct disk *disk, uint64_t seed);
/* It comes back, to a machine that was started again. */
void disk_restart(struct disk *disk);

/* From the n-th on, counted from now; NEVER: they work. */
void disk_fail_writes(struct disk *disk, uint64_t n);
void disk_fail_flushes(struct disk *disk, uint64_t n);
/* Writes to these bytes fail, or only call `when_named`. An empty range: they do neither. */
void disk_name_blocks(struct disk *disk, uint64_t from, uint64_t to, bool fail);
uint64_t disk_failures(struct disk *disk);

void disk_delay_writes(struct disk *disk, uint32_t ms);
uint64_t disk_delayed(struct disk *disk); /* writes that are on their way now */

#endif
