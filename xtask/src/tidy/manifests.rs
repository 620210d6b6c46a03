//! Rules for what is built from what: the crates of others, and the arrows between our own.
//!
//! Owns: the list of crates that may be used, and who may use whom. Does not know: which
//! versions there are; what is fuzzed has those that are shipped.
//! Flow: every `Cargo.toml` and the lock file → offences.

use std::collections::HashSet;

use anyhow::Result;

use super::File;

/// Crates of others. A new one is named here and in the message of its commit, with why it and not its rivals.
const ALLOWED: &[&str] = &[
    "anyhow",
    "atomic-waker",
    "axum",
    "base64",
    "bytes",
    "chrono",
    "chrono-tz",
    "clap",
    "console",
    "crc32c",
    "croner",
    "csv",
    "expect-test",
    "form_urlencoded",
    "getrandom",
    "http",
    "http-body",
    "http-body-util",
    "http-range-header",
    "httpdate",
    "hyper",
    "hyper-rustls",
    "hyper-util",
    "indicatif",
    "jsonwebtoken",
    "libfuzzer-sys",
    "listenfd",
    "memchr",
    "mimalloc",
    "mio",
    "pin-project-lite",
    "prometheus-client",
    "proptest",
    "rustix",
    "semver",
    "serde",
    "serde_json",
    "sha2",
    "slab",
    "socket2",
    "strsim",
    "subtle",
    "tempfile",
    "thiserror",
    "thread-priority",
    "tokio",
    "tokio-util",
    "toml",
    "tower",
    "tracing",
    "tracing-subscriber",
    "xxhash-rust",
];

/// Our own crates, and those of them that each may use. Nothing points up.
const ARROWS: &[(&str, &[&str])] = &[
    ("crates/tidings-core/", &[]),
    ("crates/tidings/", &["tidings-core"]),
    ("crates/tidings-client/", &["tidings-core"]),
    ("crates/tidings-server/", &["tidings", "tidings-client"]),
    ("bench/", &["tidings-core", "tidings-client"]),
    ("examples/", &["tidings", "tidings-client"]),
    ("torture/", &["tidings-core", "tidings-client"]),
    ("xtask/", &[]),
    ("fuzz/", &["tidings-core", "tidings", "tidings-server"]),
];

/// A workspace of its own, so that what fuzzing needs is not built with the rest; its versions stand in its manifest.
const APART: &str = "fuzz/";

/// Crates that must not come in by anybody, in `deny.toml` too.
const DENIED: &[&str] = &["openssl", "openssl-sys", "native-tls"];

pub(super) fn offences(files: &[File]) -> Result<Vec<String>> {
    let mut offences: Vec<String> =
        files.iter().filter(|file| file.path.ends_with("Cargo.toml")).flat_map(manifest).collect();
    let [shipped, fuzzed] = ["Cargo.lock", "fuzz/Cargo.lock"].map(std::fs::read_to_string);
    let (shipped, fuzzed) = (shipped?, fuzzed?);
    offences.extend(lock(&shipped));
    offences.extend(lock(&fuzzed));
    offences.extend(others(&shipped, &fuzzed));
    let [shipped, fuzzed] = ["Cargo.toml", "fuzz/Cargo.toml"].map(std::fs::read_to_string);
    if optimized(&shipped?) != optimized(&fuzzed?) {
        offences.push("fuzz/Cargo.toml: its optimized crates are not those of Cargo.toml".to_owned());
    }
    Ok(offences)
}

fn manifest(file: &File) -> Vec<String> {
    let mut offences = Vec::new();
    let mut section = "";
    let arrows = ARROWS.iter().find(|(folder, _)| file.path.starts_with(folder));
    for line in file.text.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            continue;
        }
        if !section.ends_with("dependencies") || line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let is_own = name == "tidings" || name.starts_with("tidings-");
        if !is_own && !ALLOWED.contains(&name) {
            offences.push(format!("{}: {name} is not in the list of tidy/manifests.rs", file.path));
        }
        if section != "workspace.dependencies" {
            if !line.contains("workspace = true") && !file.path.starts_with(APART) {
                offences.push(format!("{}: {name} has a version here, not in the workspace", file.path));
            }
            if is_own && !arrows.is_some_and(|(_, may)| may.contains(&name)) {
                offences.push(format!("{}: may not use {name}: arrows never point up", file.path));
            }
        }
    }
    offences
}

fn lock(text: &str) -> Vec<String> {
    let mut offences = Vec::new();
    for line in text.lines() {
        let value = line.split_once(" = ").map_or("", |(_, value)| value.trim_matches('"'));
        if line.starts_with("name = ") && DENIED.contains(&value) {
            offences.push(format!("Cargo.lock: {value} is denied"));
        }
        if line.starts_with("source = ") && !value.ends_with("rust-lang/crates.io-index") {
            offences.push(format!("Cargo.lock: {value} is not the public registry"));
        }
    }
    offences
}

/// Crates that are fuzzed in another version than they are shipped in.
fn others(shipped: &str, fuzzed: &str) -> Vec<String> {
    let shipped = versions(shipped);
    let names: HashSet<&str> = shipped.iter().map(|(name, _)| *name).collect();
    let differ = versions(fuzzed).into_iter().filter(|one| names.contains(one.0) && !shipped.contains(one));
    let mut offences: Vec<String> = differ
        .map(|(name, version)| format!("fuzz/Cargo.lock: {name} {version} is not the version of Cargo.lock"))
        .collect();
    offences.sort();
    offences
}

/// Crates that the dev profile optimizes. With another list, what one workspace has built would not serve the other.
fn optimized(manifest: &str) -> HashSet<&str> {
    manifest.lines().filter_map(|line| line.strip_suffix(".opt-level = 1")).collect()
}

/// Names and versions of a lock file.
fn versions(lock: &str) -> HashSet<(&str, &str)> {
    let mut versions = HashSet::new();
    let mut name = "";
    for line in lock.lines() {
        match line.split_once(" = ") {
            Some(("name", value)) => name = value.trim_matches('"'),
            Some(("version", value)) if !name.is_empty() => {
                versions.insert((name, value.trim_matches('"')));
            }
            _ => {}
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn only_listed_crates_come_in_and_arrows_never_point_up() {
        let of = |path: &str, line: &str| manifest(&file(path, &format!("[dependencies]\n{line}\n"))).len();
        assert_eq!(of("crates/tidings/Cargo.toml", "tidings-core.workspace = true"), 0);
        assert_eq!(of("crates/tidings/Cargo.toml", "serde = { workspace = true, features = [\"std\"] }"), 0);
        assert_eq!(of("crates/tidings-core/Cargo.toml", "tidings.workspace = true"), 1);
        assert_eq!(of("crates/tidings/Cargo.toml", "left-pad.workspace = true"), 1);
        assert_eq!(of("crates/tidings/Cargo.toml", "bytes = \"1\""), 1);
        assert_eq!(of("fuzz/Cargo.toml", "bytes = \"1\""), 0);
    }

    #[test]
    fn denied_crates_and_foreign_sources_are_found() {
        assert_eq!(lock("name = \"openssl-sys\"\nsource = \"git+https://host.example/x\"\n").len(), 2);
        assert!(
            lock("name = \"bytes\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n")
                .is_empty()
        );
    }

    #[test]
    fn what_is_fuzzed_in_another_version_is_found() {
        let shipped = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";
        let fuzzed = |version: &str| {
            format!(
                "[[package]]\nname = \"a\"\nversion = \"{version}\"\n[[package]]\nname = \"b\"\nversion = \"9.0.0\"\n"
            )
        };
        assert_eq!(others(shipped, &fuzzed("2.0.0")), Vec::<String>::new());
        assert_eq!(others(shipped, &fuzzed("1.0.1")).len(), 1);
    }

    #[test]
    fn only_what_is_optimized_by_name_is_in_the_list() {
        let manifest =
            "[profile.dev]\nopt-level = 1\n\n[profile.dev.package]\ntokio.opt-level = 1\nb.opt-level = 0\n";
        assert_eq!(optimized(manifest), HashSet::from(["tokio"]));
    }
}
