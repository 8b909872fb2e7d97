/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lies that the judge is told: in the place of the library's calls (LINKER:--wrap) a reader loses, doubles, tears or
 * swaps a record, or ends early; the durable LSN is too large; verify finds damage. Each must be a violation.
 */
#include "crash.h"

#define LIES_ONE_IN 64u /* calls */

int __real_twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *record);
int __wrap_twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *record);
uint64_t __real_twinlog_durable_lsn(struct twinlog *log);
uint64_t __wrap_twinlog_durable_lsn(struct twinlog *log);
int __real_twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records);
int __wrap_twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records);

/* The record that the next call returns: a copy. */
static struct {
    struct twinlog_reader *reader; /* NULL: there is none */
    struct twinlog_record record;
    unsigned char bytes[1 << 17];
} held;

static bool tells(enum lie lie)
{
    if (settings.lie != lie)
        return false;

    struct rng rng = { .state = totals.lies };
    ++totals.lies;
    return rng_one_in(&rng, LIES_ONE_IN);
}

static void hold(struct twinlog_reader *reader, const struct twinlog_record *record)
{
    held.reader = reader;
    held.record = *record;
    held.record.data = held.bytes;
    if (record->size > 0)
        memcpy(held.bytes, record->data, record->size);
}

static void change_payload(struct twinlog_reader *reader, struct twinlog_record *record, bool is_torn)
{
    hold(reader, record);
    held.reader = NULL;
    for (size_t i = 0; i < record->size; ++i) {
        const bool is_second_half = i >= record->size / 2;
        if (!is_torn)
            held.bytes[i] = (unsigned char)~held.bytes[i];
        else if (is_second_half)
            held.bytes[i] = 0;
    }
    *record = held.record;
}

int __wrap_twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *record)
{
    if (held.reader == reader) {
        held.reader = NULL;
        *record = held.record;
        return 1;
    }
    const int result = __real_twinlog_reader_next(reader, record);
    if (result != 1 || record->size > sizeof(held.bytes))
        return result;

    if (tells(LIE_LOST))
        return __real_twinlog_reader_next(reader, record);
    if (tells(LIE_END))
        return 0;
    if (tells(LIE_TORN) || tells(LIE_FOREIGN))
        change_payload(reader, record, settings.lie == LIE_TORN);
    if (tells(LIE_TWICE) || tells(LIE_SWAPPED))
        hold(reader, record);
    if (held.reader == reader && settings.lie == LIE_SWAPPED &&
        __real_twinlog_reader_next(reader, record) != 1)
        held.reader = NULL;
    return 1;
}

uint64_t __wrap_twinlog_durable_lsn(struct twinlog *log)
{
    return __real_twinlog_durable_lsn(log) + tells(LIE_DURABLE);
}

int __wrap_twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records)
{
    const int error = __real_twl_verify(io, options, ret_records);
    if (error == 0 && tells(LIE_VERDICT))
        return TWINLOG_ECORRUPT;
    return error;
}

/* The same of the bytes of a plain file. */
void lie_of_text(unsigned char *bytes, uint64_t *size, uint64_t at, uint64_t part, uint64_t next)
{
    unsigned char *from = bytes + at, *to = from + part;

    if (tells(LIE_LOST)) {
        memmove(from, to, (size_t)(*size - at - part));
        *size -= part;
    } else if (tells(LIE_TWICE)) {
        memmove(to, from, (size_t)(*size - at));
        *size += part;
    } else if (tells(LIE_TORN)) {
        memset(from + part / 2, 0, (size_t)(part - part / 2));
    } else if (tells(LIE_SWAPPED)) {
        for (uint64_t i = 0; i < part; i++) { /* each byte goes behind the next record */
            const unsigned char first = *from;
            memmove(from, from + 1, (size_t)(part + next - 1));
            from[part + next - 1] = first;
        }
    } else if (tells(LIE_FOREIGN)) {
        *from ^= 1;
    } else if (tells(LIE_END)) {
        bytes[(*size)++] = 0;
    }
}
