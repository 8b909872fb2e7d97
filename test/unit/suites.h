/* SPDX-License-Identifier: Apache-2.0 */
/* One suite per module, each in test_<name>.c; main.c runs those its table names. */
#ifndef TEST_UNIT_SUITES_H
#define TEST_UNIT_SUITES_H

#include <check.h>

Suite *base_suite(void);
Suite *format_suite(void);
Suite *golden_suite(void);
Suite *io_suite(void);
Suite *scan_suite(void);
Suite *recover_suite(void);
Suite *commit_suite(void);
Suite *log_suite(void);
Suite *reader_suite(void);
Suite *verify_suite(void);

#endif
