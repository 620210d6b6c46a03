//! Who is known to the server: tokens, API keys, the application's own word, everybody.
//!
//! Owns: which credentials of a request count, and reading the sources at the start and at SIGHUP. Does not know: what a
//! grant is needed for (the library does).
//! Flow: flags → sources → a request's head → the first credentials that it has → grant or refusal.

mod cache;

mod headers;

mod secret;

mod fetch;

mod jwt;

mod api_key;

mod forward;

mod flags;

mod commands;

#[cfg(feature = "testing")]
pub(crate) mod testing;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use tidings::auth::{AuthError, Authorize, Authorized, Authorizing, Revoked};
use tidings::core::Grant;
use tidings::core::address::Network;
use tidings::core::grant::{Holder, Object};

use self::api_key::ApiKeys;
use self::fetch::Fetch;
use self::forward::Forward;
use self::jwt::{Expected, Judged, Jwks, Jwt, Key, KeyFile, Periods};

pub(crate) use commands::{KeyCommand, TokenCommand, key, secret_text, token};
pub(crate) use flags::{AuthFlags, SECRET_ENV};

/// Questions to the application at once. More wait, and their time runs.
const FORWARD_CONNECTIONS: usize = 32;
/// How long the keys of tokens may take to come.
const JWKS_TIMEOUT: Duration = Duration::from_secs(5);

/// All sources of a server.
#[derive(Debug)]
pub(crate) struct Sources {
    jwt: Option<Jwt>,
    key_files: Vec<KeyFile>,
    jwks: Option<Arc<Jwks>>,
    api_keys: Option<Arc<ApiKeys>>,
    forward: Option<Arc<Forward>>,
    anonymous: Option<Authorized>,
    cookie: String,
}

impl Sources {
    /// Reads what the flags name. `None` if they name nothing.
    pub(crate) fn open(flags: &AuthFlags, proxies: &[Network]) -> Result<Option<Arc<Self>>> {
        if flags.source().is_none() {
            return Ok(None);
        }
        check_cookie(&flags.cookie)?;
        let jwks = flags.jwks_url.as_deref().map(jwks).transpose()?;
        let keys = keys(&flags.jwt_key)?;
        let expected = Expected { issuers: flags.jwt_issuer.clone(), audiences: flags.jwt_audience.clone() };
        let has_jwt = !keys.is_empty() || jwks.is_some();
        let expects = !expected.issuers.is_empty() || !expected.audiences.is_empty();
        if expects && !has_jwt {
            bail!(
                "--jwt-issuer and --jwt-audience are about tokens, and there is no --jwt-key or --jwks-url"
            );
        }
        Ok(Some(Arc::new(Self {
            jwt: has_jwt.then(|| Jwt::new(keys, jwks.clone(), expected)),
            key_files: flags.jwt_key.clone(),
            jwks,
            api_keys: flags.api_key_file.as_deref().map(ApiKeys::open).transpose()?,
            forward: forward(flags, proxies)?,
            anonymous: anonymous(&flags.anonymous)?,
            cookie: flags.cookie.clone(),
        })))
    }

    /// Keeps fetched keys fresh, without end.
    pub(crate) async fn keep_fresh(&self) {
        if let Some(jwks) = &self.jwks {
            jwks.keep_fresh().await;
        }
    }

    /// Reads all files again. What cannot be read leaves everything as it was.
    pub(crate) fn reload(&self) -> Result<()> {
        let keys = keys(&self.key_files)?;
        if let Some(api_keys) = &self.api_keys {
            let count = api_keys.reload()?;
            tracing::info!(api_keys = count, "read the API keys again");
        }
        if let Some(jwt) = self.jwt.as_ref().filter(|_| !keys.is_empty()) {
            tracing::info!(jwt_keys = keys.len(), "read the keys of tokens again");
            jwt.replace_keys(keys);
        }
        Ok(())
    }

    /// The first credentials that a request has count, and no others.
    async fn judge(&self, parts: &Parts) -> Result<Authorized, AuthError> {
        if let Some(token) = headers::bearer(&parts.headers)? {
            return self.judge_bearer(token, parts).await;
        }
        if let (Some(jwt), Some(token)) = (&self.jwt, headers::cookie(&parts.headers, &self.cookie)) {
            match jwt.judge(token, unix_ms()).await {
                Judged::Ours(Ok(grant)) => return Ok(of(grant).ambient(true)),
                Judged::Ours(Err(error @ AuthError::Unavailable(_))) => return Err(error),
                // A cookie that is bad or over is as none.
                Judged::Ours(Err(_)) | Judged::Foreign(_) => {}
            }
        }
        let is_told = parts.headers.contains_key(COOKIE) || parts.headers.contains_key(AUTHORIZATION);
        if let Some(forward) = self.forward.as_ref().filter(|_| is_told) {
            match forward.judge(parts).await {
                Err(AuthError::Unauthorized) => {}
                judged => return judged,
            }
        }
        self.anonymous.clone().ok_or(AuthError::Unauthorized)
    }

    async fn judge_bearer(&self, token: &str, parts: &Parts) -> Result<Authorized, AuthError> {
        if token.starts_with(api_key::PREFIX) {
            let keys = self.api_keys.as_ref().ok_or(AuthError::KeyUnknown)?;
            return keys.judge(token, unix_ms());
        }
        let foreign = match &self.jwt {
            None => "tokens are not known here".to_owned(),
            Some(jwt) => match jwt.judge(token, unix_ms()).await {
                Judged::Ours(judged) => return judged.map(of),
                Judged::Foreign(why) => why,
            },
        };
        match &self.forward {
            None => Err(AuthError::Invalid(foreign)),
            Some(forward) => match forward.judge(parts).await {
                Err(AuthError::Unauthorized) => {
                    Err(AuthError::Invalid("the application does not know it".into()))
                }
                judged => judged,
            },
        }
    }
}

impl Authorize for Sources {
    fn authorize<'a>(&'a self, request: &'a Parts) -> Authorizing<'a> {
        Box::pin(self.judge(request))
    }

    fn forget(&self, revoked: &Revoked) {
        if let Some(forward) = &self.forward {
            forward.forget(revoked);
        }
    }
}

fn of(grant: Arc<Grant>) -> Authorized {
    let mut authorized = Authorized::new(Grant::empty(Holder::Anonymous));
    authorized.grant = grant;
    authorized
}

/// The keys of all files, and the secret of the environment.
fn keys(files: &[KeyFile]) -> Result<Vec<Key>> {
    let mut keys = files.iter().map(Key::read).collect::<Result<Vec<_>>>()?;
    if let Some(secret) = std::env::var_os(SECRET_ENV) {
        let secret = secret.into_string().ok().with_context(|| format!("{SECRET_ENV} is not UTF-8"))?;
        keys.push(Key::secret(&secret).with_context(|| format!("{SECRET_ENV} cannot be used for HS256"))?);
    }
    Ok(keys)
}

fn jwks(text: &str) -> Result<Arc<Jwks>> {
    let url = fetch::url("--jwks-url", text)?;
    if url.scheme_str() != Some("https") && !fetch::is_loopback(&url) {
        bail!(
            "--jwks-url has to be https: over plain http anybody on the way could put in a key of their own"
        );
    }
    let fetch = Fetch::new(&url, 1, JWKS_TIMEOUT).context("--jwks-url")?;
    Ok(Arc::new(Jwks::new(url, fetch, Periods::default())))
}

fn forward(flags: &AuthFlags, proxies: &[Network]) -> Result<Option<Arc<Forward>>> {
    let Some(text) = &flags.forward_auth else { return Ok(None) };
    let url = fetch::url("--forward-auth", text)?;
    let limit = Duration::from_millis(flags.forward_auth_timeout_ms);
    let fetch = Fetch::new(&url, FORWARD_CONNECTIONS, limit).context("--forward-auth")?;
    Ok(Some(Forward::new(url, fetch, Duration::from_secs(flags.forward_auth_cache_s), proxies.to_vec())))
}

fn anonymous(patterns: &[String]) -> Result<Option<Authorized>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let grant = Grant::of(&Object { subscribe: patterns.to_vec(), ..Object::default() });
    Ok(Some(Authorized::new(grant.context("--anonymous")?)))
}

/// A cookie's name is a token of HTTP.
fn check_cookie(name: &str) -> Result<()> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        bail!("--cookie {name:?} cannot be the name of a cookie");
    }
    Ok(())
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
