//! Names that users give: channels, event types and conflation keys.
//!
//! Owns: what a name may be. Does not know: who may use it.
//! Flow: text from a query or a body → a name that can no longer break a frame.

use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A channel name that is empty, too long or holds a byte outside printable ASCII without space `"` `*` `,` `\`.
    #[error("channel name {0:?} is not 1 to 255 bytes of printable ASCII without space, \", *, comma or \\")]
    Channel(String),
    /// A channel that only the server writes: `job:…` and `tidings:…`.
    #[error("channel {0} is reserved for the server")]
    ChannelReserved(ChannelName),
    /// An event type that is empty, too long or holds a byte outside `[A-Za-z0-9_.:-]`.
    #[error("event type {0:?} is not 1 to 64 bytes of A-Z a-z 0-9 _ . : -")]
    Event(String),
    /// `error`, `open` or `tidings.…`: browsers and the server use these themselves.
    #[error("event type {0} is reserved: browsers or the server fire it themselves")]
    EventReserved(EventName),
    /// A conflation key that is empty, too long or holds a control character.
    #[error("key {0:?} is not 1 to 128 bytes without control characters")]
    Key(String),
}

impl NameError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Channel(_) => "channel_name_invalid",
            Self::ChannelReserved(_) => "channel_reserved",
            Self::Event(_) => "event_name_invalid",
            Self::EventReserved(_) => "event_reserved",
            Self::Key(_) => "key_invalid",
        }
    }
}

/// The name of a channel: 1–255 bytes of printable ASCII without space `"` `*` `,` `\`, compared as bytes.
///
/// ```
/// use tidings_core::ChannelName;
/// let channel = ChannelName::parse("user:42")?;
/// assert_eq!(channel.as_str(), "user:42");
/// assert!(ChannelName::parse("a\nb").is_err());
/// # Ok::<(), tidings_core::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Reads a name. A reserved one is a valid name; see [`ChannelName::publishable`].
    ///
    /// # Errors
    /// [`NameError::Channel`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (1..=limits::CHANNEL_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(Self::allows) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NameError::Channel(shortened(text)))
        }
    }

    /// The channel, if users may publish to it.
    ///
    /// # Errors
    /// [`NameError::ChannelReserved`] for `job:…` and `tidings:…`.
    pub fn publishable(self) -> Result<Self, NameError> {
        if self.is_job() || self.0.starts_with("tidings:") {
            return Err(NameError::ChannelReserved(self));
        }
        Ok(self)
    }

    /// Whether the channel is a job's own, `job:<id>`.
    #[must_use]
    pub fn is_job(&self) -> bool {
        self.0.starts_with("job:")
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn allows(byte: u8) -> bool {
        byte.is_ascii_graphic() && !matches!(byte, b'"' | b'*' | b',' | b'\\')
    }
}

/// An event type: 1–64 bytes of `[A-Za-z0-9_.:-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(Arc<str>);

impl EventName {
    /// The type an event has when none is named, as in WHATWG HTML.
    #[must_use]
    pub fn message() -> Self {
        Self(Arc::from("message"))
    }

    /// Reads a name. A reserved one is a valid name; see [`EventName::publishable`].
    ///
    /// # Errors
    /// [`NameError::Event`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (1..=limits::EVENT_NAME_BYTES_MAX).contains(&text.len());
        let allows = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
        if fits && text.bytes().all(allows) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NameError::Event(shortened(text)))
        }
    }

    /// The event type, if users may publish it.
    ///
    /// # Errors
    /// [`NameError::EventReserved`]: the browser fires its own `error` and `open` on the same listener,
    /// and `tidings.…` are control events.
    pub fn publishable(self) -> Result<Self, NameError> {
        if matches!(&*self.0, "error" | "open") || self.0.starts_with("tidings.") {
            return Err(NameError::EventReserved(self));
        }
        Ok(self)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the default type, which frames leave out.
    #[must_use]
    pub fn is_message(&self) -> bool {
        &*self.0 == "message"
    }
}

/// A conflation key: a newer event with the same channel and key replaces the older one for connections that are behind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Reads a key of 1–128 bytes without control characters.
    ///
    /// # Errors
    /// [`NameError::Key`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (1..=limits::KEY_BYTES_MAX).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NameError::Key(shortened(text)))
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_traits {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}
text_traits!(ChannelName, EventName, Key);

/// Errors name the value, but never echo a megabyte of it.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn channel_names_refuse_what_would_break_a_frame_a_query_or_a_grant() {
        for bad in ["", "a b", "a\"b", "a*", "a,b", "a\\b", "a\nb", "a\rb", "a\0b", "\u{feff}a", "ä"] {
            assert_eq!(ChannelName::parse(bad).unwrap_err().code(), "channel_name_invalid", "{bad:?}");
        }
        assert!(ChannelName::parse(&"x".repeat(255)).is_ok());
        assert!(ChannelName::parse(&"x".repeat(256)).is_err());
    }

    #[test]
    fn reserved_names_parse_but_cannot_be_published() {
        for reserved in ["job:1", "tidings:x"] {
            let name = ChannelName::parse(reserved).unwrap();
            assert_eq!(name.publishable().unwrap_err().code(), "channel_reserved");
        }
        assert!(ChannelName::parse("jobs").unwrap().publishable().is_ok());
        for reserved in ["error", "open", "tidings.hello", "tidings."] {
            let name = EventName::parse(reserved).unwrap();
            assert_eq!(name.publishable().unwrap_err().code(), "event_reserved");
        }
    }

    #[test]
    fn event_types_are_64_bytes_of_plain_characters() {
        for bad in ["", "a b", "a\nb", "a/b", "é", "a\0"] {
            assert_eq!(EventName::parse(bad).unwrap_err().code(), "event_name_invalid", "{bad:?}");
        }
        assert!(EventName::parse(&"e".repeat(64)).is_ok());
        assert!(EventName::parse(&"e".repeat(65)).is_err());
        assert!(EventName::message().is_message());
    }

    #[test]
    fn an_error_never_echoes_a_megabyte() {
        let long = "x".repeat(1 << 20);
        assert!(ChannelName::parse(&long).unwrap_err().to_string().len() < 256);
    }
}
