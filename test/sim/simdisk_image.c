/* SPDX-License-Identifier: Apache-2.0 */
/* Crashes: a new disk from what is durable and a part of what is not. */
#include "simdisk_state.h"

#include <string.h>

static const char *const CUT_NAMES[] = { "none", "all", "random", "garbage", "mask", "kill" };

const char *simdisk_cut_name(enum simdisk_cut cut)
{
    return CUT_NAMES[cut];
}

/* Decides, for one image, what of the unsynced changes happened. */
struct chance {
    enum simdisk_cut cut;
    uint64_t mask;
    unsigned choices; /* made so far */
    struct rng rng;
    uint64_t odds;         /* of 8, in the current change */
    uint64_t garbage_odds; /* of 8 */
};

/* Of a change a random image has nothing, all or a part. */
static void start_change(struct chance *chance)
{
    if (chance->cut != SIM_CUT_RANDOM && chance->cut != SIM_CUT_GARBAGE)
        return;

    switch (rng_below(&chance->rng, 4)) {
    case 0:
        chance->odds = 0;
        break;
    case 1:
        chance->odds = 8;
        break;
    default:
        chance->odds = 1 + rng_below(&chance->rng, 7);
        break;
    }
    chance->garbage_odds = rng_below(&chance->rng, 3);
}

/* The next choice: what has no bit in the mask did not happen. */
static bool take_bit(struct chance *chance)
{
    if (chance->choices >= 64)
        return false;
    const uint64_t bit = UINT64_C(1) << chance->choices;
    ++chance->choices;
    return (chance->mask & bit) != 0;
}

static bool happens(struct chance *chance)
{
    switch (chance->cut) {
    case SIM_CUT_ALL:
        return true;
    case SIM_CUT_MASK:
        return take_bit(chance);
    case SIM_CUT_RANDOM:
    case SIM_CUT_GARBAGE:
        return rng_below(&chance->rng, 8) < chance->odds;
    default:
        return false;
    }
}

static bool is_garbled(struct chance *chance)
{
    return chance->cut == SIM_CUT_GARBAGE && rng_below(&chance->rng, 8) < chance->garbage_odds;
}

/* Whether writing these bytes is a choice at all: where nothing would change, it is none. (With
 * SIM_CUT_ALL the last write must win even when it restores what is durable.) */
static bool is_choice(const struct chance *chance, const struct inode *inode, const struct change *change,
                      size_t from, size_t size)
{
    if (chance->cut == SIM_CUT_ALL || chance->cut == SIM_CUT_GARBAGE)
        return true;
    return !content_equals(inode->durable, change->offset + from, sim_change_bytes(change, from), size);
}

static void garble_sector(struct chance *chance, struct inode *image, uint64_t offset)
{
    unsigned char garbage[SECTOR_BYTES];
    rng_fill(&chance->rng, garbage, sizeof(garbage));
    content_write(&image->durable, align_down(offset, SECTOR_BYTES), garbage, sizeof(garbage));
}

/* A part of a change that is written whole or not at all. `image` NULL: only counts. */
static void decide_part(struct chance *chance, const struct inode *inode, const struct change *change,
                        size_t from, size_t size, struct inode *image)
{
    if (!is_choice(chance, inode, change, from, size))
        return;
    const bool is_new = happens(chance);
    if (!image)
        return;

    const uint64_t offset = change->offset + from;
    if (is_new)
        content_write(&image->durable, offset, sim_change_bytes(change, from), size);
    if (is_garbled(chance))
        garble_sector(chance, image, offset);
}

/* The size of the file, and each sector that the change writes. */
static void decide_change(struct chance *chance, const struct inode *inode, const struct change *change,
                          struct inode *image)
{
    start_change(chance);
    if (change->grows_to > inode->durable_bytes) {
        const bool is_grown = happens(chance);
        if (image && is_grown)
            image->durable_bytes = max_u64(image->durable_bytes, change->grows_to);
    }

    if (!is_choice(chance, inode, change, 0, change->size))
        return;
    size_t from = 0;
    while (from < change->size) {
        const size_t part = sim_part_of_sector(change->offset + from, change->size - from);
        decide_part(chance, inode, change, from, part, image);
        from += part;
    }
}

static void decide_file(struct chance *chance, const struct inode *inode, struct inode *image)
{
    for (size_t i = 0; i < inode->changes; ++i)
        decide_change(chance, inode, &inode->change[i], image);
    if (image && inode->changes > 0)
        content_truncate(&image->durable, image->durable_bytes);
}

static void decide_names(struct chance *chance, const struct simdisk *disk, struct directory *image)
{
    start_change(chance);
    for (size_t i = 0; i < disk->dir_change.entries; ++i) {
        const struct entry *entry = &disk->dir_change.entry[i];
        const bool is_changed = happens(chance) && image;
        if (is_changed)
            sim_name_file(image, entry->name, entry->inode);
        else if (disk->options.keeps_order)
            return;
    }
}

unsigned simdisk_choices(const struct simdisk *disk)
{
    struct chance chance = { .cut = SIM_CUT_MASK };

    decide_names(&chance, disk, NULL);
    for (size_t i = 0; i < disk->inodes; ++i) {
        if (disk->inode[i])
            decide_file(&chance, disk->inode[i], NULL);
    }
    return chance.choices;
}

static struct inode *inode_copy(const struct inode *inode, struct content *view, uint64_t view_bytes)
{
    struct inode *copy = sim_allocate(sizeof(*copy));
    *copy = (struct inode){ .durable = content_share(inode->durable),
                            .durable_bytes = inode->durable_bytes,
                            .view = content_share(view),
                            .view_bytes = view_bytes };
    return copy;
}

/* A shared page after a power cut: gone, written back as it was, or in part. */
static void cut_page(struct inode *image, const struct inode *inode, struct rng *rng)
{
    const bool is_shared_memory = inode->page && !inode->is_page_of_file;
    if (!is_shared_memory)
        return;
    const uint64_t fate = rng_below(rng, 4);
    const bool is_gone = fate < 2, is_whole = fate == 2;
    if (is_gone)
        return;

    sim_allocate_page(image, inode->page_bytes);
    unsigned char *left = image->page;
    const unsigned char *page = inode->page;

    /* Behind its words are statistics, by which nobody decides anything. */
    const size_t words = min_u64(inode->page_bytes, BLOCK_BYTES);
    memcpy(left + words, page + words, inode->page_bytes - words);
    for (size_t at = 0; at + 8 <= words; at += 8) {
        if (is_whole || rng_one_in(rng, 2))
            memcpy(left + at, page + at, 8);
    }
}

/* The write of a killed process, which goes on by itself and keeps what its file had locked. */
static void leave_ghost(struct simdisk *image, struct inode *inode, struct change *change)
{
    change->is_ghost = true;
    for (unsigned which = 0; which < SIM_LOCKS; ++which)
        sim_hold(inode, which, change->holds[which]);
    image->ghost_ops = 1 + rng_below(&image->rng, GHOST_OPS);
}

/* What the power cut leaves of a file that has a name. */
static struct inode *cut_file(struct chance *chance, const struct inode *inode)
{
    struct inode *copy = inode_copy(inode, inode->durable, 0);

    decide_file(chance, inode, copy);
    content_release(copy->view);
    copy->view = content_share(copy->durable);
    copy->view_bytes = copy->durable_bytes;
    cut_page(copy, inode, &chance->rng);
    return copy;
}

static void cut_power(struct simdisk *image, const struct simdisk *disk, enum simdisk_cut cut, uint64_t seed)
{
    struct chance chance = { .cut = cut, .mask = seed, .rng = { seed } };

    sim_copy_directory(&image->durable, &disk->durable);
    decide_names(&chance, disk, &image->durable);
    sim_copy_directory(&image->view, &image->durable);

    for (size_t i = 0; i < disk->inodes; ++i) {
        const struct inode *inode = disk->inode[i];
        if (!inode)
            continue;
        if (sim_is_named(&image->durable, i))
            image->inode[i] = cut_file(&chance, inode);
        else
            decide_file(&chance, inode, NULL); /* the bits of a mask must not move */
    }
}

/* The page cache keeps what was not synced, and what was in flight goes on. */
static void copy_changes(struct simdisk *image, struct inode *copy, const struct inode *inode)
{
    for (size_t i = 0; i < inode->changes; ++i) {
        if (inode->change[i].blob)
            ++inode->change[i].blob->owners;
        struct change *change = sim_add_change(copy, inode->change[i]);
        if (change->is_in_flight)
            leave_ghost(image, copy, change);
    }
}

/* What a killed process leaves of a file: everything. */
static struct inode *keep_file(struct simdisk *image, const struct inode *inode)
{
    struct inode *copy = inode_copy(inode, inode->view, inode->view_bytes);
    if (inode->behind)
        copy->behind = content_share(inode->behind);
    copy_changes(image, copy, inode);

    const bool is_shared_memory = inode->page && !inode->is_page_of_file;
    if (is_shared_memory) {
        sim_allocate_page(copy, inode->page_bytes);
        memcpy(copy->page, inode->page, inode->page_bytes);
    }
    return copy;
}

static void kill_process(struct simdisk *image, const struct simdisk *disk)
{
    sim_copy_directory(&image->durable, &disk->durable);
    sim_copy_directory(&image->view, &disk->view);
    sim_copy_directory(&image->dir_change, &disk->dir_change);
    image->is_split = disk->is_split;

    for (size_t i = 0; i < disk->inodes; ++i) {
        if (disk->inode[i])
            image->inode[i] = keep_file(image, disk->inode[i]);
    }
}

struct simdisk *simdisk_crash_image(const struct simdisk *disk, enum simdisk_cut cut, uint64_t seed)
{
    struct simdisk_options options = disk->options;
    options.seed = rng_mix(seed ^ rng_mix(disk->rng.state));
    options.clock_ns = disk->clock_ns;

    struct simdisk *image = simdisk_create(&options);
    image->inodes = disk->inodes;
    image->inode = sim_allocate((disk->inodes + 1) * sizeof(*image->inode));
    memset(image->inode, 0, (disk->inodes + 1) * sizeof(*image->inode));
    image->lies = disk->lies;

    if (cut == SIM_KILL)
        kill_process(image, disk);
    else
        cut_power(image, disk, cut, seed);
    return image;
}
