/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included in front of each file of src/sink that is compiled for sim-crash: windows, participants and steps are small,
 * and what a sink asks the kernel beside struct io, it asks crash_sink_calls.c.
 */
#ifndef TWL_SIM_CRASH_SINK_H
#define TWL_SIM_CRASH_SINK_H

#ifdef SINK_IS_SIMULATED
#define _GNU_SOURCE
#endif
#include "base/libc.h"
#include "base/process.h"
#include "sink/sink.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct simdisk;

#undef CHUNK_BYTES
#define CHUNK_BYTES UINT64_C(16384)
#undef STEP_BYTES
#define STEP_BYTES UINT64_C(4096)
#undef PARTICIPANTS
#define PARTICIPANTS 15u /* the area is just too large for simdisk to take it for a shared page */
#undef DATA_LOCK
#define DATA_LOCK IO_LOCK_USE
#undef EXACT_LOCK /* nobody has it */
#define EXACT_LOCK IO_LOCK_OTHER
#undef ENTER_LOCK
#define ENTER_LOCK DATA_LOCK /* the first lock that sinks have */
#undef twl_exact_has
#define twl_exact_has(data, ret_has) ((void)(data), *(ret_has) = false, 0)

/* On which disk sinks are opened, and since which start of the system: nobody is in a call on two. */
extern struct simdisk *sink_disk;
extern unsigned sink_boot;

struct io *sink_connect(void);
int sink_ask_file(const struct io_file *file); /* the next call is about this one */
int sink_find_identity(struct statx *ret_about);
int sink_find_file(struct stat *ret_about);
int sink_find_path(const char *path, struct stat *ret_about);
int sink_find_name(const char *name, struct stat *ret_about); /* in the one directory that there is */
int sink_find_lock(struct flock *range);
int sink_map(uint64_t offset, size_t size, void **ret_bytes);
void sink_unmap(const void *bytes);
const uint8_t *sink_boot_id(void); /* until the next call */
void *sink_allocate(size_t size);
void sink_free(void *bytes);
void sink_free_all(void); /* what killed processes left */

#ifdef SINK_IS_SIMULATED
#define io_file_fd(file) sink_ask_file(file)
#define IO_READ_ONLY 0u /* the simulated disk maps no file to be read only */
#define io_directory_fd(io) (sink_ask_file(NULL), (io))
#define statx(fd, path, flags, mask, about) ((void)(fd), sink_find_identity(about))
#define fstat(fd, about) ((void)(fd), sink_find_file(about))
#define stat(path, about) sink_find_path(path, about)
#define fstatat(fd, name, about, flags) ((void)(fd), (void)(flags), sink_find_name(name, about))
#define fcntl(fd, command, range) ((void)(fd), sink_find_lock(range))
#define futimens(fd, times) ((void)(fd), (void)(times), 0)
#define twl_mapping_open(fd, offset, size, is_writable, bytes) ((void)(fd), sink_map(offset, size, bytes))
#define twl_mapping_close(bytes, size) sink_unmap(bytes)
#define twl_mapping_is_lost(bytes) ((void)(bytes), false)
#define twl_mapping_install() ((void)0)
#define madvise(bytes, size, advice) ((void)(bytes), (void)(size))
#define twl_io_reserve(file, how, from, to) ((void)(from), io_allocate(file, to, IO_ALLOCATE_SPACE))
#define twl_io_posix_create(dir, use_dsync, io) (*(io) = sink_connect(), 0)
#define twl_boot_ask(id, ret_is) (*(ret_is) = memcmp(id, sink_boot_id(), BOOT_ID_BYTES) == 0, 0)
#define twl_boot_has_ended(id) (memcmp(id, sink_boot_id(), BOOT_ID_BYTES) != 0)
#define twl_boot_id(id) ((void)memcpy(id, sink_boot_id(), BOOT_ID_BYTES), 0)
#define twl_thread_start(thread, run, sink) ((void)(run), 0) /* crash_sink.c does what it does */
#define pthread_join(thread, result) ((void)0)
#define calloc(count, size) sink_allocate((count) * (size))
#define aligned_alloc(alignment, size) sink_allocate(size)
#define free(bytes) sink_free(bytes)
#endif

#endif
