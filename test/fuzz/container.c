/* SPDX-License-Identifier: Apache-2.0 */
#include "container.h"

#include "base/bytes.h"
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_ITEM_BYTES 6u
#define EXTENT_ITEM_BYTES 7u

static const char *const NAMES[NAME_FIRST_SEGMENT] = {
    [NAME_STATE] = "state",
    [NAME_STATE_NEW] = "state.new",
    [NAME_LOCK] = "writer.lock",
    [NAME_TEMPORARY] = "0000000000000003.twl.new",
    [NAME_LAST_SEGMENT] = "ffffffffffffffff.twl",
    [NAME_OTHER] = "notes",
    [6] = "lost+found",
    [7] = "0000000000000100.twl",
};

void container_file_name(const struct packed_file *file, char ret_name[CONTAINER_NAME_BYTES])
{
    if (file->name < NAME_FIRST_SEGMENT)
        snprintf(ret_name, CONTAINER_NAME_BYTES, "%s", NAMES[file->name]);
    else
        snprintf(ret_name, CONTAINER_NAME_BYTES, "%016x.twl", file->name - NAME_FIRST_SEGMENT + 1);
}

bool container_is_state(const struct packed_file *file)
{
    return file->name == NAME_STATE || file->name == NAME_STATE_NEW;
}

/* The file of that name, a new one if there is none yet; CONTAINER_FILES if there are enough. */
static unsigned find_file(struct container *container, unsigned name, uint32_t size)
{
    for (unsigned i = 0; i < container->files; i++)
        if (container->file[i].name == name)
            return i;
    if (container->files == CONTAINER_FILES)
        return CONTAINER_FILES;
    size = size <= CONTAINER_FILE_BYTES ? size : size % CONTAINER_FILE_BYTES;
    struct packed_file *file = &container->file[container->files];
    *file = (struct packed_file){ .name = name, .size = size, .bytes = calloc(1, size + 1) };
    MUST(file->bytes);
    return container->files++;
}

static void add_extent(struct container *container, unsigned index, uint32_t offset, size_t at, size_t size)
{
    const struct packed_file *file = &container->file[index];
    if (container->extents == CONTAINER_EXTENTS || offset >= file->size)
        return;
    const size_t room = file->size - offset;
    container->extent[container->extents++] =
        (struct extent){ .file = index, .offset = offset, .at = at, .size = size < room ? size : room };
}

/* One item, or a byte that is none; returns where the next one may be. */
static size_t unpack_item(struct container *container, const unsigned char *data, size_t size, size_t at,
                          unsigned *file)
{
    const size_t left = size - at;
    if (data[at] == 'f' && left >= FILE_ITEM_BYTES) {
        *file = find_file(container, data[at + 1], load_le32(data + at + 2));
        return at + FILE_ITEM_BYTES;
    }
    if (data[at] != 'x' || left < EXTENT_ITEM_BYTES || *file == CONTAINER_FILES)
        return at + 1;
    const size_t room = left - EXTENT_ITEM_BYTES, wanted = load_le16(data + at + 5);
    const size_t bytes = wanted < room ? wanted : room;
    add_extent(container, *file, load_le32(data + at + 1), at + EXTENT_ITEM_BYTES, bytes);
    return at + EXTENT_ITEM_BYTES + bytes;
}

bool container_unpack(const unsigned char *data, size_t size, struct container *ret_container)
{
    struct container *container = ret_container;
    unsigned file = CONTAINER_FILES;
    container->files = container->extents = 0;
    if (size < CONTAINER_OPTION_BYTES)
        return false;
    memcpy(container->options, data, CONTAINER_OPTION_BYTES);
    for (size_t at = CONTAINER_OPTION_BYTES; at < size;)
        at = unpack_item(container, data, size, at, &file);
    for (unsigned i = 0; i < container->extents; i++) {
        const struct extent *extent = &container->extent[i];
        memcpy(container->file[extent->file].bytes + extent->offset, data + extent->at, extent->size);
    }
    return container->files > 0;
}

void container_put_back(const struct container *container, unsigned char *data)
{
    for (unsigned i = 0; i < container->extents; i++) {
        const struct extent *extent = &container->extent[i];
        memcpy(data + extent->at, container->file[extent->file].bytes + extent->offset, extent->size);
    }
}

void container_free(struct container *container)
{
    for (unsigned i = 0; i < container->files; i++)
        free(container->file[i].bytes);
    container->files = container->extents = 0;
}
