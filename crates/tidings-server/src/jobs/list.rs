//! `tidings jobs ls`.
//!
//! Owns: pages and columns. Does not know: which jobs there are.
//! Flow: filters → pages of the client → an aligned table, or a line of JSON for each job.

use std::process::ExitCode;

use anyhow::Result;
use console::style;
use tidings_client::jobs::{Document, List};

use super::flags::ListFlags;
use super::text::{age, clean, colored, now_ms, percent, state};
use super::{explained, jobs, print};

const HEAD: [&str; 6] = ["ID", "TYPE", "QUEUE", "STATE", "PROGRESS", "AGE"];
/// The column of the state, which has a colour.
const STATE: usize = 3;
/// Jobs in one page: small enough that the first lines are there at once.
const PAGE: usize = 500;

pub(super) async fn list(flags: ListFlags) -> Result<ExitCode> {
    let jobs = jobs(&flags.server)?;
    let mut list = filters(&flags);
    let mut rest = flags.limit;
    let mut found = Vec::new();
    while rest > 0 {
        let limit = u32::try_from(rest.min(PAGE)).unwrap_or(1);
        let page = jobs.list(&list.clone().limit(limit)).await;
        let page = page.map_err(|error| explained(error, &flags.server))?;
        rest = rest.saturating_sub(page.jobs.len());
        if flags.json {
            for job in &page.jobs {
                print(&serde_json::to_string(job)?)?;
            }
        } else {
            found.extend(page.jobs);
        }
        let Some(next) = page.next else { break };
        list = list.cursor(next);
    }
    if !flags.json {
        for line in table(&found, now_ms()) {
            print(&line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn filters(flags: &ListFlags) -> List {
    let mut list = List::new();
    if let Some(state) = flags.state {
        list = list.state(state);
    }
    if let Some(queue) = &flags.queue {
        list = list.queue(queue);
    }
    if let Some(job_type) = &flags.job_type {
        list = list.job_type(job_type);
    }
    if let Some(tag) = &flags.tag {
        list = list.tag(tag);
    }
    list
}

/// A line for each job below the head. What stands in columns has no wide characters: the contract forbids them.
fn table(jobs: &[Document], now_ms: u64) -> Vec<String> {
    let rows: Vec<[String; 6]> = jobs.iter().map(|job| row(job, now_ms)).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let head = HEAD.get(column).map_or(0, |head| head.len());
        rows.iter().filter_map(|row| row.get(column)).map(String::len).fold(head, usize::max)
    });
    let cell = |column: usize, text: &str| {
        let width = widths.get(column).copied().unwrap_or_default();
        // Numbers stand right, the last column needs no room behind it.
        if column >= 4 { format!("{text:>width$}") } else { format!("{text:<width$}") }
    };
    let head: Vec<String> = HEAD.iter().enumerate().map(|(column, text)| cell(column, text)).collect();
    let mut lines = vec![style(head.join("  ")).bold().to_string()];
    for (job, row) in jobs.iter().zip(&rows) {
        let cells = row.iter().enumerate().map(|(column, text)| {
            let text = cell(column, text);
            if column == STATE { colored(job.state, text).to_string() } else { text }
        });
        lines.push(cells.collect::<Vec<_>>().join("  "));
    }
    lines
}

fn row(job: &Document, now_ms: u64) -> [String; 6] {
    [
        clean(&job.id),
        clean(&job.job_type),
        job.queue.as_deref().map_or_else(|| "-".to_owned(), clean),
        state(job),
        percent(job.progress),
        age(now_ms.saturating_sub(job.created_at)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let job = |id: &str, state: &str, more: &str| -> Document {
            let json = format!(
                r#"{{"id":"{id}","type":"generate-report","queue":"q","mode":"managed","state":"{state}","created_at":1000{more}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let jobs = [
            job("job_1", "running", r#","progress":42"#),
            job("bull:exports:123", "retrying", r#","reason":"stalled""#),
        ];
        let lines: Vec<_> =
            table(&jobs, 66_000).iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(
            lines,
            [
                "ID                TYPE             QUEUE  STATE               PROGRESS  AGE",
                "job_1             generate-report  q      running                 42 %   1m",
                "bull:exports:123  generate-report  q      retrying (stalled)       0 %   1m",
            ]
        );
    }
}
