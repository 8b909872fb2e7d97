/* SPDX-License-Identifier: Apache-2.0 */
/* See manifest.h. */
#define _GNU_SOURCE
#include "manifest.h"

#include "../json.h"
#include "../options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char title[] = "twinlog archive 1";
static const char columns[] =
    "file log sequence continues start first_lsn last_lsn epoch salt chain end_chain";

#define LINE_BYTES 256u

/* ---- lines ------------------------------------------------------------------------------------- */

static void format_segment(char ret_line[LINE_BYTES], const struct segment_file *file)
{
    char log[33];

    for (size_t i = 0; i < sizeof(file->log_id); i++)
        snprintf(log + 2 * i, 3, "%02x", file->log_id[i]);
    snprintf(ret_line, LINE_BYTES,
             "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32 " %08" PRIx32
             " %08" PRIx32 " %08" PRIx32,
             log, file->sequence, file->before, file->start_lsn, file->first_lsn, file->last_lsn, file->epoch,
             file->salt, file->chain, file->end_chain);
}

static bool parse_segment(const char *line, uint64_t *ret_number, struct segment_file *ret_file)
{
    char log[33];
    struct segment_file file = { .is_sealed = true };

    if (sscanf(line,
               "%" SCNu64 " %32[0-9a-f] %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu32
               " %" SCNx32 " %" SCNx32 " %" SCNx32,
               ret_number, log, &file.sequence, &file.before, &file.start_lsn, &file.first_lsn,
               &file.last_lsn, &file.epoch, &file.salt, &file.chain, &file.end_chain) != 11 ||
        strlen(log) != 32 || !strchr(line, '\n'))
        return false;

    for (size_t i = 0; i < sizeof(file.log_id); i++)
        sscanf(log + 2 * i, "%2hhx", &file.log_id[i]);
    *ret_file = file;
    return true;
}

bool is_same_segment(const struct segment_file *one, const struct segment_file *other)
{
    char line[LINE_BYTES], other_line[LINE_BYTES];

    format_segment(line, one);
    format_segment(other_line, other);
    return strcmp(line, other_line) == 0;
}

int add_to_manifest(struct manifest *manifest, const struct segment_file *file)
{
    struct segment_file *files = reallocarray(manifest->files, manifest->count + 1, sizeof(*files));

    if (!files)
        return -ENOMEM;

    manifest->files = files;
    manifest->files[manifest->count++] = *file;
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------- */

int read_manifest(FILE *file, struct manifest *ret_manifest)
{
    struct manifest manifest = { 0 };
    struct segment_file segment;
    char line[LINE_BYTES];
    uint64_t number = 0;
    int error = 0;

    if (!file)
        return -errno;
    if (fscanf(file, "twinlog archive 1 id %16s files %" SCNu64 " ", manifest.id, &manifest.promised) != 2 ||
        !is_archive_id(manifest.id) || !fgets(line, sizeof(line), file))
        return TWINLOG_ECORRUPT;

    while (error == 0 && manifest.count < manifest.promised) {
        if (!fgets(line, sizeof(line), file) || !parse_segment(line, &number, &segment))
            break;
        if (number != manifest.count + 1)
            break;
        error = add_to_manifest(&manifest, &segment);
    }
    if (error == 0 && ferror(file))
        error = -EIO;
    if (error) {
        free(manifest.files);
        return error;
    }

    *ret_manifest = manifest;
    return 0;
}

int save_manifest(int folder, const struct manifest *manifest)
{
    char line[LINE_BYTES];
    FILE *file = NULL;

    int error = begin_archive_file(folder, "manifest.new", &file);
    if (error)
        return error;

    fprintf(file, "%s\nid %s\nfiles %" PRIu64 "\n%s\n", title, manifest->id, manifest->count, columns);
    for (uint64_t i = 0; i < manifest->count; i++) {
        format_segment(line, &manifest->files[i]);
        fprintf(file, "%" PRIu64 " %s\n", i + 1, line);
    }

    error = end_archive_file(file);
    if (error == 0 && (renameat(folder, "manifest.new", folder, "manifest") < 0 || fsync(folder) < 0))
        error = -errno;
    return error;
}

/* ---- histories --------------------------------------------------------------------------------- */

uint64_t first_lsn_of(const struct segment_file *file)
{
    if (file->start_lsn)
        return file->start_lsn;
    return file->first_lsn;
}

uint64_t find_continued(const struct manifest *manifest, uint64_t number)
{
    const struct segment_file *file = &manifest->files[number - 1];

    for (uint64_t i = number - 1; file->before > 0 && i > 0; i--)
        if (manifest->files[i - 1].sequence == file->before)
            return i;
    return 0;
}

/* Of the history that ends with this file. */
static void print_history(const struct manifest *manifest, uint64_t number, bool is_json)
{
    const struct segment_file *last = &manifest->files[number - 1];
    uint64_t first = number;
    uint64_t files = 1;
    char lsns[LSNS_TEXT_BYTES] = "no records";

    for (uint64_t before = number; (before = find_continued(manifest, before)) > 0; files++)
        first = before;
    const uint64_t first_lsn = first_lsn_of(&manifest->files[first - 1]);
    if (is_json) {
        json_begin_object(NULL);
        json_number("history", number);
        json_number("first_lsn", first_lsn);
        json_number("last_lsn", last->last_lsn);
        json_number("files", files);
        json_number("epoch", last->epoch);
        json_number("salt", last->salt);
        json_number("chain", last->end_chain);
        json_boolean("is_newest", number == manifest->count);
        json_end_object();
        return;
    }

    if (last->last_lsn >= first_lsn)
        describe_lsns(lsns, first_lsn, last->last_lsn);
    printf("history %" PRIu64 ": %s, %" PRIu64 " file%s, epoch %" PRIu32 "-%08" PRIx32 ", chain %08" PRIx32
           "%s\n",
           number, lsns, files, plural(files), last->epoch, last->salt, last->end_chain,
           number == manifest->count ? " (the newest)" : "");
}

int list_histories(const struct manifest *manifest, bool is_json)
{
    bool *has_gone_on = calloc(manifest->count + 1, sizeof(*has_gone_on)); /* to the end of the file */

    if (!has_gone_on)
        return -ENOMEM;

    for (uint64_t number = 1; number <= manifest->count; number++) {
        const struct segment_file *file = &manifest->files[number - 1];
        uint64_t before = find_continued(manifest, number);
        if (before > 0 && (!file->start_lsn || file->start_lsn > manifest->files[before - 1].last_lsn))
            has_gone_on[before] = true;
    }

    if (is_json) {
        json_begin_object(NULL);
        json_text("archive", manifest->id);
        json_begin_array("histories");
    }

    for (uint64_t number = 1; number <= manifest->count; number++)
        if (!has_gone_on[number])
            print_history(manifest, number, is_json);
    if (is_json) {
        json_end_array();
        json_end_object();
        json_end_line();
    }

    free(has_gone_on);
    return 0;
}
