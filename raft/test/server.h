/* SPDX-License-Identifier: Apache-2.0 */
/* A raft_io that is used without raft, and what the tests store in it: all of it follows from index and term. */
#ifndef TWINLOG_RAFT_TEST_SERVER_H
#define TWINLOG_RAFT_TEST_SERVER_H

#include <raft.h>
#include <raft/uv.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLUSTER 1u
#ifdef RAFT_VERSION_NUMBER /* libraft 0.22 */
#define RAFT_IO_REQUEST_VOTE_RESULT RAFT_REQUEST_VOTE_RESULT
#define RAFT_IO_APPEND_ENTRIES_RESULT RAFT_APPEND_ENTRIES_RESULT
#endif

struct server {
    uv_loop_t loop;
    struct raft_uv_transport transport;
    struct raft raft; /* stands for raft */
    struct raft_io *io;

    /* loaded */
    raft_term term;
    raft_id vote;
    struct raft_snapshot *snapshot;
    raft_index start_index;
    struct raft_entry *entries;
    size_t n;
};

/* As a program does, for any version of libraft. */
int begin_transport(struct raft_uv_transport *transport, uv_loop_t *loop);

/* All that comes before load(), with small buffers and segments. Returns what init() returns; io is NULL if that was
 * not called. `on_failure` may be NULL, and is given the server as its context. */
int open_server(struct server *v, const char *dir,
                void (*on_failure)(void *context, int error, const char *text));
int load_server(struct server *v);

/* Entry 1 is this configuration of two servers. */
void make_configuration(struct raft_configuration *conf);

/* Any other entry has so many bytes, each of them index + term. */
size_t bytes_of(raft_index index);
void fill_entry(struct raft_entry *entry, raft_index index, raft_term term, size_t bytes);
bool is_whole(const void *data, size_t bytes, uint64_t value);

#endif
