/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log, from opening to closing.
 *
 * Opening: take the writer's lock; load the set of segments, each one locked in turn so that a dead
 * writer's last write has landed (I9); recover; sync what is kept, and the directory (I6); begin a new
 * epoch with a mark behind it, synced, so that whatever lies behind can never be read again (I4). Only
 * then may anybody append.
 *
 * Closing: let the threads inside finish, commit what was accepted, write the mark of a close.
 *
 * If anything fails on the way in, everything is given back and nothing was changed but, at most, a
 * file "writer.lock", a finished spare segment, or the mark of a new epoch: none of them holds a record.
 */
#define _GNU_SOURCE
#include "log/log.h"

#include "base/fork.h"
#include "base/sync.h"
#include "commit/commit.h"
#include "segment/live.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SEGMENT_BYTES (512u * 1024)
#define DEAD_WRITER_WAIT_MS 30000u
#define CLOSING (1u << 31)

struct twinlog {
    struct io *io;
    struct fork_guard guard;
    struct twinlog_options options; /* normalised */
    struct live live;
    struct spares *spares;
    struct commit *commit;
    uint32_t epoch;
    uint64_t first_lsn;
    uint32_t opened_segments; /* with groups, when it was opened */
    uint64_t opened_bytes;
    uint32_t io_kind;
    char io_reason[160];
    _Atomic uint32_t inside; /* calls that have not returned, and CLOSING; close sleeps on it */
};

/* ---- opening ----------------------------------------------------------------------------------- */

struct opening {
    struct twinlog *log;
    struct segment_set set;
    struct recovery recovery;
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
    else if (name[0] != '.' && strcmp(name, LIVE_NAME) != 0 && strcmp(name, "lost+found") != 0 &&
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
    int rc = twl_live_lock(o->log->io, o->log->options.lock_wait_ms, &o->log->live);
    if (rc == -EBUSY)
        return refuse(o, TWINLOG_FOUND_NOTHING, rc,
                      "another writer has this log open; close it there, or wait with lock_wait_ms");
    return rc < 0 ? refuse_system(o, rc, "lock the log") : 0;
}

static int find_end(struct opening *o)
{
    const struct segment_set_options options = { .open_flags = o->open_flags,
                                                 .lock_wait_ms = DEAD_WRITER_WAIT_MS,
                                                 .remove_temporaries = true };
    int rc = twl_segment_set_load(o->log->io, &options, &o->set, &o->report);
    if (rc == 0) {
        rc = twl_recover(o->log->io, &o->set, &o->recovery);
        o->report = o->recovery.report;
        if (rc < 0)
            o->report.action = TWINLOG_DID_REFUSE;
    }
    return rc;
}

static void plan_segment(const struct opening *o, uint64_t sequence, uint64_t bytes,
                         struct segment_plan *ret_plan)
{
    const struct twinlog_options *options = &o->log->options;
    *ret_plan = (struct segment_plan){ .sequence = sequence,
                                       .bytes = min_u64(bytes, options->segment_bytes),
                                       .after_lsn = o->recovery.position.next_lsn - 1,
                                       .epoch = o->epoch.number,
                                       .max_group_bytes = options->buffer_bytes,
                                       .open_flags = o->open_flags };
    memcpy(ret_plan->log_id, o->log_id, LOG_ID_BYTES);
}

static int create_first_segment(struct opening *o)
{
    struct io *io = o->log->io;
    struct segment_plan plan;
    int rc = io->ops->random(io, o->log_id, LOG_ID_BYTES);
    if (rc < 0)
        return refuse_system(o, rc, "get random bytes");
    plan_segment(o, 1, FIRST_SEGMENT_BYTES, &plan);
    rc = twl_segment_create(io, &plan, &o->active);
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
    return rc;
}

/* What is kept must be durable before anybody hears of it, names included.
 *
 * A sync alone does not make it so: after a writer's sync has failed, the kernel may show data that is
 * nowhere on the disk, and call the next sync a success. So the one group that no later mark proves is
 * written again, the same bytes to the same place, before it is synced. A padded log does without: its
 * promise is that what may have been acknowledged is never written over. */
static int keep_what_is_there(struct opening *o)
{
    struct io *io = o->log->io;
    const struct recovery *end = &o->recovery;
    bool is_padded = (o->log->options.flags & TWINLOG_PAD) != 0;
    memcpy(o->log_id, o->set.entries[0].header.log_id, LOG_ID_BYTES);
    int rc = open_locked(o, o->recovery.index, &o->active);
    if (rc == 0 && end->last_group > 0 && !is_padded)
        rc = twl_segment_rewrite(&o->active, end->last_group, end->offset);
    if (rc == 0)
        rc = io_sync(o->active.file);
    if (rc == 0)
        rc = io->ops->sync_dir(io);
    return rc < 0 ? refuse_system(o, rc, "sync the newest segment") : 0;
}

static int choose_epoch(struct opening *o)
{
    uint32_t number = o->recovery.position.epoch.number;
    for (size_t i = 0; i < o->set.count; i++)
        number = (uint32_t)max_u64(number, o->set.entries[i].header.epoch);
    o->epoch.number = number + 1;
    int rc = o->log->io->ops->random(o->log->io, &o->epoch.salt, sizeof(o->epoch.salt));
    return rc < 0 ? refuse_system(o, rc, "get random bytes") : 0;
}

static int make_pool(struct opening *o)
{
    struct twinlog *log = o->log;
    struct spares_config config = { .io = log->io, .max_bytes = log->options.segment_bytes };
    plan_segment(o, o->active.header.sequence + 1, 2 * o->active.header.bytes, &config.plan);
    int rc = twl_spares_create(&config, &log->spares);
    for (size_t i = o->recovery.index + 1; rc == 0 && i < o->set.count; i++) {
        struct segment spare;
        rc = open_locked(o, i, &spare);
        if (rc == 0 && !twl_spares_adopt(log->spares, &spare))
            twl_segment_close(&spare);
    }
    return rc < 0 ? refuse_system(o, rc, "open the spare segments") : 0;
}

static int begin_epoch(struct opening *o)
{
    struct twinlog *log = o->log;
    const struct commit_config config = {
        .io = log->io,
        .spares = log->spares,
        .segment = o->active,
        .offset = o->recovery.offset,
        .is_begun = o->recovery.last_group > 0,
        .has_junk = o->recovery.has_junk,
        .position = o->recovery.position,
        .epoch = o->epoch,
        .buffer_bytes = log->options.buffer_bytes,
        .max_record_bytes = log->options.max_record_bytes,
        .spare_segments = log->options.spare_segments,
        .is_padded = (log->options.flags & TWINLOG_PAD) != 0,
        .live = twl_live_watermark(&log->live),
    };
    int rc = twl_commit_create(&config, &log->commit);
    if (rc < 0)
        return refuse_system(o, rc, "read the last block");
    o->active.file = NULL; /* the commit's now */
    rc = twl_commit_mark(log->commit, GROUP_START);
    return rc < 0 ? refuse_system(o, rc, "write to the newest segment") : 0;
}

static void tell(struct opening *o)
{
    struct twinlog *log = o->log;
    bool is_new = o->set.count == 0;
    if (is_new)
        twl_report(&o->report, TWINLOG_FOUND_NEW_LOG, TWINLOG_DID_NOTHING, 0, "a new log was created");
    else if (o->report.action == TWINLOG_WOULD_CUT)
        o->report.action = TWINLOG_DID_CUT;
    log->epoch = o->epoch.number;
    log->first_lsn = is_new ? 1 : max_u64(o->set.entries[0].first_lsn, 1);
    log->opened_segments = (uint32_t)o->recovery.index + 1;
    log->opened_bytes = is_new ? min_u64(FIRST_SEGMENT_BYTES, log->options.segment_bytes) : 0;
    for (size_t i = 0; i < o->set.count; i++)
        log->opened_bytes += o->set.entries[i].header.bytes;
    twl_live_publish(&log->live, o->epoch.number, o->recovery.position.next_lsn - 1);
}

static int open_steps(struct opening *o)
{
    int rc = check_directory(o);
    if (rc == 0)
        rc = take_lock(o);
    if (rc == 0)
        rc = find_end(o);
    if (rc == 0)
        rc = choose_epoch(o);
    if (rc == 0)
        rc = o->set.count == 0 ? create_first_segment(o) : keep_what_is_there(o);
    if (rc == 0)
        rc = make_pool(o);
    if (rc == 0)
        rc = begin_epoch(o);
    if (rc == 0)
        tell(o);
    return rc;
}

static void destroy(struct twinlog *log, bool is_forked)
{
    twl_commit_destroy(log->commit, is_forked);
    twl_spares_destroy(log->spares, is_forked);
    twl_live_unlock(&log->live);
    log->io->ops->destroy(log->io);
    twl_fork_guard_destroy(&log->guard);
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
    const char *why;
    int rc = twl_options_normalise(options, &o.log->options, &why);
    if (rc < 0)
        refuse(&o, TWINLOG_FOUND_NOTHING, rc, why);
    if (rc == 0)
        rc = twl_fork_guard_init(&o.log->guard);
    if (rc == 0) {
        o.open_flags = o.log->options.flags & TWINLOG_BUFFERED ? 0 : IO_DIRECT;
        rc = open_steps(&o);
    }
    twl_segment_close(&o.active);
    twl_segment_set_free(&o.set);
    if (options && options->size >= sizeof(*options) && options->ret_report)
        *options->ret_report = o.report;
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

/* ---- calls ------------------------------------------------------------------------------------- */

/* Every call that may wait is counted, so that close can let it finish, and can't be cancelled: a leader
 * that disappears would leave everybody waiting. */
static int enter(struct twinlog *log, int *ret_cancel_state)
{
    if (!log)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&log->guard))
        return TWINLOG_EFORKED;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, ret_cancel_state);
    atomic_fetch_add(&log->inside, 1);
    return 0;
}

static void leave(struct twinlog *log, int cancel_state)
{
    /* the log may be freed as soon as the count says so: nothing of it is looked at after that */
    if (atomic_fetch_sub(&log->inside, 1) == (CLOSING | 1))
        twl_word_wake_all(&log->inside);
    pthread_setcancelstate(cancel_state, NULL);
}

/* An append, or, without waiting, an enqueue. */
static int append(struct twinlog *log, const void *data, size_t size, bool will_wait, uint64_t *ret_lsn)
{
    uint64_t lsn = 0;
    int cancel_state;
    int rc = enter(log, &cancel_state);
    if (rc == 0) {
        if (!data && size > 0)
            rc = -EINVAL;
        else if (atomic_load_explicit(&log->inside, memory_order_relaxed) & CLOSING)
            rc = -ESHUTDOWN;
        else
            rc = twl_commit_put(log->commit, data, size, will_wait, &lsn);
        if (rc == 0 && will_wait)
            rc = twl_commit_wait(log->commit, lsn);
        leave(log, cancel_state);
    }
    if (ret_lsn)
        *ret_lsn = lsn;
    return rc;
}

int twinlog_append(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn)
{
    return append(log, data, size, true, ret_lsn);
}

int twinlog_enqueue(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn)
{
    return append(log, data, size, false, ret_lsn);
}

int twinlog_wait(struct twinlog *log, uint64_t lsn)
{
    int cancel_state;
    int rc = enter(log, &cancel_state);
    if (rc < 0)
        return rc;
    rc = lsn > twl_commit_last_lsn(log->commit) ? -EINVAL : twl_commit_wait(log->commit, lsn);
    leave(log, cancel_state);
    return rc;
}

int twinlog_sync(struct twinlog *log)
{
    int cancel_state;
    int rc = enter(log, &cancel_state);
    if (rc < 0)
        return rc;
    rc = twl_commit_wait(log->commit, twl_commit_last_lsn(log->commit));
    if (rc == 0)
        rc = twl_commit_poison(log->commit);
    leave(log, cancel_state);
    return rc;
}

int twinlog_close(struct twinlog *log)
{
    if (!log)
        return 0;
    if (twl_fork_guard_is_forked(&log->guard)) {
        destroy(log, true);
        return TWINLOG_EFORKED;
    }
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    atomic_fetch_or(&log->inside, CLOSING);
    for (uint32_t inside; (inside = atomic_load(&log->inside)) != CLOSING;)
        twl_word_sleep(&log->inside, inside);
    int rc = twl_commit_mark(log->commit, GROUP_CLOSE);
    if (rc == -ENOSPC && twinlog_durable_lsn(log) == twinlog_last_lsn(log))
        rc = 0; /* only the mark found no room; the next opening does without */
    destroy(log, false);
    pthread_setcancelstate(cancel_state, NULL);
    return rc;
}

uint64_t twinlog_last_lsn(const struct twinlog *log)
{
    return log ? twl_commit_last_lsn(log->commit) : 0;
}

uint64_t twinlog_durable_lsn(const struct twinlog *log)
{
    return log ? watermark_load(twl_commit_watermark(log->commit)) : 0;
}

uint64_t twinlog_first_lsn(const struct twinlog *log)
{
    return log && twinlog_durable_lsn(log) >= log->first_lsn ? log->first_lsn : 0;
}

int twinlog_stat(struct twinlog *log, struct twinlog_stat *ret_stat)
{
    if (!ret_stat || ret_stat->size != sizeof(*ret_stat))
        return -EINVAL;
    int cancel_state;
    int rc = enter(log, &cancel_state);
    if (rc < 0)
        return rc;
    struct commit_counters counters;
    struct spares_count spares;
    twl_commit_count(log->commit, &counters);
    twl_spares_count(log->spares, &spares);
    struct twinlog_stat stat = {
        .size = ret_stat->size,
        .io = log->io_kind,
        .is_direct = !(log->options.flags & TWINLOG_BUFFERED),
        .is_untorn = log->io->untorn_bytes > 0,
        .epoch = log->epoch,
        .poison = twl_commit_poison(log->commit),
        .segments = log->opened_segments + (uint32_t)counters.rolls,
        .spare_segments = spares.ready,
        .first_lsn = twinlog_first_lsn(log),
        .last_lsn = twinlog_last_lsn(log),
        .durable_lsn = twinlog_durable_lsn(log),
        .file_bytes = log->opened_bytes + spares.made_bytes,
        .appends = counters.appends,
        .append_bytes = counters.append_bytes,
        .groups = counters.groups,
        .group_bytes = counters.group_bytes,
        .written_bytes = counters.written_bytes,
        .rolls = counters.rolls,
        .roll_waits = counters.roll_waits,
    };
    memcpy(stat.io_reason, log->io_reason, sizeof(stat.io_reason));
    *ret_stat = stat;
    leave(log, cancel_state);
    return 0;
}

int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader)
{
    static const struct twinlog_reader_options defaults = TWINLOG_READER_OPTIONS_INIT;
    if (!options)
        options = &defaults;
    if (!ret_reader || options->size != sizeof(*options) || options->flags != 0)
        return -EINVAL;
    int cancel_state;
    int rc = enter(log, &cancel_state);
    if (rc < 0)
        return rc;
    rc = twl_reader_attach(log->io, twl_commit_watermark(log->commit), options, ret_reader);
    leave(log, cancel_state);
    return rc;
}
