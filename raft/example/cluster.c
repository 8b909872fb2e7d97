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
    for (unsigned i = 0; i < MOST_NODES; i++)
        if (pids[i] > 0)
            kill(pids[i], SIGKILL);
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

static void start_node(unsigned i)
{
    atomic_store(&board->seats[i].state, RAFT_UNAVAILABLE);
    atomic_store(&board->seats[i].applied, 0);
    atomic_store(&board->seats[i].in_flight, 0);
    atomic_store(&board->seats[i].check, 0);
    atomic_store(&board->seats[i].order, 0);
    pid_t parent = getpid();
    fflush(stdout);
    pids[i] = fork();
    if (pids[i] < 0)
        give_up("fork() fails");
    if (pids[i] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(getppid() == parent ? run_node(&setting, board, i) : 1);
    }
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
    for (unsigned i = 0; i < MOST_NODES; i++)
        if (pids[i] > 0 && waitpid(pids[i], NULL, WNOHANG) != 0) {
            pids[i] = 0;
            give_up("a server has ended");
        }
}

static int leader(void)
{
    for (int i = 0; i < MOST_NODES; i++)
        if (pids[i] > 0 && board->seats[i].state == RAFT_LEADER)
            return i;
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
    if (snprintf(command, sizeof(command), "rm -rf '%s'/server-%u", setting.dir, board->ids[i]) <
            (int)sizeof(command) &&
        system(command) != 0)
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

/* Each server has copied its machine since it had nothing in flight, so the copy of the one that was the leader has all
 * that was acknowledged; and they have applied as much as each other. Commands that nobody acknowledged are applied,
 * too: numbers alone do not tell that what was acknowledged is among them. */
static bool are_level(void)
{
    for (unsigned i = 0; i < MOST_NODES; i++)
        if (pids[i] > 0 &&
            (board->seats[i].check != board->check || board->seats[i].applied < board->acknowledged ||
             board->seats[i].applied != board->seats[first_node()].applied))
            return false;
    return true;
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
            for (unsigned i = 0; i < MOST_NODES; i++)
                if (pids[i] > 0 && board->seats[i].state != RAFT_LEADER &&
                    board->seats[i].applied < board->acknowledged) {
                    printf("server %u is behind and is started again\n", board->ids[i]);
                    kill_again((int)i);
                }
        }
    }
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

        for (unsigned t = 0; t < TERMS; t++)
            if (machine->last[t] < board->acknowledged_of[t])
                return "a command that was acknowledged is missing";
        for (unsigned c = 0; c < CLIENTS; c++) /* the answer to the newest one may be lost */
            if (machine->clients[c].counter < board->answered[c] ||
                machine->clients[c].counter > board->answered[c] + 1)
                return "a client's command is missing, or was applied twice";
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
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0 && strchr(line, ' ') != NULL) {
            double found = atof(strchr(line, ' '));
            if (found > value)
                value = found;
        }

    if (file != NULL)
        fclose(file);
    return value;
}

/* Once the servers are level, so are their metrics. */
static bool are_metrics_level(void)
{
    double applied = metric_of(first_node(), "raft_applied_index");

    for (unsigned i = 0; i < MOST_NODES; i++)
        if (pids[i] > 0 &&
            (applied < (double)board->seats[i].applied || metric_of(i, "raft_applied_index") != applied ||
             metric_of(i, "raft_commit_index") != applied || metric_of(i, "raft_queued_entries") != 0 ||
             metric_of(i, "raft_bytes_in_flight") != 0 || metric_of(i, "raft_lag_entries") > 0))
            return false;

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
    sleep_ms(seconds * 1e3);
    wait_for_service();
    int victim = leader();
    if (victim < 0)
        return;

    if (!is_leader)
        victim = (victim + 1) % NODES;
    uint64_t before = board->acknowledged;
    stop_node((unsigned)victim, SIGKILL);
    double pause = wait_for_service();
    printf("%10ju acknowledged; server %u, %s, killed; the next command was acknowledged after %.0f ms\n",
           (uintmax_t)before, board->ids[victim], is_leader ? "the leader" : "a follower", pause);
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
    int failed = 0;
    uint64_t refused = 0, repeated = board->seats[first_node()].machine.repeated;
    for (unsigned i = 0; i < MOST_NODES; i++)
        if (pids[i] > 0)
            failed |= stop_node(i, SIGTERM);
    for (unsigned i = 0; i < MOST_NODES; i++)
        refused += board->seats[i].refused;
    if (failed)
        give_up("a server did not close");
    if (repeated == 0 || board->reads == 0)
        give_up("no client has repeated a command, or read");
    if ((refused > 0) != (setting.most_bytes < in_flight * COMMAND_BYTES))
        give_up("the limit of bytes in flight was not kept, or there was none to keep");
    printf("nothing that was acknowledged is missing; %ju repeated commands, %ju reads\n",
           (uintmax_t)repeated, (uintmax_t)board->reads);
}

static int try_kills(unsigned rounds, double seconds, unsigned in_flight)
{
    board->in_flight = in_flight;
    start_nodes();
    printf("           the first command was acknowledged after %.0f ms\n", wait_for_service());
    double begin = now_ms();
    uint64_t before = board->acknowledged;
    sleep_ms(seconds * 1e3);
    printf("%10.0f commands a second, %u in flight\n",
           (double)(board->acknowledged - before) / (now_ms() - begin) * 1e3, in_flight);
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

    for (int i = leader(); i < 0 || board->seats[i].order != board->order; i = leader()) {
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
    printf("           server %u is a member; %s killed\n", board->ids[i],
           is_killed ? "it and a leader were" : "a leader was");
}

/* Removes a member, for good, perhaps because its disk is lost; a leader is killed meanwhile. */
static void remove_node(unsigned i, double seconds, bool is_lost)
{
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
    printf("           server %u%s is no member any more; a leader was killed\n", board->ids[i],
           is_lost ? ", which had lost its disk," : "");
}

/* Two of the three members are lost, and the last one goes on alone. It has all that was acknowledged, because all were
 * level: otherwise raft_recover() may lose what only the others have. */
static void lose_majority(unsigned left)
{
    for (unsigned i = 0; i < MOST_NODES; i++)
        if (pids[i] > 0)
            stop_node(i, SIGKILL);
    for (unsigned i = 0; i < MOST_NODES; i++) {
        atomic_store(&board->roles[i], i == left ? RAFT_VOTER : NO_MEMBER);
        if (i != left)
            remove_files_of(i);
    }

    atomic_fetch_add(&board->order, 1);
    setting.start = START_RECOVER;
    start_node(left);
    setting.start = START_AGAIN;
}

static int try_members(unsigned rounds, double seconds, unsigned in_flight)
{
    unsigned spare = MOST_NODES - 1;

    for (unsigned i = 0; i < MOST_NODES; i++)
        atomic_store(&board->roles[i], i < NODES ? RAFT_VOTER : NO_MEMBER);
    board->in_flight = in_flight;
    start_nodes();
    for (unsigned round = 0; round < rounds; round++) {
        sleep_ms(seconds * 1e3);
        wait_for_service();
        unsigned left = spare; /* the newest one: what it has came from another server */
        bool is_lost = round % 2;
        spare = (spare + 1) % MOST_NODES;
        if (is_lost)
            remove_node(spare, seconds, true);
        add_node(left, seconds, is_lost);
        settle_and_check(in_flight);
        if (!is_lost)
            remove_node(spare, seconds, false);
        settle_and_check(0);
        lose_majority(left);
        board->in_flight = in_flight;
        wait_for_service();
        kill_again((int)left);
        wait_for_service();
        printf("           servers lost but for %u, which goes on alone; it was killed once\n",
               board->ids[left]);
        settle_and_check(in_flight);
        for (unsigned i = 1; i < MOST_NODES; i++)
            if ((spare + i) % MOST_NODES != left)
                add_node((spare + i) % MOST_NODES, seconds, true);
        settle_and_check(in_flight);
    }

    close_all(in_flight);
    return 0;
}

/* ---- rates ---------------------------------------------------------------------------------------- */

static void measure(double seconds, unsigned in_flight)
{
    memset(board, 0, sizeof(*board));
    board->in_flight = in_flight;
    start_nodes();
    wait_for_service();
    sleep_ms(500);
    board->is_measuring = true;
    double begin = now_ms();
    uint64_t before = board->acknowledged;
    sleep_ms(seconds * 1e3);
    double rate = (double)(board->acknowledged - before) / (now_ms() - begin) * 1e3;
    board->is_measuring = false;
    int i = leader();
    if (i < 0)
        give_up("the leader is lost");
    const struct twinlog_histogram *latency = &board->seats[i].latency;
    uint64_t longest = 0;
    for (unsigned n = 0; n < NODES; n++) {
        if (board->seats[n].ticks.max > longest)
            longest = board->seats[n].ticks.max;
    }
    printf("%-12s %9u %12.0f %10.0f %10.0f %10.0f\n", setting.is_stock ? "raft_uv" : "twinlog-raft",
           in_flight, rate, (double)twinlog_quantile(latency, 0.5) / 1e3,
           (double)twinlog_quantile(latency, 0.99) / 1e3, (double)longest / 1e3);
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
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned i = 0; i < 3; i++)
            for (unsigned turn = 0; turn < 2; turn++) {
                setting.is_stock = (turn + round) % 2 == 0;
                measure(seconds, in_flight[i]);
            }

    return 0;
}

/* A child looks whether raft_uv works in this directory, and the addresses can be had. */
static bool can_run(void)
{
    int status = 1;

    pid_t child = fork();
    if (child == 0) {
        struct raft_uv_transport transport;
        struct sockaddr_in address;
        struct raft_io io;
        uv_loop_t loop;
        uv_tcp_t tcp;
        char address_of_1[48];
        snprintf(address_of_1, sizeof(address_of_1), "%s:%u", setting.host, PORT + 1);
        uv_loop_init(&loop);
        uv_tcp_init(&loop, &tcp);
        int rv = uv_ip4_addr(setting.host, PORT + 1, &address);
        if (rv == 0)
            rv = uv_tcp_bind(&tcp, (struct sockaddr *)&address, 0);
        if (rv == 0)
            rv = uv_listen((uv_stream_t *)&tcp, 1, NULL);
        if (rv != 0) {
            printf("SKIP raft-cluster: %s cannot be had: %s\n", address_of_1, uv_strerror(rv));
            fflush(stdout);
            _exit(1);
        }

        rv = begin_transport(&transport, &loop);
        if (rv == 0)
            rv = raft_uv_init(&io, &loop, setting.dir, &transport);
        const char *why = raft_strerror(rv);
        if (rv == 0) {
            rv = io.init(&io, 1, address_of_1);
            why = io.errmsg;
        }

        if (rv != 0) {
            printf("SKIP raft-cluster: raft_uv does not work in %s: %s\n", setting.dir, why);
            fflush(stdout);
        }

        _exit(rv != 0);
    }

    if (child > 0)
        waitpid(child, &status, 0);
    return status == 0;
}

/* ---- all ------------------------------------------------------------------------------------------ */

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
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
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
        snprintf(setting.host, sizeof(setting.host), "127.%u.%u.1", /* which no other program takes */
                 1 + (unsigned)getpid() / 250 % 250, 1 + (unsigned)getpid() % 250);
    if (!can_run())
        return 77;
    return run(rounds, seconds, in_flight);
}
