/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C of long inputs: by Intel's ISA-L where it is available (60 GB/s from 4 KiB up on an AVX-512
 * machine), otherwise by a table.
 */
#include "format/checksum.h"

#include <limits.h>
#include <pthread.h>

#ifdef __aarch64__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#ifdef TWL_HAVE_ISAL
#include <isa-l/crc.h>
#endif

/* ---- by the processor -------------------------------------------------------------------------- */

bool twl_has_crc32c;

/* A caller that runs before this constructor gets the same checksum from the slower function. */
#if defined(__x86_64__)
__attribute__((constructor)) static void look_at_processor(void)
{
    __builtin_cpu_init();
    twl_has_crc32c = __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
__attribute__((constructor)) static void look_at_processor(void)
{
    twl_has_crc32c = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#endif

/* ---- in software ------------------------------------------------------------------------------- */

#define POLYNOMIAL_REFLECTED 0x82f63b78u

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static uint32_t add_bit(uint32_t crc)
{
    if (crc & 1)
        return (crc >> 1) ^ POLYNOMIAL_REFLECTED;
    return crc >> 1;
}

/* The highest bit of the polynomial is set, so that of the result tells whether it was added. */
static uint32_t undo_bit(uint32_t crc)
{
    if (crc & 0x80000000u)
        return (crc ^ POLYNOMIAL_REFLECTED) << 1 | 1;
    return crc << 1;
}

static void make_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = add_bit(crc);
        table[byte] = crc;
    }
}

uint32_t twl_crc32c_portable(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *at = data;

    pthread_once(&table_once, make_table);
    crc = ~crc;
    for (; size > 0; at++, size--)
        crc = (crc >> 8) ^ table[(crc ^ *at) & 0xff];
    return ~crc;
}

/* The last byte is undone first. */
uint32_t twl_crc32c_undo(uint32_t crc, const unsigned char *bytes, size_t size)
{
    crc = ~crc;
    for (const unsigned char *at = bytes + size; at > bytes; at--) {
        for (unsigned bit = 0; bit < 8; bit++)
            crc = undo_bit(crc);
        crc ^= at[-1];
    }

    return ~crc;
}

#ifdef TWL_HAVE_ISAL
uint32_t twl_crc32c_long(uint32_t crc, const void *data, size_t size)
{
    /* ISA-L takes an int for the size and a pointer that is not const, and inverts neither on entry nor on
     * exit. */
    unsigned char *at = (unsigned char *)(uintptr_t)data;

    crc = ~crc;
    for (; size > INT_MAX; at += INT_MAX, size -= INT_MAX)
        crc = crc32_iscsi(at, INT_MAX, crc);
    return ~crc32_iscsi(at, (int)size, crc);
}
#else
uint32_t twl_crc32c_long(uint32_t crc, const void *data, size_t size)
{
    return twl_crc32c_portable(crc, data, size);
}
#endif
