//! Any request: query, cookies, headers and bodies of every route. Nothing but a proper answer comes back.

use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use bytes::Bytes;

use crate::hub::{IMPATIENT, ask, holds};
use crate::input::Input;

/// Requests as in HTTP: `METHOD target`, header lines, an empty line, the body. Several are separated by a NUL.
pub fn run(data: &[u8]) {
    for piece in data.split(|&byte| byte == 0).take(8) {
        let Some(request) = request(piece) else { continue };
        if let Some(answer) = ask(request, IMPATIENT) {
            holds(&answer);
        }
    }
}

fn request(piece: &[u8]) -> Option<Request<Bytes>> {
    let mut input = Input::new(piece);
    let first = input.line();
    let space = first.iter().position(|&byte| byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let target = Uri::try_from(&first[space + 1..]).ok()?;
    // Nobody can wait for a lease for half a minute here; what it does after its wait is the same.
    let target = target.to_string().replace("wait_ms", "wait_ns").parse::<Uri>().ok()?;
    let mut request = Request::builder().method(method).uri(target);
    let mut has_host = false;
    loop {
        let line = input.line();
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        has_host |= name == "host";
        request = request.header(name, value);
    }
    if !has_host {
        request = request.header("host", "localhost");
    }
    request.body(Bytes::copy_from_slice(input.rest())).ok()
}
