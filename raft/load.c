/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server knows when it starts: term, vote, snapshot, entries. Opening brings the files to one state, so that all
 * calls that follow find it. It looks at them first, without a change:
 *
 *   no term, no snapshot      nothing was ever acknowledged; an entry is that of a bootstrap that did not finish, and
 *                             goes
 *   no snapshot               the log begins with entry 1
 *   a snapshot of entry S     the log begins at S + 1 or before
 *   - the log ends before S, or its entry S is of another term: the server ended between the snapshot and the reset of
 *     the log (another server's snapshot was being installed), or S was applied before it was stored here. The log is
 *     reset to S + 1
 *
 * Anything else is RAFT_CORRUPT, and the files stay as they are: a damaged tail, which the log would take for torn, is
 * evidence.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog_admin.h>
#include <unistd.h>

#include "internal.h"

/* ---- opening ----------------------------------------------------------------------------------- */

static int has_stock_files(const struct storage *s)
{
    struct stat st;
    char path[4096];

    for (int i = 1; i <= 2; i++)
        if (snprintf(path, sizeof(path), "%s/metadata%d", s->dir, i) < (int)sizeof(path) &&
            stat(path, &st) == 0)
            return 1;

    return 0;
}

/* What the log has, and what comes next. */
struct range {
    uint64_t first, last; /* `first` is 0 if there is no entry */
    uint64_t next;        /* if it is not last + 1, the log has to be reset to it */
};

/* An unfinished bootstrap has left an entry at most. */
static int check_without_term(struct storage *s, struct range *range)
{
    range->next = 1;
    if (s->head.index > 0 || range->last > 1)
        return report_text(s, RAFT_CORRUPT, "there are entries or a snapshot, but no term");
    return 0;
}

int find_entry(struct storage *s, uint64_t index, uint64_t *ret_term)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;

    options.from_lsn = index;
    int rc = twinlog_reader_open(s->log_dir, &options, &reader);
    if (rc < 0)
        return rc;

    rc = twinlog_reader_next(reader, &record);
    if (rc > 0 && (record.lsn != index || record.size < 8))
        rc = TWINLOG_ECORRUPT;
    if (rc > 0)
        *ret_term = get_u64(record.data);
    twinlog_reader_close(reader);
    return rc;
}

static int has_entry(struct storage *s, uint64_t index, uint64_t term)
{
    uint64_t found;
    int rc = find_entry(s, index, &found);
    if (rc > 0)
        return found == term;
    return rc;
}

static int check_with_snapshot(struct storage *s, struct range *range)
{
    uint64_t index = s->head.index;

    if (range->first > index + 1 || (range->first == 0 && range->last > index))
        return report_text(s, RAFT_CORRUPT, "there are no entries between the snapshot and the log");
    if (range->first == index + 1 || (range->first == 0 && range->last == index))
        return 0;

    int rc = 0;
    if (range->last >= index && range->first > 0)
        rc = has_entry(s, index, s->head.term);
    if (rc == 0)
        range->next = index + 1;
    if (rc < 0)
        return report(s, "the entry of the snapshot", rc);
    return 0;
}

/* Not older than the newest entry or the snapshot. */
static int check_term(struct storage *s, const struct range *range)
{
    uint64_t term = 0;

    int rc = 0;
    if (range->first > 0)
        rc = find_entry(s, range->last, &term);
    if (rc < 0)
        return report(s, "the newest entry", rc);
    if (term > s->term || s->head.term > s->term)
        return report_text(s, RAFT_CORRUPT, "term and vote are older than the entries");
    return 0;
}

/* Entries up to the snapshot are in it. */
static int check_promise(struct storage *s, const struct range *range)
{
    if (s->promised_index <= s->head.index)
        return 0;

    int rc = range->last >= s->promised_index;
    if (rc > 0 && s->promised_term > 0)
        rc = has_entry(s, s->promised_index, s->promised_term);
    if (rc < 0)
        return report(s, "the newest acknowledged entry", rc);
    if (rc > 0)
        return 0;

    snprintf(s->io.errmsg, sizeof(s->io.errmsg),
             "the log does not have entry %" PRIu64
             ", which this server has acknowledged: it is an older copy, another "
             "server's, or damaged at its end",
             s->promised_index);
    return RAFT_CORRUPT;
}

static int check_range(struct storage *s, struct range *range)
{
    int rv = check_promise(s, range);
    if (rv != 0)
        return rv;
    if (s->term == 0)
        return check_without_term(s, range);

    rv = check_term(s, range);
    if (rv != 0)
        return rv;
    if (s->head.index > 0)
        return check_with_snapshot(s, range);

    const bool has_lost_all = range->first == 0 && range->last > 0;
    if (range->first > 1 || has_lost_all)
        return report_text(s, RAFT_CORRUPT, "the log does not begin with entry 1, and there is no snapshot");
    return 0;
}

/* A server that has had a term has both logs. */
static int report_look(struct storage *s, const char *dir, int rc)
{
    if (rc == -ENOENT && s->term > 0)
        return report(s, dir, TWINLOG_ECORRUPT);
    if (rc == -ENOENT)
        return 0;
    return report(s, dir, rc);
}

static int look(struct storage *s)
{
    struct twinlog_inspection found = TWINLOG_INSPECTION_INIT;

    int rv = report_look(s, s->log_dir, twinlog_inspect(s->log_dir, &found));
    if (rv == 0)
        rv = report_look(s, s->snapshot_dir, find_snapshot(s));
    struct range range = { found.first_lsn, found.last_lsn, found.last_lsn + 1 };
    if (rv != 0)
        return rv;
    return check_range(s, &range);
}

/* The promise goes first, as in each change that takes entries: after an end between the two, or a power cut, the
 * server would be taken for one that has lost what it promised. */
static int reset_log(struct storage *s, uint64_t next)
{
    int rc = lower_promise(s, next - 1);
    if (rc == 0)
        return twinlog_reset(s->log, next);
    return rc;
}

/* Checks once more: a write of a process that was killed may have come to its end meanwhile. */
static int settle(struct storage *s)
{
    struct range range = { twinlog_first_lsn(s->log), twinlog_last_lsn(s->log), 0 };

    range.next = range.last + 1;
    int rv = check_range(s, &range);
    if (rv == 0 && range.next != range.last + 1)
        rv = report(s, "reset", reset_log(s, range.next));
    s->next_index = range.next;
    return rv;
}

/* Of the entries' log: the loop of raft waits for nothing, so a thread would only hand its groups to and fro. */
static int open_committer(struct storage *s)
{
    struct twinlog_committer_options options = TWINLOG_COMMITTER_OPTIONS_INIT;
    int rc = twinlog_queue_open(&s->queue);

    options.queue = s->queue;
    if (rc < 0)
        return rc;
    return twinlog_committer_open(&options, &s->committer);
}

int open_files(struct storage *s, uint64_t id)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_report found;

    if (has_stock_files(s))
        return report_text(s, RAFT_INVALID, "the directory holds the files of raft_uv");

    int rv = open_server_file(s, id);
    if (rv == 0)
        rv = look(s);
    if (rv != 0)
        return rv;

    options.buffer_bytes = s->options.buffer_bytes;
    options.max_record_bytes = s->options.buffer_bytes - 8192 - 64;
    options.segment_bytes = s->options.segment_bytes;
    options.ret_report = &found;
    options.keep_bytes = options.keep_records = options.keep_age_ms = UINT64_MAX; /* raft trims */
    int rc = open_committer(s);
    options.committer = s->committer;
    if (rc == 0)
        rc = twinlog_open(s->log_dir, &options, &s->log);
    if (rc < 0)
        return report(s, s->log_dir, rc);

    rv = report(s, s->snapshot_dir, open_snapshots(s));
    if (rv != 0)
        return rv;
    return settle(s);
}

void close_files(struct storage *s)
{
    forget_changes(s, 0);
    twinlog_close(s->log);
    twinlog_close(s->snapshots);
    twinlog_committer_close(s->committer);
    twinlog_queue_close(s->queue);
    if (s->server_fd >= 0)
        close(s->server_fd);
    s->server_fd = -1;
    s->log = NULL;
    s->snapshots = NULL;
    s->committer = NULL;
    s->queue = NULL;
}

/* ---- load -------------------------------------------------------------------------------------- */

/* libraft: an entry has a batch, memory that it may share with others. Messages to other servers refer to entries. When
 * they end, and the log has dropped the entries meanwhile, each message frees a batch that the log does not have any
 * more: a second time if two of them have entries of it. So each entry is a batch of its own. */
struct set_loader {
    struct raft_entry *entries;
    size_t count, room;
};

static void free_entries(struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        raft_free(entries[i].batch);
    raft_free(entries);
}

static int add_entry(struct set_loader *to, const struct twinlog_record *record, uint64_t index)
{
    if (record->lsn != index || record->size < 8 || to->count == to->room)
        return TWINLOG_ECORRUPT;

    size_t bytes = record->size - 8;
    uint8_t *data = raft_malloc(bytes > 0 ? bytes : 1);
    if (data == NULL)
        return -ENOMEM;

    memcpy(data, (const uint8_t *)record->data + 8, bytes);
    to->entries[to->count++] = (struct raft_entry){
        .term = get_u64(record->data), .type = record->type, .buf = { data, bytes }, .batch = data
    };
    return 0;
}

static int read_entries(struct storage *s, struct set_loader *to)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;

    uint64_t first = twinlog_first_lsn(s->log);
    if (first == 0)
        return 0;

    to->room = s->next_index - first;
    to->entries = raft_malloc(to->room * sizeof(*to->entries));
    if (to->entries == NULL)
        return -ENOMEM;

    int rc = twinlog_reader_attach(s->log, NULL, &reader);
    if (rc < 0)
        return rc;

    while (rc == 0) {
        const int found = twinlog_reader_next(reader, &record);
        if (found > 0)
            rc = add_entry(to, &record, first + to->count);
        else
            rc = found;
        if (found == 0)
            break;
    }
    twinlog_reader_close(reader);
    if (rc == 0 && to->count < to->room)
        rc = TWINLOG_ECORRUPT;
    return rc;
}

static void queue_readable(uv_poll_t *poll, int status, int events)
{
    struct storage *s = poll->data;
    (void)status;
    (void)events;
    complete_appends(s, 0);
    finish_close(s);
}

#define MOST_ROUNDS 4u /* of callbacks, before the loop looks at the rest of its work */

static void do_not_wait(uv_idle_t *idle)
{
    (void)idle;
}

/* The log begins to write before the messages are sent: other servers store the same entries meanwhile. After a
 * callback the loop does not wait this time: its program may have waited for that callback alone. */
static void before_waiting(uv_prepare_t *prepare)
{
    struct storage *s = prepare->data;
    for (unsigned i = 0; i < MOST_ROUNDS && complete_appends(s, 0) > 0; i++)
        uv_idle_start(&s->idle, do_not_wait);
    call_back_cut(s);
    call_back_stored(s);
    send_gathered(s);
    finish_close(s);
}

static void after_waiting(uv_check_t *check)
{
    struct storage *s = check->data;
    uv_idle_stop(&s->idle);
    forget_connections(check->data, false);
    call_back_unsent(check->data);
}

static void now_and_then(uv_timer_t *timer)
{
    store_waiting(timer->data);
    retry_snapshots(timer->data);
}

static int start_handles(struct storage *s)
{
    int rc = uv_poll_init(s->loop, &s->poll, twinlog_queue_fd(s->queue));
    if (rc < 0)
        return report_text(s, RAFT_IOERR, uv_strerror(rc));

    uv_prepare_init(s->loop, &s->prepare);
    uv_check_init(s->loop, &s->check);
    uv_idle_init(s->loop, &s->idle);
    uv_timer_init(s->loop, &s->timer);
    s->poll.data = s->prepare.data = s->check.data = s->idle.data = s->timer.data = s;
    s->handles = 5; /* so they are closed, whatever comes */
    uv_prepare_start(&s->prepare, before_waiting);
    uv_check_start(&s->check, after_waiting);
    if (!MAY_REFUSE)
        uv_timer_start(&s->timer, now_and_then, s->retry_ms, s->retry_ms);
    measure_capacity(s);
    rc = uv_poll_start(&s->poll, UV_READABLE, queue_readable);
    if (rc < 0)
        return report_text(s, RAFT_IOERR, uv_strerror(rc));
    return 0;
}

/* libraft: without a snapshot the first entry is the configuration. */
int load_entries(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                 raft_index *start_index, struct raft_entry *entries[], size_t *n_entries)
{
    struct storage *s = storage_of(io);
    struct set_loader loading = { 0 };
    struct raft_snapshot *found = NULL;
    int rc = 0;

    if (s->head.index > 0)
        rc = read_snapshot(s->snapshot_dir, &found);

    int rv = report(s, "snapshot", rc);
    if (rv == 0)
        rv = report(s, "entries", read_entries(s, &loading));
    if (rv == 0 && found == NULL && loading.count > 0 && loading.entries[0].type != RAFT_CHANGE)
        rv = report_text(s, RAFT_CORRUPT, "the first entry is no configuration");
    if (rv == 0)
        rv = start_handles(s);
    if (rv != 0) {
        free_entries(loading.entries, loading.count);
        free_snapshot(found);
        return rv;
    }

    uint64_t last_term = s->head.term;
    if (loading.count > 0)
        last_term = loading.entries[loading.count - 1].term;
    promise(s, s->next_index - 1, last_term);
    note_changes(s, loading.entries, loading.count, s->next_index - loading.count);
    *term = s->term;
    *voted_for = s->vote;
    *snapshot = found;
    *start_index = s->next_index - loading.count;
    *entries = loading.entries;
    *n_entries = loading.count;
    return 0;
}

/* ---- before the start ---------------------------------------------------------------------------- */

static int append_configuration(struct storage *s, const struct raft_configuration *conf, uint64_t term)
{
    struct raft_entry entry = { .term = term, .type = RAFT_CHANGE };

    int rv = raft_configuration_encode(conf, &entry.buf);
    if (rv != 0)
        return report_text(s, rv, "the configuration cannot be encoded");

    rv = append_at_once(s, &entry);
    raft_free(entry.buf.base);
    return rv;
}

/* The entry before the term: a bootstrap that does not finish leaves no term, and can be done again. */
int bootstrap(struct raft_io *io, const struct raft_configuration *conf)
{
    struct storage *s = storage_of(io);
    if (!s->may_bootstrap)
        return report_text(s, RAFT_CANTBOOTSTRAP, "this server was made to join a cluster");
    if (s->term > 0 || s->head.index > 0 || s->next_index > 1)
        return report_text(s, RAFT_CANTBOOTSTRAP, "this server has a term, entries or a snapshot already");

    int rv = append_configuration(s, conf, 1);
    if (rv != 0)
        return rv;
    return write_state(s, 1, 0);
}

int recover(struct raft_io *io, const struct raft_configuration *conf)
{
    struct storage *s = storage_of(io);
    if (s->term == 0)
        return report_text(s, RAFT_INVALID, "there is nothing to recover: this server has no term");
    return append_configuration(s, conf, s->term);
}
