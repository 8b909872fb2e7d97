/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the files of a set before they are asked for, so that the kernel reads many headers at a time. */
#ifndef TWL_OPEN_AHEAD_H
#define TWL_OPEN_AHEAD_H

#include "set/segment_set.h"

#define MOST_OPEN 32u

struct open_ahead {
    struct io *io;
    unsigned flags; /* for io_open(); without IO_FROM_CACHE none is opened early */
    size_t end;     /* entries in front of it were opened */
    struct {
        struct io_file *file;
        int error;
    } opened[MOST_OPEN];
};

/* The file of entries[index], one after the other, or the error of its opening. */
int twl_open_ahead(struct open_ahead *ahead, const struct segment_entry *entries, size_t count, size_t index,
                   struct io_file **ret_file);
/* Closes those that were not asked for. */
void twl_open_ahead_end(struct open_ahead *ahead);

#endif
