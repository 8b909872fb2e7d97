/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog cat: prints payloads on standard output, in the order of their LSNs or newest first, up to the
 * newest durable record; with --follow also records that are appended later.
 *
 * Records before damage are printed; then comes the error, with its place, and status 3.
 *
 * A named cursor (--cursor) is moved only after standard output took the printed records, a batch at a time.
 * So after any end, also by kill -9, the next run begins with the first record that standard output did not
 * take, or some records earlier; never later.
 */
#define _GNU_SOURCE
#include "opening.h"
#include "options.h"
#include "print.h"
#include "source.h"
#include "stop.h"
#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <twinlog_admin.h>
#include <unistd.h>

static const char about[] =
    "Usage: twinlog cat DIR [options]\n"
    "\n"
    "Prints the records of the log in DIR in the order of their LSNs, one on a line, up\n"
    "to the newest durable one, or of a log that is written with --mapped or --shared to the\n"
    "newest that is written. Changes nothing; another process may be writing the log.\n";

static const struct option_row option_rows[] = {
    { OPTION_FROM, "from", "LSN", "begin with this record (default: the first one kept)" },
    { OPTION_SINCE, "since", "TIME", "begin with the first record of this time or later" },
    { OPTION_CURSOR, "cursor", "NAME",
      "begin behind this named cursor (where there is none, with the first record kept), and move it "
      "over what was printed" },
    { OPTION_TO, "to", "LSN", "end with this record (default: the newest durable one)" },
    { OPTION_UNTIL, "until", "TIME", "end in front of the first record of this time or later" },
    { OPTION_LAST, "last", "N", "only the newest N of these records" },
    { OPTION_FOLLOW, "follow", NULL, "at the end, wait for more, until SIGINT, SIGTERM or SIGHUP" },
    { OPTION_REVERSE, "reverse", NULL, "newest first" },
    { OPTION_NUL, "null", NULL, "end each record with a NUL byte instead of a newline" },
    { OPTION_FRAMED, "framed", NULL, "put each record's length before it, 4 bytes, little endian" },
    { OPTION_RAW, "raw", NULL, "print the records one behind the other, with nothing in between" },
    { OPTION_TIME, "time", NULL, "put each record's time before it, in UTC" },
    { OPTION_JSON, "json", NULL,
      "one JSON object on a line: lsn, time, type, tag, size, and data, or data_base64 where the record is "
      "not UTF-8" },
    { OPTION_EXPORT, "export", NULL,
      "everything about each durable record: 'twinlog append --import' makes the same records of it" },
    { OPTION_MMAP, "mmap", NULL, "map the segments instead of reading them" },
    COMMON_OPTIONS,
};

static const char notes[] =
    TIME_HELP "\n"
              "A record that contains newlines is printed as it is: use --null, --framed, --json or\n"
              "--export to tell records apart. 'twinlog append' takes what all but --json and --raw\n"
              "print. On a terminal control characters are shown as ^A, and do not act.\n"
              "\n"
              "Exit status: 0 fine, also after a torn tail and when a signal ended --follow; 1 an\n"
              "operation failed; 2 wrong usage; 3 acknowledged data is damaged (the records before\n"
              "it were printed).\n"
              "\n"
              "Examples: the last ten records and what follows, with times; the whole log in another\n"
              "one; everything new, from where the last run ended\n"
              "  twinlog cat build.log -n 10 -f --time\n"
              "  twinlog cat build.log --export | twinlog append copy.log --import\n"
              "  twinlog cat build.log --cursor shipper --follow --json | ship\n";

/* Records between two flushes of the output, and two moves of the cursor, unless the end comes first: so many
 * that the cost of a move, two synced writes, is negligible. */
#define BATCH_RECORDS 10000u

struct cat {
    const char *dir;
    struct twinlog_reader_options options;
    struct twinlog_report report;
    struct printer printer;
    bool is_following;
    bool is_reverse;
    bool has_since;
    bool has_until;
    int64_t since_ns;
    int64_t until_ns;
    uint64_t last_count; /* how many of the newest; 0 = all */

    const char *cursor; /* its name, or NULL */
    struct twinlog_consumer *consumer;
    uint64_t printed_lsn;   /* newest LSN that was printed */
    uint64_t committed_lsn; /* newest LSN over which this run has moved the cursor */
    bool is_behind_range;   /* the consumer has passed --to */
    const char *failed_to;  /* what failed, if it was not reading */

    struct twinlog_reader *reader; /* that of the consumer, if there is one */
};

static char output_buffer[64 * 1024]; /* instead of the 4 KiB that stdio gives a pipe */

/* ---- forwards ---------------------------------------------------------------------------------- */

/* Skips records older than --since until the first one that is not: seeking passes them, but if TIME is in
 * the future, records appended later may be older, too. Behind the first wanted record the clock may have
 * stepped back. */
static bool is_wanted(struct cat *cat, const struct twinlog_record *record)
{
    if (cat->has_since && record->time_ns < cat->since_ns)
        return false;
    cat->has_since = false;
    return true;
}

static int next_record(struct cat *cat, struct twinlog_record *record)
{
    if (!cat->consumer)
        return twinlog_reader_next(cat->reader, record);
    if (cat->is_behind_range)
        return 0;

    const int result = twinlog_consumer_next(cat->consumer, record);
    if (result <= 0 || !cat->options.to_lsn)
        return result;

    cat->is_behind_range = record->lsn >= cat->options.to_lsn;
    return record->lsn <= cat->options.to_lsn;
}

/* Prints a batch: 1 = there may be more, 0 = no more for now, or the reader's error. */
static int print_batch(struct cat *cat)
{
    struct twinlog_record record;

    for (unsigned i = 0; i < BATCH_RECORDS; i++) {
        if (ferror_unlocked(stdout) || stop_signal())
            return 0;

        int result = next_record(cat, &record);
        if (result <= 0)
            return result;
        if (cat->has_until && record.time_ns >= cat->until_ns) {
            cat->is_following = false;
            return 0;
        }

        if (is_wanted(cat, &record))
            print_record(&cat->printer, &record);
        cat->printed_lsn = record.lsn;
    }

    return 1;
}

/* Flushes standard output, then moves the cursor over the printed records. */
static int hand_over(struct cat *cat)
{
    fflush(stdout);
    if (ferror(stdout) || !cat->consumer || cat->printed_lsn == cat->committed_lsn)
        return 0;

    int error = twinlog_consumer_commit(cat->consumer, cat->printed_lsn);
    if (error)
        cat->failed_to = "move the cursor in";
    else
        cat->committed_lsn = cat->printed_lsn;
    return error;
}

/* Waits: 1 = there is more; 0 = it is time to end, because the range is finished, a signal came, or the
 * reader of the output has gone. */
static int wait_for_more(struct cat *cat)
{
    if (ferror_unlocked(stdout) || stop_signal() || cat->is_behind_range)
        return 0;

    int result = twinlog_reader_wait(cat->reader, 0);
    if (result == -EINVAL)
        return 0;
    if (result)
        return result;

    int fd = twinlog_reader_fd(cat->reader);
    if (fd < 0) {
        cat->failed_to = "wait for more in";
        return fd;
    }

    struct pollfd fds[] = {
        { .fd = fd, .events = POLLIN },
        { .fd = stop_fd(), .events = POLLIN },
        { .fd = STDOUT_FILENO }, /* only for errors: its reader has gone */
    };
    while (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0)
        if (errno != EINTR)
            return -errno;
    return !fds[1].revents && !fds[2].revents;
}

static int print_forwards(struct cat *cat)
{
    int result = 0;

    do {
        result = print_batch(cat);
        int error = hand_over(cat);
        if (result >= 0 && error)
            result = error;
        if (result == 0 && cat->is_following)
            result = wait_for_more(cat);
    } while (result > 0);
    return result;
}

/* ---- backwards --------------------------------------------------------------------------------- */

/* Where the records begin that --since, --until, --from and --to leave, and in front of which one they end: the same
 * ones as forwards, also where the clock has stepped back between them. */
struct range {
    uint64_t first_lsn; /* 0 = the oldest of the log */
    uint64_t end_lsn;   /* UINT64_MAX = the end of the log */
};

/* Reads on until a record of this time or later: 1 = *ret_lsn is its LSN; 0 = there is none, or an error. */
static int pass_older(struct cat *cat, int64_t time_ns, uint64_t *ret_lsn)
{
    struct twinlog_record record;

    while (!stop_signal()) {
        const int found = twinlog_reader_next(cat->reader, &record);
        if (found <= 0)
            return found;
        if (record.time_ns >= time_ns) {
            *ret_lsn = record.lsn;
            return 1;
        }
    }
    return 0;
}

/* 0 = there is none yet. */
static int find_first(struct cat *cat, struct range *range)
{
    if (!cat->has_since)
        return 1;
    const int error = twinlog_reader_seek_time(cat->reader, cat->since_ns);
    if (error)
        return error;
    return pass_older(cat, cat->since_ns, &range->first_lsn);
}

/* The first record of that time may be in front of the range. Then the range is read. */
static int find_end(struct cat *cat, struct range *range)
{
    struct twinlog_record record;

    if (!cat->has_until)
        return 0;

    int result = twinlog_reader_seek_time(cat->reader, cat->until_ns);
    if (result == 0)
        result = twinlog_reader_next(cat->reader, &record);
    if (result <= 0)
        return result;
    if (record.lsn >= range->first_lsn && record.time_ns >= cat->until_ns) {
        range->end_lsn = record.lsn;
        return 0;
    }

    if (range->first_lsn)
        result = twinlog_reader_seek(cat->reader, range->first_lsn);
    else
        result = twinlog_reader_seek_first(cat->reader);
    if (result == 0)
        result = pass_older(cat, cat->until_ns, &range->end_lsn);
    if (result < 0)
        return result;
    return 0;
}

/* 1 = there is such a range, and the reader is behind its newest record. */
static int find_range(struct cat *cat, struct range *range)
{
    *range = (struct range){ .end_lsn = UINT64_MAX };
    const int result = find_first(cat, range);
    if (result <= 0)
        return result;

    cat->has_since = false; /* what follows is wanted, whatever its time */

    int error = find_end(cat, range);
    if (!error && range->end_lsn == UINT64_MAX)
        error = twinlog_reader_seek_end(cat->reader);
    else if (!error)
        error = twinlog_reader_seek(cat->reader, range->end_lsn);
    if (error)
        return error;
    return 1;
}

/* From the newest record back: all of them, or as many as --last says. Prints them, or only passes them. */
static int go_back(struct cat *cat, bool prints)
{
    struct twinlog_record record;
    struct range range;
    uint64_t count = 0;

    int found = find_range(cat, &range);
    while (found > 0 && !ferror_unlocked(stdout)) {
        if (cat->last_count && count == cat->last_count)
            break;

        found = twinlog_reader_previous(cat->reader, &record);
        if (found > 0 && record.lsn < range.first_lsn)
            return twinlog_reader_seek(cat->reader, range.first_lsn);
        if (found > 0 && prints)
            print_record(&cat->printer, &record);
        count++;
    }

    if (found < 0)
        return found;
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------- */

static int open_reader(struct cat *cat)
{
    struct twinlog_consumer_options options = TWINLOG_CONSUMER_OPTIONS_INIT;

    if (!cat->cursor)
        return twinlog_reader_open(cat->dir, &cat->options, &cat->reader);
    if (cat->options.flags & TWINLOG_READER_MMAP)
        options.flags |= TWINLOG_CONSUMER_MMAP;
    if (cat->options.flags & TWINLOG_READER_DURABLE)
        options.flags |= TWINLOG_CONSUMER_DURABLE;
    options.ret_report = &cat->report;
    int error = twinlog_consumer_open(cat->dir, cat->cursor, &options, &cat->consumer);
    if (error)
        return error;

    cat->reader = twinlog_consumer_reader(cat->consumer);
    /* done before, so that nothing in the range is left to wait for; -EINVAL: not yet */
    cat->is_behind_range =
        cat->options.to_lsn && twinlog_consumer_commit(cat->consumer, cat->options.to_lsn) == 0;
    return 0;
}

static bool is_export(const struct cat *cat)
{
    return cat->printer.format == OPTION_EXPORT;
}

/* By an import, or by 'twinlog receive'. A log that cannot be asked says nothing, and then nothing is proved. */
static void print_origin(const struct cat *cat, uint64_t from_lsn)
{
    static const char *const names[] = { "import", "receive" };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log = NULL;
    struct origin origin = { 0 };

    options.flags = TWINLOG_READ_ONLY;
    if (twinlog_open(cat->dir, &options, &log))
        return;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !origin.id[0]; i++) {
        struct source source = { .name = names[i] };
        if (load_source(log, &source) == 0)
            find_origin(log, &source, from_lsn, &origin);
    }

    twinlog_close(log);
    if (origin.id[0])
        printf("origin %s %08" PRIx32 " %" PRIu64 "\n", origin.id, origin.salt, origin.lsn);
}

/* Which history the export is of, and where the log ends. A log that ends in front of --from has not what the other
 * log has: there is nothing to wait for. Of an empty or damaged log nothing is said; the error comes with the
 * records. */
static void begin_export(struct cat *cat)
{
    struct twinlog_history history = TWINLOG_HISTORY_INIT;
    uint64_t first_lsn = 0;
    uint64_t last_lsn = 0;
    uint64_t from_lsn = cat->options.from_lsn;
    int error = twinlog_reader_range(cat->reader, &first_lsn, &last_lsn);

    if (!error && from_lsn > last_lsn + 1) {
        complain("the log ends with LSN %" PRIu64 ", and --from is %" PRIu64
                 ". A log that has that record is of another history.",
                 last_lsn, from_lsn);
        exit(STATUS_FAILED);
    }

    fputs(EXPORT_BEGIN, stdout);
    if (error || !last_lsn)
        return;

    from_lsn = max_u64(from_lsn, first_lsn);
    error = twinlog_reader_history(cat->reader, min_u64(from_lsn, last_lsn), &history);
    if (error)
        return;

    printf("history ");
    for (size_t i = 0; i < sizeof(history.log_id); i++)
        printf("%02x", history.log_id[i]);
    printf(" %" PRIu32 " %08" PRIx32 " %" PRIu64 " %" PRIu64 "\n", history.epoch, history.salt,
           history.first_lsn, last_lsn);
    print_origin(cat, from_lsn);
    cat->printer.tells_salt = true;
    cat->printer.salt = history.salt;
}

static int print_records(struct cat *cat)
{
    int error = open_reader(cat);

    if (error)
        return error;
    if (is_export(cat))
        begin_export(cat);
    if (cat->is_reverse)
        return go_back(cat, true);
    if (cat->last_count)
        error = go_back(cat, false);
    else if (cat->has_since)
        error = twinlog_reader_seek_time(cat->reader, cat->since_ns);
    if (!error)
        error = print_forwards(cat);
    if (is_export(cat) && !error)
        fputs(EXPORT_END, stdout);
    return error;
}

static int print_log(struct cat *cat)
{
    int error = print_records(cat);

    if (cat->consumer)
        twinlog_consumer_close(cat->consumer);
    else
        twinlog_reader_close(cat->reader);
    int status = finish_output(STATUS_FINE);
    if (error && cat->failed_to)
        return fail(cat->failed_to, cat->dir, error, NULL, NULL);
    if (error)
        return fail("read the log", cat->dir, error, &cat->report, NULL);
    return status;
}

static void take_options(struct cat *cat, const struct command *command, int argc, char **argv)
{
    bool with_time = false;
    int format = 0;
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_FROM) {
            cat->options.from_lsn = take_number("--from", 1, UINT64_MAX);
        } else if (value == OPTION_TO) {
            cat->options.to_lsn = take_number("--to", 1, UINT64_MAX);
        } else if (value == OPTION_SINCE) {
            cat->has_since = true;
            cat->since_ns = take_time("--since");
        } else if (value == OPTION_UNTIL) {
            cat->has_until = true;
            cat->until_ns = take_time("--until");
        } else if (value == OPTION_LAST) {
            cat->last_count = take_number("--last", 1, UINT64_MAX);
        } else if (value == OPTION_TIME) {
            with_time = true;
        } else if (value == OPTION_CURSOR) {
            cat->cursor = take_name("--cursor");
        } else if (value == OPTION_FOLLOW) {
            cat->is_following = true;
        } else if (value == OPTION_REVERSE) {
            cat->is_reverse = true;
        } else if (value == OPTION_MMAP) {
            cat->options.flags |= TWINLOG_READER_MMAP;
        } else {
            if (value == OPTION_EXPORT) /* no power cut may take from this log what another one has got */
                cat->options.flags |= TWINLOG_READER_DURABLE;
            if (format && format != value)
                usage_error("--null, --framed, --raw, --json and --export exclude each other");
            format = value;
        }
    }

    if (with_time && format)
        usage_error("--time is for lines: --json and --export have the time");
    cat->printer =
        (struct printer){ .format = format, .with_time = with_time, .is_visible = isatty(STDOUT_FILENO) };
    cat->dir = take_directory(argc, argv);
}

static void check_options(const struct cat *cat)
{
    if ((cat->options.from_lsn != 0) + cat->has_since + (cat->cursor != NULL) > 1)
        usage_error("--from, --since and --cursor exclude each other: each says where to begin");
    if (cat->options.to_lsn && cat->options.from_lsn > cat->options.to_lsn)
        usage_error("--from is larger than --to");
    if (cat->is_reverse && (cat->is_following || cat->cursor))
        usage_error("--reverse excludes --follow and --cursor");
    if (cat->is_reverse && is_export(cat))
        usage_error("--reverse excludes --export, which is in the order of the LSNs");
    if (cat->last_count && cat->cursor)
        usage_error("--last excludes --cursor, which says where to begin");
}

static int cat_run(const struct command *command, int argc, char **argv)
{
    struct cat cat = { .options = TWINLOG_READER_OPTIONS_INIT };

    take_options(&cat, command, argc, argv);
    check_options(&cat);
    cat.options.ret_report = &cat.report;
    setvbuf(stdout, output_buffer, _IOFBF, sizeof(output_buffer));
    int error = 0;
    if (cat.is_following)
        error = stop_on_signals();
    if (error) {
        complain("%s", twinlog_strerror(error));
        return STATUS_FAILED;
    }

    return print_log(&cat);
}

const struct command cat_command = {
    .name = "cat",
    .summary = "print the records in the order of their LSNs",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = cat_run,
};
