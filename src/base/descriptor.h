/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every descriptor of the library comes from here, and is 3 or higher. A daemon that has closed the descriptors 0 to 2
 * would otherwise get a file of a log as one of them, and a line that some other code prints would go into that file.
 *
 * While a descriptor is being made, those of 0 to 2 that are closed are taken by others that cannot be read or written
 * (O_PATH). So it has none of these numbers for a moment either, unless a thread of the program closes one of them just
 * then. All of it is close-on-exec.
 */
#ifndef TWL_DESCRIPTOR_H
#define TWL_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STANDARD_DESCRIPTORS 3

/* Each returns the descriptor, or -errno. None is a cancellation point. */
int twl_descriptor_open(int dir, const char *name, int flags, mode_t mode); /* openat() */
int twl_descriptor_event(unsigned count);                                   /* eventfd(), non-blocking */
int twl_descriptor_memory(const char *name);                                /* memfd_create() */
int twl_descriptor_timer(void); /* timerfd_create(), non-blocking */
int twl_descriptor_epoll(void); /* epoll_create1() */
/* Lets the timer end at a time on CLOCK_MONOTONIC; 0 = it does not run. 0 or -errno. */
int twl_descriptor_set_timer(int fd, uint64_t until_ns);

/* For a function of another library that makes descriptors: between the two calls it gets none below 3. Any number of
 * threads at a time. */
bool twl_low_descriptors_take(void);
void twl_low_descriptors_release(bool is_taken); /* what the other one has returned */
/* For the handlers of fork(): nobody takes or gives back in between. */
void twl_low_descriptors_before_fork(void);
void twl_low_descriptors_after_fork(bool is_child);

#endif
