/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings of files, by themselves: which faults are answered with zeros, and which are those of the program; what
 * cannot be mapped; what a child has that is forked in the middle. The suite io_refused has the views of files that are
 * made of them.
 */
#define _GNU_SOURCE
#include "io/mapping.h"

#include "asked.h"
#include "forbid.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES 3u

static size_t page_bytes;
static int file; /* PAGES of 'v', in memory */

static void make_file(void)
{
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    file = memfd_create("mapped", MFD_CLOEXEC);
    ck_assert_int_ge(file, 0);

    unsigned char *bytes = malloc(PAGES * page_bytes);
    ck_assert_ptr_nonnull(bytes);
    memset(bytes, 'v', PAGES * page_bytes);
    ck_assert_int_eq(pwrite(file, bytes, PAGES * page_bytes, 0), (ssize_t)(PAGES * page_bytes));
    free(bytes);
}

static void remove_file(void)
{
    close(file);
}

static int map_pages(void **ret_bytes)
{
    return twl_mapping_open(file, 0, PAGES * page_bytes, false, ret_bytes);
}

static void unmap_pages(const void *bytes)
{
    twl_mapping_close(bytes, PAGES * page_bytes);
}

/* A look that the compiler can't leave out. */
static unsigned char look_at(const void *bytes, size_t page)
{
    return *((const volatile unsigned char *)bytes + page * page_bytes);
}

static bool is_mapped(const void *bytes)
{
    return msync((void *)(uintptr_t)bytes, page_bytes, MS_ASYNC) == 0;
}

/* ---- faults ---------------------------------------------------------------------------------------- */

/* What the handler of the program, which was there before, has got. */
static unsigned faults;
static void *fault_address;

static void take_fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    faults++;
    fault_address = info->si_addr;
}

static void take_faults_with(void (*handler)(int number, siginfo_t *info, void *context))
{
    const struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

    ck_assert_int_eq(sigaction(SIGBUS, &action, NULL), 0);
}

/* As the kernel sends it to a thread for its access. */
static void fault(int code, void *address)
{
    siginfo_t info = { .si_signo = SIGBUS, .si_code = code };

    info.si_addr = address;
    ck_assert_int_eq(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS, &info), 0);
}

CASE("faults", make_file, remove_file);

static const struct fault_row {
    const char *name;
    int code;
    bool is_missing;
} fault_rows[] = {
    { "the file has no such page", BUS_ADRERR, true },
    { "the memory of the page is broken", BUS_MCEERR_AR, true },
    { "the page is there, and the access is not aligned", BUS_ADRALN, false },
};

TEST_EACH(zeros_are_only_for_a_page_that_is_missing, fault_rows)
{
    void *bytes;

    take_faults_with(take_fault);
    ck_assert_int_eq(map_pages(&bytes), 0);
    unsigned char *inside = (unsigned char *)bytes + page_bytes + 10;
    fault(row->code, inside);

    ck_assert_uint_eq(faults, row->is_missing ? 0 : 1);
    ck_assert_ptr_eq(fault_address, row->is_missing ? NULL : inside);
    ck_assert(twl_mapping_is_lost(bytes) == row->is_missing);
    ck_assert_uint_eq(look_at(bytes, 0), 'v');
    ck_assert_uint_eq(look_at(bytes, 1), row->is_missing ? 0 : 'v');
    ck_assert_uint_eq(look_at(bytes, 2), 'v');
    unmap_pages(bytes);
}

#if !HAS_SANITIZER /* which needs such mappings itself */
static sigjmp_buf after_fault;

static void leave_fault(int number, siginfo_t *info, void *context)
{
    take_fault(number, info, context);
    siglongjmp(after_fault, 1);
}

#define ZEROS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)

static int look_where_zeros_cannot_be_had(void)
{
    void *bytes;

    take_faults_with(leave_fault);
    EXPECT(map_pages(&bytes) == 0);
    EXPECT(ftruncate(file, 0) == 0);
    if (!forbid_if(SYS_mmap, ENOMEM, 3, ZEROS))
        return CANNOT_RUN;

    if (sigsetjmp(after_fault, 1) == 0) {
        look_at(bytes, 1);
        return 1;
    }
    EXPECT(fault_address == (unsigned char *)bytes + page_bytes);
    return 0;
}

/* To go on would be to fault again, for ever. */
TEST(a_page_that_is_missing_and_cannot_be_replaced_is_a_fault_of_the_program)
{
    expect_success_or_skip(run_child(look_where_zeros_cannot_be_had),
                           "a_page_that_is_missing_and_cannot_be_replaced_is_a_fault_of_the_program",
                           "no seccomp filter may be loaded");
}
#endif

/* ---- what cannot be mapped ------------------------------------------------------------------------- */

CASE("refusals", make_file, remove_file);

static const struct refusal_row {
    const char *name;
    int refused_with, error;
} refusal_rows[] = {
    { "a file system without mappings", ENODEV, -ENOTSUP },
    { "one without shared mappings", EINVAL, -ENOTSUP },
    { "a file that may not be mapped", EACCES, -EACCES },
    { "too many mappings", ENOMEM, -ENOMEM },
};

static const struct refusal_row *refusal;

static int map_what_is_refused(void)
{
    void *bytes = NULL;

    if (!forbid_if(SYS_mmap, refusal->refused_with, 4, (uint64_t)file))
        return CANNOT_RUN;
    EXPECT(map_pages(&bytes) == refusal->error);
    EXPECT(!bytes);
    return 0;
}

TEST_EACH(a_file_that_cannot_be_mapped_says_why, refusal_rows)
{
    refusal = row;
    expect_success_or_skip(run_child(map_what_is_refused), "a_file_that_cannot_be_mapped_says_why",
                           "no seccomp filter may be loaded");
}

static int map_without_addresses(void)
{
    void *bytes = NULL;

    if (!forbid_if(SYS_mmap, ENOMEM, 2, PROT_NONE))
        return CANNOT_RUN;
    EXPECT(map_pages(&bytes) == -ENOMEM);
    EXPECT(!bytes);
    return 0;
}

TEST(where_no_addresses_are_left_nothing_is_mapped)
{
    expect_success_or_skip(run_child(map_without_addresses), "where_no_addresses_are_left_nothing_is_mapped",
                           "no seccomp filter may be loaded");
}

static const struct sync_row {
    const char *name;
    int refused_with;
    bool is_of_this_file; /* else each sync of a mapping is refused, also one of nothing */
    int error;
} sync_rows[] = {
    { "the disk fails", EIO, true, -EIO },
    { "the disk is full", ENOSPC, true, -ENOSPC },
    { "a filter of the program refuses the call", EPERM, false, -EPERM },
    { "the disk fails with what a filter would say", EPERM, true, -EIO },
};

static const struct sync_row *syncing;

static int sync_what_is_refused(void)
{
    const size_t size = PAGES * page_bytes;
    void *bytes;
    bool is_forbidden;

    EXPECT(twl_mapping_open(file, 0, size, true, &bytes) == 0);
    EXPECT(twl_mapping_sync(bytes, size) == 0);
    if (syncing->is_of_this_file)
        is_forbidden = forbid_if(SYS_msync, syncing->refused_with, 1, size);
    else
        is_forbidden = forbid(SYS_msync, syncing->refused_with);
    if (!is_forbidden)
        return CANNOT_RUN;
    EXPECT(twl_mapping_sync(bytes, size) == syncing->error);
    return 0;
}

/* A sync that was refused never ran, so another one may be believed. */
TEST_EACH(a_sync_that_failed_is_told_from_one_that_was_refused, sync_rows)
{
    syncing = row;
    expect_success_or_skip(run_child(sync_what_is_refused),
                           "a_sync_that_failed_is_told_from_one_that_was_refused",
                           "no seccomp filter may be loaded");
}

/* ---- what is there while a file is being mapped ---------------------------------------------------- */

static void *place_of_mapping; /* addresses that are asked for */

static int refuse_to_map_file(const struct seccomp_notif *asked)
{
    if ((int)asked->data.args[4] != file)
        return 0;
    place_of_mapping = (void *)(uintptr_t)asked->data.args[0];
    return ENODEV;
}

/* Gives the same addresses to memory of the program. */
static int fail_to_map_and_use_the_place(void)
{
    const int protection = PROT_READ | PROT_WRITE;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *bytes;

    EXPECT(map_pages(&bytes) == -ENOTSUP);
    EXPECT(mmap(place_of_mapping, page_bytes, protection, flags, -1, 0) == place_of_mapping);
    *(unsigned char *)place_of_mapping = 'p';
    return 0;
}

static int look_at_place(void)
{
    EXPECT(look_at(place_of_mapping, 0) == 'p');
    return 0;
}

CASE("in the middle", make_file, remove_file);

TEST(of_a_file_that_could_not_be_mapped_nothing_is_left)
{
    const int result = with_asked_call(fail_to_map_and_use_the_place, SYS_mmap, refuse_to_map_file);

    if (!could_ask(result, "of_a_file_that_could_not_be_mapped_nothing_is_left"))
        return;
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(run_child(look_at_place), 0); /* the handler of fork() takes it for no mapping of ours */
}

static int result_of_child;

static int have_no_mapping(void)
{
    EXPECT(!is_mapped(place_of_mapping));
    return 0;
}

/* The file is mapped, and the kernel does not know yet that children are not to have it. */
static int fork_before_children_are_excluded(const struct seccomp_notif *asked)
{
    if (asked->data.args[2] != MADV_DONTFORK)
        return 0;
    place_of_mapping = (void *)(uintptr_t)asked->data.args[0];
    result_of_child = is_mapped(place_of_mapping) ? run_child(have_no_mapping) : -1;
    return 0;
}

static int map_beside_a_fork(void)
{
    void *bytes;

    EXPECT(map_pages(&bytes) == 0);
    EXPECT(bytes == place_of_mapping);
    EXPECT(look_at(bytes, 1) == 'v');
    unmap_pages(bytes);
    return 0;
}

TEST(a_child_does_not_get_a_mapping_that_is_being_made)
{
    const int result = with_asked_call(map_beside_a_fork, SYS_madvise, fork_before_children_are_excluded);

    if (!could_ask(result, "a_child_does_not_get_a_mapping_that_is_being_made"))
        return;
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(result_of_child, 0);
}
