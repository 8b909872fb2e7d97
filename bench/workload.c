/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and bytes of the records, drawn from a generator that every thread has for itself. */
#include "workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

uint64_t random_next(uint64_t *random)
{
    uint64_t x = *random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *random = x;
    return x * UINT64_C(2685821657736338717);
}

static uint32_t draw_between(uint32_t min, uint32_t max, uint64_t *random)
{
    uint64_t span = (uint64_t)max - min + 1;
    return min + (uint32_t)((random_next(random) >> 32) * span >> 32);
}

bool bytes_parse(const char *text, uint64_t *ret_bytes)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || text[0] == '-')
        return false;
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10u * (unsigned)(unit - units + 1) : 0;
    if (unit)
        end += strcmp(end + 1, "iB") == 0 ? 3 : 1;
    if (*end || value > UINT64_MAX >> shift)
        return false;
    *ret_bytes = (uint64_t)value << shift;
    return true;
}

bool sizes_parse(const char *text, struct sizes *ret_sizes)
{
    struct sizes sizes = { 0, 0, "" };
    if ((size_t)snprintf(sizes.text, sizeof(sizes.text), "%s", text) >= sizeof(sizes.text))
        return false;

    char low[sizeof(sizes.text)];
    uint64_t min, max;
    memcpy(low, sizes.text, sizeof(low));
    char *dash = strchr(low, '-');
    if (dash)
        *dash = 0;
    if (!bytes_parse(low, &min) || !bytes_parse(dash ? dash + 1 : low, &max) || min == 0 || min > max ||
        max > 1u << 30)
        return false;
    sizes.min_bytes = (uint32_t)min;
    sizes.max_bytes = (uint32_t)max;
    *ret_sizes = sizes;
    return true;
}

double sizes_mean(const struct sizes *sizes)
{
    return ((double)sizes->min_bytes + sizes->max_bytes) / 2;
}

uint32_t sizes_draw(const struct sizes *sizes, uint64_t *random)
{
    return sizes->min_bytes == sizes->max_bytes ? sizes->min_bytes
                                                : draw_between(sizes->min_bytes, sizes->max_bytes, random);
}

void payload_create(uint32_t largest_record, struct payload *ret_payload)
{
    struct payload payload = { .size = ((size_t)largest_record + PAYLOAD_SPREAD + 7) & ~(size_t)7 };
    payload.bytes = allocate(1, payload.size);
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < payload.size; i += sizeof(uint64_t)) {
        uint64_t next = random_next(&random);
        memcpy(payload.bytes + i, &next, sizeof(next));
    }
    *ret_payload = payload;
}

const void *payload_draw(const struct payload *payload, uint64_t *random)
{
    return payload->bytes + draw_between(0, PAYLOAD_SPREAD / 8 - 1, random) * 8;
}

void payload_destroy(struct payload *payload)
{
    free(payload->bytes);
    payload->bytes = NULL;
}
