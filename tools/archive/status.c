/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See status.h. The file "running" is of the archiver that is there: it has a lock on it, and writes the name that its
 * command got, and when. Nothing of it is synced, because a power cut ends the command, too.
 */
#define _GNU_SOURCE
#include "status.h"

#include "../failures.h"
#include "../json.h"
#include "../options.h"
#include "../when.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>
#include <unistd.h>

struct archive_view {
    const char *dir;
    struct archive_state state;
    struct failures failures;

    /* What the log has and the archive has not. */
    uint64_t last_lsn;
    uint64_t kept_lsn; /* newest record that it still has, of those that are kept */
    uint64_t waiting, waiting_bytes;
    int64_t waiting_since_ns; /* the oldest of them was sealed */

    bool is_running; /* an archiver */
    char name[ARCHIVE_FILE_BYTES];
    int64_t begun_ns; /* of its command; 0: there is none */
};

/* ---- the archiver's ---------------------------------------------------------------------------- */

int begin_running(int folder, int *ret_running)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    FILE *file = NULL;

    int error = begin_archive_file(folder, ARCHIVE_RUNNING_FILE, &file);
    if (error)
        return error;

    *ret_running = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
    fclose(file);
    if (*ret_running < 0 || fcntl(*ret_running, F_OFD_SETLK, &lock) < 0)
        return -errno;
    return 0;
}

void note_running(int running, const char *name)
{
    char text[ARCHIVE_FILE_BYTES + 24];
    int length = 0;

    if (name)
        length = snprintf(text, sizeof(text), "%s %" PRId64 "\n", name, now_ns());

    /* It only says what is going on. */
    if (ftruncate(running, 0) < 0 || pwrite(running, text, (size_t)length, 0) != length)
        return;
}

/* ---- looking ----------------------------------------------------------------------------------- */

int load_manifest(int folder, const struct archive_state *state, struct manifest *ret_manifest)
{
    struct manifest manifest = { 0 };

    int error = 0;
    if (state->files) { /* otherwise a manifest is that of an older archive */
        FILE *file = open_archive_file(folder, "manifest");
        error = read_manifest(file, &manifest);
        if (file)
            fclose(file);
    }
    bool fits = manifest.count >= state->files && (!state->files || strcmp(manifest.id, state->id) == 0);
    if (error == 0 && !fits)
        error = TWINLOG_ECORRUPT;
    if (error == -ENOENT)
        error = TWINLOG_ECORRUPT;
    if (error) {
        free(manifest.files);
        return error;
    }

    memcpy(manifest.id, state->id, sizeof(manifest.id));
    manifest.count = state->files; /* a killed archiver may have left a line more */
    *ret_manifest = manifest;
    return 0;
}

const char *advice_for_state(int error)
{
    switch (error) {
    case TWINLOG_ECORRUPT:
    case -ENOTSUP:
    case -ELOOP:
        return "Its file archive/status or archive/manifest is damaged, or no plain file. Remove the directory "
               "archive, and begin a new archive in another place.";
    case -EISDIR:
        return "A directory in archive has the name of one of its files, as status.new: remove that.";
    default:
        return NULL;
    }
}

int fail_state(const char *dir, int error)
{
    return fail("read the status of the archive of", dir, error, NULL, advice_for_state(error));
}

static int64_t find_sealed_time(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct segment_file file = { 0 };

    if (archive_path(path, dir, name))
        return 0;

    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        read_segment_file(fd, &file);
        close(fd);
    }

    if (file.is_sealed)
        return file.sealed_ns;
    return 0;
}

static int take_segment(void *context, const struct twinlog_segment *segment)
{
    struct archive_view *status = context;

    if (segment->state > TWINLOG_SEGMENT_ACTIVE)
        return 0;
    if (segment->last_lsn) {
        if (segment->sequence <= status->state.sequence)
            status->kept_lsn = segment->last_lsn;
        else if (status->last_lsn == 0)
            status->kept_lsn = segment->first_lsn - 1;
        status->last_lsn = segment->last_lsn;
    }

    if (segment->state != TWINLOG_SEGMENT_SEALED || segment->sequence <= status->state.sequence)
        return 0;
    if (status->waiting++ == 0)
        status->waiting_since_ns = find_sealed_time(status->dir, segment->file);
    status->waiting_bytes += segment->file_bytes;
    return 0;
}

static void look_at_archiver(struct archive_view *status, int folder)
{
    struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
    FILE *file = open_archive_file(folder, ARCHIVE_RUNNING_FILE);

    if (!file)
        return;

    status->is_running = fcntl(fileno(file), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (!status->is_running || fscanf(file, "%39s %" SCNd64, status->name, &status->begun_ns) != 2)
        status->begun_ns = 0;
    make_printable(status->name);
    fclose(file);
}

/* ---- showing ----------------------------------------------------------------------------------- */

static void describe_since(const char *before, int64_t since_ns)
{
    char time[TIME_TEXT_BYTES];
    const int64_t seconds = (now_ns() - since_ns) / INT64_C(1000000000);

    describe_time(time, since_ns);
    printf("%s since %s UTC (%" PRId64 " s)", before, time, seconds > 0 ? seconds : 0);
}

static void print_words(const struct archive_view *status)
{
    const struct archive_state *state = &status->state;
    const struct failures *failures = &status->failures;
    char time[TIME_TEXT_BYTES];

    printf("archive      %s\nsegments     %" PRIu64 "\nlast LSN     %" PRIu64 "\n", state->id, state->files,
           state->last_lsn);
    if (state->kept_ns) {
        describe_time(time, state->kept_ns);
        printf("last kept    %s UTC\n", time);
    }

    const uint64_t lag = status->last_lsn - status->kept_lsn;
    printf("lag          %" PRIu64 " record%s\n", lag, plural(lag));
    printf("waiting      %" PRIu64 " segment%s, %" PRIu64 " bytes", status->waiting, plural(status->waiting),
           status->waiting_bytes);
    if (status->waiting_since_ns)
        describe_since(", the oldest", status->waiting_since_ns);
    printf("\ncommand      ");
    if (status->begun_ns)
        describe_since(status->name, status->begun_ns);
    else
        fputs(status->is_running ? "none is running" : "no archiver is running", stdout);
    printf("\nfailures     %" PRIu64 " since then\n", failures->count);
    if (failures->count) {
        describe_time(time, failures->last_ns);
        printf("last failure %s UTC: %s\n", time, failures->text);
    }
}

static void print_json(const struct archive_view *status)
{
    const struct archive_state *state = &status->state;

    json_begin_object(NULL);
    json_text("archive", state->id);
    json_number("segments", state->files);
    json_number("last_lsn", state->last_lsn);
    if (state->kept_ns)
        json_time("kept", state->kept_ns);
    json_number("lag_records", status->last_lsn - status->kept_lsn);
    json_number("waiting_segments", status->waiting);
    json_number("waiting_bytes", status->waiting_bytes);
    if (status->waiting_since_ns)
        json_time("waiting_since", status->waiting_since_ns);
    json_boolean("is_running", status->is_running);
    if (status->begun_ns) {
        json_text("command_file", status->name);
        json_time("command_since", status->begun_ns);
    }

    json_number("failures", status->failures.count);
    if (status->failures.count) {
        json_time("failed", status->failures.last_ns);
        json_text("failure", status->failures.text);
    }

    json_end_object();
    json_end_line();
}

/* The directory "archive" and the status in it; complains of what fails. */
static int open_state(const char *dir, int *ret_folder, struct archive_state *ret_state)
{
    int folder = open_log_folder(dir, ARCHIVE_NAME, 0);
    int error = folder;

    if (folder >= 0)
        error = load_archive_state(folder, ret_state);
    if (error == 0) {
        *ret_folder = folder;
        return STATUS_FINE;
    }

    if (folder >= 0)
        close(folder);
    if (error == -ENOENT)
        return fail("show the archive of", dir, error, NULL, "Nothing was archived yet.");
    return fail_state(dir, error);
}

int show_status(const char *dir, bool is_json)
{
    struct archive_view status = { .dir = dir };
    int folder = -1;

    int result = open_state(dir, &folder, &status.state);
    if (result != STATUS_FINE)
        return result;

    look_at_archiver(&status, folder);
    load_failures(dir, ARCHIVE_NAME, &status.failures);
    close(folder);
    int error = twinlog_segments(dir, take_segment, &status);
    if (error)
        return fail("list the segments of", dir, error, NULL, NULL);

    if (is_json)
        print_json(&status);
    else
        print_words(&status);
    return finish_output(STATUS_FINE);
}

int show_histories(const char *dir, bool is_json)
{
    struct archive_state state;
    struct manifest manifest = { 0 };
    int folder = -1;

    int result = open_state(dir, &folder, &state);
    if (result != STATUS_FINE)
        return result;

    int error = load_manifest(folder, &state, &manifest);
    close(folder);
    if (error)
        return fail_state(dir, error);

    error = list_histories(&manifest, is_json);
    free(manifest.files);
    if (error)
        return fail_start(error);
    return finish_output(STATUS_FINE);
}
