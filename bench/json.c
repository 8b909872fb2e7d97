/* SPDX-License-Identifier: Apache-2.0 */
/* See json.h. Each object begins on a line of its own. */
#include "json.h"

#include <math.h>

static void write_quoted(FILE *file, const char *text)
{
    fputc('"', file);
    for (; text && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20)
            fprintf(file, "\\u%04x", c);
        else
            fprintf(file, c == '"' || c == '\\' ? "\\%c" : "%c", c);
    }
    fputc('"', file);
}

static void begin_value(struct json *json, const char *key, bool is_on_new_line)
{
    if (json->has_some)
        fputs(is_on_new_line ? "," : ", ", json->file);
    if (is_on_new_line && json->depth > 0)
        fprintf(json->file, "\n%*s", (int)json->depth, "");
    json->has_some = true;
    if (!key)
        return;
    write_quoted(json->file, key);
    fputs(": ", json->file);
}

void json_begin(struct json *json, const char *key, char bracket)
{
    begin_value(json, key, bracket == '{');
    fputc(bracket, json->file);
    json->has_some = false;
    json->depth++;
}

void json_end(struct json *json, char bracket)
{
    fputc(bracket, json->file);
    json->has_some = true;
    if (--json->depth == 0)
        fputc('\n', json->file);
}

void json_text(struct json *json, const char *key, const char *text)
{
    begin_value(json, key, false);
    write_quoted(json->file, text);
}

/* Whole numbers with all their digits. */
void json_number(struct json *json, const char *key, double value)
{
    begin_value(json, key, false);
    if (isfinite(value))
        fprintf(json->file, "%.*g", value == floor(value) ? 15 : 6, value);
    else
        fputs("null", json->file);
}

void json_answer(struct json *json, const char *key, const char *word)
{
    begin_value(json, key, false);
    fputs(word, json->file);
}
