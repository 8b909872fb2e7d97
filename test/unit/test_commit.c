/* SPDX-License-Identifier: Apache-2.0 */
/* The commit path, watched and disturbed at its seam: one writer, failures, many writers. */
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "seam.h"
#include "slow_bytes.h"
#include "suites.h"

#include "commit/inside.h"
#include "io/io_files.h"
#include "log/handle.h"
#include "log/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WRITERS 24

static struct twinlog *open_watched(uint32_t flags)
{
    struct io *io = watch();
    const struct twinlog_options options = WITH_SIZE(options, .flags = flags | TWINLOG_BUFFERED,
                                                     .buffer_bytes = 65536, .segment_bytes = SHADOW_BYTES);
    struct twinlog *log = log_on(io, &options);
    return log;
}

CASE("one writer", seam_set_up, logdir_remove);

TEST(the_last_block_is_written_again_with_the_same_bytes)
{
    struct twinlog *log = open_watched(0);
    char bytes[5000];

    memset(bytes, 'x', sizeof(bytes));
    for (unsigned i = 0; i < 150; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, i * 37 % sizeof(bytes), NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert(atomic_load(&seam.has_overwrite));
    ck_assert(!atomic_load(&seam.has_rewrite));
    ck_assert_uint_eq(count_records(), 150);
}

TEST(a_padded_log_never_writes_a_durable_block_again)
{
    struct twinlog *log = open_watched(TWINLOG_PAD);

    for (unsigned i = 0; i < 50; i++)
        ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    log = open_watched(TWINLOG_PAD);
    ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert(!atomic_load(&seam.has_overwrite));
    ck_assert_uint_eq(count_records(), 51);
}

TEST(a_dense_log_can_be_continued_padded_and_back)
{
    for (unsigned i = 0; i < 6; i++) {
        struct twinlog *log = open_watched(i % 2 ? TWINLOG_PAD : 0);
        ck_assert_int_eq(twinlog_append(log, "a record", 8, NULL), 0);
        ck_assert_int_eq(twinlog_append(log, "another", 7, NULL), 0);
        ck_assert_int_eq(twinlog_close(log), 0);
    }
    ck_assert_uint_eq(count_records(), 12);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* A thread that stands in line and goes to lead may have been given a place meanwhile, by a leader that is done
 * already. The group that it would lead waits for its copy. */
TEST(whose_turn_has_come_does_not_lead_the_group_that_waits_for_it)
{
    struct twinlog *log = open_watched(0);
    struct commit *c = log->commit;
    const struct record_header record = { .kind = RECORD_DATA, .size = 5, .time_ns = 1 };
    const struct need need = { .count = 1, .bytes = (uint32_t)twl_record_bytes(5), .payload_bytes = 5 };
    struct waiter waiter = { .need = &need };

    const uint64_t groups = log_stat(log).groups;
    ck_assert(twl_take_at_once(c, &need, &waiter.place));
    ck_assert(twl_lead(c, &waiter));
    ck_assert_uint_eq(log_stat(log).groups, groups);
    twl_record_encode(waiter.place.at, c->epoch_seed, waiter.place.lsn, &record, "short");
    twl_finish_copy(c, waiter.place.twin);
    waiter.place.twin = NULL;
    ck_assert(twl_lead(c, &waiter));
    ck_assert_uint_eq(log_stat(log).groups, groups + 1);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 1);
}

/* The yields of one append of two records by the only writer, while the log expects two. */
static unsigned yields_of_append(struct twinlog *log, unsigned crowd)
{
    static const struct twinlog_entry entries[] = { { .data = "one", .size = 3 },
                                                    { .data = "two", .size = 3 } };

    log->commit->expected = 2;
    log->commit->gather_skips = 1;
    atomic_store(&log->commit->batch_floor, crowd);
    yields = 0;
    ck_assert_int_eq(twinlog_append_batch(log, entries, 2, NULL, NULL), 0);
    return yields;
}

TEST(a_writer_yields_before_it_leads_only_in_a_crowd)
{
    struct twinlog *log = open_watched(0);

    ck_assert_uint_eq(yields_of_append(log, 0), 0);
    ck_assert_uint_eq(yields_of_append(log, 3), 2);
    ck_assert_uint_eq(yields_of_append(log, 2), 0);           /* its group has enough */
    ck_assert_int_eq(twinlog_append(log, "two", 3, NULL), 0); /* it is alone now, and the log notices */
    ck_assert_uint_eq(atomic_load(&log->commit->batch_floor), 0);
    yields = 0;
    ck_assert_int_eq(twinlog_append(log, "three", 5, NULL), 0);
    ck_assert_uint_eq(yields, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
}

/* The expected writers never come. */
TEST(writers_that_do_not_come_are_no_crowd)
{
    struct twinlog *log = open_watched(0);
    struct commit *c = log->commit;

    ck_assert_int_eq(twinlog_append(log, "one", 3, NULL), 0);
    c->expected = 1000;
    atomic_store(&c->batch_floor, 100);
    ck_assert_int_eq(twinlog_append(log, "two", 3, NULL), 0);
    ck_assert_uint_eq(c->gather_misses, 1);
    ck_assert_uint_eq(atomic_load(&c->batch_floor), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
}

/* Gatherings that ended without all expected requests: none comes but one of so many bytes. */
static uint32_t gatherings_in_vain(size_t size)
{
    const struct twinlog_options options = WITH_SIZE(options, .flags = TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);
    const struct twinlog_entry entry = { .data = calloc(1, size), .size = size };
    struct twinlog_request request = { 0 }, *done;

    ck_assert_int_eq(twinlog_queue_open(&request.queue), 0);
    log->commit->expected = 1000;
    ck_assert_int_eq(twinlog_submit(log, &entry, 1, NULL, &request), 0);
    ck_assert_int_eq(twinlog_queue_poll(request.queue, &done, 1, -1), 1);
    const uint32_t in_vain = log->commit->gather_misses;
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(twinlog_queue_close(request.queue), 0);
    free((void *)(uintptr_t)entry.data);
    return in_vain;
}

/* The disk has hung for minutes, and a writer that was expected does not come back. */
TEST(a_disk_that_has_hung_is_not_waited_for_afterwards)
{
    struct twinlog *log = open_watched(0);

    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), 0);
    log->commit->sync_ns = UINT64_C(1000000000000000); /* a week */
    log->commit->expected = 2;
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
}

TEST(requests_are_not_waited_for_beside_a_large_group)
{
    ck_assert_uint_eq(gatherings_in_vain(100), 1);
    ck_assert_uint_eq(gatherings_in_vain(300000), 0);
}

static const struct interruption {
    const char *name;
    int error;
} interruptions[] = {
    { "a signal came first", -EINTR },
    { "the kernel had no thread for it", -EAGAIN },
    { "a signal kept the kernel from starting it", -ECANCELED },
};

TEST_EACH(an_interrupted_write_is_tried_again, interruptions)
{
    struct twinlog *log = open_watched(0);

    atomic_store(&seam.fail_written, row->error);
    atomic_store(&seam.times, 5);
    ck_assert_int_eq(twinlog_append(log, "patience", 8, NULL), 0);
    ck_assert_uint_eq(atomic_load(&seam.times), 0);

    atomic_store(&seam.fail_written, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 1);
}

/* Of a group of 20,000 bytes and some. */
static const struct short_write {
    const char *name;
    size_t lacking;
} short_writes[] = {
    { "a sector is lacking", 512 },
    { "a block", 4096 },
    { "a block and a sector", 4608 },
    { "three blocks", 12288 },
};

TEST_EACH(a_short_write_is_continued_under_a_sync_of_its_own, short_writes)
{
    static const char bytes[20000];
    struct twinlog *log = open_watched(0);
    const unsigned before = atomic_load(&seam.writes);

    atomic_store(&seam.short_by, row->lacking);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    ck_assert_uint_eq(atomic_load(&seam.writes), before + 2);

    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 1);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

TEST(a_sync_that_never_ran_is_run_behind_a_write_of_its_own)
{
    struct twinlog *log = open_watched(0);

    atomic_store(&seam.fail_synced, -ECANCELED);
    atomic_store(&seam.times, 3);
    unsigned before = atomic_load(&seam.writes);
    ck_assert_int_eq(twinlog_append(log, "cancelled", 9, NULL), 0);
    ck_assert_uint_eq(atomic_load(&seam.writes), before + 4);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 1);
}

TEST(a_write_that_never_moves_fails_in_the_end)
{
    struct twinlog *log = open_watched(0);

    atomic_store(&seam.fail_written, -EAGAIN);
    atomic_store(&seam.times, 1u << 30);
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}

static const struct failure {
    const char *name;
    int written, synced;
    int poison;
} failures[] = {
    { "a write: the disk fails", -EIO, 0, -EIO },
    { "a write: the disk is full", -ENOSPC, 0, -ENOSPC },
    { "a write: the quota is used up", -EDQUOT, 0, -EDQUOT },
    { "a write: the file system is read-only", -EROFS, 0, -EROFS },
    { "a write: the limit of the process", -EFBIG, 0, -EFBIG },
    { "a write: the kernel refuses it", -EINVAL, 0, -EINVAL },
    { "a sync: the disk fails", 0, -EIO, -EIO },
    { "a sync: a signal", 0, -EINTR, -EINTR },
    { "a sync: the disk is full", 0, -ENOSPC, -ENOSPC },
    { "a sync: the file system is read-only", 0, -EROFS, -EROFS },
    /* an append returns these for other reasons */
    { "a sync: -EAGAIN", 0, -EAGAIN, -EIO },
    { "a sync: the disk does not answer", 0, -ETIMEDOUT, -EIO },
    { "a write: the disk does not answer", -ETIMEDOUT, 0, -EIO },
};

CASE("failure", seam_set_up, logdir_remove);

TEST_EACH(a_failed_write_or_sync_poisons_the_log_and_nothing_is_tried_again, failures)
{
    struct twinlog *log = open_watched(0);
    uint64_t lsn;

    ck_assert_int_eq(twinlog_append(log, "good", 4, NULL), 0);
    atomic_store(&seam.fail_written, row->written);
    atomic_store(&seam.fail_synced, row->synced);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(twinlog_append(log, "bad", 3, &lsn), TWINLOG_EPOISONED);
    ADVISES(twinlog_strerror(TWINLOG_EPOISONED), "close the log and open it again");
    ck_assert_uint_eq(lsn, 2); /* its outcome may be asked for after reopening */

    unsigned writes = atomic_load(&seam.writes);
    ck_assert_int_eq(twinlog_append(log, "late", 4, &lsn), TWINLOG_EPOISONED);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_enqueue(log, "late", 4, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_sync(log), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, 0), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_skip(log, 10), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_truncate(log, 1), TWINLOG_EPOISONED);

    /* What was durable before stays so. */
    ck_assert_int_eq(twinlog_wait(log, 1, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 1);
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    ck_assert_int_eq(twinlog_stat(log, &stat), 0);
    ck_assert_int_eq(stat.poison, row->poison);
    ck_assert_int_eq(twinlog_close(log), row->poison);
    ck_assert_uint_eq(atomic_load(&seam.writes), writes);

    log = open_watched(0);
    ck_assert_uint_ge(twinlog_last_lsn(log), 1);
    ck_assert_int_eq(twinlog_append(log, "again", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
}

static struct twinlog *_Atomic removed; /* the log of which the directory was removed */

/* The answer comes when the close leads. */
static int find_removed_at_the_end(struct io *io CK_ATTRIBUTE_UNUSED)
{
    struct twinlog *log = NULL;

    AWAIT((log = atomic_load(&removed)) != NULL);
    AWAIT((atomic_load(&log->inside) & CLOSING) && atomic_load(&log->commit->leadership.is_taken));
    return -ESTALE;
}

/* The keeper's thread finds that out, and the close waits for the end of that thread. */
TEST(a_log_is_closed_that_has_lost_its_directory)
{
    struct io *io = watch();
    const struct twinlog_options options = LOG_OPTIONS(.flags = TWINLOG_BUFFERED);

    atomic_store(&removed, NULL);
    seam.ops.check_directory = find_removed_at_the_end;
    struct twinlog *log = log_on(io, &options);
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), 0);
    atomic_store(&removed, log);
    ck_assert_int_eq(twinlog_close(log), -ESTALE);
}

static struct {
    struct io *io;
    struct shared_page shared;
    struct counters counters;
    struct keeper *keeper;
    struct commit *commit;
    struct segment_plan plan;
    char name[SEGMENT_NAME_BYTES]; /* of the segment it began with */
} bare;

/* A commit path in a segment of 64 KiB that ends at `offset`, with a keeper that is to make so many spares at once. */
static void start_bare_with_spares(uint64_t offset, uint32_t spares)
{
    memset(&bare, 0, sizeof(bare));
    bare.io = watch();
    bare.plan =
        (struct segment_plan){ .number = 1, .sequence = 1, .bytes = SEGMENT_MIN_BYTES, .start_lsn = 1 };
    const struct twinlog_options options = { .buffer_bytes = 16384,
                                             .max_record_bytes = 4096,
                                             .segment_bytes = SEGMENT_MIN_BYTES };
    struct commit_config config = { .io = bare.io,
                                    .offset = offset,
                                    .position = { .next_lsn = 1 },
                                    .epoch = { .number = 1 },
                                    .options = &options,
                                    .shared = &bare.shared,
                                    .counters = &bare.counters };
    ck_assert_int_eq(twl_page_lock(bare.io, 0, &bare.shared), 0);
    ck_assert_int_eq(twl_segment_create(bare.io, &bare.plan, &config.segment, NULL), 0);
    memcpy(bare.name, config.segment.name, sizeof(bare.name));
    if (offset > SEGMENT_DATA_OFFSET) {
        const struct group_header last = { .first_lsn = 1, .bytes = GROUP_HEADER_BYTES };
        twl_summary_end_group(config.segment.summary, &last, offset - GROUP_HEADER_BYTES);
    }

    struct segment_entry entry = { .header = config.segment.header, .is_known = true, .first_lsn = 1 };
    memcpy(entry.name, bare.name, sizeof(entry.name));
    struct segment_set set = { .entries = &entry, .started = 1 };
    bare.plan.number = bare.plan.sequence = 2;
    bare.plan.start_lsn = 0;
    const struct keeper_config keeping = {
        .io = bare.io,
        .counters = &bare.counters,
        .statistics = bare.shared.statistics,
        .set = &set,
        .plan = bare.plan,
        .max_bytes = SEGMENT_MIN_BYTES,
        .most_segments = MOST_SEGMENTS_TO_MAKE,
        .spares = spares,
    };
    ck_assert_int_eq(twl_keeper_create(&keeping, &bare.keeper), 0);
    config.keeper = bare.keeper;
    ck_assert_int_eq(twl_commit_create(&config, &bare.commit), 0);
}

static void start_bare(uint64_t offset)
{
    start_bare_with_spares(offset, 0);
}

static void end_bare(void)
{
    twl_keeper_destroy(bare.keeper);
    twl_commit_destroy(bare.commit);
    twl_page_unwatch(&bare.shared);
    bare.io->ops->destroy(bare.io);
}

/* As the close does: the error of the poison, or that of the marker. */
static int mark_bare(enum group_kind kind)
{
    int rc = twl_commit_stop(bare.commit);

    if (rc == 0) {
        rc = twl_commit_write_marker(bare.commit, kind);
        twl_commit_go_on(bare.commit);
    }
    return rc;
}

static uint64_t put_bare(const char *text)
{
    const struct twinlog_entry entry = { .data = text, .size = strlen(text) };
    const struct batch batch = { .entries = &entry, .count = 1, .kind = RECORD_DATA };
    const struct terms durable = { .level = TWINLOG_LEVEL_DURABLE };
    uint64_t lsn;

    ck_assert_int_eq(twl_commit_put(bare.commit, &batch, &durable, NULL, &lsn), 0);
    ck_assert_int_eq(twl_commit_wait(bare.commit, lsn, &durable, true), 0);
    return lsn;
}

/* The block at this offset of the file under write that is named so. */
static void read_block(const char *name, uint64_t offset, unsigned char block[BLOCK_BYTES])
{
    struct io_file *file;
    size_t size;

    ck_assert_int_eq(io_open(bare.io, name, IO_READ_ONLY, &file), 0);
    ck_assert_int_eq(io_read(file, block, BLOCK_BYTES, offset, &size), 0);
    ck_assert_uint_eq(size, BLOCK_BYTES);
    io_close(file);
}

static int note_other_segment(void *context, const char *name)
{
    if (twl_segment_name_is_ours(name) && strcmp(name, bare.name) != 0)
        snprintf(context, SEGMENT_NAME_BYTES, "%s", name);
    return 0;
}

static bool has_other_segment(char ret_name[SEGMENT_NAME_BYTES])
{
    ret_name[0] = 0;
    ck_assert_int_eq(bare.io->ops->list(bare.io, note_other_segment, ret_name), 0);
    return ret_name[0] != 0;
}

CASE("without the log around it", seam_set_up, logdir_remove);

/* A thread may look for poison, find none, and become leader only after the one before has failed. */
TEST(a_leader_that_comes_after_a_failure_writes_nothing)
{
    start_bare(SEGMENT_DATA_OFFSET);
    ck_assert_int_eq(mark_bare(GROUP_START), 0);
    atomic_store(&seam.fail_written, -EIO);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(mark_bare(GROUP_CLOSE), -EIO);
    unsigned writes = atomic_load(&seam.writes);
    struct round round;
    twl_lead_patiently(bare.commit);
    ck_assert(!twl_lead_round(bare.commit, GROUP_CLOSE, &round));
    twl_release_leadership(bare.commit, NULL);
    ck_assert_int_eq(mark_bare(GROUP_CLOSE), -EIO);
    ck_assert_uint_eq(atomic_load(&seam.writes), writes);
    end_bare();
}

TEST(what_is_durable_is_published_for_other_processes)
{
    start_bare(SEGMENT_DATA_OFFSET);
    for (uint64_t lsn = 1; lsn <= 3; lsn++) {
        ck_assert_uint_eq(put_bare("news"), lsn);
        ck_assert_uint_eq(watermark_load(&bare.shared.page->durable), lsn);
    }
    end_bare();
}

TEST(a_poisoned_log_is_not_stopped)
{
    start_bare(SEGMENT_DATA_OFFSET);
    atomic_store(&seam.fail_written, -EIO);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(mark_bare(GROUP_START), -EIO);
    ck_assert_int_eq(twl_commit_stop(bare.commit), -EIO);
    ck_assert(twl_lead(bare.commit, NULL)); /* no thread leads */
    end_bare();
}

static _Atomic unsigned naps;

static void count_nap(struct io *io, unsigned ms)
{
    atomic_fetch_add(&naps, 1);
    seam.real->sleep_ms(io, ms);
}

static void *stop_and_go_on(void *result)
{
    *(int *)result = twl_commit_stop(bare.commit);
    if (*(int *)result == 0)
        twl_commit_go_on(bare.commit);
    return NULL;
}

/* The leader may be a thread of a lower priority, and never get the processor beside one that only yields. */
TEST(a_thread_that_stops_the_log_sleeps_while_another_one_leads)
{
    int result = 1;

    start_bare(SEGMENT_DATA_OFFSET);
    seam.ops.sleep_ms = count_nap;
    atomic_store(&naps, 0);
    twl_lead_patiently(bare.commit);
    const pthread_t thread = start_thread(stop_and_go_on, &result);
    AWAIT(atomic_load(&naps) > 0);
    twl_release_leadership(bare.commit, NULL);
    pthread_join(thread, NULL);
    ck_assert_int_eq(result, 0);
    end_bare();
}

static void *put_slow_bytes(void *context)
{
    const struct slow_bytes *slow = context;
    const struct twinlog_entry entry = { .data = slow->bytes, .size = slow->size };
    const struct batch batch = { .entries = &entry, .count = 1, .kind = RECORD_DATA };
    const struct terms buffered = { .level = TWINLOG_LEVEL_BUFFERED };
    uint64_t lsn;

    (void)twl_commit_put(bare.commit, &batch, &buffered, NULL, &lsn);
    return NULL;
}

static void *abandon(void *context CK_ATTRIBUTE_UNUSED)
{
    twl_commit_abandon(bare.commit, -EIO);
    return NULL;
}

static void submit_bare(struct twinlog_request *request)
{
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    const struct batch batch = { .entries = &entry, .count = 1, .kind = RECORD_DATA };
    const struct terms durable = { .level = TWINLOG_LEVEL_DURABLE };
    uint64_t lsn;

    ck_assert_int_eq(twl_commit_put(bare.commit, &batch, &durable, request, &lsn), 0);
}

/* A thread that fails the requests of a log waits for copies, which may take as long as a page fault. */
TEST(a_thread_that_fails_requests_sleeps_while_a_record_is_copied)
{
    struct slow_bytes slow = slow_bytes_make('s');
    struct twinlog_request request = { 0 }, *fetched;

    start_bare(SEGMENT_DATA_OFFSET);
    seam.ops.sleep_ms = count_nap;
    ck_assert_int_eq(twinlog_queue_open(&request.queue), 0);
    submit_bare(&request);
    const pthread_t copier = start_thread(put_slow_bytes, &slow);
    AWAIT(slow_bytes_is_reached());
    atomic_store(&naps, 0);
    const pthread_t failing = start_thread(abandon, NULL);
    AWAIT(atomic_load(&naps) > 0);

    slow_bytes_let_go();
    pthread_join(copier, NULL);
    pthread_join(failing, NULL);
    ck_assert_int_eq(twinlog_queue_poll(request.queue, &fetched, 1, 0), 1);
    ck_assert_int_eq(request.result, TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_queue_close(request.queue), 0);
    end_bare();
    slow_bytes_free(&slow);
}

/* The keeper's thread is one that must not wait for the leader, which may wait for a segment from that thread. */
TEST(a_log_that_is_stopped_can_be_abandoned)
{
    start_bare(SEGMENT_DATA_OFFSET);
    ck_assert_int_eq(twl_commit_stop(bare.commit), 0);
    twl_commit_abandon(bare.commit, -ESTALE);
    const unsigned writes = atomic_load(&seam.writes);
    ck_assert_int_eq(twl_commit_write_marker(bare.commit, GROUP_CLOSE), -ESTALE);
    ck_assert_uint_eq(atomic_load(&seam.writes), writes);
    twl_commit_go_on(bare.commit);
    ck_assert_int_eq(twl_commit_stop(bare.commit), -ESTALE);
    end_bare();
}

#define DATA_END (SEGMENT_MIN_BYTES - SEGMENT_FOOTER_BYTES)
#define KEPT_FOR_OPENS (2 * BLOCK_BYTES) /* half of what is kept back for markers */

/* The last group ends there, and the disk is full. */
static const struct mark_place {
    const char *name;
    enum group_kind kind;
    uint64_t offset;
} places_with_room[] = {
    { "a start, in the last bytes", GROUP_START, DATA_END - GROUP_HEADER_BYTES },
    { "a close, in the last block that is not kept for starts", GROUP_CLOSE,
      DATA_END - KEPT_FOR_OPENS - BLOCK_BYTES },
}, places_without_room[] = {
    { "a start, and the last block is full", GROUP_START, DATA_END },
    { "a start, and a few bytes are missing", GROUP_START, DATA_END - GROUP_HEADER_BYTES + 8 },
    { "a close, and its block is one that is kept for starts", GROUP_CLOSE,
      DATA_END - KEPT_FOR_OPENS - BLOCK_BYTES + 8 },
};

TEST_EACH(a_marker_that_finds_room_needs_no_other_segment, places_with_room)
{
    start_bare(row->offset);
    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    ck_assert_int_eq(mark_bare(row->kind), 0);
    ck_assert(!atomic_load(&seam.is_beyond));
    end_bare();
}

TEST_EACH(a_marker_that_finds_no_room_waits_for_the_next_segment, places_without_room)
{
    static unsigned char block[BLOCK_BYTES];
    char next[SEGMENT_NAME_BYTES];

    start_bare(row->offset);
    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    ck_assert_int_eq(mark_bare(row->kind), -ENOSPC);
    ck_assert_uint_eq(atomic_load(&seam.writes), 0);
    ck_assert_int_eq(atomic_load(&bare.commit->poison), 0);

    atomic_store(&seam.largest_file, UINT64_MAX);
    ck_assert_int_eq(mark_bare(row->kind), 0);
    ck_assert(has_other_segment(next));

    /* A close begins a block; a start goes to the same place in its block as before. */
    const uint64_t start = row->kind == GROUP_CLOSE ? 0 : row->offset % BLOCK_BYTES;
    read_block(next, SEGMENT_DATA_OFFSET, block);
    ck_assert(twl_group_header_maybe(block + start));
    end_bare();
}

TEST(a_poisoned_log_says_why_rather_than_that_the_disk_is_full)
{
    start_bare(SEGMENT_MIN_BYTES - SEGMENT_FOOTER_BYTES - GROUP_HEADER_BYTES);
    atomic_store(&seam.fail_written, -EIO);
    atomic_store(&seam.times, 1);
    ck_assert_int_eq(mark_bare(GROUP_START), -EIO);
    atomic_store(&seam.largest_file, FULL_DISK_BYTES);
    ck_assert_int_eq(mark_bare(GROUP_START), -EIO);
    end_bare();
}

/* Accepted, never committed: the segment that it was to go to is given back, too. */
TEST(a_segment_in_hand_is_closed_with_the_log)
{
    static const char bytes[4096];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    const struct batch batch = { .entries = &entry, .count = 1 };
    const struct terms buffered = { .level = TWINLOG_LEVEL_BUFFERED };
    char next[SEGMENT_NAME_BYTES];
    struct io_file *file;
    uint64_t lsn;

    start_bare(SEGMENT_DATA_OFFSET);
    while (!has_other_segment(next))
        ck_assert_int_eq(twl_commit_put(bare.commit, &batch, &buffered, NULL, &lsn), 0);
    ck_assert_uint_lt(watermark_load(&bare.commit->durable), lsn);
    twl_commit_destroy(bare.commit);
    bare.commit = NULL;
    ck_assert_int_eq(io_open(bare.io, next, 0, &file), 0);
    ck_assert_int_eq(io_lock(file, IO_LOCK_WRITER, true), 0);
    io_close(file);
    end_bare();
}

static unsigned unlinks;

static int refuse_first_unlink(const struct hooked_call *call)
{
    if (call->op != SIM_UNLINK)
        return 0;
    unlinks++;
    return unlinks == 1 ? -EIO : 0;
}

static int count_segment(void *context, const char *name)
{
    if (twl_segment_name_is_ours(name))
        ++*(unsigned *)context;
    return 0;
}

static unsigned count_segments(void)
{
    unsigned count = 0;

    ck_assert_int_eq(bare.io->ops->list(bare.io, count_segment, &count), 0);
    return count;
}

/* Else the next opening would miss the segments in front of the one that is still there. */
TEST(no_spare_is_removed_in_front_of_one_that_cannot_be)
{
    start_bare_with_spares(SEGMENT_DATA_OFFSET, 3);
    twl_keeper_start(bare.keeper);
    AWAIT(atomic_load(&bare.counters.spare_segments) == 3);

    const struct io_ops *real = bare.io->ops;
    hooked(bare.io, refuse_first_unlink);
    ck_assert_int_eq(twl_keeper_remove_ready(bare.keeper), -EIO);
    bare.io->ops = real;
    ck_assert_uint_eq(unlinks, 1);
    ck_assert_uint_eq(count_segments(), 4);
    end_bare();
}

TEST(the_spares_are_removed)
{
    start_bare_with_spares(SEGMENT_DATA_OFFSET, 3);
    twl_keeper_start(bare.keeper);
    AWAIT(atomic_load(&bare.counters.spare_segments) == 3);
    ck_assert_int_eq(twl_keeper_remove_ready(bare.keeper), 0);
    ck_assert_uint_eq(count_segments(), 1);
    end_bare();
}

struct writer {
    struct twinlog *log;
    pthread_t thread;
    int error;
};

static void *append_one(void *argument)
{
    struct writer *writer = argument;
    writer->error = twinlog_append(writer->log, "w", 1, NULL);
    return NULL;
}

CASE("many writers", seam_set_up, logdir_remove);

TEST(writers_that_come_during_a_write_share_the_next_one)
{
    struct writer writers[WRITERS];
    struct twinlog *log = open_watched(0);
    unsigned before = atomic_load(&seam.writes);

    seam.held = log;
    seam.held_until = WRITERS;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].log = log;
        writers[i].thread = start_thread(append_one, &writers[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(pthread_join(writers[i].thread, NULL), 0);
        ck_assert_int_eq(writers[i].error, 0);
    }
    ck_assert_uint_le(atomic_load(&seam.writes), before + 2);
    ck_assert(!atomic_load(&seam.has_overlap));
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), WRITERS);
}

CASE("one writer", seam_set_up, logdir_remove);

TEST(the_twins_fill_up_and_nothing_is_lost)
{
    struct twinlog *log = open_watched(0);
    char bytes[9000];

    memset(bytes, 'b', sizeof(bytes));
    uint64_t lsn = 0;
    for (unsigned i = 1; i <= 80; i++) { /* ten times what one buffer holds, no thread waits */
        ck_assert_int_eq(twinlog_enqueue(log, bytes, sizeof(bytes), &lsn), 0);
        ck_assert_uint_eq(lsn, i);
        ck_assert_uint_eq(twinlog_last_lsn(log), i);
    }
    ck_assert_uint_lt(twinlog_durable_lsn(log), 80);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 80);
    ck_assert_int_eq(twinlog_wait(log, 81, TWINLOG_LEVEL_DURABLE, 0), -EINVAL);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_uint_eq(count_records(), 80);
}
