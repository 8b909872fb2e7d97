/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included by force in front of every file of src/commit that is compiled for the enumeration: each atomic operation
 * announces itself, and what is outside of the layer is what interleave.c puts in its place.
 *
 * All fibers are one thread to the machine. So the operations themselves can be plain ones, and what is local to a
 * thread stands in a section of its own, which the scheduler exchanges.
 */
#ifndef TEST_INTERLEAVE_POINTS_H
#define TEST_INTERLEAVE_POINTS_H

#define _GNU_SOURCE
#include "explore.h"

#include "base/descriptor.h"
#include "base/fork.h"
#include "base/gauge.h"
#include "base/sync.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define POINT(kind, object) point(kind, (const void *)(uintptr_t)(object), #object, __func__)

/* What the commit path counts, and looks at only for a call that is timed: nobody can tell when. */
#define IS(text, name) (__builtin_strcmp(text, name) == 0)
#define IS_COUNT(object)                                                                                     \
    (__builtin_strstr(#object, "statistics->") != NULL || __builtin_strstr(#object, "counters->") != NULL)

#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_fetch_add
#undef atomic_compare_exchange_weak
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_sub_explicit
#define atomic_load(object) (POINT(STEP_READ, object), *(object))
#define atomic_load_explicit(object, order) atomic_load(object)
#define atomic_store(object, value) ((void)(POINT(STEP_WRITE, object), *(object) = (value)))
#define atomic_store_explicit(object, value, order)                                                          \
    (IS(#object, "&sealed->done_ns") || IS_COUNT(object) ? (void)0 : atomic_store(object, value))
#define CHANGE(object, operation, value)                                                                     \
    __extension__({                                                                                          \
        if (!IS_COUNT(object))                                                                               \
            POINT(STEP_WRITE, object);                                                                       \
        __typeof__((void)0, *(object)) before_ = *(object);                                                  \
        *(object)operation(value);                                                                           \
        before_;                                                                                             \
    })
#define atomic_exchange(object, value) CHANGE(object, =, value)
#define atomic_compare_exchange_weak(object, expected, value)                                                \
    (POINT(STEP_WRITE, object),                                                                              \
     *(object) == *(expected) ? (*(object) = (value), true) : (*(expected) = *(object), false))
#define atomic_fetch_add(object, value) CHANGE(object, +=, value)
#define atomic_fetch_add_explicit(object, value, order) CHANGE(object, +=, value)
#define atomic_fetch_sub(object, value) CHANGE(object, -=, value)
#define atomic_fetch_sub_explicit(object, value, order) CHANGE(object, -=, value)
#define __atomic_load_n(object, order) (POINT(STEP_READ, object), __atomic_load_n(object, order))

#define _Thread_local __attribute__((section("of_fiber")))
#define pthread_join(thread, result) fiber_join(thread)
#define OWN_MARK ((const void *)fiber_self())

/* A driven committer looks at the clock for its timer, which never ends here: it must not be needed. */
#define twl_monotonic_ns()                                                                                   \
    (IS(__func__, "prepare_rest") || IS(__func__, "twl_queue_take_timer") ? UINT64_C(1) : twl_monotonic_ns())

/* What is only there to avoid a sleep has no place here: every sleep is tried. */
#define YIELDS_BEFORE_SLEEP 0
#define YIELDS_BEFORE_LEAD 0
#define YIELDS_FOR_COPIES 0u

#define twl_nap nap_in_world /* no time passes: a turn of such a wait is a yield */

#define twl_fork_guard_init(guard) ((void)(guard), 0)
#define twl_fork_guard_is_forked(guard) ((void)(guard), false)

#define NO_FILE 100000 /* a descriptor that may be closed */
#define twl_io_ring_create make_ring_in_world
#define twl_io_ring_destroy destroy_ring_in_world
#define twl_io_ring_submit submit_in_world
#define twl_io_ring_hand_over hand_over_in_world
#define twl_io_ring_reap reap_in_world
#define twl_io_ring_wait wait_in_ring_in_world
#define twl_io_ring_wake wake_in_world
#define twl_io_ring_nudge nudge_in_world
#define twl_io_ring_fd ring_fd_in_world
#define twl_descriptor_event(count) NO_FILE
#define twl_descriptor_timer() (NO_FILE + 1)
#define twl_descriptor_epoll() (NO_FILE + 2)
#define twl_descriptor_set_timer(fd, until_ns) 0
#define epoll_ctl(epoll, operation, fd, event)                                                               \
    ((void)(epoll), (void)(fd), watch_in_world((operation) == EPOLL_CTL_ADD || (event)->events != 0), 0)
#define eventfd_write(fd, count) signal_in_world(true)
#define eventfd_read(fd, count) ((void)(count), signal_in_world(false))
void signal_in_world(bool is_on);
void watch_in_world(bool is_on);
#define twl_record_encode encode_in_world
#define twl_segment_close close_in_world
#define twl_keeper_want_spare want_spare_in_world
#define twl_keeper_take take_in_world
#define twl_keeper_want want_in_world
#define twl_keeper_wait wait_in_world
#define twl_keeper_help help_in_world
#define twl_keeper_tell tell_in_world
#define twl_keeper_leave leave_in_world

#define aligned_alloc aligned_alloc_in_world
#define calloc calloc_in_world
#define free free_in_world
#define twl_private_memory(bytes) private_memory_in_world(bytes)
#define twl_private_memory_free(memory, bytes) ((void)(memory), (void)(bytes))
void *aligned_alloc(size_t alignment, size_t size);
void *calloc(size_t count, size_t size);
void free(void *memory);
void *private_memory_in_world(size_t bytes);

#endif
