//! What is measured, one file each.
//!
//! Owns: the steps of a measurement and its report. Does not know: which server it is.
//! Flow: in ← URL and process id of a running server · out → one JSON object.

use clap::Args;
use serde_json::{Value, json};

use crate::connect::Target;
use crate::fleet::Spec;
use crate::process::CpuUse;
use crate::tally::Tally;
use crate::traffic::channel;

pub(crate) mod attack;
pub(crate) mod fanout;
pub(crate) mod hostile;
pub(crate) mod idle;
pub(crate) mod jobs;
pub(crate) mod open;
pub(crate) mod resume;
pub(crate) mod stalled;
pub(crate) mod storm;

/// The server that is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Where it listens, such as http://127.0.0.1:4080
    #[arg(long)]
    pub(crate) url: String,
    /// Its process id
    #[arg(long)]
    pub(crate) pid: u32,
    /// The first part of all channel names; a run that expects empty channels needs a new one
    #[arg(long, default_value = "load")]
    pub(crate) prefix: String,
}

/// 127.1.0.0 is where subscribers come from.
pub(crate) const SUBSCRIBERS: u8 = 1;
/// From 127.10.0.0 on is where attackers come from, each kind from a network of its own.
pub(crate) const ATTACKERS: u8 = 10;

impl Server {
    /// A subscriber of one channel from now on.
    pub(crate) fn subscriber(&self, target: &Target, index: usize) -> Spec {
        let query = format!("channel={}", channel(&self.prefix, index));
        let request = target.stream_request(&query, None);
        Spec { request, network: SUBSCRIBERS, channel: index, first: 1, counts: true }
    }
}

/// Server CPU, per million deliveries too.
pub(crate) fn cpu_report(cpu: CpuUse, deliveries: u64) -> Value {
    let millions = deliveries as f64 / 1e6;
    json!({
        "process_s": cpu.process_s,
        "core0_s": cpu.core0_s,
        "process_s_per_million": cpu.process_s / millions,
        "core0_s_per_million": cpu.core0_s / millions,
    })
}

/// Whether everything came once: all zero.
pub(crate) fn faults(tally: &Tally) -> Value {
    json!({ "lost": tally.lost, "repeated": tally.repeated, "resets": tally.resets })
}
