/* SPDX-License-Identifier: Apache-2.0 */
/* What the processes of the policy sink share, besides their crew (crew.h). */
#ifndef TWL_CRASH_SINK_H
#define TWL_CRASH_SINK_H

#include "crew.h"

#define LINE_MAX_BYTES ((size_t)100 << 10)
#define KEPT_FILES 1000u    /* by a rotation; nobody gets that far */
#define LINE_LABEL_BYTES 5u /* at the beginning of every line; no space, newline or zero */

/* ---- lines (sink_line.c): pen and sequence decide their length and every byte -------------------- */

size_t line_size(uint32_t pen, uint32_t sequence);
/* Writes line_size() bytes behind the label: text that ends in a newline, or any bytes, or zeros to the end. */
void line_fill(uint32_t pen, uint32_t sequence, unsigned char *bytes);
/* What the label at the beginning of these bytes says; false if there is none. */
bool line_read_label(const unsigned char *bytes, size_t size, uint32_t *ret_pen, uint32_t *ret_sequence);

/* ---- processes (sink_member.c) ------------------------------------------------------------------- */

extern char sink_path[400]; /* of the file */
void *open_sink(struct member *member);
void close_sink(void *sink);
uint64_t write_line(struct hand *hand, uint32_t sequence, bool may_lie);
void call_something_else(struct hand *hand);

/* ---- the judge (sink_judge.c) -------------------------------------------------------------------- */

struct sink_verdict {
    uint64_t lines, fillers, files, bytes;
    uint64_t last_file_bytes;
};
/* Old files that dead processes have not left are truncated to their bytes. */
void finish_files(void);
/* Reads all the files. Nobody has them open, and the last one to have them closed them. */
struct sink_verdict judge_files(uint64_t max_bytes);

#endif
