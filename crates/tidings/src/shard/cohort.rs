//! Cohorts: the connections of a shard in parts, so that one part is visited after the other.
//!
//! Owns: who listens to what in each part, where the part stands, what waits for the end of its pass. Does not know: what a
//! connection is.
//! Flow: a new connection → the first cohort with room for its channels · the head moves → the next cohort's turn.
//!
//! A pass takes everything up to the head that there is when it begins. Were all connections one cohort, an event that is
//! published in the middle of a pass would wait for its end and then for a whole other one.

use std::collections::HashMap;

use tidings_core::{ChannelName, Seq};

use super::inbox::Key;
use super::pass::Pass;
use super::until::Joining;

/// Listeners of one channel that are one cohort: a turn of visits. Few in debug builds, so that tests meet several.
pub(super) const LISTENERS: usize = if cfg!(debug_assertions) { 4 } else { 256 };
/// With so many, an event that comes in the middle of a pass waits for a fortieth of the way to everybody.
const COHORTS_MAX: u8 = 40;
/// With at most so many channels, a cohort looks for theirs and not through all that was published.
const FEW_CHANNELS: usize = 8;

/// Some connections of a shard. Those in step have no position of their own: they stand at the cohort's.
#[derive(Debug, Default)]
pub(super) struct Cohort {
    /// Who listens to a channel, by place.
    pub(super) listeners: HashMap<ChannelName, Vec<u32>>,
    /// Everything up to here was handed to all connections in step. Moves at the end of a pass.
    pub(super) position: Seq,
    pub(super) pass: Option<Pass>,
    /// Connections that stand where this cohort has yet to come.
    pub(super) ahead: Vec<Key>,
    /// Deletions of what this cohort has yet to come to: it is not sent.
    pub(super) deleted: HashMap<ChannelName, Seq>,
    /// Deletions that wait for the end of the pass.
    pub(super) deletions: Vec<(ChannelName, Seq)>,
    /// Channels that join connections at the end of the pass.
    pub(super) joining: Vec<(Key, Joining)>,
}

/// Which cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CohortIndex(u8);

/// All cohorts of a shard; there is at least one.
#[derive(Debug)]
pub(super) struct Cohorts {
    first: Cohort,
    more: Vec<Cohort>,
    /// Whose turn it is.
    turn: CohortIndex,
}

impl Cohort {
    /// How many listen to the one of these channels that most listen to.
    fn most(&self, channels: &[ChannelName]) -> usize {
        channels.iter().filter_map(|channel| self.listeners.get(channel)).map(Vec::len).max().unwrap_or(0)
    }

    /// The channels that anybody listens to, if they are few: those of all cohorts but the first mostly are.
    pub(super) fn few_channels(&self) -> Option<Vec<ChannelName>> {
        (self.listeners.len() <= FEW_CHANNELS).then(|| self.listeners.keys().cloned().collect())
    }

    pub(super) fn list(&mut self, channel: &ChannelName, place: u32) {
        self.listeners.entry(channel.clone()).or_default().push(place);
    }

    pub(super) fn unlist(&mut self, channel: &ChannelName, place: u32) {
        let Some(places) = self.listeners.get_mut(channel) else { return };
        if let Some(at) = places.iter().position(|&p| p == place) {
            places.swap_remove(at);
        }
        if places.is_empty() {
            self.listeners.remove(channel);
        }
    }

    pub(super) fn listeners(&self, channel: &ChannelName) -> Vec<u32> {
        self.listeners.get(channel).cloned().unwrap_or_default()
    }
}

impl Cohorts {
    pub(super) fn new(position: Seq) -> Self {
        Self { first: Cohort { position, ..Cohort::default() }, more: Vec::new(), turn: CohortIndex(0) }
    }

    pub(super) fn of(&self, at: CohortIndex) -> &Cohort {
        let more = usize::from(at.0).checked_sub(1).and_then(|at| self.more.get(at));
        more.unwrap_or(&self.first)
    }

    pub(super) fn of_mut(&mut self, at: CohortIndex) -> &mut Cohort {
        let more = usize::from(at.0).checked_sub(1).and_then(|at| self.more.get_mut(at));
        more.unwrap_or(&mut self.first)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = CohortIndex> + use<> {
        (0..self.count()).map(CohortIndex)
    }

    pub(super) fn listeners(&self, channel: &ChannelName) -> Vec<u32> {
        self.all().flat_map(|at| self.of(at).listeners(channel)).collect()
    }

    /// Everything up to here was handed to all connections in step.
    pub(super) fn position(&self) -> Seq {
        let positions = self.more.iter().map(|cohort| cohort.position);
        positions.fold(self.first.position, Seq::min)
    }

    /// Where a connection with these channels belongs: most are few enough to be one cohort.
    pub(super) fn for_channels(&mut self, channels: &[ChannelName]) -> CohortIndex {
        if let Some(roomy) = self.all().find(|at| self.of(*at).most(channels) < LISTENERS) {
            return roomy;
        }
        if self.count() == COHORTS_MAX {
            return self.all().min_by_key(|at| self.of(*at).most(channels)).unwrap_or(self.turn);
        }
        // It stands where the first one does, and still has to hear of what that has yet to tell.
        let Cohort { position, deleted, deletions, .. } = &self.first;
        let (position, deleted, deletions) = (*position, deleted.clone(), deletions.clone());
        self.more.push(Cohort { position, deleted, deletions, ..Cohort::default() });
        CohortIndex(self.count() - 1)
    }

    /// Whose turn it is: the one that is in the middle of its pass, else the next that is not at the head.
    pub(super) fn next(&mut self, head: Seq) -> Option<CohortIndex> {
        if self.of(self.turn).pass.is_some() {
            return Some(self.turn);
        }
        let (turn, count) = (self.turn.0, self.count());
        let next = (1..=count)
            .map(|step| CohortIndex((turn + step) % count))
            .find(|at| self.of(*at).position < head)?;
        self.turn = next;
        Some(next)
    }

    /// Whether a pass has begun that has not ended.
    pub(super) fn is_in_pass(&self) -> bool {
        self.of(self.turn).pass.is_some()
    }

    fn count(&self) -> u8 {
        u8::try_from(self.more.len() + 1).unwrap_or(COHORTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(names: &[&str]) -> Vec<ChannelName> {
        names.iter().map(|name| ChannelName::parse(name).unwrap()).collect()
    }

    /// Puts so many listeners where they belong; how many each cohort has.
    fn fill(cohorts: &mut Cohorts, names: &[&str], count: u32) -> Vec<usize> {
        let channels = channels(names);
        for place in 0..count {
            let at = cohorts.for_channels(&channels);
            channels.iter().for_each(|channel| cohorts.of_mut(at).list(channel, place));
        }
        cohorts.all().map(|at| cohorts.of(at).most(&channels)).collect()
    }

    #[test]
    fn listeners_of_one_channel_are_cohorts_of_even_size_and_others_stay_together() {
        let mut cohorts = Cohorts::new(Seq(7));
        assert_eq!(fill(&mut cohorts, &["few"], 3), [3]);
        assert_eq!(fill(&mut cohorts, &["many"], 9), [LISTENERS, LISTENERS, 1]);
        assert_eq!(fill(&mut cohorts, &["one", "many"], 1), [LISTENERS, LISTENERS, 2]);
        assert!(cohorts.all().all(|at| cohorts.of(at).position == Seq(7)));
        let all = fill(&mut cohorts, &["more"], 40 * 4 + 80);
        assert_eq!(all, [6; 40]);
    }

    #[test]
    fn those_that_are_not_at_the_head_have_their_turns_one_after_the_other() {
        let mut cohorts = Cohorts::new(Seq(0));
        fill(&mut cohorts, &["many"], 12);
        let mut order = Vec::new();
        for head in [1, 2, 3, 4, 4, 4, 4] {
            let Some(at) = cohorts.next(Seq(head)) else { break };
            cohorts.of_mut(at).position = Seq(head);
            order.push((at.0, head));
        }
        assert_eq!(order, [(1, 1), (2, 2), (0, 3), (1, 4), (2, 4), (0, 4)]);
        assert_eq!(cohorts.position(), Seq(4));
    }

    #[test]
    fn a_new_cohort_has_yet_to_tell_what_the_first_has() {
        let mut cohorts = Cohorts::new(Seq(3));
        cohorts.first.deleted.insert(channels(&["a"]).remove(0), Seq(5));
        cohorts.first.deletions.push((channels(&["b"]).remove(0), Seq(2)));
        fill(&mut cohorts, &["many"], 5);
        let new = cohorts.of(CohortIndex(1));
        assert_eq!((new.position, new.deleted.len(), new.deletions.len()), (Seq(3), 1, 1));
    }
}
