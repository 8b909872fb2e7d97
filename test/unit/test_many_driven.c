/* SPDX-License-Identifier: Apache-2.0 */
/* The tests of many logs and one committer, with a committer without a thread. */
#define DRIVEN 1
#include "test_many.c"
