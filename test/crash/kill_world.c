/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was done to the log but for appends: cuts, trims, cursors, values.
 *
 * Each change is noted before it is made and again when it was made. If its process dies in between, the
 * next one that opens the log finds out what became of it: it was made or it was not, and nothing else.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void world_clear(void)
{
    memset(world, 0, sizeof(*world));
    atomic_store(&world->head_least, 1);
    atomic_store(&world->head_most, 1);
    atomic_store(&world->head_highest, 1);
    for (unsigned i = 0; i < CURSORS; i++)
        atomic_store(&world->cursor[i].value[0], NOTHING);
}

/* ---- something that changes -------------------------------------------------------------------- */

void begin_change(struct changing *changing, uint64_t value)
{
    const uint32_t holds = atomic_load(&changing->state) & 1;

    atomic_store(&changing->value[1 - holds], value);
    atomic_store(&changing->state, holds | IS_CHANGING);
}

void end_change(struct changing *changing)
{
    atomic_store(&changing->state, 1 - (atomic_load(&changing->state) & 1));
}

uint64_t current(const struct changing *changing)
{
    return atomic_load(&changing->value[atomic_load(&changing->state) & 1]);
}

static void set_current(struct changing *changing, uint64_t value)
{
    begin_change(changing, value);
    end_change(changing);
}

/* ---- cuts -------------------------------------------------------------------------------------- */

static uint64_t least_of(const uint64_t lsns[MAX_CUTS], uint32_t since, uint32_t end)
{
    uint64_t least = NOTHING;

    for (uint32_t i = since; i < end; i++)
        least = min_u64(least, lsns[i]);
    return least;
}

uint64_t world_keeps(uint32_t since)
{
    return least_of(world->keep, since, atomic_load(&world->truncations_started));
}

uint64_t world_gave_again(uint32_t since, uint32_t end)
{
    return least_of(world->next, since, end);
}

bool world_may_be_trimmed(uint64_t lsn)
{
    return atomic_load(&world->head_most) >= UNKNOWN || lsn < atomic_load(&world->head_highest);
}

uint64_t world_gives_again(uint32_t since, uint32_t end)
{
    const uint32_t begun = atomic_load(&world->truncations_started);
    uint64_t least = NOTHING;

    for (uint32_t i = since; i < begun; i++) {
        const uint64_t next = i < end ? world->next[i] : NOTHING;

        least = world->keep[i] == 0 ? next : min_u64(least, next);
    }
    return least;
}

bool world_may_be_cut(void)
{
    return atomic_load(&world->truncations_started) != atomic_load(&world->truncations_done);
}

/* Is the record there that the truncation removes? One in front of the log was removed by a reset, or by a retention
 * before a truncation, which then did not come: what a truncation leaves ends right before that record. */
static bool is_undone(struct twinlog *log)
{
    const uint64_t lsn = world->evidence.lsn;
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    bool is_there;
    int result;

    options.from_lsn = options.to_lsn = lsn;
    check_call(twinlog_reader_attach(log, &options, &reader), "a reader after an interrupted cut");
    result = twinlog_reader_next(reader, &record);
    if (result != TWINLOG_ETRIMMED)
        check_call(result, "reading a record after an interrupted cut");
    is_there = result > 0 && payload_matches(&world->evidence.payload, &record);
    twinlog_reader_close(reader);
    return result == TWINLOG_ETRIMMED ? world->evidence.next_lsn == 0 : is_there;
}

static void set_head(uint64_t lsn)
{
    atomic_store(&world->head_least, lsn);
    atomic_store(&world->head_most, lsn);
    raise_to(&world->head_highest, lsn);
}

void world_expect_floor(uint64_t lsn)
{
    atomic_store(&world->floor_most, lsn);
    raise_to(&world->floor_highest, lsn);
}

void world_set_floor(uint64_t lsn)
{
    world_expect_floor(lsn);
    atomic_store(&world->floor_least, lsn);
}

static void settle_cut(struct twinlog *log)
{
    const uint32_t index = atomic_load(&world->truncations_done);
    const uint64_t next_lsn = world->evidence.next_lsn;

    if (!world_may_be_cut())
        return;
    if (is_undone(log)) {
        world->keep[index] = world->next[index] = NOTHING;
        if (next_lsn > 0)
            set_head(world->evidence.head);
    } else if (next_lsn > 0) {
        set_head(next_lsn);
        world_set_floor(next_lsn);
    }
    atomic_store(&world->truncations_done, index + 1);
}

/* ---- the head --------------------------------------------------------------------------------- */

void world_expect_retention(uint64_t keep_records)
{
    const uint64_t records = stamp_lsn(atomic_load(&world->retained));

    if (atomic_load(&world->head_most) == NOTHING)
        keep_records = min_u64(keep_records, records);
    atomic_store(&world->retained, stamp(keep_records, atomic_load(&world->truncations_done)));
    atomic_store(&world->head_most, NOTHING);
}

static void settle_head(struct twinlog *log, bool is_retaining)
{
    const uint64_t first = twinlog_first_lsn(log), last = twinlog_last_lsn(log);
    const uint64_t head = first > 0 ? first : last + 1;
    const uint64_t least = atomic_load(&world->head_least), most = atomic_load(&world->head_most);
    const uint64_t retained = atomic_load(&world->retained);

    if (head < least || head > most)
        violation("the log begins with LSN %" PRIu64 ", not with one of %" PRIu64 " to %" PRIu64, head, least,
                  most);
    if (most == NOTHING && head > least && head > atomic_load(&world->head_asked) && !is_retaining &&
        head + stamp_lsn(retained) > last + 1 && world_keeps(stamp_since(retained)) == NOTHING)
        violation("a retention left LSN %" PRIu64 " to %" PRIu64 " of %" PRIu64 " records it was to keep",
                  head, last, stamp_lsn(retained));
    set_head(head);
    if (is_retaining)
        atomic_store(&world->head_most, NOTHING);
}

/* ---- cursors ----------------------------------------------------------------------------------- */

void name_cursor(unsigned index, char ret_name[TWINLOG_NAME_BYTES])
{
    snprintf(ret_name, TWINLOG_NAME_BYTES, "cursor %u", index);
}

/* Where trims and truncations must have left it. */
static uint64_t moved(uint64_t cursor, uint64_t floor)
{
    return max_u64(min_u64(stamp_lsn(cursor), world_keeps(stamp_since(cursor))), floor > 0 ? floor - 1 : 0);
}

static bool may_be_cursor(uint64_t noted, uint64_t lsn)
{
    if (noted == NOTHING || lsn == NOTHING)
        return noted == lsn;
    return lsn == moved(noted, atomic_load(&world->floor_least)) ||
           lsn == moved(noted, atomic_load(&world->floor_most));
}

static uint64_t get_cursor(struct twinlog *log, const char *name)
{
    uint64_t lsn = NOTHING;
    const int result = twinlog_cursor_get(log, name, &lsn);

    if (result < 0 && result != -ENOENT)
        violation("%s cannot be read: %s", name, twinlog_strerror(result));
    return lsn;
}

static void settle_cursor(unsigned index, struct twinlog *log)
{
    struct changing *cursor = &world->cursor[index];
    const uint64_t holds = current(cursor);
    const uint64_t other = atomic_load(&cursor->value[1 - (atomic_load(&cursor->state) & 1)]);
    const bool is_changing = (atomic_load(&cursor->state) & IS_CHANGING) != 0;
    char name[TWINLOG_NAME_BYTES];
    uint64_t lsn;

    name_cursor(index, name);
    lsn = get_cursor(log, name);
    if (!may_be_cursor(holds, lsn) && !(is_changing && may_be_cursor(other, lsn)))
        violation("%s is at %" PRId64 ", not where it was set, %" PRId64 "%s (-1: not set)", name,
                  (int64_t)lsn,
                  holds == NOTHING ? -1 : (int64_t)moved(holds, atomic_load(&world->floor_least)),
                  is_changing ? ", nor where it was being set" : "");
    set_current(cursor, lsn == NOTHING ? NOTHING : stamp(lsn, atomic_load(&world->truncations_done)));
}

/* ---- values ------------------------------------------------------------------------------------ */

void name_value(unsigned index, char ret_name[TWINLOG_NAME_BYTES])
{
    snprintf(ret_name, TWINLOG_NAME_BYTES, "value %u", index);
}

bool fill_value(uint64_t version, unsigned char ret_data[TWINLOG_META_BYTES], size_t *ret_size)
{
    struct rng rng = { rng_mix(version) };

    if (version == 0 || rng_one_in(&rng, 6))
        return false;
    *ret_size = rng_below(&rng, (rng_one_in(&rng, 8) ? TWINLOG_META_BYTES : 100) + 1);
    rng_fill(&rng, ret_data, *ret_size);
    return true;
}

struct found_value {
    bool is_there;
    size_t size;
    unsigned char data[TWINLOG_META_BYTES];
};

static void get_value(struct twinlog *log, const char *name, struct found_value *ret_value)
{
    const int result =
        twinlog_meta_get(log, name, ret_value->data, sizeof(ret_value->data), &ret_value->size);

    if (result < 0 && result != -ENOENT)
        violation("%s cannot be read: %s", name, twinlog_strerror(result));
    ret_value->is_there = result == 0;
}

static bool is_version(const struct found_value *value, uint64_t version)
{
    unsigned char data[TWINLOG_META_BYTES];
    size_t size;

    if (!fill_value(version, data, &size))
        return !value->is_there;
    return value->is_there && value->size == size && memcmp(value->data, data, size) == 0;
}

static void settle_value(unsigned index, struct twinlog *log)
{
    struct changing *versions = &world->value[index];
    const uint64_t holds = current(versions);
    const bool is_changing = (atomic_load(&versions->state) & IS_CHANGING) != 0;
    struct found_value value;
    char name[TWINLOG_NAME_BYTES];

    name_value(index, name);
    get_value(log, name, &value);
    if (is_version(&value, holds))
        set_current(versions, holds);
    else if (is_changing && is_version(&value, holds + 1))
        set_current(versions, holds + 1);
    else
        violation("%s is not what it was set to: version %" PRIu64 "%s; it is %s, %zu bytes", name, holds,
                  is_changing ? ", nor the next one" : "", value.is_there ? "there" : "not there",
                  value.size);
}

/* ---- all of it --------------------------------------------------------------------------------- */

void world_settle(struct twinlog *log, bool is_retaining)
{
    settle_cut(log);
    settle_head(log, is_retaining);
    for (unsigned i = 0; i < CURSORS; i++)
        settle_cursor(i, log);
    for (unsigned i = 0; i < VALUES; i++)
        settle_value(i, log);
    atomic_store(&world->floor_least, 0);
    atomic_store(&world->floor_most, 0);
}

static uint64_t newest_version(const struct changing *versions)
{
    return current(versions) + ((atomic_load(&versions->state) & IS_CHANGING) != 0);
}

void world_versions(uint64_t ret_versions[VALUES])
{
    for (unsigned i = 0; i < VALUES; i++)
        ret_versions[i] = current(&world->value[i]);
}

void world_check_copy(const uint64_t versions[VALUES], struct twinlog *log)
{
    char name[TWINLOG_NAME_BYTES];

    for (unsigned i = 0; i < CURSORS; i++) {
        uint64_t lsn;

        name_cursor(i, name);
        lsn = get_cursor(log, name);
        if (lsn != NOTHING && lsn > twinlog_last_lsn(log))
            violation("in a copy %s is at %" PRIu64 ", beyond the end", name, lsn);
    }
    for (unsigned i = 0; i < VALUES; i++) {
        const uint64_t most = newest_version(&world->value[i]);
        uint64_t version = versions[i];
        struct found_value value;

        name_value(i, name);
        get_value(log, name, &value);
        while (version <= most && !is_version(&value, version))
            version++;
        if (version > most)
            violation("in a copy %s is none of version %" PRIu64 " to %" PRIu64, name, versions[i], most);
    }
}
