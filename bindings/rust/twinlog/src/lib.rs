// SPDX-License-Identifier: Apache-2.0
//! A durable, group-committing log in a directory.
//!
//! ```no_run
//! # fn main() -> Result<(), twinlog::Error> {
//! let log = twinlog::Log::open("journal", &Default::default())?;
//! let lsn = log.append(b"hello")?; // on stable storage
//! # Ok(()) }
//! ```
//!
//! Share a [`Log`] between threads by reference or in an `Arc`: appends at the same time share one write and one sync.
//! A [`Reader`] of a log borrows it, a [`Record`] borrows its reader. Dropping a log closes it;
//! [`Log::close`] says whether that has made everything durable. A [`Sink`] is a plain file without a log. The manual
//! is that of `<twinlog.h>` and `<twinlog_sink.h>`.
use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::io::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use twinlog_sys as c;

/// Statistics, as in C.
pub use c::twinlog_stat as Stat;

/// Why a call failed. If `lsn` is not 0 there is a record although the append has failed, as after a timeout:
/// [`Log::wait`] says what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    pub kind: ErrorKind,
    pub lsn: u64,
    pub report: Option<Box<Report>>,
    /// The log's directory, of what opens one.
    pub path: Option<PathBuf>,
}

/// Where something was found, and what to do. 0 and "" stand for unknown and none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// In the log's directory.
    pub file: String,
    pub text: String,
    pub segment: u64,
    /// In the file.
    pub offset: u64,
    pub bytes: u64,
    /// Concerned; of [`ErrorKind::Trimmed`] and [`ErrorKind::Truncated`] it is where to go on.
    pub first_lsn: u64,
    pub last_lsn: u64,
}

impl Report {
    /// None if the report is not of a call that has returned `rc`.
    fn of(rc: i32, c: &c::twinlog_report) -> Option<Box<Report>> {
        // Both texts end in the structure.
        let text = |text: &[c_char]| unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
        (c.error == rc && c.text[0] != 0).then(|| {
            Box::new(Report {
                file: text(&c.file),
                text: text(&c.text),
                segment: c.segment,
                offset: c.offset,
                bytes: c.bytes,
                first_lsn: c.first_lsn,
                last_lsn: c.last_lsn,
            })
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Acknowledged data is damaged.
    Corrupt,
    /// An earlier write or sync has failed; close the log and open it again.
    Poisoned,
    /// Of a newer format.
    Version,
    /// Removed from the head of the log.
    Trimmed,
    /// Opened by the parent process.
    Forked,
    /// A segment is another log's.
    Foreign,
    /// Records that the reader has passed were truncated from the end.
    Truncated,
    /// An errno.
    Os(i32),
}

impl Error {
    fn new(number: i32, lsn: u64) -> Error {
        let kind = match number {
            c::TWINLOG_ECORRUPT => ErrorKind::Corrupt,
            c::TWINLOG_EPOISONED => ErrorKind::Poisoned,
            c::TWINLOG_EVERSION => ErrorKind::Version,
            c::TWINLOG_ETRIMMED => ErrorKind::Trimmed,
            c::TWINLOG_EFORKED => ErrorKind::Forked,
            c::TWINLOG_EFOREIGN => ErrorKind::Foreign,
            c::TWINLOG_ETRUNCATED => ErrorKind::Truncated,
            errno => ErrorKind::Os(-errno),
        };
        Error { kind, lsn, report: None, path: None }
    }

    fn number(&self) -> i32 {
        match self.kind {
            ErrorKind::Corrupt => c::TWINLOG_ECORRUPT,
            ErrorKind::Poisoned => c::TWINLOG_EPOISONED,
            ErrorKind::Version => c::TWINLOG_EVERSION,
            ErrorKind::Trimmed => c::TWINLOG_ETRIMMED,
            ErrorKind::Forked => c::TWINLOG_EFORKED,
            ErrorKind::Foreign => c::TWINLOG_EFOREIGN,
            ErrorKind::Truncated => c::TWINLOG_ETRUNCATED,
            ErrorKind::Os(errno) => -errno,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        if let Some(report) = &self.report {
            let passed = matches!(self.kind, ErrorKind::Trimmed | ErrorKind::Truncated); // the text has the LSNs
            match (&report.file[..], report.segment, report.first_lsn) {
                ("", ..) => (),
                (file, 0, _) => write!(f, "{file}: ")?,
                (file, _, lsn) if lsn == 0 || passed => write!(f, "{file}, offset {}: ", report.offset)?,
                (file, _, lsn) if report.last_lsn == lsn => write!(f, "{file}, offset {}, LSN {lsn}: ", report.offset)?,
                (file, _, lsn) => write!(f, "{file}, offset {}, LSN {lsn} to {}: ", report.offset, report.last_lsn)?,
            }
            return f.write_str(&report.text);
        }
        // A constant of the library.
        let text = unsafe { CStr::from_ptr(c::twinlog_strerror(self.number())) };
        f.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        match error.kind {
            // Its kind, and in it the error with its LSN, report and path: `get_ref()`, then `downcast_ref::<Error>()`.
            ErrorKind::Os(errno) => std::io::Error::new(std::io::Error::from_raw_os_error(errno).kind(), error),
            _ => std::io::Error::new(std::io::ErrorKind::Other, error),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

const EINVAL: i32 = -22;
const ENOENT: i32 = -2;
const EMSGSIZE: i32 = -90;
const ENOBUFS: i32 = -105;

fn check(rc: i32) -> Result<i32> {
    if rc < 0 {
        Err(Error::new(rc, 0))
    } else {
        Ok(rc)
    }
}

fn check_with(rc: i32, report: &c::twinlog_report) -> Result<i32> {
    check(rc).map_err(|error| Error { report: Report::of(rc, report), ..error })
}

/// The path of what could not be opened.
fn of<T>(path: &Path, result: Result<T>) -> Result<T> {
    result.map_err(|error| Error { path: Some(path.to_path_buf()), ..error })
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::new(EINVAL, 0))
}

/// Rounded up, because 0 would be another thing than a little; at most what the field of C can hold.
fn milliseconds<T: TryFrom<u128>>(timeout: Duration, most: T) -> T {
    T::try_from(timeout.saturating_add(Duration::from_nanos(999_999)).as_millis()).unwrap_or(most)
}

fn c_size<T>() -> u32 {
    std::mem::size_of::<T>() as u32
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    Durable = 0,
    Mapped = 1,
    Shared = 2,
}

/// How safe a record is when a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    OfMode = 0,
    Buffered = 1,
    Written = 2,
    Durable = 3,
}

/// Methods that set a field and return the rest as it was, as in `Options::default().mode(Mode::Mapped)`.
macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        $($(#[$doc])* #[must_use] pub fn $field(mut self, $field: $type) -> Self { self.$field = $field; self })*
    };
}

mod sink;
pub use sink::{Sink, SinkOptions};

/// What is not set is the default of C.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    mode: Mode,
    flags: u32,
    segment_bytes: u64,
    buffer_bytes: u32,
    max_record_bytes: u32,
    lock_timeout: Duration,
    keep_bytes: u64,
    keep_records: u64,
    keep_age: Duration,
    flush_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mode: Mode::Durable,
            flags: 0,
            segment_bytes: 0,
            buffer_bytes: 0,
            max_record_bytes: 0,
            lock_timeout: Duration::ZERO,
            keep_bytes: 0,
            keep_records: 0,
            keep_age: Duration::ZERO,
            flush_interval: Duration::ZERO,
        }
    }
}

impl Options {
    setters! {
        mode: Mode,
        /// Of `enum twinlog_open_flags`.
        flags: u32,
        segment_bytes: u64,
        buffer_bytes: u32,
        max_record_bytes: u32,
        /// How long to wait for another writer to close.
        lock_timeout: Duration,
        keep_bytes: u64,
        keep_records: u64,
        keep_age: Duration,
        /// What is not durable yet becomes so after this time.
        flush_interval: Duration,
    }
}

/// What a call waits for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    level: Level,
    timeout: Option<Duration>,
    only_try: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { level: Level::OfMode, timeout: None, only_try: false }
    }
}

impl Terms {
    setters! {
        level: Level,
        timeout: Option<Duration>,
        /// An error instead of waiting for room in the buffers.
        only_try: bool,
    }
}

impl Terms {
    fn in_c(&self) -> c::twinlog_terms {
        let mut t = c::twinlog_terms::zeroed();
        t.size = c_size::<c::twinlog_terms>();
        t.level = self.level as u32;
        t.flags = if self.only_try { c::TWINLOG_TRY } else { 0 };
        t.deadline_ns = deadline(self.timeout);
        t
    }
}

fn deadline(timeout: Option<Duration>) -> u64 {
    timeout.map_or(0, |timeout| unsafe { c::twinlog_deadline(milliseconds(timeout, u32::MAX)) })
}

/// One edit of a change.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'a> {
    SetMeta(&'a str, &'a [u8]),
    RemoveMeta(&'a str),
    SetCursor(&'a str, u64),
    RemoveCursor(&'a str),
}

impl Edit<'_> {
    fn name(&self) -> &str {
        match self {
            Edit::SetMeta(name, _) | Edit::RemoveMeta(name) | Edit::SetCursor(name, _) | Edit::RemoveCursor(name) => name,
        }
    }

    fn in_c(&self, name: &std::ffi::CStr) -> c::twinlog_edit {
        let mut edit = c::twinlog_edit::zeroed();
        edit.name = name.as_ptr();
        match self {
            Edit::SetMeta(_, value) => {
                edit.kind = 1;
                edit.data = value.as_ptr().cast();
                edit.size = value.len();
            }
            Edit::RemoveMeta(_) => edit.kind = 2,
            Edit::SetCursor(_, lsn) => {
                edit.kind = 3;
                edit.lsn = *lsn;
            }
            Edit::RemoveCursor(_) => edit.kind = 4,
        }
        edit
    }
}

/// What `Log::change()` does in one step, beside its edits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    trim_before: u64,
    past_cursors: bool,
    durable: u64,
    timeout: Option<Duration>,
}

impl Change {
    setters! {
        /// Removes the records with a smaller LSN; 0: none.
        trim_before: u64,
        /// Cursors hold no record; those behind move to the head.
        past_cursors: bool,
        /// Makes the log durable up to this LSN first; 0: only up to what is trimmed.
        durable: u64,
        /// Of the wait for that.
        timeout: Option<Duration>,
    }
}

/// A record to be appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    pub data: &'a [u8],
    pub kind: u8,
    pub tag: u16,
    /// 0: the log takes the time.
    pub time_ns: i64,
}

impl Entry<'_> {
    fn in_c(&self) -> c::twinlog_entry {
        let mut e = c::twinlog_entry::zeroed();
        e.data = self.data.as_ptr().cast();
        e.size = self.data.len();
        e.r#type = self.kind;
        e.tag = self.tag;
        e.time_ns = self.time_ns;
        e
    }
}

/// The entries in C, which point to the same bytes, and how many.
fn batch_of(entries: &[Entry<'_>]) -> Result<(Vec<c::twinlog_entry>, u32)> {
    let count = u32::try_from(entries.len()).map_err(|_| Error::new(EMSGSIZE, 0))?;
    Ok((entries.iter().map(Entry::in_c).collect(), count))
}

/// An open log, for any number of threads.
pub struct Log {
    raw: *mut c::twinlog,
    fetcher: Mutex<Option<Fetcher>>,
    committer: Option<Arc<Committer>>, // dropped when the log is closed
}

// Every function on a log may be called from any thread; closing takes the log.
unsafe impl Send for Log {}
unsafe impl Sync for Log {}

impl Log {
    /// Opens the log in `dir`, and makes it where there is none.
    pub fn open(dir: impl AsRef<Path>, options: &Options) -> Result<Log> {
        of(dir.as_ref(), Log::open_path(dir.as_ref(), options, None))
    }

    /// A log whose commits that committer does.
    pub fn open_with(dir: impl AsRef<Path>, options: &Options, committer: &Arc<Committer>) -> Result<Log> {
        of(dir.as_ref(), Log::open_path(dir.as_ref(), options, Some(committer)))
    }

    fn open_path(dir: &Path, options: &Options, committer: Option<&Arc<Committer>>) -> Result<Log> {
        let dir = c_string(dir.as_os_str().as_bytes())?;
        let mut o = c::twinlog_options::zeroed();
        o.size = c_size::<c::twinlog_options>();
        o.flags = options.flags;
        o.mode = options.mode as u32;
        o.segment_bytes = options.segment_bytes;
        o.buffer_bytes = options.buffer_bytes;
        o.max_record_bytes = options.max_record_bytes;
        o.lock_timeout_ms = milliseconds(options.lock_timeout, u32::MAX);
        o.keep_bytes = options.keep_bytes;
        o.keep_records = options.keep_records;
        o.keep_age_ms = milliseconds(options.keep_age, u64::MAX);
        o.flush_interval_ms = milliseconds(options.flush_interval, u32::MAX);
        let mut report = c::twinlog_report::zeroed();
        o.ret_report = &mut report;
        o.committer = committer.map_or(ptr::null_mut(), |committer| committer.raw);
        let mut raw = ptr::null_mut();
        check_with(unsafe { c::twinlog_open(dir.as_ptr(), &o, &mut raw) }, &report)?;
        Ok(Log { raw, fetcher: Mutex::new(None), committer: committer.cloned() })
    }

    /// Makes every record durable and closes the log; or the error that kept one from being durable.
    pub fn close(mut self) -> Result<()> {
        check(self.end()).map(|_| ())
    }

    /// Returns the LSN when the record is on stable storage.
    pub fn append(&self, data: &[u8]) -> Result<u64> {
        let mut lsn = 0;
        let rc = unsafe { c::twinlog_append(self.raw, data.as_ptr().cast(), data.len(), &mut lsn) };
        if rc < 0 {
            return Err(Error::new(rc, lsn));
        }
        Ok(lsn)
    }

    /// Appends all of them or none, also if the power fails. Returns the LSN of the first.
    pub fn append_batch(&self, entries: &[Entry<'_>], terms: &Terms) -> Result<u64> {
        let (batch, count) = batch_of(entries)?;
        let t = terms.in_c();
        let mut lsn = 0;
        let rc = unsafe { c::twinlog_append_batch(self.raw, batch.as_ptr(), count, &t, &mut lsn) };
        if rc < 0 {
            return Err(Error::new(rc, lsn));
        }
        Ok(lsn)
    }

    /// Appends all of them or none, and returns at once; the future is ready when they are at that level, with the LSN
    /// of the first. They are appended even if it is dropped. Waits for room in the buffers unless `only_try` is set;
    /// the timeout counts for that wait.
    pub fn submit(&self, entries: &[Entry<'_>], terms: &Terms) -> Result<Submission> {
        let (batch, count) = batch_of(entries)?;
        let t = terms.in_c();
        let queue_of_loop = self.committer.as_ref().and_then(|committer| committer.queue);
        let fetching = match queue_of_loop {
            Some(_) => None,
            None => Some(self.fetching()?),
        };
        let mut request = c::twinlog_request::zeroed();
        request.queue = queue_of_loop.unwrap_or_else(|| fetching.as_ref().map_or(ptr::null_mut(), |one| one.queue));
        let in_flight = Arc::new(InFlight { request: UnsafeCell::new(request), done: Mutex::new(Done::default()) });
        let context = Arc::into_raw(in_flight.clone()); // complete() takes it back
        // Nothing else touches the request until complete() is called, perhaps before this returns.
        let rc = unsafe {
            (*in_flight.request.get()).context = context as *mut c_void;
            c::twinlog_submit(self.raw, batch.as_ptr(), count, &t, in_flight.request.get())
        };
        if rc < 0 {
            drop(unsafe { Arc::from_raw(context) });
            return Err(Error::new(rc, 0));
        }
        if let Some(fetching) = fetching {
            fetching.add(1);
        }
        Ok(Submission { in_flight })
    }

    fn fetching(&self) -> Result<Arc<Fetching>> {
        match &mut *self.fetcher.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(fetcher) => Ok(fetcher.shared.clone()),
            none => Ok(none.insert(Fetcher::start()?).shared.clone()),
        }
    }

    /// Returns when every record up to `lsn` is at that level.
    pub fn wait(&self, lsn: u64, level: Level, timeout: Option<Duration>) -> Result<()> {
        check(unsafe { c::twinlog_wait(self.raw, lsn, level as u32, deadline(timeout)) }).map(|_| ())
    }

    /// Returns when everything accepted before is durable.
    pub fn sync(&self) -> Result<()> {
        check(unsafe { c::twinlog_sync(self.raw) }).map(|_| ())
    }

    /// Replaces the flush interval of the options: what was accepted and is not durable yet becomes durable within this
    /// time. Zero ends the flushes. The log does not keep it.
    pub fn set_flush_interval(&self, interval: Duration) -> Result<()> {
        let ms = milliseconds(interval, u32::MAX);
        check(unsafe { c::twinlog_set_flush_interval(self.raw, ms) }).map(|_| ())
    }

    pub fn first_lsn(&self) -> u64 {
        unsafe { c::twinlog_first_lsn(self.raw) }
    }

    pub fn last_lsn(&self) -> u64 {
        unsafe { c::twinlog_last_lsn(self.raw) }
    }

    pub fn written_lsn(&self) -> u64 {
        unsafe { c::twinlog_written_lsn(self.raw) }
    }

    pub fn durable_lsn(&self) -> u64 {
        unsafe { c::twinlog_durable_lsn(self.raw) }
    }

    /// Removes records with a smaller LSN; what a cursor needs stays. Returns the LSN of the oldest that is left.
    pub fn trim(&self, before_lsn: u64) -> Result<u64> {
        let mut options = c::twinlog_trim_options::zeroed();
        options.size = c_size::<c::twinlog_trim_options>();
        options.before_lsn = before_lsn;
        let mut result = c::twinlog_trim_result::zeroed();
        result.size = c_size::<c::twinlog_trim_result>();
        check(unsafe { c::twinlog_trim(self.raw, &options, &mut result) })?;
        Ok(result.first_lsn)
    }

    /// Changes values, cursors and the head of the log in one step, which is durable on return: after a crash, and for every
    /// other process, all of it has happened or nothing. So the name of a snapshot, and the trim of the records that it
    /// stands for, cannot come apart. Returns the oldest LSN that is kept, 0 without a trim.
    pub fn change(&self, edits: &[Edit], change: &Change) -> Result<u64> {
        let names = edits.iter().map(|edit| c_string(edit.name().as_bytes())).collect::<Result<Vec<_>>>()?;
        let edits: Vec<_> = edits.iter().zip(&names).map(|(edit, name)| edit.in_c(name)).collect();
        let mut all = c::twinlog_change::zeroed();
        all.size = c_size::<c::twinlog_change>();
        all.flags = change.past_cursors as u32; // TWINLOG_TRIM_PAST_CURSORS
        all.edits = if edits.is_empty() { std::ptr::null() } else { edits.as_ptr() };
        all.edit_count = u32::try_from(edits.len()).unwrap_or(u32::MAX);
        all.trim_before_lsn = change.trim_before;
        all.durable_lsn = change.durable;
        all.deadline_ns = deadline(change.timeout);
        let mut result = c::twinlog_trim_result::zeroed();
        result.size = c_size::<c::twinlog_trim_result>();
        check(unsafe { c::twinlog_change(self.raw, &all, &mut result) })?;
        Ok(result.first_lsn)
    }

    /// Removes every record with a larger LSN, for good.
    pub fn truncate(&self, last_lsn: u64) -> Result<()> {
        check(unsafe { c::twinlog_truncate(self.raw, last_lsn) }).map(|_| ())
    }

    /// Makes `next_lsn` the LSN of the next record: fillers use up the LSNs before.
    pub fn skip(&self, next_lsn: u64) -> Result<()> {
        check(unsafe { c::twinlog_skip(self.raw, next_lsn) }).map(|_| ())
    }

    /// Removes every record; the next one gets this LSN.
    pub fn reset(&self, next_lsn: u64) -> Result<()> {
        check(unsafe { c::twinlog_reset(self.raw, next_lsn) }).map(|_| ())
    }

    /// The consumer `name` has finished with every record up to `lsn`: trims keep what comes after.
    pub fn set_cursor(&self, name: &str, lsn: u64) -> Result<()> {
        let name = c_string(name.as_bytes())?;
        check(unsafe { c::twinlog_cursor_set(self.raw, name.as_ptr(), lsn) }).map(|_| ())
    }

    pub fn cursor(&self, name: &str) -> Result<Option<u64>> {
        let name = c_string(name.as_bytes())?;
        let mut lsn = 0;
        match unsafe { c::twinlog_cursor_get(self.raw, name.as_ptr(), &mut lsn) } {
            ENOENT => Ok(None),
            rc => check(rc).map(|_| Some(lsn)),
        }
    }

    pub fn remove_cursor(&self, name: &str) -> Result<()> {
        let name = c_string(name.as_bytes())?;
        check(unsafe { c::twinlog_cursor_remove(self.raw, name.as_ptr()) }).map(|_| ())
    }

    pub fn cursors(&self) -> Result<BTreeMap<String, u64>> {
        unsafe extern "C" fn add(context: *mut c_void, name: *const c_char, lsn: u64) -> c_int {
            let all = &mut *(context as *mut BTreeMap<String, u64>);
            all.insert(CStr::from_ptr(name).to_string_lossy().into_owned(), lsn);
            0
        }
        let mut all = BTreeMap::new();
        check(unsafe { c::twinlog_cursor_each(self.raw, add, &mut all as *mut _ as *mut c_void) })?;
        Ok(all)
    }

    pub fn set_meta(&self, name: &str, value: &[u8]) -> Result<()> {
        let name = c_string(name.as_bytes())?;
        check(unsafe { c::twinlog_meta_set(self.raw, name.as_ptr(), value.as_ptr().cast(), value.len()) }).map(|_| ())
    }

    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = c_string(name.as_bytes())?;
        let mut value = vec![0; c::TWINLOG_META_BYTES];
        let mut size = 0;
        let room = value.len();
        match unsafe { c::twinlog_meta_get(self.raw, name.as_ptr(), value.as_mut_ptr().cast(), room, &mut size) } {
            ENOENT => Ok(None),
            rc => {
                check(rc)?;
                value.truncate(size);
                Ok(Some(value))
            }
        }
    }

    pub fn remove_meta(&self, name: &str) -> Result<()> {
        let name = c_string(name.as_bytes())?;
        check(unsafe { c::twinlog_meta_remove(self.raw, name.as_ptr()) }).map(|_| ())
    }

    pub fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::zeroed();
        stat.size = c_size::<Stat>();
        check(unsafe { c::twinlog_stat(self.raw, &mut stat) })?;
        Ok(stat)
    }

    /// One record. An error of ERANGE: there is none yet; ENOENT: it was given up; ENODATA: it was lost; [`ErrorKind::Trimmed`]: removed.
    pub fn read(&self, lsn: u64) -> Result<OwnedRecord> {
        let mut record = c::twinlog_record::zeroed();
        let mut data = vec![0; 512];
        loop {
            match unsafe { c::twinlog_read(self.raw, lsn, data.as_mut_ptr().cast(), data.len(), &mut record) } {
                ENOBUFS => data.resize(record.size, 0),
                rc => {
                    check(rc)?;
                    data.truncate(record.size);
                    let (time_ns, kind, tag) = (record.time_ns, record.r#type, record.tag);
                    return Ok(OwnedRecord { lsn: record.lsn, time_ns, data, kind, tag });
                }
            }
        }
    }

    /// A reader on this log, from that LSN on; 0: the oldest.
    pub fn reader(&self, from_lsn: u64) -> Result<Reader<'_>> {
        let (options, report) = reader_options(from_lsn);
        let mut raw = ptr::null_mut();
        let rc = unsafe { c::twinlog_reader_attach(self.raw, &options, &mut raw) };
        report.check(rc)?;
        Ok(Reader { raw, report, watcher: None, turn: Turn::default(), log: PhantomData })
    }
}

impl Log {
    /// The close completes all requests, so the fetcher finds the rest. In a forked child it has no thread.
    fn end(&mut self) -> i32 {
        let raw = std::mem::replace(&mut self.raw, ptr::null_mut());
        let rc = unsafe { c::twinlog_close(raw) };
        let fetcher = self.fetcher.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        match fetcher {
            Some(fetcher) if rc != c::TWINLOG_EFORKED => fetcher.end(),
            other => std::mem::forget(other),
        }
        rc
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            self.end();
        }
    }
}

/// Commits for every log that [`Log::open_with`] opens with it. It lives as long as they do.
pub struct Committer {
    raw: *mut c_void,
    queue: Option<*mut c_void>, // of a loop
}

// Every function on them may be called from any thread; closing takes the last reference.
unsafe impl Send for Committer {}
unsafe impl Sync for Committer {}

impl Committer {
    /// By one thread: for hundreds of logs in one process.
    pub fn with_thread() -> Result<Arc<Committer>> {
        Committer::open(None)
    }

    /// Without a thread, for a program with one loop: [`Committer::poll`] does the work and wakes the futures of
    /// [`Log::submit`]. Nothing is written before it is called, unless a thread waits in a call on one of the logs.
    pub fn in_loop() -> Result<Arc<Committer>> {
        let mut queue = ptr::null_mut();
        check(unsafe { c::twinlog_queue_open(&mut queue) })?;
        Committer::open(Some(queue)).map_err(|error| {
            unsafe { c::twinlog_queue_close(queue) };
            error
        })
    }

    fn open(queue: Option<*mut c_void>) -> Result<Arc<Committer>> {
        let mut options = c::twinlog_committer_options::zeroed();
        options.size = c_size::<c::twinlog_committer_options>();
        options.queue = queue.unwrap_or(ptr::null_mut());
        let mut raw = ptr::null_mut();
        check(unsafe { c::twinlog_committer_open(&options, &mut raw) })?;
        Ok(Arc::new(Committer { raw, queue }))
    }

    /// Does what can be done now, and waits for more up to the timeout (`None`: as long as it takes). Returns how many
    /// futures it has woken. A loop calls it with a timeout of zero, after it has used its logs, until that is 0, and only
    /// then waits. EINVAL for a committer with a thread.
    pub fn poll(&self, timeout: Option<Duration>) -> Result<usize> {
        let queue = self.queue.ok_or_else(|| Error::new(EINVAL, 0))?;
        let mut requests = [ptr::null_mut(); 64];
        let timeout_ms = timeout.map_or(-1, |timeout| milliseconds(timeout, c_int::MAX));
        let count = check(unsafe { c::twinlog_queue_poll(queue, requests.as_mut_ptr(), 64, timeout_ms) })?;
        for request in &requests[..count as usize] {
            unsafe { complete(*request) };
        }
        Ok(count as usize)
    }

    /// A descriptor that is readable, level-triggered, while [`Committer::poll`] has something to do. It is closed with the
    /// committer. EINVAL for one with a thread.
    pub fn fd(&self) -> Result<RawFd> {
        let queue = self.queue.ok_or_else(|| Error::new(EINVAL, 0))?;
        check(unsafe { c::twinlog_queue_fd(queue) })
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Its logs are closed, which has completed every request.
        while self.queue.is_some() && matches!(self.poll(Some(Duration::ZERO)), Ok(count) if count > 0) {}
        unsafe { c::twinlog_committer_close(self.raw) };
        if let Some(queue) = self.queue {
            unsafe { c::twinlog_queue_close(queue) };
        }
    }
}

/// A report that the library writes to while a reader or consumer is open.
struct OpenReport(Box<UnsafeCell<c::twinlog_report>>);

impl OpenReport {
    fn new() -> Self {
        OpenReport(Box::new(UnsafeCell::new(c::twinlog_report::zeroed())))
    }

    /// Of a call that has returned `rc`: nobody writes to the report now.
    fn check(&self, rc: i32) -> Result<i32> {
        check_with(rc, unsafe { &*self.0.get() })
    }
}

fn reader_options(from_lsn: u64) -> (c::twinlog_reader_options, OpenReport) {
    let report = OpenReport::new();
    let mut options = c::twinlog_reader_options::zeroed();
    options.size = c_size::<c::twinlog_reader_options>();
    options.from_lsn = from_lsn;
    options.ret_report = report.0.get();
    (options, report)
}

/// Stands between two records.
pub struct Reader<'log> {
    raw: *mut c::twinlog_reader,
    report: OpenReport,
    watcher: Option<Watcher>,
    turn: Turn,
    log: PhantomData<&'log Log>,
}

// One thread at a time, any thread.
unsafe impl Send for Reader<'_> {}

/// A record that was read; its bytes are the reader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'reader> {
    pub lsn: u64,
    pub time_ns: i64,
    pub data: &'reader [u8],
    pub kind: u8,
    pub tag: u16,
}

/// A record with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedRecord {
    pub lsn: u64,
    pub time_ns: i64,
    pub data: Vec<u8>,
    pub kind: u8,
    pub tag: u16,
}

impl Record<'_> {
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord { lsn: self.lsn, time_ns: self.time_ns, data: self.data.to_vec(), kind: self.kind, tag: self.tag }
    }
}

/// What a step of a reader or a consumer returned. The caller says how long the bytes are valid: until its next call.
unsafe fn record_of<'a>(rc: i32, record: &c::twinlog_record, report: &OpenReport) -> Result<Option<Record<'a>>> {
    if report.check(rc)? == 0 {
        return Ok(None);
    }
    let data: &[u8] =
        if record.size == 0 { &[] } else { std::slice::from_raw_parts(record.data.cast(), record.size) };
    Ok(Some(Record { lsn: record.lsn, time_ns: record.time_ns, data, kind: record.r#type, tag: record.tag }))
}

fn wait_ms(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |timeout| milliseconds(timeout, i32::MAX))
}

impl Reader<'static> {
    /// On the log in `dir`, in any process.
    pub fn open(dir: impl AsRef<Path>, from_lsn: u64) -> Result<Reader<'static>> {
        of(dir.as_ref(), Reader::open_path(dir.as_ref(), from_lsn))
    }

    fn open_path(dir: &Path, from_lsn: u64) -> Result<Reader<'static>> {
        let dir = c_string(dir.as_os_str().as_bytes())?;
        let (options, report) = reader_options(from_lsn);
        let mut raw = ptr::null_mut();
        let rc = unsafe { c::twinlog_reader_open(dir.as_ptr(), &options, &mut raw) };
        report.check(rc)?;
        Ok(Reader { raw, report, watcher: None, turn: Turn::default(), log: PhantomData })
    }
}

impl Reader<'_> {
    /// The next record, or none for now. (Not an iterator: the bytes are valid until the next call.)
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        self.step(c::twinlog_reader_next)
    }

    pub fn previous(&mut self) -> Result<Option<Record<'_>>> {
        self.step(c::twinlog_reader_previous)
    }

    fn step(
        &mut self,
        step: unsafe extern "C" fn(*mut c::twinlog_reader, *mut c::twinlog_record) -> i32,
    ) -> Result<Option<Record<'_>>> {
        let mut record = c::twinlog_record::zeroed();
        let rc = unsafe { step(self.raw, &mut record) };
        unsafe { record_of(rc, &record, &self.report) }
    }

    pub fn seek(&mut self, lsn: u64) -> Result<()> {
        self.report.check(unsafe { c::twinlog_reader_seek(self.raw, lsn) }).map(|_| ())
    }

    pub fn seek_time(&mut self, time_ns: i64) -> Result<()> {
        self.report.check(unsafe { c::twinlog_reader_seek_time(self.raw, time_ns) }).map(|_| ())
    }

    pub fn seek_first(&mut self) -> Result<()> {
        self.report.check(unsafe { c::twinlog_reader_seek_first(self.raw) }).map(|_| ())
    }

    pub fn seek_end(&mut self) -> Result<()> {
        self.report.check(unsafe { c::twinlog_reader_seek_end(self.raw) }).map(|_| ())
    }

    /// Waits for a record; false if there was none in time. Without a timeout as long as it takes.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        Ok(self.report.check(unsafe { c::twinlog_reader_wait(self.raw, wait_ms(timeout)) })? > 0)
    }

    /// The next record when there is one, as the `poll_next` of a stream: `std::future::poll_fn(|c| reader.poll_next(c))`
    /// waits for it in any executor. A thread, which the first call starts, watches the descriptor. For a reactor of
    /// descriptors, as tokio's `AsyncFd`, there is [`Reader::fd`]. While there are records, it is Pending once a
    /// millisecond, so that timers and other tasks run.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<OwnedRecord>> {
        if self.turn.is_over(context) {
            return Poll::Pending;
        }
        match self.next()? {
            Some(record) => Poll::Ready(Ok(record.to_owned())),
            None => {
                self.turn = Turn::default();
                Watcher::pend(&mut self.watcher, self.raw, context)
            }
        }
    }

    /// A descriptor that is readable when there is a record; the reader's, so do not close it.
    pub fn fd(&mut self) -> Result<RawFd> {
        check(unsafe { c::twinlog_reader_fd(self.raw) })
    }
}

impl<'log> Reader<'log> {
    /// The bytes of the records from where the reader stands, one behind the other, as `twinlog cat --raw` does. It ends
    /// where the log ends for now; a read after more was appended goes on. A record that was read in part is lost with this.
    pub fn payloads(&mut self) -> Payloads<'_, 'log> {
        Payloads { reader: self, rest: Vec::new(), at: 0 }
    }
}

/// See [`Reader::payloads`].
pub struct Payloads<'reader, 'log> {
    reader: &'reader mut Reader<'log>,
    rest: Vec<u8>, // the record that was begun
    at: usize,
}

impl std::io::Read for Payloads<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.rest.len() && !into.is_empty() {
            let record = match self.reader.next()? {
                Some(record) => record,
                None => return Ok(0),
            };
            self.rest.clear();
            self.rest.extend_from_slice(record.data);
            self.at = 0;
        }
        let count = into.len().min(self.rest.len() - self.at);
        into[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        unsafe { c::twinlog_reader_close(self.raw) };
    }
}

/// Goes on where the last consumer of its name ended.
pub struct Consumer {
    raw: *mut c::twinlog_consumer,
    report: OpenReport,
    watcher: Option<Watcher>,
    turn: Turn,
}

// One thread at a time, any thread.
unsafe impl Send for Consumer {}

impl Consumer {
    /// On the log in `dir`, in any process. A new name begins with the oldest record.
    pub fn open(dir: impl AsRef<Path>, name: &str) -> Result<Consumer> {
        of(dir.as_ref(), Consumer::open_path(dir.as_ref(), name))
    }

    fn open_path(dir: &Path, name: &str) -> Result<Consumer> {
        let dir = c_string(dir.as_os_str().as_bytes())?;
        let name = c_string(name.as_bytes())?;
        let report = OpenReport::new();
        let mut options = c::twinlog_consumer_options::zeroed();
        options.size = c_size::<c::twinlog_consumer_options>();
        options.ret_report = report.0.get();
        let mut raw = ptr::null_mut();
        let rc = unsafe { c::twinlog_consumer_open(dir.as_ptr(), name.as_ptr(), &options, &mut raw) };
        report.check(rc)?;
        Ok(Consumer { raw, report, watcher: None, turn: Turn::default() })
    }

    /// The next record, or none for now. Trimmed and Truncated are returned once, and the next call goes on.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        let mut record = c::twinlog_record::zeroed();
        let rc = unsafe { c::twinlog_consumer_next(self.raw, &mut record) };
        unsafe { record_of(rc, &record, &self.report) }
    }

    /// It has finished with every record up to `lsn`; 0: with all that `next` has returned. Durable on return.
    pub fn commit(&mut self, lsn: u64) -> Result<()> {
        self.report.check(unsafe { c::twinlog_consumer_commit(self.raw, lsn) }).map(|_| ())
    }

    /// As [`Reader::wait`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        Ok(check(unsafe { c::twinlog_reader_wait(c::twinlog_consumer_reader(self.raw), wait_ms(timeout)) })? > 0)
    }

    /// As [`Reader::poll_next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<OwnedRecord>> {
        if self.turn.is_over(context) {
            return Poll::Pending;
        }
        match self.next()? {
            Some(record) => Poll::Ready(Ok(record.to_owned())),
            None => {
                self.turn = Turn::default();
                Watcher::pend(&mut self.watcher, unsafe { c::twinlog_consumer_reader(self.raw) }, context)
            }
        }
    }

    /// As [`Reader::fd`].
    pub fn fd(&mut self) -> Result<RawFd> {
        check(unsafe { c::twinlog_reader_fd(c::twinlog_consumer_reader(self.raw)) })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        unsafe { c::twinlog_consumer_close(self.raw) };
    }
}

/// How long a task may go on reading before its executor runs others.
const TURN: Duration = Duration::from_millis(1);

/// While there are records, poll_next() is Pending once after each turn, and wakes its task at once.
#[derive(Default)]
struct Turn {
    began: Option<Instant>,
}

impl Turn {
    fn is_over(&mut self, context: &Context<'_>) -> bool {
        let now = Instant::now();
        if now - *self.began.get_or_insert(now) < TURN {
            return false;
        }
        self.began = None;
        context.waker().wake_by_ref();
        true
    }
}

/// A thread that wakes who waits for the descriptor of a reader. It has a descriptor of its own, and ends with the reader.
struct Watcher {
    shared: Arc<Watching>,
}

#[derive(Default)]
struct Watching {
    state: Mutex<WatchState>,
    changed: Condvar,
}

#[derive(Default)]
struct WatchState {
    waker: Option<Waker>,
    is_over: bool,
}

impl Watching {
    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, fd: OwnedFd) {
        #[repr(C)]
        struct PollFd(RawFd, i16, i16); // of <poll.h>, as the 1, POLLIN
        extern "C" {
            fn poll(fds: *mut PollFd, count: std::os::raw::c_ulong, timeout_ms: c_int) -> c_int;
        }
        let mut readable = PollFd(fd.as_raw_fd(), 1, 0);
        loop {
            let mut state = self.state();
            while state.waker.is_none() && !state.is_over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_over {
                return;
            }
            drop(state);
            // In short turns, to see that the reader is gone.
            if unsafe { poll(&mut readable, 1, 100) } != 0 {
                let waker = self.state().waker.take();
                wake(waker);
            }
        }
    }
}

impl Watcher {
    /// Wakes the task when there may be a record of this reader, which is open.
    fn pend<T>(own: &mut Option<Watcher>, reader: *mut c::twinlog_reader, context: &mut Context<'_>) -> Poll<Result<T>> {
        let fd = check(unsafe { c::twinlog_reader_fd(reader) })?;
        let failed = |error: std::io::Error| Error::new(-error.raw_os_error().unwrap_or(11), 0); // EAGAIN
        if own.is_none() {
            let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map_err(failed)?;
            let shared = Arc::new(Watching::default());
            let watching = shared.clone();
            std::thread::Builder::new()
                .name("twinlog-watch".into())
                .spawn(move || watching.run(fd))
                .map_err(failed)?;
            *own = Some(Watcher { shared });
        }
        if let Some(watcher) = own {
            let former = watcher.shared.state().waker.replace(context.waker().clone());
            watcher.shared.changed.notify_one();
            drop(former);
        }
        Poll::Pending
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_one();
    }
}

/// A batch in flight: the future of [`Log::submit`]. It is woken by a thread of the log, or in [`Committer::poll`].
#[must_use = "a batch whose future is dropped is appended, but nothing tells when"]
pub struct Submission {
    in_flight: Arc<InFlight>,
}

struct InFlight {
    request: UnsafeCell<c::twinlog_request>,
    done: Mutex<Done>,
}

// The request is the library's from submit to complete().
unsafe impl Send for InFlight {}
unsafe impl Sync for InFlight {}

#[derive(Default)]
struct Done {
    answer: Option<Result<u64>>,
    waker: Option<Waker>,
}

impl InFlight {
    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that fetches completed requests from the queue of a log. It sleeps while none is in flight.
struct Fetcher {
    shared: Arc<Fetching>,
    thread: std::thread::JoinHandle<()>,
}

struct Fetching {
    queue: *mut c_void,
    state: Mutex<FetchState>,
    changed: Condvar,
}

#[derive(Default)]
struct FetchState {
    in_flight: i64, // may be -1 for a moment: a request is counted after it was submitted
    is_over: bool,
}

unsafe impl Send for Fetching {}
unsafe impl Sync for Fetching {}

impl Fetching {
    fn add(&self, count: i64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).in_flight += count;
        self.changed.notify_one();
    }

    /// False when the log is closed, and so nothing comes any more.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.in_flight <= 0 && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_flight > 0
    }

    fn run(&self) {
        let mut requests = [ptr::null_mut(); 64];
        while self.wait() {
            let count = unsafe { c::twinlog_queue_poll(self.queue, requests.as_mut_ptr(), 64, -1) };
            for request in &requests[..count.max(0) as usize] {
                unsafe { complete(*request) };
            }
            self.add(-i64::from(count.max(0)));
        }
        // Nothing is in flight, and nothing will be.
        unsafe { c::twinlog_queue_close(self.queue) };
    }
}

impl Fetcher {
    fn start() -> Result<Fetcher> {
        let mut queue = ptr::null_mut();
        check(unsafe { c::twinlog_queue_open(&mut queue) })?;
        let state = Mutex::new(FetchState::default());
        let shared = Arc::new(Fetching { queue, state, changed: Condvar::new() });
        let own = shared.clone();
        match std::thread::Builder::new().name("twinlog-fetch".into()).spawn(move || own.run()) {
            Ok(thread) => Ok(Fetcher { shared, thread }),
            Err(error) => {
                unsafe { c::twinlog_queue_close(queue) };
                Err(Error::new(-error.raw_os_error().unwrap_or(11), 0)) // EAGAIN
            }
        }
    }

    fn end(self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.shared.changed.notify_one();
        if self.thread.thread().id() != std::thread::current().id() {
            let _ = self.thread.join(); // else a waker drops the log, and the thread ends when that has returned
        }
    }
}

unsafe fn complete(request: *mut c::twinlog_request) {
    let (result, lsn) = ((*request).result, (*request).first_lsn);
    let in_flight = Arc::from_raw((*request).context as *const InFlight);
    let waker = {
        let mut done = in_flight.done();
        done.answer = Some(if result < 0 { Err(Error::new(result, lsn)) } else { Ok(lsn) });
        done.waker.take()
    };
    wake(waker);
}

/// A panic would end the thread that wakes all others.
fn wake(waker: Option<Waker>) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.map(Waker::wake))).is_err() {
        std::process::abort();
    }
}

impl Future for Submission {
    type Output = Result<u64>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u64>> {
        let mut done = self.in_flight.done();
        if let Some(answer) = &done.answer {
            return Poll::Ready(answer.clone());
        }
        let former = done.waker.replace(context.waker().clone());
        drop(done); // before the waker, which may own the log: a close waits for the thread that completes this
        drop(former);
        Poll::Pending
    }
}
