/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file "writer.lock": who writes the log, how far it is durable and where it begins, for readers in
 * this and other processes to see and to wait on.
 *
 * Its lock keeps a second writer out. Its first page is shared memory in which the writer publishes; it
 * survives the writer's death, and nothing depends on it: without a writer its contents are ignored (I7).
 * Where the page can't be shared, a page of the writer's own does for readers inside its process. When somebody
 * makes the file shorter under a mapping, the page turns into memory of the process that looks (io.h): the writer
 * goes on in it, and a reader elsewhere looks for another one.
 *
 * Behind the page there is room for a copy of what the writer counts, which it puts there when it is asked. That
 * is written and read, not mapped: so a full disk or a file that was cut is an error code, and no more.
 */
#ifndef TWL_LIVE_H
#define TWL_LIVE_H

#include "base/watermark.h"
#include "io/io.h"

#define LIVE_NAME "writer.lock"
#define LIVE_COMMON_OFFSET 1024u /* in the page: what processes that write the log together share */

/* All fields are [atomic]; the writer stores, but for the two that readers wait with. */
struct live_page {
    _Atomic uint64_t magic;
    _Atomic uint32_t epoch;   /* of the writer; 0 while it recovers. A cut begins a new one, stored before any
                                 LSN of it is published */
    _Atomic uint32_t pulse;   /* a futex word: one more after every publication */
    _Atomic uint32_t awaited; /* newest pulse that a reader in any process sleeps on; the next one then has to
                                 wake. A reader that dies in its sleep costs one needless wake-up */
    _Atomic uint32_t
        mode; /* enum twinlog_mode. But for the durable one, records are there as soon as they are complete */
    struct watermark durable;
    _Atomic uint64_t first_lsn; /* oldest LSN that is kept, or the one that comes first */
    _Atomic uint64_t
        offer; /* the layout of the copies that this writer makes, and its epoch above it: a writer
                                   that knows of no copies leaves an older epoch there */
    _Atomic uint64_t
        wanted_ns; /* copies are wanted until then, on CLOCK_MONOTONIC; those who want them store */
};

struct live {
    struct io *io;
    struct io_file *file;
    struct live_page *page; /* a writer always has one; a reader has NULL where there is none to see */
    bool is_ours;           /* this process is the writer */
    bool is_private;        /* the page is memory of this process */
    bool is_shared;         /* other processes are writers, too: what goes up is raised */
    bool is_writable;       /* the page can be written: a reader can announce that it sleeps */
    uint32_t layout;        /* of the copies that are offered, 0 = none */
    /* what the writer published last, in case it has to do so again */
    _Atomic uint32_t own_epoch;
    _Atomic uint32_t own_mode;
    _Atomic uint64_t own_first_lsn;
};

/* Takes the lock: -EBUSY if another writer has it after wait_ms. Until twl_live_publish() readers see
 * a watermark of 0. */
int twl_live_lock(struct io *io, unsigned wait_ms, struct live *ret_live);
/* The same for who has the lock already, on a file of its own, and will share it: -ENOTSUP if the page can't be. */
int twl_live_share(struct io *io, struct live *ret_live);
/* For who writes a log that others have open: nothing is changed. -ENOTSUP if there is no page to be shared. */
int twl_live_join(struct io *io, struct live *ret_live);
/* What the writer has recovered, or is left with after a cut. */
void twl_live_publish(struct live *live, uint32_t epoch, uint64_t first_lsn, uint64_t durable_lsn);
/* Before twl_live_publish(), of a log that is written through a mapping: readers look for complete records in it. */
void twl_live_publish_mode(struct live *live, uint32_t mode);
void twl_live_publish_durable(struct live *live, uint64_t durable_lsn); /* the leader, after each group */
void twl_live_publish_epoch(struct live *live, uint32_t epoch);         /* the same log, in another one */
void twl_live_publish_first(struct live *live, uint64_t first_lsn);     /* after a trim */
/* Something can be seen that is not told here: wakes those who wait. Little more than a look if nobody does. */
void twl_live_nudge(struct live *live);
void twl_live_unlock(struct live *live);

/* For readers in other processes. A log without the file has no writer; the result is then empty and good
 * for all calls. */
int twl_live_watch(struct io *io, struct live *ret_live);
/* The file did not exist, or could not be shared, when it was watched, or was removed since: maybe there is one
 * now. 1 = the page is another one than before. */
int twl_live_watch_again(struct live *live);
int twl_live_has_writer(struct live *live, bool *ret_has_writer);
bool twl_live_is_written(struct live *live); /* the same, and no where that can't be told */
uint32_t twl_live_epoch(const struct live *live);
uint64_t twl_live_durable_lsn(const struct live *live);
uint64_t twl_live_first_lsn(const struct live *live); /* 0 = not known */
uint32_t twl_live_mode(const struct live *live);
bool twl_live_is_mapped(const struct live *live); /* in any mode but the durable one */
void twl_live_unwatch(struct live *live);

/* Copies: `layout` says what they are made of, and how large they are. A writer offers them from its next
 * twl_live_publish() on; one look at a word tells whether somebody wants one. */
void twl_live_offer_copies(struct live *live, uint32_t layout);
bool twl_live_is_copy_wanted(const struct live *live);
int twl_live_put_copy(struct live *live, const void *copy, size_t size);
/* For those who want one. -EACCES: the file may not be written. -EAGAIN: the writer has published nothing yet.
 * -ENOTSUP: it offers no copies of this layout. */
int twl_live_want_copies(struct live *live, uint32_t layout, uint64_t until_ns);
/* Maybe an older one, or half of one. -ENODATA: there never was one. */
int twl_live_get_copy(struct live *live, void *copy, size_t size);

/* Waits for a publication: read the pulse, look at what it tells, then sleep while it is still `seen`. Returns
 * early for any reason. timeout_ms < 0: no limit, where the writer is sure to wake us; otherwise a limit is
 * chosen. */
uint32_t twl_live_pulse(const struct live *live);
/* Says that somebody is about to sleep. Who writes through a mapping has no pulse for each record, but one for those who
 * wait: so first this, then a look at the records, then the sleep. */
void twl_live_await(struct live *live, uint32_t seen);
void twl_live_sleep(struct live *live, uint32_t seen, int timeout_ms);
void twl_live_wake(struct live *live); /* ends the sleep of everybody here, as a publication does */

#endif
