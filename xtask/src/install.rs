//! Programs from outside that tests drive: browsers, a proxy, languages.
//!
//! Owns: which program comes with which Debian package. Does not know: what the programs are for.
//! Flow: what is missing → installed as root on Debian, else the command to type and a failure.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::{STEP_LIMIT, command};

/// A program, the Debian packages that it takes, and what fails without it.
const NEEDED: &[(&str, &str, &str)] = &[
    ("chromium", "chromium fonts-liberation", "browser tests"),
    ("firefox-esr", "firefox-esr", "browser tests"),
    ("WebKitWebDriver", "webkit2gtk-driver", "browser tests"),
    ("Xvfb", "xvfb", "browser tests in WebKit"),
    ("nginx", "nginx", "proxy tests"),
    ("redis-server", "redis-server", "what concerns BullMQ"),
    ("xfs_io", "xfsprogs", "the power-loss test"),
    ("c++", "g++", "fuzzing"),
    ("curl", "curl", "recipes"),
    ("ruby", "ruby", "recipes"),
    ("python3", "python3", "recipes"),
    ("node", "nodejs", "browser tests"),
    ("npm", "npm", "browser tests"),
];

/// Where administrators' programs are, which are not on everybody's `PATH`.
const ADMIN_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Installs what is missing, or says how.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<_> = NEEDED.iter().filter(|(program, ..)| !is_installed(program)).collect();
    if missing.is_empty() {
        println!(
            "nothing is missing: {}",
            NEEDED.iter().map(|(program, ..)| *program).collect::<Vec<_>>().join(" ")
        );
        return Ok(());
    }
    for (program, package, purpose) in &missing {
        println!("{program} is missing, which {purpose} need: package {package}");
    }
    let packages: Vec<&str> = missing.iter().flat_map(|(_, packages, _)| packages.split(' ')).collect();
    if !Path::new("/etc/debian_version").exists() {
        bail!("install with your package manager: {}", packages.join(" "));
    }
    if !is_root() {
        bail!(
            "type: sudo apt-get update && sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    println!("installing: {}", packages.join(" "));
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command(apt, STEP_LIMIT)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(ADMIN_FOLDERS.iter().map(Into::into))
        .any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
