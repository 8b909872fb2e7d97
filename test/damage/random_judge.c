/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What verify and repair make of a damaged log, and whether that is honest.
 *
 * A record is whole if none of its bytes has changed. Its loss is provable if something that has not changed says that
 * it was durable: a group behind it, in a file with a header, or a cursor. What is not provable may be lost without a
 * word, as docs/recovery.md says.
 */
#include "random.h"

#include "format/format.h"
#include "twinlog_admin.h"

#include <string.h>

/* ---- looking -------------------------------------------------------------------------------------- */

static int keep_loss(void *context, const struct twinlog_report *report)
{
    struct seen *seen = context;
    seen->losses++;
    if (report->first_lsn == 0 || report->last_lsn < report->first_lsn)
        seen->has_loss_without_lsn = true;
    else if (seen->lost_count < MAX_LOSSES) {
        seen->lost[seen->lost_count].first_lsn = report->first_lsn;
        seen->lost[seen->lost_count++].last_lsn = report->last_lsn;
    }
    return 0;
}

static uint32_t number_of(const struct twinlog_record *record)
{
    unsigned char bytes[MAX_PAYLOAD];
    uint32_t number = 0;
    if (record->size >= 12)
        memcpy(&number, (const unsigned char *)record->data + 8, sizeof(number));
    const bool is_it = number > 0 && record->size == make_payload(record->lsn, number, bytes) &&
                       memcmp(bytes, record->data, record->size) == 0;
    return is_it ? number : 0;
}

int read_records(const char *dir, struct seen *seen)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int rc = twinlog_reader_open(dir, NULL, &reader);
    if (rc < 0)
        return rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        must(seen->count < MAX_LSN, "keep so many records");
        seen->records[seen->count].lsn = record.lsn;
        seen->records[seen->count++].number = number_of(&record);
    }
    twinlog_reader_close(reader);
    return rc;
}

uint64_t read_cursor(const char *dir)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    uint64_t lsn;
    options.flags = TWINLOG_READ_ONLY;
    if (twinlog_open(dir, &options, &log) != 0)
        return UINT64_MAX;
    if (twinlog_cursor_get(log, "consumer", &lsn) != 0)
        lsn = UINT64_MAX;
    twinlog_close(log);
    return lsn;
}

void look(const char *dir, const char *repaired, struct seen *ret_seen)
{
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    *ret_seen = (struct seen){ .verified = twinlog_verify(dir, NULL, NULL) };
    options.each = keep_loss;
    options.context = ret_seen;
    remove_directory(repaired);
    ret_seen->repaired = twinlog_repair(dir, repaired, &options, NULL);
    if (ret_seen->repaired != 0)
        return;
    ret_seen->checked = twinlog_verify(repaired, NULL, NULL);
    const int rc = read_records(repaired, ret_seen);
    must(rc == 0 || rc == -2 || ret_seen->checked != 0,
         "read what was repaired"); /* -ENOENT: nothing was left */
    ret_seen->cursor_lsn = read_cursor(repaired);
}

/* ---- what is left --------------------------------------------------------------------------------- */

static bool is_same(const struct facts *facts, unsigned file, uint64_t from, uint64_t to)
{
    const struct file *before = &facts->before->list[file], *after = &facts->after->list[file];
    return after->bytes && after->size >= to && before->size >= to &&
           memcmp(before->bytes + from, after->bytes + from, (size_t)(to - from)) == 0;
}

/* Both headers of every file say the same, so one is enough. The second one is found at the end of the file. */
static bool has_header(const struct facts *facts, unsigned file)
{
    const struct file *before = &facts->before->list[file], *after = &facts->after->list[file];
    const uint64_t end = before->size - BLOCK_BYTES + 2 * FOOTER_SECTOR_BYTES;
    struct segment_header header;
    if (is_same(facts, file, 0, HEADER_SECTOR_BYTES))
        return true;
    if (twl_segment_header_decode(before->bytes, &header) != HEADER_VALID)
        return false;
    if (segment_is_mapped(&header))
        return is_same(facts, file, SEGMENT_HEADER_BYTES - HEADER_SECTOR_BYTES, SEGMENT_HEADER_BYTES);
    return before->size == after->size && is_same(facts, file, end - HEADER_SECTOR_BYTES, end);
}

static bool is_whole(const struct facts *facts, const struct place *place)
{
    return is_same(facts, place->file, place->offset, place->end);
}

static bool proves(const struct facts *facts, const struct mark *mark, uint64_t lsn)
{
    const bool says =
        mark->durable_lsn >= lsn || (mark->first_lsn > lsn && mark->durable_lsn == mark->first_lsn - 1);
    return says && is_same(facts, mark->file, mark->offset, mark->offset + GROUP_HEADER_BYTES) &&
           has_header(facts, mark->file);
}

static bool is_state_same(const struct facts *facts)
{
    for (unsigned i = 0; i < facts->before->count; i++)
        if (strcmp(facts->before->list[i].name, "state") == 0)
            return is_same(facts, i, 0, facts->before->list[i].size);
    return false;
}

/* Is something left that says that the record was durable? */
static bool is_proved(const struct facts *facts, uint64_t lsn)
{
    for (unsigned i = 0; i < facts->layout->mark_count; i++)
        if (proves(facts, &facts->layout->marks[i], lsn))
            return true;
    return facts->history->cursor_lsn >= lsn && is_state_same(facts);
}

static bool is_file_gone(const struct facts *facts)
{
    for (unsigned i = 0; i < facts->after->count; i++)
        if (!facts->after->list[i].bytes)
            return true;
    return false;
}

static bool has_segments(const struct facts *facts)
{
    for (unsigned i = 0; i < facts->after->count; i++)
        if (facts->after->list[i].bytes && strcmp(facts->after->list[i].name, "state") != 0)
            return true;
    return false;
}

/* A truncation is the existence of its segment: without it the log is what it was before. */
static bool may_forget(const struct facts *facts)
{
    return facts->history->was_truncated && is_file_gone(facts);
}

/* ---- the verdict ---------------------------------------------------------------------------------- */

static bool is_told(const struct seen *seen, uint64_t lsn)
{
    for (unsigned i = 0; i < seen->lost_count; i++)
        if (lsn >= seen->lost[i].first_lsn && lsn <= seen->lost[i].last_lsn)
            return true;
    return seen->has_loss_without_lsn;
}

static bool is_right(const struct history *h, uint64_t lsn, uint32_t number)
{
    return lsn >= h->first_lsn && lsn <= h->last_lsn && h->number[lsn] == number;
}

/* The record of this LSN in what was repaired; NULL = there is none. */
static const uint32_t *find_number(const struct seen *seen, uint64_t lsn)
{
    size_t low = 0, high = seen->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (seen->records[middle].lsn < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low < seen->count && seen->records[low].lsn == lsn ? &seen->records[low].number : NULL;
}

static bool is_kept(const struct facts *facts, const struct seen *seen, uint64_t lsn)
{
    const uint32_t *number = find_number(seen, lsn);
    return number && is_right(facts->history, lsn, *number);
}

static const char *judge_records(const struct facts *facts, const struct seen *seen, uint64_t *ret_lsn)
{
    for (unsigned i = 0; i < seen->count; i++) {
        *ret_lsn = seen->records[i].lsn;
        if (i > 0 && *ret_lsn <= seen->records[i - 1].lsn)
            return "records are out of order";
        if (seen->records[i].number == 0)
            return "a record came that was never appended";
        if (!is_right(facts->history, *ret_lsn, seen->records[i].number) && seen->losses == 0 &&
            !may_forget(facts))
            return "a record came back that was removed, and nothing was told";
    }
    return NULL;
}

static const char *judge_losses(const struct facts *facts, const struct seen *seen, uint64_t *ret_lsn)
{
    const struct layout *layout = facts->layout;
    bool has_ended = false;
    for (unsigned i = 0; i < layout->place_count; i++) {
        const struct place *place = &layout->places[i];
        const bool is_there = is_kept(facts, seen, place->lsn);
        *ret_lsn = place->lsn;
        if (is_there && has_ended && seen->losses == 0)
            return "records are missing in the middle, and nothing was told";
        has_ended = has_ended || !is_there;
        if (may_forget(facts) && find_number(seen, place->lsn))
            continue;
        if (is_there || !is_proved(facts, place->lsn))
            continue;
        if (seen->repaired == 0 && !is_told(seen, place->lsn))
            return is_whole(facts, place) ? "a whole record is lost, and that was not told"
                                          : "an acknowledged record is lost, and that was not told";
        if (seen->verified == 0 && !is_whole(facts, place))
            return "verify says sound, and an acknowledged record is gone";
        if (seen->verified == 0)
            return "verify says sound, and repair has lost a whole record";
    }
    return NULL;
}

const char *judge(const struct facts *facts, const struct seen *seen, uint64_t *ret_lsn)
{
    *ret_lsn = 0;
    if (seen->verified == -2 && seen->repaired == -2 &&
        !has_segments(facts)) /* -ENOENT: as if it had just been made */
        return NULL;
    if (seen->verified != 0 && seen->verified != TWINLOG_ECORRUPT && seen->verified != TWINLOG_EFOREIGN)
        return "verify failed";
    if (seen->repaired != 0 && seen->repaired != TWINLOG_ECORRUPT && seen->repaired != TWINLOG_EFOREIGN)
        return "repair failed";
    if (seen->verified == 0 && (seen->repaired != 0 || seen->losses > 0))
        return "verify says sound, and repair tells of losses";
    if (seen->repaired != 0)
        return NULL;
    if (seen->checked != 0)
        return "what repair left is not sound";
    const char *wrong = judge_records(facts, seen, ret_lsn);
    return wrong ? wrong : judge_losses(facts, seen, ret_lsn);
}

/* A record checks with numbers of its epoch, which only headers of groups have. */
static bool is_epoch_known(const struct facts *facts, uint32_t epoch)
{
    for (unsigned i = 0; i < facts->layout->mark_count; i++) {
        const struct mark *mark = &facts->layout->marks[i];
        if (mark->epoch == epoch &&
            is_same(facts, mark->file, mark->offset, mark->offset + GROUP_HEADER_BYTES))
            return true;
    }
    return false;
}

bool is_end_proved(const struct facts *facts)
{
    const struct layout *layout = facts->layout;
    return layout->place_count > 0 && is_proved(facts, layout->places[layout->place_count - 1].lsn);
}

const char *judge_one_place(const struct facts *facts, const struct seen *seen, uint64_t *ret_lsn)
{
    uint64_t lost = 0, told = 0;
    const unsigned count = facts->layout->place_count;
    for (unsigned i = 0; i < count; i++) {
        const struct place *place = &facts->layout->places[i];
        const bool whole = is_whole(facts, place) && is_epoch_known(facts, place->epoch);
        *ret_lsn = place->lsn;
        if (is_kept(facts, seen, place->lsn) != whole)
            return whole ? "a whole record is lost" : "a damaged record came back";
        if (!whole && !is_told(seen, place->lsn))
            return "a damaged record is lost, and that was not told";
        lost += !whole;
    }
    *ret_lsn = 0;
    for (unsigned i = 0; i < seen->lost_count; i++)
        told += seen->lost[i].last_lsn - seen->lost[i].first_lsn + 1;
    if (told != lost)
        return "another number of records is told lost";
    if (seen->count + lost != count)
        return "records came that are not of this log";
    return seen->cursor_lsn == facts->cursor_lsn ? NULL : "the cursor is lost";
}

/* ---- lies ----------------------------------------------------------------------------------------- */

static void say_nothing(struct seen *seen)
{
    seen->losses = seen->lost_count = 0;
    seen->has_loss_without_lsn = false;
}

/* The last record that is kept and proved: its index; -1 = there is none. */
static int find_proved(const struct facts *facts, const struct seen *seen)
{
    for (unsigned i = seen->count; i-- > 0;)
        if (is_right(facts->history, seen->records[i].lsn, seen->records[i].number) &&
            is_proved(facts, seen->records[i].lsn))
            return (int)i;
    return -1;
}

static bool drop_one(const struct facts *facts, struct seen *seen)
{
    const int at = find_proved(facts, seen);
    if (at < 0)
        return false;
    say_nothing(seen);
    seen->count--;
    memmove(&seen->records[at], &seen->records[at + 1],
            (seen->count - (unsigned)at) * sizeof(seen->records[0]));
    return true;
}

static bool drop_all(const struct facts *facts, struct seen *seen)
{
    if (find_proved(facts, seen) < 0)
        return false;
    say_nothing(seen);
    seen->count = 0;
    return true;
}

static bool change_one(const struct facts *facts, struct seen *seen)
{
    (void)facts;
    if (seen->count == 0)
        return false;
    seen->records[seen->count / 2].number = 0;
    return true;
}

static bool bring_back_one(const struct facts *facts, struct seen *seen)
{
    const uint64_t lsn = facts->history->last_lsn + 1;
    if (seen->count == MAX_LSN || may_forget(facts) ||
        (seen->count > 0 && seen->records[seen->count - 1].lsn >= lsn))
        return false;
    say_nothing(seen);
    seen->records[seen->count].lsn = lsn;
    seen->records[seen->count++].number = 1;
    return true;
}

static bool keep_silent(const struct facts *facts, struct seen *seen)
{
    bool is_lost = false;
    for (unsigned i = 0; !is_lost && !may_forget(facts) && i < facts->layout->place_count; i++)
        is_lost = !is_kept(facts, seen, facts->layout->places[i].lsn) &&
                  is_proved(facts, facts->layout->places[i].lsn);
    say_nothing(seen);
    return is_lost;
}

static bool say_sound(const struct facts *facts, struct seen *seen)
{
    (void)facts;
    const bool is_lie = seen->verified != 0 && seen->losses > 0;
    seen->verified = 0;
    return is_lie;
}

static bool leave_damage(const struct facts *facts, struct seen *seen)
{
    (void)facts;
    seen->checked = TWINLOG_ECORRUPT;
    return true;
}

const char *try_lies(const struct facts *facts, const struct seen *seen, unsigned long *tried)
{
    static const struct {
        bool (*tell)(const struct facts *facts, struct seen *seen);
        const char *words;
    } lies[] = {
        { drop_one, "the judge believes that a proved record was not there" },
        { drop_all, "the judge believes that no record was there" },
        { change_one, "the judge believes a changed record" },
        { bring_back_one, "the judge believes a record that was removed" },
        { keep_silent, "the judge does not miss what was not told" },
        { say_sound, "the judge believes verify whatever it says" },
        { leave_damage, "the judge accepts a repaired log that is damaged" },
    };
    uint64_t lsn;
    if (seen->repaired != 0)
        return NULL;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        static struct seen lie;
        lie = *seen;
        if (!lies[i].tell(facts, &lie))
            continue;
        ++*tried;
        if (!judge(facts, &lie, &lsn))
            return lies[i].words;
    }
    return NULL;
}
