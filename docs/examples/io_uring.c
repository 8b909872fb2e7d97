/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An io_uring loop. It reads blocks of a file through the ring and makes a record of each; the same ring
 * reports when there is something to do for the log. The log's committer has no thread, and does that where the loop
 * polls the queue, before each wait.
 *
 *     cc io_uring.c $(pkg-config --cflags --libs twinlog liburing) && ./a.out journal
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <twinlog.h>
#include <unistd.h>

#define BLOCKS 500u

static struct twinlog_request blocks[BLOCKS]; /* belong to the log until they are completed */
static unsigned taken, stored;                /* each at most BLOCKS */
static char block[512];                       /* is read into, one at a time */

/* What an event of the ring is about. */
enum source {
    FILE_READ = 1,
    QUEUE_READABLE
};

static void check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, twinlog_strerror(result));
        exit(1);
    }
}

static void ask(struct io_uring *ring, enum source source, int fd)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(ring); /* the ring has room for both */

    if (source == FILE_READ)
        io_uring_prep_read(entry, fd, block, sizeof(block), 0);
    else
        io_uring_prep_poll_add(entry, fd, POLLIN);
    io_uring_sqe_set_data64(entry, source);
    check(io_uring_submit(ring), "io_uring_submit");
}

/* Begins to write what was submitted, and counts what is durable. Returns how many records that are. */
static int poll_queue(struct twinlog_queue *queue)
{
    struct twinlog_request *done[64];

    int count = twinlog_queue_poll(queue, done, 64, 0);
    for (int i = 0; i < count; i++)
        check(done[i]->result, "append"); /* done[i]->first_lsn survives a power cut */
    stored += (unsigned)count;
    return count;
}

/* Submits the block that was read. Its buffer is free again when submit has returned, so the next one is read. */
static void take_block(struct io_uring *ring, int file, size_t size, struct twinlog *journal,
                       struct twinlog_queue *queue)
{
    const struct twinlog_entry entry = { .data = block, .size = size };

    blocks[taken] = (struct twinlog_request){ .queue = queue };
    check(twinlog_submit(journal, &entry, 1, NULL, &blocks[taken]), "submit");
    taken++;
    if (taken < BLOCKS)
        ask(ring, FILE_READ, file);
}

static void run_loop(struct io_uring *ring, int file, struct twinlog *journal, struct twinlog_queue *queue)
{
    struct io_uring_cqe *event;

    ask(ring, FILE_READ, file);
    ask(ring, QUEUE_READABLE, twinlog_queue_fd(queue));
    while (stored < BLOCKS) {
        if (poll_queue(queue) > 0)
            continue;

        int waited = io_uring_wait_cqe(ring, &event);
        if (waited == -EINTR)
            continue;
        check(waited, "io_uring");

        enum source source = (enum source)io_uring_cqe_get_data64(event);
        int result = event->res;
        io_uring_cqe_seen(ring, event);
        check(result, "io_uring");
        if (source == FILE_READ)
            take_block(ring, file, (size_t)result, journal, queue);
        else
            ask(ring, QUEUE_READABLE, twinlog_queue_fd(queue));
    }
}

int main(int argc, char **argv)
{
    struct twinlog_committer_options without_thread = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_committer *committer;
    struct twinlog_queue *queue;
    struct twinlog *journal;
    struct io_uring ring;

    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        check(-errno, "/proc/self/exe");
    check(io_uring_queue_init(8, &ring, 0), "io_uring");
    check(twinlog_queue_open(&queue), "queue");
    without_thread.queue = queue;
    check(twinlog_committer_open(&without_thread, &committer), "committer");
    options.committer = committer;
    check(twinlog_open(argc > 1 ? argv[1] : "journal", &options, &journal), "open");

    run_loop(&ring, file, journal, queue);

    io_uring_queue_exit(&ring);
    close(file);
    check(twinlog_close(journal), "close");
    check(twinlog_committer_close(committer), "close the committer");
    check(twinlog_queue_close(queue), "close the queue");
    printf("%u blocks stored\n", stored);
    return 0;
}
