//! Conditions and ranges of a request for a file (RFC 9110, sections 13 and 14).
//!
//! Owns: which part of a file is asked for, and whether it is wanted at all. Does not know: what files are.
//! Flow: the request's headers, the file's validators → a selection.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, Method, header};

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    /// Strong, with its quotes.
    pub(super) etag: String,
    /// In whole seconds, as the header says it.
    pub(super) modified: SystemTime,
    pub(super) bytes: u64,
}

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    Whole,
    Part(RangeInclusive<u64>),
    /// The client has it.
    NotModified,
    /// The client wants another state of the file, or nothing.
    Failed,
    /// The part is behind the end of the file.
    NotSatisfiable,
}

impl Validators {
    pub(super) fn new(etag: String, modified: SystemTime, bytes: u64) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { etag, modified: UNIX_EPOCH + Duration::from_secs(since.as_secs()), bytes }
    }

    /// Evaluates a request, in the order of RFC 9110, 13.2.2.
    pub(super) fn select(&self, method: &Method, headers: &HeaderMap) -> Selection {
        if headers.contains_key(header::IF_MATCH) {
            if !is_listed(headers, &header::IF_MATCH, &self.etag, Comparison::Strong) {
                return Selection::Failed;
            }
        } else if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|date| self.modified > date) {
            return Selection::Failed;
        }
        let is_known = if headers.contains_key(header::IF_NONE_MATCH) {
            is_known(headers, &self.etag)
        } else {
            date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|date| self.modified <= date)
        };
        if is_known {
            return Selection::NotModified;
        }
        // Ranges are defined for GET only.
        if method == Method::GET && self.is_same(headers) { self.range(headers) } else { Selection::Whole }
    }

    /// One range is served. Several of them, or what is no range of bytes, may be ignored by 14.2, and a client then gets
    /// the whole file.
    fn range(&self, headers: &HeaderMap) -> Selection {
        let mut values = headers.get_all(header::RANGE).iter();
        let only = values.next().filter(|_| values.next().is_none());
        let parsed = only.and_then(|v| v.to_str().ok()).map(http_range_header::parse_range_header);
        let Some(Ok(ranges)) = parsed else { return Selection::Whole };
        if ranges.len() != 1 {
            return Selection::Whole;
        }
        match ranges.validate(self.bytes) {
            Ok(valid) => valid.into_iter().next().map_or(Selection::Whole, Selection::Part),
            Err(_) => Selection::NotSatisfiable,
        }
    }

    /// `If-Range`: whether the part that the client has is of this state of the file.
    fn is_same(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::IF_RANGE) else { return true };
        let text = value.to_str().unwrap_or_default().trim();
        // A date counts only if it is exactly the one that was given out.
        text == self.etag || httpdate::parse_http_date(text).is_ok_and(|date| date == self.modified)
    }
}

/// Whether the client says in `If-None-Match` that it has this.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    is_listed(headers, &header::IF_NONE_MATCH, etag, Comparison::Weak)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Weak,
    Strong,
}

fn is_listed(headers: &HeaderMap, name: &HeaderName, etag: &str, comparison: Comparison) -> bool {
    let mut values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values.any(|value| {
        value.trim() == "*"
            || tags(value).any(|(is_weak, tag)| tag == etag && (comparison == Comparison::Weak || !is_weak))
    })
}

/// The entity tags of a list: whether it is weak, and the tag with its quotes. Ends where it is no list of tags.
fn tags(list: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (is_weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
        let end = tag.strip_prefix('"')?.find('"')? + 2;
        let (tag, behind) = tag.split_at_checked(end)?;
        rest = behind;
        Some((is_weak, tag))
    })
}

/// A date, if there is one that can be read; else the header is ignored.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn select_of(method: &Method, bytes: u64, lines: &[(&'static str, &str)]) -> Selection {
        let modified = httpdate::parse_http_date(DATE).unwrap() + Duration::from_millis(900);
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Validators::new("\"a,b\"".into(), modified, bytes).select(method, &headers)
    }

    fn select(lines: &[(&'static str, &str)]) -> Selection {
        select_of(&Method::GET, 10, lines)
    }

    #[test]
    fn one_range_is_a_part_and_anything_else_the_whole_file() {
        use Selection::{NotSatisfiable, Part, Whole};
        let cases = [
            ("bytes=0-0", Part(0..=0)),
            ("bytes=2-", Part(2..=9)),
            ("bytes=2-99", Part(2..=9)),
            ("BYTES=-3", Part(7..=9)),
            ("bytes=-99", Part(0..=9)),
            ("bytes=9-9", Part(9..=9)),
            ("bytes=10-", NotSatisfiable),
            ("bytes=10-10", NotSatisfiable),
            ("bytes=-0", NotSatisfiable),
            ("bytes=99999999999999999999999-", NotSatisfiable),
            ("bytes=0-1,3-4", Whole),
            ("bytes=0-1,20-30", Whole),
            ("bytes=5-2", Whole),
            ("bytes=a-b", Whole),
            ("bytes=", Whole),
            ("bytes=--1", Whole),
            ("rows=0-1", Whole),
            ("", Whole),
        ];
        for (range, expected) in cases {
            assert_eq!(select(&[("range", range)]), expected, "{range}");
            assert_eq!(select_of(&Method::HEAD, 10, &[("range", range)]), Whole, "HEAD, {range}");
        }
        assert_eq!(select(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]), Whole);
        assert_eq!(select_of(&Method::GET, 0, &[("range", "bytes=0-")]), NotSatisfiable);
        assert_eq!(select_of(&Method::GET, 0, &[("range", "bytes=-1")]), Whole);
    }

    #[test]
    fn a_range_of_another_state_of_the_file_is_the_whole_file() {
        let range = ("range", "bytes=0-0");
        for same in ["\"a,b\"", DATE] {
            assert_eq!(select(&[range, ("if-range", same)]), Selection::Part(0..=0), "{same}");
        }
        for other in ["W/\"a,b\"", "\"b\"", "a,b", EARLIER, LATER, "", "*"] {
            assert_eq!(select(&[range, ("if-range", other)]), Selection::Whole, "{other}");
        }
        assert_eq!(select(&[("range", "bytes=99-"), ("if-range", "\"b\"")]), Selection::Whole);
    }

    #[test]
    fn conditions_hold_or_fail_in_their_order() {
        use Selection::{Failed, NotModified, Whole};
        let cases: &[(&[(&'static str, &str)], Selection)] = &[
            (&[("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "W/\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\" , W/\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"a\",\"b\"")], Whole),
            (&[("if-none-match", "a,b")], Whole),
            (&[("if-none-match", "\"x\""), ("if-modified-since", LATER)], Whole),
            (&[("if-modified-since", DATE)], NotModified),
            (&[("if-modified-since", LATER)], NotModified),
            (&[("if-modified-since", EARLIER)], Whole),
            (&[("if-modified-since", "yesterday")], Whole),
            (&[("if-match", "\"a,b\"")], Whole),
            (&[("if-match", "*")], Whole),
            (&[("if-match", "W/\"a,b\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "\"a,b\""), ("if-unmodified-since", EARLIER)], Whole),
            (&[("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-unmodified-since", EARLIER)], Failed),
            (&[("if-unmodified-since", DATE)], Whole),
            (&[("if-none-match", "\"a,b\""), ("range", "bytes=0-0")], NotModified),
        ];
        for (headers, expected) in cases {
            assert_eq!(select(headers), *expected, "{headers:?}");
            assert_eq!(select_of(&Method::HEAD, 10, headers), *expected, "HEAD, {headers:?}");
        }
    }
}
