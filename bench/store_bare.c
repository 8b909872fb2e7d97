/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference of a replay in memory: what two CRC32Cs a record cost when nothing else is done. The records are in
 * memory, each behind a header of twinlog's size, and it is known where the next one begins.
 */
#include "common.h"
#include "store.h"

#include <errno.h>
#include <stdlib.h>

struct bare_header {
    uint32_t checksum; /* of the rest of it */
    uint32_t payload_checksum;
    uint32_t size;
    uint32_t reserved;
    uint64_t number;
};
#define HEADER_CHECKED (sizeof(struct bare_header) - sizeof(uint32_t))

struct bare {
    unsigned char *bytes;
    uint64_t records;
};

static size_t bare_stride(size_t size)
{
    return sizeof(struct bare_header) + (size + 7) / 8 * 8;
}

static int open_bare(const struct peer_setup *setup, void **ret_state)
{
    const struct store_plan *plan = setup->plan;
    const size_t stride = bare_stride(plan->record_bytes);
    struct bare *bare = *ret_state = allocate(1, sizeof(*bare));
    bare->records = plan->records;
    bare->bytes = allocate(plan->records, stride);
    for (uint64_t i = 0; i < plan->records; i++) {
        struct bare_header *header = (struct bare_header *)(void *)(bare->bytes + i * stride);
        *header = (struct bare_header){ .size = plan->record_bytes, .number = i + 1 };
        memcpy(header + 1, plan_record(plan, i + 1), plan->record_bytes);
        header->payload_checksum = checksum_of(header + 1, plan->record_bytes);
        header->checksum = checksum_of(&header->payload_checksum, HEADER_CHECKED);
    }
    return 0;
}

static int replay_bare(void *state, struct tally *tally)
{
    const struct bare *bare = state;
    const unsigned char *at = bare->bytes;
    for (uint64_t i = 0; i < bare->records; i++) {
        const struct bare_header *header = (const struct bare_header *)(const void *)at;
        if (checksum_of(&header->payload_checksum, HEADER_CHECKED) != header->checksum ||
            checksum_of(header + 1, header->size) != header->payload_checksum)
            return -EIO;
        tally_add(tally, header + 1, header->size);
        at += bare_stride(header->size);
    }
    return 0;
}

static int close_bare(void *state)
{
    struct bare *bare = state;
    free(bare->bytes);
    free(bare);
    return 0;
}

const struct peer store_bare = {
    .folder = "bare",
    .open = open_bare,
    .replay = replay_bare,
    .close = close_bare,
};
