/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: accepted without waiting, completed exactly once, in the order of their LSNs, through a queue, by whichever
 * thread commits.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "log/handle.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define KIB 1024u

static const struct twinlog_terms written = { sizeof(written), 0, TWINLOG_LEVEL_WRITTEN, 0, 0, NULL };

/* ---- what was completed -------------------------------------------------------------------------- */

static struct {
    struct twinlog *log;
    struct twinlog_queue *queue;
    unsigned completed, errors;
    uint64_t last_lsn;
    int result; /* that is expected */
} seen;

/* In order, with the result that is expected, at the level that was asked for. */
static void note(const struct twinlog_request *request)
{
    bool is_right = request->first_lsn > seen.last_lsn && request->result == seen.result;

    if (is_right && request->result == 0 && seen.log)
        is_right = twinlog_written_lsn(seen.log) >= request->first_lsn + request->count - 1;
    seen.last_lsn = request->first_lsn;
    seen.errors += !is_right;
    seen.completed++;
}

/* Fetches what is there. How many requests were completed so far. */
static unsigned completed(void)
{
    struct twinlog_request *requests[16];

    for (int count; (count = twinlog_queue_poll(seen.queue, requests, 16, 0)) > 0;)
        for (int i = 0; i < count; i++)
            note(requests[i]);
    return seen.completed;
}

static int submit(struct twinlog *log, size_t size, struct twinlog_request *request)
{
    static const unsigned char bytes[16 * KIB];
    const struct twinlog_entry entry = { .data = bytes, .size = size };

    return twinlog_submit(log, &entry, 1, NULL, request);
}

static struct twinlog_queue *open_queue(void)
{
    struct twinlog_queue *queue = NULL;

    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    return queue;
}

static void begin_seen(struct twinlog *log)
{
    memset(&seen, 0, sizeof(seen));
    seen.queue = open_queue();
    seen.log = log;
}

static struct twinlog *open_seen(const struct twinlog_options *options)
{
    begin_seen(log_open(options));
    return seen.log;
}

/* After the close: nothing is left to complete. */
static void end_seen(unsigned expected)
{
    seen.log = NULL;
    ck_assert_uint_eq(completed(), expected);
    ck_assert_uint_eq(seen.errors, 0);
    ck_assert_int_eq(twinlog_queue_close(seen.queue), 0);
}

/* ---- order --------------------------------------------------------------------------------------- */

#define SUBMITTERS 4u
#define EACH 200u

struct submitter {
    pthread_t thread;
    struct twinlog_request *requests;
    unsigned errors;
};

static void *submit_all(void *argument)
{
    struct submitter *submitter = argument;

    for (unsigned i = 0; i < EACH; i++) {
        struct twinlog_request *request = &submitter->requests[i];
        uint64_t before = i > 0 ? request[-1].first_lsn : 0;

        *request = (struct twinlog_request){ .queue = seen.queue };
        submitter->errors += submit(seen.log, 10 + i * 13, request) != 0;
        submitter->errors += request->first_lsn <= before;
    }
    return NULL;
}

static void start_submitters(struct submitter submitters[SUBMITTERS])
{
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){ .requests = calloc(EACH, sizeof(struct twinlog_request)) };
        submitters[i].thread = start_thread(submit_all, &submitters[i]);
    }
}

static void join_submitters(struct submitter submitters[SUBMITTERS])
{
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        pthread_join(submitters[i].thread, NULL);
        ck_assert_uint_eq(submitters[i].errors, 0);
    }
}

static void free_submitters(struct submitter submitters[SUBMITTERS])
{
    for (unsigned i = 0; i < SUBMITTERS; i++)
        free(submitters[i].requests);
}

CASE("completed", gate_set_up, logdir_remove);

WAYS_TEST(requests_are_completed_in_the_order_of_their_lsns, LOG_IO_KINDS)
{
    struct submitter submitters[SUBMITTERS];

    options.buffer_bytes = 32 * KIB;
    struct twinlog *log = open_seen(&options);
    start_submitters(submitters);
    for (unsigned i = 0; i < 30; i++) /* others commit as well */
        ck_assert_int_eq(twinlog_append(log, "beside", 6, NULL), 0);
    join_submitters(submitters);
    AWAIT(completed() == SUBMITTERS * EACH);
    AWAIT(log_stat(log).requests == 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), SUBMITTERS * EACH + 30);
    log_close(log);
    end_seen(SUBMITTERS * EACH);
    free_submitters(submitters);
}

TEST(a_request_is_checked_before_anything_happens)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_queue *queue = open_queue();
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct twinlog_entry entry = { 0 };
    struct twinlog_request request = { 0 };

    ck_assert_int_eq(twinlog_submit(log, &entry, 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_submit(log, &entry, 1, NULL, &request), -EINVAL);
    request.queue = queue;
    ck_assert_int_eq(twinlog_submit(log, &entry, 0, NULL, &request), -EINVAL);

    terms.level = TWINLOG_LEVEL_BUFFERED;
    ck_assert_int_eq(twinlog_submit(log, &entry, 1, &terms, &request), -EINVAL);

    entry.size = 5u << 20;
    entry.data = &entry;
    ck_assert_int_eq(twinlog_submit(log, &entry, 1, NULL, &request), -EMSGSIZE);

    ck_assert_uint_eq(twinlog_last_lsn(log), 0);
    ck_assert_int_eq(twinlog_queue_close(queue), 0); /* nothing is expected there */
    log_close(log);
}

TEST(a_call_without_a_queue_or_without_room_for_requests_is_refused)
{
    struct twinlog_queue *queue = open_queue();
    struct twinlog_request *fetched;

    ck_assert_int_eq(twinlog_queue_open(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_queue_fd(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_queue_poll(NULL, &fetched, 1, 0), -EINVAL);
    ck_assert_int_eq(twinlog_queue_poll(queue, NULL, 1, 0), -EINVAL);
    ck_assert_int_eq(twinlog_queue_poll(queue, &fetched, 0, 0), -EINVAL);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    ck_assert_int_eq(twinlog_queue_close(NULL), 0);
}

TEST(a_request_may_be_content_with_written)
{
    const struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);
    const struct twinlog_entry entries[3] = { 0 };
    unsigned synced;

    begin_seen(gate_log(&options));
    struct twinlog_request request = { .queue = seen.queue };
    synced = atomic_load(&gate.synced);
    ck_assert_int_eq(twinlog_submit(seen.log, entries, 3, &written, &request), 0);
    ck_assert_uint_eq(request.first_lsn, 1);
    AWAIT(completed() == 1);
    ck_assert_uint_eq(request.count, 3);
    ck_assert_uint_eq(atomic_load(&gate.synced), synced);
    ck_assert_uint_eq(twinlog_durable_lsn(seen.log), 0);
    log_close(seen.log);
    end_seen(1);
}

CASE("queues", gate_set_up, logdir_remove);

static bool is_readable(int fd)
{
    struct pollfd one = { .fd = fd, .events = POLLIN };

    return poll(&one, 1, 0) == 1;
}

static const struct asked_row {
    const char *name;
    bool is_asked_first;
} asked_rows[] = {
    { "the descriptor is asked for first", true },
    { "the descriptor is asked for when requests are in the queue", false },
};

TEST_EACH(a_queue_is_readable_exactly_while_something_is_in_it, asked_rows)
{
    struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);
    struct twinlog_request requests[4], *fetched[4];
    struct twinlog_queue *queue = open_queue();
    struct epoll_event event = { .events = EPOLLIN | EPOLLET }, ready;
    struct twinlog *log = gate_log(&options);
    int fd = row->is_asked_first ? twinlog_queue_fd(queue) : -1, edges = epoll_create1(EPOLL_CLOEXEC);

    for (unsigned round = 0; round < 3; round++) {
        ck_assert(fd < 0 || !is_readable(fd));
        gate_shut();
        for (unsigned i = 0; i < 4; i++) {
            requests[i] = (struct twinlog_request){ .queue = queue };
            ck_assert_int_eq(submit(log, 10, &requests[i]), 0);
        }
        ck_assert_int_eq(twinlog_queue_poll(queue, fetched, 4, 0), 0);
        ck_assert_int_eq(twinlog_queue_poll(queue, fetched, 4, 1), 0);
        ck_assert(fd < 0 || !is_readable(fd));
        ck_assert_int_eq(twinlog_queue_close(queue), -EBUSY); /* not completed */

        gate_open();
        AWAIT(log_stat(log).requests == 0);
        if (fd < 0) /* asked for late: it is readable at once */
            fd = twinlog_queue_fd(queue);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(twinlog_queue_fd(queue), fd);
        if (round == 0)
            ck_assert_int_eq(epoll_ctl(edges, EPOLL_CTL_ADD, fd, &event), 0);
        AWAIT(is_readable(fd)); /* they are counted before they are in the queue */
        ck_assert_int_eq(epoll_wait(edges, &ready, 1, 0), 1); /* an edge, and only one */
        ck_assert_int_eq(epoll_wait(edges, &ready, 1, 0), 0);
        ck_assert(is_readable(fd));

        ck_assert_int_eq(twinlog_queue_poll(queue, fetched, 3, 0), 3);
        ck_assert(is_readable(fd));
        ck_assert_int_eq(twinlog_queue_close(queue), -EBUSY); /* not fetched */
        ck_assert_int_eq(twinlog_queue_poll(queue, fetched + 3, 3, -1), 1);
        for (unsigned i = 0; i < 4; i++) {
            ck_assert_ptr_eq(fetched[i], &requests[i]);
            ck_assert_int_eq(requests[i].result, 0);
        }
    }
    ck_assert(!is_readable(fd));
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    close(edges);
    log_close(log);
}

/* As with an eventfd of its own; the header says not to. The next poll makes up for it. */
TEST(a_descriptor_that_the_program_has_read_tells_of_the_rest)
{
    struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);
    struct twinlog_request requests[3], *fetched[3];
    struct twinlog_queue *queue = open_queue();
    const int fd = twinlog_queue_fd(queue);
    struct twinlog *log = gate_log(&options);
    uint64_t count;

    for (unsigned i = 0; i < 3; i++) {
        requests[i] = (struct twinlog_request){ .queue = queue };
        ck_assert_int_eq(submit(log, 10, &requests[i]), 0);
    }
    AWAIT(log_stat(log).requests == 0);
    for (unsigned i = 0; i < 3; i++) {
        AWAIT(is_readable(fd)); /* they are counted before they are in the queue */
        ck_assert_int_eq(read(fd, &count, sizeof(count)), sizeof(count));
        ck_assert_int_eq(twinlog_queue_poll(queue, &fetched[i], 1, 0), 1);
    }
    ck_assert(!is_readable(fd));
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    log_close(log);
}

struct consumer {
    pthread_t thread;
    unsigned max, errors;
};

static _Atomic unsigned consumed;

static void *consume(void *argument)
{
    struct consumer *consumer = argument;
    struct twinlog_request *requests[16];

    while (atomic_load(&consumed) < SUBMITTERS * EACH) {
        int count = twinlog_queue_poll(seen.queue, requests, consumer->max, 50);
        uint64_t before = 0;

        for (int i = 0; i < count; i++) {
            /* each exactly once: only this thread may change it now */
            consumer->errors += requests[i]->result != 0 || requests[i]->context != NULL;
            consumer->errors += requests[i]->first_lsn <= before;
            before = requests[i]->first_lsn;
            requests[i]->context = consumer;
        }
        atomic_fetch_add(&consumed, count > 0 ? (unsigned)count : 0);
    }
    return NULL;
}

WAYS_TEST(several_may_fetch_from_a_queue, LOG_IO_KINDS)
{
    struct consumer consumers[3];
    struct submitter submitters[SUBMITTERS];

    atomic_store(&consumed, 0);
    open_seen(&options);
    for (unsigned i = 0; i < 3; i++) {
        consumers[i] = (struct consumer){ .max = 1 + 7 * i };
        consumers[i].thread = start_thread(consume, &consumers[i]);
    }
    ck_assert_int_ge(twinlog_queue_fd(seen.queue), 0);
    start_submitters(submitters);
    join_submitters(submitters);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(consumers[i].thread, NULL);
        ck_assert_uint_eq(consumers[i].errors, 0);
    }
    ck_assert_uint_eq(atomic_load(&consumed), SUBMITTERS * EACH);
    ck_assert(!is_readable(twinlog_queue_fd(seen.queue)));
    log_close(seen.log);
    end_seen(0);
    free_submitters(submitters);
}

CASE("the end", gate_set_up, logdir_remove);

#define PENDING 50u

/* Some in the group that is being written, others in the next one. */
static void submit_pending(struct twinlog_request requests[PENDING])
{
    for (unsigned i = 0; i < PENDING; i++) {
        requests[i] = (struct twinlog_request){ .queue = seen.queue };
        ck_assert_int_eq(submit(seen.log, 10, &requests[i]), 0);
        if (i == PENDING / 2)
            gate_await();
    }
}

/* Whatever fails, the result is the same: a request has no other sign of it. */
static const struct error_row {
    const char *name;
    int error;
} error_rows[] = {
    { "the disk fails", -EIO },
    { "the disk is full", -ENOSPC },
    { "the quota is used up", -EDQUOT },
    { "the limit of the process", -EFBIG },
    { "the file system is read-only", -EROFS },
    { "the kernel refuses the call", -EINVAL },
};

TEST_EACH(a_failed_write_completes_every_request_as_unknown, error_rows)
{
    const struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);
    struct twinlog_request requests[PENDING];

    begin_seen(gate_log(&options));
    struct twinlog_request late = { .queue = seen.queue };
    gate_shut();
    submit_pending(requests);
    ck_assert_uint_eq(completed(), 0);
    ck_assert_uint_eq(log_stat(seen.log).requests, PENDING);

    seen.result = TWINLOG_EPOISONED;
    atomic_store(&gate.error, row->error);
    gate_open();
    AWAIT(completed() == PENDING);
    ck_assert_int_eq(log_stat(seen.log).poison, row->error);
    ck_assert_int_eq(submit(seen.log, 10, &late), TWINLOG_EPOISONED);
    AWAIT(log_stat(seen.log).requests == 0);
    ck_assert_int_eq(twinlog_close(seen.log), row->error);
    end_seen(PENDING);
}

static const struct thread_row {
    const char *name;
    uint32_t flags;
} thread_rows[] = {
    { "a committer completes them meanwhile", 0 },
    { "the log has no threads, so the close completes them", LOG_NO_THREADS },
};

TEST_EACH(closing_completes_every_request, thread_rows)
{
    struct twinlog_request requests[PENDING];
    struct twinlog *log = open_seen(&LOG_OPTIONS(.flags = row->flags, .buffer_bytes = 16 * KIB));

    for (unsigned i = 0; i < PENDING; i++) {
        requests[i] = (struct twinlog_request){ .queue = seen.queue };
        ck_assert_int_eq(submit(log, 3000, &requests[i]), 0);
    }
    log_close(log);
    end_seen(PENDING);
}

CASE("news", gate_set_up, logdir_remove);

/* Waits for the descriptor, as a loop does. 0 requests, and so it is news. */
static void await_news(struct twinlog_queue *queue)
{
    struct twinlog_request *fetched[4];
    const int fd = twinlog_queue_fd(queue);

    ck_assert_int_ge(fd, 0);
    AWAIT(is_readable(fd));
    ck_assert_int_eq(twinlog_queue_poll(queue, fetched, 4, -1), 0);
}

/* What has come so far, and may have been meant for an earlier call. */
static void forget_news(struct twinlog_queue *queue)
{
    struct twinlog_request *fetched[4];

    ck_assert_int_eq(twinlog_queue_poll(queue, fetched, 4, 0), 0);
    ck_assert(!is_readable(twinlog_queue_fd(queue)));
}

static int try_to_submit(struct twinlog *log, size_t size, struct twinlog_request *request)
{
    static const unsigned char bytes[16 * KIB];
    const struct twinlog_entry entry = { .data = bytes, .size = size };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    terms.flags = TWINLOG_TRY;
    *request = (struct twinlog_request){ .queue = seen.queue };
    return twinlog_submit(log, &entry, 1, &terms, request);
}

/* The disk makes no file until the gate is open. So the log fills its segments, and nothing is in flight in the end. */
static unsigned submit_until_it_needs_a_segment(struct twinlog_request requests[PENDING])
{
    unsigned accepted = 0;
    int rc = 0;

    atomic_store(&gate.is_shut_for_files, true);
    while (rc == 0) {
        ck_assert_uint_lt(accepted, PENDING);
        rc = try_to_submit(seen.log, 8 * KIB, &requests[accepted]);
        accepted += rc == 0;
        AWAIT(completed() == accepted);
    }
    ck_assert_int_eq(rc, -EAGAIN);
    return accepted;
}

TEST(a_try_is_told_when_the_next_segment_is_there)
{
    struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);
    struct twinlog_request requests[PENDING], again;
    int rc;

    options.buffer_bytes = 64 * KIB;
    options.segment_bytes = 128 * KIB;
    options.max_record_bytes = 16 * KIB;
    begin_seen(gate_log(&options));
    const unsigned accepted = submit_until_it_needs_a_segment(requests);
    forget_news(seen.queue);
    ck_assert_int_eq(try_to_submit(seen.log, 8 * KIB, &again), -EAGAIN);
    ck_assert(!is_readable(twinlog_queue_fd(seen.queue)));

    gate_open();
    while ((rc = try_to_submit(seen.log, 8 * KIB, &again)) == -EAGAIN)
        await_news(seen.queue);

    ck_assert_int_eq(rc, 0);
    AWAIT(completed() == accepted + 1);
    log_close(seen.log);
    end_seen(accepted + 1);
}

/* Even the first request of a queue: it listens before it is refused. */
TEST(a_try_is_told_when_a_truncation_has_ended)
{
    struct twinlog *log = open_seen(NULL);
    struct twinlog_request request;
    struct call visit;

    ck_assert_int_eq(twl_enter(log, INSIDE_OTHER, &visit), 0);
    twl_pause(log);
    ck_assert_int_eq(try_to_submit(log, 10, &request), -EAGAIN);
    ck_assert(!is_readable(twinlog_queue_fd(seen.queue)));
    twl_resume(log);
    twl_leave(&visit);
    await_news(seen.queue);
    ck_assert_int_eq(try_to_submit(log, 10, &request), 0);
    AWAIT(completed() == 1);
    log_close(log);
    end_seen(1);
}

/* A log with flushes, of which the queue is told. */
static void begin_flushed(uint32_t flush_interval_ms)
{
    struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);

    options.flush_interval_ms = flush_interval_ms;
    begin_seen(gate_log(&options));
    ck_assert_int_eq(twinlog_queue_listen(seen.queue, seen.log), 0);
    forget_news(seen.queue);
}

/* Nothing was submitted, and nobody waits: a record was only enqueued, and flush_interval_ms syncs it. */
TEST(a_flush_that_fails_is_told)
{
    begin_flushed(20);
    ck_assert_int_eq(twinlog_enqueue(seen.log, "x", 1, NULL), 0);
    AWAIT(twinlog_durable_lsn(seen.log) == 1);
    atomic_store(&gate.error, -EIO);
    ck_assert_int_eq(twinlog_enqueue(seen.log, "x", 1, NULL), 0);
    do /* the first one may be of the flush before */
        await_news(seen.queue);
    while (log_stat(seen.log).poison == 0);
    ck_assert_int_eq(log_stat(seen.log).poison, -EIO);
    ck_assert_int_eq(twinlog_close(seen.log), -EIO);
    end_seen(0);
}

/* A program that holds its replies until a record is durable, which it has only enqueued, waits for nothing else. */
TEST(a_flush_that_succeeds_is_told)
{
    begin_flushed(20);
    gate_shut();
    ck_assert_int_eq(twinlog_enqueue(seen.log, "x", 1, NULL), 0);
    gate_await();
    ck_assert_int_eq(twinlog_set_flush_interval(seen.log, 0), 0); /* no later flush tells it either */
    ck_assert(!is_readable(twinlog_queue_fd(seen.queue)));
    gate_open();
    await_news(seen.queue);
    ck_assert_uint_eq(twinlog_durable_lsn(seen.log), 1);
    log_close(seen.log);
    end_seen(0);
}

/* Nor does it wait for what another call has synced. */
TEST(a_flush_that_comes_too_late_is_told)
{
    begin_flushed(50);
    ck_assert_int_eq(twinlog_enqueue(seen.log, "x", 1, NULL), 0);
    ck_assert_int_eq(twinlog_sync(seen.log), 0);
    await_news(seen.queue);
    log_close(seen.log);
    end_seen(0);
}

/* Also of what was before it listened: a call that was refused, or a failure. */
TEST(a_queue_that_begins_to_listen_is_told_at_once)
{
    struct twinlog_queue *queue = open_queue();
    struct twinlog *log = gate_log(NULL);

    atomic_store(&gate.error, -EIO);
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_queue_listen(queue, log), 0);
    await_news(queue);
    forget_news(queue);
    ck_assert_int_eq(twinlog_close(log), -EIO);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}

/* Each queue that has submitted, or was told to listen, once. One that was closed before the log is forgotten. */
TEST(every_queue_that_listens_is_told)
{
    struct twinlog_queue *queues[4];
    struct twinlog_request request, *fetched;

    begin_seen(gate_log(NULL));
    for (unsigned i = 0; i < 4; i++)
        queues[i] = open_queue();
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 4; i++)
            ck_assert_int_eq(twinlog_queue_listen(queues[i], seen.log), 0);
    for (unsigned i = 0; i < 4; i++)
        await_news(queues[i]); /* of the beginning */
    request = (struct twinlog_request){ .queue = queues[1] };
    ck_assert_int_eq(submit(seen.log, 10, &request), 0);
    ck_assert_int_eq(twinlog_queue_poll(queues[1], &fetched, 1, -1), 1);
    ck_assert_int_eq(twinlog_queue_close(queues[0]), 0);
    queues[0] = open_queue(); /* perhaps in the memory of that one */
    ck_assert_int_eq(twinlog_queue_listen(queues[0], seen.log), 0);
    await_news(queues[0]);

    atomic_store(&gate.error, -EIO);
    ck_assert_int_eq(twinlog_append(seen.log, "x", 1, NULL), TWINLOG_EPOISONED);
    for (unsigned i = 0; i < 4; i++) {
        await_news(queues[i]);
        forget_news(queues[i]);
    }
    ck_assert_int_eq(twinlog_queue_close(queues[2]), 0);
    ck_assert_int_eq(twinlog_close(seen.log), -EIO);
    ck_assert_int_eq(twinlog_queue_close(queues[0]), 0); /* behind the log, too */
    ck_assert_int_eq(twinlog_queue_close(queues[1]), 0);
    ck_assert_int_eq(twinlog_queue_close(queues[3]), 0);
    end_seen(0);
}

static int use_queue_of_parent(void)
{
    struct twinlog *own = log_open(NULL);
    struct twinlog_request request = { .queue = seen.queue };

    EXPECT(twinlog_queue_listen(seen.queue, own) == TWINLOG_EFORKED);
    EXPECT(submit(own, 10, &request) == TWINLOG_EFORKED);
    EXPECT(twinlog_last_lsn(own) == 0);
    EXPECT(twinlog_close(own) == 0);
    return 0;
}

TEST(a_child_has_no_use_for_the_queue_of_its_parent)
{
    begin_seen(NULL);
    ck_assert_int_eq(run_child(use_queue_of_parent), 0);
    end_seen(0);
}

TEST(a_queue_listens_to_logs_that_can_be_submitted_to)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_queue *queue = open_queue();

    ck_assert_int_eq(twinlog_queue_listen(NULL, log), -EINVAL);
    ck_assert_int_eq(twinlog_queue_listen(queue, NULL), -EINVAL);
    log_close(log);
    log = log_open(&LOG_OPTIONS(.flags = TWINLOG_READ_ONLY));
    ck_assert_int_eq(twinlog_queue_listen(queue, log), -EROFS);
    log_close(log);
    log = log_open(&LOG_OPTIONS(.mode = TWINLOG_MODE_MAPPED));
    ck_assert_int_eq(twinlog_queue_listen(queue, log), -ENOTSUP);
    log_close(log);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}
