//! The binary, from outside: what it refuses, in one clear sentence and with a failure.
//!
//! Owns: what somebody at a terminal sees. Does not know: the inside of the binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test that meets the unexpected has to fail"
)]

mod process;

mod listeners;

mod rotation;

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

mod auth;

/// A refusal is quick; this is for machines that are not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the binary, which has to fail by itself; gives what it said, without logs.
fn refusal(arguments: &[&str], folder: &Path) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("TIDINGS_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("tidings {arguments:?} was not refused");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(!status.success(), "tidings {arguments:?} succeeded");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The refusal is one sentence that names what it is about.
fn refused(arguments: &[&str], folder: &Path, names: &[&str]) {
    let said = refusal(arguments, folder);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("tidings: "), "{said}");
    for name in names {
        assert!(said.contains(name), "{said:?} does not name {name:?}");
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn without_anybody_who_is_known_it_does_not_serve() {
    let folder = folder();
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let names = ["--dev", "--jwt-key", "--api-key-file", "--forward-auth", "--anonymous"];
        refused(&["serve", "--listen", address], folder.path(), &names);
    }
    assert!(!folder.path().join("tidings-data").exists(), "a refusal leaves nothing behind");
}

#[test]
fn dev_on_an_address_that_others_reach_is_refused() {
    let folder = folder();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4080"] {
        refused(&["serve", "--dev", "--listen", address], folder.path(), &[address, "loopback"]);
        refused(&["demo", "--listen", address], folder.path(), &[address, "loopback"]);
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "a refusal leaves nothing behind");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&["serve", "--dev", "--listen", &address], folder.path(), &[&address, "--listen"]);
}

#[test]
fn a_data_folder_that_is_in_use_is_named() {
    let folder = folder();
    let data = folder.path().join("data");
    let settings = tidings::Settings::on_disk(&data).disk_reserve_bytes(0).segment_bytes(1 << 20);
    let hub = tidings::Hub::open(settings).unwrap();
    let data = data.to_str().unwrap();
    refused(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data", data], folder.path(), &[data]);
    hub.close().unwrap();
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let data = file.join("data");
    let data = data.to_str().unwrap();
    refused(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data", data], folder.path(), &[data]);
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let folder = folder();
    let path = ["serve", "--dev", "--events-path", "api/{x}"];
    refused(&path, folder.path(), &["--events-path", "api/{x}"]);
    for flags in [
        &["--events-path", "/healthz"][..],
        &["--events-path", "/a,/a"],
        &["--events-path", "/a/:b"],
        &["--job-route", "/a=t,/a/=u"],
        &["--job-route", "/v1/jobs=t"],
        &["--job-route", "/a=t", "--events-path", "/a"],
    ] {
        let serve = [&["serve", "--dev", "--listen", "127.0.0.1:0"], flags].concat();
        refused(&serve, folder.path(), &["--events-path and --job-route", "path", "/"]);
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "a refusal leaves nothing behind");
    for (arguments, name) in [
        (&["serve", "--dev", "--wings"][..], "--wings"),
        (&["serve", "--dev", "--job-route", "exports"], "exports"),
        (&["serve", "--dev", "--listen", "somewhere"], "somewhere"),
        (&["dance"], "dance"),
    ] {
        let said = refusal(arguments, folder.path());
        assert!(said.contains(name), "{said:?} does not name {name:?}");
    }
}

#[test]
fn a_publish_without_a_server_says_where_it_looked() {
    let folder = folder();
    // A port that was free a moment ago: nobody listens on it.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    refused(&["publish", "orders", "1", "--url", &url], folder.path(), &[&address.to_string()]);
}
