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
    TWINLOG_SINK_DROP_ZEROS = 1u << 1
};
struct twinlog_sink_options {
    uint32_t size;
    uint32_t flags;
    uint64_t initial_bytes;
    uint64_t growth_bytes;
    uint64_t max_bytes;
    uint32_t keep_files;
    uint32_t flush_interval_ms;
};
#define TWINLOG_SINK_OPTIONS_INIT twinlog_initial(twinlog_sink_options)
int twinlog_sink_open(const char *path, const struct twinlog_sink_options *options,
                      struct twinlog_sink **ret_sink);
int twinlog_sink_write(struct twinlog_sink *sink, const void *data, size_t size, uint64_t *ret_offset);
int twinlog_sink_writev(struct twinlog_sink *sink, const struct iovec *pieces, int count,
                        uint64_t *ret_offset);
int twinlog_sink_sync(struct twinlog_sink *sink);
int twinlog_sink_reopen(struct twinlog_sink *sink);
int twinlog_sink_close(struct twinlog_sink *sink);
int twinlog_sink_end(const char *path, uint64_t *ret_end);
#ifdef __cplusplus
}
#endif
#endif
