/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON on standard output, or where json_into() says. One value at a time; these functions write the commas.
 *
 * `key` is NULL for an element of an array and for the outermost value. A write error stays in the stream's error
 * flag; finish_output() finds that of stdout.
 */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <twinlog.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

void json_into(FILE *file); /* from here on */
void json_begin_object(const char *key);
void json_end_object(void);
void json_begin_array(const char *key);
void json_end_array(void);
void json_new_line(void); /* between two values */
void json_end_line(void); /* after the outermost value */

void json_number(const char *key, uint64_t value);
void json_signed(const char *key, int64_t value);
void json_decimal(const char *key, double value); /* three places */
void json_figure(const char *key, double value);  /* whole, or six digits; null unless it is finite */
void json_boolean(const char *key, bool value);
void json_text(const char *key, const char *text); /* bytes that are not UTF-8 become U+FFFD */
void json_time(const char *key, int64_t time_ns);  /* since 1970, as "2026-11-20T07:30:00.123456789Z" */

/* "KEY": the bytes as text where they are UTF-8, else "KEY_base64". */
void json_bytes(const char *key, const void *data, size_t size);

/* Length of the character that `bytes` begins with by RFC 3629 (nothing overlong, no surrogates, at most U+10FFFF);
 * 0 = not UTF-8. */
size_t utf8_length(const unsigned char *bytes, size_t size);
/* Is the character a control behind ASCII, in UTF-8 or as a byte by itself? A terminal acts upon those, too. */
bool is_c1_control(const unsigned char *bytes, size_t length);
void json_report(const char *key, const struct twinlog_report *report);

#endif
