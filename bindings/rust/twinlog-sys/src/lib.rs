// SPDX-License-Identifier: Apache-2.0
//! The part of `<twinlog.h>` and `<twinlog_sink.h>` that the crate `twinlog` calls. The manual is that of the headers.
//! Written by hand; the test compares every structure with that of the C compiler.
#![allow(non_camel_case_types)]

use std::os::raw::{c_char, c_int, c_void}; // those of core::ffi are newer than Rust 1.63

pub const TWINLOG_ECORRUPT: c_int = -5001;
pub const TWINLOG_EPOISONED: c_int = -5002;
pub const TWINLOG_EVERSION: c_int = -5003;
pub const TWINLOG_ETRIMMED: c_int = -5004;
pub const TWINLOG_EFORKED: c_int = -5005;
pub const TWINLOG_EFOREIGN: c_int = -5006;
pub const TWINLOG_ETRUNCATED: c_int = -5007;
pub const TWINLOG_TRY: u32 = 1;
pub const TWINLOG_META_BYTES: usize = 4096;
pub const TWINLOG_SINK_SHARED: u32 = 1 << 0;
pub const TWINLOG_SINK_DROP_ZEROS: u32 = 1 << 1;
pub const TWINLOG_SINK_MAPPED: u32 = 1 << 2;
pub const TWINLOG_SINK_LINES: u32 = 1 << 3;

#[repr(C)]
pub struct twinlog {
    _private: [u8; 0],
}
#[repr(C)]
pub struct twinlog_reader {
    _private: [u8; 0],
}
#[repr(C)]
pub struct twinlog_consumer {
    _private: [u8; 0],
}
#[repr(C)]
pub struct twinlog_sink {
    _private: [u8; 0],
}
/// Called with a context, a cursor's name and its LSN.
pub type twinlog_each_cursor = unsafe extern "C" fn(*mut c_void, *const c_char, u64) -> c_int;

/// Declares structures, and `layout()`, which says the same to a C compiler.
macro_rules! structures {
    ($($name:ident { $($field:ident: $type:ty,)* })*) => {
        $(#[repr(C)] #[derive(Clone, Copy)] pub struct $name { $(pub $field: $type,)* })*
        $(impl $name {
            /// All zeros. Who gives it to C sets the field `size`, where there is one.
            pub fn zeroed() -> Self {
                // Numbers and pointers, for all of which zero is a value.
                unsafe { core::mem::zeroed() }
            }
        })*
        /// Calls `each` with a structure, a field (or "" for its size), and the number.
        pub fn layout(each: &mut dyn FnMut(&str, &str, usize)) {
            $({
                let s = $name::zeroed();
                let base = core::ptr::addr_of!(s) as usize;
                each(stringify!($name), "", core::mem::size_of::<$name>());
                $(each(stringify!($name), stringify!($field), core::ptr::addr_of!(s.$field) as usize - base);)*
            })*
        }
    };
}

structures! {
    twinlog_report {
        finding: u32, action: u32, error: i32, reserved: u32, segment: u64, offset: u64, bytes: u64, first_lsn: u64,
        last_lsn: u64, file: [c_char; 64], text: [c_char; 192],
    }
    twinlog_options {
        size: u32, flags: u32, segment_bytes: u64, buffer_bytes: u32, max_record_bytes: u32, io: u32,
        lock_timeout_ms: u32, spare_segments: u32, prepare: u32, ret_report: *mut twinlog_report, segment_records: u64,
        segment_age_ms: u64, keep_bytes: u64, keep_records: u64, keep_age_ms: u64, committer: *mut c_void,
        flush_interval_ms: u32, mode: u32, mapped_bytes: u64,
    }
    twinlog_committer_options {
        size: u32, in_flight: u32, queue: *mut c_void,
    }
    twinlog_entry {
        data: *const c_void, size: usize, pieces: *const c_void, piece_count: u32, tag: u16, r#type: u8,
        reserved: u8, time_ns: i64,
    }
    twinlog_terms {
        size: u32, flags: u32, level: u32, reserved: u32, deadline_ns: u64, cancel: *const c_void,
    }
    twinlog_request {
        queue: *mut c_void, context: *mut c_void,
        result: i32, count: u32, first_lsn: u64, next: *mut twinlog_request, private_word: u64,
    }
    twinlog_consumer_options {
        size: u32, flags: u32, ret_report: *mut twinlog_report,
    }
    twinlog_record {
        lsn: u64, time_ns: i64, data: *const c_void, size: usize, tag: u16, r#type: u8,
        salt: u32,
    }
    twinlog_reader_options {
        size: u32, flags: u32, from_lsn: u64, to_lsn: u64, ret_report: *mut twinlog_report,
    }
    twinlog_trim_options {
        size: u32, flags: u32, before_lsn: u64, keep_bytes: u64, keep_records: u64, before_time_ns: i64,
    }
    twinlog_trim_result {
        size: u32, holder: u32, first_lsn: u64, removed_records: u64, removed_segments: u64, removed_bytes: u64,
        held_bytes: u64, holder_name: [c_char; 72],
    }
    twinlog_edit {
        kind: u32, reserved: u32, name: *const c_char, data: *const c_void, size: usize, lsn: u64,
    }
    twinlog_change {
        size: u32, flags: u32, edits: *const twinlog_edit, edit_count: u32, reserved: u32, trim_before_lsn: u64,
        durable_lsn: u64, deadline_ns: u64,
    }
    twinlog_stat {
        size: u32, io: u32, is_direct: u32, mode: u32, epoch: u32, poison: i32, segments: u32, spare_segments: u32,
        first_lsn: u64, last_lsn: u64, written_lsn: u64, durable_lsn: u64, file_bytes: u64, appends: u64,
        append_bytes: u64, groups: u64, group_bytes: u64, written_bytes: u64, rolls: u64, roll_waits: u64,
        full_failures: u64, read_only_failures: u64, limit_failures: u64, poison_failures: u64, other_failures: u64,
        trim_failures: u64, trimmed_segments: u64, recycled_segments: u64, syncs: u64, requests: u64,
        io_reason: [c_char; 160],
    }
    twinlog_sink_options {
        size: u32, flags: u32, initial_bytes: u64, growth_bytes: u64, max_bytes: u64, keep_files: u32,
        flush_interval_ms: u32,
    }
    iovec {
        iov_base: *mut c_void, iov_len: usize,
    }
}

extern "C" {
    pub fn twinlog_strerror(error: c_int) -> *const c_char;
    pub fn twinlog_open(dir: *const c_char, options: *const twinlog_options, ret_log: *mut *mut twinlog) -> c_int;
    pub fn twinlog_close(log: *mut twinlog) -> c_int;
    pub fn twinlog_append(log: *mut twinlog, data: *const c_void, size: usize, ret_lsn: *mut u64) -> c_int;
    pub fn twinlog_append_batch(
        log: *mut twinlog,
        entries: *const twinlog_entry,
        count: u32,
        terms: *const twinlog_terms,
        ret_first_lsn: *mut u64,
    ) -> c_int;
    pub fn twinlog_wait(log: *mut twinlog, lsn: u64, level: u32, deadline_ns: u64) -> c_int;
    pub fn twinlog_sync(log: *mut twinlog) -> c_int;
    pub fn twinlog_change(log: *mut twinlog, change: *const twinlog_change, ret_result: *mut twinlog_trim_result) -> c_int;
    pub fn twinlog_set_flush_interval(log: *mut twinlog, interval_ms: u32) -> c_int;
    pub fn twinlog_committer_open(
        options: *const twinlog_committer_options,
        ret_committer: *mut *mut c_void,
    ) -> c_int;
    pub fn twinlog_committer_close(committer: *mut c_void) -> c_int;
    pub fn twinlog_deadline(timeout_ms: u32) -> u64;
    pub fn twinlog_queue_open(ret_queue: *mut *mut c_void) -> c_int;
    pub fn twinlog_queue_poll(
        queue: *mut c_void,
        ret_requests: *mut *mut twinlog_request,
        max: u32,
        timeout_ms: c_int,
    ) -> c_int;
    pub fn twinlog_queue_fd(queue: *mut c_void) -> c_int;
    pub fn twinlog_queue_close(queue: *mut c_void) -> c_int;
    pub fn twinlog_submit(
        log: *mut twinlog,
        entries: *const twinlog_entry,
        count: u32,
        terms: *const twinlog_terms,
        request: *mut twinlog_request,
    ) -> c_int;
    pub fn twinlog_first_lsn(log: *mut twinlog) -> u64;
    pub fn twinlog_last_lsn(log: *mut twinlog) -> u64;
    pub fn twinlog_written_lsn(log: *mut twinlog) -> u64;
    pub fn twinlog_durable_lsn(log: *mut twinlog) -> u64;
    pub fn twinlog_trim(
        log: *mut twinlog,
        options: *const twinlog_trim_options,
        ret_result: *mut twinlog_trim_result,
    ) -> c_int;
    pub fn twinlog_truncate(log: *mut twinlog, last_lsn: u64) -> c_int;
    pub fn twinlog_skip(log: *mut twinlog, next_lsn: u64) -> c_int;
    pub fn twinlog_reset(log: *mut twinlog, next_lsn: u64) -> c_int;
    pub fn twinlog_cursor_set(log: *mut twinlog, name: *const c_char, lsn: u64) -> c_int;
    pub fn twinlog_cursor_get(log: *mut twinlog, name: *const c_char, ret_lsn: *mut u64) -> c_int;
    pub fn twinlog_cursor_remove(log: *mut twinlog, name: *const c_char) -> c_int;
    pub fn twinlog_cursor_each(log: *mut twinlog, each: twinlog_each_cursor, context: *mut c_void) -> c_int;
    pub fn twinlog_meta_set(log: *mut twinlog, name: *const c_char, data: *const c_void, size: usize) -> c_int;
    pub fn twinlog_meta_get(
        log: *mut twinlog,
        name: *const c_char,
        data: *mut c_void,
        room: usize,
        ret_size: *mut usize,
    ) -> c_int;
    pub fn twinlog_meta_remove(log: *mut twinlog, name: *const c_char) -> c_int;
    pub fn twinlog_reader_open(
        dir: *const c_char,
        options: *const twinlog_reader_options,
        ret_reader: *mut *mut twinlog_reader,
    ) -> c_int;
    pub fn twinlog_reader_attach(
        log: *mut twinlog,
        options: *const twinlog_reader_options,
        ret_reader: *mut *mut twinlog_reader,
    ) -> c_int;
    pub fn twinlog_reader_seek(reader: *mut twinlog_reader, lsn: u64) -> c_int;
    pub fn twinlog_reader_seek_time(reader: *mut twinlog_reader, time_ns: i64) -> c_int;
    pub fn twinlog_reader_seek_first(reader: *mut twinlog_reader) -> c_int;
    pub fn twinlog_reader_seek_end(reader: *mut twinlog_reader) -> c_int;
    pub fn twinlog_reader_next(reader: *mut twinlog_reader, ret_record: *mut twinlog_record) -> c_int;
    pub fn twinlog_reader_previous(reader: *mut twinlog_reader, ret_record: *mut twinlog_record) -> c_int;
    pub fn twinlog_reader_wait(reader: *mut twinlog_reader, timeout_ms: c_int) -> c_int;
    pub fn twinlog_reader_fd(reader: *mut twinlog_reader) -> c_int;
    pub fn twinlog_reader_close(reader: *mut twinlog_reader);
    pub fn twinlog_consumer_open(
        dir: *const c_char,
        name: *const c_char,
        options: *const twinlog_consumer_options,
        ret_consumer: *mut *mut twinlog_consumer,
    ) -> c_int;
    pub fn twinlog_consumer_next(consumer: *mut twinlog_consumer, ret_record: *mut twinlog_record) -> c_int;
    pub fn twinlog_consumer_commit(consumer: *mut twinlog_consumer, lsn: u64) -> c_int;
    pub fn twinlog_consumer_reader(consumer: *mut twinlog_consumer) -> *mut twinlog_reader;
    pub fn twinlog_consumer_close(consumer: *mut twinlog_consumer);
    pub fn twinlog_read(
        log: *mut twinlog,
        lsn: u64,
        data: *mut c_void,
        room: usize,
        ret_record: *mut twinlog_record,
    ) -> c_int;
    pub fn twinlog_stat(log: *mut twinlog, ret_stat: *mut twinlog_stat) -> c_int;
    pub fn twinlog_sink_open(
        path: *const c_char,
        options: *const twinlog_sink_options,
        ret_sink: *mut *mut twinlog_sink,
    ) -> c_int;
    pub fn twinlog_sink_write(
        sink: *mut twinlog_sink,
        data: *const c_void,
        size: usize,
        ret_offset: *mut u64,
    ) -> c_int;
    pub fn twinlog_sink_writev(
        sink: *mut twinlog_sink,
        pieces: *const iovec,
        count: c_int,
        ret_offset: *mut u64,
    ) -> c_int;
    pub fn twinlog_sink_sync(sink: *mut twinlog_sink) -> c_int;
    pub fn twinlog_sink_reopen(sink: *mut twinlog_sink) -> c_int;
    pub fn twinlog_sink_rotate(sink: *mut twinlog_sink, made_before_ns: i64) -> c_int;
    pub fn twinlog_sink_rotation_error(sink: *const twinlog_sink) -> c_int;
    pub fn twinlog_sink_sync_error(sink: *const twinlog_sink) -> c_int;
    pub fn twinlog_sink_close(sink: *mut twinlog_sink) -> c_int;
}
