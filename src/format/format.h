/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format on disk: headers of segments, groups and records. docs/format.md is normative.
 *
 *     segment file = header block (4096) | first group | group | ... | free | index <- | footer block
 *     state file   = slot | slot         two copies of the cursors, the values and the front of the log
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
#include "base/boot.h"

#define LOG_ID_BYTES 16u

/* ---- segment header ---------------------------------------------------------------------------- */

#define SEGMENT_HEADER_BYTES BLOCK_BYTES /* what it occupies; the integers are in the first 512 */
#define SEGMENT_FOOTER_BYTES BLOCK_BYTES /* kept free at the end of the file */
#define SEGMENT_DATA_OFFSET SEGMENT_HEADER_BYTES
#define SEGMENT_VERSION 1u
#define SEGMENT_MIN_BYTES 65536u
#define SEGMENT_MAX_BYTES (UINT64_C(1) << 40)

/* Incompatible features. MANAGED: the file's name means nothing, a file may have several lives, segments may
 * be missing at the front, a segment may say where it starts, a record may be a void, and there is a state
 * file. Without it a segment is named by its sequence and the log begins with segment 1. */
#define FEATURE_MANAGED 1u
/* MAPPED: the segment is written through a mapping. Its second group may be open, see below, and the file may end
 * in front of where the header says: what is missing is zeros. */
#define FEATURE_MAPPED 2u
#define KNOWN_FEATURES (FEATURE_MANAGED | FEATURE_MAPPED)

struct segment_header {
    uint32_t incompatible; /* features a reader must know */
    uint32_t compatible;   /* features a reader may ignore */
    uint8_t log_id[LOG_ID_BYTES];
    uint64_t sequence;   /* 1, 2, ... order of the segments in the log */
    uint64_t segment_id; /* random; new for every life of the file */
    uint64_t bytes;      /* size of the file */
    uint64_t after_lsn;  /* every record in it has a greater LSN */
    int64_t created_ns;
    uint32_t epoch; /* when it was prepared; groups in it have this one or a later one */
    uint32_t max_group_bytes;
    uint32_t lives; /* times the file was recycled: 0 = it was all zeros when it was made */

    /* A fixed start: the first segment of a log, and the one that a cut or a reset begins. Its first group
     * begins an epoch later than `epoch`, at this LSN. Whatever other segments say of that LSN and later
     * ones is dead. */
    uint64_t start_lsn;   /* 0 = not fixed: it continues the segment of the sequence before */
    uint64_t previous;    /* sequence of the segment it continues; 0 = none, the log begins here */
    uint32_t start_chain; /* checksum of the group header that holds start_lsn - 1; 0 without `previous` */

    /* With FEATURE_MAPPED: of the kernel under which it was made. As long as that runs, what a dead writer has
     * stored is all there. */
    uint8_t boot_id[BOOT_ID_BYTES];
};

static inline bool segment_is_mapped(const struct segment_header *header)
{
    return (header->incompatible & FEATURE_MAPPED) != 0;
}

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

/* In `flags`. Bits 8 to 15 are ignored; the others are of a newer version. */
#define GROUP_FIRST 1u /* the first group of its segment */
#define GROUP_MAPPED                                                                                         \
    2u /* has been open; stands outside the chain: the next group continues the one before it */

#define GROUP_FLAGS_UNKNOWN (0xffu & ~(GROUP_FIRST | GROUP_MAPPED))

/* What bytes are whose checksum was asked for. What is newer was written as it is, so it is never a torn tail. */
enum decoded {
    DECODED_NONE,
    DECODED_VALID,
    DECODED_NEWER, /* they check, and only a newer version knows what they mean */
};

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
/* A group header for exactly this place, and possible in itself; or one that checks and has a kind, a flag or a byte that
 * only a newer version knows: then only LSN, chain and epoch may be used. */
enum decoded twl_group_header_judge(const unsigned char bytes[GROUP_HEADER_BYTES], uint32_t segment_seed,
                                    uint64_t offset, struct group_header *ret_group);
/* Is it DECODED_VALID? */
bool twl_group_header_decode(const unsigned char bytes[GROUP_HEADER_BYTES], uint32_t segment_seed,
                             uint64_t offset, struct group_header *ret_group);
/* A cheap first look, for searching. */
bool twl_group_header_maybe(const unsigned char *bytes);

/* What the group behind it continues. */
static inline uint32_t twl_group_chain(const struct group_header *group)
{
    return group->flags & GROUP_MAPPED ? group->chain : group->checksum;
}

/* ---- record ------------------------------------------------------------------------------------ */

#define RECORD_HEADER_BYTES 24u

enum record_kind {
    RECORD_DATA = 0,
    RECORD_VOID = 1, /* stands for a record that was lost, or never finished; readers pass over it */
    RECORD_IGNORED =
        32, /* and up to 63: of newer versions, for readers like voids; those between are not known */
};

struct record_header {
    uint32_t payload_checksum; /* CRC32C of the payload alone */
    uint32_t size;             /* of the payload */
    uint8_t kind;              /* enum record_kind */
    uint8_t type;              /* the caller's, and so is the tag */
    uint16_t tag;
    int64_t time_ns;
};

/* The kind's upper bits mean nothing, and are there to make the checksum another one. */
#define RECORD_SALTS 4u
#define RECORD_SALT_SHIFT 6u

/* Seeds the record checksums of an epoch. */
uint32_t twl_epoch_seed(const uint8_t log_id[LOG_ID_BYTES], struct epoch epoch);

static inline uint64_t twl_record_bytes(uint64_t payload_size)
{
    return RECORD_HEADER_BYTES + align_up(payload_size, 8);
}

/* Writes header, payload and padding: twl_record_bytes(record->size) bytes at `at`. `data` is NULL when the
 * payload is there already. The payload's checksum is taken from the copy, so that a caller who changes `data`
 * meanwhile gets whatever was copied; what `record` says of it is not looked at. */
void twl_record_encode(unsigned char *at, uint32_t epoch_seed, uint64_t lsn,
                       const struct record_header *record, const void *data);
/* The header of record `lsn` in this epoch. Says nothing of the payload. */
enum decoded twl_record_header_judge(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                                     uint64_t lsn, struct record_header *ret_record);
/* Is it DECODED_VALID? */
bool twl_record_header_decode(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                              uint64_t lsn, struct record_header *ret_record);
/* What a header says whose checksum is known to be right. */
struct record_header twl_record_header_load(const unsigned char bytes[RECORD_HEADER_BYTES]);
/* Payload and padding, which follow the header. */
bool twl_record_payload_is_valid(const struct record_header *record, const unsigned char *payload);

/* ---- the open group ---------------------------------------------------------------------------- */

/*
 * The group that is filled through a mapping, by many at once. It is the second one of a segment with FEATURE_MAPPED,
 * right behind the mark of a start, and has no header as long as it is open: zeros. Its records continue the LSNs of
 * the mark, in the mark's epoch, and each of them is there as soon as its header checks. The group's header is
 * written when all of them are durable; from then on it is a group like any other.
 *
 * A place for a record is taken by a claim: the first 8 bytes of the record's header, stored in one piece where zeros
 * were. It says how large the record is, so that others can go on behind it, and who writes it. The record is complete
 * when the first 8 bytes of its header, its two checksums, take the place of the claim: stored last, in one piece.
 */
#define OPEN_GROUP_OFFSET (SEGMENT_DATA_OFFSET + GROUP_HEADER_BYTES)
#define OPEN_RECORDS_OFFSET (OPEN_GROUP_OFFSET + GROUP_HEADER_BYTES)
#define CLAIM_BYTES 8u
#define CLAIM_OWNERS 256u    /* 0 is nobody */
#define CLAIM_END UINT32_MAX /* for a size: no record, the group ends here */

uint64_t twl_claim_encode(uint32_t epoch_seed, uint64_t lsn, uint32_t size, uint8_t owner);
/* False unless the word is a claim on the place of record `lsn` of this epoch. */
bool twl_claim_decode(uint64_t word, uint32_t epoch_seed, uint64_t lsn, uint32_t *ret_size,
                      uint8_t *ret_owner);

/* All of a record's header but its first 8 bytes, at `at`; its payload is there already. Returns those. They are not 0,
 * nor a claim: a salt in the kind's byte sees to that. */
uint64_t twl_record_encode_open(unsigned char *at, uint32_t epoch_seed, uint64_t lsn,
                                const struct record_header *record);

/* ---- index and footer -------------------------------------------------------------------------- */

/* A place in a segment where reading may begin. Entry i of a sealed segment lies at
 * footer offset - (i + 1) * INDEX_ENTRY_BYTES; LSNs grow with i. */
#define INDEX_ENTRY_BYTES 32u

struct index_entry {
    uint64_t lsn;
    uint64_t group_offset;  /* of the header of the group it is in */
    uint32_t record_offset; /* of the record, from there */
    int64_t peak_ns; /* newest time of any record of this segment before it; INT64_MIN = there is none */
};
void twl_index_entry_encode(const struct index_entry *entry, unsigned char bytes[INDEX_ENTRY_BYTES]);
void twl_index_entry_decode(const unsigned char bytes[INDEX_ENTRY_BYTES], struct index_entry *ret_entry);

#define FOOTER_MAGIC 0x46575431u /* bytes 31 54 57 46: "1TWF" */

/* What is known of a segment that is full. Everything in it follows from the groups; it saves the walk. */
struct segment_footer {
    uint64_t first_lsn, last_lsn; /* last = first - 1: it holds marks only */
    uint64_t data_end;            /* offset behind the last group */
    int64_t min_ns, max_ns;       /* of the times of its records; INT64_MAX and INT64_MIN when it has none */
    int64_t peak_ns;              /* newest time of any record of the log up to here */
    uint32_t chain;               /* checksum of its last group's header: what the next segment continues */
    struct epoch epoch;           /* of the last group */
    uint32_t index_entries;
    uint32_t index_checksum; /* CRC32C of the entries, from the lowest offset to the footer */
    int64_t sealed_ns;
};

/* `offset` is where the footer stands, twl_segment_data_end(). */
void twl_segment_footer_encode(const struct segment_footer *footer, uint32_t segment_seed, uint64_t offset,
                               unsigned char block[SEGMENT_FOOTER_BYTES]);
/* False unless it is the footer of this segment in this life, and possible in itself: the index lies between
 * data_end, rounded up to a block, and the footer. */
bool twl_segment_footer_decode(const unsigned char block[SEGMENT_FOOTER_BYTES], uint32_t segment_seed,
                               uint64_t offset, struct segment_footer *ret_footer);

/* ---- state file -------------------------------------------------------------------------------- */

/* The file is two slots of the same size, each a header and a body. Every change is written to both, one after
 * the other, each synced: one of them is whole at any moment, and damage to one loses nothing. */
#define STATE_HEADER_BYTES 128u
#define STATE_MIN_SLOT_BYTES 16384u
#define STATE_MAX_SLOT_BYTES (UINT32_C(2) << 20) /* sizes between are powers of two */
#define STATE_MAX_BODY_BYTES (UINT32_C(1) << 20)
#define STATE_MAX_NAME 63u
#define STATE_MAX_VALUE 4096u
#define STATE_CURSOR_BYTES 8u

struct state_header {
    uint8_t log_id[LOG_ID_BYTES];
    uint64_t generation;     /* grows with each change, from 1; even or odd is the number of the slot that
                                was written first, 0 or 1 */
    uint64_t first_sequence; /* segments before this one are retired */
    uint64_t first_lsn;      /* records before this one are removed; 1 = none was */
    uint32_t body_bytes;     /* entries, one behind the other */
    uint32_t cursor_epoch;   /* an epoch in which the records of all cursors were durable; 0 = not known */
};

enum state_entry_kind {
    STATE_CURSOR = 1, /* value: LSN, 8 bytes */
    STATE_VALUE = 2,
};
struct state_entry {
    uint8_t kind; /* enum state_entry_kind */
    uint8_t name_bytes;
    uint16_t value_bytes;
    const char *name; /* not terminated */
    const unsigned char *value;
};

/* Puts header and checksums in front of the body, which is at slot + STATE_HEADER_BYTES. */
void twl_state_encode(const struct state_header *header, unsigned char *slot);
/* HEADER_VALID only if header and body check, body_bytes fits in slot_bytes, and the entries in the body are
 * well formed and in order. HEADER_NEWER as for segments. */
enum header_state twl_state_decode(const unsigned char *slot, size_t slot_bytes,
                                   struct state_header *ret_header);
/* Bytes an entry takes in the body: a multiple of 8. */
size_t twl_state_entry_bytes(size_t name_bytes, size_t value_bytes);
size_t twl_state_entry_encode(const struct state_entry *entry, unsigned char *at); /* returns its bytes */
/* The entry at body + *offset, which then moves to the next one; false at the end. */
bool twl_state_entry_next(const unsigned char *body, size_t body_bytes, size_t *offset,
                          struct state_entry *ret_entry);
/* Their order in a body, by kind and name; 0 = the same. */
int twl_state_entry_compare(const struct state_entry *a, const struct state_entry *b);

#endif
