/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the suites named on the command line, or all of them. Ends with 0 when every test passed, and
 * with 1 also for a name that is not in the list: a test that did not run must not look like one that
 * passed.
 */
#include "suites.h"

#include <stdio.h>
#include <string.h>

#define TABLE_ENTRY(name) { #name, name##_suite },

static const struct {
    const char *name;
    Suite *(*create)(void);
} suites[] = { FOR_EACH_SUITE(TABLE_ENTRY) };

#define SUITES (sizeof(suites) / sizeof(suites[0]))

static int add_suite(SRunner *runner, const char *name)
{
    int added = 0;

    for (size_t i = 0; i < SUITES; i++)
        if (!name || strcmp(name, suites[i].name) == 0) {
            srunner_add_suite(runner, suites[i].create());
            added++;
        }
    if (added == 0)
        fprintf(stderr, "unit: no suite is called %s\n", name);
    return added;
}

int main(int argc, char **argv)
{
    SRunner *runner = srunner_create(NULL);
    int failed = 0;

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
