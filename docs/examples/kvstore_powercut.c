/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the store of kvstore.c survive a power cut? twinlog-powercut runs this program on a disk that loses its power,
 * and then once more as a check:
 *
 *     cc kvstore_powercut.c $(pkg-config --cflags --libs twinlog) -pthread -o kvstore_powercut
 *     sudo twinlog-powercut -- ./kvstore_powercut
 *
 * Four threads set keys to growing numbers, and print "KEY NUMBER" when the store has returned. The check reads these
 * lines: no key may have a smaller number. Without twinlog-powercut the program makes a few changes and checks them.
 */
#ifdef WITHOUT_WAIT /* a store that lies: twinlog's own test wants it to be caught */
#include <twinlog.h>
#define twinlog_wait(log, lsn, level, timeout_ms) 0
#endif
#define main kvstore_main
int kvstore_main(int argc, char **argv);
#include "kvstore.c"
#undef main

#define POWER_THREADS 4
#define POWER_KEYS 10 /* of each thread */

static struct store *store;
static unsigned long changes_left; /* of each thread */

static unsigned long number_of(const char *key)
{
    char *value = store_get(store, key);
    unsigned long number = value ? strtoul(value, NULL, 10) : 0;
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
        int size = snprintf(line, sizeof(line), "%s %s\n", key, value);
        if (fwrite(line, 1, (size_t)size, stdout) != (size_t)size || fflush(stdout) != 0)
            return (void *)"cannot print";
    }
    return NULL;
}

static const char *run_threads(void)
{
    static const int numbers[POWER_THREADS] = { 0, 1, 2, 3 };
    pthread_t threads[POWER_THREADS];
    void *failure = NULL, *result;
    for (int i = 0; i < POWER_THREADS; i++)
        if (pthread_create(&threads[i], NULL, set_keys, (void *)&numbers[i]) != 0)
            return "cannot start a thread";
    for (int i = 0; i < POWER_THREADS; i++) {
        pthread_join(threads[i], &result);
        failure = result ? result : failure;
    }
    return failure;
}

/* Each line of standard input says what was promised. */
static const char *check_promises(void)
{
    char key[32];
    unsigned long number, promises = 0, broken = 0;
    for (; scanf("%31s %lu", key, &number) == 2; promises++) {
        unsigned long kept = number_of(key);
        if (kept < number && broken++ < 10) /* the first ten say enough */
            fprintf(stderr, "%s has the number %lu, and was set to %lu\n", key, kept, number);
    }
    fprintf(stderr, "%lu promises, %lu of them broken\n", promises, broken);
    return broken ? "a change that had returned is not there" : NULL;
}

int main(int argc, char **argv)
{
    const char *phase = getenv("POWERCUT"), *dir = getenv("POWERCUT_DIR");
    char path[4096];
    snprintf(path, sizeof(path), "%s%s", dir ? dir : argc > 1 ? argv[1] : "store", dir ? "/store" : "");
    int rc = store_open(path, &store);
    if (rc < 0) {
        fprintf(stderr, "cannot open the store: %s\n", twinlog_strerror(rc));
        return 1;
    }
    changes_left = phase ? 1000000000 : 100;
    const char *failure = phase && strcmp(phase, "check") == 0 ? check_promises() : run_threads();
    rc = store_close(store);
    if (!failure && rc < 0)
        failure = twinlog_strerror(rc);
    if (failure)
        fprintf(stderr, "%s\n", failure);
    return failure != NULL;
}
