/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts in memory, every payment a record of a log, and snapshots of all accounts in files of the program's own, so
 * that an opening need not replay everything. docs/tutorial.md explains the order of the steps.
 *
 *     cc snapshot.c $(pkg-config --cflags --libs twinlog) -pthread -o snapshot
 *     ./snapshot DIR pay ACCOUNT AMOUNT | show | snapshot
 *
 * In DIR are the log, "log", and the snapshots, "snapshot-LSN". With a directory alone it runs a short check of itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog.h>
#include <unistd.h>

#define ACCOUNTS 16u
#define VALUE "snapshot" /* the log's value with the name of the snapshot that counts */

struct payment {
    uint32_t account;
    uint32_t amount;
};

struct bank {
    const char *dir;
    struct twinlog *log;
    pthread_mutex_t lock; /* payments get into the log and into the memory in the same order */
    uint64_t totals[ACCOUNTS];
    uint64_t last_lsn; /* of the newest payment in `totals` */
};

/* ---- a snapshot file ---------------------------------------------------------------------------- */

static int write_all(int fd, const void *data, size_t size)
{
    const ssize_t written = write(fd, data, size);
    if (written < 0)
        return -errno;
    if ((size_t)written != size)
        return -EIO;
    return 0;
}

/* The bytes of the file are durable on return. */
static int save_bytes(int dir, const char *name, const uint64_t totals[ACCOUNTS])
{
    const int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;

    int rc = write_all(fd, totals, ACCOUNTS * sizeof(*totals));
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    return rc;
}

/* The file is durable on return: its bytes, and its name. */
static int save(const struct bank *bank, const char *name, const uint64_t totals[ACCOUNTS])
{
    const int dir = open(bank->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;

    int rc = save_bytes(dir, name, totals);
    if (rc == 0 && fsync(dir) < 0)
        rc = -errno;
    close(dir);
    return rc;
}

static int load(struct bank *bank, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", bank->dir, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return -errno;

    const size_t count = fread(bank->totals, sizeof(*bank->totals), ACCOUNTS, file);
    fclose(file);
    if (count != ACCOUNTS || sscanf(name, "snapshot-%" SCNu64, &bank->last_lsn) != 1)
        return -EBADMSG;
    return 0;
}

/* ---- opening: the newest snapshot, and the payments behind it ------------------------------------- */

/* No value: there was no snapshot yet, and the log has everything. */
static int load_newest(struct bank *bank)
{
    char name[64] = "";
    const int rc = twinlog_meta_get(bank->log, VALUE, name, sizeof(name) - 1, NULL);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    return load(bank, name);
}

static int apply(struct bank *bank, const struct payment *payment, uint64_t lsn)
{
    if (payment->account >= ACCOUNTS)
        return -EBADMSG;
    bank->totals[payment->account] += payment->amount;
    bank->last_lsn = lsn;
    return 0;
}

static int replay_record(struct bank *bank, const struct twinlog_record *record)
{
    struct payment payment;

    if (record->size != sizeof(payment))
        return -EBADMSG;                             /* not a record of this program */
    memcpy(&payment, record->data, sizeof(payment)); /* record->data need not be aligned */
    return apply(bank, &payment, record->lsn);
}

static int replay(struct bank *bank)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;

    options.from_lsn = bank->last_lsn + 1;
    int rc = twinlog_reader_attach(bank->log, &options, &reader);
    if (rc < 0)
        return rc;

    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        rc = replay_record(bank, &record);
        if (rc < 0)
            break;
    }
    twinlog_reader_close(reader);
    return rc;
}

static int bank_close(struct bank *bank)
{
    const int rc = twinlog_close(bank->log);
    pthread_mutex_destroy(&bank->lock);
    return rc;
}

static int bank_open(struct bank *bank, const char *dir)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    char path[PATH_MAX];

    *bank = (struct bank){ .dir = dir };
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return -errno;
    snprintf(path, sizeof(path), "%s/log", dir);
    options.segment_bytes = 64 * 1024; /* space comes back by whole segments */
    pthread_mutex_init(&bank->lock, NULL);

    int rc = twinlog_open(path, &options, &bank->log);
    if (rc == 0)
        rc = load_newest(bank);
    if (rc == 0)
        rc = replay(bank);
    if (rc < 0)
        bank_close(bank);
    return rc;
}

/* ---- payments ------------------------------------------------------------------------------------ */

/* Gives a payment its place in the log and in memory. It is not durable yet. */
static int enqueue(struct bank *bank, uint32_t account, uint32_t amount, uint64_t *ret_lsn)
{
    const struct payment payment = { account, amount };

    pthread_mutex_lock(&bank->lock);
    int rc = twinlog_enqueue(bank->log, &payment, sizeof(payment), ret_lsn);
    if (rc == 0)
        rc = apply(bank, &payment, *ret_lsn);
    pthread_mutex_unlock(&bank->lock);
    return rc;
}

static int pay(struct bank *bank, uint32_t account, uint32_t amount)
{
    uint64_t lsn;

    const int rc = enqueue(bank, account, amount, &lsn);
    if (rc < 0)
        return rc;
    return twinlog_wait(bank->log, lsn, TWINLOG_LEVEL_DURABLE, 0);
}

/* ---- a snapshot ---------------------------------------------------------------------------------- */

static int remove_file(const struct bank *bank, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", bank->dir, name);
    if (unlink(path) < 0)
        return -errno;
    return 0;
}

/* The memory may be ahead of the disk. twinlog_change() waits until the log is durable up to the snapshot's LSN, before
 * it names the snapshot. If the log could end in front of that LSN, a crash would give the LSN to another payment, and
 * the next opening would not replay that one.
 *
 * One thread at a time takes snapshots: the older of two must not be named after the newer one. */
static int take_snapshot(struct bank *bank)
{
    uint64_t totals[ACCOUNTS];
    char name[64];
    char old[64] = "";

    pthread_mutex_lock(&bank->lock);
    memcpy(totals, bank->totals, sizeof(totals));
    const uint64_t lsn = bank->last_lsn;
    pthread_mutex_unlock(&bank->lock);

    snprintf(name, sizeof(name), "snapshot-%" PRIu64, lsn);
    const int had_old = twinlog_meta_get(bank->log, VALUE, old, sizeof(old) - 1, NULL);
    if (had_old == 0 && strcmp(old, name) == 0)
        return 0; /* no payment since */

    int rc = save(bank, name, totals);
    if (rc < 0)
        return rc;

    const struct twinlog_edit edit = {
        .kind = TWINLOG_EDIT_SET_VALUE, .name = VALUE, .data = name, .size = strlen(name)
    };
    struct twinlog_change change = TWINLOG_CHANGE_INIT;
    change.edits = &edit;
    change.edit_count = 1;
    change.trim_before_lsn = lsn + 1;
    rc = twinlog_change(bank->log, &change, NULL);
    if (rc < 0 || had_old < 0)
        return rc;
    return remove_file(bank, old); /* no value leads to it any more */
}

/* ---- a check of itself --------------------------------------------------------------------------- */

#define THREADS 4u
#define PAYMENTS 2000u /* of each thread */

static struct bank checked;

static void *make_payments(void *argument)
{
    const uint32_t *thread = argument;

    for (uint32_t i = 0; i < PAYMENTS; i++) {
        int rc = pay(&checked, i % ACCOUNTS, 1);
        if (rc == 0 && *thread == 0 && i % 500 == 499)
            rc = take_snapshot(&checked);
        if (rc < 0)
            return (void *)twinlog_strerror(rc);
    }
    return NULL;
}

/* NULL, or what went wrong. On return no thread is inside the bank. */
static const char *run_threads(void)
{
    static const uint32_t numbers[THREADS] = { 0, 1, 2, 3 };
    pthread_t threads[THREADS];
    const char *failure = NULL;
    unsigned started = 0;

    while (started < THREADS && !failure) {
        if (pthread_create(&threads[started], NULL, make_payments, (void *)&numbers[started]) == 0)
            started++;
        else
            failure = "cannot start a thread";
    }

    for (unsigned i = 0; i < started; i++) {
        void *failure_of_thread;

        pthread_join(threads[i], &failure_of_thread);
        if (failure_of_thread)
            failure = failure_of_thread;
    }
    return failure;
}

/* What was paid is there when the bank is opened again. */
static const char *check_again(const char *dir)
{
    unsigned wrong = 0;

    int rc = bank_open(&checked, dir);
    if (rc < 0)
        return twinlog_strerror(rc);

    for (uint32_t account = 0; account < ACCOUNTS; account++)
        wrong += checked.totals[account] != THREADS * PAYMENTS / ACCOUNTS;
    const uint64_t first_lsn = twinlog_first_lsn(checked.log);
    printf("%u payments, %u wrong accounts; the log begins with LSN %" PRIu64 "\n", THREADS * PAYMENTS, wrong,
           first_lsn);

    rc = bank_close(&checked);
    if (rc < 0)
        return twinlog_strerror(rc);
    if (wrong > 0)
        return "not what was paid";
    if (first_lsn == 1)
        return "no snapshot has trimmed the log";
    return NULL;
}

static const char *check(const char *dir)
{
    int rc = bank_open(&checked, dir);
    if (rc < 0)
        return twinlog_strerror(rc);

    const char *failure = run_threads();
    rc = bank_close(&checked);
    if (failure)
        return failure;
    if (rc < 0)
        return twinlog_strerror(rc);
    return check_again(dir);
}

/* ---- the command --------------------------------------------------------------------------------- */

static void show(const struct bank *bank)
{
    for (uint32_t account = 0; account < ACCOUNTS; account++) {
        if (bank->totals[account] > 0)
            printf("%u: %" PRIu64 "\n", account, bank->totals[account]);
    }
}

/* -EINVAL: this is no command. */
static int run(struct bank *bank, int count, char **words)
{
    if (count == 3 && strcmp(words[0], "pay") == 0) {
        const unsigned long account = strtoul(words[1], NULL, 10);
        const unsigned long amount = strtoul(words[2], NULL, 10);
        if (account >= ACCOUNTS || amount > UINT32_MAX)
            return -EINVAL;
        return pay(bank, (uint32_t)account, (uint32_t)amount);
    }
    if (count == 1 && strcmp(words[0], "snapshot") == 0)
        return take_snapshot(bank);
    if (count == 1 && strcmp(words[0], "show") == 0) {
        show(bank);
        return 0;
    }
    return -EINVAL;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "bank";
    if (argc < 3) {
        const char *failure = check(dir);
        if (failure)
            fprintf(stderr, "snapshot: %s\n", failure);
        return failure != NULL;
    }

    struct bank bank;
    int rc = bank_open(&bank, dir);
    if (rc == 0) {
        rc = run(&bank, argc - 2, argv + 2);
        const int closed = bank_close(&bank);
        if (rc == 0)
            rc = closed;
    }
    if (rc == -EINVAL)
        fprintf(stderr, "usage: snapshot DIR pay ACCOUNT AMOUNT | show | snapshot\n");
    else if (rc < 0)
        fprintf(stderr, "snapshot: %s\n", twinlog_strerror(rc));
    return rc < 0;
}
