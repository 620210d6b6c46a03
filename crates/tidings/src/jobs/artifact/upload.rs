//! A file on its way into the store.
//!
//! Owns: the part file, its bounds, its durability. Does not know: whose upload it is, and whether it still may.
//! Flow: begin → pieces → finish (durable, without a name) → publish (its name); dropped before that, nothing is left.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use std::{fs, io};

use tidings_core::job::{Artifact, JobId};
use tidings_core::limits;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::room::Reservation;
use super::{ArtifactError, Artifacts};

/// Read and written at once, and so what an upload holds in memory.
const PIECE_BYTES: usize = 64 * 1024;
/// How often the free space of the disk is looked at, in bytes written.
const DISK_CHECK_BYTES: u64 = 16 << 20;

/// A file that is being written, and has no name yet.
#[derive(Debug)]
pub(crate) struct Upload {
    artifacts: Arc<Artifacts>,
    folder: PathBuf,
    name: String,
    declared: Option<u64>,
    size: u64,
    file: File,
    part: Part,
    _slot: OwnedSemaphorePermit,
}

/// A file that is whole and durable, but has no name yet.
#[derive(Debug)]
pub(crate) struct Staged {
    artifacts: Arc<Artifacts>,
    folder: PathBuf,
    name: String,
    size: u64,
    part: Part,
}

impl Artifacts {
    /// Begins to store a file, `declared` bytes long if that is known. What can be refused is refused here.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        job: &JobId,
        name: &str,
        declared: Option<u64>,
    ) -> Result<Upload, ArtifactError> {
        let slot = Arc::clone(&self.uploads).try_acquire_owned().map_err(|_| ArtifactError::Busy)?;
        self.begin_in(slot, job, name, declared).await
    }

    /// The same for a handler of this process, which waits for its turn.
    pub(in crate::jobs) async fn begin_in_turn(
        self: &Arc<Self>,
        job: &JobId,
        name: &str,
    ) -> Result<Upload, ArtifactError> {
        let slot = Arc::clone(&self.uploads).acquire_owned().await.map_err(|_| ArtifactError::Busy)?;
        self.begin_in(slot, job, name, None).await
    }

    async fn begin_in(
        self: &Arc<Self>,
        slot: OwnedSemaphorePermit,
        job: &JobId,
        name: &str,
        declared: Option<u64>,
    ) -> Result<Upload, ArtifactError> {
        if !Artifact::is_name(name) {
            return Err(ArtifactError::Name(name.chars().take(64).collect()));
        }
        let bytes = declared.unwrap_or(0);
        if bytes > self.bounds.file_bytes {
            return Err(ArtifactError::TooLarge { max: self.bounds.file_bytes });
        }
        self.room.counted().await;
        let full = ArtifactError::Full { max: self.bounds.total_bytes };
        let reservation = self.room.reserve(bytes).ok_or(full)?;
        let (artifacts, folder, name) = (Arc::clone(self), self.folder(job), name.to_owned());
        let begun = spawn_blocking(move || {
            fs::create_dir_all(&folder)?;
            artifacts.check_disk(bytes)?;
            let part = Part::new(artifacts.part(&folder), Some(reservation));
            let file = File::from_std(fs::File::create_new(part.path())?);
            Ok(Upload { artifacts, folder, name, declared, size: 0, file, part, _slot: slot })
        });
        // Whoever asked may be gone; then the part goes with what the closure gives back.
        begun.await.map_err(io::Error::other)?
    }
}

impl Upload {
    /// Adds a piece.
    pub(crate) async fn write(&mut self, piece: &[u8]) -> Result<(), ArtifactError> {
        let bounds = self.artifacts.bounds;
        let size = self.size.saturating_add(piece.len() as u64);
        if size > bounds.file_bytes {
            return Err(ArtifactError::TooLarge { max: bounds.file_bytes });
        }
        if !self.part.grow_to(size) {
            return Err(ArtifactError::Full { max: bounds.total_bytes });
        }
        if size / DISK_CHECK_BYTES > self.size / DISK_CHECK_BYTES {
            self.artifacts.check_disk(0)?;
        }
        self.file.write_all(piece).await?;
        self.size = size;
        Ok(())
    }

    /// Adds all that a reader has. With `patience`, it may be silent no longer than that.
    pub(crate) async fn fill(
        &mut self,
        reader: impl AsyncRead + Send,
        patience: Option<Duration>,
    ) -> Result<(), ArtifactError> {
        let mut reader = pin!(reader);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = reader.read(&mut piece);
            let read = match patience {
                None => read.await,
                Some(patience) => tokio::time::timeout(patience, read)
                    .await
                    .map_err(|_| ArtifactError::Stalled(patience.as_secs()))?,
            };
            let count = read.map_err(ArtifactError::Incomplete)?;
            if count == 0 {
                return Ok(());
            }
            self.write(piece.get(..count).unwrap_or_default()).await?;
        }
    }

    /// Makes the file durable. It has no name yet, so that whoever stores it can look whether it still may.
    pub(crate) async fn finish(mut self) -> Result<Staged, ArtifactError> {
        if self.declared.is_some_and(|declared| declared != self.size) {
            return Err(ArtifactError::Incomplete(io::ErrorKind::UnexpectedEof.into()));
        }
        self.file.flush().await?;
        self.file.sync_all().await?;
        let Self { artifacts, folder, name, size, part, .. } = self;
        Ok(Staged { artifacts, folder, name, size, part })
    }
}

impl Staged {
    /// What the job's document says of the file. Without a content type that says something, it is told by the name.
    pub(crate) fn artifact(&self, given: Option<&str>) -> Artifact {
        let content_type = Some(content_type(given, &self.name));
        Artifact { name: self.name.clone(), content_type, size: Some(self.size), url: None }
    }

    /// Gives the file its name, durably; one that had it before is gone, and so are files that the job's document does not
    /// name: those of an earlier attempt, and of a change that a crash cut off. This goes on if nobody waits for it.
    pub(crate) async fn publish(self, named: Vec<String>) -> Result<(), ArtifactError> {
        let published = spawn_blocking(move || {
            let Self { artifacts, folder, name, size, part } = self;
            let target = folder.join(&name);
            let changing = artifacts.changing.lock().unwrap_or_else(PoisonError::into_inner);
            artifacts.remove_artifacts(&folder, |file| file != name && !named.iter().any(|n| n == file))?;
            let replaced = fs::metadata(&target).map_or(0, |old| old.len());
            if let Some(reservation) = part.rename(&target)? {
                reservation.keep(size);
            }
            artifacts.room.give_back(replaced);
            drop(changing);
            Ok(artifacts.sync_folders(&folder)?)
        });
        published.await.map_err(io::Error::other)?
    }
}

/// The file behind an upload, and the room for it. Dropped, both are given back.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    reservation: Option<Reservation>,
    is_named: bool,
}

impl Part {
    pub(super) fn new(path: PathBuf, reservation: Option<Reservation>) -> Self {
        Self { path, reservation, is_named: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn grow_to(&mut self, bytes: u64) -> bool {
        self.reservation.as_mut().is_none_or(|reservation| reservation.grow_to(bytes))
    }

    /// Gives the file its name, and its room to the caller.
    pub(super) fn rename(mut self, target: &Path) -> io::Result<Option<Reservation>> {
        fs::rename(&self.path, target)?;
        self.is_named = true;
        Ok(self.reservation.take())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_named {
            return;
        }
        let (path, reservation) = (std::mem::take(&mut self.path), self.reservation.take());
        let remove = move || {
            // It may never have been made. A part that cannot be removed goes at the next start.
            fs::remove_file(&path).unwrap_or_default();
            drop(reservation);
        };
        // Removing a large file takes the disk a while.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// The media type of a file: as it was given, unless that says nothing or is none; else by the ending of its name.
pub(crate) fn content_type(given: Option<&str>, name: &str) -> String {
    let is_token = |text: &str| {
        let allows = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !text.is_empty() && text.bytes().all(allows)
    };
    let is_said = |kind: &&str| {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let is_type = essence.split_once('/').is_some_and(|(top, sub)| is_token(top) && is_token(sub));
        let is_plain = kind.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        // What HTTP clients send for a body that they were told nothing of.
        let is_default = ["application/octet-stream", "application/x-www-form-urlencoded"]
            .iter()
            .any(|default| essence.eq_ignore_ascii_case(default));
        is_type && is_plain && !is_default && kind.len() <= limits::ARTIFACT_CONTENT_TYPE_BYTES_MAX
    };
    given.filter(is_said).unwrap_or_else(|| by_name(name)).to_owned()
}

fn by_name(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("csv") => "text/csv; charset=utf-8",
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("txt" | "log" | "md") => "text/plain; charset=utf-8",
        Some("xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Some("zip") => "application/zip",
        Some("gz") => "application/gzip",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("svg") => "image/svg+xml",
        Some("mp4") => "video/mp4",
        _ => "application/octet-stream",
    }
}
