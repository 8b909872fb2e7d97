/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the names of contenders and the options of twinlog's variants. */
#include "contender.h"

#include <stdio.h>
#include <string.h>
#include <twinlog.h>

static const struct {
    const char *name;
    uint32_t io;
} io_names[] = {
    { "auto", TWINLOG_IO_AUTO },
    { "uring", TWINLOG_IO_URING },
    { "uring-linked", TWINLOG_IO_URING_LINKED },
    { "dsync", TWINLOG_IO_DSYNC },
    { "fdatasync", TWINLOG_IO_FDATASYNC },
};
#define IO_NAMES (sizeof(io_names) / sizeof(io_names[0]))

const char *twinlog_io_name(uint32_t io)
{
    for (size_t i = 0; i < IO_NAMES; i++) {
        if (io_names[i].io == io)
            return io_names[i].name;
    }
    return "unknown";
}

static bool io_parse(const char *name, uint32_t *ret_io)
{
    for (size_t i = 0; i < IO_NAMES; i++) {
        if (strcmp(io_names[i].name, name) == 0) {
            *ret_io = io_names[i].io;
            return true;
        }
    }
    return false;
}

static bool u32_parse(const char *text, uint32_t *ret_value)
{
    uint64_t value;
    if (!bytes_parse(text, &value) || value > UINT32_MAX)
        return false;
    *ret_value = (uint32_t)value;
    return true;
}

/* The part after "key=", NULL if `option` does not begin so. */
static const char *value_of(const char *option, const char *key)
{
    size_t length = strlen(key);
    return strncmp(option, key, length) == 0 && option[length] == '=' ? option + length + 1 : NULL;
}

bool twinlog_setup_parse(const char *option, struct twinlog_setup *setup)
{
    const char *value;
    bool is_good = true;

    if (strcmp(option, "pad") == 0)
        setup->is_padded = true;
    else if (strcmp(option, "buffered") == 0)
        setup->is_buffered = true;
    else if (strcmp(option, "fresh") == 0)
        setup->is_fresh = true;
    else if (strcmp(option, "prepared") == 0)
        setup->is_fresh = false;
    else if (strcmp(option, "no-recycle") == 0)
        setup->is_not_recycling = true;
    else if ((value = value_of(option, "io")))
        is_good = io_parse(value, &setup->io);
    else if ((value = value_of(option, "segment")))
        is_good = bytes_parse(value, &setup->segment_bytes);
    else if ((value = value_of(option, "keep")))
        is_good = bytes_parse(value, &setup->keep_bytes);
    else if ((value = value_of(option, "buffer")))
        is_good = u32_parse(value, &setup->buffer_bytes);
    else if ((value = value_of(option, "spares")))
        is_good = u32_parse(value, &setup->spares);
    else
        is_good = false;
    if (!is_good)
        fprintf(stderr, "twinlog-bench: '%s' is no option of twinlog\n", option);
    return is_good;
}

static bool contender_parse(const char *text, const struct twinlog_setup *defaults,
                            struct contender *contender)
{
    char copy[sizeof(contender->label)], *rest = NULL;

    if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy)) {
        fprintf(stderr, "twinlog-bench: '%s' is too long\n", text);
        return false;
    }
    memcpy(contender->label, copy, sizeof(copy));
    contender->trial = NULL;
    contender->twinlog = *defaults;
    const char *name = strtok_r(copy, ":", &rest);
    contender->peer = name ? peer_find(name) : NULL;
    if (!contender->peer) {
        bool is_left_out = name && peer_is_left_out(name);
        fprintf(stderr, "twinlog-bench: '%s' is %s; see --list\n", text,
                is_left_out ? "not in this build" : "no contender");
        return false;
    }
    if (contender->peer != &peer_twinlog && *rest) {
        fprintf(stderr, "twinlog-bench: %s has no options\n", name);
        return false;
    }
    for (const char *option = strtok_r(NULL, ":", &rest); option; option = strtok_r(NULL, ":", &rest)) {
        if (!twinlog_setup_parse(option, &contender->twinlog))
            return false;
    }
    return true;
}

bool contenders_parse(const char *list, const struct twinlog_setup *defaults, bool is_lenient,
                      struct contender *contenders, size_t *ret_count)
{
    char copy[1024], *rest = NULL;
    size_t count = 0;

    if ((size_t)snprintf(copy, sizeof(copy), "%s", list) >= sizeof(copy))
        return false;
    for (const char *text = strtok_r(copy, ",", &rest); text; text = strtok_r(NULL, ",", &rest)) {
        if (is_lenient && peer_is_left_out(text)) {
            fprintf(stderr, "twinlog-bench: without %s, which is not in this build\n", text);
            continue;
        }
        if (count == MAX_CONTENDERS || !contender_parse(text, defaults, &contenders[count]))
            return false;
        count++;
    }
    *ret_count = count;
    return count > 0;
}
