/* SPDX-License-Identifier: Apache-2.0 */
/* What a member does to a log, and those beside it. */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#define PIECES 3u

struct payload payload_of(uint32_t pen, uint32_t sequence)
{
    return (struct payload){
        .life = scene->name, .sequence = sequence, .writer = pen, .max_bytes = crew->pen[pen].max_bytes
    };
}

uint16_t tag_of(const struct payload *payload)
{
    const uint16_t tag = payload_tag(payload);

    return tag % 16 == 1 ? tag : 0;
}

/* ---- a thread that writes ------------------------------------------------------------------------- */

/* Whichever told it: all up to there is durable, in the eyes of all that have the log open. */
static void note_durable(struct hand *hand, uint64_t lsn)
{
    const uint64_t admitted = twinlog_durable_lsn(hand->to);

    if (admitted < lsn)
        violation("LSN %" PRIu64 " was told durable, and the watermark is at %" PRIu64, lsn, admitted);
    raise_to(&scene->durable, lsn);
}

static int append_plain(struct hand *hand, size_t size, uint64_t *ret_lsn)
{
    const int rc = twinlog_append(hand->to, hand->record, size, ret_lsn);

    if (rc == 0 && self->options.mode == TWINLOG_MODE_DURABLE)
        note_durable(hand, *ret_lsn);
    return rc;
}

/* With terms of its own it waits for the disk, if they say so. */
static int append_entry(struct hand *hand, size_t size, uint16_t tag, uint64_t *ret_lsn)
{
    const size_t first = rng_below(&hand->rng, size + 1), second = rng_below(&hand->rng, size - first + 1);
    const struct iovec pieces[PIECES] = {
        { hand->record, first },
        { hand->record + first, second },
        { hand->record + first + second, size - first - second },
    };
    const struct twinlog_entry entry = {
        .pieces = pieces, .piece_count = PIECES, .tag = tag, .type = (uint8_t)tag
    };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    const bool is_durable = self->durable_one_in > 0 && rng_one_in(&hand->rng, self->durable_one_in);
    int rc;

    terms.level = is_durable ? TWINLOG_LEVEL_DURABLE : TWINLOG_LEVEL_WRITTEN;
    atomic_store(&hand->pen->may_wait, is_durable);
    rc = twinlog_append_batch(hand->to, &entry, 1, &terms, ret_lsn);
    if (rc == 0 && is_durable)
        note_durable(hand, *ret_lsn);
    atomic_store(&hand->pen->may_wait, false);
    return rc;
}

bool is_record_distinct(uint32_t pen, uint32_t sequence)
{
    const struct payload payload = payload_of(pen, sequence);

    return payload_size(&payload) > 0;
}

/* Returns the LSN, 0 if the first opening allows no record of that size. */
uint64_t append(struct hand *hand, uint32_t sequence, bool may_lie)
{
    const struct payload payload = payload_of(hand->number, sequence);
    const size_t size = payload_size(&payload);
    const uint16_t tag = tag_of(&payload);
    uint64_t lsn = 0;
    int rc;

    payload_fill(&payload, hand->record);
    if (may_lie && tells(LIE_GARBLED))
        hand->record[size - 1] ^= 1;
    rc = tag != 0 || rng_one_in(&hand->rng, 4) ? append_entry(hand, size, tag, &lsn)
                                               : append_plain(hand, size, &lsn);
    if (rc == -EMSGSIZE && size > scene->least_max_bytes)
        return 0;
    check_call(rc, "an append");
    hand->bytes += size;
    raise_to(&scene->told, lsn);
    if (may_lie && !scene->has_power && tells(LIE_DURABLE))
        raise_to(&scene->durable, lsn + 1000);
    return lsn;
}

/* Everything that anybody was told before is durable then. */
static void sync_and_note(struct twinlog *log)
{
    const uint64_t told = atomic_load(&scene->told);

    check_call(twinlog_sync(log), "twinlog_sync");
    if (twinlog_durable_lsn(log) < told)
        violation("LSN %" PRIu64 " was there before a sync, and the watermark is at %" PRIu64 " after it",
                  told, twinlog_durable_lsn(log));
    raise_to(&scene->durable, told);
}

static void wait_and_note(struct hand *hand)
{
    const uint32_t returned = atomic_load(&hand->pen->returned);
    const uint64_t lsn = returned > 0 ? hand->pen->where[returned - 1] : 0;

    if (lsn == 0)
        return;
    check_call(twinlog_wait(hand->to, lsn, TWINLOG_LEVEL_DURABLE, 0), "twinlog_wait");
    note_durable(hand, lsn);
}

void sync_or_wait(struct hand *hand)
{
    if (self->sync_one_in == 0 || !rng_one_in(&hand->rng, self->sync_one_in))
        return;
    atomic_store(&hand->pen->may_wait, true);
    if (rng_one_in(&hand->rng, 2))
        sync_and_note(hand->to);
    else
        wait_and_note(hand);
    atomic_store(&hand->pen->may_wait, false);
}

/* ---- a process that writes ------------------------------------------------------------------------ */

static _Atomic bool must_reader_stop;

static void *read_along(void *log)
{
    struct follower follower = { .seen = &scene->seen };
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader = open_reader(NULL, log, 0, &report);

    follow(&follower, reader, &report, &must_reader_stop, "a reader inside a member");
    twinlog_reader_close(reader);
    return NULL;
}

/* What others were told this one sees, too. */
static void look_at_watermarks(struct twinlog *log)
{
    const uint64_t told = atomic_load(&scene->durable), before = atomic_load(&self->written);
    const uint64_t durable = twinlog_durable_lsn(log), written = twinlog_written_lsn(log);

    if (durable < told)
        violation("somebody was told that LSN %" PRIu64
                  " is durable, and another one's watermark is at %" PRIu64,
                  told, durable);
    if (written < durable)
        violation("LSN %" PRIu64 " is durable, but only %" PRIu64 " is written", durable, written);
    if (written < before)
        violation("LSN %" PRIu64 " was written, and then only %" PRIu64, before, written);
    atomic_store(&self->written, written);
}

static void look_on(struct twinlog *log)
{
    while (!is_leaving()) {
        const uint32_t asked = atomic_load(&self->asked);

        look_at_watermarks(log);
        if (asked != atomic_load(&self->answered)) {
            sync_and_note(log);
            look_at_watermarks(log);
            atomic_store(&self->answered, asked);
        }
        nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
    }
}

void watch_log(void *log)
{
    pthread_t reader;

    atomic_store(&must_reader_stop, false);
    if (self->has_reader && (errno = pthread_create(&reader, NULL, read_along, log)) != 0)
        give_up("pthread_create");
    look_on(log);
    atomic_store(&must_reader_stop, true);
    if (self->has_reader)
        pthread_join(reader, NULL);
}

void *open_log(struct member *member)
{
    const uint64_t told = atomic_load(&scene->told);
    struct twinlog *log = open_or_fail(place.log, &member->options, "the log");
    uint64_t none = NOTHING;

    if (twinlog_last_lsn(log) < told)
        violation("LSN %" PRIu64 " was told, and a newcomer finds the last one to be %" PRIu64, told,
                  twinlog_last_lsn(log));
    if (scene->is_alone)
        atomic_compare_exchange_strong(&scene->found, &none, twinlog_last_lsn(log));
    atomic_store(&member->written, 0);
    return log;
}

void close_log(void *log)
{
    check_call(twinlog_close(log), "twinlog_close");
}

/* ---- those beside it ------------------------------------------------------------------------------ */

int open_log_as_guest(const struct member *member)
{
    struct twinlog_options options = member->options;
    struct twinlog *log;
    int rc;

    options.mode = crew->guest_mode;
    options.lock_timeout_ms = 0;
    rc = twinlog_open(place.log, &options, &log);
    if (rc == 0)
        twinlog_close(log);
    return rc;
}

void run_heir(void *unused)
{
    struct rng rng = { scene->heir_mode };
    struct twinlog_options options;
    struct twinlog *log;
    uint64_t lsn = 0;

    (void)unused;
    face(&scene->heir_fate);
    choose_log_options(&options, scene->heir_mode, &rng);
    log = open_or_fail(place.copy, &options, "a copy");
    scene->opened_last = twinlog_last_lsn(log);
    for (uint64_t i = 1; i <= scene->heir_records; i++) {
        check_call(twinlog_append(log, "behind", 6, &lsn), "an append to a copy");
        if (lsn != scene->opened_last + i)
            violation("a copy had last LSN %" PRIu64 ", and record %" PRIu64 " behind it is %" PRIu64,
                      scene->opened_last, i, lsn);
    }
    check_call(twinlog_close(log), "twinlog_close of a copy");
}
