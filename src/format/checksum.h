/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C (Castagnoli, RFC 3720 section B.4): of "123456789" it is 0xe3069283. */
#ifndef TWL_CHECKSUM_H
#define TWL_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Continues from `crc`, the result for the bytes before; 0 to begin. A value other than 0 to begin
 * with is a seed: two different seeds never give the same result for the same bytes. */
uint32_t twl_crc32c(uint32_t crc, const void *data, size_t size);

/* The same without ISA-L: what is used where the library is not there. */
uint32_t twl_crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
