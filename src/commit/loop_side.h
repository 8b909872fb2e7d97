/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loop of a program sees of the committer that it drives: one descriptor, which is readable while there is
 * something to do. It is an epoll descriptor over three others: the ring, whose writes may be done; an eventfd, by which
 * other threads tell that they have brought work, or that they have completed requests; and a timer.
 */
#ifndef TWL_COMMIT_LOOP_SIDE_H
#define TWL_COMMIT_LOOP_SIDE_H

#include "base/fork.h"
#include "base/sync.h"

struct loop_side {
    int fd, news_fd, alarm_fd; /* [const] -1 = none */
    struct child_file news_in_child, alarm_in_child;
    _Atomic bool has_news;
    const void *_Atomic loop; /* the mark of the thread that enters it; NULL = none has */
    uint64_t alarm_ns;        /* [the thread that does the turn] when the timer ends; 0 = it does not run */
};

/* A mark that no other thread of the process has while this one lives. */
const void *twl_own_mark(void);

/* `ring_fd` is -1 if there is no ring. After an error nothing has to be destroyed. */
int twl_loop_side_init(struct loop_side *side, int ring_fd);
void twl_loop_side_destroy(struct loop_side *side);

/* Makes the descriptor readable, unless the calling thread is the loop: that looks without being told. */
void twl_loop_side_tell(struct loop_side *side);
/* The calling thread is the loop from now on, and looks at all that was told before. */
void twl_loop_side_enter(struct loop_side *side);

/* Makes the descriptor readable at `until_ns` on CLOCK_MONOTONIC, or earlier. */
void twl_loop_side_set_alarm(struct loop_side *side, uint64_t until_ns);
/* True if the timer has ended: it does not run any more. */
bool twl_loop_side_take_alarm(struct loop_side *side);

#endif
