/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of two ways to do the same is quicker now: a trial of both, then one way for some turns, then a trial again,
 * because the load changes. A trial that changes the way is followed by the next one soon, any other by a pause that is
 * twice as long as the one before. All zero is the beginning: of the first trial.
 *
 * The second way is taken unless the first is quicker by more than a tenth. A trial takes the ways in this order, four
 * times: first, second, second, first. So each way has as many even turns as odd ones. There are two buffers, and large
 * groups may take turns with small ones.
 */
#ifndef TWL_PATH_SELECTOR_H
#define TWL_PATH_SELECTOR_H

#include <stdbool.h>
#include <stdint.h>

#define TRIALS 8u /* of each way; even, so that each has as many even turns as odd ones */
#define LEAST_PAUSE 128u
#define MOST_PAUSE 1024u

struct path_selector {
    bool is_second; /* the way in the pauses */
    uint32_t turn;  /* since the last trial */
    uint32_t pause; /* turns between the last trial and the next one */
    uint64_t took_ns[2][TRIALS];
};

/* True if the next turn belongs to a trial: the time it takes counts. */
static inline bool is_trial(const struct path_selector *selector)
{
    return selector->turn >= selector->pause;
}
/* True if the next turn takes the second way. */
bool twl_path_selector_is_second(const struct path_selector *selector);
/* After each turn. */
void twl_path_selector_next(struct path_selector *selector, uint64_t took_ns);

#endif
