/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster [OPTIONS] DIR: three servers of node.c on the loopback, with their files below DIR (which must be empty).
 *
 *   --rounds N      (3) in each it kills the leader, a follower, and all servers at once, and looks whether a command
 *                   that was acknowledged is missing
 *   --members       instead: in each round it adds a server, removes one, in every second because its disk is lost,
 *                   and loses two of three for good, with kills
 *   --compare       instead: rates with twinlog-raft and with raft_uv's own storage, in turn; "stall" is the longest
 *                   time from one 5 ms tick of a server's loop to the next
 *   --seconds S     of load before each kill, or of each measurement (2)
 *   --in-flight N   commands in flight (100); with --compare 1, 100 and 1000
 *   --bytes N       of commands in flight at most; more are refused (1 MiB)
 *   --election MS   raft's election timeout (1000)
 *   --no-snapshots  raft takes none
 *   --ballast N     bytes that each snapshot has in addition (0)
 *   --proxies HOST  servers listen at HOST:9001 and so on, and find each other at 9101, where proxies must listen
 */
#include <errno.h>
#include <getopt.h>
#include <raft/uv.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node.h"
#include "twinlog_raft.h"

#define PATIENCE_MS 300000 /* for what has to happen, on a busy machine too */

static struct setting setting = { .election_ms = 1000, .most_bytes = 1 << 20, .has_clients = true };
static struct board *board;
static pid_t pids[MOST_NODES]; /* 0 = does not run */
static unsigned newest_id;

static void give_up(const char *what)
{
    fprintf(stderr, "cluster: %s\n", what);
    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (pids[i] > 0)
            kill(pids[i], SIGKILL);
    }
    exit(1);
}

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void sleep_ms(double ms)
{
    struct timespec time = { (time_t)(ms / 1e3), (long)(ms * 1e6) % 1000000000 };

    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        ;
}

/* ---- servers -------------------------------------------------------------------------------------- */

/* In the child. It ends with its parent, which may have ended before it asked for that. */
static _Noreturn void be_node(unsigned i, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        exit(1);
    exit(run_node(&setting, board, i));
}

static void start_node(unsigned i)
{
    const pid_t parent = getpid();

    atomic_store(&board->seats[i].state, RAFT_UNAVAILABLE);
    atomic_store(&board->seats[i].applied, 0);
    atomic_store(&board->seats[i].in_flight, 0);
    atomic_store(&board->seats[i].check, 0);
    atomic_store(&board->seats[i].order, 0);

    fflush(stdout);
    pids[i] = fork();
    if (pids[i] < 0)
        give_up("fork() fails");
    if (pids[i] == 0)
        be_node(i, parent);
}

static int stop_node(unsigned i, int signal_number)
{
    int status = 0;

    kill(pids[i], signal_number);
    waitpid(pids[i], &status, 0);
    pids[i] = 0;
    atomic_store(&board->seats[i].state, RAFT_UNAVAILABLE);
    return status;
}

/* The server starts again at once. A negative victim is none. */
static void kill_again(int victim)
{
    if (victim < 0)
        return;
    stop_node((unsigned)victim, SIGKILL);
    start_node((unsigned)victim);
}

/* A server that ends by itself is a failure. */
static void check_alive(void)
{
    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (pids[i] > 0 && waitpid(pids[i], NULL, WNOHANG) != 0) {
            pids[i] = 0;
            give_up("a server has ended");
        }
    }
}

/* -1 = there is none. */
static int leader(void)
{
    for (int i = 0; i < MOST_NODES; i++) {
        if (pids[i] > 0 && board->seats[i].state == RAFT_LEADER)
            return i;
    }
    return -1;
}

/* The first server that runs. */
static unsigned first_node(void)
{
    unsigned i = 0;

    while (i < MOST_NODES - 1 && pids[i] == 0)
        i++;
    return i;
}

static void remove_files_of(unsigned i)
{
    char command[4096];
    const int length =
        snprintf(command, sizeof(command), "rm -rf '%s'/server-%u", setting.dir, board->ids[i]);

    if (length < (int)sizeof(command) && system(command) != 0)
        give_up("files cannot be removed");
}

/* What an operator does, once for each server; under an id that was never used. */
static void make_node(unsigned i, bool may_bootstrap)
{
    char dir[4096];

    board->ids[i] = ++newest_id;
    snprintf(dir, sizeof(dir), "%s/server-%u", setting.dir, board->ids[i]);
    int rv = 0;
    if (!setting.is_stock)
        rv = twinlog_raft_create(dir, CLUSTER, board->ids[i], may_bootstrap);
    if (rv != 0 && rv != RAFT_CANTBOOTSTRAP) /* of a run before */
        give_up("a server's directory cannot be made");
}

static void start_nodes(void)
{
    setting.start = START_FIRST;
    newest_id = 0;
    for (unsigned i = 0; i < NODES; i++) {
        make_node(i, true);
        start_node(i);
    }

    setting.start = START_AGAIN;
}

/* Waits until `acknowledged` grows: there is a leader, and it has a majority. */
static double wait_for_service(void)
{
    double begin = now_ms();
    uint64_t before = board->acknowledged;

    while (board->acknowledged == before) {
        check_alive();
        if (now_ms() - begin > PATIENCE_MS)
            give_up("no command is acknowledged");
        sleep_ms(1);
    }

    return now_ms() - begin;
}

static bool is_level(const struct seat *seat)
{
    return seat->check == board->check && seat->applied >= board->acknowledged &&
           seat->applied == board->seats[first_node()].applied;
}

/* Each server has copied its machine since it had nothing in flight, so the copy of the one that was the leader has all
 * that was acknowledged; and they have applied as much as each other. Commands that nobody acknowledged are applied,
 * too: numbers alone do not tell that what was acknowledged is among them. */
static bool are_level(void)
{
    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (pids[i] > 0 && !is_level(&board->seats[i]))
            return false;
    }
    return true;
}

static void start_again_what_is_behind(void)
{
    for (unsigned i = 0; i < MOST_NODES; i++) {
        const struct seat *seat = &board->seats[i];

        if (pids[i] == 0 || seat->state == RAFT_LEADER || seat->applied >= board->acknowledged)
            continue;
        printf("server %u is behind and is started again\n", board->ids[i]);
        kill_again((int)i);
    }
}

/* The load is off. libraft 0.15 may leave a server behind if its log was longer than the new leader's, until it
 * connects again: a heartbeat's answer tells the leader more than the two have in common. A restart helps. */
static void wait_until_level(void)
{
    double begin = now_ms(), patience = 20.0 * setting.election_ms;

    while (!are_level()) {
        check_alive();
        sleep_ms(5);
        if (now_ms() - begin > PATIENCE_MS)
            give_up("the servers do not reach the same state");
        if (now_ms() - begin > patience) {
            patience += 40.0 * setting.election_ms;
            start_again_what_is_behind();
        }
    }
}

/* NULL, or what was acknowledged and is not in this copy of a machine. */
static const char *missing_in(const struct machine *machine)
{
    for (unsigned t = 0; t < TERMS; t++) {
        if (machine->last[t] < board->acknowledged_of[t])
            return "a command that was acknowledged is missing";
    }

    /* The answer to the newest command of a client may be lost. */
    for (unsigned c = 0; c < CLIENTS; c++) {
        const uint64_t counter = machine->clients[c].counter, answered = board->answered[c];
        if (counter < answered || counter > answered + 1)
            return "a client's command is missing, or was applied twice";
    }
    return NULL;
}

/* NULL, or what is wrong with the copies of the machines. */
static const char *fault_of_state(void)
{
    const struct machine *first = &board->seats[first_node()].machine;

    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (pids[i] == 0)
            continue;

        const struct machine *machine = &board->seats[i].machine;
        if (machine->wrong > 0)
            return "a command is missing, or twice";
        if (machine->hash != first->hash || machine->applied != first->applied)
            return "the servers have different states";

        const char *missing = missing_in(machine);
        if (missing != NULL)
            return missing;
    }

    if (board->old_reads > 0)
        return "a read did not see what was acknowledged before it";
    return NULL;
}

/* A new leader may still apply what an earlier one had sent: then it is looked at again. */
static void check_state(void)
{
    const char *fault;
    uint64_t applied;

    do {
        atomic_fetch_add(&board->check, 1);
        wait_until_level();
        applied = board->seats[first_node()].applied;
        fault = fault_of_state();
        atomic_fetch_or(&board->check, 0); /* the copies were read before what follows */
    } while (!are_level() || board->seats[first_node()].applied != applied);
    if (fault != NULL)
        give_up(fault);
}

/* A metric of a server, the largest one of that name; -1 = there is none. */
static double metric_of(unsigned i, const char *name)
{
    char path[4096], line[200];
    double value = -1;

    snprintf(path, sizeof(path), "%s/server-%u.prom", setting.dir, board->ids[i]);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return -1;

    while (fgets(line, sizeof(line), file) != NULL) {
        const char *number = strchr(line, ' ');
        if (strncmp(line, name, strlen(name)) != 0 || number == NULL)
            continue;
        if (atof(number) > value)
            value = atof(number);
    }
    fclose(file);
    return value;
}

/* All is applied, nothing waits, and no server is behind. */
static bool is_metrics_level(unsigned i, double applied)
{
    return applied >= (double)board->seats[i].applied && metric_of(i, "raft_applied_index") == applied &&
           metric_of(i, "raft_commit_index") == applied && metric_of(i, "raft_queued_entries") == 0 &&
           metric_of(i, "raft_bytes_in_flight") == 0 && metric_of(i, "raft_lag_entries") <= 0;
}

/* Once the servers are level, so are their metrics. */
static bool are_metrics_level(void)
{
    const double applied = metric_of(first_node(), "raft_applied_index");

    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (pids[i] > 0 && !is_metrics_level(i, applied))
            return false;
    }
    return true;
}

static void check_metrics(void)
{
    double begin = now_ms();

    while (!are_metrics_level()) {
        check_alive();
        sleep_ms(20);
        if (now_ms() - begin > PATIENCE_MS)
            give_up("the metrics are not those of servers with the same state");
    }
}

/* ---- kills ---------------------------------------------------------------------------------------- */

/* The leader, or the server behind it, under load. */
static void kill_one(bool is_leader, double seconds)
{
    const char *what = is_leader ? "the leader" : "a follower";

    sleep_ms(seconds * 1e3);
    wait_for_service();
    int victim = leader();
    if (victim < 0)
        return;
    if (!is_leader)
        victim = (victim + 1) % NODES;

    const uint64_t before = board->acknowledged;
    stop_node((unsigned)victim, SIGKILL);
    const double pause = wait_for_service();
    printf("%10ju acknowledged; server %u, %s, killed; ", (uintmax_t)before, board->ids[victim], what);
    printf("the next command was acknowledged after %.0f ms\n", pause);
    start_node((unsigned)victim);
}

static void settle_and_check(unsigned in_flight)
{
    board->in_flight = 0;
    check_state();
    check_metrics();
    printf("%10ju acknowledged; all servers have applied %ju, and have the same state\n",
           (uintmax_t)board->acknowledged, (uintmax_t)board->seats[first_node()].applied);
    board->in_flight = in_flight;
}

static void kill_all(double seconds)
{
    sleep_ms(seconds * 1e3);
    wait_for_service();
    for (unsigned i = 0; i < NODES; i++)
        kill(pids[i], SIGKILL);
    for (unsigned i = 0; i < NODES; i++)
        kill_again((int)i);
    printf("           all killed; the next command was acknowledged after %.0f ms\n", wait_for_service());
}

/* With commands in flight. */
static void close_all(unsigned in_flight)
{
    wait_for_service();
    const uint64_t repeated = board->seats[first_node()].machine.repeated;
    const bool has_limit = setting.most_bytes < in_flight * COMMAND_BYTES;
    uint64_t refused = 0;
    bool has_failed = false;

    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (pids[i] > 0 && stop_node(i, SIGTERM) != 0)
            has_failed = true;
    }
    for (unsigned i = 0; i < MOST_NODES; i++)
        refused += board->seats[i].refused;

    if (has_failed)
        give_up("a server did not close");
    if (repeated == 0 || board->reads == 0)
        give_up("no client has repeated a command, or read");
    if ((refused > 0) != has_limit)
        give_up("the limit of bytes in flight was not kept, or there was none to keep");
    printf("nothing that was acknowledged is missing; %ju repeated commands, %ju reads\n",
           (uintmax_t)repeated, (uintmax_t)board->reads);
}

/* Commands that are acknowledged a second. */
static double rate_in(double seconds)
{
    const double begin = now_ms();
    const uint64_t before = board->acknowledged;

    sleep_ms(seconds * 1e3);
    return (double)(board->acknowledged - before) / (now_ms() - begin) * 1e3;
}

static int try_kills(unsigned rounds, double seconds, unsigned in_flight)
{
    board->in_flight = in_flight;
    start_nodes();
    printf("           the first command was acknowledged after %.0f ms\n", wait_for_service());
    printf("%10.0f commands a second, %u in flight\n", rate_in(seconds), in_flight);

    for (unsigned i = 0; i < rounds; i++) {
        kill_one(true, seconds);
        settle_and_check(in_flight);
        kill_one(false, seconds);
        settle_and_check(in_flight);
        kill_all(seconds);
        settle_and_check(in_flight);
    }

    close_all(in_flight);
    return 0;
}

/* ---- members -------------------------------------------------------------------------------------- */

static void order(unsigned i, int role)
{
    atomic_store(&board->roles[i], role);
    atomic_fetch_add(&board->order, 1);
}

/* Waits until a leader has made the members what was ordered. `removed` may be the leader itself, which cannot follow
 * the order: then it is killed. `added` is started again where a server that is behind is (see wait_until_level()). */
static void wait_for_members(int added, int removed)
{
    double begin = now_ms(), patience = 40.0 * setting.election_ms;

    for (;;) {
        const int i = leader();
        if (i >= 0 && board->seats[i].order == board->order)
            return;

        check_alive();
        if (i >= 0 && i == removed)
            stop_node((unsigned)i, SIGKILL);
        if (now_ms() - begin > PATIENCE_MS)
            give_up("the members are not what was ordered");
        if (added >= 0 && now_ms() - begin > patience) {
            patience += 40.0 * setting.election_ms;
            printf("server %u is not a member yet and is started again\n", board->ids[added]);
            kill_again(added);
        }

        sleep_ms(1);
    }
}

/* A new server. The leader is killed meanwhile, and then perhaps the new server. */
static void add_node(unsigned i, double seconds, bool is_killed)
{
    const char *killed = is_killed ? "it and a leader were" : "a leader was";

    make_node(i, false);
    start_node(i);
    order(i, RAFT_VOTER);
    sleep_ms(seconds * 1e3 / 4);
    kill_again(leader());
    wait_for_members((int)i, -1);

    sleep_ms(seconds * 1e3);
    if (is_killed)
        kill_again((int)i);
    wait_for_service();
    printf("           server %u is a member; %s killed\n", board->ids[i], killed);
}

/* Removes a member, for good, perhaps because its disk is lost; a leader is killed meanwhile. */
static void remove_node(unsigned i, double seconds, bool is_lost)
{
    const char *why = is_lost ? ", which had lost its disk," : "";

    if (is_lost) {
        stop_node(i, SIGKILL);
        remove_files_of(i);
        wait_for_service();
    }

    order(i, NO_MEMBER);
    sleep_ms(seconds * 1e3 / 4);
    kill_again(leader());
    wait_for_members(-1, (int)i);
    if (pids[i] > 0)
        stop_node(i, SIGKILL);
    wait_for_service();
    printf("           server %u%s is no member any more; a leader was killed\n", board->ids[i], why);
}

/* Two of the three members are lost, and the last one goes on alone. It has all that was acknowledged, because all were
 * level: otherwise raft_recover() may lose what only the others have. */
static void lose_majority(unsigned left)
{
    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (pids[i] > 0)
            stop_node(i, SIGKILL);
    }
    for (unsigned i = 0; i < MOST_NODES; i++) {
        if (i == left) {
            atomic_store(&board->roles[i], RAFT_VOTER);
        } else {
            atomic_store(&board->roles[i], NO_MEMBER);
            remove_files_of(i);
        }
    }

    atomic_fetch_add(&board->order, 1);
    setting.start = START_RECOVER;
    start_node(left);
    setting.start = START_AGAIN;
}

/* Adds one member and removes another one, which leaves the same number. The disk of the removed one may be lost
 * before. */
static void replace_member(unsigned added, unsigned removed, double seconds, bool is_lost, unsigned in_flight)
{
    if (is_lost)
        remove_node(removed, seconds, true);
    add_node(added, seconds, is_lost);
    settle_and_check(in_flight);
    if (!is_lost)
        remove_node(removed, seconds, false);
}

/* Only `left` goes on, and is killed once. Then it gets new servers beside it again; `spare` gets none. */
static void lose_and_replace_majority(unsigned left, unsigned spare, double seconds, unsigned in_flight)
{
    settle_and_check(0);
    lose_majority(left);
    board->in_flight = in_flight;
    wait_for_service();
    kill_again((int)left);
    wait_for_service();
    printf("           servers lost but for %u, which goes on alone; it was killed once\n", board->ids[left]);
    settle_and_check(in_flight);

    for (unsigned i = 1; i < MOST_NODES; i++) {
        const unsigned added = (spare + i) % MOST_NODES;
        if (added != left)
            add_node(added, seconds, true);
    }
    settle_and_check(in_flight);
}

static int try_members(unsigned rounds, double seconds, unsigned in_flight)
{
    unsigned spare = MOST_NODES - 1; /* the seat without a server */

    for (unsigned i = 0; i < MOST_NODES; i++)
        atomic_store(&board->roles[i], i < NODES ? RAFT_VOTER : NO_MEMBER);
    board->in_flight = in_flight;
    start_nodes();

    for (unsigned round = 0; round < rounds; round++) {
        const unsigned added = spare, removed = (spare + 1) % MOST_NODES;
        const bool is_lost = round % 2 == 1;

        sleep_ms(seconds * 1e3);
        wait_for_service();
        replace_member(added, removed, seconds, is_lost, in_flight);
        spare = removed;

        /* The newest one stays: what it has came from another server. */
        lose_and_replace_majority(added, spare, seconds, in_flight);
    }

    close_all(in_flight);
    return 0;
}

/* ---- rates ---------------------------------------------------------------------------------------- */

static uint64_t longest_tick_ns(void)
{
    uint64_t longest = 0;

    for (unsigned i = 0; i < NODES; i++) {
        if (board->seats[i].ticks.max > longest)
            longest = board->seats[i].ticks.max;
    }
    return longest;
}

static void measure(double seconds, unsigned in_flight)
{
    memset(board, 0, sizeof(*board));
    board->in_flight = in_flight;
    start_nodes();
    wait_for_service();
    sleep_ms(500);

    board->is_measuring = true;
    const double rate = rate_in(seconds);
    board->is_measuring = false;
    const int i = leader();
    if (i < 0)
        give_up("the leader is lost");

    const char *storage = setting.is_stock ? "raft_uv" : "twinlog-raft";
    const struct twinlog_histogram *latency = &board->seats[i].latency;
    const double p50_us = (double)twinlog_quantile(latency, 0.5) / 1e3;
    const double p99_us = (double)twinlog_quantile(latency, 0.99) / 1e3;
    const double stall_us = (double)longest_tick_ns() / 1e3;
    printf("%-12s %9u %12.0f %10.0f %10.0f %10.0f\n", storage, in_flight, rate, p50_us, p99_us, stall_us);

    for (unsigned n = 0; n < NODES; n++) {
        stop_node(n, SIGKILL);
        remove_files_of(n);
    }
}

static int compare(unsigned rounds, double seconds, unsigned unused)
{
    static const unsigned in_flight[] = { 1, 100, 1000 };

    (void)unused;
    printf("%-12s %9s %12s %10s %10s %10s\n", "storage", "in flight", "commands/s", "p50 us", "p99 us",
           "stall us");
    for (unsigned round = 0; round < rounds; round++) {
        const bool is_stock_first = round % 2 == 0;

        for (unsigned i = 0; i < 3; i++) {
            setting.is_stock = is_stock_first;
            measure(seconds, in_flight[i]);
            setting.is_stock = !is_stock_first;
            measure(seconds, in_flight[i]);
        }
    }
    return 0;
}

/* Can servers listen at this address? 0, or what libuv says. */
static int try_to_listen(uv_loop_t *loop)
{
    static uv_tcp_t tcp;
    struct sockaddr_in address;

    uv_tcp_init(loop, &tcp);
    int rv = uv_ip4_addr(setting.host, PORT + 1, &address);
    if (rv == 0)
        rv = uv_tcp_bind(&tcp, (struct sockaddr *)&address, 0);
    if (rv == 0)
        rv = uv_listen((uv_stream_t *)&tcp, 1, NULL);
    return rv;
}

/* NULL, or why raft_uv does not work in this directory. */
static const char *fault_of_raft_uv(uv_loop_t *loop, const char *address)
{
    static struct raft_uv_transport transport;
    static struct raft_io io;

    int rv = begin_transport(&transport, loop);
    if (rv == 0)
        rv = raft_uv_init(&io, loop, setting.dir, &transport);
    if (rv != 0)
        return raft_strerror(rv);

    rv = io.init(&io, 1, address);
    if (rv != 0)
        return io.errmsg;
    return NULL;
}

/* In a child, as what it opens stays in the loop. Ends it with 0 if servers could run here. */
static _Noreturn void try_to_run(void)
{
    uv_loop_t loop;
    char address[48];

    snprintf(address, sizeof(address), "%s:%u", setting.host, PORT + 1);
    uv_loop_init(&loop);
    const int rv = try_to_listen(&loop);
    if (rv != 0) {
        printf("SKIP raft-cluster: %s cannot be had: %s\n", address, uv_strerror(rv));
        fflush(stdout);
        _exit(1);
    }

    const char *fault = fault_of_raft_uv(&loop, address);
    if (fault != NULL) {
        printf("SKIP raft-cluster: raft_uv does not work in %s: %s\n", setting.dir, fault);
        fflush(stdout);
        _exit(1);
    }
    _exit(0);
}

/* raft_uv works in this directory, and the addresses can be had. */
static bool can_run(void)
{
    int status = 1;
    const pid_t child = fork();

    if (child == 0)
        try_to_run();
    if (child > 0)
        waitpid(child, &status, 0);
    return status == 0;
}

/* ---- all ------------------------------------------------------------------------------------------ */

/* An address of the loopback that no other program takes. */
static void choose_host(void)
{
    const unsigned pid = (unsigned)getpid();

    snprintf(setting.host, sizeof(setting.host), "127.%u.%u.1", 1 + pid / 250 % 250, 1 + pid % 250);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "rounds", 1, NULL, 'r' },    { "compare", 0, NULL, 'c' },  { "seconds", 1, NULL, 's' },
        { "in-flight", 1, NULL, 'f' }, { "election", 1, NULL, 'e' }, { "no-snapshots", 0, NULL, 'n' },
        { "members", 0, NULL, 'm' },   { "bytes", 1, NULL, 'b' },    { "proxies", 1, NULL, 'p' },
        { "ballast", 1, NULL, 'l' },   { NULL, 0, NULL, 0 },
    };
    unsigned in_flight = 100, rounds = 3;
    double seconds = 2;
    int (*run)(unsigned, double, unsigned) = try_kills;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            run = compare;
            setting.has_clients = false;
            break;
        case 'b':
            setting.most_bytes = strtoull(optarg, NULL, 10);
            break;
        case 'l':
            setting.ballast = strtoull(optarg, NULL, 10);
            break;
        case 'p':
            setting.is_proxied = true;
            snprintf(setting.host, sizeof(setting.host), "%s", optarg);
            break;
        case 'm':
            run = try_members;
            break;
        case 's':
            seconds = atof(optarg);
            break;
        case 'f':
            in_flight = (unsigned)atoi(optarg);
            break;
        case 'r':
            rounds = (unsigned)atoi(optarg);
            break;
        case 'e':
            setting.election_ms = (unsigned)atoi(optarg);
            break;
        case 'n':
            setting.has_no_snapshots = true;
            break;
        default:
            return 2;
        }
    }

    if (optind + 1 != argc || setting.election_ms < 20 || in_flight == 0) {
        fprintf(stderr, "usage: cluster [--members | --compare] [OPTIONS] DIR\n");
        return 2;
    }

    setting.dir = argv[optind];
    if (mkdir(setting.dir, 0777) < 0 && errno != EEXIST)
        give_up("DIR cannot be made");
    board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        give_up("no memory");

    if (!setting.is_proxied)
        choose_host();
    if (!can_run())
        return 77;
    return run(rounds, seconds, in_flight);
}
