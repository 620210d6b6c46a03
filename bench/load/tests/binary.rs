//! The program against its own floor, and against a server that loses and repeats.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn load(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings-load"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn start(args: &[&str]) -> (Running, Value, BufReader<std::process::ChildStdout>) {
    let mut child = load(args).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    (Running(child), serde_json::from_str(&line).unwrap(), out)
}

fn report(args: &[&str]) -> Value {
    let output = load(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_run_against_the_floor_counts_every_delivery() {
    let (floor, said, _out) = start(&["floor", "--listen", "127.0.0.1:0"]);
    let url = format!("http://{}", said["listen"].as_str().unwrap());
    let pid = floor.0.id().to_string();
    let seconds = ["--seconds", "0.2", "--warmup", "0.05"];
    for shape in [
        &["--subscribers", "50"][..],
        &["--subscribers", "60", "--channels", "20", "--publishers", "8", "--open", "8"],
        &["--subscribers", "50", "--rate", "100"],
    ] {
        let prefix = shape.len().to_string() + shape[shape.len() - 1];
        let fanout = ["fanout", "--url", &url, "--pid", &pid, "--prefix", &prefix];
        let report = report(&[&fanout[..], shape, &seconds].concat());
        let channels = report["channels"].as_u64().unwrap();
        let each = report["subscribers"].as_u64().unwrap() / channels;
        let published = report["published"].as_u64().unwrap();
        assert!(published > 0);
        assert_eq!(report["deliveries"].as_u64().unwrap(), published * each, "{report}");
        assert_eq!(report["last_subscriber_us"]["count"].as_u64().unwrap(), published, "{report}");
        assert_eq!(report["faults"]["lost"], 0);
    }
}

#[test]
fn what_a_server_loses_and_repeats_is_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        assert!(socket.read(&mut request).unwrap() > 0);
        let mut bytes = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
        for n in [1, 2, 5, 5, 6] {
            bytes += &format!("data: {{\"n\":{n},\"t\":1,\"p\":\"\"}}\nid: a-{n}\n\n");
        }
        socket.write_all(bytes.as_bytes()).unwrap();
        socket
    });
    let (mut subscribers, said, out) = start(&["subscribers", "--url", &url, "--count", "1"]);
    assert_eq!(said["open"], 1);
    drop(subscribers.0.stdin.take());
    let line = out.lines().next().unwrap().unwrap();
    let report: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["deliveries"], 5);
    assert_eq!((&report["faults"]["lost"], &report["faults"]["repeated"]), (&2.into(), &1.into()));
    drop(server.join().unwrap());
}
