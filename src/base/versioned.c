/* SPDX-License-Identifier: Apache-2.0 */
#include "base/versioned.h"

#include "base/base.h"
#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define LEAST_BYTES 8u    /* size, and the first field */
#define MOST_BYTES 65536u /* above that the size was not set */

static uint32_t size_of(const void *given)
{
    uint32_t size;
    memcpy(&size, given, sizeof(size));
    return size >= LEAST_BYTES && size <= MOST_BYTES ? size : 0;
}

int twl_versioned_take(void *own, uint32_t own_bytes, const void *given)
{
    const uint32_t bytes = given ? size_of(given) : own_bytes;
    if (bytes == 0)
        return -EINVAL;
    if (bytes > own_bytes && !are_zeros((const unsigned char *)given + own_bytes, bytes - own_bytes))
        return -E2BIG;
    memset(own, 0, own_bytes);
    if (given)
        memcpy(own, given, bytes < own_bytes ? bytes : own_bytes);
    memcpy(own, &own_bytes, sizeof(own_bytes));
    return 0;
}

bool twl_versioned_is_set(const void *ret)
{
    return !ret || size_of(ret) > 0;
}

void twl_versioned_give(void *ret, const void *own, uint32_t own_bytes)
{
    if (!ret)
        return;
    const uint32_t bytes = size_of(ret), known = bytes < own_bytes ? bytes : own_bytes;
    unsigned char *to = ret;
    memcpy(to + sizeof(bytes), (const unsigned char *)own + sizeof(bytes), known - sizeof(bytes));
    memset(to + known, 0, bytes - known);
}
