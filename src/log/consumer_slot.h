/* SPDX-License-Identifier: Apache-2.0 */
/* At most one consumer of a name: the file "consumers" says which process has which name. */
#ifndef TWL_CONSUMER_SLOT_H
#define TWL_CONSUMER_SLOT_H

#include "io/io.h"

#include <sys/types.h>

#define CONSUMERS_NAME "consumers"

/* Takes a slot for the name. *ret_file holds it until it is closed, or the process ends. -EBUSY: *ret_holder is the
 * process that has the name, or 0 if it is not known. -EUSERS: all slots are taken. */
int twl_consumer_slot_take(struct io *io, const char *name, struct io_file **ret_file, pid_t *ret_holder);

#endif
