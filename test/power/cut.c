/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-power: the power goes while a process appends to a log on a real file system of this kernel. The disk
 * loses what was not flushed, the file system is mounted again, and the log is opened and compared with what had
 * been acknowledged: with the writers, their notes and the judge of crash-kill.
 *
 *   image     the disk stops, and of the sectors in its cache some reach the medium and some do not; the writer
 *             is killed while all its calls hang, so that it can have noted nothing the disk did not know
 *   shutdown  the file system is shut down under the writer: the disk keeps all it was given, the page cache is
 *             lost. Only what was acknowledged before counts
 *   fault     writes or flushes fail from some moment on; the writers must get errors, and come to an end. Then
 *             the disk works again, and in half of the cases the power goes as well. Where writes fail on ext4 or
 *             xfs, only what was acknowledged before the first failure counts
 *   slow      the writer is killed while its write is on its way, and the log is opened at once
 *
 * What does not count is what these file systems get wrong by themselves: an fdatasync that is under way while the
 * journal fails or is shut down may return 0, and the blocks that it was for are still marked as never written when the
 * file system is mounted again. docs/testing.md has the evidence, and that nothing else is lost.
 *
 * The seed decides everything but the moment, which the scheduler has a say in. A violation leaves the disk as it was
 * when the file system was last mounted: mount a copy, `mount -o loop`.
 */
#define _GNU_SOURCE
#include "../../powercut/machine.h"

#include "../crash/command_line.h"
#include "../crash/kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FAULT_MS 300u /* so long a writer may go on before it is asked to stop */
#define SLOW_WRITE_MS 400u
#define CYCLES_A_REFUSAL 50u         /* besides the first */
#define MAPPED_OVERHEAD_BYTES 28672u /* of a mapped segment, besides its records */

enum method {
    METHOD_IMAGE,
    METHOD_SHUTDOWN,
    METHOD_FAULT,
    METHOD_SLOW,
    METHODS,
};

static const char *const method_names[METHODS] = { "image", "shutdown", "fault", "slow" };

static struct {
    unsigned filesystem, method;
} settings;

static uint64_t formats, failed_lives, mapped_lives;
static struct machine machine;

/* ---- the log ----------------------------------------------------------------------------------- */

/* For good: or else the next cut may bring some of it back. */
static void remove_log(void)
{
    remove_directory(place.log);
    machine_sync(&machine);
    forget_lives();
}

/* ---- the machine ------------------------------------------------------------------------------- */

/*
 * False: the file system is a new one, and the cycle says nothing about the log. A disk that lies may leave nothing of
 * a file system. And xfs refuses now and then what a cut left of its own log or inodes, before a file can be asked for;
 * that it stays rare is what a run still proves of it.
 */
static bool boot(void)
{
    if (machine_boot(&machine))
        return true;
    if (place.lie == LIE_NONE && (settings.filesystem != FS_XFS || (errno != EBADMSG && errno != EUCLEAN) ||
                                  formats > place.cycle / CYCLES_A_REFUSAL))
        violation("the file system cannot be mounted: %s", strerror(errno));
    machine_format(&machine);
    forget_lives();
    formats++;
    return false;
}

/* ---- one life ---------------------------------------------------------------------------------- */

/* Nothing but appends and syncs; a reader would be given what the power takes. */
static void make_mapped(struct life *life)
{
    life->options.mode = TWINLOG_MODE_MAPPED;
    life->options.mapped_bytes = life->options.segment_bytes;
    if (life->options.max_record_bytes > life->options.segment_bytes - MAPPED_OVERHEAD_BYTES)
        life->options.max_record_bytes = (uint32_t)(life->options.segment_bytes - MAPPED_OVERHEAD_BYTES);
    life->options.flags &= ~(uint32_t)TWINLOG_PAD;
    life->change_one_in = 0;
    life->has_committer = false;
    life->has_reader = false;
    mapped_lives++;
}

static void begin_incarnation(struct life *life, uint64_t number, struct rng *rng)
{
    begin_life(life, number, false, rng);
    if (rng_one_in(rng, 4))
        life->options.flags |= TWINLOG_PAD;
    if (settings.method == METHOD_SHUTDOWN || settings.method == METHOD_FAULT)
        life->has_reader = false; /* takes the errors of a disk for violations */
    if (settings.method != METHOD_SLOW && rng_one_in(rng, 3))
        make_mapped(life);
}

/* An error is right here, if it is one of those that a disk or file system in trouble is the reason of. */
static void excuse_error(struct life *life)
{
    const int error = atomic_load(&life->error);

    if (error != -EIO && error != -EROFS && error != TWINLOG_EPOISONED)
        return;
    failed_lives++;
    atomic_store(&life->error, 0);
}

static int end_by_image(struct life *life, pid_t pid, struct rng *rng)
{
    if (rng_below(rng, 8) < 3) {
        await(pid, (int64_t)rng_below(rng, 30000000));
    } else {
        await_open(life, pid);
        await(pid, (int64_t)rng_below(rng, 60000000));
    }
    machine_cut_power(&machine, rng_next(rng));
    kill(pid, SIGKILL);
    machine_end(&machine);
    return reap(pid, "a writer that has lost its machine");
}

/* What the writers had noted at a moment. */
struct claims {
    uint64_t acked[MAX_WRITERS], durable[MAX_WRITERS];
};

static void note_claims(const struct life *life, struct claims *ret_claims)
{
    for (uint32_t i = 0; i < life->writers; i++) {
        ret_claims->acked[i] = atomic_load(&life->notes[i].acked);
        ret_claims->durable[i] = atomic_load(&life->notes[i].durable);
    }
}

static void forget_later_claims(struct life *life, const struct claims *claims)
{
    for (uint32_t i = 0; i < life->writers; i++) {
        atomic_store(&life->notes[i].acked, claims->acked[i]);
        atomic_store(&life->notes[i].durable, claims->durable[i]);
    }
}

/* A change is made and noted, or not begun. */
static void end_changes(struct life *life, pid_t pid)
{
    atomic_store(&life->may_not_change, true);
    while (atomic_load(&life->is_changing) && !await(pid, 100000))
        continue;
}

static int end_by_shutdown(struct life *life, pid_t pid, struct rng *rng)
{
    struct claims claims;
    int status;

    await_open(life, pid);
    await(pid, (int64_t)rng_below(rng, 60000000));
    end_changes(life, pid);
    note_claims(life, &claims);
    machine_shut_down(&machine);
    kill(pid, SIGKILL);
    status = reap(pid, "a writer that has lost its file system");
    forget_later_claims(life, &claims);
    excuse_error(life);
    return status;
}

/* Shared with the server of the disk. */
struct last_words {
    const struct life *life;
    struct claims claims;
};
static struct last_words *last_words;

static void note_last_words(void *context)
{
    struct last_words *words = context;

    note_claims(words->life, &words->claims);
}

static void break_disk(const struct life *life, bool is_write, struct rng *rng)
{
    last_words->life = life;
    if (is_write)
        disk_fail_writes(machine.disk, rng_below(rng, 60));
    else
        disk_fail_flushes(machine.disk, rng_below(rng, 30));
}

/* How many were refused. */
static uint64_t mend_disk(void)
{
    const uint64_t failures = disk_failures(machine.disk);

    disk_fail_writes(machine.disk, NEVER);
    disk_fail_flushes(machine.disk, NEVER);
    return failures;
}

static int end_by_fault(struct life *life, pid_t pid, struct rng *rng)
{
    const bool is_cut = rng_one_in(rng, 2), is_write = rng_one_in(rng, 2);
    const bool is_trusted = !is_write || settings.filesystem == FS_BTRFS; /* see above */
    uint64_t failures;
    int status;

    await_open(life, pid);
    if (!is_trusted)
        end_changes(life, pid);
    break_disk(life, is_write, rng);
    await(pid, FAULT_MS * INT64_C(1000000));
    atomic_store(&life->must_stop, true);
    status = reap(pid, "a writer on a disk that fails");
    failures = mend_disk();
    if (failures > 0)
        excuse_error(life);
    if (failures > 0 && !is_trusted)
        forget_later_claims(life, &last_words->claims);
    if (is_cut) {
        machine_cut_power(&machine, rng_next(rng));
        machine_end(&machine);
    }
    return status;
}

/* Like boot(). */
static bool live_and_end(struct life *life, uint64_t number, struct rng *rng)
{
    static int (*const ends[])(struct life *, pid_t, struct rng *) = {
        [METHOD_IMAGE] = end_by_image, [METHOD_SHUTDOWN] = end_by_shutdown, [METHOD_FAULT] = end_by_fault
    };

    int status;

    begin_incarnation(life, number, rng);
    status = ends[settings.method](life, fork_child(run_writer, life), rng);
    machine_unmount(&machine);
    count_life(life, status);
    return boot();
}

/* ---- one cycle --------------------------------------------------------------------------------- */

static void run_cycle(struct rng *rng)
{
    const unsigned incarnations = 1 + (unsigned)rng_below(rng, MAX_LIVES);

    for (unsigned i = 0; i < incarnations; i++)
        if (!live_and_end(&shared->incarnations[i], place.cycle * MAX_LIVES + i, rng))
            return;
    judge(incarnations, false, rng);
    check_sightings(&shared->attached.sightings, &lives.book, "the reader inside the writer");
    if (is_log_large())
        remove_log();
}

static void await_delayed_write(pid_t pid)
{
    const int64_t born = now_ns();

    while (disk_delayed(machine.disk) == 0 && !await(pid, 500000))
        if (now_ns() - born > PATIENCE_MS * INT64_C(1000000))
            violation("a writer wrote nothing for %d s", PATIENCE_MS / 1000);
}

/* Only the write that is on its way is slow, so that nothing of the opener's has to wait for it by chance. */
static void run_slow_cycle(struct rng *rng)
{
    struct life *life = &shared->incarnations[0];
    pid_t pid;

    begin_incarnation(life, place.cycle, rng);
    pid = fork_child(run_writer, life);
    await_open(life, pid);
    await(pid, (int64_t)rng_below(rng, 20000000));
    disk_delay_writes(machine.disk, SLOW_WRITE_MS);
    await_delayed_write(pid);
    kill(pid, SIGKILL);
    disk_delay_writes(machine.disk, 0);
    judge(1, true, rng);
    count_life(life, reap(pid, "a killed writer"));
    if (is_log_large())
        remove_log();
}

static void run_one(struct rng *rng)
{
    if (settings.method == METHOD_SLOW)
        run_slow_cycle(rng);
    else
        run_cycle(rng);
}

/* ---- command line ------------------------------------------------------------------------------ */

static void print_help(void)
{
    puts(
        "usage: crash-power [options]\n"
        "\n"
        "Cuts the power of a machine that appends to a log, opens the log again and checks it, over and over.\n"
        "Needs root, /dev/fuse and loop devices; mounts in a namespace of its own.\n"
        "\n"
        "  --cuts N        stop after so many; default 100, or no limit with --seconds\n"
        "  --seconds S     stop after this time\n"
        "  --seed N        default TWINLOG_SEED, or 1\n"
        "  --fs NAME       ext4, xfs or btrfs; default ext4\n"
        "  --method NAME   image: the disk loses what was not flushed; shutdown: the file system is shut down;\n"
        "                  fault: writes or flushes fail; slow: the writer is killed while a write takes long;\n"
        "                  default image\n"
        "  --dir PARENT    where to make a directory; default TMPDIR, or /tmp\n"
        "  --lie NAME      flush: the disk forgets flushes; else as crash-kill; ends with 0 if that is found\n"
        "  --help          this text\n"
        "\n"
        "Exit status: 0 no violation, 1 a violation (the disk is kept), 2 wrong usage, 77 cannot run.");
}

static void summarise(void)
{
    printf("  %s, %s: %" PRIu64 " writers had failed before, %" PRIu64 " were mapped; the disk: %" PRIu64
           " writes, %" PRIu64 " flushes; of the sectors in its cache %" PRIu64 " were lost, %" PRIu64
           " were not\n",
           filesystem_names[settings.filesystem], method_names[settings.method], failed_lives, mapped_lives,
           machine.disk->writes, machine.disk->flushes, machine.disk->lost, machine.disk->kept);
    if (formats > 0)
        printf("  mounts that failed, each followed by a new file system: %" PRIu64 "\n", formats);
    summarise_lives();
}

static void keep_image(void)
{
    snprintf(place.log, sizeof(place.log), "%s/disk.img", place.directory);
    machine_save_image(&machine, place.log);
    machine_remove(&machine);
}

static void leave_machine(void)
{
    machine_remove(&machine);
}

static void begin(void)
{
    shared->ends_machine = settings.method != METHOD_SLOW;
    last_words = map_shared(sizeof(*last_words)); /* before the server is forked */
    place.keep = keep_image;
    place.leave = leave_machine;
    machine_make(&machine, settings.filesystem, place.directory);
    snprintf(place.log, sizeof(place.log), "%.280s/log", machine.mounted);
    begin_lives(remove_log);
    machine.disk->context = last_words;
    machine.disk->when_failing = note_last_words;
    machine.disk->forgets_flushes = place.lie == LIE_FLUSH;
}

int main(int argc, char **argv)
{
    static const struct argument more[] = {
        { "fs", .word = &settings.filesystem, .words = filesystem_names, .count = FILESYSTEMS },
        { "method", .word = &settings.method, .words = method_names, .count = METHODS },
        { 0 },
    };
    static const struct policy policy = {
        .name = "power",
        .usual_kills = 100,
        .more = more,
        .begin = begin,
        .run_cycle = run_one,
        .summarise = summarise,
        .killed = &lives.count,
    };

    return run_policy(&policy, "crash-power", print_help, argc, argv);
}
