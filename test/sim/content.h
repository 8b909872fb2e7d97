/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a simulated file: sparse, and shared between a disk and its crash images until one of
 * them writes. That makes an image cost what it changes, not what it holds. Knows no file size: bytes
 * never written are zeros, up to the end of time.
 */
#ifndef TWL_SIM_CONTENT_H
#define TWL_SIM_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct content;

struct content *content_create(void);
struct content *content_share(struct content *content);
void content_release(struct content *content);

/* `bytes` NULL stands for zeros. May replace *content when it is shared. */
void content_write(struct content **content, uint64_t offset, const unsigned char *bytes, size_t size);
bool content_equals(const struct content *content, uint64_t offset, const unsigned char *bytes, size_t size);
void content_read(const struct content *content, uint64_t offset, unsigned char *bytes, size_t size);

/* Zeros from `offset` on. */
void content_truncate(struct content **content, uint64_t offset);

/* malloc and realloc for the simulation: it has no answer to a machine without memory. */
void *sim_allocate(size_t size);
void *sim_reallocate(void *old, size_t size);

#endif
