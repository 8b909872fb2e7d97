/* SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON, as far as report_json() writes it: no \\u beyond control characters. */
#ifndef JSON_H
#define JSON_H

enum json_kind {
    JSON_NULL,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NUMBER,
    JSON_TEXT,
    JSON_LIST,
    JSON_OBJECT
};

struct json {
    enum json_kind kind;
    char *name; /* in an object */
    char *text;
    double number; /* NAN unless it is one */
    struct json *first, *next;
};

/* NULL if the file cannot be read or is none; says why on stderr. */
struct json *json_read(const char *path);
void json_free(struct json *value); /* NULL is allowed */

/* The member of an object; NULL if `object` is NULL or none, or has none. */
const struct json *json_get(const struct json *object, const char *name);
/* The same, as text ("" without) and as a number (NAN without). */
const char *json_text(const struct json *object, const char *name);
double json_number_of(const struct json *object, const char *name);

#endif
