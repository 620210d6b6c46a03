//! API keys of back ends.
//!
//! Owns: the file of keys, what a key may do, and whether a text is one of them. Does not know: where it was found.
//! Flow: a file of JSON lines → keys by id → a text → hash, compared in constant time → grant.
//!
//! A key is `tk_<id>_<secret>`: the id finds its line, and the secret is 256 random bits. So one round of SHA-256 is enough:
//! there is nothing to guess that slower hashing would protect.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tidings::auth::{AuthError, Authorized, Authorizing, Renew};
use tidings::core::Grant;
use tidings::core::grant::{Holder, Object};

use super::secret::{self, Openness};

/// Before every key, so that one is known where it turns up.
pub(crate) const PREFIX: &str = "tk_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of an id.
const ID_BYTES: usize = 4;
/// Keys of a file.
const KEYS_MAX: usize = 1_000;
/// A key's name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Open streams of a key hear within this time that it is gone from the file, in milliseconds.
const JUDGED_MS: u64 = 10_000;

/// A line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The hash of the whole key, in hexadecimal digits.
    pub(crate) sha256: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) subscribe: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) publish: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) admin: bool,
    /// When it ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exp: Option<u64>,
}

impl Line {
    fn check(&self) -> Result<[u8; 32]> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !self.name.chars().all(is_name) {
            bail!(
                "the name {:?} is not 1 to {NAME_BYTES_MAX} letters, digits, dots, dashes or underscores",
                self.name
            );
        }
        if self.id.len() != 2 * ID_BYTES || unhex(&self.id).is_none() {
            bail!("the id {:?} is not {} hexadecimal digits", self.id, 2 * ID_BYTES);
        }
        let hash = unhex(&self.sha256).and_then(|bytes| bytes.try_into().ok());
        hash.ok_or_else(|| anyhow!("the sha256 of {} is not 64 hexadecimal digits", self.name))
    }

    /// What the key may do.
    pub(crate) fn grant(&self) -> Result<Grant> {
        let object = Object {
            exp: self.exp,
            subscribe: self.subscribe.clone(),
            publish: self.publish.clone(),
            jobs: self.jobs.clone(),
            ..Object::default()
        };
        let mut grant = Grant::of(&object).with_context(|| format!("the key {}", self.name))?;
        grant.holder = Holder::Key(self.name.as_str().into());
        grant.admin = self.admin;
        Ok(grant)
    }
}

/// Makes a key: its text, and the line that knows it again.
pub(crate) fn make(mut line: Line) -> Result<(String, Line)> {
    let mut random = [0_u8; SECRET_BYTES + ID_BYTES];
    getrandom::fill(&mut random).map_err(|error| anyhow!("there are no random numbers: {error}"))?;
    let (id, secret) = random.split_at(ID_BYTES);
    let text = format!("{PREFIX}{}_{}", hex(id), hex(secret));
    line.id = hex(id);
    line.sha256 = hex(&Sha256::digest(&text));
    line.check()?;
    line.grant()?;
    Ok((text, line))
}

/// The id in the text of a key.
pub(crate) fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES).then_some(id)
}

/// Whether a text is the key of a line.
pub(crate) fn is_of(text: &str, line: &Line) -> bool {
    let hash: [u8; 32] = Sha256::digest(text).into();
    line.check().is_ok_and(|known| known.ct_eq(&hash).into())
}

/// Reads the lines of a file. Empty ones and those that begin with `#` say nothing.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let bytes = secret::read(path, Openness::Secret)?;
    let shown = path.display();
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{shown} is not UTF-8"))?;
    let mut lines: Vec<Line> = Vec::new();
    for (number, text) in text.lines().enumerate() {
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let at = || format!("{shown}, line {}", number + 1);
        let line: Line = serde_json::from_str(text).map_err(|error| anyhow!("{}: {error}", at()))?;
        line.check().with_context(at)?;
        line.grant().with_context(at)?;
        if lines.iter().any(|other| other.id == line.id) {
            bail!("{}: the id {} is there twice", at(), line.id);
        }
        lines.push(line);
    }
    if lines.len() > KEYS_MAX {
        bail!("{shown} has {} keys; at most {KEYS_MAX} are possible", lines.len());
    }
    Ok(lines)
}

/// The keys of a file.
#[derive(Debug)]
pub(super) struct ApiKeys {
    path: PathBuf,
    known: RwLock<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    hash: [u8; 32],
    grant: Arc<Grant>,
    /// One for all streams of the key.
    renew: Arc<Renewal>,
}

/// Looks the key up again.
#[derive(Debug)]
struct Renewal {
    keys: Weak<ApiKeys>,
    id: String,
    hash: [u8; 32],
}

impl ApiKeys {
    pub(super) fn open(path: &Path) -> Result<Arc<Self>> {
        let keys = Arc::new(Self { path: path.to_owned(), known: RwLock::default() });
        keys.reload()?;
        Ok(keys)
    }

    /// Reads the file again, and takes all of it or nothing.
    pub(super) fn reload(self: &Arc<Self>) -> Result<usize> {
        let mut known = HashMap::new();
        for line in read(&self.path)? {
            let hash = line.check()?;
            let renew = Arc::new(Renewal { keys: Arc::downgrade(self), id: line.id.clone(), hash });
            known.insert(line.id.clone(), Known { hash, grant: Arc::new(line.grant()?), renew });
        }
        let count = known.len();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(count)
    }

    /// Judges the text of a key.
    pub(super) fn judge(&self, text: &str, now_ms: u64) -> Result<Authorized, AuthError> {
        let id = id_of(text).ok_or(AuthError::KeyUnknown)?;
        self.find(id, &Sha256::digest(text).into(), now_ms)
    }

    fn find(&self, id: &str, hash: &[u8; 32], now_ms: u64) -> Result<Authorized, AuthError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let known = known.filter(|known| known.hash.ct_eq(hash).into()).ok_or(AuthError::KeyUnknown)?;
        if known.grant.is_over(now_ms) {
            return Err(AuthError::Expired);
        }
        let mut authorized = Authorized::new(Grant::empty(Holder::Anonymous));
        authorized.grant = known.grant;
        Ok(authorized.renewed(now_ms + JUDGED_MS, known.renew))
    }
}

impl Renew for Renewal {
    fn renew(&self) -> Authorizing<'_> {
        Box::pin(async move {
            let keys = self.keys.upgrade().ok_or(AuthError::KeyUnknown)?;
            keys.find(&self.id, &self.hash, super::unix_ms())
        })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2)
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    if is_hex { (0..text.len()).step_by(2).map(pair).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn line(name: &str) -> Line {
        Line {
            id: String::new(),
            name: name.into(),
            sha256: String::new(),
            subscribe: vec![],
            publish: vec!["orders:*".into()],
            jobs: vec![],
            admin: false,
            exp: None,
        }
    }

    fn write(path: &Path, lines: &[&Line]) {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .unwrap();
        writeln!(file, "# keys\n").unwrap();
        for line in lines {
            writeln!(file, "{}", serde_json::to_string(line).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_key_is_known_by_its_hash_until_it_is_taken_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (old, old_line) = make(line("shop")).unwrap();
        let (new, new_line) = make(line("shop")).unwrap();
        write(&path, &[&old_line, &new_line]);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&old), "only the hash is stored");
        let keys = ApiKeys::open(&path).unwrap();
        let judge = |text: &str| keys.judge(text, 1_000).map(|a| a.grant);
        let grant = judge(&old).unwrap();
        assert_eq!(grant.principal(), "key:shop");
        assert!(!grant.admin && grant.subscribe.is_empty());
        assert!(judge(&new).is_ok(), "two keys of a name, while they are exchanged");
        let mut other = new.clone();
        other.replace_range(new.len() - 1.., if new.ends_with('0') { "1" } else { "0" });
        for bad in [&other, "tk_", "tk_00000000_00", "", &new[..new.len() - 1], &format!("{new}0")] {
            assert_eq!(judge(bad), Err(AuthError::KeyUnknown), "{bad}");
        }
        write(&path, &[&new_line]);
        keys.reload().unwrap();
        assert_eq!(judge(&old), Err(AuthError::KeyUnknown));
        assert!(judge(&new).is_ok());
    }

    #[tokio::test]
    async fn streams_of_a_key_are_judged_again_by_one_and_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (text, key) = make(line("shop")).unwrap();
        write(&path, &[&key]);
        let keys = ApiKeys::open(&path).unwrap();
        let (_, one) = keys.judge(&text, 5).unwrap().renewal.unwrap();
        let (until_ms, two) = keys.judge(&text, 5).unwrap().renewal.unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(until_ms, 5 + JUDGED_MS);
        assert!(one.renew().await.is_ok());
        write(&path, &[]);
        keys.reload().unwrap();
        assert_eq!(one.renew().await.unwrap_err(), AuthError::KeyUnknown);
    }

    #[test]
    fn a_file_with_an_error_changes_nothing_and_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (text, key) = make(line("shop")).unwrap();
        write(&path, &[&key]);
        let keys = ApiKeys::open(&path).unwrap();
        let bad_pattern = Line { publish: vec!["a*b".into()], ..key.clone() };
        let bad_name = Line { name: "a b".into(), ..key.clone() };
        for lines in [&[&key, &key][..], &[&bad_pattern], &[&bad_name]] {
            write(&path, lines);
            let error = format!("{:#}", keys.reload().unwrap_err());
            assert!(error.contains("keys, line "), "{error}");
            assert!(keys.judge(&text, 0).is_ok());
        }
    }

    #[test]
    fn a_key_ends_when_its_line_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (text, key) = make(Line { exp: Some(10), ..line("shop") }).unwrap();
        write(&path, &[&key]);
        let keys = ApiKeys::open(&path).unwrap();
        assert!(keys.judge(&text, 9_999).is_ok());
        assert_eq!(keys.judge(&text, 10_000).map(|_| ()), Err(AuthError::Expired));
    }
}
