/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, in a log of their own: pieces of the data, and behind them a head, which says what they are. With the head
 * on the disk the pieces are there too, so a snapshot is there or not. The newest head counts; what lies before its
 * pieces is trimmed now and then, and what a dead server has left behind it is truncated.
 *
 * The work is done by threads of libuv, one put at a time, while entries are appended. When the snapshot is durable:
 *
 *   taken by this server   the log is trimmed, but for `trailing` entries, when that is worth it
 *   sent by the leader     the log is reset: the next entry is the one behind the snapshot
 *
 * libraft: for 0.15 a snapshot that could not be stored is not missed, unless it came from the leader: raft has dropped
 * its entries by then, so the server ends (see stop_storing()). For 0.22 no callback may fail while raft runs: both
 * wait, and a timer tries again. So does the reading of one for another server.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define PIECE_BYTES (1u << 20)
#define HEAD_VERSION 1u
#define HEAD_BYTES 56u
#define SERVER_BYTES 17u /* and its address */
enum {
    PIECE = 1,
    HEAD = 2
};

/* version, index, term, configuration_index, bytes, first_lsn, servers; then for each its id, role, length, address */
struct head_record {
    struct snapshot_head head;
    uint64_t servers;
    const uint8_t *server; /* in the record */
    size_t server_bytes;
};

struct put {
    uv_work_t work;
    struct storage *s;
    const struct raft_snapshot *snapshot;
    unsigned trailing;
    bool is_install;
    struct raft_io_snapshot_put *req;
    raft_io_snapshot_put_cb cb;
    struct snapshot_head head;       /* of the snapshot that is written; lsn 0 = it was not */
    struct raft_configuration newer; /* than that of the snapshot; see configuration.c */
    uint64_t newer_index;            /* 0 = there is none */
    int error;
    bool is_waiting;    /* for the timer */
    bool makes_room;    /* entries or a truncation waited for space when it began */
    uint64_t cut_index; /* of the truncation; 0 = none waited */
    bool is_stored;     /* an own one, which waits for its callback */
};

static uint64_t configuration_index(const struct put *put)
{
    if (put->newer_index > 0)
        return put->newer_index;
    return put->snapshot->configuration_index;
}

/* ---- the head ----------------------------------------------------------------------------------- */

static uint8_t *encode_head(const struct put *put, uint64_t bytes, uint64_t first_lsn, size_t *ret_size)
{
    const struct raft_snapshot *snapshot = put->snapshot;
    const struct raft_configuration *conf = &snapshot->configuration;
    if (put->newer_index > 0)
        conf = &put->newer;
    const uint64_t fields[] = { HEAD_VERSION, snapshot->index, snapshot->term, configuration_index(put),
                                bytes,        first_lsn,       conf->n };
    size_t size = HEAD_BYTES;

    for (unsigned i = 0; i < conf->n; i++)
        size += SERVER_BYTES + strlen(conf->servers[i].address);
    uint8_t *data = malloc(size), *at = data;
    if (data == NULL)
        return NULL;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++, at += 8)
        put_u64(at, fields[i]);
    for (unsigned i = 0; i < conf->n; i++) {
        size_t length = strlen(conf->servers[i].address);
        put_u64(at, conf->servers[i].id);
        at[8] = (uint8_t)conf->servers[i].role;
        put_u64(at + 9, length);
        memcpy(at + SERVER_BYTES, conf->servers[i].address, length);
        at += SERVER_BYTES + length;
    }

    *ret_size = size;
    return data;
}

static int decode_head(const struct twinlog_record *record, struct head_record *ret)
{
    const uint8_t *data = record->data;

    if (record->size < HEAD_BYTES || get_u64(data) != HEAD_VERSION)
        return TWINLOG_ECORRUPT;

    ret->head.index = get_u64(data + 8);
    ret->head.term = get_u64(data + 16);
    ret->head.configuration_index = get_u64(data + 24);
    ret->head.bytes = get_u64(data + 32);
    ret->head.first_lsn = get_u64(data + 40);
    ret->head.lsn = record->lsn;
    ret->servers = get_u64(data + 48);
    ret->server = data + HEAD_BYTES;
    ret->server_bytes = record->size - HEAD_BYTES;

    if (ret->head.index == 0 || ret->head.index == UINT64_MAX || ret->head.term == 0)
        return TWINLOG_ECORRUPT;
    if (ret->head.first_lsn == 0 || ret->head.first_lsn > record->lsn)
        return TWINLOG_ECORRUPT;

    /* The pieces lie in front of the head. */
    if (ret->head.bytes / PIECE_BYTES > record->lsn - ret->head.first_lsn)
        return TWINLOG_ECORRUPT;
    return 0;
}

static int decode_servers(const struct head_record *record, struct raft_configuration *conf)
{
    const uint8_t *at = record->server;
    size_t left = record->server_bytes;

    for (uint64_t i = 0; i < record->servers; i++) {
        if (left < SERVER_BYTES || get_u64(at + 9) > left - SERVER_BYTES)
            return TWINLOG_ECORRUPT;

        size_t length = (size_t)get_u64(at + 9);
        char *address = strndup((const char *)at + SERVER_BYTES, length);
        if (address == NULL)
            return -ENOMEM;

        int rv = raft_configuration_add(conf, get_u64(at), address, at[8]);
        free(address);
        if (rv == RAFT_NOMEM)
            return -ENOMEM;
        if (rv != 0)
            return TWINLOG_ECORRUPT;

        at += SERVER_BYTES + length;
        left -= SERVER_BYTES + length;
    }

    if (left == 0)
        return 0;
    return TWINLOG_ECORRUPT;
}

/* Steps back to the newest head: 1 = *ret_record is it, 0 = there is none. */
static int find_head(struct twinlog_reader *reader, struct twinlog_record *ret_record)
{
    int rc = twinlog_reader_seek_end(reader);
    if (rc < 0)
        return rc;

    for (;;) {
        const int found = twinlog_reader_previous(reader, ret_record);
        if (found <= 0 || ret_record->type == HEAD)
            return found;
    }
}

/* ---- opening ----------------------------------------------------------------------------------- */

static int open_log(struct storage *s)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    options.buffer_bytes = 4 * PIECE_BYTES;
    options.max_record_bytes = 2 * PIECE_BYTES;
    options.prepare = TWINLOG_PREPARE_ALLOCATED;
    options.keep_bytes = options.keep_records = options.keep_age_ms = UINT64_MAX; /* raft trims */
    return twinlog_open(s->snapshot_dir, &options, &s->snapshots);
}

int find_snapshot(struct storage *s)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct head_record found = { .head = { 0 } };

    int rc = twinlog_reader_open(s->snapshot_dir, NULL, &reader);
    if (rc < 0)
        return rc;

    rc = find_head(reader, &record);
    if (rc > 0)
        rc = decode_head(&record, &found);
    twinlog_reader_close(reader);
    s->head = found.head;
    return rc;
}

/* Looks once more, as settle() does. */
int open_snapshots(struct storage *s)
{
    int rc = open_log(s);
    if (rc == 0)
        rc = find_snapshot(s);
    if (rc == 0) /* pieces without a head; the next trim removes what stays */
        twinlog_truncate(s->snapshots, s->head.lsn);
    return rc;
}

/* ---- work for a thread of libuv ------------------------------------------------------------------ */

/* `after`, on the loop's thread, counts it as done. */
static int begin_work(struct storage *s, uv_work_t *work, uv_work_cb run, uv_after_work_cb after)
{
    int rc = uv_queue_work(s->loop, work, run, after);
    if (rc < 0)
        return report_text(s, RAFT_IOERR, uv_strerror(rc));
    s->works++;
    return 0;
}

/* ---- put --------------------------------------------------------------------------------------- */

static int append_pieces(struct twinlog *log, const struct raft_buffer *buffer)
{
    const struct twinlog_terms later = { .size = sizeof(later), .level = TWINLOG_LEVEL_BUFFERED };
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < buffer->len; at += PIECE_BYTES) {
        struct twinlog_entry entry = { .data = (const uint8_t *)buffer->base + at, .type = PIECE };
        entry.size = PIECE_BYTES;
        if (buffer->len - at < PIECE_BYTES)
            entry.size = buffer->len - at;
        rc = twinlog_append_batch(log, &entry, 1, &later, NULL);
    }

    return rc;
}

static uint64_t bytes_of_snapshot(const struct raft_snapshot *snapshot)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        bytes += snapshot->bufs[i].len;
    return bytes;
}

static int add_room(void *context, const struct twinlog_segment *segment)
{
    uint64_t *room = context;
    const bool is_empty =
        segment->state == TWINLOG_SEGMENT_SPARE || segment->state == TWINLOG_SEGMENT_RETIRED;

    if (is_empty)
        *room += segment->file_bytes;
    if (segment->state == TWINLOG_SEGMENT_ACTIVE)
        *room += segment->file_bytes - segment->data_bytes;
    return 0;
}

/* On the disk, and in the files that the log of the snapshots has. The latter count because of a full disk: a snapshot
 * that is stored has the entries trimmed. What is not known is no lack: the append finds out. */
static bool has_room(const struct storage *s, uint64_t bytes)
{
    uint64_t in_files = 0;

    if (bytes <= free_bytes(s->snapshot_dir, true))
        return true;
    if (twinlog_segments(s->snapshot_dir, add_room, &in_files) < 0)
        return true;

    /* Asked once more: an empty file that the log removes meanwhile is free space by now. */
    return bytes <= in_files || bytes - in_files <= free_bytes(s->snapshot_dir, true);
}

static int append_snapshot(struct twinlog *log, struct put *put)
{
    const struct raft_snapshot *snapshot = put->snapshot;
    const uint64_t bytes = bytes_of_snapshot(snapshot), first = twinlog_last_lsn(log) + 1;
    struct twinlog_entry entry = { .type = HEAD };
    uint64_t lsn;
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < snapshot->n_bufs; i++)
        rc = append_pieces(log, &snapshot->bufs[i]);
    if (rc < 0)
        return rc;

    uint8_t *data = encode_head(put, bytes, first, &entry.size);
    if (data == NULL)
        return -ENOMEM;

    entry.data = data;
    rc = twinlog_append_batch(log, &entry, 1, NULL, &lsn);
    free(data);
    if (rc == 0)
        put->head = (struct snapshot_head){ snapshot->index, snapshot->term, configuration_index(put),
                                            bytes,           first,          lsn };
    return rc;
}

/* Of an append that has failed: the pieces that it has written are about to be truncated, and keep their space until
 * the next trim. The last one may have fewer bytes than the others. */
static void count_left_pieces(struct storage *s, const struct put *put)
{
    const uint64_t pieces = twinlog_last_lsn(s->snapshots) - s->head.lsn;
    const uint64_t bytes = bytes_of_snapshot(put->snapshot);
    if (pieces * PIECE_BYTES < bytes)
        s->old_bytes += pieces * PIECE_BYTES;
    else
        s->old_bytes += bytes;
}

/* After a failure the log may be poisoned: then it is opened again, here or by the next put. */
static void take_back(struct storage *s)
{
    if (s->snapshots != NULL && twinlog_truncate(s->snapshots, s->head.lsn) == 0)
        return;

    twinlog_close(s->snapshots);
    s->snapshots = NULL;
    if (open_log(s) == 0 && twinlog_truncate(s->snapshots, s->head.lsn) < 0) {
        twinlog_close(s->snapshots);
        s->snapshots = NULL;
    }
}

/* What goes is not needed; an error costs space alone. */
static void trim_before(struct twinlog *log, uint64_t lsn)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    options.before_lsn = lsn;
    twinlog_trim(log, &options, NULL);
}

/* A trim has syncs of its own, and busy servers take many snapshots a second: so not for each of them. */
static void trim_snapshots(struct storage *s, const struct snapshot_head *head)
{
    s->old_bytes += s->head.bytes + 4096;
    if (s->old_bytes < head->bytes || s->old_bytes < 4 * PIECE_BYTES)
        return;
    trim_before(s->snapshots, head->first_lsn);
    s->old_bytes = 0;
}

/* A truncation that waits has to find the entry in front of it. One that comes later is of entries behind those that
 * go, since these are in the snapshot. */
static void trim_entries(struct storage *s, const struct put *put, uint64_t index)
{
    const uint64_t trailing = put->trailing;
    uint64_t first = twinlog_first_lsn(s->log);
    uint64_t before = 1;

    if (index > trailing)
        before = index - trailing + 1;
    if (put->cut_index > 0 && before > put->cut_index)
        before = put->cut_index;
    if (first == 0 || before <= first)
        return;

    const bool is_worth_it = before - first >= 4 * trailing;
    if (is_worth_it || put->makes_room)
        trim_before(s->log, before);
}

/* Trims the snapshots before the newest one, if there is no room otherwise. */
static bool make_room(struct storage *s, uint64_t bytes)
{
    if (has_room(s, bytes))
        return true;
    const bool has_older = s->head.lsn > 0 && twinlog_first_lsn(s->snapshots) < s->head.first_lsn;
    if (!has_older)
        return false;

    trim_before(s->snapshots, s->head.first_lsn);
    s->old_bytes = 0;
    return has_room(s, bytes);
}

static void write_snapshot(uv_work_t *work)
{
    struct put *put = work->data;
    struct storage *s = put->s;
    uint64_t index = put->snapshot->index;

    /* An installation that is tried again: its snapshot is stored, and only the reset has failed, for which the log
     * needs a new file. */
    const bool is_stored = put->head.lsn > 0 && put->head.lsn == s->head.lsn;
    if (put->is_install && is_stored) {
        put->error = twinlog_reset(s->log, index + 1);
        return;
    }

    if (s->snapshots == NULL)
        take_back(s);
    if (s->snapshots == NULL) {
        put->error = -EIO;
        return;
    }

    /* Before the first piece is written: pieces of a put that fails keep their space until the next trim. */
    if (!make_room(s, bytes_of_snapshot(put->snapshot))) {
        put->error = -ENOSPC;
        return;
    }

    put->error = append_snapshot(s->snapshots, put);
    if (put->error < 0) {
        count_left_pieces(s, put);
        take_back(s);
        return;
    }

    trim_snapshots(s, &put->head);
    if (put->is_install)
        put->error = twinlog_reset(s->log, index + 1);
    else
        trim_entries(s, put, index);
}

/* libraft: callbacks of appends that the reset has committed come before the snapshot's; raft ignores them until then,
 * and would count them afterwards. */
static void complete_replaced(struct storage *s, struct put *put)
{
    while (s->appends > 0)
        complete_appends(s, -1);
    release(&s->replaced, 0);
    if (put->error == 0)
        s->next_index = put->head.index + 1;
}

static void free_put(struct put *put)
{
    if (put->newer_index > 0)
        raft_configuration_close(&put->newer);
    free(put);
}

static void finish_put(struct storage *s, struct put *put, int status)
{
    struct raft_io_snapshot_put *req = put->req;
    raft_io_snapshot_put_cb cb = put->cb;

    s->put = NULL;
    s->is_putting = false;
    s->is_installing = false;
    free_put(put);
    cb(req, status);
}

/* libraft: an own snapshot is called back behind the appends of entries that it has raft drop, which are those that it
 * covers but for the trailing ones. The leader and 0.22 apply what others have stored, and an append would never be
 * counted as stored after that. It does not wait for other ones: these may wait for space, which the trims of
 * later snapshots make. */
void call_back_stored(struct storage *s)
{
    struct put *put = s->put;
    if (put == NULL || !put->is_stored)
        return;

    const uint64_t oldest = oldest_append(s);
    const bool is_dropped = oldest <= put->head.index && put->head.index - oldest >= put->trailing;
    if (is_dropped)
        return;

    finish_put(s, put, s->is_closing ? CANCELED : 0);
    if (!MAY_REFUSE)
        store_waiting(s);
}

static void snapshot_written(uv_work_t *work, int status)
{
    struct put *put = work->data;
    struct storage *s = put->s;

    (void)status; /* nothing cancels it */
    s->works--;
    if (put->head.lsn > 0 && put->head.lsn != s->head.lsn) {
        s->head = put->head;
        s->stat.snapshots++;
        s->stat.installs += put->is_install;
    }

    if (put->is_install && put->error < 0 && (MAY_REFUSE || put->error == TWINLOG_EPOISONED))
        stop_storing(s, "a snapshot of the leader", put->error);
    if (put->error < 0 && !MAY_REFUSE) {
        put->is_waiting = true; /* also for the close, which cancels it */
        finish_close(s);
        return;
    }

    if (!put->is_install && put->error == 0) {
        put->is_stored = true;
        call_back_stored(s);
        finish_close(s);
        return;
    }

    if (put->is_install)
        complete_replaced(s, put);
    int rv = report(s, "snapshot", put->error);
    finish_put(s, put, s->is_closing && CANCELED ? CANCELED : rv);
    if (!MAY_REFUSE)
        store_waiting(s);
    finish_close(s);
}

/* 0, or an error of twinlog. */
static int begin_put(struct storage *s, struct put *put)
{
    int rc = 0;

    put->cut_index = s->cut_index;
    put->makes_room = s->cut_index > 0 || s->waiting.first != NULL;
    if (put->is_install)
        rc = lower_promise(s, 0);
    stop_if_lasting(s, "a snapshot of the leader", rc);
    if (rc == 0 && begin_work(s, &put->work, write_snapshot, snapshot_written) != 0)
        rc = -EAGAIN;
    put->is_waiting = rc < 0;
    return rc;
}

/* Raft does not say which kind of snapshot it is. 1 = the leader has sent it, 0 = this server has made it. An error:
 * the log could not be read, so neither is known.
 *
 * libraft: `trailing` is 0 for a snapshot of the leader, but also for an own one after raft_set_snapshot_trailing(0),
 * and then the entries behind it must stay. The leader only sends one of which the last entry is missing here. So that
 * entry is looked for, also among those that are still being stored. */
static int find_origin(struct storage *s, unsigned trailing, const struct raft_snapshot *snapshot)
{
    uint64_t term;
    if (trailing > 0)
        return 0;

    const int found = find_term(s, snapshot->index, &term);
    if (found < 0)
        return found;
    return found == 0 || term != snapshot->term;
}

static void begin_installing(struct storage *s, struct put *put)
{
    s->is_installing = true;
    cut_submitted(s, 0);
    move_list(&s->replaced, &s->waiting);
    forget_changes(s, 0);
    s->cut_index = 0;
    if (!MAY_REFUSE)
        s->next_index = put->snapshot->index + 1; /* 0.22 has changed its log by now */
}

static bool takes_changes(const struct storage *s)
{
    return !s->is_failed && !s->is_closing;
}

int put_snapshot(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                 const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct storage *s = storage_of(io);
    const int of_leader = find_origin(s, trailing, snapshot);
    const bool is_install = of_leader > 0;
    const bool may_refuse = MAY_REFUSE || of_leader == 0;

    if (!takes_changes(s) && may_refuse)
        return report_text(s, RAFT_IOERR, "the log takes no changes now");
    if (s->is_putting)
        return report_text(s, RAFT_BUSY, "a snapshot is being written");
    if (of_leader < 0 && may_refuse)
        return report(s, "the entry of the snapshot", of_leader);
    if (of_leader < 0) /* the put is accepted, and never begins: the close ends it */
        stop_storing(s, "the entry of the snapshot", of_leader);

    struct put *put = calloc(1, sizeof(*put));
    if (put == NULL && may_refuse)
        return report_text(s, RAFT_NOMEM, "out of memory");
    if (put == NULL)
        return out_of_memory(s);

    *put = (struct put){ .s = s, .snapshot = snapshot, .trailing = trailing, .req = req, .cb = cb };
    put->is_install = is_install;
    put->work.data = put;

    int rc = 0;
    if (of_leader == 0)
        rc = take_configuration(s, snapshot, &put->newer, &put->newer_index);
    if (rc != 0) {
        free_put(put);
        return report_text(s, rc, "the newest configuration cannot be decoded");
    }

    rc = -EAGAIN;
    if (takes_changes(s))
        rc = begin_put(s, put);
    if (rc < 0 && may_refuse) {
        free_put(put);
        return report(s, "snapshot", rc);
    }

    /* One that may not be refused waits until it can begin. */
    put->is_waiting = rc < 0;
    s->put = put;
    s->is_putting = true;
    if (is_install)
        begin_installing(s, put);
    return 0;
}

/* ---- get --------------------------------------------------------------------------------------- */

void free_snapshot(struct raft_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;

    raft_configuration_close(&snapshot->configuration);
    if (snapshot->bufs != NULL)
        raft_free(snapshot->bufs[0].base);
    raft_free(snapshot->bufs);
    raft_free(snapshot);
}

/* libraft: the data is one buffer, allocated by raft_malloc(). */
static struct raft_snapshot *make_snapshot(const struct snapshot_head *head)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof(*snapshot));
    if (snapshot == NULL)
        return NULL;

    raft_configuration_init(&snapshot->configuration);
    snapshot->index = head->index;
    snapshot->term = head->term;
    snapshot->configuration_index = head->configuration_index;
    snapshot->bufs = raft_calloc(1, sizeof(*snapshot->bufs));
    if (snapshot->bufs != NULL) {
        snapshot->n_bufs = 1;
        snapshot->bufs[0].len = head->bytes;
        snapshot->bufs[0].base = raft_malloc(head->bytes > 0 ? head->bytes : 1);
    }

    if (snapshot->bufs == NULL || snapshot->bufs[0].base == NULL) {
        free_snapshot(snapshot);
        return NULL;
    }

    return snapshot;
}

static int read_pieces(struct twinlog_reader *reader, const struct snapshot_head *head, uint8_t *data)
{
    struct twinlog_record record;
    size_t at = 0;

    const int rc = twinlog_reader_seek(reader, head->first_lsn);
    if (rc < 0)
        return rc;

    for (uint64_t lsn = head->first_lsn; lsn < head->lsn; lsn++) {
        const int found = twinlog_reader_next(reader, &record);
        if (found < 0)
            return found;
        if (found == 0 || record.lsn != lsn)
            return TWINLOG_ECORRUPT;
        if (record.type != PIECE || record.size > head->bytes - at)
            return TWINLOG_ECORRUPT;

        memcpy(data + at, record.data, record.size);
        at += record.size;
    }

    if (at != head->bytes)
        return TWINLOG_ECORRUPT;
    return 0;
}

/* *ret_head is the LSN of the head; 0: it was not found. */
static int read_newest(struct twinlog_reader *reader, struct raft_snapshot **ret_snapshot, uint64_t *ret_head)
{
    struct twinlog_record record;
    struct head_record found;
    int rc = find_head(reader, &record);

    *ret_head = 0;
    if (rc < 0)
        return rc;
    if (rc == 0)
        return -ENOENT;

    *ret_head = record.lsn;
    rc = decode_head(&record, &found);
    if (rc < 0)
        return rc;

    struct raft_snapshot *snapshot = make_snapshot(&found.head);
    if (snapshot == NULL)
        return -ENOMEM;

    rc = decode_servers(&found, &snapshot->configuration);
    if (rc == 0)
        rc = read_pieces(reader, &found.head, snapshot->bufs[0].base);
    if (rc == 0)
        *ret_snapshot = snapshot;
    else
        free_snapshot(snapshot);
    return rc;
}

/* Again, if a newer snapshot has taken the place of the one that was being read. The same one again: its pieces were
 * removed by something else. */
int read_snapshot(const char *dir, struct raft_snapshot **ret_snapshot)
{
    struct twinlog_reader *reader;
    uint64_t head = 0, before;

    int rc = twinlog_reader_open(dir, NULL, &reader);
    if (rc < 0)
        return rc;

    do {
        before = head;
        rc = read_newest(reader, ret_snapshot, &head);
    } while (rc == TWINLOG_ETRUNCATED || (rc == TWINLOG_ETRIMMED && (head == 0 || head != before)));
    twinlog_reader_close(reader);
    return rc;
}

struct get {
    uv_work_t work;
    struct storage *s;
    struct raft_io_snapshot_get *req;
    raft_io_snapshot_get_cb cb;
    struct raft_snapshot *snapshot;
    int error;
    struct get *next; /* of those that wait */
};

static void do_get(uv_work_t *work)
{
    struct get *get = work->data;
    get->error = read_snapshot(get->s->snapshot_dir, &get->snapshot);
}

static void finish_get(struct get *get, int status)
{
    if (get->snapshot != NULL) {
        get->s->got_index = get->snapshot->index;
        get->s->got_term = get->snapshot->term;
    }
    get->cb(get->req, get->snapshot, status);
    free(get);
}

static void wait_with_get(struct storage *s, struct get *get)
{
    get->next = s->gets;
    s->gets = get;
}

static void got_snapshot(uv_work_t *work, int status)
{
    struct get *get = work->data;
    struct storage *s = get->s;

    (void)status; /* nothing cancels it */
    s->works--;
    int rv = report(s, "snapshot", get->error);
    if (rv != 0 && !MAY_REFUSE)
        wait_with_get(s, get);
    else
        finish_get(get, rv);
    finish_close(s);
}

int get_snapshot(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
    struct storage *s = storage_of(io);

    struct get *get = calloc(1, sizeof(*get));
    if (get == NULL)
        return out_of_memory(s);

    get->work.data = get;
    get->s = s;
    get->req = req;
    get->cb = cb;
    int rv = begin_work(s, &get->work, do_get, got_snapshot);
    if (rv == 0)
        return 0;
    if (MAY_REFUSE) {
        free(get);
        return rv;
    }

    wait_with_get(s, get);
    return 0;
}

/* ---- what waits ---------------------------------------------------------------------------------- */

void retry_snapshots(struct storage *s)
{
    struct get *get = s->gets, *next;

    if (s->is_closing)
        return;

    s->gets = NULL;
    for (; get != NULL; get = next) {
        next = get->next;
        if (begin_work(s, &get->work, do_get, got_snapshot) != 0)
            wait_with_get(s, get);
    }

    if (s->put != NULL && s->put->is_waiting && !s->is_failed)
        begin_put(s, s->put);
}

void cancel_snapshots(struct storage *s)
{
    struct get *get;

    while ((get = s->gets) != NULL) {
        s->gets = get->next;
        finish_get(get, CANCELED);
    }

    if (s->put != NULL)
        finish_put(s, s->put, CANCELED);
}
