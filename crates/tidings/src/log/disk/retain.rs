//! What goes, and when.
//!
//! Owns: floors and forgotten records, durable before anything is freed. Does not know: how segments are freed.
//! Flow: in ← the time, deletions · out → control records in the log, then the same in the state.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tidings_core::{ChannelName, Seq};

use super::DiskLog;
use super::checkpoint::Position;
use super::format::{Kind, RawRecord, len32, len64};
use super::segment::Index;
use super::spare::Filling;
use super::state::{State, with_slack};
use super::writer::Writer;
use crate::log::{AppendError, LogError, Window};

/// Control records of one frame.
const CONTROLS_MAX: usize = 4_096;
/// Channel records that one maintenance looks at: a million of them are gone through in half a minute.
const RECORDS_PER_ROUND: usize = 32_768;

/// What maintenance remembers from one time to the next. Its lock is what lets only one of them run.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    /// Where the last checkpoint stands; `None` if there is none.
    pub(super) checkpoint: Option<Position>,
    pub(super) checkpoint_bytes: u64,
    /// The count of moves at that time.
    pub(super) checkpoint_moves: u64,
    /// A newer one was not written, so that the floors that channels have as saved are not.
    pub(super) is_behind_its_floors: bool,
    /// The next channel record to look at.
    pub(super) next_slot: usize,
    /// The next segment, while it is made ready.
    pub(super) filling: Option<Filling>,
}

impl DiskLog {
    pub(super) fn delete_channel(&self, name: &ChannelName) -> Result<Option<Window>, LogError> {
        let mut writer = self.writer();
        let found = {
            let state = self.state();
            state.slot(name.as_str()).and_then(|slot| {
                let channel = state.channel(slot)?;
                let holds_some = channel.reach(state.log_floor).after < channel.head || channel.pin.is_some();
                Some((slot, channel.head, holds_some))
            })
        };
        let Some((slot, head, holds_some)) = found else { return Ok(None) };
        if holds_some {
            self.commit_controls(&mut writer, &[RawRecord::control(Kind::Deleted, name.as_str(), head)])?;
            self.state_mut().delete(slot, head);
        } else if let Some(channel) = self.state_mut().channel_mut(slot) {
            // A record outlives every deletion by the horizon.
            channel.idle_since_ms = None;
        }
        drop(writer);
        Ok(self.window_of(name))
    }

    /// Makes records that are no events durable. They may use the reserve: they are what frees space.
    fn commit_controls(&self, writer: &mut Writer, records: &[RawRecord<'_>]) -> Result<(), LogError> {
        self.healthy()?;
        let bytes: usize = records.iter().map(|record| 64 + record.channel.len()).sum();
        self.make_room(writer, bytes).map_err(as_log_error)?;
        writer.commit.start(writer.head);
        for record in records {
            writer.commit.add_control(record);
        }
        self.commit(writer).map_err(as_log_error)
    }

    pub(super) fn healthy(&self) -> Result<(), LogError> {
        self.poisoned.get().map_or(Ok(()), |why| Err(LogError::Poisoned(why.clone())))
    }

    pub(super) fn maintain_now(&self, now_ms: u64) -> Result<(), LogError> {
        self.healthy()?;
        // Nobody may publish to a server that says that it is full, so nobody else would find that it is not any more.
        self.has_room();
        let mut maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.prepare_spare(&mut maintenance)?;
        {
            let mut writer = self.writer();
            writer.keys.forget(now_ms);
            self.figures.keys.store(len64(writer.keys.len()), Ordering::Relaxed);
        }
        self.seal_full();
        self.raise_log_floor(now_ms)?;
        let idle = self.choose_idle(&mut maintenance, now_ms);
        self.forget(&idle)?;
        self.look_for_dead();
        self.rewrite_mostly_dead(&maintenance)?;
        self.checkpoint_if_due(&mut maintenance)
    }

    /// Lets another log open the folder, whoever still holds this one: nothing is written any more.
    pub(super) fn give_up_folder(&self) {
        let _writer = self.writer();
        self.poisoned.get_or_init(|| "the log was closed".to_owned());
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn close_now(&self) -> Result<(), LogError> {
        if self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Ok(());
        }
        self.healthy()?;
        let mut maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.seal_full();
        self.write_checkpoint(&mut maintenance)
    }

    /// Moves the floor of the whole log, where age or size says so.
    fn raise_log_floor(&self, now_ms: u64) -> Result<(), LogError> {
        let floor = {
            let state = self.state();
            let aged =
                now_ms.checked_sub(state.retention.age_ms_max).and_then(|time| state.times.before(time));
            aged.max(floor_by_size(&state)).filter(|&floor| floor > state.log_floor)
        };
        if let Some(floor) = floor {
            let mut writer = self.writer();
            self.commit_controls(&mut writer, &[RawRecord::control(Kind::LogFloor, "", floor)])?;
            let mut state = self.state_mut();
            state.move_log_floor(floor);
            state.times.trim(floor);
        }
        Ok(())
    }

    /// Records whose time has come, and the longest idle ones where there are too many; each with its head.
    pub(super) fn choose_idle(&self, maintenance: &mut Maintenance, now_ms: u64) -> Vec<(u32, Seq)> {
        let mut chosen = self.note_idle(maintenance, now_ms);
        chosen.extend(too_many(&self.state()));
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// Forgets records, but for those that got an event since they were chosen.
    pub(super) fn forget(&self, chosen: &[(u32, Seq)]) -> Result<(), LogError> {
        for chosen in chosen.chunks(CONTROLS_MAX) {
            let mut writer = self.writer();
            // Under the writer's lock a channel stays as idle as it is.
            let channels: Vec<(u32, ChannelName, Seq)> = {
                let state = self.state();
                let channel = |&(slot, head): &(u32, Seq)| {
                    let channel = state.channel(slot).filter(|channel| channel.head == head)?;
                    Some((slot, channel.name.clone(), head))
                };
                chosen.iter().filter_map(channel).collect()
            };
            let records: Vec<RawRecord<'_>> = channels
                .iter()
                .map(|(_, name, head)| RawRecord::control(Kind::Forgotten, name.as_str(), *head))
                .collect();
            // The horizon is durable before a record is forgotten: an id below it can then no longer be judged.
            self.commit_controls(&mut writer, &records)?;
            let mut state = self.state_mut();
            channels.iter().for_each(|(slot, ..)| state.forget(*slot));
        }
        Ok(())
    }

    /// Looks at some records: notes which are idle now, and returns those that have been for the horizon.
    fn note_idle(&self, maintenance: &mut Maintenance, now_ms: u64) -> Vec<(u32, Seq)> {
        let mut state = self.state_mut();
        let (log_floor, retention) = (state.log_floor, state.retention);
        let slots = state.slots_len();
        let from = if maintenance.next_slot < slots { maintenance.next_slot } else { 0 };
        let upto = from.saturating_add(RECORDS_PER_ROUND).min(slots);
        maintenance.next_slot = upto;
        let mut idle = Vec::new();
        for slot in from..upto {
            let slot = len32(slot);
            let Some(channel) = state.channel_mut(slot) else { continue };
            let reach = channel.reach(log_floor);
            let is_aged = channel.time_ms.saturating_add(retention.age_ms_max) < now_ms;
            let holds_nothing = channel.pin.is_none()
                && (reach.after >= channel.head
                    || (channel.is_finished && reach.after.next() == channel.head && is_aged));
            if !holds_nothing {
                channel.idle_since_ms = None;
                continue;
            }
            let since_ms = *channel.idle_since_ms.get_or_insert(now_ms);
            if now_ms > since_ms && now_ms >= since_ms.saturating_add(retention.horizon_ms) {
                idle.push((slot, channel.head));
            }
        }
        idle
    }
}

/// Up to where the oldest segments would have to go for the log to keep to its size.
fn floor_by_size(state: &State) -> Option<Seq> {
    let (newest, older) = state.segments.split_last()?;
    let mut bytes = newest.data_end + older.iter().map(|segment| segment.bytes()).sum::<u64>();
    let mut floor = None;
    for segment in older {
        // What lies below the floor already is on its way out, or is kept for its final and pinned events.
        if segment.last <= state.log_floor {
            bytes = bytes.saturating_sub(segment.bytes());
            continue;
        }
        if bytes <= state.retention.log_bytes_max {
            break;
        }
        bytes = bytes.saturating_sub(segment.bytes());
        floor = Some(segment.last);
    }
    floor
}

/// The longest idle records, as far as there are more than the bound; and those whose final events take up so much of
/// the log that nothing else would have room. One with a pinned event is never among them.
fn too_many(state: &State) -> Vec<(u32, Seq)> {
    let excess = state.channels_len().saturating_sub(state.retention.channels_max);
    let kept = state
        .segments
        .iter()
        .filter(|segment| segment.last <= state.log_floor && matches!(segment.index, Index::Sealed(_)))
        .filter(|segment| !segment.life.is_over && segment.life.looked_at > 0);
    let mut bytes = 0;
    let mut too_old = None;
    for segment in kept.rev() {
        bytes += segment.life.bytes;
        if bytes > with_slack(state.retention.log_bytes_max / 2) {
            too_old = too_old.or(Some(segment.last));
        }
    }
    if excess == 0 && too_old.is_none() {
        return Vec::new();
    }
    let mut heads: Vec<(Seq, u32)> = state.heads().collect();
    let old = too_old.map_or(0, |last| heads.iter().filter(|&&(head, _)| head <= last).count());
    let count = excess.max(old);
    if count < heads.len() {
        heads.select_nth_unstable(count);
        heads.truncate(count);
    }
    heads.into_iter().map(|(head, slot)| (slot, head)).collect()
}

fn as_log_error(error: AppendError) -> LogError {
    match error {
        AppendError::Poisoned(why) => LogError::Poisoned(why),
        AppendError::OutcomeUnknown(source) => {
            LogError::Io { context: "writing to the log".to_owned(), source }
        }
        other => LogError::Io {
            context: "making room in the log".to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::StorageFull, other.to_string()),
        },
    }
}
