/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power-error: a process takes a write error of a mapped log, or of a sink, with it, because it is killed or stopped in
 * the very sync that meets the error. The kernel reports the error to no file that is opened later.
 *
 * One process, the host, keeps it open. The victim appends and syncs; while the disk refuses the write, or does
 * it, the server of the disk sends the signal. Then the disk works again. The heir opens it, appends and syncs.
 * Then the power goes. Where the heir's sync returned 0, all records up to then are there. Where nothing had failed, it
 * returns 0, whatever happened to the victim.
 *
 * The error may be that of another block than the one that is synced: of pages that were made present ahead, and that
 * the kernel has written since. The heir's records go there.
 */
#define _GNU_SOURCE
#include "../../powercut/machine.h"

#include "../crash/command_line.h"
#include "../crash/kill.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <twinlog.h>
#include <twinlog_sink.h>
#include <unistd.h>

enum {
    HOST_RECORDS = 3,
    VICTIM_RECORDS = 6, /* and as many again, when the disk fails */
    HEIR_RECORDS = 200, /* they go beyond AHEAD_FROM */
    RECORD_BYTES = 1000,
    AHEAD_FROM = 65536,
    NAMED_BYTES = 1 << 20, /* of the segment */
};
#define MAPPED_BYTES (UINT64_C(4) << 20)
#define MODE_SINK UINT32_MAX /* beside enum twinlog_mode */

enum fault {
    FAULT_NONE,
    FAULT_OWN,   /* the victim's sync meets it */
    FAULT_AHEAD, /* the kernel has met it before, behind the records */
};

static const struct scenario {
    const char *name;
    uint32_t mode;
    int signal;
    enum fault fault;
    bool is_host_killed; /* too, so the log is opened and not joined */
} scenarios[] = {
    { "shared, killed in a sync that works", TWINLOG_MODE_SHARED, SIGKILL, FAULT_NONE, false },
    { "shared, stopped in a sync that works", TWINLOG_MODE_SHARED, SIGSTOP, FAULT_NONE, false },
    { "shared, killed in a sync that fails", TWINLOG_MODE_SHARED, SIGKILL, FAULT_OWN, false },
    { "shared, stopped in a sync that fails", TWINLOG_MODE_SHARED, SIGSTOP, FAULT_OWN, false },
    { "shared, killed, pages ahead failed", TWINLOG_MODE_SHARED, SIGKILL, FAULT_AHEAD, false },
    { "shared, stopped, pages ahead failed", TWINLOG_MODE_SHARED, SIGSTOP, FAULT_AHEAD, false },
    { "shared, all killed in a sync that fails", TWINLOG_MODE_SHARED, SIGKILL, FAULT_OWN, true },
    { "mapped, killed in a sync that fails", TWINLOG_MODE_MAPPED, SIGKILL, FAULT_OWN, true },
    { "mapped, killed, pages ahead failed", TWINLOG_MODE_MAPPED, SIGKILL, FAULT_AHEAD, true },
    { "sink, killed in a sync that works", MODE_SINK, SIGKILL, FAULT_NONE, false },
    { "sink, killed in a sync that fails", MODE_SINK, SIGKILL, FAULT_OWN, false },
    { "sink, all killed in a sync that fails", MODE_SINK, SIGKILL, FAULT_OWN, true },
};

static unsigned filesystem; /* an enum filesystem */
static uint64_t tried;      /* scenarios */

/* Shared by all processes and the server of the disk. */
static struct error_notes {
    _Atomic bool is_ready; /* of the process that runs now */
    _Atomic bool may_sync; /* the victim */
    _Atomic pid_t victim;  /* 0: no signal is due */
    int signal;            /* for it */
    int result;            /* of the first call of the heir that failed, or 0 */
    uint64_t first, last;  /* the heir's records */
} * notes;

static struct machine machine;
static const struct scenario *scenario;

/* ---- the processes ----------------------------------------------------------------------------- */

static void compose(char *record, uint64_t lsn)
{
    memset(record, (int)('a' + lsn % 26), RECORD_BYTES);
    record[snprintf(record, RECORD_BYTES, "record %" PRIu64, lsn)] = ' ';
}

/* Of the process: one of them. */
static struct twinlog *opened;
static struct twinlog_sink *sink;

/* The segment that the victim appends to, the second one of a new log; or the sink's file. */
static const char *path_of_file(void)
{
    static char path[400];
    if (scenario->mode == MODE_SINK)
        snprintf(path, sizeof(path), "%s/sink", place.log);
    else
        snprintf(path, sizeof(path), "%s/%016x.twl", place.log, 2);
    return path;
}

static int open_it(uint32_t mode)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_sink_options sink_options = TWINLOG_SINK_OPTIONS_INIT;

    sink_options.flags = TWINLOG_SINK_MAPPED | TWINLOG_SINK_SHARED;
    if (mode == MODE_SINK && mkdir(place.log, 0777) < 0 && errno != EEXIST)
        return -errno;
    options.mode = mode;
    options.mapped_bytes = options.segment_bytes = MAPPED_BYTES;
    return mode == MODE_SINK ? twinlog_sink_open(path_of_file(), &sink_options, &sink)
                             : twinlog_open(place.log, &options, &opened);
}

static uint64_t last_record(void)
{
    uint64_t end = 0;

    if (sink)
        check_call(twinlog_sink_end(path_of_file(), &end), "twinlog_sink_end");
    return sink ? end / RECORD_BYTES : twinlog_last_lsn(opened);
}

static int append_some(uint32_t count)
{
    char record[RECORD_BYTES];
    int rc = 0;

    for (uint64_t lsn = last_record() + 1; rc == 0 && count > 0; lsn++, count--) {
        compose(record, lsn);
        rc = sink ? twinlog_sink_write(sink, record, sizeof(record), NULL)
                  : twinlog_append(opened, record, sizeof(record), NULL);
    }
    return rc;
}

static int sync_it(void)
{
    return sink ? twinlog_sink_sync(sink) : twinlog_sync(opened);
}

static _Noreturn void sleep_for_ever(void)
{
    atomic_store(&notes->is_ready, true);
    for (;;)
        pause();
}

static void run_host(void *context)
{
    (void)context;
    if (open_it(scenario->mode) < 0 || append_some(HOST_RECORDS) < 0 || sync_it() < 0)
        _exit(EXIT_FAILURE);
    sleep_for_ever();
}

static void run_victim(void *context)
{
    (void)context;
    if (open_it(scenario->mode) < 0 || append_some(VICTIM_RECORDS) < 0)
        _exit(EXIT_FAILURE);
    atomic_store(&notes->is_ready, true);
    while (!atomic_load(&notes->may_sync))
        pause_a_moment();
    if (append_some(VICTIM_RECORDS) == 0)
        (void)sync_it();
    _exit(EXIT_FAILURE); /* it was not killed */
}

static void run_heir(void *context)
{
    (void)context;
    notes->result = open_it(scenario->mode);
    if (notes->result == 0) {
        notes->first = last_record() + 1;
        notes->result = append_some(HEIR_RECORDS);
        notes->last = last_record();
    }
    if (notes->result == 0)
        notes->result = sync_it();
    sleep_for_ever();
}

static void await_ready(pid_t pid, const char *name)
{
    const int64_t start = now_ns();

    while (!atomic_load(&notes->is_ready) && !await(pid, 0))
        if (is_too_long(start, PATIENCE_MS))
            violation("%s: %s hangs", scenario->name, name);
    if (!atomic_exchange(&notes->is_ready, false))
        violation("%s: %s has ended", scenario->name, name);
}

/* ---- the fault --------------------------------------------------------------------------------- */

/* In the server of the disk: the write is not answered yet. */
static void strike(void *context)
{
    struct error_notes *n = context;
    const pid_t victim = atomic_exchange(&n->victim, 0);

    if (victim > 0)
        kill(victim, n->signal);
}

static int open_file(void)
{
    const int fd = open(path_of_file(), O_RDWR | O_CLOEXEC);

    if (fd < 0)
        give_up(path_of_file());
    return fd;
}

/* Where the beginning of the file is on the disk. */
static uint64_t find_blocks(int fd)
{
    union {
        struct fiemap map;
        char bytes[sizeof(struct fiemap) + sizeof(struct fiemap_extent)];
    } found = { .map = { .fm_length = NAMED_BYTES, .fm_extent_count = 1 } };
    const struct fiemap_extent *extent = found.map.fm_extents;

    if (ioctl(fd, FS_IOC_FIEMAP, &found.map) < 0)
        give_up("FS_IOC_FIEMAP");
    if (found.map.fm_mapped_extents != 1 || extent->fe_logical != 0)
        violation("the segment does not begin with an extent");
    return extent->fe_physical;
}

/* Writes pages behind the records while they fail; so now they count as clean. */
static void fail_ahead(int fd, uint64_t at)
{
    unsigned char *bytes = mmap(NULL, NAMED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (bytes == MAP_FAILED || madvise(bytes + AHEAD_FROM, NAMED_BYTES - AHEAD_FROM, MADV_POPULATE_WRITE) < 0)
        give_up("making pages present");
    munmap(bytes, NAMED_BYTES);
    disk_name_blocks(machine.disk, at + AHEAD_FROM, at + NAMED_BYTES, true);
    disk_fail_writes(machine.disk, NEVER); /* counts from now */
    if (syncfs(fd) < 0 && errno != EIO)
        give_up("syncfs");
    if (disk_failures(machine.disk) == 0)
        violation("no write has failed");
}

static void arm(pid_t victim)
{
    const int fd = open_file();
    const uint64_t at = find_blocks(fd);

    if (scenario->fault == FAULT_AHEAD)
        fail_ahead(fd, at);
    close(fd);
    notes->signal = scenario->signal;
    atomic_store(&notes->victim, victim);
    disk_name_blocks(machine.disk, at, at + NAMED_BYTES, scenario->fault == FAULT_OWN);
}

static void await_end(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, WUNTRACED) < 0)
        if (errno != EINTR)
            give_up("waitpid");
    if (!WIFSTOPPED(status) && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
        violation("%s: the victim's sync came to its end", scenario->name);
}

/* ---- what is left ------------------------------------------------------------------------------ */

static void check_records(uint64_t last, const char *process)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    char wanted[RECORD_BYTES];

    check_call(twinlog_reader_attach(opened, NULL, &reader), "twinlog_reader_attach");
    for (uint64_t lsn = 1; lsn <= last; lsn++) {
        const int rc = twinlog_reader_next(reader, &record);

        if (rc != 1 || record.lsn != lsn || place.lie == LIE_LOST)
            violation("%s: record %" PRIu64 " is gone, and sync had returned 0 to %s", scenario->name, lsn,
                      process);
        compose(wanted, lsn + (place.lie == LIE_GARBLED));
        if (record.size != RECORD_BYTES || memcmp(record.data, wanted, RECORD_BYTES) != 0)
            violation("%s: record %" PRIu64 " is another one", scenario->name, lsn);
    }
    twinlog_reader_close(reader);
}

static void judge_log(bool has_host)
{
    const int rc = open_it(TWINLOG_MODE_MAPPED);

    if (rc < 0)
        violation("%s: the log cannot be opened any more: %s", scenario->name, twinlog_strerror(rc));
    if (has_host)
        check_records(HOST_RECORDS, "the host");
    if (notes->result == 0)
        check_records(notes->last, "the heir");
    else if (scenario->fault == FAULT_NONE || scenario->is_host_killed)
        violation("%s: the heir failed: %s", scenario->name, twinlog_strerror(notes->result));
    check_call(twinlog_close(opened), "twinlog_close");
}

/* A death in a sync may be a failed one, and then none succeeds. */
static void judge_sink(void)
{
    const uint64_t last = notes->result == 0 ? notes->last : HOST_RECORDS;
    char wanted[RECORD_BYTES], found[RECORD_BYTES];
    const int fd = open_file();

    for (uint64_t number = 1; number <= last; number++) {
        compose(wanted, number + (place.lie == LIE_LOST));
        if (read(fd, found, sizeof(found)) != RECORD_BYTES || memcmp(found, wanted, RECORD_BYTES) != 0)
            violation("%s: record %" PRIu64 " is gone, and a sync had returned 0", scenario->name, number);
    }
    close(fd);
}

/* ---- a run ------------------------------------------------------------------------------------- */

static pid_t start(void (*run)(void *context), const char *name)
{
    const pid_t pid = fork_child(run, NULL);

    await_ready(pid, name);
    return pid;
}

static void end(pid_t pid)
{
    int status;

    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
}

static void run_scenario(struct rng *rng)
{
    const uint64_t number = place.cycle % (sizeof(scenarios) / sizeof(scenarios[0]));
    pid_t host, victim, heir;
    bool has_host;

    scenario = &scenarios[number];
    has_host = scenario->mode != TWINLOG_MODE_MAPPED;
    tried++;
    memset(notes, 0, sizeof(*notes));
    snprintf(place.log, sizeof(place.log), "%.280s/%" PRIu64, machine.mounted, number);
    host = has_host ? start(run_host, "the host") : 0;
    victim = start(run_victim, "the victim");
    arm(victim);
    atomic_store(&notes->may_sync, true);
    await_end(victim);
    disk_name_blocks(machine.disk, 0, 0, false);
    if (scenario->is_host_killed)
        end(host);
    heir = start(run_heir, "the heir");
    machine_cut_power(&machine, rng_next(rng));
    machine_end(&machine); /* first: a process ends only when what it waits for in the kernel has */
    if (scenario->signal == SIGSTOP)
        end(victim);
    if (!scenario->is_host_killed)
        end(host);
    end(heir);
    machine_unmount(&machine);
    if (!machine_boot(&machine))
        violation("the file system cannot be mounted: %s", strerror(errno));
    if (scenario->mode == MODE_SINK)
        judge_sink();
    else
        judge_log(has_host);
    printf("  %s: the heir's sync: %s\n", scenario->name, twinlog_strerror(notes->result));
    remove_directory(place.log);
}

/* ---- command line ------------------------------------------------------------------------------ */

static void print_help(void)
{
    puts(
        "usage: power-error [options]\n"
        "\n"
        "Kills or stops a process that writes a mapped log or a sink in a sync that fails, lets another one go\n"
        "on, and cuts the power. Needs root, /dev/fuse and loop devices.\n"
        "\n"
        "  --fs NAME     ext4 or xfs; default ext4\n"
        "  --seed N      default TWINLOG_SEED, or 1\n"
        "  --cycle N     begin with this scenario; --kills N: so many of them\n"
        "  --dir DIR     where to make a directory; default TMPDIR, or /tmp");
}

static void leave_machine(void)
{
    machine_remove(&machine);
}

static void begin(void)
{
    notes = map_shared(sizeof(*notes));
    place.keep = place.leave = leave_machine;
    machine_make(&machine, (enum filesystem)filesystem, place.directory);
    machine.disk->context = notes;
    machine.disk->when_named = strike;
}

static void summarise(void)
{
    printf("  %s, %" PRIu64 " ways to take an error along\n", filesystem_names[filesystem], tried);
}

int main(int argc, char **argv)
{
    static const struct argument more[] = {
        { "fs", .word = &filesystem, .words = filesystem_names, .count = FILESYSTEMS },
        { 0 },
    };
    static const struct policy policy = {
        .name = "error",
        .usual_kills = sizeof(scenarios) / sizeof(scenarios[0]),
        .more = more,
        .begin = begin,
        .run_cycle = run_scenario,
        .summarise = summarise,
        .killed = &tried,
    };

    return run_policy(&policy, "power-error", print_help, argc, argv);
}
