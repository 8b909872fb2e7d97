/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cursors and values that a log was given, so that those it gives back can be judged.
 *
 * The names are always the same few, at the limits of what is allowed. A value is known by its size and the
 * seed of its bytes, so that all of it is a plain struct to be copied and changed.
 */
#ifndef TWL_SIM_NAMES_H
#define TWL_SIM_NAMES_H

#include "rng.h"
#include "twinlog.h"

enum {
    CURSOR_NAMES = 4,
    VALUE_NAMES = 6, /* of the largest size they need a larger state file */
};
extern const char *const CURSOR_NAME[CURSOR_NAMES];
extern const char *const VALUE_NAME[VALUE_NAMES];

struct named_cursor {
    bool is_set;
    uint64_t lsn;
};
struct named_value {
    bool is_set;
    size_t size;
    uint64_t seed;
};
struct names {
    struct named_cursor cursor[CURSOR_NAMES];
    struct named_value value[VALUE_NAMES];
};

/* What trims and truncations do to cursors. */
void names_clamp(struct names *names, uint64_t least, uint64_t most);
/* The first LSN that some cursor needs; UINT64_MAX if there is none. */
uint64_t names_needed(const struct names *names);

struct named_value names_make_value(struct rng *rng);
void names_fill_value(const struct named_value *value, unsigned char bytes[TWINLOG_META_BYTES]);

/* What a log says; large, so keep one for many looks. */
struct found_names {
    struct named_cursor cursor[CURSOR_NAMES];
    struct {
        bool is_set;
        size_t size;
        unsigned char bytes[TWINLOG_META_BYTES];
    } value[VALUE_NAMES];
};
/* 0 or an error of the log. A name that was never given is a violation. */
int names_read(struct twinlog *log, struct found_names *ret_found);
/* Is it that? If not, *ret_why says the first difference. */
bool names_match(const struct names *names, const struct found_names *found, const char **ret_why);

#endif
