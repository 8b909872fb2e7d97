/* SPDX-License-Identifier: Apache-2.0 */
/* Making records up, and judging those that come back. */
#include "history.h"

#include "content.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* How a payload begins, where it is long enough. */
struct stamp {
    uint64_t writer, lsn, size;
};

void history_free(struct history *history)
{
    for (size_t i = 0; i < history->facts; ++i)
        free(history->fact[i].data);
    free(history->fact);
    history->fact = NULL;
    history->facts = history->room = 0;
}

uint64_t history_last(const struct history *history)
{
    return history->kept + history->facts;
}

const struct fact *history_fact(const struct history *history, uint64_t lsn)
{
    while (lsn <= history->kept)
        history = history->past;
    return &history->fact[lsn - history->kept - 1];
}

static size_t choose_size(const struct history *history, struct rng *rng, size_t max_bytes)
{
    size_t size = history->usual_bytes;
    if (size > 0 && !rng_one_in(rng, 16))
        return size < max_bytes ? size : max_bytes;
    switch (rng_below(rng, 8)) {
    case 0:
        size = rng_below(rng, 9);
        break;
    case 1:
    case 2:
    case 3:
        size = rng_below(rng, 200);
        break;
    case 4:
        size = rng_below(rng, 1024);
        break;
    case 5:
        size = (1 + rng_below(rng, 9)) * 512 - rng_below(rng, 128); /* near the end of a sector or block */
        break;
    case 6:
        size = rng_below(rng, 5000);
        break;
    default:
        size = rng_below(rng, max_bytes + 1);
        break;
    }
    return size < max_bytes ? size : max_bytes;
}

static void stamp_payload(struct fact *fact, uint64_t writer, uint64_t lsn)
{
    const struct stamp stamp = { writer, lsn, fact->size };
    struct rng rng = { writer ^ rng_mix(lsn) };
    rng_fill(&rng, fact->data, fact->size);
    memcpy(fact->data, &stamp, fact->size < sizeof(stamp) ? fact->size : sizeof(stamp));
}

struct fact history_make_sized(const struct history *history, const struct simdisk *disk, struct rng *rng,
                               size_t size)
{
    struct fact fact = { .size = size, .time_ns = simdisk_clock(disk) };
    fact.data = sim_allocate(fact.size + 1);
    stamp_payload(&fact, history->writer, history_last(history) + 1);
    switch (rng_below(rng, 8)) {
    case 0:
        memset(fact.data, 0, fact.size);
        break;
    case 1: {
        const size_t zeros = rng_below(rng, fact.size + 1);
        memset(fact.data + fact.size - zeros, 0, zeros);
        break;
    }
    case 2:
    case 3:
        simdisk_sample(disk, rng, fact.data, fact.size);
        break;
    default:
        break;
    }
    return fact;
}

struct fact history_make(const struct history *history, const struct simdisk *disk, struct rng *rng,
                         size_t max_bytes)
{
    return history_make_sized(history, disk, rng, choose_size(history, rng, max_bytes));
}

void history_accept(struct history *history, struct fact fact)
{
    if (history->facts == history->room) {
        history->room = 2 * history->room + 8;
        history->fact = sim_reallocate(history->fact, history->room * sizeof(*history->fact));
    }
    history->fact[history->facts++] = fact;
}

void history_offer(struct history *history, struct fact fact)
{
    history->offer = fact;
    history->offer_lsn = 0;
}

void history_notice(struct history *history, uint64_t last_lsn)
{
    if (!history->offer.data || last_lsn <= history_last(history))
        return;
    history_accept(history, history->offer);
    history->offer.data = NULL;
    history->offer_lsn = history_last(history);
}

uint64_t history_settle(struct history *history, bool is_accepted)
{
    if (is_accepted)
        history_notice(history, UINT64_MAX);
    free(history->offer.data);
    history->offer.data = NULL;
    return history->offer_lsn;
}

void history_cut(struct history *history, uint64_t last)
{
    while (history->facts > 0 && history_last(history) > last)
        free(history->fact[--history->facts].data);
    if (history->kept > last)
        history->kept = last;
}

/* What a wrong record is, for whoever has to find out. */
static const char *describe(const struct history *history, const struct twinlog_record *record)
{
    static char text[160];
    struct stamp stamp = { 0, 0, 0 };
    for (uint64_t lsn = 1; lsn <= history_last(history); ++lsn) {
        const struct fact *fact = history_fact(history, lsn);
        if (record->size >= 8 && fact->size == record->size &&
            memcmp(fact->data, record->data, fact->size) == 0) {
            snprintf(text, sizeof(text), "it is that of LSN %" PRIu64, lsn);
            return text;
        }
    }
    if (record->size < sizeof(stamp))
        return "too short to say whose it is";
    memcpy(&stamp, record->data, sizeof(stamp));
    for (; history; history = history->past)
        if (stamp.writer == history->writer) {
            snprintf(text, sizeof(text), "it was made as LSN %" PRIu64 " with %" PRIu64 " bytes, %s",
                     stamp.lsn, stamp.size, history->past ? "after a recovery" : "before any crash");
            return text;
        }
    return "its payload is unknown";
}

void history_check(const struct history *history, const struct twinlog_record *record, const char *who)
{
    if (record->lsn == 0 || record->lsn > history_last(history))
        violation("O3: %s returned LSN %" PRIu64 ", but only %" PRIu64 " were accepted", who, record->lsn,
                  history_last(history));
    const struct fact *fact = history_fact(history, record->lsn);
    if (record->size != fact->size || (fact->size > 0 && memcmp(record->data, fact->data, fact->size) != 0))
        violation("O1/O3: %s returned a wrong payload for LSN %" PRIu64
                  ": %zu bytes where %zu were written; %s",
                  who, record->lsn, record->size, fact->size, describe(history, record));
    if (record->time_ns != fact->time_ns)
        violation("%s returned a wrong time for LSN %" PRIu64 ": %" PRId64 ", not %" PRId64, who, record->lsn,
                  record->time_ns, fact->time_ns);
}

uint64_t history_check_rest(const struct history *history, struct twinlog_reader *reader, uint64_t next,
                            const char *who)
{
    struct twinlog_record record;
    int result = 0;
    for (; (result = twinlog_reader_next(reader, &record)) == 1; ++next) {
        if (record.lsn != next)
            violation("O2: %s returned LSN %" PRIu64 " where %" PRIu64 " was next", who, record.lsn, next);
        history_check(history, &record, who);
    }
    if (result < 0)
        violation("%s failed at LSN %" PRIu64 ": %s", who, next, twinlog_strerror(result));
    return next - 1;
}
