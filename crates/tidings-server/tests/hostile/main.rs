//! Hostile requests to the real binary, as one table: what each must come to, and what it came to.
//!
//! Owns: the cases and the table. Does not know: the inside of the server; everything goes over sockets.
//!
//! `cargo test -p tidings-server --test hostile` prints the table; a word behind `--` picks the groups and names that have
//! it. Each case fails the run by itself, and so does a server that panics, or stops to serve others.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::let_underscore_must_use,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a test that meets the unexpected has to fail, and this one prints a table, whose rows stand together"
)]

mod server;

mod case;

mod frames;

mod http1;

mod paths;

mod names;

mod sse;

mod limits;

mod web;

mod http2;

mod tokens;

mod browser;

use std::process::ExitCode;

use case::{Case, World};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let cases: Vec<Case> = [
        http1::cases(),
        paths::cases(),
        names::cases(),
        sse::cases(),
        limits::cases(),
        web::cases(),
        http2::cases(),
        tokens::cases(),
        browser::cases(),
    ]
    .into_iter()
    .flatten()
    .filter(|case| wanted.iter().all(|word| case.group.contains(word) || case.name.contains(word)))
    .collect();
    let world = World::start();
    let mut wrong = Vec::new();
    println!("\n{:<9} {:<62} {:<34} came to", "group", "case", "must come to");
    for case in &cases {
        let outcome = (case.run)(&world).and_then(|came| world.goes_on().map(|()| came));
        let (came, verdict) = match &outcome {
            Ok(came) => (came.as_str(), ""),
            Err(came) => (came.as_str(), "  WRONG"),
        };
        println!("{:<9} {:<62} {:<34} {came}{verdict}", case.group, case.name, case.must);
        if outcome.is_err() {
            wrong.push(case.name.as_str());
        }
    }
    let ended = world.end();
    println!("\n{} cases, {} as required", cases.len(), cases.len() - wrong.len());
    if let Err(why) = &ended {
        println!("the servers: {why}");
    }
    if wrong.is_empty() && ended.is_ok() && !cases.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
