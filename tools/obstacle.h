/* SPDX-License-Identifier: Apache-2.0 */
/* Why a sink could not rename its file: the library has an error, and this finds the name that is in the way. */
#ifndef TOOLS_OBSTACLE_H
#define TOOLS_OBSTACLE_H

#include <limits.h>
#include <stdint.h>

#define OBSTACLE_BYTES (PATH_MAX + 200)

/* What keeps PATH from becoming PATH.1, where `keep_files` are kept (0: as the library does). Empty: nothing that can
 * be seen. */
void describe_obstacle(const char *path, uint32_t keep_files, char ret_text[OBSTACLE_BYTES]);

#endif
