/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server with one event loop and no threads of its own: strings in memory, every change a record of a log, snapshots
 * by a forked child. It speaks enough of the protocol RESP for redis-cli and redis-benchmark.
 *
 *     cc server.c $(pkg-config --cflags --libs twinlog) -pthread -o server
 *     ./server DIR --port N [--written | --plain]
 *
 * It is not Redis: it has no types but strings, no expiry, no users, no replicas, no WATCH, and no commands but those
 * of the table below. docs/planning.md explains what is done here, and why.
 *
 * The loop does not wait for the disk. A reply is held until the newest change that it shows is safe, also the reply
 * to a read. The setting appendfsync says what safe is: `always` is durable. With `everysec` and `no` it is accepted by
 * the log, which syncs once a second; with --written it is in the kernel, so that the end of the process loses nothing.
 *
 * With --plain there is no log: a file gets write() and fdatasync(), and the loop waits for them. With a directory
 * alone the program runs a short check of itself.
 */
#define _GNU_SOURCE /* accept4(), pipe2() */
#include "server_log.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define WAITING_MOST ((size_t)64 << 20) /* bytes that wait for room in the log: then changes are refused */
#define UNSENT_MOST ((size_t)1 << 20)   /* bytes for a client: then its requests wait */
#define READ_BYTES ((size_t)64 << 10)
#define EVENTS 512
#define FEW_CLIENTS 4u
#define MOST_ALONE_MS 1 /* that the loop waits for the log alone */

/* A reply is the next `size` bytes of the client's output. */
struct reply {
    uint64_t change; /* the newest that it shows */
    size_t size;
};

struct client {
    struct client *next;
    int fd;
    uint32_t events; /* that epoll waits for */
    bool is_closed;
    bool is_queueing, is_spoiled; /* between MULTI and EXEC; one of the commands is not known */
    struct bytes in, queued, out; /* `queued`: whole requests */
    size_t ready;                 /* bytes of `out` that may be sent */
    struct bytes replies;         /* struct reply: those that are held */
};

static struct {
    int loop, listener;
    bool is_ending, wants_save;
    struct word words[WORDS]; /* of the request that is being answered */
    uint32_t count;
    uint64_t shown; /* the newest change in its reply */
    struct client *clients;
    uint32_t client_count;
    uint64_t longest_turn_ns;
} server = { .listener = -1 };

/* ---- replies that are held -------------------------------------------------------------------------- */

static void release_replies(struct client *client)
{
    while (left(&client->replies) > 0) {
        const struct reply *reply = front(&client->replies);
        if (reply->change > store.safe)
            return;
        client->ready += reply->size;
        drop(&client->replies, sizeof(*reply));
    }
}

static void replace_replies(struct client *client, uint64_t change, const char *error)
{
    struct bytes out = { 0 };
    const char *at = front(&client->out);
    add(&out, at, client->ready);
    at += client->ready;

    for (size_t i = 0; i < left(&client->replies) / sizeof(struct reply); i++) {
        struct reply *reply = (struct reply *)front(&client->replies) + i;
        const size_t before = left(&out), size = reply->size;
        if (reply->change > change) {
            add_text(&out, "-ERR %s\r\n", error);
            reply->change = 0;
        } else {
            add(&out, at, size);
        }
        reply->size = left(&out) - before;
        at += size;
    }
    free(client->out.data);
    client->out = out;
}

static void give_up_replies(uint64_t change, const char *error)
{
    for (struct client *client = server.clients; client; client = client->next)
        if (left(&client->replies) > 0)
            replace_replies(client, change, error);
}

static void show(uint64_t change)
{
    server.shown = change > server.shown ? change : server.shown;
}

static void reply_text(struct client *client, const char *text, size_t size)
{
    add_text(&client->out, "$%zu\r\n", size);
    add(&client->out, text, size);
    add(&client->out, "\r\n", 2);
}

/* ---- commands --------------------------------------------------------------------------------------- */

static bool is_word(struct word word, const char *text)
{
    return word.size == strlen(text) && strncasecmp(word.data, text, word.size) == 0;
}

static void run_ping(struct client *client)
{
    if (server.count == 2)
        reply_text(client, server.words[1].data, server.words[1].size);
    else
        add_text(&client->out, "+PONG\r\n");
}

static void run_get(struct client *client)
{
    const struct pair *pair = *find(server.words[1]);
    show(pair ? pair->change : store.last_removal);
    if (pair)
        reply_text(client, pair->value.data, pair->value.size);
    else
        add_text(&client->out, "$-1\r\n");
}

static void run_set(struct client *client)
{
    change_pair(server.words[1], &server.words[2]);
    add_text(&client->out, "+OK\r\n");
}

static void run_del(struct client *client)
{
    int removed = 0;
    for (uint32_t i = 1; i < server.count; i++)
        if (*find(server.words[i])) {
            change_pair(server.words[i], NULL);
            removed++;
        }
    show(store.last_removal);
    add_text(&client->out, ":%d\r\n", removed);
}

static void run_incr(struct client *client)
{
    const struct pair *pair = *find(server.words[1]);
    char text[32] = "0", *end;
    show(pair ? pair->change : store.last_removal);
    if (pair && pair->value.size < sizeof(text))
        snprintf(text, sizeof(text), "%.*s", (int)pair->value.size, pair->value.data);

    errno = 0;
    long long number = strtoll(text, &end, 10);
    const bool is_number =
        *end == '\0' && end > text && errno == 0 && (!pair || strlen(text) == pair->value.size);
    if (!is_number || __builtin_add_overflow(number, 1, &number)) {
        add_text(&client->out, "-ERR this value is no number that can be increased\r\n");
        return;
    }
    const struct word value = { text, (size_t)snprintf(text, sizeof(text), "%lld", number) };
    change_pair(server.words[1], &value);
    add_text(&client->out, ":%lld\r\n", number);
}

static void run_dbsize(struct client *client)
{
    show(store.change - 1);
    add_text(&client->out, ":%" PRIu64 "\r\n", pairs.count);
}

static void run_bgsave(struct client *client)
{
    if (store.is_plain) {
        add_text(&client->out, "-ERR there are no snapshots with --plain\r\n");
    } else if (store.is_saving || server.wants_save) {
        add_text(&client->out, "-ERR a snapshot is being written\r\n");
    } else {
        server.wants_save = true;
        add_text(&client->out, "+Background saving started\r\n");
    }
}

static void run_config(struct client *client)
{
    const bool is_known = is_word(server.words[2], "appendfsync");
    if (is_word(server.words[1], "get") &&
        server.count == 3) { /* redis-benchmark asks for more, and wants an answer */
        const char *value = is_known ? setting_names[store.setting] : "";
        add_text(&client->out, "*2\r\n");
        reply_text(client, server.words[2].data, server.words[2].size);
        reply_text(client, value, strlen(value));
        return;
    }
    for (int i = ALWAYS; i <= NO; i++)
        if (is_word(server.words[1], "set") && is_known && server.count == 4 &&
            is_word(server.words[3], setting_names[i])) {
            store.setting = (enum setting)i;
            add_text(&client->out, "+OK\r\n");
            return;
        }
    add_text(&client->out, "-ERR CONFIG knows: GET NAME, and SET appendfsync always, everysec or no\r\n");
}

static void run_command(struct client *client)
{
    add_text(&client->out, "*0\r\n"); /* redis-cli then has no hints to show */
}

static void run_info(struct client *client)
{
    struct bytes text = { 0 };
    add_text(&text,
             "# twinlog's example of a server\r\nkeys:%" PRIu64 "\r\nchanges:%" PRIu64
             "\r\nsafe_changes:%" PRIu64 "\r\n",
             pairs.count, store.change - 1, store.safe);
    add_text(&text, "saving:%d\r\nlast_save:%s\r\nlog:%s\r\nlongest_turn_us:%" PRIu64 "\r\n",
             store.is_saving || server.wants_save, store.last_save, store.error[0] ? store.error : "ok",
             server.longest_turn_ns / 1000);
    server.longest_turn_ns = 0; /* since the last INFO */
    reply_text(client, front(&text), left(&text));
    free(text.data);
}

static void run_shutdown(struct client *client)
{
    (void)client;
    server.is_ending = true;
}

static void run_multi(struct client *client)
{
    if (client->is_queueing) {
        add_text(&client->out, "-ERR MULTI inside MULTI\r\n");
        return;
    }
    client->is_queueing = true;
    client->is_spoiled = false;
    add_text(&client->out, "+OK\r\n");
}

static void end_transaction(struct client *client)
{
    client->is_queueing = false;
    drop(&client->queued, left(&client->queued));
}

static void run_discard(struct client *client)
{
    add_text(&client->out, client->is_queueing ? "+OK\r\n" : "-ERR DISCARD without MULTI\r\n");
    end_transaction(client);
}

static void run_exec(struct client *client);

enum command_kind {
    ANY,
    DATA,
    CHANGE,
    TRANSACTION
};
static const struct command {
    const char *name;
    uint32_t least, most; /* words */
    enum command_kind kind;
    void (*run)(struct client *client);
} commands[] = {
    { "SET", 3, 3, CHANGE, run_set },        { "GET", 2, 2, DATA, run_get },
    { "INCR", 2, 2, CHANGE, run_incr },      { "DEL", 2, WORDS, CHANGE, run_del },
    { "DBSIZE", 1, 1, DATA, run_dbsize },    { "MULTI", 1, 1, TRANSACTION, run_multi },
    { "EXEC", 1, 1, TRANSACTION, run_exec }, { "DISCARD", 1, 1, TRANSACTION, run_discard },
    { "PING", 1, 2, ANY, run_ping },         { "BGSAVE", 1, 1, DATA, run_bgsave },
    { "CONFIG", 3, 4, ANY, run_config },     { "COMMAND", 1, WORDS, ANY, run_command },
    { "INFO", 1, 2, ANY, run_info },         { "SHUTDOWN", 1, 2, ANY, run_shutdown },
};

/* NULL, and a reply that says why, if there is no such command. */
static const struct command *find_command(struct client *client)
{
    for (size_t i = 0; server.count > 0 && i < sizeof(commands) / sizeof(commands[0]); i++)
        if (is_word(server.words[0], commands[i].name) && server.count >= commands[i].least &&
            server.count <= commands[i].most)
            return &commands[i];
    add_text(&client->out, "-ERR no command of this name has so many words\r\n");
    return NULL;
}

static const char too_much[] = "-ERR nothing was changed: too much waits for the log\r\n";

static void run(struct client *client, const struct command *command)
{
    if (store.error[0] && (command->kind == DATA || command->kind == CHANGE))
        add_text(&client->out, "-ERR %s\r\n", store.error);
    else if (command->kind == CHANGE && !client->is_queueing && left(&store.waiting) > WAITING_MOST)
        add(&client->out, too_much, strlen(too_much));
    else
        command->run(client);
}

/* All commands are one change, and all their replies are one. */
static void run_exec(struct client *client)
{
    uint32_t commands_left = 0;
    const char *error = !client->is_queueing                  ? "-ERR EXEC without MULTI\r\n"
                        : client->is_spoiled                  ? "-EXECABORT a command was wrong\r\n"
                        : left(&store.waiting) > WAITING_MOST ? too_much
                                                              : NULL;
    if (error) {
        add(&client->out, error, strlen(error));
        end_transaction(client);
        return;
    }
    const char *at = front(&client->queued), *end = at + left(&client->queued);
    for (const char *next = at; next < end; commands_left++)
        next += parse_request(next, (size_t)(end - next), server.words, &server.count);
    add_text(&client->out, "*%u\r\n", commands_left);
    while (at < end) {
        at += parse_request(at, (size_t)(end - at), server.words, &server.count);
        run(client, find_command(client));
    }
    end_transaction(client);
}

/* ---- clients ---------------------------------------------------------------------------------------- */

/* The request has been parsed; `request` is its bytes. */
static void answer(struct client *client, const char *request, size_t size)
{
    const size_t before = left(&client->out);
    const uint64_t change = store.change;
    server.shown = 0;

    const struct command *command = find_command(client);
    client->is_spoiled |= !command;
    if (command && client->is_queueing && command->kind != TRANSACTION) {
        add(&client->queued, request, size);
        add_text(&client->out, "+QUEUED\r\n");
    } else if (command) {
        run(client, command);
        end_change();
    }

    if (store.change > change)
        show(change);
    const struct reply reply = { .change = server.shown, .size = left(&client->out) - before };
    add(&client->replies, &reply, sizeof(reply));
}

static void read_client(struct client *client)
{
    const ssize_t size = recv(client->fd, make_room(&client->in, READ_BYTES), READ_BYTES, MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EAGAIN))
        client->is_closed = true;
    if (size <= 0)
        return;
    client->in.end += (size_t)size;

    while (left(&client->in) > 0 && !server.is_ending) {
        const long taken = parse_request(front(&client->in), left(&client->in), server.words, &server.count);
        if (taken < 0)
            client->is_closed = true;
        if (taken <= 0)
            return;
        answer(client, front(&client->in), (size_t)taken);
        drop(&client->in, (size_t)taken);
    }
}

static void add_client(int fd)
{
    struct client *client = must_have(calloc(1, sizeof(*client)));
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    client->fd = fd;
    client->events = EPOLLIN;
    client->next = server.clients;
    server.clients = client;
    server.client_count++;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
    epoll_ctl(server.loop, EPOLL_CTL_ADD, fd, &event);
}

static void free_client(struct client *client)
{
    server.client_count--;
    /* A child may have it open: then it stays in the epoll set when it is closed here. */
    epoll_ctl(server.loop, EPOLL_CTL_DEL, client->fd, NULL);
    shutdown(client->fd, SHUT_RDWR);
    close(client->fd);
    free(client->in.data);
    free(client->queued.data);
    free(client->out.data);
    free(client->replies.data);
    free(client);
}

static void send_replies(struct client *client)
{
    release_replies(client);
    if (client->ready > 0) {
        const ssize_t sent =
            send(client->fd, front(&client->out), client->ready, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            client->is_closed = true;
        if (sent > 0) {
            drop(&client->out, (size_t)sent);
            client->ready -= (size_t)sent;
        }
    }

    const uint32_t reading = left(&client->out) < UNSENT_MOST ? EPOLLIN : 0,
                   writing = client->ready > 0 ? EPOLLOUT : 0;
    struct epoll_event event = { .events = reading | writing, .data.ptr = client };
    if (event.events != client->events)
        epoll_ctl(server.loop, EPOLL_CTL_MOD, client->fd, &event);
    client->events = event.events;
}

static void send_all_replies(void)
{
    for (struct client **link = &server.clients, *client; (client = *link);) {
        send_replies(client);
        if (client->is_closed) {
            *link = client->next;
            free_client(client);
        } else {
            link = &client->next;
        }
    }
}

/* ---- the loop --------------------------------------------------------------------------------------- */

static void watch(int fd, void *what)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
    epoll_ctl(server.loop, EPOLL_CTL_ADD, fd, &event);
}

static void take_event(const struct epoll_event *event)
{
    if (event->data.ptr == &store.queue) {
        look_at_log();
    } else if (event->data.ptr == &store.saver) {
        end_child();
    } else if (event->data.ptr == &server.listener) {
        const int fd = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            add_client(fd);
    } else {
        read_client(event->data.ptr);
    }
}

/* What a turn leaves to do, in this order: replies show what was submitted. What is safe makes room for more. */
static void end_turn(void)
{
    do
        submit_changes();
    while (store.log && fetch_requests());
    if (server.wants_save && left(&store.parts) == 0) {
        const int rc = start_save(server.listener);
        store.last_save = rc < 0 ? "failed" : store.last_save;
        server.wants_save = false;
        if (rc == 0)
            watch(store.saver_pipe, &store.saver);
    }
    if (store.is_dirty && now_ns() - store.synced_ns > 1000000000u && store.setting == EVERYSEC) {
        const int rc = sync_plain();
        if (rc < 0)
            fail_log(rc);
    }
    send_all_replies();
}

/* While the log writes, a loop with more than a few clients waits for that alone, for a moment. So their next requests
 * come together, and are one group; one by one each of them would wake the loop. */
static void wait_for_log(void)
{
    if (store.in_flight == 0 || server.client_count <= FEW_CLIENTS)
        return;
    struct pollfd queue = { .fd = twinlog_queue_fd(store.queue), .events = POLLIN };
    poll(&queue, 1, MOST_ALONE_MS);
}

static void serve(void)
{
    struct epoll_event events[EVENTS];
    if (store.queue)
        watch(twinlog_queue_fd(store.queue), &store.queue);
    if (server.listener >= 0)
        watch(server.listener, &server.listener);
    while (!server.is_ending) {
        wait_for_log();
        const int count = epoll_wait(server.loop, events, EVENTS, store.is_dirty ? 1000 : -1);
        const uint64_t began_ns = now_ns();
        for (int i = 0; i < count; i++)
            take_event(&events[i]);
        end_turn();
        const uint64_t took_ns = now_ns() - began_ns;
        server.longest_turn_ns = took_ns > server.longest_turn_ns ? took_ns : server.longest_turn_ns;
    }
    while (server.clients) {
        struct client *client = server.clients;
        server.clients = client->next;
        free_client(client);
    }
}

static int listen_on(uint16_t port)
{
    const struct sockaddr_in address = { AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, { 0 } };
    const int on = 1;
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(server.listener, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(server.listener, 1024) < 0)
        return -errno;
    return 0;
}

/* ---- a check of itself ------------------------------------------------------------------------------ */

#define LARGE (5 * RECORD_BYTES)

/* Sends the words of `text`. Returns whether the reply has `size` bytes and begins with `expected`. */
static bool ask(int fd, const char *text, const char *expected, size_t size)
{
    struct bytes request = { 0 }, words = { 0 }, reply = { 0 };
    int count = 0;
    add(&words, text, strlen(text) + 1);
    for (char *rest = front(&words), *word; (word = strsep(&rest, " ")); count++)
        add_text(&request, "$%zu\r\n", strlen(word)), add(&request, word, strlen(word)),
            add(&request, "\r\n", 2);

    dprintf(fd, "*%d\r\n", count);
    for (ssize_t sent = 0; left(&request) > 0 && sent >= 0; drop(&request, sent > 0 ? (size_t)sent : 0))
        sent = send(fd, front(&request), left(&request), MSG_NOSIGNAL);
    const ssize_t got = recv(fd, make_room(&reply, size), size, MSG_WAITALL);
    const bool is_right = got == (ssize_t)size && memcmp(front(&reply), expected, strlen(expected)) == 0;
    if (!is_right)
        fprintf(stderr, "server: wrong reply to %.20s\n", text);
    free(request.data);
    free(words.data);
    free(reply.data);
    return is_right;
}

static bool ask_for(int fd, const char *text, const char *expected)
{
    return ask(fd, text, expected, strlen(expected));
}

static bool first_client(int fd)
{
    static char large[LARGE + 16] = "SET large ";
    memset(large + strlen(large), 'x', LARGE);
    return ask_for(fd, "SET a 7", "+OK\r\n") && ask_for(fd, "INCR a", ":8\r\n") &&
           ask_for(fd, "MULTI", "+OK\r\n") && ask_for(fd, "SET b all", "+QUEUED\r\n") &&
           ask_for(fd, "DEL a", "+QUEUED\r\n") && ask_for(fd, "EXEC", "*2\r\n+OK\r\n:1\r\n") &&
           ask_for(fd, "BGSAVE", "+Background saving started\r\n") && ask_for(fd, large, "+OK\r\n");
}

static bool second_client(int fd)
{
    char expected[32];
    const size_t head = (size_t)snprintf(expected, sizeof(expected), "$%zu\r\nxxx", LARGE) - 3;
    return ask_for(fd, "GET a", "$-1\r\n") && ask_for(fd, "GET b", "$3\r\nall\r\n") &&
           ask_for(fd, "DBSIZE", ":2\r\n") && ask(fd, "GET large", expected, head + LARGE + 2);
}

/* Serves until SHUTDOWN: a port, or with 0 the client `fd` alone. Returns the status to exit with. */
static int run_server(const char *dir, long port, int fd)
{
    int rc = store_open(dir);
    server.loop = epoll_create1(EPOLL_CLOEXEC);
    if (fd >= 0)
        add_client(fd);
    if (rc == 0 && port > 0)
        rc = listen_on((uint16_t)port);
    if (rc == 0)
        serve();
    const int closed = store_close();
    rc = rc < 0 ? rc : closed;
    if (rc < 0)
        fprintf(stderr, "server: %s\n", twinlog_strerror(rc));
    return rc < 0;
}

/* A server in a child, and a client. When the client has finished, the server is killed. */
static bool check(const char *dir, bool (*run_client)(int fd))
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return false;
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        _exit(run_server(dir, 0, ends[1]));
    }
    close(ends[1]);
    const bool is_right = run_client(ends[0]);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ends[0]);
    return is_right;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "server";
    long port = 0;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
            port = strtol(argv[++i], NULL, 10);
        store.is_plain |= strcmp(argv[i], "--plain") == 0;
        store.is_written |= strcmp(argv[i], "--written") == 0;
    }
    if (argc > 2 && (port <= 0 || port > UINT16_MAX)) {
        fprintf(stderr, "usage: server DIR --port N [--written | --plain]\n");
        return 2;
    }
    signal(SIGXFSZ, SIG_IGN); /* writes then say that the file may not grow */
    if (port > 0)
        return run_server(dir, port, -1);
    if (!check(dir, first_client) || !check(dir, second_client))
        return 1;
    puts("a server was killed, and the next one had its pairs");
    return 0;
}
