/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NATS JetStream as a stream. See stream.h.
 *
 * Every message says which sequence number the stream's newest message must have (Nats-Expected-Last-Sequence): that
 * of the message before. So a message that got lost keeps out all that come behind it, no message gets in twice, and
 * one of another shipper keeps ours out. Because of that only some messages ask for an acknowledgement, one in
 * ACK_EVERY and the last before a pause: the server took those before it, too. No message has a Nats-Msg-Id: a server
 * that remembers those would refuse a record that is published again because its message was lost.
 *
 * The client library does not connect again by itself: it would send what it had buffered. The shipper opens the stream
 * again, and looks what it has.
 *
 * Acknowledgements come on a thread of the library, which shares what is tagged [lock] with the user's thread.
 */
#define _GNU_SOURCE
#include "id.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define ACK_EVERY 256u
#define ACK_EVERY_BYTES (256u << 10)
#define WINDOW_MESSAGES 16384u
#define WINDOW_BYTES (UINT64_C(8) << 20)
#define TIMEOUT_MS 5000
#define IO_BYTES (256 << 10) /* a socket is written to so seldom that it costs little */
#define HEADER_BYTES 400u    /* more than all headers have */

struct nats_stream {
    struct stream stream;
    const struct stream_target *target;
    natsOptions *options;
    natsConnection *connection;
    jsCtx *js;
    natsSubscription *acks;
    natsSubscription *messages; /* of a receiver */
    char *inbox;
    char *name;       /* of the stream */
    natsMsg *message; /* the last result of last() or next() points to its bytes */

    /* [user] a record that was taken, and is sent when it is known whether another one follows at once */
    struct twinlog_record held;
    char *held_bytes;
    size_t held_room;
    uint64_t sequence; /* of the newest message sent, or of the stream's when it was opened */
    uint64_t removed;  /* messages between others, when the stream was opened */
    uint64_t bytes;    /* sent, in all */
    uint64_t unasked, unasked_bytes;

    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool has_closed;              /* [lock] the connection; no callback comes any more */
    bool has_completed;           /* [lock] the subscription to acknowledgements: the same */
    uint64_t acked_sequence;      /* [lock] */
    uint64_t acked_bytes;         /* [lock] */
    uint64_t acked_lsn;           /* [lock] */
    int result;                   /* [lock] the first that was not fine */
    char text[STREAM_TEXT_BYTES]; /* [lock] of it */
};

static struct nats_stream *nats_of(struct stream *stream)
{
    return (struct nats_stream *)stream;
}

/* ---- results ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int fail_with(struct nats_stream *nats, int result,
                                                           const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(nats->stream.text, sizeof(nats->stream.text), format, arguments);
    va_end(arguments);
    return result;
}

/* What to do about the commonest failures; NULL for others. */
static const char *advice_for(natsStatus status, uint64_t code)
{
    switch (code) {
    case JSNotEnabledErr:
    case JSNotEnabledForAccountErr:
        return "JetStream is off there, or not for this account: start nats-server with -js, or enable it for the "
               "account";
    case JSStreamStoreFailedErr:
        return "the stream is full, or cannot be written: raise its limits, or let it discard what is old";
    case JSInsufficientResourcesErr:
    case JSStorageResourcesExceededErr:
    case JSAccountResourcesExceededErr:
        return "the storage of JetStream is used up: raise the limit of the server or the account";
    case JSClusterNoPeersErr:
    case JSStreamReplicasNotSupportedErr:
        return "so many servers are not there: give --replicas less, or make the stream yourself";
    default:
        break;
    }
    switch (status) {
    case NATS_NO_SERVER:
    case NATS_TIMEOUT:
        return "no server answers: is it running, and is the address right?";
    case NATS_CONNECTION_AUTH_FAILED:
        return "the server refuses the credentials: name a file with a valid user, token or creds with --credentials";
    case NATS_NOT_PERMITTED:
        return "the user lacks a permission: docs/stream.md has those that are needed";
    case NATS_SECURE_CONNECTION_WANTED:
        return "the server has no TLS: configure it there, or write nats:// in the URL";
    case NATS_SSL_ERROR:
        return "TLS fails: the credentials must have ca=FILE with the authority of the server's certificate, and the "
               "URL a name that is in it";
    case NATS_NO_RESPONDERS:
        return "the server has no JetStream, or it is not ready: start nats-server with -js";
    default:
        return NULL;
    }
}

/* Refusals that pass by themselves, as when servers of a cluster are started again, or with the next session: a stream
 * that was removed is made anew then. */
static bool may_pass(jsErrCode code)
{
    switch (code) {
    case JSClusterIncompleteErr:
    case JSClusterNotAssignedErr:
    case JSClusterNotAvailErr:
    case JSClusterNotLeaderErr:
    case JSInsufficientResourcesErr:
    case JSRaftGeneralErr:
    case JSPeerRemapErr:
    case JSStreamOfflineErr:
    case JSStreamNotFoundErr:
        return true;
    default:
        return false;
    }
}

static int noted_result(struct nats_stream *nats)
{
    pthread_mutex_lock(&nats->lock);
    int result = nats->result;
    if (result)
        memcpy(nats->stream.text, nats->text, sizeof(nats->text));
    pthread_mutex_unlock(&nats->lock);
    return result;
}

/* Failures that are not those of a server which is away. */
static bool is_refusal(natsStatus status)
{
    switch (status) {
    case NATS_CONNECTION_AUTH_FAILED:
    case NATS_NOT_PERMITTED:
    case NATS_SSL_ERROR:
    case NATS_SECURE_CONNECTION_REQUIRED:
    case NATS_SECURE_CONNECTION_WANTED:
    case NATS_INVALID_ARG:
    case NATS_ILLEGAL_STATE:
        return true;
    default:
        return false;
    }
}

/* "WHAT" or "WHAT: MORE". `more` may be NULL, or empty. */
static void join_words(char ret_text[STREAM_TEXT_BYTES], const char *what, const char *more)
{
    const bool has_more = more && *more;

    if (has_more)
        snprintf(ret_text, STREAM_TEXT_BYTES, "%s: %s", what, more);
    else
        snprintf(ret_text, STREAM_TEXT_BYTES, "%s", what);
}

/* A call of the library has failed. What the server has said meanwhile says more than a timeout. */
static int fail_status(struct nats_stream *nats, const char *doing, natsStatus status, jsErrCode code)
{
    const char *what = natsStatus_GetText(status);
    const char *more = nats_GetLastError(NULL);
    const char *advice = advice_for(status, code);
    const char *host = nats->target->host;
    char words[STREAM_TEXT_BYTES];
    int result = STREAM_LOST;
    int noted = STREAM_FINE;

    if (status == NATS_TIMEOUT)
        noted = noted_result(nats);
    if (noted)
        return noted;

    const bool is_final = is_refusal(status) || (code && !may_pass(code));
    if (is_final)
        result = STREAM_FAILED;

    if (more && strstr(more, what)) /* the same words again */
        more = NULL;
    join_words(words, what, more);
    if (advice)
        return fail_with(nats, result, "cannot %s at %s: %s (NATS: %s)", doing, host, advice, words);
    return fail_with(nats, result, "cannot %s at %s: %s", doing, host, words);
}

/* From the library's thread. */
static void note_result(struct nats_stream *nats, int result, const char *text)
{
    pthread_mutex_lock(&nats->lock);
    if (nats->result == STREAM_FINE) {
        nats->result = result;
        snprintf(nats->text, sizeof(nats->text), "%s", text);
    }

    pthread_mutex_unlock(&nats->lock);
    stream_wake(&nats->stream);
}

/* ---- acknowledgements -------------------------------------------------------------------------- */

/* The number behind "NAME": in JSON. */
static bool find_number(const char *json, const char *name, uint64_t *ret_number)
{
    const char *found = strstr(json, name);

    if (!found)
        return false;

    found += strlen(name);
    found += strspn(found, " ");
    if (!isdigit((unsigned char)*found))
        return false;

    *ret_number = strtoull(found, NULL, 10);
    return true;
}

static void refuse(struct nats_stream *nats, const char *json)
{
    const char *description = strstr(json, "\"description\":\"");
    uint64_t code = 0;
    uint64_t status = 0;
    char text[STREAM_TEXT_BYTES];

    find_number(json, "\"err_code\":", &code);
    find_number(json, "\"code\":", &status);
    if (description)
        description += 15;
    else
        description = json;

    const char *advice = advice_for(NATS_OK, code);
    const int length = (int)strcspn(description, "\"");
    if (advice)
        snprintf(text, sizeof(text), "the server refuses a message: %s (NATS: %.*s, %" PRIu64 ")", advice,
                 length, description, code);
    else
        snprintf(text, sizeof(text), "the server refuses a message (NATS: %.*s, %" PRIu64 ")", length,
                 description, code);

    const bool is_away = status == 503;
    if (code == JSStreamWrongLastSequenceErr)
        note_result(nats, STREAM_CONFLICT, text);
    else if (is_away)
        note_result(nats, STREAM_LOST, text);
    else
        note_result(nats, STREAM_FAILED, text);
}

/* The subject that an acknowledgement comes to ends with what it is for: ".SEQUENCE.LSN.BYTES". */
static bool parse_reply(const char *subject, size_t prefix, uint64_t numbers[3])
{
    if (strlen(subject) <= prefix)
        return false;

    subject += prefix;
    for (unsigned i = 0; i < 3; i++) {
        char *end = NULL;
        if (*subject != '.' || !isdigit((unsigned char)subject[1]))
            return false;
        numbers[i] = strtoull(subject + 1, &end, 10);
        subject = end;
    }

    return *subject == '\0';
}

static void take_acknowledgement(natsConnection *connection, natsSubscription *subscription, natsMsg *message,
                                 void *context)
{
    struct nats_stream *nats = context;
    uint64_t numbers[3] = { 0 };
    uint64_t sequence = 0;
    char json[1024];

    (void)connection;
    (void)subscription;
    int length = natsMsg_GetDataLength(message);
    if (length > 0)
        snprintf(json, sizeof(json), "%.*s", length, natsMsg_GetData(message));
    if (!parse_reply(natsMsg_GetSubject(message), strlen(nats->inbox), numbers)) {
        natsMsg_Destroy(message);
        return;
    }

    if (natsMsg_IsNoResponders(message)) {
        note_result(nats, STREAM_LOST, "no stream has the subject any more, or JetStream is away");
    } else if (length <= 0 || strstr(json, "\"error\":")) {
        refuse(nats, length > 0 ? json : "");
    } else if (!find_number(json, "\"seq\":", &sequence) || sequence != numbers[0]) {
        note_result(nats, STREAM_CONFLICT, "the server has put a message in another place of the stream");
    } else {
        pthread_mutex_lock(&nats->lock);
        if (sequence > nats->acked_sequence && nats->result == STREAM_FINE) {
            nats->acked_sequence = sequence;
            nats->acked_lsn = numbers[1];
            nats->acked_bytes = numbers[2];
        }

        pthread_mutex_unlock(&nats->lock);
        stream_wake(&nats->stream);
    }

    natsMsg_Destroy(message);
}

static void note_closed(natsConnection *connection, void *context)
{
    struct nats_stream *nats = context;
    const char *host = nats->target->host;
    const char *reason = NULL;
    char text[STREAM_TEXT_BYTES];

    natsConnection_GetLastError(connection, &reason);
    const bool has_reason = reason && *reason;
    if (has_reason)
        snprintf(text, sizeof(text), "the connection to %s was lost (NATS: %s)", host, reason);
    else
        snprintf(text, sizeof(text), "the connection to %s was lost", host);
    note_result(nats, STREAM_LOST, text);
    pthread_mutex_lock(&nats->lock);
    nats->has_closed = true;
    pthread_cond_signal(&nats->ended);
    pthread_mutex_unlock(&nats->lock);
}

static void note_completed(void *context)
{
    struct nats_stream *nats = context;

    pthread_mutex_lock(&nats->lock);
    nats->has_completed = true;
    pthread_cond_signal(&nats->ended);
    pthread_mutex_unlock(&nats->lock);
}

/* What the server says without being asked, as that publishing is not permitted. */
static void note_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                       void *context)
{
    struct nats_stream *nats = context;
    const char *what = natsStatus_GetText(status);
    const char *advice = advice_for(status, 0);
    const char *reason = NULL;
    char text[STREAM_TEXT_BYTES];

    (void)subscription;
    natsConnection_GetLastError(connection, &reason);
    const bool has_reason = reason && *reason;
    if (!advice)
        advice = "the server reports an error";
    if (has_reason)
        snprintf(text, sizeof(text), "%s (NATS: %s: %s)", advice, what, reason);
    else
        snprintf(text, sizeof(text), "%s (NATS: %s)", advice, what);

    if (status == NATS_NOT_PERMITTED)
        note_result(nats, STREAM_FAILED, text);
    else
        note_result(nats, STREAM_LOST, text);
}

/* ---- opening ----------------------------------------------------------------------------------- */

static const char *setting(const struct stream_target *target, const char *name)
{
    for (size_t i = 0; i < target->setting_count; i++)
        if (strcmp(target->settings[i].name, name) == 0)
            return target->settings[i].value;
    return NULL;
}

static const char *unknown_setting(const struct stream_target *target)
{
    static const char *const known[] = { "user", "password", "token", "creds", "tls", "ca", "cert", "key" };

    for (size_t i = 0; i < target->setting_count; i++) {
        bool is_known = false;
        for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
            is_known = is_known || strcmp(target->settings[i].name, known[j]) == 0;
        if (!is_known)
            return target->settings[i].name;
    }

    return NULL;
}

static natsStatus set_credentials(struct nats_stream *nats)
{
    const struct stream_target *target = nats->target;
    const char *user = setting(target, "user");
    const char *token = setting(target, "token");
    const char *creds = setting(target, "creds");
    const char *ca = setting(target, "ca");
    const char *certificate = setting(target, "cert");
    const char *tls = setting(target, "tls");
    natsStatus status = NATS_OK;

    if (user) {
        const char *password = setting(target, "password");
        if (!password)
            password = "";
        status = natsOptions_SetUserInfo(nats->options, user, password);
    }

    if (status == NATS_OK && token)
        status = natsOptions_SetToken(nats->options, token);
    if (status == NATS_OK && creds)
        status = natsOptions_SetUserCredentialsFromFiles(nats->options, creds, NULL);

    const bool wants_tls = ca || certificate || (tls && strcmp(tls, "true") == 0);
    if (status == NATS_OK && wants_tls)
        status = natsOptions_SetSecure(nats->options, true);
    if (status == NATS_OK && ca)
        status = natsOptions_LoadCATrustedCertificates(nats->options, ca);
    if (status == NATS_OK && certificate)
        status = natsOptions_LoadCertificatesChain(nats->options, certificate, setting(target, "key"));
    return status;
}

static int connect_to_server(struct nats_stream *nats)
{
    char url[512];
    const char *unknown = unknown_setting(nats->target);

    if (unknown)
        return fail_with(nats, STREAM_FAILED, "the credentials have an unknown setting '%s'", unknown);

    const char *tls = setting(nats->target, "tls");
    if (tls && strcmp(tls, "true") != 0 && strcmp(tls, "false") != 0)
        return fail_with(nats, STREAM_FAILED, "in the credentials, tls is neither true nor false");
    if ((size_t)snprintf(url, sizeof(url), "nats://%s", nats->target->host) >= sizeof(url))
        return fail_with(nats, STREAM_FAILED, "the name of the host is too long");

    natsStatus status = natsOptions_Create(&nats->options);
    if (status == NATS_OK)
        status = natsOptions_SetURL(nats->options, url);
    if (status == NATS_OK)
        status = natsOptions_SetAllowReconnect(nats->options, false);
    if (status == NATS_OK)
        status = natsOptions_SetTimeout(nats->options, TIMEOUT_MS);
    if (status == NATS_OK)
        status = natsOptions_SetIOBufSize(nats->options, IO_BYTES);
    if (status == NATS_OK)
        status = natsOptions_SetWriteDeadline(nats->options, 30000);
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(nats->options, 10000);
    if (status == NATS_OK)
        status =
            natsOptions_SetName(nats->options, nats->target->log_id[0] ? "twinlog ship" : "twinlog receive");
    if (status == NATS_OK)
        status = natsOptions_SetClosedCB(nats->options, note_closed, nats);
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(nats->options, note_error, nats);
    if (status == NATS_OK)
        status = set_credentials(nats);
    if (status == NATS_OK)
        status = natsConnection_Connect(&nats->connection, nats->options);
    if (status == NATS_OK)
        status = natsConnection_JetStream(&nats->js, nats->connection, NULL);
    if (status == NATS_OK)
        return STREAM_FINE;
    return fail_status(nats, "connect", status, 0);
}

/* The stream that has the subject; nats->name stays NULL where there is none. */
static int find_stream(struct nats_stream *nats)
{
    char question[512];
    natsMsg *answer = NULL;

    snprintf(question, sizeof(question), "{\"subject\":\"%s\"}", nats->target->name);
    natsStatus status =
        natsConnection_RequestString(&answer, nats->connection, "$JS.API.STREAM.NAMES", question, TIMEOUT_MS);
    if (status != NATS_OK)
        return fail_status(nats, "ask for the stream", status, 0);

    char *json = strndup(natsMsg_GetData(answer), (size_t)natsMsg_GetDataLength(answer));
    natsMsg_Destroy(answer);
    char *name = NULL;
    if (json)
        name = strstr(json, "\"streams\":");
    if (name) {
        name += 10;
        name += strspn(name, " ");
        if (name[0] == '[' && name[1] == '"')
            nats->name = strndup(name + 2, strcspn(name + 2, "\""));
    }

    bool is_refused = json && strstr(json, "\"error\":");
    free(json);
    if (is_refused)
        return fail_with(nats, STREAM_LOST, "JetStream at %s is not ready", nats->target->host);
    return STREAM_FINE;
}

/* With one subject, in a file. */
static int make_stream(struct nats_stream *nats)
{
    jsStreamConfig config;
    jsErrCode code = 0;
    const char *subjects[] = { nats->target->name };

    nats->name = strdup(nats->target->name);
    if (!nats->name)
        return fail_with(nats, STREAM_FAILED, "out of memory");

    for (char *c = nats->name; *c; c++)
        if (*c == '.')
            *c = '_';
    natsStatus status = jsStreamConfig_Init(&config);
    config.Name = nats->name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Replicas = nats->target->replicas;
    if (status == NATS_OK)
        status = js_AddStream(NULL, nats->js, &config, NULL, &code);
    if (status == NATS_OK)
        return STREAM_FINE;
    return fail_status(nats, "make a stream", status, code);
}

static int open_stream(struct nats_stream *nats)
{
    char subject[256];

    int result = connect_to_server(nats);
    if (!result)
        result = find_stream(nats);
    if (!result && !nats->name) {
        if (!nats->target->log_id[0])
            return fail_with(nats, STREAM_FAILED, "no stream at %s has the subject '%s'", nats->target->host,
                             nats->target->name);

        result = make_stream(nats);
    }

    if (result || !nats->target->log_id[0])
        return result;

    natsStatus status = natsInbox_Create(&nats->inbox);
    if (status == NATS_OK) {
        snprintf(subject, sizeof(subject), "%s.>", nats->inbox);
        status = natsConnection_Subscribe(&nats->acks, nats->connection, subject, take_acknowledgement, nats);
    }

    if (status == NATS_OK)
        status = natsSubscription_SetOnCompleteCB(nats->acks, note_completed, nats);
    if (status == NATS_OK)
        return STREAM_FINE;
    return fail_status(nats, "subscribe", status, 0);
}

static int nats_open(const struct stream_target *target, struct stream **ret_stream)
{
    struct nats_stream *nats = calloc(1, sizeof(*nats));
    pthread_condattr_t attributes;

    *ret_stream = NULL;
    if (!nats)
        return STREAM_FAILED;

    nats->target = target;
    pthread_mutex_init(&nats->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&nats->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    nats->stream.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *ret_stream = &nats->stream;
    if (nats->stream.event_fd < 0)
        return fail_with(nats, STREAM_FAILED, "%s", strerror(errno));
    return open_stream(nats);
}

/* ---- what the stream has ----------------------------------------------------------------------- */

/* Gives nats->message to the caller. */
static void describe_message(struct nats_stream *nats, struct stream_message *message)
{
    const char *id = NULL;
    const char *record = NULL;

    natsMsgHeader_Get(nats->message, "Twinlog-Id", &id);
    natsMsgHeader_Get(nats->message, "Twinlog-Record", &record);
    message->is_there = true;
    stream_parse(id, record, message);
    message->record.data = natsMsg_GetData(nats->message);
    message->record.size = (size_t)natsMsg_GetDataLength(nats->message);
}

/* The message at that position becomes nats->message. NATS_NOT_FOUND: it was removed. */
static natsStatus get_message(struct nats_stream *nats, uint64_t position, struct stream_message *ret_message)
{
    jsErrCode code = 0;

    memset(ret_message, 0, sizeof(*ret_message));
    natsMsg_Destroy(nats->message);
    nats->message = NULL;
    natsStatus status = js_GetMsg(&nats->message, nats->js, nats->name, position, NULL, &code);
    if (status == NATS_OK)
        describe_message(nats, ret_message);
    if (code == JSNoMessageFoundErr)
        return NATS_NOT_FOUND;
    return status;
}

/* Does the stream remove messages by itself? */
static bool is_limited(const jsStreamConfig *config)
{
    if (config->Retention != js_LimitsPolicy || config->AllowRollup)
        return true;
    if (config->MaxAge > 0 || config->MaxMsgsPerSubject > 0)
        return true;
    return config->Discard == js_DiscardOld && (config->MaxMsgs > 0 || config->MaxBytes > 0);
}

struct state {
    uint64_t first, last; /* sequences */
    uint64_t removed;     /* between them; 0 where a stream removes such messages by itself */
    bool is_limited;
};

/* Does the stream remove messages between others? */
static bool has_gaps(const jsStreamConfig *config)
{
    return config->Retention != js_LimitsPolicy || config->AllowRollup || config->MaxMsgsPerSubject > 0;
}

static int get_state(struct nats_stream *nats, struct state *ret_state)
{
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus status = js_GetStreamInfo(&info, nats->js, nats->name, NULL, &code);

    if (status != NATS_OK)
        return fail_status(nats, "ask for the state of the stream", status, code);

    const jsStreamState *state = &info->State;
    uint64_t positions = 0;
    if (state->Msgs)
        positions = state->LastSeq - state->FirstSeq + 1;
    *ret_state = (struct state){ .first = state->FirstSeq,
                                 .last = state->LastSeq,
                                 .is_limited = is_limited(info->Config) };
    if (positions > state->Msgs && !has_gaps(info->Config))
        ret_state->removed = positions - state->Msgs;
    jsStreamInfo_Destroy(info);
    return STREAM_FINE;
}

/* The state comes first: a message that gets in between is then one that ours do not expect. The last message is looked
 * for from the end, because messages may have been removed there: the server's "last message" is then none. */
static int nats_last(struct stream *stream, struct stream_message *ret_message)
{
    struct nats_stream *nats = nats_of(stream);
    natsStatus status = NATS_NOT_FOUND;
    struct state state;
    uint64_t first_lsn = 0;

    memset(ret_message, 0, sizeof(*ret_message));
    int result = get_state(nats, &state);
    if (result)
        return result;

    const uint64_t first = state.first;
    nats->sequence = state.last;
    nats->removed = state.removed;
    if (first > 0 && first <= nats->sequence && get_message(nats, first, ret_message) == NATS_OK)
        first_lsn = ret_message->lsn;
    memset(ret_message, 0, sizeof(*ret_message));
    nats->acked_sequence = nats->sequence; /* nothing is under way, so the lock is not needed */
    for (uint64_t position = nats->sequence; position >= first && position > 0 && status == NATS_NOT_FOUND;
         position--) {
        status = get_message(nats, position, ret_message);
        ret_message->position = 0;
        if (status == NATS_OK)
            ret_message->position = position;
    }

    if (status != NATS_OK && status != NATS_NOT_FOUND)
        return fail_status(nats, "get the last message", status, 0);

    ret_message->was_there = nats->sequence > 0;
    ret_message->is_limited = state.is_limited;
    ret_message->first_position = state.first;
    ret_message->removed = state.removed;
    ret_message->is_counted = true;
    ret_message->end = nats->sequence;
    ret_message->first_lsn = first_lsn;
    return STREAM_FINE;
}

/* ---- publishing -------------------------------------------------------------------------------- */

static int hold(struct nats_stream *nats, const struct twinlog_record *record)
{
    if (nats->held_room < record->size) {
        char *bytes = realloc(nats->held_bytes, record->size);
        if (!bytes)
            return fail_with(nats, STREAM_FAILED, "out of memory");
        nats->held_bytes = bytes;
        nats->held_room = record->size;
    }

    if (record->size)
        memcpy(nats->held_bytes, record->data, record->size);
    nats->held = *record;
    return STREAM_FINE;
}

static natsStatus set_headers(struct nats_stream *nats, natsMsg *message)
{
    char expected[24];
    char id[STREAM_ID_BYTES];
    char record[STREAM_RECORD_BYTES];

    snprintf(expected, sizeof(expected), "%" PRIu64, nats->sequence);
    stream_print_id(id, nats->target->log_id, nats->held.lsn);
    stream_print_record(record, &nats->stream, &nats->held, nats->target->shipper);
    natsStatus status = natsMsgHeader_Set(message, "Twinlog-Id", id);
    if (status == NATS_OK)
        status = natsMsgHeader_Set(message, "Nats-Expected-Last-Sequence", expected);
    if (status == NATS_OK)
        status = natsMsgHeader_Set(message, "Twinlog-Record", record);
    return status;
}

/* Sends the record that is held. */
static int send_held(struct nats_stream *nats, bool asks)
{
    char reply[256];
    natsMsg *message = NULL;
    uint64_t size = nats->held.size + HEADER_BYTES;

    asks = asks || nats->unasked + 1 >= ACK_EVERY || nats->unasked_bytes + size >= ACK_EVERY_BYTES;
    if (asks)
        snprintf(reply, sizeof(reply), "%s.%" PRIu64 ".%" PRIu64 ".%" PRIu64, nats->inbox, nats->sequence + 1,
                 nats->held.lsn, nats->bytes + size);
    natsStatus status = natsMsg_Create(&message, nats->target->name, asks ? reply : NULL, nats->held_bytes,
                                       (int)nats->held.size);
    if (status == NATS_OK)
        status = set_headers(nats, message);
    if (status == NATS_OK)
        status = natsConnection_PublishMsg(nats->connection, message);
    natsMsg_Destroy(message);
    if (status != NATS_OK)
        return fail_status(nats, "publish", status, 0);

    nats->held.lsn = 0;
    nats->sequence++;
    nats->bytes += size;
    if (asks) {
        nats->unasked = 0;
        nats->unasked_bytes = 0;
    } else {
        nats->unasked++;
        nats->unasked_bytes += size;
    }
    return STREAM_FINE;
}

static int nats_flush(struct stream *stream)
{
    struct nats_stream *nats = nats_of(stream);

    if (nats->held.lsn)
        return send_held(nats, true);
    return STREAM_FINE;
}

static bool nats_has_room(struct stream *stream)
{
    struct nats_stream *nats = nats_of(stream);

    pthread_mutex_lock(&nats->lock);
    bool has_room = nats->sequence - nats->acked_sequence < WINDOW_MESSAGES &&
                    nats->bytes - nats->acked_bytes < WINDOW_BYTES;
    pthread_mutex_unlock(&nats->lock);
    return has_room;
}

static int nats_publish(struct stream *stream, const struct twinlog_record *record)
{
    struct nats_stream *nats = nats_of(stream);

    int64_t largest = natsConnection_GetMaxPayload(nats->connection);
    if (largest > 0 && record->size + HEADER_BYTES > (uint64_t)largest)
        return fail_with(nats, STREAM_FAILED,
                         "LSN %" PRIu64 " has %zu bytes, and the server takes %" PRId64
                         " with the headers: raise its max_payload",
                         record->lsn, record->size, largest);
    int result = STREAM_FINE;
    if (nats->held.lsn)
        result = send_held(nats, false);
    if (result)
        return result;
    return hold(nats, record);
}

static int nats_acknowledged(struct stream *stream, uint64_t *ret_lsn, uint64_t *ret_position)
{
    struct nats_stream *nats = nats_of(stream);
    uint64_t count = 0;
    ssize_t bytes = read(stream->event_fd, &count, sizeof(count));

    (void)bytes; /* nothing there */
    pthread_mutex_lock(&nats->lock);
    *ret_lsn = nats->acked_lsn;
    *ret_position = nats->acked_sequence;
    pthread_mutex_unlock(&nats->lock);
    return noted_result(nats);
}

/* ---- receiving --------------------------------------------------------------------------------- */

/* The newest position of a record that is not behind `lsn`, by halves; the first one where there is none. What cannot
 * be asked makes it earlier, never later. */
static int find_position(struct nats_stream *nats, uint64_t lsn, uint64_t *ret_position)
{
    struct state state;
    struct stream_message message;

    int result = get_state(nats, &state);
    if (result)
        return result;

    uint64_t first = state.first;
    uint64_t last = state.last;
    *ret_position = 1;
    if (first > 0)
        *ret_position = first;
    while (first <= last && last > 0) {
        uint64_t middle = first + (last - first) / 2;
        natsStatus status = get_message(nats, middle, &message);
        if (status != NATS_OK && status != NATS_NOT_FOUND)
            return fail_status(nats, "get a message", status, 0);
        if (status == NATS_OK && message.lsn <= lsn) {
            *ret_position = middle;
            first = middle + 1;
        } else {
            last = middle - 1;
        }
    }

    return STREAM_FINE;
}

/* The server sends no more of them. Without this it would go on, and the library keep what nobody takes. */
static void end_messages(struct nats_stream *nats)
{
    natsSubscription_Destroy(nats->messages);
    nats->messages = NULL;
}

/* From a position on; the headers alone, or the whole messages. */
static int subscribe(struct nats_stream *nats, uint64_t position, bool only_headers)
{
    jsSubOptions options;
    jsErrCode code = 0;

    end_messages(nats); /* of an earlier position */
    natsStatus status = jsSubOptions_Init(&options);
    options.Stream = nats->name;
    options.Ordered = true;
    options.Config.DeliverPolicy = js_DeliverByStartSequence;
    options.Config.OptStartSeq = position;
    options.Config.HeadersOnly = only_headers;
    if (status == NATS_OK)
        status = js_SubscribeSync(&nats->messages, nats->js, nats->target->name, NULL, &options, &code);
    if (status == NATS_OK)
        status = natsSubscription_SetPendingLimits(nats->messages, -1, -1); /* the server paces itself */
    if (status == NATS_OK)
        return STREAM_FINE;
    return fail_status(nats, "subscribe", status, code);
}

static int nats_seek(struct stream *stream, uint64_t lsn)
{
    struct nats_stream *nats = nats_of(stream);
    uint64_t position = 0;

    int result = find_position(nats, lsn, &position);
    if (result)
        return result;
    return subscribe(nats, position, false);
}

static int nats_next(struct stream *stream, int timeout_ms, struct stream_message *ret_message)
{
    struct nats_stream *nats = nats_of(stream);
    jsMsgMetaData *meta = NULL;

    memset(ret_message, 0, sizeof(*ret_message));
    natsMsg_Destroy(nats->message);
    nats->message = NULL;
    natsStatus status = natsSubscription_NextMsg(&nats->message, nats->messages, timeout_ms);
    if (status == NATS_TIMEOUT) {
        int result = noted_result(nats);
        if (result)
            return result;
        return STREAM_AGAIN;
    }

    if (status == NATS_OK)
        status = natsMsg_GetMetaData(&meta, nats->message);
    if (status != NATS_OK)
        return fail_status(nats, "receive", status, 0);

    ret_message->position = meta->Sequence.Stream;
    jsMsgMetaData_Destroy(meta);
    describe_message(nats, ret_message);
    return STREAM_FINE;
}

/* ---- messages that are missing ------------------------------------------------------------------ */

/* One message of a whole reading. What does not continue what came before is passed: it may come once more. */
static void take_header(const struct stream_message *message, uint64_t passed_lsn, struct stream_gap *gap)
{
    struct stream_front *before = &gap->before;
    const uint64_t front_lsn = message->front.lsn;

    if (message->lsn <= before->lsn)
        return;

    const bool continues = before->lsn == 0 || front_lsn == 0 || front_lsn <= before->lsn;
    if (continues || message->lsn <= passed_lsn + 1) {
        *before = (struct stream_front){ message->lsn, message->record.salt };
        gap->first_lsn = 0;
        gap->last_lsn = 0;
    } else if (gap->first_lsn == 0) {
        gap->first_lsn = before->lsn + 1;
        gap->last_lsn = message->lsn - 1;
    }
}

static int nats_find_gap(struct stream *stream, uint64_t passed_lsn, struct stream_gap *ret_gap)
{
    struct nats_stream *nats = nats_of(stream);
    struct stream_message message = { 0 };
    struct state state;

    *ret_gap = (struct stream_gap){ 0 };
    int result = get_state(nats, &state);
    if (!result)
        result = subscribe(nats, state.first, true);
    uint64_t end = state.last;
    while (!result && end >= state.first && get_message(nats, end, &message) == NATS_NOT_FOUND)
        end--;
    message.position = 0;
    while (!result && message.position < end) {
        result = nats_next(stream, TIMEOUT_MS, &message);
        if (result == STREAM_AGAIN)
            result = fail_with(nats, STREAM_LOST, "%s does not give all messages of the stream",
                               nats->target->host);
        if (!result)
            take_header(&message, passed_lsn, ret_gap);
    }

    end_messages(nats);
    return result;
}

static int nats_look(struct stream *stream)
{
    struct nats_stream *nats = nats_of(stream);
    struct state state = { 0 };

    int result = get_state(nats, &state);
    if (result)
        return result;
    if (state.removed > nats->removed || state.last < nats->sequence)
        return fail_with(nats, STREAM_LOST, "the stream has lost messages");

    nats->removed = state.removed; /* a stream that removes its first messages has fewer */
    return STREAM_FINE;
}

/* The library has not said of both that no call comes any more. */
static bool may_be_called(const struct nats_stream *nats)
{
    if (nats->connection && !nats->has_closed)
        return true;
    return nats->acks && !nats->has_completed;
}

/* Ends the library's calls into this stream. False where that has not happened in time. */
static bool end_callbacks(struct nats_stream *nats)
{
    struct timespec until;
    int error = 0;

    natsConnection_Close(nats->connection);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&nats->lock);
    while (!error && may_be_called(nats))
        error = pthread_cond_timedwait(&nats->ended, &nats->lock, &until);
    pthread_mutex_unlock(&nats->lock);
    return error == 0;
}

static void nats_close(struct stream *stream)
{
    struct nats_stream *nats = nats_of(stream);

    if (!end_callbacks(nats))
        return; /* its memory may be needed */

    natsMsg_Destroy(nats->message);
    end_messages(nats);
    natsSubscription_Destroy(nats->acks);
    jsCtx_Destroy(nats->js);
    natsConnection_Destroy(nats->connection);
    natsOptions_Destroy(nats->options);
    natsInbox_Destroy(nats->inbox);
    if (nats->stream.event_fd >= 0)
        close(nats->stream.event_fd);
    pthread_cond_destroy(&nats->ended);
    pthread_mutex_destroy(&nats->lock);
    free(nats->held_bytes);
    free(nats->name);
    free(nats);
}

extern const struct stream_module twinlog_stream_module;
const struct stream_module twinlog_stream_module = {
    .version = STREAM_MODULE_VERSION,
    .open = nats_open,
    .last = nats_last,
    .find_gap = nats_find_gap,
    .look = nats_look,
    .has_room = nats_has_room,
    .publish = nats_publish,
    .flush = nats_flush,
    .acknowledged = nats_acknowledged,
    .seek = nats_seek,
    .next = nats_next,
    .close = nats_close,
};
