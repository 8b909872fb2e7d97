/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The path of a sink is a symbolic link: the file is where the link leads to, its old files are beside it, and the link
 * stays as it is. A link that leads to nothing says where the file is to be made, unless a stranger may have made it.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "sinks.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char start[PATH_MAX];

/* All names are in the directory of the test, as the process stands there. */
static void enter_directory(void)
{
    prepare();
    ck_assert_ptr_nonnull(getcwd(start, sizeof(start)));
    ck_assert_int_eq(chdir(log_dir), 0);
    ck_assert_int_eq(mkdir("deep", 0777), 0);
    ck_assert_int_eq(mkdir("deep/down", 0777), 0);
}

static void leave_directory(void)
{
    if (*start)
        ck_assert_int_eq(chdir(start), 0);
    logdir_remove();
}

CASE("sink_links", enter_directory, leave_directory);

#define MOST_LINKS 3u

static const struct link_row {
    const char *name;
    const char *given; /* the path of the sink */
    const char *file;  /* where its file is */
    struct {
        const char *from, *to; /* "%s" is the directory of the test */
    } links[MOST_LINKS];
} link_rows[] = {
    { "no link", "real", "real", { { 0 } } },
    { "beside its file", "link", "real", { { "link", "real" } } },
    { "into a directory", "link", "deep/down/real", { { "link", "deep/down/real" } } },
    { "out of a directory", "deep/link", "real", { { "deep/link", "../real" } } },
    { "by ways round", "link", "deep/real", { { "link", "./deep/down/../real" } } },
    { "by an absolute path", "deep/link", "deep/down/real", { { "deep/link", "%s/deep/down/real" } } },
    { "to a link", "link", "deep/real", { { "link", "deep/second" }, { "deep/second", "real" } } },
    { "to a link to a link",
      "link",
      "deep/real",
      { { "link", "deep/second" }, { "deep/second", "%s/third" }, { "third", "deep/down/../real" } } },
    { "in a directory that is a link",
      "door/link",
      "real",
      { { "door", "deep/down" }, { "deep/down/link", "../../real" } } },
    { "through a directory that is a link",
      "link",
      "deep/down/real",
      { { "door", "deep/down" }, { "link", "door/real" } } },
    { "a directory alone is one", "door/real", "deep/down/real", { { "door", "deep/down" } } },
};

static void make_link(const char *from, const char *to)
{
    char text[PATH_MAX];

    if (strncmp(to, "%s", 2) == 0)
        snprintf(text, sizeof(text), "%s%s", log_dir, to + 2);
    else
        snprintf(text, sizeof(text), "%s", to);
    ck_assert_int_eq(symlink(text, from), 0);
}

static void make_links(const struct link_row *row)
{
    for (unsigned i = 0; i < MOST_LINKS && row->links[i].from; i++)
        make_link(row->links[i].from, row->links[i].to);
}

static void expect_links(const struct link_row *row)
{
    struct stat about;

    for (unsigned i = 0; i < MOST_LINKS && row->links[i].from; i++)
        ck_assert(lstat(row->links[i].from, &about) == 0 && S_ISLNK(about.st_mode));
}

/* A file that follows the one of that name. */
static const char *older(const char *file, unsigned number)
{
    static char name[PATH_MAX];

    snprintf(name, sizeof(name), "%s.%u", file, number);
    return name;
}

/* A line of four bytes fills a file, and two old ones are kept. */
static struct twinlog_sink *open_small(const char *name, uint32_t flags)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = flags, .max_bytes = 4, .keep_files = 2);
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(twinlog_sink_open(name, &options, &sink), 0);
    return sink;
}

/* Which the thread of the sink would follow, too: the test says when. */
static void turn_link(const char *name, const char *to)
{
    ck_assert_int_eq(symlink(to, "turned"), 0);
    ck_assert_int_eq(rename("turned", name), 0);
}

/* ---- rotation ---------------------------------------------------------------------------------------------- */

static void expect_rotation(const struct link_row *row, uint32_t flags)
{
    make_links(row);
    put_text(row->file, "one\n");
    struct twinlog_sink *sink = open_small(row->given, flags);

    put(sink, "two\n");
    put(sink, "six\n");
    put(sink, "ten\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    close_sink(sink);
    expect_links(row);
    expect_text(row->file, "ten\n");
    expect_text(row->given, "ten\n");
    expect_text(older(row->file, 1), "six\n");
    expect_text(older(row->file, 2), "two\n");
    ck_assert_int_lt(bytes_of(older(row->file, 3)), 0);
}

TEST_EACH(an_exact_sink_rotates_where_the_link_leads_to, link_rows)
{
    expect_rotation(row, EXACT);
}

TEST_EACH(a_shared_exact_sink_rotates_where_the_link_leads_to, link_rows)
{
    expect_rotation(row, EXACT | SHARED);
}

TEST_EACH(a_mapped_sink_rotates_where_the_link_leads_to, link_rows)
{
    expect_rotation(row, MAPPED);
}

static const struct kind_row {
    const char *name;
    uint32_t flags;
} kind_rows[] = {
    { "an exact sink", EXACT },
    { "a shared exact sink", EXACT | SHARED },
    { "a mapped sink", MAPPED },
};

/* Two processes share the file: one of them rotates, and the other one follows. */
TEST(another_sink_of_the_link_follows)
{
    make_link("link", "deep/real");
    struct twinlog_sink *sink = open_small("link", EXACT | SHARED);
    struct twinlog_sink *other = open_small("link", EXACT | SHARED);

    put(sink, "one\n");
    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_sync(other), 0);
    put(other, "six\n");
    close_sink(other);
    close_sink(sink);
    expect_text("link", "six\n");
    expect_text("deep/real.1", "two\n");
    expect_text("deep/real.2", "one\n");
}

/* The path counts, and not where it led to once. */
TEST_EACH(a_link_that_is_turned_to_another_file_is_followed, kind_rows)
{
    put_text("other", "");
    make_link("link", "deep/real");
    struct twinlog_sink *sink = open_small("link", row->flags);

    put(sink, "one\n");
    turn_link("link", "other");
    put(sink, "two\n");
    put(sink, "six\n");
    close_sink(sink);
    expect_text("deep/real", "one\n");
    ck_assert_int_lt(bytes_of("deep/real.1"), 0);
    expect_text("other.1", "two\n");
    expect_text("other", "six\n");
}

TEST_EACH(a_link_that_is_turned_to_nothing_gets_a_file_there, kind_rows)
{
    struct stat about;

    make_link("link", "deep/real");
    struct twinlog_sink *sink = open_small("link", row->flags);

    put(sink, "one\n");
    ck_assert_int_eq(chmod("deep/real", 0640), 0);
    turn_link("link", "deep/down/other");
    put(sink, "two\n");
    put(sink, "six\n");
    close_sink(sink);
    expect_text("deep/real", "one\n");
    ck_assert_int_lt(bytes_of("deep/real.1"), 0);
    expect_text("deep/down/other.1", "two\n");
    expect_text("deep/down/other", "six\n");
    ck_assert_int_eq(stat("deep/down/other", &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0640); /* as before */
}

static uint32_t jailed_flags;

static int write_in_jail(void)
{
    struct twinlog_sink *sink = open_small("real", jailed_flags);

    if (chroot("jail") < 0)
        return CANNOT_RUN;
    put(sink, "one\n");
    put(sink, "two\n");
    EXPECT(twinlog_sink_reopen(sink) == 0);
    put(sink, "six\n");
    close_sink(sink);
    return 0;
}

/* A jail with a directory of the same path. */
static void make_jail(char inside[PATH_MAX + 32])
{
    char command[PATH_MAX + 32];

    snprintf(command, sizeof(command), "mkdir -p 'jail/%s'", log_dir);
    snprintf(inside, PATH_MAX + 32, "jail/%s/real", log_dir);
    ck_assert_int_eq(system(command), 0);
}

TEST_EACH(a_sink_stays_where_it_was_before_chroot, kind_rows)
{
    char inside[PATH_MAX + 32];

    make_jail(inside);
    jailed_flags = row->flags;
    if (!expect_success_or_skip(run_child(write_in_jail), "a_sink_stays_where_it_was_before_chroot",
                                "only root gets another root directory"))
        return;
    expect_text("real", "six\n");
    expect_text("real.1", "two\n");
    expect_text("real.2", "one\n");
    ck_assert_int_lt(bytes_of(inside), 0);
}

static int leave_mapped_file(void)
{
    const struct twinlog_sink_options options = options_of(MAPPED);
    struct twinlog_sink *sink;

    EXPECT(twinlog_sink_open("mapped", &options, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, "one\n", 4, NULL) == 0);
    kill(getpid(), SIGKILL);
    return 1;
}

/* The names are still those outside: only the root is another one. */
static int follow_from_jail(void)
{
    const struct twinlog_sink_options options = options_of(SHARED);
    struct twinlog_sink *sink;

    EXPECT(twinlog_sink_open("real", &options, &sink) == 0);
    if (chroot("jail") < 0)
        return CANNOT_RUN;
    EXPECT(rename("mapped", "real") == 0);
    EXPECT(twinlog_sink_reopen(sink) >= 0); /* 0: its thread was faster */
    EXPECT(twinlog_sink_write(sink, "two\n", 4, NULL) == 0);
    return twinlog_sink_close(sink);
}

TEST(an_exact_sink_finishes_the_file_that_it_goes_on_in_behind_chroot)
{
    char inside[PATH_MAX + 32];

    make_jail(inside);
    ck_assert_int_eq(run_child(leave_mapped_file), 128 + SIGKILL);
    if (!expect_success_or_skip(run_child(follow_from_jail),
                                "an_exact_sink_finishes_the_file_that_it_goes_on_in_behind_chroot",
                                "only root gets another root directory"))
        return;
    expect_text("real", "one\ntwo\n");
    expect_nothing_beside();
    ck_assert_int_lt(bytes_of(inside), 0);
}

/* As logrotate does it: by the name of the file. */
TEST_EACH(reopening_makes_the_file_that_the_link_leads_to, kind_rows)
{
    make_link("link", "deep/real");
    struct twinlog_sink *sink = open_small("link", row->flags);

    put(sink, "one\n");
    ck_assert_int_eq(rename("deep/real", "deep/away"), 0);
    ck_assert_int_ge(twinlog_sink_reopen(sink), 0); /* 0: its thread was faster */
    put(sink, "two\n");
    close_sink(sink);
    expect_text("deep/away", "one\n");
    expect_text("deep/real", "two\n");
}

/* ---- opening ----------------------------------------------------------------------------------------------- */

static void expect_made(const struct link_row *row, uint32_t flags)
{
    const struct twinlog_sink_options options = options_of(flags);
    struct twinlog_sink *sink;

    make_links(row);
    ck_assert_int_eq(twinlog_sink_open(row->given, &options, &sink), 0);
    put(sink, "one\n");
    close_sink(sink);
    expect_links(row);
    expect_text(row->file, "one\n");
}

TEST_EACH(an_exact_sink_makes_the_file_that_the_link_leads_to, link_rows)
{
    expect_made(row, EXACT);
}

TEST_EACH(a_mapped_sink_makes_the_file_that_the_link_leads_to, link_rows)
{
    expect_made(row, MAPPED);
}

static uint32_t dying_kind;

static int rotate_and_die(void)
{
    struct twinlog_sink *sink = open_small("link", dying_kind);

    put(sink, "one\n");
    signal_there = SIGKILL;
    wanted_point = dying_kind & MAPPED ? "old file named" : "exact name shifted";
    (void)twinlog_sink_write(sink, "two\n", 4, NULL);
    return 1;
}

/* A kill behind the rename has left the link without a file. */
TEST_EACH(a_sink_goes_on_behind_a_kill_in_the_middle_of_a_rotation, kind_rows)
{
    struct stat about;

    make_link("link", "deep/real");
    put_text("deep/real", "");
    ck_assert_int_eq(chmod("deep/real", 0640), 0);
    dying_kind = row->flags;
    ck_assert_int_eq(run_child(rotate_and_die), 128 + SIGKILL);
    ck_assert_int_lt(bytes_of("deep/real"), 0);

    struct twinlog_sink *sink = open_small("link", row->flags);
    put(sink, "six\n");
    close_sink(sink);
    expect_text("deep/real", "six\n");
    ck_assert_int_eq(stat("deep/real", &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0640);
    if (!(row->flags & MAPPED)) /* of which nobody has finished the old one */
        expect_text("deep/real.1", "one\n");
}

static const struct refused_row {
    const char *name;
    const char *to;
    int rc;
} refused_rows[] = {
    { "into a directory that is missing", "no/where", -ENOENT },
    { "to nothing that is called a directory", "nowhere/", -ENOTSUP },
    { "to the link itself", "link", -ENOTSUP },
    { "below a file", "file/below", -ENOTDIR },
};

TEST_EACH(a_link_that_can_have_no_file_is_refused, refused_rows)
{
    const struct twinlog_sink_options options = options_of(EXACT);
    struct twinlog_sink *sink;

    put_text("file", "");
    make_link("link", row->to);
    ck_assert_int_eq(twinlog_sink_open("link", &options, &sink), row->rc);
}

/* Each of the two is short enough for the kernel. */
TEST(a_link_that_leads_to_too_long_a_path_is_refused)
{
    const struct twinlog_sink_options options = options_of(EXACT);
    struct twinlog_sink *sink;
    char text[PATH_MAX] = "";

    while (strlen(text) + strlen("./real") < PATH_MAX - 2)
        strcat(text, "./");
    strcat(text, "real");
    make_link("deep/link", text);
    ck_assert_int_eq(twinlog_sink_open("deep/link", &options, &sink), -ENAMETOOLONG);
    ck_assert_int_lt(bytes_of("deep/real"), 0);
}

/* ---- the owner of a link ------------------------------------------------------------------------------------ */

/* With the rule of fs.protected_symlinks, whatever that is here. */
static const struct owner_row {
    const char *name;
    mode_t mode;                   /* of the directory of the first link */
    bool is_link_of_stranger[2];   /* of the first link, and of the one that it leads to */
    bool is_directory_of_stranger; /* of the first link */
    int rc;
} owner_rows[] = {
    { "own, where everybody may write", 01777, { false, false }, false, 0 },
    { "of a stranger, where everybody may write", 01777, { true, false }, false, -EACCES },
    { "to one of a stranger, where everybody may write", 01777, { false, true }, false, -EACCES },
    { "of the owner of the directory", 01777, { true, false }, true, 0 },
    { "of a stranger, where the group may write", 01775, { true, false }, false, 0 },
    { "of a stranger, where all may remove it", 0777, { true, false }, false, 0 },
};

static void give_link(const char *name, bool is_of_stranger)
{
    if (is_of_stranger)
        ck_assert_int_eq(lchown(name, STRANGER, STRANGER), 0);
}

TEST_EACH(a_link_to_nothing_is_followed_unless_a_stranger_may_have_put_it, owner_rows)
{
    const struct twinlog_sink_options options = options_of(EXACT);
    struct twinlog_sink *sink;

    if (geteuid() != 0) {
        fprintf(stderr, "SKIP a_link_to_nothing_is_followed: only root can give files away\n");
        return;
    }

    make_link("deep/link", "second");
    make_link("deep/second", "../real");
    give_link("deep/link", row->is_link_of_stranger[0]);
    give_link("deep/second", row->is_link_of_stranger[1]);
    ck_assert_int_eq(chmod("deep", row->mode), 0);
    if (row->is_directory_of_stranger)
        ck_assert_int_eq(chown("deep", STRANGER, STRANGER) | lchown("deep/second", STRANGER, STRANGER), 0);

    const int rc = twinlog_sink_open("deep/link", &options, &sink);
    ck_assert_int_eq(rc, row->rc);
    ck_assert_int_eq(access("real", F_OK) == 0, rc == 0);
    if (rc == 0)
        close_sink(sink);
}

static void *open_link(void *context)
{
    const struct twinlog_sink_options options = options_of(EXACT);
    struct twinlog_sink *sink;

    const int rc = twinlog_sink_open("link", &options, &sink);
    if (rc == 0)
        twinlog_sink_close(sink);
    *(int *)context = rc;
    return NULL;
}

static const struct changed_row {
    const char *name;
    const char *before, *after; /* what the link says; NULL: it is gone */
    int rc;
} changed_rows[] = {
    { "to nothing, and gone", "nowhere", NULL, -ENOENT },
    { "to nothing, and another one", "nowhere", "elsewhere", -EACCES },
    { "to a file, and gone", "file", NULL, -ENOENT },
    { "to a file, and to another one", "file", "other", -EACCES },
    { "to a file, and to nothing", "file", "elsewhere", -ENOENT },
};

/* Its rights were another one's. */
TEST_EACH(a_link_that_changes_while_it_is_followed_is_not_followed, changed_rows)
{
    int rc = 0;

    put_text("file", "");
    put_text("other", "");
    make_link("link", row->before);
    signal_there = 0;
    wanted_point = "link found";
    const pthread_t thread = start_thread(open_link, &rc);
    AWAIT(atomic_load(&shared->was_there));
    if (row->after)
        turn_link("link", row->after);
    else
        ck_assert_int_eq(unlink("link"), 0);
    atomic_store(&shared->step, 1);
    pthread_join(thread, NULL);
    ck_assert_int_eq(rc, row->rc);
    ck_assert_int_lt(access("nowhere", F_OK), 0);
    ck_assert_int_lt(access("elsewhere", F_OK), 0);
}
