/* SPDX-License-Identifier: Apache-2.0 */
/* See logdir.h. */
#define _GNU_SOURCE
#include "logdir.h"
#include "hooked.h"
#include "suites.h"

#include "../sim/rng.h"
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

char log_parent[256];
char log_dir[300];
struct twinlog_report log_report;

/* ---- the place --------------------------------------------------------------------------------- */

void logdir_make(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(log_parent, sizeof(log_parent), "%s/twinlog-test-XXXXXX", parent ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(log_parent));
    snprintf(log_dir, sizeof(log_dir), "%s/log", log_parent);
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    return remove(path);
}

void remove_tree(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void logdir_remove(void)
{
    remove_tree(log_parent);
}

unsigned log_count_files(void)
{
    DIR *directory = opendir(log_dir);
    unsigned count = 0;

    ck_assert_ptr_nonnull(directory);
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

const char *log_file(const char *name)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", log_dir, name);
    return path;
}

const char *log_segment(uint64_t sequence)
{
    char name[32];
    snprintf(name, sizeof(name), "%016" PRIx64 ".twl", sequence);
    return log_file(name);
}

bool log_has_file(const char *name)
{
    struct stat about;
    return lstat(log_file(name), &about) == 0;
}

/* NULL: a segment that the keeper of an open log was making has got its name meanwhile. */
static unsigned char *read_file(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat about;
    if (fd < 0 && errno == ENOENT && strstr(path, ".twl.new"))
        return NULL;
    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(fstat(fd, &about), 0);
    *ret_size = (size_t)about.st_size;
    unsigned char *bytes = malloc(*ret_size + 1);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(read(fd, bytes, *ret_size), about.st_size);
    close(fd);
    return bytes;
}

int hold_lock(const char *path, unsigned which, short type)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)which, .l_len = 1 };
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLKW, &lock), 0);
    return fd;
}

void put_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
    close(fd);
}

void patch_file(const char *path, off_t offset, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(pwrite(fd, bytes, size, offset), (ssize_t)size);
    close(fd);
}

static void each_file(const char *path, void (*each)(const char *name, void *context), void *context)
{
    DIR *list = opendir(path);
    const struct dirent *entry;

    ck_assert_msg(list != NULL, "%s: %s", path, strerror(errno));
    while ((entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(entry->d_name, context);
    closedir(list);
}

struct copying {
    const char *from, *to;
};

static void copy_one(const char *name, void *context)
{
    const struct copying *copying = context;
    char path[1024];
    size_t size;
    snprintf(path, sizeof(path), "%s/%s", copying->from, name);
    unsigned char *bytes = read_file(path, &size);
    snprintf(path, sizeof(path), "%s/%s", copying->to, name);
    if (bytes)
        put_file(path, bytes, size);
    free(bytes);
}

void copy_directory(const char *from, const char *to)
{
    ck_assert_int_eq(mkdir(to, 0777), 0);
    each_file(from, copy_one, &(struct copying){ from, to });
}

struct fingerprint {
    uint64_t value;
    bool with_lock_file;
};

static uint64_t hash(uint64_t value, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        value = (value ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return value;
}

/* The order in which a directory lists its files is its own. */
static void add_to_fingerprint(const char *name, void *context)
{
    struct fingerprint *print = context;
    uint64_t value = hash(UINT64_C(0xcbf29ce484222325), name, strlen(name));
    const char *path = log_file(name);
    struct stat about;
    unsigned char *bytes;
    size_t size;
    if (!print->with_lock_file && strcmp(name, "writer.lock") == 0)
        return;
    ck_assert_int_eq(lstat(path, &about), 0);
    value = hash(value, &about.st_mode, sizeof(about.st_mode));
    value = hash(value, &about.st_size, sizeof(about.st_size));
    if (S_ISREG(about.st_mode)) {
        bytes = read_file(path, &size);
        ck_assert_ptr_nonnull(bytes);
        value = hash(value, bytes, size);
        free(bytes);
    }
    print->value += rng_mix(value);
}

uint64_t log_fingerprint(bool with_lock_file)
{
    struct fingerprint print = { .with_lock_file = with_lock_file };
    each_file(log_dir, add_to_fingerprint, &print);
    return print.value;
}

static void add_segment(const char *name, void *context)
{
    struct stat about;
    if (strlen(name) == 20 && strcmp(name + 16, ".twl") == 0 && stat(log_file(name), &about) == 0)
        *(uint64_t *)context += (uint64_t)about.st_size;
}

uint64_t log_segment_bytes(void)
{
    uint64_t bytes = 0;
    each_file(log_dir, add_segment, &bytes);
    return bytes;
}

unsigned log_count_open_segments(void)
{
    char *dir = realpath(log_dir, NULL), path[300];
    DIR *descriptors = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(dir);
    ck_assert_ptr_nonnull(descriptors);
    for (const struct dirent *entry; (entry = readdir(descriptors));) {
        const ssize_t size = readlinkat(dirfd(descriptors), entry->d_name, path, sizeof(path) - 1);
        path[size > 0 ? size : 0] = '\0';
        count += strncmp(path, dir, strlen(dir)) == 0 && strstr(path, ".twl");
    }
    closedir(descriptors);
    free(dir);
    return count;
}

/* ---- paths ------------------------------------------------------------------------------------- */

const char *log_io_name(uint32_t io)
{
    static const char *const names[LOG_IO_KINDS] = { "auto", "uring", "uring-linked", "dsync", "fdatasync" };
    return io < LOG_IO_KINDS ? names[io] : "no path";
}

bool log_can_use(const char *test, uint32_t io, uint32_t flags)
{
    struct twinlog_options options = log_options(io, flags & TWINLOG_BUFFERED);
    char dir[300];
    struct twinlog *log;
    snprintf(dir, sizeof(dir), "%s/try", log_parent);
    int error = twinlog_open(dir, &options, &log);
    if (error == 0) {
        if (!(flags & TWINLOG_BUFFERED) && !log_stat(log).is_direct)
            error = -EOPNOTSUPP;
        log_close(log);
    }
    if (error < 0)
        fprintf(stderr, "SKIP %s (%s, %s): %s\n", test, log_io_name(io),
                flags & TWINLOG_BUFFERED ? "buffered" : "direct", twinlog_strerror(error));
    return error == 0;
}

/* ---- opening ----------------------------------------------------------------------------------- */

struct twinlog_options log_options(uint32_t io, uint32_t flags)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.io = io;
    options.flags = flags;
    options.ret_report = &log_report;
    return options;
}

int log_try_on(struct io *io, const struct twinlog_options *options, struct twinlog **ret_log)
{
    struct twinlog_options own = TWINLOG_OPTIONS_INIT;
    own = options ? *options : own;
    io->has_engine_threads = io->has_engine_threads && !(own.flags & LOG_NO_THREADS);
    own.flags &= ~LOG_NO_THREADS;
    return twl_log_open(io, &own, ret_log);
}

int log_try(const struct twinlog_options *options, struct twinlog **ret_log)
{
    if (!(options->flags & LOG_NO_THREADS))
        return twinlog_open(log_dir, options, ret_log);
    mkdir(log_dir, 0777);
    return log_try_on(log_io(true), options, ret_log);
}

static int try_open(const struct twinlog_options *options, struct twinlog **ret_log)
{
    const struct twinlog_options defaults = log_options(0, 0);
    memset(&log_report, 0, sizeof(log_report));
    return log_try(options ? options : &defaults, ret_log);
}

struct twinlog *log_open(const struct twinlog_options *options)
{
    struct twinlog *log = NULL;
    int error = try_open(options, &log);
    ck_assert_msg(error == 0, "opening failed: %s; %s", twinlog_strerror(error), log_report.text);
    ck_assert_ptr_nonnull(log);
    return log;
}

int log_open_error(const struct twinlog_options *options)
{
    struct twinlog *const untouched = (struct twinlog *)&log_report;
    struct twinlog *log = untouched;
    int error = try_open(options, &log);
    ck_assert_int_lt(error, 0);
    ck_assert_ptr_eq(log, untouched);
    return error;
}

void log_close(struct twinlog *log)
{
    ck_assert_int_eq(twinlog_close(log), 0);
}

struct twinlog_trim_result log_trim(struct twinlog *log, const struct twinlog_trim_options *options)
{
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    ck_assert_int_eq(twinlog_trim(log, options, &result), 0);
    return result;
}

struct twinlog_trim_result log_trim_before(struct twinlog *log, uint64_t lsn)
{
    return log_trim(log, &WITH_SIZE(trim_options, .before_lsn = lsn));
}

void log_kill(struct twinlog *log)
{
    char left[400];
    snprintf(left, sizeof(left), "%s/left", log_parent);
    copy_directory(log_dir, left);
    log_close(log);
    remove_tree(log_dir);
    ck_assert_int_eq(rename(left, log_dir), 0);
}

struct twinlog_stat log_stat(struct twinlog *log)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    ck_assert_int_eq(twinlog_stat(log, &stat), 0);
    return stat;
}

struct twinlog_inspection log_inspect(void)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), 0);
    return inspection;
}

struct twinlog_reader *log_reader(uint64_t from_lsn, uint64_t to_lsn)
{
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .from_lsn = from_lsn, .to_lsn = to_lsn);
    struct twinlog_reader *reader = NULL;
    ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    return reader;
}

struct twinlog_reader *log_attach(struct twinlog *log, uint64_t from_lsn, uint64_t to_lsn)
{
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .from_lsn = from_lsn, .to_lsn = to_lsn);
    struct twinlog_reader *reader = NULL;
    ck_assert_int_eq(twinlog_reader_attach(log, &options, &reader), 0);
    return reader;
}

const struct log_reader_kind log_reader_kinds[LOG_READER_KINDS] = {
    { "from outside", false, 0 },
    { "from outside, mapping", false, TWINLOG_READER_MMAP },
    { "attached", true, 0 },
    { "attached, mapping", true, TWINLOG_READER_MMAP },
};

struct twinlog_reader *log_reader_of_kind(struct twinlog *log, const struct log_reader_kind *kind)
{
    const struct twinlog_reader_options options = { .size = sizeof(options), .flags = kind->flags };
    struct twinlog_reader *reader;

    if (kind->is_attached)
        ck_assert_int_eq(twinlog_reader_attach(log, &options, &reader), 0);
    else
        ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    return reader;
}

void reader_expect(struct twinlog_reader *reader, uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_record record;
    for (uint64_t lsn = first_lsn; lsn <= last_lsn; lsn++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
    }
}

void reader_expect_last(struct twinlog_reader *reader, uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_record record;
    reader_expect(reader, first_lsn, last_lsn);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
}

/* ---- records ----------------------------------------------------------------------------------- */

struct label {
    uint32_t writer, sequence, size, zero;
};
_Static_assert(sizeof(struct label) == RECORD_MIN_BYTES, "the smallest record is a label");

size_t make_record(uint32_t writer, uint32_t sequence, unsigned char bytes[RECORD_ROOM])
{
    struct rng rng = { (uint64_t)writer << 32 | sequence };
    const uint64_t limit = rng_one_in(&rng, 16) ? RECORD_ROOM : rng_one_in(&rng, 3) ? 1000 : 100;
    const struct label label = { writer, sequence, (uint32_t)(sizeof(label) + rng_below(&rng, limit - 16)),
                                 0 };
    memcpy(bytes, &label, sizeof(label));
    rng_fill(&rng, bytes + sizeof(label), label.size - sizeof(label));
    return label.size;
}

int append_record(struct twinlog *log, uint32_t writer, uint32_t sequence, uint64_t *ret_lsn)
{
    unsigned char bytes[RECORD_ROOM];
    const size_t size = make_record(writer, sequence, bytes);
    return twinlog_append(log, bytes, size, ret_lsn);
}

int enqueue_record(struct twinlog *log, uint32_t writer, uint32_t sequence, uint64_t *ret_lsn)
{
    unsigned char bytes[RECORD_ROOM];
    const size_t size = make_record(writer, sequence, bytes);
    return twinlog_enqueue(log, bytes, size, ret_lsn);
}

uint64_t append_records(struct twinlog *log, uint32_t writer, uint32_t from, uint32_t count)
{
    uint64_t lsn = twinlog_last_lsn(log);
    for (uint32_t i = 0; i < count; i++)
        ck_assert_int_eq(append_record(log, writer, from + i, &lsn), 0);
    return lsn;
}

const char *tally_record(struct tally *tally, const struct twinlog_record *record)
{
    unsigned char expected[RECORD_ROOM];
    struct label label;
    if (record->lsn != tally->last_lsn + 1)
        return "its LSN does not follow the one before";
    if (record->size < sizeof(label))
        return "too short";
    memcpy(&label, record->data, sizeof(label));
    if (label.writer >= LOG_WRITERS)
        return "this was never appended";
    if (label.sequence != tally->next[label.writer])
        return "not the next one of its writer";
    if (make_record(label.writer, label.sequence, expected) != record->size ||
        memcmp(expected, record->data, record->size) != 0)
        return "not what was appended";
    tally->last_lsn++;
    tally->next[label.writer]++;
    return NULL;
}

int64_t tally_rest(struct tally *tally, struct twinlog_reader *reader, const char **ret_wrong)
{
    const uint64_t before = tally->last_lsn;
    struct twinlog_record record;
    int result;
    *ret_wrong = NULL;
    while ((result = twinlog_reader_next(reader, &record)) > 0) {
        *ret_wrong = tally_record(tally, &record);
        if (*ret_wrong)
            return -EILSEQ;
    }
    return result < 0 ? result : (int64_t)(tally->last_lsn - before);
}

struct tally log_check(void)
{
    struct tally tally = { 0 };
    struct twinlog_reader *reader = log_reader(0, 0);
    const char *wrong;
    int64_t count = tally_rest(&tally, reader, &wrong);
    uint64_t verified = 0;

    ck_assert_msg(count >= 0, "record %" PRIu64 ": %s", tally.last_lsn + 1,
                  wrong ? wrong : twinlog_strerror((int)count));
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
    ck_assert_uint_eq(verified, tally.last_lsn);
    return tally;
}

/* ---- threads, processes and chance ------------------------------------------------------------- */

pthread_t start_thread(void *(*body)(void *context), void *context)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, body, context), 0);
    return thread;
}

/* Do all threads but this one sleep? Then none of them is in the middle of anything. */
static bool others_sleep(void)
{
    DIR *threads = opendir("/proc/self/task");
    bool is_quiet = true;

    for (const struct dirent *entry; threads && is_quiet && (entry = readdir(threads));) {
        char path[300], line[512] = "";
        const char *end;

        snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
        if (entry->d_name[0] == '.' ||
            atoi(entry->d_name) == gettid()) /* ".." has the state of this thread */
            continue;
        FILE *stat = fopen(path, "r");
        if (!stat)
            continue;
        if (fgets(line, sizeof(line), stat) && (end = strrchr(line, ')')))
            is_quiet = end[2] == 'S';
        fclose(stat);
    }
    if (threads)
        closedir(threads);
    return is_quiet;
}

pid_t fork_quietly(void)
{
    const struct timespec moment = { 0, 1000000 };
    for (unsigned looks = 0; HAS_ADDRESS_SANITIZER && looks < 2000 && !others_sleep(); looks++)
        nanosleep(&moment, NULL);
    return fork();
}

pid_t start_child(int (*body)(void))
{
    pid_t child = fork_quietly();

    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(body());
    return child;
}

/* Its status as waitpid() tells it, also when signals come. */
static int wait_for(pid_t child, int flags)
{
    pid_t found;
    int status;
    while ((found = waitpid(child, &status, flags)) < 0 && errno == EINTR)
        continue;
    ck_assert_int_eq(found, child);
    return status;
}

void wait_until_stopped(pid_t child)
{
    const int status = wait_for(child, WUNTRACED);
    ck_assert(WIFSTOPPED(status));
}

int wait_child(pid_t child)
{
    const int status = wait_for(child, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_child(int (*body)(void))
{
    return wait_child(start_child(body));
}

bool expect_success_or_skip(int result, const char *test, const char *why)
{
    if (result == CANNOT_RUN)
        fprintf(stderr, "SKIP unit %s: %s\n", test, why);
    else
        ck_assert_int_eq(result, 0);
    return result != CANNOT_RUN;
}

bool become_nobody(void)
{
    return setgid(65534) == 0 && setuid(65534) == 0;
}

static int enter_as_nobody(void)
{
    EXPECT(become_nobody());
    return access(log_parent, X_OK) == 0 ? 0 : CANNOT_RUN;
}

bool can_nobody_enter(const char *test)
{
    ck_assert_int_eq(chmod(log_parent, 0755), 0);
    return expect_success_or_skip(run_child(enter_as_nobody), test,
                                  "other users may not enter the directory of the test");
}

bool has_proc(void)
{
    return access("/proc/self/fd", F_OK) == 0;
}

bool can_look_into_proc(const char *test)
{
    if (!has_proc())
        fprintf(stderr, "SKIP unit %s: there is no /proc\n", test);
    return has_proc();
}

bool allow_files(unsigned count, const char *test)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < count) {
        fprintf(stderr, "SKIP unit %s: it needs %u descriptors, and the hard limit is lower\n", test, count);
        return false;
    }

    if (limit.rlim_cur < count)
        limit.rlim_cur = count;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return true;
}

int log_use_forked(struct twinlog *log)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog_reader *reader;
    uint64_t lsn;
    EXPECT(twinlog_append(log, "x", 1, &lsn) == TWINLOG_EFORKED);
    EXPECT(twinlog_read(log, 1, NULL, 0, &(struct twinlog_record){ 0 }) == TWINLOG_EFORKED);
    EXPECT(twinlog_enqueue(log, "x", 1, &lsn) == TWINLOG_EFORKED);
    EXPECT(twinlog_wait(log, 1, TWINLOG_LEVEL_DURABLE, 0) == TWINLOG_EFORKED);
    EXPECT(twinlog_sync(log) == TWINLOG_EFORKED);
    EXPECT(twinlog_stat(log, &stat) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_attach(log, NULL, &reader) == TWINLOG_EFORKED);
    EXPECT(twinlog_first_lsn(log) == 0 && twinlog_last_lsn(log) == 0);
    EXPECT(twinlog_written_lsn(log) == 0 && twinlog_durable_lsn(log) == 0);
    return 0;
}

void *shared_page(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    return page;
}

uint64_t test_seed(void)
{
    const char *given = getenv("TWINLOG_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    fprintf(stderr, "seed: TWINLOG_SEED=%" PRIu64 "\n", seed);
    return seed;
}
