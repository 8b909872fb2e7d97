/* SPDX-License-Identifier: Apache-2.0 */
/* The peers, which of them are in this build, and the options of twinlog's variants. */
#include "series.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog.h>

#include "common.h"

static const struct {
    const char *name;
    const struct peer *peer; /* NULL: not in this build */
} peers[] = {
    { "twinlog", &peer_twinlog },
    { "raw", &peer_raw },
    { "raw-large", &peer_raw_large },
    { "raw-fresh", &peer_raw_fresh },
    { "naive", &peer_naive },
    { "by-hand", &peer_by_hand },
    { "bdb", &peer_bdb },
    { "leveldb", &peer_leveldb },
    { "rocksdb", &peer_rocksdb },
    { "rocksdb-pipelined", &peer_rocksdb_pipelined },
    { "sqlite", &peer_sqlite },
    { "sqlite-together", &peer_sqlite_together },
    { "wiredtiger", &peer_wiredtiger },
    { "pace-blocking", &peer_pace_blocking },
    { "pace-gathering", &peer_pace_gathering },
};

const struct peer *peer_at(size_t i)
{
    size_t found = 0;

    for (size_t row = 0; row < LENGTH(peers); row++) {
        if (!peers[row].peer)
            continue;
        if (found == i)
            return peers[row].peer;
        found++;
    }
    return NULL;
}

const struct peer *peer_find(const char *name)
{
    for (size_t i = 0; peer_at(i); i++) {
        if (strcmp(peer_at(i)->name, name) == 0)
            return peer_at(i);
    }
    return NULL;
}

bool peer_is_left_out(const char *name)
{
    for (size_t row = 0; row < LENGTH(peers); row++) {
        if (strcmp(peers[row].name, name) == 0)
            return !peers[row].peer;
    }
    return false;
}

const char *explain_error(const char *(*explain)(int error), int error)
{
    if (explain)
        return explain(error);
    return strerror(-error);
}

int peer_open(const struct peer *peer, const struct peer_setup *setup, void **ret_state)
{
    struct peer_setup own = *setup;

    own.peer = peer;
    *ret_state = NULL;

    const int error = peer->open(&own, ret_state);
    if (error && *ret_state) {
        peer->close(*ret_state);
        *ret_state = NULL;
    }
    return error;
}

static const struct {
    const char *word;
    struct twinlog_setup adds;
} options[] = {
    { "io=uring", { .io = TWINLOG_IO_URING } },
    { "io=uring-linked", { .io = TWINLOG_IO_URING_LINKED } },
    { "io=dsync", { .io = TWINLOG_IO_DSYNC } },
    { "io=fdatasync", { .io = TWINLOG_IO_FDATASYNC } },
    { "pad", { .flags = TWINLOG_PAD } },
    { "buffered", { .flags = TWINLOG_BUFFERED } },
    { "no-recycle", { .flags = TWINLOG_NO_RECYCLE } },
    { "fresh", { .is_fresh = true } },
    { "keep=1M", { .keep_bytes = 1u << 20 } },
};

static bool add_option(const char *word, struct twinlog_setup *setup)
{
    for (size_t i = 0; i < LENGTH(options); i++) {
        const struct twinlog_setup *adds = &options[i].adds;

        if (strcmp(options[i].word, word) != 0)
            continue;
        if (adds->io)
            setup->io = adds->io;
        setup->flags |= adds->flags;
        setup->is_fresh |= adds->is_fresh;
        setup->keep_bytes += adds->keep_bytes;
        return true;
    }
    return fail("'%s' is no option of twinlog", word);
}

/* "NAME@SHARE": cuts the share off. Without one it is 0. */
static bool cut_share(char *text, double *ret_share)
{
    char *at = strchr(text, '@'), *end;

    *ret_share = 0;
    if (!at)
        return true;

    *ret_share = strtod(at + 1, &end);
    const bool is_in_range = *ret_share > 0 && *ret_share <= 10;
    if (*end || !is_in_range)
        return fail("'%s' is no share of a rate", at + 1);
    *at = 0;
    return true;
}

static bool contender_parse(const char *text, const struct twinlog_setup *defaults,
                            struct contender *contender)
{
    char name[sizeof(contender->label)];

    if ((size_t)snprintf(contender->label, sizeof(contender->label), "%s", text) >= sizeof(contender->label))
        return fail("'%s' is too long", text);
    memcpy(name, contender->label, sizeof(name));
    contender->trial = NULL;
    contender->peer = NULL;
    contender->twinlog = *defaults;
    if (!cut_share(name, &contender->share))
        return false;

    struct list parts = list_of(name, ':');
    if (list_next(&parts))
        contender->peer = peer_find(parts.word);
    if (!contender->peer) {
        const char *why = peer_is_left_out(parts.word) ? "not in this build" : "no contender";
        return fail("'%s' is %s; see --list", text, why);
    }

    if (contender->peer != &peer_twinlog && *parts.rest)
        return fail("%s has no options", parts.word);
    while (list_next(&parts)) {
        if (!add_option(parts.word, &contender->twinlog))
            return false;
    }
    return true;
}

bool contenders_parse(const char *text, const struct twinlog_setup *defaults, bool is_lenient,
                      struct plan *plan)
{
    plan->contender_count = 0;
    for (struct list list = list_of(text, ','); list_next(&list);) {
        if (is_lenient && peer_is_left_out(list.word)) {
            fail("without %s, which is not in this build", list.word);
            continue;
        }
        if (plan->contender_count == MAX_CONTENDERS)
            return false;
        if (!contender_parse(list.word, defaults, &plan->contenders[plan->contender_count]))
            return false;
        plan->contender_count++;
    }
    return plan->contender_count > 0;
}
