// SPDX-License-Identifier: Apache-2.0
//! The sink: a plain file that threads and processes append to.
use crate::{c, c_size, milliseconds, Error, ErrorKind, EINVAL};
use std::ffi::CString;
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::os::raw::c_int;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a [`Sink`] is opened. What is not set makes an exact sink, which one process has.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinkOptions {
    shared: bool,
    lines: bool,
    mapped: bool,
    drop_zeros: bool,
    initial_bytes: u64,
    growth_bytes: u64,
    max_bytes: u64,
    keep_files: u32,
    flush_interval: Duration,
}

impl SinkOptions {
    setters! {
        /// Several processes may have the file open, all with this option.
        shared: bool,
        /// Each write has whole lines: none continues what a killed process has left. Of an exact sink only.
        lines: bool,
        /// The other kind: as fast as memory, but the file ends in zeros while it is open, which most programs that read
        /// logs do not bear. All sinks of one file have the same kind.
        mapped: bool,
        /// A file that a crash of the system left with zeros at its end: they are no data.
        drop_zeros: bool,
        /// Of a mapped file at the beginning. EINVAL without `mapped`.
        initial_bytes: u64,
        /// By so much a mapped file grows at most. EINVAL without `mapped`.
        growth_bytes: u64,
        /// A write beyond that goes to a new file; 0: no limit.
        max_bytes: u64,
        /// Of the files before, as NAME.1, NAME.2; 0: 5.
        keep_files: u32,
        /// Sync at least so often; zero: only in [`Sink::sync`].
        flush_interval: Duration,
    }

    fn in_c(&self) -> c::twinlog_sink_options {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let mut o = c::twinlog_sink_options::zeroed();
        o.size = c_size::<c::twinlog_sink_options>();
        o.flags = flag(self.shared, c::TWINLOG_SINK_SHARED)
            | flag(self.lines, c::TWINLOG_SINK_LINES)
            | flag(self.mapped, c::TWINLOG_SINK_MAPPED)
            | flag(self.drop_zeros, c::TWINLOG_SINK_DROP_ZEROS);
        o.initial_bytes = self.initial_bytes;
        o.growth_bytes = self.growth_bytes;
        o.max_bytes = self.max_bytes;
        o.keep_files = self.keep_files;
        o.flush_interval_ms = milliseconds(self.flush_interval, u32::MAX);
        o
    }
}

/// A plain file, of the written bytes and nothing else, that threads and processes append to.
///
/// Like [`std::fs::File`] it is [`Write`] by reference, too, and its errors are [`io::Error`] with `raw_os_error()`. Those
/// that are no errno, as that of a forked child, have the [`Error`] inside: `get_ref()`, then `downcast_ref()`.
///
/// Each `write` is whole or an error, and nothing has happened then; after ENOSPC, EDQUOT and EFBIG the same one works
/// again when there is room. `write_vectored` is one piece, and so is all that one `write!` or `writeln!` formats.
///
/// Dropping a sink closes it, and cannot say whether that worked. Neither syncs.
pub struct Sink {
    raw: *mut c::twinlog_sink,
}

// Every function on a sink may be called from any thread; closing takes the sink.
unsafe impl Send for Sink {}
unsafe impl Sync for Sink {}

fn check(rc: i32) -> io::Result<i32> {
    if rc >= 0 {
        return Ok(rc);
    }
    Err(match Error::new(rc, 0) {
        Error { kind: ErrorKind::Os(errno), .. } => io::Error::from_raw_os_error(errno),
        own => own.into(),
    })
}

/// None for a time that C cannot hold.
fn nanoseconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|ns| -ns),
    }
}

impl Sink {
    /// Opens the file for appending, and makes it where there is none.
    pub fn open(path: impl AsRef<Path>, options: &SinkOptions) -> io::Result<Sink> {
        let path = match CString::new(path.as_ref().as_os_str().as_bytes()) {
            Ok(path) => path,
            Err(_) => return Err(io::Error::from_raw_os_error(-EINVAL)),
        };
        let mut raw = ptr::null_mut();
        check(unsafe { c::twinlog_sink_open(path.as_ptr(), &options.in_c(), &mut raw) })?;
        Ok(Sink { raw })
    }

    /// Returns when everything that any process has written before is on stable storage. After one has failed none
    /// succeeds.
    pub fn sync(&self) -> io::Result<()> {
        check(unsafe { c::twinlog_sink_sync(self.raw) }).map(|_| ())
    }

    /// After the file was renamed: goes on in the one that has the name now, or makes it. False: it was the same.
    pub fn reopen(&self) -> io::Result<bool> {
        Ok(check(unsafe { c::twinlog_sink_reopen(self.raw) })? > 0)
    }

    /// Begins a new file, as `max_bytes` does, if the present one has bytes and was made before that time: so of several
    /// processes that call it one does it. True: the sink is in another file now. ENOTSUP: a mapped sink.
    pub fn rotate(&self, made_before: SystemTime) -> io::Result<bool> {
        match nanoseconds(made_before) {
            Some(ns) => Ok(check(unsafe { c::twinlog_sink_rotate(self.raw, ns) })? > 0),
            None => Err(io::Error::from_raw_os_error(-EINVAL)),
        }
    }

    /// Why the sink is not in the file that its path names, or could not begin the next one for `max_bytes`. Writes
    /// succeed meanwhile, in the file that the sink has. A mapped sink returns the error of a rotation from the write.
    pub fn rotation_error(&self) -> Option<io::Error> {
        check(unsafe { c::twinlog_sink_rotation_error(self.raw) }).err()
    }

    /// The error of the last sync that `flush_interval` has made. Writes succeed meanwhile. If `sync()` returns it as
    /// well, no sync of this sink succeeds any more.
    pub fn sync_error(&self) -> Option<io::Error> {
        check(unsafe { c::twinlog_sink_sync_error(self.raw) }).err()
    }

    /// Leaves the file. Does not sync. After an error it is closed, too.
    pub fn close(self) -> io::Result<()> {
        let raw = self.raw;
        std::mem::forget(self);
        check(unsafe { c::twinlog_sink_close(raw) }).map(|_| ())
    }
}

impl Write for &Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let rc = unsafe { c::twinlog_sink_write(self.raw, data.as_ptr().cast(), data.len(), ptr::null_mut()) };
        check(rc).map(|_| data.len())
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // An IoSlice is a struct iovec, as its manual says.
        let count = c_int::try_from(pieces.len()).unwrap_or(-1); // which C refuses
        let rc = unsafe { c::twinlog_sink_writev(self.raw, pieces.as_ptr().cast(), count, ptr::null_mut()) };
        check(rc).map(|_| pieces.iter().map(|piece| piece.len()).sum())
    }

    /// One write; that of the trait would make one of each piece of text, and lines of other threads would be in between.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        let mut whole = Vec::new();
        whole.write_fmt(text)?;
        self.write_all(&whole)
    }

    /// Nothing to do: what was written is in the file. Does not sync.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As by reference.
impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self).write(data)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(pieces)
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        (&*self).write_fmt(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        unsafe { c::twinlog_sink_close(self.raw) };
    }
}
