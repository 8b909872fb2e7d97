/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of results. They are constants, so any thread may ask at any time, even after a fork. */
#define _GNU_SOURCE
#include "twinlog.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* A constant: strerror() of glibc might write to a shared buffer, that of musl does not. */
static const char *describe_errno(int number)
{
#ifdef __GLIBC__
    return strerrordesc_np(number);
#else
    const char *words = strerror(number);
    const bool is_unknown = strcmp(words, strerror(-1)) == 0; /* for an unknown number musl has words, too */

    return is_unknown ? NULL : words;
#endif
}

const char *twinlog_strerror(int error)
{
    switch (error) {
    case TWINLOG_ECORRUPT:
        return "acknowledged data is damaged";
    case TWINLOG_EPOISONED:
        return "a write or sync has failed; close the log and open it again";
    case TWINLOG_EVERSION:
        return "written by a newer version of the format";
    case TWINLOG_ETRIMMED:
        return "that record was removed from the head of the log";
    case TWINLOG_EFORKED:
        return "the parent process has opened it; a child opens its own";
    case TWINLOG_ETRUNCATED:
        return "records that this reader has passed were truncated from the end of the log";
    case TWINLOG_EFOREIGN:
        return "a file in the directory belongs to another log, or is a second copy";
    case -ESTALE:
        return "the directory was removed";
    default:
        break;
    }
    if (error >= 0)
        return "success";
    const char *words = error > -4096 ? describe_errno(-error) : NULL;
    return words ? words : "unknown error";
}

const char *twinlog_version(void)
{
    return TWINLOG_VERSION;
}
