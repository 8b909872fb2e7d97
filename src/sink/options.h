/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller asks for, made complete. */
#ifndef TWL_SINK_OPTIONS_H
#define TWL_SINK_OPTIONS_H

#include "sink/sink.h"

int twl_sink_options_normalise(const struct twinlog_sink_options *options,
                               struct twinlog_sink_options *ret_options);
/* Opens the directory. */
int twl_sink_find_place(const char *path, int *ret_dir, char ret_name[NAME_MAX + 1]);

#endif
