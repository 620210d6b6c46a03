//! Floor and server in turns.
//!
//! Owns: the load processes of a comparison, each with its connections open, and whose turn it is. Does not know: what
//! is measured.
//! Flow: floor and server, both connected → a turn each, in alternating order → pairs of results.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::Peer;

/// How often all connections are made anew, because where the kernel puts them moves a result by a tenth, and how many turns
/// each set of connections takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns {
    pub(super) sets: usize,
    pub(super) turns: usize,
}

/// For ratios. On a machine with neighbours its speed changes by a quarter within seconds, so turns are short.
pub(super) const SHORT: Turns = Turns { sets: 5, turns: 12 };
/// How long each of those is.
pub(super) const SHORT_SECONDS: &str = "1";

/// What a side of a comparison is, and the load that it gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) peer: &'a Peer,
    pub(super) args: &'a [&'a str],
}

/// Takes turns; what each did, in pairs of turns that followed each other.
pub(super) fn take(floor: Side<'_>, server: Side<'_>, shape: Turns) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut floors, mut owns) = (Vec::new(), Vec::new());
    for set in 0..shape.sets {
        let prefix = format!("r{set}");
        let (mut bare, mut ours) = (Load::start(floor, &prefix)?, Load::start(server, &prefix)?);
        for turn in 0..shape.turns {
            let (bare, own) = pair(turn, || bare.turn(), || ours.turn())?;
            floors.push(bare);
            owns.push(own);
        }
        bare.end()?;
        ours.end()?;
    }
    Ok((floors, owns))
}

/// The same, where each turn makes its connections and ends them again: nobody is beside it who only waits.
pub(super) fn take_alone(
    floor: Side<'_>,
    server: Side<'_>,
    turns: usize,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let one = |turn| {
        let prefix = format!("r{turn}");
        let alone = |side: Side<'_>| side.peer.load(&[side.args, &["--prefix", &prefix]].concat());
        pair(turn, || alone(floor), || alone(server))
    };
    (0..turns).map(one).collect()
}

/// One after the other, and the other one first in every second pair.
fn pair(
    turn: usize,
    floor: impl FnOnce() -> Result<Value>,
    server: impl FnOnce() -> Result<Value>,
) -> Result<(Value, Value)> {
    if turn.is_multiple_of(2) {
        return Ok((floor()?, server()?));
    }
    let own = server()?;
    Ok((floor()?, own))
}

/// A load process that keeps its connections and measures when it is told to.
#[derive(Debug)]
struct Load {
    child: Child,
    results: BufReader<ChildStdout>,
}

impl Load {
    /// Connects; a first turn warms up and is thrown away.
    fn start(side: Side<'_>, prefix: &str) -> Result<Self> {
        let turns = ["--turns", "--warmup", "0", "--prefix", prefix];
        let mut child = side.peer.spawn_load(&[side.args, &turns].concat())?;
        let results = BufReader::new(child.stdout.take().context("a load without output")?);
        let mut load = Self { child, results };
        load.turn()?;
        Ok(load)
    }

    fn turn(&mut self) -> Result<Value> {
        self.child.stdin.as_mut().context("a load without input")?.write_all(b"\n")?;
        let mut result = String::new();
        self.results.read_line(&mut result)?;
        serde_json::from_str(&result).context("the load did not print one JSON object")
    }

    fn end(mut self) -> Result<()> {
        // Waiting closes its input, which ends it.
        ensure!(self.child.wait()?.success(), "the load failed");
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It has ended, or is in the middle of a turn and not waited for.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
