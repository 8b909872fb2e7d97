/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives the files of a log the checksums that they should have, so that a fuzzer gets behind them. By the tables
 * of docs/format.md, not by the encoders: what decoders refuse is mended all the same.
 */
#ifndef TWL_FUZZ_MEND_H
#define TWL_FUZZ_MEND_H

#include "container.h"

enum mend {
    MEND_HEADERS = 1u << 0, /* of segments */
    MEND_GROUPS = 1u << 1,
    MEND_CHAINS = 1u << 2, /* each group carries the checksum of the one before */
    MEND_RECORDS = 1u << 3,
    MEND_FOOTERS = 1u << 4, /* and what they say of index and chain */
    MEND_STATES = 1u << 5,
    MEND_EVERYTHING = (1u << 6) - 1,
};

void mend(struct container *container, unsigned what);

#endif
