/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What 'twinlog append --import' does with the records of an export, which may be a log that goes on where this one
 * ends, or one that has much of it already.
 *
 * Each record is given to import_record(). While nothing was appended it is compared with the record of the same LSN in
 * the log: equal records are left out. Where the two differ, the input is of another history, which ends the import,
 * or, with --rewind, the log is truncated to what both have. Nothing is appended or removed unless it is proved that
 * what both have is one history: records that are equal may be of two.
 */
#ifndef TOOLS_IMPORT_H
#define TOOLS_IMPORT_H

#include "input.h"
#include "source.h"

#include <stdbool.h>
#include <stdint.h>
#include <twinlog.h>

struct import {
    struct twinlog *log;
    const struct input *input;
    bool renumbers;      /* records get the LSNs that come next in the log; nothing is compared */
    bool rewinds;        /* the log may be truncated to what both have */
    bool is_vouched_for; /* --same-history: what both have is one history */
    bool is_quiet;

    struct source source;
    uint64_t common_lsn; /* the newest record that both have; 0 = none was compared */
    uint64_t other_lsn;  /* the first record that they do not; 0 = none */
    bool is_whole;       /* the input begins with the first record of the log, or in front of it */
    bool is_proved;      /* a common record is of one history in both, and so is all in front of it */
    bool has_appended;   /* a record of the input is in the log, and so the next one comes behind it */
    void *room;          /* for a record of the log */
};

/* Errors of import_record() and import_end() beside those of the log. Nothing was appended since the last record. */
#define OTHER_HISTORY (-EXDEV)     /* the input is not of the history of the log, or not known to be */
#define UNPROVED_HISTORY (-EILSEQ) /* equal records, and nothing shows that they are of one history */

/* The options must be set. An error is that of reading the value `import` of the log. */
int import_begin(struct import *import, struct twinlog *log, const struct input *input);

/* The next record of the input. *ret_lsn is its LSN, or stays as it is if the log has the record already. -ERANGE: its
 * LSN cannot be the next one of the log. */
int import_record(struct import *import, const struct twinlog_entry *entry, uint64_t *ret_lsn);

/* All of the input was read: it may have ended in front of the end of the log. */
int import_end(struct import *import);

/* Says what such an error, or -ERANGE, means and what to do; true if it was one of these. The log must be open. */
bool import_complain(const struct import *import, int error);

void import_free(struct import *import);

#endif
