/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of operations of an open log. Each engine implements them: struct commit in the durable mode, struct mapped
 * in the mapped and in the shared mode. What only the durable mode offers is in commit.h.
 */
#ifndef TWL_ENGINE_H
#define TWL_ENGINE_H

#include "format/format.h"
#include "twinlog_admin.h"

#include <stdbool.h>

/* Records that are accepted together or not at all. */
struct batch {
    const struct twinlog_entry *entries;
    uint32_t count;
    enum record_kind kind; /* of all records */
    bool has_times;        /* the times of the entries are used as they are, even 0 */
};

/* What a call waits for, and how long. */
struct terms {
    enum twinlog_level level;
    bool is_try;                         /* do not wait for room */
    uint64_t deadline_ns;                /* 0 = none */
    const struct twinlog_cancel *cancel; /* may be NULL */
    uint64_t called_ns;                  /* when the call began, if it is to be timed; else 0 */
};

/* Bytes of the payload; UINT64_MAX if the sum overflows. */
uint64_t twl_entry_bytes(const struct twinlog_entry *entry);

/* `engine` is the struct commit or the struct mapped. Any thread may call anything here at any time. */
struct engine_ops {
    enum twinlog_level default_level;

    /* Accepts the batch, and waits until it is at the level of the terms. -ENOTSUP: a mapped log cannot keep several
     * records together. Other errors as twinlog_append_batch(). */
    int (*append)(void *engine, const struct batch *batch, const struct terms *terms,
                  uint64_t *ret_first_lsn);
    /* Waits until every record up to `lsn`, which was accepted, is at that level. A mapped log looks itself whether it
     * was: else -EINVAL. */
    int (*wait)(void *engine, uint64_t lsn, const struct terms *terms);
    /* 0, or the error that has poisoned the log: after it nothing is written any more. */
    int (*poison)(void *engine);
    /* Makes every accepted record durable. Fails for ever after a failure. */
    int (*sync)(void *engine);
    /* From now on; 0 = no more. 0, or why no thread can be started for it: then nothing has changed. */
    int (*set_flush_interval)(void *engine, uint32_t interval_ms);
    /* For the close: makes every record of this handle durable and ends the log. No other thread is inside. */
    int (*finish)(void *engine);

    /* Newest LSN at that level; buffered: newest accepted. */
    uint64_t (*newest_lsn)(void *engine, enum twinlog_level level);
    void (*count)(void *engine, struct twinlog_stat *stat); /* its part of the statistics */
};

#endif
