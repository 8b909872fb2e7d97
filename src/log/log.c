/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log, from opening to closing.
 *
 * Opening: take the writer's lock; read the state file; load the set of segments after a dead writer's last
 * write has landed in them (I9); recover; sync what is kept, and the directory (I6); begin a new epoch with a
 * marker, synced, so that what lies behind it can never be read again (I4). All reads come from the disk,
 * past the page cache, which may show data that a failed sync has lost. Only then may a thread append.
 *
 * Closing: let the threads inside finish, commit what was accepted, write the marker of a close.
 *
 * If opening fails, all resources are released. At most these changes remain: a file "writer.lock", a state
 * file that says what was already so, settled open groups (settle.h), spares made or removed, or the marker
 * of a new epoch. None of them adds or removes a record of the log.
 */
#define _GNU_SOURCE
#include "base/versioned.h"
#include "log/handle.h"

#include "log/log_snapshot.h"
#include "segment/settle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEAD_WRITER_WAIT_MS 30000u
#define RETENTION_MS 60000u

#define MOST_NUMBER (UINT64_MAX / 4 * 3) /* larger numbers leave too few to count on */
#define MOST_LEFT_EPOCH (UINT32_MAX / 4 * 3)

#define PAUSED (1u << 30)
#define COMMIT_USERS (INSIDE_OTHER - 1)
#define EVERYBODY (PAUSED - 1)

/* ---- opening ----------------------------------------------------------------------------------- */

struct opening {
    struct twinlog *log;
    struct state state; /* generation 0: there is no state file */
    struct segment_set set;
    struct recovery recovery;
    struct summary *summary; /* of the active segment */
    struct segment active;
    uint8_t log_id[LOG_ID_BYTES];
    struct epoch epoch;
    unsigned open_flags;
    struct twinlog_report report;
};

static int refuse(struct opening *o, enum twinlog_finding finding, int error, const char *words)
{
    twl_report(&o->report, finding, TWINLOG_DID_REFUSE, error, "%s", words);
    return error;
}

static int refuse_system(struct opening *o, int error, const char *doing)
{
    twl_report(&o->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, error, "cannot %s: %s", doing,
               twinlog_strerror(error));
    return error;
}

struct contents {
    bool has_segments;
    bool has_others;
};

static int sort_name(void *context, const char *name)
{
    struct contents *contents = context;
    if (twl_segment_name_is_ours(name))
        contents->has_segments = true;
    else if (name[0] != '.' && strcmp(name, PAGE_FILE_NAME) != 0 && strcmp(name, STATE_NAME) != 0 &&
             strcmp(name, STATE_NEW_NAME) != 0 && strcmp(name, "lost+found") != 0 &&
             !twl_segment_name_is_temporary(name))
        contents->has_others = true;
    return 0;
}

static int check_directory(struct opening *o)
{
    struct contents contents = { 0 };
    struct io *io = o->log->io;
    int rc = io->ops->list(io, sort_name, &contents);
    if (rc < 0)
        return refuse_system(o, rc, "list the directory");
    if (!contents.has_segments && (o->log->options.flags & TWINLOG_MUST_EXIST))
        return refuse(o, TWINLOG_FOUND_NOTHING, -ENOENT, "there is no log in this directory");
    if (!contents.has_segments && contents.has_others)
        return refuse(o, TWINLOG_FOUND_FOREIGN_FILE, -ENOTEMPTY,
                      "the directory holds other files and no log; choose an empty or a new one");
    return 0;
}

static int take_lock(struct opening *o)
{
    o->log->shared = &o->log->own_shared;
    int rc = twl_page_lock(o->log->io, o->log->options.lock_wait_ms, o->log->shared);
    if (rc == -EBUSY)
        return refuse(o, TWINLOG_FOUND_NOTHING, rc,
                      "another writer has this log open; close it there, or wait with lock_wait_ms");
    return rc < 0 ? refuse_system(o, rc, "lock the log") : 0;
}

static bool is_mapped(const struct opening *o)
{
    return o->log->options.mode != TWINLOG_MODE_DURABLE;
}

static bool is_shared(const struct opening *o)
{
    return o->log->options.mode == TWINLOG_MODE_SHARED;
}

/* Takes the lock as the first process, or joins the participants. */
static int take_shared_lock(struct opening *o, bool *ret_is_first)
{
    struct twinlog *log = o->log;
    int rc = twl_participants_come(log->io, log->options.lock_wait_ms, &log->participants, ret_is_first);
    if (rc == 0 && *ret_is_first)
        rc = twl_participants_begin(&log->participants);
    log->shared = &log->participants.shared;
    switch (rc) {
    case 0:
        return 0;
    case -EBUSY:
        return refuse(
            o, TWINLOG_FOUND_NOTHING, rc,
            "another writer, of another mode, has this log open; close it there, or wait with lock_wait_ms");
    case -EUSERS:
        return refuse(o, TWINLOG_FOUND_NOTHING, rc, "as many as can share this log have it open");
    case TWINLOG_EVERSION:
        return refuse(o, TWINLOG_FOUND_NOTHING, rc,
                      "another version of twinlog has this log open; close it there");
    case -ENOTSUP:
        return refuse(
            o, TWINLOG_FOUND_NOTHING, rc,
            "processes can't share memory in this directory, or there are no hard links; choose another file "
            "system or mode");
    default:
        return refuse_system(o, rc, "lock the log");
    }
}

/* Settles open groups: they get their headers. */
static int settle_open_groups(struct opening *o, const struct segment_set_options *options,
                              struct twinlog_report *ret_report)
{
    int rc = twl_settle(o->log->io, &o->set, DEAD_WRITER_WAIT_MS, ret_report);
    if (rc < 0)
        o->report = *ret_report;
    if (rc <= 0)
        return rc;
    twl_segment_set_free(&o->set);
    twl_state_free(&o->state);
    return twl_segment_set_open(o->log->io, options, &o->state, &o->set, &o->report);
}

static int check_links(struct opening *o, const struct segment_entry *entry)
{
    struct io *io = o->log->io;
    struct io_file *file;
    uint32_t links = 0;
    int rc = io_open(io, entry->name, IO_READ_ONLY, &file);
    if (rc == 0) {
        rc = io_links(file, &links);
        io_close(file);
    }
    if (rc < 0)
        return refuse_system(o, rc, "look at a segment");
    if (links <= 1)
        return 0;
    twl_report(
        &o->report, TWINLOG_FOUND_FOREIGN_FILE, TWINLOG_DID_REFUSE, -EMLINK,
        "%s has another name, as in a copy made of links, and what is written here would be there too; put a "
        "copy of its own in its place",
        entry->name);
    twl_report_place(&o->report, entry->name, entry->header.sequence, 0, 0);
    return -EMLINK;
}

/* Files that may be written must have no second name: the newest segment, unsealed segments before it,
 * spares. */
static int check_names(struct opening *o)
{
    const struct segment_set *set = &o->set;
    int rc = 0;
    for (size_t i = set->started; rc == 0 && i < set->started + set->spares; i++)
        rc = check_links(o, &set->entries[i]);
    for (size_t i = set->started; rc == 0 && i-- > 0;) {
        struct segment_entry *entry = &set->entries[i];
        rc = twl_segment_look(o->log->io, entry);
        if (rc < 0)
            return refuse_system(o, rc, "look at a segment");
        if (entry->is_sealed && i + 1 < set->started)
            break;
        rc = check_links(o, entry);
    }
    return rc;
}

static int find_end(struct opening *o)
{
    const struct segment_set_options options = { .open_flags = o->open_flags,
                                                 .lock_wait_ms = DEAD_WRITER_WAIT_MS,
                                                 .remove_temporaries = true };
    struct twinlog_report settled = { 0 };
    o->log->io->reads_disk = true;
    o->summary = malloc(sizeof(*o->summary));
    if (!o->summary)
        return refuse_system(o, -ENOMEM, "open the log");
    int rc = twl_segment_set_open(o->log->io, &options, &o->state, &o->set, &o->report);
    if (rc == 0)
        rc = check_names(o);
    if (rc == 0)
        rc = settle_open_groups(o, &options, &settled);
    if (rc == 0) {
        rc = twl_recover(o->log->io, &o->set, false, o->summary, &o->recovery);
        o->report = rc == 0 && settled.action == TWINLOG_WOULD_TRUNCATE ? settled : o->recovery.report;
        if (rc < 0)
            o->report.action = TWINLOG_DID_REFUSE;
    }
    return rc;
}

static enum io_allocation allocation_of(uint32_t prepare)
{
    switch (prepare) {
    case TWINLOG_PREPARE_ALLOCATED:
        return IO_ALLOCATE_SPACE;
    case TWINLOG_PREPARE_SPARSE:
        return IO_ALLOCATE_NOTHING;
    default:
        return IO_ALLOCATE_WRITTEN;
    }
}

static void plan_segment(const struct opening *o, uint64_t sequence, uint64_t bytes,
                         struct segment_plan *ret_plan)
{
    const struct twinlog_options *options = &o->log->options;
    *ret_plan = (struct segment_plan){ .number = o->set.max_number + 1,
                                       .sequence = sequence,
                                       .bytes = min_u64(bytes, options->segment_bytes),
                                       .after_lsn = o->recovery.position.next_lsn - 1,
                                       .epoch = o->log->epoch.number,
                                       .max_group_bytes = options->buffer_bytes,
                                       .open_flags = is_mapped(o) ? 0 : o->open_flags,
                                       .allocation =
                                           is_mapped(o) ? IO_ALLOCATE_SPACE : allocation_of(options->prepare),
                                       .is_mapped = is_mapped(o) };
    memcpy(ret_plan->log_id, o->log_id, LOG_ID_BYTES);
}

/* A log without a state file is new, or of the first version of the format. A log whose creation was
 * interrupted keeps the identity that it got then, because its first segment may still turn up. */
static int make_state(struct opening *o)
{
    struct state_header header = { .generation = 1, .first_sequence = 1, .first_lsn = 1 };
    struct io *io = o->log->io;
    int rc = 0;
    if (o->state.header.generation > 0) {
        memcpy(o->log_id, o->state.header.log_id, LOG_ID_BYTES);
        return 0;
    }
    if (o->set.started > 0)
        memcpy(o->log_id, o->set.entries[0].header.log_id, LOG_ID_BYTES);
    else
        rc = io->ops->random(io, o->log_id, LOG_ID_BYTES);
    memcpy(header.log_id, o->log_id, LOG_ID_BYTES);
    if (rc == 0)
        rc = twl_state_create(io, &header);
    return rc < 0 ? refuse_system(o, rc, "create the state file") : 0;
}

/* The first segment continues nothing, so its header says where it starts. */
static int create_first_segment(struct opening *o)
{
    struct segment_plan plan;
    plan_segment(o, 1, FIRST_SEGMENT_BYTES, &plan);
    plan.start_lsn = 1;
    plan.is_mapped = false;
    int rc = twl_segment_create(o->log->io, &plan, &o->active, NULL);
    if (rc < 0)
        return refuse_system(o, rc, "create the first segment");
    o->recovery.offset = SEGMENT_DATA_OFFSET;
    return 0;
}

static int open_locked(struct opening *o, size_t index, struct segment *ret_segment)
{
    enum header_state state;
    int rc = twl_segment_open(o->log->io, o->set.entries[index].name, o->open_flags, DEAD_WRITER_WAIT_MS,
                              ret_segment, &state);
    if (rc == 0 && state != HEADER_VALID) {
        twl_segment_close(ret_segment);
        rc = TWINLOG_ECORRUPT;
    }
    if (rc == 0) /* or writing to it may take space; if there is none, an error will come in time */
        io_allocate(ret_segment->file, ret_segment->header.bytes, IO_ALLOCATE_OWN);
    return rc;
}

/* What is kept must be durable before any caller learns of it, names included.
 *
 * A sync alone does not ensure that: after a writer's sync has failed, the kernel may show data that is
 * nowhere on the disk, and the next sync reports success. So the end was looked for on the disk; the sync
 * is for data that was still on its way there. */
static int keep_what_is_there(struct opening *o)
{
    struct io *io = o->log->io;
    int rc = open_locked(o, o->recovery.index, &o->active);
    if (rc == 0) {
        o->active.summary = o->summary;
        o->summary = NULL;
    }
    if (rc == 0 && segment_is_mapped(&o->active.header)) /* in a mapped log no records are written to it */
        rc = twl_segment_reserve(&o->active, o->recovery.offset, !is_mapped(o));
    if (rc == 0)
        rc = io_sync(o->active.file);
    if (rc == 0)
        rc = io->ops->sync_dir(io);
    if (rc == 0)
        rc = twl_segment_unseal(&o->active);
    return rc < 0 ? refuse_system(o, rc, "sync the newest segment") : 0;
}

/* The writer that made the segment of a truncation may have gone on to the next epoch, and published it,
 * before its marker was on disk. */
static uint64_t epoch_told_by(const struct segment_header *header)
{
    bool is_cut = header->start_lsn > 0 && header->sequence > 1;
    return is_cut ? UINT64_C(1) + header->epoch : header->epoch;
}

static uint64_t newest_epoch(const struct opening *o)
{
    uint64_t number = o->recovery.position.epoch.number, left = o->log->shared->left_epoch;
    if (left <= MOST_LEFT_EPOCH) /* readers ignore it; a power cut may have taken its marker */
        number = max_u64(number, left);
    for (size_t i = 0; i < o->set.started + o->set.spares; i++)
        number = max_u64(number, epoch_told_by(&o->set.entries[i].header));
    return number;
}

/* No log reaches these numbers by counting, but such a number may have been written. Records behind the
 * last number would be acknowledged and not found again. */
static int check_numbers(struct opening *o)
{
    uint64_t largest = max_u64(o->set.max_sequence, o->set.max_number);
    largest = max_u64(largest, o->recovery.position.next_lsn);
    if (largest <= MOST_NUMBER && newest_epoch(o) < UINT32_MAX)
        return 0;
    return refuse(o, TWINLOG_FOUND_NOTHING, -EOVERFLOW,
                  "the numbers of its records, segments, files or epochs are used up; begin a new log");
}

static int choose_epoch(struct opening *o)
{
    struct epoch *epoch = &o->log->epoch;
    epoch->number = (uint32_t)newest_epoch(o) + 1;
    int rc = o->log->io->ops->random(o->log->io, &epoch->salt, sizeof(epoch->salt));
    return rc < 0 ? refuse_system(o, rc, "get random bytes") : 0;
}

static bool has_retention(const struct twinlog_options *options)
{
    return options->keep_bytes > 0 || options->keep_records > 0 || options->keep_age_ms > 0;
}

/* A mapped segment must be mapped from its first byte on, and any other segment must not be. */
static bool has_fitting_spares(const struct opening *o)
{
    bool fit = !is_mapped(o) || o->set.spares == 0;
    for (size_t i = o->set.started; fit && i < o->set.started + o->set.spares; i++)
        fit = !segment_is_mapped(&o->set.entries[i].header);
    return fit;
}

static int remove_spares(struct opening *o)
{
    const int rc = twl_settle_without_spares(o->log->io, &o->set);
    return rc < 0 ? refuse_system(o, rc, "remove the spare segments") : 0;
}

static int make_keeper(struct opening *o)
{
    struct twinlog *log = o->log;
    struct segment_entry first = { .header = o->active.header, .is_known = true, .first_lsn = 1 };
    struct segment_set first_set = { .entries = &first, .started = 1, .max_number = 1 };
    bool is_new = o->set.started == 0;
    memcpy(first.name, o->active.name, sizeof(first.name));
    if (is_new)
        o->set.max_number = 1;
    struct keeper_config config = {
        .io = log->io,
        .set = is_new ? &first_set : &o->set,
        .max_bytes = log->options.segment_bytes,
        .most_segments = MOST_SEGMENTS_TO_MAKE,
        .can_recycle = !is_mapped(o) && !(log->options.flags & (TWINLOG_PAD | TWINLOG_NO_RECYCLE)),
        .lock_wait_ms = DEAD_WRITER_WAIT_MS,
        .tend = has_retention(&log->options) ? twl_retain : NULL,
        .context = log,
        .tend_ms = log->options.keep_age_ms > 0 ? RETENTION_MS : 0,
    };
    plan_segment(o, o->active.header.sequence + 1,
                 is_mapped(o) ? log->options.mapped_bytes : 2 * o->active.header.bytes, &config.plan);
    int rc = twl_keeper_create(&config, &log->keeper);
    return rc < 0 ? refuse_system(o, rc, "open the spare segments") : 0;
}

static int begin_epoch(struct opening *o)
{
    struct twinlog *log = o->log;
    const struct commit_config config = {
        .io = log->io,
        .keeper = log->keeper,
        .segment = o->active,
        .offset = o->recovery.offset,
        .is_started = o->recovery.last_group > 0,
        .has_junk = o->recovery.has_junk,
        .position = o->recovery.position,
        .epoch = log->epoch,
        .options = &log->options,
        .shared = log->shared,
        .publish_statistics = twl_publish_statistics,
        .publish_context = log,
    };
    int rc = twl_commit_create(&config, &log->commit);
    if (rc < 0)
        return refuse_system(o, rc, "read the last block");
    o->active = (struct segment){ 0 }; /* the commit owns it now */
    log->io->reads_disk = false;       /* from here on the page cache equals the disk */
    rc = twl_commit_stop(log->commit);
    if (rc == 0) {
        rc = twl_commit_write_marker(log->commit, GROUP_START);
        twl_commit_go_on(log->commit);
    }
    return rc < 0 ? refuse_system(o, rc, "write to the newest segment") : 0;
}

/* The log is durable up to here, with a new epoch behind anything that a crash has left. From here on it
 * is mapped. */
static int go_on_mapped(struct opening *o)
{
    struct twinlog *log = o->log;
    struct mapped_config config = {
        .io = log->io,
        .keeper = log->keeper,
        .shared = log->shared,
        .participants = is_shared(o) ? &log->participants : NULL,
        .options = &log->options,
        .max_number = o->set.max_number,
    };
    twl_commit_give_away(log->commit, &config.left, &config.position);
    twl_commit_destroy(log->commit, false);
    log->commit = NULL;
    int rc = twl_mapped_create(&config, &log->mapped);
    if (rc < 0) {
        twl_segment_close(&config.left);
        return refuse_system(o, rc, "map the next segment");
    }
    twl_keeper_set_complete(log->keeper, twl_mapped_close_group, log->mapped);
    return 0;
}

static int start_mapped(struct opening *o)
{
    const int rc = twl_mapped_start(o->log->mapped);
    return rc < 0 ? refuse_system(o, rc, "start a thread") : 0;
}

/* The log is open, and no work is left that must be done by one process alone. */
static int let_others_in(struct opening *o)
{
    struct twinlog *log = o->log;
    const int64_t max_time_so_far_ns = twl_keeper_end(log->keeper);
    twl_keeper_destroy(log->keeper, false);
    log->keeper = NULL;
    twl_mapped_let_in(log->mapped, max_time_so_far_ns);
    const int rc = twl_participants_open(&log->participants);
    return rc < 0 ? refuse_system(o, rc, "share the log") : 0;
}

/* The first participant has chosen the options that hold for all. */
static int join_others(struct opening *o)
{
    struct twinlog *log = o->log;
    const struct common *common = log->participants.common;
    const struct mapped_config config = {
        .io = log->io, .shared = log->shared, .participants = &log->participants, .options = &log->options
    };
    log->options.segment_bytes = common->segment_bytes;
    log->options.max_record_bytes =
        (uint32_t)min_u64(log->options.max_record_bytes, common->max_record_bytes);
    int rc = twl_mapped_join(&config, &log->mapped);
    if (rc < 0)
        return refuse_system(o, rc, "join the processes that have the log open");
    log->epoch.number = twl_mapped_epoch(log->mapped);
    atomic_store(&log->first_lsn, twl_page_first_lsn(log->shared));
    twl_report(&o->report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, 0,
               "others have the log open, and share it");
    return start_mapped(o);
}

/* A crash between a truncation and the change of the state file leaves cursors beyond the end, and the head
 * where it was before a reset. */
static int make_good(void *context, struct state *state)
{
    const struct opening *o = context;
    if (o->set.started == 0)
        return 0;
    bool has_moved = twl_state_clamp_cursors(state, o->set.first_lsn - 1, o->recovery.position.next_lsn - 1);
    uint64_t oldest = o->set.entries[0].header.sequence;
    if (oldest > state->header.first_sequence) {
        state->header.first_sequence = oldest;
        state->header.first_lsn = o->set.first_lsn;
        has_moved = true;
    }
    return has_moved;
}

/* Done also if nothing must move: after a failed sync the state file may be only in the page cache. A
 * change writes again what is in doubt, before anything relies on it. */
static int settle_state(struct opening *o)
{
    int rc = twl_state_change(o->log->io, make_good, o, NULL);
    return rc < 0 ? refuse_system(o, rc, "change the state file") : 0;
}

static void tell(struct opening *o)
{
    struct twinlog *log = o->log;
    bool is_new = o->set.started == 0;
    if (is_new)
        twl_report(&o->report, TWINLOG_FOUND_NEW_LOG, TWINLOG_DID_NOTHING, 0, "a new log was created");
    else if (o->report.action == TWINLOG_WOULD_TRUNCATE)
        o->report.action = TWINLOG_DID_TRUNCATE;
    uint64_t first_lsn = is_new ? 1 : o->set.first_lsn;
    atomic_store(&log->first_lsn, first_lsn);
    if (log->mapped)
        twl_mapped_begin(log->mapped);
    else
        twl_offer_copies(log);
    twl_page_publish_mode(log->shared, log->options.mode);
    twl_page_publish(log->shared, log->mapped ? twl_mapped_epoch(log->mapped) : log->epoch.number, first_lsn,
                     o->recovery.position.next_lsn - 1);
    twl_keeper_start(log->keeper);
    if (log->commit)
        twl_commit_start(log->commit);
}

static int open_steps(struct opening *o)
{
    bool is_first = true;
    int rc = check_directory(o);
    if (rc == 0)
        rc = is_shared(o) ? take_shared_lock(o, &is_first) : take_lock(o);
    if (rc == 0 && !is_first)
        return join_others(o);
    if (rc == 0)
        rc = find_end(o);
    if (rc == 0)
        rc = check_numbers(o);
    if (rc == 0)
        rc = choose_epoch(o);
    if (rc == 0)
        rc = make_state(o);
    if (rc == 0)
        rc = o->set.started == 0 ? create_first_segment(o) : keep_what_is_there(o);
    if (rc == 0 && !has_fitting_spares(o))
        rc = remove_spares(o);
    if (rc == 0)
        rc = settle_state(o);
    if (rc == 0)
        rc = make_keeper(o);
    if (rc == 0)
        rc = begin_epoch(o);
    if (rc == 0 && is_mapped(o))
        rc = go_on_mapped(o);
    if (rc == 0)
        tell(o);
    if (rc == 0 && is_shared(o))
        rc = let_others_in(o);
    if (rc == 0 && is_mapped(o))
        rc = start_mapped(o);
    return rc;
}

/* Only checks that there is a log, and opens a reader on it. */
static int open_read_only(struct opening *o)
{
    struct twinlog *log = o->log;
    const struct twinlog_reader_options reading = { .size = sizeof(reading),
                                                    .ret_report = &log->look_report };
    struct log_snapshot snapshot;
    struct io *io;
    int rc = twl_log_snapshot_load(log->io, &snapshot, &o->report);
    if (rc < 0)
        return rc;
    twl_log_snapshot_free(&snapshot);
    rc = log->io->ops->again(log->io, &io);
    if (rc == 0) {
        rc = twl_reader_open(io, &reading, &log->looker);
        if (rc < 0)
            o->report = log->look_report;
    }
    return rc;
}

static void destroy(struct twinlog *log, bool is_forked)
{
    twl_keeper_destroy(log->keeper, is_forked); /* before the rest: its thread trims */
    twl_mapped_destroy(log->mapped, is_forked);
    twl_commit_destroy(log->commit, is_forked);
    if (!is_forked) /* in a child they may have been in use at the fork */
        twl_forget_lookups(log);
    twl_page_unlock(&log->own_shared);
    if (log->participants.file)
        twl_participants_leave(&log->participants, is_forked);
    log->io->ops->destroy(log->io);
    twl_fork_guard_destroy(&log->guard);
    if (!is_forked) {
        twinlog_reader_close(log->looker); /* in a child it may have been in use at the fork */
        twl_mutex_destroy(&log->head_lock);
        twl_mutex_destroy(&log->looking);
        twl_mutex_destroy(&log->lookups.lock);
    }
    free(log->copy);
    free(log);
}

int twl_log_open(struct io *io, const struct twinlog_options *options, struct twinlog **ret_log)
{
    struct opening o = { .log = calloc(1, sizeof(*o.log)) };
    if (!o.log) {
        io->ops->destroy(io);
        return -ENOMEM;
    }
    o.log->io = io;
    twl_mutex_init(&o.log->head_lock);
    twl_mutex_init(&o.log->looking);
    twl_mutex_init(&o.log->lookups.lock);
    const char *why;
    int rc = twl_options_normalise(options, &o.log->options, &why);
    if (rc < 0)
        refuse(&o, TWINLOG_FOUND_NOTHING, rc, why);
    if (rc == 0) {
        rc = twl_commit_check(&o.log->options);
        if (rc < 0)
            refuse(&o, TWINLOG_FOUND_NOTHING, rc, "the committer can't commit for this log");
    }
    if (rc == 0)
        rc = twl_fork_guard_init(&o.log->guard);
    if (rc == 0) {
        o.open_flags = o.log->options.flags & TWINLOG_BUFFERED ? 0 : IO_DIRECT;
        rc = o.log->options.flags & TWINLOG_READ_ONLY ? open_read_only(&o) : open_steps(&o);
    }
    twl_segment_close(&o.active);
    free(o.summary);
    twl_state_free(&o.state);
    twl_segment_set_free(&o.set);
    struct twinlog_report *report = twl_options_report(options);
    if (report)
        *report = o.report;
    if (rc < 0) {
        destroy(o.log, false);
        return rc;
    }
    *ret_log = o.log;
    return 0;
}

void twl_log_name_path(struct twinlog *log, uint32_t io_kind, const char *reason)
{
    log->io_kind = io_kind;
    snprintf(log->io_reason, sizeof(log->io_reason), "%s", reason);
}

/* ---- going in and out ---------------------------------------------------------------------------- */

/* The calls that this thread is in, innermost first: a completed request may be delivered in the middle of
 * a call, and its callback may append. */
static _Thread_local struct call *visits;

static void go_out(struct twinlog *log, uint32_t how)
{
    /* The log may be freed as soon as the count allows it: nothing of it is used after that, except the
     * address of the word. */
    uint32_t left = atomic_fetch_sub(&log->inside, how) - how;
    bool is_last = (left & CLOSING) && (left & EVERYBODY) == 0;
    bool is_last_user = (left & PAUSED) && (left & COMMIT_USERS) == 0;
    if (is_last || is_last_user)
        twl_word_wake_all(&log->inside);
}

/* The thread that pauses the log already waits for this thread. */
static bool is_counted(const struct twinlog *log)
{
    const struct call *call = visits;
    while (call && (call->log != log || call->how != INSIDE_COMMIT))
        call = call->outer;
    return call != NULL;
}

static uint32_t count_in(struct twinlog *log, uint32_t how)
{
    const uint32_t before = atomic_fetch_add(&log->inside, how);
    ASSERT(before % INSIDE_OTHER < COMMIT_USERS && before / INSIDE_OTHER % INSIDE_OTHER < COMMIT_USERS);
    return before;
}

static int await_resume(struct twinlog *log, const struct terms *terms)
{
    int rc = 0;
    while (rc == 0) {
        const uint32_t seen = twl_event_value(&log->resumed);
        if (!(atomic_load(&log->inside) & PAUSED))
            break;
        rc = terms->is_try ? -EAGAIN : twl_terms_ended(terms);
        if (rc == 0 && !twl_commit_run_once(false)) /* a committing thread must not wait for a waiter */
            twl_event_sleep_until(&log->resumed, seen, terms->deadline_ns);
    }
    return rc;
}

static int go_in(struct twinlog *log, uint32_t how, const struct terms *terms)
{
    bool is_held_up = false;
    int rc = 0;
    while (rc == 0 && (count_in(log, how) & PAUSED) && how == INSIDE_COMMIT && !is_counted(log)) {
        if (!is_held_up)
            count_in(log, INSIDE_OTHER); /* so that a close continues to wait for this call */
        is_held_up = true;
        go_out(log, how);
        rc = await_resume(log, terms);
    }
    if (is_held_up)
        go_out(log, INSIDE_OTHER);
    return rc;
}

static int enter(struct twinlog *log, enum inside how, const struct terms *terms, struct call *call)
{
    if (!log)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&log->guard))
        return TWINLOG_EFORKED;
    if (how == INSIDE_COMMIT && is_read_only(log))
        return -EROFS;
    if (log->commit && twl_commit_is_in_observer(log->commit))
        return -EDEADLK;
    *call = (struct call){ .log = log, .how = how, .outer = visits };
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &call->cancel_state);
    const int rc = go_in(log, how, terms);
    if (rc == 0)
        visits = call;
    else
        pthread_setcancelstate(call->cancel_state, NULL);
    return rc;
}

int twl_enter(struct twinlog *log, enum inside how, struct call *call)
{
    static const struct terms patient;
    return enter(log, how, &patient, call);
}

int twl_enter_on_terms(struct twinlog *log, const struct terms *terms, struct call *call)
{
    return enter(log, INSIDE_COMMIT, terms, call);
}

void twl_leave(struct call *call)
{
    visits = call->outer;
    go_out(call->log, call->how);
    pthread_setcancelstate(call->cancel_state, NULL);
}

void twl_take_head_lock(struct twinlog *log)
{
    while (!twl_mutex_try_lock(&log->head_lock))
        if (!twl_commit_run_once(false)) {
            twl_mutex_lock(&log->head_lock);
            return;
        }
}

void twl_pause(struct twinlog *log)
{
    atomic_fetch_or(&log->inside, PAUSED);
    for (uint32_t inside; (inside = atomic_load(&log->inside)) & COMMIT_USERS;)
        twl_word_sleep(&log->inside, inside);
}

void twl_resume(struct twinlog *log)
{
    atomic_fetch_and(&log->inside, ~PAUSED);
    twl_event_notify_all(&log->resumed);
}

/* ---- closing ------------------------------------------------------------------------------------ */

static int finish(struct twinlog *log)
{
    atomic_fetch_or(&log->inside, CLOSING);
    if (log->commit)
        twl_commit_end_driving(log->commit);
    for (uint32_t inside; (inside = atomic_load(&log->inside)) != CLOSING;)
        twl_word_sleep(&log->inside, inside);
    if (log->mapped)
        return twl_mapped_finish(log->mapped);
    if (!log->commit)
        return 0;
    int rc = twl_commit_end(log->commit);
    if (rc == 0)
        rc = twl_commit_write_marker(log->commit, GROUP_CLOSE);
    if (is_no_space(rc) && twl_durable_lsn(log) == twinlog_last_lsn(log))
        rc = 0; /* only the marker found no room; the next opening does without it */
    return rc;
}

/* Is this thread in a call of this log, which has called back? */
static bool is_inside(const struct twinlog *log)
{
    const struct call *call = visits;
    while (call && call->log != log)
        call = call->outer;
    return call;
}

int twinlog_close(struct twinlog *log)
{
    if (!log)
        return 0;
    if (twl_fork_guard_is_forked(&log->guard)) {
        destroy(log, true);
        return TWINLOG_EFORKED;
    }
    if (is_inside(log) || (log->commit && twl_commit_is_in_callback(log->commit)))
        return -EDEADLK;
    if (atomic_load(&log->readers) > 0)
        return -EBUSY;
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    int rc = finish(log);
    destroy(log, false);
    pthread_setcancelstate(cancel_state, NULL);
    return rc;
}

/* The queries below don't change the log, but they may refresh what the handle remembers. If the log can't
 * be read now, or in a child of the process that opened it, the last known answer is returned. If the end
 * is damaged, the newest known LSN counts, and TWINLOG_ECORRUPT says that there may be more. */
static int look(struct twinlog *log)
{
    uint64_t first_lsn = 0, last_lsn = 0;
    if (twl_fork_guard_is_forked(&log->guard))
        return TWINLOG_EFORKED;
    twl_mutex_lock(&log->looking);
    int rc = twinlog_reader_range(log->looker, &first_lsn, &last_lsn);
    if (rc == 0 || last_lsn > 0) {
        atomic_store(&log->looked_first_lsn, first_lsn);
        atomic_store(&log->looked_last_lsn, last_lsn);
    }
    twl_mutex_unlock(&log->looking);
    return rc;
}

static uint64_t look_at_last(const struct twinlog *log)
{
    look((struct twinlog *)(uintptr_t)log);
    return atomic_load(&log->looked_last_lsn);
}

static uint64_t look_at_first(const struct twinlog *log)
{
    look((struct twinlog *)(uintptr_t)log);
    return atomic_load(&log->looked_first_lsn);
}

/* A forked child takes no part in what the threads of its parent do. */
static uint64_t last_mapped_lsn(const struct twinlog *log)
{
    return twl_fork_guard_is_forked(&log->guard) ? twl_mapped_told_lsn(log->mapped)
                                                 : twl_mapped_last_lsn(log->mapped);
}

uint64_t twinlog_last_lsn(const struct twinlog *log)
{
    if (!log)
        return 0;
    if (log->mapped)
        return last_mapped_lsn(log);
    return log->commit ? twl_commit_last_lsn(log->commit) : look_at_last(log);
}

uint64_t twinlog_written_lsn(const struct twinlog *log)
{
    if (!log)
        return 0;
    if (log->mapped) /* in a child a record that was being put at the fork counts as well */
        return twl_fork_guard_is_forked(&log->guard) ? twl_mapped_told_lsn(log->mapped)
                                                     : twl_mapped_written_lsn(log->mapped);
    return log->commit ? twl_commit_written_lsn(log->commit) : look_at_last(log);
}

uint64_t twl_durable_lsn(const struct twinlog *log)
{
    if (log->mapped) { /* a child knows no newer segment than at the fork, but shares the page */
        const uint64_t lsn = twl_mapped_durable_lsn(log->mapped);
        return twl_fork_guard_is_forked(&log->guard) ? min_u64(lsn, twl_mapped_told_lsn(log->mapped)) : lsn;
    }
    return log->commit ? watermark_load(twl_commit_watermark(log->commit)) : look_at_last(log);
}

int twl_find_told_lsn(struct twinlog *log, uint64_t *ret_lsn)
{
    int rc = is_read_only(log) ? look(log) : 0;
    if (log->mapped) /* readers look for complete records themselves */
        *ret_lsn = twl_mapped_last_lsn(log->mapped);
    else
        *ret_lsn =
            log->commit ? watermark_load(&log->shared->page->durable) : atomic_load(&log->looked_last_lsn);
    return rc;
}

/* What readers are told, so that no reader is ahead of it. A forked child shares the page, so it gets the
 * value at the fork. */
uint64_t twinlog_durable_lsn(const struct twinlog *log)
{
    if (!log)
        return 0;
    bool is_ours = !is_read_only(log) && !twl_fork_guard_is_forked(&log->guard);
    uint64_t lsn = is_ours ? watermark_load(&log->shared->page->durable) : 0;
    return lsn > 0 ? lsn : twl_durable_lsn(log); /* the page may just have been lost */
}

uint64_t twinlog_first_lsn(const struct twinlog *log)
{
    if (!log)
        return 0;
    if (is_read_only(log))
        return look_at_first(log);
    uint64_t first_lsn = atomic_load(&log->first_lsn);
    uint64_t last_lsn = log->mapped ? last_mapped_lsn(log) : twinlog_durable_lsn(log);
    return last_lsn >= first_lsn ? first_lsn : 0;
}

static void stat_markers(const struct twinlog *log, struct twinlog_stat *stat)
{
    stat->first_lsn = twinlog_first_lsn(log);
    stat->last_lsn = twinlog_last_lsn(log);
    stat->durable_lsn = twinlog_durable_lsn(log);
    stat->written_lsn = max_u64(twinlog_written_lsn(log), stat->durable_lsn);
}

static void count_kept_files(struct twinlog *log, struct twinlog_stat *stat)
{
    struct keeper_count files;
    twl_keeper_count(log->keeper, &files);
    stat->segments = files.started;
    stat->spare_segments = files.ready;
    stat->file_bytes = files.file_bytes;
    stat->trimmed_segments = files.trimmed;
    stat->recycled_segments = files.recycled;
}

/* Counts the files in the directory. */
static int count_files(struct twinlog *log, struct twinlog_stat *stat)
{
    struct log_snapshot snapshot;
    struct twinlog_report report;
    int rc = twl_log_snapshot_load(log->io, &snapshot, &report);
    if (rc < 0)
        return rc;
    const struct segment_set *set = &snapshot.set;
    stat->segments = (uint32_t)set->started;
    stat->spare_segments = (uint32_t)set->spares;
    for (size_t i = 0; i < set->started + set->spares + set->retired; i++)
        stat->file_bytes += set->entries[i].header.bytes;
    twl_log_snapshot_free(&snapshot);
    return 0;
}

void twl_stat_writer(struct twinlog *log, struct twinlog_stat *stat)
{
    *stat = (struct twinlog_stat){ .size = sizeof(*stat) };
    if (log->mapped)
        twl_mapped_count(log->mapped, stat);
    else
        twl_commit_count(log->commit, stat);
    stat->mode = log->options.mode;
    stat->io = log->io_kind;
    stat->is_direct = !(log->options.flags & TWINLOG_BUFFERED);
    if (log->keeper)
        count_kept_files(log, stat);
    memcpy(stat->io_reason, log->io_reason, sizeof(stat->io_reason));
    stat_markers(log, stat);
}

static int stat_read_only(struct twinlog *log, struct twinlog_stat *stat)
{
    const int rc = count_files(log, stat);
    if (rc < 0)
        return rc;
    snprintf(stat->io_reason, sizeof(stat->io_reason), "opened read-only");
    stat_markers(log, stat);
    return 0;
}

int twinlog_stat(struct twinlog *log, struct twinlog_stat *ret_stat)
{
    if (!ret_stat || !twl_versioned_is_set(ret_stat))
        return -EINVAL;
    struct call call;
    enum inside how = log && !is_read_only(log) ? INSIDE_COMMIT : INSIDE_OTHER;
    int rc = twl_enter(log, how, &call);
    if (rc < 0)
        return rc;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    if (!is_read_only(log))
        twl_stat_writer(log, &stat);
    else
        rc = stat_read_only(log, &stat);
    if (log->participants.file)
        rc = count_files(log, &stat);
    if (rc == 0)
        twl_versioned_give(ret_stat, &stat, sizeof(stat));
    twl_leave(&call);
    return rc;
}

int twinlog_timings(struct twinlog *log, struct twinlog_timings *ret_timings)
{
    if (!ret_timings || !twl_versioned_is_set(ret_timings))
        return -EINVAL;
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    struct call call;
    int rc = twl_enter(log, INSIDE_COMMIT, &call);
    if (rc < 0)
        return rc;
    if (log->commit)
        twl_commit_timings(log->commit, &timings);
    else
        rc = -ENOTSUP;
    if (rc == 0)
        twl_versioned_give(ret_timings, &timings, sizeof(timings));
    twl_leave(&call);
    return rc;
}

static int copy_set(void *context, struct segment_set *ret_set)
{
    struct twinlog *log = context;
    int rc = twl_keeper_set(log->keeper, ret_set);
    if (rc == 0)
        ret_set->first_lsn = atomic_load(&log->first_lsn);
    return rc;
}

int twl_attach_reader(struct twinlog *log, const struct twinlog_reader_options *options,
                      struct twinlog_reader **ret_reader)
{
    if (log->keeper) {
        const struct reader_source source = {
            .io = log->io, .shared = log->shared, .set = copy_set, .context = log
        };
        return twl_reader_attach(&source, options, ret_reader);
    }
    struct io *io;
    int rc = log->io->ops->again(log->io, &io);
    return rc < 0 ? rc : twl_reader_open(io, options, ret_reader);
}

int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader)
{
    struct twinlog_reader_options own;
    if (!ret_reader || twl_versioned_take(&own, sizeof(own), options) < 0 ||
        (own.flags & ~(uint32_t)TWINLOG_READER_MMAP))
        return -EINVAL;
    struct call call;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;
    rc = twl_attach_reader(log, &own, ret_reader);
    if (rc == 0)
        twl_reader_count(*ret_reader, &log->readers);
    twl_leave(&call);
    return rc;
}
