// SPDX-License-Identifier: Apache-2.0
//! What a sink of the Rust binding promises: part of test.rs.
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::raw::c_ulong;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use twinlog::{ErrorKind, Sink, SinkOptions};

const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const ENOTSUP: i32 = 95;
const EMEDIUMTYPE: i32 = 124;

/// Nothing is expected to take so long; a test that waits for a condition fails then.
const LONGEST: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LONGEST, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is<T>(result: std::io::Result<T>, errno: i32) {
    assert_eq!(result.err().map(|error| error.raw_os_error()), Some(Some(errno)));
}

/// Reads the file as any other program does.
fn has(path: &Path, text: impl AsRef<[u8]>) {
    let (there, text) = (fs::read(path).unwrap(), text.as_ref());
    let begin = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let lengths = (there.len(), text.len());
    assert!(there == text, "{path:?}: {lengths:?} bytes, {:?} and not {:?}", begin(&there), begin(text));
}

/// NAME.1 and so on.
fn beside(path: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

pub fn test(dir: &Path) {
    fn is_send_and_sync<T: Send + Sync + 'static>() {}
    is_send_and_sync::<Sink>();
    fs::create_dir(dir).unwrap();
    is_exact(&dir.join("exact"));
    maps(&dir.join("mapped"));
    misuse(dir);
    is_forked(&dir.join("forked"));
    reopens(&dir.join("reopened"));
    rotates(&dir.join("rotated"));
    keeps_files(&dir.join("kept"));
    tells_why_it_grows(&dir.join("grown"));
    threads_write(&dir.join("threads"));
    closes_beside_writes(&dir.join("closed"));
    serves_loggers(&dir.join("loggers"));
    processes_write(&dir.join("processes"));
    assert!(child("limit", &dir.join("limit"), 0).status().unwrap().success());
}

// ---- one process ----

fn is_exact(path: &Path) {
    let default = SinkOptions::default();
    for options in [default, default.shared(true), default.lines(true), default.shared(true).lines(true)] {
        let mut sink = Sink::open(path, &options).unwrap();
        has(path, "");
        assert_eq!(sink.write(b"one\n").unwrap(), 4);
        has(path, "one\n");

        assert_eq!((&sink).write_vectored(&[IoSlice::new(b"tw"), IoSlice::new(b""), IoSlice::new(b"o\n")]).unwrap(), 4);
        has(path, "one\ntwo\n");
        assert_eq!(sink.write_vectored(&[IoSlice::new(b"three\n")]).unwrap(), 6);
        has(path, "one\ntwo\nthree\n");
        writeln!(&sink, "{} and {}", 4, 5).unwrap();
        has(path, "one\ntwo\nthree\n4 and 5\n");

        assert_eq!((sink.write(b"").unwrap(), sink.write_vectored(&[]).unwrap()), (0, 0));
        sink.flush().unwrap();
        has(path, "one\ntwo\nthree\n4 and 5\n");

        // Another program appends, and makes the file shorter.
        let mut stranger = fs::OpenOptions::new().append(true).open(path).unwrap();
        stranger.write_all(b"of a stranger\n").unwrap();
        sink.write_all(b"behind it\n").unwrap();
        has(path, "one\ntwo\nthree\n4 and 5\nof a stranger\nbehind it\n");
        stranger.set_len(4).unwrap();
        sink.write_all(b"after it\n").unwrap();
        has(path, "one\nafter it\n");

        let large = b"large\n".repeat(1 << 20);
        assert_eq!(sink.write(&large).unwrap(), large.len());
        let whole = [&b"one\nafter it\n"[..], &large].concat();
        has(path, &whole);
        sink.sync().unwrap();
        sink.close().unwrap();
        has(path, &whole);
        fs::remove_file(path).unwrap();
    }
}

fn maps(path: &Path) {
    let options = SinkOptions::default().mapped(true).initial_bytes(1 << 16).growth_bytes(1 << 16);
    let mut sink = Sink::open(path, &options).unwrap();
    sink.write_all(b"one\n").unwrap();
    sink.write_vectored(&[IoSlice::new(b"tw"), IoSlice::new(b"o\n")]).unwrap();
    sink.sync().unwrap();
    assert!(fs::read(path).unwrap().starts_with(b"one\ntwo\n\0\0"));
    is(Sink::open(path, &SinkOptions::default()), EMEDIUMTYPE);
    is(sink.rotate(SystemTime::now()), ENOTSUP);
    assert!(sink.rotation_error().is_none());
    assert!(sink.sync_error().is_none());
    drop(sink);
    has(path, "one\ntwo\n");
}

/// The list in bindings/README.md, as far as it is about a sink; what is not here does not compile.
fn misuse(dir: &Path) {
    let (path, default) = (dir.join("misused"), SinkOptions::default());
    is(Sink::open(&path, &default.mapped(true).lines(true)), EINVAL);
    is(Sink::open(&path, &default.mapped(true).shared(true).max_bytes(1000)), EINVAL);
    is(Sink::open(&path, &default.keep_files(10000)), EINVAL);
    is(Sink::open(&path, &default.mapped(true).initial_bytes(u64::MAX)), EINVAL);
    is(Sink::open(&path, &default.initial_bytes(1 << 16)), EINVAL);
    is(Sink::open(&path, &default.growth_bytes(1 << 16)), EINVAL);
    is(Sink::open(dir.join("misused\0x"), &default), EINVAL);
    assert!(!path.exists());
    is(Sink::open(dir.join("not/here"), &default), ENOENT);
    is(Sink::open(dir, &default), ENOTSUP);

    let sink = Sink::open(&path, &default).unwrap();
    is(Sink::open(&path, &default), EBUSY);
    is(Sink::open(&path, &default.shared(true)), EBUSY);
    is(Sink::open(&path, &default.mapped(true)), EMEDIUMTYPE);
    is(sink.rotate(UNIX_EPOCH + Duration::from_secs(1 << 40)), EINVAL);
    assert!(!sink.rotate(UNIX_EPOCH - Duration::from_secs(1)).unwrap());
    let (mut writer, megabyte) = (&sink, vec![b'x'; 1 << 20]);
    is(writer.write_vectored(&vec![IoSlice::new(&megabyte); 1025]), 90);
    has(&path, "");
}

/// A child has to open the sink itself.
fn is_forked(path: &Path) {
    extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
    }
    let mut sink = Sink::open(path, &SinkOptions::default()).unwrap();
    sink.write_all(b"before\n").unwrap();
    unsafe {
        let child = fork();
        if child == 0 {
            let kind = |error: &std::io::Error| error.get_ref()?.downcast_ref::<twinlog::Error>().map(|own| own.kind);
            let refused = sink.write(b"of the child\n").err().and_then(|error| kind(&error));
            let not_closed = sink.close().err().and_then(|error| kind(&error));
            let is_right = refused == Some(ErrorKind::Forked) && not_closed == Some(ErrorKind::Forked);
            _exit(if is_right { 7 } else { 1 });
        }
        let mut status = 0;
        assert!(waitpid(child, &mut status, 0) == child && status == 7 << 8);
    }
    sink.write_all(b"after\n").unwrap();
    has(path, "before\nafter\n");
}

// ---- other files ----

fn reopens(path: &Path) {
    let old = beside(path, 0);
    let mut sink = Sink::open(path, &SinkOptions::default().shared(true)).unwrap();
    assert!(!sink.reopen().unwrap());
    // The sink's own thread may see the new name first.
    wait_until("the call comes first", || {
        (&sink).write_all(b"old\n").unwrap();
        fs::rename(path, &old).unwrap();
        let was_first = sink.reopen().unwrap();
        has(&old, "old\n");
        has(path, "");
        was_first
    });
    sink.write_all(b"new\n").unwrap();
    has(path, "new\n");
    has(&old, "old\n");

    fs::rename(path, beside(path, 1)).unwrap();
    fs::write(path, "of another program\n").unwrap();
    sink.reopen().unwrap();
    sink.write_all(b"behind it\n").unwrap();
    has(path, "of another program\nbehind it\n");
    has(&beside(path, 1), "new\n");
    sink.sync().unwrap();
}

fn rotates(path: &Path) {
    let mut sink = Sink::open(path, &SinkOptions::default().keep_files(2)).unwrap();
    let hour = Duration::from_secs(3600);
    let (before, soon) = (SystemTime::now() - hour, SystemTime::now() + hour);
    assert!(!sink.rotate(soon).unwrap(), "it is empty");
    sink.write_all(b"one\n").unwrap();
    assert!(!sink.rotate(before).unwrap(), "it is too new");
    assert!(sink.rotate(soon).unwrap());
    has(path, "");
    has(&beside(path, 1), "one\n");
    for text in ["two\n", "three\n"] {
        sink.write_all(text.as_bytes()).unwrap();
        assert!(sink.rotate(soon).unwrap());
    }
    has(path, "");
    has(&beside(path, 1), "three\n");
    has(&beside(path, 2), "two\n");
    assert!(!beside(path, 3).exists());
}

fn keeps_files(path: &Path) {
    for is_mapped in [false, true] {
        let options = SinkOptions::default().mapped(is_mapped).max_bytes(30).keep_files(3);
        let mut sink = Sink::open(path, &options).unwrap();
        for i in 0..10 {
            writeln!(sink, "line {i} of ten").unwrap(); // two of them have 28 bytes
        }
        assert!(sink.rotation_error().is_none());
        sink.close().unwrap();
        has(&beside(path, 3), "line 2 of ten\nline 3 of ten\n");
        has(&beside(path, 2), "line 4 of ten\nline 5 of ten\n");
        has(&beside(path, 1), "line 6 of ten\nline 7 of ten\n");
        has(path, "line 8 of ten\nline 9 of ten\n");
        assert!(!beside(path, 4).exists());
        for file in [path.to_path_buf(), beside(path, 1), beside(path, 2), beside(path, 3)] {
            fs::remove_file(file).unwrap();
        }
    }
}

/// Where the next file cannot have its name the present one grows, until it can.
fn tells_why_it_grows(path: &Path) {
    let mut sink = Sink::open(path, &SinkOptions::default().max_bytes(10).keep_files(1)).unwrap();
    fs::create_dir(beside(path, 1)).unwrap();
    sink.write_all(b"123456789\n").unwrap();
    assert!(sink.rotation_error().is_none());
    sink.write_all(b"more\n").unwrap();
    assert_eq!(sink.rotation_error().unwrap().raw_os_error(), Some(EISDIR));
    has(path, "123456789\nmore\n");

    fs::remove_dir(beside(path, 1)).unwrap();
    let mut written = "123456789\nmore\n".to_string();
    wait_until("the sink tries again", || {
        sink.write_all(b"x\n").unwrap();
        let has_rotated = sink.rotation_error().is_none();
        if !has_rotated {
            written += "x\n";
        }
        has_rotated
    });
    has(&beside(path, 1), written);
    has(path, "x\n");
}

// ---- threads ----

fn threads_write(path: &Path) {
    const WRITERS: usize = 8;
    const LINES: usize = 500;
    let default = SinkOptions::default();
    for options in [default, default.shared(true).lines(true), default.mapped(true)] {
        let sink = Arc::new(Sink::open(path, &options).unwrap());
        let threads = (0..WRITERS).map(|writer| {
            let sink = sink.clone();
            std::thread::spawn(move || {
                let mut sink = &*sink;
                for i in 0..LINES {
                    let line = line_of(writer, i);
                    let (head, rest) = line.as_bytes().split_at(5);
                    match i % 3 {
                        0 => sink.write_all(line.as_bytes()).unwrap(),
                        // In pieces it would be mixed with those of other threads.
                        1 => write!(sink, "{}{}", &line[..5], &line[5..]).unwrap(),
                        _ => {
                            let pieces = [IoSlice::new(head), IoSlice::new(rest)];
                            assert_eq!(sink.write_vectored(&pieces).unwrap(), line.len());
                        }
                    }
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        drop(sink);
        let (counts, torn) = count_lines(path);
        assert_eq!(counts, (0..WRITERS).map(|writer| (writer, LINES)).collect());
        assert!(torn.is_empty(), "{torn:?}");
        fs::remove_file(path).unwrap();
    }
}

/// The last thread that lets go of a sink closes it. What a write returned for is there, and nothing else.
fn closes_beside_writes(path: &Path) {
    const WRITERS: usize = 4;
    for round in 0..20 {
        let sink = Arc::new(Sink::open(path, &SinkOptions::default().mapped(round % 2 == 1)).unwrap());
        let (written, must_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let ending = Arc::new(Barrier::new(WRITERS));
        let threads = (0..WRITERS).map(|_| {
            let (sink, written, must_end, ending) = (sink.clone(), written.clone(), must_end.clone(), ending.clone());
            std::thread::spawn(move || {
                while !must_end.load(Ordering::Relaxed) {
                    (&*sink).write_all(b"line\n").unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                    sink.reopen().unwrap();
                }
                ending.wait();
                drop(sink);
            })
        });
        let threads = threads.collect::<Vec<_>>();
        drop(sink);
        wait_until("there are writes", || written.load(Ordering::Relaxed) > 10 * round);
        must_end.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        has(path, "line\n".repeat(written.load(Ordering::Relaxed)));
        fs::remove_file(path).unwrap();
    }
}

/// What loggers ask of a writer: env_logger's `Target::Pipe` the first, the `MakeWriter` of tracing-subscriber the second.
fn serves_loggers(path: &Path) {
    fn of_pipe(target: Box<dyn Write + Send + 'static>) -> Box<dyn Write + Send + 'static> {
        target
    }
    fn of_arc<W>(writer: &Arc<W>, text: &str)
    where
        for<'a> &'a W: Write,
    {
        writeln!(&**writer, "{text} {}", 2).unwrap();
    }
    let mut pipe = of_pipe(Box::new(Sink::open(path, &SinkOptions::default()).unwrap()));
    writeln!(pipe, "line {}", 1).unwrap();
    has(path, "line 1\n");
    drop(pipe);

    let sink = Arc::new(Sink::open(path, &SinkOptions::default()).unwrap());
    of_arc(&sink, "line");
    has(path, "line 1\nline 2\n");
    let leaked: &'static Sink = Box::leak(Box::new(Sink::open(beside(path, 1), &SinkOptions::default()).unwrap()));
    std::thread::spawn(move || of_pipe(Box::new(leaked)).write_all(b"line 3\n").unwrap()).join().unwrap();
    has(&beside(path, 1), "line 3\n");
}

// ---- other processes ----

/// This program with the arguments of run_child().
fn child(role: &str, path: &Path, number: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--child", role]).arg(path).arg(number.to_string());
    command
}

pub fn run_child(role: &str, path: &Path, number: usize) {
    match role {
        "write" => child_writes(path, number),
        "limit" => child_meets_limit(path),
        _ => panic!("{role}"),
    }
}

/// Lines have different lengths, and some are larger than a page.
fn line_of(writer: usize, i: usize) -> String {
    format!("writer {writer} line {i} {}.\n", "x".repeat(i * i * 37 % 1000 + i % 50 / 49 * 8000))
}

/// How many lines each writer has there, as 0, 1, 2 and so on, and what is no whole line.
fn count_lines(path: &Path) -> (BTreeMap<usize, usize>, Vec<String>) {
    let (mut counts, mut torn) = (BTreeMap::new(), Vec::new());
    for line in fs::read_to_string(path).unwrap().split_inclusive('\n') {
        let words = line.split(' ').collect::<Vec<_>>();
        let number = |place: usize| words.get(place).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
        let (writer, i) = (number(1), number(3));
        if line != line_of(writer, i) {
            torn.push(line.to_string());
            continue;
        }
        let count = counts.entry(writer).or_insert(0);
        assert_eq!(i, *count, "a line of writer {writer}");
        *count += 1;
    }
    (counts, torn)
}

/// Says of each line that it is written, until its input ends.
fn child_writes(path: &Path, number: usize) {
    let mut sink = Sink::open(path, &SinkOptions::default().shared(true).lines(true)).unwrap();
    let has_ended = Arc::new(AtomicBool::new(false));
    let ending = has_ended.clone();
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        ending.store(true, Ordering::Relaxed);
    });
    let mut i = 0;
    while !has_ended.load(Ordering::Relaxed) {
        sink.write_all(line_of(number, i).as_bytes()).unwrap();
        i += 1;
        println!("{i}");
    }
    sink.close().unwrap();
}

struct Writer {
    process: Child,
    /// Lines that it has told of.
    written: Arc<AtomicUsize>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(path: &Path, number: usize) -> Writer {
        let mut process = child("write", path, number).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (output, written) = (BufReader::new(process.stdout.take().unwrap()), Arc::new(AtomicUsize::new(0)));
        let telling = written.clone();
        let listener = std::thread::spawn(move || {
            for line in output.lines() {
                telling.store(line.unwrap().parse().unwrap(), Ordering::Relaxed);
            }
        });
        Writer { process, written, listener: Some(listener) }
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Closes its input. True: it has ended well.
    fn wait(&mut self) -> bool {
        drop(self.process.stdin.take());
        self.listener.take().unwrap().join().unwrap();
        self.process.wait().unwrap().success()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One of four processes is killed while it writes. What it had written is there, and the others go on.
fn processes_write(path: &Path) {
    let mut writers = (0..4).map(|number| Writer::start(path, number)).collect::<Vec<_>>();
    for writer in &writers {
        wait_until("each process has written", || writer.written() >= 100);
    }
    writers[0].process.kill().unwrap();
    assert!(!writers[0].wait());
    for writer in &writers[1..] {
        let more = writer.written() + 100;
        wait_until("the others go on", || writer.written() >= more);
    }
    for writer in &mut writers[1..] {
        assert!(writer.wait());
    }

    let (counts, torn) = count_lines(path);
    for (number, writer) in writers.iter().enumerate() {
        // of the one that was killed, a line may be there of which it could not tell
        let is_right = counts[&number] == writer.written() || number == 0 && counts[&number] == writer.written() + 1;
        assert!(is_right, "{} lines of writer {number}, which has written {}", counts[&number], writer.written());
    }
    let next = line_of(0, counts[&0]);
    assert!(torn.len() <= 1 && torn.iter().all(|line| next.starts_with(line.trim_end_matches('\n'))), "{torn:?}");
}

/// Of files of this process; None: as large as it may be.
fn limit_files(bytes: Option<c_ulong>) {
    #[repr(C)]
    struct Limit(c_ulong, c_ulong);
    extern "C" {
        fn getrlimit(which: i32, limit: *mut Limit) -> i32;
        fn setrlimit(which: i32, limit: *const Limit) -> i32;
    }
    const RLIMIT_FSIZE: i32 = 1;
    let mut limit = Limit(0, 0);
    unsafe {
        assert_eq!(getrlimit(RLIMIT_FSIZE, &mut limit), 0);
        limit.0 = bytes.unwrap_or(limit.1);
        assert_eq!(setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
}

/// A write meets the limit of the process on the size of files, and works when there is none.
fn child_meets_limit(path: &Path) {
    extern "C" {
        fn signal(signal: i32, action: usize) -> usize;
    }
    const SIGXFSZ: i32 = 25;
    const SIG_IGN: usize = 1;
    unsafe { signal(SIGXFSZ, SIG_IGN) };
    let line = format!("{}\n", "x".repeat(99));
    let refuses = |mut sink: &Sink, lines: usize| {
        for _ in 0..3 {
            is(sink.write(line.as_bytes()), EFBIG);
            has(path, line.repeat(lines));
        }
    };
    let takes = |mut sink: &Sink, lines: usize| {
        wait_until("the sink knows that there is no limit", || match sink.write(line.as_bytes()) {
            Ok(bytes) => bytes == line.len(),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(EFBIG));
                false
            }
        });
        has(path, line.repeat(lines));
    };

    limit_files(Some(4050)); // before it is opened
    let sink = Sink::open(path, &SinkOptions::default()).unwrap();
    for _ in 0..40 {
        (&sink).write_all(line.as_bytes()).unwrap();
    }
    refuses(&sink, 40);
    limit_files(None);
    takes(&sink, 41);

    limit_files(Some(4150)); // below a sink that is open, in the middle of a line
    refuses(&sink, 41);
    limit_files(None);
    takes(&sink, 42);
    sink.close().unwrap();
    has(path, line.repeat(42));
}
