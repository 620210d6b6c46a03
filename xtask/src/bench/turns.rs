//! Floor and server in turns.
//!
//! Owns: the load processes of a comparison, each with its connections open, and whose turn it is. Does not know: what
//! is measured.
//! Flow: floor and server, both connected → a second each, in alternating order → pairs of results.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::Peer;

/// How often all connections are made anew: where the kernel puts them moves a result by a tenth.
const SETS: usize = 5;
/// Turns of each set. On a machine with neighbours its speed changes by a quarter within seconds, so turns are short.
const TURNS: usize = 12;
const TURN_SECONDS: &str = "1";

/// Takes turns with the same load; what each did, in pairs of turns that followed each other.
pub(super) fn take(floor: &Peer, server: &Peer, args: &[&str]) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut floors, mut owns) = (Vec::new(), Vec::new());
    for set in 0..SETS {
        let prefix = format!("r{set}");
        let turns = ["--turns", "--warmup", "0", "--seconds", TURN_SECONDS, "--prefix", &prefix];
        let args = [args, &turns].concat();
        let (mut bare, mut ours) = (Load::start(floor, &args)?, Load::start(server, &args)?);
        for turn in 0..TURNS {
            if turn % 2 == 0 {
                floors.push(bare.turn()?);
                owns.push(ours.turn()?);
            } else {
                owns.push(ours.turn()?);
                floors.push(bare.turn()?);
            }
        }
        bare.end()?;
        ours.end()?;
    }
    Ok((floors, owns))
}

/// A load process that keeps its connections and measures when it is told to.
#[derive(Debug)]
struct Load {
    child: Child,
    results: BufReader<ChildStdout>,
}

impl Load {
    /// Connects; a first turn warms up and is thrown away.
    fn start(peer: &Peer, args: &[&str]) -> Result<Self> {
        let mut child = peer.spawn_load(args)?;
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
