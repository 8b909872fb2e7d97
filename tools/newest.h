/* SPDX-License-Identifier: Apache-2.0 */
/* The newest durable record of a log, beside its writer or without one: what an idle writer did last. */
#ifndef TOOLS_NEWEST_H
#define TOOLS_NEWEST_H

#include <stdint.h>
#include <twinlog.h>

struct newest {
    uint64_t lsn;    /* 0: there is no record */
    int64_t time_ns; /* when it was accepted, since 1970 */
};

/* 0, or an error. */
int find_newest(const char *dir, struct newest *ret_newest);
int newest_of(struct twinlog_reader *reader, struct newest *ret_newest);

#endif
