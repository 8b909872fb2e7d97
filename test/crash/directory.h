/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TWL_CRASH_DIRECTORY_H
#define TWL_CRASH_DIRECTORY_H

/* With the files in it. There may be none. */
void remove_directory(const char *path);

/* Of files; what was in `to` is gone. Ends the program if it cannot. */
void copy_directory(const char *from, const char *to);

#endif
