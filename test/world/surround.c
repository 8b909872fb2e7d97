/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test/world.sh needs and no command of the system does:
 *
 *     surround no-ring COMMAND...    runs it where io_uring is refused, as container runtimes do it
 *     surround --has-none            0: descriptors 0 to 2 are closed
 *     surround --has-ring            0: io_uring can be set up
 *     surround --can-lock            0: memory can be locked
 *     surround --is-interrupted      0: a signal interrupts a sleep within two seconds
 *     surround --has-few             0: it may have 40 descriptors, or fewer
 *     surround --in-a-child WORD     0: that is so in one of two children that it forks
 */
#define _GNU_SOURCE
#include "../unit/forbid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FEW 40
#define ROOM 256 /* more than the kernel's struct io_uring_params */

static bool has_no_descriptors(void)
{
    return fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0;
}

static bool has_few_descriptors(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= FEW;
}

static bool has_ring(void)
{
    unsigned char parameters[ROOM] = { 0 };
    const long ring = syscall(SYS_io_uring_setup, 1, parameters);

    if (ring < 0)
        return false;
    close((int)ring);
    return true;
}

static bool can_lock(void)
{
    static char page[8192];

    return mlock(page, sizeof(page)) == 0;
}

static bool is_interrupted(void)
{
    const struct timespec long_enough = { 2, 0 };

    return nanosleep(&long_enough, NULL) < 0 && errno == EINTR;
}

static int run_without_ring(char **command)
{
    if (!forbid(SYS_io_uring_setup, EPERM)) {
        perror("surround: seccomp");
        return 1;
    }
    execvp(command[0], command);
    perror(command[0]);
    return 127;
}

static const struct look {
    const char *word;
    bool (*is_so)(void);
} looks[] = {
    { "--has-none", has_no_descriptors }, { "--has-few", has_few_descriptors },   { "--has-ring", has_ring },
    { "--can-lock", can_lock },           { "--is-interrupted", is_interrupted },
};
#define LOOKS (sizeof(looks) / sizeof(looks[0]))

static const struct look *find_look(const char *word)
{
    for (size_t i = 0; i < LOOKS; i++)
        if (strcmp(looks[i].word, word) == 0)
            return &looks[i];
    return NULL;
}

static bool is_so_in_a_child(bool (*is_so)(void))
{
    bool was_so = false;

    for (unsigned i = 0; i < 2; i++) {
        const pid_t child = fork();
        int status = 1;
        if (child == 0)
            _exit(is_so() ? 0 : 1);
        while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
            continue;
        was_so = was_so || status == 0;
    }
    return was_so;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    const bool is_in_child = strcmp(word, "--in-a-child") == 0 && argc > 2;
    const struct look *look = find_look(is_in_child ? argv[2] : word);

    if (strcmp(word, "no-ring") == 0 && argc > 2)
        return run_without_ring(argv + 2);
    if (!look) {
        fprintf(stderr, "surround: the head of surround.c says how it is called\n");
        return 2;
    }
    if (is_in_child)
        return is_so_in_a_child(look->is_so) ? 0 : 1;
    return look->is_so() ? 0 : 1;
}
