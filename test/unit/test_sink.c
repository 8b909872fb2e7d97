/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files: what include/twinlog_sink.h says, sentence by sentence. The sink's objects are compiled with its points,
 * see base/point.h.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "sink/claim.h"
#include "sink/sink.h"
#include "sinks.h"
#include "suites.h"
#include "ways_to_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256 /* Linux 5.10 */
#endif

CASE("sink", prepare, logdir_remove);

TEST(bytes_stay_and_new_ones_come_behind_them)
{
    uint64_t offset = 99;
    put_text(path, "old\n");
    struct twinlog_sink *sink = open_sink(NULL);
    ck_assert_int_eq(twinlog_sink_write(sink, "new\n", 4, &offset), 0);
    ck_assert_uint_eq(offset, 4);
    ck_assert_int_ge(bytes_of(path), 64 * (int64_t)KIB); /* larger while it is open */
    size_t size;
    char *bytes = read_file(path, &size); /* and seen at once */
    ck_assert_str_eq(bytes, "old\nnew\n");
    free(bytes);
    ck_assert_int_ge(bytes_of(area_of(path)), 0);
    close_sink(sink);
    expect_text(path, "old\nnew\n");
    expect_nothing_beside();
}

/* Nothing says whether they are data. */
TEST(zeros_that_were_there_are_asked_about)
{
    struct twinlog_sink *sink = NULL;
    put_file(path, "a\0\0\0", 4);
    ck_assert_int_eq(open_as(MAPPED, &sink), -EUCLEAN);
    ck_assert_int_eq(bytes_of(path), 4);
    expect_nothing_beside();
    ck_assert_int_eq(open_as(MAPPED | TWINLOG_SINK_DROP_ZEROS, &sink), 0);
    uint64_t offset;
    ck_assert_int_eq(twinlog_sink_write(sink, "b", 1, &offset), 0);
    ck_assert_uint_eq(offset, 1);
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), 2);
    expect_nothing_beside();
}

/* Those that went through a sink are known. */
TEST(zeros_that_were_written_are_bytes)
{
    struct twinlog_sink *sink = NULL;
    for (unsigned i = 1; i <= 3; i++) {
        ck_assert_int_eq(open_as(MAPPED, &sink), 0);
        ck_assert_int_eq(twinlog_sink_write(sink, "a\0\0", 3, NULL), 0);
        close_sink(sink);
        ck_assert_int_eq(bytes_of(path), 3 * i);
        ck_assert_int_ge(bytes_of(area_of(path)), 0);
    }
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    put(sink, "\n");
    ck_assert_int_eq(twinlog_sink_sync(sink), 0); /* so that it is needed no more to know of the zeros */
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), 10);
    expect_nothing_beside();
}

TEST(pieces_are_one_write)
{
    uint64_t offset;
    struct iovec pieces[] = { { "one ", 4 }, { NULL, 0 }, { "two\n", 4 } };
    struct twinlog_sink *sink = open_sink(NULL);
    ck_assert_int_eq(twinlog_sink_writev(sink, pieces, 3, &offset), 0);
    ck_assert_uint_eq(offset, 0);
    ck_assert_int_eq(twinlog_sink_writev(sink, pieces, 0, &offset), 0);
    ck_assert_uint_eq(offset, 8);
    ck_assert_int_eq(twinlog_sink_write(sink, NULL, 0, NULL), 0);
    ck_assert_uint_eq(look_at(sink).bytes, 8);
    close_sink(sink);
    expect_text(path, "one two\n");
}

TEST(arguments_are_checked)
{
    struct twinlog_sink *sink = NULL;
    struct iovec pieces[2] = { { "a", (size_t)1 << 30 }, { "b", 1 } }, none = { NULL, 1 };
    ck_assert_int_eq(twinlog_sink_open(NULL, NULL, &sink), -EINVAL);
    ck_assert_int_eq(twinlog_sink_open(path, NULL, NULL), -EINVAL);
    sink = open_sink(NULL);
    ck_assert_int_eq(twinlog_sink_write(NULL, "a", 1, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_write(sink, NULL, 1, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_write(sink, "a", ((size_t)1 << 30) + 1, NULL), -EMSGSIZE);
    ck_assert_int_eq(twinlog_sink_writev(sink, pieces, 2, NULL), -EMSGSIZE);
    ck_assert_int_eq(twinlog_sink_writev(sink, pieces, -1, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_writev(sink, NULL, 1, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_writev(sink, &none, 1, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_sync(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_reopen(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_rotate(NULL, 0), -EINVAL);
    ck_assert_int_eq(twinlog_sink_rotation_error(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_sync_error(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_close(NULL), 0);
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), 0);
}

TEST(what_has_no_end_is_told)
{
    const int fd = open(log_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t end = 99;

    put_text(path, "a\n");
    ck_assert_int_eq(twinlog_sink_end(NULL, &end), -EINVAL);
    ck_assert_int_eq(twinlog_sink_end(path, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_end_of(fd, 0, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_end_of(fd, 0, &end), -ENOTSUP);
    ck_assert_int_eq(twinlog_sink_end_of(-1, 0, &end), -EBADF);
    ck_assert_uint_eq(end, 99);
    close(fd);
}

static const struct long_name_row {
    const char *name;
    size_t directory_bytes, name_bytes;
} long_name_rows[] = {
    { "a name that is too long", 0, NAME_MAX + 1 },
    { "a path that is too long", PATH_MAX, 1 },
};

TEST_EACH(what_is_too_long_for_a_name_is_refused, long_name_rows)
{
    char name[PATH_MAX + NAME_MAX + 8];
    struct twinlog_sink *sink;
    uint64_t end;

    for (size_t i = 0; i < row->directory_bytes; i++)
        name[i] = i % 2 == 0 ? '.' : '/';
    memset(name + row->directory_bytes, 'x', row->name_bytes);
    name[row->directory_bytes + row->name_bytes] = '\0';
    ck_assert_int_eq(twinlog_sink_open(name, NULL, &sink), -ENAMETOOLONG);
    ck_assert_int_eq(twinlog_sink_end(name, &end), -ENAMETOOLONG);
}

#define SIZED .size = sizeof(struct twinlog_sink_options)

static const struct {
    const char *name;
    struct twinlog_sink_options options;
} refused_options[] = {
    { "an unknown flag", { SIZED, .flags = 1u << 20 } },
    { "more numbered files than names", { SIZED, .flags = EXACT, .keep_files = 10000 } },
    { "a first size that no file has", { SIZED, .flags = MAPPED, .initial_bytes = OFFSET_LIMIT } },
    { "a step that no file grows by", { SIZED, .flags = MAPPED, .growth_bytes = OFFSET_LIMIT } },
    { "a first size of an exact sink", { SIZED, .flags = EXACT, .initial_bytes = 1 } },
    { "a first size of a shared exact sink", { SIZED, .flags = EXACT | SHARED, .initial_bytes = 1 } },
    { "a step of an exact sink", { SIZED, .flags = EXACT, .growth_bytes = 1 } },
    { "lines of a mapped sink", { SIZED, .flags = MAPPED | TWINLOG_SINK_LINES } },
    { "lines of a shared mapped sink", { SIZED, .flags = MAPPED | SHARED | TWINLOG_SINK_LINES } },
    { "a limit of a shared mapped sink", { SIZED, .flags = MAPPED | SHARED, .max_bytes = 4096 } },
};

TEST_EACH(options_that_mean_nothing_are_refused, refused_options)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(twinlog_sink_open(path, &row->options, &sink), -EINVAL);
    ck_assert_ptr_null(sink);
    ck_assert_int_eq(bytes_of(path), -1);
}

static const struct {
    const char *name;
    struct twinlog_sink_options options;
} taken_options[] = {
    { "sizes of a mapped sink", { SIZED, .flags = MAPPED, .initial_bytes = 1, .growth_bytes = 1 } },
    { "a limit of a mapped sink", { SIZED, .flags = MAPPED, .max_bytes = 4096 } },
    { "zeros to drop from a mapped sink", { SIZED, .flags = MAPPED | TWINLOG_SINK_DROP_ZEROS } },
    { "a limit of a shared exact sink", { SIZED, .flags = EXACT | SHARED, .max_bytes = 4096 } },
    { "lines of an exact sink", { SIZED, .flags = EXACT | TWINLOG_SINK_LINES } },
    { "zeros to drop from an exact sink", { SIZED, .flags = EXACT | TWINLOG_SINK_DROP_ZEROS } },
};

TEST_EACH(options_of_its_kind_are_taken, taken_options)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(twinlog_sink_open(path, &row->options, &sink), 0);
    put(sink, "one\n");
    ck_assert(!sink->exact == ((row->options.flags & MAPPED) != 0));
    close_sink(sink);
    expect_text(path, "one\n");
}

static const struct twinlog_sink_options all_0 = TWINLOG_SINK_OPTIONS_INIT;

static const struct unasked_row {
    const char *name;
    const struct twinlog_sink_options *options;
} unasked_rows[] = {
    { "no options", NULL },
    { "options that are all 0", &all_0 },
};

TEST_EACH(a_mapped_sink_is_made_only_when_asked_for, unasked_rows)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(twinlog_sink_open(path, row->options, &sink), 0);
    put(sink, "one\n");
    expect_text(path, "one\n");
    expect_nothing_beside();
    close_sink(sink);
    expect_text(path, "one\n");
}

TEST(what_is_no_file_is_refused)
{
    struct twinlog_sink *sink;
    char target[420], ending[420];
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(open_as(MAPPED, &sink), -ENOTSUP);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkfifo(path, 0666), 0);
    ck_assert_int_eq(open_as(MAPPED, &sink), -ENOTSUP);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert_int_lt(open_as(MAPPED, &sink), 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("no/where", path), 0);
    ck_assert_int_eq(open_as(MAPPED, &sink), -ENOENT);
    ck_assert_int_eq(unlink(path), 0);
    snprintf(ending, sizeof(ending), "%s/", path);
    ck_assert_int_lt(twinlog_sink_open(ending, NULL, &sink), 0);
    snprintf(ending, sizeof(ending), "%s/no/such", path);
    ck_assert_int_eq(twinlog_sink_open(ending, NULL, &sink), -ENOENT);
    expect_nothing_beside();
    /* a link to a file is that file */
    snprintf(target, sizeof(target), "%s/target", log_dir);
    put_text(target, "x\n");
    ck_assert_int_eq(symlink("target", path), 0);
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    put(sink, "y\n");
    close_sink(sink);
    expect_text(target, "x\ny\n");
}

static int answer_of_kernel(const char *name)
{
    const int fd = open(name, O_RDWR | O_CLOEXEC);
    const int rc = fd < 0 ? -errno : 0;
    if (rc == 0)
        close(fd);
    return rc;
}

static int open_by_link(void)
{
    struct twinlog_sink *sink;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", log_dir, "tmpfs", MS_NOSYMFOLLOW, NULL) < 0)
        return CANNOT_RUN;
    put_text(numbered(1), "");
    EXPECT(symlink(numbered(1), path) == 0);
    const int rc = answer_of_kernel(path);
    EXPECT(open_as(MAPPED, &sink) == rc);
    return rc == -ELOOP ? 0 : CANNOT_RUN;
}

/* The file system is mounted so. */
TEST(a_link_that_the_kernel_does_not_follow_is_not_followed)
{
    expect_success_or_skip(run_child(open_by_link), "a_link_that_the_kernel_does_not_follow_is_not_followed",
                           "no file system can be mounted so");
}

#define STICKY 01777 /* everybody may make files there */

static const struct link_row {
    const char *name;
    mode_t directory_mode;
    bool is_directory; /* what the link leads to; the file is in that */
} link_rows[] = {
    { "to a file", 0777, false },
    { "to a file, in a sticky directory", STICKY, false },
    { "to a directory", 0777, true },
    { "to a directory, in a sticky directory", STICKY, true },
};

/* With fs.protected_symlinks it does not follow what another user has put where everybody may make files. That concerns
 * the last link of a path alone. */
TEST_EACH(a_link_of_another_user_is_followed_where_the_kernel_does, link_rows)
{
    struct twinlog_sink *sink;
    char around[420];

    if (geteuid() != 0) {
        fprintf(stderr, "SKIP a_link_of_another_user: only root can give files away\n");
        return;
    }
    ck_assert_int_eq(chmod(log_dir, row->directory_mode), 0);
    put_text(numbered(1), "x\n");
    ck_assert_int_eq(symlink(row->is_directory ? "." : numbered(1), path), 0);
    ck_assert_int_eq(lchown(path, STRANGER, STRANGER), 0);
    snprintf(around, sizeof(around), "%s%s", path, row->is_directory ? "/file" : "");
    if (row->is_directory)
        put_text(around, "x\n");

    const int rc = answer_of_kernel(around);
    ck_assert_int_eq(twinlog_sink_open(around, NULL, &sink), rc);
    if (rc == 0)
        close_sink(sink);
}

/* ---- size ------------------------------------------------------------------------------------------ */

/* By the write that needs it, or by the thread before. */
TEST(the_file_grows_by_what_it_has)
{
    static char block[4096];
    struct twinlog_sink_options options = options_of(MAPPED);
    options.initial_bytes = 5000;
    options.growth_bytes = 16384;
    memset(block, 'x', sizeof(block));
    struct twinlog_sink *sink = open_sink(&options);
    for (uint64_t i = 0; i < 40; i++) {
        const uint64_t bytes = look_at(sink).file_bytes;
        ck_assert_uint_ge(bytes, max_u64(8192, i * sizeof(block)));
        ck_assert_uint_le(bytes, max_u64(8192, i * sizeof(block) + 2 * 16384));
        ck_assert_uint_eq(bytes % 4096, 0);
        ck_assert_int_ge(bytes_of(path), (int64_t)bytes);
        ck_assert_int_eq(twinlog_sink_write(sink, block, sizeof(block), NULL), 0);
    }
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), 40 * 4096);
}

TEST(a_thread_makes_it_larger_ahead)
{
    static char block[20000];
    memset(block, 'x', sizeof(block));
    struct twinlog_sink *sink = open_sink(NULL);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(twinlog_sink_write(sink, block, sizeof(block), NULL), 0);
    AWAIT(look_at(sink).file_bytes > 64 * KIB);
    close_sink(sink);
}

/* A write that begins a step sees to the step behind it, where the thread gets no processor. */
TEST(a_write_makes_pages_present_ahead)
{
    static const char block[STEP_BYTES / 8] = { 'x' };
    struct twinlog_sink *sink = open_sink(&WITH_SIZE(sink_options, .flags = MAPPED));
    stop_thread(sink);
    _Atomic uint64_t *populated = &atomic_load(&sink->file)->area->populated;
    for (unsigned i = 0; i < 80; i++) {
        ck_assert_int_eq(twinlog_sink_write(sink, block, sizeof(block), NULL), 0);
        ck_assert_uint_ge(atomic_load(populated), i < 7 ? 0 : ((i + 1) / 8 + 1) * STEP_BYTES);
    }
    struct iovec pieces[8]; /* each is copied */
    for (unsigned i = 0; i < 8; i++)
        pieces[i] = (struct iovec){ (void *)(uintptr_t)block, sizeof(block) };
    ck_assert_int_eq(twinlog_sink_writev(sink, pieces, 8, NULL), 0);
    ck_assert_uint_ge(atomic_load(populated), 13 * STEP_BYTES);
    close_sink(sink);
}

/* Of the file, in this process. */
static uint64_t mapped_bytes(void)
{
    char line[600];
    uint64_t from, to, sum = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (fgets(line, sizeof(line), maps))
        if (strstr(line, "/out\n") && sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) == 2)
            sum += to - from;
    fclose(maps);
    return sum;
}

static void *write_late(void *context)
{
    ck_assert_int_eq(twinlog_sink_write(context, LINE, strlen(LINE), NULL), 0);
    return NULL;
}

/* Chunks take each other's places; one that a thread still copies into stays. */
TEST(mapped_memory_stays_small)
{
    enum {
        SIZE = WRITTEN_BYTES / 2,
        COUNT = 180 * MIB / SIZE
    };
    static char block[SIZE];
    struct twinlog_sink_options options = options_of(MAPPED);
    if (!can_look_into_proc("mapped_memory_stays_small"))
        return;
    memset(block, 'x', SIZE);
    struct twinlog_sink *sink = open_sink(&options);
    wanted_point = "copy half done";
    signal_there = 0;
    pthread_t thread = start_thread(write_late, sink);
    AWAIT(atomic_load(&shared->was_there));
    for (unsigned i = 0; i < COUNT; i++)
        ck_assert_int_eq(twinlog_sink_write(sink, block, SIZE, NULL), 0);
    ck_assert_uint_lt(mapped_bytes(), 200 * MIB);
    atomic_store(&shared->step, 1);
    pthread_join(thread, NULL);
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), (int64_t)(COUNT * SIZE + strlen(LINE)));
    char *found = read_file(path, &(size_t){ 0 });
    ck_assert_int_eq(strncmp(found, LINE, strlen(LINE)), 0);
    ck_assert_uint_eq(strspn(found + strlen(LINE), "x"), COUNT * SIZE);
    free(found);
}

/* A process that may not make it so large gets an error; others go on. */
static int write_with_limit(void)
{
    const struct rlimit limit = { 128 * KIB, RLIM_INFINITY }, none = { RLIM_INFINITY, RLIM_INFINITY };
    static char block[32768];
    struct twinlog_sink *sink;
    memset(block, 'x', sizeof(block));
    signal(SIGXFSZ, SIG_DFL);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(open_as(MAPPED | SHARED, &sink) == -EFBIG); /* what is beside it */
    EXPECT(setrlimit(RLIMIT_FSIZE, &none) == 0);
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (unsigned i = 0; i < 4; i++)
        EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == 0);
    EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == -EFBIG);
    EXPECT(look_at(sink).bytes == 128 * KIB);
    EXPECT(setrlimit(RLIMIT_FSIZE, &none) == 0);
    EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == 0);
    return twinlog_sink_close(sink);
}

TEST(a_limit_is_an_error_and_no_signal)
{
    ck_assert_int_eq(run_child(write_with_limit), 0);
    ck_assert_int_eq(bytes_of(path), 160 * (int64_t)KIB);
}

/* ---- a process that may not sync ------------------------------------------------------------------ */

static int forbid_and_sync(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "one\n", 4, NULL) == 0);
    EXPECT(forbid(SYS_fdatasync, EPERM));
    EXPECT(twinlog_sink_sync(sink) == -EPERM);
    return twinlog_sink_close(sink);
}

TEST(a_sync_that_one_process_may_not_make_is_no_error_of_the_disk)
{
    struct twinlog_sink *sink;
    ck_assert_int_eq(open_as(MAPPED | SHARED, &sink), 0);
    ck_assert_int_eq(run_child(forbid_and_sync), 0);
    ck_assert_int_eq(twinlog_sink_write(sink, "two\n", 4, NULL), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    ck_assert_int_eq(twinlog_sink_close(sink), 0);
}

/* ---- what is written in one call ------------------------------------------------------------------ */

static const char many[WRITTEN_BYTES];

/* What may not be written is copied: the file is long enough. */
static int write_many_with_limit(void)
{
    const struct rlimit limit = { KIB, RLIM_INFINITY }, none = { RLIM_INFINITY, RLIM_INFINITY };
    struct twinlog_sink *sink;
    EXPECT(open_as(MAPPED, &sink) == 0);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(twinlog_sink_write(sink, many, sizeof(many), NULL) == 0);
    EXPECT(setrlimit(RLIMIT_FSIZE, &none) == 0);
    return twinlog_sink_close(sink);
}

TEST(many_bytes_are_copied_if_they_may_not_be_written)
{
    ck_assert_int_eq(run_child(write_many_with_limit), 0);
    ck_assert_int_eq(bytes_of(path), sizeof(many));
}

/* No page is made present for many bytes. */
TEST(many_bytes_are_written)
{
    struct rusage before, after;
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    getrusage(RUSAGE_THREAD, &before);
    for (unsigned i = 0; i < 64; i++)
        ck_assert_int_eq(twinlog_sink_write(sink, many, sizeof(many), NULL), 0);
    getrusage(RUSAGE_THREAD, &after);
    ck_assert_int_lt(after.ru_minflt - before.ru_minflt, 200);
    put(sink, LINE);
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), (int64_t)(64 * sizeof(many) + strlen(LINE)));
}

/* Else it would be as long as before, with a hole. */
TEST(a_file_that_is_too_short_is_not_written)
{
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    ck_assert_int_eq(truncate(path, 1000), 0);
    ck_assert_int_eq(twinlog_sink_write(sink, many, sizeof(many), NULL), -EIO);
    ck_assert_int_le(bytes_of(path), 1000);
    ck_assert_int_eq(twinlog_sink_close(sink), -EIO);
}

static int write_on_full_disk(void)
{
    static char block[40000];
    struct twinlog_sink *sink;
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    memset(block, 'x', sizeof(block));
    EXPECT(twinlog_sink_write(sink, block, 10, NULL) == 0);
    EXPECT(forbid(SYS_fallocate, ENOSPC));
    EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == 0);
    EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == -ENOSPC);
    EXPECT(twinlog_sink_write(sink, "y", 1, NULL) == 0);
    return twinlog_sink_close(sink);
}

static int open_where_nothing_can_be_reserved(void)
{
    struct twinlog_sink *sink;

    EXPECT(forbid(SYS_fallocate, EOPNOTSUPP));
    EXPECT(open_as(MAPPED | SHARED, &sink) == -ENOTSUP);
    EXPECT(open_as(MAPPED, &sink) == -ENOTSUP);
    return 0;
}

static int open_where_nothing_can_be_mapped(void)
{
    struct twinlog_sink *sink;

    EXPECT(forbid_if(SYS_mmap, ENODEV, 3, MAP_SHARED | MAP_FIXED));
    EXPECT(open_as(MAPPED | SHARED, &sink) == -ENOTSUP);
    EXPECT(open_as(MAPPED, &sink) == -ENOTSUP);
    return 0;
}

/* What the kernel returns has other meanings inside: try again, or later. */
static int open_on_stale_file(void)
{
    struct twinlog_sink *sink;
    EXPECT(forbid(SYS_fallocate, ESTALE));
    alarm(60);
    EXPECT(open_as(MAPPED | SHARED, &sink) == -ESTALE);
    return 0;
}

static int sync_on_busy_disk(void)
{
    struct twinlog_sink *sink;
    EXPECT(forbid(SYS_fdatasync, EAGAIN));
    alarm(60);
    EXPECT(open_as(MAPPED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    EXPECT(rename(path, numbered(1)) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 1);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    twinlog_sink_close(sink);
    return 0;
}

TEST(a_full_disk_claims_nothing)
{
    ck_assert_int_eq(run_child(write_on_full_disk), 0);
    ck_assert_int_eq(bytes_of(path), 40011);
}

#if !HAS_THREAD_SANITIZER /* which needs mmap() itself */
static int write_without_mmap(void)
{
    static char block[40000];
    struct twinlog_sink *sink;
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    memset(block, 'x', sizeof(block));
    EXPECT(forbid(SYS_mmap, ENOMEM));
    for (unsigned i = 0; i < 3; i++)
        EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == 0);
    return twinlog_sink_close(sink);
}

TEST(without_mappings_bytes_are_written)
{
    size_t size;
    ck_assert_int_eq(run_child(write_without_mmap), 0);
    char *bytes = read_file(path, &size);
    ck_assert_uint_eq(size, 3 * 40000);
    ck_assert_uint_eq(strspn(bytes, "x"), size);
    free(bytes);
}
#endif

TEST(a_stale_file_is_an_error)
{
    ck_assert_int_eq(run_child(open_on_stale_file), 0);
}

TEST(a_sync_on_a_busy_disk_is_an_error)
{
    ck_assert_int_eq(run_child(sync_on_busy_disk), 0);
}

static const struct file_before {
    const char *name;
    const char *text; /* NULL: there is no file, and the call makes one */
    const char *text_afterwards;
} files_before[] = {
    { "no file", NULL, "" },
    { "an empty file", "", "" },
    { "a file with a line", "old\n", "old\n" },
};

/* The file stays, also one that the call made. */
static void expect_refused(const struct file_before *file, int (*open_in_child)(void))
{
    if (file->text)
        put_text(path, file->text);
    ck_assert_int_eq(run_child(open_in_child), 0);
    expect_text(path, file->text_afterwards);
    expect_nothing_beside();
}

TEST_EACH(a_file_that_reserves_nothing_is_refused, files_before)
{
    expect_refused(row, open_where_nothing_can_be_reserved);
}

TEST_EACH(a_file_that_can_not_be_mapped_is_refused, files_before)
{
    expect_refused(row, open_where_nothing_can_be_mapped);
}

/* ---- many ------------------------------------------------------------------------------------------ */

#define THREADS 80u /* more than a process has lanes */
#define LINES 200u

struct writer {
    struct twinlog_sink *sink;
    unsigned number;
    int rc;
};

static void *write_lines(void *context)
{
    struct writer *writer = context;
    char line[128];
    for (unsigned i = 0; i < LINES && writer->rc == 0; i++) {
        const int n = snprintf(line, sizeof(line), "%u %u %.*s|\n", writer->number, i, (int)(i % 50),
                               "..................................................");
        writer->rc = twinlog_sink_write(writer->sink, line, (size_t)n, NULL);
    }
    return NULL;
}

/* Each writer's lines in order, whole, none missing. Of several processes: crash-kill sink. */
TEST(threads_write_in_one_piece)
{
    unsigned next[THREADS] = { 0 };
    size_t size;
    pthread_t ids[THREADS];
    struct writer writers[THREADS];
    struct twinlog_sink *sink = open_sink(NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){ sink, i, 0 };
        ids[i] = start_thread(write_lines, &writers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(ids[i], NULL);
        ck_assert_int_eq(writers[i].rc, 0);
    }
    close_sink(sink);
    char *bytes = read_file(path, &size), *line = bytes;
    while (line < bytes + size) {
        unsigned writer, number, used = 0;
        int at = 0;
        ck_assert_int_eq(sscanf(line, "%u %u %n", &writer, &number, &at), 2);
        ck_assert_uint_lt(writer, THREADS);
        ck_assert_uint_eq(number, next[writer]++);
        used = (unsigned)strspn(line + at, ".");
        ck_assert_uint_eq(used, number % 50);
        ck_assert_int_eq(strncmp(line + at + used, "|\n", 2), 0);
        line += (unsigned)at + used + 2;
    }
    free(bytes);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_uint_eq(next[i], LINES);
}

/* ---- which may have it open ---------------------------------------------------------------------- */

TEST(exclusive_is_exclusive)
{
    struct twinlog_sink *sink, *other, *third;
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    ck_assert_int_eq(open_as(MAPPED, &other), -EBUSY);
    ck_assert_int_eq(open_as(MAPPED | SHARED, &other), -EBUSY);
    close_sink(sink);
    ck_assert_int_eq(open_as(MAPPED | SHARED, &sink), 0);
    ck_assert_int_eq(open_as(MAPPED, &other), -EBUSY);
    ck_assert_int_eq(open_as(MAPPED | SHARED, &third), 0);
    ck_assert_uint_eq(look_at(third).participants, 2);
    put(sink, "a\n");
    put(third, "b\n");
    put(sink, "c\n");
    close_sink(sink);
    put(third, "d\n");
    ck_assert_uint_eq(look_at(third).participants, 1);
    close_sink(third);
    expect_text(path, "a\nb\nc\nd\n");
}

static const struct rotating_row {
    const char *name;
    const char *point; /* where the owner is */
    uint32_t flags;    /* with which the other one comes */
} rotating_rows[] = {
    { "the name was shifted; it wants to be alone", "name shifted", MAPPED },
    { "the name was shifted; it would share", "name shifted", MAPPED | SHARED },
    { "the file was entered; it wants to be alone", "entered", MAPPED },
    { "the file was entered; it would share", "entered", MAPPED | SHARED },
};

/* Another process comes while the owner goes on to the next file. */
TEST_EACH(exclusive_is_exclusive_where_a_name_is, rotating_rows)
{
    struct twinlog_sink *sink, *other;
    void *rotated;

    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    ck_assert_int_eq(rotate(sink), 0);
    put(sink, "a\n");
    wanted_point = row->point;
    const pthread_t rotating = start_thread(rotate_it, sink);
    AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(open_as(row->flags, &other), -EBUSY);

    atomic_store(&shared->step, 1);
    pthread_join(rotating, &rotated);
    ck_assert_int_eq((int)(intptr_t)rotated, 0);
    put(sink, "b\n");
    close_sink(sink);
    expect_two_files("a\n", "b\n");
}

TEST(there_are_so_many_places)
{
    struct twinlog_sink *sinks[PARTICIPANTS], *more;
    const uint32_t flags = MAPPED | SHARED;
    if (!allow_files(5 * PARTICIPANTS, "there_are_so_many_places"))
        return;
    for (unsigned i = 0; i < PARTICIPANTS; i++) {
        ck_assert_int_eq(open_as(flags, &sinks[i]), 0);
        stop_thread(sinks[i]); /* each would look five times a second whether one of the others is dead */
    }
    ck_assert_int_eq(open_as(flags, &more), -EUSERS);
    put(sinks[PARTICIPANTS - 1], "a\n");
    ck_assert_uint_eq(look_at(sinks[0]).participants, PARTICIPANTS);
    close_sink(sinks[7]);
    ck_assert_int_eq(open_as(flags, &sinks[7]), 0);
    put(sinks[7], "b\n");
    for (unsigned i = 0; i < PARTICIPANTS; i++)
        close_sink(sinks[i]);
    expect_text(path, "a\nb\n");
}

/* With one more descriptor each time, until there are enough. */
static int open_with_few_descriptors(void)
{
    struct twinlog_sink *sink;
    struct rlimit usual;
    int rc = -EMFILE;
    const int next = dup(0);
    close(next);
    EXPECT(getrlimit(RLIMIT_NOFILE, &usual) == 0);
    for (unsigned more = 0; rc < 0; more++) {
        const struct rlimit limit = { (rlim_t)next + more, usual.rlim_max };
        EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        rc = open_as(MAPPED, &sink);
        EXPECT(rc == 0 ? more >= 3 : rc == -EMFILE);
    }
    EXPECT(twinlog_sink_write(sink, "a\n", 2, NULL) == 0);
    EXPECT(rotate(sink) == -EMFILE);
    EXPECT(twinlog_sink_write(sink, "b\n", 2, NULL) == 0);
    const unsigned lane = twl_lane_take(sink);
    struct sink_file *file = atomic_load(&sink->file);
    EXPECT(setrlimit(RLIMIT_NOFILE, &usual) == 0);
    /* not a third file, if the thread was faster */
    EXPECT(twl_sink_move_on(sink, file, true) == 0);
    twl_lane_leave(sink, lane);
    EXPECT(twinlog_sink_write(sink, "c\n", 2, NULL) == 0);
    return twinlog_sink_close(sink);
}

TEST(without_descriptors_nothing_is_lost)
{
    ck_assert_int_eq(run_child(open_with_few_descriptors), 0);
    expect_two_files("a\nb\n", "c\n");
}

TEST(there_is_one_area_for_a_file)
{
    struct twinlog_sink *sink, *other;
    char second[420];
    sink = open_sink(NULL);
    put(sink, "a\n");
    const struct twinlog_sink_options options = options_of(MAPPED | SHARED);
    snprintf(second, sizeof(second), "%s/second", log_dir);
    ck_assert_int_eq(link(path, second), 0); /* in the same directory it is the same area */
    ck_assert_int_eq(twinlog_sink_open(second, &options, &other), 0);
    close_sink(other);
    link_elsewhere(second, sizeof(second));
    ck_assert_int_eq(twinlog_sink_open(second, &options, &other), -EBUSY);
    ck_assert_int_eq(unlink(area_of(path)), 0);
    ck_assert_int_eq(open_as(MAPPED | SHARED, &other), -EBUSY);
    put(sink, "b\n");
    close_sink(sink);
    expect_text(path, "a\nb\n");
}

static struct twinlog_sink *inherited;

static int use_in_child(void)
{
    struct iovec piece = { "a", 1 };
    EXPECT(twinlog_sink_write(inherited, "a", 1, NULL) == TWINLOG_EFORKED);
    EXPECT(twinlog_sink_writev(inherited, &piece, 1, NULL) == TWINLOG_EFORKED);
    EXPECT(twinlog_sink_sync(inherited) == TWINLOG_EFORKED);
    EXPECT(twinlog_sink_reopen(inherited) == TWINLOG_EFORKED);
    EXPECT(twinlog_sink_close(inherited) == TWINLOG_EFORKED);
    struct twinlog_sink *own;
    EXPECT(open_as(MAPPED | SHARED, &own) == 0);
    EXPECT(twinlog_sink_write(own, "child\n", 6, NULL) == 0);
    return twinlog_sink_close(own);
}

TEST(a_child_opens_it_by_itself)
{
    inherited = open_sink(NULL);
    put(inherited, "a\n");
    ck_assert_int_eq(run_child(use_in_child), 0);
    put(inherited, "b\n");
    ck_assert_uint_eq(look_at(inherited).participants, 1);
    close_sink(inherited);
    expect_text(path, "a\nchild\nb\n");
}

/* ---- rotation ---------------------------------------------------------------------------------------- */

TEST(a_limit_makes_the_next_file)
{
    uint64_t offset;
    struct twinlog_sink_options options = options_of(MAPPED);
    options.max_bytes = 10;
    options.keep_files = 2;
    struct twinlog_sink *sink = open_sink(&options);
    put(sink, "1234567\n");
    put(sink, "9\n");
    ck_assert_int_eq(twinlog_sink_write(sink, "a\n", 2, &offset), 0);
    ck_assert_uint_eq(offset, 0);
    put(sink, "larger than the limit\n");
    put(sink, "b\n");
    close_sink(sink);
    expect_text(path, "b\n");
    expect_text(numbered(1), "larger than the limit\n");
    expect_text(numbered(2), "a\n");
    ck_assert_int_eq(bytes_of(numbered(3)), -1);
}

static struct twinlog_sink *beside;

/* At once another program's sink may get the inode's number. */
static int open_beside(const struct hooked_call *call)
{
    static unsigned unlinks;
    const struct twinlog_sink_options options = options_of(MAPPED);
    if (call->op == SIM_UNLINK && ++unlinks == 2)
        ck_assert_int_eq(twinlog_sink_open(numbered(7), &options, &beside), 0);
    return 0;
}

TEST(what_lies_beside_another_file_stays)
{
    struct twinlog_sink *sink = open_sink(&WITH_SIZE(sink_options, .flags = MAPPED, .keep_files = 1));
    stop_thread(sink);
    put_text(numbered(1), LINE);
    put_text(area_of(numbered(1)), "");
    hooked(sink->io, open_beside);
    ck_assert_int_eq(rotate(sink), 0);
    ck_assert_int_ge(bytes_of(area_of(numbered(7))), 0);
    close_sink(beside);
    close_sink(sink);
}

TEST(rotate_by_hand)
{
    struct twinlog_sink *sink = NULL;
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    put(sink, "a\n");
    ck_assert_int_eq(rotate(sink), 0);
    put(sink, "b\n");
    ck_assert_int_eq(twinlog_sink_reopen(sink), 0);
    AWAIT(bytes_of(numbered(1)) == 2); /* truncated as soon as no process uses it */
    close_sink(sink);
    expect_two_files("a\n", "b\n");
}

TEST(reopen_what_was_renamed)
{
    char moved[420];
    struct twinlog_sink *sink = open_sink(NULL), *other = open_sink(NULL);
    const struct sink_file *first = atomic_load(&sink->file);
    put(other, "b\n");
    put(sink, "c\n");
    ck_assert_int_eq(twinlog_sink_reopen(sink), 0);
    snprintf(moved, sizeof(moved), "%s/moved", log_dir);
    put_text(moved, "made\n"); /* by a stranger; the thread may look at any time */
    ck_assert_int_eq(syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, moved, RENAME_EXCHANGE), 0);
    put(sink, "d\n");                               /* wherever that is */
    ck_assert_int_ge(twinlog_sink_reopen(sink), 0); /* 0 if its thread was first */
    ck_assert_ptr_ne(atomic_load(&sink->file), first);
    put(sink, "e\n");
    ck_assert_int_ge(twinlog_sink_reopen(other), 0);
    put(other, "f\n");
    close_sink(sink);
    close_sink(other);
    const bool was_late = bytes_of(moved) == 6;
    expect_text(moved, was_late ? "b\nc\nd\n" : "b\nc\n");
    expect_text(path, was_late ? "made\ne\nf\n" : "made\nd\ne\nf\n");
    expect_nothing_beside();
}

/* What was written to it is not on stable storage, and every later sync of the sink says so. */
TEST(a_file_that_could_not_be_synced_is_not_forgotten)
{
    struct twinlog_sink *sink = open_sink(&WITH_SIZE(sink_options, .flags = MAPPED));
    put(sink, LINE);
    struct sink_file *file = atomic_load(&sink->file);
    const unsigned lane = twl_lane_take(sink); /* so that the file is not left at once */
    ck_assert_int_eq(twl_sink_move_on(sink, file, true), 0);
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(dup2(fd, io_file_fd(file->data)), io_file_fd(file->data));
    close(fd);
    twl_lane_leave(sink, lane);
    AWAIT(atomic_load(&sink->past_error) != 0); /* the thread leaves it */
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_lt(twinlog_sink_sync(sink), 0);
    put(sink, LINE);
    twinlog_sink_close(sink);
}

TEST(the_thread_sees_that_it_was_renamed)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const struct sink_file *first = atomic_load(&sink->file);
    put(sink, "a\n");
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    AWAIT(atomic_load(&sink->file) != first);
    put(sink, "b\n");
    AWAIT(bytes_of(numbered(1)) == 2);
    close_sink(sink);
    expect_text(path, "b\n");
}

/* Two directories. */
static char one_dir[420], another_dir[420];

static void make_two_directories(void)
{
    snprintf(one_dir, sizeof(one_dir), "%s/one", log_dir);
    snprintf(another_dir, sizeof(another_dir), "%s/another", log_dir);
    ck_assert_int_eq(mkdir(one_dir, 0777), 0);
    ck_assert_int_eq(mkdir(another_dir, 0777), 0);
}

static struct twinlog_sink *open_given(const char *given)
{
    const struct twinlog_sink_options options = options_of(MAPPED | SHARED);
    struct twinlog_sink *sink;

    ck_assert_int_eq(twinlog_sink_open(given, &options, &sink), 0);
    put(sink, "a\n");
    return sink;
}

static void expect_resolved_again(struct twinlog_sink *sink, const char *given)
{
    ck_assert_int_ge(twinlog_sink_reopen(sink), 0); /* 0 if its thread was first */
    put(sink, "b\n");
    close_sink(sink);
    expect_text(given, "b\n");
}

TEST(the_path_is_resolved_again_where_a_directory_was_renamed)
{
    char given[450], there[450];

    make_two_directories();
    snprintf(given, sizeof(given), "%s/file", one_dir);
    snprintf(there, sizeof(there), "%s/file", another_dir);
    struct twinlog_sink *sink = open_given(given);
    ck_assert_int_eq(syscall(SYS_renameat2, AT_FDCWD, one_dir, AT_FDCWD, another_dir, RENAME_EXCHANGE), 0);
    expect_resolved_again(sink, given);
    expect_text(there, "a\n");
}

TEST(the_path_is_resolved_again_where_a_link_leads_elsewhere)
{
    char link[420], given[450];

    make_two_directories();
    snprintf(link, sizeof(link), "%s/link", log_dir);
    snprintf(given, sizeof(given), "%s/file", link);
    ck_assert_int_eq(symlink(one_dir, link), 0);
    struct twinlog_sink *sink = open_given(given);
    ck_assert_int_eq(unlink(link), 0);
    ck_assert_int_eq(symlink(another_dir, link), 0);
    expect_resolved_again(sink, given);
}

/* A rotation neither renames nor removes what another sink has open. */
TEST(a_number_that_another_sink_has_open_stays)
{
    const struct twinlog_sink_options options = options_of(MAPPED);
    struct twinlog_sink *sink = open_sink(&options), *other;
    ck_assert_int_eq(twinlog_sink_open(numbered(1), &options, &other), 0);
    put(other, "b\n");
    put(sink, "a\n");
    ck_assert_int_eq(rotate(sink), -EBUSY);
    put(sink, "c\n");
    close_sink(other);
    expect_text(numbered(1), "b\n");
    ck_assert_int_eq(rotate(sink), 0);
    close_sink(sink);
    expect_text(numbered(2), "b\n");
    expect_text(numbered(1), "a\nc\n");
}

TEST(numbers_above_the_limit_are_removed)
{
    struct twinlog_sink *sink = open_sink(&WITH_SIZE(sink_options, .flags = MAPPED, .keep_files = 2));
    for (unsigned i = 1; i <= 9; i++)
        put_text(numbered(i), LINE);
    put_text(numbered(11), LINE);
    ck_assert_int_eq(rotate(sink), 0);
    close_sink(sink);
    for (unsigned i = 1; i <= 11; i++)
        ck_assert_int_eq(bytes_of(numbered(i)) >= 0, i <= 2 || i == 11);
}

static struct twinlog_sink *open_with_permissions(mode_t mode)
{
    put_text(path, "");
    ck_assert_int_eq(chmod(path, mode), 0);
    return open_sink(&WITH_SIZE(sink_options, .flags = MAPPED));
}

static void expect_permissions(mode_t mode)
{
    struct stat about;

    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, mode);
}

TEST(behind_a_rotation_the_next_file_has_the_permissions_of_the_last_one)
{
    struct twinlog_sink *sink = open_with_permissions(0640);

    ck_assert_int_eq(rotate(sink), 0);
    expect_permissions(0640);
    close_sink(sink);
}

TEST(behind_a_rename_the_next_file_has_the_permissions_of_the_last_one)
{
    struct twinlog_sink *sink = open_with_permissions(0640);

    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_ge(twinlog_sink_reopen(sink), 0);
    expect_permissions(0640);
    close_sink(sink);
}

static void *open_and_close(void *context)
{
    struct twinlog_sink *sink;
    uint64_t end;
    (void)context;
    int rc = open_as(MAPPED | SHARED, &sink);
    if (rc == 0)
        rc = twinlog_sink_write(sink, LINE, strlen(LINE), NULL);
    if (rc == 0)
        rc = twinlog_sink_sync(sink);
    if (rc == 0)
        rc = twinlog_sink_end(path, &end);
    if (rc == 0)
        rc = twinlog_sink_reopen(sink);
    return (void *)(intptr_t)(rc == 0 ? twinlog_sink_close(sink) : rc);
}

#ifdef __OPTIMIZE__
#define SMALL_STACK (24 * KIB)
#else
#define SMALL_STACK (64 * KIB) /* each variable has a place of its own */
#endif

/* Also of what a killed process has left. */
TEST(a_small_stack_is_enough)
{
    pthread_attr_t attributes;
    pthread_t thread;
    void *result;
#if HAS_SANITIZER
    return; /* which takes much more itself */
#endif
    does_sync = false;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    pthread_attr_init(&attributes);
    ck_assert_int_eq(pthread_attr_setstacksize(&attributes, SMALL_STACK), 0);
    ck_assert_int_eq(pthread_create(&thread, &attributes, open_and_close, NULL), 0);
    pthread_join(thread, &result);
    ck_assert_ptr_null(result);
    pthread_attr_destroy(&attributes);
}

/* ---- syncs ------------------------------------------------------------------------------------------- */

TEST(synced_bytes_are_told)
{
    struct twinlog_sink_options options = options_of(MAPPED);
    struct twinlog_sink *sink = open_sink(&options);
    put(sink, "a\n");
    ck_assert_uint_eq(look_at(sink).synced_bytes, 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    ck_assert_uint_eq(look_at(sink).synced_bytes, 2);
    close_sink(sink);
    expect_nothing_beside();
    options.flush_interval_ms = 10;
    sink = open_sink(&options);
    put(sink, "b\n");
    AWAIT(look_at(sink).synced_bytes == 4);
    close_sink(sink);
}

/* ---- where it ends, for others ------------------------------------------------------------------------- */

static uint64_t end_of(int expected)
{
    uint64_t end = 99;
    ck_assert_int_eq(twinlog_sink_end(path, &end), expected);
    return end;
}

TEST(others_are_told_where_it_ends)
{
    uint64_t end;
    ck_assert_int_eq(twinlog_sink_end(NULL, &end), -EINVAL);
    ck_assert_int_eq(twinlog_sink_end(path, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_sink_end(path, &end), -ENOENT);
    struct twinlog_sink *sink = open_sink(NULL);
    ck_assert_uint_eq(end_of(0), 0);
    put(sink, LINE);
    ck_assert_uint_eq(end_of(0), strlen(LINE));
    const pid_t child = stop_child_in_write();
    put(sink, LINE);
    ck_assert_uint_eq(end_of(0), strlen(LINE)); /* there is a gap behind it */
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0); /* makes it harmless */
    ck_assert_uint_eq(end_of(0), 3 * strlen(LINE));
    close_sink(sink);
    ck_assert_uint_eq(end_of(0), 3 * strlen(LINE));
}

TEST(others_are_told_when_it_is_not_known)
{
    does_sync = false;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    ck_assert_uint_eq(end_of(0), 4);
    spoil(SPOIL_BOOT);
    ck_assert_uint_eq(end_of(-EUCLEAN), 2);
    spoil(SPOIL_EMPTY);
    ck_assert_uint_eq(end_of(-EUCLEAN), 2);
}

/* ---- claims ------------------------------------------------------------------------------------------ */

static struct area *new_area(void)
{
    struct area *area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(area != MAP_FAILED);
    atomic_store(&area->file_bytes, 1000);
    return area;
}

/* Its area is gone, so the first zero tells, however far that is. */
TEST(others_are_told_where_the_text_ends_without_an_area)
{
    static char text[9001];
    uint64_t end = 0;
    struct twinlog_sink *sink = open_sink(NULL);

    memset(text, 'x', sizeof(text) - 1);
    put(sink, text);
    ck_assert_int_eq(unlink(area_of(path)), 0);
    ck_assert_int_eq(twinlog_sink_end(path, &end), 0);
    ck_assert_uint_eq(end, 9000);
    close_sink(sink);
}

/* ---- lanes ------------------------------------------------------------------------------------------ */

static void *write_a_line(void *sink)
{
    return (void *)(intptr_t)twinlog_sink_write(sink, LINE, strlen(LINE), NULL);
}

static void *close_it(void *sink)
{
    return (void *)(intptr_t)twinlog_sink_close(sink);
}

/* Each thread inside a call has one. One more waits for the first that is left, and a close waits for both. */
TEST(a_write_waits_for_a_lane)
{
    unsigned lanes[SLOTS];
    void *written, *closed;
    struct twinlog_sink *sink = open_sink(NULL);

    stop_thread(sink);
    for (unsigned i = 0; i < SLOTS; i++)
        lanes[i] = twl_lane_take(sink);
    const pthread_t writing = start_thread(write_a_line, sink);
    AWAIT(atomic_load(&sink->without_lane) == 1);
    const pthread_t closing = start_thread(close_it, sink);
    AWAIT(atomic_load(&sink->must_stop));
    ck_assert_int_eq(bytes_of(path), 64 * (int64_t)KIB);

    for (unsigned i = 0; i < SLOTS; i++)
        twl_lane_leave(sink, lanes[i]);
    pthread_join(writing, &written);
    pthread_join(closing, &closed);
    ck_assert_int_eq((int)(intptr_t)written, 0);
    ck_assert_int_eq((int)(intptr_t)closed, 0);
    expect_text(path, LINE);
}

/* ---- the largest file --------------------------------------------------------------------------------- */

static const struct largest_row {
    const char *name;
    uint64_t left; /* bytes below the limit of what an area can count */
    int opened, written;
} largest_rows[] = {
    { "none is left", 0, -EFBIG, 0 },
    { "a page is left", 4096, 0, -EFBIG },
};

/* A file in memory has no other limit. */
TEST_EACH(a_file_is_not_larger_than_an_area_can_count, largest_rows)
{
    static const char test[] = "a_file_is_not_larger_than_an_area_can_count";
    static char block[2 * 4096];
    const int64_t bytes = (int64_t)(OFFSET_LIMIT - row->left);
    struct twinlog_sink *sink;
    char name[64];

    snprintf(name, sizeof(name), "/dev/shm/%s-%d", "twinlog-largest", (int)getpid());
    const int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    const bool can_be_so_large = fd >= 0 && pwrite(fd, "\n", 1, bytes - 1) == 1;
    if (can_be_so_large) {
        const struct twinlog_sink_options options =
            WITH_SIZE(sink_options, .flags = MAPPED, .initial_bytes = 1);
        const int opened = twinlog_sink_open(name, &options, &sink);
        ck_assert_int_eq(opened, row->opened);
        if (opened == 0) {
            ck_assert_int_eq(twinlog_sink_write(sink, block, sizeof(block), NULL), row->written);
            close_sink(sink);
        }
        ck_assert_int_eq(bytes_of(name), bytes);
    } else {
        printf("SKIP %s: /dev/shm has no files so large\n", test);
    }

    close(fd);
    unlink(name);
}

/* ---- claims -------------------------------------------------------------------------------------------- */

TEST(claims_follow_each_other)
{
    uint64_t start = 0;
    struct area *area = new_area();
    ck_assert_int_eq(twl_claim(area, 1, 10, 0, &start), CLAIM_MADE);
    ck_assert_uint_eq(start, 0);
    ck_assert_int_eq(twl_claim(area, area_owner(PARTICIPANTS, SLOTS - 1), 20, 0, &start), CLAIM_MADE);
    ck_assert_uint_eq(start, 10);
    twl_claim_end(area_slot(area, 1), CLAIM_FREE);
    ck_assert_int_eq(twl_claim(area, 1, 971, 0, &start), CLAIM_NEEDS_ROOM);
    ck_assert_int_eq(twl_claim(area, 1, 2, 31, &start), CLAIM_NEEDS_NEXT);
    ck_assert_int_eq(twl_claim(area, 1, 1, 31, &start), CLAIM_MADE);
    twl_claim_end(area_slot(area, 1), CLAIM_FREE);
    ck_assert_uint_eq(area_offset(area), 31);
    munmap(area, AREA_BYTES);
}
