/* SPDX-License-Identifier: Apache-2.0 */
/* How far an opening searches behind the place where the log seems to end: so far that no single fault is missed, and
 * no farther in a large segment than in a small one. */
#include "hooked.h"
#include "lives.h"
#include "suites.h"
#include "unscanned.h"

#include "../sim/simdisk.h"
#include "check/check.h"
#include "commit/inside.h"
#include "keeper/keeper.h"
#include "log/handle.h"
#include "log/log.h"

#include <stdio.h>
#include <string.h>

#define MIB (1u << 20)
#define SEGMENT_BYTES (64 * MIB)
#define LAST_SMALLER_SEGMENT 32u /* MiB */

/* The groups that were written last, the newest first. */
#define GROUPS_NOTED 16u
static struct {
    char name[40];
    unsigned long long offset;
} noted[GROUPS_NOTED];

static struct simdisk *machine;
#define PAYLOAD_BYTES (21 * MIB)
UNSCANNED_BYTES(payload, PAYLOAD_BYTES)

static void note_group(void *context, enum simdisk_op op)
{
    (void)context;
    if (op != SIM_SUBMIT)
        return;
    memmove(&noted[1], &noted[0], sizeof(noted) - sizeof(noted[0]));
    ck_assert_int_eq(sscanf(simdisk_last(machine), "submit %39s %llu", noted[0].name, &noted[0].offset), 2);
}

static void append(struct twinlog *log, size_t size, uint32_t level)
{
    const struct twinlog_entry entry = { .data = payload, .size = size };
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = level);

    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
}

/* Each group begins a block. On return the log is in its first segment of full size, and has such a spare. */
static struct twinlog *fill(uint32_t buffer_bytes)
{
    const struct twinlog_options options = WITH_SIZE(
        options, .segment_bytes = SEGMENT_BYTES, .buffer_bytes = buffer_bytes,
        .max_record_bytes = buffer_bytes - 2 * BLOCK_BYTES, .flags = TWINLOG_PAD, .spare_segments = 1);

    machine = make_simdisk();
    memset(payload, 0x5a, PAYLOAD_BYTES);
    struct twinlog *log = log_on(simdisk_connect(machine), &options);
    simdisk_set_hook(machine, note_group, NULL);
    while (log->commit->segment.header.bytes < SEGMENT_BYTES)
        append(log, MIB - 4096, TWINLOG_LEVEL_DURABLE);
    ck_assert_int_eq(twl_keeper_wait(log->keeper, 1, 0, 1), 0);
    return log;
}

/* Its writer is killed; the machine goes on, or has lost its power, so that the page of writer.lock says nothing. */
static struct simdisk *leave(struct twinlog *log, bool keeps_page)
{
    struct simdisk *left = simdisk_crash_image(machine, SIM_CUT_NONE, 0);

    simdisk_set_hook(machine, NULL, NULL);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(machine);
    struct io *io = simdisk_connect(left);
    if (!keeps_page)
        ck_assert_int_eq(io->ops->unlink(io, PAGE_FILE_NAME), 0);
    io->ops->destroy(io);
    return left;
}

static void damage(struct simdisk *left, unsigned group)
{
    static const unsigned char bit[1] = { 0x30 };
    struct io *io = simdisk_connect(left);
    struct io_file *file;

    ck_assert_int_eq(io_open(io, noted[group].name, 0, &file), 0);
    ck_assert_int_eq(io_write_at(file, bit, sizeof(bit), noted[group].offset + 4), 0);
    ck_assert_int_eq(io_sync(file), 0);
    io_close(file);
    io->ops->destroy(io);
}

static int verify(struct simdisk *left)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;

    return twl_verify(simdisk_connect(left), &options, NULL);
}

CASE("search", NULL, NULL);

TEST(a_killed_log_is_searched_for_a_group_and_not_to_the_ends_of_its_segments)
{
    struct simdisk *left = leave(fill(8 * MIB), true);

    ck_assert_int_eq(open_and_count(left, NULL), 0);
    ck_assert_uint_ge(read_bytes, 16 * MIB);
    ck_assert_uint_le(read_bytes, 20 * MIB);
    simdisk_destroy(left);
}

TEST(behind_a_group_that_is_lost_the_next_one_is_found_however_large_that_was)
{
    struct twinlog *log = fill(24 * MIB);

    append(log, 20 * MIB, TWINLOG_LEVEL_DURABLE);
    append(log, 100, TWINLOG_LEVEL_DURABLE);
    struct simdisk *left = leave(log, false);
    damage(left, 1);
    ck_assert_int_eq(verify(left), TWINLOG_ECORRUPT);
    ck_assert_int_eq(open_and_count(left, NULL), TWINLOG_ECORRUPT);
    simdisk_destroy(left);
}

/* Groups that were not synced, and the first synced one, prove nothing of each other. */
TEST(groups_that_prove_nothing_lead_to_the_one_that_does)
{
    struct twinlog *log = fill(8 * MIB);

    append(log, 100, TWINLOG_LEVEL_DURABLE);
    for (unsigned i = 0; i < 4; i++)
        append(log, 7 * MIB, TWINLOG_LEVEL_WRITTEN);
    append(log, 100, TWINLOG_LEVEL_DURABLE);
    append(log, 100, TWINLOG_LEVEL_DURABLE);
    struct simdisk *left = leave(log, false);
    damage(left, 5);
    ck_assert_int_eq(verify(left), TWINLOG_ECORRUPT);
    ck_assert_int_eq(open_and_count(left, NULL), TWINLOG_ECORRUPT);
    simdisk_destroy(left);
}

/* docs/recovery.md says so, under "What cannot be told apart". */
TEST(several_groups_of_more_than_a_gap_are_lost_unseen_but_for_verify)
{
    struct twinlog *log = fill(8 * MIB);

    append(log, 6 * MIB, TWINLOG_LEVEL_DURABLE);
    append(log, 6 * MIB, TWINLOG_LEVEL_DURABLE);
    append(log, 100, TWINLOG_LEVEL_DURABLE);
    struct simdisk *left = leave(log, false);
    damage(left, 1);
    damage(left, 2);
    ck_assert_int_eq(verify(left), TWINLOG_ECORRUPT);
    ck_assert_int_eq(open_and_count(left, NULL), 0);
    simdisk_destroy(left);
}
