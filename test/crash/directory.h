/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TWL_CRASH_DIRECTORY_H
#define TWL_CRASH_DIRECTORY_H

/* With the files in it. There may be none. */
void remove_directory(const char *path);

#endif
