/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files: what include/twinlog_sink.h says, sentence by sentence, what a death at each named point leaves, and
 * what strangers and broken areas do. The sink's objects are compiled with its points, see sink/point.h.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "sink/claim.h"
#include "sink/sink.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)

#define LINE "0123456789abcdef0123456789abcdef\n"
#define HOLE "                                \n" /* killed in the middle of the copy */

/* ---- the place, and points ----------------------------------------------------------------------- */

static char path[400];

static struct shared {
    _Atomic int step;
    _Atomic uint64_t acked;
    _Atomic bool was_there;
} * shared;

static const char *_Atomic wanted_point; /* NULL: none */
static int signal_there; /* SIGKILL or SIGSTOP, to this process; 0 = the thread waits for a step */

void twl_point(const char *name);
void twl_point(const char *name)
{
    if (!wanted_point || strcmp(name, wanted_point) != 0)
        return;
    wanted_point = NULL;
    atomic_store(&shared->was_there, true);
    while (signal_there == 0 && atomic_load(&shared->step) == 0)
        usleep(1000);
    if (signal_there != 0)
        kill(getpid(), signal_there);
}

static void prepare(void)
{
    logdir_make();
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    snprintf(path, sizeof(path), "%s/out", log_dir);
    shared = shared_page();
}

static const char *numbered(unsigned number)
{
    static char names[4][420];
    static unsigned turn;
    char *name = names[turn++ % 4];
    snprintf(name, sizeof(names[0]), "%s.%u", path, number);
    return name;
}

static int64_t bytes_of(const char *name)
{
    struct stat about;
    return stat(name, &about) < 0 ? -1 : about.st_size;
}

/* What lies beside the file of that name. */
static const char *area_of(const char *name)
{
    static char area[450];
    struct stat about;
    ck_assert_int_eq(stat(name, &about), 0);
    snprintf(area, sizeof(area), "%s/.twinlog.%ju.sink", log_dir, (uintmax_t)about.st_ino);
    return area;
}

static struct twinlog_sink_options options_of(uint32_t flags)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = flags, .initial_bytes = 64 * KIB);
    return options;
}

static int open_as(uint32_t flags, struct twinlog_sink **ret_sink)
{
    const struct twinlog_sink_options options = options_of(flags);
    return twinlog_sink_open(path, &options, ret_sink);
}

/* What a renamed file needs if all its processes were killed. */
static int finish(const char *name, uint32_t flags)
{
    struct twinlog_sink *sink;
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = flags | TWINLOG_SINK_SHARED, .initial_bytes = 1, .growth_bytes = 1);
    const int rc = bytes_of(name) < 0 ? -ENOENT : twinlog_sink_open(name, &options, &sink);
    return rc < 0 ? rc : twinlog_sink_close(sink);
}

static struct twinlog_sink *open_sink(const struct twinlog_sink_options *options)
{
    struct twinlog_sink *sink = NULL;
    const struct twinlog_sink_options usual = options_of(TWINLOG_SINK_SHARED);
    ck_assert_int_eq(twinlog_sink_open(path, options ? options : &usual, &sink), 0);
    return sink;
}

static void put(struct twinlog_sink *sink, const char *text)
{
    ck_assert_int_eq(twinlog_sink_write(sink, text, strlen(text), NULL), 0);
}

struct seen {
    unsigned participants;
    uint64_t bytes, file_bytes, synced_bytes;
};

/* Of the present file. */
static struct seen look_at(struct twinlog_sink *sink)
{
    const unsigned lane = twl_lane_take(sink);
    struct sink_file *file = atomic_load(&sink->file);
    struct seen seen = { 0, area_offset(file->area), atomic_load(&file->area->file_bytes),
                         atomic_load(&file->area->synced) };
    twl_sink_sweep(file);
    for (unsigned n = 1; n <= PARTICIPANTS; n++)
        seen.participants += atomic_load(&file->area->is_used[n]);
    twl_lane_leave(sink, lane);
    return seen;
}

static void *end_at_once(void *context)
{
    return context;
}

/* The sink goes on without its thread, as if that got no processor. */
static void stop_thread(struct twinlog_sink *sink)
{
    atomic_store(&sink->must_stop, true);
    twl_event_notify_all(&sink->wake);
    pthread_join(sink->thread, NULL);
    atomic_store(&sink->must_stop, false);
    sink->thread = start_thread(end_at_once, NULL); /* for the close to join */
}

/* As when max_bytes is reached. */
static int rotate(struct twinlog_sink *sink)
{
    const unsigned lane = twl_lane_take(sink);
    const int rc = twl_sink_move_on(sink, atomic_load(&sink->file), true);
    twl_lane_leave(sink, lane);
    return rc;
}

static void close_sink(struct twinlog_sink *sink)
{
    ck_assert_int_eq(twinlog_sink_close(sink), 0);
}

static char *read_file(const char *name, size_t *ret_size)
{
    const int64_t size = bytes_of(name);
    ck_assert_int_ge(size, 0);
    char *bytes = malloc((size_t)size + 1);
    const int fd = open(name, O_RDONLY);
    ck_assert_int_eq(pread(fd, bytes, (size_t)size, 0), size);
    close(fd);
    bytes[size] = 0;
    *ret_size = (size_t)size;
    return bytes;
}

static void expect_text(const char *name, const char *text)
{
    size_t size;
    char *bytes = read_file(name, &size);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_str_eq(bytes, text);
    free(bytes);
}

static void expect_nothing_beside(void)
{
    char command[500];
    snprintf(command, sizeof(command), "ls -A %s | grep '^\\.' && exit 1 || exit 0", log_dir);
    ck_assert_int_eq(system(command), 0);
}

static bool is_of_a_file(uint64_t inode)
{
    struct stat about;
    bool is_one = stat(path, &about) == 0 && about.st_ino == inode;
    for (unsigned i = 1; i <= 3; i++)
        is_one |= stat(numbered(i), &about) == 0 && about.st_ino == inode;
    return is_one;
}

/* But for areas that keep the error of a failed sync, as a death in the middle of a sync is one, and that of a file
 * which was being dropped. */
static void expect_errors_beside(void)
{
    struct area area;
    glob_t found;
    char pattern[420];
    snprintf(pattern, sizeof(pattern), "%s/.twinlog.*", log_dir);
    if (glob(pattern, 0, NULL, &found) == GLOB_NOMATCH)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const int fd = open(found.gl_pathv[i], O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &area, sizeof(area), 0), sizeof(area));
        ck_assert(!is_of_a_file(area.identity.inode) || atomic_load(&area.sync_error) == -EIO);
        close(fd);
    }
    globfree(&found);
}

/* Two files follow each other, both are finished, and nothing is left beside them. */
static void expect_two_files(const char *older, const char *newer)
{
    expect_text(numbered(1), older);
    expect_text(path, newer);
    expect_nothing_beside();
}

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

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
    ck_assert_int_eq(open_as(0, &sink), -EUCLEAN);
    ck_assert_int_eq(bytes_of(path), 4);
    expect_nothing_beside();
    ck_assert_int_eq(open_as(TWINLOG_SINK_DROP_ZEROS, &sink), 0);
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
        ck_assert_int_eq(open_as(0, &sink), 0);
        ck_assert_int_eq(twinlog_sink_write(sink, "a\0\0", 3, NULL), 0);
        close_sink(sink);
        ck_assert_int_eq(bytes_of(path), 3 * i);
        ck_assert_int_ge(bytes_of(area_of(path)), 0);
    }
    ck_assert_int_eq(open_as(0, &sink), 0);
    put(sink, "\n");
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
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct iovec pieces[2] = { { "a", (size_t)1 << 30 }, { "b", 1 } }, none = { NULL, 1 };
    ck_assert_int_eq(twinlog_sink_open(NULL, NULL, &sink), -EINVAL);
    ck_assert_int_eq(twinlog_sink_open(path, NULL, NULL), -EINVAL);
    options.flags = 1u << 20;
    ck_assert_int_eq(twinlog_sink_open(path, &options, &sink), -EINVAL);
    options = (struct twinlog_sink_options)TWINLOG_SINK_OPTIONS_INIT;
    options.keep_files = 10000;
    ck_assert_int_eq(twinlog_sink_open(path, &options, &sink), -EINVAL);
    options.keep_files = options.size = 0;
    ck_assert_int_eq(twinlog_sink_open(path, &options, &sink), -EINVAL);
    options = options_of(TWINLOG_SINK_SHARED); /* it has no limit, and is not rotated */
    options.max_bytes = 4096;
    ck_assert_int_eq(twinlog_sink_open(path, &options, &sink), -EINVAL);
    ck_assert_int_eq(bytes_of(path), -1);
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
    ck_assert_int_eq(twinlog_sink_close(NULL), 0);
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), 0);
}

TEST(what_is_no_file_is_refused)
{
    struct twinlog_sink *sink;
    char target[420], ending[420];
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(open_as(0, &sink), -ENOTSUP);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkfifo(path, 0666), 0);
    ck_assert_int_eq(open_as(0, &sink), -ENOTSUP);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert_int_lt(open_as(0, &sink), 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("nowhere", path), 0);
    ck_assert_int_eq(open_as(0, &sink), -ENOENT);
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
    ck_assert_int_eq(open_as(0, &sink), 0);
    put(sink, "y\n");
    close_sink(sink);
    expect_text(target, "x\ny\n");
}

/* ---- size ------------------------------------------------------------------------------------------ */

/* By the write that needs it, or by the thread before. */
TEST(the_file_grows_by_what_it_has)
{
    static char block[4096];
    struct twinlog_sink_options options = options_of(0);
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
    static const char block[STEP_BYTES / 2] = { 'x' };
    struct twinlog_sink *sink = open_sink(&WITH_SIZE(sink_options, .flags = 0));
    stop_thread(sink);
    _Atomic uint64_t *populated = &atomic_load(&sink->file)->area->populated;
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(twinlog_sink_write(sink, block, sizeof(block), NULL), 0);
        ck_assert_uint_ge(atomic_load(populated), i < 1 ? 0 : ((i + 1) / 2 + 1) * STEP_BYTES);
    }
    close_sink(sink);
}

/* Across chunks. */
TEST(large_writes_are_whole)
{
    const size_t size = 35 * MIB;
    unsigned char *bytes = malloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    struct twinlog_sink *sink = open_sink(NULL);
    for (size_t at = 0; at < size; at += 7 * MIB)
        ck_assert_int_eq(twinlog_sink_write(sink, bytes + at, 7 * MIB, NULL), 0);
    ck_assert_int_eq(twinlog_sink_write(sink, bytes, size, NULL), 0);
    close_sink(sink);
    size_t got;
    char *found = read_file(path, &got);
    ck_assert_uint_eq(got, 2 * size);
    ck_assert_int_eq(memcmp(found, bytes, size), 0);
    ck_assert_int_eq(memcmp(found + size, bytes, size), 0);
    free(found);
    free(bytes);
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
    const size_t size = 4 * MIB;
    char *block = malloc(size);
    struct twinlog_sink_options options = options_of(0);
    memset(block, 'x', size);
    struct twinlog_sink *sink = open_sink(&options);
    wanted_point = "copy half done";
    signal_there = 0;
    pthread_t thread = start_thread(write_late, sink);
    AWAIT(atomic_load(&shared->was_there));
    for (unsigned i = 0; i < 45; i++)
        ck_assert_int_eq(twinlog_sink_write(sink, block, size, NULL), 0);
    ck_assert_uint_lt(mapped_bytes(), 200 * MIB);
    atomic_store(&shared->step, 1);
    pthread_join(thread, NULL);
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), (int64_t)(45 * size + strlen(LINE)));
    char *found = read_file(path, &(size_t){ 0 });
    ck_assert_int_eq(strncmp(found, LINE, strlen(LINE)), 0);
    ck_assert_uint_eq(strspn(found + strlen(LINE), "x"), 45 * size);
    free(found);
    free(block);
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
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == -EFBIG); /* what is beside it */
    EXPECT(setrlimit(RLIMIT_FSIZE, &none) == 0);
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == 0);
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

static int write_on_full_disk(void)
{
    static char block[40000];
    struct twinlog_sink *sink;
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == 0);
    memset(block, 'x', sizeof(block));
    EXPECT(twinlog_sink_write(sink, block, 10, NULL) == 0);
    EXPECT(forbid(SYS_fallocate, ENOSPC));
    EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == 0);
    EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == -ENOSPC);
    EXPECT(twinlog_sink_write(sink, "y", 1, NULL) == 0);
    return twinlog_sink_close(sink);
}

static bool is_without_mappings;

static int open_what_can_not_be_a_sink(void)
{
    struct twinlog_sink *sink;
    EXPECT(is_without_mappings ? forbid_if(SYS_mmap, ENODEV, 3, MAP_SHARED)
                               : forbid(SYS_fallocate, EOPNOTSUPP));
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == -ENOTSUP);
    EXPECT(open_as(0, &sink) == -ENOTSUP);
    return 0;
}

/* What the kernel returns has other meanings inside: try again, or later. */
static int open_on_stale_file(void)
{
    struct twinlog_sink *sink;
    EXPECT(forbid(SYS_fallocate, ESTALE));
    alarm(60);
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == -ESTALE);
    return 0;
}

static int sync_on_busy_disk(void)
{
    struct twinlog_sink *sink;
    EXPECT(forbid(SYS_fdatasync, EAGAIN));
    alarm(60);
    EXPECT(open_as(0, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    EXPECT(rename(path, numbered(1)) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 1);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    twinlog_sink_close(sink);
    return 0;
}

#if !HAS_THREAD_SANITIZER /* which needs mmap() itself */
static int write_without_mmap(void)
{
    static char block[40000];
    struct twinlog_sink *sink;
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == 0);
    memset(block, 'x', sizeof(block));
    EXPECT(forbid(SYS_mmap, ENOMEM));
    for (unsigned i = 0; i < 3; i++)
        EXPECT(twinlog_sink_write(sink, block, sizeof(block), NULL) == 0);
    return twinlog_sink_close(sink);
}
#endif

TEST(a_full_disk_claims_nothing)
{
    ck_assert_int_eq(run_child(write_on_full_disk), 0);
    ck_assert_int_eq(bytes_of(path), 40011);
}

#if !HAS_THREAD_SANITIZER
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

TEST_LOOP(errors_with_another_meaning_are_errors, 2)
{
    static int (*const bodies[])(void) = { open_on_stale_file, sync_on_busy_disk };
    ck_assert_int_eq(run_child(bodies[_i]), 0);
}

/* The file stays, also one that the call made. */
TEST_LOOP(what_can_not_be_shared_or_reserve_is_refused, 6)
{
    static const char *const texts[] = { NULL, "", "old\n" };
    const char *text = texts[_i / 2];
    if (text)
        put_text(path, text);
    is_without_mappings = _i % 2;
    ck_assert_int_eq(run_child(open_what_can_not_be_a_sink), 0);
    if (text)
        expect_text(path, text);
    else
        ck_assert_int_eq(bytes_of(path), 0);
    expect_nothing_beside();
}

/* ---- many ------------------------------------------------------------------------------------------ */

#define THREADS 80u /* more than a process has lanes */
#define LINES 200u

struct writer {
    struct twinlog_sink *sink;
    unsigned number;
    int rc;
};

static bool reopens; /* now and then, as for logrotate */

static void *write_lines(void *context)
{
    struct writer *writer = context;
    char line[128];
    for (unsigned i = 0; i < LINES && writer->rc == 0; i++) {
        const int n = snprintf(line, sizeof(line), "%u %u %.*s|\n", writer->number, i, (int)(i % 50),
                               "..................................................");
        writer->rc = twinlog_sink_write(writer->sink, line, (size_t)n, NULL);
        if (reopens && writer->rc == 0 && i % 10 == 0)
            writer->rc = twinlog_sink_reopen(writer->sink) < 0;
    }
    return NULL;
}

static int write_with_threads(struct twinlog_sink *sink, unsigned from, unsigned threads)
{
    pthread_t ids[THREADS];
    struct writer writers[THREADS];
    int rc = 0;
    for (unsigned i = 0; i < threads; i++) {
        writers[i] = (struct writer){ sink, from + i, 0 };
        EXPECT(pthread_create(&ids[i], NULL, write_lines, &writers[i]) == 0);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        rc = rc < 0 ? rc : writers[i].rc;
    }
    return rc;
}

/* Each writer's lines in order, whole, none missing; they may go on in the next file. */
static void tally_lines(const char *name, unsigned *next, unsigned writers)
{
    size_t size;
    char *bytes = read_file(name, &size), *line = bytes;
    while (line < bytes + size) {
        unsigned writer, number, used = 0;
        int at = 0;
        ck_assert_int_eq(sscanf(line, "%u %u %n", &writer, &number, &at), 2);
        ck_assert_uint_lt(writer, writers);
        ck_assert_uint_eq(number, next[writer]++);
        used = (unsigned)strspn(line + at, ".");
        ck_assert_uint_eq(used, number % 50);
        ck_assert_int_eq(strncmp(line + at + used, "|\n", 2), 0);
        line += (unsigned)at + used + 2;
    }
    free(bytes);
}

static void expect_all(const unsigned *next, unsigned writers)
{
    for (unsigned i = 0; i < writers; i++)
        ck_assert_uint_eq(next[i], LINES);
}

TEST(threads_write_in_one_piece)
{
    unsigned next[THREADS] = { 0 };
    struct twinlog_sink *sink = open_sink(NULL);
    ck_assert_int_eq(write_with_threads(sink, 0, THREADS), 0);
    close_sink(sink);
    tally_lines(path, next, THREADS);
    expect_all(next, THREADS);
}

static int write_as_child(void)
{
    struct twinlog_sink *sink;
    struct twinlog_sink_options options = options_of(TWINLOG_SINK_SHARED);
    options.initial_bytes = 4096;
    const unsigned from = (unsigned)atomic_fetch_add(&shared->step, 4);
    EXPECT(twinlog_sink_open(path, &options, &sink) == 0);
    EXPECT(write_with_threads(sink, from, 4) == 0);
    atomic_fetch_add(&shared->acked, 1);
    return twinlog_sink_close(sink);
}

/* With another program that gives the file other names meanwhile. */
static void write_with_processes(unsigned renames)
{
    pid_t children[4];
    unsigned next[16] = { 0 };
    reopens = renames > 0;
    for (unsigned i = 0; i < 4; i++)
        children[i] = start_child(write_as_child);
    for (unsigned i = 1; i <= renames; i++)
        AWAIT(rename(path, numbered(i)) == 0 || atomic_load(&shared->acked) == 4);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(wait_child(children[i]), 0);
    for (unsigned i = 1; i <= renames; i++)
        if (bytes_of(numbered(i)) >= 0)
            tally_lines(numbered(i), next, 16);
    if (bytes_of(path) >= 0)
        tally_lines(path, next, 16);
    expect_all(next, 16);
    expect_nothing_beside();
}

TEST(processes_write_in_one_piece)
{
    write_with_processes(0);
}

TEST(processes_reopen_and_lose_nothing)
{
    write_with_processes(6);
}

/* ---- which may have it open ---------------------------------------------------------------------- */

TEST(exclusive_is_exclusive)
{
    struct twinlog_sink *sink, *other, *third;
    ck_assert_int_eq(open_as(0, &sink), 0);
    ck_assert_int_eq(open_as(0, &other), -EBUSY);
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &other), -EBUSY);
    close_sink(sink);
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &sink), 0);
    ck_assert_int_eq(open_as(0, &other), -EBUSY);
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &third), 0);
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

static void *rotate_it(void *context)
{
    return (void *)(intptr_t)rotate(context);
}

/* Another process comes while the owner goes on to the next file. */
TEST_LOOP(exclusive_is_exclusive_where_a_name_is, 4)
{
    static const char *const places[] = { "name shifted", "entered" };
    struct twinlog_sink *sink, *other;
    void *rotated;
    ck_assert_int_eq(open_as(0, &sink), 0);
    ck_assert_int_eq(rotate(sink), 0);
    put(sink, "a\n");
    wanted_point = places[_i / 2];
    pthread_t rotating = start_thread(rotate_it, sink);
    AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(open_as(_i % 2 ? TWINLOG_SINK_SHARED : 0, &other), -EBUSY);
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
    const uint32_t flags = TWINLOG_SINK_SHARED;
    for (unsigned i = 0; i < PARTICIPANTS; i++)
        ck_assert_int_eq(open_as(flags, &sinks[i]), 0);
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
    int rc = -EMFILE;
    const int next = dup(0);
    close(next);
    for (unsigned more = 0; rc < 0; more++) {
        const struct rlimit limit = { (rlim_t)next + more, 4096 };
        EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        rc = open_as(0, &sink);
        EXPECT(rc == 0 ? more >= 3 : rc == -EMFILE);
    }
    EXPECT(twinlog_sink_write(sink, "a\n", 2, NULL) == 0);
    EXPECT(rotate(sink) == -EMFILE);
    EXPECT(twinlog_sink_write(sink, "b\n", 2, NULL) == 0);
    const struct rlimit enough = { 4096, 4096 };
    EXPECT(setrlimit(RLIMIT_NOFILE, &enough) == 0);
    EXPECT(rotate(sink) == 0);
    EXPECT(twinlog_sink_write(sink, "c\n", 2, NULL) == 0);
    return twinlog_sink_close(sink);
}

TEST(without_descriptors_nothing_is_lost)
{
    ck_assert_int_eq(run_child(open_with_few_descriptors), 0);
    expect_two_files("a\nb\n", "c\n");
}

/* In another directory the file has another area. */
static void link_elsewhere(char *second, size_t size)
{
    snprintf(second, size, "%s/elsewhere", log_dir);
    ck_assert_int_eq(mkdir(second, 0777), 0);
    snprintf(second, size, "%s/elsewhere/second", log_dir);
    ck_assert_int_eq(link(path, second), 0);
}

TEST(there_is_one_area_for_a_file)
{
    struct twinlog_sink *sink, *other;
    char second[420];
    sink = open_sink(NULL);
    put(sink, "a\n");
    const struct twinlog_sink_options options = options_of(TWINLOG_SINK_SHARED);
    snprintf(second, sizeof(second), "%s/second", log_dir);
    ck_assert_int_eq(link(path, second), 0); /* in the same directory it is the same area */
    ck_assert_int_eq(twinlog_sink_open(second, &options, &other), 0);
    close_sink(other);
    link_elsewhere(second, sizeof(second));
    ck_assert_int_eq(twinlog_sink_open(second, &options, &other), -EBUSY);
    ck_assert_int_eq(unlink(area_of(path)), 0);
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &other), -EBUSY);
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
    EXPECT(open_as(TWINLOG_SINK_SHARED, &own) == 0);
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

/* ---- deaths ------------------------------------------------------------------------------------------ */

static uint32_t dying_flags;
static const char *dying_point;
static int dying_signal;

/* Uses the sink in every way, and meets the point. */
static int die_at_point(void)
{
    struct twinlog_sink *sink;
    struct twinlog_sink_options options = options_of(dying_flags);
    options.initial_bytes = 4096;
    options.max_bytes = dying_flags & TWINLOG_SINK_SHARED ? 0 : 3 * 4096;
    options.keep_files = 2;
    signal_there = dying_signal;
    wanted_point = dying_point;
    EXPECT(twinlog_sink_open(path, &options, &sink) == 0);
    for (unsigned i = 0; i < 2000; i++) {
        EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
        atomic_fetch_add(&shared->acked, 1);
        EXPECT(i != 100 || dying_signal != SIGKILL || twinlog_sink_sync(sink) == 0);
    }
    while (atomic_load(&shared->step) == 1)
        usleep(1000);
    return twinlog_sink_close(sink);
}

static unsigned count_lines(const char *name, unsigned *ret_voids)
{
    size_t size;
    unsigned lines = 0;
    const size_t length = strlen(LINE);
    if (bytes_of(name) < 0)
        return 0;
    char *bytes = read_file(name, &size);
    ck_assert_uint_eq(size % length, 0);
    for (char *line = bytes; line < bytes + size; line += length) {
        if (strncmp(line, LINE, length) == 0) {
            lines++;
            continue;
        }
        ck_assert_int_eq(strncmp(line, HOLE, length), 0);
        ++*ret_voids;
    }
    free(bytes);
    return lines;
}

/* What the numbered files need; most need nothing. */
static void finish_files(void)
{
    for (unsigned i = 1; i <= 3; i++)
        ck_assert_int_eq(finish(numbered(i), 0), bytes_of(numbered(i)) < 0 ? -ENOENT : 0);
}

static const char *const points[] = {
    "data opened",
    "area locked",
    "area filled in",
    "area ready",
    "place taken",
    "entered",
    "owner confirmed",
    "intent stored",
    "cursor moved",
    "copy half done",
    "copy done",
    "claim done",
    "about to grow",
    "file grown",
    "growth told",
    "sync done",
    "end recorded",
    "about to leave",
    "last one has cut",
    "left",
    /* not where it is shared */
    "name shifted",
    "file dropped",
    "old file named",
};
#define POINTS (sizeof(points) / sizeof(points[0]))
#define SHARED_POINTS 20

/* Everybody dies; the next one to open finds what was acknowledged, and the exact end. */
TEST_LOOP(a_death_anywhere_costs_nothing, (int)POINTS + SHARED_POINTS)
{
    struct twinlog_sink *sink;
    unsigned fillers = 0, lines = 0;
    const bool is_shared = _i >= (int)POINTS;
    dying_flags = is_shared ? TWINLOG_SINK_SHARED : 0;
    dying_point = points[_i % (int)POINTS];
    dying_signal = SIGKILL;
    ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);
    ck_assert_msg(atomic_load(&shared->was_there), "never at \"%s\"", dying_point);
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &sink), 0);
    const struct seen found = look_at(sink);
    put(sink, LINE);
    close_sink(sink);
    finish_files();
    ck_assert_int_eq(bytes_of(path), (int64_t)(found.bytes + strlen(LINE)));
    lines += count_lines(path, &fillers);
    for (unsigned i = 1; i <= 3; i++)
        lines += count_lines(numbered(i), &fillers);
    ck_assert_uint_le(fillers, 1);
    const uint64_t acked = atomic_load(&shared->acked), per_file = 3 * 4096 / strlen(LINE);
    if (is_shared || acked < 2 * per_file) /* none was dropped */
        ck_assert(lines == acked + 1 || lines == acked + 2);
    else
        ck_assert_uint_ge(lines, 2 * per_file);
    expect_errors_beside();
}

/* The second write is as large as the first one, and dies before it has moved the cursor. */
static int write_and_die_again(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(0, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    signal_there = SIGKILL;
    wanted_point = "intent stored";
    return twinlog_sink_write(sink, LINE, strlen(LINE), NULL);
}

/* What its slot says then is not what the write before has claimed. */
TEST(an_intent_is_not_the_claim_before)
{
    ck_assert_int_eq(run_child(write_and_die_again), 128 + SIGKILL);
    close_sink(open_sink(NULL));
    expect_text(path, LINE);
    expect_nothing_beside();
}

static int rotate_and_die(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(0, &sink) == 0);
    EXPECT(rotate(sink) == 0);
    EXPECT(twinlog_sink_write(sink, "a\n", 2, NULL) == 0);
    signal_there = SIGKILL;
    wanted_point = dying_point;
    EXPECT(rotate(sink) == 0);
    return twinlog_sink_close(sink);
}

/* Before the name is another one's, or when it is nobody's: the line is there once. */
TEST_LOOP(a_death_in_a_rotation_costs_nothing, 2)
{
    struct twinlog_sink *sink;
    dying_point = _i == 0 ? "name shifted" : "old file named";
    ck_assert_int_eq(run_child(rotate_and_die), 128 + SIGKILL);
    ck_assert_int_eq(bytes_of(path) < 0, _i == 1);
    ck_assert_int_eq(open_as(0, &sink), 0);
    put(sink, "b\n");
    close_sink(sink);
    finish_files();
    expect_text(path, _i == 0 ? "a\nb\n" : "b\n");
    ck_assert_int_eq(bytes_of(numbered(1)), _i == 0 ? -1 : 2);
    expect_text(numbered(2), "");
    expect_nothing_beside();
}

/* Whatever name it has by then. */
static int write_renamed_and_die(void)
{
    struct twinlog_sink *sink;
    char name[420];
    snprintf(name, sizeof(name), "%s-of-yesterday", path);
    EXPECT(open_as(0, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "a\n", 2, NULL) == 0);
    EXPECT(rename(path, name) == 0);
    kill(getpid(), SIGKILL);
    return 1;
}

static pid_t stop_child_at(const char *point);

/* The next opening leaves it alone, and what is needed to finish it. */
TEST_LOOP(a_renamed_file_is_finished_when_it_is_named, 2)
{
    char name[420];
    snprintf(name, sizeof(name), "%s-of-yesterday", path);
    ck_assert_int_eq(run_child(write_renamed_and_die), 128 + SIGKILL);
    const int64_t bytes = bytes_of(name);
    ck_assert_int_gt(bytes, 2);
    if (_i == 1)
        close_sink(open_sink(NULL));
    ck_assert_int_eq(bytes_of(name), bytes);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(finish(name, 0), 0);
        expect_text(name, "a\n");
        expect_nothing_beside();
    }
    ck_assert_int_eq(bytes_of(path), _i == 1 ? 0 : -1);
}

/* One is killed in the renamed file, while another one has gone on to the next. */
TEST(a_renamed_file_is_finished_beside_living_ones)
{
    const pid_t child = stop_child_at("copy half done");
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    struct twinlog_sink *sink = open_sink(NULL);
    ck_assert_int_eq(finish(numbered(1), 0), 0); /* not yet: it is in use */
    ck_assert_int_gt(bytes_of(numbered(1)), (int64_t)strlen(LINE));
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_int_eq(finish(numbered(1), 0), 0);
    put(sink, "b\n");
    close_sink(sink);
    expect_two_files(HOLE, "b\n");
}

TEST(what_finish_refuses)
{
    struct twinlog_sink *sink;
    ck_assert_int_eq(finish(path, 0), -ENOENT);
    ck_assert_int_eq(bytes_of(path), -1);
    put_file(path, "a\0\0", 3);
    ck_assert_int_eq(finish(path, 0), -EUCLEAN);
    ck_assert_int_eq(bytes_of(path), 3);
    ck_assert_int_eq(finish(path, TWINLOG_SINK_DROP_ZEROS), 0);
    expect_text(path, "a");
    ck_assert_int_eq(open_as(0, &sink), 0);
    put(sink, "b");
    ck_assert_int_eq(finish(path, 0), -EBUSY);
    close_sink(sink);
    expect_text(path, "ab");
    expect_nothing_beside();
}

/* One dies, another one lives and makes its write harmless. */
TEST_LOOP(the_survivor_cleans_up, 2)
{
    dying_flags = TWINLOG_SINK_SHARED;
    dying_point = "copy half done";
    dying_signal = SIGKILL;
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, LINE);
    ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);
    put(sink, LINE);
    if (_i == 0) {
        ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    } else {
        struct stat about;
        char last = 0;
        const int fd = open(path, O_RDONLY);
        ck_assert_int_eq(fstat(fd, &about), 0);
        AWAIT(pread(fd, &last, 1, (off_t)(2 * strlen(LINE) - 1)) == 1 &&
              last == '\n'); /* the thread does it */
        close(fd);
    }
    ck_assert_uint_eq(look_at(sink).participants, 1);
    close_sink(sink);
    expect_text(path, LINE HOLE LINE);
}

/* It has a child that lives on. */
static int die_as_a_parent(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == 0);
    const pid_t child = fork();
    if (child == 0) {
        while (atomic_load(&shared->step) == 0)
            usleep(1000);
        _exit(twinlog_sink_close(sink) != TWINLOG_EFORKED);
    }
    signal_there = SIGKILL;
    wanted_point = "copy half done";
    return twinlog_sink_write(sink, LINE, strlen(LINE), NULL);
}

TEST(a_dead_parent_is_dead)
{
    struct twinlog_sink *sink = open_sink(NULL);
    ck_assert_int_eq(run_child(die_as_a_parent), 128 + SIGKILL);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    atomic_store(&shared->step, 1);
    close_sink(sink);
    expect_text(path, HOLE);
}

static pid_t stop_child_at(const char *point)
{
    int status;
    dying_flags = TWINLOG_SINK_SHARED;
    dying_point = point;
    dying_signal = SIGSTOP;
    const pid_t child = start_child(die_at_point);
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    return child;
}

static _Atomic int sync_result;

static void *sync_it(void *context)
{
    atomic_store(&sync_result, twinlog_sink_sync(context));
    return NULL;
}

/* Only a sync waits for a stopped process, and that only for what was claimed. */
TEST_LOOP(a_stopped_process_is_not_dead, 2)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = stop_child_at(_i == 0 ? "copy half done" : "intent stored");
    put(sink, LINE);
    atomic_store(&sync_result, 1);
    atomic_store(&shared->was_there, false);
    wanted_point = "sync waits";
    pthread_t thread = start_thread(sync_it, sink);
    if (_i == 1)
        pthread_join(thread, NULL);
    else
        AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(atomic_load(&sync_result), _i == 0 ? 1 : 0);
    ck_assert_uint_eq(look_at(sink).participants, 2);
    atomic_store(&shared->step, 2);
    kill(child, SIGCONT);
    if (_i == 0)
        pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&sync_result), 0);
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
}

static void *sync_too(void *context)
{
    return (void *)(intptr_t)twinlog_sink_sync(context);
}

/* However many there are, in a file that was renamed meanwhile. No other call waits. */
TEST(syncs_that_wait_hold_up_no_other)
{
    pthread_t threads[SLOTS + 1];
    void *result;
    const struct twinlog_sink_options options = options_of(TWINLOG_SINK_SHARED);
    struct twinlog_sink *sink = open_sink(&options);
    const pid_t child = stop_child_at("copy half done");
    for (unsigned i = 0; i <= SLOTS; i++)
        threads[i] = start_thread(sync_too, sink);
    AWAIT(atomic_load(&sink->without_lane) == SLOTS + 1);
    for (unsigned i = 0; i < 5; i++)
        put(sink, LINE);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    put(sink, LINE);
    ck_assert_uint_eq(atomic_load(&sink->without_lane), SLOTS + 1);
    atomic_store(&shared->step, 2);
    kill(child, SIGCONT);
    for (unsigned i = 0; i <= SLOTS; i++) {
        pthread_join(threads[i], &result);
        ck_assert_int_eq((int)(intptr_t)result, 0);
    }
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
}

/* Its file is renamed meanwhile; it goes on there, or in the next one. */
TEST_LOOP(a_stopped_process_finds_its_file_renamed, 4)
{
    static const char *const places[] = { "copy half done", "intent stored", "file grown", "about to grow" };
    unsigned fillers = 0;
    struct twinlog_sink *sink = open_sink(NULL);
    const struct sink_file *first = atomic_load(&sink->file);
    put(sink, LINE);
    const pid_t child = stop_child_at(places[_i]);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    AWAIT(twinlog_sink_reopen(sink) == 1 || atomic_load(&sink->file) != first);
    put(sink, LINE);
    atomic_store(&shared->step, 2);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
    const unsigned lines = count_lines(path, &fillers) + count_lines(numbered(1), &fillers);
    ck_assert_uint_eq(lines, 2002);
    ck_assert_uint_eq(fillers, 0);
    expect_nothing_beside();
}

/* ---- rotation ---------------------------------------------------------------------------------------- */

TEST(a_limit_makes_the_next_file)
{
    uint64_t offset;
    struct twinlog_sink_options options = options_of(0);
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

TEST(rotate_by_hand)
{
    struct twinlog_sink *sink = NULL;
    ck_assert_int_eq(open_as(0, &sink), 0);
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
    struct twinlog_sink *sink = open_sink(&WITH_SIZE(sink_options, .flags = 0));
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

/* ---- syncs ------------------------------------------------------------------------------------------- */

TEST(synced_bytes_are_told)
{
    struct twinlog_sink_options options = options_of(0);
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

/* ---- areas that are not what they should be -------------------------------------------------------- */

static bool does_sync;

static int write_and_die(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "a\n\0\0", 4, NULL) == 0);
    EXPECT(!does_sync || twinlog_sink_sync(sink) == 0);
    kill(getpid(), SIGKILL);
    return 1;
}

enum spoiling {
    SPOIL_NOTHING,
    SPOIL_BOOT,
    SPOIL_MAGIC,
    SPOIL_VERSION,
    SPOIL_READY,
    SPOIL_INODE,
    SPOIL_CURSOR,
    SPOIL_SIZE,
    SPOIL_ALL,
    SPOIL_EMPTY,
    SPOILINGS
};

static void spoil(enum spoiling how)
{
    static const size_t places[] = {
        [SPOIL_BOOT] = offsetof(struct area, boot),
        [SPOIL_MAGIC] = offsetof(struct area, magic),
        [SPOIL_VERSION] = offsetof(struct area, version),
        [SPOIL_READY] = offsetof(struct area, is_ready),
        [SPOIL_INODE] = offsetof(struct area, identity.inode),
        [SPOIL_CURSOR] = offsetof(struct area, cursor),
    };
    static unsigned char garbage[8192];
    if (how == SPOIL_NOTHING)
        return;
    memset(garbage, 0xa5, sizeof(garbage));
    if (how == SPOIL_SIZE)
        ck_assert_int_eq(truncate(area_of(path), 5000), 0);
    else if (how == SPOIL_EMPTY)
        ck_assert_int_eq(truncate(area_of(path), 0), 0);
    else if (how == SPOIL_ALL)
        patch_file(area_of(path), 0, garbage, sizeof(garbage));
    else
        patch_file(area_of(path), (off_t)places[how], garbage, 4);
}

/* Where the area can be believed it has the exact end, or at least what was synced. Else the caller decides. */
TEST_LOOP(an_area_that_is_spoiled_is_not_believed, 2 * SPOILINGS)
{
    struct twinlog_sink *sink;
    does_sync = _i >= SPOILINGS;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    ck_assert_int_ge(bytes_of(path), 64 * (int64_t)KIB);
    spoil((enum spoiling)(_i % SPOILINGS));
    int rc = open_as(TWINLOG_SINK_SHARED, &sink);
    const enum spoiling how = (enum spoiling)(_i % SPOILINGS);
    if (how == SPOIL_NOTHING || (does_sync && (how == SPOIL_BOOT || how == SPOIL_CURSOR))) {
        ck_assert_int_eq(rc, 0);
        ck_assert_uint_eq(look_at(sink).bytes, 4);
    } else {
        ck_assert_int_eq(rc, -EUCLEAN);
        ck_assert_int_eq(open_as(TWINLOG_SINK_DROP_ZEROS, &sink), 0);
        ck_assert_uint_eq(look_at(sink).bytes, 2);
    }
    const uint64_t found = look_at(sink).bytes;
    put(sink, "b\n");
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), (int64_t)found + 2);
    expect_nothing_beside();
}

/* After a crash of the system: what was synced, zeros and all, and nothing is truncated behind it that might be
 * data. */
TEST_LOOP(a_crash_of_the_system_keeps_what_was_synced, 2)
{
    struct twinlog_sink *sink;
    does_sync = true;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    spoil(SPOIL_BOOT);
    if (_i > 0)
        patch_file(path, 4096, "late", 4); /* written and not synced, and what was before it is lost */
    ck_assert_int_eq(open_as(0, &sink), _i == 0 ? 0 : -EUCLEAN);
    if (_i == 1)
        ck_assert_int_eq(open_as(TWINLOG_SINK_DROP_ZEROS, &sink), 0);
    ck_assert_uint_eq(look_at(sink).bytes, _i == 0 ? 4 : 4100);
    put(sink, "\n");
    close_sink(sink);
    expect_nothing_beside();
}

static struct area *watched;
static struct {
    enum simdisk_op op;
    uint64_t recorded;
} seen_syncs[10];
static unsigned syncs;

static int note_sync(const struct hooked_call *call)
{
    if (call->op != SIM_SYNC && call->op != SIM_SYNC_DIR)
        return 0;
    seen_syncs[syncs].op = call->op;
    seen_syncs[syncs++].recorded = atomic_load(&watched->recorded);
    return 0;
}

/* So after a power cut in between nothing is recorded that is not there. The record and the names are on the disk when
 * the call returns. */
TEST(a_sync_puts_down_the_bytes_then_where_they_end)
{
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    watched = atomic_load(&sink->file)->area;
    put(sink, LINE);
    syncs = 0;
    hooked(sink->io, note_sync);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    ck_assert_uint_eq(syncs, 3);
    ck_assert_int_eq(seen_syncs[0].op, SIM_SYNC);
    ck_assert_uint_eq(seen_syncs[0].recorded, 0);
    ck_assert_int_eq(seen_syncs[1].op, SIM_SYNC);
    ck_assert_uint_eq(seen_syncs[1].recorded, strlen(LINE));
    ck_assert_int_eq(seen_syncs[2].op, SIM_SYNC_DIR);
    close_sink(sink);
}

static int fail_to_sync(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    EXPECT(forbid(SYS_fdatasync, EIO));
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    if (dying_signal != 0)
        kill(getpid(), dying_signal);
    return twinlog_sink_close(sink);
}

/* The kernel would call the next sync a success. The process closes the sink, or dies, and perhaps another program
 * appends a line. */
TEST_LOOP(a_sync_that_failed_stays_failed, 3)
{
    dying_signal = _i == 2 ? SIGKILL : 0;
    ck_assert_int_eq(run_child(fail_to_sync), _i == 2 ? 128 + SIGKILL : 0);
    if (_i == 1)
        patch_file(path, (off_t)strlen(LINE), LINE, strlen(LINE));
    struct twinlog_sink *sink = open_sink(NULL);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
        put(sink, LINE);
        close_sink(sink);
        sink = open_sink(NULL);
    }
    close_sink(sink);
    expect_text(path, _i == 1 ? LINE LINE LINE LINE : LINE LINE LINE);
}

/* The error goes with the process. Another one has the file open, or opens it afterwards, with an area that is
 * believed, or with a file that has changed. */
static int die_in_sync(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(TWINLOG_SINK_SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    EXPECT(forbid(SYS_fdatasync, EIO));
    signal_there = dying_signal;
    wanted_point = "sync done";
    return twinlog_sink_sync(sink);
}

TEST_LOOP(a_death_in_a_sync_is_a_failed_sync, 3)
{
    const struct twinlog_sink_options options = options_of(TWINLOG_SINK_SHARED | TWINLOG_SINK_DROP_ZEROS);
    struct twinlog_sink *sink = _i == 0 ? open_sink(&options) : NULL;
    dying_signal = SIGKILL;
    ck_assert_int_eq(run_child(die_in_sync), 128 + SIGKILL);
    if (_i == 2)
        patch_file(path, (off_t)strlen(LINE), LINE, strlen(LINE));
    if (!sink)
        sink = open_sink(&options);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
        put(sink, LINE);
        close_sink(sink);
        sink = open_sink(&options);
    }
    close_sink(sink);
}

/* One is stopped when it has been told of an error, and before it has stored that. The kernel tells it to no file that
 * is opened later, so a sync there waits. */
TEST_LOOP(a_sync_waits_for_one_that_may_have_failed, 2)
{
    int status;
    dying_signal = SIGSTOP;
    const pid_t child = start_child(die_in_sync);
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, LINE);
    atomic_store(&sync_result, 1);
    atomic_store(&shared->was_there, false);
    signal_there = 0;
    wanted_point = "sync waits";
    pthread_t thread = start_thread(sync_it, sink);
    AWAIT(atomic_load(&shared->was_there) || atomic_load(&sync_result) != 1);
    ck_assert_int_eq(atomic_load(&sync_result), 1);
    atomic_store(&shared->step, 1);
    kill(child, _i == 0 ? SIGCONT : SIGKILL);
    AWAIT(atomic_load(&sync_result) != 1);
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&sync_result), -EIO);
    wait_child(child);
    twinlog_sink_close(sink);
}

/* ---- locks of other programs ----------------------------------------------------------------------- */

static int lock_as_reader(const char *name, off_t start, off_t length)
{
    struct flock range = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &range), 0);
    return fd;
}

/* A program that reads the file has locked all of it. */
TEST(a_reader_that_locks_the_file_stops_nobody)
{
    put_text(path, "a\n");
    const int fd = lock_as_reader(path, 0, 0);
    struct twinlog_sink *sink = open_sink(NULL), *other = open_sink(NULL);
    put(sink, "b\n");
    put(other, "c\n");
    close_sink(sink);
    close_sink(other);
    close(fd);
    expect_text(path, "a\nb\nc\n");
    expect_nothing_beside();
}

/* The kernel tells only the first lock: that of the reader, and not that of the sink with the first name. */
TEST(a_reader_hides_no_sink_of_another_name)
{
    char second[450];
    put_text(path, "a\n");
    const int fd = lock_as_reader(path, 0, 0);
    struct twinlog_sink *sink = open_sink(NULL), *other;
    put(sink, "b\n");
    link_elsewhere(second, sizeof(second));
    const struct twinlog_sink_options options = options_of(TWINLOG_SINK_SHARED | TWINLOG_SINK_DROP_ZEROS);
    ck_assert_int_eq(twinlog_sink_open(second, &options, &other), -EBUSY);
    put(sink, "c\n");
    close(fd);
    close_sink(sink);
    expect_text(path, "a\nb\nc\n");
}

/* A lock for reading makes nobody alive: the file is truncated. */
TEST(a_reader_that_locks_a_place_is_not_alive)
{
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, "a\n");
    const int fd = lock_as_reader(area_of(path), 100, 1);
    close_sink(sink);
    close(fd);
    expect_text(path, "a\n");
    expect_nothing_beside();
}

/* Nor is it waited for without end where the one before has died in a write. */
TEST(a_reader_that_locks_a_dead_place_ends_a_sync)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = stop_child_at("copy half done");
    stop_thread(sink);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    const int fd = lock_as_reader(area_of(path), 2, 1);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EBUSY);
    close(fd);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    close_sink(sink);
    expect_text(path, HOLE);
    expect_nothing_beside();
}

static void *open_it(void *context)
{
    return (void *)(intptr_t)open_as(TWINLOG_SINK_SHARED, context);
}

/* The lock for opening and closing: both give up after a while, and the next opening puts everything right. */
TEST(no_wait_for_a_lock_is_for_ever)
{
    struct twinlog_sink *sink = open_sink(NULL), *other = NULL;
    void *opened;
    put(sink, "a\n");
    const int fd = lock_as_reader(area_of(path), 0, 1);
    pthread_t thread = start_thread(open_it, &other);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    pthread_join(thread, &opened);
    ck_assert_int_eq((int)(intptr_t)opened, -EBUSY);
    ck_assert_int_eq(twinlog_sink_close(sink), -EBUSY);
    ck_assert_int_gt(bytes_of(path), 2);
    close(fd);
    close_sink(open_sink(NULL));
    expect_text(path, "a\n");
    expect_nothing_beside();
}

/* As on a file system without reserved space that is full: an error, no signal, and the file is not touched by a
 * process that does not know any more how long it is. */
TEST_LOOP(an_area_that_is_lost_is_an_error, 2)
{
    struct twinlog_sink *sink, *other;
    ck_assert_int_eq(open_as(0, &sink), 0);
    put(sink, LINE);
    ck_assert_int_eq(truncate(area_of(path), 0), 0);
    ck_assert_int_eq(twinlog_sink_write(sink, LINE, strlen(LINE), NULL), -EIO);
    ck_assert_int_eq(twinlog_sink_write(sink, LINE, strlen(LINE), NULL), -EIO);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    ck_assert_int_eq(twinlog_sink_close(sink), -EIO);
    ck_assert_int_gt(bytes_of(path), (int64_t)strlen(LINE));
    ck_assert_int_eq(open_as(0, &other), -EUCLEAN);
    ck_assert_int_eq(open_as(TWINLOG_SINK_DROP_ZEROS, &other), 0);
    close_sink(other);
    expect_text(path, LINE);
    expect_nothing_beside();
}

/* Also while a sync waits for a process that is stopped. */
TEST(a_sync_does_not_wait_in_a_lost_area)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = stop_child_at("copy half done");
    put(sink, LINE);
    atomic_store(&sync_result, 1);
    atomic_store(&shared->was_there, false);
    wanted_point = "sync waits";
    pthread_t thread = start_thread(sync_it, sink);
    AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(truncate(area_of(path), 0), 0);
    atomic_store(&shared->step, 2);
    AWAIT(atomic_load(&sync_result) == -EIO);
    pthread_join(thread, NULL);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_int_eq(twinlog_sink_close(sink), -EIO);
}

static unsigned char *mapped_in_parent;

/* What the child maps there is its own affair. */
static int meet_a_fault(void)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    unsigned char *bytes =
        mmap(mapped_in_parent, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 8 * (off_t)MIB);
    EXPECT(bytes == mapped_in_parent);
    *bytes = 1;
    return 0;
}

TEST_LOOP(a_child_has_no_views_of_its_parent, 2)
{
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, LINE);
    struct sink_file *file = atomic_load(&sink->file);
    mapped_in_parent = _i ? (unsigned char *)file->area : atomic_load(&file->chunks[1].bytes);
#if HAS_SANITIZER
    ck_assert_int_ne(run_child(meet_a_fault), 0);
#else
    ck_assert_int_eq(run_child(meet_a_fault), 128 + SIGBUS);
#endif
    close_sink(sink);
}

TEST(another_version_that_is_alive_is_left_alone)
{
    struct twinlog_sink *sink = NULL, *other;
    const uint32_t newer = AREA_VERSION + 1, ours = AREA_VERSION;
    sink = open_sink(NULL);
    patch_file(area_of(path), offsetof(struct area, version), &newer, sizeof(newer));
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &other), TWINLOG_EVERSION);
    patch_file(area_of(path), offsetof(struct area, version), &ours, sizeof(ours));
    put(sink, "a\n");
    close_sink(sink);
    expect_text(path, "a\n");
}

TEST(what_strangers_do_to_the_file)
{
    static char block[8192];
    memset(block, 'x', sizeof(block));
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, "a\n");
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    AWAIT(twinlog_sink_write(sink, block, sizeof(block), NULL) == -EIO);
    ck_assert_int_eq(twinlog_sink_write(sink, "b", 1, NULL), -EIO);
    twinlog_sink_close(sink); /* says so again, if a write was under way */
    ck_assert_int_eq(bytes_of(path), 0);
    close_sink(open_sink(NULL));
    expect_nothing_beside();
}

/* ---- files that are not the sink's ---------------------------------------------------------------- */

#define STRANGER 12345u /* a user */

static const char *stranger(void)
{
    static char name[420];
    snprintf(name, sizeof(name), "%s/archive.gz", log_dir);
    return name;
}

/* An area that any process of the sink would believe: nobody is alive in it, its cursor is at `end`, and a dead
 * participant has claimed the first `hole` bytes. */
static void plant_area(const char *name, uint64_t end, uint64_t hole)
{
    struct area *area;
    struct io *io;
    struct io_file *file, *data;
    ck_assert_int_eq(twl_io_posix_create(log_dir, false, &io), 0);
    ck_assert_int_eq(io_open_or_create(io, strrchr(area_of(name), '/') + 1, 0, &file), 0);
    ck_assert_int_eq(io_open(io, strrchr(name, '/') + 1, 0, &data), 0);
    ck_assert_int_eq(twl_area_prepare(file, 0), 0);
    ck_assert_int_eq(twl_area_map(file, &area), 0);
    ck_assert_int_eq(twl_identity_of(data, &area->identity), 0);
    atomic_store(&area->cursor, cursor_of(end, 0));
    atomic_store(&area_slot(area, 1)->size, hole);
    atomic_store(&area_slot(area, 1)->state, CLAIM_KINDS + CLAIM_CLAIMED);
    atomic_store(&area->is_used[1], hole > 0);
    twl_area_finish(area);
    twl_mapping_close(area, AREA_BYTES);
    io_close(data);
    io_close(file);
    io->ops->destroy(io);
}

/* Another program's file, that ends in zeros and has some inside. Nothing beside the sink's file is a reason to touch
 * it, also if its number, its birth and the boot are right. */
TEST_LOOP(a_left_over_leads_to_no_file, 2)
{
    static const char bytes[] = "a\0\0b\n\0\0\0";
    const struct twinlog_sink_options options = options_of(TWINLOG_SINK_DROP_ZEROS);
    size_t size;
    put_file(stranger(), bytes, sizeof(bytes));
    put_text(area_of(stranger()), "");
    if (_i == 1)
        plant_area(stranger(), 5, 4);
    close_sink(open_sink(&options));
    char *found = read_file(stranger(), &size);
    ck_assert_uint_eq(size, sizeof(bytes));
    ck_assert_int_eq(memcmp(found, bytes, size), 0);
    free(found);
}

/* In a copy of a directory the names beside are those of other inodes, here of another program's file. */
TEST(a_copied_directory_is_another_one)
{
    static const char bytes[] = "a\0\0b\n\0\0\0";
    char command[3000], copied[450], area[450];
    struct twinlog_sink *sink;
    size_t size;
    put_file(stranger(), bytes, sizeof(bytes));
    sink = open_sink(NULL);
    put(sink, "a\n");
    snprintf(area, sizeof(area), "%s", area_of(stranger()));
    snprintf(command, sizeof(command),
             "cp -a %s %s && mkdir %s/copy && cp -a %s/.twinlog.* %s/out %s %s/copy", area_of(path), area,
             log_dir, log_dir, log_dir, stranger(), log_dir);
    ck_assert_int_eq(system(command), 0);
    snprintf(path, sizeof(path), "%s/copy/out", log_dir);
    snprintf(copied, sizeof(copied), "%s/copy/archive.gz", log_dir);
    struct twinlog_sink *other;
    ck_assert_int_eq(open_as(TWINLOG_SINK_DROP_ZEROS, &other), 0);
    put(other, "b\n");
    close_sink(other);
    expect_text(path, "a\nb\n");
    const char *const names[] = { copied, stranger() };
    for (unsigned i = 0; i < 2; i++) {
        char *found = read_file(names[i], &size);
        ck_assert_uint_eq(size, sizeof(bytes));
        ck_assert_int_eq(memcmp(found, bytes, size), 0);
        free(found);
    }
    snprintf(path, sizeof(path), "%s/out", log_dir);
    close_sink(sink);
    expect_text(path, "a\n");
}

/* A second name of a file is nothing that a sink has made. */
TEST(an_area_with_two_names_is_refused)
{
    struct twinlog_sink *sink;
    put_text(path, "old\n");
    put_text(stranger(), "another program's\n");
    ck_assert_int_eq(link(stranger(), area_of(path)), 0);
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &sink), -EPERM);
    expect_text(stranger(), "another program's\n");
    expect_text(path, "old\n");
}

/* In a directory where everybody may make files, what another user has made there is not believed. */
TEST_LOOP(what_another_user_plants_is_refused, 4)
{
    static const mode_t modes[] = { 01777, 0777, 01755, 0755 };
    static const char bytes[] = "a\0\0\0\n\0\0\0";
    struct twinlog_sink *sink;
    uint64_t end;
    size_t size;
    if (geteuid() != 0) {
        fprintf(stderr, "SKIP what_another_user_plants_is_refused: only root can give files away\n");
        return;
    }
    const bool is_refused = _i < 3;
    ck_assert_int_eq(chmod(log_dir, modes[_i]), 0);
    put_file(path, bytes, sizeof(bytes));
    plant_area(path, 5, 4);
    ck_assert_int_eq(chown(area_of(path), STRANGER, STRANGER), 0);
    ck_assert_int_eq(open_as(TWINLOG_SINK_SHARED, &sink), is_refused ? -EPERM : 0);
    if (is_refused) {
        char *found = read_file(path, &size);
        ck_assert_uint_eq(size, sizeof(bytes));
        ck_assert_int_eq(memcmp(found, bytes, size), 0);
        free(found);
        ck_assert_int_eq(twinlog_sink_end(path, &end), -EUCLEAN);
    } else {
        close_sink(sink);
        expect_text(path, "   \n\n");
    }
}

/* Nor what it makes while the name is nobody's; the sink stays in its file then. */
TEST_LOOP(what_another_user_makes_between_two_files_is_refused, 3)
{
    static const mode_t modes[] = { 01777, 0777, 0755 };
    void *rotated;
    struct twinlog_sink *sink;
    if (geteuid() != 0) {
        fprintf(stderr,
                "SKIP what_another_user_makes_between_two_files_is_refused: only root can give files away\n");
        return;
    }
    ck_assert_int_eq(chmod(log_dir, modes[_i]), 0);
    ck_assert_int_eq(open_as(0, &sink), 0);
    put(sink, "a\n");
    signal_there = 0;
    wanted_point = "old file named";
    pthread_t rotating = start_thread(rotate_it, sink);
    AWAIT(atomic_load(&shared->was_there));
    put_text(path, "planted\n");
    ck_assert_int_eq(chown(path, STRANGER, STRANGER), 0);
    atomic_store(&shared->step, 1);
    pthread_join(rotating, &rotated);
    ck_assert_int_eq((int)(intptr_t)rotated, _i < 2 ? -EPERM : 0);
    put(sink, "b\n");
    close_sink(sink);
    expect_text(path, _i < 2 ? "planted\n" : "planted\nb\n");
    expect_text(numbered(1), _i < 2 ? "a\nb\n" : "a\n");
    expect_nothing_beside();
}

/* All users with the right to write the data file may use what lies beside it. */
TEST(what_lies_beside_is_the_owners)
{
    struct stat about;
    if (geteuid() != 0) {
        fprintf(stderr, "SKIP what_lies_beside_is_the_owners: only root can give files away\n");
        return;
    }
    put_text(path, "");
    ck_assert_int_eq(chown(path, STRANGER, STRANGER), 0);
    ck_assert_int_eq(chmod(path, 0640), 0);
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, "a\n");
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    ck_assert_int_eq(stat(area_of(path), &about), 0);
    ck_assert_uint_eq(about.st_uid, STRANGER);
    ck_assert_uint_eq(about.st_gid, STRANGER);
    ck_assert_uint_eq(about.st_mode & 0777, 0640);
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
    const pid_t child = stop_child_at("copy half done");
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

TEST(claims_follow_each_other)
{
    uint64_t start = 0;
    struct area *area = new_area();
    ck_assert_int_eq(twl_claim(area, 1, 10, &start), CLAIM_MADE);
    ck_assert_uint_eq(start, 0);
    ck_assert_int_eq(twl_claim(area, area_owner(PARTICIPANTS, SLOTS - 1), 20, &start), CLAIM_MADE);
    ck_assert_uint_eq(start, 10);
    twl_claim_free(area_slot(area, 1));
    ck_assert_int_eq(twl_claim(area, 1, 971, &start), CLAIM_NEEDS_ROOM);
    area->max_bytes = 31;
    ck_assert_int_eq(twl_claim(area, 1, 2, &start), CLAIM_NEEDS_NEXT);
    ck_assert_int_eq(twl_claim(area, 1, 1, &start), CLAIM_MADE);
    twl_claim_free(area_slot(area, 1));
    ck_assert_uint_eq(area_offset(area), 31);
    munmap(area, AREA_BYTES);
}

/* The owner of the cursor dies before it has confirmed; an intent that was never made is none. */
TEST_LOOP(the_cursor_tells_whether_an_intent_was_made, 2)
{
    uint64_t start;
    struct area *area = new_area();
    struct slot *made = area_slot(area, 1), *not_made = area_slot(area, 2);
    atomic_store(&made->start, 0);
    atomic_store(&made->size, 10);
    atomic_store(&made->state, 7 * CLAIM_KINDS + CLAIM_INTENT);
    atomic_store(&not_made->start, 0);
    atomic_store(&not_made->size, 12);
    atomic_store(&not_made->state, 3 * CLAIM_KINDS + CLAIM_INTENT);
    atomic_store(&area->cursor, cursor_of(10, 1));
    atomic_store(&area->is_used[1], true);
    ck_assert_uint_eq(twl_claim_copied(area), 0);
    if (_i == 0)
        twl_claim_settle(area);
    else
        ck_assert_int_eq(twl_claim(area, 3, 5, &start), CLAIM_MADE);
    const struct claim claim = twl_claim_read(made);
    ck_assert_int_eq(claim.kind, CLAIM_CLAIMED);
    ck_assert_uint_eq(claim.start, 0);
    ck_assert_uint_eq(claim.size, 10);
    ck_assert_int_eq(twl_claim_read(not_made).kind, CLAIM_INTENT);
    ck_assert_uint_eq(twl_claim_copied(area), 0);
    munmap(area, AREA_BYTES);
}
