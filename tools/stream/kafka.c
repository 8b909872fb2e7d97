/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A topic of Kafka, with one partition, as a stream. See stream.h.
 *
 * The records of a batch are one transaction: readers of what is committed see all of them or none. The transactional
 * id is that of the log and the topic: init_transactions() aborts what a dead shipper left open, and fences one that
 * lives. Only then is the last message looked for.
 *
 * The producer tells at which offset each message is. The first one of a session must be where the topic ended when its
 * last message was looked for, and each other one behind the one before, with at most the marker of a commit in
 * between. So a message of another writer is noticed, and an end that a new leader did not know completely: both before
 * the commit, so nothing gets in twice.
 *
 * The library's callbacks run on the user's thread, within its calls.
 */
#define _GNU_SOURCE
#include "id.h"

#include <errno.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH_BYTES (UINT64_C(8) << 20)
#define TIMEOUT_MS 5000
#define SLICE_MS 500 /* to wait for a commit before the user looks whether to stop */
#define PAUSE_MS 50
#define TRANSACTION_TIMEOUT "60000" /* ms; longer than a shipper waits for an acknowledgement */
#define TRANSACTION_TIMEOUT_MS 60000u
#define RECORD_HEADER "Twinlog-Record"

struct kafka_stream {
    struct stream stream;
    const struct stream_target *target;
    rd_kafka_t *producer;
    rd_kafka_t *consumer; /* that looks for the last message */
    rd_kafka_topic_t *topic;
    rd_kafka_message_t *message;        /* the result of last() points to its bytes */
    char reason[STREAM_TEXT_BYTES / 2]; /* the last error that the library told without being asked */
    bool is_refused;                    /* it will not pass */

    bool is_open;   /* a transaction */
    bool is_ending; /* it is to be committed, and takes no more records */
    uint64_t opened_ms;
    uint64_t bytes; /* in it */
    uint64_t published_lsn;
    uint64_t acked_lsn;

    int64_t end;                 /* the offset of the next message */
    bool may_skip;               /* or one more, if the marker of a commit is there */
    bool is_displaced;           /* a message is elsewhere */
    rd_kafka_resp_err_t failure; /* the first of a message */
};

static struct kafka_stream *kafka_of(struct stream *stream)
{
    return (struct kafka_stream *)stream;
}

/* ---- results ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int fail_with(struct kafka_stream *kafka, int result,
                                                           const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(kafka->stream.text, sizeof(kafka->stream.text), format, arguments);
    va_end(arguments);
    return result;
}

/* Also while the machine is suspended: the server's clock goes on. */
static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool is_fence(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR__FENCED || error == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
           error == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

/* Trying again does not help. */
static bool is_refusal(rd_kafka_resp_err_t error)
{
    static const rd_kafka_resp_err_t refusals[] = {
        RD_KAFKA_RESP_ERR__AUTHENTICATION,
        RD_KAFKA_RESP_ERR__INVALID_ARG,
        RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE,
        RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_INVALID_RECORD,
        RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
        RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
        RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
        RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
    };

    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        if (error == refusals[i])
            return true;
    return false;
}

/* The server aborts a transaction that lasts too long, and fences its producer: then no other shipper need be there. */
static int judge_fence(struct kafka_stream *kafka)
{
    if (kafka->is_open && now_ms() - kafka->opened_ms >= TRANSACTION_TIMEOUT_MS)
        return fail_with(kafka, STREAM_LOST, "the server has aborted a transaction that lasted too long");
    return fail_with(kafka, STREAM_FENCED, "another shipper has begun");
}

/* A call of the library has failed. What it was told by the servers meanwhile says more than a timeout. */
static int fail_call(struct kafka_stream *kafka, const char *doing, rd_kafka_resp_err_t error)
{
    char text[STREAM_TEXT_BYTES / 2];

    if (kafka->producer) {
        rd_kafka_poll(kafka->producer, 0);
        rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(kafka->producer, text, sizeof(text));
        if (fatal)
            error = fatal;
    }

    if (kafka->consumer)
        rd_kafka_poll(kafka->consumer, 0);
    if (is_fence(error))
        return judge_fence(kafka);

    return fail_with(kafka, kafka->is_refused || is_refusal(error) ? STREAM_FAILED : STREAM_LOST,
                     "cannot %s at %s: %s%s%s", doing, kafka->target->host, rd_kafka_err2str(error),
                     kafka->reason[0] ? ": " : "", kafka->reason);
}

static int fail_error(struct kafka_stream *kafka, const char *doing, rd_kafka_error_t *error)
{
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);

    rd_kafka_error_destroy(error);
    return fail_call(kafka, doing, code);
}

/* ---- the library's calls ----------------------------------------------------------------------- */

static void note_error(rd_kafka_t *handle, int error, const char *reason, void *context)
{
    struct kafka_stream *kafka = context;

    (void)handle;
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        return; /* comes behind one that says why */

    snprintf(kafka->reason, sizeof(kafka->reason), "%s", reason);
    kafka->is_refused = kafka->is_refused || error == RD_KAFKA_RESP_ERR__AUTHENTICATION;
}

static void take_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *context)
{
    struct kafka_stream *kafka = context;

    (void)handle;
    if (message->err) {
        if (!kafka->failure)
            kafka->failure = message->err;
        return;
    }

    if (message->offset != kafka->end && !(kafka->may_skip && message->offset == kafka->end + 1))
        kafka->is_displaced = true;
    kafka->end = message->offset + 1;
    kafka->may_skip = false;
}

/* ---- opening ----------------------------------------------------------------------------------- */

/* The credentials' settings are the library's own. Its text for a wrong one has the value in it, and is not shown. */
static int set_credentials(struct kafka_stream *kafka, rd_kafka_conf_t *conf)
{
    for (size_t i = 0; i < kafka->target->setting_count; i++) {
        const struct stream_setting *setting = &kafka->target->settings[i];
        rd_kafka_conf_res_t got = rd_kafka_conf_set(conf, setting->name, setting->value, NULL, 0);
        if (got == RD_KAFKA_CONF_UNKNOWN)
            return fail_with(kafka, STREAM_FAILED, "the credentials have an unknown setting '%s'",
                             setting->name);
        if (got != RD_KAFKA_CONF_OK)
            return fail_with(kafka, STREAM_FAILED, "the credentials' setting '%s' has a wrong value",
                             setting->name);
    }

    return STREAM_FINE;
}

/* With the settings of the credentials and then our own: pairs of names and values, and a NULL. */
static int make_handle(struct kafka_stream *kafka, rd_kafka_type_t type, const char *const *settings,
                       rd_kafka_t **ret_handle)
{
    char text[STREAM_TEXT_BYTES / 2];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    int result = set_credentials(kafka, conf);
    for (; !result && *settings; settings += 2)
        if (rd_kafka_conf_set(conf, settings[0], settings[1], text, sizeof(text)) != RD_KAFKA_CONF_OK)
            result = fail_with(kafka, STREAM_FAILED, "%s", text);
    if (!result) {
        rd_kafka_conf_set_log_cb(conf, NULL);
        rd_kafka_conf_set_opaque(conf, kafka);
        rd_kafka_conf_set_error_cb(conf, note_error);
        if (type == RD_KAFKA_PRODUCER)
            rd_kafka_conf_set_dr_msg_cb(conf, take_delivery);
        *ret_handle = rd_kafka_new(type, conf, text, sizeof(text));
        if (!*ret_handle)
            result = fail_with(kafka, STREAM_FAILED, "%s", text);
    }

    if (result)
        rd_kafka_conf_destroy(conf);
    return result;
}

static int make_handles(struct kafka_stream *kafka)
{
    char id[512];
    const char *const of_consumer[] = {
        "bootstrap.servers",
        kafka->target->host,
        "client.id",
        "twinlog ship",
        "isolation.level",
        "read_committed",
        "auto.offset.reset",
        "error", /* never to another place than was asked for */
        "enable.auto.commit",
        "false",
        "enable.partition.eof",
        "true",
        NULL,
    };
    const char *const of_producer[] = {
        "bootstrap.servers",      kafka->target->host, "client.id", "twinlog ship", "transactional.id", id,
        "transaction.timeout.ms", TRANSACTION_TIMEOUT, NULL,
    };

    if ((size_t)snprintf(id, sizeof(id), "twinlog-%s-%s", kafka->target->log_id, kafka->target->name) >=
        sizeof(id))
        return fail_with(kafka, STREAM_FAILED, "the name of the topic is too long");

    int result = make_handle(kafka, RD_KAFKA_CONSUMER, of_consumer, &kafka->consumer);
    if (!result)
        result = make_handle(kafka, RD_KAFKA_PRODUCER, of_producer, &kafka->producer);
    if (result)
        return result;

    kafka->topic = rd_kafka_topic_new(kafka->consumer, kafka->target->name, NULL);
    if (kafka->topic)
        return STREAM_FINE;
    return fail_call(kafka, "use the topic", rd_kafka_last_error());
}

/* The order of messages is that of a partition, so there must be one. */
static int check_topic(struct kafka_stream *kafka)
{
    const struct rd_kafka_metadata *metadata = NULL;

    rd_kafka_resp_err_t error = rd_kafka_metadata(kafka->consumer, 0, kafka->topic, &metadata, TIMEOUT_MS);
    if (error)
        return fail_call(kafka, "ask for the topic", error);

    int count = 0;
    error = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (metadata->topic_cnt == 1) {
        count = metadata->topics[0].partition_cnt;
        error = metadata->topics[0].err;
    }
    rd_kafka_metadata_destroy(metadata);
    if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        return fail_with(kafka, STREAM_LOST, "there is no topic '%s' at %s: make it, with one partition",
                         kafka->target->name, kafka->target->host);
    if (error)
        return fail_call(kafka, "ask for the topic", error);
    if (count != 1)
        return fail_with(kafka, STREAM_FAILED,
                         "the topic '%s' has %d partitions, and only one keeps the order: make one with one",
                         kafka->target->name, count);

    return STREAM_FINE;
}

static int open_topic(struct kafka_stream *kafka)
{
    int result = make_handles(kafka);

    if (!result)
        result = check_topic(kafka);
    if (result)
        return result;

    rd_kafka_error_t *error = rd_kafka_init_transactions(kafka->producer, TIMEOUT_MS);
    if (error)
        return fail_error(kafka, "begin", error);
    return STREAM_FINE;
}

static int kafka_open(const struct stream_target *target, struct stream **ret_stream)
{
    struct kafka_stream *kafka = calloc(1, sizeof(*kafka));

    *ret_stream = NULL;
    if (!kafka)
        return STREAM_FAILED;

    kafka->target = target;
    kafka->stream.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *ret_stream = &kafka->stream;
    if (kafka->stream.event_fd < 0)
        return fail_with(kafka, STREAM_FAILED, "%s", strerror(errno));
    return open_topic(kafka);
}

/* ---- what the topic has ------------------------------------------------------------------------ */

/* The newest message of [first, end) becomes kafka->message. A replica that does not have all of it is waited for. */
static int read_newest(struct kafka_stream *kafka, int64_t first, int64_t end)
{
    int result = STREAM_FINE;

    if (rd_kafka_consume_start(kafka->topic, 0, first))
        return fail_call(kafka, "read the topic", rd_kafka_last_error());

    for (bool is_read = false; !is_read && !result;) {
        rd_kafka_message_t *message = rd_kafka_consume(kafka->topic, 0, TIMEOUT_MS);
        if (!message) {
            result = fail_call(kafka, "read the topic", RD_KAFKA_RESP_ERR__TIMED_OUT);
        } else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            is_read = message->offset >= end;
            rd_kafka_message_destroy(message);
        } else if (message->err) {
            result = fail_call(kafka, "read the topic", message->err);
            rd_kafka_message_destroy(message);
        } else {
            is_read = message->offset + 1 >= end;
            if (kafka->message)
                rd_kafka_message_destroy(kafka->message);
            kafka->message = message;
        }
    }

    rd_kafka_consume_stop(kafka->topic, 0);
    return result;
}

/* The bytes as a string; "" if they do not fit. */
static void copy_text(char *ret_text, size_t room, const void *bytes, size_t length)
{
    if (!bytes || length >= room)
        length = 0;
    if (length)
        memcpy(ret_text, bytes, length);
    ret_text[length] = '\0';
}

static void describe_message(struct kafka_stream *kafka, struct stream_message *message)
{
    char id[STREAM_ID_BYTES];
    char record[STREAM_RECORD_BYTES];
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t length = 0;

    if (rd_kafka_message_headers(kafka->message, &headers) ||
        rd_kafka_header_get_last(headers, RECORD_HEADER, &value, &length))
        length = 0;
    copy_text(id, sizeof(id), kafka->message->key, kafka->message->key_len);
    copy_text(record, sizeof(record), value, length);
    message->is_there = true;
    message->position = (uint64_t)kafka->message->offset + 1;
    stream_parse(id, record, message);
    message->record.data = kafka->message->payload;
    message->record.size = kafka->message->len;
}

/* The end may be markers and aborted messages, so the last message is looked for in growing steps. */
static int kafka_last(struct stream *stream, struct stream_message *ret_message)
{
    struct kafka_stream *kafka = kafka_of(stream);
    int64_t first = 0;
    int64_t end = 0;

    memset(ret_message, 0, sizeof(*ret_message));
    rd_kafka_resp_err_t error =
        rd_kafka_query_watermark_offsets(kafka->consumer, kafka->target->name, 0, &first, &end, TIMEOUT_MS);
    if (error)
        return fail_call(kafka, "ask for the end of the topic", error);

    int64_t unread = end;
    for (int64_t step = 2; unread > first && !kafka->message; step *= 64) {
        int64_t from = first;
        if (step < end - first)
            from = end - step;
        int result = read_newest(kafka, from, unread);
        if (result)
            return result;

        unread = from;
    }

    kafka->end = end;
    if (kafka->message)
        describe_message(kafka, ret_message);
    ret_message->was_there = ret_message->is_there || first > 0;
    ret_message->is_limited = true; /* by the broker's configuration, which may change */
    ret_message->end = (uint64_t)end;
    return STREAM_FINE;
}

/* ---- publishing -------------------------------------------------------------------------------- */

static bool kafka_has_room(struct stream *stream)
{
    struct kafka_stream *kafka = kafka_of(stream);

    return !kafka->is_ending && kafka->bytes < BATCH_BYTES;
}

/* What is under way cannot be committed, and is aborted when the stream is closed. */
static int check_deliveries(struct kafka_stream *kafka)
{
    if (kafka->failure)
        return fail_call(kafka, "publish", kafka->failure);
    if (kafka->is_displaced)
        return fail_with(kafka, STREAM_CONFLICT, "the topic '%s' has a message where one was to go",
                         kafka->target->name);
    return STREAM_FINE;
}

/* For one slice of time; the transaction stays open if that is not enough. */
static int kafka_flush(struct stream *stream)
{
    struct kafka_stream *kafka = kafka_of(stream);

    if (!kafka->is_open)
        return STREAM_FINE;

    kafka->is_ending = true;
    rd_kafka_resp_err_t flushed = rd_kafka_flush(kafka->producer, SLICE_MS);
    int result = check_deliveries(kafka);
    if (result)
        return result;

    rd_kafka_error_t *error = NULL;
    if (!flushed)
        error = rd_kafka_commit_transaction(kafka->producer, SLICE_MS);
    if (flushed || (error && rd_kafka_error_is_retriable(error))) {
        rd_kafka_error_destroy(error);
        rd_kafka_poll(kafka->producer, PAUSE_MS);
        stream_wake(&kafka->stream); /* for another call */
        return STREAM_FINE;
    }

    if (error)
        return fail_error(kafka, "commit", error);

    kafka->is_open = false;
    kafka->is_ending = false;
    kafka->bytes = 0;
    kafka->may_skip = true;
    kafka->acked_lsn = kafka->published_lsn;
    stream_wake(&kafka->stream);
    return STREAM_FINE;
}

static int begin_transaction(struct kafka_stream *kafka)
{
    rd_kafka_error_t *error = rd_kafka_begin_transaction(kafka->producer);

    if (error)
        return fail_error(kafka, "begin a transaction", error);

    kafka->is_open = true;
    kafka->opened_ms = now_ms();
    return STREAM_FINE;
}

/* The records before it are committed, if that goes at once. */
static int refuse_large(struct kafka_stream *kafka, const struct twinlog_record *record)
{
    if (kafka->published_lsn > kafka->acked_lsn)
        kafka_flush(&kafka->stream);
    return fail_with(kafka, STREAM_FAILED,
                     "LSN %" PRIu64
                     " has %zu bytes, and with the headers that is more than message.max.bytes: "
                     "raise it in the credentials and for the topic",
                     record->lsn, record->size);
}

static int kafka_publish(struct stream *stream, const struct twinlog_record *record)
{
    struct kafka_stream *kafka = kafka_of(stream);
    char id[STREAM_ID_BYTES];
    char about[STREAM_RECORD_BYTES];

    int result = STREAM_FINE;
    if (!kafka->is_open)
        result = begin_transaction(kafka);
    if (result)
        return result;

    stream_print_id(id, kafka->target->log_id, record->lsn);
    stream_print_record(about, stream, record, kafka->target->shipper);
    /* An empty value, not none, which a compacted topic takes for a removal. */
    void *bytes = "";
    if (record->size)
        bytes = (void *)(uintptr_t)record->data;
    const rd_kafka_vu_t message[] = {
        { .vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = kafka->target->name },
        { .vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = 0 },
        { .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { id, strlen(id) } },
        { .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { bytes, record->size } },
        { .vtype = RD_KAFKA_VTYPE_HEADER, .u.header = { RECORD_HEADER, about, (ssize_t)strlen(about) } },
        { .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
    };
    rd_kafka_error_t *problem =
        rd_kafka_produceva(kafka->producer, message, sizeof(message) / sizeof(message[0]));
    rd_kafka_resp_err_t error = rd_kafka_error_code(problem);
    rd_kafka_error_destroy(problem);
    if (error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
        return refuse_large(kafka, record);
    if (error)
        return fail_call(kafka, "publish", error);

    kafka->published_lsn = record->lsn;
    kafka->bytes += record->size + strlen(id) + strlen(about);
    return STREAM_FINE;
}

static int kafka_acknowledged(struct stream *stream, uint64_t *ret_lsn, uint64_t *ret_position)
{
    struct kafka_stream *kafka = kafka_of(stream);
    uint64_t count = 0;

    if (!kafka->is_ending) { /* else there is more to do */
        ssize_t bytes = read(stream->event_fd, &count, sizeof(count));
        (void)bytes; /* nothing there */
    }

    *ret_lsn = kafka->acked_lsn;
    *ret_position = 0; /* offsets count markers and aborted messages, too */
    return STREAM_FINE;
}

/* A transaction that is left open would keep its readers waiting. */
static void kafka_close(struct stream *stream)
{
    struct kafka_stream *kafka = kafka_of(stream);

    if (kafka->is_open)
        rd_kafka_error_destroy(rd_kafka_abort_transaction(kafka->producer, SLICE_MS));
    if (kafka->message)
        rd_kafka_message_destroy(kafka->message);
    if (kafka->topic)
        rd_kafka_topic_destroy(kafka->topic);
    if (kafka->consumer)
        rd_kafka_destroy(kafka->consumer);
    if (kafka->producer)
        rd_kafka_destroy(kafka->producer);
    if (kafka->stream.event_fd >= 0)
        close(kafka->stream.event_fd);
    free(kafka);
}

extern const struct stream_module twinlog_stream_module;
const struct stream_module twinlog_stream_module = {
    .version = STREAM_MODULE_VERSION,
    .open = kafka_open,
    .last = kafka_last,
    .has_room = kafka_has_room,
    .publish = kafka_publish,
    .flush = kafka_flush,
    .acknowledged = kafka_acknowledged,
    .close = kafka_close,
};
