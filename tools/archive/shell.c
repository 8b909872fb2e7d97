/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of the user. See shell.h.
 *
 * The command gets a process group of its own: a signal of the terminal reaches this process alone, which passes it on
 * and waits for the command. The shell is killed with its parent, also by kill -9, and even if it ignores or is stopped
 * by other signals; what it has started may go on.
 */
#define _GNU_SOURCE
#include "shell.h"

#include "../common.h"
#include "../stop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST_WAIT_MS 50u /* between two looks at the command */
#define PATH_VARIABLE "TWINLOG_PATH"

void check_shell(const char *command)
{
    bool has_path = false;
    bool has_name = false;

    if (!command)
        usage_error("missing --command COMMAND (with %%p, the path of the file, and %%f, its name)");
    for (const char *at = strchr(command, '%'); at; at = strchr(at + 2, '%')) {
        has_path = has_path || at[1] == 'p';
        has_name = has_name || at[1] == 'f';
        if (!at[1] || !strchr("pf%", at[1]))
            usage_error("--command: %%%.1s is none of %%p, %%f and %%%%", at + 1);
    }

    if (!has_path || !has_name)
        usage_error("--command: %%p (the path of the file) or %%f (its name) is missing");
}

/* A path with other characters is never text for a shell, also where the user has put %p between quotes: there it is
 * a wrong path at worst. A shell that the command starts has the variable, too. */
static void put_path(FILE *out, const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+,:@=";
    const bool is_plain = path[strspn(path, plain)] == '\0';

    fprintf(out, "%s%s", path[0] == '-' ? "./" : "", is_plain ? path : "\"$" PATH_VARIABLE "\"");
}

static char *fill_in(const char *command, const char *path, const char *name)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;

    for (; *command; command++) {
        if (*command != '%')
            putc(*command, out);
        else if (*++command == 'p')
            put_path(out, path);
        else
            fputs(*command == 'f' ? name : "%", out);
    }

    bool is_bad = ferror(out);
    if (fclose(out) != 0 || is_bad) {
        free(text);
        return NULL;
    }

    return text;
}

_Noreturn static void become_shell(const char *text, pid_t parent, bool is_quiet)
{
    int null = open("/dev/null", O_RDWR);

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0)
        _exit(127);
    if (is_quiet && dup2(null, STDERR_FILENO) < 0)
        _exit(127);
    if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        _exit(127);
    signal(SIGXFSZ, SIG_DFL); /* ignored, it would end the command as one that finds no file */
    signal(SIGPIPE, SIG_DFL); /* ignored, a program in front of one that has ended would go on */
    if (getppid() == parent)
        execl("/bin/sh", "sh", "-c", text, (char *)NULL);
    _exit(127);
}

int end_shell(int process, bool is_wanted)
{
    const pid_t pid = process;
    unsigned wait_ms = 1;
    int status = 0;
    pid_t ended = 0;

    if (process < 0)
        return process;

    while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
        if (!is_wanted || !stop_sleep(wait_ms)) {
            kill(-pid, SIGTERM);
            kill(-pid, SIGCONT); /* a stopped one gets the other signal only then */
            ended = waitpid(pid, &status, 0);
            break;
        }

        wait_ms = (unsigned)min_u64(wait_ms * 2, LONGEST_WAIT_MS);
    }

    if (ended < 0)
        return -errno;
    if (WIFSIGNALED(status))
        return 128 + WTERMSIG(status);
    return WEXITSTATUS(status);
}

static int start(const char *command, const char *path, const char *name, bool is_quiet)
{
    char *text = fill_in(command, path, name);
    pid_t parent = getpid();

    if (!text || setenv(PATH_VARIABLE, path, 1) < 0) {
        free(text);
        return -ENOMEM;
    }

    signal(SIGCHLD,
           SIG_DFL); /* a parent that ignores it hands that down, and the exit status would be lost */
    /* Until the child is another program, it has the handlers of this one, which take a signal as one for this one. */
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    int error = -errno;
    if (pid == 0)
        stop_no_more();
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid == 0)
        become_shell(text, parent, is_quiet);
    free(text);
    if (pid < 0)
        return error;

    setpgid(pid, pid); /* the child does the same: whichever comes first */
    return pid;
}

int start_shell(const char *command, const char *path, const char *name)
{
    return start(command, path, name, false);
}

int ask_shell(const char *command, const char *path, const char *name)
{
    return end_shell(start(command, path, name, true), true);
}

int run_shell(const char *command, const char *path, const char *name)
{
    return end_shell(start_shell(command, path, name), true);
}

void describe_shell(char ret_text[SHELL_TEXT_BYTES], int result)
{
    if (result < 0)
        snprintf(ret_text, SHELL_TEXT_BYTES, "could not be run: %s", strerror(-result));
    else if (result > 128 && result <= 128 + SIGRTMAX) /* 255 is ssh's own failure */
        snprintf(ret_text, SHELL_TEXT_BYTES, "ended with status %d, as by signal %d", result, result - 128);
    else
        snprintf(ret_text, SHELL_TEXT_BYTES, "ended with status %d", result);
}
