/* SPDX-License-Identifier: Apache-2.0 */
/* One server of the example, and the memory that it shares with the program that has started it. */
#ifndef TWINLOG_RAFT_NODE_H
#define TWINLOG_RAFT_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <twinlog.h>

#define NODES 3
#define TERMS 1024u /* as many elections as one run can have */
#define COMMAND_BYTES 128u

/* The state machine: of the commands of each term, how many were applied. A leader numbers its commands from 1, and there
 * is one leader in a term, so the next command of a term has the next number. */
struct machine {
    uint64_t applied;
    uint64_t hash;  /* of all commands in their order */
    uint64_t wrong; /* commands that were not the next of their term */
    uint64_t last[TERMS];
};

struct seat {
    _Atomic int state;          /* of raft */
    _Atomic unsigned in_flight; /* commands that this server has sent and has no outcome of */
    _Atomic unsigned check;     /* the newest check for which it copied its machine with nothing in flight */
    _Atomic uint64_t applied;   /* by the copy below; 0 while that is made */
    struct machine machine; /* a copy; what was read is whole if `applied` was the same before and after */
    struct twinlog_histogram latency;
};

struct board {
    _Atomic unsigned in_flight; /* commands that the leader keeps in flight; 0 = none */
    _Atomic unsigned check;     /* counts the checks, from 1 */
    _Atomic uint64_t acknowledged;
    _Atomic uint64_t acknowledged_of[TERMS];
    _Atomic bool is_measuring;
    struct seat seats[NODES];
};

struct setting {
    const char *dir;
    unsigned election_ms;
    bool is_stock; /* raft_uv's own storage instead of twinlog-raft */
    bool has_no_snapshots;
    char addresses[NODES][32];
};

/* Runs server `number` (0 to NODES - 1) until SIGTERM; returns its exit status. */
int run_node(const struct setting *setting, struct board *board, unsigned number);

#endif
