/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of struct io_ops on a simulated disk: what each may do wrong is decided in simdisk.c. */
#include "simdisk_state.h"

#include "format/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim_io {
    struct io io;
    struct simdisk *disk;
    struct sim_file *open;
    const struct io_write *in_flight;
};

struct sim_file {
    struct io_file file;
    size_t inode;
    unsigned flags;
    unsigned char holds[SIM_LOCKS]; /* enum sim_hold */
    struct sim_file *next;          /* of those that the process has open */
};

/* ---- files --------------------------------------------------------------------------------------- */

static struct sim_io *sim_io_of(struct io *io)
{
    return (struct sim_io *)io;
}

static struct simdisk *disk_of(const struct io_file *file)
{
    return sim_io_of(file->io)->disk;
}

static struct sim_file *sim_file_of(struct io_file *file)
{
    return (struct sim_file *)file;
}

static struct inode *inode_of(struct io_file *file)
{
    return disk_of(file)->inode[sim_file_of(file)->inode];
}

static bool is_direct(const struct io_file *file)
{
    return (((const struct sim_file *)file)->flags & IO_DIRECT) != 0;
}

static bool is_read_only(struct io_file *file)
{
    return (sim_file_of(file)->flags & IO_READ_ONLY) != 0;
}

static void sim_unlock(struct io_file *file, enum io_lock which)
{
    sim_let_go(inode_of(file), which, sim_file_of(file)->holds[which]);
    sim_file_of(file)->holds[which] = HOLDS_NOTHING;
}

/* A direct file takes nothing that is not whole units, in memory and in the file. */
static bool is_misaligned(const struct io_file *file, const void *data, size_t size, uint64_t offset,
                          size_t unit)
{
    if (!is_direct(file))
        return false;
    return (uintptr_t)data % unit != 0 || size % unit != 0 || offset % unit != 0;
}

static size_t add_inode(struct simdisk *disk)
{
    const size_t added = disk->inodes;
    disk->inode = sim_reallocate(disk->inode, (disk->inodes + 1) * sizeof(*disk->inode));
    disk->inode[added] = sim_inode_create();
    ++disk->inodes;
    return added;
}

/* Finds or creates the file `name`. */
static int find_file(struct simdisk *disk, const char *name, unsigned flags, size_t *ret_inode)
{
    const struct entry *entry = sim_find_name(&disk->view, name);
    const bool is_to_create = (flags & IO_CREATE) != 0;

    if (strlen(name) >= NAME_BYTES)
        return -ENAMETOOLONG;
    if ((flags & IO_DIRECT) && !disk->options.has_direct)
        return -EINVAL;
    if (entry && is_to_create)
        return -EEXIST;
    if (!entry && !is_to_create)
        return -ENOENT;

    if (entry) {
        *ret_inode = entry->inode;
        return 0;
    }
    *ret_inode = add_inode(disk);
    sim_change_directory(disk, name, *ret_inode);
    return 0;
}

static int sim_open(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    struct sim_io *process = sim_io_of(io);
    const enum simdisk_op op = flags & IO_CREATE ? SIM_CREATE : SIM_OPEN;
    size_t inode = 0;

    int error = sim_begin(process->disk, op, NULL, name, 0, 0);
    if (error == 0)
        error = find_file(process->disk, name, flags, &inode);
    if (op == SIM_CREATE)
        sim_call_hook(process->disk, op);
    if (error < 0)
        return error;

    struct sim_file *file = sim_allocate(sizeof(*file));
    *file = (struct sim_file){ .file = { .io = io }, .inode = inode, .flags = flags, .next = process->open };
    process->open = file;
    *ret_file = &file->file;
    return 0;
}

static void sim_close(struct io_file *file)
{
    struct sim_io *process = sim_io_of(file->io);

    if (process->in_flight && process->in_flight->file == file)
        sim_misuse("a file was closed while its write was in flight");
    for (unsigned which = 0; which < SIM_LOCKS; ++which)
        sim_unlock(file, which);

    struct sim_file **link = &process->open;
    while (*link != sim_file_of(file))
        link = &(*link)->next;
    *link = sim_file_of(file)->next;
    free(file);
}

static int sim_size(struct io_file *file, uint64_t *ret_bytes)
{
    const int error = sim_begin(disk_of(file), SIM_SIZE, inode_of(file), NULL, 0, 0);
    if (error == 0)
        *ret_bytes = inode_of(file)->view_bytes;
    return error;
}

/* A read that asks for what is on the disk evicts pages, now and then: but none that somebody has mapped. */
static void evict_for_read(struct io_file *file, uint64_t offset, size_t size)
{
    struct simdisk *disk = disk_of(file);
    struct inode *inode = inode_of(file);
    const bool keeps_pages = disk->options.keeps_pages || inode->is_page_of_file;

    if (keeps_pages || rng_one_in(&disk->rng, 4))
        size = 0;
    sim_drop_pages(inode, offset, size);
}

static int sim_read(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    struct inode *inode = inode_of(file);
    const int error = sim_begin(disk_of(file), SIM_READ, inode, NULL, offset, size);
    if (error < 0)
        return error;
    if (is_misaligned(file, buffer, size, offset, SECTOR_BYTES))
        return -EINVAL;

    *ret_size = 0;
    if (offset < inode->view_bytes)
        *ret_size = (size_t)min_u64(size, inode->view_bytes - offset);
    if (sim_file_of(file)->flags & IO_FROM_DISK)
        evict_for_read(file, offset, *ret_size);

    const bool is_past_cache = sim_file_of(file)->flags & (IO_DIRECT | IO_FROM_DISK);
    const struct content *seen = inode->view;
    if (is_past_cache && inode->behind)
        seen = inode->behind;
    content_read(seen, offset, buffer, *ret_size);
    return 0;
}

static int sim_write(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    struct simdisk *disk = disk_of(file);
    struct inode *inode = inode_of(file);
    const int error = sim_begin(disk, SIM_WRITE, inode, NULL, offset, size);
    if (is_read_only(file))
        return -EBADF;
    if (is_misaligned(file, data, size, offset, BLOCK_BYTES))
        return -EINVAL;
    sim_check_sealed(disk, inode, data, size, offset);

    const bool is_header = offset == 0 && size == SEGMENT_HEADER_BYTES;
    disk->headed = is_header ? inode : NULL;

    if (error == 0)
        sim_change_file(inode, data, size, offset, is_direct(file));
    else
        sim_change_some_sectors(disk, inode, data, size, offset, is_direct(file));
    sim_call_hook(disk, SIM_WRITE);
    return error;
}

/* However it is done, what is added reads as zeros. An allocation that failed may have made the file a bit longer. */
static int sim_allocate_file(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    struct simdisk *disk = disk_of(file);
    if (how == IO_ALLOCATE_OWN) /* no file has any other's blocks */
        return 0;

    struct inode *inode = inode_of(file);
    int error = sim_begin(disk, SIM_ALLOCATE, inode, NULL, 0, (size_t)bytes);
    if (is_read_only(file))
        return -EBADF;
    const bool has_space = bytes <= inode->view_bytes;
    if (error == -ENOSPC && has_space)
        error = 0;

    if (error == 0)
        sim_grow_file(inode, bytes);
    else
        sim_grow_file(inode, align_down(rng_below(&disk->rng, bytes + 1), BLOCK_BYTES));
    sim_call_hook(disk, SIM_ALLOCATE);
    return error;
}

static int sim_truncate(struct io_file *file, uint64_t bytes)
{
    struct simdisk *disk = disk_of(file);
    const int error = sim_begin(disk, SIM_TRUNCATE, inode_of(file), NULL, 0, (size_t)bytes);
    if (is_read_only(file))
        return -EBADF;

    if (error == 0)
        sim_shorten_file(inode_of(file), bytes);
    sim_call_hook(disk, SIM_TRUNCATE);
    return error;
}

static int sim_sync(struct io_file *file)
{
    struct simdisk *disk = disk_of(file);
    const int error = sim_begin(disk, SIM_SYNC, inode_of(file), NULL, 0, 0);

    if (error < 0)
        sim_sync_in_vain(disk, inode_of(file));
    else if (!sim_is_lying(disk, SIM_SYNC))
        sim_sync_file(inode_of(file));
    sim_call_hook(disk, SIM_SYNC);
    return error;
}

/* There are no times, so it is a sync. New segments are synced with all they are; only one that was recycled syncs its
 * data alone, behind its new header. The lie of SIM_WRITE is told there. */
static int sim_sync_data(struct io_file *file)
{
    struct simdisk *disk = disk_of(file);
    const bool has_new_header = disk->headed == inode_of(file);

    if (has_new_header && sim_is_lying(disk, SIM_WRITE))
        return 0;
    return sim_sync(file);
}

/* ---- locks, links, shared pages ------------------------------------------------------------------ */

static bool others_hold(const struct io_file *file, unsigned which, enum sim_hold hold)
{
    const struct sim_file *mine = (const struct sim_file *)file;
    const struct inode *inode = disk_of(file)->inode[mine->inode];
    const bool is_mine = mine->holds[which] == hold;

    unsigned all = inode->lock[which].exclusive;
    if (hold == HOLDS_SHARED)
        all = inode->lock[which].shared;
    return all > (is_mine ? 1 : 0);
}

static int sim_lock(struct io_file *file, enum io_lock which, bool is_exclusive)
{
    const enum sim_hold hold = is_exclusive ? HOLDS_EXCLUSIVE : HOLDS_SHARED;
    const int error = sim_begin(disk_of(file), SIM_LOCK, inode_of(file), NULL, 0, 0);
    if (error < 0)
        return error;
    if (is_exclusive && is_read_only(file))
        return -EBADF;

    if (others_hold(file, which, HOLDS_EXCLUSIVE))
        return -EAGAIN;
    if (is_exclusive && others_hold(file, which, HOLDS_SHARED))
        return -EAGAIN;

    sim_unlock(file, which);
    sim_hold(inode_of(file), which, hold);
    sim_file_of(file)->holds[which] = (unsigned char)hold;
    return 0;
}

static int sim_is_locked(struct io_file *file, enum io_lock which, bool is_exclusive, bool *ret_locked)
{
    const int error = sim_begin(disk_of(file), SIM_IS_LOCKED, inode_of(file), NULL, 0, 0);

    (void)is_exclusive; /* of all that is asked here the locks are exclusive */
    if (error == 0)
        *ret_locked = others_hold(file, which, HOLDS_EXCLUSIVE);
    return error;
}

static int sim_links(struct io_file *file, const char *name, uint32_t *ret_links)
{
    const int error = sim_begin(disk_of(file), SIM_LINKS, inode_of(file), NULL, 0, 0);
    if (error < 0)
        return error;

    /* Not before: a keeper may have had its turn. */
    const struct entry *entry = sim_find_name(&disk_of(file)->view, name);
    const bool is_its_name = entry && entry->inode == sim_file_of(file)->inode;
    *ret_links = is_its_name ? 1 : 0;
    return 0;
}

/* All files are of one user. */
static int sim_inherit(struct io_file *file, struct io_file *predecessor, bool needs_owner)
{
    (void)file, (void)predecessor, (void)needs_owner;
    return 0;
}

static int sim_succeed(struct io *io, const char *name, struct io_file *predecessor)
{
    struct io_file *file;
    const int error = sim_open(io, name, IO_CREATE, &file);

    (void)predecessor;
    if (error == 0)
        io_close(file);
    return error;
}

/* What can't be torn can't be looked at: files that are only read are read here. A small mapping is memory that
 * processes share, a large one has the bytes of the file. */
static int sim_map(struct io_file *file, size_t bytes, void **ret_bytes)
{
    struct inode *inode = inode_of(file);
    const bool is_view = is_read_only(file);
    const int error = sim_begin(disk_of(file), is_view ? SIM_VIEW : SIM_MAP, inode, NULL, 0, bytes);
    if (error < 0)
        return error;
    if (is_view)
        return -ENOTSUP;

    if (bytes < SEGMENT_MIN_BYTES)
        sim_allocate_page(inode, bytes);
    else if (!inode->page)
        sim_map_file(inode, bytes);
    if (inode->page_bytes < bytes)
        sim_misuse("a segment was mapped with another size");

    ++inode->mappings;
    *ret_bytes = inode->page;
    return 0;
}

/* A second mapping of the page would be the same memory, so readers sleep on the first one. */
static int sim_map_to_read(struct io_file *file, size_t bytes, void **ret_bytes)
{
    (void)file, (void)bytes, (void)ret_bytes;
    return -ENOTSUP;
}

static void sim_unmap(struct io *io, const void *page, size_t bytes)
{
    struct simdisk *disk = sim_io_of(io)->disk;
    struct inode *inode = sim_find_mapped(disk, page);
    if (!inode || inode->page != page || bytes > inode->page_bytes || inode->mappings == 0)
        sim_misuse("a page was unmapped that is not mapped");

    --inode->mappings;
    if (inode->mappings == 0 && inode->is_page_of_file)
        sim_unmap_file(disk, inode);
}

/* No page is missing. */
static int sim_check_map(struct io *io, const unsigned char *bytes)
{
    (void)io;
    (void)bytes;
    return 0;
}

/* ---- the directory ------------------------------------------------------------------------------- */

static int sim_check_directory(struct io *io)
{
    (void)io;
    return 0; /* nothing removes it */
}

/* In no order that anybody could rely on. */
static int sim_list(struct io *io, int (*each)(void *context, const char *name), void *context)
{
    struct simdisk *disk = sim_io_of(io)->disk;
    struct directory names = { NULL, 0, 0 };

    int result = sim_begin(disk, SIM_LIST, NULL, NULL, 0, 0);
    sim_copy_directory(&names, &disk->view);
    while (names.entries > 0 && result == 0) {
        struct entry *next = &names.entry[rng_below(&disk->rng, names.entries)];
        result = each(context, next->name);
        *next = names.entry[names.entries - 1];
        --names.entries;
    }
    free(names.entry);
    return result;
}

/* What is named `from` is named `to` from now on; an empty name: it has none. */
static int rename_file(struct simdisk *disk, const char *from, const char *to)
{
    const struct entry *entry = sim_find_name(&disk->view, from);
    if (strlen(to) >= NAME_BYTES)
        return -ENAMETOOLONG;
    if (!entry)
        return -ENOENT;
    sim_change_directory(disk, to, entry->inode);
    return 0;
}

static int change_name(struct io *io, enum simdisk_op op, const char *from, const char *to)
{
    struct simdisk *disk = sim_io_of(io)->disk;

    int error = sim_begin(disk, op, NULL, from, 0, 0);
    if (error == 0)
        error = rename_file(disk, from, to);
    sim_call_hook(disk, op);
    return error;
}

static int sim_rename(struct io *io, const char *from, const char *to)
{
    return change_name(io, SIM_RENAME, from, to);
}

static int sim_unlink(struct io *io, const char *name)
{
    return change_name(io, SIM_UNLINK, name, "");
}

static int sim_sync_dir(struct io *io)
{
    struct simdisk *disk = sim_io_of(io)->disk;
    const int error = sim_begin(disk, SIM_SYNC_DIR, NULL, NULL, 0, 0);

    if (error < 0)
        sim_sync_some_names(disk);
    else if (!sim_is_lying(disk, SIM_SYNC_DIR))
        sim_sync_directory(disk);
    sim_call_hook(disk, SIM_SYNC_DIR);
    return error;
}

/* Every directory is a disk of its own, so there is no way from one to another but to copy. */
static int sim_link(struct io *io, const char *name, struct io *to, const char *to_name)
{
    (void)to;
    (void)to_name;
    const int error = sim_begin(sim_io_of(io)->disk, SIM_LINK, NULL, name, 0, 0);
    if (error < 0)
        return error;
    return -EXDEV;
}

/* ---- durable writes ------------------------------------------------------------------------------ */

static void check_submission(const struct sim_io *process, const struct io_write *write)
{
    if (process->in_flight)
        sim_misuse("a second write began before the first was done");
    if (write->size == 0)
        sim_misuse("an empty write was submitted");
}

/* Part of a write in flight may have arrived already: sectors that do not make the file longer. */
static void land_some_sectors(struct simdisk *disk, struct inode *inode, const struct io_write *write,
                              bool goes_past_cache)
{
    if (!rng_one_in(&disk->rng, 4))
        return;

    for (size_t from = 0; from < write->size; from += SECTOR_BYTES) {
        const uint64_t offset = write->offset + from;
        const bool is_inside = offset + SECTOR_BYTES <= inode->view_bytes;
        if (is_inside && rng_one_in(&disk->rng, 2))
            sim_add_write(inode, write->data + from, SECTOR_BYTES, offset, goes_past_cache);
    }
}

/* One that is for the cache may be left out of it, and one that is not may be found there: what a group promises
 * depends on neither. So this disk does what was asked only now and then. */
static bool goes_past_cache(struct simdisk *disk, const struct io_write *write)
{
    if (!is_direct(write->file))
        return false;
    const bool is_contrary = rng_one_in(&disk->rng, CONTRARY_ONE_IN);
    return write->is_for_cache == is_contrary;
}

/* It is in flight from now on, and holds the locks of its file until it lands. */
static void add_write_in_flight(struct simdisk *disk, struct inode *inode, const struct io_write *write)
{
    const uint64_t end = write->offset + write->size;
    struct change change = { .offset = write->offset,
                             .size = write->size,
                             .blob = sim_blob_create(write->data, write->size),
                             .is_direct = goes_past_cache(disk, write),
                             .is_in_flight = true };
    if (end > inode->view_bytes)
        change.grows_to = end;
    memcpy(change.holds, sim_file_of(write->file)->holds, sizeof(change.holds));

    sim_add_change(inode, change);
    land_some_sectors(disk, inode, write, change.is_direct);
}

static int begin_write(struct io *io, struct io_write *write)
{
    struct sim_io *process = sim_io_of(io);
    struct inode *inode = inode_of(write->file);
    const int error = sim_begin(process->disk, SIM_SUBMIT, inode, NULL, write->offset, write->size);
    check_submission(process, write);
    if (error < 0)
        return error;
    if (is_read_only(write->file))
        return -EBADF;
    if (is_misaligned(write->file, write->data, write->size, write->offset, BLOCK_BYTES))
        return -EINVAL;
    sim_check_sealed(process->disk, inode, write->data, write->size, write->offset);

    add_write_in_flight(process->disk, inode, write);
    process->in_flight = write;
    sim_call_hook(process->disk, SIM_SUBMIT);
    return 0;
}

/* The write in flight has ended: the file has taken `written` bytes, and reads see them. */
static void land_write(struct inode *inode, struct change *change, size_t written)
{
    change->is_in_flight = false;
    change->size = written;
    change->grows_to = 0;
    if (written > 0)
        sim_show_change(inode, change);
    else
        sim_remove_change(inode, (size_t)(change - inode->change));
}

/* Returns what the file took. */
static int64_t finish_write(struct simdisk *disk, struct inode *inode, const struct io_write *write)
{
    sim_take_turn(disk);
    struct change *change = sim_find_in_flight(inode, false);
    const uint64_t faults_before = disk->faults;
    const int error = sim_begin(disk, SIM_GROUP_WRITE, inode, NULL, write->offset, write->size);
    const bool has_struck = disk->faults > faults_before;
    if (!sim_blob_equals(change->blob, write->data, write->size))
        sim_misuse("a buffer was changed while its write was in flight");

    if (error < 0) {
        const bool was_direct = change->is_direct;
        land_write(inode, change, 0);
        sim_change_some_sectors(disk, inode, write->data, write->size, write->offset, was_direct);
        return error;
    }

    size_t written = write->size;
    if (has_struck)
        written -= (size_t)min_u64(disk->fault.missing, write->size);
    land_write(inode, change, written);
    return (int64_t)written;
}

/* Does the write carry its own sync, of nothing but what it wrote? */
static bool has_narrow_barrier(const struct simdisk *disk, const struct io_write *write)
{
    return disk->options.is_barrier_narrow && write->barrier == IO_BARRIER_WRITE;
}

static int finish_barrier(struct simdisk *disk, struct inode *inode, const struct io_write *write)
{
    const size_t written = (size_t)write->ret_written;
    const int error = sim_begin(disk, SIM_BARRIER, inode, NULL, write->offset, written);
    if (error == -ECANCELED)
        return error; /* it never ran (see io_write) */
    if (error < 0) {
        sim_sync_in_vain(disk, inode);
        return error;
    }
    if (sim_is_lying(disk, SIM_BARRIER))
        return 0;

    if (has_narrow_barrier(disk, write))
        sim_sync_write(inode, &(struct change){ .offset = write->offset, .size = written });
    else
        sim_sync_file(inode);
    return 0;
}

/* A short write cancels the sync that is linked to it. A write that carries its own syncs what it wrote. */
static bool has_barrier(const struct simdisk *disk, const struct io_write *write)
{
    const bool is_whole = write->ret_written == (int64_t)write->size;
    if (is_whole)
        return true;
    return write->ret_written > 0 && has_narrow_barrier(disk, write);
}

static void sim_write_durably(struct io *io, struct io_write *write)
{
    struct sim_io *process = sim_io_of(io);
    struct inode *inode = inode_of(write->file);

    write->ret_synced = -ECANCELED;
    write->ret_written = begin_write(io, write);
    if (write->ret_written < 0)
        return;

    write->ret_written = finish_write(process->disk, inode, write);
    sim_call_hook(process->disk, SIM_GROUP_WRITE);
    process->in_flight = NULL;

    if (write->barrier == IO_BARRIER_NONE) {
        if (write->ret_written >= 0)
            write->ret_synced = 0;
        return;
    }
    if (!has_barrier(process->disk, write))
        return;
    write->ret_synced = finish_barrier(process->disk, inode, write);
    sim_call_hook(process->disk, SIM_BARRIER);
}

/* ---- the rest ------------------------------------------------------------------------------------ */

static int64_t sim_now_ns(struct io *io)
{
    return sim_io_of(io)->disk->clock_ns;
}

static void sim_sleep_ms(struct io *io, unsigned ms)
{
    struct simdisk *disk = sim_io_of(io)->disk;
    disk->clock_ns += (int64_t)ms * 1000000;
    sim_land_ghosts(disk);
}

static int sim_random(struct io *io, void *bytes, size_t size)
{
    struct simdisk *disk = sim_io_of(io)->disk;
    const int error = sim_begin(disk, SIM_RANDOM, NULL, NULL, 0, 0);
    if (error == 0)
        rng_fill(&disk->rng, bytes, size);
    return error;
}

static void sim_destroy(struct io *io)
{
    struct sim_io *process = sim_io_of(io);
    if (process->open)
        sim_misuse("a file was not closed");
    --process->disk->processes;
    free(process);
}

static int sim_again(struct io *io, struct io **ret_io)
{
    *ret_io = simdisk_connect(((struct sim_io *)io)->disk);
    return 0;
}

static const struct io_ops SIM_OPS_TABLE = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .allocate = sim_allocate_file,
    .truncate = sim_truncate,
    .sync = sim_sync,
    .sync_data = sim_sync_data,
    .lock = sim_lock,
    .unlock = sim_unlock,
    .is_locked = sim_is_locked,
    .links = sim_links,
    .inherit = sim_inherit,
    .succeed = sim_succeed,
    .map = sim_map,
    .map_to_read = sim_map_to_read,
    .unmap = sim_unmap,
    .check_map = sim_check_map,
    .check_directory = sim_check_directory,
    .list = sim_list,
    .rename = sim_rename,
    .rename_unless_taken = sim_rename, /* one process rotates */
    .unlink = sim_unlink,
    .sync_dir = sim_sync_dir,
    .link = sim_link,
    .write_durably = sim_write_durably,
    .now_ns = sim_now_ns,
    .sleep_ms = sim_sleep_ms,
    .random = sim_random,
    .again = sim_again,
    .destroy = sim_destroy,
};

/* What no test happens to call would be a call of address 0 in the first long run that does. */
static void check_operations(const struct io_ops *ops)
{
    void *operations[sizeof(*ops) / sizeof(void *)];
    _Static_assert(sizeof(operations) == sizeof(*ops), "pointers only");
    memcpy(operations, ops, sizeof(operations));

    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); ++i) {
        if (!operations[i])
            sim_misuse("the simulated disk lacks an operation");
    }
}

struct io *simdisk_connect(struct simdisk *disk)
{
    check_operations(&SIM_OPS_TABLE);
    struct sim_io *process = sim_allocate(sizeof(*process));
    *process = (struct sim_io){
        .io = { .ops = &SIM_OPS_TABLE, .has_threads = false },
        .disk = disk,
    };
    ++disk->processes;
    return &process->io;
}

/* ---- plain files ---------------------------------------------------------------------------------- */

size_t simdisk_number(const struct io_file *file)
{
    return ((const struct sim_file *)file)->inode;
}

bool simdisk_is_held(const struct io_file *file, unsigned first, unsigned count, bool is_shared_too)
{
    sim_begin(disk_of(file), SIM_IS_LOCKED, disk_of(file)->inode[simdisk_number(file)], NULL, 0, 0);

    for (unsigned which = first; which < first + count; ++which) {
        if (others_hold(file, which, HOLDS_EXCLUSIVE))
            return true;
        if (is_shared_too && others_hold(file, which, HOLDS_SHARED))
            return true;
    }
    return false;
}

void simdisk_kill(struct io *io)
{
    while (sim_io_of(io)->open)
        sim_close(&sim_io_of(io)->open->file);
    sim_destroy(io);
}

bool simdisk_has_file(const struct simdisk *disk, const char *name)
{
    return sim_find_name(&disk->view, name) != NULL;
}
