/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raft-deaths [--every N] [SCENARIO]: ends the process in front of each write, sync and library call of each call of
 * the raft_io, one after the other, and opens the storage again: it must start, with all that was acknowledged, and
 * with nothing that was never asked for. A death comes once more where no sync has confirmed a block of DIR/server:
 * the block is then as it was before, as a power cut may leave it. (What a power cut does to the two logs, sim-crash
 * and raft-powercut try.) With --every only each N-th write or sync inside twinlog counts as a call; those of this
 * layer all count.
 *
 * A child runs a scenario with the number of the call that it does not survive. What it has asked for and what was
 * acknowledged stands in memory that it shares with its parent. The last child of a scenario survives.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"
#include "server.h"

struct io_uring;

#define MOST_ENTRIES 400u
#define DIED 7
#define WRONG 8
#define SERVER_BLOCKS 2
#define BLOCK_BYTES 4096

static const char *dir = "server"; /* in a directory that is made for the test */

/* ---- what a server knows ------------------------------------------------------------------------ */

struct known {
    uint64_t term, vote;
    uint64_t snapshot, snapshot_bytes; /* index of the snapshot, 0 = none */
    uint64_t last, submitted;          /* entries up to `last` are acknowledged */
    uint64_t terms[MOST_ENTRIES];      /* of each entry up to `submitted` */
};

/* Of a child and its parent. */
static struct shared {
    struct known before, after; /* the call that is under way; the same, if none is */
    char scenario[32], call[32];
    bool has_unsynced; /* blocks of DIR/server, at the death */
} * shared;

static struct server server;

static void fail(const char *text, uint64_t a, uint64_t b)
{
    const char *of_storage = server.io ? server.io->errmsg : "";

    fprintf(stderr, "raft-deaths: %s, ended before %s: ", shared->scenario, shared->call);
    fprintf(stderr, "%s (%llu, %llu) %s\n", text, (unsigned long long)a, (unsigned long long)b, of_storage);
    _exit(WRONG);
}

static void check(bool is_right, const char *text, uint64_t a, uint64_t b)
{
    if (!is_right)
        fail(text, a, b);
}

/* ---- deaths ------------------------------------------------------------------------------------- */

static atomic_bool is_counting;
static atomic_uint calls, inner_calls;
static unsigned every = 1; /* so many calls inside twinlog for one that is counted */
static unsigned last_call;
static bool is_power_cut;
static bool is_unsynced[SERVER_BLOCKS];
static uint8_t durable[SERVER_BLOCKS][BLOCK_BYTES];

ssize_t __real_pwrite(int, const void *, size_t, off_t);

static int server_fd(void)
{
    return server.io ? storage_of(server.io)->server_fd : -1;
}

static void lose_unsynced_blocks(void)
{
    for (int i = 0; i < SERVER_BLOCKS; i++) {
        if (is_unsynced[i])
            __real_pwrite(server_fd(), durable[i], BLOCK_BYTES, i * BLOCK_BYTES);
    }
}

static _Noreturn void die_before(const char *name)
{
    shared->has_unsynced = is_unsynced[0] || is_unsynced[1];
    if (is_power_cut) {
        snprintf(shared->call, sizeof(shared->call), "%s, call %u, cut", name, last_call);
        lose_unsynced_blocks();
    } else {
        snprintf(shared->call, sizeof(shared->call), "%s, call %u", name, last_call);
    }
    _exit(DIED);
}

/* A call of this layer. */
static void count_call(const char *name)
{
    if (!is_counting)
        return;
    const unsigned number = atomic_fetch_add(&calls, 1) + 1;
    if (number == last_call)
        die_before(name);
}

/* A write or sync inside twinlog. */
static void count_inner_call(const char *name)
{
    if (!is_counting)
        return;
    const unsigned number = atomic_fetch_add(&inner_calls, 1);
    if (number % every == 0)
        count_call(name);
}

static void remember_durable_block(int fd, off_t offset)
{
    const off_t block = offset / BLOCK_BYTES;

    if (is_unsynced[block])
        return;
    if (pread(fd, durable[block], BLOCK_BYTES, block * BLOCK_BYTES) != BLOCK_BYTES)
        abort();
    is_unsynced[block] = true;
}

/* COUNTED(TYPE, NAME, (DECLARED PARAMETERS), (ARGUMENTS), COUNT): a call in front of which the process may end. */
#define COUNTED(type, name, parameters, arguments, count)                                                    \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters                                                                            \
    {                                                                                                        \
        count(#name);                                                                                        \
        return __real_##name arguments;                                                                      \
    }

COUNTED(int, twinlog_submit,
        (struct twinlog * log, const struct twinlog_entry *entries, uint32_t count,
         const struct twinlog_terms *terms, struct twinlog_request *request),
        (log, entries, count, terms, request), count_call)
COUNTED(int, twinlog_append_batch,
        (struct twinlog * log, const struct twinlog_entry *entries, uint32_t count,
         const struct twinlog_terms *terms, uint64_t *ret_lsn),
        (log, entries, count, terms, ret_lsn), count_call)
COUNTED(int, twinlog_truncate, (struct twinlog * log, uint64_t last_lsn), (log, last_lsn), count_call)
COUNTED(int, twinlog_reset, (struct twinlog * log, uint64_t next_lsn), (log, next_lsn), count_call)
COUNTED(int, twinlog_trim,
        (struct twinlog * log, const struct twinlog_trim_options *options, struct twinlog_trim_result *ret),
        (log, options, ret), count_call)
COUNTED(ssize_t, pwritev2, (int fd, const struct iovec *data, int count, off_t offset, int flags),
        (fd, data, count, offset, flags), count_inner_call)
COUNTED(int, ftruncate, (int fd, off_t bytes), (fd, bytes), count_inner_call)
COUNTED(int, fsync, (int fd), (fd), count_inner_call)
COUNTED(int, renameat, (int from_dir, const char *from, int to_dir, const char *to),
        (from_dir, from, to_dir, to), count_inner_call)
COUNTED(int, unlinkat, (int at, const char *name, int flags), (at, name, flags), count_inner_call)

/* The log writes by calls that can be counted. */
int __wrap_io_uring_queue_init(unsigned, struct io_uring *, unsigned);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    (void)entries;
    (void)ring;
    (void)flags;
    return -ENOSYS;
}

ssize_t __wrap_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    if (fd != server_fd()) {
        count_inner_call("pwrite");
        return __real_pwrite(fd, data, bytes, offset);
    }
    count_call("pwrite");
    remember_durable_block(fd, offset);
    return __real_pwrite(fd, data, bytes, offset);
}

int __real_fdatasync(int);
int __wrap_fdatasync(int);
int __wrap_fdatasync(int fd)
{
    if (fd != server_fd()) {
        count_inner_call("fdatasync");
        return __real_fdatasync(fd);
    }
    count_call("fdatasync");
    const int result = __real_fdatasync(fd);

    memset(is_unsynced, 0, sizeof(is_unsynced));
    return result;
}

/* ---- a server, and calls of it ------------------------------------------------------------------ */

/* A call is under way: a death may leave the storage as before, or so. */
static void begin(struct known after)
{
    shared->after = after;
}

/* The call has returned. */
static void acknowledged(void)
{
    shared->before = shared->after;
}

static void note_failure(void *context, int error, const char *text)
{
    (void)context;
    fail(text, (uint64_t)-error, 0);
}

static void open_storage(void)
{
    check(open_server(&server, dir, note_failure) == 0, "it does not open", 0, 0);
}

static void load_storage(void)
{
    check(load_server(&server) == 0, "it does not load", 0, 0);
}

static bool is_closed;

static void note_closed(struct raft_io *io)
{
    (void)io;
    is_closed = true;
}

static void close_storage(void)
{
    is_closed = false;
    server.io->close(server.io, note_closed);
    while (!is_closed)
        uv_run(&server.loop, UV_RUN_ONCE);
    uv_run(&server.loop, UV_RUN_NOWAIT);
    twinlog_raft_free(server.io);
    server.io = NULL;
}

static void bootstrap_server(void)
{
    struct known after = { .term = 1, .last = 1, .submitted = 1, .terms = { [1] = 1 } };
    struct raft_configuration conf;

    make_configuration(&conf);
    begin(after);
    check(server.io->bootstrap(server.io, &conf) == 0, "bootstrap is refused", 0, 0);
    acknowledged();
}

static void set_server_term(uint64_t term)
{
    struct known after = shared->before;

    after.term = term;
    after.vote = 0;
    begin(after);
    check(server.io->set_term(server.io, term) == 0, "the term is refused", term, 0);
    acknowledged();
}

static void set_server_vote(uint64_t vote)
{
    struct known after = shared->before;

    after.vote = vote;
    begin(after);
    check(server.io->set_vote(server.io, vote) == 0, "the vote is refused", vote, 0);
    acknowledged();
}

struct append_call {
    struct raft_io_append req;
    uint64_t last;
};
static unsigned appends_done;

static void appended(struct raft_io_append *req, int status)
{
    const struct append_call *call = (const struct append_call *)req;
    const bool is_new = call->last > shared->before.last;
    const bool is_truncated = call->last > shared->before.submitted;

    check(status == 0, "an append fails", call->last, 0);
    appends_done++;
    if (is_new && !is_truncated) {
        shared->before.last = call->last;
        shared->after.last = call->last;
    }
}

/* `n` entries behind the newest one; the callback is not awaited. */
static void submit_entries(struct append_call *call, unsigned n)
{
    static struct raft_entry entries[MOST_ENTRIES];
    struct known after = shared->before;

    for (unsigned i = 0; i < n; i++) {
        after.submitted++;
        const uint64_t index = after.submitted;
        after.terms[index] = after.term;
        fill_entry(&entries[i], index, after.term, bytes_of(index));
    }

    call->last = after.submitted;
    shared->before = after; /* any of them may be found from now on */
    shared->after = after;
    check(server.io->append(server.io, &call->req, entries, n, appended) == 0, "an append is refused", n, 0);
}

static void wait_for_appends(unsigned number)
{
    while (appends_done < number)
        uv_run(&server.loop, UV_RUN_ONCE);
    appends_done = 0;
}

static void store(unsigned n)
{
    static struct append_call call;

    submit_entries(&call, n);
    wait_for_appends(1);
}

static void truncate_server(uint64_t index)
{
    struct known after = shared->before;

    after.last = index - 1;
    after.submitted = index - 1;
    begin(after);
    check(server.io->truncate(server.io, index) == 0, "a truncation is refused", index, 0);
    acknowledged();
}

static bool is_put;

static void put_done(struct raft_io_snapshot_put *req, int status)
{
    (void)req;
    check(status == 0, "a snapshot is not stored", 0, 0);
    is_put = true;
}

static uint8_t byte_of(uint64_t index, size_t at)
{
    return (uint8_t)(index + at / 3);
}

static struct raft_buffer snapshot_data(uint64_t index, size_t bytes)
{
    uint8_t *data = malloc(bytes);

    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_of(index, i);
    return (struct raft_buffer){ data, bytes };
}

/* Begins to store a snapshot of one buffer, and returns when it is stored. */
static void put_and_wait(struct raft_io_snapshot_put *req, uint64_t index, uint64_t term, size_t bytes,
                         unsigned trailing)
{
    struct raft_buffer buffer = snapshot_data(index, bytes);
    struct raft_snapshot snapshot = { .index = index, .term = term, .configuration_index = 1, .n_bufs = 1 };

    snapshot.bufs = &buffer;
    make_configuration(&snapshot.configuration);
    is_put = false;
    const int rv = server.io->snapshot_put(server.io, trailing, req, &snapshot, put_done);
    check(rv == 0, "a snapshot is refused", index, 0);
    while (!is_put)
        uv_run(&server.loop, UV_RUN_ONCE);
}

/* As raft does of its own state. */
static void put_own_snapshot(uint64_t index, size_t bytes, unsigned trailing)
{
    static struct raft_io_snapshot_put req;
    struct known after = shared->before;

    after.snapshot = index;
    after.snapshot_bytes = bytes;
    begin(after);
    req.data = server.io->data;
    put_and_wait(&req, index, after.terms[index], bytes, trailing);
    acknowledged();
}

/* As raft does with what a leader sent: it replaces all entries. */
static void install_snapshot(uint64_t index, size_t bytes)
{
    static struct raft_io_snapshot_put req;
    struct known after = shared->before;

    after.snapshot = index;
    after.snapshot_bytes = bytes;
    after.last = index;
    after.submitted = index;
    begin(after);
    req.data = &req;
    put_and_wait(&req, index, after.term, bytes, 0);
    acknowledged();
}

/* ---- scenarios ---------------------------------------------------------------------------------- */

static void run_bootstrap(void)
{
    is_counting = true;
    open_storage();
    bootstrap_server();
    load_storage();
    store(1);
}

/* All others begin with a server that has stored ten entries. */
static void run_open_and_close(void)
{
    is_counting = true;
    open_storage();
    load_storage();
    close_storage();
}

static void start_storage(void)
{
    open_storage();
    load_storage();
    memset(is_unsynced, 0, sizeof(is_unsynced)); /* open-and-close is about these */
    is_counting = true;
}

static void run_term_and_vote(void)
{
    start_storage();
    set_server_term(2);
    set_server_vote(1);
    set_server_term(3);
}

static void run_append(void)
{
    static struct append_call append_calls[3];

    start_storage();
    submit_entries(&append_calls[0], 1);
    submit_entries(&append_calls[1], 150); /* several batches */
    submit_entries(&append_calls[2], 3);
    wait_for_appends(3);
}

static void run_truncate(void)
{
    start_storage();
    set_server_term(2);
    truncate_server(6);
    store(2);
    truncate_server(7);
}

static void run_truncate_beside_appends(void)
{
    static struct append_call call;

    start_storage();
    set_server_term(2);
    submit_entries(&call, 3);
    truncate_server(6);
    wait_for_appends(1); /* stored, and gone since */
    store(2);
}

static void run_own_snapshot(void)
{
    start_storage();
    put_own_snapshot(8, 5000, 1);
    put_own_snapshot(10, 1000, 1);
    store(1);
}

static void run_install_ahead(void)
{
    start_storage();
    set_server_term(2);
    install_snapshot(50, 1000);
    store(2);
}

/* Entries 9 and 10 were acknowledged, and are not in the leader's snapshot. */
static void run_install_behind(void)
{
    start_storage();
    set_server_term(2);
    install_snapshot(8, 1000);
    store(1);
}

static void run_recover(void)
{
    struct raft_configuration conf;
    struct known after;

    make_configuration(&conf);
    open_storage();
    is_counting = true;

    after = shared->before;
    after.submitted++;
    after.terms[after.submitted] = after.term;
    after.last = after.submitted;
    begin(after);
    check(server.io->recover(server.io, &conf) == 0, "recover is refused", 0, 0);
    acknowledged();
    load_storage();
}

static const struct scenario {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    { "bootstrap", run_bootstrap },
    { "open-and-close", run_open_and_close },
    { "term-and-vote", run_term_and_vote },
    { "append", run_append },
    { "truncate", run_truncate },
    { "truncate-beside-appends", run_truncate_beside_appends },
    { "own-snapshot", run_own_snapshot },
    { "install-ahead", run_install_ahead },
    { "install-behind", run_install_behind },
    { "recover", run_recover },
};

/* ---- what is found ------------------------------------------------------------------------------ */

static uint64_t last_loaded(void)
{
    return server.start_index + server.n - 1;
}

/* Up to the last entry that was submitted any may be there; up to the last that was acknowledged all must be. */
static bool has_state(const struct known *wanted)
{
    const uint64_t last = last_loaded();
    const uint64_t snapshot = server.snapshot ? server.snapshot->index : 0;

    if (server.term != wanted->term || server.vote != wanted->vote)
        return false;
    if (snapshot != wanted->snapshot)
        return false;
    return last >= wanted->last && last <= wanted->submitted;
}

static bool has_its_bytes(const struct raft_entry *entry, uint64_t index)
{
    return is_whole(entry->buf.base, entry->buf.len, index + entry->term) &&
           entry->buf.len == bytes_of(index);
}

static void check_entries_of(const struct known *wanted)
{
    for (size_t i = 0; i < server.n; i++) {
        const struct raft_entry *entry = &server.entries[i];
        const uint64_t index = server.start_index + i;

        check(entry->term == wanted->terms[index], "an entry is of another term", index, entry->term);
        if (entry->type == RAFT_COMMAND)
            check(has_its_bytes(entry, index), "an entry has other bytes", index, 0);
    }
}

static void check_snapshot_of(const struct known *wanted)
{
    if (wanted->snapshot == 0)
        return;

    const struct raft_buffer *buffer = &server.snapshot->bufs[0];
    const uint8_t *data = buffer->base;
    check(buffer->len == wanted->snapshot_bytes, "the snapshot has another length", buffer->len, 0);
    for (size_t i = 0; i < buffer->len; i++)
        check(data[i] == byte_of(wanted->snapshot, i), "the snapshot has other bytes", i, 0);
}

/* It is as before the call that was under way, or as after it. What was found is known from now on. */
static void check_loaded(void)
{
    const struct known *wanted = has_state(&shared->before) ? &shared->before : &shared->after;

    check(has_state(wanted), "it has the last entry, and the term", last_loaded(), server.term);
    check(server.start_index <= wanted->snapshot + 1, "entries are missing up to", server.start_index, 0);
    check_entries_of(wanted);
    check_snapshot_of(wanted);

    struct known found = *wanted;
    found.last = last_loaded();
    found.submitted = last_loaded();
    begin(found);
    acknowledged();
}

/* A bootstrap that has not finished can be done again, before the entries are loaded. */
static void bootstrap_again(void)
{
    close_storage();
    open_storage();
    bootstrap_server();
    load_storage();
}

/* Opens, stores an entry, and opens once more. */
static void judge(void)
{
    open_storage();
    load_storage();
    check_loaded();

    const bool is_bootstrapped = server.term > 0;
    if (is_bootstrapped)
        store(1);
    else
        bootstrap_again();
    close_storage();

    open_storage();
    load_storage();
    check_loaded();
}

/* ---- the parent --------------------------------------------------------------------------------- */

static void run_command(const char *command)
{
    if (system(command) != 0) {
        fprintf(stderr, "raft-deaths: %s\n", command);
        exit(1);
    }
}

/* Returns the exit status of a child that does this. */
static int in_child(void (*body)(void))
{
    int status;
    const pid_t child = fork();

    if (child == 0) {
        alarm(120);
        body();
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        exit(1);

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    fprintf(stderr, "raft-deaths: %s, ended before %s: signal %d\n", shared->scenario, shared->call,
            WTERMSIG(status));
    return WRONG;
}

static void make_ten_entries(void)
{
    open_storage();
    bootstrap_server();
    load_storage();
    store(9);
    close_storage();
}

enum trial {
    TRIAL_WRONG,
    TRIAL_OVER, /* there is no call of this number: the scenario came to its end */
    TRIAL_DIED, /* and what it left is right */
};

/* The process ends before its call of this number, if there is one. */
static enum trial try_death(const struct scenario *scenario, const struct known *start, unsigned number,
                            bool is_cut)
{
    run_command("rm -rf server && cp -a start server");
    begin(*start);
    acknowledged();
    snprintf(shared->call, sizeof(shared->call), "the end");
    last_call = number;
    is_power_cut = is_cut;

    const int status = in_child(scenario->run);
    if (status != 0 && status != DIED)
        return TRIAL_WRONG;
    if (in_child(judge) != 0)
        return TRIAL_WRONG;
    if (status == DIED)
        return TRIAL_DIED;
    return TRIAL_OVER;
}

static bool try_scenario(const struct scenario *scenario, const struct known *start)
{
    unsigned deaths = 0, cuts = 0;

    for (;;) {
        const unsigned number = deaths + 1;
        const enum trial death = try_death(scenario, start, number, false);
        if (death == TRIAL_WRONG)
            return false;
        if (death == TRIAL_OVER)
            break;
        deaths++;

        if (shared->has_unsynced) {
            const enum trial cut = try_death(scenario, start, number, true);
            if (cut == TRIAL_WRONG)
                return false;
            if (cut == TRIAL_OVER)
                break;
            cuts++;
        }
    }
    printf("%s: %u deaths, %u power cuts\n", scenario->name, deaths, cuts);
    return deaths > 0;
}

static bool enter_new_directory(char *path)
{
    return mkdtemp(path) != NULL && chdir(path) == 0;
}

/* The server that a scenario begins with. */
static bool make_start(const struct scenario *scenario)
{
    run_command("rm -rf server start");
    memset(shared, 0, sizeof(*shared));
    snprintf(shared->scenario, sizeof(shared->scenario), "%s", scenario->name);
    snprintf(shared->call, sizeof(shared->call), "the start");
    if (twinlog_raft_create(dir, CLUSTER, 1, true) != 0)
        return false;
    if (scenario->run != run_bootstrap && in_child(make_ten_entries) != 0)
        return false;
    run_command("mv server start");
    return true;
}

/* `wanted`: NULL = all. Returns whether there was one, and all was as it should be. */
static bool try_scenarios(const char *wanted)
{
    bool is_sound = true, is_known = false;

    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        const struct scenario *scenario = &scenarios[i];

        if (wanted && strcmp(wanted, scenario->name) != 0)
            continue;
        is_known = true;
        if (!make_start(scenario))
            return false;
        const struct known start = shared->before;
        if (!try_scenario(scenario, &start))
            is_sound = false;
    }
    return is_known && is_sound;
}

int main(int argc, char **argv)
{
    char place[] = "raft-deaths.XXXXXX", command[64];

    if (argc > 2 && strcmp(argv[1], "--every") == 0) {
        every = (unsigned)strtoul(argv[2], NULL, 10);
        argc -= 2;
        argv += 2;
    }
    if (every == 0 || argc > 2) {
        fprintf(stderr, "raft-deaths [--every N] [SCENARIO]\n");
        return 1;
    }

    setvbuf(stdout, NULL, _IOLBF, 0);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !enter_new_directory(place))
        return 1;

    if (!try_scenarios(argv[1]))
        return 1; /* what is wrong stays, to be looked at */
    snprintf(command, sizeof(command), "cd .. && rm -rf %s", place);
    run_command(command);
    return 0;
}
