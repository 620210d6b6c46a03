//! What is published: data that the subscribers can check.
//!
//! Owns: `{"n":<number in its channel>,"t":<unix micros>,"p":"xxx…"}`, padded to a length. Does not know: HTTP.
//! Flow: in ← n and t · out → the JSON; and back.

use std::io::Write;

/// The JSON of one event, `bytes` long (or as short as it can be).
pub(crate) fn write(out: &mut Vec<u8>, n: u64, t: u64, bytes: usize) {
    let start = out.len();
    // Writing to a Vec cannot fail.
    write!(out, "{{\"n\":{n},\"t\":{t},\"p\":\"").ok();
    let used = out.len() - start + 2;
    out.resize(out.len() + bytes.saturating_sub(used), b'x');
    out.extend_from_slice(b"\"}");
}

/// The number and the time in a payload.
pub(crate) fn read(data: &[u8]) -> Option<(u64, u64)> {
    let rest = data.strip_prefix(b"{\"n\":")?;
    let (n, rest) = digits(rest)?;
    let (t, rest) = digits(rest.strip_prefix(b",\"t\":")?)?;
    (rest.starts_with(b",\"p\":\"") && rest.ends_with(b"\"}")).then_some((n, t))
}

fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(end).filter(|_| (1..=19).contains(&end))?;
    Some((digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_length_and_is_read_back() {
        let mut out = Vec::new();
        write(&mut out, 7, 1_795_305_600_123_456, 100);
        assert_eq!((out.len(), read(&out)), (100, Some((7, 1_795_305_600_123_456))));
        assert_eq!(read(&out[..99]), None);
        assert_eq!(read(b"{\"n\":,\"t\":1,\"p\":\"\"}"), None);
    }
}
