//! An export service: `POST /api/exports` starts an export, a page watches it, cancels it, and downloads the file.
//!
//! Owns: one handler, one page. Does not know: how progress reaches a page.
//! Flow: `POST /api/exports {"rows": 50000}` → a job → `export` runs it, here in this process → its stream → its file.
//!
//! `cargo run --release -p axum-export`, then open the page that it names.

use anyhow::{Result, ensure};
use axum::response::Html;
use axum::{Router, routing::get};
use serde::{Deserialize, Serialize};
use tidings::core::job::{Level, Progress};
use tidings::jobs::JobContext;
use tidings::{Hub, Settings};
use tokio::io::{AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::signal::unix::{SignalKind, signal};

/// Orders that are asked for at once.
const PAGE: u32 = 1_000;

/// What is posted.
#[derive(Debug, Deserialize)]
struct Export {
    rows: u32,
}

/// What comes back with `complete`.
#[derive(Debug, Serialize)]
struct Exported {
    rows: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_target(false).init();
    let variable = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());

    let settings = Settings::on_disk(variable("DATA", "./tidings-data"))
        .dev(true) // Loopback only, and nobody has to log in.
        .job_routes(vec!["/api/exports=export".parse()?]);
    let hub = Hub::open(settings)?;
    hub.jobs().register("export", |job: JobContext, wanted: Export| async move {
        export(&job, wanted).await.map_err(|error| format!("{error:#}"))
    });

    // Your own routes. In a server that you have already, mount the other way round: `app.merge(hub.router())`, then
    // `axum::serve`. `tidings::serve` moves more events per second, and ends streams gently when it stops.
    let own = Router::new().route("/", get(|| async { Html(include_str!("page.html")) }));
    let listener = tokio::net::TcpListener::bind(variable("LISTEN", "127.0.0.1:3000")).await?;
    tracing::info!(url = %format!("http://{}/", listener.local_addr()?), "serving");
    let mut term = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! { _ = term.recv() => {} _ = tokio::signal::ctrl_c() => {} }
    };
    tidings::serve(listener, hub.router_with(own), &hub, stop).await;
    // An export that runs still begins anew with the next start.
    tokio::task::spawn_blocking(move || hub.close()).await??;
    Ok(())
}

/// Runs one export. Whatever it returns ends the job: `complete`, or `error` with the message.
async fn export(job: &JobContext, wanted: Export) -> Result<Exported> {
    ensure!(wanted.rows > 0, "there is nothing to export");
    job.log(Level::Info, format!("{} orders, attempt {}", wanted.rows, job.attempt())).await?;
    // The file is stored as it is written: no more than this much of it is in memory.
    let (file, reader) = duplex(256 * 1024);
    tokio::select! {
        written = write(job, wanted.rows, file, reader) => written?,
        // Only what may be dropped half-way stops like this; the rest asks `job.is_cancelled()`.
        () = job.cancelled() => anyhow::bail!("cancelled"),
    }
    Ok(Exported { rows: wanted.rows })
}

async fn write(job: &JobContext, rows: u32, file: DuplexStream, reader: DuplexStream) -> Result<()> {
    let rows_written = async {
        let mut file = BufWriter::new(file);
        file.write_all(b"number,customer,cents\n").await?;
        for first in (1..=rows).step_by(PAGE as usize) {
            let last = rows.min(first.saturating_add(PAGE - 1));
            file.write_all(orders(first, last).await.as_bytes()).await?;
            let progress = Progress {
                current: Some(Some(last.into())),
                total: Some(Some(rows.into())),
                unit: Some(Some("orders".into())),
                ..Progress::default()
            };
            job.progress(progress).await?;
        }
        file.shutdown().await?;
        anyhow::Ok(())
    };
    let stored = async { Ok(job.artifact("orders.csv", reader).await?) };
    tokio::try_join!(rows_written, stored)?;
    Ok(())
}

/// Stands for your database, which needs a moment for each page.
async fn orders(first: u32, last: u32) -> String {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    (first..=last).map(|n| format!("{n},customer {},{}\n", n % 97, u64::from(n) * 37 % 10_000)).collect()
}
