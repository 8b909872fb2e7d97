/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-seeds DIR FILE...: the golden logs FILE (test/golden) as inputs of fuzz-directory, in DIR. They have the
 * checksums that they should have, so there must be nothing to mend in them.
 */
#include "mend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 16u
#define MAX_EXTENT 4096u
#define MAX_INPUT (1u << 20)

static FILE *out;
static unsigned char extent[MAX_EXTENT];
static uint32_t extent_from, extent_bytes;

static _Noreturn void give_up(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, errno ? strerror(errno) : "not a golden log");
    exit(2);
}

static void put_number(uint64_t number, unsigned bytes)
{
    for (; bytes > 0; bytes--, number >>= 8)
        putc((int)(number & 0xff), out);
}

static void end_extent(void)
{
    if (extent_bytes == 0)
        return;
    putc('x', out);
    put_number(extent_from, 4);
    put_number(extent_bytes, 2);
    fwrite(extent, 1, extent_bytes, out);
    extent_bytes = 0;
}

static void begin_file(const char *line, const char *path)
{
    char name[64];
    unsigned size;
    if (sscanf(line, "file %63s %u", name, &size) != 2)
        give_up(path);
    const unsigned number = (unsigned)strtoul(name, NULL, 16);
    end_extent();
    putc('f', out);
    putc((int)(strcmp(name, "state") == 0 ? NAME_STATE : NAME_FIRST_SEGMENT + number - 1), out);
    put_number(size, 4);
}

/* Lines that follow each other are one extent. */
static void add_line(const char *line)
{
    char *at;
    const uint32_t offset = (uint32_t)strtoul(line, &at, 16);
    if (offset != extent_from + extent_bytes || extent_bytes + LINE_BYTES > MAX_EXTENT)
        end_extent();
    if (extent_bytes == 0)
        extent_from = offset;
    for (unsigned i = 0; i < LINE_BYTES; i++) {
        const char *before = at;
        const unsigned long byte = strtoul(before, &at, 16);
        if (at == before)
            break;
        extent[extent_bytes++] = (unsigned char)byte;
    }
}

static void convert(const char *path, const char *name)
{
    char line[256];
    FILE *in = fopen(path, "r");
    if (!in)
        give_up(path);
    out = fopen(name, "wb");
    if (!out)
        give_up(name);
    put_number(0, CONTAINER_OPTION_BYTES);
    while (fgets(line, sizeof(line), in))
        if (strncmp(line, "file ", 5) == 0)
            begin_file(line, path);
        else if (line[0] != '#')
            add_line(line);
    end_extent();
    fclose(in);
    if (fclose(out) != 0)
        give_up(name);
}

/* Torn groups that were truncated are mended as well. */
static bool is_torn(const char *path)
{
    return strstr(path, "history") != NULL;
}

static void check_mending(const char *path)
{
    static unsigned char input[MAX_INPUT], mended[MAX_INPUT];
    static struct container container;
    FILE *file = fopen(path, "rb");
    const size_t size = file ? fread(input, 1, sizeof(input), file) : 0;
    if (!container_unpack(input, size, &container))
        give_up(path);
    fclose(file);
    memcpy(mended, input, size);
    mend(&container, MEND_EVERYTHING);
    container_put_back(&container, mended);
    const bool is_same = is_torn(path) || memcmp(input, mended, size) == 0;
    container_free(&container);
    if (is_same)
        return;
    fprintf(stderr, "%s: mending changes a golden log\n", path);
    exit(1);
}

int main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        char name[4096];
        const char *slash = strrchr(argv[i], '/');
        snprintf(name, sizeof(name), "%s/%s", argv[1], slash ? slash + 1 : argv[i]);
        convert(argv[i], name);
        check_mending(name);
    }
    return argc > 2 ? 0 : 2;
}
