//! A request's head, line by line.
//!
//! Owns: what a line may be, and which fields say where the request ends. Does not know: what lies behind the head.
//! Flow: all bytes of the head that are there → nothing yet, its end and the body that follows, or an `Offence`.

use alloc::borrow::ToOwned;
use core::ops::Range;

use super::super::problem::Code;
use super::{Body, Bounds, Offence};
use crate::site::is_host;

/// How far a head was read.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Where the first line begins that was not read.
    line: usize,
    /// Up to where no end of a line was found.
    searched: usize,
    request: Option<Request>,
    facts: Facts,
    /// What is wrong with it, but is told at its end only: then its origin is known, and a page can read the answer.
    late: Option<(Code, &'static str)>,
}

#[derive(Debug, Clone)]
struct Request {
    is_http_11: bool,
    /// `GET` and `HEAD` have no body here.
    may_have_body: bool,
    /// The authority of a target in absolute form.
    authority: Option<Range<usize>>,
}

#[derive(Debug, Default)]
struct Facts {
    fields: usize,
    host: Option<Range<usize>>,
    hosts: usize,
    length: Option<u64>,
    lengths: usize,
    codings: usize,
    chunked: bool,
    origin: Option<Range<usize>>,
    origins: usize,
}

type Wrong = (Code, &'static str);

const fn malformed(detail: &'static str) -> Wrong {
    (Code::RequestMalformed, detail)
}

impl Scan {
    /// Reads on. `head` are all bytes from the head's first one.
    pub(super) fn read(&mut self, head: &[u8], bounds: &Bounds) -> Result<Option<(usize, Body)>, Offence> {
        loop {
            let unread = head.get(self.searched..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'\n', unread) else {
                self.searched = head.len();
                return match head.len() > bounds.head_bytes {
                    true => Err(self.too_large(head)),
                    false => Ok(None),
                };
            };
            let end = self.searched + at;
            if end >= bounds.head_bytes {
                return Err(self.too_large(head));
            }
            let range = self.line..end;
            let line = head.get(range.clone()).and_then(|line| line.strip_suffix(b"\r"));
            let Some(line) = line else {
                return Err(
                    self.offence(head, malformed("a line of the head ends with LF alone; it ends with CRLF"))
                );
            };
            (self.line, self.searched) = (end + 1, end + 1);
            match self.line_read(line, range.start, bounds) {
                Ok(false) => {}
                Ok(true) => {
                    let body = self.end(head).map_err(|wrong| self.offence(head, wrong))?;
                    return Ok(Some((end + 1, body)));
                }
                Err(wrong) => return Err(self.offence(head, wrong)),
            }
        }
    }

    fn too_large(&self, head: &[u8]) -> Offence {
        let large = (Code::HeadersTooLarge, "the head of a request has at most 16 KiB");
        self.offence(head, self.late.unwrap_or(large))
    }

    fn offence(&self, head: &[u8], (code, detail): Wrong) -> Offence {
        let origin = self.facts.origin.clone().filter(|_| self.facts.origins == 1);
        let origin = origin.and_then(|range| core::str::from_utf8(head.get(range)?).ok()).map(str::to_owned);
        Offence { code, detail, origin, within_body: false }
    }

    /// One line; `true` at the end of the head.
    fn line_read(&mut self, line: &[u8], start: usize, bounds: &Bounds) -> Result<bool, Wrong> {
        if self.request.is_none() {
            if line.is_empty() && start == 0 {
                // An empty line in front of a request: some clients send it behind a body (RFC 9112 §2.2).
                return Ok(false);
            }
            self.request = Some(self.request_line(line, start, bounds)?);
            return Ok(false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        self.facts.fields += 1;
        if self.facts.fields > bounds.fields {
            self.late.get_or_insert((Code::HeadersTooLarge, "a request has at most 64 header fields"));
        }
        self.field(line, start)?;
        Ok(false)
    }

    fn request_line(&mut self, line: &[u8], start: usize, bounds: &Bounds) -> Result<Request, Wrong> {
        let mut parts = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("the request line is not a method, a target and a version"));
        };
        if method.is_empty() || method.len() > METHOD_BYTES_MAX || !all(method, TOKEN) {
            return Err(malformed("the method is not valid"));
        }
        let is_http_11 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(malformed("the version is not HTTP/1.1 or HTTP/1.0")),
        };
        if target.len() > bounds.target_bytes {
            self.late.get_or_insert((Code::UriTooLong, "the target of a request has at most 8 KiB"));
        }
        let authority = target_read(method, target)?.map(|range| {
            let shift = start + method.len() + 1;
            range.start + shift..range.end + shift
        });
        Ok(Request { is_http_11, may_have_body: !matches!(method, b"GET" | b"HEAD"), authority })
    }

    fn field(&mut self, line: &[u8], start: usize) -> Result<(), Wrong> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(malformed("a header field goes on in a second line"));
        }
        let colon = memchr::memchr(b':', line).unwrap_or(0);
        let (name, rest) = line.split_at(colon);
        if name.is_empty() || !all(name, TOKEN) {
            return Err(malformed("the name of a header field is not valid"));
        }
        let value = rest.get(1..).unwrap_or_default();
        // All of them, even behind a wrong one: that is several at a time.
        if value.iter().fold(false, |found, b| found | is_control(*b)) {
            return Err(malformed("the value of a header field has a control character"));
        }
        let left = value.iter().take_while(|b| is_blank(**b)).count();
        let right = value.iter().rev().take_while(|b| is_blank(**b)).count();
        let from = start + colon + 1 + left;
        let range = from..(start + line.len() - right).max(from);
        let value = value.trim_ascii();
        let facts = &mut self.facts;
        match () {
            () if name.eq_ignore_ascii_case(b"host") => {
                facts.hosts += 1;
                facts.host = Some(range);
            }
            () if name.eq_ignore_ascii_case(b"origin") => {
                facts.origins += 1;
                facts.origin = Some(range);
            }
            () if name.eq_ignore_ascii_case(b"content-length") => {
                facts.lengths += 1;
                facts.length = length(value);
            }
            () if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                facts.codings += 1;
                facts.chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            () => {}
        }
        Ok(())
    }

    /// What follows, once the head is complete.
    fn end(&self, head: &[u8]) -> Result<Body, Wrong> {
        if let Some(late) = self.late {
            return Err(late);
        }
        // A head ends with an empty line, which is one in front of a request as long as there is none.
        let request = self.request.as_ref().ok_or(malformed("there is no request line"))?;
        self.host(request, head)?;
        let body = self.body(request)?;
        if !request.may_have_body && !matches!(body, Body::None | Body::Length(0)) {
            return Err((Code::BodyUnexpected, "GET and HEAD have no body"));
        }
        Ok(body)
    }

    fn host(&self, request: &Request, head: &[u8]) -> Result<(), Wrong> {
        let text = |range: &Range<usize>| head.get(range.clone()).and_then(|v| core::str::from_utf8(v).ok());
        let facts = &self.facts;
        match (facts.hosts, &facts.host) {
            (0, _) if !request.is_http_11 => Ok(()),
            (0, _) => Err((Code::HostInvalid, "HTTP/1.1 needs a Host")),
            (1, Some(host)) => {
                let host = text(host).filter(|host| is_host(host));
                let host = host.ok_or((
                    Code::HostInvalid,
                    "the Host is not a name or an address, with or without a port",
                ))?;
                match request.authority.as_ref().map(text) {
                    None => Ok(()),
                    Some(Some(asked)) if asked.eq_ignore_ascii_case(host) => Ok(()),
                    Some(_) => Err((Code::HostInvalid, "the target names another host than Host")),
                }
            }
            _ => Err((Code::HostInvalid, "there is more than one Host")),
        }
    }

    fn body(&self, request: &Request) -> Result<Body, Wrong> {
        let facts = &self.facts;
        let framing = |detail| Err((Code::FramingInvalid, detail));
        match (facts.codings, facts.lengths) {
            (0, 0) => Ok(Body::None),
            (0, 1) => match facts.length {
                Some(length) => Ok(if length == 0 { Body::None } else { Body::Length(length) }),
                None => framing("the Content-Length is not a number"),
            },
            (0, _) => framing("there is more than one Content-Length"),
            (1, 0) if !request.is_http_11 => framing("HTTP/1.0 has no Transfer-Encoding"),
            (1, 0) if facts.chunked => Ok(Body::Chunked),
            (1, 0) => framing("the only Transfer-Encoding is chunked"),
            (_, 0) => framing("there is more than one Transfer-Encoding"),
            _ => framing("there are both a Content-Length and a Transfer-Encoding"),
        }
    }
}

/// The longest method that is registered has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// Digits and nothing else: no sign, no list.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(value).ok()?.parse().ok()
}

/// Checks a target; gives the place of its authority if it has one.
fn target_read(method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, Wrong> {
    if method == b"OPTIONS" && target == b"*" {
        return Ok(None);
    }
    let (authority, path_at) = match target {
        [b'/', ..] => (None, 0),
        _ => {
            let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
                target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            });
            let from = scheme.ok_or(malformed("the target is neither a path nor an http URL"))?.len();
            let rest = target.get(from..).unwrap_or_default();
            let end = from + rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
            let name = target.get(from..end).and_then(|name| core::str::from_utf8(name).ok());
            if !name.is_some_and(is_host) {
                return Err(malformed("the target has no valid host"));
            }
            (Some(from..end), end)
        }
    };
    let path = target.get(path_at..).unwrap_or_default();
    let query = path.iter().position(|b| *b == b'?').unwrap_or(path.len());
    let (path, query) = path.split_at(query);
    if !all(path, PATH) || !all(query, QUERY) {
        return Err(malformed("the target has a character that has to be percent-encoded"));
    }
    Ok(authority)
}

/// What a byte may be a part of: the name of a method or a field, a path, a query.
const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;

/// Looked up rather than compared: every byte of a head is asked.
#[allow(clippy::indexing_slicing, reason = "the compiler makes the table, and checks it")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        let token = if is_token(byte) { TOKEN } else { 0 };
        let path = if is_of_path(byte) { PATH } else { 0 };
        let query = if is_of_query(byte) { QUERY } else { 0 };
        classes[byte as usize] = token | path | query;
        byte += 1;
    }
    classes
};

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|b| CLASSES.get(usize::from(*b)).is_some_and(|classes| classes & class != 0))
}

/// RFC 3986, and what browsers do not encode.
const fn is_of_path(b: u8) -> bool {
    matches!(b, 0x21 | 0x24..=0x3b | 0x3d | 0x40..=0x5f | 0x61..=0x7a | 0x7c | 0x7e)
}

const fn is_of_query(b: u8) -> bool {
    matches!(b, 0x21 | 0x24..=0x3b | 0x3d | 0x3f..=0x7e)
}

/// Of a field's value.
const fn is_control(b: u8) -> bool {
    (b < b' ' && b != b'\t') || b == 0x7f
}

/// RFC 9110 §5.6.2.
const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

const fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}
