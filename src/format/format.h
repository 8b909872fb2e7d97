/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format on disk, as docs/format.md has it. Pure functions that convert bytes to structs and back. Nothing here
 * allocates, does I/O or trusts a byte before its checksum. The seed of a checksum decides where the bytes are valid.
 */
#ifndef TWL_FORMAT_H
#define TWL_FORMAT_H

#include "base/base.h"

#define LOG_ID_BYTES 16u

/* No record has a larger LSN, and nothing that says so checks. So what goes on with the next LSN, or looks at the one
 * behind that, does not wrap around, whatever the files say. */
#define LAST_LSN (UINT64_MAX - 2)

/* ---- segment header ---------------------------------------------------------------------------- */

#define SEGMENT_HEADER_BYTES BLOCK_BYTES /* space it occupies */
#define HEADER_SECTOR_BYTES 512u         /* the integers are in here */
#define SEGMENT_FOOTER_BYTES BLOCK_BYTES /* at the end of the file */
#define SEGMENT_DATA_OFFSET SEGMENT_HEADER_BYTES
#define SEGMENT_VERSION 1u
#define SEGMENT_MIN_BYTES 65536u
#define SEGMENT_MAX_BYTES (UINT64_C(1) << 40)

/* Incompatible: written through a mapping. Its second group may be open, and the file short of zeros. */
#define FEATURE_MAPPED 1u
#define KNOWN_FEATURES FEATURE_MAPPED

/* Compatible features that only programs that read may ignore. */
#define FEATURES_OF_WRITERS 0xffff0000u

struct segment_header {
    uint32_t incompatible; /* features a reader must know */
    uint32_t compatible;   /* features a reader may ignore */
    uint8_t log_id[LOG_ID_BYTES];
    uint64_t sequence;   /* 1, 2, ...: order of the segments in the log */
    uint64_t segment_id; /* random; new for every incarnation of the file */
    uint64_t bytes;      /* size of the file */
    uint64_t after_lsn;  /* every record in it has a greater LSN */
    int64_t created_ns;
    uint32_t epoch; /* epoch when the segment was prepared; its groups have this epoch or a later one */
    uint32_t incarnations; /* times the file was recycled; 0 = it was made as zeros */
    uint32_t writer;       /* twl_writer() of the program that made it */

    /* A fixed start, of a log, a truncation or a reset: what others hold of that LSN and later ones is dead. */
    uint64_t start_lsn;   /* 0 = not fixed: the segment continues the one with the preceding sequence */
    uint64_t previous;    /* sequence of the segment that this one continues; 0 = none, the log begins here */
    uint32_t start_chain; /* checksum of the group header that holds start_lsn - 1; 0 without `previous` */
};

static inline bool segment_is_mapped(const struct segment_header *header)
{
    return (header->incompatible & FEATURE_MAPPED) != 0;
}

/* Does a truncation or a reset begin with it? The existence of such a segment is the truncation. */
static inline bool segment_is_truncation(const struct segment_header *header)
{
    return header->start_lsn > 0 && header->sequence > 1; /* segment 1 begins the log itself */
}

enum header_state {
    HEADER_VALID,
    HEADER_DAMAGED, /* right magic, but wrong checksum or impossible contents */
    HEADER_FOREIGN, /* not a twinlog file */
    HEADER_NEWER,   /* intact, but of an unknown version or with an unknown feature */
};

/* The whole block, with the second header if it belongs there. */
void twl_segment_header_encode(const struct segment_header *header,
                               unsigned char block[SEGMENT_HEADER_BYTES]);
enum header_state twl_segment_header_decode(const unsigned char sector[HEADER_SECTOR_BYTES],
                                            struct segment_header *ret_header);

/* A copy for repair: behind the footer, or at the end of the header block, if the file may be shorter. */
uint64_t twl_second_header_offset(const struct segment_header *header);
/* Writes it to the footer block, where it belongs there. */
void twl_second_header_encode(const struct segment_header *header, unsigned char block[SEGMENT_FOOTER_BYTES]);
/* Groups lie in [SEGMENT_DATA_OFFSET, this offset). */
uint64_t twl_segment_data_end(uint64_t segment_bytes);

uint32_t twl_segment_seed(const struct segment_header *header);

/* Which program writes, for later versions that have to know what a defect of this one wrote. */
uint32_t twl_writer(void);

/* ---- group header ------------------------------------------------------------------------------ */

#define GROUP_HEADER_BYTES 64u
#define RECORD_HEADER_BYTES 24u
#define GROUP_MAGIC 0x47575431u /* bytes 31 54 57 47: "1TWG" */

enum group_kind {
    GROUP_RECORDS = 0,
    GROUP_START = 1, /* no records; an epoch begins here: an opening, a truncation, a mapped segment */
    GROUP_CLOSE = 2, /* no records; the writer closed the log */
};

#define GROUP_FIRST 1u  /* the first group of its segment */
#define GROUP_MAPPED 2u /* has been open; outside the chain: the next group continues the one before it */
#define GROUP_FLAGS_UNKNOWN (0xffu & ~(GROUP_FIRST | GROUP_MAPPED))

/* So many bytes without a group say that nothing was written there, if the groups of the writer are no larger. */
#define GROUP_GAP_BYTES (UINT64_C(8) << 20)

/* The flags of a writer that makes no group of more bytes, 16 KiB to 256 MiB. */
uint16_t twl_group_flags_for(uint32_t most_bytes);

enum decoded {
    DECODED_NONE,
    DECODED_VALID,
    DECODED_NEWER, /* the checksum is right, but only a newer version knows the meaning */
};

/* The time between two markers of a start. */
struct epoch {
    uint32_t number; /* 1, 2, ...; each epoch has a greater number than the one before */
    uint32_t salt;   /* random */
};

static inline bool is_same_epoch(struct epoch a, struct epoch b)
{
    return a.number == b.number && a.salt == b.salt;
}

struct group_header {
    uint64_t first_lsn;   /* LSN of its first record, or of the next record if it has none */
    uint32_t count;       /* records */
    uint32_t bytes;       /* header and records, a multiple of 8 */
    uint64_t durable_lsn; /* newest durable LSN when the group was written, < first_lsn */
    uint32_t chain;       /* checksum of the group header before this one; 0 for the first ever */
    struct epoch epoch;
    uint16_t kind;
    uint16_t flags;
    int64_t time_ns;   /* time when the group was completed */
    uint32_t writer;   /* of a marker of a start: twl_writer() of the program that wrote it; else 0 */
    uint32_t checksum; /* of this header; set by encode and decode */
};

void twl_group_header_encode(struct group_header *group, uint32_t segment_seed, uint64_t offset,
                             unsigned char bytes[GROUP_HEADER_BYTES]);
/* A header is valid at one place only. Of one that is DECODED_NEWER only LSN, chain and epoch may be used. */
enum decoded twl_group_header_judge(const unsigned char bytes[GROUP_HEADER_BYTES], uint32_t segment_seed,
                                    uint64_t offset, struct group_header *ret_group);
static inline bool twl_group_header_decode(const unsigned char bytes[GROUP_HEADER_BYTES],
                                           uint32_t segment_seed, uint64_t offset,
                                           struct group_header *ret_group)
{
    return twl_group_header_judge(bytes, segment_seed, offset, ret_group) == DECODED_VALID;
}
/* A cheap first test, for searching. */
bool twl_group_header_maybe(const unsigned char *bytes);
/* Without the seed, for a file without a header: does the first record behind it confirm the LSN and the epoch of this
 * group header? Only those and the number of records may be used. */
bool twl_group_header_guess(const unsigned char bytes[GROUP_HEADER_BYTES + RECORD_HEADER_BYTES],
                            const uint8_t log_id[LOG_ID_BYTES], struct group_header *ret_group);

/* No group of the writer of this one has more bytes. UINT64_MAX: it does not tell. */
uint64_t twl_group_most_bytes(const struct group_header *group);

/* The chain value that the next group has to carry. */
static inline uint32_t twl_group_chain(const struct group_header *group)
{
    return group->flags & GROUP_MAPPED ? group->chain : group->checksum;
}

/* ---- record ------------------------------------------------------------------------------------ */

enum record_kind {
    RECORD_DATA = 0,
    RECORD_FILLER = 1,   /* stands for a record that is not there; readers skip it. See enum filler_type */
    RECORD_IGNORED = 32, /* to 63: of newer versions, skipped like fillers; those between are unknown */
};
enum filler_type {
    FILLER_SKIPPED = 0, /* or never finished */
    FILLER_LOST = 1     /* there was a record, and nothing brings it back */
};

struct record_header {
    uint32_t payload_checksum; /* CRC32C of the payload alone */
    uint32_t size;             /* of the payload */
    uint8_t kind;              /* enum record_kind */
    uint8_t type;              /* type and tag belong to the caller */
    uint16_t tag;
    int64_t time_ns;
};

/* The upper bits of the kind have no meaning. They exist to change the checksum. */
#define RECORD_SALTS 4u
#define RECORD_SALT_SHIFT 6u

/* Seeds the record checksums of an epoch. */
uint32_t twl_epoch_seed(const uint8_t log_id[LOG_ID_BYTES], struct epoch epoch);

static inline uint64_t twl_record_bytes(uint64_t payload_size)
{
    return RECORD_HEADER_BYTES + align_up(payload_size, 8);
}

/* Writes header, payload and padding. `data` is NULL if the payload is already there. The checksum is that of the
 * copy, even if the caller changes `data` meanwhile; record->payload_checksum is ignored. */
void twl_record_encode(unsigned char *at, uint32_t epoch_seed, uint64_t lsn,
                       const struct record_header *record, const void *data);
/* Checks the header of record `lsn` in this epoch, not the payload. */
enum decoded twl_record_header_judge(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                                     uint64_t lsn, struct record_header *ret_record);
static inline bool twl_record_header_decode(const unsigned char bytes[RECORD_HEADER_BYTES],
                                            uint32_t epoch_seed, uint64_t lsn,
                                            struct record_header *ret_record)
{
    return twl_record_header_judge(bytes, epoch_seed, lsn, ret_record) == DECODED_VALID;
}
/* Decodes a header after its checksum was found right. */
struct record_header twl_record_header_load(const unsigned char bytes[RECORD_HEADER_BYTES]);
/* Checks payload and padding, which follow the header. */
bool twl_record_payload_is_valid(const struct record_header *record, const unsigned char *payload);

/* ---- the open group ---------------------------------------------------------------------------- */

/* The second group of a mapped segment. A claim is stored where the first 8 bytes of a record's header go, its two
 * checksums, which replace it last, atomically. The group's own header is written when all records are durable. */
#define OPEN_GROUP_OFFSET (SEGMENT_DATA_OFFSET + GROUP_HEADER_BYTES)
#define OPEN_RECORDS_OFFSET (OPEN_GROUP_OFFSET + GROUP_HEADER_BYTES)
#define CLAIM_BYTES 8u
#define CLAIM_END UINT32_MAX /* as a size: no record, the group ends here */

/* `owner`: 1 to 255. */
uint64_t twl_claim_encode(uint32_t epoch_seed, uint64_t lsn, uint32_t size, uint8_t owner);
/* False unless the word is a claim on the place of record `lsn` of this epoch. */
bool twl_claim_decode(uint64_t word, uint32_t epoch_seed, uint64_t lsn, uint32_t *ret_size,
                      uint8_t *ret_owner);

/* Writes a record's header to `at`, except its first 8 bytes, which it returns: neither 0 nor a claim. The payload is
 * already there. */
uint64_t twl_record_encode_open(unsigned char *at, uint32_t epoch_seed, uint64_t lsn,
                                const struct record_header *record);

/* ---- index and footer -------------------------------------------------------------------------- */

/* A place in a segment where reading may begin. The entries lie in front of the footer, the first one last. */
#define INDEX_ENTRY_BYTES 32u

struct index_entry {
    uint64_t lsn;
    uint64_t group_offset;      /* offset of the header of its group */
    uint32_t record_offset;     /* offset of the record in the group */
    int64_t max_time_so_far_ns; /* newest of all earlier records of this segment; INT64_MIN: of none */
};
void twl_index_entry_encode(const struct index_entry *entry, unsigned char bytes[INDEX_ENTRY_BYTES]);
void twl_index_entry_decode(const unsigned char bytes[INDEX_ENTRY_BYTES], struct index_entry *ret_entry);

#define FOOTER_SECTOR_BYTES 512u /* the footer; the second header is behind it */
#define FOOTER_MAGIC 0x46575431u /* bytes 31 54 57 46: "1TWF" */

/* Summary of a full segment. Everything in it follows from the groups; it saves a walk. */
struct segment_footer {
    uint64_t first_lsn, last_lsn; /* last = first - 1: it holds markers only */
    uint64_t data_end;            /* offset behind the last group */
    int64_t min_ns, max_ns;       /* of the times of its records; INT64_MAX and INT64_MIN if it has none */
    int64_t max_time_so_far_ns;   /* newest time of any record of the log up to here */
    uint32_t chain;               /* checksum of its last group's header, which the next segment continues */
    struct epoch epoch;           /* of the last group */
    uint32_t index_entries;
    uint32_t index_checksum; /* CRC32C of the entries, from the lowest offset to the footer */
    uint64_t offset;         /* where it was read, which is where the index ends; not part of its bytes */
    int64_t sealed_ns;
};

/* `offset` is the place of the footer: twl_segment_data_end(), or the last block of a file that is shorter. */
void twl_segment_footer_encode(const struct segment_footer *footer, uint32_t segment_seed, uint64_t offset,
                               unsigned char sector[FOOTER_SECTOR_BYTES]);
/* False unless it is the footer of this incarnation of this segment, and possible in itself. */
bool twl_segment_footer_decode(const unsigned char sector[FOOTER_SECTOR_BYTES], uint32_t segment_seed,
                               uint64_t offset, struct segment_footer *ret_footer);

/* ---- state file -------------------------------------------------------------------------------- */

#define STATE_HEADER_BYTES 128u
#define STATE_MIN_SLOT_BYTES 16384u
#define STATE_MAX_SLOT_BYTES (UINT32_C(2) << 20) /* sizes between the two are powers of two */
#define STATE_MAX_BODY_BYTES (UINT32_C(1) << 20)
#define STATE_MAX_NAME 63u
#define STATE_MAX_VALUE 4096u
#define STATE_CURSOR_BYTES 8u

struct state_header {
    uint8_t log_id[LOG_ID_BYTES];
    uint32_t compatible; /* features; those that all may ignore are not written again */
    uint64_t generation; /* grows with each change, from 1; its parity is the slot that was written first */
    uint64_t first_sequence; /* segments before this one are retired */
    uint64_t first_lsn;      /* records before this one are removed; 1 = none are */
    uint32_t body_bytes;     /* size of the entries, which follow one another */
    uint32_t cursor_epoch;   /* an epoch in which the records of all cursors were durable; 0 = not known */
};

enum state_entry_kind {
    STATE_CURSOR = 1, /* value: LSN, 8 bytes */
    STATE_VALUE = 2,
    STATE_KEPT = 128, /* and up to 255: of newer versions, kept as they are; those between are unknown */
};
struct state_entry {
    uint8_t kind; /* enum state_entry_kind */
    uint8_t name_bytes;
    uint16_t value_bytes;
    const char *name; /* not terminated */
    const unsigned char *value;
};

/* Writes header and checksums in front of the body, which is at slot + STATE_HEADER_BYTES. */
void twl_state_encode(const struct state_header *header, unsigned char *slot);
/* Bytes of the slot that are in use, if the header checks. */
uint64_t twl_state_slot_need(const unsigned char slot[STATE_HEADER_BYTES]);
/* Of header, body and entries. HEADER_NEWER also for an entry of an unknown kind. */
enum header_state twl_state_decode(const unsigned char *slot, size_t slot_bytes,
                                   struct state_header *ret_header);
size_t twl_state_entry_bytes(size_t name_bytes, size_t value_bytes);
size_t twl_state_entry_encode(const struct state_entry *entry, unsigned char *at); /* returns its bytes */
/* Moves *offset to the next entry. False at the end, or if the entry is not valid. */
bool twl_state_entry_next(const unsigned char *body, size_t body_bytes, size_t *offset,
                          struct state_entry *ret_entry);
/* Order of entries in a body, by kind and name; 0 = the same. */
int twl_state_entry_compare(const struct state_entry *a, const struct state_entry *b);

/* ---- checksums calculated backwards ------------------------------------------------------------ */

/* The LSN from first_lsn to last_lsn for which these bytes are a valid record header of that epoch; 0 = none. Random
 * bytes give one, too: the payload has to confirm it. Of more than 2^32 LSNs only the first 2^32 are tried. */
uint64_t twl_unseed_record(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                           uint64_t first_lsn, uint64_t last_lsn);

#endif
