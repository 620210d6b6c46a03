//! Load generator of tidings, and the bare `send()` loop that it is measured against.
//!
//! Owns: connections by the ten thousand, and what they measured. Does not know: which server it talks to.
//! Flow: in ← a scenario and a running server · out → one JSON object.
//!
//! One thread for each process: a run pins the server to one core and the generator to another. A process here may
//! open 20,000 files, so more subscribers need more processes.
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a measuring program: it reports on standard output and had better stop than measure nonsense"
)]

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;

mod calls;
mod clock;
mod connect;
mod fill;
mod fleet;
mod floor;
mod payload;
mod process;
mod publish;
mod publishers;
mod quantiles;
mod reader;
mod rig;
mod scenario;
mod subscribers;
mod tally;
mod traffic;

/// What to do.
#[derive(Debug, Parser)]
#[command(about)]
enum Command {
    /// Serve: the bare send() loop
    Floor {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:4090")]
        listen: SocketAddr,
    },
    /// Subscribe and count until standard input ends
    Subscribers(subscribers::Subscribers),
    /// Publish: durable events per second
    Publish(publish::Publish),
    /// Publish to many subscribers: CPU per delivery, latency to the last subscriber
    Fanout(scenario::fanout::Fanout),
    /// Hold quiet connections: memory for each. Needs a fresh server: an older one has memory to reuse
    Idle(scenario::idle::Idle),
    /// Open streams with credentials: how long that takes, and the CPU for each
    Open(scenario::open::Open),
    /// Come back from several depths: time to the first event
    Resume(scenario::resume::Resume),
    /// Come back with many clients at once
    Storm(scenario::storm::Storm),
    /// Read nothing while events are published, then read everything
    Stalled(scenario::stalled::Stalled),
    /// Good streams next to thousands of attackers
    Hostile(scenario::hostile::Hostile),
    /// Hold connections that ask little and take long, until standard input ends
    Attack(scenario::attack::Attack),
    /// Make, lease and report jobs
    #[command(subcommand)]
    Jobs(scenario::jobs::Jobs),
}

fn main() -> Result<()> {
    let report = match Command::parse() {
        Command::Floor { listen } => return floor::run(listen),
        Command::Subscribers(args) => subscribers::run(&args)?,
        Command::Publish(args) => publish::run(&args)?,
        Command::Fanout(args) => return scenario::fanout::run(&args),
        Command::Idle(args) => scenario::idle::run(&args)?,
        Command::Open(args) => scenario::open::run(&args)?,
        Command::Resume(args) => scenario::resume::run(&args)?,
        Command::Storm(args) => scenario::storm::run(&args)?,
        Command::Stalled(args) => scenario::stalled::run(&args)?,
        Command::Hostile(args) => scenario::hostile::run(&args)?,
        Command::Attack(args) => scenario::attack::run(&args)?,
        Command::Jobs(part) => scenario::jobs::run(&part)?,
    };
    println!("{report}");
    Ok(())
}
