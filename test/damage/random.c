/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damages random logs at one to three places, and compares what verify and repair say with what is left.
 *
 * The logs are small, and made by chance: several lives, closed or killed, through writes or through a mapping, with
 * truncations, resets, trims, recycled files and cursors. A place is some bits, some sectors, two blocks, a header, the
 * end of a file, or a file. What must hold:
 *  - every record in the repaired log is one that was appended, with its LSN;
 *  - a record that was acknowledged is there, or its loss is told; so are records that were removed and come back;
 *  - verify never says that a log is sound in which an acknowledged record is gone, and repair agrees with it;
 *  - the repaired log is sound.
 * Not told may be only what nothing in the files tells any more (random_judge.c). After each log the judge is told
 * lies, and must not believe one.
 *
 * Where one place alone is damaged, some bits or sectors, of a log that was closed, the repaired log has every record
 * that has no byte in it, and no other, and the cursor; and what is told are exactly the records that are lost: unless
 * the last record is lost with all that proves it, which one sector never does. With -e each sector of each such log is
 * turned into zeros, one at a time; with -b bits are flipped, see random_bits.c.
 */
#define _GNU_SOURCE
#include "random.h"

#include "twinlog.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_HARMS 3u
#define DAMAGES 3u /* of each log */
#define SECTOR_BYTES 512u

static char parent[256], dir[280], repaired[280];
static struct files others; /* of a log of its own */
static unsigned long logs, damaged, sound, with_losses, lies, violations;
static uint64_t made, flips;

void must(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "damage-random: cannot %s\n", what);
    abort();
}

static void fail(uint64_t seed, const struct harm *harms, unsigned count, const char *words, uint64_t lsn)
{
    violations++;
    printf("VIOLATION seed %" PRIu64 ": %s, LSN %" PRIu64 "\n", seed, words, lsn);
    for (unsigned i = 0; i < count; i++)
        printf("  %s\n", harms[i].words);
}

static void check(uint64_t seed, const struct facts *facts, const struct harm *harms, unsigned count)
{
    static struct seen seen;
    uint64_t lsn = 0;
    store_files(dir, facts->after);
    look(dir, repaired, &seen);
    const char *wrong = judge(facts, &seen, &lsn);
    if (!wrong)
        wrong = try_lies(facts, &seen, &lies);
    const bool is_exact = harms->is_sector || (harms->is_local && seen.repaired == 0 && is_end_proved(facts));
    if (!wrong && count == 1 && facts->history->is_closed && is_exact)
        wrong = judge_one_place(facts, &seen, &lsn);
    if (wrong)
        fail(seed, harms, count, wrong, lsn);
    damaged++;
    sound += seen.verified == 0;
    with_losses += seen.losses > 0;
}

static void damage(uint64_t seed, struct rng *rng, struct facts facts)
{
    struct harm harms[MOST_HARMS];
    struct files after;
    const unsigned count = 1 + (unsigned)rng_below(rng, MOST_HARMS);
    copy_files(facts.before, &after);
    for (unsigned i = 0; i < count; i++)
        do_harm(rng, &after, &others, &harms[i]);
    facts.after = &after;
    check(seed, &facts, harms, count);
    free_files(&after);
}

/* False if there are zeros already. */
static bool zero_sector(struct file *file, size_t at, struct harm *ret_harm)
{
    static const unsigned char zeros[SECTOR_BYTES];
    if (memcmp(file->bytes + at, zeros, SECTOR_BYTES) == 0)
        return false;
    memset(file->bytes + at, 0, SECTOR_BYTES);
    snprintf(ret_harm->words, sizeof(ret_harm->words), "the sector at %zu of %s", at, file->name);
    return true;
}

static void try_sectors(uint64_t seed, struct facts facts)
{
    struct files after;
    struct harm harm = { .is_sector = true };
    copy_files(facts.before, &after);
    facts.after = &after;
    for (unsigned i = 0; i < after.count; i++)
        for (size_t at = 0; at + SECTOR_BYTES <= after.list[i].size; at += SECTOR_BYTES) {
            if (!zero_sector(&after.list[i], at, &harm))
                continue;
            check(seed, &facts, &harm, 1);
            memcpy(after.list[i].bytes + at, facts.before->list[i].bytes + at, SECTOR_BYTES);
        }
    free_files(&after);
}

/* How to damage the logs: steps[0] bits apart, from bit steps[1] on; 0 = otherwise. */
struct way {
    bool is_exhaustive;
    unsigned steps[2];
};

static void flip_bits(uint64_t seed, const struct facts *facts, const unsigned *steps)
{
    struct harm harm;
    const char *wrong = try_bits(dir, facts, steps, &flips, harm.words, sizeof(harm.words));
    if (wrong)
        fail(seed, &harm, 1, wrong, 0);
}

static void try_log(uint64_t seed, const struct way *way)
{
    static struct history history;
    static struct layout layout;
    static struct seen seen;
    struct files files;
    struct rng rng = { rng_mix(seed) };
    uint64_t lsn = 0;
    remove_directory(dir);
    make_log(dir, seed, &history);
    load_log(dir, &files);
    find_layout(dir, &files, &layout);
    const struct facts facts = { &history, &layout, &files, &files, read_cursor(dir) };
    must(layout.place_count ==
             (history.last_lsn >= history.first_lsn ? history.last_lsn - history.first_lsn + 1 : 0),
         "find all records");
    look(dir, repaired, &seen);
    const char *wrong =
        seen.verified != 0 ? "verify does not like an undamaged log" : judge(&facts, &seen, &lsn);
    if (wrong)
        fail(seed, NULL, 0, wrong, lsn);
    if (way->steps[0] > 0 && history.is_closed)
        flip_bits(seed, &facts, way->steps);
    if (way->is_exhaustive && history.is_closed)
        try_sectors(seed, facts);
    for (unsigned i = 0; i < DAMAGES && !way->is_exhaustive && way->steps[0] == 0; i++)
        damage(seed, &rng, facts);
    free_files(&files);
    made |= history.made;
    logs++;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    unsigned long count = 100;
    struct way way = { 0 };
    int option;
    static struct history history;
    while ((option = getopt(argc, argv, "n:s:eb:f:h")) != -1) {
        if (option == 'n')
            count = strtoul(optarg, NULL, 10);
        else if (option == 's')
            seed = strtoull(optarg, NULL, 10);
        else if (option == 'e')
            way.is_exhaustive = true;
        else if (option == 'b')
            way.steps[0] = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'f')
            way.steps[1] = (unsigned)strtoul(optarg, NULL, 10);
        else {
            printf(
                "usage: damage-random [-n LOGS] [-s SEED] [-e | -b STRIDE [-f FIRST]]\n"
                "Damages LOGS random logs, from the one of SEED on, and checks what verify and repair say;\n"
                "with -e each sector, one at a time; with -b every STRIDE-th bit, from bit FIRST on.\n");
            return option == 'h' ? 0 : 2;
        }
    }
    snprintf(parent, sizeof(parent), "%s/twinlog-random-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    must(mkdtemp(parent) != NULL, "make a directory");
    snprintf(dir, sizeof(dir), "%s/log", parent);
    snprintf(repaired, sizeof(repaired), "%s/repaired", parent);
    make_log(dir, UINT64_MAX, &history);
    load_log(dir, &others);
    for (uint64_t i = 0; i < count && violations < 20; i++)
        try_log(seed + i, &way);
    remove_directory(dir);
    remove_directory(repaired);
    rmdir(parent);
    free_files(&others);
    printf("damage-random: %lu logs, damaged %lu times, %lu of them sound, %lu with losses; %lu lies, "
           "%" PRIu64 " bits flipped, %lu violations\n",
           logs, damaged, sound, with_losses, lies, flips, violations);
    must(count < 50 || made == (1u << 6) - 1, "try every step");
    return violations > 0;
}
