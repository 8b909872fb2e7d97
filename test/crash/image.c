/* SPDX-License-Identifier: Apache-2.0 */
/* See image.h. */
#define _GNU_SOURCE
#include "image.h"

#include "kill.h"

#include "base/bytes.h"
#include "base/process.h"
#include "format/format.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 512u
#define SECTOR_BYTES 512u

/* A file of the log. */
struct file {
    char name[64];
    unsigned char *bytes;
    size_t size;
    mode_t mode;
    bool is_mapped; /* and then: */
    struct segment_header header;
    uint32_t seed;
    struct group_header mark, group;
    bool has_mark, has_group;
};

struct files {
    struct file file[FILES_MAX];
    size_t count;
};

/* ---- reading and writing ------------------------------------------------------------------------- */

static void load(struct file *file, int dir)
{
    struct stat about;
    const int fd = openat(dir, file->name, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) < 0)
        give_up(file->name);
    file->size = (size_t)about.st_size;
    file->mode = about.st_mode;
    file->bytes = malloc(file->size + 1);
    if (!file->bytes || read(fd, file->bytes, file->size) != (ssize_t)file->size)
        give_up(file->name);
    close(fd);
}

static void store(const struct file *file, int dir)
{
    const int fd = openat(dir, file->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, file->mode & 0777);

    if (fd < 0 || write(fd, file->bytes, file->size) != (ssize_t)file->size)
        give_up(file->name);
    close(fd);
}

static void understand(struct file *file)
{
    if (file->size < 2 * SEGMENT_HEADER_BYTES ||
        twl_segment_header_decode(file->bytes, &file->header) != HEADER_VALID ||
        !(file->header.incompatible & FEATURE_MAPPED))
        return;
    file->is_mapped = true;
    file->seed = twl_segment_seed(&file->header);
    file->has_mark = twl_group_header_decode(file->bytes + SEGMENT_DATA_OFFSET, file->seed,
                                             SEGMENT_DATA_OFFSET, &file->mark);
    file->has_group =
        twl_group_header_decode(file->bytes + OPEN_GROUP_OFFSET, file->seed, OPEN_GROUP_OFFSET, &file->group);
}

static int open_directory(const char *path)
{
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        give_up(path);
    return dir;
}

static struct files *load_all(const char *path)
{
    struct files *files = calloc(1, sizeof(*files));
    const int dir = open_directory(path);
    DIR *list = fdopendir(dup(dir));
    const struct dirent *entry;

    if (!files || !list)
        give_up(path);
    while ((entry = readdir(list)) && files->count < FILES_MAX) {
        struct file *file = &files->file[files->count];

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(file->name, sizeof(file->name), "%.63s", entry->d_name);
        load(file, dir);
        understand(file);
        files->count++;
    }
    closedir(list);
    close(dir);
    return files;
}

static void free_all(struct files *files)
{
    for (size_t i = 0; i < files->count; i++)
        free(files->file[i].bytes);
    free(files);
}

/* ---- what is durable ----------------------------------------------------------------------------- */

static uint64_t find_durable(const struct files *files, uint64_t durable)
{
    for (const struct file *file = files->file; file < files->file + files->count; file++) {
        if (!file->is_mapped)
            continue;
        durable = max_u64(durable, file->header.after_lsn);
        if (file->has_mark)
            durable = max_u64(durable, file->mark.durable_lsn);
        if (file->has_group)
            durable = max_u64(durable, file->group.first_lsn + file->group.count - 1);
    }
    return durable;
}

/* Behind the last durable record of an open group. */
static uint64_t find_end(const struct file *file, uint64_t durable)
{
    const uint32_t epoch_seed = twl_epoch_seed(file->header.log_id, file->mark.epoch);
    const uint64_t data_end = min_u64(twl_segment_data_end(file->header.bytes), file->size);
    uint64_t at = OPEN_RECORDS_OFFSET, lsn = file->mark.first_lsn;
    struct record_header record;

    if (durable < lsn)
        return SEGMENT_DATA_OFFSET; /* the marker was not synced, either */
    while (lsn <= durable && at + RECORD_HEADER_BYTES <= data_end &&
           twl_record_header_decode(file->bytes + at, epoch_seed, lsn, &record)) {
        at += twl_record_bytes(record.size);
        lsn++;
    }
    return at;
}

static bool has_later_group(const struct files *files, uint64_t sequence)
{
    for (size_t i = 0; i < files->count; i++)
        if (files->file[i].has_group && files->file[i].header.sequence > sequence)
            return true;
    return false;
}

/* The header of the group that was closed last, if nothing was written behind it. */
static bool is_header_in_doubt(const struct files *files, const struct file *file)
{
    const uint64_t end = OPEN_GROUP_OFFSET + file->group.bytes,
                   footer = twl_segment_data_end(file->header.bytes);
    struct group_header next;

    return file->size == file->header.bytes && (file->group.flags & GROUP_MAPPED) &&
           !has_later_group(files, file->header.sequence) &&
           are_zeros(file->bytes + footer, SEGMENT_FOOTER_BYTES) &&
           !(end + GROUP_HEADER_BYTES <= footer &&
             twl_group_header_decode(file->bytes + end, file->seed, end, &next));
}

/* ---- losing -------------------------------------------------------------------------------------- */

static bool lose(struct file *file, uint64_t from, uint64_t to)
{
    if (are_zeros(file->bytes + from, to - from))
        return false;
    memset(file->bytes + from, 0, to - from);
    return true;
}

/* Of 16 sectors so many are lost; some in part, which were on their way to the disk while somebody stored in them. */
static uint64_t lose_sectors(struct file *file, uint64_t from, unsigned odds, struct rng *rng)
{
    const uint64_t end = min_u64(twl_segment_data_end(file->header.bytes), file->size);
    uint64_t lost = 0, to;

    for (uint64_t at = from; at < end; at = to) {
        to = min_u64(align_down(at, SECTOR_BYTES) + SECTOR_BYTES, end);
        if (rng_below(rng, 16) >= odds)
            continue;
        const uint64_t middle = rng_one_in(rng, 4) ? at + align_down(rng_below(rng, to - at), 8) : at;
        lost += rng_one_in(rng, 2) ? lose(file, middle, to) : lose(file, at, middle > at ? middle : to);
    }
    return lost;
}

/* Behind the header of a segment lies what its writers have shared, which nobody syncs. */
static uint64_t lose_words(struct file *file, unsigned odds, struct rng *rng)
{
    uint64_t lost = 0;

    for (uint64_t at = SECTOR_BYTES; at < SEGMENT_DATA_OFFSET; at += SECTOR_BYTES)
        if (rng_below(rng, 16) < odds)
            lost += lose(file, at, at + SECTOR_BYTES);
    return lost;
}

/* What processes have shared says under which kernel they did. */
static void boot_lock(struct file *file)
{
    uint8_t boot_id[BOOT_ID_BYTES];
    twl_boot_id(boot_id);
    for (size_t at = 0; at + BOOT_ID_BYTES <= file->size; at += 4)
        if (memcmp(file->bytes + at, boot_id, BOOT_ID_BYTES) == 0)
            file->bytes[at] ^= 1;
}

static void boot_locks(struct files *files)
{
    for (size_t i = 0; i < files->count; i++)
        if (strcmp(files->file[i].name, "writer.lock") == 0)
            boot_lock(&files->file[i]);
}

uint64_t make_image(const char *from, const char *to, uint64_t durable_lsn, struct rng *rng)
{
    static const unsigned all_odds[] = { 0, 1, 2, 8, 14, 16 };
    struct files *files = load_all(from);
    const uint64_t durable = find_durable(files, durable_lsn);
    uint64_t lost = 0;

    remove_directory(to);
    if (mkdir(to, 0777) < 0)
        give_up(to);
    const int dir = open_directory(to);
    boot_locks(files);
    for (struct file *file = files->file; file < files->file + files->count; file++) {
        const unsigned odds = all_odds[rng_below(rng, sizeof(all_odds) / sizeof(all_odds[0]))];

        if (file->has_group && is_header_in_doubt(files, file) && rng_one_in(rng, 2))
            lost += lose(file, OPEN_GROUP_OFFSET, OPEN_RECORDS_OFFSET);
        if (file->has_mark && !file->has_group && file->mark.kind == GROUP_START &&
            file->size == file->header.bytes)
            lost += lose_sectors(file, find_end(file, durable), odds, rng);
        if (file->is_mapped)
            lost += lose_words(file, odds, rng);
        store(file, dir);
    }
    close(dir);
    free_all(files);
    return lost;
}

/* ---- tearing ------------------------------------------------------------------------------------- */

static bool tear(struct file *file, int dir)
{
    if (!file->has_mark || are_zeros(file->bytes + OPEN_RECORDS_OFFSET, RECORD_HEADER_BYTES))
        return false;
    file->bytes[OPEN_RECORDS_OFFSET + RECORD_HEADER_BYTES - 1] ^= 1;
    store(file, dir);
    return true;
}

bool tear_record(const char *path)
{
    struct files *files = load_all(path);
    const int dir = open_directory(path);
    bool is_torn = false;

    for (size_t i = 0; i < files->count && !is_torn; i++)
        is_torn = tear(&files->file[i], dir);
    close(dir);
    free_all(files);
    return is_torn;
}
