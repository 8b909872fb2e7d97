/* SPDX-License-Identifier: Apache-2.0 */
/* What a sink asks the kernel beside struct io: crash_sink.h. */
#define _GNU_SOURCE
#include "crash_sink.h"

#include "simdisk_state.h"

#define MOST_BYTES (UINT64_C(128) << 10) /* of a file can be mapped; what is behind them is written */
#define MAX_PIECES 64u

struct simdisk *sink_disk;
unsigned sink_boot;
static const struct io_file *asked;
static void *pieces[MAX_PIECES];

int sink_ask_file(const struct io_file *file)
{
    asked = file;
    return 0;
}

/* A number is used once, so the time of birth tells nothing. */
int sink_find_identity(struct statx *ret_about)
{
    const size_t number = simdisk_number(asked) + 1;
    *ret_about = (struct statx){ .stx_mask = STATX_INO | STATX_BTIME, .stx_ino = number };
    ret_about->stx_btime.tv_sec = (int64_t)number;
    return 0;
}

int sink_find_file(struct stat *ret_about)
{
    *ret_about = (struct stat){ .st_mode = asked ? 0600 : 0700, .st_nlink = 1, .st_uid = geteuid() };
    if (asked)
        ret_about->st_ino = simdisk_number(asked) + 1;
    return 0;
}

/* There is one directory. */
int sink_find_name(const char *name, struct stat *ret_about)
{
    const struct entry *entry = sim_find_name(&sink_disk->view, name);
    const bool is_directory = strcmp(name, ".") == 0;

    *ret_about = (struct stat){ .st_uid = geteuid() };
    if (entry)
        ret_about->st_ino = entry->inode + 1;
    if (entry || is_directory)
        return 0;
    errno = ENOENT;
    return -1;
}

int sink_find_path(const char *path, struct stat *ret_about)
{
    return sink_find_name(strrchr(path, '/') + 1, ret_about);
}

int sink_find_lock(struct flock *range)
{
    const bool is_held =
        simdisk_is_held(asked, (unsigned)range->l_start, (unsigned)range->l_len, range->l_type == F_WRLCK);
    range->l_type = is_held ? F_WRLCK : F_UNLCK;
    return 0;
}

int sink_map(uint64_t offset, size_t size, void **ret_bytes)
{
    struct inode *inode = sink_disk->inode[simdisk_number(asked)];
    if (offset + size > MOST_BYTES)
        return -ENOMEM;
    if (!inode->page)
        sim_map_file(inode, MOST_BYTES);
    inode->mappings++;
    *ret_bytes = (unsigned char *)inode->page + offset;
    return 0;
}

/* What killed processes have mapped stays so. */
void sink_unmap(const void *bytes)
{
    struct inode *inode = sim_find_mapped(sink_disk, bytes);
    if (!inode)
        return;
    --inode->mappings;
    if (inode->mappings == 0)
        sim_unmap_file(sink_disk, inode);
}

const uint8_t *sink_boot_id(void)
{
    static uint8_t id[BOOT_ID_BYTES];
    return memset(id, (int)(1 + sink_boot), sizeof(id));
}

void *sink_allocate(size_t size)
{
    unsigned i = 0;
    while (i < MAX_PIECES && pieces[i])
        i++;
    pieces[i] = aligned_alloc(64, align_up(size, 64));
    return memset(pieces[i], 0, size);
}

void sink_free(void *bytes)
{
    for (unsigned i = 0; i < MAX_PIECES; i++) {
        if (pieces[i] == bytes)
            pieces[i] = NULL;
    }
    free(bytes);
}

void sink_free_all(void)
{
    for (unsigned i = 0; i < MAX_PIECES; i++) {
        if (pieces[i])
            sink_free(pieces[i]);
    }
}
