/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the power may leave of a mapped log. All that a dead writer has stored is still there; of what no sync came
 * behind, each sector either has got to the disk or still has what it had before, zeros, or a part of each.
 *
 * What a sync came behind is known from below: by the LSN that the writer noted, and by what the log itself says. A
 * thread that stores a durable LSN anywhere, or gives a group its header, has had a sync return before.
 */
#define _GNU_SOURCE
#include "log.h"

#include "base/bytes.h"
#include "base/process.h"
#include "format/format.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SECTOR_BYTES 512u

/* A file of the log. */
struct part {
    struct file *file;
    bool is_mapped; /* and then: */
    struct segment_header header;
    uint32_t seed;
    struct group_header mark, group;
    bool has_mark, has_group;
};

struct parts {
    struct files files;
    struct part part[MAX_FILES];
};

static int is_file(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static void understand(struct part *part)
{
    if (part->file->size < 2 * SEGMENT_HEADER_BYTES ||
        twl_segment_header_decode(part->file->bytes, &part->header) != HEADER_VALID ||
        !(part->header.incompatible & FEATURE_MAPPED))
        return;
    part->is_mapped = true;
    part->seed = twl_segment_seed(&part->header);
    part->has_mark = twl_group_header_decode(part->file->bytes + SEGMENT_DATA_OFFSET, part->seed,
                                             SEGMENT_DATA_OFFSET, &part->mark);
    part->has_group = twl_group_header_decode(part->file->bytes + OPEN_GROUP_OFFSET, part->seed,
                                              OPEN_GROUP_OFFSET, &part->group);
}

static struct parts *load_parts(const char *path)
{
    struct parts *parts = calloc(1, sizeof(*parts));

    if (!parts)
        give_up(path);
    load_files(path, is_file, &parts->files);
    for (unsigned i = 0; i < parts->files.count; i++) {
        parts->part[i].file = &parts->files.list[i];
        understand(&parts->part[i]);
    }
    return parts;
}

static void free_parts(struct parts *parts)
{
    free_files(&parts->files);
    free(parts);
}

/* ---- what is durable ----------------------------------------------------------------------------- */

static uint64_t find_durable(const struct parts *parts, uint64_t durable)
{
    for (const struct part *part = parts->part; part < parts->part + parts->files.count; part++) {
        if (!part->is_mapped)
            continue;
        durable = max_u64(durable, part->header.after_lsn);
        if (part->has_mark)
            durable = max_u64(durable, part->mark.durable_lsn);
        if (part->has_group)
            durable = max_u64(durable, part->group.first_lsn + part->group.count - 1);
    }
    return durable;
}

/* Behind the last durable record of an open group. */
static uint64_t find_end(const struct part *part, uint64_t durable)
{
    const uint32_t epoch_seed = twl_epoch_seed(part->header.log_id, part->mark.epoch);
    const uint64_t data_end = min_u64(twl_segment_data_end(part->header.bytes), part->file->size);
    uint64_t at = OPEN_RECORDS_OFFSET, lsn = part->mark.first_lsn;
    struct record_header record;

    if (durable < lsn)
        return SEGMENT_DATA_OFFSET; /* the marker was not synced, either */
    while (lsn <= durable && at + RECORD_HEADER_BYTES <= data_end &&
           twl_record_header_decode(part->file->bytes + at, epoch_seed, lsn, &record)) {
        at += twl_record_bytes(record.size);
        lsn++;
    }
    return at;
}

static bool has_later_group(const struct parts *parts, uint64_t sequence)
{
    for (size_t i = 0; i < parts->files.count; i++)
        if (parts->part[i].has_group && parts->part[i].header.sequence > sequence)
            return true;
    return false;
}

/* A marker, of a close or of a later opening: what is in front of it was synced. */
static bool is_marked(const struct part *part, uint64_t end)
{
    const uint64_t footer = twl_segment_data_end(part->header.bytes),
                   places[] = { end, align_up(end, BLOCK_BYTES) };
    struct group_header next;

    for (unsigned i = 0; i < 2; i++)
        if (places[i] + GROUP_HEADER_BYTES <= footer &&
            twl_group_header_decode(part->file->bytes + places[i], part->seed, places[i], &next))
            return true;
    return false;
}

/* The header of the group that was closed last, if nothing was written behind it. */
static bool is_header_in_doubt(const struct parts *parts, const struct part *part)
{
    const uint64_t footer = twl_segment_data_end(part->header.bytes);

    return part->file->size == part->header.bytes && (part->group.flags & GROUP_MAPPED) &&
           !has_later_group(parts, part->header.sequence) &&
           are_zeros(part->file->bytes + footer, SEGMENT_FOOTER_BYTES) &&
           !is_marked(part, OPEN_GROUP_OFFSET + part->group.bytes);
}

/* ---- losing -------------------------------------------------------------------------------------- */

static bool lose(struct part *part, uint64_t from, uint64_t to)
{
    if (are_zeros(part->file->bytes + from, to - from))
        return false;
    memset(part->file->bytes + from, 0, to - from);
    return true;
}

/* Of 16 sectors so many are lost; some in part, which were on their way to the disk while somebody stored in them. */
static uint64_t lose_sectors(struct part *part, uint64_t from, unsigned odds, struct rng *rng)
{
    const uint64_t end = min_u64(twl_segment_data_end(part->header.bytes), part->file->size);
    uint64_t lost = 0, to;

    for (uint64_t at = from; at < end; at = to) {
        to = min_u64(align_down(at, SECTOR_BYTES) + SECTOR_BYTES, end);
        if (rng_below(rng, 16) >= odds)
            continue;
        const uint64_t middle = rng_one_in(rng, 4) ? at + align_down(rng_below(rng, to - at), 8) : at;
        lost += rng_one_in(rng, 2) ? lose(part, middle, to) : lose(part, at, middle > at ? middle : to);
    }
    return lost;
}

/* Behind the header of a segment lies what its writers have shared, which nobody syncs. */
static uint64_t lose_words(struct part *part, unsigned odds, struct rng *rng)
{
    uint64_t lost = 0;

    for (uint64_t at = SECTOR_BYTES; at < SEGMENT_DATA_OFFSET; at += SECTOR_BYTES)
        if (rng_below(rng, 16) < odds)
            lost += lose(part, at, at + SECTOR_BYTES);
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

uint64_t make_image(const char *from, const char *to, uint64_t durable_lsn, struct rng *rng)
{
    static const unsigned all_odds[] = { 0, 1, 2, 8, 14, 16 };
    struct parts *parts = load_parts(from);
    const uint64_t durable = find_durable(parts, durable_lsn);
    uint64_t lost = 0;

    for (struct part *part = parts->part; part < parts->part + parts->files.count; part++) {
        const unsigned odds = all_odds[rng_below(rng, sizeof(all_odds) / sizeof(all_odds[0]))];

        if (part->has_group && is_header_in_doubt(parts, part) && rng_one_in(rng, 2))
            lost += lose(part, OPEN_GROUP_OFFSET, OPEN_RECORDS_OFFSET);
        if (part->has_mark && !part->has_group && part->mark.kind == GROUP_START &&
            part->file->size == part->header.bytes && !is_marked(part, OPEN_GROUP_OFFSET))
            lost += lose_sectors(part, find_end(part, durable), odds, rng);
        if (part->is_mapped)
            lost += lose_words(part, odds, rng);
        if (strcmp(part->file->name, "writer.lock") == 0)
            boot_lock(part->file);
    }
    store_files(to, &parts->files);
    free_parts(parts);
    return lost;
}

/* ---- tearing ------------------------------------------------------------------------------------- */

static bool tear(const struct part *part, const char *path)
{
    const uint64_t at = OPEN_RECORDS_OFFSET + RECORD_HEADER_BYTES - 1;
    char name[600];

    if (!part->has_mark || are_zeros(part->file->bytes + OPEN_RECORDS_OFFSET, RECORD_HEADER_BYTES))
        return false;
    snprintf(name, sizeof(name), "%.500s/%s", path, part->file->name);
    part->file->bytes[at] ^= 1;
    const int fd = open(name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, part->file->bytes + at, 1, (off_t)at) != 1)
        give_up(name);
    close(fd);
    return true;
}

bool tear_record(const char *path)
{
    struct parts *parts = load_parts(path);
    bool is_torn = false;

    for (size_t i = 0; i < parts->files.count && !is_torn; i++)
        is_torn = tear(&parts->part[i], path);
    free_parts(parts);
    return is_torn;
}
