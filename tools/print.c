/* SPDX-License-Identifier: Apache-2.0 */
/* How 'twinlog cat' prints a record. See print.h. */
#define _GNU_SOURCE
#include "print.h"

#include "json.h"
#include "options.h"
#include "when.h"

#include <inttypes.h>
#include <stdio.h>

static void print_bytes(const struct twinlog_record *record)
{
    fwrite_unlocked(record->data, 1, record->size, stdout);
}

/* As cat -v shows them: ^A for 1, ^? for 127; C1 controls as \x80, in UTF-8 as \xC2\x80. Tabs and newlines stay. */
static void print_visible(const struct twinlog_record *record)
{
    const unsigned char *bytes = record->data;
    size_t length = 0;

    for (size_t i = 0; i < record->size; i += length) {
        size_t character = utf8_length(bytes + i, record->size - i);
        length = 1;
        if (character)
            length = character;
        if (is_c1_control(bytes + i, length))
            for (size_t j = 0; j < length; j++)
                printf("\\x%02X", bytes[i + j]);
        else if ((bytes[i] < ' ' && bytes[i] != '\t' && bytes[i] != '\n') || bytes[i] == 0x7f)
            printf("^%c", bytes[i] ^ '@');
        else
            fwrite_unlocked(bytes + i, 1, length, stdout);
    }
}

static void print_time(const struct twinlog_record *record)
{
    char text[PRECISE_TIME_TEXT_BYTES];

    describe_precise_time(text, record->time_ns);
    printf("%s ", text);
}

static void print_line(const struct printer *printer, const struct twinlog_record *record)
{
    if (printer->with_time)
        print_time(record);
    if (printer->is_visible)
        print_visible(record);
    else
        print_bytes(record);
    putchar_unlocked('\n');
}

static void print_frame(const struct twinlog_record *record)
{
    for (unsigned i = 0; i < 4; i++)
        putchar_unlocked((unsigned char)(record->size >> (8 * i)));
    print_bytes(record);
}

static void print_json(const struct twinlog_record *record)
{
    json_begin_object(NULL);
    json_number("lsn", record->lsn);
    json_time("time", record->time_ns);
    json_number("type", record->type);
    json_number("tag", record->tag);
    json_number("size", record->size);
    json_bytes("data", record->data, record->size);
    json_end_object();
    json_end_line();
}

static void print_export(struct printer *printer, const struct twinlog_record *record)
{
    if (printer->tells_salt && record->salt != printer->salt)
        printf("salt %08" PRIx32 "\n", record->salt);
    printer->salt = record->salt;
    printf("%" PRIu64 " %" PRId64 " %u %u %zu\n", record->lsn, record->time_ns, record->type, record->tag,
           (size_t)record->size);
    print_bytes(record);
    putchar_unlocked('\n');
}

void print_record(struct printer *printer, const struct twinlog_record *record)
{
    switch (printer->format) {
    case OPTION_NUL:
        print_bytes(record);
        putchar_unlocked('\0');
        break;
    case OPTION_FRAMED:
        print_frame(record);
        break;
    case OPTION_RAW:
        print_bytes(record);
        break;
    case OPTION_JSON:
        print_json(record);
        break;
    case OPTION_EXPORT:
        print_export(printer, record);
        break;
    default:
        print_line(printer, record);
    }
}
