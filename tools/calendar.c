/* SPDX-License-Identifier: Apache-2.0 */
/* See calendar.h. */
#define _GNU_SOURCE
#include "calendar.h"
#include "path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

bool expand_name(const char *pattern, int64_t time_ns, char ret_name[PATH_MAX])
{
    const time_t seconds = (time_t)(time_ns / SECOND);
    struct tm local;

    return localtime_r(&seconds, &local) && strftime(ret_name, PATH_MAX, pattern, &local) > 0;
}

/* What the clock of the wall is ahead of that of the world. */
static int64_t zone_at(int64_t time_ns)
{
    const time_t seconds = (time_t)(time_ns / SECOND);
    struct tm local;

    if (!localtime_r(&seconds, &local))
        return 0;
    return local.tm_gmtoff * SECOND;
}

/* Also where the clock of the wall shows a time before 1970, as that of a board without a battery in America. */
static int64_t last_multiple(int64_t time_ns, int64_t period_ns)
{
    const int64_t behind_ns = time_ns % period_ns;

    if (behind_ns < 0)
        return time_ns - behind_ns - period_ns;
    return time_ns - behind_ns;
}

/* On the day on which summer time begins or ends another zone was in force at midnight than is now. A period that
 * begins in the hour that is skipped or comes twice is judged by the zone of now. */
int64_t begin_of_period(int64_t time_ns, int64_t period_ns)
{
    const int64_t zone_ns = zone_at(time_ns);
    const int64_t local_ns = time_ns + zone_ns;
    const int64_t local_begin_ns = last_multiple(local_ns, period_ns);
    const int64_t begin_ns = local_begin_ns - zone_ns;
    const int64_t other_begin_ns = local_begin_ns - zone_at(begin_ns);

    const bool is_its_zone = zone_at(other_begin_ns) == zone_at(begin_ns);
    if (is_its_zone && other_begin_ns <= time_ns)
        return other_begin_ns;
    return begin_ns;
}

int make_directories(const char *path)
{
    char part[PATH_MAX];

    if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
        return -ENAMETOOLONG;

    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0777) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }

    return 0;
}

/* What the link has to say. Both in one directory: the name alone, so that the directory can be moved. Otherwise an
 * absolute path, as a relative one would begin in the directory of the link. */
static int find_target(const char *link, const char *path, char ret_target[PATH_MAX])
{
    const size_t length = directory_length(link);
    const bool is_beside = length == directory_length(path) && strncmp(link, path, length) == 0;
    char here[PATH_MAX];
    int size;

    if (is_beside) {
        size = snprintf(ret_target, PATH_MAX, "%s", path + length);
    } else if (path[0] == '/') {
        size = snprintf(ret_target, PATH_MAX, "%s", path);
    } else {
        if (!getcwd(here, sizeof(here)))
            return -errno;
        size = snprintf(ret_target, PATH_MAX, "%s/%s", here, path);
    }
    return size >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int point_link(const char *link, const char *path)
{
    char next[PATH_MAX], target[PATH_MAX];
    struct stat about;

    if (lstat(link, &about) == 0 && !S_ISLNK(about.st_mode))
        return -EEXIST;
    const int rc = find_target(link, path, target);
    if (rc < 0)
        return rc;
    if (snprintf(next, sizeof(next), "%s.%d.new", link, (int)getpid()) >= (int)sizeof(next))
        return -ENAMETOOLONG;

    unlink(next); /* of a process that was killed and had this number */
    if (symlink(target, next) < 0)
        return -errno;
    if (rename(next, link) == 0)
        return 0;

    const int error = -errno;
    unlink(next);
    return error;
}
