/* SPDX-License-Identifier: Apache-2.0 */
/* What a member does to a sink. */
#define _GNU_SOURCE
#include "sink.h"

#include <errno.h>
#include <unistd.h>

char sink_path[400];

/* ---- a thread that writes ------------------------------------------------------------------------- */

static void hand_over(struct hand *hand, size_t size, uint64_t *ret_offset)
{
    const size_t first = rng_below(&hand->rng, size + 1), second = rng_below(&hand->rng, size - first + 1);
    const struct iovec pieces[] = {
        { hand->record, first },
        { hand->record + first, second },
        { hand->record + first + second, size - first - second },
    };

    if (rng_one_in(&hand->rng, 4))
        check_call(twinlog_sink_writev(hand->to, pieces, 3, ret_offset), "twinlog_sink_writev");
    else
        check_call(twinlog_sink_write(hand->to, hand->record, size, ret_offset), "twinlog_sink_write");
}

uint64_t write_line(struct hand *hand, uint32_t sequence, bool may_lie)
{
    const size_t size = line_size(hand->number, sequence);
    uint64_t offset = 0;

    line_fill(hand->number, sequence, hand->record);
    if (may_lie && tells(LIE_GARBLED))
        hand->record[size - 2] ^= 1;
    hand_over(hand, size, &offset);
    hand->bytes += size;
    return offset + (may_lie && tells(LIE_OFFSET));
}

static bool is_time(struct hand *hand, uint32_t one_in)
{
    return one_in > 0 && rng_one_in(&hand->rng, one_in);
}

void call_something_else(struct hand *hand)
{
    if (is_time(hand, self->sync_one_in)) {
        atomic_store(&hand->pen->may_wait, true);
        const int rc = twinlog_sink_sync(hand->to);
        if (rc != -EIO) /* somebody has died in the middle of a sync */
            check_call(rc, "twinlog_sink_sync");
        atomic_store(&hand->pen->may_wait, false);
    }
    if (is_time(hand, self->reopen_one_in))
        check_call(twinlog_sink_reopen(hand->to), "twinlog_sink_reopen");
}

/* ---- processes ----------------------------------------------------------------------------------- */

void *open_sink(struct member *member)
{
    struct twinlog_sink *sink;
    int rc;

    /* One that has it exclusively may still be dying. */
    for (unsigned ms = 0;
         (rc = twinlog_sink_open(sink_path, &member->sink_options, &sink)) == -EBUSY && ms < PATIENCE_MS / 2;
         ms++)
        usleep(1000);
    check_call(rc, "twinlog_sink_open");
    return sink;
}

void close_sink(void *sink)
{
    check_call(twinlog_sink_close(sink), "twinlog_sink_close");
}
