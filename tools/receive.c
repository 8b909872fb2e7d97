/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog receive: the way back from a stream to a log: a log that was lost, or a replica that is read while it follows.
 *
 * The log gets the records with their LSNs, times, types and tags, so it says itself where to go on: behind its last
 * record. The stream's message of that record is compared with it. A LSN that the stream does not have, because it was
 * a filler in the log that was shipped, becomes a filler here.
 *
 * Records are made durable when no more are waiting in the stream, and each second.
 */
#define _GNU_SOURCE
#include "json.h"
#include "options.h"
#include "stop.h"
#include "stream.h"
#include "when.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "Usage: twinlog receive nats://HOST[:PORT]/SUBJECT DIR [options]\n"
    "\n"
    "Appends to the log in DIR what 'twinlog ship' has published, with the same LSNs, times,\n"
    "types and tags, and then each new record as it comes. Creates the log if there is none.\n"
    "Goes on behind the last record that DIR has.\n";

static const struct option_row option_rows[] = {
    { OPTION_ONCE, "once", NULL,
      "end with the message that is the stream's last one at the start; do not wait for more" },
    { OPTION_WAIT, "wait", "T",
      "give up when the server cannot be reached for so long (default: 30s with --once, else never)" },
    { OPTION_CREDENTIALS, "credentials", "FILE",
      "a file of lines NAME=VALUE that other users may not read (default: the environment's TWINLOG_CREDENTIALS)" },
    { OPTION_JSON, "json", NULL, "at the end, print statistics as one JSON object" },
    { OPTION_QUIET, "quiet", NULL, "print neither progress nor notes, only errors" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "SIGINT, SIGTERM and SIGHUP end it with status 0, after what was received is durable.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation failed; 2 wrong usage; 3 acknowledged data is damaged,\n"
    "or log and stream do not fit: DIR has other records, or the stream lacks some; 5 this\n"
    "twinlog was built without what speaks to such a server.\n"
    "\n"
    "Example: a log that was lost\n"
    "  twinlog receive nats://127.0.0.1/orders orders --once\n";

#define SYNC_NS UINT64_C(1000000000)
#define LOOK_MS 200 /* between two looks whether a signal came */
#define LEAST_PAUSE_MS 50u
#define MOST_PAUSE_MS 2000u
#define MOST_FILLERS 1000000u /* between two records */
#define SOURCE_NAME "receive" /* the value that holds the id of the log that was shipped */

enum {
    SESSION_FINISHED = 100 /* receive->status is set */
};

struct receive {
    const char *dir;
    const char *url;
    struct stream_target target;
    const struct stream_module *module;
    bool is_following;
    bool is_json;
    bool is_quiet;
    uint64_t wait_ms; /* UINT64_MAX: for ever */

    struct twinlog *log;
    struct stream *stream;
    int status;
    char source[LOG_ID_BYTES]; /* empty: not known yet */

    uint64_t position; /* of the newest message, in this session; 0 = none yet */
    uint64_t end;      /* position at which --once ends */
    uint64_t next_sync_ns;
    uint64_t proven_ns; /* when the server was last heard */
    uint64_t records, bytes, fillers, sessions;
    uint64_t first_lsn, last_lsn;
    uint64_t began_ns, ended_ns;
};

static int finish_with(struct receive *receive, int status)
{
    receive->status = status;
    return SESSION_FINISHED;
}

static int fail_log(struct receive *receive, const char *doing, int error)
{
    return finish_with(receive, fail(doing, receive->dir, error, NULL, NULL));
}

/* ---- one message ------------------------------------------------------------------------------- */

/* Is it of the same log as what came before? The first one says which log that is. */
static int check_source(struct receive *receive, const struct stream_message *message)
{
    if (message->lsn == 0) {
        complain("message %" PRIu64 " of the stream is no record of a log", message->position);
        return finish_with(receive, STATUS_DAMAGED);
    }
    if (!receive->source[0]) {
        int error = twinlog_last_lsn(receive->log)
                        ? -EEXIST
                        : twinlog_meta_set(receive->log, SOURCE_NAME, message->log_id, LOG_ID_BYTES - 1);
        if (error == -EEXIST) {
            complain("the log in '%s' has records that were not received: name a new directory",
                     receive->dir);
            return finish_with(receive, STATUS_DAMAGED);
        }
        if (error)
            return fail_log(receive, "set a value in", error);
        memcpy(receive->source, message->log_id, LOG_ID_BYTES);
    }
    if (strcmp(receive->source, message->log_id) == 0)
        return STREAM_FINE;
    complain("the stream is of the log %s, and '%s' has records of the log %s", message->log_id, receive->dir,
             receive->source);
    return finish_with(receive, STATUS_DAMAGED);
}

/* A record that the log should have already. */
static int compare_record(struct receive *receive, const struct stream_message *message)
{
    const struct twinlog_record *other = &message->record;
    struct twinlog_record record = { 0 };
    void *bytes = malloc(other->size + 1);

    int error = bytes ? twinlog_read(receive->log, message->lsn, bytes, other->size + 1, &record) : -ENOMEM;
    bool is_same = error == 0 && record.size == other->size && record.time_ns == other->time_ns &&
                   record.type == other->type && record.tag == other->tag &&
                   (record.size == 0 || memcmp(record.data, other->data, record.size) == 0);
    free(bytes);
    if (is_same || error == TWINLOG_ETRIMMED)
        return STREAM_FINE;
    if (error != 0 && error != -ENOENT && error != -ENOBUFS)
        return fail_log(receive, "read", error);
    complain("'%s' has another record of LSN %" PRIu64 " than the stream", receive->dir, message->lsn);
    return finish_with(receive, STATUS_DAMAGED);
}

/* Makes the message's LSN the next one. */
static int fill_gap(struct receive *receive, uint64_t lsn)
{
    static const struct twinlog_entry nothing;
    uint64_t next = twinlog_last_lsn(receive->log) + 1;
    char lsns[LSNS_TEXT_BYTES];

    if (lsn == next)
        return STREAM_FINE;
    if (next == 1) {
        int error = twinlog_reset(receive->log, lsn);
        return error ? fail_log(receive, "begin", error) : STREAM_FINE;
    }
    if (lsn - next > MOST_FILLERS) {
        describe_lsns(lsns, next, lsn - 1);
        complain("the stream lacks %s: receive what follows into a new directory", lsns);
        return finish_with(receive, STATUS_DAMAGED);
    }
    for (; next < lsn; next++) {
        struct twinlog_reservation reservation;
        int error = twinlog_reserve(receive->log, &nothing, NULL, &reservation);
        if (!error)
            error = twinlog_reservation_abort(receive->log, &reservation);
        if (error)
            return fail_log(receive, "append to", error);
        receive->fillers++;
    }
    return STREAM_FINE;
}

static int append_record(struct receive *receive, const struct stream_message *message)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct twinlog_entry entry = { .data = message->record.data,
                                   .size = message->record.size,
                                   .tag = message->record.tag,
                                   .type = message->record.type,
                                   .time_ns = message->record.time_ns };
    uint64_t lsn = 0;

    int result = fill_gap(receive, message->lsn);
    if (result)
        return result;
    terms.level = TWINLOG_LEVEL_BUFFERED;
    int error = twinlog_append_batch(receive->log, &entry, 1, &terms, &lsn);
    if (error)
        return fail_log(receive, "append to", error);
    if (!receive->first_lsn)
        receive->first_lsn = lsn;
    receive->last_lsn = lsn;
    receive->records++;
    receive->bytes += entry.size;
    return STREAM_FINE;
}

/* Messages that are missing in the stream, between two or in front of its first one. */
static int complain_missing(struct receive *receive, const struct stream_message *message)
{
    char lsns[LSNS_TEXT_BYTES];

    describe_lsns(lsns, twinlog_last_lsn(receive->log) + 1, message->lsn - 1);
    complain(
        "messages were removed from the stream before they were received, of %s: receive what follows into a new "
        "directory",
        lsns);
    return finish_with(receive, STATUS_DAMAGED);
}

static int take_message(struct receive *receive, const struct stream_message *message)
{
    uint64_t last = twinlog_last_lsn(receive->log);
    int result = check_source(receive, message);

    if (result)
        return result;
    bool is_next = receive->position == 0 || message->position == receive->position + 1;
    bool is_first = receive->position == 0;
    receive->position = message->position;
    receive->proven_ns = monotonic_ns();
    if (!receive->began_ns)
        receive->began_ns = receive->proven_ns;
    if (message->lsn <= last)
        return compare_record(receive, message);
    if (last > 0 && message->lsn > last + 1 && (!is_next || is_first))
        return complain_missing(receive, message);
    return append_record(receive, message);
}

/* ---- sessions ---------------------------------------------------------------------------------- */

static int make_durable(struct receive *receive)
{
    int error = twinlog_sync(receive->log);

    receive->next_sync_ns = monotonic_ns() + SYNC_NS;
    receive->ended_ns = monotonic_ns();
    return error ? fail_log(receive, "append to", error) : STREAM_FINE;
}

static int begin_session(struct receive *receive)
{
    struct stream_message last;

    receive->sessions++;
    receive->position = 0;
    int result = receive->module->open(&receive->target, &receive->stream);
    if (!result)
        result = receive->module->last(receive->stream, &last);
    if (!result && (receive->sessions == 1 || last.position < receive->end))
        receive->end = last.position; /* a server may have lost messages */
    if (!result)
        result = receive->module->seek(receive->stream, twinlog_last_lsn(receive->log));
    return result;
}

/* Fine: one more. */
static int receive_one(struct receive *receive)
{
    struct stream_message message;

    if (stop_signal() || (!receive->is_following && receive->position >= receive->end))
        return finish_with(receive, STATUS_FINE);
    int result = receive->module->next(receive->stream, 0, &message);
    if (result == STREAM_AGAIN) {
        receive->proven_ns = monotonic_ns();
        result = make_durable(receive);
        if (!result)
            result = receive->module->next(receive->stream, LOOK_MS, &message);
    }
    if (result == STREAM_AGAIN)
        return STREAM_FINE;
    if (!result)
        result = take_message(receive, &message);
    if (!result && monotonic_ns() >= receive->next_sync_ns)
        result = make_durable(receive);
    if (!receive->is_quiet && is_progress_due())
        show_progress("LSN %" PRIu64 ", %.0f records/s", receive->last_lsn,
                      (double)receive->records / ((double)(monotonic_ns() - receive->began_ns) / 1e9 + 1e-9));
    return result;
}

static int run_session(struct receive *receive)
{
    int result = begin_session(receive);

    while (result == STREAM_FINE)
        result = receive_one(receive);
    bool is_sound = result != SESSION_FINISHED || receive->status == STATUS_FINE;
    if (is_sound && make_durable(receive))
        result = SESSION_FINISHED;
    return result;
}

static bool is_worth_another(const struct receive *receive, unsigned failures)
{
    uint64_t pause_ms = (uint64_t)LEAST_PAUSE_MS << (failures < 8 ? failures : 8);
    bool has_waited = receive->wait_ms != UINT64_MAX &&
                      monotonic_ns() - receive->proven_ns >= receive->wait_ms * UINT64_C(1000000);

    return !stop_signal() && !has_waited && stop_sleep(pause_ms < MOST_PAUSE_MS ? pause_ms : MOST_PAUSE_MS);
}

static int receive_records(struct receive *receive)
{
    unsigned failures = 0;

    receive->proven_ns = monotonic_ns();
    for (;;) {
        uint64_t before = receive->last_lsn;
        int status = STATUS_FAILED;
        int result = run_session(receive);
        if (receive->last_lsn > before)
            failures = 0;
        bool goes_on =
            (result == STREAM_LOST || result == STREAM_CONFLICT) && is_worth_another(receive, failures);
        if (result == SESSION_FINISHED || (result == STREAM_LOST && stop_signal()))
            status = result == SESSION_FINISHED ? receive->status : STATUS_FINE;
        else if (!goes_on || (failures == 0 && !receive->is_quiet))
            complain("%s%s", receive->stream ? receive->stream->text : twinlog_strerror(-ENOMEM),
                     goes_on ? ". Trying again." : "");
        if (receive->stream)
            receive->module->close(receive->stream);
        receive->stream = NULL;
        if (!goes_on)
            return status;
        failures++;
    }
}

/* ---- the command ------------------------------------------------------------------------------- */

static int open_log(struct receive *receive)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_report report = { 0 };
    size_t size = 0;

    options.ret_report = &report;
    int error = twinlog_open(receive->dir, &options, &receive->log);
    if (error)
        return fail("open the log", receive->dir, error, &report, NULL);
    error = twinlog_meta_get(receive->log, SOURCE_NAME, receive->source, LOG_ID_BYTES - 1, &size);
    if (error && error != -ENOENT) {
        fail("read a value of", receive->dir, error, NULL, NULL);
        twinlog_close(receive->log);
        return status_of(error);
    }
    return STATUS_FINE;
}

static void print_statistics(const struct receive *receive)
{
    double seconds = receive->records ? (double)(receive->ended_ns - receive->began_ns) / 1e9 : 0;

    clear_progress();
    if (!receive->is_json) {
        if (!receive->is_quiet && receive->records)
            printf("Received LSN %" PRIu64 " to %" PRIu64 ".\n", receive->first_lsn, receive->last_lsn);
        return;
    }
    json_begin_object(NULL);
    json_number("received_records", receive->records);
    json_number("received_bytes", receive->bytes);
    json_number("fillers", receive->fillers);
    json_number("first_lsn", receive->first_lsn);
    json_number("last_lsn", receive->last_lsn);
    json_number("sessions", receive->sessions);
    json_decimal("seconds", seconds);
    json_decimal("records_per_second", seconds > 0 ? (double)receive->records / seconds : 0);
    json_end_object();
    json_end_line();
}

static int receive_log(struct receive *receive)
{
    if (!receive->module->seek) {
        complain("only from NATS: there is no receiver for such a stream");
        return STATUS_ABSENT;
    }
    int status = open_log(receive);
    if (status != STATUS_FINE)
        return status;
    status = receive_records(receive);
    int error = twinlog_close(receive->log);
    if (error && status == STATUS_FINE)
        status = fail("close the log", receive->dir, error, NULL, NULL);
    print_statistics(receive);
    return status;
}

static int receive_run(const struct command *command, int argc, char **argv)
{
    struct receive receive = { .is_following = true };
    const char *credentials = NULL;
    int64_t wait_ns = -1;
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_ONCE)
            receive.is_following = false;
        else if (value == OPTION_WAIT)
            wait_ns = take_duration("--wait");
        else if (value == OPTION_CREDENTIALS)
            credentials = optarg;
        else if (value == OPTION_JSON)
            receive.is_json = true;
        else
            receive.is_quiet = true;
    }
    stream_take_operands(argc, argv, "URL", "directory", &receive.url, &receive.dir);
    receive.wait_ms = wait_ns >= 0 ? (uint64_t)wait_ns / 1000000 : receive.is_following ? UINT64_MAX : 30000;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int error = stop_on_signals();
    if (error)
        return fail_start(error);
    int status = stream_take_url(receive.url, &receive.target, &receive.module);
    if (status == STATUS_FINE)
        status = stream_take_credentials(credentials, &receive.target);
    if (status == STATUS_FINE)
        status = receive_log(&receive);
    stream_free_target(&receive.target);
    return finish_output(status);
}

const struct command receive_command = {
    .name = "receive",
    .summary = "append to a log what ship has published to NATS JetStream",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = receive_run,
};
