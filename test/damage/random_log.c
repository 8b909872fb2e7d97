/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes small logs by chance, knows what they should hold, and finds where it lies.
 *
 * The same seed makes the same bytes: the log has no thread of its own, and time and chance are those of the seed.
 */
#define _GNU_SOURCE
#include "random.h"

#include "log/log.h"
#include "twinlog.h"
#include "walk/segment_iter.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEGMENT_BYTES 65536u
#define MAX_STEPS 24u

enum step {
    STEP_APPEND,
    STEP_LARGE_GROUP,
    STEP_TRUNCATE,
    STEP_RESET,
    STEP_TRIM,
    STEP_CURSOR,
    STEPS,
};

static struct rng chance;
static int64_t clock_ns;

static int64_t tell_time(struct io *io)
{
    (void)io;
    return clock_ns += 1000;
}

static int fill_by_chance(struct io *io, void *bytes, size_t size)
{
    (void)io;
    rng_fill(&chance, bytes, size);
    return 0;
}

static struct io *open_directory(const char *dir)
{
    static struct io_ops ops;
    struct io *io;
    must(twl_io_posix_create(dir, true, &io) == 0, "open the directory");
    ops = *io->ops;
    ops.now_ns = tell_time;
    ops.random = fill_by_chance;
    io->ops = &ops;
    io->has_threads = io->has_engine_threads = false;
    return io;
}

/* ---- the log -------------------------------------------------------------------------------------- */

size_t make_payload(uint64_t lsn, uint32_t number, unsigned char *ret_bytes)
{
    struct rng rng = { lsn * UINT64_C(0x9e3779b97f4a7c15) + number };
    const size_t size = 12 + (size_t)rng_below(&rng, rng_one_in(&rng, 4) ? MAX_PAYLOAD - 12 : 200);
    memcpy(ret_bytes, &lsn, 8);
    memcpy(ret_bytes + 8, &number, 4);
    rng_fill(&rng, ret_bytes + 12, size - 12);
    return size;
}

static void append(struct twinlog *log, struct history *h, unsigned count)
{
    unsigned char bytes[MAX_PAYLOAD];
    uint64_t lsn;
    for (unsigned i = 0; i < count && h->last_lsn < MAX_LSN; i++) {
        const uint32_t number = ++h->numbers;
        must(twinlog_enqueue(log, bytes, make_payload(h->last_lsn + 1, number, bytes), &lsn) == 0, "append");
        must(lsn == h->last_lsn + 1, "append the next record");
        h->number[lsn] = number;
        h->last_lsn = lsn;
    }
    must(twinlog_sync(log) == 0, "sync");
}

static bool is_empty(const struct history *h)
{
    return h->last_lsn < h->first_lsn;
}

static void truncate_log(struct twinlog *log, struct history *h, struct rng *rng)
{
    if (is_empty(h))
        return;
    const uint64_t last_lsn = h->last_lsn - rng_below(rng, h->last_lsn - h->first_lsn + 1);
    must(twinlog_truncate(log, last_lsn) == 0, "truncate");
    h->was_truncated = h->was_truncated || last_lsn < h->last_lsn;
    h->last_lsn = last_lsn;
    h->cursor_lsn = h->cursor_lsn > last_lsn ? last_lsn : h->cursor_lsn;
}

static void reset_log(struct twinlog *log, struct history *h, struct rng *rng)
{
    const uint64_t next_lsn = 1 + rng_below(rng, h->last_lsn + 50);
    must(twinlog_reset(log, next_lsn) == 0, "reset");
    h->was_truncated = true;
    h->first_lsn = next_lsn;
    h->last_lsn = next_lsn - 1;
    h->cursor_lsn = 0;
}

static void trim_log(struct twinlog *log, struct history *h, struct rng *rng)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    if (is_empty(h))
        return;
    options.flags = TWINLOG_TRIM_PAST_CURSORS;
    options.before_lsn = h->first_lsn + rng_below(rng, h->last_lsn - h->first_lsn + 1);
    must(twinlog_trim(log, &options, &result) == 0, "trim");
    h->first_lsn = result.first_lsn;
}

static void take_step(struct twinlog *log, struct history *h, struct rng *rng, bool is_mapped)
{
    enum step step = rng_one_in(rng, 2) ? STEP_APPEND : (enum step)rng_below(rng, STEPS);
    if (step == STEP_RESET && !rng_one_in(rng, 4))
        step = STEP_APPEND;
    if (is_mapped && step != STEP_CURSOR)
        step = STEP_APPEND;
    h->made |= 1u << step;
    if (step == STEP_APPEND)
        append(log, h, 1 + (unsigned)rng_below(rng, 12));
    else if (step == STEP_LARGE_GROUP)
        append(log, h, 60);
    else if (step == STEP_TRUNCATE)
        truncate_log(log, h, rng);
    else if (step == STEP_RESET)
        reset_log(log, h, rng);
    else if (step == STEP_TRIM)
        trim_log(log, h, rng);
    else if (!is_empty(h)) {
        must(twinlog_cursor_set(log, "consumer", h->last_lsn) == 0, "set a cursor");
        if (h->cursor_value != h->last_lsn)
            h->cursor_lsn = is_mapped ? 0 : h->last_lsn; /* through a mapping it proves nothing */
        h->cursor_value = h->last_lsn;
    }
}

static void live(const char *dir, struct history *h, struct rng *rng, bool is_last)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    const bool is_mapped = rng_one_in(rng, 5);
    options.segment_bytes = SEGMENT_BYTES;
    options.flags = rng_one_in(rng, 6) ? TWINLOG_PAD : 0;
    options.buffer_bytes = 16384;
    options.max_record_bytes = 4096;
    if (is_mapped) {
        options.mode = TWINLOG_MODE_MAPPED;
        options.mapped_bytes = SEGMENT_BYTES;
        options.flags = 0;
    }
    mkdir(dir, 0777); /* in the first life */
    must(twl_log_open(open_directory(dir), &options, &log) == 0, "open the log");
    const unsigned steps = (unsigned)rng_below(rng, MAX_STEPS);
    for (unsigned i = 0; i < steps; i++)
        take_step(log, h, rng, is_mapped);
    must(twinlog_sync(log) == 0, "sync");
    h->is_closed = !is_last || !rng_one_in(rng, 3);
    if (h->is_closed)
        must(twinlog_close(log) == 0, "close");
}

void make_log(const char *dir, uint64_t seed, struct history *ret_history)
{
    struct history *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    must(h != MAP_FAILED, "share memory");
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        struct rng rng = { seed };
        chance = (struct rng){ rng_mix(seed) };
        clock_ns = INT64_C(1000000000000000000);
        h->first_lsn = 1;
        for (uint64_t lives = 1 + rng_below(&rng, 4); lives > 0; lives--)
            live(dir, h, &rng, lives == 1);
        _exit(0);
    }
    must(waitpid(child, &status, 0) == child && status == 0, "make the log in a process");
    *ret_history = *h;
    munmap(h, sizeof(*h));
}

/* ---- files ---------------------------------------------------------------------------------------- */

static int is_of_log(const struct dirent *entry)
{
    return strstr(entry->d_name, ".twl") != NULL || strcmp(entry->d_name, "state") == 0;
}

void load_log(const char *dir, struct files *ret_files)
{
    load_files(dir, is_of_log, ret_files);
}

static int is_page(const struct dirent *entry)
{
    return strcmp(entry->d_name, PAGE_FILE_NAME) == 0;
}

void load_page(const char *dir, struct files *ret_files)
{
    load_files(dir, is_page, ret_files);
    must(ret_files->count == 1 && ret_files->list[0].size >= BLOCK_BYTES, "load the page");
    ret_files->list[0].size = BLOCK_BYTES;
}

void copy_files(const struct files *from, struct files *to)
{
    *to = *from;
    for (unsigned i = 0; i < from->count; i++) {
        to->list[i].bytes = malloc(from->list[i].size + 1);
        must(to->list[i].bytes != NULL, "get memory");
        memcpy(to->list[i].bytes, from->list[i].bytes, from->list[i].size);
    }
}

/* ---- places --------------------------------------------------------------------------------------- */

static unsigned find_file(const struct files *files, const char *name)
{
    unsigned i = 0;
    while (strcmp(files->list[i].name, name) != 0)
        must(++i < files->count, "find a file");
    return i;
}

static void add_spoken(struct layout *layout, unsigned file, uint64_t offset, uint64_t end)
{
    must(layout->spoken_count < MAX_MARKS, "note so many footers");
    layout->spoken[layout->spoken_count++] = (struct spoken){ file, offset, end };
}

static void find_spoken(const struct segment *segment, unsigned file, bool was_left, struct layout *layout)
{
    const uint64_t second = twl_second_header_offset(&segment->header);
    struct segment_footer footer;
    add_spoken(layout, file, second, second + HEADER_SECTOR_BYTES);
    if (was_left && twl_segment_read_footer(segment, &footer) > 0)
        add_spoken(layout, file, segment->data_end - footer.index_entries * INDEX_ENTRY_BYTES,
                   segment->data_end + FOOTER_SECTOR_BYTES);
}

static void walk(struct io *io, const struct segment_set *set, size_t index, unsigned file,
                 struct layout *layout)
{
    struct segment_iter iter = { .passes_claims = true };
    struct iter_record record;
    struct segment segment;
    const uint64_t bound = twl_segment_set_bound(set, index);
    must(twl_segment_open_valid(io, set->entries[index].name, &segment) == 0, "open a segment");
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    while (twl_iter_enter_group(&iter) > 0 && iter.group.first_lsn < bound) {
        must(layout->mark_count < MAX_MARKS, "note so many groups");
        if (!iter.is_open)
            layout->marks[layout->mark_count++] =
                (struct mark){ .file = file,
                               .epoch = iter.group.epoch.number,
                               .offset = iter.group_offset,
                               .end = iter.group_offset + iter.group.bytes,
                               .first_lsn = iter.group.first_lsn,
                               .last_lsn = iter.group.first_lsn + iter.group.count - 1,
                               .durable_lsn = iter.group.durable_lsn,
                               .has_been_open = (iter.group.flags & GROUP_MAPPED) != 0 };
        while (twl_iter_next_record(&iter, &record) > 0) {
            if (record.lsn < set->first_lsn || record.lsn >= bound || record.header.kind != RECORD_DATA)
                continue;
            must(layout->place_count < MAX_LSN, "note so many records");
            layout->places[layout->place_count++] =
                (struct place){ record.lsn, iter.group.epoch.number, file, record.offset,
                                record.offset + twl_record_bytes(record.header.size) };
        }
    }
    find_spoken(&segment, file, index + 1 < set->started, layout);
    twl_iter_free(&iter);
    twl_segment_close(&segment);
}

void find_layout(const char *dir, const struct files *files, struct layout *ret_layout)
{
    struct twinlog_report report;
    struct segment_set set;
    struct io *io;
    ret_layout->place_count = ret_layout->mark_count = ret_layout->spoken_count = 0;
    must(twl_io_posix_create(dir, true, &io) == 0, "open the directory");
    must(twl_segment_set_open(io, SET_FOR_READING, NULL, &set, &report) == 0, "load the segments");
    for (size_t i = 0; i < set.started; i++)
        walk(io, &set, i, find_file(files, set.entries[i].name), ret_layout);
    twl_segment_set_free(&set);
    io->ops->destroy(io);
}
