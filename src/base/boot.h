/* SPDX-License-Identifier: Apache-2.0 */
/* Identifies the current boot of the kernel. Bytes stored in a mapped file stay there as long as the kernel runs,
 * even if the process that stored them ends. */
#ifndef TWL_BOOT_H
#define TWL_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#define BOOT_ID_BYTES 16u

/* All zeros if the boot is unknown; such an identifier matches no boot. */
void twl_boot_id(uint8_t ret_id[BOOT_ID_BYTES]);
/* True if `id` is the identifier of the current boot. */
bool twl_boot_is(const uint8_t id[BOOT_ID_BYTES]);

#endif
