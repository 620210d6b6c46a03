//! Making a damaged log open again: for `tidings log repair`.
//!
//! Owns: what is cut, what is copied aside before, and that every old id is told. Does not know: how a log is opened.
//! Flow: in ← a folder that is refused · out → one that opens, and what was lost.
//!
//! The log is cut at the first place for which it is refused. Everything that is changed or removed is copied aside
//! first. Then a run of its own takes the sequence behind the cut, and the horizon moves up to it: an id of what was cut
//! is foreign, and every older one is told that something is gone. So no repair is a silent gap.

mod rebuild;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidings_core::Seq;

use super::Problem;
use crate::log::OpenError;
use crate::log::disk::format::{Kind, SEGMENT_HEADER, SegmentHeader, len64};
use crate::log::disk::index::index_name;
use crate::log::disk::io::{Access, Disk, read_file};
use crate::log::disk::recover::{REPAIRING, inspect, io_error, is_there};
use crate::log::disk::scan::{self, Frame};
use crate::log::disk::segment::{segment_first, segment_name};
use crate::log::disk::{Options, checkpoint, epochs};

/// A log that is refused again after so many repairs stays refused: each of them cuts something, or gives up a file.
const ROUNDS_MAX: usize = 64;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// For what the log was refused; nothing if there was nothing to do.
    pub damage: Vec<Problem>,
    /// Where the files are that were changed or removed, as they were.
    pub aside: Option<PathBuf>,
    /// The newest event that is left.
    pub kept: Seq,
    /// The first and the last sequence that was there, or was promised, and is gone.
    pub lost: Option<(Seq, Seq)>,
    /// How many bytes of segments were cut.
    pub lost_bytes: u64,
}

/// Cuts a log at its first damage, so that the rest opens. Nothing is done to a log that would open anyway.
///
/// # Errors
/// [`OpenError`]: the log is in use, of a newer version, or cannot be written.
pub fn repair(disk: &dyn Disk, now_ms: u64) -> Result<Repaired, OpenError> {
    let failed = |error| io_error(disk, "", error);
    let Some(_lock) = disk.lock().map_err(failed)? else {
        return Err(OpenError::Locked(disk.path().to_owned()));
    };
    let mut found = inspect(disk, &Options::default());
    let was_interrupted = is_there(disk, REPAIRING).map_err(failed)?;
    match &found {
        Ok(()) if !was_interrupted => return Ok(Repaired::default()),
        Ok(()) | Err(OpenError::Damaged { .. }) => {}
        Err(_) => return found.map(|()| Repaired::default()),
    }
    let mut work = Work::begin(disk, now_ms).map_err(failed)?;
    if found.is_ok() {
        // What the interrupted repair cut is not known any more, but everybody has to be told.
        work.rebuild().map_err(failed)?;
    }
    for _ in 0..ROUNDS_MAX {
        match &found {
            Ok(()) => return work.finish().map_err(failed),
            Err(OpenError::Damaged { path, offset, what }) => {
                let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let file = file.unwrap_or_default();
                work.cut_at(&file, *offset).map_err(failed)?;
                work.done.damage.push(Problem { file, offset: *offset, what: what.clone() });
                work.rebuild().map_err(failed)?;
            }
            Err(_) => break,
        }
        found = inspect(disk, &Options::default());
    }
    found.map(|()| work.done)
}

/// A repair under way.
struct Work<'a> {
    disk: &'a dyn Disk,
    aside: Arc<dyn Disk>,
    /// Files that are aside.
    copied: BTreeSet<String>,
    /// The newest sequence that was ever promised or found.
    promised: Seq,
    done: Repaired,
}

impl<'a> Work<'a> {
    fn begin(disk: &'a dyn Disk, now_ms: u64) -> io::Result<Self> {
        let name = format!("repair-{now_ms}");
        let aside = disk.folder(&name)?;
        let done = Repaired { aside: Some(disk.path().join(Path::new(&name))), ..Repaired::default() };
        let mut work = Self { disk, aside, copied: BTreeSet::new(), promised: Seq::ZERO, done };
        work.copy(epochs::NAME)?;
        work.copy(checkpoint::NAME)?;
        if let Some(Ok(epochs)) = epochs::read(disk)? {
            let newest = epochs.list().last().map_or(0, |(_, first)| first.0.saturating_sub(1));
            work.promised = Seq(newest);
        }
        if let Some(Ok(checkpoint)) = checkpoint::read(disk)? {
            work.promised = work.promised.max(checkpoint.position.head);
        }
        // Until it is removed, the log is refused: a half repaired one could open, and tell nobody.
        disk.create(REPAIRING)?.sync_all()?;
        disk.sync_folder()?;
        Ok(work)
    }

    /// Copies a file aside, whole and durably, unless it is there already or does not exist.
    fn copy(&mut self, name: &str) -> io::Result<()> {
        if self.copied.contains(name) || !is_there(self.disk, name)? {
            return Ok(());
        }
        let bytes = read_file(self.disk, name)?;
        let copy = self.aside.create(name)?;
        copy.write_at(bytes.get(..scan::written(&bytes)).unwrap_or_default(), 0)?;
        copy.set_len(len64(bytes.len()))?;
        copy.sync_all()?;
        self.aside.sync_folder()?;
        self.copied.insert(name.to_owned());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if is_there(self.disk, name)? { self.disk.remove(name) } else { Ok(()) }
    }

    /// Gives up what stands at and behind a place.
    fn cut_at(&mut self, file: &str, offset: u64) -> io::Result<()> {
        match segment_first(file) {
            Some(first) if !self.is_of_unlisted_run(file, offset)? => self.cut(first, offset),
            // The run is in the segment, so the list is what is not right.
            Some(_) => self.give_up(epochs::NAME),
            None => self.give_up(file),
        }
    }

    fn give_up(&mut self, file: &str) -> io::Result<()> {
        self.copy(file)?;
        self.remove(file)
    }

    /// Whether the frame there is whole, and refused only because the file `epochs` does not know its run.
    fn is_of_unlisted_run(&self, name: &str, offset: u64) -> io::Result<bool> {
        let Some(Ok(epochs)) = epochs::read(self.disk)? else { return Ok(false) };
        if !is_there(self.disk, name)? {
            return Ok(false);
        }
        let bytes = read_file(self.disk, name)?;
        let Ok(header) = SegmentHeader::decode(&bytes) else { return Ok(false) };
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let frame = Frame::at(&bytes, offset, header.salt).filter(|frame| frame.header.count > 0);
        Ok(header.covers.is_none()
            && frame.is_some_and(|frame| epochs.id(frame.header.first).epoch != frame.header.epoch))
    }

    /// Cuts the segment at the last frame that ends at or before `offset`, and removes all later ones.
    fn cut(&mut self, first: Seq, offset: u64) -> io::Result<()> {
        let mut later: Vec<Seq> = self.disk.list()?.iter().filter_map(|name| segment_first(name)).collect();
        later.retain(|&one| one >= first);
        later.sort_unstable();
        for one in later.into_iter().rev() {
            let name = segment_name(one);
            self.copy(&name)?;
            let bytes = read_file(self.disk, &name)?;
            let upto = if one == first { usize::try_from(offset).unwrap_or(usize::MAX) } else { 0 };
            self.cut_segment(&name, &bytes, upto)?;
            self.remove(&index_name(&name))?;
        }
        self.disk.sync_folder()
    }

    fn cut_segment(&mut self, name: &str, bytes: &[u8], upto: usize) -> io::Result<()> {
        let (mut end, mut last) = (0, Seq::ZERO);
        let header = SegmentHeader::decode(bytes);
        if let Ok(header) = header {
            end = SEGMENT_HEADER;
            for frame in scan::frames(bytes, header.salt).take_while(|frame| frame.end() <= upto) {
                (end, last) = (frame.end(), newest(&frame).unwrap_or(last));
            }
            let mut offset = end;
            while let Some(frame) = scan::next_frame(bytes, offset, bytes.len(), header.salt) {
                self.promised = self.promised.max(newest(&frame).unwrap_or_default());
                offset = frame.end();
            }
        }
        self.done.lost_bytes += len64(scan::written(bytes).saturating_sub(end));
        if end <= SEGMENT_HEADER {
            return self.disk.remove(name);
        }
        let file = self.disk.open(name, Access::Write)?;
        if let Ok(header @ SegmentHeader { covers: Some(_), .. }) = header {
            // It stands for no more than what is left of it.
            file.write_at(&SegmentHeader { covers: Some(last), ..header }.encode(), 0)?;
        }
        file.set_len(len64(end))?;
        file.sync_all()
    }

    /// Makes the other files say what the segments hold now.
    fn rebuild(&mut self) -> io::Result<()> {
        let kept = loop {
            match rebuild::rebuild(self.disk)? {
                Ok(kept) => break kept,
                // Each time, one segment fewer is left.
                Err(problem) => {
                    self.cut_at(&problem.file, problem.offset)?;
                    self.done.damage.push(problem);
                }
            }
        };
        self.done.kept = kept;
        self.done.lost = (self.promised > kept).then_some((kept.next(), self.promised));
        Ok(())
    }

    fn finish(self) -> io::Result<Repaired> {
        self.disk.remove(REPAIRING)?;
        self.disk.sync_folder()?;
        Ok(self.done)
    }
}

/// The newest event of a frame.
fn newest(frame: &Frame<'_>) -> Option<Seq> {
    let events = frame.records().flatten().filter(|(_, record)| record.kind == Kind::Event);
    events.last().map(|(_, record)| record.seq)
}
