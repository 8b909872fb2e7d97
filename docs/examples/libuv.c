/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libuv loop. A timer submits the readings of a sensor, and libuv watches the queue's descriptor.
 *
 * The log's committer has no thread: it works where the loop polls the queue. The handle `prepare` does so before each
 * wait of the loop; the handle that watches the descriptor only ends the wait.
 *
 *     cc libuv.c $(pkg-config --cflags --libs twinlog libuv) && ./a.out journal
 */
#include <stdio.h>
#include <stdlib.h>
#include <twinlog.h>
#include <uv.h>

#define READINGS 1000u
#define AT_ONCE 10u

static struct twinlog *journal;
static struct twinlog_queue *queue;
static struct twinlog_committer *committer;
static struct twinlog_request readings[READINGS];
static unsigned taken, stored;
static uv_timer_t sensor;
static uv_poll_t watcher;
static uv_prepare_t prepare;

static void check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, twinlog_strerror(result));
        exit(1);
    }
}

/* Submits one batch of readings: after a crash all of them are there, or none. A loop must not wait, so it uses TRY:
 * if the log has no room, the next tick takes these readings again. */
static void on_tick(uv_timer_t *timer)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct twinlog_entry batch[AT_ONCE] = { 0 };
    double values[AT_ONCE];
    for (unsigned i = 0; i < AT_ONCE; i++) {
        values[i] = taken + i / 10.0;
        batch[i] = (struct twinlog_entry){ .data = &values[i], .size = sizeof(values[i]), .tag = 1 };
    }
    terms.flags = TWINLOG_TRY;
    readings[taken] = (struct twinlog_request){ .queue = queue };
    int rc = twinlog_submit(journal, batch, AT_ONCE, &terms, &readings[taken]);
    if (rc == TWINLOG_EPOISONED || (rc < 0 && rc != UV_EAGAIN))
        check(rc, "submit");
    taken += rc == 0;
    if (taken == READINGS)
        uv_close((uv_handle_t *)timer, NULL);
}

/* The loop goes on, and comes to before_wait(). */
static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events;
}

static void before_wait(uv_prepare_t *handle)
{
    struct twinlog_request *done[64];
    int count;
    while ((count = twinlog_queue_poll(queue, done, 64, 0)) > 0) {
        for (int i = 0; i < count; i++)
            check(done[i]->result, "append");
        stored += (unsigned)count;
    }
    if (stored == READINGS) {
        uv_close((uv_handle_t *)handle, NULL);
        uv_close((uv_handle_t *)&watcher, NULL);
    }
}

int main(int argc, char **argv)
{
    struct twinlog_committer_options without_thread = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    check(twinlog_queue_open(&queue), "queue");
    without_thread.queue = queue;
    check(twinlog_committer_open(&without_thread, &committer), "committer");
    options.committer = committer;
    check(twinlog_open(argc > 1 ? argv[1] : "journal", &options, &journal), "open");
    uv_timer_init(uv_default_loop(), &sensor);
    uv_timer_start(&sensor, on_tick, 0, 1);
    uv_poll_init(uv_default_loop(), &watcher, twinlog_queue_fd(queue));
    uv_poll_start(&watcher, UV_READABLE, on_readable);
    uv_prepare_init(uv_default_loop(), &prepare);
    uv_prepare_start(&prepare, before_wait);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    uv_loop_close(uv_default_loop());
    check(twinlog_close(journal), "close");
    check(twinlog_committer_close(committer), "close the committer");
    check(twinlog_queue_close(queue), "close the queue");
    printf("%u batches stored\n", stored);
    return 0;
}
