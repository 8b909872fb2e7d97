/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream on a server (NATS JetStream, Kafka) as 'twinlog ship' and 'twinlog receive' see it: one table of operations
 * for each kind of server. A table is in a module of its own, such as twinlog-nats.so, which is loaded when a URL asks for
 * it: so the command itself does not need the library, and the module can be a package of its own.
 *
 * A message is a record. It carries the id "LOG:LSN", the record's time, type and tag, and a word that is new with
 * each run of a shipper: by it a shipper recognises its own messages. A module promises two things:
 *
 *  - Messages get into the stream in the order of their LSNs, each once, and none behind one that did not.
 *  - A message of another shipper in between is noticed: STREAM_CONFLICT or STREAM_FENCED.
 *
 * One thread uses a stream.
 */
#ifndef TOOLS_STREAM_H
#define TOOLS_STREAM_H

#include <twinlog.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stream_result {
    STREAM_FINE = 0,
    STREAM_AGAIN,    /* not now: wait for the descriptor */
    STREAM_LOST,     /* the server is away, or lost messages: open the stream again, and look what it has */
    STREAM_CONFLICT, /* there is another message where one was to go: the same */
    STREAM_FENCED,   /* another shipper has taken over */
    STREAM_FAILED    /* trying again does not help */
};

#define STREAM_TEXT_BYTES 400u
#define LOG_ID_BYTES 33u  /* 32 hexadecimal digits, and a NUL */
#define SHIPPER_BYTES 17u /* 16 of them */

/* What every module's stream begins with. */
struct stream {
    char text[STREAM_TEXT_BYTES]; /* why the last operation was neither fine nor again */
    int event_fd;                 /* an eventfd, readable after something was acknowledged, or failed */
};

#define MAX_SETTINGS 32u
struct stream_setting {
    char *name;
    char *value;
};

struct stream_target {
    char *host; /* with the port, as in the URL */
    char *name; /* the subject or topic */
    struct stream_setting settings[MAX_SETTINGS];
    size_t setting_count;
    char log_id[LOG_ID_BYTES]; /* of the log that is shipped; empty for a receiver */
    char shipper[SHIPPER_BYTES];
    unsigned replicas; /* of a stream that is made */
};

/* The newest message of the stream, or the next one of a receiver. */
struct stream_message {
    uint64_t position; /* in the stream */
    uint64_t lsn;      /* 0: there is no message, or one without an id of twinlog */
    bool is_there;
    bool was_there; /* the stream has or had messages */
    char log_id[LOG_ID_BYTES];
    char shipper[SHIPPER_BYTES];
    struct twinlog_record record; /* its data are valid until the next operation */
};

#define STREAM_MODULE_VERSION 1u
struct stream_module {
    unsigned version;
    /* *ret_stream is set if there is memory, and to be closed also when the result is not fine. */
    int (*open)(const struct stream_target *target, struct stream **ret_stream);
    /* What the stream has. The next message is published behind it. */
    int (*last)(struct stream *stream, struct stream_message *ret_message);
    /* False while as many records are under way as may be; then flush, and wait for an acknowledgement. */
    bool (*has_room)(struct stream *stream);
    int (*publish)(struct stream *stream, const struct twinlog_record *record);
    /* There is nothing more to publish for now: asks for the acknowledgement of what was. */
    int (*flush)(struct stream *stream);
    /* The newest LSN published through this stream that the server has acknowledged; 0 = none. */
    int (*acknowledged)(struct stream *stream, uint64_t *ret_lsn);
    /* For a receiver, NULL where there is none: goes in front of the newest message whose record is not behind `lsn`, or
     * of the first one. */
    int (*seek)(struct stream *stream, uint64_t lsn);
    /* The next one; waits for it up to timeout_ms. STREAM_AGAIN: there is none yet. */
    int (*next)(struct stream *stream, int timeout_ms, struct stream_message *ret_message);
    void (*close)(struct stream *stream);
};
/* The table's name in a module. */
#define STREAM_MODULE_NAME "twinlog_stream_module"

/* ---- the command's part ------------------------------------------------------------------------ */

/* The two operands of the command line; ends the process if they are not two. */
void stream_take_operands(int argc, char **argv, const char *first_what, const char *second_what,
                          const char **ret_first, const char **ret_second);
/* Takes a URL apart, nats://HOST[:PORT]/SUBJECT or kafka://HOST[:PORT]/TOPIC, and loads the module. Ends the process if the URL is none; else returns
 * the exit status. */
int stream_take_url(const char *url, struct stream_target *target, const struct stream_module **ret_module);
/* Adds the settings of a file of lines NAME=VALUE, which other users may not read. NULL: the file that the environment
 * variable TWINLOG_CREDENTIALS names, if there is one. */
int stream_take_credentials(const char *file, struct stream_target *target);
void stream_free_target(struct stream_target *target);

#endif
