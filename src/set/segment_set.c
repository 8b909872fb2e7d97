/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of segment files that makes a log, in order, as docs/recovery.md says. No crash explains a fault of the set,
 * because a header was durable before the first record was written behind it. So it stops the opening; verify and
 * repair collect the faults, and get a set of what is there.
 *
 * Headers are read from the page cache first, as only of the newest segment and of spares it may show what the disk
 * does not have: a segment that was left had been started, and so its header had been synced. Those, the oldest and
 * twins are looked at again, on the disk (twl_segment_look()). If anything does not fit, all is read from the disk.
 */
#define _GNU_SOURCE
#include "set/segment_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SET_TRIES 3u /* files get new incarnations while the set is read: a header may read as neither */
#define MOVING_SET_TRIES 100u /* the same, while the state file shows that they do */
#define MOST_AHEAD 32u

/* A set that is being made. Its entries are sorted by role and sequence, again whenever roles have changed. */
struct set_loader {
    struct io *io;
    enum segment_set_use use;
    unsigned header_flags;            /* IO_FROM_CACHE, or 0 */
    const struct state_header *state; /* NULL = there is no usable one */
    uint64_t first_sequence;          /* the state's; 0 without one */
    uint8_t log_id[LOG_ID_BYTES];
    size_t all, room;                  /* entries */
    size_t count;                      /* those that may be started or spares, in front */
    struct io_file *ahead[MOST_AHEAD]; /* open, and not loaded yet; all in front of `end_ahead` were */
    size_t end_ahead;
    struct segment_set set;
    struct twinlog_report *report;
};

/* A reported fault ends the loading, unless faults are collected. */
static int tolerate(struct set_loader *l, int error, bool may_hide_records)
{
    struct segment_set *set = &l->set;
    const bool is_fault_of_set = error == TWINLOG_ECORRUPT || error == TWINLOG_EFOREIGN;

    if (l->use != SET_FOR_CHECKING || !is_fault_of_set)
        return error;

    void *faults = realloc(set->faults, (set->fault_count + 1) * sizeof(*set->faults));
    if (!faults)
        return -ENOMEM;

    l->report->action = TWINLOG_DID_NOTHING;
    set->faults = faults;
    set->faults[set->fault_count] = (struct set_fault){ *l->report, may_hide_records };
    set->fault_count++;
    return 0;
}

static int fault(struct set_loader *l, const char *name, uint64_t sequence, uint64_t offset, uint64_t bytes,
                 bool may_hide_records)
{
    twl_report_place(l->report, name, sequence, offset, bytes);
    return tolerate(l, l->report->error, may_hide_records);
}

/* ---- headers ----------------------------------------------------------------------------------- */

static int refuse_newer(struct set_loader *l, const char *name)
{
    twl_report(l->report, TWINLOG_FOUND_NEWER_FORMAT, TWINLOG_DID_REFUSE, TWINLOG_EVERSION,
               "%s was written by a newer twinlog; use that version to read it", name);
    return fault(l, name, 0, 0, SEGMENT_HEADER_BYTES, true);
}

static int refuse_header(struct set_loader *l, const char *name, enum header_state state)
{
    if (state == HEADER_NEWER)
        return refuse_newer(l, name);

    /* Also if nothing looks like a header: advice to move the file away could lose a log. */
    const char *more = "";
    if (state == HEADER_FOREIGN)
        more = ", or move it out if it never was a segment";
    twl_report(l->report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "the header of %s does not check; restore that file from a copy%s", name, more);
    return fault(l, name, 0, 0, SEGMENT_HEADER_BYTES, true);
}

static int refuse_segment(struct set_loader *l, int error, const char *doing, const char *name)
{
    if (error == TWINLOG_EVERSION)
        return refuse_newer(l, name);

    twl_report(l->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error, "cannot %s %s: %s", doing,
               name, twinlog_strerror(error));
    twl_report_place(l->report, name, 0, 0, 0);
    return error;
}

/* The entry keeps the sequence 0 if there is none. */
static int read_second_header(struct set_loader *l, struct segment_entry *entry)
{
    const int found = twl_second_header_read(l->io, entry->name, &entry->header);

    entry->has_second_header = found > 0;
    if (found < 0)
        return refuse_segment(l, found, "read", entry->name);
    return 0;
}

/* Opens entries in front of `end`, and has the kernel read their headers. What can't be opened early is opened in its
 * turn. */
static void open_ahead(struct set_loader *l, size_t end)
{
    const unsigned flags = IO_READ_ONLY | IO_BEGIN_READ | l->header_flags;

    while (l->end_ahead < end) {
        struct io_file **place = &l->ahead[l->end_ahead % MOST_AHEAD];
        if (io_open(l->io, l->set.entries[l->end_ahead].name, flags, place) < 0)
            break;
        l->end_ahead++;
    }
}

static int open_entry(struct set_loader *l, size_t index, struct io_file **ret_file)
{
    if (l->header_flags & IO_FROM_CACHE)
        open_ahead(l, min_u64(l->all, index + MOST_AHEAD));

    const bool is_open = index < l->end_ahead;
    if (is_open) {
        *ret_file = l->ahead[index % MOST_AHEAD];
        l->ahead[index % MOST_AHEAD] = NULL;
        return 0;
    }

    l->end_ahead = index + 1;
    return io_open(l->io, l->set.entries[index].name, IO_READ_ONLY | l->header_flags, ret_file);
}

/* 1 = it is there; 0 = it is gone by now, as retired files may be. */
static int load_entry(struct set_loader *l, size_t index)
{
    struct segment_entry *entry = &l->set.entries[index];
    struct segment segment;
    struct io_file *file;
    enum header_state state = HEADER_DAMAGED;

    int rc = open_entry(l, index, &file);
    if (rc == 0)
        rc = twl_segment_take(file, entry->name, 0, &segment, &state);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return refuse_segment(l, rc, "read", entry->name);

    twl_segment_close(&segment);
    entry->file_bytes = segment.file_bytes;
    entry->header = segment.header;
    if (state == HEADER_VALID)
        return 1;

    const bool may_have_second = l->use == SET_FOR_CHECKING && state != HEADER_NEWER;
    if (may_have_second)
        rc = read_second_header(l, entry);
    else
        rc = refuse_header(l, entry->name, state);
    if (rc < 0)
        return rc;
    return 1;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    if (a == b)
        return 0;
    return a < b ? -1 : 1;
}

static int by_place(const void *a, const void *b)
{
    const struct segment_entry *x = a, *y = b;

    int order = compare_u64(x->role, y->role);
    if (order == 0)
        order = compare_u64(x->header.sequence, y->header.sequence);
    if (order == 0)
        order = strcmp(x->name, y->name);
    return order;
}

static void sort(struct set_loader *l)
{
    qsort(l->set.entries, l->all, sizeof(*l->set.entries), by_place);
    while (l->count > 0 && l->set.entries[l->count - 1].role > SEGMENT_SPARE)
        l->count--;
}

/* ---- the set as a whole ------------------------------------------------------------------------ */

static int refuse_foreign(struct set_loader *l, const struct segment_entry *entry)
{
    twl_report(l->report, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_DID_REFUSE, TWINLOG_EFOREIGN,
               "%s belongs to another log, or is a second copy; move it out of the directory", entry->name);
    return fault(l, entry->name, entry->header.sequence, 0, 0, !entry->has_both_headers);
}

/* Segments that are missing, by their sequences, and what others tell of them. */
struct gap {
    uint64_t first, last;
    uint64_t first_lsn, last_lsn; /* of their records; 0 = not known */
};

/* The entry with that sequence, or NULL. */
static const struct segment_entry *find_entry(const struct set_loader *l, uint64_t sequence)
{
    for (size_t i = 0; i < l->all; i++)
        if (l->set.entries[i].header.sequence == sequence)
            return &l->set.entries[i];
    return NULL;
}

/* By the footer of the segment in front, or the head of the log; and by where the segment behind begins. What cannot be
 * looked at now tells nothing, and a look that finds no segment is no error: it is only for the words. */
static void find_lsns(const struct set_loader *l, const struct segment_entry *behind, struct gap *gap)
{
    const struct segment_entry *in_front = find_entry(l, gap->first - 1);
    struct segment_entry looked = *behind;

    if (gap->first == l->first_sequence && l->state)
        gap->first_lsn = l->state->first_lsn;
    if (twl_segment_look(l->io, &looked) == 0 && looked.first_lsn > 0)
        gap->last_lsn = looked.first_lsn - 1;
    if (!in_front)
        return;

    looked = *in_front;
    if (twl_segment_look(l->io, &looked) == 0 && looked.is_sealed)
        gap->first_lsn = looked.footer.last_lsn + 1;
}

/* Is each file named after the sequence of its segment? Not where files were recycled. */
static bool are_names_known(const struct set_loader *l)
{
    for (size_t i = 0; i < l->all; i++) {
        const struct segment_entry *entry = &l->set.entries[i];
        if (twl_segment_name_number(entry->name) != entry->header.sequence || entry->header.incarnations > 0)
            return false;
    }
    return true;
}

/* In words alone: a walk finds the same loss, and puts the LSNs in its report. */
static void name_records(const struct gap *gap, char *text, size_t size)
{
    const bool is_known = gap->first_lsn > 0 && gap->last_lsn >= gap->first_lsn;

    text[0] = '\0';
    if (is_known)
        snprintf(text, size, ", with the records %llu to %llu", (unsigned long long)gap->first_lsn,
                 (unsigned long long)gap->last_lsn);
}

static void name_files(const struct set_loader *l, const struct gap *gap, char *text, size_t size)
{
    char first[SEGMENT_NAME_BYTES], last[SEGMENT_NAME_BYTES];

    twl_segment_name(gap->first, first);
    twl_segment_name(gap->last, last);
    text[0] = '\0';
    if (!are_names_known(l))
        return;
    if (gap->first == gap->last)
        snprintf(text, size, " (%s)", first);
    else
        snprintf(text, size, " (%s to %s)", first, last);
}

/* May hide records: one of the segments may have been a truncation. */
static int refuse_missing(struct set_loader *l, uint64_t first, uint64_t last,
                          const struct segment_entry *behind)
{
    struct gap gap = { .first = first, .last = last };
    char records[80], files[2 * SEGMENT_NAME_BYTES + 8];

    if (behind->header.sequence > last) /* else it is the newest, and the gap is behind it */
        find_lsns(l, behind, &gap);
    name_records(&gap, records, sizeof(records));
    name_files(l, &gap, files, sizeof(files));
    twl_report(l->report, TWINLOG_FOUND_MISSING_SEGMENT, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "segments %llu to %llu%s are missing before %s%s; restore them from a copy",
               (unsigned long long)first, (unsigned long long)last, files, behind->name, records);
    return fault(l, behind->name, first, 0, 0, true);
}

static int refuse_empty(struct set_loader *l)
{
    const uint64_t first_lsn = l->state ? l->state->first_lsn : 1;

    twl_report(l->report, TWINLOG_FOUND_MISSING_SEGMENT, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "all segments are missing, with the records from %llu on; restore them from a copy",
               (unsigned long long)first_lsn);
    return fault(l, STATE_NAME, l->first_sequence, 0, 0, true);
}

static bool has_a_header(const struct segment_entry *entry)
{
    return entry->header.sequence > 0;
}

static bool is_of_log(const struct segment_entry *entry, const uint8_t log_id[LOG_ID_BYTES])
{
    return memcmp(entry->header.log_id, log_id, LOG_ID_BYTES) == 0;
}

static int forget_state(struct set_loader *l, int error)
{
    l->state = NULL;
    l->first_sequence = 0;
    l->set.is_state_lost = true;
    return tolerate(l, error, false);
}

static int refuse_state(struct set_loader *l, enum twinlog_finding finding, int error, const char *words)
{
    twl_report(l->report, finding, TWINLOG_DID_REFUSE, error, "the file %s %s", STATE_NAME, words);
    twl_report_place(l->report, STATE_NAME, 0, 0, 0);
    return forget_state(l, error);
}

static int check_state(struct set_loader *l)
{
    bool has_header = false, is_ours = false;

    for (size_t i = 0; i < l->count; i++) {
        const struct segment_entry *entry = &l->set.entries[i];
        if (!has_a_header(entry))
            continue;
        has_header = true;
        if (l->state && is_of_log(entry, l->state->log_id))
            is_ours = true;
    }

    if (!has_header)
        return 0;
    if (l->state && !is_ours)
        return refuse_state(l, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_EFOREIGN,
                            "belongs to another log; restore the right one from a copy");
    if (!l->state && !l->set.is_state_lost)
        return refuse_state(
            l, TWINLOG_FOUND_BAD_STATE, TWINLOG_ECORRUPT,
            "is missing; `twinlog repair` the log, or restore it from a copy if no record was removed "
            "since");
    return 0;
}

/* The log of the majority of the segments, if any log has one. False: none of them has a header. */
static bool choose_log_of_most(struct set_loader *l)
{
    size_t lead = 0;
    bool has_header = false;

    for (size_t i = 0; i < l->count; i++) {
        const struct segment_entry *entry = &l->set.entries[i];
        if (!has_a_header(entry))
            continue;

        has_header = true;
        if (lead == 0)
            memcpy(l->log_id, entry->header.log_id, LOG_ID_BYTES);
        if (is_of_log(entry, l->log_id))
            lead++;
        else
            lead--;
    }

    return has_header;
}

/* The state file says which log this is, else the majority of the segments. False: neither is there. */
static bool choose_log(struct set_loader *l)
{
    if (!l->state)
        return choose_log_of_most(l);
    memcpy(l->log_id, l->state->log_id, LOG_ID_BYTES);
    return true;
}

static bool is_twice(const struct set_loader *l, size_t index)
{
    const struct segment_entry *entries = l->set.entries;
    const uint64_t id = entries[index].header.segment_id;

    if (index > 0 && entries[index - 1].header.segment_id == id)
        return true;
    return index + 1 < l->all && entries[index + 1].header.segment_id == id;
}

static bool is_only_one(const struct set_loader *l, const struct segment_entry *entry)
{
    for (size_t i = 0; i < l->all; i++) {
        const struct segment_entry *other = &l->set.entries[i];
        if (other != entry && other->header.sequence == entry->header.sequence)
            return false;
    }

    return true;
}

/* ---- the second headers ------------------------------------------------------------------------ */

static int refuse_first_header(struct set_loader *l, const struct segment_entry *entry, bool may_hide_records)
{
    const uint64_t sequence = entry->header.sequence;

    twl_report(l->report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "the header of %s does not check; its second header says that it is segment %llu", entry->name,
               (unsigned long long)sequence);
    return fault(l, entry->name, sequence, 0, SEGMENT_HEADER_BYTES, may_hide_records);
}

static int refuse_both_headers(struct set_loader *l, struct segment_entry *entry)
{
    uint64_t first_lsn, last_lsn;

    const int rc = twl_second_header_find_lost(l->io, entry->name, l->log_id, &first_lsn, &last_lsn);
    if (rc < 0)
        return refuse_segment(l, rc, "read", entry->name);

    if (last_lsn > 0)
        twl_report(l->report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
                   "neither header of %s checks; restore that file from a copy: records %llu to %llu in it "
                   "are lost, unless they were removed",
                   entry->name, (unsigned long long)first_lsn, (unsigned long long)last_lsn);
    else
        twl_report(
            l->report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
            "neither header of %s checks, and no record was found in it; restore that file from a copy",
            entry->name);
    l->report->first_lsn = first_lsn;
    l->report->last_lsn = last_lsn;
    entry->header.sequence = 0;
    return fault(l, entry->name, 0, 0, entry->file_bytes, true);
}

/* The first header does not count. */
static int take_second_header(struct set_loader *l, struct segment_entry *entry)
{
    if (!entry->has_second_header || !is_of_log(entry, l->log_id))
        return refuse_both_headers(l, entry);

    const int used = twl_second_header_is_used(l->io, entry);
    if (used < 0)
        return refuse_segment(l, used, "read", entry->name);

    /* A truncation that is not begun is believed only if nothing contradicts it; it may have failed. */
    const bool is_unused_start = used == 0 && entry->header.start_lsn > 0;
    if (is_unused_start && !is_only_one(l, entry))
        return refuse_both_headers(l, entry);
    return refuse_first_header(l, entry, is_unused_start);
}

/* Does the second header count, and not the first one, although both check and differ? 1 = yes. If no group was written
 * under it, or one under the first, a crash came when the file was about to be recycled. */
static int is_second_the_right_one(struct set_loader *l, const struct segment_entry *first,
                                   const struct segment_entry *second)
{
    int used = twl_second_header_is_used(l->io, second);
    if (used == 0)
        return 0;

    if (used > 0)
        used = twl_second_header_is_used(l->io, first);
    if (used < 0)
        return refuse_segment(l, used, "read", first->name);
    return used == 0;
}

/* The header is valid. Is it that of the file? */
static int compare_headers(struct set_loader *l, struct segment_entry *entry, bool is_doubtful)
{
    struct segment_entry second = *entry;

    int rc = read_second_header(l, &second);
    if (rc < 0)
        return rc;

    const bool is_same = second.has_second_header && second.header.segment_id == entry->header.segment_id;
    entry->has_both_headers = is_same && !segment_is_mapped(&entry->header); /* those are in one block */
    if (!second.has_second_header || is_same || !is_of_log(&second, l->log_id))
        return 0;

    if (!is_doubtful) {
        const int is_right = is_second_the_right_one(l, entry, &second);
        if (is_right <= 0)
            return is_right;
    }

    *entry = second;
    return take_second_header(l, entry);
}

static int mend_headers(struct set_loader *l)
{
    int rc = 0;

    sort(l);
    for (size_t i = 0; rc == 0 && i < l->all; i++) {
        struct segment_entry *entry = &l->set.entries[i];
        const bool has_first_header = has_a_header(entry) && !entry->has_second_header;
        if (has_first_header)
            rc = compare_headers(l, entry, !is_of_log(entry, l->log_id) || is_twice(l, i));
        else
            rc = take_second_header(l, entry);
    }

    return rc;
}

/* ---- which segments make the log ---------------------------------------------------------------- */

static int check_owners(struct set_loader *l)
{
    struct segment_entry *entries = l->set.entries;
    size_t kept = 0;

    for (size_t i = 0; i < l->all; i++) {
        if (!has_a_header(&entries[i]))
            continue;

        if (is_of_log(&entries[i], l->log_id)) {
            entries[kept] = entries[i];
            kept++;
            continue;
        }

        const int rc = refuse_foreign(l, &entries[i]);
        if (rc < 0)
            return rc;
    }

    l->all = kept;
    l->count = kept;
    return 0;
}

/* Where another segment continues it, a walk finds what is missing. */
static int check_length(struct set_loader *l, const struct segment_entry *entry, bool is_continued)
{
    const bool is_whole = entry->file_bytes >= entry->header.bytes;
    if (is_whole || segment_is_mapped(&entry->header)) /* missing bytes of those count as zeros */
        return 0;

    twl_report(l->report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "%s was truncated from %llu to %llu bytes; restore that file from a copy", entry->name,
               (unsigned long long)entry->header.bytes, (unsigned long long)entry->file_bytes);
    return fault(l, entry->name, entry->header.sequence, entry->file_bytes,
                 entry->header.bytes - entry->file_bytes, !is_continued);
}

/* Waits until the writes that a dead writer had in flight have landed. */
static int wait_for_dead_writer(struct set_loader *l, const struct segment_entry *entry)
{
    struct io_file *file;

    int rc = io_open(l->io, entry->name, 0, &file);
    if (rc < 0)
        return refuse_segment(l, rc, "open", entry->name);

    rc = twl_lock_patiently(file, IO_LOCK_WRITER, true, DEAD_WRITER_WAIT_MS);
    io_close(file);
    if (rc < 0)
        return refuse_segment(l, rc, "lock", entry->name);
    return 0;
}

static int look_after_dead_writer(struct set_loader *l, struct segment_entry *entry)
{
    int rc = 0;

    if (l->use == SET_FOR_WRITING)
        rc = wait_for_dead_writer(l, entry);
    if (rc < 0)
        return rc;

    rc = twl_segment_look(l->io, entry);
    if (rc < 0)
        return refuse_segment(l, rc, "read", entry->name);
    return 0;
}

/* Of two that have one sequence, the right one counts. */
static void prefer(struct segment_entry *right, struct segment_entry *twin)
{
    right->role = SEGMENT_STARTED;
    twin->role = SEGMENT_RETIRED;
}

/* A second copy, or its header was written over another: the one that has both headers counts. */
static int choose_copy(struct set_loader *l, struct segment_entry *a, struct segment_entry *b)
{
    if (b->has_both_headers && !a->has_both_headers) {
        prefer(b, a);
        return refuse_foreign(l, a);
    }

    prefer(a, b);
    return refuse_foreign(l, b);
}

/* Retires the one that does not count: a sequence is used again only if its segment could not be made. */
static int choose_twin(struct set_loader *l, struct segment_entry *a, struct segment_entry *b)
{
    if (a->header.segment_id == b->header.segment_id)
        return choose_copy(l, a, b);

    int rc = look_after_dead_writer(l, a);
    if (rc == 0)
        rc = look_after_dead_writer(l, b);
    if (rc < 0)
        return rc;

    const bool has_a = a->first_lsn > 0, has_b = b->first_lsn > 0;
    if (has_b && !has_a) {
        prefer(b, a);
        return 0;
    }

    prefer(a, b);
    if (has_a && has_b)
        return refuse_foreign(l, b);
    return 0;
}

static int choose_twins(struct set_loader *l)
{
    struct segment_entry *last = l->set.entries;

    for (size_t i = 1; i < l->count; i++) {
        struct segment_entry *entry = &l->set.entries[i];
        if (entry->header.sequence == last->header.sequence) {
            const int rc = choose_twin(l, last, entry);
            if (rc < 0)
                return rc;
        }

        if (entry->role == SEGMENT_STARTED)
            last = entry;
    }

    sort(l);
    return 0;
}

/* From the top down; what is above the newest started one are spares. No retired file passes for a lost one. */
static int find_newest(struct set_loader *l, size_t *ret_started)
{
    size_t started = l->count;

    while (started > 0) {
        struct segment_entry *entry = &l->set.entries[started - 1];
        const bool is_retired = entry->header.sequence < l->first_sequence;

        if (l->use == SET_FOR_CHECKING && is_retired) {
            entry->role = SEGMENT_RETIRED;
        } else {
            int rc = check_length(l, entry, false);
            if (rc == 0)
                rc = look_after_dead_writer(l, entry);
            if (rc < 0)
                return rc;
            if (entry->first_lsn > 0)
                break;
            entry->role = SEGMENT_SPARE;
        }

        started--;
    }

    if (started == 0) /* else none was retired */
        sort(l);
    *ret_started = started;
    return 0;
}

static bool begins_log(const struct segment_header *header)
{
    return header->start_lsn > 0 && header->previous == 0;
}

/* The oldest of the entries in front of `end` that has that sequence or a later one; `end` if none has. */
static size_t find_sequence(const struct segment_entry *entries, size_t end, uint64_t sequence)
{
    while (end > 0 && entries[end - 1].header.sequence >= sequence)
        end--;
    return end;
}

/* Goes to the segment that this one continues, or behind a gap to the next older one: 1. 0 = the path ends in a gap,
 * which without a state file counts as trimmed. */
static int go_back(struct set_loader *l, size_t *at)
{
    const struct segment_entry *entries = l->set.entries;
    const uint64_t before = twl_sequence_before(&entries[*at].header);
    const size_t found = find_sequence(entries, *at, before);

    if (found < *at && entries[found].header.sequence == before) {
        *at = found;
        return 1;
    }

    uint64_t oldest_before = 0; /* in front of the gap */
    if (found > 0)
        oldest_before = entries[found - 1].header.sequence;
    const int rc = refuse_missing(l, oldest_before + 1, before, &entries[*at]);
    if (rc < 0)
        return rc;

    if (found == 0 || l->set.is_state_lost || oldest_before < l->first_sequence)
        return 0;
    *at = found - 1;
    return 1;
}

/* The segments from the newest one back to the head of the log are started, the others are retired. */
static int follow_path(struct set_loader *l, size_t newest)
{
    struct segment_entry *entries = l->set.entries;
    size_t at = newest;

    for (size_t i = 0; i < newest; i++)
        entries[i].role = SEGMENT_RETIRED;

    while (!begins_log(&entries[at].header) && entries[at].header.sequence > l->first_sequence) {
        const int has_gone = go_back(l, &at);
        if (has_gone < 0)
            return has_gone;
        if (has_gone == 0)
            break;

        entries[at].role = SEGMENT_STARTED;
        const int rc = check_length(l, &entries[at], true);
        if (rc < 0)
            return rc;
    }

    /* The segment of the head existed when the state file was written. */
    if (entries[at].header.sequence < l->first_sequence)
        return refuse_missing(l, entries[newest].header.sequence + 1, l->first_sequence, &entries[newest]);
    return 0;
}

static int check_spares(struct set_loader *l, size_t started)
{
    const struct segment_entry *entries = l->set.entries;

    for (size_t i = started; i < l->count; i++) {
        const uint64_t sequence = entries[i].header.sequence;
        uint64_t expected = 1;
        if (i > 0)
            expected = entries[i - 1].header.sequence + 1;

        if (sequence != expected) {
            const int rc = refuse_missing(l, expected, sequence - 1, &entries[i]);
            if (rc < 0)
                return rc;
        }
    }

    if (started == 0 && l->count > 0) /* the first segment is started by its header */
        return refuse_missing(l, 1, entries[0].header.sequence, &entries[0]);
    return 0;
}

static void count_entry(struct segment_set *set, const struct segment_entry *entry)
{
    set->max_number = max_u64(set->max_number, twl_segment_name_number(entry->name));
    set->max_sequence = max_u64(set->max_sequence, entry->header.sequence);

    switch (entry->role) {
    case SEGMENT_STARTED:
        set->started++;
        if (segment_is_truncation(&entry->header))
            set->truncation_epoch = (uint32_t)max_u64(set->truncation_epoch, entry->header.epoch);
        break;
    case SEGMENT_SPARE:
        set->spares++;
        break;
    case SEGMENT_RETIRED:
        set->retired++;
        break;
    }
}

/* The head of the log is the one in the state file, unless a reset came later. */
static int find_first_lsn(struct set_loader *l)
{
    struct segment_set *set = &l->set;
    uint64_t head_lsn = 1;

    if (l->state)
        head_lsn = l->state->first_lsn;
    if (set->started == 0) {
        set->first_lsn = head_lsn;
        return 0;
    }

    struct segment_entry *oldest = &set->entries[0];
    const int rc = twl_segment_look(l->io, oldest);
    if (rc < 0)
        return refuse_segment(l, rc, "read", oldest->name);

    set->first_lsn = max_u64(oldest->first_lsn, 1);
    if (oldest->header.sequence == l->first_sequence)
        set->first_lsn = max_u64(set->first_lsn, head_lsn);
    else if (l->state && !begins_log(&oldest->header)) /* what is in front of it is missing */
        set->first_lsn = head_lsn;
    oldest->head_lsn = set->first_lsn;
    return 0;
}

static int make_set(struct set_loader *l)
{
    size_t started = 0;

    sort(l);
    int rc = choose_twins(l);
    if (rc == 0)
        rc = find_newest(l, &started);
    if (rc < 0)
        return rc;

    const bool are_all_retired = l->count == 0 && l->all > 0;
    if (are_all_retired)
        rc = refuse_empty(l);
    else
        rc = check_spares(l, started);
    if (rc == 0 && started > 0)
        rc = follow_path(l, started - 1);
    if (rc < 0)
        return rc;

    sort(l);
    for (size_t i = 0; i < l->all; i++)
        count_entry(&l->set, &l->set.entries[i]);
    return find_first_lsn(l);
}

/* ---- loading ------------------------------------------------------------------------------------ */

/* Is it of a log that may have no segment yet? Then a crash came while that was made. */
static bool is_just_born(const struct state_header *state)
{
    return state->generation == GENERATION_BEFORE_SEGMENTS && state->first_lsn <= 1 && state->body_bytes == 0;
}

static int remove_temporary(void *context, const char *name)
{
    struct set_loader *l = context;

    if (!twl_segment_name_is_temporary(name))
        return 0;
    const int rc = l->io->ops->unlink(l->io, name);
    if (rc < 0)
        refuse_segment(l, rc, "remove", name);
    return rc;
}

static int make_room(struct set_loader *l)
{
    void *entries = realloc(l->set.entries, 2 * l->room * sizeof(*l->set.entries));
    if (!entries)
        return -ENOMEM;

    l->set.entries = entries;
    l->room *= 2;
    return 0;
}

static int collect(void *context, const char *name)
{
    struct set_loader *l = context;
    int rc = 0;

    if (!twl_segment_name_is_ours(name))
        return 0;
    if (l->all == MOST_SEGMENTS)
        return -EMFILE;
    if (l->all == l->room)
        rc = make_room(l);
    if (rc < 0)
        return rc;

    struct segment_entry *entry = &l->set.entries[l->all];
    *entry = (struct segment_entry){ 0 };
    strcpy(entry->name, name);
    l->all++;
    return 0;
}

static int list_entries(struct set_loader *l)
{
    int rc = 0;

    l->room = 16;
    l->set.entries = calloc(l->room, sizeof(*l->set.entries)); /* an empty one for a set without files */
    if (!l->set.entries)
        rc = -ENOMEM;
    if (rc == 0 && l->use == SET_FOR_WRITING)
        rc = l->io->ops->list(l->io, remove_temporary, l);
    if (rc == 0)
        rc = l->io->ops->list(l->io, collect, l);
    if (rc < 0 && l->report->error != rc) {
        twl_report(l->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, rc,
                   "cannot list the log's directory: %s", twinlog_strerror(rc));
    }
    if (rc < 0)
        return rc;

    sort(l); /* by name, because a directory has no reliable order */
    return 0;
}

/* Entries of files that are gone are left out. */
static int load_listed(struct set_loader *l)
{
    int loaded = 0;

    for (size_t i = 0; loaded >= 0 && i < l->all; i++) {
        loaded = load_entry(l, i);
        if (loaded > 0) {
            l->set.entries[l->count] = l->set.entries[i];
            l->count++;
        }
    }

    for (unsigned i = 0; i < MOST_AHEAD; i++)
        io_close(l->ahead[i]);
    if (loaded < 0)
        return loaded;
    return 0;
}

static int load_entries(struct set_loader *l)
{
    int rc = list_entries(l);
    if (rc == 0)
        rc = load_listed(l);
    if (rc < 0)
        return rc;

    if (l->all > 0 && l->count == 0) /* there are other files by now */
        return refuse_segment(l, -ENOENT, "read", l->set.entries[0].name);
    l->all = l->count;
    return 0;
}

static void place_head(struct set_loader *l)
{
    if (!l->state)
        return;

    for (size_t i = 0; i < l->count; i++) {
        struct segment_entry *entry = &l->set.entries[i];
        if (entry->header.sequence == l->first_sequence)
            entry->head_lsn = l->state->first_lsn;
    }
}

/* There is neither a header nor a state file. */
static int refuse_all(struct set_loader *l)
{
    if (l->count == 0)
        return 0;

    const int rc = refuse_header(l, l->set.entries[0].name, HEADER_DAMAGED);
    if (rc < 0)
        return rc;
    return TWINLOG_ECORRUPT;
}

static int load_set(struct set_loader *l)
{
    int rc = load_entries(l);
    if (rc == 0)
        rc = check_state(l);
    if (rc < 0)
        return rc;

    const bool has_lost_all = l->count == 0 && l->state && !is_just_born(l->state);
    if (has_lost_all)
        rc = refuse_empty(l);
    if (rc < 0)
        return rc;

    if (!choose_log(l))
        return refuse_all(l);

    if (l->use == SET_FOR_CHECKING)
        rc = mend_headers(l);
    if (rc == 0)
        rc = check_owners(l);
    if (rc < 0)
        return rc;

    place_head(l);
    return make_set(l);
}

void twl_segment_set_free(struct segment_set *set)
{
    free(set->entries);
    free(set->faults);
    *set = (struct segment_set){ 0 };
}

/* What one attempt to load the set has given. */
struct attempt {
    struct state state;
    uint64_t generation; /* of the state file; 0 = there was no usable one */
    struct segment_set set;
    struct twinlog_report report;
};

/* The state file first: what a later one says of the segments came after it. */
static int load_state(struct set_loader *l, struct attempt *attempt)
{
    struct state *state = &attempt->state;

    const int rc = twl_state_read(l->io, state, l->report);
    if (rc < 0)
        *state = (struct state){ 0 };
    attempt->generation = state->header.generation;

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return forget_state(l, rc);
    if (state->header.generation > 0) {
        l->state = &state->header;
        l->first_sequence = state->header.first_sequence;
    }

    return 0;
}

/* After a failure there is nothing to free but the state. */
static int open_once(struct io *io, enum segment_set_use use, unsigned header_flags, struct attempt *attempt)
{
    struct set_loader l = {
        .io = io,
        .use = use,
        .header_flags = header_flags,
        .set = { .first_lsn = 1 },
        .report = &attempt->report,
    };

    int rc = load_state(&l, attempt);
    if (rc == 0)
        rc = load_set(&l);
    if (rc < 0 || !l.state)
        twl_state_free(&attempt->state);
    if (rc < 0) {
        twl_segment_set_free(&l.set);
        return rc;
    }

    if (l.state && l.state->cursor_epoch > l.set.truncation_epoch)
        l.set.passed_lsn = twl_state_furthest(&attempt->state);
    attempt->set = l.set;
    return 0;
}

/* Did a trim or a truncation change the state file while the set was loaded? Where that cannot be found out, they may
 * have, and the next attempt finds what the system refuses. */
static bool may_have_changed(struct io *io, uint64_t generation)
{
    struct state now = { 0 };

    const int rc = twl_state_read(io, &now, NULL);
    const bool has_no_usable_one = rc == -ENOENT || rc == TWINLOG_ECORRUPT || rc == TWINLOG_EVERSION;
    const bool is_same = rc == 0 && now.header.generation == generation;
    twl_state_free(&now);

    if (has_no_usable_one)
        return generation > 0;
    return !is_same;
}

bool twl_set_may_be_moving(int error)
{
    return error == TWINLOG_ECORRUPT || error == TWINLOG_EFOREIGN || error == -ENOENT;
}

/* What the last attempt has found may be no fault. */
static int refuse_moving(struct attempt *attempt)
{
    twl_report(&attempt->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, -EBUSY,
               "cannot read the segments: the log was trimmed or truncated a hundred times meanwhile");
    return -EBUSY;
}

/* Tries again where the set may have been in motion, unless the caller is the only writer. */
static int open_patiently(struct io *io, enum segment_set_use use, struct attempt *attempt)
{
    unsigned header_flags = IO_FROM_CACHE;

    for (unsigned tries = 1;; tries++) {
        const int rc = open_once(io, use, header_flags, attempt);
        if (!twl_set_may_be_moving(rc))
            return rc;
        if (use == SET_FOR_WRITING && tries > 1)
            return rc;
        if (tries >= SET_TRIES && !may_have_changed(io, attempt->generation))
            return rc;
        if (tries == MOVING_SET_TRIES)
            return refuse_moving(attempt);
        header_flags = 0;
    }
}

/* Each header may be sound, but that of another file; and faults are collected. */
static int open_to_check(struct io *io, struct attempt *attempt)
{
    const int rc = open_patiently(io, SET_FOR_READING, attempt);
    if (rc < 0 && rc != TWINLOG_ECORRUPT && rc != TWINLOG_EFOREIGN)
        return rc;

    if (rc == 0) {
        twl_segment_set_free(&attempt->set);
        twl_state_free(&attempt->state);
    }
    return open_once(io, SET_FOR_CHECKING, 0, attempt);
}

int twl_segment_set_open(struct io *io, enum segment_set_use use, struct state *ret_state,
                         struct segment_set *ret_set, struct twinlog_report *ret_report)
{
    struct attempt attempt = { 0 };
    int rc;

    if (use == SET_FOR_CHECKING)
        rc = open_to_check(io, &attempt);
    else
        rc = open_patiently(io, use, &attempt);

    if (rc < 0) {
        if (ret_report)
            *ret_report = attempt.report;
        return rc;
    }

    *ret_set = attempt.set;
    if (ret_state)
        *ret_state = attempt.state;
    else
        twl_state_free(&attempt.state);
    return 0;
}
