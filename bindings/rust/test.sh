#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh BUILD: the Rust binding with the library in BUILD. By rustc alone: nothing of it needs cargo.
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")"
place=$(mktemp -d "$build/bindings-rust.XXXXXX")
trap 'rm -rf "$place"' EXIT
# Scoped threads, which the example uses, came with 1.63.
echo 'fn main() { std::thread::scope(|_| ()) }' >"$place/works.rs"
rustc --edition 2021 -o "$place/works" "$place/works.rs" 2>/dev/null ||
    { echo "SKIP bindings-rust: there is no rustc 1.63"; exit 77; }

rust() { rustc --edition 2021 -L "$place" --out-dir "$place" "$@"; }
rust --crate-type rlib --crate-name twinlog_sys -L "native=$build" -l twinlog twinlog-sys/src/lib.rs
rust --crate-type rlib --crate-name twinlog --extern twinlog_sys twinlog/src/lib.rs
for program in test example; do
    rust -L "native=$build" -C link-arg="-Wl,-rpath,$build" --extern twinlog --extern twinlog_sys "$program.rs"
done
"$place/test" >"$place/layout.c"
cc -std=c11 -fsyntax-only -I ../../include "$place/layout.c"
"$place/test" "$place/log"
"$place/example" "$place/example.log"

# The first program of README.md compiles. It waits for records, so it is not run. std::future::poll_fn came with 1.64.
{
    cat <<'END'
use std::{future::Future, pin::Pin, task::{Context, Poll}, time::Duration};
struct PollFn<F>(F);
impl<T, F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin> Future for PollFn<F> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> { (self.0)(context) }
}
fn poll_fn<T, F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin>(poll: F) -> PollFn<F> { PollFn(poll) }
fn bill(_: &[u8]) {}
pub async fn program() -> Result<(), Box<dyn std::error::Error>> {
END
    sed -n '/^use twinlog::/,/^```$/p' README.md | grep -v '^```$'
    echo 'Ok(()) }'
} >"$place/first.rs"
rust --crate-type lib --emit metadata --extern twinlog -A unused "$place/first.rs"

# The lines of README.md about the sink.
{
    cat <<'END'
use std::{io::{IoSlice, Write}, sync::Arc, time::SystemTime};
fn main() -> std::io::Result<()> {
let (path, head, body, midnight) = ("/", b"GET ", b"/icon\n", SystemTime::UNIX_EPOCH);
END
    sed -n '/^let sink = /,/^```$/p' README.md | grep -v '^```$'
    echo 'Ok(()) }'
} >"$place/readme.rs"
rust -L "native=$build" -C link-arg="-Wl,-rpath,$build" --extern twinlog --extern twinlog_sys -A unused "$place/readme.rs"
(cd "$place" && ./readme)
printf 'GET /\nGET /icon\n' | cmp - "$place/access.log"

# As README.md says.
if command -v cargo >/dev/null; then
    mkdir -p "$place/user/src"
    printf '[package]\nname = "user"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\ntwinlog = { path = "%s/twinlog" }\n' "$PWD" \
        >"$place/user/Cargo.toml"
    cp example.rs "$place/user/src/main.rs"
    (cd "$place/user" && export TWINLOG_LIB_DIR="$build" LD_LIBRARY_PATH="$build" && cargo run -q --offline -- "$place/user.log")
fi

# The crates that would be published: what is in them; and they build, where cargo can make both at once.
cp -R . "$place/crates"
if command -v cargo >/dev/null; then
    for crate in twinlog-sys twinlog; do
        (cd "$place/crates/$crate" && cargo package -q --offline --allow-dirty --list) >"$place/list.txt"
        grep -qx LICENSE "$place/list.txt" || { echo "the crate $crate has no LICENSE"; exit 1; }
    done
fi
if [ "$(printf '1.90\n%s\n' "$(cargo --version 2>/dev/null | cut -d' ' -f2)" | sort -V | head -n 1)" = 1.90 ]; then
    (cd "$place/crates" && TWINLOG_LIB_DIR="$build" cargo package -q --offline --allow-dirty --workspace)
fi

# What must not compile: a log that is closed under its reader, a record that outlives the next step, a
# reader that two threads use, a sink that is used when it is closed.
refuse()
{
    echo "fn main() -> Result<(), Box<dyn std::error::Error>> { let log = twinlog::Log::open(\"x\", &Default::default())?; $1 Ok(()) }" >"$place/refused.rs"
    if rust --emit metadata --extern twinlog "$place/refused.rs" 2>"$place/refused.txt"; then
        echo "this compiles, and must not: $1"
        exit 1
    fi
    grep -q "$2" "$place/refused.txt" || { cat "$place/refused.txt"; exit 1; }
}
refuse 'let mut r = log.reader(0)?; log.close()?; r.next()?;' E0505
refuse 'let mut r = log.reader(0)?; let a = r.next()?; r.next()?; drop(a);' E0499
refuse 'let mut c = twinlog::Consumer::open("x", "c")?; let a = c.next()?; c.commit(0)?; drop(a);' E0499
refuse 'fn shared<T: Sync>(_: T) {} shared(log.reader(0)?);' E0277
refuse 'let s = twinlog::Sink::open("x", &Default::default())?; s.close()?; s.sync()?;' E0382
refuse 'let s = twinlog::Sink::open("x", &Default::default())?; let t = &s; s.close()?; t.sync()?;' E0505
