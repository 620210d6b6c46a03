//! A progress report.
//!
//! Owns: its fields, and which of them it leaves as they are. Does not know: the job.
//! Flow: in ← a number or a `Progress` · out → the fields of a report.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Number, Value};

use super::{JobsError, millis};

/// How far a job is. What is not said keeps its value.
///
/// ```
/// use tidings_client::jobs::{Field, Progress};
/// let half = Progress::percent(50.0).step("render");
/// let rows = Progress::of(4_200.0, 10_000.0).unit("rows").message("Rendering page 12");
/// let quiet = Progress::new().clear(Field::Message);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Progress {
    fields: Map<String, Value>,
    invalid: Option<String>,
}

/// A field of a job's document that a report can clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// `current`
    Current,
    /// `total`
    Total,
    /// `unit`
    Unit,
    /// `step`
    Step,
    /// `message`
    Message,
    /// `eta_ms`
    Eta,
    /// `data`
    Data,
}

impl Progress {
    /// A report that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// 0–100.
    pub fn percent(percent: f64) -> Self {
        Self::default().number("progress", percent)
    }

    /// How much of how much is done; the percentage follows from it.
    pub fn of(current: f64, total: f64) -> Self {
        Self::default().number("current", current).number("total", total)
    }

    /// What `current` and `total` count.
    pub fn unit(self, unit: impl Into<String>) -> Self {
        self.with("unit", Value::String(unit.into()))
    }

    /// The part it is at.
    pub fn step(self, step: impl Into<String>) -> Self {
        self.with("step", Value::String(step.into()))
    }

    /// For people.
    pub fn message(self, message: impl Into<String>) -> Self {
        self.with("message", Value::String(message.into()))
    }

    /// How long it will take yet.
    pub fn eta(self, eta: Duration) -> Self {
        self.with("eta_ms", millis(eta).into())
    }

    /// Anything, up to 16 KiB of JSON.
    pub fn data(mut self, data: impl Serialize) -> Self {
        match serde_json::to_value(data) {
            Ok(data) => self.with("data", data),
            Err(error) => {
                self.invalid = Some(format!("data is not JSON: {error}"));
                self
            }
        }
    }

    /// The progress may fall with this report.
    pub fn reset(self) -> Self {
        self.with("reset", true.into())
    }

    /// Clears a field.
    pub fn clear(self, field: Field) -> Self {
        let name = match field {
            Field::Current => "current",
            Field::Total => "total",
            Field::Unit => "unit",
            Field::Step => "step",
            Field::Message => "message",
            Field::Eta => "eta_ms",
            Field::Data => "data",
        };
        self.with(name, Value::Null)
    }

    fn number(mut self, name: &'static str, value: f64) -> Self {
        match Number::from_f64(value) {
            Some(number) => self.with(name, Value::Number(number)),
            // JSON has no such number, and null would clear the field.
            None => {
                self.invalid = Some(format!("{name} is {value}, which is not a number of JSON"));
                self
            }
        }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.to_owned(), value);
        self
    }

    pub(super) fn fields(self) -> Result<Map<String, Value>, JobsError> {
        self.invalid.map_or(Ok(self.fields), |invalid| Err(JobsError::Invalid(invalid)))
    }
}

macro_rules! from_number {
    ($($number:ty),*) => {$(
        impl From<$number> for Progress {
            fn from(percent: $number) -> Self {
                Self::percent(f64::from(percent))
            }
        }
    )*};
}
from_number!(f64, f32, u8, u16, u32, i32);

#[cfg(test)]
mod tests {
    use super::*;

    fn json(progress: Progress) -> String {
        progress.fields().map_or_else(|e| e.to_string(), |fields| Value::Object(fields).to_string())
    }

    #[test]
    fn a_report_says_what_was_said_and_null_only_to_clear() {
        assert_eq!(json(42.into()), r#"{"progress":42.0}"#);
        let rows = Progress::of(3.0, 4.0).message("m").eta(Duration::from_secs(2)).clear(Field::Step).reset();
        let expected = r#"{"current":3.0,"eta_ms":2000,"message":"m","reset":true,"step":null,"total":4.0}"#;
        assert_eq!(json(rows), expected);
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(json(Progress::percent(bad)).starts_with("progress is "), "{bad}");
        }
    }
}
