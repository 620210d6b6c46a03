//! The conformance suite: what every log engine has to do, as tests that any engine can run.
//!
//! Owns: the sentences of [`Log`]'s documentation as cases, and a model that random operations are compared with.
//! Does not know: which engine is under test, or how it stores anything.
//! Flow: in ← a way to make a [`Store`] · out → one test per case, named by its sentence.
//!
//! An engine's tests say `tidings::log::conformance!(name, new)`, where `new` is a function or closure from [`Setup`] to
//! a boxed [`Store`]. That makes a module with one test per case:
//!
//! ```
//! use std::sync::Arc;
//! use tidings::log::conformance::{Setup, Store};
//! use tidings::log::{Log, memory::MemoryLog};
//!
//! struct Memory(Setup);
//!
//! impl Store for Memory {
//!     fn open(&mut self) -> Arc<dyn Log> {
//!         Arc::new(MemoryLog::with_keys_max(self.0.retention, self.0.keys_max))
//!     }
//!     fn is_durable(&self) -> bool {
//!         false
//!     }
//! }
//!
//! tidings::log::conformance!(memory, |setup| Box::new(Memory(setup)));
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![allow(clippy::missing_panics_doc, reason = "every case panics when the engine is wrong")]

pub mod append;
pub mod channels;
pub mod concurrent;
pub mod feed;
pub mod keys;
pub mod model;
pub mod pinned;
pub mod read;
pub mod restart;
pub mod retention;

mod bench;
#[cfg(test)]
mod disk;

use std::fmt;
use std::sync::Arc;

use tidings_core::limits;

use super::{Log, Retention};

/// What a case wants of the log that it opens.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Setup {
    /// What retention keeps.
    pub retention: Retention,
    /// How many idempotency keys are remembered at once.
    pub keys_max: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { retention: Retention::default(), keys_max: limits::IDEMPOTENCY_KEYS_MAX }
    }
}

/// How a run of a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// [`Log::close`], then dropped.
    Closed,
    /// Gone without `close`, as by `kill -9`: nothing that was written is lost.
    Killed,
    /// The power fails: what was not made durable may be lost, in whole or in part. The seed decides which part.
    PowerCut {
        /// Makes the loss repeatable.
        seed: u64,
    },
}

/// A place for one log, which can be opened again if the engine keeps anything.
pub trait Store {
    /// Opens the log: a new one the first time, what the last run left behind afterwards.
    fn open(&mut self) -> Arc<dyn Log>;

    /// Whether what was acknowledged is there when the log is opened again. If not, nothing of it may be.
    fn is_durable(&self) -> bool {
        true
    }

    /// Ends a run. `log` is its last handle. A store that can lose what was not synced does so here, before it drops it.
    fn end(&mut self, log: Arc<dyn Log>, ending: Ending) {
        if ending == Ending::Closed {
            log.close().expect("a healthy log closes");
        }
        drop(log);
    }

    /// Makes the next append fail after it began, so that its outcome is unknown; false if this store cannot. What the
    /// fault leaves behind may depend on the seed.
    fn fail_next_append(&mut self, seed: u64) -> bool {
        let _ = seed;
        false
    }
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("is_durable", &self.is_durable()).finish_non_exhaustive()
    }
}

/// Makes a new, empty store.
pub type New<'a> = &'a dyn Fn(Setup) -> Box<dyn Store>;

/// Makes a module `$name` with one test per case of the suite, run against the stores that `$new` makes. An engine that
/// is still being built may name the areas that it has.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_conformance {
    ($name:ident, $new:expr) => {
        $crate::__log_conformance! {
            $name, $new, [append keys read channels retention pinned feed restart concurrent model]
        }
    };
    ($name:ident, $new:expr, [$($area:ident)*]) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "only what the expression names")]
            use super::*;
            $($crate::__log_conformance! { @$area [$new] })*
        }
    };
    (@append [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] append [
            sequences_only_grow_and_follow_each_other_within_a_group
            prev_is_the_channels_own_last_event
            groups_of_one_append_do_not_mix_and_each_sees_those_before_it
            a_refused_group_leaves_nothing_behind
            compare_and_set_takes_the_head_and_nothing_else
            of_two_that_expect_the_same_head_one_wins
            a_finished_channel_takes_nothing_more
            nothing_follows_a_final_event_in_its_own_group
            a_group_above_a_thousand_events_fails_the_whole_append
            everything_that_was_appended_is_read_back_unchanged
            an_append_is_one_commit
        ] }
    };
    (@keys [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] keys [
            a_repeat_takes_effect_once_and_names_the_first_time
            a_repeat_of_several_events_tells_how_many_there_were
            a_repeat_in_the_same_append_is_seen
            the_same_key_with_another_body_is_refused
            a_repeat_is_recognised_before_its_group_is_judged_again
            a_refused_group_does_not_use_up_its_key
            a_key_is_remembered_for_24_hours_and_no_longer
            keys_outlive_their_events
            when_keys_are_full_new_ones_are_refused_and_old_ones_still_known
            room_for_keys_comes_back_after_24_hours
        ] }
    };
    (@read [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] read [
            channels_are_merged_in_order_of_sequence
            every_channel_has_a_position_of_its_own
            a_channel_that_is_wanted_twice_gives_its_events_once
            nothing_above_upto_is_read
            a_read_that_is_not_cut_is_complete_up_to_upto
            a_read_that_is_cut_is_complete_up_to_its_last_event
            a_limit_that_is_met_exactly_does_not_cut
            bytes_are_limited_but_one_event_always_comes
            slices_add_up_to_the_whole
            an_unknown_channel_is_read_as_empty
            no_claim_is_made_beyond_the_head
        ] }
    };
    (@channels [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] channels [
            an_unknown_channel_has_no_window
            a_window_tells_first_head_and_count
            channels_are_listed_by_prefix
            unfinished_channels_are_listed_by_prefix
            pages_of_channels_add_up_to_the_list
            before_last_counts_over_all_channels
            before_last_ends_at_the_oldest_event_and_at_upto
            a_deletion_moves_the_floor_to_the_head
            a_deleted_channel_goes_on_where_it_stood
            a_deleted_channel_that_was_finished_stays_finished_without_its_final_event
            deleting_what_does_not_exist_finds_nothing
            deleting_twice_changes_nothing
        ] }
    };
    (@retention [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] retention [
            a_channel_keeps_its_newest_events
            a_channel_keeps_its_newest_bytes
            one_event_above_the_byte_limit_of_its_channel_is_kept
            the_whole_log_keeps_its_newest_bytes
            events_go_when_they_are_too_old
            a_position_at_the_floor_is_whole_and_one_before_it_is_truncated
            truncated_names_exactly_the_channels_that_lost_something
            a_position_in_a_quiet_channel_is_never_truncated
            a_final_event_stays_readable_while_its_record_lives
            sequences_survive_total_trimming
            a_record_outlives_its_events_until_the_horizon_passes_it
            a_record_outlives_its_deletion_by_the_horizon
            retention_elsewhere_leaves_a_window_as_it_was
            a_forgotten_channel_can_be_used_again
            beyond_the_most_records_the_longest_idle_are_forgotten
            retention_forgets_no_channel_that_is_in_use
        ] }
    };
    (@pinned [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] pinned [
            a_window_names_the_newest_pinned_event
            a_pinned_event_stays_below_the_floor_of_its_channel
            a_pinned_event_outlives_its_age_and_the_log
            a_pinned_event_that_was_replaced_is_an_event_like_any_other
            a_deletion_takes_the_pinned_event
            a_channel_with_a_pinned_event_is_not_forgotten
            a_pinned_event_survives_a_restart
        ] }
    };
    (@feed [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] feed [
            the_feed_is_the_whole_log_in_order
            the_feed_is_limited_like_a_read
            the_feed_never_passes_over_what_is_gone
            prev_links_every_event_of_a_channel
        ] }
    };
    (@restart [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] restart [
            every_run_opens_an_epoch
            what_was_acknowledged_survives_every_ending
            sequences_go_on_after_a_restart
            keys_survive_a_restart
            finished_channels_survive_a_restart
            floors_and_deletions_survive_a_restart
            deletions_survive_whatever_happens_around_them
            the_horizon_survives_a_restart
            an_append_that_failed_halfway_is_there_as_a_whole_or_not_at_all
            what_a_run_found_survives_the_next_power_cut
        ] }
    };
    (@concurrent [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] concurrent [
            readers_see_whole_commits_only
            the_head_never_runs_ahead_of_what_can_be_read
            writers_take_turns
            a_reader_that_retention_overtakes_is_told
        ] }
    };
    (@model [$new:expr]) => {
        $crate::__log_conformance! { @tests [$new] model [
            random_operations_agree_with_the_model
            random_operations_in_a_roomy_log_agree_with_the_model
        ] }
    };
    (@tests [$new:expr] $area:ident [$($case:ident)*]) => {
        mod $area {
            #[allow(unused_imports, reason = "only what the expression names")]
            use super::*;
            $(#[test]
            fn $case() {
                $crate::log::conformance::$area::$case(&$new);
            })*
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory::MemoryLog;

    struct Memory(Setup);

    impl Store for Memory {
        fn open(&mut self) -> Arc<dyn Log> {
            Arc::new(MemoryLog::with_keys_max(self.0.retention, self.0.keys_max))
        }

        fn is_durable(&self) -> bool {
            false
        }
    }

    crate::log::conformance!(memory, |setup| Box::new(Memory(setup)));

    #[test]
    fn every_case_is_in_the_list() {
        let list = include_str!("mod.rs");
        let areas = [
            include_str!("append.rs"),
            include_str!("channels.rs"),
            include_str!("concurrent.rs"),
            include_str!("feed.rs"),
            include_str!("keys.rs"),
            include_str!("model.rs"),
            include_str!("pinned.rs"),
            include_str!("read.rs"),
            include_str!("restart.rs"),
            include_str!("retention.rs"),
        ];
        let cases =
            areas.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("pub fn "));
        for case in cases.map(|line| line.split('(').next().unwrap_or(line)) {
            assert!(list.lines().any(|line| line.trim() == case), "{case} is not run");
        }
    }
}
