/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog-powercut: runs a program on a disk that loses its power at a random moment, mounts what is left of the disk,
 * and runs the program's own check there; again and again. The disk is that of disk.h, under a real file system.
 *
 * What the program prints before the cut is what it has promised. It is kept in memory, where no cut reaches it, and is
 * the check's standard input. It is counted at the moment of the cut: from then on no flush returns, so a program that
 * prints only what was synced has printed nothing that the disk may lose.
 *
 * Every process that the command starts is killed after the cut, also one that has left its process group: orphans
 * become children of this process. Signals are blocked, and taken between two steps, so that the disk goes in any case.
 */
#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <twinlog.h>
#include <unistd.h>

enum status {
    STATUS_FINE,
    STATUS_FOUND,  /* a check or the command failed */
    STATUS_USAGE,  /* the command line is wrong */
    STATUS_FAILED, /* this program failed */
    STATUS_MISSING = 77,
};

static const char help[] =
    "Usage: twinlog-powercut [options] -- COMMAND [ARGUMENT...]\n"
    "\n"
    "Runs COMMAND on a disk that loses its power at a random moment, mounts what is left, and\n"
    "runs a check; again and again. COMMAND keeps its files below the directory $POWERCUT_DIR,\n"
    "and prints what it has made durable, a line each. The check gets these lines on its\n"
    "standard input, and ends with 0 if they are true. Needs root, FUSE and loop devices.\n"
    "\n"
    "  --check COMMAND  a shell command; by default COMMAND itself. The environment variable\n"
    "                   POWERCUT is \"check\" for the check, and \"run\" otherwise\n"
    "  --kind KIND      the file system: ext4, xfs or btrfs (default ext4); none: only the disk,\n"
    "                   $POWERCUT_DISK, for a virtual machine\n"
    "  --cuts N         so many power cuts (default 20)\n"
    "  --within MS      each at a random moment of so many milliseconds (default 1000)\n"
    "  --fresh          an empty disk for each run; else it goes on with what is left\n"
    "  --tear TEXT      tear blocks of 4 KiB with TEXT in them; else only those of a twinlog\n"
    "  --lie            the disk forgets what it flushed: the check must fail now\n"
    "  --seed N         another N, another course (default 1)\n"
    "  --help           show this text\n"
    "  --version        show the version\n"
    "\n"
    "Exit status: 0 no check failed; 1 a check or COMMAND failed, and the disk is kept;\n"
    "2 wrong usage; 3 this program failed; 77 something is missing here that it needs.\n"
    "\n"
    "Example: the store of the tutorial, which checks itself\n"
    "  sudo twinlog-powercut -- ./kvstore_powercut\n";

static struct {
    enum filesystem kind;
    char *const *command;
    const char *check; /* NULL: the command */
    const char *torn_text;
    uint64_t cuts, within_ms, seed;
    bool is_fresh, is_lie;
} settings = { .cuts = 20, .within_ms = 1000, .seed = 1 };

static struct machine machine;
static char place[200];  /* the directory that was made, "" before */
static bool has_machine; /* or a part of it */
static pid_t running;    /* the command or the check, the leader of its process group; 0: none */
static int printed;      /* memory with what the command has printed */
static uint64_t cut;     /* number of the power cut, from 1 */
static sigset_t signals, old_signals;
static struct {
    uint64_t ended; /* commands that had ended before their cut */
    uint64_t formats;
} totals;

/* ---- the end ----------------------------------------------------------------------------------- */

static int kill_all(void);

/* Gives everything back; what is in the directory besides stays. */
static void clean_up(void)
{
    if (has_machine) {
        has_machine = false;
        if (running > 0) {
            machine_cut_power(&machine, 0);
            kill(-running, SIGKILL);
            machine_end(&machine);
            kill_all();
        }
        machine_remove(&machine);
    }
    if (*place)
        rmdir(place);
}

_Noreturn void machine_missing(const char *what)
{
    fprintf(stderr, "twinlog-powercut: cannot run here: %s\n", what);
    clean_up();
    exit(STATUS_MISSING);
}

_Noreturn void machine_failed(const char *what)
{
    fprintf(stderr, "twinlog-powercut: %s: %s\n", what, errno ? strerror(errno) : "failed");
    clean_up();
    exit(STATUS_FAILED);
}

static _Noreturn void wrong_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void wrong_usage(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "twinlog-powercut: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n'twinlog-powercut --help' says more\n");
    exit(STATUS_USAGE);
}

static void save_printed(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char bytes[4096];
    ssize_t size;

    if (fd < 0)
        machine_failed(path);
    for (off_t at = 0; (size = pread(printed, bytes, sizeof(bytes), at)) > 0; at += size)
        if (write(fd, bytes, (size_t)size) != size)
            machine_failed(path);
    close(fd);
}

/* Something is wrong with the program: keeps what shows it. */
static _Noreturn void found(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void found(const char *format, ...)
{
    char image[sizeof(place) + 20], lines[sizeof(place) + 20];
    va_list arguments;

    snprintf(image, sizeof(image), "%s/disk.img", place);
    snprintf(lines, sizeof(lines), "%s/printed", place);
    machine_save_image(&machine, image);
    save_printed(lines);
    printf("cut %" PRIu64 ": FOUND: ", cut);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n  the disk as the last boot found it: %s (mount -o loop)\n"
           "  what the command had printed: %s\n"
           "  the same course, but for the scheduler's part: --seed %" PRIu64 "\n",
           image, lines, settings.seed);
    fflush(stdout);
    clean_up();
    exit(STATUS_FOUND);
}

static _Noreturn void interrupted(int signal_number)
{
    clean_up();
    signal(signal_number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &old_signals, NULL);
    raise(signal_number);
    exit(STATUS_FAILED);
}

/* ---- processes --------------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* It stays a zombie, so that its number stands for its process group. */
static bool has_ended(pid_t pid)
{
    siginfo_t info = { 0 };

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* False if it still runs at that time; INT64_MAX: there is no such time. */
static bool wait_until(pid_t pid, int64_t end_ns)
{
    for (int64_t left; !has_ended(pid);) {
        left = end_ns - now_ns();
        if (left <= 0)
            return false;
        if (left > 1000000000)
            left = 1000000000;
        const int number =
            sigtimedwait(&signals, NULL, &(struct timespec){ left / 1000000000, left % 1000000000 });
        if (number > 0 && number != SIGCHLD)
            interrupted(number);
    }
    return true;
}

/* Kills them, but for the server of the disk; orphans of its children come next time. Returns how many there were. */
static unsigned kill_children(void)
{
    char path[60];
    unsigned count = 0;
    int pid;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    FILE *children = fopen(path, "re");
    while (children && fscanf(children, "%d", &pid) == 1)
        if (pid != machine.server) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, WNOHANG);
            count++;
        }
    if (children)
        fclose(children);
    return count;
}

/* All that `running` has started is gone. Returns its status. */
static int kill_all(void)
{
    int status = 0;

    kill(-running, SIGKILL);
    waitpid(running, &status, 0);
    running = 0;
    while (kill_children() > 0)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    return status;
}

static void describe(char *ret_text, size_t size, int status)
{
    if (WIFSIGNALED(status))
        snprintf(ret_text, size, "was ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(ret_text, size, "ended with status %d", WEXITSTATUS(status));
}

static _Noreturn void run_program(const char *phase, int input, int output, pid_t parent)
{
    char *const shell[] = { "sh", "-c", (char *)(uintptr_t)settings.check, NULL };
    const bool is_check = strcmp(phase, "check") == 0;
    char *const *words = is_check && settings.check ? shell : settings.command;
    char number[24], disk[sizeof(machine.served) + sizeof(DISK_NAME)];

    snprintf(number, sizeof(number), "%" PRIu64, cut);
    snprintf(disk, sizeof(disk), "%s/" DISK_NAME, machine.served);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || setpgid(0, 0) < 0 || dup2(input, STDIN_FILENO) < 0 ||
        dup2(output, STDOUT_FILENO) < 0)
        _exit(127);
    setenv("POWERCUT", phase, 1);
    if (settings.kind == FS_NONE)
        setenv("POWERCUT_DISK", disk, 1);
    else
        setenv("POWERCUT_DIR", machine.mounted, 1);
    setenv("POWERCUT_CUT", number, 1);
    sigprocmask(SIG_SETMASK, &old_signals, NULL);
    execvp(words[0], words);
    fprintf(stderr, "twinlog-powercut: %s: %s\n", words[0], strerror(errno));
    _exit(127);
}

/* With its standard input and output; those are closed here, but for `printed` and the standard output. */
static void start(const char *phase, int input, int output)
{
    const pid_t parent = getpid();

    if (input < 0)
        machine_failed("opening the standard input of the command");
    fflush(NULL);
    running = fork();
    if (running < 0) {
        running = 0;
        machine_failed("fork");
    }
    if (running == 0)
        run_program(phase, input, output, parent);
    setpgid(running, running); /* one of the two comes first */
    close(input);
}

/* ---- one power cut ----------------------------------------------------------------------------- */

/* Leaves whole lines of what was printed up to `size`; returns how many there are. */
static uint64_t keep_lines(off_t size)
{
    const char *text = size ? mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, printed, 0) : "";
    uint64_t lines = 0;

    if (text == MAP_FAILED)
        machine_failed("looking at what the command has printed");
    const char *end = memrchr(text, '\n', (size_t)size);
    const off_t kept = end ? end + 1 - text : 0;
    for (const char *at = text; at < text + kept; lines++)
        at = (const char *)memchr(at, '\n', (size_t)(text + kept - at)) + 1;
    if (size)
        munmap((void *)(uintptr_t)text, (size_t)size);
    if (ftruncate(printed, kept) < 0)
        machine_failed("looking at what the command has printed");
    return lines;
}

/* Standard output of one run. It cannot be made shorter, so a command that opens /dev/stdout anew takes back
 * nothing. */
static int begin_output(void)
{
    const int output = memfd_create("output", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (output < 0 || fcntl(output, F_SETFL, O_APPEND) < 0 || fcntl(output, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        machine_failed("memfd_create");
    return output;
}

static void keep_output(int output, off_t size)
{
    char bytes[65536];

    for (off_t at = 0; at < size;) {
        const size_t part = size - at < (off_t)sizeof(bytes) ? (size_t)(size - at) : sizeof(bytes);
        const ssize_t got = pread(output, bytes, part, at);
        if (got <= 0 || write(printed, bytes, (size_t)got) != got)
            machine_failed("keeping what the command has printed");
        at += got;
    }
    close(output);
}

/* Returns the lines that were printed so far. */
static uint64_t run_and_cut(struct rng *rng)
{
    const int64_t begin = now_ns(), within = (int64_t)rng_below(rng, settings.within_ms * 1000000);
    char words[120];

    const int output = begin_output();
    start("run", open("/dev/null", O_RDONLY | O_CLOEXEC), output);
    const bool is_ended = wait_until(running, begin + within);
    machine_cut_power(&machine, rng_next(rng));
    const off_t size = lseek(output, 0, SEEK_END); /* what comes later was not promised */
    const int64_t took = now_ns() - begin;
    kill(-running, SIGKILL); /* before a call fails because the disk is gone */
    machine_end(&machine);
    const int status = kill_all();
    machine_unmount(&machine);
    keep_output(output, size);
    const uint64_t lines = keep_lines(lseek(printed, 0, SEEK_END));
    totals.ended += is_ended;
    describe(words, sizeof(words), status);
    printf("cut %" PRIu64 ": %s %.0f ms, %" PRIu64 " lines printed so far\n", cut,
           is_ended ? "the command had ended, after" : "after", (double)took / 1e6, lines);
    if (is_ended && status != 0)
        found("the command %s before the power was cut", words);
    return lines;
}

static void begin_anew(void)
{
    machine_format(&machine);
    if (ftruncate(printed, 0) < 0)
        machine_failed("forgetting what the command has printed");
}

/* A disk that forgets may leave nothing that can be mounted: false. */
static bool boot(void)
{
    if (machine_boot(&machine))
        return true;
    if (!settings.is_lie)
        found("the file system cannot be mounted: %s", strerror(errno));
    begin_anew();
    totals.formats++;
    return false;
}

static void check(void)
{
    char path[40], words[120];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", printed);
    start("check", open(path, O_RDONLY | O_CLOEXEC), STDOUT_FILENO);
    wait_until(running, INT64_MAX);
    const int status = kill_all();
    describe(words, sizeof(words), status);
    if (status != 0)
        found("the check %s", words);
}

/* ---- the command line -------------------------------------------------------------------------- */

static uint64_t take_number(const char *option, uint64_t least, uint64_t most)
{
    char *end;

    errno = 0;
    const uint64_t value = strtoull(optarg, &end, 10);
    if (errno || *optarg < '0' || *optarg > '9' || *end || value < least || value > most)
        wrong_usage("%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, option, optarg, least, most);
    return value;
}

static enum filesystem take_kind(void)
{
    for (enum filesystem kind = 0; kind < FILESYSTEMS; kind++)
        if (strcmp(optarg, filesystem_names[kind]) == 0)
            return kind;
    if (strcmp(optarg, "none") == 0)
        return FS_NONE;
    wrong_usage("--kind: '%s' is not one of ext4, xfs, btrfs, none", optarg);
}

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        { "check", required_argument, NULL, 'c' },
        { "kind", required_argument, NULL, 'k' },
        { "cuts", required_argument, NULL, 'n' },
        { "within", required_argument, NULL, 'w' },
        { "fresh", no_argument, NULL, 'f' },
        { "tear", required_argument, NULL, 't' },
        { "lie", no_argument, NULL, 'l' },
        { "seed", required_argument, NULL, 's' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },
        { 0 },
    };
    int letter;

    while ((letter = getopt_long(argc, argv, "+", options, NULL)) != -1)
        switch (letter) {
        case 'c':
            settings.check = optarg;
            break;
        case 'k':
            settings.kind = take_kind();
            break;
        case 'n':
            settings.cuts = take_number("--cuts", 1, 1000000000);
            break;
        case 'w':
            settings.within_ms = take_number("--within", 1, 86400000);
            break;
        case 'f':
            settings.is_fresh = true;
            break;
        case 't':
            settings.torn_text = optarg;
            if (!*optarg || strlen(optarg) >= sizeof(machine.disk->torn_text))
                wrong_usage("--tear: the text has 1 to %zu bytes", sizeof(machine.disk->torn_text) - 1);
            break;
        case 'l':
            settings.is_lie = true;
            break;
        case 's':
            settings.seed = take_number("--seed", 0, UINT64_MAX);
            break;
        case 'h':
            fputs(help, stdout);
            exit(STATUS_FINE);
        case 'v':
            puts("twinlog-powercut " TWINLOG_VERSION);
            exit(STATUS_FINE);
        default:
            wrong_usage("wrong option");
        }
    if (optind == argc)
        wrong_usage("the command is missing");
    settings.command = argv + optind;
}

static void begin(void)
{
    const char *parent = getenv("TMPDIR");

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, &old_signals);
    signal(SIGCHLD, SIG_DFL); /* or else nothing is known of children, if it was ignored */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        machine_failed("prctl");
    printed = memfd_create("printed", MFD_CLOEXEC);
    if (printed < 0 || fcntl(printed, F_SETFL, O_APPEND) < 0)
        machine_failed("memfd_create");
    snprintf(place, sizeof(place), "%.150s/twinlog-powercut-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(place)) {
        fprintf(stderr, "twinlog-powercut: %s: %s\n", place, strerror(errno));
        exit(STATUS_FAILED);
    }
    has_machine = true;
    machine_make(&machine, settings.kind, place);
    machine.disk->forgets_flushes = settings.is_lie;
    if (settings.torn_text)
        strcpy(machine.disk->torn_text, settings.torn_text);
}

int main(int argc, char **argv)
{
    uint64_t lines = 0;

    parse(argc, argv);
    struct rng rng = { rng_mix(settings.seed) };
    begin();
    for (cut = 1; cut <= settings.cuts; cut++) {
        if (settings.is_fresh && cut > 1) {
            machine_unmount(&machine);
            begin_anew();
        }
        lines = run_and_cut(&rng);
        if (boot())
            check();
    }
    const char *kind = settings.kind == FS_NONE ? "the disk" : filesystem_names[settings.kind];
    printf("%" PRIu64 " power cuts on %s, no check failed; %" PRIu64
           " lines in the end, the command had ended %" PRIu64
           " times; of the sectors in the disk's cache %" PRIu64 " were lost, %" PRIu64 " were not\n",
           settings.cuts, kind, lines, totals.ended, machine.disk->lost, machine.disk->kept);
    if (totals.formats)
        printf("the disk was beyond repair %" PRIu64 " times\n", totals.formats);
    fflush(stdout);
    clean_up();
    return STATUS_FINE;
}
