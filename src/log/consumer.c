/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer: a reader that goes on where its name's cursor stands, and moves the cursor.
 *
 * It is a read-only handle of the log, through which any process changes cursors, and a reader. A lock keeps a second
 * consumer of the name out. The cursor is made before the first record is read, so no trim passes a consumer.
 *
 * A truncation moves cursors back. A consumer must notice each one, or it would go on behind records that took the
 * place of those that it has finished with:
 *  - When it opens: the cursor is read, then the log, then the cursor again. If the log ends before the cursor,
 *    a truncation is about to move it. Until it has done so, nothing is appended.
 *  - When the cursor moves: the reader, which has passed what was finished with, looks again inside the change of the
 *    state file. A truncation that it does not see then moves the cursor back afterwards.
 */
#include "base/versioned.h"
#include "format/checksum.h"
#include "log/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The locks of the file "consumers"; see docs/format.md, Locks. */
#define FIRST_LOCK 16u
#define CONSUMER_LOCKS (1u << 30)

struct twinlog_consumer {
    struct twinlog *log; /* [const] read-only */
    struct twinlog_reader *reader;
    struct io_file *lock; /* [const] */
    char name[TWINLOG_NAME_BYTES];
    uint64_t returned_lsn;  /* newest LSN that was returned, or that the cursor had passed */
    uint64_t committed_lsn; /* where the cursor is */
};

/* ---- opening ----------------------------------------------------------------------------------- */

/* Locks the byte of the file "consumers" that a checksum of the name chooses. So two names may exclude each other, one
 * pair in 2^30. The kernel drops the lock at any death. -EMLINK, also if the lock is taken: in a copy made of links,
 * consumers of the original would be in the way. */
static int lock_name(struct twinlog_consumer *consumer)
{
    const uint32_t number = twl_crc32c(0, consumer->name, strlen(consumer->name)) % CONSUMER_LOCKS;
    uint32_t links;

    const int rc = twl_open_locked(consumer->log->io, CONSUMERS_NAME, IO_CREATE,
                                   (enum io_lock)(FIRST_LOCK + number), 0, &consumer->lock, &links);
    if (links > 1)
        return -EMLINK;
    return rc;
}

static int take_name(struct twinlog_consumer *consumer, struct twinlog_report *ret_report)
{
    const int rc = lock_name(consumer);

    if (rc == -EBUSY)
        twl_report(ret_report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_REFUSE, -EBUSY,
                   "a consumer of this name is open");
    else if (rc < 0)
        twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, rc,
                   "cannot lock the file %s: %s", CONSUMERS_NAME, twinlog_strerror(rc));
    return rc;
}

/* In front of the oldest record, or behind the newest. A trim or a truncation may be faster: then the record is not
 * there any more. */
static int make_cursor(struct twinlog_consumer *consumer, bool is_from_end)
{
    uint64_t first_lsn, lsn = 0;
    int rc = 0;

    if (is_from_end)
        rc = twl_look(consumer->log, &first_lsn, &lsn);
    if (rc == 0)
        rc = twinlog_cursor_set(consumer->log, consumer->name, lsn);
    if (rc == TWINLOG_ETRIMMED || rc == -ERANGE)
        return 0;
    return rc;
}

/* The cursor of the name. If there is none, it is made; if it is not there then, it is made again. */
static int find_cursor(struct twinlog_consumer *consumer, bool is_from_end, uint64_t *ret_lsn)
{
    int rc = twinlog_cursor_get(consumer->log, consumer->name, ret_lsn);

    while (rc == -ENOENT) {
        rc = make_cursor(consumer, is_from_end);
        if (rc == 0)
            rc = twinlog_cursor_get(consumer->log, consumer->name, ret_lsn);
    }
    return rc;
}

/* The reader was made after the cursor had been read. If the reader gets less far than the cursor, a truncation is
 * about to move that; so this goes on until the cursor has not moved meanwhile. */
static int go_to_cursor(struct twinlog_consumer *consumer, bool is_from_end, uint64_t lsn)
{
    bool is_new = true;

    for (;;) {
        uint64_t lsn_now = 0;
        int rc = twl_reader_resume(consumer->reader, lsn, is_new, &consumer->returned_lsn);
        consumer->committed_lsn = consumer->returned_lsn;
        if (rc == 0)
            rc = find_cursor(consumer, is_from_end, &lsn_now);
        if (rc < 0)
            return rc;

        const bool is_settled = lsn_now == lsn;
        if (is_settled)
            return 0;
        lsn = lsn_now;
        is_new = false;
    }
}

static struct twinlog_reader_options reading_with(const struct twinlog_consumer_options *options)
{
    struct twinlog_reader_options reading = TWINLOG_READER_OPTIONS_INIT;

    reading.ret_report = options->ret_report;
    if (options->flags & TWINLOG_CONSUMER_MMAP)
        reading.flags |= TWINLOG_READER_MMAP;
    if (options->flags & TWINLOG_CONSUMER_DURABLE)
        reading.flags |= TWINLOG_READER_DURABLE;
    return reading;
}

static int open_steps(struct twinlog_consumer *consumer, const struct twinlog_consumer_options *options)
{
    const struct twinlog_reader_options reading = reading_with(options);
    const bool is_from_end = options->flags & TWINLOG_CONSUMER_FROM_END;
    uint64_t lsn = 0;

    int rc = take_name(consumer, options->ret_report);
    if (rc == 0)
        rc = find_cursor(consumer, is_from_end, &lsn);
    if (rc == 0)
        rc = twinlog_reader_attach(consumer->log, &reading, &consumer->reader);
    if (rc == 0)
        rc = go_to_cursor(consumer, is_from_end, lsn);
    return rc;
}

int twl_consumer_open(struct io *io, const char *name, const struct twinlog_consumer_options *options,
                      struct twinlog_consumer **ret_consumer)
{
    NOT_CANCELLED; /* the name would stay taken */
    struct twinlog_options opening = TWINLOG_OPTIONS_INIT;
    struct twinlog_consumer *consumer = calloc(1, sizeof(*consumer));
    if (!consumer) {
        io->ops->destroy(io);
        return -ENOMEM;
    }

    memcpy(consumer->name, name, strlen(name) + 1);
    opening.flags = TWINLOG_READ_ONLY;
    opening.ret_report = options->ret_report;
    int rc = twl_log_open(io, &opening, &consumer->log);
    if (rc == 0)
        rc = open_steps(consumer, options);
    if (rc < 0)
        twinlog_consumer_close(consumer);
    else
        *ret_consumer = consumer;
    return rc;
}

void twinlog_consumer_close(struct twinlog_consumer *consumer)
{
    if (!consumer)
        return;
    if (consumer->log && twl_fork_guard_is_forked(&consumer->log->guard))
        return;

    NOT_CANCELLED;
    twinlog_reader_close(consumer->reader);
    io_close(consumer->lock);
    twinlog_close(consumer->log);
    free(consumer);
}

/* ---- consuming --------------------------------------------------------------------------------- */

int twinlog_consumer_next(struct twinlog_consumer *consumer, struct twinlog_record *ret_record)
{
    if (!consumer || !ret_record)
        return -EINVAL;

    const int found = twinlog_reader_next(consumer->reader, ret_record);
    if (found > 0)
        consumer->returned_lsn = ret_record->lsn;

    const bool has_moved_cursor = found == TWINLOG_ETRIMMED || found == TWINLOG_ETRUNCATED;
    if (!has_moved_cursor)
        return found;
    consumer->committed_lsn = 0;
    return twl_reader_pass_gap(consumer->reader, &consumer->returned_lsn);
}

int twinlog_consumer_commit(struct twinlog_consumer *consumer, uint64_t lsn)
{
    if (!consumer || lsn > consumer->returned_lsn)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&consumer->log->guard))
        return TWINLOG_EFORKED;

    if (lsn == 0)
        lsn = consumer->returned_lsn;
    if (lsn <= consumer->committed_lsn) /* unless a truncation has moved the cursor back */
        return twl_reader_check(consumer->reader);

    const int rc = twl_cursor_set_after(consumer->log, consumer->name, lsn, consumer->reader);
    if (rc == 0)
        consumer->committed_lsn = lsn;
    return rc;
}

struct twinlog_reader *twinlog_consumer_reader(struct twinlog_consumer *consumer)
{
    return consumer ? consumer->reader : NULL;
}
