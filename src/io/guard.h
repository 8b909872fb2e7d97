/* SPDX-License-Identifier: Apache-2.0 */
/* Mapped views of files whose access never ends the process by SIGBUS. See guard.c. */
#ifndef TWL_GUARD_H
#define TWL_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* Installs the handler, once; the first view does so as well. Call this before starting a thread that adds views, so
 * that no child is forked during the installation. */
void twl_guard_install(void);

enum guard_flags {
    GUARD_WRITABLE = 1u << 0,
    GUARD_NOT_IN_CHILDREN = 1u << 1 /* MADV_DONTFORK: fork() removes it from the child's table */
};

/* From now on a page of this mapping that is not available reads as zeros; in a writable mapping, stores to it stay
 * in this process. -ENOTSUP: the table is full, or the handler could not be installed. */
int twl_guard_add(const unsigned char *bytes, size_t size, unsigned flags);
/* Call this before the view is unmapped. */
void twl_guard_remove(const unsigned char *bytes);

/* True if a page of the view that begins here was replaced by zeros. One load as long as that happened to no view. */
bool twl_guard_is_hit(const unsigned char *bytes);

#endif
