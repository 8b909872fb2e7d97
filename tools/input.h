/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input cut into records: lines, NUL-terminated strings, frames with a length in front, or an export.
 *
 * Reads in large blocks. A record is in the buffer as a whole. The buffer grows up to the largest record that
 * is allowed, so a line that never ends does not fill the memory.
 *
 *     do
 *         while ((result = input_next(&input, &entry)) > 0)
 *             ...
 *     while (result == 0 && (result = input_fill(&input)) > 0);
 */
#ifndef TOOLS_INPUT_H
#define TOOLS_INPUT_H

#include "buffer.h"
#include "common.h"
#include "intake.h"
#include "source.h"

/* What becomes of a line, or a NUL-terminated string, above the limit. */
enum long_policy {
    LONG_REFUSE, /* it ends the input: -EMSGSIZE */
    LONG_SPLIT,  /* its parts become records, one after the other */
    LONG_CUT,    /* its beginning becomes a record, with a mark at the end; the rest is dropped */
};

struct input {
    enum framing framing;
    enum long_policy long_policy;
    size_t record_limit; /* largest record in bytes */
    struct intake intake;
    struct buffer buffer;
    bool is_dropping;    /* the rest of a line that was cut */
    uint64_t long_lines; /* that were split or cut */
    bool is_in_split;    /* the next record goes on with the line of the one before */
    uint64_t records;    /* returned so far */
    uint64_t offset;     /* in the input, of the first unused byte in the buffer */
    uint64_t lsn;        /* of the last record, if the input is an export */
    bool is_ended;
    bool has_begun;     /* an export: its first line was read */
    bool is_whole;      /* and its last */
    uint64_t epoch_lsn; /* an export: where the epoch of its first record begins; 0 = it does not say */
    uint64_t last_lsn;  /* the newest LSN of that log; 0 = it does not say */
    char log_id[LOG_ID_BYTES]; /* empty = it does not say */
    uint32_t salt;             /* then of the last record */
    struct origin origin;      /* what that log says to have from another one */
};

/* Before it: intake, long_policy. */
int input_init(struct input *input, enum framing framing, size_t record_limit);
void input_free(struct input *input);

/* 1 = the next record, in memory that is valid until input_fill(); 0 = the next record is not complete, or
 * there is none; -EMSGSIZE = it is larger than the limit; -EBADMSG = the input ended inside a frame or an export, or
 * is no export. */
int input_next(struct input *input, struct twinlog_entry *ret_entry);

/* Waits for more input: 1 = there may be more, or the last record may now be taken; 0 = the end; -ECANCELED = it was
 * stopped, see intake.h; or an error. */
int input_fill(struct input *input);

#endif
