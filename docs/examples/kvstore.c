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

enum change {
    SET = 1,
    REMOVE = 2
}; /* the type of a record; its data is the key, a NUL, the value, a NUL */

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
    size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1;
    struct pair *pair = malloc(sizeof(*pair) + key_size + value_size);
    if (!pair)
        return NULL;
    memcpy(pair->key, key, key_size);
    pair->value = memcpy(pair->key + key_size, value, value_size);
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
    struct pair **link = find(store, key), *old = *link;
    struct pair *next = old ? old->next : NULL;
    store->pairs += pair != NULL;
    store->pairs -= old != NULL;
    if (pair)
        pair->next = next;
    *link = pair ? pair : next;
    free(old);
}

/* ---- opening: the log is replayed -------------------------------------------------------------- */

static int replay_record(struct store *store, const struct twinlog_record *record)
{
    const char *key = record->data, *end = key + record->size;
    const char *value = record->size ? memchr(key, '\0', record->size) : NULL;
    if (!value || ++value == end || end[-1] != '\0')
        return -EBADMSG; /* not a record of this program */
    struct pair *pair = record->type == SET ? new_pair(key, value) : NULL;
    if (record->type == SET && !pair)
        return -ENOMEM;
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
    while ((rc = twinlog_reader_next(reader, &record)) > 0 && (rc = replay_record(store, &record)) == 0)
        ;
    twinlog_reader_close(reader);
    return rc;
}

static int store_close(struct store *store)
{
    int rc = twinlog_close(store->log);
    for (size_t slot = 0; slot < SLOTS; slot++)
        while (store->slots[slot])
            apply(store, store->slots[slot]->key, NULL);
    pthread_mutex_destroy(&store->lock);
    free(store);
    return rc;
}

static int store_open(const char *dir, struct store **ret_store)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store)
        return -ENOMEM;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.segment_bytes = 1024 * 1024; /* space comes back by whole segments */
    pthread_mutex_init(&store->lock, NULL);
    int rc = twinlog_open(dir, &options, &store->log);
    if (rc == 0)
        rc = replay(store);
    if (rc == 0)
        *ret_store = store;
    else
        store_close(store);
    return rc;
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
    for (size_t slot = 0; slot < SLOTS; slot++)
        for (struct pair *pair = store->slots[slot]; pair && rc == 0; pair = pair->next)
            rc = enqueue(store, SET, pair->key, pair->value, &lsn);
    pthread_mutex_unlock(&store->lock);
    if (rc == 0)
        rc = twinlog_sync(store->log);
    if (rc == 0)
        rc = twinlog_trim(store->log, &trim, NULL);
    return rc;
}

static int change(struct store *store, enum change type, const char *key, const char *value)
{
    struct pair *pair = type == SET ? new_pair(key, value) : NULL;
    if (type == SET && !pair)
        return -ENOMEM;
    uint64_t lsn;
    pthread_mutex_lock(&store->lock);
    int rc = enqueue(store, type, key, value, &lsn);
    if (rc == 0)
        apply(store, key, pair);
    bool is_due = rc == 0 && ++store->changes > SLACK + 4 * store->pairs;
    if (is_due)
        store->changes = 0;
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
    pthread_mutex_lock(&store->lock);
    const struct pair *pair = *find(store, key);
    char *value = pair ? strdup(pair->value) : NULL;
    pthread_mutex_unlock(&store->lock);
    return value;
}

static void list(struct store *store)
{
    for (size_t slot = 0; slot < SLOTS; slot++)
        for (const struct pair *pair = store->slots[slot]; pair; pair = pair->next)
            printf("%s=%s\n", pair->key, pair->value);
}

/* ---- a check of itself ------------------------------------------------------------------------- */

#define THREADS 4
#define KEYS 50
#define TURNS 20

static struct store *checked;

static void *set_and_remove(void *argument)
{
    const int *thread = argument;
    for (int i = 0; i < KEYS * TURNS; i++) {
        char key[32], value[32];
        snprintf(key, sizeof(key), "key %d of thread %d", i % KEYS, *thread);
        snprintf(value, sizeof(value), "value %d", i);
        int rc = i % 7 == 6 ? store_remove(checked, key) : store_set(checked, key, value);
        if (rc < 0)
            return (void *)twinlog_strerror(rc);
    }
    return NULL;
}

static int wrong_values(struct store *store)
{
    int wrong = 0;
    for (int thread = 0; thread < THREADS; thread++)
        for (int i = KEYS * (TURNS - 1); i < KEYS * TURNS; i++) {
            char key[32], expected[32];
            snprintf(key, sizeof(key), "key %d of thread %d", i % KEYS, thread);
            snprintf(expected, sizeof(expected), "value %d", i);
            char *value = store_get(store, key);
            wrong += i % 7 == 6 ? value != NULL : !value || strcmp(value, expected) != 0;
            free(value);
        }
    return wrong;
}

static const char *check(const char *dir)
{
    static const int numbers[THREADS] = { 0, 1, 2, 3 };
    pthread_t threads[THREADS];
    void *failure = NULL, *result;
    int rc = store_open(dir, &checked);
    if (rc < 0)
        return twinlog_strerror(rc);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, set_and_remove, (void *)&numbers[i]) != 0)
            return "cannot start a thread";
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        failure = result ? result : failure;
    }
    rc = store_close(checked);
    if (rc == 0)
        rc = store_open(dir, &checked);
    if (failure || rc < 0)
        return failure ? failure : twinlog_strerror(rc);
    int wrong = wrong_values(checked);
    bool is_trimmed = twinlog_first_lsn(checked->log) > 1;
    printf("%d changes, %d pairs, %d of them wrong; the log begins with LSN %d\n", THREADS * KEYS * TURNS,
           (int)checked->pairs, wrong, (int)twinlog_first_lsn(checked->log));
    rc = store_close(checked);
    return rc < 0 ? twinlog_strerror(rc) : wrong || !is_trimmed ? "not what was stored" : NULL;
}

/* ---- the command ------------------------------------------------------------------------------- */

static bool is_command(int count, char **words)
{
    static const struct {
        const char *name;
        int count;
    } commands[] = { { "set", 3 }, { "get", 2 }, { "remove", 2 }, { "list", 1 }, { "checkpoint", 1 } };
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(words[0], commands[i].name) == 0 && count == commands[i].count)
            return true;
    return false;
}

static int run(struct store *store, char **words)
{
    const char *command = words[0], *key = words[1];
    if (strcmp(command, "set") == 0)
        return store_set(store, key, words[2]);
    if (strcmp(command, "remove") == 0)
        return store_remove(store, key);
    if (strcmp(command, "checkpoint") == 0)
        return store_checkpoint(store);
    if (strcmp(command, "list") == 0)
        return list(store), 0;
    char *value = store_get(store, key);
    if (!value)
        return -ENOENT;
    puts(value);
    free(value);
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
        rc = rc < 0 ? rc : closed;
    }
    if (rc < 0)
        fprintf(stderr, "kvstore: %s\n", twinlog_strerror(rc));
    return rc < 0;
}
