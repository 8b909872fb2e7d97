/* SPDX-License-Identifier: Apache-2.0 */
/* The other tests of the mapped mode, in the shared mode by one process with no other beside it. */
#define ALONE 1
#include "test_mapped_faults.c"
