//! How values look to people.
//!
//! Owns: numbers, durations, states and foreign text as they stand in a terminal. Does not know: jobs' rules.
//! Flow: in ← a value · out → text without control characters.

use std::time::{SystemTime, UNIX_EPOCH};

use console::{StyledObject, style};
use tidings_client::State;
use tidings_client::jobs::Document;

/// Control characters are shown, not obeyed: what a job says must not steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        // The second range turns the direction of text around.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// A percentage without needless digits.
pub(super) fn percent(progress: f64) -> String {
    format!("{:.0} %", progress.clamp(0.0, 100.0).floor())
}

/// A number with a comma for each thousand: `4,200` or `0.5`.
pub(super) fn count(value: f64) -> String {
    let text = if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(w, r)| (w, Some(r)));
    let mut out = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    match rest {
        Some(rest) => format!("{out}.{rest}"),
        None => out,
    }
}

/// A duration, as exact as anybody wants it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 days`.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..10 => format!("{seconds}.{} s", ms % 1_000 / 100),
        10..60 => format!("{seconds} s"),
        60..600 => format!("{minutes} min {} s", seconds % 60),
        600..3_600 => format!("{minutes} min"),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ if days == 1 => "1 day".to_owned(),
        _ => format!("{days} days"),
    }
}

/// How long ago, in the few characters that a table has: `5s`, `3m`, `2h`, `4d`.
pub(super) fn age(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A size in bytes.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// A state in its colour, where there are colours.
pub(super) fn colored(state: State, text: String) -> StyledObject<String> {
    match state {
        State::Completed => style(text).green(),
        State::Failed | State::Expired => style(text).red(),
        State::Cancelled | State::Retrying => style(text).yellow(),
        State::Running => style(text).cyan(),
        State::Scheduled | State::Queued => style(text).dim(),
    }
}

/// Why it is where it is: `queued (released)`.
pub(super) fn state(job: &Document) -> String {
    match &job.reason {
        Some(reason) => format!("{} ({})", job.state.as_str(), clean(reason)),
        None => job.state.as_str().to_owned(),
    }
}

/// What a job says of itself beside the percentage: `4,200 of 10,000 rows · render · Rendering page 12`. The amount is first,
/// because the end is what a narrow terminal cuts off.
pub(super) fn note(job: &Document) -> String {
    let unit = job.unit.as_deref().map(|unit| format!(" {}", clean(unit))).unwrap_or_default();
    let amount = match (job.current, job.total) {
        (Some(current), Some(total)) => Some(format!("{} of {}{unit}", count(current), count(total))),
        (Some(current), None) => Some(format!("{}{unit}", count(current))),
        _ => None,
    };
    let texts = [job.step.as_deref(), job.message.as_deref()].into_iter().flatten().map(clean);
    amount.into_iter().chain(texts).collect::<Vec<_>>().join(" · ")
}

/// An address that the server gave, as one that can be opened: it may be without a host.
pub(super) fn absolute(base: &str, url: &str) -> String {
    if !url.starts_with('/') {
        return clean(url);
    }
    let host_at = base.find("://").map_or(0, |at| at + 3);
    let end = base.get(host_at..).and_then(|rest| rest.find('/')).map_or(base.len(), |at| host_at + at);
    format!("{}{}", base.get(..end).unwrap_or(base), clean(url))
}

/// This machine's clock, Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_people_write_them() {
        assert_eq!(
            [0, 400, 12_345, 185_000, 900_000].map(span),
            ["0.0 s", "0.4 s", "12 s", "3 min 5 s", "15 min"]
        );
        assert_eq!([7_800_000, 90_000_000, 259_200_000].map(span), ["2 h 10 min", "1 day", "3 days"]);
        assert_eq!([0, 59_999, 3_599_000, 7_200_000, 180_000_000].map(age), ["0s", "59s", "59m", "2h", "2d"]);
        assert_eq!(
            [0.0, 999.0, 4_200.0, 1_234_567.0, 0.5].map(count),
            ["0", "999", "4,200", "1,234,567", "0.5"]
        );
        assert_eq!([0, 1_023, 1_536, 5 << 20].map(size), ["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]);
        assert_eq!([0.0, 41.99, 99.999, 100.0].map(percent), ["0 %", "41 %", "99 %", "100 %"]);
    }

    #[test]
    fn foreign_text_does_not_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{202e}d ä"), "a\\u{1b}[2Jb\\nc\\u{202e}d ä");
    }

    #[test]
    fn an_address_without_a_host_gets_the_servers() {
        assert_eq!(absolute("http://h:1", "/v1/x"), "http://h:1/v1/x");
        assert_eq!(absolute("http://h:1/rt/", "/rt/v1/x"), "http://h:1/rt/v1/x");
        assert_eq!(absolute("http://h:1", "https://cdn/x"), "https://cdn/x");
    }

    #[test]
    fn a_note_says_what_there_is() {
        let of = |json: &str| {
            let json = format!(r#"{{"id":"a","mode":"managed","state":"running"{json}}}"#);
            note(&serde_json::from_str(&json).unwrap())
        };
        assert_eq!(of(""), "");
        assert_eq!(of(r#","current":3,"total":4,"unit":"rows""#), "3 of 4 rows");
        assert_eq!(of(r#","step":"a","message":"b","current":3"#), "3 · a · b");
    }
}
