/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the suites named on the command line, or all of them. Ends with 0 when every test passed, and with 1 also for a
 * name that is not in the list: a test that did not run must not look like one that passed.
 */
#include "suites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_CASES 16
#define SECONDS 600 /* as in ctest; the machine may be busy */

#define TABLE_ENTRY(name) #name,
static const char *const names[] = { FOR_EACH_SUITE(TABLE_ENTRY) };
#define SUITES (sizeof(names) / sizeof(names[0]))

/* All cases and tests, which the linker puts one behind the other in no order. */
extern const struct unit_entry *__start_unit_entries[], *__stop_unit_entries[];

bool takes_turns(void)
{
    return getenv("TWINLOG_TURN") != NULL;
}

unsigned turn_of(unsigned parts)
{
    const char *turn = getenv("TWINLOG_TURN");

    return turn ? (unsigned)(strtoul(turn, NULL, 10) % parts) : 0;
}

static int compare(const void *a, const void *b)
{
    const struct unit_entry *one = *(const struct unit_entry *const *)a,
                            *other = *(const struct unit_entry *const *)b;
    int order = strcmp(one->file, other->file);

    return order ? order : one->line - other->line;
}

static bool is_of(const struct unit_entry *entry, const char *suite)
{
    const char *name = strrchr(entry->file, '/');
    size_t length = strlen(suite);

    name = name ? name + 1 : entry->file;
    return strncmp(name, "test_", 5) == 0 && strncmp(name + 5, suite, length) == 0 &&
           strcmp(name + 5 + length, ".c") == 0;
}

/* The test of one row of a table. */
struct row_test {
    struct row_test *next;
    TTest test;
    char name[];
};
static struct row_test *row_tests; /* check knows them by their addresses, until this process ends */

/* One test for each row, called "test: name of the row". */
static void add_rows(TCase *tests, const struct unit_entry *entry)
{
    for (int i = entry->first; i < entry->end; i++) {
        const char *const *row = (const void *)((const char *)entry->rows + (size_t)i * entry->row_bytes);
        const size_t name_bytes = strlen(entry->test.name) + strlen(": ") + strlen(*row) + 1;
        struct row_test *added = malloc(sizeof(*added) + name_bytes);

        if (!added)
            abort();
        snprintf(added->name, name_bytes, "%s: %s", entry->test.name, *row);
        added->test = entry->test;
        added->test.name = added->name;
        added->next = row_tests;
        row_tests = added;
        tcase_add_loop_test(tests, &added->test, i, i + 1);
    }
}

/* Returns how many tests that suite has. */
static int add_tests(Suite *suite, const char *name)
{
    struct {
        const char *name;
        TCase *tests;
    } cases[MOST_CASES] = { { NULL, NULL } };
    TCase *now = NULL;
    int added = 0;

    for (const struct unit_entry **at = __start_unit_entries; at < __stop_unit_entries; at++) {
        const struct unit_entry *entry = *at;
        unsigned i = 0;
        if (!is_of(entry, name))
            continue;
        if (!entry->case_name) {
            if (entry->rows)
                add_rows(now, entry);
            else
                tcase_add_loop_test(now, &entry->test, entry->first, entry->end);
            added++;
            continue;
        }
        while (cases[i].name && strcmp(cases[i].name, entry->case_name) != 0)
            i++;
        if (!cases[i].name) {
            cases[i].name = entry->case_name;
            cases[i].tests = tcase_create(entry->case_name);
            tcase_add_checked_fixture(cases[i].tests, entry->set_up, entry->tear_down);
            tcase_set_timeout(cases[i].tests, SECONDS);
            suite_add_tcase(suite, cases[i].tests);
        }
        now = cases[i].tests;
    }
    return added;
}

static int add_suite(SRunner *runner, const char *name)
{
    int added = 0;

    for (size_t i = 0; i < SUITES; i++)
        if (!name || strcmp(name, names[i]) == 0) {
            Suite *suite = suite_create(names[i]);
            added += add_tests(suite, names[i]);
            srunner_add_suite(runner, suite);
        }
    if (added == 0)
        fprintf(stderr, "unit: no suite is called %s\n", name);
    return added;
}

int main(int argc, char **argv)
{
    SRunner *runner = srunner_create(NULL);
    int failed = 0;

    qsort(__start_unit_entries, (size_t)(__stop_unit_entries - __start_unit_entries), sizeof(void *),
          compare);
    if (argc < 2)
        add_suite(runner, NULL);
    for (int i = 1; i < argc; i++)
        if (add_suite(runner, argv[i]) == 0)
            failed = 1;
    if (!failed) {
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner) > 0;
    }
    srunner_free(runner);
    return failed;
}
