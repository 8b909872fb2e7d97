/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key-value store that survives crashes. The pairs are in memory, and every change is a record of a log. Opening
 * the store replays the log. A checkpoint appends all pairs once more and trims what was in front of them, so the
 * log stays small. docs/tutorial.md explains it step by step.
 *
 *     cc kvstore.c $(pkg-config --cflags --libs twinlog) -pthread -o kvstore
 *     ./kvstore DIR set KEY VALUE | get KEY | remove KEY | list | checkpoint
 *
 * With a directory alone it runs a short check of itself there.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog.h>

#define SLOTS 4096u
#define SLACK 200u /* a checkpoint after so many changes, and four for each pair */

/* The type of a record; its data is the key, a NUL, the value, a NUL. */
enum change {
    SET = 1,
    REMOVE = 2
};

struct pair {
    struct pair *next; /* in the same slot */
    const char *value; /* behind the key */
    char key[];
};

struct store {
    struct twinlog *log;
    pthread_mutex_t lock; /* changes get into the log and into the memory in the same order */
    struct pair *slots[SLOTS];
    uint64_t pairs;
    uint64_t changes; /* since the last checkpoint */
};

/* ---- pairs in memory --------------------------------------------------------------------------- */

static struct pair *new_pair(const char *key, const char *value)
{
    size_t key_size = strlen(key) + 1;
    size_t value_size = strlen(value) + 1;

    struct pair *pair = malloc(sizeof(*pair) + key_size + value_size);
    if (!pair)
        return NULL;
    memcpy(pair->key, key, key_size);
    memcpy(pair->key + key_size, value, value_size);
    pair->value = pair->key + key_size;
    return pair;
}

/* The link to the pair of this key, or to NULL. */
static struct pair **find(struct store *store, const char *key)
{
    size_t hash = 5381;
    for (const char *c = key; *c; c++)
        hash = hash * 33 + (unsigned char)*c;

    struct pair **link = &store->slots[hash % SLOTS];
    while (*link && strcmp((*link)->key, key) != 0)
        link = &(*link)->next;
    return link;
}

/* Puts `pair` in the place of the key's old one; NULL removes the key. Allocates nothing and cannot fail. */
static void apply(struct store *store, const char *key, struct pair *pair)
{
    struct pair **link = find(store, key);
    struct pair *old = *link;

    if (old) {
        *link = old->next;
        store->pairs--;
    }
    if (pair) {
        pair->next = *link;
        *link = pair;
        store->pairs++;
    }
    free(old);
}

/* ---- opening: the log is replayed -------------------------------------------------------------- */

static int replay_record(struct store *store, const struct twinlog_record *record)
{
    const char *key = record->data;
    const char *end = key + record->size;
    struct pair *pair = NULL;

    /* A record of this program has two strings, and nothing behind the second one. */
    const char *key_end = NULL;
    if (record->size > 0)
        key_end = memchr(key, '\0', record->size);
    if (!key_end || key_end + 1 == end || end[-1] != '\0')
        return -EBADMSG;

    if (record->type == SET) {
        pair = new_pair(key, key_end + 1);
        if (!pair)
            return -ENOMEM;
    }
    apply(store, key, pair);
    store->changes++;
    return 0;
}

static int replay(struct store *store)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int rc = twinlog_reader_attach(store->log, NULL, &reader);
    if (rc < 0)
        return rc;

    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        rc = replay_record(store, &record);
        if (rc < 0)
            break;
    }
    twinlog_reader_close(reader);
    return rc; /* 0: the end of the log */
}

static int store_close(struct store *store)
{
    int rc = twinlog_close(store->log); /* NULL, if it was not opened, is no error */

    for (size_t slot = 0; slot < SLOTS; slot++) {
        while (store->slots[slot])
            apply(store, store->slots[slot]->key, NULL);
    }
    pthread_mutex_destroy(&store->lock);
    free(store);
    return rc;
}

static int store_open(const char *dir, struct store **ret_store)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store)
        return -ENOMEM;
    pthread_mutex_init(&store->lock, NULL);

    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.segment_bytes = 1024 * 1024; /* space comes back by whole segments */
    int rc = twinlog_open(dir, &options, &store->log);
    if (rc == 0)
        rc = replay(store);
    if (rc < 0) {
        store_close(store);
        return rc;
    }

    *ret_store = store;
    return 0;
}

/* ---- changes ----------------------------------------------------------------------------------- */

/* Gives a change its place in the log. It is not durable yet. */
static int enqueue(struct store *store, enum change type, const char *key, const char *value,
                   uint64_t *ret_lsn)
{
    const struct iovec pieces[] = { { (void *)key, strlen(key) + 1 }, { (void *)value, strlen(value) + 1 } };
    const struct twinlog_entry entry = { .pieces = pieces, .piece_count = 2, .type = (uint8_t)type };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    terms.level = TWINLOG_LEVEL_BUFFERED;
    return twinlog_append_batch(store->log, &entry, 1, &terms, ret_lsn);
}

/* All pairs once more, and then nothing in front of them. A crash in between leaves a longer log with the same
 * pairs. */
static int store_checkpoint(struct store *store)
{
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    uint64_t lsn;
    int rc = 0;

    pthread_mutex_lock(&store->lock);
    trim.before_lsn = twinlog_last_lsn(store->log) + 1;
    for (size_t slot = 0; slot < SLOTS; slot++) {
        for (struct pair *pair = store->slots[slot]; pair && rc == 0; pair = pair->next)
            rc = enqueue(store, SET, pair->key, pair->value, &lsn);
    }
    pthread_mutex_unlock(&store->lock);

    if (rc == 0)
        rc = twinlog_sync(store->log);
    if (rc == 0)
        rc = twinlog_trim(store->log, &trim, NULL);
    return rc;
}

/* True if it is time for a checkpoint. */
static bool count_change(struct store *store)
{
    store->changes++;
    if (store->changes <= SLACK + 4 * store->pairs)
        return false;

    store->changes = 0;
    return true;
}

static int change(struct store *store, enum change type, const char *key, const char *value)
{
    struct pair *pair = NULL;
    bool is_due = false;

    if (type == SET) {
        pair = new_pair(key, value);
        if (!pair)
            return -ENOMEM;
    }

    uint64_t lsn;
    pthread_mutex_lock(&store->lock);
    int rc = enqueue(store, type, key, value, &lsn);
    if (rc == 0) {
        apply(store, key, pair);
        is_due = count_change(store);
    }
    pthread_mutex_unlock(&store->lock);

    if (rc < 0) {
        free(pair);
        return rc; /* nothing has happened */
    }

    rc = twinlog_wait(store->log, lsn, TWINLOG_LEVEL_DURABLE, 0);
    if (rc == 0 && is_due)
        store_checkpoint(store); /* if it fails, a later change tries again */
    return rc;
}

static int store_set(struct store *store, const char *key, const char *value)
{
    return change(store, SET, key, value);
}

static int store_remove(struct store *store, const char *key)
{
    return change(store, REMOVE, key, "");
}

/* ---- looking ----------------------------------------------------------------------------------- */

/* A copy of the value, which the caller frees; NULL if there is none. */
static char *store_get(struct store *store, const char *key)
{
    char *value = NULL;

    pthread_mutex_lock(&store->lock);
    const struct pair *pair = *find(store, key);
    if (pair)
        value = strdup(pair->value);
    pthread_mutex_unlock(&store->lock);
    return value;
}

static void list(struct store *store)
{
    for (size_t slot = 0; slot < SLOTS; slot++) {
        for (const struct pair *pair = store->slots[slot]; pair; pair = pair->next)
            printf("%s=%s\n", pair->key, pair->value);
    }
}

/* ---- a check of itself ------------------------------------------------------------------------- */

#define THREADS 4
#define KEYS 50
#define TURNS 20

static struct store *checked;

/* Every seventh change removes its key, the others set it. */
static bool removes(int change)
{
    return change % 7 == 6;
}

static void *set_and_remove(void *argument)
{
    const int *thread = argument;

    for (int i = 0; i < KEYS * TURNS; i++) {
        char key[32], value[32];
        int rc;

        snprintf(key, sizeof(key), "key %d of thread %d", i % KEYS, *thread);
        snprintf(value, sizeof(value), "value %d", i);
        if (removes(i))
            rc = store_remove(checked, key);
        else
            rc = store_set(checked, key, value);
        if (rc < 0)
            return (void *)twinlog_strerror(rc);
    }
    return NULL;
}

/* Does the key have the value of that change? */
static bool has_value(struct store *store, int thread, int change)
{
    char key[32], expected[32];
    bool is_right;

    snprintf(key, sizeof(key), "key %d of thread %d", change % KEYS, thread);
    snprintf(expected, sizeof(expected), "value %d", change);
    char *value = store_get(store, key);
    if (removes(change))
        is_right = !value;
    else
        is_right = value && strcmp(value, expected) == 0;
    free(value);
    return is_right;
}

static int count_wrong_values(struct store *store)
{
    int wrong = 0;

    for (int thread = 0; thread < THREADS; thread++) {
        for (int i = KEYS * (TURNS - 1); i < KEYS * TURNS; i++)
            wrong += !has_value(store, thread, i);
    }
    return wrong;
}

/* NULL, or what went wrong. On return no thread is inside the store. */
static const char *run_in_threads(void *(*body)(void *))
{
    static const int numbers[THREADS] = { 0, 1, 2, 3 };
    pthread_t threads[THREADS];
    const char *failure = NULL;
    int started = 0;

    while (started < THREADS && !failure) {
        if (pthread_create(&threads[started], NULL, body, (void *)&numbers[started]) == 0)
            started++;
        else
            failure = "cannot start a thread";
    }

    for (int i = 0; i < started; i++) {
        void *failure_of_thread;

        pthread_join(threads[i], &failure_of_thread);
        if (failure_of_thread)
            failure = failure_of_thread;
    }
    return failure;
}

/* What the threads have stored is there when the store is opened again. */
static const char *check_again(const char *dir)
{
    int rc = store_open(dir, &checked);
    if (rc < 0)
        return twinlog_strerror(rc);

    int wrong = count_wrong_values(checked);
    uint64_t first_lsn = twinlog_first_lsn(checked->log);
    printf("%d changes, %d pairs, %d of them wrong; the log begins with LSN %d\n", THREADS * KEYS * TURNS,
           (int)checked->pairs, wrong, (int)first_lsn);

    rc = store_close(checked);
    if (rc < 0)
        return twinlog_strerror(rc);
    if (wrong > 0)
        return "not what was stored";
    if (first_lsn == 1)
        return "no checkpoint has trimmed the log";
    return NULL;
}

static const char *check(const char *dir)
{
    int rc = store_open(dir, &checked);
    if (rc < 0)
        return twinlog_strerror(rc);

    const char *failure = run_in_threads(set_and_remove);
    rc = store_close(checked);
    if (failure)
        return failure;
    if (rc < 0)
        return twinlog_strerror(rc);
    return check_again(dir);
}

/* ---- the command ------------------------------------------------------------------------------- */

static bool is_command(int count, char **words)
{
    static const struct {
        const char *name;
        int count;
    } commands[] = { { "set", 3 }, { "get", 2 }, { "remove", 2 }, { "list", 1 }, { "checkpoint", 1 } };

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(words[0], commands[i].name) == 0)
            return count == commands[i].count;
    }
    return false;
}

static int print_value(struct store *store, const char *key)
{
    char *value = store_get(store, key);
    if (!value)
        return -ENOENT;
    puts(value);
    free(value);
    return 0;
}

static int run(struct store *store, char **words)
{
    const char *command = words[0], *key = words[1];

    if (strcmp(command, "set") == 0)
        return store_set(store, key, words[2]);
    if (strcmp(command, "remove") == 0)
        return store_remove(store, key);
    if (strcmp(command, "get") == 0)
        return print_value(store, key);
    if (strcmp(command, "checkpoint") == 0)
        return store_checkpoint(store);
    list(store);
    return 0;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "store";
    if (argc < 3) {
        const char *failure = check(dir);
        if (failure)
            fprintf(stderr, "kvstore: %s\n", failure);
        return failure != NULL;
    }
    if (!is_command(argc - 2, argv + 2)) {
        fprintf(stderr, "usage: kvstore DIR set KEY VALUE | get KEY | remove KEY | list | checkpoint\n");
        return 2;
    }

    struct store *store;
    int rc = store_open(dir, &store);
    if (rc == 0) {
        rc = run(store, argv + 2);
        int closed = store_close(store);
        if (rc == 0)
            rc = closed;
    }
    if (rc < 0)
        fprintf(stderr, "kvstore: %s\n", twinlog_strerror(rc));
    return rc < 0;
}
