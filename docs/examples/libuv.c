/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libuv loop. A timer submits the readings of a sensor, and libuv watches the queue's descriptor.
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
static struct twinlog_request readings[READINGS];
static unsigned taken, stored;
static uv_timer_t sensor;
static uv_poll_t watcher;

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

static void on_completion(uv_poll_t *poll, int status, int events)
{
    struct twinlog_request *done[64];
    int count = twinlog_queue_poll(queue, done, 64, 0);
    for (int i = 0; i < count; i++)
        check(done[i]->result, "append");
    stored += (unsigned)count;
    if (stored == READINGS)
        uv_close((uv_handle_t *)poll, NULL);
    (void)status, (void)events;
}

int main(int argc, char **argv)
{
    check(twinlog_open(argc > 1 ? argv[1] : "journal", NULL, &journal), "open");
    check(twinlog_queue_open(&queue), "queue");
    uv_timer_init(uv_default_loop(), &sensor);
    uv_timer_start(&sensor, on_tick, 0, 1);
    uv_poll_init(uv_default_loop(), &watcher, twinlog_queue_fd(queue));
    uv_poll_start(&watcher, UV_READABLE, on_completion);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    uv_loop_close(uv_default_loop());
    check(twinlog_close(journal), "close");
    check(twinlog_queue_close(queue), "close the queue");
    printf("%u batches stored\n", stored);
    return 0;
}
