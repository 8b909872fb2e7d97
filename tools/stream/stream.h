/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream on a server (NATS JetStream, Kafka) as 'twinlog ship' and 'twinlog receive' see it: one table of operations
 * for each kind of server. A table is in a module of its own, such as twinlog-nats.so, which is loaded when a URL asks
 * for it: so the command itself does not need the library, and the module can be a package of its own.
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

#include "../failures.h"
#include "../source.h"

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
#define SHIPPER_BYTES 17u /* 16 of them */

/* The record in front of a message's, in the log that is shipped. */
struct stream_front {
    uint64_t lsn; /* 0: not known */
    uint32_t salt;
};

/* What every module's stream begins with. */
struct stream {
    char text[STREAM_TEXT_BYTES]; /* why the last operation was neither fine nor again */
    int event_fd;                 /* an eventfd, readable after something was acknowledged, or failed */
    /* The record `told_lsn`, the first one behind these, tells that the log lost them before they were published. */
    uint64_t lost_first_lsn, lost_last_lsn, told_lsn;
    struct stream_front front; /* of the next message */
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
    uint64_t lost_first_lsn, lost_last_lsn; /* that it tells; 0: none */
    struct stream_front front;
    /* The newest one only: */
    bool was_there; /* the stream has or had messages */
    bool
        is_limited; /* the stream is one that removes messages, by their age, number or size, or once they are taken */
    bool is_counted;         /* positions count the messages of the stream, also those that were removed */
    uint64_t end;            /* where the newest message is or was; 0: there never was one */
    uint64_t first_lsn;      /* of the first message; 0: there is none, or it is not known */
    uint64_t first_position; /* of the first message, where positions are counted */
    uint64_t removed;        /* positions without a message, between others; 0 where that is not known */
    char log_id[LOG_ID_BYTES];
    char shipper[SHIPPER_BYTES];
    struct twinlog_record record; /* its data are valid until the next operation */
};

/* Records that messages between the first and the newest one do not have. */
struct stream_gap {
    uint64_t first_lsn, last_lsn; /* 0: there is none */
    struct stream_front before;   /* the message in front of it */
};

#define STREAM_MODULE_VERSION 6u
struct stream_module {
    unsigned version;
    /* *ret_stream is set if there is memory, and to be closed also when the result is not fine. */
    int (*open)(const struct stream_target *target, struct stream **ret_stream);
    /* What the stream has. The next message is published behind it. */
    int (*last)(struct stream *stream, struct stream_message *ret_message);
    /* NULL where a server does not tell how many messages a stream has. Reads the whole stream, as a receiver would:
     * where is the first gap behind `passed_lsn`? Records that were published once more are no gap. */
    int (*find_gap)(struct stream *stream, uint64_t passed_lsn, struct stream_gap *ret_gap);
    /* The same: has the stream lost messages since last()? Then STREAM_LOST. */
    int (*look)(struct stream *stream);
    /* False while as many records are under way as may be; then flush, and wait for an acknowledgement. */
    bool (*has_room)(struct stream *stream);
    int (*publish)(struct stream *stream, const struct twinlog_record *record);
    /* There is nothing more to publish for now: asks for the acknowledgement of what was. */
    int (*flush)(struct stream *stream);
    /* The newest LSN published through this stream that the server has acknowledged; 0 = none. And its position, 0
     * where positions do not count messages. */
    int (*acknowledged)(struct stream *stream, uint64_t *ret_lsn, uint64_t *ret_position);
    /* For a receiver, NULL where there is none: goes in front of the newest message with a record that is not behind
     * `lsn`, or of the first one. */
    int (*seek)(struct stream *stream, uint64_t lsn);
    /* The next one; waits for it up to timeout_ms. STREAM_AGAIN: there is none yet. */
    int (*next)(struct stream *stream, int timeout_ms, struct stream_message *ret_message);
    void (*close)(struct stream *stream);
};
/* The table's name in a module. */
#define STREAM_MODULE_NAME "twinlog_stream_module"

/* ---- the command's part ------------------------------------------------------------------------ */

#define STREAM_PAUSE_MS 50u /* the least between two attempts */

/* How a session ended, beside enum stream_result. */
enum {
    SESSION_FINISHED = 100 /* client->status is set */
};

/* What ship and receive have in common: a log, a stream, and sessions one after another, each from the opening of the
 * stream to its loss. */
struct stream_client {
    const char *dir;
    const char *url;
    const char *credentials; /* a file, or NULL */
    const char *cursor;      /* that a shipper moves; NULL: a receiver */
    struct failures failures;
    struct stream_target target;
    const struct stream_module *module;
    bool is_following;
    bool is_json;
    bool is_quiet;
    int64_t wait_ns; /* -1: --wait was not given */

    struct stream *stream; /* of this session; run_session opens it */
    int last_result;       /* of the session before */
    int status;            /* of the process, once a session has finished */
    bool has_told;         /* of this outage */
    struct twinlog_report report;

    uint64_t proven_ns; /* when the server last did something for this process, or began to be tried */
    uint64_t sessions, conflicts;
    uint64_t records, bytes;
    uint64_t first_lsn, last_lsn;           /* that went over */
    uint64_t lost_first_lsn, lost_last_lsn; /* that the stream lacks for good, as was told; 0: none */
    uint64_t began_ns, ended_ns;
};
#define STREAM_CLIENT_INIT                                                                                   \
    {                                                                                                        \
        .is_following = true, .wait_ns = -1, .target.replicas = 1                                            \
    }

/* --once, --wait, --credentials, --json and --quiet; false: it is another one. */
bool stream_take_option(struct stream_client *client, int value);
/* The two operands of the command line; ends the process if they are not two. */
void stream_take_operands(int argc, char **argv, const char *first_what, const char *second_what,
                          const char **ret_first, const char **ret_second);
/* Takes the URL apart, nats:// or tls://HOST[:PORT]/SUBJECT or kafka://HOST[:PORT]/TOPIC, loads the module, reads the
 * credentials and does the work. Ends the process if the URL is none; else returns the exit status. */
int stream_command(struct stream_client *client, int (*work)(struct stream_client *client));

/* Runs sessions until one is not worth another. Returns the exit status. */
int stream_run(struct stream_client *client, int (*run_session)(struct stream_client *client));
/* The end of a session, and of all: with a status, or as a call on the log has failed. */
int stream_finish(struct stream_client *client, int status);
int stream_fail_log(struct stream_client *client, const char *doing, int error);

/* These LSNs are missing in the stream. */
void stream_note_lost(struct stream_client *client, uint64_t first_lsn, uint64_t last_lsn);

bool stream_is_same_record(const struct twinlog_record *one, const struct twinlog_record *other);

/* The statistics: a line, and false; or with --json the object up to what only one command counts, and true. */
bool stream_begin_statistics(const struct stream_client *client, const char *past, const char *records_name,
                             const char *bytes_name);
void stream_end_statistics(const struct stream_client *client);

#endif
