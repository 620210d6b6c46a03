//! Several listeners, and what is left when descriptors run out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::process::{PATIENCE, Process, ask, connect, read_until};
use crate::{folder, refused};

const BODY: &str = r#"{"channel":"a","data":1}"#;

#[test]
fn each_listener_shows_what_it_is_for_and_nothing_else() {
    let zero = "127.0.0.1:0";
    let flags = ["--dev", "--listen", zero, "--publish-listen", zero, "--admin-listen", zero];
    let process = Process::serve("", &flags, 3);
    let [public, publish, admin] = process.addresses[..] else { panic!("three listeners") };
    for (path, shown) in [
        ("/metrics", [404, 404, 200]),
        ("/readyz", [404, 404, 200]),
        ("/v1/connections", [404, 404, 200]),
        ("/healthz", [200, 200, 200]),
        ("/v1/channels?channel=a", [200, 200, 404]),
        ("/v1/jobs", [200, 200, 404]),
    ] {
        let statuses = [public, publish, admin].map(|address| ask(address, "GET", path, "").0);
        assert_eq!(statuses, shown, "{path}");
    }
    assert_eq!(
        ask(public, "GET", "/metrics", "").1.replace("/metrics", ""),
        ask(public, "GET", "/metricz", "").1.replace("/metricz", "")
    );
    assert_eq!(ask(publish, "POST", "/v1/publish", BODY).0, 201);
    assert_eq!(ask(admin, "POST", "/v1/publish", BODY).0, 404);
    assert!(ask(admin, "GET", "/metrics", "").1.contains("tidings_published_total 1"));
    // As in the container that the server runs in, with its environment.
    let health = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .arg("health")
        .env("TIDINGS_LISTEN", public.to_string())
        .env("TIDINGS_ADMIN_LISTEN", admin.to_string())
        .output()
        .unwrap();
    assert!(health.status.success(), "{health:?}");
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    let folder = folder();
    let one = "127.0.0.1:4999";
    let flags = ["serve", "--dev", "--listen", one, "--admin-listen", one];
    refused(&flags, folder.path(), &["--listen and --admin-listen are both 127.0.0.1:4999"]);
    let public = ["serve", "--dev", "--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:4999"];
    refused(&public, folder.path(), &["--admin-listen 0.0.0.0:4999", "loopback"]);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "a refusal leaves nothing behind");
}

fn subscribe(process: &Process) -> TcpStream {
    let address = process.addresses[0];
    let mut socket = connect(address);
    write!(socket, "GET /events?channel=a HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    read_until(&mut socket, "tidings.hello");
    socket
}

#[test]
fn beyond_the_memory_budget_streams_are_asked_to_come_back_and_publishes_go_on() {
    let process = Process::serve("", &["--dev", "--listen", "127.0.0.1:0", "--memory-mib", "1"], 1);
    let address = process.addresses[0];
    let mut socket = connect(address);
    write!(socket, "GET /events?channel=a HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\nretry: "), "{answer}");
    let (status, problem) = ask(address, "GET", "/events?channel=a", "");
    assert_eq!((status, problem.contains("\"overloaded\"")), (503, true), "{problem}");
    assert_eq!(ask(address, "POST", "/v1/publish", BODY).0, 201);
    let metrics = ask(address, "GET", "/metrics", "").1;
    let used = metrics.lines().find_map(|line| line.strip_prefix("tidings_memory_bytes ")).unwrap();
    assert!(used.parse::<u64>().unwrap() > 1 << 20, "{used}");
}

/// Seconds of processor time that a process has used.
fn processor_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn with_more_connections_than_descriptors_streams_and_the_log_go_on() {
    let flags = ["--dev", "--listen", "127.0.0.1:0", "--head-s", "60", "--segment-mib", "1"];
    let process = Process::serve("ulimit -n 400", &flags, 1);
    let address = process.addresses[0];
    let mut streams: Vec<TcpStream> = (0..5).map(|_| subscribe(&process)).collect();
    let silent: Vec<TcpStream> =
        (0..600).filter_map(|_| TcpStream::connect_timeout(&address, PATIENCE).ok()).collect();
    assert!(silent.len() > 400, "{}", silent.len());
    let used = processor_seconds(process.id());
    let begun = Instant::now();
    // Several segments' worth: the log needs descriptors too.
    for n in 0..20 {
        let data = format!(r#"{{"channel":"a","data":"{n} {}"}}"#, "x".repeat(200_000));
        let (status, answer) = ask(address, "POST", "/v1/publish", &data);
        assert_eq!(status, 201, "{answer}");
    }
    for stream in &mut streams {
        read_until(stream, "data: \"19 ");
    }
    std::thread::sleep(Duration::from_secs(1));
    let seconds = processor_seconds(process.id()) - used;
    assert!(seconds < 0.8 * begun.elapsed().as_secs_f64() + 0.5, "{seconds} s of processor time");
    assert!(silent.len() > 400);
}

/// What the process may open from now on, whatever it found when it started.
fn descriptors(process: &Process, count: u64) {
    let pid = Pid::from_raw(process.id().try_into().unwrap());
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(count), maximum: Some(2_000) });
    before.unwrap();
}

fn until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn open_descriptors(process: &Process) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count() as u64
}

#[test]
fn when_accepting_fails_for_want_of_descriptors_streams_go_on_and_others_come_in_later() {
    let flags = ["--dev", "--listen", "127.0.0.1:0", "--head-s", "60"];
    let process = Process::serve("ulimit -n 2000", &flags, 1);
    let address = process.addresses[0];
    let mut streams: Vec<TcpStream> = (0..5).map(|_| subscribe(&process)).collect();
    let alone = open_descriptors(&process);
    let idle: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
    until(|| open_descriptors(&process) == alone + 4);
    // Nothing that is open is closed by this, and nothing more can be opened: accept(2) fails with EMFILE.
    descriptors(&process, open_descriptors(&process));
    let silent: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    until(|| process.said("Too many open files") > 0);
    let used = processor_seconds(process.id());
    let begun = Instant::now();
    // Those who ask nothing make room for others, one after the other.
    assert_eq!(ask(address, "POST", "/v1/publish", r#"{"channel":"a","data":"meanwhile"}"#).0, 201);
    for stream in &mut streams {
        read_until(stream, "data: \"meanwhile\"");
    }
    std::thread::sleep(Duration::from_secs(1));
    let seconds = processor_seconds(process.id()) - used;
    assert!(seconds < 0.5 * begun.elapsed().as_secs_f64(), "{seconds} s of processor time");
    descriptors(&process, 2_000);
    assert_eq!(ask(address, "POST", "/v1/publish", BODY).0, 201, "there is room again");
    for stream in &mut streams {
        read_until(stream, "data: 1\n");
    }
    assert_eq!(idle.len() + silent.len(), 14);
}
