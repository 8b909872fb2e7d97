/* SPDX-License-Identifier: Apache-2.0 */
/* See quicker.h. */
#include "io/quicker.h"

#include "base/base.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t median(uint64_t took_ns[TRIALS])
{
    qsort(took_ns, TRIALS, sizeof(took_ns[0]), by_value);
    return took_ns[TRIALS / 2];
}

bool twl_quicker_is_second(const struct quicker *quicker)
{
    const uint32_t trial = quicker->turn - quicker->pause;
    return is_trial(quicker) ? (trial + 1) / 2 % 2 != 0 : quicker->is_second;
}

void twl_quicker_next(struct quicker *quicker, uint64_t took_ns)
{
    if (is_trial(quicker))
        quicker->took_ns[twl_quicker_is_second(quicker)][(quicker->turn - quicker->pause) / 2] = took_ns;
    if (++quicker->turn < quicker->pause + 2 * TRIALS)
        return;
    const uint64_t first_ns = median(quicker->took_ns[0]), second_ns = median(quicker->took_ns[1]);
    const bool was_second = quicker->is_second;
    quicker->is_second = second_ns <= first_ns + first_ns / 10;
    const uint64_t longer = min_u64(2 * quicker->pause, MOST_PAUSE);
    quicker->pause = quicker->is_second == was_second ? (uint32_t)max_u64(longer, LEAST_PAUSE) : LEAST_PAUSE;
    quicker->turn = 0;
}
