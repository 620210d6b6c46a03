//! `tidings log` as its users run it.
//!
//! Owns: exit codes and lines. Does not know: how damage is found. Flow: a folder with a log → the binary → what it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

use tidings::core::ChannelName;
use tidings::log::disk::{DiskLog, Options};
use tidings::log::{Append, Flags, Group, Log};

fn tidings(command: &str, folder: &Path) -> (i32, String, String) {
    let mut tidings = Command::new(env!("CARGO_BIN_EXE_tidings"));
    let Output { status, stdout, stderr } =
        tidings.args(["log", command, "--data"]).arg(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn open(folder: &Path) -> DiskLog {
    DiskLog::open(folder, Options::default().segment_bytes(4 << 10).reserve_bytes(0)).unwrap()
}

fn publish(log: &DiskLog, n: u64) {
    let event = Append {
        channel: ChannelName::parse("orders").unwrap(),
        body: format!("channel: orders\ntime: {n}\ndata: {{\"n\":{n}}}\n").into(),
        private: None,
        expected_prev: None,
        key: None,
        time_ms: n,
        expires_at_ms: None,
        flags: Flags::default(),
    };
    log.append(&[Group { events: vec![event], idempotency: None }]).unwrap();
}

#[test]
fn a_damaged_log_is_named_shown_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    (1..=100).for_each(|n| publish(&log, n));
    let (code, _, error) = tidings("repair", folder.path());
    assert_eq!(code, 1);
    assert!(error.contains("is in use by a running server: stop it"), "{error}");
    let (code, lines, _) = tidings("verify", folder.path());
    assert_eq!(code, 0, "beside a running server: {lines}");
    drop(log);
    let (code, lines, _) = tidings("repair", folder.path());
    assert_eq!((code, lines.as_str()), (0, "nothing keeps this log from opening: nothing was changed\n"));

    let segment = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = segment.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    segments.sort();
    let mut bytes = std::fs::read(&segments[1]).unwrap();
    bytes[700] ^= 1;
    std::fs::write(&segments[1], bytes).unwrap();
    let (code, lines, _) = tidings("verify", folder.path());
    let place = format!("{}: offset ", segments[1].display());
    assert!(code == 1 && lines.contains(&place) && lines.contains(": 1 problem"), "{lines}");
    let (code, lines, error) = tidings("export", folder.path());
    assert_eq!((code, lines.lines().count()), (1, 99));
    assert!(error.contains("offset"), "{error}");
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["channel"], &events[0]["data"]["n"]), (&"orders".into(), &1.into()));
    let (code, lines, _) = tidings("dump", folder.path());
    assert!(code == 1 && lines.contains("PROBLEM"), "{lines}");

    let (code, lines, error) = tidings("repair", folder.path());
    assert_eq!(code, 0, "{lines}{error}");
    assert!(lines.contains("kept every event up to ") && lines.contains(" to 100, "), "{lines}");
    assert!(lines.contains("repair-"), "{lines}");
    let (code, lines, _) = tidings("verify", folder.path());
    assert_eq!(code, 0, "{lines}");
    publish(&open(folder.path()), 101);
}

#[test]
fn a_folder_without_a_log_does_not_pass_for_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["verify", "dump", "export", "repair"] {
        let (code, lines, error) = tidings(command, folder.path());
        assert_eq!((code, lines.as_str()), (1, ""), "{command}");
        assert!(error.contains("there is no log in"), "{command}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
}
