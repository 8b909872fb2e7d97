/* SPDX-License-Identifier: Apache-2.0 */
/* Making values up, and judging names that come back. */
#include "names.h"

#include "history.h"

#include <inttypes.h>
#include <stdio.h>

#define LONGEST_NAME "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"

const char *const CURSOR_NAME[CURSOR_NAMES] = { "c", "a consumer", LONGEST_NAME, "\xff\x01/\n" };
const char *const VALUE_NAME[VALUE_NAMES] = { "c", "vote", LONGEST_NAME, "\xff", "term", "z" };

void names_clamp(struct names *names, uint64_t least, uint64_t most)
{
    for (unsigned i = 0; i < CURSOR_NAMES; ++i) {
        uint64_t *lsn = &names->cursor[i].lsn;
        *lsn = *lsn < least ? least : *lsn;
        *lsn = *lsn > most ? most : *lsn;
    }
}

uint64_t names_needed(const struct names *names)
{
    uint64_t needed = UINT64_MAX;
    for (unsigned i = 0; i < CURSOR_NAMES; ++i)
        if (names->cursor[i].is_set && names->cursor[i].lsn + 1 < needed)
            needed = names->cursor[i].lsn + 1;
    return needed;
}

struct named_value names_make_value(struct rng *rng)
{
    struct named_value value = { .is_set = true, .size = TWINLOG_META_BYTES, .seed = rng_next(rng) };
    if (!rng_one_in(rng, 3))
        value.size = rng_below(rng, rng_one_in(rng, 2) ? 20 : TWINLOG_META_BYTES + 1);
    return value;
}

void names_fill_value(const struct named_value *value, unsigned char bytes[TWINLOG_META_BYTES])
{
    struct rng rng = { value->seed };
    rng_fill(&rng, bytes, value->size);
}

static unsigned find_name(const char *const *names, unsigned count, const char *name, const char *what)
{
    for (unsigned i = 0; i < count; ++i)
        if (strcmp(names[i], name) == 0)
            return i;
    violation("O3: there is a %s that was never set: %s", what, name);
}

static int find_cursor(void *context, const char *name, uint64_t lsn)
{
    struct found_names *found = context;
    const unsigned i = find_name(CURSOR_NAME, CURSOR_NAMES, name, "cursor");
    if (found->cursor[i].is_set)
        violation("O3: the cursor %s is there twice", name);
    found->cursor[i] = (struct named_cursor){ .is_set = true, .lsn = lsn };
    return 0;
}

static int find_value(void *context, const char *name, const void *data, size_t size)
{
    struct found_names *found = context;
    const unsigned i = find_name(VALUE_NAME, VALUE_NAMES, name, "value");
    if (found->value[i].is_set || size > TWINLOG_META_BYTES)
        violation("O3: the value %s is there twice, or has %zu bytes", name, size);
    found->value[i].is_set = true;
    found->value[i].size = size;
    memcpy(found->value[i].bytes, data, size);
    return 0;
}

int names_read(struct twinlog *log, struct found_names *ret_found)
{
    for (unsigned i = 0; i < CURSOR_NAMES; ++i)
        ret_found->cursor[i].is_set = false;
    for (unsigned i = 0; i < VALUE_NAMES; ++i)
        ret_found->value[i].is_set = false;
    const int result = twinlog_cursor_each(log, find_cursor, ret_found);
    return result < 0 ? result : twinlog_meta_each(log, find_value, ret_found);
}

static bool matches_value(const struct named_value *value, const struct found_names *found, unsigned i)
{
    unsigned char bytes[TWINLOG_META_BYTES];
    if (!value->is_set || !found->value[i].is_set)
        return value->is_set == found->value[i].is_set;
    names_fill_value(value, bytes);
    return value->size == found->value[i].size && memcmp(bytes, found->value[i].bytes, value->size) == 0;
}

bool names_match(const struct names *names, const struct found_names *found, const char **ret_why)
{
    static char text[200];
    *ret_why = text;
    for (unsigned i = 0; i < CURSOR_NAMES; ++i) {
        const struct named_cursor *want = &names->cursor[i], *have = &found->cursor[i];
        if (want->is_set == have->is_set && (!want->is_set || want->lsn == have->lsn))
            continue;
        snprintf(text, sizeof(text), "cursor %u was %s at LSN %" PRIu64 ", and is %s at %" PRIu64, i,
                 want->is_set ? "set" : "not set", want->lsn, have->is_set ? "set" : "not set", have->lsn);
        return false;
    }
    for (unsigned i = 0; i < VALUE_NAMES; ++i) {
        if (matches_value(&names->value[i], found, i))
            continue;
        snprintf(text, sizeof(text), "value %u is not the one that was %s", i,
                 names->value[i].is_set ? "set" : "removed");
        return false;
    }
    return true;
}
