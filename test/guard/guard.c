/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard: fails if an append, an opening or a read costs more than is recorded in the file bounds: instructions, system
 * calls, syncs, bytes, allocations, locks. They are counted, so the machine may be slow or busy.
 *
 * guard --renew records what is counted now. A commit that makes something dearer on purpose says so by its
 * change of that file.
 *
 * What depends on the compiler is compared only with what the same one has made; what the system calls do not.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <gnu/libc-version.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_WORKS 32u
#define LINE_BYTES 512u

char guard_directory[256];

/* How much more than recorded is too much. */
static const struct rule {
    bool is_compilers; /* another compiler makes another number */
    bool is_exact;     /* less is wrong, too: an append without its sync */
    unsigned margin;   /* percent */
} rules[COSTS] = {
    [COST_INSTRUCTIONS] = { .is_compilers = true, .margin = 15 },
    [COST_ATOMICS] = { .is_compilers = true, .margin = 3 },
    [COST_MOVED] = { .is_compilers = true, .margin = 3 },
    [COST_SYNCS] = { .is_exact = true },
};
#define MARGIN_OF_OPENING 15u /* percent, of everything: file systems and kernels differ there */

struct bounds {
    char built[LINE_BYTES];
    char names[MOST_WORKS][32];
    uint64_t costs[MOST_WORKS][COSTS];
    unsigned count;
};

/* What the numbers of instructions depend on. */
static const char *how_it_is_built(void)
{
    static char text[LINE_BYTES];
    snprintf(text, sizeof(text), "%s %s, glibc %s, %s, %s",
#ifdef __clang__
             "clang",
#else
             "gcc",
#endif
             __VERSION__, gnu_get_libc_version(), BUILD_FLAGS,
             dlsym(RTLD_DEFAULT, "crc32_iscsi") ? "ISA-L" : "without ISA-L");
    return text;
}

/* ---- the file of bounds -------------------------------------------------------------------------- */

static bool parse_costs(const char *text, uint64_t costs[COSTS])
{
    for (unsigned i = 0; i < COSTS; i++) {
        char *end;
        costs[i] = strtoull(text, &end, 10);
        if (end == text)
            return false;
        text = end;
    }
    return true;
}

static bool read_bounds(const char *path, struct bounds *bounds)
{
    static const char built[] = "built: ";
    char line[LINE_BYTES];
    int name_end;
    FILE *file = fopen(path, "re");
    bool is_good = file;

    while (is_good && fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#' || line[0] == 0)
            continue;
        if (strncmp(line, built, strlen(built)) == 0) {
            snprintf(bounds->built, sizeof(bounds->built), "%s", line + strlen(built));
            continue;
        }
        is_good = bounds->count < MOST_WORKS &&
                  sscanf(line, "%31s%n", bounds->names[bounds->count], &name_end) == 1 &&
                  parse_costs(line + name_end, bounds->costs[bounds->count]);
        bounds->count++;
    }
    if (file)
        fclose(file);
    if (!is_good)
        fprintf(stderr, "guard: %s: cannot be read\n", path);
    return is_good;
}

static void print_heading(FILE *file, const char *first)
{
    fprintf(file, "%-17s", first);
    for (unsigned i = 0; i < COSTS; i++)
        fprintf(file, " %12s", cost_names[i]);
    fputc('\n', file);
}

static bool write_bounds(const char *path, const struct bounds *bounds)
{
    FILE *file = fopen(path, "we");
    if (!file) {
        fprintf(stderr, "guard: %s: %s\n", path, strerror(errno));
        return false;
    }
    fprintf(file, "# What the works of test/guard/works.c cost, all operations of one run together. Made by\n"
                  "# guard --renew. Instructions, atomics and moved are for this build:\n");
    fprintf(file, "built: %s\n", bounds->built);
    print_heading(file, "# work");
    for (unsigned w = 0; w < bounds->count; w++) {
        fprintf(file, "%-17s", bounds->names[w]);
        for (unsigned i = 0; i < COSTS; i++)
            fprintf(file, " %12" PRIu64, bounds->costs[w][i]);
        fputc('\n', file);
    }
    return fclose(file) == 0;
}

/* ---- judging ------------------------------------------------------------------------------------- */

static void print_calls(const struct counts *counts)
{
    printf("  the system calls, number: how many times\n ");
    for (unsigned i = 0; i < SYSTEM_CALLS; i++)
        if (counts->calls[i] > 0)
            printf(" %u: %" PRIu64, i, counts->calls[i]);
    putchar('\n');
}

/* True if it costs no more than recorded. */
static bool judge(const struct work *work, const struct counts *counts, const uint64_t bounds[COSTS],
                  bool is_same_build)
{
    bool is_good = true;

    for (unsigned i = 0; i < COSTS; i++) {
        const struct rule *rule = &rules[i];
        const unsigned margin =
            work->is_opening && rule->margin < MARGIN_OF_OPENING ? MARGIN_OF_OPENING : rule->margin;
        const uint64_t most = bounds[i] + bounds[i] * margin / 100, found = counts->costs[i];

        if (rule->is_compilers && !is_same_build)
            continue;
        if (found <= most && !(rule->is_exact && !work->is_opening && found < bounds[i]))
            continue;
        printf("  TOO %s: %s: %" PRIu64 " %s in %u operations, recorded %" PRIu64 ", at most %" PRIu64 "\n",
               found > most ? "DEAR" : "CHEAP", work->name, found, cost_names[i], work->operations, bounds[i],
               most);
        if (i == COST_SYSCALLS || i == COST_SYNCS)
            print_calls(counts);
        is_good = false;
    }
    return is_good;
}

static const uint64_t *bounds_of(const struct bounds *bounds, const char *name)
{
    for (unsigned i = 0; i < bounds->count; i++)
        if (strcmp(bounds->names[i], name) == 0)
            return bounds->costs[i];
    return NULL;
}

/* ---- measuring ----------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

/* In memory, where there is some to write to: no disk has a say in it. */
static bool make_directory(void)
{
    const char *where = getenv("TMPDIR");

    if (access("/dev/shm", W_OK) == 0)
        where = "/dev/shm";
    snprintf(guard_directory, sizeof(guard_directory), "%s/twinlog-guard-XXXXXX", where ? where : "/tmp");
    if (mkdtemp(guard_directory))
        return true;
    perror(guard_directory);
    return false;
}

static int measure(const struct work *work, struct counts *ret_counts)
{
    if (!make_directory())
        return -EIO;
    const int result = count_costs(work, ret_counts);
    nftw(guard_directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return result;
}

static void print_costs(const struct work *work, const struct counts *counts)
{
    printf("%-17s", work->name);
    for (unsigned i = 0; i < COSTS; i++)
        printf(" %12.1f", (double)counts->costs[i] / work->operations);
    putchar('\n');
}

/* Counts one work; compares it, or writes it down in `renewed`. False if it is too dear, or has failed. */
static bool guard(const struct work *work, const struct bounds *bounds, bool is_same_build,
                  struct bounds *renewed)
{
    static struct counts counts;
    const uint64_t *own = bounds_of(bounds, work->name);
    const int result = measure(work, &counts);

    if (result == -ENOTSUP || result == -EPERM || (result == -ENOSYS && work->is_optional)) {
        printf("SKIP guard %s: %s\n", work->name, strerror(-result));
        return true;
    }
    if (result < 0) {
        printf("guard: %s: %s\n", work->name, strerror(-result));
        return false;
    }
    print_costs(work, &counts);
    if (renewed) {
        snprintf(renewed->names[renewed->count], sizeof(renewed->names[0]), "%s", work->name);
        memcpy(renewed->costs[renewed->count++], counts.costs, sizeof(counts.costs));
        return true;
    }
    if (own)
        return judge(work, &counts, own, is_same_build);
    printf("guard: nothing is recorded for %s: guard --renew\n", work->name);
    return false;
}

/* Does the processor trap, and the kernel hand the trap on? Some sandboxes and emulators do not. */
static bool can_count(void)
{
    static struct counts counts;
    return measure(&idle_work, &counts) == 0 && counts.costs[COST_INSTRUCTIONS] > 0;
}

int main(int argc, char **argv)
{
    static struct bounds bounds, renewed;
    const bool is_renewing = argc == 2 && strcmp(argv[1], "--renew") == 0;
    bool is_good = true;

    if (argc != 1 && !is_renewing) {
        fputs("usage: guard [--renew]\n", stderr);
        return 2;
    }
    if (!can_count()) {
        puts("SKIP guard: instructions cannot be counted here");
        return 77;
    }
    if (!is_renewing && !read_bounds(BOUNDS, &bounds))
        return EXIT_FAILURE;
    snprintf(renewed.built, sizeof(renewed.built), "%s", how_it_is_built());
    const bool is_same_build = strcmp(bounds.built, renewed.built) == 0;
    if (!is_renewing && !is_same_build)
        printf("SKIP guard instructions: this is %s, recorded were those of %s\n", renewed.built,
               bounds.built);
    print_heading(stdout, "an operation");
    for (const struct work *work = works; work->name; work++)
        is_good &= guard(work, &bounds, is_same_build, is_renewing ? &renewed : NULL);
    if (is_renewing)
        is_good = is_good && write_bounds(BOUNDS, &renewed);
    return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
