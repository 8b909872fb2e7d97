// SPDX-License-Identifier: Apache-2.0
//! What the Rust binding promises. With one argument, a directory that does not exist yet, it tests; without one it
//! prints what the C compiler has to find true.
use std::time::Duration;
use twinlog::{Entry, ErrorKind, Level, Log, Options, Reader, Terms};

fn print_layout() {
    println!("#include <stddef.h>\n#include <twinlog.h>");
    twinlog_sys::layout(&mut |name, field, number| {
        let field = field.trim_start_matches("r#");
        let what = if field.is_empty() { format!("sizeof(struct {name})") } else { format!("offsetof(struct {name}, {field})") };
        println!("_Static_assert({what} == {number}, \"{name} {field}\");");
    });
}

fn main() {
    let dir = match std::env::args().nth(1) {
        Some(dir) => dir,
        None => return print_layout(),
    };
    let missing = Log::open(format!("{dir}/not/here"), &Options::default()).err().unwrap();
    assert_eq!(missing.kind, ErrorKind::Os(2));
    assert_eq!(std::io::Error::from(missing).kind(), std::io::ErrorKind::NotFound);
    assert_eq!(Log::open("a\0b", &Options::default()).err().unwrap().kind, ErrorKind::Os(22));

    let log = Log::open(&dir, &Options { segment_bytes: 1 << 20, ..Default::default() }).unwrap();
    assert_eq!(Log::open(&dir, &Options::default()).err().unwrap().kind, ErrorKind::Os(16));
    assert_eq!(log.append(b"one").unwrap(), 1);
    assert_eq!(log.append(b"").unwrap(), 2);
    let batch = [Entry { data: b"three", kind: 7, tag: 300, time_ns: 5 }, Entry { data: b"four", ..Default::default() }];
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(log.append_batch(&batch, &Terms { timeout: hour, ..Default::default() }).unwrap(), 3);
    assert_eq!(log.append_batch(&[], &Terms::default()).unwrap_err().kind, ErrorKind::Os(22));
    let lsn = log.append_batch(&batch[..1], &Terms { level: Level::Buffered, ..Default::default() }).unwrap();
    log.wait(lsn, Level::Default, None).unwrap();
    log.sync().unwrap();
    assert_eq!((log.first_lsn(), log.last_lsn(), log.durable_lsn(), log.stat().unwrap().appends), (1, 5, 5, 5));
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
    assert!(!trimmed.to_string().is_empty());
    reader.seek_first().unwrap();
    reader.seek_time(0).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().lsn, 3);
    log.reset(100).unwrap();
    assert_eq!(log.append(b"hundred").unwrap(), 100);
    log.close().unwrap();
    drop(Log::open(&dir, &Options::default()).unwrap());
    Log::open(&dir, &Options::default()).unwrap().close().unwrap();
}
