/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns every sector of small logs into zeros, one at a time, and repairs the log.
 *
 * What must hold for each sector, of the segments and of the state file:
 *  - the repaired log has every record that has no byte in it, with its LSN, time and bytes, and no other;
 *  - it has all cursors and values, and is sound for verify;
 *  - the result and the calls of `each` tell exactly the records that are lost.
 * Where records are is known from a walk through the undamaged log.
 */
#define _GNU_SOURCE
#include "log/log.h"
#include "twinlog_admin.h"
#include "walk/segment_iter.h"

#include "../crash/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECTOR_BYTES 512u
#define SEGMENT_BYTES 65536u
#define MAX_RECORDS 2048u
#define VALUE "what is kept with the log"

struct place {
    uint64_t lsn;
    int64_t time_ns;
    uint64_t size;
    uint32_t checksum;
    char file[SEGMENT_NAME_BYTES];
    uint64_t offset, end; /* header and payload */
};

struct contents {
    struct place places[MAX_RECORDS];
    size_t count;
};

static char parent[256];
static struct contents before, after;
static unsigned long sectors, records_lost, violations;

static void must(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "damage-sectors: cannot %s\n", what);
    abort();
}

/* ---- logs -------------------------------------------------------------------------------------- */

static struct twinlog *open_log(const char *dir, uint32_t flags)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    options.segment_bytes = SEGMENT_BYTES;
    options.flags = TWINLOG_BUFFERED | flags;
    must(twinlog_open(dir, &options, &log) == 0, "open the log");
    return log;
}

/* Records of all sizes, alone and in groups. */
static void append(struct twinlog *log, unsigned count)
{
    unsigned char bytes[4096];
    for (unsigned i = 0; i < count; i++) {
        uint64_t lsn = twinlog_last_lsn(log) + 1;
        size_t size = lsn % 5 == 0 ? 0 : (size_t)(lsn * 977 % (lsn % 3 == 0 ? 3000 : 300));
        memset(bytes, (int)(lsn % 251 + 1), sizeof(bytes));
        must((i % 8 == 0 ? twinlog_append : twinlog_enqueue)(log, bytes, size, NULL) == 0, "append");
    }
    must(twinlog_sync(log) == 0, "sync");
}

static void keep_names(struct twinlog *log)
{
    must(twinlog_cursor_set(log, "consumer", twinlog_last_lsn(log)) == 0, "set a cursor");
    must(twinlog_meta_set(log, "value", VALUE, sizeof(VALUE)) == 0, "set a value");
}

static void make_plain(const char *dir, uint32_t flags)
{
    for (unsigned life = 0; life < 3; life++) {
        struct twinlog *log = open_log(dir, flags);
        append(log, 60);
        keep_names(log);
        must(twinlog_close(log) == 0, "close");
    }
}

/* One segment, so that nothing else says which log it is. */
static void make_single(const char *dir, uint32_t flags)
{
    struct twinlog *log = open_log(dir, flags);
    append(log, 20);
    keep_names(log);
    must(twinlog_close(log) == 0, "close");
}

static void trim(struct twinlog *log, uint64_t before_lsn)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    options.before_lsn = before_lsn;
    must(twinlog_trim(log, &options, NULL) == 0, "trim");
}

/* Head and truncation inside groups, recycled files, and retired ones that still hold what was truncated. */
static void make_old(const char *dir, uint32_t flags)
{
    struct twinlog *log = open_log(dir, flags);
    append(log, 300);
    must(twinlog_truncate(log, 203) == 0, "cut");
    append(log, 30);
    trim(log, 100);
    append(log, 150);
    trim(log, 180);
    append(log, 20);
    keep_names(log);
    must(twinlog_close(log) == 0, "close");
}

/* The truncation is the last thing that happened. */
static void make_cut(const char *dir, uint32_t flags)
{
    struct twinlog *log = open_log(dir, flags);
    append(log, 150);
    must(twinlog_truncate(log, 77) == 0, "cut");
    keep_names(log);
    must(twinlog_close(log) == 0, "close");
}

/* And nothing came behind it, not even the marker of a close. */
static void make_cut_short(const char *dir, uint32_t flags)
{
    int status;
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        struct twinlog *log = open_log(dir, flags);
        append(log, 150);
        keep_names(log);
        must(twinlog_truncate(log, 77) == 0, "cut");
        _exit(0);
    }
    must(waitpid(child, &status, 0) == child && status == 0, "make the log in a process");
}

static void make_reset(const char *dir, uint32_t flags)
{
    struct twinlog *log = open_log(dir, flags);
    append(log, 100);
    must(twinlog_reset(log, 5000) == 0, "reset");
    append(log, 60);
    keep_names(log);
    must(twinlog_close(log) == 0, "close");
}

static const struct kind {
    const char *name;
    void (*make)(const char *dir, uint32_t flags);
    uint32_t flags;
} kinds[] = {
    { "plain", make_plain, 0 },   { "padded", make_plain, TWINLOG_PAD },
    { "single", make_single, 0 }, { "old", make_old, 0 },
    { "cut", make_cut, 0 },       { "cut-short", make_cut_short, 0 },
    { "reset", make_reset, 0 },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- what is in them --------------------------------------------------------------------------- */

static void note(struct contents *contents, const char *file, const struct cursor_record *record)
{
    must(contents->count < MAX_RECORDS, "note so many records");
    struct place *place = &contents->places[contents->count++];
    *place = (struct place){ .lsn = record->lsn,
                             .time_ns = record->header.time_ns,
                             .size = record->header.size,
                             .checksum = record->header.payload_checksum,
                             .offset = record->offset,
                             .end = record->offset + RECORD_HEADER_BYTES + record->header.size };
    snprintf(place->file, sizeof(place->file), "%s", file);
}

static void walk(struct io *io, const struct segment_set *set, size_t index, struct contents *contents)
{
    struct segment_iter cursor = { 0 };
    struct cursor_record record;
    struct segment segment;
    uint64_t bound = twl_segment_set_bound(set, index);
    must(twl_segment_open_valid(io, set->entries[index].name, &segment) == 0, "open a segment");
    twl_iter_begin(&cursor, &segment, twl_position_before(&segment.header));
    while (twl_iter_enter_group(&cursor) > 0)
        while (twl_iter_next_record(&cursor, &record) > 0)
            if (record.lsn >= set->first_lsn && record.lsn < bound && record.header.kind == RECORD_DATA)
                note(contents, segment.name, &record);
    twl_iter_free(&cursor);
    twl_segment_close(&segment);
}

static void read_log(const char *dir, struct contents *contents)
{
    struct twinlog_report report;
    struct segment_set set;
    struct io *io;
    contents->count = 0;
    must(twl_io_posix_create(dir, true, &io) == 0, "open the directory");
    must(twl_segment_set_open(io, SET_FOR_READING, NULL, &set, &report) == 0, "load the segments");
    for (size_t i = 0; i < set.started; i++)
        walk(io, &set, i, contents);
    twl_segment_set_free(&set);
    io->ops->destroy(io);
}

/* ---- files ------------------------------------------------------------------------------------- */

static void make_path(char path[600], const char *name)
{
    snprintf(path, 600, "%s/%s", parent, name);
}

static int is_damageable(const struct dirent *entry)
{
    return strstr(entry->d_name, ".twl") != NULL || strcmp(entry->d_name, "state") == 0;
}

/* ---- one sector -------------------------------------------------------------------------------- */

struct told {
    uint64_t records, calls;
};

static int take_loss(void *context, const struct twinlog_report *lost)
{
    struct told *told = context;
    told->calls++;
    told->records += lost->first_lsn > 0 ? lost->last_lsn - lost->first_lsn + 1 : 0;
    return 0;
}

/* Is a byte of the record in the sector, and was it anything but zero? */
static bool is_hit(const struct place *place, const char *file, uint64_t offset, const unsigned char *bytes)
{
    if (strcmp(place->file, file) != 0)
        return false;
    for (uint64_t i = 0; i < SECTOR_BYTES; i++)
        if (bytes[i] != 0 && offset + i >= place->offset && offset + i < place->end)
            return true;
    return false;
}

static bool is_same(const struct place *a, const struct place *b)
{
    return a->lsn == b->lsn && a->time_ns == b->time_ns && a->size == b->size && a->checksum == b->checksum;
}

static bool has_names(const char *dir)
{
    char value[sizeof(VALUE)];
    uint64_t lsn = 0;
    struct twinlog *log = open_log(dir, 0);
    bool has = twinlog_cursor_get(log, "consumer", &lsn) == 0 &&
               twinlog_meta_get(log, "value", value, sizeof(value), NULL) == 0 &&
               memcmp(value, VALUE, sizeof(VALUE)) == 0;
    twinlog_close(log);
    return has && lsn == before.places[before.count - 1].lsn;
}

static void fail(const char *file, uint64_t offset, const char *words, uint64_t number)
{
    violations++;
    printf("VIOLATION %s at %" PRIu64 ": %s %" PRIu64 "\n", file, offset, words, number);
}

static void check(const char *dir, const char *file, uint64_t offset, const unsigned char *bytes)
{
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct told told = { 0 };
    char repaired[600];
    uint64_t lost = 0;
    size_t at = 0;

    options.each = take_loss;
    options.context = &told;
    make_path(repaired, "repaired");
    remove_directory(repaired);
    int rc = twinlog_repair(dir, repaired, &options, &result);
    if (rc != 0) {
        fail(file, offset, "repair failed with", (uint64_t)(-(int64_t)rc));
        return;
    }
    read_log(repaired, &after);
    for (size_t i = 0; i < before.count; i++) {
        const struct place *place = &before.places[i];
        bool is_there = at < after.count && after.places[at].lsn == place->lsn;
        if (is_hit(place, file, offset, bytes)) {
            lost++;
            if (is_there)
                fail(file, offset, "a damaged record came back:", place->lsn);
        } else if (!is_there || !is_same(place, &after.places[at])) {
            fail(file, offset, "a sound record is lost or changed:", place->lsn);
        }
        at += is_there;
    }
    if (at != after.count)
        fail(file, offset, "records that never were, from", after.places[at].lsn);
    /* A lost marker costs no record; but that both sides of it are of one history is not known any more, and told. */
    if (result.lost_records != lost || told.records != lost || (told.calls == 0 && lost > 0))
        fail(file, offset, "repair tells of another number of lost records:", result.lost_records);
    if (result.records != after.count)
        fail(file, offset, "repair tells of another number of records:", result.records);
    if (twinlog_verify(repaired, NULL, NULL) != 0)
        fail(file, offset, "the repaired log is not sound after the loss of", lost);
    if (!has_names(repaired))
        fail(file, offset, "cursors or values are lost", 0);
    records_lost += lost;
}

static void damage_file(const char *dir, const char *name, unsigned stride, unsigned first)
{
    static const unsigned char zeros[SECTOR_BYTES];
    unsigned char bytes[SECTOR_BYTES];
    char path[900];
    struct stat about;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0 && fstat(fd, &about) == 0, "open a file");
    for (off_t at = (off_t)first * SECTOR_BYTES; at < about.st_size; at += (off_t)stride * SECTOR_BYTES) {
        must(pread(fd, bytes, SECTOR_BYTES, at) == SECTOR_BYTES, "read");
        if (memcmp(bytes, zeros, SECTOR_BYTES) == 0)
            continue;
        must(pwrite(fd, zeros, SECTOR_BYTES, at) == SECTOR_BYTES, "write");
        check(dir, name, (uint64_t)at, bytes);
        must(pwrite(fd, bytes, SECTOR_BYTES, at) == SECTOR_BYTES, "write");
        sectors++;
    }
    close(fd);
}

static void damage_log(const struct kind *kind, unsigned stride, unsigned first)
{
    struct dirent **names;
    char dir[600], repaired[600];
    make_path(dir, kind->name);
    make_path(repaired, "repaired");
    kind->make(dir, kind->flags);
    must(twinlog_verify(dir, NULL, NULL) == 0, "verify the log");
    read_log(dir, &before);
    int count = scandir(dir, &names, is_damageable, alphasort);
    for (int i = 0; i < count; i++) {
        damage_file(dir, names[i]->d_name, stride, first);
        free(names[i]);
    }
    free(names);
    remove_directory(repaired);
    remove_directory(dir);
}

int main(int argc, char **argv)
{
    unsigned stride = 1, first = 0;
    int option;
    while ((option = getopt(argc, argv, "s:f:h")) != -1) {
        if (option == 's')
            stride = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'f')
            first = (unsigned)strtoul(optarg, NULL, 10);
        else {
            printf(
                "usage: damage-sectors [-s STRIDE] [-f FIRST]\n"
                "Turns every STRIDE-th sector of small logs into zeros, from sector FIRST of each file on,\n"
                "and checks what repair makes of it.\n");
            return option == 'h' ? 0 : 2;
        }
    }
    if (stride == 0)
        return 2;
    snprintf(parent, sizeof(parent), "%s/twinlog-sectors-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    must(mkdtemp(parent) != NULL, "make a directory");
    for (size_t i = 0; i < KINDS; i++)
        damage_log(&kinds[i], stride, first);
    rmdir(parent);
    printf("damage-sectors: %lu sectors of %zu logs, %lu records lost, %lu violations\n", sectors, KINDS,
           records_lost, violations);
    return violations > 0;
}
