//! Cron patterns in a time zone.
//!
//! Owns: the syntax that is taken, and what becomes of times that daylight saving leaves out or repeats. Does not know:
//! schedules, the clock.
//! Flow: text and the name of a zone → `CronTimes` → the next time after another.
//!
//! The fields are croner's. It takes a pattern with several hours (`0 2,14 * * *`) for an interval, which is dropped in the
//! gap and repeated in the overlap; so here it walks the clock on the wall, and this file finds the instants.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// A pattern, in bytes: all sixty minutes, named one by one, fit.
const CRON_BYTES_MAX: usize = 256;
/// The years that are searched. A pattern that has no time in them has none, and its search ends in milliseconds.
const YEARS: &str = "1970-2200";
/// Further than any zone is from UTC.
const OFFSET_MAX: TimeDelta = TimeDelta::hours(16);
/// Times of one repeated stretch of the clock that may have to be stepped over: those of three hours.
const REPEATED_MAX: usize = 3 * 60 * 60;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What a pattern means in a time zone.
#[derive(Debug, Clone)]
pub(super) struct CronTimes {
    cron: Box<Cron>,
    tz: Tz,
    /// It names every hour, so it goes by the hours that pass, not by those that the clock shows.
    is_hourly: bool,
}

/// Which of the six fields an item stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Time,
    Day,
    Month,
    Weekday,
}

const FIELDS: [Field; 6] = [Field::Time, Field::Time, Field::Time, Field::Day, Field::Month, Field::Weekday];

impl CronTimes {
    /// Reads a pattern. Says in words what is wrong with it.
    pub(super) fn parse(text: &str, tz: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let zone: String = tz.chars().take(64).collect();
        let tz: Tz = tz.parse().map_err(|_| format!("{zone:?} is no time zone such as Europe/Berlin"))?;
        let pattern =
            normal(text).ok_or_else(|| format!("cron {shown:?} is not five or six valid fields"))?;
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Required).build();
        let cron = parser.parse(&pattern).map_err(|error| format!("cron {shown:?} is not valid: {error}"))?;
        let is_hourly = cron.pattern.hours.values().len() == 24;
        Ok(Self { cron: Box::new(cron), tz, is_hourly })
    }

    /// The first time after another, in Unix milliseconds.
    pub(super) fn next_after(&self, after_ms: u64) -> Option<u64> {
        let after = DateTime::<Utc>::from_timestamp_millis(i64::try_from(after_ms).ok()?)?;
        let after = after.with_timezone(&self.tz);
        if self.is_hourly {
            return millis(self.cron.find_next_occurrence(&after, false).ok()?);
        }
        let mut wall = after.naive_local();
        for _ in 0..REPEATED_MAX {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            // A time on the second half of a repeated stretch has passed on the first.
            if let Some(at) = self.instant(wall).filter(|at| *at > after) {
                return millis(at);
            }
        }
        None
    }

    /// When the clock on the wall first shows a time, or passes it.
    fn instant(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        match self.tz.from_local_datetime(&wall) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at),
            LocalResult::None => self.behind_gap(wall),
        }
    }

    /// The first second behind the gap that a time falls into.
    fn behind_gap(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        let passed = |utc: NaiveDateTime| self.tz.from_utc_datetime(&utc).naive_local() > wall;
        let mut before = wall.checked_sub_signed(OFFSET_MAX)?;
        let mut behind = wall.checked_add_signed(OFFSET_MAX)?;
        while behind - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((behind - before).num_seconds() / 2);
            if passed(middle) { behind = middle } else { before = middle }
        }
        Some(self.tz.from_utc_datetime(&behind))
    }
}

fn millis(at: DateTime<Tz>) -> Option<u64> {
    u64::try_from(at.timestamp_millis()).ok()
}

/// The pattern with seconds and years. `None` if it is none: croner reads `JAN1` as November, and an empty item as nothing.
fn normal(text: &str) -> Option<String> {
    if text.len() > CRON_BYTES_MAX || !text.is_ascii() {
        return None;
    }
    let text = text.trim().to_ascii_uppercase();
    let text = match text.as_str() {
        "@YEARLY" | "@ANNUALLY" => "0 0 1 1 *",
        "@MONTHLY" => "0 0 1 * *",
        "@WEEKLY" => "0 0 * * 0",
        "@DAILY" | "@MIDNIGHT" => "0 0 * * *",
        "@HOURLY" => "0 * * * *",
        text => text,
    };
    let mut fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() == 5 {
        fields.insert(0, "0");
    }
    let is_valid = fields.len() == FIELDS.len()
        && fields.iter().zip(FIELDS).all(|(field, kind)| {
            let field = if kind == Field::Weekday { field.strip_prefix('+').unwrap_or(field) } else { field };
            field.split(',').all(|item| is_item(item, kind))
        });
    is_valid.then(|| format!("{} {YEARS}", fields.join(" ")))
}

/// `7`, `1-5`, `*/15`, `MON-FRI`, `FRI#2`, …. Croner checks the bounds.
fn is_item(item: &str, field: Field) -> bool {
    let (range, step) = item.split_once('/').unwrap_or((item, "1"));
    is_number(step) && range.split('-').all(|value| is_value(value, field))
}

fn is_value(value: &str, field: Field) -> bool {
    let is_plain = |value: &str| is_number(value) || field == Field::Weekday && DAYS.contains(&value);
    if is_plain(value) || value == "*" {
        return true;
    }
    match field {
        Field::Time => false,
        Field::Month => MONTHS.contains(&value),
        Field::Day => matches!(value, "?" | "L" | "LW") || value.strip_suffix('W').is_some_and(is_number),
        Field::Weekday => {
            let last = value.strip_suffix('L').map(|day| day.strip_suffix('#').unwrap_or(day));
            value == "?"
                || last.is_some_and(is_plain)
                || value.split_once('#').is_some_and(|(day, nth)| is_plain(day) && is_number(nth))
        }
    }
}

fn is_number(text: &str) -> bool {
    (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}
