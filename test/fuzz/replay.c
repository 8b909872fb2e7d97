/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a target on files, and on all files of directories: where libFuzzer is not, and for a debugger. What fails
 * aborts; its name is the last one printed.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned inputs;

static _Noreturn void give_up(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(2);
}

/* In memory of just that size, so that the sanitizers see a read behind it. */
static void run(const char *path, const unsigned char *bytes, size_t size)
{
    unsigned char *exact = malloc(size > 0 ? size : 1);
    if (!exact)
        give_up(path);
    memcpy(exact, bytes, size);
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    inputs++;
}

static void run_file(const char *path)
{
    static unsigned char bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file)
        give_up(path);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    if (ferror(file))
        give_up(path);
    fclose(file);
    run(path, bytes, size);
}

/* False if it is no directory. */
static int run_directory(const char *path)
{
    char name[4096];
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        run_file(name);
    }
    closedir(dir);
    return 1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!run_directory(argv[i]))
            run_file(argv[i]);
    printf("%u inputs, nothing wrong\n", inputs);
    return inputs > 0 ? 0 : 2;
}
