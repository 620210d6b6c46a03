//! Grants: what a request may subscribe to, publish to and do with jobs, and until when.
//!
//! Owns: patterns, rights, and what they cover. Does not know: tokens, cookies, keys, who is asked for a grant.
//! Flow: the grant object of `spec/wire.md` 14.1 → `Grant` → yes or no for a channel, or for a job.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;

use crate::{ChannelName, limits};

/// Why a grant is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The subject cannot stand in `user:<sub>`.
    #[error("the subject {0:?} cannot be part of a channel name")]
    Subject(String),
    /// A pattern is no channel, and no beginning of one with `*` behind it.
    #[error("the pattern {0:?} is not a channel, or the beginning of one with * behind it")]
    Pattern(String),
    /// A right over jobs that is not known.
    #[error("the right {0:?} is not read:…, create:…, manage:…, work:… or *")]
    Right(String),
    /// Too many patterns or rights.
    #[error("{0} patterns in one grant; at most {max} are allowed", max = limits::GRANT_PATTERNS_MAX)]
    TooMany(usize),
    /// The name of the session, or the token's id.
    #[error("the {0} is not 1 to {max} bytes", max = limits::TOKEN_ID_BYTES_MAX)]
    Name(&'static str),
}

/// Whose grant it is, such that `user:<subject>` is a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    own: ChannelName,
}

const OWN: &str = "user:";

impl Subject {
    /// Reads a subject.
    ///
    /// # Errors
    /// [`GrantError::Subject`].
    pub fn parse(text: &str) -> Result<Self, GrantError> {
        let invalid = || GrantError::Subject(text.chars().take(64).collect());
        if text.is_empty() {
            return Err(invalid());
        }
        let own = ChannelName::parse(&alloc::format!("{OWN}{text}")).map_err(|_| invalid())?;
        Ok(Self { own })
    }

    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.own.as_str().get(OWN.len()..).unwrap_or_default()
    }

    /// The channel that is always its own, `user:<subject>`.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.own
    }
}

/// A channel, or the beginning of channels with `*` behind it. Compared as bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Without the `*`.
    text: Arc<str>,
    is_prefix: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// ```
    /// use tidings_core::grant::Pattern;
    /// let orders = Pattern::parse("orders:*")?;
    /// assert!(orders.covers("orders:7") && !orders.covers("order"));
    /// assert!(Pattern::parse("a*b").is_err());
    /// # Ok::<(), tidings_core::GrantError>(())
    /// ```
    ///
    /// # Errors
    /// [`GrantError::Pattern`].
    pub fn parse(text: &str) -> Result<Self, GrantError> {
        let (begin, is_prefix) = text.strip_suffix('*').map_or((text, false), |begin| (begin, true));
        let is_name = (begin.is_empty() && is_prefix) || ChannelName::parse(begin).is_ok();
        if !is_name {
            return Err(GrantError::Pattern(text.chars().take(64).collect()));
        }
        Ok(Self { text: Arc::from(begin), is_prefix })
    }

    /// Whether a name is meant.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&*self.text) } else { *name == *self.text }
    }

    /// Whether it says in so many words that it means the server's own channels.
    fn is_reserved(&self) -> bool {
        RESERVED.iter().any(|reserved| self.text.starts_with(reserved))
    }
}

const RESERVED: [&str; 2] = ["job:", "tidings:"];

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// What may be done with which jobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Right {
    /// Documents, streams, logs and files of jobs, by id.
    Read(Pattern),
    /// Making jobs, by type, and cancelling and retrying one's own.
    Create(Pattern),
    /// Everything about jobs of a type, but running them.
    Manage(Pattern),
    /// Leasing and reporting jobs of a queue.
    Work(Pattern),
    /// Everything.
    All,
}

impl Right {
    /// Reads a right.
    ///
    /// # Errors
    /// [`GrantError::Right`].
    pub fn parse(text: &str) -> Result<Self, GrantError> {
        if text == "*" {
            return Ok(Self::All);
        }
        let invalid = || GrantError::Right(text.chars().take(64).collect());
        let (verb, pattern) = text.split_once(':').ok_or_else(invalid)?;
        let verb = match verb {
            "read" => Self::Read,
            "create" => Self::Create,
            "manage" => Self::Manage,
            "work" => Self::Work,
            _ => return Err(invalid()),
        };
        Ok(verb(Pattern::parse(pattern).map_err(|_| invalid())?))
    }
}

/// Who holds a grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Everybody, with `--dev`: everything is allowed.
    Dev,
    /// Whoever brings no credentials.
    Anonymous,
    /// A user of the application.
    Subject(Subject),
    /// A back end with an API key, by the key's name.
    Key(Arc<str>),
}

/// What a request may do.
///
/// ```
/// use tidings_core::{ChannelName, grant::{Grant, Object}};
/// let object = Object { sub: Some("42".into()), subscribe: vec!["orders:*".into()], ..Object::default() };
/// let grant = Grant::of(&object)?;
/// assert!(grant.may_subscribe(&ChannelName::parse("orders:7").unwrap()));
/// assert!(grant.may_subscribe(&ChannelName::parse("user:42").unwrap()));
/// assert!(!grant.may_publish(&ChannelName::parse("orders:7").unwrap()));
/// # Ok::<(), tidings_core::GrantError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is.
    pub holder: Holder,
    /// Channels that it may subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Channels that it may publish to.
    pub publish: Vec<Pattern>,
    /// What it may do with jobs.
    pub jobs: Vec<Right>,
    /// Whether it may administer the server: connections, revocations, metrics.
    pub admin: bool,
    /// When it ends, Unix milliseconds.
    pub expires_at_ms: Option<u64>,
    /// When it was issued, Unix milliseconds, if that is known.
    pub issued_at_ms: Option<u64>,
    /// The id of the token that it came with.
    pub token: Option<String>,
    /// The log-in that it belongs to.
    pub session: Option<String>,
}

/// The grant object of `spec/wire.md` 14.1, as a JWT and forward-auth have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Object {
    /// The subject.
    pub sub: Option<String>,
    /// When it ends, in seconds since 1970.
    pub exp: Option<u64>,
    /// Patterns of channels.
    pub subscribe: Vec<String>,
    /// Patterns of channels.
    pub publish: Vec<String>,
    /// Rights over jobs.
    pub jobs: Vec<String>,
    /// The log-in.
    pub session: Option<String>,
}

/// A job, as far as grants know it.
#[derive(Debug, Clone, Copy)]
pub struct JobFacts<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its type.
    pub job_type: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// Whose it is.
    pub subject: Option<&'a str>,
}

impl Grant {
    /// The grant of everything that `--dev` gives everybody.
    #[must_use]
    pub fn everything() -> Self {
        Self { admin: true, jobs: alloc::vec![Right::All], ..Self::empty(Holder::Dev) }
    }

    /// A grant of nothing.
    #[must_use]
    pub fn empty(holder: Holder) -> Self {
        Self {
            holder,
            subscribe: Vec::new(),
            publish: Vec::new(),
            jobs: Vec::new(),
            admin: false,
            expires_at_ms: None,
            issued_at_ms: None,
            token: None,
            session: None,
        }
    }

    /// Reads the grant object; without a subject it is anonymous.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn of(object: &Object) -> Result<Self, GrantError> {
        let holder = match &object.sub {
            Some(sub) => Holder::Subject(Subject::parse(sub)?),
            None => Holder::Anonymous,
        };
        if let Some(session) = &object.session {
            check_name("session", session)?;
        }
        Ok(Self {
            subscribe: all(&object.subscribe, Pattern::parse)?,
            publish: all(&object.publish, Pattern::parse)?,
            jobs: all(&object.jobs, Right::parse)?,
            expires_at_ms: object.exp.map(|seconds| seconds.saturating_mul(1_000)),
            session: object.session.clone(),
            ..Self::empty(holder)
        })
    }

    /// The id of the token that it came with.
    ///
    /// # Errors
    /// [`GrantError::Name`].
    pub fn with_token(mut self, id: &str) -> Result<Self, GrantError> {
        check_name("token id", id)?;
        self.token = Some(id.to_owned());
        Ok(self)
    }

    /// Whose it is, if it is a user's.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        match &self.holder {
            Holder::Subject(subject) => Some(subject),
            Holder::Dev | Holder::Anonymous | Holder::Key(_) => None,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, unix_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= unix_ms)
    }

    /// Whether a channel may be read. Of a job's channel this says only what patterns say; see [`Grant::may_read_job`].
    #[must_use]
    pub fn may_subscribe(&self, channel: &ChannelName) -> bool {
        match &self.holder {
            Holder::Dev => return true,
            Holder::Subject(subject) if subject.channel() == channel => return true,
            Holder::Subject(_) | Holder::Anonymous | Holder::Key(_) => {}
        }
        let is_key = matches!(self.holder, Holder::Key(_));
        let name = channel.as_str();
        let is_reserved = RESERVED.iter().any(|reserved| name.starts_with(reserved));
        self.subscribe.iter().any(|p| p.covers(name) && (!is_reserved || is_key || p.is_reserved()))
    }

    /// Whether a channel may be published to. Reserved ones never are, which is not decided here.
    #[must_use]
    pub fn may_publish(&self, channel: &ChannelName) -> bool {
        matches!(self.holder, Holder::Dev) || self.publish.iter().any(|p| p.covers(channel.as_str()))
    }

    /// Whether a job's document, stream, logs and files may be read.
    #[must_use]
    pub fn may_read_job(&self, job: JobFacts<'_>) -> bool {
        self.owns(job)
            || self.jobs.iter().any(|right| match right {
                Right::Read(ids) => ids.covers(job.id),
                Right::Manage(types) => types.covers(job.job_type),
                Right::Work(queues) => queues.covers(job.queue),
                Right::All => true,
                Right::Create(_) => false,
            })
    }

    /// Whether jobs of a type may be made.
    #[must_use]
    pub fn may_create_job(&self, job_type: &str) -> bool {
        self.jobs.iter().any(|right| match right {
            Right::Create(types) | Right::Manage(types) => types.covers(job_type),
            Right::All => true,
            Right::Read(_) | Right::Work(_) => false,
        })
    }

    /// Whether everything may be done with jobs of a type.
    #[must_use]
    pub fn may_manage_jobs(&self, job_type: &str) -> bool {
        self.jobs.iter().any(|right| match right {
            Right::Manage(types) => types.covers(job_type),
            Right::All => true,
            Right::Create(_) | Right::Read(_) | Right::Work(_) => false,
        })
    }

    /// Whether a job may be cancelled and made again.
    #[must_use]
    pub fn may_cancel_job(&self, job: JobFacts<'_>) -> bool {
        self.may_manage_jobs(job.job_type) || (self.owns(job) && self.may_create_job(job.job_type))
    }

    /// Whether jobs of a queue may be leased and reported.
    #[must_use]
    pub fn may_work(&self, queue: &str) -> bool {
        self.jobs.iter().any(|right| match right {
            Right::Work(queues) => queues.covers(queue),
            Right::All => true,
            Right::Create(_) | Right::Read(_) | Right::Manage(_) => false,
        })
    }

    fn owns(&self, job: JobFacts<'_>) -> bool {
        self.subject().is_some_and(|subject| job.subject == Some(subject.as_str()))
    }

    /// Whose idempotency keys its publishes use. The kinds cannot be mistaken for each other.
    #[must_use]
    pub fn principal(&self) -> String {
        match &self.holder {
            Holder::Dev => "dev".to_owned(),
            Holder::Anonymous => "anonymous".to_owned(),
            Holder::Subject(subject) => alloc::format!("sub:{}", subject.as_str()),
            Holder::Key(name) => alloc::format!("key:{name}"),
        }
    }

    /// When its holder hears that it is about to end, having had it since `now`: when a fifth of the time is left, at most
    /// a minute before.
    #[must_use]
    pub fn expiring_at_ms(expires_at_ms: u64, now_ms: u64) -> u64 {
        let left = expires_at_ms.saturating_sub(now_ms);
        expires_at_ms.saturating_sub((left / 5).min(limits::AUTH_EXPIRING_MS_MAX))
    }
}

fn check_name(what: &'static str, text: &str) -> Result<(), GrantError> {
    let fits = (1..=limits::TOKEN_ID_BYTES_MAX).contains(&text.len());
    if fits { Ok(()) } else { Err(GrantError::Name(what)) }
}

fn all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, GrantError>) -> Result<Vec<T>, GrantError> {
    if texts.len() > limits::GRANT_PATTERNS_MAX {
        return Err(GrantError::TooMany(texts.len()));
    }
    texts.iter().map(|text| parse(text)).collect()
}

#[cfg(test)]
mod tests;
