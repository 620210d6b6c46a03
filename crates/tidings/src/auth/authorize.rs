//! The seam: who turns credentials into a grant.
//!
//! Owns: the traits and what they answer. Does not know: any kind of credentials.
//! Flow: a request's head → `Authorize::authorize` → a grant, or a refusal with a stable code.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;
use tidings_core::Grant;

/// A grant on its way.
pub type Authorizing<'a> = Pin<Box<dyn Future<Output = Result<Authorized, AuthError>> + Send + 'a>>;

/// Knows credentials. An application that embeds the library implements it with what it has: its own sessions, say.
///
/// Without one, the library asks nobody and grants everything: who may do what is then decided by the layers around
/// [`crate::Hub::router`].
///
/// ```
/// use std::sync::Arc;
/// use tidings::auth::{AuthError, Authorize, Authorized, Authorizing};
/// use tidings::core::grant::{Grant, Object};
///
/// /// Believes a proxy that has checked who it is.
/// #[derive(Debug)]
/// struct TrustedHeader;
///
/// impl Authorize for TrustedHeader {
///     fn authorize<'a>(&'a self, request: &'a http::request::Parts) -> Authorizing<'a> {
///         Box::pin(async move {
///             let user = request.headers.get("x-user").and_then(|v| v.to_str().ok());
///             let user = user.ok_or(AuthError::Unauthorized)?;
///             let object = Object { sub: Some(user.into()), subscribe: vec!["news:*".into()], ..Object::default() };
///             let grant = Grant::of(&object).map_err(|e| AuthError::Invalid(e.to_string()))?;
///             Ok(Authorized::new(grant).ambient(true))
///         })
///     }
/// }
///
/// let settings = tidings::Settings::in_memory().authorize(Arc::new(TrustedHeader));
/// ```
pub trait Authorize: fmt::Debug + Send + Sync + 'static {
    /// Judges a request by its head. A request without credentials is [`AuthError::Unauthorized`], or an anonymous grant.
    ///
    /// It is asked for every request, and waits for nothing that could take long: it has time-outs of its own.
    fn authorize<'a>(&'a self, request: &'a Parts) -> Authorizing<'a>;

    /// Something was revoked: whatever is kept for it is to be asked for again.
    fn forget(&self, _revoked: &Revoked) {}
}

/// Asks again with the credentials of before, for a stream that is open. Streams with the same credentials share one.
pub trait Renew: fmt::Debug + Send + Sync + 'static {
    /// Judges the same credentials anew.
    fn renew(&self) -> Authorizing<'_>;
}

/// What a request may do, and for how long that is known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Authorized {
    /// What it may do.
    pub grant: Arc<Grant>,
    /// Browsers add the credentials by themselves (cookies), so a write has to show where it comes from.
    pub is_ambient: bool,
    /// Until when this judgement holds, Unix milliseconds, and who renews it; a grant that nobody judges again holds until
    /// it expires.
    pub renewal: Option<(u64, Arc<dyn Renew>)>,
}

impl Authorized {
    /// A grant that holds until it expires.
    #[must_use]
    pub fn new(grant: Grant) -> Self {
        Self { grant: Arc::new(grant), is_ambient: false, renewal: None }
    }

    /// Whether browsers add the credentials by themselves. Default: no.
    #[must_use]
    pub fn ambient(mut self, is_ambient: bool) -> Self {
        self.is_ambient = is_ambient;
        self
    }

    /// The judgement holds until then, Unix milliseconds, and is renewed before.
    #[must_use]
    pub fn renewed(mut self, until_ms: u64, renew: Arc<dyn Renew>) -> Self {
        self.renewal = Some((until_ms, renew));
        self
    }
}

/// Why a request has no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It has no credentials, and nothing is granted without.
    #[error("this needs credentials")]
    Unauthorized,
    /// A token or a cookie that is not valid.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// A token that is over.
    #[error("the token has expired")]
    Expired,
    /// A token that was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// An API key that nobody has, or that does not count here.
    #[error("the API key is not known")]
    KeyUnknown,
    /// A ticket that was used, is too old, or never was one.
    #[error("the ticket is not valid, or was used")]
    Ticket,
    /// Whoever knows could not be asked.
    #[error("credentials could not be checked: {0}")]
    Unavailable(String),
    /// Too many failed from this address.
    #[error("too many failed authentications")]
    Failures,
}

impl AuthError {
    /// The stable code used in problem bodies and in `tidings.unauthorized`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Invalid(_) => "token_invalid",
            Self::Expired => "token_expired",
            Self::Revoked => "token_revoked",
            Self::KeyUnknown => "key_unknown",
            Self::Ticket => "ticket_invalid",
            Self::Unavailable(_) => "auth_unavailable",
            Self::Failures => "auth_failures_too_many",
        }
    }
}

/// What was revoked: everything that was issued for it until now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revoked {
    /// One token, by its id (`jti`).
    Token(String),
    /// All tokens of a log-in.
    Session(String),
    /// All tokens of a subject.
    Subject(String),
}
