//! A disk in memory that fails as disks do.
//!
//! Owns: what is durable and what only seems so, faults on demand, crashes from a seed. Does not know: what is in the
//! files.
//! Flow: the verbs of the seam → the live image · sync → the durable image · crash → what is left of both.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Access, Disk, DiskFile};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    path: PathBuf,
    /// Of the names of its files, in a folder inside the disk.
    prefix: String,
    image: Arc<Mutex<Image>>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written since the last sync.
    dirty: BTreeSet<usize>,
    /// The medium gives nothing back from here on.
    unreadable: Option<usize>,
}

/// A change of the folder that is not durable yet.
#[derive(Debug, Clone)]
struct Change {
    name: String,
    file: Option<usize>,
    /// The name that went with it: a rename is one change.
    renamed: Option<String>,
}

#[derive(Debug, Default)]
struct Image {
    files: Vec<File>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    changes: Vec<Change>,
    capacity: Option<u64>,
    counts: Counts,
    fault: Option<(Fault, u64)>,
    frozen: bool,
    during_sync: Act,
    before_read: Act,
}

/// What somebody else does while a file is used.
#[derive(Clone, Default)]
struct Act(Option<Arc<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Act({})", self.0.is_some())
    }
}

/// How often the disk was asked to do something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Writes, allocations, cuts and changes of names.
    pub writes: u64,
    /// Syncs of files and of the folder.
    pub syncs: u64,
}

/// What is to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The n-th write from now fails, after part of it was done.
    Write(u64),
    /// The n-th sync from now fails.
    Sync(u64),
    /// The power fails in the n-th write from now: it and everything after it fails.
    CutAtWrite(u64),
    /// The power fails in the n-th sync from now.
    CutAtSync(u64),
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self {
            path: PathBuf::from("/sim"),
            prefix: String::new(),
            image: Arc::default(),
            locked: Arc::default(),
        }
    }

    /// Bounds what all files may hold together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.image().capacity = bytes;
    }

    /// What was asked of the disk so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.image().counts
    }

    /// Makes something go wrong, in place of what was to go wrong before.
    pub fn fail(&self, fault: Option<Fault>) {
        self.image().fault = fault.map(|fault| (fault, 0));
    }

    /// Does something in the middle of every sync of a file, which others may use meanwhile.
    pub fn during_sync(&self, act: impl Fn() + Send + Sync + 'static) {
        self.image().during_sync = Act(Some(Arc::new(act)));
    }

    /// Does something before every read of a file.
    pub fn before_read(&self, act: impl Fn() + Send + Sync + 'static) {
        self.image().before_read = Act(Some(Arc::new(act)));
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.image().frozen
    }

    /// The disk as it is found after a power failure now. Without a seed everything that was not synced is lost; with
    /// one, any part of it may be there, sector by sector and name by name.
    #[must_use]
    pub fn after_power_cut(&self, seed: Option<u64>) -> Self {
        let image = self.image();
        let mut random = Random(seed.unwrap_or(0));
        let mut names = image.durable.clone();
        // Names change in order, as a journal replays them.
        let kept = seed.map_or(0, |_| random.below(image.changes.len() + 1));
        for change in image.changes.iter().take(kept) {
            match change.file {
                Some(file) => names.insert(change.name.clone(), file),
                None => names.remove(&change.name),
            };
            if let Some(name) = &change.renamed {
                names.remove(name);
            }
        }
        let mut after = Image { capacity: image.capacity, ..Image::default() };
        for (name, index) in names {
            let Some(file) = image.files.get(index) else { continue };
            let mut bytes = file.durable.clone();
            if seed.is_some() {
                file.lose_part(&mut bytes, &mut random);
            }
            after.live.insert(name.clone(), after.files.len());
            after.files.push(File { live: bytes.clone(), durable: bytes, ..File::default() });
        }
        after.durable = after.live.clone();
        Self { image: Arc::new(Mutex::new(after)), ..Self::new() }
    }

    /// The disk as it is found after the process was killed: all that was written.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let image = self.image();
        let mut after = Image { capacity: image.capacity, ..Image::default() };
        for (name, &index) in &image.live {
            let Some(file) = image.files.get(index) else { continue };
            after.live.insert(name.clone(), after.files.len());
            after.files.push(File {
                dirty: BTreeSet::new(),
                unreadable: None,
                durable: file.live.clone(),
                live: file.live.clone(),
            });
        }
        after.durable = after.live.clone();
        Self { image: Arc::new(Mutex::new(after)), ..Self::new() }
    }

    /// Every file with its bytes.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let image = self.image();
        image.live.iter().filter_map(|(n, &i)| Some((n.clone(), image.files.get(i)?.live.clone()))).collect()
    }

    /// Puts a file there, as somebody who restores a copy would; `None` takes it away.
    pub fn put(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut image = self.image();
        let Some(bytes) = bytes else {
            image.live.remove(name);
            image.durable.remove(name);
            return;
        };
        let index = image.files.len();
        image.files.push(File { live: bytes.clone(), durable: bytes, ..File::default() });
        image.live.insert(name.to_owned(), index);
        image.durable.insert(name.to_owned(), index);
    }

    /// Changes bytes of a file where they lie, also for those who have it open.
    pub fn damage(&self, name: &str, offset: usize, change: impl FnOnce(&mut [u8])) {
        let mut image = self.image();
        let index = image.live.get(name).copied();
        if let Some(file) = index.and_then(|index| image.files.get_mut(index)) {
            if let Some(bytes) = file.live.get_mut(offset..) {
                change(bytes);
            }
            file.durable = file.live.clone();
        }
    }

    /// Makes every read of a file fail from now on.
    pub fn make_unreadable(&self, name: &str) {
        self.make_unreadable_from(name, 0);
    }

    /// Makes every read fail that reaches behind this place of a file.
    pub fn make_unreadable_from(&self, name: &str, offset: usize) {
        let mut image = self.image();
        let index = image.live.get(name).copied();
        if let Some(file) = index.and_then(|index| image.files.get_mut(index)) {
            file.unreadable = Some(offset);
        }
    }

    fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn file(&self, index: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { image: self.image.clone(), index })
    }
}

impl File {
    /// Lets any part of what was not synced reach `bytes`.
    fn lose_part(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        if random.below(2) == 0 {
            bytes.resize(self.live.len(), 0);
        }
        for &sector in &self.dirty {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.live.len()).min(bytes.len());
            if random.below(2) == 0
                && let (Some(to), Some(from)) = (bytes.get_mut(range.clone()), self.live.get(range))
            {
                to.copy_from_slice(from);
            }
        }
    }

    fn resize(&mut self, len: usize) {
        let old = self.live.len();
        self.live.resize(len, 0);
        if len > old {
            self.dirty.extend(old / SECTOR..len.div_ceil(SECTOR));
        }
    }
}

impl Image {
    fn used(&self) -> u64 {
        let bytes = self.live.values().filter_map(|&index| self.files.get(index)).map(|file| file.live.len());
        u64::try_from(bytes.sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// Counts a write. `Err(true)` means that it fails after part of it was done.
    fn write(&mut self) -> Result<(), bool> {
        self.counts.writes += 1;
        self.meet(|fault| match fault {
            Fault::Write(n) => Some((n, false)),
            Fault::CutAtWrite(n) => Some((n, true)),
            _ => None,
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.counts.syncs += 1;
        let met = self.meet(|fault| match fault {
            Fault::Sync(n) => Some((n, false)),
            Fault::CutAtSync(n) => Some((n, true)),
            _ => None,
        });
        met.map_err(|_| broken())
    }

    fn meet(&mut self, kind: impl Fn(Fault) -> Option<(u64, bool)>) -> Result<(), bool> {
        if self.frozen {
            return Err(false);
        }
        let Some((fault, met)) = &mut self.fault else { return Ok(()) };
        let Some((n, cuts)) = kind(*fault) else { return Ok(()) };
        *met += 1;
        if *met < n {
            return Ok(());
        }
        self.fault = None;
        self.frozen = cuts;
        Err(true)
    }

    fn change(&mut self, name: &str, file: Option<usize>) -> io::Result<()> {
        self.write().map_err(|_| broken())?;
        match file {
            Some(file) => self.live.insert(name.to_owned(), file),
            None => self.live.remove(name),
        };
        self.changes.push(Change { name: name.to_owned(), file, renamed: None });
        Ok(())
    }
}

fn broken() -> io::Error {
    io::Error::other("the simulated disk failed")
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full")
}

fn to_usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

impl Disk for SimDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn create_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn folder(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let (path, prefix) = (self.path.join(name), format!("{}{name}/", self.prefix));
        Ok(Arc::new(Self { path, prefix, image: self.image.clone(), locked: Arc::default() }))
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        if self.locked.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        Ok(Some(Box::new(Unlock(self.locked.clone()))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let image = self.image();
        let inside = image.live.keys().filter_map(|name| name.strip_prefix(&self.prefix));
        Ok(inside.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let index = self.image().live.get(&self.within(name)).copied();
        index.map(|index| self.file(index)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut image = self.image();
        let index = image.files.len();
        image.files.push(File::default());
        image.change(&self.within(name), Some(index))?;
        Ok(self.file(index))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (&self.within(from), &self.within(to));
        let mut image = self.image();
        let Some(&index) = image.live.get(from) else { return Err(io::ErrorKind::NotFound.into()) };
        image.change(to, Some(index))?;
        image.live.remove(from);
        if let Some(change) = image.changes.last_mut() {
            change.renamed = Some(from.clone());
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = &self.within(name);
        let mut image = self.image();
        if !image.live.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        image.change(name, None)
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut image = self.image();
        image.sync()?;
        image.durable = image.live.clone();
        image.changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let image = self.image();
        Ok(image.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(image.used())))
    }
}

struct Unlock(Arc<AtomicBool>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct SimFile {
    image: Arc<Mutex<Image>>,
    index: usize,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut Image, usize) -> io::Result<T>) -> io::Result<T> {
        act(&mut self.image.lock().unwrap_or_else(PoisonError::into_inner), self.index)
    }

    fn sync(&self) -> io::Result<()> {
        let during = self.with(|image, _| Ok(image.during_sync.clone()))?;
        if let Act(Some(act)) = during {
            act();
        }
        self.with(|image, index| {
            image.sync()?;
            let file = image.files.get_mut(index).ok_or_else(broken)?;
            file.durable = file.live.clone();
            file.dirty.clear();
            Ok(())
        })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let before = self.with(|image, _| Ok(image.before_read.clone()))?;
        if let Act(Some(act)) = before {
            act();
        }
        self.with(|image, index| {
            let file = image.files.get(index).ok_or_else(broken)?;
            let end = to_usize(offset)?.saturating_add(into.len());
            if file.unreadable.is_some_and(|from| end > from) {
                return Err(broken());
            }
            let rest = file.live.get(to_usize(offset)?..).unwrap_or_default();
            let len = rest.len().min(into.len());
            let (Some(to), Some(from)) = (into.get_mut(..len), rest.get(..len)) else { return Ok(0) };
            to.copy_from_slice(from);
            Ok(len)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|image, index| {
            let met = image.write();
            if met == Err(false) {
                return Err(broken());
            }
            // A write that fails has been done up to some sector.
            let done = if met.is_err() { bytes.len() / 2 / SECTOR * SECTOR } else { bytes.len() };
            let used = image.used();
            let capacity = image.capacity;
            let file = image.files.get_mut(index).ok_or_else(broken)?;
            let (start, end) = (to_usize(offset)?, to_usize(offset)?.saturating_add(done));
            let grows = u64::try_from(end.saturating_sub(file.live.len())).unwrap_or(u64::MAX);
            if capacity.is_some_and(|capacity| used.saturating_add(grows) > capacity) {
                return Err(full());
            }
            if end > file.live.len() {
                file.resize(end);
            }
            if let (Some(to), Some(from)) = (file.live.get_mut(start..end), bytes.get(..done)) {
                to.copy_from_slice(from);
            }
            file.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
            met.map_err(|_| broken())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(|image, index| {
            image.write().map_err(|_| broken())?;
            let used = image.used();
            let capacity = image.capacity;
            let file = image.files.get_mut(index).ok_or_else(broken)?;
            let len = to_usize(len)?.max(file.live.len());
            let grows = u64::try_from(len - file.live.len()).unwrap_or(u64::MAX);
            if capacity.is_some_and(|capacity| used.saturating_add(grows) > capacity) {
                return Err(full());
            }
            file.resize(len);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|image, index| {
            image.write().map_err(|_| broken())?;
            image.files.get_mut(index).ok_or_else(broken)?.resize(to_usize(len)?);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|image, index| {
            let file = image.files.get(index).ok_or_else(broken)?;
            u64::try_from(file.live.len()).map_err(io::Error::other)
        })
    }
}

/// Small and repeatable (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap_or(0) % n.max(1)
    }
}
