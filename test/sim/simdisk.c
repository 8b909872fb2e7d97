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
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
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
    if (blob && --blob->owners == 0)
        free(blob);
}

bool sim_blob_equals(const struct blob *blob, const unsigned char *bytes, size_t size)
{
    return blob ? memcmp(blob->bytes, bytes, size) == 0 : is_zero(bytes, size);
}

const unsigned char *sim_change_bytes(const struct change *change, size_t from)
{
    return change->blob ? change->blob->bytes + from : NULL;
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
    memset(page + inode->page_bytes, 0, bytes - inode->page_bytes);
    if (inode->page)
        memcpy(page, inode->page, inode->page_bytes);
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
    for (uint64_t at = offset, part; at < end; at += part) {
        part = sim_part_of_sector(at, (size_t)(end - at));
        content_read(from, at, bytes, (size_t)part);
        content_write(to, at, bytes, (size_t)part);
    }
}

void sim_drop_pages(struct inode *inode, uint64_t offset, uint64_t size)
{
    if (!inode->behind)
        return;
    const uint64_t end =
        min_u64(align_up(offset + size, BLOCK_BYTES), align_up(inode->view_bytes, BLOCK_BYTES));
    copy_sectors(&inode->view, inode->behind, align_down(offset, BLOCK_BYTES), end);
    sim_show_in_pages(inode, align_down(offset, BLOCK_BYTES), size + BLOCK_BYTES);
}

/* Some pages that are in the cache only go, or none. */
static void sim_evict(struct simdisk *disk)
{
    if (!disk->is_split || disk->options.keeps_pages || !rng_one_in(&disk->rng, EVICTION_OPS))
        return;
    const bool goes_all = rng_one_in(&disk->rng, 2);
    for (size_t i = 0; i < disk->inodes; ++i) {
        struct inode *inode = disk->inode[i];
        if (inode && inode->behind && goes_all)
            sim_drop_pages(inode, 0, inode->view_bytes);
        else if (inode && inode->behind)
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
    change->grows_to = end > inode->view_bytes ? end : 0;
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
static void dirty_rest_of_page(struct inode *inode, uint64_t offset, uint64_t end)
{
    unsigned char bytes[BLOCK_BYTES];
    end = min_u64(end, inode->view_bytes);
    if (!inode->behind || offset >= end)
        return;
    content_read(inode->view, offset, bytes, (size_t)(end - offset));
    if (!content_equals(inode->behind, offset, bytes, (size_t)(end - offset)))
        sim_add_write(inode, bytes, (size_t)(end - offset), offset, false);
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
    for (size_t from = 0, part; from < size; from += part) {
        part = sim_part_of_sector(offset + from, size - from);
        if (rng_one_in(&disk->rng, 2))
            sim_change_file(inode, bytes + from, part, offset + from, is_direct);
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
    for (size_t i = inode->changes; i-- > 0;)
        if (inode->change[i].size == 0 && inode->change[i].grows_to <= inode->durable_bytes)
            sim_remove_change(inode, i);
}

/* A write in flight may still make the file longer. */
void sim_shorten_file(struct inode *inode, uint64_t bytes)
{
    if (bytes >= inode->view_bytes)
        return;
    for (size_t i = inode->changes; i-- > 0;) {
        struct change *change = &inode->change[i];
        if (change->is_in_flight)
            continue;
        change->size = change->offset < bytes ? (size_t)min_u64(change->size, bytes - change->offset) : 0;
        change->grows_to = min_u64(change->grows_to, bytes);
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

/* Reads show again what is durable, and the changes that may still become so: those past the page cache, and the
 * others as well if the write went past it. */
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

static void show_changes(struct inode *inode)
{
    for (size_t i = 0; i < inode->changes; ++i) {
        const struct change *change = &inode->change[i];
        if (change->is_in_flight)
            continue;
        content_write(&inode->view, change->offset, sim_change_bytes(change, 0), change->size);
        if (inode->behind)
            content_write(&inode->behind, change->offset, sim_change_bytes(change, 0), change->size);
    }
}

void sim_sync_file(struct inode *inode)
{
    size_t kept = 0;
    for (size_t i = 0; i < inode->changes; ++i) {
        struct change *change = &inode->change[i];
        if (change->is_in_flight) {
            inode->change[kept++] = *change;
            continue;
        }
        make_durable(inode, change);
        blob_release(change->blob);
    }
    inode->changes = kept;
    content_truncate(&inode->durable, inode->durable_bytes);
}

/* The kernel tells of the failure, and from then on takes those pages for clean. */
static void lose_pages(struct inode *inode, const struct change *change, struct rng *rng)
{
    const uint64_t end = change->offset + change->size;
    if (rng_one_in(rng, 2))
        inode->durable_bytes = max_u64(inode->durable_bytes, change->grows_to);
    for (uint64_t at = change->offset, next; at < end; at = next) {
        next = min_u64(align_down(at, BLOCK_BYTES) + BLOCK_BYTES, end);
        struct change part = { .offset = at, .size = (size_t)(next - at) };
        if (rng_one_in(rng, 2)) {
            hide_change(inode, &part);
            continue;
        }
        const unsigned char *bytes = sim_change_bytes(change, (size_t)(at - change->offset));
        content_write(&inode->durable, at, bytes, part.size);
        if (inode->behind)
            content_write(&inode->behind, at, bytes, part.size);
    }
}

void sim_sync_in_vain(struct simdisk *disk, struct inode *inode)
{
    size_t kept = 0;
    disk->is_split = true;
    for (size_t i = 0; i < inode->changes; ++i) {
        struct change *change = &inode->change[i];
        const uint64_t fate = rng_below(&disk->rng, 3);
        if (change->is_in_flight || (change->is_direct && fate == 2)) {
            inode->change[kept++] = *change;
            continue;
        }
        if (!change->is_direct) {
            lose_pages(inode, change, &disk->rng);
        } else if (fate == 1) {
            make_durable(inode, change);
            /* a part of it may have been hidden with another change */
            if (change->size > 0)
                content_write(&inode->view, change->offset, sim_change_bytes(change, 0), change->size);
            if (inode->behind)
                content_write(&inode->behind, change->offset, sim_change_bytes(change, 0), change->size);
        } else {
            hide_change(inode, change);
        }
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
    struct change tail = part_of_change(&change, to, change_end);
    head.grows_to = change.grows_to;
    head.is_direct = tail.is_direct = change.is_direct;
    inode->change[index] = head;
    insert_change(inode, index + 1, tail);
    blob_release(change.blob);
}

void sim_sync_write(struct inode *inode, const struct change *write)
{
    for (size_t i = 0; i < inode->changes;) {
        const struct change *change = &inode->change[i];
        const bool is_covered = !change->is_in_flight && overlaps(change, write);
        if (is_covered)
            sync_overlap(inode, i++, write);
        ++i;
    }
    inode->durable_bytes =
        max_u64(inode->durable_bytes, min_u64(inode->view_bytes, write->offset + write->size));
    content_truncate(&inode->durable, inode->durable_bytes);
    forget_empty_changes(inode);
}

struct change *sim_find_in_flight(struct inode *inode, bool is_ghost)
{
    for (size_t i = inode->changes; i-- > 0;)
        if (inode->change[i].is_in_flight && inode->change[i].is_ghost == is_ghost)
            return &inode->change[i];
    return NULL;
}

/* ---- locks --------------------------------------------------------------------------------------- */

void sim_hold(struct inode *inode, enum io_lock which, enum sim_hold hold)
{
    inode->lock[which].shared += hold == HOLDS_SHARED;
    inode->lock[which].exclusive += hold == HOLDS_EXCLUSIVE;
}

void sim_let_go(struct inode *inode, enum io_lock which, enum sim_hold hold)
{
    inode->lock[which].shared -= hold == HOLDS_SHARED;
    inode->lock[which].exclusive -= hold == HOLDS_EXCLUSIVE;
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
    for (size_t i = 0; i < dir->entries; ++i)
        if (dir->entry[i].inode == inode)
            return true;
    return false;
}

const struct entry *sim_find_name(const struct directory *dir, const char *name)
{
    for (size_t i = 0; i < dir->entries; ++i)
        if (strcmp(dir->entry[i].name, name) == 0)
            return &dir->entry[i];
    return NULL;
}

void sim_name_file(struct directory *dir, const char *name, size_t inode)
{
    size_t kept = 0;
    for (size_t i = 0; i < dir->entries; ++i)
        if (dir->entry[i].inode != inode && strcmp(dir->entry[i].name, name) != 0)
            dir->entry[kept++] = dir->entry[i];
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

void sim_sync_some_names(struct simdisk *disk)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->dir_change.entries; ++i) {
        const struct entry entry = disk->dir_change.entry[i];
        if (kept == 0 && rng_one_in(&disk->rng, 2))
            sim_name_file(&disk->durable, entry.name, entry.inode);
        else
            disk->dir_change.entry[kept++] = entry;
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
    const struct inode *inode = disk->inode[disk->view.entry[rng_below(rng, disk->view.entries)].inode];
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

void sim_land_ghosts(struct simdisk *disk)
{
    disk->ghost_ops = 0;
    for (size_t i = 0; i < disk->inodes; ++i) {
        struct inode *inode = disk->inode[i];
        struct change *change = inode ? sim_find_in_flight(inode, true) : NULL;
        if (!change)
            continue;
        change->is_in_flight = false;
        for (unsigned which = 0; which < SIM_LOCKS; ++which)
            sim_let_go(inode, which, change->holds[which]);
        if (rng_one_in(&disk->rng, 4))
            sim_remove_change(inode, (size_t)(change - inode->change));
        else
            sim_show_change(inode, change);
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
    disk->fault_left = fault ? fault->nth : 0;
    if (fault)
        disk->fault = *fault;
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
    return (disk->lies >> op & 1) != 0;
}

static bool strikes(struct simdisk *disk, enum simdisk_op op)
{
    if (disk->fault_left == 0 || (disk->fault.op != SIM_ANY && disk->fault.op != op))
        return false;
    if (--disk->fault_left > 0)
        return false;
    disk->fault_left = disk->fault.is_forever ? 1 : 0;
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

int sim_begin(struct simdisk *disk, enum simdisk_op op, const struct inode *inode, const char *name,
              uint64_t offset, size_t size)
{
    if (op != SIM_GROUP_WRITE)
        sim_take_turn(disk);
    sim_take_stores(disk);
    ++disk->count[op];
    ++disk->count[SIM_ANY];
    if (disk->ghost_ops > 0 && --disk->ghost_ops == 0)
        sim_land_ghosts(disk);
    sim_evict(disk);
    disk->last.op = op;
    disk->last.inode = inode;
    disk->last.offset = offset;
    disk->last.size = size;
    disk->last.name[0] = '\0';
    if (name)
        snprintf(disk->last.name, sizeof(disk->last.name), "%s", name);
    disk->last.error = strikes(disk, op) ? disk->fault.error : 0;
    return disk->last.error;
}

const char *simdisk_last(struct simdisk *disk)
{
    const char *name = disk->last.name;
    for (size_t i = 0; i < disk->view.entries && disk->last.inode; ++i)
        if (disk->inode[disk->view.entry[i].inode] == disk->last.inode)
            name = disk->view.entry[i].name;
    int length = snprintf(disk->last.text, sizeof(disk->last.text), "%s %s", OP_NAMES[disk->last.op], name);
    if (disk->last.size > 0)
        length += snprintf(disk->last.text + length, sizeof(disk->last.text) - (size_t)length, " %llu+%zu",
                           (unsigned long long)disk->last.offset, disk->last.size);
    if (disk->last.error != 0)
        snprintf(disk->last.text + length, sizeof(disk->last.text) - (size_t)length, " (failed: %s)",
                 strerror(-disk->last.error));
    return disk->last.text;
}
