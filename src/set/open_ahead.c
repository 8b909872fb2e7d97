/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See open_ahead.h. The kernel reads a header that is not in its cache while the files in front of it are looked at.
 * What counts is read when the file is asked for, so it is no older than if the file had been opened then. Where the
 * process may open no more files, none is opened early.
 */
#include "set/open_ahead.h"

#include <errno.h>

int twl_open_ahead(struct open_ahead *ahead, const struct segment_entry *entries, size_t count, size_t index,
                   struct io_file **ret_file)
{
    const size_t most = ahead->flags & IO_FROM_CACHE ? min_u64(count, index + MOST_OPEN) : index + 1;
    for (; ahead->end < most; ahead->end++) {
        const bool is_early = ahead->end > index;
        struct io_file *file = NULL;
        int rc = io_open(ahead->io, entries[ahead->end].name,
                         ahead->flags | (is_early ? (unsigned)IO_BEGIN_READ : 0), &file);
        if (is_early && (rc == -EMFILE || rc == -ENFILE))
            break;
        ahead->opened[ahead->end % MOST_OPEN].file = rc < 0 ? NULL : file;
        ahead->opened[ahead->end % MOST_OPEN].error = rc;
    }
    *ret_file = ahead->opened[index % MOST_OPEN].file;
    ahead->opened[index % MOST_OPEN].file = NULL;
    return ahead->opened[index % MOST_OPEN].error;
}

void twl_open_ahead_end(struct open_ahead *ahead)
{
    for (unsigned i = 0; i < MOST_OPEN; i++)
        io_close(ahead->opened[i].file);
}
