//! Publishing: what a user says, checked, and turned into one group of events.
//!
//! Owns: the rules of a publish and its errors. Does not know: HTTP, who may publish where.
//! Flow: in ← a `Publication` · out → a `Group` for the writer, and its ids.

use std::borrow::Cow;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidings_core::grant::Subject;
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, EventId, EventName, Key, NameError, Payload, PayloadError, limits};

use crate::clock;
use crate::log::{Append, Flags, Group, Idempotency, Refusal};
use crate::writer::CommitError;

/// What is published: one event, to one channel or to several.
///
/// ```
/// use tidings::core::{ChannelName, Payload};
/// let orders = ChannelName::parse("orders")?;
/// let publication = tidings::Publication::new(orders, Payload::json(r#"{"id":7}"#)?).idempotency_key("order-7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Publication {
    pub(crate) channels: Vec<ChannelName>,
    pub(crate) event: EventName,
    pub(crate) payload: Payload,
    pub(crate) key: Option<Key>,
    pub(crate) is_final: bool,
    pub(crate) ephemeral: bool,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) idempotency_key: Option<String>,
    /// Whose idempotency keys these are.
    pub(crate) principal: Cow<'static, str>,
    /// The user who published it, where the server knows.
    pub(crate) from: Option<Subject>,
}

/// 1 to 255 bytes of printable ASCII.
pub(crate) fn is_idempotency_key(key: &str) -> bool {
    let fits = (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
    fits && key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

impl Publication {
    /// An event of type `message` on a channel.
    pub fn new(channel: ChannelName, payload: Payload) -> Self {
        Self {
            channels: vec![channel],
            event: EventName::message(),
            payload,
            key: None,
            is_final: false,
            ephemeral: false,
            ttl_ms: None,
            idempotency_key: None,
            principal: Cow::Borrowed(""),
            from: None,
        }
    }

    /// The event's type.
    pub fn event(mut self, event: EventName) -> Self {
        self.event = event;
        self
    }

    /// Several channels: one event each, adjacent, all or none. At most 1,000.
    pub fn channels(mut self, channels: Vec<ChannelName>) -> Self {
        self.channels = channels;
        self
    }

    /// A newer event with the same channel and key may replace this one for readers that are behind.
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Finishes the channel: nothing can be published to it afterwards.
    pub fn finish(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// Only for connections that are in step: not stored, no id, dropped first under pressure.
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// After this many milliseconds the event is neither delivered nor listed.
    pub fn ttl_ms(mut self, ms: u64) -> Self {
        self.ttl_ms = Some(ms);
        self
    }

    /// A repeat of the publish with the same key takes effect once. 1–255 bytes, kept 24 h.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// One id for each channel, in order; none if the event was ephemeral.
    pub ids: Vec<EventId>,
    /// The same publish took effect before; these are the ids of the first time.
    pub duplicate: bool,
}

/// Why a publish failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Data that cannot be used.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// No channel.
    #[error("a publish needs `channel` or `channels`")]
    ChannelsMissing,
    /// Too many channels.
    #[error("{0} channels in one publish; at most {max} are allowed", max = limits::PUBLISH_CHANNELS_MAX)]
    ChannelsTooMany(usize),
    /// The idempotency key is empty, too long or not printable ASCII.
    #[error("an idempotency key is 1 to {max} bytes of printable ASCII", max = limits::IDEMPOTENCY_KEY_BYTES_MAX)]
    IdempotencyKey,
    /// `ephemeral` with something that only a stored event has.
    #[error("an ephemeral event has no {0}: it is not stored")]
    EphemeralConflict(&'static str),
    /// `final` with something that would take the last event away.
    #[error("a final event has no {0}: it has to stay")]
    FinalConflict(&'static str),
    /// The channel is finished, or the key was used for something else.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The writer did not acknowledge it.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl PublishError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(error) => error.code(),
            Self::Payload(error) => error.code(),
            Self::ChannelsMissing => "channels_missing",
            Self::ChannelsTooMany(_) => "channels_too_many",
            Self::IdempotencyKey => "idempotency_key_invalid",
            Self::EphemeralConflict(_) => "ephemeral_conflict",
            Self::FinalConflict(_) => "final_conflict",
            Self::Refused(Refusal::KeyReused) => "idempotency_key_reused",
            Self::Refused(Refusal::KeysFull) => "idempotency_keys_full",
            Self::Refused(Refusal::Finished { .. }) => "channel_finished",
            Self::Refused(Refusal::PrevMismatch { .. }) => "prev_mismatch",
            Self::Commit(error) => error.code(),
        }
    }
}

impl CommitError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Closing => "draining",
            Self::Full(_) => "disk_full",
            Self::Poisoned(_) => "log_poisoned",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::TooLarge => "body_too_large",
        }
    }

    /// Whether it is certain that nothing was committed.
    #[must_use]
    pub fn is_nothing_committed(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown)
    }
}

impl Publication {
    /// Checks the rules that need no log.
    pub(crate) fn check(&self) -> Result<(), PublishError> {
        match self.channels.len() {
            0 => return Err(PublishError::ChannelsMissing),
            n if n > limits::PUBLISH_CHANNELS_MAX => return Err(PublishError::ChannelsTooMany(n)),
            _ => {}
        }
        self.channels.iter().try_for_each(|c| c.clone().publishable().map(drop))?;
        self.event.clone().publishable()?;
        if self.idempotency_key.as_deref().is_some_and(|key| !is_idempotency_key(key)) {
            return Err(PublishError::IdempotencyKey);
        }
        let extras = [
            ("key", self.key.is_some()),
            ("ttl_ms", self.ttl_ms.is_some()),
            ("final", self.is_final),
            ("idempotency key", self.idempotency_key.is_some()),
        ];
        let conflict = |count| extras.iter().take(count).find(|(_, is)| *is).map(|(name, _)| *name);
        if let Some(name) = conflict(4).filter(|_| self.ephemeral) {
            return Err(PublishError::EphemeralConflict(name));
        }
        match conflict(2).filter(|_| self.is_final) {
            Some(name) => Err(PublishError::FinalConflict(name)),
            None => Ok(()),
        }
    }

    /// The group that says it to the log.
    pub(crate) fn group(&self) -> Group {
        let time_ms = clock::unix_ms();
        let append = |channel: &ChannelName| Append {
            channel: channel.clone(),
            body: Bytes::from(encode::body_from(
                &self.event,
                channel,
                self.from.as_ref(),
                time_ms,
                &self.payload,
            )),
            private: None,
            expected_prev: None,
            key: self.key.clone(),
            time_ms,
            expires_at_ms: self.ttl_ms.map(|ttl| time_ms.saturating_add(ttl)),
            flags: Flags { is_final: self.is_final, is_text: !self.payload.is_json(), is_pinned: false },
        };
        Group { events: self.channels.iter().map(append).collect(), idempotency: self.idempotency(time_ms) }
    }

    fn idempotency(&self, time_ms: u64) -> Option<Idempotency> {
        let key = self.idempotency_key.as_ref()?;
        let mut what = Sha256::new();
        for channel in &self.channels {
            part(&mut what, channel.as_str());
        }
        part(&mut what, self.event.as_str());
        part(&mut what, if self.payload.is_json() { "json" } else { "text" });
        part(&mut what, self.payload.as_str());
        part(&mut what, self.key.as_ref().map_or("", Key::as_str));
        part(&mut what, &format!("{} {:?}", self.is_final, self.ttl_ms));
        Some(Idempotency { key: key_hash(&self.principal, key), fingerprint: bits(what), time_ms })
    }
}

/// The hash under which a principal's key is remembered.
pub(crate) fn key_hash(principal: &str, key: &str) -> u128 {
    let mut hash = Sha256::new();
    part(&mut hash, principal);
    part(&mut hash, key);
    bits(hash)
}

/// A hash of several texts.
pub(crate) fn text_hash(parts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    parts.iter().for_each(|text| part(&mut hash, text));
    bits(hash)
}

/// Length first, so that no two lists of parts read the same.
fn part(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_le_bytes());
    hash.update(text.as_bytes());
}

fn bits(hash: Sha256) -> u128 {
    let digest = hash.finalize();
    digest.iter().take(16).fold(0, |bits, byte| (bits << 8) | u128::from(*byte))
}
