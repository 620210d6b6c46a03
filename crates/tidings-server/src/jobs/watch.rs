//! `tidings jobs watch`.
//!
//! Owns: following several jobs at once, and what the exit code says. Does not know: how it looks.
//! Flow: ids → a stream of the client for each → a view; completed or not → the exit code.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use tidings_client::Client;
use tidings_client::jobs::{JobItem, JobsError, WatchJob};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::explained;
use super::flags::WatchFlags;
use super::view::View;

/// How often bars move by themselves: a spinner that turns, seconds that pass.
const TICK: Duration = Duration::from_millis(100);
/// Items that wait to be shown. Beyond, streams wait: they are read no faster than they are shown.
const ITEMS_MAX: usize = 64;
/// What shells expect of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// What a follower says of the job with this number.
type Said = (usize, Result<JobItem, JobsError>);

pub(super) async fn watch(flags: WatchFlags) -> Result<ExitCode> {
    let jobs = Client::new(&flags.server.url)?.jobs();
    if let Some(first) = flags.ids.first() {
        // A stream would wait for a server that is not there. Here somebody waits, and wants to know.
        if let Err(error @ JobsError::NoAnswer(_)) = jobs.clone().once().get(first).await {
            return Err(explained(error, &flags.server));
        }
    }
    let (say, mut said) = mpsc::channel(ITEMS_MAX);
    let mut followers = JoinSet::new();
    for (number, id) in flags.ids.iter().enumerate() {
        let watch = jobs.watch(id).map_err(|error| explained(error, &flags.server))?;
        let watch = if flags.from_start { watch.from_start() } else { watch };
        followers.spawn(follow(number, watch, say.clone()));
    }
    drop(say);
    let mut view = View::new(&flags);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut completed = 0;
    loop {
        tokio::select! {
            next = said.recv() => match next {
                Some((number, Ok(item))) => {
                    completed += usize::from(matches!(item, JobItem::Complete(_)));
                    view.handle(number, item)?;
                }
                Some((_, Err(error))) if flags.ids.len() == 1 => {
                    view.clear();
                    return Err(explained(error, &flags.server));
                }
                Some((number, Err(error))) => view.handle_failure(number, &explained(error, &flags.server))?,
                None => break,
            },
            _ = ticks.tick() => view.tick(),
            _ = tokio::signal::ctrl_c() => {
                view.leave()?;
                let which = flags.ids.join(" ");
                writeln!(std::io::stderr(), "tidings: what runs goes on; to see it again: tidings jobs watch {which}")?;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
    Ok(if completed == flags.ids.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what happens to a job, until it has ended or nobody listens.
async fn follow(number: usize, watch: WatchJob, say: mpsc::Sender<Said>) {
    let mut watch = watch.open();
    let mut is_over = false;
    while !is_over {
        let next = match &mut watch {
            Ok(watch) => watch.next().await,
            Err(error) => Err(error.clone()),
        };
        let ended = || JobsError::Answer("the stream ended before the job".to_owned());
        let next = next.and_then(|item| item.ok_or_else(ended));
        is_over = matches!(next, Err(_) | Ok(JobItem::Complete(_) | JobItem::Error(_)));
        if say.send((number, next)).await.is_err() {
            return;
        }
    }
}
