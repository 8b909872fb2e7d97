/* SPDX-License-Identifier: Apache-2.0 */
/* What is appended: how many threads, which sizes, which bytes. Random, but the same in every run. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sizes {
    uint32_t min_bytes, max_bytes; /* uniform between them */
    char text[32];                 /* as the user wrote it */
};

struct workload {
    unsigned threads;
    struct sizes sizes;
};

/* "128" or "512-1M"; false if it is neither. */
bool sizes_parse(const char *text, struct sizes *ret_sizes);
double sizes_mean(const struct sizes *sizes);
uint32_t sizes_draw(const struct sizes *sizes, uint64_t *random);

/* "4096", "64K", "8M", "1G", with or without "iB"; false if it is not a number or too large. */
bool bytes_parse(const char *text, uint64_t *ret_bytes);

/* A cheap generator (xorshift64*); the state must not be 0. */
uint64_t random_next(uint64_t *random);

/* Bytes that no compression makes smaller. A record starts anywhere in the first PAYLOAD_SPREAD of
 * them, so that consecutive records differ. */
#define PAYLOAD_SPREAD 65536u
struct payload {
    unsigned char *bytes;
    size_t size;
};
void payload_create(uint32_t largest_record, struct payload *ret_payload);
/* Record `number`, from 0 or 1. */
static inline const unsigned char *payload_at(const struct payload *payload, uint64_t number)
{
    /* odd, so that consecutive records begin at different places */
    return payload->bytes + number * 7919u % (PAYLOAD_SPREAD / 8) * 8;
}
const void *payload_draw(const struct payload *payload, uint64_t *random);
void payload_destroy(struct payload *payload);

#endif
