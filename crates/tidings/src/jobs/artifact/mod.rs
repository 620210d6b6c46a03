//! Files that jobs make, stored beside the log.
//!
//! Owns: where files are, how large they may be, and that they go with their job. Does not know: jobs' states
//! and leases, HTTP.
//! Flow: an upload → a part file → fsync → *staged* → its name; opened for downloads; removed with its job.

mod room;

mod upload;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use tidings_core::job::JobId;
use tidings_core::limits;
use tokio::fs::File;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use room::Room;
use upload::Part;
pub(crate) use upload::Staged;

/// The file of an input that is too large to travel with events. No artifact's name starts with a dot.
const INPUT: &str = ".input.json";

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// A name with a separator, a control character or a leading dot, empty, or over 250 bytes.
    #[error("{0:?} cannot be the name of a file")]
    Name(String),
    /// Larger than one file may be.
    #[error("the file is larger than {max} bytes")]
    TooLarge {
        /// What is allowed.
        max: u64,
    },
    /// Larger than what is left for all files.
    #[error("the files of all jobs together may have {max} bytes")]
    Full {
        /// What is allowed.
        max: u64,
    },
    /// Too little is left of the disk, whose rest belongs to the log.
    #[error("there is not enough free space on the disk")]
    DiskFull,
    /// Too many uploads at once.
    #[error("{max} files are being stored at once; try again", max = limits::UPLOADS_MAX)]
    Busy,
    /// No byte came for too long.
    #[error("nothing of the file came for {0} s")]
    Stalled(u64),
    /// The file ended early, or its reader failed.
    #[error("the file did not arrive whole")]
    Incomplete(#[source] io::Error),
    /// The medium failed.
    #[error("the file could not be stored")]
    Io(#[source] io::Error),
}

impl ArtifactError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "artifact_name_invalid",
            Self::TooLarge { .. } => "body_too_large",
            Self::Full { .. } | Self::DiskFull => "artifacts_full",
            Self::Busy => "overloaded",
            Self::Stalled(_) | Self::Incomplete(_) => "request_timeout",
            Self::Io(_) => "internal",
        }
    }
}

impl From<io::Error> for ArtifactError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}

/// What files may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// One file.
    pub(crate) file_bytes: u64,
    /// All files.
    pub(crate) total_bytes: u64,
    /// Free space on the disk that is the log's.
    pub(crate) reserve_bytes: u64,
}

/// The folder of all files.
#[derive(Debug)]
pub(crate) struct Artifacts {
    root: PathBuf,
    /// Without a data folder the files go with the hub.
    is_temporary: bool,
    bounds: Bounds,
    room: Arc<Room>,
    uploads: Arc<Semaphore>,
    /// What the names of this run's part files begin with: those of others are leftovers.
    run: String,
    parts: AtomicU64,
    /// Held while files get their names or go, so that what they take is counted once. Never held by async code.
    changing: Mutex<()>,
    /// Folders that are to be removed once it is known what files take.
    later: Mutex<Vec<PathBuf>>,
}

/// A stored file, open for reading.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) file: File,
    pub(crate) bytes: u64,
    /// A strong entity tag, with its quotes.
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
}

impl Artifacts {
    /// The folder beside the log. Until [`Artifacts::count`] has run, uploads wait.
    pub(crate) fn beside(data: Option<&Path>, bounds: Bounds) -> Self {
        let (root, is_temporary) = match data {
            Some(data) => (data.join("artifacts"), false),
            None => {
                let name = format!("tidings-artifacts-{:016x}", crate::clock::random());
                (std::env::temp_dir().join(name), true)
            }
        };
        Self {
            root,
            is_temporary,
            bounds,
            // A new temporary folder is empty.
            room: Arc::new(Room::new(bounds.total_bytes, is_temporary)),
            uploads: Arc::new(Semaphore::new(limits::UPLOADS_MAX)),
            run: format!(".{:016x}-", crate::clock::random()),
            parts: AtomicU64::new(0),
            changing: Mutex::new(()),
            later: Mutex::default(),
        }
    }

    /// Finds out what the files take, and removes what uploads of earlier runs left. Blocks; gives up when told to stop.
    pub(crate) fn count(&self, is_stopped: impl Fn() -> bool) {
        let counted = each_folder(&self.root, |folder| {
            match self.count_folder(folder) {
                Ok(bytes) => self.room.add(bytes),
                Err(error) => tracing::warn!(%error, ?folder, "what files of a job take is not known"),
            }
            Ok(!is_stopped())
        });
        match counted {
            Ok(false) => return,
            Ok(true) => {}
            // What is not known of does not count, rather than that no file can be stored at all.
            Err(error) => tracing::warn!(%error, "what the files of jobs take is not known"),
        }
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in later.drain(..) {
            if let Err(error) = self.remove_folder(&folder) {
                tracing::warn!(%error, "files of a job that was deleted could not be removed");
            }
        }
        self.room.set_counted();
    }

    fn count_folder(&self, folder: &Path) -> io::Result<u64> {
        let mut bytes = 0;
        for file in fs::read_dir(folder)? {
            let file = file?;
            match file.file_name().to_str() {
                Some(INPUT) => {}
                // A part that is being written now is of this run.
                Some(name) if name.starts_with('.') && !name.starts_with(&self.run) => {
                    fs::remove_file(file.path())?;
                }
                Some(name) if name.starts_with('.') => {}
                _ => bytes += file.metadata()?.len(),
            }
        }
        Ok(bytes)
    }

    /// What all files take now, with what is reserved for those on their way.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.room.used()
    }

    /// Opens a file that the job's document names.
    pub(crate) async fn open(&self, job: &JobId, name: &str) -> io::Result<Stored> {
        let file = File::open(self.folder(job).join(name)).await?;
        let metadata = file.metadata().await?;
        // A file is never changed in place: another one has another inode or another time.
        let state = format!("{} {}.{}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
        let (bytes, modified) = (metadata.len(), metadata.modified()?);
        let etag = format!("\"{bytes:x}-{:016x}\"", xxhash_rust::xxh3::xxh3_64(state.as_bytes()));
        Ok(Stored { file, bytes, etag, modified })
    }

    /// Stores the input of a job. It belongs to the job, not to its files, and counts for no limit of theirs.
    pub(super) async fn store_input(self: &Arc<Self>, job: &JobId, input: &str) -> Result<(), ArtifactError> {
        let (artifacts, job, input) = (Arc::clone(self), job.clone(), input.to_owned());
        let stored = spawn_blocking(move || {
            let folder = artifacts.folder(&job);
            fs::create_dir_all(&folder)?;
            let part = Part::new(artifacts.part(&folder), None);
            let mut file = fs::File::create(part.path())?;
            io::Write::write_all(&mut file, input.as_bytes())?;
            file.sync_all()?;
            part.rename(&folder.join(INPUT))?;
            artifacts.sync_folders(&folder)
        });
        Ok(stored.await.map_err(io::Error::other)??)
    }

    /// The input of a job that has a file for it.
    pub(super) async fn input(&self, job: &JobId) -> Result<String, ArtifactError> {
        Ok(tokio::fs::read_to_string(self.folder(job).join(INPUT)).await?)
    }

    /// Removes all files of a job. Until it is known what files take, what they are is only noted, and goes then.
    pub(crate) async fn remove(self: &Arc<Self>, job: &JobId) -> Result<(), ArtifactError> {
        let (artifacts, folder) = (Arc::clone(self), self.folder(job));
        let removed = spawn_blocking(move || {
            // At once: a new job of this id may have an input of its own by then.
            unless(io::ErrorKind::NotFound, fs::remove_file(folder.join(INPUT)))?;
            {
                let mut later = artifacts.later.lock().unwrap_or_else(PoisonError::into_inner);
                if !artifacts.room.is_counted() {
                    later.push(folder);
                    return Ok(());
                }
            }
            artifacts.remove_folder(&folder)
        });
        Ok(removed.await.map_err(io::Error::other)??)
    }

    /// Removes the files of jobs that the log has forgotten. Returns how many jobs they were of.
    pub(crate) fn sweep(&self, is_known: impl Fn(&JobId) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        if !self.room.is_counted() {
            return Ok(0);
        }
        each_folder(&self.root, |folder| {
            let id = folder.file_name().and_then(|name| JobId::parse(name.to_str()?).ok());
            // A file may be stored a moment before its job is: young folders are left alone.
            let is_old = folder.metadata()?.modified()?.elapsed().is_ok_and(|age| age.as_secs() > 3_600);
            if is_old && id.is_some_and(|id| !is_known(&id)) {
                unless(io::ErrorKind::NotFound, fs::remove_file(folder.join(INPUT)))?;
                self.remove_folder(folder)?;
                removed += 1;
            }
            Ok(true)
        })?;
        Ok(removed)
    }

    /// Removes a folder and the files in it, but for those that are on their way. Blocks.
    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_artifacts(folder, |_| true)?;
        match fs::remove_dir(folder).map_err(|error| error.kind()) {
            // What an upload leaves there when it is done, the sweep takes.
            Err(io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) | Ok(()) => Ok(()),
            Err(kind) => Err(kind.into()),
        }
    }

    /// Removes files, and gives back what they took. Whoever calls it holds `changing`. Blocks.
    fn remove_artifacts(&self, folder: &Path, is_unwanted: impl Fn(&str) -> bool) -> io::Result<()> {
        let files = match fs::read_dir(folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for file in files {
            let file = file?;
            let name = file.file_name();
            if name.to_str().is_none_or(|name| !name.starts_with('.') && is_unwanted(name)) {
                let bytes = file.metadata()?.len();
                fs::remove_file(file.path())?;
                self.room.give_back(bytes);
            }
        }
        Ok(())
    }

    fn folder(&self, job: &JobId) -> PathBuf {
        self.root.join(job.as_str())
    }

    /// A name that no other upload has.
    fn part(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}{:x}", self.run, self.parts.fetch_add(1, Ordering::Relaxed)))
    }

    /// A file's name, its folder's name and the root's are durable only with their folders.
    fn sync_folders(&self, folder: &Path) -> io::Result<()> {
        for dir in [Some(folder), Some(self.root.as_path()), self.root.parent()].into_iter().flatten() {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    }

    /// Whether so many bytes more leave the log its reserve.
    fn check_disk(&self, more_bytes: u64) -> Result<(), ArtifactError> {
        if self.is_temporary {
            return Ok(());
        }
        // A disk that cannot say how full it is will say so when it is.
        let Ok(stat) = rustix::fs::statvfs(&self.root) else { return Ok(()) };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.bounds.reserve_bytes.saturating_add(more_bytes) {
            return Err(ArtifactError::DiskFull);
        }
        Ok(())
    }
}

impl Drop for Artifacts {
    fn drop(&mut self) {
        if self.is_temporary {
            // There may be no file, and the system's own cleaning takes what is left.
            fs::remove_dir_all(&self.root).unwrap_or_default();
        }
    }
}

/// Takes one kind of failure for success.
fn unless(kind: io::ErrorKind, result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == kind { Ok(()) } else { Err(error) })
}

/// Visits the folders of jobs, until one says that it is enough. Says whether it got to the end.
fn each_folder(root: &Path, mut visit: impl FnMut(&Path) -> io::Result<bool>) -> io::Result<bool> {
    let folders = match fs::read_dir(root) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    for folder in folders {
        let folder = folder?;
        if folder.file_type()?.is_dir() && !visit(&folder.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
