/* SPDX-License-Identifier: Apache-2.0 */
/* Making records up, and judging those that come back. */
#include "history.h"

#include "content.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* How a payload begins, where it is long enough. */
struct stamp {
    uint64_t writer, lsn, generation, size;
};

/* ---- the list ------------------------------------------------------------------------------------ */

struct history history_begin(uint64_t writer)
{
    return (struct history){ .start = 1, .head = 1, .writer = writer };
}

struct history history_inherit(const struct history *past, uint64_t writer)
{
    return (struct history){ .past = past,
                             .start = history_last(past) + 1,
                             .head = past->head,
                             .settled = past->settled,
                             .open_from = past->open_from,
                             .usual_bytes = past->usual_bytes,
                             .writer = writer };
}

struct fact history_copy_fact(const struct fact *fact)
{
    struct fact copy = *fact;
    copy.data = sim_allocate(fact->size + 1);
    memcpy(copy.data, fact->data, fact->size);
    return copy;
}

struct history history_copy(const struct history *history)
{
    struct history copy = *history;
    copy.room = history->facts;
    copy.fact = sim_allocate((history->facts + 1) * sizeof(*copy.fact));
    for (size_t i = 0; i < history->facts; ++i)
        copy.fact[i] = history_copy_fact(&history->fact[i]);
    copy.offers = 0;
    return copy;
}

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
    return history->start + history->facts - 1;
}

uint64_t head_of(struct twinlog *log)
{
    const uint64_t first = twinlog_first_lsn(log);
    return first > 0 ? first : twinlog_durable_lsn(log) + 1;
}

const struct fact *history_fact(const struct history *history, uint64_t lsn)
{
    if (lsn > history_last(history))
        return NULL;
    while (history && lsn < history->start)
        history = history->past;
    return history && lsn <= history_last(history) ? &history->fact[lsn - history->start] : NULL;
}

static bool is_void(const struct history *history, uint64_t lsn)
{
    const struct fact *fact = history_fact(history, lsn);
    return fact && fact->is_void;
}

uint64_t history_next(const struct history *history, uint64_t lsn)
{
    while (is_void(history, lsn))
        ++lsn;
    return lsn;
}

uint64_t history_before(const struct history *history, uint64_t lsn)
{
    while (is_void(history, lsn))
        --lsn;
    return lsn;
}

uint64_t history_count(const struct history *history, uint64_t first, uint64_t last)
{
    uint64_t count = 0;
    for (uint64_t lsn = first; lsn <= last; ++lsn)
        count += !is_void(history, lsn);
    return count;
}

bool history_splits_batch(const struct history *history, uint64_t lsn)
{
    const struct fact *fact = history_fact(history, lsn);
    return fact && fact->rest > 0 && lsn != history->settled;
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
    history->offer[history->offers++] = fact;
}

void history_notice(struct history *history, uint64_t last_lsn)
{
    if (history->offers == 0 || last_lsn <= history_last(history))
        return;
    history->offer_lsn = history_last(history) + 1;
    for (unsigned i = 0; i < history->offers; ++i) {
        history->offer[i].rest = history->offers - 1 - i;
        history_accept(history, history->offer[i]);
    }
    history->offers = 0;
}

uint64_t history_settle(struct history *history, bool is_accepted)
{
    if (is_accepted)
        history_notice(history, UINT64_MAX);
    while (history->offers > 0)
        free(history->offer[--history->offers].data);
    const uint64_t lsn = history->offer_lsn;
    history->offer_lsn = 0;
    return lsn;
}

static void cut(struct history *history, uint64_t last)
{
    while (history->facts > 0 && history_last(history) > last)
        free(history->fact[--history->facts].data);
    if (history_last(history) > last)
        history->start = last + 1;
}

/* Nothing is kept of what was, and what comes first need not be next to it. */
static void restart(struct history *history, uint64_t next)
{
    cut(history, history->start - 1);
    history->past = NULL;
    history->start = next;
}

void history_move(struct history *history, uint64_t head, uint64_t last)
{
    const bool is_elsewhere = last > history_last(history) || last + 1 < history->head;
    history->generation += last != history_last(history);
    if (is_elsewhere)
        restart(history, head);
    else
        cut(history, last);
    history->head = head;
    history->settled = last;
}

/* ---- making records up --------------------------------------------------------------------------- */

static size_t choose_size(const struct history *history, struct rng *rng, size_t max_bytes)
{
    const size_t ends[] = { 9, 200, 200, 200, 1024, 5000, max_bytes + 1 };
    size_t size = history->usual_bytes;
    if (size > 0 && !rng_one_in(rng, 16))
        return size < max_bytes ? size : max_bytes;
    const uint64_t kind = rng_below(rng, 8);
    if (kind == 5) /* near the end of a sector or block */
        size = (1 + rng_below(rng, 9)) * 512 - rng_below(rng, 128);
    else
        size = rng_below(rng, ends[kind < 5 ? kind : kind - 1]);
    return size < max_bytes ? size : max_bytes;
}

static void stamp_payload(struct fact *fact, const struct history *history, uint64_t lsn)
{
    const struct stamp stamp = { history->writer, lsn, history->generation, fact->size };
    struct rng rng = { history->writer ^ rng_mix(lsn) ^ rng_mix(~history->generation) };
    rng_fill(&rng, fact->data, fact->size);
    memcpy(fact->data, &stamp, fact->size < sizeof(stamp) ? fact->size : sizeof(stamp));
}

struct fact history_make_sized(const struct history *history, const struct simdisk *disk, struct rng *rng,
                               size_t size)
{
    struct fact fact = { .size = size, .time_ns = simdisk_clock(disk) };
    fact.data = sim_allocate(fact.size + 1);
    stamp_payload(&fact, history, history_last(history) + 1 + history->offers);
    const uint64_t kind = rng_below(rng, 8);
    const size_t zeros = kind == 0 ? fact.size : kind == 1 ? rng_below(rng, fact.size + 1) : 0;
    memset(fact.data + fact.size - zeros, 0, zeros);
    if (kind == 2 || kind == 3)
        simdisk_sample(disk, rng, fact.data, fact.size);
    return fact;
}

struct fact history_make(const struct history *history, const struct simdisk *disk, struct rng *rng,
                         size_t max_bytes)
{
    return history_make_sized(history, disk, rng, choose_size(history, rng, max_bytes));
}

/* Whole sectors of it, or what begins one that ends behind it. */
static bool has_zeros(const struct fact *fact)
{
    size_t run = 0;
    for (size_t i = 0; i < fact->size && run < SECTOR_BYTES; ++i)
        run = fact->data[i] == 0 ? run + 1 : 0;
    return run >= SECTOR_BYTES || (fact->size > 0 && fact->data[fact->size - 1] == 0);
}

bool history_has_zeros(const struct history *history, uint64_t first, uint64_t last)
{
    for (; first <= last; ++first) {
        const struct fact *fact = history_fact(history, first);
        if (fact && !fact->is_void && has_zeros(fact))
            return true;
    }
    return false;
}

/* ---- judging ------------------------------------------------------------------------------------- */

static bool is_same_payload(const struct fact *fact, const struct twinlog_record *record)
{
    return fact->size == record->size &&
           (fact->size == 0 || memcmp(fact->data, record->data, fact->size) == 0);
}

/* What a wrong record is, for a person to find out. */
static const char *describe(const struct history *history, const struct twinlog_record *record)
{
    static char text[160];
    struct stamp stamp = { 0, 0, 0, 0 };
    for (uint64_t lsn = history->head; lsn <= history_last(history); ++lsn) {
        const struct fact *fact = history_fact(history, lsn);
        if (record->size >= 8 && fact && is_same_payload(fact, record)) {
            snprintf(text, sizeof(text), "it is that of LSN %" PRIu64, lsn);
            return text;
        }
    }
    if (record->size < sizeof(stamp))
        return "too short to tell its writer";
    memcpy(&stamp, record->data, sizeof(stamp));
    for (; history; history = history->past)
        if (stamp.writer == history->writer) {
            snprintf(text, sizeof(text),
                     "it was made as LSN %" PRIu64 " with %" PRIu64 " bytes, in generation %" PRIu64
                     " (now it is %" PRIu64 "), %s",
                     stamp.lsn, stamp.size, stamp.generation, history->generation,
                     history->past ? "after a recovery" : "before any crash");
            return text;
        }
    return "its payload is unknown";
}

bool history_knows(const struct history *history, const struct twinlog_record *record, const char **ret_why)
{
    static char text[256];
    const struct fact *fact = history_fact(history, record->lsn);
    *ret_why = text;
    if (!fact)
        snprintf(text, sizeof(text), "O3: there is no such record, the last one is %" PRIu64,
                 history_last(history));
    else if (!is_same_payload(fact, record))
        snprintf(text, sizeof(text), "O1/O3: wrong payload, %zu bytes where %zu were written: %s",
                 record->size, fact->size, describe(history, record));
    else if (fact->is_void)
        snprintf(text, sizeof(text), "O3: it was given up, and is a void");
    else if (record->type != fact->type || record->tag != fact->tag)
        snprintf(text, sizeof(text), "wrong type or tag: %u and %u, not %u and %u", record->type, record->tag,
                 fact->type, fact->tag);
    else if (record->time_ns != fact->time_ns)
        snprintf(text, sizeof(text), "wrong time: %" PRId64 ", not %" PRId64, record->time_ns, fact->time_ns);
    else
        return true;
    return false;
}

void history_check(const struct history *history, const struct twinlog_record *record, const char *name)
{
    const char *why;
    if (!history_knows(history, record, &why))
        violation("%s returned LSN %" PRIu64 ": %s", name, record->lsn, why);
}

bool history_may_skip(const struct history *history, uint64_t first, uint64_t end)
{
    bool may_skip = true;
    for (uint64_t lsn = first; may_skip && lsn < end; ++lsn)
        may_skip = is_void(history, lsn) || (history->open_from > 0 && lsn >= history->open_from);
    return may_skip;
}

uint64_t history_check_rest(const struct history *history, struct twinlog_reader *reader, uint64_t next,
                            const char *name, uint64_t *ret_sure)
{
    struct twinlog_record record;
    int result = 0;
    *ret_sure = next - 1;
    while ((result = twinlog_reader_next(reader, &record)) == 1) {
        const bool is_next = record.lsn == history_next(history, next);
        if (is_next && *ret_sure == next - 1)
            *ret_sure = record.lsn;
        if (!is_next && (record.lsn < next || !history_may_skip(history, next, record.lsn)))
            violation("O2: %s returned LSN %" PRIu64 " where %" PRIu64 " was next", name, record.lsn,
                      history_next(history, next));
        history_check(history, &record, name);
        next = record.lsn + 1;
    }
    if (result < 0)
        violation("%s failed at LSN %" PRIu64 ": %s", name, next, twinlog_strerror(result));
    return next - 1;
}

/* What is known of them from now on is known here, not in the past. */
static void own_from(struct history *history, uint64_t first)
{
    const uint64_t last = history_last(history);
    if (first >= history->start || first > last)
        return;
    const size_t more = (size_t)(history->start - first);
    struct fact *fact = sim_allocate((history->facts + more) * sizeof(*fact));
    for (uint64_t lsn = first; lsn < history->start; ++lsn) {
        fact[lsn - first] = history_copy_fact(history_fact(history, lsn));
    }
    if (history->facts > 0)
        memcpy(fact + more, history->fact, history->facts * sizeof(*fact));
    free(history->fact);
    history->fact = fact;
    history->facts += more;
    history->room = history->facts;
    history->start = first;
}

/* The head may have moved. */
static int next_from_head(struct twinlog_reader *reader, struct twinlog_record *record)
{
    int result = twinlog_reader_next(reader, record);
    if (result == TWINLOG_ETRIMMED && twinlog_reader_seek_first(reader) == 0)
        result = twinlog_reader_next(reader, record);
    return result;
}

void history_settle_voids(struct history *history, struct twinlog_reader *reader, uint64_t head,
                          uint64_t last)
{
    struct twinlog_record record = { 0 };
    const uint64_t first = history->open_from > head ? history->open_from : head;
    own_from(history, first);
    int result = 1;
    for (uint64_t lsn = first; lsn <= last; ++lsn) {
        while (result == 1 && record.lsn < lsn)
            result = next_from_head(reader, &record);
        if (result < 0)
            violation("reading behind LSN %" PRIu64 " failed: %s", lsn, twinlog_strerror(result));
        if (record.lsn != lsn && !is_void(history, lsn)) {
            history->fact[lsn - history->start].is_void = true;
            history->fact[lsn - history->start].size = 0;
        }
    }
    history->open_from = 0;
}

uint64_t history_find_time(const struct history *history, uint64_t from, uint64_t to, int64_t time_ns)
{
    while (from <= to && (is_void(history, from) || history_fact(history, from)->time_ns < time_ns))
        ++from;
    return from;
}
