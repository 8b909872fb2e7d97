/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every handle of a process has beside its bytes: descriptors and mappings. None of the descriptors is one of 0 to
 * 2, and a forked child has neither, but for the eventfds that the program has asked for.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "logdir.h"
#include "suites.h"

#include "base/descriptor.h"
#include "base/fork.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define MIB UINT64_C(1048576)
#define BUFFER_BYTES                                                                                         \
    (24 * MIB) /* more than the stack of a thread, so that the memory of a log is known by its size */
#define LEAST_BUFFERS (2 * BUFFER_BYTES)
#define SUBSETS 8 /* of the descriptors 0 to 2 */

/* ---- a handle of each kind ------------------------------------------------------------------------- */

static const struct way {
    const char *name;
    enum twinlog_mode mode;
    enum twinlog_io io;
} ways[] = {
    { .name = "as the log chooses" },
    { .name = "io_uring", .io = TWINLOG_IO_URING },
    { .name = "io_uring, linked", .io = TWINLOG_IO_URING_LINKED },
    { .name = "dsync", .io = TWINLOG_IO_DSYNC },
    { .name = "fdatasync", .io = TWINLOG_IO_FDATASYNC },
    { .name = "the mapped mode", .mode = TWINLOG_MODE_MAPPED },
    { .name = "the shared mode", .mode = TWINLOG_MODE_SHARED },
};

static struct twinlog_options options_of(const struct way *way)
{
    struct twinlog_options options = log_options(way->io, 0);

    options.buffer_bytes = BUFFER_BYTES;
    options.mode = way->mode;
    return options;
}

static struct {
    struct twinlog *log, *of_committer;
    struct twinlog_reader *outside, *attached;
    struct twinlog_consumer *consumer;
    struct twinlog_queue *queue;
    struct twinlog_committer *committer;
    struct twinlog_sink *sink;
} handles;

static const char *path_beside(const char *name)
{
    static char path[300];

    snprintf(path, sizeof(path), "%s/%s", log_parent, name);
    return path;
}

static int read_one(struct twinlog_reader *reader)
{
    struct twinlog_record record;

    EXPECT(twinlog_reader_next(reader, &record) == 1);
    EXPECT(twinlog_reader_fd(reader) >= 3);
    return 0;
}

static int open_readers(void)
{
    const struct twinlog_reader_options mapping = { .size = sizeof(mapping), .flags = TWINLOG_READER_MMAP };

    EXPECT(twinlog_reader_open(log_dir, &mapping, &handles.outside) == 0);
    EXPECT(twinlog_reader_attach(handles.log, NULL, &handles.attached) == 0);
    EXPECT(twinlog_consumer_open(log_dir, "consumer", NULL, &handles.consumer) == 0);
    EXPECT(read_one(handles.outside) == 0);
    EXPECT(read_one(handles.attached) == 0);
    EXPECT(read_one(twinlog_consumer_reader(handles.consumer)) == 0);
    return 0;
}

static int open_of_committer(void)
{
    struct twinlog_options options = log_options(0, 0);

    EXPECT(twinlog_committer_open(NULL, &handles.committer) == 0);
    options.committer = handles.committer;
    EXPECT(twinlog_open(path_beside("other"), &options, &handles.of_committer) == 0);
    EXPECT(twinlog_append(handles.of_committer, "one", 3, NULL) == 0);
    return 0;
}

static int open_sink(void)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .flags = TWINLOG_SINK_MAPPED);

    EXPECT(twinlog_sink_open(path_beside("sink"), &options, &handles.sink) == 0);
    EXPECT(twinlog_sink_write(handles.sink, "a line\n", 7, NULL) == 0);
    EXPECT(twinlog_sink_sync(handles.sink) == 0);
    return 0;
}

static int open_handles(const struct way *way)
{
    const struct twinlog_options options = options_of(way);

    EXPECT(twinlog_open(log_dir, &options, &handles.log) == 0);
    EXPECT(append_record(handles.log, 0, 0, NULL) == 0);
    EXPECT(twinlog_sync(handles.log) == 0);
    EXPECT(open_readers() == 0);
    EXPECT(open_of_committer() == 0);
    EXPECT(twinlog_queue_open(&handles.queue) == 0);
    EXPECT(twinlog_queue_fd(handles.queue) >= 3);
    EXPECT(open_sink() == 0);
    return 0;
}

static int close_handles(void)
{
    twinlog_consumer_close(handles.consumer);
    twinlog_reader_close(handles.attached);
    twinlog_reader_close(handles.outside);
    EXPECT(twinlog_sink_close(handles.sink) == 0);
    EXPECT(twinlog_queue_close(handles.queue) == 0);
    EXPECT(twinlog_close(handles.of_committer) == 0);
    EXPECT(twinlog_committer_close(handles.committer) == 0);
    EXPECT(twinlog_close(handles.log) == 0);
    return 0;
}

/* ---- the descriptors 0 to 2 ------------------------------------------------------------------------ */

static const struct way *way_of_child;
static int closed_of_child; /* a bit for each of them that is closed */

/* While a thread of the library opens a file, what it has opened with O_PATH holds the places below 3. */
static bool is_held_for_a_moment(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_PATH);
}

static int look_at_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        while (is_held_for_a_moment(fd))
            usleep(1000);

        const bool is_open = fcntl(fd, F_GETFD) >= 0;
        const bool was_left_open = (closed_of_child & (1 << fd)) == 0;
        EXPECT(is_open == was_left_open);
    }
    return 0;
}

/* Another log of the same process, and what opens files for a moment. */
static int look_at_all(void)
{
    struct twinlog_inspection about = { .size = sizeof(about) };

    EXPECT(twinlog_inspect(log_dir, &about) == 0);
    EXPECT(twinlog_verify(log_dir, NULL, NULL) == 0);
    EXPECT(twinlog_backup(log_dir, path_beside("copy"), NULL, NULL) == 0);
    return 0;
}

static int use_with_descriptors_closed(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (closed_of_child >> fd & 1)
            close(fd);
    EXPECT(open_handles(way_of_child) == 0);
    EXPECT(look_at_standard_descriptors() == 0);
    EXPECT(close_handles() == 0);
    EXPECT(look_at_all() == 0);
    EXPECT(look_at_standard_descriptors() == 0);
    return 0;
}

CASE("the descriptors 0 to 2", logdir_make, logdir_remove);

TEST_EACH(none_of_a_handle_is_one_of_them, ways)
{
    way_of_child = row;
    if (!log_can_use("none_of_a_handle_is_one_of_them", row->io, 0))
        return;
    for (closed_of_child = 0; closed_of_child < SUBSETS; closed_of_child++) {
        ck_assert_int_eq(run_child(use_with_descriptors_closed), 0);
        remove_tree(log_dir);
        remove_tree(path_beside("other"));
        remove_tree(path_beside("copy"));
        unlink(path_beside("sink"));
    }
}

static int use_without_ppoll(void)
{
    return forbid(SYS_ppoll, ENOSYS) ? use_with_descriptors_closed() : CANNOT_RUN;
}

/* A sandbox may refuse the call by which they are looked at, and a ring cannot be moved afterwards. */
TEST_EACH(none_of_a_handle_is_one_of_them_where_they_cannot_be_polled, ways)
{
    way_of_child = row;
    closed_of_child = SUBSETS - 1;
    if (log_can_use("none_of_a_handle_is_one_of_them_where_they_cannot_be_polled", row->io, 0))
        expect_success_or_skip(run_child(use_without_ppoll),
                               "none_of_a_handle_is_one_of_them_where_they_cannot_be_polled",
                               "no seccomp filter may be loaded");
}

static _Atomic bool must_end;

static void *print_for_ever(void *context)
{
    static const char line[] = "a warning that another library prints\n";

    (void)context;
    while (!atomic_load(&must_end))
        for (int fd = 1; fd <= 2; fd++)
            (void)!write(fd, line, sizeof(line) - 1);
    return NULL;
}

/* Also not for a moment: opens and closes the log a few times while another thread prints. */
static int open_beside_a_printer(void)
{
    const struct twinlog_options options = { .size = sizeof(options), .mode = TWINLOG_MODE_MAPPED };
    pthread_t printer;

    close(0), close(1), close(2);
    EXPECT(pthread_create(&printer, NULL, print_for_ever, NULL) == 0);
    for (uint32_t i = 0; i < 10; i++) {
        EXPECT(twinlog_open(log_dir, &options, &handles.log) == 0);
        EXPECT(append_record(handles.log, 0, i, NULL) == 0);
        EXPECT(twinlog_close(handles.log) == 0);
    }
    atomic_store(&must_end, true);
    EXPECT(pthread_join(printer, NULL) == 0);
    return 0;
}

TEST(nothing_printed_gets_into_a_log_that_is_being_opened)
{
    ck_assert_int_eq(run_child(open_beside_a_printer), 0);
    ck_assert_uint_eq(log_check().last_lsn, 10);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int hold_as_child(void)
{
    EXPECT(!is_open(0) && !is_open(1) && !is_open(2));
    EXPECT(twl_low_descriptors_take());
    EXPECT(is_open(0) && is_open(2));
    twl_low_descriptors_release(true);
    EXPECT(!is_open(0) && !is_open(2));
    return 0;
}

/* Two threads: one finds that the other one has taken all of them, and still needs them when that is done. */
static int open_beside_another(void)
{
    close(0), close(1), close(2);
    twl_child_hold(); /* has the handlers of fork() installed */
    twl_child_release();
    EXPECT(twl_low_descriptors_take());
    EXPECT(twl_low_descriptors_take());
    twl_low_descriptors_release(true);
    EXPECT(is_open(0) && is_open(1) && is_open(2));
    const int event = twl_descriptor_event(0);
    EXPECT(event >= STANDARD_DESCRIPTORS);

    EXPECT(run_child(hold_as_child) == 0); /* it has none of the threads */
    EXPECT(is_open(0) && is_open(1) && is_open(2));
    twl_low_descriptors_release(true);
    EXPECT(!is_open(0) && !is_open(1) && !is_open(2));
    close(event);
    return 0;
}

TEST(the_low_ones_are_taken_until_the_last_thread_has_opened_its_file)
{
    ck_assert_int_eq(run_child(open_beside_another), 0);
}

/* A place could not be taken, so the event gets one of 0 to 2 first, and has to move. */
#define PLACE_FLAGS (O_PATH | O_CLOEXEC)

static const struct move_row {
    const char *name;
    int refused_move; /* 0 = it is not refused */
    int error;        /* 0 = the event has moved */
} move_rows[] = {
    { "it moves", 0, 0 },
    { "there is no other descriptor", EMFILE, -EMFILE },
};

static const struct move_row *moving;

static int make_event_without_places(void)
{
    close(0), close(1), close(2);
    if (!forbid_if(SYS_openat, ENFILE, 2, PLACE_FLAGS))
        return CANNOT_RUN;
    if (moving->refused_move > 0 && !forbid_if(SYS_fcntl, moving->refused_move, 1, F_DUPFD_CLOEXEC))
        return CANNOT_RUN;

    const int event = twl_descriptor_event(0);
    EXPECT(moving->error == 0 ? event >= STANDARD_DESCRIPTORS : event == moving->error);
    EXPECT(!is_open(0) && !is_open(1) && !is_open(2));
    return 0;
}

TEST_EACH(what_has_got_a_low_one_moves_or_is_closed, move_rows)
{
    moving = row;
    expect_success_or_skip(run_child(make_event_without_places), "what_has_got_a_low_one_moves_or_is_closed",
                           "no seccomp filter may be loaded");
}

static int make_event_where_nothing_can_be_asked(void)
{
    close(0);
    if (!forbid(SYS_ppoll, ENOSYS) || !forbid(SYS_fcntl, EPERM))
        return CANNOT_RUN;

    EXPECT(twl_descriptor_event(0) == -EPERM);
    EXPECT(open("/", O_PATH | O_CLOEXEC) == 0); /* neither the event is left, nor a place */
    return 0;
}

/* A look that is refused does not say that the descriptor is closed: a place could not be given back. */
TEST(where_it_cannot_be_asked_which_are_open_no_place_is_taken)
{
    expect_success_or_skip(run_child(make_event_where_nothing_can_be_asked),
                           "where_it_cannot_be_asked_which_are_open_no_place_is_taken",
                           "no seccomp filter may be loaded");
}

static int use_places_of_others(void)
{
    close(0), close(1), close(2);
    EXPECT(twl_low_descriptors_take());
    const int of_program = open(log_parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(dup2(of_program, 1) == 1);
    close(0);
    twl_low_descriptors_release(true);
    EXPECT(!is_open(0) && is_open(1) && !is_open(2));
    return 0;
}

TEST(a_place_that_the_program_has_used_meanwhile_stays_as_it_is)
{
    ck_assert_int_eq(run_child(use_places_of_others), 0);
}

TEST(a_timer_that_cannot_be_set_says_so)
{
    ck_assert_int_eq(twl_descriptor_set_timer(-1, 1), -EBADF);
}

/* ---- what a child has ------------------------------------------------------------------------------ */

struct possessions {
    unsigned files;    /* descriptors of files or directories in the test's directory */
    unsigned rings;    /* descriptors of io_uring */
    unsigned events;   /* eventfds */
    unsigned mappings; /* of such files, and of rings */
    unsigned buffers;  /* anonymous memory of that size */
};

static void count_descriptors(struct possessions *mine)
{
    DIR *directory = opendir("/proc/self/fd");
    char target[400];

    for (const struct dirent *entry; directory && (entry = readdir(directory));) {
        const ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
        target[size < 0 ? 0 : size] = '\0';
        mine->files += strncmp(target, log_parent, strlen(log_parent)) == 0;
        mine->rings += strstr(target, "io_uring") != NULL;
        mine->events += strstr(target, "eventfd") != NULL;
    }
    if (directory)
        closedir(directory);
}

static void count_mappings(struct possessions *mine)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long from, to;
    char line[600];

    while (maps && fgets(line, sizeof(line), maps)) {
        const bool is_anonymous = strstr(line, " rw-p ") && !strchr(line, '/') && !strchr(line, '[');
        mine->mappings += strstr(line, log_parent) != NULL || strstr(line, "io_uring") != NULL;
        if (sscanf(line, "%lx-%lx", &from, &to) == 2)
            mine->buffers += is_anonymous && to - from >= LEAST_BUFFERS;
    }
    if (maps)
        fclose(maps);
}

static struct possessions possessions_of_process(void)
{
    struct possessions mine = { 0 };

    count_descriptors(&mine);
    count_mappings(&mine);
    return mine;
}

#define EVENTS_ASKED_FOR 4 /* of the readers, and of the queue */

static unsigned buffers_before; /* the program has other memory that is as large */

static int possess_nothing(void)
{
    const struct possessions mine = possessions_of_process();

    EXPECT(mine.files == 0);
    EXPECT(mine.rings == 0);
    EXPECT(mine.events == EVENTS_ASKED_FOR);
    EXPECT(mine.mappings == 0);
    EXPECT(HAS_SANITIZER || mine.buffers == buffers_before); /* its memory is as large, and changes */
    return 0;
}

static int close_in_child(void)
{
    EXPECT(possess_nothing() == 0);
    twinlog_consumer_close(handles.consumer);
    twinlog_reader_close(handles.attached);
    twinlog_reader_close(handles.outside);
    EXPECT(twinlog_append(handles.log, "x", 1, NULL) == TWINLOG_EFORKED);
    EXPECT(twinlog_sink_close(handles.sink) == TWINLOG_EFORKED);
    EXPECT(twinlog_queue_close(handles.queue) == TWINLOG_EFORKED);
    EXPECT(twinlog_close(handles.of_committer) == TWINLOG_EFORKED);
    EXPECT(twinlog_committer_close(handles.committer) == TWINLOG_EFORKED);
    EXPECT(twinlog_close(handles.log) == TWINLOG_EFORKED);
    return 0;
}

CASE("what a child has", logdir_make, logdir_remove);

TEST_EACH(of_every_handle_nothing, ways)
{
    if (!can_look_into_proc("of_every_handle_nothing") || !log_can_use("of_every_handle_nothing", row->io, 0))
        return;

    buffers_before = possessions_of_process().buffers;
    ck_assert_int_eq(open_handles(row), 0);
    const struct possessions mine = possessions_of_process();
    ck_assert_uint_gt(mine.files, 0);
    ck_assert_uint_gt(mine.mappings, 0);
    ck_assert_uint_ge(mine.events, EVENTS_ASKED_FOR);
    if (row->mode == TWINLOG_MODE_DURABLE)
        ck_assert_uint_gt(mine.buffers, buffers_before);

    ck_assert_int_eq(run_child(close_in_child), 0);
    ck_assert_int_eq(close_handles(), 0);
}

#define CHILDREN 50

static int pipe_ends[2], alive_ends[2];
static _Atomic unsigned children;

/* Children that live until the test closes its end of the pipe. */
static void *fork_children(void *context)
{
    pid_t *ret_children = context;
    char byte;

    while (atomic_load(&children) < CHILDREN) {
        const pid_t child = fork();
        if (child == 0) {
            close(pipe_ends[1]);
            (void)!write(alive_ends[1], "", 1); /* the handlers of fork() have run */
            (void)!TEMP_FAILURE_RETRY(read(pipe_ends[0], &byte, 1));
            _exit(0);
        }
        ret_children[atomic_fetch_add(&children, 1)] = child;
    }
    return NULL;
}

static int try_to_fork(void)
{
    return 0;
}

/* A handler of fork() goes through a list of such files. The same one is opened again, as in another frame. */
TEST(an_open_that_failed_leaves_nothing_to_close)
{
    struct child_file file;
    int fd;

    ck_assert_int_eq(twl_child_open(&file, &fd, AT_FDCWD, path_beside("missing/file"), O_RDONLY, 0), -ENOENT);
    ck_assert_int_eq(fd, -1);
    ck_assert_int_eq(twl_child_open(&file, &fd, AT_FDCWD, log_parent, O_RDONLY | O_DIRECTORY, 0), 0);
    ck_assert_int_eq(run_child(try_to_fork), 0); /* it does not end if the file is there twice */

    twl_child_unregister(&file);
    close(fd);
}

#define FILES 300

static struct {
    struct child_file file;
    int fd;
} opened[FILES];

static const char *path_of_file(unsigned number)
{
    char name[20];

    snprintf(name, sizeof(name), "locked.%u", number);
    return path_beside(name);
}

/* 0 if the lock is taken. */
static int lock_all(int fd)
{
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    return fcntl(fd, F_OFD_SETLK, &all);
}

/* Children are forked at any moment of an open(), and opening comes to an end although one follows the other. The files
 * are closed, with their locks, when no fork is under way: only a child with the same description could keep one. */
TEST(no_child_keeps_a_lock_of_a_file_that_was_being_opened)
{
    pid_t pids[CHILDREN];
    char byte;

    if (!CAN_FORK_BESIDE_BUSY_THREADS)
        return;
    if (!allow_files(2 * FILES, "no_child_keeps_a_lock_of_a_file_that_was_being_opened"))
        return;
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(alive_ends, O_CLOEXEC), 0);
    pthread_t forker = start_thread(fork_children, pids);
    for (unsigned i = 0; i < FILES; i++) {
        const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
        const int error =
            twl_child_open(&opened[i].file, &opened[i].fd, AT_FDCWD, path_of_file(i), flags, 0600);
        ck_assert_int_eq(error, 0);
        ck_assert_int_eq(lock_all(opened[i].fd), 0);
    }
    pthread_join(forker, NULL);
    for (unsigned i = 0; i < CHILDREN; i++)
        ck_assert_int_eq(TEMP_FAILURE_RETRY(read(alive_ends[0], &byte, 1)), 1); /* a signal may come */

    for (unsigned i = 0; i < FILES; i++) {
        twl_child_unregister(&opened[i].file);
        close(opened[i].fd);
        const int again = open(path_of_file(i), O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(lock_all(again), 0);
        close(again);
    }

    close(pipe_ends[1]);
    for (unsigned i = 0; i < CHILDREN; i++)
        ck_assert_int_eq(wait_child(pids[i]), 0);
}
