//! The file that becomes the next segment.
//!
//! Owns: space that is taken, and written once, before it is needed. Does not know: what will be written to it, and when.
//! Flow: in ← a segment that is half full · out → a file for the writer to take.
//!
//! Space that is only allocated costs a commit twice: its first write changes the file system's records of the file, so
//! its sync waits for the journal as well. In a file of zeros it does not; `docs/figures.md` has what that is worth.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DiskLog;
use super::format::len64;
use super::io::{Disk, DiskFile};
use super::retain::Maintenance;
use crate::log::LogError;

/// Its name once the writer may take it.
pub(super) const SPARE: &str = "next.tmp";
/// Its name before: a commit that cannot wait makes a [`SPARE`] of its own.
const FILLING: &str = "filling.tmp";
/// Bytes that are written before they are synced. A commit meanwhile waits for one such piece: with 1 MiB their p99 doubles,
/// with 64 KiB a segment takes longer to fill than busy publishers need for one.
const FILL_BYTES: usize = 256 << 10;
/// How long one maintenance fills: enough for a whole segment on a disk that is fast, and no stop has to wait for one that is not.
pub(super) const FILL_TIME: Duration = Duration::from_secs(1);

/// A file that is allocated.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) file: Arc<dyn DiskFile>,
    /// Bytes of it.
    pub(super) len: u64,
}

impl Spare {
    /// Takes the space at once, in place of what has this name.
    pub(super) fn allocate(disk: &dyn Disk, name: &str, len: u64) -> io::Result<Self> {
        let file = disk.create(name)?;
        if let Err(error) = file.allocate(len) {
            // Gives back what was taken; if that fails too, the next attempt begins by cutting the file.
            disk.remove(name).unwrap_or_default();
            return Err(error);
        }
        Ok(Self { file, len })
    }
}

/// A file on its way to be a [`Spare`].
#[derive(Debug)]
pub(super) struct Filling {
    spare: Spare,
    /// Zeros were written up to here.
    offset: u64,
}

impl Filling {
    /// Writes zeros for about so long, and at least one piece. Whether all of it is done.
    fn go_on(&mut self, time: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        let zeros = vec![0; FILL_BYTES];
        loop {
            let rest = usize::try_from(self.spare.len - self.offset).unwrap_or(FILL_BYTES);
            let piece = zeros.get(..rest).unwrap_or(&zeros);
            self.spare.file.write_at(piece, self.offset)?;
            self.spare.file.sync_data()?;
            self.offset += len64(piece.len());
            if self.offset == self.spare.len || begun.elapsed() >= time {
                return Ok(self.offset == self.spare.len);
            }
        }
    }
}

impl DiskLog {
    /// Makes the next segment ready, so that a shortage shows before a write, and a commit need not wait for it.
    ///
    /// Whoever needs the space is told if there is none: here it is only logged. Nothing that was acknowledged is in the
    /// file, so its errors are no reason to stop.
    pub(super) fn prepare_spare(&self, maintenance: &mut Maintenance) -> Result<(), LogError> {
        let begun = match maintenance.filling.take() {
            Some(filling) => Some(filling),
            None => self.begin_filling()?,
        };
        let Some(mut filling) = begun else { return Ok(()) };
        match filling.go_on(self.options.fill_time) {
            Ok(true) => self.end_filling(Ok(filling.spare)),
            Ok(false) => {
                maintenance.filling = Some(filling);
                Ok(())
            }
            Err(error) => self.end_filling(Err(error)),
        }
    }

    fn begin_filling(&self) -> Result<Option<Filling>, LogError> {
        let writer = self.writer();
        self.healthy()?;
        if writer.spare.is_some() || writer.offset < writer.capacity / 2 {
            return Ok(None);
        }
        match Spare::allocate(&*self.disk, FILLING, self.options.segment_bytes) {
            Ok(spare) => Ok(Some(Filling { spare, offset: 0 })),
            Err(error) => {
                tracing::warn!(%error, "cannot take space for the next segment");
                Ok(None)
            }
        }
    }

    fn end_filling(&self, filled: io::Result<Spare>) -> Result<(), LogError> {
        // With this lock, and healthy, the folder is ours still, and no commit is making a spare.
        let mut writer = self.writer();
        self.healthy()?;
        match filled.and_then(|spare| self.disk.rename(FILLING, SPARE).map(|()| spare)) {
            Ok(spare) => writer.spare = Some(spare),
            Err(error) => {
                tracing::warn!(%error, "cannot fill the next segment");
                self.disk.remove(FILLING).unwrap_or_default();
            }
        }
        Ok(())
    }
}
