/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four processes write their lines to one plain file: whole lines, one behind the other, at the speed of memory.
 * Without TWINLOG_SINK_MAPPED each line is a system call, and every program can read the file meanwhile.
 *
 *     cc sink.c $(pkg-config --cflags --libs twinlog) && ./a.out all.log
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define WORKERS 4
#define LINES 100000 /* of each worker */

/* Each process opens the sink for itself. */
static int work(const char *path, int worker)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct twinlog_sink *sink;
    options.flags = TWINLOG_SINK_MAPPED | TWINLOG_SINK_SHARED;
    options.flush_interval_ms = 1000; /* a power cut may take the lines of the last second */
    int rc = twinlog_sink_open(path, &options, &sink);
    if (rc < 0)
        return rc;
    for (int i = 0; rc == 0 && i < LINES; i++) {
        char line[64];
        int size = snprintf(line, sizeof(line), "worker %d has done %d\n", worker, i);
        rc = twinlog_sink_write(sink, line, (size_t)size, NULL);
        /* from here on the line survives a kill -9 */
    }
    int closed = twinlog_sink_close(sink);
    return rc < 0 ? rc : closed;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "all.log";
    int failed = 0;
    for (int worker = 0; worker < WORKERS; worker++) {
        pid_t child = fork();
        if (child < 0)
            return 1;
        if (child == 0) {
            int rc = work(path, worker);
            if (rc < 0)
                fprintf(stderr, "%s: %s\n", path, twinlog_strerror(rc));
            exit(rc < 0);
        }
    }
    for (int status; wait(&status) > 0;)
        failed |= status != 0;
    return failed;
}
