/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flips bits of a closed log, one at a time, and asks verify, inspect and a reader (O7), whatever the page of
 * writer.lock says of where a walk may begin:
 *  - a reader returns exact records in order, from the first on, and then either the rest or an error;
 *  - a flip in a record, or in a header that is needed, is TWINLOG_ECORRUPT for verify, with the file and an LSN, and
 *    the reader stops at that LSN or before;
 *  - a flip in a footer, an index, a second header or the state file is told, and loses nothing; nor does any other;
 *  - where verify is content, inspect finds the same end with each of these hints.
 */
#define _GNU_SOURCE
#include "random.h"

#include "control/shared_page.h"
#include "format/format.h"
#include "twinlog_admin.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum cover {
    FREE,    /* nothing depends on it */
    COVERED, /* acknowledged, and a later marker says so */
    SPOKEN,  /* no record depends on it, but it has a checksum */
    EITHER,  /* removed, but beside what is kept; or a header without which the group is open again */
};

static enum cover cover_in_state(const struct file *file, uint64_t offset)
{
    const uint64_t at = offset % (file->size / 2);
    return at < twl_state_slot_need(file->bytes + offset - at) ? SPOKEN : FREE;
}

static enum cover cover_in_group(const struct facts *facts, const struct mark *mark, uint64_t offset)
{
    const struct layout *layout = facts->layout;
    const uint64_t head_lsn = facts->history->first_lsn;
    const bool is_marker = mark->last_lsn < mark->first_lsn;
    const bool is_removed = mark->last_lsn + is_marker < head_lsn;
    const bool is_at_head = is_marker && mark->first_lsn == head_lsn && head_lsn > 1;
    const bool is_last =
        mark == &layout->marks[layout->mark_count - 1]; /* no later one says that it was there */
    if (is_removed || is_last)
        return FREE;
    if (offset < mark->offset + GROUP_HEADER_BYTES)
        return mark->has_been_open || is_at_head ? EITHER : COVERED;
    for (unsigned i = 0; i < layout->place_count; i++) {
        const struct place *place = &layout->places[i];
        if (place->file == mark->file && offset >= place->offset && offset < place->end)
            return COVERED;
    }
    return EITHER;
}

static enum cover cover_of(const struct facts *facts, unsigned file, uint64_t offset)
{
    const struct layout *layout = facts->layout;
    if (strcmp(facts->before->list[file].name, "state") == 0)
        return cover_in_state(&facts->before->list[file], offset);
    if (offset < HEADER_SECTOR_BYTES)
        return COVERED;
    for (unsigned i = 0; i < layout->mark_count; i++) {
        const struct mark *mark = &layout->marks[i];
        if (mark->file == file && offset >= mark->offset && offset < mark->end)
            return cover_in_group(facts, mark, offset);
    }
    for (unsigned i = 0; i < layout->spoken_count; i++) {
        const struct spoken *spoken = &layout->spoken[i];
        if (spoken->file == file && offset >= spoken->offset && offset < spoken->end)
            return SPOKEN;
    }
    return FREE;
}

/* ---- hints ---------------------------------------------------------------------------------------- */

enum hint {
    HINT_NONE,    /* there is no page */
    HINT_RIGHT,   /* as the writer has left it */
    HINT_STALE,   /* the first group of the segment */
    HINT_WRONG,   /* the middle of a record */
    HINT_HOSTILE, /* anything */
    HINTS
};

static void set_hint(const char *dir, const struct file *page, enum hint hint, uint64_t flips)
{
    const uint64_t any = (flips + 1) * UINT64_C(0x9e3779b97f4a7c15);
    const uint64_t places[HINTS] = { [HINT_STALE] = SEGMENT_DATA_OFFSET,
                                     [HINT_WRONG] = OPEN_RECORDS_OFFSET + flips % 100 * 8,
                                     [HINT_HOSTILE] =
                                         flips % 4 == 0 ? any : (any >> 40) % 65536 & ~UINT64_C(7) };
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", dir, PAGE_FILE_NAME);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    must(fd >= 0 && ftruncate(fd, 0) == 0, "open the page");
    must(hint == HINT_NONE || pwrite(fd, page->bytes, page->size, 0) == (ssize_t)page->size,
         "write the page");
    if (hint >= HINT_STALE)
        must(pwrite(fd, (uint64_t[]){ places[hint], places[hint] }, 2 * sizeof(uint64_t),
                    offsetof(struct page_words, noted_group)) == 2 * sizeof(uint64_t),
             "write a hint");
    close(fd);
}

/* ---- what is said of a flip ----------------------------------------------------------------------- */

struct found {
    int result;
    unsigned damages, others;
    uint64_t first_lsn;
    char file[64];
};

static int note(void *context, const struct twinlog_report *report)
{
    struct found *found = context;
    found->others += report->error == 0;
    found->damages += report->error != 0;
    if (report->error != 0 && found->damages == 1) {
        found->first_lsn = report->first_lsn;
        memcpy(found->file, report->file, sizeof(found->file));
    }
    return 0;
}

static const char *judge_sound(const struct facts *facts, const struct found *found, enum cover cover,
                               const char *dir)
{
    if (cover == COVERED)
        return "verify did not see it";
    if (cover == SPOKEN && found->others == 0)
        return "verify says nothing of it";
    return read_cursor(dir) == facts->cursor_lsn ? NULL : "the cursor is lost";
}

static const char *judge_damage(const struct facts *facts, const struct found *found, enum cover cover,
                                const char *file, uint64_t offset)
{
    if (found->result != TWINLOG_ECORRUPT && found->result != TWINLOG_EFOREIGN &&
        found->result != TWINLOG_EVERSION)
        return "verify failed";
    if (found->damages == 0 || strcmp(found->file, file) != 0)
        return "the report names no file, or another one";
    if (cover == FREE || cover == SPOKEN)
        return "verify says damage, and there is none";
    if (offset >= SEGMENT_DATA_OFFSET &&
        (found->first_lsn == 0 || found->first_lsn > facts->history->last_lsn + 1))
        return "the report has no possible LSN";
    return NULL;
}

/* An exact prefix, as far as the damage: a marker without records may be passed over. */
static const char *judge_reader(const struct facts *facts, const struct found *found, const struct seen *seen,
                                int error, uint64_t offset)
{
    const struct history *h = facts->history;
    const unsigned all = facts->layout->place_count;
    for (unsigned i = 0; i < seen->count; i++)
        if (i >= all || seen->records[i].lsn != facts->layout->places[i].lsn ||
            seen->records[i].number != h->number[seen->records[i].lsn])
            return "a wrong record was returned";
    if (found->result == 0 && (seen->count != all || error != 0))
        return "a reader stopped although verify is content";
    if (found->result != 0 && offset >= SEGMENT_DATA_OFFSET && seen->count != all &&
        (error != TWINLOG_ECORRUPT || h->first_lsn + seen->count < found->first_lsn))
        return "a reader stopped in front of the damage";
    return NULL;
}

static const char *check_flip(const char *dir, const struct facts *facts, const struct file *page,
                              unsigned file, uint64_t offset, uint64_t flips)
{
    static struct seen seen;
    const struct history *h = facts->history;
    const enum cover cover = cover_of(facts, file, offset);
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_inspection ends[2] = { TWINLOG_INSPECTION_INIT, TWINLOG_INSPECTION_INIT };
    struct found found = { 0 };
    options.each = note;
    options.context = &found;
    found.result = twinlog_verify(dir, &options, NULL);
    const char *wrong = found.result == 0
                            ? judge_sound(facts, &found, cover, dir)
                            : judge_damage(facts, &found, cover, facts->before->list[file].name, offset);
    for (unsigned i = 0; !wrong && i < 2; i++) {
        set_hint(dir, page, i == 0 ? HINT_NONE : (enum hint)(1 + flips % (HINTS - 1)), flips);
        seen.count = 0;
        const int error = read_records(dir, &seen);
        wrong = judge_reader(facts, &found, &seen, error, offset);
        const int looked = twinlog_inspect(dir, &ends[i]);
        if (!wrong && looked == 0 && ends[i].report.error == 0 && ends[i].last_lsn != h->last_lsn)
            wrong = "opening would silently end elsewhere";
    }
    if (!wrong && found.result == 0 && ends[0].report.finding != ends[1].report.finding)
        wrong = "a hint has changed the end";
    return wrong;
}

const char *try_bits(const char *dir, const struct facts *facts, const unsigned *steps, uint64_t *flips,
                     char *ret_words, size_t size)
{
    static const unsigned char zeros[HEADER_SECTOR_BYTES];
    struct files page;
    const char *wrong = NULL;
    load_page(dir, &page);
    for (unsigned i = 0; i < facts->before->count; i++) {
        const struct file *file = &facts->before->list[i];
        char path[600];
        snprintf(path, sizeof(path), "%s/%s", dir, file->name);
        const int fd = open(path, O_RDWR | O_CLOEXEC);
        for (uint64_t bit = steps[1]; !wrong && bit < (uint64_t)file->size * 8; bit += steps[0]) {
            const uint64_t offset = bit / 8, sector = offset / sizeof(zeros) * sizeof(zeros);
            const unsigned char flipped = file->bytes[offset] ^ (unsigned char)(1u << bit % 8);
            if (memcmp(file->bytes + sector, zeros, sizeof(zeros)) == 0)
                continue;
            must(pwrite(fd, &flipped, 1, (off_t)offset) == 1, "flip a bit");
            wrong = check_flip(dir, facts, &page.list[0], i, offset, ++*flips);
            must(pwrite(fd, &file->bytes[offset], 1, (off_t)offset) == 1, "flip a bit back");
            if (wrong)
                snprintf(ret_words, size, "bit %" PRIu64 " of byte %" PRIu64 " of %s", bit % 8, offset,
                         file->name);
        }
        close(fd);
    }
    free_files(&page);
    return wrong;
}
