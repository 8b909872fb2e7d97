/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping in good order: SIGINT, SIGTERM and SIGHUP become a readable descriptor and a flag.
 *
 * After the first signal the command finishes its present work and cleans up. A second signal of the same
 * kind ends the process at once. A signal that was ignored when the process began (as under nohup) stays
 * ignored.
 */
#ifndef TOOLS_STOP_H
#define TOOLS_STOP_H

#include <stdbool.h>
#include <stdint.h>

int stop_on_signals(void); /* 0 or -errno; before the functions below */
int stop_fd(void);         /* becomes readable, for ever, with the first signal or request */
void stop_request(void);   /* as if a signal had come; any thread */
bool stop_is_requested(void);
int stop_signal(void); /* the signal that came, or 0 */

/* Waits for a second SIGINT or SIGTERM as for the first one; only a third ends the process at once. stop_fd() is no
 * longer readable. */
void stop_again(void);

/* Makes SIGHUP a signal that does not stop, unless it is ignored: returns a descriptor that becomes readable
 * at the signal, until take_hangup(); or -errno. After stop_on_signals(). */
int catch_hangups(void);
bool has_hung_up(void); /* without a system call */
void take_hangup(void);

/* Sleeps for `ms`; false if a signal to stop or a request came. */
bool stop_sleep(uint64_t ms);

/* In a child that becomes another program: these signals end it from here on, unless they are ignored. */
void stop_no_more(void);

/* Ends the process by the signal that came, so that its parent sees the cause. */
_Noreturn void stop_by_signal(void);

#endif
