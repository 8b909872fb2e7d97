/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults and limits of a sink's options, and the directory and name that its path leads to. */
#define _GNU_SOURCE
#include "base/versioned.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_INITIAL_BYTES (UINT64_C(10) << 20)
#define DEFAULT_GROWTH_BYTES (UINT64_C(64) << 20)
#define DEFAULT_KEEP_FILES 5u
#define MAX_KEEP_FILES 9999u
#define ZEROS ((uint32_t)(TWINLOG_SINK_DROP_ZEROS | TWINLOG_SINK_KEEP_ZEROS))
#define ALL_FLAGS ((uint32_t)(TWINLOG_SINK_SHARED | TWINLOG_SINK_NO_THREAD | TWINLOG_SINK_MUST_EXIST) | ZEROS)

static bool is_in_range(const struct twinlog_sink_options *o)
{
    return !(o->flags & ~ALL_FLAGS) && (o->flags & ZEROS) != ZEROS &&
           !((o->flags & TWINLOG_SINK_SHARED) && o->max_bytes > 0) && o->initial_bytes < OFFSET_LIMIT &&
           o->growth_bytes < OFFSET_LIMIT && o->keep_files <= MAX_KEEP_FILES && o->mode <= 0777;
}

int twl_sink_options_normalise(const struct twinlog_sink_options *options,
                               struct twinlog_sink_options *ret_options)
{
    struct twinlog_sink_options o;
    if (twl_versioned_take(&o, sizeof(o), options) < 0 || !is_in_range(&o))
        return -EINVAL;
    o.initial_bytes = o.initial_bytes > 0 ? o.initial_bytes : DEFAULT_INITIAL_BYTES;
    o.growth_bytes = o.growth_bytes > 0 ? o.growth_bytes : DEFAULT_GROWTH_BYTES;
    o.keep_files = o.keep_files > 0 ? o.keep_files : DEFAULT_KEEP_FILES;
    o.mode = o.mode > 0 ? o.mode : 0666;
    if (o.max_bytes > 0)
        o.initial_bytes = min_u64(o.initial_bytes, o.max_bytes);
    *ret_options = o;
    return 0;
}

/* Opens the directory of the path, and copies the name behind the last slash. */
static int split(const char *path, int *ret_dir, char ret_name[NAME_MAX + 1])
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const size_t length = slash ? (size_t)(slash - path) : 0;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return *path ? -ENOTSUP : -ENOENT;
    if (strlen(name) > NAME_MAX || length >= PATH_MAX)
        return -ENAMETOOLONG;
    char dir[PATH_MAX] = ".";
    if (slash) {
        memcpy(dir, path, length);
        memcpy(dir + length, length == 0 ? "/" : "", length == 0 ? 2 : 1);
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) /* may be searched, but not read: then the directory can't be synced */
        fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    memcpy(ret_name, name, strlen(name) + 1);
    *ret_dir = fd;
    return 0;
}

int twl_sink_find_place(const char *path, int *ret_dir, char ret_name[NAME_MAX + 1])
{
    struct stat about;
    if (lstat(path, &about) < 0 || !S_ISLNK(about.st_mode))
        return split(path, ret_dir, ret_name);
    /* One file has one area, beside it, whichever symbolic link leads there. */
    char *real = realpath(path, NULL);
    const int rc = real ? split(real, ret_dir, ret_name) : -errno;
    free(real);
    return rc;
}
