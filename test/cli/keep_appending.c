/* SPDX-License-Identifier: Apache-2.0 */
/* keep-appending LOG: appends 8 KB each 10 ms until a signal ends it, whatever the answer is, as a service does. */
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>
#include <twinlog.h>

int main(int argc, char **argv)
{
    static const char bytes[8000];
    const struct timespec pause = { .tv_nsec = 10000000 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    options.segment_bytes = 65536;
    const int error = argc == 2 ? twinlog_open(argv[1], &options, &log) : -1;
    if (error < 0) {
        fprintf(stderr, "keep-appending: %s\n", argc == 2 ? twinlog_strerror(error) : "no log is named");
        return 1;
    }
    for (;;) {
        (void)twinlog_append(log, bytes, sizeof(bytes), NULL);
        nanosleep(&pause, NULL);
    }
}
