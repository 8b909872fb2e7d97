/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which call works in which mode: every function that takes a log or its directory, called in every mode, against the
 * table in man/twinlog.7. The table there is what this suite prints when the two differ.
 */
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 5u

static const struct twinlog_edit edit = {
    .kind = TWINLOG_EDIT_SET_VALUE, .name = "changed", .data = "bytes", .size = SIZE
};
static const struct twinlog_entry entries[2] = { { .data = "first", .size = SIZE },
                                                 { .data = "other", .size = SIZE } };

/* ---- the calls, one after the other on an open log, which has records at all times ----------------------------- */

static int submit(struct twinlog *log)
{
    struct twinlog_queue *queue;
    struct twinlog_request request = { 0 }, *done;

    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    request.queue = queue;
    const int rc = twinlog_submit(log, entries, 1, NULL, &request);
    if (rc == 0)
        ck_assert_int_eq(twinlog_queue_poll(queue, &done, 1, -1), 1);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    return rc;
}

/* The result of the call that the request stands for. */
static int finish(struct twinlog_queue *queue, int rc)
{
    struct twinlog_request *done;

    if (rc == 0) {
        ck_assert_int_eq(twinlog_queue_poll(queue, &done, 1, -1), 1);
        rc = done->result;
    }
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    return rc;
}

static int submit_sync(struct twinlog *log)
{
    struct twinlog_request request = { 0 };
    ck_assert_int_eq(twinlog_queue_open(&request.queue), 0);
    return finish(request.queue, twinlog_submit_sync(log, &request));
}

static int submit_truncate(struct twinlog *log)
{
    struct twinlog_request request = { 0 };
    ck_assert_int_eq(twinlog_queue_open(&request.queue), 0);
    return finish(request.queue, twinlog_submit_truncate(log, twinlog_last_lsn(log), &request));
}

static int submit_change(struct twinlog *log)
{
    const struct twinlog_edit set = {
        .kind = TWINLOG_EDIT_SET_VALUE, .name = "value", .data = "b", .size = 1
    };
    struct twinlog_request request = { 0 };

    ck_assert_int_eq(twinlog_queue_open(&request.queue), 0);
    return finish(request.queue,
                  twinlog_submit_change(log, &WITH_SIZE(change, .edits = &set, .edit_count = 1), &request));
}

static int reset(struct twinlog *log)
{
    const int rc = twinlog_reset(log, 100);
    return rc < 0 ? rc : twinlog_append(log, "bytes", SIZE, NULL);
}

static int each_cursor(void *context, const char *name, uint64_t lsn)
{
    (void)context, (void)name, (void)lsn;
    return 0;
}

static int each_value(void *context, const char *name, const void *data, size_t size)
{
    (void)context, (void)name, (void)data, (void)size;
    return 0;
}

static struct twinlog_reader *reader;

static int read_first(int opened)
{
    struct twinlog_record record;

    if (opened < 0)
        return opened;
    const int rc = twinlog_reader_next(reader, &record);
    twinlog_reader_close(reader);
    return rc;
}

static int read_one(struct twinlog *log)
{
    struct twinlog_record record;
    char data[SIZE];
    return twinlog_read(log, twinlog_first_lsn(log), data, sizeof(data), &record);
}

/* ---- the calls on the directory, beside the log that is open -------------------------------------------------- */

static int consumer_open(void)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record record;
    int rc = twinlog_consumer_open(log_dir, "consumer", NULL, &consumer);
    if (rc < 0)
        return rc;
    rc = twinlog_consumer_next(consumer, &record);
    if (rc > 0)
        rc = twinlog_consumer_commit(consumer, 0);
    twinlog_consumer_close(consumer);
    return rc;
}

/* The writer is this process, and has no thread yet that looks. */
static int ask_trim(void)
{
    const int rc = twinlog_ask_trim(log_dir, &WITH_SIZE(trim_options, .before_lsn = 1), 0, NULL);
    return rc == -ETIMEDOUT ? 0 : rc;
}

static int plan_trim(void)
{
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;

    return twinlog_plan_trim(log_dir, &WITH_SIZE(trim_options, .before_lsn = 1), &result);
}

static int each_segment(void *context, const struct twinlog_segment *segment)
{
    (void)context, (void)segment;
    return 0;
}

static const char *new_dir(const char *name)
{
    static char path[400];
    snprintf(path, sizeof(path), "%s/%s", log_parent, name);
    return path;
}

static int backup(void)
{
    static unsigned number;
    char name[32];

    snprintf(name, sizeof(name), "backup%u", number++);
    return twinlog_backup(log_dir, new_dir(name), NULL, NULL);
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

/* Each call is an expression of `log`. */
#define DO_EACH_CALL(DO)                                                                                     \
    DO(open, "", 0) /* it is open */                                                                         \
    DO(append, "", twinlog_append(log, "bytes", SIZE, NULL))                                                 \
    DO(enqueue, "", twinlog_enqueue(log, "bytes", SIZE, NULL))                                               \
    DO(append_batch, " , one record", twinlog_append_batch(log, entries, 1, NULL, NULL))                     \
    DO(append_batch, " , several records", twinlog_append_batch(log, entries, 2, NULL, NULL))                \
    DO(wait, "", twinlog_wait(log, twinlog_last_lsn(log), TWINLOG_LEVEL_OF_MODE, 0))                         \
    DO(sync, "", twinlog_sync(log))                                                                          \
    DO(set_flush_interval, "", twinlog_set_flush_interval(log, 60000))                                       \
    DO(cancel, "", twinlog_cancel(log, &(struct twinlog_cancel){ 0 }))                                       \
    DO(skip, "", twinlog_skip(log, twinlog_last_lsn(log) + 2))                                               \
    DO(skip_lost, "", twinlog_skip_lost(log, twinlog_last_lsn(log) + 2))                                     \
    DO(submit, "", submit(log))                                                                              \
    DO(submit_sync, "", submit_sync(log))                                                                    \
    DO(submit_truncate, "", submit_truncate(log))                                                            \
    DO(submit_change, "", submit_change(log))                                                                \
    DO(first_lsn, "", twinlog_first_lsn(log) > 0 ? 0 : -EINVAL)                                              \
    DO(last_lsn, "", twinlog_last_lsn(log) > 0 ? 0 : -EINVAL)                                                \
    DO(written_lsn, "", twinlog_written_lsn(log) > 0 ? 0 : -EINVAL)                                          \
    DO(durable_lsn, "", twinlog_durable_lsn(log) > 0 ? 0 : -EINVAL)                                          \
    DO(trim, "", twinlog_trim(log, &WITH_SIZE(trim_options, .before_lsn = twinlog_first_lsn(log)), NULL))    \
    DO(truncate, "", twinlog_truncate(log, twinlog_last_lsn(log)))                                           \
    DO(reset, "", reset(log))                                                                                \
    DO(cursor_set, "", twinlog_cursor_set(log, "cursor", 0))                                                 \
    DO(cursor_get, "", twinlog_cursor_get(log, "cursor", &(uint64_t){ 0 }))                                  \
    DO(cursor_remove, "", twinlog_cursor_remove(log, "cursor"))                                              \
    DO(cursor_each, "", twinlog_cursor_each(log, each_cursor, NULL))                                         \
    DO(meta_set, "", twinlog_meta_set(log, "value", "bytes", SIZE))                                          \
    DO(meta_get, "", twinlog_meta_get(log, "value", (char[SIZE]){ 0 }, SIZE, NULL))                          \
    DO(meta_remove, "", twinlog_meta_remove(log, "value"))                                                   \
    DO(meta_each, "", twinlog_meta_each(log, each_value, NULL))                                              \
    DO(change, " , edits", twinlog_change(log, &WITH_SIZE(change, .edits = &edit, .edit_count = 1), NULL))   \
    DO(change, " , with a trim", twinlog_change(log, &WITH_SIZE(change, .trim_before_lsn = 1), NULL))        \
    DO(reader_attach, "", read_first(twinlog_reader_attach(log, NULL, &reader)))                             \
    DO(read, "", read_one(log))                                                                              \
    DO(stat, "", twinlog_stat(log, &(struct twinlog_stat)TWINLOG_STAT_INIT))                                 \
    DO(timings, "", twinlog_timings(log, &(struct twinlog_timings)TWINLOG_TIMINGS_INIT))                     \
    DO(close, "", 0) /* at the end */                                                                        \
    DO(reader_open, "", read_first(twinlog_reader_open(log_dir, NULL, &reader)))                             \
    DO(consumer_open, "", consumer_open())                                                                   \
    DO(watch, "", twinlog_watch(log_dir, &(struct twinlog_stat)TWINLOG_STAT_INIT, NULL))                     \
    DO(ask_trim, "", ask_trim())                                                                             \
    DO(plan_trim, "", plan_trim())                                                                           \
    DO(inspect, "", twinlog_inspect(log_dir, &(struct twinlog_inspection)TWINLOG_INSPECTION_INIT))           \
    DO(segments, "", twinlog_segments(log_dir, each_segment, NULL))                                          \
    DO(verify, "", twinlog_verify(log_dir, NULL, NULL))                                                      \
    DO(backup, "", backup())                                                                                 \
    DO(repair, "", twinlog_repair(log_dir, new_dir("repaired"), NULL, NULL))

#define MODE_ROW(name, note, call) { #name, note },
static const struct {
    const char *name, *note;
} rows[] = { DO_EACH_CALL(MODE_ROW) };
#define MODE_ROWS (sizeof(rows) / sizeof(rows[0]))

#define MODES 4u /* durable, mapped, shared, read-only */

static struct twinlog_options options_of(unsigned mode)
{
    const struct twinlog_options options = LOG_OPTIONS(.flags = mode == 3 ? TWINLOG_READ_ONLY : 0,
                                                       .mode = mode == 3 ? TWINLOG_MODE_DURABLE : mode);
    return options;
}

static const char *words_of(int result)
{
    static const struct {
        int error;
        const char *name;
    } errors[] = { { ENOTSUP, "\\-ENOTSUP" },
                   { EROFS, "\\-EROFS" },
                   { EBUSY, "\\-EBUSY" },
                   { ESRCH, "\\-ESRCH" },
                   { EINVAL, "\\-EINVAL" } };

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (result == -errors[i].error)
            return errors[i].name;
    return result >= 0 ? "yes" : twinlog_strerror(result);
}

static int results[MODE_ROWS][MODES];

static void call_all(unsigned mode)
{
    const struct twinlog_options options = options_of(mode);
    struct twinlog *log = log_open(&options);
    size_t row = 0;

#define CALL(name, note, call) results[row++][mode] = call;
    DO_EACH_CALL(CALL)
    log_close(log);
}

static bool works_in_every_mode(size_t row)
{
    for (unsigned mode = 0; mode < MODES; mode++)
        if (results[row][mode] < 0)
            return false;
    return true;
}

/* As the man page should have it: without the calls that work in every mode. */
static void make_table(char *text, size_t room)
{
    size_t used = 0;

    for (size_t i = 0; i < MODE_ROWS; i++) {
        if (works_in_every_mode(i))
            continue;
        used += (size_t)snprintf(text + used, room - used, ".It Fn twinlog_%s%s", rows[i].name, rows[i].note);
        for (unsigned mode = 0; mode < MODES; mode++)
            used += (size_t)snprintf(text + used, room - used, " Ta %s", words_of(results[i][mode]));
        used += (size_t)snprintf(text + used, room - used, "\n");
        ck_assert_uint_lt(used, room);
    }
}

static char *read_source(const char *name)
{
    FILE *file = fopen(name, "r");

    ck_assert_msg(file != NULL, "cannot open %s", name);
    char *text = calloc(1, 200000);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_lt(fread(text, 1, 199999, file), 199999);
    fclose(file);
    return text;
}

CASE("table", logdir_make, logdir_remove);

TEST(the_table_in_the_man_page_is_what_the_calls_return)
{
    static char table[16384];
    char *page = read_source(SOURCE_DIR "/man/twinlog.7");

    for (unsigned mode = 0; mode < MODES; mode++)
        call_all(mode);
    make_table(table, sizeof(table));
    const char *begin = strstr(page, "\n.It Fn twinlog_append Ta");
    const bool is_there = begin && strncmp(begin + 1, table, strlen(table)) == 0 &&
                          strncmp(begin + 1 + strlen(table), ".El\n", 4) == 0;
    if (!is_there)
        fprintf(stderr, "man/twinlog.7 should have this table:\n%s.El\n", table);
    ck_assert(is_there);
    free(page);
}

static bool has_row(const char *name, size_t size)
{
    for (size_t i = 0; i < MODE_ROWS; i++)
        if (strlen(rows[i].name) == size && strncmp(rows[i].name, name, size) == 0)
            return true;
    return false;
}

static unsigned find_rows_of(const char *path)
{
    char *header = read_source(path);
    unsigned found = 0;

    regex_t declaration;
    regmatch_t match[3];
    ck_assert_int_eq(regcomp(&declaration, "twinlog_([a-z_]+)\\((struct twinlog \\*log|const char \\*dir)\\b",
                             REG_EXTENDED),
                     0);
    for (const char *at = header; regexec(&declaration, at, 3, match, 0) == 0;
         at += match[0].rm_eo, found++) {
        const size_t size = (size_t)(match[1].rm_eo - match[1].rm_so);
        if (!has_row(at + match[1].rm_so, size))
            fprintf(stderr, "twinlog_%.*s is not in the table\n", (int)size, at + match[1].rm_so);
        ck_assert(has_row(at + match[1].rm_so, size));
    }
    regfree(&declaration);
    free(header);
    return found;
}

TEST(every_function_that_takes_a_log_is_in_the_table)
{
    const unsigned found =
        find_rows_of(SOURCE_DIR "/include/twinlog.h") + find_rows_of(SOURCE_DIR "/include/twinlog_admin.h");
    ck_assert_uint_eq(found, MODE_ROWS - 2); /* two have two rows each */
}
