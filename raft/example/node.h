/* SPDX-License-Identifier: Apache-2.0 */
/* One server of the example, and the memory that it shares with the program that has started it. */
#ifndef TWINLOG_RAFT_NODE_H
#define TWINLOG_RAFT_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <twinlog_admin.h>

#define NODES 3      /* servers at the start */
#define MOST_NODES 4 /* with one that is added */
#define CLUSTER 1u   /* its number */
#define NO_MEMBER (-1)
#define TERMS 1024u /* as many elections as one run can have */
#define COMMAND_BYTES 128u
#define CLIENTS 4u

/* A client that sends a command again until it has an answer, to whichever server is the leader. */
struct client {
    uint64_t
        sequence;     /* of its newest command that was applied: an older one, or the same, is a repetition */
    uint64_t counter; /* what its commands do: each adds 1 */
};

/* The state machine: of the commands of each term, how many were applied. A leader numbers its commands from 1, and
 * there is one leader in a term, so the next command of a term has the next number. All of it is in a snapshot. */
struct machine {
    uint64_t applied;
    uint64_t hash;  /* of all commands in their order */
    uint64_t wrong; /* commands that were not the next of their term */
    uint64_t last[TERMS];
    uint64_t repeated; /* commands of clients that had been applied before */
    struct client clients[CLIENTS];
};

struct seat {
    _Atomic int state;          /* of raft */
    _Atomic unsigned in_flight; /* commands that this server has sent and has no outcome of */
    _Atomic unsigned check;     /* the newest check for which it copied its machine with nothing in flight */
    _Atomic unsigned order;   /* the newest order that this server, as the leader, has found to be followed */
    _Atomic uint64_t applied; /* by the copy below; 0 while that is made */
    _Atomic uint64_t refused; /* commands, because of `most_bytes` */
    struct machine machine;   /* a copy; what was read is whole if `applied` was the same before and after */
    struct twinlog_histogram latency;
    struct twinlog_histogram ticks; /* from one to the next: 5 ms, or what held up the loop */
};

struct board {
    _Atomic unsigned in_flight; /* commands that the leader keeps in flight; 0 = none */
    _Atomic unsigned check;     /* counts the checks, from 1 */
    _Atomic uint64_t acknowledged;
    _Atomic uint64_t acknowledged_of[TERMS];
    _Atomic uint64_t answered[CLIENTS]; /* the newest command that each client has an answer to */
    _Atomic uint64_t reads,
        newest_read;            /* counts the reads; the largest number of commands that one has seen */
    _Atomic uint64_t old_reads; /* that did not see what was acknowledged or read before they began */
    _Atomic bool is_measuring;
    _Atomic unsigned order;        /* counts the changes of `roles`; 0 = the members stay as they are */
    _Atomic int roles[MOST_NODES]; /* RAFT_VOTER or NO_MEMBER: what the leader has to make of each server */
    _Atomic unsigned ids[MOST_NODES]; /* of the servers in the seats; no id comes twice */
    struct seat seats[MOST_NODES];
};

enum start {
    START_FIRST,  /* with the configuration of all NODES, unless it has one */
    START_AGAIN,  /* with what it has; that may be nothing: then a leader adds it */
    START_RECOVER /* as the only member */
};

struct setting {
    const char *dir;
    enum start start;
    unsigned election_ms;
    uint64_t most_bytes; /* of commands in flight */
    uint64_t ballast;    /* bytes that a snapshot has in addition */
    bool is_stock;       /* raft_uv's own storage instead of twinlog-raft */
    bool has_no_snapshots;
    bool has_clients; /* that repeat commands, and read */
    bool is_proxied;  /* the servers talk through programs that encrypt */
    char host[32];
};

#define PORT 9000   /* server 1 has the next one */
#define PROXIES 100 /* its proxy has a port that is so much larger */

struct raft;
struct raft_uv_transport;
struct uv_loop_s;

int begin_transport(struct raft_uv_transport *transport, struct uv_loop_s *loop);

void write_metrics(const char *path, struct raft *raft, uint64_t bytes_in_flight, uint64_t refused);

/* Runs the server of seat `number` (0 to MOST_NODES - 1) until SIGTERM; returns its exit status. */
int run_node(const struct setting *setting, struct board *board, unsigned number);

#endif
