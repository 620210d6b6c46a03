//! Who asks: the grant of a request.
//!
//! Owns: judging a request once, and the refusals of whoever asks for more than its grant. Does not know: credentials
//! (`crate::auth` does), what handlers do.
//! Flow: a request's head → `Caller`, or the reason why there is none → a handler asks it before it does anything.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Method, header};
use tidings_core::grant::{Holder, JobFacts};
use tidings_core::job::JobId;
use tidings_core::{ChannelName, Grant};

use super::arrival::{self, Arrival};
use super::params::Params;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::auth::{self, AuthError, Authorized};
use crate::jobs::{Facts, JobsError};

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Arc<Authorized>);

/// Who asks, if that could be found out. For streams, which refuse in their own way.
#[derive(Debug)]
pub(crate) struct Identified(pub(crate) Result<Caller, AuthError>);

impl FromRequestParts<Hub> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Problem> {
        Ok(identify(hub, parts, Tickets::Ignored).await??)
    }
}

impl FromRequestParts<Hub> for Identified {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Problem> {
        Ok(Self(identify(hub, parts, Tickets::Taken).await?))
    }
}

/// Whether a ticket in the query counts: on streams, where a page can give nothing but a URL, and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tickets {
    Taken,
    Ignored,
}

/// Judges the credentials of a request, unless too many from the same address were wrong.
async fn judge(hub: &Hub, parts: &Parts, tickets: Tickets) -> Result<Arc<Authorized>, AuthError> {
    let ticket = auth::ticket(parts).filter(|_| tickets == Tickets::Taken);
    // Cookies come by themselves, and a wrong one counts as none.
    let is_try = parts.headers.contains_key(header::AUTHORIZATION) || ticket.is_some();
    let address = is_try.then(|| arrival::client(hub, parts)).flatten();
    if hub.0.failures.blocked(address) {
        return Err(AuthError::Failures);
    }
    let judged = hub.0.auth.identify(parts, ticket.as_deref()).await;
    // What was right once is no guess.
    if let Err(AuthError::Invalid(_) | AuthError::KeyUnknown | AuthError::Ticket) = &judged {
        hub.0.failures.note(address);
    }
    judged
}

/// Who asks. What comes from where it may not is a problem for everybody; what lacks credentials is one for some.
async fn identify(hub: &Hub, parts: &Parts, tickets: Tickets) -> Result<Result<Caller, AuthError>, Problem> {
    let authorized = match judge(hub, parts, tickets).await {
        Ok(authorized) => authorized,
        Err(error) => return Ok(Err(error)),
    };
    let Arrival { role, site, .. } = Arrival::of(&parts.extensions);
    if matches!(authorized.grant.holder, Holder::Key(_)) && !role.takes_api_keys() {
        return Ok(Err(AuthError::KeyUnknown));
    }
    if authorized.is_ambient {
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        if is_read && !site.may_read() {
            let detail = "pages of this origin may not read with the user's cookie";
            return Err(Problem::new(Code::OriginNotAllowed, detail));
        }
        if !is_read && !site.may_write() {
            let detail = "a write with a cookie has to show that it comes from the application's own or a listed origin";
            return Err(Problem::new(Code::CrossSite, detail).uncommitted());
        }
    }
    Ok(Ok(Caller(authorized)))
}

impl Caller {
    pub(crate) fn grant(&self) -> &Arc<Grant> {
        &self.0.grant
    }

    /// Whose requests these are, as text. With `--dev` it is what the query says. `None` for API keys and anonymous ones.
    pub(crate) fn subject(&self, params: &Params<'_>) -> Result<Option<String>, Problem> {
        match &self.0.grant.holder {
            Holder::Dev => Ok(Some(params.subject()?.to_owned())),
            Holder::Subject(subject) => Ok(Some(subject.as_str().to_owned())),
            Holder::Anonymous | Holder::Key(_) => Ok(None),
        }
    }

    /// Whose idempotency keys its requests use.
    pub(crate) fn principal(&self) -> Cow<'static, str> {
        match self.0.grant.holder {
            // There is one, which owns every key.
            Holder::Dev => Cow::Borrowed("dev"),
            Holder::Anonymous | Holder::Subject(_) | Holder::Key(_) => Cow::Owned(self.0.grant.principal()),
        }
    }

    /// An idempotency key of its own: nobody else's is taken for it.
    pub(crate) fn own_key(&self, key: Option<String>) -> Option<String> {
        match self.0.grant.holder {
            Holder::Dev => key,
            Holder::Anonymous | Holder::Subject(_) | Holder::Key(_) => {
                let principal = self.0.grant.principal();
                key.map(|key| format!("{}:{principal}:{key}", principal.len()))
            }
        }
    }

    /// Refuses a request that names a channel which it may not read.
    pub(crate) async fn require_readable(&self, hub: &Hub, channel: &ChannelName) -> Result<(), Problem> {
        let refused = hub.uncovered(&self.0, std::slice::from_ref(channel)).await?;
        if refused.is_empty() { Ok(()) } else { Err(self.forbidden(&format!("read {channel}"))) }
    }

    /// Refuses a publish to a channel that the grant does not name.
    pub(crate) fn require_publishable(&self, channels: &[ChannelName]) -> Result<(), Problem> {
        match channels.iter().find(|channel| !self.0.grant.may_publish(channel)) {
            None => Ok(()),
            Some(channel) => Err(self.forbidden(&format!("publish to {channel}"))),
        }
    }

    /// The facts of a job, if `may` allows. One that may not even be read answers as one that does not exist.
    pub(crate) async fn require_job(
        &self,
        hub: &Hub,
        id: &JobId,
        what: &str,
        may: impl Fn(&Grant, JobFacts<'_>) -> bool,
    ) -> Result<(), Problem> {
        if matches!(self.0.grant.holder, Holder::Dev) {
            return Ok(());
        }
        let not_found = || match self.0.grant.holder {
            // Whoever it is may log in.
            Holder::Anonymous => self.forbidden(what),
            Holder::Dev | Holder::Subject(_) | Holder::Key(_) => {
                JobsError::NotFound(id.as_str().to_owned()).into()
            }
        };
        let facts: Facts = hub.jobs().facts(id).await?.ok_or_else(not_found)?;
        let job = facts.of(id);
        match (may(&self.0.grant, job), self.0.grant.may_read_job(job)) {
            (true, _) => Ok(()),
            (false, true) => Err(self.forbidden(what)),
            (false, false) => Err(not_found()),
        }
    }

    /// Refuses what only an administrator may do.
    pub(crate) fn require_admin(&self) -> Result<(), Problem> {
        if self.0.grant.admin { Ok(()) } else { Err(self.forbidden("administer the server")) }
    }

    /// Refuses unless the grant says yes.
    pub(crate) fn require(&self, what: &str, may: bool) -> Result<(), Problem> {
        if may { Ok(()) } else { Err(self.forbidden(what)) }
    }

    /// Whoever brought nothing is asked for credentials; whoever brought some has not enough.
    pub(crate) fn forbidden(&self, what: &str) -> Problem {
        match self.0.grant.holder {
            Holder::Anonymous => AuthError::Unauthorized.into(),
            Holder::Dev | Holder::Subject(_) | Holder::Key(_) => {
                Problem::new(Code::Forbidden, format!("the grant does not let you {what}")).uncommitted()
            }
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        Self::of(error.code(), error.to_string()).uncommitted()
    }
}
