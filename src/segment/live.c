/* SPDX-License-Identifier: Apache-2.0 */
/* See live.h. The page may hold anything when a writer finds it: it is cleared before it is used. */
#include "segment/live.h"

#include "base/base.h"
#include "segment/segment.h"

#include <errno.h>

#define LIVE_MAGIC UINT64_C(0x314556494c4c5754) /* "TWLLIVE1" */

struct live_page {
    _Atomic uint64_t magic;
    _Atomic uint32_t epoch; /* of the writer; 0 while it recovers */
    uint32_t reserved;
    struct watermark durable;
};
_Static_assert(sizeof(struct live_page) <= BLOCK_BYTES, "one page");

static int open_or_create(struct io *io, struct io_file **ret_file)
{
    int rc = io_open(io, LIVE_NAME, 0, ret_file);
    if (rc == -ENOENT)
        rc = io_open(io, LIVE_NAME, IO_CREATE, ret_file);
    if (rc == -EEXIST) /* somebody else was faster */
        rc = io_open(io, LIVE_NAME, 0, ret_file);
    return rc;
}

/* Readers in other processes can do without: they then see what is durable by the marks in the log. */
static void map_page(struct live *live)
{
    uint64_t bytes = 0;
    void *page = NULL;
    if (io_size(live->file, &bytes) == 0 && bytes >= BLOCK_BYTES &&
        live->io->ops->map(live->file, BLOCK_BYTES, &page) == 0)
        live->page = page;
}

int twl_live_lock(struct io *io, unsigned wait_ms, struct live *ret_live)
{
    struct live live = { .io = io };
    int rc = open_or_create(io, &live.file);
    if (rc < 0)
        return rc;
    rc = twl_lock_patiently(live.file, wait_ms);
    uint64_t bytes = 0;
    if (rc == 0)
        rc = io_size(live.file, &bytes);
    if (rc == 0 && bytes < BLOCK_BYTES)
        rc = io_allocate(live.file, BLOCK_BYTES);
    if (rc < 0) {
        io_close(live.file);
        return rc;
    }
    map_page(&live);
    if (live.page) {
        atomic_store(&live.page->epoch, 0);
        watermark_store(&live.page->durable, 0);
        atomic_store(&live.page->magic, LIVE_MAGIC);
    }
    *ret_live = live;
    return 0;
}

void twl_live_publish(struct live *live, uint32_t epoch, uint64_t durable_lsn)
{
    if (!live->page)
        return;
    watermark_store(&live->page->durable, durable_lsn);
    atomic_store(&live->page->epoch, epoch);
}

void twl_live_unlock(struct live *live)
{
    twl_live_unwatch(live);
}

int twl_live_watch(struct io *io, struct live *ret_live)
{
    struct live live = { .io = io };
    int rc = io_open(io, LIVE_NAME, IO_READ_ONLY, &live.file);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (rc == 0)
        map_page(&live);
    *ret_live = live;
    return 0;
}

int twl_live_has_writer(struct live *live, bool *ret_has_writer)
{
    *ret_has_writer = false;
    return live->file ? io_is_locked(live->file, ret_has_writer) : 0;
}

uint32_t twl_live_epoch(const struct live *live)
{
    bool is_ours = live->page && atomic_load(&live->page->magic) == LIVE_MAGIC;
    return is_ours ? atomic_load(&live->page->epoch) : 0;
}

uint64_t twl_live_durable_lsn(const struct live *live)
{
    return twl_live_epoch(live) > 0 ? watermark_load_checked(&live->page->durable) : 0;
}

void twl_live_unwatch(struct live *live)
{
    if (live->page)
        live->io->ops->unmap(live->io, live->page, BLOCK_BYTES);
    io_close(live->file);
    *live = (struct live){ 0 };
}

struct watermark *twl_live_watermark(struct live *live)
{
    return live->page ? &live->page->durable : NULL;
}
