/* SPDX-License-Identifier: Apache-2.0 */
/* The package can be compiled and linked with, and runs. */
#include <stdio.h>
#include <string.h>
#include <twinlog.h>

int main(void)
{
    printf("twinlog %s\n", twinlog_version());
    return strcmp(twinlog_version(), TWINLOG_VERSION) != 0;
}
