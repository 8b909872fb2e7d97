/* SPDX-License-Identifier: Apache-2.0 */
/* See failures.h. */
#define _GNU_SOURCE
#include "failures.h"

#include "archive/state.h"
#include "common.h"
#include "when.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <twinlog.h>
#include <unistd.h>

#define FILE_NAME_BYTES (3u * TWINLOG_NAME_BYTES + 4)

/* A cursor may have any name: what is neither letter nor digit, - or _ becomes %XX. */
static void name_file(char ret_name[FILE_NAME_BYTES], const char *cursor)
{
    for (const unsigned char *c = (const unsigned char *)cursor; *c; c++) {
        const bool is_plain = (*c < 0x80 && isalnum(*c)) || *c == '-' || *c == '_';
        ret_name += sprintf(ret_name, is_plain ? "%c" : "%%%02X", *c);
    }
    *ret_name = '\0';
}

void load_failures(const char *dir, const char *cursor, struct failures *ret_failures)
{
    struct failures failures = { 0 };
    char name[FILE_NAME_BYTES];
    const int folder = open_log_folder(dir, "failures", 0);

    *ret_failures = failures;
    if (folder < 0)
        return;

    name_file(name, cursor);
    FILE *file = open_archive_file(folder, name);
    if (file &&
        fscanf(file, "twinlog failures 1 count %" SCNu64 " last %" SCNd64 "%*[^\n] failure: %399[^\n]",
               &failures.count, &failures.last_ns, failures.text) == 3) {
        make_printable(failures.text);
        *ret_failures = failures;
    }

    if (file)
        fclose(file);
    close(folder);
}

static int write_failures(int folder, const char *cursor, const struct failures *failures)
{
    char name[FILE_NAME_BYTES], new_name[FILE_NAME_BYTES], time[TIME_TEXT_BYTES];
    FILE *file = NULL;

    name_file(name, cursor);
    name_file(new_name, cursor);
    strcat(new_name, ".new");
    int error = begin_archive_file(folder, new_name, &file);
    if (error)
        return error;

    describe_time(time, failures->last_ns);
    fprintf(file, "twinlog failures 1\ncount %" PRIu64 "\nlast %" PRId64 ", %s UTC\nfailure: %s\n",
            failures->count, failures->last_ns, time, failures->text);
    error = 0;
    if (fflush(file) != 0)
        error = -errno;
    fclose(file);
    if (error == 0 && renameat(folder, new_name, folder, name) < 0)
        return -errno;
    return error;
}

static void save(const char *dir, const char *cursor, const struct failures *failures)
{
    const int folder = open_log_folder(dir, "failures", 0777);
    int error = folder;

    if (folder >= 0) {
        error = write_failures(folder, cursor, failures);
        close(folder);
    }
    if (error && error != -ENOENT) /* there is no log any more */
        (void)fail("note a failure in", dir, error, NULL,
                   error == -EISDIR
                       ? "A directory has the name of a file in its directory failures: remove that."
                       : NULL);
}

void note_failure(const char *dir, const char *cursor, struct failures *failures, const char *text)
{
    failures->count++;
    failures->last_ns = now_ns();
    snprintf(failures->text, sizeof(failures->text), "%s", text);
    failures->text[strcspn(failures->text, "\n")] = '\0';
    save(dir, cursor, failures);
}

void clear_failures(const char *dir, const char *cursor, struct failures *failures)
{
    if (failures->count == 0)
        return;
    failures->count = 0;
    save(dir, cursor, failures);
}
