/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of the operations of io.h, by any implementation. */
#include "io/io.h"

#include "base/sync.h"

#define LOCK_RETRY_MS 2u

int twl_lock_patiently(struct io_file *file, enum io_lock which, bool is_exclusive, unsigned wait_ms)
{
    int rc = io_lock(file, which, is_exclusive);
    unsigned waited_ms = 0;

    while (rc == -EAGAIN && waited_ms < wait_ms) {
        file->io->ops->sleep_ms(file->io, LOCK_RETRY_MS);
        waited_ms += LOCK_RETRY_MS;
        rc = io_lock(file, which, is_exclusive);
    }
    return rc == -EAGAIN ? -EBUSY : rc;
}

static int open_and_lock(struct io *io, const char *name, unsigned flags, enum io_lock which,
                         unsigned wait_ms, struct io_file **ret_file, uint32_t *ret_links)
{
    struct io_file *file;
    int rc;

    *ret_links = 0;
    if (flags & IO_CREATE)
        rc = io_open_or_create(io, name, flags & ~(unsigned)IO_CREATE, &file);
    else
        rc = io_open(io, name, flags, &file);
    if (rc < 0)
        return rc;

    rc = twl_lock_patiently(file, which, true, wait_ms);
    const int asked = io_links(file, name, ret_links);
    if (rc == 0)
        rc = asked;
    if (rc < 0) {
        io_close(file);
        return rc;
    }

    *ret_file = file;
    return 0;
}

int twl_open_locked(struct io *io, const char *name, unsigned flags, enum io_lock which, unsigned wait_ms,
                    struct io_file **ret_file, uint32_t *ret_links)
{
    for (;;) {
        struct io_file *file;

        const int rc = open_and_lock(io, name, flags, which, wait_ms, &file, ret_links);
        if (rc < 0)
            return rc;
        if (*ret_links > 0) {
            *ret_file = file;
            return 0;
        }

        io_close(file);
    }
}

void twl_nap(struct io *io, unsigned yields, unsigned *turns)
{
    if (*turns >= yields) {
        io->ops->sleep_ms(io, 1);
        return;
    }
    (*turns)++;
    twl_yield();
}

int twl_successor_make(struct io *io, const char *name, struct io_file *predecessor,
                       struct io_file **ret_file)
{
    const unsigned mode = predecessor ? 0600u : 0666u; /* until it has inherited its own */
    struct io_file *file;

    int error = io->ops->unlink(io, name); /* what a failed attempt has left */
    if (error < 0 && error != -ENOENT)
        return error;

    error = io_open(io, name, IO_CREATE | mode * IO_MODE, &file);
    if (error < 0)
        return error;

    if (predecessor)
        error = io->ops->inherit(file, predecessor, true);
    if (error < 0) {
        io_close(file);
        io->ops->unlink(io, name);
        return error;
    }
    *ret_file = file;
    return 0;
}
