/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of p10: 1 KiB behind a header with a time, a size, a checksum and a number, as a program frames them
 * that keeps them in a plain file.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FRAME_PAYLOAD_BYTES 1024u

struct frame {
    uint64_t time_ns;  /* CLOCK_REALTIME */
    uint32_t size;     /* of the payload */
    uint32_t checksum; /* CRC32C of the payload */
    uint64_t number;
    unsigned char payload[FRAME_PAYLOAD_BYTES];
};
_Static_assert(sizeof(struct frame) == FRAME_PAYLOAD_BYTES + 24, "nothing between the members");

/* What of it is left for a contender that makes times, sizes and checksums itself: the number and the payload. */
#define NUMBERED_BYTES (sizeof(struct frame) - offsetof(struct frame, number))
static inline const void *numbered(struct frame *frame, uint64_t number)
{
    frame->number = number;
    return &frame->number;
}
static inline uint64_t numbered_read(const void *data)
{
    uint64_t number;
    memcpy(&number, data, sizeof(number));
    return number;
}

#endif
