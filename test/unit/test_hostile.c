/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory that an enemy has made: links, pipes and devices in the place of its files, headers and footers that
 * check and claim what no log can have, numbers that have no successor. A call that looks at such a log, or opens it,
 * touches nothing outside of the directory, does not wait for ever, and takes no more memory than for an honest one.
 *
 * And what the library leaves to others: the modes of its files, and descriptors in programs that are started.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"

#include "base/bytes.h"
#include "format/checksum.h"
#include "format/format.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define SEGMENT_BYTES SEGMENT_MIN_BYTES
#define RECORDS 100u
#define MOST_SECONDS 60u
#if HAS_SANITIZER
#define MOST_MEMORY_KIB (600 * 1024) /* they keep what was freed, and notes on everything */
#else
#define MOST_MEMORY_KIB (64 * 1024)
#endif
#define TEBIBYTE (INT64_C(1) << 40)

/* ---- everything that looks at a log ------------------------------------------------------------- */

static const char *in_parent(const char *name)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", log_parent, name);
    return path;
}

static void read_all(uint32_t flags)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t first, last;

    if (twinlog_reader_open(log_dir, &WITH_SIZE(reader_options, .flags = flags), &reader) < 0)
        return;
    while (twinlog_reader_next(reader, &record) > 0)
        continue;
    twinlog_reader_range(reader, &first, &last);
    twinlog_reader_seek_end(reader);
    while (twinlog_reader_previous(reader, &record) > 0)
        continue;
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) {
        twinlog_reader_seek(reader, lsn);
        twinlog_reader_next(reader, &record);
    }
    twinlog_reader_seek_time(reader, 1);
    twinlog_reader_next(reader, &record);
    twinlog_reader_close(reader);
}

static int pass_segment(void *context, const struct twinlog_segment *segment)
{
    (void)context;
    (void)segment;
    return 0;
}

static int pass_name(void *context, const char *name, uint64_t lsn)
{
    (void)context;
    (void)name;
    (void)lsn;
    return 0;
}

static void look(void)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_options reading = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog *log;

    twinlog_inspect(log_dir, &inspection);
    twinlog_verify(log_dir, NULL, NULL);
    twinlog_segments(log_dir, pass_segment, NULL);
    twinlog_watch(log_dir, NULL, NULL);
    read_all(0);
    read_all(TWINLOG_READER_MMAP);
    if (twinlog_open(log_dir, &reading, &log) == 0) {
        twinlog_cursor_each(log, pass_name, NULL);
        twinlog_close(log);
    }
}

static void copy_log(void)
{
    twinlog_backup(log_dir, in_parent("backup"), NULL, NULL);
    twinlog_backup(log_dir, in_parent("backup-by-copy"),
                   &WITH_SIZE(backup_options, .flags = TWINLOG_BACKUP_COPY), NULL);
    twinlog_repair(log_dir, in_parent("repaired"), NULL, NULL);
}

static void write_log(void)
{
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog *log;

    if (twinlog_open(log_dir, &LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES), &log) < 0)
        return;
    twinlog_append(log, "more", 4, NULL);
    trim.before_lsn = 10;
    twinlog_trim(log, &trim, NULL);
    twinlog_cursor_set(log, "consumer", 11);
    twinlog_truncate(log, 40);
    twinlog_close(log);
}

static long peak_kib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* The alarm ends the process if something waits. */
static int meet(void)
{
    const long before_kib = peak_kib();

    alarm(MOST_SECONDS);
    look();
    copy_log();
    write_log();
    EXPECT(peak_kib() - before_kib < MOST_MEMORY_KIB);
    return 0;
}

/* ---- the log ------------------------------------------------------------------------------------ */

static void make_log(void)
{
    unsigned char bytes[2000];
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));

    memset(bytes, 'x', sizeof(bytes));
    for (unsigned i = 0; i < RECORDS; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "consumer", 5), 0);
    ck_assert_uint_gt(log_stat(log).segments, 2);
    log_close(log);
}

static void read_block(const char *path, off_t offset, unsigned char block[BLOCK_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(pread(fd, block, BLOCK_BYTES, offset), BLOCK_BYTES);
    close(fd);
}

static struct segment_header header_of(const char *path)
{
    unsigned char block[BLOCK_BYTES];
    struct segment_header header;

    read_block(path, 0, block);
    ck_assert_int_eq(twl_segment_header_decode(block, &header), HEADER_VALID);
    return header;
}

static void put_header(const char *path, const struct segment_header *header)
{
    unsigned char block[SEGMENT_HEADER_BYTES];

    twl_segment_header_encode(header, block);
    patch_file(path, 0, block, sizeof(block));
}

/* The segment that a reset would make, with whatever numbers; a spare if nothing is to begin there. */
static void add_reset(const char *name, uint64_t sequence, uint64_t start_lsn, uint32_t epoch)
{
    static const unsigned char zeros[SEGMENT_BYTES];
    struct segment_header header = header_of(log_segment(1));

    header.sequence = sequence;
    header.start_lsn = start_lsn;
    header.previous = header.start_chain = 0;
    header.after_lsn = 0;
    header.epoch = epoch;
    header.segment_id += sequence;
    header.bytes = sizeof(zeros);
    put_file(log_file(name), zeros, sizeof(zeros));
    put_header(log_file(name), &header);
}

/* ---- other things in the place of files ----------------------------------------------------------- */

enum thing {
    LINK_TO_FILE,
    LINK_TO_NOTHING,
    LINK_TO_DIRECTORY,
    PIPE,
    DIRECTORY,
    SOCKET,
    DEVICE
};

static void bind_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), here = open(".", O_PATH | O_CLOEXEC);

    ck_assert_int_eq(chdir(log_dir), 0); /* the paths of sockets are short */
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", strrchr(path, '/') + 1);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    close(fd);
}

/* What was there is what the link leads to. False if this process may not make such a thing. */
static bool put_thing(enum thing thing, const char *path)
{
    const char *outside = in_parent("outside");

    if (rename(path, outside) < 0)
        put_file(outside, "text", 4);
    switch (thing) {
    case LINK_TO_FILE:
        ck_assert_int_eq(symlink("../outside", path), 0);
        break;
    case LINK_TO_NOTHING:
        ck_assert_int_eq(symlink("../nothing", path), 0);
        break;
    case LINK_TO_DIRECTORY:
        ck_assert_int_eq(mkdir(in_parent("outside-directory"), 0777), 0);
        ck_assert_int_eq(symlink("../outside-directory", path), 0);
        break;
    case PIPE:
        ck_assert_int_eq(mkfifo(path, 0666), 0);
        break;
    case DIRECTORY:
        ck_assert_int_eq(mkdir(path, 0777), 0);
        break;
    case SOCKET:
        bind_socket(path);
        break;
    default:
        if (mknod(path, S_IFCHR | 0666, makedev(1, 5)) < 0) { /* an endless file of zeros */
            fprintf(stderr, "SKIP hostile a_file_is_nothing_else (device): %s\n", strerror(errno));
            return false;
        }
    }
    return true;
}

static uint64_t sum_of(const char *path)
{
    unsigned char bytes[4096];
    uint64_t sum = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size;

    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    while ((size = read(fd, bytes, sizeof(bytes))) > 0)
        sum = sum << 32 ^ sum >> 32 ^ twl_crc32c((uint32_t)sum, bytes, (size_t)size);
    close(fd);
    return sum;
}

static unsigned count_files(const char *path)
{
    DIR *list = opendir(path);
    unsigned count = 0;

    ck_assert_ptr_nonnull(list);
    while (readdir(list))
        count++;
    closedir(list);
    return count;
}

CASE("directories", logdir_make, logdir_remove);

/* A file that does not count is removed by an opening of the log. */
#define EACH_THING(file, counts)                                                                             \
    { "a link to a file for " file, file, LINK_TO_FILE, counts },                                            \
        { "a link to nothing for " file, file, LINK_TO_NOTHING, counts },                                    \
        { "a link to a directory for " file, file, LINK_TO_DIRECTORY, counts },                              \
        { "a pipe for " file, file, PIPE, counts }, { "a directory for " file, file, DIRECTORY, counts },    \
        { "a socket for " file, file, SOCKET, counts },                                                      \
    {                                                                                                        \
        "a device for " file, file, DEVICE, counts                                                           \
    }

static const struct thing_row {
    const char *name;
    const char *file;
    enum thing thing;
    bool counts;
} thing_rows[] = {
    EACH_THING("0000000000000001.twl", true),
    EACH_THING("0000000000000003.twl", true),
    EACH_THING("state", true),
    EACH_THING("writer.lock", true),
    EACH_THING("0000000000000042.twl.new", false),
    EACH_THING("state.new", false),
};

TEST_EACH(a_file_is_nothing_else, thing_rows)
{
    struct stat about;

    make_log();
    if (!put_thing(row->thing, log_file(row->file)))
        return;
    const uint64_t outside = sum_of(in_parent("outside"));
    if (row->counts)
        ck_assert_int_lt(log_open_error(NULL), 0);
    ck_assert_int_eq(run_child(meet), 0);

    ck_assert_uint_eq(sum_of(in_parent("outside")), outside);
    ck_assert_int_lt(lstat(in_parent("nothing"), &about), 0);
    if (row->thing == LINK_TO_DIRECTORY)
        ck_assert_uint_eq(count_files(in_parent("outside-directory")), 2); /* itself and its parent */
    if (row->counts)
        ck_assert_int_eq(lstat(log_file(row->file), &about), 0);
}

static const struct pipe_row {
    const char *name;
} pipe_rows[] = {
    { "0000000000000001.twl" }, { "0000000000000003.twl" },     { "state" },
    { "writer.lock" },          { "0000000000000042.twl.new" }, { "state.new" },
};

/* To open a device may be enough to do harm. A pipe tells: once a process had its other end open, it hangs up. */
TEST_EACH(what_is_no_file_is_not_even_opened, pipe_rows)
{
    const char *path = log_file(row->name);
    struct pollfd watch = { .events = POLLIN };

    make_log();
    ck_assert(put_thing(PIPE, path));
    watch.fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_ge(watch.fd, 0);

    ck_assert_int_eq(run_child(meet), 0);
    ck_assert_int_eq(poll(&watch, 1, 0), 0);
    close(watch.fd);
}

/* Names that were not asked for are left alone, and say nothing. */
TEST(other_names_mean_nothing)
{
    static const char *const names[] = { "\033[31mred",
                                         "a\nb",
                                         "\xff\xfe.twl",
                                         "0000000000000001.TWL",
                                         "000000000000000g.twl",
                                         "00000000000000001.twl",
                                         "-rf",
                                         " " };
    char longest[256] = { 0 };

    make_log();
    memset(longest, 'n', 255);
    put_file(log_file(longest), "text", 4);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        put_file(log_file(names[i]), "text", 4);
    ck_assert_int_eq(mkdir(log_file("deep"), 0777), 0);
    const unsigned files = count_files(log_dir);
    log_close(log_open(NULL));
    ck_assert_uint_ge(count_files(log_dir), files);
    ck_assert_uint_le(count_files(log_dir), files + 1); /* a spare may be made */
    ck_assert_int_eq(run_child(meet), 0);
    ck_assert(log_has_file(longest));
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert(log_has_file(names[i]));
}

CASE("claims", logdir_make, logdir_remove);

static const struct large_row {
    const char *name;
    uint64_t sequence;
} large_rows[] = {
    { "the oldest segment", 1 },
    { "the one behind it", 2 },
    { "a middle segment", 3 },
};

TEST_EACH(a_header_may_claim_a_tebibyte, large_rows)
{
    make_log();
    struct segment_header header = header_of(log_segment(row->sequence));
    header.bytes = TEBIBYTE;
    put_header(log_segment(row->sequence), &header);

    ck_assert_int_eq(log_open_error(NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(run_child(meet), 0);
}

/* What is lost is searched for in what the file has, not in what it claims. */
TEST(a_damaged_segment_may_claim_a_tebibyte)
{
    static const unsigned char zeros[SEGMENT_BYTES / 2];

    make_log();
    struct segment_header header = header_of(log_segment(2));
    header.bytes = TEBIBYTE;
    patch_file(log_segment(2), SEGMENT_BYTES / 2, zeros, sizeof(zeros));
    put_header(log_segment(2), &header);
    ck_assert_int_eq(run_child(meet), 0);
}

static int expect_all_records(void)
{
    const long before_kib = peak_kib();
    struct twinlog_record record;

    alarm(MOST_SECONDS);
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) {
        struct twinlog_reader *reader = log_reader(lsn, 0);
        EXPECT(twinlog_reader_next(reader, &record) == 1);
        EXPECT(record.lsn == lsn && record.size == 2000);
        twinlog_reader_close(reader);
    }
    EXPECT(peak_kib() - before_kib < MOST_MEMORY_KIB);
    return 0;
}

/* A footer vouches for nothing: an index that no writer makes is not even loaded. */
TEST(a_footer_may_claim_a_huge_index)
{
    const uint64_t bytes = UINT64_C(1) << 30;
    const char *path = log_segment(1);
    unsigned char block[SEGMENT_FOOTER_BYTES];
    struct segment_footer footer;

    make_log();
    struct segment_header header = header_of(path);
    const uint32_t seed = twl_segment_seed(&header);
    const uint64_t old_end = twl_segment_data_end(header.bytes), end = twl_segment_data_end(bytes);
    read_block(path, (off_t)old_end, block);
    ck_assert(twl_segment_footer_decode(block, seed, old_end, &footer));
    header.bytes = bytes;
    footer.index_entries = (uint32_t)((end - header_of(path).bytes) / INDEX_ENTRY_BYTES);
    footer.last_lsn = footer.first_lsn + footer.index_entries;
    footer.index_checksum = 0; /* of other entries; to find that out, one would have to read them all */
    twl_segment_footer_encode(&footer, seed, end, block);
    ck_assert_int_eq(truncate(path, (off_t)bytes), 0);
    patch_file(path, (off_t)end, block, sizeof(block));
    put_header(path, &header);
    ck_assert_int_eq(run_child(expect_all_records), 0);
    ck_assert_int_eq(run_child(meet), 0);
}

static const struct state_row {
    const char *name;
    uint32_t body_bytes;
} state_rows[] = {
    { "four gibibytes", UINT32_MAX },
    { "a body as large as the largest slot", STATE_MAX_SLOT_BYTES },
    { "a body as large as its slot", STATE_MIN_SLOT_BYTES },
};

TEST_EACH(a_state_file_may_claim_anything, state_rows)
{
    unsigned char slots[2 * STATE_MIN_SLOT_BYTES] = { 0 };
    struct state_header header = { .generation = UINT64_MAX, .first_sequence = 1, .first_lsn = 1 };

    make_log();
    memcpy(header.log_id, header_of(log_segment(1)).log_id, LOG_ID_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        unsigned char *slot = slots + i * STATE_MIN_SLOT_BYTES;
        twl_state_encode(&header, slot);
        store_le32(slot + 64, row->body_bytes);
        store_le32(slot + STATE_HEADER_BYTES - 4, twl_crc32c(0, slot, STATE_HEADER_BYTES - 4));
    }
    put_file(log_file("state"), slots, sizeof(slots));

    ck_assert_int_eq(log_open_error(NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(run_child(meet), 0);
    ck_assert_int_eq(truncate(log_file("state"), TEBIBYTE), 0);
    ck_assert_int_eq(run_child(meet), 0);
}

static void put_slots(struct state_header header, const struct state_entry *entry)
{
    unsigned char slots[2 * STATE_MIN_SLOT_BYTES] = { 0 }, block[BLOCK_BYTES];

    read_block(log_file("state"), 0, block);
    memcpy(header.log_id, block + 24, LOG_ID_BYTES);
    if (entry)
        header.body_bytes = (uint32_t)twl_state_entry_encode(entry, slots + STATE_HEADER_BYTES);
    twl_state_encode(&header, slots);
    memcpy(slots + STATE_MIN_SLOT_BYTES, slots, STATE_MIN_SLOT_BYTES);
    put_file(log_file("state"), slots, sizeof(slots));
}

static void put_front(uint64_t lsn)
{
    put_slots((struct state_header){ .generation = 1000, .first_sequence = 1, .first_lsn = lsn }, NULL);
}

/* What is trimmed was durable. What is appended in front of the head would be acknowledged, and never seen. */
TEST(a_head_behind_the_end_is_damage)
{
    const struct twinlog_options options = LOG_OPTIONS(.segment_bytes = 1 << 20);
    struct twinlog *log = log_open(&options);

    ck_assert_int_eq(twinlog_append(log, "one", 3, NULL), 0);
    log_close(log);
    put_front(2);
    log_close(log_open(&options));
    put_front(3);
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
    put_front(UINT64_MAX);
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
    ck_assert_int_eq(run_child(meet), 0);
}

TEST(more_spares_than_any_writer_makes_are_refused)
{
    char name[40];
    unsigned last = 1;

    make_log();
    while (access(log_segment(last + 1), F_OK) == 0)
        last++;
    for (unsigned i = 1; i <= 65; i++) {
        snprintf(name, sizeof(name), "%016x.twl", last + i);
        add_reset(name, last + i, 0, 1);
    }
    ck_assert_int_eq(log_open_error(NULL), -EMFILE);
}

static const struct number_row {
    const char *name;
    const char *file;
    uint64_t sequence, start_lsn;
    uint32_t epoch;
} number_rows[] = {
    { "the last sequence", "0000000000000042.twl", UINT64_MAX, 1000, 9 },
    { "behind the last LSN", "0000000000000042.twl", 99, LAST_LSN + 1, 9 },
    { "the last epoch", "0000000000000042.twl", 99, 1000, UINT32_MAX },
    { "the last name of a file", "ffffffffffffffff.twl", 99, 1000, 9 },
};

/* What comes behind the last number there is would be acknowledged, and not found again. */
TEST_EACH(numbers_without_a_successor_are_refused, number_rows)
{
    struct twinlog *log;

    make_log();
    add_reset(row->file, row->sequence, row->start_lsn, row->epoch);

    ck_assert_int_eq(log_open_error(NULL), -EOVERFLOW);
    ADVISES(log_report.text, "are used up; begin a new log");
    ck_assert_int_eq(twinlog_open(in_parent("new"), NULL, &log), 0);
    ck_assert_int_eq(twinlog_append(log, "one", 3, NULL), 0);
    log_close(log);
    ck_assert_int_eq(run_child(meet), 0);
    ck_assert_int_eq(unlink(log_file(row->file)), 0);
    log_close(log_open(NULL));
}

static const struct promise_row {
    const char *name;
    uint64_t after_lsn;
    uint32_t finding;
} promise_rows[] = {
    { "the last LSN, which is missing", LAST_LSN, TWINLOG_FOUND_DAMAGE },
    { "an LSN behind it", LAST_LSN + 1, TWINLOG_FOUND_BAD_HEADER },
};

/* Of the segment that was prepared. */
TEST_EACH(a_header_promises_no_record_that_no_log_can_have, promise_rows)
{
    uint64_t records = 0;

    make_log();
    add_reset("0000000000000042.twl", 99, 0, 1);
    struct segment_header header = header_of(log_file("0000000000000042.twl"));
    for (header.sequence = 1; access(log_segment(header.sequence), F_OK) == 0; header.sequence++)
        continue;
    header.after_lsn = row->after_lsn;
    put_header(log_file("0000000000000042.twl"), &header);

    ck_assert_int_eq(log_open_error(NULL), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(log_report.finding, row->finding);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(records, RECORDS);
    ck_assert_int_eq(run_child(meet), 0);
}

TEST(the_last_epoch_can_not_be_truncated)
{
    uint64_t lsn;

    make_log();
    add_reset("0000000000000042.twl", 99, 1000, UINT32_MAX - 3);
    struct twinlog *log = log_open(NULL);
    ck_assert_int_eq(twinlog_append(log, "one", 3, &lsn), 0);
    ck_assert_uint_eq(lsn, 1000);
    int rc = 0;
    for (unsigned cuts = 0; rc == 0 && cuts < 5; cuts++)
        rc = twinlog_reset(log, 2000 + cuts);
    ck_assert_int_eq(rc, -EOVERFLOW);
    ck_assert_int_eq(twinlog_append(log, "two", 3, &lsn), 0);
    log_close(log);
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
    twinlog_reader_close(reader);
}

static void put_state(uint64_t generation, uint64_t lsn)
{
    unsigned char value[STATE_CURSOR_BYTES];
    const struct state_entry entry = {
        .kind = STATE_CURSOR, .name = "consumer", .name_bytes = 8, .value = value, .value_bytes = 8
    };
    const struct state_header header = {
        .generation = generation, .first_sequence = 1, .first_lsn = 1, .cursor_epoch = 2
    };

    store_le64(value, lsn);
    put_slots(header, &entry);
}

static const struct generation_row {
    const char *name;
    uint64_t generation;
} generation_rows[] = {
    { "the last generation", UINT64_MAX },      { "one before the last", UINT64_MAX - 1 },
    { "two before the last", UINT64_MAX - 2 },  { "three before the last", UINT64_MAX - 3 },
    { "four before the last", UINT64_MAX - 4 },
};

TEST_EACH(a_state_without_a_next_generation_is_not_changed, generation_rows)
{
    uint64_t lsn;
    int rc = 0;

    make_log();
    put_state(row->generation, 5);
    struct twinlog *log = log_open(NULL);
    for (lsn = 2; rc == 0 && lsn < 8; lsn++)
        rc = twinlog_trim(log, &WITH_SIZE(trim_options, .before_lsn = lsn), NULL);
    ck_assert_int_eq(rc, -EOVERFLOW);
    ck_assert_int_eq(twinlog_cursor_get(log, "consumer", &lsn), 0);
    log_close(log);
}

TEST(a_cursor_behind_all_records_holds_no_trim)
{
    make_log();
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    put_state(1000, UINT64_MAX);
    ck_assert_uint_eq(log_trim_before(log, 80).first_lsn, 80);
    log_close(log);
}

CASE("gaps", logdir_make, logdir_remove);

#define FAR_LSN (UINT64_C(1) << 60)
#define FAR_SEGMENT "0000000000000042.twl"

/* A segment of this log with one record, some numbers behind the others. What group and record claim need not be
 * there. */
struct waiter {
    uint64_t lsn;
    uint64_t segment_bytes;
    uint32_t group_bytes, record_bytes;
};

static void sign_record(unsigned char *record, uint32_t epoch_seed, uint64_t lsn)
{
    const uint32_t seed = epoch_seed ^ (uint32_t)lsn ^ (uint32_t)(lsn >> 32) * 0x9e3779b1u;

    store_le32(record, twl_crc32c(seed, record + 4, RECORD_HEADER_BYTES - 4));
}

static void add_segment(const struct waiter *claim)
{
    static unsigned char file[SEGMENT_BYTES];
    unsigned char *group = file + SEGMENT_DATA_OFFSET, *record = group + GROUP_HEADER_BYTES;
    struct segment_header header = header_of(log_segment(1));
    struct group_header about = { .first_lsn = claim->lsn,
                                  .count = 1,
                                  .bytes = claim->group_bytes,
                                  .durable_lsn = claim->lsn - 1,
                                  .chain = 1,
                                  .epoch = { .number = 9, .salt = 9 },
                                  .flags = GROUP_FIRST };
    const struct record_header content = { .size = 8, .time_ns = 1 };
    const uint32_t epoch_seed = twl_epoch_seed(header.log_id, about.epoch);

    header.sequence = 99;
    header.segment_id++;
    header.start_lsn = header.after_lsn = 0;
    header.bytes = claim->segment_bytes;
    memset(file, 0, sizeof(file));
    twl_segment_header_encode(&header, file);
    twl_group_header_encode(&about, twl_segment_seed(&header), SEGMENT_DATA_OFFSET, group);
    twl_record_encode(record, epoch_seed, claim->lsn, &content, "far away");
    store_le32(record + 8, claim->record_bytes);
    sign_record(record, epoch_seed, claim->lsn);
    put_file(log_file(FAR_SEGMENT), file, sizeof(file));
}

static void add_far_record(uint64_t lsn)
{
    const struct waiter honest = { .lsn = lsn,
                                   .segment_bytes = SEGMENT_BYTES,
                                   .group_bytes = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES + 8,
                                   .record_bytes = 8 };

    add_segment(&honest);
}

static void remove_older_segments(void)
{
    for (uint64_t sequence = 1; log_has_file(strrchr(log_segment(sequence), '/') + 1); sequence++)
        ck_assert_int_eq(unlink(log_segment(sequence)), 0);
}

static struct twinlog_report last_loss;

static int take_loss(void *context, const struct twinlog_report *lost)
{
    (void)context;
    last_loss = *lost;
    return 0;
}

static int repair_to(const char *name, struct twinlog_repair_result *ret_result)
{
    *ret_result = (struct twinlog_repair_result)TWINLOG_REPAIR_RESULT_INIT;
    alarm(MOST_SECONDS);
    const int rc =
        twinlog_repair(log_dir, in_parent(name), &WITH_SIZE(repair_options, .each = take_loss), ret_result);
    alarm(0);
    return rc;
}

/* What is in that log, which is sound, and what is appended to it. */
static void expect_repaired(const char *name, uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_options options = log_options(0, 0);
    struct twinlog_reader *reader;
    struct twinlog *log;
    uint64_t lsn;

    ck_assert_int_eq(twinlog_verify(in_parent(name), NULL, NULL), 0);
    ck_assert_int_eq(twinlog_reader_open(in_parent(name), NULL, &reader), 0);
    reader_expect_last(reader, first_lsn, last_lsn);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_open(in_parent(name), &options, &log), 0);
    ck_assert_int_eq(twinlog_append(log, "on", 2, &lsn), 0);
    ck_assert_uint_eq(lsn, last_lsn + 1);
    log_close(log);
}

/* One log can't hold both sides, but two can. */
TEST(a_gap_that_nothing_can_fill_is_refused)
{
    struct twinlog_repair_result result;

    make_log();
    add_far_record(FAR_LSN);
    ck_assert_int_eq(repair_to("both", &result), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(last_loss.action, TWINLOG_DID_REFUSE);
    ADVISES(last_loss.text, "repair once without it and those behind it, and once without those before it");
    ck_assert_str_eq(last_loss.file, FAR_SEGMENT);
    ck_assert_uint_eq(last_loss.first_lsn, RECORDS + 1);
    ck_assert_uint_eq(last_loss.last_lsn, FAR_LSN - 1);
    ck_assert_int_eq(rename(log_file(FAR_SEGMENT), in_parent("far")), 0);
    ck_assert_int_eq(repair_to("near", &result), 0);
    ck_assert_uint_eq(result.lost_records, 0);
    expect_repaired("near", 1, RECORDS);
    remove_older_segments();
    ck_assert_int_eq(rename(in_parent("far"), log_file(FAR_SEGMENT)), 0);
    ck_assert_int_eq(repair_to("rest", &result), 0);
    ck_assert_uint_eq(last_loss.action, TWINLOG_DID_SKIP);
    ck_assert_uint_eq(last_loss.last_lsn, FAR_LSN - 1);
    ck_assert_uint_eq(result.lost_records, FAR_LSN - 1);
    ck_assert_uint_eq(result.first_lsn, FAR_LSN);
    ck_assert_uint_eq(result.last_lsn, FAR_LSN);
    expect_repaired("rest", FAR_LSN, FAR_LSN);
}

TEST(a_gap_that_can_be_filled_is)
{
    const uint64_t lsn = RECORDS + 10001;
    struct twinlog_repair_result result;

    make_log();
    add_far_record(lsn);
    ck_assert_int_eq(repair_to("both", &result), 0);
    ck_assert_uint_eq(result.records, RECORDS + 1);
    ck_assert_uint_eq(result.lost_records, 10000);
    ck_assert_uint_eq(result.last_lsn, lsn);
    ck_assert_int_eq(twinlog_verify(in_parent("both"), NULL, NULL), 0);
}

TEST(a_log_can_not_begin_where_no_number_follows)
{
    struct twinlog_repair_result result;

    make_log();
    add_far_record(LAST_LSN);
    remove_older_segments();
    ck_assert_int_eq(repair_to("rest", &result), -EOVERFLOW);
}

/* Nothing is lost by not believing it. */
TEST(a_cursor_can_not_promise_more_than_has_room)
{
    struct twinlog_repair_result result;
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog *log;
    uint64_t lsn = 0;

    make_log();
    put_state(1000, FAR_LSN);
    ck_assert_int_eq(repair_to("repaired", &result), 0);
    ck_assert_uint_eq(last_loss.first_lsn, RECORDS + 1);
    ck_assert_uint_eq(last_loss.last_lsn, FAR_LSN);
    ck_assert_uint_eq(result.records, RECORDS);
    ck_assert_uint_eq(result.last_lsn, RECORDS);
    ck_assert_int_eq(twinlog_open(in_parent("repaired"), &options, &log), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "consumer", &lsn), 0);
    ck_assert_uint_eq(lsn, RECORDS);
    log_close(log);
    expect_repaired("repaired", 1, RECORDS);
}

static uint64_t sealed_last_lsn(const char *path)
{
    const struct segment_header header = header_of(path);
    const uint64_t end = twl_segment_data_end(header.bytes);
    unsigned char block[BLOCK_BYTES];
    struct segment_footer footer;

    do
        read_block(path, (off_t)end, block);
    while (!twl_segment_footer_decode(block, twl_segment_seed(&header), end, &footer));
    return footer.last_lsn;
}

/* It begins somewhere in the first block. */
static off_t first_group(const char *path)
{
    unsigned char block[BLOCK_BYTES], *at = block;

    for (read_block(path, SEGMENT_DATA_OFFSET, block); !twl_group_header_maybe(at); at += 8)
        ck_assert(at < block + BLOCK_BYTES - 16);
    return SEGMENT_DATA_OFFSET + (at - block);
}

static const struct cursor_row {
    const char *name;
    uint64_t lsn;
} cursor_rows[] = {
    { "a cursor that is far ahead", FAR_LSN },
    { "a cursor at the last number there is", UINT64_MAX },
};

/* Of the newest segment there is one record, and no header of a group leads to it. */
TEST_EACH(what_a_cursor_promises_keeps_no_record_from_a_repair, cursor_rows)
{
    static const unsigned char zeros[SEGMENT_BYTES], bytes[2000];
    struct twinlog_repair_result result;

    struct twinlog *log = log_open(&LOG_OPTIONS(.flags = TWINLOG_NO_RECYCLE, .segment_bytes = SEGMENT_BYTES));
    ck_assert_int_eq(twinlog_reset(log, 100000), 0);
    while (log_stat(log).segments < 3)
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    const uint64_t lsn = sealed_last_lsn(log_segment(3)) + 1;
    log_kill(log);
    const off_t group = first_group(log_segment(4));
    const off_t end = group + GROUP_HEADER_BYTES + RECORD_HEADER_BYTES + (off_t)sizeof(bytes);
    patch_file(log_segment(4), group, zeros, GROUP_HEADER_BYTES);
    patch_file(log_segment(4), end, zeros, SEGMENT_BYTES - (size_t)end);
    put_state(1000, row->lsn);

    ck_assert_int_eq(repair_to("repaired", &result), 0);
    expect_repaired("repaired", 100000, lsn);
}

CASE("memory", logdir_make, logdir_remove);

#define LARGEST_GROUP (UINT32_MAX - 7)
#define ROOM_BYTES (UINT64_C(192) << 20) /* less than a record that is claimed, and enough for some threads */

/* Memory that is only asked for counts as well: malloc() gives no more than this. */
static bool limit_memory(void)
{
#if HAS_SANITIZER
    return false;
#else
    unsigned long long kib = 0;
    char line[200];
    FILE *status = fopen("/proc/self/status", "re");

    while (status && fgets(line, sizeof(line), status))
        if (sscanf(line, "VmData: %llu", &kib) == 1)
            break;
    if (status)
        fclose(status);
    const struct rlimit limit = { kib * 1024 + ROOM_BYTES, kib * 1024 + ROOM_BYTES };
    return kib > 0 && setrlimit(RLIMIT_DATA, &limit) == 0 && !malloc(ROOM_BYTES + 4096);
#endif
}

static int read_in_little_memory(uint32_t flags)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int rc = twinlog_reader_open(log_dir, &WITH_SIZE(reader_options, .flags = flags), &reader);

    if (rc < 0)
        return rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        continue;
    twinlog_reader_close(reader);
    return rc;
}

static int look_in_little_memory(void)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog_repair_result result;
    struct twinlog *log = NULL;

    if (!limit_memory()) {
        fprintf(stderr, "SKIP hostile a_claim_alone_takes_no_memory: no limit can be set\n");
        return 0;
    }
    alarm(MOST_SECONDS);
    EXPECT(twinlog_inspect(log_dir, &inspection) != -ENOMEM);
    EXPECT(twinlog_verify(log_dir, NULL, NULL) != -ENOMEM);
    EXPECT(read_in_little_memory(0) != -ENOMEM);
    EXPECT(read_in_little_memory(TWINLOG_READER_MMAP) != -ENOMEM);
    EXPECT(twinlog_backup(log_dir, in_parent("backup"), NULL, NULL) != -ENOMEM);
    EXPECT(repair_to("repaired", &result) != -ENOMEM);
    EXPECT(twinlog_open(log_dir, &options, &log) != -ENOMEM);
    twinlog_close(log);
    EXPECT(twinlog_open(log_dir, NULL, &log) != -ENOMEM);
    twinlog_close(log);
    return 0;
}

static const struct claim_row {
    const char *name;
    uint64_t lsn;
} claim_rows[] = {
    { "of the next record", RECORDS + 1 },
    { "of a record that is far away", FAR_LSN },
};

TEST_EACH(a_claim_alone_takes_no_memory, claim_rows)
{
    const struct waiter claim = { .lsn = row->lsn,
                                  .segment_bytes = TEBIBYTE,
                                  .group_bytes = LARGEST_GROUP,
                                  .record_bytes = LARGEST_GROUP - GROUP_HEADER_BYTES - RECORD_HEADER_BYTES };

    make_log();
    add_segment(&claim);
    ck_assert_int_eq(run_child(look_in_little_memory), 0);
    ck_assert_int_eq(run_child(meet), 0);
}

/* A hole is there, but a record in it needs a header that checks before anything is read. */
TEST(a_size_is_not_believed_before_its_checksum)
{
    const off_t place = SEGMENT_DATA_OFFSET + GROUP_HEADER_BYTES + 16;
    const struct waiter claim = { .lsn = RECORDS + 1,
                                  .segment_bytes = UINT64_C(512) << 20,
                                  .group_bytes = 256 << 20,
                                  .record_bytes = (256 << 20) - GROUP_HEADER_BYTES - RECORD_HEADER_BYTES };

    make_log();
    add_segment(&claim);
    ck_assert_int_eq(truncate(log_file(FAR_SEGMENT), (off_t)claim.segment_bytes), 0);
    patch_file(log_file(FAR_SEGMENT), place, "a time", 6);
    ck_assert_int_eq(run_child(meet), 0);
}

/* ---- modes and descriptors -------------------------------------------------------------------------- */

static void check_modes(const char *path, mode_t mask)
{
    DIR *list = opendir(path);
    const struct dirent *entry;
    struct stat about;

    ck_assert_ptr_nonnull(list);
    ck_assert_int_eq(fstat(dirfd(list), &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0777 & ~mask);
    while ((entry = readdir(list))) {
        ck_assert_int_eq(fstatat(dirfd(list), entry->d_name, &about, AT_SYMLINK_NOFOLLOW), 0);
        if (S_ISREG(about.st_mode))
            ck_assert_msg((about.st_mode & 07777) == (0666 & ~mask), "%s has the mode %o", entry->d_name,
                          about.st_mode & 07777);
    }
    closedir(list);
}

CASE("what is left to others", logdir_make, logdir_remove);

static const struct mask_row {
    const char *name;
    mode_t mask;
} mask_rows[] = {
    { "for all", 0 },
    { "all may read", 022 },
    { "the group may read", 027 },
    { "for the owner", 077 },
};

TEST_EACH(modes_are_those_of_the_umask, mask_rows)
{
    const mode_t old = umask(row->mask);

    make_log();
    copy_log();

    check_modes(log_dir, row->mask);
    check_modes(in_parent("backup"), row->mask);
    check_modes(in_parent("backup-by-copy"), row->mask);
    check_modes(in_parent("repaired"), row->mask);
    umask(old);
}
