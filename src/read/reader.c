/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader: one cursor over all segments, never beyond the watermark (I6).
 *
 * How far it may read comes from one of three places:
 *   - attached: the watermark of the writer in this process;
 *   - a live writer in another process: the watermark in its shared page, or, where the file system can't
 *     share memory, the newest durable mark in the log itself;
 *   - no writer: what recovery finds sound, made durable by a sync before the first record of it is
 *     returned. If a writer comes later, its page tells.
 *
 * Below the watermark everything must check: there a record that does not is damage. What was read of
 * the last block before the writer wrote it again may be stale, so before it calls anything damage the
 * reader forgets its window and looks once more, and then in the next segment.
 */
#define _GNU_SOURCE
#include "read/reader.h"

#include "segment/live.h"
#include "segment/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct twinlog_reader {
    struct io *io;
    bool owns_io;
    const struct watermark *watermark; /* attached: the writer's */
    struct live live;                  /* else: another process's */
    uint32_t ignored_epoch;            /* of the page, as a dead writer left it */
    uint64_t sound_lsn;                /* durable without a writer's word */
    bool follows_marks;                /* a writer without a page */

    uint64_t next_lsn;
    uint64_t to_lsn;
    int error; /* sticky */
    struct twinlog_report *report;

    struct segment_set set;
    size_t index; /* in the set, of the open segment */
    struct segment segment;
    struct cursor cursor;
    bool is_placed; /* the cursor is in a group, at or before next_lsn */
};

/* ---- how far ----------------------------------------------------------------------------------- */

static int fail(struct twinlog_reader *reader, int error, const struct twinlog_report *report)
{
    if (reader->report)
        *reader->report = *report;
    return error;
}

static int fail_system(struct twinlog_reader *reader, int error)
{
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, error, "cannot read the log: %s",
               twinlog_strerror(error));
    return fail(reader, error, &report);
}

static int load_set(struct twinlog_reader *reader)
{
    struct segment_set set;
    struct twinlog_report report;
    const struct segment_set_options options = { .open_flags = IO_READ_ONLY };
    int rc = twl_segment_set_load(reader->io, &options, &set, &report);
    if (rc < 0)
        return fail(reader, rc, &report);
    twl_segment_set_free(&reader->set);
    reader->set = set;
    return 0;
}

/* Recovery's view of the log, without changing it. Damage is not an error here: the reader goes up to
 * it and reports it when it gets there. */
static int look_at_end(struct twinlog_reader *reader, struct recovery *ret_recovery)
{
    int rc = load_set(reader);
    if (rc < 0)
        return rc;
    rc = twl_recover(reader->io, &reader->set, ret_recovery);
    return rc < 0 && rc != TWINLOG_ECORRUPT ? fail(reader, rc, &ret_recovery->report) : 0;
}

/* Without a writer: everything sound becomes durable before it is shown. */
static int adopt_sound_records(struct twinlog_reader *reader)
{
    struct recovery recovery;
    int rc = look_at_end(reader, &recovery);
    if (rc < 0)
        return rc;
    uint64_t sound_lsn = recovery.position.next_lsn - 1;
    if (recovery.report.error == TWINLOG_ECORRUPT)
        /* the lost record is below what was durable; next() will stop at it with the report */
        sound_lsn = max_u64(sound_lsn, recovery.report.last_lsn);
    if (reader->set.count > 0) {
        struct segment segment;
        rc = twl_segment_open_valid(reader->io, reader->set.entries[recovery.index].name, &segment);
        if (rc == 0) {
            rc = io_sync(segment.file);
            twl_segment_close(&segment);
        }
        if (rc == 0)
            rc = reader->io->ops->sync_dir(reader->io);
        if (rc < 0)
            return fail_system(reader, rc);
    }
    reader->sound_lsn = sound_lsn;
    return 0;
}

static int find_limit(struct twinlog_reader *reader)
{
    bool has_writer;
    int rc = twl_live_has_writer(&reader->live, &has_writer);
    if (rc < 0)
        return fail_system(reader, rc);
    reader->follows_marks = has_writer && !reader->live.page;
    if (has_writer)
        return 0;
    reader->ignored_epoch = twl_live_epoch(&reader->live);
    rc = adopt_sound_records(reader);
    if (rc == 0)
        rc = twl_live_has_writer(&reader->live, &has_writer);
    if (rc == 0 && has_writer) { /* it came meanwhile: what was seen may have moved */
        reader->sound_lsn = 0;
        reader->ignored_epoch = 0;
        reader->follows_marks = !reader->live.page;
    }
    return rc;
}

static int durable_by_marks(struct twinlog_reader *reader, uint64_t *ret_lsn)
{
    struct recovery recovery;
    int rc = look_at_end(reader, &recovery);
    if (rc == 0)
        *ret_lsn = recovery.marked_lsn;
    return rc;
}

/* Newest LSN that may be returned. */
static int durable_lsn(struct twinlog_reader *reader, uint64_t *ret_lsn)
{
    if (reader->watermark) {
        *ret_lsn = watermark_load(reader->watermark);
        return 0;
    }
    uint64_t lsn = reader->sound_lsn;
    if (reader->follows_marks && reader->next_lsn > lsn) {
        int rc = durable_by_marks(reader, &lsn);
        if (rc < 0)
            return rc;
        reader->sound_lsn = max_u64(reader->sound_lsn, lsn);
        reader->is_placed = false; /* the set is a new one */
    }
    if (twl_live_epoch(&reader->live) != reader->ignored_epoch)
        lsn = max_u64(lsn, twl_live_durable_lsn(&reader->live));
    *ret_lsn = max_u64(lsn, reader->sound_lsn);
    return 0;
}

/* ---- birth and death --------------------------------------------------------------------------- */

static int create(struct io *io, const struct twinlog_reader_options *options,
                  struct twinlog_reader **ret_reader)
{
    struct twinlog_reader *reader = calloc(1, sizeof(*reader));
    if (!reader)
        return -ENOMEM;
    reader->io = io;
    reader->next_lsn = max_u64(options->from_lsn, 1);
    reader->to_lsn = options->to_lsn > 0 ? options->to_lsn : UINT64_MAX;
    reader->report = options->ret_report;
    *ret_reader = reader;
    return 0;
}

void twinlog_reader_close(struct twinlog_reader *reader)
{
    if (!reader)
        return;
    twl_cursor_free(&reader->cursor);
    twl_segment_close(&reader->segment);
    twl_segment_set_free(&reader->set);
    twl_live_unwatch(&reader->live);
    if (reader->owns_io)
        reader->io->ops->destroy(reader->io);
    free(reader);
}

int twl_reader_open(struct io *io, const struct twinlog_reader_options *options,
                    struct twinlog_reader **ret_reader)
{
    struct twinlog_reader *reader;
    int rc = create(io, options, &reader);
    if (rc < 0) {
        io->ops->destroy(io);
        return rc;
    }
    reader->owns_io = true;
    rc = twl_live_watch(io, &reader->live);
    if (rc < 0)
        rc = fail_system(reader, rc);
    if (rc == 0)
        rc = find_limit(reader);
    if (rc == 0 && reader->set.count == 0)
        rc = load_set(reader);
    if (rc == 0 && reader->set.count == 0) {
        bool has_writer = false; /* one may be about to make the first segment */
        rc = twl_live_has_writer(&reader->live, &has_writer);
        if (rc == 0 && !has_writer) {
            struct twinlog_report report;
            twl_report(&report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, -ENOENT,
                       "there is no log in this directory; append to it first");
            rc = fail(reader, -ENOENT, &report);
        }
    }
    if (rc < 0) {
        twinlog_reader_close(reader);
        return rc;
    }
    *ret_reader = reader;
    return 0;
}

int twl_reader_attach(struct io *io, const struct watermark *watermark,
                      const struct twinlog_reader_options *options, struct twinlog_reader **ret_reader)
{
    struct twinlog_reader *reader;
    int rc = create(io, options, &reader);
    if (rc == 0) {
        reader->watermark = watermark;
        *ret_reader = reader;
    }
    return rc;
}

/* ---- moving ------------------------------------------------------------------------------------ */

static int report_damage(struct twinlog_reader *reader, uint64_t lsn, uint64_t offset)
{
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
               "record %llu is damaged or missing; run `twinlog verify` to see what else is",
               (unsigned long long)lsn);
    twl_report_place(&report, reader->segment.name, reader->segment.header.sequence, offset, 0);
    report.first_lsn = report.last_lsn = lsn;
    return fail(reader, TWINLOG_ECORRUPT, &report);
}

/* `position` NULL: what is known without another segment. */
static int open_segment(struct twinlog_reader *reader, size_t index, const struct position *position)
{
    struct segment segment;
    int rc = twl_segment_open_valid(reader->io, reader->set.entries[index].name, &segment);
    if (rc < 0)
        return fail_system(reader, rc);
    twl_segment_close(&reader->segment);
    reader->segment = segment;
    reader->index = index;
    twl_cursor_begin(&reader->cursor, &reader->segment,
                     position ? *position : twl_position_before(&reader->segment));
    return 0;
}

/* The next segment continues where the cursor stands, or the record is lost. */
static int enter_next_segment(struct twinlog_reader *reader)
{
    struct position position = reader->cursor.position;
    uint64_t sequence = reader->segment.header.sequence + 1;
    uint64_t offset = reader->cursor.offset;
    if (reader->index + 1 >= reader->set.count) {
        int rc = load_set(reader);
        if (rc < 0)
            return rc;
    }
    size_t index = 0;
    while (index < reader->set.count && reader->set.entries[index].header.sequence != sequence)
        index++;
    if (index == reader->set.count)
        return report_damage(reader, position.next_lsn, offset);

    struct segment before = reader->segment;
    reader->segment.file = NULL;
    int rc = open_segment(reader, index, &position);
    if (rc < 0) {
        reader->segment = before;
        return rc;
    }
    rc = twl_cursor_enter_group(&reader->cursor);
    if (rc == 0) { /* it does not continue: the damage is where we were */
        twl_segment_close(&reader->segment);
        reader->segment = before;
        return report_damage(reader, position.next_lsn, offset);
    }
    twl_segment_close(&before);
    return rc < 0 ? fail_system(reader, rc) : 1;
}

/* Enters the next group; it must be there, because a record at or below the watermark is asked for. */
static int enter_group(struct twinlog_reader *reader)
{
    int rc = twl_cursor_enter_group(&reader->cursor);
    if (rc == 0) {
        twl_cursor_refresh(&reader->cursor);
        rc = twl_cursor_enter_group(&reader->cursor);
    }
    if (rc == 0)
        return enter_next_segment(reader);
    return rc < 0 ? fail_system(reader, rc) : 1;
}

/* Places the cursor in the group that holds next_lsn. */
static int find_group(struct twinlog_reader *reader)
{
    if (!reader->is_placed) {
        int rc = load_set(reader);
        if (rc < 0)
            return rc;
        size_t index = 0;
        for (size_t i = 0; i < reader->set.count; i++)
            if (reader->set.entries[i].first_lsn > 0 && reader->set.entries[i].first_lsn <= reader->next_lsn)
                index = i;
        if (reader->set.count == 0)
            return report_damage(reader, reader->next_lsn, 0);
        rc = open_segment(reader, index, NULL);
        if (rc < 0)
            return rc;
        reader->is_placed = true;
        rc = enter_group(reader);
        if (rc < 0)
            return rc;
    }
    while (reader->cursor.position.next_lsn <= reader->next_lsn) {
        int rc = enter_group(reader);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_record(struct twinlog_reader *reader, struct cursor_record *ret_record)
{
    int rc = find_group(reader);
    if (rc < 0)
        return rc;
    struct cursor *cursor = &reader->cursor;
    for (bool is_fresh = false;;) {
        uint64_t lsn = cursor->position.next_lsn - cursor->records_left;
        if (cursor->records_left == 0 || lsn > reader->next_lsn)
            return report_damage(reader, reader->next_lsn, cursor->record_offset);
        rc = lsn < reader->next_lsn ? twl_cursor_skip_record(cursor)
                                    : twl_cursor_next_record(cursor, ret_record);
        if (rc == TWINLOG_ECORRUPT && !is_fresh) {
            twl_cursor_refresh(cursor);
            is_fresh = true;
            continue;
        }
        if (rc == TWINLOG_ECORRUPT)
            return report_damage(reader, lsn, cursor->record_offset);
        if (rc < 0)
            return fail_system(reader, rc);
        if (lsn == reader->next_lsn)
            return 1;
        is_fresh = false;
    }
}

int twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *ret_record)
{
    if (!reader || !ret_record)
        return -EINVAL;
    if (reader->error != 0)
        return reader->error;
    if (reader->next_lsn > reader->to_lsn)
        return 0;
    uint64_t limit;
    int rc = durable_lsn(reader, &limit);
    if (rc == 0 && reader->next_lsn > limit)
        return 0;
    struct cursor_record record;
    if (rc == 0)
        rc = read_record(reader, &record);
    if (rc < 0) {
        reader->error = rc;
        return rc;
    }
    reader->next_lsn++;
    *ret_record = (struct twinlog_record){
        .lsn = record.lsn,
        .time_ns = record.header.time_ns,
        .data = record.payload,
        .size = record.header.size,
    };
    return 1;
}

int twinlog_reader_seek(struct twinlog_reader *reader, uint64_t lsn)
{
    if (!reader || lsn == 0)
        return -EINVAL;
    if (lsn != reader->next_lsn)
        reader->is_placed = false;
    reader->next_lsn = lsn;
    reader->error = 0;
    return 0;
}
