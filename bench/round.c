/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One timed round.
 *
 * The threads are started first and wait; then the contender is opened, what is still dirty on the
 * file system is written out, and all are let go at once. They append in a closed loop: each takes the
 * time when an append returns, which is also when its next one begins. The rate counts the appends that return
 * between the start and the end of the measured span; the warm-up before it is not counted. Latencies are also those of
 * the appends that were still on their way at the end: they are waited for, or a disk that stands still at the end
 * would not show.
 *
 * With a rate the loop is open: each append has a time at which it should begin, and its latency counts from that time,
 * also if it begins late because the one before it took long. Otherwise a slow append would hide how long the appends
 * that should have come meanwhile would have taken. What was due before the end is begun behind it, too.
 *
 * The threads share three things while the clock runs: the phase, which all read and few
 * write, the contender, and where the round is limited by bytes, the bytes so far.
 */
#include "round.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "machine.h"

#define STACK_BYTES (256u << 10) /* of which little is touched: a thousand threads cost a few MiB */
#define LOOK_AGAIN_NS 10000000   /* how often the main thread looks whether the round is over */

enum phase {
    PHASE_WARMUP,
    PHASE_MEASURE,
    PHASE_STOP,
};

struct round {
    const struct contender *contender; /* [const while threads run], as the next six */
    const char *dir;
    const struct limits *limits;
    struct sizes sizes;
    struct payload payload;
    void *state;
    bool is_open;
    unsigned threads;
    pthread_barrier_t ready, go;

    _Atomic(int) phase;        /* enum phase; only ever moves up */
    _Atomic(uint64_t) stop_ns; /* written before PHASE_STOP by the thread that sets it */
    _Atomic(uint64_t) bytes;   /* counted, where limits->bytes is set */
    _Atomic(int) error;        /* the first one */
};

struct worker {
    _Alignas(64) struct round *round;
    unsigned index;
    uint64_t random;
    uint64_t start_ns; /* of the thread's first append */
    uint64_t appends, bytes;
    struct histogram histogram;
    pthread_t thread;
};

static _Atomic(bool) is_interrupted;

void round_interrupt(void)
{
    atomic_store(&is_interrupted, true);
}
bool round_is_interrupted(void)
{
    return atomic_load(&is_interrupted);
}

static void sleep_ns(uint64_t ns)
{
    struct timespec pause = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    nanosleep(&pause, NULL);
}

/* ---- the appending threads -------------------------------------------------------------------- */

/* The first caller fixes the end of the measured span. */
static void stop(struct round *round, uint64_t when_ns)
{
    uint64_t unset = 0;
    atomic_compare_exchange_strong(&round->stop_ns, &unset, when_ns);
    atomic_store(&round->phase, PHASE_STOP);
}

static void note_error(struct round *round, int error)
{
    int none = 0;
    atomic_compare_exchange_strong(&round->error, &none, error);
    stop(round, now_ns());
}

/* Counts one append; true if it was this thread's last. */
static bool count_append(struct worker *worker, size_t size, uint64_t began_ns, uint64_t returned_ns)
{
    struct round *round = worker->round;
    const double most_bytes = round->limits->bytes;

    histogram_add(&worker->histogram, returned_ns - began_ns);
    worker->appends++;
    worker->bytes += size;
    if (most_bytes == 0)
        return false;

    const uint64_t bytes = atomic_fetch_add(&round->bytes, size) + size;
    if ((double)bytes < most_bytes)
        return false;
    stop(round, returned_ns);
    return true;
}

/* Of an append that was due before the measured span ended, and has returned behind it. */
static void count_late(struct worker *worker, uint64_t began_ns, uint64_t returned_ns)
{
    const bool was_due = began_ns < atomic_load(&worker->round->stop_ns);
    const bool has_failed = atomic_load(&worker->round->error) != 0;

    if (was_due && !has_failed)
        histogram_add(&worker->histogram, returned_ns - began_ns);
}

/* When append `turn` of this thread should begin. The threads take turns. */
static uint64_t intended_ns(const struct worker *worker, uint64_t turn)
{
    const struct round *round = worker->round;
    const double place = (double)turn * round->threads + worker->index;
    return worker->start_ns + (uint64_t)(place / round->limits->rate * 1e9);
}

static void sleep_or_look_again(uint64_t left_ns)
{
    if (left_ns < LOOK_AGAIN_NS)
        sleep_ns(left_ns);
    else
        sleep_ns(LOOK_AGAIN_NS);
}

static enum phase phase_of(const struct round *round)
{
    return (enum phase)atomic_load_explicit(&round->phase, memory_order_acquire);
}

/* Does the round end before that time, or has the user ended it? What is due before the end is begun behind it, too. */
static bool is_over_at(const struct round *round, uint64_t when_ns)
{
    if (phase_of(round) != PHASE_STOP)
        return false;
    return when_ns >= atomic_load(&round->stop_ns) || round_is_interrupted();
}

/* False if the round is over at that time. */
static bool sleep_until(const struct round *round, uint64_t when_ns)
{
    for (;;) {
        const uint64_t now = now_ns();

        if (is_over_at(round, when_ns))
            return false;
        if (now >= when_ns)
            return true;
        sleep_or_look_again(when_ns - now);
    }
}

static struct twinlog_entry draw_record(struct worker *worker)
{
    const struct round *round = worker->round;
    struct twinlog_entry record = { .data = payload_draw(&round->payload, &worker->random) };

    record.size = sizes_draw(&round->sizes, &worker->random);
    return record;
}

static void append_until_stopped(struct worker *worker)
{
    struct round *round = worker->round;
    const struct peer *peer = round->contender->peer;
    const bool has_rate = round->limits->rate > 0;
    uint64_t began_ns = now_ns();

    worker->start_ns = began_ns;
    for (uint64_t turn = 0;; turn++) {
        if (has_rate) {
            began_ns = intended_ns(worker, turn);
            if (!sleep_until(round, began_ns))
                return;
        }

        const struct twinlog_entry record = draw_record(worker);
        const struct append append = { &record, 1, worker->index, APPEND_DURABLE };
        const int error = peer->append(round->state, &append);
        const uint64_t returned_ns = now_ns();
        if (error) {
            note_error(round, error);
            return;
        }

        switch (phase_of(round)) {
        case PHASE_WARMUP:
            break;
        case PHASE_MEASURE:
            if (count_append(worker, record.size, began_ns, returned_ns))
                return;
            break;
        case PHASE_STOP:
            count_late(worker, began_ns, returned_ns);
            if (!has_rate)
                return;
            break; /* sleep_until() says when all that was due is done */
        }
        began_ns = returned_ns;
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    prctl(PR_SET_TIMERSLACK, 1); /* or each sleep takes 50 µs longer */
    pthread_barrier_wait(&worker->round->ready);
    pthread_barrier_wait(&worker->round->go);
    if (worker->round->is_open)
        append_until_stopped(worker);
    return NULL;
}

static struct worker *start_workers(struct round *round)
{
    pthread_attr_t attributes;
    struct worker *workers = allocate_blocks(round->threads * sizeof(*workers));

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (unsigned i = 0; i < round->threads; i++) {
        struct worker *worker = &workers[i];

        worker->round = round;
        worker->index = i;
        worker->random = (i + 1) * UINT64_C(0x2545f4914f6cdd1d);
        const int error = pthread_create(&worker->thread, &attributes, worker_main, worker);
        if (error) {
            fail("cannot start thread %u: %s", i + 1, strerror(error));
            exit(1);
        }
    }
    pthread_attr_destroy(&attributes);
    return workers;
}

/* ---- the thread that holds the clock ---------------------------------------------------------- */

/* What was counted since the contender was opened, or the machine was started. */
struct reading {
    struct peer_counters peer;
    double flushes;           /* of the device */
    struct processor_use use; /* by measure(), next to the clock */
};

static struct reading count(const struct round *round)
{
    struct reading reading = { .peer = { 0 } };

    if (round->contender->peer->count)
        round->contender->peer->count(round->state, &reading.peer);
    reading.flushes = device_flushes(round->dir);
    return reading;
}

/* Returns when the phase is PHASE_STOP. */
static void watch(struct round *round, uint64_t start_ns)
{
    const double seconds = round->limits->seconds;
    uint64_t end_ns = UINT64_MAX;

    if (seconds > 0)
        end_ns = start_ns + (uint64_t)(seconds * 1e9);
    for (;;) {
        const uint64_t now = now_ns();

        if (now >= end_ns || round_is_interrupted())
            stop(round, now);
        if (atomic_load(&round->phase) == PHASE_STOP)
            return;
        sleep_or_look_again(end_ns - now);
    }
}

/* What the threads saw in the measured span. */
static void digest_appends(const struct round *round, const struct worker *workers, uint64_t start_ns,
                           double cpu_seconds, struct figures *figures)
{
    struct histogram all;
    struct work work = {
        .seconds = (double)(atomic_load(&round->stop_ns) - start_ns) / 1e9,
        .cpu_seconds = cpu_seconds,
    };

    histogram_reset(&all);
    for (unsigned i = 0; i < round->threads; i++) {
        histogram_merge(&all, &workers[i].histogram);
        work.appends += (double)workers[i].appends;
        work.bytes += (double)workers[i].bytes;
    }

    figures->wanted_rate = NAN;
    if (round->limits->rate > 0)
        figures->wanted_rate = round->limits->rate;
    figures_set_work(figures, &work);
    figures_set_latencies(figures, &all);
}

/* What the contender says it did in the measured span, and what the device was given meanwhile by it, the file system
 * and everybody else. */
static void digest_counters(const struct reading *from, const struct reading *to, struct figures *figures)
{
    const double appends = (double)(to->peer.appends - from->peer.appends);
    const double syncs = (double)(to->peer.syncs - from->peer.syncs);
    const double flushes = to->flushes - from->flushes;
    const double user_us = (to->use.user_seconds - from->use.user_seconds) * 1e6;
    const double switches = to->use.switches - from->use.switches;

    figures->appends_per_sync = per(appends, syncs);
    figures->flushes_per_append = per(flushes, figures->appends);
    figures->user_us_per_append = per(user_us, figures->appends);
    figures->switches_per_append = per(switches, figures->appends);
}

/* The file system's own backlog, of this contender's preparation and of the files removed before. */
static void write_out(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    syncfs(fd);
    close(fd);
}

/* More than the round will append, with its framing and the warm-up. */
static uint64_t expect_bytes(const struct round *round)
{
    const struct limits *limits = round->limits;
    const double mean = sizes_mean(&round->sizes), framed = mean + 24;
    /* No disk we know commits more often for a thread, and no machine with 2 cores that we know appends more. */
    const double appends_a_second = fmin(12000.0 * round->threads, 1.5e6);
    const double a_second = fmin(appends_a_second * framed, 6e9);
    double measured = INFINITY;

    if (limits->seconds > 0)
        measured = a_second * limits->seconds;
    if (limits->bytes > 0)
        measured = fmin(measured, limits->bytes * framed / mean);
    return (uint64_t)fmin(measured + a_second * limits->warmup_seconds, 1e15);
}

/* True if there is no error. */
static bool is_done(const struct round *round, const char *what, int error)
{
    const struct contender *contender = round->contender;

    if (error)
        fail("%s: %s: %s", contender->label, what, explain_error(contender->peer->explain, error));
    return error == 0;
}

static bool open_contender(struct round *round)
{
    const struct peer *peer = round->contender->peer;
    struct peer_setup setup = {
        .dir = round->dir,
        .threads = round->threads,
        .largest_record = round->sizes.max_bytes,
        .expected_bytes = expect_bytes(round),
        .twinlog = round->contender->twinlog,
    };
    return is_done(round, "open", peer_open(peer, &setup, &round->state));
}

static void join(const struct round *round, const struct worker *workers)
{
    for (unsigned i = 0; i < round->threads; i++)
        pthread_join(workers[i].thread, NULL);
}

/* From "go" until every thread is back. */
static void measure(struct round *round, const struct worker *workers, struct figures *figures)
{
    pthread_barrier_wait(&round->go);
    if (round->limits->warmup_seconds > 0)
        sleep_ns((uint64_t)(round->limits->warmup_seconds * 1e9));

    struct reading from = count(round);
    from.use = processor_use();
    uint64_t start_ns = now_ns();
    int warmup = PHASE_WARMUP; /* unless a thread failed meanwhile */
    atomic_compare_exchange_strong(&round->phase, &warmup, PHASE_MEASURE);

    watch(round, start_ns);
    const struct processor_use use = processor_use();
    struct reading to = count(round);
    to.use = use;
    join(round, workers);

    digest_appends(round, workers, start_ns, cpu_seconds_between(&from.use, &to.use), figures);
    digest_counters(&from, &to, figures);
}

static bool close_contender(const struct round *round)
{
    const int error = round->contender->peer->close(round->state);

    return is_done(round, "append", atomic_load(&round->error)) && is_done(round, "close", error);
}

bool round_run(const struct contender *contender, const struct workload *workload,
               const struct limits *limits, const char *dir, struct figures *figures)
{
    const struct peer *peer = contender->peer;
    struct round round = {
        .contender = contender,
        .dir = dir,
        .limits = limits,
        .sizes = workload->sizes,
        .threads = workload->threads,
    };
    bool is_good = false;

    /* A contender may have its own. */
    if (peer->threads)
        round.threads = peer->threads;
    if (peer->record_bytes)
        round.sizes = (struct sizes){ peer->record_bytes, peer->record_bytes, "" };

    payload_create(round.sizes.max_bytes, &round.payload);
    pthread_barrier_init(&round.ready, NULL, round.threads + 1);
    pthread_barrier_init(&round.go, NULL, round.threads + 1);
    struct worker *workers = start_workers(&round);
    pthread_barrier_wait(&round.ready);

    round.is_open = open_contender(&round);
    if (round.is_open) {
        write_out(dir);
        measure(&round, workers, figures);
        is_good = close_contender(&round) && !round_is_interrupted();
    } else {
        /* The threads return at once. */
        pthread_barrier_wait(&round.go);
        join(&round, workers);
    }

    free(workers);
    pthread_barrier_destroy(&round.ready);
    pthread_barrier_destroy(&round.go);
    payload_destroy(&round.payload);
    return is_good;
}
