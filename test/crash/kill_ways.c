/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other ways in which a writer appends: batches at every level, with deadlines and without;
 * requests that come back by a queue.
 *
 * What was acknowledged as written survives the process, so it must be there like what is durable, unless the
 * machine ends with the process.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_REQUESTS 4u

/* ---- batches ----------------------------------------------------------------------------------- */

struct bundle {
    struct twinlog_entry entry[MAX_BATCH];
    unsigned char *bytes;
    uint32_t count;
};

static struct payload payload_at(const struct writer *writer, uint64_t sequence)
{
    struct payload payload = writer->next;

    payload.sequence = sequence;
    return payload;
}

static size_t room_for(size_t size)
{
    return 24 + (size + 7) / 8 * 8;
}

/* As many of the next records as fit in a buffer, up to `most`. */
static void make_bundle(const struct writer *writer, uint32_t most, struct bundle *ret_bundle)
{
    const size_t room = writer->life->options.buffer_bytes - 8192;
    size_t used = 0;

    ret_bundle->count = 0;
    ret_bundle->bytes = malloc(room);
    if (!ret_bundle->bytes)
        violation("out of memory");
    while (ret_bundle->count < most) {
        const struct payload payload = payload_at(writer, writer->next.sequence + ret_bundle->count);
        const size_t size = payload_size(&payload);
        const uint16_t tag = payload_tag(&payload);

        if (ret_bundle->count > 0 && room_for(size) > room - used)
            break;
        payload_fill(&payload, ret_bundle->bytes + used);
        ret_bundle->entry[ret_bundle->count++] = (struct twinlog_entry){
            .data = ret_bundle->bytes + used, .size = size, .tag = tag, .type = (uint8_t)tag
        };
        used += room_for(size);
        if (used >= room)
            break;
    }
}

/* Not to be trimmed before it is durable. */
static void note_written(struct writer *writer, uint32_t level, uint64_t end)
{
    if (level == TWINLOG_LEVEL_DURABLE || !shared->ends_machine)
        raise_to(&writer->notes->acked, end);
}

static struct twinlog_terms choose_terms(struct writer *writer)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    terms.level = TWINLOG_LEVEL_DURABLE - (uint32_t)rng_below(&writer->rng, 3);
    if (rng_one_in(&writer->rng, 4))
        terms.deadline_ns = twinlog_deadline((uint32_t)rng_below(&writer->rng, 4));
    else if (rng_one_in(&writer->rng, 8))
        terms.flags = TWINLOG_TRY;
    return terms;
}

static bool may_end(const struct twinlog_terms *terms, int result)
{
    return (result == -ETIMEDOUT && terms->deadline_ns > 0) ||
           (result == -EAGAIN && (terms->flags & TWINLOG_TRY));
}

static int append_batch(struct writer *writer)
{
    const struct twinlog_terms terms = choose_terms(writer);
    struct bundle bundle;
    uint64_t lsn = 0;
    int result;

    make_bundle(writer, 1 + (uint32_t)rng_below(&writer->rng, MAX_BATCH), &bundle);
    note_begun(writer, bundle.count, true);
    result = twinlog_append_batch(writer->log, bundle.entry, bundle.count, &terms, &lsn);
    free(bundle.bytes);
    if (result < 0 && !may_end(&terms, result))
        return result;
    if (lsn > 0)
        note_accepted(writer, lsn, bundle.count);
    if (result == 0 && terms.level == TWINLOG_LEVEL_DURABLE)
        note_acked(writer);
    if (result == 0 && terms.level == TWINLOG_LEVEL_WRITTEN)
        note_written(writer, terms.level, writer->next.sequence);
    return 0;
}

/* ---- requests ---------------------------------------------------------------------------------- */

static struct twinlog_queue *queue; /* of all writers: each fetches whatever comes */

struct submitted {
    struct twinlog_request request;
    struct writer *writer;
    uint32_t level;
    uint64_t end;           /* number behind its last record */
    _Atomic unsigned *left; /* requests of this turn */
};

/* Of one that may be another writer's, which goes on as soon as none is left. */
static void finish(struct twinlog_request *request)
{
    struct submitted *submitted = request->context;

    if (request->result == 0)
        note_written(submitted->writer, submitted->level, submitted->end);
    atomic_fetch_sub(submitted->left, 1);
}

static void fetch_requests(const _Atomic unsigned *left)
{
    struct twinlog_request *done[8];

    while (atomic_load(left) > 0) {
        const int count = twinlog_queue_poll(queue, done, 8, 1);

        if (count < 0)
            violation("polling a queue failed: %s", twinlog_strerror(count));
        for (int i = 0; i < count; i++)
            finish(done[i]);
    }
}

static int submit(struct writer *writer, struct submitted *submitted, uint32_t level)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct bundle bundle;
    int result;

    terms.level = level;
    make_bundle(writer, 1 + (uint32_t)rng_below(&writer->rng, MAX_BATCH), &bundle);
    submitted->level = level;
    submitted->end = writer->next.sequence + bundle.count;
    submitted->request = (struct twinlog_request){ .queue = queue, .context = submitted };
    note_begun(writer, bundle.count, true);
    result = twinlog_submit(writer->log, bundle.entry, bundle.count, &terms, &submitted->request);
    free(bundle.bytes);
    if (result == 0)
        note_accepted(writer, submitted->request.first_lsn, bundle.count);
    return result;
}

static int append_requests(struct writer *writer)
{
    const uint32_t count = 1 + (uint32_t)rng_below(&writer->rng, MAX_REQUESTS);
    const uint32_t level = TWINLOG_LEVEL_DURABLE - (uint32_t)rng_below(&writer->rng, 2);
    struct submitted submitted[MAX_REQUESTS];
    _Atomic unsigned left = count;
    uint32_t accepted = 0;
    int result = 0;

    for (; result == 0 && accepted < count; accepted += result == 0) {
        submitted[accepted] = (struct submitted){ .writer = writer, .left = &left };
        result = submit(writer, &submitted[accepted], level);
    }
    atomic_fetch_sub(&left, count - accepted);
    fetch_requests(&left);
    for (uint32_t i = 0; result == 0 && i < accepted; i++)
        result = submitted[i].request.result;
    if (result == 0 && level == TWINLOG_LEVEL_DURABLE)
        note_acked(writer);
    return result;
}

struct twinlog_queue *open_queue(void)
{
    check_call(twinlog_queue_open(&queue), "twinlog_queue_open");
    return queue;
}

void close_queue(void)
{
    check_call(twinlog_queue_close(queue), "twinlog_queue_close");
}

/* ---- all of them ------------------------------------------------------------------------------- */

int append_another_way(struct writer *writer)
{
    static int (*const ways[])(struct writer *) = { append_batch, append_requests };

    if (writer->next.sequence + MAX_REQUESTS * MAX_BATCH + 10 >= NOTES_MAX)
        return append_while_held(writer);
    return ways[rng_below(&writer->rng, sizeof(ways) / sizeof(ways[0]))](writer);
}
