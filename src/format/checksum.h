/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C (Castagnoli, RFC 3720 section B.4). The checksum of "123456789" is 0xe3069283.
 *
 * Most inputs are short: the checked part of a record header has 20 bytes, and many payloads have few more.
 * For these the processor's own instruction, inlined, is faster than a call into a library. It is written in
 * assembly because a compiler that targets processors without the instruction would not inline it.
 */
#ifndef TWL_CHECKSUM_H
#define TWL_CHECKSUM_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef TWL_HAVE_ISAL
#define CRC32C_SHORT_BYTES 256u /* from this size on ISA-L is faster; it works on several parts at once */
#else
#define CRC32C_SHORT_BYTES SIZE_MAX
#endif

/* Uses ISA-L where it is available, otherwise a table. */
uint32_t twl_crc32c_long(uint32_t crc, const void *data, size_t size);
/* Uses a table. For machines that have neither ISA-L nor the instruction. */
uint32_t twl_crc32c_portable(uint32_t crc, const void *data, size_t size);

/* The seed with which these bytes have this checksum. */
uint32_t twl_crc32c_undo(uint32_t crc, const unsigned char *bytes, size_t size);

extern bool twl_has_crc32c __attribute__((visibility("hidden"))); /* [const once the library is loaded] */

#if defined(__x86_64__) /* SSE4.2 */
#define CRC32C_OF_BYTE "crc32b %1, %0"
#define CRC32C_OF_4_BYTES "crc32l %1, %0"
#define CRC32C_OF_8_BYTES "crc32q %1, %q0"
#elif defined(__aarch64__) /* ARMv8.1, and most of ARMv8.0 */
#define CRC32C_OF_BYTE ".arch_extension crc\n\tcrc32cb %w0, %w0, %w1"
#define CRC32C_OF_4_BYTES ".arch_extension crc\n\tcrc32cw %w0, %w0, %w1"
#define CRC32C_OF_8_BYTES ".arch_extension crc\n\tcrc32cx %w0, %w0, %x1"
#endif

#ifdef CRC32C_OF_BYTE
/* Without the inversions at start and end. */
static inline uint32_t twl_crc32c_add(uint32_t crc, const unsigned char *at, size_t size)
{
    for (; size >= 8; at += 8, size -= 8)
        __asm__(CRC32C_OF_8_BYTES : "+r"(crc) : "r"(load_le64(at)));
    if (size >= 4) {
        __asm__(CRC32C_OF_4_BYTES : "+r"(crc) : "r"(load_le32(at)));
        at += 4;
        size -= 4;
    }
    for (; size > 0; at++, size--)
        __asm__(CRC32C_OF_BYTE : "+r"(crc) : "r"(*at));
    return crc;
}

/* Stores each word that it has added. The empty instruction keeps the compiler from reading the word a second time. */
static inline uint32_t twl_crc32c_add_copy(uint32_t crc, unsigned char *to, const unsigned char *from,
                                           size_t size)
{
    for (; size >= 8; to += 8, from += 8, size -= 8) {
        uint64_t word = load_le64(from);
        __asm__("" : "+r"(word));
        __asm__(CRC32C_OF_8_BYTES : "+r"(crc) : "r"(word));
        store_le64(to, word);
    }
    for (; size > 0; to++, from++, size--) {
        uint8_t byte = *from;
        __asm__("" : "+r"(byte));
        __asm__(CRC32C_OF_BYTE : "+r"(crc) : "r"(byte));
        *to = byte;
    }
    return crc;
}
#endif

/* Continues from `crc`, the result for the preceding bytes; 0 to begin. Any other start value is a seed:
 * two different seeds never give the same result for the same bytes. */
static inline uint32_t twl_crc32c(uint32_t crc, const void *data, size_t size)
{
#ifdef CRC32C_OF_BYTE
    if (size < CRC32C_SHORT_BYTES && twl_has_crc32c)
        return ~twl_crc32c_add(~crc, data, size);
#endif
    return twl_crc32c_long(crc, data, size);
}

/* Copies, and returns the checksum of the copy: each byte is read once, so another thread may change `from`
 * meanwhile. */
static inline uint32_t twl_crc32c_copy(unsigned char *to, const void *from, size_t size)
{
#ifdef CRC32C_OF_BYTE
    if (size < CRC32C_SHORT_BYTES && twl_has_crc32c)
        return ~twl_crc32c_add_copy(~0u, to, from, size);
#endif
    if (size > 0)
        memcpy(to, from, size);
    return twl_crc32c_long(0, to, size);
}

#endif
