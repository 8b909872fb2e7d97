/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of src/log/trim.c once more, for a log as it is seen from outside: a list of its segments, its cursors and
 * its durable LSN. The command has the public header only, and there the library's lists of segments do not exist.
 * test/cli/trim.sh compares what is answered here with what a trim does. Whether the first segment has records in front
 * of the head is in its header or footer only. The size that a shortened mapped segment gets back when it is opened is
 * not seen: --keep-bytes may remove one segment more than was said.
 */
#define _GNU_SOURCE
#include "dry_run.h"

#include "archive/segment_file.h"
#include "archive/state.h"
#include "common.h"
#include "opening.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct part {
    struct twinlog_segment segment;
    uint64_t start_lsn, end_lsn; /* the last one has no end */
    uint64_t later_bytes;        /* of the segments behind it */
};

struct plan {
    const struct twinlog_trim_options *options;
    struct part *parts; /* the segments that are not spare or retired */
    size_t count, room;
    uint64_t last_lsn, durable_lsn;
    uint64_t old_lsn;
    uint64_t limit_lsn; /* by the limits that are exact */
    uint64_t wish_lsn, head_lsn;
    uint64_t passed_lsn; /* by all cursors */
    struct twinlog_trim_result result;
};

/* ---- the log, from outside --------------------------------------------------------------------- */

static int keep_part(void *context, const struct twinlog_segment *segment)
{
    struct plan *plan = context;

    if (segment->state == TWINLOG_SEGMENT_SPARE || segment->state == TWINLOG_SEGMENT_RETIRED)
        return 0;
    if (plan->count == plan->room) {
        const size_t room = (size_t)max_u64(2 * plan->room, 64);
        struct part *parts = reallocarray(plan->parts, room, sizeof(*parts));
        if (!parts)
            return -ENOMEM;

        plan->parts = parts;
        plan->room = room;
    }

    plan->parts[plan->count] = (struct part){ .segment = *segment };
    plan->count++;
    return 0;
}

static void place_parts(struct plan *plan, uint64_t next_lsn)
{
    uint64_t later_bytes = 0;

    for (size_t i = plan->count; i-- > 0;) {
        struct part *part = &plan->parts[i];
        part->end_lsn = UINT64_MAX;
        if (i + 1 < plan->count)
            part->end_lsn = next_lsn;
        if (part->segment.last_lsn) /* otherwise it has no record */
            next_lsn = part->segment.first_lsn;
        part->start_lsn = next_lsn;
        part->later_bytes = later_bytes;
        later_bytes += part->segment.file_bytes;
    }
}

/* The first segment may begin in front of the head, and have nothing behind it: that is not one without records. */
static void look_in_front(struct part *part, const char *dir)
{
    char path[PATH_MAX];
    struct segment_file file;

    if (archive_path(path, dir, part->segment.file) < 0)
        return;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read_segment_file(fd, &file) == 0 && file.sequence == part->segment.sequence) {
        uint64_t lsn = file.start_lsn;
        if (part->segment.state == TWINLOG_SEGMENT_SEALED)
            lsn = file.first_lsn;
        if (lsn > 0 && lsn < part->start_lsn)
            part->start_lsn = lsn;
    }

    close(fd);
}

static int look(struct plan *plan, const char *dir)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;
    int error = twinlog_inspect(dir, &log);

    if (error)
        return fail("look at the log", dir, error, &log.report, NULL);
    if (log.report.error < 0)
        return fail("open the log", dir, log.report.error, &log.report, NULL);

    error = twinlog_segments(dir, keep_part, plan);
    if (error)
        return fail("list the segments of", dir, error, NULL, NULL);

    plan->last_lsn = log.last_lsn;
    plan->durable_lsn = log.last_lsn; /* opening the log makes all of it durable */
    if (log.has_writer)
        plan->durable_lsn = log.durable_lsn;
    if (log.first_lsn)
        plan->old_lsn = log.first_lsn;
    else
        plan->old_lsn = log.last_lsn + 1;
    place_parts(plan, log.last_lsn + 1);
    if (plan->count > 0)
        look_in_front(&plan->parts[0], dir);
    return STATUS_FINE;
}

/* ---- how far ----------------------------------------------------------------------------------- */

static bool may_go(const struct plan *plan, const struct part *part)
{
    const struct twinlog_trim_options *options = plan->options;
    bool by_bytes = options->keep_bytes > 0 && part->later_bytes >= options->keep_bytes;
    bool by_time = options->before_time_ns > 0 && part->segment.state == TWINLOG_SEGMENT_SEALED &&
                   part->segment.last_time_ns < options->before_time_ns;

    return by_bytes || by_time;
}

static void find_wish(struct plan *plan)
{
    const struct twinlog_trim_options *options = plan->options;

    plan->limit_lsn = options->before_lsn;
    if (options->keep_records > 0 && plan->durable_lsn >= options->keep_records &&
        plan->durable_lsn - options->keep_records + 1 > plan->limit_lsn)
        plan->limit_lsn = plan->durable_lsn - options->keep_records + 1;
    plan->wish_lsn = plan->limit_lsn;
    for (size_t i = 0; i < plan->count; i++) {
        const struct part *part = &plan->parts[i];
        if (part->end_lsn <= plan->old_lsn)
            continue;
        if (!may_go(plan, part))
            break;
        if (part->end_lsn > plan->wish_lsn)
            plan->wish_lsn = part->end_lsn;
    }

    if (plan->wish_lsn > plan->durable_lsn + 1)
        plan->wish_lsn = plan->durable_lsn + 1;
    plan->head_lsn = plan->wish_lsn;
}

static int hold_for_cursor(void *context, const char *name, uint64_t lsn)
{
    struct plan *plan = context;

    if (lsn < plan->passed_lsn)
        plan->passed_lsn = lsn;
    if (lsn + 1 >= plan->head_lsn)
        return 0;

    plan->head_lsn = lsn + 1;
    plan->result.holder = TWINLOG_HELD_BY_CURSOR;
    snprintf(plan->result.holder_name, sizeof(plan->result.holder_name), "%s", name);
    return 0;
}

static int hold_for_cursors(struct plan *plan, const char *dir)
{
    struct twinlog *log = NULL;

    if (plan->options->flags & TWINLOG_TRIM_PAST_CURSORS)
        return STATUS_FINE;

    int status = open_beside_writer(dir, &log);
    if (status != STATUS_FINE)
        return status;

    int error = twinlog_cursor_each(log, hold_for_cursor, plan);
    if (error)
        status = fail("list the cursors of", dir, error, NULL, NULL);
    return close_log(log, dir, status);
}

/* ---- what goes --------------------------------------------------------------------------------- */

/* A segment goes if nothing in it is kept. One without records goes only when a limit says so, and all cursors have
 * passed a record behind it. */
static bool goes(const struct plan *plan, const struct part *part)
{
    bool is_spent = part->end_lsn <= plan->head_lsn && part->end_lsn <= plan->durable_lsn;
    bool is_empty = part->start_lsn == part->end_lsn;
    bool is_passed = part->end_lsn <= plan->passed_lsn;

    if (!is_spent)
        return false;
    if (!is_empty)
        return true;
    return is_passed && (part->end_lsn <= plan->limit_lsn || may_go(plan, part));
}

static void count_segments(struct plan *plan)
{
    struct twinlog_trim_result *result = &plan->result;
    size_t gone = 0;

    while (gone + 1 < plan->count && goes(plan, &plan->parts[gone]))
        result->removed_bytes += plan->parts[gone++].segment.file_bytes;
    result->removed_segments = gone;
    if (result->holder == TWINLOG_HELD_BY_CURSOR) {
        for (size_t i = 0; i < plan->count && plan->parts[i].end_lsn <= plan->wish_lsn; i++)
            if (plan->parts[i].end_lsn > plan->head_lsn)
                result->held_bytes += plan->parts[i].segment.file_bytes;
    } else if (gone < plan->count && plan->parts[gone].start_lsn < plan->head_lsn) {
        result->holder = TWINLOG_HELD_BY_SEGMENT;
        result->held_bytes = plan->parts[gone].segment.file_bytes;
        snprintf(result->holder_name, sizeof(result->holder_name), "%s", plan->parts[gone].segment.file);
    }
}

int plan_trim(const char *dir, const struct twinlog_trim_options *options,
              void (*each)(const struct twinlog_segment *segment), struct twinlog_trim_result *ret_result,
              bool *ret_is_empty)
{
    struct plan plan = { .options = options, .passed_lsn = UINT64_MAX, .result = TWINLOG_TRIM_RESULT_INIT };

    int status = look(&plan, dir);
    if (status == STATUS_FINE) {
        find_wish(&plan);
        status = hold_for_cursors(&plan, dir);
    }

    if (status == STATUS_FINE) {
        if (plan.head_lsn < plan.old_lsn)
            plan.head_lsn = plan.old_lsn;
        plan.result.first_lsn = plan.head_lsn;
        plan.result.removed_records = plan.head_lsn - plan.old_lsn;
        count_segments(&plan);
        for (size_t i = 0; each && i < plan.result.removed_segments; i++)
            each(&plan.parts[i].segment);
        *ret_result = plan.result;
        *ret_is_empty = plan.head_lsn > plan.last_lsn;
    }

    free(plan.parts);
    return status;
}
