/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of files as memory, which processes share. Their access never ends the process by SIGBUS. See mapping.c. */
#ifndef TWL_MAPPING_H
#define TWL_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Installs the handler of SIGBUS, once; the first mapping does so as well. Call this before starting a thread that maps
 * files, so that no child is forked during the installation. */
void twl_mapping_install(void);

/* Maps that part of an open file. From then on a page that is not available reads as zeros; in a writable mapping,
 * stores to it stay in this process. Forked children do not have the mapping, which would keep the file open, and its
 * locks (base/fork.h). -ENOTSUP: this file cannot be shared, or the handler could not be installed;
 * -ENOMEM: too many mappings, too. */
int twl_mapping_open(int fd, uint64_t offset, size_t size, bool is_writable, void **ret_bytes);
/* `bytes` and `size` as opened. */
void twl_mapping_close(const void *bytes, size_t size);

/* msync() of whole pages. It fails as io_sync_data() does: what this process may not do is told apart. */
int twl_mapping_sync(void *bytes, size_t size);

/* True if a page of the mapping that begins here was replaced by zeros: what is in it counts for nothing, -EIO. One
 * load as long as that happened to no mapping. */
bool twl_mapping_is_lost(const void *bytes);

#endif
