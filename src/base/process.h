/* SPDX-License-Identifier: Apache-2.0 */
/* Names the current boot of the kernel, and a process in it, so that other processes can tell whether it is still
 * there. */
#ifndef TWL_PROCESS_H
#define TWL_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes stored in a mapped file stay there as long as the kernel runs, even if the process that stored them ends. */
#define BOOT_ID_BYTES 16u

/* What is known of the current boot; all zeros if that is nothing. Containers of one kernel are in one boot. An error:
 * this process lacks descriptors or memory, so another one may know more. */
int twl_boot_id(uint8_t ret_id[BOOT_ID_BYTES]);
/* Is `id` certainly of the current boot? An error, as above: that could not be looked at. */
int twl_boot_ask(const uint8_t id[BOOT_ID_BYTES], bool *ret_is_current);
/* True if `id` is certainly of a boot that has ended; false also where that could not be looked at. Neither is true of
 * what is not known. */
bool twl_boot_has_ended(const uint8_t id[BOOT_ID_BYTES]);

/* This process: its PID and, in the upper half, the PID namespace where it has that number. */
uint64_t twl_process_word(void);
/* The PID of the process that made the word. 0 if it has ended, or if its namespace is another one or is not known:
 * there the number would name no process, or a wrong one. */
pid_t twl_process_pid(uint64_t word);

#endif
