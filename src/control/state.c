/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file.
 *
 * A change writes and syncs one slot, then the other. Which slot comes first alternates, and the generation
 * is even or odd accordingly. The state is in the whole slot with the larger generation. The contents of the
 * other slot tell how certain that state is:
 *
 *  - The same generation. The slot that was written first is durable, because the second write began after
 *    its sync. The second slot may not be durable, if the process was killed: the next change begins with it.
 *  - An older one. A change is going on, or stopped in between. Its first slot may not be durable, so a
 *    reader syncs it before it returns the state, and the next change writes it again.
 *  - Nothing that checks. The slot is being written as the second one, after the first was synced, or it is
 *    damaged; or the file is new and its name may not be durable.
 *
 * Every state is read from the disk, past the page cache. After a failed sync the page cache still shows a state
 * that a power cut would take back, and the next sync reports success. So no reader ever sees a change that
 * failed, unless it reached the disk.
 *
 * An open log remembers a state that it has found on the disk in both slots. That is the current one as long as
 * the page cache shows its header in the slot with which the next change begins: a header has the generation and
 * the checksums of all of its state, and every change, also one that fails, first shows another header there. If the
 * pages of a failed change are evicted, the cache shows again what the disk has; where that is the old header, the
 * old state is the current one. What the cache hides is found late: a slot that rots on the disk meanwhile.
 *
 * A process that changes the state first makes both slots the same, or knows that they are. So a change that failed has
 * happened or not, and a state that a process has acted on stays.
 *
 * A file that has other names, as in a copy of the log made of links, is replaced by a copy before a change.
 */
#include "control/state.h"

#include "base/bytes.h"
#include "base/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOCK_WAIT_MS 30000u
#define READ_TRIES 10u /* both slots look torn only to a reader that is delayed for a whole sync */
#define READ_RETRY_MS 1u

_Static_assert(sizeof(((struct io *)NULL)->log_id) == LOG_ID_BYTES, "the identity of a log");

/* ---- in memory --------------------------------------------------------------------------------- */

static int reserve(struct state *state, size_t room)
{
    if (room <= state->room)
        return 0;

    unsigned char *body = realloc(state->body, room);
    if (!body)
        return -ENOMEM;

    state->body = body;
    state->room = room;
    return 0;
}

/* `body` may be NULL if it is empty. */
static int copy_state(const struct state_header *header, const unsigned char *body, struct state *ret_state)
{
    struct state state = { .header = *header };

    if (body && header->body_bytes > 0) {
        state.body = malloc(header->body_bytes);
        if (!state.body)
            return -ENOMEM;
        memcpy(state.body, body, header->body_bytes);
        state.room = header->body_bytes;
    }

    *ret_state = state;
    return 0;
}

void twl_state_free(struct state *state)
{
    free(state->body);
    *state = (struct state){ 0 };
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* The file, and what was found in it. */
struct slots {
    struct io_file *file;
    size_t slot_bytes;
    unsigned number; /* slot that holds the state; the one that was written first, if both do */
    bool is_in_both;
    bool is_in_doubt; /* the other slot has an older state */
    bool has_other_names;
};

/* The smallest legal size that holds so many bytes, or the largest one. */
static size_t choose_slot_bytes(uint64_t need)
{
    size_t bytes = STATE_MIN_SLOT_BYTES;

    while (bytes < need && bytes < STATE_MAX_SLOT_BYTES)
        bytes *= 2;
    return bytes;
}

/* Two states that check. */
static void compare_slots(struct slots *slots, const struct state_header header[2])
{
    const uint64_t first = header[0].generation;
    const uint64_t second = header[1].generation;

    slots->is_in_both = first == second;
    slots->is_in_doubt = !slots->is_in_both;

    if (slots->is_in_both)
        slots->number = first % 2;
    else if (first > second)
        slots->number = 0;
    else
        slots->number = 1;
}

/* Which slot holds the state, and how certain is it? */
static int classify_slots(struct slots *slots, const enum header_state found[2],
                          const struct state_header header[2])
{
    const bool is_first_valid = found[0] == HEADER_VALID;
    const bool is_second_valid = found[1] == HEADER_VALID;

    if (found[0] == HEADER_NEWER || found[1] == HEADER_NEWER)
        return TWINLOG_EVERSION;
    if (!is_first_valid && !is_second_valid)
        return TWINLOG_ECORRUPT;

    if (is_first_valid && is_second_valid)
        compare_slots(slots, header);
    else if (is_first_valid)
        slots->number = 0;
    else
        slots->number = 1;
    return 0;
}

/* Most states end in the first sector. What is missing of a file that was made shorter stays zero. */
static int read_slot(const struct slots *slots, unsigned number, unsigned char *bytes)
{
    const uint64_t offset = (uint64_t)number * slots->slot_bytes;
    size_t size;

    const int rc = io_read(slots->file, bytes, HEADER_SECTOR_BYTES, offset, &size);
    if (rc < 0)
        return rc;

    const uint64_t need = min_u64(twl_state_slot_need(bytes), slots->slot_bytes);
    if (need <= HEADER_SECTOR_BYTES)
        return 0;
    return io_read(slots->file, bytes, (size_t)align_up(need, BLOCK_BYTES), offset, &size);
}

/* `bytes`: room for both slots, filled with zeros. */
static int load_slots(struct slots *slots, unsigned char *bytes, struct state *ret_state)
{
    enum header_state found[2];
    struct state_header header[2];

    for (unsigned i = 0; i < 2; i++) {
        unsigned char *slot = bytes + i * slots->slot_bytes;
        const int rc = read_slot(slots, i, slot);
        if (rc < 0)
            return rc;

        found[i] = twl_state_decode(slot, slots->slot_bytes, &header[i]);
    }

    int rc = classify_slots(slots, found, header);
    if (rc < 0)
        return rc;

    const unsigned char *slot = bytes + slots->number * slots->slot_bytes;
    rc = copy_state(&header[slots->number], slot + STATE_HEADER_BYTES, ret_state);
    if (rc < 0)
        return rc;

    ret_state->is_in_both = slots->is_in_both;
    return 0;
}

/* The files of an open log may have been exchanged for those of another one. */
static bool is_of_other_log(const struct io *io, const struct state *state)
{
    static const unsigned char none[LOG_ID_BYTES];

    if (memcmp(io->log_id, state->header.log_id, LOG_ID_BYTES) == 0)
        return false;
    return memcmp(io->log_id, none, LOG_ID_BYTES) != 0;
}

/* Reads the state from the file. */
static int load_state(struct slots *slots, struct state *ret_state)
{
    uint64_t file_bytes;

    int rc = io_size(slots->file, &file_bytes);
    if (rc < 0)
        return rc;

    slots->slot_bytes = choose_slot_bytes(file_bytes / 2 + file_bytes % 2);
    unsigned char *bytes = aligned_alloc(BLOCK_BYTES, 2 * slots->slot_bytes);
    if (!bytes)
        return -ENOMEM;

    memset(bytes, 0, 2 * slots->slot_bytes);
    rc = load_slots(slots, bytes, ret_state);
    free(bytes);
    if (rc < 0)
        return rc;

    if (is_of_other_log(slots->file->io, ret_state)) {
        twl_state_free(ret_state);
        return TWINLOG_EFOREIGN;
    }
    return 0;
}

/* -EINVAL counts as success: a read-only file system may not know the call. */
static int sync_what_was_found(struct io *io, const struct slots *slots)
{
    if (slots->is_in_both)
        return 0;

    int rc = io_sync_data(slots->file);
    if (rc == 0)
        rc = io->ops->sync_dir(io); /* the file may be new */
    if (rc == -EINVAL)
        return 0;
    return rc;
}

static int read_once(struct io *io, struct state *ret_state)
{
    struct slots slots = { 0 };
    struct state state = { 0 };

    int rc = io_open(io, STATE_NAME, IO_READ_ONLY | IO_FROM_DISK, &slots.file);
    if (rc < 0)
        return rc;

    rc = load_state(&slots, &state);
    if (rc == 0)
        rc = sync_what_was_found(io, &slots);
    io_close(slots.file);
    if (rc < 0) {
        twl_state_free(&state);
        return rc;
    }

    *ret_state = state;
    return 0;
}

static void report_failure(struct twinlog_report *ret_report, int error)
{
    switch (error) {
    case TWINLOG_EVERSION:
        twl_report(ret_report, TWINLOG_FOUND_NEWER_FORMAT, TWINLOG_DID_REFUSE, error,
                   "%s was written by a newer twinlog; use that version to read the log", STATE_NAME);
        break;
    case TWINLOG_ECORRUPT:
        twl_report(
            ret_report, TWINLOG_FOUND_BAD_STATE, TWINLOG_DID_REFUSE, error,
            "neither copy of the cursors and values in the file %s checks; `twinlog repair` the log, or "
            "restore it from a copy if no record was removed since",
            STATE_NAME);
        break;
    case TWINLOG_EFOREIGN:
        twl_report(ret_report, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_DID_REFUSE, error,
                   "the file %s is another log's; restore that of this log from a copy", STATE_NAME);
        break;
    default:
        twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error, "cannot read %s: %s",
                   STATE_NAME, twinlog_strerror(error));
        break;
    }

    twl_report_place(ret_report, STATE_NAME, 0, 0, 0);
}

int twl_state_read(struct io *io, struct state *ret_state, struct twinlog_report *ret_report)
{
    int rc = read_once(io, ret_state);

    for (unsigned tries = 1; rc == TWINLOG_ECORRUPT && tries < READ_TRIES; tries++) {
        io->ops->sleep_ms(io, READ_RETRY_MS);
        rc = read_once(io, ret_state);
    }

    if (rc < 0 && rc != -ENOENT)
        report_failure(ret_report, rc);
    return rc;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* Header and body, as they stand in a slot; to be freed. NULL: no memory. */
static unsigned char *encode_slot(const struct state *state)
{
    const size_t body_bytes = state->header.body_bytes;

    unsigned char *bytes = malloc(STATE_HEADER_BYTES + body_bytes);
    if (!bytes)
        return NULL;

    if (state->body && body_bytes > 0)
        memcpy(bytes + STATE_HEADER_BYTES, state->body, body_bytes);
    twl_state_encode(&state->header, bytes);
    return bytes;
}

static int write_slot(const struct slots *slots, unsigned number, const struct state *state)
{
    const uint64_t offset = (uint64_t)number * slots->slot_bytes;

    unsigned char *bytes = encode_slot(state);
    if (!bytes)
        return -ENOMEM;

    const int rc = io_write_at(slots->file, bytes, STATE_HEADER_BYTES + state->header.body_bytes, offset);
    free(bytes);
    return rc;
}

static int write_durably(const struct slots *slots, unsigned number, const struct state *state)
{
    const int rc = write_slot(slots, number, state);
    if (rc < 0)
        return rc;
    return io_sync_data(slots->file);
}

/* A later generation says that the log has segments. The process that changes the state has seen the first one, of
 * which the name may not be durable yet. */
static int leave_generation(struct io *io, uint64_t generation)
{
    if (generation > GENERATION_BEFORE_SEGMENTS)
        return 0;
    return io->ops->sync_dir(io);
}

/* The next generation that begins with this slot. */
static uint64_t next_generation(uint64_t generation, unsigned first_slot)
{
    const bool is_of_same_slot = generation % 2 == first_slot;

    return is_of_same_slot ? generation + 2 : generation + 1;
}

/* Writes both slots, in the next generation that begins with the slot that does not hold the state. */
static int store(struct slots *slots, struct state *state)
{
    const unsigned first = 1 - slots->number;
    const uint64_t generation = state->header.generation;

    if (generation > UINT64_MAX - 2) /* the first change would make both slots void */
        return -EOVERFLOW;

    int rc = leave_generation(slots->file->io, generation);
    if (rc < 0)
        return rc;

    state->header.generation = next_generation(generation, first);
    rc = write_durably(slots, first, state);
    if (rc == 0)
        rc = write_durably(slots, slots->number, state);
    slots->number = first;
    return rc;
}

/* Gives a new file its size, and the state in one slot. */
static int fill_file(const struct slots *slots, const struct state *state)
{
    int rc = io_lock(slots->file, IO_LOCK_WRITER, true);
    if (rc == 0)
        rc = io_allocate(slots->file, 2 * (uint64_t)slots->slot_bytes, IO_ALLOCATE_WRITTEN);
    if (rc == 0)
        rc = write_slot(slots, slots->number, state);
    if (rc == 0)
        rc = io_sync(slots->file);
    return rc;
}

/* Replaces the old file, if there is one, by a new one, locked and with the state in one slot; durable on return. If
 * this stops before, the empty other slot says that the file may not be durable. */
static int replace(struct io *io, struct io_file *old, size_t slot_bytes, const struct state *state,
                   struct slots *ret_slots)
{
    struct slots slots = { .slot_bytes = slot_bytes, .number = state->header.generation % 2 };

    int rc = twl_successor_make(io, STATE_NEW_NAME, old, &slots.file);
    if (rc < 0)
        return rc;

    rc = fill_file(&slots, state);
    if (rc == 0)
        rc = io->ops->rename(io, STATE_NEW_NAME, STATE_NAME);
    if (rc < 0)
        io->ops->unlink(io, STATE_NEW_NAME);

    if (rc == 0)
        rc = io->ops->sync_dir(io);
    if (rc < 0) {
        io_close(slots.file);
        return rc;
    }

    *ret_slots = slots;
    return 0;
}

int twl_state_write(struct io *io, const struct state *state)
{
    const size_t slot_bytes = choose_slot_bytes(STATE_HEADER_BYTES + (uint64_t)state->header.body_bytes);
    const struct state_header *header = &state->header;
    struct slots slots;

    ASSERT(header->generation > 0 && header->first_sequence > 0 && header->first_lsn > 0);
    int rc = replace(io, NULL, slot_bytes, state, &slots);
    if (rc < 0)
        return rc;

    rc = write_durably(&slots, 1 - slots.number, state);
    io_close(slots.file);
    return rc;
}

/* ---- changing ---------------------------------------------------------------------------------- */

/* Completes a change that stopped halfway. */
static int complete_change(struct io *io, struct slots *slots, struct state *state)
{
    int rc;

    if (slots->is_in_both)
        return 0;

    if (slots->is_in_doubt)
        rc = write_durably(slots, slots->number, state);
    else /* the other slot does not check: the file may be new, and its name not durable */
        rc = io->ops->sync_dir(io);
    if (rc < 0)
        return rc;
    return store(slots, state);
}

/* Goes on in a new file. */
static int move(struct io *io, struct slots *slots, size_t slot_bytes, const struct state *state)
{
    struct slots moved;

    const int rc = replace(io, slots->file, slot_bytes, state, &moved);
    if (rc < 0)
        return rc;

    io_close(slots->file);
    *slots = moved;
    return 0;
}

/* Makes room for `next`: a larger file with the current state. */
static int enlarge(struct io *io, struct slots *slots, const struct state *state, const struct state *next)
{
    const size_t slot_bytes = choose_slot_bytes(STATE_HEADER_BYTES + (uint64_t)next->header.body_bytes);

    if (slot_bytes <= slots->slot_bytes)
        return 0;
    return move(io, slots, slot_bytes, state);
}

/* What a caller does to a copy of the state: 1 = it is to be written, 0 = it is left, negative = gives up. */
struct edit {
    int (*function)(void *context, struct state *state);
    void *context;
};

/* The result of the edit. Nothing is written; after 1, `ret_next` is to be written, and freed. */
static int try_edit(const struct edit *edit, const struct state *state, struct state *ret_next)
{
    struct state next = { 0 };

    const int rc = copy_state(&state->header, state->body, &next);
    if (rc < 0)
        return rc;

    const int edited = edit->function(edit->context, &next);
    if (edited > 0)
        *ret_next = next;
    else
        twl_state_free(&next);
    return edited;
}

/* `state` is in both slots, and `next` after 0; then it takes the place of `state`. It is freed in any case. After an
 * error the slots have the one or the other. */
static int store_next(struct io *io, struct slots *slots, struct state *state, struct state *next)
{
    int rc = enlarge(io, slots, state, next);
    if (rc == 0)
        rc = store(slots, next);
    if (rc < 0) {
        twl_state_free(next);
        return rc;
    }

    twl_state_free(state);
    *state = *next;
    return 0;
}

/* As store_next(), for what the edit makes of `state`; if it leaves the state, that is no error. */
static int edit_and_store(struct io *io, struct slots *slots, const struct edit *edit, struct state *state)
{
    struct state next;

    const int edited = try_edit(edit, state, &next);
    if (edited <= 0)
        return edited;
    return store_next(io, slots, state, &next);
}

/* After 0, *ret_state is the state that both slots have now, and to be freed. */
static int change_locked(struct io *io, struct slots *slots, const struct edit *edit, struct state *ret_state)
{
    struct state state = { 0 };

    int rc = load_state(slots, &state);
    if (rc == 0 && (state.header.compatible & FEATURES_OF_WRITERS))
        rc = TWINLOG_EVERSION;
    if (rc == 0 && slots->has_other_names) /* what is written here would be there, too */
        rc = move(io, slots, slots->slot_bytes, &state);
    if (rc == 0)
        rc = complete_change(io, slots, &state);
    if (rc == 0)
        rc = edit_and_store(io, slots, edit, &state);
    if (rc < 0) {
        twl_state_free(&state);
        return rc;
    }

    *ret_state = state;
    return 0;
}

static int change_within(struct io *io, unsigned wait_ms, const struct edit *edit, struct state *ret_state)
{
    struct slots slots = { 0 };
    uint32_t links;

    int rc = twl_open_locked(io, STATE_NAME, IO_FROM_DISK, IO_LOCK_WRITER, wait_ms, &slots.file, &links);
    if (rc == -ENOENT) /* which would say that there is no such cursor or value */
        return TWINLOG_ECORRUPT;
    if (rc < 0)
        return rc;

    slots.has_other_names = links > 1;
    rc = change_locked(io, &slots, edit, ret_state);
    io_close(slots.file);
    return rc;
}

int twl_state_change_within(struct io *io, unsigned wait_ms, int (*edit)(void *context, struct state *state),
                            void *context)
{
    const struct edit own = { edit, context };
    struct state state;

    const int rc = change_within(io, wait_ms, &own, &state);
    if (rc == 0)
        twl_state_free(&state);
    return rc;
}

int twl_state_change(struct io *io, int (*edit)(void *context, struct state *state), void *context)
{
    return twl_state_change_within(io, LOCK_WAIT_MS, edit, context);
}

/* ---- remembered -------------------------------------------------------------------------------- */

static void forget(struct known_state *known)
{
    io_close(known->file);
    twl_state_free(&known->state);
    *known = (struct known_state){ 0 };
}

/* A process that asks once gains nothing from a memory, and does not pay for one. */
static bool is_asked_again(struct state_memory *memory) REQUIRES(memory->lock)
{
    const bool was_asked = memory->was_asked;

    memory->was_asked = true;
    return was_asked;
}

/* Takes what is remembered out, and leaves nothing. */
static struct known_state take_known(struct state_memory *memory) REQUIRES(memory->lock)
{
    const struct known_state known = memory->known;

    memory->known = (struct known_state){ 0 };
    return known;
}

/* In the place of what is remembered. */
static void put_known(struct state_memory *memory, const struct known_state *known)
{
    twl_mutex_lock(&memory->lock);
    struct known_state old = take_known(memory);
    memory->known = *known;
    twl_mutex_unlock(&memory->lock);
    forget(&old);
}

static int make_header(const struct state *state, unsigned char ret_header[STATE_HEADER_BYTES])
{
    unsigned char *bytes = encode_slot(state);
    if (!bytes)
        return -ENOMEM;

    memcpy(ret_header, bytes, STATE_HEADER_BYTES);
    free(bytes);
    return 0;
}

/* Does the page cache show this state where the next change would begin? */
static bool is_header_shown(const struct known_state *known)
{
    const unsigned first = 1 - known->state.header.generation % 2;
    unsigned char header[STATE_HEADER_BYTES];
    size_t size = 0;

    const int rc = io_read(known->file, header, sizeof(header), first * known->slot_bytes, &size);
    if (rc < 0 || size < sizeof(header))
        return false;
    return memcmp(header, known->header, sizeof(header)) == 0;
}

/* Is this still the state, and still the file of that name? */
static bool is_current(const struct known_state *known, uint32_t *ret_links)
{
    if (!known->file)
        return false;
    if (io_links(known->file, STATE_NAME, ret_links) < 0 || *ret_links == 0)
        return false;
    return is_header_shown(known);
}

/* Are the slots where they were? In a longer file the second one is further behind. */
static bool has_known_size(const struct known_state *known)
{
    uint64_t file_bytes;

    return io_size(known->file, &file_bytes) == 0 && file_bytes == 2 * known->slot_bytes;
}

/* Opens the file to look at its slots in the page cache, for writing if this process may. */
static int open_cached(struct io *io, struct known_state *known)
{
    const int rc = io_open(io, STATE_NAME, IO_FROM_CACHE, &known->file);

    known->is_writable = rc == 0;
    if (rc == -EACCES || rc == -EPERM || rc == -EROFS)
        return io_open(io, STATE_NAME, IO_READ_ONLY | IO_FROM_CACHE, &known->file);
    return rc;
}

/* -EAGAIN: its size is none that a change leaves. */
static int open_known(struct io *io, struct known_state *known)
{
    uint64_t file_bytes = 0;

    int rc = open_cached(io, known);
    if (rc == 0)
        rc = io_size(known->file, &file_bytes);
    if (rc < 0)
        return rc;

    known->slot_bytes = choose_slot_bytes(file_bytes / 2);
    if (file_bytes != 2 * known->slot_bytes)
        return -EAGAIN;
    return 0;
}

/* Remembers a state that was found on the disk in both slots. It is no error if that is not possible. */
static void remember(struct state_memory *memory, struct io *io, const struct state *state)
{
    struct known_state known = { 0 };
    uint32_t links;

    int rc = copy_state(&state->header, state->body, &known.state);
    if (rc == 0)
        rc = make_header(state, known.header);
    if (rc == 0)
        rc = open_known(io, &known);

    known.state.is_in_both = true;
    if (rc == 0 && is_current(&known, &links))
        put_known(memory, &known);
    else
        forget(&known);
}

int twl_state_recall(struct state_memory *memory, struct io *io, struct state *ret_state)
{
    const struct known_state *known = &memory->known;
    uint32_t links;

    twl_mutex_lock(&memory->lock);
    const bool was_asked = is_asked_again(memory);
    if (is_current(known, &links)) {
        const int rc = copy_state(&known->state.header, known->state.body, ret_state);
        twl_mutex_unlock(&memory->lock);
        if (rc == 0)
            ret_state->is_in_both = true;
        return rc;
    }
    struct known_state stale = take_known(memory);
    twl_mutex_unlock(&memory->lock);
    forget(&stale);

    const int rc = twl_state_read(io, ret_state, NULL);
    if (rc == 0 && ret_state->is_in_both && was_asked)
        remember(memory, io, ret_state);
    return rc;
}

/* May it be changed as it is remembered? The file is locked. One with other names is first replaced by a copy. */
static bool may_change(const struct known_state *known)
{
    uint32_t links;

    if (!is_current(known, &links) || links > 1)
        return false;
    return has_known_size(known);
}

/* Changes the state in the file that is locked. If nothing is known of the file afterwards, it is closed. */
static int change_known_locked(struct io *io, struct known_state *known, const struct edit *edit)
{
    struct slots slots = {
        .file = known->file,
        .slot_bytes = known->slot_bytes,
        .number = known->state.header.generation % 2,
        .is_in_both = true,
    };
    struct state next;

    const int edited = try_edit(edit, &known->state, &next);
    if (edited <= 0)
        return edited;

    const int rc = store_next(io, &slots, &known->state, &next);
    known->file = slots.file; /* if that was too small it is closed, and this is a larger one */

    const bool has_same_size = slots.slot_bytes == known->slot_bytes;
    if (rc < 0 || !has_same_size || make_header(&known->state, known->header) < 0) {
        io_close(known->file);
        known->file = NULL;
    }
    return rc;
}

/* *ret_is_tried is false if the file has to be opened, locked or read first: nothing was done. */
static int change_known(struct io *io, struct known_state *known, const struct edit *edit, bool *ret_is_tried)
{
    *ret_is_tried = false;
    if (!known->file || !known->is_writable)
        return 0;
    if (known->state.header.compatible & FEATURES_OF_WRITERS)
        return 0;

    /* Another process may have the lock. Its change may be in another file, so the wait for it begins with the name. */
    if (io_lock(known->file, IO_LOCK_WRITER, true) < 0)
        return 0;
    if (!may_change(known)) /* the caller closes the file, and so gives the lock back */
        return 0;

    *ret_is_tried = true;
    const int rc = change_known_locked(io, known, edit);
    if (known->file)
        io_unlock(known->file, IO_LOCK_WRITER);
    return rc;
}

int twl_state_change_recalled(struct state_memory *memory, struct io *io,
                              int (*edit)(void *context, struct state *state), void *context)
{
    const struct edit own = { edit, context };
    struct state state;
    bool is_tried;

    twl_mutex_lock(&memory->lock);
    const bool was_asked = is_asked_again(memory);
    struct known_state known = take_known(memory);
    twl_mutex_unlock(&memory->lock);

    int rc = change_known(io, &known, &own, &is_tried);
    if (is_tried && known.file)
        put_known(memory, &known);
    else
        forget(&known);
    if (is_tried)
        return rc;

    rc = change_within(io, LOCK_WAIT_MS, &own, &state);
    if (rc < 0)
        return rc;

    if (was_asked)
        remember(memory, io, &state);
    twl_state_free(&state);
    return 0;
}

void twl_state_memory_init(struct state_memory *memory)
{
    *memory = (struct state_memory){ 0 };
    twl_mutex_init(&memory->lock);
}

void twl_state_memory_free(struct state_memory *memory)
{
    forget(&memory->known);
    twl_mutex_destroy(&memory->lock);
}

/* ---- entries ----------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    if (!name)
        return false;

    const size_t bytes = strnlen(name, STATE_MAX_NAME + 1);
    return bytes > 0 && bytes <= STATE_MAX_NAME;
}

int twl_state_check_name(const char *name)
{
    if (!is_name(name) || twl_state_name_is_reserved(name))
        return -EINVAL;
    return 0;
}

bool twl_state_name_is_reserved(const char *name)
{
    return (unsigned char)name[0] < 0x20;
}

/* Where the entry is, or would be, in the body: from `at`, `bytes` long; 0 bytes = it is not there. */
struct place {
    size_t at;
    size_t bytes;
    struct state_entry entry;
};

static struct place find_place(const struct state *state, const struct state_entry *wanted)
{
    struct place place = { 0 };
    size_t next = 0;

    while (twl_state_entry_next(state->body, state->header.body_bytes, &next, &place.entry)) {
        const int order = twl_state_entry_compare(&place.entry, wanted);
        if (order == 0)
            place.bytes = next - place.at;
        if (order >= 0)
            break;
        place.at = next;
    }
    return place;
}

static struct state_entry name_entry(enum state_entry_kind kind, const char *name)
{
    return (struct state_entry){ .kind = (uint8_t)kind, .name_bytes = (uint8_t)strlen(name), .name = name };
}

bool twl_state_find(const struct state *state, enum state_entry_kind kind, const char *name,
                    struct state_entry *ret_entry)
{
    if (!is_name(name))
        return false;

    const struct state_entry wanted = name_entry(kind, name);
    const struct place place = find_place(state, &wanted);
    if (place.bytes == 0)
        return false;

    *ret_entry = place.entry;
    return true;
}

/* Resizes the entry at this place and moves the entries behind it. */
static void resize(struct state *state, const struct place *place, size_t bytes)
{
    const size_t end = place->at + place->bytes;
    const size_t body_bytes = state->header.body_bytes;

    if (end < body_bytes)
        memmove(state->body + place->at + bytes, state->body + end, body_bytes - end);
    state->header.body_bytes = (uint32_t)(body_bytes - place->bytes + bytes);
}

int twl_state_put(struct state *state, enum state_entry_kind kind, const char *name, const void *value,
                  size_t size)
{
    const bool is_bad_cursor = kind == STATE_CURSOR && size != STATE_CURSOR_BYTES;
    if (!is_name(name) || size > STATE_MAX_VALUE || is_bad_cursor)
        return -EINVAL;

    struct state_entry entry = name_entry(kind, name);
    const struct place place = find_place(state, &entry);
    entry.value = value;
    entry.value_bytes = (uint16_t)size;

    const size_t bytes = twl_state_entry_bytes(entry.name_bytes, size);
    const size_t body_bytes = state->header.body_bytes - place.bytes + bytes;
    const bool grows = bytes > place.bytes;
    if (grows && body_bytes > STATE_MAX_BODY_BYTES)
        return -ENOSPC;

    const int rc = reserve(state, body_bytes);
    if (rc < 0)
        return rc;

    resize(state, &place, bytes);
    twl_state_entry_encode(&entry, state->body + place.at);
    return 0;
}

int twl_state_remove(struct state *state, enum state_entry_kind kind, const char *name)
{
    if (!is_name(name))
        return -EINVAL;

    const struct state_entry wanted = name_entry(kind, name);
    const struct place place = find_place(state, &wanted);
    if (place.bytes == 0)
        return -ENOENT;

    resize(state, &place, 0);
    return 0;
}

uint64_t twl_state_cursor_lsn(const struct state_entry *entry)
{
    return min_u64(load_le64(entry->value), LAST_LSN);
}

/* Cursors come before everything else. */
static bool next_cursor(const struct state *state, size_t *at, struct state_entry *ret_entry)
{
    if (!twl_state_entry_next(state->body, state->header.body_bytes, at, ret_entry))
        return false;
    return ret_entry->kind == STATE_CURSOR;
}

bool twl_state_slowest(const struct state *state, struct state_entry *ret_entry)
{
    struct state_entry entry;
    bool is_found = false;
    size_t at = 0;

    while (next_cursor(state, &at, &entry)) {
        if (!is_found || twl_state_cursor_lsn(&entry) < twl_state_cursor_lsn(ret_entry))
            *ret_entry = entry;
        is_found = true;
    }
    return is_found;
}

uint64_t twl_state_furthest(const struct state *state)
{
    struct state_entry entry;
    uint64_t lsn = 0;
    size_t at = 0;

    while (next_cursor(state, &at, &entry))
        lsn = max_u64(lsn, twl_state_cursor_lsn(&entry));
    return lsn;
}

/* Moves the LSN at that place in the body into [least, most]; true if it has moved. */
static bool clamp(struct state *state, const unsigned char *at, uint64_t least, uint64_t most)
{
    const uint64_t lsn = min_u64(load_le64(at), LAST_LSN);
    const uint64_t clamped = min_u64(max_u64(lsn, least), most);

    store_le64(state->body + (at - state->body), clamped);
    return clamped != lsn;
}

bool twl_state_clamp_cursors(struct state *state, uint64_t least, uint64_t most)
{
    struct state_entry entry;
    bool has_moved = false;
    size_t at = 0;

    while (next_cursor(state, &at, &entry))
        if (clamp(state, entry.value, least, most))
            has_moved = true;
    return has_moved;
}

/* A wish for a trim is not one of records that are yet to come. */
static bool clamp_wish(struct state *state, uint64_t last_lsn)
{
    struct state_entry wish;

    if (!twl_state_find(state, STATE_VALUE, STATE_TRIM_NAME, &wish))
        return false;
    if (wish.value_bytes != STATE_TRIM_BYTES)
        return false;

    const bool has_first_moved = clamp(state, wish.value, 0, last_lsn + 1);
    const bool has_second_moved = clamp(state, wish.value + 8, 0, last_lsn + 1);
    return has_first_moved || has_second_moved;
}

bool twl_state_settle(struct state *state, uint64_t sequence, uint64_t first_lsn, uint64_t last_lsn)
{
    const bool have_cursors_moved = twl_state_clamp_cursors(state, first_lsn - 1, last_lsn);
    const bool has_wish_moved = clamp_wish(state, last_lsn);

    if (sequence <= state->header.first_sequence)
        return have_cursors_moved || has_wish_moved;

    state->header.first_sequence = sequence;
    state->header.first_lsn = first_lsn;
    return true;
}
