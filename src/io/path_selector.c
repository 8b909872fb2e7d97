/* SPDX-License-Identifier: Apache-2.0 */
/* See path_selector.h. */
#include "io/path_selector.h"

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

bool twl_path_selector_is_second(const struct path_selector *selector)
{
    const uint32_t trial = selector->turn - selector->pause;
    return is_trial(selector) ? (trial + 1) / 2 % 2 != 0 : selector->is_second;
}

void twl_path_selector_next(struct path_selector *selector, uint64_t took_ns)
{
    if (is_trial(selector))
        selector->took_ns[twl_path_selector_is_second(selector)][(selector->turn - selector->pause) / 2] =
            took_ns;
    if (++selector->turn < selector->pause + 2 * TRIALS)
        return;
    const uint64_t first_ns = median(selector->took_ns[0]), second_ns = median(selector->took_ns[1]);
    const bool was_second = selector->is_second;
    selector->is_second = second_ns <= first_ns + first_ns / 10;
    const uint64_t longer = min_u64(2 * selector->pause, MOST_PAUSE);
    selector->pause =
        selector->is_second == was_second ? (uint32_t)max_u64(longer, LEAST_PAUSE) : LEAST_PAUSE;
    selector->turn = 0;
}
