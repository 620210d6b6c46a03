//! `tidings jobs show`.
//!
//! Owns: how a document is laid out. Does not know: what its fields mean to others.
//! Flow: an id → the client → a line for each thing that is known, or the document as JSON.

use std::process::ExitCode;

use anyhow::Result;
use console::style;
use serde_json::Value;
use tidings_client::jobs::{Artifact, Document};

use super::flags::ShowFlags;
use super::text::{absolute, clean, colored, note, now_ms, percent, size, span, state};
use super::{explained, jobs, print};

pub(super) async fn show(flags: ShowFlags) -> Result<ExitCode> {
    let job = jobs(&flags.server)?.get(&flags.id).await;
    let job = job.map_err(|error| explained(error, &flags.server))?;
    if flags.json {
        print(&serde_json::to_string_pretty(&job)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&style(clean(&job.id)).bold().to_string())?;
    for (name, text) in lines(&job, &flags.server.url, now_ms()) {
        // The padding is outside of the style, so that it counts the same with and without.
        print(&format!(
            "  {}{:pad$}{text}",
            style(name).dim(),
            "",
            pad = 11_usize.saturating_sub(name.len())
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to say, by name.
fn lines(job: &Document, base: &str, now_ms: u64) -> Vec<(&'static str, String)> {
    let mut lines = vec![("type", clean(&job.job_type))];
    let mut queue = job.queue.as_deref().map_or_else(|| "-".to_owned(), clean);
    if job.priority != 0 {
        queue.push_str(&format!(", priority {}", job.priority));
    }
    lines.push(("queue", queue));
    let mut at = colored(job.state, state(job)).to_string();
    if job.cancel_requested && !job.state.is_finished() {
        at.push_str(", asked to stop");
    }
    at.push_str(&format!(", attempt {} of {}", job.attempt, job.max_attempts.max(job.attempt)));
    lines.push(("state", at));
    let note = note(job);
    let separator = if note.is_empty() { "" } else { "  " };
    lines.push(("progress", format!("{}{separator}{note}", percent(job.progress))));
    if let Some(left) = job.eta_ms.filter(|_| !job.state.is_finished()) {
        lines.push(("left", span(left)));
    }
    let ago = |at: u64| format!("{} ago", span(now_ms.saturating_sub(at)));
    lines.push(("created", ago(job.created_at)));
    if let Some(at) = job.run_at.filter(|at| *at > now_ms && !job.state.is_finished()) {
        lines.push(("runs", format!("in {}", span(at - now_ms))));
    }
    lines.extend(job.started_at.map(|at| ("started", ago(at))));
    if let Some(at) = job.finished_at {
        let took = job.started_at.map(|started| format!(", took {}", span(at.saturating_sub(started))));
        lines.push(("ended", format!("{}{}", ago(at), took.unwrap_or_default())));
    }
    if let Some(error) = &job.error {
        let text = format!("{} ({})", clean(&error.message), clean(&error.code));
        lines.push(("error", style(text).red().to_string()));
    }
    for (name, value) in [("data", &job.data), ("result", &job.result)] {
        if *value != Value::Null {
            lines.push((name, clean(&value.to_string())));
        }
    }
    lines.extend(job.artifacts.iter().map(|artifact| ("file", file(artifact))));
    lines.extend(job.download_url.as_deref().map(|url| ("download", absolute(base, url))));
    if !job.tags.is_empty() {
        lines.push(("tags", job.tags.iter().map(|tag| clean(tag)).collect::<Vec<_>>().join(", ")));
    }
    for (name, text) in [("parent", &job.parent), ("retry of", &job.retry_of), ("schedule", &job.schedule)] {
        lines.extend(text.as_deref().map(|text| (name, clean(text))));
    }
    lines
}

fn file(artifact: &Artifact) -> String {
    let mut text = clean(&artifact.name);
    if let Some(media_type) = &artifact.content_type {
        text.push_str(&format!("  {}", clean(media_type)));
    }
    if let Some(bytes) = artifact.size {
        text.push_str(&format!("  {}", size(bytes)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &[(&str, &str)]) {
        let job = serde_json::from_str(json).unwrap();
        let lines: Vec<_> = lines(&job, "http://h:1/", 100_000)
            .into_iter()
            .map(|(name, text)| (name, console::strip_ansi_codes(&text).into_owned()))
            .collect();
        let lines: Vec<_> = lines.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_document_is_shown_without_what_is_not_there() {
        check(
            r#"{"id":"j","type":"t","queue":"q","mode":"managed","state":"scheduled","attempt":1,"max_attempts":3,
                "created_at":40000,"run_at":160000}"#,
            &[
                ("type", "t"),
                ("queue", "q"),
                ("state", "scheduled, attempt 1 of 3"),
                ("progress", "0 %"),
                ("created", "1 min 0 s ago"),
                ("runs", "in 1 min 0 s"),
            ],
        );
        check(
            r#"{"id":"j","type":"t","queue":"q","mode":"managed","state":"completed","priority":5,"progress":100,
                "attempt":2,"max_attempts":3,"created_at":0,"started_at":10000,"finished_at":50000,"result":{"rows":1},
                "artifacts":[{"name":"a.csv","content_type":"text/csv","size":1536}],
                "downloadUrl":"/v1/jobs/j/download","tags":["a","b"],"retry_of":"i"}"#,
            &[
                ("type", "t"),
                ("queue", "q, priority 5"),
                ("state", "completed, attempt 2 of 3"),
                ("progress", "100 %"),
                ("created", "1 min 40 s ago"),
                ("started", "1 min 30 s ago"),
                ("ended", "50 s ago, took 40 s"),
                ("result", "{\"rows\":1}"),
                ("file", "a.csv  text/csv  1.5 KiB"),
                ("download", "http://h:1/v1/jobs/j/download"),
                ("tags", "a, b"),
                ("retry of", "i"),
            ],
        );
    }
}
