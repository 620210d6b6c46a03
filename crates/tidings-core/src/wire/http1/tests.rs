//! Tables of requests that pass, and of those that are refused; both hold however the bytes are cut.

use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Everything that passes, and the first offence, of a connection whose bytes come in parts.
fn run<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Offence>) {
    let mut requests = Requests::new(Bounds::default());
    let mut passed = Vec::new();
    for part in parts {
        let read = requests.read(part);
        passed.extend_from_slice(requests.waiting());
        requests.taken(usize::MAX);
        passed.extend_from_slice(&part[..read.passes]);
        if read.offence.is_some() {
            return (passed, read.offence);
        }
    }
    (passed, None)
}

fn whole(text: &str) -> (Vec<u8>, Option<Offence>) {
    run([text.as_bytes()])
}

/// The parts of a body pass as they come, so before an offence more of them may have passed.
fn is_same(one: &(Vec<u8>, Option<Offence>), single: &(Vec<u8>, Option<Offence>)) -> bool {
    let code = |offence: &Option<Offence>| offence.as_ref().map(|o| o.code);
    code(&one.1) == code(&single.1)
        && single.0.starts_with(&one.0)
        && (single.0.len() == one.0.len() || code(&one.1) == Some(Code::FramingInvalid))
}

/// In one piece, and byte by byte.
#[track_caller]
fn both(text: &str) -> (Vec<u8>, Option<Offence>) {
    let (one, single) = (whole(text), run(text.as_bytes().chunks(1)));
    assert!(is_same(&one, &single), "{text:?}: {one:?} {single:?}");
    one
}

const GOOD: [&str; 16] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /events?channel=a|b&x={}^` HTTP/1.1\r\nhost:app.example:4080\r\nAccept: */*\r\n\r\n",
    "GET http://a.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n",
    "GET HTTPS://[::1]:80?x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0A;x=\"y\"\r\n1234567890\r\n000\r\nx: y\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: \t a \t\r\nX:\r\nY: \u{e4}\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
];

#[test]
fn what_is_valid_passes_unchanged_however_it_is_cut() {
    for text in GOOD {
        let (passed, offence) = both(text);
        assert_eq!((String::from_utf8(passed).unwrap().as_str(), offence), (text, None));
    }
}

/// Each of these requests, behind the same start, is refused with its code.
#[track_caller]
fn refused(start: &str, table: &[(&str, &str)]) {
    for (rest, code) in table {
        let (_, offence) = both(&format!("{start}{rest}"));
        assert_eq!(offence.map(|o| o.code.as_str()), Some(*code), "{rest:?}");
    }
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_length_that_could_be_read_in_two_ways_is_refused() {
    refused(
        POST,
        &[
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "framing_invalid"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", "framing_invalid"),
            ("Content-Length: 1\r\nContent-Length: 1\r\n\r\n", "framing_invalid"),
            ("Content-Length: 1\r\ncontent-length: 2\r\n\r\n", "framing_invalid"),
            ("Content-Length: 1, 1\r\n\r\n", "framing_invalid"),
            ("Content-Length: +1\r\n\r\n", "framing_invalid"),
            ("Content-Length: -1\r\n\r\n", "framing_invalid"),
            ("Content-Length: 0x1\r\n\r\n", "framing_invalid"),
            ("Content-Length: 1 2\r\n\r\n", "framing_invalid"),
            ("Content-Length:\r\n\r\n", "framing_invalid"),
            ("Content-Length: 99999999999999999999\r\n\r\n", "framing_invalid"),
            ("Transfer-Encoding: gzip, chunked\r\n\r\n", "framing_invalid"),
            ("Transfer-Encoding: identity\r\n\r\n", "framing_invalid"),
            ("Transfer-Encoding: xchunked\r\n\r\n", "framing_invalid"),
            ("Transfer-Encoding:\x0bchunked\r\n\r\n", "request_malformed"),
        ],
    );
}

#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    refused(
        CHUNKED,
        &[
            ("x\r\n", "framing_invalid"),
            ("\r\n", "framing_invalid"),
            ("-1\r\n", "framing_invalid"),
            ("0x1\r\na\r\n", "framing_invalid"),
            ("1 \r\na\r\n", "framing_invalid"),
            ("1\na\r\n", "framing_invalid"),
            ("1\r\nab\r\n", "framing_invalid"),
            ("1\r\na\n", "framing_invalid"),
            ("1;\n\r\na\r\n", "framing_invalid"),
            ("1111111111111111\r\n", "framing_invalid"),
            ("0\r\nx: y\n\r\n", "framing_invalid"),
            ("0\r\n fold\r\n\r\n", "framing_invalid"),
        ],
    );
}

#[test]
fn a_host_that_could_be_read_in_two_ways_is_refused() {
    refused(
        "",
        &[
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "framing_invalid"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "body_unexpected"),
            ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "body_unexpected"),
            ("GET / HTTP/1.1\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "host_invalid"),
            ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "host_invalid"),
            ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "host_invalid"),
            ("GET http://a/ HTTP/1.1\r\n\r\n", "host_invalid"),
        ],
    );
}

#[test]
fn lines_that_could_be_read_in_two_ways_are_refused() {
    refused(
        "",
        &[
            ("GET / HTTP/1.1\nHost: a\n\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n z\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nx : y\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nx\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nx(): y\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nx: y\rz\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nx: y\0\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "request_malformed"),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
        ],
    );
}

#[test]
fn a_request_line_that_could_be_read_in_two_ways_is_refused() {
    refused(
        "",
        &[
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET /\r\n\r\n", "request_malformed"),
            ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            (" / HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "request_malformed"),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "request_malformed"),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\n", "request_malformed"),
        ],
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let table = [
        (format!("{CHUNKED}1;{}", "x".repeat(2_000)), "framing_invalid"),
        (format!("{CHUNKED}0\r\nx: {}", "y".repeat(2_000)), "framing_invalid"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8 * 1024)), "uri_too_long"),
        (format!("GET /{}", "x".repeat(20_000)), "headers_too_large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "x".repeat(17_000)), "headers_too_large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(64)), "headers_too_large"),
    ];
    for (text, code) in table {
        assert_eq!(both(&text).1.map(|o| o.code.as_str()), Some(code), "{text:.200?}");
    }
}

#[test]
fn the_bounds_themselves_pass() {
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8 * 1024 - 1));
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(63));
    let start = "GET / HTTP/1.1\r\nHost: a\r\nx: ";
    let head = format!("{start}{}\r\n\r\n", "x".repeat(16 * 1024 - start.len() - 4));
    assert_eq!(head.len(), 16 * 1024);
    for text in [target, fields, head] {
        assert_eq!(both(&text).1, None);
    }
}

#[test]
fn an_offence_tells_the_origin_that_a_page_has_and_what_came_before_it_passes() {
    let good = GOOD[8];
    let bad =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nOrigin: https://a\r\nContent-Length: 1\r\n\r\n";
    let (passed, offence) = both(&format!("{good}{bad}"));
    assert_eq!(
        (String::from_utf8(passed).unwrap().as_str(), offence.unwrap().origin.as_deref()),
        (good, Some("https://a"))
    );
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\n\r\n", "x".repeat(9_000));
    assert_eq!(both(&long).1.unwrap().origin.as_deref(), Some("https://a"));
    let twice = "GET / HTTP/1.1\r\nOrigin: https://a\r\nOrigin: https://b\r\n\r\n";
    assert_eq!(both(twice).1.unwrap().origin, None);
}

proptest! {
    #[test]
    fn any_cut_of_any_requests_passes_the_same(
        which in proptest::collection::vec(0..GOOD.len(), 1..6), cuts in proptest::collection::vec(1_usize..40, 1..200),
    ) {
        let text: String = which.iter().map(|&i| GOOD[i]).collect();
        let (mut rest, mut parts) = (text.as_bytes(), Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, behind) = rest.split_at(rest.len().min(*cut));
            parts.push(part);
            rest = behind;
        }
        let (passed, offence) = run(parts);
        prop_assert_eq!((String::from_utf8(passed).unwrap(), offence), (text, None));
    }

    #[test]
    fn anything_at_all_is_read_the_same_in_one_piece_and_byte_by_byte(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':')], 0..300),
        start in proptest::sample::select(GOOD.to_vec()),
    ) {
        let all = [start.as_bytes(), &bytes].concat();
        let (one, single) = (run([&*all]), run(all.chunks(1)));
        prop_assert!(is_same(&one, &single));
    }
}
