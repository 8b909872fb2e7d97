/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What server.c has in memory: bytes, pairs of strings, and requests as the protocol RESP writes them. Nothing here
 * knows of a log.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes that grow at their end and shrink at their front ---------------------------------------- */

struct bytes {
    char *data;
    size_t begin, end, room;
};

static size_t left(const struct bytes *bytes)
{
    return bytes->end - bytes->begin;
}

static void *front(const struct bytes *bytes)
{
    return bytes->data + bytes->begin;
}

static void *must_have(void *memory)
{
    if (memory)
        return memory;
    fprintf(stderr, "server: out of memory\n");
    exit(1);
}

static char *make_room(struct bytes *to, size_t size)
{
    if (to->room - to->end < size && to->begin > 0) {
        memmove(to->data, front(to), left(to));
        to->end -= to->begin;
        to->begin = 0;
    }
    if (to->room - to->end < size) {
        to->room = 2 * to->room + size;
        to->data = must_have(realloc(to->data, to->room));
    }
    return to->data + to->end;
}

static void add(struct bytes *to, const void *data, size_t size)
{
    if (size == 0)
        return; /* there may be no memory yet */
    memcpy(make_room(to, size), data, size);
    to->end += size;
}

/* At most 500 characters. */
__attribute__((format(printf, 2, 3))) static void add_text(struct bytes *to, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    to->end += (size_t)vsnprintf(make_room(to, 501), 501, format, arguments);
    va_end(arguments);
}

static void drop(struct bytes *from, size_t size)
{
    from->begin += size;
    if (from->begin == from->end)
        from->begin = from->end = 0;
}

/* ---- pairs ------------------------------------------------------------------------------------------ */

#define SLOTS 65536u

struct word {
    const char *data;
    size_t size;
};

struct pair {
    struct pair *next; /* in the same slot */
    uint64_t change;   /* the number of the change that made it */
    struct word key, value;
    char bytes[];
};

static struct {
    struct pair *slots[SLOTS];
    uint64_t count;
} pairs;

/* The link to the pair of this key, or to NULL. */
static struct pair **find(struct word key)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ (unsigned char)key.data[i]) * 16777619u;

    struct pair **link = &pairs.slots[hash % SLOTS];
    while (*link && ((*link)->key.size != key.size || memcmp((*link)->key.data, key.data, key.size) != 0))
        link = &(*link)->next;
    return link;
}

/* Puts `after` in the place of the pair of this key, and returns that one. NULL: no pair. */
static struct pair *replace(struct word key, struct pair *after)
{
    struct pair **link = find(key), *before = *link;
    struct pair *next = before ? before->next : NULL;
    if (after)
        after->next = next;
    *link = after ? after : next;
    pairs.count += after != NULL;
    pairs.count -= before != NULL;
    return before;
}

static struct pair *new_pair(struct word key, struct word value, uint64_t change)
{
    struct pair *pair = must_have(malloc(sizeof(*pair) + key.size + value.size));
    pair->change = change;
    pair->key = (struct word){ memcpy(pair->bytes, key.data, key.size), key.size };
    pair->value = (struct word){ memcpy(pair->bytes + key.size, value.data, value.size), value.size };
    return pair;
}

static void forget_pairs(void)
{
    for (size_t slot = 0; slot < SLOTS; slot++)
        while (pairs.slots[slot])
            free(replace(pairs.slots[slot]->key, NULL));
}

/* ---- effects: what changes do, as bytes in a log or in a snapshot ------------------------------------ */

struct effect {
    uint32_t key_size, value_size; /* the key and the value follow */
};
#define REMOVED UINT32_MAX /* in place of the size of a value */

static void add_effect(struct bytes *to, struct word key, const struct word *value)
{
    const struct effect effect = { (uint32_t)key.size, value ? (uint32_t)value->size : REMOVED };
    add(to, &effect, sizeof(effect));
    add(to, key.data, key.size);
    if (value)
        add(to, value->data, value->size);
}

static int apply_effects(const char *data, size_t size)
{
    for (struct effect effect; size > 0;) {
        if (size < sizeof(effect))
            return -EBADMSG;
        memcpy(&effect, data, sizeof(effect));
        data += sizeof(effect);
        size -= sizeof(effect);

        const bool is_set = effect.value_size != REMOVED;
        const struct word key = { data, effect.key_size };
        const struct word value = { data + effect.key_size, is_set ? effect.value_size : 0 };
        if (size < key.size + value.size)
            return -EBADMSG;
        data += key.size + value.size;
        size -= key.size + value.size;

        free(replace(key, is_set ? new_pair(key, value, 0) : NULL));
    }
    return 0;
}

/* ---- requests --------------------------------------------------------------------------------------- */

#define WORDS 1024                 /* of a request */
#define WORD_MOST ((long)64 << 20) /* bytes of one */

/* Steps over a line that is `mark` and a number. Returns 1, 0 if it is not whole yet, -1 if it is no such line. */
static int take_number(const char **at, const char *end, char mark, long most, long *ret_number)
{
    const char *line = *at, *stop = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;
    if (!stop)
        return end - line > 32 ? -1 : 0;

    char *behind;
    *ret_number = strtol(line + 1, &behind, 10);
    *at = stop + 1;
    const bool is_right = *line == mark && behind > line + 1 && behind + 1 == stop && *behind == '\r';
    return is_right && *ret_number >= 0 && *ret_number <= most ? 1 : -1;
}

/* Finds the words of the request at the front of `data`. Returns its size, 0 if it is not whole yet, -1 if it is
 * none. */
static long parse_request(const char *data, size_t size, struct word *words, uint32_t *ret_count)
{
    const char *at = data, *end = data + size;
    long count = 0, length = 0;
    int rc = take_number(&at, end, '*', WORDS, &count);
    for (long i = 0; i < count && rc > 0; i++) {
        rc = take_number(&at, end, '$', WORD_MOST, &length);
        if (rc <= 0)
            break;
        if (end - at < length + 2)
            return 0;
        words[i] = (struct word){ at, (size_t)length };
        at += length + 2;
    }
    *ret_count = rc > 0 ? (uint32_t)count : 0;
    return rc > 0 ? at - data : rc;
}
