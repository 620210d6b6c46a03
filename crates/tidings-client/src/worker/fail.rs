//! How a handler says that it has no result.
//!
//! Owns: the message, the code, and whether to try again. Does not know: attempts, the server's backoff.
//! Flow: in ← an error of the handler · out → the fields of a report.

use std::error::Error;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tidings_core::job::State;

use crate::jobs::{millis, reporter::object};

/// A run without a result. Every error turns into one with `?`, and is then tried again while attempts are left.
///
/// ```
/// use std::time::Duration;
/// use tidings_client::worker::Fail;
///
/// fn parse(text: &str) -> Result<u32, Fail> {
///     Ok(text.parse::<u32>()?)
/// }
/// let gone = Fail::new("customer 42 does not exist").code("customer_gone").never();
/// let busy = Fail::new("the mail server is busy").after(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Fail {
    message: String,
    code: Option<String>,
    stack: Option<String>,
    next: Next,
}

/// What becomes of the job.
#[derive(Debug, Clone, Copy)]
enum Next {
    Auto,
    Never,
    After(Duration),
    Cancelled,
    Released,
}

impl Fail {
    /// A failure with a message for people.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: None, stack: None, next: Next::Auto }
    }

    /// The job was called off, and the handler has stopped for that.
    pub fn cancelled() -> Self {
        let cancelled = Self::new("cancelled").code("cancelled");
        Self { next: Next::Cancelled, ..cancelled }
    }

    /// The handler gives the job back: it runs again, as the same attempt.
    pub fn release() -> Self {
        Self { next: Next::Released, ..Self::new("released") }
    }

    /// A code for programs (`failed`).
    pub fn code(self, code: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    /// More for whoever looks for the fault. It goes to the server's log only.
    pub fn stack(self, stack: impl Into<String>) -> Self {
        Self { stack: Some(stack.into()), ..self }
    }

    /// Another run would not help.
    pub fn never(self) -> Self {
        Self { next: Next::Never, ..self }
    }

    /// Runs again after this time, if attempts are left.
    pub fn after(self, wait: Duration) -> Self {
        Self { next: Next::After(wait), ..self }
    }

    pub(super) fn is_release(&self) -> bool {
        matches!(self.next, Next::Released)
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut error = object(json!({ "message": self.message }));
        error.insert("code".to_owned(), self.code.as_deref().unwrap_or("failed").into());
        if let Some(stack) = &self.stack {
            error.insert("stack".to_owned(), stack.as_str().into());
        }
        let mut fields = object(json!({ "error": error }));
        match self.next {
            Next::Never => drop(fields.insert("retry".to_owned(), "never".into())),
            Next::After(wait) => {
                fields.insert("retry".to_owned(), json!({ "after_ms": millis(wait) }));
            }
            Next::Cancelled => drop(fields.insert("state".to_owned(), State::Cancelled.as_str().into())),
            Next::Auto | Next::Released => {}
        }
        fields
    }
}

// `Fail` itself is no `Error`, so that every `Error` can become one.
impl<E: Error> From<E> for Fail {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(fail: Fail) -> String {
        Value::Object(fail.fields()).to_string()
    }

    #[test]
    fn a_failure_says_whether_to_try_again_only_if_it_knows() {
        let parsed: Result<u32, Fail> = "x".parse::<u32>().map_err(Fail::from);
        let auto = r#"{"error":{"code":"failed","message":"invalid digit found in string"}}"#;
        assert_eq!(json(parsed.unwrap_err()), auto);
        let never = r#"{"error":{"code":"c","message":"m","stack":"s"},"retry":"never"}"#;
        assert_eq!(json(Fail::new("m").code("c").stack("s").never()), never);
        let after = r#"{"error":{"code":"failed","message":"m"},"retry":{"after_ms":1500}}"#;
        assert_eq!(json(Fail::new("m").after(Duration::from_millis(1_500))), after);
        let cancelled = r#"{"error":{"code":"cancelled","message":"cancelled"},"state":"cancelled"}"#;
        assert_eq!(json(Fail::cancelled()), cancelled);
    }
}
