/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fork.h at each place where a fork can come in between, and without memory. The thread that opens a file is
 * stopped before a system call, while another one forks. The storms of forks in the suite descriptors come by chance to
 * the same places.
 */
#define _GNU_SOURCE
#include "asked.h"
#include "forbid.h"
#include "logdir.h"
#include "suites.h"

#include "base/fork.h"
#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- a file that is opened beside forks ------------------------------------------------------------ */

#define OVERTAKEN 4u           /* after so many tries that forks have overtaken, a fork gives way */
#define GIVES_WAY_NS 10000000u /* for so long, if nothing happens */

static char path[300], other_path[300];

static struct {
    unsigned forks; /* one before each of the first tries to open the file */
    void (*before_second)(void);
    unsigned refused_look; /* the number of a look at an open file that fails; 0 = none */
    int flags;

    unsigned opens, looks;
    uint64_t flags_of_last;
    uint64_t fork_ns[OVERTAKEN + 3]; /* how long fork() took before each try, from 1 */
} story;

/* How long fork() took. */
static uint64_t fork_once(void)
{
    const uint64_t began_ns = twl_monotonic_ns();
    const pid_t child = fork();
    if (child == 0)
        _exit(0);

    const uint64_t took_ns = twl_monotonic_ns() - began_ns;
    ck_assert_int_eq(wait_child(child), 0);
    return took_ns;
}

static void before_open(const struct seccomp_notif *asked)
{
    story.opens++;
    story.flags_of_last = asked->data.args[2];
    if (story.opens <= story.forks)
        story.fork_ns[story.opens] = fork_once();
    if (story.opens == 2 && story.before_second)
        story.before_second();
}

static bool is_look(int call)
{
#ifdef SYS_newfstatat
    if (call == SYS_newfstatat)
        return true;
#endif
    return call == SYS_fstat;
}

static int tell_story(const struct seccomp_notif *asked)
{
    if (asked->data.nr == SYS_openat && (const char *)(uintptr_t)asked->data.args[1] == path)
        before_open(asked);
    if (!is_look(asked->data.nr))
        return 0;
    story.looks++;
    return story.looks == story.refused_look ? EIO : 0;
}

static struct child_file file;
static int file_fd;

static int open_in_story(void)
{
    return twl_child_open(&file, &file_fd, AT_FDCWD, path, story.flags, 0600);
}

/* False: no thread can be stopped, and `test` is skipped. */
static bool tell(const char *test, int *ret_result)
{
    const struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF) };

    *ret_result = with_asked_calls(open_in_story, all, 1, tell_story);
    return could_ask(*ret_result, test);
}

static void prepare(void)
{
    logdir_make();
    snprintf(path, sizeof(path), "%s/file", log_parent);
    snprintf(other_path, sizeof(other_path), "%s/other", log_parent);
    put_file(other_path, "other", 5);
}

#define DESCRIPTORS_LOOKED_AT 100

static unsigned count_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < DESCRIPTORS_LOOKED_AT; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            count++;
    return count;
}

static void put_other_file(void)
{
    rename(other_path, path);
}

static void put_link_to_elsewhere(void)
{
    unlink(path);
    if (symlink("/dev/null", path) < 0)
        abort();
}

static void remove_it(void)
{
    unlink(path);
}

CASE("a file that is opened", prepare, logdir_remove);

static const struct created_row {
    const char *name;
    void (*before_second)(void);
    unsigned refused_look;
    int result;
} created_rows[] = {
    { "it is opened again", NULL, 0, 0 },
    { "another file has its name by then", put_other_file, 0, -EEXIST },
    { "a file of another disk has its name by then", put_link_to_elsewhere, 0, -EEXIST },
    { "it is removed by then", remove_it, 0, -ENOENT },
    { "it is not known what was created", NULL, 1, -EEXIST },
    { "it is not known what was opened again", NULL, 2, -EEXIST },
};

/* The child may have the file as it was opened first. What is opened behind the fork must be what was created. */
TEST_EACH(a_file_that_was_created_beside_a_fork_is_opened_again, created_rows)
{
    const unsigned descriptors = count_descriptors();
    int result;

    memset(&story, 0, sizeof(story));
    story.forks = 1;
    story.before_second = row->before_second;
    story.refused_look = row->refused_look;
    story.flags = O_RDWR | O_CREAT | O_EXCL;
    if (!tell("a_file_that_was_created_beside_a_fork_is_opened_again", &result))
        return;

    ck_assert_int_eq(result, row->result);
    ck_assert_uint_eq(story.opens, 2);
    const bool may_create_again = row->refused_look == 1;
    ck_assert((story.flags_of_last & O_CREAT) == (may_create_again ? O_CREAT : 0));
    if (result == 0)
        twl_child_close(&file, &file_fd);
    ck_assert_int_eq(file_fd, -1);
    ck_assert_uint_eq(count_descriptors(), descriptors); /* nothing is left open */
}

/* Nothing was created, so any file of that name will do. */
TEST(a_file_that_was_not_there_beside_a_fork_is_looked_for_again)
{
    int result;

    memset(&story, 0, sizeof(story));
    story.forks = 1;
    story.before_second = put_other_file;
    story.flags = O_RDWR;
    if (!tell("a_file_that_was_not_there_beside_a_fork_is_looked_for_again", &result))
        return;

    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(story.opens, 2);
    ck_assert_uint_eq(story.looks, 0);
    twl_child_close(&file, &file_fd);
}

/* ---- a fork that gives way ------------------------------------------------------------------------- */

/* The clock may stop for as long at any moment, so it is tried again. */
static bool forks_at_once(void)
{
    for (unsigned tries = 0; tries < 1000; tries++)
        if (fork_once() < GIVES_WAY_NS)
            return true;
    return false;
}

static int fork_in_child(void)
{
    EXPECT(forks_at_once());
    return 0;
}

static int result_of_child;

/* At the fifth try the thread has been overtaken four times. */
static int tell_of_overtaken(const struct seccomp_notif *asked)
{
    const unsigned opens = story.opens;

    tell_story(asked);
    if (story.opens > opens && story.opens == OVERTAKEN + 1 && !HAS_SANITIZER)
        result_of_child = run_child(fork_in_child); /* the thread is not there */
    return 0;
}

TEST(a_fork_gives_way_to_a_thread_that_was_overtaken_often)
{
    const struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF) };

    memset(&story, 0, sizeof(story));
    story.forks = OVERTAKEN + 1;
    story.flags = O_RDWR | O_CREAT | O_EXCL;
    const int result = with_asked_calls(open_in_story, all, 1, tell_of_overtaken);
    if (!could_ask(result, "a_fork_gives_way_to_a_thread_that_was_overtaken_often"))
        return;

    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(result_of_child, 0);
    ck_assert_uint_eq(story.opens, OVERTAKEN + 2);
    ck_assert_uint_ge(story.fork_ns[OVERTAKEN + 1], GIVES_WAY_NS);
    twl_child_close(&file, &file_fd);
    ck_assert(HAS_SANITIZER || forks_at_once()); /* with a sanitizer a fork takes as long by itself */
}

/* ---- no memory ------------------------------------------------------------------------------------- */

#define GUARD_PAGE_BYTES 4096u
#define PRIVATE_BYTES (UINT64_C(3) << 20)

CASE("no memory", NULL, NULL);

static struct fork_guard guard;

static void *guard_without_memory(void *ret_result)
{
    int *result = ret_result;

    *result = CANNOT_RUN;
    if (forbid_if(SYS_mmap, ENOMEM, 1, GUARD_PAGE_BYTES))
        *result = twl_fork_guard_init(&guard);
    return NULL;
}

/* The refusal is the thread's, and ends with it. */
TEST(a_guard_that_found_no_memory_can_be_made_later)
{
    int result;

    ck_assert_ptr_null(twl_own_process);
    const pthread_t thread = start_thread(guard_without_memory, &result);
    pthread_join(thread, NULL);
    if (result == CANNOT_RUN) {
        expect_success_or_skip(result, "a_guard_that_found_no_memory_can_be_made_later",
                               "no seccomp filter may be loaded");
        return;
    }

    ck_assert_int_eq(result, -ENOMEM);
    ck_assert_int_eq(twl_fork_guard_init(&guard), 0);
    ck_assert(!twl_fork_guard_is_forked(&guard));
}

static int take_memory_that_is_refused(void)
{
    if (!forbid_if(SYS_mmap, ENOMEM, 1, PRIVATE_BYTES))
        return CANNOT_RUN;
    EXPECT(twl_private_memory(PRIVATE_BYTES) == NULL);
    return 0;
}

TEST(private_memory_that_is_refused_is_none)
{
    expect_success_or_skip(run_child(take_memory_that_is_refused), "private_memory_that_is_refused_is_none",
                           "no seccomp filter may be loaded");
}
