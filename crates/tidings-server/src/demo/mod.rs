//! `tidings demo`: one page that shows what the server is for.
//!
//! Owns: the demo's channels, its page, its bundled data. Does not know: how delivery works; it uses the library as any
//! embedder would.
//! Flow: hub → handler of the export → routes of the page → ticks and notifications → serve.

mod bundled;

mod summary;

mod report;

mod export;

mod upload;

mod page;

mod chatter;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tidings::{Hub, Settings};

use crate::cli::{DemoFlags, LogFormat};
use crate::{limits, serve};

/// Where the demo's files are.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn orders(&self) -> PathBuf {
        self.root.join("orders.csv")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }
}

/// Runs until a signal.
pub(crate) fn run(flags: &DemoFlags) -> Result<()> {
    serve::logs(&flags.log_filter, LogFormat::Text)?;
    if !flags.listen.ip().is_loopback() {
        bail!("the demo has no authentication, so {} is refused: listen on a loopback address", flags.listen);
    }
    let folder = Folder { root: flags.data.clone() };
    std::fs::create_dir_all(folder.uploads())
        .with_context(|| format!("cannot use {}", flags.data.display()))?;
    let rows = bundled::write(&folder.orders())?;
    let settings = Settings::on_disk(folder.log())
        .dev(true)
        .streams_max(limits::raise_open_files().streams)
        .drain(std::time::Duration::from_secs(2))
        .job_routes(vec!["/api/exports=generate-report".parse()?]);
    serve::runtime()?.block_on(async {
        let listener = listener(flags.listen).await?;
        let hub = Hub::open(settings)?;
        export::register(&hub, folder.clone(), flags.rows_per_second);
        let chatter = tokio::spawn(chatter::run(hub.clone()));
        let url = format!("http://{}/", listener.local_addr()?);
        announce(&url, rows, &flags.data.display().to_string())?;
        let router = hub.router_with(page::router(folder));
        tidings::serve(listener, router, &hub, serve::stop_signal()?).await;
        chatter.abort();
        serve::close(hub).await
    })
}

/// The wished address, or a free port if it is taken.
async fn listener(wished: SocketAddr) -> Result<tokio::net::TcpListener> {
    match tokio::net::TcpListener::bind(wished).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let free = SocketAddr::new(wished.ip(), 0);
            Ok(tokio::net::TcpListener::bind(free)
                .await
                .with_context(|| format!("cannot listen on {free}"))?)
        }
        bound => bound.with_context(|| format!("cannot listen on {wished}")),
    }
}

fn announce(url: &str, rows: usize, data: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n  tidings demo\n")?;
    writeln!(out, "    open      {url}")?;
    let rows = report::grouped(rows as u64);
    writeln!(
        out,
        "    export    {rows} orders from a bundled CSV, with live progress and a report to download"
    )?;
    writeln!(
        out,
        "    try       reload in mid-export · open a second tab · cut the connection · restart this command"
    )?;
    writeln!(out, "    publish   curl -H 'Content-Type: application/json' {url}v1/publish \\")?;
    writeln!(
        out,
        "                -d '{{\"channel\":\"demo:notifications\",\"event\":\"notification\",\"data\":{{\"title\":\"Hello\"}}}}'"
    )?;
    writeln!(out, "    data      {data}   (delete it to start anew)\n")?;
    writeln!(out, "  Ctrl-C stops it.\n")?;
    out.flush()?;
    Ok(())
}
