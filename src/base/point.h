/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named places at which a test kills or stops the process. They exist only in objects that are compiled with
 * TWL_POINTS, and have an effect only in a program that defines twl_point().
 */
#ifndef TWL_POINT_H
#define TWL_POINT_H

#ifdef TWL_POINTS
__attribute__((weak)) void twl_point(const char *name);
#define POINT(name) (twl_point ? twl_point(name) : (void)0)
#else
#define POINT(name) ((void)0)
#endif

#endif
