//! Forward-auth: the application's own URL judges a request.
//!
//! Owns: what it is told, what its answer means, how long that is kept, and that each question is asked once. Does not
//! know: other kinds of credentials.
//! Flow: a request's head → the hash of its credentials → an answer that is kept, or a question → grant or refusal.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use tidings::auth::{AuthError, Authorized, Authorizing, Renew, Revoked};
use tidings::core::Grant;
use tidings::core::address::Network;
use tidings::core::grant::{Holder, Object};
use tokio::time::Instant;

use super::cache::{self, Cache, Key};
use super::fetch::{Answer, Fetch};
use super::{headers, unix_ms};

/// A grant with a hundred patterns of each kind, twice over.
const BYTES_MAX: usize = 64 * 1024;
/// Credentials whose answer is kept, in each of two generations.
const KEPT_HALF: usize = 16_384;
/// A refusal is kept for so long: long enough for a page that tries again at once, short enough for who has just logged in.
const REFUSED: Duration = Duration::from_secs(2);
/// That nobody could be asked is kept for so long, so that not everybody who waits asks in turn.
const UNAVAILABLE: Duration = Duration::from_secs(1);
/// The least that a good answer is kept, whatever it says: the time between two questions.
const KEPT_MIN: Duration = Duration::from_secs(1);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Asks the application.
#[derive(Debug)]
pub(super) struct Forward {
    url: Uri,
    fetch: Fetch,
    kept_for: Duration,
    /// Whose word on where a request came from counts.
    proxies: Vec<Network>,
    kept: Mutex<Cache<Arc<Entry>>>,
    /// Grows when something is revoked: an answer to a question from before is not kept.
    forgotten: AtomicU64,
    own: Weak<Self>,
}

/// What is known of some credentials.
#[derive(Debug, Default)]
struct Entry {
    kept: Mutex<Option<Kept>>,
    /// Of the streams that are open with them, if there are any.
    renewal: Mutex<Weak<Renewal>>,
    /// Held by whoever asks; the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Kept {
    judged: Result<Arc<Grant>, AuthError>,
    until: Instant,
    until_ms: u64,
}

/// Asks again with the same credentials. One for all streams that have them.
struct Renewal {
    forward: Weak<Forward>,
    entry: Arc<Entry>,
    headers: HeaderMap,
    is_ambient: bool,
    own: Weak<Self>,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").finish_non_exhaustive()
    }
}

impl Forward {
    pub(super) fn new(url: Uri, fetch: Fetch, kept_for: Duration, proxies: Vec<Network>) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            url,
            fetch,
            kept_for: kept_for.max(KEPT_MIN),
            proxies,
            kept: Mutex::new(Cache::new(KEPT_HALF)),
            forgotten: AtomicU64::new(0),
            own: own.clone(),
        })
    }

    /// Judges a request by its cookies and its `Authorization`.
    pub(super) async fn judge(&self, parts: &Parts) -> Result<Authorized, AuthError> {
        let entry = self.entry(key(parts));
        let kept = match entry.fresh() {
            Some(kept) => kept,
            None => {
                let _asking = entry.asking.lock().await;
                match entry.fresh() {
                    Some(kept) => kept,
                    None => self.ask(&entry, &self.question(parts)).await,
                }
            }
        };
        let grant = kept.judged?;
        let renewal = entry.renewal(|| self.renewal(&entry, parts));
        Ok(authorized(grant, kept.until_ms, renewal))
    }

    /// What was revoked is asked for again.
    pub(super) fn forget(&self, revoked: &Revoked) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        for entry in self.kept.lock().unwrap_or_else(PoisonError::into_inner).values() {
            entry.forget(revoked);
        }
    }

    fn entry(&self, key: Key) -> Arc<Entry> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = kept.find(&key) {
            return entry;
        }
        let entry = Arc::new(Entry::default());
        kept.insert(key, Arc::clone(&entry));
        entry
    }

    fn renewal(&self, entry: &Arc<Entry>, parts: &Parts) -> Arc<Renewal> {
        Arc::new_cyclic(|own| Renewal {
            forward: self.own.clone(),
            entry: Arc::clone(entry),
            headers: self.question(parts),
            is_ambient: is_ambient(&parts.headers),
            own: own.clone(),
        })
    }

    /// Asks, and keeps the answer.
    async fn ask(&self, entry: &Entry, question: &HeaderMap) -> Kept {
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let asked_ms = unix_ms();
        let answer = self.fetch.get(&self.url, question.clone(), BYTES_MAX).await;
        let (judged, kept_for) = match answer {
            Ok(answer) => self.read(&answer, asked_ms),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the application could not be asked for a grant"
                );
                (Err(AuthError::Unavailable("the application did not answer".into())), UNAVAILABLE)
            }
        };
        let until_ms = unix_ms().saturating_add(u64::try_from(kept_for.as_millis()).unwrap_or(u64::MAX));
        let judged = judged.map(Arc::new);
        let answer = Kept { judged, until: Instant::now() + kept_for, until_ms };
        let mut kept = entry.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if forgotten != self.forgotten.load(Ordering::SeqCst) {
            *kept = None;
        } else if !(answer.is_lost() && kept.as_ref().is_some_and(Kept::is_good)) {
            *kept = Some(answer.clone());
        }
        answer
    }

    /// What an answer means, and how long it is kept.
    fn read(&self, answer: &Answer, asked_ms: u64) -> (Result<Grant, AuthError>, Duration) {
        let lost = |why: String| {
            tracing::warn!(why, "the application's answer is no grant");
            (Err(AuthError::Unavailable("the application's answer is no grant".into())), UNAVAILABLE)
        };
        let none = || (Err(AuthError::Unauthorized), REFUSED.min(self.kept_for));
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return none(),
            other => return lost(format!("status {}", other.as_u16())),
        }
        let object = serde_json::from_slice::<Object>(&answer.body).map_err(|error| error.to_string());
        let grant = object.and_then(|object| Grant::of(&object).map_err(|error| error.to_string()));
        match grant {
            Ok(grant) if grant.is_over(asked_ms) => none(),
            Ok(mut grant) => {
                // It is as new as the question, whatever was revoked before.
                grant.issued_at_ms = Some(asked_ms);
                let allowed = max_age(&answer.headers).unwrap_or(self.kept_for);
                (Ok(grant), allowed.clamp(KEPT_MIN, self.kept_for))
            }
            Err(error) => lost(error),
        }
    }

    /// What the application is told.
    fn question(&self, parts: &Parts) -> HeaderMap {
        let mut question = HeaderMap::new();
        for name in [AUTHORIZATION, ORIGIN] {
            for value in parts.headers.get_all(&name) {
                question.append(name.clone(), value.clone());
            }
        }
        // Over HTTP/2 each cookie may come alone.
        if let Some(cookies) = joined(&parts.headers, &COOKIE, b"; ") {
            question.insert(COOKIE, cookies);
        }
        let peer = tidings::peer(&parts.extensions);
        // What a proxy said before counts only if it is one of ours.
        let is_proxied =
            peer.is_some_and(|peer| peer.is_loopback() || self.proxies.iter().any(|net| net.contains(peer)));
        let told = |name: &HeaderName| parts.headers.get(name).filter(|_| is_proxied).cloned();
        let mut set =
            |name: HeaderName, value: Option<HeaderValue>| value.map(|value| question.insert(name, value));
        let before = joined(&parts.headers, &FORWARDED_FOR, b", ").filter(|_| is_proxied);
        let before = before.as_ref().and_then(|value| value.to_str().ok());
        let chain = match (before, peer) {
            (Some(before), Some(peer)) => Some(format!("{before}, {peer}")),
            (None, peer) => peer.map(|peer| peer.to_string()),
            (Some(before), None) => Some(before.to_owned()),
        };
        set(FORWARDED_FOR, chain.and_then(|chain| chain.parse().ok()));
        set(FORWARDED_HOST, told(&FORWARDED_HOST).or_else(|| host(parts)));
        set(FORWARDED_PROTO, told(&FORWARDED_PROTO).or_else(|| Some(HeaderValue::from_static("http"))));
        set(FORWARDED_METHOD, parts.method.as_str().parse().ok());
        let uri = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        set(FORWARDED_URI, uri.parse().ok());
        question
    }
}

impl Renew for Renewal {
    fn renew(&self) -> Authorizing<'_> {
        Box::pin(async move {
            let gone = || AuthError::Unavailable("the server is stopping".into());
            let (forward, own) =
                (self.forward.upgrade().ok_or_else(gone)?, self.own.upgrade().ok_or_else(gone)?);
            let _asking = self.entry.asking.lock().await;
            let kept = forward.ask(&self.entry, &self.headers).await;
            Ok(authorized(kept.judged?, kept.until_ms, own))
        })
    }
}

fn authorized(grant: Arc<Grant>, until_ms: u64, renewal: Arc<Renewal>) -> Authorized {
    let is_ambient = renewal.is_ambient;
    let mut authorized = Authorized::new(Grant::empty(Holder::Anonymous)).ambient(is_ambient);
    authorized.grant = grant;
    authorized.renewed(until_ms, renewal)
}

/// Whether browsers add the credentials by themselves: cookies, and passwords that they know.
fn is_ambient(headers: &HeaderMap) -> bool {
    !matches!(headers::bearer(headers), Ok(Some(_)))
}

/// The hash of the credentials, and of what else an answer may depend on: whose page it is, and which host was asked for.
fn key(parts: &Parts) -> Key {
    let host = host(parts);
    let names = [COOKIE, AUTHORIZATION, ORIGIN, FORWARDED_HOST];
    // How many there are is a part of its own, so that no value can pass for one of another header.
    let counts = names.each_ref().map(|name| parts.headers.get_all(name).iter().count().to_le_bytes());
    let mut list: Vec<&[u8]> = vec![host.as_ref().map_or(&b""[..], HeaderValue::as_bytes)];
    for (name, count) in names.iter().zip(&counts) {
        list.push(count);
        list.extend(parts.headers.get_all(name).iter().map(HeaderValue::as_bytes));
    }
    cache::key(&list)
}

/// All values of a header as one, the way that proxies write them.
fn joined(headers: &HeaderMap, name: &HeaderName, between: &[u8]) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if values.is_empty() { None } else { HeaderValue::from_bytes(&values.join(between)).ok() }
}

fn host(parts: &Parts) -> Option<HeaderValue> {
    let authority = parts.uri.authority().and_then(|authority| authority.as_str().parse().ok());
    authority.or_else(|| parts.headers.get(HOST).cloned())
}

/// How long an answer may be kept, if it says so.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let texts = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = texts.flat_map(|text| text.split(',')).map(|text| text.trim().to_ascii_lowercase());
    let seconds = directives.filter_map(|directive| match directive.split_once('=') {
        Some(("max-age", seconds)) => seconds.trim_matches('"').parse().ok(),
        None if directive == "no-store" || directive == "no-cache" => Some(0),
        _ => None,
    });
    seconds.min().map(Duration::from_secs)
}

impl Kept {
    fn is_fresh(&self) -> bool {
        self.until > Instant::now()
    }

    fn is_good(&self) -> bool {
        self.judged.is_ok() && self.is_fresh()
    }

    fn is_lost(&self) -> bool {
        matches!(self.judged, Err(AuthError::Unavailable(_)))
    }
}

impl Entry {
    fn fresh(&self) -> Option<Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| kept.is_fresh()).cloned()
    }

    /// The one that streams with these credentials share.
    fn renewal(&self, make: impl FnOnce() -> Arc<Renewal>) -> Arc<Renewal> {
        let mut renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(renewal) = renewal.upgrade() {
            return renewal;
        }
        let made = make();
        *renewal = Arc::downgrade(&made);
        made
    }

    fn forget(&self, revoked: &Revoked) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant =
            kept.as_ref().and_then(|kept| kept.judged.as_ref().ok()).is_some_and(|grant| match revoked {
                Revoked::Subject(subject) => grant.subject().is_some_and(|own| own.as_str() == subject),
                Revoked::Session(session) => grant.session.as_ref() == Some(session),
                _ => false,
            });
        if is_meant {
            *kept = None;
        }
    }
}

#[cfg(test)]
mod tests;
