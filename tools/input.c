/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input cut into records. See input.h. */
#define _GNU_SOURCE
#include "input.h"

#include "stop.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define LENGTH_BYTES 4

int input_init(struct input *input, enum framing framing, size_t record_limit)
{
    *input = (struct input){ .framing = framing, .record_limit = record_limit };
    return buffer_init(&input->buffer);
}

void input_free(struct input *input)
{
    buffer_free(&input->buffer);
}

static int take(struct input *input, size_t head, size_t size, size_t tail, const void **ret_data,
                size_t *ret_size)
{
    *ret_data = input->buffer.bytes + input->buffer.begin + head;
    *ret_size = size;
    input->buffer.begin += head + size + tail;
    input->offset += head + size + tail;
    input->buffer.searched = input->buffer.begin;
    input->records++;
    return 1;
}

static int next_terminated(struct input *input, const void **ret_data, size_t *ret_size)
{
    int terminator = input->framing == FRAMING_NUL ? '\0' : '\n';
    size_t left = input->buffer.end - input->buffer.begin;
    const unsigned char *found = memchr(input->buffer.bytes + input->buffer.searched, terminator,
                                        input->buffer.end - input->buffer.searched);
    size_t size = found ? (size_t)(found - input->buffer.bytes) - input->buffer.begin : left;

    if (size > input->record_limit)
        return -EMSGSIZE;
    if (found)
        return take(input, 0, size, 1, ret_data, ret_size);
    if (input->is_ended && left)
        return take(input, 0, left, 0, ret_data, ret_size);
    input->buffer.searched = input->buffer.end;
    return 0;
}

static int next_frame(struct input *input, const void **ret_data, size_t *ret_size)
{
    const unsigned char *bytes = input->buffer.bytes + input->buffer.begin;
    size_t left = input->buffer.end - input->buffer.begin;

    if (left >= LENGTH_BYTES) {
        size_t size = bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
        if (size > input->record_limit)
            return -EMSGSIZE;
        if (left - LENGTH_BYTES >= size)
            return take(input, LENGTH_BYTES, size, 0, ret_data, ret_size);
    }
    return input->is_ended && left ? -EBADMSG : 0;
}

int input_next(struct input *input, const void **ret_data, size_t *ret_size)
{
    if (input->framing == FRAMING_LENGTH)
        return next_frame(input, ret_data, ret_size);
    return next_terminated(input, ret_data, ret_size);
}

static int wait_for_input(void)
{
    struct pollfd poll_fds[] = {
        { .fd = STDIN_FILENO, .events = POLLIN },
        { .fd = stop_fd(), .events = POLLIN },
    };

    while (poll(poll_fds, 2, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return poll_fds[1].revents ? -ECANCELED : 0;
}

int input_fill(struct input *input)
{
    int result = buffer_make_room(&input->buffer);

    if (input->is_ended)
        return 0;
    if (result == 0)
        result = wait_for_input();
    if (result < 0)
        return result;

    ssize_t size = read(STDIN_FILENO, input->buffer.bytes + input->buffer.end, READ_BYTES);
    if (size < 0)
        return errno == EINTR || errno == EAGAIN ? 1 : -errno;
    input->buffer.end += (size_t)size;
    input->is_ended = size == 0;
    return 1;
}
