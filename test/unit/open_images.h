/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of mapped segments, as a writer leaves them that dies: a header, a marker, and an open group of records and
 * claims. They continue a log in log_dir that was closed.
 */
#ifndef TEST_UNIT_OPEN_IMAGES_H
#define TEST_UNIT_OPEN_IMAGES_H

#include "logdir.h"
#include "recover/recover.h"

#define BYTES SEGMENT_MIN_BYTES
#define FIRST_RECORDS 5u /* of the log that was closed */

/* ---- segments ---------------------------------------------------------------------------------- */

struct image {
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header;
    unsigned char bytes[BYTES];
    uint64_t at;        /* of the next record */
    uint64_t first_lsn; /* of the open group */
    uint64_t next_lsn;
    struct group_header mark;
    uint32_t seed, epoch_seed;
};

extern struct io *images_io;
extern struct image images[3];
extern struct position closed_end; /* of the log that was closed */

size_t size_of(uint64_t lsn);
void fill_payload(unsigned char *payload, uint64_t lsn);
bool is_payload(const void *data, size_t size, uint64_t lsn);
int64_t image_time(uint64_t lsn);
void begin_image(struct image *image, uint64_t sequence, const struct position *position);
struct position behind(const struct image *image);
void add_record(struct image *image);
void add_records(struct image *image, unsigned count);
void add_claim(struct image *image, uint32_t size);
/* The group's header, as its writer puts it when everything is durable. */
struct group_header close_image(struct image *image);
/* A marker behind the records. */
void add_close_mark(struct image *image);
void write_image(const struct image *image, size_t size);

/* ---- the log in front --------------------------------------------------------------------------- */

/* What continues it, in place of its spare segments. */
void find_closed_end(struct io *there);
void make_closed_log(void);
/* In the first segment behind it. */
struct image *first_image(unsigned records);

#endif
