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
    if (!page)
        return;
    --page->owners;
    if (page->owners == 0)
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
    --content->owners;
    if (content->owners > 0)
        return;

    for (size_t i = 0; i < content->pages; ++i)
        release_page(content->page[i]);
    free(content->page);
    free(content);
}

/* Makes a copy if there are other owners. */
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
    const bool is_there = index < content->pages && content->page[index];
    if (!is_there)
        return ZEROS;
    return content->page[index]->bytes;
}

static void grow(struct content *content, size_t pages)
{
    if (pages <= content->pages)
        return;

    size_t more = 2 * content->pages;
    if (more < pages)
        more = pages;
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
    memcpy(copy->bytes, page_bytes(content, index), PAGE_BYTES);
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

static bool is_hole(const struct content *content, uint64_t offset)
{
    return page_bytes(content, (size_t)(offset / PAGE_BYTES)) == ZEROS;
}

/* What lies there of the page. */
static const unsigned char *bytes_at(const struct content *content, uint64_t offset)
{
    return page_bytes(content, (size_t)(offset / PAGE_BYTES)) + offset % PAGE_BYTES;
}

void content_write(struct content **content, uint64_t offset, const unsigned char *bytes, size_t size)
{
    struct content *owned = own(content);
    size_t done = 0;

    while (done < size) {
        const uint64_t at = offset + done;
        const size_t part = part_of_page(at, size - done);
        const unsigned char *from = bytes ? bytes + done : ZEROS;
        write_page(owned, (size_t)(at / PAGE_BYTES), (size_t)(at % PAGE_BYTES), from, part);
        done += part;
    }
}

bool content_equals(const struct content *content, uint64_t offset, const unsigned char *bytes, size_t size)
{
    size_t done = 0;

    while (done < size) {
        const uint64_t at = offset + done;
        const size_t part = part_of_page(at, size - done);
        const unsigned char *from = bytes ? bytes + done : ZEROS;
        const bool are_both_zeros = !bytes && is_hole(content, at); /* most are, and it is told quickly */
        if (!are_both_zeros && memcmp(bytes_at(content, at), from, part) != 0)
            return false;
        done += part;
    }
    return true;
}

void content_read(const struct content *content, uint64_t offset, unsigned char *bytes, size_t size)
{
    size_t done = 0;

    while (done < size) {
        const uint64_t at = offset + done;
        const size_t part = part_of_page(at, size - done);
        memcpy(bytes + done, bytes_at(content, at), part);
        done += part;
    }
}

void content_truncate(struct content **content, uint64_t offset)
{
    const uint64_t end = (*content)->pages * (uint64_t)PAGE_BYTES;
    if (offset >= end)
        return;

    const size_t size = (size_t)(end - offset);
    if (!content_equals(*content, offset, NULL, size))
        content_write(content, offset, NULL, size);
}
