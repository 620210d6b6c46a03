//! Names of jobs, of what they do, and of those who have to do with them.
//!
//! Owns: what they may be. Does not know: who makes them.
//! Flow: a path or a body → `JobId`, `JobType`, `QueueName`, `WorkerId`, `ScheduleName` → the job's channel, the ready jobs.

use alloc::format;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;

use super::JobError;
use crate::{ChannelName, EventName, limits};

/// The id of a job: 1–128 bytes of `[A-Za-z0-9._:-]`, so that it fits a path and ids of other queues fit it.
///
/// ```
/// use tidings_core::job::JobId;
/// let id = JobId::parse("bull:exports:123")?;
/// assert_eq!(id.channel().as_str(), "job:bull:exports:123");
/// assert!(JobId::parse("a/b").is_err());
/// # Ok::<(), tidings_core::job::JobError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(ChannelName);

/// What stands before the id in the name of a job's channel.
const PREFIX: &str = "job:";

impl JobId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`JobError::Id`]; also for `.` and `..`, which mean something else in a path.
    pub fn parse(text: &str) -> Result<Self, JobError> {
        let refused = || JobError::Id(text.chars().take(64).collect());
        if !is_path_name(text, limits::JOB_ID_BYTES_MAX) {
            return Err(refused());
        }
        ChannelName::parse(&format!("{PREFIX}{text}")).map(Self).map_err(|_| refused())
    }

    /// The job whose channel this is, if it is one's.
    #[must_use]
    pub fn of_channel(channel: &ChannelName) -> Option<Self> {
        Self::parse(channel.as_str().strip_prefix(PREFIX)?).ok()
    }

    /// The job's channel, `job:<id>`.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.0
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().strip_prefix(PREFIX).unwrap_or_default()
    }
}

/// What a job does: the name under which its handler is registered. The rules of event types hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobType(Arc<str>);

impl JobType {
    /// Reads a type.
    ///
    /// # Errors
    /// [`JobError::Type`].
    pub fn parse(text: &str) -> Result<Self, JobError> {
        match EventName::parse(text) {
            Ok(name) => Ok(Self(Arc::from(name.as_str()))),
            Err(_) => Err(JobError::Type(text.chars().take(64).collect())),
        }
    }

    /// What a type is taken for that cannot be read.
    #[must_use]
    pub fn unknown() -> Self {
        Self(Arc::from("unknown"))
    }

    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for JobType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident => $error:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads a name.
            ///
            /// # Errors
            #[doc = concat!("[`JobError::", stringify!($error), "`]; also for `.` and `..`, which mean something else in a path.")]
            pub fn parse(text: &str) -> Result<Self, JobError> {
                match is_path_name(text, limits::JOB_NAME_BYTES_MAX) {
                    true => Ok(Self(Arc::from(text))),
                    false => Err(JobError::$error(text.chars().take(64).collect())),
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}
names! {
    /// The name of a queue: 1–128 bytes of `[A-Za-z0-9._:-]`.
    QueueName => Queue;
    /// The id that a worker gives itself: 1–128 bytes of `[A-Za-z0-9._:-]`.
    WorkerId => Worker;
    /// The name of a schedule: 1–128 bytes of `[A-Za-z0-9._:-]`.
    ScheduleName => Schedule;
}

impl QueueName {
    /// Where a job stands whose maker named no queue.
    #[must_use]
    pub fn default_queue() -> Self {
        Self(Arc::from("default"))
    }
}

/// Whether a text can stand in a path as it is.
fn is_path_name(text: &str, bytes_max: usize) -> bool {
    let allows = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(allows) && !matches!(text, "." | "..")
}

macro_rules! text_traits {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    )*};
}
text_traits!(JobId, JobType, QueueName, WorkerId, ScheduleName);
