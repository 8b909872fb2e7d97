/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the policy sink. */
#include "sink.h"

#include <string.h>

#define DIGIT_BITS 6u
#define FIRST_DIGIT '0' /* and the 63 characters behind it */

static struct rng chance_of(uint32_t pen, uint32_t sequence)
{
    return (struct rng){ rng_mix(place.seed) ^ rng_mix((uint64_t)pen << 32 | sequence) };
}

size_t line_size(uint32_t pen, uint32_t sequence)
{
    struct rng rng = chance_of(pen, sequence), of_pen = chance_of(pen, UINT32_MAX);
    const size_t least = LINE_LABEL_BYTES + 2;

    if (rng_one_in(&of_pen, 2)) /* all of one size */
        return least + rng_below(&of_pen, 200);
    if (rng_one_in(&rng, 100))
        return least + rng_below(&rng, LINE_MAX_BYTES - least + 1);
    if (rng_one_in(&rng, 10))
        return least + rng_below(&rng, 9000);
    return least + rng_below(&rng, 200);
}

static void put_digits(unsigned char *to, uint32_t value, unsigned count)
{
    for (unsigned i = 0; i < count; i++, value >>= DIGIT_BITS)
        to[i] = (unsigned char)(FIRST_DIGIT + (value & ((1u << DIGIT_BITS) - 1)));
}

static bool get_digits(const unsigned char *from, unsigned count, uint32_t *ret_value)
{
    uint32_t value = 0;

    for (unsigned i = count; i-- > 0;) {
        if (from[i] < FIRST_DIGIT || from[i] >= FIRST_DIGIT + (1u << DIGIT_BITS))
            return false;
        value = value << DIGIT_BITS | (from[i] - (uint32_t)FIRST_DIGIT);
    }
    *ret_value = value;
    return true;
}

void line_fill(uint32_t pen, uint32_t sequence, unsigned char *bytes)
{
    const size_t size = line_size(pen, sequence);
    struct rng rng = { chance_of(pen, sequence).state + 1 };

    rng_fill(&rng, bytes, size);
    if (rng_one_in(&rng, 3)) { /* a line of text */
        for (size_t i = 0; i < size; i++)
            bytes[i] = (unsigned char)('!' + bytes[i] % 94);
        bytes[size - 1] = '\n';
    } else if (rng_one_in(&rng, 3)) { /* zeros to the end */
        const size_t from = rng_below(&rng, size);
        memset(bytes + from, 0, size - from);
    }
    put_digits(bytes, pen, 2);
    put_digits(bytes + 2, sequence, LINE_LABEL_BYTES - 2);
}

bool line_read_label(const unsigned char *bytes, size_t size, uint32_t *ret_pen, uint32_t *ret_sequence)
{
    return size > LINE_LABEL_BYTES && get_digits(bytes, 2, ret_pen) &&
           get_digits(bytes + 2, LINE_LABEL_BYTES - 2, ret_sequence);
}
