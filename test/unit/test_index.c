/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The summary of a segment and its sparse index: compared with a list of all records, which knows everything.
 *
 * A segment here is a list of groups with real bytes for their records, but no file and no checksums that
 * matter. Group sizes, record sizes and times come from a seed.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "segment/index.h"

#include <stdlib.h>
#include <string.h>

#define EPOCH_SEED 1u

struct known_record {
    uint64_t lsn;
    uint64_t group_offset;
    uint32_t record_offset;
    int64_t time_ns;
};

/* A segment in the making, and what is known of it. */
struct model {
    struct rng rng;
    uint64_t next_lsn;
    uint64_t offset;
    struct known_record *records;
    size_t count, room;
    unsigned char *bytes; /* of the newest group */
    size_t bytes_room;
    struct summary by_group, by_record;
};

static struct model begin(uint64_t seed, uint64_t offset)
{
    struct model model = { .rng = { rng_mix(seed) }, .next_lsn = 1001, .offset = offset };

    twl_summary_begin(&model.by_group);
    twl_summary_begin(&model.by_record);
    return model;
}

static int64_t earlier(int64_t a, int64_t b)
{
    if (a < b)
        return a;
    return b;
}

static int64_t later(int64_t a, int64_t b)
{
    if (a > b)
        return a;
    return b;
}

static void end(struct model *model)
{
    free(model->records);
    free(model->bytes);
}

static void *grown(void *bytes, size_t need, size_t *room, size_t unit)
{
    if (need <= *room)
        return bytes;
    *room = 2 * need;
    bytes = realloc(bytes, *room * unit);
    ck_assert_ptr_nonnull(bytes);
    return bytes;
}

static void remember(struct model *model, uint64_t lsn, uint32_t record_offset, int64_t time_ns)
{
    model->records = grown(model->records, model->count + 1, &model->room, sizeof(*model->records));
    model->records[model->count] = (struct known_record){
        .lsn = lsn, .group_offset = model->offset, .record_offset = record_offset, .time_ns = time_ns
    };
    model->count++;
}

/* Mostly forward, sometimes far back. */
static int64_t choose_time(struct model *model)
{
    const int64_t step = (int64_t)rng_below(&model->rng, 1000);
    const int64_t base = (int64_t)model->next_lsn * 100;

    if (rng_one_in(&model->rng, 10))
        return base - 50000 * step;
    return base + step;
}

/* A group of `count` records with payloads of up to max_payload bytes, added both ways. */
static void add_group(struct model *model, uint32_t count, uint32_t max_payload)
{
    struct group_header group = { .first_lsn = model->next_lsn,
                                  .count = count,
                                  .bytes = GROUP_HEADER_BYTES,
                                  .epoch = { .number = 3, .salt = 4 },
                                  .time_ns = (int64_t)model->next_lsn,
                                  .checksum = (uint32_t)rng_next(&model->rng) };
    int64_t min_ns = INT64_MAX, max_ns = INT64_MIN;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = (uint32_t)rng_below(&model->rng, (uint64_t)max_payload + 1);
        int64_t time_ns = choose_time(model);
        size_t need = (size_t)(group.bytes + twl_record_bytes(size));
        model->bytes = grown(model->bytes, need, &model->bytes_room, 1);
        unsigned char *at = model->bytes + group.bytes;
        memset(at + RECORD_HEADER_BYTES, 0x5a, size);
        twl_record_encode(
            at, EPOCH_SEED, model->next_lsn,
            &(struct record_header){ .kind = RECORD_DATA, .time_ns = time_ns, .size = (uint32_t)(size) },
            NULL);
        remember(model, model->next_lsn, group.bytes, time_ns);
        twl_summary_add_record(&model->by_record, model->next_lsn, model->offset, group.bytes, time_ns);
        min_ns = earlier(min_ns, time_ns);
        max_ns = later(max_ns, time_ns);
        group.bytes = (uint32_t)need;
        model->next_lsn++;
    }

    twl_summary_add_group(&model->by_group, &group, model->offset, min_ns, max_ns, model->bytes);
    twl_summary_end_group(&model->by_record, &group, model->offset);
    model->offset += group.bytes;
    if (rng_one_in(&model->rng, 4))
        model->offset = align_up(model->offset, BLOCK_BYTES); /* as a writer that pads */
}

/* ---- what must be so --------------------------------------------------------------------------- */

static uint64_t place_of(const struct index_entry *entry)
{
    return entry->group_offset + entry->record_offset;
}

static void assert_same(const struct summary *a, const struct summary *b)
{
    ck_assert_mem_eq(a, b, offsetof(struct summary, index.entries)); /* its padding is zeroed */
    for (uint32_t i = 0; i < a->index.count; i++) {
        const struct index_entry *x = &a->index.entries[i], *y = &b->index.entries[i];
        ck_assert_uint_eq(x->lsn, y->lsn);
        ck_assert_uint_eq(x->group_offset, y->group_offset);
        ck_assert_uint_eq(x->record_offset, y->record_offset);
        ck_assert_int_eq(x->max_time_so_far_ns, y->max_time_so_far_ns);
    }
}

/* Every entry names a record, and the newest time before it; and they are as far apart as they should be. */
static void assert_true(const struct model *model)
{
    const struct sparse_index *index = &model->by_group.index;
    int64_t max_time_so_far_ns = INT64_MIN;
    uint64_t largest = 0;
    uint32_t at = 0;

    for (size_t i = 0; i < model->count; i++) {
        const struct known_record *record = &model->records[i];
        uint64_t place = record->group_offset + record->record_offset;
        if (i > 0) {
            const struct known_record *before = &model->records[i - 1];
            largest = max_u64(largest, place - before->group_offset - before->record_offset);
        }
        if (at < index->count && index->entries[at].lsn == record->lsn) {
            ck_assert_uint_eq(index->entries[at].group_offset, record->group_offset);
            ck_assert_uint_eq(index->entries[at].record_offset, record->record_offset);
            ck_assert_int_eq(index->entries[at].max_time_so_far_ns, max_time_so_far_ns);
            at++;
        }
        max_time_so_far_ns = later(max_time_so_far_ns, record->time_ns);
    }

    ck_assert_msg(at == index->count, "entry %u is of no record", at);
    ck_assert_uint_gt(index->count, 0);
    ck_assert_uint_eq(index->entries[0].lsn, model->records[0].lsn);

    /* An entry's share is at most that of as many entries as were dropped for it, and each one's begins with
     * the first record behind its spacing. */
    uint64_t dropped = index->spacing / INDEX_MIN_SPACING;
    uint64_t most = index->spacing + dropped * (largest + GROUP_HEADER_BYTES);
    uint64_t before = place_of(&index->entries[0]);
    if (dropped > 1)
        ck_assert_uint_ge(index->count, INDEX_MAX_ENTRIES / 2);
    for (uint32_t i = 1; i <= index->count; i++) {
        uint64_t place = i < index->count ? place_of(&index->entries[i]) : model->by_group.data_end;
        if (i < index->count)
            ck_assert_uint_ge(place - before, index->spacing);
        ck_assert_uint_le(place - before, most);
        before = place;
    }
}

static void assert_extent(const struct model *model)
{
    const struct summary *summary = &model->by_group;
    int64_t min_ns = INT64_MAX, max_ns = INT64_MIN;

    for (size_t i = 0; i < model->count; i++) {
        min_ns = earlier(min_ns, model->records[i].time_ns);
        max_ns = later(max_ns, model->records[i].time_ns);
    }

    ck_assert_uint_eq(summary->first_lsn, 1001);
    ck_assert_uint_eq(summary->next_lsn, model->next_lsn);
    ck_assert_int_eq(summary->min_ns, min_ns);
    ck_assert_int_eq(summary->max_ns, max_ns);
}

static void assert_all(const struct model *model)
{
    assert_same(&model->by_group, &model->by_record);
    assert_extent(model);
    assert_true(model);
}

CASE("summary", NULL, NULL);

TEST(a_mark_is_remembered_and_makes_no_entry)
{
    const struct group_header mark = { .first_lsn = 9,
                                       .bytes = GROUP_HEADER_BYTES,
                                       .epoch = { 3, 4 },
                                       .kind = GROUP_START,
                                       .checksum = 0x1234 };
    struct summary summary;

    twl_summary_begin(&summary);
    twl_summary_add_group(&summary, &mark, 4096, 1, 1, NULL);
    ck_assert_uint_eq(summary.first_lsn, 9);
    ck_assert_uint_eq(summary.next_lsn, 9);
    ck_assert_uint_eq(summary.data_end, 4160);
    ck_assert_uint_eq(summary.chain, 0x1234);
    ck_assert_uint_eq(summary.epoch.number, 3);
    ck_assert_uint_eq(summary.index.count, 0);
    ck_assert_int_eq(summary.max_ns, INT64_MIN);
}

TEST(groups_and_records_make_the_same_index_of_any_mix)
{
    struct model model = begin(test_seed(), SEGMENT_DATA_OFFSET);

    for (unsigned i = 0; i < 10000; i++) {
        const uint32_t most_records = rng_one_in(&model.rng, 20) ? 300 : 6;
        const uint32_t records = (uint32_t)rng_below(&model.rng, most_records);
        const uint32_t most_bytes = rng_one_in(&model.rng, 20) ? 20000 : 200;
        add_group(&model, records, most_bytes);
        if (i == 20)
            assert_all(&model);
    }

    assert_all(&model);
    ck_assert_uint_gt(model.by_group.index.spacing, INDEX_MIN_SPACING);
    end(&model);
}

TEST(entries_belong_inside_a_large_group)
{
    struct model model = begin(test_seed(), SEGMENT_DATA_OFFSET);

    add_group(&model, 200000, 40);
    assert_all(&model);
    const struct sparse_index *index = &model.by_group.index;
    ck_assert_uint_gt(index->count, INDEX_MAX_ENTRIES / 2 - 1);
    ck_assert_uint_eq(index->entries[index->count - 1].group_offset, SEGMENT_DATA_OFFSET);
    end(&model);
}

TEST(offsets_of_the_largest_segment_fit)
{
    struct model model = begin(test_seed(), SEGMENT_DATA_OFFSET);

    add_group(&model, 3, 100);
    for (unsigned i = 1; i <= 5000; i++) {
        model.offset = i * (SEGMENT_MAX_BYTES / 5001) / 8 * 8; /* groups of 200 MB, but for their bytes */
        add_group(&model, 2, 100);
    }

    assert_same(&model.by_group, &model.by_record);
    const struct sparse_index *index = &model.by_group.index;
    ck_assert_uint_gt(index->count, INDEX_MAX_ENTRIES / 2 - 1);
    ck_assert_uint_gt(place_of(&index->entries[index->count - 1]), SEGMENT_MAX_BYTES / 10 * 9);
    end(&model);
}

/* ---- on disk ----------------------------------------------------------------------------------- */

/* The footer with its index in so much room, written and read. */
static void assert_footer(const struct model *model, uint64_t room)
{
    unsigned char block[SEGMENT_FOOTER_BYTES];
    const struct summary *summary = &model->by_group;
    uint64_t footer_at = align_up(summary->data_end, BLOCK_BYTES) + room;
    struct segment_footer footer, read;
    uint32_t step;

    twl_summary_footer(summary, room, 123, &footer, &step);
    ck_assert_uint_ge(step, 1);
    ck_assert_uint_le(footer.index_entries, room / INDEX_ENTRY_BYTES);
    if (room >= INDEX_ENTRY_BYTES) {
        uint32_t last = (footer.index_entries - 1) * step;
        ck_assert_uint_lt(last, summary->index.count);
        ck_assert_msg(last + step >= summary->index.count, "the rest of the index is left out");
    }

    if (step > 1) /* no smaller one would do */
        ck_assert_uint_gt((summary->index.count + step - 2) / (step - 1), room / INDEX_ENTRY_BYTES);
    twl_segment_footer_encode(&footer, 5, footer_at, block);
    ck_assert(twl_segment_footer_decode(block, 5, footer_at, &read));
    ck_assert_uint_eq(read.first_lsn, 1001);
    ck_assert_uint_eq(read.last_lsn, model->next_lsn - 1);
    ck_assert_uint_eq(read.data_end, summary->data_end);
    ck_assert_uint_eq(read.chain, summary->chain);
    ck_assert_int_eq(read.max_time_so_far_ns, summary->max_ns);
    ck_assert_int_eq(read.sealed_ns, 123);
    ck_assert_uint_eq(read.index_entries, footer.index_entries);
}

CASE("footer", NULL, NULL);

TEST(an_index_is_thinned_to_the_room_that_is_left)
{
    struct model model = begin(test_seed(), SEGMENT_DATA_OFFSET);

    while (model.by_group.index.count < 1000)
        add_group(&model, 5, 2000);
    for (uint64_t blocks = 0; blocks < 12; blocks++)
        assert_footer(&model, blocks * BLOCK_BYTES);
    assert_footer(&model, UINT64_C(1) << 40);
    end(&model);
}

CASE("looking up", NULL, NULL);

TEST(an_lsn_is_found_at_the_last_entry_that_is_not_behind_it)
{
    struct model model = begin(test_seed(), SEGMENT_DATA_OFFSET);

    for (unsigned i = 0; i < 500; i++)
        add_group(&model, 5, 500);
    const struct sparse_index *index = &model.by_group.index;
    int64_t expected = -1;
    for (uint64_t lsn = 0; lsn < model.next_lsn + 10; lsn++) {
        while (expected + 1 < (int64_t)index->count && index->entries[expected + 1].lsn <= lsn)
            expected++;
        ck_assert_int_eq(twl_index_find(index->entries, index->count, lsn, INT64_MAX), expected);
    }

    ck_assert_int_eq(expected, (int64_t)index->count - 1);
    ck_assert_int_eq(twl_index_find(index->entries, index->count, UINT64_MAX, INT64_MAX), expected);
    ck_assert_int_eq(twl_index_find(index->entries, 0, 5, INT64_MAX), -1);
    end(&model);
}

/* From the entry that is found on, the first record of that time or later is the first one of all. */
static void assert_time(const struct model *model, int64_t time_ns)
{
    const struct sparse_index *index = &model->by_group.index;
    int64_t found = twl_index_find(index->entries, index->count, UINT64_MAX, time_ns - 1);

    ck_assert_int_ge(found, -1);
    ck_assert_int_lt(found, (int64_t)index->count);
    uint64_t from_lsn = found < 0 ? 0 : index->entries[found].lsn;
    uint64_t next_lsn = found + 1 < (int64_t)index->count ? index->entries[found + 1].lsn : UINT64_MAX;
    size_t first = 0;
    while (first < model->count && model->records[first].time_ns < time_ns)
        first++;
    if (first == model->count) {
        ck_assert_int_eq(found, (int64_t)index->count - 1);
        return;
    }

    ck_assert_uint_ge(model->records[first].lsn, from_lsn);
    ck_assert_msg(model->records[first].lsn < next_lsn, "a later entry would have done");
}

TEST(a_time_is_found_at_the_last_entry_before_which_all_is_older)
{
    struct model model = begin(test_seed(), SEGMENT_DATA_OFFSET);

    for (unsigned i = 0; i < 500; i++)
        add_group(&model, 5, 500);
    for (size_t i = 0; i < model.count; i++) {
        assert_time(&model, model.records[i].time_ns - 1);
        assert_time(&model, model.records[i].time_ns);
        assert_time(&model, model.records[i].time_ns + 1);
    }

    assert_time(&model, INT64_MAX);
    const struct sparse_index *index = &model.by_group.index;
    ck_assert_msg(twl_index_find(index->entries, index->count, UINT64_MAX, INT64_MIN) == 0,
                  "from the beginning");
    ck_assert_int_eq(twl_index_find(index->entries, 0, UINT64_MAX, 5), -1);
    end(&model);
}
