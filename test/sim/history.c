/* SPDX-License-Identifier: Apache-2.0 */
/* Making records up, and judging those that come back. */
#include "history.h"

#include "base/base.h"
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
    const bool is_empty = first == 0;

    if (is_empty)
        return twinlog_durable_lsn(log) + 1;
    return first;
}

const struct fact *history_fact(const struct history *history, uint64_t lsn)
{
    if (lsn > history_last(history))
        return NULL;

    /* Each history knows the LSNs from its start on. */
    while (history && lsn < history->start)
        history = history->past;
    if (!history || lsn > history_last(history))
        return NULL;
    return &history->fact[lsn - history->start];
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
    for (uint64_t lsn = first; lsn <= last; ++lsn) {
        if (!is_void(history, lsn))
            ++count;
    }
    return count;
}

bool history_splits_batch(const struct history *history, uint64_t lsn)
{
    const struct fact *fact = history_fact(history, lsn);
    const bool is_followed_in_batch = fact && fact->rest > 0;
    return is_followed_in_batch && lsn != history->settled;
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

/* The log has accepted all that was offered, if its last LSN shows it. */
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

static void free_offers(struct history *history)
{
    for (unsigned i = 0; i < history->offers; ++i)
        free(history->offer[i].data);
    history->offers = 0;
}

uint64_t history_settle(struct history *history, bool is_accepted)
{
    if (is_accepted)
        history_notice(history, UINT64_MAX);
    free_offers(history);

    const uint64_t lsn = history->offer_lsn;
    history->offer_lsn = 0;
    return lsn;
}

/* Forgets the records behind `last`. Those of the past it can only hide. */
static void forget_behind(struct history *history, uint64_t last)
{
    while (history->facts > 0 && history_last(history) > last) {
        --history->facts;
        free(history->fact[history->facts].data);
    }
    if (history_last(history) > last)
        history->start = last + 1;
}

/* Nothing is kept of what was, and what comes first need not be next to it. */
static void restart(struct history *history, uint64_t next)
{
    forget_behind(history, history->start - 1);
    history->past = NULL;
    history->start = next;
}

void history_move(struct history *history, uint64_t head, uint64_t last)
{
    const bool is_behind_all = last > history_last(history);
    const bool is_before_all = last + 1 < history->head;

    if (last != history_last(history))
        ++history->generation;
    if (is_behind_all || is_before_all)
        restart(history, head);
    else
        forget_behind(history, last);
    history->head = head;
    history->settled = last;
}

/* ---- making records up --------------------------------------------------------------------------- */

static size_t choose_sectors_end(struct rng *rng)
{
    const size_t sectors = 1 + rng_below(rng, 9);
    return sectors * SECTOR_BYTES - rng_below(rng, 128);
}

/* Mostly small. */
static size_t choose_new_size(struct rng *rng, size_t max_bytes)
{
    switch (rng_below(rng, 8)) {
    case 0:
        return rng_below(rng, 9);
    case 1:
    case 2:
    case 3:
        return rng_below(rng, 200);
    case 4:
        return rng_below(rng, 1024);
    case 5: /* near the end of a sector or block */
        return choose_sectors_end(rng);
    case 6:
        return rng_below(rng, 5000);
    default:
        return rng_below(rng, max_bytes + 1);
    }
}

static size_t choose_size(const struct history *history, struct rng *rng, size_t max_bytes)
{
    const bool has_usual = history->usual_bytes > 0;

    if (has_usual && !rng_one_in(rng, 16))
        return (size_t)min_u64(history->usual_bytes, max_bytes);
    return (size_t)min_u64(choose_new_size(rng, max_bytes), max_bytes);
}

static void stamp_payload(struct fact *fact, const struct history *history, uint64_t lsn)
{
    const struct stamp stamp = { history->writer, lsn, history->generation, fact->size };
    struct rng rng = { history->writer ^ rng_mix(lsn) ^ rng_mix(~history->generation) };

    rng_fill(&rng, fact->data, fact->size);
    memcpy(fact->data, &stamp, min_u64(fact->size, sizeof(stamp)));
}

/* One payload in eight is zeros, one ends with zeros, two are a copy of what is on the disk. */
static void confuse_payload(struct fact *fact, const struct simdisk *disk, struct rng *rng)
{
    size_t zeros = 0;

    switch (rng_below(rng, 8)) {
    case 0:
        zeros = fact->size;
        break;
    case 1:
        zeros = rng_below(rng, fact->size + 1);
        break;
    case 2:
    case 3:
        simdisk_sample(disk, rng, fact->data, fact->size);
        break;
    default:
        break;
    }
    memset(fact->data + fact->size - zeros, 0, zeros);
}

struct fact history_make_sized(const struct history *history, const struct simdisk *disk, struct rng *rng,
                               size_t size)
{
    const uint64_t lsn = history_last(history) + 1 + history->offers;
    struct fact fact = { .size = size, .time_ns = simdisk_clock(disk) };

    fact.data = sim_allocate(fact.size + 1);
    stamp_payload(&fact, history, lsn);
    confuse_payload(&fact, disk, rng);
    return fact;
}

struct fact history_make(const struct history *history, const struct simdisk *disk, struct rng *rng,
                         size_t max_bytes)
{
    return history_make_sized(history, disk, rng, choose_size(history, rng, max_bytes));
}

/* Does a payload end with a zero? Then more zeros may follow it in its sector. */
static bool ends_with_zero(const struct fact *fact)
{
    return fact->size > 0 && fact->data[fact->size - 1] == 0;
}

/* May a sector be all zeros in which there is something of it? */
static bool may_fill_sector_with_zeros(const struct fact *fact)
{
    size_t zeros = 0;

    for (size_t i = 0; i < fact->size; ++i) {
        if (fact->data[i] != 0)
            zeros = 0;
        else
            ++zeros;
        if (zeros >= SECTOR_BYTES)
            return true;
    }
    return ends_with_zero(fact);
}

bool history_has_zeros(const struct history *history, uint64_t first, uint64_t last)
{
    for (uint64_t lsn = first; lsn <= last; ++lsn) {
        const struct fact *fact = history_fact(history, lsn);
        const bool has_payload = fact && !fact->is_void;
        if (has_payload && may_fill_sector_with_zeros(fact))
            return true;
    }
    return false;
}

/* ---- judging ------------------------------------------------------------------------------------- */

static bool is_same_payload(const struct fact *fact, const struct twinlog_record *record)
{
    if (fact->size != record->size)
        return false;
    return fact->size == 0 || memcmp(fact->data, record->data, fact->size) == 0;
}

/* LSN of a record that has this payload; 0: there is none. */
static uint64_t find_payload(const struct history *history, const struct twinlog_record *record)
{
    for (uint64_t lsn = history->head; lsn <= history_last(history); ++lsn) {
        const struct fact *fact = history_fact(history, lsn);
        if (fact && is_same_payload(fact, record))
            return lsn;
    }
    return 0;
}

/* The one in which that writer wrote; NULL: it is none of these. */
static const struct history *find_writer(const struct history *history, uint64_t writer)
{
    while (history && history->writer != writer)
        history = history->past;
    return history;
}

/* What a wrong record is, for a person to find out. */
static const char *describe(const struct history *history, const struct twinlog_record *record)
{
    static char text[160];
    struct stamp stamp = { 0, 0, 0, 0 };

    const uint64_t lsn = record->size >= 8 ? find_payload(history, record) : 0;
    if (lsn > 0) {
        snprintf(text, sizeof(text), "it is that of LSN %" PRIu64, lsn);
        return text;
    }

    if (record->size < sizeof(stamp))
        return "too short to tell its writer";
    memcpy(&stamp, record->data, sizeof(stamp));
    const struct history *written_in = find_writer(history, stamp.writer);
    if (!written_in)
        return "its payload is unknown";

    snprintf(text, sizeof(text),
             "it was made as LSN %" PRIu64 " with %" PRIu64 " bytes, in generation %" PRIu64
             " (now it is %" PRIu64 "), %s",
             stamp.lsn, stamp.size, stamp.generation, written_in->generation,
             written_in->past ? "after a recovery" : "before any crash");
    return text;
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

static bool may_be_void(const struct history *history, uint64_t lsn)
{
    const bool is_open = history->open_from > 0 && lsn >= history->open_from;
    return is_open || is_void(history, lsn);
}

bool history_may_skip(const struct history *history, uint64_t first, uint64_t end)
{
    for (uint64_t lsn = first; lsn < end; ++lsn) {
        if (!may_be_void(history, lsn))
            return false;
    }
    return true;
}

uint64_t history_check_rest(const struct history *history, struct twinlog_reader *reader, uint64_t next,
                            const char *name, uint64_t *ret_sure)
{
    struct twinlog_record record;
    int result = 0;

    *ret_sure = next - 1;
    while ((result = twinlog_reader_next(reader, &record)) == 1) {
        const uint64_t expected = history_next(history, next);
        const bool is_expected = record.lsn == expected;
        const bool is_sure_so_far = *ret_sure == next - 1;
        if (is_expected && is_sure_so_far)
            *ret_sure = record.lsn;

        const bool may_be_next =
            is_expected || (record.lsn >= next && history_may_skip(history, next, record.lsn));
        if (!may_be_next)
            violation("O2: %s returned LSN %" PRIu64 " where %" PRIu64 " was next", name, record.lsn,
                      expected);
        history_check(history, &record, name);
        next = record.lsn + 1;
    }
    if (result < 0)
        violation("%s failed at LSN %" PRIu64 ": %s", name, next, twinlog_strerror(result));
    return next - 1;
}

/* From now on what is known of the records from `first` on is known here, not in the past. */
static void own_from(struct history *history, uint64_t first)
{
    const uint64_t last = history_last(history);
    if (first >= history->start || first > last)
        return;

    const size_t inherited = (size_t)(history->start - first);
    struct fact *fact = sim_allocate((history->facts + inherited) * sizeof(*fact));
    for (size_t i = 0; i < inherited; ++i)
        fact[i] = history_copy_fact(history_fact(history, first + i));
    if (history->facts > 0)
        memcpy(fact + inherited, history->fact, history->facts * sizeof(*fact));

    free(history->fact);
    history->fact = fact;
    history->facts += inherited;
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

static void make_void(struct history *history, uint64_t lsn)
{
    struct fact *fact = &history->fact[lsn - history->start];
    if (fact->is_void)
        return;
    fact->is_void = true;
    fact->size = 0;
}

void history_settle_voids(struct history *history, struct twinlog_reader *reader, uint64_t head,
                          uint64_t last)
{
    struct twinlog_record record = { 0 };
    const uint64_t first = max_u64(history->open_from, head);
    int result = 1;

    own_from(history, first);
    for (uint64_t lsn = first; lsn <= last; ++lsn) {
        while (result == 1 && record.lsn < lsn)
            result = next_from_head(reader, &record);
        if (result < 0)
            violation("reading behind LSN %" PRIu64 " failed: %s", lsn, twinlog_strerror(result));

        const bool is_returned = record.lsn == lsn;
        if (!is_returned)
            make_void(history, lsn);
    }
    history->open_from = 0;
}

static bool is_earlier(const struct history *history, uint64_t lsn, int64_t time_ns)
{
    const struct fact *fact = history_fact(history, lsn);
    return fact->time_ns < time_ns;
}

uint64_t history_find_time(const struct history *history, uint64_t from, uint64_t to, int64_t time_ns)
{
    uint64_t lsn = from;
    while (lsn <= to && (is_void(history, lsn) || is_earlier(history, lsn, time_ns)))
        ++lsn;
    return lsn;
}
