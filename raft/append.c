/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries to records. An append is submitted and returns; the log gathers what comes meanwhile into one write and one
 * sync, and hands completed requests to a queue, in the order of their LSNs. The log has no thread for that: it works
 * where the loop polls the queue, before each wait, and when the queue's descriptor is readable.
 *
 * libraft: callbacks in the order of the calls, each exactly once, never inside append(): raft adds up what was stored,
 * an index is not passed. A callback that fails is harmful: the leader has sent the entries by then, and gives their
 * index and term to others; a follower counts past the hole. So a failure after the call ends the server (see
 * stop_storing()), and its callbacks wait for the close.
 *
 * A full disk is no such failure, since the log has refused the entries. 0.15 is told so. What the log has taken of the
 * call by then is truncated, at once or before the next append. A crash before that leaves these entries in the log,
 * and the next start loads them. Raft had handed them over, and has used their index and term for no others.
 *
 * For 0.22 the append waits, with all that come after it, and a timer tries again; raft is told a capacity
 * of 0 (see io.c), so that a leader takes no more commands. What a new leader truncates meanwhile is not
 * written.
 *
 * libraft: no entry may come a second time, with the same index and term, before the callback of the append that had
 * it. Raft counts references to entries by index and term; 0.22 goes wrong over the second one, and both would take the
 * callback of the first append for that of the second. A leader that was overruled, and leads again, sends such
 * entries. So an append of which nothing is left is called back before the next message. Where some of its entries are
 * left, and wait, its callback would say that these are stored; then the message ends in front of the entries that were
 * taken of it (see transport.c). The leader sends them again.
 */
#include <errno.h>
#include <stdlib.h>

#include "histogram.h"
#include "internal.h"

#define BATCH_ENTRIES 64u
/* raft_uv sends the commands of a message one behind the other, and takes them apart as if each were padded to a
 * multiple of 8 (uvDecodeEntriesBatch()). So commands of other lengths would be other bytes at the other servers. */
#define COMMAND_UNIT 8u
#define RECORD_BYTES 40u /* at most: the term, what the log adds to a record, and its alignment */

struct append {
    struct twinlog_request request; /* first */
    struct raft_io_append *req;
    raft_io_append_cb cb;
    const struct raft_entry *entries; /* raft's, until the callback */
    uint64_t index;                   /* of its first entry */
    unsigned n;                       /* entries */
    unsigned kept;                    /* of them, what no truncation has taken */
    uint64_t bytes, start_ns;
    struct append *next;           /* in a list */
    struct append *next_truncated; /* in s->truncated */
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

/* Nothing may be left of a call that refuses: the next entry gets the same index. A truncation needs a new file, which
 * the full disk that has refused one batch refuses, too. Then what is left goes before the next append. */
static int take_back(struct storage *s, int error)
{
    if (twinlog_last_lsn(s->log) < s->next_index)
        return error;

    const int rc = twinlog_truncate(s->log, s->next_index - 1);
    if (rc == TWINLOG_EPOISONED)
        stop_storing(s, "entries of a refused append stay in the log", rc);
    else if (rc < 0)
        s->cut_index = s->next_index;
    return error;
}

/* Only the last batch has the request: it is completed when all before it are durable, too. */
static int submit(struct storage *s, const struct raft_entry *entries, unsigned n,
                  struct twinlog_request *request)
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
            rc = twinlog_submit(s->log, batch.entries, batch.count, NULL, request);
            first = request->first_lsn;
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
    if (n == 0) /* nothing would call it back */
        return report_text(s, RAFT_INVALID, "an append without entries");

    for (unsigned i = 0; i < n; i++) {
        if (entries[i].buf.len > largest_entry(s))
            return report_text(s, RAFT_TOOBIG, "an entry is too large for the log's buffer");
        if (entries[i].type > UINT8_MAX)
            return report_text(s, RAFT_INVALID, "an entry of an unknown type");
        if (entries[i].type == RAFT_COMMAND && entries[i].buf.len % COMMAND_UNIT != 0)
            return report_text(s, RAFT_MALFORMED, "the length of a command must be a multiple of 8");
    }

    return 0;
}

/* ---- errors -------------------------------------------------------------------------------------- */

/* What the system lacks now, and may have again. */
static bool is_lack(int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG:
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
    case -EBUSY:
    case -EAGAIN:
        return true;
    default:
        return false;
    }
}

/* libraft: 0.15 is told of an error by the call that meets it. For 0.22 it would wait, without a word, for what will
 * never be. */
void stop_if_lasting(struct storage *s, const char *what, int rc)
{
    if (rc == TWINLOG_EPOISONED || (rc < 0 && !MAY_REFUSE && !is_lack(rc)))
        stop_storing(s, what, rc);
}

/* ---- what waits ---------------------------------------------------------------------------------- */

void begin_list(struct append_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void add_to(struct append_list *list, struct append *append)
{
    append->next = NULL;
    *list->end = append;
    list->end = &append->next;
}

static struct append *take_first(struct append_list *list)
{
    struct append *append = list->first;
    list->first = append->next;
    if (list->first == NULL)
        list->end = &list->first;
    return append;
}

void move_list(struct append_list *to, struct append_list *from)
{
    while (from->first != NULL)
        add_to(to, take_first(from));
}

/* The index of raft's next entry. */
static uint64_t next_of_raft(const struct storage *s)
{
    if (s->waiting.first != NULL)
        return s->waiting_next;
    return s->next_index;
}

/* Of those that are not called back. */
uint64_t oldest_append(const struct storage *s)
{
    if (s->held.first != NULL)
        return s->held.first->index;
    if (s->submitted.first != NULL)
        return s->submitted.first->index;
    if (s->waiting.first != NULL)
        return s->waiting.first->index;
    return UINT64_MAX;
}

static bool may_change(const struct storage *s)
{
    return !s->is_installing && !s->is_failed && !s->is_closing;
}

static bool must_wait(const struct storage *s)
{
    return !may_change(s) || s->waiting.first != NULL;
}

static void keep_waiting(struct storage *s, struct append *append)
{
    s->waiting_next = next_of_raft(s) + append->n;
    add_to(&s->waiting, append);
    measure_capacity(s);
}

static void note_truncated(struct storage *s, struct append *append)
{
    append->next_truncated = NULL;
    *s->truncated_end = append;
    s->truncated_end = &append->next_truncated;
}

static void forget_truncated(struct storage *s, struct append *append)
{
    struct append **link = &s->truncated;

    while (*link != append)
        link = &(*link)->next_truncated;
    *link = append->next_truncated;
    if (*link == NULL)
        s->truncated_end = link;
}

static void cut_append(struct append *append, uint64_t index)
{
    const bool was_whole = append->kept == append->n;

    if (append->index >= index)
        append->kept = 0;
    else if (index - append->index < append->kept)
        append->kept = (unsigned)(index - append->index);
    if (was_whole && append->kept < append->n)
        note_truncated(append->request.context, append);
}

void cut_submitted(struct storage *s, uint64_t index)
{
    for (struct append *append = s->submitted.first; append != NULL; append = append->next)
        cut_append(append, index);
}

static void cut_waiting(struct storage *s, uint64_t index)
{
    struct append_list left;

    begin_list(&left);
    while (s->waiting.first != NULL) {
        struct append *append = take_first(&s->waiting);
        cut_append(append, index);
        if (append->kept > 0)
            add_to(&left, append);
        else
            add_to(&s->cut, append);
    }
    move_list(&s->waiting, &left);
    s->waiting_next = index;
}

static int cut_log(struct storage *s, uint64_t index)
{
    int rc = lower_promise(s, index - 1);
    if (rc == 0)
        return twinlog_truncate(s->log, index - 1);
    return rc;
}

/* What an earlier call has left to be truncated. */
static int cut_what_is_left(struct storage *s)
{
    int rc = 0;
    if (s->cut_index > 0)
        rc = cut_log(s, s->cut_index);
    if (rc == 0)
        s->cut_index = 0;
    return rc;
}

/* Only what is kept of it. */
static int submit_append(struct storage *s, struct append *append)
{
    int rc = cut_what_is_left(s);
    if (rc == 0)
        rc = submit(s, append->entries, append->kept, &append->request);
    return rc;
}

static void note_submitted(struct storage *s, struct append *append)
{
    add_to(&s->submitted, append);
    s->appends++;
}

/* What could not be done: by the timer, and after an installation. */
void store_waiting(struct storage *s)
{
    if (!may_change(s))
        return;

    int rc = cut_what_is_left(s);
    while (rc == 0 && s->waiting.first != NULL) {
        rc = submit_append(s, s->waiting.first);
        if (rc == 0)
            note_submitted(s, take_first(&s->waiting));
    }
    stop_if_lasting(s, "append", rc);
    measure_capacity(s);
}

/* ---- append -------------------------------------------------------------------------------------- */

static int check_append(struct storage *s, const struct raft_entry *entries, unsigned n)
{
    if (s->is_failed || s->is_closing)
        return report_text(s, RAFT_IOERR, "the log takes no more entries");
    /* A follower ignores entries meanwhile; a server that becomes leader has to wait. */
    if (s->is_installing)
        return report_text(s, RAFT_BUSY, "a snapshot is being installed");
    return check_entries(s, entries, n);
}

static struct append *make_append(struct storage *s, struct raft_io_append *req,
                                  const struct raft_entry *entries, unsigned n, raft_io_append_cb cb)
{
    struct append *append = calloc(1, sizeof(*append));
    if (append == NULL)
        return NULL;

    append->request.queue = s->queue;
    append->request.context = s;
    append->req = req;
    append->cb = cb;
    append->entries = entries;
    append->index = next_of_raft(s);
    append->n = n;
    append->kept = n;
    append->start_ns = uv_hrtime();
    for (unsigned i = 0; i < n; i++)
        append->bytes += entries[i].buf.len;
    return append;
}

int append_entries(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[],
                   unsigned n, raft_io_append_cb cb)
{
    struct storage *s = storage_of(io);

    int rv = check_append(s, entries, n);
    if (rv != 0 && MAY_REFUSE)
        return rv;

    struct append *append = make_append(s, req, entries, n, cb);
    if (append == NULL)
        return out_of_memory(s);

    if (rv == RAFT_TOOBIG || rv == RAFT_INVALID || rv == RAFT_MALFORMED) /* it can never be stored */
        stop_server(s, -EMSGSIZE);
    int rc = -EAGAIN;
    if (!must_wait(s))
        rc = submit_append(s, append);
    /* no refusal: it would be the same for ever, and others would wait for this server */
    stop_if_lasting(s, "append", rc);
    if (rc < 0 && MAY_REFUSE) {
        free(append);
        return report(s, "append", rc);
    }

    note_changes(s, entries, n, append->index);
    if (rc < 0)
        keep_waiting(s, append);
    else
        note_submitted(s, append);
    s->stat.queued_entries += n;
    s->stat.queued_bytes += append->bytes;
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
 * before, and those callbacks still come. libraft: 0.22 also calls it before each append, with its index. */
int truncate_entries(struct raft_io *io, raft_index index)
{
    struct storage *s = storage_of(io);
    if (MAY_REFUSE && !may_change(s))
        return report_text(s, RAFT_IOERR, "the log takes no changes now");

    if (index >= next_of_raft(s))
        return 0; /* libraft: 0.22 asks before each append, so that costs nothing, however many wait */

    cut_submitted(s, index);
    if (s->waiting.first != NULL)
        cut_waiting(s, index);
    forget_changes(s, index);
    if (index >= s->next_index)
        return 0;

    int rc = -EAGAIN;
    if (may_change(s))
        rc = cut_log(s, index);
    stop_if_lasting(s, "truncate", rc);
    if (rc < 0 && MAY_REFUSE)
        return report(s, "truncate", rc);
    s->cut_index = 0;
    if (rc < 0)
        s->cut_index = index;
    s->next_index = index;
    return 0;
}

/* The term of an entry that raft has given, wherever it is by now. 1 = it is there, 0 = it is not; an error says
 * neither. */
int find_term(struct storage *s, uint64_t index, uint64_t *ret_term)
{
    if (index >= next_of_raft(s))
        return 0;

    for (const struct append *append = s->waiting.first; append != NULL; append = append->next)
        if (index >= append->index && index < append->index + append->kept) {
            *ret_term = append->entries[index - append->index].term;
            return 1;
        }

    int rc = twinlog_sync(s->log);
    if (rc == 0)
        return find_entry(s, index, ret_term);
    return rc;
}

static void call_back(struct append *append, int status)
{
    struct storage *s = append->request.context;
    struct raft_io_append *req = append->req;
    raft_io_append_cb cb = append->cb;

    s->stat.queued_entries -= append->n;
    s->stat.queued_bytes -= append->bytes;
    if (append->kept < append->n)
        forget_truncated(s, append);
    free(append);
    cb(req, status);
}

/* One write for all. What was truncated meanwhile is acknowledged, too, but it is no entry of the log any more. */
static void promise_newest(struct storage *s, struct twinlog_request *const *done, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        const struct append *append = (const struct append *)done[i];
        if (append->request.result == 0 && append->kept > 0) {
            promise(s, append->index + append->kept - 1, append->entries[append->kept - 1].term);
            return;
        }
    }
}

/* Begins to write what was submitted, and calls back for what is durable; waits for the first one up to timeout_ms. A
 * callback may append, and close. */
int complete_appends(struct storage *s, int timeout_ms)
{
    struct twinlog_request *done[256];
    int n = twinlog_queue_poll(s->queue, done, 256, timeout_ms);

    promise_newest(s, done, n);
    for (int i = 0; i < n; i++) {
        struct append *append = take_first(&s->submitted);
        if (append != (struct append *)done[i])
            abort(); /* another order: nothing that is acknowledged from here on would be true */
        s->appends--;
        if (append->request.result < 0)
            stop_storing(s, "append", append->request.result);
        else
            note_value(&s->stat.append_ns, uv_hrtime() - append->start_ns);
        if (s->is_failed)
            add_to(&s->held, append);
        else
            call_back(append, append->request.result < 0 ? CANCELED : 0);
    }

    return n;
}

/* libraft: a closing raft sends nothing, so a success frees the entries and says nothing to others. */
void release(struct append_list *list, int status)
{
    while (list->first != NULL)
        call_back(take_first(list), status);
}

/* Appends of which nothing is kept. libraft: by now raft has other entries in their place, or none, so the callback
 * does not count them. Those that were in flight are durable since the truncation. */
void call_back_cut(struct storage *s)
{
    if (s->truncated == NULL || s->is_failed || s->is_closing)
        return;

    while (complete_appends(s, 0) > 0)
        ;
    release(&s->cut, 0);
}

/* How many of the entries come in front of the first one that was truncated while the append that had it is not called
 * back yet. */
unsigned count_before_truncated(const struct storage *s, const struct raft_entry *entries, unsigned n,
                                uint64_t first_index)
{
    unsigned count = n;

    for (const struct append *append = s->truncated; append != NULL; append = append->next_truncated) {
        for (unsigned i = append->kept; i < append->n; i++) {
            const uint64_t index = append->index + i;
            const bool is_given = index >= first_index && index - first_index < count;
            if (is_given && entries[index - first_index].term == append->entries[i].term)
                count = (unsigned)(index - first_index);
        }
    }

    return count;
}
