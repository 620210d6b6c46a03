//! JSON web tokens: from a text to a grant.
//!
//! Owns: which key may have signed a token, and what was checked already. Does not know: where a token was found.
//! Flow: token → parts → a key whose algorithm it names → signature → claims → grant, kept by the hash of the whole token.

mod claims;

mod jwks;

mod key;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jsonwebtoken::Algorithm;
use tidings::auth::AuthError;
use tidings::core::Grant;

use self::claims::{Parts, TOKEN_BYTES_MAX, invalid};
use super::cache::{self, Cache};

pub(super) use claims::Expected;
pub(super) use claims::Parts as TokenParts;
pub(crate) use claims::{Audience, Claims, Rights, Seconds};
#[cfg(feature = "testing")]
pub(super) use jwks::read as read_jwks;
pub(super) use jwks::{Jwks, Periods};
pub(crate) use key::KeyFile;
pub(super) use key::{Key, signing};

/// Tokens whose signature was checked, in each of two generations: some 100 bytes and a grant each.
const CHECKED_HALF: usize = 16_384;
/// Keys that may fit a token which names none. More would make junk expensive.
const CANDIDATES_MAX: usize = 8;

/// What a token turned out to be.
#[derive(Debug)]
pub(super) enum Judged {
    /// One of ours, good or not.
    Ours(Result<Arc<Grant>, AuthError>),
    /// None that could have been signed by any key here.
    Foreign(String),
}

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Jwt {
    keys: RwLock<Arc<Keys>>,
    jwks: Option<Arc<Jwks>>,
    expected: Expected,
    checked: Mutex<Cache<Checked>>,
}

/// The keys of files.
#[derive(Debug, Default)]
struct Keys {
    list: Vec<Key>,
    /// Grows with every change of them.
    version: u64,
}

/// A token that was checked, by keys that may have changed since.
#[derive(Debug, Clone)]
struct Checked {
    grant: Arc<Grant>,
    versions: Versions,
}

/// Of the keys of files, and of those that were fetched.
type Versions = (u64, u64);

impl Jwt {
    pub(super) fn new(keys: Vec<Key>, jwks: Option<Arc<Jwks>>, expected: Expected) -> Self {
        let checked = Mutex::new(Cache::new(CHECKED_HALF));
        let keys = RwLock::new(Arc::new(Keys { list: keys, version: 0 }));
        Self { keys, jwks, expected, checked }
    }

    /// Takes other keys, all at once.
    pub(super) fn replace_keys(&self, keys: Vec<Key>) {
        let mut own = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *own = Arc::new(Keys { list: keys, version: own.version + 1 });
    }

    /// Judges a token.
    pub(super) async fn judge(&self, token: &str, now_ms: u64) -> Judged {
        if token.len() > TOKEN_BYTES_MAX {
            return Judged::Ours(Err(invalid(format!("it is longer than {TOKEN_BYTES_MAX} bytes"))));
        }
        let hash = cache::key(&[token.as_bytes()]);
        if let Some(grant) = self.checked(&hash) {
            return Judged::Ours(if grant.is_over(now_ms) { Err(AuthError::Expired) } else { Ok(grant) });
        }
        let Some(parts) = Parts::of(token) else {
            return Judged::Foreign("it is no JSON web token".into());
        };
        let (keys, versions) = match self.candidates(&parts).await {
            Ok(candidates) => candidates,
            Err(error) => return Judged::Ours(Err(error)),
        };
        if keys.is_empty() {
            return Judged::Foreign("no key here fits its alg and kid".into());
        }
        let grant = check(&parts, &keys, &self.expected, now_ms).map(Arc::new);
        if let Ok(grant) = &grant {
            let checked = Checked { grant: Arc::clone(grant), versions };
            self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, checked);
        }
        Judged::Ours(grant)
    }

    fn checked(&self, hash: &cache::Key) -> Option<Arc<Grant>> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).find(hash)?;
        // Keys that were taken back, or could not be fetched for too long, vouch for nothing.
        let own = self.own_keys().version;
        let fetched = self.jwks.as_ref().map_or(Some(0), |jwks| jwks.version());
        (fetched.map(|fetched| (own, fetched)) == Some(checked.versions)).then_some(checked.grant)
    }

    fn own_keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys that may have signed it: those of its algorithm, and of its key id if it names one that is known.
    async fn candidates(&self, parts: &Parts<'_>) -> Result<(Vec<Key>, Versions), AuthError> {
        let keys = self.own_keys();
        let own = fitting(&keys.list, parts);
        let Some(jwks) = &self.jwks else { return Ok((own, (keys.version, 0))) };
        // A set of keys has no secrets, and no other algorithms: nothing is fetched for those, nor for a key that is here.
        let may_be_fetched = key::algorithm(&parts.header.alg).is_some_and(|alg| alg != Algorithm::HS256);
        let is_here = own.iter().any(|key| key.kid.is_some() && key.kid == parts.header.kid);
        if is_here || !may_be_fetched {
            return Ok((own, (keys.version, jwks.version().unwrap_or(0))));
        }
        let wanted = |keys: &[Key]| fitting(keys, parts);
        match jwks.find(wanted).await {
            Ok((found, fetched)) => Ok(([own, found].concat(), (keys.version, fetched))),
            Err(error) if own.is_empty() => Err(error),
            Err(_) => Ok((own, (keys.version, 0))),
        }
    }
}

/// Keys for a token. A key without an id fits every token of its algorithm; one with an id fits those that name it, and
/// those that name none.
fn fitting(keys: &[Key], parts: &Parts<'_>) -> Vec<Key> {
    let Some(alg) = key::algorithm(&parts.header.alg) else { return Vec::new() };
    let kid = parts.header.kid.as_deref();
    let fits = |key: &&Key| {
        let by_id = match (kid, key.kid.as_deref()) {
            (Some(named), Some(own)) => named == own,
            _ => true,
        };
        key.alg == alg && by_id
    };
    keys.iter().filter(fits).take(CANDIDATES_MAX).cloned().collect()
}

fn check(parts: &Parts<'_>, keys: &[Key], expected: &Expected, now_ms: u64) -> Result<Grant, AuthError> {
    parts.header.check()?;
    let is_signed = |key: &Key| {
        jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), &key.key, key.alg)
            .unwrap_or(false)
    };
    if !keys.iter().any(is_signed) {
        return Err(invalid("its signature is not good".into()));
    }
    parts.claims()?.grant(expected, now_ms)
}

#[cfg(test)]
mod tests;
