/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog ship: publishes the records of a log to a stream on a server, each once, in order, from where the stream
 * ends.
 *
 * Where to go on is said by the stream's last message, not by the cursor: records may be in the stream that the cursor
 * is not moved over yet, or the server may have lost some. The last message is compared with the record of its LSN: if
 * the log has another one, or none, it was truncated behind what was shipped, and nothing more is shipped. The cursor
 * keeps what is not in the stream from being trimmed, and the newest record that is, with which it is compared; it is
 * moved once a second.
 *
 * Beside the cursor it keeps what the stream had then (mark.h). So it notices a stream that has lost messages, was
 * emptied or made anew. Where messages are to go, by age or because they were taken, the number of those that came
 * behind the mark says which record was the last one.
 *
 * A session lasts from the opening of the stream to its loss; the next one looks again where the stream ends. After a
 * conflict one record at a time is published until one is acknowledged. If the stream's last message is another
 * shipper's, and one of ours was acknowledged before, the other one has taken over, and this one ends. Before the
 * first acknowledgement the other one may be dead, with messages still on their way; so that is tried a few times.
 */
#define _GNU_SOURCE
#include "../json.h"
#include "../opening.h"
#include "../options.h"
#include "../stop.h"
#include "../when.h"
#include "mark.h"
#include "stream.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <twinlog_admin.h>
#include <unistd.h>

static const char about[] =
    "Usage: twinlog ship DIR nats://HOST[:PORT]/SUBJECT [options]\n"
    "       twinlog ship DIR kafka://HOST[:PORT]/TOPIC [options]\n"
    "\n"
    "Publishes the records of the log in DIR to a stream of NATS JetStream or a topic of Kafka:\n"
    "each once, in the order of the LSNs, from where the stream ends, and then each new one. May\n"
    "be killed and started again at any time, and so may the server. Another process may be\n"
    "writing the log. Give each log a stream of its own. One of JetStream is made if none has the\n"
    "subject. A topic of Kafka must be there, and have one partition. tls://HOST/SUBJECT is NATS\n"
    "over TLS.\n";

static const struct option_row option_rows[] = {
    { OPTION_CURSOR, "cursor", "NAME",
      "the named cursor that keeps from trims what is not shipped yet (default ship). One process at a time has it" },
    { OPTION_ONCE, "once", NULL, "end when everything that is there was shipped; do not wait for more" },
    { OPTION_WAIT, "wait", "T",
      "give up when nothing was acknowledged for so long, and the server cannot be reached (default: 30s with --once, "
      "else never)" },
    { OPTION_SKIP_TRIMMED, "skip-trimmed", NULL,
      "go on although the stream lacks records for good, as they were trimmed before they were shipped, or removed "
      "from the stream, instead of ending with status 3" },
    { OPTION_REPLICAS, "replicas", "N",
      "of a JetStream stream that is made because none has the subject (default 1)" },
    { OPTION_CREDENTIALS, "credentials", "FILE",
      "a file of lines NAME=VALUE that other users may not read (default: the environment's TWINLOG_CREDENTIALS)" },
    { OPTION_JSON, "json", NULL, "at the end, print statistics as one JSON object" },
    { OPTION_QUIET, "quiet", NULL, "print neither progress nor notes, only errors" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "SIGINT, SIGTERM and SIGHUP end it with status 0, after what was published is acknowledged.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation failed; 2 wrong usage; 3 acknowledged data is damaged,\n"
    "or log and stream do not fit: the log was truncated behind what was shipped, or trimmed\n"
    "before it was shipped, or the stream has lost what it had, or messages between others, also\n"
    "if these could be published again; 4 another shipper publishes to the stream; 5 this twinlog\n"
    "was built without what speaks to such a server.\n"
    "\n"
    "Example: ship what there is, and look how fast that was\n"
    "  twinlog ship orders nats://127.0.0.1/orders --once --json\n";

#define COMMIT_MS 1000u
#define LOOK_MS 5000u     /* between two looks whether log and stream are still there */
#define SILENCE_MS 30000u /* without any acknowledgement: the server is taken for lost */
#define MOST_LOOKS 200u   /* for a record that the log does not show yet */
#define MOST_RIVALS 5u    /* messages of another shipper before ours, before one of ours was acknowledged */

/* Between two looks at what was acknowledged. */
#define BATCH_RECORDS 4096u
enum batch_end {
    BATCH_IS_WHOLE,    /* there may be more records */
    BATCH_HAD_NO_ROOM, /* too many are under way */
    BATCH_WAS_LAST     /* there are no more for now */
};

struct ship {
    struct stream_client
        client; /* it counts what was published, also that of a session that was lost; has acknowledged LSNs */
    bool skips_trimmed;
    struct twinlog *log; /* read-only, for the cursor and single records */
    struct twinlog_consumer *consumer;
    struct stat place;     /* the log's directory */
    struct ship_mark mark; /* as it was saved last */

    /* this session */
    bool is_careful;        /* one record at a time */
    uint64_t published_lsn; /* the newest, or the newest in the stream when the session began */
    uint64_t acked_lsn;     /* the same of those that the server has */
    uint64_t acked_position;
    struct stream_front front; /* the newest published record; LSN and salt are 0 where that is not known */
    uint64_t front_since_lsn;  /* from this record on they have that salt */
    bool is_idle;              /* before this moment nothing was under way */
    uint64_t committed_lsn;    /* that the cursor was moved to */
    uint64_t next_commit_ns;
    uint64_t next_look_ns; /* whether log and stream are still there */
    uint64_t heard_ns;     /* the last acknowledgement, or when there was nothing to be acknowledged */

    /* all sessions */
    bool has_acked;         /* a record of this process */
    uint64_t seen_position; /* of the stream's last message */
    uint64_t rivals;
    uint64_t trimmed_records;           /* that the stream lacks for good */
    uint64_t passed_lsn;                /* of the mark, or of a gap that this session has passed */
    uint64_t whole_from, whole_removed; /* of the mark, or of a reading of this session */
    bool has_found_gap;
    uint64_t told_gap_lsn; /* the newest gap that was told begins with this record */
};

static void note(const struct ship *ship, const char *text)
{
    if (!ship->client.is_quiet)
        complain("note: %s", text);
}

/* ---- what log and stream have ------------------------------------------------------------------ */

static uint64_t first_kept(const struct ship *ship)
{
    uint64_t first = twinlog_first_lsn(ship->log);

    if (first)
        return first;
    return twinlog_last_lsn(ship->log) + 1;
}

static int complain_truncated(struct ship *ship, uint64_t shipped)
{
    uint64_t last = twinlog_last_lsn(ship->log);

    if (last < shipped)
        complain("the log was truncated behind what was shipped: it ends with LSN %" PRIu64
                 ", and the stream has LSN %" PRIu64 ". Nothing more is shipped; begin another stream.",
                 last, shipped);
    else
        complain(
            "the log was truncated behind what was shipped: the stream has another record of LSN %" PRIu64
            ". Nothing more is shipped; begin another stream.",
            shipped);
    return stream_finish(&ship->client, STATUS_DAMAGED);
}

static bool has_writer(const struct ship *ship)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;

    return twinlog_inspect(ship->client.dir, &inspection) == 0 && inspection.has_writer;
}

/* The record without its bytes, if `room` is too small for them; -ENOBUFS then. While a writer opens the log, readers
 * may see its newest records a moment later than others have seen them. */
static int read_record(struct ship *ship, uint64_t lsn, void *bytes, size_t room,
                       struct twinlog_record *ret_record)
{
    int error = twinlog_read(ship->log, lsn, bytes, room, ret_record);

    for (unsigned i = 0; i < MOST_LOOKS && error == -ERANGE; i++) {
        if (!has_writer(ship) || !stop_sleep(STREAM_PAUSE_MS))
            break;
        error = twinlog_read(ship->log, lsn, bytes, room, ret_record);
    }
    return error;
}

static int pass_unknown(struct ship *ship, uint64_t lsn)
{
    ship->front = (struct stream_front){ 0 };
    complain("LSN %" PRIu64
             ", the last one that was shipped, was trimmed: nothing shows that what follows is of the same "
             "history.%s",
             lsn, ship->skips_trimmed ? "" : " To go on with it, use --skip-trimmed.");
    if (ship->skips_trimmed)
        return STREAM_FINE;
    return stream_finish(&ship->client, STATUS_DAMAGED);
}

static int judge_shipped(struct ship *ship, uint64_t lsn, int error, bool is_same)
{
    if (error == 0 && is_same)
        return STREAM_FINE;
    if (error == TWINLOG_ETRIMMED)
        return pass_unknown(ship, lsn);
    if (error == 0 || error == -ERANGE || is_no_record(error))
        return complain_truncated(ship, lsn);
    return stream_finish(&ship->client, fail("read the log", ship->client.dir, error, NULL, NULL));
}

/* Is the stream's last message the record that the log has? */
static int compare_last(struct ship *ship, const struct stream_message *last)
{
    struct twinlog_record record = { 0 };
    void *bytes = NULL;

    if (first_kept(ship) > last->lsn + 1)
        return STREAM_FINE; /* pass_trimmed() tells */

    int error = read_record(ship, last->lsn, NULL, 0, &record);
    if (error == -ENOBUFS) {
        size_t room = record.size;
        bytes = malloc(room);
        error = -ENOMEM;
        if (bytes)
            error = twinlog_read(ship->log, last->lsn, bytes, room, &record);
    }

    bool is_same = record.salt == last->record.salt && stream_is_same_record(&record, &last->record);
    int result = judge_shipped(ship, last->lsn, error, error == 0 && is_same);
    free(bytes);
    return result;
}

/* The same without a message. */
static int compare_salt(struct ship *ship, uint64_t lsn, uint32_t salt)
{
    struct twinlog_record record = { 0 };

    int error = read_record(ship, lsn, NULL, 0, &record);
    if (error == -ENOBUFS) /* there is no room for the bytes, which are not needed */
        error = 0;
    return judge_shipped(ship, lsn, error, record.salt == salt);
}

static int compare_mark(struct ship *ship)
{
    const struct ship_mark *mark = &ship->mark;

    if (mark->lsn == 0 || mark->salt == 0 || first_kept(ship) > mark->lsn + 1)
        return STREAM_FINE;
    return compare_salt(ship, mark->lsn, mark->salt);
}

/* Records are not in the stream, and cannot be published any more. `one` and `many` say why. */
static int pass_lost(struct ship *ship, uint64_t first_lsn, uint64_t last_lsn, const char *one,
                     const char *many)
{
    char lsns[LSNS_TEXT_BYTES];
    uint64_t count = last_lsn - first_lsn + 1;
    const char *why = count == 1 ? one : many;

    describe_lsns(lsns, first_lsn, last_lsn);
    stream_note_lost(&ship->client, first_lsn, last_lsn);
    ship->trimmed_records += count;
    if (!ship->skips_trimmed) {
        complain("%s (%" PRIu64 " record%s) %s. To go on with what follows, use --skip-trimmed.", lsns, count,
                 plural(count), why);
        return stream_finish(&ship->client, STATUS_DAMAGED);
    }

    complain("%s (%" PRIu64 " record%s) %s: going on with what follows.", lsns, count, plural(count), why);
    return STREAM_FINE;
}

/* Records are gone between what was shipped and the oldest kept one. The next record tells it. */
static int pass_trimmed(struct ship *ship, uint64_t shipped, uint64_t first)
{
    struct stream *stream = ship->client.stream;
    int result = pass_lost(ship, shipped + 1, first - 1, "was trimmed before it was shipped",
                           "were trimmed before they were shipped");

    if (!result)
        result = ship->client.module->flush(stream); /* a record that is held back may tell of others */
    ship->front = (struct stream_front){ 0 };
    stream->lost_first_lsn = shipped + 1;
    stream->lost_last_lsn = first - 1;
    stream->told_lsn = 0;
    return result;
}

static int pass_removed(struct ship *ship, uint64_t first_lsn, uint64_t last_lsn)
{
    return pass_lost(ship, first_lsn, last_lsn, "was shipped, and has been removed from the stream",
                     "were shipped, and have been removed from the stream");
}

static int complain_replaced(struct ship *ship)
{
    complain("'%s' is another log than at the start: nothing of it is shipped", ship->client.dir);
    return stream_finish(&ship->client, STATUS_DAMAGED);
}

static int get_log_id(const struct ship *ship, char ret_id[LOG_ID_BYTES])
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;

    int error = twinlog_inspect(ship->client.dir, &inspection);
    if (error)
        return fail("look at the log", ship->client.dir, error, &inspection.report, NULL);

    for (size_t i = 0; i < sizeof(inspection.log_id); i++)
        snprintf(ret_id + 2 * i, 3, "%02x", inspection.log_id[i]);
    return STATUS_FINE;
}

/* After an opening by the path: is it still the log with the id that goes into the messages? */
static int check_log_id(struct ship *ship)
{
    char log_id[LOG_ID_BYTES] = "";

    int status = get_log_id(ship, log_id);
    if (status != STATUS_FINE)
        return stream_finish(&ship->client, status);
    if (strcmp(log_id, ship->client.target.log_id) == 0)
        return STREAM_FINE;
    return complain_replaced(ship);
}

static int open_consumer(struct ship *ship)
{
    struct twinlog_consumer_options options = TWINLOG_CONSUMER_OPTIONS_INIT;

    options.flags = TWINLOG_CONSUMER_DURABLE; /* a stream must not have what a power cut takes from the log */
    options.ret_report = &ship->client.report;
    int error = twinlog_consumer_open(ship->client.dir, ship->client.cursor, &options, &ship->consumer);
    if (!error)
        return check_log_id(ship);

    ship->consumer = NULL;
    return stream_finish(&ship->client,
                         fail("follow the log", ship->client.dir, error, &ship->client.report,
                              error == -EBUSY ? "Another process ships from this cursor." : NULL));
}

/* Which directory is at the path, before anything in it is opened. */
static void note_place(struct ship *ship)
{
    if (stat(ship->client.dir, &ship->place) < 0)
        ship->place = (struct stat){ 0 }; /* the opening says why, or the next look begins another session */
}

/* An open handle stays with the files that it has opened, and a new consumer takes those at the path: both must see the
 * same ones, also after a backup was put there. */
static int open_log_again(struct ship *ship)
{
    twinlog_close(ship->log);
    ship->log = NULL;
    note_place(ship);
    int status = open_beside_writer(ship->client.dir, &ship->log);
    if (status == STATUS_FINE)
        return check_log_id(ship);
    return stream_finish(&ship->client, status);
}

static int write_mark(struct ship *ship)
{
    int error = save_ship_mark(ship->log, ship->client.cursor, ship->client.target.name, &ship->mark);
    if (error)
        return stream_fail_log(&ship->client, "set a value in", error);
    return STREAM_FINE;
}

/* Remembers what the stream has up to that LSN, the newest message of which is or was at that position. */
static int save_mark(struct ship *ship, uint64_t position, uint64_t lsn, uint64_t first_lsn)
{
    const struct ship_mark *old = &ship->mark;

    const bool is_same_range = old->position == position && old->lsn == lsn && old->first_lsn == first_lsn;
    const bool is_same_reading = old->passed_lsn == ship->passed_lsn && old->whole_from == ship->whole_from &&
                                 old->whole_removed == ship->whole_removed;

    if (old->is_there && is_same_range && is_same_reading)
        return STREAM_FINE;

    ship->mark = (struct ship_mark){ .is_there = true,
                                     .position = position,
                                     .lsn = lsn,
                                     .salt = ship->front.salt,
                                     .newest_salt = ship->front.salt,
                                     .first_lsn = first_lsn,
                                     .passed_lsn = ship->passed_lsn,
                                     .whole_from = ship->whole_from,
                                     .whole_removed = ship->whole_removed };
    return write_mark(ship);
}

/* Puts the consumer in front of the last record that the stream has. `shipped` is 0 for a stream that has nothing. */
static int place_consumer(struct ship *ship, const struct stream_message *last, uint64_t shipped)
{
    struct stream *stream = ship->client.stream;
    uint64_t cursor = 0;
    uint64_t first = first_kept(ship);

    stream->front = ship->front;
    ship->front_since_lsn = 0;
    if (shipped > 0 && first > shipped + 1) {
        int result = pass_trimmed(ship, shipped, first);
        if (result)
            return result;
    }

    uint64_t wanted = shipped;
    if (first > shipped + 1)
        wanted = first - 1;

    uint64_t first_lsn = wanted + 1;
    if (last->first_lsn)
        first_lsn = last->first_lsn;
    else if (last->is_there && ship->mark.is_there)
        first_lsn = ship->mark.first_lsn;

    uint64_t position = 0;
    if (last->is_counted)
        position = last->end;
    int result = save_mark(ship, position, wanted, first_lsn);
    if (result)
        return result;

    int error = twinlog_cursor_get(ship->log, ship->client.cursor, &cursor);
    ship->published_lsn = wanted;
    ship->acked_lsn = wanted;
    ship->committed_lsn = wanted;
    ship->acked_position = ship->mark.position;

    uint64_t before = 0;
    if (wanted > first)
        before = wanted - 1;
    if (!error && cursor == before && ship->client.sessions == 1)
        return STREAM_FINE; /* the consumer was opened there, and has not read yet */

    twinlog_consumer_close(ship->consumer);
    ship->consumer = NULL;
    error = twinlog_cursor_set(ship->log, ship->client.cursor, before);
    if (error)
        return stream_fail_log(&ship->client, "move the cursor in", error);
    return open_consumer(ship);
}

/* Decides what the last message means. */
static int judge_last(struct ship *ship, const struct stream_message *last)
{
    if (last->is_there && (last->lsn == 0 || strcmp(last->log_id, ship->client.target.log_id) != 0)) {
        complain("the last message of the stream is %s: give each log a stream of its own",
                 last->lsn ? "a record of another log" : "no record of a log");
        return stream_finish(&ship->client, STATUS_DAMAGED);
    }

    bool is_foreign = last->is_there && strcmp(last->shipper, ship->client.target.shipper) != 0;
    bool has_grown = ship->client.sessions > 1 && last->position > ship->seen_position;
    ship->seen_position = last->position;
    if (is_foreign && ship->has_acked && last->lsn >= ship->client.last_lsn)
        return STREAM_FENCED; /* not an older one, that is newest because the server lost ours */
    if (!is_foreign || ship->client.last_result != STREAM_CONFLICT || !has_grown)
        return STREAM_FINE;

    ship->rivals++;
    if (ship->rivals > MOST_RIVALS)
        return STREAM_FENCED;
    return STREAM_FINE;
}

/* So many records behind that one went into the stream before they were removed from it: which is the last of them? The
 * newest salt that was published must still be there, at that one or behind it: else they were truncated since. */
static int pass_records(struct ship *ship, uint64_t count, uint64_t *lsn)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;
    const uint64_t from = *lsn;
    const uint32_t newest_salt = ship->mark.newest_salt;
    bool is_proven = count == 0 || newest_salt == 0;

    options.from_lsn = from + 1;
    options.flags = TWINLOG_READER_DURABLE;
    options.ret_report = &ship->client.report;
    int error = twinlog_reader_attach(ship->log, &options, &reader);
    int got = error;
    while (!error && (count > 0 || !is_proven)) {
        got = twinlog_reader_next(reader, &record);
        if (got <= 0)
            break;

        if (count > 0) {
            *lsn = record.lsn;
            ship->front = (struct stream_front){ record.lsn, record.salt };
            count--;
        }

        if (count == 0 && record.salt == newest_salt)
            is_proven = true;
    }

    twinlog_reader_close(reader);
    if (count == 0 && is_proven)
        return STREAM_FINE;
    if (count == 0 && got == 0)
        return complain_truncated(ship, *lsn);
    if (got < 0 && got != TWINLOG_ETRIMMED)
        return stream_fail_log(&ship->client, "read the log", got);

    complain(
        "messages came to the stream behind LSN %" PRIu64 " and were removed from it, %" PRIu64
        " more than the log has records: it was trimmed or truncated, or something else publishes to the "
        "stream. Nothing more is shipped; begin another stream.",
        from, count);
    return stream_finish(&ship->client, STATUS_DAMAGED);
}

/* There is no message, but there were some. */
static int judge_emptied(struct ship *ship, const struct stream_message *last, uint64_t *ret_shipped)
{
    const struct ship_mark *mark = &ship->mark;

    if (!mark->is_there) {
        int error = twinlog_cursor_get(ship->log, ship->client.cursor, ret_shipped);
        note(ship, "all messages were removed from the stream: going on behind the cursor");
        if (error)
            return stream_fail_log(&ship->client, "read the cursor in", error);
        return STREAM_FINE;
    }

    *ret_shipped = mark->lsn;
    if (mark->salt)
        ship->front = (struct stream_front){ mark->lsn, mark->salt };
    int result = compare_mark(ship);
    if (!result && last->is_counted)
        result = pass_records(ship, last->end - mark->position, ret_shipped);
    if (!result && !last->is_limited && *ret_shipped >= mark->first_lsn)
        result = pass_removed(ship, mark->first_lsn, *ret_shipped);
    return result;
}

/* There never was a message. If records were shipped, the server has lost them, or the stream was made anew. */
static int judge_new(struct ship *ship, uint64_t *ret_shipped)
{
    const struct ship_mark *mark = &ship->mark;
    const uint64_t first = first_kept(ship);

    if (!mark->is_there || mark->lsn < mark->first_lsn) {
        if (first > 1)
            note(ship, "the stream is empty, and begins with the oldest record that the log has kept");
        return STREAM_FINE;
    }

    int result = compare_mark(ship);
    if (result)
        return result;

    *ret_shipped = max_u64(first, mark->first_lsn) - 1;
    if (first > mark->first_lsn)
        return pass_removed(ship, mark->first_lsn, first - 1);

    note(ship, "all messages were lost with the stream: they are published again");
    return STREAM_FINE;
}

/* The log has them still. What is behind them is published again, too: the order of the LSNs is the stream's. */
static void publish_again(struct ship *ship, const struct stream_gap *gap, uint64_t *ret_shipped)
{
    char lsns[LSNS_TEXT_BYTES];
    const uint64_t count = gap->last_lsn - gap->first_lsn + 1;

    describe_lsns(lsns, gap->first_lsn, gap->last_lsn);
    if (ship->told_gap_lsn != gap->first_lsn)
        complain(
            "%s (%" PRIu64
            " record%s) %s missing in the middle of the stream, which has lost messages: all from LSN %" PRIu64
            " on is published again.",
            lsns, count, plural(count), count == 1 ? "is" : "are", gap->first_lsn);
    ship->told_gap_lsn = gap->first_lsn; /* another session may begin before it is mended */
    ship->has_found_gap = true;
    *ret_shipped = gap->before.lsn;
    ship->front = gap->before;
}

/* Messages are missing between others: of which records? Their number alone would not say that there are new ones: the
 * stream may have removed old gaps with its first messages. So it is read, unless it begins where it did when it was
 * read before. */
static int judge_gaps(struct ship *ship, const struct stream_message *last, uint64_t *ret_shipped)
{
    const uint64_t first_lsn = first_kept(ship);
    const bool was_read = ship->whole_from == last->first_position && ship->whole_removed == last->removed;
    int result = STREAM_FINE;

    if (was_read)
        return STREAM_FINE;

    while (!result && last->removed > 0) {
        struct stream_gap gap = { 0 };
        result = ship->client.module->find_gap(ship->client.stream, ship->passed_lsn, &gap);
        if (result)
            return result;
        if (gap.first_lsn == 0) {
            ship->whole_from = last->first_position;
            ship->whole_removed = last->removed;
            return STREAM_FINE;
        }
        if (first_lsn <= gap.last_lsn) {
            publish_again(ship, &gap, ret_shipped);
            return STREAM_FINE;
        }

        result = pass_removed(ship, gap.first_lsn, gap.last_lsn);
        ship->passed_lsn = gap.last_lsn;
    }

    return result;
}

/* Up to which LSN has the stream had the log? */
static int judge_stream(struct ship *ship, const struct stream_message *last, uint64_t *ret_shipped)
{
    const struct ship_mark *mark = &ship->mark;
    const bool has_shrunk = mark->is_there && last->end < mark->position && last->is_counted;
    const bool is_new = !last->was_there || has_shrunk;

    *ret_shipped = last->lsn;
    ship->front = (struct stream_front){ last->lsn, last->record.salt };
    if (!last->is_there) {
        if (is_new)
            return judge_new(ship, ret_shipped);
        return judge_emptied(ship, last, ret_shipped);
    }

    int result = compare_last(ship, last);
    if (result)
        return result;

    const bool is_removed = mark->is_there && last->first_lsn > mark->first_lsn;
    if (is_removed && !last->is_limited)
        result = pass_removed(ship, mark->first_lsn, last->first_lsn - 1);
    if (result)
        return result;
    return judge_gaps(ship, last, ret_shipped);
}

static int load_mark(struct ship *ship)
{
    int error = load_ship_mark(ship->log, ship->client.cursor, ship->client.target.name, &ship->mark);

    ship->passed_lsn = ship->mark.passed_lsn;
    ship->whole_from = ship->mark.whole_from;
    ship->whole_removed = ship->mark.whole_removed;
    if (!error)
        return STREAM_FINE;
    if (error != -EEXIST)
        return stream_fail_log(&ship->client, "read a value of", error);

    complain("the log has a value '%s' that is not ship's: name another cursor with --cursor",
             ship->client.cursor);
    return stream_finish(&ship->client, STATUS_FAILED);
}

static int begin_session(struct ship *ship)
{
    struct stream_message last;
    uint64_t shipped = 0;

    int result = ship->client.module->open(&ship->client.target, &ship->client.stream);
    if (!result)
        result = ship->client.module->last(ship->client.stream, &last);
    if (!result)
        result = judge_last(ship, &last);
    if (!result && ship->client.sessions > 1)
        result = open_log_again(ship);
    if (!result)
        result = load_mark(ship);
    if (!result)
        result = judge_stream(ship, &last, &shipped);
    if (!result)
        result = place_consumer(ship, &last, shipped);
    return result;
}

/* ---- publishing -------------------------------------------------------------------------------- */

/* The log has lost records that were shipped or were to be. */
static int take_loss(struct ship *ship, int error)
{
    if (error == TWINLOG_ETRUNCATED)
        return complain_truncated(ship, ship->published_lsn);
    if (error == TWINLOG_ETRIMMED && ship->client.report.first_lsn > ship->published_lsn + 1)
        return pass_trimmed(ship, ship->published_lsn, ship->client.report.first_lsn);
    if (error == TWINLOG_ETRIMMED)
        return STREAM_FINE; /* records that are in the stream */
    return stream_fail_log(&ship->client, "read the log", error);
}

static bool has_room(const struct ship *ship)
{
    return (!ship->is_careful || ship->published_lsn == ship->acked_lsn) &&
           ship->client.module->has_room(ship->client.stream);
}

static int publish_record(struct ship *ship, const struct twinlog_record *record)
{
    const struct stream_front front = ship->front;
    int result = STREAM_FINE;

    /* A truncation begins another salt, and the consumer does not tell one that was trimmed since. */
    if (front.lsn && front.salt != record->salt)
        result = compare_salt(ship, front.lsn, front.salt);
    if (result)
        return result;
    if (record->lsn < ship->published_lsn)
        return complain_replaced(ship);

    ship->front = (struct stream_front){ record->lsn, record->salt };
    if (front.lsn == 0 || front.salt != record->salt) {
        ship->front_since_lsn = record->lsn;
        ship->mark.newest_salt = record->salt;
        result = write_mark(ship);
    }

    if (result)
        return result;
    if (record->lsn == ship->published_lsn) {
        ship->client.stream->front = ship->front;
        return STREAM_FINE;
    }

    if (ship->client.stream->lost_last_lsn > 0 && ship->client.stream->told_lsn == 0)
        ship->client.stream->told_lsn = record->lsn;
    result = ship->client.module->publish(ship->client.stream, record);
    if (result)
        return result;
    if (ship->published_lsn == ship->acked_lsn)
        ship->heard_ns = monotonic_ns(); /* until now there was nothing to hear */
    if (ship->is_idle)                   /* else this may be another attempt */
        ship->client.proven_ns = ship->heard_ns;
    ship->is_idle = false;
    ship->published_lsn = record->lsn;
    ship->client.records++;
    ship->client.bytes += record->size;
    if (!ship->client.began_ns)
        ship->client.began_ns = monotonic_ns();
    return STREAM_FINE;
}

/* Publishes a batch, as far as there is room for it. */
static int publish_batch(struct ship *ship, enum batch_end *ret_end)
{
    struct twinlog_record record;

    *ret_end = BATCH_IS_WHOLE;
    for (unsigned i = 0; i < BATCH_RECORDS && !stop_signal(); i++) {
        if (!has_room(ship)) {
            *ret_end = BATCH_HAD_NO_ROOM;
            return STREAM_FINE;
        }

        int result = 0;
        int got = twinlog_consumer_next(ship->consumer, &record);
        if (got == 0) {
            *ret_end = BATCH_WAS_LAST;
            return STREAM_FINE;
        }

        if (got < 0)
            result = take_loss(ship, got);
        else
            result = publish_record(ship, &record);
        if (result)
            return result;
    }

    return STREAM_FINE;
}

static void note_success(struct ship *ship)
{
    clear_failures(ship->client.dir, ship->client.cursor, &ship->client.failures);
}

static void take_acknowledgement(struct ship *ship, uint64_t lsn, uint64_t position)
{
    uint64_t now_ns = monotonic_ns();

    if (lsn > ship->acked_lsn) {
        if (!ship->client.first_lsn)
            ship->client.first_lsn = ship->acked_lsn + 1;
        ship->acked_lsn = lsn;
        ship->client.last_lsn = lsn;
        ship->acked_position = position;
        ship->heard_ns = now_ns;
        ship->client.proven_ns = now_ns;
        ship->client.ended_ns = now_ns;
        ship->has_acked = true;
        note_success(ship);
        ship->is_careful = false;
    } else if (ship->acked_lsn == ship->published_lsn) {
        ship->heard_ns = now_ns;
        ship->client.proven_ns = now_ns;
    }
}

static int move_cursor(struct ship *ship)
{
    /* the mark gets the salt of what was acknowledged */
    if (ship->acked_lsn == ship->committed_lsn || ship->acked_lsn < ship->front_since_lsn)
        return STREAM_FINE;
    int result = save_mark(ship, ship->acked_position, ship->acked_lsn, ship->mark.first_lsn);
    if (result)
        return result;

    int error = 0;
    if (ship->acked_lsn > 1)
        error = twinlog_consumer_commit(ship->consumer, ship->acked_lsn - 1);
    if (error == TWINLOG_ETRUNCATED)
        return complain_truncated(ship, ship->acked_lsn);
    if (error && error != TWINLOG_ETRIMMED) /* trimmed behind the stream: next says what is missing */
        return stream_fail_log(&ship->client, "move the cursor in", error);

    ship->committed_lsn = ship->acked_lsn;
    ship->next_commit_ns = monotonic_ns() + COMMIT_MS * UINT64_C(1000000);
    return STREAM_FINE;
}

static void report_progress(const struct ship *ship)
{
    double seconds = (double)(monotonic_ns() - ship->client.began_ns) / 1e9;

    show_progress("LSN %" PRIu64 " acknowledged, %" PRIu64 " under way, %.0f records/s", ship->acked_lsn,
                  ship->published_lsn - ship->acked_lsn, (double)ship->client.records / (seconds + 1e-9));
}

/* Until something is due: a look at the stream, a line of progress, or a move of the cursor. */
static int longest_wait_ms(const struct ship *ship)
{
    const bool is_over = ship->is_idle && ship->acked_lsn == ship->committed_lsn;

    if (is_over)
        return (int)LOOK_MS;
    if (isatty(STDERR_FILENO))
        return 200;
    return (int)COMMIT_MS;
}

/* Waits for records (unless there is no room for them), for acknowledgements, for a signal, or until something is
 * due. */
static int wait_for_work(struct ship *ship, bool wants_records)
{
    struct pollfd fds[] = {
        { .fd = ship->client.stream->event_fd, .events = POLLIN },
        { .fd = -1, .events = POLLIN },
        { .fd = -1, .events = POLLIN },
    };

    ship->is_idle = ship->acked_lsn == ship->published_lsn;
    if (!stop_signal())
        fds[1].fd = stop_fd();
    if (wants_records && !stop_signal()) {
        fds[2].fd = twinlog_reader_fd(twinlog_consumer_reader(ship->consumer));
        if (fds[2].fd < 0)
            return stream_fail_log(&ship->client, "wait for more in", fds[2].fd);
    }

    const int count = poll(fds, sizeof(fds) / sizeof(fds[0]), longest_wait_ms(ship));
    if (count < 0 && errno != EINTR)
        return stream_fail_log(&ship->client, "wait for more in", -errno);
    return STREAM_FINE;
}

static int check_silence(struct ship *ship)
{
    if (monotonic_ns() - ship->heard_ns < SILENCE_MS * UINT64_C(1000000))
        return STREAM_FINE;
    snprintf(ship->client.stream->text, sizeof(ship->client.stream->text),
             "the server has acknowledged nothing for %u s", SILENCE_MS / 1000);
    return STREAM_LOST;
}

/* Is the log still at its path? An open handle stays with one that got another name. */
static int look_at_log(struct ship *ship)
{
    struct stat named;

    if (stat(ship->client.dir, &named) == 0 && is_same_file(&named, &ship->place))
        return STREAM_FINE;
    snprintf(ship->client.stream->text, sizeof(ship->client.stream->text),
             "'%s' is another directory than before", ship->client.dir);
    return STREAM_LOST;
}

/* While nothing is under way: is what was acknowledged still there? */
static int look_around(struct ship *ship)
{
    const struct stream_module *module = ship->client.module;
    const uint64_t now_ns = monotonic_ns();

    if (ship->acked_lsn != ship->published_lsn || now_ns < ship->next_look_ns)
        return STREAM_FINE;

    ship->next_look_ns = now_ns + LOOK_MS * UINT64_C(1000000);
    int result = look_at_log(ship);
    if (!result && module->look)
        result = module->look(ship->client.stream);
    return result;
}

/* One round: publish, look what was acknowledged, wait. Fine: another round. */
static int run_round(struct ship *ship)
{
    enum batch_end end = BATCH_IS_WHOLE;
    uint64_t acked = 0;
    uint64_t position = 0;

    int result = publish_batch(ship, &end);
    if (!result)
        result = ship->client.module->flush(ship->client.stream);
    int other = ship->client.module->acknowledged(ship->client.stream, &acked, &position);
    take_acknowledgement(ship, acked, position); /* also what was acknowledged before a failure */
    if (!result)
        result = other;
    if (!result)
        result = check_silence(ship);
    if (!result && monotonic_ns() >= ship->next_commit_ns)
        result = move_cursor(ship);
    if (!result)
        result = look_around(ship);
    if (result)
        return result;
    if (end == BATCH_WAS_LAST && ship->acked_lsn == ship->published_lsn)
        note_success(ship);
    bool is_over = stop_signal() || (!ship->client.is_following && end == BATCH_WAS_LAST);
    if (is_over && ship->acked_lsn == ship->published_lsn)
        return stream_finish(&ship->client, STATUS_FINE);
    if (!ship->client.is_quiet && ship->client.began_ns && is_progress_due())
        report_progress(ship);

    const bool may_go_on = end == BATCH_IS_WHOLE || (end == BATCH_HAD_NO_ROOM && has_room(ship));
    if (!stop_signal() && may_go_on)
        return STREAM_FINE;
    return wait_for_work(ship, end == BATCH_WAS_LAST && !is_over);
}

/* ---- sessions ---------------------------------------------------------------------------------- */

static int run_session(struct stream_client *client)
{
    struct ship *ship = (struct ship *)client;
    bool has_begun = false;

    ship->is_careful = ship->is_careful || client->sessions == 1 || client->last_result == STREAM_CONFLICT;
    int result = begin_session(ship);
    has_begun = result == STREAM_FINE;
    ship->is_idle = false;
    ship->heard_ns = monotonic_ns();
    while (result == STREAM_FINE)
        result = run_round(ship);
    bool is_sound = result != SESSION_FINISHED || client->status == STATUS_FINE;
    if (result == STREAM_LOST && has_begun && ship->acked_lsn == ship->published_lsn)
        client->proven_ns = monotonic_ns();
    if (ship->consumer && is_sound && move_cursor(ship))
        result = SESSION_FINISHED;
    return result;
}

/* ---- the command ------------------------------------------------------------------------------- */

static void print_statistics(const struct ship *ship)
{
    if (!stream_begin_statistics(&ship->client, "Shipped", "published_records", "published_bytes"))
        return;
    json_number("trimmed_records", ship->trimmed_records);
    json_number("conflicts", ship->client.conflicts);
    stream_end_statistics(&ship->client);
}

/* The id of the log, and a word by which this process knows its messages. */
static int identify(struct ship *ship)
{
    unsigned char bytes[(SHIPPER_BYTES - 1) / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        return fail_start(-errno);

    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(ship->client.target.shipper + 2 * i, 3, "%02x", bytes[i]);
    return get_log_id(ship, ship->client.target.log_id);
}

static int ship_log(struct stream_client *client)
{
    struct ship *ship = (struct ship *)client;
    int status = identify(ship);

    note_place(ship);
    if (status == STATUS_FINE)
        status = open_beside_writer(ship->client.dir, &ship->log);
    if (status != STATUS_FINE)
        return status;

    if (open_consumer(ship))
        status = ship->client.status;
    else
        status = stream_run(&ship->client, run_session);
    twinlog_consumer_close(ship->consumer);
    print_statistics(ship);
    if (status == STATUS_FINE && ship->has_found_gap)
        status = STATUS_DAMAGED; /* all is there now, and receivers may have met the gap */
    return close_log(ship->log, ship->client.dir, status);
}

static int ship_run(const struct command *command, int argc, char **argv)
{
    struct ship ship = { .client = STREAM_CLIENT_INIT };
    int value = 0;

    ship.client.cursor = "ship";
    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_CURSOR)
            ship.client.cursor = take_name("--cursor");
        else if (value == OPTION_SKIP_TRIMMED)
            ship.skips_trimmed = true;
        else if (value == OPTION_REPLICAS)
            ship.client.target.replicas = (unsigned)take_number("--replicas", 1, 5);
        else
            stream_take_option(&ship.client, value);
    }

    stream_take_operands(argc, argv, "directory", "URL", &ship.client.dir, &ship.client.url);
    return finish_output(stream_command(&ship.client, ship_log));
}

const struct command ship_command = {
    .name = "ship",
    .summary = "publish the records to a stream of NATS JetStream or Kafka",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = ship_run,
};
