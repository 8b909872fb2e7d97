/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the store of kvstore.c survive a power cut? twinlog-powercut runs this program on a disk that loses its power,
 * and then once more as a check:
 *
 *     cc kvstore_powercut.c $(pkg-config --cflags --libs twinlog) -pthread -o kvstore_powercut
 *     sudo twinlog-powercut -- ./kvstore_powercut
 *
 * Four threads (run_in_threads() there) set keys to growing numbers, and print "KEY NUMBER" when the store has
 * returned. The check reads these lines: no key may have a smaller number. Without twinlog-powercut the program makes a
 * few changes.
 */
#ifdef WITHOUT_WAIT /* a store that lies: twinlog's own test wants it to be caught */
#include <twinlog.h>
#define twinlog_wait(log, lsn, level, timeout_ms) 0
#endif
#define main kvstore_main
int kvstore_main(int argc, char **argv);
#include "kvstore.c"
#undef main

#include <limits.h>

#define POWER_KEYS 10 /* of each thread */

static struct store *store;
static unsigned long changes_left; /* of each thread */

static unsigned long number_of(const char *key)
{
    unsigned long number = 0;

    char *value = store_get(store, key);
    if (value)
        number = strtoul(value, NULL, 10);
    free(value);
    return number;
}

static void *set_keys(void *argument)
{
    const int *thread = argument;

    for (unsigned long i = 0; i < changes_left; i++) {
        char key[32], value[32], line[80];

        snprintf(key, sizeof(key), "%d.%d", *thread, (int)(i % POWER_KEYS));
        snprintf(value, sizeof(value), "%lu", number_of(key) + 1);
        int rc = store_set(store, key, value);
        if (rc < 0)
            return (void *)twinlog_strerror(rc);

        size_t size = (size_t)snprintf(line, sizeof(line), "%s %s\n", key, value);
        if (fwrite(line, 1, size, stdout) != size || fflush(stdout) != 0)
            return (void *)"cannot print";
    }
    return NULL;
}

/* Each line of standard input says what was promised. */
static const char *check_promises(void)
{
    char key[32];
    unsigned long number;
    unsigned long promises = 0;
    unsigned long broken = 0;

    while (scanf("%31s %lu", key, &number) == 2) {
        unsigned long kept = number_of(key);
        promises++;
        if (kept >= number)
            continue;

        broken++;
        if (broken <= 10) /* these say enough */
            fprintf(stderr, "%s has the number %lu, and was set to %lu\n", key, kept, number);
    }

    fprintf(stderr, "%lu promises, %lu of them broken\n", promises, broken);
    if (broken > 0)
        return "a change that had returned is not there";
    return NULL;
}

/* twinlog-powercut says in the environment what to do, and where. */
static const char *run_phase(const char *phase)
{
    if (!phase) {
        changes_left = 100;
        return run_in_threads(set_keys);
    }
    if (strcmp(phase, "check") == 0)
        return check_promises();
    changes_left = ULONG_MAX; /* until the power fails */
    return run_in_threads(set_keys);
}

int main(int argc, char **argv)
{
    const char *power_cut_dir = getenv("POWERCUT_DIR");
    char dir[4096];

    if (power_cut_dir)
        snprintf(dir, sizeof(dir), "%s/store", power_cut_dir);
    else
        snprintf(dir, sizeof(dir), "%s", argc > 1 ? argv[1] : "store");

    int rc = store_open(dir, &store);
    if (rc < 0) {
        fprintf(stderr, "cannot open the store: %s\n", twinlog_strerror(rc));
        return 1;
    }

    const char *failure = run_phase(getenv("POWERCUT"));
    rc = store_close(store);
    if (!failure && rc < 0)
        failure = twinlog_strerror(rc);
    if (failure)
        fprintf(stderr, "%s\n", failure);
    return failure != NULL;
}
