//! HTTP/2 that floods, starves or contradicts itself.

use std::time::Duration;

use crate::case::{Case, Outcome, World, is};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, PUSH_PROMISE, Peer, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, field, frame, get,
};

const GROUP: &str = "h2";

pub fn cases() -> Vec<Case> {
    let mut cases = floods();
    cases.extend(contradictions());
    cases.extend(requests());
    cases
}

/// Frames on a connection of their own, and what the server says to them first.
fn says(name: &'static str, must: &'static str, bytes: Vec<u8>) -> Case {
    Case::new(GROUP, name, must, move |world| said(world, &bytes, must))
}

fn said(world: &World, bytes: &[u8], must: &str) -> Outcome {
    let mut peer = Peer::connect(&world.dev, &[]);
    peer.send(bytes);
    let came = peer.came();
    let wanted = must.split(" or ").any(|one| one == came);
    is(came, wanted)
}

fn request(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, fields)
}

fn floods() -> Vec<Case> {
    vec![
        Case::new(GROUP, "2,000 requests that are reset at once", "GOAWAY ENHANCE_YOUR_CALM", |world| {
            let mut peer = Peer::connect(&world.dev, &[]);
            for n in 0..2_000 {
                let stream = 2 * n + 1;
                let pair = [
                    request(stream, &get("/v1/channels?channel=a", &[])),
                    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
                ];
                if !peer.send(&pair.concat()) {
                    break;
                }
            }
            until_away(&mut peer, &["GOAWAY ENHANCE_YOUR_CALM"])
        }),
        Case::new(GROUP, "a head that never ends, in CONTINUATION", "the connection ends", |world| {
            let mut peer = Peer::connect(&world.dev, &[]);
            peer.send(&frame(HEADERS, END_STREAM, 1, &get("/healthz", &[])));
            let piece = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(100)).repeat(100));
            (0..2_000).take_while(|_| peer.send(&piece)).count();
            until_away(&mut peer, &["GOAWAY ENHANCE_YOUR_CALM", "GOAWAY PROTOCOL_ERROR", "closed"])
        }),
        Case::new(GROUP, "20,000 CONTINUATION frames without bytes", "the connection ends", |world| {
            let mut peer = Peer::connect(&world.dev, &[]);
            peer.send(&frame(HEADERS, END_STREAM, 1, &get("/healthz", &[])));
            let piece = frame(CONTINUATION, 0, 1, &[]).repeat(100);
            (0..200).take_while(|_| peer.send(&piece)).count();
            until_away(&mut peer, &["GOAWAY ENHANCE_YOUR_CALM", "GOAWAY PROTOCOL_ERROR", "closed"])
        }),
        flood("20,000 SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        flood("20,000 PING", frame(PING, 0, 0, &[7; 8])),
        flood("20,000 PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        flood("20,000 WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        Case::new(GROUP, "empty DATA for ever", "the stream or the connection ends", |world| {
            let mut peer = Peer::connect(&world.dev, &[]);
            let start = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/v1/publish"),
                (":authority", "localhost"),
            ];
            let json = ("content-type", "application/json");
            peer.send(&frame(HEADERS, END_HEADERS, 1, &block(&[&start[..], &[json]].concat())));
            let piece = frame(DATA, 0, 1, &[]).repeat(100);
            let sent = (0..200).take_while(|_| peer.send(&piece)).count();
            let came = until_away(&mut peer, &["GOAWAY ENHANCE_YOUR_CALM", "closed"]);
            came.map(|came| format!("{came} after {sent}00"))
        }),
        Case::new(GROUP, "101 requests at once", "REFUSED_STREAM for one", |world| {
            let mut peer = Peer::connect(&world.dev, &[]);
            let waiting = get("/events?channel=a", &[]);
            let all: Vec<u8> = (0..101).flat_map(|n| request(2 * n + 1, &waiting)).collect();
            peer.send(&all);
            let came: Vec<String> = (0..101).map(|_| peer.came()).collect();
            let refused = came.iter().filter(|came| *came == "RST_STREAM REFUSED_STREAM").count();
            is(format!("{refused} refused"), refused >= 1).map(|_| "REFUSED_STREAM for one".into())
        }),
        Case::new(
            GROUP,
            "an answer for which there is never a window",
            "the connection ends in its time",
            |world| {
                for _ in 0..20 {
                    world.quick.publish(&format!(r#"{{"channel":"wide","data":"{}"}}"#, "x".repeat(20_000)));
                }
                let mut peer = Peer::connect(&world.quick, &[(4, 0)]);
                peer.send(&request(1, &get("/v1/history?channel=wide", &[])));
                until_away(
                    &mut peer,
                    &["closed", "RST_STREAM CANCEL", "RST_STREAM INTERNAL_ERROR", "GOAWAY NO_ERROR"],
                )
            },
        ),
        Case::new(GROUP, "a connection that asks nothing", "closed in its time", |world| {
            let mut peer = Peer::connect(&world.quick, &[]);
            until_away(&mut peer, &["closed"])
        }),
        Case::new(GROUP, "half of the preface", "closed in its time", |world| {
            use std::io::{Read, Write};
            let mut socket = world.quick.connect();
            socket.write_all(b"PRI * HTTP/2.0\r\n\r\n").unwrap();
            let mut all = Vec::new();
            match socket.read_to_end(&mut all) {
                // What was sent was never read, so the kernel says so.
                Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                    Err(format!("not closed: {error}"))
                }
                Ok(_) | Err(_) => Ok("closed in its time".into()),
            }
        }),
    ]
}

/// Either it is told to calm down, or it costs nothing: a request behind it all is answered.
fn flood(name: &'static str, one: Vec<u8>) -> Case {
    Case::new(GROUP, name, "calmed down, or answered behind it", move |world| {
        let mut peer = Peer::connect(&world.dev, &[]);
        let piece = one.repeat(200);
        for _ in 0..100 {
            if !peer.send(&piece) {
                break;
            }
        }
        peer.send(&request(1001, &get("/healthz", &[])));
        loop {
            match peer.came().as_str() {
                "pong" => {}
                came @ ("200" | "GOAWAY ENHANCE_YOUR_CALM" | "closed") => return Ok(came.to_owned()),
                other => return Err(other.to_owned()),
            }
        }
    })
}

fn until_away(peer: &mut Peer, wanted: &[&str]) -> Outcome {
    for _ in 0..5_000 {
        let came = peer.came();
        if wanted.contains(&came.as_str()) {
            return Ok(came);
        }
        if came.starts_with("GOAWAY") || came == "closed" {
            return Err(came);
        }
    }
    std::thread::sleep(Duration::from_millis(1));
    Err("goes on".into())
}

fn contradictions() -> Vec<Case> {
    let protocol = "GOAWAY PROTOCOL_ERROR";
    // RFC 9113 has a code of its own for these; h2 says PROTOCOL_ERROR. Both end the connection.
    let size = "GOAWAY FRAME_SIZE_ERROR or GOAWAY PROTOCOL_ERROR";
    let compression = "GOAWAY COMPRESSION_ERROR or GOAWAY PROTOCOL_ERROR";
    let ok = get("/healthz", &[]);
    vec![
        says("HEADERS on stream 0", protocol, request(0, &ok)),
        says("HEADERS on a stream of the server", protocol, request(2, &ok)),
        says(
            "a stream that goes back",
            "GOAWAY PROTOCOL_ERROR or GOAWAY STREAM_CLOSED",
            [request(9, &ok), request(3, &ok), request(3, &ok)].concat(),
        )
        .after_answers(),
        says(
            "DATA on a stream that is not open",
            "GOAWAY PROTOCOL_ERROR or GOAWAY STREAM_CLOSED",
            frame(DATA, 0, 5, b"x"),
        ),
        says(
            "RST_STREAM on a stream that is not open",
            protocol,
            frame(RST_STREAM, 0, 5, &8_u32.to_be_bytes()),
        ),
        says("RST_STREAM on stream 0", protocol, frame(RST_STREAM, 0, 0, &8_u32.to_be_bytes())),
        says("WINDOW_UPDATE of nothing", protocol, frame(WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes())),
        says(
            "WINDOW_UPDATE beyond 31 bits",
            "GOAWAY FLOW_CONTROL_ERROR",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
        ),
        says("SETTINGS on a stream", protocol, frame(SETTINGS, 0, 1, &[])),
        says("SETTINGS of five bytes", size, frame(SETTINGS, 0, 0, &[0; 5])),
        says(
            "SETTINGS with a window beyond 31 bits",
            "GOAWAY FLOW_CONTROL_ERROR or GOAWAY PROTOCOL_ERROR",
            frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255]),
        ),
        says("SETTINGS with frames of one byte", protocol, frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        says("SETTINGS that acknowledges with bytes", size, frame(SETTINGS, 1, 0, &[0; 6])),
        says("PING of seven bytes", size, frame(PING, 0, 0, &[0; 7])),
        says("PING on a stream", protocol, frame(PING, 0, 1, &[0; 8])),
        says("a frame larger than was agreed", size, frame(DATA, 0, 1, &vec![0; 20_000])),
        says("PUSH_PROMISE from a client", protocol, frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        says("CONTINUATION of nothing", protocol, frame(CONTINUATION, END_HEADERS, 1, &ok)),
        says(
            "another frame within a head",
            protocol,
            [frame(HEADERS, END_STREAM, 1, &ok), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        says(
            "padding longer than its frame",
            protocol,
            frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, &[255, 0, 0]),
        ),
        says(
            "a stream that depends on itself",
            "RST_STREAM PROTOCOL_ERROR or GOAWAY PROTOCOL_ERROR",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1]),
        ),
        says("an index that HPACK does not have", compression, request(1, &[0xff, 0xff, 0xff, 0x7f])),
        says("a table of HPACK that is too large", compression, request(1, &[0x3f, 0xff, 0xff, 0xff, 0x0f])),
        says("a head that ends within a field", compression, request(1, &[0, 5, b'a'])),
    ]
}

fn requests() -> Vec<Case> {
    let refused = "RST_STREAM PROTOCOL_ERROR or GOAWAY PROTOCOL_ERROR";
    let with = |more: &[(&str, &str)]| request(1, &get("/v1/channels?channel=a", more));
    let path = |path: &str| request(1, &get(path, &[]));
    let of = |fields: &[(&str, &str)]| request(1, &block(fields));
    let (method, scheme, at, host) =
        ((":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "localhost"));
    vec![
        says("a name with a capital", refused, with(&[("X-Y", "z")])),
        says("Connection", refused, with(&[("connection", "close")])),
        says("Transfer-Encoding", refused, with(&[("transfer-encoding", "chunked")])),
        says("TE other than trailers", refused, with(&[("te", "gzip")])),
        says("CR and LF in a value", refused, with(&[("x", "a\r\nHost: evil")])),
        says("NUL in a value", refused, with(&[("x", "a\0")])),
        says("no :path", refused, of(&[method, scheme, host])),
        says("no :method", refused, of(&[scheme, at, host])),
        says(":path twice", refused, of(&[method, scheme, at, at, host])),
        says(":status in a request", refused, of(&[method, scheme, at, host, (":status", "200")])),
        says("a pseudo field behind a field", refused, of(&[method, scheme, at, ("x", "y"), host])),
        says("an empty :path", refused, path("")),
        says(
            "a length that is not the body's",
            refused,
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &block(&[
                        (":method", "POST"),
                        scheme,
                        (":path", "/v1/publish"),
                        host,
                        ("content-type", "application/json"),
                        ("content-length", "1"),
                    ]),
                ),
                frame(DATA, END_STREAM, 1, b"{}"),
            ]
            .concat(),
        ),
        says(":authority and another Host", "400 host_invalid", with(&[("host", "evil.example")])),
        says(
            "another :authority (DNS rebinding)",
            "421 misdirected",
            of(&[method, scheme, at, (":authority", "evil.example")]),
        ),
        says(
            "an :authority with a user",
            "RST_STREAM PROTOCOL_ERROR or 400 host_invalid",
            of(&[method, scheme, at, (":authority", "localhost@evil.example")]),
        ),
        says("neither :authority nor Host", "400 host_invalid", of(&[method, scheme, at])),
        says(
            "Authorization twice",
            "400 header_repeated",
            with(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]),
        ),
        says(
            "Last-Event-ID twice",
            "400 header_repeated",
            with(&[("last-event-id", "a-1"), ("last-event-id", "a-2")]),
        ),
        says("Content-Encoding", "415 content_encoding_unsupported", with(&[("content-encoding", "gzip")])),
        says("65 fields", "431 headers_too_large", with(&vec![("x", "y"); 65])),
        says("a target of 9 KiB", "414 uri_too_long", path(&format!("/{}", "x".repeat(9_000)))),
        says(
            "CONNECT",
            "RST_STREAM PROTOCOL_ERROR or 400 host_invalid or 405 method_not_allowed or 404 not_found",
            of(&[(":method", "CONNECT"), (":authority", "localhost:80")]),
        ),
        says(
            "extended CONNECT",
            refused,
            of(&[(":method", "CONNECT"), (":protocol", "websocket"), scheme, at, host]),
        ),
    ]
}

impl Case {
    /// Answers to what was right are passed over.
    fn after_answers(mut self) -> Self {
        let must = self.must.clone();
        let ok = get("/healthz", &[]);
        let bytes = [request(9, &ok), request(3, &ok)].concat();
        self.run = Box::new(move |world| {
            let mut peer = Peer::connect(&world.dev, &[]);
            peer.send(&bytes);
            for _ in 0..3 {
                let came = peer.came();
                if came != "200" {
                    let wanted = must.split(" or ").any(|one| one == came);
                    return is(came, wanted);
                }
            }
            Err("answered".into())
        });
        self
    }
}
