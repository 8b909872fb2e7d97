/* SPDX-License-Identifier: Apache-2.0 */
/* See sinks.h. */
#define _GNU_SOURCE
#include "sinks.h"
#include "forbid.h"
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "sink/claim.h"
#include "sink/sink.h"
#include "suites.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

char path[400];

struct shared *shared;

const char *_Atomic wanted_point;
unsigned points_before;
int signal_there;
bool forks_there;
void twl_point(const char *name);

/* Returns when it holds nothing of this process. */
static void leave_child(void)
{
    if (fork() == 0) {
        alarm(60);
        atomic_store(&shared->was_there, true);
        while (atomic_load(&shared->step) == 0)
            usleep(1000);
        _exit(0);
    }
    while (!atomic_load(&shared->was_there))
        usleep(100);
}

void twl_point(const char *name)
{
    if (!wanted_point || strcmp(name, wanted_point) != 0)
        return;
    if (points_before > 0) {
        points_before--;
        return;
    }

    wanted_point = NULL;
    if (forks_there)
        leave_child();
    atomic_store(&shared->was_there, true);
    while (signal_there == 0 && atomic_load(&shared->step) == 0)
        usleep(1000);
    if (signal_there != 0)
        kill(getpid(), signal_there);
}

void prepare(void)
{
    logdir_make();
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    snprintf(path, sizeof(path), "%s/out", log_dir);
    shared = shared_page();
}

const char *numbered(unsigned number)
{
    static char names[4][420];
    static unsigned turn;
    char *name = names[turn++ % 4];
    snprintf(name, sizeof(names[0]), "%s.%u", path, number);
    return name;
}

int64_t bytes_of(const char *name)
{
    struct stat about;
    return stat(name, &about) < 0 ? -1 : about.st_size;
}

const char *area_of(const char *name)
{
    static char area[450];
    struct stat about;
    ck_assert_int_eq(stat(name, &about), 0);
    snprintf(area, sizeof(area), "%s/.twinlog.%ju.sink", log_dir, (uintmax_t)about.st_ino);
    return area;
}

struct twinlog_sink_options options_of(uint32_t flags)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = flags, .initial_bytes = flags & MAPPED ? 64 * KIB : 0);
    return options;
}

int open_as(uint32_t flags, struct twinlog_sink **ret_sink)
{
    const struct twinlog_sink_options options = options_of(flags);
    return twinlog_sink_open(path, &options, ret_sink);
}

struct twinlog_sink *open_sink(const struct twinlog_sink_options *options)
{
    struct twinlog_sink *sink = NULL;
    const struct twinlog_sink_options usual = options_of(MAPPED | SHARED);
    ck_assert_int_eq(twinlog_sink_open(path, options ? options : &usual, &sink), 0);
    return sink;
}

void put(struct twinlog_sink *sink, const char *text)
{
    ck_assert_int_eq(twinlog_sink_write(sink, text, strlen(text), NULL), 0);
}

struct seen look_at(struct twinlog_sink *sink)
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

static void stop_and_start(pthread_t *thread, _Atomic bool *must_stop, struct twl_event *wake)
{
    atomic_store(must_stop, true);
    twl_event_notify_all(wake);
    pthread_join(*thread, NULL);
    atomic_store(must_stop, false);
    *thread = start_thread(end_at_once, NULL); /* for the close to join */
}

void stop_thread(struct twinlog_sink *sink)
{
    if (sink->exact)
        stop_and_start(&sink->exact->thread, &sink->exact->must_stop, &sink->exact->wake);
    else
        stop_and_start(&sink->thread, &sink->must_stop, &sink->wake);
}

int rotate(struct twinlog_sink *sink)
{
    const unsigned lane = twl_lane_take(sink);
    const int rc = twl_sink_move_on(sink, atomic_load(&sink->file), true);
    twl_lane_leave(sink, lane);
    return rc;
}

void close_sink(struct twinlog_sink *sink)
{
    ck_assert_int_eq(twinlog_sink_close(sink), 0);
}

char *read_file(const char *name, size_t *ret_size)
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

void expect_text(const char *name, const char *text)
{
    size_t size;
    char *bytes = read_file(name, &size);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_str_eq(bytes, text);
    free(bytes);
}

static bool is_visible(const char *name)
{
    return name[0] != '.' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

void expect_nothing_beside(void)
{
    DIR *directory = opendir(log_dir);
    ck_assert_ptr_nonnull(directory);
    for (const struct dirent *entry; (entry = readdir(directory));)
        ck_assert_msg(is_visible(entry->d_name), "%s is beside them", entry->d_name);
    closedir(directory);
}

void expect_two_files(const char *older, const char *newer)
{
    expect_text(numbered(1), older);
    expect_text(path, newer);
    expect_nothing_beside();
}

void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

void *rotate_it(void *context)
{
    return (void *)(intptr_t)rotate(context);
}

void link_elsewhere(char *second, size_t size)
{
    snprintf(second, size, "%s/elsewhere", log_dir);
    ck_assert_int_eq(mkdir(second, 0777), 0);
    snprintf(second, size, "%s/elsewhere/second", log_dir);
    ck_assert_int_eq(link(path, second), 0);
}

uint32_t dying_flags;
const char *dying_point;
int dying_signal;

int die_at_point(void)
{
    struct twinlog_sink *sink;
    signal_there = dying_signal;
    wanted_point = dying_point;
    EXPECT(open_as(dying_flags, &sink) == 0);
    for (unsigned i = 0; i < 2000; i++)
        EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    return twinlog_sink_close(sink);
}

pid_t stop_child(int (*body)(void))
{
    const pid_t child = start_child(body);
    wait_until_stopped(child);
    return child;
}

pid_t stop_child_at(const char *point)
{
    dying_flags = MAPPED | SHARED;
    dying_point = point;
    dying_signal = SIGSTOP;
    return stop_child(die_at_point);
}

pid_t stop_child_in_write(void)
{
    return stop_child_at("copy half done");
}

bool does_sync;

int write_and_die(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "a\n\0\0", 4, NULL) == 0);
    EXPECT(!does_sync || twinlog_sink_sync(sink) == 0);
    kill(getpid(), SIGKILL);
    return 1;
}

void spoil(enum spoiling how)
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
    else if (how == SPOIL_BOOT) /* all that tells a boot */
        patch_file(area_of(path), (off_t)places[how], garbage, BOOT_ID_BYTES);
    else
        patch_file(area_of(path), (off_t)places[how], garbage, 4);
}
