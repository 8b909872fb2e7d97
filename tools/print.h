/* SPDX-License-Identifier: Apache-2.0 */
/* How 'twinlog cat' prints a record. */
#ifndef TOOLS_PRINT_H
#define TOOLS_PRINT_H

#include "common.h"

typedef void (*print_record)(const struct twinlog_record *record);

/* For OPTION_NUL, OPTION_FRAMED, OPTION_JSON or OPTION_EXPORT; 0 = a line for each record, `with_time` in front. On a
 * terminal control characters of lines are made visible, so that no record can act upon it. */
print_record printer_of(int option, bool with_time);

/* What stands before the first record of an export and behind the last one: it shows that nothing is missing. */
#define EXPORT_BEGIN "twinlog export 1\n"
#define EXPORT_END "end\n"

#endif
