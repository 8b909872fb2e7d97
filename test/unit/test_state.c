/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file: its entries, its two slots, and processes that change it at the same time. What a crash or a
 * fault makes of it is in test_state_crash.c.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "base/bytes.h"
#include "control/state.h"
#include "format/checksum.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct io *io;
static struct twinlog_report report;

static const struct state fresh = {
    .header = { .log_id = { 7, 8, 9 }, .generation = 1, .first_sequence = 3, .first_lsn = 42 },
};

/* ---- entries in memory ------------------------------------------------------------------------- */

static bool has_value(const struct state *state, const char *name, const char *value)
{
    struct state_entry entry;
    return twl_state_find(state, STATE_VALUE, name, &entry) && entry.value_bytes == strlen(value) &&
           memcmp(entry.value, value, entry.value_bytes) == 0;
}

static int put_text(struct state *state, const char *name, const char *value)
{
    return twl_state_put(state, STATE_VALUE, name, value, strlen(value));
}

static int put_cursor(struct state *state, const char *name, uint64_t lsn)
{
    unsigned char value[STATE_CURSOR_BYTES];
    store_le64(value, lsn);
    return twl_state_put(state, STATE_CURSOR, name, value, sizeof(value));
}

static uint64_t cursor_of(const struct state *state, const char *name)
{
    struct state_entry entry;
    return twl_state_find(state, STATE_CURSOR, name, &entry) ? twl_state_cursor_lsn(&entry) : UINT64_MAX;
}

CASE("entries", NULL, NULL);

TEST(cursors_and_values_have_names_of_their_own)
{
    struct state state = { 0 };

    ck_assert_int_eq(put_text(&state, "same", "text"), 0);
    ck_assert_int_eq(put_cursor(&state, "same", 5), 0);
    ck_assert_uint_eq(cursor_of(&state, "same"), 5);
    ck_assert(has_value(&state, "same", "text"));
    ck_assert_int_eq(twl_state_remove(&state, STATE_CURSOR, "same"), 0);
    ck_assert(has_value(&state, "same", "text"));
    twl_state_free(&state);
}

TEST(a_name_has_1_to_63_bytes)
{
    char name[STATE_MAX_NAME + 2];
    struct state state = { 0 };
    struct state_entry entry;

    memset(name, 'x', sizeof(name));
    name[STATE_MAX_NAME + 1] = '\0';
    ck_assert_int_eq(twl_state_check_name(name), -EINVAL);
    ck_assert_int_eq(put_text(&state, name, "v"), -EINVAL);
    ck_assert_int_eq(put_text(&state, "", "v"), -EINVAL);
    ck_assert_int_eq(twl_state_remove(&state, STATE_VALUE, name), -EINVAL);
    ck_assert(!twl_state_find(&state, STATE_VALUE, name, &entry));

    name[STATE_MAX_NAME] = '\0';
    ck_assert_int_eq(put_text(&state, name, "v"), 0);
    ck_assert(has_value(&state, name, "v"));
    twl_state_free(&state);
}

TEST(a_name_may_have_any_byte_but_nul)
{
    struct state state = { 0 };

    ck_assert_int_eq(put_text(&state, "\xc3\xa9 \x01", "any byte but NUL"), 0);
    ck_assert(has_value(&state, "\xc3\xa9 \x01", "any byte but NUL"));
    ck_assert_int_eq(put_text(&state, " ", "v"), 0);
    twl_state_free(&state);
}

TEST(names_that_begin_with_a_control_character_are_the_librarys)
{
    struct state state = { 0 };

    ck_assert_int_eq(twl_state_check_name("\x1f"), -EINVAL);
    ck_assert_int_eq(twl_state_check_name(STATE_TRIM_NAME), -EINVAL);
    ck_assert_int_eq(twl_state_check_name(" "), 0);
    ck_assert_int_eq(put_text(&state, STATE_TRIM_NAME, "the library's own"), 0);
    twl_state_free(&state);
}

TEST(a_value_has_up_to_4096_bytes_and_a_cursor_8)
{
    static const char bytes[STATE_MAX_VALUE + 1];
    struct state state = { 0 };

    ck_assert_int_eq(twl_state_put(&state, STATE_VALUE, "v", bytes, STATE_MAX_VALUE), 0);
    ck_assert_int_eq(twl_state_put(&state, STATE_VALUE, "v", bytes, STATE_MAX_VALUE + 1), -EINVAL);
    ck_assert_int_eq(twl_state_put(&state, STATE_CURSOR, "c", bytes, 7), -EINVAL);
    ck_assert_int_eq(twl_state_put(&state, STATE_CURSOR, "c", bytes, 9), -EINVAL);
    twl_state_free(&state);
}

TEST(a_full_state_takes_no_more_and_can_still_shrink)
{
    static char bytes[STATE_MAX_VALUE];
    struct state state = { 0 };
    char name[32];
    int rc = 0;
    unsigned count = 0;

    while (rc == 0) {
        snprintf(name, sizeof(name), "%u", count);
        rc = twl_state_put(&state, STATE_VALUE, name, bytes, sizeof(bytes));
        count++;
    }
    ck_assert_int_eq(rc, -ENOSPC);
    ck_assert_uint_gt(count, 250);
    ck_assert_uint_le(state.header.body_bytes, STATE_MAX_BODY_BYTES);

    ck_assert_int_eq(twl_state_put(&state, STATE_VALUE, "0", bytes, 100), 0);
    ck_assert_int_eq(twl_state_remove(&state, STATE_VALUE, "1"), 0);
    ck_assert_int_eq(twl_state_put(&state, STATE_VALUE, name, bytes, sizeof(bytes)), 0);
    twl_state_free(&state);
}

/* What the state should hold: a number for each of a few names, 0 = none; it is also the value's size. */
#define NAMES 40u

static void name_of(unsigned i, char *ret_name)
{
    snprintf(ret_name, STATE_MAX_NAME + 1, "%.*s%u", (int)(i % 7), "prefix", i);
}

static void assert_numbers(const struct state *state, const unsigned numbers[NAMES])
{
    struct state_entry entry, before;
    size_t offset = 0;
    unsigned count = 0, expected = 0;

    while (twl_state_entry_next(state->body, state->header.body_bytes, &offset, &entry)) {
        if (count > 0)
            ck_assert_int_lt(twl_state_entry_compare(&before, &entry), 0);
        before = entry;
        count++;
    }
    ck_assert_uint_eq(offset, state->header.body_bytes);

    for (unsigned i = 0; i < NAMES; i++) {
        char name[STATE_MAX_NAME + 1];
        name_of(i, name);
        const bool is_there = twl_state_find(state, STATE_VALUE, name, &entry);
        ck_assert(is_there == (numbers[i] > 0));
        if (!is_there)
            continue;
        expected++;
        ck_assert_uint_eq(entry.value_bytes, numbers[i]);
        for (unsigned at = 0; at < numbers[i]; at++)
            ck_assert_uint_eq(entry.value[at], (unsigned char)(numbers[i] + i));
    }
    ck_assert_uint_eq(count, expected);
}

TEST(entries_stay_in_order_whatever_is_done_to_them)
{
    struct rng rng = { test_seed() };
    struct state state = { 0 };
    unsigned numbers[NAMES] = { 0 };
    unsigned char value[400];
    char name[STATE_MAX_NAME + 1];

    for (unsigned step = 0; step < 1000; step++) {
        unsigned i = (unsigned)rng_below(&rng, NAMES);
        name_of(i, name);
        if (rng_one_in(&rng, 3)) {
            ck_assert_int_eq(twl_state_remove(&state, STATE_VALUE, name), numbers[i] > 0 ? 0 : -ENOENT);
            numbers[i] = 0;
        } else {
            numbers[i] = 1 + (unsigned)rng_below(&rng, sizeof(value) - 1);
            memset(value, (int)(numbers[i] + i), numbers[i]);
            ck_assert_int_eq(twl_state_put(&state, STATE_VALUE, name, value, numbers[i]), 0);
        }
        if (step % 10 == 0)
            assert_numbers(&state, numbers);
    }
    twl_state_free(&state);
}

TEST(the_slowest_cursor_is_known_and_values_are_none)
{
    struct state state = { 0 };
    struct state_entry entry;

    ck_assert_int_eq(put_text(&state, "a", "1"), 0);
    ck_assert(!twl_state_slowest(&state, &entry));
    ck_assert_int_eq(put_cursor(&state, "quick", 900), 0);
    ck_assert_int_eq(put_cursor(&state, "slow", 30), 0);
    ck_assert_int_eq(put_cursor(&state, "also", 500), 0);
    ck_assert(twl_state_slowest(&state, &entry));
    ck_assert_uint_eq(twl_state_cursor_lsn(&entry), 30);
    ck_assert_uint_eq(entry.name_bytes, 4);
    ck_assert_mem_eq(entry.name, "slow", 4);
    twl_state_free(&state);
}

TEST(cursors_are_moved_between_two_bounds)
{
    struct state state = { 0 };

    ck_assert_int_eq(put_cursor(&state, "behind", 10), 0);
    ck_assert_int_eq(put_cursor(&state, "beyond", 90), 0);
    ck_assert_int_eq(put_cursor(&state, "between", 50), 0);
    ck_assert_int_eq(put_text(&state, "value", "12345678"), 0);
    ck_assert(!twl_state_clamp_cursors(&state, 10, 90));
    ck_assert(twl_state_clamp_cursors(&state, 20, 80));
    ck_assert_uint_eq(cursor_of(&state, "behind"), 20);
    ck_assert_uint_eq(cursor_of(&state, "beyond"), 80);
    ck_assert_uint_eq(cursor_of(&state, "between"), 50);
    ck_assert(has_value(&state, "value", "12345678"));
    twl_state_free(&state);
}

/* ---- the file ---------------------------------------------------------------------------------- */

static char path[600], new_path[600];

static void make_place(void)
{
    logdir_make();
    snprintf(path, sizeof(path), "%s/%s", log_parent, STATE_NAME);
    snprintf(new_path, sizeof(new_path), "%s/%s", log_parent, STATE_NEW_NAME);
    ck_assert_int_eq(twl_io_posix_create(log_parent, false, &io), 0);
}

static void make_state(void)
{
    make_place();
    ck_assert_int_eq(twl_state_write(io, &fresh), 0);
}

static void remove_place(void)
{
    io->ops->destroy(io);
    logdir_remove();
}

static struct state read_state(void)
{
    struct state state = { 0 };
    int rc = twl_state_read(io, &state, &report);
    ck_assert_msg(rc == 0, "%s: %s", twinlog_strerror(rc), report.text);
    return state;
}

static int edit_nothing(void *context, struct state *state)
{
    (void)context;
    (void)state;
    return 0;
}

/* `context` is a text: the value of "v". */
static int edit_text(void *context, struct state *state)
{
    int rc = put_text(state, "v", context);
    return rc < 0 ? rc : 1;
}

/* `context` is the number of values of 4096 bytes to have. */
static int edit_size(void *context, struct state *state)
{
    static const char bytes[STATE_MAX_VALUE];
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < *(unsigned *)context; i++) {
        char name[32];
        snprintf(name, sizeof(name), "large %u", i);
        rc = twl_state_put(state, STATE_VALUE, name, bytes, sizeof(bytes));
    }
    return rc < 0 ? rc : 1;
}

static void change_text(const char *text)
{
    char copy[32];
    snprintf(copy, sizeof(copy), "%s", text);
    ck_assert_int_eq(twl_state_change(io, edit_text, copy), 0);
}

static void assert_text(const char *text)
{
    struct state state = read_state();

    ck_assert(has_value(&state, "v", text));
    ck_assert_uint_eq(state.header.first_sequence, 3);
    ck_assert_uint_eq(state.header.first_lsn, 42);
    ck_assert_mem_eq(state.header.log_id, fresh.header.log_id, LOG_ID_BYTES);
    twl_state_free(&state);
}

static off_t file_bytes(void)
{
    struct stat about;
    ck_assert_int_eq(stat(path, &about), 0);
    return about.st_size;
}

CASE("no file", make_place, remove_place);

TEST(where_there_is_no_state_there_is_none)
{
    struct state state;
    ck_assert_int_eq(twl_state_read(io, &state, &report), -ENOENT);
    ck_assert_int_eq(twl_state_change(io, edit_nothing, NULL), TWINLOG_ECORRUPT);
}

CASE("file", make_state, remove_place);

TEST(a_new_state_is_empty_and_twice_there)
{
    struct state state = read_state();

    ck_assert_uint_eq(state.header.generation, 1);
    ck_assert_uint_eq(state.header.first_sequence, 3);
    ck_assert_uint_eq(state.header.first_lsn, 42);
    ck_assert_uint_eq(state.header.body_bytes, 0);
    twl_state_free(&state);
    ck_assert_int_eq(file_bytes(), 2 * STATE_MIN_SLOT_BYTES);
    ck_assert_msg(access(new_path, F_OK) < 0, "the temporary name is gone");
}

static void damage_slot_at(off_t offset)
{
    const unsigned char byte = 0xff;
    patch_file(path, offset + 44, &byte, 1);
}

static void damage_slot(unsigned slot)
{
    damage_slot_at((off_t)slot * STATE_MIN_SLOT_BYTES);
}

static int edit_front(void *context, struct state *state)
{
    state->header.first_sequence = 5;
    state->header.first_lsn = *(uint64_t *)context;
    return 1;
}

TEST(the_head_is_changed_with_the_rest)
{
    uint64_t lsn = 99;

    ck_assert_int_eq(twl_state_change(io, edit_front, &lsn), 0);
    struct state state = read_state();
    ck_assert_uint_eq(state.header.first_sequence, 5);
    ck_assert_uint_eq(state.header.first_lsn, 99);
    twl_state_free(&state);
}

static int edit_and_give_up(void *context, struct state *state)
{
    put_text(state, "v", "lost");
    return *(int *)context;
}

TEST(an_edit_that_gives_up_changes_nothing)
{
    int error = -ERANGE, leave = 0;

    change_text("kept");
    ck_assert_int_eq(twl_state_change(io, edit_and_give_up, &error), -ERANGE);
    ck_assert_int_eq(twl_state_change(io, edit_and_give_up, &leave), 0);
    assert_text("kept");
}

TEST(a_state_grows_to_the_limit)
{
    off_t before = 0;

    for (unsigned count = 1; count < 256; count += count) {
        ck_assert_int_eq(twl_state_change(io, edit_size, &count), 0);
        ck_assert_int_ge(file_bytes(), before);
        before = file_bytes();
        struct state state = read_state();
        ck_assert_uint_ge(state.header.body_bytes, count * STATE_MAX_VALUE);
        twl_state_free(&state);
    }
    ck_assert_int_eq(before, 2 * (1 << 20));
    unsigned count = 300;
    ck_assert_int_eq(twl_state_change(io, edit_size, &count), -ENOSPC);
    ck_assert_int_eq(file_bytes(), before);
    change_text("and goes on");
    assert_text("and goes on");
}

TEST(a_copy_is_a_state_of_its_own_in_the_place_of_what_was_there)
{
    unsigned count = 20;

    ck_assert_int_eq(twl_state_change(io, edit_size, &count), 0);
    struct state copied = read_state();
    copied.header.generation = 1;
    put_file(path, NULL, 0);
    ck_assert_int_eq(twl_state_write(io, &copied), 0);
    for (unsigned damaged = 0; damaged < 3; damaged++) {
        struct state state = read_state();
        ck_assert_uint_eq(state.header.generation, 1);
        ck_assert_uint_eq(state.header.first_lsn, copied.header.first_lsn);
        ck_assert_uint_eq(state.header.body_bytes, copied.header.body_bytes);
        ck_assert_mem_eq(state.body, copied.body, state.header.body_bytes);
        twl_state_free(&state);
        ck_assert_int_eq(twl_state_write(io, &copied), 0);
        damage_slot_at(damaged % 2 * file_bytes() / 2);
    }
    twl_state_free(&copied);
}

/* ---- damage ------------------------------------------------------------------------------------ */

TEST(the_next_change_repairs_a_damaged_slot)
{
    for (unsigned changes = 0; changes < 4; changes++)
        for (unsigned slot = 0; slot < 2; slot++) {
            change_text(changes % 2 ? "odd" : "even");
            damage_slot(slot);
            ck_assert_int_eq(twl_state_change(io, edit_nothing, NULL), 0);
            damage_slot(1 - slot);
            assert_text(changes % 2 ? "odd" : "even");
        }
}

TEST(damage_to_both_slots_is_reported)
{
    struct state state;

    damage_slot(0);
    damage_slot(1);
    ck_assert_int_eq(twl_state_read(io, &state, &report), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(report.finding, TWINLOG_FOUND_BAD_STATE);
    ck_assert_int_eq(report.error, TWINLOG_ECORRUPT);
    ck_assert_str_eq(report.file, STATE_NAME);
    ck_assert_int_eq(twl_state_change(io, edit_nothing, NULL), TWINLOG_ECORRUPT);
}

TEST(a_file_that_was_truncated_is_read_as_far_as_it_goes)
{
    struct state state;

    change_text("precious");
    ck_assert_int_eq(truncate(path, 20000), 0);
    assert_text("precious");
    change_text("as good as new");
    assert_text("as good as new");
    damage_slot(0);
    assert_text("as good as new");
    ck_assert_int_eq(truncate(path, 100), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), TWINLOG_ECORRUPT);
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), TWINLOG_ECORRUPT);
}

TEST(a_state_of_a_newer_version_is_left_alone)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header = { .sequence = 1, .bytes = SEGMENT_MIN_BYTES, .incompatible = 1u << 31 };
    const unsigned char letter = 'S';
    struct state state;

    /* a segment's header, too new for us, with the fourth byte of the magic and the checksum of a state */
    twl_segment_header_encode(&header, block);
    block[3] = letter;
    store_le32(block + 20, twl_crc32c(0, block, 20));
    patch_file(path, 0, block, 24);
    ck_assert_int_eq(twl_state_read(io, &state, &report), TWINLOG_EVERSION);
    ck_assert_uint_eq(report.finding, TWINLOG_FOUND_NEWER_FORMAT);
    ck_assert_int_eq(twl_state_change(io, edit_nothing, NULL), TWINLOG_EVERSION);
}

static int edit_features(void *context, struct state *state)
{
    (void)context;
    state->header.compatible |= FEATURES_OF_WRITERS;
    return 1;
}

TEST(a_state_with_a_feature_for_readers_to_ignore_is_read_and_not_changed)
{
    struct state state;

    ck_assert_int_eq(twl_state_change(io, edit_features, NULL), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), 0);
    twl_state_free(&state);
    ck_assert_int_eq(twl_state_change(io, edit_nothing, NULL), TWINLOG_EVERSION);
}

TEST(a_state_that_cannot_be_opened_says_why)
{
    struct state state;

    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), -EISDIR);
    ck_assert_uint_eq(report.finding, TWINLOG_FOUND_SYSTEM_ERROR);
    ck_assert_int_eq(report.error, -EISDIR);
    ck_assert_int_eq(rmdir(path), 0);
}

/* ---- several processes ------------------------------------------------------------------------- */

#define CHANGERS 4u
#define CHANGES 30u

static _Atomic unsigned *finished; /* changers, in all processes */

/* One more for the name, and for all together; sizes differ from change to change, and grow. */
static int edit_counters(void *context, struct state *state)
{
    static const char filler[STATE_MAX_VALUE];
    const char *name = context;
    uint64_t own = cursor_of(state, name), all = cursor_of(state, "all");

    own = own == UINT64_MAX ? 0 : own;
    int rc = put_cursor(state, name, own + 1);
    if (rc == 0)
        rc = put_cursor(state, "all", all == UINT64_MAX ? 1 : all + 1);
    if (rc == 0)
        rc = twl_state_put(state, STATE_VALUE, name, filler, (size_t)(own * 67) % sizeof(filler));
    for (unsigned i = 0; rc == 0 && i < own / 10; i++) {
        char more[32];
        snprintf(more, sizeof(more), "%s %u", name, i);
        rc = twl_state_put(state, STATE_VALUE, more, filler, 2000);
    }
    return rc < 0 ? rc : 1;
}

static const char *const changers[CHANGERS] = { "a", "b", "c", "d" };
static unsigned changer;

static int count_up(void)
{
    char own[8];
    struct io *own_io;
    int rc = twl_io_posix_create(log_parent, false, &own_io);

    snprintf(own, sizeof(own), "%s", changers[changer]);
    for (unsigned i = 0; rc == 0 && i < CHANGES; i++)
        rc = twl_state_change(own_io, edit_counters, own);
    atomic_fetch_add(finished, 1);
    EXPECT(rc == 0);
    own_io->ops->destroy(own_io);
    return 0;
}

TEST(no_change_of_several_processes_is_lost_and_readers_see_them_in_order)
{
    pid_t children[CHANGERS];

    finished = shared_page();
    for (changer = 0; changer < CHANGERS; changer++)
        children[changer] = start_child(count_up);
    int rc = 0;
    uint64_t seen = 0, now = 0;
    while (rc == 0 && seen <= now && atomic_load(finished) < CHANGERS) {
        struct state state;
        seen = now;
        rc = twl_state_read(io, &state, &report);
        if (rc == 0) {
            now = cursor_of(&state, "all") + 1; /* there is none at first */
            twl_state_free(&state);
        }
    }
    for (unsigned i = 0; i < CHANGERS; i++)
        ck_assert_int_eq(wait_child(children[i]), 0);
    ck_assert_msg(rc == 0, "%s: %s", twinlog_strerror(rc), report.text);
    ck_assert_msg(seen <= now, "a reader went back from %u to %u", (unsigned)seen, (unsigned)now);
    struct state state = read_state();
    for (unsigned i = 0; i < CHANGERS; i++)
        ck_assert_uint_eq(cursor_of(&state, changers[i]), CHANGES);
    ck_assert_uint_eq(cursor_of(&state, "all"), CHANGERS * CHANGES);
    twl_state_free(&state);
    ck_assert_msg(file_bytes() > 2 * STATE_MIN_SLOT_BYTES, "it had to grow meanwhile");
}

/* A lock that is taken only after another process has put a larger file in the place of the one to be locked. */
static bool was_replaced;

static int replace_before_lock(const struct hooked_call *call)
{
    struct io *other;
    unsigned count = 10;

    if (call->op != SIM_LOCK || was_replaced)
        return 0;
    was_replaced = true;
    ck_assert_int_eq(twl_io_posix_create(log_parent, false, &other), 0);
    ck_assert_int_eq(twl_state_change(other, edit_size, &count), 0);
    other->ops->destroy(other);
    return 0;
}

TEST(a_change_that_waited_for_a_file_that_was_replaced_changes_the_new_one)
{
    const struct io_ops *real = io->ops;

    hooked(io, replace_before_lock);
    change_text("behind the replacement");
    io->ops = real;
    ck_assert(was_replaced);
    assert_text("behind the replacement");
    struct state state = read_state();
    struct state_entry entry;
    ck_assert_msg(twl_state_find(&state, STATE_VALUE, "large 9", &entry), "the other change is there too");
    twl_state_free(&state);
}

static const struct link_row {
    const char *name;
    bool is_replaced_meanwhile; /* by another process, before this one has the lock */
} link_rows[] = {
    { .name = "nobody else changes it" },
    { .name = "another process changes it first", .is_replaced_meanwhile = true },
};

/* As in a copy made of links. */
TEST_EACH(what_is_changed_by_one_name_is_not_changed_by_another, link_rows)
{
    char other[300];
    struct stat ours, theirs;
    const struct io_ops *real = io->ops;

    change_text("in both");
    snprintf(other, sizeof(other), "%s/other", log_parent);
    ck_assert_int_eq(link(path, other), 0);

    was_replaced = false;
    if (row->is_replaced_meanwhile)
        hooked(io, replace_before_lock);
    change_text("here alone");
    io->ops = real;
    ck_assert(was_replaced == row->is_replaced_meanwhile);

    assert_text("here alone");
    ck_assert_int_eq(stat(path, &ours), 0);
    ck_assert_int_eq(stat(other, &theirs), 0);
    ck_assert_uint_eq(ours.st_nlink, 1);
    ck_assert_uint_eq(theirs.st_nlink, 1);

    ck_assert_int_eq(rename(other, path), 0);
    assert_text("in both");
}

TEST(a_state_may_be_read_where_it_may_not_be_changed)
{
    uid_t user = geteuid();

    ck_assert_int_eq(chmod(log_parent, 0755), 0);
    ck_assert_int_eq(chmod(path, 0444), 0);
    if (user == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    struct state state = read_state();
    int rc = twl_state_change(io, edit_nothing, NULL);
    if (user == 0)
        ck_assert_int_eq(seteuid(user), 0);
    twl_state_free(&state);
    ck_assert_int_eq(rc, -EACCES);
}

/* ---- remembered --------------------------------------------------------------------------------- */

static struct state_memory memory;

static void make_memory(void)
{
    make_state();
    twl_state_memory_init(&memory);
    memory.was_asked = true;
}

static void remove_memory(void)
{
    twl_state_memory_free(&memory);
    remove_place();
}

static void change_by_memory(const char *text)
{
    char copy[32];
    snprintf(copy, sizeof(copy), "%s", text);
    ck_assert_int_eq(twl_state_change_recalled(&memory, io, edit_text, copy), 0);
}

static bool is_recalled(struct state_memory *by, const char *text)
{
    struct state state = { 0 };

    ck_assert_int_eq(twl_state_recall(by, io, &state), 0);
    const bool is_so = has_value(&state, "v", text);
    twl_state_free(&state);
    return is_so;
}

CASE("remembered", make_memory, remove_memory);

TEST(a_state_that_nobody_else_changes_is_opened_once)
{
    change_by_memory("first");
    if (!forbid(SYS_openat, EMFILE)) {
        fprintf(stderr, "SKIP state %s: no system call can be forbidden\n", __func__);
        return;
    }

    change_by_memory("second");
    ck_assert(is_recalled(&memory, "second"));
}

/* Where somebody asks for the times of a file, the next write of it has to note a finer one; statx() asks for what is
 * needed, and the older calls for all. */
TEST(a_change_does_not_ask_for_the_times_of_the_file)
{
    change_by_memory("first");
    if (!forbid(SYS_newfstatat, EIO) || !forbid(SYS_fstat, EIO)) {
        fprintf(stderr, "SKIP state %s: no system call can be forbidden\n", __func__);
        return;
    }

    change_by_memory("second");
    ck_assert(is_recalled(&memory, "second"));
}

/* Each of two memories, and changes without one, in any order. */
TEST(what_somebody_else_changes_is_noticed)
{
    struct state_memory other;
    struct rng rng = { test_seed() };
    char text[32] = "";

    twl_state_memory_init(&other);
    other.was_asked = true;

    change_by_memory(text);
    for (unsigned i = 0; i < 600; i++) {
        const uint64_t turn = rng_below(&rng, 6);
        if (turn < 3)
            snprintf(text, sizeof(text), "number %u", i);
        if (turn == 0)
            change_by_memory(text);
        else if (turn == 1)
            ck_assert_int_eq(twl_state_change_recalled(&other, io, edit_text, text), 0);
        else if (turn == 2)
            change_text(text);
        else
            ck_assert(is_recalled(turn == 3 ? &memory : &other, text));
    }
    twl_state_memory_free(&other);
}

TEST(a_state_that_grew_meanwhile_is_another_file)
{
    unsigned count = 10;

    change_by_memory("small");
    ck_assert_int_eq(twl_state_change(io, edit_size, &count), 0);
    change_by_memory("large");
    ck_assert(is_recalled(&memory, "large"));

    count = 40;
    ck_assert_int_eq(twl_state_change_recalled(&memory, io, edit_size, &count), 0);
    change_by_memory("larger");
    ck_assert(is_recalled(&memory, "larger"));
    assert_text("larger");
}

TEST(a_file_that_got_another_name_meanwhile_is_not_changed)
{
    char other[300];

    change_by_memory("in both");
    snprintf(other, sizeof(other), "%s/other", log_parent);
    ck_assert_int_eq(link(path, other), 0);

    change_by_memory("here alone");
    assert_text("here alone");
    ck_assert_int_eq(rename(other, path), 0);
    assert_text("in both");
    ck_assert(is_recalled(&memory, "in both"));
}

/* A newer version has marked it: it may be read, and only that. */
TEST(what_may_only_be_read_is_not_changed_because_it_is_remembered)
{
    change_by_memory("old");
    ck_assert_int_eq(twl_state_change(io, edit_features, NULL), 0);
    ck_assert(is_recalled(&memory, "old"));

    char text[] = "new";
    ck_assert_int_eq(twl_state_change_recalled(&memory, io, edit_text, text), TWINLOG_EVERSION);
    ck_assert(is_recalled(&memory, "old"));
}

/* What was made longer has its second slot somewhere else. */
TEST(a_file_that_was_made_longer_is_looked_at_again)
{
    change_by_memory("first");
    ck_assert_int_eq(truncate(path, 4 * STATE_MIN_SLOT_BYTES), 0);
    change_by_memory("second");
    change_by_memory("third");
    assert_text("third");

    patch_file(path, 40, "????", 4); /* one slot; the other one has it, too */
    assert_text("third");
}

/* Its process was killed behind the first slot. Some have read the new state, so nobody goes back to the old one. */
TEST(a_change_that_stopped_halfway_is_noticed)
{
    unsigned char old[2 * STATE_MIN_SLOT_BYTES];

    change_by_memory("old");
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, old, sizeof(old), 0), sizeof(old));
    close(fd);

    change_text("new");
    struct state state = read_state();
    const size_t last = (1 - state.header.generation % 2) * STATE_MIN_SLOT_BYTES;
    twl_state_free(&state);
    patch_file(path, (off_t)last, old + last, STATE_MIN_SLOT_BYTES);
    ck_assert(is_recalled(&memory, "new"));
}

/* A removal of a name that is not there, say. */
TEST(an_edit_that_gives_up_leaves_what_is_remembered)
{
    int error = -ERANGE;

    change_by_memory("first");
    if (!forbid(SYS_openat, EMFILE)) {
        fprintf(stderr, "SKIP state %s: no system call can be forbidden\n", __func__);
        return;
    }

    ck_assert_int_eq(twl_state_change_recalled(&memory, io, edit_and_give_up, &error), -ERANGE);
    ck_assert(is_recalled(&memory, "first"));
    change_by_memory("second");
    ck_assert(is_recalled(&memory, "second"));
}

TEST(a_file_that_was_cut_or_garbled_is_found_so)
{
    struct state state = { 0 };

    change_by_memory("whole");
    ck_assert_int_eq(truncate(path, STATE_MIN_SLOT_BYTES), 0);
    ck_assert(is_recalled(&memory, "whole")); /* the first slot has it */
    change_by_memory("mended");
    ck_assert(is_recalled(&memory, "mended"));

    patch_file(path, 40, "????", 4);
    patch_file(path, STATE_MIN_SLOT_BYTES + 40, "????", 4);
    ck_assert_int_eq(twl_state_recall(&memory, io, &state), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twl_state_change_recalled(&memory, io, edit_nothing, NULL), TWINLOG_ECORRUPT);
}
