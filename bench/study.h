/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Something else than appending that is timed: several ways of doing one thing, its trials, which take turns
 * as the contenders of appends do.
 *
 * What the trials work on, a log that is full or one that has crashed, takes long to make. It is made once,
 * before the first round, for each size and number of threads: the stage.
 */
#ifndef STUDY_H
#define STUDY_H

#include <stdbool.h>
#include <stddef.h>

#include "figures.h"
#include "round.h"

struct trial {
    const char *label;
    const char *what; /* one line for --list */
    const void *way;  /* what the study's run() does; NULL: its library was not there */
};

/* A struct way of the file that has it. */
#define WAY(...)                                                                                             \
    &(const struct way)                                                                                      \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

struct column {
    const char *heading;
    size_t figure; /* offset in struct figures */
    double scale;
};
/* Those that several tables have. */
#define RATE(what) what "/s", FIGURE(rate), 1
#define MB_PER_S "MB/s", FIGURE(mb_per_s), 1
#define P50 "p50 µs", FIGURE(p50_us), 1
#define P99 "p99 µs", FIGURE(p99_us), 1
#define P999 "p99.9 µs", FIGURE(p999_us), 1
#define LONGEST "max µs", FIGURE(max_us), 1
#define CPU "CPU µs", FIGURE(cpu_us_per_append), 1
#define A_SYNC "a sync", FIGURE(appends_per_sync), 1

struct setting {
    const struct study *study;
    const char *dir;
    const struct workload *workload;
};

#define MAX_STUDY_COLUMNS 11 /* with a row without a heading at the end */
struct study {
    const char *point;          /* what the sizes of its workloads count, "segments"; NULL: nothing */
    const char *workers;        /* the same of their threads, "processes" */
    const char *baseline;       /* label of the trial with the rate that others are compared with, or NULL */
    const struct trial *trials; /* NULL label at the end */
    struct column columns[MAX_STUDY_COLUMNS];

    /* Is the library there that this trial needs? NULL: it has a way. */
    bool (*is_in_build)(const struct trial *trial);
    /* `stage` has stage_bytes, which are 0. `dir` exists, is empty and stays until after clear_stage(), which comes
     * in any case. */
    size_t stage_bytes;
    bool (*set_stage)(const struct setting *setting, void *stage);
    void (*clear_stage)(void *stage);
    /* One turn; no figure is known yet. Says on stderr what failed; false then, and when the user interrupts. */
    bool (*run)(void *stage, const struct trial *trial, const struct limits *limits, struct figures *figures);
};

extern const struct study study_replay_hot, study_replay_cold, study_seek;
extern const struct study study_open, study_follow;
extern const struct study study_flight, study_batch, study_ways, study_logs, study_state;
extern const struct study study_plain, study_shared, study_lines, study_lines_processes;

bool trial_is_in_build(const struct study *study, const struct trial *trial);

/* Calls `operate` again and again and takes the time of each call: limits->seconds long, after the warm-up.
 * `turn` counts the calls. The first error of a call, -EINTR after an interrupt, or 0. */
int time_operations(const struct limits *limits, int (*operate)(void *context, uint64_t turn), void *context,
                    struct figures *figures);

/* Calls `pass`, which adds what it did in about so many seconds, until all have taken limits->seconds; once before
 * without counting that: the files come into the page cache, and memory that was free for a while back from the host of
 * a virtual machine. False if a pass was. */
bool time_passes(const struct limits *limits,
                 bool (*pass)(void *stage, const struct trial *trial, double seconds, struct work *work),
                 void *stage, const struct trial *trial, struct figures *figures);

/* The pages of all files in `dir` leave the page cache, as if the machine had been off, and nobody else's do;
 * what the file system knows of the files stays. Complains. */
bool forget_files(const char *label, const char *dir);

/* Says on stderr what went wrong in which trial, and returns false. */
bool complain(const char *label, const char *action, const char *words);

#endif
