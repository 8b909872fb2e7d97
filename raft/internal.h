/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of twinlog-raft share. All of it belongs to the thread of the loop, except what struct put and struct
 * get of snapshot.c hand to a thread of libuv and back.
 */
#ifndef TWINLOG_RAFT_INTERNAL_H
#define TWINLOG_RAFT_INTERNAL_H

#include <raft/uv.h>
#include <stdbool.h>
#include <twinlog.h>

#include "twinlog_raft.h"

/* libraft: 0.22 (cowsql/raft) has its version in the header, 0.15 (canonical/raft) has none. From 0.22 on no call that
 * changes the log may refuse, and no callback may fail before raft is closed: by then raft has the entries in its own
 * log, and frees them a second time. So what cannot be stored now waits, see append.c. */
#ifdef RAFT_VERSION_NUMBER
#define MAY_REFUSE 0
#define RAFT_IO_APPEND_ENTRIES RAFT_APPEND_ENTRIES
#define RAFT_IO_INSTALL_SNAPSHOT RAFT_INSTALL_SNAPSHOT
#define CANCELED RAFT_CANCELED /* to what is not stored when raft is closed */
#else
#define MAY_REFUSE 1
#define CANCELED 0 /* it would truncate beyond the end of its log; a closing raft tells nobody */
#endif
#define RETRY_MS 1000u /* as raft_uv */

/* The newest snapshot, as the last record of its pieces describes it. */
struct snapshot_head {
    uint64_t index; /* 0 = there is no snapshot */
    uint64_t term;
    uint64_t configuration_index;
    uint64_t bytes;
    uint64_t first_lsn; /* of its pieces; that of the head itself if there are none */
    uint64_t lsn;       /* of the head */
};

struct append;
struct put;
struct get;
struct unsent;
struct change;

/* Appends in the order of their calls. */
struct append_list {
    struct append *first, **end;
};

/* To another server; see transport.c. */
struct connection {
    struct raft_uv_connect request; /* first */
    struct storage *s;
    struct raft_uv_connect *of_raft_uv;
    raft_uv_connect_cb cb;
    uv_tcp_t *tcp; /* raft_uv closes and frees it */
    struct connection *next;
};

struct storage {
    struct raft_io
        io; /* first: raft and raft_uv know no other address. io.data is raft's, io.impl raft_uv's */
    struct raft_io base; /* [const] the table of raft_uv */
    struct uv_loop_s *loop;
    struct raft_uv_transport transport; /* what raft_uv has */
    struct raft_uv_transport *user_transport;
    raft_uv_accept_cb accept_cb;
    raft_uv_transport_close_cb transport_close_cb;
    struct connection *connections; /* to other servers */
    bool may_have_gathered;         /* TCP may hold back messages that were sent since send_gathered() */
    struct twinlog_raft_options options;
    char *dir, *log_dir, *snapshot_dir;

    struct twinlog *log;
    struct twinlog *snapshots; /* a put has it while is_putting */
    struct twinlog_queue *queue;
    struct twinlog_committer *committer; /* of `log`; it has no thread: the loop does its work */
    uv_poll_t poll;                      /* on the queue: ends a wait of the loop */
    uv_prepare_t prepare;                /* before the loop waits */
    uv_check_t check;                    /* after it has waited */
    uv_idle_t idle;                      /* keeps it from waiting, while it runs */
    uv_timer_t timer;                    /* for what waits, and the capacity; where nothing may be refused */
    unsigned handles;                    /* of these five, in the loop */
    unsigned retry_ms;

    int server_fd; /* of DIR/server; -1 = not open. The fields up to `promised_term` are what it says */
    uint64_t cluster, id;
    bool may_bootstrap;
    uint64_t term, vote;
    uint64_t promised_index,
        promised_term;            /* of the newest acknowledged entry; the term is that of the start */
    uint64_t next_index;          /* of the entry that is appended next; raft passes none */
    uint64_t cut_index;           /* from here on the log has still to be truncated; 0 = nothing has */
    struct append_list submitted; /* in flight */
    struct append_list waiting;   /* not in the log yet */
    uint64_t waiting_next;        /* the index behind them, if there are any */
    struct append_list cut;       /* have waited, and nothing is kept of them: called back in the next turn */
    struct append *truncated;     /* those of any list that have lost entries, by next_truncated */
    struct append **truncated_end;
    unsigned short capacity; /* KiB that can be stored, as raft is told */
    struct snapshot_head head;
    uint64_t
        old_bytes; /* of snapshots before it, and of refused ones, not trimmed yet; of the thread that puts one */

    unsigned appends;   /* so many are in flight */
    unsigned works;     /* handed to a thread of libuv */
    bool is_putting;    /* a snapshot is being written */
    bool is_installing; /* and replaces the log */
    bool is_failed;     /* a write or sync has failed: nothing is stored any more */
    struct twinlog_raft_stat stat;
    struct append_list held;      /* appends that have completed since, until raft is closed */
    struct append_list replaced;  /* that waited when an installation began, until it ends */
    struct put *put;              /* the snapshot that is being written, or waits */
    struct get *gets;             /* those that wait */
    uint64_t got_index, got_term; /* of the snapshot that was read last for another server */
    struct unsent *unsent;
    struct change *changes; /* of the members, the newest first; those that the next snapshot may need */
    raft_io_recv_cb recv_cb;

    raft_io_close_cb close_cb;
    bool is_closing, is_base_closed;
};

static inline struct storage *storage_of(struct raft_io *io)
{
    return (struct storage *)io;
}

/* The code of raft for an error of twinlog; puts `what` and the error's phrase into io->errmsg. */
int report(struct storage *s, const char *what, int error);
int report_text(struct storage *s, int code, const char *text);
int code_of(int error);
int out_of_memory(struct storage *s);
int make_directory(const char *dir); /* durably */
/* As open(), close-on-exec. */
int open_above_standard(const char *path, int flags, mode_t mode);
int sync_directory(const char *dir);

/* A change of the files failed and raft cannot be told: see the header. The second one: io->errmsg says why. */
void stop_storing(struct storage *s, const char *what, int error);
void stop_server(struct storage *s, int error);

/* append.c */
int append_entries(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[],
                   unsigned n, raft_io_append_cb cb);
int truncate_entries(struct raft_io *io, raft_index index);
int append_at_once(struct storage *s, const struct raft_entry *entry);
int complete_appends(struct storage *s, int timeout_ms); /* returns how many */
void store_waiting(struct storage *s);
void stop_if_lasting(struct storage *s, const char *what, int rc);
uint64_t oldest_append(
    const struct storage *s); /* the index of its first entry; UINT64_MAX = there is none */
void cut_submitted(struct storage *s, uint64_t index); /* from this index on */
void call_back_cut(struct storage *s);
unsigned count_before_truncated(const struct storage *s, const struct raft_entry *entries, unsigned n,
                                uint64_t first_index);
void begin_list(struct append_list *list);
void move_list(struct append_list *to, struct append_list *from); /* to its end */
void release(struct append_list *list, int status);               /* calls back, in their order */
int find_term(struct storage *s, uint64_t index, uint64_t *ret_term);
uint32_t largest_entry(const struct storage *s);

/* server_file.c */
int open_server_file(struct storage *s, uint64_t id);
int write_state(struct storage *s, uint64_t term, uint64_t vote); /* durable on return, as the next two */
int set_term(struct raft_io *io, raft_term term);
int set_vote(struct raft_io *io, raft_id server_id);
void promise(struct storage *s, uint64_t index, uint64_t term); /* before an entry is acknowledged */
int lower_promise(struct storage *s, uint64_t index);           /* durable on return */

/* load.c */
int find_entry(struct storage *s, uint64_t index,
               uint64_t *ret_term); /* on the disk. 1 = it is there, 0 = it is not */
int open_files(struct storage *s, uint64_t id);
void close_files(struct storage *s);
int load_entries(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                 raft_index *start_index, struct raft_entry *entries[], size_t *n_entries);
int bootstrap(struct raft_io *io, const struct raft_configuration *conf);
int recover(struct raft_io *io, const struct raft_configuration *conf);

/* configuration.c */
void note_changes(struct storage *s, const struct raft_entry *entries, size_t n, uint64_t first_index);
void forget_changes(struct storage *s, uint64_t from_index);
/* *ret_index is that of the configuration which an own snapshot lacks; 0 = none, and *ret is not set. */
int take_configuration(struct storage *s, const struct raft_snapshot *snapshot,
                       struct raft_configuration *ret, uint64_t *ret_index);

/* snapshot.c */
int find_snapshot(struct storage *s); /* changes nothing; as the next, 0 or an error of twinlog */
int open_snapshots(struct storage *s);
int put_snapshot(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                 const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb);
int get_snapshot(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb);
void call_back_stored(struct storage *s); /* a snapshot, in each turn of the loop */
void retry_snapshots(struct storage *s);
void cancel_snapshots(struct storage *s); /* those that wait */
int read_snapshot(const char *dir, struct raft_snapshot **ret_snapshot);
void free_snapshot(struct raft_snapshot *snapshot);

/* transport.c */
void wrap_transport(struct storage *s, struct raft_uv_transport *user_transport);
int send_message(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message,
                 raft_io_send_cb cb);
void send_gathered(struct storage *s);
struct raft_message with_term(const struct storage *s, const struct raft_message *message);
void call_back_unsent(struct storage *s);
int start_io(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick_cb, raft_io_recv_cb recv_cb);
void receive_message(struct raft_io *io, struct raft_message *message);
void forget_connections(struct storage *s, bool is_all); /* false: those that are being closed */

/* io.c */
void finish_close(struct storage *s);
raft_time time_of(struct raft_io *io);
void measure_capacity(struct storage *s);
/* Of its file system. `with_reserve`: also what only some users may take, and this may be one of them. */
uint64_t free_bytes(const char *dir, bool with_reserve);

static inline void put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static inline uint64_t get_u64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

#endif
