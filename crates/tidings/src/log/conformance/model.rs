//! Random operations, compared with a model that is a list.
//!
//! Owns: the property, the operations and how they are carried out. Does not know: the engine; where the contract leaves
//! an engine free (when it trims, when it forgets), the model looks at what it did and asks whether that was allowed.
//! Flow: in ← a way to make a store · out → the shortest sequence of operations that disagrees, if any.

mod check;
mod list;
mod operations;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use self::list::List;
use self::operations::{GroupSpec, Operation, ReadSpec, Restart, channel_of};
use super::bench::{Bench, HOUR_MS, event_at, plain};
use super::{Ending, New, Setup};
use crate::log::{AppendError, Retention};

/// Small bounds, so that a short sequence of operations meets each of them.
fn tight() -> Setup {
    let retention = Retention::default().events_max(12).age_ms_max(2 * HOUR_MS).horizon_ms(6 * HOUR_MS);
    Setup { retention, keys_max: 6 }
}

/// Nothing goes but what is deleted, so that reads are long and every event is looked at after every restart.
fn roomy() -> Setup {
    let retention = Retention::default().age_ms_max(100_000 * HOUR_MS).horizon_ms(100_000 * HOUR_MS);
    Setup { retention, keys_max: 6 }
}

/// Appends of any kind, reads from any position, deletions, maintenance while time passes, restarts and power cuts, in
/// any order: outcomes, windows, reads and feed are what a list of all events would give. `PROPTEST_CASES` says how many
/// sequences are tried.
pub fn random_operations_agree_with_the_model(new: New<'_>) {
    check(new, tight());
}

/// The same where retention takes nothing.
pub fn random_operations_in_a_roomy_log_agree_with_the_model(new: New<'_>) {
    check(new, roomy());
}

fn check(new: New<'_>, setup: Setup) {
    let config = Config { failure_persistence: None, max_shrink_iters: 4_096, ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(operations::any(), 1..60), |operations| {
        let mut run = Run { bench: Bench::with(new, setup), list: List::new(setup), setup };
        operations.iter().for_each(|operation| run.carry_out(operation));
        run.carry_out(&Operation::Read(ReadSpec::everything()));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// One sequence of operations, on the engine and on the list.
struct Run {
    bench: Bench,
    list: List,
    setup: Setup,
}

impl Run {
    fn carry_out(&mut self, operation: &Operation) {
        match operation {
            Operation::Append(groups) => self.append(groups),
            Operation::Read(read) => self.list.check_read(&self.bench, read),
            Operation::BeforeLast { channels, n, upto } => {
                self.list.check_before_last(&self.bench, channels, *n, *upto);
            }
            Operation::Feed { after, events_max } => self.list.check_feed(&self.bench, *after, *events_max),
            Operation::Delete(channel) => {
                let name = channel_of(*channel);
                let window = self.bench.delete(&name).expect("a healthy log deletes");
                self.list.delete(&name);
                assert_eq!(window, self.bench.window(&name));
            }
            Operation::Maintain { elapsed_ms } => {
                self.list.now_ms += elapsed_ms;
                self.bench.maintain(self.list.now_ms).expect("a healthy log is maintained");
                self.list.maintained(&self.bench);
            }
            Operation::Restart(restart) => self.restart(*restart),
            Operation::Fail { seed } => self.fail(*seed),
        }
        self.list.check_windows(&self.bench);
    }

    fn append(&mut self, specs: &[GroupSpec]) {
        let groups: Vec<_> = specs.iter().map(|spec| self.list.group(spec)).collect();
        let outcomes = self.bench.append(&groups).expect("a healthy log appends");
        assert_eq!(outcomes.len(), groups.len());
        for (group, outcome) in groups.iter().zip(outcomes) {
            self.list.append(group, &outcome);
        }
    }

    fn restart(&mut self, restart: Restart) {
        let id = self.bench.epochs().id(self.list.head);
        let ending = match restart {
            Restart::Closed => Ending::Closed,
            Restart::Killed => Ending::Killed,
            Restart::PowerCut { seed } => Ending::PowerCut { seed },
        };
        if self.bench.restart(ending) {
            self.list.restarted(ending == Ending::Closed);
        } else {
            self.list = List::new(self.setup);
        }
        self.list.check_epochs(&self.bench, id);
    }

    /// An append fails after it began, and the power with it.
    fn fail(&mut self, seed: u64) {
        if !self.bench.fail_next_append(seed) {
            return;
        }
        let event = |name: &str| {
            event_at(name, &"f".repeat(usize::try_from(seed % 9_000).unwrap()), self.list.now_ms)
        };
        let group = plain(vec![event("never-finished"), event("never-finished-either")]);
        let failed = self.bench.append(std::slice::from_ref(&group));
        assert!(
            matches!(failed, Err(AppendError::OutcomeUnknown(_) | AppendError::Poisoned(_))),
            "{failed:?}"
        );
        assert_eq!(self.bench.head(), self.list.head);
        self.restart(Restart::PowerCut { seed });
        self.list.found_after_failure(&self.bench, &group);
    }
}
