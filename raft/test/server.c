/* SPDX-License-Identifier: Apache-2.0 */
/* See server.h. */
#include <stdlib.h>
#include <string.h>

#include "server.h"
#include "twinlog_raft.h"

int begin_transport(struct raft_uv_transport *transport, uv_loop_t *loop)
{
    memset(transport, 0, sizeof(*transport));
#ifdef RAFT_VERSION_NUMBER
    transport->version = 1;
#endif
    return raft_uv_tcp_init(transport, loop);
}

int open_server(struct server *v, const char *dir,
                void (*on_failure)(void *context, int error, const char *text))
{
    struct twinlog_raft_options options = TWINLOG_RAFT_OPTIONS_INIT;
    memset(v, 0, sizeof(*v));
    options.buffer_bytes = 1 << 20;
    options.segment_bytes = 4 << 20;
    options.on_failure = on_failure;
    options.context = v;
    options.cluster = CLUSTER;
    int rv = uv_loop_init(&v->loop);
    if (rv == 0)
        rv = begin_transport(&v->transport, &v->loop);
    if (rv == 0)
        rv = twinlog_raft_open(&v->loop, dir, &v->transport, &options, &v->io);
    if (rv != 0)
        return rv;
    v->io->data = &v->raft; /* as raft_init() does */
    return v->io->init(v->io, 1, "127.0.0.1:9001");
}

int load_server(struct server *v)
{
    return v->io->load(v->io, &v->term, &v->vote, &v->snapshot, &v->start_index, &v->entries, &v->n);
}

void make_configuration(struct raft_configuration *conf)
{
    raft_configuration_init(conf);
    if (raft_configuration_add(conf, 1, "127.0.0.1:9001", RAFT_VOTER) != 0 ||
        raft_configuration_add(conf, 2, "127.0.0.1:9002", RAFT_STANDBY) != 0)
        abort();
}

size_t bytes_of(raft_index index)
{
    return index % 7 == 0 ? 0 : index * 37 % 300 / 8 * 8; /* a multiple of 8, as of each command */
}

void fill_entry(struct raft_entry *entry, raft_index index, raft_term term, size_t bytes)
{
    *entry = (struct raft_entry){ .term = term, .type = RAFT_COMMAND, .buf = { malloc(bytes + 1), bytes } };
    if (entry->buf.base == NULL)
        abort();
    memset(entry->buf.base, (int)(index + term), bytes);
}

bool is_whole(const void *data, size_t bytes, uint64_t value)
{
    const uint8_t *at = data;
    size_t same = 0;
    while (same < bytes && at[same] == (uint8_t)value)
        same++;
    return same == bytes;
}
