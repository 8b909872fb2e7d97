/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file: the front of the log, the named cursors, the named values.
 *
 * Small, rewritten in place: a change writes one slot and syncs it, then the other one. So one slot is
 * whole at any moment, a torn change is the old state or the new one, and when a call has returned both
 * slots hold it, so that damage to one of them loses nothing. Any process may change it, under a lock
 * on the file; readers take none. It grows by a new file under a temporary name, renamed over the old one.
 */
#ifndef TWL_STATE_H
#define TWL_STATE_H

#include "format/format.h"
#include "io/io.h"
#include "twinlog.h"

#define STATE_NAME "state"
#define STATE_NEW_NAME "state.new"

/* In memory: header and entries, the latter in the order of kind and name. */
struct state {
    struct state_header header;
    unsigned char *body;
    size_t room; /* bytes allocated for it */
};

/* A new one without entries and of generation 1, durable with its name on return; replaces whatever was there. */
int twl_state_create(struct io *io, const struct state_header *header);
/* The same with entries, for a copy: they are there as soon as the file is. */
int twl_state_write(struct io *io, const struct state *state);

/* The state, synced if it may not be durable; right beside a process that is changing it. -ENOENT: there is no
 * such file. TWINLOG_ECORRUPT, TWINLOG_EVERSION, system errors, with the report. Whoever acts on the state so
 * that it must not go back, as by removing segments, gets it from twl_state_change(): after a failed sync
 * another one proves nothing, and that call writes again what is in doubt. */
int twl_state_read(struct io *io, struct state *ret_state, struct twinlog_report *ret_report);
void twl_state_free(struct state *state); /* twice is harmless */

/* Reads, lets `edit` change it, and writes it if that returns 1; 0 = leave it, negative = give up with that
 * error. Durable on return, for all processes in one order; waits for another one's change, -EBUSY after 30 s.
 * What `edit` saw last is in *ret_state (may be NULL) when the result is 0, and is durable in both slots, also
 * where nothing was changed. After an error of the write it has changed or has not. */
int twl_state_change(struct io *io, int (*edit)(void *context, struct state *state), void *context,
                     struct state *ret_state);

/* Entries. `name` is NUL-terminated. -EINVAL: a bad name; -ENOENT; -ENOSPC: too much in all; -ENOMEM. */
int twl_state_check_name(const char *name);
bool twl_state_find(const struct state *state, enum state_entry_kind kind, const char *name,
                    struct state_entry *ret_entry);
int twl_state_put(struct state *state, enum state_entry_kind kind, const char *name, const void *value,
                  size_t size);
int twl_state_remove(struct state *state, enum state_entry_kind kind, const char *name);
uint64_t twl_state_cursor_lsn(const struct state_entry *entry);

/* The cursor that is furthest behind; false if there is none. */
bool twl_state_slowest(const struct state *state, struct state_entry *ret_entry);
/* LSN of the cursor that is furthest ahead; 0 if there is none. */
uint64_t twl_state_furthest(const struct state *state);
/* Moves every cursor into [least, most]; true if one moved. */
bool twl_state_clamp_cursors(struct state *state, uint64_t least, uint64_t most);

#endif
