/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replicated counter: a server of raft with twinlog-raft, and clients inside it, which keep commands in flight while
 * it is the leader. The parts of a server are in the order in which a program of yours has them: the state machine,
 * the commands, the members, the end, the start.
 */
#include <limits.h>
#include <raft/uv.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "histogram.h"
#include "node.h"
#include "twinlog_raft.h"

struct node {
    struct board *board;
    struct seat *seat;
    struct machine machine;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t terminated;
    struct raft_uv_transport transport;
    struct raft_io stock, *io;
    struct raft_fsm fsm;
    struct raft raft;
    uint64_t term, sequence; /* of the newest command that was sent */
    uint64_t bytes;          /* of commands that were sent and have no outcome */
    unsigned ticks;
    uint64_t ticked_ns;
    const struct setting *setting;
    char metrics_path[PATH_MAX];
    struct raft_barrier barrier;
    bool is_reading;
    uint64_t least_read; /* commands that the read has to see */
    struct raft_change change;
    bool is_changing;
    bool is_closing;
};

struct command {
    uint64_t client; /* from 1; 0: one of the leader's own, which are not repeated */
    uint64_t term, sequence;
    uint8_t rest[COMMAND_BYTES - 24];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct address {
    char text[48];
};

static struct address address_at(const struct setting *setting, unsigned port)
{
    struct address address;
    snprintf(address.text, sizeof(address.text), "%s:%u", setting->host, port);
    return address;
}

/* Where the other servers find this one. */
static struct address address_of(const struct setting *setting, unsigned id)
{
    return address_at(setting, PORT + id + (setting->is_proxied ? PROXIES : 0));
}

/* ---- the state machine --------------------------------------------------------------------------- */

/* A command comes again if its answer was lost, perhaps through another leader. */
static void apply_once(struct machine *machine, const struct command *command)
{
    struct client *client = &machine->clients[command->client - 1];

    if (command->sequence <= client->sequence) {
        machine->repeated++;
        return;
    }

    machine->wrong += command->sequence != client->sequence + 1;
    client->sequence = command->sequence;
    client->counter++;
}

static void apply_next(struct machine *machine, const struct command *command)
{
    uint64_t *last = &machine->last[command->term % TERMS];
    machine->wrong += command->sequence != *last + 1;
    *last = command->sequence;
}

static int apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct node *node = fsm->data;
    struct machine *machine = &node->machine;
    struct command command;

    *result = NULL;
    if (buf->len != sizeof(command))
        return RAFT_MALFORMED;

    memcpy(&command, buf->base, sizeof(command));
    if (command.client > CLIENTS)
        return RAFT_MALFORMED;

    if (command.client > 0)
        apply_once(machine, &command);
    else
        apply_next(machine, &command);
    machine->hash =
        (machine->hash ^ command.term ^ command.sequence << 20 ^ command.client << 56) * 0x100000001b3;
    machine->applied++;
    return 0;
}

static int snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct node *node = fsm->data;

    struct raft_buffer *buf = raft_malloc(sizeof(*buf));
    if (buf == NULL)
        return RAFT_NOMEM;

    buf->len = sizeof(node->machine) + node->setting->ballast;
    buf->base = raft_malloc(buf->len);
    if (buf->base == NULL) {
        raft_free(buf);
        return RAFT_NOMEM;
    }

    memcpy(buf->base, &node->machine, sizeof(node->machine)); /* the ballast is written as it is */
    *bufs = buf;
    *n_bufs = 1;
    return 0;
}

static int restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct node *node = fsm->data;

    if (buf->len != sizeof(node->machine) + node->setting->ballast)
        return RAFT_MALFORMED;

    memcpy(&node->machine, buf->base, sizeof(node->machine));
    raft_free(buf->base);
    return 0;
}

/* ---- the commands -------------------------------------------------------------------------------- */

struct request {
    struct raft_apply apply; /* first */
    struct node *node;
    uint64_t client, term, sequence, sent_ns;
};

static void send_commands(struct node *node);

static void raise_to(_Atomic uint64_t *value, uint64_t least)
{
    uint64_t before = atomic_load(value);
    while (before < least && !atomic_compare_exchange_weak(value, &before, least))
        ;
}

/* One answer in four to a client is lost. */
static void answer(struct node *node, const struct request *request)
{
    if (request->client > 0) {
        if (node->ticks % 4 > 0)
            raise_to(&node->board->answered[request->client - 1], request->sequence);
        return;
    }

    atomic_store(&node->board->acknowledged_of[request->term % TERMS], request->sequence);
    atomic_fetch_add(&node->board->acknowledged, 1);
    if (node->board->is_measuring)
        note_value(&node->seat->latency, now_ns() - request->sent_ns);
}

static void applied(struct raft_apply *apply_request, int status, void *result)
{
    struct request *request = (struct request *)apply_request;
    struct node *node = request->node;

    (void)result;
    if (status == 0) /* else its outcome is unknown */
        answer(node, request);
    free(request);
    node->bytes -= COMMAND_BYTES;
    atomic_fetch_sub(&node->seat->in_flight, 1); /* after the acknowledgement is counted */
    if (status == 0) /* else raft is no leader any more and must not be called: the timer goes on */
        send_commands(node);
}

/* libraft keeps all that was not applied in memory, without a limit: so the server has one. RAFT_BUSY: nothing was
 * sent, and the client may try again once an answer has come. */
static int apply_command(struct node *node, struct request *request, struct raft_buffer *buf)
{
    size_t kept = 0;

    if (request->client == 0) /* otherwise clients that repeat would get no turn */
        kept = CLIENTS * COMMAND_BYTES;
    if (node->bytes + buf->len + kept > node->setting->most_bytes) {
        atomic_fetch_add(&node->seat->refused, 1);
        return RAFT_BUSY;
    }

    int rv = raft_apply(&node->raft, &request->apply, buf, 1, applied);
    if (rv == 0)
        node->bytes += COMMAND_BYTES;
    return rv;
}

/* libraft: a server that is the only voter leads again in the term in which it led before, after it has applied all
 * entries. */
static uint64_t next_sequence(struct node *node)
{
    if (node->term != node->raft.current_term) {
        node->term = node->raft.current_term;
        node->sequence = node->machine.last[node->term % TERMS];
    }
    return node->sequence + 1;
}

static bool send_command(struct node *node, unsigned client)
{
    struct request *request = calloc(1, sizeof(*request));
    struct command *command = raft_calloc(1, sizeof(*command));
    struct raft_buffer buf = { command, sizeof(*command) };

    if (request != NULL && command != NULL) {
        if (client > 0)
            request->sequence = node->board->answered[client - 1] + 1;
        else
            request->sequence = next_sequence(node);
        *command = (struct command){ .client = client, .term = node->term, .sequence = request->sequence };
        request->client = client;
        request->term = node->term;
        request->node = node;
        request->sent_ns = now_ns();
        if (apply_command(node, request, &buf) == 0) {
            node->sequence += client == 0;
            return true;
        }
    }

    free(request);
    raft_free(command);
    return false;
}

/* A command is counted before the limit is looked at: once the limit is 0 and no server has one in flight, none
 * follows. */
static void send_commands(struct node *node)
{
    while (raft_state(&node->raft) == RAFT_LEADER && !node->is_closing) {
        unsigned sent = atomic_fetch_add(&node->seat->in_flight, 1);
        if (sent < node->board->in_flight && send_command(node, 0))
            continue;
        atomic_fetch_sub(&node->seat->in_flight, 1);
        return; /* the timer tries again */
    }
}

/* Whether the one before was sent or not, and to which server: what counts is that there is no answer. */
static void send_for_clients(struct node *node)
{
    for (unsigned client = 1; client <= CLIENTS && raft_state(&node->raft) == RAFT_LEADER; client++) {
        atomic_fetch_add(&node->seat->in_flight, 1);
        if (node->board->in_flight == 0 || !send_command(node, client))
            atomic_fetch_sub(&node->seat->in_flight, 1);
    }
}

/* ---- reads -------------------------------------------------------------------------------------- */

static void have_read(struct raft_barrier *barrier, int status)
{
    struct node *node = (struct node *)((char *)barrier - offsetof(struct node, barrier));

    node->is_reading = false;
    if (status != 0)
        return; /* another server is the leader now, maybe: nothing was read */

    uint64_t value = node->machine.applied;
    atomic_fetch_add(&node->board->old_reads, value < node->least_read);
    raise_to(&node->board->newest_read, value);
    atomic_fetch_add(&node->board->reads, 1);
}

/* A read is linearizable: it sees all that was acknowledged when it began. The barrier is an entry without a command;
 * when it is applied, most servers have taken it from this leader, and all entries before it were applied. */
static void begin_read(struct node *node)
{
    if (node->is_reading || node->board->in_flight == 0 || raft_state(&node->raft) != RAFT_LEADER)
        return;

    uint64_t acknowledged = node->board->acknowledged, read = node->board->newest_read;
    if (acknowledged > read)
        node->least_read = acknowledged;
    else
        node->least_read = read;
    node->is_reading = raft_barrier(&node->raft, &node->barrier, have_read) == 0;
}

/* ---- the members --------------------------------------------------------------------------------- */

static void changed(struct raft_change *change, int status)
{
    struct node *node = (struct node *)((char *)change - offsetof(struct node, change));
    (void)status; /* whether there is more to change, or again, the next tick sees */
    node->is_changing = false;
}

static bool is_member(const struct raft_configuration *configuration, raft_id id)
{
    unsigned i = 0;
    while (i < configuration->n && configuration->servers[i].id != id)
        i++;
    return i < configuration->n;
}

/* A server that was replaced has no seat any more. */
static int wanted_role(const struct board *board, raft_id id)
{
    for (unsigned i = 0; i < MOST_NODES; i++)
        if (board->ids[i] == id)
            return board->roles[i];
    return NO_MEMBER;
}

static void handed_over(struct raft_transfer *transfer)
{
    free(transfer);
}

/* A change of the members has not ended, and raft allows no other one. libraft 0.22.1: a leader that was started again
 * in the middle of one may wait for its end for ever, though it has applied it: so another server has to lead. */
static bool waits_for_change(struct raft *raft)
{
    struct raft_transfer *transfer;

    if (raft->configuration_uncommitted_index == 0)
        return false;
    if (raft->last_applied < raft->configuration_uncommitted_index)
        return true;

    transfer = calloc(1, sizeof(*transfer));
    if (transfer != NULL && raft_transfer(raft, transfer, 0, handed_over) != 0)
        free(transfer);
    return true;
}

/* One step: a server is added as a spare, and becomes a voter once it has the entries. A leader does not remove
 * itself. */
static void change_members(struct node *node)
{
    struct raft *raft = &node->raft;

    unsigned order = atomic_load(&node->board->order);
    if (order == 0 || node->is_changing)
        return;
    if (raft_state(raft) != RAFT_LEADER || waits_for_change(raft))
        return;

    int rv = -1; /* nothing to change */
    for (unsigned i = 0; rv < 0 && i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        int wanted = wanted_role(node->board, server->id);
        if (wanted == NO_MEMBER && server->id == raft->id)
            rv = RAFT_CANTCHANGE;
        else if (wanted == NO_MEMBER)
            rv = raft_remove(raft, &node->change, server->id, changed);
        else if (wanted != server->role)
            rv = raft_assign(raft, &node->change, server->id, wanted, changed);
    }

    for (unsigned i = 0; rv < 0 && i < MOST_NODES; i++) {
        unsigned id = node->board->ids[i];
        if (node->board->roles[i] != NO_MEMBER && !is_member(&raft->configuration, id))
            rv = raft_add(raft, &node->change, id, address_of(node->setting, id).text, changed);
    }

    if (rv < 0)
        atomic_store(&node->seat->order, order);
    node->is_changing = rv == 0;
}

/* ---- the end ------------------------------------------------------------------------------------- */

static void closed(struct raft *raft)
{
    struct node *node = raft->data;
    uv_close((uv_handle_t *)&node->timer, NULL);
    uv_close((uv_handle_t *)&node->terminated, NULL);
}

static void terminate(uv_signal_t *handle, int signal_number)
{
    struct node *node = handle->data;

    (void)signal_number;
    if (node->is_closing)
        return;

    node->is_closing = true;
    raft_close(&node->raft, closed);
}

/* ---- the start ----------------------------------------------------------------------------------- */

static void publish(struct node *node)
{
    unsigned check = atomic_load(&node->board->check);
    bool is_quiet = atomic_load(&node->seat->in_flight) == 0;

    if (node->seat->applied != node->machine.applied) {
        atomic_exchange(&node->seat->applied, 0); /* no store to the copy comes before it */
        node->seat->machine = node->machine;
        atomic_store(&node->seat->applied, node->machine.applied);
    }

    atomic_store(&node->seat->state, raft_state(&node->raft));
    if (is_quiet)
        atomic_store(&node->seat->check, check);
}

static void tick(uv_timer_t *timer)
{
    struct node *node = timer->data;
    const uint64_t now = now_ns();

    if (node->is_closing)
        return;
    if (node->board->is_measuring && node->ticked_ns > 0)
        note_value(&node->seat->ticks, now - node->ticked_ns);
    node->ticked_ns = now;
    publish(node);
    if (raft_state(&node->raft) == RAFT_UNAVAILABLE) {
        fprintf(stderr, "raft has stopped: %s\n", raft_errmsg(&node->raft));
        exit(1);
    }

    change_members(node);
    send_commands(node);
    if (node->setting->has_clients) {
        send_for_clients(node);
        begin_read(node);
    }

    if (!node->setting->is_stock && node->ticks++ % 20 == 0)
        write_metrics(node->metrics_path, &node->raft, node->bytes, node->seat->refused);
}

/* The first start of a server gives it the configuration, each with the same one. One that recovers from the loss of a
 * majority goes on alone. */
static int configure(struct node *node, const struct setting *setting, unsigned id)
{
    struct raft_configuration configuration;

    raft_configuration_init(&configuration);
    int rv = 0;
    for (unsigned i = 1; rv == 0 && i <= (setting->start == START_FIRST ? NODES : id); i++)
        if (setting->start == START_FIRST || i == id)
            rv = raft_configuration_add(&configuration, i, address_of(setting, i).text, RAFT_VOTER);
    if (rv == 0 && setting->start == START_FIRST)
        rv = raft_bootstrap(&node->raft, &configuration);
    if (rv == 0 && setting->start == START_RECOVER)
        rv = raft_recover(&node->raft, &configuration);
    raft_configuration_close(&configuration);
    if (rv == RAFT_CANTBOOTSTRAP)
        return 0;
    return rv;
}

static int open_io(struct node *node, const struct setting *setting, const char *dir)
{
    struct twinlog_raft_options options = TWINLOG_RAFT_OPTIONS_INIT;

    options.cluster = CLUSTER;
    if (!setting->is_stock)
        return twinlog_raft_open(&node->loop, dir, &node->transport, &options, &node->io);

    mkdir(dir, 0777);
    node->io = &node->stock;
    return raft_uv_init(node->io, &node->loop, dir, &node->transport);
}

int begin_transport(struct raft_uv_transport *transport, uv_loop_t *loop)
{
    memset(transport, 0, sizeof(*transport));
#ifdef RAFT_VERSION_NUMBER /* libraft 0.22 */
    transport->version = 1;
#endif
    return raft_uv_tcp_init(transport, loop);
}

static int start(struct node *node, const struct setting *setting, unsigned number)
{
    char dir[PATH_MAX];
    unsigned id = node->board->ids[number];

    snprintf(dir, sizeof(dir), "%s/server-%u", setting->dir, id);
    snprintf(node->metrics_path, sizeof(node->metrics_path), "%s/server-%u.prom", setting->dir, id);
    uv_loop_init(&node->loop);
    int rv = begin_transport(&node->transport, &node->loop);
    if (rv == 0)
        rv = open_io(node, setting, dir);
    if (rv != 0)
        return rv;

    node->fsm = (struct raft_fsm){
        .version = 1, .data = node, .apply = apply, .snapshot = snapshot, .restore = restore
    };
    rv = raft_init(&node->raft, node->io, &node->fsm, id, address_at(setting, PORT + id).text);
    if (rv != 0)
        return rv;

    node->raft.data = node;
    raft_set_pre_vote(&node->raft, true);
    raft_set_election_timeout(&node->raft, setting->election_ms);
    raft_set_heartbeat_timeout(&node->raft, setting->election_ms / 10);
    raft_uv_set_connect_retry_delay(node->io, 100);
    if (setting->has_no_snapshots)
        raft_set_snapshot_threshold(&node->raft, UINT_MAX);
    rv = configure(node, setting, id);
    if (rv != 0)
        return rv;
    return raft_start(&node->raft);
}

int run_node(const struct setting *setting, struct board *board, unsigned number)
{
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return 1;

    signal(SIGPIPE, SIG_IGN); /* or the end of another server ends this one */
    node->board = board;
    node->seat = &board->seats[number];
    node->setting = setting;
    int rv = start(node, setting, number);
    if (rv != 0) {
        fprintf(stderr, "server %u: %s: %s\n", board->ids[number], raft_strerror(rv),
                node->io ? node->io->errmsg : "");
        return 1;
    }

    uv_timer_init(&node->loop, &node->timer);
    node->timer.data = node;
    uv_timer_start(&node->timer, tick, 1, 5);
    uv_signal_init(&node->loop, &node->terminated);
    node->terminated.data = node;
    uv_signal_start(&node->terminated, terminate, SIGTERM);
    uv_run(&node->loop, UV_RUN_DEFAULT);
    publish(node);
    if (setting->is_stock)
        raft_uv_close(node->io);
    else
        twinlog_raft_free(node->io);
    raft_uv_tcp_close(&node->transport);
    rv = uv_loop_close(&node->loop);
    free(node);
    return rv != 0;
}
