//! `cargo xtask torture --vanish`: peers that are gone without a word, as when a laptop closes or a cable is pulled.
//!
//! Owns: a network of their own for those who vanish, and its end; what the server still holds for them. Does not know: what
//! a stream says beside the numbers of its events.
//! Flow: network → server → good streams and peers of five kinds → the link goes down → events go on → every peer is let go,
//! and every good stream has had everything.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::torture::{Place, Server, build, fresh_seed, http, workspace};

const HERE: &str = "10.213.77.1";
const THERE: &str = "10.213.77.2";
/// Of each kind.
const PEERS: usize = 200;
const GOOD: usize = 200;
/// Between two events.
const PAUSE: Duration = Duration::from_millis(20);
/// How long everything is well.
const WELL: Duration = Duration::from_secs(5);
/// The server's stall time is 30 s; whoever is held for longer than this is held for ever.
const LIMIT: Duration = Duration::from_secs(90);
const PATIENCE: Duration = Duration::from_secs(10);

/// What peers do before they vanish: the beginning of a request, and what they wait for.
const KINDS: [(&str, &str, &str); 5] = [
    (
        "streams that hear every event",
        "GET /events?channel=torture:busy HTTP/1.1\r\nhost: x\r\n\r\n",
        "tidings.hello",
    ),
    (
        "streams that hear nothing",
        "GET /events?channel=torture:quiet HTTP/1.1\r\nhost: x\r\n\r\n",
        "tidings.hello",
    ),
    ("connections that have asked something", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "200 OK"),
    ("half a head", "GET /events HTTP/1.1\r\nhos", ""),
    ("connections that say nothing", "", ""),
];

/// Runs, or says why it cannot.
pub(crate) fn run() -> Result<ExitCode> {
    let network = match Network::new() {
        Ok(network) => network,
        Err(why) => {
            println!("vanish: skipped: {why:#}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let binary = build(&workspace())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let passed = runtime.block_on(vanish(&binary, &network))?;
    println!("vanish: {}", if passed { "passed" } else { "FAILED" });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn vanish(binary: &Path, network: &Network) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let keys = folder.path().join("keys").to_string_lossy().into_owned();
    let key = Command::new(binary)
        .args(["key", "new", "vanish", "--publish", "*", "--admin", "--file", &keys])
        .output()?;
    let authorization = format!("authorization: Bearer {}\r\n", String::from_utf8(key.stdout)?.trim());
    let address: SocketAddr = format!("{HERE}:{}", 20_000 + fresh_seed() % 10_000).parse()?;
    let flags = ["--anonymous", "torture:*", "--api-key-file", &keys, "--streams-per-address", "100000"];
    let more = ["--connections-per-address", "100000", "--head-s", "10", "--idle-s", "20"];
    let place = Place {
        binary: binary.to_path_buf(),
        data: folder.path().join("data"),
        log: folder.path().join("server.log"),
        address,
        access: flags.iter().chain(&more).map(|&flag| flag.to_owned()).collect(),
    };
    let server = Server::start(&place).await?;
    let crowd = Crowd::open(address)?;
    let before = server.descriptors()?;
    let peers = network.peers(address)?;
    ensure!(server.descriptors()? >= before + peers.len(), "not every peer was let in");
    println!(
        "vanish: {GOOD} good streams, {PEERS} of each kind: {}",
        KINDS.map(|(name, ..)| name).join(", ")
    );

    let published = publish(&crowd, address, &authorization, Instant::now() + WELL).await?;
    let well = crowd.late();
    network.vanish()?;
    let begun = Instant::now();
    let mut left_after = None;
    let (mut most_kib, mut more) = (0, 0);
    while left_after.is_none() && begun.elapsed() < LIMIT {
        let until = Instant::now() + Duration::from_secs(1);
        more += publish(&crowd, address, &authorization, until).await?;
        most_kib = most_kib.max(server.memory_kib()?);
        left_after = (server.descriptors()? <= before).then(|| begun.elapsed());
    }
    let held = server.descriptors()?.saturating_sub(before);
    let gone = crowd.late();
    let count = published + more;
    let whole = crowd.finish(count);
    drop(peers);
    println!(
        "before they vanished: {published} events, delivered after p50 {:.1} ms, p99 {:.1} ms",
        well.0, well.1
    );
    println!(
        "behind it: {more} events, delivered after p50 {:.1} ms, p99 {:.1} ms, {most_kib} KiB of memory at most",
        gone.0, gone.1
    );
    match left_after {
        Some(after) => println!("every peer was let go {:.0} s after it had vanished", after.as_secs_f64()),
        None => println!("{held} peers are still held {} s after they vanished", LIMIT.as_secs()),
    }
    println!("{whole} of {GOOD} good streams had all of {count} events, once and in order");
    Ok(left_after.is_some() && whole == GOOD)
}

/// Publishes until then; how many events.
async fn publish(crowd: &Crowd, address: SocketAddr, lines: &str, until: Instant) -> Result<u64> {
    let mut count = 0;
    while Instant::now() < until {
        let at = u64::try_from(crowd.begun.elapsed().as_micros())?;
        let json = format!(r#"{{"channel":"torture:busy","data":{at}}}"#);
        let (status, answer) = http::ask(address, ("POST", "/v1/publish"), lines, &json).await?;
        ensure!(status == 201, "a publish was answered {status}: {answer}");
        crowd.published.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        count += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(count)
}

/// Good streams, each read by a thread of its own.
struct Crowd {
    begun: Instant,
    published: Mutex<Vec<u64>>,
    readers: Vec<JoinHandle<Vec<u64>>>,
    /// Microseconds from each publish to each reader since this was last asked for.
    late: Arc<Mutex<Vec<u64>>>,
    over: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
}

impl Crowd {
    fn open(address: SocketAddr) -> Result<Self> {
        let begun = Instant::now();
        let (late, over, heard) = (Arc::default(), Arc::default(), Arc::default());
        let mut crowd = Self { begun, published: Mutex::default(), readers: Vec::new(), late, over, heard };
        let (_, request, answer) = KINDS[0];
        for _ in 0..GOOD {
            let socket = begin(address, request, answer)?;
            let (late, over, heard) =
                (Arc::clone(&crowd.late), Arc::clone(&crowd.over), Arc::clone(&crowd.heard));
            crowd.readers.push(std::thread::spawn(move || listen(socket, begun, &late, &over, &heard)));
        }
        Ok(crowd)
    }

    /// Milliseconds: the median and the 99th percentile since it was last asked for.
    fn late(&self) -> (f64, f64) {
        let mut late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        late.sort_unstable();
        let at = |part: usize| late.get(late.len() * part / 100).copied().unwrap_or(0);
        let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1e3;
        (ms(at(50)), ms(at(99)))
    }

    /// How many had everything, once and in order.
    fn finish(self, count: u64) -> usize {
        let begun = Instant::now();
        while self.heard.load(Ordering::SeqCst) < count * GOOD as u64 && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.over.store(true, Ordering::SeqCst);
        let published = self.published.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.readers
            .into_iter()
            .filter_map(|reader| reader.join().ok())
            .filter(|heard| *heard == published)
            .count()
    }
}

fn listen(
    mut socket: TcpStream,
    begun: Instant,
    late: &Mutex<Vec<u64>>,
    over: &AtomicBool,
    heard: &AtomicU64,
) -> Vec<u64> {
    let (mut text, mut piece, mut all) = (String::new(), [0; 4_096], Vec::new());
    // Without a word for a moment, it looks whether it is over.
    drop(socket.set_read_timeout(Some(Duration::from_millis(100))));
    while !over.load(Ordering::SeqCst) {
        let count = match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(_) => continue,
        };
        let now = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        text.push_str(&String::from_utf8_lossy(piece.get(..count).unwrap_or_default()));
        while let Some((line, rest)) = text.split_once('\n') {
            if let Some(at) = line.strip_prefix("data: ").and_then(|data| data.parse::<u64>().ok()) {
                all.push(at);
                late.lock().unwrap_or_else(PoisonError::into_inner).push(now.saturating_sub(at));
                heard.fetch_add(1, Ordering::SeqCst);
            }
            text = rest.to_owned();
        }
    }
    all
}

/// A connection that has sent this, and has had that for an answer.
fn begin(address: SocketAddr, request: &str, answer: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request.as_bytes())?;
    // To the end of the event or the answer, and no further.
    let mut got = Vec::new();
    let mut byte = [0];
    let is_whole = |got: &[u8]| {
        String::from_utf8_lossy(got).contains(answer) && got.ends_with(b"\n\n") || got.ends_with(b"ok\n")
    };
    while !answer.is_empty() && !is_whole(&got) {
        socket.read_exact(&mut byte).with_context(|| String::from_utf8_lossy(&got).into_owned())?;
        got.extend_from_slice(&byte);
    }
    Ok(socket)
}

/// A network of its own, at the other end of a cable.
struct Network {
    name: String,
}

impl Network {
    fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "networks of one's own need root");
        let id = std::process::id();
        let network = Self { name: format!("tidings-{id}") };
        ip(&["netns", "add", &network.name])?;
        let (near, far) = (format!("tv{id}a"), "far");
        ip(&["link", "add", &near, "type", "veth", "peer", "name", far, "netns", &network.name])?;
        ip(&["addr", "add", &format!("{HERE}/24"), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&["-n", &network.name, "addr", "add", &format!("{THERE}/24"), "dev", far])?;
        ip(&["-n", &network.name, "link", "set", far, "up"])?;
        Ok(network)
    }

    /// Peers of every kind. A socket belongs to the network in which it was made, whoever has it then.
    fn peers(&self, address: SocketAddr) -> Result<Vec<TcpStream>> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        let opened = std::thread::spawn(move || -> Result<Vec<TcpStream>> {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            let kinds = KINDS.iter().flat_map(|kind| std::iter::repeat_n(kind, PEERS));
            kinds.map(|(_, request, answer)| begin(address, request, answer)).collect()
        });
        match opened.join() {
            Ok(peers) => peers,
            Err(_) => bail!("peers could not be opened"),
        }
    }

    /// The cable is pulled: whatever is sent there is lost, and nothing comes back.
    fn vanish(&self) -> Result<()> {
        ip(&["-n", &self.name, "link", "set", "far", "down"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("vanish: {} stays: {error:#}", self.name);
        }
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .context("ip is missing (on Debian: apt-get install iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
