/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON, one value at a time; the commas come by themselves. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stdio.h>

struct json {
    FILE *file;
    bool has_some; /* a value in front of the next one, at the same level */
    unsigned depth;
};

/* `key` is NULL in a list and outside of everything. */
void json_begin(struct json *json, const char *key, char bracket); /* '{' or '[' */
void json_end(struct json *json, char bracket);
void json_text(struct json *json, const char *key, const char *text);   /* NULL: an empty one */
void json_number(struct json *json, const char *key, double value);     /* null unless it is finite */
void json_answer(struct json *json, const char *key, const char *word); /* true, false, null */

#endif
