//! Keys that somebody publishes: fetched, kept for a while, fetched again when a token names one that is not there.
//!
//! Owns: when to fetch, and how long what was fetched may be used. Does not know: tokens.
//! Flow: a URL from the settings → JSON → keys; a failure leaves those of before in place, for an hour.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{HeaderMap, StatusCode, Uri};
use tidings::auth::AuthError;
use tokio::time::Instant;

use super::Key;
use crate::auth::fetch::Fetch;

/// A set of keys, in bytes: those of large providers have some 5 KB.
const BYTES_MAX: usize = 64 * 1024;
/// Keys in a set.
const KEYS_MAX: usize = 50;

/// When keys are fetched.
#[derive(Debug, Clone, Copy)]
pub(in crate::auth) struct Periods {
    /// They are fetched anew after this.
    pub(in crate::auth) fresh: Duration,
    /// Two fetches are this far apart, whatever tokens name.
    pub(in crate::auth) pause: Duration,
    /// As long as there are no keys at all, this is enough.
    pub(in crate::auth) pause_without: Duration,
    /// When they cannot be fetched, those of before are used for so long.
    pub(in crate::auth) stale: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(300),
            pause: Duration::from_secs(30),
            pause_without: Duration::from_secs(3),
            stale: Duration::from_secs(3_600),
        }
    }
}

/// The keys of a URL.
#[derive(Debug)]
pub(in crate::auth) struct Jwks {
    url: Uri,
    fetch: Fetch,
    periods: Periods,
    state: RwLock<State>,
    /// Held by whoever fetches; the others wait for what comes.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<Vec<Key>>,
    body: bytes::Bytes,
    /// Grows with every change of the keys.
    version: u64,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl Jwks {
    pub(in crate::auth) fn new(url: Uri, fetch: Fetch, periods: Periods) -> Self {
        Self { url, fetch, periods, state: RwLock::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// Keeps the keys fresh, without end.
    pub(in crate::auth) async fn keep_fresh(&self) {
        loop {
            self.refresh().await;
            let has_keys = self.version().is_some();
            tokio::time::sleep(if has_keys { self.periods.fresh } else { self.periods.pause }).await;
        }
    }

    /// Which keys are used; `None` if there are none that are young enough.
    pub(in crate::auth) fn version(&self) -> Option<u64> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let most = self.periods.fresh + self.periods.stale;
        state.fetched.filter(|at| at.elapsed() <= most).map(|_| state.version)
    }

    /// The keys that `wanted` picks, and their version. If it picks none, they are fetched again, but not too often.
    pub(super) async fn find(
        &self,
        wanted: impl Fn(&[Key]) -> Vec<Key>,
    ) -> Result<(Vec<Key>, u64), AuthError> {
        let found = self.usable().map(|(keys, version)| (wanted(&keys), version));
        if let Some((keys, version)) = found.filter(|(keys, _)| !keys.is_empty()) {
            return Ok((keys, version));
        }
        self.refresh().await;
        match self.usable() {
            Some((keys, version)) => Ok((wanted(&keys), version)),
            None => Err(AuthError::Unavailable("the keys of tokens cannot be fetched".into())),
        }
    }

    fn usable(&self) -> Option<(Arc<Vec<Key>>, u64)> {
        let version = self.version()?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Some((Arc::clone(&state.keys), version))
    }

    /// Fetches the keys, unless that was tried a moment ago. Whoever comes meanwhile waits for the same answer.
    async fn refresh(&self) {
        let _fetching = self.fetching.lock().await;
        let pause = match self.version() {
            Some(_) => self.periods.pause,
            None => self.periods.pause_without,
        };
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if state.tried.is_some_and(|at| at.elapsed() < pause) {
                return;
            }
            state.tried = Some(Instant::now());
        }
        match self.get().await {
            Ok((body, keys)) => {
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                state.fetched = Some(Instant::now());
                if state.body != body {
                    tracing::info!(keys = keys.len(), "fetched the keys of tokens");
                    (state.body, state.keys) = (body, Arc::new(keys));
                    state.version += 1;
                }
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the keys of tokens could not be fetched");
            }
        }
    }

    async fn get(&self) -> Result<(bytes::Bytes, Vec<Key>)> {
        let answer = self.fetch.get(&self.url, HeaderMap::new(), BYTES_MAX).await?;
        if answer.status != StatusCode::OK {
            bail!("{} answered {}", host(&self.url), answer.status.as_u16());
        }
        let keys = read(&answer.body)?;
        Ok((answer.body, keys))
    }
}

/// The name in an address: the rest of it may hold secrets.
fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default()
}

/// The keys of a set that are of use here.
pub(in crate::auth) fn read(body: &[u8]) -> Result<Vec<Key>> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let text = std::str::from_utf8(body).context("what came is no UTF-8")?;
    let set: Set = serde_json::from_str(text).context("what came is no set of keys")?;
    if set.keys.len() > KEYS_MAX {
        bail!("there are {} keys, more than {KEYS_MAX}", set.keys.len());
    }
    let keys: Vec<Key> = set.keys.iter().filter_map(Key::of_jwk).collect();
    if keys.is_empty() {
        bail!("none of the {} keys is for RS256, ES256 or EdDSA", set.keys.len());
    }
    Ok(keys)
}
