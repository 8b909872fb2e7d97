/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the first thread of a writer does beside appending: trims, truncations, resets, cursors, values. It
 * notes each change before and after, and compares what the calls say with what it expects of them.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <twinlog_admin.h>

static bool is_retaining(void)
{
    return atomic_load(&world->head_most) == NOTHING;
}

static uint64_t newest_lsn(const struct writer *writer)
{
    return writer->newest > 0 ? writer->notes->record[writer->newest - 1].lsn : 0;
}

static bool is_lie(struct writer *writer, enum lie lie)
{
    return place.lie == lie && rng_one_in(&writer->rng, 8);
}

/* ---- trims ------------------------------------------------------------------------------------- */

/* The first LSN that the cursors here let go. */
static uint64_t held_lsn(void)
{
    uint64_t lsn = NOTHING;

    for (unsigned i = 0; i < CURSORS; i++) {
        const uint64_t cursor = current(&world->cursor[i]);

        if (cursor != NOTHING)
            lsn = min_u64(lsn, 1 + max_u64(min_u64(stamp_lsn(cursor), world_keeps(stamp_since(cursor))),
                                           max_u64(atomic_load(&world->floor_least), 1) - 1));
    }
    return lsn;
}

static bool is_held_by_consumer(const struct twinlog_trim_result *result)
{
    return result->holder == TWINLOG_HELD_BY_CURSOR && strcmp(result->holder_name, CONSUMER_NAME) == 0;
}

static void check_trim(uint64_t head, uint64_t expected, const struct twinlog_trim_result *result)
{
    const bool is_exact = !is_held_by_consumer(result) && !is_retaining();

    if (result->first_lsn < head || (result->first_lsn > expected && !is_retaining()))
        violation("a trim says the log begins with LSN %" PRIu64 ", not with one of %" PRIu64 " to %" PRIu64,
                  result->first_lsn, head, expected);
    if (is_exact && (result->first_lsn != expected || result->removed_records != expected - head))
        violation("a trim removed %" PRIu64 " records and left LSN %" PRIu64 ", not %" PRIu64 " and %" PRIu64,
                  result->removed_records, result->first_lsn, expected - head, expected);
}

static void note_head(uint64_t lsn)
{
    atomic_store(&world->head_least, lsn);
    atomic_store(&world->head_asked, 0);
    raise_to(&world->head_highest, lsn);
    if (!is_retaining())
        atomic_store(&world->head_most, lsn);
}

/* Readers may be told of the new head before the call returns. */
static void expect_head(uint64_t most)
{
    atomic_store(&world->head_asked, most);
    if (most < UNKNOWN)
        raise_to(&world->head_highest, most);
    if (!is_retaining())
        atomic_store(&world->head_most, most);
}

/* Exact: up to some record of its own. */
static int trim_before(struct writer *writer)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    const uint64_t head = atomic_load(&world->head_least), newest = newest_lsn(writer);
    const bool is_past_cursors = rng_one_in(&writer->rng, 8);
    uint64_t expected;
    int rc = 0;

    if (newest < head)
        return 0;
    options.before_lsn = head + rng_below(&writer->rng, newest + 1 - head);
    if (rng_one_in(&writer->rng, 16))
        options.before_lsn = newest + 1;
    options.flags = is_past_cursors ? TWINLOG_TRIM_PAST_CURSORS : 0;
    expected = max_u64(head, min_u64(options.before_lsn, is_past_cursors ? NOTHING : held_lsn()));
    expect_head(expected);
    if (is_past_cursors)
        world_expect_floor(max_u64(expected, atomic_load(&world->floor_most)));
    if (is_lie(writer, LIE_TRIM))
        result.first_lsn = expected;
    else
        rc = twinlog_trim(writer->log, &options, &result);
    if (rc < 0)
        return rc;
    if (result.size > 0 && place.lie != LIE_TRIM)
        check_trim(head, expected, &result);
    note_head(result.first_lsn);
    if (is_past_cursors)
        world_set_floor(atomic_load(&world->floor_most));
    atomic_fetch_add(&shared->trims, 1);
    return 0;
}

/* So that as many are kept as there are now, about, or so many bytes. */
static int trim_rest(struct writer *writer)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    const uint64_t head = atomic_load(&world->head_least);
    int rc;

    if (rng_one_in(&writer->rng, 2))
        options.keep_records = 1 + rng_below(&writer->rng, 1000);
    else
        options.keep_bytes = 1 + rng_below(&writer->rng, 8u << 20);
    expect_head(min_u64(held_lsn(), UNKNOWN)); /* what is durable when it returns has a say too */
    rc = twinlog_trim(writer->log, &options, &result);
    if (rc < 0)
        return rc;
    if (result.first_lsn < head ||
        (options.keep_records > 0 && result.first_lsn > head &&
         result.first_lsn + options.keep_records > twinlog_durable_lsn(writer->log) + 1 && !is_retaining()))
        violation("a trim that keeps %" PRIu64 " records moved the head from LSN %" PRIu64 " to %" PRIu64
                  ", with %" PRIu64 " durable",
                  options.keep_records, head, result.first_lsn, twinlog_durable_lsn(writer->log));
    note_head(result.first_lsn);
    atomic_fetch_add(&shared->trims, 1);
    return 0;
}

/* ---- cuts -------------------------------------------------------------------------------------- */

/* Its own newest records are a good place: one of them is known to be there. 0 = none will do. */
static uint64_t choose_evidence(struct writer *writer)
{
    const struct notes *notes = writer->notes;
    const uint32_t since = atomic_load(&world->truncations_done);
    struct payload payload = writer->next;
    uint64_t chosen = 0;

    for (uint64_t i = writer->newest; i > 0 && notes->record[i - 1].since == since; i--) {
        payload.sequence = i - 1;
        if (notes->record[i - 1].lsn < atomic_load(&world->head_least))
            break;
        if (payload_has_label(&payload)) {
            chosen = i;
            if (rng_one_in(&writer->rng, 4))
                break;
        }
    }
    return chosen;
}

static bool begin_cut(struct writer *writer, uint64_t next_lsn, uint64_t *ret_keep)
{
    const uint64_t chosen = choose_evidence(writer);
    const uint32_t index = atomic_load(&world->truncations_started);

    if (chosen == 0 || index + 1 == MAX_CUTS)
        return false;
    world->evidence.next_lsn = next_lsn;
    world->evidence.head = atomic_load(&world->head_least);
    world->evidence.lsn = writer->notes->record[chosen - 1].lsn;
    world->evidence.payload = writer->next;
    world->evidence.payload.sequence = chosen - 1;
    *ret_keep = next_lsn > 0 ? 0 : world->evidence.lsn - 1;
    world->keep[index] = *ret_keep;
    world->next[index] = next_lsn > 0 ? next_lsn : *ret_keep + 1;
    atomic_store(&world->truncations_started, index + 1);
    return true;
}

static void end_cut(struct writer *writer)
{

    writer->newest = 0;
    atomic_store(&world->truncations_done, atomic_load(&world->truncations_started));
}

/* A retention may have moved the head behind the place meanwhile: then there is nothing to truncate. */
static void cancel_cut(void)
{
    const uint32_t index = atomic_load(&world->truncations_done);

    world->keep[index] = world->next[index] = NOTHING;
    atomic_store(&world->truncations_done, atomic_load(&world->truncations_started));
}

/* Nobody else appends here. */
static int expect_next(struct writer *writer, uint64_t lsn)
{
    int rc;

    if (twinlog_last_lsn(writer->log) + 1 != lsn || twinlog_durable_lsn(writer->log) + 1 != lsn)
        violation("after a cut LSN %" PRIu64 " is the last, %" PRIu64
                  " durable; the next one should be %" PRIu64,
                  twinlog_last_lsn(writer->log), twinlog_durable_lsn(writer->log), lsn);
    rc = append_while_held(writer);
    if (rc == 0 && newest_lsn(writer) != lsn)
        violation("after a cut a record got LSN %" PRIu64 ", not %" PRIu64, newest_lsn(writer), lsn);
    return rc;
}

/* By the call, or as a loop does it. */
static int truncate_to(struct writer *writer, uint64_t keep)
{
    struct twinlog_request request = { 0 }, *done;
    if (rng_one_in(&writer->rng, 2))
        return twinlog_truncate(writer->log, keep);

    int rc = twinlog_queue_open(&request.queue);
    if (rc == 0)
        rc = twinlog_submit_truncate(writer->log, keep, &request);
    if (rc < 0)
        return rc;
    while (twinlog_queue_poll(request.queue, &done, 1, -1) == 0)
        continue;
    rc = twinlog_queue_close(request.queue);
    return rc < 0 ? rc : request.result;
}

static int cut(struct writer *writer)
{
    const bool is_lied = is_lie(writer, LIE_CUT);
    uint64_t keep;
    int rc = 0;

    hold_appends(writer->life);
    if (begin_cut(writer, 0, &keep)) {
        rc = is_lied ? 0 : truncate_to(writer, keep);
        if (rc == TWINLOG_ETRIMMED && is_retaining()) {
            cancel_cut();
            rc = 0;
        } else if (rc == 0) {
            end_cut(writer);
            atomic_fetch_add(&shared->cuts, 1);
            if (writer->life->is_alone && !is_lied)
                rc = expect_next(writer, keep + 1);
        }
    }
    let_append(writer->life);
    return rc;
}

static uint64_t choose_reset(struct writer *writer)
{
    const uint64_t last = twinlog_last_lsn(writer->log);

    switch (rng_below(&writer->rng, 4)) {
    case 0:
        return 1;
    case 1:
        return 1 + rng_below(&writer->rng, last + 1);
    case 2:
        return min_u64(last + 1, writer->life->most_lsn);
    default:
        return min_u64(last + 1 + rng_below(&writer->rng, 1000), writer->life->most_lsn);
    }
}

/* A retention would hide what became of it. */
static int reset(struct writer *writer)
{
    const uint64_t next_lsn = choose_reset(writer), head = atomic_load(&world->head_least);
    uint64_t keep;
    int rc = 0;

    if (is_retaining())
        return 0;
    hold_appends(writer->life);
    if (begin_cut(writer, next_lsn, &keep)) {
        atomic_store(&world->head_least, min_u64(head, next_lsn));
        expect_head(max_u64(head, next_lsn));
        rc = twinlog_reset(writer->log, next_lsn);
        if (rc == 0) {
            world_set_floor(next_lsn);
            note_head(next_lsn);
            end_cut(writer);
            atomic_fetch_add(&shared->resets, 1);
            if (writer->life->is_alone)
                rc = expect_next(writer, next_lsn);
        }
    }
    let_append(writer->life);
    return rc;
}

/* ---- names ------------------------------------------------------------------------------------- */

static uint64_t choose_cursor(struct writer *writer)
{
    const uint64_t head = atomic_load(&world->head_least), newest = newest_lsn(writer);

    if (newest < head || rng_one_in(&writer->rng, 8))
        return NOTHING;
    return head - 1 + rng_below(&writer->rng, newest + 2 - head);
}

static int set_cursor(struct writer *writer)
{
    const unsigned index = (unsigned)rng_below(&writer->rng, CURSORS);
    struct changing *cursor = &world->cursor[index];
    const uint64_t lsn = choose_cursor(writer);
    char name[TWINLOG_NAME_BYTES];
    uint64_t now = NOTHING;
    int rc = 0;

    if ((lsn == NOTHING && current(cursor) == NOTHING) || (lsn == 0 && is_retaining()))
        return 0;
    name_cursor(index, name);
    begin_change(cursor, lsn == NOTHING ? NOTHING : stamp(lsn, atomic_load(&world->truncations_done)));
    if (!is_lie(writer, LIE_NAME))
        rc = lsn == NOTHING ? twinlog_cursor_remove(writer->log, name)
                            : twinlog_cursor_set(writer->log, name, lsn);
    if (rc == TWINLOG_ETRIMMED && is_retaining()) {
        begin_change(cursor, current(cursor));
        end_change(cursor);
        return 0;
    }
    if (rc < 0)
        return rc;
    end_change(cursor);
    atomic_fetch_add(&shared->names, 1);
    rc = twinlog_cursor_get(writer->log, name, &now);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (place.lie != LIE_NAME && (rc != (lsn == NOTHING ? -ENOENT : 0) || now != lsn))
        violation("%s was set to %" PRId64 ", now it is %" PRId64 ": %s", name, (int64_t)lsn, (int64_t)now,
                  twinlog_strerror(rc));
    return 0;
}

static int set_value(struct writer *writer)
{
    const unsigned index = (unsigned)rng_below(&writer->rng, VALUES);
    struct changing *versions = &world->value[index];
    const uint64_t version = current(versions) + 1;
    unsigned char data[TWINLOG_META_BYTES];
    char name[TWINLOG_NAME_BYTES];
    size_t size;
    int rc = 0;

    name_value(index, name);
    begin_change(versions, version);
    if (is_lie(writer, LIE_NAME))
        rc = 0;
    else if (fill_value(version, data, &size))
        rc = twinlog_meta_set(writer->log, name, data, size);
    else
        rc = twinlog_meta_remove(writer->log, name);
    if (rc == -ENOENT && (!fill_value(version - 1, data, &size) || place.lie == LIE_NAME))
        rc = 0;
    if (rc < 0)
        return rc;
    end_change(versions);
    atomic_fetch_add(&shared->names, 1);
    return 0;
}

static int reset_or_cut(struct writer *writer)
{
    return rng_one_in(&writer->rng, 2) ? reset(writer) : cut(writer);
}

int change_something(struct writer *writer)
{
    static int (*const ways[])(struct writer * writer) = {
        trim_before, trim_before, trim_before, trim_before, trim_rest, cut,       cut,       reset_or_cut,
        set_cursor,  set_cursor,  set_cursor,  set_cursor,  set_value, set_value, set_value, set_value
    };
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    int rc = twinlog_stat(writer->log, &stat);

    if (rc < 0)
        return rc;
    atomic_store(&writer->life->rolls, stat.rolls);
    atomic_store(&writer->life->recycled, stat.recycled_segments);
    return ways[rng_below(&writer->rng, sizeof(ways) / sizeof(ways[0]))](writer);
}
