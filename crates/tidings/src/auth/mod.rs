//! Who may do what: from a request's credentials to a grant, and whether it still holds.
//!
//! Owns: the seam for those who know credentials, tickets, revocations, and streams whose grant ends. Does not know: JWTs,
//! API keys, forward-auth (that is in the binary, or in the application), routes.
//! Flow: a request's head → `Authorize` → `Authorized` → handlers and live streams.

mod authorize;

mod revocation;

mod ticket;

mod live;

mod enforce;

use std::sync::Arc;

use http::request::Parts;
use tidings_core::Grant;

pub use authorize::{AuthError, Authorize, Authorized, Authorizing, Renew, Revoked};
pub(crate) use enforce::{RegrantError, kept};
pub(crate) use live::Live;
pub(crate) use revocation::{Revocation, Revocations, RevokeError};

use self::ticket::Tickets;
use crate::clock;

/// The ticket that a request names.
pub(crate) fn ticket(parts: &Parts) -> Option<String> {
    ticket::named(parts)
}

/// What a hub knows of credentials.
#[derive(Debug)]
pub(crate) struct Auth {
    authorize: Option<Arc<dyn Authorize>>,
    everything: Arc<Authorized>,
    pub(crate) tickets: Tickets,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) live: Live,
}

impl Auth {
    pub(crate) fn new(authorize: Option<Arc<dyn Authorize>>, revocations: Arc<Revocations>) -> Self {
        Self {
            authorize,
            everything: Arc::new(Authorized::new(Grant::everything())),
            tickets: Tickets::default(),
            revocations,
            live: Live::default(),
        }
    }

    /// Judges a request: who asks, and whether that was revoked or is over. A ticket counts before what its head says.
    pub(crate) async fn identify(
        &self,
        parts: &Parts,
        ticket: Option<&str>,
    ) -> Result<Arc<Authorized>, AuthError> {
        let Some(authorize) = &self.authorize else { return Ok(Arc::clone(&self.everything)) };
        let authorized = match ticket {
            Some(ticket) => self.tickets.take(ticket, clock::unix_ms())?,
            None => authorize.authorize(parts).await?,
        };
        self.check(&authorized.grant)?;
        Ok(Arc::new(authorized))
    }

    /// Whether a grant holds now.
    pub(crate) fn check(&self, grant: &Grant) -> Result<(), AuthError> {
        if grant.is_over(clock::unix_ms()) {
            return Err(AuthError::Expired);
        }
        if self.revocations.covers(grant) { Err(AuthError::Revoked) } else { Ok(()) }
    }

    /// Whatever is kept for it is asked for again.
    pub(crate) fn forget(&self, revoked: &Revoked) {
        if let Some(authorize) = &self.authorize {
            authorize.forget(revoked);
        }
    }
}
