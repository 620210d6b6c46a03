//! The export: reads a CSV, sums it, writes a report.
//!
//! Owns: the handler of `generate-report`. Does not know: HTTP.
//! Flow: the job's input → a file → rows on a thread of their own → progress → the report as the job's file.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tidings::core::ChannelName;
use tidings::core::job::Progress;
use tidings::jobs::JobContext;
use tidings::{Hub, Publication};
use tokio::sync::mpsc;

use super::summary::Summary;
use super::{Folder, report};

/// Rows between two reports.
const STEP_ROWS: u64 = 500;

/// What to export.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Input {
    /// The bundled file.
    File { file: String },
    /// A file that was uploaded.
    Upload { upload: String },
}

/// What the job gives back.
#[derive(Debug, Serialize)]
struct Output {
    rows: u64,
    groupings: usize,
    total: f64,
}

/// What the reading thread says.
enum Said {
    Rows(u64),
    Done(Box<Summary>),
}

/// Registers the handler.
pub(crate) fn register(hub: &Hub, folder: Folder, rows_per_second: u32) {
    let events = hub.clone();
    hub.jobs().register("generate-report", move |job: JobContext, input: Input| {
        let (folder, hub) = (folder.clone(), events.clone());
        async move {
            let result = export(&job, input, &folder, rows_per_second).await;
            let (title, level) = match &result {
                Ok(output) => (format!("Export finished: {} rows", report::grouped(output.rows)), "success"),
                Err(error) => (format!("Export failed: {error:#}"), "warning"),
            };
            super::chatter::notify(&hub, &title, level).await;
            result.map_err(|error| format!("{error:#}"))
        }
    });
}

async fn export(job: &JobContext, input: Input, folder: &Folder, rows_per_second: u32) -> Result<Output> {
    let (path, name) = source(input, folder)?;
    report_step(job, 0, 0, "open", format!("Opening {name}"), None).await?;
    let total = tokio::task::spawn_blocking({
        let path = path.clone();
        move || count_rows(&path)
    })
    .await??;
    let (said, mut hear) = mpsc::channel(8);
    let reader = tokio::task::spawn_blocking(move || read(&path, &said));
    let pace = Pace::new(rows_per_second);
    let mut summary = None;
    while let Some(said) = hear.recv().await {
        match said {
            Said::Rows(rows) => {
                pace.wait(rows).await;
                report_step(job, rows, total, "read", format!("Reading {name}"), pace.left_ms(rows, total))
                    .await?;
            }
            Said::Done(done) => summary = Some(done),
        }
    }
    reader.await??;
    let summary = summary.context("the file ended early")?;
    report_step(job, summary.rows, summary.rows, "write", "Writing the report".into(), Some(0)).await?;
    let html = report::html(&name, &summary);
    job.artifact("report.html", html.as_bytes()).await?;
    let groupings = summary.groupings().len();
    Ok(Output { rows: summary.rows, groupings, total: (summary.total * 100.0).round() / 100.0 })
}

/// Rows count for 95 of 100: the report has still to be written.
async fn report_step(
    job: &JobContext,
    rows: u64,
    total: u64,
    step: &str,
    message: String,
    eta_ms: Option<u64>,
) -> Result<()> {
    #[allow(clippy::cast_precision_loss, reason = "a percentage of row counts")]
    let (current, whole) = (rows as f64, total.max(1) as f64);
    let progress = Progress {
        progress: Some((95.0 * current / whole).clamp(0.0, 95.0)),
        current: Some(Some(current)),
        total: Some(Some(whole)).filter(|_| total > 0),
        unit: Some(Some("rows".into())),
        step: Some(Some(step.into())),
        message: Some(Some(message)),
        eta_ms: Some(eta_ms),
        ..Progress::default()
    };
    job.progress(progress).await?;
    Ok(())
}

fn source(input: Input, folder: &Folder) -> Result<(PathBuf, String)> {
    match input {
        Input::File { file } if file == "orders.csv" => Ok((folder.orders(), file)),
        Input::File { file } => bail!("there is no bundled file {file:?}"),
        Input::Upload { upload } => {
            // Only names that the upload gave out: no path reaches the disk.
            if upload.is_empty() || !upload.bytes().all(|b| b.is_ascii_alphanumeric()) {
                bail!("{upload:?} is not an upload");
            }
            let path = folder.uploads().join(format!("{upload}.csv"));
            if !path.exists() {
                bail!("the uploaded file is gone: upload it again");
            }
            Ok((path, "your file".into()))
        }
    }
}

fn count_rows(path: &Path) -> Result<u64> {
    let mut file = BufReader::new(std::fs::File::open(path)?);
    let mut lines = 0_u64;
    loop {
        let piece = file.fill_buf()?;
        if piece.is_empty() {
            return Ok(lines.saturating_sub(1));
        }
        lines += piece.iter().filter(|b| **b == b'\n').count() as u64;
        let length = piece.len();
        file.consume(length);
    }
}

fn read(path: &Path, said: &mpsc::Sender<Said>) -> Result<()> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_path(path)?;
    let header = csv.headers()?.clone();
    let mut row = csv::StringRecord::new();
    if !csv.read_record(&mut row).context("the first row cannot be read")? {
        bail!("the file has no rows");
    }
    let mut summary = Summary::new(&header, &row);
    loop {
        if row.len() != header.len() {
            bail!("row {} has {} fields, the header has {}", summary.rows + 1, row.len(), header.len());
        }
        summary.add(&row);
        if summary.rows.is_multiple_of(STEP_ROWS) && said.blocking_send(Said::Rows(summary.rows)).is_err() {
            bail!("the export was given up");
        }
        if !csv.read_record(&mut row).with_context(|| format!("row {} cannot be read", summary.rows + 1))? {
            break;
        }
    }
    said.blocking_send(Said::Done(Box::new(summary))).ok().context("the export was given up")
}

/// Slows the export down so that it can be watched: the work itself takes a fraction of a second.
struct Pace {
    rows_per_second: u32,
    started: tokio::time::Instant,
}

impl Pace {
    fn new(rows_per_second: u32) -> Self {
        Self { rows_per_second, started: tokio::time::Instant::now() }
    }

    /// How long the rest takes at the speed so far.
    fn left_ms(&self, rows: u64, total: u64) -> Option<u64> {
        let spent_ms = u64::try_from(self.started.elapsed().as_millis()).ok()?;
        spent_ms.saturating_mul(total.saturating_sub(rows)).checked_div(rows)
    }

    async fn wait(&self, rows: u64) {
        if self.rows_per_second == 0 {
            return;
        }
        let due = Duration::from_millis(rows.saturating_mul(1_000) / u64::from(self.rows_per_second));
        tokio::time::sleep_until(self.started + due).await;
    }
}

/// Makes the events of other parts of the demo.
pub(crate) fn publication(channel: &str, event: &str, data: &serde_json::Value) -> Result<Publication> {
    let channel = ChannelName::parse(channel)?;
    let payload = tidings::core::Payload::json(&data.to_string())?;
    Ok(Publication::new(channel, payload).event(tidings::core::EventName::parse(event)?))
}
