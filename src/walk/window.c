/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a file that an iterator has in memory. They are read ahead, more each time while reading goes on at the
 * same place; or the whole file is mapped.
 */
#include "walk/segment_iter_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (1u << 20) /* the kernel reads ahead as much as was requested, or more */

void twl_iter_take_view(struct segment_iter *iter)
{
    struct io_file *file = iter->segment->file;
    const size_t size = (size_t)iter->segment->header.bytes;
    struct window *window = &iter->window;
    uint64_t file_bytes = size;
    void *view;

    /* asked again: it may have been cut before this process locked it, and what is mapped is not cut */
    if (segment_is_mapped(&iter->segment->header) && io_size(file, &file_bytes) < 0)
        return;
    if (file_bytes < size || file->io->ops->map(file, size, &view) < 0)
        return;
    window->bytes = window->view = view;
    window->start = 0;
    window->size = size;
}

void twl_iter_let_go(struct segment_iter *iter)
{
    struct window *window = &iter->window;
    const struct segment *segment = iter->segment;

    if (window->view)
        segment->file->io->ops->unmap(segment->file->io, window->view, (size_t)segment->header.bytes);
    window->view = NULL;
    window->size = 0;
}

void twl_iter_take_buffer(struct segment_iter *iter, struct segment_iter *from)
{
    struct window *window = &iter->window;

    twl_iter_refresh(from);
    free(window->buffer);
    window->buffer = from->window.buffer;
    window->capacity = from->window.capacity;
    from->window.buffer = NULL;
    from->window.capacity = 0;
}

void twl_iter_refresh(struct segment_iter *iter)
{
    if (!iter->window.view)
        iter->window.size = 0;
}

int twl_iter_check(const struct segment_iter *iter)
{
    const unsigned char *view = iter->window.view;

    if (!view)
        return 0;
    struct io *io = iter->segment->file->io;
    return io->ops->check_map(io, view);
}

/* Does reading continue near the current window, in either direction? */
static bool is_near(const struct window *window, uint64_t offset, uint64_t end)
{
    if (window->size == 0)
        return false;
    const bool begins_near = offset <= window->start + window->size + window->step;
    const bool ends_near = end + window->step >= window->start;
    return begins_near && ends_near;
}

static int make_room(struct segment_iter *iter, size_t need)
{
    struct window *window = &iter->window;
    uint64_t usual = iter->window_bytes;

    if (usual == 0)
        usual = min_u64(WINDOW_BYTES, iter->segment->header.bytes);
    const size_t capacity = (size_t)align_up(max_u64(need, usual), BLOCK_BYTES);
    if (capacity <= window->capacity)
        return 0;

    unsigned char *buffer = aligned_alloc(BLOCK_BYTES, capacity);
    if (!buffer)
        return -ENOMEM;
    free(window->buffer);
    window->buffer = buffer;
    window->capacity = capacity;
    return 0;
}

/* A mapped segment may be shorter than its header says. */
static void add_missing_zeros(struct segment_iter *iter, size_t want)
{
    struct window *window = &iter->window;
    const size_t size = (size_t)min_u64(want, iter->segment->header.bytes - window->start);

    if (window->size >= size)
        return;
    memset(window->buffer + window->size, 0, size - window->size);
    window->size = size;
}

/* What is read at once. */
struct reading {
    uint64_t start;
    size_t size, step;
};

/* These bytes, and some more where reading goes on. */
static struct reading plan_window(const struct segment_iter *iter, uint64_t offset, size_t size)
{
    const struct window *window = &iter->window;
    const uint64_t need_end = offset + size;
    const bool goes_on = is_near(window, offset, need_end);
    size_t step = FIRST_STEP_BYTES;
    uint64_t start = offset;

    if (iter->window_bytes > 0)
        step = iter->window_bytes;
    else if (goes_on)
        step = (size_t)min_u64(2 * window->step, WINDOW_BYTES);
    if (goes_on && offset < window->start) /* going back: the next bytes will be in front */
        start -= min_u64(offset, step - step / 4);
    start = align_down(start, BLOCK_BYTES);

    uint64_t end = max_u64(need_end, start + step);
    if (iter->known_end > need_end) /* behind it are only old bytes, which may not be in memory */
        end = min_u64(end, iter->known_end);
    return (
        struct reading){ .start = start, .size = (size_t)align_up(end - start, BLOCK_BYTES), .step = step };
}

int twl_iter_move_window(struct segment_iter *iter, uint64_t offset, size_t size)
{
    struct window *window = &iter->window;
    const uint64_t bytes = iter->segment->header.bytes;

    if (offset > bytes || size > bytes - offset)
        return 0;
    const struct reading reading = plan_window(iter, offset, size);
    int rc = make_room(iter, reading.size);
    window->bytes = window->buffer;
    window->start = reading.start;
    window->step = reading.step;
    if (rc == 0)
        rc = io_read(iter->segment->file, window->buffer, reading.size, reading.start, &window->size);
    if (rc < 0) {
        window->size = 0;
        return rc;
    }

    if (segment_is_mapped(&iter->segment->header))
        add_missing_zeros(iter, reading.size);
    return 0;
}

const unsigned char *twl_iter_bytes(struct segment_iter *iter, uint64_t offset, size_t size, int *ret_error)
{
    return bytes_at(iter, offset, size, ret_error);
}
