/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an archiver keeps in the directory "archive" inside that of the log:
 *
 *     status     the identity of the archive, and how far it is
 *     next-...   a second name of the segment that is being archived, until the status says that it is kept; with its
 *                sequence, 16 hexadecimal digits
 *     ID-...     its name in the archive, as long as the command runs, which gets it by that
 *     identity   what the archive gets as "twinlog.archive", in front of the first segment
 *     manifest   what it gets as "ID.manifest" behind each segment; see manifest.h
 *     running    the name that the running command got, and when; locked by the archiver
 *
 * A backup does not copy them, so the copy of a log begins an archive of its own. Names in the archive:
 * "ARCHIVE-NUMBER.twl", the archive's identity and the number of the file, counted from 1, 16 digits each.
 */
#ifndef TOOLS_ARCHIVE_STATE_H
#define TOOLS_ARCHIVE_STATE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define ARCHIVE_ID_BYTES 17u /* 16 hexadecimal digits, and a NUL */
#define ARCHIVE_FILE_BYTES 40u
#define ARCHIVE_NAME "archive" /* of the directory, and of the cursor */
#define ARCHIVE_RUNNING_FILE "running"
#define ARCHIVE_IDENTITY_FILE "twinlog.archive"

struct archive_state {
    char id[ARCHIVE_ID_BYTES];
    uint64_t files;    /* segments that are kept */
    uint64_t sequence; /* of the newest of them */
    uint64_t last_lsn; /* its last record, which may be truncated by now */
    int64_t kept_ns;   /* when */
};

/* Path of a file of the log's directory `dir`; -ENAMETOOLONG. */
int archive_path(char ret_path[PATH_MAX], const char *dir, const char *name);

/* A new file of this name, instead of what has the name; flushed, synced and closed. */
int begin_archive_file(int folder, const char *name, FILE **ret_file);
int end_archive_file(FILE *file);

/* A descriptor of a directory in the log's, or -errno. Makes the directory, durably, unless `mode` is 0 or there is no
 * log: none could be made where that directory is. The log may be another user's: this follows no link, and neither do
 * those below, which take the descriptor. */
int open_log_folder(const char *dir, const char *name, mode_t mode);

/* A plain file in `folder`, or NULL and errno. */
FILE *open_archive_file(int folder, const char *name);
/* -ENOENT: nothing was archived yet; TWINLOG_ECORRUPT: it cannot be read. */
int load_archive_state(int folder, struct archive_state *ret_state);
/* Durable on return. */
int save_archive_state(int folder, const struct archive_state *state);
/* A new identity, and nothing kept. */
int begin_archive_state(struct archive_state *ret_state);

bool is_archive_id(const char *text);
void name_archive_file(char ret_name[ARCHIVE_FILE_BYTES], const char *id, uint64_t number);
void name_archive_manifest(char ret_name[ARCHIVE_FILE_BYTES], const char *id);

int write_archive_identity(int folder, const struct archive_state *state);
/* -ENOENT, TWINLOG_ECORRUPT */
int read_archive_identity(const char *path, char ret_id[ARCHIVE_ID_BYTES]);

int sync_directory(const char *path);
/* The directory `from` gets the name `to`, which an empty one may have; durable on return. */
int name_directory(const char *from, const char *to);

#endif
