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

/* What the first byte of each of `sectors` sectors of a file is, as reads see it: '-' behind the end, '0' for
 * zero, '?' where the sector isn't one byte over and over; "none" if there is no such file. */
static const char *look_with(struct simdisk *disk, const char *name, unsigned flags, size_t sectors)
{
    static char seen[64];
    unsigned char bytes[SECTOR];
    struct io *io = simdisk_connect(disk);
    struct io_file *file = NULL;
    if (io_open(io, name, IO_READ_ONLY | flags, &file) < 0) {
        io->ops->destroy(io);
        return "none";
    }
    for (size_t i = 0; i < sectors; ++i) {
        size_t size = 0;
        EXPECT(io_read(file, bytes, SECTOR, i * SECTOR, &size) == 0);
        seen[i] = size < SECTOR ? '-' : bytes[0] == 0 ? '0' : (char)bytes[0];
        for (size_t j = 1; j < size; ++j)
            if (bytes[j] != bytes[0])
                seen[i] = '?';
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

static bool image_shows(const struct simdisk *disk, enum simdisk_cut cut, uint64_t seed, const char *name,
                        const char *expected)
{
    struct simdisk *image = simdisk_crash_image(disk, cut, seed);
    const bool is_so =
        strcmp(look(image, name, strcmp(expected, "none") == 0 ? 1 : strlen(expected)), expected) == 0;
    simdisk_destroy(image);
    return is_so;
}

/* How many of the random images show that. */
static unsigned count_images(const struct simdisk *disk, enum simdisk_cut cut, const char *name,
                             const char *expected)
{
    unsigned count = 0;
    for (uint64_t seed = 0; seed < IMAGES; ++seed)
        count += image_shows(disk, cut, seed, name, expected);
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
    EXPECT(io_write_at(machine->file, filled('n'), 3 * SECTOR, SECTOR) == 0);
    EXPECT(strcmp(look(machine->disk, "file", 5), "onnno") == 0);
    EXPECT(simdisk_choices(machine->disk) == 3);
    const char *const torn[] = { "ooooo", "onooo", "oonoo", "onnoo", "ooono", "onono", "oonno", "onnno" };
    for (uint64_t mask = 0; mask < 8; ++mask)
        EXPECT(image_shows(machine->disk, SIM_CUT_MASK, mask, "file", torn[mask]));
    unsigned images = 0;
    for (size_t i = 0; i < 8; ++i) {
        const unsigned count = count_images(machine->disk, SIM_CUT_RANDOM, "file", torn[i]);
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
    EXPECT(old > 0 && first > 0 && second > 0 && old + first + second == IMAGES);
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
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 0, "file", "oooooooo-"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 1, "file", "oooooooo0"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 2, "file", "oooooooo-"));
    EXPECT(image_shows(machine->disk, SIM_CUT_MASK, 3, "file", "oooooooon"));
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", "oooooooon"));
}

TEST(data_beyond_a_lost_size_does_not_come_back)
{
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, BLOCK_BYTES) == 0);
    struct simdisk *image = simdisk_crash_image(machine->disk, SIM_CUT_MASK, 2);
    struct io *io = simdisk_connect(image);
    struct io_file *file = NULL;
    EXPECT(io_open(io, "file", 0, &file) == 0);
    EXPECT(io_allocate(file, 2 * BLOCK_BYTES, IO_ALLOCATE_SPACE) == 0);
    EXPECT(strcmp(look(image, "file", 9), "oooooooo0") == 0);
    io_close(file);
    io->ops->destroy(io);
    simdisk_destroy(image);
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

TEST(a_synced_file_needs_a_synced_name)
{
    struct io_file *file = NULL;
    EXPECT(io_open(machine->io, "young", IO_CREATE, &file) == 0);
    EXPECT(io_write_at(file, filled('y'), SECTOR, 0) == 0);
    EXPECT(io_sync(file) == 0);
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
    struct io_file *file = NULL;
    EXPECT(io_open(machine->io, "young", IO_CREATE, &file) == 0);
    EXPECT(io_write_at(file, filled('y'), SECTOR, 0) == 0);
    EXPECT(io_sync(file) == 0);
    EXPECT(machine->io->ops->rename(machine->io, "young", "file") == 0);
    const unsigned old = count_images(machine->disk, SIM_CUT_RANDOM, "file", "o");
    const unsigned young = count_images(machine->disk, SIM_CUT_RANDOM, "file", "y");
    EXPECT(old > 0 && young > 0 && old + young == IMAGES);
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
    struct io_file *file[2];
    EXPECT(io_open(machine->io, "a", IO_CREATE, &file[0]) == 0);
    EXPECT(io_open(machine->io, "b", IO_CREATE, &file[1]) == 0);
    EXPECT(io_open(machine->io, "b", IO_CREATE, &file[1]) == -EEXIST);
    for (uint64_t mask = 0; mask < 4; ++mask) {
        EXPECT(image_shows(machine->disk, SIM_CUT_MASK, mask, "a", mask & 1 ? "-" : "none"));
        EXPECT(image_shows(machine->disk, SIM_CUT_MASK, mask, "b", mask & 2 ? "-" : "none"));
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
    EXPECT(links(machine->file, "other") == 1 && links(machine->file, "file") == 0);
    EXPECT(io_open(machine->io, "young", IO_CREATE, &young) == 0);
    EXPECT(machine->io->ops->rename(machine->io, "young", "other") == 0);
    EXPECT(links(machine->file, "other") == 0 && links(young, "other") == 1);
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
    EXPECT(machine->io->ops->map(reading, BLOCK_BYTES, &view) == -ENOTSUP && !view);
    io_close(reading);
    stop(&other);
}

static int count_name(void *context, const char *name)
{
    (void)name;
    return ++*(int *)context == 100 ? 1 : 0;
}

TEST(a_list_has_every_name_once)
{
    int names = 0;
    EXPECT(machine->io->ops->rename(machine->io, "file", "other") == 0);
    EXPECT(machine->io->ops->list(machine->io, count_name, &names) == 0);
    EXPECT(names == 1);
}

/* ---- durable writes ------------------------------------------------------------------------------ */

struct points {
    struct machine *machine;
    enum simdisk_op op[8];
    const char *none[8], *seen[8]; /* what an image without the unsynced shows, and what reads see */
    unsigned count;
};

static void note_point(void *context, enum simdisk_op op)
{
    struct points *points = context;
    const struct simdisk *disk = points->machine->disk;
    points->op[points->count] = op;
    points->none[points->count] = image_shows(disk, SIM_CUT_NONE, 0, "file", "nn") ? "new" : "old";
    points->seen[points->count] = strcmp(look(points->machine->disk, "file", 2), "nn") == 0 ? "new" : "old";
    ++points->count;
}

TEST(a_submitted_write_is_durable_after_its_barrier)
{
    restart(machine, (struct simdisk_options){ .seed = 1 });
    struct points points = { .machine = machine };
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    simdisk_set_hook(machine->disk, note_point, &points);
    write_durably(machine, &write);
    EXPECT(write.ret_written == BLOCK_BYTES && write.ret_synced == 0);
    EXPECT(points.count == 3);
    EXPECT(points.op[0] == SIM_SUBMIT && points.op[1] == SIM_GROUP_WRITE && points.op[2] == SIM_BARRIER);
    EXPECT(strcmp(points.none[0], "old") == 0 && strcmp(points.seen[0], "old") == 0);
    EXPECT(strcmp(points.none[1], "old") == 0 && strcmp(points.seen[1], "new") == 0);
    EXPECT(strcmp(points.none[2], "new") == 0 && strcmp(points.seen[2], "new") == 0);
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
    EXPECT(old > 0 && new > 0);
    torn_in_flight = IMAGES - old - new;
}

TEST(a_write_in_flight_may_be_torn)
{
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    simdisk_set_hook(machine->disk, count_torn, machine);
    write_durably(machine, &write);
    EXPECT(torn_in_flight > 0);
}

TEST(a_barrier_covers_as_much_as_it_is_told)
{
    for (int is_narrow = 0; is_narrow < 2; ++is_narrow) {
        restart(machine, (struct simdisk_options){ .is_barrier_narrow = is_narrow });
        EXPECT(io_write_at(machine->file, filled('1'), 2 * SECTOR, 6 * SECTOR) == 0);
        EXPECT(io_write_at(machine->file, filled('2'), BLOCK_BYTES + 2 * SECTOR, BLOCK_BYTES) == 0);
        struct io_write write = prepare(machine, 'n', BLOCK_BYTES, BLOCK_BYTES + SECTOR);
        write_durably(machine, &write);
        EXPECT(strcmp(look(machine->disk, "file", 18), "oooooo112nnnnnnnn2") == 0);
        const char *none = is_narrow ? "oooooooo0nnnnnnnn-" : "oooooo112nnnnnnnn2";
        EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", none));
        EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "oooooo112nnnnnnnn2"));
        EXPECT(simdisk_choices(machine->disk) == (is_narrow ? 5 : 0));
    }
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

/* Whether a process that writes this into the first segment is ended by the disk. */
static bool is_ended(struct machine *machine, unsigned char value, size_t size, uint64_t offset)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        struct io_file *file;
        fclose(stderr);
        _exit(io_open(machine->io, "0000000000000001.twl", 0, &file) < 0 ||
              io_write_at(file, filled((char)value), size, offset) < 0);
    }
    EXPECT(waitpid(child, &status, 0) == child && (WIFSIGNALED(status) || WEXITSTATUS(status) == 0));
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
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

TEST(a_short_write_is_synced_by_itself_only)
{
    for (int is_narrow = 0; is_narrow < 2; ++is_narrow) {
        restart(machine, (struct simdisk_options){ .is_barrier_narrow = is_narrow });
        simdisk_inject(machine->disk,
                       &(struct simdisk_fault){ .op = SIM_GROUP_WRITE, .nth = 1, .missing = SECTOR });
        struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
        write_durably(machine, &write);
        EXPECT(write.ret_written == BLOCK_BYTES - SECTOR);
        EXPECT(write.ret_synced == (is_narrow ? 0 : -ECANCELED));
        EXPECT(strcmp(look(machine->disk, "file", 8), "nnnnnnno") == 0);
        EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", is_narrow ? "nnnnnnno" : "oooooooo"));
    }
}

/* ---- faults -------------------------------------------------------------------------------------- */

TEST(a_fault_strikes_when_it_is_told_to)
{
    simdisk_inject(machine->disk, &(struct simdisk_fault){ .op = SIM_SYNC, .nth = 2, .error = -ENOSPC });
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(io_sync(machine->file) == -ENOSPC);
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(simdisk_faults(machine->disk) == 1);
    simdisk_inject(machine->disk,
                   &(struct simdisk_fault){ .op = SIM_ANY, .nth = 2, .error = -EIO, .is_forever = true });
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(io_sync(machine->file) == -EIO);
    EXPECT(machine->io->ops->sync_dir(machine->io) == -EIO);
    simdisk_inject(machine->disk, NULL);
    EXPECT(io_sync(machine->file) == 0);
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
    unsigned lost = 0, shown = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        restart(machine, (struct simdisk_options){ .seed = seed });
        simdisk_inject(machine->disk, &(struct simdisk_fault){ .op = SIM_SYNC, .nth = 1, .error = -EIO });
        EXPECT(io_write_at(machine->file, filled('n'), SECTOR, 0) == 0);
        EXPECT(io_sync(machine->file) == -EIO);
        EXPECT(io_sync(machine->file) == 0);
        const bool is_lost = image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "o");
        const bool is_shown = strcmp(look(machine->disk, "file", 1), "n") == 0;
        EXPECT(is_lost || is_shown);
        EXPECT(strcmp(look_with(machine->disk, "file", IO_FROM_DISK, 1), is_lost ? "o" : "n") == 0);
        lost += is_lost;
        shown += is_lost && is_shown;
    }
    EXPECT(lost > 0 && lost < 20 && shown > 0);
}

/* The first sector of "file" is new in the page cache, and lost. */
static void lose_page(struct machine *machine)
{
    for (uint64_t seed = 0;; ++seed) {
        restart(machine, (struct simdisk_options){ .seed = seed });
        simdisk_inject(machine->disk, &(struct simdisk_fault){ .op = SIM_SYNC, .nth = 1, .error = -EIO });
        EXPECT(io_write_at(machine->file, filled('n'), SECTOR, 0) == 0);
        EXPECT(io_sync(machine->file) == -EIO);
        if (image_shows(machine->disk, SIM_CUT_ALL, 0, "file", "o") &&
            strcmp(look(machine->disk, "file", 1), "n") == 0)
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
    lose_page(machine);
    for (looks = 0; looks < 10; ++looks)
        look_with(machine->disk, "file", IO_FROM_DISK, 1);
    EXPECT(strcmp(look(machine->disk, "file", 1), "o") == 0);
}

TEST(a_killed_process_leaves_the_page_cache_as_it_is)
{
    lose_page(machine);
    unsigned shown = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        struct simdisk *image = simdisk_crash_image(machine->disk, SIM_KILL, seed);
        shown += strcmp(look(image, "file", 1), "n") == 0;
        EXPECT(strcmp(look_with(image, "file", IO_FROM_DISK, 1), "o") == 0);
        simdisk_destroy(image);
    }
    EXPECT(shown > 10);
}

/* A page is written back whole. */
TEST(a_small_write_brings_the_rest_of_a_lost_page_to_the_disk)
{
    lose_page(machine);
    const size_t at = (size_t)2 * SECTOR;
    const bool is_evicted = io_write_at(machine->file, filled('m'), SECTOR, at) == 0 &&
                            strcmp(look(machine->disk, "file", 1), "n") != 0;
    EXPECT(io_sync(machine->file) == 0);
    EXPECT(image_shows(machine->disk, SIM_CUT_NONE, 0, "file", is_evicted ? "oomooooo" : "nomooooo"));
}

TEST(a_direct_write_takes_a_lost_page_out_of_the_cache)
{
    lose_page(machine);
    struct io_file *direct = NULL;
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
        simdisk_inject(machine->disk, &(struct simdisk_fault){ .op = SIM_SYNC, .nth = 1, .error = -EIO });
        EXPECT(io_open(machine->io, "file", IO_DIRECT, &direct) == 0);
        EXPECT(io_write_at(direct, filled('n'), BLOCK_BYTES, 0) == 0);
        EXPECT(io_sync(direct) == -EIO);
        pending += simdisk_choices(machine->disk) > 0;
        EXPECT(io_sync(direct) == 0);
        const bool is_lost = strcmp(look(machine->disk, "file", 1), "o") == 0;
        EXPECT(image_shows(machine->disk, SIM_CUT_ALL, 0, "file", is_lost ? "oooooooo" : "nnnnnnnn"));
        lost += is_lost;
        io_close(direct);
    }
    EXPECT(lost > 0 && pending > 0 && lost + pending < 40);
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
    EXPECT(!is_locked(file, IO_LOCK_USE) && !is_locked(both.other, IO_LOCK_USE));
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

static void follow_ghost(void *context, enum simdisk_op op)
{
    struct ghosts *ghosts = context;
    for (uint64_t seed = 0; op == SIM_SUBMIT && seed < 50; ++seed) {
        struct simdisk *image = simdisk_crash_image(ghosts->machine->disk, SIM_KILL, seed);
        EXPECT(simdisk_has_ghost(image));
        struct machine after = boot(image);
        ghosts->locked += io_lock(after.file, IO_LOCK_USE, true) == -EAGAIN;
        bool is_landed = io_lock(after.file, IO_LOCK_WRITER, true) == 0;
        for (unsigned i = 0; i < 100 && !is_landed; ++i)
            is_landed = io_lock(after.file, IO_LOCK_WRITER, true) == 0;
        EXPECT(io_lock(after.file, IO_LOCK_USE, true) == 0);
        EXPECT(is_landed && !simdisk_has_ghost(after.disk));
        const char *seen = look(after.disk, "file", 8);
        ghosts->landed += strcmp(seen, "nnnnnnnn") == 0;
        ghosts->dropped += strcmp(seen, "nnnnnnnn") != 0;
        EXPECT(image_shows(after.disk, SIM_CUT_NONE, 0, "file", "oooooooo"));
        stop(&after);
    }
}

TEST(the_write_of_a_killed_process_lands_under_its_lock)
{
    struct ghosts ghosts = { .machine = machine };
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    EXPECT(io_lock(machine->file, IO_LOCK_WRITER, true) == 0);
    EXPECT(io_lock(machine->file, IO_LOCK_USE, false) == 0);
    simdisk_set_hook(machine->disk, follow_ghost, &ghosts);
    write_durably(machine, &write);
    EXPECT(ghosts.locked > 0 && ghosts.landed > 0 && ghosts.dropped > 0);
}

/* Others go on meanwhile, also on the same file, and take what is theirs. */
static void write_beside_ghost(void *context, enum simdisk_op op)
{
    const struct machine *machine = context;
    for (uint64_t seed = 0; op == SIM_SUBMIT && seed < 50; ++seed) {
        struct machine after = boot(simdisk_crash_image(machine->disk, SIM_KILL, seed));
        struct io_write write = prepare(&after, 'm', BLOCK_BYTES, BLOCK_BYTES);
        after.io->ops->sleep_ms(after.io, 1);
        EXPECT(!simdisk_has_ghost(after.disk));
        after.io->ops->write_durably(after.io, &write);
        EXPECT(write.ret_written == BLOCK_BYTES && write.ret_synced == 0);
        EXPECT(strcmp(look(after.disk, "file", 16) + 8, "mmmmmmmm") == 0);
        filled('n'); /* what the first write is still taking */
        stop(&after);
    }
}

TEST(a_ghost_is_not_taken_for_a_write_of_the_living)
{
    struct io_write write = prepare(machine, 'n', BLOCK_BYTES, 0);
    simdisk_set_hook(machine->disk, write_beside_ghost, machine);
    write_durably(machine, &write);
    EXPECT(strcmp(look(machine->disk, "file", 8), "nnnnnnnn") == 0);
}

TEST(a_shared_page_after_a_power_cut_may_be_anything_old)
{
    void *page = NULL;
    EXPECT(machine->io->ops->map(machine->file, BLOCK_BYTES, &page) == 0);
    memset(page, 'p', BLOCK_BYTES);
    unsigned zero = 0, whole = 0;
    for (uint64_t seed = 0; seed < 50; ++seed) {
        struct machine after = boot(simdisk_crash_image(machine->disk, SIM_CUT_RANDOM, seed));
        void *left = NULL;
        EXPECT(after.io->ops->map(after.file, BLOCK_BYTES, &left) == 0);
        const unsigned char *bytes = left;
        size_t kept = 0;
        for (size_t i = 0; i < BLOCK_BYTES; ++i)
            kept += bytes[i] == 'p';
        zero += kept == 0;
        whole += kept == BLOCK_BYTES;
        after.io->ops->unmap(after.io, left, BLOCK_BYTES);
        stop(&after);
    }
    EXPECT(zero > 0 && whole > 0 && zero + whole < 50);
    machine->io->ops->unmap(machine->io, page, BLOCK_BYTES);
}

TEST(a_shared_page_shows_what_is_written_to_the_file)
{
    void *page = NULL;
    EXPECT(machine->io->ops->map(machine->file, BLOCK_BYTES, &page) == 0);
    memset(page, 'p', BLOCK_BYTES);
    EXPECT(io_write_at(machine->file, filled('n'), SECTOR, BLOCK_BYTES - SECTOR) == 0);
    EXPECT(io_write_at(machine->file, filled('m'), BLOCK_BYTES, BLOCK_BYTES) == 0);
    EXPECT(memchr(page, 'n', BLOCK_BYTES) == (char *)page + BLOCK_BYTES - SECTOR);
    EXPECT(memcmp((char *)page + BLOCK_BYTES - SECTOR, filled('n'), SECTOR) == 0);
    machine->io->ops->unmap(machine->io, page, BLOCK_BYTES);
}

/* ---- images -------------------------------------------------------------------------------------- */

TEST(a_disk_and_its_images_do_not_share_what_they_write)
{
    struct machine after = boot(simdisk_crash_image(machine->disk, SIM_CUT_ALL, 0));
    EXPECT(io_write_at(after.file, filled('i'), SECTOR, 0) == 0 && io_sync(after.file) == 0);
    EXPECT(io_write_at(machine->file, filled('d'), SECTOR, SECTOR) == 0 && io_sync(machine->file) == 0);
    EXPECT(strcmp(look(machine->disk, "file", 3), "odo") == 0);
    EXPECT(strcmp(look(after.disk, "file", 3), "ioo") == 0);
    stop(&after);
}

TEST(the_same_seed_makes_the_same_image)
{
    EXPECT(io_write_at(machine->file, filled('n'), BLOCK_BYTES, 0) == 0);
    unsigned differ = 0;
    for (uint64_t seed = 0; seed < 50; ++seed) {
        char seen[3][16];
        for (uint64_t i = 0; i < 3; ++i) {
            struct simdisk *image = simdisk_crash_image(machine->disk, SIM_CUT_RANDOM, seed + i / 2);
            strcpy(seen[i], look(image, "file", 8));
            simdisk_destroy(image);
        }
        EXPECT(strcmp(seen[0], seen[1]) == 0);
        differ += strcmp(seen[0], seen[2]) != 0;
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
    EXPECT(machine->io->ops->now_ns(machine->io) == 2001000 && simdisk_clock(machine->disk) == 2001000);
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
