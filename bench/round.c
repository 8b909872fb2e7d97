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
    const struct limits *limits = round->limits;

    histogram_add(&worker->histogram, returned_ns - began_ns);
    worker->appends++;
    worker->bytes += size;
    if (limits->bytes == 0 || (double)(atomic_fetch_add(&round->bytes, size) + size) < limits->bytes)
        return false;
    stop(round, returned_ns);
    return true;
}

/* Of an append that was due before the measured span ended, and has returned behind it. */
static void count_late(struct worker *worker, uint64_t began_ns, uint64_t returned_ns)
{
    if (began_ns < atomic_load(&worker->round->stop_ns) && atomic_load(&worker->round->error) == 0)
        histogram_add(&worker->histogram, returned_ns - began_ns);
}

/* When append `turn` of this thread should begin. The threads take turns. */
static uint64_t intended_ns(const struct worker *worker, uint64_t turn)
{
    const struct round *round = worker->round;
    const double place = (double)turn * round->threads + worker->index;
    return worker->start_ns + (uint64_t)(place / round->limits->rate * 1e9);
}

/* False if the round ends before that time, or the user ends it. */
static bool sleep_until(const struct round *round, uint64_t when_ns)
{
    for (;;) {
        const uint64_t now = now_ns();
        if (atomic_load_explicit(&round->phase, memory_order_acquire) == PHASE_STOP &&
            (when_ns >= atomic_load(&round->stop_ns) || round_is_interrupted()))
            return false;
        if (now >= when_ns)
            return true;
        sleep_ns(when_ns - now < LOOK_AGAIN_NS ? when_ns - now : LOOK_AGAIN_NS);
    }
}

static void append_until_stopped(struct worker *worker)
{
    struct round *round = worker->round;
    const struct peer *peer = round->contender->peer;
    uint64_t began_ns = now_ns();

    worker->start_ns = began_ns;
    for (uint64_t turn = 0;; turn++) {
        if (round->limits->rate > 0) {
            began_ns = intended_ns(worker, turn);
            if (!sleep_until(round, began_ns))
                return;
        }
        struct twinlog_entry record = { .data = payload_draw(&round->payload, &worker->random) };
        record.size = sizes_draw(&round->sizes, &worker->random);
        int error =
            peer->append(round->state, &(const struct append){ &record, 1, worker->index, APPEND_DURABLE });
        uint64_t returned_ns = now_ns();
        if (error) {
            note_error(round, error);
            return;
        }
        int phase = atomic_load_explicit(&round->phase, memory_order_acquire);
        if (phase == PHASE_MEASURE && count_append(worker, record.size, began_ns, returned_ns))
            return;
        if (phase == PHASE_STOP) {
            count_late(worker, began_ns, returned_ns);
            if (round->limits->rate <= 0)
                return;
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
        workers[i].round = round;
        workers[i].index = i;
        workers[i].random = (i + 1) * UINT64_C(0x2545f4914f6cdd1d);
        int error = pthread_create(&workers[i].thread, &attributes, worker_main, &workers[i]);
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
    uint64_t end_ns =
        round->limits->seconds > 0 ? start_ns + (uint64_t)(round->limits->seconds * 1e9) : UINT64_MAX;

    for (;;) {
        uint64_t now = now_ns();
        if (now >= end_ns || round_is_interrupted())
            stop(round, now);
        if (atomic_load(&round->phase) == PHASE_STOP)
            return;
        uint64_t left = end_ns - now;
        sleep_ns(left < LOOK_AGAIN_NS ? left : LOOK_AGAIN_NS);
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
    figures->wanted_rate = round->limits->rate > 0 ? round->limits->rate : NAN;
    figures_set_work(figures, &work);
    figures_set_latencies(figures, &all);
}

/* What the contender says it did in the measured span, and what the device was given meanwhile by it, the file system
 * and everybody else. */
static void digest_counters(const struct reading *from, const struct reading *to, struct figures *figures)
{
    const struct peer_counters *before = &from->peer, *after = &to->peer;
    const double syncs = (double)(after->syncs - before->syncs);
    figures->appends_per_sync = per((double)(after->appends - before->appends), syncs);
    figures->flushes_per_append = per(to->flushes - from->flushes, figures->appends);
    figures->user_us_per_append =
        per((to->use.user_seconds - from->use.user_seconds) * 1e6, figures->appends);
    figures->switches_per_append = per(to->use.switches - from->use.switches, figures->appends);
}

/* The file system's own backlog, of this contender's preparation and of the files removed before. */
static void write_out(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    syncfs(fd);
    close(fd);
}

/* More than the round will append, with its framing and the warm-up. */
static uint64_t expect_bytes(const struct round *round)
{
    const struct limits *limits = round->limits;
    double mean = sizes_mean(&round->sizes), framed = mean + 24;
    /* No disk we know commits more often, and no 2-core machine we know appends more. */
    double a_second = fmin(fmin(12000.0 * round->threads, 1.5e6) * framed, 6e9);
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

bool round_run(const struct contender *contender, const struct workload *workload,
               const struct limits *limits, const char *dir, struct figures *figures)
{
    const struct peer *peer = contender->peer;
    struct round round = {
        .contender = contender,
        .dir = dir,
        .limits = limits,
        .sizes = workload->sizes,
        .threads = peer->threads ? peer->threads : workload->threads,
    };
    bool is_good = false;

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
        int error = peer->close(round.state);
        is_good = is_done(&round, "append", atomic_load(&round.error)) && is_done(&round, "close", error) &&
                  !round_is_interrupted();
    } else {
        pthread_barrier_wait(&round.go);
        join(&round, workers);
    }

    free(workers);
    pthread_barrier_destroy(&round.ready);
    pthread_barrier_destroy(&round.go);
    payload_destroy(&round.payload);
    return is_good;
}
