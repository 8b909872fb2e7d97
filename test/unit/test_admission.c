/* SPDX-License-Identifier: Apache-2.0 */
/* The decision about a writer that wants a place: each combination of facts, against a table of its own. */
#include "suites.h"

#include "commit/inside.h"

#define FACTS 8

/* One character for each fact, in the order of the struct; '-' is any value. No two rows match the same facts. */
struct row {
    const char *facts;
    enum admission decision;
};
/* clang-format off */
static const struct row table[] = {
    /* placed, poisoned; queued; empty, fits; failed, over; try */
    { "1-" "-" "--" "--" "-", ADMISSION_PLACED },
    { "01" "-" "--" "--" "-", ADMISSION_POISONED },
    /* its turn, and room */
    { "00" "0" "-1" "--" "-", ADMISSION_TAKE },
    { "00" "1" "11" "--" "-", ADMISSION_TAKE },
    /* too large for the empty buffer, so only the next segment helps */
    { "00" "-" "10" "1-" "-", ADMISSION_REFUSED },
    { "00" "-" "10" "01" "-", ADMISSION_OVER },
    { "00" "-" "10" "00" "1", ADMISSION_AGAIN },
    { "00" "-" "10" "00" "0", ADMISSION_AWAIT_SEGMENT },
    /* a new writer, and the buffer is too full */
    { "00" "0" "00" "1-" "-", ADMISSION_REFUSED },
    { "00" "0" "00" "01" "-", ADMISSION_OVER },
    { "00" "0" "00" "00" "1", ADMISSION_AGAIN },
    { "00" "0" "00" "00" "0", ADMISSION_AWAIT_COMMIT },
    /* in the queue, and not its turn, whether it fits or not */
    { "00" "1" "0-" "1-" "-", ADMISSION_REFUSED },
    { "00" "1" "0-" "01" "-", ADMISSION_OVER },
    { "00" "1" "0-" "00" "1", ADMISSION_AGAIN },
    { "00" "1" "0-" "00" "0", ADMISSION_AWAIT_COMMIT },
};
/* clang-format on */

static struct admission_facts facts_of(unsigned bits)
{
    return (struct admission_facts){
        .is_placed = bits & 1u << 0,
        .is_poisoned = bits & 1u << 1,
        .is_queued = bits & 1u << 2,
        .is_empty = bits & 1u << 3,
        .fits = bits & 1u << 4,
        .has_failed = bits & 1u << 5,
        .is_over = bits & 1u << 6,
        .is_try = bits & 1u << 7,
    };
}

static bool matches(const struct row *row, unsigned bits)
{
    for (unsigned i = 0; i < FACTS; i++)
        if (row->facts[i] != '-' && (row->facts[i] == '1') != (bits >> i & 1u))
            return false;
    return true;
}

CASE("decision", NULL, NULL);

TEST(every_combination_of_facts_is_decided_as_the_table_says)
{
    for (unsigned bits = 0; bits < 1u << FACTS; bits++) {
        const struct admission_facts facts = facts_of(bits);
        const struct row *found = NULL;
        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
            if (!matches(&table[i], bits))
                continue;
            ck_assert_msg(!found, "facts %#x match \"%s\" and \"%s\"", bits, found ? found->facts : "",
                          table[i].facts);
            found = &table[i];
        }
        ck_assert_msg(found != NULL, "facts %#x match no row", bits);
        ck_assert_msg(twl_admission_decide(&facts) == found->decision,
                      "facts %#x: decision %d, not %d (\"%s\")", bits, (int)twl_admission_decide(&facts),
                      (int)found->decision, found->facts);
    }
}

TEST(a_try_never_waits_and_hears_of_a_failure_before_it_is_told_to_come_again)
{
    for (unsigned bits = 0; bits < 1u << FACTS; bits++) {
        const struct admission_facts facts = facts_of(bits);
        const enum admission decision = twl_admission_decide(&facts);
        if (facts.is_try)
            ck_assert(decision <= ADMISSION_AGAIN);
        if (decision == ADMISSION_AGAIN)
            ck_assert(facts.is_try && !facts.has_failed && !facts.is_over);
    }
}

TEST(no_writer_takes_a_place_twice_or_in_a_log_that_has_failed)
{
    for (unsigned bits = 0; bits < 1u << FACTS; bits++) {
        const struct admission_facts facts = facts_of(bits);
        if (twl_admission_decide(&facts) == ADMISSION_TAKE)
            ck_assert(facts.fits && !facts.is_placed && !facts.is_poisoned);
    }
}
