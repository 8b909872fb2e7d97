/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files, where another process of the same user puts anything into what the sinks share. It can spoil the file,
 * which it may do anyway. The others read and write no memory that is not theirs for it, and change no other file.
 */
#define _GNU_SOURCE
#include "sinks.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

CASE("sink", prepare, logdir_remove);

/* Behind the area there is no memory. */
TEST(no_owner_leads_out_of_the_area)
{
    const size_t beyond = (size_t)16 << 20;
    unsigned char *bytes = mmap(NULL, AREA_BYTES + beyond, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct area *area = (struct area *)(void *)bytes;
    uint64_t start;
    ck_assert_int_eq(mprotect(bytes, AREA_BYTES, PROT_READ | PROT_WRITE), 0);
    atomic_store(&area->file_bytes, 1000);
    atomic_store(&area->cursor, cursor_of(0, PARTICIPANTS * SLOTS + 1));
    ck_assert_int_eq(twl_claim(area, 1, 10, 0, &start), CLAIM_MADE);
    atomic_store(&area->cursor, cursor_of(10, UINT16_MAX));
    twl_claim_settle(area);
    munmap(bytes, AREA_BYTES + beyond);
}

/* Says again and again that nobody uses anything, that the file went on, that it is larger, that everything is used. */
static int scribble(void)
{
    const int fd = open(area_of(path), O_RDWR), data = open(path, O_RDWR);
    EXPECT(fd >= 0 && data >= 0);
    struct area *area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT(area != MAP_FAILED);
    uint64_t random = 1;
    for (uint64_t turn = 0;; turn++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        const uint64_t offset = area_offset(area);
        struct slot *slot = &area_participant(area, 1)->slots[random >> 58];
        if (turn % 64 == 0 && offset < (UINT64_C(1) << 40)) {
            const uint64_t next = offset + 4 * CHUNK_BYTES;
            EXPECT(ftruncate(data, (off_t)(next + CHUNK_BYTES)) == 0);
            atomic_store(&area->file_bytes, next + CHUNK_BYTES);
            atomic_store(&area->cursor, cursor_of(next, 0));
        }
        atomic_store(&slot->state, turn % 3 ? 0 : random >> 32);
        if (turn % 1000 == 0)
            atomic_store(&area->populated, random);
        atomic_store(&shared->was_there, true);
    }
}

static void *write_blocks(void *context)
{
    static char block[60000];
    for (unsigned i = 0; i < 2000; i++) {
        const int rc = twinlog_sink_write(context, block, sizeof(block), NULL);
        if (rc != 0) /* an error is an answer */
            return NULL;
    }
    return NULL;
}

/* The memory of this process is what a sanitizer watches, and what a fault would end. */
TEST(a_participant_that_scribbles_spoils_the_file_alone)
{
    pthread_t threads[4];
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = start_child(scribble);
    AWAIT(atomic_load(&shared->was_there));
    for (unsigned i = 0; i < 4; i++)
        threads[i] = start_thread(write_blocks, sink);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    twinlog_sink_close(sink);
}
