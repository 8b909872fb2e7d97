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

/* ---- the run ------------------------------------------------------------------------------------- */

struct batch {
    struct raft_io_append req;
    struct raft_entry entries[MOST_IN_BATCH];
    unsigned n, kept; /* of them no truncation was asked for since */
    raft_index index;
    struct batch *next;
};

static struct {
    struct batch *oldest, *newest; /* in flight; they are stored in this order */
    raft_index last, stored, snapshot_index;
    uint32_t terms[MOST_ENTRIES];
    unsigned in_flight;
    bool is_putting;
    struct raft_io_snapshot_put put;
    struct raft_snapshot snapshot;
    struct raft_buffer buf;
} run;

static void promise(const char *what, raft_index index, unsigned n, raft_term term)
{
    if (n > 0)
        printf("%s %llu %u %llu\n", what, index, n, term);
    else
        printf("%s %llu\n", what, index);
    fflush(stdout);
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
        promise("entries", batch->index, batch->kept, batch->entries[0].term);
    }
    for (unsigned i = 0; i < batch->n; i++)
        free(batch->entries[i].buf.base);
    free(batch);
}

static void append(unsigned n)
{
    struct batch *batch = calloc(1, sizeof(*batch));
    demand(batch != NULL, "no memory");
    batch->n = batch->kept = n;
    batch->index = run.last + 1;
    batch->req.data = batch;
    for (unsigned i = 0; i < n; i++) {
        fill_entry(&batch->entries[i], batch->index + i, server.term, bytes_of(batch->index + i));
        run.terms[batch->index + i] = (uint32_t)server.term;
    }
    run.last += n;
    run.in_flight++;
    if (run.oldest)
        run.newest->next = batch;
    else
        run.oldest = batch;
    run.newest = batch;
    demand(server.io->append(server.io, &batch->req, batch->entries, n, stored) == 0, server.io->errmsg);
}

static void begin_term(void)
{
    server.vote = 0;
    demand(server.io->set_term(server.io, ++server.term) == 0, server.io->errmsg);
    promise("term", server.term, 0, 0);
}

static void vote(raft_id id)
{
    demand(server.io->set_vote(server.io, server.vote = id) == 0, server.io->errmsg);
    promise("vote", id, 0, 0);
}

static void wait_for_all(void)
{
    while (run.in_flight > 0 || run.is_putting)
        uv_run(&server.loop, UV_RUN_ONCE);
}

/* A new leader has other entries. */
static void truncate_some(unsigned most)
{
    const raft_index kept = run.snapshot_index > 0 ? run.snapshot_index : 1; /* at least the configuration */
    const raft_index first = run.last > kept + most ? run.last - most + 1 : kept + 1;
    if (first > run.last || run.is_putting)
        return;
    begin_term();
    promise("truncate", first, 0, 0);
    demand(server.io->truncate(server.io, first) == 0, server.io->errmsg);
    run.last = first - 1;
    run.stored = run.stored < run.last ? run.stored : run.last;
    for (struct batch *batch = run.oldest; batch; batch = batch->next)
        if (batch->index + batch->kept > first)
            batch->kept = first > batch->index ? (unsigned)(first - batch->index) : 0;
    append(1);
}

static void snapshot_stored(struct raft_io_snapshot_put *req, int status)
{
    (void)req;
    demand(status == 0, "a snapshot has failed");
    run.is_putting = false;
    run.snapshot_index = run.snapshot.index;
    promise("snapshot", run.snapshot.index, 0, 0);
    raft_configuration_close(&run.snapshot.configuration);
    free(run.buf.base);
}

static void put_snapshot(raft_index index, raft_term term, bool is_install)
{
    const size_t bytes = 1000 + index % 100000;
    run.buf = (struct raft_buffer){ malloc(bytes), bytes };
    memset(run.buf.base, (int)index, bytes);
    run.snapshot = (struct raft_snapshot){
        .index = index, .term = term, .configuration_index = 1, .bufs = &run.buf, .n_bufs = 1
    };
    make_configuration(&run.snapshot.configuration);
    run.is_putting = true;
    demand(server.io->snapshot_put(server.io, is_install ? 0 : 10, &run.put, &run.snapshot,
                                   snapshot_stored) == 0,
           server.io->errmsg);
}

static void install(raft_index ahead)
{
    wait_for_all();
    promise("install", run.last + ahead, 0, 0);
    put_snapshot(run.last + ahead, server.term, true);
    wait_for_all();
    run.last = run.stored = run.snapshot_index;
    run.terms[run.last] = (uint32_t)server.term;
}

static void run_until_the_cut(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    srandom((unsigned)now.tv_nsec);
    if (server.term == 0) {
        struct raft_configuration configuration;
        make_configuration(&configuration);
        demand(server.io->bootstrap(server.io, &configuration) == 0, server.io->errmsg);
        raft_configuration_close(&configuration);
        server.term = 1;
        server.n = 1;
        server.start_index = 1;
        promise("entries", 1, 1, 1);
    }
    if (server.snapshot) {
        run.snapshot_index = server.snapshot->index;
        run.terms[run.snapshot_index] = (uint32_t)server.snapshot->term;
    }
    for (size_t i = 0; i < server.n; i++)
        run.terms[server.start_index + i] = server.entries ? (uint32_t)server.entries[i].term : 1;
    run.last = run.stored = server.start_index + server.n - 1;
    begin_term();
    while (run.last < MOST_ENTRIES - 2000) {
        const long choice = random() % 1000;
        if (choice < 10)
            begin_term();
        else if (choice < 20 && server.vote == 0)
            vote((raft_id)(1 + random() % 3));
        else if (choice < 60)
            truncate_some((unsigned)(random() % 60));
        else if (choice < 80 && !run.is_putting && run.stored > run.snapshot_index)
            put_snapshot(run.stored, run.terms[run.stored], false);
        else if (choice < 90)
            install((raft_index)(1 + random() % 100));
        else
            append((unsigned)(1 + random() % MOST_IN_BATCH));
        uv_run(&server.loop, run.in_flight < MOST_IN_FLIGHT ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    }
}

/* ---- the check ----------------------------------------------------------------------------------- */

static struct {
    raft_term term;
    raft_id vote;
    raft_index last, snapshot_index, install_index;
    uint32_t terms[MOST_ENTRIES]; /* of the entries that were promised; 0 = none */
    unsigned long count;
} promised;

static void read_promises(void)
{
    char what[16];
    unsigned long long index;
    for (; scanf("%15s %llu", what, &index) == 2; promised.count++) {
        unsigned n = 0;
        unsigned long long term = 0;
        demand(index < MOST_ENTRIES, "an index is out of range");
        if (strcmp(what, "term") == 0) {
            promised.term = index;
            promised.vote = 0;
        } else if (strcmp(what, "vote") == 0) {
            promised.vote = index;
        } else if (strcmp(what, "snapshot") == 0) {
            promised.snapshot_index = index;
            if (index == promised.install_index) {
                memset(promised.terms, 0, sizeof(promised.terms));
                promised.install_index = promised.last = 0;
            }
        } else if (strcmp(what, "install") == 0) {
            promised.install_index = index;
        } else if (strcmp(what, "truncate") == 0) {
            for (; promised.last >= index; promised.last--)
                promised.terms[promised.last] = 0;
        } else {
            demand(scanf("%u %llu", &n, &term) == 2, "a line that it does not print");
            for (unsigned i = 0; i < n; i++)
                promised.terms[index + i] = (uint32_t)term;
            promised.last = index + n - 1;
        }
    }
}

static void check_entries(raft_index snapshot_index)
{
    raft_term last_term = 0;
    for (size_t i = 0; i < server.n; i++) {
        const struct raft_entry *entry = &server.entries[i];
        const raft_index index = server.start_index + i;
        demand(entry->term >= last_term, "a term is smaller than the one before");
        last_term = entry->term;
        demand(index == 1 || (entry->buf.len == bytes_of(index) &&
                              is_whole(entry->buf.base, entry->buf.len, index + entry->term)),
               "an entry has other data");
    }
    for (raft_index index = snapshot_index + 1; index <= promised.last; index++) {
        if (promised.terms[index] == 0)
            continue;
        const bool is_there = index >= server.start_index && index < server.start_index + server.n;
        const raft_term term = is_there ? server.entries[index - server.start_index].term : 0;
        if (term == promised.terms[index])
            continue;
        fprintf(
            stderr,
            "entry %llu has term %llu (0 = it is missing) and was promised with %u; snapshot %llu, entries %llu to "
            "%llu\n",
            index, term, promised.terms[index], snapshot_index, server.start_index,
            server.start_index + server.n - 1);
        exit(1);
    }
}

static void check(void)
{
    const raft_index snapshot_index = server.snapshot ? server.snapshot->index : 0;
    read_promises();
    demand(server.term >= promised.term, "a term is lost");
    demand(server.term > promised.term || promised.vote == 0 || server.vote == promised.vote,
           "a vote is lost: a server could vote twice");
    demand(snapshot_index >= promised.snapshot_index, "a snapshot is lost");
    if (server.snapshot)
        demand(server.snapshot->n_bufs == 1 &&
                   is_whole(server.snapshot->bufs[0].base, server.snapshot->bufs[0].len, snapshot_index),
               "a snapshot has other data");
    demand(server.start_index <= snapshot_index + 1, "there is a gap behind the snapshot");
    if (promised.install_index == 0 || snapshot_index < promised.install_index)
        check_entries(snapshot_index);
    fprintf(stderr, "%lu promises are kept: snapshot %llu, entries %llu to %llu\n", promised.count,
            snapshot_index, server.start_index, server.start_index + server.n - 1);
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
    demand(load_server(&server) == 0, server.io->errmsg);
    if (strcmp(phase, "check") == 0)
        check();
    else
        run_until_the_cut();
    _exit(0); /* with what is under way */
}
