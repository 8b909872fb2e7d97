/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-steps: each call that changes a log is made by a process that is killed at its first operation on the
 * files, then by one that is killed at the second, and so on until one gets to the end. Each time the log is
 * opened again and must be as it was before the call, or as it is after it; a call that had returned has
 * happened. Then it must go on working.
 *
 * The library is opened over its usual files, with a table of operations in front that counts those that change
 * something. A write is also cut in half. On every death follows a second one, while the log is opened.
 *
 * Blind to what a power cut does, like everything that kills processes; the simulated disk is for that.
 */
#define _GNU_SOURCE
#include "../sim/rng.h"
#include "check/check.h"
#include "directory.h"
#include "io/io.h"
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEGMENT_BYTES 65536u
#define RECORD_BYTES 3000u
#define RECORDS 60u /* in the log that every call begins with */
#define GROUP 6u    /* in one group */
#define CURSOR_LSN 20u
#define MORE 5u /* records that are appended after each crash */
#define MANY_STEPS 2000u

/* ---- what a log is ----------------------------------------------------------------------------- */

/* Records up to `cut` are those of the first writer, later ones of the second. */
struct model {
    uint64_t first, last; /* last = first - 1: it is empty */
    uint64_t cut;
    uint64_t cursor;  /* LSN + 1; 0 = there is none */
    unsigned version; /* of the value, 0 = there is none */
};

/* What the process that is killed leaves behind. */
struct shared {
    _Atomic uint64_t acked; /* newest LSN that was acknowledged during the call */
    _Atomic bool has_returned;
    _Atomic bool can_tear; /* it died in a write that could have been half made */
    _Atomic int result;
};

struct stage {
    struct twinlog *log; /* NULL: the call opens it */
    struct io *io;       /* NULL: the log has it */
    struct shared *shared;
};

struct scenario {
    const char *name;
    int (*call)(struct stage *stage);
    struct model after;
    unsigned traits;
};
enum traits {
    GRADUAL = 1u << 0, /* it may also get half the way: the last LSN may be any from the old to the new one */
    OPENS = 1u << 1,   /* it opens the log itself, if at all */
    CREATES = 1u << 2, /* there is no log yet */
};

static char directory[256], log_dir[300], template_dir[300], copy_dir[300];
static struct shared *shared;
static const struct model before = {
    .first = 1, .last = RECORDS, .cut = RECORDS, .cursor = CURSOR_LSN + 1, .version = 1
};

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    printf("crash-steps: VIOLATION: ");
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n  the directory is kept: %s\n", directory);
    fflush(stdout);
    _exit(EXIT_FAILURE);
}

static void must(int result, const char *what)
{
    if (result < 0)
        fail("%s: %s", what, twinlog_strerror(result));
}

/* ---- dying ------------------------------------------------------------------------------------- */

static const struct io_ops *real;
static struct io_ops counted;
static bool tears;
static _Atomic uint64_t steps, last_step; /* 0: nothing is counted */

static _Noreturn void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* True: this one is not done any more. */
static bool is_last_step(void)
{
    return atomic_load(&last_step) > 0 && atomic_fetch_add(&steps, 1) + 1 == atomic_load(&last_step);
}

static void step(void)
{
    if (is_last_step())
        die();
}

/* Half of it gets to the file, in whole blocks. */
static void step_write(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    if (!is_last_step())
        return;
    atomic_store(&shared->can_tear, size > 4096);
    if (tears && size > 4096)
        real->write(file, data, size / 2 / 4096 * 4096, offset);
    die();
}

static int open_and_count(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    if (flags & IO_CREATE)
        step();
    return real->open(io, name, flags, ret_file);
}

static int write_and_count(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    step_write(file, data, size, offset);
    return real->write(file, data, size, offset);
}

static int allocate_and_count(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    step();
    return real->allocate(file, bytes, how);
}

static int sync_and_count(struct io_file *file)
{
    step();
    return real->sync(file);
}

static int sync_data_and_count(struct io_file *file)
{
    step();
    return real->sync_data(file);
}

static int rename_and_count(struct io *io, const char *from, const char *to)
{
    step();
    return real->rename(io, from, to);
}

static int unlink_and_count(struct io *io, const char *name)
{
    step();
    return real->unlink(io, name);
}

static int sync_dir_and_count(struct io *io)
{
    step();
    return real->sync_dir(io);
}

static int link_and_count(struct io *io, const char *name, struct io *to, const char *to_name)
{
    step();
    return real->link(io, name, to, to_name);
}

static int clone_and_count(struct io *io, const char *name, struct io *to, const char *to_name)
{
    step();
    return real->clone(io, name, to, to_name);
}

static int submit_and_count(struct io *io, struct io_write *write)
{
    step_write(write->file, write->data, write->size, write->offset);
    return real->submit(io, write);
}

static struct io *make_io(const char *dir)
{
    struct io *io;

    must(twl_io_posix_create(dir, true, &io), "the directory cannot be opened");
    real = io->ops;
    counted = *real;
    counted.open = open_and_count;
    counted.write = write_and_count;
    counted.allocate = allocate_and_count;
    counted.sync = sync_and_count;
    counted.sync_data = sync_data_and_count;
    counted.rename = rename_and_count;
    counted.unlink = unlink_and_count;
    counted.sync_dir = sync_dir_and_count;
    counted.link = link_and_count;
    counted.clone = clone_and_count;
    counted.submit = submit_and_count;
    io->ops = &counted;
    return io;
}

/* ---- records ----------------------------------------------------------------------------------- */

static const struct twinlog_options small = { .size = sizeof(small),
                                              .flags = TWINLOG_BUFFERED | TWINLOG_NO_THREAD,
                                              .segment_bytes = SEGMENT_BYTES,
                                              .buffer_bytes = 32768,
                                              .prepare = TWINLOG_PREPARE_ALLOCATED };

/* Large enough that the log has some segments. */
static size_t make_record(uint64_t writer, uint64_t lsn, unsigned char record[RECORD_BYTES])
{
    struct rng rng = { rng_mix(writer << 32 | lsn) };
    const size_t size = RECORD_BYTES - rng_below(&rng, RECORD_BYTES / 4);

    rng_fill(&rng, record, size);
    return size;
}

static int append(struct twinlog *log, uint64_t writer, bool is_acked)
{
    unsigned char record[RECORD_BYTES];
    const size_t size = make_record(writer, twinlog_last_lsn(log) + 1, record);

    return (is_acked ? twinlog_append : twinlog_enqueue)(log, record, size, NULL);
}

static int append_acked(struct stage *stage, uint64_t count)
{
    int result = 0;

    for (uint64_t i = 1; result == 0 && i <= count; i++) {
        const bool is_acked = i % GROUP == 0 || i == count;

        result = append(stage->log, 2, is_acked);
        if (result == 0 && is_acked)
            atomic_store(&stage->shared->acked, twinlog_durable_lsn(stage->log));
    }
    return result;
}

static int set_value(struct twinlog *log, unsigned version)
{
    unsigned char record[RECORD_BYTES];

    return twinlog_meta_set(log, "value", record, make_record(0, version, record));
}

/* The log that every call begins with; its writer is killed. */
static int fill_template(struct twinlog *log)
{
    int result = 0;

    for (unsigned i = 1; result == 0 && i <= RECORDS; i++)
        result = append(log, 1, i % GROUP == 0);
    if (result == 0)
        result = twinlog_cursor_set(log, "cursor", CURSOR_LSN);
    return result < 0 ? result : set_value(log, 1);
}

/* ---- the calls --------------------------------------------------------------------------------- */

static int call_append(struct stage *stage)
{
    return append_acked(stage, 3);
}

/* Through some segments, which are made. */
static int call_roll(struct stage *stage)
{
    return append_acked(stage, RECORDS);
}

/* A batch of records of the second writer. */
struct bundle {
    struct twinlog_entry entry[GROUP];
    unsigned char record[GROUP][RECORD_BYTES];
};

static void make_bundle(struct twinlog *log, struct bundle *ret_bundle)
{
    for (unsigned i = 0; i < GROUP; i++) {
        const size_t size = make_record(2, twinlog_last_lsn(log) + 1 + i, ret_bundle->record[i]);

        ret_bundle->entry[i] = (struct twinlog_entry){ .data = ret_bundle->record[i], .size = size };
    }
}

static int call_batch(struct stage *stage)
{
    struct bundle bundle;

    make_bundle(stage->log, &bundle);
    return twinlog_append_batch(stage->log, bundle.entry, GROUP, NULL, NULL);
}

/* What is written survives the process. */
static int call_written(struct stage *stage)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    int result = 0;

    terms.level = TWINLOG_LEVEL_WRITTEN;
    for (unsigned i = 0; result == 0 && i < RECORDS / GROUP; i++) {
        struct bundle bundle;
        uint64_t lsn;

        make_bundle(stage->log, &bundle);
        result = twinlog_append_batch(stage->log, bundle.entry, GROUP, &terms, &lsn);
        if (result == 0)
            atomic_store(&stage->shared->acked, lsn + GROUP - 1);
    }
    return result;
}

static void note_completed(struct twinlog_queue *queue, struct shared *noted)
{
    struct twinlog_request *request;

    while (twinlog_queue_poll(queue, &request, 1, 0) == 1)
        if (request->result == 0)
            atomic_store(&noted->acked, request->first_lsn + request->count - 1);
}

/* Some are written, the others durable; the last is left to close. */
static int call_requests(struct stage *stage)
{
    struct twinlog_request requests[4];
    struct twinlog_queue *queue;
    int result = twinlog_queue_open(&queue);

    for (unsigned i = 0; result >= 0 && i < 4; i++) {
        struct twinlog_terms terms = TWINLOG_TERMS_INIT;
        struct bundle bundle;

        terms.level = i % 2 == 0 ? TWINLOG_LEVEL_WRITTEN : TWINLOG_LEVEL_DURABLE;
        requests[i] = (struct twinlog_request){ .queue = queue };
        make_bundle(stage->log, &bundle);
        result = twinlog_submit(stage->log, bundle.entry, GROUP, &terms, &requests[i]);
        if (result == 0 && i < 3)
            result = twinlog_drive(stage->log, 0);
        note_completed(queue, stage->shared);
    }
    result = result < 0 ? result : twinlog_close(stage->log);
    note_completed(queue, stage->shared);
    twinlog_queue_close(queue);
    return result;
}

static int trim(struct stage *stage, uint64_t before_lsn, uint32_t flags)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;

    options.before_lsn = before_lsn;
    options.flags = flags;
    return twinlog_trim(stage->log, &options, NULL);
}

static int call_trim(struct stage *stage)
{
    return trim(stage, CURSOR_LSN - 2, 0);
}

static int call_trim_to_cursor(struct stage *stage)
{
    return trim(stage, RECORDS, 0);
}

static int call_trim_past_cursor(struct stage *stage)
{
    return trim(stage, RECORDS - 10, TWINLOG_TRIM_PAST_CURSORS);
}

static int call_trim_all(struct stage *stage)
{
    return trim(stage, RECORDS + 1, TWINLOG_TRIM_PAST_CURSORS);
}

/* Through some segments, which were trimmed. */
static int call_recycle(struct stage *stage)
{
    const int result = call_trim_all(stage);

    return result < 0 ? result : append_acked(stage, RECORDS);
}

static int call_cut(struct stage *stage)
{
    return twinlog_truncate(stage->log, RECORDS - GROUP / 2);
}

static int call_cut_most(struct stage *stage)
{
    return twinlog_truncate(stage->log, 2);
}

static int call_cut_all(struct stage *stage)
{
    return twinlog_truncate(stage->log, 0);
}

static int call_reset_forth(struct stage *stage)
{
    return twinlog_reset(stage->log, 1000);
}

static int call_reset_back(struct stage *stage)
{
    return twinlog_reset(stage->log, 10);
}

static int call_cursor_set(struct stage *stage)
{
    return twinlog_cursor_set(stage->log, "cursor", 40);
}

static int call_cursor_remove(struct stage *stage)
{
    return twinlog_cursor_remove(stage->log, "cursor");
}

static int call_meta_set(struct stage *stage)
{
    return set_value(stage->log, 2);
}

/* So many that their file has to grow. */
static int call_meta_many(struct stage *stage)
{
    static const unsigned char data[TWINLOG_META_BYTES];
    int result = 0;

    for (unsigned i = 0; result == 0 && i < 6; i++) {
        char name[TWINLOG_NAME_BYTES];

        snprintf(name, sizeof(name), "more %u", i);
        result = twinlog_meta_set(stage->log, name, data, sizeof(data));
    }
    return result;
}

static int call_meta_remove(struct stage *stage)
{
    return twinlog_meta_remove(stage->log, "value");
}

static int call_close(struct stage *stage)
{
    return twinlog_close(stage->log);
}

static int call_open(struct stage *stage)
{
    return twl_log_open(stage->io, &small, &stage->log);
}

static int call_backup(struct stage *stage)
{
    static const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;

    return twl_backup(stage->io, make_io(copy_dir), &options, &result);
}

#define SAME                                                                                                 \
    {                                                                                                        \
        1, RECORDS, RECORDS, CURSOR_LSN + 1, 1                                                               \
    }

static const struct scenario scenarios[] = {
    { "create", call_open, { 1, 0, 0, 0, 0 }, OPENS | CREATES },
    { "open", call_open, SAME, OPENS },
    { "append", call_append, { 1, RECORDS + 3, RECORDS, CURSOR_LSN + 1, 1 }, GRADUAL },
    { "roll", call_roll, { 1, 2 * RECORDS, RECORDS, CURSOR_LSN + 1, 1 }, GRADUAL },
    { "batch", call_batch, { 1, RECORDS + GROUP, RECORDS, CURSOR_LSN + 1, 1 }, 0 },
    { "written", call_written, { 1, 2 * RECORDS, RECORDS, CURSOR_LSN + 1, 1 }, GRADUAL },
    { "requests", call_requests, { 1, RECORDS + 4 * GROUP, RECORDS, CURSOR_LSN + 1, 1 }, GRADUAL },
    { "trim", call_trim, { CURSOR_LSN - 2, RECORDS, RECORDS, CURSOR_LSN + 1, 1 }, 0 },
    { "trim to a cursor", call_trim_to_cursor, { CURSOR_LSN + 1, RECORDS, RECORDS, CURSOR_LSN + 1, 1 }, 0 },
    { "trim past a cursor", call_trim_past_cursor, { RECORDS - 10, RECORDS, RECORDS, RECORDS - 10, 1 }, 0 },
    { "trim all", call_trim_all, { RECORDS + 1, RECORDS, RECORDS, RECORDS + 1, 1 }, 0 },
    { "recycle", call_recycle, { RECORDS + 1, 2 * RECORDS, RECORDS, RECORDS + 1, 1 }, GRADUAL },
    { "cut", call_cut, { 1, RECORDS - GROUP / 2, RECORDS - GROUP / 2, CURSOR_LSN + 1, 1 }, 0 },
    { "cut most", call_cut_most, { 1, 2, 2, 3, 1 }, 0 },
    { "cut all", call_cut_all, { 1, 0, 0, 1, 1 }, 0 },
    { "reset forth", call_reset_forth, { 1000, 999, 999, 1000, 1 }, 0 },
    { "reset back", call_reset_back, { 10, 9, 9, 10, 1 }, 0 },
    { "cursor_set", call_cursor_set, { 1, RECORDS, RECORDS, 41, 1 }, 0 },
    { "cursor_remove", call_cursor_remove, { 1, RECORDS, RECORDS, 0, 1 }, 0 },
    { "meta_set", call_meta_set, { 1, RECORDS, RECORDS, CURSOR_LSN + 1, 2 }, 0 },
    { "meta_set, many", call_meta_many, SAME, 0 },
    { "meta_remove", call_meta_remove, { 1, RECORDS, RECORDS, CURSOR_LSN + 1, 0 }, 0 },
    { "close", call_close, SAME, 0 },
    { "backup", call_backup, SAME, OPENS },
};

/* ---- the process that is killed ---------------------------------------------------------------- */

static void arm(uint64_t at_step)
{
    atomic_store(&steps, 0);
    atomic_store(&last_step, at_step);
}

static void play(const struct scenario *scenario, uint64_t at_step)
{
    struct stage stage = { .io = make_io(log_dir), .shared = shared };

    if (!(scenario->traits & OPENS)) {
        must(twl_log_open(stage.io, &small, &stage.log), "the log cannot be opened");
        stage.io = NULL;
    }
    arm(at_step);
    atomic_store(&shared->result, scenario->call(&stage));
    atomic_store(&shared->has_returned, true);
    atomic_store(&last_step, 0);
    _exit(EXIT_SUCCESS);
}

static void play_opening(uint64_t at_step)
{
    struct io *io = make_io(log_dir);
    struct twinlog *log;

    arm(at_step);
    must(twl_log_open(io, &small, &log), "the log cannot be opened after a crash");
    must(twinlog_close(log), "the log cannot be closed after a crash");
    _exit(EXIT_SUCCESS);
}

static bool is_killed(pid_t pid)
{
    int status;

    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        fail("a process is lost: %s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) != EXIT_SUCCESS)
        _exit(EXIT_FAILURE); /* it has said why */
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        fail("a process died of signal %d", WTERMSIG(status));
    return WIFSIGNALED(status);
}

/* ---- the judge --------------------------------------------------------------------------------- */

static struct twinlog *open_log(const char *dir)
{
    struct twinlog_options options = small;
    struct twinlog_report report = { 0 };
    struct twinlog *log;
    int result;

    options.ret_report = &report;
    result = twinlog_open(dir, &options, &log);
    if (result < 0)
        fail("the log cannot be opened: %s; %s", twinlog_strerror(result), report.text);
    return log;
}

static unsigned find_version(struct twinlog *log)
{
    unsigned char found[TWINLOG_META_BYTES], expected[RECORD_BYTES];
    size_t size;
    const int result = twinlog_meta_get(log, "value", found, sizeof(found), &size);

    if (result == -ENOENT)
        return 0;
    must(result, "the value cannot be read");
    for (unsigned version = 1; version <= 2; version++)
        if (make_record(0, version, expected) == size && memcmp(found, expected, size) == 0)
            return version;
    fail("the value is none that was set: %zu bytes", size);
}

/* All but where the second writer's records begin. */
static struct model look_at(struct twinlog *log)
{
    struct model model = { .last = twinlog_last_lsn(log), .version = find_version(log) };
    uint64_t lsn;
    const int result = twinlog_cursor_get(log, "cursor", &lsn);

    model.first = twinlog_first_lsn(log);
    if (model.first == 0)
        model.first = model.last + 1;
    if (result != -ENOENT)
        must(result, "the cursor cannot be read");
    model.cursor = result == 0 ? lsn + 1 : 0;
    return model;
}

static bool fits(const struct model *found, const struct model *expected, uint64_t least_last)
{
    return found->first == expected->first && found->last >= least_last && found->last <= expected->last &&
           found->cursor == expected->cursor && found->version == expected->version;
}

/* A gradual call may have stopped anywhere behind what it acknowledged; one of two changes may be made. */
static bool is_between(const struct scenario *scenario, const struct model *found)
{
    const struct model *after = &scenario->after;
    struct model start = *after;

    start.first = before.first;
    start.cursor = before.cursor;
    if (!(scenario->traits & GRADUAL))
        return false;
    return fits(found, after, before.last) ||
           (atomic_load(&shared->acked) == 0 && fits(found, &start, before.last));
}

static void check_model(const struct scenario *scenario, struct model *found)
{
    const struct model *after = &scenario->after;
    const bool has_happened = fits(found, after, after->last);
    const bool has_returned = atomic_load(&shared->has_returned);
    const bool is_as_before = fits(found, &before, before.last);

    if (found->last < atomic_load(&shared->acked))
        fail("%s: LSN %" PRIu64 " was acknowledged, the log ends at %" PRIu64, scenario->name,
             atomic_load(&shared->acked), found->last);
    if (!has_happened && (has_returned || (!is_as_before && !is_between(scenario, found))))
        fail("%s%s: found LSN %" PRIu64 " to %" PRIu64 ", cursor %" PRIu64 ", value %u; expected %" PRIu64
             " to %" PRIu64 ", %" PRIu64 ", %u",
             scenario->name, has_returned ? " has returned" : "", found->first, found->last, found->cursor,
             found->version, after->first, after->last, after->cursor, after->version);
    found->cut = !has_happened && is_as_before ? before.cut : after->cut;
}

/* `more`: so many at the end are of the third writer. */
static void check_records(const char *dir, const struct model *model, uint64_t more)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t next = model->first;
    int result;

    options.ret_report = &report;
    must(twinlog_reader_open(dir, &options, &reader), "no reader");
    for (; (result = twinlog_reader_next(reader, &record)) > 0; next++) {
        unsigned char expected[RECORD_BYTES];
        const uint64_t writer = next > model->last ? 3 : next > model->cut ? 2 : 1;
        const size_t size = make_record(writer, next, expected);

        if (record.lsn != next || record.size != size || memcmp(record.data, expected, size) != 0)
            fail("LSN %" PRIu64 " is not record %" PRIu64 " of writer %" PRIu64 ", %zu bytes", record.lsn,
                 next, writer, size);
    }
    if (result < 0 || next != model->last + more + 1)
        fail("a reader stopped before LSN %" PRIu64 ", the last is %" PRIu64 ": %s; %s", next,
             model->last + more, twinlog_strerror(result), report.text);
    twinlog_reader_close(reader);
    must(twinlog_verify(dir, NULL, NULL), "verify");
}

static void judge(const struct scenario *scenario)
{
    struct twinlog *log = open_log(log_dir);
    struct model found = look_at(log), again;

    check_model(scenario, &found);
    must(twinlog_close(log), "closing");
    check_records(log_dir, &found, 0);
    log = open_log(log_dir);
    again = look_at(log);
    if (!fits(&again, &found, found.last))
        fail("%s: the second opening found another log than the first", scenario->name);
    for (unsigned i = 0; i < MORE; i++)
        must(append(log, 3, false), "appending");
    must(twinlog_close(log), "closing");
    check_records(log_dir, &found, MORE);
}

/* It is complete, or refused. */
static void judge_copy(void)
{
    struct twinlog_options options = small;
    struct twinlog *log;
    const bool must_be_there = atomic_load(&shared->has_returned);
    int result;

    options.flags |= TWINLOG_MUST_EXIST;
    result = twinlog_open(copy_dir, &options, &log);
    if (result < 0 && must_be_there)
        fail("a backup cannot be opened: %s", twinlog_strerror(result));
    if (result == 0) {
        const struct model found = look_at(log);

        if (!fits(&found, &before, before.last))
            fail("a backup holds LSN %" PRIu64 " to %" PRIu64 ", cursor %" PRIu64 ", value %u", found.first,
                 found.last, found.cursor, found.version);
        must(twinlog_close(log), "closing a backup");
        check_records(copy_dir, &before, 0);
    }
}

/* ---- over and over ----------------------------------------------------------------------------- */

static void set_stage(const struct scenario *scenario)
{
    const bool creates = scenario->traits & CREATES;

    remove_directory(log_dir);
    remove_directory(copy_dir);
    if ((creates && mkdir(log_dir, 0777) < 0) || mkdir(copy_dir, 0777) < 0)
        fail("no directory: %s", strerror(errno));
    if (!creates)
        copy_directory(template_dir, log_dir);
    atomic_store(&shared->acked, 0);
    atomic_store(&shared->has_returned, false);
    atomic_store(&shared->can_tear, false);
    atomic_store(&shared->result, 0);
}

static bool play_and_judge(const struct scenario *scenario, uint64_t at_step, bool *ret_can_tear)
{
    bool was_killed;
    pid_t pid;

    set_stage(scenario);
    pid = fork();
    if (pid == 0)
        play(scenario, at_step);
    was_killed = is_killed(pid);
    *ret_can_tear = atomic_load(&shared->can_tear);
    if (atomic_load(&shared->result) < 0)
        fail("%s: %s", scenario->name, twinlog_strerror(atomic_load(&shared->result)));
    if (was_killed) {
        pid = fork();
        if (pid == 0)
            play_opening(1 + at_step % 31);
        is_killed(pid);
    }
    judge(scenario);
    if (scenario->call == call_backup)
        judge_copy();
    return was_killed;
}

static uint64_t play_all_steps(const struct scenario *scenario)
{
    for (uint64_t at_step = 1; at_step < MANY_STEPS; at_step++) {
        bool can_tear;

        tears = false;
        if (!play_and_judge(scenario, at_step, &can_tear))
            return at_step - 1;
        tears = true;
        if (can_tear)
            play_and_judge(scenario, at_step, &can_tear);
    }
    fail("%s takes more than %u steps", scenario->name, MANY_STEPS);
}

static void make_template(void)
{
    const pid_t pid = fork();

    if (pid == 0) {
        struct twinlog *log;

        must(twinlog_open(template_dir, &small, &log), "no log");
        must(fill_template(log), "the log cannot be filled");
        die();
    }
    is_killed(pid);
}

static void make_directory(void)
{
    const char *parent = getenv("TMPDIR");

    snprintf(directory, sizeof(directory), "%s/twinlog-steps-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(directory)) {
        perror(directory);
        exit(EXIT_FAILURE);
    }
    snprintf(log_dir, sizeof(log_dir), "%s/log", directory);
    snprintf(copy_dir, sizeof(copy_dir), "%s/copy", directory);
    snprintf(template_dir, sizeof(template_dir), "%s/template", directory);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("no memory: %s", strerror(errno));
}

int main(void)
{
    uint64_t total = 0;

    make_directory();
    make_template();
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        const uint64_t count = play_all_steps(&scenarios[i]);

        printf("%s: %" PRIu64 " steps\n", scenarios[i].name, count);
        fflush(stdout);
        if (count == 0)
            fail("%s changes nothing", scenarios[i].name);
        total += count;
    }
    remove_directory(log_dir);
    remove_directory(copy_dir);
    remove_directory(template_dir);
    rmdir(directory);
    printf("crash-steps: killed at each of %" PRIu64 " steps of %zu calls, and again at the next opening\n",
           total, sizeof(scenarios) / sizeof(scenarios[0]));
    return EXIT_SUCCESS;
}
