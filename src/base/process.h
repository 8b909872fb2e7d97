/* SPDX-License-Identifier: Apache-2.0 */
/* Names a process in one word that other processes read, for messages. */
#ifndef TWL_PROCESS_H
#define TWL_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* This process: its PID and, in the upper half, the PID namespace where it has that number. */
uint64_t twl_process_word(void);
/* The PID of the process that made the word. 0 if it has ended, or if its namespace is another one or is not known:
 * there the number would name no process, or a wrong one. */
pid_t twl_process_pid(uint64_t word);

#endif
