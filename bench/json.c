/* SPDX-License-Identifier: Apache-2.0 */
/* See json.h. */
#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 32

struct source {
    const char *at;
};

static struct json *read_value(struct source *source, unsigned depth);

static char look(struct source *source)
{
    source->at += strspn(source->at, " \t\r\n");
    return *source->at;
}

static bool take(struct source *source, char wanted)
{
    if (look(source) != wanted)
        return false;
    source->at++;
    return true;
}

static bool take_word(struct source *source, const char *word)
{
    if (strncmp(source->at, word, strlen(word)) != 0)
        return false;
    source->at += strlen(word);
    return true;
}

/* The text behind a quote, and past the next one; NULL if there is none. */
static char *read_text(struct source *source)
{
    if (!take(source, '"'))
        return NULL;
    char *text = malloc(strlen(source->at) + 1), *to = text;
    while (text && *source->at && *source->at != '"') {
        char c = *source->at++;
        unsigned code;
        if (c == '\\' && sscanf(source->at, "u%4x", &code) == 1 && strlen(source->at) >= 5) {
            c = (char)code;
            source->at += 5;
        } else if (c == '\\' && *source->at) {
            c = *source->at++;
        }
        *to++ = c;
    }
    if (!text || !take(source, '"')) {
        free(text);
        return NULL;
    }
    *to = 0;
    return text;
}

/* The values up to `end`; false if they do not end there. */
static bool read_values(struct source *source, struct json *into, char end, unsigned depth)
{
    struct json **last = &into->first;

    if (take(source, end))
        return true;
    do {
        char *name = end == '}' ? read_text(source) : NULL;
        if (end == '}' && (!name || !take(source, ':'))) {
            free(name);
            return false;
        }
        *last = read_value(source, depth);
        if (!*last) {
            free(name);
            return false;
        }
        (*last)->name = name;
        last = &(*last)->next;
    } while (take(source, ','));
    return take(source, end);
}

static bool read_number(struct source *source, struct json *value)
{
    char *end;
    value->kind = JSON_NUMBER;
    value->number = strtod(source->at, &end);
    const bool is_number = end != source->at;
    source->at = end;
    return is_number;
}

static bool read_into(struct source *source, struct json *value, unsigned depth)
{
    switch (look(source)) {
    case '{':
    case '[':
        value->kind = *source->at == '{' ? JSON_OBJECT : JSON_LIST;
        source->at++;
        return depth < MAX_DEPTH &&
               read_values(source, value, value->kind == JSON_OBJECT ? '}' : ']', depth + 1);
    case '"':
        value->kind = JSON_TEXT;
        value->text = read_text(source);
        return value->text != NULL;
    case 'n':
        return take_word(source, "null");
    case 't':
        value->kind = JSON_TRUE;
        return take_word(source, "true");
    case 'f':
        value->kind = JSON_FALSE;
        return take_word(source, "false");
    default:
        return read_number(source, value);
    }
}

static struct json *read_value(struct source *source, unsigned depth)
{
    struct json *value = calloc(1, sizeof(*value));
    if (!value)
        return NULL;
    value->number = NAN;
    if (read_into(source, value, depth))
        return value;
    json_free(value);
    return NULL;
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    errno = file ? 0 : errno;
    ssize_t size = file ? getdelim(&text, &room, 0, file) : -1;
    if (file)
        fclose(file);
    if (size >= 0)
        return text;
    free(text);
    return NULL;
}

struct json *json_read(const char *path)
{
    char *text = read_file(path);
    if (!text) {
        fprintf(stderr, "twinlog-bench: %s: %s\n", path, errno ? strerror(errno) : "empty");
        return NULL;
    }
    struct source source = { text };
    struct json *value = read_value(&source, 0);
    if (!value || look(&source)) {
        fprintf(stderr, "twinlog-bench: %s: no JSON at byte %zu\n", path, (size_t)(source.at - text));
        json_free(value);
        value = NULL;
    }
    free(text);
    return value;
}

void json_free(struct json *value)
{
    while (value) {
        struct json *next = value->next;
        json_free(value->first);
        free(value->name);
        free(value->text);
        free(value);
        value = next;
    }
}

const struct json *json_get(const struct json *object, const char *name)
{
    const struct json *member = object && object->kind == JSON_OBJECT ? object->first : NULL;
    while (member && strcmp(member->name, name) != 0)
        member = member->next;
    return member;
}

const char *json_text(const struct json *object, const char *name)
{
    const struct json *member = json_get(object, name);
    return member && member->kind == JSON_TEXT ? member->text : "";
}

double json_number_of(const struct json *object, const char *name)
{
    const struct json *member = json_get(object, name);
    return member ? member->number : NAN;
}
