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
    bool is_returned; /* the write has returned 0 */
    bool is_synced;   /* a sync that covers it has returned 0 since */
    bool is_refused;  /* the disk was full */
};

struct process {
    ucontext_t context;
    bool is_alive;
    bool is_opening; /* or closing, a file */
    bool may_sync;   /* in the call in progress */
    bool has_failed; /* a sync has told it of an error */
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
    unsigned processes;
    unsigned pace;       /* processes take turns every so many operations */
    unsigned image_odds; /* one in so many operations has a crash image */
    unsigned kills, renames;
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

/* Blanks may stand for a record that was not written whole, and only their size tells which one. So no two open records
 * have the same size. */
static bool is_size_of_open(size_t size)
{
    for (const struct record *r = world.record; r < world.record + world.records; r++) {
        if (!r->is_returned && r->size == size)
            return true;
    }
    return false;
}

static size_t choose_size(void)
{
    static const size_t SIZES[] = { 3, 40, 300, 3000, 20000, 90000 }; /* a window is 16384 */
    const bool may_be_large = rng_one_in(&world.rng, 20);
    const uint64_t most = SIZES[rng_below(&world.rng, may_be_large ? 6 : 4)];

    size_t size = 1 + (size_t)rng_below(&world.rng, most);
    while (is_size_of_open(size))
        size++;
    return size;
}

/* A line of letters. */
static void make_line(unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)('a' + bytes[i] % 26);
    if (size > 1)
        bytes[size - 1] = '\n';
}

/* Bytes of all values, of which many are zero. */
static void add_zeros(unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] % 3 == 0 || bytes[i] <= ' ')
            bytes[i] = 0;
    }
}

/* NULL: there is no room for it. */
static struct record *add_record(void)
{
    const size_t size = choose_size();
    if (world.records == MAX_RECORDS || world.text_bytes + size > TEXT_BYTES)
        return NULL;

    unsigned char *bytes = world.text + world.text_bytes;
    const bool is_line = rng_one_in(&world.rng, 2);
    rng_fill(&world.rng, bytes, size);
    if (is_line)
        make_line(bytes, size);
    else
        add_zeros(bytes, size);
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

/* Does the sink of the process have that file open? */
static bool has_open(const struct process *mine, size_t file)
{
    if (simdisk_number(atomic_load(&mine->sink->file)->data) == file)
        return true;
    for (const struct sink_file *old = mine->sink->old; old; old = old->next) {
        if (simdisk_number(old->data) == file)
            return true;
    }
    return false;
}

/* Does a sync of the process make that record durable? It does if the record is in a file which the sink has open. What
 * the sink has written to files that it has left was synced then. */
static bool is_covered(const struct process *mine, unsigned index)
{
    const struct record *record = &world.record[index];
    const bool is_mine = record->writer == mine && index >= mine->first;
    return is_mine || has_open(mine, record->file);
}

/* Notes whether a sync of that file has failed, since when it can't be synced any more. */
static bool note_error(const struct sink_file *file)
{
    bool *has_error = &world.has_error[simdisk_number(file->data)];
    if (atomic_load(&file->area->sync_error) != 0)
        *has_error = true;
    return *has_error;
}

/* Notes that of all files which the sink has open, and tells whether there is one of those. */
static bool note_errors(const struct process *mine)
{
    bool has_error = note_error(atomic_load(&mine->sink->file));
    for (const struct sink_file *old = mine->sink->old; old; old = old->next) {
        if (note_error(old))
            has_error = true;
    }
    return has_error;
}

/* What was so when a sync began. */
struct sync_beginning {
    unsigned begun, records, renames;
    bool must_fail;
    size_t next_file; /* another process may be in the file of that name already; MAX_FILES: there is none */
    bool is_beside_another; /* other processes are in calls that change files */
    bool was_returned[MAX_RECORDS];
};

static bool is_anybody_opening(void)
{
    for (const struct process *p = world.process; p < world.process + PROCESSES; p++) {
        if (p->is_alive && p->is_opening)
            return true;
    }
    return false;
}

static void begin_sync(const struct process *mine, struct sync_beginning *ret_beginning)
{
    const struct entry *named = sim_find_name(&world.disk->view, "data");

    ret_beginning->begun = world.begun;
    ret_beginning->records = world.records;
    ret_beginning->renames = world.renames;
    ret_beginning->next_file = named ? named->inode : MAX_FILES;
    ret_beginning->must_fail = note_errors(mine);
    ret_beginning->is_beside_another = is_anybody_opening();

    for (unsigned i = 0; i < world.records; i++) {
        const struct record *record = &world.record[i];
        const bool is_to_sync = record->file == ret_beginning->next_file || is_covered(mine, i);
        ret_beginning->was_returned[i] = record->is_returned && is_to_sync;
        if (!record->is_returned && !record->is_refused)
            ret_beginning->is_beside_another = true;
    }
}

/* The sync has succeeded. */
static void note_synced(const struct sync_beginning *beginning)
{
    /* Somebody has renamed the file meanwhile, so the sink need not have seen the next one. */
    const bool is_renamed = beginning->renames != world.renames;

    for (unsigned i = 0; i < beginning->records; i++) {
        struct record *record = &world.record[i];
        const bool may_be_missed = is_renamed && record->file == beginning->next_file;
        if (beginning->was_returned[i] && !may_be_missed)
            record->is_synced = true;
    }

    if (beginning->begun == world.begun && !beginning->is_beside_another)
        world.is_in_vain = false;
}

static void sync_sink(struct process *mine)
{
    struct sync_beginning beginning;
    begin_sync(mine, &beginning);

    const int rc = twinlog_sink_sync(mine->sink);
    expect(rc == 0 || world.may_fail || simdisk_faults(world.disk) > 0, "a sync has failed");
    const bool must_fail = mine->has_failed || beginning.must_fail;
    expect(rc < 0 || !must_fail, "a sync has succeeded after one that failed");

    if (rc == -EIO)
        mine->has_failed = true;
    note_errors(mine);
    if (rc == 0)
        note_synced(&beginning);
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

static void reopen(struct process *mine)
{
    change_files(mine, true);
    twinlog_sink_reopen(mine->sink);
    change_files(mine, false);
}

static void act(struct process *mine)
{
    const uint64_t what = rng_below(&world.rng, 12);

    mine->may_sync = what < 4;
    if (what < 2)
        sync_sink(mine);
    else if (what == 2)
        look_after(mine);
    else if (what == 3)
        reopen(mine);
    else
        write_one(mine);
    mine->may_sync = false;
}

static void use_sink(struct process *mine)
{
    for (uint64_t acts = 1 + rng_below(&world.rng, 60); acts > 0 && !world.is_ending; acts--)
        act(mine);

    mine->may_sync = true;
    change_files(mine, true);
    expect(twinlog_sink_close(mine->sink) == 0, "a closing has failed");
    change_files(mine, false);
}

/* What a process does from its beginning to its end. */
static void live(void)
{
    struct process *mine = me;

    change_files(mine, true);
    const int rc = twinlog_sink_open("/simulated/data", &world.options, &mine->sink);
    const bool is_refused = rc == -ENOSPC && simdisk_faults(world.disk) > 0;
    expect(rc == 0 || is_refused, "an opening has failed");

    if (rc == 0) {
        change_files(mine, false);
        use_sink(mine);
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

static void kill_process(struct process *process)
{
    world.kills++;
    world.is_in_vain = true;
    if (process->may_sync)
        world.may_fail = true;
    process->is_alive = false;
    if (process->io)
        simdisk_kill(process->io);
}

static void resume_process(struct process *process)
{
    me = process;
    swapcontext(&world.main, &process->context);
    me = NULL;
}

/* ---- the judge ------------------------------------------------------------------------------------- */

/* What is judged. In the middle of it another image may be. */
static struct trial {
    unsigned depth;
    bool is_power; /* the power went: for this image, or for one that it is an image of */
    const char *name;
    size_t file;
    bool is_found[MAX_RECORDS]; /* of the open records */
} trial;

/* What is in the file. */
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

/* Are they spaces and a newline, as a sink leaves where a write was not finished? */
static bool is_blank(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++) {
        if (bytes[i] != ' ')
            return false;
    }
    return bytes[size - 1] == '\n';
}

/* Was it being written? Then it may be there, once. */
static bool is_open(const struct record *record)
{
    const bool has_ended = record->is_returned || record->is_refused;
    return !has_ended && !trial.is_found[record - world.record];
}

/* Does that record lie at `at`, or blanks in its stead, in front of `end`? */
static bool may_lie_at(const struct record *record, uint64_t at, uint64_t end)
{
    if (record->size > end - at)
        return false;
    return memcmp(text.bytes + at, record->bytes, record->size) == 0 ||
           is_blank(text.bytes + at, record->size);
}

/* At `at` is an open record, the largest that may lie there; no more than one is there at a place. Returns where it
 * ends. */
static uint64_t pass_over_open(uint64_t at, uint64_t end)
{
    struct record *found = NULL;

    for (struct record *r = world.record; r < world.record + world.records; r++) {
        if (!is_open(r))
            continue;
        const bool is_larger = !found || r->size > found->size;
        if (is_larger && may_lie_at(r, at, end))
            found = r;
    }
    if (!found)
        fail("there is what nobody has written", at);

    trial.is_found[found - world.record] = true;
    return at + found->size;
}

/* From `at` to `end` there is nothing but open records. */
static void expect_open_only(uint64_t at, uint64_t end)
{
    if (end < at)
        fail("two records overlap, or one is missing", end);
    while (at < end)
        at = pass_over_open(at, end);
}

static bool is_at_its_place(const struct record *record)
{
    if (record->start + record->size > text.size)
        return false;
    return memcmp(text.bytes + record->start, record->bytes, record->size) == 0;
}

/* The records of which a write has returned 0, in their order: all are there. */
static void judge_killed(struct record *const *records, unsigned count)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct record *record = records[i];
        expect_open_only(at, record->start);
        if (!is_at_its_place(record))
            fail("a record is not there", record->start);
        at = record->start + record->size;
    }
    expect_open_only(at, text.size);
}

/* A sector that is lost has zeros, and a sink puts spaces and newlines in the place of zeros. */
static bool is_filler(unsigned char byte)
{
    return byte == ' ' || byte == '\n';
}

static bool may_be_instead(unsigned char found, unsigned char written)
{
    if (found == written || found == 0)
        return true;
    return is_filler(found) || is_filler(written);
}

/* Each byte is one that was written there, or may be there instead of it. */
static void expect_written(void)
{
    static unsigned char written[TEXT_BYTES];
    content_read(world.disk->inode[trial.file]->view, 0, written, text.size);

    uint64_t at = 0;
    while (at < text.size) {
        const bool is_whole_sector = at + SECTOR_BYTES <= text.size;
        if (is_whole_sector && memcmp(text.bytes + at, written + at, SECTOR_BYTES) == 0) {
            at += SECTOR_BYTES;
            continue;
        }
        if (!may_be_instead(text.bytes[at], written[at]))
            fail("there is what nobody has written", at);
        at++;
    }
}

/* Bytes of all records, of all files, that were being written. */
static uint64_t count_open_bytes(void)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < world.records; i++) {
        if (!world.record[i].is_returned)
            bytes += world.record[i].size;
    }
    return bytes;
}

/* The records of which a write has returned 0: those are there of which a sync has. */
static void judge_cut(struct record *const *records, unsigned count, bool is_known)
{
    uint64_t end = 0;
    bool is_last_synced = false;

    for (unsigned i = 0; i < count; i++) {
        const struct record *record = records[i];
        if (record->is_synced && !is_at_its_place(record))
            fail("a record that was synced is not there", record->start);
        end = max_u64(end, record->start + record->size);
        is_last_synced = record->is_synced;
    }

    const bool must_be_known = !world.is_in_vain && trial.depth == 1 && is_last_synced;
    const bool is_right = is_known && text.size == end;
    if (must_be_known && !is_right)
        fail("after a sync and nothing else the end is not known", end);

    const uint64_t most = end + count_open_bytes();
    if (text.size > most)
        fail("it ends behind what was written", most);
    expect_written();
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

    for (struct record *r = world.record; r < world.record + world.records; r++) {
        if (r->is_returned && r->file == trial.file)
            records[count++] = r;
    }
    qsort(records, count, sizeof(records[0]), by_place);

    if (trial.is_power) {
        judge_cut(records, count, is_known);
        return;
    }
    for (unsigned i = 0; i + 1 < count; i++)
        lie_of_text(text.bytes, &text.size, records[i]->start, records[i]->size, records[i + 1]->size);
    judge_killed(records, count);
}

struct path {
    char text[NAME_BYTES + 16];
};

static struct path path_of_trial(void)
{
    struct path path;
    snprintf(path.text, sizeof(path.text), "/simulated/%s", trial.name);
    return path;
}

/* For one file, which no opening rotates. */
static struct twinlog_sink_options options_of_trial(void)
{
    struct twinlog_sink_options options = world.options;
    options.max_bytes = 0;
    return options;
}

/* Another program makes the file shorter, or writes a zero or two and maybe a letter behind its end. */
static void change_as_stranger(struct simdisk *image, uint64_t size)
{
    static const char MORE[] = { 0, 0, 'x' };
    const uint64_t what = rng_below(&world.rng, 4);
    struct io *io = simdisk_connect(image);
    struct io_file *file;

    simdisk_set_hook(image, NULL, NULL);
    int rc = io_open(io, trial.name, 0, &file);
    if (rc == 0 && what > 1)
        rc = io_truncate(file, rng_below(&world.rng, size + 1));
    else if (rc == 0)
        rc = io_write_at(file, MORE, 2 + (size_t)what, size);
    if (rc < 0)
        fail("a stranger cannot change it", size);

    io_close(file);
    io->ops->destroy(io);
}

/* Another program changes a file that all have closed: nothing of that is cut without a question, and readers are told
 * what the next opening finds. */
static void meet_stranger(struct simdisk *image)
{
    static const char COMPLAINT[] = "it has another end than a stranger has given it";
    const struct inode *inode = image->inode[trial.file];
    const struct path path = path_of_trial();
    const struct twinlog_sink_options options = options_of_trial();
    struct twinlog_sink *sink;
    uint64_t end = 0;

    change_as_stranger(image, inode->view_bytes);
    text.size = inode->view_bytes;

    const int found = twinlog_sink_end(path.text, &end);
    const int rc = twinlog_sink_open(path.text, &options, &sink);
    if (found != rc)
        fail(COMPLAINT, end);
    if (rc == -EUCLEAN)
        return;
    if (rc < 0 || end != text.size)
        fail(COMPLAINT, end);
    if (twinlog_sink_close(sink) < 0 || inode->view_bytes != text.size)
        fail(COMPLAINT, end);
}

static const char ONE_MORE[] = "one more\n";
enum {
    ONE_MORE_BYTES = sizeof(ONE_MORE) - 1
};

/* In a sink that was opened again: a write succeeds. A sync, too, unless one was killed or was told of an error: then
 * none succeeds until the system starts again. Returns where the record is. */
static uint64_t write_one_more(struct simdisk *image, struct twinlog_sink *sink)
{
    static const char COMPLAINT[] = "a sink that was opened again does not work, or has forgotten an error";
    uint64_t start = 0;

    simdisk_set_hook(image, NULL, NULL);
    if (twinlog_sink_write(sink, ONE_MORE, ONE_MORE_BYTES, &start) < 0)
        fail(COMPLAINT, start);

    const bool has_succeeded = twinlog_sink_sync(sink) >= 0;
    const bool must_fail = !trial.is_power && world.has_error[trial.file];
    const bool must_succeed = trial.is_power;
    if (has_succeeded && must_fail)
        fail(COMPLAINT, start);
    if (!has_succeeded && must_succeed)
        fail(COMPLAINT, start);
    return start;
}

/* Takes it off the text. */
static void expect_one_more(uint64_t start)
{
    text.size -= min_u64(text.size, ONE_MORE_BYTES);
    if (start != text.size || memcmp(text.bytes + text.size, ONE_MORE, ONE_MORE_BYTES) != 0)
        fail("what was written last is not at the end", start);
}

/* Opens it. After a power cut the end need not be known, and the sink asks whether zeros may be dropped. */
static struct twinlog_sink *open_again(int found, bool *ret_is_known)
{
    const struct path path = path_of_trial();
    struct twinlog_sink_options options = options_of_trial();
    struct twinlog_sink *sink = NULL;

    int rc = twinlog_sink_open(path.text, &options, &sink);
    *ret_is_known = rc == 0;
    if (!*ret_is_known && !trial.is_power)
        fail("the end is not known", text.size);
    if (found < 0 && *ret_is_known)
        fail("the end was not known to a reader", text.size);

    options.flags |= TWINLOG_SINK_DROP_ZEROS;
    if (rc == -EUCLEAN)
        rc = twinlog_sink_open(path.text, &options, &sink);
    if (rc < 0)
        fail(twinlog_strerror(rc), 0);
    return sink;
}

/* Opens and closes it, maybe with a record more. */
static void judge_file(struct simdisk *image, bool has_more)
{
    const struct path path = path_of_trial();
    uint64_t end = 0, start = 0;
    bool is_known;

    read_text(image);
    const uint64_t before = text.size;
    const int found = twinlog_sink_end(path.text, &end);

    struct twinlog_sink *sink = open_again(found, &is_known);
    if (has_more)
        start = write_one_more(image, sink);
    if (twinlog_sink_close(sink) < 0)
        fail("it can't be closed", 0);

    read_text(image);
    if (found == 0 && end > text.size)
        fail("a reader was told of more", end);
    if (has_more)
        expect_one_more(start);
    if (world.is_closed && trial.depth == 1 && before != text.size)
        fail("a file that all have closed was not cut", before);
    judge_text(is_known);
}

/* The file of a record has a name: that of a synced one always, else unless the power has gone. A file of which a sink
 * keeps a few only may have been removed. */
static void expect_name(const struct simdisk *image, const struct record *record)
{
    const bool must_be = trial.is_power ? record->is_synced : record->is_returned;
    if (!must_be || sim_is_named(&image->view, record->file))
        return;

    const bool is_removed =
        world.options.keep_files != KEEPS_ALL && !sim_is_named(&world.disk->view, record->file);
    if (!is_removed)
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

        const bool is_last = i + 1 == names.entries;
        judge_file(image, is_last && rng_one_in(&world.rng, 2));
        if (is_last && rng_one_in(&world.rng, 2))
            meet_stranger(image);
    }
    free(names.entry);
}

static void destroy(struct simdisk *disk)
{
    for (size_t i = 0; i < disk->inodes; i++) {
        if (disk->inode[i])
            disk->inode[i]->mappings = 0;
    }
    simdisk_destroy(disk);
}

static void crash(void *context, enum simdisk_op op);

static void count_image(enum simdisk_cut cut)
{
    world.images++;
    totals.images++;
    totals.sink_images++;
    totals.cut[cut]++;
    totals.depth[trial.depth]++;
}

/* Judges an image of the disk, and goes on as if nothing had happened. */
static void check_crash(struct simdisk *disk, enum simdisk_cut cut)
{
    const struct trial trial_before = trial;
    const unsigned boot_before = sink_boot;
    struct process *process = me;
    struct simdisk *image = simdisk_crash_image(disk, cut, rng_next(&world.rng));

    me = NULL;
    sink_disk = image;
    if (cut != SIM_KILL) {
        ++sink_boot;
        trial.is_power = true;
    }
    ++trial.depth;
    if (trial.depth < MAX_DEPTH && rng_one_in(&world.rng, 4))
        simdisk_set_hook(image, crash, image);

    judge_image(image);
    destroy(image);
    count_image(cut);

    me = process;
    sink_disk = disk;
    sink_boot = boot_before;
    trial = trial_before;
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

/* Processes that share a file neither rotate it nor remove old ones. */
static void choose_rotation(struct rng *rng, struct twinlog_sink_options *options, bool is_shared)
{
    options->keep_files = KEEPS_ALL;
    if (!is_shared && !rng_one_in(rng, 2))
        options->keep_files = 1 + (uint32_t)rng_below(rng, 3);

    options->max_bytes = 0;
    if (!is_shared && !rng_one_in(rng, 4))
        options->max_bytes = 1000 + rng_below(rng, 20000);
}

static void choose_fault(struct rng *rng)
{
    static const struct simdisk_fault FAULTS[] = { { .op = SIM_SYNC, .error = -EIO },
                                                   { .op = SIM_SYNC_DIR, .error = -EIO },
                                                   { .op = SIM_ALLOCATE, .error = -ENOSPC } };
    struct simdisk_fault fault = FAULTS[rng_below(rng, 3)];
    fault.nth = 1 + rng_below(rng, 20);
    if (rng_one_in(rng, 4))
        simdisk_inject(world.disk, &fault);
}

static void choose_workload(struct rng *rng)
{
    const bool is_shared = !rng_one_in(rng, 3);
    struct twinlog_sink_options *options = &world.options;

    *options = (struct twinlog_sink_options)TWINLOG_SINK_OPTIONS_INIT;
    options->flags = TWINLOG_SINK_MAPPED;
    if (is_shared)
        options->flags |= TWINLOG_SINK_SHARED;
    options->initial_bytes = 1 + rng_below(rng, 20000);
    options->growth_bytes = 1 + rng_below(rng, 30000);
    choose_rotation(rng, options, is_shared);

    world.processes = 1;
    if (is_shared)
        world.processes = 1 + (unsigned)rng_below(rng, PROCESSES);
    const bool is_quick = rng_one_in(rng, 2);
    world.pace = 1 + (unsigned)rng_below(rng, is_quick ? 5 : 50);
    world.image_odds = 20 + (unsigned)rng_below(rng, 60);
    choose_fault(rng);
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

/* One of the processes begins, goes on or is killed. */
static void take_step(void)
{
    struct process *process = &world.process[rng_below(&world.rng, world.processes)];

    if (process->is_alive && world.kills < KILLS && rng_one_in(&world.rng, 300))
        kill_process(process);
    else if (process->is_alive)
        resume_process(process);
    else if (!world.is_ending && rng_one_in(&world.rng, 4))
        begin_process(process);

    if (!world.is_ending && rng_one_in(&world.rng, 1000))
        rename_file();
}

static bool is_anybody_alive(void)
{
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (world.process[i].is_alive)
            return true;
    }
    return false;
}

void run_sinks(uint64_t seed, struct simdisk *disk)
{
    memset(&world, 0, offsetof(struct world, text));
    world.disk = sink_disk = disk;
    world.rng.state = rng_mix(seed);
    choose_workload(&world.rng);
    simdisk_set_turn(disk, let_others_go_on, NULL);
    simdisk_set_hook(disk, crash, disk);

    for (uint64_t steps = 1 + rng_below(&world.rng, 4000); steps > 0; steps--)
        take_step();
    world.is_ending = true;
    while (is_anybody_alive())
        take_step();

    world.is_closed = world.kills == 0 && simdisk_faults(disk) == 0;
    check_crash(disk, SIM_KILL);
    destroy(disk);
    sink_free_all();
    sink_disk = NULL;
    totals.sink_workloads++;
}
