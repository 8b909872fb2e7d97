/* SPDX-License-Identifier: Apache-2.0 */
/* See id.h. */
#define _GNU_SOURCE
#include "id.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void stream_print_id(char ret_text[STREAM_ID_BYTES], const char *log_id, uint64_t lsn)
{
    snprintf(ret_text, STREAM_ID_BYTES, "%s:%" PRIu64, log_id, lsn);
}

void stream_print_record(char ret_text[STREAM_RECORD_BYTES], struct stream *stream,
                         const struct twinlog_record *record, const char *shipper)
{
    int length =
        snprintf(ret_text, STREAM_RECORD_BYTES, "%" PRId64 " %u %u %" PRIu32 " %" PRIu64 " %" PRIu32 " %s",
                 record->time_ns, record->type, record->tag, record->salt, stream->front.lsn,
                 stream->front.salt, shipper);
    if (record->lsn == stream->told_lsn)
        snprintf(ret_text + length, STREAM_RECORD_BYTES - (size_t)length, " %" PRIu64 " %" PRIu64,
                 stream->lost_first_lsn, stream->lost_last_lsn);
    stream->front = (struct stream_front){ record->lsn, record->salt };
}

static bool is_hexadecimal(const char *text, size_t length)
{
    return strspn(text, "0123456789abcdef") >= length;
}

/* The digits at *text, and nothing but `end` behind them, which is passed. */
static bool parse_digits(const char **text, char end, uint64_t most, uint64_t *ret_number)
{
    char *behind = NULL;

    if (**text < '0' || **text > '9')
        return false;

    errno = 0;
    *ret_number = strtoull(*text, &behind, 10);
    if (errno || *ret_number > most || *behind != end)
        return false;

    *text = behind + (end != '\0');
    return true;
}

static bool parse_id(const char *id, struct stream_message *message, uint64_t *ret_lsn)
{
    const size_t length = LOG_ID_BYTES - 1;

    if (!id || strlen(id) < length + 2 || !is_hexadecimal(id, length) || id[length] != ':')
        return false;

    memcpy(message->log_id, id, length);
    message->log_id[length] = '\0';
    id += length + 1;
    return parse_digits(&id, '\0', INT64_MAX, ret_lsn);
}

/* " FIRST LAST", the records that were lost in front of this one; or nothing. */
static bool parse_loss(const char *text, struct stream_message *message)
{
    if (*text == '\0')
        return true;
    if (*text != ' ')
        return false;

    text++;
    return parse_digits(&text, ' ', INT64_MAX, &message->lost_first_lsn) &&
           parse_digits(&text, '\0', INT64_MAX, &message->lost_last_lsn);
}

/* -2^63 is a time, too. */
static bool parse_time(const char **text, int64_t *ret_time_ns)
{
    const bool is_negative = **text == '-';
    const uint64_t most = (uint64_t)INT64_MAX + is_negative;
    uint64_t time = 0;

    if (is_negative)
        ++*text;
    if (!parse_digits(text, ' ', most, &time))
        return false;

    if (is_negative)
        time = 0 - time;
    *ret_time_ns = (int64_t)time;
    return true;
}

/* As stream_print_record() has written it. */
static bool parse_record(const char *text, struct stream_message *message)
{
    uint64_t type = 0;
    uint64_t tag = 0;
    uint64_t salt = 0;
    uint64_t front_salt = 0;

    if (!text)
        return false;
    if (!parse_time(&text, &message->record.time_ns))
        return false;
    if (!parse_digits(&text, ' ', UINT8_MAX, &type))
        return false;
    if (!parse_digits(&text, ' ', UINT16_MAX, &tag))
        return false;
    if (!parse_digits(&text, ' ', UINT32_MAX, &salt))
        return false;
    if (!parse_digits(&text, ' ', INT64_MAX, &message->front.lsn))
        return false;
    if (!parse_digits(&text, ' ', UINT32_MAX, &front_salt))
        return false;
    if (strspn(text, "0123456789abcdef") != SHIPPER_BYTES - 1)
        return false;

    message->record.type = (uint8_t)type;
    message->record.tag = (uint16_t)tag;
    message->record.salt = (uint32_t)salt;
    message->front.salt = (uint32_t)front_salt;
    memcpy(message->shipper, text, SHIPPER_BYTES - 1);
    message->shipper[SHIPPER_BYTES - 1] = '\0';
    return parse_loss(text + SHIPPER_BYTES - 1, message);
}

void stream_parse(const char *id, const char *record, struct stream_message *message)
{
    uint64_t lsn = 0;

    message->lost_first_lsn = 0;
    message->lost_last_lsn = 0;
    message->lsn = 0;
    message->record.lsn = 0;
    if (!parse_id(id, message, &lsn) || !parse_record(record, message))
        return;

    const bool is_loss_in_front =
        message->lost_first_lsn <= message->lost_last_lsn && message->lost_last_lsn < lsn;
    if (!is_loss_in_front || message->front.lsn >= lsn)
        return;
    message->lsn = lsn;
    message->record.lsn = lsn;
}

void stream_wake(struct stream *stream)
{
    static const uint64_t one = 1;
    ssize_t written = write(stream->event_fd, &one, sizeof(one));
    (void)written;
}
