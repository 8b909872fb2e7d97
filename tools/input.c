/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input cut into records. See input.h. */
#define _GNU_SOURCE
#include "input.h"

#include "print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LENGTH_BYTES 4
#define MAX_HEADER_BYTES 80u /* of a record in an export */

int input_init(struct input *input, enum framing framing, size_t record_limit)
{
    *input = (struct input){ .framing = framing,
                             .record_limit = record_limit,
                             .intake = input->intake,
                             .long_policy = input->long_policy };
    return buffer_init(&input->buffer);
}

void input_free(struct input *input)
{
    buffer_free(&input->buffer);
}

static void pass(struct input *input, size_t size)
{
    input->buffer.begin += size;
    input->offset += size;
    input->buffer.searched = input->buffer.begin;
}

static int take(struct input *input, size_t head, size_t size, size_t tail, struct twinlog_entry *ret_entry)
{
    ret_entry->data = input->buffer.bytes + input->buffer.begin + head;
    ret_entry->size = size;
    pass(input, head + size + tail);
    input->records++;
    return 1;
}

/* At most so many bytes, and no character of UTF-8 in two parts, if the bytes are such text. */
static size_t whole_characters(const unsigned char *bytes, size_t size)
{
    const unsigned most = 3; /* bytes of a character behind its first one */
    unsigned back = 0;

    while (back < most && back < size && (bytes[size - back] & 0xC0) == 0x80)
        back++;
    const bool is_text = back < size && (bytes[size - back] & 0xC0) == 0xC0;
    if (is_text)
        return size - back;
    return size;
}

/* The first part of a line above the limit. The mark takes the place of bytes that are dropped. */
static int take_part(struct input *input, struct twinlog_entry *ret_entry)
{
    static const char mark[] = " [cut]";
    unsigned char *bytes = input->buffer.bytes + input->buffer.begin;
    const size_t limit = input->record_limit;

    if (input->long_policy == LONG_REFUSE)
        return -EMSGSIZE;

    input->long_lines += !input->is_in_split;
    if (input->long_policy == LONG_SPLIT) {
        input->is_in_split = true;
        return take(input, 0, whole_characters(bytes, limit), 0, ret_entry);
    }

    input->is_dropping = true;
    if (limit < sizeof(mark))
        return take(input, 0, limit, 0, ret_entry);

    const size_t kept = whole_characters(bytes, limit - (sizeof(mark) - 1));
    memcpy(bytes + kept, mark, sizeof(mark) - 1);
    return take(input, 0, kept + sizeof(mark) - 1, 0, ret_entry);
}

static const unsigned char *find_terminator(const struct input *input)
{
    const size_t searched = (size_t)max_u64(input->buffer.searched, input->buffer.begin);
    const int terminator = input->framing == FRAMING_NUL ? '\0' : '\n';

    return memchr(input->buffer.bytes + searched, terminator, input->buffer.end - searched);
}

/* Passes what is left of a line that was cut. False: its end is not here yet. */
static bool drop_rest(struct input *input)
{
    const unsigned char *found = find_terminator(input);
    size_t size = input->buffer.end - input->buffer.begin;

    if (found)
        size = (size_t)(found - input->buffer.bytes) - input->buffer.begin + 1;
    pass(input, size);
    input->is_dropping = !found;
    return found;
}

static int next_terminated(struct input *input, struct twinlog_entry *ret_entry)
{
    if (input->is_dropping && !drop_rest(input))
        return 0;

    const unsigned char *found = find_terminator(input);
    size_t size = input->buffer.end - input->buffer.begin;
    size_t terminator_bytes = 0;

    if (found) {
        size = (size_t)(found - input->buffer.bytes) - input->buffer.begin;
        terminator_bytes = 1;
    }

    if (size > input->record_limit)
        return take_part(input, ret_entry);
    if (found || (input->is_ended && size > 0)) {
        input->is_in_split = false;
        return take(input, 0, size, terminator_bytes, ret_entry);
    }

    input->buffer.searched = input->buffer.end;
    return 0;
}

static int next_frame(struct input *input, struct twinlog_entry *ret_entry)
{
    const unsigned char *bytes = input->buffer.bytes + input->buffer.begin;
    size_t left = input->buffer.end - input->buffer.begin;

    if (left >= LENGTH_BYTES) {
        size_t size = bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
        if (size > input->record_limit)
            return -EMSGSIZE;
        if (left - LENGTH_BYTES >= size)
            return take(input, LENGTH_BYTES, size, 0, ret_entry);
    }

    if (input->is_ended && left)
        return -EBADMSG;
    return 0;
}

/* The header of a record: digits and single blanks, and nothing that sscanf() would forgive. */
static bool read_header(const char *line, size_t length, uint64_t *ret_lsn, struct twinlog_entry *ret_entry)
{
    char text[MAX_HEADER_BYTES];
    char again[MAX_HEADER_BYTES];
    unsigned type = 0;
    unsigned tag = 0;

    if (length >= sizeof(text))
        return false;

    memcpy(text, line, length);
    text[length] = '\0';
    if (sscanf(text, "%" SCNu64 " %" SCNd64 " %u %u %zu", ret_lsn, &ret_entry->time_ns, &type, &tag,
               &ret_entry->size) != 5)
        return false;

    ret_entry->type = (uint8_t)type;
    ret_entry->tag = (uint16_t)tag;
    int written = snprintf(again, sizeof(again), "%" PRIu64 " %" PRId64 " %u %u %zu", *ret_lsn,
                           ret_entry->time_ns, ret_entry->type, ret_entry->tag, ret_entry->size);
    return (size_t)written == length && memcmp(text, again, length) == 0 && *ret_lsn > 0;
}

/* Passes a line of its own, if all of it is here and nothing else. */
static bool pass_line(struct input *input, const char *line)
{
    size_t length = strlen(line);

    if (input->buffer.end - input->buffer.begin < length ||
        memcmp(input->buffer.bytes + input->buffer.begin, line, length) != 0)
        return false;

    pass(input, length);
    return true;
}

/* Passes the line that says which history it is, which may be missing, from where a record came to it, or that another
 * epoch begins. False: it is no such line. */
static bool pass_history(struct input *input, const char *line, size_t length)
{
    char text[MAX_HEADER_BYTES * 2];
    unsigned epoch = 0;
    int end = 0;
    bool is_history = false;

    if (length >= sizeof(text))
        return false;

    memcpy(text, line, length);
    text[length] = '\0';
    if (input->log_id[0] && *line == 'o' && !input->records)
        is_history = sscanf(text, "origin %32[0-9a-f] %8" SCNx32 " %" SCNu64 "%n", input->origin.id,
                            &input->origin.salt, &input->origin.lsn, &end) == 3;
    else if (input->log_id[0])
        is_history = sscanf(text, "salt %8" SCNx32 "%n", &input->salt, &end) == 1;
    else if (!input->records)
        is_history =
            sscanf(text, "history %32[0-9a-f] %u %8" SCNx32 " %" SCNu64 " %" SCNu64 "%n", input->log_id,
                   &epoch, &input->salt, &input->epoch_lsn, &input->last_lsn, &end) == 5;
    if (!is_history || (size_t)end != length)
        return false;

    pass(input, length + 1);
    return true;
}

/* The line that comes next, or NULL: it is not here yet, or it is too long. */
static const char *find_line(const struct input *input, size_t *ret_length)
{
    const char *line = (const char *)input->buffer.bytes + input->buffer.begin;
    const size_t left = input->buffer.end - input->buffer.begin;
    const char *newline = memchr(line, '\n', (size_t)min_u64(left, 2 * MAX_HEADER_BYTES));

    *ret_length = left;
    if (!newline)
        return NULL;

    *ret_length = (size_t)(newline - line);
    return line;
}

/* Passes the lines that say which history the records behind them are of. False: one of them is wrong. */
static bool pass_histories(struct input *input)
{
    for (;;) {
        size_t length = 0;
        const char *line = find_line(input, &length);
        if (!line || !strchr("hos", *line))
            return true;
        if (!pass_history(input, line, length))
            return false;
    }
}

static int next_exported(struct input *input, struct twinlog_entry *ret_entry)
{
    size_t length = 0;
    uint64_t lsn = 0;

    if (!input->has_begun)
        input->has_begun = pass_line(input, EXPORT_BEGIN);
    if (input->has_begun && !pass_histories(input))
        return -EBADMSG;
    if (input->has_begun && !input->is_whole)
        input->is_whole = pass_line(input, EXPORT_END);

    const size_t left = input->buffer.end - input->buffer.begin;
    if (input->is_whole && left > 0)
        return -EBADMSG;
    if (input->is_whole)
        return 0;

    const char *header = find_line(input, &length);
    const bool is_too_long = length >= 2 * MAX_HEADER_BYTES;
    if (!header && (is_too_long || input->is_ended))
        return -EBADMSG;
    if (!header)
        return 0;

    size_t head = length + 1;
    if (!input->has_begun || !read_header(header, length, &lsn, ret_entry))
        return -EBADMSG;

    size_t size = ret_entry->size;
    if (size > input->record_limit)
        return -EMSGSIZE;
    const bool is_here = left - head >= size + 1;
    if (!is_here && input->is_ended)
        return -EBADMSG;
    if (!is_here)
        return 0;
    if (header[head + size] != '\n')
        return -EBADMSG;

    input->lsn = lsn;
    return take(input, head, size, 1, ret_entry);
}

int input_next(struct input *input, struct twinlog_entry *ret_entry)
{
    *ret_entry = (struct twinlog_entry){ 0 };
    if (input->framing == FRAMING_LENGTH)
        return next_frame(input, ret_entry);
    if (input->framing == FRAMING_EXPORT)
        return next_exported(input, ret_entry);
    return next_terminated(input, ret_entry);
}

int input_fill(struct input *input)
{
    int result = buffer_make_room(&input->buffer);

    if (input->is_ended)
        return 0;
    if (result == 0)
        result = intake_read(&input->intake, &input->buffer, UINT64_MAX);
    if (result < 0)
        return result;

    input->is_ended = result == 0;
    return 1;
}
