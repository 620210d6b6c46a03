//! `tidings token` and `tidings key`.
//!
//! Owns: what the commands print, and files that they write. Does not know: HTTP, what a server does with tokens and keys.
//! Flow: arguments, files, standard input → a token or a key on standard output, once.

mod key;

mod token;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

pub(crate) use key::{KeyCommand, run as key};
pub(crate) use token::{TokenCommand, run as token};

use super::secret::{self, Openness};

/// What is read as a token or a key: somewhat more than the longest.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// The text of a token or key: of a file, else of the environment, else of standard input. Never of an argument, which
/// others on the machine can see.
pub(crate) fn secret_text(file: Option<&Path>, is_stdin_read: bool) -> Result<Option<String>> {
    let text = match (file, std::env::var("TIDINGS_TOKEN")) {
        (Some(path), _) => {
            let bytes = secret::read(path, Openness::Secret)?;
            String::from_utf8(bytes).ok().with_context(|| format!("{} is not UTF-8", path.display()))?
        }
        (None, Ok(text)) => text,
        (None, Err(_)) if is_stdin_read => {
            let mut text = String::new();
            let input = std::io::stdin().lock().take(TEXT_BYTES_MAX);
            std::io::BufReader::new(input).read_to_string(&mut text).context("cannot read standard input")?;
            text
        }
        (None, Err(_)) => return Ok(None),
    };
    let text = text.trim();
    if text.is_empty() {
        bail!("there is no token");
    }
    Ok(Some(text.to_owned()))
}

/// Writes a file that only its owner can read, and that was not there before.
fn create(path: &Path, text: &str) -> Result<()> {
    let shown = path.display();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot make {shown}"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {shown}"))
}

/// When something ends, for people.
fn ends(exp: Option<u64>, now_ms: u64) -> String {
    let Some(exp) = exp else { return "never ends".into() };
    let now = now_ms / 1_000;
    let (word, seconds) = if exp > now { ("ends in", exp - now) } else { ("ended, ago", now - exp) };
    let text = match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    match word {
        "ends in" => format!("ends in {text}"),
        _ => format!("ended {text} ago"),
    }
}

/// Now and a duration, as tokens have times.
fn in_seconds(from_now: std::time::Duration) -> u64 {
    (super::unix_ms() / 1_000).saturating_add(from_now.as_secs())
}
