/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog archive: hands each sealed segment to a command, oldest first, as PostgreSQL's archive_command gets its
 * segments. Uses the public calls only: a consumer named "archive" keeps a second archiver out, and its cursor holds
 * back what is not archived yet.
 *
 *     list the segments             the cursor moves behind the newest that is kept, and still in the log
 *     sync the next one             what the command reads survives a power cut, and never changes; a mapped segment
 *                                   behind it, too: without that the log would go on in this one
 *     give it a second name         so the log neither recycles it nor removes the bytes; durable
 *     run the command               0: it is kept
 *     the same with the manifest    which has a line of each segment that is kept; see manifest.h
 *     save the status               durable; then the second name goes
 *
 * A segment that has a second name is archived before all others, also by the next archiver, and also if the log has
 * truncated or trimmed it meanwhile: a name in the archive stands for the same bytes for ever. Only after a kill
 * between the command and the status does the command get them twice. The second name has the sequence in it: a power
 * cut may bring back one that was removed, of a file that is a later segment by then. A truncation is a later segment
 * that says which earlier one it continues, so the archive needs no more than the segments.
 */
#define _GNU_SOURCE
#include "../failures.h"
#include "../opening.h"
#include "../options.h"
#include "../stop.h"
#include "../when.h"
#include "manifest.h"
#include "shell.h"
#include "status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog_admin.h>
#include <unistd.h>

#define LOOK_MS 200u        /* between two looks for a segment that was sealed */
#define LOOKS 150u          /* then the segments are listed in any case */
#define SEGMENTS_A_LIST 16u /* then the cursor moves, and they are listed again */
#define FIRST_WAIT_MS 1000u /* after a failure; twice as long after each next one */
#define LONGEST_WAIT_MS 60000u
#define NEXT_PREFIX "next-"   /* and 16 hexadecimal digits: the sequence */
#define ARCHIVE_SUFFIX ".twl" /* of the name that a segment gets in the archive */
#define USE_LOCK 1            /* of docs/format.md: a file under it gets no new incarnation */

static const char about[] =
    "Usage: twinlog archive DIR --command 'COMMAND' [options]\n"
    "\n"
    "Hands each full segment of the log in DIR to a command of the shell, oldest first, also\n"
    "beside the log's writer. In the command %p is a path of the file, %f the name it must\n"
    "get, and %% is %. Exit status 0 means that the command has kept the file, durably. No\n"
    "trim or limit removes a segment before that: the cursor 'archive' holds it. 'twinlog\n"
    "restore' makes a log of what was kept.\n";

static const struct option_row option_rows[] = {
    { OPTION_COMMAND, "command", "COMMAND", "keeps the file %p under the name %f" },
    { OPTION_FOLLOW, "follow", NULL,
      "wait for more, and try again after a failure, until SIGINT, SIGTERM or SIGHUP" },
    { OPTION_ONCE, "once", NULL, "end when all full segments are kept, or at the first failure (default)" },
    { OPTION_STATUS, "status", NULL,
      "only show how far the archive is, what waits for it, the command that runs, and the last failure" },
    { OPTION_LIST, "list", NULL,
      "only list the histories that the archive has: a truncation or a reset begins another one" },
    { OPTION_JSON, "json", NULL, "with --status and --list: as one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "In front of the first segment the command gets the file twinlog.archive, by which restore\n"
    "knows the archive, and behind each segment the manifest, ID.manifest, which lists all of\n"
    "them. After a kill the command may get the same file, with the same bytes, once more: it\n"
    "must answer 0. Only the manifest gets new bytes: the command should write over no other\n"
    "file, and keep nothing under %f before it is whole. So the one below refuses another\n"
    "archive in the same place, which has its own twinlog.archive: give it another directory.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation or the command failed; 2 wrong usage; 3 acknowledged\n"
    "data is damaged, or was removed before it was archived.\n"
    "\n"
    "Example: into a directory\n"
    "  twinlog archive orders --follow --command \\\n"
    "    'cmp -s %p /mnt/a/%f || {\n"
    "     case %f in *.manifest) ;; *) test ! -e /mnt/a/%f;; esac && cp %p /mnt/a/%f.$$ &&\n"
    "     sync /mnt/a/%f.$$ && mv /mnt/a/%f.$$ /mnt/a/%f; } && sync /mnt/a'\n";

struct archive {
    const char *dir;
    const char *command;
    bool is_follow;
    struct twinlog_consumer *consumer; /* keeps others out */
    struct twinlog *log;               /* for the cursor */
    struct archive_state state;
    struct failures failures;
    struct manifest manifest;
    int folder;         /* "archive" in the log's directory */
    int running;        /* the file of that name in there */
    char next_name[32]; /* in there: the second name of the segment that is handed over */

    /* Of the last list. */
    struct twinlog_segment *segments; /* those that make the log */
    size_t count;
    char open_file[64]; /* the first one that is not sealed */
    unsigned char marks[SEGMENT_MARKS_BYTES];

    uint64_t kept;  /* segments, by this process */
    bool has_noted; /* why the last attempt failed */
};

/* What a step returns besides a status. */
#define STEP_AGAIN (-1) /* the log has changed: list the segments again */

/* ---- the directory "archive" -------------------------------------------------------------------- */

/* The command gets paths below it: see hand_over(). A directory of this user's may have been made with a umask that let
 * its group write there. */
static int take_folder(const struct archive *archive)
{
    const mode_t others = S_IWGRP | S_IWOTH;
    struct stat held;

    if (fstat(archive->folder, &held) < 0)
        return fail("look at the directory 'archive' of", archive->dir, -errno, NULL, NULL);
    if (held.st_uid != geteuid())
        return fail("use the directory 'archive' of", archive->dir, -EPERM, NULL,
                    "It must be this user's: run this as its owner, or 'chown' it to this user.");
    if ((held.st_mode & others) && fchmod(archive->folder, held.st_mode & 07777 & ~others) < 0)
        return fail("keep others from writing to the directory 'archive' of", archive->dir, -errno, NULL,
                    NULL);
    return STATUS_FINE;
}

/* Segments are found by the log's name, what is kept of them by the open directory. An open handle stays with a log
 * that was removed, or got another name, and does not notice that another one is in its place. */
static int check_place(struct archive *archive)
{
    char path[PATH_MAX];
    struct stat held, named;

    int error = archive_path(path, archive->dir, ARCHIVE_NAME);
    if (error == 0 && (fstat(archive->folder, &held) < 0 || lstat(path, &named) < 0))
        error = -errno;
    if (error && error != -ENOENT && error != -ENOTDIR)
        return fail("look at the directory 'archive' of", archive->dir, error, NULL, NULL);
    if (error == 0 && is_same_file(&held, &named))
        return STATUS_FINE;

    complain(
        "'%s/archive' is not there any more, or is another one than at the start: the log or its archive was "
        "removed or replaced. Nothing more is archived.",
        archive->dir);
    complain("Start this again, with another place for a new archive. The old one ends at LSN %" PRIu64 ".",
             archive->state.last_lsn);
    archive->has_noted = true; /* there is another log, or none */
    return STATUS_DAMAGED;
}

/* ---- the list ---------------------------------------------------------------------------------- */

static int take_segment(void *context, const struct twinlog_segment *segment)
{
    struct archive *archive = context;

    if (segment->state > TWINLOG_SEGMENT_ACTIVE)
        return 0;

    struct twinlog_segment *more =
        reallocarray(archive->segments, archive->count + 1, sizeof(*archive->segments));
    if (!more)
        return -ENOMEM;

    archive->segments = more;
    archive->segments[archive->count++] = *segment;
    return 0;
}

/* What the first segment that is not sealed looks like: its seal changes the marks. */
static bool look_at_open_file(struct archive *archive)
{
    char path[PATH_MAX];
    unsigned char marks[SEGMENT_MARKS_BYTES] = { 0 };
    bool is_same = false;

    if (archive_path(path, archive->dir, archive->open_file) == 0) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        is_same = fd >= 0 && read_segment_marks(fd, marks) == 0 &&
                  memcmp(marks, archive->marks, sizeof(marks)) == 0;
        if (fd >= 0)
            close(fd);
    }

    memcpy(archive->marks, marks, sizeof(marks));
    return is_same;
}

/* Lists the segments, and again if the marks are not those of the file that was not sealed then. Beside a fast writer
 * they never are: then the next look finds other ones, and the segments are listed once more. */
static int list_segments(struct archive *archive)
{
    char before[sizeof(archive->open_file)];
    bool is_new = true;

    for (unsigned lists = 0; is_new && lists < 2; lists++) {
        archive->count = 0;
        look_at_open_file(archive);
        int error = twinlog_segments(archive->dir, take_segment, archive);
        if (error)
            return fail("list the segments of", archive->dir, error, NULL, NULL);

        memcpy(before, archive->open_file, sizeof(before));
        archive->open_file[0] = '\0';
        for (size_t i = archive->count; i-- > 0;)
            if (archive->segments[i].state != TWINLOG_SEGMENT_SEALED)
                memcpy(archive->open_file, archive->segments[i].file, sizeof(archive->open_file));
        is_new = strcmp(before, archive->open_file) != 0;
    }

    return STATUS_FINE;
}

/* The cursor stands behind the newest record of the log that is kept. A truncation may have moved it back, and a trim
 * past all cursors forward. */
static int move_cursor(struct archive *archive)
{
    uint64_t kept_lsn = 0;
    uint64_t lsn = 0;

    for (size_t i = 0; i < archive->count && archive->segments[i].sequence <= archive->state.sequence; i++)
        if (archive->segments[i].last_lsn)
            kept_lsn = archive->segments[i].last_lsn;
    int error = twinlog_cursor_get(archive->log, ARCHIVE_NAME, &lsn);
    if (kept_lsn == 0 || (error == 0 && lsn == kept_lsn))
        return STATUS_FINE;

    error = twinlog_cursor_set(archive->log, ARCHIVE_NAME, kept_lsn);
    if (error == 0 || error == TWINLOG_ETRIMMED || error == -ERANGE)
        return STATUS_FINE;
    return fail("move the cursor 'archive' of", archive->dir, error, NULL, NULL);
}

/* ---- a second name for the next segment --------------------------------------------------------- */

/* Are all segments before this one kept? */
static bool continues_archive(const struct archive *archive, const struct segment_file *file)
{
    return archive->state.files == 0 || file->before <= archive->state.sequence;
}

static int fail_hole(const struct archive *archive, const struct segment_file *file)
{
    complain("cannot archive '%s': segments between %" PRIu64 " and %" PRIu64
             " were removed before they were archived",
             archive->dir, archive->state.sequence, file->sequence);
    complain(
        "Begin a new archive in another place: remove '%s/archive' first. The old one ends at LSN %" PRIu64
        ".",
        archive->dir, archive->state.last_lsn);
    return STATUS_DAMAGED;
}

/* The archive has another history of the log than the log itself: it was set back, or its files are a copy's. */
static int fail_history(const struct archive *archive, uint64_t sequence)
{
    complain(
        "cannot archive '%s': segment %" PRIu64
        " is not the one that was archived, or does not continue it: the log was set back to an older state, "
        "or is a copy",
        archive->dir, sequence);
    complain(
        "Begin a new archive in another place: remove '%s/archive' first. The old one ends at LSN %" PRIu64
        ".",
        archive->dir, archive->state.last_lsn);
    return STATUS_DAMAGED;
}

/* Where a truncation begins, the group before may be gone by now: check_history() has compared its segment. */
static bool fits_archive(const struct archive *archive, const struct segment_file *file)
{
    const struct manifest *manifest = &archive->manifest;

    if (archive->state.files == 0)
        return true;

    const struct segment_file *newest = &manifest->files[archive->state.files - 1];
    return memcmp(file->log_id, newest->log_id, sizeof(file->log_id)) == 0 &&
           (file->start_lsn || file->before != newest->sequence || file->chain == newest->end_chain);
}

static int give_name(struct archive *archive, const struct twinlog_segment *segment, const char *path, int fd)
{
    struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = USE_LOCK, .l_len = 1 };
    struct segment_file file;
    struct stat held, named;

    /* A file that is getting a new incarnation is locked, or has another sequence by now. */
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EAGAIN || errno == EACCES)
            return STEP_AGAIN;
        return fail("lock a segment of", archive->dir, -errno, NULL, NULL);
    }

    int error = read_segment_file(fd, &file);
    if (error)
        return fail("read a segment of", archive->dir, error, NULL, NULL);
    if (file.sequence != segment->sequence)
        return STEP_AGAIN;
    if (!file.is_sealed) /* its seal checks, as the list has it: its first group is damaged */
        return fail("read", path, TWINLOG_ECORRUPT, NULL, NULL);
    if (!continues_archive(archive, &file))
        return fail_hole(archive, &file);
    if (!fits_archive(archive, &file))
        return fail_history(archive, file.sequence);
    if (fsync(fd) < 0)
        return fail("sync a segment of", archive->dir, -errno, NULL, NULL);
    if (linkat(AT_FDCWD, path, archive->folder, archive->next_name, 0) < 0) {
        if (errno == ENOENT)
            return STEP_AGAIN;
        return fail("link a segment of", archive->dir, -errno, NULL,
                    "The file system must have hard links, and the files be this user's.");
    }

    if (fstat(fd, &held) < 0 ||
        fstatat(archive->folder, archive->next_name, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
        !is_same_file(&held, &named)) {
        unlinkat(archive->folder, archive->next_name, 0);
        return STEP_AGAIN;
    }

    return STATUS_FINE;
}

static int open_segment(const struct archive *archive, const struct twinlog_segment *segment,
                        char path[PATH_MAX], int *ret_fd)
{
    int error = archive_path(path, archive->dir, segment->file);

    *ret_fd = -1;
    if (error)
        return fail("open a segment of", archive->dir, error, NULL, NULL);

    *ret_fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (*ret_fd >= 0)
        return STATUS_FINE;
    if (errno == ENOENT)
        return STEP_AGAIN;
    return fail("open a segment of", archive->dir, -errno, NULL, NULL);
}

/* The one that comes behind a sealed segment. A writer that maps does not wait until its marker is durable. */
static int sync_behind(const struct archive *archive, const struct twinlog_segment *next)
{
    char path[PATH_MAX];
    int fd;

    int status = open_segment(archive, next, path, &fd);
    if (status != STATUS_FINE)
        return status;

    int error = 0;
    if (fsync(fd) < 0)
        error = -errno;
    close(fd);
    if (error == 0)
        error = sync_directory(archive->dir);
    if (error)
        return fail("sync a segment of", archive->dir, error, NULL, NULL);
    return STATUS_FINE;
}

/* A segment that is sealed is not the last one. */
static int name_next(struct archive *archive, const struct twinlog_segment *segment)
{
    char path[PATH_MAX];
    int fd;

    int status = STATUS_FINE;
    if (segment[1].is_mapped)
        status = sync_behind(archive, &segment[1]);
    if (status != STATUS_FINE)
        return status;

    snprintf(archive->next_name, sizeof(archive->next_name), NEXT_PREFIX "%016" PRIx64, segment->sequence);
    status = open_segment(archive, segment, path, &fd);
    if (status == STATUS_FINE) {
        status = give_name(archive, segment, path, fd);
        close(fd);
    }

    return status;
}

static bool is_kept(const struct archive *archive, const struct segment_file *file)
{
    uint64_t i = archive->state.files;

    while (i > 0 && archive->manifest.files[i - 1].sequence > file->sequence)
        i--;
    return i > 0 && is_same_segment(file, &archive->manifest.files[i - 1]);
}

/* False, too, if it cannot be read, or is another segment by now. */
static bool read_sealed(const char *path, uint64_t sequence, struct segment_file *ret_file)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;

    int error = read_segment_file(fd, ret_file);
    close(fd);
    return error == 0 && ret_file->is_sealed && ret_file->sequence == sequence;
}

/* Is the newest segment of the log that was archived still what it was? Then so is all in front of it. A truncation may
 * have removed those that were archived behind it; the log has a later one then. */
static int check_history(struct archive *archive)
{
    const uint64_t newest = archive->state.sequence;
    size_t i = archive->count;
    char path[PATH_MAX];
    struct segment_file file;

    if (i > 0 && archive->segments[i - 1].sequence < newest)
        return fail_history(archive, archive->segments[i - 1].sequence);

    while (i > 0 && archive->segments[i - 1].sequence > newest)
        i--;
    if (i == 0 || archive_path(path, archive->dir, archive->segments[i - 1].file))
        return STATUS_FINE;

    if (read_sealed(path, archive->segments[i - 1].sequence, &file) && !is_kept(archive, &file))
        return fail_history(archive, file.sequence);
    return STATUS_FINE;
}

/* ---- handing it over ---------------------------------------------------------------------------- */

static int fail_command(struct archive *archive, const char *name, const char *words)
{
    char text[FAILURE_TEXT_BYTES];

    snprintf(text, sizeof(text), "the command %s", words);
    complain("the command for %s %s", name, words);
    note_failure(archive->dir, ARCHIVE_NAME, &archive->failures, text);
    archive->has_noted = true;
    return STATUS_FAILED;
}

/* The open file under its name in the archive: many commands keep the name of what they copy. */
static int give(const struct archive *archive, int fd, const char *name)
{
    char path[sizeof("/proc/self/fd/-2147483648")]; /* any int: gcc 14 warns of less */

    if (unlinkat(archive->folder, name, 0) < 0 && errno != ENOENT)
        return -errno;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, path, archive->folder, name, AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    return 0;
}

static const char *advice_to_give(int error)
{
    switch (error) {
    case -ENOENT:
        return "The command gets it below /proc/PID/fd/N: mount /proc.";
    case -EISDIR:
        return "A directory in archive has the name that a file has in the archive: remove that.";
    default:
        return NULL;
    }
}

/* The log may be another user's. So the command gets no path below the log's directory, where that user could put a
 * link in the place of the file that was checked, but one below the open directory "archive", to which nobody else
 * writes: see take_folder(). It does not get the path of the open file, which is a link: 'rsync -a' and 'cp -a' keep
 * the link, and answer 0. */
static int hand_over(struct archive *archive, int fd, const char *name)
{
    char path[sizeof("/proc/4294967295/fd/4294967295/") + ARCHIVE_FILE_BYTES];
    char words[SHELL_TEXT_BYTES] = "has moved or removed the file %p, which it must copy";

    int error = give(archive, fd, name);
    snprintf(path, sizeof(path), "/proc/%d/fd/%d/%s", (int)getpid(), archive->folder, name);
    if (error == 0 && access(path, R_OK) < 0)
        error = -errno;
    if (error)
        return fail("hand over a file of the archive of", archive->dir, error, NULL, advice_to_give(error));

    note_running(archive->running, name);
    int result = run_shell(archive->command, path, name);
    note_running(archive->running, NULL);

    const bool is_there = unlinkat(archive->folder, name, 0) == 0;
    if (result == 0 && is_there)
        return STATUS_FINE;
    if (stop_signal())
        return STATUS_FAILED;
    if (result != 0)
        describe_shell(words, result);
    return fail_command(archive, name, words);
}

/* A file in the subdirectory `archive`, which must be one: no link is followed, and no pipe is waited for. */
static int open_kept(const struct archive *archive, const char *name)
{
    struct stat held;

    int fd = openat(archive->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;

    int error = 0;
    if (fstat(fd, &held) < 0)
        error = -errno;
    else if (!S_ISREG(held.st_mode))
        error = -EINVAL;
    if (error) {
        close(fd);
        return error;
    }

    return fd;
}

static int hand_kept(struct archive *archive, const char *kept, const char *name)
{
    int fd = open_kept(archive, kept);
    if (fd < 0)
        return fail("open a file of the archive of", archive->dir, fd, NULL, NULL);
    int status = hand_over(archive, fd, name);
    close(fd);
    return status;
}

static int hand_identity(struct archive *archive)
{
    int error = write_archive_identity(archive->folder, &archive->state);
    if (error)
        return fail("write the identity of the archive of", archive->dir, error, NULL,
                    advice_for_state(error));
    return hand_kept(archive, "identity", ARCHIVE_IDENTITY_FILE);
}

/* With a line for the segment that is kept by now. */
static int hand_manifest(struct archive *archive, const struct segment_file *file)
{
    char name[ARCHIVE_FILE_BYTES];

    archive->manifest.count = archive->state.files; /* if this is the second attempt */
    int error = add_to_manifest(&archive->manifest, file);
    if (error == 0)
        error = save_manifest(archive->folder, &archive->manifest);
    if (error)
        return fail("write the manifest of the archive of", archive->dir, error, NULL,
                    advice_for_state(error));

    name_archive_manifest(name, archive->state.id);
    return hand_kept(archive, "manifest", name);
}

/* The segment is open as `fd`. */
static int keep_next(struct archive *archive, int fd, const struct segment_file *file)
{
    char name[ARCHIVE_FILE_BYTES];
    const struct archive_state before = archive->state;

    int status = STATUS_FINE;
    if (archive->state.files == 0)
        status = hand_identity(archive);
    name_archive_file(name, archive->state.id, archive->state.files + 1);
    if (status == STATUS_FINE)
        status = hand_over(archive, fd, name);
    if (status == STATUS_FINE)
        status = hand_manifest(archive, file);
    if (status != STATUS_FINE)
        return status;

    archive->state.files++;
    archive->state.sequence = file->sequence;
    archive->state.last_lsn = file->last_lsn;
    archive->state.kept_ns = now_ns();
    int error = save_archive_state(archive->folder, &archive->state);
    if (error) {
        archive->state = before; /* so the segment is handed over again */
        return fail("save the status of the archive of", archive->dir, error, NULL, advice_for_state(error));
    }

    archive->kept++;
    clear_failures(archive->dir, ARCHIVE_NAME, &archive->failures);
    return STATUS_FINE;
}

/* Hands over the segment with this second name, unless the status says that it is kept: then the file may be another
 * segment by now. The name is made durable first: a killed archiver may have left one that is not. */
static int finish_named(struct archive *archive, const char *name)
{
    uint64_t sequence = strtoull(name + strlen(NEXT_PREFIX), NULL, 16);
    struct segment_file file;
    int status = STATUS_FINE;

    if (sequence > archive->state.sequence) {
        int fd = open_kept(archive, name);
        int error = fd;
        if (fd >= 0)
            error = read_segment_file(fd, &file);
        if (error == 0 && (!file.is_sealed || file.sequence != sequence))
            error = TWINLOG_ECORRUPT;
        if (error)
            status = fail("read the second name of a segment of", archive->dir, error, NULL, NULL);
        else if (fsync(archive->folder) < 0)
            status = fail("sync the second name of a segment of", archive->dir, -errno, NULL, NULL);
        else
            status = keep_next(archive, fd, &file);
        if (fd >= 0)
            close(fd);
    }

    if (status == STATUS_FINE && unlinkat(archive->folder, name, 0) < 0)
        return fail("remove the second name of a segment of", archive->dir, -errno, NULL, NULL);
    return status;
}

/* A name that a killed archiver had given to a command: it keeps a segment from being removed. */
static bool is_given(const char *name)
{
    const char *suffix = strrchr(name, '.');

    return suffix && strcmp(suffix, ARCHIVE_SUFFIX) == 0;
}

/* Of several names all but one are of segments that are kept. */
static int finish_next(struct archive *archive)
{
    int status = STATUS_FINE;
    struct dirent *entry = NULL;
    int fd = openat(archive->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = NULL;

    if (fd >= 0)
        folder = fdopendir(fd);

    if (!folder) {
        status = fail("read the directory 'archive' of", archive->dir, -errno, NULL, NULL);
        if (fd >= 0)
            close(fd);
        return status;
    }

    while (status == STATUS_FINE && (entry = readdir(folder))) {
        if (strncmp(entry->d_name, NEXT_PREFIX, strlen(NEXT_PREFIX)) == 0)
            status = finish_named(archive, entry->d_name);
        else if (is_given(entry->d_name))
            unlinkat(archive->folder, entry->d_name, 0);
    }
    closedir(folder);
    return status;
}

/* ---- in turn ------------------------------------------------------------------------------------ */

/* Hands over some segments. STEP_AGAIN: there may be more. */
static int archive_some(struct archive *archive)
{
    unsigned handed = 0;

    int status = check_place(archive);
    if (status == STATUS_FINE)
        status = finish_next(archive);
    if (status == STATUS_FINE)
        status = list_segments(archive);
    if (status == STATUS_FINE)
        status = check_history(archive);
    if (status == STATUS_FINE)
        status = move_cursor(archive);
    for (size_t i = 0; status == STATUS_FINE && i < archive->count; i++) {
        if (archive->segments[i].state != TWINLOG_SEGMENT_SEALED)
            break;
        if (archive->segments[i].sequence <= archive->state.sequence)
            continue;
        if (stop_signal() || handed == SEGMENTS_A_LIST)
            return STEP_AGAIN;

        handed++;
        status = name_next(archive, &archive->segments[i]);
        if (status == STATUS_FINE)
            status = finish_next(archive);
    }

    if (status == STATUS_FINE && handed > 0)
        return STEP_AGAIN; /* the next list moves the cursor */
    return status;
}

static int archive_all(struct archive *archive)
{
    int status = STEP_AGAIN;

    archive->has_noted = false;
    while (status == STEP_AGAIN && !stop_signal())
        status = archive_some(archive);
    if (status == STEP_AGAIN)
        return STATUS_FINE;

    if (status == STATUS_FINE)
        clear_failures(archive->dir, ARCHIVE_NAME, &archive->failures);
    else if (!archive->has_noted && !stop_signal())
        note_failure(archive->dir, ARCHIVE_NAME, &archive->failures,
                     "not of the command, but as its messages say");
    return status;
}

static void wait_for_more(struct archive *archive)
{
    for (unsigned looks = 0; looks < LOOKS && stop_sleep(LOOK_MS); looks++)
        if (!look_at_open_file(archive))
            break;
}

static int follow(struct archive *archive)
{
    unsigned wait_ms = FIRST_WAIT_MS;

    while (!stop_signal()) {
        uint64_t failures = archive->failures.count;
        int status = archive_all(archive);
        if (status == STATUS_FINE) {
            wait_ms = FIRST_WAIT_MS;
            wait_for_more(archive);
            continue;
        }

        if (stop_signal())
            return STATUS_FINE;
        if (status != STATUS_FAILED)
            return status;

        if (failures == 0)
            wait_ms = FIRST_WAIT_MS;
        if (stop_sleep(wait_ms))
            wait_ms = (unsigned)min_u64(wait_ms * 2, LONGEST_WAIT_MS);
    }

    return STATUS_FINE;
}

/* ---- the command ------------------------------------------------------------------------------- */

static int open_archive(struct archive *archive)
{
    struct twinlog_report report = { 0 };
    struct twinlog_consumer_options options = TWINLOG_CONSUMER_OPTIONS_INIT;

    options.ret_report = &report;
    int error = twinlog_consumer_open(archive->dir, ARCHIVE_NAME, &options, &archive->consumer);
    if (error)
        return fail("archive", archive->dir, error, &report,
                    error == -EBUSY ? "Another archiver of this log is running." : NULL);

    int status = open_beside_writer(archive->dir, &archive->log);
    if (status != STATUS_FINE)
        return status;

    load_failures(archive->dir, ARCHIVE_NAME, &archive->failures);
    archive->folder = open_log_folder(archive->dir, ARCHIVE_NAME, 0755);
    if (archive->folder < 0)
        return fail("open the directory 'archive' of", archive->dir, archive->folder, NULL, NULL);
    status = take_folder(archive);
    if (status != STATUS_FINE)
        return status;

    error = load_archive_state(archive->folder, &archive->state);
    if (error == -ENOENT) {
        archive->state.sequence = UINT64_MAX; /* the status was removed: drops all names */
        status = finish_next(archive);
        if (status != STATUS_FINE)
            return status;

        error = begin_archive_state(&archive->state);
        if (error == 0)
            error = save_archive_state(archive->folder, &archive->state);
    }

    if (error == 0)
        error = load_manifest(archive->folder, &archive->state, &archive->manifest);
    if (error == 0)
        error = begin_running(archive->folder, &archive->running);
    if (error)
        return fail_state(archive->dir, error);
    return STATUS_FINE;
}

static int run_archive(struct archive *archive)
{
    signal(SIGPIPE, SIG_IGN); /* nobody may read the messages any more: it goes on without them */
    int error = stop_on_signals();
    if (error)
        return fail_start(error);

    archive->folder = -1;
    archive->running = -1;
    int status = open_archive(archive);
    if (status == STATUS_FINE && archive->is_follow)
        status = follow(archive);
    else if (status == STATUS_FINE)
        status = archive_all(archive);
    free(archive->segments);
    free(archive->manifest.files);
    if (archive->running >= 0)
        close(archive->running);
    if (archive->folder >= 0)
        close(archive->folder);
    twinlog_consumer_close(archive->consumer);
    if (archive->log)
        status = close_log(archive->log, archive->dir, status);
    if (stop_signal() && !archive->is_follow)
        stop_by_signal();
    if (status == STATUS_FINE)
        printf("%" PRIu64 " segment%s archived, %" PRIu64 " in all, up to LSN %" PRIu64 "\n", archive->kept,
               plural(archive->kept), archive->state.files, archive->state.last_lsn);
    return finish_output(status);
}

static int archive_run(const struct command *command, int argc, char **argv)
{
    static struct archive archive; /* too large for the stack */
    bool is_once = false;
    int look = 0; /* OPTION_STATUS, OPTION_LIST */
    bool is_json = false;
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_COMMAND)
            archive.command = optarg;
        else if (value == OPTION_FOLLOW)
            archive.is_follow = true;
        else if (value == OPTION_ONCE)
            is_once = true;
        else if (value == OPTION_STATUS || value == OPTION_LIST)
            look = value;
        else
            is_json = true;
    }

    archive.dir = take_directory(argc, argv);
    if (is_once && archive.is_follow)
        usage_error("--once and --follow exclude each other");
    if (look && (archive.command || archive.is_follow || is_once))
        usage_error("--status and --list only look: they exclude --command, --follow and --once");
    if (is_json && !look)
        usage_error("--json is for --status and --list");
    if (look == OPTION_LIST)
        return show_histories(archive.dir, is_json);
    if (look)
        return show_status(archive.dir, is_json);

    check_shell(archive.command);
    return run_archive(&archive);
}

const struct command archive_command = {
    .name = "archive",
    .summary = "hand each full segment to a command that keeps it",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = archive_run,
};
