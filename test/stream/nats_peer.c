/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of 'twinlog ship' do with a stream of NATS beside it. Prints what a stream has, message by message and
 * without the code that is tested.
 *
 *     nats_peer URL cat STREAM             the LSN in the id and the bytes of each message, by their sequence
 *     nats_peer URL count STREAM           the sequence of the last message
 *     nats_peer URL consumers STREAM       how many subscriptions it has
 *     nats_peer URL make STREAM SUBJECT    a stream that remembers ids for two minutes
 *     nats_peer URL limit STREAM N         it refuses what would be more than N messages
 *     nats_peer URL delete STREAM N        the last N messages
 *     nats_peer URL remove STREAM N        the message with that sequence
 *     nats_peer URL drop STREAM N          the first messages, up to that sequence
 *     nats_peer URL age STREAM SECONDS     it removes messages that are so old
 *     nats_peer URL purge STREAM
 *     nats_peer URL end STREAM             there is no such stream any more
 *     nats_peer URL put SUBJECT TEXT       a message that is no record
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static natsConnection *connection;
static jsCtx *js;

static void check(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "nats_peer: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

struct state {
    uint64_t last;
    int64_t consumers;
};

static struct state get_state(const char *stream)
{
    jsStreamInfo *info = NULL;

    check(js_GetStreamInfo(&info, js, stream, NULL, NULL), "state");
    const struct state state = { .last = info->State.LastSeq, .consumers = info->State.Consumers };
    jsStreamInfo_Destroy(info);
    return state;
}

static void print_message(natsMsg *message)
{
    const char *id = NULL;

    natsMsgHeader_Get(message, "Twinlog-Id", &id);
    const char *colon = id ? strchr(id, ':') : NULL;
    printf("%s\t%.*s\n", colon ? colon + 1 : "-", natsMsg_GetDataLength(message), natsMsg_GetData(message));
}

/* Each message by an ordinary subscription, and the end by the state of before. */
static void cat(const char *stream)
{
    natsSubscription *subscription = NULL;
    jsStreamInfo *info = NULL;
    jsSubOptions options;
    uint64_t position = 0;

    check(js_GetStreamInfo(&info, js, stream, NULL, NULL), "state");
    const uint64_t last = info->State.Msgs ? info->State.LastSeq : 0;
    check(jsSubOptions_Init(&options), "options");
    options.Stream = stream;
    options.Ordered = true;
    check(js_SubscribeSync(&subscription, js, info->Config->Subjects[0], NULL, &options, NULL), "subscribe");
    jsStreamInfo_Destroy(info);
    while (position < last) {
        natsMsg *message = NULL;
        jsMsgMetaData *meta = NULL;
        check(natsSubscription_NextMsg(&message, subscription, 60000), "next");
        check(natsMsg_GetMetaData(&meta, message), "position");
        position = meta->Sequence.Stream;
        jsMsgMetaData_Destroy(meta);
        print_message(message);
        natsMsg_Destroy(message);
    }
    natsSubscription_Destroy(subscription);
}

static void make(const char *stream, const char *subject)
{
    jsStreamConfig config;

    check(jsStreamConfig_Init(&config), "configuration");
    config.Name = stream;
    config.Subjects = &subject;
    config.SubjectsLen = 1;
    config.Duplicates = INT64_C(120000000000);
    check(js_AddStream(NULL, js, &config, NULL, NULL), "make");
}

static void limit(const char *stream, int64_t most, int64_t age)
{
    jsStreamInfo *info = NULL;

    check(js_GetStreamInfo(&info, js, stream, NULL, NULL), "state");
    info->Config->MaxMsgs = most;
    info->Config->MaxAge = age * INT64_C(1000000000);
    info->Config->Discard = js_DiscardNew;
    check(js_UpdateStream(NULL, js, info->Config, NULL, NULL), "limit");
    jsStreamInfo_Destroy(info);
}

static void delete_last(const char *stream, uint64_t count)
{
    const uint64_t last = get_state(stream).last;

    for (uint64_t i = 0; i < count; i++)
        check(js_DeleteMsg(js, stream, last - i, NULL, NULL), "delete");
}

static void drop_first(const char *stream, uint64_t last)
{
    for (uint64_t i = 1; i <= last; i++)
        js_DeleteMsg(js, stream, i, NULL, NULL); /* it may be gone already */
}

static void put(const char *subject, const char *text)
{
    check(js_Publish(NULL, js, subject, text, (int)strlen(text), NULL, NULL), "put");
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    const char *word = argv[2];
    check(natsConnection_ConnectTo(&connection, argv[1]), "connect");
    check(natsConnection_JetStream(&js, connection, NULL), "JetStream");
    if (strcmp(word, "cat") == 0)
        cat(argv[3]);
    else if (strcmp(word, "count") == 0)
        printf("%" PRIu64 "\n", get_state(argv[3]).last);
    else if (strcmp(word, "consumers") == 0)
        printf("%" PRId64 "\n", get_state(argv[3]).consumers);
    else if (strcmp(word, "purge") == 0)
        check(js_PurgeStream(js, argv[3], NULL, NULL), "purge");
    else if (strcmp(word, "end") == 0)
        check(js_DeleteStream(js, argv[3], NULL, NULL), "end");
    else if (argc == 5 && strcmp(word, "make") == 0)
        make(argv[3], argv[4]);
    else if (argc == 5 && strcmp(word, "limit") == 0)
        limit(argv[3], strtoll(argv[4], NULL, 10), 0);
    else if (argc == 5 && strcmp(word, "age") == 0)
        limit(argv[3], -1, strtoll(argv[4], NULL, 10));
    else if (argc == 5 && strcmp(word, "remove") == 0)
        check(js_DeleteMsg(js, argv[3], strtoull(argv[4], NULL, 10), NULL, NULL), "remove");
    else if (argc == 5 && strcmp(word, "drop") == 0)
        drop_first(argv[3], strtoull(argv[4], NULL, 10));
    else if (argc == 5 && strcmp(word, "delete") == 0)
        delete_last(argv[3], strtoull(argv[4], NULL, 10));
    else if (argc == 5 && strcmp(word, "put") == 0)
        put(argv[3], argv[4]);
    else
        return 2;
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
    nats_Close();
    return 0;
}
