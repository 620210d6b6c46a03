//! The same jobs on BullMQ and on tidings, in turns.
//!
//! Owns: who takes part, the order of turns, the table of medians. Does not know: how one turn is measured.
//! Flow: contestants → turns, every other round backwards → medians → a table.

use anyhow::Result;
use serde_json::Value;

use super::super::rows::{Table, median};
use super::contestant::{Client, Contestant, Store};

/// Turns of each contestant.
const ROUNDS: usize = 3;

/// BullMQ is also measured with more jobs at once in its one process, which is the best way to run it here: more
/// processes of fewer jobs each were slower on two cores.
const CONTESTANTS: [Contestant; 7] = [
    bullmq("BullMQ, fsync always, 16 workers", "always", "16", true),
    bullmq("BullMQ, fsync always, 64 workers", "always", "64", false),
    bullmq("BullMQ, fsync every second, 16 workers", "everysec", "16", true),
    bullmq("BullMQ, fsync every second, 64 workers", "everysec", "64", false),
    tidings("tidings, Node client, 16 workers", Client::Node("tidings"), "16", true),
    tidings("tidings, Rust client, 16 workers", Client::Rust, "16", true),
    tidings("tidings, Rust client, 64 workers", Client::Rust, "64", false),
];

const fn bullmq(name: &'static str, fsync: &'static str, workers: &'static str, reports: bool) -> Contestant {
    Contestant { name, store: Store::Redis(fsync), client: Client::Node("bullmq"), workers, reports }
}

const fn tidings(name: &'static str, client: Client, workers: &'static str, reports: bool) -> Contestant {
    Contestant { name, store: Store::Tidings, client, workers, reports }
}

/// Figures of a row: heading, where it stands, decimals, divisor.
const COLUMNS: [(&str, &str, usize, f64); 7] = [
    ("jobs/s", "/jobs_per_s", 0, 1.0),
    ("p50 ms", "/p50_us", 2, 1e3),
    ("p99 ms", "/p99_us", 2, 1e3),
    ("server CPU s/1,000 jobs", "/server_cpu_s", 3, 1.0),
    ("workers' CPU", "/worker_cpu_s", 3, 1.0),
    ("reports/s", "/reports_per_s", 0, 1.0),
    ("100 at once", "/batched_per_s", 0, 1.0),
];

pub(super) fn run(_: &mut Table) -> Result<()> {
    super::install()?;
    let mut results: Vec<Vec<Value>> = CONTESTANTS.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        let mut order: Vec<(&Contestant, &mut Vec<Value>)> = CONTESTANTS.iter().zip(&mut results).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (contestant, results) in order {
            let result = contestant.measure()?;
            println!("    round {round}, {}: {result}", contestant.name);
            results.push(result);
        }
    }
    print(&results);
    Ok(())
}

/// Medians, one row for each contestant.
fn print(results: &[Vec<Value>]) {
    let name = CONTESTANTS.iter().map(|contestant| contestant.name.len()).max().unwrap_or_default();
    let headings: Vec<&str> = COLUMNS.iter().map(|(heading, ..)| *heading).collect();
    println!(
        "\n  medians of {ROUNDS} rounds; p50 and p99 from create to the answer of complete at 400 jobs/s"
    );
    println!("  {:<name$}  {}", "", headings.join("  "));
    for (contestant, results) in CONTESTANTS.iter().zip(results) {
        let cells: Vec<String> = COLUMNS
            .iter()
            .map(|(heading, at, decimals, divisor)| {
                let figure = median(results, at).map(|figure| format!("{:.*}", *decimals, figure / divisor));
                format!("{:>1$}", figure.unwrap_or_else(|_| "–".into()), heading.chars().count())
            })
            .collect();
        println!("  {:<name$}  {}", contestant.name, cells.join("  "));
    }
}
