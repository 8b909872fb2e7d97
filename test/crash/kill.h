/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of the policies durable and soak share. Five kinds of them:
 *   - a writer lives, appends from many threads, changes the log otherwise, and is killed. A log goes
 *     through many lives;
 *   - a witness reads along, beside the writers, the dead and the living;
 *   - a consumer does so with a cursor of its own, which it moves behind what it has read;
 *   - a copier makes backups, and looks at them;
 *   - the judge, which started them, opens the log afterwards and compares it with their notes.
 *
 * The notes are in memory that outlives its writers. A writer notes that a record was started
 * before it hands it over, that it was accepted with which LSN, and that it was acknowledged, afterwards:
 * killed in between, it has claimed too little and never too much. Every other change is noted in the same
 * way, what was so before it and what will be so after it (kill_world.c).
 *
 * Cuts give LSNs away a second time. They are counted, and a process that notes an LSN notes how many cuts were
 * done before and started after: what a later truncation did to it can then be told, and what nobody can
 * tell, because it was happening at the same time, is not asked.
 */
#ifndef TWL_CRASH_KILL_H
#define TWL_CRASH_KILL_H

#include "../sim/rng.h"
#include "base/base.h"
#include "command_line.h"
#include "directory.h"
#include "payload.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <twinlog.h>

#define MAX_WRITERS 8u
#define MAX_LIVES 3u         /* in one cycle, between two judgements */
#define WITNESSES 3u         /* processes */
#define MAX_BATCH 12u        /* records */
#define NOTES_MAX (1u << 15) /* records of one writer in one life */
#define WINDOW (1u << 20)    /* no log of these tests has so many records at a time */
#define MAX_CUTS (1u << 16)
#define NOTHING UINT64_MAX
#define UNKNOWN (NOTHING - 1)
#define PATIENCE_MS 60000

/* An LSN in the history of the log: with the number of truncations that were done when it was noted. */
#define STAMP_BITS 16u
static inline uint64_t stamp(uint64_t lsn, uint32_t since)
{
    return lsn << STAMP_BITS | since;
}
static inline uint64_t stamp_lsn(uint64_t stamp)
{
    return stamp >> STAMP_BITS;
}
static inline uint32_t stamp_since(uint64_t stamp)
{
    return (uint32_t)(stamp & ((1u << STAMP_BITS) - 1));
}

/* ---- what was done to the log but for appends (kill_world.c) ------------------------------------ */

/* Something with a value, or with none: NOTHING. While it is being changed it may have either of two. */
struct changing {
    _Atomic uint64_t value[2];
    _Atomic uint32_t state; /* value[state & 1] holds; with IS_CHANGING set maybe the other one does */
};
#define IS_CHANGING 2u

enum {
    CURSORS = 3, /* of the writer */
    VALUES = 3,
};

/* One thread of the writer changes it, or the judge when there is none. */
struct world {
    _Atomic uint32_t truncations_started, truncations_done;
    uint64_t keep[MAX_CUTS]; /* newest LSN that is left: 0 by a reset, NOTHING when it did not happen */
    uint64_t next[MAX_CUTS]; /* the first LSN that is given away after it, NOTHING when it did not happen */
    struct {                 /* of the truncation that is started and not done */
        uint64_t next_lsn;   /* of a reset, 0 = it is a truncation */
        uint64_t head;       /* before it */
        uint64_t lsn;        /* a record that was there before, and that it removes */
        struct payload payload;
    } evidence;

    /* The first LSN that is kept; both are the same when no reset or trim is going on. */
    _Atomic uint64_t head_least, head_most; /* most: NOTHING while a retention may move it any time,
                                                 UNKNOWN while a trim does that was given no LSN */
    _Atomic uint64_t head_asked;   /* a trim that is going on may move it up to here, retention or not */
    _Atomic uint64_t head_highest; /* ever, but for what a retention did not tell */
    _Atomic uint64_t floor_least, floor_most; /* cursors were moved to floor - 1, where they were behind it */
    _Atomic uint64_t floor_highest;           /* ever */
    _Atomic uint64_t retained;                /* that retention keeps so many records: a stamp */

    struct changing cursor[CURSORS]; /* stamps */
    struct changing value[VALUES];   /* versions; what a version holds is said by its number */
};

void world_clear(void);

/* Newest LSN that is left of those that were there when `since` cuts were done: certainly, or if also the
 * truncation did not happen that is not done yet. */
uint64_t world_keeps(uint32_t since);
/* Smallest LSN that was given away again by the cuts from `since` to before `end`. */
uint64_t world_gave_again(uint32_t since, uint32_t end);
/* The same, as far as the log can still know: a reset removes what tells of truncations before it. */
uint64_t world_gives_again(uint32_t since, uint32_t end);

/* Compares an open log with what may be, and notes what is; nobody else changes it meanwhile, but a retention the
 * head, and a consumer its cursor. A truncation that was interrupted is known by the record that it removes. */
void world_settle(struct twinlog *log, bool is_retaining);
/* Before a life begins that may move the head any time, as long as it keeps so many records. */
void world_expect_retention(uint64_t keep_records);
/* Cursors will be moved there, and have been. */
void world_expect_floor(uint64_t lsn);
void world_set_floor(uint64_t lsn);
bool world_may_be_cut(void); /* one was interrupted, and not looked after since */
/* The names in a copy, which was started when the values had these versions. */
void world_versions(uint64_t ret_versions[VALUES]);
void world_check_copy(const uint64_t versions[VALUES], struct twinlog *log);

/* The log may begin behind that LSN. */
bool world_may_be_trimmed(uint64_t lsn);

void begin_change(struct changing *changing, uint64_t value);
void end_change(struct changing *changing);
uint64_t current(const struct changing *changing);

void name_cursor(unsigned index, char ret_name[TWINLOG_NAME_BYTES]);
void name_value(unsigned index, char ret_name[TWINLOG_NAME_BYTES]);
/* False: that version is that there is none. */
bool fill_value(uint64_t version, unsigned char ret_data[TWINLOG_META_BYTES], size_t *ret_size);

/* ---- a writer ---------------------------------------------------------------------------------- */

struct record_note {
    uint64_t lsn;
    uint32_t since, until; /* cuts that were done before, and started after it was accepted */
    bool is_tagged;        /* it was handed over with its tag */
};

/* Of one writer thread in one life. [that thread writes; the judge reads when the process is dead] */
struct notes {
    _Atomic uint64_t begun;               /* records that may be there */
    _Atomic uint64_t accepted;            /* valid entries of `record` */
    _Atomic uint64_t acked;               /* of them, those that must be there */
    _Atomic uint64_t durable;             /* newest durable LSN that the log admitted to: a stamp */
    struct record_note record[NOTES_MAX]; /* 0, 1, 2, ... */
};

struct writer;

struct life {
    uint64_t name; /* [const while it lives] different for every life */
    struct twinlog_options options;
    uint32_t writers;
    uint32_t change_one_in;       /* how often the first writer does something else than append; 0 = never */
    bool is_retaining;            /* the options say so */
    bool is_alone;                /* nobody appends during a truncation */
    bool has_committer;           /* one that many logs could share */
    bool has_reader;              /* one that is attached to its log */
    uint64_t most_lsn;            /* no reset goes beyond it */
    const struct writer *changer; /* the first writer [writers' process] */

    _Atomic bool is_open;
    _Atomic uint64_t opened_last; /* last LSN when the log was open: a stamp */
    _Atomic bool must_stop;       /* the judge asks for a clean close */
    _Atomic bool may_not_change;  /* the judge wants nothing but appends from now on */
    _Atomic bool is_changing;     /* something else is going on, or will find that it may not */
    _Atomic int error;            /* why it gave up */
    struct twinlog_report report; /* of its opening */
    _Atomic uint64_t rolls, recycled;
    struct notes notes[MAX_WRITERS];
};

/* ---- those beside it --------------------------------------------------------------------------- */

/* What a reader was given: of each LSN the last record. The reader fills in the digest last. */
struct sightings {
    _Atomic uint64_t records, max_lsn;
    struct sighting {
        _Atomic uint64_t stamp;
        _Atomic uint64_t digest; /* 0 = none */
    } seen[WINDOW];
};

enum habit {
    HABIT_WANDER,    /* reads to the end again and again, from somewhere */
    HABIT_FOLLOW,    /* waits at the end */
    HABIT_FOLLOW_FD, /* the same, by poll */
    HABIT_BACKWARDS,
    HABITS,
};

struct witness {
    enum habit habit; /* [const while it lives] */
    struct rng rng;
    _Atomic bool must_stop; /* nothing more will be appended: read to the end, then leave */
    uint64_t final_lsn;     /* where it ended, 0 = there was nothing */
    struct sightings sightings;
};

#define CONSUMER_NAME "consumer"

struct consumer {
    struct rng rng;
    uint32_t pause_us; /* after each move of its cursor, at most */
    _Atomic bool must_stop;
    _Atomic uint64_t least; /* stamp of what its cursor has reached; 0 = none was set */
    _Atomic uint64_t most;  /* LSN of what it may have reached */
    _Atomic uint64_t records;
};

struct copier {
    struct rng rng;
    uint32_t rounds;   /* backups to make */
    uint32_t pause_ms; /* before each, at most */
    _Atomic bool must_stop;
    _Atomic uint64_t copies, records;
    struct sightings sightings;
};

struct shared {
    bool ends_machine;          /* with the writer: what was only written counts for nothing */
    _Atomic bool has_complaint; /* of a process that found a violation */
    char complaint[1024];
    struct world world;
    _Atomic uint64_t trims, cuts, resets, names; /* that writers made */
    struct life incarnations[MAX_LIVES];
    struct witness attached; /* inside the writers */
    struct witness witness[WITNESSES];
    struct consumer consumer;
    struct copier copier;
};

extern struct shared *shared; /* made with the place */
extern struct world *world;   /* in it */

/* Each in a process of its own: fork_child(). */
void run_writer(void *life);
void run_witness(void *witness);
void run_consumer(void *unused);
void run_copier(void *unused);

/* One writer thread: kill_writer.c, and kill_changer.c for what is no append. */
struct writer {
    struct twinlog *log;
    struct life *life;
    struct notes *notes;
    struct payload next;
    uint64_t newest; /* number + 1 of its newest acknowledged record since the last truncation; 0 = none */
    struct rng rng;
    unsigned char record[PAYLOAD_MAX_BYTES];
};
int change_something(struct writer *writer);
/* Appends wait while there is a truncation that has to be alone. */
void hold_appends(struct life *life);
void let_append(struct life *life);
int append_while_held(struct writer *writer);
/* Before a call: the next records may be there from now on. */
void note_begun(struct writer *writer, uint32_t count, bool are_tagged);
void note_accepted(struct writer *writer, uint64_t lsn, uint32_t count);
/* Everything that was handed over is durable. */
void note_acked(struct writer *writer);
/* Batches, requests: kill_ways.c. */
int append_another_way(struct writer *writer);
/* Of the requests. */
struct twinlog_queue *open_queue(void);
void close_queue(void);

/* A reader inside the writer, until shared->attached is told to stop: 0, or an error. */
int read_attached(struct twinlog *log, struct rng rng);

/* ---- the judge --------------------------------------------------------------------------------- */

/* What is known of a log that nobody writes. */
struct book {
    uint64_t *digest;     /* of record lsn at [lsn % WINDOW] */
    uint64_t first, last; /* none: last = first - 1 */
    uint32_t since;       /* cuts that were done */
    bool exists;
};

/* Opens the log after `incarnations` lives, checks it against their notes, appends some more and closes.
 * `is_at_once`: the last writer may still be on its way out. */
void judge(unsigned incarnations, bool is_at_once, struct rng *rng);
void forget_sightings(struct sightings *sightings);
/* It is the one that was given before, if no cut came between. `since`: cuts that were done before it was asked for. */
void note_sighting(struct sightings *sightings, const struct twinlog_record *record, uint32_t since,
                   const char *name);
/* What was seen and not truncated is known. `name` saw it. */
void check_sightings(const struct sightings *sightings, const struct book *known, const char *name);
void check_consumer(struct twinlog *log);
/* After a copier was killed: the copy is complete, or it can't be opened. */
void check_broken_copy(void);

/* ---- processes and the place where they meet (kill_process.c) ----------------------------------- */

struct place {
    char directory[256]; /* which was made */
    char log[300], copy[300];
    const char *program;
    char command_line[512];
    uint64_t seed, cycle;
    enum lie lie;
    void (*keep)(void);  /* NULL, or before a violation ends the program: saves what shows it, says where */
    void (*leave)(void); /* NULL, or before the place is removed */
};
extern struct place place;

void make_place(const char *parent);
void remove_place(void);
void *map_shared(size_t bytes);
int64_t now_ns(void); /* CLOCK_MONOTONIC */
void pause_a_moment(void);

/* A child that ends with its parent. In the parent: its id. */
pid_t fork_child(void (*run)(void *context), void *context);
/* True when the process is gone. */
bool await(pid_t pid, int64_t ns);
/* Its status. Ends the program if it does not end in time, or has found a violation. */
int reap(pid_t pid, const char *name);
/* The same, and it must have ended well. */
void reap_well(pid_t pid, const char *name);
/* Ends the program if that call of the library has failed. */
void check_call(int result, const char *call);
/* Ends the program if a process that goes on has found a violation. */
void check_complaints(void);
/* Waits a moment for what has been awaited since then. True: that is too long. */
bool is_too_long(int64_t start, uint64_t ms);
void raise_to(_Atomic uint64_t *value, uint64_t to);

int say_at_end(int status); /* 3: what was printed could not be written, as on a full disk */

/* Prints what happened and how to do it again; ends the program. In a child: tells the parent. */
_Noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void give_up(const char *what);

/* ---- lives (kill_life.c) ----------------------------------------------------------------------- */

enum {
    IO_KINDS = TWINLOG_IO_FDATASYNC + 1,
    FINDINGS = TWINLOG_FOUND_SYSTEM_ERROR + 1,
};

/* A log that goes through lives, and what came of them. */
struct lives {
    struct book book;
    bool can_use[IO_KINDS][2]; /* path, buffered */

    uint64_t count, killed, killed_opening, closed;
    uint64_t acked, unacked; /* records that were found */
    uint64_t cut, trimmed;   /* acknowledged, and removed since */
    uint64_t rolls, recycled;
    uint64_t file_bytes; /* when the log was judged last */
    uint64_t by_io[IO_KINDS], findings[FINDINGS];
};
extern struct lives lives;

/* Makes what the processes share, and leaves out the paths that this kernel or file system refuses, by name; ends the
 * program if it refuses all. */
void begin_lives(void (*forget)(void));
/* There is no log any more. */
void forget_lives(void);
/* Options as a life may have them, but for the I/O path. */
void choose_options(struct rng *rng, bool may_retain, struct twinlog_options *options);
/* All of a life but whether it is padded. `is_at_once`: the one before may still be dying. */
void begin_life(struct life *life, uint64_t number, bool is_at_once, struct rng *rng);
/* Until the log is open, or the process is gone. */
void await_open(const struct life *life, pid_t pid);
/* The life is over: it must have left no error. */
void count_life(const struct life *life, int status);
/* So it is at the end of a cycle, and then the next one is to begin. */
bool is_log_large(void);
void summarise_lives(void);

#endif
