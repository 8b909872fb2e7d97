/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of an archive: which segments it has, each with its place in the history of the log. A text:
 *
 *     twinlog archive 1
 *     id ID
 *     files NUMBER
 *     file log sequence continues start first_lsn last_lsn epoch salt chain end_chain
 *     1 ...
 *
 * The archive has it under the name "ID.manifest", which is the only one that gets new bytes: a line for each segment
 * that was kept before. So restore knows how many files there are, which of them make the log, and whether a file is
 * still the one that was kept.
 */
#ifndef TOOLS_ARCHIVE_MANIFEST_H
#define TOOLS_ARCHIVE_MANIFEST_H

#include "segment_file.h"
#include "state.h"

#include <stdio.h>

struct manifest {
    char id[ARCHIVE_ID_BYTES];
    uint64_t count;             /* file N is files[N - 1] */
    uint64_t promised;          /* that there should be; more than `count`: it was cut */
    struct segment_file *files; /* the lines are all that is known of them */
};

/* TWINLOG_ECORRUPT: not even its beginning can be read. `file` may be NULL: errno. */
int read_manifest(FILE *file, struct manifest *ret_manifest);
/* As the file "manifest" of the directory "archive"; durable on return. */
int save_manifest(int folder, const struct manifest *manifest);
int add_to_manifest(struct manifest *manifest, const struct segment_file *file);

bool is_same_segment(const struct segment_file *one, const struct segment_file *other);
/* Of the file that this one continues; 0: the archive does not have it. */
uint64_t find_continued(const struct manifest *manifest, uint64_t number);
/* The first record of the segment. */
uint64_t first_lsn_of(const struct segment_file *file);

/* Lists the histories that it has: one for each file that no other one continues, or not to its end. */
int list_histories(const struct manifest *manifest, bool is_json);

#endif
