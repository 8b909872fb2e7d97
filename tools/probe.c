/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog probe: shows what the disk and the kernel offer, and which path to the disk a log would take. */
#define _GNU_SOURCE
#include "json.h"
#include "options.h"
#include "scratch.h"
#include "stop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <twinlog_admin.h>

#define PATHS 8u
#define APPENDS 101u
#define RECORD_BYTES 128u
#define MOST_DIGITS 16
#define IMPLAUSIBLE_US 4.0 /* a flush that reaches a device takes longer, by PCIe and NAND alone */

static const char about[] =
    "Usage: twinlog probe DIR [options]\n"
    "\n"
    "Shows by which ways a log in DIR could reach stable storage, what a durable append of\n"
    "128 bytes costs on each, and which one a log takes and why. DIR must exist; logs of a\n"
    "few MiB are written there and removed.\n";

static const struct option_row option_rows[] = {
    { OPTION_JSON, "json", NULL, "one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] = "Exit status: 0 fine; 1 an operation failed; 2 wrong usage.\n"
                            "\n"
                            "Example: is this disk worth it?\n"
                            "  twinlog probe /var/lib/orders\n";

static const char suspicion[] =
    "Syncs here are faster than any device that keeps its word: memory, or a cache that ignores flushes. "
    "Do not count on this storage to survive a power cut.";

struct path {
    uint32_t io;
    bool is_direct;
    int error; /* 0 = works, else why not */
    double append_us;
};

struct probe {
    uint32_t chosen; /* index of the one that a log takes */
    bool is_suspicious;
    char reason[160];
    struct path paths[PATHS];
};

/* ---- measuring -------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int time_appends(struct twinlog *log, double *ret_us)
{
    static const char record[RECORD_BYTES];
    uint64_t took[APPENDS];

    for (unsigned i = 0; i < APPENDS; i++) {
        if (stop_signal())
            return -EINTR;
        const uint64_t began = twinlog_deadline(0);
        const int error = twinlog_append(log, record, sizeof(record), NULL);
        if (error)
            return error;

        took[i] = twinlog_deadline(0) - began;
    }

    qsort(took, APPENDS, sizeof(took[0]), by_value);
    *ret_us = (double)took[APPENDS / 2] / 1000.0;
    return 0;
}

/* Opens a new log, and closes it. `ret_us`: NULL, or how long an append takes. */
static int try_log(const char *dir, const struct twinlog_options *options, struct twinlog_stat *ret_stat,
                   double *ret_us)
{
    struct twinlog *log;

    int error = twinlog_open(dir, options, &log);
    if (error)
        return error;

    error = twinlog_stat(log, ret_stat);
    if (error == 0 && ret_us)
        error = time_appends(log, ret_us);
    const int closed = twinlog_close(log);
    if (error)
        return error;
    return closed;
}

static void try_path(const char *dir, struct path *path)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;

    options.io = path->io;
    options.flags = TWINLOG_BUFFERED;
    if (path->is_direct)
        options.flags = 0;
    path->error = try_log(dir, &options, &stat, &path->append_us);
    if (path->error == 0 && path->is_direct && !stat.is_direct) /* it was opened without */
        path->error = -EOPNOTSUPP;
}

static int try_all(const char *scratch, struct probe *probe)
{
    static const uint32_t kinds[] = { TWINLOG_IO_URING, TWINLOG_IO_DSYNC, TWINLOG_IO_FDATASYNC,
                                      TWINLOG_IO_URING_LINKED };
    const struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    char dir[PATH_MAX + MOST_DIGITS];

    snprintf(dir, sizeof(dir), "%s/auto", scratch);
    const int error = try_log(dir, &options, &stat, NULL);
    if (error)
        return error;

    snprintf(probe->reason, sizeof(probe->reason), "%s", stat.io_reason);
    for (uint32_t i = 0; i < PATHS && !stop_signal(); i++) {
        struct path *path = &probe->paths[i];
        *path = (struct path){ .io = kinds[i / 2], .is_direct = i % 2 == 0 };
        snprintf(dir, sizeof(dir), "%s/%" PRIu32, scratch, i);
        try_path(dir, path);
        if (path->io == stat.io && path->is_direct == stat.is_direct)
            probe->chosen = i;
        if (path->error == 0 && path->append_us < IMPLAUSIBLE_US)
            probe->is_suspicious = true;
    }

    return 0;
}

/* ---- the results ------------------------------------------------------------------------------ */

static void print_table(const struct probe *probe)
{
    printf("  %-13s %-9s %s\n", "path", "I/O", "median durable append");
    for (uint32_t i = 0; i < PATHS; i++) {
        const struct path *path = &probe->paths[i];
        printf("%c %-13s %-9s ", i == probe->chosen ? '*' : ' ', io_name(path->io),
               path->is_direct ? "direct" : "buffered");
        if (path->error)
            printf("%s\n", twinlog_strerror(path->error));
        else
            printf("%.1f us\n", path->append_us);
    }

    printf("\n* is what a log here takes: %s\n", probe->reason);
    if (probe->is_suspicious)
        printf("Warning: %s\n", suspicion);
}

static void print_path(const struct path *path)
{
    json_begin_object(NULL);
    json_text("path", io_name(path->io));
    json_boolean("is_direct", path->is_direct);
    json_boolean("works", path->error == 0);
    if (path->error)
        json_text("error", twinlog_strerror(path->error));
    else
        json_decimal("append_us", path->append_us);
    json_end_object();
}

static void print_json(const struct probe *probe)
{
    json_begin_object(NULL);
    json_boolean("is_suspicious", probe->is_suspicious);
    json_number("chosen", probe->chosen);
    json_text("reason", probe->reason);
    json_begin_array("paths");
    for (uint32_t i = 0; i < PATHS; i++)
        print_path(&probe->paths[i]);
    json_end_array();
    json_end_object();
    json_end_line();
}

static int probe_run(const struct command *command, int argc, char **argv)
{
    struct probe probe = { 0 };
    char scratch[PATH_MAX];
    bool is_json = false;

    while (next_option(command, argc, argv) != -1)
        is_json = true;
    const char *dir = take_directory(argc, argv);

    int error = stop_on_signals();
    if (error)
        return fail_start(error);
    error = create_scratch(dir, "probe", scratch);
    if (error)
        return fail("make a directory in", dir, error, NULL,
                    error == -ENOENT ? "The directory must exist: create it or check the path." : NULL);

    error = try_all(scratch, &probe);
    const int removed = remove_scratch(scratch);
    if (stop_signal())
        stop_by_signal();
    if (error)
        return fail("open a log in", dir, error, NULL, NULL);
    if (removed)
        return fail("remove", scratch, removed, NULL, "Remove it by hand.");

    if (is_json)
        print_json(&probe);
    else
        print_table(&probe);
    return finish_output(STATUS_FINE);
}

const struct command probe_command = {
    .name = "probe",
    .summary = "show what this disk and kernel offer",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = probe_run,
};
