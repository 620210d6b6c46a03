//! A disk that keeps only what was synced.
//!
//! Owns: files in memory, and what a power cut leaves of them: of writes that were not synced any sectors, of names that
//! were not synced any first part. Does not know: what the files mean.
//! Flow: in ← the engine's verbs, and the moment of the cut · out → what the next start finds.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::log::disk::io::{Access, Disk, DiskFile};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Len(len) => to.resize(*len, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                to.resize(to.len().max(end), 0);
                to[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Contents {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// What `seen` has and `durable` has not.
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Naming {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

/// Which call of the next append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Write,
    Sync,
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Naming>,
    is_locked: bool,
    /// Raised by a power cut: handles from before it reach nothing any more.
    life: u64,
    fault: Option<Fault>,
    /// Changes and syncs so far, and after how many of them the power fails by itself.
    calls: u64,
    calls_max: Option<u64>,
}

/// The disk. It outlives the logs on it.
#[derive(Debug, Clone, Default)]
pub(super) struct LossyDisk(Arc<Mutex<Inner>>);

impl LossyDisk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail_next_append(&self, seed: u64) {
        self.inner().fault = Some(if seed.is_multiple_of(2) { Fault::Write } else { Fault::Sync });
    }

    /// Lets the power fail after so many changes and syncs, in the middle of whatever goes on then.
    pub(super) fn fail_after(&self, calls: u64) {
        let mut inner = self.inner();
        inner.calls_max = Some(inner.calls + calls);
    }

    /// Changes and syncs so far.
    pub(super) fn calls(&self) -> u64 {
        self.inner().calls
    }

    /// The power fails. Of what was not synced, the seed decides what is kept.
    pub(super) fn cut(&self, seed: u64) {
        let mut random = Random(seed);
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.calls_max = None;
        (inner.life, inner.is_locked, inner.fault) = (inner.life + 1, false, None);
        let kept = random.below(inner.unsynced_names.len() + 1);
        inner.unsynced_names.drain(..).take(kept).for_each(|naming| naming.apply(&mut inner.durable_names));
        inner.names = inner.durable_names.clone();
        for file in &mut inner.files {
            for change in std::mem::take(&mut file.unsynced) {
                lose_some(&change, &mut file.durable, &mut random);
            }
            file.seen = file.durable.clone();
        }
    }
}

fn lose_some(change: &Change, durable: &mut Vec<u8>, random: &mut Random) {
    match (random.below(3), change) {
        (0, _) => {}
        (1, _) | (_, Change::Len(_)) => change.apply(durable),
        (_, Change::Write { offset, bytes }) => {
            let mut at = 0;
            while at < bytes.len() {
                let end = bytes.len().min(at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES);
                if random.below(2) == 0 {
                    Change::Write { offset: offset + at, bytes: bytes[at..end].to_vec() }.apply(durable);
                }
                at = end;
            }
        }
    }
}

/// splitmix64: a few bits that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed >> 32) % u64::try_from(bound).unwrap()).unwrap()
    }
}

struct Guard(LossyDisk, u64);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        if inner.life == self.1 {
            inner.is_locked = false;
        }
    }
}

impl Disk for LossyDisk {
    fn path(&self) -> &Path {
        Path::new("lossy")
    }

    fn create_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let mut inner = self.inner();
        if std::mem::replace(&mut inner.is_locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(Guard(self.clone(), inner.life))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.inner().names.keys().cloned().collect())
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner();
        let &file = inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(LossyFile { disk: self.clone(), life: inner.life, file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = {
            let mut inner = self.inner();
            inner.files.push(Contents::default());
            let file = inner.files.len() - 1;
            inner.name(Naming::Create(name.to_owned(), file))?;
            file
        };
        Ok(Arc::new(LossyFile { disk: self.clone(), life: self.inner().life, file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner().name(Naming::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner().name(Naming::Remove(name.to_owned()))
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call()?;
        inner.durable_names = inner.names.clone();
        inner.unsynced_names.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl Inner {
    fn is_off(&self) -> bool {
        self.calls_max.is_some_and(|max| self.calls >= max)
    }

    fn call(&mut self) -> io::Result<()> {
        if self.is_off() {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += 1;
        Ok(())
    }

    fn name(&mut self, naming: Naming) -> io::Result<()> {
        self.call()?;
        naming.apply(&mut self.names);
        self.unsynced_names.push(naming);
        Ok(())
    }

    fn change(&mut self, file: usize, change: Change) -> io::Result<()> {
        self.call()?;
        let file = &mut self.files[file];
        change.apply(&mut file.seen);
        file.unsynced.push(change);
        Ok(())
    }
}

#[derive(Debug)]
struct LossyFile {
    disk: LossyDisk,
    life: u64,
    file: usize,
}

impl LossyFile {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        if inner.life == self.life { Ok(inner) } else { Err(io::Error::other("the power is off")) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.call()?;
        if inner.fault == Some(Fault::Sync) {
            inner.fault = None;
            // As Linux does it: readers go on seeing what was written, but no later sync will write it.
            inner.files[self.file].unsynced.clear();
            return Err(io::Error::other("the sync was made to fail"));
        }
        let file = &mut inner.files[self.file];
        for change in std::mem::take(&mut file.unsynced) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }
}

impl DiskFile for LossyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.inner()?;
        let seen = &inner.files[self.file].seen;
        let from = usize::try_from(offset).unwrap().min(seen.len());
        let len = into.len().min(seen.len() - from);
        into[..len].copy_from_slice(&seen[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.inner()?;
        let (offset, mut bytes) = (usize::try_from(offset).unwrap(), bytes.to_vec());
        let failed = inner.fault == Some(Fault::Write);
        if failed {
            inner.fault = None;
            bytes.truncate(bytes.len() * 2 / 3);
        }
        inner.change(self.file, Change::Write { offset, bytes })?;
        if failed { Err(io::Error::other("the write was made to fail")) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap().max(self.inner()?.files[self.file].seen.len());
        self.inner()?.change(self.file, Change::Len(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner()?.change(self.file, Change::Len(usize::try_from(len).unwrap()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.inner()?.files[self.file].seen.len()).unwrap())
    }
}
