/* SPDX-License-Identifier: Apache-2.0 */
/* See source.h. */
#define _GNU_SOURCE
#include "source.h"

#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <twinlog_admin.h>

#define SOURCE_BYTES 128u

int load_source(struct twinlog *log, struct source *source)
{
    char text[SOURCE_BYTES];

    int error = load_text(log, source->name, text, sizeof(text));
    if (error == -ENOENT)
        return 0;
    if (error)
        return error;

    if (sscanf(text, "%32[0-9a-f] %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu64, source->id,
               &source->before.salt, &source->before.epoch, &source->now.salt, &source->now.epoch,
               &source->lsn) == 6)
        return 0;
    return -EEXIST;
}

/* A log that ends further in front was truncated since then. */
static struct noted find_noted(const struct source *source, uint64_t last_lsn, uint64_t lsn)
{
    if (lsn >= source->lsn)
        return source->now;
    if (lsn == last_lsn && lsn + 1 == source->lsn)
        return source->before;
    return (struct noted){ 0 };
}

/* An opening and a truncation begin another epoch, and behind both another record comes next than was expected. */
static int find_epoch(struct twinlog *log, struct source *source, uint64_t lsn)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;

    int error = 0;
    if (lsn != source->next_lsn)
        error = twinlog_stat(log, &stat);
    if (!error && lsn != source->next_lsn)
        source->epoch = stat.epoch;
    source->next_lsn = 0;
    if (!error)
        source->next_lsn = lsn + 1;
    return error;
}

int note_source(struct twinlog *log, struct source *source, const char *id, uint32_t salt, uint64_t lsn)
{
    char text[SOURCE_BYTES];
    const bool is_same_log = strcmp(source->id, id) == 0;

    int error = find_epoch(log, source, lsn);
    const bool is_same_epoch = source->now.salt == salt && source->now.epoch == source->epoch;
    if (!error && is_same_log && is_same_epoch && lsn >= source->lsn)
        return 0;
    if (!error)
        error = twinlog_sync(log); /* so that a crash goes back behind no other change */
    if (error)
        return error;

    if (is_same_log)
        source->before = find_noted(source, lsn - 1, lsn - 1);
    else
        source->before = (struct noted){ 0 };
    source->now = (struct noted){ salt, source->epoch };
    source->lsn = lsn;
    snprintf(source->id, sizeof(source->id), "%s", id);
    int length = snprintf(text, sizeof(text), "%s %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64,
                          id, source->before.salt, source->before.epoch, salt, source->epoch, lsn);
    return twinlog_meta_set(log, source->name, text, (size_t)length);
}

/* A segment may be read for that: so it is asked once for records of one epoch. */
static void ask(struct twinlog *log, struct source *source, const struct twinlog_record *record)
{
    struct twinlog_history history = TWINLOG_HISTORY_INIT;
    struct twinlog_reader *reader = NULL;

    if (source->asked.epoch > 0 && source->asked.salt == record->salt)
        return;

    int error = twinlog_reader_attach(log, NULL, &reader);
    if (!error)
        error = twinlog_reader_history(reader, record->lsn, &history);
    twinlog_reader_close(reader);
    source->asked = (struct noted){ 0 };
    if (error)
        return;

    source->asked = (struct noted){ record->salt, history.epoch };
    for (size_t i = 0; i < sizeof(history.log_id); i++)
        snprintf(source->own_id + 2 * i, 3, "%02x", history.log_id[i]);
}

static bool has_epoch(struct twinlog *log, struct source *source, const struct twinlog_record *record,
                      uint32_t epoch)
{
    ask(log, source, record);
    return epoch > 0 && source->asked.epoch == epoch;
}

enum agreement judge_record(struct twinlog *log, struct source *source, const char *id, uint32_t salt,
                            const struct twinlog_record *record)
{
    const struct noted noted = find_noted(source, twinlog_last_lsn(log), record->lsn);

    if (!id[0])
        return AGREEMENT_UNKNOWN;
    if (strcmp(source->id, id) == 0 && has_epoch(log, source, record, noted.epoch)) {
        if (noted.salt == salt)
            return AGREEMENT_PROVED;
        return AGREEMENT_DENIED;
    }

    ask(log, source, record);
    if (record->salt == salt && strcmp(source->own_id, id) == 0)
        return AGREEMENT_PROVED;
    return AGREEMENT_UNKNOWN;
}

enum agreement judge_origin(struct twinlog *log, struct source *source, const struct origin *origin,
                            const struct twinlog_record *record)
{
    if (origin->lsn != record->lsn)
        return AGREEMENT_UNKNOWN;
    return judge_record(log, source, origin->id, origin->salt, record);
}

/* After a crash the value may be ahead by one record: then it is the last one. */
void find_origin(struct twinlog *log, struct source *source, uint64_t from_lsn, struct origin *ret_origin)
{
    const uint64_t last_lsn = twinlog_last_lsn(log);
    uint64_t lsn = max_u64(from_lsn, source->lsn);
    struct twinlog_record record;

    *ret_origin = (struct origin){ 0 };
    if (!source->id[0] || last_lsn == 0)
        return;

    if (lsn == last_lsn + 1)
        lsn = last_lsn;
    const struct noted noted = find_noted(source, last_lsn, lsn);
    const int error = twinlog_read(log, lsn, NULL, 0, &record);
    if ((error && error != -ENOBUFS) || !has_epoch(log, source, &record, noted.epoch))
        return;

    ret_origin->salt = noted.salt;
    ret_origin->lsn = lsn;
    memcpy(ret_origin->id, source->id, sizeof(source->id));
}

bool ends_in_source(struct twinlog *log, struct source *source, uint32_t salt, uint64_t lsn)
{
    const uint64_t last_lsn = twinlog_last_lsn(log);
    const struct noted noted = find_noted(source, last_lsn, last_lsn);
    struct twinlog_record record = { .lsn = lsn };

    for (uint64_t behind = lsn + 1; behind <= last_lsn; behind++) {
        const int error = twinlog_read(log, behind, NULL, 0, &record);
        if (!is_no_record(error))
            return false;
    }

    if (noted.salt != salt || last_lsn + 1 == source->next_lsn)
        return noted.salt == salt;

    record.lsn = lsn;
    source->asked.epoch = 0;
    return has_epoch(log, source, &record, noted.epoch);
}
