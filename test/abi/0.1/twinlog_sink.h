/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TWINLOG_SINK_H
#define TWINLOG_SINK_H
#include <twinlog.h>
#ifdef __cplusplus
extern "C" {
#endif
struct twinlog_sink;
enum twinlog_sink_flags {
    TWINLOG_SINK_SHARED = 1u << 0,
    TWINLOG_SINK_NO_THREAD = 1u << 1,
    TWINLOG_SINK_MUST_EXIST = 1u << 2,
    TWINLOG_SINK_DROP_ZEROS = 1u << 3,
    TWINLOG_SINK_KEEP_ZEROS = 1u << 4
};
struct twinlog_sink_options {
    uint32_t size;
    uint32_t flags;
    uint64_t initial_bytes;
    uint64_t growth_bytes;
    uint64_t max_bytes;
    uint32_t keep_files;
    uint32_t flush_interval_ms;
    uint32_t mode;
    uint32_t lock_wait_ms;
};
#define TWINLOG_SINK_OPTIONS_INIT                                                                            \
    {                                                                                                        \
        sizeof(struct twinlog_sink_options), 0, 0, 0, 0, 0, 0, 0, 0                                          \
    }
int twinlog_sink_open(const char *path, const struct twinlog_sink_options *options,
                      struct twinlog_sink **ret_sink);
int twinlog_sink_write(struct twinlog_sink *sink, const void *data, size_t size, uint64_t *ret_offset);
int twinlog_sink_writev(struct twinlog_sink *sink, const struct iovec *pieces, int count,
                        uint64_t *ret_offset);
int twinlog_sink_sync(struct twinlog_sink *sink);
int twinlog_sink_rotate(struct twinlog_sink *sink);
int twinlog_sink_reopen(struct twinlog_sink *sink);
int twinlog_sink_close(struct twinlog_sink *sink);
struct twinlog_sink_stat {
    uint32_t size;
    uint32_t participants;
    uint64_t bytes;
    uint64_t file_bytes;
    uint64_t synced_bytes;
    uint64_t writes;
    uint64_t growths;
    uint64_t growth_waits;
    uint64_t rotations;
    uint64_t fillers;
};
#define TWINLOG_SINK_STAT_INIT                                                                               \
    {                                                                                                        \
        sizeof(struct twinlog_sink_stat), 0, 0, 0, 0, 0, 0, 0, 0, 0                                          \
    }
int twinlog_sink_stat(struct twinlog_sink *sink, struct twinlog_sink_stat *ret_stat);
int twinlog_sink_end(const char *path, uint64_t *ret_end);
#ifdef __cplusplus
}
#endif
#endif
