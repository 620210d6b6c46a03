//! What the kernel says about the server.
//!
//! Owns: CPU time, resident memory, socket memory. Does not know: what the server did for it.
//! Flow: in ← /proc and `ss` · out → numbers.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// Linux reports CPU time to programs in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    process_ticks: u64,
    core_ticks: u64,
}

/// CPU seconds between two moments.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct CpuUse {
    /// User and system time of the server's process.
    pub(crate) process_s: f64,
    /// Everything that core 0, where the server is pinned, did besides idling: interrupts too.
    pub(crate) core0_s: f64,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("no such server process")?;
        // The name stands in brackets and may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields: Vec<u64> =
            fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
        let stat = fs::read_to_string("/proc/stat")?;
        let core = stat.lines().find(|line| line.starts_with("cpu0 ")).context("no cpu0")?;
        let core: Vec<u64> = core.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal: without the two idle ones.
        let busy = core.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, t)| t).sum();
        Ok(Self { process_ticks: fields.iter().sum(), core_ticks: busy })
    }

    pub(crate) fn until(self, later: Self) -> CpuUse {
        let seconds = |from: u64, to: u64| (to.saturating_sub(from)) as f64 / TICKS_PER_SECOND;
        CpuUse {
            process_s: seconds(self.process_ticks, later.process_ticks),
            core0_s: seconds(self.core_ticks, later.core_ticks),
        }
    }
}

/// The server's resident memory in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no such server process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Kernel memory of sockets, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct SocketMemory {
    pub(crate) sockets: u64,
    pub(crate) mean_bytes: u64,
    pub(crate) max_bytes: u64,
}

/// The kernel memory that the server's sockets on `port` hold for peers in `network`/16: received, queued to be sent,
/// and reserved, as `ss -tm` tells.
pub(crate) fn socket_memory(port: u16, network: Ipv4Addr) -> Result<SocketMemory> {
    let [a, b, ..] = network.octets();
    let filter = format!("sport = :{port} and dst {a}.{b}.0.0/16");
    let output = Command::new("ss").args(["-tmnHO", "state", "established"]).arg(filter).output();
    let output = output.context("ss is needed: apt-get install iproute2")?;
    ensure!(output.status.success(), "ss failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let sizes: Vec<u64> = text.lines().filter_map(skmem_bytes).collect();
    let sockets = sizes.len() as u64;
    Ok(SocketMemory {
        sockets,
        mean_bytes: sizes.iter().sum::<u64>() / sockets.max(1),
        max_bytes: sizes.iter().copied().max().unwrap_or(0),
    })
}

/// `skmem:(r<in>,rb…,t<in flight to the device>,tb…,f<reserved>,w<queued to be sent>,o…,bl…,d…)`.
fn skmem_bytes(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("skmem:(")?;
    let (fields, _) = rest.split_once(')')?;
    let value = |field: &str, name: &str| field.strip_prefix(name)?.parse::<u64>().ok();
    let of =
        |field| value(field, "r").or_else(|| value(field, "f")).or_else(|| value(field, "w")).unwrap_or(0);
    Some(fields.split(',').map(of).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_memory_is_what_is_received_reserved_and_queued() {
        let line = "ESTAB 0 9 127.0.0.1:1 127.2.0.1:2 skmem:(r1,rb131072,t4,tb87040,f20,w300,o0,bl0,d0)";
        assert_eq!(skmem_bytes(line), Some(321));
        assert_eq!(skmem_bytes("nothing"), None);
    }

    #[test]
    fn this_process_has_memory_and_cpu_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        let cpu = Cpu::of(pid).unwrap();
        assert_eq!(cpu.until(cpu).process_s, 0.0);
    }
}
