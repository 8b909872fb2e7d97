/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policies mapped and shared. Processes append to one log, and followers read along. All that are not killed must
 * go on within a few seconds, and so must readers and the watermarks; what is read is compared with what the processes
 * noted (log_judge.c has the rules).
 *
 * A cycle is a log. It goes through phases: members come, all at once or one by one, and some of them die; then all
 * that are left are killed, or close the log. In some phases a single process has the log in another mode; in the
 * policy mapped in all of them, and with one death in each. After each of them the log is judged, and copies of what
 * the dead have left are opened in every mode; with --power also as a power cut may have left them (image.c).
 */
#define _GNU_SOURCE
#include "log.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <twinlog_admin.h>
#include <unistd.h>

#define LARGE_LOG_RECORDS 60000u
#define HEIR_RECORDS 10u
#define SHARED_MEMBERS 5u /* that are there at a time */

struct scene *scene;

static bool is_mapped; /* that policy */

static struct ledger book;

/* How this log is used. */
static struct {
    bool has_mapping_follower; /* which keeps a file from being truncated */
    bool may_have_spares;      /* once it was durable, or had them prepared */
    uint32_t record_bytes;     /* the largest of all options */
    uint64_t mapped_bytes;
} manner;
static bool is_lazy; /* in this phase nobody syncs */

static pid_t followers[FOLLOWERS];

static struct {
    uint64_t phases, alone, looks, endings[2], copies, seen, records, fillers, found, checked;
    uint64_t images, lost_sectors, killed_on_copies;
} counts;

/* ---- members ------------------------------------------------------------------------------------- */

#define BLOCK UINT64_C(4096)

static uint32_t choose_max_record_bytes(struct rng *rng)
{
    const uint32_t one_in = is_mapped ? 2 : 6;

    if (rng_one_in(rng, one_in))
        return 1 + (uint32_t)rng_below(rng, manner.record_bytes);
    return manner.record_bytes;
}

/* For the largest record, and not less than the library takes. */
static uint32_t choose_buffer_bytes(uint32_t max_record_bytes)
{
    const uint64_t blocks = max_record_bytes / BLOCK + (max_record_bytes % BLOCK > 0) + 2;

    if (blocks < 4)
        return (uint32_t)(4 * BLOCK);
    return (uint32_t)(blocks * BLOCK);
}

/* Each opening of a mapped log may have its own. */
static void choose_mapped_options(struct twinlog_options *options, struct rng *rng)
{
    options->mapped_bytes = options->buffer_bytes + 5 * BLOCK + BLOCK * rng_below(rng, 24);
    if (options->mapped_bytes < 16 * BLOCK)
        options->mapped_bytes = 16 * BLOCK;
    if (rng_one_in(rng, 2))
        options->spare_segments = (uint32_t)rng_below(rng, 3);
}

/* Those of the first opening count for all. */
void choose_log_options(struct twinlog_options *options, uint32_t mode, struct rng *rng)
{
    *options = (struct twinlog_options)TWINLOG_OPTIONS_INIT;
    options->mode = mode;
    options->max_record_bytes = choose_max_record_bytes(rng);
    options->buffer_bytes = choose_buffer_bytes(options->max_record_bytes);
    options->mapped_bytes = manner.mapped_bytes;
    if (is_mapped)
        choose_mapped_options(options, rng);
    options->segment_bytes = options->mapped_bytes << rng_below(rng, 3);
    if (rng_one_in(rng, 6))
        options->flush_interval_ms = 1 + (uint32_t)rng_below(rng, 20);
    options->prepare = TWINLOG_PREPARE_ALLOCATED;
    options->lock_timeout_ms = PATIENCE_MS / 2;

    /* What a dead writer has given to io_uring may still be on its way: the policy durable looks after that. */
    options->io = TWINLOG_IO_FDATASYNC;
    if (rng_one_in(rng, 2))
        options->io = TWINLOG_IO_DSYNC;
    if (rng_one_in(rng, 2))
        options->flags = TWINLOG_BUFFERED;
}

/* That of a process that has the log alone. */
static uint32_t choose_lonely_mode(struct rng *rng)
{
    const uint32_t one_in = is_mapped ? 5 : 2;

    if (rng_one_in(rng, one_in))
        return TWINLOG_MODE_DURABLE;
    return TWINLOG_MODE_MAPPED;
}

static void prepare(struct member *member, struct rng *rng)
{
    const uint32_t lonely = choose_lonely_mode(rng);
    const uint32_t mode = scene->is_alone ? lonely : TWINLOG_MODE_SHARED;

    choose_log_options(&member->options, mode, rng);
    for (uint32_t i = member->first_pen; i < member->first_pen + member->pens; i++) {
        crew->pen[i].max_bytes = member->options.max_record_bytes;
        if (rng_one_in(rng, 2)) /* so some of its records are refused */
            crew->pen[i].max_bytes = manner.record_bytes;
    }
    if (member->options.max_record_bytes < scene->least_max_bytes)
        scene->least_max_bytes = member->options.max_record_bytes;
    if (mode == TWINLOG_MODE_DURABLE || member->options.spare_segments > 0)
        manner.may_have_spares = true;

    member->openings = 1;
    if (rng_one_in(rng, 3))
        member->openings += (uint32_t)rng_below(rng, 6);
    if (is_lazy)
        member->sync_one_in = member->durable_one_in = member->options.flush_interval_ms = 0;
    member->has_reader = rng_one_in(rng, 5);
}

static void choose_guest(struct rng *rng)
{
    static const uint32_t modes[] = { TWINLOG_MODE_DURABLE, TWINLOG_MODE_MAPPED, TWINLOG_MODE_SHARED };

    const bool may_share = scene->is_alone && !is_mapped;

    crew->guest_mode = modes[rng_below(rng, may_share ? 3 : 2)];
}

/* ---- others go on -------------------------------------------------------------------------------- */

/* For the disk, and then for the copies of stopped threads, too. */
static bool waits(const struct member *member, const struct pen *pen)
{
    return atomic_load(&pen->may_wait) || member->options.mode == TWINLOG_MODE_DURABLE;
}

/* One of the members is made to sync. Then all that was told before is durable. */
static void see_a_sync(struct rng *rng)
{
    const unsigned index = (unsigned)rng_below(rng, MEMBERS_MAX);
    struct member *member = &crew->members[index];
    const int64_t start = now_ns();
    uint32_t asked;

    if (!is_there(index))
        return;
    asked = atomic_fetch_add(&member->asked, 1) + 1;
    while (atomic_load(&member->answered) != asked && is_there(index) && !is_somebody_stopped()) {
        if (is_too_long(start, patience_ms * DISK_TIMES))
            violation("a sync takes more than %" PRIu64 " ms after another process was killed",
                      patience_ms * DISK_TIMES);
    }
    note_wait(start);
}

/* Is there a process that goes past what the dead have left? */
static bool can_go_on(void)
{
    return is_anybody_there() && !is_somebody_stopped();
}

static void await_written(unsigned index, uint64_t told)
{
    const struct member *member = &crew->members[index];
    const int64_t start = now_ns();

    while (is_there(index) && can_go_on() && atomic_load(&member->written) < told) {
        if (is_too_long(start, patience_ms))
            violation("a member's written LSN is %" PRIu64 " for %" PRIu64
                      " ms after another process was killed, but an append has returned %" PRIu64,
                      atomic_load(&member->written), patience_ms, told);
    }
    note_wait(start);
}

static void await_follower(const struct follower *follower, uint64_t least, bool needs_help, const char *what)
{
    const char *kind = follower->flags ? " that maps" : "";
    const int64_t start = now_ns();

    while (atomic_load(&follower->last_lsn) < least) {
        if (needs_help && !can_go_on())
            break;
        if (is_too_long(start, patience_ms))
            violation("a follower%s stands at LSN %" PRIu64 " for %" PRIu64 " ms, but record %" PRIu64 " %s",
                      kind, atomic_load(&follower->last_lsn), patience_ms, least, what);
    }
    note_wait(start);
}

/* `needs_help`: only as long as a member is there that goes past what the dead have left. */
static void await_followers(uint64_t least, bool needs_help, const char *what)
{
    for (unsigned i = 0; i < FOLLOWERS; i++) {
        if (followers[i] > 0)
            await_follower(&scene->followers[i], least, needs_help, what);
    }
}

/* The living go past what the dead have left, with records, watermarks and readers. */
static void see_others_go_on(struct rng *rng)
{
    const uint64_t told = atomic_load(&scene->told);

    if (!is_lazy && rng_one_in(rng, 2))
        see_a_sync(rng);
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        await_written(i, told);
    await_followers(told, true, "was told, and a member was killed");
}

/* Readers of a durable log are shown what is durable: a record that was only written is shown with the next sync, and
 * none may come. */
static uint64_t find_shown(uint64_t told)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if (is_there(i) && crew->members[i].options.mode == TWINLOG_MODE_DURABLE)
            return atomic_load(&scene->durable);
    }
    return told;
}

/* Nobody has to be stopped for it, or to wait for the disk. */
static void look_at_the_living(void)
{
    const uint64_t told = atomic_load(&scene->told);
    uint64_t fillers;

    bury_the_dead();
    if (!can_go_on() || told == 0)
        return;

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        await_written(i, told);
    if (!can_go_on())
        return;

    fillers = judge_living(&book, find_shown(told));
    bury_the_dead();
    if (fillers > count_unfinished(&book))
        violation("there are %" PRIu64 " voids, but the dead have left only %" PRIu32 " appends unfinished",
                  fillers, count_unfinished(&book));
    counts.looks++;
}

/* ---- the end of a phase -------------------------------------------------------------------------- */

/* What the dead have told, they have to see, in the mapped mode all up to the first filler; the rest when somebody has
 * opened the log again. */
static void await_followers_of_the_dead(void)
{
    const struct member *member = &crew->members[0];
    const bool was_mapped = member->options.mode == TWINLOG_MODE_MAPPED && atomic_load(&member->opened) > 0;

    if (was_mapped)
        await_followers(book.in_sight, false, "of a dead process is in sight");
    else
        await_followers(find_record(&book, atomic_load(&scene->durable)), false,
                        "of a dead process is durable");
}

/* The place at which an heir is to die; half of the times one that openings pass. */
static const struct point *choose_point_of_heir(struct rng *rng)
{
    static const char *const names[] = { "end-cleaned",          "settled-synced", "settled-closed",
                                         "settled-close-synced", "later-removed",  "start-marked",
                                         "last-group-open" };
    const struct point *point = NULL;

    if (rng_one_in(rng, 2))
        point = choose_point(rng);
    if (!point)
        point = find_point(names[rng_below(rng, sizeof(names) / sizeof(names[0]))]);
    return point;
}

/* Opens and closes the copy, and is not expected to survive it. */
static void leave_to_the_doomed(struct rng *rng)
{
    const struct point *point = choose_point_of_heir(rng);
    int status;

    scene->heir_fate.point = NULL;
    if (point)
        scene->heir_fate.point = atomic_load(&point->name);
    atomic_store(&scene->heir_fate.passes, 1 + (int32_t)rng_below(rng, 2));
    scene->heir_records = 0;
    status = reap(fork_child(run_heir, NULL), "the heir, which is to die");
    scene->heir_fate.point = NULL;
    counts.killed_on_copies += WIFSIGNALED(status);
}

static void leave_to_heirs(uint64_t least, uint32_t mode, struct rng *rng)
{
    const uint32_t modes = is_mapped ? TWINLOG_MODE_SHARED : TWINLOG_MODE_SHARED + 1;

    judge_copy(&book, least);
    for (uint64_t doomed = rng_below(rng, 3); doomed > 0; doomed--) {
        scene->heir_mode = (uint32_t)rng_below(rng, modes);
        leave_to_the_doomed(rng);
    }
    scene->heir_mode = mode % modes;
    scene->heir_records = HEIR_RECORDS;
    reap_well(fork_child(run_heir, NULL), "the heir");
    judge_heir(&book, least);
}

static void leave_copies(struct rng *rng)
{
    for (uint32_t mode = TWINLOG_MODE_DURABLE; mode <= TWINLOG_MODE_SHARED; mode++) {
        copy_directory(place.log, place.copy);
        leave_to_heirs(book.book.last, mode, rng);
        counts.copies++;
    }
}

/* A backup has all that the log has. */
static void back_up(void)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;

    remove_directory(place.copy);
    check_call(twinlog_backup(place.log, place.copy, NULL, &result), "a backup of what the dead have left");
    judge_copy(&book, book.book.last);
    counts.copies++;
}

static void cut_power(struct rng *rng)
{
    const uint64_t durable = atomic_load(&scene->durable);
    uint64_t least = durable;

    counts.lost_sectors += make_image(place.log, place.copy, durable, rng);
    if (place.lie == LIE_DURABLE) /* what need not be there is asked for */
        least = book.book.last;
    leave_to_heirs(least, (uint32_t)rng_next(rng), rng);
    counts.images++;
}

/* How often a named place is looked for; a log with claims has many of them. */
static unsigned choose_point_tries(void)
{
    if (!is_mapped)
        return 3;
    if (book.has_claims)
        return 33;
    return 2;
}

static void judge_end(bool is_closed, bool had_deaths)
{
    const bool was_durable = scene->is_alone && crew->members[0].options.mode == TWINLOG_MODE_DURABLE;
    const struct ending ending = { .is_cut = !was_durable && !manner.has_mapping_follower,
                                   .may_have_spares = manner.may_have_spares || crew->has_let_guest_in,
                                   .had_deaths = had_deaths };

    if (place.lie == LIE_TORN && !atomic_load(&crew->has_lied))
        atomic_store(&crew->has_lied, tear_record(place.log));
    judge_left(&book);
    point_tries = choose_point_tries();
    if (is_closed) {
        judge_closed(&book, &ending);
        await_followers(find_record(&book, book.book.last), false, "was there when the log was closed");
    }
}

static void run_members(struct rng *rng)
{
    const bool is_peaceful = rng_one_in(rng, 8);
    unsigned members = 1;

    scene->least_max_bytes = manner.record_bytes;
    atomic_store(&scene->found, NOTHING);
    if (is_peaceful) {
        if (!scene->is_alone)
            members = SHARED_MEMBERS;
        run_peaceful_events(members, rng);
    } else {
        if (!scene->is_alone)
            members = 2 + (unsigned)rng_below(rng, SHARED_MEMBERS - 1);
        run_events(members, rng);
    }
}

/* Copies of what was left, backups, and what a power cut may have left. */
static void look_at_what_is_left(bool is_closed, struct rng *rng)
{
    const bool has_records = book.book.last > 0;

    if (is_mapped && !is_closed && rng_one_in(rng, 4))
        await_followers_of_the_dead();
    if (has_records && !is_mapped && rng_one_in(rng, 4))
        leave_copies(rng);
    if (has_records && rng_one_in(rng, 8))
        back_up();

    const uint64_t cuts = rng_below(rng, 4);
    if (!scene->has_power || is_closed || !has_records)
        return;
    for (uint64_t i = 0; i < cuts; i++)
        cut_power(rng);
}

static void run_phase(struct rng *rng)
{
    const uint64_t killed = totals.killed;

    scene->is_alone = rng_one_in(rng, 6) || is_mapped;
    is_lazy = rng_one_in(rng, 3);
    run_members(rng);
    const bool is_closed = end_all(rng);
    judge_end(is_closed, totals.killed > killed);
    look_at_what_is_left(is_closed, rng);

    counts.endings[is_closed]++;
    counts.phases++;
    counts.alone += scene->is_alone;
}

/* ---- one cycle ----------------------------------------------------------------------------------- */

static void begin_log(struct rng *rng)
{
    static const uint32_t record_bytes[] = { 900, 5000, 30000, WRITTEN_MAX_BYTES };

    remove_directory(place.log);
    memset(book.book.digest, 0, (book.book.last + 1) * sizeof(book.book.digest[0]));
    book = (struct ledger){ .book = { .digest = book.book.digest, .first = 1 } };
    forget_sightings(&scene->seen);
    forget_pens();
    scene->name = rng_next(rng);
    atomic_store(&scene->told, 0);
    atomic_store(&scene->durable, 0);
    manner.record_bytes = record_bytes[rng_below(rng, 4)];
    manner.mapped_bytes = 32 * BLOCK + BLOCK * rng_below(rng, 225);
    if (manner.mapped_bytes < manner.record_bytes + 8 * BLOCK)
        manner.mapped_bytes = (manner.record_bytes / BLOCK + 8) * BLOCK;
    manner.has_mapping_follower = rng_one_in(rng, 2);
    manner.may_have_spares = false;
    crew->has_let_guest_in = false;

    followers[0] = start_follower(&scene->followers[0], &scene->seen, 0);
    if (manner.has_mapping_follower)
        followers[1] = start_follower(&scene->followers[1], &scene->seen, TWINLOG_READER_MMAP);
}

static void run_cycle(struct rng *rng)
{
    const uint64_t most_phases = is_mapped ? 16 : 6;
    const uint64_t phases = 1 + rng_below(rng, most_phases);

    begin_log(rng);
    for (uint64_t i = 0; i < phases && book.book.last < LARGE_LOG_RECORDS && can_invite(); i++)
        run_phase(rng);
    for (unsigned i = 0; i < FOLLOWERS && followers[i] > 0; i++) {
        end_follower(&followers[i]);
        counts.seen += atomic_load(&scene->followers[i].records);
    }
    counts.records += book.records;
    counts.fillers += book.fillers;
    counts.found += book.found;
    counts.checked += book.checked;
    atomic_store(&crew->has_lied, false); /* a death in the middle of a lie hides it: lie again */
    place.cycle++;
}

/* ---- the policies -------------------------------------------------------------------------------- */

static bool has_power;

static void begin(bool is_alone)
{
    static const struct craft of_records = {
        .most_pens = 3,
        .most_writes = 2048,
        .moments_ns = { 1500000, 1500000, 10000000, 60000000 },
        .most_stop_ms = 1500,
        .most_deaths = 8,
        .prepare = prepare,
        .choose_guest = choose_guest,
        .look = look_at_the_living,
        .see_others_go_on = see_others_go_on,
        .waits = waits,
        .open = open_log,
        .keep_watch = watch_log,
        .close = close_log,
        .open_as_guest = open_log_as_guest,
        .write = append,
        .do_something_else = sync_or_wait,
        .is_distinct = is_record_distinct,
    };
    static struct craft of_one;

    of_one = of_records;
    of_one.moments_ns[2] = 5000000;
    of_one.moments_ns[3] = 20000000;
    of_one.most_pens = 6;
    of_one.most_writes = 4096;
    of_one.most_stop_ms = 100;
    of_one.most_deaths = 1;
    is_mapped = is_alone;
    begin_crew(is_mapped ? &of_one : &of_records);
    scene = map_shared(sizeof(*scene));
    scene->has_power = has_power;
    book.book.digest = map_shared(WINDOW * sizeof(book.book.digest[0]));
}

static void begin_mapped(void)
{
    begin(true);
}

static void begin_shared(void)
{
    begin(false);
}

static void end(void)
{
    if (!only_point)
        return;

    const struct point *point = find_point(only_point);
    if (!point || atomic_load(&point->passed) == 0)
        violation("nobody has passed a place that is named '%s'", only_point);
}

static void summarise(void)
{
    summarise_crew(counts.killed_on_copies);
    printf("  %" PRIu64 " phases, %" PRIu64 " of them alone: %" PRIu64 " ended by deaths, %" PRIu64
           " by a close; %" PRIu64 " looks meanwhile; %" PRIu64 " copies, %" PRIu64
           " killed while they opened one\n",
           counts.phases, counts.alone, counts.endings[0], counts.endings[1], counts.looks, counts.copies,
           counts.killed_on_copies);
    printf("  %" PRIu64 " records, %" PRIu64 " of them never acknowledged, checked %" PRIu64
           " times; %" PRIu64 " voids; followers saw %" PRIu64 "; %" PRIu64 " power cuts: %" PRIu64
           " sectors lost\n",
           counts.records, counts.found, counts.checked, counts.fillers, counts.seen, counts.images,
           counts.lost_sectors);
}

static const struct argument more[] = {
    { "patience", .number = &patience_ms },
    { "power", .is_given = &has_power },
    { "point", .text = &only_point },
    { 0 },
};

#define LOG_POLICY                                                                                           \
    .usual_kills = 300, .more = more, .run_cycle = run_cycle, .end = end, .summarise = summarise,            \
    .killed = &totals.killed

const struct policy mapped_policy = { .name = "mapped", .begin = begin_mapped, LOG_POLICY };
const struct policy shared_policy = { .name = "shared", .begin = begin_shared, LOG_POLICY };
