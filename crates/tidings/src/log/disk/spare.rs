//! The file that becomes the next segment.
//!
//! Owns: space that is taken, and written once, before it is needed. Does not know: what will be written to it, and when.
//! Flow: in ← a segment that is half full · out → a file for the writer to take.
//!
//! Space that is only allocated costs a commit twice: its first write changes the file system's records of the file, so
//! its sync waits for the journal as well. In a file of zeros it does not; `docs/figures.md` has what that is worth.

use std::io;
use std::sync::Arc;

use super::DiskLog;
use super::io::{Disk, DiskFile};
use super::writer::Writer;
use crate::log::LogError;

/// Its name once the writer may take it.
pub(super) const SPARE: &str = "next.tmp";
/// Its name before: a commit that cannot wait makes a [`SPARE`] of its own.
const FILLING: &str = "filling.tmp";
/// Bytes that are written before they are synced. A commit meanwhile waits for one such piece: with 1 MiB their p99 doubles,
/// with 64 KiB a segment takes longer to fill than busy publishers need for one.
const FILL_BYTES: usize = 256 << 10;

/// A file that is allocated.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) file: Arc<dyn DiskFile>,
    /// Bytes of it.
    pub(super) len: u64,
}

impl Spare {
    /// Takes space under the name [`SPARE`] at once, in place of what has that name.
    pub(super) fn allocate(disk: &dyn Disk, len: u64) -> io::Result<Self> {
        allocate(disk, SPARE, len)
    }
}

fn allocate(disk: &dyn Disk, name: &str, len: u64) -> io::Result<Spare> {
    let file = disk.create(name)?;
    if let Err(error) = file.allocate(len) {
        // Gives back what was taken; if that fails too, the next attempt begins by cutting the file.
        disk.remove(name).unwrap_or_default();
        return Err(error);
    }
    Ok(Spare { file, len })
}

/// Writes zeros to all of it.
fn fill(spare: &Spare) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut offset = 0;
    while offset < spare.len {
        let rest = usize::try_from(spare.len - offset).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        let step = zeros.get(..rest).unwrap_or_default();
        spare.file.write_at(step, offset)?;
        spare.file.sync_data()?;
        offset += super::format::len64(rest);
    }
    Ok(())
}

impl DiskLog {
    /// Makes the next segment ready, so that a shortage shows before a write, and a commit need not wait for it.
    ///
    /// Whoever needs the space is told if there is none: here it is only logged. Nothing that was acknowledged is in the
    /// file, so its errors are no reason to stop.
    pub(super) fn prepare_spare(&self) -> Result<(), LogError> {
        let Some(spare) = self.begin_filling()? else { return Ok(()) };
        let filled = fill(&spare);
        // Under this lock the folder is ours still, and no commit makes a spare.
        let mut writer = self.writer();
        self.healthy()?;
        match filled.and_then(|()| self.disk.rename(FILLING, SPARE)) {
            Ok(()) => writer.spare = Some(spare),
            Err(error) => {
                tracing::warn!(%error, "cannot fill the next segment");
                self.disk.remove(FILLING).unwrap_or_default();
            }
        }
        Ok(())
    }

    fn begin_filling(&self) -> Result<Option<Spare>, LogError> {
        let writer = self.writer();
        self.healthy()?;
        if !is_due(&writer) {
            return Ok(None);
        }
        match allocate(&*self.disk, FILLING, self.options.segment_bytes) {
            Ok(spare) => Ok(Some(spare)),
            Err(error) => {
                tracing::warn!(%error, "cannot take space for the next segment");
                Ok(None)
            }
        }
    }
}

fn is_due(writer: &Writer) -> bool {
    writer.spare.is_none() && writer.offset >= writer.capacity / 2
}
