/* SPDX-License-Identifier: Apache-2.0 */
/* Requests without records: a sync or a change that a thread of the log makes for a loop. */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include "log/handle.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATIENCE_MS 60000
#define CHANGES 50u

static struct twinlog *log_;
static struct twinlog_queue *queue;

static void open_all(const struct twinlog_options *options)
{
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    log_ = log_open(options);
}

static void close_all(void)
{
    log_close(log_);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}

/* The result of the next request, which has to be this one. */
static int result_of(const struct twinlog_request *request)
{
    struct twinlog_request *done;
    int count = 0;

    while (count == 0) /* there was only news */
        count = twinlog_queue_poll(queue, &done, 1, -1);

    ck_assert_int_eq(count, 1);
    ck_assert_ptr_eq(done, request);
    ck_assert_uint_eq(done->count, 0);
    ck_assert_uint_eq(done->first_lsn, 0);
    return done->result;
}

static int change_now(const struct twinlog_change *change)
{
    struct twinlog_request request = { .queue = queue };

    ck_assert_int_eq(twinlog_submit_change(log_, change, &request), 0);
    return result_of(&request);
}

static void expect_value(const char *name, const char *text)
{
    char value[100] = "";
    size_t size;

    ck_assert_int_eq(twinlog_meta_get(log_, name, value, sizeof(value) - 1, &size), 0);
    ck_assert_str_eq(value, text);
}

CASE("errands", logdir_make, logdir_remove);

TEST(a_sync_makes_durable_what_was_accepted)
{
    struct twinlog_request request = { 0 };
    uint64_t lsn;

    open_all(NULL);
    request.queue = queue;
    for (uint32_t i = 0; i < 20; i++) {
        ck_assert_int_eq(enqueue_record(log_, 0, i, &lsn), 0);
        ck_assert_int_eq(twinlog_submit_sync(log_, &request), 0);
        ck_assert_int_eq(result_of(&request), 0);
        ck_assert_uint_ge(twinlog_durable_lsn(log_), lsn);
    }
    close_all();
}

/* What it points to may be changed as soon as the call has returned. */
TEST(a_change_is_copied)
{
    char name[] = "snapshot", value[] = "dump-20", cursor[] = "reader";
    struct twinlog_edit edits[] = {
        { .kind = TWINLOG_EDIT_SET_VALUE, .name = name, .data = value, .size = strlen(value) },
        { .kind = TWINLOG_EDIT_SET_VALUE, .name = "empty" },
        { .kind = TWINLOG_EDIT_SET_CURSOR, .name = cursor, .lsn = 20 },
    };
    struct twinlog_change change =
        WITH_SIZE(change, .edits = edits, .edit_count = 3, .trim_before_lsn = 11, .durable_lsn = 20);
    struct twinlog_request request = { 0 };
    uint64_t lsn;

    open_all(NULL);
    append_records(log_, 0, 0, 10);
    for (uint32_t i = 10; i < 20; i++)
        ck_assert_int_eq(enqueue_record(log_, 0, i, NULL), 0);
    request.queue = queue;
    ck_assert_int_eq(twinlog_submit_change(log_, &change, &request), 0);

    memset(name, '#', strlen(name));
    memset(value, '#', strlen(value));
    memset(cursor, '#', strlen(cursor));
    memset(edits, 0, sizeof(edits));
    memset(&change, 0, sizeof(change));
    ck_assert_int_eq(result_of(&request), 0);

    expect_value("snapshot", "dump-20");
    expect_value("empty", "");
    ck_assert_int_eq(twinlog_cursor_get(log_, "reader", &lsn), 0);
    ck_assert_uint_eq(lsn, 20);
    ck_assert_uint_eq(twinlog_first_lsn(log_), 11);
    ck_assert_uint_eq(twinlog_durable_lsn(log_), 20);
    close_all();
}

/* Changes one value again and again; the last one is `text`. */
static void submit_numbers(struct twinlog_request requests[CHANGES], char text[32])
{
    for (uint32_t i = 0; i < CHANGES; i++) {
        const struct twinlog_edit edit = { .kind = TWINLOG_EDIT_SET_VALUE,
                                           .name = "value",
                                           .data = text,
                                           .size = (size_t)snprintf(text, 32, "number %u", i) };
        const struct twinlog_change change = WITH_SIZE(change, .edits = &edit, .edit_count = 1);
        requests[i] = (struct twinlog_request){ .queue = queue };
        ck_assert_int_eq(twinlog_submit_change(log_, &change, &requests[i]), 0);
    }
}

TEST(errands_are_made_in_their_order)
{
    struct twinlog_request requests[CHANGES];
    char text[32];

    open_all(NULL);
    submit_numbers(requests, text);
    ck_assert_int_eq(twinlog_queue_close(queue), -EBUSY);

    for (uint32_t i = 0; i < CHANGES; i++)
        ck_assert_int_eq(result_of(&requests[i]), 0);
    expect_value("value", text);
    close_all();
}

TEST(what_the_call_returns_is_the_result)
{
    const struct twinlog_edit ahead = { .kind = TWINLOG_EDIT_SET_CURSOR, .name = "c", .lsn = 5 };
    const struct twinlog_edit unknown = { .kind = 99, .name = "c" };

    open_all(NULL);
    append_records(log_, 0, 0, 4);
    ck_assert_int_eq(change_now(&WITH_SIZE(change, .edits = &ahead, .edit_count = 1)), -ERANGE);
    ck_assert_int_eq(change_now(&WITH_SIZE(change, .edits = &unknown, .edit_count = 1)), -EINVAL);
    ck_assert_int_eq(change_now(&WITH_SIZE(change, .durable_lsn = 9, .trim_before_lsn = 1)), -ERANGE);
    close_all();
}

TEST(what_cannot_be_copied_is_refused_at_once)
{
    const struct twinlog_edit no_name = { .kind = TWINLOG_EDIT_SET_VALUE },
                              no_data = { .kind = TWINLOG_EDIT_SET_VALUE, .name = "n", .size = 1 },
                              large = { .kind = TWINLOG_EDIT_SET_VALUE,
                                        .name = "n",
                                        .data = "x",
                                        .size = TWINLOG_META_BYTES + 1 };
    const struct twinlog_change wrong[] = {
        WITH_SIZE(change, .edit_count = 1),
        WITH_SIZE(change, .edits = &no_name, .edit_count = 1),
        WITH_SIZE(change, .edits = &no_data, .edit_count = 1),
        WITH_SIZE(change, .edits = &large, .edit_count = 1),
        WITH_SIZE(change, .edits = &large, .edit_count = 1025),
        { .size = 1 },
    };
    struct twinlog_request request = { 0 };

    open_all(NULL);
    request.queue = queue;
    ck_assert_int_eq(twinlog_submit_change(log_, NULL, &request), -EINVAL);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_int_eq(twinlog_submit_change(log_, &wrong[i], &request), -EINVAL);
    close_all(); /* nothing was taken: else the queue would be busy */
}

TEST(a_request_needs_a_log_and_a_queue)
{
    struct twinlog_request without_queue = { 0 }, request = { 0 };

    open_all(NULL);
    request.queue = queue;
    ck_assert_int_eq(twinlog_submit_sync(log_, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_submit_sync(log_, &without_queue), -EINVAL);
    ck_assert_int_eq(twinlog_submit_sync(NULL, &request), -EINVAL);
    ck_assert_int_eq(twinlog_submit_truncate(NULL, 0, &request), -EINVAL);
    ck_assert_int_eq(twinlog_submit_truncate(log_, 0, NULL), -EINVAL);
    close_all();
}

TEST(a_truncation_that_is_refused_at_once_holds_up_nothing)
{
    struct twinlog_request request = { 0 };

    open_all(NULL);
    request.queue = queue;
    ck_assert_int_eq(twinlog_submit_truncate(log_, UINT64_MAX, &request), -EINVAL);
    ck_assert_int_eq(append_record(log_, 0, 0, NULL), 0);
    close_all();
}

TEST(a_close_makes_what_is_left)
{
    struct twinlog_request requests[CHANGES], *done[CHANGES];
    char text[32];

    open_all(NULL);
    submit_numbers(requests, text);
    log_close(log_);
    ck_assert_int_eq(twinlog_queue_poll(queue, done, CHANGES, 0), CHANGES);
    for (uint32_t i = 0; i < CHANGES; i++)
        ck_assert_int_eq(done[i]->result, 0);

    log_ = log_open(NULL);
    expect_value("value", text);
    close_all();
}

static const struct {
    const char *name;
    uint32_t mode, flags;
    int truncation; /* what a submitted one returns */
} other_handles[] = {
    { "mapped", TWINLOG_MODE_MAPPED, 0, -ENOTSUP },
    { "read-only, beside nobody", TWINLOG_MODE_DURABLE, TWINLOG_READ_ONLY, -EROFS },
};

TEST_EACH(errands_work_in_every_mode, other_handles)
{
    const struct twinlog_edit edit = {
        .kind = TWINLOG_EDIT_SET_VALUE, .name = "value", .data = "x", .size = 1
    };
    const struct twinlog_change change = WITH_SIZE(change, .edits = &edit, .edit_count = 1);
    struct twinlog_request request = { 0 };

    log_close(log_open(NULL));
    open_all(&LOG_OPTIONS(.mode = row->mode, .flags = row->flags));
    ck_assert_int_eq(change_now(&change), 0);
    expect_value("value", "x");

    request.queue = queue;
    ck_assert_int_eq(twinlog_submit_sync(log_, &request), 0);
    ck_assert_int_eq(result_of(&request), 0);
    ck_assert_int_eq(twinlog_submit_truncate(log_, 0, &request), row->truncation);
    close_all();
}

static int submit_in_a_child(void)
{
    struct twinlog_request request = { .queue = queue };

    EXPECT(twinlog_submit_sync(log_, &request) == TWINLOG_EFORKED);
    EXPECT(twinlog_submit_change(log_, &WITH_SIZE(change, .trim_before_lsn = 1), &request) ==
           TWINLOG_EFORKED);
    EXPECT(twinlog_submit_truncate(log_, 0, &request) == TWINLOG_EFORKED);
    return 0;
}

TEST(a_child_submits_nothing)
{
    open_all(NULL);
    ck_assert_int_eq(run_child(submit_in_a_child), 0);
    close_all();
}

/* The log is open then; its thread for errands is not made yet. */
static int submit_where_no_thread_can_be_started(void)
{
    struct twinlog_request request = { .queue = queue };

    if (!forbid(SYS_clone3, EAGAIN) || !forbid(SYS_clone, EAGAIN))
        return CANNOT_RUN;
    EXPECT(twinlog_submit_sync(log_, &request) == -EAGAIN);
    EXPECT(twinlog_submit_truncate(log_, 0, &request) == -EAGAIN);
    EXPECT(twinlog_append(log_, "x", 1, NULL) == 0); /* the truncation holds up nothing */
    EXPECT(twinlog_close(log_) == 0);
    EXPECT(twinlog_queue_close(queue) == 0); /* it expects nothing */
    return 0;
}

static int open_and_submit_without_thread(void)
{
    EXPECT(twinlog_queue_open(&queue) == 0);
    EXPECT(twinlog_open(log_dir, NULL, &log_) == 0);
    return submit_where_no_thread_can_be_started();
}

TEST(an_errand_that_no_thread_can_make_is_refused)
{
    expect_success_or_skip(run_child(open_and_submit_without_thread),
                           "an_errand_that_no_thread_can_make_is_refused", "no seccomp filter may be loaded");
}

/* Of a queue that drives the committer of the log. */
TEST(a_loop_without_a_thread_gets_them_too)
{
    struct twinlog_committer *committer;
    struct twinlog_request sync = { 0 };
    uint64_t lsn;

    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    ck_assert_int_eq(twinlog_committer_open(&WITH_SIZE(committer_options, .queue = queue), &committer), 0);
    log_ = log_open(&LOG_OPTIONS(.committer = committer));

    sync.queue = queue;
    for (uint32_t i = 0; i < 50; i++) {
        ck_assert_int_eq(enqueue_record(log_, 0, i, &lsn), 0);
        ck_assert_int_eq(twinlog_submit_sync(log_, &sync), 0);
        ck_assert_int_eq(result_of(&sync), 0);
        ck_assert_uint_ge(twinlog_durable_lsn(log_), lsn);
    }

    struct twinlog_request truncate = { .queue = queue };
    ck_assert_int_eq(twinlog_submit_truncate(log_, 20, &truncate), 0);
    ck_assert_int_eq(append_record(log_, 0, 20, &lsn), 0); /* waits, and drives */
    ck_assert_uint_eq(lsn, 21);
    ck_assert_int_eq(result_of(&truncate), 0);

    log_close(log_);
    ck_assert_int_eq(twinlog_committer_close(committer), 0);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}

/* ---- truncations ----------------------------------------------------------------------------------- */

CASE("truncations", gate_set_up, logdir_remove);

static int try_to_append(void)
{
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    const struct twinlog_terms terms = { .size = sizeof(terms), .flags = TWINLOG_TRY };

    return twinlog_append_batch(log_, &entry, 1, &terms, NULL);
}

/* Ten durable records, one that is only accepted, a sync that the disk holds up, and a truncation behind it. */
static void submit_behind_the_gate(struct twinlog_request *sync, struct twinlog_request *truncate)
{
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    log_ = gate_log(NULL);
    append_records(log_, 0, 0, 10);

    gate_shut();
    ck_assert_int_eq(enqueue_record(log_, 0, 10, NULL), 0);
    *sync = *truncate = (struct twinlog_request){ .queue = queue };
    ck_assert_int_eq(twinlog_submit_sync(log_, sync), 0);
    gate_await();
    ck_assert_int_eq(twinlog_submit_truncate(log_, 7, truncate), 0);
}

TEST(no_record_is_accepted_until_it_is_over)
{
    struct twinlog_request sync, truncate, *done;

    submit_behind_the_gate(&sync, &truncate);
    ck_assert_int_eq(twinlog_queue_listen(queue, log_), 0);
    ck_assert_int_eq(twinlog_queue_poll(queue, &done, 1, 0), 0); /* the news of listening */

    ck_assert_int_eq(try_to_append(), -EAGAIN);
    ck_assert_int_eq(twinlog_wait(log_, 10, TWINLOG_LEVEL_DURABLE, twinlog_deadline(PATIENCE_MS)), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log_), 11);
    ck_assert_int_eq(twinlog_queue_poll(queue, &done, 1, 10), 0);

    gate_open();
    ck_assert_int_eq(result_of(&sync), 0);
    ck_assert_int_eq(result_of(&truncate), 0);

    ck_assert_uint_eq(twinlog_last_lsn(log_), 7);
    ck_assert_int_eq(try_to_append(), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log_), 8);
    close_all();
}

/* A queue that waits for nothing else has news. */
TEST(a_refused_try_is_told_when_it_is_over)
{
    struct twinlog_request sync, truncate, *done;
    struct twinlog_queue *listener;

    submit_behind_the_gate(&sync, &truncate);
    ck_assert_int_eq(twinlog_queue_open(&listener), 0);
    ck_assert_int_eq(twinlog_queue_listen(listener, log_), 0);
    ck_assert_int_eq(twinlog_queue_poll(listener, &done, 1, 0), 0);
    ck_assert_int_eq(try_to_append(), -EAGAIN);

    gate_open();
    while (try_to_append() == -EAGAIN)
        ck_assert_int_eq(twinlog_queue_poll(listener, &done, 1, -1), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log_), 8);
    ck_assert_int_eq(result_of(&sync), 0);
    ck_assert_int_eq(result_of(&truncate), 0);
    ck_assert_int_eq(twinlog_queue_close(listener), 0);
    close_all();
}

static void *append_until_told(void *context)
{
    _Atomic bool *must_stop = context;

    while (!atomic_load(must_stop))
        if (twinlog_append(log_, "of another thread", 17, NULL) < 0)
            return context;
    return NULL;
}

static void append_behind_two_truncations(void)
{
    struct twinlog_request first = { .queue = queue }, second = { .queue = queue };
    struct twinlog_record record;
    char data[32];
    uint64_t lsn;

    ck_assert_int_eq(twinlog_submit_truncate(log_, 5, &first), 0);
    ck_assert_int_eq(twinlog_submit_truncate(log_, 5, &second), 0);
    ck_assert_int_eq(twinlog_append(log_, "kept", 4, &lsn), 0);
    ck_assert_int_eq(result_of(&first), 0);
    ck_assert_int_eq(result_of(&second), 0);

    ck_assert_int_eq(twinlog_read(log_, lsn, data, sizeof(data), &record), 0);
    ck_assert_uint_eq(record.size, 4);
}

/* The first one that is over does not let a record in before the second one. */
TEST(what_is_appended_behind_two_of_them_stays)
{
    _Atomic bool must_stop = false;
    void *failed;

    open_all(NULL);
    append_records(log_, 0, 0, 5);
    const pthread_t other = start_thread(append_until_told, &must_stop);
    for (unsigned i = 0; i < 50; i++)
        append_behind_two_truncations();

    atomic_store(&must_stop, true);
    pthread_join(other, &failed);
    ck_assert_ptr_null(failed);
    close_all();
}

TEST(one_that_fails_holds_up_nothing)
{
    struct twinlog_request request = { 0 };

    open_all(NULL);
    append_records(log_, 0, 0, 20);
    ck_assert_int_eq(twinlog_trim(log_, &WITH_SIZE(trim_options, .before_lsn = 11), NULL), 0);

    request.queue = queue;
    ck_assert_int_eq(twinlog_submit_truncate(log_, 5, &request), 0);
    ck_assert_int_eq(result_of(&request), TWINLOG_ETRIMMED);
    ck_assert_int_eq(try_to_append(), 0);
    close_all();
}

static void *append_one(void *context)
{
    *(int *)context = twinlog_append(log_, "x", 1, NULL);
    return NULL;
}

static void *open_gate_soon(void *context)
{
    usleep(50 * 1000);
    gate_open();
    return context;
}

/* And for an append that it holds up, if that has come in before. */
TEST(a_close_waits_for_it)
{
    struct twinlog_request sync, truncate;
    int result = 1;

    submit_behind_the_gate(&sync, &truncate);
    const pthread_t held = start_thread(append_one, &result);
    AWAIT(OTHERS_IN(atomic_load(&log_->inside)) > 0);
    const pthread_t opener = start_thread(open_gate_soon, NULL);

    log_close(log_);
    pthread_join(held, NULL);
    pthread_join(opener, NULL);
    ck_assert_int_eq(result_of(&sync), 0);
    ck_assert_int_eq(result_of(&truncate), 0);
    ck_assert(result == 0 || result == -ESHUTDOWN);

    log_ = log_open(NULL);
    ck_assert_uint_eq(twinlog_last_lsn(log_), result == 0 ? 8 : 7);
    close_all();
}
