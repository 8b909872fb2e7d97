/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sinks: up to four processes write one plain file, of which each is a fibre. Before each operation on the disk and at
 * each named place (base/point.h), between any two stores that count, another one may go on, or the process is killed.
 * Files are rotated, or renamed by somebody else; a sync may fail, the disk may be full.
 *
 * At the same places all processes are killed, or the power goes. Then each file is opened, closed and read:
 *
 *     killed       what a write returned 0 for is at its place; between there is nothing but what was being
 *                  written, whole or as spaces and a newline, once; the file ends there
 *     power cut    what a sync returned 0 for is at its place; the rest is what was written, or zeros; the end is
 *                  known if nothing came after a sync
 */
#define _GNU_SOURCE
#include "crash_sink.h"

#include "crash.h"
#include "simdisk_state.h"

#include <stdio.h>
#include <ucontext.h>

#define PROCESSES 4u
#define KILLS 8u
#define MAX_FILES 1024u
#define MAX_RECORDS 400u
#define STACK_BYTES (1u << 20)
#define TEXT_BYTES (1u << 20)
#define MAX_IMAGES 1500u /* of a workload */
#define KEEPS_ALL 9999u

struct record {
    const unsigned char *bytes;
    size_t size, file;
    uint64_t start;
    const struct process *writer;
    bool is_returned, is_synced, is_refused;
};

struct process {
    ucontext_t context;
    bool is_alive, is_opening, may_sync, has_failed; /* opening or closing */
    struct io *io;
    struct twinlog_sink *sink;
    unsigned first;            /* of the records since it began */
    uint64_t place[MAX_FILES]; /* behind its last record in that file */
};

static struct world {
    struct simdisk *disk;
    struct rng rng;
    struct twinlog_sink_options options;
    struct process process[PROCESSES];
    ucontext_t main;
    unsigned processes, pace, image_odds, kills, renames;
    bool is_ending;  /* processes close the sink and go */
    bool may_fail;   /* a process was killed in a sync */
    bool is_closed;  /* by all, and none was killed */
    bool is_in_vain; /* something came since a sync, so the end need not be known */
    unsigned images;
    unsigned begun; /* writes, and what changes the file otherwise */
    struct record record[MAX_RECORDS];
    unsigned records;
    bool has_error[MAX_FILES]; /* a sync of it has failed */
    size_t text_bytes;
    unsigned char text[TEXT_BYTES];
} world;
static struct process *me; /* NULL: none goes on */

/* ---- processes ------------------------------------------------------------------------------------- */

struct io *sink_connect(void)
{
    struct io *io = simdisk_connect(sink_disk);
    if (me)
        me->io = io;
    return io;
}

static void let_others_go_on(void *context)
{
    struct process *mine = me;
    (void)context;
    if (mine && rng_one_in(&world.rng, world.pace))
        swapcontext(&mine->context, &world.main);
}

static void expect(bool is_right, const char *what)
{
    if (!is_right)
        violation("sink: %s (%s)", what, simdisk_last(world.disk));
}

static size_t present_file(const struct twinlog_sink *sink)
{
    const size_t number = simdisk_number(atomic_load(&sink->file)->data);
    expect(number < MAX_FILES, "there are too many files");
    return number;
}

/* Blanks have to tell which record they are instead of. */
static bool is_size_of_open(size_t size)
{
    for (const struct record *r = world.record; r < world.record + world.records; r++)
        if (!r->is_returned && r->size == size)
            return true;
    return false;
}

static struct record *add_record(void)
{
    static const size_t SIZES[] = { 3, 40, 300, 3000, 20000, 90000 }; /* a window is 16384 */
    const uint64_t most = SIZES[rng_below(&world.rng, rng_one_in(&world.rng, 20) ? 6 : 4)];
    size_t size = 1 + (size_t)rng_below(&world.rng, most);
    while (is_size_of_open(size))
        size++;
    if (world.records == MAX_RECORDS || world.text_bytes + size > TEXT_BYTES)
        return NULL;
    unsigned char *bytes = world.text + world.text_bytes;
    const bool is_line = rng_one_in(&world.rng, 2);
    rng_fill(&world.rng, bytes, size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = is_line                          ? (unsigned char)('a' + bytes[i] % 26)
                   : bytes[i] % 3 && bytes[i] > ' ' ? bytes[i]
                                                    : 0;
    if (is_line && size > 1)
        bytes[size - 1] = '\n';
    world.text_bytes += size;
    struct record *record = &world.record[world.records++];
    *record = (struct record){ .bytes = bytes, .size = size, .writer = me };
    return record;
}

static void write_one(struct process *mine)
{
    struct record *record = add_record();
    if (!record)
        return;
    world.begun++;
    world.is_in_vain = true;
    const size_t half = (size_t)rng_below(&world.rng, record->size + 1);
    const struct iovec pieces[] = { { (void *)(uintptr_t)record->bytes, half },
                                    { (void *)(uintptr_t)(record->bytes + half), record->size - half } };
    const int rc = twinlog_sink_writev(mine->sink, pieces, 2, &record->start);
    record->is_refused = rc == -ENOSPC && simdisk_faults(world.disk) > 0;
    expect(rc == 0 || record->is_refused, "a write has failed");
    if (rc < 0)
        return;
    record->file = present_file(mine->sink);
    record->is_returned = true;
    expect(record->start >= mine->place[record->file], "a record is in front of an older one of its writer");
    mine->place[record->file] = record->start + record->size;
}

/* All that is in a file which the sink has open. What it has written to files that it has left was synced then. */
static bool is_covered(const struct process *mine, unsigned index)
{
    const struct record *record = &world.record[index];
    bool has_open = simdisk_number(atomic_load(&mine->sink->file)->data) == record->file;
    for (const struct sink_file *old = mine->sink->old; old; old = old->next)
        has_open |= simdisk_number(old->data) == record->file;
    return has_open || (record->writer == mine && index >= mine->first);
}

/* Notes the files that can't be synced any more, and tells whether the sink has one of those open. */
static bool has_error(const struct process *mine)
{
    bool has = false;
    const struct sink_file *file = atomic_load(&mine->sink->file);
    for (const struct sink_file *next = mine->sink->old; file; file = next, next = next ? next->next : NULL)
        has |= world.has_error[simdisk_number(file->data)] |= atomic_load(&file->area->sync_error) != 0;
    return has;
}

static void sync_it(struct process *mine)
{
    bool was_returned[MAX_RECORDS];
    const unsigned begun = world.begun, records = world.records, renames = world.renames;
    const struct entry *named =
        sim_find_name(&world.disk->view, "data"); /* another process may be there already */
    const size_t next = named ? named->inode : MAX_FILES;
    const bool must_fail = has_error(mine);
    unsigned going_on = 0;
    for (struct process *p = world.process; p < world.process + PROCESSES; p++)
        going_on += p->is_alive && p->is_opening;
    for (unsigned i = 0; i < records; i++) {
        was_returned[i] =
            world.record[i].is_returned && (world.record[i].file == next || is_covered(mine, i));
        going_on += !world.record[i].is_returned && !world.record[i].is_refused;
    }
    const int rc = twinlog_sink_sync(mine->sink);
    expect(rc == 0 || world.may_fail || simdisk_faults(world.disk) > 0, "a sync has failed");
    expect(rc < 0 || !(mine->has_failed || must_fail), "a sync has succeeded after one that failed");
    mine->has_failed |= rc == -EIO;
    has_error(mine);
    for (unsigned i = 0; i < records && rc == 0; i++)
        world.record[i].is_synced |=
            was_returned[i] && (renames == world.renames || world.record[i].file != next);
    if (rc == 0 && begun == world.begun && going_on == 0)
        world.is_in_vain = false;
}

/* What the thread of a sink does. */
static void look_after(struct process *mine)
{
    const unsigned lane = twl_lane_take(mine->sink);
    twl_sink_sweep(atomic_load(&mine->sink->file));
    twl_sink_follow_path(mine->sink, true);
    twl_lane_leave(mine->sink, lane);
    if (rng_one_in(&world.rng, 2))
        twl_sink_flush_all(mine->sink, false);
    twl_sink_retire(mine->sink, false);
}

/* Begins or ends to open or close a file. */
static void change_files(struct process *mine, bool is_opening)
{
    mine->is_opening = is_opening;
    world.begun++;
    world.is_in_vain = true;
}

static void act(struct process *mine)
{
    const uint64_t what = rng_below(&world.rng, 12);
    mine->may_sync = what < 4;
    if (what < 2)
        sync_it(mine);
    else if (what == 2)
        look_after(mine);
    else if (what > 3)
        write_one(mine);
    if (what == 3) {
        change_files(mine, true);
        twinlog_sink_reopen(mine->sink);
        change_files(mine, false);
    }
    mine->may_sync = false;
}

static void live(void)
{
    struct process *mine = me;
    change_files(mine, true);
    const int rc = twinlog_sink_open("/simulated/data", &world.options, &mine->sink);
    expect(rc == 0 || (rc == -ENOSPC && simdisk_faults(world.disk) > 0), "an opening has failed");
    if (rc == 0) {
        change_files(mine, false);
        for (uint64_t acts = 1 + rng_below(&world.rng, 60); acts > 0 && !world.is_ending; acts--)
            act(mine);
        mine->may_sync = true;
        change_files(mine, true);
        expect(twinlog_sink_close(mine->sink) == 0, "a closing has failed");
        change_files(mine, false);
    }
    mine->io = NULL;
    mine->is_alive = false;
}

static void begin_process(struct process *process)
{
    _Alignas(4096) static unsigned char stacks[PROCESSES][STACK_BYTES];
    memset(process, 0, sizeof(*process));
    process->is_alive = true;
    process->first = world.records;
    getcontext(&process->context);
    process->context.uc_stack.ss_sp = stacks[process - world.process];
    process->context.uc_stack.ss_size = STACK_BYTES;
    process->context.uc_link = &world.main;
    makecontext(&process->context, live, 0);
}

static void kill_it(struct process *process)
{
    world.kills++;
    world.is_in_vain = true;
    world.may_fail |= process->may_sync;
    process->is_alive = false;
    if (process->io)
        simdisk_kill(process->io);
}

static void go_on(struct process *process)
{
    me = process;
    swapcontext(&world.main, &process->context);
    me = NULL;
}

/* ---- the judge ------------------------------------------------------------------------------------- */

/* What is judged. In the middle of it another image may be. */
static struct trial {
    unsigned depth;
    bool is_power; /* the image, or one that it is an image of */
    const char *name;
    size_t file;
    bool is_found[MAX_RECORDS];
} trial;

/* Of the file. */
static struct {
    uint64_t size;
    unsigned char bytes[3 * TEXT_BYTES]; /* with room for lies */
} text;

static _Noreturn void fail(const char *what, uint64_t at)
{
    violation("sink, %s, %s: %s at %ju of %ju (%s)", trial.name, trial.is_power ? "power cut" : "killed",
              what, (uintmax_t)at, (uintmax_t)text.size, simdisk_last(world.disk));
}

static int by_place(const void *left, const void *right)
{
    const struct record *const *a = left, *const *b = right;
    return ((*a)->start > (*b)->start) - ((*a)->start < (*b)->start);
}

static bool is_blank(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++)
        if (bytes[i] != ' ')
            return false;
    return bytes[size - 1] == '\n';
}

static bool is_open(const struct record *record)
{
    return !record->is_returned && !record->is_refused && !trial.is_found[record - world.record];
}

/* One that was being written; no more than one is there at a place. */
static uint64_t pass_over_open(uint64_t at, uint64_t end)
{
    struct record *found = NULL;
    for (struct record *r = world.record; r < world.record + world.records; r++)
        if (is_open(r) && r->size <= end - at && (!found || r->size > found->size) &&
            (memcmp(text.bytes + at, r->bytes, r->size) == 0 || is_blank(text.bytes + at, r->size)))
            found = r;
    if (!found)
        fail("there is what nobody has written", at);
    trial.is_found[found - world.record] = true;
    return at + found->size;
}

static void judge_killed(struct record *const *records, unsigned count)
{
    uint64_t at = 0;
    for (unsigned i = 0; i <= count; i++) {
        const uint64_t next = i < count ? records[i]->start : text.size;
        if (next < at)
            fail("two records overlap, or one is missing", next);
        while (at < next)
            at = pass_over_open(at, next);
        if (i == count)
            return;
        if (at + records[i]->size > text.size ||
            memcmp(text.bytes + at, records[i]->bytes, records[i]->size) != 0)
            fail("a record is not there", at);
        at += records[i]->size;
    }
}

static bool may_be_instead(unsigned char found, unsigned char written)
{
    return found == written || found == 0 || found == ' ' || found == '\n' || written == ' ' ||
           written == '\n';
}

static void judge_cut(struct record *const *records, unsigned count, bool is_known)
{
    static unsigned char written[TEXT_BYTES];
    uint64_t most = 0;
    bool is_all_synced = false;
    for (unsigned i = 0; i < count; i++) {
        const struct record *r = records[i];
        most = max_u64(most, r->start + r->size);
        is_all_synced = r->is_synced;
        if (r->is_synced &&
            (r->start + r->size > text.size || memcmp(text.bytes + r->start, r->bytes, r->size) != 0))
            fail("a record that was synced is not there", r->start);
    }
    if (!world.is_in_vain && trial.depth == 1 && is_all_synced && (!is_known || text.size != most))
        fail("after a sync and nothing else the end is not known", most);
    for (unsigned i = 0; i < world.records; i++)
        most += world.record[i].is_returned ? 0 : world.record[i].size;
    if (text.size > most)
        fail("it ends behind what was written", most);
    content_read(world.disk->inode[trial.file]->view, 0, written, text.size);
    for (uint64_t i = 0; i < text.size; i++) {
        while (i + SECTOR_BYTES <= text.size && memcmp(text.bytes + i, written + i, SECTOR_BYTES) == 0)
            i += SECTOR_BYTES;
        if (i < text.size && !may_be_instead(text.bytes[i], written[i]))
            fail("there is what nobody has written", i);
    }
}

static void read_text(const struct simdisk *image)
{
    const struct inode *inode = image->inode[trial.file];
    text.size = inode->view_bytes;
    expect(text.size <= TEXT_BYTES, "a file is too long");
    content_read(inode->view, 0, text.bytes, text.size);
}

static void judge_text(bool is_known)
{
    struct record *records[MAX_RECORDS];
    unsigned count = 0;
    for (struct record *r = world.record; r < world.record + world.records; r++)
        if (r->is_returned && r->file == trial.file)
            records[count++] = r;
    qsort(records, count, sizeof(records[0]), by_place);
    for (unsigned i = 0; i + 1 < count && !trial.is_power; i++)
        lie_of_text(text.bytes, &text.size, records[i]->start, records[i]->size, records[i + 1]->size);
    if (trial.is_power)
        judge_cut(records, count, is_known);
    else
        judge_killed(records, count);
}

/* Another program changes a file that all have closed: nothing of that is cut without a question, and readers are told
 * what the next opening finds. */
static void meet_stranger(struct simdisk *image)
{
    static const char MORE[] = { 0, 0, 'x' };
    const struct inode *inode = image->inode[trial.file];
    const uint64_t what = rng_below(&world.rng, 4), size = inode->view_bytes;
    struct twinlog_sink_options options = world.options;
    struct io *io = simdisk_connect(image);
    struct twinlog_sink *sink;
    struct io_file *file;
    char path[NAME_BYTES + 16];
    uint64_t end = 0;
    snprintf(path, sizeof(path), "/simulated/%s", trial.name);
    options.max_bytes = 0;
    simdisk_set_hook(image, NULL, NULL);
    int rc = io_open(io, trial.name, 0, &file);
    if (rc == 0)
        rc = what > 1 ? io_truncate(file, rng_below(&world.rng, size + 1))
                      : io_write_at(file, MORE, 2 + (size_t)what, size);
    if (rc < 0)
        fail("a stranger cannot change it", size);
    io_close(file);
    io->ops->destroy(io);
    text.size = inode->view_bytes;
    const int found = twinlog_sink_end(path, &end);
    rc = twinlog_sink_open(path, &options, &sink);
    if (found != rc || (rc < 0 && rc != -EUCLEAN) ||
        (rc == 0 && (end != text.size || twinlog_sink_close(sink) < 0 || inode->view_bytes != text.size)))
        fail("it has another end than a stranger has given it", end);
}

/* Opens and closes it, maybe with a record more. */
static void judge_file(struct simdisk *image, bool has_more)
{
    static const char MORE[] = "one more\n";
    struct twinlog_sink_options options = world.options;
    struct twinlog_sink *sink = NULL;
    char path[NAME_BYTES + 16];
    uint64_t end = 0, start = 0;
    snprintf(path, sizeof(path), "/simulated/%s", trial.name);
    options.max_bytes = 0;
    read_text(image);
    const uint64_t before = text.size;
    const int found = twinlog_sink_end(path, &end);
    int rc = twinlog_sink_open(path, &options, &sink);
    const bool is_known = rc == 0;
    if (!is_known && !trial.is_power)
        fail("the end is not known", text.size);
    if (found < 0 && is_known)
        fail("the end was not known to a reader", text.size);
    options.flags |= TWINLOG_SINK_DROP_ZEROS;
    if (rc == -EUCLEAN)
        rc = twinlog_sink_open(path, &options, &sink);
    if (rc < 0)
        fail(twinlog_strerror(rc), 0);
    if (has_more)
        simdisk_set_hook(image, NULL, NULL);
    /* killed in a sync, or told of an error: none succeeds until the system starts again */
    if (has_more &&
        (twinlog_sink_write(sink, MORE, sizeof(MORE) - 1, &start) < 0 ||
         (twinlog_sink_sync(sink) < 0 ? trial.is_power : !trial.is_power && world.has_error[trial.file])))
        fail("a sink that was opened again does not work, or has forgotten an error", start);
    if (twinlog_sink_close(sink) < 0)
        fail("it can't be closed", 0);
    read_text(image);
    if (found == 0 && end > text.size)
        fail("a reader was told of more", end);
    if (has_more) {
        text.size -= min_u64(text.size, sizeof(MORE) - 1);
        if (start != text.size || memcmp(text.bytes + text.size, MORE, sizeof(MORE) - 1) != 0)
            fail("what was written last is not at the end", start);
    }
    if (world.is_closed && trial.depth == 1 && before != text.size)
        fail("a file that all have closed was not cut", before);
    judge_text(is_known);
}

static void expect_name(const struct simdisk *image, const struct record *record)
{
    const bool must_be = trial.is_power ? record->is_synced : record->is_returned;
    if (must_be && !sim_is_named(&image->view, record->file) &&
        (world.options.keep_files == KEEPS_ALL || sim_is_named(&world.disk->view, record->file)))
        violation("sink: file %zu is gone (%s)", record->file, simdisk_last(world.disk));
}

static void judge_image(struct simdisk *image)
{
    struct directory names = { NULL, 0, 0 };
    memset(trial.is_found, 0, sizeof(trial.is_found));
    for (unsigned i = 0; i < world.records; i++)
        expect_name(image, &world.record[i]);
    sim_copy_directory(&names, &image->view);
    for (size_t i = 0; i < names.entries; i++) {
        trial.file = names.entry[i].inode;
        trial.name = names.entry[i].name;
        if (trial.name[0] == '.')
            continue;
        judge_file(image, i + 1 == names.entries && rng_one_in(&world.rng, 2));
        if (i + 1 == names.entries && rng_one_in(&world.rng, 2))
            meet_stranger(image);
    }
    free(names.entry);
}

static void destroy(struct simdisk *disk)
{
    for (size_t i = 0; i < disk->inodes; i++)
        if (disk->inode[i])
            disk->inode[i]->mappings = 0;
    simdisk_destroy(disk);
}

static void crash(void *context, enum simdisk_op op);

static void check_crash(struct simdisk *disk, enum simdisk_cut cut)
{
    const struct trial before = trial;
    struct process *process = me;
    struct simdisk *image = simdisk_crash_image(disk, cut, rng_next(&world.rng));
    const unsigned boot = sink_boot;
    me = NULL;
    sink_disk = image;
    sink_boot += cut != SIM_KILL;
    trial.is_power |= cut != SIM_KILL;
    if (++trial.depth < MAX_DEPTH && rng_one_in(&world.rng, 4))
        simdisk_set_hook(image, crash, image);
    judge_image(image);
    destroy(image);
    world.images++, totals.images++, totals.sink_images++, totals.cut[cut]++, totals.depth[trial.depth]++;
    me = process;
    sink_disk = disk;
    sink_boot = boot;
    trial = before;
}

/* After each operation, and at each named place. */
static void crash(void *context, enum simdisk_op op)
{
    static const enum simdisk_cut CUTS_TO_TRY[] = { SIM_KILL,    SIM_KILL,       SIM_CUT_NONE,
                                                    SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_CUT_RANDOM };
    (void)op;
    totals.points++;
    if (world.images < MAX_IMAGES && rng_one_in(&world.rng, world.image_odds))
        check_crash(context, CUTS_TO_TRY[rng_below(&world.rng, 6)]);
}

/* ---- a workload ------------------------------------------------------------------------------------ */

static void choose(struct rng *rng)
{
    const bool is_shared = !rng_one_in(rng, 3);
    struct twinlog_sink_options *options = &world.options;
    *options = (struct twinlog_sink_options)TWINLOG_SINK_OPTIONS_INIT;
    options->flags = TWINLOG_SINK_MAPPED | (is_shared ? TWINLOG_SINK_SHARED : 0);
    options->initial_bytes = 1 + rng_below(rng, 20000);
    options->growth_bytes = 1 + rng_below(rng, 30000);
    options->keep_files = is_shared || rng_one_in(rng, 2) ? KEEPS_ALL : 1 + (uint32_t)rng_below(rng, 3);
    options->max_bytes = is_shared || rng_one_in(rng, 4) ? 0 : 1000 + rng_below(rng, 20000);
    world.processes = is_shared ? 1 + (unsigned)rng_below(rng, PROCESSES) : 1;
    world.pace = 1 + (unsigned)rng_below(rng, rng_one_in(rng, 2) ? 5 : 50);
    world.image_odds = 20 + (unsigned)rng_below(rng, 60);
    const struct simdisk_fault faults[] = { { .op = SIM_SYNC, .error = -EIO },
                                            { .op = SIM_SYNC_DIR, .error = -EIO },
                                            { .op = SIM_ALLOCATE, .error = -ENOSPC } };
    struct simdisk_fault fault = faults[rng_below(rng, 3)];
    fault.nth = 1 + rng_below(rng, 20);
    if (rng_one_in(rng, 4))
        simdisk_inject(world.disk, &fault);
}

/* Another program renames the file. */
static void rename_file(void)
{
    char name[NAME_BYTES];
    struct io *io = simdisk_connect(world.disk);
    snprintf(name, sizeof(name), "old.%u", ++world.renames);
    io->ops->rename(io, "data", name);
    io->ops->destroy(io);
}

static void take_step(void)
{
    struct process *process = &world.process[rng_below(&world.rng, world.processes)];
    if (process->is_alive && world.kills < KILLS && rng_one_in(&world.rng, 300))
        kill_it(process);
    else if (process->is_alive)
        go_on(process);
    else if (!world.is_ending && rng_one_in(&world.rng, 4))
        begin_process(process);
    if (!world.is_ending && rng_one_in(&world.rng, 1000))
        rename_file();
}

static unsigned count_alive(void)
{
    unsigned alive = 0;
    for (unsigned i = 0; i < PROCESSES; i++)
        alive += world.process[i].is_alive;
    return alive;
}

void run_sinks(uint64_t seed, struct simdisk *disk)
{
    memset(&world, 0, offsetof(struct world, text));
    world.disk = sink_disk = disk;
    world.rng.state = rng_mix(seed);
    choose(&world.rng);
    simdisk_set_turn(disk, let_others_go_on, NULL);
    simdisk_set_hook(disk, crash, disk);
    for (uint64_t steps = 1 + rng_below(&world.rng, 4000); steps > 0; steps--)
        take_step();
    world.is_ending = true;
    while (count_alive() > 0)
        take_step();
    world.is_closed = world.kills == 0 && simdisk_faults(disk) == 0;
    check_crash(disk, SIM_KILL);
    destroy(disk);
    sink_free_all();
    sink_disk = NULL;
    totals.sink_workloads++;
}
