/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of segment files that makes a log, in order.
 *
 * A file is named by the sequence in its header, and order comes from there. What can be wrong with the set as a whole is found
 * here, before anybody looks into a segment: a gap, a header that does not check, a file that was cut,
 * a file of another log. Each of them stops the opening, because a header was durable before the first
 * record went behind it: no crash explains it.
 */
#define _GNU_SOURCE
#include "segment/cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SEGMENTS (1u << 20)
#define FIRST_LOOK_BYTES (2 * BLOCK_BYTES) /* a first group begins in the first data block */

struct name_list {
    char (*names)[SEGMENT_NAME_BYTES];
    size_t count, room;
};

static int collect_name(void *context, const char *name)
{
    struct name_list *list = context;
    if (!twl_segment_name_is_ours(name))
        return 0;
    if (list->count == MAX_SEGMENTS)
        return -EMFILE;
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        void *names = realloc(list->names, room * sizeof(*list->names));
        if (!names)
            return -ENOMEM;
        list->names = names;
        list->room = room;
    }
    strcpy(list->names[list->count++], name);
    return 0;
}

static int remove_temporary(void *context, const char *name)
{
    struct io *io = context;
    return twl_segment_name_is_temporary(name) ? io->ops->unlink(io, name) : 0;
}

static int read_first_lsn(const struct segment *segment, struct cursor *cursor, uint64_t *ret_first_lsn)
{
    twl_cursor_begin(cursor, segment, twl_position_before(segment));
    int rc = twl_cursor_enter_group(cursor);
    *ret_first_lsn = rc > 0 ? cursor->group.first_lsn : 0;
    return rc < 0 ? rc : 0;
}

static int report_header(const struct segment *segment, enum header_state state,
                         struct twinlog_report *ret_report)
{
    int error = TWINLOG_ECORRUPT;
    if (state == HEADER_NEWER) {
        error = TWINLOG_EVERSION;
        twl_report(ret_report, TWINLOG_FOUND_NEWER_FORMAT, TWINLOG_DID_REFUSE, error,
                   "%s was written by a newer twinlog; use that version to read it", segment->name);
    } else {
        /* Also if nothing in it looks like a header: telling anybody to move it away could lose a log. */
        twl_report(ret_report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, error,
                   "the header of %s does not check; restore that file from a copy%s", segment->name,
                   state == HEADER_FOREIGN ? ", or move it out if it never was a segment" : "");
    }
    twl_report_place(ret_report, segment->name, 0, 0, SEGMENT_HEADER_BYTES);
    return error;
}

static bool is_named_by_sequence(const struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];
    twl_segment_name(segment->header.sequence, name);
    return strcmp(name, segment->name) == 0;
}

static int load_entry(struct io *io, const char *name, const struct segment_set_options *options,
                      struct cursor *cursor, struct segment_entry *ret_entry,
                      struct twinlog_report *ret_report)
{
    struct segment segment;
    enum header_state state;
    int rc = twl_segment_open(io, name, options->open_flags, options->lock_wait_ms, &segment, &state);
    if (rc < 0) {
        twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, rc, "cannot %s %s: %s",
                   rc == -EBUSY ? "lock" : "read", name, twinlog_strerror(rc));
        twl_report_place(ret_report, name, 0, 0, 0);
        return rc;
    }
    if (state != HEADER_VALID) {
        rc = report_header(&segment, state, ret_report);
    } else if (!is_named_by_sequence(&segment)) {
        rc = TWINLOG_EFOREIGN;
        twl_report(ret_report, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_DID_REFUSE, rc,
                   "%s holds segment %llu: it was renamed or is a copy; give it its name or move it out",
                   name, (unsigned long long)segment.header.sequence);
        twl_report_place(ret_report, name, segment.header.sequence, 0, 0);
    } else if (segment.file_bytes < segment.header.bytes) {
        rc = TWINLOG_ECORRUPT;
        twl_report(ret_report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_REFUSE, rc,
                   "%s was cut from %llu to %llu bytes; restore that file from a copy", name,
                   (unsigned long long)segment.header.bytes, (unsigned long long)segment.file_bytes);
        twl_report_place(ret_report, name, segment.header.sequence, segment.file_bytes,
                         segment.header.bytes - segment.file_bytes);
    } else {
        strcpy(ret_entry->name, segment.name);
        ret_entry->header = segment.header;
        rc = read_first_lsn(&segment, cursor, &ret_entry->first_lsn);
    }
    twl_segment_close(&segment);
    return rc;
}

static int by_sequence(const void *a, const void *b)
{
    const struct segment_entry *x = a, *y = b;
    return (x->header.sequence > y->header.sequence) - (x->header.sequence < y->header.sequence);
}

static int check_set(const struct segment_set *set, struct twinlog_report *ret_report)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct segment_entry *entry = &set->entries[i];
        uint64_t expected = i == 0 ? 1 : set->entries[i - 1].header.sequence + 1;
        if (memcmp(entry->header.log_id, set->entries[0].header.log_id, LOG_ID_BYTES) != 0 ||
            entry->header.sequence < expected) {
            twl_report(ret_report, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_DID_REFUSE, TWINLOG_EFOREIGN,
                       "%s belongs to another log, or is a second copy; move it out of the directory",
                       entry->name);
            twl_report_place(ret_report, entry->name, entry->header.sequence, 0, 0);
            return TWINLOG_EFOREIGN;
        }
        if (entry->header.sequence > expected) {
            twl_report(ret_report, TWINLOG_FOUND_MISSING_SEGMENT, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
                       "segments %llu to %llu are missing before %s; restore them from a copy",
                       (unsigned long long)expected, (unsigned long long)entry->header.sequence - 1,
                       entry->name);
            twl_report_place(ret_report, entry->name, expected, 0, 0);
            return TWINLOG_ECORRUPT;
        }
    }
    return 0;
}

int twl_segment_set_load(struct io *io, const struct segment_set_options *options,
                         struct segment_set *ret_set, struct twinlog_report *ret_report)
{
    struct segment_set set = { 0 };
    struct name_list list = { 0 };
    struct cursor cursor = { .window_bytes = FIRST_LOOK_BYTES };
    int rc = options->remove_temporaries ? io->ops->list(io, remove_temporary, io) : 0;
    if (rc == 0)
        rc = io->ops->list(io, collect_name, &list);
    if (rc == 0 && list.count > 0) {
        set.entries = calloc(list.count, sizeof(*set.entries));
        if (!set.entries)
            rc = -ENOMEM;
    }
    if (rc < 0)
        twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, rc,
                   "cannot list the log's directory: %s", twinlog_strerror(rc));
    for (size_t i = 0; rc == 0 && i < list.count; i++) {
        rc = load_entry(io, list.names[i], options, &cursor, &set.entries[i], ret_report);
        set.count += rc == 0;
    }
    twl_cursor_free(&cursor);
    free(list.names);
    if (rc == 0 && set.count > 0) {
        qsort(set.entries, set.count, sizeof(*set.entries), by_sequence);
        rc = check_set(&set, ret_report);
    }
    if (rc < 0) {
        twl_segment_set_free(&set);
        return rc;
    }
    *ret_set = set;
    return 0;
}

void twl_segment_set_free(struct segment_set *set)
{
    free(set->entries);
    *set = (struct segment_set){ 0 };
}

int64_t twl_segment_set_newest(const struct segment_set *set)
{
    int64_t index = (int64_t)set->count - 1;
    while (index >= 0 && set->entries[index].first_lsn == 0)
        index--;
    return index;
}
