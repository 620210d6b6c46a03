//! The whole server behind real sockets: any bytes in any pieces on some connections change nothing on another one.
//!
//! Sockets and not a pipe in memory, because the way of a stream leaves hyper with its socket (`http/serve.rs`).

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tidings::{Hub, Publication};
use tidings_core::wire::sse::parse::{Item, Parser};
use tidings_core::{ChannelName, Payload};

use crate::hub::{RUNTIME, settings};
use crate::input::Input;

/// How long an answer is waited for; streams and half requests have none.
const PATIENCE: Duration = Duration::from_millis(3);

/// The witness is a channel that no input of a sane length names by chance.
const WITNESS: &str = "witness/8c1f2f6b-1ad0-4bb2";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct Served {
    hub: Hub,
    addr: SocketAddr,
    witness: Mutex<Witness>,
}

struct Witness {
    stream: TcpStream,
    parser: Parser,
    heard: u64,
}

/// `flags, then pieces`: each a byte of how (which connection, whether it ends), a length, and bytes.
pub fn run(data: &[u8]) {
    let served = served();
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut sockets: Vec<TcpStream> = Vec::new();
    for number in 0..1 + flags % 2 {
        let mut socket = TcpStream::connect(served.addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        if flags >> 2 & 1 << number != 0 {
            socket.write_all(PREFACE).unwrap();
        }
        sockets.push(socket);
    }
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        let how = input.byte();
        let length = if how & 0x80 != 0 { usize::MAX } else { usize::from(input.byte()) };
        let count = sockets.len();
        let socket = &mut sockets[usize::from(how) % count];
        // The server may have hung up, and is right to.
        let _ = socket.write_all(input.take(length));
        if how & 0x40 != 0 {
            let _ = socket.shutdown(Shutdown::Write);
        }
        if how & 0x20 != 0 {
            std::thread::yield_now();
        }
    }
    for socket in &mut sockets {
        answered(socket);
    }
    drop(sockets);
    served.witness.lock().unwrap().hears(&served.hub);
}

fn answered(socket: &mut TcpStream) {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count) = socket.read(&mut piece) {
        if count == 0 || answer.len() > 1 << 20 {
            break;
        }
        answer.extend_from_slice(&piece[..count]);
    }
    let _ = socket.shutdown(Shutdown::Write);
    let starts = |with: &[u8]| answer.starts_with(with);
    assert!(!starts(b"HTTP/1.1 500") && !starts(b"HTTP/1.0 500"), "{}", String::from_utf8_lossy(&answer));
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains(&format!("channel: {WITNESS}")), "somebody else hears the witness: {text}");
}

impl Witness {
    /// Publishes, and hears that and nothing else.
    fn hears(&mut self, hub: &Hub) {
        let number = self.heard + 1;
        let payload = Payload::text(&number.to_string()).unwrap();
        let publication = Publication::new(ChannelName::parse(WITNESS).unwrap(), payload);
        RUNTIME.block_on(hub.publish(publication)).unwrap();
        let mut piece = [0; 1024];
        loop {
            let count = self.stream.read(&mut piece).expect("the witness hears what is published");
            assert_ne!(count, 0, "the witness' stream goes on");
            let mut chunk = &piece[..count];
            while let Some(item) = self.parser.next(&mut chunk).unwrap() {
                let Item::Event(event) = item else { continue };
                if event.event.starts_with("tidings.") {
                    assert_ne!(event.event, "tidings.reset");
                    continue;
                }
                assert_eq!(event.data, number.to_string());
                self.heard = number;
                return;
            }
        }
    }
}

fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| {
        let settings = settings().head_timeout(Duration::from_millis(50)).stall(Duration::from_secs(1));
        let hub = Hub::open(settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (router, own) = {
            let _inside = RUNTIME.enter();
            (hub.router(), hub.clone())
        };
        RUNTIME.spawn(async move {
            // Programs in Rust ignore this signal; this one's `main` is libFuzzer's.
            let _ignored = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe()).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tidings::serve(listener, router, &own, std::future::pending()).await;
        });
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "GET /events?channel={WITNESS}&as=witness-of-8c1f HTTP/1.1\r\nhost: localhost\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        let parser = Parser::new("", 1 << 20);
        Served { hub, addr, witness: Mutex::new(Witness { stream, parser, heard: 0 }) }
    })
}
