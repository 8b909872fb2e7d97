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

enum mapping_flags {
    MAPPING_WRITABLE = 1u << 0,
    MAPPING_NOT_IN_CHILDREN =
        1u << 1 /* a mapping in a child would keep the file open, and its locks: base/fork.h */
};

/* Maps that part of an open file. From then on a page that is not available reads as zeros; in a writable mapping,
 * stores to it stay in this process. -ENOTSUP: this file cannot be shared, or the handler could not be installed;
 * -ENOMEM: too many mappings, too. */
int twl_mapping_open(int fd, uint64_t offset, size_t size, unsigned flags, void **ret_bytes);
/* `bytes` and `size` as opened. Not in a child, if it does not have the mapping. */
void twl_mapping_close(const void *bytes, size_t size);

/* Pages that are written from end to end cost the kernel half as much in large ones of 2 MiB. But a sync writes a page
 * that has changed as a whole. So a file that is synced after every few records wants small ones. All three are only
 * offers to the kernel. */
#define LARGE_PAGE_BYTES (UINT64_C(2) << 20)
#define BULK_BYTES (UINT64_C(16) << 20) /* syncs that have so much to write have no use for small pages */
#define MOST_SPLITS 8u /* syncs after which it is tried: a page that is written meanwhile is not split */
/* Tries to split while the file ended in one large page. In the next one they begin again: no sync may have written that
 * one before, or the kernel made it since, because it reads ahead in pages as large as those before. */
struct splits {
    uint64_t page;
    unsigned tries;
};
void twl_mapping_take_large(void *bytes, size_t size);
void twl_mapping_take_small(void *bytes, size_t size);
/* Makes large pages small, which a sync has just made clean: others stay. `bytes` maps the file from the beginning of a
 * large page on. */
void twl_mapping_split(unsigned char *bytes, uint64_t from, uint64_t to);
/* Counts a try after a sync up to `end`. False: there were enough of them. */
bool twl_mapping_may_split(struct splits *splits, uint64_t end);

/* True if a page of the mapping that begins here was replaced by zeros: what is in it counts for nothing, -EIO. One load
 * as long as that happened to no mapping. */
bool twl_mapping_is_lost(const void *bytes);

#endif
