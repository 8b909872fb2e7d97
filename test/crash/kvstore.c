/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-kvstore DIR: the store of docs/examples/kvstore.c is killed KILLS times while four threads change it, each time
 * when a random number of changes has returned, checkpoints or not. After each kill every key has the value of the
 * newest change that returned, or of the one that was being made. Nothing here depends on how long something takes.
 */
int kvstore_main(int argc, char **argv);
#define main kvstore_main
#include "../../docs/examples/kvstore.c"
#undef main
#include "../sim/rng.h"
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS 15
#define WRITERS 4
#define KEYS_OF_ONE 10

/* Change n of a key sets a value that says n, or removes the key; 0: the key was never set. */
static bool removes(unsigned n)
{
    return n % 5 == 0;
}

struct seen {
    _Atomic unsigned begun, returned; /* the newest such changes of a key */
};
static struct shared {
    struct seen key[WRITERS][KEYS_OF_ONE];
    _Atomic uint64_t returned; /* changes of this process */
    _Atomic int error;         /* of a change */
} * shared;

static struct store *store;

static void name(char room[static 32], int writer, int key)
{
    snprintf(room, 32, "key %d of writer %d", key, writer);
}

static void value_of(char room[static 600], unsigned n)
{
    int size = snprintf(room, 600, "change %u ", n);
    memset(room + size, 'a' + (int)(n % 26), n * 37 % 500);
    room[(unsigned)size + n * 37 % 500] = '\0';
}

static void *write_for_ever(void *argument)
{
    const int writer = *(const int *)argument;
    for (int i = 0;; i = (i + 1) % KEYS_OF_ONE) {
        struct seen *seen = &shared->key[writer][i];
        unsigned n = seen->begun + 1;
        char key[32], value[600];
        name(key, writer, i);
        value_of(value, n);
        seen->begun = n;
        int rc = removes(n) ? store_remove(store, key) : store_set(store, key, value);
        if (rc < 0) {
            shared->error = rc;
            return NULL;
        }
        seen->returned = n;
        shared->returned++;
    }
}

static int live(const char *dir)
{
    static const int numbers[WRITERS] = { 0, 1, 2, 3 };
    pthread_t threads[WRITERS];
    int rc = store_open(dir, &store);
    if (rc < 0) {
        fprintf(stderr, "cannot open the store: %s\n", twinlog_strerror(rc));
        return 1;
    }
    for (int i = 0; i < WRITERS; i++)
        if (pthread_create(&threads[i], NULL, write_for_ever, (void *)&numbers[i]) != 0)
            return 1;
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    return 1; /* only an error gets here */
}

/* A process that works until so many changes have returned, and is then killed. */
static bool live_and_die(const char *dir, uint64_t changes)
{
    int status;
    shared->returned = 0;
    pid_t child = fork();
    if (child < 0)
        return false;
    if (child == 0)
        _exit(live(dir));
    while (shared->returned < changes && waitpid(child, &status, WNOHANG) == 0)
        usleep(100);
    if (shared->returned >= changes) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        return true;
    }
    fprintf(stderr, "the process ended by itself: %s\n", twinlog_strerror(shared->error));
    return false;
}

static bool is_value_of(const char *value, unsigned n)
{
    char expected[600];
    value_of(expected, n);
    return removes(n) ? value == NULL : value != NULL && strcmp(value, expected) == 0;
}

static bool is_as_it_should_be(int writer, int i)
{
    struct seen *seen = &shared->key[writer][i];
    char key[32];
    name(key, writer, i);
    char *value = store_get(store, key);
    bool is_begun = is_value_of(value, seen->begun),
         is_right = is_begun || is_value_of(value, seen->returned);
    if (!is_right)
        fprintf(stderr, "%s: change %u returned, %u was begun, and the store has: %s\n", key, seen->returned,
                seen->begun, value ? value : "nothing");
    if (is_begun)
        seen->returned = seen->begun;
    else
        seen->begun = seen->returned;
    free(value);
    return is_right;
}

static bool look(const char *dir, uint64_t *ret_first_lsn)
{
    int wrong = 0, rc = store_open(dir, &store);
    if (rc < 0) {
        fprintf(stderr, "cannot open the store again: %s\n", twinlog_strerror(rc));
        return false;
    }
    for (int writer = 0; writer < WRITERS; writer++)
        for (int i = 0; i < KEYS_OF_ONE; i++)
            wrong += !is_as_it_should_be(writer, i);
    *ret_first_lsn = twinlog_first_lsn(store->log);
    return store_close(store) == 0 && wrong == 0;
}

int main(int argc, char **argv)
{
    const char *seed = getenv("TWINLOG_SEED");
    struct rng rng = { seed ? strtoull(seed, NULL, 0) : 1 };
    const char *dir = argc > 1 ? argv[1] : "kvstore";
    uint64_t first_lsn = 0;
    printf("TWINLOG_SEED=%" PRIu64 "\n", rng.state);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    for (int i = 1; i <= KILLS; i++)
        if (!live_and_die(dir, 1 + rng_below(&rng, 500)) || !look(dir, &first_lsn)) {
            fprintf(stderr, "kill %d of %d\n", i, KILLS);
            return 1;
        }
    printf("%d kills, everything that returned is there; the log begins with LSN %" PRIu64 "\n", KILLS,
           first_lsn);
    return first_lsn > 1 ? 0 : 1; /* else no checkpoint was made */
}
