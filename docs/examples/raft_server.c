/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replicated list of lines: one server of a raft cluster, with its log on libtwinlog-raft. Clients send lines by TCP.
 * docs/raft.md explains it.
 *
 *     cc raft_server.c $(pkg-config --cflags --libs twinlog-raft) -o raft_server
 *     ./raft_server create DIR ID                  once for each server, by the operator
 *     ./raft_server run DIR ID CLIENTS ADDRESS...  each time. CLIENTS is where clients connect, ADDRESS the raft
 *                                                  address of server 1, of server 2, and so on: the same on each one
 *
 * A client sends one request a line, and reads the answer before it sends the next one:
 *
 *     add TEXT   "ok N": it is line N, and stays, whichever server dies
 *     list       all lines in their order, each behind "+ ", and "ok N"
 *
 * Any other answer begins with "no", and nothing has happened, or with "unknown": the line may be added later. A client
 * that sends it again then may add it twice; one that must not needs numbers, as docs/raft.md says.
 */
#include <raft.h>
#include <raft/uv.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_raft.h>
#include <uv.h>

#define CLUSTER 7001u /* another cluster has another number */
#define MOST_SERVERS 9
#define LINE_BYTES 1024u

struct server {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_timer_t timer;
    uv_signal_t terminated;
    struct raft_uv_transport transport;
    struct raft_io *io;
    struct raft_fsm fsm;
    struct raft raft;

    /* The state machine: lines, each with its newline. */
    char *lines;
    size_t bytes;
    size_t count;
};

/* While a request is answered, nothing more is read from its client. So each connection has one request, in itself, and
 * it lives until that is answered. */
struct connection {
    uv_tcp_t tcp; /* first */
    struct server *server;
    struct raft_apply apply;
    struct raft_barrier barrier;
    uv_write_t write;
    char *answer;
    size_t received;
    char input[LINE_BYTES];
};

/* ---- the state machine ----------------------------------------------------------------------------- */

/* Every server calls this with the same commands in the same order, and has to make the same state of them. */
static int apply(struct raft_fsm *fsm, const struct raft_buffer *command, void **result)
{
    struct server *server = fsm->data;
    size_t size = strnlen(command->base, command->len);

    char *lines = realloc(server->lines, server->bytes + size + 1);
    if (lines == NULL)
        return RAFT_NOMEM;

    memcpy(lines + server->bytes, command->base, size);
    lines[server->bytes + size] = '\n';
    server->lines = lines;
    server->bytes += size + 1;
    server->count++;
    *result =
        (void *)(uintptr_t)server->count; /* what added() is given on the server that has sent the command */
    return 0;
}

/* The state as it is now; raft frees the copy. */
static int snapshot(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *count)
{
    struct server *server = fsm->data;
    struct raft_buffer *buffer = raft_malloc(sizeof(*buffer));
    char *copy = raft_malloc(server->bytes + 1);

    if (buffer == NULL || copy == NULL) {
        raft_free(buffer);
        raft_free(copy);
        return RAFT_NOMEM;
    }

    if (server->bytes > 0)
        memcpy(copy, server->lines, server->bytes);
    copy[server->bytes] = '\0'; /* a state without a line has a byte, too */
    *buffer = (struct raft_buffer){ .base = copy, .len = server->bytes + 1 };
    *buffers = buffer;
    *count = 1;
    return 0;
}

/* Takes the place of the state that is here. The buffer is ours if this succeeds. */
static int restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
    struct server *server = fsm->data;
    size_t bytes = buffer->len - 1, count = 0;

    char *lines = malloc(buffer->len);
    if (lines == NULL)
        return RAFT_NOMEM;

    memcpy(lines, buffer->base, buffer->len);
    for (size_t i = 0; i < bytes; i++)
        count += lines[i] == '\n';
    free(server->lines);
    server->lines = lines;
    server->bytes = bytes;
    server->count = count;
    raft_free(buffer->base);
    return 0;
}

/* ---- answers --------------------------------------------------------------------------------------- */

static void forget(uv_handle_t *tcp)
{
    struct connection *connection = (struct connection *)tcp;
    free(connection->answer);
    free(connection);
}

static void leave(struct connection *connection)
{
    if (!uv_is_closing((uv_handle_t *)&connection->tcp))
        uv_close((uv_handle_t *)&connection->tcp, forget);
}

static void go_on(struct connection *connection);

/* A callback of raft that reports an error must not call raft again. The next request is looked at here, in a later
 * turn of the loop. */
static void written(uv_write_t *write, int status)
{
    struct connection *connection = write->data;

    free(connection->answer);
    connection->answer = NULL;
    if (status == 0)
        go_on(connection);
    else
        leave(connection);
}

/* The text is freed when it is sent. */
static void send_answer(struct connection *connection, char *text)
{
    if (text == NULL || uv_is_closing((uv_handle_t *)&connection->tcp)) {
        free(text);
        leave(connection);
        return;
    }

    uv_buf_t buffer = uv_buf_init(text, (unsigned)strlen(text));
    connection->answer = text;
    connection->write.data = connection;
    if (uv_write(&connection->write, (uv_stream_t *)&connection->tcp, &buffer, 1, written) != 0)
        leave(connection);
}

/* `outcome` is "no" where raft has not taken the request, "unknown" where it has. */
static void send_refusal(struct connection *connection, const char *outcome, int status)
{
    raft_id id = 0;
    const char *address = NULL;
    char text[256];

    raft_leader(&connection->server->raft, &id, &address);
    if (status == RAFT_NOTLEADER && id != 0)
        snprintf(text, sizeof(text), "%s: server %llu is the leader\n", outcome, (unsigned long long)id);
    else
        snprintf(text, sizeof(text), "%s: %s\n", outcome, raft_strerror(status));
    send_answer(connection, strdup(text));
}

/* ---- requests -------------------------------------------------------------------------------------- */

/* The entry is durable on most servers, and was applied here. */
static void added(struct raft_apply *request, int status, void *result)
{
    struct connection *connection = request->data;
    char text[32];

    if (status != 0) {
        send_refusal(connection, "unknown", status);
        return;
    }

    snprintf(text, sizeof(text), "ok %zu\n", (size_t)(uintptr_t)result);
    send_answer(connection, strdup(text));
}

/* The length of each command is a multiple of 8: libraft sends them without padding and receives them with it. */
static void add(struct connection *connection, const char *text)
{
    size_t size = (strlen(text) + 8) / 8 * 8;
    struct raft_buffer command = { .base = raft_calloc(1, size), .len = size };

    if (command.base == NULL) {
        send_refusal(connection, "no", RAFT_NOMEM);
        return;
    }

    memcpy(command.base, text, strlen(text));
    connection->apply.data = connection;
    int rv = raft_apply(&connection->server->raft, &connection->apply, &command, 1, added);
    if (rv == 0)
        return; /* raft has the command's memory, and frees it */

    raft_free(command.base);
    send_refusal(connection, "no", rv);
}

static void listed(struct raft_barrier *request, int status)
{
    struct connection *connection = request->data;
    struct server *server = connection->server;
    char *text, *to;

    if (status != 0) {
        send_refusal(connection, "no", status);
        return;
    }

    text = malloc(server->bytes + 2 * server->count + 32);
    to = text;
    for (const char *line = server->lines; text != NULL && line < server->lines + server->bytes;) {
        size_t size = (size_t)(strchr(line, '\n') + 1 - line);
        memcpy(to, "+ ", 2);
        memcpy(to + 2, line, size);
        to += size + 2;
        line += size;
    }
    if (text != NULL)
        snprintf(to, 32, "ok %zu\n", server->count);
    send_answer(connection, text);
}

/* A read that sees all that was acknowledged before it: this server may have been replaced as the leader without
 * knowing, and the barrier is applied only if it was not. */
static void list(struct connection *connection)
{
    connection->barrier.data = connection;
    int rv = raft_barrier(&connection->server->raft, &connection->barrier, listed);
    if (rv != 0)
        send_refusal(connection, "no", rv);
}

static void answer_request(struct connection *connection, const char *line)
{
    if (strncmp(line, "add ", 4) == 0)
        add(connection, line + 4);
    else if (strcmp(line, "list") == 0)
        list(connection);
    else
        send_answer(connection, strdup("no: say \"add TEXT\" or \"list\"\n"));
}

/* ---- connections ----------------------------------------------------------------------------------- */

static void give_room(uv_handle_t *tcp, size_t size, uv_buf_t *buffer)
{
    struct connection *connection = (struct connection *)tcp;
    (void)size;
    *buffer =
        uv_buf_init(connection->input + connection->received, LINE_BYTES - (unsigned)connection->received);
}

static void receive(uv_stream_t *tcp, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *connection = (struct connection *)tcp;

    (void)buffer;
    if (size < 0) {
        leave(connection);
        return;
    }

    connection->received += (size_t)size;
    uv_read_stop(tcp);
    go_on(connection);
}

/* Answers the next request, or reads until there is one. */
static void go_on(struct connection *connection)
{
    char line[LINE_BYTES];

    char *end = memchr(connection->input, '\n', connection->received);
    if (end == NULL) {
        if (connection->received == LINE_BYTES ||
            uv_read_start((uv_stream_t *)&connection->tcp, give_room, receive) != 0)
            leave(connection);
        return;
    }

    size_t size = (size_t)(end - connection->input);
    memcpy(line, connection->input, size);
    line[size] = '\0';
    connection->received -= size + 1;
    memmove(connection->input, end + 1, connection->received);
    answer_request(connection, line);
}

static void meet(uv_stream_t *listener, int status)
{
    struct server *server = listener->data;
    struct connection *connection;

    if (status < 0 || (connection = calloc(1, sizeof(*connection))) == NULL)
        return;

    connection->server = server;
    uv_tcp_init(&server->loop, &connection->tcp);
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) == 0)
        go_on(connection);
    else
        leave(connection);
}

static int listen_for_clients(struct server *server, const char *address)
{
    struct sockaddr_in where;
    char host[64];
    int port;

    uv_tcp_init(&server->loop, &server->listener);
    server->listener.data = server;
    if (sscanf(address, "%63[^:]:%d", host, &port) != 2 || uv_ip4_addr(host, port, &where) != 0 ||
        uv_tcp_bind(&server->listener, (const struct sockaddr *)&where, 0) != 0)
        return -1;
    return uv_listen((uv_stream_t *)&server->listener, 128, meet);
}

/* ---- the end --------------------------------------------------------------------------------------- */

static void close_handle(uv_handle_t *handle, void *context)
{
    struct server *server = context;

    if (uv_is_closing(handle))
        return;
    bool is_ours = handle == (uv_handle_t *)&server->listener || handle == (uv_handle_t *)&server->timer ||
                   handle == (uv_handle_t *)&server->terminated;
    uv_close(handle, is_ours ? NULL : forget);
}

/* All requests were called back; what is left in the loop is this program's. */
static void closed(struct raft *raft)
{
    struct server *server = raft->data;
    uv_walk(&server->loop, close_handle, server);
}

static void terminate(uv_signal_t *handle, int signal_number)
{
    struct server *server = handle->data;

    (void)signal_number;
    uv_signal_stop(handle);
    uv_timer_stop(&server->timer);
    uv_close((uv_handle_t *)&server->listener, NULL);
    raft_close(&server->raft, closed);
}

/* A server that cannot go on says so in its state alone. Started again it takes part again. */
static void look_after_raft(uv_timer_t *timer)
{
    struct server *server = timer->data;

    if (raft_state(&server->raft) == RAFT_UNAVAILABLE) {
        fprintf(stderr, "raft has stopped: %s\n", raft_errmsg(&server->raft));
        exit(1);
    }
}

/* ---- the start ------------------------------------------------------------------------------------- */

/* The members that the cluster begins with. A server that has a configuration keeps it. */
static int bootstrap(struct server *server, char **addresses, int count)
{
    struct raft_configuration configuration;

    raft_configuration_init(&configuration);
    int rv = 0;
    for (int i = 0; rv == 0 && i < count; i++)
        rv = raft_configuration_add(&configuration, (raft_id)i + 1, addresses[i], RAFT_VOTER);
    if (rv == 0)
        rv = raft_bootstrap(&server->raft, &configuration);
    raft_configuration_close(&configuration);
    return rv == RAFT_CANTBOOTSTRAP ? 0 : rv;
}

/* Sets up the raft_io, and raft on it. Files are looked at in raft_init(). */
static int start_raft(struct server *server, const char *dir, raft_id id, char **addresses, int count)
{
    struct twinlog_raft_options options = TWINLOG_RAFT_OPTIONS_INIT;

#ifdef RAFT_VERSION_NUMBER /* libraft 0.22; in 0.15 the structure has no version */
    server->transport.version = 1;
#endif
    options.cluster = CLUSTER;
    int rv = raft_uv_tcp_init(&server->transport, &server->loop);
    if (rv == 0)
        rv = twinlog_raft_open(&server->loop, dir, &server->transport, &options, &server->io);
    if (rv != 0)
        return rv;

    server->fsm = (struct raft_fsm){
        .version = 1, .data = server, .apply = apply, .snapshot = snapshot, .restore = restore
    };
    rv = raft_init(&server->raft, server->io, &server->fsm, id, addresses[id - 1]);
    if (rv != 0)
        return rv;

    server->raft.data = server;
    raft_set_pre_vote(&server->raft, true); /* a server that comes back does not depose the leader */
    rv = bootstrap(server, addresses, count);
    if (rv != 0)
        return rv;
    return raft_start(&server->raft); /* applies the snapshot; entries once the cluster has a leader */
}

static int run(const char *dir, raft_id id, const char *clients, char **addresses, int count)
{
    static struct server server; /* zero */

    signal(SIGPIPE, SIG_IGN); /* or the end of another server or of a client ends this one */
    uv_loop_init(&server.loop);
    int rv = start_raft(&server, dir, id, addresses, count);
    if (rv != 0) {
        fprintf(stderr, "%s: %s: %s\n", dir, raft_strerror(rv), server.io == NULL ? "" : server.io->errmsg);
        return 1;
    }
    if (listen_for_clients(&server, clients) != 0) {
        fprintf(stderr, "%s: no such address, or another program has it\n", clients);
        return 1;
    }

    uv_timer_init(&server.loop, &server.timer);
    server.timer.data = &server;
    uv_timer_start(&server.timer, look_after_raft, 1000, 1000);
    uv_signal_init(&server.loop, &server.terminated);
    server.terminated.data = &server;
    uv_signal_start(&server.terminated, terminate, SIGTERM);
    uv_run(&server.loop, UV_RUN_DEFAULT);

    twinlog_raft_free(server.io);
    raft_uv_tcp_close(&server.transport);
    free(server.lines);
    return uv_loop_close(&server.loop) != 0;
}

int main(int argc, char **argv)
{
    raft_id id = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

    if (argc == 4 && strcmp(argv[1], "create") == 0 && id > 0) {
        int rv = twinlog_raft_create(argv[2], CLUSTER, id, true);
        if (rv != 0)
            fprintf(stderr, "%s: %s\n", argv[2], raft_strerror(rv));
        return rv != 0;
    }

    int count = argc - 5;
    if (count >= 1 && count <= MOST_SERVERS && strcmp(argv[1], "run") == 0 && id >= 1 && id <= (raft_id)count)
        return run(argv[2], id, argv[4], argv + 5, count);

    fprintf(stderr, "usage: raft_server create DIR ID | run DIR ID CLIENTS ADDRESS...\n");
    return 2;
}
