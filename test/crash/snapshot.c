/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-snapshot [--wrong] DIR: a snapshot is taken while payments are in memory that the disk does not have, and the
 * process is killed right behind it. Another process makes payments that return. All of those must be there at the end.
 * It runs the program of docs/examples/snapshot.c.
 *
 * --wrong: names the snapshot without a wait for its records, as seems natural. The check must find the loss.
 */
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <twinlog.h>

static bool is_wrong;

static int change_or_lose(struct twinlog *log, const struct twinlog_change *change,
                          struct twinlog_trim_result *ret_result)
{
    const struct twinlog_edit *edit = &change->edits[0];
    return is_wrong ? twinlog_meta_set(log, edit->name, edit->data, edit->size)
                    : twinlog_change(log, change, ret_result);
}

#define twinlog_change(log, change, ret_result) change_or_lose(log, change, ret_result)
#define main snapshot_main
int snapshot_main(int argc, char **argv);
#include "../../docs/examples/snapshot.c"
#undef main

#define IN_MEMORY 10u
#define RETURNED 10u

static int snapshot_and_die(const char *dir)
{
    struct bank bank;
    uint64_t lsn;

    int rc = bank_open(&bank, dir);
    for (unsigned i = 0; rc == 0 && i < IN_MEMORY; i++)
        rc = enqueue(&bank, 0, 1, &lsn);
    if (rc == 0)
        rc = take_snapshot(&bank);
    if (rc == 0)
        raise(SIGKILL);
    return rc;
}

static int make_them(const char *dir)
{
    struct bank bank;

    int rc = bank_open(&bank, dir);
    for (unsigned i = 0; rc == 0 && i < RETURNED; i++)
        rc = pay(&bank, 1, 1);
    if (rc == 0)
        rc = bank_close(&bank);
    return rc;
}

/* Of the payments that returned. */
static int count_kept(const char *dir, uint64_t *ret_kept)
{
    struct bank bank;

    int rc = bank_open(&bank, dir);
    *ret_kept = rc == 0 ? bank.totals[1] : 0;
    if (rc == 0)
        rc = bank_close(&bank);
    return rc;
}

int main(int argc, char **argv)
{
    is_wrong = argc == 3 && strcmp(argv[1], "--wrong") == 0;
    const char *dir = argv[argc - 1];
    uint64_t kept = 0;
    int status;

    const pid_t child = fork();
    if (child == 0) {
        fprintf(stderr, "before the kill: %s\n", twinlog_strerror(snapshot_and_die(dir)));
        return 1;
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
        return 1;

    int rc = make_them(dir);
    if (rc == 0)
        rc = count_kept(dir, &kept);
    if (rc < 0) {
        fprintf(stderr, "behind the kill: %s\n", twinlog_strerror(rc));
        return 1;
    }
    printf("%" PRIu64 " of %u payments that returned are there\n", kept, RETURNED);
    if (is_wrong)
        return kept == RETURNED; /* a check that cannot see the loss */
    return kept != RETURNED;
}
