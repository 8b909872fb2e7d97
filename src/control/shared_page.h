/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file "writer.lock": it shows readers in this and other processes which writer the log has, how far the
 * log is durable and where it begins, and lets them wait for news.
 *
 * The lock on the file keeps a second writer out. The first page of the file is shared memory, in which the writer
 * publishes. The page survives the writer's death, but nothing depends on it: without a writer its contents are
 * ignored (I7). If the page can't be shared, or a full disk has no room for it, the writer uses private memory for
 * readers inside its own process. If a process makes the file shorter while it is mapped, the page turns into memory
 * of the process that looks (io.h): the writer goes on in it, and a reader in another process looks for a new page.
 *
 * Behind the page, mapped with it, are the writer's statistics: counters where the writer counts.
 */
#ifndef TWL_SHARED_PAGE_H
#define TWL_SHARED_PAGE_H

#include "base/base.h"
#include "base/statistics.h"
#include "base/trim_ask.h"
#include "base/watermark.h"
#include "io/io.h"

#include <sys/types.h>

#define PAGE_FILE_NAME "writer.lock"
#define PAGE_COMMON_OFFSET 1024u /* in the page: the part for processes that write the log together */
/* For so long after the writer has published, its file system is not taken for frozen. */
#define PAGE_FRESH_NS UINT64_C(5000000)
#define PAGE_FILE_BYTES 32768u /* of the file: the page, and the statistics from BLOCK_BYTES on */

/* All fields are [atomic]. The writer stores them. Readers also store `page_sequence` and `awaited_sequence`. */
struct page_words {
    _Atomic uint64_t magic;
    /* That of the writer; 0 while it recovers. A truncation begins a new one, stored before any LSN of it is
     * published. */
    _Atomic uint32_t epoch;
    _Atomic uint32_t page_sequence; /* a futex word: one more after every publication */
    /* The newest sequence that a reader in any process sleeps on; the next publication must wake it. A reader that dies
     * asleep costs one needless wake-up. */
    _Atomic uint32_t awaited_sequence;
    /* An enum twinlog_mode. In any mode but the durable one, a complete record can be read at once. */
    _Atomic uint32_t mode;
    struct watermark durable;
    _Atomic uint64_t first_lsn;  /* oldest LSN that is kept, or the first one to come */
    _Atomic uint64_t writer;     /* twl_process_word(); 0: several processes write */
    _Atomic uint32_t left_epoch; /* newest epoch that an opening writer has found here; 0 = none */
    _Atomic int poison; /* 0 or the error that poisoned the log; in shared mode that of all participants */
    _Atomic uint64_t noted_segment, noted_group, noted_records; /* see struct note; openings keep it */
    struct trim_ask trim_ask;
    _Atomic uint64_t noted_end; /* belongs to the note */
};

/* Offsets of the newest durable group, and of the newest one with records, as the writer has noted them in the page: a
 * walk may begin there. It is a hint: the page is never synced, so the note may be old, mixed from two notes, or
 * anything. The group that a walk finds there proves what the walk has passed over (twl_iter_pass_to()). */
struct note {
    uint64_t segment_id, group, records;
    uint64_t end;   /* of the newest group: what lies behind it is not worth reading ahead */
    uint32_t epoch; /* the newest one that the page tells of */
};

struct shared_page {
    struct io *io;
    struct io_file *file;
    struct page_words *page; /* a writer always has one; a reader has NULL if no page can be seen */
    /* [atomic] The page once more, read-only, to sleep on; NULL before the first sleep, or if there can be none. */
    _Atomic(struct page_words *) view;
    struct statistics *statistics; /* behind it */
    bool is_ours;                  /* this process is the writer */
    bool is_private;               /* the page is private memory of this process */
    bool is_shared;                /* other processes write, too: a value that grows is raised, not stored */
    bool is_writable;              /* the page can be written, so a reader can announce that it sleeps */
    uint32_t left_epoch;           /* newest one that earlier writers had left in the page; 0 = none */
    /* What the writer published last, in case it has to publish it again. */
    _Atomic uint32_t own_epoch;
    _Atomic uint32_t own_mode;
    _Atomic uint64_t own_first_lsn;
    /* `page_sequence` and `awaited_sequence` for readers attached to a log that one process writes: a store to the page
     * may wait for the disk, and a reader has a time-out. */
    _Atomic uint32_t own_sequence, own_awaited;
    /* A reader has asked for `own_sequence`. Before that nothing changes it. */
    _Atomic bool has_own_readers;
    /* When a reader of this handle has last seen that something had come, and that it had just come; 0 = not yet. */
    _Atomic uint64_t change_ns, news_ns;
};

/* The writer itself, and no other process writes: its readers have words of their own. */
static inline bool page_is_own(const struct shared_page *shared)
{
    return shared->is_ours && !shared->is_shared;
}

/* What readers of this page compare with the sequence that they have seen; NULL if there is no page. */
static inline const _Atomic uint32_t *page_sequence_word(const struct shared_page *shared)
{
    if (page_is_own(shared))
        return &shared->own_sequence;
    if (!shared->page)
        return NULL;
    return &shared->page->page_sequence;
}

/* Takes the lock: -EBUSY if another writer has it after wait_ms. Until twl_page_publish() readers see a
 * watermark of 0. */
int twl_page_lock(struct io *io, unsigned wait_ms, struct shared_page *ret_shared);
/* For a message, after -EBUSY: the PID of the writer. 0: several processes write, or it is not known (process.h), as
 * of one that has just taken the lock: the one before has removed its PID, or has been killed. */
pid_t twl_page_writer(struct io *io);
/* The same for a writer that already has the lock, on the open file `lock`, and will share the log. -ENOTSUP if the
 * page can't be shared. -EBUSY: that file was removed meanwhile, so another writer may have this one. */
int twl_page_share(struct io_file *lock, struct shared_page *ret_shared);
/* Does the directory still have the files of the log that the writer has open? -ESTALE: the directory was removed, or
 * the files in it; there may be another log by now. */
int twl_page_check_log(const struct shared_page *shared);
/* For a process that joins other writers of the log: changes nothing. -ENOTSUP if there is no page to share. */
int twl_page_join(struct io *io, struct shared_page *ret_shared);
/* Publishes what the writer has recovered, or what a truncation has left. `mode`: an enum twinlog_mode; readers of a
 * log that is written through a mapping look for complete records in it. */
void twl_page_publish(struct shared_page *shared, uint32_t mode, uint32_t epoch, uint64_t first_lsn,
                      uint64_t durable_lsn);
/* By the leader, before the group is published. */
void twl_page_note(struct shared_page *shared, uint64_t segment_id, uint64_t offset, uint64_t end,
                   bool has_records);
/* By the leader, after each group. */
void twl_page_publish_durable(struct shared_page *shared, uint64_t durable_lsn);
void twl_page_publish_epoch(struct shared_page *shared, uint32_t epoch); /* the same log in another epoch */
void twl_page_publish_first(struct shared_page *shared, uint64_t first_lsn); /* after a trim */
void twl_page_publish_poison(struct shared_page *shared, int error); /* for watchers; the first one stays */
/* Wakes waiting readers after a record becomes visible without being published. Little more than one load
 * if no reader waits. */
void twl_page_nudge(struct shared_page *shared);

/* For readers in other processes. A log without the file has no writer; the result is then empty, and
 * valid for all calls. */
int twl_page_watch(struct io *io, struct shared_page *ret_shared);
/* Looks for the page again, if the file did not exist or could not be shared before, or was removed since.
 * 1 = there is another page now. */
int twl_page_watch_again(struct shared_page *shared);
/* Asks the lock: is there a process that has the log open to write? */
int twl_page_has_writer(struct shared_page *shared, bool *ret_has_writer);
/* The same; false also if it can't be determined. */
bool twl_page_has_known_writer(struct shared_page *shared);
/* Looks for the page again, as twl_page_watch_again(), and then whether there is a writer. */
int twl_page_look_for_writer(struct shared_page *shared, bool *ret_has_writer);
uint32_t twl_page_epoch(const struct shared_page *shared);
uint64_t twl_page_durable_lsn(const struct shared_page *shared);
uint64_t twl_page_first_lsn(const struct shared_page *shared); /* 0 = not known */
uint32_t twl_page_mode(const struct shared_page *shared);
struct note twl_page_get_note(const struct shared_page *shared);
int twl_page_poison(const struct shared_page *shared);     /* 0, or the error that poisoned the log */
bool twl_page_is_mapped(const struct shared_page *shared); /* in any mode except the durable one */
void twl_page_unwatch(struct shared_page *shared);         /* of a writer: gives the lock back, too */

/* Waits for a publication; a reader that is attached to the only writer stores nothing to the page. Read the
 * sequence, look at what it announces, then sleep while it is still `seen`. Returns early for any reason. timeout_ms
 * < 0: no limit if the writer is certain to wake the reader; otherwise a limit is chosen. */
uint32_t twl_page_sequence(struct shared_page *shared);
/* Announces that a reader is about to sleep. A writer that writes through a mapping does not advance the sequence for
 * each record, only for readers that wait. So first call this, then look at the records, then sleep.
 * False: it can't, so nobody will wake the reader. `may_wait`: for the disk, with the store, as long as that takes. */
bool twl_page_announce_sleep(struct shared_page *shared, uint32_t seen, bool may_wait);
/* Until the sequence is another one, or the time-out (-1 = none), or for a while. `is_announced`: the result of
 * twl_page_announce_sleep(); if it is false, the while is short. */
void twl_page_sleep(struct shared_page *shared, uint32_t seen, int timeout_ms, bool is_announced);
/* Something has come; `is_fresh`: just now. `sequence`: the newest one that was seen. */
void twl_page_note_news(struct shared_page *shared, uint32_t sequence, bool is_fresh);
/* Does a reader keep up with the writer? It has waited for one of the last few publications: one that was just woken is
 * about to wait again. */
bool twl_page_is_awaited(const struct shared_page *shared);
/* Wakes readers that sleep: those of this process, and mostly others. One that is about to sleep may not notice. */
void twl_page_wake(struct shared_page *shared);

#endif
