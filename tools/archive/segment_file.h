/* SPDX-License-Identifier: Apache-2.0 */
/* What the header and the footer of a segment file say, by docs/format.md. Their checksums are the library's matter. */
#ifndef TOOLS_SEGMENT_FILE_H
#define TOOLS_SEGMENT_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct segment_file {
    unsigned char log_id[16];
    uint64_t sequence;
    uint64_t before;    /* sequence of the segment that it continues; 0 = none */
    uint64_t start_lsn; /* 0 = not fixed */
    bool is_sealed;     /* it has the size that its header says, and a footer: the two below */
    uint64_t first_lsn, last_lsn;
};

/* 0, TWINLOG_ECORRUPT: not the header of a segment; or -errno. */
int read_segment_file(int fd, struct segment_file *ret_file);

/* The block of the header, and that of the footer where it has its place, to compare them later. */
#define SEGMENT_MARKS_BYTES 8192u
int read_segment_marks(int fd, unsigned char ret_marks[SEGMENT_MARKS_BYTES]);

#endif
