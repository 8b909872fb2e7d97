/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog restore: makes a log of an archive, as it was at some point.
 *
 *     DIR.restoring/segments    gets the files of the archive, by their numbers, until one is not there
 *     DIR.restoring/log         a repair of these files: no fault but a missing state file and end
 *     DIR                       the log, with a truncation to the point, gets its name last
 *
 * So the library reads every byte, the new log has an identity of its own, and a restore that is interrupted leaves no
 * log under the name DIR. What a repair cannot know is checked here: that the path through the segments has no gap, and
 * that the log begins and ends as its oldest and its newest segment say.
 */
#define _GNU_SOURCE
#include "../json.h"
#include "../options.h"
#include "../stop.h"
#include "../when.h"
#include "segment_file.h"
#include "shell.h"
#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog_admin.h>
#include <unistd.h>

/* Files behind the last one that are asked for, to notice a gap: each of the first ones, then some. */
#define NEAR_PROBES 8u
#define FARTHEST_PROBE 64u

static const char about[] =
    "Usage: twinlog restore DIR --command 'COMMAND' [options]\n"
    "\n"
    "Makes DIR a log of what 'twinlog archive' has kept. The command gets each file back: %f\n"
    "is its name in the archive, %p the path to copy it to. DIR must not exist, or be empty.\n"
    "Every record is checked; a file that is of another log, or damaged, or up to eight that\n"
    "are missing between others end the restore, and there is no log then.\n";

static const struct option_row option_rows[] = {
    { OPTION_COMMAND, "command", "COMMAND",
      "copies the file %f of the archive to %p; fails if there is none" },
    { OPTION_TO, "to", "LSN or TIME",
      "end with this record, or in front of the first record of this time or later (default: with the newest)" },
    { OPTION_ARCHIVE, "archive", "ID",
      "of several archives in one place (default: the one that began last)" },
    { OPTION_JSON, "json", NULL, "one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "A time is 2026-11-20T10:00:00Z, '2026-11-20 10:00' (local), 15m (ago) or @1763632800. The\n"
    "files are fetched into DIR.restoring: that takes twice the space of the log. Cursors and\n"
    "values are not in an archive. The new log has an identity of its own: archive it anew.\n"
    "\n"
    "A command that ends with 1 to 125 says that there is no such file; the restore ends with\n"
    "the file before it. Any other status is a failure, and so is a part of the file at %p.\n"
    "\n"
    "Exit status: 0 DIR is whole and durable; 1 an operation failed; 2 wrong usage; 3 the\n"
    "archive is damaged, has a hole, or does not reach the point.\n"
    "\n"
    "Example: the log as it was when the day began\n"
    "  twinlog restore orders.today --command 'cp /mnt/a/%f %p' --to today\n";

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

    struct segment_file *files; /* in the order of the archive */
    uint64_t count;
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
    while ((entry = readdir(stream)) && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")))
        ;
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

/* An empty directory that is there is replaced at once by another one: if that cannot be done, as with a mount or a
 * symbolic link, nothing needs to be fetched to find out. */
static int try_name(const struct restore *restore)
{
    if (access(restore->dir, F_OK) < 0 && errno == ENOENT)
        return STATUS_FINE;
    if (mkdir(restore->log_dir, 0777) == 0 && rename(restore->log_dir, restore->dir) == 0)
        return STATUS_FINE;
    return fail("replace", restore->dir, -errno, NULL,
                "The log is made beside it, and gets its name last: name a directory that is none yet, or an "
                "empty one that is no mount, no link and not '.'.");
}

static int make_staging(const struct restore *restore)
{
    if (!is_empty_or_missing(restore->dir))
        return fail("restore", restore->dir, -ENOTEMPTY, NULL, "The directory must not exist, or be empty.");
    if (mkdir(restore->staging, 0777) < 0)
        return fail("make", restore->staging, -errno, NULL,
                    errno == EEXIST
                        ? "It is of another restore: if that was interrupted, remove the directory."
                        : NULL);
    int status = try_name(restore);
    if (status == STATUS_FINE && mkdir(restore->segments_dir, 0777) < 0)
        status = fail("make", restore->segments_dir, -errno, NULL, NULL);
    if (status != STATUS_FINE)
        remove_staging(restore);
    return status;
}

/* ---- the files ---------------------------------------------------------------------------------- */

/* 1 = it is there; 0 = the archive does not have it; negative: failed, and said so. A command that fails behind the
 * first bytes, as on a full disk, has found the file. */
static int fetch(const struct restore *restore, const char *name, const char *path)
{
    char words[SHELL_TEXT_BYTES];
    struct stat stat;
    int result = run_shell(restore->command, path, name);

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
    if (result > 0 && result <= 125 && !is_part)
        return 0;
    describe_shell(words, result);
    complain("the command for %s %s%s", name, words, is_part ? ", and left a part of the file" : "");
    return -1;
}

static int refuse_file(const char *name, const char *words)
{
    complain("the archive is damaged: %s %s", name, words);
    return STATUS_DAMAGED;
}

static int take_file(struct restore *restore, const char *name, const char *path)
{
    struct segment_file *files = reallocarray(restore->files, restore->count + 1, sizeof(*files));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int error = files ? 0 : -ENOMEM;

    if (files)
        restore->files = files;
    if (error == 0)
        error = fd < 0 ? -errno : read_segment_file(fd, &files[restore->count]);
    if (fd >= 0)
        close(fd);
    if (error == TWINLOG_ECORRUPT)
        return refuse_file(name, "is no segment");
    if (error)
        return fail("read", path, error, NULL, NULL);
    if (!files[restore->count].is_sealed)
        return refuse_file(name, "is not whole");
    if (memcmp(files[restore->count].log_id, files[0].log_id, sizeof(files[0].log_id)) != 0)
        return refuse_file(name, "is of another log");
    if (restore->count > 0 && files[restore->count].sequence <= files[restore->count - 1].sequence)
        return refuse_file(name, "does not come behind the one before it");
    restore->count++;
    return STATUS_FINE;
}

static int fetch_number(const struct restore *restore, uint64_t number, char name[ARCHIVE_FILE_BYTES],
                        char path[PATH_MAX])
{
    char file[32];

    snprintf(file, sizeof(file), "%016" PRIx64 ".twl", number);
    archive_path(path, restore->segments_dir, file);
    name_archive_file(name, restore->id, number);
    return fetch(restore, name, path);
}

/* A file behind the end tells a gap from the end: always, if the gap is no longer than NEAR_PROBES files. */
static int check_end(const struct restore *restore)
{
    char name[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX];

    for (uint64_t ahead = 1; ahead <= FARTHEST_PROBE; ahead += ahead < NEAR_PROBES ? 1 : ahead) {
        int found = fetch_number(restore, restore->count + 1 + ahead, name, path);
        if (found < 0)
            return STATUS_FAILED;
        if (found == 0)
            continue;
        char missing[ARCHIVE_FILE_BYTES];
        name_archive_file(missing, restore->id, restore->count + 1);
        complain("the archive has a hole: %s is there, and %s is not", name, missing);
        return STATUS_DAMAGED;
    }
    return STATUS_FINE;
}

static int fetch_files(struct restore *restore)
{
    char name[ARCHIVE_FILE_BYTES];
    char path[PATH_MAX];
    int found = 0;

    while ((found = fetch_number(restore, restore->count + 1, name, path)) > 0) {
        int status = take_file(restore, name, path);
        if (status != STATUS_FINE)
            return status;
        if (is_progress_due())
            show_progress("%" PRIu64 " files", restore->count);
    }
    clear_progress();
    if (found < 0)
        return STATUS_FAILED;
    int status = check_end(restore);
    if (status != STATUS_FINE || restore->count > 0)
        return status;
    complain("there is no file %s: the archive is empty, or the command does not find it", name);
    return STATUS_FAILED;
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
    return error ? refuse_file(ARCHIVE_IDENTITY_FILE, "is not what an archive has under this name")
                 : STATUS_FINE;
}

/* ---- the path ----------------------------------------------------------------------------------- */

static const struct segment_file *find_file(const struct restore *restore, uint64_t sequence)
{
    for (uint64_t i = restore->count; i-- > 0;)
        if (restore->files[i].sequence == sequence)
            return &restore->files[i];
    return NULL;
}

/* From the newest segment back, each to the one that it continues, to the first of the archive or of the log. */
static int check_path(struct restore *restore)
{
    const struct segment_file *file = &restore->files[restore->count - 1];

    restore->last_lsn = file->last_lsn;
    while (file != &restore->files[0] && file->before > 0) {
        const struct segment_file *before = find_file(restore, file->before);
        if (!before) {
            complain("the archive has a hole: segment %" PRIu64 ", which segment %" PRIu64
                     " continues, is not in it",
                     file->before, file->sequence);
            return STATUS_DAMAGED;
        }
        file = before;
    }
    restore->first_lsn = file->start_lsn ? file->start_lsn : file->first_lsn;
    return STATUS_FINE;
}

/* ---- the log ------------------------------------------------------------------------------------ */

static int take_loss(void *context, const struct twinlog_report *lost)
{
    struct restore *restore = context;

    /* An archive has no state file. Its newest segment proves that the log went on: there is a filler for that. */
    if (lost->finding == TWINLOG_FOUND_BAD_STATE ||
        (lost->first_lsn == restore->last_lsn + 1 && lost->last_lsn == lost->first_lsn))
        return 0;
    restore->losses++;
    complain("the archive is damaged: %s%s%s", lost->file, lost->file[0] ? ": " : "", lost->text);
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
    error = error ? error : closed;
    restore->last_lsn = restore->to_lsn;
    return error ? fail("truncate", restore->log_dir, error, NULL, NULL) : STATUS_FINE;
}

static int go_to_point(struct restore *restore)
{
    int status = restore->has_time ? find_time(restore) : STATUS_FINE;

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
    char parent[PATH_MAX];

    if (rename(restore->log_dir, restore->dir) < 0)
        return fail("name", restore->dir, -errno, NULL, NULL);
    const char *slash = strrchr(restore->dir, '/');
    if (slash)
        snprintf(parent, sizeof(parent), "%.*s/", (int)(slash - restore->dir), restore->dir);
    int error = sync_directory(slash ? parent : ".");
    return error ? fail("sync the directory of", restore->dir, error, NULL, NULL) : STATUS_FINE;
}

/* ---- the command ------------------------------------------------------------------------------- */

static void print_result(const struct restore *restore)
{
    bool is_empty = restore->last_lsn < restore->first_lsn;
    char lsns[LSNS_TEXT_BYTES] = "no records";

    if (restore->is_json) {
        json_begin_object(NULL);
        json_text("archive", restore->id);
        json_number("segments", restore->count);
        json_number("first_lsn", is_empty ? 0 : restore->first_lsn);
        json_number("last_lsn", is_empty ? 0 : restore->last_lsn);
        json_end_object();
        json_end_line();
        return;
    }
    if (!is_empty)
        describe_lsns(lsns, restore->first_lsn, restore->last_lsn);
    printf("%s, from %" PRIu64 " file%s of the archive %s\n", lsns, restore->count, plural(restore->count),
           restore->id);
}

static int run_restore(struct restore *restore)
{
    int (*const steps[])(struct restore * restore) = { find_identity, fetch_files, check_path, make_log,
                                                       go_to_point };

    int error = stop_on_signals();
    if (error)
        return fail_start(error);
    int status = make_staging(restore);
    if (status != STATUS_FINE)
        return status;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && status == STATUS_FINE && !stop_signal(); i++)
        status = steps[i](restore);
    if (status == STATUS_FINE && !stop_signal())
        status = name_log(restore);
    remove_staging(restore);
    free(restore->files);
    if (stop_signal())
        stop_by_signal();
    if (status == STATUS_FINE)
        print_result(restore);
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
    static struct restore restore; /* too large for the stack */
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
        } else {
            restore.is_json = true;
        }
    }
    take_paths(&restore, take_directory(argc, argv));
    check_shell(restore.command);
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
