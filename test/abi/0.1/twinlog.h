/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TWINLOG_H
#define TWINLOG_H
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#ifdef __cplusplus
#define twinlog_initial(structure)                                                                           \
    [] {                                                                                                     \
        struct structure initial_ = {};                                                                      \
        initial_.size = sizeof(initial_);                                                                    \
        return initial_;                                                                                     \
    }()
extern "C" {
#else
#define twinlog_initial(structure)                                                                           \
    {                                                                                                        \
        .size = sizeof(struct structure)                                                                     \
    }
#endif
#define TWINLOG_VERSION "0.1.0"
#define TWINLOG_ECORRUPT (-5001)
#define TWINLOG_EPOISONED (-5002)
#define TWINLOG_EVERSION (-5003)
#define TWINLOG_ETRIMMED (-5004)
#define TWINLOG_EFORKED (-5005)
#define TWINLOG_EFOREIGN (-5006)
#define TWINLOG_ETRUNCATED (-5007)
const char *twinlog_strerror(int error);
const char *twinlog_version(void);
enum twinlog_finding {
    TWINLOG_FOUND_NOTHING = 0,
    TWINLOG_FOUND_NEW_LOG,
    TWINLOG_FOUND_CLEAN_CLOSE,
    TWINLOG_FOUND_CLEAN_END,
    TWINLOG_FOUND_TORN_TAIL,
    TWINLOG_FOUND_DAMAGE,
    TWINLOG_FOUND_BAD_HEADER,
    TWINLOG_FOUND_MISSING_SEGMENT,
    TWINLOG_FOUND_FOREIGN_FILE,
    TWINLOG_FOUND_NEWER_FORMAT,
    TWINLOG_FOUND_SYSTEM_ERROR,
    TWINLOG_FOUND_BAD_STATE,
    TWINLOG_FOUND_BAD_INDEX,
    TWINLOG_FOUND_TRIMMED,
    TWINLOG_FOUND_LOST
};
enum twinlog_action {
    TWINLOG_DID_NOTHING = 0,
    TWINLOG_DID_TRUNCATE,
    TWINLOG_WOULD_TRUNCATE,
    TWINLOG_DID_REFUSE,
    TWINLOG_DID_SKIP
};
struct twinlog_report {
    uint32_t finding;
    uint32_t action;
    int32_t error;
    uint32_t reserved;
    uint64_t segment;
    uint64_t offset;
    uint64_t bytes;
    uint64_t first_lsn;
    uint64_t last_lsn;
    char file[64];
    char text[192];
};
enum twinlog_io {
    TWINLOG_IO_AUTO = 0,
    TWINLOG_IO_URING,
    TWINLOG_IO_URING_LINKED,
    TWINLOG_IO_DSYNC,
    TWINLOG_IO_FDATASYNC
};
enum twinlog_open_flags {
    TWINLOG_MUST_EXIST = 1u << 0,
    TWINLOG_PAD = 1u << 1,
    TWINLOG_BUFFERED = 1u << 2,
    TWINLOG_READ_ONLY = 1u << 3,
    TWINLOG_NO_RECYCLE = 1u << 4,
};
enum twinlog_prepare {
    TWINLOG_PREPARE_WRITTEN = 0,
    TWINLOG_PREPARE_ALLOCATED,
    TWINLOG_PREPARE_SPARSE
};
enum twinlog_mode {
    TWINLOG_MODE_DURABLE = 0,
    TWINLOG_MODE_MAPPED,
    TWINLOG_MODE_SHARED
};
struct twinlog;
struct twinlog_committer;
struct twinlog_options {
    uint32_t size;
    uint32_t flags;
    uint64_t segment_bytes;
    uint32_t buffer_bytes;
    uint32_t max_record_bytes;
    uint32_t io;
    uint32_t lock_timeout_ms;
    uint32_t spare_segments;
    uint32_t prepare;
    struct twinlog_report *ret_report;
    uint64_t segment_records, segment_age_ms;
    uint64_t keep_bytes, keep_records, keep_age_ms;
    struct twinlog_committer *committer;
    uint32_t flush_interval_ms;
    uint32_t mode;
    uint64_t mapped_bytes;
};
#define TWINLOG_OPTIONS_INIT twinlog_initial(twinlog_options)
int twinlog_open(const char *dir, const struct twinlog_options *options, struct twinlog **ret_log);
int twinlog_close(struct twinlog *log);
int twinlog_append(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);
int twinlog_enqueue(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);
enum twinlog_level {
    TWINLOG_LEVEL_OF_MODE = 0,
    TWINLOG_LEVEL_BUFFERED,
    TWINLOG_LEVEL_WRITTEN,
    TWINLOG_LEVEL_DURABLE
};
struct twinlog_entry {
    const void *data;
    size_t size;
    const struct iovec *pieces;
    uint32_t piece_count;
    uint16_t tag;
    uint8_t type;
    uint8_t reserved;
    int64_t time_ns;
};
enum twinlog_append_flags {
    TWINLOG_TRY = 1u << 0
};
struct twinlog_terms {
    uint32_t size;
    uint32_t flags;
    uint32_t level;
    uint32_t reserved;
    uint64_t deadline_ns;
    const struct twinlog_cancel *cancel;
};
#define TWINLOG_TERMS_INIT twinlog_initial(twinlog_terms)
int twinlog_append_batch(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                         const struct twinlog_terms *terms, uint64_t *ret_first_lsn);
int twinlog_skip(struct twinlog *log, uint64_t next_lsn);
int twinlog_skip_lost(struct twinlog *log, uint64_t next_lsn);
int twinlog_wait(struct twinlog *log, uint64_t lsn, enum twinlog_level level, uint64_t deadline_ns);
int twinlog_sync(struct twinlog *log);
uint64_t twinlog_deadline(uint32_t timeout_ms);
struct twinlog_cancel {
    uint32_t is_canceled;
};
int twinlog_cancel(struct twinlog *log, struct twinlog_cancel *cancel);
struct twinlog_request {
    struct twinlog_queue *queue;
    void *context;
    int32_t result;
    uint32_t count;
    uint64_t first_lsn;
    struct twinlog_request *next;
    uint64_t private_word;
};
int twinlog_submit(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                   const struct twinlog_terms *terms, struct twinlog_request *request);
struct twinlog_queue;
int twinlog_queue_open(struct twinlog_queue **ret_queue);
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests, uint32_t max,
                       int timeout_ms);
int twinlog_queue_fd(struct twinlog_queue *queue);
int twinlog_queue_close(struct twinlog_queue *queue);
struct twinlog_committer_options {
    uint32_t size;
    uint32_t in_flight;
};
#define TWINLOG_COMMITTER_OPTIONS_INIT twinlog_initial(twinlog_committer_options)
int twinlog_committer_open(const struct twinlog_committer_options *options,
                           struct twinlog_committer **ret_committer);
int twinlog_committer_close(struct twinlog_committer *committer);
uint64_t twinlog_first_lsn(struct twinlog *log);
uint64_t twinlog_last_lsn(struct twinlog *log);
uint64_t twinlog_written_lsn(struct twinlog *log);
uint64_t twinlog_durable_lsn(struct twinlog *log);
enum twinlog_trim_flags {
    TWINLOG_TRIM_PAST_CURSORS = 1u << 0
};
struct twinlog_trim_options {
    uint32_t size;
    uint32_t flags;
    uint64_t before_lsn;
    uint64_t keep_bytes;
    uint64_t keep_records;
    int64_t before_time_ns;
};
#define TWINLOG_TRIM_OPTIONS_INIT twinlog_initial(twinlog_trim_options)
enum twinlog_holder {
    TWINLOG_HELD_BY_NOTHING = 0,
    TWINLOG_HELD_BY_CURSOR,
    TWINLOG_HELD_BY_SEGMENT
};
struct twinlog_trim_result {
    uint32_t size;
    uint32_t holder;
    uint64_t first_lsn;
    uint64_t removed_records, removed_segments;
    uint64_t removed_bytes;
    uint64_t held_bytes;
    char holder_name[72];
};
#define TWINLOG_TRIM_RESULT_INIT twinlog_initial(twinlog_trim_result)
int twinlog_trim(struct twinlog *log, const struct twinlog_trim_options *options,
                 struct twinlog_trim_result *ret_result);
int twinlog_truncate(struct twinlog *log, uint64_t last_lsn);
int twinlog_reset(struct twinlog *log, uint64_t next_lsn);
#define TWINLOG_NAME_BYTES 64u
#define TWINLOG_META_BYTES 4096u
int twinlog_cursor_set(struct twinlog *log, const char *name, uint64_t lsn);
int twinlog_cursor_get(struct twinlog *log, const char *name, uint64_t *ret_lsn);
int twinlog_cursor_remove(struct twinlog *log, const char *name);
int twinlog_cursor_each(struct twinlog *log, int (*each)(void *context, const char *name, uint64_t lsn),
                        void *context);
int twinlog_meta_set(struct twinlog *log, const char *name, const void *data, size_t size);
int twinlog_meta_get(struct twinlog *log, const char *name, void *data, size_t room, size_t *ret_size);
int twinlog_meta_remove(struct twinlog *log, const char *name);
int twinlog_meta_each(struct twinlog *log,
                      int (*each)(void *context, const char *name, const void *data, size_t size),
                      void *context);
struct twinlog_reader;
struct twinlog_record {
    uint64_t lsn;
    int64_t time_ns;
    const void *data;
    size_t size;
    uint16_t tag;
    uint8_t type;
    uint32_t salt;
};
enum twinlog_reader_flags {
    TWINLOG_READER_MMAP = 1u << 0,
    TWINLOG_READER_DURABLE = 1u << 1
};
struct twinlog_reader_options {
    uint32_t size;
    uint32_t flags;
    uint64_t from_lsn, to_lsn;
    struct twinlog_report *ret_report;
};
#define TWINLOG_READER_OPTIONS_INIT twinlog_initial(twinlog_reader_options)
int twinlog_reader_open(const char *dir, const struct twinlog_reader_options *options,
                        struct twinlog_reader **ret_reader);
int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader);
int twinlog_reader_seek(struct twinlog_reader *reader, uint64_t lsn);
int twinlog_reader_seek_time(struct twinlog_reader *reader, int64_t time_ns);
int twinlog_reader_seek_first(struct twinlog_reader *reader);
int twinlog_reader_seek_end(struct twinlog_reader *reader);
int twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *ret_record);
int twinlog_reader_previous(struct twinlog_reader *reader, struct twinlog_record *ret_record);
int twinlog_reader_range(struct twinlog_reader *reader, uint64_t *ret_first_lsn, uint64_t *ret_last_lsn);
int twinlog_reader_wait(struct twinlog_reader *reader, int timeout_ms);
int twinlog_reader_fd(struct twinlog_reader *reader);
void twinlog_reader_close(struct twinlog_reader *reader);
struct twinlog_consumer;
enum twinlog_consumer_flags {
    TWINLOG_CONSUMER_FROM_END = 1u << 0,
    TWINLOG_CONSUMER_MMAP = 1u << 1,
    TWINLOG_CONSUMER_DURABLE = 1u << 2
};
struct twinlog_consumer_options {
    uint32_t size;
    uint32_t flags;
    struct twinlog_report *ret_report;
};
#define TWINLOG_CONSUMER_OPTIONS_INIT twinlog_initial(twinlog_consumer_options)
int twinlog_consumer_open(const char *dir, const char *name, const struct twinlog_consumer_options *options,
                          struct twinlog_consumer **ret_consumer);
int twinlog_consumer_next(struct twinlog_consumer *consumer, struct twinlog_record *ret_record);
int twinlog_consumer_commit(struct twinlog_consumer *consumer, uint64_t lsn);
struct twinlog_reader *twinlog_consumer_reader(struct twinlog_consumer *consumer);
void twinlog_consumer_close(struct twinlog_consumer *consumer);
int twinlog_read(struct twinlog *log, uint64_t lsn, void *data, size_t room,
                 struct twinlog_record *ret_record);
#ifdef __cplusplus
}
#endif
#endif
