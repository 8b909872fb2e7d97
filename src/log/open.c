/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a log. At the end of this file are tables with the steps of an opening for writing, in their order; above,
 * each step is a function. There are three ways:
 *
 * - The first or only writer takes the lock and recovers the log (first_steps, then open_steps). A log that does not
 *   exist is made on the way.
 * - A process that shares a log which others have open joins them: it recovers and syncs nothing (first_steps, then
 *   join_steps).
 * - A log that is opened only to read is only looked for (open_read_only()).
 *
 * What recovery relies on: a dead writer's last write has landed before the segments are read (I9). All reads come from
 * the disk, since the page cache may show data that a failed sync has lost. What is kept is synced, and the directory
 * (I6). The marker of a new epoch makes what lies behind it unreadable for good (I4).
 *
 * An opening that fails releases all resources. What it may have changed neither adds nor removes a record.
 */
#define _GNU_SOURCE
#include "log/handle.h"
#include "log/log_snapshot.h"
#include "recover/recover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NUMBER (UINT64_MAX / 4 * 3) /* larger numbers leave too few to count on */

/* ---- opening ----------------------------------------------------------------------------------- */

struct opening {
    struct twinlog *log;
    unsigned open_flags; /* for segments of the durable mode */

    /* What the directory has. */
    bool has_segments, has_others; /* names of segments; names of files that are not of a log */
    bool joins;                    /* other processes have the log open, and share it */
    struct state state;            /* generation 0: there is no state file */
    struct segment_set set;
    uint8_t log_id[LOG_ID_BYTES];

    /* Where the log ends. */
    struct recovery recovery;
    struct summary *summary; /* of the active segment, which takes it over */
    struct segment active;

    /* For the caller. */
    struct twinlog_report report;
    struct twinlog_report settled; /* what settling found */
    uint64_t refused_bytes; /* of a segment that is longer than this process may write files; 0 = none is */
};

/* In the shared mode, too. */
static bool is_mapped(const struct opening *o)
{
    return o->log->options.mode != TWINLOG_MODE_DURABLE;
}

static bool is_durable(const struct opening *o)
{
    return !is_mapped(o);
}

static bool is_new(const struct opening *o)
{
    return o->set.started == 0;
}

static bool is_old(const struct opening *o)
{
    return !is_new(o);
}

static int refuse_opening(struct opening *o, enum twinlog_finding finding, int error, const char *words)
{
    twl_report(&o->report, finding, TWINLOG_DID_REFUSE, error, "%s", words);
    return error;
}

/* ---- the lock ---------------------------------------------------------------------------------- */

/* Files that are there without a segment: beside the first one, and before it is made. */
static bool is_allowed_beside_segments(const char *name)
{
    static const char *const allowed[] = { PAGE_FILE_NAME, STATE_NAME, STATE_NEW_NAME, CONSUMERS_NAME,
                                           "lost+found" };

    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
        if (strcmp(name, allowed[i]) == 0)
            return true;
    return name[0] == '.' || twl_segment_name_is_temporary(name);
}

static int note_kind(void *context, const char *name)
{
    struct opening *o = context;

    if (twl_segment_name_is_ours(name))
        o->has_segments = true;
    else if (!is_allowed_beside_segments(name))
        o->has_others = true;
    return 0;
}

/* Where there are no segments: fails, and reports what there is instead. 0: segments have been made meanwhile. */
static int look_for_log(struct opening *o)
{
    struct log_snapshot snapshot;

    const int rc = twl_log_snapshot_load(o->log->io, 0, &snapshot, &o->report);
    if (rc < 0)
        return rc;
    twl_log_snapshot_free(&snapshot);
    return 0;
}

static int check_directory(struct opening *o)
{
    struct io *io = o->log->io;

    const int rc = io->ops->list(io, note_kind, o);
    if (rc < 0)
        return rc;
    if (o->has_segments)
        return 0;

    if (o->log->options.flags & TWINLOG_MUST_EXIST)
        return look_for_log(o);
    if (o->has_others)
        return refuse_opening(o, TWINLOG_FOUND_FOREIGN_FILE, -ENOTEMPTY,
                              "the directory holds other files and no log; choose an empty or a new one");
    return 0;
}

/* Names the other process, if it is known. */
static int refuse_busy(struct opening *o, const char *which)
{
    const pid_t pid = twl_page_writer(o->log->io);
    char process[32] = "";

    if (pid > 0)
        snprintf(process, sizeof(process), " (process %d)", (int)pid);
    twl_report(&o->report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_REFUSE, -EBUSY,
               "another writer%s has this log open%s; wait until it is closed there", which, process);
    return -EBUSY;
}

static int refuse_to_share(struct opening *o, int error)
{
    switch (error) {
    case -EBUSY:
        if (!o->log->participants.is_of_other_boot)
            return refuse_busy(o, ", of another mode,");
        return refuse_opening(
            o, TWINLOG_FOUND_NOTHING, error,
            "processes have this log open that see another /proc/sys/kernel/random/boot_id, in another "
            "container or on another machine; let all containers see that of the host, or close it there");
    case -EUSERS:
        return refuse_opening(o, TWINLOG_FOUND_NOTHING, error, "as many as can share this log have it open");
    case TWINLOG_EVERSION:
        return refuse_opening(o, TWINLOG_FOUND_NOTHING, error,
                              "another version of twinlog has this log open; close it there");
    case -ENOTSUP:
        return refuse_opening(
            o, TWINLOG_FOUND_NOTHING, error,
            "processes can't share memory in this directory, or there are no hard links, or no /proc; mount it, or "
            "choose another file system or mode");
    default:
        return error;
    }
}

/* Takes the lock as the first process, or joins the participants. */
static int take_shared_lock(struct opening *o)
{
    struct twinlog *log = o->log;
    bool is_first = true;

    log->shared = &log->participants.shared;
    int rc = twl_participants_come(log->io, log->options.lock_timeout_ms, &log->participants, &is_first);
    if (rc == 0 && is_first)
        rc = twl_participants_begin(&log->participants);
    if (rc < 0)
        return refuse_to_share(o, rc);

    o->joins = !is_first;
    return 0;
}

static int take_own_lock(struct opening *o)
{
    struct twinlog *log = o->log;

    log->shared = &log->own_shared;
    if (is_mapped(o))
        twl_participants_be_alone(log->io, &log->participants);

    const int rc = twl_page_lock(log->io, log->options.lock_timeout_ms, log->shared);
    if (rc == -EBUSY)
        return refuse_busy(o, "");
    return rc;
}

static int take_lock(struct opening *o)
{
    if (o->log->options.mode == TWINLOG_MODE_SHARED)
        return take_shared_lock(o);
    return take_own_lock(o);
}

/* ---- the limit of this process ------------------------------------------------------------------ */

/* A segment that this process will write must not be longer than it may write files, or appends would fail in the
 * middle of one. */
static int check_limit(struct opening *o, uint64_t segment_bytes)
{
    if (twl_size_limit() >= segment_bytes)
        return 0;
    o->refused_bytes = segment_bytes;
    return -EFBIG;
}

bool twl_log_is_limited(int error)
{
    return error == -EFBIG && twl_size_limit() < UINT64_MAX;
}

void twl_log_report_limit(struct twinlog_report *ret_report, const char *doing, uint64_t segment_bytes)
{
    char segment[64] = "";

    if (segment_bytes > 0)
        snprintf(segment, sizeof(segment), ", and a segment has %llu", (unsigned long long)segment_bytes);
    twl_report(
        ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, -EFBIG,
        "cannot %s: this process may write files of %llu bytes (RLIMIT_FSIZE)%s; raise the limit, as by "
        "ulimit -f",
        doing, (unsigned long long)twl_size_limit(), segment);
}

/* In other modes this process makes the segments itself, as large as it may. In the shared mode others may make larger
 * ones. */
static int check_shared_limit(struct opening *o)
{
    if (o->log->options.mode != TWINLOG_MODE_SHARED)
        return 0;
    return check_limit(o, o->log->options.segment_bytes);
}

/* ---- the steps of an opening ------------------------------------------------------------------- */

static int load_segments(struct opening *o)
{
    o->log->io->reads_disk = true;

    const int rc = twl_segment_set_open(o->log->io, SET_FOR_WRITING, &o->state, &o->set, &o->report);
    o->set.note = twl_page_get_note(o->log->shared);
    return rc;
}

/* Completes open groups left by a dead mapped writer (settle.c). */
static int settle_open_groups(struct opening *o)
{
    const int settled = twl_settle(o->log->io, &o->set, &o->settled);
    if (settled < 0) {
        o->report = o->settled;
        return settled;
    }
    if (settled == 0)
        return 0;

    /* Files have changed. */
    twl_segment_set_free(&o->set);
    twl_state_free(&o->state);
    return load_segments(o);
}

static int count_links(struct io *io, const char *name, uint32_t *ret_links)
{
    struct io_file *file;

    int rc = io_open(io, name, IO_READ_ONLY, &file);
    if (rc < 0)
        return rc;

    rc = io_links(file, name, ret_links);
    io_close(file);
    return rc;
}

static int check_links(struct opening *o, const char *name, uint64_t sequence)
{
    uint32_t links = 0;

    const int rc = count_links(o->log->io, name, &links);
    if (rc < 0)
        return rc;
    if (links <= 1)
        return 0;

    twl_report(
        &o->report, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_DID_REFUSE, -EMLINK,
        "%s has another name, as in a copy made of links, and what is written here would be there too; put a "
        "copy of its own in its place",
        name);
    twl_report_place(&o->report, name, sequence, 0, 0);
    return -EMLINK;
}

static int check_names_of_spares(struct opening *o)
{
    const struct segment_set *set = &o->set;
    const struct segment_entry *spares = &set->entries[set->started];

    for (size_t i = 0; i < set->spares; i++) {
        const int rc = check_links(o, spares[i].name, spares[i].header.sequence);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The newest segment, and unsealed ones before it. All segments in front of a sealed one are sealed. */
static int check_names_of_segments(struct opening *o)
{
    const struct segment_set *set = &o->set;

    for (size_t left = set->started; left > 0; left--) {
        struct segment_entry *entry = &set->entries[left - 1];
        const bool is_newest = left == set->started;

        int rc = twl_segment_look(o->log->io, entry);
        if (rc < 0)
            return rc;
        if (entry->is_sealed && !is_newest)
            return 0;

        rc = check_links(o, entry->name, entry->header.sequence);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Files that may be written must have no second name: the page, the newest segment, unsealed segments before it,
 * spares. This step comes after load_segments(), which removes a second name that a process has left that died while it
 * made a segment. */
static int check_names(struct opening *o)
{
    int rc = check_links(o, PAGE_FILE_NAME, 0);
    if (rc == 0)
        rc = check_names_of_spares(o);
    if (rc == 0)
        rc = check_names_of_segments(o);
    return rc;
}

/* A newer version may have used the log in a way that others can only read. */
static int check_features(struct opening *o)
{
    const struct segment_set *set = &o->set;
    const char *name = NULL;

    if (o->state.header.compatible & FEATURES_OF_WRITERS)
        name = STATE_NAME;
    for (size_t i = 0; i < set->started + set->spares + set->retired; i++)
        if (set->entries[i].header.compatible & FEATURES_OF_WRITERS)
            name = set->entries[i].name;
    if (!name)
        return 0;

    twl_report(&o->report, TWINLOG_FOUND_NEWER_FORMAT, TWINLOG_DID_REFUSE, TWINLOG_EVERSION,
               "%s was written by a newer twinlog; this version can read the log, and not write it", name);
    twl_report_place(&o->report, name, 0, 0, 0);
    return TWINLOG_EVERSION;
}

static int find_end(struct opening *o)
{
    o->summary = malloc(sizeof(*o->summary));
    if (!o->summary)
        return -ENOMEM;

    const int rc = twl_recover(o->log->io, &o->set, false, o->summary, &o->recovery);
    o->report = o->recovery.report;
    if (rc < 0) {
        o->report.action = TWINLOG_DID_REFUSE;
        return rc;
    }

    /* Recovery has nothing to say of what settling has cut off. */
    const bool has_settling_truncated = o->settled.action == TWINLOG_WOULD_TRUNCATE;
    if (has_settling_truncated)
        o->report = o->settled;
    return 0;
}

static void plan_segment(const struct opening *o, uint64_t sequence, uint64_t bytes,
                         struct segment_plan *ret_plan)
{
    static const enum io_allocation allocation[] = {
        [TWINLOG_PREPARE_WRITTEN] = IO_ALLOCATE_WRITTEN, [TWINLOG_PREPARE_ALLOCATED] = IO_ALLOCATE_SPACE
    };
    const struct twinlog_options *options = &o->log->options;

    *ret_plan = (struct segment_plan){
        .number = o->set.max_number + 1,
        .sequence = sequence,
        .bytes = min_u64(bytes, options->segment_bytes),
        .after_lsn = o->recovery.position.next_lsn - 1,
        .epoch = o->log->epoch.number,
        .open_flags = o->open_flags,
        .allocation = allocation[options->prepare],
    };
    memcpy(ret_plan->log_id, o->log_id, LOG_ID_BYTES);

    /* It is written through a mapping: without direct I/O, and not filled with zeros first. */
    if (is_mapped(o)) {
        ret_plan->is_mapped = true;
        ret_plan->open_flags = 0;
        ret_plan->allocation = IO_ALLOCATE_SPACE;
    }
}

/* A log without a state file is new, and gets an identity. A log of which the creation was interrupted keeps the one
 * that it got then, because its first segment may still turn up. */
static int make_state(struct opening *o)
{
    struct io *io = o->log->io;
    struct state state = {
        .header = { .generation = GENERATION_BEFORE_SEGMENTS, .first_sequence = 1, .first_lsn = 1 },
    };

    const bool is_there = o->state.header.generation > 0;
    if (is_there) {
        memcpy(o->log_id, o->state.header.log_id, LOG_ID_BYTES);
        return 0;
    }

    const int rc = io->ops->random(io, o->log_id, LOG_ID_BYTES);
    if (rc < 0)
        return rc;
    memcpy(state.header.log_id, o->log_id, LOG_ID_BYTES);
    return twl_state_write(io, &state);
}

/* The first segment continues nothing, so its header says where it starts. It is no mapped segment in any mode: a
 * mapped log writes only the marker to it. */
static int create_first_segment(struct opening *o)
{
    struct segment_plan plan;

    struct segment_entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return -ENOMEM;

    plan_segment(o, 1, FIRST_SEGMENT_BYTES, &plan);
    plan.start_lsn = 1;
    plan.is_mapped = false;

    /* The set is that of a log with one segment, and owns the entry from here on. */
    twl_segment_set_free(&o->set);
    o->set = (struct segment_set){
        .entries = entry,
        .started = 1,
        .first_lsn = 1,
        .max_number = plan.number,
    };
    o->recovery.offset = SEGMENT_DATA_OFFSET;

    const int rc = twl_segment_create(o->log->io, &plan, &o->active, NULL);
    if (rc < 0)
        return rc;

    *entry = (struct segment_entry){ .header = o->active.header, .is_known = true, .first_lsn = 1 };
    memcpy(entry->name, o->active.name, sizeof(entry->name));
    twl_report(&o->report, TWINLOG_FOUND_NEW_LOG, TWINLOG_DID_NOTHING, 0, "a new log was created");
    return 0;
}

static int open_newest(struct opening *o)
{
    const char *name = o->set.entries[o->recovery.index].name;

    const int rc = twl_segment_open(o->log->io, name, o->open_flags, DEAD_WRITER_WAIT_MS, &o->active, NULL);
    if (rc < 0)
        return rc;

    o->active.summary = o->summary;
    o->summary = NULL;
    if (is_mapped(o)) /* no records are written to it, only the marker */
        return 0;
    return check_limit(o, o->active.header.bytes);
}

static int reserve_newest(struct opening *o)
{
    const bool takes_records = !is_mapped(o); /* a mapped log writes only its marker to it */

    /* Where it shares blocks with a clone, writing to it may take space. If there is none, the write fails, so the
     * result is not looked at here. */
    io_allocate(o->active.file, o->active.header.bytes, IO_ALLOCATE_OWN);
    if (!segment_is_mapped(&o->active.header))
        return 0;
    return twl_segment_reserve(&o->active, o->recovery.offset, takes_records);
}

/* What is kept must be durable before any caller learns of it, names included.
 *
 * A sync alone does not ensure that: after a writer's sync has failed, the kernel may show data that is
 * nowhere on the disk, and the next sync reports success. So the end was looked for on the disk; the sync
 * is for data that was still on its way there. */
static int keep_what_is_there(struct opening *o)
{
    struct io *io = o->log->io;

    int rc = open_newest(o);
    if (rc == 0)
        rc = twl_segment_unseal(&o->active);
    if (rc == 0)
        rc = reserve_newest(o);
    if (rc == 0)
        rc = io_sync(o->active.file);
    if (rc == 0)
        rc = io->ops->sync_dir(io);
    return rc;
}

/* Readers beside this writer read through the page cache, which may show a group that the disk has lost. They would
 * take it for the one that follows if the marker is in the next block and so does not overwrite it. So what the cache
 * has there counts as junk, and the marker goes to this block. */
static int find_junk_in_cache(struct opening *o)
{
    struct recovery *recovery = &o->recovery;
    const uint64_t end = align_up(recovery->offset, BLOCK_BYTES);
    const bool begins_in_next_block = o->log->options.flags & TWINLOG_PAD;
    const bool is_block_full = end == recovery->offset;
    bool is_zero = true;

    if (!begins_in_next_block || is_block_full || recovery->has_junk)
        return 0;

    const int rc = twl_segment_look_into_cache(&o->active, recovery->offset, end, &is_zero);
    recovery->has_junk = !is_zero;
    return rc;
}

/* That of the page counts, too: readers ignore it, and a power cut may have taken its marker. */
static uint64_t find_newest_epoch(const struct opening *o)
{
    uint64_t newest = max_u64(o->recovery.position.epoch.number, o->log->shared->left_epoch);

    for (size_t i = 0; i < o->set.started; i++)
        newest = max_u64(newest, o->set.entries[i].header.epoch);
    return newest;
}

/* No log reaches these numbers by counting, but such a number may have been written. Records behind the
 * last number would be acknowledged and not found again. */
static int choose_epoch(struct opening *o)
{
    struct twinlog *log = o->log;
    const uint64_t next_lsn = o->recovery.position.next_lsn;
    const uint64_t largest = max_u64(max_u64(o->set.max_sequence, o->set.max_number), next_lsn);
    const uint64_t newest = find_newest_epoch(o);

    const bool are_used_up = largest > MOST_NUMBER || newest >= UINT32_MAX;
    if (are_used_up)
        return refuse_opening(
            o, TWINLOG_FOUND_NOTHING, -EOVERFLOW,
            "the numbers of its records, segments, files or epochs are used up; begin a new log");

    log->epoch.number = (uint32_t)newest + 1;
    return log->io->ops->random(log->io, &log->epoch.salt, sizeof(log->epoch.salt));
}

/* A mapped segment must be mapped from its first byte on, and any other segment must not be. */
static bool has_unfit_spares(const struct opening *o)
{
    const struct segment_set *set = &o->set;

    if (is_mapped(o))
        return set->spares > 0;
    for (size_t i = set->started; i < set->started + set->spares; i++)
        if (segment_is_mapped(&set->entries[i].header))
            return true;
    return false;
}

static int remove_unfit_spares(struct opening *o)
{
    if (!has_unfit_spares(o))
        return 0;
    return twl_settle_remove_spares(o->log->io, &o->set, &o->report);
}

static int check_log(void *context)
{
    const struct twinlog *log = context;

    return twl_page_check_log(log->shared);
}

/* The keeper does this once a second. What is appended to files that were removed is lost with them. */
static void look_after_commit(void *context)
{
    struct twinlog *log = context;

    const int rc = check_log(log);
    if (rc < 0)
        twl_commit_abandon(log->commit, rc);
    twl_commit_look_for_flush(log->commit);
}

/* For any mode; without spares, and without recycling. */
static struct keeper_config plan_keeper(struct opening *o)
{
    struct twinlog *log = o->log;

    return (struct keeper_config){
        .io = log->io,
        .statistics = log->shared->statistics,
        .set = &o->set,
        .max_bytes = log->options.segment_bytes,
        .most_segments = MOST_SEGMENTS_TO_MAKE,
        .lock_timeout_ms = DEAD_WRITER_WAIT_MS,
        .tend = twl_retain,
        .check = check_log,
        .context = log,
        .trim_ask = &log->shared->page->trim_ask,
    };
}

static int make_keeper(struct opening *o)
{
    struct twinlog *log = o->log;
    const struct segment_header *active = &o->active.header;
    struct keeper_config config = plan_keeper(o);

    if (is_mapped(o)) { /* it has a keeper only until the log is open: let_others_in() */
        config.counters = &log->shared->statistics->counters;
        plan_segment(o, active->sequence + 1, log->options.mapped_bytes, &config.plan);
    } else {
        config.counters = &log->counters;
        config.spares = log->options.spare_segments;
        config.can_recycle = !(log->options.flags & (TWINLOG_PAD | TWINLOG_NO_RECYCLE));
        config.look = look_after_commit;
        plan_segment(o, active->sequence + 1, 2 * active->bytes, &config.plan);
    }

    /* The active segment may just have got longer, and a trim by bytes counts it. */
    o->set.entries[o->recovery.index].file_bytes = o->active.file_bytes;
    return twl_keeper_create(&config, &log->keeper);
}

/* Before anything is written to the log: else a process that is started again and again would use up the room for
 * markers. */
static int make_room(struct opening *o)
{
    struct twinlog *log = o->log;

    const int rc = twl_mapped_make_room(log->keeper, log->options.max_record_bytes,
                                        o->recovery.position.next_lsn - 1, log->epoch.number);
    if (is_no_space(rc))
        return refuse_opening(
            o, TWINLOG_FOUND_SYSTEM_ERROR, rc,
            "there is no space for the next segment of a mapped log; make room, or give it a "
            "smaller segment_bytes (--segment), or trim the log in the durable mode, as "
            "`twinlog trim` does");
    return rc;
}

static int make_commit(struct opening *o)
{
    struct twinlog *log = o->log;
    const struct commit_config config = {
        .io = log->io,
        .keeper = log->keeper,
        .segment = o->active,
        .offset = o->recovery.offset,
        .has_junk = o->recovery.has_junk,
        .position = o->recovery.position,
        .epoch = log->epoch,
        .options = &log->options,
        .shared = log->shared,
        .counters = &log->counters,
    };

    const int rc = twl_commit_create(&config, &log->commit);
    if (rc < 0)
        return rc;

    o->active = (struct segment){ 0 }; /* the commit owns it now */
    return 0;
}

static int begin_epoch_mapped(struct opening *o)
{
    const bool is_started = o->recovery.last_group > 0;

    return twl_mapped_write_start(&o->active, o->recovery.offset, is_started, o->log->epoch,
                                  &o->recovery.position);
}

static int begin_epoch_durable(struct opening *o)
{
    struct twinlog *log = o->log;

    int rc = twl_commit_stop(log->commit);
    if (rc < 0)
        return rc;

    rc = twl_commit_write_marker(log->commit, GROUP_START);
    twl_commit_go_on(log->commit);
    return rc;
}

/* Writes the marker. */
static int begin_epoch(struct opening *o)
{
    o->log->io->reads_disk = false; /* from here on the page cache equals the disk */
    if (is_mapped(o))
        return begin_epoch_mapped(o);
    return begin_epoch_durable(o);
}

static struct mapped_config plan_mapped(struct twinlog *log)
{
    return (struct mapped_config){
        .io = log->io,
        .shared = log->shared,
        .participants = &log->participants,
        .options = &log->options,
        .retain = twl_retain,
        .retain_context = log,
    };
}

/* Before anything is written to the log, as with make_room(). */
static int prepare_mapped(struct opening *o)
{
    const struct mapped_config config = plan_mapped(o->log);
    return twl_mapped_prepare(&config, &o->log->mapped);
}

/* The log is durable up to here, with a new epoch behind anything that a crash has left. From here on it is mapped. */
static int go_on_mapped(struct opening *o)
{
    struct twinlog *log = o->log;
    struct mapped_config config = plan_mapped(log);

    config.keeper = log->keeper;
    config.left = &o->active;
    config.position = o->recovery.position;
    return twl_mapped_create(&config, log->mapped);
}

static void set_engine(struct twinlog *log)
{
    if (log->mapped) {
        log->ops = &twl_mapped_engine;
        log->engine = log->mapped;
    } else {
        log->ops = &twl_commit_engine;
        log->engine = log->commit;
    }
}

static int start_mapped(struct opening *o)
{
    return twl_mapped_start(o->log->mapped);
}

/* The log is open, and no work is left that must be done by one process alone, or by the keeper. */
static int let_others_in(struct opening *o)
{
    struct twinlog *log = o->log;
    const int64_t max_time_so_far_ns = twl_keeper_destroy(log->keeper);

    log->keeper = NULL;
    twl_mapped_begin(log->mapped, max_time_so_far_ns);
    return twl_participants_open(&log->participants);
}

/* A log that has lost its state goes on for those that have it open, and can be opened by nobody afterwards. So this
 * process, which can be told, stays out. */
static int check_state_of_others(struct opening *o)
{
    struct io *io = o->log->io;

    const int rc = twl_state_read(io, &o->state, &o->report);
    if (rc == -ENOENT) {
        twl_report(
            &o->report, TWINLOG_FOUND_BAD_STATE, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
            "the file %s is missing, and other processes have the log open; do not stop them, copy the "
            "directory, and `twinlog repair` the copy",
            STATE_NAME);
        twl_report_place(&o->report, STATE_NAME, 0, 0, 0);
        return TWINLOG_ECORRUPT;
    }
    if (rc < 0)
        return rc;
    return check_features(o);
}

/* The first participant has chosen the options that hold for all. */
static int join_others(struct opening *o)
{
    struct twinlog *log = o->log;
    const struct common *common = log->participants.common;

    log->options.segment_bytes = common->segment_bytes;
    log->options.max_record_bytes =
        (uint32_t)min_u64(log->options.max_record_bytes, common->max_record_bytes);

    const struct mapped_config config = plan_mapped(log);
    int rc = check_limit(o, common->segment_bytes);
    if (rc == 0)
        rc = check_links(o, PAGE_FILE_NAME, 0);
    if (rc == 0)
        rc = twl_mapped_join(&config, &log->mapped);
    if (rc < 0)
        return rc;

    memcpy(log->io->log_id, twl_mapped_log_id(log->mapped), LOG_ID_BYTES);
    rc = check_state_of_others(o);
    if (rc < 0)
        return rc;

    set_engine(log);
    log->epoch.number = twl_mapped_epoch(log->mapped);
    atomic_store(&log->first_lsn, twl_page_first_lsn(log->shared));
    twl_report(&o->report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, 0,
               "others have the log open, and share it");
    return 0;
}

/* For a change of the state file: 1 = it has changed. */
static int edit_state(void *context, struct state *state)
{
    const struct opening *o = context;
    const uint64_t oldest = o->set.entries[0].header.sequence;
    const uint64_t last_lsn = o->recovery.position.next_lsn - 1;

    /* It has its first segment now. When the change is durable, the log without it is not a new one, but damaged. */
    const bool was_new = state->header.generation == GENERATION_BEFORE_SEGMENTS;

    /* The writer before has not granted it, and the process that made it finds that that writer is gone. */
    const bool had_wish = twl_state_remove(state, STATE_VALUE, STATE_TRIM_NAME) == 0;

    /* A crash between a truncation and the change of the state file leaves cursors beyond the end, and the head where
     * it was before a reset. */
    const bool is_settled = twl_state_settle(state, oldest, o->set.first_lsn, last_lsn);

    return was_new || had_wish || is_settled;
}

/* Done also if nothing has to change: after a failed sync the state file may be only in the page cache. A
 * change writes again what is in doubt, before anything relies on it. */
static int settle_state(struct opening *o)
{
    return twl_state_change(o->log->io, edit_state, o);
}

static int publish(struct opening *o)
{
    struct twinlog *log = o->log;
    const bool is_direct = !(log->options.flags & TWINLOG_BUFFERED);
    const uint64_t last_lsn = o->recovery.position.next_lsn - 1;
    uint32_t epoch = log->epoch.number;

    /* The marker has made it true. */
    if (o->report.action == TWINLOG_WOULD_TRUNCATE)
        o->report.action = TWINLOG_DID_TRUNCATE;

    atomic_store(&log->first_lsn, o->set.first_lsn);
    memcpy(log->io->log_id, o->log_id, LOG_ID_BYTES);
    set_engine(log);

    if (log->mapped)
        epoch = twl_mapped_epoch(log->mapped);
    atomic_store(&log->shared->statistics->io, log->options.io);
    atomic_store(&log->shared->statistics->is_direct, is_direct);
    twl_page_publish(log->shared, log->options.mode, epoch, o->set.first_lsn, last_lsn);

    twl_keeper_start(log->keeper);
    if (log->commit)
        twl_commit_start(log->commit);
    return 0;
}

/* ---- the order of the steps -------------------------------------------------------------------- */

struct step {
    int (*take)(struct opening *o);
    const char *doing; /* "cannot ..."; NULL if the step reports every error itself */
    bool (*is_needed)(const struct opening *o); /* NULL: always */
};

static const struct step first_steps[] = {
    { check_directory, "list the directory", NULL },
    { take_lock, "lock the log", NULL },
    { NULL, NULL, NULL },
};

static const struct step join_steps[] = {
    { join_others, "join the processes that have the log open", NULL },
    { start_mapped, "start a thread", NULL },
    { NULL, NULL, NULL },
};

static const struct step open_steps[] = {
    { check_shared_limit, "share the log", NULL },
    { load_segments, "read the segments", NULL },
    { check_features, NULL, NULL },
    { check_names, "look at a segment", NULL },
    { settle_open_groups, "settle open groups", NULL },
    { find_end, "open the log", NULL },
    { choose_epoch, "get random bytes", NULL },
    { make_state, "create the state file", NULL },
    { keep_what_is_there, "sync the newest segment", is_old },
    { create_first_segment, "create the first segment", is_new },
    { find_junk_in_cache, "read the last block", NULL },
    { remove_unfit_spares, "remove the spare segments", NULL },
    { settle_state, "change the state file", NULL },
    { make_keeper, "open the spare segments", NULL },
    { prepare_mapped, "start a thread", is_mapped },
    { make_room, "make the next segment", is_mapped },
    { make_commit, "read the last block", is_durable },
    { begin_epoch, "write to the newest segment", NULL },
    { go_on_mapped, "map the next segment", is_mapped },
    { publish, NULL, NULL },
    { let_others_in, "share the log", is_mapped },
    { start_mapped, NULL, is_mapped },
    { NULL, NULL, NULL },
};

static int take_step(struct opening *o, const struct step *step)
{
    if (step->is_needed && !step->is_needed(o))
        return 0;

    const int rc = step->take(o);
    const bool is_reported = o->report.error == rc;
    if (twl_log_is_limited(rc)) /* whichever step has made a file, or made one longer */
        twl_log_report_limit(&o->report, step->doing, o->refused_bytes);
    else if (rc < 0 && !is_reported)
        twl_report(&o->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, rc, "cannot %s: %s",
                   step->doing, twinlog_strerror(rc));
    return rc;
}

static int take(struct opening *o, const struct step *steps)
{
    for (const struct step *step = steps; step->take; step++) {
        const int rc = take_step(o, step);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int open_to_write(struct opening *o)
{
    const int rc = take(o, first_steps);
    if (rc < 0)
        return rc;

    if (o->joins)
        return take(o, join_steps);
    return take(o, open_steps);
}

/* Only checks that there is a log: its readers find out the rest. */
static int open_read_only(struct opening *o)
{
    struct io *io = o->log->io;

    const bool is_listed = io->ops->list(io, note_kind, o) == 0;
    if (!is_listed || !o->has_segments)
        return look_for_log(o);

    const int rc = twl_state_read(io, &o->state, &o->report);
    if (rc == -ENOENT) /* it may not be made yet */
        return look_for_log(o);
    return rc;
}

/* The steps that neither read nor write the directory. */
static int prepare(struct opening *o, const struct twinlog_options *options)
{
    struct twinlog *log = o->log;

    int rc = twl_options_normalise(options, &log->options);
    if (rc < 0)
        return rc;

    rc = twl_commit_check(&log->options);
    if (rc < 0)
        return refuse_opening(o, TWINLOG_FOUND_NOTHING, rc, "the committer can't commit for this log");

    if (!(log->options.flags & TWINLOG_BUFFERED))
        o->open_flags = IO_DIRECT;
    return twl_fork_guard_init(&log->guard);
}

static int open_log(struct opening *o, const struct twinlog_options *options)
{
    const int rc = prepare(o, options);
    if (rc < 0)
        return rc;

    if (o->log->options.flags & TWINLOG_READ_ONLY)
        return open_read_only(o);
    return open_to_write(o);
}

static struct twinlog *new_log(struct io *io)
{
    struct twinlog *log = calloc(1, sizeof(*log));
    if (!log)
        return NULL;

    log->io = io;
    twl_mutex_init(&log->head_lock);
    twl_errands_init(&log->errands);
    twl_state_memory_init(&log->state_memory);
    twl_mutex_init(&log->lookups.lock);
    return log;
}

int twl_log_open(struct io *io, const struct twinlog_options *options, struct twinlog **ret_log)
{
    NOT_CANCELLED; /* the locks would stay */
    struct opening o = { .log = new_log(io) };

    if (!o.log) {
        io->ops->destroy(io);
        return -ENOMEM;
    }

    const int rc = open_log(&o, options);
    twl_segment_close(&o.active);
    free(o.summary);
    twl_state_free(&o.state);
    twl_segment_set_free(&o.set);
    if (o.log->options.ret_report)
        *o.log->options.ret_report = o.report;

    if (rc < 0) {
        twl_log_destroy(o.log);
        return rc;
    }
    *ret_log = o.log;
    return 0;
}

void twl_log_set_io_reason(struct twinlog *log, const char *reason)
{
    snprintf(log->io_reason, sizeof(log->io_reason), "%s", reason);
}
