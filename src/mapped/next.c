/* SPDX-License-Identifier: Apache-2.0 */
/* See next.h. */
#include "mapped/next.h"

#include "base/base.h"
#include "segment/segment_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int twl_next_open(struct io *io, uint64_t number, struct segment *ret_segment)
{
    char name[SEGMENT_NAME_BYTES];
    enum header_state state;
    twl_segment_name(number, name);
    int rc = twl_segment_open(io, name, 0, 0, ret_segment, &state);
    if (rc < 0)
        return rc;
    if (state != HEADER_VALID || !segment_is_mapped(&ret_segment->header) ||
        ret_segment->file_bytes < ret_segment->header.bytes)
        rc = TWINLOG_ECORRUPT;
    if (rc < 0)
        twl_segment_close(ret_segment);
    return rc;
}

static int open_next(struct io *io, const struct segment *segment, uint64_t number,
                     struct segment *ret_segment)
{
    int rc = twl_next_open(io, number, ret_segment);
    if (rc < 0)
        return rc;
    const struct segment_header *header = &ret_segment->header;
    if (header->sequence == segment->header.sequence + 1 &&
        memcmp(header->log_id, segment->header.log_id, LOG_ID_BYTES) == 0)
        return 0;
    twl_segment_close(ret_segment);
    return TWINLOG_ECORRUPT;
}

/* Without a keeper, the number of segments is counted here. */
static int check_count(struct io *io)
{
    struct segment_names names;
    const int rc = twl_segment_names(io, &names);
    if (rc < 0)
        return rc;
    free(names.names);
    return names.count < MOST_SEGMENTS_TO_MAKE ? 0 : -EMFILE;
}

/* Makes it as large as planned; on a full disk half as large, and so on, down to the least size. */
static int make(struct io *io, struct segment_plan *plan, uint64_t least_bytes, struct segment *ret_segment)
{
    for (;;) {
        const int rc = twl_segment_create_first_of_all(io, plan, ret_segment);
        if (!is_no_space(rc) || plan->bytes == least_bytes)
            return rc;
        plan->bytes = max_u64(align_up(plan->bytes / 2, BLOCK_BYTES), least_bytes);
    }
}

int twl_next_make(const struct participants *participants, const struct segment *segment, uint64_t number,
                  uint64_t room, uint64_t durable_lsn, uint32_t epoch, struct segment *ret_segment)
{
    const struct segment_header *header = &segment->header;
    const uint64_t least_bytes =
        max_u64(align_up(room + SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES, BLOCK_BYTES), SEGMENT_MIN_BYTES);
    struct segment_plan plan = { .number = number,
                                 .sequence = header->sequence + 1,
                                 .bytes = min_u64(2 * header->bytes, participants->common->segment_bytes),
                                 .after_lsn = durable_lsn,
                                 .epoch = epoch,
                                 .max_group_bytes = header->max_group_bytes,
                                 .allocation = IO_ALLOCATE_SPACE,
                                 .is_mapped = true };
    memcpy(plan.log_id, header->log_id, LOG_ID_BYTES);
    plan.bytes = max_u64(plan.bytes, least_bytes);
    int rc = open_next(participants->io, segment, number, ret_segment);
    if (rc == -ENOENT) {
        rc = check_count(participants->io);
        if (rc == 0)
            rc = make(participants->io, &plan, least_bytes, ret_segment);
    }
    return rc == -EEXIST ? open_next(participants->io, segment, number, ret_segment) : rc;
}

static int remove_temporary(void *context, const char *name)
{
    struct io *io = context;
    if (twl_segment_name_is_temporary(name))
        io->ops->unlink(io, name);
    return 0;
}

void twl_next_remove(struct io *io, uint64_t number)
{
    char name[SEGMENT_NAME_BYTES];
    twl_segment_name(number, name);
    io->ops->unlink(io, name);
    io->ops->list(io, remove_temporary, io);
}
