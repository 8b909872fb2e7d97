/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The iterator: a walk through one segment.
 *
 * A group is entered if its header is valid for exactly this place (format.h), continues the chain, has the
 * next LSN, and is of the current epoch or begins a later one. A record is valid if its header is that of the
 * very next LSN in this epoch and its payload checks. Nothing is trusted before its checksum, every length is
 * checked against its container, and no allocation is larger than the segment.
 *
 * An open group has no header. One is made up: the group begins where the marker in front of it ends, and has
 * as many records as were found one after the other.
 *
 * A walk may also begin in the middle, at a group from an index. Then the history before it is unknown, and
 * the group's own header says what the next group must continue. The group is valid only where this
 * incarnation of the file has put it, and its record must be the one that the index promised.
 */
#include "segment/cursor.h"

#include "base/bytes.h"
#include "format/checksum.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_STEP_BYTES (16u * 1024)       /* a single lookup should not cost more */
#define WINDOW_BYTES (1u << 20)             /* the kernel reads ahead as much as was requested, or more */
#define MOST_GROUP_WINDOW_BYTES (16u << 20) /* twice the largest group of a writer with the default options */
#define MOST_INDEX_ENTRIES (16u * INDEX_MAX_ENTRIES) /* no writer makes a larger index */

/* ---- birth and death --------------------------------------------------------------------------- */

/* Without a mapping the file is read. */
static void take_view(struct cursor *cursor)
{
    struct io_file *file = cursor->segment->file;
    size_t size = (size_t)cursor->segment->header.bytes;
    struct window *window = &cursor->window;
    bool is_short = segment_is_mapped(&cursor->segment->header) && cursor->segment->file_bytes < size;
    if (is_short || file->io->ops->view(file, size, &window->view) < 0)
        return;
    window->io = file->io;
    window->view_bytes = size;
    window->bytes = window->view;
    window->start = 0;
    window->size = size;
}

void twl_cursor_begin(struct cursor *cursor, const struct segment *segment, struct position position)
{
    twl_cursor_let_go(cursor);
    *cursor = (struct cursor){
        .segment = segment,
        .window_bytes = cursor->window_bytes,
        .maps = cursor->maps,
        .window = cursor->window,
        .index = { .entries = cursor->index.entries, .room = cursor->index.room },
        .position = position,
    };
    if (cursor->maps)
        take_view(cursor);
}

void twl_cursor_pass_claims(struct cursor *cursor, bool has_writer)
{
    cursor->passes_claims = !has_writer && segment_is_mapped(&cursor->segment->header);
}

void twl_cursor_take_buffer(struct cursor *cursor, struct cursor *from)
{
    struct window *window = &cursor->window;
    twl_cursor_refresh(from);
    free(window->buffer);
    window->buffer = from->window.buffer;
    window->capacity = from->window.capacity;
    from->window.buffer = NULL;
    from->window.capacity = 0;
}

void twl_cursor_let_go(struct cursor *cursor)
{
    struct window *window = &cursor->window;
    if (window->view)
        window->io->ops->unview(window->io, window->view, window->view_bytes);
    window->view = NULL;
    window->size = 0;
}

void twl_cursor_free(struct cursor *cursor)
{
    twl_cursor_let_go(cursor);
    free(cursor->window.buffer);
    free(cursor->index.entries);
    *cursor = (struct cursor){ 0 };
}

struct position twl_position_before(const struct segment *segment)
{
    const struct segment_header *header = &segment->header;
    if (header->start_lsn == 0)
        return (struct position){ 0 };
    return (struct position){
        .next_lsn = header->start_lsn,
        .chain = header->start_chain,
        .epoch.number = header->previous > 0 ? header->epoch : 0,
    };
}

/* ---- bytes ------------------------------------------------------------------------------------- */

void twl_cursor_refresh(struct cursor *cursor)
{
    if (!cursor->window.view)
        cursor->window.size = 0;
}

int twl_cursor_check(const struct cursor *cursor)
{
    const struct window *window = &cursor->window;
    return window->view ? window->io->ops->check_view(window->io, window->view) : 0;
}

static inline bool is_inside(const struct window *window, uint64_t offset, size_t size)
{
    uint64_t from = offset - window->start; /* wraps around to a large value if it is in front */
    return from <= window->size && size <= window->size - from;
}

/* Does reading continue near the current window, in either direction? */
static bool is_near(const struct window *window, uint64_t offset, uint64_t end)
{
    return window->size > 0 && offset <= window->start + window->size + window->step &&
           end + window->step >= window->start;
}

static size_t choose_step(const struct cursor *cursor, bool is_near)
{
    size_t next = is_near ? 2 * cursor->window.step : FIRST_STEP_BYTES;
    return cursor->window_bytes ? cursor->window_bytes : (size_t)min_u64(next, WINDOW_BYTES);
}

static int make_room(struct cursor *cursor, size_t need)
{
    struct window *window = &cursor->window;
    uint64_t usual =
        cursor->window_bytes ? cursor->window_bytes : min_u64(WINDOW_BYTES, cursor->segment->header.bytes);
    size_t capacity = (size_t)align_up(max_u64(need, usual), BLOCK_BYTES);
    if (capacity <= window->capacity)
        return 0;
    unsigned char *buffer = aligned_alloc(BLOCK_BYTES, capacity);
    if (!buffer)
        return -ENOMEM;
    free(window->buffer);
    window->buffer = buffer;
    window->capacity = capacity;
    return 0;
}

/* A mapped segment may be shorter than its header says. */
static void add_missing_zeros(struct cursor *cursor, size_t want)
{
    struct window *window = &cursor->window;
    size_t size = (size_t)min_u64(want, cursor->segment->header.bytes - window->start);
    if (window->size >= size)
        return;
    memset(window->buffer + window->size, 0, size - window->size);
    window->size = size;
}

static int read_window(struct cursor *cursor, uint64_t offset, size_t size)
{
    struct window *window = &cursor->window;
    bool goes_on = is_near(window, offset, offset + size);
    size_t step = choose_step(cursor, goes_on);
    uint64_t start = offset;
    if (goes_on && offset < window->start) /* going back: the next bytes will be in front */
        start -= min_u64(offset, step - step / 4);
    start = align_down(start, BLOCK_BYTES);
    size_t want = (size_t)align_up(max_u64(offset + size - start, step), BLOCK_BYTES);
    int rc = make_room(cursor, want);
    window->bytes = window->buffer;
    window->start = start;
    window->step = step;
    if (rc == 0)
        rc = io_read(cursor->segment->file, window->buffer, want, start, &window->size);
    if (rc == 0 && segment_is_mapped(&cursor->segment->header))
        add_missing_zeros(cursor, want);
    return rc;
}

/* Makes the window hold these bytes, if the file has them. */
static int move_window(struct cursor *cursor, uint64_t offset, size_t size)
{
    uint64_t bytes = cursor->segment->header.bytes;
    if (offset > bytes || size > bytes - offset)
        return 0;
    int rc = read_window(cursor, offset, size);
    if (rc < 0)
        cursor->window.size = 0;
    return rc;
}

/* Inlined because every record passes it. */
static inline const unsigned char *bytes_at(struct cursor *cursor, uint64_t offset, size_t size,
                                            int *ret_error)
{
    struct window *window = &cursor->window;
    *ret_error = 0;
    if (!is_inside(window, offset, size)) {
        *ret_error = move_window(cursor, offset, size);
        if (*ret_error < 0 || !is_inside(window, offset, size))
            return NULL;
    }
    return window->bytes + (offset - window->start);
}

const unsigned char *twl_cursor_bytes(struct cursor *cursor, uint64_t offset, size_t size, int *ret_error)
{
    return bytes_at(cursor, offset, size, ret_error);
}

/* ---- groups ------------------------------------------------------------------------------------ */

static bool continues(const struct cursor *cursor, const struct group_header *group)
{
    const struct position *at = &cursor->position;
    if (at->next_lsn == 0) /* the first group seen of this segment */
        return true;
    bool is_same_epoch = group->epoch.number == at->epoch.number && group->epoch.salt == at->epoch.salt;
    bool begins_epoch = group->kind == GROUP_START && group->epoch.number > at->epoch.number;
    return group->first_lsn == at->next_lsn && group->chain == at->chain && (is_same_epoch || begins_epoch);
}

/* A newer version's kind and flags are unknown, but such a header is not there by chance. If nothing is
 * known of the history, as in a repair, the header is ignored. */
static bool may_continue(const struct cursor *cursor, const struct group_header *group)
{
    const struct position *at = &cursor->position;
    return at->next_lsn > 0 && group->first_lsn == at->next_lsn && group->chain == at->chain &&
           group->epoch.number >= at->epoch.number;
}

enum place_in_segment {
    PLACE_FIRST,
    PLACE_LATER,
    PLACE_ANY
};

static bool is_in_place(const struct group_header *group, enum place_in_segment place)
{
    bool is_first = (group->flags & GROUP_FIRST) != 0;
    return place == PLACE_ANY || is_first == (place == PLACE_FIRST);
}

static void step_in(struct cursor *cursor, uint64_t offset, const struct group_header *group)
{
    cursor->before = cursor->position;
    cursor->is_at_first = false;
    cursor->group = *group;
    cursor->group_offset = offset;
    cursor->record_offset = offset + GROUP_HEADER_BYTES;
    cursor->records_left = group->count;
    cursor->epoch_seed = twl_epoch_seed(cursor->segment->header.log_id, group->epoch);
    cursor->entered_offset = cursor->record_offset;
    cursor->entered = group->count;
    cursor->is_open = false;
    cursor->offset = offset + group->bytes;
    cursor->position = (struct position){ .next_lsn = group->first_lsn + group->count,
                                          .chain = twl_group_chain(group),
                                          .epoch = group->epoch };
}

static int enter_at(struct cursor *cursor, uint64_t offset, enum place_in_segment place)
{
    const struct segment *segment = cursor->segment;
    struct group_header group;
    int error;
    if (offset > segment->data_end - GROUP_HEADER_BYTES)
        return 0;
    const unsigned char *bytes = twl_cursor_bytes(cursor, offset, GROUP_HEADER_BYTES, &error);
    if (!bytes)
        return error;
    enum decoded decoded = twl_group_header_judge(bytes, segment->seed, offset, &group);
    if (decoded == DECODED_NEWER && is_in_place(&group, place) && may_continue(cursor, &group))
        return TWINLOG_EVERSION;
    if (decoded != DECODED_VALID || group.bytes > segment->data_end - offset || !is_in_place(&group, place) ||
        !continues(cursor, &group))
        return 0;

    step_in(cursor, offset, &group);
    return 1;
}

static int enter_first_group(struct cursor *cursor)
{
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < BLOCK_BYTES; at += 8)
        rc = enter_at(cursor, SEGMENT_DATA_OFFSET + at, PLACE_FIRST);
    if (rc == 0)
        cursor->offset = SEGMENT_DATA_OFFSET;
    return rc;
}

/* ---- the open group ---------------------------------------------------------------------------- */

/* Offsets in a group have 32 bits. */
static uint64_t open_end(const struct cursor *cursor)
{
    return min_u64(cursor->segment->data_end, OPEN_GROUP_OFFSET + align_down(UINT32_MAX, 8));
}

static bool is_claimed(const struct cursor *cursor, const unsigned char *bytes, uint64_t lsn,
                       uint32_t *ret_size)
{
    uint8_t owner;
    return twl_claim_decode(load_le64(bytes), cursor->epoch_seed, lsn, ret_size, &owner);
}

/* Decodes the header of record `lsn`, or a claim in its place: 1. 0 = there is none. */
static inline int decode_record(struct cursor *cursor, const unsigned char *bytes, uint64_t lsn,
                                struct record_header *ret_header)
{
    cursor->is_claim = false;
    enum decoded decoded = twl_record_header_judge(bytes, cursor->epoch_seed, lsn, ret_header);
    if (decoded != DECODED_NONE)
        return decoded == DECODED_VALID ? 1 : TWINLOG_EVERSION;
    *ret_header = (struct record_header){ .kind = RECORD_FILLER };
    cursor->is_claim = cursor->is_open && cursor->passes_claims &&
                       is_claimed(cursor, bytes, lsn, &ret_header->size) && ret_header->size != CLAIM_END;
    return cursor->is_claim;
}

/* Adds one record to the open group: 1. 0 = it is not there yet. */
static int extend(struct cursor *cursor)
{
    struct record_header header;
    uint64_t at = cursor->offset, end = open_end(cursor);
    int error;
    if (at > end - RECORD_HEADER_BYTES)
        return 0;
    const unsigned char *bytes = twl_cursor_bytes(cursor, at, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error;
    int rc = decode_record(cursor, bytes, cursor->position.next_lsn, &header);
    if (rc <= 0 || twl_record_bytes(header.size) > end - at)
        return rc < 0 ? rc : 0;
    atomic_thread_fence(
        memory_order_acquire); /* in a mapping: the bytes behind the header were stored before it */
    cursor->before = cursor->position;
    cursor->entered_offset = cursor->record_offset = at;
    cursor->entered = cursor->records_left = 1;
    cursor->group.count++;
    cursor->group.bytes += (uint32_t)twl_record_bytes(header.size);
    cursor->offset += twl_record_bytes(header.size);
    cursor->position.next_lsn++;
    return 1;
}

/* Moves behind the first `count` records of the open group, which end at `offset`. */
static void place_in_open_group(struct cursor *cursor, uint64_t first_lsn, uint32_t count, uint64_t offset)
{
    const struct group_header group = { .first_lsn = first_lsn,
                                        .count = count,
                                        .bytes = (uint32_t)(offset - OPEN_GROUP_OFFSET),
                                        .chain = cursor->position.chain,
                                        .epoch = cursor->position.epoch,
                                        .flags = GROUP_MAPPED };
    step_in(cursor, OPEN_GROUP_OFFSET, &group);
    cursor->records_left = 0;
    cursor->is_open = true;
}

static void leave_open_group(struct cursor *cursor)
{
    cursor->is_open = false;
    cursor->offset = OPEN_GROUP_OFFSET;
}

/* Enters the first record of a group that may be open. The marker in front of it was passed; without it
 * nothing is known of the group. */
static int enter_open_group(struct cursor *cursor)
{
    if (!segment_is_mapped(&cursor->segment->header) || cursor->offset != OPEN_GROUP_OFFSET ||
        cursor->is_at_first || cursor->position.next_lsn == 0)
        return 0;
    const struct group_header group = cursor->group;
    const uint64_t group_offset = cursor->group_offset;
    place_in_open_group(cursor, cursor->position.next_lsn, 0, OPEN_RECORDS_OFFSET);
    int rc = extend(cursor);
    if (rc <= 0) {
        leave_open_group(cursor);
        cursor->group = group;
        cursor->group_offset = group_offset;
    }
    return rc;
}

/* Drops the last record that was entered. */
static void back_out_of_record(struct cursor *cursor)
{
    cursor->position = cursor->before;
    cursor->offset = cursor->entered_offset;
    cursor->records_left = 0;
    cursor->group.bytes = (uint32_t)(cursor->entered_offset - cursor->group_offset);
    if (--cursor->group.count == 0)
        leave_open_group(cursor);
}

int twl_cursor_has_ended(struct cursor *cursor)
{
    uint64_t at = cursor->is_open ? cursor->offset : OPEN_RECORDS_OFFSET, end = open_end(cursor);
    uint32_t size;
    int error;
    if (!segment_is_mapped(&cursor->segment->header) ||
        (!cursor->is_open && cursor->offset != OPEN_GROUP_OFFSET))
        return 0;
    if (at > end - RECORD_HEADER_BYTES)
        return 1;
    const unsigned char *bytes = twl_cursor_bytes(cursor, at, sizeof(uint64_t), &error);
    if (!bytes)
        return error;
    return is_claimed(cursor, bytes, cursor->position.next_lsn, &size) && size == CLAIM_END;
}

/* ---- groups of all kinds ------------------------------------------------------------------------ */

int twl_cursor_enter_group(struct cursor *cursor)
{
    int rc = 0;
    if (cursor->offset == 0)
        return enter_first_group(cursor);
    if (cursor->is_open)
        rc = extend(cursor);
    /* A group begins where the one before ends, or at the next block if the writer pads. */
    enum place_in_segment place = cursor->is_at_first ? PLACE_FIRST : PLACE_LATER;
    if (rc == 0)
        rc = enter_at(cursor, cursor->offset, place);
    if (rc == 0)
        rc = enter_open_group(cursor);
    uint64_t next_block = align_up(cursor->offset, BLOCK_BYTES);
    if (rc == 0 && next_block != cursor->offset)
        rc = enter_at(cursor, next_block, place);
    return rc;
}

void twl_cursor_back_out(struct cursor *cursor)
{
    const struct group_header *group = &cursor->group;
    if (cursor->is_open) {
        back_out_of_record(cursor);
        return;
    }
    cursor->position = cursor->before;
    if (cursor->position.next_lsn == 0)
        cursor->position =
            (struct position){ .next_lsn = group->first_lsn, .chain = group->chain, .epoch = group->epoch };
    cursor->offset = cursor->group_offset;
    cursor->is_at_first = (group->flags & GROUP_FIRST) != 0;
    cursor->records_left = 0;
}

/* ---- records ----------------------------------------------------------------------------------- */

/* Decodes the header of the record at cursor->record_offset, and checks that the record fits in the group. */
static inline int look_at_record(struct cursor *cursor, struct record_header *ret_header)
{
    int error;
    if (cursor->records_left == 0)
        return 0;
    const unsigned char *bytes = bytes_at(cursor, cursor->record_offset, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error ? error : TWINLOG_ECORRUPT;
    uint64_t room = cursor->group_offset + cursor->group.bytes - cursor->record_offset;
    uint64_t others = (uint64_t)(cursor->records_left - 1) * RECORD_HEADER_BYTES;
    int rc = decode_record(cursor, bytes, twl_cursor_next_lsn(cursor), ret_header);
    if (rc <= 0 || twl_record_bytes(ret_header->size) + others > room)
        return rc < 0 ? rc : TWINLOG_ECORRUPT;
    return 1;
}

static void pass_record(struct cursor *cursor, const struct record_header *header)
{
    cursor->record_offset += twl_record_bytes(header->size);
    cursor->records_left--;
}

int twl_cursor_next_record(struct cursor *cursor, struct cursor_record *ret_record)
{
    struct cursor_record record;
    int rc = look_at_record(cursor, &record.header);
    if (rc <= 0)
        return rc;
    record.lsn = twl_cursor_next_lsn(cursor);
    record.offset = cursor->record_offset;
    const unsigned char *bytes =
        bytes_at(cursor, cursor->record_offset, (size_t)twl_record_bytes(record.header.size), &rc);
    if (!bytes)
        return rc ? rc : TWINLOG_ECORRUPT;
    record.payload = bytes + RECORD_HEADER_BYTES;
    if (!cursor->is_claim && !twl_record_payload_is_valid(&record.header, record.payload))
        return TWINLOG_ECORRUPT;
    pass_record(cursor, &record.header);
    *ret_record = record;
    return 1;
}

void twl_cursor_unread(struct cursor *cursor, const struct cursor_record *record)
{
    cursor->record_offset = record->offset;
    cursor->records_left++;
}

int twl_cursor_skip_record(struct cursor *cursor)
{
    struct record_header header;
    int rc = look_at_record(cursor, &header);
    if (rc > 0)
        pass_record(cursor, &header);
    return rc;
}

/* Called only when the whole group is known to be good, because index entries of a torn group could not be
 * removed. */
static int summarise_group(struct cursor *cursor)
{
    struct record_header header;
    int rc;
    cursor->record_offset = cursor->entered_offset;
    cursor->records_left = cursor->entered;
    while ((rc = look_at_record(cursor, &header)) > 0) {
        twl_summary_add_record(cursor->summary, twl_cursor_next_lsn(cursor), cursor->group_offset,
                               (uint32_t)(cursor->record_offset - cursor->group_offset), header.time_ns);
        pass_record(cursor, &header);
    }
    if (rc == 0)
        twl_summary_end_group(cursor->summary, &cursor->group, cursor->group_offset);
    if (rc == 0 && cursor->is_open)
        cursor->summary->open_lsn = cursor->group.first_lsn;
    return rc;
}

/* A group is walked twice if there is a summary, and read once if it is not too large. */
static int read_group(struct cursor *cursor)
{
    int error = 0;
    if (cursor->summary && !cursor->is_open && cursor->group.bytes <= MOST_GROUP_WINDOW_BYTES)
        twl_cursor_bytes(cursor, cursor->group_offset, cursor->group.bytes, &error);
    return error;
}

int twl_cursor_accept_group(struct cursor *cursor)
{
    struct cursor_record record;
    int rc = twl_cursor_enter_group(cursor);
    if (rc <= 0)
        return rc;
    rc = read_group(cursor);
    if (rc < 0) {
        twl_cursor_back_out(cursor);
        return rc;
    }
    while ((rc = twl_cursor_next_record(cursor, &record)) > 0)
        continue;
    if (rc == 0 && cursor->record_offset == cursor->offset)
        rc = cursor->summary ? summarise_group(cursor) : 0;
    else if (rc == 0)
        rc = TWINLOG_ECORRUPT;
    if (rc == 0)
        return 1;
    twl_cursor_back_out(cursor);
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

/* ---- seeking ----------------------------------------------------------------------------------- */

/* An index that does not check is ignored; the walk is then longer. */
static void load_index(struct cursor *cursor, const struct segment_footer *footer)
{
    struct loaded_index *index = &cursor->index;
    uint64_t end = cursor->segment->data_end;
    size_t size = (size_t)footer->index_entries * INDEX_ENTRY_BYTES;
    int error;
    if (index->is_loaded)
        return;
    index->is_loaded = true;
    index->count = 0;
    if (size == 0 || size > end - SEGMENT_DATA_OFFSET || footer->index_entries > MOST_INDEX_ENTRIES)
        return;
    twl_cursor_refresh(cursor); /* it may have been written since these bytes were read */
    const unsigned char *bytes = twl_cursor_bytes(cursor, end - size, size, &error);
    if (!bytes || twl_crc32c(0, bytes, size) != footer->index_checksum)
        return;
    if (footer->index_entries > index->room) {
        struct index_entry *entries = malloc(footer->index_entries * sizeof(*entries));
        if (!entries)
            return;
        free(index->entries);
        index->entries = entries;
        index->room = footer->index_entries;
    }
    index->count = footer->index_entries;
    for (uint32_t i = 0; i < index->count; i++)
        twl_index_entry_decode(bytes + size - (i + 1) * INDEX_ENTRY_BYTES, &index->entries[i]);
}

struct entries {
    const struct index_entry *entries;
    uint32_t count;
};

static struct entries known_entries(struct cursor *cursor, const struct segment_footer *footer)
{
    if (footer) {
        load_index(cursor, footer);
        return (struct entries){ cursor->index.entries, cursor->index.count };
    }
    if (cursor->summary)
        return (struct entries){ cursor->summary->index.entries, cursor->summary->index.count };
    return (struct entries){ 0 };
}

static const struct index_entry *entry_of(const struct entries *known, int64_t number)
{
    return number < 0 ? NULL : &known->entries[number];
}

static void place_at(struct cursor *cursor, uint64_t offset, struct position position)
{
    cursor->position = position;
    cursor->offset = offset;
    cursor->is_at_first = false;
    cursor->is_open = false;
    cursor->group = (struct group_header){ 0 };
    cursor->records_left = 0;
}

static bool has_entered(const struct cursor *cursor, uint64_t group_offset)
{
    const struct group_header *group = &cursor->group;
    return group->count > 0 && cursor->group_offset == group_offset &&
           cursor->position.next_lsn == group->first_lsn + group->count &&
           cursor->position.chain == twl_group_chain(group);
}

/* The bytes between a header and a record far behind it are useless. A header that was read once need not
 * be read again: it leads to the record, and the record must check. */
static int enter_large_group(struct cursor *cursor, uint64_t offset)
{
    for (uint32_t i = 0; i < LARGE_GROUPS; i++)
        if (cursor->large[i].offset == offset) {
            step_in(cursor, offset, &cursor->large[i].header);
            return 1;
        }
    size_t window_bytes = cursor->window_bytes;
    cursor->window_bytes = BLOCK_BYTES;
    int rc = enter_at(cursor, offset, PLACE_ANY);
    cursor->window_bytes = window_bytes;
    if (rc > 0) {
        struct large_group *oldest = &cursor->large[cursor->large_count++ % LARGE_GROUPS];
        *oldest = (struct large_group){ .offset = offset, .header = cursor->group };
    }
    return rc;
}

/* The open group has no header that leads to a record. The marker in front of it gives its epoch and first
 * LSN, so the record at that place checks only if it is the right one. */
static int enter_open_group_at(struct cursor *cursor, const struct index_entry *entry)
{
    if (!segment_is_mapped(&cursor->segment->header) || entry->group_offset != OPEN_GROUP_OFFSET)
        return 0;
    int rc = enter_at(cursor, SEGMENT_DATA_OFFSET, PLACE_FIRST);
    if (rc <= 0)
        return rc;
    uint64_t first_lsn = cursor->position.next_lsn;
    if (entry->lsn >= first_lsn && entry->lsn - first_lsn < UINT32_MAX &&
        entry->record_offset >= GROUP_HEADER_BYTES && entry->record_offset % 8 == 0) {
        place_in_open_group(cursor, first_lsn, (uint32_t)(entry->lsn - first_lsn),
                            OPEN_GROUP_OFFSET + entry->record_offset);
        rc = extend(cursor);
        if (rc > 0)
            return rc;
    }
    place_at(cursor, 0, twl_position_before(cursor->segment));
    return rc < 0 ? rc : 0;
}

static int enter_for(struct cursor *cursor, const struct index_entry *entry)
{
    cursor->position = (struct position){ 0 };
    cursor->records_left = 0;
    bool is_far = entry->record_offset >= FIRST_STEP_BYTES;
    int rc = is_far ? enter_large_group(cursor, entry->group_offset)
                    : enter_at(cursor, entry->group_offset, PLACE_ANY);
    return rc == 0 ? enter_open_group_at(cursor, entry) : rc;
}

int twl_cursor_place(struct cursor *cursor, const struct index_entry *entry)
{
    const struct group_header *group = &cursor->group;
    struct record_header header;
    bool is_beyond = cursor->is_open && entry->lsn >= cursor->position.next_lsn;
    if (is_beyond || !has_entered(cursor, entry->group_offset)) {
        int rc = enter_for(cursor, entry);
        if (rc <= 0)
            return rc;
    }
    bool is_inside = entry->lsn >= group->first_lsn && entry->lsn - group->first_lsn < group->count &&
                     entry->record_offset >= GROUP_HEADER_BYTES && entry->record_offset % 8 == 0 &&
                     entry->record_offset <= group->bytes - RECORD_HEADER_BYTES;
    if (!is_inside)
        return 0;
    cursor->record_offset = entry->group_offset + entry->record_offset;
    cursor->records_left = group->count - (uint32_t)(entry->lsn - group->first_lsn);
    int rc = look_at_record(cursor, &header);
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

void twl_cursor_restart(struct cursor *cursor, struct position position)
{
    place_at(cursor, 0, position);
}

/* Moves to a place from the index; if there is none, or it is wrong, to the start. */
static int jump(struct cursor *cursor, const struct index_entry *entry)
{
    int rc = entry ? twl_cursor_place(cursor, entry) : 0;
    if (rc == 0)
        place_at(cursor, 0, twl_position_before(cursor->segment));
    return rc < 0 ? rc : 0;
}

void twl_cursor_resume(struct cursor *cursor)
{
    const struct summary *summary = cursor->summary;
    const struct position end = { .next_lsn = summary->next_lsn,
                                  .chain = summary->chain,
                                  .epoch = summary->epoch };
    if (summary->first_lsn == 0)
        place_at(cursor, 0, twl_position_before(cursor->segment));
    else
        place_at(cursor, summary->data_end, end);
    if (summary->open_lsn > 0)
        place_in_open_group(cursor, summary->open_lsn, (uint32_t)(summary->next_lsn - summary->open_lsn),
                            summary->data_end);
}

void twl_trail_begin(struct trail *trail)
{
    trail->count = 0;
    trail->marked_lsn = 0;
    twl_summary_begin(&trail->sparse, INT64_MIN);
}

static void leave_trail(struct trail *trail, const struct cursor *cursor)
{
    uint64_t lsn = twl_cursor_next_lsn(cursor);
    uint32_t record_offset = (uint32_t)(cursor->record_offset - cursor->group_offset);
    if (lsn != trail->next_lsn)
        trail->count = 0;
    trail->places[lsn % TRAIL_RECORDS].group_offset = cursor->group_offset;
    trail->places[lsn % TRAIL_RECORDS].record_offset = record_offset;
    trail->next_lsn = lsn + 1;
    trail->count += trail->count < TRAIL_RECORDS;
    if (lsn >= trail->marked_lsn) {
        twl_summary_add_record(&trail->sparse, lsn, cursor->group_offset, record_offset, 0);
        trail->marked_lsn = lsn + 1;
    }
}

/* Walks from a place that is not behind `lsn`. Earlier groups are skipped by their headers, unless there
 * is a trail. */
static int walk_to(struct cursor *cursor, uint64_t lsn, struct trail *trail)
{
    for (;;) {
        while (cursor->records_left > 0 && (trail || lsn < cursor->position.next_lsn)) {
            if (trail)
                leave_trail(trail, cursor);
            if (twl_cursor_next_lsn(cursor) == lsn)
                return 1;
            int rc = twl_cursor_skip_record(cursor);
            if (rc < 0)
                return rc;
        }
        int rc = twl_cursor_enter_group(cursor);
        if (rc <= 0)
            return rc;
        if (cursor->group.first_lsn > lsn)
            return 0;
    }
}

int twl_cursor_seek(struct cursor *cursor, const struct segment_footer *footer, uint64_t lsn)
{
    const struct entries known = known_entries(cursor, footer);
    const struct index_entry *entry = entry_of(&known, twl_index_find_lsn(known.entries, known.count, lsn));
    uint64_t here = twl_cursor_next_lsn(cursor);
    bool is_on_the_way = here > 0 && here <= lsn;
    int rc = !is_on_the_way || (entry && entry->lsn > here) ? jump(cursor, entry) : 0;
    return rc < 0 ? rc : walk_to(cursor, lsn, NULL);
}

int twl_cursor_trace(struct cursor *cursor, const struct segment_footer *footer, uint64_t lsn,
                     struct trail *trail)
{
    const struct entries known = known_entries(cursor, footer);
    const struct entries sparse = { trail->sparse.index.entries, trail->sparse.index.count };
    const struct index_entry *entry = entry_of(&known, twl_index_find_lsn(known.entries, known.count, lsn));
    const struct index_entry *nearest =
        entry_of(&sparse, twl_index_find_lsn(sparse.entries, sparse.count, lsn));
    bool is_marked = nearest && lsn < trail->marked_lsn && (!entry || nearest->lsn > entry->lsn);
    if (!is_marked)
        twl_trail_begin(trail);
    int rc = jump(cursor, is_marked ? nearest : entry);
    trail->count = 0;
    return rc < 0 ? rc : walk_to(cursor, lsn, trail);
}

bool twl_trail_find(const struct trail *trail, uint64_t lsn, struct index_entry *ret_entry)
{
    if (lsn >= trail->next_lsn || trail->next_lsn - lsn > trail->count)
        return false;
    *ret_entry = (struct index_entry){
        .lsn = lsn,
        .group_offset = trail->places[lsn % TRAIL_RECORDS].group_offset,
        .record_offset = trail->places[lsn % TRAIL_RECORDS].record_offset,
    };
    return true;
}

int twl_cursor_seek_time(struct cursor *cursor, const struct segment_footer *footer, int64_t time_ns)
{
    const struct entries known = known_entries(cursor, footer);
    int rc = jump(cursor, entry_of(&known, twl_index_find_time(known.entries, known.count, time_ns)));
    return rc < 0 ? rc : twl_cursor_pass_older(cursor, time_ns);
}

int twl_cursor_pass_older(struct cursor *cursor, int64_t time_ns)
{
    struct record_header header;
    for (;;) {
        int rc;
        while ((rc = look_at_record(cursor, &header)) > 0) {
            if (header.kind == RECORD_DATA && header.time_ns >= time_ns)
                return 1;
            pass_record(cursor, &header);
        }
        if (rc == 0)
            rc = twl_cursor_enter_group(cursor);
        if (rc <= 0)
            return rc;
    }
}

/* ---- behind the end ---------------------------------------------------------------------------- */

bool twl_group_proves(const struct group_header *group, struct position stop)
{
    /* Either the group names the missing record as durable, or nothing was in flight when it was written,
     * so that everything in front of it was durable, markers without records included. */
    return group->durable_lsn >= stop.next_lsn || group->durable_lsn == group->first_lsn - 1;
}

static int look_for_group(const struct cursor *cursor, const unsigned char *bytes, uint64_t offset,
                          struct position stop, struct later_groups *later)
{
    struct group_header group;
    enum decoded decoded = twl_group_header_maybe(bytes)
                               ? twl_group_header_judge(bytes, cursor->segment->seed, offset, &group)
                               : DECODED_NONE;
    if (decoded == DECODED_NONE)
        return 0;
    bool is_stale = group.epoch.number < stop.epoch.number ||
                    (group.epoch.number == stop.epoch.number && group.epoch.salt != stop.epoch.salt);
    /* The torn group itself would have continued here. */
    bool is_it = group.first_lsn == stop.next_lsn && group.chain == stop.chain;
    if (is_stale || is_it || group.first_lsn < stop.next_lsn)
        return 0;
    if (later->offset == 0) {
        later->offset = offset;
        later->first_lsn = group.first_lsn;
    }
    later->is_proof = later->is_proof || twl_group_proves(&group, stop);
    return decoded == DECODED_NEWER ? TWINLOG_EVERSION : 0;
}

int twl_cursor_find_later(struct cursor *cursor, uint64_t from, struct position stop,
                          struct later_groups *ret_later)
{
    *ret_later = (struct later_groups){ 0 };
    uint64_t end = cursor->segment->data_end;
    uint64_t at = align_up(from, 8);
    while (at + GROUP_HEADER_BYTES <= end) {
        /* Up to the end of the block; a header may reach into the next one. */
        uint64_t block_end = min_u64(align_down(at, BLOCK_BYTES) + BLOCK_BYTES, end);
        uint64_t last = min_u64(block_end - 8, end - GROUP_HEADER_BYTES);
        size_t size = (size_t)(last - at) + GROUP_HEADER_BYTES;
        int error;
        const unsigned char *bytes = twl_cursor_bytes(cursor, at, size, &error);
        if (!bytes)
            return error;
        uint64_t offset = are_zeros(bytes, size) ? last + 8 : at;
        for (; error == 0 && offset <= last; offset += 8)
            error = look_for_group(cursor, bytes + (offset - at), offset, stop, ret_later);
        if (error < 0)
            return error;
        at = block_end;
    }
    return 0;
}

/* Enters a first group, where one is possible, or any other group. */
static int enter_found(struct cursor *cursor, uint64_t offset)
{
    place_at(cursor, offset, (struct position){ 0 });
    int rc = twl_cursor_enter_group(cursor);
    if (rc != 0 || offset >= SEGMENT_DATA_OFFSET + BLOCK_BYTES)
        return rc;
    cursor->is_at_first = true;
    return twl_cursor_enter_group(cursor);
}

int twl_cursor_enter_later(struct cursor *cursor, struct later_groups *ret_later)
{
    struct position stop = cursor->position;
    uint64_t from = cursor->offset;
    for (;;) {
        int rc = twl_cursor_find_later(cursor, from, stop, ret_later);
        if (rc < 0 || ret_later->offset == 0)
            return rc;
        rc = enter_found(cursor, ret_later->offset);
        if (rc != 0)
            return rc;
        from = ret_later->offset + 8; /* a group can't be here */
    }
}
