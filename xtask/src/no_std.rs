//! The proof that `tidings-core` decides without an operating system.
//!
//! Owns: how that is shown. Does not know: what the crate does.
//! Flow: a target without `std` → `cargo check`; where none is installed → the attribute and the imports.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::step::{STEP_LIMIT, command};

/// Targets that have no `std`, so that a crate which compiles for one needs none.
const BARE: &[&str] = &["x86_64-unknown-none", "aarch64-unknown-none", "thumbv7em-none-eabi"];

const SOURCES: &str = "crates/tidings-core/src";

/// Fails if the core could reach `std`.
pub(crate) fn run() -> Result<()> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let sysroot = String::from_utf8(sysroot.stdout)?;
    let installed = Path::new(sysroot.trim()).join("lib/rustlib");
    if let Some(target) = BARE.iter().find(|target| installed.join(target).is_dir()) {
        let mut check = Command::new("cargo");
        check.args(["check", "--quiet", "-p", "tidings-core", "--target", target]);
        return command(check, STEP_LIMIT);
    }
    println!("no bare target is installed ({}): reading the sources instead", BARE.join(", "));
    let root = std::fs::read_to_string(Path::new(SOURCES).join("lib.rs"))?;
    let lines: Vec<&str> = root.lines().map(str::trim).collect();
    ensure!(lines.contains(&"#![no_std]"), "{SOURCES}/lib.rs has no #![no_std]");
    // Without `extern crate std` the compiler itself refuses every `std::` path of the crate.
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("extern crate std")) {
        let before = number.checked_sub(1).and_then(|before| lines.get(before)).copied();
        ensure!(before == Some("#[cfg(test)]"), "{SOURCES}/lib.rs: {line:?} is not for tests only");
    }
    folder(Path::new(SOURCES), &root)
}

/// Nowhere but in the root may `std` be brought in.
fn folder(folder: &Path, root: &str) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            self::folder(&path, root)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            if text != root && text.contains("extern crate std") {
                bail!("{} brings in std", path.display());
            }
        }
    }
    Ok(())
}
