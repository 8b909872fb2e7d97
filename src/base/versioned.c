/* SPDX-License-Identifier: Apache-2.0 */
#include "base/versioned.h"

#include "base/base.h"
#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define LEAST_BYTES 8u    /* size, and the first field */
#define MOST_BYTES 65536u /* above that the size was not set */

/* What the caller has stored in the first field; 0 if it can be no size. */
static uint32_t size_of(const void *given)
{
    uint32_t size;

    memcpy(&size, given, sizeof(size));
    if (size < LEAST_BYTES || size > MOST_BYTES)
        return 0;
    return size;
}

/* A structure of a newer program may be longer. What this library does not know must then be 0. */
static int take_given(void *own, uint32_t own_bytes, const void *given)
{
    const uint32_t bytes = size_of(given);
    const bool is_newer = bytes > own_bytes;

    if (bytes == 0)
        return -EINVAL;
    if (is_newer && !are_zeros((const unsigned char *)given + own_bytes, bytes - own_bytes))
        return -E2BIG;

    memset(own, 0, own_bytes);
    memcpy(own, given, min_u64(bytes, own_bytes));
    return 0;
}

int twl_versioned_take(void *own, uint32_t own_bytes, const void *given)
{
    int rc = 0;

    if (given)
        rc = take_given(own, own_bytes, given);
    else
        memset(own, 0, own_bytes);
    if (rc < 0)
        return rc;

    memcpy(own, &own_bytes, sizeof(own_bytes));
    return 0;
}

bool twl_versioned_is_set(const void *ret)
{
    return !ret || size_of(ret) > 0;
}

void twl_versioned_give(void *ret, const void *own, uint32_t own_bytes)
{
    unsigned char *to = ret;

    if (!ret)
        return;

    /* The size stays what the caller has set. */
    const uint32_t bytes = size_of(ret);
    const size_t known = min_u64(bytes, own_bytes);
    memcpy(to + sizeof(bytes), (const unsigned char *)own + sizeof(bytes), known - sizeof(bytes));
    memset(to + known, 0, bytes - known);
}
