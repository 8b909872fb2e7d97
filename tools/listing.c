/* SPDX-License-Identifier: Apache-2.0 */
/* Named cursors and values as JSON arrays. See listing.h. */
#define _GNU_SOURCE
#include "listing.h"

#include "json.h"

#include <string.h>

uint64_t records_behind(const struct cursor_list *list, uint64_t lsn)
{
    if (list->first_lsn == 0 || list->last_lsn <= lsn)
        return 0;
    return list->last_lsn - (lsn < list->first_lsn ? list->first_lsn - 1 : lsn);
}

static int json_cursor(void *context, const char *name, uint64_t lsn)
{
    json_begin_object(NULL);
    json_bytes("name", name, strlen(name));
    json_number("lsn", lsn);
    json_number("behind", records_behind(context, lsn));
    json_end_object();
    return 0;
}

int json_cursors(struct twinlog *log, struct cursor_list *list)
{
    json_begin_array("cursors");
    int error = twinlog_cursor_each(log, json_cursor, list);
    json_end_array();
    return error;
}

static int json_value(void *context, const char *name, const void *data, size_t size)
{
    const bool *has_contents = context;

    json_begin_object(NULL);
    json_bytes("name", name, strlen(name));
    json_number("size", size);
    if (*has_contents)
        json_bytes("value", data, size);
    json_end_object();
    return 0;
}

int json_values(struct twinlog *log, bool has_contents)
{
    json_begin_array("values");
    int error = twinlog_meta_each(log, json_value, &has_contents);
    json_end_array();
    return error;
}
