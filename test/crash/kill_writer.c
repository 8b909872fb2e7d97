/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that is killed: opens the log and appends from many threads until somebody stops it. Mostly
 * one record after the other; now and then some that are only accepted, and then a sync. The first thread
 * changes the log in other ways too.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <pthread.h>

static pthread_rwlock_t appending;

void hold_appends(struct life *life)
{
    if (life->is_alone)
        pthread_rwlock_wrlock(&appending);
}

void let_append(struct life *life)
{
    if (life->is_alone)
        pthread_rwlock_unlock(&appending);
}

static void note_durable(struct writer *writer)
{
    const uint32_t since = atomic_load(&world->truncations_done);
    const bool is_lie = place.lie == LIE_DURABLE && rng_one_in(&writer->rng, 64);
    const uint64_t durable = twinlog_durable_lsn(writer->log) + (is_lie ? 1000 : 0);

    atomic_store_explicit(&writer->notes->durable, stamp(durable, since), memory_order_release);
}

void note_acked(struct writer *writer)
{
    atomic_store_explicit(&writer->notes->acked, writer->next.sequence, memory_order_release);
    writer->newest = writer->next.sequence;
    note_durable(writer);
}

static void swap_with_last(const struct notes *notes, struct record_note *note)
{
    const uint64_t lsn = note->lsn;

    if (note == notes->record)
        return;
    note->lsn = note[-1].lsn;
    note[-1].lsn = lsn;
}

void note_begun(struct writer *writer, uint32_t count, bool are_tagged)
{
    const uint64_t first = writer->next.sequence;

    for (uint32_t i = 0; i < count; i++) {
        writer->notes->record[first + i].since = atomic_load(&world->truncations_done);
        writer->notes->record[first + i].is_tagged = are_tagged;
    }
    atomic_store_explicit(&writer->notes->begun, first + count, memory_order_release);
}

void note_accepted(struct writer *writer, uint64_t lsn, uint32_t count)
{
    const uint32_t until = atomic_load(&world->truncations_started);

    for (uint32_t i = 0; i < count; i++) {
        struct record_note *note = &writer->notes->record[writer->next.sequence + i];

        note->lsn = lsn + i;
        note->until = until;
    }
    if (place.lie == LIE_SWAPPED && rng_one_in(&writer->rng, 64))
        swap_with_last(writer->notes, &writer->notes->record[writer->next.sequence]);
    writer->next.sequence += count;
    atomic_store_explicit(&writer->notes->accepted, writer->next.sequence, memory_order_release);
    if (place.lie == LIE_ACK)
        note_acked(writer);
}

typedef int accept_function(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);

static int hand_over(struct writer *writer, accept_function *accept)
{
    const size_t size = payload_size(&writer->next);
    uint64_t lsn;
    int result;

    payload_fill(&writer->next, writer->record);
    if (place.lie == LIE_BYTES && size > 0 && rng_one_in(&writer->rng, 64))
        writer->record[rng_below(&writer->rng, size)] ^= 0x10;
    note_begun(writer, 1, false);
    result = accept(writer->log, writer->record, size, &lsn);
    if (result == 0 && place.lie == LIE_TWICE && rng_one_in(&writer->rng, 64))
        result = accept(writer->log, writer->record, size, NULL);
    if (result == 0)
        note_accepted(writer, lsn, 1);
    return result;
}

int append_while_held(struct writer *writer)
{
    const int result = hand_over(writer, twinlog_append);

    if (result == 0)
        note_acked(writer);
    return result;
}

/* -EINVAL means that nobody accepted the record: true if a truncation came in between. */
static int wait_for(struct writer *writer, const struct record_note *note)
{
    const int result = twinlog_wait(writer->log, note->lsn, TWINLOG_LEVEL_DURABLE, 0);

    if (result == -EINVAL && atomic_load(&world->truncations_started) != note->since)
        return twinlog_sync(writer->log);
    return result;
}

static int enqueue_some(struct writer *writer)
{
    int result = 0;

    for (uint64_t left = 1 + rng_below(&writer->rng, 8); result == 0 && left > 0; left--)
        result = hand_over(writer, twinlog_enqueue);
    if (result == 0 && rng_one_in(&writer->rng, 2))
        result = wait_for(writer, &writer->notes->record[writer->next.sequence - 1]);
    else if (result == 0)
        result = twinlog_sync(writer->log);
    if (result == 0)
        note_acked(writer);
    return result;
}

static bool has_room(const struct writer *writer)
{
    return writer->next.sequence + 10 < NOTES_MAX;
}

static int enqueue_last(struct writer *writer)
{
    return has_room(writer) ? hand_over(writer, twinlog_enqueue) : 0;
}

static int take_turn(struct writer *writer, int (*append)(struct writer *writer))
{
    int result;

    if (writer->life->is_alone)
        pthread_rwlock_rdlock(&appending);
    result = append(writer);
    if (writer->life->is_alone)
        pthread_rwlock_unlock(&appending);
    return result;
}

static bool is_changer(const struct writer *writer)
{
    return writer == writer->life->changer && writer->life->change_one_in > 0;
}

/* The thread that forbids it looks at is_changing after that. */
static int change_if_allowed(struct writer *writer)
{
    struct life *life = writer->life;
    int result = 0;

    atomic_store(&life->is_changing, true);
    if (!atomic_load(&life->may_not_change))
        result = change_something(writer);
    atomic_store(&life->is_changing, false);
    return result;
}

static int (*choose_way(struct writer *writer))(struct writer *writer)
{
    if (writer->life->options.mode == TWINLOG_MODE_MAPPED)
        return enqueue_some;
    const uint64_t kind = rng_below(&writer->rng, 8);
    if (kind == 0)
        return enqueue_some;
    return kind < 3 ? append_another_way : append_while_held;
}

static void *write_records(void *argument)
{
    struct writer *writer = argument;
    struct life *life = writer->life;
    int result = 0;

    while (result == 0 && has_room(writer) && !atomic_load(&life->must_stop) &&
           atomic_load(&life->error) == 0)
        if (is_changer(writer) && rng_one_in(&writer->rng, life->change_one_in))
            result = change_if_allowed(writer);
        else
            result = take_turn(writer, choose_way(writer));
    if (result == 0) /* for close to make durable */
        result = take_turn(writer, enqueue_last);
    if (result < 0)
        atomic_store(&life->error, result);
    return NULL;
}

static void *read_along(void *argument)
{
    const struct writer *writer = argument;
    struct life *life = writer->life;
    const int result = read_attached(writer->log, (struct rng){ rng_mix(~life->name) });

    if (result < 0)
        atomic_store(&life->error, result);
    return NULL;
}

static void prefer_cuts(void)
{
    pthread_rwlockattr_t attributes;

    pthread_rwlockattr_init(&attributes);
#ifdef __GLIBC__ /* musl has no such preference */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&appending, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

static int run_threads(struct life *life, struct twinlog *log)
{
    static struct writer writers[MAX_WRITERS];
    pthread_t threads[MAX_WRITERS], reader;
    uint32_t started = 0;
    int result = 0;

    prefer_cuts();
    life->changer = &writers[0];
    for (; started < life->writers && result == 0; started += result == 0) {
        writers[started] = (struct writer){
            .log = log,
            .life = life,
            .notes = &life->notes[started],
            .rng = { rng_mix(life->name + started) },
            .next = { .life = life->name, .writer = started, .max_bytes = life->options.max_record_bytes }
        };
        result = -pthread_create(&threads[started], NULL, write_records, &writers[started]);
    }
    atomic_store(&shared->attached.must_stop, false);
    if (result == 0 && life->has_reader) {
        result = -pthread_create(&reader, NULL, read_along, &writers[0]);
        life->has_reader = result == 0;
    }
    while (started > 0)
        pthread_join(threads[--started], NULL);
    atomic_store(&shared->attached.must_stop, true);
    if (life->has_reader)
        pthread_join(reader, NULL);
    return result < 0 ? result : atomic_load(&life->error);
}

static int live(struct life *life)
{
    struct twinlog_committer_options committer_options = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct twinlog_committer *committer = NULL;
    struct twinlog_queue *queue = open_queue();
    struct twinlog *log;
    int result = 0, closed, committer_closed;

    life->options.ret_report = &life->report;
    if (life->writers % 2 == 0) /* without a thread: the writers drive it */
        committer_options.queue = queue;
    if (life->has_committer)
        result = twinlog_committer_open(&committer_options, &committer);
    life->options.committer = committer;
    if (result == 0)
        result = twinlog_open(place.log, &life->options, &log);
    if (result < 0)
        return result;
    world_settle(log, life->is_retaining);
    atomic_store(&life->opened_last, stamp(twinlog_last_lsn(log), atomic_load(&world->truncations_done)));
    atomic_store(&life->is_open, true);
    result = run_threads(life, log);

    /* A log that says what it could not make durable is closed all the same. */
    closed = twinlog_close(log);
    committer_closed = twinlog_committer_close(committer);
    if (closed == 0)
        closed = committer_closed;
    close_queue();

    if (result == 0 && closed == 0)
        for (uint32_t i = 0; i < life->writers; i++)
            atomic_store(&life->notes[i].acked, atomic_load(&life->notes[i].accepted));
    return result < 0 ? result : closed;
}

void run_writer(void *life)
{
    atomic_store(&((struct life *)life)->error, live(life));
}
