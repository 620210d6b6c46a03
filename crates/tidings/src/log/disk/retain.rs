//! What goes, and when.
//!
//! Owns: floors and forgotten records, durable before anything is freed. Does not know: how segments are freed.
//! Flow: in ← the time, deletions · out → control records in the log, then the same in the state.

use tidings_core::ChannelName;

use super::DiskLog;
use super::format::{Kind, RawRecord, len64};
use super::writer::{Writer, allocate_spare};
use crate::log::{AppendError, LogError, Window};

impl DiskLog {
    pub(super) fn delete_channel(&self, name: &ChannelName) -> Result<Option<Window>, LogError> {
        let mut writer = self.writer();
        let found = {
            let state = self.state();
            state.slot(name.as_str()).and_then(|slot| Some((slot, state.channel(slot)?.head)))
        };
        let Some((slot, head)) = found else { return Ok(None) };
        self.commit_controls(
            &mut writer,
            &[RawRecord::control(Kind::Floor { deleted: true }, name.as_str(), head, 0, 0)],
        )?;
        self.state_mut().move_floor(slot, head, true, (0, 0));
        drop(writer);
        Ok(self.window_of(name))
    }

    /// Makes records that are no events durable. They may use the reserve: they are what frees space.
    pub(super) fn commit_controls(
        &self,
        writer: &mut Writer,
        records: &[RawRecord<'_>],
    ) -> Result<(), LogError> {
        if let Some(why) = self.poisoned.get() {
            return Err(LogError::Poisoned(why.clone()));
        }
        let bytes: usize = records.iter().map(|record| 64 + record.channel.len()).sum();
        self.make_room(writer, bytes).map_err(as_log_error)?;
        writer.commit.start(writer.head);
        for record in records {
            writer.commit.add_control(record);
        }
        self.commit(writer).map_err(as_log_error)
    }

    /// Takes space for the next segment before it is needed, so that a shortage shows before a write.
    fn prepare_spare(&self, writer: &mut Writer) {
        if writer.spare.is_some() || writer.offset < writer.capacity / 2 || self.poisoned.get().is_some() {
            return;
        }
        match allocate_spare(&*self.disk, self.options.segment_bytes) {
            Ok(file) => writer.spare = Some((file, self.options.segment_bytes)),
            // Whoever needs the space will be told.
            Err(error) => tracing::warn!(%error, "cannot take space for the next segment"),
        }
    }

    pub(super) fn maintain_now(&self, now_ms: u64) -> Result<(), LogError> {
        let mut writer = self.writer();
        self.prepare_spare(&mut writer);
        writer.keys.forget(now_ms);
        self.figures.keys.store(len64(writer.keys.len()), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn close_now(&self) -> Result<(), LogError> {
        Ok(())
    }
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
