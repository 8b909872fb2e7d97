/* SPDX-License-Identifier: Apache-2.0 */
/* System calls of one thread, and of those that it starts, wait until another thread has answered. */
#ifndef TEST_UNIT_ASKED_H
#define TEST_UNIT_ASKED_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>

/* Loads a filter into this thread; its SECCOMP_RET_USER_NOTIF are asked about. A descriptor for answer_calls(), or
 * below 0: no such filter may be loaded. */
int ask_about_calls(const struct sock_filter *filter, unsigned short length);
/* Answers until the threads of the filter have ended, and closes the descriptor. `answer`: 0 = the call goes on, else
 * it is refused with that error, which is above 0. */
void answer_calls(int listener, int (*answer)(const struct seccomp_notif *asked));

#define CANNOT_ASK (-4096) /* no error of the system: no such filter may be loaded */

/* Runs `body` in a thread of its own, with all threads that it starts; they must have ended when it returns. `answer`,
 * as above, is called in another thread. Returns what `body` has returned. */
int with_asked_calls(int (*body)(void), const struct sock_filter *filter, unsigned short length,
                     int (*answer)(const struct seccomp_notif *asked));
/* The same, of the calls with that number. */
int with_asked_call(int (*body)(void), int call, int (*answer)(const struct seccomp_notif *asked));
/* `result` is what one of these has returned. False: no such filter may be loaded, and the skip of `test` is said. */
bool could_ask(int result, const char *test);

#endif
