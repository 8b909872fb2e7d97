/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the simulated disk forget what it says it forgets? A crash test on a disk that tears nothing
 * passes for the wrong reason, so every rule in simdisk.h has a test here.
 */
#include "base/base.h"
#include "format/format.h"
#include "log/log.h"
#include "simdisk.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SECTOR = 512,
    SEALED_SEGMENT_BYTES = 65536,
    IMAGES = 400, /* of each random kind: what they don't show is not there */
};

static unsigned failures;

struct machine {
    struct simdisk *disk;
    struct io *io;
    struct io_file *file; /* "file", 4096 bytes of 'o', durable */
};

/* Each test has an entry in a section of the program, which main() goes through; each begins with a new machine. */
#define TEST(name)                                                                                           \
    static void name(struct machine *machine);                                                               \
    static void (*entry_of_##name)(struct machine *) __attribute__((section("selftests"), used)) = name;     \
    static void name(struct machine *machine)
extern void (*__start_selftests[])(struct machine *), (*__stop_selftests[])(struct machine *);

#define EXPECT(condition) expect(condition, #condition, __LINE__)

static void expect(bool condition, const char *text, int line)
{
    if (condition)
        return;
    printf("test/sim/selftest.c:%d: not so: %s\n", line, text);
    ++failures;
}

/* ---- a disk, a process, a file ------------------------------------------------------------------- */

static unsigned char block[4 * BLOCK_BYTES] __attribute__((aligned(4096)));

static const void *filled(char with)
{
    memset(block, with, sizeof(block));
    return block;
}

static struct machine start_with(struct simdisk_options options)
{
    options.has_direct = true;

    struct machine machine = { .disk = simdisk_create(&options) };
    machine.io = simdisk_connect(machine.disk);

    EXPECT(io_open(machine.io, "file", IO_CREATE, &machine.file) == 0);
    EXPECT(io_write_at(machine.file, filled('o'), BLOCK_BYTES, 0) == 0);
    EXPECT(io_sync(machine.file) == 0);
    EXPECT(machine.io->ops->sync_dir(machine.io) == 0);
    return machine;
}

static struct machine start(void)
{
    return start_with((struct simdisk_options){ .seed = 7 });
}

static void stop(struct machine *machine)
{
    io_close(machine->file);
    machine->io->ops->destroy(machine->io);
    simdisk_destroy(machine->disk);
}

static void restart(struct machine *machine, struct simdisk_options options)
{
    stop(machine);
    *machine = start_with(options);
}

/* From what a crash left. */
static struct machine boot(struct simdisk *image)
{
    struct machine machine = { .disk = image, .io = simdisk_connect(image) };
    EXPECT(io_open(machine.io, "file", 0, &machine.file) == 0);
    return machine;
}

/* What a sector is: '-' behind the end of the file, '0' for zeros, '?' if it is not one byte over and over, else that
 * byte. */
static char describe_sector(const unsigned char *bytes, size_t size)
{
    if (size < SECTOR)
        return '-';
    for (size_t i = 1; i < size; ++i) {
        if (bytes[i] != bytes[0])
            return '?';
    }
    if (bytes[0] == 0)
        return '0';
    return (char)bytes[0];
}

/* The first `sectors` sectors of a file, as reads see them; "none" if there is no such file. */
static const char *look_with(struct simdisk *disk, const char *name, unsigned flags, size_t sectors)
{
    static char seen[64];
    struct io *io = simdisk_connect(disk);
    struct io_file *file = NULL;

    if (io_open(io, name, IO_READ_ONLY | flags, &file) < 0) {
        io->ops->destroy(io);
        return "none";
    }

    for (size_t i = 0; i < sectors; ++i) {
        unsigned char bytes[SECTOR];
        size_t size = 0;
        EXPECT(io_read(file, bytes, SECTOR, i * SECTOR, &size) == 0);
        seen[i] = describe_sector(bytes, size);
    }
    seen[sectors] = '\0';

    io_close(file);
    io->ops->destroy(io);
    return seen;
}

static const char *look(struct simdisk *disk, const char *name, size_t sectors)
{
    return look_with(disk, name, 0, sectors);
}

/* Does the file look so after that crash? */
static bool image_shows(const struct simdisk *disk, enum simdisk_cut cut, uint64_t seed, const char *name,
                        const char *expected)
{
    const bool is_no_file = strcmp(expected, "none") == 0;
    const size_t sectors = is_no_file ? 1 : strlen(expected);

    struct simdisk *image = simdisk_crash_image(disk, cut, seed);
    const bool is_so = strcmp(look(image, name, sectors), expected) == 0;
    simdisk_destroy(image);
    return is_so;
}

/* How many of the random images show that. */
static unsigned count_images(const struct simdisk *disk, enum simdisk_cut cut, const char *name,
                             const char *expected)
{
    unsigned count = 0;
    for (uint64_t seed = 0; seed < IMAGES; ++seed) {
        if (image_shows(disk, cut, seed, name, expected))
            ++count;
    }
    return count;
}

static struct io_write prepare(const struct machine *machine, char with, size_t size, uint64_t offset)
{
    struct io_write write = { .file = machine->file, .data = filled(with), .size = size, .offset = offset };
    return write;
}

static void write_durably(const struct machine *machine, struct io_write *write)
{
    machine->io->ops->write_durably(machine->io, write);
}

/* ---- writes -------------------------------------------------------------------------------------- */

TEST(a_synced_write_is_in_every_image)
{
    EXPECT(simdisk_choices(machine->disk) == 0);
    EXPECT(count_images(machine->disk, SIM_CUT_RANDOM, "file", "oooooooo") == IMAGES);
    EXPECT(count_images(machine->disk, SIM_CUT_GARBAGE, "file", "oooooooo") == IMAGES);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oooooooo"));
}

TEST(an_unsynced_write_tears_in_every_way)
{
    /* bit N of the mask: sector N of the write happened */
    const char *const torn[] = { "ooooo", "onooo", "oonoo", "onnoo", "ooono", "onono", "oonno", "onnno" };
    unsigned images = 0;

    EXPECT(io_write_at(machine->file, filled('n'), 3 * SECTOR, SECTOR) == 0);
    EXPECT(strcmp(look(machine->disk, "file", 5), "onnno") == 0);
    EXPECT(simdisk_choices(machine->disk) == 3);

    for (uint64_t mask = 0; mask < 8; ++mask) {
        EXPECT(image_shows(machine->disk, SIM_CUT_MASK, mask, "file", torn[mask]));
        const unsigned count = count_images(machine->disk, SIM_CUT_RANDOM, "file", torn[mask]);
        EXPECT(count > 0);
        images += count;
    }
    EXPECT(images == IMAGES);

    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "ooooo"));
    EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "onnno"));
}

TEST(sectors_that_would_not_change_are_no_choice)
{
    EXPECT(io_write_at(machine->file, filled('o'), BLOCK_BYTES, 0) == 0);
    EXPECT(simdisk_choices(machine->disk) == 0);
}

TEST(a_later_write_can_survive_an_earlier_one)
{
    EXPECT(io_write_at(machine->file, filled('1'), SECTOR, 0) == 0);
    EXPECT(io_write_at(machine->file, filled('2'), SECTOR, SECTOR) == 0);
    EXPECT(count_images(machine->disk, SIM_CUT_RANDOM, "file", "o2") > 0);
    EXPECT(count_images(machine->disk, SIM_CUT_RANDOM, "file", "1o") > 0);
}

TEST(any_of_several_writes_to_a_sector_can_be_the_last)
{
    EXPECT(io_write_at(machine->file, filled('1'), SECTOR, 0) == 0);
    EXPECT(io_write_at(machine->file, filled('2'), SECTOR, 0) == 0);

    const unsigned old = count_images(machine->disk, SIM_CUT_RANDOM, "file", "o");
    const unsigned first = count_images(machine->disk, SIM_CUT_RANDOM, "file", "1");
    const unsigned second = count_images(machine->disk, SIM_CUT_RANDOM, "file", "2");
    EXPECT(old > 0);
    EXPECT(first > 0);
    EXPECT(second > 0);
    EXPECT(old + first + second == IMAGES);
}

TEST(all_ends_with_the_last_write_even_if_it_restores)
{
    EXPECT(io_write_at(machine->file, filled('1'), SECTOR, 0) == 0);
    EXPECT(io_write_at(machine->file, filled('o'), SECTOR, 0) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "o"));
}

TEST(garbage_only_where_it_was_not_synced)
{
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, SECTOR) == 0);
    EXPECT(count_images(machine->disk, SIM_CUT_RANDOM, "file", "o?oooooo") == 0);

    EXPECT(count_images(machine->disk, SIM_CUT_GARBAGE, "file", "o?oooooo") > 0);
    EXPECT(count_images(machine->disk, SIM_CUT_GARBAGE, "file", "ooooo") > 0);
    EXPECT(count_images(machine->disk, SIM_CUT_GARBAGE, "file", "onooo") > 0);
}

TEST(a_partial_sector_is_old_or_new)
{
    EXPECT(io_write_at(machine->file, filled('n'), 10, 2 * SECTOR - 5) == 0);
    EXPECT(simdisk_choices(machine->disk) == 2);
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 1, "file", "o?oo"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 2, "file", "oo?o"));
}

/* ---- sizes --------------------------------------------------------------------------------------- */

TEST(a_size_is_a_change_of_its_own)
{
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, BLOCK_BYTES) == 0);
    EXPECT(simdisk_choices(machine->disk) == 2);

    /* neither; the size; the data; both */
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 0, "file", "oooooooo-"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 1, "file", "oooooooo0"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 2, "file", "oooooooo-"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 3, "file", "oooooooon"));

    EXPECT(io_sync(machine->file) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oooooooon"));
}

TEST(data_beyond_a_lost_size_does_not_come_back)
{
    const uint64_t data_only = 2;
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, BLOCK_BYTES) == 0);

    struct machine after = boot(simdisk_crash_image(machine->disk, SIM_CUT_MASK, data_only));
    EXPECT(io_allocate(after.file, 2 * BLOCK_BYTES, IO_ALLOCATE_SPACE) == 0);
    EXPECT(strcmp(look(after.disk, "file", 9), "oooooooo0") == 0);
    stop(&after);
}

TEST(allocated_space_needs_a_sync)
{
    for (enum io_allocation how = IO_ALLOCATE_WRITTEN; how <= IO_ALLOCATE_NOTHING; ++how) {
        restart(machine, (struct simdisk_options){ .seed = 7 });

        EXPECT(io_allocate(machine->file, 2 * BLOCK_BYTES, how) == 0);
        EXPECT(strcmp(look(machine->disk, "file", 17), "oooooooo00000000-") == 0);
        EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oooooooo-"));

        EXPECT(io_allocate(machine->file, 10, how) == 0); /* makes no file shorter */
        EXPECT(io_sync_data(machine->file) == 0);
        EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oooooooo00000000-"));
    }
}

TEST(a_shortened_file_loses_what_was_behind_its_end)
{
    EXPECT(io_write_at(machine->file, filled('n'), BLOCK_BYTES, BLOCK_BYTES) == 0);
    EXPECT(io_truncate(machine->file, BLOCK_BYTES + SECTOR) == 0);
    EXPECT(strcmp(look(machine->disk, "file", 10), "oooooooon-") == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oooooooo-"));
    EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "oooooooon-"));

    EXPECT(io_truncate(machine->file, 2 * SECTOR) == 0);
    EXPECT(simdisk_choices(machine->disk) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oo-"));

    EXPECT(io_truncate(machine->file, BLOCK_BYTES) == 0); /* makes no file longer */
    EXPECT(io_allocate(machine->file, BLOCK_BYTES, IO_ALLOCATE_SPACE) == 0);
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oo000000-"));
}

/* ---- the directory ------------------------------------------------------------------------------- */

/* A file beside "file": its first sector is 'y', synced, and its name is not. */
static struct io_file *make_young_file(const struct machine *machine)
{
    struct io_file *file = NULL;
    EXPECT(io_open(machine->io, "young", IO_CREATE, &file) == 0);
    EXPECT(io_write_at(file, filled('y'), SECTOR, 0) == 0);
    EXPECT(io_sync(file) == 0);
    return file;
}

TEST(a_synced_file_needs_a_synced_name)
{
    struct io_file *file = make_young_file(machine);
    EXPECT(simdisk_choices(machine->disk) == 1);
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 0, "young", "none"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 1, "young", "y"));

    EXPECT(machine->io->ops->sync_dir(machine->io) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "young", "y"));
    io_close(file);
}

TEST(a_rename_is_atomic_and_volatile)
{
    EXPECT(machine->io->ops->rename(machine->io, "file", "other") == 0);
    EXPECT(strcmp(look(machine->disk, "file", 1), "none") == 0);
    EXPECT(simdisk_choices(machine->disk) == 1);

    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "o"));
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "other", "none"));
    EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "none"));
    EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "other", "o"));
}

TEST(a_rename_replaces_in_one_step)
{
    struct io_file *file = make_young_file(machine);
    EXPECT(machine->io->ops->rename(machine->io, "young", "file") == 0);

    const unsigned old = count_images(machine->disk, SIM_CUT_RANDOM, "file", "o");
    const unsigned young = count_images(machine->disk, SIM_CUT_RANDOM, "file", "y");
    EXPECT(old > 0);
    EXPECT(young > 0);
    EXPECT(old + young == IMAGES);
    io_close(file);
}

TEST(an_unlink_is_volatile)
{
    EXPECT(machine->io->ops->unlink(machine->io, "file") == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "o"));
    EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "none"));

    EXPECT(machine->io->ops->unlink(machine->io, "file") == -ENOENT);
    EXPECT(machine->io->ops->rename(machine->io, "file", "x") == -ENOENT);
}

TEST(names_happen_independently)
{
    static const struct {
        const char *a, *b;
    } EXPECTED[] = { { "none", "none" }, { "-", "none" }, { "none", "-" }, { "-", "-" } };
    struct io_file *file[2];
    EXPECT(io_open(machine->io, "a", IO_CREATE, &file[0]) == 0);
    EXPECT(io_open(machine->io, "b", IO_CREATE, &file[1]) == 0);
    EXPECT(io_open(machine->io, "b", IO_CREATE, &file[1]) == -EEXIST);

    for (uint64_t mask = 0; mask < 4; ++mask) {
        EXPECT(image_shows(machine->disk, SIM_CUT_MASK, mask, "a", EXPECTED[mask].a));
        EXPECT(image_shows(machine->disk, SIM_CUT_MASK, mask, "b", EXPECTED[mask].b));
    }
    io_close(file[0]);
    io_close(file[1]);
}

static uint32_t links(struct io_file *file, const char *name)
{
    uint32_t count = 2;
    EXPECT(io_links(file, name, &count) == 0);
    return count;
}

TEST(a_file_has_a_name_until_it_is_unlinked_or_replaced)
{
    struct io_file *young = NULL;
    EXPECT(links(machine->file, "file") == 1);

    EXPECT(machine->io->ops->rename(machine->io, "file", "other") == 0);
    EXPECT(links(machine->file, "other") == 1);
    EXPECT(links(machine->file, "file") == 0);

    EXPECT(io_open(machine->io, "young", IO_CREATE, &young) == 0);
    EXPECT(machine->io->ops->rename(machine->io, "young", "other") == 0);
    EXPECT(links(machine->file, "other") == 0);
    EXPECT(links(young, "other") == 1);

    EXPECT(machine->io->ops->unlink(machine->io, "other") == 0);
    EXPECT(links(young, "other") == 0);
    io_close(young);
}

TEST(files_can_not_be_shared_between_disks_or_looked_at)
{
    struct machine other = start();
    struct io_file *reading;
    void *view = NULL;
    EXPECT(machine->io->ops->link(machine->io, "file", other.io, "copy") == -EXDEV);
    EXPECT(strcmp(look(other.disk, "copy", 1), "none") == 0);

    EXPECT(io_open(machine->io, "file", IO_READ_ONLY, &reading) == 0);
    EXPECT(machine->io->ops->map(reading, BLOCK_BYTES, &view) == -ENOTSUP);
    EXPECT(!view);
    io_close(reading);
    stop(&other);
}

static int count_name(void *context, const char *name)
{
    int *names = context;

    (void)name;
    ++*names;
    return *names == 100 ? 1 : 0; /* a list that has no end is ended */
}

TEST(a_list_has_every_name_once)
{
    int names = 0;
    EXPECT(machine->io->ops->rename(machine->io, "file", "other") == 0);
    EXPECT(machine->io->ops->list(machine->io, count_name, &names) == 0);
    EXPECT(names == 1);
}

/* ---- durable writes ------------------------------------------------------------------------------ */

struct point {
    enum simdisk_op op;
    bool is_new_after_cut; /* in an image without what was not synced */
    bool is_new_to_reads;
};

struct points {
    struct machine *machine;
    struct point point[8];
    unsigned count;
};

static void note_point(void *context, enum simdisk_op op)
{
    struct points *points = context;
    struct simdisk *disk = points->machine->disk;
    struct point *point = &points->point[points->count];

    point->op = op;
    point->is_new_after_cut = image_shows(disk, SIM_CUT_NONE, 0, "file", "nn");
    point->is_new_to_reads = strcmp(look(disk, "file", 2), "nn") == 0;
    ++points->count;
}

TEST(a_submitted_write_is_durable_after_its_barrier)
{
    restart(machine, (struct simdisk_options){ .seed = 1 });
    struct points points = { .machine = machine };
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    simdisk_set_hook(machine->disk, note_point, &points);
    write_durably(machine, &write);
    EXPECT(write.ret_written == BLOCK_BYTES);
    EXPECT(write.ret_synced == 0);
    EXPECT(points.count == 3);

    const struct point *submitted = &points.point[0];
    EXPECT(submitted->op == SIM_SUBMIT);
    EXPECT(!submitted->is_new_to_reads);
    EXPECT(!submitted->is_new_after_cut);

    const struct point *written = &points.point[1];
    EXPECT(written->op == SIM_GROUP_WRITE);
    EXPECT(written->is_new_to_reads);
    EXPECT(!written->is_new_after_cut);

    const struct point *synced = &points.point[2];
    EXPECT(synced->op == SIM_BARRIER);
    EXPECT(synced->is_new_to_reads);
    EXPECT(synced->is_new_after_cut);
    EXPECT(simdisk_choices(machine->disk) == 0);
}

static unsigned torn_in_flight;

static void count_torn(void *context, enum simdisk_op op)
{
    const struct machine *machine = context;
    if (op != SIM_GROUP_WRITE)
        return;

    const unsigned old = count_images(machine->disk, SIM_CUT_GARBAGE, "file", "oooooooo");
    const unsigned new = count_images(machine->disk, SIM_CUT_GARBAGE, "file", "nnnnnnnn");
    EXPECT(old > 0);
    EXPECT(new > 0);
    torn_in_flight = IMAGES - old - new;
}

TEST(a_write_in_flight_may_be_torn)
{
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    simdisk_set_hook(machine->disk, count_torn, machine);
    write_durably(machine, &write);
    EXPECT(torn_in_flight > 0);
}

/* Behind a write of '1' and one of '2', of which neither is synced, one of 'n' has a barrier. `none`: what an image
 * without the unsynced shows; `choices`: things that a power cut decides about. */
static void check_barrier(struct machine *machine, bool is_narrow, const char *none, unsigned choices)
{
    restart(machine, (struct simdisk_options){ .is_barrier_narrow = is_narrow });
    EXPECT(io_write_at(machine->file, filled('1'), 2 * SECTOR, 6 * SECTOR) == 0);
    EXPECT(io_write_at(machine->file, filled('2'), BLOCK_BYTES + 2 * SECTOR, BLOCK_BYTES) == 0);

    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, BLOCK_BYTES + SECTOR);
    write_durably(machine, &write);
    EXPECT(strcmp(look(machine->disk, "file", 18), "oooooo112nnnnnnnn2") == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", none));
    EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "oooooo112nnnnnnnn2"));
    EXPECT(simdisk_choices(machine->disk) == choices);
}

TEST(a_barrier_covers_as_much_as_it_is_told)
{
    check_barrier(machine, false, "oooooo112nnnnnnnn2", 0);
    check_barrier(machine, true, "oooooooo0nnnnnnnn-", 5);
}

/* A log on the machine's disk, of which the first segment is sealed. */
static void make_sealed_segment(struct machine *machine)
{
    static const unsigned char record[1000];
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    options.segment_bytes = SEALED_SEGMENT_BYTES;

    EXPECT(machine->io->ops->unlink(machine->io, "file") == 0); /* a log has a directory of its own */
    EXPECT(twl_log_open(simdisk_connect(machine->disk), &options, &log) == 0);
    for (int i = 0; i < 100; i++)
        EXPECT(twinlog_append(log, record, sizeof(record), NULL) == 0);
    EXPECT(twinlog_close(log) == 0);
}

static _Noreturn void write_to_first_segment(struct machine *machine, unsigned char value, size_t size,
                                             uint64_t offset)
{
    struct io_file *file;
    fclose(stderr);
    if (io_open(machine->io, "0000000000000001.twl", 0, &file) < 0)
        _exit(EXIT_FAILURE);
    if (io_write_at(file, filled((char)value), size, offset) < 0)
        _exit(EXIT_FAILURE);
    _exit(EXIT_SUCCESS);
}

/* Whether a process that writes this into the first segment is ended by the disk. */
static bool is_ended(struct machine *machine, unsigned char value, size_t size, uint64_t offset)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0)
        write_to_first_segment(machine, value, size, offset);

    EXPECT(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGABRT;
    EXPECT(WEXITSTATUS(status) == EXIT_SUCCESS);
    return false;
}

TEST(a_sealed_segment_is_not_written_again)
{
    const uint64_t footer = SEALED_SEGMENT_BYTES - SEGMENT_FOOTER_BYTES;
    restart(machine, (struct simdisk_options){ .seed = 7, .is_sealed_final = true });
    make_sealed_segment(machine);

    EXPECT(is_ended(machine, 1, BLOCK_BYTES, SEGMENT_DATA_OFFSET));
    EXPECT(is_ended(machine, 1, SEGMENT_FOOTER_BYTES, footer));
    EXPECT(!is_ended(machine, 0, SEGMENT_FOOTER_BYTES, footer)); /* the log continues in it */
    EXPECT(!is_ended(machine, 1, SEGMENT_HEADER_BYTES, 0));      /* it is another segment from now on */
}

/* The last sector of a write is missing. */
static struct io_write write_short(struct machine *machine, bool is_narrow)
{
    const struct simdisk_fault fault = { .op = SIM_GROUP_WRITE, .nth = 1, .missing = SECTOR };
    restart(machine, (struct simdisk_options){ .is_barrier_narrow = is_narrow });
    simdisk_inject(machine->disk, &fault);

    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    write_durably(machine, &write);
    EXPECT(write.ret_written == BLOCK_BYTES - SECTOR);
    EXPECT(strcmp(look(machine->disk, "file", 8), "nnnnnnno") == 0);
    return write;
}

TEST(a_short_write_cancels_a_linked_sync)
{
    const struct io_write write = write_short(machine, false);
    EXPECT(write.ret_synced == -ECANCELED);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oooooooo"));
}

TEST(a_short_write_with_its_own_sync_is_synced)
{
    const struct io_write write = write_short(machine, true);
    EXPECT(write.ret_synced == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "nnnnnnno"));
}

/* ---- faults -------------------------------------------------------------------------------------- */

TEST(a_fault_strikes_when_it_is_told_to)
{
    const struct simdisk_fault once = { .op = SIM_SYNC, .nth = 2, .error = -ENOSPC };
    simdisk_inject(machine->disk, &once);
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(io_sync(machine->file) == -ENOSPC);
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(simdisk_faults(machine->disk) == 1);

    const struct simdisk_fault for_ever = { .op = SIM_ANY, .nth = 2, .error = -EIO, .is_forever = true };
    simdisk_inject(machine->disk, &for_ever);
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(io_sync(machine->file) == -EIO);
    EXPECT(machine->io->ops->sync_dir(machine->io) == -EIO);

    simdisk_inject(machine->disk, NULL);
    EXPECT(io_sync(machine->file) == 0);
}

static void fail_next_sync(const struct machine *machine)
{
    const struct simdisk_fault fault = { .op = SIM_SYNC, .nth = 1, .error = -EIO };
    simdisk_inject(machine->disk, &fault);
}

TEST(a_failed_write_leaves_parts)
{
    simdisk_inject(machine->disk, &(struct simdisk_fault){ .op = SIM_WRITE, .nth = 1, .error = -EIO });
    EXPECT(io_write_at(machine->file, filled('n'), BLOCK_BYTES, 0) == -EIO);
    const char *seen = look(machine->disk, "file", 8);
    EXPECT(strchr(seen, 'n') && strchr(seen, 'o'));
}

TEST(a_failed_sync_of_the_page_cache_loses_what_reads_still_show)
{
    unsigned lost = 0, lost_and_shown = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        restart(machine, (struct simdisk_options){ .seed = seed });
        fail_next_sync(machine);
        EXPECT(io_write_at(machine->file, filled('n'), SECTOR, 0) == 0);
        EXPECT(io_sync(machine->file) == -EIO);
        EXPECT(io_sync(machine->file) == 0);

        const bool is_lost = image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "o");
        const bool is_shown = strcmp(look(machine->disk, "file", 1), "n") == 0;
        const char *on_disk = is_lost ? "o" : "n";
        EXPECT(is_lost || is_shown);
        EXPECT(strcmp(look_with(machine->disk, "file", IO_FROM_DISK, 1), on_disk) == 0);

        if (is_lost)
            ++lost;
        if (is_lost && is_shown)
            ++lost_and_shown;
    }
    EXPECT(lost > 0);
    EXPECT(lost < 20);
    EXPECT(lost_and_shown > 0);
}

/* The first sector of "file" is new in the page cache, and lost: with one of these seeds. */
static void lose_page(struct machine *machine)
{
    for (uint64_t seed = 0;; ++seed) {
        restart(machine, (struct simdisk_options){ .seed = seed });
        fail_next_sync(machine);
        EXPECT(io_write_at(machine->file, filled('n'), SECTOR, 0) == 0);
        EXPECT(io_sync(machine->file) == -EIO);

        const bool is_lost = image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "o");
        if (is_lost && strcmp(look(machine->disk, "file", 1), "n") == 0)
            return;
    }
}

TEST(a_lost_page_is_evicted_sooner_or_later)
{
    lose_page(machine);
    unsigned looks = 0;
    while (looks < 10000 && strcmp(look(machine->disk, "file", 1), "n") == 0)
        ++looks;
    EXPECT(looks < 10000);
}

TEST(a_lost_page_is_evicted_soon_if_the_disk_is_read)
{
    lose_page(machine);
    for (unsigned looks = 0; looks < 10; ++looks)
        look_with(machine->disk, "file", IO_FROM_DISK, 1);
    EXPECT(strcmp(look(machine->disk, "file", 1), "o") == 0);
}

TEST(a_killed_process_leaves_the_page_cache_as_it_is)
{
    unsigned shown = 0;
    lose_page(machine);
    for (uint64_t seed = 0; seed < 20; ++seed) {
        struct simdisk *image = simdisk_crash_image(machine->disk, SIM_KILL, seed);
        if (strcmp(look(image, "file", 1), "n") == 0)
            ++shown;
        EXPECT(strcmp(look_with(image, "file", IO_FROM_DISK, 1), "o") == 0);
        simdisk_destroy(image);
    }
    EXPECT(shown > 10);
}

/* A page is written back whole. */
TEST(a_small_write_brings_the_rest_of_a_lost_page_to_the_disk)
{
    const uint64_t third_sector = 2 * SECTOR;
    lose_page(machine);
    EXPECT(io_write_at(machine->file, filled('m'), SECTOR, third_sector) == 0);

    /* The page may have been evicted before the write. */
    const bool is_evicted = strcmp(look(machine->disk, "file", 1), "n") != 0;
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", is_evicted ? "oomooooo" : "nomooooo"));
}

TEST(a_direct_write_takes_a_lost_page_out_of_the_cache)
{
    struct io_file *direct = NULL;
    lose_page(machine);
    EXPECT(io_open(machine->io, "file", IO_DIRECT, &direct) == 0);
    EXPECT(io_write_at(direct, filled('m'), BLOCK_BYTES, 0) == 0);
    EXPECT(strcmp(look(machine->disk, "file", 8), "mmmmmmmm") == 0);
    EXPECT(io_sync(direct) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "mmmmmmmm"));
    io_close(direct);
}

TEST(after_a_failed_sync_of_direct_writes_reads_and_the_next_sync_are_right)
{
    unsigned lost = 0, pending = 0;
    for (uint64_t seed = 0; seed < 40; ++seed) {
        restart(machine, (struct simdisk_options){ .seed = seed });
        struct io_file *direct = NULL;
        fail_next_sync(machine);
        EXPECT(io_open(machine->io, "file", IO_DIRECT, &direct) == 0);
        EXPECT(io_write_at(direct, filled('n'), BLOCK_BYTES, 0) == 0);
        EXPECT(io_sync(direct) == -EIO);
        if (simdisk_choices(machine->disk) > 0)
            ++pending;

        EXPECT(io_sync(direct) == 0);
        const bool is_lost = strcmp(look(machine->disk, "file", 1), "o") == 0;
        EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", is_lost ? "oooooooo" : "nnnnnnnn"));
        if (is_lost)
            ++lost;
        io_close(direct);
    }
    EXPECT(lost > 0);
    EXPECT(pending > 0);
    EXPECT(lost + pending < 40);
}

/* ---- processes ----------------------------------------------------------------------------------- */

TEST(the_same_directory_can_be_had_again)
{
    struct io *again = NULL;
    struct io_file *file = NULL;
    EXPECT(machine->io->ops->again(machine->io, &again) == 0);
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, 0) == 0);
    io_close(machine->file);
    machine->io->ops->destroy(machine->io);

    machine->io = again;
    EXPECT(io_open(again, "file", 0, &machine->file) == 0);
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "no"));
    EXPECT(io_open(again, "file", IO_CREATE, &file) == -EEXIST);
}

/* Another process that has the file open. */
struct neighbour {
    struct io *io;
    struct io_file *other;
};

static struct neighbour meet(const struct machine *machine, unsigned flags)
{
    struct neighbour both = { .io = simdisk_connect(machine->disk) };
    EXPECT(io_open(both.io, "file", flags, &both.other) == 0);
    return both;
}

static void leave(const struct neighbour *both)
{
    io_close(both->other);
    both->io->ops->destroy(both->io);
}

static bool is_locked(struct io_file *file, enum io_lock which)
{
    bool answer = false;
    EXPECT(io_is_locked(file, which, &answer) == 0);
    return answer;
}

TEST(a_lock_keeps_other_open_files_out)
{
    for (enum io_lock which = IO_LOCK_WRITER; which <= IO_LOCK_USE; ++which) {
        struct neighbour both = meet(machine, 0);
        struct io_file *file = machine->file;
        EXPECT(!is_locked(both.other, which));

        EXPECT(io_lock(file, which, true) == 0);
        EXPECT(!is_locked(file, which));
        EXPECT(is_locked(both.other, which));
        EXPECT(io_lock(both.other, which, true) == -EAGAIN);
        EXPECT(io_lock(both.other, which, false) == -EAGAIN);

        io_unlock(both.other, which); /* it has nothing to give back */
        EXPECT(is_locked(both.other, which));
        io_unlock(file, which);
        EXPECT(!is_locked(both.other, which));

        EXPECT(io_lock(file, which, true) == 0);
        io_close(file);
        EXPECT(io_lock(both.other, which, true) == 0);
        EXPECT(io_open(machine->io, "file", 0, &machine->file) == 0);
        leave(&both);
    }
}

TEST(shared_locks_keep_out_the_exclusive_only)
{
    struct neighbour both = meet(machine, 0);
    struct io_file *file = machine->file;
    EXPECT(io_lock(file, IO_LOCK_USE, false) == 0);
    EXPECT(io_lock(both.other, IO_LOCK_USE, false) == 0);
    EXPECT(!is_locked(file, IO_LOCK_USE));
    EXPECT(!is_locked(both.other, IO_LOCK_USE));
    EXPECT(io_lock(file, IO_LOCK_USE, true) == -EAGAIN);

    io_close(both.other);
    EXPECT(io_open(both.io, "file", 0, &both.other) == 0);
    EXPECT(io_lock(both.other, IO_LOCK_USE, true) == -EAGAIN); /* a refusal took nothing away */

    EXPECT(io_lock(file, IO_LOCK_USE, true) == 0);
    EXPECT(is_locked(both.other, IO_LOCK_USE));

    EXPECT(io_lock(file, IO_LOCK_USE, false) == 0);
    EXPECT(io_lock(both.other, IO_LOCK_USE, false) == 0);
    leave(&both);
}

TEST(the_two_locks_do_not_know_each_other)
{
    struct neighbour both = meet(machine, 0);
    EXPECT(io_lock(machine->file, IO_LOCK_WRITER, true) == 0);
    EXPECT(!is_locked(both.other, IO_LOCK_USE));
    EXPECT(io_lock(both.other, IO_LOCK_USE, true) == 0);
    io_unlock(both.other, IO_LOCK_USE);
    EXPECT(is_locked(both.other, IO_LOCK_WRITER));
    leave(&both);
}

TEST(a_read_only_file_can_be_locked_shared)
{
    struct neighbour both = meet(machine, IO_READ_ONLY);
    EXPECT(io_lock(both.other, IO_LOCK_USE, true) == -EBADF);
    EXPECT(io_lock(both.other, IO_LOCK_USE, false) == 0);
    EXPECT(io_lock(machine->file, IO_LOCK_USE, true) == -EAGAIN);
    leave(&both);
}

TEST(a_killed_process_leaves_what_reads_saw_but_not_durable)
{
    void *page = NULL, *left = NULL;
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, 0) == 0);
    EXPECT(machine->io->ops->map(machine->file, BLOCK_BYTES, &page) == 0);
    memcpy(page, "left", 5);
    EXPECT(io_lock(machine->file, IO_LOCK_WRITER, true) == 0);

    struct simdisk *image = simdisk_crash_image(machine->disk, SIM_KILL, 1);
    machine->io->ops->unmap(machine->io, page, BLOCK_BYTES);
    EXPECT(!simdisk_has_ghost(image));

    struct machine after = boot(image);
    EXPECT(strcmp(look(after.disk, "file", 2), "no") == 0);
    EXPECT(image_shows(after.disk, SIM_CUT_NONE, 0, "file", "oo"));
    EXPECT(io_lock(after.file, IO_LOCK_WRITER, true) == 0);

    EXPECT(after.io->ops->map(after.file, BLOCK_BYTES, &left) == 0);
    EXPECT(strcmp(left, "left") == 0);
    after.io->ops->unmap(after.io, left, BLOCK_BYTES);

    EXPECT(io_sync(after.file) == 0);
    EXPECT(image_shows(after.disk, SIM_CUT_NONE, 0, "file", "no"));
    stop(&after);
}

struct ghosts {
    struct machine *machine;
    unsigned locked, landed, dropped;
};

/* Tries until the dead process's write has landed. */
static bool gets_lock(const struct machine *machine, enum io_lock which)
{
    for (unsigned tries = 0; tries <= 100; ++tries) {
        if (io_lock(machine->file, which, true) == 0)
            return true;
    }
    return false;
}

static void follow_ghost(struct ghosts *ghosts, uint64_t seed)
{
    struct simdisk *image = simdisk_crash_image(ghosts->machine->disk, SIM_KILL, seed);
    EXPECT(simdisk_has_ghost(image)); /* it lands soon: each operation may be the one */

    struct machine after = boot(image);
    if (io_lock(after.file, IO_LOCK_USE, true) == -EAGAIN)
        ++ghosts->locked;
    EXPECT(gets_lock(&after, IO_LOCK_WRITER));
    EXPECT(io_lock(after.file, IO_LOCK_USE, true) == 0);
    EXPECT(!simdisk_has_ghost(after.disk));

    if (strcmp(look(after.disk, "file", 8), "nnnnnnnn") == 0)
        ++ghosts->landed;
    else
        ++ghosts->dropped;
    EXPECT(image_shows(after.disk, SIM_CUT_NONE, 0, "file", "oooooooo"));
    stop(&after);
}

static void follow_ghosts(void *context, enum simdisk_op op)
{
    struct ghosts *ghosts = context;
    if (op != SIM_SUBMIT)
        return;

    for (uint64_t seed = 0; seed < 50; ++seed)
        follow_ghost(ghosts, seed);
}

TEST(the_write_of_a_killed_process_lands_under_its_lock)
{
    struct ghosts ghosts = { .machine = machine };
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    EXPECT(io_lock(machine->file, IO_LOCK_WRITER, true) == 0);
    EXPECT(io_lock(machine->file, IO_LOCK_USE, false) == 0);
    simdisk_set_hook(machine->disk, follow_ghosts, &ghosts);
    write_durably(machine, &write);

    EXPECT(ghosts.locked > 0);
    EXPECT(ghosts.landed > 0);
    EXPECT(ghosts.dropped > 0);
}

/* Another process goes on meanwhile, on the same file. */
static void write_beside_ghost(const struct machine *machine, uint64_t seed)
{
    struct machine after = boot(simdisk_crash_image(machine->disk, SIM_KILL, seed));
    struct io_write write = prepare(&after, 'm', BLOCK_BYTES, BLOCK_BYTES);

    after.io->ops->sleep_ms(after.io, 1);
    EXPECT(!simdisk_has_ghost(after.disk));
    write_durably(&after, &write);
    EXPECT(write.ret_written == BLOCK_BYTES);
    EXPECT(write.ret_synced == 0);
    EXPECT(strcmp(look(after.disk, "file", 16) + 8, "mmmmmmmm") == 0);
    stop(&after);
}

static void write_beside_ghosts(void *context, enum simdisk_op op)
{
    const struct machine *machine = context;
    if (op != SIM_SUBMIT)
        return;

    for (uint64_t seed = 0; seed < 50; ++seed)
        write_beside_ghost(machine, seed);
    filled('n'); /* which the write of `machine` is still taking */
}

TEST(a_ghost_is_not_taken_for_a_write_of_the_living)
{
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    simdisk_set_hook(machine->disk, write_beside_ghosts, machine);
    write_durably(machine, &write);
    EXPECT(strcmp(look(machine->disk, "file", 8), "nnnnnnnn") == 0);
}

/* Of the bytes of a page that were stored before the power cut. */
static size_t count_kept(const struct machine *machine, uint64_t seed, unsigned char stored)
{
    struct machine after = boot(simdisk_crash_image(machine->disk, SIM_CUT_RANDOM, seed));
    void *page = NULL;
    size_t kept = 0;

    EXPECT(after.io->ops->map(after.file, BLOCK_BYTES, &page) == 0);
    const unsigned char *bytes = page;
    for (size_t i = 0; i < BLOCK_BYTES; ++i) {
        if (bytes[i] == stored)
            ++kept;
    }
    after.io->ops->unmap(after.io, page, BLOCK_BYTES);
    stop(&after);
    return kept;
}

TEST(a_shared_page_after_a_power_cut_may_be_anything_old)
{
    enum {
        CUTS = 50
    };
    void *page = NULL;
    unsigned zero = 0, whole = 0;
    EXPECT(machine->io->ops->map(machine->file, BLOCK_BYTES, &page) == 0);
    memset(page, 'p', BLOCK_BYTES);

    for (uint64_t seed = 0; seed < CUTS; ++seed) {
        const size_t kept = count_kept(machine, seed, 'p');
        if (kept == 0)
            ++zero;
        if (kept == BLOCK_BYTES)
            ++whole;
    }
    EXPECT(zero > 0);
    EXPECT(whole > 0);
    EXPECT(zero + whole < CUTS);
    machine->io->ops->unmap(machine->io, page, BLOCK_BYTES);
}

TEST(a_shared_page_shows_what_is_written_to_the_file)
{
    void *page = NULL;
    EXPECT(machine->io->ops->map(machine->file, BLOCK_BYTES, &page) == 0);
    memset(page, 'p', BLOCK_BYTES);

    const char *last_sector = (const char *)page + BLOCK_BYTES - SECTOR;
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, BLOCK_BYTES - SECTOR) == 0);
    EXPECT(io_write_at(machine->file, filled('m'), BLOCK_BYTES, BLOCK_BYTES) == 0); /* behind the page */
    EXPECT(memchr(page, 'n', BLOCK_BYTES) == last_sector);
    EXPECT(memcmp(last_sector, filled('n'), SECTOR) == 0);
    machine->io->ops->unmap(machine->io, page, BLOCK_BYTES);
}

/* ---- images -------------------------------------------------------------------------------------- */

TEST(a_disk_and_its_images_do_not_share_what_they_write)
{
    struct machine after = boot(simdisk_crash_image(machine->disk, SIM_CUT_ALL, 0));
    EXPECT(io_write_at(after.file, filled('i'), SECTOR, 0) == 0);
    EXPECT(io_sync(after.file) == 0);
    EXPECT(io_write_at(machine->file, filled('d'), SECTOR, SECTOR) == 0);
    EXPECT(io_sync(machine->file) == 0);

    EXPECT(strcmp(look(machine->disk, "file", 3), "odo") == 0);
    EXPECT(strcmp(look(after.disk, "file", 3), "ioo") == 0);
    stop(&after);
}

static void look_at_image(const struct simdisk *disk, uint64_t seed, char ret_seen[16])
{
    struct simdisk *image = simdisk_crash_image(disk, SIM_CUT_RANDOM, seed);
    strcpy(ret_seen, look(image, "file", 8));
    simdisk_destroy(image);
}

TEST(the_same_seed_makes_the_same_image)
{
    unsigned differ = 0;
    EXPECT(io_write_at(machine->file, filled('n'), BLOCK_BYTES, 0) == 0);

    for (uint64_t seed = 0; seed < 50; ++seed) {
        char first[16], again[16], next[16];
        look_at_image(machine->disk, seed, first);
        look_at_image(machine->disk, seed, again);
        look_at_image(machine->disk, seed + 1, next);
        EXPECT(strcmp(first, again) == 0);
        if (strcmp(first, next) != 0)
            ++differ;
    }
    EXPECT(differ > 0);
}

/* ---- the rest ------------------------------------------------------------------------------------ */

TEST(direct_files_want_aligned_writes)
{
    struct io_file *direct = NULL;
    EXPECT(io_open(machine->io, "file", IO_DIRECT, &direct) == 0);
    EXPECT(io_write_at(direct, filled('n'), SECTOR, 0) == -EINVAL);
    EXPECT(io_write_at(direct, block + 1, BLOCK_BYTES, 0) == -EINVAL);
    EXPECT(io_write_at(direct, block, BLOCK_BYTES, 0) == 0);
    io_close(direct);
}

TEST(a_read_only_file_takes_no_writes)
{
    struct io_file *file = NULL;
    EXPECT(io_open(machine->io, "file", IO_READ_ONLY, &file) == 0);
    EXPECT(io_write_at(file, filled('n'), SECTOR, 0) == -EBADF);
    EXPECT(io_allocate(file, 2 * BLOCK_BYTES, IO_ALLOCATE_WRITTEN) == -EBADF);
    EXPECT(io_truncate(file, SECTOR) == -EBADF);
    io_close(file);
}

TEST(time_passes_when_told_to)
{
    simdisk_set_clock(machine->disk, 1000);
    EXPECT(machine->io->ops->now_ns(machine->io) == 1000);
    machine->io->ops->sleep_ms(machine->io, 2);
    EXPECT(machine->io->ops->now_ns(machine->io) == 2001000);
    EXPECT(simdisk_clock(machine->disk) == 2001000);
}

int main(void)
{
    const size_t tests = (size_t)(__stop_selftests - __start_selftests);

    for (size_t i = 0; i < tests; ++i) {
        struct machine machine = start();
        __start_selftests[i](&machine);
        stop(&machine);
    }
    printf("sim-selftest: %zu tests, %u failures\n", tests, failures);
    return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
