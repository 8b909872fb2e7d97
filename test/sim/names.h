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
    NAMES = CURSOR_NAMES + VALUE_NAMES,
};

struct named {
    bool is_set;
    uint64_t lsn;  /* of a cursor */
    size_t size;   /* of a value */
    uint64_t seed; /* of its bytes */
};
struct names {
    struct named at[NAMES]; /* the cursors first */
};

/* What trims and truncations do to cursors. */
void names_clamp(struct names *names, uint64_t least, uint64_t most);
/* The first LSN that some cursor needs; UINT64_MAX if there is none. */
uint64_t names_needed(const struct names *names);

struct named names_make_value(struct rng *rng);
/* Sets it in the log, or removes it: what the call returns. */
int names_change(struct twinlog *log, unsigned name, const struct named *named);
/* The same as one edit of a change of several things; `bytes` must outlive it. */
struct twinlog_edit names_edit(unsigned name, const struct named *named,
                               unsigned char bytes[TWINLOG_META_BYTES]);

/* What a log says; large, so keep one for many looks. */
struct found_names {
    struct named at[NAMES];
    unsigned char bytes[VALUE_NAMES][TWINLOG_META_BYTES];
};
/* 0 or an error of the log. A name that was never given is a violation. */
int names_read(struct twinlog *log, struct found_names *ret_found);
/* That one alone, by its name: -ENOENT is none. */
int names_get(struct twinlog *log, unsigned name, struct found_names *ret_found);
/* Is that name so? */
bool names_is(const struct named *named, const struct found_names *found, unsigned name);
/* Are all so? If not, *ret_why says the first difference. */
bool names_match(const struct names *names, const struct found_names *found, const char **ret_why);

#endif
