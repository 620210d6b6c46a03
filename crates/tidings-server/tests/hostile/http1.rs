//! HTTP/1 that a proxy could read otherwise, or that is no HTTP at all.

use std::io::{Read, Write};
use std::time::Duration;

use crate::case::{Case, is};
use crate::server::bytes;

const GROUP: &str = "http/1";
const BODY: &str = r#"{"channel":"smuggled","data":1}"#;

fn post(fields: &str, body: &str) -> String {
    format!(
        "POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\r\n{body}"
    )
}

fn get(fields: &str) -> String {
    format!("GET /v1/channels?channel=a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

pub fn cases() -> Vec<Case> {
    let rows: Vec<Case> = [framing(), chunks(), lines(), hosts(), heads()]
        .into_iter()
        .flatten()
        .map(|(name, bytes, must)| Case::refused(GROUP, name, bytes, must))
        .collect();
    [rows, scenarios()].into_iter().flatten().collect()
}

type Row = (&'static str, Vec<u8>, &'static str);

fn row(name: &'static str, text: impl Into<String>, must: &'static str) -> Row {
    (name, text.into().into_bytes(), must)
}

fn framing() -> Vec<Row> {
    let length = BODY.len();
    let chunked = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let with = |fields: String| post(&fields, &chunked);
    let must = "400 framing_invalid";
    vec![
        row(
            "Content-Length, then Transfer-Encoding",
            with(format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n")),
            must,
        ),
        row(
            "Transfer-Encoding, then Content-Length",
            with(format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n")),
            must,
        ),
        row(
            "Content-Length twice, the same",
            post(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), BODY),
            must,
        ),
        row(
            "Content-Length twice, different",
            post(&format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), BODY),
            must,
        ),
        row("Content-Length as a list", post(&format!("Content-Length: {length}, {length}\r\n"), BODY), must),
        row("Content-Length with a plus", post(&format!("Content-Length: +{length}\r\n"), BODY), must),
        row("Content-Length below zero", post("Content-Length: -1\r\n", BODY), must),
        row("Content-Length in hexadecimal", post(&format!("Content-Length: 0x{length:x}\r\n"), BODY), must),
        row("Content-Length beyond 64 bits", post("Content-Length: 18446744073709551616\r\n", BODY), must),
        row("Content-Length that is empty", post("Content-Length:\r\n", BODY), must),
        row("Transfer-Encoding gzip, chunked", with("Transfer-Encoding: gzip, chunked\r\n".into()), must),
        row(
            "Transfer-Encoding chunked in two fields",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into()),
            must,
        ),
        row(
            "Transfer-Encoding chunked, chunked",
            with("Transfer-Encoding: chunked, chunked\r\n".into()),
            must,
        ),
        row("Transfer-Encoding identity", with("Transfer-Encoding: identity\r\n".into()), must),
        row("Transfer-Encoding xchunked", with("Transfer-Encoding: xchunked\r\n".into()), must),
        row("Transfer-Encoding in quotes", with("Transfer-Encoding: \"chunked\"\r\n".into()), must),
        row(
            "Transfer-Encoding behind a vertical tab",
            with("Transfer-Encoding: \x0bchunked\r\n".into()),
            "400 request_malformed",
        ),
        row(
            "Transfer-Encoding on HTTP/1.0",
            with("Transfer-Encoding: chunked\r\n".into()).replace("HTTP/1.1", "HTTP/1.0"),
            must,
        ),
        row("GET with a body", get("Content-Length: 1\r\n") + "x", "400 body_unexpected"),
    ]
}

fn chunks() -> Vec<Row> {
    let must = "400 framing_invalid";
    let with = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let length = BODY.len();
    vec![
        row("a chunk's size with 0x", with(&format!("0x{length:x}\r\n{BODY}\r\n0\r\n\r\n")), must),
        row("a chunk's size with a plus", with(&format!("+{length:x}\r\n{BODY}\r\n0\r\n\r\n")), must),
        row(
            "a chunk's size beyond 64 bits",
            with(&format!("fffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n")),
            must,
        ),
        row("a chunk's size behind a space", with(&format!(" {length:x}\r\n{BODY}\r\n0\r\n\r\n")), must),
        row("a chunk's size line that ends with LF", with(&format!("{length:x}\n{BODY}\r\n0\r\n\r\n")), must),
        row(
            "a chunk's extension with LF alone",
            with(&format!("{length:x};a=\nb\r\n{BODY}\r\n0\r\n\r\n")),
            must,
        ),
        row("a chunk that is longer than its size", with(&format!("2\r\n{BODY}\r\n0\r\n\r\n")), must),
        row("a chunk without a size", with(&format!("\r\n{BODY}\r\n0\r\n\r\n")), must),
    ]
}

fn lines() -> Vec<Row> {
    let must = "400 request_malformed";
    vec![
        row("lines that end with LF", "GET /healthz HTTP/1.1\nHost: localhost\n\n", must),
        row("one line that ends with LF", get("X: a\n"), must),
        row("CR in a value", get("X: a\rb\r\n"), must),
        row("a field that goes on in the next line", get("X: a\r\n b\r\n"), must),
        row("a space before the colon", get("Content-Length : 0\r\n"), must),
        row("NUL in a value", get("X: a\0b\r\n"), must),
        row("NUL in a name", get("X\0Y: a\r\n"), must),
        row("a control character in a value", get("X: \x01\r\n"), must),
        row("DEL in a value", get("X: \x7f\r\n"), must),
        row("a field without a colon", get("X\r\n"), must),
        row("a field without a name", get(": x\r\n"), must),
        row("a name with a parenthesis", get("X(Y): x\r\n"), must),
        row("a space before the first field", "GET /healthz HTTP/1.1\r\n Host: localhost\r\n\r\n", must),
        row("two spaces in the request line", "GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", must),
        row("a tab in the request line", "GET\t/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", must),
        row("HTTP/0.9", "GET /healthz\r\n\r\n", must),
        row("HTTP/2.0 without the preface", "GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", must),
        row("HTTP/1.10", "GET /healthz HTTP/1.10\r\nHost: localhost\r\n\r\n", must),
        row("http/1.1 in small letters", "GET /healthz http/1.1\r\nHost: localhost\r\n\r\n", must),
        row("a fragment in the target", "GET /healthz#x HTTP/1.1\r\nHost: localhost\r\n\r\n", must),
        row("an angle bracket in the target", "GET /<x> HTTP/1.1\r\nHost: localhost\r\n\r\n", must),
        (
            "a byte beyond ASCII in the target",
            b"GET /\xe4 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            must,
        ),
        row("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", must),
        row("NUL in the method", "GET\0 / HTTP/1.1\r\nHost: localhost\r\n\r\n", must),
        row("CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", must),
        row("the beginning of TLS", "\x16\x03\x01\x02\0\x01\0\x01\n", must),
        row("TRACE", "TRACE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "405 method_not_allowed"),
        row(
            "a method in small letters",
            "post /v1/publish HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "405 method_not_allowed",
        ),
    ]
}

fn hosts() -> Vec<Row> {
    let get = |host: &str| format!("GET /healthz HTTP/1.1\r\n{host}\r\n");
    let must = "400 host_invalid";
    vec![
        row("no Host", get(""), must),
        row("Host twice, the same", get("Host: localhost\r\nHost: localhost\r\n"), must),
        row("Host twice, different", get("Host: localhost\r\nHost: evil.example\r\n"), must),
        row("an empty Host", get("Host:\r\n"), must),
        row("a Host with a path", get("Host: localhost/x\r\n"), must),
        row("a Host with a user", get("Host: localhost@evil.example\r\n"), must),
        row("a Host with a port that is none", get("Host: localhost:x\r\n"), must),
        row("a Host with a space", get("Host: localhost evil.example\r\n"), must),
        row("a Host that is a list", get("Host: localhost, evil.example\r\n"), must),
        row(
            "another host in the target",
            "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            must,
        ),
        row(
            "a user in the target",
            "GET http://localhost@evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "400 request_malformed",
        ),
        row(
            "a target that begins with a name",
            "GET evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "400 request_malformed",
        ),
    ]
}

fn heads() -> Vec<Row> {
    let long = |count: usize| "x".repeat(count);
    vec![
        row("a head of 20 KiB", get(&format!("X: {}\r\n", long(20_000))), "431 headers_too_large"),
        row("a name of 20 KiB", get(&format!("{}: x\r\n", long(20_000))), "431 headers_too_large"),
        row("65 fields", get(&"X: y\r\n".repeat(64)), "431 headers_too_large"),
        row(
            "a target of 9 KiB",
            format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", long(9_000)),
            "414 uri_too_long",
        ),
        row(
            "a method of 20 KiB",
            format!("{} / HTTP/1.1\r\nHost: localhost\r\n\r\n", long(20_000).to_uppercase()),
            "431 headers_too_large",
        ),
        row(
            "Last-Event-ID of 64 KiB",
            get(&format!("Last-Event-ID: {}\r\n", long(65_536))),
            "431 headers_too_large",
        ),
        row(
            "Last-Event-ID twice",
            get("Last-Event-ID: a-1\r\nLast-Event-ID: a-2\r\n"),
            "400 header_repeated",
        ),
        row(
            "Authorization twice",
            get("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
            "400 header_repeated",
        ),
        row(
            "Origin twice",
            get("Origin: http://localhost\r\nOrigin: https://evil.example\r\n"),
            "400 header_repeated",
        ),
        row(
            "Content-Type twice",
            post("Content-Type: text/plain\r\nContent-Length: 31\r\n", BODY),
            "400 header_repeated",
        ),
        row(
            "an expectation that is not known",
            post("Expect: 200-ok\r\nContent-Length: 31\r\n", BODY),
            "417 expectation_failed",
        ),
        row(
            "Content-Encoding gzip",
            post("Content-Encoding: gzip\r\nContent-Length: 31\r\n", BODY),
            "415 content_encoding_unsupported",
        ),
        row(
            "Content-Encoding identity",
            post("Content-Encoding: identity\r\nContent-Length: 31\r\n", BODY),
            "415 content_encoding_unsupported",
        ),
        row(
            "a form, as a page can send without asking",
            String::from_utf8(bytes(
                "POST",
                "/v1/publish",
                &[("content-type", "application/x-www-form-urlencoded")],
                b"channel=a",
            ))
            .unwrap(),
            "415 media_type_unsupported",
        ),
        row(
            "text/plain, as a page can send without asking",
            String::from_utf8(bytes(
                "POST",
                "/v1/publish",
                &[("content-type", "text/plain")],
                BODY.as_bytes(),
            ))
            .unwrap(),
            "415 media_type_unsupported",
        ),
        row(
            "a body without a Content-Type",
            String::from_utf8(bytes("POST", "/v1/publish", &[], BODY.as_bytes())).unwrap(),
            "415 media_type_unsupported",
        ),
    ]
}

fn scenarios() -> Vec<Case> {
    vec![
        Case::new(GROUP, "nothing of all these was published", "no event", |world| {
            let newest = world.dev.newest("smuggled");
            is(newest.as_ref().map_or("no event".into(), ToString::to_string), newest.is_none())
        }),
        Case::new(GROUP, "a request hidden behind one that is refused", "one answer, then closed", |world| {
            let hidden = post(&format!("Content-Length: {}\r\n", BODY.len()), BODY);
            let text =
                post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{hidden}"));
            let mut socket = world.dev.connect();
            socket.write_all(text.as_bytes()).unwrap();
            let mut all = String::new();
            socket.read_to_string(&mut all).map_err(|e| format!("not closed: {e}"))?;
            let answers = all.matches("HTTP/1.1 ").count();
            let is_published = world.dev.newest("smuggled").is_some();
            is(format!("{answers} answer, then closed"), answers == 1 && !is_published)
                .map(|_| "one answer, then closed".into())
        }),
        Case::new(GROUP, "an upgrade to h2c", "answered as HTTP/1.1", |world| {
            let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
            let answer = world.dev.ask(get(fields).as_bytes()).ok_or("closed")?;
            is(answer.shown(), answer.status == 200 && answer.header("upgrade").is_none())
        }),
        Case::new(GROUP, "an upgrade to a WebSocket", "answered as HTTP/1.1", |world| {
            let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let answer = world.dev.ask(get(fields).as_bytes()).ok_or("closed")?;
            is(answer.shown(), answer.status == 200)
        }),
        Case::new(GROUP, "X-HTTP-Method-Override: DELETE", "read, and nothing deleted", |world| {
            world.dev.publish(r#"{"channel":"kept","data":7}"#);
            let answer = world.dev.request(
                "GET",
                "/v1/channels?channel=kept",
                &[("x-http-method-override", "DELETE")],
                b"",
            );
            is(answer.shown(), answer.status == 200 && world.dev.newest("kept") == Some(7.into()))
        }),
        Case::new(GROUP, "a body of 3 GB that is announced", "413 before it is sent", |world| {
            let answer = world.dev.ask(post("Content-Length: 3000000000\r\n", "").as_bytes());
            let shown = answer.map_or("closed".into(), |answer| answer.shown());
            is(shown.clone(), shown == "413 body_too_large")
        }),
        Case::new(GROUP, "a head that stops in the middle", "408 in its time", |world| {
            let mut socket = world.quick.connect();
            socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").unwrap();
            let answer =
                crate::server::Answer::read(&mut std::io::BufReader::new(&mut socket)).ok_or("closed")?;
            is(answer.shown(), answer.shown() == "408 request_timeout")
        }),
        Case::new(GROUP, "a head that comes a byte at a time", "408 in its time", |world| {
            let mut socket = world.quick.connect();
            for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaa" {
                if socket.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(40));
            }
            let answer =
                crate::server::Answer::read(&mut std::io::BufReader::new(&mut socket)).ok_or("closed")?;
            is(answer.shown(), answer.shown() == "408 request_timeout")
        }),
        Case::new(GROUP, "a connection that says nothing", "closed in its time", |world| {
            let mut socket = world.quick.connect();
            let mut all = Vec::new();
            socket.read_to_end(&mut all).map_err(|e| format!("not closed: {e}"))?;
            Ok("closed in its time".into())
        }),
    ]
}
