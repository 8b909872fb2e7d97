/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "commit/loop_side.h"

#include "base/descriptor.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

const void *twl_own_mark(void)
{
    static _Thread_local char mark;

    return &mark;
}

/* ---- init and destroy ---------------------------------------------------------------------------- */

static int add(struct loop_side *side, int fd)
{
    struct epoll_event event = { .events = EPOLLIN };

    return epoll_ctl(side->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* No child gets the two descriptors below the one that the program is told. */
static int make_descriptors(struct loop_side *side)
{
    twl_child_hold();
    side->news_fd = twl_descriptor_event(0);
    side->alarm_fd = side->news_fd < 0 ? -1 : twl_descriptor_timer();
    side->fd = side->alarm_fd < 0 ? -1 : twl_descriptor_epoll();
    if (side->news_fd >= 0)
        twl_child_register(&side->news_in_child, &side->news_fd);
    if (side->alarm_fd >= 0)
        twl_child_register(&side->alarm_in_child, &side->alarm_fd);
    twl_child_release();

    if (side->news_fd < 0)
        return side->news_fd;
    return side->alarm_fd < 0 ? side->alarm_fd : side->fd;
}

int twl_loop_side_init(struct loop_side *side, int ring_fd)
{
    *side = (struct loop_side){ .fd = -1, .news_fd = -1, .alarm_fd = -1 };
    int rc = make_descriptors(side);

    if (rc >= 0)
        rc = add(side, side->news_fd);
    if (rc == 0)
        rc = add(side, side->alarm_fd);
    if (rc == 0 && ring_fd >= 0)
        rc = add(side, ring_fd);
    if (rc < 0)
        twl_loop_side_destroy(side);
    return rc;
}

void twl_loop_side_destroy(struct loop_side *side)
{
    if (side->fd >= 0)
        close(side->fd);
    if (side->news_fd >= 0) {
        twl_child_unregister(&side->news_in_child);
        close(side->news_fd);
    }
    if (side->alarm_fd >= 0) {
        twl_child_unregister(&side->alarm_in_child);
        close(side->alarm_fd);
    }
    side->fd = side->news_fd = side->alarm_fd = -1;
}

/* ---- news ---------------------------------------------------------------------------------------- */

static bool read_count(int fd)
{
    uint64_t count;

    return read(fd, &count, sizeof(count)) == sizeof(count);
}

void twl_loop_side_tell(struct loop_side *side)
{
    const uint64_t one = 1;

    if (side->fd < 0 || atomic_load(&side->loop) == twl_own_mark())
        return;
    if (atomic_exchange(&side->has_news, true))
        return;
    while (write(side->news_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

/* Where nothing could be read, the other thread is about to write: has_news stays, so that this is read next time. */
void twl_loop_side_enter(struct loop_side *side)
{
    atomic_store(&side->loop, twl_own_mark());
    if (atomic_load(&side->has_news) && read_count(side->news_fd))
        atomic_store(&side->has_news, false);
}

/* ---- the timer ----------------------------------------------------------------------------------- */

void twl_loop_side_set_alarm(struct loop_side *side, uint64_t until_ns)
{
    if (side->alarm_ns > 0 && side->alarm_ns <= until_ns)
        return;
    if (twl_descriptor_set_timer(side->alarm_fd, until_ns) == 0)
        side->alarm_ns = until_ns;
}

bool twl_loop_side_take_alarm(struct loop_side *side)
{
    if (side->alarm_ns == 0 || twl_monotonic_ns() < side->alarm_ns || !read_count(side->alarm_fd))
        return false;
    side->alarm_ns = 0;
    return true;
}
