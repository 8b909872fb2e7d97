/* SPDX-License-Identifier: Apache-2.0 */
/* What an archiver keeps. See state.h. */
#define _GNU_SOURCE
#include "state.h"

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
    if (snprintf(ret_path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX)
        return 0;
    return -ENAMETOOLONG;
}

int open_log_folder(const char *dir, const char *name, mode_t mode)
{
    char path[PATH_MAX];

    int error = archive_path(path, dir, "state");
    if (error == 0 && mode && access(path, F_OK) < 0)
        error = -errno;
    if (error == 0)
        error = archive_path(path, dir, name);
    if (error == 0 && mode && mkdir(path, mode) == 0)
        error = sync_directory(dir);
    else if (error == 0 && mode && errno != EEXIST)
        error = -errno;
    if (error)
        return error;

    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return fd;
}

int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = 0;

    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0)
        error = -errno;
    close(fd);
    return error;
}

int name_directory(const char *from, const char *to)
{
    char parent[PATH_MAX + sizeof("/..")];

    if (rename(from, to) < 0)
        return -errno;

    snprintf(parent, sizeof(parent), "%s/..", to);
    return sync_directory(parent);
}

int begin_archive_file(int folder, const char *name, FILE **ret_file)
{
    if (unlinkat(folder, name, 0) < 0 && errno != ENOENT)
        return -errno;

    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;

    *ret_file = fdopen(fd, "w");
    if (*ret_file)
        return 0;

    int error = -errno;
    close(fd);
    return error;
}

int end_archive_file(FILE *file)
{
    int error = 0;

    if (fflush(file) != 0 || fsync(fileno(file)) < 0)
        error = -errno;
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

void name_archive_manifest(char ret_name[ARCHIVE_FILE_BYTES], const char *id)
{
    snprintf(ret_name, ARCHIVE_FILE_BYTES, "%s.manifest", id);
}

int write_archive_identity(int folder, const struct archive_state *state)
{
    FILE *file = NULL;

    int error = begin_archive_file(folder, "identity", &file);
    if (error)
        return error;

    fprintf(file, "%s\n%s\n", title, state->id);
    return end_archive_file(file);
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

FILE *open_archive_file(int folder, const char *name)
{
    struct stat stat;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    bool is_plain = fd >= 0 && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
    FILE *file = NULL;

    if (is_plain)
        file = fdopen(fd, "r");

    if (fd >= 0 && !is_plain)
        errno = ENOTSUP;
    int saved_errno = errno;
    if (fd >= 0 && !file)
        close(fd);
    errno = saved_errno;
    return file;
}

int load_archive_state(int folder, struct archive_state *ret_state)
{
    struct archive_state state = { 0 };
    FILE *file = open_archive_file(folder, "status");

    if (!file)
        return -errno;

    bool is_read = fscanf(file,
                          "twinlog archive 1 id %16s files %" SCNu64 " sequence %" SCNu64 " last_lsn %" SCNu64
                          " kept %" SCNd64,
                          state.id, &state.files, &state.sequence, &state.last_lsn, &state.kept_ns) == 5;
    fclose(file);
    if (!is_read || !is_archive_id(state.id))
        return TWINLOG_ECORRUPT;

    *ret_state = state;
    return 0;
}

int save_archive_state(int folder, const struct archive_state *state)
{
    FILE *file = NULL;

    int error = begin_archive_file(folder, "status.new", &file);
    if (error)
        return error;

    fprintf(file,
            "%s\nid %s\nfiles %" PRIu64 "\nsequence %" PRIu64 "\nlast_lsn %" PRIu64 "\nkept %" PRId64 "\n",
            title, state->id, state->files, state->sequence, state->last_lsn, state->kept_ns);
    error = end_archive_file(file);
    if (error == 0 && renameat(folder, "status.new", folder, "status") < 0)
        error = -errno;
    if (error == 0 && fsync(folder) < 0)
        error = -errno;
    return error;
}
