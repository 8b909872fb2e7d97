/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian integers in byte arrays, at any alignment (compilers turn each function into one move), and a
 * test for zeros. */
#ifndef TWL_BYTES_H
#define TWL_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void store_le16(unsigned char *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}
static inline void store_le32(unsigned char *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}
static inline void store_le64(unsigned char *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}
static inline uint16_t load_le16(const unsigned char *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}
static inline uint32_t load_le32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}
static inline uint64_t load_le64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

/* True for size 0 as well. A long array is compared with itself, one byte further on. */
static inline bool are_zeros(const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    if (size >= 16)
        return at[0] == 0 && memcmp(at, at + 1, size - 1) == 0;
    for (size_t i = 0; i < size; i++)
        if (at[i] != 0)
            return false;
    return true;
}

#endif
