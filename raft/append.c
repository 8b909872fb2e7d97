/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries to records. An append is submitted and returns; the log gathers what comes meanwhile into one write and one
 * sync, and hands completed requests to a queue, in the order of their LSNs. The loop polls the queue's descriptor.
 *
 * libraft: callbacks in the order of the calls, each exactly once, never inside append(): raft adds up what was stored,
 * an index is not passed. A call that refuses is harmless, a callback that fails is not: the leader has sent the
 * entries by then, and gives their index and term to others; a follower counts past the hole. So a failure after the
 * call ends the server (see stop_storing()), and its callbacks wait for the close.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define BATCH_ENTRIES 64u
#define RECORD_BYTES 40u /* at most: the term, what the log adds to a record, and its alignment */

struct append {
    struct twinlog_request request; /* first */
    struct raft_io_append *req;
    raft_io_append_cb cb;
    uint64_t last_index, last_term; /* of its newest entry */
    unsigned truncations;           /* before it */
    unsigned n;                     /* entries */
    uint64_t bytes, start_ns;
    struct append *next; /* in `held` */
};

uint32_t largest_entry(const struct storage *s)
{
    return s->options.buffer_bytes - (16u << 10);
}

/* Some entries as one batch of the log. */
struct batch {
    struct twinlog_entry entries[BATCH_ENTRIES];
    struct iovec pieces[BATCH_ENTRIES][2];
    uint8_t terms[BATCH_ENTRIES][8];
    uint32_t count;
};

/* Takes entries as long as they fit. A batch of the log must fit into its buffer. */
static void fill_batch(const struct storage *s, struct batch *batch, const struct raft_entry *entries,
                       unsigned n)
{
    size_t room = s->options.buffer_bytes / 2, bytes = 0;
    uint32_t i;
    for (i = 0; i < BATCH_ENTRIES && i < n; i++) {
        bytes += entries[i].buf.len + RECORD_BYTES;
        if (i > 0 && bytes > room)
            break;
        put_u64(batch->terms[i], entries[i].term);
        batch->pieces[i][0] = (struct iovec){ batch->terms[i], 8 };
        batch->pieces[i][1] = (struct iovec){ entries[i].buf.base, entries[i].buf.len };
        batch->entries[i] = (struct twinlog_entry){ .pieces = batch->pieces[i],
                                                    .piece_count = entries[i].buf.len > 0 ? 2 : 1,
                                                    .type = (uint8_t)entries[i].type };
    }
    batch->count = i;
}

/* Nothing may be left of a call that refuses: the next entry gets the same index. */
static int take_back(struct storage *s, int error)
{
    if (twinlog_last_lsn(s->log) >= s->next_index) {
        int rc = twinlog_truncate(s->log, s->next_index - 1);
        if (rc < 0)
            stop_storing(s, "entries of a refused append stay in the log", rc);
    }
    return error;
}

/* Only the last batch has the request: it is completed when all before it are durable, too. */
static int submit(struct storage *s, const struct raft_entry *entries, unsigned n, struct append *append)
{
    const struct twinlog_terms later = { .size = sizeof(later), .level = TWINLOG_LEVEL_BUFFERED };
    struct batch batch;
    uint64_t first = 0, next = s->next_index;
    for (unsigned i = 0; i < n; i += batch.count) {
        fill_batch(s, &batch, entries + i, n - i);
        int rc;
        if (i + batch.count < n) {
            rc = twinlog_append_batch(s->log, batch.entries, batch.count, &later, &first);
        } else {
            rc = twinlog_submit(s->log, batch.entries, batch.count, NULL, &append->request);
            first = append->request.first_lsn;
        }
        if (rc < 0)
            return take_back(s, rc);
        if (first != next)
            abort(); /* an entry under another index: nothing that is acknowledged from here on would be true */
        next += batch.count;
    }
    s->next_index = next;
    return 0;
}

static int check_entries(struct storage *s, const struct raft_entry *entries, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (entries[i].buf.len > largest_entry(s))
            return report_text(s, RAFT_TOOBIG, "an entry is too large for the log's buffer");
        if (entries[i].type > UINT8_MAX)
            return report_text(s, RAFT_INVALID, "an entry of an unknown type");
    }
    return 0;
}

int append_entries(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[],
                   unsigned n, raft_io_append_cb cb)
{
    struct storage *s = storage_of(io);
    if (s->is_failed || s->is_closing)
        return report_text(s, RAFT_IOERR, "the log takes no more entries");
    /* A follower ignores entries meanwhile; a server that becomes leader has to wait. */
    if (s->is_installing)
        return report_text(s, RAFT_BUSY, "a snapshot is being installed");
    int rv = check_entries(s, entries, n);
    if (rv != 0)
        return rv;
    struct append *append = calloc(1, sizeof(*append));
    if (append == NULL)
        return report_text(s, RAFT_NOMEM, "out of memory");
    append->request.queue = s->queue;
    append->request.context = s;
    append->req = req;
    append->cb = cb;
    append->start_ns = uv_hrtime();
    int rc = submit(s, entries, n, append);
    if (rc < 0) {
        free(append);
        return report(s, "append", rc);
    }
    append->last_index = s->next_index - 1;
    append->last_term = entries[n - 1].term;
    append->truncations = s->truncations;
    append->n = n;
    for (unsigned i = 0; i < n; i++)
        append->bytes += entries[i].buf.len;
    s->stat.queued_entries += n;
    s->stat.queued_bytes += append->bytes;
    s->appends++;
    return 0;
}

/* One entry, durable on return. */
int append_at_once(struct storage *s, const struct raft_entry *entry)
{
    struct batch batch;
    uint64_t lsn;
    int rv = check_entries(s, entry, 1);
    if (rv != 0)
        return rv;
    fill_batch(s, &batch, entry, 1);
    int rc = twinlog_append_batch(s->log, batch.entries, 1, NULL, &lsn);
    if (rc == 0)
        s->next_index = lsn + 1;
    return report(s, "append", rc);
}

/* Rare: a server that was leader has entries that the new leader does not have. The log commits what was submitted
 * before, and those callbacks still come. */
int truncate_entries(struct raft_io *io, raft_index index)
{
    struct storage *s = storage_of(io);
    if (s->is_failed || s->is_closing || s->is_installing)
        return report_text(s, RAFT_IOERR, "the log takes no changes now");
    int rc = lower_promise(s, index - 1);
    if (rc == 0)
        rc = twinlog_truncate(s->log, index - 1);
    if (rc == 0)
        s->next_index = index;
    return report(s, "truncate", rc);
}

static void call_back(struct append *append, int status)
{
    struct raft_io_append *req = append->req;
    raft_io_append_cb cb = append->cb;
    free(append);
    cb(req, status);
}

/* One write for all. What was truncated meanwhile is acknowledged, too, but it is no entry of the log any more. */
static void promise_newest(struct storage *s, struct twinlog_request *const *done, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        const struct append *append = (const struct append *)done[i];
        if (append->request.result == 0 && append->truncations == s->truncations) {
            promise(s, append->last_index, append->last_term);
            return;
        }
    }
}

/* Into its bucket, as twinlog_admin.h says. */
static void note_time(struct twinlog_histogram *histogram, uint64_t ns)
{
    unsigned high = ns < 8 ? 0 : 63 - (unsigned)__builtin_clzll(ns);
    size_t bucket = ns < 8 ? ns : 8 * (high - 2) + (ns >> (high - 3) & 7);
    histogram->buckets[bucket < TWINLOG_BUCKETS ? bucket : TWINLOG_BUCKETS - 1]++;
    histogram->count++;
    histogram->sum += ns;
    histogram->max = ns > histogram->max ? ns : histogram->max;
}

static void count(struct storage *s, const struct append *append)
{
    uint64_t ns = uv_hrtime() - append->start_ns;
    s->stat.queued_entries -= append->n;
    s->stat.queued_bytes -= append->bytes;
    if (append->request.result < 0)
        return;
    note_time(&s->stat.append_ns, ns);
}

/* Calls back for what is durable; waits for the first one up to timeout_ms. A callback may append, and close. */
void complete_appends(struct storage *s, int timeout_ms)
{
    struct twinlog_request *done[256];
    int n = twinlog_queue_poll(s->queue, done, 256, timeout_ms);
    promise_newest(s, done, n);
    for (int i = 0; i < n; i++) {
        struct append *append = (struct append *)done[i];
        s->appends--;
        count(s, append);
        if (append->request.result < 0)
            stop_storing(s, "append", append->request.result);
        if (s->is_failed && !s->is_closing) {
            append->next = NULL;
            *s->tail = append;
            s->tail = &append->next;
        } else {
            call_back(append, 0);
        }
    }
}

/* libraft: a closing raft sends nothing, so success frees the entries and says nothing to others. With an error it
 * might truncate beyond the end of its log. */
void release_held(struct storage *s)
{
    struct append *append;
    while ((append = s->held) != NULL) {
        s->held = append->next;
        call_back(append, 0);
    }
    s->tail = &s->held;
}
