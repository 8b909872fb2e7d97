/* SPDX-License-Identifier: Apache-2.0 */
/* See lives.h. */
#define _GNU_SOURCE
#include "lives.h"
#include "hooked.h"
#include "suites.h"

#include "../sim/simdisk.h"
#include "keeper/keeper.h"
#include "log/log.h"
#include "recover/recover.h"

struct simdisk *disk;

void make_log(enum shape shape)
{
    static const unsigned char payload[BLOCK_RECORD_BYTES] = { 1, 2, 3 };
    static const unsigned records[SHAPES] = { 2, 58, 58, 400 };
    struct simdisk *living = make_simdisk();
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = shape == LARGE ? 64 * SEGMENT_MIN_BYTES : SEGMENT_MIN_BYTES,
                  .segment_records = shape == LARGE ? 0 : 4, .keep_records = shape == RECYCLED ? 1 : 0,
                  .spare_segments = 1);
    struct twinlog *log = log_on(simdisk_connect(living), &options);
    for (unsigned i = 0; i < records[shape]; i++)
        ck_assert_int_eq(twinlog_append(log, payload, i == 0 ? FIRST_RECORD_BYTES : BLOCK_RECORD_BYTES, NULL),
                         0);
    disk = simdisk_crash_image(living, SIM_CUT_NONE, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(living);
}

void remove_log(void)
{
    simdisk_destroy(disk);
}

void load_set(struct io *io, struct segment_set *set)
{
    struct twinlog_report report;
    ck_assert_int_eq(twl_segment_set_open(io, SET_FOR_READING, NULL, set, &report), 0);
}

static const struct io_ops *counted;
uint64_t read_bytes;

static int read_and_count(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    const int rc = counted->read(file, buffer, size, offset, ret_size);
    read_bytes += rc == 0 ? *ret_size : 0;
    return rc;
}

int open_and_count(struct simdisk *machine, const struct twinlog_options *options)
{
    struct io *io = simdisk_connect(machine);
    struct io_ops counting = *io->ops;
    struct twinlog *log;
    counted = io->ops;
    counting.read = read_and_count;
    io->ops = &counting;
    read_bytes = 0;
    const int rc = twl_log_open(io, options, &log);
    return rc < 0 ? rc : twinlog_close(log);
}
