/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flips every bit of small, closed logs of several segments, one at a time, and looks at them with everything that
 * reads: verify, inspect and a reader (O7); for repair see random.c. One log is plain; the other one was truncated and
 * trimmed, and has recycled, retired and spare files.
 *
 * What must hold for each flip, whatever the page of writer.lock says of where a walk may begin:
 *  - a reader returns exact records in order, from the first on, and then either the rest or an error;
 *  - a flip in what is acknowledged and covered by a later marker is TWINLOG_ECORRUPT for verify, with
 *    the segment and an LSN that is not beyond the flip, and the reader stops at that LSN or before;
 *  - a flip in a footer, an index or the state file is told, and loses nothing;
 *  - a flip in what was removed from the head, or anywhere else, loses no record;
 *  - where verify is content, inspect finds the same end with each of these hints.
 * What is covered is known without the library: it is every byte up to the marker of the close that is
 * not zero by nature (the header's block behind its integers, the space before a first group, the
 * padding behind a last one), and neither trimmed nor truncated.
 */
#define _GNU_SOURCE
#include "twinlog_admin.h"

#include "../crash/directory.h"
#include "control/shared_page.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_BYTES 512u /* of the header block, what is not zero */
#define FOOTER_BYTES 512u
#define DATA_OFFSET 4096u
#define BLOCK_BYTES 4096u
#define PAGE_BYTES 4096
#define MARK_BYTES 64u
#define RECORD_BYTES 24u
#define ENTRY_BYTES 32u
#define STATE_BYTES 128u
#define RECORDS 117u
#define CUT_LSN 40u
#define FRONT_LSN 22u

static char directory[256];
static uint64_t first_lsn,
    truncation_lsn; /* of the log at hand; what comes behind the truncation is other records */
static unsigned long flips, violations, detected, harmless;

static size_t make_payload(uint64_t lsn, bool is_cut_off, unsigned char *bytes)
{
    size_t size = lsn % 5 == 0 ? 0 : (size_t)(lsn * 977 % 3000);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(lsn % 7 == 0 ? 0 : (lsn * 31 + i * 7 + (is_cut_off ? 128 : 0)) | 1);
    return size;
}

static size_t payload(uint64_t lsn, unsigned char *bytes)
{
    return make_payload(lsn, false, bytes);
}

static void fail(const char *file, uint64_t offset, unsigned bit, const char *format, uint64_t value)
{
    violations++;
    printf("VIOLATION %s byte %" PRIu64 " bit %u: ", file, offset, bit);
    printf(format, value); /* one of the formats below, each with one number */
    printf("\n");
}

static void must(bool is_true)
{
    if (!is_true)
        abort();
}

static struct twinlog *open_log(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    options.segment_bytes = 65536;
    options.flags = TWINLOG_BUFFERED;
    must(twinlog_open(directory, &options, &log) == 0);
    return log;
}

static void append(struct twinlog *log, uint64_t last_lsn, bool is_cut_off)
{
    unsigned char bytes[4096];
    for (uint64_t lsn = twinlog_last_lsn(log) + 1; lsn <= last_lsn; lsn++)
        must(twinlog_append(log, bytes, make_payload(lsn, is_cut_off, bytes), NULL) == 0);
}

static void keep_names(struct twinlog *log)
{
    must(twinlog_cursor_set(log, "consumer", twinlog_last_lsn(log)) == 0);
    must(twinlog_meta_set(log, "value", "kept", 4) == 0);
}

static void make_plain(void)
{
    first_lsn = 1;
    truncation_lsn = 0;
    for (unsigned life = 1; life <= 3; life++) {
        struct twinlog *log = open_log();
        append(log, RECORDS / 3 * life, false);
        keep_names(log);
        must(twinlog_close(log) == 0);
    }
}

/* Longer than the other one at first, so that there are files to recycle. */
static void make_old(void)
{
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog *log = open_log();
    first_lsn = FRONT_LSN;
    truncation_lsn = CUT_LSN;
    append(log, CUT_LSN, false);
    append(log, 2 * RECORDS, true);
    must(twinlog_truncate(log, CUT_LSN) == 0);
    append(log, RECORDS, false);
    trim.before_lsn = FRONT_LSN;
    must(twinlog_trim(log, &trim, NULL) == 0);
    keep_names(log);
    must(twinlog_close(log) == 0);
}

struct found {
    int result;
    unsigned damages, others;
    uint64_t first_lsn;
    char file[64];
};

static int note(void *context, const struct twinlog_report *report)
{
    struct found *found = context;
    if (report->error == 0) {
        found->others++;
        return 0;
    }
    if (found->damages++ == 0) {
        found->first_lsn = report->first_lsn;
        memcpy(found->file, report->file, sizeof(found->file));
    }
    return 0;
}

static struct found verify(void)
{
    struct found found = { 0 };
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    options.each = note;
    options.context = &found;
    found.result = twinlog_verify(directory, &options, NULL);
    return found;
}

/* Returns how many records came, UINT64_MAX for a wrong one; *ret_error is what ended it. */
static uint64_t read_all(int *ret_error)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    unsigned char bytes[4096];
    uint64_t count = 0, lsn = first_lsn;
    *ret_error = twinlog_reader_open(directory, NULL, &reader);
    if (*ret_error < 0)
        return 0;
    while ((*ret_error = twinlog_reader_next(reader, &record)) > 0) {
        count++;
        size_t size = payload(lsn, bytes);
        if (record.lsn != lsn || record.size != size || memcmp(record.data, bytes, size) != 0) {
            count = UINT64_MAX;
            break;
        }
        lsn++;
    }
    twinlog_reader_close(reader);
    return count;
}

enum cover {
    FREE,    /* no record and no marker is there */
    COVERED, /* acknowledged, and a later marker says so */
    SPOKEN,  /* nothing depends on it, but it has a checksum */
    REMOVED, /* in front of the head: nothing is missed there */
};

static bool has_names(void)
{
    char value[4];
    uint64_t lsn = 0;
    struct twinlog *log;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.flags = TWINLOG_READ_ONLY;
    if (twinlog_open(directory, &options, &log) != 0)
        return false;
    bool has = twinlog_cursor_get(log, "consumer", &lsn) == 0 && lsn == RECORDS &&
               twinlog_meta_get(log, "value", value, sizeof(value), NULL) == 0 &&
               memcmp(value, "kept", 4) == 0;
    return twinlog_close(log) == 0 && has;
}

enum hint {
    HINT_NONE,    /* there is no page */
    HINT_RIGHT,   /* as the writer has left it */
    HINT_STALE,   /* the first group of the segment */
    HINT_WRONG,   /* the middle of a record */
    HINT_HOSTILE, /* anything */
    HINTS
};

static unsigned char page[PAGE_BYTES]; /* as the writer has left it */

static int open_page(void)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", directory, PAGE_FILE_NAME);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0);
    return fd;
}

static void keep_page(void)
{
    int fd = open_page();
    must(pread(fd, page, sizeof(page), 0) == PAGE_BYTES);
    close(fd);
}

static uint64_t hinted_offset(enum hint hint)
{
    uint64_t any = (flips + 1) * UINT64_C(0x9e3779b97f4a7c15);
    if (hint == HINT_STALE)
        return DATA_OFFSET;
    if (hint == HINT_WRONG)
        return DATA_OFFSET + MARK_BYTES + RECORD_BYTES + flips % 100 * 8;
    return flips % 4 == 0 ? any : (any >> 40) % 65536 & ~UINT64_C(7); /* mostly in the segment */
}

static void set_hint(enum hint hint)
{
    int fd = open_page();
    must(ftruncate(fd, hint == HINT_NONE ? 0 : PAGE_BYTES) == 0);
    must(hint == HINT_NONE || pwrite(fd, page, sizeof(page), 0) == PAGE_BYTES);
    if (hint >= HINT_STALE) {
        const uint64_t offsets[2] = { hinted_offset(hint), hinted_offset(hint) };
        must(pwrite(fd, offsets, sizeof(offsets), offsetof(struct page_words, noted_group)) ==
             sizeof(offsets));
    }
    close(fd);
}

/* Reads and inspects. `without`: what inspect has found without a hint; NULL = there is none now. */
static void check_look(const char *file, uint64_t offset, unsigned bit, enum cover cover, struct found found,
                       const struct twinlog_inspection *without, struct twinlog_inspection *ret_inspection)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    int error;
    uint64_t count = read_all(&error), all = RECORDS - first_lsn + 1;
    int looked = twinlog_inspect(directory, &inspection);
    *ret_inspection = inspection;
    if (without && found.result == 0 &&
        (inspection.report.finding != without->report.finding || inspection.last_lsn != without->last_lsn))
        fail(file, offset, bit, "a hint has changed the end to %" PRIu64, inspection.last_lsn);

    if (count == UINT64_MAX) {
        fail(file, offset, bit, "a wrong record was returned%.0" PRIu64, 0);
        return;
    }
    if (found.result == 0) {
        if (cover == COVERED)
            fail(file, offset, bit, "verify did not see it%.0" PRIu64, 0);
        if (cover == SPOKEN && found.others == 0)
            fail(file, offset, bit, "verify says nothing of it%.0" PRIu64, 0);
        if (!has_names())
            fail(file, offset, bit, "the cursor or the value is lost%.0" PRIu64, 0);
        if (count != all || error != 0)
            fail(file, offset, bit, "only %" PRIu64 " records were read although verify is content", count);
        if (looked == 0 && inspection.last_lsn != RECORDS)
            fail(file, offset, bit, "recovery would end at %" PRIu64, inspection.last_lsn);
        return;
    }
    if (found.result != TWINLOG_ECORRUPT && found.result != TWINLOG_EFOREIGN &&
        found.result != TWINLOG_EVERSION)
        fail(file, offset, bit, "verify failed with %" PRIu64, (uint64_t)(int64_t)found.result);
    if (found.damages == 0 || strcmp(found.file, file) != 0)
        fail(file, offset, bit, "the report names no or another file%.0" PRIu64, 0);
    if (cover != COVERED)
        fail(file, offset, bit, "harmless, but verify says damage at %" PRIu64, found.first_lsn);
    if (offset >= DATA_OFFSET && (found.first_lsn == 0 || found.first_lsn > RECORDS + 1))
        fail(file, offset, bit, "the report has LSN %" PRIu64, found.first_lsn);
    /* an exact prefix, as far as the damage: a marker without records may be passed over by nobody */
    if (offset >= DATA_OFFSET && (error != TWINLOG_ECORRUPT || first_lsn + count < found.first_lsn) &&
        count != all)
        fail(file, offset, bit, "the reader stopped after %" PRIu64, count);
    if (looked == 0 && inspection.report.error == 0 && inspection.last_lsn != RECORDS)
        fail(file, offset, bit, "opening would silently end at %" PRIu64, inspection.last_lsn);
}

static void check_flip(const char *file, uint64_t offset, unsigned bit, enum cover cover)
{
    struct twinlog_inspection without, other;
    struct found found = verify();
    flips++;
    *(found.result == 0 ? &harmless : &detected) += 1;
    for (enum hint hint = HINT_NONE; hint < HINTS; hint++) {
        set_hint(hint);
        check_look(file, offset, bit, cover, found, hint == HINT_NONE ? NULL : &without,
                   hint == HINT_NONE ? &without : &other);
    }
    set_hint(HINT_RIGHT);
}

static void flip(int fd, uint64_t offset, unsigned bit)
{
    unsigned char byte;
    if (pread(fd, &byte, 1, (off_t)offset) != 1)
        abort();
    byte ^= (unsigned char)(1u << bit);
    if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
        abort();
}

static unsigned char *load(int fd, uint64_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        abort();
    unsigned char *bytes = malloc((size_t)st.st_size);
    if (!bytes || pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size)
        abort();
    *ret_size = (uint64_t)st.st_size;
    return bytes;
}

static uint64_t load_number(const unsigned char *bytes, unsigned size)
{
    uint64_t number = 0;
    while (size-- > 0)
        number = number << 8 | bytes[size];
    return number;
}

/* What the bytes of a segment are. */
struct layout {
    uint64_t from, to;   /* groups that count, from the first byte that is not zero on */
    uint64_t kept;       /* in front of here is what was trimmed */
    uint64_t index, end; /* index and footer, if it is sealed */
    uint64_t second;     /* second header, of a file with groups; 0 = it is another file */
    uint64_t looked_at;  /* bits behind it are not flipped, unless they are index or footer */
};

/* Offset of the record; UINT64_MAX = it is not there. */
static uint64_t find(const unsigned char *bytes, uint64_t size, uint64_t lsn, bool is_cut_off)
{
    unsigned char wanted[4096];
    size_t wanted_size = make_payload(lsn, is_cut_off, wanted);
    for (uint64_t at = DATA_OFFSET; at + RECORD_BYTES + wanted_size <= size; at += 8)
        if (load_number(bytes + at + 8, 4) == wanted_size &&
            memcmp(bytes + at + RECORD_BYTES, wanted, wanted_size) == 0)
            return at;
    return UINT64_MAX;
}

/* A record that begins a group has its header in front. */
static uint64_t group_start(const unsigned char *bytes, uint64_t record)
{
    return memcmp(bytes + record - MARK_BYTES + 4, "1TWG", 4) == 0 ? record - MARK_BYTES : record;
}

static struct layout find_layout(const unsigned char *bytes, const struct twinlog_segment *segment)
{
    const unsigned char *footer = bytes + segment->file_bytes - BLOCK_BYTES;
    struct layout layout = { .from = DATA_OFFSET, .index = segment->file_bytes, .end = segment->file_bytes };
    if (segment->state == TWINLOG_SEGMENT_SEALED) {
        layout.index = (uint64_t)(footer - bytes) - load_number(footer + 76, 4) * ENTRY_BYTES;
        layout.end = (uint64_t)(footer - bytes) + FOOTER_BYTES;
    }
    if (segment->state <= TWINLOG_SEGMENT_ACTIVE) {
        while (bytes[layout.from] == 0)
            layout.from++;
        layout.from &= ~UINT64_C(7);
        layout.to = DATA_OFFSET + segment->data_bytes;
        layout.second = (uint64_t)(footer - bytes) + FOOTER_BYTES;
    }
    layout.looked_at = layout.to + FOOTER_BYTES > DATA_OFFSET + FOOTER_BYTES ? layout.to + FOOTER_BYTES
                                                                             : DATA_OFFSET + FOOTER_BYTES;
    if (segment->state == TWINLOG_SEGMENT_ACTIVE) /* its last mark has none behind it */
        layout.to -= MARK_BYTES;
    uint64_t cut =
        truncation_lsn > 0 && layout.to > 0 ? find(bytes, layout.to, truncation_lsn + 1, true) : UINT64_MAX;
    if (cut < layout.to)
        layout.to = group_start(bytes, cut);
    uint64_t front = first_lsn > 1 && layout.to > 0 ? find(bytes, layout.to, first_lsn, false) : UINT64_MAX;
    if (front < layout.to)
        layout.kept = group_start(bytes, front);
    return layout;
}

/* The marker of a close begins a block, and in front of it are zeros. */
static bool is_gap(const unsigned char *bytes, uint64_t size, uint64_t offset)
{
    uint64_t end = (offset / BLOCK_BYTES + 1) * BLOCK_BYTES, from = end;
    while (from > 0 && bytes[from - 1] == 0)
        from--;
    from = (from + 7) & ~UINT64_C(7); /* up to there it is the padding of a record */
    return offset >= from && end + MARK_BYTES <= size && memcmp(bytes + end + 4, "1TWG", 4) == 0;
}

static enum cover cover_of(const unsigned char *bytes, const struct layout *layout, uint64_t size,
                           uint64_t offset)
{
    if (offset < HEADER_BYTES)
        return COVERED;
    if ((offset >= layout->index && offset < layout->end) ||
        (layout->second > 0 && offset >= layout->second && offset < layout->second + HEADER_BYTES))
        return SPOKEN;
    if (offset < layout->from || offset >= layout->to || is_gap(bytes, size, offset))
        return FREE;
    return offset < layout->kept ? REMOVED : COVERED;
}

static void flip_segment(const unsigned *steps, const struct twinlog_segment *segment)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", directory, segment->file);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint64_t size;
    unsigned char *bytes = load(fd, &size);
    struct layout layout = find_layout(bytes, segment);
    for (uint64_t bit = steps[1]; bit < segment->file_bytes * 8 && violations <= 20; bit += steps[0]) {
        uint64_t offset = bit / 8;
        if (offset >= layout.looked_at && offset < layout.index &&
            offset < segment->file_bytes - BLOCK_BYTES + FOOTER_BYTES)
            continue;
        if (offset >= segment->file_bytes - BLOCK_BYTES + FOOTER_BYTES + HEADER_BYTES + 64)
            continue;
        flip(fd, offset, (unsigned)(bit % 8));
        check_flip(segment->file, offset, (unsigned)(bit % 8), cover_of(bytes, &layout, size, offset));
        flip(fd, offset, (unsigned)(bit % 8));
    }
    free(bytes);
    close(fd);
}

/* Two slots; what is behind the entries in each is not looked at by anybody. */
static void flip_state(const unsigned *steps)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/state", directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint64_t size;
    unsigned char *bytes = load(fd, &size);
    for (uint64_t slot = 0; slot < size; slot += size / 2) {
        uint64_t used = STATE_BYTES + load_number(bytes + slot + 64, 4);
        for (uint64_t bit = steps[1]; bit < (used + 64) * 8 && violations <= 20; bit += steps[0]) {
            uint64_t offset = slot + bit / 8;
            flip(fd, offset, (unsigned)(bit % 8));
            check_flip("state", offset, (unsigned)(bit % 8), bit / 8 < used ? SPOKEN : FREE);
            flip(fd, offset, (unsigned)(bit % 8));
        }
    }
    free(bytes);
    close(fd);
}

struct listing {
    struct twinlog_segment list[64];
    unsigned count;
};

static int keep_segment(void *context, const struct twinlog_segment *segment)
{
    struct listing *listing = context;
    must(listing->count < 64);
    listing->list[listing->count++] = *segment;
    return 0;
}

/* Every kind of file that the log is here for. */
static void check_kinds(const struct listing *listing, bool is_old)
{
    unsigned seen = 0, recycled = 0;
    for (unsigned i = 0; i < listing->count; i++) {
        seen |= 1u << listing->list[i].state;
        recycled += listing->list[i].state == TWINLOG_SEGMENT_SEALED && listing->list[i].incarnations > 0;
    }
    must(listing->count >= 3 && (seen & 1u << TWINLOG_SEGMENT_SEALED));
    must(!is_old || (recycled > 0 && (seen & 1u << TWINLOG_SEGMENT_RETIRED)));
}

static unsigned flip_log(void (*make)(void), const unsigned *steps)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct listing listing = { 0 };
    make();
    keep_page();
    must(twinlog_inspect(directory, &inspection) == 0 && inspection.last_lsn == RECORDS);
    must(verify().result == 0 && verify().others == 0);
    must(twinlog_segments(directory, keep_segment, &listing) == 0);
    check_kinds(&listing, make == make_old);
    for (unsigned i = 0; i < listing.count; i++)
        flip_segment(steps, &listing.list[i]);
    flip_state(steps);
    remove_directory(directory);
    return listing.count;
}

int main(int argc, char **argv)
{
    unsigned steps[2] = { 1, 0 }, segments;
    int option;
    while ((option = getopt(argc, argv, "s:f:h")) != -1) {
        if (option == 's')
            steps[0] = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'f')
            steps[1] = (unsigned)strtoul(optarg, NULL, 10);
        else {
            printf("usage: damage-flips [-s STRIDE] [-f FIRST]\n"
                   "Flips every STRIDE-th bit of small logs, from bit FIRST on, and checks what is read.\n");
            return option == 'h' ? 0 : 2;
        }
    }
    if (steps[0] == 0)
        return 2;
    snprintf(directory, sizeof(directory), "%s/twinlog-flips-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    must(mkdtemp(directory) != NULL);
    segments = flip_log(make_plain, steps);
    segments += flip_log(make_old, steps);
    printf("damage-flips: %lu bits of %u segments flipped, %lu detected, %lu harmless, %lu violations\n",
           flips, segments, detected, harmless, violations);
    return violations > 0;
}
