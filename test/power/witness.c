/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power-witness: what a file system says of its own syncs while it comes to grief, without any log.
 *
 * Threads write blocks to files that were allocated before, each to one of its own, and call fdatasync behind each
 * block. Meanwhile the file system is shut down, or the writes of its disk begin to fail. Then it is mounted again, on
 * a disk that works and has lost nothing, and each block for which fdatasync had returned 0 should be there.
 *
 * It is not always. crash-power leaves out what a file system gets wrong by itself, and this is the evidence for it,
 * and of how far it goes: whatever is lost must have been synced by a call that was under way when the trouble began,
 * or began behind it. A block that was acknowledged before is a violation in any case. Without --may-lose so is every
 * other one that is gone, which says where crash-power need not leave out anything.
 */
#define _GNU_SOURCE
#include "../../powercut/machine.h"

#include "../crash/command_line.h"
#include "../crash/kill.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    THREADS = 8,
    BLOCKS = 1024, /* of a file */
    BYTES = 4096,
    DIRECTORIES = 4 /* used in turn */
};

static struct {
    enum filesystem filesystem;
    int is_shutdown, is_flush, is_buffered, is_written, may_lose;
    uint64_t rounds;
} settings = { .rounds = 50 };

/* Shared with the process that writes, and the server of the disk. */
static struct witness_notes {
    uint32_t acked[THREADS];           /* blocks */
    int64_t acked_ns[THREADS][BLOCKS]; /* when fdatasync had returned 0 */
    _Atomic int64_t trouble_ns;        /* when it began; 0 = it has not */
    _Atomic bool must_stop;
} * notes;

static struct {
    uint64_t acked, lost, rounds_with_loss;
    int64_t latest_ns; /* a block that is lost was acknowledged so long after the trouble began */
} totals;

static struct machine machine;
static uint64_t round_number;

/* ---- the files --------------------------------------------------------------------------------- */

static int open_file(unsigned thread, int flags)
{
    char path[400];
    int fd;

    snprintf(path, sizeof(path), "%s/%u", place.log, thread);
    fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        give_up(path);
    return fd;
}

static void write_zeros(int fd)
{
    static const unsigned char zeros[BLOCKS / 4 * BYTES];

    for (unsigned i = 0; i < 4; i++)
        if (pwrite(fd, zeros, sizeof(zeros), (off_t)(i * sizeof(zeros))) != (ssize_t)sizeof(zeros))
            give_up("writing zeros");
}

static void make_files(void)
{
    snprintf(place.log, sizeof(place.log), "%.280s/%u", machine.mounted,
             (unsigned)(round_number % DIRECTORIES));
    if (mkdir(place.log, 0700) < 0)
        give_up(place.log);
    for (unsigned i = 0; i < THREADS; i++) {
        const int fd = open_file(i, O_RDWR | O_CREAT);

        if (posix_fallocate(fd, 0, (off_t)BLOCKS * BYTES) != 0)
            give_up("posix_fallocate");
        if (settings.is_written)
            write_zeros(fd);
        close(fd);
    }
    machine_sync(&machine);
}

static void fill(uint64_t *block, unsigned thread, unsigned number)
{
    for (unsigned i = 0; i < BYTES / sizeof(*block); i++)
        block[i] = rng_mix(round_number) + thread * UINT64_C(4099) + number * UINT64_C(7919) + i;
}

/* ---- the writers ------------------------------------------------------------------------------- */

static void *write_blocks(void *context)
{
    const unsigned thread = (unsigned)(uintptr_t)context;
    const int fd = open_file(thread, O_RDWR | (settings.is_buffered ? 0 : O_DIRECT));
    uint64_t *block = aligned_alloc(BYTES, BYTES);

    for (unsigned i = 0; block && i < BLOCKS && !atomic_load(&notes->must_stop); i++) {
        fill(block, thread, i);
        if (pwrite(fd, block, BYTES, (off_t)i * BYTES) != BYTES || fdatasync(fd) < 0)
            break;
        notes->acked_ns[thread][i] = now_ns();
        notes->acked[thread] = i + 1;
    }
    free(block);
    close(fd);
    return NULL;
}

static void write_files(void *context)
{
    pthread_t threads[THREADS];

    (void)context;
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, write_blocks, (void *)(uintptr_t)i) != 0)
            give_up("pthread_create");
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- the trouble ------------------------------------------------------------------------------- */

static void note_trouble(void *context)
{
    (void)context;
    atomic_store(&notes->trouble_ns, now_ns());
}

static void make_trouble(pid_t pid, struct rng *rng)
{
    await(pid, 2000000 + (int64_t)rng_below(rng, 30000000));
    if (settings.is_shutdown) {
        note_trouble(NULL);
        machine_shut_down(&machine);
        await(pid, 50000000);
    } else {
        if (settings.is_flush)
            disk_fail_flushes(machine.disk, rng_below(rng, 30));
        else
            disk_fail_writes(machine.disk, rng_below(rng, 60));
        await(pid, 300000000);
    }
    atomic_store(&notes->must_stop, true);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    disk_fail_writes(machine.disk, NEVER);
    disk_fail_flushes(machine.disk, NEVER);
}

/* ---- what is left ------------------------------------------------------------------------------ */

static void account_for_loss(unsigned thread, unsigned number)
{
    const int64_t trouble_ns = atomic_load(&notes->trouble_ns);
    const int64_t late_ns = notes->acked_ns[thread][number] - trouble_ns;

    if (trouble_ns == 0 || late_ns < 0)
        violation("block %u of file %u is lost, which was synced before there was any trouble", number,
                  thread);
    if (!settings.may_lose)
        violation("block %u of file %u is lost; its fdatasync returned 0, %.1f ms after the trouble began",
                  number, thread, (double)late_ns / 1e6);
    totals.lost++;
    if (late_ns > totals.latest_ns)
        totals.latest_ns = late_ns;
}

static void check_file(unsigned thread)
{
    const int fd = open_file(thread, O_RDONLY);
    uint64_t wanted[BYTES / sizeof(uint64_t)], found[BYTES / sizeof(uint64_t)] = { 0 };

    for (unsigned i = 0; i < notes->acked[thread]; i++) {
        fill(wanted, thread, i);
        totals.acked++;
        if (pread(fd, found, BYTES, (off_t)i * BYTES) != BYTES || memcmp(found, wanted, BYTES) != 0)
            account_for_loss(thread, i);
    }
    close(fd);
}

static void run_round(struct rng *rng)
{
    const uint64_t lost = totals.lost;

    memset(notes, 0, sizeof(*notes));
    make_files();
    make_trouble(fork_child(NULL, write_files, NULL), rng);
    machine_unmount(&machine);
    if (!machine_boot(&machine))
        violation("the file system cannot be mounted: %s", strerror(errno));
    for (unsigned i = 0; i < THREADS; i++)
        check_file(i);
    remove_directory(place.log);
    totals.rounds_with_loss += totals.lost > lost;
}

/* ---- command line ------------------------------------------------------------------------------ */

static const char help[] =
    "usage: power-witness [options]\n"
    "\n"
    "Writes and syncs plain files on a file system that is shut down, or on a disk that begins to fail, and looks\n"
    "whether what was synced is there. Needs root, /dev/fuse and loop devices.\n"
    "\n"
    "  --fs NAME     ext4, xfs or btrfs; default ext4\n"
    "  --shutdown    the file system is shut down; without it, writes fail\n"
    "  --flushes     flushes fail instead\n"
    "  --buffered    writes go through the page cache\n"
    "  --written     to space that was written before, not only allocated\n"
    "  --may-lose    what was acknowledged behind the beginning of the trouble may be gone\n"
    "  --rounds N    default 50\n"
    "  --seed N      default TWINLOG_SEED, or 1\n"
    "  --dir DIR     where to make a directory; default TMPDIR, or /tmp";

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        { "fs", required_argument, NULL, 'f' },
        { "shutdown", no_argument, &settings.is_shutdown, 1 },
        { "flushes", no_argument, &settings.is_flush, 1 },
        { "buffered", no_argument, &settings.is_buffered, 1 },
        { "written", no_argument, &settings.is_written, 1 },
        { "may-lose", no_argument, &settings.may_lose, 1 },
        { "rounds", required_argument, NULL, 'r' },
        { "seed", required_argument, NULL, 'S' },
        { "dir", required_argument, NULL, 'd' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int letter;

    while ((letter = next_option(argc, argv, options, help)) != -1)
        if (letter == 'f')
            settings.filesystem = (enum filesystem)name_index(optarg, filesystem_names, FILESYSTEMS);
        else
            settings.rounds = parse_number(optarg, 1, 1000000);
}

static void leave_machine(void)
{
    machine_remove(&machine);
}

int main(int argc, char **argv)
{
    struct rng rng;

    begin_command_line("power-witness", argc, argv);
    parse(argc, argv);
    rng = (struct rng){ rng_mix(place.seed) };
    notes = map_shared(sizeof(*notes));
    make_place(given.parent);
    place.keep = place.leave =
        leave_machine; /* with a violation, too, or else the mounts outlive their disk */
    machine_make(&machine, settings.filesystem, place.directory);
    machine.disk->when_failing = note_trouble;
    for (round_number = 1; round_number <= settings.rounds; round_number++)
        run_round(&rng);
    remove_place();
    printf("power-witness: %s, %s, %s writes to %s space: %" PRIu64
           " rounds, fdatasync returned 0 for %" PRIu64 " blocks, %" PRIu64 " of them lost, in %" PRIu64
           " rounds",
           filesystem_names[settings.filesystem],
           settings.is_shutdown ? "shut down"
           : settings.is_flush  ? "flushes fail"
                                : "writes fail",
           settings.is_buffered ? "buffered" : "direct", settings.is_written ? "written" : "allocated",
           settings.rounds, totals.acked, totals.lost, totals.rounds_with_loss);
    if (totals.lost > 0)
        printf("; acknowledged up to %.1f ms after the trouble began", (double)totals.latest_ns / 1e6);
    printf("\n");
    return EXIT_SUCCESS;
}
