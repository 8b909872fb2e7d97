/* SPDX-License-Identifier: Apache-2.0 */
/* See intake.h. */
#define _GNU_SOURCE
#include "intake.h"
#include "common.h"
#include "notify.h"
#include "stop.h"
#include "when.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define MOST_POLL_MS 60000u
#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8 /* of the kernel; musl before 1.2.5 has neither this nor preadv2() */
#endif

/* ---- what standard input is --------------------------------------------------------------------- */

bool intake_is_pipe(void)
{
    struct stat status;

    return fstat(STDIN_FILENO, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

static bool is_regular_or_unknown(void)
{
    struct stat status;

    return fstat(STDIN_FILENO, &status) < 0 || S_ISREG(status.st_mode);
}

/* Does reading come to an end when all writers have closed the pipe? Never if this process has a FIFO open for reading
 * and writing, as it is one of the writers then. */
static bool can_end(void)
{
    struct stat status;

    if (fstat(STDIN_FILENO, &status) < 0)
        return false;
    const bool is_both_ways = (fcntl(STDIN_FILENO, F_GETFL) & O_ACCMODE) == O_RDWR;
    return S_ISSOCK(status.st_mode) || (S_ISFIFO(status.st_mode) && !is_both_ways);
}

static uint64_t waiting_bytes(void)
{
    int bytes = 0;

    if (ioctl(STDIN_FILENO, FIONREAD, &bytes) < 0)
        return 0;
    return (uint64_t)bytes;
}

static bool has_writers(void)
{
    struct pollfd poll_fd = { .fd = STDIN_FILENO, .events = POLLIN };

    return poll(&poll_fd, 1, 0) >= 0 && !(poll_fd.revents & (POLLHUP | POLLERR | POLLNVAL));
}

uint64_t take_linger_ms(void)
{
    return (uint64_t)take_duration("--linger") / NS_PER_MS;
}

/* ---- the signal to stop ------------------------------------------------------------------------- */

static void drain(struct intake *intake)
{
    intake->state = INTAKE_DRAINS;
    intake->drain_bytes_left = waiting_bytes();
}

static void linger(struct intake *intake)
{
    intake->state = INTAKE_LINGERS;
    intake->linger_until_ns = monotonic_ns() + intake->linger_ms * NS_PER_MS;
    stop_again();
    notify("STOPPING=1\nSTATUS=Waits until all writers have closed its input.");
}

/* The descriptor of stop.h is readable. -ECANCELED: reading ends at once; 0: it lingers or drains from now on. */
static int begin_to_stop(struct intake *intake)
{
    if (stop_is_requested() || is_regular_or_unknown())
        return -ECANCELED;
    if (intake->state == INTAKE_OPEN && intake->linger_ms > 0 && can_end())
        linger(intake);
    else
        drain(intake);
    return 0;
}

static void end_lingering(struct intake *intake)
{
    if (has_writers())
        complain(
            "other processes still have standard input open %" PRIu64
            " s after the signal to stop: what they write from now on is lost. --linger sets how long to wait.",
            intake->linger_ms / 1000);
    drain(intake);
}

/* Ends the lingering when its time is over. */
static void check_linger_time(struct intake *intake)
{
    if (intake->state == INTAKE_LINGERS && monotonic_ns() >= intake->linger_until_ns)
        end_lingering(intake);
}

/* ---- waiting and reading ------------------------------------------------------------------------ */

static int ms_until(const struct intake *intake, uint64_t wake_ns)
{
    const uint64_t now_ns = monotonic_ns();
    uint64_t until_ns = wake_ns;

    if (intake->state == INTAKE_LINGERS && intake->linger_until_ns < until_ns)
        until_ns = intake->linger_until_ns;
    if (until_ns == UINT64_MAX)
        return -1;

    uint64_t ms = 0;
    if (until_ns > now_ns)
        ms = (until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
    if (ms < MOST_POLL_MS)
        return (int)ms;
    return (int)MOST_POLL_MS;
}

/* 1 = read now: there is input, or its end, or it drains; 0 = there is nothing to read yet; or an error. */
static int wait_for_input(struct intake *intake, uint64_t wake_ns)
{
    struct pollfd poll_fds[] = {
        { .fd = STDIN_FILENO, .events = POLLIN },
        { .fd = stop_fd(), .events = POLLIN },
        { .fd = intake->hangup_fd, .events = POLLIN },
    };
    int result = 0;

    while (poll(poll_fds, 3, ms_until(intake, wake_ns)) < 0)
        if (errno != EINTR)
            return -errno;
    if (poll_fds[2].revents || has_hung_up()) {
        take_hangup();
        intake->is_hung_up = true;
    }

    if (poll_fds[1].revents)
        result = begin_to_stop(intake);
    check_linger_time(intake);
    if (result < 0)
        return result;
    return (poll_fds[0].revents || intake->state == INTAKE_DRAINS);
}

/* Reads what is there without a wait for it, and without a poll() in front: a pipe that is full whenever it is read
 * costs one system call a time. The number of bytes; 0: it is for a poll() to say whether anything is there, or comes;
 * or an error of the input, which a second try might not be told again. FIFOs that were opened by their name, terminals
 * and older kernels do not know such reads. */
static ssize_t read_at_once(struct intake *intake, struct buffer *buffer)
{
    const struct iovec room = { buffer->bytes + buffer->end, READ_BYTES };
    const ssize_t got = syscall(SYS_preadv2, STDIN_FILENO, &room, 1, -1L, -1L, RWF_NOWAIT);

    if (got >= 0)
        return got;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL && errno != EPERM)
        return -errno;

    intake->must_poll = true;
    return 0;
}

/* Nothing but input has to be looked at: no signal has come, and it is not yet time for something else. */
static bool is_undisturbed(const struct intake *intake, uint64_t wake_ns)
{
    if (intake->state != INTAKE_OPEN || stop_signal() != 0)
        return false;
    if (stop_is_requested() || has_hung_up())
        return false;
    return wake_ns == UINT64_MAX || monotonic_ns() < wake_ns;
}

static int read_waited_for(struct intake *intake, struct buffer *buffer)
{
    uint64_t size = READ_BYTES;

    if (intake->state == INTAKE_DRAINS && intake->drain_bytes_left == 0)
        return -ECANCELED;
    if (intake->state == INTAKE_DRAINS && intake->drain_bytes_left < size)
        size = intake->drain_bytes_left;
    const ssize_t got = read(STDIN_FILENO, buffer->bytes + buffer->end, size);
    if (got < 0 && errno == EAGAIN && intake->state == INTAKE_DRAINS)
        return -ECANCELED; /* another process has read what waited */
    if (got < 0) {
        if (errno == EINTR || errno == EAGAIN)
            return 1;
        return -errno;
    }

    buffer->end += (size_t)got;
    if (intake->state == INTAKE_DRAINS)
        intake->drain_bytes_left -= (uint64_t)got;
    return got > 0;
}

int intake_read(struct intake *intake, struct buffer *buffer, uint64_t wake_ns)
{
    if (!intake->must_poll && is_undisturbed(intake, wake_ns)) {
        const ssize_t got = read_at_once(intake, buffer);
        if (got < 0)
            return (int)got;
        if (got > 0) {
            buffer->end += (size_t)got;
            return 1;
        }
    }

    int result = 1;
    if (intake->state != INTAKE_DRAINS)
        result = wait_for_input(intake, wake_ns);
    if (result < 0)
        return result;
    if (result == 0)
        return 1;
    return read_waited_for(intake, buffer);
}

bool intake_sleep(struct intake *intake, uint64_t ms)
{
    if (intake->state == INTAKE_DRAINS)
        return false;
    if (!stop_sleep(ms) && begin_to_stop(intake) < 0)
        return false;
    check_linger_time(intake);
    return intake->state != INTAKE_DRAINS;
}
