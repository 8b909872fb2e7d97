// SPDX-License-Identifier: Apache-2.0
//! Links libtwinlog: from TWINLOG_LIB_DIR, or where pkg-config says, or where the linker finds it.
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=TWINLOG_LIB_DIR");
    let dir = std::env::var("TWINLOG_LIB_DIR").ok().or_else(|| {
        let found = Command::new("pkg-config").args(["--variable=libdir", "twinlog"]).output().ok()?;
        String::from_utf8(found.stdout).ok().map(|dir| dir.trim().to_string())
    });
    if let Some(dir) = dir.filter(|dir| !dir.is_empty()) {
        println!("cargo:rustc-link-search=native={dir}");
    }
    println!("cargo:rustc-link-lib=twinlog");
}
