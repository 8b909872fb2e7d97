/* SPDX-License-Identifier: Apache-2.0 */
/* A file that a sink cannot go on with, and lines that come through a pipe: the file is put aside. */
#ifndef TOOLS_ASIDE_H
#define TOOLS_ASIDE_H

#include <stdbool.h>

/* Can a new file help, if opening this one has failed so? It must be a regular file, and no link. */
bool aside_helps(const char *path, int error);
/* Renames it to PATH.unknown.N, says so, and why; -errno if it cannot be renamed. */
int put_aside(const char *path, int error);

#endif
