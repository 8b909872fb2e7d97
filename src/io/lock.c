/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for the lock of a writer that died; its last write may still be in flight. */
#include "io/io.h"

#include <errno.h>

#define LOCK_RETRY_MS 2u

int twl_lock_patiently(struct io_file *file, unsigned wait_ms)
{
    int rc = io_lock(file, IO_LOCK_WRITER, true);
    for (unsigned waited = 0; rc == -EAGAIN && waited < wait_ms; waited += LOCK_RETRY_MS) {
        file->io->ops->sleep_ms(file->io, LOCK_RETRY_MS);
        rc = io_lock(file, IO_LOCK_WRITER, true);
    }
    return rc == -EAGAIN ? -EBUSY : rc;
}
