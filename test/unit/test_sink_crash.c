/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sink syncs and records, on a simulated disk that loses its power after every operation.
 *
 * The sink is a data file and an area, without windows, locks and other processes: bytes are written through io, and
 * what is stored in the area reaches the page cache at once. Half of the bytes are zeros, so that the last byte alone
 * does not tell the end. After each operation the disk is cut in several ways, and an image must say:
 *
 *     the end is known               it is not before what a sync has acknowledged, and not behind what was written
 *     nothing came since a sync      it is known, and exactly that
 *     it is not known                with TWINLOG_SINK_DROP_ZEROS it is not before what a sync has acknowledged
 *
 * What was acknowledged or recorded is there, byte for byte. After a sync that failed none succeeds.
 */
#include "logdir.h"
#include "suites.h"

#include "../sim/simdisk.h"
#include "sink/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS 30u
#define STEPS 60u
#define MOST_BYTES (256u << 10)

static const struct identity identity = { 7, 1, 1 };

static struct machine {
    struct simdisk *disk;
    struct rng rng;
    struct sink_file file;
    uint64_t written, synced;
    bool is_quiet;      /* nothing came since the last sync that succeeded */
    bool is_in_turn;    /* the area is being written back */
    bool is_closed;     /* there is nothing to judge any more */
    const char *reason; /* the first violation */
    uint64_t images;
} machine;

static unsigned char byte_at(uint64_t offset)
{
    return rng_mix(offset / 5) % 2 ? 0 : (unsigned char)(1 + rng_mix(offset) % 255);
}

static void expect(bool is_right, const char *reason)
{
    if (!is_right && !machine.reason)
        machine.reason = reason;
}

/* ---- after the power has come back ------------------------------------------------------------------- */

static void expect_bytes(struct io_file *data, uint64_t end, const char *reason)
{
    static unsigned char bytes[MOST_BYTES];
    size_t got = 0;
    expect(io_read(data, bytes, end, 0, &got) == 0 && got == end, reason);
    for (size_t i = 0; i < got; i++)
        if (bytes[i] != byte_at(i)) {
            expect(false, reason);
            return;
        }
}

static void judge_end(struct io_file *data, const struct area *area)
{
    uint64_t end = 0;
    const uint64_t recorded = area && twl_area_is_for(area, &identity) ? atomic_load(&area->recorded) : 0;
    int rc = twl_end_find(data, area, &identity, 0, &end);
    expect(rc == 0 || rc == -EUCLEAN, "the end is neither known nor unknown");
    if (rc == 0 && recorded > 0 && end >= recorded)
        expect_bytes(data, recorded, "what is recorded is not there");
    if (machine.is_quiet)
        expect(rc == 0 && end == machine.synced, "after a sync and nothing else the end is not known");
    if (rc == -EUCLEAN)
        rc = twl_end_find(data, area, &identity, TWINLOG_SINK_DROP_ZEROS, &end);
    expect(rc == 0 && end >= machine.synced && end <= machine.written, "the end is a wrong one");
    expect_bytes(data, machine.synced, "what was synced is not there");
}

static void judge(struct simdisk *image)
{
    _Alignas(struct area) static unsigned char page[AREA_PAGE];
    struct io *io = simdisk_connect(image);
    struct io_file *data = NULL, *area = NULL;
    size_t got = 0;
    const bool has_data = io_open(io, "data", IO_READ_ONLY, &data) == 0;
    const bool has_area = io_open(io, "area", IO_READ_ONLY, &area) == 0 &&
                          io_read(area, page, sizeof(page), 0, &got) == 0 && got == sizeof(page);
    if (has_data)
        judge_end(data, has_area ? (const struct area *)page : NULL);
    else
        expect(machine.synced == 0, "the file is gone");
    io_close(data);
    io_close(area);
    io->ops->destroy(io);
    simdisk_destroy(image);
    machine.images++;
}

static void cut_power(void *context, enum simdisk_op op)
{
    static const enum simdisk_cut cuts[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_CUT_RANDOM };
    (void)context;
    (void)op;
    for (unsigned i = 0; !machine.is_closed && i < sizeof(cuts) / sizeof(cuts[0]); i++)
        judge(simdisk_crash_image(machine.disk, cuts[i], rng_next(&machine.rng)));
}

/* ---- the sink ---------------------------------------------------------------------------------------- */

/* Before each operation: what was stored in the area is in the page cache. */
static void write_area_back(void *context)
{
    (void)context;
    if (machine.is_in_turn || !machine.file.area || !machine.file.area_file)
        return;
    machine.is_in_turn = true;
    ck_assert_int_eq(io_write_at(machine.file.area_file, machine.file.area, AREA_PAGE, 0), 0);
    machine.is_in_turn = false;
}

static void begin(uint64_t seed)
{
    memset(&machine, 0, sizeof(machine));
    machine.rng.state = rng_mix(seed);
    machine.disk = simdisk_create(&(struct simdisk_options){ .seed = seed });
    struct io *io = simdisk_connect(machine.disk);
    struct sink_file *file = &machine.file;
    ck_assert_int_eq(io_open(io, "data", IO_CREATE, &file->data), 0);
    ck_assert_int_eq(io_open(io, "area", IO_CREATE, &file->area_file), 0);
    ck_assert_int_eq(twl_area_prepare(file->area_file, 0), 0);
    file->area = aligned_alloc(AREA_PAGE, AREA_BYTES);
    memset(file->area, 0, AREA_BYTES);
    file->area->identity = identity;
    twl_area_finish(file->area);
    twl_mutex_init(&file->lock);
    simdisk_set_turn(machine.disk, write_area_back, NULL);
    simdisk_set_hook(machine.disk, cut_power, NULL);
}

static void end(void)
{
    struct sink_file *file = &machine.file;
    struct io *io = file->data->io;
    machine.is_closed = true;
    simdisk_set_turn(machine.disk, NULL, NULL);
    io_close(file->data);
    io_close(file->area_file);
    io->ops->destroy(io);
    simdisk_destroy(machine.disk);
    twl_mutex_destroy(&file->lock);
    free(file->area);
}

static void write_some(void)
{
    unsigned char bytes[3000];
    struct sink_file *file = &machine.file;
    const size_t size = 1 + rng_below(&machine.rng, sizeof(bytes));
    const uint64_t start = machine.written, room = atomic_load(&file->area->file_bytes);
    machine.is_quiet = false;
    machine.written += size; /* before the disk may be cut in the middle */
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(start + i);
    if (machine.written > room) {
        const uint64_t larger = align_up(max_u64(machine.written, 2 * room), AREA_PAGE);
        ck_assert_int_eq(io_allocate(file->data, larger, IO_ALLOCATE_SPACE), 0);
        atomic_store(&file->area->file_bytes, larger);
    }
    ck_assert_int_eq(io_write_at(file->data, bytes, size, start), 0);
    atomic_store(&file->area->cursor, cursor_of(machine.written, 0));
}

static int sync_it(void)
{
    const int rc = twl_sink_sync_file(&machine.file, true);
    if (rc == 0) {
        machine.synced = machine.written;
        machine.is_quiet = machine.written > 0;
    }
    return rc;
}

/* Returns the first violation, or NULL. A fault: the sync with that number fails. */
static const char *live(uint64_t seed, uint64_t fault, enum simdisk_op lie)
{
    bool has_failed = false;
    begin(seed);
    if (fault > 0)
        simdisk_inject(machine.disk, &(struct simdisk_fault){ .op = SIM_SYNC, .nth = fault, .error = -EIO });
    if (lie != SIM_OPS)
        simdisk_lie(machine.disk, lie);
    for (unsigned i = 0; i < STEPS && !machine.reason; i++) {
        if (!rng_one_in(&machine.rng, 4)) {
            write_some();
            continue;
        }
        const int rc = sync_it();
        expect(rc == 0 || simdisk_faults(machine.disk) > 0, "a sync has failed without a fault");
        expect(rc < 0 || !has_failed, "a sync has succeeded after one that failed");
        has_failed |= rc < 0;
    }
    const char *reason = machine.reason;
    end();
    return reason;
}

CASE("sink, power", NULL, NULL);

TEST_LOOP(what_is_synced_survives_every_cut, (int)SEEDS)
{
    const uint64_t seed = test_seed() + (uint64_t)_i;
    const char *reason = live(seed, 0, SIM_OPS);
    ck_assert_msg(!reason, "seed %ju: %s", (uintmax_t)seed, reason);
    ck_assert_uint_gt(machine.images, STEPS);
}

/* Of the bytes or of what is recorded. */
TEST_LOOP(after_a_sync_that_failed_none_succeeds, (int)SEEDS)
{
    const uint64_t seed = test_seed() + (uint64_t)_i;
    const char *reason = live(seed, 1 + (uint64_t)_i % 6, SIM_OPS);
    ck_assert_msg(!reason, "seed %ju: %s", (uintmax_t)seed, reason);
}

/* The judge sees a disk that lies. */
TEST_LOOP(a_lie_is_found, 2)
{
    unsigned found = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        found += live(seed, 0, _i == 0 ? SIM_SYNC : SIM_SYNC_DIR) != NULL;
    ck_assert_uint_gt(found, SEEDS / 2);
}
