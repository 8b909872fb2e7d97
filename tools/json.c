/* SPDX-License-Identifier: Apache-2.0 */
/* JSON (RFC 8259): numbers, text, base64 (RFC 4648). */
#define _GNU_SOURCE
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static FILE *file; /* NULL: standard output */
static bool needs_comma;

static FILE *output(void)
{
    if (file)
        return file;
    return stdout;
}

void json_into(FILE *new_file)
{
    file = new_file;
    needs_comma = false;
}

static void put(const char *text)
{
    fputs_unlocked(text, output());
}
static void put_char(char c)
{
    putc_unlocked(c, output());
}

static void begin_value(const char *key)
{
    if (needs_comma)
        put_char(',');
    needs_comma = true;
    if (key) {
        put_char('"');
        put(key);
        put("\":");
    }
}

static void begin_container(const char *key, char bracket)
{
    begin_value(key);
    put_char(bracket);
    needs_comma = false;
}

static void end_container(char bracket)
{
    put_char(bracket);
    needs_comma = true;
}

void json_begin_object(const char *key)
{
    begin_container(key, '{');
}
void json_end_object(void)
{
    end_container('}');
}
void json_begin_array(const char *key)
{
    begin_container(key, '[');
}
void json_end_array(void)
{
    end_container(']');
}

void json_new_line(void)
{
    put_char('\n');
}

void json_end_line(void)
{
    put_char('\n');
    needs_comma = false;
}

void json_number(const char *key, uint64_t value)
{
    begin_value(key);
    fprintf(output(), "%" PRIu64, value);
}

void json_signed(const char *key, int64_t value)
{
    begin_value(key);
    fprintf(output(), "%" PRId64, value);
}

void json_decimal(const char *key, double value)
{
    begin_value(key);
    fprintf(output(), "%.3f", value);
}

void json_figure(const char *key, double value)
{
    const bool is_whole = value > -1e15 && value < 1e15 && value == (double)(int64_t)value;

    begin_value(key);
    if (isfinite(value))
        fprintf(output(), "%.*g", is_whole ? 15 : 6, value);
    else
        put("null");
}

void json_boolean(const char *key, bool value)
{
    begin_value(key);
    put(value ? "true" : "false");
}

size_t utf8_length(const unsigned char *bytes, size_t size)
{
    unsigned char least = 0x80; /* range of the second byte */
    unsigned char most = 0xbf;
    size_t length = 0;

    if (bytes[0] < 0x80)
        return 1;
    if (bytes[0] >= 0xc2 && bytes[0] <= 0xdf)
        length = 2;
    else if (bytes[0] >= 0xe0 && bytes[0] <= 0xef)
        length = 3;
    else if (bytes[0] >= 0xf0 && bytes[0] <= 0xf4)
        length = 4;
    if (!length || size < length)
        return 0;
    if (bytes[0] == 0xe0)
        least = 0xa0;
    else if (bytes[0] == 0xed)
        most = 0x9f;
    else if (bytes[0] == 0xf0)
        least = 0x90;
    else if (bytes[0] == 0xf4)
        most = 0x8f;
    if (bytes[1] < least || bytes[1] > most)
        return 0;

    for (size_t i = 2; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

bool is_c1_control(const unsigned char *bytes, size_t length)
{
    const unsigned char last = bytes[length - 1];

    if (last < 0x80 || last >= 0xa0)
        return false;
    return length == 1 || (length == 2 && bytes[0] == 0xc2);
}

static bool is_utf8(const unsigned char *bytes, size_t size)
{
    while (size) {
        size_t length = utf8_length(bytes, size);
        if (!length)
            return false;
        bytes += length;
        size -= length;
    }

    return true;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void put_escaped(unsigned char c)
{
    if (c == '\n') {
        put("\\n");
    } else if (c == '\t') {
        put("\\t");
    } else if (c < 0x20 || c >= 0x7f) {
        fprintf(output(), "\\u%04x", c);
    } else {
        put_char('\\');
        put_char((char)c);
    }
}

static void put_string(const unsigned char *bytes, size_t size)
{
    put_char('"');
    while (size) {
        size_t length = 0;
        while (length < size && is_plain(bytes[length]))
            length++;
        if (length == 0 && bytes[0] >= 0x80)
            length = utf8_length(bytes, size);
        if (length == 2 && is_c1_control(bytes, length)) {
            put_escaped(bytes[1]);
        } else if (length) {
            fwrite_unlocked(bytes, 1, length, output());
        } else {
            if (bytes[0] >= 0x80)
                put("\\ufffd");
            else
                put_escaped(bytes[0]);
            length = 1;
        }

        bytes += length;
        size -= length;
    }

    put_char('"');
}

static void put_base64(const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    put_char('"');
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t three = (uint32_t)bytes[i] << 16;
        if (left > 1)
            three |= (uint32_t)bytes[i + 1] << 8;
        if (left > 2)
            three |= bytes[i + 2];
        put_char(digits[three >> 18]);
        put_char(digits[three >> 12 & 63]);
        put_char(left > 1 ? digits[three >> 6 & 63] : '=');
        put_char(left > 2 ? digits[three & 63] : '=');
    }

    put_char('"');
}

void json_text(const char *key, const char *text)
{
    begin_value(key);
    put_string((const unsigned char *)text, strlen(text));
}

void json_bytes(const char *key, const void *data, size_t size)
{
    if (is_utf8(data, size)) {
        begin_value(key);
        put_string(data, size);
    } else {
        begin_value(NULL);
        put_char('"');
        put(key);
        put("_base64\":");
        put_base64(data, size);
    }
}
