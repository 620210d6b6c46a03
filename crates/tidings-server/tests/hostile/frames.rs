//! HTTP/2 as bytes: frames that no client would send. HPACK without any table.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::server::Server;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Names of error codes (RFC 9113 §7).
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        // A number with a prefix of seven bits (RFC 7541 §5.1).
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text.as_bytes());
    }
    out
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// The header block of a GET.
pub fn get(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let start = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    block(&[&start[..], more].concat())
}

pub struct Peer {
    socket: TcpStream,
}

impl Peer {
    pub fn connect(server: &Server, settings: &[(u16, u32)]) -> Self {
        let mut socket = server.connect();
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &payload)].concat();
        socket.write_all(&start).unwrap();
        Self { socket }
    }

    /// Sends; whether the server still takes it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// The next frame that says something: `200`, `400 some_code`, `RST_STREAM NAME`, `GOAWAY NAME`, `pong`, or `closed`.
    pub fn came(&mut self) -> String {
        let mut problem: Option<String> = None;
        loop {
            let mut head = [0; 9];
            if self.socket.read_exact(&mut head).is_err() {
                return problem.unwrap_or_else(|| "closed".into());
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if self.socket.read_exact(&mut payload).is_err() {
                return "closed".into();
            }
            let error = |at: usize| {
                let code =
                    payload.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
                ERRORS.get(code as usize).copied().unwrap_or("?")
            };
            match head[3] {
                RST_STREAM => return problem.unwrap_or_else(|| format!("RST_STREAM {}", error(0))),
                GOAWAY if error(4) == "NO_ERROR" => {}
                GOAWAY => return format!("GOAWAY {}", error(4)),
                PING if head[4] & 1 != 0 => return "pong".into(),
                HEADERS => {
                    let status = status(&payload);
                    if head[4] & END_STREAM != 0 || status < 400 {
                        return status.to_string();
                    }
                    problem = Some(status.to_string());
                }
                DATA => {
                    let body: serde_json::Value = serde_json::from_slice(&payload).unwrap_or_default();
                    if let (Some(status), Some(code)) = (&problem, body["code"].as_str()) {
                        return format!("{status} {code}");
                    }
                }
                _ => {}
            }
        }
    }
}

/// The status of an answer, which stands first: an index of HPACK's static table, or a value behind one.
fn status(block: &[u8]) -> u16 {
    match block.first() {
        Some(first @ 0x88..=0x8e) => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        Some(_) => {
            let value = block.get(1..).unwrap_or_default();
            match value.first() {
                Some(&length) if length & 0x80 == 0 => {
                    let text = value.get(1..1 + usize::from(length)).unwrap_or_default();
                    String::from_utf8_lossy(text).parse().unwrap_or(0)
                }
                Some(_) => digits(value.get(1..).unwrap_or_default()),
                None => 0,
            }
        }
        None => 0,
    }
}

/// Three digits in HPACK's Huffman code, where 0, 1 and 2 have five bits and the others six.
fn digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let take = |at: usize, count: usize| {
        bits.get(at..at + count)
            .unwrap_or_default()
            .iter()
            .fold(0_u16, |number, bit| number << 1 | u16::from(*bit))
    };
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let five = take(at, 5);
        let (digit, used) = if five < 3 { (five, 5) } else { (take(at, 6).saturating_sub(0x19 - 3), 6) };
        (at, status) = (at + used, status * 10 + digit);
    }
    status
}
