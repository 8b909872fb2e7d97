/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store as the studies of reading see it, a peer that has fill(), and replay() or get(): records 1, 2, ... are put
 * in once, and read again from one end to the other, or one by one.
 *
 * Those of other libraries are in the peer_*.c of their library.
 */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "peer.h"
#include "workload.h"

struct store_plan {
    char dir[4096]; /* the store's own: exists, and is empty before fill() */
    uint64_t records;
    uint32_t record_bytes;
    struct payload payload;
};

/* What record `number` is made of. */
static inline const unsigned char *plan_record(const struct store_plan *plan, uint64_t number)
{
    return payload_at(&plan->payload, number);
}
/* The first bytes of a record, as far as there are 8: a reader that has read it right knows them. */
static inline uint64_t record_mark(const void *data, size_t size)
{
    uint64_t mark = 0;
    memcpy(&mark, data, size < sizeof(mark) ? size : sizeof(mark));
    return mark;
}

/* What came out of a replay. */
struct tally {
    uint64_t records;
    uint64_t bytes; /* of payload */
    uint64_t marks; /* their sum */
};
static inline void tally_add(struct tally *tally, const void *data, size_t size)
{
    tally->records++;
    tally->bytes += size;
    tally->marks += record_mark(data, size);
}

/* What get() has found. */
struct found {
    uint64_t number;
    uint64_t mark;
};

extern const struct peer store_twinlog_mmap, store_twinlog_pread;
extern const struct peer store_disk_direct, store_disk_buffered;
extern const struct peer store_bare OPTIONAL; /* needs ISA-L */
extern const struct peer store_bdb OPTIONAL, store_lmdb OPTIONAL;
extern const struct peer store_rocksdb OPTIONAL;

int twinlog_fill(const struct peer_setup *setup);

#endif
