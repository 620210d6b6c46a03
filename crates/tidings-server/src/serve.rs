//! `tidings serve`.
//!
//! Owns: the life of the process: start, signals, graceful end. Does not know: delivery.
//! Flow: flags → hub → listener → SIGTERM or SIGINT → drain → exit 0; a second signal ends at once.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Context, Result};
use tidings::Hub;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::auth::Sources;
use crate::cli::{LogFormat, ServeFlags};
use crate::{environment, limits, listen, settings};

/// Runs until a signal.
pub(crate) fn run(flags: &ServeFlags) -> Result<()> {
    logs(&flags.log_filter, flags.log_format)?;
    environment::check()?;
    // Flags first: a refusal should not leave a data folder behind.
    settings::settings(flags, limits::Allowed::ALL)?;
    let sources = Sources::open(&flags.auth, &flags.door.trusted_proxy)?;
    let mut settings = settings::settings(flags, limits::raise_open_files())?;
    if let Some(sources) = &sources {
        settings = settings.authorize(Arc::<Sources>::clone(sources));
    }
    runtime()?.block_on(async {
        let listeners = listen::all(&flags.door.places(flags.listen, flags.dev)?, flags.dev)?;
        let hub = Hub::open(settings)?;
        if let Some(sources) = sources {
            tokio::spawn(reload_at_signal(Arc::clone(&sources), signal(SignalKind::hangup())?));
            tokio::spawn(async move { sources.keep_fresh().await });
        }
        let mut served = Vec::new();
        for (listener, place) in listeners {
            let url = format!("http://{}", listener.local_addr()?);
            match place.flag {
                "--listen" => tracing::info!(%url, data = %flags.data.display(), "serving"),
                flag => tracing::info!(%url, flag, "serving"),
            }
            served.push((listener, place.role));
        }
        tidings::serve_hub(served, &hub, stop_signal()?).await;
        close(hub).await
    })
}

/// The runtime of a server. Its threads wait for their turn; delivery and commits do not.
pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.on_thread_start(tidings::take_turns).enable_all().build()?)
}

/// Reads the files of keys again at every SIGHUP. What cannot be read changes nothing.
async fn reload_at_signal(sources: Arc<Sources>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let reading = Arc::clone(&sources);
        match tokio::task::spawn_blocking(move || reading.reload()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), "the keys stay as they were");
            }
            Err(error) => tracing::error!(%error, "the keys stay as they were"),
        }
    }
}

/// Closes the hub; the last checkpoint makes the next start fast.
pub(crate) async fn close(hub: Hub) -> Result<()> {
    tokio::task::spawn_blocking(move || hub.close())
        .await?
        .context("the last checkpoint could not be written")?;
    tracing::info!("stopped");
    Ok(())
}

/// Resolves at the first SIGTERM or SIGINT; from then on, the next one ends the process at once.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        tracing::info!("stopping: streams are closed over the drain time; a second signal ends at once");
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
            tracing::warn!("second signal: ending at once");
            #[allow(clippy::exit, reason = "the user asked twice; what was acknowledged is durable")]
            std::process::exit(130);
        });
    })
}

/// Starts structured logs on standard error.
pub(crate) fn logs(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("{filter:?} is not a log filter"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
