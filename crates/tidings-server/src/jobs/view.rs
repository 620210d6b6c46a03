//! What a watch prints.
//!
//! Owns: lines for programs and files, and which view it is. Does not know: streams, exit codes.
//! Flow: in ← items of jobs · out → bars in a terminal, else a line for each change, or JSON.

use std::io::Write;

use anyhow::{Error, Result};
use serde_json::{Value, json};
use tidings_client::jobs::{Document, JobItem};

use super::bars::Bars;
use super::flags::WatchFlags;
use super::print;
use super::text::{absolute, clean, note, percent, state};

/// A view of jobs, by their number on the command line.
pub(super) enum View {
    Bars(Bars),
    Lines(Lines),
    Json(Vec<String>),
}

impl View {
    pub(super) fn new(flags: &WatchFlags) -> Self {
        if flags.json {
            Self::Json(flags.ids.clone())
        } else if console::user_attended() {
            Self::Bars(Bars::new(&flags.ids, &flags.server.url))
        } else {
            Self::Lines(Lines::new(&flags.ids, &flags.server.url))
        }
    }

    pub(super) fn handle(&mut self, number: usize, item: JobItem) -> Result<()> {
        match self {
            Self::Bars(bars) => bars.handle(number, item),
            Self::Lines(lines) => lines.handle(number, &item),
            Self::Json(ids) => {
                ids.get(number).and_then(|id| json_line(id, &item)).map_or(Ok(()), |line| print(&line))
            }
        }
    }

    /// A job cannot be watched; the others go on.
    pub(super) fn handle_failure(&mut self, number: usize, error: &Error) -> Result<()> {
        match self {
            Self::Bars(bars) => bars.handle_failure(number, error),
            Self::Lines(Lines { ids, .. }) | Self::Json(ids) => {
                let id = ids.get(number).map_or("", String::as_str);
                Ok(writeln!(std::io::stderr(), "tidings: {id}: {error}")?)
            }
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self) {
        if let Self::Bars(bars) = self {
            bars.tick();
        }
    }

    /// Something else is to be said, and nothing more of jobs.
    pub(super) fn clear(&self) {
        if let Self::Bars(bars) = self {
            bars.clear();
        }
    }

    /// The watch is interrupted.
    pub(super) fn leave(&self) -> Result<()> {
        if let Self::Bars(bars) = self { bars.leave() } else { Ok(()) }
    }
}

/// A plain line for each change.
pub(super) struct Lines {
    ids: Vec<String>,
    base: String,
    /// The last state of each job as it was printed: what changed beside it is no news.
    last: Vec<String>,
}

impl Lines {
    fn new(ids: &[String], base: &str) -> Self {
        Self { ids: ids.to_vec(), base: base.to_owned(), last: vec![String::new(); ids.len()] }
    }

    fn handle(&mut self, number: usize, item: &JobItem) -> Result<()> {
        let (Some(id), Some(last)) = (self.ids.get(number), self.last.get_mut(number)) else { return Ok(()) };
        let is_state = matches!(item, JobItem::Progress(_));
        for line in lines(item, &self.base) {
            if is_state && *last == line {
                continue;
            }
            print(&format!("{}  {line}", clean(id)))?;
            if is_state {
                *last = line;
            }
        }
        Ok(())
    }
}

/// What there is to say of an item, without the id.
fn lines(item: &JobItem, base: &str) -> Vec<String> {
    match item {
        // The item that ends it says so better.
        JobItem::Progress(job) if job.state.is_finished() => Vec::new(),
        JobItem::Progress(job) => vec![progress_line(job)],
        JobItem::Log(log) => {
            log.message.lines().map(|line| format!("{}  {}", log.level.as_str(), clean(line))).collect()
        }
        JobItem::Output(chunk) => vec![format!("output  {}", clean(&chunk.to_string()))],
        JobItem::Complete(job) => {
            let urls = downloads(job, base).into_iter().map(|url| format!("download  {url}"));
            std::iter::once("completed".to_owned()).chain(urls).collect()
        }
        JobItem::Error(end) => {
            vec![format!("{}  {} ({})", end.state.as_str(), clean(&end.message), clean(&end.code))]
        }
        JobItem::Reset(reset) => {
            vec![format!("history is gone ({}): what follows is not complete", clean(&reset.reason))]
        }
        JobItem::Disconnected { .. } => vec!["disconnected, trying again".to_owned()],
        JobItem::Reconnected => vec!["connected again".to_owned()],
        _ => Vec::new(),
    }
}

fn progress_line(job: &Document) -> String {
    let mut line = format!("{}  {}", state(job), percent(job.progress));
    let note = note(job);
    if !note.is_empty() {
        line.push_str("  ");
        line.push_str(&note);
    }
    line
}

/// Where the files of a finished job are.
pub(super) fn downloads(job: &Document, base: &str) -> Vec<String> {
    match (&job.download_url, job.artifacts.as_slice()) {
        (None, _) => Vec::new(),
        (Some(url), [] | [_]) => vec![absolute(base, url)],
        (Some(first), several) => {
            // The address of a name has the name behind that of the first file.
            let of = |name: &str| format!("{}/{}", absolute(base, first), escape(name));
            several.iter().map(|file| file.url.as_deref().map_or_else(|| of(&file.name), clean)).collect()
        }
    }
}

/// A name as one segment of an address.
fn escape(name: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn json_line(id: &str, item: &JobItem) -> Option<String> {
    let (event, data) = match item {
        JobItem::Progress(job) => ("progress", serde_json::to_value(job).ok()?),
        JobItem::Complete(job) => ("complete", serde_json::to_value(job).ok()?),
        JobItem::Log(log) => ("log", serde_json::to_value(log).ok()?),
        JobItem::Error(end) => ("error", serde_json::to_value(end).ok()?),
        JobItem::Output(chunk) => ("output", json!({ "chunk": chunk })),
        JobItem::Reset(reset) => ("tidings.reset", json!({ "reason": reset.reason })),
        JobItem::Disconnected { .. } => ("disconnected", Value::Null),
        JobItem::Reconnected => ("reconnected", Value::Null),
        _ => return None,
    };
    Some(json!({ "id": id, "event": event, "data": data }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_have_an_address_each() {
        let job = |artifacts: &str| -> Document {
            let json = format!(
                r#"{{"id":"j","mode":"managed","state":"completed","downloadUrl":"/v1/jobs/j/download","artifacts":{artifacts}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let base = "http://h:1";
        assert_eq!(downloads(&job(r#"[{"name":"a"}]"#), base), ["http://h:1/v1/jobs/j/download"]);
        let two = job(r#"[{"name":"a b"},{"name":"c","url":"https://cdn/c"}]"#);
        assert_eq!(downloads(&two, base), ["http://h:1/v1/jobs/j/download/a%20b", "https://cdn/c"]);
    }
}
