/* SPDX-License-Identifier: Apache-2.0 */
/* See newest.h. */
#define _GNU_SOURCE
#include "newest.h"

int newest_of(struct twinlog_reader *reader, struct newest *ret_newest)
{
    struct twinlog_record record;

    *ret_newest = (struct newest){ 0 };
    int result = twinlog_reader_seek_end(reader);
    if (result == 0)
        result = twinlog_reader_previous(reader, &record);
    if (result > 0)
        *ret_newest = (struct newest){ record.lsn, record.time_ns };
    if (result < 0)
        return result;
    return 0;
}

int find_newest(const char *dir, struct newest *ret_newest)
{
    struct twinlog_reader *reader = NULL;

    *ret_newest = (struct newest){ 0 };
    int result = twinlog_reader_open(dir, NULL, &reader);
    if (result == 0)
        result = newest_of(reader, ret_newest);
    twinlog_reader_close(reader);
    return result;
}
