/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files, where another process with the right to write them puts anything into what the sinks share. It can
 * spoil the file, which it may do anyway. The others read and write no memory of their own for it, change no other
 * file, and open theirs to no other user.
 */
#define _GNU_SOURCE
#include "sinks.h"
#include "suites.h"

#include <errno.h>
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

static mode_t mode_when_locked;

static int note_mode(const struct hooked_call *call)
{
    struct stat about;
    if (call->op == SIM_LOCK && call->lock == IO_LOCK_WRITER && stat(area_of(path), &about) == 0)
        mode_when_locked = about.st_mode & 0777;
    return 0;
}

/* As it is after a rotation that makes the next file itself. */
TEST_LOOP(what_lies_beside_is_never_open_to_more_users, 2)
{
    static const mode_t modes[] = { 0600, 0640 };
    const mode_t before = umask(0);
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    put_text(path, "");
    ck_assert_int_eq(chmod(path, modes[_i]), 0);
    hooked(sink->io, note_mode);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    umask(before);
    ck_assert_uint_eq(mode_when_locked, modes[_i]);
    close_sink(sink);
}
