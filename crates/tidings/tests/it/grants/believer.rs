//! Somebody who believes what a request says of itself, so that tests can be anybody.
//!
//! Owns: grants for tests: `Bearer` or a cookie with the grant as JSON. Does not know: what they are for.

use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tidings::auth::{AuthError, Authorize, Authorized, Authorizing, Renew, Revoked};
use tidings::core::grant::{Grant, Holder, Object};

/// The grant object, and what a token has beside it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Claims {
    object: Object,
    exp_ms: Option<u64>,
    iat_ms: Option<u64>,
    jti: Option<String>,
    key: Option<String>,
    admin: bool,
}

#[derive(Debug, Default)]
pub struct Believer {
    /// What the application says of whoever has the cookie `app=1`, and for how many milliseconds.
    pub application: Arc<Application>,
}

#[derive(Debug, Default)]
pub struct Application {
    pub answer: Mutex<Option<Result<(String, u64), AuthError>>>,
    pub asked: std::sync::atomic::AtomicUsize,
    pub forgot: Mutex<Vec<Revoked>>,
}

/// One for all that have the cookie.
#[derive(Debug)]
struct Again(Arc<Application>);

impl Application {
    fn judge(self: &Arc<Self>, renew: &Arc<dyn Renew>) -> Result<Authorized, AuthError> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (json, ms) = self.answer.lock().unwrap().clone().unwrap_or(Err(AuthError::Unauthorized))?;
        let authorized = Authorized::new(grant(&json)?).ambient(true);
        Ok(authorized.renewed(now_ms() + ms, Arc::clone(renew)))
    }
}

impl Renew for Again {
    fn renew(&self) -> Authorizing<'_> {
        // Whoever renewed it keeps doing so: what stands here is not used again.
        let again: Arc<dyn Renew> = Arc::new(Self(Arc::clone(&self.0)));
        Box::pin(async move { self.0.judge(&again) })
    }
}

impl Authorize for Believer {
    fn authorize<'a>(&'a self, request: &'a http::request::Parts) -> Authorizing<'a> {
        let text = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok());
        let judged = match (text("authorization"), text("cookie")) {
            (Some(bearer), _) => {
                grant(bearer.strip_prefix("Bearer ").unwrap_or_default()).map(Authorized::new)
            }
            (None, Some("app=1")) => {
                let renew: Arc<dyn Renew> = Arc::new(Again(Arc::clone(&self.application)));
                self.application.judge(&renew)
            }
            (None, Some(cookie)) => grant(cookie.strip_prefix("tidings=").unwrap_or_default())
                .map(|g| Authorized::new(g).ambient(true)),
            (None, None) => anonymous(),
        };
        Box::pin(async { judged })
    }

    fn forget(&self, revoked: &Revoked) {
        self.application.forgot.lock().unwrap().push(revoked.clone());
    }
}

fn anonymous() -> Result<Authorized, AuthError> {
    let object = Object { subscribe: vec!["demo:*".into()], ..Object::default() };
    Ok(Authorized::new(Grant::of(&object).unwrap()))
}

fn grant(json: &str) -> Result<Grant, AuthError> {
    let invalid = |error: &dyn std::fmt::Display| AuthError::Invalid(error.to_string());
    let claims: Claims = serde_json::from_str(json).map_err(|e| invalid(&e))?;
    let mut grant = Grant::of(&claims.object).map_err(|e| invalid(&e))?;
    (grant.expires_at_ms, grant.issued_at_ms, grant.token) = (claims.exp_ms, claims.iat_ms, claims.jti);
    grant.admin = claims.admin;
    if let Some(key) = claims.key {
        grant.holder = Holder::Key(key.into());
    }
    Ok(grant)
}

pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
