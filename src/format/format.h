/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format on disk: headers of segments, groups and records. docs/format.md is normative.
 *
 *     segment file = header block (4096) | first group | group | ... | free | index <- | footer block
 *     group        = group header (64)   | record | record | ...
 *     record       = record header (24)  | payload | zeros up to a multiple of 8
 *
 * Pure functions from bytes to structs and back: nothing here allocates, does I/O or trusts a byte
 * before its checksum. Integers are little endian, everything is aligned to 8.
 *
 * What a checksum is seeded with decides where the bytes can be valid:
 *  - a group header: the log, the segment's random identity and the byte offset. It is valid at one
 *    place of one life of one file.
 *  - a record header: the log, the epoch and the LSN. It is valid as one record of one history.
 * Groups form a chain: each carries the checksum of the header before it.
 */
#ifndef TWL_FORMAT_H
#define TWL_FORMAT_H

#include "base/base.h"

#define LOG_ID_BYTES 16u

/* ---- segment header ---------------------------------------------------------------------------- */

#define SEGMENT_HEADER_BYTES BLOCK_BYTES /* what it occupies; the integers are in the first 512 */
#define SEGMENT_FOOTER_BYTES BLOCK_BYTES /* kept free at the end of the file */
#define SEGMENT_DATA_OFFSET SEGMENT_HEADER_BYTES
#define SEGMENT_VERSION 1u
#define SEGMENT_MIN_BYTES 65536u
#define SEGMENT_MAX_BYTES (UINT64_C(1) << 40)

struct segment_header {
    uint32_t incompatible; /* features a reader must know; this version knows none */
    uint32_t compatible;   /* features a reader may ignore */
    uint8_t log_id[LOG_ID_BYTES];
    uint64_t sequence;   /* 1, 2, ... order of the segments in the log */
    uint64_t segment_id; /* random; new for every life of the file */
    uint64_t bytes;      /* size of the file */
    uint64_t after_lsn;  /* every record in it has a greater LSN */
    int64_t created_ns;
    uint32_t epoch; /* when it was prepared; groups in it have this one or a later one */
    uint32_t max_group_bytes;
};

enum header_state {
    HEADER_VALID,
    HEADER_DAMAGED, /* right magic, wrong checksum or impossible contents */
    HEADER_FOREIGN, /* not ours */
    HEADER_NEWER,   /* ours, intact, but of a version or with a feature we do not know */
};

void twl_segment_header_encode(const struct segment_header *header,
                               unsigned char block[SEGMENT_HEADER_BYTES]);
enum header_state twl_segment_header_decode(const unsigned char block[SEGMENT_HEADER_BYTES],
                                            struct segment_header *ret_header);
/* Also false for a byte after the integers that is not zero; the header is usable all the same. */
bool twl_segment_header_is_clean(const unsigned char block[SEGMENT_HEADER_BYTES]);

/* Groups lie in [SEGMENT_DATA_OFFSET, this). */
uint64_t twl_segment_data_end(uint64_t segment_bytes);

uint32_t twl_segment_seed(const struct segment_header *header);

/* ---- group header ------------------------------------------------------------------------------ */

#define GROUP_HEADER_BYTES 64u
#define GROUP_MAGIC 0x47575431u /* bytes 31 54 57 47: "1TWG" */

enum group_kind {
    GROUP_RECORDS = 0,
    GROUP_START = 1, /* no records; a writer opened the log and begins an epoch here */
    GROUP_CLOSE = 2, /* no records; the writer closed the log */
};

/* In `flags`. Any other bit makes the header invalid. */
#define GROUP_FIRST 1u /* the first group of its segment */

/* One life of a writer. Whatever another epoch left behind can't be taken for this one's. */
struct epoch {
    uint32_t number; /* 1, 2, ...; one more at each open for writing */
    uint32_t salt;   /* random */
};

struct group_header {
    uint64_t first_lsn;   /* of its first record, or of the next one where it has none */
    uint32_t count;       /* records */
    uint32_t bytes;       /* header and records, a multiple of 8 */
    uint64_t durable_lsn; /* newest durable LSN when it was written, < first_lsn */
    uint32_t chain;       /* checksum of the group header before this one; 0 for the first ever */
    struct epoch epoch;
    uint16_t kind;
    uint16_t flags;
    int64_t time_ns; /* when it was sealed */

    uint32_t checksum; /* its own: filled in by encode and decode */
};

void twl_group_header_encode(struct group_header *group, uint32_t segment_seed, uint64_t offset,
                             unsigned char bytes[GROUP_HEADER_BYTES]);
/* False unless the bytes are a group header for exactly this place, and possible in itself. */
bool twl_group_header_decode(const unsigned char bytes[GROUP_HEADER_BYTES], uint32_t segment_seed,
                             uint64_t offset, struct group_header *ret_group);
/* A cheap first look, for searching. */
bool twl_group_header_maybe(const unsigned char *bytes);

/* ---- record ------------------------------------------------------------------------------------ */

#define RECORD_HEADER_BYTES 24u

struct record_header {
    uint32_t payload_checksum; /* CRC32C of the payload alone */
    uint32_t size;             /* of the payload */
    int64_t time_ns;
};

/* Seeds the record checksums of an epoch. */
uint32_t twl_epoch_seed(const uint8_t log_id[LOG_ID_BYTES], struct epoch epoch);

static inline uint64_t twl_record_bytes(uint64_t payload_size)
{
    return RECORD_HEADER_BYTES + align_up(payload_size, 8);
}

/* Writes header, payload and padding: twl_record_bytes(size) bytes at `at`. The payload's checksum is
 * taken from the copy, so that a caller who changes `data` meanwhile gets whatever was copied. */
void twl_record_encode(unsigned char *at, uint32_t epoch_seed, uint64_t lsn, int64_t time_ns,
                       const void *data, size_t size);
/* False unless the header is that of record `lsn` in this epoch. Says nothing of the payload. */
bool twl_record_header_decode(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                              uint64_t lsn, struct record_header *ret_record);
/* Payload and padding, which follow the header. */
bool twl_record_payload_is_valid(const struct record_header *record, const unsigned char *payload);

#endif
