/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storage of one server over power cuts: twinlog-powercut runs this program on a disk that loses its power, and
 * then once more as the check. It does what raft does to its storage, at random: appends, several at a time,
 * truncations, terms and votes, own snapshots and those of a leader. It prints
 *
 *   term T            set_term() has returned
 *   vote V            set_vote() has returned
 *   entries I N T     N entries of term T, from index I on, are stored: the callback came
 *   truncate I        soon there may be nothing from index I on
 *   install I         soon a leader's snapshot of index I may replace all entries
 *   snapshot I        the snapshot of index I is stored: the callback came
 */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server.h"
#include "twinlog_raft.h"

#define MOST_ENTRIES 4000000u
#define ROOM 2000u /* entries that one more call may add */
#define MOST_IN_FLIGHT 8u
#define MOST_IN_BATCH 20u

static struct server server;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "raft-powercut: %s\n", what);
    exit(1);
}

static void demand(bool is_so, const char *what)
{
    if (!is_so)
        fail(what);
}

/* What a call of the raft_io returns. */
static void demand_success(int rv)
{
    demand(rv == 0, server.io->errmsg);
}

/* ---- the run ------------------------------------------------------------------------------------- */

struct batch {
    struct raft_io_append req;
    struct raft_entry entries[MOST_IN_BATCH];
    unsigned n;
    unsigned kept; /* so many of them, from the first, were not truncated since */
    raft_index index;
    struct batch *next;
};

static struct {
    struct batch *oldest, *newest; /* in flight; they are stored in this order */
    unsigned in_flight;
    raft_index last;              /* also what is in flight */
    raft_index stored;            /* up to this one, as callbacks say */
    uint32_t terms[MOST_ENTRIES]; /* of each entry up to `last` */

    bool is_putting; /* a snapshot: */
    struct raft_io_snapshot_put put;
    struct raft_snapshot snapshot;
    struct raft_buffer buf;
    raft_index snapshot_index; /* of the newest one that is stored; 0 = none */
} run;

static void promise(const char *what, uint64_t value)
{
    printf("%s %llu\n", what, (unsigned long long)value);
    fflush(stdout);
}

static void promise_entries(raft_index index, unsigned n, raft_term term)
{
    printf("entries %llu %u %llu\n", index, n, term);
    fflush(stdout);
}

static void free_batch(struct batch *batch)
{
    for (unsigned i = 0; i < batch->n; i++)
        free(batch->entries[i].buf.base);
    free(batch);
}

static void stored(struct raft_io_append *req, int status)
{
    struct batch *batch = req->data;

    demand(status == 0, "an append has failed");
    demand(batch == run.oldest, "appends are called back in another order");
    run.oldest = batch->next;
    run.in_flight--;

    if (batch->kept > 0) {
        run.stored = batch->index + batch->kept - 1;
        promise_entries(batch->index, batch->kept, batch->entries[0].term);
    }
    free_batch(batch);
}

static void queue_batch(struct batch *batch)
{
    if (run.oldest)
        run.newest->next = batch;
    else
        run.oldest = batch;
    run.newest = batch;
    run.in_flight++;
}

static void append(unsigned n)
{
    struct batch *batch = calloc(1, sizeof(*batch));

    demand(batch != NULL, "no memory");
    batch->n = n;
    batch->kept = n;
    batch->index = run.last + 1;
    batch->req.data = batch;
    for (unsigned i = 0; i < n; i++) {
        const raft_index index = batch->index + i;
        fill_entry(&batch->entries[i], index, server.term, bytes_of(index));
        run.terms[index] = (uint32_t)server.term;
    }
    run.last += n;

    queue_batch(batch);
    demand_success(server.io->append(server.io, &batch->req, batch->entries, n, stored));
}

static void begin_term(void)
{
    server.term++;
    server.vote = 0;
    demand_success(server.io->set_term(server.io, server.term));
    promise("term", server.term);
}

static void vote(raft_id id)
{
    server.vote = id;
    demand_success(server.io->set_vote(server.io, id));
    promise("vote", id);
}

static void wait_for_all(void)
{
    while (run.in_flight > 0 || run.is_putting)
        uv_run(&server.loop, UV_RUN_ONCE);
}

/* Of what is in flight nothing from index `first` on will be promised. */
static void forget_in_flight(raft_index first)
{
    for (struct batch *batch = run.oldest; batch; batch = batch->next) {
        if (batch->index >= first)
            batch->kept = 0;
        else if (batch->index + batch->kept > first)
            batch->kept = (unsigned)(first - batch->index);
    }
}

/* The first of the newest `most` entries. What is in a snapshot stays, and so does entry 1, the configuration. */
static raft_index first_to_truncate(unsigned most)
{
    const raft_index kept = run.snapshot_index > 0 ? run.snapshot_index : 1;

    if (run.last > kept + most)
        return run.last - most + 1;
    return kept + 1;
}

/* A new leader has other entries. */
static void truncate_some(unsigned most)
{
    const raft_index first = first_to_truncate(most);

    if (first > run.last || run.is_putting)
        return;
    begin_term();
    promise("truncate", first);
    demand_success(server.io->truncate(server.io, first));

    run.last = first - 1;
    if (run.stored > run.last)
        run.stored = run.last;
    forget_in_flight(first);
    append(1);
}

static void snapshot_stored(struct raft_io_snapshot_put *req, int status)
{
    (void)req;
    demand(status == 0, "a snapshot has failed");
    run.is_putting = false;
    run.snapshot_index = run.snapshot.index;
    promise("snapshot", run.snapshot.index);
    raft_configuration_close(&run.snapshot.configuration);
    free(run.buf.base);
}

/* A snapshot of a leader has no entries behind it; of an own one some stay. */
#define TRAILING_OF_INSTALL 0
#define TRAILING_OF_OWN 10

static void put_snapshot(raft_index index, raft_term term, unsigned trailing)
{
    const size_t bytes = 1000 + index % 100000;

    run.buf = (struct raft_buffer){ malloc(bytes), bytes };
    memset(run.buf.base, (int)index, bytes);
    run.snapshot = (struct raft_snapshot){
        .index = index, .term = term, .configuration_index = 1, .bufs = &run.buf, .n_bufs = 1
    };
    make_configuration(&run.snapshot.configuration);
    run.is_putting = true;
    demand_success(server.io->snapshot_put(server.io, trailing, &run.put, &run.snapshot, snapshot_stored));
}

/* A leader's snapshot, which is so many entries ahead. */
static void install(raft_index ahead)
{
    wait_for_all();
    const raft_index index = run.last + ahead;
    promise("install", index);
    put_snapshot(index, server.term, TRAILING_OF_INSTALL);
    wait_for_all();

    run.last = index;
    run.stored = index;
    run.terms[index] = (uint32_t)server.term;
}

/* The first time: entry 1 is the configuration. */
static void bootstrap(void)
{
    struct raft_configuration configuration;

    make_configuration(&configuration);
    demand_success(server.io->bootstrap(server.io, &configuration));
    raft_configuration_close(&configuration);

    server.term = 1;
    server.n = 1;
    server.start_index = 1;
    promise_entries(1, 1, 1);
}

/* What the server has loaded, or bootstrapped. */
static void begin_where_it_stopped(void)
{
    if (server.snapshot) {
        run.snapshot_index = server.snapshot->index;
        run.terms[run.snapshot_index] = (uint32_t)server.snapshot->term;
    }
    for (size_t i = 0; i < server.n; i++) {
        const bool is_loaded = server.entries != NULL;
        run.terms[server.start_index + i] = is_loaded ? (uint32_t)server.entries[i].term : 1;
    }
    run.last = server.start_index + server.n - 1;
    run.stored = run.last;
}

/* In a thousand calls about 10 begin a term, 10 vote, 40 truncate, 20 put a snapshot, 10 install one, and the others
 * append. What cannot be done now is left to the next case. */
static void call_something(void)
{
    const long choice = random() % 1000;

    if (choice < 10)
        begin_term();
    else if (choice < 20 && server.vote == 0)
        vote((raft_id)(1 + random() % 3));
    else if (choice < 60)
        truncate_some((unsigned)(random() % 60));
    else if (choice < 80 && !run.is_putting && run.stored > run.snapshot_index)
        put_snapshot(run.stored, run.terms[run.stored], TRAILING_OF_OWN);
    else if (choice < 90)
        install((raft_index)(1 + random() % 100));
    else
        append((unsigned)(1 + random() % MOST_IN_BATCH));
}

static void run_until_the_cut(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    srandom((unsigned)now.tv_nsec);

    if (server.term == 0)
        bootstrap();
    begin_where_it_stopped();
    begin_term();
    while (run.last < MOST_ENTRIES - ROOM) {
        call_something();
        if (run.in_flight < MOST_IN_FLIGHT)
            uv_run(&server.loop, UV_RUN_NOWAIT);
        else
            uv_run(&server.loop, UV_RUN_ONCE);
    }
}

/* ---- the check ----------------------------------------------------------------------------------- */

static struct {
    raft_term term;
    raft_id vote;
    raft_index last;
    raft_index snapshot_index;    /* 0 = none */
    raft_index install_index;     /* of one that may be there, or not; 0 = none */
    uint32_t terms[MOST_ENTRIES]; /* of the entries that were promised; 0 = none */
    unsigned long count;
} promised;

/* An install replaces all entries. */
static void take_snapshot(raft_index index)
{
    promised.snapshot_index = index;
    if (index != promised.install_index)
        return;
    memset(promised.terms, 0, sizeof(promised.terms));
    promised.install_index = 0;
    promised.last = 0;
}

static void take_truncation(raft_index first)
{
    while (promised.last >= first) {
        promised.terms[promised.last] = 0;
        promised.last--;
    }
}

/* Reads the rest of the line, too. */
static void take_entries(raft_index first)
{
    unsigned n = 0;
    unsigned long long term = 0;

    demand(scanf("%u %llu", &n, &term) == 2, "a line that it does not print");
    for (unsigned i = 0; i < n; i++)
        promised.terms[first + i] = (uint32_t)term;
    promised.last = first + n - 1;
}

static void take_promise(const char *what, uint64_t value)
{
    if (strcmp(what, "term") == 0) {
        promised.term = value;
        promised.vote = 0;
    } else if (strcmp(what, "vote") == 0) {
        promised.vote = value;
    } else if (strcmp(what, "snapshot") == 0) {
        take_snapshot(value);
    } else if (strcmp(what, "install") == 0) {
        promised.install_index = value;
    } else if (strcmp(what, "truncate") == 0) {
        take_truncation(value);
    } else {
        take_entries(value);
    }
}

static void read_promises(void)
{
    char what[16];
    unsigned long long value;

    while (scanf("%15s %llu", what, &value) == 2) {
        demand(value < MOST_ENTRIES, "an index is out of range");
        take_promise(what, value);
        promised.count++;
    }
}

/* Entry 1 is the configuration. */
static bool has_its_bytes(const struct raft_entry *entry, raft_index index)
{
    if (index == 1)
        return true;
    return entry->buf.len == bytes_of(index) &&
           is_whole(entry->buf.base, entry->buf.len, index + entry->term);
}

static void check_loaded_entries(void)
{
    raft_term last_term = 0;

    for (size_t i = 0; i < server.n; i++) {
        const struct raft_entry *entry = &server.entries[i];

        demand(entry->term >= last_term, "a term is smaller than the one before");
        last_term = entry->term;
        demand(has_its_bytes(entry, server.start_index + i), "an entry has other data");
    }
}

/* 0 if it is missing. */
static raft_term loaded_term(raft_index index)
{
    if (index < server.start_index || index >= server.start_index + server.n)
        return 0;
    return server.entries[index - server.start_index].term;
}

static raft_index last_loaded(void)
{
    return server.start_index + server.n - 1;
}

/* What is in the snapshot need not be there. */
static void check_promised_entries(raft_index snapshot_index)
{
    for (raft_index index = snapshot_index + 1; index <= promised.last; index++) {
        const raft_term wanted = promised.terms[index], term = loaded_term(index);

        if (wanted == 0 || wanted == term)
            continue;
        fprintf(stderr, "entry %llu has term %llu (0 = it is missing) and was promised with %llu; ", index,
                term, wanted);
        fprintf(stderr, "snapshot %llu, entries %llu to %llu\n", snapshot_index, server.start_index,
                last_loaded());
        exit(1);
    }
}

static void check_term_and_vote(void)
{
    demand(server.term >= promised.term, "a term is lost");
    if (server.term > promised.term || promised.vote == 0)
        return;
    demand(server.vote == promised.vote, "a vote is lost: a server could vote twice");
}

static void check_snapshot(raft_index snapshot_index)
{
    demand(snapshot_index >= promised.snapshot_index, "a snapshot is lost");
    if (!server.snapshot)
        return;

    const struct raft_buffer *data = &server.snapshot->bufs[0];
    const bool is_whole_snapshot =
        server.snapshot->n_bufs == 1 && is_whole(data->base, data->len, snapshot_index);
    demand(is_whole_snapshot, "a snapshot has other data");
}

static void check(void)
{
    const raft_index snapshot_index = server.snapshot ? server.snapshot->index : 0;

    read_promises();
    check_term_and_vote();
    check_snapshot(snapshot_index);
    demand(server.start_index <= snapshot_index + 1, "there is a gap behind the snapshot");

    /* An install that was under way is there: it has replaced all entries. */
    const bool is_installed = promised.install_index > 0 && snapshot_index >= promised.install_index;
    if (!is_installed) {
        check_loaded_entries();
        check_promised_entries(snapshot_index);
    }
    fprintf(stderr, "%lu promises are kept: snapshot %llu, entries %llu to %llu\n", promised.count,
            snapshot_index, server.start_index, last_loaded());
}

int main(void)
{
    const char *dir = getenv("POWERCUT_DIR"), *phase = getenv("POWERCUT");
    char path[PATH_MAX];

    if (!dir || !phase) {
        fprintf(stderr, "usage: twinlog-powercut raft-powercut\n");
        return 2;
    }

    snprintf(path, sizeof(path), "%s/server", dir);
    twinlog_raft_create(path, CLUSTER, 1, true); /* refused from the second time on */
    demand(open_server(&server, path, NULL) == 0, server.io ? server.io->errmsg : "open");
    demand_success(load_server(&server));

    if (strcmp(phase, "check") == 0)
        check();
    else
        run_until_the_cut();
    _exit(0); /* with what is under way */
}
