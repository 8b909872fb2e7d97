/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of exact sinks that were cut short, beside another sink, so that what they have left may not be taken back: it
 * gets a newline, and all bytes come again behind that. A disk in memory that is full cuts them.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "logdir.h"
#include "sinks.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE_BYTES 24000u

CASE("sink_torn", prepare, logdir_remove);

static char line[LINE_BYTES]; /* a long one */
static struct twinlog_sink *sink, *other;
static uint32_t torn_flags = SHARED;

/* ---- a disk that is full ------------------------------------------------------------------------------ */

static int resize(const char *size)
{
    return mount("none", log_dir, NULL, MS_REMOUNT, size);
}

static bool mount_small(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", log_dir, "tmpfs", 0, "size=64k") == 0;
}

/* Two sinks have the file, and one of them has left a part of its third line. */
static int tear(void)
{
    memset(line, 'x', LINE_BYTES - 1);
    line[LINE_BYTES - 1] = '\n';
    if (!mount_small())
        return CANNOT_RUN;
    /* As on many file systems: no space can be reserved. Nor is it known how much there is. */
    if (!forbid(SYS_fallocate, EOPNOTSUPP) || !forbid(SYS_fstatfs, ENOSYS))
        return CANNOT_RUN;
    EXPECT(open_as(torn_flags, &sink) == 0);
    EXPECT(open_as(torn_flags, &other) == 0);
    for (unsigned i = 0; i < 2; i++)
        EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == -ENOSPC);
    EXPECT(bytes_of(path) > 2 * LINE_BYTES && bytes_of(path) < 3 * LINE_BYTES);
    return 0;
}

/* Each line of the file is a long one, `text`, or a part of a long one, of which there are `parts`. */
static bool has_whole_lines(const char *name, const char *text, unsigned parts)
{
    const int64_t size = bytes_of(name);
    char *bytes = malloc((size_t)size + 1);
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    bool is_whole = size > 0 && pread(fd, bytes, (size_t)size, 0) == size && bytes[size - 1] == '\n';

    for (const char *at = bytes; is_whole && at < bytes + size;) {
        const char *end = memchr(at, '\n', (size_t)(bytes + size - at));
        const size_t length = (size_t)(end - at) + 1;
        const bool is_long = length == LINE_BYTES && memcmp(at, line, length) == 0;
        const bool is_text = length == strlen(text) && memcmp(at, text, length) == 0;
        const bool is_part = strspn(at, "x") == length - 1;

        if (!is_long && !is_text && is_part)
            parts--;
        is_whole = is_long || is_text || is_part;
        at = end + 1;
    }

    close(fd);
    free(bytes);
    return is_whole && parts == 0;
}

static int close_both(void)
{
    const int closed = twinlog_sink_close(sink);

    return twinlog_sink_close(other) | closed;
}

/* ---- in the same file ---------------------------------------------------------------------------------- */

static int fail_again_and_write(void)
{
    const int torn = tear();

    if (torn != 0)
        return torn;
    EXPECT(twinlog_sink_write(sink, "another\n", 8, NULL) == -ENOSPC);
    EXPECT(resize("size=256k") == 0);
    EXPECT(twinlog_sink_write(sink, "whole\n", 6, NULL) == 0);
    EXPECT(has_whole_lines(path, "whole\n", 1));
    return close_both();
}

TEST(a_part_is_not_forgotten_when_the_next_write_fails)
{
    expect_success_or_skip(run_child(fail_again_and_write),
                           "a_part_is_not_forgotten_when_the_next_write_fails",
                           "no such file system can be mounted");
}

static int fail_again_and_repeat(void)
{
    const int torn = tear();

    if (torn != 0)
        return torn;
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == -ENOSPC);
    const int64_t end = bytes_of(path);
    EXPECT(resize("size=256k") == 0);
    uint64_t offset;
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, &offset) == 0);
    EXPECT(offset == (uint64_t)end + 1);
    EXPECT(bytes_of(path) == end + 1 + LINE_BYTES && has_whole_lines(path, "", 1));
    return close_both();
}

TEST(a_part_is_not_completed_by_the_same_bytes)
{
    expect_success_or_skip(run_child(fail_again_and_repeat), "a_part_is_not_completed_by_the_same_bytes",
                           "no such file system can be mounted");
}

/* The newline has room, and a part of the line behind it; both are torn then. */
static int tear_behind_a_newline(void)
{
    const int torn = tear();

    if (torn != 0)
        return torn;
    line[0] = 'y';
    EXPECT(resize("size=68k") == 0);
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == -ENOSPC);
    EXPECT(resize("size=256k") == 0);
    EXPECT(twinlog_sink_write(sink, "whole\n", 6, NULL) == 0);
    line[0] = 'x';

    char bytes[4 * LINE_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = pread(fd, bytes, sizeof(bytes), 0);
    close(fd);
    char *second = memchr(bytes, 'y', (size_t)size);
    EXPECT(second && second[-1] == '\n');
    EXPECT(memcmp(bytes + size - 7, "\nwhole\n", 7) == 0);
    return close_both();
}

TEST(a_part_behind_a_newline_is_one_of_its_own)
{
    expect_success_or_skip(run_child(tear_behind_a_newline), "a_part_behind_a_newline_is_one_of_its_own",
                           "no such file system can be mounted");
}

/* A process that ended the part was killed in the middle of its own line. */
static int write_behind_the_dead(void)
{
    char bytes[12];

    torn_flags = SHARED | TWINLOG_SINK_LINES;
    const int torn = tear();
    if (torn != 0)
        return torn;

    EXPECT(resize("size=256k") == 0);
    const int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    EXPECT(write(fd, "\nhalf", 5) == 5);
    EXPECT(twinlog_sink_write(sink, "whole\n", 6, NULL) == 0);
    EXPECT(pread(fd, bytes, sizeof(bytes), bytes_of(path) - (int64_t)sizeof(bytes)) ==
           (ssize_t)sizeof(bytes));
    EXPECT(memcmp(bytes, "\nhalf\nwhole\n", sizeof(bytes)) == 0);
    close(fd);
    return close_both();
}

TEST(a_sink_of_lines_ends_what_the_dead_have_left_behind_its_part)
{
    expect_success_or_skip(run_child(write_behind_the_dead),
                           "a_sink_of_lines_ends_what_the_dead_have_left_behind_its_part",
                           "no such file system can be mounted");
}

/* Where the file ends cannot be asked: nothing is written until it can be. */
static int write_without_size(void)
{
    const int torn = tear();

    if (torn != 0)
        return torn;
    EXPECT(resize("size=256k") == 0);
    const int64_t before = bytes_of(path);
    EXPECT(forbid(SYS_statx, EIO));
    EXPECT(twinlog_sink_write(sink, "whole\n", 6, NULL) == -EIO);
    EXPECT(bytes_of(path) == before);
    return 0;
}

TEST(a_part_is_not_taken_for_a_whole_line_if_nobody_says_so)
{
    expect_success_or_skip(run_child(write_without_size),
                           "a_part_is_not_taken_for_a_whole_line_if_nobody_says_so",
                           "no such file system can be mounted");
}

/* Another one has written behind the part, so it is not completed; the line is there once more, and whole. */
static int repeat_behind_others(void)
{
    const int torn = tear();

    if (torn != 0)
        return torn;
    EXPECT(resize("size=256k") == 0);
    const int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    EXPECT(write(fd, "\nwhole\n", 7) == 7);
    close(fd);
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == 0);
    EXPECT(has_whole_lines(path, "whole\n", 1));
    EXPECT(bytes_of(path) > 3 * LINE_BYTES + 7);
    return close_both();
}

TEST(a_part_behind_which_others_have_written_is_not_completed)
{
    expect_success_or_skip(run_child(repeat_behind_others),
                           "a_part_behind_which_others_have_written_is_not_completed",
                           "no such file system can be mounted");
}

static void *write_long_line(void *rc)
{
    *(int *)rc = twinlog_sink_write(sink, line, LINE_BYTES, NULL);
    return NULL;
}

/* A write of one sink is cut short, and at that point of its second try another program writes. */
static const struct between_row {
    const char *name;
    const char *point, *text;
    bool has_empty_line;
} between_rows[] = {
    { "before the look at the end", "exact write done", "\nwhole\n", false },
    { "a part, before the look at the end", "exact write done", "\nwhole\npart", false },
    { "between the look and the write", "exact end seen", "\nwhole\n", true },
    { "a part, between the look and the write", "exact end seen", "\nwhole\npart", false },
};

static const struct between_row *between;

/* What is behind the part of the cut line: the text of the other one, and the whole line at the start of a line. */
static bool has_both_in_one_piece(void)
{
    static char bytes[6 * LINE_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = read(fd, bytes, sizeof(bytes));
    const char *text = between->text;

    close(fd);
    const char *last = bytes + size - LINE_BYTES;
    const char *behind = memmem(bytes, (size_t)size, text, strlen(text));
    if (size < (ssize_t)LINE_BYTES || !behind || memcmp(last, line, LINE_BYTES) != 0 || last[-1] != '\n')
        return false;

    const bool has_part = text[strlen(text) - 1] != '\n';
    return last - (behind + strlen(text)) == (has_part || between->has_empty_line);
}

static int write_between(void)
{
    int rc = 1;

    memset(line, 'x', LINE_BYTES - 1);
    line[LINE_BYTES - 1] = '\n';
    if (!mount_small() || !forbid(SYS_fallocate, EOPNOTSUPP))
        return CANNOT_RUN;
    EXPECT(open_as(torn_flags, &sink) == 0);
    EXPECT(open_as(torn_flags, &other) == 0);
    for (unsigned i = 0; i < 2; i++)
        EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == 0);

    signal_there = 0;
    points_before = strcmp(between->point, "exact end seen") == 0; /* that of the first try */
    wanted_point = between->point;
    const pthread_t thread = start_thread(write_long_line, &rc);
    AWAIT(atomic_load(&shared->was_there));
    EXPECT(bytes_of(path) > 2 * LINE_BYTES && bytes_of(path) < 3 * LINE_BYTES);
    EXPECT(resize("size=256k") == 0);
    const int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    EXPECT(write(fd, between->text, strlen(between->text)) == (ssize_t)strlen(between->text));
    close(fd);
    atomic_store(&shared->step, 1);
    pthread_join(thread, NULL);
    EXPECT(rc == 0);
    EXPECT(has_both_in_one_piece());
    return close_both();
}

TEST_EACH(a_write_that_was_cut_short_has_no_bytes_of_others_inside, between_rows)
{
    between = row;
    expect_success_or_skip(run_child(write_between),
                           "a_write_that_was_cut_short_has_no_bytes_of_others_inside",
                           "no such file system can be mounted");
}

TEST_EACH(a_write_that_was_cut_short_in_its_turn_has_no_bytes_of_others_inside, between_rows)
{
    between = row;
    torn_flags = SHARED | TWINLOG_SINK_LINES;
    expect_success_or_skip(run_child(write_between),
                           "a_write_that_was_cut_short_in_its_turn_has_no_bytes_of_others_inside",
                           "no such file system can be mounted");
}

/* Whole lines that were in front of the cut come again with the others. */
static int cut_behind_a_newline(void)
{
    const int torn = tear();

    if (torn != 0)
        return torn;
    EXPECT(resize("size=256k") == 0);
    char two[2 * LINE_BYTES];
    memcpy(two, line, LINE_BYTES);
    memcpy(two + LINE_BYTES, line, LINE_BYTES);
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == 0);
    const uint64_t room = 128 * KIB; /* one line more, and a part of the second one */
    EXPECT((uint64_t)bytes_of(path) + LINE_BYTES < room && (uint64_t)bytes_of(path) + 2 * LINE_BYTES > room);
    EXPECT(resize("size=128k") == 0);
    EXPECT(twinlog_sink_write(sink, two, sizeof(two), NULL) == -ENOSPC);
    EXPECT(resize("size=512k") == 0);
    const int64_t end = bytes_of(path);
    uint64_t offset;
    EXPECT(twinlog_sink_write(sink, two, sizeof(two), &offset) == 0);
    EXPECT(offset == (uint64_t)end + 1 && bytes_of(path) == end + 1 + (int64_t)sizeof(two));
    EXPECT(has_whole_lines(path, "", 2));
    return close_both();
}

TEST(lines_of_a_write_that_was_cut_short_come_again)
{
    expect_success_or_skip(run_child(cut_behind_a_newline), "lines_of_a_write_that_was_cut_short_come_again",
                           "no such file system can be mounted");
}

/* Where the part ends cannot be asked: the only sink of the file does not cut it off either. */
static int tear_alone_without_place(void)
{
    memset(line, 'x', LINE_BYTES - 1);
    line[LINE_BYTES - 1] = '\n';
    if (!mount_small() || !forbid(SYS_fallocate, EOPNOTSUPP) || !forbid(SYS_lseek, EIO))
        return CANNOT_RUN;
    EXPECT(open_as(EXACT, &sink) == 0);
    for (unsigned i = 0; i < 2; i++)
        EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == -ENOSPC);
    EXPECT(bytes_of(path) > 2 * LINE_BYTES);
    EXPECT(resize("size=256k") == 0);
    EXPECT(twinlog_sink_write(sink, "whole\n", 6, NULL) == 0);
    EXPECT(has_whole_lines(path, "whole\n", 1));
    return twinlog_sink_close(sink);
}

TEST(a_part_whose_place_is_not_known_is_ended)
{
    expect_success_or_skip(run_child(tear_alone_without_place), "a_part_whose_place_is_not_known_is_ended",
                           "no such file system can be mounted");
}

/* Where the file system has no locks, only the flag says that others may have the file. */
static int tear_without_locks(void)
{
    const bool is_shared = torn_flags & SHARED;

    memset(line, 'x', LINE_BYTES - 1);
    line[LINE_BYTES - 1] = '\n';
    if (!mount_small() || !forbid(SYS_fallocate, EOPNOTSUPP) || !forbid_if(SYS_fcntl, ENOLCK, 1, F_OFD_SETLK))
        return CANNOT_RUN;
    EXPECT(open_as(torn_flags, &sink) == 0);
    for (unsigned i = 0; i < 2; i++)
        EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == 0);
    EXPECT(twinlog_sink_write(sink, line, LINE_BYTES, NULL) == -ENOSPC);
    EXPECT((bytes_of(path) > 2 * LINE_BYTES) == is_shared);
    EXPECT(resize("size=256k") == 0);
    EXPECT(twinlog_sink_write(sink, "whole\n", 6, NULL) == 0);
    EXPECT(has_whole_lines(path, "whole\n", is_shared));
    return twinlog_sink_close(sink);
}

static const struct alone_row {
    const char *name;
    uint32_t flags;
} alone_rows[] = {
    { "it is alone", EXACT },
    { "it is shared", SHARED },
};

TEST_EACH(without_locks_a_part_is_taken_back_by_the_only_sink, alone_rows)
{
    torn_flags = row->flags;
    expect_success_or_skip(run_child(tear_without_locks),
                           "without_locks_a_part_is_taken_back_by_the_only_sink",
                           "no such file system can be mounted");
}

/* ---- in the next file ---------------------------------------------------------------------------------- */

enum leaving {
    LEAVE_BY_ROTATION,
    LEAVE_BY_NAME,
    LEAVE_BY_CLOSE,
};

static const struct leaving_row {
    const char *name;
    enum leaving how;
    bool is_late; /* there is no room for the newline until the file is an old one */
} leaving_rows[] = {
    { "a rotation", LEAVE_BY_ROTATION, false },
    { "a rotation on a full disk", LEAVE_BY_ROTATION, true },
    { "another file has the name", LEAVE_BY_NAME, false },
    { "another file has the name, on a full disk", LEAVE_BY_NAME, true },
    { "a close", LEAVE_BY_CLOSE, false },
};

static const struct leaving_row *leaving;

/* The other sink writes on to the file that this one has left. It keeps a lock until its process ends. */
static int leave(void) NO_THREAD_SAFETY_ANALYSIS
{
    const int torn = tear();

    if (torn != 0)
        return torn;
    twl_mutex_lock(&other->exact->moving); /* it does not follow */
    if (!leaving->is_late)
        EXPECT(resize("size=256k") == 0);
    if (leaving->how == LEAVE_BY_ROTATION)
        EXPECT(twinlog_sink_rotate(sink, INT64_MAX) == 1);
    if (leaving->how == LEAVE_BY_NAME) {
        EXPECT(rename(path, numbered(1)) == 0);
        EXPECT(twinlog_sink_reopen(sink) >= 0);
    }
    if (leaving->how == LEAVE_BY_CLOSE)
        EXPECT(twinlog_sink_close(sink) == 0 && rename(path, numbered(1)) == 0);

    if (leaving->is_late) {
        EXPECT(resize("size=256k") == 0);
        EXPECT(twinlog_sink_sync(sink) == 0);
    }
    EXPECT(twinlog_sink_write(other, "whole\n", 6, NULL) == 0);
    EXPECT(has_whole_lines(numbered(1), "whole\n", 1));
    return 0;
}

TEST_EACH(a_part_is_ended_before_a_sink_leaves_the_file, leaving_rows)
{
    leaving = row;
    expect_success_or_skip(run_child(leave), "a_part_is_ended_before_a_sink_leaves_the_file",
                           "no such file system can be mounted");
}
