//! Filling a log before what is measured.
//!
//! Owns: batches of numbered events, and the ids that they got. Does not know: why.
//! Flow: in ← how many events on which channels · out → their ids.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::publishers::Kind;
use crate::rig::Rig;
use crate::traffic::{channel, line};

/// Lines in a batch: the most that a server takes.
const BATCH: u64 = 1_000;

/// Publishes events 1 to `events`, round-robin over the channels, and calls `on_id` with each index (from 0) and id.
/// On every channel the numbers run from 1.
pub(crate) fn fill(
    rig: &mut Rig,
    prefix: &str,
    channels: u64,
    events: std::ops::Range<u64>,
    bytes: usize,
    mut on_id: impl FnMut(u64, &str),
) -> Result<()> {
    let names: Vec<String> = (0..usize::try_from(channels)?).map(|index| channel(prefix, index)).collect();
    let mut next = events.start;
    while next < events.end {
        let batch = next..events.end.min(next + BATCH);
        let mut body = Vec::new();
        for index in batch.clone() {
            let name = &names[usize::try_from(index % channels)?];
            line(&mut body, name, index / channels + 1, clock::micros(), bytes);
            body.push(b'\n');
        }
        rig.publishers.publish(0, Kind::Ndjson, &body)?;
        let answer = loop {
            if let Some(answer) = rig.turn(Duration::from_millis(100))?.pop() {
                break answer.body;
            }
        };
        let answer = String::from_utf8(answer)?;
        ensure!(answer.lines().count() as u64 == batch.end - batch.start, "a result line for each event");
        for (index, line) in batch.zip(answer.lines()) {
            let id = line.strip_prefix("{\"id\":\"").and_then(|rest| rest.split('"').next());
            on_id(index, id.with_context(|| format!("not an id: {line}"))?);
        }
        next = next.saturating_add(BATCH);
    }
    Ok(())
}
