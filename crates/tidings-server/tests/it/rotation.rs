//! Keys that change while they are used.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::process::{PATIENCE, Process, ask_as, connect, read_until};

const TURNS: u64 = 100;

/// A secret that is not like the one of any other number.
fn secret(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let digit = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from_digit(u32::try_from(state >> 60).unwrap(), 16).unwrap()
    };
    (0..80).map(digit).collect()
}

/// Puts a secret where the server reads it, at once and whole.
fn put(path: &Path, secret: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, secret).unwrap();
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Lines of a head with a token that was signed with a secret.
fn bearer(kid: &str, secret: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let rights = json!({ "subscribe": ["a"], "publish": ["a"] });
    let claims = json!({ "sub": "42", "exp": now + 600, "tidings": rights });
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
    format!("Authorization: Bearer {token}\r\n")
}

fn publish(address: SocketAddr, lines: &str, number: usize) -> u16 {
    ask_as(address, lines, "POST", "/v1/publish", &format!(r#"{{"channel":"a","data":{number}}}"#)).0
}

/// The numbers that come on a stream, up to one.
fn numbers(socket: &mut TcpStream, last: usize) -> Vec<usize> {
    let text = read_until(socket, &format!("\ndata: {last}\n"));
    text.lines().filter_map(|line| line.strip_prefix("data: ")?.parse().ok()).collect()
}

/// Says that it is over when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn keys_are_exchanged_a_hundred_times_and_no_request_with_another_one_notices() {
    let folder = tempfile::tempdir().unwrap();
    let (stays, turns) = (folder.path().join("stays"), folder.path().join("turns"));
    put(&stays, &secret(0));
    put(&turns, &secret(1));
    let keys = [format!("HS256:stays={}", stays.display()), format!("HS256:turns={}", turns.display())];
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--auth-failures",
        "100000",
        "--jwt-key",
        &keys[0],
        "--jwt-key",
        &keys[1],
    ];
    let process = Process::serve("", &flags, 1);
    let address = process.addresses[0];
    let lasting = bearer("stays", &secret(0));
    let mut stream = connect(address);
    write!(stream, "GET /events?channel=a HTTP/1.1\r\nHost: {address}\r\n{lasting}\r\n").unwrap();
    // What is published before the stream is open is not its own.
    read_until(&mut stream, "tidings.hello");
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                assert_eq!(publish(address, &lasting, number), 201, "request {number}");
            }
        });
        // Whether the turns end or fail: the publisher would go on for ever.
        let ends = Ends(&is_over);
        let mut before = bearer("turns", &secret(1));
        for turn in 2..2 + TURNS {
            put(&turns, &secret(turn));
            kill_process(Pid::from_raw(process.id().try_into().unwrap()).unwrap(), Signal::HUP).unwrap();
            let (now, requests) = (bearer("turns", &secret(turn)), asked.load(Ordering::SeqCst));
            let begun = Instant::now();
            while asked.load(Ordering::SeqCst) < requests + 2
                || ask_as(address, &now, "GET", "/v1/channels?channel=a", "").0 != 200
            {
                assert!(begun.elapsed() < PATIENCE, "the key of turn {turn} is never taken");
            }
            assert_eq!(ask_as(address, &before, "GET", "/v1/channels?channel=a", "").0, 401, "turn {turn}");
            before = now;
        }
        drop(ends);
        publisher.join().unwrap();
    });
    let count = asked.into_inner();
    assert_eq!(numbers(&mut stream, count - 1), (0..count).collect::<Vec<_>>());
    // A file that is no key changes nothing.
    put(&turns, "short");
    kill_process(Pid::from_raw(process.id().try_into().unwrap()).unwrap(), Signal::HUP).unwrap();
    let begun = Instant::now();
    while process.said("the keys stay as they were") == 0 {
        assert!(begun.elapsed() < PATIENCE, "it says so");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(publish(address, &bearer("turns", &secret(1 + TURNS)), count), 201);
}
