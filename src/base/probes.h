/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Static probes, for perf, bpftrace and their like: a no-op in the code and a note in the library that says where
 * it is and where its arguments are. Nothing at all where <sys/sdt.h> was not there when the library was built.
 *
 * The first argument of each tells logs apart: it stands for one open log. twinlog(7) lists them for users;
 * test/probes.sh compares the three.
 */
#ifndef TWL_PROBES_H
#define TWL_PROBES_H

#if defined(TWL_HAVE_SDT)
#include <sys/sdt.h>
#if defined(__clang__) /* of its macros, wherever they are used */
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif
#define PROBE2(name, a, b) DTRACE_PROBE2(twinlog, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(twinlog, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(twinlog, name, a, b, c, d)
#else
/* the arguments are used all the same, so that they are compiled everywhere */
#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

/* A call that appends: begins, has got its place and its LSNs, returns. One that submits has no return. */
#define PROBE_APPEND_ENTRY(log, records, bytes) PROBE3(append__entry, log, records, bytes)
#define PROBE_APPEND_ACCEPTED(log, first_lsn, records) PROBE3(append__accepted, log, first_lsn, records)
#define PROBE_APPEND_RETURN(log, first_lsn, result) PROBE3(append__return, log, first_lsn, result)

/* A group: closed to writers, handed to the device, back from it, and told to everybody as durable. A round that
 * only syncs has neither of the first two. */
#define PROBE_GROUP_SEAL(log, first_lsn, records, bytes) PROBE4(group__seal, log, first_lsn, records, bytes)
#define PROBE_GROUP_WRITE(log, first_lsn, bytes, offset) PROBE4(group__write, log, first_lsn, bytes, offset)
#define PROBE_GROUP_SYNC(log, took_ns, result) PROBE3(group__sync, log, took_ns, result)
#define PROBE_GROUP_PUBLISH(log, durable_lsn) PROBE2(group__publish, log, durable_lsn)

#define PROBE_ROLL(log, sequence, first_lsn) PROBE3(roll, log, sequence, first_lsn)
#define PROBE_POISON(log, error) PROBE2(poison, log, error)
#define PROBE_SLOW(log, took_ns) PROBE2(slow, log, took_ns)

#endif
