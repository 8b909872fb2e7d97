/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog receive: the way back from a stream to a log: a log that was lost, or a replica that is read while it
 * follows.
 *
 * The log gets the records with their LSNs, times, types and tags, so it says itself where to go on: behind its last
 * record. The stream's message of that record is compared with it. A LSN that the stream does not have, because it was
 * a filler in the log that was shipped, becomes a filler here; one that was lost there, a filler that says so.
 *
 * Records are made durable when no more are waiting in the stream, and each second.
 */
#define _GNU_SOURCE
#include "../json.h"
#include "../options.h"
#include "../source.h"
#include "../stop.h"
#include "../when.h"
#include "stream.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>

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
    { OPTION_SKIP_LOST, "skip-lost", NULL,
      "go on although messages are missing in the stream, and make fillers of lost records of what they had, instead "
      "of ending with status 3" },
    { OPTION_FROM, "from", "LSN",
      "begin a log that has no records with this one, or with the stream's next one behind it" },
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
#define LOOK_MS 200           /* between two looks whether a signal came */
#define MOST_FILLERS 1000000u /* between two records, unless --skip-lost is given */

#define STREAM_SEEK 101 /* of a message: what comes next is in front of it */

struct receive {
    struct stream_client client;
    struct twinlog *log;
    struct source source;
    uint64_t position; /* of the newest message, in this session; 0 = none yet */
    uint64_t end;      /* position at which --once ends */
    uint64_t next_sync_ns;
    uint64_t fillers;
    uint64_t from_lsn; /* 0: where the stream begins */
    bool skips_lost;

    /* Messages that do not continue the log, as those in front of them are missing. They may come once more. */
    uint64_t gap_lsn; /* of the first one; 0: none */
    struct stream_front gap_front;
    uint64_t gap_end;    /* the stream's newest message then */
    uint64_t met_lsn;    /* newest record that the stream and the log both have, of one history */
    uint64_t passed_lsn; /* this one comes next, behind lost ones */
};

/* A call on the log has failed. One that is poisoned knows whether its directory was removed. */
static int fail_log(struct receive *receive, const char *doing, int error)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;

    if (error == TWINLOG_EPOISONED && twinlog_stat(receive->log, &stat) == 0 && stat.poison == -ESTALE)
        error = stat.poison;
    return stream_fail_log(&receive->client, doing, error);
}

/* ---- one message ------------------------------------------------------------------------------- */

/* Is it of the same log as what came before? The first one says which log that is. */
static int check_source(struct receive *receive, const struct stream_message *message)
{
    if (message->lsn == 0) {
        complain("message %" PRIu64 " of the stream is no record of a log", message->position);
        return stream_finish(&receive->client, STATUS_DAMAGED);
    }

    if (!receive->source.id[0]) {
        int error = -EEXIST;
        if (!twinlog_last_lsn(receive->log))
            error = note_source(receive->log, &receive->source, message->log_id, message->record.salt,
                                message->lsn);
        if (error == -EEXIST) {
            complain("the log in '%s' has records that were not received: name a new directory",
                     receive->client.dir);
            return stream_finish(&receive->client, STATUS_DAMAGED);
        }

        if (error)
            return fail_log(receive, "set a value in", error);
    }

    if (strcmp(receive->source.id, message->log_id) == 0)
        return STREAM_FINE;

    complain("the stream is of the log %s, and '%s' has records of the log %s", message->log_id,
             receive->client.dir, receive->source.id);
    return stream_finish(&receive->client, STATUS_DAMAGED);
}

static int make_durable(struct receive *receive)
{
    int error = twinlog_sync(receive->log);

    receive->next_sync_ns = monotonic_ns() + SYNC_NS;
    receive->client.ended_ns = monotonic_ns();
    if (error)
        return fail_log(receive, "append to", error);
    return STREAM_FINE;
}

/* Only what is durable can be read, and this session may have appended it a moment ago. */
static int make_readable(struct receive *receive, uint64_t lsn)
{
    if (lsn <= twinlog_durable_lsn(receive->log))
        return STREAM_FINE;
    return make_durable(receive);
}

/* A record that the log should have already. */
static int compare_record(struct receive *receive, const struct stream_message *message)
{
    const struct twinlog_record *other = &message->record;
    struct twinlog_record record = { 0 };

    int result = make_readable(receive, message->lsn);
    if (result)
        return result;

    void *bytes = malloc(other->size + 1);
    int error = -ENOMEM;
    if (bytes)
        error = twinlog_read(receive->log, message->lsn, bytes, other->size + 1, &record);
    bool is_same = error == 0 && stream_is_same_record(&record, other);
    enum agreement agreement = AGREEMENT_DENIED;
    if (is_same)
        agreement = judge_record(receive->log, &receive->source, message->log_id, other->salt, &record);
    free(bytes);
    if (agreement == AGREEMENT_PROVED)
        receive->met_lsn = message->lsn;
    if (agreement != AGREEMENT_DENIED || error == TWINLOG_ETRIMMED)
        return STREAM_FINE; /* check_front() asks for a proof */
    if (error != 0 && !is_no_record(error) && error != -ENOBUFS)
        return fail_log(receive, "read", error);

    complain("'%s' has another record of LSN %" PRIu64 " than the stream", receive->client.dir, message->lsn);
    return stream_finish(&receive->client, STATUS_DAMAGED);
}

/* What the log that was shipped has lost, and the fillers around. */
static int append_fillers(struct receive *receive, const struct stream_message *message)
{
    char lsns[LSNS_TEXT_BYTES];
    int error = 0;

    if (message->lost_last_lsn > twinlog_last_lsn(receive->log)) {
        error = twinlog_skip(receive->log, message->lost_first_lsn);
        if (!error)
            error = twinlog_skip_lost(receive->log, message->lost_last_lsn + 1);
        describe_lsns(lsns, message->lost_first_lsn, message->lost_last_lsn);
        stream_note_lost(&receive->client, message->lost_first_lsn, message->lost_last_lsn);
        complain("%s: trimmed from the log before it was shipped", lsns);
    }

    if (error)
        return error;
    return twinlog_skip(receive->log, message->lsn);
}

/* Makes the message's LSN the next one. */
static int fill_gap(struct receive *receive, const struct stream_message *message)
{
    uint64_t lsn = message->lsn;
    uint64_t next = twinlog_last_lsn(receive->log) + 1;
    char lsns[LSNS_TEXT_BYTES];

    if (lsn == next)
        return STREAM_FINE;
    if (next == 1) {
        describe_lsns(lsns, 1, lsn - 1);
        complain("the stream has nothing of %s: the log in '%s' begins with LSN %" PRIu64, lsns,
                 receive->client.dir, lsn);
        stream_note_lost(&receive->client, 1, lsn - 1);
        int error = twinlog_reset(receive->log, lsn);
        if (error)
            return fail_log(receive, "begin", error);
        return STREAM_FINE;
    }

    if (lsn - next > MOST_FILLERS && !receive->skips_lost) {
        describe_lsns(lsns, next, lsn - 1);
        stream_note_lost(&receive->client, next, lsn - 1);
        complain(
            "the stream lacks %s, which are more than %u: to make a filler of each of them, with 24 bytes, use "
            "--skip-lost, or begin a new directory with --from %" PRIu64 ".",
            lsns, MOST_FILLERS, lsn);
        return stream_finish(&receive->client, STATUS_DAMAGED);
    }

    int error = append_fillers(receive, message);
    if (error)
        return fail_log(receive, "append to", error);

    receive->fillers += lsn - next;
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

    int result = fill_gap(receive, message);
    if (result)
        return result;

    terms.level = TWINLOG_LEVEL_BUFFERED;
    int error =
        note_source(receive->log, &receive->source, message->log_id, message->record.salt, message->lsn);
    if (error)
        return fail_log(receive, "set a value in", error);

    error = twinlog_append_batch(receive->log, &entry, 1, &terms, &lsn);
    if (error)
        return fail_log(receive, "append to", error);
    if (!receive->client.first_lsn)
        receive->client.first_lsn = lsn;
    receive->client.last_lsn = lsn;
    receive->client.records++;
    receive->client.bytes += entry.size;
    return STREAM_FINE;
}

/* ---- messages that are missing ------------------------------------------------------------------ */

/* In the stream, between two or in front of its first one. */
static int complain_missing(struct receive *receive)
{
    char lsns[LSNS_TEXT_BYTES];
    const uint64_t next_lsn = twinlog_last_lsn(receive->log) + 1;

    describe_lsns(lsns, next_lsn, receive->gap_lsn - 1);
    stream_note_lost(&receive->client, next_lsn, receive->gap_lsn - 1);
    complain(
        "messages were removed from the stream before they were received, of %s. 'twinlog ship' publishes them "
        "again, if the log still has them. To go on without them, use --skip-lost, or begin a new directory "
        "with --from %" PRIu64 ".",
        lsns, receive->gap_lsn);
    return stream_finish(&receive->client, STATUS_DAMAGED);
}

/* Of this message's history nothing is known in front of it but the record `front`. */
static int complain_unproved(struct receive *receive, uint64_t lsn)
{
    complain(
        "nothing shows that LSN %" PRIu64
        " of the stream is of the same history as the last record in '%s': receive into a new directory, with "
        "--from %" PRIu64 ".",
        lsn, receive->client.dir, lsn);
    return stream_finish(&receive->client, STATUS_DAMAGED);
}

/* Is the last record of the log, behind which messages are missing, of the stream's history? A stream has one, as
 * 'twinlog ship' ends where the log has another: so it is enough that the stream has this record, or that the one in
 * front of the next message is of the same epoch. */
static bool is_same_history(struct receive *receive)
{
    const uint64_t last_lsn = twinlog_last_lsn(receive->log);
    struct twinlog_record record = { 0 };

    if (receive->met_lsn == last_lsn)
        return true;

    const int error = twinlog_read(receive->log, last_lsn, NULL, 0, &record);
    return (error == 0 || error == -ENOBUFS) &&
           judge_record(receive->log, &receive->source, receive->source.id, receive->gap_front.salt,
                        &record) == AGREEMENT_PROVED;
}

static int skip_lost(struct receive *receive)
{
    char lsns[LSNS_TEXT_BYTES];
    const uint64_t next_lsn = twinlog_last_lsn(receive->log) + 1;

    int result = make_readable(receive, next_lsn - 1);
    if (result)
        return result;
    if (!is_same_history(receive))
        return complain_unproved(receive, receive->gap_lsn);

    describe_lsns(lsns, next_lsn, receive->gap_lsn - 1);
    stream_note_lost(&receive->client, next_lsn, receive->gap_lsn - 1);
    complain("%s: missing in the stream, going on with what follows", lsns);
    int error = twinlog_skip_lost(receive->log, receive->gap_lsn);
    if (error)
        return fail_log(receive, "append to", error);

    receive->fillers += receive->gap_lsn - next_lsn;
    receive->passed_lsn = receive->gap_lsn;
    receive->gap_lsn = 0;
    return STREAM_SEEK;
}

/* All messages that the stream had when the first one did not fit were seen. */
static int end_gap(struct receive *receive)
{
    if (receive->skips_lost)
        return skip_lost(receive);
    return complain_missing(receive);
}

/* Passes a message, since the one that is missing may have been published once more, behind the others. */
static int pass_message(struct receive *receive, const struct stream_message *message)
{
    struct stream_message last;

    if (receive->gap_lsn == 0) {
        receive->gap_lsn = message->lsn;
        receive->gap_front = message->front;
        if (message->front.lsn == 0)
            receive->gap_front = (struct stream_front){ message->lsn - 1, message->record.salt };
        int result = receive->client.module->last(receive->client.stream, &last);
        if (result)
            return result;

        receive->gap_end = last.position;
    }

    if (receive->position >= receive->gap_end)
        return end_gap(receive);
    return STREAM_FINE;
}
/* Are messages missing between the log's last record and this one? */
static bool is_behind_gap(const struct receive *receive, const struct stream_message *message)
{
    const uint64_t last_lsn = twinlog_last_lsn(receive->log);
    uint64_t front_lsn = message->lsn - 1;

    if (message->front.lsn)
        front_lsn = message->front.lsn;
    return last_lsn > 0 && front_lsn > last_lsn && message->lsn != receive->passed_lsn;
}

/* It must be behind the log's last record: in the stream's log, too, that one was in front of it. What is in front of a
 * stream's first message may not be known: then only a record of the same history is. */
static int check_front(struct receive *receive, const struct stream_message *message)
{
    struct stream_front front = message->front;

    if (front.lsn == 0)
        front = (struct stream_front){ message->lsn - 1, message->record.salt };
    const bool has_records = receive->client.records > 0 || twinlog_first_lsn(receive->log) > 0;
    if (!has_records || message->lsn == receive->passed_lsn)
        return STREAM_FINE;

    const uint64_t last_lsn = twinlog_last_lsn(receive->log);
    int result = STREAM_FINE;
    if (front.lsn != last_lsn)
        result = make_readable(receive, last_lsn);
    if (result)
        return result;
    if (ends_in_source(receive->log, &receive->source, front.salt, front.lsn))
        return STREAM_FINE;
    return complain_unproved(receive, message->lsn);
}

static int take_message(struct receive *receive, const struct stream_message *message)
{
    int result = check_source(receive, message);

    if (result)
        return result;

    receive->position = message->position;
    receive->client.proven_ns = monotonic_ns();
    if (!receive->client.began_ns)
        receive->client.began_ns = receive->client.proven_ns;
    if (message->lsn <= twinlog_last_lsn(receive->log))
        return compare_record(receive, message);
    if (message->lsn < receive->from_lsn && twinlog_last_lsn(receive->log) == 0)
        return STREAM_FINE;
    if (is_behind_gap(receive, message))
        return pass_message(receive, message);

    receive->gap_lsn = 0;
    result = check_front(receive, message);
    if (result)
        return result;
    return append_record(receive, message);
}

/* ---- sessions ---------------------------------------------------------------------------------- */

/* In front of the message that comes next. */
static int seek(struct receive *receive)
{
    uint64_t lsn = twinlog_last_lsn(receive->log);

    if (lsn == 0 && receive->from_lsn)
        lsn = receive->from_lsn - 1;
    receive->position = 0;
    receive->gap_lsn = 0;
    return receive->client.module->seek(receive->client.stream, lsn);
}

static int begin_session(struct receive *receive)
{
    struct stream_message last;

    int result = receive->client.module->open(&receive->client.target, &receive->client.stream);
    if (!result)
        result = receive->client.module->last(receive->client.stream, &last);
    if (!result && (receive->client.sessions == 1 || last.position < receive->end))
        receive->end = last.position; /* a server may have lost messages */
    if (!result)
        result = seek(receive);
    return result;
}

/* Nothing has come for a while. The message at which --once ends, or that ends a gap, may have been removed from the
 * stream before it was delivered: then the one that is the newest now ends it. */
static int look_at_end(struct receive *receive)
{
    struct stream_message last;

    const bool waits_for_end = !receive->client.is_following || receive->gap_lsn > 0;
    if (!waits_for_end)
        return STREAM_FINE;

    int result = receive->client.module->last(receive->client.stream, &last);
    if (result)
        return result;

    receive->end = min_u64(receive->end, last.position);
    receive->gap_end = min_u64(receive->gap_end, last.position);
    if (receive->gap_lsn > 0 && receive->position >= receive->gap_end)
        return end_gap(receive);
    return STREAM_FINE;
}

/* Fine: one more. */
static int receive_one(struct receive *receive)
{
    struct stream_message message;

    const bool is_over = !receive->client.is_following && receive->position >= receive->end;
    if (stop_signal() || (is_over && receive->gap_lsn == 0))
        return stream_finish(&receive->client, STATUS_FINE);

    int result = receive->client.module->next(receive->client.stream, 0, &message);
    if (result == STREAM_AGAIN) {
        receive->client.proven_ns = monotonic_ns();
        result = make_durable(receive);
        if (!result)
            result = receive->client.module->next(receive->client.stream, LOOK_MS, &message);
    }

    if (result == STREAM_AGAIN)
        result = look_at_end(receive);
    else if (!result)
        result = take_message(receive, &message);
    if (result == STREAM_SEEK)
        return seek(receive);
    if (!result && monotonic_ns() >= receive->next_sync_ns)
        result = make_durable(receive);
    if (!receive->client.is_quiet && is_progress_due())
        show_progress("LSN %" PRIu64 ", %.0f records/s", receive->client.last_lsn,
                      (double)receive->client.records /
                          ((double)(monotonic_ns() - receive->client.began_ns) / 1e9 + 1e-9));
    return result;
}

static int run_session(struct stream_client *client)
{
    struct receive *receive = (struct receive *)client;
    int result = begin_session(receive);

    while (result == STREAM_FINE)
        result = receive_one(receive);
    bool is_sound = result != SESSION_FINISHED || client->status == STATUS_FINE;
    if (is_sound && make_durable(receive))
        result = SESSION_FINISHED;
    return result;
}

/* ---- the command ------------------------------------------------------------------------------- */

static int open_log(struct receive *receive)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_report report = { 0 };

    options.ret_report = &report;
    int error = twinlog_open(receive->client.dir, &options, &receive->log);
    if (error)
        return fail("open the log", receive->client.dir, error, &report, NULL);

    error = load_source(receive->log, &receive->source);
    if (error) {
        fail("read a value of", receive->client.dir, error, NULL, NULL);
        twinlog_close(receive->log);
        return status_of(error);
    }

    return STATUS_FINE;
}

static void print_statistics(const struct receive *receive)
{
    if (!stream_begin_statistics(&receive->client, "Received", "received_records", "received_bytes"))
        return;
    json_number("fillers", receive->fillers);
    stream_end_statistics(&receive->client);
}

static int receive_log(struct stream_client *client)
{
    struct receive *receive = (struct receive *)client;

    if (!receive->client.module->seek) {
        complain("only from NATS: there is no receiver for such a stream");
        return STATUS_ABSENT;
    }

    int status = open_log(receive);
    if (status != STATUS_FINE)
        return status;

    status = stream_run(&receive->client, run_session);
    int error = twinlog_close(receive->log);
    if (error && status == STATUS_FINE)
        status = fail("close the log", receive->client.dir, error, NULL, NULL);
    print_statistics(receive);
    return status;
}

static int receive_run(const struct command *command, int argc, char **argv)
{
    struct receive receive = { .client = STREAM_CLIENT_INIT, .source.name = "receive" };
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_SKIP_LOST)
            receive.skips_lost = true;
        else if (value == OPTION_FROM)
            receive.from_lsn = take_number("--from", 1, INT64_MAX);
        else
            stream_take_option(&receive.client, value);
    }

    stream_take_operands(argc, argv, "URL", "directory", &receive.client.url, &receive.client.dir);
    return finish_output(stream_command(&receive.client, receive_log));
}

const struct command receive_command = {
    .name = "receive",
    .summary = "append to a log what ship has published to NATS JetStream",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = receive_run,
};
