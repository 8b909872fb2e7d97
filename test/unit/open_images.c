/* SPDX-License-Identifier: Apache-2.0 */
#include "open_images.h"

#include "base/bytes.h"
#include "hooked.h"
#include "log/log.h"
#include "suites.h"

#include <string.h>

/* ---- segments ---------------------------------------------------------------------------------- */

struct io *images_io;
struct image images[3];
static uint8_t log_id[LOG_ID_BYTES];
struct position closed_end;

size_t size_of(uint64_t lsn)
{
    return (size_t)(lsn * 37 % 600);
}

void fill_payload(unsigned char *payload, uint64_t lsn)
{
    for (size_t i = 0; i < size_of(lsn); i++)
        payload[i] = (unsigned char)(lsn + i * 7);
}

bool is_payload(const void *data, size_t size, uint64_t lsn)
{
    unsigned char payload[600];
    fill_payload(payload, lsn);
    return size == size_of(lsn) && memcmp(data, payload, size) == 0;
}

int64_t image_time(uint64_t lsn)
{
    return INT64_C(1000000000000000000) + (int64_t)lsn * 1000;
}

void begin_image(struct image *image, uint64_t sequence, const struct position *position)
{
    memset(image, 0, sizeof(*image));
    twl_segment_name(sequence, image->name);
    image->header = (struct segment_header){ .incompatible = FEATURE_MAPPED,
                                             .sequence = sequence,
                                             .segment_id = 1000 + sequence,
                                             .bytes = BYTES,
                                             .epoch = position->epoch.number };
    memcpy(image->header.log_id, log_id, sizeof(log_id));
    twl_segment_header_encode(&image->header, image->bytes);
    image->seed = twl_segment_seed(&image->header);
    image->mark = (struct group_header){ .first_lsn = position->next_lsn,
                                         .bytes = GROUP_HEADER_BYTES,
                                         .durable_lsn = FIRST_RECORDS,
                                         .chain = position->chain,
                                         .epoch = { .number = position->epoch.number + 1, .salt = 77 },
                                         .kind = GROUP_START,
                                         .flags = GROUP_FIRST };
    twl_group_header_encode(&image->mark, image->seed, SEGMENT_DATA_OFFSET,
                            image->bytes + SEGMENT_DATA_OFFSET);
    image->epoch_seed = twl_epoch_seed(log_id, image->mark.epoch);
    image->first_lsn = image->next_lsn = position->next_lsn;
    image->at = OPEN_RECORDS_OFFSET;
}

struct position behind(const struct image *image)
{
    return (struct position){ .next_lsn = image->next_lsn,
                              .chain = image->mark.checksum,
                              .epoch = image->mark.epoch };
}

void add_record(struct image *image)
{
    const uint64_t lsn = image->next_lsn++;
    const struct record_header record = { .size = (uint32_t)size_of(lsn), .time_ns = image_time(lsn) };
    unsigned char *at = image->bytes + image->at;
    fill_payload(at + RECORD_HEADER_BYTES, lsn);
    store_le64(at, twl_record_encode_open(at, image->epoch_seed, lsn, &record));
    image->at += twl_record_bytes(record.size);
}

void add_records(struct image *image, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add_record(image);
}

void add_claim(struct image *image, uint32_t size)
{
    unsigned char *at = image->bytes + image->at;
    store_le64(at, twl_claim_encode(image->epoch_seed, image->next_lsn, size, 9));
    if (size == CLAIM_END)
        return;
    memset(at + 8, 0xee, 16 + size); /* whatever its writer came to */
    image->at += twl_record_bytes(size);
    image->next_lsn++;
}

struct group_header close_image(struct image *image)
{
    struct group_header group = { .first_lsn = image->first_lsn,
                                  .count = (uint32_t)(image->next_lsn - image->first_lsn),
                                  .bytes = (uint32_t)(image->at - OPEN_GROUP_OFFSET),
                                  .durable_lsn = image->first_lsn - 1,
                                  .chain = image->mark.checksum,
                                  .epoch = image->mark.epoch,
                                  .flags = GROUP_MAPPED };
    twl_group_header_encode(&group, image->seed, OPEN_GROUP_OFFSET, image->bytes + OPEN_GROUP_OFFSET);
    return group;
}

void add_close_mark(struct image *image)
{
    struct group_header mark = { .first_lsn = image->next_lsn,
                                 .bytes = GROUP_HEADER_BYTES,
                                 .durable_lsn = image->next_lsn - 1,
                                 .chain = image->mark.checksum,
                                 .epoch = image->mark.epoch,
                                 .kind = GROUP_CLOSE };
    uint64_t offset = image->next_lsn == image->first_lsn ? OPEN_GROUP_OFFSET : image->at;
    twl_group_header_encode(&mark, image->seed, offset, image->bytes + offset);
    image->at = offset + GROUP_HEADER_BYTES;
}

void write_image(const struct image *image, size_t size)
{
    put_file(log_file(image->name), image->bytes, size);
}

/* ---- the log in front --------------------------------------------------------------------------- */

static int remove_other(void *context, const char *name)
{
    struct io *there = context;
    char first[SEGMENT_NAME_BYTES];
    twl_segment_name(1, first);
    bool is_other = twl_segment_name_is_ours(name) && strcmp(name, first) != 0;
    return is_other ? there->ops->unlink(there, name) : 0;
}

void find_closed_end(struct io *there)
{
    struct segment_set set;
    struct recovery recovery;
    struct twinlog_report report;
    ck_assert_int_eq(twl_segment_set_open(there, SET_FOR_READING, NULL, &set, &report), 0);
    ck_assert_int_eq(twl_recover(there, &set, false, NULL, &recovery), 0);
    memcpy(log_id, set.entries[0].header.log_id, sizeof(log_id));
    closed_end = recovery.position;
    twl_segment_set_free(&set);
    ck_assert_int_eq(there->ops->list(there, remove_other, there), 0);
    ck_assert_int_eq(there->ops->sync_dir(there), 0);
}

void make_closed_log(void)
{
    unsigned char payload[600];
    struct twinlog_options options = log_options(TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);
    for (uint64_t lsn = 1; lsn <= FIRST_RECORDS; lsn++) {
        fill_payload(payload, lsn);
        ck_assert_int_eq(twinlog_append(log, payload, (uint32_t)size_of(lsn), NULL), 0);
    }
    log_close(log);
    images_io = log_io(false);
    find_closed_end(images_io);
}

struct image *first_image(unsigned records)
{
    begin_image(&images[0], 2, &closed_end);
    add_records(&images[0], records);
    return &images[0];
}
