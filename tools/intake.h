/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input of a command that other processes write to, up to its end.
 *
 * A signal to stop is not the end of a pipe: its writers may go on for a while, as the old workers of a web server do
 * after a graceful restart, and what they write then is nowhere else. So reading goes on until they have closed it, at
 * most for a time that an option says. When that time is over, or a second signal has come, what waits in the pipe is
 * read, and no more. A third signal ends the process at once.
 *
 * A FIFO that is open for reading and writing, as systemd opens it, never ends: there only what waits is read. A
 * regular file loses nothing, so reading it stops at once.
 */
#ifndef TOOLS_INTAKE_H
#define TOOLS_INTAKE_H

#include "buffer.h"

#include <stdbool.h>
#include <stdint.h>

#define LINGER_HELP                                                                                          \
    "after SIGTERM or SIGINT go on until all writers have closed the pipe, for this time at most "           \
    "(default 30s): a web server's old workers still write then. 0s: write only what waits in the pipe"

enum intake_state {
    INTAKE_OPEN,
    INTAKE_LINGERS, /* a signal came, and reading goes on until the writers have closed the pipe */
    INTAKE_DRAINS,  /* what waits is read, and no more */
};

struct intake {
    uint64_t linger_ms; /* [const] */
    int hangup_fd;      /* [const] as catch_hangups() returned it; -1 = none */
    enum intake_state state;
    uint64_t linger_until_ns;  /* monotonic time */
    uint64_t drain_bytes_left; /* that waited in the pipe when the draining began */
    bool is_hung_up;           /* SIGHUP came; the caller clears it */
    bool must_poll;            /* the input cannot be read without a wait for it */
};

#define INTAKE_INIT                                                                                          \
    {                                                                                                        \
        .linger_ms = 30000, .hangup_fd = -1                                                                  \
    }

/* Is it a pipe, a FIFO or a socket? What comes from there is nowhere else. */
bool intake_is_pipe(void);
/* The argument of --linger. */
uint64_t take_linger_ms(void);

/* Waits until there is input, SIGHUP, or the monotonic time `wake_ns`; UINT64_MAX = never. Reads once into the buffer,
 * which has room for READ_BYTES. Returns
 *   1: go on, though the buffer may be as it was;
 *   0: the end of the input;
 *   -ECANCELED: no more is read after a signal or a stop_request(), though the input has no end there;
 *   or another error. */
int intake_read(struct intake *intake, struct buffer *buffer, uint64_t wake_ns);

/* Sleeps for `ms` at most, before something is tried again that has to work before more is read. False = the caller
 * must not try again, because a signal has come and the time to linger is over. */
bool intake_sleep(struct intake *intake, uint64_t ms);

#endif
