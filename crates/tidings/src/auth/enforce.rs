//! What happens to open streams when a grant changes.
//!
//! Owns: new grants for open streams, refusals, revocations. Does not know: HTTP, how a shard ends a stream.
//! Flow: a request or a clock → the registry → commands to shards.

use std::sync::Arc;

use tidings_core::ChannelName;
use tidings_core::grant::Holder;
use tidings_core::job::JobId;

use super::{AuthError, Authorized, Revocation, RevokeError, Revoked};
use crate::Hub;
use crate::clock;
use crate::jobs::JobsError;
use crate::log::Outcome;
use crate::shard::{Command, Refusal};
use crate::subscribe::Subscription;
use crate::writer::CommitError;

/// Why a stream did not get a new grant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegrantError {
    /// There is no such stream.
    #[error("there is no such connection")]
    Gone,
    /// It does not cover these channels, so the stream was refused.
    #[error("the grant does not cover {} of the stream's channels", .0.len())]
    Uncovered(Vec<ChannelName>),
    /// It is over or revoked already.
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
}

impl Hub {
    /// Channels of these that a grant does not cover. A job's channel is covered for those who may read the job.
    pub(crate) async fn uncovered(
        &self,
        authorized: &Authorized,
        channels: &[ChannelName],
    ) -> Result<Vec<ChannelName>, JobsError> {
        let grant = &authorized.grant;
        let mut uncovered = Vec::new();
        for channel in channels.iter().filter(|channel| !grant.may_subscribe(channel)) {
            let id = channel.as_str().strip_prefix("job:").and_then(|id| JobId::parse(id).ok());
            let may = match id {
                None => false,
                Some(id) => self.jobs().facts(&id).await?.is_some_and(|f| grant.may_read_job(f.of(&id))),
            };
            if !may {
                uncovered.push(channel.clone());
            }
        }
        Ok(uncovered)
    }

    /// A stream goes on with this grant, or is refused if that does not cover all of its channels.
    pub(crate) async fn regrant(&self, id: u64, new: &Arc<Authorized>) -> Result<Option<u64>, RegrantError> {
        let registry = &self.0.registry;
        let stream = registry.find(id).ok_or(RegrantError::Gone)?;
        let uncovered = self.uncovered(new, &stream.channels).await?;
        if !uncovered.is_empty() {
            self.refuse(id, "forbidden", uncovered.clone());
            return Err(RegrantError::Uncovered(uncovered));
        }
        // First what it may do, then a look at what was revoked meanwhile: as when a stream is opened.
        stream.grant(kept(new));
        if registry.find(id).is_none_or(|now| !Arc::ptr_eq(&now, &stream)) {
            // Channels joined meanwhile.
            return Box::pin(self.regrant(id, new)).await;
        }
        self.0.auth.check(&new.grant).inspect_err(|error| self.refuse(id, error.code(), Vec::new()))?;
        let until = new.grant.expires_at_ms;
        if !registry.tell(stream.id, |key| Command::Until(key, until)) {
            return Err(RegrantError::Gone);
        }
        Ok(until)
    }

    /// Tells a stream why, and ends it.
    pub(crate) fn refuse(&self, id: u64, code: &'static str, channels: Vec<ChannelName>) {
        // One that is gone needs no refusal.
        self.0.registry.tell(id, |key| Command::Refuse(key, Refusal { code, channels }));
    }

    /// Revokes what was issued until now: durable first, then it counts, then open streams end. Says how many did.
    pub(crate) async fn revoke(
        &self,
        revoked: &Revoked,
        until: Option<u64>,
    ) -> Result<(usize, u64), RevokeError> {
        let auth = &self.0.auth;
        let revocation = Revocation::new(revoked, clock::unix_ms(), until)?;
        if !auth.revocations.has_room() {
            return Err(RevokeError::TooMany);
        }
        let group = revocation.group().ok_or(RevokeError::Value)?;
        let outcome = self.commit(vec![group]).await?.into_iter().next();
        if !matches!(outcome, Some(Outcome::Appended(_))) {
            return Err(CommitError::OutcomeUnknown.into());
        }
        let until = revocation.until;
        auth.revocations.add(revocation.clone());
        auth.forget(revoked);
        let is_meant =
            |stream: &Subscription| stream.authorized().is_some_and(|a| revocation.covers(&a.grant));
        let closed = self.0.registry.revoke(is_meant);
        tracing::info!(kind = ?revocation.kind, closed, "revoked");
        Ok((closed, until))
    }
}

/// What a stream keeps of its grant: nothing if everything is allowed, so that quiet streams stay small. Streams that are
/// judged together keep the same.
pub(crate) fn kept(authorized: &Arc<Authorized>) -> Option<Arc<Authorized>> {
    (authorized.grant.holder != Holder::Dev).then(|| Arc::clone(authorized))
}
