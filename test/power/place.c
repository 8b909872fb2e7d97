/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of powercut/ in the programs of this folder: what it cannot do ends them as those of test/crash end. */
#define _GNU_SOURCE
#include "../../powercut/machine.h"
#include "../crash/kill.h"
#include "format/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(DISK_GROUP_MAGIC == GROUP_MAGIC && DISK_FOOTER_MAGIC == FOOTER_MAGIC,
               "the disk tears what belongs to a log");

_Noreturn void machine_failed(const char *what)
{
    if (errno)
        give_up(what);
    violation("%s failed", what);
}

_Noreturn void machine_missing(const char *what)
{
    printf("SKIP %s: %s\n", place.program, what);
    fflush(stdout);
    remove_place();
    _Exit(77);
}
