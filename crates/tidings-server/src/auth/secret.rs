//! Files with secrets, and secrets that are none.
//!
//! Owns: who may read such a file, and whether a secret could be guessed. Does not know: what it is for.
//! Flow: a path → bytes, or one sentence on why not.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A key file is some KB; a thousand API keys are some 300 KB.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a secret for HS256 has to have: as much as the hash.
const SECRET_BITS_MIN: f64 = 256.0;

/// Whom a file may be open to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Openness {
    /// Others must not read it.
    Secret,
    /// Others may read it, but not write.
    Public,
}

/// Reads a file of bounded size that is not open to everybody.
pub(super) fn read(path: &Path, openness: Openness) -> Result<Vec<u8>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mode = file.metadata().with_context(|| format!("cannot read {shown}"))?.permissions().mode();
    if openness == Openness::Secret && mode & 0o004 != 0 {
        bail!("{shown} holds secrets and everybody on this machine can read it: chmod o= {shown}");
    }
    if mode & 0o002 != 0 {
        bail!("everybody on this machine can write {shown}: chmod o-w {shown}");
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    if u64::try_from(bytes.len())? > FILE_BYTES_MAX {
        bail!("{shown} is larger than {FILE_BYTES_MAX} bytes");
    }
    Ok(bytes)
}

/// A file's only line, without its end.
pub(super) fn one_line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Says why a secret is not good enough for HS256.
pub(super) fn weakness(secret: &[u8]) -> Option<String> {
    if let Some(what) = other_kind(secret) {
        return Some(format!("{what}, not a secret"));
    }
    if secret.len() < 32 {
        return Some(format!("{} bytes, below 256 bits", secret.len()));
    }
    let distinct = secret.iter().collect::<std::collections::BTreeSet<_>>().len();
    if distinct < 10 || is_repeated(secret) || counts_up(secret) {
        return Some("a pattern that can be guessed".into());
    }
    let bits = bits(secret);
    if bits < SECRET_BITS_MIN {
        return Some(format!("worth about {bits:.0} bits, below 256: words and short texts can be guessed"));
    }
    None
}

/// A key of another kind, which everybody may know.
fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    if has("-----BEGIN ") {
        return Some("a PEM key");
    }
    if has("\"kty\"") {
        return Some("a JSON web key");
    }
    if bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-sha2-") {
        return Some("an SSH key");
    }
    is_der(bytes).then_some("a DER key")
}

/// A sequence of ASN.1 that is as long as it says.
fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x81, len, rest @ ..] => rest.len() == usize::from(*len),
        [0x30, 0x82, high, low, rest @ ..] => rest.len() == usize::from(*high) * 256 + usize::from(*low),
        [0x30, len @ ..=0x7f, rest @ ..] => rest.len() == usize::from(*len),
        _ => false,
    }
}

fn is_repeated(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 2).any(|period| bytes.iter().zip(bytes.iter().skip(period)).all(|(a, b)| a == b))
}

/// Most characters are one more, or one less, than the one before, as in `0123456789`.
fn counts_up(bytes: &[u8]) -> bool {
    let pairs = || bytes.iter().zip(bytes.iter().skip(1));
    let steps = pairs().filter(|(a, b)| a.abs_diff(**b) == 1).count();
    steps * 2 > bytes.len()
}

/// Words that turn up in examples, and count as one guess each.
const WORDS: [&str; 26] = [
    "secret",
    "password",
    "passwort",
    "change",
    "please",
    "this",
    "mercure",
    "centrifugo",
    "tidings",
    "example",
    "default",
    "token",
    "hmac",
    "jwt",
    "key",
    "test",
    "dev",
    "prod",
    "your",
    "super",
    "very",
    "random",
    "replace",
    "admin",
    "qwerty",
    "256",
];

/// About how many guesses it takes, in bits: by the alphabet for random text, two bits a letter for words.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn bits(secret: &[u8]) -> f64 {
    let Ok(text) = std::str::from_utf8(secret) else { return secret.len() as f64 * 8.0 };
    if text.chars().any(char::is_control) {
        return secret.len() as f64 * 8.0;
    }
    let mut lower = text.to_ascii_lowercase();
    let mut guessed = 0_usize;
    for word in WORDS {
        let found = lower.matches(word).count();
        guessed += found;
        lower = lower.replace(word, "");
    }
    // A random text has a short word in it now and then.
    if (text.len() - lower.len()) * 4 < text.len() {
        (lower, guessed) = (text.to_owned(), 0);
    }
    let left = lower.chars().count() as f64;
    let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    let has = |is: fn(&u8) -> bool| text.bytes().any(|b| is(&b));
    let (digits, uppers, lowers) =
        (has(u8::is_ascii_digit), has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase));
    let each = match (digits, uppers && lowers) {
        _ if is_hex && digits => {
            if uppers || lowers {
                4.0
            } else {
                3.32
            }
        }
        // Base64 and the like, which has no digit now and then.
        (true, true) => 6.0,
        (false, true) if is_case_mixed(text) => 6.0,
        (false, true) => 3.0,
        (true, false) => 4.0,
        // Words of one case.
        (false, false) => 2.0,
    };
    left * each + guessed as f64 * 4.0
}

/// Whether upper and lower case follow each other as by chance. In words the case seldom changes, or, where they are run
/// together, two capitals seldom meet.
fn is_case_mixed(text: &str) -> bool {
    let pairs = || text.bytes().zip(text.bytes().skip(1));
    let changes = pairs().filter(|(a, b)| a.is_ascii_uppercase() != b.is_ascii_uppercase()).count();
    let capitals = pairs().filter(|(a, b)| a.is_ascii_uppercase() && b.is_ascii_uppercase()).count();
    changes * 10 > text.len() * 3 && capitals * 20 > text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_secrets_pass_in_every_usual_spelling() {
        let mut random = [0_u8; 32];
        for _ in 0..200 {
            getrandom::fill(&mut random).unwrap();
            let hex: String = random.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(weakness(hex.as_bytes()), None, "{hex}");
            assert_eq!(weakness(hex.to_uppercase().as_bytes()), None, "{hex}");
            use base64::Engine as _;
            let base64 = base64::engine::general_purpose::STANDARD.encode(random);
            assert_eq!(weakness(base64.as_bytes()), None, "{base64}");
            assert_eq!(weakness(&random), None, "{random:?}");
        }
    }

    #[test]
    fn words_patterns_short_texts_and_public_keys_do_not() {
        let weak: [&[u8]; 17] = [
            b"",
            b"secret",
            b"!ChangeThisMercureHubJWTSecretKey!",
            b"change-this-secret-to-something-long-and-random",
            b"your-256-bit-secret-your-256-bit-secret",
            b"a-string-secret-at-least-256-bits-long",
            b"correct horse battery staple correct horse battery staple plus one",
            b"CorrectHorseBatteryStapleCorrectHorseBatteryStaplePlusOneMore",
            b"secretsecretsecretsecretsecretsecret",
            b"00000000000000000000000000000000000000000000",
            b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            b"0123456789abcdef0123456789abcdef",
            b"9f86d081884c7d659a2feaa0c55ad015", // 128 bits of hex
            b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----",
            b"{\"kty\":\"RSA\",\"n\":\"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc\"}",
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1sT2o0m2vQyT7mJm4x0a0lY9tQ8yq6b9pXcYy4Y9pQ",
            b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00\x19\xbf\x44\x09\x69\x84\xcd\xfe\x85\x41\xba\xc1\x67\xdc\x3b\x96\xc8\x50\x86\xaa\x30\xb6\xb6\xcb\x0c\x5c\x38\xad\x70\x31\x66\xe1",
        ];
        for secret in weak {
            assert!(weakness(secret).is_some(), "{}", String::from_utf8_lossy(secret));
        }
    }

    #[test]
    fn a_file_that_is_open_to_everybody_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "x\n").unwrap();
        let set = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        for (mode, secret, public) in [
            (0o600, true, true),
            (0o640, true, true),
            (0o644, false, true),
            (0o666, false, false),
            (0o602, false, false),
        ] {
            set(mode);
            assert_eq!(read(&path, Openness::Secret).is_ok(), secret, "{mode:o}");
            assert_eq!(read(&path, Openness::Public).is_ok(), public, "{mode:o}");
        }
        assert!(read(&folder.path().join("none"), Openness::Public).is_err());
        assert_eq!(one_line(b"x\r\n"), b"x");
    }
}
