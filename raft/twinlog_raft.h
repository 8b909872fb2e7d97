/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog-raft - a struct raft_io for libraft with libuv, with twinlog as its storage: for cowsql/raft 0.22, or for
 * canonical/raft 0.15, which nobody maintains any more. The version is that of the headers it was built with.
 *
 *     struct raft_uv_transport transport = { .version = 1 }; // 0.15 has no version
 *     struct raft_io *io;
 *     raft_uv_tcp_init(&transport, loop);
 *     int rv = twinlog_raft_open(loop, "server-1", &transport, NULL, &io); // made once, by twinlog_raft_create()
 *     if (rv == 0)
 *         rv = raft_init(&raft, io, &fsm, 1, "127.0.0.1:9001");
 *
 * Transport, timer and asynchronous work are those of raft_uv, but messages that TCP holds back to gather them are sent
 * before the loop waits. Entries, term, vote and snapshots are twinlog's:
 *
 *   DIR/log        a log; the index of an entry is its LSN. Each record is the entry's term in 8 bytes, little-endian,
 *                  and its data; the record's type is the entry's
 *   DIR/server     which server of which cluster it is, term and vote, and the newest entry that it has acknowledged
 *   DIR/snapshots  a log with the newest snapshot in pieces
 *
 * Read this before the functions:
 *
 *  - A server that comes back without what it has acknowledged breaks raft: entries that the cluster has confirmed are
 *    lost. So a directory is made by a call of its own, once, and one that is empty, older, or another server's is
 *    refused. What no server can see is a copy of the whole directory: never start one.
 *  - A write or sync that fails ends the process: libraft does not survive an append that fails later, its servers
 *    then hold different entries under one index. So the callback of such an append is never called while raft
 *    runs. The option `on_failure` may do something else than abort(); it must stop this server. From then on the
 *    server sends nothing.
 *  - A full disk is different. libraft 0.22: no call is refused. Appends and snapshots wait and are tried again each
 *    second, and the server tells a capacity of 0; while most voters have less than 4 MiB
 *    (raft_set_capacity_threshold()), raft_apply() is RAFT_NOSPACE. What waits when raft is closed is RAFT_CANCELED.
 *    libraft 0.15: the append is refused at once with RAFT_NOSPACE. On the leader raft_apply() then returns this error
 *    and works again once there is space; a follower becomes RAFT_UNAVAILABLE. The log may have taken the first entries
 *    of the call: they go before the next append, and a server that ends before that loads them at its next start. So
 *    a refused command may be applied later, as after any error. Only where there is no space for a snapshot that the
 *    leader has sent, the process ends.
 *  - libraft 0.22: a term or vote that cannot be stored stops the server as a failed write does. So does an error of an
 *    append or a truncation that neither space nor memory nor descriptors would mend, and an entry that is larger than
 *    the limit below: raft_apply() of one must not happen.
 *  - The length of each command is a multiple of 8: libraft sends several commands without padding, and takes them
 *    apart as if there were padding, so the other servers would apply other bytes. libraft 0.15: another length is
 *    refused with RAFT_MALFORMED. 0.22: it stops the server, so raft_apply() of one must not happen.
 *  - Snapshots must be on (they are, by default): libraft keeps all entries since the last one in memory.
 *  - The program must ignore SIGPIPE, or the end of one server ends the others. It must not call raft_apply() in a
 *    callback that reports an error.
 *  - All servers should have the same `buffer_bytes`: a follower cannot store an entry that is larger than its own
 *    limit, and becomes RAFT_UNAVAILABLE (0.15) or stops (0.22).
 *
 * Results are 0 or a code of libraft (RAFT_NOMEM, RAFT_IOERR, ...); io->errmsg has words for it.
 */
#ifndef TWINLOG_RAFT_H
#define TWINLOG_RAFT_H

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>
#include <twinlog_admin.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;
struct raft_uv_transport;

struct twinlog_raft_options {
    uint32_t size; /* set by TWINLOG_RAFT_OPTIONS_INIT */
    uint32_t
        buffer_bytes; /* each of the log's two buffers, a multiple of 4096, 64 KiB to 256 MiB; default 8 MiB. The
                               largest entry has 16 KiB less; above it: RAFT_TOOBIG (0.15), or the server stops */
    uint64_t segment_bytes; /* largest file of the log, as in struct twinlog_options; default 64 MiB */
    /* Called on the thread of the loop when a write or sync has failed; `error` is one of twinlog.h. From then on
     * no change is stored, and entries that were not stored are not reported. The server must stop:
     * by the end of the process, or by raft_close(), but not inside this call. NULL: a line to stderr, and abort(). */
    void (*on_failure)(void *context, int error, const char *text);
    void *context;
    uint64_t cluster; /* the directory must be of this one; 0: of any */
};
#define TWINLOG_RAFT_OPTIONS_INIT                                                                            \
    {                                                                                                        \
        sizeof(struct twinlog_raft_options), 0, 0, 0, 0, 0                                                   \
    }

/* Makes the directory of a new server, durably; its parent must exist. This is the word of an operator, by a command of
 * its own: a program that makes a directory at each start brings a server back that has forgotten its votes. `cluster`
 * is a number for the cluster, the same for all of its servers. `may_bootstrap`: only for the servers that a new
 * cluster begins with; the others are added. A server that has lost its files is removed from the cluster, and a new
 * one is made under an id that was never used. RAFT_CANTBOOTSTRAP: there are files of a server. RAFT_BUSY: another
 * process makes one there. RAFT_INVALID: a 0. */
int twinlog_raft_create(const char *dir, uint64_t cluster, unsigned long long id, bool may_bootstrap);

/* Makes a raft_io on such a directory; only raft_init() looks at it, and opens the files. The loop and the transport
 * must outlive it. `options` may be NULL. raft_uv_set_connect_retry_delay() and raft_uv_set_tracer() work on the
 * result. RAFT_INVALID: an option is out of range, or a NULL argument; RAFT_NAMETOOLONG, RAFT_NOMEM, RAFT_IOERR.
 *
 * raft_init() returns RAFT_BUSY if another process has the directory open, RAFT_NOTFOUND if twinlog_raft_create() did
 * not make it, or its files are lost, RAFT_BADID if it is another server's or cluster's, RAFT_CORRUPT if entries, term
 * or snapshot are damaged, do not fit together, or are older than what was acknowledged, RAFT_INVALID if the
 * directory holds the files of raft_uv. raft_bootstrap() returns RAFT_CANTBOOTSTRAP at every server that was not made
 * for it. */
int twinlog_raft_open(struct uv_loop_s *loop, const char *dir, struct raft_uv_transport *transport,
                      const struct twinlog_raft_options *options, struct raft_io **ret_io);

/* What the storage has done since twinlog_raft_open(), and what waits: on the thread of the loop. RAFT_INVALID: a size
 * that was not set, or NULL. */
struct twinlog_raft_stat {
    uint32_t size; /* set by TWINLOG_RAFT_STAT_INIT */
    uint32_t reserved;
    struct twinlog_histogram append_ns;    /* from call to callback, of appends that are durable */
    uint64_t queued_entries, queued_bytes; /* their callback has not come */
    uint64_t snapshots, snapshot_bytes;    /* stored, and the size of the newest one */
    uint64_t installs;                     /* snapshots that a leader has sent */
};
#define TWINLOG_RAFT_STAT_INIT twinlog_initial(twinlog_raft_stat)
int twinlog_raft_stat(struct raft_io *io, struct twinlog_raft_stat *ret_stat);

/* Frees it: after the callback of raft_close(), or where raft_init() was not called or has failed. NULL is allowed. */
void twinlog_raft_free(struct raft_io *io);

#ifdef __cplusplus
}
#endif

#endif
