/* SPDX-License-Identifier: Apache-2.0 */
/* What several studies need. */
#include "study.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

bool trial_is_in_build(const struct study *study, const struct trial *trial)
{
    if (study->is_in_build)
        return study->is_in_build(trial);
    return trial->way != NULL;
}

int time_operations(const struct limits *limits, int (*operate)(void *context, uint64_t turn), void *context,
                    struct figures *figures)
{
    struct histogram histogram;
    uint64_t start_ns = now_ns() + (uint64_t)(limits->warmup_seconds * 1e9);
    uint64_t end_ns = start_ns + (uint64_t)(limits->seconds * 1e9);
    uint64_t began_ns = now_ns(), turn = 0;

    while (began_ns < start_ns && !round_is_interrupted()) {
        const int error = operate(context, turn++);
        if (error < 0)
            return error;
        began_ns = now_ns();
    }

    histogram_reset(&histogram);
    start_ns = began_ns;
    while (began_ns < end_ns) {
        const int error = operate(context, turn++);
        const uint64_t returned_ns = now_ns();
        if (error < 0)
            return error;
        if (round_is_interrupted())
            return -EINTR;
        histogram_add(&histogram, returned_ns - began_ns);
        began_ns = returned_ns;
    }

    const double seconds = (double)(began_ns - start_ns) / 1e9;
    figures_set_work(figures, &(const struct work){ seconds, (double)histogram.count, 0, NAN, 0 });
    figures_set_latencies(figures, &histogram);
    return 0;
}

bool time_passes(const struct limits *limits,
                 bool (*pass)(void *stage, const struct trial *trial, double seconds, struct work *work),
                 void *stage, const struct trial *trial, struct figures *figures)
{
    struct work uncounted = { 0, 0, 0, 0, 0 }, work = uncounted;

    if (!pass(stage, trial, limits->warmup_seconds, &uncounted))
        return false;
    do {
        if (!pass(stage, trial, limits->seconds - work.seconds, &work))
            return false;
    } while (work.seconds < limits->seconds * 0.99);
    figures_set_work(figures, &work);
    return true;
}

/* They were written out before, or they would stay. */
static int forget_file(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)walk;
    if (kind != FTW_F)
        return 0;

    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    const int error = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* it does not set errno */
    close(fd);
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

bool forget_files(const char *label, const char *dir)
{
    if (nftw(dir, forget_file, 16, FTW_PHYS) != 0)
        return complain(label, dir, strerror(errno));
    return true;
}

bool complain(const char *label, const char *action, const char *words)
{
    if (round_is_interrupted())
        return false; /* what ends early has failed by the user's wish */
    return fail("%s: %s: %s", label, action, words);
}
