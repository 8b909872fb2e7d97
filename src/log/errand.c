/* SPDX-License-Identifier: Apache-2.0 */
#include "log/errand.h"

#include "base/versioned.h"
#include "commit/queue.h"
#include "log/change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum errand_kind {
    ERRAND_SYNC,
    ERRAND_CHANGE,
    ERRAND_TRUNCATE
};

/* Behind it lie the edits of its change, and behind them what they point to. */
struct errand {
    struct errand *next;
    struct twinlog *log;
    struct twinlog_request *request;
    enum errand_kind kind;
    uint64_t last_lsn; /* of a truncation */
    struct twinlog_change change;
    struct twinlog_edit edits[];
};

/* ---- the thread ---------------------------------------------------------------------------------- */

static int make(const struct errand *errand)
{
    switch (errand->kind) {
    case ERRAND_SYNC:
        return twinlog_sync(errand->log);
    case ERRAND_CHANGE:
        return twinlog_change(errand->log, &errand->change, NULL);
    default:
        return twinlog_truncate(errand->log, errand->last_lsn);
    }
}

/* Before the request is completed: the thread that fetches it may append. */
static void end_truncation(struct twinlog *log)
{
    twl_mutex_lock(&log->errands.lock);
    if (--log->errands.truncations == 0)
        twl_unshut(log);
    twl_mutex_unlock(&log->errands.lock);
}

static void make_and_free(struct errand *errand)
{
    struct twinlog_request *request = errand->request;

    request->result = make(errand);
    if (errand->kind == ERRAND_TRUNCATE)
        end_truncation(errand->log);
    free(errand);
    twl_queue_push(request->queue, request, request);
}

/* NULL: there is none now. */
static struct errand *take(struct errands *errands, bool *ret_is_over)
{
    twl_mutex_lock(&errands->lock);

    struct errand *errand = errands->first;
    if (errand)
        errands->first = errand->next;
    *ret_is_over = errands->is_over;

    twl_mutex_unlock(&errands->lock);
    return errand;
}

static void *make_all(void *context)
{
    struct errands *errands = context;

    for (;;) {
        const uint32_t seen = twl_event_value(&errands->changed);
        bool is_over;
        struct errand *errand = take(errands, &is_over);

        if (errand)
            make_and_free(errand);
        else if (is_over)
            return NULL;
        else
            twl_event_sleep(&errands->changed, seen);
    }
}

/* ---- begin and end ------------------------------------------------------------------------------- */

void twl_errands_init(struct errands *errands)
{
    twl_mutex_init(&errands->lock);
}

/* The thread's own calls are counted while they last, so none is when it has ended. */
void twl_errands_end(struct errands *errands) NO_THREAD_SAFETY_ANALYSIS
{
    if (!errands->has_thread)
        return;

    twl_mutex_lock(&errands->lock);
    errands->is_over = true;
    twl_mutex_unlock(&errands->lock);
    twl_event_notify_all(&errands->changed);
    pthread_join(errands->thread, NULL);
}

void twl_errands_destroy(struct errands *errands)
{
    twl_mutex_destroy(&errands->lock);
}

static int start_thread(struct errands *errands) REQUIRES(errands->lock)
{
    if (errands->has_thread)
        return 0;
    const int rc = twl_thread_start(&errands->thread, make_all, errands);
    errands->has_thread = rc == 0;
    return rc;
}

/* ---- a new one ----------------------------------------------------------------------------------- */

static void expect_request(struct twinlog_request *request)
{
    request->first_lsn = 0;
    request->count = 0;
    request->result = 0;
    request->next = NULL;
    twl_queue_expect(request->queue);
}

static void append_errand(struct errands *errands, struct errand *errand) REQUIRES(errands->lock)
{
    if (errands->first)
        errands->last->next = errand;
    else
        errands->first = errand;
    errands->last = errand;
}

static int add(struct errands *errands, struct errand *errand)
{
    twl_mutex_lock(&errands->lock);

    const int rc = start_thread(errands);
    if (rc == 0) {
        expect_request(errand->request);
        if (errand->kind == ERRAND_TRUNCATE && errands->truncations++ == 0)
            twl_shut(errand->log);
        append_errand(errands, errand);
    }

    twl_mutex_unlock(&errands->lock);
    return rc;
}

/* The caller is inside. NULL: it has found no memory for the errand. */
static int submit(struct twinlog *log, struct errand *errand, enum errand_kind kind,
                  struct twinlog_request *request)
{
    if (!errand)
        return -ENOMEM;

    errand->log = log;
    errand->kind = kind;
    errand->request = request;
    const int rc = add(&log->errands, errand);
    if (rc != 0) {
        free(errand);
        return rc;
    }

    twl_event_notify_all(&log->errands.changed);
    return 0;
}

static int check_request(const struct twinlog_request *request)
{
    if (!request || !request->queue)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&request->queue->guard))
        return TWINLOG_EFORKED;
    return 0;
}

int twinlog_submit_sync(struct twinlog *log, struct twinlog_request *request)
{
    struct call call;
    int rc = check_request(request);
    if (rc == 0)
        rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = submit(log, calloc(1, sizeof(struct errand)), ERRAND_SYNC, request);
    twl_leave(&call);
    return rc;
}

/* NULL: there is no memory. */
static struct errand *truncation_to(uint64_t last_lsn)
{
    struct errand *errand = calloc(1, sizeof(*errand));

    if (errand)
        errand->last_lsn = last_lsn;
    return errand;
}

int twinlog_submit_truncate(struct twinlog *log, uint64_t last_lsn, struct twinlog_request *request)
{
    struct call call;
    int rc = check_request(request);
    if (rc < 0)
        return rc;
    if (last_lsn == UINT64_MAX)
        return -EINVAL;
    rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = check_durable(log);
    if (rc == 0)
        rc = submit(log, truncation_to(last_lsn), ERRAND_TRUNCATE, request);
    twl_leave(&call);
    return rc;
}

/* ---- a change ------------------------------------------------------------------------------------ */

static bool can_copy_edit(const struct twinlog_edit *edit)
{
    const bool lacks_data = !edit->data && edit->size > 0;

    return edit->name && edit->size <= TWINLOG_META_BYTES && !lacks_data;
}

static bool can_copy_change(const struct twinlog_change *change)
{
    const bool lacks_edits = !change->edits && change->edit_count > 0;

    if (lacks_edits || change->edit_count > MOST_EDITS)
        return false;
    for (uint32_t i = 0; i < change->edit_count; i++)
        if (!can_copy_edit(&change->edits[i]))
            return false;
    return true;
}

static size_t bytes_behind(const struct twinlog_change *change)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < change->edit_count; i++)
        bytes += strlen(change->edits[i].name) + 1 + change->edits[i].size;
    return bytes;
}

/* Copies name and data to `at`; returns what lies behind them. */
static char *copy_edit(struct twinlog_edit *edit, const struct twinlog_edit *from, char *at)
{
    const size_t name_bytes = strlen(from->name) + 1;

    *edit = *from;
    edit->name = memcpy(at, from->name, name_bytes);
    at += name_bytes;
    if (from->size > 0)
        edit->data = memcpy(at, from->data, from->size);
    return at + from->size;
}

static void copy_edits(struct errand *errand, const struct twinlog_change *change)
{
    char *at = (char *)&errand->edits[change->edit_count];

    for (uint32_t i = 0; i < change->edit_count; i++)
        at = copy_edit(&errand->edits[i], &change->edits[i], at);
}

/* NULL: there is no memory. */
static struct errand *copy_change(const struct twinlog_change *change)
{
    const size_t edits_bytes = change->edit_count * sizeof(struct twinlog_edit);
    struct errand *errand = calloc(1, sizeof(*errand) + edits_bytes + bytes_behind(change));

    if (!errand)
        return NULL;
    errand->change = *change;
    errand->change.edits = change->edit_count > 0 ? errand->edits : NULL;
    copy_edits(errand, change);
    return errand;
}

int twinlog_submit_change(struct twinlog *log, const struct twinlog_change *change,
                          struct twinlog_request *request)
{
    struct twinlog_change own;
    struct call call;
    int rc = check_request(request);
    if (rc < 0)
        return rc;
    if (!change || twl_versioned_take(&own, sizeof(own), change) < 0)
        return -EINVAL;
    if (!can_copy_change(&own))
        return -EINVAL;
    rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = submit(log, copy_change(&own), ERRAND_CHANGE, request);
    twl_leave(&call);
    return rc;
}
