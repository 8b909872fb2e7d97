/* SPDX-License-Identifier: Apache-2.0 */
/* What an archiver keeps. See archive_state.h. */
#define _GNU_SOURCE
#include "archive_state.h"

#include <twinlog.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const char title[] = "twinlog archive 1";

int archive_path(char ret_path[PATH_MAX], const char *dir, const char *name)
{
    return snprintf(ret_path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return error;
}

/* Flushes, syncs and closes. */
static int end_file(FILE *file)
{
    int error = fflush(file) != 0 || fsync(fileno(file)) < 0 ? -errno : 0;

    if (fclose(file) != 0 && error == 0)
        error = -errno;
    return error;
}

/* ---- names ------------------------------------------------------------------------------------- */

bool is_archive_id(const char *text)
{
    return strlen(text) == ARCHIVE_ID_BYTES - 1 && strspn(text, "0123456789abcdef") == ARCHIVE_ID_BYTES - 1;
}

void name_archive_file(char ret_name[ARCHIVE_FILE_BYTES], const char *id, uint64_t number)
{
    snprintf(ret_name, ARCHIVE_FILE_BYTES, "%s-%016" PRIx64 ".twl", id, number);
}

int write_archive_identity(const char *path, const struct archive_state *state)
{
    FILE *file = fopen(path, "we");

    if (!file)
        return -errno;
    fprintf(file, "%s\n%s\n", title, state->id);
    return end_file(file);
}

int read_archive_identity(const char *path, char ret_id[ARCHIVE_ID_BYTES])
{
    char id[ARCHIVE_ID_BYTES];
    FILE *file = fopen(path, "re");

    if (!file)
        return -errno;
    bool is_read = fscanf(file, "twinlog archive 1 %16s", id) == 1 && is_archive_id(id);
    fclose(file);
    if (!is_read)
        return TWINLOG_ECORRUPT;
    memcpy(ret_id, id, sizeof(id));
    return 0;
}

/* ---- the status -------------------------------------------------------------------------------- */

int begin_archive_state(struct archive_state *ret_state)
{
    uint64_t id = 0;

    if (getrandom(&id, sizeof(id), 0) != sizeof(id))
        return -errno;
    *ret_state = (struct archive_state){ 0 };
    snprintf(ret_state->id, sizeof(ret_state->id), "%016" PRIx64, id);
    return 0;
}

int load_archive_state(const char *dir, struct archive_state *ret_state)
{
    char path[PATH_MAX];
    struct archive_state state = { 0 };

    int error = archive_path(path, dir, "archive/status");
    FILE *file = error ? NULL : fopen(path, "re");
    if (!file)
        return error ? error : -errno;
    bool is_read = fscanf(file,
                          "twinlog archive 1 id %16s files %" SCNu64 " sequence %" SCNu64 " last_lsn %" SCNu64
                          " kept %" SCNd64 " failures %" SCNu64 " failed %" SCNd64 " failure: %127[^\n]",
                          state.id, &state.files, &state.sequence, &state.last_lsn, &state.kept_ns,
                          &state.failures, &state.failed_ns, state.failure) >= 7;
    fclose(file);
    if (!is_read || !is_archive_id(state.id))
        return TWINLOG_ECORRUPT;
    *ret_state = state;
    return 0;
}

static int write_status(const char *path, const struct archive_state *state)
{
    FILE *file = fopen(path, "we");

    if (!file)
        return -errno;
    fprintf(file,
            "%s\nid %s\nfiles %" PRIu64 "\nsequence %" PRIu64 "\nlast_lsn %" PRIu64 "\nkept %" PRId64
            "\nfailures %" PRIu64 "\nfailed %" PRId64 "\nfailure: %s\n",
            title, state->id, state->files, state->sequence, state->last_lsn, state->kept_ns, state->failures,
            state->failed_ns, state->failure);
    return end_file(file);
}

int save_archive_state(const char *dir, const struct archive_state *state)
{
    char folder[PATH_MAX];
    char path[PATH_MAX];
    char new_path[PATH_MAX];

    int error = archive_path(new_path, dir, "archive/status.new");
    if (error)
        return error;
    archive_path(folder, dir, "archive");
    archive_path(path, dir, "archive/status");
    if (mkdir(folder, 0777) == 0)
        error = sync_directory(dir);
    else if (errno != EEXIST)
        return -errno;
    if (error == 0)
        error = write_status(new_path, state);
    if (error == 0 && rename(new_path, path) < 0)
        error = -errno;
    return error ? error : sync_directory(folder);
}
