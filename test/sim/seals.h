/* SPDX-License-Identifier: Apache-2.0 */
/* Are footers and indexes true? Verify checks only their checksums. */
#ifndef TWL_TEST_SEALS_H
#define TWL_TEST_SEALS_H

#include "io/io.h"

/* Compares the footer and the index of each sealed segment with the records. NULL, or what is wrong. Owns `io`. */
const char *find_false_seal(struct io *io);

#endif
