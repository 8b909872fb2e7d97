/* SPDX-License-Identifier: Apache-2.0 */
/* Contenders as the user names them: "bdb", "twinlog", "twinlog:io=dsync:pad". */
#ifndef CONTENDER_H
#define CONTENDER_H

#include <stdbool.h>
#include <stddef.h>

#include "series.h"

const char *twinlog_io_name(uint32_t io);

/* A comma-separated list, into the plan. Variants of twinlog start from `defaults`. Peers whose library was not there
 * at build time are passed over with a note on stderr if `is_lenient`; anything else unknown is an
 * error, said on stderr. */
bool contenders_parse(const char *text, const struct twinlog_setup *defaults, bool is_lenient,
                      struct plan *plan);

#endif
