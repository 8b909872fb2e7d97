/* SPDX-License-Identifier: Apache-2.0 */
/* Views of files that may be looked at without fear of SIGBUS. See guard.c. */
#ifndef TWL_GUARD_H
#define TWL_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* Installs the handler, unless it is there; so does the first view. Who starts a thread that has views calls this
 * before, so that no child is forked in the midst of it. */
void twl_guard_install(void);

enum guard_flags {
    GUARD_WRITABLE = 1u << 0,
    GUARD_NOT_IN_CHILDREN = 1u << 1 /* MADV_DONTFORK: fork() takes it off the table of the child */
};

/* From now on a page of this mapping that can't be had looks like zeros; if it is writable, what is stored there
 * stays in this process. -ENOTSUP: the table is full, or there is no handler to be had. */
int twl_guard_add(const unsigned char *bytes, size_t size, unsigned flags);
/* Before it is unmapped. */
void twl_guard_remove(const unsigned char *bytes);

/* Has that happened to the view that begins here? One load as long as it never happened to any. */
bool twl_guard_is_hit(const unsigned char *bytes);

#endif
