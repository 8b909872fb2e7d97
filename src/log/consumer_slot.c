/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See consumer_slot.h.
 *
 * The file is a table of slots: a name, and the process that has it. A slot counts as long as its byte is locked,
 * and the kernel drops the lock at any death. So the file needs no sync and no recovery, and may be deleted while no
 * consumer is open. Slots are changed under IO_LOCK_WRITER, so two processes never take two slots for one name.
 */
#include "log/consumer_slot.h"

#include "base/bytes.h"
#include "base/process.h"
#include "segment/segment.h"
#include "twinlog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 256u
#define FIRST_LOCK 16u /* of slot 0; see docs/format.md, Locks */
#define LOCK_WAIT_MS 30000u

struct slot {
    char name[TWINLOG_NAME_BYTES]; /* zeros behind it */
    unsigned char process[8];      /* twl_process_word(), little endian */
};

static int try_slot(struct io_file *file, unsigned number)
{
    return io_lock(file, (enum io_lock)(FIRST_LOCK + number), true);
}

/* The number of the slot that is locked now. One that had the name before, so that no second slot has it too. */
static int choose(struct io_file *file, const struct slot slots[SLOTS], const struct slot *wanted,
                  pid_t *ret_holder)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        if (memcmp(slots[i].name, wanted->name, sizeof(wanted->name)) != 0)
            continue;
        const int rc = try_slot(file, i);
        if (rc != -EAGAIN)
            return rc < 0 ? rc : (int)i;
        *ret_holder = twl_process_pid(load_le64(slots[i].process));
        return -EBUSY;
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        const int rc = try_slot(file, i);
        if (rc != -EAGAIN)
            return rc < 0 ? rc : (int)i;
    }
    return -EUSERS;
}

static int take(struct io_file *file, const struct slot *wanted, pid_t *ret_holder)
{
    struct slot *slots = calloc(SLOTS, sizeof(*slots));
    size_t size;
    if (!slots)
        return -ENOMEM;
    int rc = io_read(file, slots, SLOTS * sizeof(*slots), 0, &size);
    if (rc == 0)
        rc = choose(file, slots, wanted, ret_holder);
    if (rc >= 0)
        rc = io_write_at(file, wanted, sizeof(*wanted), (uint64_t)rc * sizeof(*wanted));
    free(slots);
    return rc;
}

int twl_consumer_slot_take(struct io *io, const char *name, struct io_file **ret_file, pid_t *ret_holder)
{
    struct slot wanted = { .name = "" };
    struct io_file *file;
    memcpy(wanted.name, name, strlen(name));
    store_le64(wanted.process, twl_process_word());
    int rc = io_open_or_create(io, CONSUMERS_NAME, IO_NOT_IN_CHILDREN, &file);
    if (rc < 0)
        return rc;
    rc = twl_lock_patiently(file, LOCK_WAIT_MS);
    if (rc == 0) {
        rc = take(file, &wanted, ret_holder);
        io_unlock(file, IO_LOCK_WRITER);
    } else if (rc == -EBUSY) {
        *ret_holder = 0; /* whichever process is stopped in the middle */
    }
    if (rc < 0)
        io_close(file);
    else
        *ret_file = file;
    return rc;
}
