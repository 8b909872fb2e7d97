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
#include "source.h"

struct input {
    enum framing framing;
    size_t record_limit; /* largest record in bytes */
    struct buffer buffer;
    uint64_t records; /* returned so far */
    uint64_t offset;  /* in the input, of the first unused byte in the buffer */
    uint64_t lsn;     /* of the last record, if the input is an export */
    bool is_ended;
    bool has_begun;     /* an export: its first line was read */
    bool is_whole;      /* and its last */
    uint64_t epoch_lsn; /* an export: where the epoch of its first record begins; 0 = it does not say */
    uint64_t last_lsn;  /* the newest LSN of that log; 0 = it does not say */
    char log_id[LOG_ID_BYTES]; /* empty = it does not say */
    uint32_t salt;             /* then of the last record */
    struct origin origin;      /* what that log says to have from another one */
};

int input_init(struct input *input, enum framing framing, size_t record_limit);
void input_free(struct input *input);

/* 1 = the next record, in memory that is valid until input_fill(); 0 = the next record is not complete, or
 * there is none; -EMSGSIZE = it is larger than the limit; -EBADMSG = the input ended inside a frame or an export, or
 * is no export. */
int input_next(struct input *input, struct twinlog_entry *ret_entry);

/* Waits for more input: 1 = there is more, or the last record may now be taken; 0 = the end; -ECANCELED =
 * stop_fd() is readable; or an error. */
int input_fill(struct input *input);

#endif
