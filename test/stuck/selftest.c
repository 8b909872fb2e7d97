/* SPDX-License-Identifier: Apache-2.0 */
/* stuck-selftest KIND: the disk stops answering, for the calls that its header names, and answers again. */
#define _GNU_SOURCE
#include "stuck_disk.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define LOOK_MS 100 /* what has not returned by then waits */

static char new_path[400], old_path[400];
static int old_fd;
static volatile char *mapped;

static void create(void)
{
    close(open(new_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
}

static void open_old(void)
{
    close(open(old_path, O_RDWR | O_CLOEXEC));
}

static void close_dup(void)
{
    close(dup(old_fd));
}

static void write_old(void)
{
    (void)!pwrite(old_fd, "x", 1, 0);
}

static void write_and_sync(void)
{
    (void)!pwrite(old_fd, "x", 1, 0);
    fsync(old_fd);
}

static void store_to_page(void)
{
    mapped[0] = 'x';
}

static const struct call {
    const char *name;
    void (*make)(void);
    bool waits[2]; /* by kind */
} calls[] = {
    { "open() of a new file", create, { true, true } },
    { "open() of a file", open_old, { false, true } },
    { "close()", close_dup, { false, true } },
    { "write()", write_old, { true, true } },
    { "fsync() after a write", write_and_sync, { true, true } },
    { "a store to a mapped page", store_to_page, { true, true } },
};

static _Atomic bool is_done;

static void *make_call(void *context)
{
    ((const struct call *)context)->make();
    atomic_store(&is_done, true);
    return NULL;
}

static bool check(const struct call *call, enum stuck_kind kind)
{
    const struct timespec moment = { .tv_nsec = LOOK_MS * 1000000 };
    pthread_t thread;

    mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, old_fd, PAGE);
    if (mapped == MAP_FAILED)
        return false;
    atomic_store(&is_done, false);
    stuck_disk_stop();
    if (pthread_create(&thread, NULL, make_call, (void *)(uintptr_t)call) != 0)
        return false;
    nanosleep(&moment, NULL);
    const bool has_waited = !atomic_load(&is_done);
    stuck_disk_go_on();
    pthread_join(thread, NULL);
    munmap((void *)(uintptr_t)mapped, PAGE);
    posix_fadvise(old_fd, 0, 0, POSIX_FADV_DONTNEED);
    if (has_waited != call->waits[kind])
        printf("%s %s\n", call->name, has_waited ? "waits" : "does not wait");
    return has_waited == call->waits[kind];
}

int main(int argc, char **argv)
{
    const enum stuck_kind kind = argc > 1 && strcmp(argv[1], "fuse") == 0 ? STUCK_FUSE : STUCK_EXT4;
    const char *missing = stuck_disk_mount(kind);
    bool is_right = true;

    if (missing) {
        printf("SKIP stuck-selftest: %s\n", missing);
        return 77;
    }
    snprintf(new_path, sizeof(new_path), "%s/new", stuck_disk_path());
    snprintf(old_path, sizeof(old_path), "%s/old", stuck_disk_path());
    old_fd = open(old_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (old_fd < 0 || ftruncate(old_fd, 2 * PAGE) < 0 || fsync(old_fd) < 0)
        return 1;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        is_right = check(&calls[i], kind) && is_right;
    close(old_fd);
    stuck_disk_unmount();
    return is_right ? 0 : 1;
}
