/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two levels of sharing: a content is an array of pages, and both have a count of owners. Sharing a
 * file is one increment; the first write copies the array, and the page it touches.
 */
#include "content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u

struct page {
    unsigned owners;
    unsigned char bytes[PAGE_BYTES];
};

struct content {
    unsigned owners;
    size_t pages;
    struct page **page; /* NULL: zeros */
};

static const unsigned char ZEROS[PAGE_BYTES];

void *sim_allocate(size_t size)
{
    return sim_reallocate(NULL, size);
}

void *sim_reallocate(void *old, size_t size)
{
    void *bytes = realloc(old, size);
    if (!bytes) {
        fprintf(stderr, "simulation: out of memory\n");
        exit(2);
    }
    return bytes;
}

static void release_page(struct page *page)
{
    if (page && --page->owners == 0)
        free(page);
}

struct content *content_create(void)
{
    struct content *content = sim_allocate(sizeof(*content));
    *content = (struct content){ .owners = 1 };
    return content;
}

struct content *content_share(struct content *content)
{
    ++content->owners;
    return content;
}

void content_release(struct content *content)
{
    if (--content->owners > 0)
        return;
    for (size_t i = 0; i < content->pages; ++i)
        release_page(content->page[i]);
    free(content->page);
    free(content);
}

static struct content *own(struct content **content)
{
    struct content *old = *content;
    if (old->owners == 1)
        return old;
    struct content *copy = content_create();
    copy->pages = old->pages;
    copy->page = sim_allocate((old->pages + 1) * sizeof(*copy->page));
    for (size_t i = 0; i < old->pages; ++i) {
        copy->page[i] = old->page[i];
        if (copy->page[i])
            ++copy->page[i]->owners;
    }
    content_release(old);
    *content = copy;
    return copy;
}

static const unsigned char *page_bytes(const struct content *content, size_t index)
{
    return index < content->pages && content->page[index] ? content->page[index]->bytes : ZEROS;
}

static void grow(struct content *content, size_t pages)
{
    if (pages <= content->pages)
        return;
    const size_t more = pages < 2 * content->pages ? 2 * content->pages : pages;
    content->page = sim_reallocate(content->page, more * sizeof(*content->page));
    memset(content->page + content->pages, 0, (more - content->pages) * sizeof(*content->page));
    content->pages = more;
}

static struct page *own_page(struct content *content, size_t index)
{
    grow(content, index + 1);
    struct page *old = content->page[index];
    if (old && old->owners == 1)
        return old;
    struct page *copy = sim_allocate(sizeof(*copy));
    copy->owners = 1;
    memcpy(copy->bytes, old ? old->bytes : ZEROS, PAGE_BYTES);
    release_page(old);
    content->page[index] = copy;
    return copy;
}

static void write_page(struct content *content, size_t index, size_t from, const unsigned char *bytes,
                       size_t size)
{
    if (memcmp(page_bytes(content, index) + from, bytes, size) != 0)
        memcpy(own_page(content, index)->bytes + from, bytes, size);
}

static size_t part_of_page(uint64_t offset, size_t size)
{
    const size_t room = PAGE_BYTES - (size_t)(offset % PAGE_BYTES);
    return size < room ? size : room;
}

void content_write(struct content **content, uint64_t offset, const unsigned char *bytes, size_t size)
{
    struct content *owned = own(content);
    while (size > 0) {
        const size_t part = part_of_page(offset, size);
        write_page(owned, (size_t)(offset / PAGE_BYTES), (size_t)(offset % PAGE_BYTES), bytes ? bytes : ZEROS,
                   part);
        bytes = bytes ? bytes + part : NULL;
        offset += part;
        size -= part;
    }
}

bool content_equals(const struct content *content, uint64_t offset, const unsigned char *bytes, size_t size)
{
    while (size > 0) {
        const size_t part = part_of_page(offset, size);
        const unsigned char *have = page_bytes(content, (size_t)(offset / PAGE_BYTES));
        if ((bytes || have != ZEROS) && memcmp(have + offset % PAGE_BYTES, bytes ? bytes : ZEROS, part) != 0)
            return false;
        bytes = bytes ? bytes + part : NULL;
        offset += part;
        size -= part;
    }
    return true;
}

void content_read(const struct content *content, uint64_t offset, unsigned char *bytes, size_t size)
{
    while (size > 0) {
        const size_t part = part_of_page(offset, size);
        memcpy(bytes, page_bytes(content, (size_t)(offset / PAGE_BYTES)) + offset % PAGE_BYTES, part);
        bytes += part;
        offset += part;
        size -= part;
    }
}

void content_truncate(struct content **content, uint64_t offset)
{
    const uint64_t end = (*content)->pages * (uint64_t)PAGE_BYTES;
    if (offset < end && !content_equals(*content, offset, NULL, (size_t)(end - offset)))
        content_write(content, offset, NULL, (size_t)(end - offset));
}
