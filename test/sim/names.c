/* SPDX-License-Identifier: Apache-2.0 */
/* Making values up, and judging names that come back. */
#include "names.h"

#include "base/base.h"
#include "history.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define LONGEST_NAME "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"

static const char *const NAME[NAMES] = { "c",    "a consumer", LONGEST_NAME, "\xff\x01/\n", "c",
                                         "vote", LONGEST_NAME, "\xff",       "term",        "z" };

static bool is_cursor(unsigned name)
{
    return name < CURSOR_NAMES;
}

void names_clamp(struct names *names, uint64_t least, uint64_t most)
{
    for (unsigned i = 0; i < CURSOR_NAMES; ++i) {
        uint64_t *lsn = &names->at[i].lsn;
        *lsn = min_u64(max_u64(*lsn, least), most);
    }
}

uint64_t names_needed(const struct names *names)
{
    uint64_t needed = UINT64_MAX;
    for (unsigned i = 0; i < CURSOR_NAMES; ++i) {
        if (names->at[i].is_set)
            needed = min_u64(needed, names->at[i].lsn + 1);
    }
    return needed;
}

/* Of the largest size, of a small one, or of any. */
struct named names_make_value(struct rng *rng)
{
    struct named value = { .is_set = true, .size = TWINLOG_META_BYTES, .seed = rng_next(rng) };
    if (rng_one_in(rng, 3))
        return value;

    const bool is_small = rng_one_in(rng, 2);
    value.size = rng_below(rng, is_small ? 20 : TWINLOG_META_BYTES + 1);
    return value;
}

static void fill_value(const struct named *value, unsigned char bytes[TWINLOG_META_BYTES])
{
    struct rng rng = { value->seed };
    rng_fill(&rng, bytes, value->size);
}

static int change_cursor(struct twinlog *log, const char *name, const struct named *named)
{
    if (!named->is_set)
        return twinlog_cursor_remove(log, name);
    return twinlog_cursor_set(log, name, named->lsn);
}

static int change_value(struct twinlog *log, const char *name, const struct named *named)
{
    unsigned char bytes[TWINLOG_META_BYTES];
    if (!named->is_set)
        return twinlog_meta_remove(log, name);
    fill_value(named, bytes);
    return twinlog_meta_set(log, name, bytes, named->size);
}

int names_change(struct twinlog *log, unsigned name, const struct named *named)
{
    if (is_cursor(name))
        return change_cursor(log, NAME[name], named);
    return change_value(log, NAME[name], named);
}

struct twinlog_edit names_edit(unsigned name, const struct named *named,
                               unsigned char bytes[TWINLOG_META_BYTES])
{
    struct twinlog_edit edit = { .name = NAME[name] };

    if (is_cursor(name)) {
        edit.kind = named->is_set ? TWINLOG_EDIT_SET_CURSOR : TWINLOG_EDIT_REMOVE_CURSOR;
        edit.lsn = named->lsn;
        return edit;
    }
    fill_value(named, bytes);
    edit.kind = named->is_set ? TWINLOG_EDIT_SET_VALUE : TWINLOG_EDIT_REMOVE_VALUE;
    edit.data = bytes;
    edit.size = named->size;
    return edit;
}

/* The entry of a name from `first` on that the log has given, once. */
static struct named *find_name(struct found_names *found, unsigned first, unsigned end, const char *name)
{
    for (unsigned i = first; i < end; ++i) {
        const bool is_new = !found->at[i].is_set;
        if (is_new && strcmp(NAME[i], name) == 0) {
            found->at[i].is_set = true;
            return &found->at[i];
        }
    }
    violation("O3: there is a %s that was never set, or twice: %s", first == 0 ? "cursor" : "value", name);
}

static int find_cursor(void *context, const char *name, uint64_t lsn)
{
    find_name(context, 0, CURSOR_NAMES, name)->lsn = lsn;
    return 0;
}

static int find_value(void *context, const char *name, const void *data, size_t size)
{
    struct found_names *found = context;
    struct named *value = find_name(found, CURSOR_NAMES, NAMES, name);
    if (size > TWINLOG_META_BYTES)
        violation("O3: the value %s has %zu bytes", name, size);
    value->size = size;
    memcpy(found->bytes[value - found->at - CURSOR_NAMES], data, size);
    return 0;
}

int names_read(struct twinlog *log, struct found_names *ret_found)
{
    memset(ret_found->at, 0, sizeof(ret_found->at));

    const int error = twinlog_cursor_each(log, find_cursor, ret_found);
    if (error < 0)
        return error;
    return twinlog_meta_each(log, find_value, ret_found);
}

int names_get(struct twinlog *log, unsigned name, struct found_names *ret_found)
{
    struct named *named = &ret_found->at[name];

    int error;
    if (is_cursor(name))
        error = twinlog_cursor_get(log, NAME[name], &named->lsn);
    else
        error = twinlog_meta_get(log, NAME[name], ret_found->bytes[name - CURSOR_NAMES], TWINLOG_META_BYTES,
                                 &named->size);
    named->is_set = error == 0;
    if (error == -ENOENT)
        return 0;
    return error;
}

bool names_is(const struct named *named, const struct found_names *found, unsigned name)
{
    const struct named *have = &found->at[name];
    unsigned char bytes[TWINLOG_META_BYTES];

    if (!named->is_set || !have->is_set)
        return named->is_set == have->is_set;
    if (is_cursor(name))
        return named->lsn == have->lsn;
    fill_value(named, bytes);
    return named->size == have->size && memcmp(bytes, found->bytes[name - CURSOR_NAMES], named->size) == 0;
}

bool names_match(const struct names *names, const struct found_names *found, const char **ret_why)
{
    static char text[200];

    *ret_why = text;
    for (unsigned i = 0; i < NAMES; ++i) {
        const struct named *want = &names->at[i], *have = &found->at[i];
        if (names_is(want, found, i))
            continue;
        snprintf(text, sizeof(text), "%s %u was %s at LSN %" PRIu64 ", and is %s at %" PRIu64,
                 is_cursor(i) ? "cursor" : "value", i, want->is_set ? "set" : "not set", want->lsn,
                 have->is_set ? "set" : "not set", have->lsn);
        return false;
    }
    return true;
}
