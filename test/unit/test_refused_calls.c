/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each system call of what a program does with a log or a sink, refused in turn. Whatever the call was: no record that
 * was acknowledged is missing, no reader takes a part for the whole, no refusal is told as damage, the process keeps no
 * descriptor and no mapping, and nothing stays locked.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "members.h"
#include "refuse.h"
#include "sinks.h"
#include "suites.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <twinlog_sink.h>
#include <unistd.h>

/* What a call that is refused gets. A sanitizer has seen all that it can with the first one, and takes ten times as
 * long. */
static const struct error {
    const char *name;
    int error;
} errors[] = {
    { "EIO", EIO },
#if !HAS_SANITIZER
    { "ENOSPC", ENOSPC },
    { "EPERM", EPERM },
#endif
};

static char template_dir[320], copy_dir[320];

/* ---- each call in turn ---------------------------------------------------------------------------- */

struct story {
    const char *name;
    void (*prepare)(void);
    int (*tell)(void);       /* its calls are refused */
    void (*check)(int told); /* what it has returned */
};

static struct rlimit allowed; /* descriptors */

static const char *now_in; /* the name of the story */
static unsigned now;       /* which of its calls is refused */
static int now_with;       /* the error that it gets */

/* For messages. */
static const char *where(void)
{
    static char text[160];
    if (was_refused())
        snprintf(text, sizeof(text), "%s, after error %d of call %u (system call %d)", now_in, now_with, now,
                 number_of_refused());
    else
        snprintf(text, sizeof(text), "%s, with no call refused", now_in);
    return text;
}

struct kept {
    unsigned files, mappings;
};

/* Descriptors, and mappings of files of the test; none where there is no /proc. */
static struct kept count_kept(void)
{
    struct kept kept = { 0 };
    char line[700];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof(line), maps))
        kept.mappings += strstr(line, log_parent) != NULL;
    if (maps)
        fclose(maps);
    DIR *descriptors = opendir("/proc/self/fd");
    while (descriptors && readdir(descriptors))
        kept.files++;
    if (descriptors)
        closedir(descriptors);
    return kept;
}

/* False if the story makes fewer calls than that: then each of them has been refused. */
static bool tell_with_refusal(const struct story *story, unsigned number, int error)
{
    now_in = story->name;
    now = number;
    now_with = error;
    story->prepare();

    const struct kept before = count_kept();
    const int told = with_refused_call(story->tell, number, error);
    ck_assert_int_ne(told, CANNOT_REFUSE);
    const struct kept after = count_kept();

    ck_assert_msg(before.files == after.files && before.mappings == after.mappings,
                  "%s: told %d; %u descriptors became %u, %u mappings %u", where(), told, before.files,
                  after.files, before.mappings, after.mappings);
    ck_assert_msg(was_refused() || told == 0, "%s: %s", where(), twinlog_strerror(told));
    ck_assert_msg(told != TWINLOG_ECORRUPT && told != TWINLOG_EFOREIGN && told != TWINLOG_EVERSION,
                  "%s: told as: %s", where(), twinlog_strerror(told));
    story->check(told);
    return was_refused();
}

static int call_nothing(void)
{
    return 0;
}

static bool can_refuse(void)
{
    const char *why = NULL;
    if (HAS_THREAD_SANITIZER)
        why = "the thread sanitizer makes calls of its own";
    else if (with_refused_call(call_nothing, 0, EIO) == CANNOT_REFUSE)
        why = "no filter of system calls with a listener may be loaded";
    if (why)
        fprintf(stderr, "SKIP refused_calls: %s\n", why);
    return !why;
}

static unsigned place_of(int error)
{
    unsigned i = 0;
    while (errors[i].error != error)
        i++;
    return i;
}

#define TURNS 3u

/* By turns each call gets one of the errors, the next one at the next commit, and not each of them. With a sanitizer,
 * which has one error, this is one of three calls. */
static bool is_left_out(unsigned number, int error)
{
    return takes_turns() && (number + turn_of(TURNS)) % TURNS != place_of(error);
}

static void tell_each(const struct story *story, int error)
{
    unsigned number = 0;

    if (!can_refuse())
        return;
    while (is_left_out(number, error) || tell_with_refusal(story, number, error))
        number++;
    ck_assert_msg(number >= TURNS, "%s: none of its calls is one that can be refused", story->name);
}

/* ---- each number of descriptors ------------------------------------------------------------------- */

/* How many descriptors more the process may have, from then on. */
static void limit_files(unsigned more)
{
    const int next = open("/", O_PATH | O_CLOEXEC);
    ck_assert_int_ge(next, 0);
    close(next);
    const struct rlimit limit = { .rlim_cur = (rlim_t)next + more, .rlim_max = allowed.rlim_max };
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* True if the story needs no more than that. What a process lacks is told as what it is, and is no answer to any
 * question. */
static bool tell_with_limit(const struct story *story, unsigned more)
{
    now_in = story->name;
    now = more;
    now_with = EMFILE;
    story->prepare();

    limit_files(more);
    const int told = story->tell();
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &allowed), 0);
    ck_assert_msg(told == 0 || told == -EMFILE, "%s with %u descriptors: told as: %s", story->name, more,
                  twinlog_strerror(told));
    story->check(told);
    return told == 0;
}

static void tell_with_each_limit(const struct story *story)
{
    unsigned more = 0;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &allowed), 0);
    while (!tell_with_limit(story, more))
        more++;
    ck_assert_msg(more > 0, "%s: it needs no descriptor", story->name);
}

/* What a refusal does depends on no disk, and each call in turn would wait for it. */
static void go_to_memory(void)
{
    if (access("/dev/shm", W_OK) == 0)
        ck_assert_int_eq(setenv("TMPDIR", "/dev/shm", 1), 0);
}

static void set_up(void)
{
    go_to_memory();
    logdir_make();
    snprintf(template_dir, sizeof(template_dir), "%s/template", log_parent);
    snprintf(copy_dir, sizeof(copy_dir), "%s/copy", log_parent);
}

static void copy_template(void)
{
    remove_tree(log_dir);
    copy_directory(template_dir, log_dir);
}

/* ---- a writer ------------------------------------------------------------------------------------- */

#define KEPT_RECORDS 60u /* of writer 0, in the template */
#define NEW_RECORDS 60u  /* of writer 1: some segments */
#define CURSOR 5u        /* of the template */

/* Results that stand beside those of the library. */
#define UNEXPLAINED (-ENODATA) /* an opening failed, and its report does not say why */
#define WRONG_RECORD (-EBADE)

static uint32_t mode;
static uint32_t returned; /* records of writer 1 */
static struct twinlog *host;

static struct twinlog_options mode_options(void)
{
    return small(mode);
}

/* A log that was killed. */
static void make_template(uint32_t records)
{
    const struct twinlog_options options = mode_options();
    remove_tree(log_dir);
    struct twinlog *log = log_open(&options);
    append_records(log, 0, 0, records);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", CURSOR), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "name", "value", 5), 0);
    log_kill(log);
    remove_tree(template_dir);
    ck_assert_int_eq(rename(log_dir, template_dir), 0);
}

static int append_new(struct twinlog *log)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < NEW_RECORDS; i++) {
        rc = append_record(log, 1, i, NULL);
        returned += rc == 0;
    }
    return rc;
}

static int write_log(void)
{
    const struct twinlog_options options = mode_options();
    struct twinlog *log;
    returned = 0;
    int rc = log_try(&options, &log);
    if (rc < 0)
        return log_report.error == rc && log_report.text[0] != '\0' ? rc : UNEXPLAINED;
    rc = append_new(log);
    if (rc == 0)
        rc = twinlog_sync(log);
    const int closed = twinlog_close(log);
    return rc < 0 ? rc : closed;
}

/* At once, as nothing has it locked. */
static void expect_records(uint32_t kept)
{
    const struct twinlog_options options = mode_options();
    struct twinlog *log = NULL;
    const int rc = log_try(&options, &log);
    ck_assert_msg(rc == 0, "%s: %s", where(), log_report.text);
    append_records(log, 2, 0, 1);
    log_close(log);
    const struct tally found = log_check();
    ck_assert_uint_eq(found.next[0], kept);
    ck_assert_msg(found.next[1] >= returned, "%s: %u of %u records", where(), found.next[1], returned);
    ck_assert_uint_le(found.next[1], returned + 1); /* the one that failed may be there */
    ck_assert_uint_eq(found.next[2], 1);
}

static void expect_told(int told)
{
    ck_assert_int_ne(told, UNEXPLAINED);
    ck_assert(told < 0 || returned == NEW_RECORDS);
}

static void check_written(int told)
{
    expect_told(told);
    expect_records(KEPT_RECORDS);
}

static void check_made(int told)
{
    expect_told(told);
    expect_records(0);
}

static void remove_log(void)
{
    remove_tree(log_dir);
}

static const struct mode_and_error {
    const char *name;
    uint32_t mode;
    int error;
} modes_and_errors[] = {
    { "a durable log gets EIO", TWINLOG_MODE_DURABLE, EIO },
    { "a mapped log gets EIO", TWINLOG_MODE_MAPPED, EIO },
    { "a shared log gets EIO", TWINLOG_MODE_SHARED, EIO },
#if !HAS_SANITIZER
    { "a durable log gets ENOSPC", TWINLOG_MODE_DURABLE, ENOSPC },
    { "a mapped log gets ENOSPC", TWINLOG_MODE_MAPPED, ENOSPC },
    { "a shared log gets ENOSPC", TWINLOG_MODE_SHARED, ENOSPC },
    { "a durable log gets EPERM", TWINLOG_MODE_DURABLE, EPERM },
    { "a mapped log gets EPERM", TWINLOG_MODE_MAPPED, EPERM },
    { "a shared log gets EPERM", TWINLOG_MODE_SHARED, EPERM },
#endif
};

CASE("logs", set_up, logdir_remove);

TEST_EACH(a_log_that_was_killed_is_opened_and_written, modes_and_errors)
{
    static const struct story story = { "open a killed log", copy_template, write_log, check_written };

    mode = row->mode;
    make_template(KEPT_RECORDS);
    tell_each(&story, row->error);
}

TEST_EACH(a_log_is_made, modes_and_errors)
{
    static const struct story story = { "make a log", remove_log, write_log, check_made };

    mode = row->mode;
    tell_each(&story, row->error);
}

/* ---- beside others of a shared log ------------------------------------------------------------------ */

static void open_host(void)
{
    struct twinlog_options options = mode_options();
    options.flags = LOG_NO_THREADS; /* what it has open changes only by its calls */
    copy_template();
    host = log_open(&options);
}

/* A sync that fails poisons the log for all, but what one process alone may not do is not told to others. */
static void check_host(int told)
{
    const struct twinlog_stat stat = log_stat(host);
    expect_told(told);
    if (stat.poison == 0) {
        append_records(host, 0, KEPT_RECORDS, 1);
        log_close(host);
    } else {
        ck_assert_int_lt(told, 0);
        ck_assert_int_lt(twinlog_close(host), 0);
    }
    expect_records(KEPT_RECORDS + (stat.poison == 0));
}

TEST_EACH(a_shared_log_is_joined, errors)
{
    static const struct story story = { "join", open_host, write_log, check_host };

    mode = TWINLOG_MODE_SHARED;
    make_template(KEPT_RECORDS);
    tell_each(&story, row->error);
}

/* ---- what only looks -------------------------------------------------------------------------------- */

static uint64_t seen;

static int next_is(struct twinlog_reader *reader, uint64_t lsn)
{
    struct twinlog_record record;
    const int rc = twinlog_reader_next(reader, &record);
    if (rc < 0)
        return rc;
    return rc == 1 && record.lsn == lsn ? 0 : WRONG_RECORD;
}

static int read_all(uint32_t flags)
{
    const struct twinlog_reader_options options = { .size = sizeof(options), .flags = flags };
    struct twinlog_reader *reader;
    struct twinlog_record record;
    seen = 0;
    int rc = twinlog_reader_open(log_dir, &options, &reader);
    if (rc < 0)
        return rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0 && record.lsn == seen + 1)
        seen++;
    if (rc > 0)
        rc = WRONG_RECORD;
    if (rc == 0)
        rc = twinlog_reader_seek_time(reader, 1);
    if (rc == 0)
        rc = next_is(reader, 1);
    if (rc == 0)
        rc = twinlog_reader_seek(reader, KEPT_RECORDS / 2);
    if (rc == 0)
        rc = next_is(reader, KEPT_RECORDS / 2);
    twinlog_reader_close(reader);
    return rc;
}

static int read_plainly(void)
{
    return read_all(0);
}

static int read_mapping(void)
{
    return read_all(TWINLOG_READER_MMAP);
}

static int consume(void)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record record = { 0 };
    int rc = twinlog_consumer_open(log_dir, "cursor", NULL, &consumer);
    if (rc < 0)
        return rc;
    seen = CURSOR;
    while ((rc = twinlog_consumer_next(consumer, &record)) > 0 && record.lsn == seen + 1)
        seen++;
    if (rc > 0)
        rc = WRONG_RECORD;
    if (rc == 0)
        rc = twinlog_consumer_commit(consumer, 0);
    twinlog_consumer_close(consumer);
    return rc;
}

/* A new consumer has nothing to read. */
static int consume_what_comes(void)
{
    const struct twinlog_consumer_options options =
        WITH_SIZE(consumer_options, .flags = TWINLOG_CONSUMER_FROM_END);
    struct twinlog_consumer *consumer;
    struct twinlog_record record;
    seen = 0;
    int rc = twinlog_consumer_open(log_dir, "new", &options, &consumer);
    if (rc < 0)
        return rc;
    rc = twinlog_consumer_next(consumer, &record);
    if (rc == 0)
        seen = KEPT_RECORDS;
    twinlog_consumer_close(consumer);
    return rc > 0 ? WRONG_RECORD : rc;
}

static int verify(void)
{
    seen = 0;
    return twinlog_verify(log_dir, NULL, &seen);
}

static int inspect(void)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const int rc = twinlog_inspect(log_dir, &inspection);
    seen = inspection.last_lsn;
    return rc;
}

static int note_segment(void *unused, const struct twinlog_segment *segment)
{
    (void)unused;
    if (segment->first_lsn == seen + 1 && segment->last_lsn > seen)
        seen = segment->last_lsn;
    return 0;
}

static int list(void)
{
    seen = 0;
    return twinlog_segments(log_dir, note_segment, NULL);
}

static int look_only(void)
{
    struct twinlog_options options = small(TWINLOG_MODE_DURABLE);
    options.flags = TWINLOG_READ_ONLY;
    struct twinlog *log;
    struct twinlog_record record;
    unsigned char bytes[RECORD_ROOM];
    char value[10];
    uint64_t cursor = 0;
    int rc = log_try(&options, &log);
    if (rc < 0)
        return rc;
    rc = twinlog_cursor_get(log, "cursor", &cursor);
    if (rc == 0 && cursor != CURSOR)
        rc = WRONG_RECORD;
    if (rc == 0)
        rc = twinlog_meta_get(log, "name", value, sizeof(value), NULL);
    if (rc == 0 && memcmp(value, "value", 5) != 0)
        rc = WRONG_RECORD;
    if (rc == 0)
        rc = twinlog_read(log, KEPT_RECORDS, bytes, sizeof(bytes), &record);
    seen = rc == 0 ? record.lsn : 0;
    const int closed = twinlog_close(log);
    return rc < 0 ? rc : closed;
}

/* Success means all of it. */
static void check_seen(int told)
{
    ck_assert_int_ne(told, WRONG_RECORD);
    ck_assert_msg(told < 0 || seen == KEPT_RECORDS, "%s: %ju records", where(), (uintmax_t)seen);
    ck_assert_uint_le(seen, KEPT_RECORDS);
}

/* Also the next opening begins there. */
static void check_at_end(int told)
{
    check_seen(told);
    ck_assert_int_eq(consume_what_comes(), 0);
}

static const struct story looks[] = {
    { "read", copy_template, read_plainly, check_seen },
    { "read, mapping", copy_template, read_mapping, check_seen },
    { "consume", copy_template, consume, check_seen },
    { "consume what comes", copy_template, consume_what_comes, check_at_end },
    { "verify", copy_template, verify, check_seen },
    { "inspect", copy_template, inspect, check_seen },
    { "list", copy_template, list, check_seen },
    { "look only", copy_template, look_only, check_seen },
};

static void look_with_refusals(const struct story *look, int error)
{
    for (mode = 0; mode < MODES; mode++) {
        make_template(KEPT_RECORDS);
        tell_each(look, error);
    }
}

TEST_EACH(what_looks_sees_all_or_says_why_not, looks)
{
    look_with_refusals(row, EIO);
}

#if !HAS_SANITIZER
TEST_EACH(what_looks_without_space_sees_all_or_says_why_not, looks)
{
    look_with_refusals(row, ENOSPC);
}

TEST_EACH(what_looks_without_permission_sees_all_or_says_why_not, looks)
{
    look_with_refusals(row, EPERM);
}
#endif

/* ---- what copies ------------------------------------------------------------------------------------ */

static void prepare_copy(void)
{
    copy_template();
    remove_tree(copy_dir);
}

static int back_up(void)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    return twinlog_backup(log_dir, copy_dir, NULL, &result);
}

static unsigned told_lost; /* reports of records that the copy has not */

static int count_lost(void *unused, const struct twinlog_report *lost)
{
    (void)unused;
    (void)lost;
    told_lost++;
    return 0;
}

static int repair(void)
{
    const struct twinlog_repair_options options = WITH_SIZE(repair_options, .each = count_lost);
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    told_lost = 0;
    return twinlog_repair(log_dir, copy_dir, &options, &result);
}

/* A copy that verifies is whole, also if the backup has failed. */
static void check_backup(int told)
{
    uint64_t records = 0;
    const int rc = twinlog_verify(copy_dir, NULL, &records);
    ck_assert_msg(told < 0 || rc == 0, "%s: the copy: %s", where(), twinlog_strerror(rc));
    ck_assert_msg(rc < 0 || records == KEPT_RECORDS, "%s: told %d; %ju records are in the copy", where(),
                  told, (uintmax_t)records);
    ck_assert_uint_eq(log_check().next[0], KEPT_RECORDS);
}

/* One that succeeds has copied each record, or has said what it lost. One that fails may leave a part. */
static void check_repair(int told)
{
    uint64_t records = 0;
    if (told == 0) {
        const int rc = twinlog_verify(copy_dir, NULL, &records);
        ck_assert_msg(rc == 0, "%s: the copy: %s", where(), twinlog_strerror(rc));
        ck_assert_msg(records == KEPT_RECORDS || (was_refused() && told_lost > 0),
                      "%s: %ju records are in the copy", where(), (uintmax_t)records);
    }
    ck_assert_uint_eq(log_check().next[0], KEPT_RECORDS);
}

static const struct story copies[] = {
    { "back up", prepare_copy, back_up, check_backup },
    { "repair", prepare_copy, repair, check_repair },
};

static const uint32_t copied_modes[] = {
    TWINLOG_MODE_DURABLE, TWINLOG_MODE_SHARED, /* a mapped log is as a shared one of one process */
};

static void copy_with_refusals(const struct story *copy, int error)
{
    for (size_t i = 0; i < ROWS(copied_modes); i++) {
        mode = copied_modes[i];
        make_template(KEPT_RECORDS);
        tell_each(copy, error);
    }
}

TEST_EACH(a_copy_is_whole_or_says_why_not, copies)
{
    copy_with_refusals(row, EIO);
}

#if !HAS_SANITIZER
TEST_EACH(a_copy_made_without_space_is_whole_or_says_why_not, copies)
{
    copy_with_refusals(row, ENOSPC);
}

TEST_EACH(a_copy_made_without_permission_is_whole_or_says_why_not, copies)
{
    copy_with_refusals(row, EPERM);
}
#endif

/* ---- trims, truncations and names ------------------------------------------------------------------- */

static int change_log(void)
{
    const struct twinlog_options options = mode_options();
    const struct twinlog_trim_options trim = WITH_SIZE(trim_options, .before_lsn = KEPT_RECORDS / 2);
    struct twinlog *log;
    returned = 0;
    int rc = log_try(&options, &log);
    if (rc < 0)
        return rc;
    rc = twinlog_cursor_set(log, "cursor", KEPT_RECORDS);
    if (rc == 0)
        rc = twinlog_meta_set(log, "name", "other", 5);
    if (rc == 0)
        rc = twinlog_trim(log, &trim, NULL);
    if (rc == 0 && mode == TWINLOG_MODE_DURABLE)
        rc = twinlog_truncate(log, KEPT_RECORDS - 3);
    const int closed = twinlog_close(log);
    return rc < 0 ? rc : closed;
}

static void check_changed(int told)
{
    const struct twinlog_options options = mode_options();
    char value[10] = "";
    uint64_t cursor = 0;
    struct twinlog *log = log_open(&options);
    const uint64_t last = twinlog_last_lsn(log), first = twinlog_first_lsn(log);
    ck_assert_int_eq(twinlog_cursor_get(log, "cursor", &cursor), 0);
    ck_assert_int_eq(twinlog_meta_get(log, "name", value, sizeof(value), NULL), 0);
    log_close(log);
    ck_assert(memcmp(value, "value", 5) == 0 || memcmp(value, "other", 5) == 0);
    ck_assert_uint_le(first, KEPT_RECORDS / 2);
    const bool is_cut = mode == TWINLOG_MODE_DURABLE && last == KEPT_RECORDS - 3;
    ck_assert(is_cut || last == KEPT_RECORDS);
    ck_assert(cursor == CURSOR || cursor == last || cursor == KEPT_RECORDS);
    if (told == 0) {
        ck_assert_uint_eq(cursor, last);
        ck_assert_mem_eq(value, "other", 5);
        ck_assert(is_cut || mode != TWINLOG_MODE_DURABLE);
        ck_assert_uint_eq(first, KEPT_RECORDS / 2);
    }

    uint64_t records = 0;
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), 0);
    ck_assert_uint_ge(records, last - first + 1); /* those in front of the head are in its segment */
}

TEST_EACH(a_change_is_made_or_says_why_not, modes_and_errors)
{
    static const struct story story = { "change", copy_template, change_log, check_changed };

    mode = row->mode;
    make_template(KEPT_RECORDS);
    tell_each(&story, row->error);
}

/* ---- with few descriptors ----------------------------------------------------------------------------- */

CASE("few descriptors", set_up, logdir_remove);

TEST_EACH(a_log_that_was_killed_is_opened_and_written_with_few_descriptors, log_modes)
{
    static const struct story story = { "open a killed log", copy_template, write_log, check_written };

    mode = row->mode;
    make_template(KEPT_RECORDS);
    tell_with_each_limit(&story);
}

TEST_EACH(a_log_is_made_with_few_descriptors, log_modes)
{
    static const struct story story = { "make a log", remove_log, write_log, check_made };

    mode = row->mode;
    tell_with_each_limit(&story);
}

TEST(a_shared_log_is_joined_with_few_descriptors)
{
    static const struct story story = { "join", open_host, write_log, check_host };
    mode = TWINLOG_MODE_SHARED;
    make_template(KEPT_RECORDS);
    tell_with_each_limit(&story);
}

TEST_EACH(what_looks_with_few_descriptors_sees_all_or_says_why_not, looks)
{
    for (mode = 0; mode < MODES; mode++) {
        make_template(KEPT_RECORDS);
        tell_with_each_limit(row);
    }
}

TEST_EACH(a_copy_made_with_few_descriptors_is_whole_or_says_why_not, copies)
{
    for (size_t i = 0; i < ROWS(copied_modes); i++) {
        mode = copied_modes[i];
        make_template(KEPT_RECORDS);
        tell_with_each_limit(row);
    }
}

TEST_EACH(a_change_with_few_descriptors_is_made_or_says_why_not, log_modes)
{
    static const struct story story = { "change", copy_template, change_log, check_changed };

    mode = row->mode;
    make_template(KEPT_RECORDS);
    tell_with_each_limit(&story);
}

/* A writer that is open meanwhile: what it lacks for a time is no error for good, and takes nothing. */
static void append_beyond_limit(struct twinlog *log, unsigned more)
{
    int rc = 0;
    returned = 0;
    limit_files(more);
    while (rc == 0 && returned < 5 * NEW_RECORDS) {
        rc = append_record(log, 1, returned, NULL);
        returned += rc == 0;
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &allowed), 0);
    ck_assert_msg(rc == 0 || rc == -EMFILE, "mode %u with %u descriptors: %s", mode, more,
                  twinlog_strerror(rc));
}

TEST_EACH(a_writer_goes_on_when_it_has_descriptors_again, log_modes)
{
    mode = row->mode;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &allowed), 0);
    for (unsigned more = 0; more < 6; more++) {
        const struct twinlog_options options = mode_options();
        remove_log();
        struct twinlog *log = log_open(&options);
        append_beyond_limit(log, more);
        append_records(log, 1, returned, NEW_RECORDS);
        log_close(log);
        ck_assert_uint_eq(log_check().next[1], returned + NEW_RECORDS);
    }
}

/* The reader has found an error, or what is there. */
static void expect_refused_or(struct twinlog_reader *reader, uint64_t lsn)
{
    struct twinlog_record record;
    const int rc = twinlog_reader_next(reader, &record);
    ck_assert_msg(rc == 1 || rc == -EMFILE, "mode %u, record %ju: %s", mode, (uintmax_t)lsn,
                  twinlog_strerror(rc));
    if (rc == 1)
        ck_assert_uint_eq(record.lsn, lsn);
}

static void read_with_limit(struct twinlog_reader *reader, unsigned more)
{
    limit_files(more);
    for (uint64_t lsn = 1; lsn <= KEPT_RECORDS; lsn += 7) {
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        expect_refused_or(reader, lsn);
    }
    ck_assert_int_eq(twinlog_reader_seek_time(reader, 1), 0);
    expect_refused_or(reader, 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &allowed), 0);
}

static void read_beyond_limit(uint32_t flags, uint64_t from, unsigned more)
{
    const struct twinlog_reader_options options = { .size = sizeof(options), .flags = flags };
    struct twinlog_reader *reader;
    ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, from), 0);
    ck_assert_int_eq(next_is(reader, from), 0);
    read_with_limit(reader, more);
    ck_assert_int_eq(twinlog_reader_seek_time(reader, 1), 0);
    ck_assert_int_eq(next_is(reader, 1), 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1), 0);
    reader_expect_last(reader, 1, KEPT_RECORDS);
    twinlog_reader_close(reader);
}

TEST_EACH(a_reader_goes_on_when_it_has_descriptors_again, log_modes)
{
    mode = row->mode;
    make_template(KEPT_RECORDS);
    copy_template();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &allowed), 0);
    for (unsigned more = 0; more < 5; more++)
        for (uint64_t from = 1; from < KEPT_RECORDS; from += 20) {
            read_beyond_limit(0, from, more);
            read_beyond_limit(TWINLOG_READER_MMAP, from, more);
        }
}

/* ---- sinks ------------------------------------------------------------------------------------------ */

#define LINES 40u
#define LINE_BYTES 3000u

static uint32_t sink_flags;
static uint64_t most_bytes; /* 0: it does not rotate */
static unsigned lines_returned;

static int write_sink(void)
{
    struct twinlog_sink_options options = options_of(sink_flags);
    struct twinlog_sink *sink;
    options.max_bytes = most_bytes;
    options.keep_files = LINES;
    lines_returned = 0;
    int rc = twinlog_sink_open(path, &options, &sink);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; rc == 0 && i < LINES; i++) {
        char line[LINE_BYTES];
        memset(line, 'x', sizeof(line));
        snprintf(line, sizeof(line), "%05u", i);
        line[5] = ' ';
        line[sizeof(line) - 1] = '\n';
        rc = twinlog_sink_write(sink, line, sizeof(line), NULL);
        lines_returned += rc == 0;
    }
    if (rc == 0)
        rc = twinlog_sink_sync(sink);
    const int closed = twinlog_sink_close(sink);
    return rc < 0 ? rc : closed;
}

static void remove_sink(void)
{
    remove_tree(log_dir);
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
}

/* Lines in their order, each once, and nothing else. A file that a mapped sink has left may not have been cut; the next
 * one that opens it does so. Returns the number of the line behind them. */
static unsigned count_lines(const char *name, unsigned line)
{
    const bool may_be_uncut = strcmp(name, path) != 0 && (sink_flags & MAPPED);
    size_t size = 0;
    char *text = read_file(name, &size);
    while (may_be_uncut && size > 0 && text[size - 1] == 0)
        size--;
    for (const char *at = text; at < text + size; line++) {
        unsigned number = 0;
        ck_assert_msg(sscanf(at, "%05u ", &number) == 1 && number == line, "%s: line %u is %.10s", where(),
                      line, at);
        const char *newline = memchr(at, '\n', (size_t)(text + size - at));
        ck_assert_ptr_nonnull(newline);
        ck_assert_int_eq(newline + 1 - at, LINE_BYTES);
        at = newline + 1;
    }
    free(text);
    return line;
}

static void check_lines(int told)
{
    struct twinlog_sink *sink = NULL;
    bool has_older = false;
    unsigned lines = 0;
    const int rc = open_as(sink_flags, &sink);
    ck_assert_msg(rc == 0, "%s: %s", where(), twinlog_strerror(rc));
    (void)twinlog_sink_close(sink);                       /* a sync that failed stays failed */
    for (unsigned number = LINES; number > 0; number--) { /* a rename that was refused may leave a gap */
        if (bytes_of(numbered(number)) < 0)
            continue;
        has_older = true;
        lines = count_lines(numbered(number), lines);
    }
    ck_assert_msg(most_bytes == 0 || was_refused() || has_older, "%s: it was not rotated", where());
    lines = count_lines(path, lines);
    ck_assert_msg(lines >= lines_returned, "%s: %u of %u lines", where(), lines, lines_returned);
    ck_assert(told < 0 || lines == LINES);
}

static const struct sink_kind {
    const char *name;
    uint32_t flags;
} sink_kinds[] = {
    { "mapped", MAPPED },
    { "mapped, shared", MAPPED | SHARED },
    { "exact", EXACT },
    { "exact, shared", EXACT | SHARED | TWINLOG_SINK_LINES },
};

static const struct sink_and_error {
    const char *name;
    uint32_t flags;
    int error;
} sinks_and_errors[] = {
    { "mapped, EIO", MAPPED, EIO },
    { "mapped, shared, EIO", MAPPED | SHARED, EIO },
    { "exact, EIO", EXACT, EIO },
    { "exact, shared, EIO", EXACT | SHARED | TWINLOG_SINK_LINES, EIO },
#if !HAS_SANITIZER
    { "mapped, ENOSPC", MAPPED, ENOSPC },
    { "mapped, shared, ENOSPC", MAPPED | SHARED, ENOSPC },
    { "exact, ENOSPC", EXACT, ENOSPC },
    { "exact, shared, ENOSPC", EXACT | SHARED | TWINLOG_SINK_LINES, ENOSPC },
    { "mapped, EPERM", MAPPED, EPERM },
    { "mapped, shared, EPERM", MAPPED | SHARED, EPERM },
    { "exact, EPERM", EXACT, EPERM },
    { "exact, shared, EPERM", EXACT | SHARED | TWINLOG_SINK_LINES, EPERM },
#endif
};

static void set_up_sink(void)
{
    go_to_memory();
    prepare();
}

CASE("sinks", set_up_sink, logdir_remove);

TEST_EACH(a_sink_is_made_and_written, sinks_and_errors)
{
    static const struct story story = { "make a sink", remove_sink, write_sink, check_lines };

    sink_flags = row->flags;
    tell_each(&story, row->error);
}

TEST_EACH(a_sink_goes_from_file_to_file, sinks_and_errors)
{
    static const struct story story = { "rotate a sink", remove_sink, write_sink, check_lines };

    sink_flags = row->flags;
    if (sink_flags == (MAPPED | SHARED)) /* another program would rename its file */
        return;
    most_bytes = LINES / 4 * LINE_BYTES;
    tell_each(&story, row->error);
}

/* ---- what a killed sink has left ----------------------------------------------------------------------- */

#define SYNCED "one\n"
#define ZEROS "\0\0" /* data, as what was written; never synced */

static int write_zeros_and_die(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, SYNCED, strlen(SYNCED), NULL) == 0 && twinlog_sink_sync(sink) == 0);
    EXPECT(twinlog_sink_write(sink, ZEROS, sizeof(ZEROS) - 1, NULL) == 0);
    kill(getpid(), SIGKILL);
    return 1;
}

static void leave_sink(void)
{
    remove_sink();
    ck_assert_int_eq(run_child(write_zeros_and_die), 128 + SIGKILL);
}

static int finish_sink(void)
{
    struct twinlog_sink *sink;
    const int rc = open_as(sink_flags, &sink);
    if (rc < 0)
        return rc;
    return twinlog_sink_close(sink);
}

/* The next one, of which no call is refused, finds all bytes. */
static void check_finished(int told)
{
    static const char all[] = SYNCED ZEROS;
    struct twinlog_sink *sink;
    size_t size;
    (void)told;
    const int rc = open_as(sink_flags, &sink);
    ck_assert_msg(rc == 0, "%s: %s", where(), twinlog_strerror(rc));
    close_sink(sink);
    char *bytes = read_file(path, &size);
    ck_assert_msg(size == sizeof(all) - 1 && memcmp(bytes, all, size) == 0, "%s: %zu bytes are left", where(),
                  size);
    free(bytes);
}

TEST_EACH(what_a_killed_sink_has_left_is_found, sinks_and_errors)
{
    static const struct story story = { "open what was left", leave_sink, finish_sink, check_finished };

    sink_flags = row->flags;
    tell_each(&story, row->error);
}

/* The boot is asked by two ways, and a process that has no descriptor left can go neither. */
TEST_EACH(what_a_killed_sink_has_left_is_found_with_few_descriptors, sink_kinds)
{
    static const struct story story = { "open what was left", leave_sink, finish_sink, check_finished };

    sink_flags = row->flags;
    tell_with_each_limit(&story);
}

/* The opening keeps in mind what few descriptors have allowed it to see. */
static int open_write_and_die(void)
{
    struct twinlog_sink *sink;
    limit_files(now);
    const int rc = open_as(MAPPED | SHARED, &sink);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &allowed), 0);
    if (rc == -EMFILE)
        return CANNOT_RUN;
    EXPECT(rc == 0);
    EXPECT(twinlog_sink_write(sink, SYNCED ZEROS, sizeof(SYNCED ZEROS) - 1, NULL) == 0);
    kill(getpid(), SIGKILL);
    return 1;
}

TEST(a_sink_that_was_made_with_few_descriptors_and_killed_can_be_opened)
{
    int died = CANNOT_RUN;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &allowed), 0);
    sink_flags = MAPPED | SHARED;
    for (now = 0; died == CANNOT_RUN; now++) {
        remove_sink();
        died = run_child(open_write_and_die);
    }
    ck_assert_int_eq(died, 128 + SIGKILL);
    now_in = "open what was made";
    check_finished(0);
}

/* ---- where the bytes of a sink end -------------------------------------------------------------------- */

#define WRITTEN "one\ntwo\n"

static struct twinlog_sink *writing;
static uint64_t end;

static void begin_sink(void)
{
    remove_sink();
    ck_assert_int_eq(open_as(sink_flags, &writing), 0);
    put(writing, WRITTEN);
}

static int ask_by_name(void)
{
    end = 0;
    return twinlog_sink_end(path, &end);
}

static int ask_by_descriptor(void)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    end = 0;
    const int rc = twinlog_sink_end_of(fd, 0, &end);
    close(fd);
    return rc < 0 ? rc : 0; /* 1: a process has it open */
}

static void check_end(int told)
{
    ck_assert_msg(told < 0 || end == strlen(WRITTEN), "%s: the end is %ju", where(), (uintmax_t)end);
    close_sink(writing);
    expect_text(path, WRITTEN);
}

TEST_EACH(the_end_of_a_sink_is_found_or_not_told, sinks_and_errors)
{
    static const struct story by_name = { "end by name", begin_sink, ask_by_name, check_end };
    static const struct story by_descriptor = { "end by descriptor", begin_sink, ask_by_descriptor,
                                                check_end };

    sink_flags = row->flags;
    tell_each(&by_name, row->error);
    tell_each(&by_descriptor, row->error);
}
