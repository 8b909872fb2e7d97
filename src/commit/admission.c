/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: one decision over facts that were read under the lock. It reads and changes nothing else; put.c reads the
 * facts, and acts on the decision.
 *
 * A writer has a turn when it is new, when the buffer is empty, or when it must grow. It needs the next segment when its
 * records do not fit although the buffer is empty, or was empty in its turn (must grow). The first row that matches
 * counts; "-" is any value.
 *
 *     placed  poisoned  turn,  needs next        over  making  try  had     decision
 *                       fits   segment, failed                      failed
 *     yes     -         -      -        -        -     -       -    -       PLACED
 *     no      yes       -      -        -        -     -       -    -       POISONED
 *     no      no        yes    -        -        -     -       -    -       TAKE
 *     no      no        no     yes      yes      -     -       -    -       REFUSED
 *     no      no        no     -        -        yes   -       -    -       OVER
 *     no      no        no     yes      no       no    no      -    -       MAKE
 *     no      no        no     yes      no       no    yes     no   -       AWAIT_SEGMENT
 *     no      no        no     no       -        no    -       no   -       AWAIT_COMMIT
 *     no      no        no     -        -        no    -       yes  yes     REFUSED
 *     no      no        no     -        -        no    -       yes  no      AGAIN
 *
 * So the answer is AGAIN only while room is on its way: a commit, or the next segment. TWINLOG_EVENT_ROOM then tells
 * when it is there. A segment that a try has ordered may be full before the try looks again; it orders one more.
 *
 * test/unit/test_admission.c has the table fact by fact, and compares every combination.
 */
#include "commit/admission.h"

enum admission twl_admission_decide(const struct admission_facts *facts)
{
    const bool has_turn = !facts->is_queued || facts->must_grow || facts->is_empty;
    const bool needs_segment = facts->must_grow || facts->is_empty; /* if the records do not fit */
    if (facts->is_placed)
        return ADMISSION_PLACED;
    if (facts->is_poisoned)
        return ADMISSION_POISONED;
    if (has_turn && facts->fits)
        return ADMISSION_TAKE;
    if (needs_segment && facts->has_failed)
        return ADMISSION_REFUSED;
    if (facts->is_over)
        return ADMISSION_OVER;
    if (needs_segment && !facts->is_making)
        return ADMISSION_MAKE;
    if (facts->is_try)
        return facts->had_failed ? ADMISSION_REFUSED : ADMISSION_AGAIN;
    return needs_segment ? ADMISSION_AWAIT_SEGMENT : ADMISSION_AWAIT_COMMIT;
}
