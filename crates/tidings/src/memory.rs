//! The memory budget: what the process uses, and what happens beyond.
//!
//! Owns: measuring, and whether the budget is used up. Does not know: who uses it, what is done about it.
//! Flow: twice a second, the anonymous memory of the process → over or not → streams are refused, slow readers closed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often it is measured.
const LOOK: Duration = Duration::from_millis(500);
/// Below this part of the budget it is in order again, so that streams are not let in and closed in turns.
const RELAXED_PERCENT: u64 = 95;

/// What the process uses of its budget. Only anonymous memory counts: what files are mapped, the kernel takes back, and
/// what sockets hold is bounded for each of them. Where it cannot be measured (not Linux), there is no budget.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: u64,
    used: AtomicU64,
    over: AtomicBool,
    stop: (Mutex<bool>, Condvar),
}

impl Memory {
    /// With a budget, or three quarters of what the machine, or the control group of the process, has.
    pub(crate) fn new(budget: Option<u64>) -> Arc<Self> {
        let budget = budget.or_else(|| total().map(|total| total / 4 * 3)).unwrap_or(u64::MAX);
        let memory =
            Self { budget, used: AtomicU64::new(0), over: AtomicBool::new(false), stop: Default::default() };
        if let Some(used) = used() {
            memory.judge(used);
        }
        Arc::new(memory)
    }

    /// Looks again and again; `shed` is called as long as the budget is used up.
    pub(crate) fn watch(&self, shed: impl Fn()) {
        let (stop, changed) = &self.stop;
        let mut stopping = stop.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopping {
            stopping = changed.wait_timeout(stopping, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            if let Some(used) = used()
                && self.judge(used)
            {
                shed();
            }
        }
    }

    pub(crate) fn stop(&self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
    }

    /// Whether the budget is used up.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Bytes that are used.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn judge(&self, used: u64) -> bool {
        self.used.store(used, Ordering::Relaxed);
        let limit = if self.is_over() { self.budget / 100 * RELAXED_PERCENT } else { self.budget };
        let over = used > limit;
        if over != self.over.swap(over, Ordering::Relaxed) {
            match over {
                true => tracing::warn!(used, budget = self.budget, "the memory budget is used up"),
                false => tracing::info!(used, budget = self.budget, "the memory budget is in order again"),
            }
        }
        over
    }
}

/// Anonymous memory of this process, in bytes.
fn used() -> Option<u64> {
    kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// What the machine has, or the control group allows.
fn total() -> Option<u64> {
    let machine = kilobytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let group =
        std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(group.map_or(machine, |group: u64| group.min(machine)))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_above_the_budget_and_in_order_only_well_below_it() {
        let memory = Memory::new(Some(1_000_000));
        assert!(memory.is_over(), "this program uses more");
        let over: Vec<bool> = [900_000, 1_000_000, 1_000_001, 999_999, 950_001, 950_000, 999_999]
            .into_iter()
            .map(|used| memory.judge(used))
            .collect();
        assert_eq!(over, [false, false, true, true, true, false, false]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_used_and_what_there_is_can_be_measured() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--ignored", "--exact", "memory::tests::what_is_taken_shows_in_what_is_used"]);
        let output = alone.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[ignore = "what other tests take and give back would hide it: the test above runs it in a process of its own"]
    fn what_is_taken_shows_in_what_is_used() {
        let (before, total) = (used().unwrap(), total().unwrap());
        assert!(before > 100_000 && before < total, "{before} of {total}");
        let filled = vec![1_u8; 50_000_000];
        let with = used().unwrap();
        assert!(with > before + filled.len() as u64 / 2, "{before}, then {with}");
    }
}
