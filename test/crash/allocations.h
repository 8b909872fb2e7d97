/* SPDX-License-Identifier: Apache-2.0 */
/* crash-allocations: one program, two questions. */
#ifndef TWL_CRASH_ALLOCATIONS_H
#define TWL_CRASH_ALLOCATIONS_H

#include <stdbool.h>

/* Makes each call with its first allocation failing, then with its second one, and so on. True if each said
 * so, or did its work all the same, and left nothing behind. */
bool fail_allocations(void);

#endif
