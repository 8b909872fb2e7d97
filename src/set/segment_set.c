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
    uint64_t first_sequence;          /* of it; else 0 */
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
    if (l->use != SET_FOR_CHECKING || (error != TWINLOG_ECORRUPT && error != TWINLOG_EFOREIGN))
        return error;
    void *faults = realloc(set->faults, (set->fault_count + 1) * sizeof(*set->faults));
    if (!faults)
        return -ENOMEM;
    l->report->action = TWINLOG_DID_NOTHING;
    set->faults = faults;
    set->faults[set->fault_count++] = (struct set_fault){ *l->report, may_hide_records };
    return 0;
}

static int fault(struct set_loader *l, const char *name, uint64_t sequence, uint64_t offset, uint64_t bytes,
                 bool may_hide_records)
{
    twl_report_place(l->report, name, sequence, offset, bytes);
    return tolerate(l, l->report->error, may_hide_records);
}

/* ---- headers ----------------------------------------------------------------------------------- */

static int refuse_header(struct set_loader *l, const char *name, enum header_state state)
{
    if (state == HEADER_NEWER)
        twl_report(l->report, TWINLOG_FOUND_NEWER_FORMAT, TWINLOG_DID_REFUSE, TWINLOG_EVERSION,
                   "%s was written by a newer twinlog; use that version to read it", name);
    else /* Also if nothing looks like a header: advice to move the file away could lose a log. */
        twl_report(l->report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
                   "the header of %s does not check; restore that file from a copy%s", name,
                   state == HEADER_FOREIGN ? ", or move it out if it never was a segment" : "");
    return fault(l, name, 0, 0, SEGMENT_HEADER_BYTES, true);
}

static int refuse_segment(struct set_loader *l, int error, const char *doing, const char *name)
{
    if (error == TWINLOG_EVERSION)
        return refuse_header(l, name, HEADER_NEWER);
    twl_report(l->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error, "cannot %s %s: %s", doing,
               name, twinlog_strerror(error));
    twl_report_place(l->report, name, 0, 0, 0);
    return error;
}

/* The entry keeps the sequence 0 if there is none. */
static int read_second_header(struct set_loader *l, struct segment_entry *entry)
{
    int rc = twl_second_header_read(l->io, entry->name, &entry->header);
    entry->has_second_header = rc > 0;
    return rc < 0 ? refuse_segment(l, rc, "read", entry->name) : 0;
}

/* Has the kernel read the headers behind that one meanwhile. What can't be opened early is opened in its turn. */
static int open_entry(struct set_loader *l, size_t index, struct io_file **ret_file)
{
    const unsigned flags = IO_READ_ONLY | l->header_flags;
    const bool may_open_ahead = l->header_flags & IO_FROM_CACHE;
    const size_t most = may_open_ahead ? min_u64(l->all, index + MOST_AHEAD) : 0;

    while (l->end_ahead < most) {
        const char *name = l->set.entries[l->end_ahead].name;
        if (io_open(l->io, name, flags | IO_BEGIN_READ, &l->ahead[l->end_ahead % MOST_AHEAD]) < 0)
            break;
        l->end_ahead++;
    }

    if (l->end_ahead <= index) {
        l->end_ahead = index + 1;
        return io_open(l->io, l->set.entries[index].name, flags, ret_file);
    }
    *ret_file = l->ahead[index % MOST_AHEAD];
    l->ahead[index % MOST_AHEAD] = NULL;
    return 0;
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
    if (rc < 0)
        return rc == -ENOENT ? 0 : refuse_segment(l, rc, "read", entry->name);
    twl_segment_close(&segment);
    entry->file_bytes = segment.file_bytes;
    entry->header = segment.header;
    if (state != HEADER_VALID && (l->use != SET_FOR_CHECKING || state == HEADER_NEWER))
        rc = refuse_header(l, entry->name, state);
    else if (state != HEADER_VALID)
        rc = read_second_header(l, entry);
    return rc < 0 ? rc : 1;
}

static int by_place(const void *a, const void *b)
{
    const struct segment_entry *x = a, *y = b;
    if (x->role != y->role)
        return x->role < y->role ? -1 : 1;
    if (x->header.sequence != y->header.sequence)
        return x->header.sequence < y->header.sequence ? -1 : 1;
    return strcmp(x->name, y->name);
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

/* May hide records: one of the segments may have been a truncation. */
static int refuse_missing(struct set_loader *l, uint64_t first, uint64_t last,
                          const struct segment_entry *before)
{
    twl_report(l->report, TWINLOG_FOUND_MISSING_SEGMENT, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "segments %llu to %llu are missing before %s; restore them from a copy",
               (unsigned long long)first, (unsigned long long)last, before->name);
    return fault(l, before->name, first, 0, 0, true);
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
        has_header = has_header || has_a_header(entry);
        is_ours = is_ours || (l->state && has_a_header(entry) && is_of_log(entry, l->state->log_id));
    }
    if (l->state && has_header && !is_ours)
        return refuse_state(l, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_EFOREIGN,
                            "belongs to another log; restore the right one from a copy");
    if (!l->state && has_header && !l->set.is_state_lost)
        return refuse_state(l, TWINLOG_FOUND_BAD_STATE, TWINLOG_ECORRUPT,
                            "is missing; restore it from a copy, or `twinlog repair` the log");
    return 0;
}

/* The state file says which log this is, else the majority of the segments. False: neither is there. */
static bool choose_log(struct set_loader *l)
{
    size_t lead = 0;
    bool is_known = l->state != NULL;
    if (is_known)
        memcpy(l->log_id, l->state->log_id, LOG_ID_BYTES);
    for (size_t i = 0; i < l->count && !l->state; i++) {
        const struct segment_entry *entry = &l->set.entries[i];
        if (!has_a_header(entry))
            continue;
        if (lead == 0)
            memcpy(l->log_id, entry->header.log_id, LOG_ID_BYTES);
        lead = is_of_log(entry, l->log_id) ? lead + 1 : lead - 1;
        is_known = true;
    }
    return is_known;
}

static bool is_twice(const struct set_loader *l, size_t index)
{
    const struct segment_entry *entries = l->set.entries;
    const uint64_t id = entries[index].header.segment_id;
    return (index > 0 && entries[index - 1].header.segment_id == id) ||
           (index + 1 < l->all && entries[index + 1].header.segment_id == id);
}

static bool is_only_one(const struct set_loader *l, const struct segment_entry *entry)
{
    for (size_t i = 0; i < l->all; i++)
        if (&l->set.entries[i] != entry && l->set.entries[i].header.sequence == entry->header.sequence)
            return false;
    return true;
}

static int take_second_header(struct set_loader *l, struct segment_entry *entry)
{
    const unsigned long long sequence = entry->header.sequence;
    int is_used = 0;
    if (entry->has_second_header)
        is_used = is_of_log(entry, l->log_id) ? twl_second_header_is_used(l->io, entry) : 0;
    if (is_used < 0)
        return refuse_segment(l, is_used, "read", entry->name);
    /* A truncation that is not begun is believed only if nothing contradicts it; it may have failed. */
    const bool is_fixed = entry->header.start_lsn > 0;
    const bool counts = entry->has_second_header && is_of_log(entry, l->log_id) &&
                        (is_used || !is_fixed || is_only_one(l, entry));
    if (counts) {
        twl_report(l->report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
                   "the header of %s does not check; its second header says that it is segment %llu",
                   entry->name, sequence);
        return fault(l, entry->name, sequence, 0, SEGMENT_HEADER_BYTES, is_fixed && !is_used);
    }
    uint64_t first_lsn, last_lsn;
    int rc = twl_second_header_find_lost(l->io, entry->name, l->log_id, &first_lsn, &last_lsn);
    if (rc < 0)
        return refuse_segment(l, rc, "read", entry->name);
    twl_report(
        l->report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
        last_lsn > 0
            ? "neither header of %s checks; restore that file from a copy: records %llu to %llu in it are lost, unless "
              "they were removed"
            : "neither header of %s checks, and no record was found in it; restore that file from a copy",
        entry->name, (unsigned long long)first_lsn, (unsigned long long)last_lsn);
    l->report->first_lsn = first_lsn;
    l->report->last_lsn = last_lsn;
    entry->header.sequence = 0;
    return fault(l, entry->name, 0, 0, entry->file_bytes, true);
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
    if (!is_doubtful) { /* a crash may have come when the file was about to be recycled */
        rc = twl_second_header_is_used(l->io, &second);
        if (rc > 0)
            rc = twl_second_header_is_used(l->io, entry) == 0;
        if (rc <= 0)
            return rc < 0 ? refuse_segment(l, rc, "read", entry->name) : 0;
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
        if (!has_a_header(entry) || entry->has_second_header)
            rc = take_second_header(l, entry);
        else
            rc = compare_headers(l, entry, !is_of_log(entry, l->log_id) || is_twice(l, i));
    }
    return rc;
}

static int check_owners(struct set_loader *l)
{
    struct segment_entry *entries = l->set.entries;
    size_t kept = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < l->all; i++)
        if (has_a_header(&entries[i]) && is_of_log(&entries[i], l->log_id))
            entries[kept++] = entries[i];
        else if (has_a_header(&entries[i]))
            rc = refuse_foreign(l, &entries[i]);
    l->all = l->count = kept;
    return rc;
}

/* Where another segment continues it, a walk finds what is missing. */
static int check_length(struct set_loader *l, const struct segment_entry *entry, bool is_continued)
{
    if (entry->file_bytes >= entry->header.bytes ||
        segment_is_mapped(&entry->header)) /* missing bytes count as zeros */
        return 0;
    twl_report(l->report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "%s was truncated from %llu to %llu bytes; restore that file from a copy", entry->name,
               (unsigned long long)entry->header.bytes, (unsigned long long)entry->file_bytes);
    return fault(l, entry->name, entry->header.sequence, entry->file_bytes,
                 entry->header.bytes - entry->file_bytes, !is_continued);
}

/* Looks when the writes that a dead writer had in flight have landed. */
static int look_after_dead_writer(struct set_loader *l, struct segment_entry *entry)
{
    struct io_file *file;
    int rc = 0;
    if (l->use == SET_FOR_WRITING) {
        rc = io_open(l->io, entry->name, 0, &file);
        if (rc < 0)
            return refuse_segment(l, rc, "open", entry->name);
        rc = twl_lock_patiently(file, DEAD_WRITER_WAIT_MS);
        io_close(file);
        if (rc < 0)
            return refuse_segment(l, rc, "lock", entry->name);
    }
    rc = twl_segment_look(l->io, entry);
    return rc < 0 ? refuse_segment(l, rc, "read", entry->name) : 0;
}

/* Retires the one that does not count: a sequence is used again only if its segment could not be made. */
static int choose_twin(struct set_loader *l, struct segment_entry *a, struct segment_entry *b)
{
    int rc = 0;
    /* a second copy, or its header was written over another */
    const bool is_copy = a->header.segment_id == b->header.segment_id;
    if (!is_copy)
        rc = look_after_dead_writer(l, a);
    if (!is_copy && rc == 0)
        rc = look_after_dead_writer(l, b);
    if (rc < 0)
        return rc;
    const bool is_b =
        is_copy ? b->has_both_headers && !a->has_both_headers : a->first_lsn == 0 && b->first_lsn > 0;
    a->role = is_b ? SEGMENT_RETIRED : SEGMENT_STARTED;
    b->role = is_b ? SEGMENT_STARTED : SEGMENT_RETIRED;
    return is_copy || (a->first_lsn > 0 && b->first_lsn > 0) ? refuse_foreign(l, is_b ? a : b) : 0;
}

static int choose_twins(struct set_loader *l)
{
    struct segment_entry *last = l->set.entries;
    int rc = 0;
    for (size_t i = 1; rc == 0 && i < l->count; i++) {
        struct segment_entry *entry = &l->set.entries[i];
        if (entry->header.sequence == last->header.sequence)
            rc = choose_twin(l, last, entry);
        if (entry->role == SEGMENT_STARTED)
            last = entry;
    }
    sort(l);
    return rc;
}

/* From the top down; what is above the newest started one are spares. No retired file passes for a lost one. */
static int find_newest(struct set_loader *l, size_t *ret_started)
{
    int rc = 0;
    for (*ret_started = l->count; rc == 0 && *ret_started > 0; --*ret_started) {
        struct segment_entry *entry = &l->set.entries[*ret_started - 1];
        if (l->use == SET_FOR_CHECKING && entry->header.sequence < l->first_sequence) {
            entry->role = SEGMENT_RETIRED;
            continue;
        }
        rc = check_length(l, entry, false);
        if (rc == 0)
            rc = look_after_dead_writer(l, entry);
        if (rc == 0 && entry->first_lsn > 0)
            break;
        entry->role = SEGMENT_SPARE;
    }
    if (*ret_started == 0) /* else none was retired */
        sort(l);
    return rc;
}

static bool begins_log(const struct segment_header *header)
{
    return header->start_lsn > 0 && header->previous == 0;
}

/* Behind a gap it goes on with the next older segment; without a state file that counts as trimmed. */
static int follow_path(struct set_loader *l, size_t newest)
{
    struct segment_entry *entries = l->set.entries;
    size_t at = newest;
    int rc = 0;
    for (size_t i = 0; i < newest; i++)
        entries[i].role = SEGMENT_RETIRED;
    while (!begins_log(&entries[at].header) && entries[at].header.sequence > l->first_sequence) {
        const uint64_t before = twl_sequence_before(&entries[at].header);
        size_t next = at;
        while (next > 0 && entries[next - 1].header.sequence >= before)
            next--;
        if (next == at || entries[next].header.sequence != before) {
            rc =
                refuse_missing(l, next > 0 ? entries[next - 1].header.sequence + 1 : 1, before, &entries[at]);
            if (rc < 0)
                return rc;
            if (next == 0 || l->set.is_state_lost || entries[next - 1].header.sequence < l->first_sequence)
                break;
            next--;
        }
        at = next;
        entries[at].role = SEGMENT_STARTED;
        rc = check_length(l, &entries[at], true);
        if (rc < 0)
            return rc;
    }
    /* The segment of the head existed when the state file was written. */
    if (entries[at].header.sequence < l->first_sequence)
        rc = refuse_missing(l, entries[newest].header.sequence + 1, l->first_sequence, &entries[newest]);
    return rc;
}

static int check_spares(struct set_loader *l, size_t started)
{
    const struct segment_entry *entries = l->set.entries;
    int rc = 0;
    for (size_t i = started; rc == 0 && i < l->count; i++) {
        uint64_t expected = i == 0 ? 1 : entries[i - 1].header.sequence + 1;
        if (entries[i].header.sequence != expected)
            rc = refuse_missing(l, expected, entries[i].header.sequence - 1, &entries[i]);
    }
    if (rc == 0 && started == 0 && l->count > 0) /* the first segment is started by its header */
        rc = refuse_missing(l, 1, entries[0].header.sequence, &entries[0]);
    return rc;
}

static void count_entries(const struct set_loader *l, struct segment_set *set)
{
    for (size_t i = 0; i < l->all; i++) {
        const struct segment_entry *entry = &set->entries[i];
        set->started += entry->role == SEGMENT_STARTED;
        set->spares += entry->role == SEGMENT_SPARE;
        set->retired += entry->role == SEGMENT_RETIRED;
        set->max_number = max_u64(set->max_number, twl_segment_name_number(entry->name));
        set->max_sequence = max_u64(set->max_sequence, entry->header.sequence);
        if (entry->role == SEGMENT_STARTED && segment_is_truncation(&entry->header))
            set->truncation_epoch = (uint32_t)max_u64(set->truncation_epoch, entry->header.epoch);
    }
}

/* The head of the log is the one in the state file, unless a reset came later. */
static int find_first_lsn(struct set_loader *l)
{
    struct segment_set *set = &l->set;
    const uint64_t head_lsn = l->state ? l->state->first_lsn : 1;
    if (set->started == 0) {
        set->first_lsn = head_lsn;
        return 0;
    }
    struct segment_entry *oldest = &set->entries[0];
    int rc = twl_segment_look(l->io, oldest);
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

static int refuse_empty(struct set_loader *l)
{
    twl_report(l->report, TWINLOG_FOUND_MISSING_SEGMENT, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "all segments are missing; restore them from a copy");
    return fault(l, STATE_NAME, l->first_sequence, 0, 0, true);
}

static int make_set(struct set_loader *l)
{
    size_t started = 0;
    sort(l);
    int rc = choose_twins(l);
    if (rc == 0)
        rc = find_newest(l, &started);
    if (rc == 0)
        rc = l->count == 0 && l->all > 0 ? refuse_empty(l) : check_spares(l, started);
    if (rc == 0 && started > 0)
        rc = follow_path(l, started - 1);
    sort(l);
    count_entries(l, &l->set);
    return rc == 0 ? find_first_lsn(l) : rc;
}

/* A state file without a segment: a crash came while the log was being created. */
static bool is_just_born(const struct state_header *state)
{
    return state->generation <= 1 && state->first_lsn <= 1 && state->body_bytes == 0;
}

static int remove_temporary(void *context, const char *name)
{
    struct io *io = context;
    return twl_segment_name_is_temporary(name) ? io->ops->unlink(io, name) : 0;
}

static int collect(void *context, const char *name)
{
    struct set_loader *l = context;
    if (!twl_segment_name_is_ours(name))
        return 0;
    if (l->all == MOST_SEGMENTS)
        return -EMFILE;
    if (l->all == l->room) {
        void *entries = realloc(l->set.entries, 2 * l->room * sizeof(*l->set.entries));
        if (!entries)
            return -ENOMEM;
        l->set.entries = entries;
        l->room *= 2;
    }
    struct segment_entry *entry = &l->set.entries[l->all++];
    *entry = (struct segment_entry){ 0 };
    strcpy(entry->name, name);
    return 0;
}

static int load_entries(struct set_loader *l)
{
    l->room = 16;
    l->set.entries = calloc(l->room, sizeof(*l->set.entries)); /* an empty one for a set without files */
    int rc = l->set.entries ? 0 : -ENOMEM;
    if (rc == 0 && l->use == SET_FOR_WRITING)
        rc = l->io->ops->list(l->io, remove_temporary, l->io);
    if (rc == 0)
        rc = l->io->ops->list(l->io, collect, l);
    if (rc < 0)
        twl_report(l->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, rc,
                   "cannot list the log's directory: %s", twinlog_strerror(rc));
    if (rc == 0)
        sort(l); /* by name, because a directory has no reliable order */
    for (size_t i = 0; rc == 0 && i < l->all; i++) {
        rc = load_entry(l, i);
        if (rc > 0)
            l->set.entries[l->count++] = l->set.entries[i];
        rc = rc > 0 ? 0 : rc;
    }
    for (unsigned i = 0; i < MOST_AHEAD; i++)
        io_close(l->ahead[i]);
    if (rc == 0 && l->all > 0 && l->count == 0) /* there are other files by now */
        rc = refuse_segment(l, -ENOENT, "read", l->set.entries[0].name);
    l->all = l->count;
    return rc;
}

static void place_head(struct set_loader *l)
{
    for (size_t i = 0; l->state && i < l->count; i++)
        if (l->set.entries[i].header.sequence == l->first_sequence)
            l->set.entries[i].head_lsn = l->state->first_lsn;
}

/* There is neither a header nor a state file. */
static int refuse_all(struct set_loader *l)
{
    const int rc = l->count > 0 ? refuse_header(l, l->set.entries[0].name, HEADER_DAMAGED) : 0;
    return rc == 0 && l->count > 0 ? TWINLOG_ECORRUPT : rc;
}

static int load_set(struct set_loader *l)
{
    int rc = load_entries(l);
    if (rc == 0)
        rc = check_state(l);
    if (rc == 0 && l->count == 0 && l->state && !is_just_born(l->state))
        rc = refuse_empty(l);
    if (rc == 0 && !choose_log(l))
        return refuse_all(l);
    if (rc == 0 && l->use == SET_FOR_CHECKING)
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

static int open_once(struct io *io, enum segment_set_use use, unsigned header_flags, struct state *state,
                     uint64_t *ret_generation, struct segment_set *set, struct twinlog_report *report)
{
    struct set_loader l = {
        .io = io, .use = use, .header_flags = header_flags, .set = { .first_lsn = 1 }, .report = report
    };
    int rc = twl_state_read(io, state, report);
    if (rc < 0)
        *state = (struct state){ 0 };
    *ret_generation = state->header.generation;
    if (rc == 0 && state->header.generation > 0) {
        l.state = &state->header;
        l.first_sequence = state->header.first_sequence;
    } else if (rc == -ENOENT) {
        rc = 0;
    } else if (rc < 0) {
        rc = forget_state(&l, rc);
    }
    if (rc == 0)
        rc = load_set(&l);
    if (rc == 0 && l.state && state->header.cursor_epoch > l.set.truncation_epoch)
        l.set.passed_lsn = twl_state_furthest(state);
    if (rc == 0)
        *set = l.set;
    else
        twl_segment_set_free(&l.set);
    if (rc < 0 || !l.state)
        twl_state_free(state);
    return rc;
}

/* Did a trim or a truncation change the state file while the set was loaded? */
static bool has_changed(struct io *io, uint64_t generation)
{
    struct state now = { 0 };
    bool is_changed = twl_state_read(io, &now, NULL) == 0 && now.header.generation != generation;
    twl_state_free(&now);
    return is_changed;
}

int twl_segment_set_open(struct io *io, enum segment_set_use use, struct state *ret_state,
                         struct segment_set *ret_set, struct twinlog_report *ret_report)
{
    /* What looks like a fault may be a change that is going on, unless the caller is the only writer. */
    const enum segment_set_use strict = use == SET_FOR_CHECKING ? SET_FOR_READING : use;
    struct state state = { 0 };
    struct twinlog_report report;
    uint64_t generation = 0;
    int rc = 0;
    for (unsigned tries = 1;; tries++) {
        rc = open_once(io, strict, tries == 1 ? IO_FROM_CACHE : 0, &state, &generation, ret_set, &report);
        bool may_be_moving = rc == TWINLOG_ECORRUPT || rc == TWINLOG_EFOREIGN || rc == -ENOENT;
        if (!may_be_moving || (use == SET_FOR_WRITING && tries > 1) || tries == MOVING_SET_TRIES ||
            (tries >= SET_TRIES && !has_changed(io, generation)))
            break;
    }
    if (use == SET_FOR_CHECKING && (rc == 0 || rc == TWINLOG_ECORRUPT || rc == TWINLOG_EFOREIGN)) {
        if (rc == 0) { /* each header may be sound, but that of another file */
            twl_segment_set_free(ret_set);
            twl_state_free(&state);
        }
        rc = open_once(io, use, 0, &state, &generation, ret_set, &report);
    }
    if (rc < 0 && ret_report)
        *ret_report = report;
    if (rc == 0 && ret_state)
        *ret_state = state;
    else
        twl_state_free(&state);
    return rc;
}
