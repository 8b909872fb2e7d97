/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files by libaio: up to 16 writes on their way, each at a place from a counter that all processes share,
 * from a buffer of its own. Through the page cache, as everybody else but the direct one. One thread for each
 * opening.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plain.h"

#define IN_FLIGHT 16

struct aio {
    int fd;
    _Atomic(uint64_t) *end;
    io_context_t context;
    struct iocb requests[IN_FLIGHT];
    struct iocb *idle[IN_FLIGHT];
    int idle_count;
    size_t stride; /* of the buffers, one for each request */
    unsigned char *buffers;
};

/* Waits for one at least, and takes what else is done. */
static int collect(struct aio *aio)
{
    struct io_event events[IN_FLIGHT];
    int count = io_getevents(aio->context, 1, IN_FLIGHT, events, NULL);
    if (count < 0)
        return count == -EINTR ? 0 : count;
    int error = 0;
    for (int i = 0; i < count; i++) {
        if (events[i].res != events[i].obj->u.c.nbytes) /* as unsigned long, an error is neither */
            error = -EIO;
        aio->idle[aio->idle_count++] = events[i].obj;
    }
    return error;
}

static int put(void *state, const void *data, size_t size)
{
    struct aio *aio = state;
    int error = 0;
    while (aio->idle_count == 0 && error == 0)
        error = collect(aio);
    if (error)
        return error;
    struct iocb *request = aio->idle[--aio->idle_count];
    unsigned char *buffer = aio->buffers + (size_t)(request - aio->requests) * aio->stride;
    memcpy(buffer, data, size);
    io_prep_pwrite(request, aio->fd, buffer, size, (long long)atomic_fetch_add(aio->end, size));
    int submitted = io_submit(aio->context, 1, &request);
    if (submitted != 1)
        aio->idle[aio->idle_count++] = request;
    return submitted == 1 ? 0 : submitted < 0 ? submitted : -EAGAIN;
}

static int free_aio(struct aio *aio, int error)
{
    if (aio->context)
        io_destroy(aio->context);
    if (aio->fd >= 0 && close(aio->fd) < 0 && error == 0)
        error = -errno;
    free(aio->buffers);
    free(aio);
    return error;
}

static int open_aio(const struct plain_setup *setup, void **ret_state)
{
    struct aio *aio = calloc(1, sizeof(*aio));
    if (!aio)
        return -ENOMEM;
    aio->end = setup->end;
    aio->stride = setup->largest;
    aio->buffers = malloc(IN_FLIGHT * setup->largest);
    aio->fd = open(setup->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (!aio->buffers || aio->fd < 0)
        return free_aio(aio, aio->buffers ? -errno : -ENOMEM);
    int error = io_setup(IN_FLIGHT, &aio->context);
    if (error < 0)
        return free_aio(aio, error);
    while (aio->idle_count < IN_FLIGHT) {
        aio->idle[aio->idle_count] = &aio->requests[aio->idle_count];
        aio->idle_count++;
    }
    *ret_state = aio;
    return 0;
}

static int close_aio(void *state)
{
    struct aio *aio = state;
    int error = 0;
    while (aio->idle_count < IN_FLIGHT && error == 0)
        error = collect(aio);
    return free_aio(aio, error);
}

const struct plain plain_libaio = { .open = open_aio, .put = put, .close = close_aio };
