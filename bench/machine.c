/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the description of the machine from /proc, /sys and uname(). */
#include "machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

static void set_text(char *into, size_t size, const char *text)
{
    snprintf(into, size, "%s", text);
    into[strcspn(into, "\n")] = 0;
}

/* The first line of a file that `take` takes. */
static void read_lines(const char *path, bool (*take)(const char *line, struct machine *machine),
                       struct machine *machine)
{
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    while (file && getline(&line, &size, file) > 0 && !take(line, machine))
        ;
    free(line);
    if (file)
        fclose(file);
}

static bool take_cpu(const char *line, struct machine *machine)
{
    const char *colon = strchr(line, ':');
    if (!colon || strncmp(line, "model name", 10) != 0)
        return false;
    set_text(machine->cpu, sizeof(machine->cpu), colon + 2);
    return true;
}

/* The line of mountinfo whose device number is the directory's:
 * "36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/vda rw,discard". */
static bool take_mount(const char *line, struct machine *machine)
{
    unsigned major, minor;
    const char *rest = strstr(line, " - ");
    char options[sizeof(machine->mount_options)], kind[64], source[128];
    if (!rest || sscanf(line, "%*u %*u %u:%u %*s %*s %255s", &major, &minor, options) != 3 ||
        makedev(major, minor) != machine->device_number || sscanf(rest, " - %63s %127s", kind, source) != 2)
        return false;
    set_text(machine->mount_options, sizeof(machine->mount_options), options);
    set_text(machine->filesystem, sizeof(machine->filesystem), kind);
    set_text(machine->device, sizeof(machine->device), source);
    return true;
}

static bool take_cache(const char *line, struct machine *machine)
{
    set_text(machine->write_cache, sizeof(machine->write_cache), line);
    return true;
}

static bool take_read_ahead(const char *line, struct machine *machine)
{
    machine->read_ahead_kib = atol(line);
    return true;
}

void machine_describe(const char *dir, struct machine *ret_machine)
{
    struct machine machine = {
        .cpu = "unknown",
        .kernel = "unknown",
        .filesystem = "unknown",
        .mount_options = "unknown",
        .device = "unknown",
        .write_cache = "unknown",
    };
    char path[128];
    struct utsname name;
    struct stat status;

    read_lines("/proc/cpuinfo", take_cpu, &machine);
    machine.cores = sysconf(_SC_NPROCESSORS_ONLN);
    machine.memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 30);
    if (uname(&name) == 0)
        snprintf(machine.kernel, sizeof(machine.kernel), "%s %s %s", name.sysname, name.release,
                 name.machine);
    if (stat(dir, &status) == 0) {
        machine.device_number = status.st_dev;
        read_lines("/proc/self/mountinfo", take_mount, &machine);
        for (int is_partition = 0; is_partition <= 1; is_partition++) {
            const unsigned major_number = major(status.st_dev), minor_number = minor(status.st_dev);
            const char *disk = is_partition ? "../" : "";
            snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/write_cache", major_number,
                     minor_number, disk);
            read_lines(path, take_cache, &machine);
            snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/read_ahead_kb", major_number,
                     minor_number, disk);
            read_lines(path, take_read_ahead, &machine);
        }
    }
    machine.is_volatile =
        strcmp(machine.filesystem, "tmpfs") == 0 || strcmp(machine.filesystem, "ramfs") == 0;
    *ret_machine = machine;
}

static bool is_partition(const struct stat *status)
{
    char path[128];
    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(status->st_dev),
             minor(status->st_dev));
    return access(path, F_OK) == 0;
}

/* Documentation/block/stat.rst of the kernel: the 16th number, which is not there before Linux 5.5. For a partition
 * it is counted by its disk. */
double device_flushes(const char *dir)
{
    char path[128];
    struct stat status;
    unsigned long long flushes = 0;
    int count = 0;
    FILE *file = NULL;

    if (stat(dir, &status) == 0 && !is_partition(&status)) {
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat", major(status.st_dev), minor(status.st_dev));
        file = fopen(path, "re");
    }
    if (file) {
        count = fscanf(file, "%*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %llu", &flushes);
        fclose(file);
    }
    return count == 1 ? (double)flushes : NAN;
}
