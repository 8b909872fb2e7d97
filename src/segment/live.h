/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file "writer.lock": who writes the log, and how far it is durable, for other processes to see.
 *
 * Its lock keeps a second writer out. Its first page is shared memory in which the writer publishes its
 * watermark; it survives the writer's death, and nothing depends on it: without a writer its contents
 * are ignored (I7).
 */
#ifndef TWL_LIVE_H
#define TWL_LIVE_H

#include "base/watermark.h"
#include "io/io.h"

#define LIVE_NAME "writer.lock"

struct live {
    struct io *io;
    struct io_file *file;
    struct live_page *page; /* NULL where the file system can't share memory, or before the first writer */
};

/* Takes the lock: -EBUSY if another writer has it after wait_ms. Until twl_live_publish() readers see
 * a watermark of 0. */
int twl_live_lock(struct io *io, unsigned wait_ms, struct live *ret_live);
void twl_live_publish(struct live *live, uint32_t epoch, uint64_t durable_lsn);
void twl_live_unlock(struct live *live);

/* For readers. A log without the file has no writer; the result is then empty and good for all calls. */
int twl_live_watch(struct io *io, struct live *ret_live);
int twl_live_has_writer(struct live *live, bool *ret_has_writer);
uint32_t twl_live_epoch(const struct live *live);
uint64_t twl_live_durable_lsn(const struct live *live);
void twl_live_unwatch(struct live *live);

/* Where the writer's leader publishes, NULL if nowhere. */
struct watermark *twl_live_watermark(struct live *live);

#endif
