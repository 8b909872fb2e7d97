/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that can be told from each other. Life, writer and sequence decide what a record holds and how
 * long it is, so that nobody has to keep what was appended: it is made once more and compared.
 *
 * Where it fits, a record begins with these numbers and its length, to help find out what
 * went wrong. Some records are nothing but zeros, and some end in zeros.
 */
#ifndef TWL_CRASH_PAYLOAD_H
#define TWL_CRASH_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <twinlog.h>

#define PAYLOAD_MAX_BYTES (64u << 10)  /* for programs that have no other limit */
#define WRITTEN_MAX_BYTES (300u << 10) /* for any */

struct payload {
    uint64_t life;
    uint64_t sequence;
    uint32_t writer;
    uint32_t max_bytes; /* of any record of that life */
};

size_t payload_size(const struct payload *payload);
/* Writes payload_size() bytes. */
void payload_fill(const struct payload *payload, unsigned char *bytes);
/* For records that are appended with one, never 0; their type is its lower half. */
uint16_t payload_tag(const struct payload *payload);
/* It begins with its numbers, so that no other one is like it. */
bool payload_has_label(const struct payload *payload);
bool payload_matches(const struct payload *payload, const struct twinlog_record *record);
/* What the numbers at the beginning of a record say, for a message. */
void payload_describe(const void *bytes, size_t size, char *text, size_t text_size);

/* A fingerprint of a record as a reader returns it. Never 0. */
uint64_t payload_digest(const struct twinlog_record *record);

#endif
