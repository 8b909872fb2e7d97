// SPDX-License-Identifier: Apache-2.0
//! What the Rust binding promises. With one argument, a directory that does not exist yet, it tests; without one it
//! prints what the C compiler has to find true. With `--child` it is a process of test_sink.rs.
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;
use twinlog::{Change, Committer, Consumer, Edit, Entry, ErrorKind, Level, Log, Options, Reader, Submission, Terms};

mod test_sink;

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}

struct Unpark(Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    let waker = Arc::new(Unpark(std::thread::current())).into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn print_layout() {
    println!("#include <stddef.h>\n#include <twinlog_admin.h>\n#include <twinlog_sink.h>");
    twinlog_sys::layout(&mut |name, field, number| {
        let field = field.trim_start_matches("r#");
        let what = if field.is_empty() { format!("sizeof(struct {name})") } else { format!("offsetof(struct {name}, {field})") };
        println!("_Static_assert({what} == {number}, \"{name} {field}\");");
    });
    for (name, flag) in [
        ("SHARED", twinlog_sys::TWINLOG_SINK_SHARED),
        ("DROP_ZEROS", twinlog_sys::TWINLOG_SINK_DROP_ZEROS),
        ("MAPPED", twinlog_sys::TWINLOG_SINK_MAPPED),
        ("LINES", twinlog_sys::TWINLOG_SINK_LINES),
    ] {
        println!("_Static_assert(TWINLOG_SINK_{name} == {flag}, \"{name}\");");
    }
}

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    let dir = match &arguments[1..] {
        [] => return print_layout(),
        [dir] => dir.clone(),
        [child, role, path, number] if child == "--child" => {
            return test_sink::run_child(role, path.as_ref(), number.parse().unwrap());
        }
        other => panic!("{other:?}"),
    };
    let missing = Log::open(format!("{dir}/not/here"), &Options::default()).err().unwrap();
    assert!(missing.to_string().starts_with(&format!("{dir}/not/here: cannot create")));
    assert!(Reader::open("not/here", 0).err().unwrap().to_string().starts_with("not/here: cannot open the log's directory: No such file"));
    assert_eq!(missing.kind, ErrorKind::Os(2));
    let missing = std::io::Error::from(missing);
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    assert!(missing.to_string().contains("not/here"));
    assert!(missing.get_ref().and_then(|inner| inner.downcast_ref::<twinlog::Error>()).unwrap().path.is_some());
    assert_eq!(Log::open("a\0b", &Options::default()).err().unwrap().kind, ErrorKind::Os(22));

    let log = Log::open(&dir, &Options::default().segment_bytes(1 << 20).flush_interval(Duration::from_secs(60))).unwrap();
    let busy = Log::open(&dir, &Options::default()).err().unwrap();
    assert_eq!(busy.kind, ErrorKind::Os(16));
    assert!(busy.report.unwrap().text.contains(&std::process::id().to_string()));
    assert_eq!(log.append(b"one").unwrap(), 1);
    assert_eq!(log.append(b"").unwrap(), 2);
    let batch = [Entry { data: b"three", kind: 7, tag: 300, time_ns: 5 }, Entry { data: b"four", ..Default::default() }];
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(log.append_batch(&batch, &Terms::default().timeout(hour)).unwrap(), 3);
    assert_eq!(log.append_batch(&[], &Terms::default()).unwrap_err().kind, ErrorKind::Os(22));
    let lsn = log.append_batch(&batch[..1], &Terms::default().level(Level::Buffered)).unwrap();
    log.set_flush_interval(Duration::from_millis(5)).unwrap();
    while log.durable_lsn() < lsn {
        std::thread::sleep(Duration::from_millis(5));
    }
    log.set_flush_interval(Duration::ZERO).unwrap();
    log.wait(lsn, Level::OfMode, None).unwrap();
    log.sync().unwrap();
    assert_eq!((log.first_lsn(), log.last_lsn(), log.durable_lsn(), log.stat().unwrap().appends), (1, 5, 5, 5));
    let edits = [Edit::SetMeta("snapshot", b"dump-3"), Edit::SetCursor("copy", 3), Edit::RemoveMeta("none")];
    let last = log.append_batch(&batch[..1], &Terms::default().level(Level::Buffered)).unwrap();
    assert_eq!(log.change(&edits, &Change::default().durable(last)).unwrap(), 0);
    assert_eq!(log.durable_lsn(), last);
    assert_eq!(log.meta("snapshot").unwrap().unwrap(), b"dump-3");
    assert_eq!(log.cursor("copy").unwrap(), Some(3));
    let undone = [Edit::SetMeta("snapshot", b"dump-9"), Edit::SetCursor("copy", 99)];
    assert_eq!(log.change(&undone, &Change::default()).unwrap_err().kind, ErrorKind::Os(34));
    assert_eq!(log.meta("snapshot").unwrap().unwrap(), b"dump-3");
    let removed = [Edit::RemoveMeta("snapshot"), Edit::RemoveCursor("copy")];
    log.change(&removed, &Change::default()).unwrap();
    assert_eq!(log.meta("snapshot").unwrap(), None);
    assert_eq!(log.change(&[], &Change::default()).unwrap_err().kind, ErrorKind::Os(22));
    log.truncate(last - 1).unwrap();
    let too_large = log.append(&vec![0; 64 << 20]).unwrap_err();
    assert_eq!((too_large.kind, too_large.lsn), (ErrorKind::Os(90), 0));

    let mut reader = log.reader(2).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().data, b"");
    let third = reader.next().unwrap().unwrap();
    assert_eq!((third.lsn, third.data, third.kind, third.tag, third.time_ns), (3, &b"three"[..], 7, 300, 5));
    assert_eq!(reader.previous().unwrap().unwrap().lsn, 3);
    reader.seek_end().unwrap();
    assert!(reader.next().unwrap().is_none());
    assert!(!reader.wait(Some(Duration::ZERO)).unwrap());
    assert!(reader.fd().unwrap() >= 0);
    std::thread::scope(|scope| {
        let follower = scope.spawn(move || {
            assert!(reader.wait(None).unwrap());
            reader.next().unwrap().unwrap().lsn
        });
        log.append(b"six").unwrap();
        assert_eq!(follower.join().unwrap(), 6);
    });

    log.set_cursor("billing", 2).unwrap();
    assert_eq!((log.cursor("billing").unwrap(), log.cursor("none").unwrap()), (Some(2), None));
    assert_eq!(log.set_cursor("a\0b", 2).unwrap_err().kind, ErrorKind::Os(22));
    assert_eq!(log.trim(5).unwrap(), 3);
    log.remove_cursor("billing").unwrap();
    log.set_meta("vote", b"me").unwrap();
    assert_eq!((log.meta("vote").unwrap(), log.meta("none").unwrap()), (Some(b"me".to_vec()), None));
    log.remove_meta("vote").unwrap();
    log.truncate(5).unwrap();
    let mut reader = Reader::open(&dir, 0).unwrap();
    reader.seek(1).unwrap();
    let trimmed = reader.next().unwrap_err();
    assert_eq!(trimmed.kind, ErrorKind::Trimmed);
    assert!(!trimmed.to_string().is_empty() && trimmed.report.unwrap().first_lsn == 3);
    reader.seek_first().unwrap();
    reader.seek_time(0).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().lsn, 3);
    log.reset(100).unwrap();
    assert_eq!(log.append(b"hundred").unwrap(), 100);
    log.skip(103).unwrap();
    assert_eq!((log.append(b"third").unwrap(), log.read(102).unwrap_err().kind), (103, ErrorKind::Os(2)));
    log.close().unwrap();
    drop(Log::open(&dir, &Options::default()).unwrap());
    Log::open(&dir, &Options::default()).unwrap().close().unwrap();

    is_send::<Log>();
    is_sync::<Log>();
    is_send::<Reader>();
    is_send::<Consumer>();
    is_send::<Submission>();
    is_sync::<Submission>();
    reads_one_record(&format!("{dir}.read"));
    consumes(&format!("{dir}.consumer"));
    names_the_place(&format!("{dir}.damaged"));
    submits(&format!("{dir}.submissions"));
    reads_payloads(&format!("{dir}.payloads"));
    commits_in_a_loop(&format!("{dir}.loop"));
    commits_for_many(&format!("{dir}.many"));
    follows(&format!("{dir}.stream"));
    misuse(&format!("{dir}.misuse"));
    closes_in_a_waker(&format!("{dir}.waker"));
    closes_where_a_waker_is_dropped(&format!("{dir}.owner"));
    test_sink::test(format!("{dir}.sinks").as_ref());
}

/// A stream of records, which another thread appends while a task waits for them.
fn follows(dir: &str) {
    struct Next<'a>(&'a mut Reader<'static>);
    impl Future for Next<'_> {
        type Output = twinlog::Result<twinlog::OwnedRecord>;
        fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            self.0.poll_next(context)
        }
    }
    let log = Log::open(dir, &Options::default().keep_age(Duration::MAX).lock_timeout(Duration::MAX)).unwrap();
    let mut reader = Reader::open(dir, 0).unwrap();
    let mut consumer = Consumer::open(dir, "billing").unwrap();
    std::thread::scope(|scope| {
        let follower = scope.spawn(move || {
            let lsns = (0..100).map(|_| block_on(Next(&mut reader)).unwrap().lsn).collect::<Vec<_>>();
            reader.seek(1).unwrap();
            assert_eq!(block_on(Next(&mut reader)).unwrap().data, b"x");
            lsns
        });
        for _ in 0..100 {
            log.append(b"x").unwrap();
        }
        assert_eq!(follower.join().unwrap(), (1..=100).collect::<Vec<u64>>());
    });
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    assert!(matches!(consumer.poll_next(&mut context), Poll::Ready(Ok(record)) if record.lsn == 1));
    consumer.commit(0).unwrap();
    assert_eq!(log.cursor("billing").unwrap(), Some(1));
}

/// The list in bindings/README.md; what is not here does not compile.
fn misuse(dir: &str) {
    let is = |error: Option<twinlog::Error>, errno| assert_eq!(error.map(|e| e.kind), Some(ErrorKind::Os(errno)));
    is(Log::open(format!("{dir}\0x"), &Options::default()).err(), 22);
    is(Log::open(dir, &Options::default().segment_bytes(1)).err(), 22);
    is(Log::open(dir, &Options::default().flags(1 << 31)).err(), 22);
    assert!(!std::path::Path::new(dir).exists());

    let log = Log::open(dir, &Options::default().buffer_bytes(16384).max_record_bytes(4096)).unwrap();
    is(Reader::open(format!("{dir}\0x"), 0).err(), 22);
    is(Consumer::open(format!("{dir}\0x"), "name").err(), 22);
    for name in ["", "a\0b", &"x".repeat(64)] {
        is(Consumer::open(dir, name).err(), 22);
        is(log.set_cursor(name, 0).err(), 22);
        is(log.set_meta(name, b"value").err(), 22);
    }
    let entry = Entry { data: &[0; 4000], ..Default::default() };
    is(log.append_batch(&[], &Terms::default()).err(), 22);
    is(log.append(&[0; 4097]).err(), 90);
    is(log.append_batch(&[entry; 3], &Terms::default()).err(), 90);
    is(log.submit(&[], &Terms::default()).err(), 22);
    is(log.submit(&[entry; 3], &Terms::default()).err(), 90);
    is(log.set_meta("name", &[0; 4097]).err(), 22);
    is(log.read(0).err(), 22);
    is(log.read(u64::MAX).err(), 34);
    is(log.wait(1, Level::Durable, None).err(), 22);
    is(log.truncate(u64::MAX).err(), 22);
    is(log.reset(0).err(), 22);
    is(log.set_cursor("name", 1).err(), 34);
    is(log.reader(0).unwrap().seek(0).err(), 22);
    assert_eq!((log.last_lsn(), log.meta("name").unwrap(), log.cursors().unwrap().len()), (0, None, 0));

    log.append(b"x").unwrap();
    let mut consumer = Consumer::open(dir, "name").unwrap();
    is(Consumer::open(dir, "name").err(), 16);
    is(consumer.commit(1).err(), 22);

    extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
    }
    unsafe {
        let child = fork();
        if child == 0 {
            let refused = log.append(b"y").err().map(|e| e.kind) == Some(ErrorKind::Forked);
            drop(consumer);
            drop(log);
            _exit(if refused { 7 } else { 1 });
        }
        let mut status = 0;
        assert!(waitpid(child, &mut status, 0) == child && status == 7 << 8);
    }
    assert_eq!(log.append(b"y").unwrap(), 2);
}

/// The thread that wakes a future may be the one that drops the log.
fn closes_in_a_waker(dir: &str) {
    struct Close(std::sync::Mutex<Option<Log>>, std::sync::mpsc::SyncSender<()>);
    impl Wake for Close {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().take().unwrap().close().unwrap();
            self.1.send(()).unwrap();
        }
    }
    for i in 0..50 {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let log = Log::open(format!("{dir}.{i}"), &Options::default()).unwrap();
        let mut submission = Box::pin(log.submit(&[Entry { data: b"a", ..Default::default() }], &Terms::default()).unwrap());
        let close = Arc::new(Close(std::sync::Mutex::new(Some(log)), sender));
        if submission.as_mut().poll(&mut Context::from_waker(&close.into())).is_pending() {
            receiver.recv().unwrap();
            return;
        }
    }
}

/// So may what drops a waker, when another one takes its place.
fn closes_where_a_waker_is_dropped(dir: &str) {
    struct Owner(#[allow(dead_code)] Log);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    let own = Arc::new(Unpark(std::thread::current())).into();
    for i in 0..50 {
        let log = Log::open(format!("{dir}.{i}"), &Options::default()).unwrap();
        let mut submission = Box::pin(log.submit(&[Entry { data: b"a", ..Default::default() }], &Terms::default()).unwrap());
        let is_pending = submission.as_mut().poll(&mut Context::from_waker(&Arc::new(Owner(log)).into())).is_pending();
        if is_pending && submission.as_mut().poll(&mut Context::from_waker(&own)).is_pending() {
            assert_eq!(block_on(submission).unwrap(), 1);
            return;
        }
    }
}

fn reads_one_record(dir: &str) {
    let log = Log::open(dir, &Options::default()).unwrap();
    log.append_batch(&[Entry { data: b"one", kind: 7, tag: 300, time_ns: 5 }], &Terms::default()).unwrap();
    log.append(&[b'x'; 100000]).unwrap();
    log.append(b"").unwrap();
    let one = log.read(1).unwrap();
    assert_eq!((one.lsn, &one.data[..], one.kind, one.tag, one.time_ns), (1, &b"one"[..], 7, 300, 5));
    assert_eq!((log.read(2).unwrap().data, log.read(3).unwrap().data), (vec![b'x'; 100000], vec![]));
    assert_eq!(log.read(4).unwrap_err().kind, ErrorKind::Os(34));
    assert_eq!(log.read(0).unwrap_err().kind, ErrorKind::Os(22));
    log.trim(2).unwrap();
    assert_eq!(log.read(1).unwrap_err().kind, ErrorKind::Trimmed);
    assert_eq!(log.written_lsn(), 3);
}

fn reads_payloads(dir: &str) {
    use std::io::Read;
    let log = Log::open(dir, &Options::default()).unwrap();
    for data in [&b"one "[..], b"", b"two ", &[b'3'; 5000]] {
        log.append(data).unwrap();
    }
    let mut reader = log.reader(0).unwrap();
    let mut payloads = reader.payloads();
    let mut all = Vec::new();
    assert_eq!(payloads.read_to_end(&mut all).unwrap(), 5008);
    assert!(all.starts_with(b"one two 333"));
    assert_eq!(payloads.read(&mut []).unwrap(), 0);
    log.append(b" more").unwrap();
    let mut more = String::new();
    payloads.read_to_string(&mut more).unwrap();
    assert_eq!(more, " more");
}

/// One thread: a task that submits, the loop that commits for it, and a descriptor between them.
fn commits_in_a_loop(dir: &str) {
    let committer = Committer::in_loop().unwrap();
    assert!(committer.fd().unwrap() >= 0);
    let log = Log::open_with(dir, &Options::default(), &committer).unwrap();
    let batch = [Entry { data: b"a", ..Default::default() }, Entry { data: b"b", ..Default::default() }];
    let mut task = Box::pin(async {
        for first in (1..20).step_by(2) {
            assert_eq!(log.submit(&batch, &Terms::default()).unwrap().await.unwrap(), first);
        }
    });
    let waker = Arc::new(Unpark(std::thread::current())).into();
    while task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        if committer.poll(Some(Duration::ZERO)).unwrap() == 0 {
            committer.poll(Some(Duration::from_secs(10))).unwrap(); // a loop waits for its descriptor here
        }
    }
    drop(task);
    assert_eq!(log.durable_lsn(), 20);

    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(log.append(b"of a thread").unwrap(), 21)); // which commits it
    });
    let left = log.submit(&batch, &Terms::default()).unwrap();
    log.close().unwrap(); // completes it
    assert!(committer.poll(Some(Duration::ZERO)).unwrap() == 1);
    assert_eq!(block_on(left).unwrap(), 22);

    let log = Log::open_with(dir, &Options::default(), &committer).unwrap();
    let left = log.submit(&batch, &Terms::default()).unwrap();
    drop(committer);
    drop(log); // and then the committer, which wakes what is left
    assert_eq!(block_on(left).unwrap(), 24);
}

fn commits_for_many(dir: &str) {
    let committer = Committer::with_thread().unwrap();
    assert_eq!(committer.fd().unwrap_err().kind, ErrorKind::Os(22));
    assert_eq!(committer.poll(None).unwrap_err().kind, ErrorKind::Os(22));
    let options = Options::default().buffer_bytes(32 << 10).segment_bytes(1 << 20);
    let logs = (0..8).map(|i| Log::open_with(format!("{dir}.{i}"), &options, &committer).unwrap()).collect::<Vec<_>>();
    drop(committer);
    for log in &logs {
        assert_eq!(log.append(b"x").unwrap(), 1);
        assert_eq!(block_on(log.submit(&[Entry::default()], &Terms::default()).unwrap()).unwrap(), 2);
    }
    let mapped = Options::default().mode(twinlog::Mode::Mapped);
    let committer = Committer::with_thread().unwrap();
    assert_eq!(Log::open_with(format!("{dir}.mapped"), &mapped, &committer).err().unwrap().kind, ErrorKind::Os(22));
}

fn consumes(dir: &str) {
    let log = Log::open(dir, &Options::default()).unwrap();
    log.append(b"a").unwrap();
    log.append(b"b").unwrap();
    for text in [b"a", b"b"] {
        let mut consumer = Consumer::open(dir, "billing").unwrap();
        assert_eq!(Consumer::open(dir, "billing").err().unwrap().kind, ErrorKind::Os(16));
        assert_eq!(consumer.next().unwrap().unwrap().data, text);
        assert_eq!(consumer.commit(100).unwrap_err().kind, ErrorKind::Os(22));
        consumer.commit(0).unwrap();
    }
    assert_eq!(log.cursors().unwrap().into_iter().collect::<Vec<_>>(), [("billing".to_string(), 2)]);
    let mut consumer = Consumer::open(dir, "billing").unwrap();
    assert!(consumer.next().unwrap().is_none() && !consumer.wait(Some(Duration::ZERO)).unwrap());
    assert!(consumer.fd().unwrap() >= 0);
    log.append(b"c").unwrap();
    let consumed = std::thread::spawn(move || {
        assert!(consumer.wait(None).unwrap());
        consumer.next().unwrap().unwrap().data.to_vec()
    });
    assert_eq!(consumed.join().unwrap(), b"c");
    assert_eq!(Consumer::open(dir, "a\0b").err().unwrap().kind, ErrorKind::Os(22));
    assert_eq!(Consumer::open(format!("{dir}.none"), "billing").err().unwrap().kind, ErrorKind::Os(2));
}

fn names_the_place(dir: &str) {
    let log = Log::open(dir, &Options::default()).unwrap();
    log.append(b"x").unwrap();
    log.close().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(format!("{dir}/0000000000000001.twl")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 4096], 4096).unwrap();
    let damaged = Log::open(dir, &Options::default()).err().unwrap();
    assert_eq!(damaged.kind, ErrorKind::Corrupt);
    let text = format!("{dir}: 0000000000000001.twl, offset 4096, LSN 1: record 1");
    assert!(damaged.to_string().starts_with(&text), "{damaged}");
}

fn submits(dir: &str) {
    let log = Log::open(dir, &Options::default()).unwrap();
    let batch = [Entry { data: b"a", ..Default::default() }, Entry { data: b"b", ..Default::default() }];
    let first = log.submit(&batch, &Terms::default()).unwrap();
    let dropped = log.submit(&batch, &Terms::default()).unwrap();
    let last = log.submit(&batch, &Terms::default()).unwrap();
    drop(dropped);
    let lsns = block_on(async { (last.await, first.await) });
    assert_eq!((lsns.0.unwrap(), lsns.1.unwrap()), (5, 1));
    assert!(log.durable_lsn() >= 6);
    assert_eq!(log.submit(&[], &Terms::default()).err().unwrap().kind, ErrorKind::Os(22));
    let left = log.submit(&batch, &Terms::default()).unwrap();
    log.close().unwrap(); // completes it
    assert_eq!(block_on(left).unwrap(), 7);
}
