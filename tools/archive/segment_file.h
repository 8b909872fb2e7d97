/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers and the footer of a segment file say, by docs/format.md. The library checks their checksums. */
#ifndef TOOLS_SEGMENT_FILE_H
#define TOOLS_SEGMENT_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* The history of a log up to an LSN is told by the checksum of a group's header, because that covers the one of the
 * group before: the "chain". Two segments of one log belong together if the second one goes on with the chain with
 * which the first one ends. */
struct segment_file {
    unsigned char log_id[16];
    uint64_t sequence;
    uint64_t before;    /* sequence of the segment that it continues; 0 = none */
    uint64_t start_lsn; /* 0 = not fixed */
    int64_t sealed_ns;
    bool is_sealed; /* it has the size that its header says, a first group, and a footer: the rest */
    uint64_t first_lsn, last_lsn;
    uint32_t epoch, salt; /* at its end */
    uint32_t chain;       /* that its first group continues */
    uint32_t end_chain;   /* that of its last group */
};

/* 0, TWINLOG_ECORRUPT: not the header of a segment; or -errno. */
int read_segment_file(int fd, struct segment_file *ret_file);

/* The chain with which a log goes on that was truncated behind `lsn`, a record of this segment. TWINLOG_ECORRUPT: no
 * group holds it. */
int read_chain_behind(int fd, uint64_t lsn, uint32_t *ret_chain);

/* The block of the header, and that of the footer where it has its place, to compare them later. */
#define SEGMENT_MARKS_BYTES 8192u
int read_segment_marks(int fd, unsigned char ret_marks[SEGMENT_MARKS_BYTES]);

#endif
