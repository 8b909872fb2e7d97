/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Static probes for perf, bpftrace and similar tools: each is a no-op in the code, and a note in the library with
 * its address and the places of its arguments. Without <sys/sdt.h> at build time there are no probes.
 *
 * The first argument of each probe identifies one open log. twinlog(7) lists the probes for users; test/probes.sh
 * compares this file, the manual page and the library.
 */
#ifndef TWL_PROBES_H
#define TWL_PROBES_H

#if defined(TWL_HAVE_SDT)
#include <sys/sdt.h>
#if defined(__clang__) /* wherever the macros of sdt.h are used */
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#if __has_warning("-Wc23-extensions") /* where it has got another name */
#pragma clang diagnostic ignored "-Wc23-extensions"
#endif
#endif
#define PROBE2(name, a, b) DTRACE_PROBE2(twinlog, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(twinlog, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(twinlog, name, a, b, c, d)
#else
/* uses the arguments, so that they are compiled in every build */
#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

/* An append call: it begins, it has its place and its LSNs, it returns. A call that submits has no return probe. */
#define PROBE_APPEND_ENTRY(log, records, bytes) PROBE3(append__entry, log, records, bytes)
#define PROBE_APPEND_ACCEPTED(log, first_lsn, records) PROBE3(append__accepted, log, first_lsn, records)
#define PROBE_APPEND_RETURN(log, first_lsn, result) PROBE3(append__return, log, first_lsn, result)

/* A group: closed to writers, handed to the device, completed by the device, and published as durable. A round
 * that only syncs has neither of the first two probes. */
#define PROBE_GROUP_SEAL(log, first_lsn, records, bytes) PROBE4(group__seal, log, first_lsn, records, bytes)
#define PROBE_GROUP_WRITE(log, first_lsn, bytes, offset) PROBE4(group__write, log, first_lsn, bytes, offset)
#define PROBE_GROUP_SYNC(log, took_ns, result) PROBE3(group__sync, log, took_ns, result)
#define PROBE_GROUP_PUBLISH(log, durable_lsn) PROBE2(group__publish, log, durable_lsn)

#define PROBE_ROLL(log, sequence, first_lsn) PROBE3(roll, log, sequence, first_lsn)
#define PROBE_POISON(log, error) PROBE2(poison, log, error)

#endif
