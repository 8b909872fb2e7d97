/* SPDX-License-Identifier: Apache-2.0 */
/* A process that writes to a mapped log, and those that read along. */
#define _GNU_SOURCE
#include "mapped.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define FIB_SEQUENCE 20u
#define PIECES 3u

static struct writer_life *self;

bool tells(enum fib fib)
{
    return stage->fib == fib && !atomic_exchange(&stage->has_fibbed, true);
}

struct payload payload_of(const struct writer_life *life, uint32_t hand, uint32_t sequence)
{
    return (struct payload){
        .life = life->name, .sequence = sequence, .writer = hand, .max_bytes = life->options.max_record_bytes
    };
}

/* ---- a thread that writes ------------------------------------------------------------------------- */

struct hand {
    struct twinlog *log;
    struct rng rng;
    uint32_t number;
    struct hand_notes *notes;
    uint64_t bytes;
    pthread_t thread;
    unsigned char record[PAYLOAD_MAX_BYTES];
};

static void note_durable(uint64_t lsn)
{
    raise_to(&self->synced, lsn);
    raise_to(&self->durable, lsn);
}

static uint64_t append_pieces(struct hand *hand, size_t size)
{
    const size_t first = rng_below(&hand->rng, size + 1), second = rng_below(&hand->rng, size - first + 1);
    const struct iovec pieces[PIECES] = {
        { hand->record, first },
        { hand->record + first, second },
        { hand->record + first + second, size - first - second },
    };
    const struct twinlog_entry entry = { .pieces = pieces, .piece_count = PIECES };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    uint64_t lsn = 0;

    /* with terms of its own it waits, in the mapped mode too */
    terms.level = TWINLOG_LEVEL_WRITTEN;
    if (self->options.mode == TWINLOG_MODE_DURABLE || rng_one_in(&hand->rng, 8))
        terms.level = TWINLOG_LEVEL_DURABLE;
    check_call(twinlog_append_batch(hand->log, &entry, 1, &terms, &lsn), "twinlog_append_batch");
    if (terms.level == TWINLOG_LEVEL_DURABLE)
        note_durable(lsn);
    return lsn;
}

static uint64_t append(struct hand *hand, uint32_t sequence)
{
    const struct payload payload = payload_of(self, hand->number, sequence);
    const size_t size = payload_size(&payload);
    uint64_t lsn = 0;

    payload_fill(&payload, hand->record);
    hand->bytes += size;
    if (sequence > FIB_SEQUENCE && size > 0 && tells(FIB_GARBLED))
        hand->record[size - 1] ^= 1;
    if (rng_one_in(&hand->rng, 4))
        return append_pieces(hand, size);
    check_call(twinlog_append(hand->log, hand->record, size, &lsn), "twinlog_append");
    if (self->options.mode == TWINLOG_MODE_DURABLE)
        note_durable(lsn);
    return lsn;
}

static void append_next(struct hand *hand)
{
    const uint32_t sequence = atomic_load(&hand->notes->begun);
    const bool may_fib = sequence > FIB_SEQUENCE;

    atomic_store(&hand->notes->begun, sequence + 1);
    if (may_fib && tells(FIB_SWAPPED)) {
        atomic_store(&hand->notes->begun, sequence + 2);
        hand->notes->lsn[sequence + 1] = append(hand, sequence);
        hand->notes->lsn[sequence] = append(hand, sequence + 1);
        atomic_store(&hand->notes->returned, sequence + 2);
        return;
    }
    if (may_fib && tells(FIB_LOST))
        hand->notes->lsn[sequence] = hand->notes->lsn[sequence - 1] + 1;
    else
        hand->notes->lsn[sequence] = append(hand, sequence);
    if (may_fib && tells(FIB_TWICE))
        append(hand, sequence);
    atomic_store(&hand->notes->returned, sequence + 1);
}

static void sync_and_note(struct hand *hand)
{
    const uint32_t returned = atomic_load(&hand->notes->returned);
    const uint64_t own = returned > 0 ? hand->notes->lsn[returned - 1] : 0;

    if (stage->fib == FIB_DURABLE) {
        raise_to(&self->durable, own);
        return;
    }
    check_call(twinlog_sync(hand->log), "twinlog_sync");
    if (twinlog_durable_lsn(hand->log) < own)
        violation("LSN %" PRIu64 " was appended before a sync, and is not durable after it", own);
    note_durable(twinlog_durable_lsn(hand->log));
}

static void *write_records(void *context)
{
    struct hand *hand = context;

    while (!atomic_load(&self->must_stop) && atomic_load(&hand->notes->begun) < RECORDS_MAX - 2 &&
           hand->bytes < HAND_MAX_BYTES) {
        append_next(hand);
        if (self->sync_one_in > 0 && rng_one_in(&hand->rng, self->sync_one_in))
            sync_and_note(hand);
        if (self->pause_one_in > 0 && rng_one_in(&hand->rng, self->pause_one_in))
            pause_a_moment();
    }
    while (!atomic_load(&self->must_stop))
        pause_a_moment();
    return NULL;
}

/* ---- processes ----------------------------------------------------------------------------------- */

static void start_hand(struct hand *hand, struct twinlog *log, uint32_t number)
{
    hand->log = log;
    hand->rng = (struct rng){ rng_next(&self->rng) };
    hand->number = number;
    hand->notes = &self->hand[number];
    errno = pthread_create(&hand->thread, NULL, write_records, hand);
    if (errno != 0)
        give_up("pthread_create");
}

static void *read_along(void *log)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct follower *follower = &stage->followers[FOLLOWERS];
    struct twinlog_report report = { 0 };
    struct twinlog_reader *reader;

    options.ret_report = &report;
    follower->seen = &stage->seen;
    atomic_store(&follower->last_lsn, 0);
    check_call(twinlog_reader_attach(log, &options, &reader), "twinlog_reader_attach");
    follow(follower, reader, &report, &self->must_stop, "a reader inside the writer");
    twinlog_reader_close(reader);
    return NULL;
}

void run_writer(void *life)
{
    static struct hand hands[HANDS_MAX];
    struct twinlog_report report = { 0 };
    struct twinlog *log;
    pthread_t reader;
    int rc;

    self = life;
    face(&self->fate);
    self->options.ret_report = &report;
    rc = twinlog_open(place.log, &self->options, &log);
    if (rc < 0)
        violation("twinlog_open: %s; %s", twinlog_strerror(rc), report.text);
    atomic_store(&self->opened_last, twinlog_last_lsn(log));
    atomic_store(&self->is_open, true);
    if (self->has_reader && (errno = pthread_create(&reader, NULL, read_along, log)) != 0)
        give_up("pthread_create");
    for (uint32_t i = 0; i < self->hands; i++)
        start_hand(&hands[i], log, i);
    for (uint32_t i = 0; i < self->hands; i++)
        pthread_join(hands[i].thread, NULL);
    if (self->has_reader)
        pthread_join(reader, NULL);
    check_call(twinlog_close(log), "twinlog_close");
    atomic_store(&self->is_closed, true);
}

void run_opening(void *dir)
{
    struct twinlog_report report = { 0 };
    struct twinlog *log;
    int rc;

    self = &stage->life;
    face(&self->fate);
    self->options.ret_report = &report;
    rc = twinlog_open(dir, &self->options, &log);
    if (rc < 0)
        violation("twinlog_open of an image: %s; %s", twinlog_strerror(rc), report.text);
    check_call(twinlog_close(log), "twinlog_close");
}
