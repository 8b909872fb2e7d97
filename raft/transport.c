/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes to other servers and comes from them: the program's transport, and the messages of raft.
 *
 * Connections. Messages that TCP holds back are sent before the loop waits. raft_uv writes each message by itself, and
 * TCP gathers small ones into a packet while an earlier packet is not confirmed (Nagle's algorithm). A server reads
 * from one connection and answers on another one, so a confirmation has no data to go with, and the receiver may delay
 * it by 40 ms. All that was gathered waits for it, and so do the commands in flight. Without Nagle's algorithm each
 * message would be a packet, and busy servers would do less. So it stays on, and is turned off for a moment before the
 * loop waits: that sends what was gathered (tcp(7)).
 *
 * The storage hands raft_uv a transport of its own, which passes everything on, and notes the connections that are
 * made. raft_uv closes and frees them. It does that in callbacks of writes, timers and handles that were closed, and
 * when raft is closed; libuv frees no memory before the end of the turn. So a look in each turn, between the waiting
 * and its end, finds all that go.
 *
 * Messages. All of them pass through send_message() and receive_message(), which keep libraft from what it would do
 * wrong with some of them:
 *
 *   sent      after a failed write or sync of this server       is not sent: it could promise what is not on the disk
 *   sent      without an address (libraft 0.15)                 is not sent
 *   sent      a snapshot newer than the one asked for (0.22)    gets the term of the index that it has
 *   received  entries that this server still truncates          ends in front of them
 *   received  a snapshot, while an own one is written (0.22)    is dropped; the leader sends it again
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "internal.h"

static struct storage *storage_around(struct raft_uv_transport *transport)
{
    return (struct storage *)((char *)transport - offsetof(struct storage, transport));
}

/* ---- connections --------------------------------------------------------------------------------- */

/* TCP that gathers; a transport may be something else, or may have turned that off. */
static bool gathers(const struct uv_stream_s *stream)
{
    int fd, is_off = 0;
    socklen_t size = sizeof(is_off);

    if (stream->type != UV_TCP || uv_fileno((const uv_handle_t *)stream, &fd) != 0)
        return false;
    if (getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &is_off, &size) != 0)
        return false;
    return !is_off;
}

static void connected(struct raft_uv_connect *request, struct uv_stream_s *stream, int status)
{
    struct connection *connection = (struct connection *)request;
    struct storage *s = connection->s;
    struct raft_uv_connect *of_raft_uv = connection->of_raft_uv;
    raft_uv_connect_cb cb = connection->cb;

    if (status == 0 && !s->is_closing && gathers(stream)) {
        connection->tcp = (uv_tcp_t *)stream;
        connection->next = s->connections;
        s->connections = connection;
        s->may_have_gathered = true; /* the callback sends the messages that waited for the connection */
    } else {
        free(connection);
    }
    cb(of_raft_uv, stream, status);
}

static int connect_to(struct raft_uv_transport *transport, struct raft_uv_connect *request, raft_id id,
                      const char *address, raft_uv_connect_cb cb)
{
    struct storage *s = storage_around(transport);

    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL)
        return RAFT_NOMEM;

    connection->s = s;
    connection->of_raft_uv = request;
    connection->cb = cb;
    int rv = s->user_transport->connect(s->user_transport, &connection->request, id, address, connected);
    if (rv != 0)
        free(connection);
    return rv;
}

void forget_connections(struct storage *s, bool is_all)
{
    struct connection **link = &s->connections;

    while (*link != NULL) {
        struct connection *connection = *link;
        if (is_all || uv_is_closing((uv_handle_t *)connection->tcp)) {
            *link = connection->next;
            free(connection);
        } else {
            link = &connection->next;
        }
    }
}

void send_gathered(struct storage *s)
{
    if (!s->may_have_gathered)
        return;

    s->may_have_gathered = false;
    for (struct connection *connection = s->connections; connection != NULL; connection = connection->next) {
        uv_tcp_nodelay(connection->tcp, 1);
        uv_tcp_nodelay(connection->tcp, 0);
    }
}

/* ---- messages that are sent ------------------------------------------------------------------------ */

/* A message that is not sent, and its callback. */
struct unsent {
    struct raft_io_send *req;
    raft_io_send_cb cb;
    struct unsent *next;
};

/* With libraft 0.15 send() may fail. After an error libraft 0.22 would free entries that the same step has stored:
 * there send() succeeds, and the callback tells the error later. */
static int leave_unsent(struct storage *s, struct raft_io_send *req, raft_io_send_cb cb)
{
    if (MAY_REFUSE)
        return RAFT_NOCONNECTION;

    struct unsent *unsent = malloc(sizeof(*unsent));
    if (unsent == NULL)
        return out_of_memory(s);

    *unsent = (struct unsent){ req, cb, s->unsent };
    s->unsent = unsent;
    return 0;
}

void call_back_unsent(struct storage *s)
{
    struct unsent *unsent = s->unsent, *next;

    s->unsent = NULL;
    for (; unsent != NULL; unsent = next) {
        next = unsent->next;
        unsent->cb(unsent->req, RAFT_NOCONNECTION);
        free(unsent);
    }
}

/* Where the snapshot that was read is newer than the one that libraft 0.22.1 has asked for, the message has the index
 * of the newer one, and the term of the older one. A server that stored that would contradict all others. The copy has
 * the term that belongs to the index; it shares all else with the message, and is for sending at once. */
struct raft_message with_term(const struct storage *s, const struct raft_message *message)
{
    struct raft_message copy = *message;

#ifdef RAFT_VERSION_NUMBER
    if (copy.type == RAFT_INSTALL_SNAPSHOT && copy.install_snapshot.last_index == s->got_index)
        copy.install_snapshot.last_term = s->got_term;
#else
    (void)s;
#endif
    return copy;
}

/* A server that has failed to store something sends nothing more, as it could promise what is not on the disk. */
int send_message(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message,
                 raft_io_send_cb cb)
{
    struct storage *s = storage_of(io);

    if (message->server_address == NULL) /* libraft 0.15 answers a leader that it has forgotten meanwhile */
        return leave_unsent(s, req, cb);
    if (s->is_failed || s->is_closing)
        return leave_unsent(s, req, cb);

    s->may_have_gathered = true;

    const struct raft_message sent = with_term(s, message);
    int rv = s->base.send(io, req, &sent, cb);
    if (rv != 0)
        return leave_unsent(s, req, cb);
    return 0;
}

/* ---- messages that are received -------------------------------------------------------------------- */

/* Frees all entries but the first `kept` ones. */
static void drop_entries(struct raft_append_entries *message, unsigned kept)
{
    const void *batch = NULL; /* several entries may share one, also with those that are kept */
    if (kept > 0)
        batch = message->entries[kept - 1].batch;

    for (unsigned i = kept; i < message->n_entries; i++) {
        if (message->entries[i].batch != batch) {
            batch = message->entries[i].batch;
            raft_free(message->entries[i].batch);
        }
    }

    message->n_entries = kept;
    if (kept == 0) {
        raft_free(message->entries);
        message->entries = NULL;
    }
}

/* Cuts off the first entry that raft may not see yet (the head of append.c says why), and all behind it. What is left
 * is a message that the leader could have sent, at least a heartbeat: so raft knows its leader, and answers. The leader
 * sends the entries again, once in each interval of its heartbeats, since no answer says that they are here.
 *
 * libraft 0.15 confirms entries up to leader_commit, as far as they are stored. Behind the end of the message these may
 * be of a term that was overruled, so leader_commit ends with the message, too. */
static void shorten(const struct storage *s, struct raft_append_entries *message)
{
    const unsigned kept =
        count_before_truncated(s, message->entries, message->n_entries, message->prev_log_index + 1);
    if (kept == message->n_entries)
        return;

    drop_entries(message, kept);
    if (message->leader_commit > message->prev_log_index + kept)
        message->leader_commit = message->prev_log_index + kept;
}

/* libraft 0.22 puts off a snapshot that the leader sends while an own one is written, and its takeSnapshotCb() then
 * uses a pointer that it has just cleared. */
static bool comes_too_early(const struct storage *s, const struct raft_message *message)
{
    return !MAY_REFUSE && message->type == RAFT_IO_INSTALL_SNAPSHOT && s->is_putting && !s->is_installing;
}

void receive_message(struct raft_io *io, struct raft_message *message)
{
    struct storage *s = storage_of(io);

    call_back_cut(s); /* first: entries that were truncated may come again now */
    if (message->type == RAFT_IO_APPEND_ENTRIES)
        shorten(s, &message->append_entries);
    if (comes_too_early(s, message)) { /* it is dropped; the leader sends it again, since it gets no answer */
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
        return;
    }

    s->recv_cb(io, message);
}

int start_io(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick_cb, raft_io_recv_cb recv_cb)
{
    struct storage *s = storage_of(io);
    s->recv_cb = recv_cb;
    return s->base.start(io, msecs, tick_cb, receive_message);
}

/* ---- what is passed on --------------------------------------------------------------------------- */

static int init_transport(struct raft_uv_transport *transport, raft_id id, const char *address)
{
    struct storage *s = storage_around(transport);

    int rv = s->user_transport->init(s->user_transport, id, address);
    if (rv != 0)
        memcpy(transport->errmsg, s->user_transport->errmsg, sizeof(transport->errmsg));
    s->user_transport->data = s; /* raft_uv has its own data there */
    return rv;
}

static void accepted(struct raft_uv_transport *user_transport, raft_id id, const char *address,
                     struct uv_stream_s *stream)
{
    struct storage *s = user_transport->data;
    s->accept_cb(&s->transport, id, address, stream);
}

static int listen_for(struct raft_uv_transport *transport, raft_uv_accept_cb cb)
{
    struct storage *s = storage_around(transport);

    s->accept_cb = cb;
    int rv = s->user_transport->listen(s->user_transport, accepted);
    if (rv != 0)
        memcpy(transport->errmsg, s->user_transport->errmsg, sizeof(transport->errmsg));
    return rv;
}

static void transport_closed(struct raft_uv_transport *user_transport)
{
    struct storage *s = user_transport->data;
    s->transport_close_cb(&s->transport);
}

static void close_transport(struct raft_uv_transport *transport, raft_uv_transport_close_cb cb)
{
    struct storage *s = storage_around(transport);
    s->transport_close_cb = cb;
    s->user_transport->close(s->user_transport, transport_closed);
}

void wrap_transport(struct storage *s, struct raft_uv_transport *user_transport)
{
    s->user_transport = user_transport;
    s->transport = (struct raft_uv_transport){
#ifdef RAFT_VERSION_NUMBER
        .version = 1,
#endif
        .init = init_transport,
        .listen = listen_for,
        .connect = connect_to,
        .close = close_transport
    };
}
