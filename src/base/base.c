/* SPDX-License-Identifier: Apache-2.0 */
/* Reports a broken invariant and ends the process. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void twl_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "twinlog: broken invariant, please report: %s (%s:%d)\n", condition, file, line);
    abort();
}
