//! What a checker has found.
//!
//! Owns: how violations are counted, kept and shown, and what a run did not do. Does not know: what can be wrong.
//! Flow: in ← violations of a kind, facts with their plan · out → passed or not, and the lines that say why.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use super::Fact;

/// Examples that are kept of each kind of violation.
const EXAMPLES_MAX: usize = 5;

/// The verdict on a run, with kinds `K` and figures `F`.
#[derive(Debug)]
pub(crate) struct Verdict<K, F> {
    violations: BTreeMap<K, (usize, Vec<String>)>,
    /// What the run had planned and not done.
    pub(crate) invalid: Vec<String>,
    /// What was looked at.
    pub(crate) figures: F,
}

impl<K, F: Default> Default for Verdict<K, F> {
    fn default() -> Self {
        Self { violations: BTreeMap::new(), invalid: Vec::new(), figures: F::default() }
    }
}

impl<K: Copy + Debug + Ord, F> Verdict<K, F> {
    pub(crate) fn add(&mut self, kind: K, detail: impl FnOnce() -> String) {
        let (count, examples) = self.violations.entry(kind).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(detail());
        }
    }

    /// A run that did less than it planned proves nothing.
    pub(crate) fn demand(&mut self, fact: &Fact, done: u64) {
        if done < fact.planned {
            self.invalid.push(format!("{}: {done} of {} planned", fact.name, fact.planned));
        }
    }

    /// How often these were met.
    pub(crate) fn of(&self, kinds: &[K]) -> usize {
        kinds.iter().filter_map(|kind| self.violations.get(kind)).map(|(count, _)| count).sum()
    }

    /// How often anything was met.
    pub(crate) fn all(&self) -> usize {
        self.violations.values().map(|(count, _)| count).sum()
    }

    /// No violation, and the run did what it planned.
    pub(crate) fn passed(&self) -> bool {
        !self.caught() && self.invalid.is_empty()
    }

    /// Something was caught, as opposed to a run that only did too little.
    pub(crate) fn caught(&self) -> bool {
        !self.violations.is_empty()
    }

    /// The kinds that were met, on one line.
    pub(crate) fn kinds(&self) -> String {
        let kinds: Vec<String> =
            self.violations.iter().map(|(kind, (count, _))| format!("{kind:?} {count}")).collect();
        kinds.join(", ")
    }

    #[cfg(test)]
    pub(crate) fn met(&self) -> Vec<K> {
        self.violations.keys().copied().collect()
    }

    /// A line for each kind, with its examples, and for each thing that was not done.
    pub(crate) fn tell(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (count, examples)) in &self.violations {
            writeln!(f, "  {kind:?}: {count}")?;
            for example in examples {
                writeln!(f, "    {example}")?;
            }
        }
        for invalid in &self.invalid {
            writeln!(f, "  INVALID: {invalid}")?;
        }
        Ok(())
    }
}
