/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structures of the public interface that may grow. Each begins with `uint32_t size`, which the caller sets. New
 * versions only add fields at the end, and 0 in them means: as before. So a program and a library of different
 * versions understand each other:
 *
 *     the caller's structure is     as input                                 as output
 *     smaller (older program)       the fields it lacks are 0                gets the fields that it has
 *     larger (newer program)        refused if a field that this version     the fields that this version does not
 *                                   does not know is not 0                   know are 0
 */
#ifndef TWL_VERSIONED_H
#define TWL_VERSIONED_H

#include <stdbool.h>
#include <stdint.h>

/* Copies the caller's structure, or zeros for NULL, into `own` of `own_bytes`, and sets own's size. -EINVAL if its size
 * was not set, -E2BIG if it is of a newer version and sets what this one does not know. */
int twl_versioned_take(void *own, uint32_t own_bytes, const void *given);
/* False if the size of this output was not set. NULL, where that is allowed, is an output that nothing is given. */
bool twl_versioned_is_set(const void *ret);
/* Fills in the caller's structure, which keeps its size. NULL: does nothing. */
void twl_versioned_give(void *ret, const void *own, uint32_t own_bytes);

#endif
