/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file: the head of the log, the named cursors, the named values.
 *
 * It is small and rewritten in place: a change writes one slot and syncs it, then the other. So one slot is whole at
 * any moment, and a torn change leaves the old state or the new one. When a call has returned, both slots hold the
 * state, so damage to one of them loses nothing. Any process may change the file, under a lock on it; readers take no
 * lock. The file grows by a new file under a temporary name, which is renamed over the old one.
 */
#ifndef TWL_STATE_H
#define TWL_STATE_H

#include "base/sync.h"
#include "format/format.h"
#include "io/io.h"
#include "twinlog.h"

#define STATE_NAME "state"
#define STATE_NEW_NAME "state.new"

/* A value of the library's: what a process wants to be trimmed by the writer, two LSNs (docs/format.md). */
#define STATE_TRIM_NAME "\001trim"
#define STATE_TRIM_BYTES 16u

/* The generation of a log that may have no segment yet. Where the state has a later one, segments that are not there
 * are missing. */
#define GENERATION_BEFORE_SEGMENTS 1u
#define GENERATION_WITH_SEGMENTS 2u

/* In memory: header and entries, in the order of kind and name. */
struct state {
    struct state_header header;
    unsigned char *body;
    size_t room;     /* bytes allocated for the body */
    bool is_in_both; /* the file had it in both slots when it was read */
};

/* Makes a new file with this state, in its generation; durable with its name on return. Replaces any older one. */
int twl_state_write(struct io *io, const struct state *state);

/* Reads the state, also while a process is changing it, and syncs it if it may not be durable. -ENOENT: no such file.
 * TWINLOG_EFOREIGN: the file is not of the log that this process has open here. That, TWINLOG_ECORRUPT,
 * TWINLOG_EVERSION and system errors come with the report. A caller with an action that needs a state
 * that can't go back, as removing segments, acts on what it saw in twl_state_change(): after a failed sync another sync
 * proves nothing, and that call writes again what is in doubt. */
int twl_state_read(struct io *io, struct state *ret_state, struct twinlog_report *ret_report);
void twl_state_free(struct state *state); /* may be called twice */

/* Reads the state, lets `edit` change it, and writes it if `edit` returns 1; 0 = leave it, negative = give
 * up with that error. Durable on return. The changes of all processes have one order: waits for another
 * process's change, -EBUSY after 30 s. TWINLOG_ECORRUPT also if there is no file. If the result is 0, what
 * `edit` saw or changed last is durable in both slots. After a write error the change has happened or not. */
int twl_state_change(struct io *io, int (*edit)(void *context, struct state *state), void *context);
int twl_state_change_within(struct io *io, unsigned wait_ms, int (*edit)(void *context, struct state *state),
                            void *context);

/* The state as it was when this process saw it last, with the file that it was in. A change begins with the slot that
 * the generation does not name; while the page cache shows the same header there, nobody has changed the state, and
 * neither a disk nor a body has to be read. */
struct known_state {
    struct io_file *file; /* NULL: nothing is remembered */
    bool is_writable;
    size_t slot_bytes;
    struct state state; /* it was on the disk, in both slots */
    unsigned char header[STATE_HEADER_BYTES];
};

struct state_memory {
    struct twl_mutex lock;
    struct known_state known; /* [lock] */
    bool was_asked;           /* [lock] by the first read or change; what later ones find is remembered */
};

void twl_state_memory_init(struct state_memory *memory);
void twl_state_memory_free(struct state_memory *memory); /* before its io is destroyed */

/* As twl_state_read() and twl_state_change(), by what is remembered as long as that is the current state. Any threads
 * may read at a time, and one change. */
int twl_state_recall(struct state_memory *memory, struct io *io, struct state *ret_state);
int twl_state_change_recalled(struct state_memory *memory, struct io *io,
                              int (*edit)(void *context, struct state *state), void *context);

/* Entries. `name` is NUL-terminated. -EINVAL: a bad name, or NULL. -ENOENT. -ENOSPC: too many bytes in all. -ENOMEM. */
int twl_state_check_name(const char *name);        /* of a program: not one of the library's */
bool twl_state_name_is_reserved(const char *name); /* for later versions of the library */
bool twl_state_find(const struct state *state, enum state_entry_kind kind, const char *name,
                    struct state_entry *ret_entry);
int twl_state_put(struct state *state, enum state_entry_kind kind, const char *name, const void *value,
                  size_t size);
int twl_state_remove(struct state *state, enum state_entry_kind kind, const char *name);
uint64_t twl_state_cursor_lsn(const struct state_entry *entry);

/* The cursor with the smallest LSN; false if there is none. */
bool twl_state_slowest(const struct state *state, struct state_entry *ret_entry);
/* The largest LSN of all cursors; 0 if there is none. */
uint64_t twl_state_furthest(const struct state *state);
/* Moves every cursor into [least, most]; true if one moved. */
bool twl_state_clamp_cursors(struct state *state, uint64_t least, uint64_t most);
/* After a truncation: the log goes from `first_lsn`, in the segment `sequence` or a later one, to `last_lsn`. Moves the
 * cursors there, and the head to that segment if it is before it. True if something moved. */
bool twl_state_settle(struct state *state, uint64_t sequence, uint64_t first_lsn, uint64_t last_lsn);

#endif
