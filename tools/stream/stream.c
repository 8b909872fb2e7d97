/* SPDX-License-Identifier: Apache-2.0 */
/* What ship and receive have in common: URLs, credentials, the modules that know the servers, and sessions. See
 * stream.h. */
#define _GNU_SOURCE
#include "stream.h"

#include "../json.h"
#include "../options.h"
#include "../stop.h"
#include "../when.h"

#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- modules ----------------------------------------------------------------------------------- */

/* Where a module is: beside the command, as where it was built, or where it was installed to. MODULE_DIR is relative
 * to the command, so that what was installed may be moved. */
static bool find_module(const char *file, char ret_path[PATH_MAX])
{
    char command[PATH_MAX];
    const char *const places[] = { ".", MODULE_DIR };
    ssize_t length = readlink("/proc/self/exe", command, sizeof(command) - 1);

    if (length < 0)
        return false;

    command[length] = '\0';
    char *slash = strrchr(command, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int bytes;
        if (places[i][0] == '/')
            bytes = snprintf(ret_path, PATH_MAX, "%s/%s", places[i], file);
        else
            bytes = snprintf(ret_path, PATH_MAX, "%s/%s/%s", command, places[i], file);
        if (bytes < PATH_MAX && access(ret_path, R_OK) == 0)
            return true;
    }

    return false;
}

static int load_module(const char *scheme, const struct stream_module **ret_module)
{
    char file[32];
    char path[PATH_MAX];

    snprintf(file, sizeof(file), "twinlog-%s.so", scheme);
    if (!find_module(file, path)) {
        complain(
            "this twinlog cannot speak to %s: it was built without that, or the module %s is not installed. "
            "docs/stream.md says what it needs.",
            scheme, file);
        return STATUS_ABSENT;
    }

    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct stream_module *module = NULL;
    if (library)
        module = dlsym(library, STREAM_MODULE_NAME);
    if (!module) {
        complain("cannot load the module for %s: %s", scheme, dlerror());
        return STATUS_ABSENT;
    }

    if (module->version != STREAM_MODULE_VERSION) {
        complain("the module %s is of another version of twinlog", path);
        return STATUS_ABSENT;
    }

    *ret_module = module;
    return STATUS_FINE;
}

/* ---- settings ---------------------------------------------------------------------------------- */

/* In front of those of the same name that come later. */
static bool add_setting(struct stream_target *target, const char *name, const char *value)
{
    struct stream_setting *setting = &target->settings[target->setting_count++];

    setting->name = strdup(name);
    setting->value = strdup(value);
    return setting->name && setting->value;
}

/* ---- operands and URLs ----------------------------------------------------------------------------- */

#define MOST_NAME_BYTES 200u
#define MOST_PAUSE_MS 2000u
#define DEFAULT_WAIT_NS INT64_C(30000000000) /* with --once */

void stream_take_operands(int argc, char **argv, const char *first_what, const char *second_what,
                          const char **ret_first, const char **ret_second)
{
    if (argc - optind != 2)
        usage_error("give a %s and a %s, and nothing more", first_what, second_what);
    *ret_first = argv[optind];
    *ret_second = argv[optind + 1];
    if (!**ret_first || !**ret_second)
        usage_error("the %s or the %s is empty", first_what, second_what);
}

/* Servers get it as it is, also as a part of JSON. */
static bool is_name(const char *name)
{
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f || strchr("/*>\"\\", *c))
            return false;
    return strlen(name) <= MOST_NAME_BYTES;
}

static int take_url(const char *url, struct stream_target *target, const struct stream_module **ret_module)
{
    static const char *const schemes[] = { "nats", "tls", "kafka" };
    static const char *const modules[] = { "nats", "nats", "kafka" };
    static const char *const nouns[] = { "SUBJECT", "SUBJECT", "TOPIC" };
    const char *rest = NULL;
    size_t which = 0;

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t length = strlen(schemes[i]);
        if (strncmp(url, schemes[i], length) == 0 && strncmp(url + length, "://", 3) == 0) {
            which = i;
            rest = url + length + 3;
        }
    }

    if (!rest)
        usage_error("'%s' begins neither with nats:// or tls:// nor with kafka://", url);
    const char *slash = strchr(rest, '/');
    if (!slash || slash == rest || !slash[1])
        usage_error("'%s' is not %s://HOST[:PORT]/%s", url, schemes[which], nouns[which]);
    if (memchr(rest, '@', (size_t)(slash - rest)))
        usage_error("a URL with a password is seen by everybody: put it into a file, see --credentials");
    if (!is_name(slash + 1))
        usage_error("'%s' is no name of a %s", slash + 1,
                    strcmp(nouns[which], "TOPIC") == 0 ? "topic" : "subject");
    target->host = strndup(rest, (size_t)(slash - rest));
    target->name = strdup(slash + 1);
    if (!target->host || !target->name ||
        (strcmp(schemes[which], "tls") == 0 && !add_setting(target, "tls", "true")))
        return fail_start(-ENOMEM);
    return load_module(modules[which], ret_module);
}

/* ---- credentials ------------------------------------------------------------------------------- */

/* A line NAME=VALUE; comments and empty lines are passed. False where it is none, or there are too many. */
static bool take_line(char *line, struct stream_target *target)
{
    line[strcspn(line, "\r\n")] = '\0';
    line += strspn(line, " \t");
    if (*line == '\0' || *line == '#')
        return true;

    char *equals = strchr(line, '=');
    if (!equals || equals == line || target->setting_count == MAX_SETTINGS)
        return false;

    *equals = '\0';
    return add_setting(target, line, equals + 1);
}

static int read_credentials(const char *name, FILE *file, struct stream_target *target)
{
    struct stat status;
    char line[4096];
    unsigned number = 0;

    if (fstat(fileno(file), &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO))) {
        complain("other users may read or write '%s': chmod go= it", name);
        return STATUS_FAILED;
    }

    while (fgets(line, sizeof(line), file)) {
        number++;
        bool is_whole = strchr(line, '\n') || feof(file);
        if (!is_whole || !take_line(line, target)) {
            complain("line %u of '%s' is not NAME=VALUE", number,
                     name); /* not the line: it may be a secret */
            return STATUS_FAILED;
        }
    }

    explicit_bzero(line, sizeof(line));
    return STATUS_FINE;
}

/* Adds the settings of a file of lines NAME=VALUE, which other users may not read. */
static int take_credentials(const char *name, struct stream_target *target)
{
    if (!name)
        name = getenv("TWINLOG_CREDENTIALS");
    if (!name || !*name)
        return STATUS_FINE;

    FILE *file = fopen(name, "re");
    if (!file) {
        complain("cannot read the credentials in '%s': %s", name, strerror(errno));
        return STATUS_FAILED;
    }

    int status = read_credentials(name, file, target);
    fclose(file);
    return status;
}

/* ---- the command line -------------------------------------------------------------------------- */

bool stream_take_option(struct stream_client *client, int value)
{
    if (value == OPTION_ONCE)
        client->is_following = false;
    else if (value == OPTION_WAIT)
        client->wait_ns = take_duration("--wait");
    else if (value == OPTION_CREDENTIALS)
        client->credentials = optarg;
    else if (value == OPTION_JSON)
        client->is_json = true;
    else if (value == OPTION_QUIET)
        client->is_quiet = true;
    else
        return false;
    return true;
}

static int begin(struct stream_client *client)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int error = stop_on_signals();
    if (error)
        return fail_start(error);
    if (client->wait_ns < 0 && client->is_following)
        client->wait_ns = INT64_MAX;
    else if (client->wait_ns < 0)
        client->wait_ns = DEFAULT_WAIT_NS;
    int status = take_url(client->url, &client->target, &client->module);
    if (status == STATUS_FINE)
        return take_credentials(client->credentials, &client->target);
    return status;
}

int stream_command(struct stream_client *client, int (*work)(struct stream_client *client))
{
    struct stream_target *target = &client->target;
    int status = begin(client);

    if (status == STATUS_FINE)
        status = work(client);
    for (size_t i = 0; i < target->setting_count; i++) {
        free(target->settings[i].name);
        if (target->settings[i].value)
            explicit_bzero(target->settings[i].value, strlen(target->settings[i].value));
        free(target->settings[i].value);
    }

    free(target->host);
    free(target->name);
    return status;
}

/* ---- sessions ---------------------------------------------------------------------------------- */

int stream_finish(struct stream_client *client, int status)
{
    client->status = status;
    return SESSION_FINISHED;
}

int stream_fail_log(struct stream_client *client, const char *doing, int error)
{
    return stream_finish(client, fail(doing, client->dir, error, &client->report, NULL));
}

/* After a session that was lost: pauses, and true if it is time for another one. */
static bool is_worth_another(const struct stream_client *client, unsigned failures)
{
    const uint64_t pause_ms = (uint64_t)STREAM_PAUSE_MS << min_u64(failures, 8);
    const bool has_waited = monotonic_ns() - client->proven_ns >= (uint64_t)client->wait_ns;

    if (stop_signal() || has_waited)
        return false;
    return stop_sleep(min_u64(pause_ms, MOST_PAUSE_MS));
}

/* Tells once for each outage, and not of a conflict that the next session clears up. */
static void tell_loss(struct stream_client *client, int result, unsigned failures)
{
    if (failures == 0)
        client->has_told = false;
    if (client->is_quiet || client->has_told || (result == STREAM_CONFLICT && failures < 4))
        return;
    complain("%s. Trying again.", client->stream->text);
    client->has_told = true;
}

static int status_of_session(const struct stream_client *client, int result)
{
    if (result == SESSION_FINISHED)
        return client->status;
    if (result == STREAM_FENCED) {
        complain("another shipper publishes to the stream '%s': this one has ended", client->target.name);
        return STATUS_FENCED;
    }

    if (result != STREAM_FAILED && stop_signal())
        return STATUS_FINE; /* the next run goes on where this one was */

    complain("%s", client->stream ? client->stream->text : twinlog_strerror(-ENOMEM));
    return STATUS_FAILED;
}

/* One that a signal has ended has not failed. */
static bool has_failed(const struct stream_client *client, int result)
{
    if (result == STREAM_FINE)
        return false;
    if (result == SESSION_FINISHED)
        return client->status != STATUS_FINE;
    return !stop_signal();
}

/* Beside the cursor, for monitoring. */
static void note_session(struct stream_client *client, int result)
{
    char text[FAILURE_TEXT_BYTES] = "it could not be opened";

    if (!client->cursor || !has_failed(client, result))
        return;

    if (result == SESSION_FINISHED)
        snprintf(text, sizeof(text), "ended with status %d, see its messages", client->status);
    else if (client->stream)
        snprintf(text, sizeof(text), "%s", client->stream->text);
    note_failure(client->dir, client->cursor, &client->failures, text);
}

int stream_run(struct stream_client *client, int (*run_session)(struct stream_client *client))
{
    unsigned failures = 0; /* sessions in a row in which no record went over */

    client->proven_ns = monotonic_ns();
    if (client->cursor)
        load_failures(client->dir, client->cursor, &client->failures);
    for (;;) {
        uint64_t before = client->last_lsn;
        client->sessions++;
        int result = run_session(client);
        note_session(client, result);
        if (client->last_lsn > before)
            failures = 0;
        bool goes_on =
            (result == STREAM_LOST || result == STREAM_CONFLICT) && is_worth_another(client, failures);
        if (goes_on)
            tell_loss(client, result, failures);
        int status = STATUS_FINE;
        if (!goes_on)
            status = status_of_session(client, result);
        if (client->stream)
            client->module->close(client->stream);
        client->stream = NULL;
        if (!goes_on)
            return status;

        failures++;
        client->conflicts += result == STREAM_CONFLICT;
        client->last_result = result;
    }
}

void stream_note_lost(struct stream_client *client, uint64_t first_lsn, uint64_t last_lsn)
{
    if (!client->lost_first_lsn || first_lsn < client->lost_first_lsn)
        client->lost_first_lsn = first_lsn;
    if (last_lsn > client->lost_last_lsn)
        client->lost_last_lsn = last_lsn;
}

bool stream_is_same_record(const struct twinlog_record *one, const struct twinlog_record *other)
{
    if (one->time_ns != other->time_ns || one->type != other->type || one->tag != other->tag)
        return false;
    if (one->size != other->size)
        return false;
    return one->size == 0 || memcmp(one->data, other->data, one->size) == 0;
}

/* ---- statistics -------------------------------------------------------------------------------- */

bool stream_begin_statistics(const struct stream_client *client, const char *past, const char *records_name,
                             const char *bytes_name)
{
    clear_progress();
    if (!client->is_json) {
        if (!client->is_quiet && client->last_lsn)
            printf("%s LSN %" PRIu64 " to %" PRIu64 ".\n", past, client->first_lsn, client->last_lsn);
        return false;
    }

    json_begin_object(NULL);
    json_number(records_name, client->records);
    json_number(bytes_name, client->bytes);
    json_number("first_lsn", client->first_lsn);
    json_number("last_lsn", client->last_lsn);
    json_number("lost_first_lsn", client->lost_first_lsn);
    json_number("lost_last_lsn", client->lost_last_lsn);
    json_number("sessions", client->sessions);
    return true;
}

void stream_end_statistics(const struct stream_client *client)
{
    double seconds = 0;

    if (client->last_lsn)
        seconds = (double)(client->ended_ns - client->began_ns) / 1e9;

    json_decimal("seconds", seconds);
    json_decimal("records_per_second", seconds > 0 ? (double)client->records / seconds : 0);
    json_end_object();
    json_end_line();
}
