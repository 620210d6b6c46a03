//! Tickets: a grant for one request that can be nothing but a URL.
//!
//! Owns: which tickets wait, and that each works once. Does not know: who makes one.
//! Flow: a grant → a random text, kept for a minute → the stream that names it has the grant.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::request::Parts;
use sha2::{Digest, Sha256};
use tidings_core::limits;

use super::{AuthError, Authorized};

/// Before a ticket's random part, so that one is known where it turns up.
const PREFIX: &str = "tt_";

/// Tickets that wait, by the hash of their text: nobody learns one from this process' memory alone.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<HashMap<[u8; 32], Waiting>>);

#[derive(Debug)]
struct Waiting {
    authorized: Authorized,
    until_ms: u64,
}

impl Tickets {
    /// Makes one, and says until when it works. `None` if too many wait, or the system has no random numbers.
    pub(crate) fn make(&self, authorized: Authorized, now_ms: u64) -> Option<(String, u64)> {
        let until_ms = now_ms + limits::TICKET_MS;
        let ticket = format!("{PREFIX}{}", crate::clock::random_text().ok()?);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= limits::TICKETS_MAX {
            waiting.retain(|_, waiting| waiting.until_ms > now_ms);
        }
        if waiting.len() >= limits::TICKETS_MAX {
            return None;
        }
        waiting.insert(hash(&ticket), Waiting { authorized, until_ms });
        Some((ticket, until_ms))
    }

    /// Takes one: the next who names it gets nothing.
    pub(crate) fn take(&self, ticket: &str, now_ms: u64) -> Result<Authorized, AuthError> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(ticket));
        let waiting = waiting.filter(|waiting| waiting.until_ms > now_ms);
        waiting.map(|waiting| waiting.authorized).ok_or(AuthError::Ticket)
    }
}

fn hash(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket).into()
}

/// The ticket that a request names. Credentials in its head win.
pub(super) fn named(parts: &Parts) -> Option<String> {
    if parts.headers.contains_key(http::header::AUTHORIZATION) {
        return None;
    }
    let query = parts.uri.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "ticket").map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use tidings_core::Grant;
    use tidings_core::grant::Holder;

    use super::*;

    fn nothing() -> Authorized {
        Authorized::new(Grant::empty(Holder::Anonymous))
    }

    #[test]
    fn a_ticket_works_once() {
        let tickets = Tickets::default();
        let (ticket, _) = tickets.make(nothing(), 0).unwrap();
        assert!(tickets.take(&ticket, 1).is_ok());
        assert_eq!(tickets.take(&ticket, 1).unwrap_err(), AuthError::Ticket);
    }

    #[test]
    fn a_ticket_works_for_a_minute_and_only_under_its_own_name() {
        let tickets = Tickets::default();
        let (ticket, until) = tickets.make(nothing(), 1_000).unwrap();
        assert_eq!(until, 61_000);
        assert!(tickets.take(&ticket.replace("tt_", "tt-"), 1_001).is_err());
        assert!(tickets.take(&ticket, until).is_err(), "its time is over");
    }

    #[test]
    fn tickets_that_nobody_takes_are_bounded_and_make_room_when_their_time_is_over() {
        let tickets = Tickets::default();
        for _ in 0..limits::TICKETS_MAX {
            tickets.make(nothing(), 0).unwrap();
        }
        assert!(tickets.make(nothing(), 1).is_none());
        assert!(tickets.make(nothing(), limits::TICKET_MS + 1).is_some());
    }
}
