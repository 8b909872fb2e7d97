/* SPDX-License-Identifier: Apache-2.0 */
/* One damaged place in the files of a log, by chance. */
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512u
#define BLOCK_BYTES 4096u
#define FLIPS 4u

static struct file *pick(struct rng *rng, struct files *files, bool is_segment)
{
    for (unsigned tries = 0; tries < 100; tries++) {
        struct file *file = &files->list[rng_below(rng, files->count)];
        if (file->bytes && file->size >= BLOCK_BYTES && (!is_segment || strcmp(file->name, "state") != 0))
            return file;
    }
    return NULL;
}

/* Where something is, or where it is not; headers, first groups and footers more often than other places. */
static size_t pick_place(struct rng *rng, const struct file *file, size_t unit)
{
    static const size_t starts[] = { 0, 0, BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES + 64 };
    size_t at = (size_t)rng_below(rng, file->size);
    if (rng_one_in(rng, 3))
        at = starts[rng_below(rng, sizeof(starts) / sizeof(starts[0]))] + (size_t)rng_below(rng, 128);
    else if (rng_one_in(rng, 6))
        at = file->size - BLOCK_BYTES + (size_t)rng_below(rng, 2 * SECTOR_BYTES);
    for (unsigned tries = 0; tries < 20 && at < file->size && file->bytes[at] == 0; tries++)
        at = (size_t)rng_below(rng, file->size);
    at = at / unit * unit;
    return at + unit <= file->size ? at : 0;
}

static void flip(struct rng *rng, struct file *file, struct harm *harm)
{
    const size_t at = pick_place(rng, file, 1);
    const unsigned flips = 1 + (unsigned)rng_below(rng, FLIPS);
    for (unsigned i = 0; i < flips && at + i < file->size; i++)
        file->bytes[at + i] ^= (unsigned char)(1u << rng_below(rng, 8));
    snprintf(harm->words, sizeof(harm->words), "%u bits of %s at %zu", flips, file->name, at);
}

static void zero(struct rng *rng, struct file *file, struct harm *harm)
{
    const size_t at = pick_place(rng, file, SECTOR_BYTES);
    size_t size = SECTOR_BYTES * (1 + (size_t)rng_below(rng, rng_one_in(rng, 3) ? 32 : 2));
    size = size > file->size - at ? file->size - at : size;
    memset(file->bytes + at, 0, size);
    snprintf(harm->words, sizeof(harm->words), "%zu zeros in %s at %zu", size, file->name, at);
}

static void swap_blocks(struct rng *rng, struct file *a, struct file *b, struct harm *harm)
{
    unsigned char block[BLOCK_BYTES];
    const size_t at = pick_place(rng, a, BLOCK_BYTES), to = pick_place(rng, b, BLOCK_BYTES);
    memcpy(block, a->bytes + at, BLOCK_BYTES);
    memcpy(a->bytes + at, b->bytes + to, BLOCK_BYTES);
    memcpy(b->bytes + to, block, BLOCK_BYTES);
    snprintf(harm->words, sizeof(harm->words), "block %zu of %s and %zu of %s swapped", at / BLOCK_BYTES,
             a->name, to / BLOCK_BYTES, b->name);
}

static void overwrite_header(struct file *to, const struct file *from, const char *of_log, struct harm *harm)
{
    memcpy(to->bytes, from->bytes, BLOCK_BYTES);
    snprintf(harm->words, sizeof(harm->words), "%s has the first block of %s of %s log", to->name, from->name,
             of_log);
}

static void lose(struct file *file, struct harm *harm)
{
    free(file->bytes);
    file->bytes = NULL;
    snprintf(harm->words, sizeof(harm->words), "%s is missing", file->name);
}

static void shorten(struct rng *rng, struct file *file, struct harm *harm)
{
    file->size = (size_t)rng_below(rng, file->size);
    snprintf(harm->words, sizeof(harm->words), "%s ends at %zu", file->name, file->size);
}

/* With their first groups, so that each passes for a spare, or for a segment without a group. */
static void zero_first_blocks(struct files *files, struct harm *harm)
{
    for (unsigned i = 0; i < files->count; i++)
        if (files->list[i].bytes && files->list[i].size >= 2 * BLOCK_BYTES &&
            strcmp(files->list[i].name, "state") != 0)
            memset(files->list[i].bytes + BLOCK_BYTES, 0, BLOCK_BYTES);
    snprintf(harm->words, sizeof(harm->words), "the first blocks of all segments are zeros");
}

void do_harm(struct rng *rng, struct files *files, const struct files *others, struct harm *ret_harm)
{
    struct file *file = pick(rng, files, rng_below(rng, 8) > 0);
    struct file *segment = pick(rng, files, true), *second = pick(rng, files, true);
    const unsigned kind = (unsigned)rng_below(rng, 15);
    snprintf(ret_harm->words, sizeof(ret_harm->words), "nothing");
    ret_harm->is_local = ret_harm->is_sector = false;
    if (!file || !segment || !second)
        return;
    ret_harm->is_local = kind < 9 || kind == 14;
    if (kind < 5)
        flip(rng, file, ret_harm);
    else if (kind < 9)
        zero(rng, file, ret_harm);
    else if (kind == 9)
        swap_blocks(rng, segment, second, ret_harm);
    else if (kind == 10)
        overwrite_header(segment, second, "the same", ret_harm);
    else if (kind == 11)
        overwrite_header(segment, &others->list[0], "another", ret_harm);
    else if (kind == 12)
        lose(segment, ret_harm);
    else if (kind == 14)
        zero_first_blocks(files, ret_harm);
    else
        shorten(rng, segment, ret_harm);
}
