/* SPDX-License-Identifier: Apache-2.0 */
/* See payload.h. */
#include "payload.h"

#include "../sim/rng.h"

#include <inttypes.h>
#include <stdio.h>

struct label {
    uint64_t life, sequence;
    uint32_t writer, size;
};

static struct rng chance_of(const struct payload *payload)
{
    const uint64_t pen = (uint64_t)payload->writer << 40 | payload->sequence;

    return (struct rng){ rng_mix(payload->life ^ rng_mix(pen + 1)) };
}

static size_t choose_size(struct rng *rng, uint32_t max_bytes)
{
    static const uint32_t limits[] = {
        1, 16, 64, 200, 200, 200, 200, 200, 200, 1000, 1000, 1000, 4200, 4200
    };
    const uint64_t kind = rng_below(rng, 64);

    if (kind == 0)
        return max_bytes;
    if (kind < 4)
        return rng_below(rng, max_bytes + 1);
    return rng_below(rng, limits[kind % (sizeof(limits) / sizeof(limits[0]))] + 1);
}

size_t payload_size(const struct payload *payload)
{
    struct rng rng = chance_of(payload);
    const size_t size = choose_size(&rng, payload->max_bytes);

    return size < payload->max_bytes ? size : payload->max_bytes;
}

/* How many of its last bytes are zeros whatever happens. */
static size_t choose_zeros(struct rng *rng, size_t size)
{
    if (!rng_one_in(rng, 16))
        return 0;
    return rng_one_in(rng, 2) ? size : rng_below(rng, size + 1);
}

uint16_t payload_tag(const struct payload *payload)
{
    return (uint16_t)(chance_of(payload).state >> 20) | 1;
}

static struct rng chance_of_bytes(const struct payload *payload)
{
    return (struct rng){ chance_of(payload).state ^ 1 };
}

bool payload_has_label(const struct payload *payload)
{
    struct rng rng = chance_of_bytes(payload);
    const size_t size = payload_size(payload);

    return size - choose_zeros(&rng, size) >= sizeof(struct label);
}

void payload_fill(const struct payload *payload, unsigned char *bytes)
{
    const size_t size = payload_size(payload);
    const struct label label = { payload->life, payload->sequence, payload->writer, (uint32_t)size };
    struct rng rng = chance_of_bytes(payload);
    const size_t zeros = choose_zeros(&rng, size);

    rng_fill(&rng, bytes, size - zeros);
    memset(bytes + size - zeros, 0, zeros);
    if (size - zeros >= sizeof(label))
        memcpy(bytes, &label, sizeof(label));
}

bool payload_matches(const struct payload *payload, const struct twinlog_record *record)
{
    static unsigned char expected[WRITTEN_MAX_BYTES];

    if (record->size != payload_size(payload))
        return false;
    payload_fill(payload, expected);
    return record->size == 0 || memcmp(record->data, expected, record->size) == 0;
}

void payload_describe(const void *bytes, size_t size, char *text, size_t text_size)
{
    struct label label;

    if (size < sizeof(label)) {
        snprintf(text, text_size, "%zu bytes", size);
        return;
    }
    memcpy(&label, bytes, sizeof(label));
    snprintf(text, text_size,
             "%zu bytes, labelled life %" PRIx64 " writer %" PRIu32 " sequence %" PRIu64 " size %" PRIu32,
             size, label.life, label.writer, label.sequence, label.size);
}

uint64_t payload_digest(const struct twinlog_record *record)
{
    const unsigned char *from = record->data;
    uint64_t digest = rng_mix((uint64_t)record->time_ns) ^ record->size;

    for (size_t at = 0; at < record->size; at += sizeof(uint64_t)) {
        const size_t left = record->size - at, part = left < sizeof(uint64_t) ? left : sizeof(uint64_t);
        uint64_t word = 0;

        memcpy(&word, from + at, part);
        digest = (digest ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        digest ^= digest >> 32;
    }
    return digest | 1;
}
