/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog restore: makes a log of an archive, as it was at some point.
 *
 *     DIR.restoring/manifest    says which files the archive has, and how they belong together
 *     DIR.restoring/segments    gets those of one history, by their numbers
 *     DIR.restoring/log         a repair of these files: no fault but a missing state file and end
 *     DIR                       the log, with a truncation to the point, gets its name last
 *
 * So the library reads every byte, the new log has an identity of its own, and a restore that is interrupted leaves no
 * log under the name DIR. What a repair cannot know is checked here: that each file is the one that was archived under
 * its name, that each continues the one before, and that the log begins and ends as its oldest and its newest segment
 * say. So a store that has lost files, or has those of two histories of the log, ends the restore.
 */
#define _GNU_SOURCE
#include "../json.h"
#include "../options.h"
#include "../rights.h"
#include "../stop.h"
#include "../when.h"
#include "manifest.h"
#include "shell.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog_admin.h>
#include <unistd.h>

static const char about[] =
    "Usage: twinlog restore DIR --command 'COMMAND' [options]\n"
    "\n"
    "Makes DIR a log of what 'twinlog archive' has kept. The command gets each file back: %f\n"
    "is its name in the archive, %p the path to copy it to. DIR must not exist, or be empty.\n"
    "Every record is checked; a file that is missing, damaged, or of another log or history\n"
    "ends the restore, and there is no log then.\n";

static const struct option_row option_rows[] = {
    { OPTION_COMMAND, "command", "COMMAND",
      "copies the file %f of the archive to %p; fails if there is none" },
    { OPTION_TO, "to", "LSN or TIME",
      "end with this record, or in front of the first record of this time or later (default: with the newest)" },
    { OPTION_ARCHIVE, "archive", "ID",
      "of several archives in one place (default: the one that began last)" },
    { OPTION_HISTORY, "history", "N",
      "the history that ends with file N, as --list shows them (default: the newest)" },
    { OPTION_JOBS, "jobs", "N", "fetch N files at a time (default 4)" },
    { OPTION_DRY_RUN, "dry-run", NULL,
      "make the log, with all checks, and remove it again: is the archive whole?" },
    { OPTION_LIST, "list", NULL, "only list the histories that the archive has, and make no log" },
    { OPTION_JSON, "json", NULL, "one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "A time is 2026-11-20T10:00:00Z, '2026-11-20 10:00' (local), 15m (ago) or @1763632800. The\n"
    "files are fetched into DIR.restoring: that takes twice the space of the log. Cursors and\n"
    "values are not in an archive. The new log has an identity of its own: archive it anew.\n"
    "\n"
    "The archive's manifest says which files there are, and the store is asked for more behind\n"
    "them: it may have an older one. A command that ends with 1 to 125 says that there is no\n"
    "such file, and then the archive has a hole, or, if the manifest cannot be fetched either,\n"
    "the store is away. Any other status is a failure, and so is a part of the file at %p.\n"
    "\n"
    "Exit status: 0 DIR is whole and durable; 1 an operation failed; 2 wrong usage; 3 the\n"
    "archive is damaged, has a hole, or does not reach the point.\n"
    "\n"
    "Example: the log as it was when the day began\n"
    "  twinlog restore orders.today --command 'cp /mnt/a/%f %p' --to today\n";

#define MOST_JOBS 64u
#define ROOM_BYTES (1 << 20) /* without so much room no command is believed that there is no file */
#define REFUSED_FILE (-2)    /* what looking at a file returns when it is there, and is wrong */

struct restore {
    char dir[PATH_MAX];
    char staging[PATH_MAX];
    char segments_dir[PATH_MAX];
    char log_dir[PATH_MAX];
    const char *command;
    char id[ARCHIVE_ID_BYTES];
    bool is_json;
    bool has_lsn, has_time;
    uint64_t to_lsn;
    int64_t to_ns;
    uint64_t history; /* number of its newest file; 0 = the archive's */
    unsigned jobs;
    bool only_lists, is_dry_run;

    struct manifest manifest;
    uint64_t *path;               /* numbers of the files to be fetched, oldest first */
    uint64_t count;               /* of them */
    uint64_t first_lsn, last_lsn; /* that the log must have, and then those it has */
    uint64_t losses;
};

/* ---- a place for it ----------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *place)
{
    (void)stat, (void)type, (void)place;
    return remove(path);
}

static void remove_staging(const struct restore *restore)
{
    nftw(restore->staging, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static bool is_empty_or_missing(const char *dir)
{
    DIR *stream = opendir(dir);
    struct dirent *entry = NULL;

    if (!stream)
        return errno == ENOENT;

    do {
        entry = readdir(stream);
    } while (entry && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")));
    closedir(stream);
    return !entry;
}

static void take_paths(struct restore *restore, const char *dir)
{
    size_t length = strlen(dir);

    while (length > 1 && dir[length - 1] == '/')
        length--;
    if (length + sizeof(".restoring/segments/0123456789abcdef.twl") > PATH_MAX)
        usage_error("the name of the directory is too long");
    snprintf(restore->dir, sizeof(restore->dir), "%.*s", (int)length, dir);
    snprintf(restore->staging, sizeof(restore->staging), "%.*s.restoring", (int)length, dir);
    archive_path(restore->segments_dir, restore->staging, "segments");
    archive_path(restore->log_dir, restore->staging, "log");
}

/* A link to nothing is something, too. */
static bool has_name(const struct restore *restore)
{
    struct stat named;

    return lstat(restore->dir, &named) == 0 || errno != ENOENT;
}

/* Before the log gets the name of a directory that is there, it gets the rights of that. */
static int take_rights(const struct restore *restore)
{
    int error = copy_directory_rights(restore->dir, restore->log_dir);
    if (error && error != -ENOTDIR && error != -ELOOP) /* the naming says what is wrong with those */
        return fail("give the log the owner, mode and ACLs of", restore->dir, error, NULL,
                    "Run this as its owner, or name a directory that is none yet.");
    return STATUS_FINE;
}

/* An empty directory that is there is replaced at once by another one with its rights: if that cannot be done, as with
 * a mount or a symbolic link, nothing needs to be fetched to find out. */
static int try_name(const struct restore *restore)
{
    if (!has_name(restore))
        return STATUS_FINE;
    if (mkdir(restore->log_dir, 0700) < 0)
        return fail("make", restore->log_dir, -errno, NULL, NULL);

    int status = take_rights(restore);
    if (status != STATUS_FINE)
        return status;
    if (rename(restore->log_dir, restore->dir) == 0)
        return STATUS_FINE;
    return fail("replace", restore->dir, -errno, NULL,
                "The log is made beside it, and gets its name last: name a directory that is none yet, or an "
                "empty one that is no mount, no link and not '.'.");
}

static const char *advice_for_staging(int error)
{
    switch (error) {
    case -EEXIST:
        return "It is of another restore: if that was interrupted, remove the directory.";
    case -ENOENT:
        return "The directory above it must exist.";
    default:
        return advice_for_new_log(error);
    }
}

static int make_staging(const struct restore *restore)
{
    if (!is_empty_or_missing(restore->dir))
        return fail("restore", restore->dir, -ENOTEMPTY, NULL, "The directory must not exist, or be empty.");
    if (mkdir(restore->staging, 0777) < 0)
        return fail("make", restore->staging, -errno, NULL, advice_for_staging(-errno));
    int status = STATUS_FINE;
    if (!restore->only_lists && !restore->is_dry_run)
        status = try_name(restore);
    if (status == STATUS_FINE && mkdir(restore->segments_dir, 0777) < 0)
        status = fail("make", restore->segments_dir, -errno, NULL, NULL);
    if (status != STATUS_FINE)
        remove_staging(restore);
    return status;
}

/* ---- the files ---------------------------------------------------------------------------------- */

/* A command that cannot write a byte, as on a full disk, leaves what one leaves that finds no file. */
static int try_room(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;

    int error = -posix_fallocate(fd, 0, ROOM_BYTES);
    close(fd);
    unlink(path);
    if (error == -EOPNOTSUPP || error == -EINVAL)
        return 0;
    return error;
}

/* What came of the command: 1 = it is there; 0 = the archive does not have it; negative: failed, and said so. A command
 * that fails behind the first bytes, as on a full disk, has found the file. */
static int judge(int result, const char *name, const char *path)
{
    char words[SHELL_TEXT_BYTES];
    struct stat stat;

    if (stop_signal())
        return -1;
    if (result == 0) {
        if (lstat(path, &stat) == 0 && S_ISREG(stat.st_mode)) /* opening a pipe would wait for ever */
            return 1;

        complain("the command for %s ended with status 0, but made no file '%s'", name, path);
        return -1;
    }

    bool is_part = lstat(path, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size > 0;
    unlink(path);
    describe_shell(words, result);
    if (result > 0 && result <= 125 && !is_part) {
        const int error = try_room(path);
        if (error == 0)
            return 0;
        complain("the command for %s %s", name, words);
        fail("write", path, error, NULL, NULL);
        return -1;
    }

    complain("the command for %s %s%s", name, words, is_part ? ", and left a part of the file" : "");
    return -1;
}

static int fetch(const struct restore *restore, const char *name, const char *path)
{
    return judge(run_shell(restore->command, path, name), name, path);
}

static int refuse_file(const char *name, const char *words)
{
    complain("the archive is damaged: %s %s", name, words);
    return STATUS_DAMAGED;
}

static void name_number(const struct restore *restore, uint64_t number, char name[ARCHIVE_FILE_BYTES],
                        char path[PATH_MAX])
{
    char file[32];

    snprintf(file, sizeof(file), "%016" PRIx64 ".twl", number);
    archive_path(path, restore->segments_dir, file);
    name_archive_file(name, restore->id, number);
}

static int fetch_manifest(const struct restore *restore, char name[ARCHIVE_FILE_BYTES], char path[PATH_MAX])
{
    archive_path(path, restore->staging, "manifest");
    name_archive_manifest(name, restore->id);
    unlink(path); /* it is fetched once more to see whether the store is there */
    return fetch(restore, name, path);
}

/* The command says that a file is not there. Is the store away, or has it lost the file? */
static int fail_missing(const struct restore *restore, uint64_t number, const char *name)
{
    char manifest[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX];

    int found = fetch_manifest(restore, manifest, path);
    if (found < 0)
        return STATUS_FAILED;

    complain("the command does not get %s, file %" PRIu64 " of the %" PRIu64
             " that the archive should have: %s",
             name, number, restore->manifest.promised,
             found ? "the archive has a hole" : "nor the manifest, which it got before. Is the store away?");
    if (found)
        return STATUS_DAMAGED;
    return STATUS_FAILED;
}

static int read_fetched(const char *path, struct segment_file *ret_file)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;

    int error = read_segment_file(fd, ret_file);
    close(fd);
    return error;
}

/* Is it the file that was archived under this name? */
static int check_file(const struct restore *restore, uint64_t number, const char *name, const char *path)
{
    const struct segment_file *wanted = &restore->manifest.files[number - 1];
    struct segment_file file;

    int error = read_fetched(path, &file);
    if (error == TWINLOG_ECORRUPT)
        return refuse_file(name, "is no segment");
    if (error)
        return fail("read", path, error, NULL, NULL);
    if (!file.is_sealed)
        return refuse_file(name, "is not whole");
    if (memcmp(file.log_id, wanted->log_id, sizeof(file.log_id)) != 0)
        return refuse_file(name, "is of another log");
    if (!is_same_segment(&file, wanted))
        return refuse_file(name,
                           "is another file than the one that was archived under this name. Is it of another "
                           "history of the log, as of a copy, that was archived in the same place?");

    return STATUS_FINE;
}

/* The file goes on with the chain of the one before, as it was behind the last record that counts there. */
static int check_seam(const struct restore *restore, uint64_t number, uint64_t before)
{
    const struct segment_file *file = &restore->manifest.files[number - 1];
    uint32_t chain = restore->manifest.files[before - 1].end_chain;
    char name[ARCHIVE_FILE_BYTES], name_before[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX], text[32];

    if (file->start_lsn) {
        snprintf(text, sizeof(text), "%016" PRIx64 ".twl", before);
        archive_path(path, restore->segments_dir, text);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return fail("read", path, -errno, NULL, NULL);

        int error = read_chain_behind(fd, file->start_lsn - 1, &chain);
        close(fd);
        if (error && error != TWINLOG_ECORRUPT)
            return fail("read", path, error, NULL, NULL);
        if (error)
            chain = ~file->chain;
    }

    if (chain == file->chain)
        return STATUS_FINE;

    name_archive_file(name, restore->id, number);
    name_archive_file(name_before, restore->id, before);
    complain(
        "the archive is damaged: %s does not continue %s: they are of different histories of the log, from LSN "
        "%" PRIu64 " on. --to %" PRIu64 " restores what is in front of that.",
        name, name_before, first_lsn_of(file), first_lsn_of(file) - 1);
    return STATUS_DAMAGED;
}

/* Commands run ahead of the file that is checked: file i has process i % MOST_JOBS. */
static int fetch_files(struct restore *restore)
{
    char name[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX];
    int processes[MOST_JOBS];
    int status = STATUS_FINE;
    uint64_t started = 0, i = 0;

    for (; status == STATUS_FINE && i < restore->count; i++) {
        for (; started < restore->count && started < i + restore->jobs; started++) {
            name_number(restore, restore->path[started], name, path);
            processes[started % MOST_JOBS] = start_shell(restore->command, path, name);
        }

        const uint64_t number = restore->path[i];
        name_number(restore, number, name, path);
        int found = judge(end_shell(processes[i % MOST_JOBS], true), name, path);
        if (found < 0)
            status = STATUS_FAILED;
        else if (found == 0)
            status = fail_missing(restore, number, name);
        else
            status = check_file(restore, number, name, path);
        if (status == STATUS_FINE && i > 0)
            status = check_seam(restore, number, restore->path[i - 1]);
        if (is_progress_due())
            show_progress("%" PRIu64 " files of %" PRIu64, i + 1, restore->count);
    }

    for (; i < started; i++)
        end_shell(processes[i % MOST_JOBS], false);
    clear_progress();
    return status;
}

static int find_identity(struct restore *restore)
{
    char path[PATH_MAX];

    if (restore->id[0])
        return STATUS_FINE;

    archive_path(path, restore->staging, ARCHIVE_IDENTITY_FILE);
    int found = fetch(restore, ARCHIVE_IDENTITY_FILE, path);
    if (found < 0)
        return STATUS_FAILED;
    if (found == 0) {
        complain(
            "there is no file " ARCHIVE_IDENTITY_FILE
            ": it is no archive, or the command does not find it; else say --archive ID, the 16 digits in front "
            "of the names");
        return STATUS_FAILED;
    }

    int error = read_archive_identity(path, restore->id);
    if (error)
        return refuse_file(ARCHIVE_IDENTITY_FILE, "is not what an archive has under this name");
    return STATUS_FINE;
}

/* ---- the path ----------------------------------------------------------------------------------- */

/* A manifest that was cut still says what its lines say, but not what the newest history is. */
static int take_manifest(struct restore *restore)
{
    char name[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX];

    int found = fetch_manifest(restore, name, path);
    if (found < 0)
        return STATUS_FAILED;
    if (found == 0) {
        complain("there is no file %s: nothing was archived yet, or the command does not find it", name);
        return STATUS_FAILED;
    }

    FILE *file = fopen(path, "re");
    int error = read_manifest(file, &restore->manifest);
    if (file)
        fclose(file);
    if (error == TWINLOG_ECORRUPT || (error == 0 && strcmp(restore->manifest.id, restore->id) != 0))
        return refuse_file(name, "is no manifest of this archive");
    if (error)
        return fail("read", path, error, NULL, NULL);
    if (restore->manifest.count < restore->manifest.promised && !restore->history) {
        complain("the archive is damaged: %s should list %" PRIu64 " files, and lists %" PRIu64
                 ". --history %" PRIu64 " restores what they have",
                 name, restore->manifest.promised, restore->manifest.count, restore->manifest.count);
        return STATUS_DAMAGED;
    }

    return STATUS_FINE;
}

/* Behind the newest file of the manifest. What begins with a truncation is compared when it is fetched. */
static bool may_come_next(const struct manifest *manifest, const struct segment_file *file)
{
    if (manifest->count == 0)
        return true;

    const struct segment_file *newest = &manifest->files[manifest->count - 1];
    if (memcmp(file->log_id, newest->log_id, sizeof(file->log_id)) != 0)
        return false;
    if (file->sequence <= newest->sequence)
        return false;
    if (file->start_lsn)
        return true;
    return file->before == newest->sequence && file->chain == newest->end_chain;
}

/* Is there a file of that number? 1, 0, or negative: failed, and said so. */
static int look_for_file(const struct restore *restore, uint64_t number)
{
    char name[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX];

    name_number(restore, number, name, path);
    const int result = ask_shell(restore->command, path, name);
    if (result == 0 && !stop_signal() && access(path, F_OK) < 0)
        return 0; /* a command may forget that it has failed, and no file is none */
    return judge(result, name, path);
}

/* The same. It says itself which segment it is. */
static int look_at_file(const struct restore *restore, uint64_t number, struct segment_file *ret_file)
{
    const struct manifest *manifest = &restore->manifest;
    char name[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX];

    int found = look_for_file(restore, number);
    if (found <= 0)
        return found;

    name_number(restore, number, name, path);
    int error = read_fetched(path, ret_file);
    unlink(path);
    if (error && error != TWINLOG_ECORRUPT) {
        fail("read", path, error, NULL, NULL);
        return -1;
    }

    if (!error && ret_file->is_sealed && may_come_next(manifest, ret_file))
        return 1;

    complain(
        "the archive is damaged: %s, behind the %" PRIu64
        " files that the manifest lists, is no whole segment, or does not continue them. --history %" PRIu64
        " restores what is in front of it",
        name, manifest->count, manifest->count);
    return REFUSED_FILE;
}

/* The manifest may be older than the archive: an archiver was killed in front of the next one, or the upload of an old
 * one has ended late. So the store is asked for files behind those that the manifest lists, and for one more, as the
 * first may be the one that is missing. */
static int look_behind(struct restore *restore)
{
    struct manifest *manifest = &restore->manifest;
    struct segment_file file;
    int found = 1;

    if (restore->history)
        return STATUS_FINE;

    while (found > 0) {
        found = look_at_file(restore, manifest->count + 1, &file);
        if (found > 0 && add_to_manifest(manifest, &file))
            return fail_start(-ENOMEM);
    }

    const bool is_hole = found == 0 && look_for_file(restore, manifest->count + 2) > 0;
    if (stop_signal() || (found < 0 && found != REFUSED_FILE))
        return STATUS_FAILED;
    if (found < 0)
        return STATUS_DAMAGED;
    if (is_hole) {
        complain("the archive has a hole: it has file %" PRIu64 ", and file %" PRIu64
                 ", which the manifest does not list, is missing. --history %" PRIu64
                 " restores what is in front of it",
                 manifest->count + 2, manifest->count + 1, manifest->count);
        return STATUS_DAMAGED;
    }

    if (manifest->count > manifest->promised)
        complain(
            "note: the archive has %" PRIu64 " files, and its manifest lists %" PRIu64
            ", as while an archiver runs, or where an older manifest came late: those behind it were checked "
            "by themselves",
            manifest->count, manifest->promised);
    manifest->promised = manifest->count;
    return STATUS_FINE;
}

/* Which history is wanted? */
static int take_history(struct restore *restore)
{
    int status = look_behind(restore);

    if (status != STATUS_FINE)
        return status;
    if (!restore->history)
        restore->history = restore->manifest.count;
    if (restore->history > restore->manifest.count) {
        complain("the archive has no file %" PRIu64 ", its newest one is %" PRIu64, restore->history,
                 restore->manifest.count);
        return STATUS_FAILED;
    }

    return STATUS_FINE;
}

/* From the newest file back, each to the one that it continues, to the first of the archive or of the log. Files with
 * later records only than are wanted stay away. */
static int find_path(struct restore *restore)
{
    const struct manifest *manifest = &restore->manifest;
    const struct segment_file *file = NULL;
    uint64_t before = 0;
    uint64_t *end = calloc(restore->history, sizeof(*end)); /* filled from its end */

    restore->path = end;
    if (!end)
        return fail_start(-ENOMEM);

    end += restore->history;
    for (uint64_t number = restore->history; number > 0; number = before) {
        file = &manifest->files[number - 1];
        before = find_continued(manifest, number);
        if (before == 0 && number > 1 && file->before > 0) {
            complain("the archive has a hole: segment %" PRIu64 ", which segment %" PRIu64
                     " continues, is not in it",
                     file->before, file->sequence);
            return STATUS_DAMAGED;
        }

        bool is_behind = restore->has_lsn && before > 0 && restore->to_lsn < first_lsn_of(file);
        if (!is_behind)
            end[-(ptrdiff_t)++restore->count] = number;
    }

    memmove(restore->path, end - restore->count, restore->count * sizeof(*end));
    restore->first_lsn = first_lsn_of(file);
    restore->last_lsn = manifest->files[restore->path[restore->count - 1] - 1].last_lsn;
    return STATUS_FINE;
}

/* ---- the log ------------------------------------------------------------------------------------ */

/* Is this what the repair of a whole archive finds, too? */
static bool is_expected(const struct restore *restore, const struct twinlog_report *lost)
{
    const struct segment_file *oldest = &restore->manifest.files[restore->path[0] - 1];

    /* An archive has no state file. */
    if (lost->finding == TWINLOG_FOUND_BAD_STATE)
        return true;

    /* It begins where the log had been trimmed by then. */
    const bool is_in_front = lost->last_lsn == 0 && lost->segment < oldest->sequence;
    if (lost->finding == TWINLOG_FOUND_MISSING_SEGMENT && is_in_front)
        return true;

    /* The newest segment proves that the log went on: there is a filler for that. */
    return lost->first_lsn == restore->last_lsn + 1 && lost->last_lsn == lost->first_lsn;
}

static int take_loss(void *context, const struct twinlog_report *lost)
{
    struct restore *restore = context;
    const bool has_file = lost->file[0] != '\0';

    if (is_expected(restore, lost))
        return 0;

    restore->losses++;
    if (has_file)
        complain("the archive is damaged: %s: %s", lost->file, lost->text);
    else
        complain("the archive is damaged: %s", lost->text);
    return 0;
}

static int make_log(struct restore *restore)
{
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;

    options.each = take_loss;
    options.progress = show_bytes_progress;
    options.context = restore;
    int error = twinlog_repair(restore->segments_dir, restore->log_dir, &options, &result);
    clear_progress();
    if (restore->losses)
        return STATUS_DAMAGED;
    if (error)
        return fail("make a log of the files in", restore->segments_dir, error, NULL, NULL);
    if (result.first_lsn != restore->first_lsn || result.last_lsn < restore->last_lsn ||
        result.last_lsn > restore->last_lsn + 1) {
        complain("the archive is damaged: its segments say LSN %" PRIu64 " to %" PRIu64
                 ", their records are LSN %" PRIu64 " to %" PRIu64,
                 restore->first_lsn, restore->last_lsn, result.first_lsn, result.last_lsn);
        return STATUS_DAMAGED;
    }

    return STATUS_FINE;
}

/* The newest record in front of the first one of that time or later. */
static int find_time(struct restore *restore)
{
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;

    int found = twinlog_reader_open(restore->log_dir, NULL, &reader);
    if (found == 0)
        found = twinlog_reader_seek_time(reader, restore->to_ns);
    if (found == 0)
        found = twinlog_reader_next(reader, &record);
    if (found > 0)
        restore->to_lsn = record.lsn - 1;
    twinlog_reader_close(reader);
    if (found < 0)
        return fail("read", restore->log_dir, found, NULL, NULL);
    if (found > 0)
        return STATUS_FINE;

    complain(
        "the archive does not reach --to: it has no record of that time or later. Without --to it is restored "
        "up to LSN %" PRIu64,
        restore->last_lsn);
    return STATUS_DAMAGED;
}

static int truncate_log(struct restore *restore)
{
    struct twinlog *log = NULL;

    int error = twinlog_open(restore->log_dir, NULL, &log);
    if (error == 0)
        error = twinlog_truncate(log, restore->to_lsn);
    int closed = twinlog_close(log);
    if (!error)
        error = closed;
    restore->last_lsn = restore->to_lsn;
    if (error)
        return fail("truncate", restore->log_dir, error, NULL, NULL);
    return STATUS_FINE;
}

static int go_to_point(struct restore *restore)
{
    int status = STATUS_FINE;

    if (restore->has_time)
        status = find_time(restore);

    if (status != STATUS_FINE)
        return status;
    if (!restore->has_lsn && !restore->has_time)
        restore->to_lsn = restore->last_lsn; /* without the filler behind it */
    if (restore->to_lsn > restore->last_lsn || restore->to_lsn + 1 < restore->first_lsn) {
        complain("the archive does not reach --to: it has LSN %" PRIu64 " to %" PRIu64, restore->first_lsn,
                 restore->last_lsn);
        return STATUS_DAMAGED;
    }

    return truncate_log(restore);
}

static int name_log(const struct restore *restore)
{
    int status = STATUS_FINE;
    if (has_name(restore))
        status = take_rights(restore);
    if (status != STATUS_FINE)
        return status;

    int error = name_directory(restore->log_dir, restore->dir);
    if (error)
        return fail("name", restore->dir, error, NULL, NULL);
    return STATUS_FINE;
}

/* ---- the command ------------------------------------------------------------------------------- */

static void print_result(const struct restore *restore)
{
    bool is_empty = restore->last_lsn < restore->first_lsn;
    char lsns[LSNS_TEXT_BYTES] = "no records";

    if (restore->is_json) {
        json_begin_object(NULL);
        json_text("archive", restore->id);
        json_number("history", restore->history);
        json_number("segments", restore->count);
        json_number("first_lsn", is_empty ? 0 : restore->first_lsn);
        json_number("last_lsn", is_empty ? 0 : restore->last_lsn);
        json_end_object();
        json_end_line();
        return;
    }

    if (!is_empty)
        describe_lsns(lsns, restore->first_lsn, restore->last_lsn);
    printf("%s%s, from %" PRIu64 " file%s of the archive %s\n", restore->is_dry_run ? "sound: " : "", lsns,
           restore->count, plural(restore->count), restore->id);
}

static int run_restore(struct restore *restore)
{
    int (*const steps[])(struct restore * restore) = { find_identity, take_manifest, take_history, find_path,
                                                       fetch_files,   make_log,      go_to_point };
    size_t count = 3;
    if (!restore->only_lists)
        count = sizeof(steps) / sizeof(steps[0]);

    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
    int error = stop_on_signals();
    if (error)
        return fail_start(error);

    int status = make_staging(restore);
    if (status != STATUS_FINE)
        return status;

    for (size_t i = 0; i < count && status == STATUS_FINE && !stop_signal(); i++)
        status = steps[i](restore);
    if (status == STATUS_FINE && !stop_signal() && !restore->only_lists && !restore->is_dry_run)
        status = name_log(restore);
    remove_staging(restore);
    if (stop_signal())
        stop_by_signal();
    if (status == STATUS_FINE && restore->only_lists)
        error = list_histories(&restore->manifest, restore->is_json);
    else if (status == STATUS_FINE)
        print_result(restore);
    free(restore->path);
    free(restore->manifest.files);
    if (error)
        return fail_start(error);
    return finish_output(status);
}

static void take_point(struct restore *restore)
{
    restore->has_lsn = optarg[0] && optarg[strspn(optarg, "0123456789")] == '\0';
    restore->has_time = !restore->has_lsn;
    if (restore->has_lsn)
        restore->to_lsn = take_number("--to", 0, INT64_MAX);
    else
        restore->to_ns = take_time("--to");
}

static int restore_run(const struct command *command, int argc, char **argv)
{
    static struct restore restore = { .jobs = 4 }; /* too large for the stack */
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_COMMAND) {
            restore.command = optarg;
        } else if (value == OPTION_TO) {
            take_point(&restore);
        } else if (value == OPTION_ARCHIVE) {
            if (!is_archive_id(optarg))
                usage_error("--archive: '%s' is not 16 digits of 0-9a-f", optarg);
            snprintf(restore.id, sizeof(restore.id), "%s", optarg);
        } else if (value == OPTION_HISTORY) {
            restore.history = take_number("--history", 1, UINT64_MAX);
        } else if (value == OPTION_LIST) {
            restore.only_lists = true;
        } else if (value == OPTION_JOBS) {
            restore.jobs = (unsigned)take_number("--jobs", 1, MOST_JOBS);
        } else if (value == OPTION_DRY_RUN) {
            restore.is_dry_run = true;
        } else {
            restore.is_json = true;
        }
    }

    take_paths(&restore, take_directory(argc, argv));
    check_shell(restore.command);
    if (restore.only_lists && (restore.history || restore.has_lsn || restore.has_time || restore.is_dry_run))
        usage_error("--list only looks: it excludes --history, --to and --dry-run");
    return run_restore(&restore);
}

const struct command restore_command = {
    .name = "restore",
    .summary = "make a log of what was archived, up to a point",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = restore_run,
};
