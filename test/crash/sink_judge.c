/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle. What the files hold, the oldest one first, is compared with what the pens noted:
 *   S1 every line that a write returned for is there once, byte for byte, at the place the call told
 *   S2 the lines of a pen are in order
 *   S3 what was unfinished is there whole, or filled (in place of its bytes spaces, and a newline), or not at all
 *   S4 there is nothing else: no byte more at the end, no other files but areas that keep an error or a last zero
 *   S5 a file that was left because of its size has no more than that
 *
 * A line is what one write wrote, whatever its bytes are. Where it begins a file says by its label, and its label says
 * how long it is.
 */
#define _GNU_SOURCE
#include "sink.h"
#include "sink/area.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096u

/* What of a pen has been found. */
struct found {
    uint32_t next; /* lines before it are there */
    bool has_open; /* its last line, which had not returned */
};

static struct {
    struct found pen[PENS_MAX];
    uint64_t ends_in_zero[FILES_MAX], kept; /* inodes of files that keep their area */
    struct {
        size_t size;
        uint64_t offset;
    } blank[PENS_MAX]; /* lines of spaces, which could be the remains of several */
    uint32_t blanks;
    struct sink_verdict verdict;
    unsigned char line[LINE_MAX_BYTES];
} book;

struct piece {
    const char *file;
    const unsigned char *bytes;
    size_t size;
    uint64_t offset;
};

/* ---- lines -------------------------------------------------------------------------------------- */

static uint32_t returned(uint32_t pen)
{
    return atomic_load(&crew->pen[pen].returned);
}

static bool has_open_line(uint32_t pen)
{
    return !book.pen[pen].has_open && atomic_load(&crew->pen[pen].begun) > returned(pen);
}

/* False: it is no line that was finished. */
static bool find_whole(const struct piece *piece)
{
    uint32_t pen, sequence;

    if (!line_read_label(piece->bytes, piece->size, &pen, &sequence) || pen >= crew->pens ||
        sequence >= atomic_load(&crew->pen[pen].begun) || line_size(pen, sequence) != piece->size)
        return false;
    line_fill(pen, sequence, book.line);
    if (memcmp(piece->bytes, book.line, piece->size) != 0)
        return false;
    if (sequence != book.pen[pen].next || book.pen[pen].has_open)
        violation("pen %" PRIu32 " has line %" PRIu32 " where line %" PRIu32 " belongs, in %s at %" PRIu64,
                  pen, sequence, book.pen[pen].next, piece->file, piece->offset);
    if (sequence < returned(pen) && crew->pen[pen].where[sequence] != piece->offset)
        violation("line %" PRIu32 " of pen %" PRIu32 " is in %s at %" PRIu64
                  ", the call that wrote it said %" PRIu64,
                  sequence, pen, piece->file, piece->offset, crew->pen[pen].where[sequence]);
    book.pen[pen].next = sequence + 1;
    book.pen[pen].has_open = sequence == returned(pen);
    return true;
}

/* What tells them apart is found when the others have been found. */
static void keep_blank(const struct piece *piece)
{
    if (book.blanks == PENS_MAX)
        violation("there are more void lines than pens");
    book.blank[book.blanks].size = piece->size;
    book.blank[book.blanks++].offset = piece->offset;
}

static void check_blanks(void)
{
    for (uint32_t i = 0; i < book.blanks; i++) {
        uint32_t pen = 0;

        while (pen < crew->pens &&
               !(has_open_line(pen) && line_size(pen, returned(pen)) == book.blank[i].size))
            pen++;
        if (pen == crew->pens)
            violation("a line of %zu spaces at %" PRIu64 " is nobody's", book.blank[i].size,
                      book.blank[i].offset);
        book.pen[pen].has_open = true;
        book.verdict.fillers++;
    }
}

/* Spaces and a newline: the bytes there; 0 if it is something else. */
static size_t blank_size(const unsigned char *bytes, size_t most)
{
    size_t size = 0;

    while (size < most && bytes[size] == ' ')
        size++;
    return size < most && bytes[size] == '\n' ? size + 1 : 0;
}

/* Returns its size. */
static size_t find_line(const char *name, const unsigned char *bytes, size_t most, uint64_t offset)
{
    uint32_t pen = 0, sequence = 0;
    struct piece piece = { name, bytes, blank_size(bytes, most), offset };

    book.verdict.lines++;
    if (piece.size > 0) {
        keep_blank(&piece);
        return piece.size;
    }
    const bool is_labelled = line_read_label(bytes, most, &pen, &sequence) && pen < crew->pens;
    piece.size = is_labelled ? line_size(pen, sequence) : 0;
    if (!is_labelled || piece.size > most || !find_whole(&piece))
        violation("the bytes in %s at %" PRIu64
                  ", of %zu to the end, are nobody's; they are labelled %d, pen %" PRIu32 " line %" PRIu32,
                  name, offset, most, is_labelled, pen, sequence);
    return piece.size;
}

static void check_complete(void)
{
    for (uint32_t pen = 0; pen < crew->pens; pen++) {
        if (book.pen[pen].next < returned(pen))
            violation("line %" PRIu32 " of pen %" PRIu32 " is missing, %" PRIu32 " had returned",
                      book.pen[pen].next, pen, returned(pen));
    }
    check_blanks();
}

/* ---- files -------------------------------------------------------------------------------------- */

static void read_lines(const char *name, const unsigned char *bytes, size_t size, uint64_t max_bytes)
{
    uint64_t lines = 0;

    for (size_t at = 0; at < size; lines++)
        at += find_line(name, bytes + at, size - at, at);
    if (max_bytes > 0 && size > max_bytes && lines > 1)
        violation("%s has %zu bytes, the limit is %" PRIu64, name, size, max_bytes);
}

static bool read_area(uint64_t inode, struct area *ret_area)
{
    char path[700];

    snprintf(path, sizeof(path), "%s/.twinlog.%" PRIu64 ".sink", place.log, inode);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const bool is_read = fd >= 0 && pread(fd, ret_area, sizeof(*ret_area), 0) == sizeof(*ret_area);
    close(fd);
    return is_read && ret_area->identity.inode == inode;
}

/* Is its last byte, or the last one that was synced, a zero? */
static bool ends_in_zero(uint64_t inode, const unsigned char *bytes, uint64_t size)
{
    struct area area;

    return bytes[size - 1] == 0 || (read_area(inode, &area) && area.recorded > 0 && area.recorded <= size &&
                                    bytes[area.recorded - 1] == 0);
}

static void read_file(const char *name, uint64_t max_bytes)
{
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    struct stat about;
    unsigned char *bytes;

    if (fd < 0 || fstat(fd, &about) < 0)
        give_up(name);
    book.verdict.files++;
    book.verdict.bytes += (uint64_t)about.st_size;
    book.verdict.last_file_bytes = (uint64_t)about.st_size;
    if (about.st_size > 0) {
        bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED)
            give_up(name);
        read_lines(name, bytes, (size_t)about.st_size, max_bytes);
        if (ends_in_zero(about.st_ino, bytes, (uint64_t)about.st_size) && book.kept < FILES_MAX)
            book.ends_in_zero[book.kept++] = about.st_ino;
        munmap(bytes, (size_t)about.st_size);
    }
    close(fd);
}

/* An area that keeps the error of a failed sync, as a death in the middle of a sync is one, or that says that a zero
 * is data. */
static bool may_stay(const char *name)
{
    uint64_t inode;
    struct area area;
    int end = 0;

    if (sscanf(name, ".twinlog.%" SCNu64 ".sink%n", &inode, &end) != 1 || name[end] != 0)
        return false;
    for (uint64_t i = 0; i < book.kept; i++)
        if (book.ends_in_zero[i] == inode)
            return true;
    return read_area(inode, &area) && area.sync_error == -EIO;
}

/* Every file but those that were read. */
static void check_others(void)
{
    DIR *list = opendir(place.log);
    const struct dirent *entry;
    uint64_t files = 0;

    if (!list)
        give_up(place.log);
    while ((entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (may_stay(entry->d_name))
            continue;
        if (entry->d_name[0] == '.')
            violation("%s is still there after the last one has closed", entry->d_name);
        files++;
    }
    closedir(list);
    if (files != book.verdict.files)
        violation("there are %" PRIu64 " files, %" PRIu64 " were read", files, book.verdict.files);
}

/* Those that were renamed, the oldest one first. A death may have left a gap between the numbers. */
static void for_each_old(void (*each)(const char *name, uint64_t max_bytes), uint64_t max_bytes)
{
    char name[420];

    for (unsigned number = KEPT_FILES; number > 0; number--) {
        snprintf(name, sizeof(name), "%s.%u", sink_path, number);
        if (access(name, F_OK) == 0)
            each(name, max_bytes);
    }
}

static void finish_file(const char *name, uint64_t unused)
{
    const struct twinlog_sink_options options = {
        .size = sizeof(options),
        .flags = TWINLOG_SINK_MAPPED | TWINLOG_SINK_SHARED,
        .initial_bytes = 1,
        .growth_bytes = 1,
    };
    struct twinlog_sink *sink;

    (void)unused;
    check_call(twinlog_sink_open(name, &options, &sink), name);
    check_call(twinlog_sink_close(sink), name);
}

void finish_files(void)
{
    for_each_old(finish_file, 0);
}

struct sink_verdict judge_files(uint64_t max_bytes)
{
    memset(&book, 0, sizeof(book));
    for_each_old(read_file, max_bytes);
    if (access(sink_path, F_OK) < 0)
        violation("the file is gone");
    read_file(sink_path, max_bytes);
    check_complete();
    check_others();
    return book.verdict;
}
