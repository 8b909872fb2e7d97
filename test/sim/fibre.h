/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a fibre stopped, and how another one goes on in its place. swapcontext() asks the kernel for the mask of
 * signals, which is the same for all of them: that took an eighth of the time of a run. _setjmp() does not ask. The
 * address sanitizer has to know which stack is in use, and knows it from swapcontext() alone.
 */
#ifndef TWL_SIM_FIBRE_H
#define TWL_SIM_FIBRE_H

#include <setjmp.h>
#include <stdbool.h>
#include <ucontext.h>

struct fibre_place {
    ucontext_t context; /* where it begins; with the sanitizer, where it stopped */
    jmp_buf stopped;
    bool has_stopped; /* it does not begin any more */
};

/* Nothing comes back here. Not in the function with _setjmp(), which would have to keep its variables. */
__attribute__((noinline, noreturn)) static void fibre_go_on(struct fibre_place *to)
{
    if (to->has_stopped)
        _longjmp(to->stopped, 1);
    setcontext(&to->context);
    __builtin_unreachable();
}

/* Returns when somebody goes on at `from`. */
__attribute__((noinline)) static void fibre_exchange(struct fibre_place *from, struct fibre_place *to)
{
#if defined(__SANITIZE_ADDRESS__)
    swapcontext(&from->context, &to->context);
#else
    from->has_stopped = true;
    if (_setjmp(from->stopped) == 0)
        fibre_go_on(to);
#endif
}

#endif
