/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a process write a log, and which one? Also of a log that is damaged: twinlog_inspect() then tells of the damage
 * only, and not to stop that process matters most.
 */
#ifndef TOOLS_WRITER_H
#define TOOLS_WRITER_H

#include <twinlog_admin.h>

/* Fills in has_writer, writer_pid and poison. 0, or an error: it cannot be told. */
int look_for_writer(const char *dir, struct twinlog_inspection *ret_inspection);

#endif
