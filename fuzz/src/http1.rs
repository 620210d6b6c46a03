//! Requests as they come off a connection: the same is refused, and the same passes, however the bytes are cut; and what
//! passes is one request after the other in the reading of RFC 9112 alone.

use tidings_core::wire::http1::{Bounds, Requests};

use crate::input::Input;

/// `seed, bytes of a connection`.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let bytes = input.rest();
    let (whole, offence) = read(bytes, 0);
    assert!(bytes.starts_with(&whole), "what passes is what came");
    let (pieces, same) = read(bytes, seed.max(1));
    assert_eq!((&pieces, &same), (&whole, &offence), "however it is cut");
    if offence.is_none() {
        passed(&whole, bytes.len() == whole.len());
    }
}

/// What passes, and the code of what is refused behind it.
fn read(bytes: &[u8], seed: u8) -> (Vec<u8>, Option<&'static str>) {
    let mut requests = Requests::new(Bounds::default());
    let (mut passed, mut random, mut rest) = (Vec::new(), u32::from(seed), bytes);
    while !rest.is_empty() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = if seed == 0 { rest.len() } else { 1 + (random >> 16) as usize % usize::from(seed) };
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        let read = requests.read(piece);
        assert!(read.passes == 0 || requests.waiting().is_empty(), "what waits comes first");
        passed.extend_from_slice(&piece[..read.passes]);
        passed.extend_from_slice(requests.waiting());
        requests.taken(requests.waiting().len());
        if let Some(offence) = read.offence {
            return (passed, Some(offence.code.as_str()));
        }
        assert!(requests.is_within_head() || passed.len() + behind.len() >= bytes.len() - piece.len());
        rest = behind;
    }
    (passed, None)
}

/// A head that passed has exactly one way to be read.
fn passed(bytes: &[u8], _is_all: bool) {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return };
    let head = &bytes[..end];
    assert!(!head.iter().any(|byte| matches!(byte, 0 | 0x7f)), "no control characters");
    let text = String::from_utf8_lossy(head);
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "no line end alone");
    let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.is_empty()).collect();
    let count = |name: &str| {
        let is_it =
            |line: &&&str| line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name));
        lines.iter().skip(1).filter(is_it).count()
    };
    assert!(count("content-length") + count("transfer-encoding") <= 1, "one length: {text}");
    assert!(count("host") <= 1 && (count("host") == 1 || text.contains("HTTP/1.0")), "one host: {text}");
    for line in lines.iter().skip(1) {
        let (name, _) = line.split_once(':').expect("a field has a colon");
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()), "a name: {line:?}");
    }
}
