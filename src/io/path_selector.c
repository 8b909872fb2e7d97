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

/* The trials take the ways in the order 1 2 2 1, so each has as many even turns as odd ones. */
bool twl_path_selector_is_second(const struct path_selector *selector)
{
    const uint32_t trial = selector->turn - selector->pause;

    return is_trial(selector) ? (trial + 1) / 2 % 2 != 0 : selector->is_second;
}

/* The pause before the next trials: longer each time that they find nothing new. */
static uint32_t next_pause(uint32_t pause, bool has_changed)
{
    if (has_changed)
        return LEAST_PAUSE;
    return (uint32_t)max_u64(min_u64(2 * pause, MOST_PAUSE), LEAST_PAUSE);
}

/* The trials are over. */
static void choose(struct path_selector *selector)
{
    const uint64_t first_ns = median(selector->took_ns[0]), second_ns = median(selector->took_ns[1]);
    const bool was_second = selector->is_second;

    selector->is_second = second_ns <= first_ns + first_ns / 10;
    selector->pause = next_pause(selector->pause, selector->is_second != was_second);
    selector->turn = 0;
}

void twl_path_selector_next(struct path_selector *selector, uint64_t took_ns)
{
    if (is_trial(selector)) {
        const uint32_t trial = selector->turn - selector->pause;
        const bool is_second = twl_path_selector_is_second(selector);
        selector->took_ns[is_second][trial / 2] = took_ns;
    }

    selector->turn++;
    if (selector->turn >= selector->pause + 2 * TRIALS)
        choose(selector);
}
