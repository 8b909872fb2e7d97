/* SPDX-License-Identifier: Apache-2.0 */
/* See copies.h. */
#define _GNU_SOURCE
#include "copies.h"
#include "logdir.h"
#include "suites.h"

#include "control/state.h"
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

char copy_dir[320];
const unsigned char garbage[SEGMENT_HEADER_BYTES] = { 1, 2, 3 };

void make_place(void)
{
    logdir_make();
    snprintf(copy_dir, sizeof(copy_dir), "%s/copy", log_parent);
}

void in_copy(void (*check)(void))
{
    char own[sizeof(log_dir)];

    memcpy(own, log_dir, sizeof(own));
    snprintf(log_dir, sizeof(log_dir), "%.*s", (int)sizeof(log_dir) - 1, copy_dir);
    check();
    memcpy(log_dir, own, sizeof(own));
}

struct twinlog_options small_segments(uint32_t flags)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.flags = TWINLOG_BUFFERED | flags, .segment_bytes = 64 * KIB);

    return options;
}

struct twinlog *open_small(void)
{
    const struct twinlog_options options = small_segments(0);

    return log_open(&options);
}

struct twinlog *open_at(const char *dir)
{
    struct twinlog_options options = small_segments(0);
    struct twinlog *log = NULL;
    int error = twinlog_open(dir, &options, &log);

    ck_assert_msg(error == 0, "opening %s: %s; %s", dir, twinlog_strerror(error), log_report.text);
    return log;
}

void remove_copy(void)
{
    DIR *list = opendir(copy_dir);
    const struct dirent *entry;

    if (!list)
        return;
    while ((entry = readdir(list)))
        if (entry->d_name[0] != '.')
            ck_assert_int_eq(unlinkat(dirfd(list), entry->d_name, 0), 0);
    closedir(list);
    ck_assert_int_eq(rmdir(copy_dir), 0);
}

struct tally copy_tally;

void take_tally(void)
{
    copy_tally = log_check();
}

void fill(struct twinlog *log, uint32_t from)
{
    append_records(log, 0, from, 300);
    ck_assert_uint_ge(log_stat(log).segments, 4);
}

struct twinlog *open_filled(void)
{
    struct twinlog *log = open_small();

    fill(log, 0);
    return log;
}

int keep_segment(void *context, const struct twinlog_segment *segment)
{
    struct listing *listing = context;

    if (listing->count == 64)
        return -EOVERFLOW;
    listing->list[listing->count++] = *segment;
    return 0;
}

struct listing list_segments(void)
{
    struct listing listing = { 0 };

    ck_assert_int_eq(twinlog_segments(log_dir, keep_segment, &listing), 0);
    return listing;
}

struct listing list_started(const char *dir)
{
    struct listing listing = { 0 };

    ck_assert_int_eq(twinlog_segments(dir, keep_segment, &listing), 0);
    while (listing.count > 0 && listing.list[listing.count - 1].state > TWINLOG_SEGMENT_ACTIVE)
        listing.count--;
    return listing;
}

uint64_t cursor_in_copy(const char *name)
{
    struct twinlog_report report;
    struct state_entry entry;
    struct state state;
    struct io *io;
    uint64_t lsn = 0;

    ck_assert_int_eq(twl_io_posix_create(copy_dir, true, &io), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), 0);
    if (twl_state_find(&state, STATE_CURSOR, name, &entry))
        lsn = twl_state_cursor_lsn(&entry);
    twl_state_free(&state);
    io->ops->destroy(io);
    return lsn;
}

char reference_dir[320];

void make_damageable(void)
{
    struct twinlog *log = open_filled();
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 300), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "value", "kept", 4), 0);
    log_close(log);
    snprintf(reference_dir, sizeof(reference_dir), "%s/reference", log_parent);
    copy_directory(log_dir, reference_dir);
}

off_t find_record(const char *path, uint32_t sequence, size_t *ret_size)
{
    static unsigned char file[64 * 1024];
    unsigned char bytes[RECORD_ROOM];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    *ret_size = make_record(0, sequence, bytes);
    ck_assert_int_eq(read(fd, file, sizeof(file)), sizeof(file));
    close(fd);
    const unsigned char *at = memmem(file, sizeof(file), bytes, *ret_size);
    ck_assert_ptr_nonnull(at);
    return at - file;
}

/* Nothing came behind the last group, so it is taken for torn, as opening would. */
static uint64_t consumed_lsn;

static int append_and_exit(void)
{
    const struct twinlog_options options = small_segments(0);
    struct twinlog *log;

    if (twinlog_open(log_dir, &options, &log) != 0)
        return 1;
    for (uint32_t i = 0; i < 10; i++) /* the last three are one group */
        if ((i < 7 ? append_record : enqueue_record)(log, 0, i, NULL) != 0)
            return 2;
    if (twinlog_sync(log) != 0)
        return 3;
    return twinlog_cursor_set(log, "consumer", consumed_lsn);
}

void make_torn_tail(uint64_t consumed)
{
    size_t size;

    consumed_lsn = consumed;
    ck_assert_int_eq(run_child(append_and_exit), 0);
    off_t at = find_record(log_segment(1), 8, &size);
    patch_file(log_segment(1), at, "\x5a", 1);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), consumed > 7 ? TWINLOG_ECORRUPT : 0);
}
