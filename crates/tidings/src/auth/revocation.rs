//! Revocations: what was issued until a moment holds no longer.
//!
//! Owns: which tokens, sessions and subjects are revoked, each an event on a channel of its own, so that a restart knows.
//! Does not know: streams, HTTP.
//! Flow: revoke → one append → kept in memory → every grant is held against it, until its time is over.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, EventName, Grant, Payload, limits};

use super::Revoked;
use crate::frame::fields;
use crate::log::{Append, Flags, Group, Log, LogError, event_at};
use crate::publish::text_hash;
use crate::writer::CommitError;

/// Before the hash of what is revoked, in the name of its channel.
const CHANNELS: &str = "tidings:revocation:";
/// The type of the events there.
const EVENT: &str = "revocation";

/// What was revoked, and when. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    pub(crate) kind: Kind,
    pub(crate) value: String,
    /// What was issued until then is revoked.
    pub(crate) at: u64,
    /// It is kept until then.
    pub(crate) until: u64,
}

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Token,
    Session,
    Subject,
}

/// Why something was not revoked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RevokeError {
    #[error("{max} revocations are kept already", max = limits::REVOCATIONS_MAX)]
    TooMany,
    #[error("what is revoked has 1 to {max} bytes", max = limits::TOKEN_ID_BYTES_MAX)]
    Value,
    #[error("`until` is not in the future, or more than {max} days ahead", max = limits::REVOCATION_MS_MAX / 86_400_000)]
    Until,
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Revocation {
    pub(crate) fn new(revoked: &Revoked, now_ms: u64, until: Option<u64>) -> Result<Self, RevokeError> {
        let (kind, value) = match revoked {
            Revoked::Token(id) => (Kind::Token, id),
            Revoked::Session(name) => (Kind::Session, name),
            Revoked::Subject(subject) => (Kind::Subject, subject),
        };
        if !(1..=limits::TOKEN_ID_BYTES_MAX).contains(&value.len()) {
            return Err(RevokeError::Value);
        }
        let most = now_ms + limits::REVOCATION_MS_MAX;
        let until = until.unwrap_or(most);
        if until <= now_ms || until > most {
            return Err(RevokeError::Until);
        }
        Ok(Self { kind, value: value.clone(), at: now_ms, until })
    }

    /// Whether it means a grant.
    pub(crate) fn covers(&self, grant: &Grant) -> bool {
        named(grant).any(|(kind, value)| kind == self.kind && value == self.value) && self.is_older(grant)
    }

    /// A token is revoked whenever it was issued; of sessions and subjects what was issued until then, or nobody knows when.
    fn is_older(&self, grant: &Grant) -> bool {
        self.kind == Kind::Token || grant.issued_at_ms.is_none_or(|issued| issued <= self.at)
    }

    fn channel(&self) -> Option<ChannelName> {
        let kind = match self.kind {
            Kind::Token => "token",
            Kind::Session => "session",
            Kind::Subject => "subject",
        };
        let hash = text_hash(&[kind, &self.value]);
        ChannelName::parse(&format!("{CHANNELS}{hash:032x}")).ok()
    }

    /// The event that makes it last.
    pub(crate) fn group(&self) -> Option<Group> {
        let channel = self.channel()?;
        let payload = Payload::json(&serde_json::to_string(self).ok()?).ok()?;
        let event = EventName::parse(EVENT).ok()?;
        let append = Append {
            body: Bytes::from(encode::body(&event, &channel, self.at, &payload)),
            channel,
            private: None,
            expected_prev: None,
            key: None,
            time_ms: self.at,
            expires_at_ms: None,
            // Retention leaves the newest one.
            flags: Flags { is_pinned: true, ..Flags::default() },
        };
        Some(Group { events: vec![append], idempotency: None })
    }
}

/// What a grant can be revoked by.
fn named(grant: &Grant) -> impl Iterator<Item = (Kind, &str)> {
    let token = grant.token.as_deref().map(|token| (Kind::Token, token));
    let session = grant.session.as_deref().map(|session| (Kind::Session, session));
    let subject = grant.subject().map(|subject| (Kind::Subject, subject.as_str()));
    [token, session, subject].into_iter().flatten()
}

/// All revocations.
#[derive(Debug, Default)]
pub(crate) struct Revocations(RwLock<HashMap<Kind, HashMap<String, Revocation>>>);

impl Revocations {
    /// Reads what the log holds.
    pub(crate) fn open(log: &dyn Log) -> Self {
        let revocations = Self::default();
        for (channel, window) in log.unfinished(CHANNELS) {
            // One whose time was over has left its channel's record, without a state.
            let Some(at) = window.pinned else { continue };
            let read = match event_at(log, &channel, at) {
                Ok(Some(event)) => serde_json::from_str(&fields(&event.body).data).map_err(|e| e.to_string()),
                Ok(None) => Err("its event is gone".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            match read {
                Ok(revocation) => revocations.add(revocation),
                Err(error) => {
                    tracing::error!(error, channel = channel.as_str(), "a revocation cannot be read")
                }
            }
        }
        revocations
    }

    /// It counts from now on.
    pub(crate) fn add(&self, revocation: Revocation) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(revocation.kind).or_default().insert(revocation.value.clone(), revocation);
    }

    /// Whether there is room for another one.
    pub(crate) fn has_room(&self) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().map(HashMap::len).sum::<usize>() < limits::REVOCATIONS_MAX
    }

    /// Whether a grant was revoked.
    pub(crate) fn covers(&self, grant: &Grant) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !all.is_empty()
            && named(grant).any(|(kind, value)| {
                all.get(&kind).and_then(|of| of.get(value)).is_some_and(|r| r.is_older(grant))
            })
    }

    /// All of them, the newest first.
    pub(crate) fn list(&self) -> Vec<Revocation> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Revocation> = all.values().flat_map(HashMap::values).cloned().collect();
        list.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.value.cmp(&b.value)));
        list
    }

    /// Forgets those whose time is over, in the log too.
    pub(crate) fn maintain(&self, log: &dyn Log, now_ms: u64) -> Result<(), LogError> {
        for channel in self.expire(now_ms) {
            log.delete(&channel)?;
        }
        Ok(())
    }

    /// Forgets those whose time is over, and names their channels.
    fn expire(&self, now_ms: u64) -> Vec<ChannelName> {
        if self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Vec::new();
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut over = Vec::new();
        for of in all.values_mut() {
            of.retain(|_, revocation| {
                let stays = revocation.until > now_ms;
                over.extend((!stays).then(|| revocation.channel()).flatten());
                stays
            });
        }
        all.retain(|_, of| !of.is_empty());
        over
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::grant::Object;

    use super::*;

    fn grant(sub: &str, issued_at_ms: Option<u64>) -> Grant {
        let object = Object { sub: Some(sub.into()), session: Some("s1".into()), ..Object::default() };
        let grant = Grant::of(&object).unwrap().with_token("t1").unwrap();
        Grant { issued_at_ms, ..grant }
    }

    fn revoke(revoked: &Revoked, at: u64) -> Revocations {
        let revocations = Revocations::default();
        revocations.add(Revocation::new(revoked, at, None).unwrap());
        revocations
    }

    #[test]
    fn what_was_issued_until_then_is_revoked_and_what_comes_later_is_not() {
        for revoked in [Revoked::Subject("42".into()), Revoked::Session("s1".into())] {
            let revocations = revoke(&revoked, 5_500);
            assert!(revocations.covers(&grant("42", Some(5_000))), "{revoked:?}: of the same second");
            assert!(!revocations.covers(&grant("42", Some(6_000))), "{revoked:?}: a new log-in");
            assert!(revocations.covers(&grant("42", None)), "{revoked:?}: nobody knows when");
        }
        assert!(!revoke(&Revoked::Subject("4".into()), 5_500).covers(&grant("42", Some(1))));
    }

    #[test]
    fn a_token_is_revoked_whenever_it_was_issued_and_no_other_is() {
        assert!(revoke(&Revoked::Token("t1".into()), 5_500).covers(&grant("42", Some(9_000))));
        for other in
            [Revoked::Token("t2".into()), Revoked::Session("t1".into()), Revoked::Subject("t1".into())]
        {
            assert!(!revoke(&other, 5_500).covers(&grant("42", Some(1))), "{other:?}");
        }
    }

    #[test]
    fn a_revocation_whose_time_is_over_is_forgotten() {
        let revocations = Revocations::default();
        let revocation = Revocation::new(&Revoked::Token("t1".into()), 1_000, Some(2_000)).unwrap();
        revocations.add(revocation.clone());
        assert_eq!(revocations.expire(1_999), []);
        assert_eq!(revocations.expire(2_000), [revocation.channel().unwrap()]);
        assert!(!revocations.covers(&grant("42", Some(1))));
    }

    #[test]
    fn a_revocation_has_a_value_and_an_end_that_is_ahead() {
        let token = Revoked::Token("t".into());
        for until in [0, 1_000, 1_001 + limits::REVOCATION_MS_MAX] {
            assert!(
                matches!(Revocation::new(&token, 1_000, Some(until)), Err(RevokeError::Until)),
                "{until}"
            );
        }
        assert!(matches!(
            Revocation::new(&Revoked::Session(String::new()), 0, None),
            Err(RevokeError::Value)
        ));
    }
}
