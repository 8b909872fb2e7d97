/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and bytes of the records, drawn from a generator that every thread has for itself. */
#include "workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

#define MAX_BYTES (1u << 30) /* of a record */

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
    const uint64_t span = (uint64_t)max - min + 1;

    return min + (uint32_t)((random_next(random) >> 32) * span >> 32);
}

/* "KiB" or "K" behind a number: how many bits it shifts, and where the text goes on. Nothing shifts by 0. */
static unsigned parse_unit(const char *text, const char **ret_end)
{
    static const char units[] = "KMGT";
    const char *unit = *text ? strchr(units, *text) : NULL;

    *ret_end = text;
    if (!unit)
        return 0;

    const bool is_long = strcmp(text + 1, "iB") == 0;
    *ret_end = is_long ? text + 3 : text + 1;
    return 10u * (unsigned)(unit - units + 1);
}

bool bytes_parse(const char *text, uint64_t *ret_bytes)
{
    char *end_of_number;
    const char *end;

    errno = 0;
    const unsigned long long value = strtoull(text, &end_of_number, 10);
    if (errno || end_of_number == text || text[0] == '-')
        return false;
    const unsigned shift = parse_unit(end_of_number, &end);
    if (*end || value > UINT64_MAX >> shift)
        return false;

    *ret_bytes = (uint64_t)value << shift;
    return true;
}

bool sizes_parse(const char *text, struct sizes *ret_sizes)
{
    struct sizes sizes = { 0, 0, "" };
    char low[sizeof(sizes.text)];
    const char *high = low;
    uint64_t min, max;

    if ((size_t)snprintf(sizes.text, sizeof(sizes.text), "%s", text) >= sizeof(sizes.text))
        return false;

    memcpy(low, sizes.text, sizeof(low));
    char *dash = strchr(low, '-');
    if (dash) {
        *dash = 0;
        high = dash + 1;
    }
    if (!bytes_parse(low, &min) || !bytes_parse(high, &max))
        return false;
    if (min == 0 || min > max || max > MAX_BYTES)
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
    if (sizes->min_bytes == sizes->max_bytes)
        return sizes->min_bytes; /* nothing is drawn */
    return draw_between(sizes->min_bytes, sizes->max_bytes, random);
}

void payload_create(uint32_t largest_record, struct payload *ret_payload)
{
    const size_t needed = (size_t)largest_record + PAYLOAD_SPREAD;
    struct payload payload = { .size = (needed + 7) / 8 * 8 };
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15);

    payload.bytes = allocate(1, payload.size);
    for (size_t i = 0; i < payload.size; i += sizeof(uint64_t)) {
        const uint64_t next = random_next(&random);
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
