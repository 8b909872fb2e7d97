/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of results. They are constants, so any thread may ask at any time, even after a fork. */
#define _GNU_SOURCE
#include "twinlog.h"

#include <string.h>

const char *twinlog_strerror(int error)
{
    switch (error) {
    case TWINLOG_ECORRUPT:
        return "acknowledged data is damaged";
    case TWINLOG_EPOISONED:
        return "an earlier write or sync failed; close the log and open it again";
    case TWINLOG_EVERSION:
        return "written by a newer version of the format";
    case TWINLOG_ETRIMMED:
        return "that record was removed from the head of the log";
    case TWINLOG_EFORKED:
        return "this log was opened by the parent process";
    case TWINLOG_ETRUNCATED:
        return "records that this reader has passed were truncated from the end of the log";
    case TWINLOG_EFOREIGN:
        return "a segment in the directory belongs to another log";
    default:
        break;
    }
    if (error >= 0)
        return "success";
    /* a constant of glibc; strerror() might write to a shared buffer */
    const char *words = error > -4096 ? strerrordesc_np(-error) : NULL;
    return words ? words : "unknown error";
}

const char *twinlog_version(void)
{
    return TWINLOG_VERSION;
}
