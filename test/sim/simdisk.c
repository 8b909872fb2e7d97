/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the simulated disk knows: files and their unsynced changes, the directory, faults. See simdisk.h for the rules.
 */
#include "simdisk_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const OP_NAMES[SIM_OPS + 1] = {
    "open",     "create",    "size",   "read",        "write",   "allocate", "truncate", "sync",
    "lock",     "is_locked", "links",  "map",         "view",    "list",     "rename",   "unlink",
    "sync_dir", "link",      "submit", "group-write", "barrier", "random",   "store",    "any",
};

const char *simdisk_op_name(enum simdisk_op op)
{
    return OP_NAMES[op];
}

_Noreturn void sim_misuse(const char *what)
{
    fprintf(stderr, "simdisk: the interface was broken: %s\n", what);
    abort();
}

/* ---- files --------------------------------------------------------------------------------------- */

static bool is_zero(const unsigned char *bytes, size_t size)
{
    if (size == 0)
        return true;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

struct blob *sim_blob_create(const unsigned char *bytes, size_t size)
{
    if (is_zero(bytes, size))
        return NULL;

    struct blob *blob = sim_allocate(sizeof(*blob) + size);
    blob->owners = 1;
    memcpy(blob->bytes, bytes, size);
    return blob;
}

static void blob_release(struct blob *blob)
{
    if (!blob)
        return;
    --blob->owners;
    if (blob->owners == 0)
        free(blob);
}

bool sim_blob_equals(const struct blob *blob, const unsigned char *bytes, size_t size)
{
    if (!blob)
        return is_zero(bytes, size);
    return memcmp(blob->bytes, bytes, size) == 0;
}

const unsigned char *sim_change_bytes(const struct change *change, size_t from)
{
    if (!change->blob)
        return NULL;
    return change->blob->bytes + from;
}

struct inode *sim_inode_create(void)
{
    struct inode *inode = sim_allocate(sizeof(*inode));
    *inode = (struct inode){ .durable = content_create(), .view = content_create() };
    return inode;
}

static void sim_inode_destroy(struct inode *inode)
{
    if (!inode)
        return;
    if (inode->mappings > 0)
        sim_misuse("a page is still mapped");

    for (size_t i = 0; i < inode->changes; ++i)
        blob_release(inode->change[i].blob);
    free(inode->change);
    free(inode->page);

    content_release(inode->durable);
    content_release(inode->view);
    if (inode->behind)
        content_release(inode->behind);
    free(inode);
}

/* Or makes it longer, unless it is that long. */
void sim_allocate_page(struct inode *inode, size_t bytes)
{
    if (bytes <= inode->page_bytes)
        return;
    if (inode->mappings > 0)
        sim_misuse("a shared page was mapped with another size");

    unsigned char *page = aligned_alloc(BLOCK_BYTES, align_up(bytes, BLOCK_BYTES));
    if (!page)
        sim_misuse("no memory for a shared page");
    if (inode->page)
        memcpy(page, inode->page, inode->page_bytes);
    memset(page + inode->page_bytes, 0, bytes - inode->page_bytes);

    free(inode->page);
    inode->page = page;
    inode->page_bytes = bytes;
}

struct change *sim_add_change(struct inode *inode, struct change change)
{
    if (inode->changes == inode->change_room) {
        inode->change_room = 2 * inode->change_room + 4;
        inode->change = sim_reallocate(inode->change, inode->change_room * sizeof(*inode->change));
    }
    inode->change[inode->changes] = change;
    return &inode->change[inode->changes++];
}

void sim_remove_change(struct inode *inode, size_t index)
{
    blob_release(inode->change[index].blob);
    --inode->changes;
    memmove(&inode->change[index], &inode->change[index + 1],
            (inode->changes - index) * sizeof(*inode->change));
}

/* ---- the page cache ------------------------------------------------------------------------------ */

static void copy_sectors(struct content **to, const struct content *from, uint64_t offset, uint64_t end)
{
    unsigned char bytes[SECTOR_BYTES];
    uint64_t at = offset;

    while (at < end) {
        const size_t part = sim_part_of_sector(at, (size_t)(end - at));
        content_read(from, at, bytes, part);
        content_write(to, at, bytes, part);
        at += part;
    }
}

void sim_drop_pages(struct inode *inode, uint64_t offset, uint64_t size)
{
    if (!inode->behind)
        return;

    const uint64_t from = align_down(offset, BLOCK_BYTES);
    const uint64_t file_end = align_up(inode->view_bytes, BLOCK_BYTES);
    const uint64_t end = min_u64(align_up(offset + size, BLOCK_BYTES), file_end);
    copy_sectors(&inode->view, inode->behind, from, end);
    sim_show_in_pages(inode, from, size + BLOCK_BYTES);
}

/* Now and then pages that are in the cache only go: all of them, or one of each file. */
static void sim_evict(struct simdisk *disk)
{
    if (!disk->is_split || disk->options.keeps_pages || !rng_one_in(&disk->rng, EVICTION_OPS))
        return;

    const bool goes_all = rng_one_in(&disk->rng, 2);
    for (size_t i = 0; i < disk->inodes; ++i) {
        struct inode *inode = disk->inode[i];
        if (!inode || !inode->behind)
            continue;
        if (goes_all)
            sim_drop_pages(inode, 0, inode->view_bytes);
        else
            sim_drop_pages(inode, rng_below(&disk->rng, inode->view_bytes + 1), 1);
    }
}

/* Also what is in the cache alone, where it shares a page with what is written. */
static void show_behind(struct inode *inode, const struct change *change)
{
    if (!inode->behind)
        return;
    if (change->is_direct)
        sim_drop_pages(inode, change->offset, change->size);
    content_write(&inode->behind, change->offset, sim_change_bytes(change, 0), change->size);
}

void sim_show_change(struct inode *inode, struct change *change)
{
    const uint64_t end = max_u64(change->offset + change->size, change->grows_to);

    show_behind(inode, change);
    content_write(&inode->view, change->offset, sim_change_bytes(change, 0), change->size);

    const bool does_grow = end > inode->view_bytes;
    change->grows_to = does_grow ? end : 0;
    inode->view_bytes = max_u64(inode->view_bytes, end);
}

/* A process that has the file mapped sees it, too. */
static void show_in_page(struct inode *inode, const unsigned char *bytes, size_t size, uint64_t offset)
{
    if (inode->page && offset < inode->page_bytes)
        memcpy((char *)inode->page + offset, bytes, min_u64(size, inode->page_bytes - offset));
}

void sim_add_write(struct inode *inode, const unsigned char *bytes, size_t size, uint64_t offset,
                   bool is_direct)
{
    const struct change change = {
        .offset = offset, .size = size, .blob = sim_blob_create(bytes, size), .is_direct = is_direct
    };
    sim_show_change(inode, sim_add_change(inode, change));
}

/* A page is written back whole: with it go the bytes beside the write that were in the cache only. */
static void dirty_rest_of_page(struct inode *inode, uint64_t offset, uint64_t page_end)
{
    unsigned char bytes[BLOCK_BYTES];
    const uint64_t end = min_u64(page_end, inode->view_bytes);
    if (!inode->behind || offset >= end)
        return;

    const size_t size = (size_t)(end - offset);
    content_read(inode->view, offset, bytes, size);
    if (!content_equals(inode->behind, offset, bytes, size))
        sim_add_write(inode, bytes, size, offset, false);
}

void sim_change_file(struct inode *inode, const unsigned char *bytes, size_t size, uint64_t offset,
                     bool is_direct)
{
    if (!is_direct) {
        dirty_rest_of_page(inode, align_down(offset, BLOCK_BYTES), offset);
        dirty_rest_of_page(inode, offset + size, align_up(offset + size, BLOCK_BYTES));
    }
    sim_add_write(inode, bytes, size, offset, is_direct);
    show_in_page(inode, bytes, size, offset);
}

size_t sim_part_of_sector(uint64_t at, size_t size)
{
    return (size_t)min_u64(size, SECTOR_BYTES - at % SECTOR_BYTES);
}

void sim_change_some_sectors(struct simdisk *disk, struct inode *inode, const unsigned char *bytes,
                             size_t size, uint64_t offset, bool is_direct)
{
    size_t from = 0;

    while (from < size) {
        const size_t part = sim_part_of_sector(offset + from, size - from);
        if (rng_one_in(&disk->rng, 2))
            sim_change_file(inode, bytes + from, part, offset + from, is_direct);
        from += part;
    }
}

void sim_grow_file(struct inode *inode, uint64_t bytes)
{
    if (bytes > inode->view_bytes)
        sim_show_change(inode, sim_add_change(inode, (struct change){ .grows_to = bytes }));
}

/* Those that neither write nor grow. */
static void forget_empty_changes(struct inode *inode)
{
    for (size_t i = inode->changes; i-- > 0;) {
        const struct change *change = &inode->change[i];
        const bool does_grow = change->grows_to > inode->durable_bytes;
        if (change->size == 0 && !does_grow)
            sim_remove_change(inode, i);
    }
}

/* Of the change only what lies in front of the new end of the file is left. */
static void shorten_change(struct change *change, uint64_t file_bytes)
{
    if (change->offset < file_bytes)
        change->size = (size_t)min_u64(change->size, file_bytes - change->offset);
    else
        change->size = 0;
    change->grows_to = min_u64(change->grows_to, file_bytes);
}

void sim_shorten_file(struct inode *inode, uint64_t bytes)
{
    if (bytes >= inode->view_bytes)
        return;

    for (size_t i = 0; i < inode->changes; ++i) {
        struct change *change = &inode->change[i];
        if (!change->is_in_flight) /* such a write may still make the file longer */
            shorten_change(change, bytes);
    }

    inode->view_bytes = bytes;
    inode->durable_bytes = min_u64(inode->durable_bytes, bytes);
    content_truncate(&inode->view, bytes);
    content_truncate(&inode->durable, inode->durable_bytes);
    if (inode->behind)
        content_truncate(&inode->behind, bytes);

    forget_empty_changes(inode);
    sim_show_in_pages(inode, bytes, UINT32_MAX);
}

static void make_durable(struct inode *inode, const struct change *change)
{
    content_write(&inode->durable, change->offset, sim_change_bytes(change, 0), change->size);
    inode->durable_bytes = max_u64(inode->durable_bytes, change->grows_to);
}

/* The change is lost. Reads show again what is durable, and the changes that may still become so: those past the page
 * cache, and the others as well if the write went past it. */
static void hide_change(struct inode *inode, const struct change *change)
{
    const uint64_t end = change->offset + change->size;

    if (!inode->behind && !change->is_direct)
        inode->behind = content_share(inode->view);
    if (inode->behind)
        copy_sectors(&inode->behind, inode->durable, change->offset, end);
    if (change->is_direct)
        copy_sectors(&inode->view, inode->durable, change->offset, end);
}

/* All reads show it, past the page cache, too. */
static void write_through(struct inode *inode, const struct change *change)
{
    const unsigned char *bytes = sim_change_bytes(change, 0);

    content_write(&inode->view, change->offset, bytes, change->size);
    if (inode->behind)
        content_write(&inode->behind, change->offset, bytes, change->size);
}

static void show_changes(struct inode *inode)
{
    for (size_t i = 0; i < inode->changes; ++i) {
        const struct change *change = &inode->change[i];
        if (!change->is_in_flight)
            write_through(inode, change);
    }
}

void sim_sync_file(struct inode *inode)
{
    size_t kept = 0;
    for (size_t i = 0; i < inode->changes; ++i) {
        struct change *change = &inode->change[i];
        if (change->is_in_flight) {
            inode->change[kept] = *change;
            ++kept;
            continue;
        }
        make_durable(inode, change);
        blob_release(change->blob);
    }
    inode->changes = kept;
    content_truncate(&inode->durable, inode->durable_bytes);
}

/* A page of a change came to the disk, though the sync of it has failed. */
static void keep_page(struct inode *inode, const struct change *change, uint64_t offset, size_t size)
{
    const unsigned char *bytes = sim_change_bytes(change, (size_t)(offset - change->offset));

    content_write(&inode->durable, offset, bytes, size);
    if (inode->behind)
        content_write(&inode->behind, offset, bytes, size);
}

/* The kernel tells of the failure, and from then on takes the pages of the change for clean. Each of them came to the
 * disk or did not. */
static void lose_pages(struct inode *inode, const struct change *change, struct rng *rng)
{
    const uint64_t end = change->offset + change->size;
    uint64_t at = change->offset;

    const bool has_grown = rng_one_in(rng, 2);
    if (has_grown)
        inode->durable_bytes = max_u64(inode->durable_bytes, change->grows_to);

    while (at < end) {
        const uint64_t page_end = min_u64(align_down(at, BLOCK_BYTES) + BLOCK_BYTES, end);
        const struct change page = { .offset = at, .size = (size_t)(page_end - at) };
        const bool is_lost = rng_one_in(rng, 2);
        if (is_lost)
            hide_change(inode, &page);
        else
            keep_page(inode, change, page.offset, page.size);
        at = page_end;
    }
}

enum fate {
    FATE_LOST,
    FATE_DURABLE,
    FATE_PENDING,
    FATES
};

/* What becomes of a direct write of which a sync has failed, if it is not pending. */
static void settle_direct(struct inode *inode, const struct change *change, enum fate fate)
{
    if (fate == FATE_LOST) {
        hide_change(inode, change);
        return;
    }
    make_durable(inode, change);
    if (change->size > 0) /* a part of it may have been hidden with another change */
        write_through(inode, change);
}

void sim_sync_in_vain(struct simdisk *disk, struct inode *inode)
{
    size_t kept = 0;

    disk->is_split = true;
    for (size_t i = 0; i < inode->changes; ++i) {
        struct change *change = &inode->change[i];
        const enum fate fate = (enum fate)rng_below(&disk->rng, FATES);
        const bool is_pending = change->is_direct && fate == FATE_PENDING;
        if (change->is_in_flight || is_pending) {
            inode->change[kept] = *change;
            ++kept;
            continue;
        }

        if (change->is_direct)
            settle_direct(inode, change, fate);
        else
            lose_pages(inode, change, &disk->rng);
        blob_release(change->blob);
    }
    inode->changes = kept;

    content_truncate(&inode->durable, inode->durable_bytes);
    show_changes(inode);
}

static bool overlaps(const struct change *a, const struct change *b)
{
    return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

/* A part of a change, with bytes of its own. */
static struct change part_of_change(const struct change *change, uint64_t from, uint64_t to)
{
    struct change part = { .offset = from, .size = (size_t)(to - from) };
    if (change->blob)
        part.blob = sim_blob_create(change->blob->bytes + (from - change->offset), part.size);
    return part;
}

static void insert_change(struct inode *inode, size_t index, struct change change)
{
    sim_add_change(inode, change);
    memmove(&inode->change[index + 1], &inode->change[index],
            (inode->changes - 1 - index) * sizeof(*inode->change));
    inode->change[index] = change;
}

/* Makes durable what lies inside `write` of the change at `index`, and leaves what lies before and behind as
 * two changes in its place. */
static void sync_overlap(struct inode *inode, size_t index, const struct change *write)
{
    struct change change = inode->change[index];
    const uint64_t change_end = change.offset + change.size, write_end = write->offset + write->size;
    const uint64_t from = max_u64(change.offset, write->offset), to = min_u64(change_end, write_end);

    content_write(&inode->durable, from, sim_change_bytes(&change, (size_t)(from - change.offset)),
                  (size_t)(to - from));

    struct change head = part_of_change(&change, change.offset, from);
    head.is_direct = change.is_direct;
    head.grows_to = change.grows_to;
    struct change tail = part_of_change(&change, to, change_end);
    tail.is_direct = change.is_direct;

    inode->change[index] = head;
    insert_change(inode, index + 1, tail);
    blob_release(change.blob);
}

void sim_sync_write(struct inode *inode, const struct change *write)
{
    size_t i = 0;

    while (i < inode->changes) {
        const struct change *change = &inode->change[i];
        const bool is_covered = !change->is_in_flight && overlaps(change, write);
        if (is_covered) {
            sync_overlap(inode, i, write);
            i += 2; /* what lies before and behind is left */
        } else {
            i += 1;
        }
    }

    const uint64_t write_end = min_u64(inode->view_bytes, write->offset + write->size);
    inode->durable_bytes = max_u64(inode->durable_bytes, write_end);
    content_truncate(&inode->durable, inode->durable_bytes);
    forget_empty_changes(inode);
}

struct change *sim_find_in_flight(struct inode *inode, bool is_ghost)
{
    for (size_t i = inode->changes; i-- > 0;) {
        struct change *change = &inode->change[i];
        if (change->is_in_flight && change->is_ghost == is_ghost)
            return change;
    }
    return NULL;
}

/* ---- locks --------------------------------------------------------------------------------------- */

void sim_hold(struct inode *inode, enum io_lock which, enum sim_hold hold)
{
    if (hold == HOLDS_SHARED)
        ++inode->lock[which].shared;
    if (hold == HOLDS_EXCLUSIVE)
        ++inode->lock[which].exclusive;
}

void sim_let_go(struct inode *inode, enum io_lock which, enum sim_hold hold)
{
    if (hold == HOLDS_SHARED)
        --inode->lock[which].shared;
    if (hold == HOLDS_EXCLUSIVE)
        --inode->lock[which].exclusive;
}

/* ---- the directory ------------------------------------------------------------------------------- */

static void add_entry(struct directory *dir, const char *name, size_t inode)
{
    if (dir->entries == dir->room) {
        dir->room = 2 * dir->room + 8;
        dir->entry = sim_reallocate(dir->entry, dir->room * sizeof(*dir->entry));
    }
    struct entry *entry = &dir->entry[dir->entries++];
    memset(entry, 0, sizeof(*entry));
    memcpy(entry->name, name, strlen(name));
    entry->inode = inode;
}

bool sim_is_named(const struct directory *dir, size_t inode)
{
    for (size_t i = 0; i < dir->entries; ++i) {
        if (dir->entry[i].inode == inode)
            return true;
    }
    return false;
}

const struct entry *sim_find_name(const struct directory *dir, const char *name)
{
    for (size_t i = 0; i < dir->entries; ++i) {
        if (strcmp(dir->entry[i].name, name) == 0)
            return &dir->entry[i];
    }
    return NULL;
}

/* A file has one name, and a name one file: what either had before is gone. */
void sim_name_file(struct directory *dir, const char *name, size_t inode)
{
    size_t kept = 0;

    for (size_t i = 0; i < dir->entries; ++i) {
        const struct entry *entry = &dir->entry[i];
        const bool is_replaced = entry->inode == inode || strcmp(entry->name, name) == 0;
        if (!is_replaced) {
            dir->entry[kept] = *entry;
            ++kept;
        }
    }
    dir->entries = kept;
    if (name[0] != '\0')
        add_entry(dir, name, inode);
}

void sim_change_directory(struct simdisk *disk, const char *name, size_t inode)
{
    sim_name_file(&disk->view, name, inode);
    add_entry(&disk->dir_change, name, inode);
}

void sim_copy_directory(struct directory *to, const struct directory *from)
{
    to->entries = from->entries;
    to->room = from->entries;
    to->entry = sim_reallocate(to->entry, (from->entries + 1) * sizeof(*to->entry));
    if (from->entries > 0)
        memcpy(to->entry, from->entry, from->entries * sizeof(*to->entry));
}

void sim_sync_directory(struct simdisk *disk)
{
    sim_copy_directory(&disk->durable, &disk->view);
    disk->dir_change.entries = 0;
}

/* Those that were changed first, up to some one. */
void sim_sync_some_names(struct simdisk *disk)
{
    size_t kept = 0;

    for (size_t i = 0; i < disk->dir_change.entries; ++i) {
        const struct entry entry = disk->dir_change.entry[i];
        if (kept == 0 && rng_one_in(&disk->rng, 2)) {
            sim_name_file(&disk->durable, entry.name, entry.inode);
        } else {
            disk->dir_change.entry[kept] = entry;
            ++kept;
        }
    }
    disk->dir_change.entries = kept;
}

/* ---- the machine --------------------------------------------------------------------------------- */

struct simdisk *simdisk_create(const struct simdisk_options *options)
{
    struct simdisk *disk = sim_allocate(sizeof(*disk));
    memset(disk, 0, sizeof(*disk));
    disk->options = *options;
    disk->rng.state = options->seed;
    disk->clock_ns = options->clock_ns;
    return disk;
}

void simdisk_destroy(struct simdisk *disk)
{
    if (disk->processes > 0)
        sim_misuse("an io was not destroyed");

    for (size_t i = 0; i < disk->inodes; ++i)
        sim_inode_destroy(disk->inode[i]);
    free(disk->inode);
    free(disk->durable.entry);
    free(disk->view.entry);
    free(disk->dir_change.entry);
    free(disk);
}

void simdisk_set_clock(struct simdisk *disk, int64_t now_ns)
{
    disk->clock_ns = now_ns;
}

int64_t simdisk_clock(const struct simdisk *disk)
{
    return disk->clock_ns;
}

size_t simdisk_sample(const struct simdisk *disk, struct rng *rng, void *bytes, size_t size)
{
    if (disk->view.entries == 0)
        return 0;

    const struct entry *entry = &disk->view.entry[rng_below(rng, disk->view.entries)];
    const struct inode *inode = disk->inode[entry->inode];
    if (inode->view_bytes == 0)
        return 0;

    const uint64_t offset = align_down(rng_below(rng, inode->view_bytes), 8);
    const size_t part = (size_t)min_u64(size, inode->view_bytes - offset);
    content_read(inode->view, offset, bytes, part);
    return part;
}

void simdisk_set_hook(struct simdisk *disk, simdisk_hook *hook, void *context)
{
    disk->hook = hook;
    disk->hook_context = context;
}

void sim_call_hook(struct simdisk *disk, enum simdisk_op op)
{
    if (!disk->hook || disk->is_in_hook)
        return;
    disk->is_in_hook = true;
    disk->hook(disk->hook_context, op);
    disk->is_in_hook = false;
}

/* A write of a killed process is done, or never will be; the locks that were held for it are free. */
static void land_ghost(struct simdisk *disk, struct inode *inode, struct change *change)
{
    change->is_in_flight = false;
    for (unsigned which = 0; which < SIM_LOCKS; ++which)
        sim_let_go(inode, which, change->holds[which]);

    const bool is_dropped = rng_one_in(&disk->rng, 4);
    if (is_dropped)
        sim_remove_change(inode, (size_t)(change - inode->change));
    else
        sim_show_change(inode, change);
}

void sim_land_ghosts(struct simdisk *disk)
{
    disk->ghost_ops = 0;
    for (size_t i = 0; i < disk->inodes; ++i) {
        struct inode *inode = disk->inode[i];
        if (!inode)
            continue;
        struct change *ghost = sim_find_in_flight(inode, true);
        if (ghost)
            land_ghost(disk, inode, ghost);
    }
}

bool simdisk_has_ghost(const struct simdisk *disk)
{
    return disk->ghost_ops > 0;
}

bool simdisk_is_split(const struct simdisk *disk)
{
    return disk->is_split;
}

/* ---- faults -------------------------------------------------------------------------------------- */

void simdisk_inject(struct simdisk *disk, const struct simdisk_fault *fault)
{
    if (!fault) {
        disk->fault_left = 0;
        return;
    }
    disk->fault = *fault;
    disk->fault_left = fault->nth;
}

uint64_t simdisk_faults(const struct simdisk *disk)
{
    return disk->faults;
}

uint64_t simdisk_count(const struct simdisk *disk, enum simdisk_op op)
{
    return disk->count[op];
}

void simdisk_lie(struct simdisk *disk, enum simdisk_op op)
{
    disk->lies |= 1u << op;
}

bool sim_is_lying(const struct simdisk *disk, enum simdisk_op op)
{
    return (disk->lies & 1u << op) != 0;
}

/* Counts an operation, and tells whether it is one that is to fail. */
static bool strikes(struct simdisk *disk, enum simdisk_op op)
{
    const bool is_meant = disk->fault.op == SIM_ANY || disk->fault.op == op;
    if (disk->fault_left == 0 || !is_meant)
        return false;

    --disk->fault_left;
    if (disk->fault_left > 0)
        return false;
    if (disk->fault.is_forever)
        disk->fault_left = 1;
    ++disk->faults;
    return true;
}

void simdisk_set_turn(struct simdisk *disk, void (*turn)(void *context), void *context)
{
    disk->turn = turn;
    disk->turn_context = context;
}

void sim_take_turn(struct simdisk *disk)
{
    if (disk->turn && !disk->is_in_hook)
        disk->turn(disk->turn_context);
}

static void note_last(struct simdisk *disk, enum simdisk_op op, const struct inode *inode, const char *name,
                      uint64_t offset, size_t size)
{
    disk->last.op = op;
    disk->last.inode = inode;
    disk->last.offset = offset;
    disk->last.size = size;
    disk->last.error = 0;
    disk->last.name[0] = '\0';
    if (name)
        snprintf(disk->last.name, sizeof(disk->last.name), "%s", name);
}

int sim_begin(struct simdisk *disk, enum simdisk_op op, const struct inode *inode, const char *name,
              uint64_t offset, size_t size)
{
    /* Others may go on first. A group's write had its turn before it was looked up. */
    if (op != SIM_GROUP_WRITE)
        sim_take_turn(disk);
    sim_take_stores(disk);

    ++disk->count[op];
    ++disk->count[SIM_ANY];

    if (disk->ghost_ops > 0) {
        --disk->ghost_ops;
        if (disk->ghost_ops == 0)
            sim_land_ghosts(disk);
    }
    sim_evict(disk);

    note_last(disk, op, inode, name, offset, size);
    if (strikes(disk, op))
        disk->last.error = disk->fault.error;
    return disk->last.error;
}

/* The name of its file now, or the name that it was given. */
static const char *name_of_last(const struct simdisk *disk)
{
    const char *name = disk->last.name;
    if (!disk->last.inode)
        return name;

    for (size_t i = 0; i < disk->view.entries; ++i) {
        const struct entry *entry = &disk->view.entry[i];
        if (disk->inode[entry->inode] == disk->last.inode)
            name = entry->name;
    }
    return name;
}

const char *simdisk_last(struct simdisk *disk)
{
    char *text = disk->last.text;
    const size_t room = sizeof(disk->last.text);

    int length = snprintf(text, room, "%s %s", OP_NAMES[disk->last.op], name_of_last(disk));
    if (disk->last.size > 0)
        length += snprintf(text + length, room - (size_t)length, " %llu+%zu",
                           (unsigned long long)disk->last.offset, disk->last.size);
    if (disk->last.error != 0)
        snprintf(text + length, room - (size_t)length, " (failed: %s)", strerror(-disk->last.error));
    return text;
}
