//! The data of an event, in a form that cannot break a frame.
//!
//! Owns: what data may be. Does not know: channels, ids, how data travels.
//! Flow: a JSON value or text from a publish → `Payload` → the encoder, which cannot fail.

use alloc::string::String;

use crate::limits;

/// Why data was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// More than 256 KiB.
    #[error("data is {bytes} bytes; at most {max} are allowed", max = limits::DATA_BYTES_MAX)]
    TooLarge {
        /// What was sent.
        bytes: usize,
    },
    /// Not JSON.
    #[error("data is not JSON: {0}")]
    NotJson(String),
}

impl PayloadError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "data_too_large",
            Self::NotJson(_) => "json_invalid",
        }
    }
}

/// The data of an event: JSON on one line, or text whose line ends are LF.
///
/// SSE cannot carry a CR: every reader makes it a line end. So text is split on CRLF, CR and LF when it is taken in.
///
/// ```
/// use tidings_core::Payload;
/// assert_eq!(Payload::text("a\r\nb\rc")?.as_str(), "a\nb\nc");
/// assert_eq!(Payload::json("{\"a\":\n1}")?.as_str(), "{\"a\": 1}");
/// # Ok::<(), tidings_core::PayloadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    text: String,
    is_json: bool,
}

impl Payload {
    /// Takes JSON text. Line ends between its tokens become spaces.
    ///
    /// # Errors
    /// [`PayloadError::NotJson`], or [`PayloadError::TooLarge`] above 256 KiB.
    pub fn json(text: &str) -> Result<Self, PayloadError> {
        bounded(text)?;
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(text).map_err(|e| PayloadError::NotJson(alloc::format!("{e}")))?;
        Ok(Self::from_raw(raw.get()))
    }

    /// Takes JSON that a parser has already accepted.
    ///
    /// # Errors
    /// [`PayloadError::TooLarge`] above 256 KiB.
    pub fn raw_json(raw: &serde_json::value::RawValue) -> Result<Self, PayloadError> {
        bounded(raw.get())?;
        Ok(Self::from_raw(raw.get()))
    }

    /// Takes text, any text.
    ///
    /// # Errors
    /// [`PayloadError::TooLarge`] above 256 KiB.
    pub fn text(text: &str) -> Result<Self, PayloadError> {
        bounded(text)?;
        let text =
            if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.into() };
        Ok(Self { text, is_json: false })
    }

    /// The data as it will be read from `event.data`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is JSON rather than text.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    fn from_raw(raw: &str) -> Self {
        let is_broken = memchr::memchr2(b'\r', b'\n', raw.as_bytes()).is_some();
        let text = if is_broken { raw.replace(['\r', '\n'], " ") } else { raw.into() };
        Self { text, is_json: true }
    }
}

fn bounded(text: &str) -> Result<(), PayloadError> {
    if text.len() > limits::DATA_BYTES_MAX {
        return Err(PayloadError::TooLarge { bytes: text.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_on_one_line_and_keeps_its_meaning() {
        assert_eq!(Payload::json("{\r\n \"a\": \"x\\ny\"\n}").unwrap().as_str(), "{   \"a\": \"x\\ny\" }");
        assert_eq!(Payload::json("{]").unwrap_err().code(), "json_invalid");
        assert_eq!(Payload::json("1 2").unwrap_err().code(), "json_invalid");
    }

    #[test]
    fn data_above_the_limit_is_refused_and_at_the_limit_is_not() {
        let at = "x".repeat(limits::DATA_BYTES_MAX);
        assert!(Payload::text(&at).is_ok());
        assert_eq!(Payload::text(&(at + "x")).unwrap_err().code(), "data_too_large");
    }
}
