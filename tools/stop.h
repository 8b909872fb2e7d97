/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping in good order: SIGINT, SIGTERM and SIGHUP become a readable descriptor and a flag.
 *
 * The first signal asks; what is in hand is finished and cleaned up. A second one of the same kind
 * ends the process as it would any other. A signal that was ignored when the process began (as under
 * nohup) stays ignored.
 */
#ifndef TOOLS_STOP_H
#define TOOLS_STOP_H

#include <stdbool.h>
#include <stdint.h>

int stop_on_signals(void); /* 0 or -errno; before the functions below */
int stop_fd(void);         /* becomes readable, for ever, with the first signal or request */
void stop_request(void);   /* as if a signal had come; any thread */
int stop_signal(void);     /* the signal that came, or 0 */

/* Makes SIGHUP a signal that does not stop, unless it is ignored: the descriptor that is returned becomes readable, and
 * reading its 8 bytes takes note of it. Or -errno. After stop_on_signals(). */
int catch_hangups(void);

/* Sleeps until then; false if it was woken by a signal or a request. */
bool stop_sleep(uint64_t ms);

/* Ends the process by the signal that came, so that its parent sees what happened. */
_Noreturn void stop_by_signal(void);

#endif
