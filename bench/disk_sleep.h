/* SPDX-License-Identifier: Apache-2.0 */
/* A disk of another speed: each synced write of this process takes so much longer. */
#ifndef DISK_SLEEP_H
#define DISK_SLEEP_H

#include <stdint.h>

/* Before any thread writes. 0, as at first: writes take what they take. */
void disk_sleep_set(uint64_t ns);

#endif
