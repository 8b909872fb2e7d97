/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog cat: payloads in LSN order on standard output, up to the newest durable record.
 *
 * What comes before damage is printed; then the error, with its place, and status 3.
 */
#define _GNU_SOURCE
#include "common.h"
#include "json.h"

#include <stdio.h>

static const char help[] =
    "Usage: twinlog cat DIR [options]\n"
    "\n"
    "Prints the records of the log in DIR in the order of their LSNs, one on a line, up\n"
    "to the newest durable one. Changes nothing; another process may be writing the log.\n"
    "\n"
    "  --from LSN          begin with this record (default: the first one kept)\n"
    "  --to LSN            end with this record (default: the newest durable one)\n"
    "  --null              end each record with a NUL byte instead of a newline\n"
    "  --framed            put each record's length before it, 4 bytes, little endian\n"
    "  --json              one JSON object on a line: lsn, time, size, and data, or\n"
    "                      data_base64 where the record is not UTF-8\n" COMMON_OPTIONS_HELP "\n"
    "A record that contains newlines is printed as it is: use --null, --framed or --json\n"
    "to tell records apart. 'twinlog append' takes what --null and --framed print.\n"
    "\n"
    "Exit status: 0 fine, also after a torn tail; 1 an operation failed; 2 wrong usage;\n"
    "3 acknowledged data is damaged (the records before it were printed).\n"
    "\n"
    "Example: records 100 to 199\n"
    "  twinlog cat build.log --from 100 --to 199\n";

static const struct option option_table[] = {
    WITH_ARGUMENT("from", OPTION_FROM), WITH_ARGUMENT("to", OPTION_TO), FLAG("null", OPTION_NUL),
    FLAG("framed", OPTION_FRAMED),      FLAG("json", OPTION_JSON),      COMMON_OPTIONS,
};

static void print_bytes(const void *data, size_t size)
{
    fwrite_unlocked(data, 1, size, stdout);
}

static void print_line(const struct twinlog_record *record)
{
    print_bytes(record->data, record->size);
    putchar_unlocked('\n');
}

static void print_nul(const struct twinlog_record *record)
{
    print_bytes(record->data, record->size);
    putchar_unlocked('\0');
}

static void print_frame(const struct twinlog_record *record)
{
    unsigned char length[4];

    for (unsigned i = 0; i < sizeof(length); i++)
        length[i] = (unsigned char)(record->size >> (8 * i));
    print_bytes(length, sizeof(length));
    print_bytes(record->data, record->size);
}

static void print_json(const struct twinlog_record *record)
{
    json_begin_object(NULL);
    json_number("lsn", record->lsn);
    json_time("time", record->time_ns);
    json_number("size", record->size);
    json_bytes("data", record->data, record->size);
    json_end_object();
    json_end_line();
}

typedef void (*print_record)(const struct twinlog_record *record);

static print_record printer_of(int option)
{
    switch (option) {
    case OPTION_NUL:
        return print_nul;
    case OPTION_FRAMED:
        return print_frame;
    case OPTION_JSON:
        return print_json;
    default:
        return print_line;
    }
}

static char output_buffer[64 * 1024]; /* instead of the 4 KiB that stdio gives a pipe */

/* Prints to the end: 0, or what the reader said. Stops early when standard output fails. */
static int print_all(struct twinlog_reader *reader, print_record print)
{
    struct twinlog_record record;
    int result = 0;

    while (!ferror_unlocked(stdout) && (result = twinlog_reader_next(reader, &record)) > 0)
        print(&record);
    return result < 0 ? result : 0;
}

static int cat_run(const struct command *command, int argc, char **argv)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    int format = 0;
    int value = 0;

    while ((value = next_option(command, argc, argv, option_table)) != -1) {
        if (value == OPTION_FROM)
            options.from_lsn = take_number("--from", 1, UINT64_MAX);
        else if (value == OPTION_TO)
            options.to_lsn = take_number("--to", 1, UINT64_MAX);
        else if (format && format != value)
            usage_error("--null, --framed and --json exclude each other");
        else
            format = value;
    }
    const char *dir = take_directory(argc, argv);
    if (options.to_lsn && options.from_lsn > options.to_lsn)
        usage_error("--from is larger than --to");
    options.ret_report = &report;

    setvbuf(stdout, output_buffer, _IOFBF, sizeof(output_buffer));
    int error = twinlog_reader_open(dir, &options, &reader);
    if (error == 0)
        error = print_all(reader, printer_of(format));
    twinlog_reader_close(reader);
    int status = finish_output(STATUS_FINE);
    return error ? fail("read the log", dir, error, &report, NULL) : status;
}

const struct command cat_command = {
    .name = "cat",
    .summary = "print the records in the order of their LSNs",
    .help = help,
    .run = cat_run,
};
