/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TWINLOG_ADMIN_H
#define TWINLOG_ADMIN_H
#include <twinlog.h>
#ifdef __cplusplus
extern "C" {
#endif
struct twinlog_stat {
    uint32_t size;
    uint32_t io;
    uint32_t is_direct;
    uint32_t mode;
    uint32_t epoch;
    int32_t poison;
    uint32_t segments;
    uint32_t spare_segments;
    uint64_t first_lsn, last_lsn, written_lsn, durable_lsn;
    uint64_t file_bytes;
    uint64_t appends;
    uint64_t append_bytes;
    uint64_t groups;
    uint64_t group_bytes;
    uint64_t written_bytes;
    uint64_t rolls;
    uint64_t roll_waits;
    uint64_t full_refusals;
    uint64_t trimmed_segments;
    uint64_t recycled_segments;
    uint64_t syncs;
    uint64_t requests;
    char io_reason[160];
};
#define TWINLOG_STAT_INIT twinlog_initial(twinlog_stat)
int twinlog_stat(struct twinlog *log, struct twinlog_stat *ret_stat);
#define TWINLOG_BUCKETS 320u
struct twinlog_histogram {
    uint64_t count, sum, max;
    uint64_t buckets[TWINLOG_BUCKETS];
};
uint64_t twinlog_quantile(const struct twinlog_histogram *histogram, double q);
struct twinlog_timings {
    uint32_t size;
    uint32_t sample_interval;
    struct twinlog_histogram queue;
    struct twinlog_histogram copy;
    struct twinlog_histogram write;
    struct twinlog_histogram sync;
    struct twinlog_histogram wake;
    struct twinlog_histogram total;
    struct twinlog_histogram group_records, group_bytes;
};
#define TWINLOG_TIMINGS_INIT twinlog_initial(twinlog_timings)
int twinlog_timings(struct twinlog *log, struct twinlog_timings *ret_timings);
int twinlog_watch(const char *dir, struct twinlog_stat *ret_stat, struct twinlog_timings *ret_timings);
struct twinlog_inspection {
    uint32_t size;
    uint32_t has_writer;
    uint32_t epoch;
    uint32_t segments;
    uint32_t spare_segments;
    uint32_t mode;
    uint64_t first_lsn;
    uint64_t last_lsn;
    uint64_t durable_lsn;
    uint64_t file_bytes;
    uint8_t log_id[16];
    struct twinlog_report report;
    int32_t poison;
    uint32_t writer_pid;
};
#define TWINLOG_INSPECTION_INIT twinlog_initial(twinlog_inspection)
int twinlog_inspect(const char *dir, struct twinlog_inspection *ret_inspection);
enum twinlog_segment_state {
    TWINLOG_SEGMENT_SEALED = 0,
    TWINLOG_SEGMENT_UNSEALED,
    TWINLOG_SEGMENT_ACTIVE,
    TWINLOG_SEGMENT_SPARE,
    TWINLOG_SEGMENT_RETIRED
};
struct twinlog_segment {
    uint32_t size;
    uint32_t state;
    uint64_t sequence;
    uint64_t file_bytes;
    uint64_t data_bytes;
    uint64_t first_lsn, last_lsn;
    int64_t first_time_ns, last_time_ns;
    int64_t created_ns;
    uint32_t incarnations;
    uint32_t epoch;
    uint32_t is_mapped;
    uint32_t reserved;
    char file[64];
};
int twinlog_segments(const char *dir, int (*each)(void *context, const struct twinlog_segment *segment),
                     void *context);
struct twinlog_history {
    uint32_t size;
    uint32_t epoch;
    uint32_t salt;
    uint32_t reserved;
    uint64_t lsn;
    uint64_t first_lsn;
    uint8_t log_id[16];
};
#define TWINLOG_HISTORY_INIT twinlog_initial(twinlog_history)
int twinlog_reader_history(struct twinlog_reader *reader, uint64_t lsn, struct twinlog_history *ret_history);
struct twinlog_verify_options {
    uint32_t size;
    uint32_t flags;
    int (*each)(void *context, const struct twinlog_report *finding);
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_VERIFY_OPTIONS_INIT twinlog_initial(twinlog_verify_options)
int twinlog_verify(const char *dir, const struct twinlog_verify_options *options, uint64_t *ret_records);
int twinlog_ask_trim(const char *dir, const struct twinlog_trim_options *options, int timeout_ms,
                     uint64_t *ret_first_lsn);
enum twinlog_backup_flags {
    TWINLOG_BACKUP_COPY = 1u << 0
};
struct twinlog_backup_options {
    uint32_t size;
    uint32_t flags;
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_BACKUP_OPTIONS_INIT twinlog_initial(twinlog_backup_options)
struct twinlog_backup_result {
    uint32_t size;
    uint32_t segments;
    uint64_t first_lsn, last_lsn;
    uint64_t linked_bytes;
    uint64_t copied_bytes;
};
#define TWINLOG_BACKUP_RESULT_INIT twinlog_initial(twinlog_backup_result)
int twinlog_backup(const char *dir, const char *new_dir, const struct twinlog_backup_options *options,
                   struct twinlog_backup_result *ret_result);
struct twinlog_repair_options {
    uint32_t size;
    uint32_t flags;
    int (*each)(void *context, const struct twinlog_report *lost);
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define TWINLOG_REPAIR_OPTIONS_INIT twinlog_initial(twinlog_repair_options)
struct twinlog_repair_result {
    uint32_t size;
    uint32_t reserved;
    uint64_t records;
    uint64_t lost_records;
    uint64_t first_lsn, last_lsn;
};
#define TWINLOG_REPAIR_RESULT_INIT twinlog_initial(twinlog_repair_result)
int twinlog_repair(const char *dir, const char *new_dir, const struct twinlog_repair_options *options,
                   struct twinlog_repair_result *ret_result);
#ifdef __cplusplus
}
#endif
#endif
