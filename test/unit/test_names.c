/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursors and handles that only read, while a writer in another process comes, goes and truncates: how far
 * does the log go at that moment? What any reader was told must stay true for all of them.
 *
 * The processes share a simulated disk. One is looked at by the others after each of its operations.
 */
#define _GNU_SOURCE
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/simdisk.h"
#include "base/watermark.h"
#include "check/check.h"
#include "control/shared_page.h"
#include "control/state.h"
#include "log/log.h"
#include "read/follower.h"
#include "segment/segment.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct simdisk *disk;

static void make_disk(void)
{
    disk = make_simdisk();
}

static void remove_disk(void)
{
    simdisk_destroy(disk);
}

static struct twinlog *open_on(struct simdisk *on, uint32_t flags)
{
    const struct twinlog_options options = WITH_SIZE(options, .flags = flags, .segment_bytes = 65536);

    struct twinlog *log = log_on(simdisk_connect(on), &options);
    return log;
}

static struct twinlog *open_writer(void)
{
    return open_on(disk, 0);
}

static struct twinlog *open_to_look(void)
{
    return open_on(disk, TWINLOG_READ_ONLY);
}

static void append_to(struct twinlog *log, uint64_t last)
{
    while (twinlog_last_lsn(log) < last)
        ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
}

static void close_log(struct twinlog *log)
{
    ck_assert_int_eq(twinlog_close(log), 0);
}

static uint64_t cursor_of(struct twinlog *log)
{
    uint64_t lsn = 0;

    ck_assert_int_eq(twinlog_cursor_get(log, "cursor", &lsn), 0);
    return lsn;
}

/* ---- a writer that opens the log --------------------------------------------------------------- */

/* As far as an opening comes before it looks at the log: the lock is taken and the page is cleared. */
struct opener {
    struct io *io;
    struct shared_page shared;
};

static struct opener begin_opening(void)
{
    struct opener opener = { .io = simdisk_connect(disk) };

    ck_assert_int_eq(twl_page_lock(opener.io, 0, &opener.shared), 0);
    return opener;
}

static void die_at_opening(struct opener *opener)
{
    twl_page_unwatch(&opener->shared);
    opener->io->ops->destroy(opener->io);
}

/* `looking` was told 20, others 40, which is where the log ends. */
static struct twinlog *let_it_fall_behind(void)
{
    struct twinlog *log = open_writer(), *looking;

    append_to(log, 20);
    looking = open_to_look();
    ck_assert_uint_eq(twinlog_last_lsn(looking), 20);
    append_to(log, 40);
    close_log(log);
    return looking;
}

CASE("beside other processes", make_disk, remove_disk);

static struct twinlog_reader *open_reader(void)
{
    const struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;

    ck_assert_int_eq(twl_reader_open(simdisk_connect(disk), &options, &reader), 0);
    return reader;
}

static void expect_last(struct twinlog_reader *reader, uint64_t lsn)
{
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
}

TEST(a_reader_goes_to_the_end_while_a_writer_opens_the_log)
{
    struct twinlog *log = open_writer();

    append_to(log, 20);
    struct twinlog_reader *reader = open_reader();
    append_to(log, 40);
    close_log(log);
    struct opener opener = begin_opening();
    ck_assert_int_eq(twinlog_reader_seek_time(reader, INT64_MAX), 0);
    expect_last(reader, 40);
    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    expect_last(reader, 40);
    twinlog_reader_close(reader);
    die_at_opening(&opener);
}

/* The last group landed after its writer had been killed: only a look at the files told of it. */
TEST(a_cursor_may_be_set_to_what_a_dead_writer_did_not_tell)
{
    struct twinlog *looking, *log = open_writer();
    struct io *io = simdisk_connect(disk);
    struct shared_page shared;

    append_to(log, 35);
    looking = open_to_look();
    struct twinlog_reader *reader = open_reader();
    append_to(log, 40);
    ck_assert_int_eq(twl_page_watch(io, &shared), 0);
    close_log(log);
    watermark_store(&shared.page->durable, 35);
    ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 41), -ERANGE);
    ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 40), 0);
    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    expect_last(reader, 40);
    log = open_writer();
    ck_assert_uint_eq(cursor_of(log), 40);
    append_to(log, 41);
    ck_assert_uint_eq(twinlog_last_lsn(looking), 41);
    close_log(log);
    close_log(looking);
    twinlog_reader_close(reader);
    twl_page_unwatch(&shared);
    io->ops->destroy(io);
}

/* One that has opened it and appends while the files are looked at, because no writer was there before. */
static struct twinlog *newcomer;

static void come(void *context, enum simdisk_op op)
{
    (void)context;
    (void)op;
    if (newcomer)
        return;
    newcomer = open_writer();
    append_to(newcomer, 45);
}

TEST(a_writer_that_comes_while_one_looks_is_believed)
{
    struct twinlog *looking = let_it_fall_behind();

    simdisk_set_hook(disk, come, NULL);
    ck_assert_uint_eq(twinlog_last_lsn(looking), 45);
    simdisk_set_hook(disk, NULL, NULL);
    ck_assert_ptr_nonnull(newcomer);
    append_to(newcomer, 46);
    ck_assert_uint_eq(twinlog_last_lsn(looking), 46);
    close_log(newcomer);
    close_log(looking);
}

/* ---- at any moment ----------------------------------------------------------------------------- */

/* A disk at the moment of a kill, and what was found in it then. */
struct scene {
    struct simdisk *image;
    struct twinlog *looking; /* since then */
    uint64_t told_lsn;
    unsigned sets, busy;
};

static void expect_told(struct scene *scene, struct twinlog *log)
{
    int rc = twinlog_cursor_set(log, "cursor", scene->told_lsn);

    ck_assert_msg(rc == 0 || rc == -EBUSY, "%s", twinlog_strerror(rc)); /* the opener has the state file */
    scene->sets += rc == 0;
    scene->busy += rc == -EBUSY;
    ck_assert_uint_ge(twinlog_last_lsn(log), scene->told_lsn);
    ck_assert_int_lt(twinlog_cursor_set(log, "cursor", twinlog_last_lsn(log) + 1), 0);
}

static void expect_told_by_all(void *context, enum simdisk_op op)
{
    struct scene *scene = context;
    struct twinlog *log = open_on(scene->image, TWINLOG_READ_ONLY);

    (void)op;
    expect_told(scene, scene->looking);
    expect_told(scene, log);
    close_log(log);
}

static void open_after_kill(struct scene *all)
{
    struct scene scene = { .image = simdisk_crash_image(disk, SIM_KILL, all->sets) };

    scene.looking = open_on(scene.image, TWINLOG_READ_ONLY);
    scene.told_lsn = twinlog_last_lsn(scene.looking);
    simdisk_set_hook(scene.image, expect_told_by_all, &scene);
    struct twinlog *log = open_on(scene.image, 0);
    simdisk_set_hook(scene.image, NULL, NULL);
    expect_told(&scene, scene.looking);
    ck_assert_uint_eq(cursor_of(log), scene.told_lsn);
    close_log(log);
    close_log(scene.looking);
    simdisk_destroy(scene.image);
    all->sets += scene.sets;
    all->busy += scene.busy;
}

static void kill_now(void *context, enum simdisk_op op)
{
    (void)op;
    open_after_kill(context);
}

TEST(at_any_moment_of_an_opening_a_cursor_may_be_set_to_what_was_told)
{
    struct twinlog *log = open_writer();
    struct scene all = { 0 };

    append_to(log, 3);
    simdisk_set_hook(disk, kill_now, &all);
    append_to(log, 5);
    ck_assert_int_eq(twinlog_truncate(log, 4), 0);
    append_to(log, 6);
    simdisk_set_hook(disk, NULL, NULL);
    close_log(log);
    ck_assert_uint_ge(all.sets, 250);
    ck_assert_uint_lt(all.busy, all.sets / 4);
}

/* ---- a log that is being made ------------------------------------------------------------------ */

/* At this moment the writer is killed, a process that finds a log sets a cursor, and then the power fails. */
static void set_before_power_cut(void *context, enum simdisk_op op)
{
    const struct twinlog_options options = WITH_SIZE(options, .flags = TWINLOG_READ_ONLY);
    struct simdisk *killed = simdisk_crash_image(disk, SIM_KILL, 1);
    struct twinlog *looking;
    unsigned *sets = context;

    (void)op;
    if (twl_log_open(simdisk_connect(killed), &options, &looking) == 0) {
        ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 0), 0);
        close_log(looking);

        struct simdisk *image = simdisk_crash_image(killed, SIM_CUT_NONE, 1);
        struct twinlog *log = open_on(image, 0);
        ck_assert_uint_eq(cursor_of(log), 0);
        append_to(log, 1);
        close_log(log);
        simdisk_destroy(image);
        ++*sets;
    }
    simdisk_destroy(killed);
}

/* The state that has the cursor says that the log has segments. The name of the first one must be durable by then. */
TEST(at_any_moment_of_making_a_log_a_cursor_may_be_set)
{
    unsigned sets = 0;

    simdisk_set_hook(disk, set_before_power_cut, &sets);
    struct twinlog *log = open_writer();
    simdisk_set_hook(disk, NULL, NULL);
    close_log(log);
    ck_assert_uint_ge(sets, 5);
}

/* ---- a writer that truncates ------------------------------------------------------------------------ */

/* Before the first lock that is taken with it: which is that of the state file. */
static struct twinlog *to_cut;

static int cut_before_lock(const struct hooked_call *call)
{
    struct twinlog *log = to_cut;

    if (call->op == SIM_LOCK && log) {
        to_cut = NULL;
        ck_assert_int_eq(twinlog_truncate(log, 20), 0);
    }
    return 0;
}

TEST(a_cursor_is_not_set_beyond_a_truncation_that_came_before_it)
{
    const struct twinlog_options options = WITH_SIZE(options, .flags = TWINLOG_READ_ONLY);
    struct twinlog *log = open_writer(), *looking;

    append_to(log, 40);
    looking = log_on(hooked(simdisk_connect(disk), cut_before_lock), &options);
    to_cut = log;
    ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 40), -ERANGE);
    ck_assert_ptr_null(to_cut);
    ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 20), 0);
    close_log(looking);
    close_log(log);
}

/* The next writer must not pass for the one that is dead. */
TEST(what_comes_after_a_writer_died_in_a_truncation_is_seen)
{
    const struct simdisk_fault fault = { .op = SIM_SUBMIT, .nth = 1, .error = -EIO };
    struct twinlog *log = open_writer();

    append_to(log, 40);
    simdisk_inject(disk, &fault);
    ck_assert_int_eq(twinlog_truncate(log, 20),
                     TWINLOG_EPOISONED); /* it is done, but for the marker behind it */
    simdisk_inject(disk, NULL);
    ck_assert_int_lt(twinlog_close(log), 0);
    struct twinlog_reader *reader = open_reader();
    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    expect_last(reader, 20);
    log = open_writer();
    append_to(log, 30);
    reader_expect(reader, 20, 30);
    twinlog_reader_close(reader);
    close_log(log);
}

/* ---- a writer that begins, recycles and removes segments ----------------------------------------- */

/* The first few listings of the directory miss a file. */
static struct {
    struct io_ops ops;
    const struct io_ops *real;
    unsigned misses;
    char name[SEGMENT_NAME_BYTES]; /* that is missed */
    int (*each)(void *context, const char *name);
    void *context;
} moving;

static int pass_on(void *context, const char *name)
{
    (void)context;
    return moving.misses > 0 && strcmp(name, moving.name) == 0 ? 0 : moving.each(moving.context, name);
}

static int list_all_but_one(struct io *io, int (*each)(void *context, const char *name), void *context)
{
    moving.each = each;
    moving.context = context;
    int rc = moving.real->list(io, pass_on, NULL);
    moving.misses -= moving.misses > 0;
    return rc;
}

static struct io *connect_moving(unsigned misses)
{
    struct io *io = simdisk_connect(disk);

    moving.real = io->ops;
    moving.ops = *io->ops;
    moving.ops.list = list_all_but_one;
    moving.misses = misses;
    twl_segment_name(1, moving.name);
    io->ops = &moving.ops;
    return io;
}

TEST(a_log_whose_files_move_is_not_damaged)
{
    static const unsigned char bytes[1000];
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log = open_writer(), *looking;

    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    ck_assert_int_eq(twl_inspect(connect_moving(10), &inspection), 0);
    ck_assert_uint_eq(inspection.last_lsn, 100);
    options.flags = TWINLOG_READ_ONLY;
    looking = log_on(connect_moving(10), &options);
    close_log(looking);
    ck_assert_int_eq(twl_inspect(connect_moving(1000000), &inspection), TWINLOG_ECORRUPT);
    close_log(log);
    ck_assert_int_eq(twl_inspect(connect_moving(10), &inspection), TWINLOG_ECORRUPT); /* nothing moves them */
}

/* ---- what can't be looked at ------------------------------------------------------------------- */

TEST(a_cursor_is_not_called_out_of_range_when_the_range_is_not_known)
{
    const struct simdisk_fault fault = { .op = SIM_LIST, .nth = 1, .error = -EMFILE, .is_forever = true };
    struct twinlog *looking = let_it_fall_behind();
    struct opener opener = begin_opening();

    simdisk_inject(disk, &fault);
    ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 40), -EMFILE);
    simdisk_inject(disk, NULL);
    ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 40), 0);
    close_log(looking);
    die_at_opening(&opener);
}

CASE("on a real disk", logdir_make, logdir_remove);

/* They are in a file of their own, and the only one that an opening for reading reads. */
TEST(the_names_of_a_log_with_a_damaged_segment_are_read)
{
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog *log = log_open(NULL);
    struct twinlog_reader *reader;
    char name[SEGMENT_NAME_BYTES];
    uint64_t lsn = 0;

    append_records(log, 0, 0, 3);
    ck_assert_int_eq(twinlog_cursor_set(log, "consumer", 2), 0);
    log_close(log);
    twl_segment_name(1, name);
    patch_file(log_file(name), 100, "damage", 6);
    log = log_open(&options);
    ck_assert_int_eq(twinlog_cursor_get(log, "consumer", &lsn), 0);
    ck_assert_uint_eq(lsn, 2);
    ck_assert_int_eq(twinlog_reader_attach(log, NULL, &reader), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(twinlog_last_lsn(log), 0);
    log_close(log);
}

/* With a value in its state, the next opening would miss the segments. */
TEST(a_log_that_was_never_made_takes_no_names)
{
    static const struct state state = {
        .header = { .generation = GENERATION_BEFORE_SEGMENTS, .first_sequence = 1, .first_lsn = 1 },
    };
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog *log;

    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    struct io *io = log_io(true);
    ck_assert_int_eq(twl_state_write(io, &state), 0);
    io->ops->destroy(io);

    ck_assert_int_eq(twinlog_open(log_dir, &options, &log), -ENOENT);
    log_close(log_open(NULL));
}

/* Its process may live on: then a message would name it beside the next writer, until that one has stored its own. */
TEST(a_writer_that_closes_takes_its_pid_away)
{
    struct shared_page shared;

    log_close(log_open(NULL));
    struct io *io = log_io(false);
    ck_assert_int_eq(twl_page_writer(io), 0);
    ck_assert_int_eq(twl_page_lock(io, 0, &shared), 0);
    ck_assert_int_eq(twl_page_writer(io), has_proc() ? getpid() : 0);
    twl_page_unwatch(&shared);
    ck_assert_int_eq(twl_page_writer(io), 0);
    io->ops->destroy(io);
}

/* ---- the descriptor of a reader ---------------------------------------------------------------- */

TEST(a_follower_hears_of_a_writer_that_died_at_opening_the_log)
{
    struct interest interest = { .lsn = 41 };
    struct follower *follower;
    struct shared_page shared;

    log_close(log_open(NULL));
    struct io *io = log_io(false);
    ck_assert_int_eq(twl_page_watch(io, &shared), 0);
    interest.page_sequence = twl_page_sequence(&shared);
    interest.epoch = twl_page_epoch(&shared);
    twl_page_unwatch(&shared);
    ck_assert_int_eq(twl_follower_create(io, NULL, &follower), 0);
    twl_follower_arm(follower, &interest);
    ck_assert_int_eq(twl_page_lock(io, 0, &shared), 0);
    twl_page_unwatch(&shared);
    struct pollfd wanted = { .fd = twl_follower_fd(follower), .events = POLLIN };
    ck_assert_int_eq(poll(&wanted, 1, 120000), 1);
    twl_follower_destroy(follower);
    io->ops->destroy(io);
}

/* ---- a writer with a page that can't be shared -------------------------------------------------- */

/* What the page said of the writer before is not true of this one. */
TEST(a_writer_that_shares_no_page_is_followed_by_readers_that_had_one)
{
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY | TWINLOG_BUFFERED);
    struct twinlog *looking, *log = log_open(NULL);
    struct twinlog_reader *reader, *late;
    const char *wrong;

    append_records(log, 0, 0, 10);
    looking = log_open(&options);
    reader = log_reader(0, 0);
    late = log_reader(0, 0);
    log_close(log);
    options.flags = TWINLOG_BUFFERED;
    log = log_on(hooked_log_dir(hooked_refuse_map), &options);
    append_records(log, 0, 10, 10);
    struct tally tally = { 0 }, late_tally = { 0 };
    ck_assert_int_eq(tally_rest(&tally, reader, &wrong), 19); /* the newest one has no marker behind it yet */
    ck_assert_uint_eq(twinlog_last_lsn(looking), 19);
    ck_assert_int_eq(twinlog_cursor_set(looking, "cursor", 19), 0);
    append_records(log, 0, 20, 10);
    ck_assert_int_eq(tally_rest(&tally, reader, &wrong), 10);
    ck_assert_uint_eq(twinlog_last_lsn(looking), 29);
    log_close(log);
    ck_assert_uint_eq(twinlog_last_lsn(looking), 30);
    ck_assert_int_eq(tally_rest(&late_tally, late, &wrong), 30); /* it came and went meanwhile */
    twinlog_reader_close(late);
    twinlog_reader_close(reader);
    log_close(looking);
}
