// SPDX-License-Identifier: Apache-2.0
//! Threads append durably; then the program reads everything back.
//!
//!     cargo run --example example journal

fn main() -> Result<(), twinlog::Error> {
    let dir = std::env::args_os().nth(1).unwrap_or_else(|| {
        eprintln!("usage: example DIR");
        std::process::exit(2)
    });
    let log = twinlog::Log::open(&dir, &Default::default())?;
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for i in 0..25 {
                    log.append(format!("order {i} of worker {worker}").as_bytes()).expect("append");
                    // from here on the order survives a power cut: confirm it to the customer
                }
            });
        }
    });
    log.close()?;

    let mut reader = twinlog::Reader::open(&dir, 0)?;
    let mut count = 0;
    while let Some(record) = reader.next()? {
        count += usize::from(record.data.starts_with(b"order "));
    }
    println!("{count} orders");
    assert_eq!(count, 200);
    Ok(())
}
