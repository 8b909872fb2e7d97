/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapped files: what a process stores in them gets into the page cache without an operation. So before each operation
 * the pages are compared with the cache, and the sectors that differ become unsynced writes. From there they go to the
 * disk as all others do, in any order.
 *
 * The disk reads a sector while the process stores in it, now and then: then it has what one end had before, and the
 * other one after.
 */
#include "simdisk_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BYTES 8u /* is stored at once */
#define MIXED_ONE_IN 8u

static uint64_t mapped_bytes(const struct inode *inode)
{
    if (!inode->is_page_of_file)
        return 0;
    return min_u64(inode->page_bytes, inode->view_bytes);
}

void sim_map_file(struct inode *inode, size_t bytes)
{
    sim_allocate_page(inode, bytes);
    inode->is_page_of_file = true;
    sim_show_in_pages(inode, 0, bytes);
}

void sim_unmap_file(struct simdisk *disk, struct inode *inode)
{
    sim_take_stores(disk);
    free(inode->page);
    inode->page = NULL;
    inode->page_bytes = 0;
    inode->is_page_of_file = false;
}

void sim_show_in_pages(struct inode *inode, uint64_t offset, uint64_t size)
{
    const uint64_t end = min_u64(offset + size, inode->page_bytes);
    if (inode->is_page_of_file && offset < end)
        content_read(inode->view, offset, (unsigned char *)inode->page + offset, (size_t)(end - offset));
}

/* The disk has read the sector while the process stored in it: one end is old, and the other one new. */
static void write_mixed_sector(struct simdisk *disk, struct inode *inode, uint64_t at,
                               const unsigned char *stored, size_t size)
{
    unsigned char mixed[SECTOR_BYTES];
    const size_t middle = WORD_BYTES * (size_t)rng_below(&disk->rng, size / WORD_BYTES + 1);
    const bool is_front_new = rng_one_in(&disk->rng, 2);

    content_read(inode->view, at, mixed, size);
    if (is_front_new)
        memcpy(mixed, stored, middle);
    else
        memcpy(mixed + middle, stored + middle, size - middle);
    sim_add_write(inode, mixed, size, at, false);
}

static void take_sector(struct simdisk *disk, struct inode *inode, uint64_t at, size_t size)
{
    unsigned char stored[SECTOR_BYTES];
    memcpy(stored, (const unsigned char *)inode->page + at, size);
    if (content_equals(inode->view, at, stored, size))
        return;

    if (rng_one_in(&disk->rng, MIXED_ONE_IN))
        write_mixed_sector(disk, inode, at, stored, size);
    sim_change_file(inode, stored, size, at, false);
}

static void take_stores(struct simdisk *disk, struct inode *inode)
{
    const unsigned char *page = inode->page;
    const uint64_t end = mapped_bytes(inode);

    for (uint64_t at = 0; at < end; at += BLOCK_BYTES) {
        const uint64_t next = min_u64(at + BLOCK_BYTES, end);
        const bool is_unchanged = content_equals(inode->view, at, page + at, (size_t)(next - at));
        if (is_unchanged)
            continue;
        for (uint64_t sector = at; sector < next; sector += SECTOR_BYTES)
            take_sector(disk, inode, sector, (size_t)min_u64(SECTOR_BYTES, next - sector));
    }
}

void sim_take_stores(struct simdisk *disk)
{
    for (size_t i = 0; i < disk->inodes; ++i) {
        struct inode *inode = disk->inode[i];
        if (inode && inode->is_page_of_file)
            take_stores(disk, inode);
    }
}

void simdisk_notice_stores(struct simdisk *disk, const char *place)
{
    sim_begin(disk, SIM_STORE, NULL, place, 0, 0);
    sim_call_hook(disk, SIM_STORE);
}

struct inode *sim_find_mapped(const struct simdisk *disk, const unsigned char *bytes)
{
    for (size_t i = 0; i < disk->inodes; ++i) {
        struct inode *inode = disk->inode[i];
        if (!inode || !inode->page)
            continue;
        const unsigned char *page = inode->page;
        if (bytes >= page && bytes < page + inode->page_bytes)
            return inode;
    }
    return NULL;
}

int simdisk_sync_pages(struct simdisk *disk, const void *bytes, size_t size)
{
    struct inode *inode = sim_find_mapped(disk, bytes);
    if (!inode || !inode->is_page_of_file)
        return -ENOMEM;

    const uint64_t offset = (uint64_t)((const unsigned char *)bytes - (const unsigned char *)inode->page);
    const int error = sim_begin(disk, SIM_SYNC, inode, NULL, offset, size);
    const bool is_lie = sim_is_lying(disk, SIM_SYNC) || sim_is_lying(disk, SIM_STORE);

    if (error < 0)
        sim_sync_in_vain(disk, inode);
    else if (!is_lie && disk->options.is_barrier_narrow)
        sim_sync_write(inode, &(struct change){ .offset = offset, .size = size });
    else if (!is_lie)
        sim_sync_file(inode);
    sim_call_hook(disk, SIM_SYNC);
    return error;
}
