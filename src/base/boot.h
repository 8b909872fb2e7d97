/* SPDX-License-Identifier: Apache-2.0 */
/* Which run of the kernel this is. What was stored in a mapped file is all there as long as the kernel runs, whatever
 * becomes of the process. */
#ifndef TWL_BOOT_H
#define TWL_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#define BOOT_ID_BYTES 16u

/* All zeros where that can't be told: then it is no run that anybody could know again. */
void twl_boot_id(uint8_t ret_id[BOOT_ID_BYTES]);
/* Is it that of the kernel that runs now? */
bool twl_boot_is(const uint8_t id[BOOT_ID_BYTES]);

#endif
