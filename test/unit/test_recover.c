/* SPDX-License-Identifier: Apache-2.0 */
/* The decision table is complete and says what docs/recovery.md says. */
#include "suites.h"

#include "segment/recover.h"

START_TEST(every_combination_of_facts_has_exactly_one_decision)
{
    for (unsigned facts = 0; facts < 1u << RECOVER_FACTS; facts++) {
        unsigned matches = 0;
        for (size_t i = 0; i < twl_recover_rows; i++)
            matches += (facts & twl_recover_table[i].care) == twl_recover_table[i].value;
        ck_assert_msg(matches == 1, "facts %#x match %u rows", facts, matches);
        ck_assert_ptr_nonnull(twl_recover_decide(facts));
    }
}
END_TEST

START_TEST(every_row_can_match)
{
    for (size_t i = 0; i < twl_recover_rows; i++) {
        ck_assert_uint_eq(twl_recover_table[i].value & ~twl_recover_table[i].care, 0);
        ck_assert_ptr_eq(twl_recover_decide(twl_recover_table[i].value), &twl_recover_table[i]);
    }
}
END_TEST

START_TEST(what_a_later_group_proves_durable_is_never_cut)
{
    for (unsigned facts = 0; facts < 1u << RECOVER_FACTS; facts++) {
        enum recover_decision decision = twl_recover_decide(facts)->decision;
        if (facts & FACT_LATER_DURABLE)
            ck_assert_int_eq(decision, DECIDE_DAMAGE);
        if (decision == DECIDE_CUT || decision == DECIDE_CLEAN_END || decision == DECIDE_CLEAN_CLOSE)
            ck_assert(!(facts & FACT_LATER_DURABLE));
    }
}
END_TEST

START_TEST(a_clean_end_has_nothing_behind_it)
{
    for (unsigned facts = 0; facts < 1u << RECOVER_FACTS; facts++) {
        enum recover_decision decision = twl_recover_decide(facts)->decision;
        bool is_clean = decision == DECIDE_CLEAN_END || decision == DECIDE_CLEAN_CLOSE;
        if (is_clean) {
            ck_assert((facts & FACT_ZERO) && (facts & FACT_NEWEST) && !(facts & FACT_LATER_GROUP));
            ck_assert((decision == DECIDE_CLEAN_CLOSE) == ((facts & FACT_CLOSED) != 0));
        }
        if (decision == DECIDE_NEXT_SEGMENT)
            ck_assert((facts & FACT_JOINS) && !(facts & FACT_NEWEST));
    }
}
END_TEST

static struct group_header group(uint64_t first_lsn, uint64_t durable_lsn)
{
    return (struct group_header){ .first_lsn = first_lsn, .durable_lsn = durable_lsn };
}

START_TEST(a_mark_proves_what_it_names_and_what_was_before_it)
{
    struct position stop = { .next_lsn = 10 };
    struct group_header names_it = group(15, 10), names_later = group(15, 12), too_early = group(15, 9);
    ck_assert(twl_group_proves(&names_it, stop));
    ck_assert(twl_group_proves(&names_later, stop));
    ck_assert_msg(!twl_group_proves(&too_early, stop), "both may have been in flight together");
    struct group_header nothing_in_flight = group(10, 9);
    ck_assert_msg(twl_group_proves(&nothing_in_flight, stop), "a mark without records is missing");
}
END_TEST

Suite *recover_suite(void)
{
    Suite *suite = suite_create("recover");
    TCase *table = tcase_create("table");
    tcase_add_test(table, every_combination_of_facts_has_exactly_one_decision);
    tcase_add_test(table, every_row_can_match);
    tcase_add_test(table, what_a_later_group_proves_durable_is_never_cut);
    tcase_add_test(table, a_clean_end_has_nothing_behind_it);
    tcase_add_test(table, a_mark_proves_what_it_names_and_what_was_before_it);
    suite_add_tcase(suite, table);
    return suite;
}
