/* SPDX-License-Identifier: Apache-2.0 */
/* The chance of the tests is that of the power-cut kit, which is installed and includes nothing of test/. */
#include "../../powercut/rng.h"
