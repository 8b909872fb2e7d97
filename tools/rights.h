/* SPDX-License-Identifier: Apache-2.0 */
/* Owner and mode of the file that a command writes, and work as the owner of a file. */
#ifndef TOOLS_RIGHTS_H
#define TOOLS_RIGHTS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct rights {
    bool has_mode;
    mode_t mode;
    uid_t user;  /* (uid_t)-1 = as it is */
    gid_t group; /* (gid_t)-1 = as it is */
};

#define RIGHTS_INIT                                                                                          \
    {                                                                                                        \
        .user = (uid_t)-1, .group = (gid_t)-1                                                                \
    }

/* The arguments of --mode and --owner. */
void take_mode(struct rights *rights);
void take_owner(struct rights *rights);

/* Gives a file that is there these rights, or makes it: then it has them before it has its name. 0 or -errno. */
int apply_rights(const char *path, const struct rights *rights);

/* Gives the directory `to` owner, mode and ACLs of the directory `from`. 0 or -errno. */
int copy_directory_rights(const char *from, const char *to);

/* Root becomes the owner of the file. The owner may not be able to reach its directory: `ret_place` is a path that
 * does. For everybody else it is the path itself, if that is short enough. 0 or -errno. */
int become_owner(const char *path, char ret_place[PATH_MAX]);

#endif
