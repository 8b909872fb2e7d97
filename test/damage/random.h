/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of damage-random: see random.c. */
#ifndef TWL_DAMAGE_RANDOM_H
#define TWL_DAMAGE_RANDOM_H

#include "../crash/directory.h"
#include "../sim/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_LSN 3000u
#define MAX_LOSSES 64u
#define MAX_MARKS 2048u

void must(bool is_true, const char *what);

/* ---- a log, and what it should hold ------------------------------------------------------------- */

/* A record is told from others of its LSN by a number of its own. */
struct history {
    uint64_t first_lsn, last_lsn;
    uint32_t number[MAX_LSN + 1]; /* by LSN, modulo MAX_LSN + 1 */
    uint32_t numbers;             /* given so far */
    uint64_t cursor_lsn;          /* where a cursor proves a record; 0 = nowhere */
    uint64_t cursor_value;        /* where it is; setting it again to the same changes nothing */
    uint64_t made;                /* steps, to tell what was tried */
    bool is_closed, was_truncated;
};

/* Makes a log of its own kind in `dir`, as a process that may die. */
void make_log(const char *dir, uint64_t seed, struct history *ret_history);

/* Payload of a record, which says what it is. Returns its size. */
size_t make_payload(uint64_t lsn, uint32_t number, unsigned char *ret_bytes);
#define MAX_PAYLOAD 3100u

/* ---- its files ------------------------------------------------------------------------------------ */

void load_log(const char *dir, struct files *ret_files);
void load_page(const char *dir, struct files *ret_files); /* of writer.lock, as a file */
void copy_files(const struct files *from, struct files *to);

/* Where its records are, and its groups. */
struct place {
    uint64_t lsn;
    uint32_t epoch;
    unsigned file;
    uint64_t offset, end;
};
struct mark { /* a group with a header */
    unsigned file;
    uint32_t epoch;
    uint64_t offset, end;
    uint64_t first_lsn, last_lsn, durable_lsn; /* last < first: a marker */
    bool has_been_open;
};
struct spoken { /* index and footer, or a second header */
    unsigned file;
    uint64_t offset, end;
};
struct layout {
    struct place places[MAX_LSN];
    unsigned place_count;
    struct mark marks[MAX_MARKS];
    unsigned mark_count;
    struct spoken spoken[MAX_MARKS];
    unsigned spoken_count;
};
void find_layout(const char *dir, const struct files *files, struct layout *ret_layout);

/* ---- damage --------------------------------------------------------------------------------------- */

struct harm {
    char words[300];
    bool is_local;  /* bits or sectors of one file */
    bool is_sector; /* one of them */
};
/* Damages one place; *others are files of another log. */
void do_harm(struct rng *rng, struct files *files, const struct files *others, struct harm *ret_harm);

/* ---- what is made of it --------------------------------------------------------------------------- */

struct seen {
    int verified, repaired, checked; /* results; `checked` is that of verify for the repaired log */
    unsigned losses;                 /* calls of `each` */
    bool has_loss_without_lsn;
    struct {
        uint64_t first_lsn, last_lsn;
    } lost[MAX_LOSSES];
    unsigned lost_count;
    struct {
        uint64_t lsn;
        uint32_t number; /* 0 = these bytes were never appended */
    } records[MAX_LSN];
    unsigned count;
    uint64_t cursor_lsn; /* UINT64_MAX: there is no cursor */
};
uint64_t read_cursor(const char *dir);
int read_records(const char *dir, struct seen *seen); /* returns what ended it */
void look(const char *dir, const char *repaired, struct seen *ret_seen);

/* What the log was, and what is left of it. */
struct facts {
    const struct history *history;
    const struct layout *layout;
    const struct files *before, *after;
    uint64_t cursor_lsn; /* before; UINT64_MAX: there was no cursor */
};
/* NULL = all is as it must be. */
const char *judge(const struct facts *facts, const struct seen *seen, uint64_t *ret_lsn);
/* The same where one place of a log is damaged that was closed, and never mapped. */
/* Does anything that is left prove the last record? One sector does not take both, but more of a place may. */
bool is_end_proved(const struct facts *facts);
const char *judge_one_place(const struct facts *facts, const struct seen *seen, uint64_t *ret_lsn);
/* Flips every steps[0]-th bit of a closed log, from steps[1] on: NULL = all is as it must be. *flips counts them. */
const char *try_bits(const char *dir, const struct facts *facts, const unsigned *steps, uint64_t *flips,
                     char *ret_words, size_t size);
/* Tells the judge every lie that it must not believe: NULL = it believes none. *tried counts them. */
const char *try_lies(const struct facts *facts, const struct seen *seen, unsigned long *tried);

#endif
