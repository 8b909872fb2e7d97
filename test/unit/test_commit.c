/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit path, watched and disturbed at its seam: the real directory, with submit() and reap() of
 * its struct io replaced by ones that look at every write and can make it fail.
 */
#include "suites.h"

#include "commit/commit.h"
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHADOW_BYTES (1u << 20)
#define WRITERS 24

static struct {
    char directory[128];
    struct io_ops ops;
    const struct io_ops *real;

    /* what was seen */
    _Atomic unsigned writes;
    _Atomic unsigned in_flight;
    _Atomic bool has_overlap;   /* two writes in flight at once */
    _Atomic bool has_rewrite;   /* a write that changed bytes that were durable (I3) */
    _Atomic bool has_overwrite; /* a write into a block that was durable, changed or not */
    _Atomic unsigned untorn, untorn_missing;
    struct io_file *file; /* of the last write */
    unsigned char shadow[SHADOW_BYTES];
    uint64_t shadow_end; /* bytes below are durable */

    /* what to do to the next writes */
    _Atomic int fail_written; /* ret_written of the next `times` writes */
    _Atomic int fail_synced;
    _Atomic unsigned times;
    _Atomic size_t short_by;
    _Atomic bool refuse_untorn;
} seam;

static void look_at(const struct io_write *write)
{
    if (atomic_fetch_add(&seam.in_flight, 1) != 0)
        atomic_store(&seam.has_overlap, true);
    if (write->file != seam.file) {
        seam.file = write->file;
        seam.shadow_end = 0;
    }
    ck_assert_uint_le(write->offset + write->size, SHADOW_BYTES);
    ck_assert_uint_eq(write->offset % BLOCK_BYTES, 0);
    ck_assert_uint_eq(write->size % BLOCK_BYTES, 0);
    ck_assert_uint_eq((uintptr_t)write->data % BLOCK_BYTES, 0);
    if (write->offset < seam.shadow_end) {
        atomic_store(&seam.has_overwrite, true);
        if (write->size == BLOCK_BYTES)
            atomic_fetch_add(write->is_untorn ? &seam.untorn : &seam.untorn_missing, 1);
    }
}

/* Where the records of a group end is where its zeros begin; what is behind may be written over. */
static void remember(const struct io_write *write)
{
    uint64_t end = write->offset + write->size;
    const unsigned char *bytes = write->data;
    for (uint64_t at = write->offset; at < end && at < seam.shadow_end; at++)
        if (seam.shadow[at] != bytes[at - write->offset] && seam.shadow[at] != 0)
            atomic_store(&seam.has_rewrite, true);
    memcpy(seam.shadow + write->offset, bytes, write->size);
    seam.shadow_end = end;
}

static int watched_submit(struct io *io, struct io_write *write)
{
    look_at(write);
    atomic_fetch_add(&seam.writes, 1);
    if (write->is_untorn && atomic_load(&seam.refuse_untorn)) {
        write->ret_written = -EOPNOTSUPP;
        write->ret_synced = -ECANCELED;
        return 0;
    }
    if (atomic_load(&seam.times) > 0 && atomic_load(&seam.fail_written) < 0) {
        write->ret_written = atomic_load(&seam.fail_written);
        write->ret_synced = -ECANCELED;
        return 0;
    }
    struct io_write part = *write;
    part.is_untorn = false; /* the disk below knows nothing of it */
    if (atomic_load(&seam.times) > 0)
        part.size -= atomic_load(&seam.short_by) < part.size ? atomic_load(&seam.short_by) : 0;
    int rc = seam.real->submit(io, &part);
    ck_assert_int_eq(rc, 0);
    seam.real->reap(io, &part);
    write->ret_written = part.ret_written;
    write->ret_synced = part.ret_synced;
    if (part.size < write->size)
        write->ret_synced = -ECANCELED;
    if (atomic_load(&seam.times) > 0 && atomic_load(&seam.fail_synced) < 0)
        write->ret_synced = atomic_load(&seam.fail_synced);
    return 0;
}

static void watched_reap(struct io *io, struct io_write *write)
{
    (void)io;
    if (write->ret_written == (int64_t)write->size && write->ret_synced == 0)
        remember(write);
    if (atomic_load(&seam.times) > 0)
        atomic_fetch_sub(&seam.times, 1);
    atomic_fetch_sub(&seam.in_flight, 1);
}

static struct io *watch(void)
{
    struct io *io;
    ck_assert_int_eq(twl_io_posix_create(seam.directory, true, &io), 0);
    seam.real = io->ops;
    seam.ops = *io->ops;
    seam.ops.submit = watched_submit;
    seam.ops.reap = watched_reap;
    io->ops = &seam.ops;
    return io;
}

static struct twinlog *open_watched(uint32_t flags, uint32_t untorn_bytes)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct io *io = watch();
    struct twinlog *log;
    options.flags = flags | TWINLOG_BUFFERED;
    options.buffer_bytes = 65536;
    options.segment_bytes = SHADOW_BYTES;
    io->untorn_bytes = untorn_bytes;
    ck_assert_int_eq(twl_log_open(io, &options, &log), 0);
    return log;
}

static void set_up(void)
{
    memset(&seam, 0, sizeof(seam));
    const char *temporary = getenv("TMPDIR");
    snprintf(seam.directory, sizeof(seam.directory), "%s/twinlog-commit-XXXXXX",
             temporary ? temporary : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(seam.directory));
}

static void tear_down(void)
{
    DIR *dir = opendir(seam.directory);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", seam.directory, entry->d_name);
        unlink(path);
    }
    closedir(dir);
    rmdir(seam.directory);
}

static uint64_t count_records(void)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t count = 0;
    ck_assert_int_eq(twinlog_reader_open(seam.directory, NULL, &reader), 0);
    int rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        ck_assert_uint_eq(record.lsn, ++count);
    ck_assert_int_eq(rc, 0);
    twinlog_reader_close(reader);
    return count;
}

/* ---- one writer -------------------------------------------------------------------------------- */

START_TEST(the_last_block_is_written_again_with_the_same_bytes)
{
    struct twinlog *log = open_watched(0, 0);
    char bytes[5000];
    memset(bytes, 'x', sizeof(bytes));
    for (unsigned i = 0; i < 150; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, i * 37 % sizeof(bytes), NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert(atomic_load(&seam.has_overwrite));
    ck_assert(!atomic_load(&seam.has_rewrite));
    ck_assert_uint_eq(count_records(), 150);
}
END_TEST

START_TEST(a_padded_log_never_writes_a_durable_block_again)
{
    struct twinlog *log = open_watched(TWINLOG_PAD, 0);
    for (unsigned i = 0; i < 50; i++)
        ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    log = open_watched(TWINLOG_PAD, 0);
    ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert(!atomic_load(&seam.has_overwrite));
    ck_assert_uint_eq(count_records(), 51);
}
END_TEST

START_TEST(a_dense_log_can_be_continued_padded_and_back)
{
    for (unsigned i = 0; i < 6; i++) {
        struct twinlog *log = open_watched(i % 2 ? TWINLOG_PAD : 0, 0);
        ck_assert_int_eq(twinlog_append(log, "a record", 8, NULL), 0);
        ck_assert_int_eq(twinlog_append(log, "another", 7, NULL), 0);
        ck_assert_int_eq(twinlog_close(log), 0);
    }
    ck_assert_uint_eq(count_records(), 12);
    ck_assert_int_eq(twinlog_verify(seam.directory, NULL, NULL), 0);
}
END_TEST

START_TEST(a_block_is_rewritten_untorn_where_the_device_can)
{
    struct twinlog *log = open_watched(0, BLOCK_BYTES);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_gt(atomic_load(&seam.untorn), 10);
    ck_assert_uint_eq(atomic_load(&seam.untorn_missing), 0);
}
END_TEST

START_TEST(a_device_that_refuses_untorn_writes_after_all_is_believed)
{
    atomic_store(&seam.refuse_untorn, true);
    struct twinlog *log = open_watched(0, BLOCK_BYTES);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(atomic_load(&seam.untorn), 1);
    ck_assert_uint_eq(count_records(), 20);
}
END_TEST

START_TEST(an_interrupted_write_is_tried_again)
{
    static const int errors[] = { -EINTR, -EAGAIN };
    struct twinlog *log = open_watched(0, 0);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&seam.fail_written, errors[i]);
        atomic_store(&seam.times, 5);
        ck_assert_int_eq(twinlog_append(log, "patience", 8, NULL), 0);
        ck_assert_uint_eq(atomic_load(&seam.times), 0);
        atomic_store(&seam.fail_written, 0);
    }
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 2);
}
END_TEST

START_TEST(a_short_write_is_continued_under_a_sync_of_its_own)
{
    static const size_t lacking[] = { 512, 4096, 4608, 12288 };
    struct twinlog *log = open_watched(0, 0);
    char *bytes = calloc(1, 20000);
    for (unsigned i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++) {
        unsigned before = atomic_load(&seam.writes);
        atomic_store(&seam.short_by, lacking[i]);
        atomic_store(&seam.times, 1);
        ck_assert_int_eq(twinlog_append(log, bytes, 20000, NULL), 0);
        ck_assert_uint_eq(atomic_load(&seam.writes), before + 2);
    }
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 4);
    ck_assert_int_eq(twinlog_verify(seam.directory, NULL, NULL), 0);
    free(bytes);
}
END_TEST

START_TEST(a_sync_that_never_ran_is_run_behind_a_write_of_its_own)
{
    struct twinlog *log = open_watched(0, 0);
    atomic_store(&seam.fail_synced, -ECANCELED);
    atomic_store(&seam.times, 3);
    unsigned before = atomic_load(&seam.writes);
    ck_assert_int_eq(twinlog_append(log, "cancelled", 9, NULL), 0);
    ck_assert_uint_eq(atomic_load(&seam.writes), before + 4);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 1);
}
END_TEST

START_TEST(a_write_that_never_moves_fails_in_the_end)
{
    struct twinlog *log = open_watched(0, 0);
    atomic_store(&seam.fail_written, -EAGAIN);
    atomic_store(&seam.times, 1u << 30);
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), -EIO);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}
END_TEST

/* ---- failure ----------------------------------------------------------------------------------- */

struct failure {
    int written, synced;
    int expected;
};

static const struct failure failures[] = {
    { -EIO, 0, -EIO },       { -ENOSPC, 0, -ENOSPC }, { 0, -EIO, -EIO },     { 0, -EINTR, -EINTR },
    { 0, -EAGAIN, -EAGAIN }, { -EDQUOT, 0, -EDQUOT }, { -EROFS, 0, -EROFS },
};

START_TEST(a_failed_write_or_sync_poisons_the_log_and_nothing_is_tried_again)
{
    const struct failure *failure = &failures[_i];
    struct twinlog *log = open_watched(0, 0);
    uint64_t lsn;
    ck_assert_int_eq(twinlog_append(log, "good", 4, NULL), 0);
    atomic_store(&seam.fail_written, failure->written);
    atomic_store(&seam.fail_synced, failure->synced);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(twinlog_append(log, "bad", 3, &lsn), failure->expected);
    ck_assert_uint_eq(lsn, 2); /* its outcome may be asked for after reopening */

    unsigned writes = atomic_load(&seam.writes);
    ck_assert_int_eq(twinlog_append(log, "late", 4, &lsn), TWINLOG_EPOISONED);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_enqueue(log, "late", 4, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_sync(log), failure->expected);
    ck_assert_int_eq(twinlog_wait(log, 2), failure->expected);
    ck_assert_int_eq(twinlog_wait(log, 1), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 1);
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    ck_assert_int_eq(twinlog_stat(log, &stat), 0);
    ck_assert_int_eq(stat.poison, failure->expected);
    ck_assert_int_eq(twinlog_close(log), failure->expected);
    ck_assert_uint_eq(atomic_load(&seam.writes), writes);

    log = open_watched(0, 0);
    ck_assert_uint_ge(twinlog_last_lsn(log), 1);
    ck_assert_int_eq(twinlog_append(log, "again", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
}
END_TEST

/* A thread may look for poison, find none, and become leader only after the one before has failed. */
START_TEST(a_leader_that_comes_after_a_failure_writes_nothing)
{
    struct io *io = watch();
    struct commit *commit;
    struct commit_config config = { .io = io,
                                    .offset = SEGMENT_DATA_OFFSET,
                                    .position = { .next_lsn = 1 },
                                    .epoch = { .number = 1 },
                                    .buffer_bytes = 16384,
                                    .max_record_bytes = 4096 };
    const struct segment_plan plan = { .sequence = 1, .bytes = SEGMENT_MIN_BYTES };
    ck_assert_int_eq(twl_segment_create(io, &plan, &config.segment), 0);
    ck_assert_int_eq(twl_commit_create(&config, &commit), 0);
    ck_assert_int_eq(twl_commit_mark(commit, GROUP_START), 0);
    atomic_store(&seam.fail_written, -EIO);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(twl_commit_mark(commit, GROUP_CLOSE), -EIO);
    unsigned writes = atomic_load(&seam.writes);
    ck_assert_int_eq(twl_commit_mark(commit, GROUP_CLOSE), -EIO);
    ck_assert_uint_eq(atomic_load(&seam.writes), writes);
    twl_commit_destroy(commit, false);
    io->ops->destroy(io);
}
END_TEST

/* ---- many writers ------------------------------------------------------------------------------ */

struct writer {
    struct twinlog *log;
    pthread_t thread;
    unsigned records;
    uint64_t last_acknowledged;
    unsigned acknowledged;
    unsigned above_watermark; /* acknowledged, but not durable by the watermark */
    int error;                /* the first */
    int late_error;           /* of one more append after it */
};

static void *append_until_it_fails(void *argument)
{
    struct writer *writer = argument;
    char bytes[700];
    memset(bytes, 'w', sizeof(bytes));
    for (unsigned i = 0; i < writer->records && writer->error == 0; i++) {
        uint64_t lsn;
        writer->error = twinlog_append(writer->log, bytes, i * 13 % sizeof(bytes), &lsn);
        if (writer->error == 0) {
            writer->acknowledged++;
            writer->above_watermark += lsn > twinlog_durable_lsn(writer->log);
            writer->last_acknowledged = lsn;
        }
    }
    if (writer->error != 0)
        writer->late_error = twinlog_append(writer->log, "late", 4, NULL);
    return NULL;
}

static void run_writers(struct writer *writers, struct twinlog *log, unsigned records)
{
    memset(writers, 0, WRITERS * sizeof(*writers));
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].log = log;
        writers[i].records = records;
        ck_assert_int_eq(pthread_create(&writers[i].thread, NULL, append_until_it_fails, &writers[i]), 0);
    }
}

static void join_writers(struct writer *writers)
{
    for (unsigned i = 0; i < WRITERS; i++)
        ck_assert_int_eq(pthread_join(writers[i].thread, NULL), 0);
}

START_TEST(writers_share_writes_and_are_acknowledged_below_the_watermark)
{
    struct writer writers[WRITERS];
    struct twinlog *log = open_watched(0, 0);
    run_writers(writers, log, 100);
    join_writers(writers);
    for (unsigned i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(writers[i].error, 0);
        ck_assert_uint_eq(writers[i].above_watermark, 0);
    }
    ck_assert(!atomic_load(&seam.has_overlap));
    ck_assert(!atomic_load(&seam.has_rewrite));
    ck_assert_uint_lt(atomic_load(&seam.writes), WRITERS * 100 / 2);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), WRITERS * 100);
}
END_TEST

START_TEST(when_a_sync_fails_every_writer_hears_of_it_and_none_is_acknowledged_after)
{
    struct writer writers[WRITERS];
    struct twinlog *log = open_watched(0, 0);
    run_writers(writers, log, 1u << 30);
    while (twinlog_durable_lsn(log) < 500)
        sched_yield();
    atomic_store(&seam.fail_synced, -EIO);
    atomic_store(&seam.times, 1);
    join_writers(writers);
    uint64_t durable = twinlog_durable_lsn(log);
    uint64_t acknowledged = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        ck_assert(writers[i].error == -EIO || writers[i].error == TWINLOG_EPOISONED);
        ck_assert_int_eq(writers[i].late_error, TWINLOG_EPOISONED);
        ck_assert_uint_le(writers[i].last_acknowledged, durable);
        acknowledged += writers[i].acknowledged;
    }
    ck_assert_uint_le(acknowledged, durable);
    ck_assert_int_eq(twinlog_close(log), -EIO);
    ck_assert_uint_ge(count_records(), durable);
}
END_TEST

START_TEST(close_lets_the_writers_inside_finish)
{
    struct writer writers[WRITERS];
    struct twinlog *log = open_watched(0, 0);
    uint64_t last = 0;
    for (unsigned i = 0; i < 500; i++)
        ck_assert_int_eq(twinlog_enqueue(log, "queued", 6, &last), 0);
    ck_assert_uint_eq(last, 500);
    run_writers(writers, log, 3);
    join_writers(writers);
    ck_assert_int_eq(twinlog_enqueue(log, "queued", 6, &last), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 500 + 3 * WRITERS + 1);
}
END_TEST

START_TEST(the_twins_fill_up_and_nothing_is_lost)
{
    struct twinlog *log = open_watched(0, 0);
    char bytes[9000];
    memset(bytes, 'b', sizeof(bytes));
    uint64_t lsn = 0;
    for (unsigned i = 1; i <= 80; i++) { /* ten times what one buffer holds, nobody waiting */
        ck_assert_int_eq(twinlog_enqueue(log, bytes, sizeof(bytes), &lsn), 0);
        ck_assert_uint_eq(lsn, i);
        ck_assert_uint_eq(twinlog_last_lsn(log), i);
    }
    ck_assert_uint_lt(twinlog_durable_lsn(log), 80);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 80);
    ck_assert_int_eq(twinlog_wait(log, 81), -EINVAL);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 80);
}
END_TEST

Suite *commit_suite(void)
{
    Suite *suite = suite_create("commit");
    TCase *one = tcase_create("one writer");
    tcase_add_checked_fixture(one, set_up, tear_down);
    tcase_add_test(one, the_last_block_is_written_again_with_the_same_bytes);
    tcase_add_test(one, a_padded_log_never_writes_a_durable_block_again);
    tcase_add_test(one, a_dense_log_can_be_continued_padded_and_back);
    tcase_add_test(one, a_block_is_rewritten_untorn_where_the_device_can);
    tcase_add_test(one, a_device_that_refuses_untorn_writes_after_all_is_believed);
    tcase_add_test(one, an_interrupted_write_is_tried_again);
    tcase_add_test(one, a_short_write_is_continued_under_a_sync_of_its_own);
    tcase_add_test(one, a_sync_that_never_ran_is_run_behind_a_write_of_its_own);
    tcase_add_test(one, a_write_that_never_moves_fails_in_the_end);
    tcase_add_test(one, the_twins_fill_up_and_nothing_is_lost);
    suite_add_tcase(suite, one);
    TCase *failing = tcase_create("failure");
    tcase_add_checked_fixture(failing, set_up, tear_down);
    tcase_add_loop_test(failing, a_failed_write_or_sync_poisons_the_log_and_nothing_is_tried_again, 0,
                        (int)(sizeof(failures) / sizeof(failures[0])));
    tcase_add_test(failing, a_leader_that_comes_after_a_failure_writes_nothing);
    suite_add_tcase(suite, failing);
    TCase *many = tcase_create("many writers");
    tcase_add_checked_fixture(many, set_up, tear_down);
    tcase_add_test(many, writers_share_writes_and_are_acknowledged_below_the_watermark);
    tcase_add_test(many, when_a_sync_fails_every_writer_hears_of_it_and_none_is_acknowledged_after);
    tcase_add_test(many, close_lets_the_writers_inside_finish);
    suite_add_tcase(suite, many);
    return suite;
}
