/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trim that another process asks for: what the process that asks is told, whatever the one that writes does between
 * any two of its steps. The writers here answer nobody by themselves, but when a test has them look.
 */
#define _GNU_SOURCE
#include "control/state.h"
#include "gate.h"
#include "hooked.h"
#include "log/change.h"
#include "log/handle.h"
#include "members.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the one that asks -------------------------------------------------------------------------- */

#define MOST_LOOKS 20u /* it would ask for ever */

static void (*when_asleep)(void);
static unsigned times_asleep;

static void sleep_hooked(struct io *io, unsigned ms)
{
    (void)io;
    (void)ms;
    ck_assert_uint_lt(++times_asleep, MOST_LOOKS);
    when_asleep();
}

/* It asks, and `act` is what happens each time before it looks again; until it is told something. */
static int ask_and(void (*act)(void), uint64_t before_lsn, uint64_t *ret_first_lsn)
{
    const struct twinlog_trim_options options = WITH_SIZE(trim_options, .before_lsn = before_lsn);
    struct io *io = log_io(true);
    struct io_ops ops = *io->ops;

    when_asleep = act;
    times_asleep = 0;
    ops.sleep_ms = sleep_hooked;
    io->ops = &ops;
    return twl_ask_trim(io, &options, -1, ret_first_lsn);
}

/* It asks, and goes away. */
static void ask_only(uint64_t before_lsn)
{
    const struct twinlog_trim_options options = WITH_SIZE(trim_options, .before_lsn = before_lsn);

    ck_assert_int_eq(twinlog_ask_trim(log_dir, &options, 0, NULL), -ETIMEDOUT);
}

static bool is_wished(void)
{
    struct io *io = log_io(true);
    struct state_entry entry;
    struct state state;

    ck_assert_int_eq(twl_state_read(io, &state, NULL), 0);
    const bool is_there = twl_state_find(&state, STATE_VALUE, STATE_TRIM_NAME, &entry);
    twl_state_free(&state);
    io->ops->destroy(io);
    return is_there;
}

/* ---- the one that writes ------------------------------------------------------------------------ */

static struct twinlog *writer;
static bool is_trim_refused; /* the list of segments cannot be read */

/* What others do before the step `step`, which is a change of the state file. NULL: nothing. */
static void (*between_steps)(void);
static unsigned steps, step;

static int before_step(const struct hooked_call *call)
{
    if (call->op == SIM_LIST && is_trim_refused)
        return -EIO;

    const bool is_of_state = call->op == SIM_OPEN && strcmp(call->name, STATE_NAME) == 0;
    if (!is_of_state || (call->flags & IO_READ_ONLY))
        return 0;
    if (++steps == step && between_steps)
        between_steps();
    return 0;
}

/* A mapped log, as its trims read the list of segments each time. */
static void open_writer(void)
{
    struct twinlog_options options = small(TWINLOG_MODE_MAPPED);

    is_trim_refused = false;
    between_steps = NULL;
    options.flags = LOG_NO_THREADS;
    writer = log_on(hooked_log_dir(before_step), &options);
}

static void make_writer(void)
{
    logdir_make();
    log_close(open_mode(TWINLOG_MODE_MAPPED));
    open_writer();
    append_records(writer, 0, 0, 600);
    ck_assert_int_eq(twinlog_sync(writer), 0);
}

static void look(void)
{
    steps = 0;
    twl_retain(writer);
}

static void look_in_vain(void)
{
    is_trim_refused = true;
    look();
    is_trim_refused = false;
}

CASE("answers", make_writer, logdir_remove);

static unsigned looks;

static void fail_then_do(void)
{
    looks++;
    is_trim_refused = looks == 1;
    look();
    is_trim_refused = false;
}

TEST(a_trim_that_failed_is_told_once_and_not_done_later)
{
    looks = 0;
    ck_assert_int_eq(ask_and(fail_then_do, 300, NULL), -EIO);
    ck_assert(!is_wished());

    look();
    ck_assert_uint_eq(twinlog_first_lsn(writer), 1);
    ck_assert_int_eq(ask_and(look, 300, NULL), 0);
    ck_assert_uint_eq(twinlog_first_lsn(writer), 300);
    log_close(writer);
}

static void count_and_look(void)
{
    looks++;
    ask_only(looks == 1 ? 400 : 500);
    look();
}

/* The writer has looked once for both. */
TEST(of_two_that_ask_before_a_look_each_is_answered_by_it)
{
    uint64_t first_lsn = 0;

    looks = 0;
    ck_assert_int_eq(ask_and(count_and_look, 300, &first_lsn), 0);
    ck_assert_uint_eq(looks, 1);
    ck_assert_uint_eq(first_lsn, 400);
    log_close(writer);
}

static void fail_and_answer_another(void)
{
    if (++looks > 1) {
        look();
        return;
    }
    look_in_vain();
    ask_only(2);
    look();
}

/* While it slept, the writer has failed it, and has done what another one asked for. */
TEST(the_answer_to_a_later_wish_is_none_to_this_one)
{
    uint64_t first_lsn = 0;

    looks = 0;
    ck_assert_int_eq(ask_and(fail_and_answer_another, 300, &first_lsn), 0);
    ck_assert_uint_eq(first_lsn, 300);
    log_close(writer);
}

static void set_cursor(uint64_t lsn)
{
    struct twinlog *beside = log_open(&LOG_OPTIONS(.flags = TWINLOG_READ_ONLY));

    ck_assert_int_eq(twinlog_cursor_set(beside, "consumer", lsn), 0);
    log_close(beside);
}

static void move_cursor_and_ask_again(void)
{
    set_cursor(119);
    ask_only(300);
}

static const struct {
    const char *name;
    unsigned before;
    uint64_t first_lsn; /* after the first look */
} steps_of_a_look[] = {
    { "before it reads the wish", 1, 120 },
    { "before it moves the head", 2, 120 },
    { "before it removes the wish", 3, 50 },
};

/* The same wish as the one that is being granted; but a cursor has moved, so it means more. */
TEST_EACH(a_wish_that_comes_during_a_look_is_granted, steps_of_a_look)
{
    set_cursor(49);
    ask_only(300);
    step = row->before;
    between_steps = move_cursor_and_ask_again;
    look();
    ck_assert_uint_ge(steps, step);
    ck_assert_uint_eq(twinlog_first_lsn(writer), row->first_lsn);

    between_steps = NULL;
    look();
    ck_assert_uint_eq(twinlog_first_lsn(writer), 120);
    ck_assert(!is_wished());
    log_close(writer);
}

static void look_and_close(void)
{
    look();
    log_close(writer);
}

static void close_only(void)
{
    log_close(writer);
}

static void look_and_change_writer(void)
{
    look_and_close();
    open_writer();
    log_close(writer);
}

static const struct {
    const char *name;
    void (*act)(void);
    int told;
    uint64_t first_lsn;
} ends_of_a_writer[] = {
    { "it answers and closes the log", look_and_close, 0, 300 },
    { "it closes the log", close_only, -ESRCH, 1 },
    { "another one has come and gone, too", look_and_change_writer, -ESRCH, 300 },
};

TEST_EACH(what_a_writer_has_answered_counts_when_it_is_gone, ends_of_a_writer)
{
    uint64_t first_lsn = 0;

    ck_assert_int_eq(ask_and(row->act, 300, &first_lsn), row->told);
    ck_assert_uint_eq(log_inspect().first_lsn, row->first_lsn);
    if (row->told == 0)
        ck_assert_uint_eq(first_lsn, row->first_lsn);
}

static void lose_page(void)
{
    ck_assert_int_eq(truncate(log_file(PAGE_FILE_NAME), 0), 0);
}

/* A user with the right to read is enough to lock it. */
TEST(a_state_file_that_is_locked_holds_up_no_call_longer_than_it_says)
{
    const struct twinlog_trim_options options = WITH_SIZE(trim_options, .before_lsn = 2);
    struct flock all = { .l_type = F_RDLCK };
    const int fd = open(log_file("state"), O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &all), 0);
    ck_assert_int_eq(twinlog_ask_trim(log_dir, &options, 50, NULL), -EAGAIN);
    close(fd);
    ask_only(2);
    ck_assert(is_wished());
}

TEST(a_page_that_is_lost_has_no_answer)
{
    ck_assert_int_eq(ask_and(lose_page, 300, NULL), -ENOTSUP);
    log_close(writer);
}

/* ---- several that write ------------------------------------------------------------------------- */

CASE("several answer", set_up_members, logdir_remove);

static bool is_looking;

/* Its trims fail; at one operation it dies. */
static int fail_or_die(const struct hooked_call *call)
{
    if (!is_looking)
        return 0;
    if (++steps == atomic_load(&self->with))
        raise(SIGKILL);
    return call->op == SIM_LIST ? -EIO : 0;
}

static int open_to_fail(void)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);

    return log_try_on(hooked_log_dir(fail_or_die), &options, &own_log);
}

static int look_and_fail(void)
{
    steps = 0;
    is_looking = true;
    twl_grant_trim_wishes(own_log);
    is_looking = false;
    return 0;
}

static struct twinlog *survivor;
static struct member *failing;
static unsigned death;
static bool has_died;

static bool is_over(void)
{
    int status;

    if (!atomic_load(&failing->order))
        return true;
    has_died = waitpid(atomic_load(&failing->pid), &status, WNOHANG) > 0;
    return has_died;
}

static void look_one_after_the_other(void)
{
    post(failing, look_and_fail, death);
    AWAIT(is_over());
    twl_grant_trim_wishes(survivor);
}

/* At each operation of one that cannot trim, until it has none left. */
TEST(whenever_one_dies_that_answers_no_trim_is_told_that_was_not_done)
{
    uint64_t head = 1, first_lsn;
    unsigned done = 0;

    survivor = open_shared(LOG_NO_THREADS);
    append_records(survivor, 0, 0, 600);
    ck_assert_int_eq(twinlog_sync(survivor), 0);
    do {
        has_died = false;
        death++;
        failing = start_member(0);
        ck_assert_int_eq(ask(failing, open_to_fail, 0), 0);
        const int told = ask_and(look_one_after_the_other, head + 1, &first_lsn);
        ck_assert_msg(told == 0 || told == -EIO, "died at %u: %d", death, told);
        if (told == 0) {
            done++;
            head++;
            ck_assert_uint_eq(first_lsn, head);
        }
        ck_assert_msg(twinlog_first_lsn(survivor) == head, "died at %u: told %d", death, told);
        if (has_died)
            atomic_store(&failing->pid, 0);
    } while (has_died);

    ck_assert_uint_gt(done, 2); /* it has died before it had answered */
    ck_assert_uint_lt(done, death);
    end_member(failing);
    log_close(survivor);
    expect_kept(head, 600);
}

static void look_beside(void)
{
    twl_grant_trim_wishes(survivor);
}

static void look_around_another(void)
{
    is_trim_refused = true;
    steps = 0;
    step = 2;
    between_steps = look_beside;
    twl_grant_trim_wishes(writer);
    between_steps = NULL;
    is_trim_refused = false;
}

/* What a slower one found is older than what it was asked. */
TEST(the_first_answer_to_a_wish_stays)
{
    const struct twinlog_options options = shared_options(LOG_NO_THREADS);
    uint64_t first_lsn = 0;

    between_steps = NULL;
    is_trim_refused = false;
    survivor = open_shared(LOG_NO_THREADS);
    writer = log_on(hooked_log_dir(before_step), &options);
    append_records(survivor, 0, 0, 600);
    ck_assert_int_eq(twinlog_sync(survivor), 0);

    ck_assert_int_eq(ask_and(look_around_another, 300, &first_lsn), 0);
    ck_assert_uint_eq(first_lsn, 300);
    ck_assert(!is_wished());
    log_close(writer);
    log_close(survivor);
    expect_kept(300, 600);
}
