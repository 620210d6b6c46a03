//! `cargo xtask bench`: one table, with a bare `send()` loop as the floor in the same interleaved run.
//!
//! Owns: which scenarios run, in which order, and what a row shows. Does not know: how load is made (`bench/load`).
//! Flow: release build → floor and server side by side on core 0 → load on core 1, in turns → medians and ratios.

mod auth;
mod jobs;
mod peer;
mod rows;
mod turns;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::peer::{Kind, Peer};
use self::rows::{Ratio, Table, figure, list, median};
use self::turns::Side;

/// Where a result has its CPU seconds for a million deliveries, which are microseconds for one.
const COST: &str = "/cpu/process_s_per_million";
/// Where it has the time from a publish until its last subscriber had it.
const LAST_P50: &str = "/last_subscriber_us/p50";
const LAST_P99: &str = "/last_subscriber_us/p99";

type Scenario = (&'static str, fn(&mut Table) -> Result<()>);

/// The scenarios by name, in the order of the table.
const SCENARIOS: [Scenario; 10] = [
    ("fanout", fanout),
    ("overload", overload),
    ("many", many),
    ("idle", idle),
    ("publish", publish),
    ("resume", resume),
    ("stalled", stalled),
    ("hostile", hostile),
    ("auth", auth::auth),
    ("asks", auth::asks),
];

/// Runs all scenarios, or those that are named.
pub(crate) fn run(wanted: &[String]) -> Result<ExitCode> {
    if wanted.iter().any(|word| word == "--jobs") {
        return jobs::run(wanted);
    }
    let known = |name: &String| SCENARIOS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        bail!("{unknown} is no scenario; there are: {}", names.join(" "));
    }
    build()?;
    let mut table = Table::default();
    for (name, scenario) in SCENARIOS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            println!("==> {name}");
            scenario(&mut table)?;
        }
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<()> {
    let built = Command::new("cargo")
        .args(["build", "--release", "--package", "tidings-server", "--package", "tidings-load"])
        .status()
        .context("cargo cannot be run")?;
    ensure!(built.success(), "the release build failed");
    Ok(())
}

/// One event to all: CPU per delivery and the time to the last subscriber, one publish at a time.
fn fanout(table: &mut Table) -> Result<()> {
    for count in ["1000", "10000"] {
        let args = ["fanout", "--subscribers", count];
        compare(table, &format!("fan-out, {count} subscribers"), &args)?;
    }
    Ok(())
}

/// How many turns of overload there are. They are long, because what is late in one turn is late for some seconds.
const LONG_TURNS: usize = 8;

/// More than one send per event can carry: 40 events a second to 10,000, in turns with a floor that sends them one by one.
/// Nobody but those 10,000 is connected: beside the 10,000 of a floor that waits, p99 was a tenth higher.
fn overload(table: &mut Table) -> Result<()> {
    let (floor, server) = (Peer::start(Kind::Floor, &[])?, Peer::start(Kind::Tidings, &[])?);
    let one = ["fanout", "--subscribers", "10000", "--seconds", "3"];
    let forty = ["fanout", "--subscribers", "10000", "--seconds", "15", "--rate", "40"];
    let (floor, server) = (Side { peer: &floor, args: &one }, Side { peer: &server, args: &forty });
    let (floors, owns) = turns::take_alone(floor, server, LONG_TURNS)?;
    owns.iter().try_for_each(no_faults)?;
    let delivered = median(&owns, "/deliveries_per_s")?;
    table.row(
        "400,000/s offered, 10,000 subscribers",
        "delivered",
        format!("{:.1} %", 100.0 * delivered / 400_000.0),
    );
    let (p50, p99) = (median(&owns, LAST_P50)?, median(&owns, LAST_P99)?);
    table.row("", "last subscriber p50 / p99", format!("{} / {}", ms(p50), ms(p99)));
    table.row("", "p99 of each turn, ms", milliseconds(&owns, LAST_P99)?);
    table.row("", "one event to all p50 of each turn, ms, floor", milliseconds(&floors, LAST_P50)?);
    let ratio = Ratio::of_neighbours((&floors, LAST_P50), (&owns, LAST_P99))?;
    table.row("", "p99 ÷ the floor's one event to all (the middle half)", ratio.to_string());
    table.row("", "CPU per delivery", us(median(&owns, COST)?));
    Ok(())
}

/// 1,000 channels with 10 subscribers each, published over HTTP on both sides.
fn many(table: &mut Table) -> Result<()> {
    let args =
        ["fanout", "--subscribers", "10000", "--channels", "1000", "--publishers", "64", "--open", "64"];
    compare(table, "1,000 channels × 10, HTTP publishes", &args)
}

/// Quiet connections.
fn idle(table: &mut Table) -> Result<()> {
    for kind in [Kind::Floor, Kind::Tidings] {
        let peer = Peer::start(kind, &[])?;
        let result = peer.load(&["idle", "--subscribers", "10000"])?;
        let bytes = figure(&result, "/rss_bytes_per_connection")?;
        table.row(
            "10,000 idle connections",
            &format!("user memory each, {}", kind.name()),
            format!("{bytes:.0} B"),
        );
    }
    Ok(())
}

/// Durable publishes: every answer stands for an fsync.
fn publish(table: &mut Table) -> Result<()> {
    let shapes = [
        ("1 connection", "1", "1"),
        ("64 connections", "64", "1"),
        ("16 connections, batches of 1,000", "16", "1000"),
    ];
    for (name, publishers, batch) in shapes {
        let peer = Peer::start_anywhere(Kind::Tidings, &[])?;
        let args =
            ["publish", "--publishers", publishers, "--batch", batch, "--channels", "64", "--seconds", "6"];
        let result = peer.load_unpinned(&args)?;
        let rate = figure(&result, "/events_per_s")?;
        table.row(&format!("durable publishes, {name}"), "events per second", format!("{rate:.0}"));
        table.row("", "answer p50 / p99", spread(&result, "/request_us")?);
    }
    Ok(())
}

/// Coming back: from any depth of a million events, and a thousand at once.
fn resume(table: &mut Table) -> Result<()> {
    let keep = ["--retain-events", "2000000", "--retain-channel-mib", "4096"];
    let peer = Peer::start(Kind::Tidings, &keep)?;
    let result = peer.load(&["resume", "--events", "1000000", "--channels", "10"])?;
    table.row(
        "1,000,000 events, first event",
        "without a position, p50 / p99",
        spread(&result, "/without_position_us")?,
    );
    for depth in list(&result, "/depths")? {
        let name = format!("{} behind, p50 / p99", figure(depth, "/depth")?);
        table.row("", &name, spread(depth, "/first_event_us")?);
    }
    drop(peer);
    let peer = Peer::start(Kind::Tidings, &keep)?;
    let args = ["resume", "--events", "1000000", "--channels", "1", "--clients", "5", "--replay"];
    let replay = peer.load(&args)?;
    ensure!(figure(&replay, "/replay/events")? == 1e6, "the replay was not of all events: {replay}");
    let rate = figure(&replay, "/replay/events_per_s")?;
    table.row("replay of 1,000,000 on one connection", "events per second", format!("{rate:.0}"));
    let growth = figure(&replay, "/replay/rss_growth_bytes")? / 1_048_576.0;
    table.row("", "memory grew by", format!("{growth:.1} MiB"));
    drop(peer);
    let peer = Peer::start(Kind::Tidings, &["--retain-events", "100000"])?;
    let storm = peer.load(&["storm", "--clients", "1000", "--owed", "100"])?;
    table.row(
        "1,000 clients come back, owed 100 each",
        "all served within",
        format!("{:.3} s", figure(&storm, "/all_s")?),
    );
    no_faults(&storm)
}

/// A hundred readers that read nothing while 100 MB is published for each.
fn stalled(table: &mut Table) -> Result<()> {
    let keep = ["--retain-events", "1000000", "--retain-channel-mib", "1024"];
    let (peer, quiet) = (Peer::start(Kind::Tidings, &keep)?, Peer::start(Kind::Tidings, &keep)?);
    let result = peer.load(&["stalled", "--without", quiet.url()])?;
    let turns = |side: &str| {
        let side = result.get(side).with_context(|| format!("no {side} in {result}"))?;
        no_faults(side)?;
        list(side, "/others_us")
    };
    let (without, with) = (turns("without")?, turns("with")?);
    let p99 = |turns: &[Value]| Ok::<_, anyhow::Error>(ms(median(turns, "/p99")?));
    table.row(
        "100 stalled readers, 100 MB each",
        "others' p99, without / with",
        format!("{} / {}", p99(without)?, p99(with)?),
    );
    table.row(
        "",
        "with ÷ without (the middle half)",
        Ratio::of_neighbours((without, "/p99"), (with, "/p99"))?.to_string(),
    );
    table.row("", "kernel memory", result.pointer("/kernel").context("no kernel figures")?.to_string());
    table.row("", "everything was read after", format!("{:.1} s", figure(&result, "/caught_up_s")?));
    Ok(())
}

/// Memory that the server is allowed in `hostile`.
const HOSTILE_MIB: &str = "256";

/// 1,000 good streams next to 5,000 attackers in five processes, in turns with rounds without them.
fn hostile(table: &mut Table) -> Result<()> {
    let peer = Peer::start(Kind::Tidings, &["--memory-mib", HOSTILE_MIB])?;
    let result = peer.load(&["hostile"])?;
    let name = "5,000 slow, silent or half-open attackers, 1,000 good streams";
    let p99 = |which: &str| figure(&result, &format!("/p99_{which}_us"));
    table.row(
        name,
        "good ones' p99, without / with",
        format!("{} / {}", ms(p99("without")?), ms(p99("with")?)),
    );
    table.row("", "with ÷ without", format!("{:.2}", figure(&result, "/p99_ratio")?));
    let mib = figure(&result, "/rss_bytes")? / 1_048_576.0;
    table.row("", "the server's memory, of its budget", format!("{mib:.0} of {HOSTILE_MIB} MiB"));
    let attacks = list(&result, "/attacks")?.iter();
    let closed: f64 = attacks.filter_map(|a| a.pointer("/closed_by_the_server")?.as_f64()).sum();
    table.row("", "attackers that the server closed", format!("{closed:.0}"));
    no_faults(&result)
}

/// Floor and server in turns, in the same run: the ratio of neighbouring turns survives a machine whose speed drifts.
fn compare(table: &mut Table, name: &str, args: &[&str]) -> Result<()> {
    let floor = Peer::start(Kind::Floor, &[])?;
    let server = Peer::start(Kind::Tidings, &[])?;
    let args = [args, &["--seconds", turns::SHORT_SECONDS]].concat();
    let side = |peer| Side { peer, args: &args };
    let (floors, owns) = turns::take(side(&floor), side(&server), turns::SHORT)?;
    owns.iter().try_for_each(no_faults)?;
    table.row(name, "CPU per delivery, floor", us(median(&floors, COST)?));
    table.row("", "CPU per delivery, tidings", us(median(&owns, COST)?));
    let ratio = Ratio::of_neighbours((&floors, COST), (&owns, COST))?;
    table.row("", "tidings ÷ floor (the middle half)", ratio.to_string());
    table.row("", "floor ÷ tidings", format!("{:.2}", 1.0 / ratio.median));
    table.row(
        "",
        "deliveries per second, floor / tidings",
        format!("{:.0} / {:.0}", median(&floors, "/deliveries_per_s")?, median(&owns, "/deliveries_per_s")?),
    );
    let (p50, p99) = (median(&owns, LAST_P50)?, median(&owns, LAST_P99)?);
    table.row("", "last subscriber p50 / p99", format!("{} / {}", ms(p50), ms(p99)));
    Ok(())
}

/// A figure of a run that lost or repeated something is no figure.
fn no_faults(result: &Value) -> Result<()> {
    for fault in ["/faults/lost", "/faults/repeated"] {
        ensure!(figure(result, fault)? == 0.0, "{fault} is not 0: {result}");
    }
    Ok(())
}

fn spread(result: &Value, at: &str) -> Result<String> {
    let part = |which: &str| figure(result, &format!("{at}/{which}"));
    Ok(format!("{} / {}", ms(part("p50")?), ms(part("p99")?)))
}

/// What a figure in microseconds was in each turn.
fn milliseconds(turns: &[Value], at: &str) -> Result<String> {
    let each = turns.iter().map(|turn| Ok(format!("{:.0}", figure(turn, at)? / 1_000.0)));
    Ok(each.collect::<Result<Vec<_>>>()?.join(" "))
}

fn ms(us: f64) -> String {
    format!("{:.2} ms", us / 1_000.0)
}

fn us(us: f64) -> String {
    format!("{us:.2} µs")
}
