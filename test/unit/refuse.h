/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One system call of a function, by its number, is refused: another thread looks at those that it makes, and lets all
 * others go on. Counted are those that name a file or a descriptor, or move bytes.
 */
#ifndef TEST_UNIT_REFUSE_H
#define TEST_UNIT_REFUSE_H

#include "asked.h"

#include <stdbool.h>

#define CANNOT_REFUSE CANNOT_ASK

/* Runs `body` in a thread of its own, with all threads that it starts; they must have ended when it returns. The call
 * `number`, from 0, does nothing and gets `error`. Returns what `body` has returned. */
int with_refused_call(int (*body)(void), unsigned number, int error);
/* Has it made so many calls? */
bool was_refused(void);
/* The one that was refused, for messages. */
int number_of_refused(void);

#endif
