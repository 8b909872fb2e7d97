/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of 'twinlog ship' need of Kafka: the mock cluster of librdkafka, and a look at a topic that does not
 * use the code that is tested.
 *
 *     kafka_peer serve TOPIC[=PARTITIONS]...   three brokers. Prints their addresses, then takes commands, one a line,
 *                                              and answers each with 'ok'; ends with its standard input
 *     kafka_peer SERVERS cat TOPIC             the LSN in the key and the bytes of each message, by their offsets
 *     kafka_peer SERVERS count TOPIC           how many messages there are
 *     kafka_peer SERVERS put TOPIC TEXT        a message that is no record
 *
 * The commands: 'error API CODE...' fails the next requests of that kind, one with each code; 'leader TOPIC BROKER';
 * 'coordinator ID BROKER'.
 */
#define _GNU_SOURCE
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 60000

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "kafka_peer: %s: %s\n", what, why);
    exit(1);
}

static void check(rd_kafka_resp_err_t error, const char *what)
{
    if (error)
        fail(what, rd_kafka_err2str(error));
}

static rd_kafka_t *make_handle(rd_kafka_type_t type, const char *servers)
{
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    rd_kafka_conf_set_log_cb(conf, NULL);
    if (servers && (rd_kafka_conf_set(conf, "bootstrap.servers", servers, text, sizeof(text)) ||
                    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", text, sizeof(text)) ||
                    rd_kafka_conf_set(conf, "enable.partition.eof", "true", text, sizeof(text))))
        fail("configure", text);
    rd_kafka_t *handle = rd_kafka_new(type, conf, text, sizeof(text));
    if (!handle)
        fail("make a handle", text);
    return handle;
}

/* ---- the cluster ------------------------------------------------------------------------------- */

static void make_topic(rd_kafka_mock_cluster_t *cluster, char *topic)
{
    char *equals = strchr(topic, '=');

    if (equals)
        *equals = '\0';
    check(rd_kafka_mock_topic_create(cluster, topic, equals ? atoi(equals + 1) : 1, 3), "make a topic");
}

static void push_errors(rd_kafka_mock_cluster_t *cluster, char **rest)
{
    rd_kafka_resp_err_t errors[32];
    size_t count = 0;
    const char *api = strtok_r(NULL, " ", rest);

    for (const char *code = strtok_r(NULL, " ", rest); code && count < 32; code = strtok_r(NULL, " ", rest))
        errors[count++] = (rd_kafka_resp_err_t)atoi(code);
    rd_kafka_mock_push_request_errors_array(cluster, (int16_t)atoi(api ? api : "0"), count, errors);
}

static void run_command(rd_kafka_mock_cluster_t *cluster, char *line)
{
    char *rest = NULL;
    const char *word = strtok_r(line, " \n", &rest);

    if (word && strcmp(word, "error") == 0) {
        push_errors(cluster, &rest);
        return;
    }
    const char *one = strtok_r(NULL, " \n", &rest);
    const char *two = strtok_r(NULL, " \n", &rest);
    if (!two)
        fail("no command", line);
    if (strcmp(word, "leader") == 0)
        check(rd_kafka_mock_partition_set_leader(cluster, one, 0, atoi(two)), word);
    else if (strcmp(word, "coordinator") == 0)
        check(rd_kafka_mock_coordinator_set(cluster, "transaction", one, atoi(two)), word);
    else
        fail("no command", word);
}

static void serve(char **topics)
{
    char line[1024];
    rd_kafka_t *handle = make_handle(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(handle, 3);

    if (!cluster)
        fail("serve", "no cluster");
    for (; *topics; topics++)
        make_topic(cluster, *topics);
    printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        run_command(cluster, line);
        puts("ok");
        fflush(stdout);
    }
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(handle);
}

/* ---- a topic ----------------------------------------------------------------------------------- */

static void print_message(const rd_kafka_message_t *message)
{
    const char *key = message->key_len ? memrchr(message->key, ':', message->key_len) : NULL;
    int length = key ? (int)((const char *)message->key + message->key_len - key - 1) : 1;

    printf("%.*s\t%.*s\n", length, key ? key + 1 : "-", (int)message->len,
           message->len ? (const char *)message->payload : "");
}

/* Reads as a consumer of what was committed does. Prints all messages, or how many there are. */
static void look(const char *servers, const char *name, const char *what)
{
    rd_kafka_t *handle = make_handle(RD_KAFKA_CONSUMER, servers);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(handle, name, NULL);
    uint64_t count = 0;

    if (rd_kafka_consume_start(topic, 0, 0)) /* by the number: to ask for the beginning takes half a second */
        check(rd_kafka_last_error(), "read");
    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consume(topic, 0, TIMEOUT_MS);
        if (!message)
            fail("read", "timeout");
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            rd_kafka_message_destroy(message);
            break;
        }
        check(message->err, "read");
        count++;
        if (strcmp(what, "cat") == 0)
            print_message(message);
        rd_kafka_message_destroy(message);
    }
    if (strcmp(what, "count") == 0)
        printf("%" PRIu64 "\n", count);
    fflush(stdout);
    _exit(0); /* to end the library takes a second */
}

static void put(const char *servers, const char *name, const char *text)
{
    rd_kafka_t *handle = make_handle(RD_KAFKA_PRODUCER, servers);

    rd_kafka_topic_t *topic = rd_kafka_topic_new(handle, name, NULL);
    if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)text, strlen(text), NULL, 0, NULL))
        check(rd_kafka_last_error(), "put");
    check(rd_kafka_flush(handle, TIMEOUT_MS), "put");
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(handle);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "serve") == 0)
        serve(argv + 2);
    else if (argc == 4)
        look(argv[1], argv[3], argv[2]);
    else if (argc == 5 && strcmp(argv[2], "put") == 0)
        put(argv[1], argv[3], argv[4]);
    else
        return 2;
    return 0;
}
